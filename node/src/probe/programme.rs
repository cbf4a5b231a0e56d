//! The programme as far as its playlists have told it, and our place in it.

use std::time::Duration;

use super::{
    cursor::{Cursor, View},
    playlist::{LowLatency, MediaPlaylist, Segment},
};

/// The last playlist loaded and the place reached in it.
#[derive(Debug, Default)]
pub(super) struct Programme {
    playlist: Option<MediaPlaylist>,
    cursor: Option<Cursor>,
    /// Segments and parts from this place on were added while we watched.
    new_from: (u64, u64),
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
    /// Fetch this segment or part.
    Fetch(Segment),
    /// A segment or part that is declared absent was passed over.
    Gap(Duration),
    /// A part was passed over because what it builds on is missing.
    Undecodable(Duration),
    /// We fell out of the live window and moved on to where a new viewer would join, over so much lost media.
    Skip(Duration),
    /// Nothing until the playlist is loaded again.
    Wait,
    /// There is nothing more to fetch.
    Complete,
}

/// How far play moves on to be nearer to the end of the programme.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Jump {
    /// Media left out.
    pub(super) skipped: Duration,
    /// How far the playhead moves: through what is buffered, and from there into what comes next.
    pub(super) by: Duration,
    /// What comes next does not continue what came before.
    pub(super) breaks: bool,
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
                    self.new_from = playlist.end();
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
                self.new_from = playlist.end();
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
        let extent = |list: &MediaPlaylist| (list.first, list.end(), list.ended);
        self.playlist.as_ref().map(extent) != Some(extent(playlist))
    }

    /// Whether `playlist` goes further than the one loaded before. An old copy does not.
    pub(super) fn is_advanced_by(&self, playlist: &MediaPlaylist) -> bool {
        self.playlist.as_ref().is_none_or(|known| playlist.end() > known.end())
    }

    /// Takes the next step.
    pub(super) fn next(&mut self) -> Next {
        let (Some(playlist), Some(cursor)) = (&self.playlist, &mut self.cursor) else {
            return match &self.playlist {
                Some(playlist) if playlist.ended => Next::Complete,
                Some(_) | None => Next::Wait,
            };
        };
        cursor.settle(playlist);
        match cursor.look(playlist) {
            View::Ready(segment) if segment.gap => {
                let length = segment.duration.saturating_sub(cursor.so_far(segment));
                cursor.pass(segment, false);
                Next::Gap(length)
            }
            View::Ready(part) if cursor.follows_nothing() && !part.is_independent() => {
                cursor.pass(part, false);
                Next::Undecodable(part.duration)
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

    /// What has been taken of `segment` in parts already.
    pub(super) fn so_far(&self, segment: &Segment) -> Duration {
        self.cursor.as_ref().map_or(Duration::ZERO, |cursor| cursor.so_far(segment))
    }

    /// A part cannot be had: the rest of its segment will come from the whole. Returns whether it was the one expected.
    pub(super) fn forgo_parts(&mut self, part: &Segment) -> bool {
        let cursor = self.cursor.as_mut().filter(|cursor| cursor.expects(part));
        cursor.map(Cursor::forgo_parts).is_some()
    }

    /// After [`Next::Skip`] and [`Update::Restarts`]: how much of what comes next is only decoded.
    pub(super) fn lead_in(&self) -> Duration {
        self.cursor.as_ref().map_or(Duration::ZERO, Cursor::lead_in)
    }

    /// The part that will be listed next, to be asked for before it is (EXT-X-PRELOAD-HINT).
    pub(super) fn hint(&self) -> Option<&Segment> {
        let (playlist, cursor) = (self.playlist.as_ref()?, self.cursor.as_ref()?);
        let hint = playlist.low_latency.as_ref()?.hint.as_ref().filter(|_| !playlist.ended)?;
        let playable = hint.is_independent() || !cursor.follows_nothing();
        (cursor.expects(hint) && cursor.look(playlist) == View::Wait && playable).then_some(hint)
    }

    /// If the playhead, with `buffered` ahead of it, is more than `farthest` from the end of the list: moves on to the
    /// hold-back.
    pub(super) fn jump(&mut self, buffered: Duration, farthest: Duration) -> Option<Jump> {
        let (playlist, cursor) = (self.playlist.as_ref()?, self.cursor.as_mut()?);
        let distance = buffered + cursor.ahead(playlist);
        let skipped = distance.checked_sub(playlist.distance())?;
        if distance <= farthest || skipped.is_zero() || playlist.ended {
            return None;
        }
        let (landing, offset) = Cursor::at_hold_back(playlist)?;
        if landing.place() <= cursor.place() {
            return Some(Jump { skipped, by: skipped, breaks: false });
        }
        *cursor = landing;
        Some(Jump { skipped, by: buffered + offset, breaks: true })
    }

    /// What the low-latency tags of the playlist say, if it is played by them.
    pub(super) fn low_latency(&self) -> Option<&LowLatency> {
        self.playlist.as_ref()?.low_latency.as_deref()
    }

    /// The last playlist loaded.
    pub(super) fn playlist(&self) -> Option<&MediaPlaylist> {
        self.playlist.as_ref()
    }

    /// Whether `segment`, or part, was added to the playlist while we watched.
    pub(super) fn is_new(&self, segment: &Segment) -> bool {
        segment.place() >= self.new_from
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

#[cfg(test)]
#[path = "programme_parts_tests.rs"]
mod parts_tests;
