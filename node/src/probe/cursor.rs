//! Which segment or part is next: where a player starts in a playlist, what it waits for, and when it has been left behind.

use std::time::Duration;

use super::{
    playlist::{MediaPlaylist, Segment},
    programme::Join,
};

/// A start position this close before a segment begins takes that segment, not the one before: the durations in
/// playlists are rounded. hls.js 1.7: `maxFragLookUpTolerance`.
const LOOK_UP_TOLERANCE: Duration = Duration::from_millis(250);

/// If a playlist that listed parts no longer says how long they are: the shortest rest of a segment worth fetching it for.
/// Half a common part; a guess.
const SHORTEST_REST: Duration = Duration::from_millis(100);
/// The same among parts: only what rounding can add up to, and less than a frame. A guess. (hls.js allows nothing.)
const PART_TOLERANCE: Duration = Duration::from_millis(10);

/// The place in the programme up to which media has been taken.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cursor {
    /// Number of the next segment, or of the one whose parts are being taken.
    sequence: u64,
    /// Number of the next part of that segment.
    part: u64,
    /// How much of that segment has been taken in parts.
    so_far: Duration,
    /// A part of that segment cannot be had: the rest comes from the whole segment.
    whole: bool,
    /// Discontinuity sequence of the media taken last; `None` when the next follows nothing.
    discontinuity: Option<u64>,
    /// Capture time of the next frame, as far as it can be told.
    capture: Option<f64>,
    /// What comes next is to be decoded from its beginning, but shown only after this much.
    lead_in: Duration,
}

/// What a playlist has for us.
#[derive(Debug, PartialEq)]
pub(super) enum View<'a> {
    /// The next segment, or part, is listed.
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
    /// live start is at least one target duration (part target, if played by parts) from the end, and exact: inside a
    /// segment if need be.
    pub(super) fn start(playlist: &MediaPlaylist, start: Option<f64>) -> Option<(Self, Duration)> {
        Some(Self::at(playlist, position(playlist, start.or(playlist.start))?))
    }

    /// Where to go on to be at the hold-back, whatever EXT-X-START says.
    pub(super) fn at_hold_back(playlist: &MediaPlaylist) -> Option<(Self, Duration)> {
        Some(Self::at(playlist, position(playlist, None)?))
    }

    fn at(playlist: &MediaPlaylist, (first, offset): (&Segment, Duration)) -> (Self, Duration) {
        let (sequence, part) = first.place();
        let cursor = Self {
            sequence,
            part,
            so_far: playlist
                .parts_of(sequence)
                .iter()
                .filter(|other| other.place().1 < part)
                .map(|other| other.duration)
                .sum(),
            whole: false,
            discontinuity: None,
            capture: first.capture,
            lead_in: Duration::ZERO,
        };
        (cursor, offset)
    }

    /// Looks for what is next: a part if it is listed, else the segment.
    pub(super) fn look<'a>(&self, playlist: &'a MediaPlaylist) -> View<'a> {
        if let Some(part) = self.listed_part(playlist) {
            return View::Ready(part);
        }
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

    /// Leaves a segment whose parts have all been taken, once it is listed as a whole. Parts that are no longer listed have
    /// been taken if less than half a part is missing.
    pub(super) fn settle(&mut self, playlist: &MediaPlaylist) {
        // the last of all numbers has no next
        let leaves = self.part > 0 && self.sequence < playlist.next_sequence();
        let Some(segment) = playlist.segment(self.sequence).filter(|_| leaves) else {
            return;
        };
        let parts = playlist.parts_of(self.sequence);
        let longest = playlist.low_latency.as_ref().map_or(SHORTEST_REST * 2, |low_latency| low_latency.part_target);
        let rest = segment.duration.saturating_sub(self.so_far);
        let taken = if parts.is_empty() || self.whole { rest <= longest / 2 } else { self.part >= parts.len() as u64 };
        if taken {
            self.next_segment(segment.capture.map(|capture| capture + segment.duration.as_secs_f64()));
        }
    }

    /// How much is listed that has not been taken.
    pub(super) fn ahead(&self, playlist: &MediaPlaylist) -> Duration {
        let whole = playlist.segments.iter().filter(|segment| segment.sequence >= self.sequence && !segment.gap);
        let growing = playlist.parts_of(playlist.next_sequence()).iter();
        let growing = growing.filter(|part| part.place() >= self.place() && !part.gap);
        let length = |segment: &Segment| segment.duration.saturating_sub(self.so_far(segment));
        whole.map(length).sum::<Duration>() + growing.map(|part| part.duration).sum::<Duration>()
    }

    /// Whether a playlist that ends before our place is of a programme that started anew rather than an old copy: then
    /// its end was captured after what we have. `None` if the dates do not tell.
    pub(super) fn started_anew(&self, playlist: &MediaPlaylist) -> Option<bool> {
        let last = playlist.segments.last()?;
        Some(last.capture? + last.duration.as_secs_f64() > self.capture? + 0.1)
    }

    /// Whether `segment`, or part, is the next one.
    pub(super) fn expects(&self, segment: &Segment) -> bool {
        self.sequence == segment.sequence && segment.part.is_none_or(|part| part.index == self.part && !self.whole)
    }

    /// What has been taken of `segment` in parts before it is taken as a whole.
    pub(super) fn so_far(&self, segment: &Segment) -> Duration {
        if segment.part.is_none() && segment.sequence == self.sequence { self.so_far } else { Duration::ZERO }
    }

    /// A part of the present segment cannot be had: the rest of it will be taken from the whole segment.
    pub(super) fn forgo_parts(&mut self) {
        self.whole = true;
    }

    /// What comes next follows nothing: it can be played only if decoding can start with it.
    pub(super) fn follows_nothing(&self) -> bool {
        self.discontinuity.is_none()
    }

    /// How much of what comes next is only decoded, because play goes on inside it.
    pub(super) fn lead_in(&self) -> Duration {
        self.lead_in
    }

    /// The place reached: the number of the segment, and that of the part in it.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.sequence, self.part)
    }

    /// How `segment` joins the one taken last.
    pub(super) fn join(&self, segment: &Segment) -> Join {
        match self.discontinuity {
            None => Join::Starts,
            Some(last) if last == segment.discontinuity => Join::Continues,
            Some(_) => Join::Breaks,
        }
    }

    /// Moves on: `segment`, or part, was taken, or is lost.
    pub(super) fn pass(&mut self, segment: &Segment, taken: bool) {
        let capture = segment.capture.map(|capture| capture + segment.duration.as_secs_f64());
        match segment.part {
            None => {
                self.sequence = segment.sequence;
                self.next_segment(capture);
            }
            Some(part) => {
                self.part = part.index.saturating_add(1);
                self.so_far += segment.duration;
                self.capture = capture;
            }
        }
        self.discontinuity = taken.then_some(segment.discontinuity);
        self.lead_in = Duration::ZERO;
    }

    /// Jumps to where a player that starts now would begin, and says how much of the programme that leaves out: by the
    /// dates, else by the numbers and the target duration. `None` if there is nothing to jump to.
    ///
    /// Among whole segments play goes on with the beginning of one, among parts exactly at the hold-back
    /// ([`Cursor::lead_in`]).
    pub(super) fn rejoin(&mut self, playlist: &MediaPlaylist) -> Option<Duration> {
        let (mut landing, offset) = Self::start(playlist, None)?;
        if playlist.low_latency.is_some() {
            landing.lead_in = offset;
        }
        let by_date = landing.capture.zip(self.capture).map(|(to, from)| (to - from).clamp(0.0, 1e9));
        let by_number = || {
            let missed = landing.sequence.saturating_sub(self.sequence);
            playlist.target.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX))
        };
        let lost = by_date.map_or_else(by_number, Duration::from_secs_f64);
        *self = landing;
        Some(lost)
    }

    fn listed_part<'a>(&self, playlist: &'a MediaPlaylist) -> Option<&'a Segment> {
        let parts = playlist.parts_of(self.sequence);
        parts.get(usize::try_from(self.part).ok()?).filter(|_| !self.whole)
    }

    fn next_segment(&mut self, capture: Option<f64>) {
        self.sequence = self.sequence.saturating_add(1);
        self.part = 0;
        self.so_far = Duration::ZERO;
        self.whole = false;
        self.capture = capture;
    }
}

