//! The wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use starling_proto::WallTime;

/// Now, by this machine's wall clock; the epoch itself for a clock set before 1970.
pub fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
