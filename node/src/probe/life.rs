//! Is the server still there? It is taken for dead when requests have brought nothing usable for too long.

use std::time::Duration;

/// When something was asked and nothing came.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Since when something has been asked without anything coming.
    asking_since: Option<Duration>,
    media_bytes: u64,
    last_error: Option<String>,
}

impl Life {
    /// A request is made.
    pub(super) fn asks(&mut self, now: Duration) {
        self.asking_since.get_or_insert(now);
    }

    /// So many bytes of media have been received in all: media that comes slowly is a sign of life too.
    pub(super) fn received(&mut self, now: Duration, media_bytes: u64) {
        if media_bytes != self.media_bytes {
            self.media_bytes = media_bytes;
            self.asking_since = self.asking_since.map(|_| now);
        }
    }

    /// A request brought what it should.
    pub(super) fn answered(&mut self) {
        self.asking_since = None;
        self.last_error = None;
    }

    /// A request failed. Returns whether it is the first since one succeeded.
    pub(super) fn failed(&mut self, error: String) -> bool {
        self.last_error.replace(error).is_none()
    }

    /// Why the server is taken for dead, if it is after `patience`.
    pub(super) fn dead(&self, now: Duration, patience: Duration) -> Option<String> {
        let silent = now.saturating_sub(self.asking_since?);
        (silent >= patience).then(|| {
            let last = self.last_error.as_deref().unwrap_or("no answer");
            format!("gave up after {} s without anything usable: {last}", patience.as_secs_f64())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn dead(life: &Life, seconds: u64) -> bool {
        life.dead(Duration::from_secs(seconds), PATIENCE).is_some()
    }

    #[test]
    fn patience_counts_from_the_first_request_without_an_answer() {
        let mut life = Life::default();
        assert!(!dead(&life, 1000), "nothing was asked");
        life.asks(Duration::from_secs(100));
        life.asks(Duration::from_secs(120));
        assert!(!dead(&life, 129));
        assert!(dead(&life, 130));
        life.answered();
        assert!(!dead(&life, 1000));
    }

    #[test]
    fn slow_media_is_a_sign_of_life() {
        let mut life = Life::default();
        life.asks(Duration::ZERO);
        life.received(Duration::from_secs(29), 1);
        assert!(!dead(&life, 58));
        life.received(Duration::from_secs(58), 1);
        assert!(dead(&life, 59), "no byte came since");
    }

    #[test]
    fn says_what_went_wrong_last() {
        let mut life = Life::default();
        life.asks(Duration::ZERO);
        assert!(life.failed("first".into()));
        assert!(!life.failed("second".into()));
        let reason = life.dead(PATIENCE, PATIENCE).expect("it is dead");
        assert_eq!(reason, "gave up after 30 s without anything usable: second");
    }
}
