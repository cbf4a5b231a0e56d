//! When a request may be made again.

use std::time::Duration;

/// hls.js 1.7: `errorRetry.retryDelayMs` and `maxRetryDelayMs` of its load policies.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(8);

/// The pace of one kind of request. Failures space requests out, twice as far each time.
#[derive(Debug, Default)]
pub(super) struct Pace {
    at: Duration,
    failures: u32,
}

impl Pace {
    /// The last request succeeded; the next may be made at `next`.
    pub(super) fn succeeded(&mut self, next: Duration) {
        self.at = next;
        self.failures = 0;
    }

    /// The last request failed at `now`. The delay stays within a target duration, so that a live player is back soon
    /// after its server is (hls.js would give up instead).
    pub(super) fn failed(&mut self, now: Duration, target: Duration) {
        let longest = target.clamp(FIRST_DELAY, LONGEST_DELAY);
        let doubled = FIRST_DELAY.saturating_mul(1 << self.failures.min(8));
        self.at = now + doubled.min(longest);
        self.failures = self.failures.saturating_add(1);
    }

    /// How many requests failed since one succeeded.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn at(&self) -> Duration {
        self.at
    }

    pub(super) fn due(&self, now: Duration) -> bool {
        now >= self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(target: u64) -> Vec<u64> {
        let mut pace = Pace::default();
        (0..6)
            .map(|_| {
                pace.failed(Duration::ZERO, Duration::from_secs(target));
                pace.at().as_secs()
            })
            .collect()
    }

    #[test]
    fn doubles_up_to_the_target_duration() {
        assert_eq!(delays(6), [1, 2, 4, 6, 6, 6]);
        assert_eq!(delays(60), [1, 2, 4, 8, 8, 8]);
        assert_eq!(delays(0), [1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn success_forgets_the_failures() {
        let mut pace = Pace::default();
        assert!(pace.due(Duration::ZERO));
        pace.failed(Duration::from_secs(3), Duration::from_secs(9));
        pace.failed(Duration::from_secs(3), Duration::from_secs(9));
        assert!(!pace.due(Duration::from_secs(4)));
        pace.succeeded(Duration::from_secs(4));
        assert!(pace.due(Duration::from_secs(4)));
        assert_eq!(pace.failures(), 0);
    }
}
