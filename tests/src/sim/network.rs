//! Links: delay by region, serial uplink and downlink.

use starling_proto::{Rng, Time};
use std::time::Duration;

/// One host's access link.
#[derive(Clone, Debug)]
pub struct Link {
    /// Where it is.
    pub region: u8,
    /// Bits per second towards the network.
    pub up_bps: f64,
    /// Bits per second from it.
    pub down_bps: f64,
    up_free: Time,
    down_free: Time,
}

/// One-way delay within a region: a metro and its surroundings (research notes §1.3: 3–10 ms).
const NEAR: Duration = Duration::from_millis(10);
/// One-way delay between regions: a continent.
const FAR: Duration = Duration::from_millis(45);
/// Jitter, as a share of the delay.
const JITTER: f64 = 0.2;

impl Link {
    /// An idle link.
    pub fn new(region: u8, up_bps: f64, down_bps: f64) -> Self {
        Self { region, up_bps, down_bps, up_free: Time::ZERO, down_free: Time::ZERO }
    }

    /// When `bytes` sent now will have left: after all that was sent before.
    pub fn send(&mut self, now: Time, bytes: usize) -> Time {
        self.up_free = self.up_free.max(now) + transmission(bytes, self.up_bps);
        self.up_free
    }

    /// When `bytes` whose last bit reaches the access network at `at` will have arrived.
    pub fn receive(&mut self, at: Time, bytes: usize) -> Time {
        self.down_free =
            self.down_free.max(at.before(transmission(bytes, self.down_bps))) + transmission(bytes, self.down_bps);
        self.down_free.max(at)
    }
}

/// How long `bytes` take at `bps`.
pub fn transmission(bytes: usize, bps: f64) -> Duration {
    Duration::from_secs_f64(bytes as f64 * 8.0 / bps.max(1.0))
}

/// One-way delay between two regions.
pub fn delay(a: u8, b: u8, rng: &mut Rng) -> Duration {
    let base = if a == b { NEAR } else { FAR };
    base.mul_f64(1.0 + JITTER * rng.unit())
}
