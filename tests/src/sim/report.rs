//! What came of a simulated world.

use serde::Serialize;
use starling_proto::Time;

use super::population::UPLINK_SHARE;
use super::scenario::Scenario;
use super::tally::{Histogram, jain};
use super::world::{CHUNK_SECONDS, Interval, Meter, Node};

/// The figures of DESIGN §7, since the warm-up. Ratios are shares of 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Scenario name.
    pub name: String,
    /// Seed.
    pub seed: u64,
    /// Viewers at a time.
    pub viewers: usize,
    /// 1 − (bytes from origin and broadcaster) / (bytes delivered to viewers).
    pub offload: f64,
    /// The most that is possible: min(1 − 1/N, σ) (research notes §1.1).
    pub offload_bound: f64,
    /// Mean admitted uplink / stream rate over the viewers present at the end, those who don't upload included.
    pub sigma: f64,
    /// Wall clock − capture time at the playhead, seconds, at the beginning of each segment shown.
    pub lag_p50_seconds: f64,
    /// The same, 95th percentile.
    pub lag_p95_seconds: f64,
    /// The same, 99th percentile.
    pub lag_p99_seconds: f64,
    /// Joining to first picture, over those who joined after the warm-up; over all if none did.
    pub startup_p50_seconds: f64,
    /// The same, 95th percentile.
    pub startup_p95_seconds: f64,
    /// Viewers that saw no picture within ten seconds of joining. They count as a start-up of two minutes.
    pub never_started: usize,
    /// Stalls.
    pub stalls: u64,
    /// Stalled seconds / watched seconds.
    pub stalled_ratio: f64,
    /// (Control + duplicate + bad bytes) / media bytes delivered.
    pub overhead_ratio: f64,
    /// Control bytes / media bytes delivered.
    pub control_ratio: f64,
    /// Duplicate bytes / media bytes delivered.
    pub duplicate_ratio: f64,
    /// Bytes that weren't what the broadcaster signed / media bytes delivered.
    pub bad_ratio: f64,
    /// Share of peer bytes that stayed in the receiver's region.
    pub locality: f64,
    /// Jain's index of bytes sent, over the viewers that upload and were there from the warm-up to the end.
    pub upload_jain: f64,
    /// Announcement to arrival of a chunk, median and 99th percentile, seconds.
    pub diffusion_p50_seconds: f64,
    /// See above.
    pub diffusion_p99_seconds: f64,
    /// The bound of DESIGN §1, (τ/σ)·log2(1/s) + depth·delay, for the run's own origin share s, σ, mean depth and mean
    /// delay, with a chunk as τ; absent where σ ≤ 1.
    pub d99_seconds: Option<f64>,
    /// The same and the time a mean uplink takes for the rest of a segment, (T − τ)/σ: a segment is announced whole, so
    /// its last chunk can't be sent on before the others were.
    pub d99_burst_seconds: Option<f64>,
    /// Mean hops from the origin over viewers and substreams.
    pub depth_mean: f64,
    /// Mean depth of the quarter with the largest uplinks, beside that of the quarter with the smallest.
    pub depth_by_uplink: (f64, f64),
    /// Largest share of the demand within five seconds that came first-hand, joiners' first ten seconds apart.
    pub origin_peak_ratio: f64,
    /// Share of the demand that was first-hand bytes for joiners, in the five seconds where it was largest.
    pub joiner_peak_ratio: f64,
    /// Events carried out.
    pub events: u64,
}

/// Who has no picture after this never started.
const STARTUP_MAX_SECONDS: f64 = 10.0;
/// What a start-up that never was counts as: the end of the scale.
const NEVER_SECONDS: f64 = 120.0;

