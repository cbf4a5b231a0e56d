//! Time is data: the machines never read a clock, the shells hand them a [`Now`].
//!
//! Deadlines use monotonic [`Time`]; lag uses [`WallTime`], because it compares with the
//! broadcaster's capture clock. Keeping them apart means a jump of the wall clock can spoil a
//! displayed number, never a timer.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the local monotonic clock, in microseconds since the process (or simulation) began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The beginning.
    pub const ZERO: Self = Self(0);
    /// Later than anything: the deadline of a machine that waits for nothing.
    pub const NEVER: Self = Self(u64::MAX);

    /// How long ago `earlier` was; zero if it lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// `self - d`, not before the beginning.
    pub fn before(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(micros(d)))
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(micros(d)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("never");
        }
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Microseconds since the Unix epoch, by somebody's wall clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct WallTime(pub i64);

impl WallTime {
    /// `self − earlier` in seconds; negative if `earlier` is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }

    /// `self` moved by `us` microseconds either way.
    pub fn shifted(self, us: i64) -> Self {
        Self(self.0.saturating_add(us))
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        self.shifted(i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
    }
}

impl Sub<Duration> for WallTime {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        self.shifted(-i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Both clocks, read together by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines.
    pub mono: Time,
    /// For lag and for signed statements that carry a date.
    pub wall: WallTime,
}

/// Whole microseconds of `d`, saturating.
pub fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
