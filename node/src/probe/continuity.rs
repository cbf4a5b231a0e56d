//! Do the media timestamps of one segment go on where the last one's ended?
//!
//! Within one discontinuity sequence the start of a segment must be the end of the one before (RFC 8216bis §3), here
//! within [`TOLERANCE`]. The answer also corrects the length of the media for the player, so that rounding and
//! estimated frame durations do not add up to a wrong playhead.

use std::time::Duration;

use super::media::Span;

/// How far timestamps may be off, in nanoseconds: 50 ms, more than a frame at 24 a second, less than a viewer notices.
/// A choice of this project.
const TOLERANCE: u64 = 50_000_000;

/// Timestamps that did not fit.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct TimestampErrors {
    /// Segments that started later than the one before ended.
    pub gaps: u64,
    /// Segments that started earlier than the one before ended.
    pub overlaps: u64,
    /// Segments whose media lasts much longer or shorter than the playlist says; they are played by the playlist.
    pub durations: u64,
    /// The largest gap or overlap, in seconds.
    pub largest_seconds: f64,
    /// Segments whose timestamps could not be read (encrypted, damaged or of another container).
    pub unchecked: u64,
}

/// The running check.
#[derive(Debug, Default)]
pub(super) struct Continuity {
    /// The last segment, if the next must continue it.
    last: Option<Span>,
    errors: TimestampErrors,
}

/// How a segment moves the player's timeline on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Advance {
    /// From the end of the previous segment to the end of this one.
    pub(super) duration: Duration,
    /// How much later (or earlier, if negative) this one starts than the previous one ended, in seconds.
    pub(super) lead: f64,
}

impl Continuity {
    /// What follows belongs to another timeline, or something is missing before it: nothing to compare with.
    pub(super) fn restart(&mut self) {
        self.last = None;
    }

    /// Checks a segment that the playlist says lasts `listed`.
    pub(super) fn accept(&mut self, span: Option<Span>, listed: Duration) -> Advance {
        let as_listed = Advance { duration: listed, lead: 0.0 };
        let Some(span) = span else {
            self.errors.unchecked += 1;
            self.last = None;
            return as_listed;
        };
        let last = self.last.replace(span);
        if span.break_inside.unsigned_abs() > TOLERANCE {
            self.fault(span.break_inside);
        }
        let lead = last.map_or(0, |last| around(span.start - last.end, span.period));
        let fits = lead.unsigned_abs() <= TOLERANCE + last.map_or(0, |last| last.blur);
        if !fits {
            self.fault(lead);
        }
        let lead = if fits { lead } else { 0 };
        let length = span.end - span.start;
        if !plausible(length, listed) {
            self.errors.durations += 1;
            return as_listed;
        }
        Advance {
            duration: Duration::from_nanos(u64::try_from(length + lead).unwrap_or_default()),
            lead: lead as f64 / 1e9,
        }
    }

    /// What was wrong so far.
    pub(super) fn errors(&self) -> &TimestampErrors {
        &self.errors
    }

    fn fault(&mut self, off: i64) {
        if off > 0 {
            self.errors.gaps += 1;
        } else {
            self.errors.overlaps += 1;
        }
        let seconds = off.unsigned_abs() as f64 / 1e9;
        self.errors.largest_seconds = self.errors.largest_seconds.max(seconds);
    }
}

/// The nearer way round a timeline that repeats.
fn around(difference: i64, period: Option<i64>) -> i64 {
    match period {
        Some(period) => (difference + period / 2).rem_euclid(period) - period / 2,
        None => difference,
    }
}