impl Report {
    pub(super) fn of(scenario: &Scenario, nodes: &[Node], meter: &Meter, end: Time) -> Self {
        let viewers: Vec<&Node> = nodes.iter().skip(1).collect();
        let present: Vec<&Node> = viewers.iter().copied().filter(|n| n.alive).collect();
        let (startups, never_started) = startups(scenario, &viewers, end);
        let stalled: f64 = viewers.iter().map(|n| n.player.stalled_seconds(end) - n.stalls_before.1).sum();
        let delivered = (meter.delivered_bytes as f64).max(1.0);
        let offload = 1.0 - (meter.origin_bytes + meter.source_bytes) as f64 / delivered;
        let sigma = sigma(scenario, &present);
        let depth_mean = mean(&depths(&present, end));
        let delay = meter.delays.0 / meter.delays.1.max(1) as f64;
        let d99 = d99(sigma, 1.0 - offload, depth_mean * delay);
        let ratio = |bytes: u64| bytes as f64 / delivered;
        let peak = |pick: fn(&Interval) -> u64| peak(scenario, &meter.intervals, pick);
        Self {
            name: scenario.name.clone(),
            seed: scenario.seed,
            viewers: scenario.viewers,
            offload,
            offload_bound: sigma.min(1.0 - 1.0 / present.len().max(1) as f64),
            sigma,
            lag_p50_seconds: meter.lag.quantile(0.5),
            lag_p95_seconds: meter.lag.quantile(0.95),
            lag_p99_seconds: meter.lag.quantile(0.99),
            startup_p50_seconds: startups.quantile(0.5),
            startup_p95_seconds: startups.quantile(0.95),
            never_started,
            stalls: viewers.iter().map(|n| n.player.stalls.0 - n.stalls_before.0).sum(),
            stalled_ratio: stalled / meter.viewer_seconds.max(1.0),
            overhead_ratio: ratio(meter.control_bytes + meter.duplicate_bytes + meter.bad_bytes),
            control_ratio: ratio(meter.control_bytes),
            duplicate_ratio: ratio(meter.duplicate_bytes),
            bad_ratio: ratio(meter.bad_bytes),
            locality: meter.near_bytes as f64 / (meter.peer_bytes as f64).max(1.0),
            upload_jain: jain(&uploads(scenario, &present)),
            diffusion_p50_seconds: meter.diffusion.quantile(0.5),
            diffusion_p99_seconds: meter.diffusion.quantile(0.99),
            d99_seconds: d99,
            d99_burst_seconds: d99
                .filter(|_| !scenario.low_latency)
                .map(|d| d + (scenario.segment_seconds - CHUNK_SECONDS).max(0.0) / sigma),
            depth_mean,
            depth_by_uplink: depth_by_uplink(&present, end),
            origin_peak_ratio: peak(|i| i.settled_bytes),
            joiner_peak_ratio: peak(|i| i.joiner_bytes),
            events: meter.events,
        }
    }
}

fn startups(scenario: &Scenario, viewers: &[&Node], end: Time) -> (Histogram, usize) {
    let joined = |n: &Node| n.player.joined.0 as f64 / 1e6;
    let late: Vec<&Node> = viewers.iter().copied().filter(|n| joined(n) >= scenario.warmup_seconds).collect();
    let counted: &[&Node] = if late.is_empty() { viewers } else { &late };
    let (mut startups, mut never) = (Histogram::default(), 0);
    for node in counted.iter().filter(|n| n.player.joined != Time::ZERO) {
        let waited = end.since(node.player.joined).as_secs_f64();
        match node.player.startup {
            Some(seconds) => startups.add(seconds),
            None if node.alive && waited > STARTUP_MAX_SECONDS => {
                never += 1;
                startups.add(NEVER_SECONDS);
            }
            None => {}
        }
    }
    (startups, never)
}

fn sigma(scenario: &Scenario, present: &[&Node]) -> f64 {
    let admitted: f64 = present.iter().filter(|n| n.uploads).map(|n| n.link.up_bps * UPLINK_SHARE).sum();
    admitted / present.len().max(1) as f64 / scenario.bitrate_bps
}

fn d99(sigma: f64, origin_share: f64, travel: f64) -> Option<f64> {
    let share = origin_share.clamp(1e-6, 1.0);
    (sigma > 1.0).then(|| CHUNK_SECONDS / sigma * (1.0 / share).log2() + travel)
}

fn uploads(scenario: &Scenario, present: &[&Node]) -> Vec<f64> {
    let warm = Time((scenario.warmup_seconds * 1e6) as u64);
    present.iter().filter(|n| n.uploads && n.player.joined < warm).map(|n| n.sent_bytes as f64).collect()
}

fn peak(scenario: &Scenario, intervals: &[Interval], pick: fn(&Interval) -> u64) -> f64 {
    let demand = |i: &Interval| i.viewer_seconds * scenario.bitrate_bps / 8.0;
    intervals.iter().map(|i| pick(i) as f64 / demand(i).max(1.0)).fold(0.0, f64::max)
}

fn depths(viewers: &[&Node], end: Time) -> Vec<f64> {
    viewers.iter().flat_map(|n| n.peer.depths(end)).filter(|d| *d != 255).map(f64::from).collect()
}

fn depth_by_uplink(present: &[&Node], end: Time) -> (f64, f64) {
    let mut by_uplink: Vec<&Node> = present.to_vec();
    by_uplink.sort_by(|a, b| b.link.up_bps.total_cmp(&a.link.up_bps));
    let quarter = (by_uplink.len() / 4).max(1).min(by_uplink.len());
    let high = depths(&by_uplink[..quarter], end);
    let low = depths(&by_uplink[by_uplink.len() - quarter..], end);
    (mean(&high), mean(&low))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
