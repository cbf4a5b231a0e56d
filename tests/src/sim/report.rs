//! What came of a simulated world.

use std::fmt;

use serde::Serialize;
use starling_proto::Time;

use super::scenario::Scenario;
use super::world::{Meter, Node};

/// The figures of DESIGN §7. Ratios are shares of 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Scenario name.
    pub name: String,
    /// Seed.
    pub seed: u64,
    /// Viewers at a time.
    pub viewers: usize,
    /// 1 − (bytes from origin and broadcaster) / (bytes delivered to viewers), joins excluded.
    pub offload: f64,
    /// The most that is possible: one copy enters the swarm.
    pub offload_bound: f64,
    /// Wall clock − capture time at the playhead, seconds, over the segments shown after the warm-up.
    pub lag_p50_seconds: f64,
    /// The same, 95th percentile.
    pub lag_p95_seconds: f64,
    /// Joining to first picture, over all who joined.
    pub startup_p50_seconds: f64,
    /// The same, 95th percentile.
    pub startup_p95_seconds: f64,
    /// Viewers that never saw a picture.
    pub never_started: usize,
    /// Stalls after the warm-up.
    pub stalls: u64,
    /// Stalled seconds / watched seconds after the warm-up.
    pub stalled_ratio: f64,
    /// Control bytes / media bytes delivered.
    pub control_ratio: f64,
    /// Duplicate bytes / media bytes delivered.
    pub duplicate_ratio: f64,
    /// Share of peer bytes that stayed in the receiver's region.
    pub locality: f64,
    /// Announcement to arrival of a chunk, median and 99th percentile, seconds.
    pub diffusion_p50_seconds: f64,
    /// See above.
    pub diffusion_p99_seconds: f64,
    /// The bound D99 of DESIGN §1 for the run's own origin share and uplinks, seconds; absent where σ ≤ 1.
    pub d99_seconds: Option<f64>,
    /// Mean hops from the origin over viewers and substreams.
    pub depth_mean: f64,
    /// Mean depth of the quarter with the largest uplinks, beside that of the quarter with the smallest.
    pub depth_by_uplink: (f64, f64),
    /// Events carried out.
    pub events: u64,
}

