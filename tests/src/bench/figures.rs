//! From counters and players' reports to figures.

use std::ops::Range;

use super::{
    raw_quic::Outcome,
    snapshot::{Change, ViewerChange},
};
use crate::fleet::ProbeReport;

/// Everything one run measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Length of the window, seconds.
    pub window_seconds: f64,
    /// What the counters did in it.
    pub change: Change,
    /// The players at viewers' nodes.
    pub nodes: Side,
    /// The players straight at the origin.
    pub direct: Side,
    /// Per node: from its start until it said it was ready, seconds.
    pub ready_seconds: Vec<f64>,
    /// How many neighbours a viewer has on average.
    pub neighbours: usize,
    /// The bare QUIC transfer.
    pub raw_quic: Outcome,
}

/// The players on one side.
#[derive(Clone, Debug, Default)]
pub struct Side {
    reports: Vec<ProbeReport>,
    lags: Vec<f64>,
}

impl Measured {
    /// Media bytes that reached the players at viewers' nodes, as the relays saw it.
    pub fn delivered(&self) -> u64 {
        self.sum(|viewer| viewer.delivered)
    }

    /// Media bytes the viewers got over HTTP: the larger of what the relay saw and what they say.
    pub fn left_over_http(&self) -> u64 {
        self.change.origin_http.max(self.sum(|viewer| viewer.received.origin))
    }

    /// Media bytes the broadcaster sent over libp2p: the larger of what it says and what the viewers say.
    pub fn left_over_libp2p(&self) -> u64 {
        self.change.broadcaster_libp2p.max(self.sum(|viewer| viewer.received.broadcaster))
    }

    /// 1 − (media bytes that left broadcaster or CDN by any protocol) / (media bytes the players received); percent.
    pub fn offload_percent(&self) -> Option<f64> {
        let left = self.left_over_http() + self.left_over_libp2p();
        ratio(left as f64, self.delivered() as f64).map(|share| (1.0 - share) * 100.0)
    }

    /// By how much the two counts of any one thing differ at worst, percent of what was delivered: HTTP by relay and by
    /// viewers, libp2p by broadcaster and by viewers, and what viewers sent each other by senders and by receivers.
    pub fn counts_differ_percent(&self) -> Option<f64> {
        let pairs = [
            (self.change.origin_http, self.sum(|viewer| viewer.received.origin)),
            (self.change.broadcaster_libp2p, self.sum(|viewer| viewer.received.broadcaster)),
            (self.sum(|viewer| viewer.sent), self.sum(|viewer| viewer.received.viewers())),
        ];
        let worst = pairs.into_iter().map(|(one, other)| one.abs_diff(other)).max()?;
        ratio(worst as f64 * 100.0, self.delivered() as f64)
    }

    /// CPU seconds a viewer spends for each GB (10⁹ bytes) it takes in and passes on, its own player served with it.
    pub fn cpu_per_gigabyte(&self) -> Option<f64> {
        let cpu: f64 = self.change.viewers.iter().map(|viewer| viewer.cpu.as_secs_f64()).sum();
        ratio(cpu * 1e9, self.sum(|viewer| viewer.received.all() + viewer.sent) as f64)
    }

    /// The same for the bare QUIC transfer.
    pub fn raw_quic_cpu_per_gigabyte(&self) -> Option<f64> {
        ratio(self.raw_quic.cpu_seconds * 1e9, (self.raw_quic.received + self.raw_quic.sent) as f64)
    }

    /// Bytes viewers sent each other, as the receivers count.
    pub fn between_viewers(&self) -> u64 {
        self.sum(|viewer| viewer.received.viewers())
    }

    /// Bytes that aren't media, in percent of those that are; both ways.
    pub fn control_percent(&self) -> Option<f64> {
        let media = self.sum(|viewer| viewer.received.all() + viewer.sent);
        ratio(self.sum(|viewer| viewer.control) as f64 * 100.0, media as f64)
    }

    /// The largest of something over all viewers.
    pub fn largest(&self, of: impl Fn(&ViewerChange) -> u64) -> Option<f64> {
        self.change.viewers.iter().map(of).max().map(|largest| largest as f64)
    }

    /// The mean of something over all viewers.
    pub fn mean(&self, of: impl Fn(&ViewerChange) -> u64) -> Option<f64> {
        ratio(self.sum(of) as f64, self.change.viewers.len() as f64)
    }

    /// The sum of something over all viewers.
    pub fn sum(&self, of: impl Fn(&ViewerChange) -> u64) -> u64 {
        self.change.viewers.iter().map(of).sum()
    }

    /// From the start of a node to its player's first picture, seconds, at this percentile.
    pub fn cold_start_seconds(&self, percent: usize) -> Option<f64> {
        let startups = self.nodes.reports.iter().map(|report| report.startup_seconds);
        let both = self.ready_seconds.iter().zip(startups).map(|(ready, startup)| Some(ready + startup?));
        percentile(both.flatten().collect(), percent)
    }
}

