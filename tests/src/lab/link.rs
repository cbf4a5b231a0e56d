//! What a link does to packets: it lets them out at its rate from a bounded queue, and loses some.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use starling_proto::Rng;

/// One direction of a link: a rate, and a queue before it that drops what finds it full (drop-tail).
#[derive(Clone, Copy, Debug)]
pub(super) struct Shaper {
    rate_bps: f64,
    queue_bytes: f64,
    /// When all that was accepted will have left.
    free_at: Duration,
}

/// How packets are lost on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Loss {
    /// None is.
    #[default]
    None,
    /// Each by itself, with this probability.
    Random(f64),
    /// In bursts, by the model of Gilbert and Elliott: a good state without loss, and a bad one.
    Bursts {
        /// Probability that a packet in the good state begins a bad one.
        begin: f64,
        /// Probability that a packet in the bad state ends it; the mean burst is 1 / `end` packets.
        end: f64,
        /// Loss in the bad state.
        loss: f64,
    },
}

/// [`Loss`] at work on one link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lossy {
    pub(super) loss: Loss,
    bad: bool,
}

impl Shaper {
    pub(super) fn new(rate_bps: f64, queue_bytes: usize) -> Self {
        Self { rate_bps: rate_bps.max(1.0), queue_bytes: queue_bytes as f64, free_at: Duration::ZERO }
    }

    /// When a packet that comes now has left; `None`: the queue is full and it is dropped.
    pub(super) fn pass(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let waiting = self.free_at.saturating_sub(now).as_secs_f64() * self.rate_bps / 8.0;
        // What is being sent has left the queue: an idle link takes any packet.
        if waiting > 0.0 && waiting + bytes as f64 > self.queue_bytes {
            return None;
        }
        self.free_at = self.free_at.max(now) + Duration::from_secs_f64(bytes as f64 * 8.0 / self.rate_bps);
        Some(self.free_at)
    }
}

impl Loss {
    /// Checks that every number is a probability.
    pub(super) fn check(self) -> Result<Self, &'static str> {
        let numbers = match self {
            Self::None => vec![],
            Self::Random(loss) => vec![loss],
            Self::Bursts { begin, end, loss } => vec![begin, end, loss],
        };
        let sound = numbers.iter().all(|number| (0.0..=1.0).contains(number));
        if sound { Ok(self) } else { Err("loss is made of probabilities, 0 to 1") }
    }
}

impl Lossy {
    pub(super) fn new(loss: Loss) -> Self {
        Self { loss, bad: false }
    }

    /// Whether the next packet is lost.
    pub(super) fn loses(&mut self, rng: &mut Rng) -> bool {
        match self.loss {
            Loss::None => false,
            Loss::Random(loss) => rng.unit() < loss,
            Loss::Bursts { begin, end, loss } => {
                let lost = self.bad && rng.unit() < loss;
                let turns = if self.bad { end } else { begin };
                self.bad ^= rng.unit() < turns;
                lost
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn packets_leave_one_after_another_and_a_full_queue_drops() {
        // 1,000 bytes take 8 ms; three wait.
        let mut link = Shaper::new(1e6, 3000);
        let left: Vec<_> = (0..5).map(|_| link.pass(ms(0), 1000)).collect();
        assert_eq!(left, [Some(ms(8)), Some(ms(16)), Some(ms(24)), None, None]);
        assert_eq!(link.pass(ms(16), 1000), Some(ms(32)));
        assert_eq!(link.pass(ms(500), 1000), Some(ms(508)));
        assert_eq!(Shaper::new(1e6, 0).pass(ms(1), 1000), Some(ms(9)));
    }

    #[test]
    fn loss_is_as_asked_and_bursts_come_together() {
        let mut rng = Rng::new(7);
        let mut lose = |loss| {
            let mut link = Lossy::new(loss);
            let lost: Vec<bool> = (0..100_000).map(|_| link.loses(&mut rng)).collect();
            let runs = lost.windows(2).filter(|pair| pair[0] && pair[1]).count();
            let all = lost.iter().filter(|lost| **lost).count();
            (all as f64 / 1e5, runs as f64 / all.max(1) as f64)
        };
        let (random, together) = lose(Loss::Random(0.05));
        assert!((0.045..0.055).contains(&random) && together < 0.08, "{random} {together}");
        // Bad for a tenth of the time, ten packets at a time.
        let (bursty, together) = lose(Loss::Bursts { begin: 0.01, end: 0.1, loss: 0.5 });
        assert!((0.035..0.056).contains(&bursty) && together > 0.35, "{bursty} {together}");
        assert_eq!(lose(Loss::None).0, 0.0);
        assert!(Loss::Random(1.5).check().is_err() && Loss::Random(f64::NAN).check().is_err());
    }
}
