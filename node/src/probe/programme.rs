//! The programme as far as its playlists have told it, and our place in it.

use std::time::Duration;

use super::{
    cursor::{Cursor, View},
    playlist::{MediaPlaylist, Segment},
};

/// The last playlist loaded and the place reached in it.
#[derive(Debug, Default)]
pub(super) struct Programme {
    playlist: Option<MediaPlaylist>,
    cursor: Option<Cursor>,
    /// Segments from this number on were added while we watched.
    new_from: u64,
    /// Since when loaded playlists have ended before our place.
    ahead_since: Option<Duration>,
}

/// What a loaded playlist changed.
#[derive(Debug, PartialEq)]
pub(super) enum Update {
    /// Nothing, or segments were added and removed.
    Continues,
    /// There are segments for the first time: play begins this far into the first one.
    Begins { offset: Duration },
    /// The server numbers its segments anew; between our place and the new one so much of the programme is missing.
    Restarts { lost: Duration },
    /// It was an old copy and is not used.
    Outdated,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Fetch this segment.
    Fetch(Segment),
    /// A segment that is declared absent was passed over.
    Gap(Duration),
    /// We fell out of the live window and moved on to where a new viewer would join, over so much lost media.
    Skip(Duration),
    /// Nothing until the playlist is loaded again.
    Wait,
    /// There is nothing more to fetch.
    Complete,
}

/// How a segment joins the one played before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Join {
    /// On the same media timeline.
    Continues,
    /// After a marked discontinuity.
    Breaks,
    /// After nothing, or after something lost.
    Starts,
}

impl Programme {
    /// Takes a playlist that was loaded at `now`. `start` is the EXT-X-START of the multivariant playlist.
    pub(super) fn update(&mut self, now: Duration, playlist: MediaPlaylist, start: Option<f64>) -> Update {
        let update = match &mut self.cursor {
            None => match Cursor::start(&playlist, start) {
                Some((cursor, offset)) => {
                    self.cursor = Some(cursor);
                    self.new_from = playlist.next_sequence();
                    Update::Begins { offset }
                }
                None => Update::Continues,
            },
            Some(cursor) if cursor.look(&playlist) == View::Ahead => {
                let since = *self.ahead_since.get_or_insert(now);
                // without dates, an old copy that stays is a new numbering
                let stays = now.saturating_sub(since) >= playlist.target * 3;
                if !cursor.started_anew(&playlist).unwrap_or(stays) {
                    return Update::Outdated;
                }
                let Some(lost) = cursor.rejoin(&playlist) else {
                    return Update::Outdated;
                };
                self.new_from = playlist.next_sequence();
                Update::Restarts { lost }
            }
            Some(_) => Update::Continues,
        };
        self.ahead_since = None;
        self.playlist = Some(playlist);
        update
    }

    /// Whether `playlist` differs from the one loaded before in what a player sees of it.
    pub(super) fn is_changed_by(&self, playlist: &MediaPlaylist) -> bool {
        let extent = |list: &MediaPlaylist| (list.first, list.next_sequence(), list.ended);
        self.playlist.as_ref().map(extent) != Some(extent(playlist))
    }

    /// Takes the next step.
    pub(super) fn next(&mut self) -> Next {
        let (Some(playlist), Some(cursor)) = (&self.playlist, &mut self.cursor) else {
            return match &self.playlist {
                Some(playlist) if playlist.ended => Next::Complete,
                Some(_) | None => Next::Wait,
            };
        };
        match cursor.look(playlist) {
            View::Ready(segment) if segment.gap => {
                cursor.pass(segment, false);
                Next::Gap(segment.duration)
            }
            View::Ready(segment) => Next::Fetch(segment.clone()),
            View::Behind => cursor.rejoin(playlist).map_or(Next::Wait, Next::Skip),
            View::Complete => Next::Complete,
            View::Ahead | View::Wait => Next::Wait,
        }
    }

    /// `segment` has arrived: moves on, and says how it joins. `None` if it is not the one expected (any more).
    pub(super) fn arrived(&mut self, segment: &Segment) -> Option<Join> {
        let cursor = self.cursor.as_mut().filter(|cursor| cursor.expects(segment))?;
        let join = cursor.join(segment);
        cursor.pass(segment, true);
        Some(join)
    }

    /// `segment` cannot be had: moves on without it. Returns whether it was the one expected.
    pub(super) fn lost(&mut self, segment: &Segment) -> bool {
        let cursor = self.cursor.as_mut().filter(|cursor| cursor.expects(segment));
        cursor.map(|cursor| cursor.pass(segment, false)).is_some()
    }

    /// Whether `segment` was added to the playlist while we watched.
    pub(super) fn is_new(&self, segment: &Segment) -> bool {
        segment.sequence >= self.new_from
    }

    /// No playlist with the list of segments has been loaded yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.playlist.is_none()
    }

    /// The target duration of the playlist.
    pub(super) fn target(&self) -> Option<Duration> {
        self.playlist.as_ref().map(|playlist| playlist.target)
    }
}

#[cfg(test)]
#[path = "programme_tests.rs"]
mod tests;