impl Report {
    pub(super) fn of(scenario: &Scenario, nodes: &[Node], meter: &Meter, end: Time) -> Self {
        let viewers: Vec<&Node> = nodes.iter().skip(1).collect();
        let warm = Time((scenario.warmup_seconds * 1e6) as u64);
        let lags = viewers.iter().flat_map(|n| &n.player.lags).filter(|(at, _)| *at >= warm).map(|(_, lag)| *lag);
        let lags = sorted(lags.collect());
        let startups = sorted(viewers.iter().filter_map(|n| n.player.startup).collect());
        let stalls: u64 = viewers.iter().map(|n| n.player.stalls.0 - n.stalls_before.0).sum();
        let stalled: f64 = viewers.iter().map(|n| n.player.stalled_seconds(end) - n.stalls_before.1).sum();
        let watched = scenario.viewers as f64 * (end.since(warm)).as_secs_f64();
        let first_hand = (meter.origin_bytes + meter.source_bytes) as f64;
        let delivered = (meter.delivered_bytes as f64).max(1.0);
        let diffusion = sorted(meter.diffusion.clone());
        let duplicates: u64 = viewers.iter().map(|n| n.peer.stats().duplicate_bytes).sum();
        let total: u64 = viewers.iter().map(|n| n.peer.stats().peer_bytes + n.peer.stats().origin_bytes).sum();
        let offload = 1.0 - first_hand / delivered;
        Self {
            name: scenario.name.clone(),
            seed: scenario.seed,
            viewers: scenario.viewers,
            offload,
            offload_bound: 1.0 - 1.0 / scenario.viewers.max(1) as f64,
            lag_p50_seconds: quantile(&lags, 0.5),
            lag_p95_seconds: quantile(&lags, 0.95),
            startup_p50_seconds: quantile(&startups, 0.5),
            startup_p95_seconds: quantile(&startups, 0.95),
            never_started: viewers.iter().filter(|n| n.alive && n.player.startup.is_none()).count(),
            stalls,
            stalled_ratio: stalled / watched.max(1.0),
            control_ratio: meter.control_bytes as f64 / delivered,
            duplicate_ratio: duplicates as f64 / (total as f64).max(1.0),
            locality: meter.near_bytes as f64 / (meter.peer_bytes as f64).max(1.0),
            diffusion_p50_seconds: quantile(&diffusion, 0.5),
            diffusion_p99_seconds: quantile(&diffusion, 0.99),
            d99_seconds: d99(scenario, offload),
            depth_mean: mean(&depths(&viewers, end)),
            depth_by_uplink: depth_by_uplink(&viewers, end),
            events: meter.events,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |x: f64| format!("{:.2} %", x * 100.0);
        writeln!(f, "{} · {} viewers · seed {}", self.name, self.viewers, self.seed)?;
        writeln!(f, "  offload            {} of at most {}", percent(self.offload), percent(self.offload_bound))?;
        writeln!(f, "  lag p50 / p95      {:.2} / {:.2} s", self.lag_p50_seconds, self.lag_p95_seconds)?;
        writeln!(f, "  startup p50 / p95  {:.2} / {:.2} s", self.startup_p50_seconds, self.startup_p95_seconds)?;
        writeln!(f, "  never started      {}", self.never_started)?;
        writeln!(f, "  stalls             {} ({})", self.stalls, percent(self.stalled_ratio))?;
        writeln!(f, "  control overhead   {}", percent(self.control_ratio))?;
        writeln!(f, "  duplicates         {}", percent(self.duplicate_ratio))?;
        writeln!(f, "  locality           {}", percent(self.locality))?;
        let bound = self.d99_seconds.map_or_else(|| "none below σ = 1".into(), |d| format!("D99 {d:.2} s"));
        writeln!(
            f,
            "  diffusion p50/p99  {:.2} / {:.2} s ({bound})",
            self.diffusion_p50_seconds, self.diffusion_p99_seconds
        )?;
        let (high, low) = self.depth_by_uplink;
        writeln!(f, "  depth              {:.2} mean; {high:.2} high uplinks, {low:.2} low", self.depth_mean)?;
        write!(f, "  events             {}", self.events)
    }
}

/// D99 ≈ (τ/σ)·log2(1/s) + depth·delay (DESIGN §1), with a whole segment as τ, since a segment is announced whole.
fn d99(scenario: &Scenario, offload: f64) -> Option<f64> {
    let sigma = scenario.uplink_mean_bps * 0.85 / scenario.bitrate_bps;
    let share = (1.0 - offload).clamp(1e-6, 1.0);
    let tau = scenario.segment_seconds;
    (sigma > 1.0).then(|| tau / sigma * (1.0 / share).log2() + (1.0 / share).log2() * 0.03)
}

fn depths(viewers: &[&Node], end: Time) -> Vec<f64> {
    viewers.iter().filter(|n| n.alive).flat_map(|n| n.peer.depths(end)).filter(|d| *d != 255).map(f64::from).collect()
}

fn depth_by_uplink(viewers: &[&Node], end: Time) -> (f64, f64) {
    let mut by_uplink: Vec<&Node> = viewers.iter().copied().filter(|n| n.alive).collect();
    by_uplink.sort_by(|a, b| b.link.up_bps.total_cmp(&a.link.up_bps));
    let quarter = (by_uplink.len() / 4).max(1).min(by_uplink.len());
    let high = depths(&by_uplink[..quarter], end);
    let low = depths(&by_uplink[by_uplink.len() - quarter..], end);
    (mean(&high), mean(&low))
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = (q * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