/// The segment or part to start with, and the offset into it.
fn position(playlist: &MediaPlaylist, start: Option<f64>) -> Option<(&Segment, Duration)> {
    let growing: Duration = playlist.parts_of(playlist.next_sequence()).iter().map(|part| part.duration).sum();
    let length = playlist.length() + growing;
    let from_start = |offset: f64| Duration::try_from_secs_f64(offset).unwrap_or(Duration::MAX).min(length);
    let wanted = match start {
        Some(offset) if offset < 0.0 => length.saturating_sub(from_start(-offset)),
        Some(offset) => from_start(offset),
        None if playlist.ended => Duration::ZERO,
        None => length.saturating_sub(playlist.distance()),
    };
    position_in_parts(playlist, length, wanted).or_else(|| position_in_segments(playlist, wanted))
}

/// The newest part at or before `wanted` with which decoding can start. `length` is that of the whole list.
fn position_in_parts(playlist: &MediaPlaylist, length: Duration, wanted: Duration) -> Option<(&Segment, Duration)> {
    let mut begin = length;
    for part in playlist.parts().iter().rev() {
        begin = begin.saturating_sub(part.duration);
        if begin <= wanted + PART_TOLERANCE && part.is_independent() && !part.gap {
            return Some((part, wanted.saturating_sub(begin)));
        }
    }
    None
}

fn position_in_segments(playlist: &MediaPlaylist, wanted: Duration) -> Option<(&Segment, Duration)> {
    let mut begin = Duration::ZERO;
    let mut tolerance = Duration::ZERO;
    let mut found = None;
    for segment in &playlist.segments {
        if begin > wanted + tolerance {
            break;
        }
        // a gap is passed over, to the beginning of what follows it
        let offset = if segment.gap { Duration::ZERO } else { wanted.saturating_sub(begin) };
        found = Some((segment, offset.min(segment.duration)));
        begin += segment.duration;
        tolerance = LOOK_UP_TOLERANCE.min(segment.duration / 2);
    }
    found
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
