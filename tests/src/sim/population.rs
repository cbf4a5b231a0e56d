//! Who comes, with what uplink, when, and for how long.

use std::time::Duration;

use starling_proto::{Rng, Time};

use super::network::NatClass;
use super::scenario::Scenario;

/// One viewer to be.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Uplink, bits per second.
    pub up_bps: f64,
    /// Whether it passes anything on.
    pub uploads: bool,
    /// Whether it sends other bytes than it received.
    pub pollutes: bool,
    /// What it is behind.
    pub nat: NatClass,
}

/// Draws viewers.
#[derive(Clone, Debug)]
pub struct Population {
    scenario: Scenario,
    /// Uplinks are drawn with mean one and multiplied by this.
    mean_bps: f64,
}

/// Share of the uplink the machine is allowed (`Config::uplink_share`).
pub const UPLINK_SHARE: f64 = 0.85;
/// Nobody has less, bits per second.
const UPLINK_MIN_BPS: f64 = 200_000.0;
/// Viewers who look in and leave: share, median stay in seconds, σ of its logarithm (research notes §7).
const ZAPPERS: (f64, f64, f64) = (0.35, 45.0, 1.2);
/// The broadcast has begun when the first viewer comes, seconds.
const BEGIN: f64 = 5.0;

impl Population {
    /// The viewers of a scenario, and the draws of the first of them.
    pub fn new(scenario: &Scenario, rng: &mut Rng) -> (Self, Vec<Draw>) {
        let mut population = Self { scenario: scenario.clone(), mean_bps: 1.0 };
        let mut draws: Vec<Draw> = (0..scenario.viewers).map(|_| population.draw(rng)).collect();
        population.mean_bps = match scenario.sigma {
            Some(sigma) => population.scale(sigma, &draws),
            None => scenario.uplink_mean_bps,
        };
        for draw in &mut draws {
            draw.up_bps = (draw.up_bps * population.mean_bps).max(UPLINK_MIN_BPS);
        }
        (population, draws)
    }

    /// By what to multiply the draws, so that their admitted mean is σ × rate; the floor included, hence by bisection.
    fn scale(&self, sigma: f64, draws: &[Draw]) -> f64 {
        let wanted = sigma * self.scenario.bitrate_bps * draws.len() as f64 / UPLINK_SHARE;
        let sum = |scale: f64| draws.iter().map(|d| (d.up_bps * scale).max(UPLINK_MIN_BPS)).sum::<f64>();
        let (mut low, mut high) = (0.0, 1e12);
        for _ in 0..100 {
            let middle = (low + high) / 2.0;
            if sum(middle) < wanted { low = middle } else { high = middle }
        }
        high
    }

    /// A viewer that comes later.
    pub fn newcomer(&self, rng: &mut Rng) -> Draw {
        let draw = self.draw(rng);
        Draw { up_bps: (draw.up_bps * self.mean_bps).max(UPLINK_MIN_BPS), ..draw }
    }

    fn draw(&self, rng: &mut Rng) -> Draw {
        let scenario = &self.scenario;
        let sigma = scenario.uplink_sigma;
        let up_bps = (sigma * rng.normal() - sigma * sigma / 2.0).exp();
        let kind = rng.unit();
        let nat = match rng.unit() {
            x if x < scenario.nat.symmetric => NatClass::Symmetric,
            x if x < scenario.nat.symmetric + scenario.nat.restricted => NatClass::Restricted,
            _ => NatClass::Open,
        };
        let uploads = kind >= scenario.free_riders;
        Draw { up_bps, uploads, pollutes: uploads && kind < scenario.free_riders + scenario.polluters, nat }
    }

    /// When viewer number `i` of the first ones comes.
    pub fn arrival(&self, i: usize, rng: &mut Rng) -> Time {
        let scenario = &self.scenario;
        let early = scenario.flash.map_or(1.0, |flash| 1.0 / flash.factor) * scenario.viewers as f64;
        let at = match scenario.flash {
            Some(flash) if i as f64 >= early => {
                // Logistic, cut where 1 % is left at either side.
                let u = 0.01 + 0.98 * rng.unit();
                let steepness = 2.0 * 99f64.ln() / flash.within;
                flash.at + flash.within / 2.0 + (u / (1.0 - u)).ln() / steepness
            }
            Some(_) | None => BEGIN + scenario.join_seconds * i as f64 / early.max(1.0),
        };
        Time((at * 1e6) as u64)
    }

    /// How long a viewer stays; `None`: to the end. One of the first is met in the middle of its stay.
    pub fn stay(&self, first: bool, rng: &mut Rng) -> Option<Duration> {
        let rate = self.scenario.churn_per_minute / 60.0;
        if rate <= 0.0 {
            return None;
        }
        let (share, median, sigma) = ZAPPERS;
        let zapping = (median * (sigma * sigma / 2.0f64).exp()).min(0.9 / rate);
        let staying = ((1.0 / rate - share * zapping) / (1.0 - share)).max(1.0);
        // Longer stays are met more often: by their length, and at a moment evenly drawn from it.
        let met = share * zapping * rate;
        let zaps = rng.unit() < if first { met } else { share };
        let seconds = match (zaps, first) {
            (true, false) => median * (sigma * rng.normal()).exp(),
            (true, true) => median * (sigma * sigma + sigma * rng.normal()).exp() * rng.unit(),
            (false, _) => rng.exponential(staying),
        };
        Some(Duration::from_secs_f64(seconds.clamp(1.0, 1e6)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resource_index_is_as_asked_for() {
        for sigma in [0.8, 1.65, 3.0] {
            let scenario = Scenario { sigma: Some(sigma), viewers: 500, ..Scenario::default() };
            let (_, draws) = Population::new(&scenario, &mut Rng::new(4));
            let admitted: f64 = draws.iter().map(|d| d.up_bps * UPLINK_SHARE).sum();
            let is = admitted / 500.0 / scenario.bitrate_bps;
            assert!((is - sigma).abs() < 0.001, "asked for {sigma}, drew {is}");
        }
    }

    #[test]
    fn as_many_leave_a_minute_as_asked_for() {
        for churn in [0.15, 0.30] {
            let scenario = Scenario { churn_per_minute: churn, ..Scenario::default() };
            let (population, _) = Population::new(&scenario, &mut Rng::new(4));
            let mut rng = Rng::new(5);
            // Of those met in the middle of their stay, as many end within a minute as newcomers would replace.
            let stays = |first: bool, rng: &mut Rng| -> Vec<f64> {
                let draw = |_| population.stay(first, rng).map_or(f64::MAX, |stay| stay.as_secs_f64());
                (0..50_000).map(draw).collect()
            };
            let mean = stays(false, &mut rng).iter().sum::<f64>() / 50_000.0;
            assert!((60.0 / mean / churn - 1.0).abs() < 0.1, "newcomers leave at {} a minute", 60.0 / mean);
            let gone = stays(true, &mut rng).iter().filter(|s| **s < 20.0).count() as f64 / 50_000.0 * 3.0;
            assert!((gone / churn - 1.0).abs() < 0.15, "the first leave at {gone} a minute");
        }
    }
}