/// EXTINF should be exact (RFC 8216bis §4.4.4.1); half a second or half the segment off cannot be rounding.
fn plausible(length: i64, listed: Duration) -> bool {
    let listed = i64::try_from(listed.as_nanos()).unwrap_or(i64::MAX);
    length >= 0 && (length - listed).abs() <= (listed / 2).max(500_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const TWO: Duration = Duration::from_secs(2);

    fn span(start: i64, end: i64) -> Option<Span> {
        Some(Span { start, end, blur: 0, break_inside: 0, period: None })
    }

    #[test]
    fn accepts_segments_that_meet() {
        let mut continuity = Continuity::default();
        assert_eq!(continuity.accept(span(10 * SECOND, 12 * SECOND), TWO).duration, TWO);
        assert_eq!(continuity.accept(span(12 * SECOND, 14 * SECOND), TWO).duration, TWO);
        assert_eq!(*continuity.errors(), TimestampErrors::default());
    }

    #[test]
    fn small_differences_move_the_timeline_but_are_no_error() {
        let mut continuity = Continuity::default();
        continuity.accept(span(0, 2 * SECOND), TWO);
        let late = continuity.accept(span(2 * SECOND + 40_000_000, 4 * SECOND), TWO);
        assert_eq!(late.duration, TWO, "measured from the end of the one before");
        assert!((late.lead - 0.04).abs() < 1e-9);
        assert_eq!(continuity.errors().gaps, 0);
    }

    #[test]
    fn counts_gaps_and_overlaps_beyond_the_tolerance() {
        let mut continuity = Continuity::default();
        continuity.accept(span(0, 2 * SECOND), TWO);
        continuity.accept(span(2 * SECOND + 51_000_000, 4 * SECOND), TWO);
        continuity.accept(span(3 * SECOND, 5 * SECOND), TWO);
        assert_eq!(continuity.errors().gaps, 1);
        assert_eq!(continuity.errors().overlaps, 1);
        assert_eq!(continuity.errors().largest_seconds, 1.0);
    }

    #[test]
    fn an_estimated_end_is_given_more_room() {
        let mut continuity = Continuity::default();
        let blurred = span(0, 2 * SECOND).map(|span| Span { blur: 160_000_000, ..span });
        continuity.accept(blurred, TWO);
        let advance = continuity.accept(span(2 * SECOND - 150_000_000, 4 * SECOND), TWO);
        assert_eq!(continuity.errors().overlaps, 0);
        assert_eq!(advance.duration, TWO, "what was estimated too long is taken back");
        continuity.accept(span(4 * SECOND - 150_000_000, 6 * SECOND), TWO);
        assert_eq!(continuity.errors().overlaps, 1, "only after a blurred end");
    }

    #[test]
    fn a_restart_is_not_compared() {
        let mut continuity = Continuity::default();
        continuity.accept(span(0, 2 * SECOND), TWO);
        continuity.restart();
        continuity.accept(span(500 * SECOND, 502 * SECOND), TWO);
        assert_eq!(*continuity.errors(), TimestampErrors::default());
    }

    #[test]
    fn an_unreadable_segment_interrupts_the_comparison() {
        let mut continuity = Continuity::default();
        continuity.accept(span(0, 2 * SECOND), TWO);
        assert_eq!(continuity.accept(None, TWO).duration, TWO);
        continuity.accept(span(100 * SECOND, 102 * SECOND), TWO);
        assert_eq!(continuity.errors().unchecked, 1);
        assert_eq!(continuity.errors().gaps, 0);
    }

    #[test]
    fn follows_a_timeline_that_wraps() {
        let wrapping = |start, end| Some(Span { start, end, blur: 0, break_inside: 0, period: Some(100 * SECOND) });
        let mut continuity = Continuity::default();
        continuity.accept(wrapping(97 * SECOND, 99 * SECOND), TWO);
        continuity.accept(wrapping(99 * SECOND, 101 * SECOND), TWO);
        continuity.accept(wrapping(SECOND, 3 * SECOND), TWO);
        assert_eq!(*continuity.errors(), TimestampErrors::default());
    }

    #[test]
    fn sees_holes_inside_a_segment() {
        let mut continuity = Continuity::default();
        let holed = span(0, 2 * SECOND).map(|span| Span { break_inside: SECOND / 2, ..span });
        continuity.accept(holed, TWO);
        assert_eq!(continuity.errors().gaps, 1);
    }

    #[test]
    fn plays_by_the_playlist_when_the_media_claims_a_wild_duration() {
        let mut continuity = Continuity::default();
        let advance = continuity.accept(span(0, 36_000 * SECOND), TWO);
        assert_eq!(advance.duration, TWO);
        assert_eq!(continuity.errors().durations, 1);
    }
}
