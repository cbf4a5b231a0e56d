//! What is simulated.

use serde::{Deserialize, Serialize};

/// One world. Everything random in it is drawn from `seed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// For the report.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// Viewers.
    pub viewers: usize,
    /// Simulated seconds.
    pub seconds: u64,
    /// Viewers join evenly spread over this many seconds.
    pub join_seconds: f64,
    /// Measuring begins after this many seconds: joins are excluded.
    pub warmup_seconds: f64,
    /// Stream rate, bits per second.
    pub bitrate_bps: f64,
    /// Segment duration, seconds.
    pub segment_seconds: f64,
    /// Regions viewers are spread over; two regions are far from one another.
    pub regions: usize,
    /// All delays are multiplied by this; 0.1 is about what processes on one machine see of one another.
    pub delay_scale: f64,
    /// Mean uplink, bits per second.
    pub uplink_mean_bps: f64,
    /// σ of the logarithm of the uplink; 0: all alike. Residential links: about 0.8–1.0 (research notes §1.2).
    pub uplink_sigma: f64,
    /// Share of viewers that leave (half of them without a word) and are replaced, per minute.
    pub churn_per_minute: f64,
    /// Whether the broadcaster's node serves chunks; otherwise first copies come from the origin.
    pub serves: bool,
    /// When the hint server dies, seconds; absent: never.
    pub hints_die_at: Option<f64>,
    /// Loss of a whole request or answer (a connection's time-out), probability.
    pub loss: f64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "steady".into(),
            seed: 1,
            viewers: 1000,
            seconds: 90,
            join_seconds: 20.0,
            warmup_seconds: 40.0,
            bitrate_bps: 1_100_000.0,
            segment_seconds: 2.0,
            regions: 3,
            delay_scale: 1.0,
            uplink_mean_bps: 12_000_000.0,
            uplink_sigma: 0.8,
            churn_per_minute: 0.0,
            serves: true,
            hints_die_at: None,
            loss: 0.0,
        }
    }
}
