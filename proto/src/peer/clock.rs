//! The broadcaster's clock, as far as we can tell.

use std::time::Duration;

use crate::time::{Now, Time, WallTime, micros};

/// Learned from neighbours' hellos as NTP does: their clock plus half the round trip. From then on it runs by the monotonic
/// clock, so that somebody who sets the local wall clock changes nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamClock {
    /// What it read when it was learned; `None`: it is the local wall clock.
    read: Option<WallTime>,
    error_us: u32,
    learned: Time,
}

/// What a clock that nobody corrected may be wrong by: an hour.
const UNKNOWN_ERROR_US: u32 = 3_600_000_000;
/// Error grows by this much a second since it was learned: 50 ppm, a poor quartz.
const DRIFT_US_PER_S: u64 = 50;

impl StreamClock {
    /// The broadcaster's own.
    pub(crate) fn exact() -> Self {
        Self { read: None, error_us: 0, learned: Time::NEVER }
    }

    /// A viewer's at start: its own wall clock, probably right.
    pub(crate) fn assumed() -> Self {
        Self { read: None, error_us: UNKNOWN_ERROR_US, learned: Time::ZERO }
    }

    pub(crate) fn now(&self, now: Now) -> WallTime {
        self.read.map_or(now.wall, |read| read + now.mono.since(self.learned))
    }

    pub(crate) fn error_us(&self, now: Time) -> u32 {
        let drift = now.since(self.learned).as_secs().saturating_mul(DRIFT_US_PER_S);
        self.error_us.saturating_add(u32::try_from(drift).unwrap_or(u32::MAX))
    }

    /// Somebody's clock read `theirs` within the last `round_trip`; believed if it is better than what we have.
    pub(crate) fn learn(&mut self, now: Now, theirs: WallTime, their_error_us: u32, round_trip: Duration) {
        let half = micros(round_trip / 2);
        let error_us = u32::try_from(half).unwrap_or(u32::MAX).saturating_add(their_error_us);
        if error_us < self.error_us(now.mono) {
            let theirs_now = theirs.shifted(i64::try_from(half).unwrap_or(0));
            *self = Self { read: Some(theirs_now), error_us, learned: now.mono };
        }
    }
}
