//! The wall clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use starling_proto::WallTime;

/// Now, by this machine's wall clock; the epoch itself for a clock set before 1970.
pub fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The one that only runs.
    pub mono: Instant,
    /// The one that people set.
    pub wall: WallTime,
}

/// Reads this machine's clocks.
pub fn read() -> Reading {
    Reading { mono: Instant::now(), wall: wall_now() }
}