impl Side {
    /// What these players measured; lag counts within `window` (seconds since 1970), all else from first to last.
    pub fn new(reports: Vec<ProbeReport>, window: Range<f64>) -> Self {
        let samples = reports.iter().flat_map(|report| &report.samples);
        let lags = samples.filter(|sample| window.contains(&sample.wall)).filter_map(|sample| sample.lag).collect();
        Self { reports, lags }
    }

    /// Lag at the playhead over all players and seconds of the window, at this percentile.
    pub fn lag_seconds(&self, percent: usize) -> Option<f64> {
        percentile(self.lags.clone(), percent)
    }

    /// From a player's first request to its first picture, at this percentile; none if any player showed no picture.
    pub fn startup_seconds(&self, percent: usize) -> Option<f64> {
        let startups: Option<Vec<f64>> = self.reports.iter().map(|report| report.startup_seconds).collect();
        percentile(startups?, percent)
    }

    /// How long all players together played or stood still, seconds.
    pub fn viewer_seconds(&self) -> f64 {
        self.reports.iter().map(|report| report.played_seconds + report.stalls.seconds).sum()
    }

    /// Stalls in a thousand viewer-seconds.
    pub fn stalls_per_thousand(&self) -> Option<f64> {
        let stalls: u64 = self.reports.iter().map(|report| report.stalls.count).sum();
        ratio(stalls as f64 * 1000.0, self.viewer_seconds())
    }

    /// Seconds stalled in a thousand viewer-seconds.
    pub fn stalled_seconds_per_thousand(&self) -> Option<f64> {
        let stalled: f64 = self.reports.iter().map(|report| report.stalls.seconds).sum();
        ratio(stalled * 1000.0, self.viewer_seconds())
    }

    /// Media timestamps that didn't continue.
    pub fn broken_timestamps(&self) -> Option<f64> {
        let broken = |report: &ProbeReport| report.timestamp_errors.gaps + report.timestamp_errors.overlaps;
        (!self.reports.is_empty()).then(|| self.reports.iter().map(broken).sum::<u64>() as f64)
    }

    /// Players that showed no picture or gave up.
    pub fn failed(&self) -> Option<f64> {
        let failed = |report: &&ProbeReport| report.error.is_some() || report.startup_seconds.is_none();
        (!self.reports.is_empty()).then(|| self.reports.iter().filter(failed).count() as f64)
    }
}

/// By nearest rank: a value that was measured.
fn percentile(mut values: Vec<f64>, percent: usize) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::{Sample, http::Received};

    fn viewer(from_viewers: u64, broadcaster: u64, origin: u64, sent: u64) -> ViewerChange {
        let received = Received { peers: from_viewers + broadcaster, origin, broadcaster, same_region: 0 };
        ViewerChange { received, sent, delivered: received.all(), cpu: Duration::from_millis(10), ..Default::default() }
    }

    fn measured() -> Measured {
        let viewers = vec![viewer(0, 600_000, 400_000, 1_000_000), viewer(1_000_000, 0, 0, 0)];
        let change = Change { viewers, origin_http: 390_000, broadcaster_libp2p: 640_000, ..Default::default() };
        Measured { change, ..Default::default() }
    }

    #[test]
    fn offload_believes_the_larger_count() {
        let measured = measured();
        assert_eq!((measured.left_over_http(), measured.left_over_libp2p()), (400_000, 640_000));
        assert!((measured.offload_percent().unwrap() - 48.0).abs() < 1e-9);
        assert!((measured.counts_differ_percent().unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(Measured::default().offload_percent(), None);
    }

    #[test]
    fn cpu_is_per_byte_moved_either_way() {
        let expected = 0.02 / 3_000_000.0 * 1e9;
        assert!((measured().cpu_per_gigabyte().unwrap() - expected).abs() < 1e-9);
    }

    #[test]
    fn lag_is_of_the_window_and_startup_of_everybody() {
        let sample = |wall: u32| Sample { wall: wall.into(), lag: Some(f64::from(wall) / 10.0), ..Sample::default() };
        let report =
            ProbeReport { startup_seconds: Some(0.5), samples: (0..100).map(sample).collect(), ..Default::default() };
        let side = Side::new(vec![report.clone()], 10.0..30.0);
        assert_eq!((side.lag_seconds(50), side.lag_seconds(95)), (Some(1.9), Some(2.8)));
        assert_eq!(side.startup_seconds(95), Some(0.5));
        let without_picture = ProbeReport { startup_seconds: None, ..report.clone() };
        let side = Side::new(vec![report, without_picture], 0.0..1.0);
        assert_eq!((side.startup_seconds(50), side.failed()), (None, Some(1.0)));
    }
}
