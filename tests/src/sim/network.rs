//! Links and paths: delay by region, serial uplink and downlink, loss, NAT.

use std::time::Duration;

use starling_proto::rng::mix;
use starling_proto::{Rng, Time};

use super::scenario::Scenario;

/// One host's access link.
#[derive(Clone, Debug)]
pub struct Link {
    /// Where it is.
    pub region: u8,
    /// What it is behind.
    pub nat: NatClass,
    /// Bits per second towards the network.
    pub up_bps: f64,
    /// Bits per second from it.
    pub down_bps: f64,
    up_free: Time,
    down_free: Time,
}

/// What a host is behind, as far as it makes a difference to hole punching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatClass {
    /// Nothing, or one mapping and no filter by port.
    Open,
    /// One mapping, filtered by port.
    Restricted,
    /// A mapping for each peer.
    Symmetric,
}

/// What lies between hosts.
#[derive(Clone, Debug)]
pub struct Paths {
    regions_per_continent: usize,
    scale: f64,
    loss: f64,
    seed: u64,
}

/// One-way delay within a region: a metro and its surroundings (research notes §1.3: 3–10 ms, access links included).
const NEAR: Duration = Duration::from_millis(10);
/// Between regions of a continent (10–30 ms and access links).
const FAR: Duration = Duration::from_millis(45);
/// Between continents (70–150 ms).
const OCEAN: Duration = Duration::from_millis(90);
/// Jitter, as a share of the delay.
const JITTER: f64 = 0.2;
/// Bytes of a packet: QUIC's usual datagram.
const PACKET: usize = 1200;
/// A receiver may hold its acknowledgement back this long (RFC 9000 §18.2: max_ack_delay 25 ms).
const ACK_DELAY: Duration = Duration::from_millis(25);
/// Hole punching fails for this share of pairs whose NATs allow it (research notes §5: 97.6 % of successes come at once).
const PUNCH_FAILS: f64 = 0.024;

impl Link {
    /// An idle link.
    pub fn new(region: u8, nat: NatClass, up_bps: f64, down_bps: f64) -> Self {
        Self { region, nat, up_bps, down_bps, up_free: Time::ZERO, down_free: Time::ZERO }
    }

    /// When `bytes` sent now will have left: after all that was sent before.
    pub fn send(&mut self, now: Time, bytes: usize) -> Time {
        self.up_free = self.up_free.max(now) + transmission(bytes, self.up_bps);
        self.up_free
    }

    /// When `bytes` whose last bit reaches the access network at `at` will have arrived.
    pub fn receive(&mut self, at: Time, bytes: usize) -> Time {
        let takes = transmission(bytes, self.down_bps);
        self.down_free = self.down_free.max(at.before(takes)) + takes;
        self.down_free.max(at)
    }
}

impl Paths {
    /// The paths of a scenario.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            regions_per_continent: scenario.regions_per_continent.max(1),
            scale: scenario.delay_scale,
            loss: scenario.loss,
            seed: scenario.seed,
        }
    }

    /// Which continent a region lies on.
    pub fn continent(&self, region: u8) -> usize {
        usize::from(region) / self.regions_per_continent
    }

    /// One-way delay of a packet between two regions.
    pub fn delay(&self, a: u8, b: u8, rng: &mut Rng) -> Duration {
        let base = match () {
            () if a == b => NEAR,
            () if self.continent(a) == self.continent(b) => FAR,
            () => OCEAN,
        };
        base.mul_f64((1.0 + JITTER * rng.unit()) * self.scale)
    }

    /// One-way delay of a message until its last packet is there: those lost are sent again when later ones are
    /// acknowledged (one round trip, RFC 9002 §6.1), a single one when its probe time-out is over (§6.2: one and a half
    /// round trips and the acknowledgement's delay, nearly).
    pub fn message(&self, a: u8, b: u8, bytes: usize, rng: &mut Rng) -> Duration {
        let once = self.delay(a, b, rng);
        if self.loss <= 0.0 {
            return once;
        }
        let packets = bytes.div_ceil(PACKET).max(1);
        let again = if packets > 2 { once * 2 } else { once * 3 + ACK_DELAY };
        let mut missing = (0..packets).filter(|_| rng.unit() < self.loss).count();
        let mut took = once;
        while missing > 0 {
            took += again;
            missing = (0..missing).filter(|_| rng.unit() < self.loss).count();
        }
        took
    }

    /// Whether two hosts can connect to one another at all; always the same answer for the same two.
    pub fn reachable(&self, (a, ours): (usize, NatClass), (b, theirs): (usize, NatClass)) -> bool {
        use NatClass::{Open, Restricted, Symmetric};
        match (ours, theirs) {
            (Open, _) | (_, Open) => true,
            (Symmetric, Symmetric | Restricted) | (Restricted, Symmetric) => false,
            (Restricted, Restricted) => {
                let pair = mix(self.seed ^ mix(a.min(b) as u64) ^ mix(!(a.max(b) as u64)));
                (pair >> 11) as f64 / (1u64 << 53) as f64 >= PUNCH_FAILS
            }
        }
    }
}

/// How long `bytes` take at `bps`.
pub fn transmission(bytes: usize, bps: f64) -> Duration {
    Duration::from_secs_f64(bytes as f64 * 8.0 / bps.max(1.0))
}
