//! Which segment is next: where a player starts in a playlist, what it waits for, and when it has been left behind.

use std::time::Duration;

use super::{
    playlist::{MediaPlaylist, Segment},
    programme::Join,
};

/// A start position this close before a segment begins takes that segment, not the one before: the durations in
/// playlists are rounded. hls.js 1.7: `maxFragLookUpTolerance`.
const LOOK_UP_TOLERANCE: Duration = Duration::from_millis(250);

/// The place in the programme up to which segments have been taken.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cursor {
    /// Number of the next segment.
    sequence: u64,
    /// Discontinuity sequence of the segment taken last; `None` when the next one follows nothing.
    discontinuity: Option<u64>,
    /// Capture time of the next segment's first frame, as far as it can be told.
    capture: Option<f64>,
}

/// What a playlist has for us.
#[derive(Debug, PartialEq)]
pub(super) enum View<'a> {
    /// The next segment is listed.
    Ready(&'a Segment),
    /// It is not listed yet.
    Wait,
    /// It will never be: the programme is over.
    Complete,
    /// It was removed: we fell out of the live window.
    Behind,
    /// The playlist ends before the place we are at: an old copy, or the server started anew.
    Ahead,
}

impl Cursor {
    /// Where to start, and how far into that segment. `None` if there is no segment yet.
    ///
    /// EXT-X-START (`start`, else the playlist's own) decides, as in RFC 8216bis §4.4.2.2; then the end of a live
    /// playlist less its hold-back (§6.3.3); a playlist that has ended is played from its beginning. As hls.js does, a
    /// live start is at least one target duration from the end, and exact: inside a segment if need be.
    pub(super) fn start(playlist: &MediaPlaylist, start: Option<f64>) -> Option<(Self, Duration)> {
        let (index, offset) = position(playlist, start.or(playlist.start))?;
        let segment = playlist.segments.get(index)?;
        let cursor = Self { sequence: segment.sequence, discontinuity: None, capture: segment.capture };
        Some((cursor, offset))
    }

    /// Looks for the next segment.
    pub(super) fn look<'a>(&self, playlist: &'a MediaPlaylist) -> View<'a> {
        let listed = playlist.next_sequence();
        if self.sequence > listed {
            return View::Ahead;
        }
        if self.sequence == listed {
            return if playlist.ended { View::Complete } else { View::Wait };
        }
        let first = playlist.segments.first().map_or(listed, |segment| segment.sequence);
        let index = self.sequence.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        match index.and_then(|index| playlist.segments.get(index)) {
            Some(segment) => View::Ready(segment),
            None => View::Behind,
        }
    }

    /// Whether a playlist that ends before our place is of a programme that started anew rather than an old copy: then
    /// its end was captured after what we have. `None` if the dates do not tell.
    pub(super) fn started_anew(&self, playlist: &MediaPlaylist) -> Option<bool> {
        let last = playlist.segments.last()?;
        Some(last.capture? + last.duration.as_secs_f64() > self.capture? + 0.1)
    }

    /// Whether `segment` is the next one.
    pub(super) fn expects(&self, segment: &Segment) -> bool {
        self.sequence == segment.sequence
    }

    /// How `segment` joins the one taken last.
    pub(super) fn join(&self, segment: &Segment) -> Join {
        match self.discontinuity {
            None => Join::Starts,
            Some(last) if last == segment.discontinuity => Join::Continues,
            Some(_) => Join::Breaks,
        }
    }

    /// Moves on: `segment` was taken, or is lost.
    pub(super) fn pass(&mut self, segment: &Segment, taken: bool) {
        self.sequence = segment.sequence.saturating_add(1);
        self.discontinuity = taken.then_some(segment.discontinuity);
        self.capture = segment.capture.map(|capture| capture + segment.duration.as_secs_f64());
    }

    /// Jumps to where a player that starts now would begin, and says how much of the programme that leaves out: by the
    /// dates, else by the numbers and the target duration. `None` if there is nothing to jump to.
    pub(super) fn rejoin(&mut self, playlist: &MediaPlaylist) -> Option<Duration> {
        let (landing, _) = Self::start(playlist, None)?;
        let by_date = landing.capture.zip(self.capture).map(|(to, from)| (to - from).clamp(0.0, 1e9));
        let by_number = || {
            let missed = landing.sequence.saturating_sub(self.sequence);
            playlist.target.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX))
        };
        let lost = by_date.map_or_else(by_number, Duration::from_secs_f64);
        *self = landing;
        Some(lost)
    }
}

/// Index of the segment to start with, and the offset into it.
fn position(playlist: &MediaPlaylist, start: Option<f64>) -> Option<(usize, Duration)> {
    let length = playlist.length();
    let from_start = |offset: f64| Duration::try_from_secs_f64(offset).unwrap_or(Duration::MAX).min(length);
    let wanted = match start {
        Some(offset) if offset < 0.0 => length.saturating_sub(from_start(-offset)),
        Some(offset) => from_start(offset),
        None if playlist.ended => Duration::ZERO,
        None => length.saturating_sub(playlist.hold_back.max(playlist.target)),
    };
    let mut begin = Duration::ZERO;
    let mut tolerance = Duration::ZERO;
    let mut found = None;
    for (index, segment) in playlist.segments.iter().enumerate() {
        if begin > wanted + tolerance {
            break;
        }
        // a gap is passed over, to the beginning of what follows it
        let offset = if segment.gap { Duration::ZERO } else { wanted.saturating_sub(begin) };
        found = Some((index, offset.min(segment.duration)));
        begin += segment.duration;
        tolerance = LOOK_UP_TOLERANCE.min(segment.duration / 2);
    }
    found
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
