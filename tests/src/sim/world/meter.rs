//! What is counted while the world runs.

use super::super::tally::Histogram;
use super::*;

/// Counts since the warm-up, beside the machines' own.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Meter {
    pub(in super::super) warm: bool,
    /// Media bytes from the origin over HTTP, and from the broadcaster's node.
    pub(in super::super) origin_bytes: u64,
    pub(in super::super) source_bytes: u64,
    /// Chunks that were new to a viewer.
    pub(in super::super) delivered_bytes: u64,
    /// Chunks that were not.
    pub(in super::super) duplicate_bytes: u64,
    /// Chunks that weren't genuine.
    pub(in super::super) bad_bytes: u64,
    /// Of what came from viewers: all, and what came from the same region.
    pub(in super::super) peer_bytes: u64,
    pub(in super::super) near_bytes: u64,
    pub(in super::super) control_bytes: u64,
    /// Announcement to arrival, seconds.
    pub(in super::super) diffusion: Histogram,
    /// Age of the picture at the beginning of each segment shown.
    pub(in super::super) lag: Histogram,
    /// One-way delays of chunks: sum in seconds, and how many.
    pub(in super::super) delays: (f64, u64),
    /// Viewers present: seconds of all together.
    pub(in super::super) viewer_seconds: f64,
    pub(in super::super) intervals: Vec<Interval>,
    pub(in super::super) events: u64,
    present: usize,
    present_since: Time,
    now: Interval,
}

/// Five seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Interval {
    /// First-hand bytes for viewers who came a while ago.
    pub(in super::super) settled_bytes: u64,
    /// First-hand bytes for those who just came.
    pub(in super::super) joiner_bytes: u64,
    /// Viewers present: seconds of all together.
    pub(in super::super) viewer_seconds: f64,
}

/// Length of an interval.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// A viewer is a joiner for so long: the hold-back of its player and the time to find parents.
const JOINER: Duration = Duration::from_secs(10);

impl Meter {
    pub(super) fn control(&mut self, bytes: usize) {
        self.control_bytes += if self.warm { bytes as u64 } else { 0 };
    }

    pub(super) fn shows(&mut self, lag: f64) {
        if self.warm {
            self.lag.add(lag);
        }
    }

    /// `len` bytes came first-hand to somebody who joined then.
    pub(super) fn first_hand(&mut self, len: u32, now: Time, joined: Time) {
        match now.since(joined) < JOINER {
            true => self.now.joiner_bytes += u64::from(len),
            false => self.now.settled_bytes += u64::from(len),
        }
    }

    /// One more viewer, or one fewer.
    pub(super) fn count_alive(&mut self, now: Time, change: isize) {
        let seconds = self.present as f64 * now.since(self.present_since).as_secs_f64();
        self.now.viewer_seconds += seconds;
        self.viewer_seconds += if self.warm { seconds } else { 0.0 };
        self.present = self.present.saturating_add_signed(change);
        self.present_since = now;
    }

    pub(super) fn end_interval(&mut self, now: Time) {
        self.count_alive(now, 0);
        let interval = std::mem::take(&mut self.now);
        if self.warm {
            self.intervals.push(interval);
        }
    }

    pub(super) fn present(&self) -> usize {
        self.present
    }
}

impl World {
    pub(super) fn warm_up(&mut self) {
        self.meter.end_interval(self.now);
        self.meter.warm = true;
        let now = self.now;
        for node in &mut self.nodes {
            node.stalls_before = (node.player.stalls.0, node.player.stalled_seconds(now));
        }
        self.push(self.now + INTERVAL, SOURCE, Event::Sample);
    }

    pub(super) fn sample(&mut self) {
        self.meter.end_interval(self.now);
        self.push(self.now + INTERVAL, SOURCE, Event::Sample);
    }
}
