//! What a player went through, told from its requests alone: when its picture began, and when it ran dry.
//!
//! The model: playing begins when the first segment is complete and goes on in real time; every complete segment adds
//! its duration to the buffer. If the buffer runs out while a segment that was asked for is under way, that is a
//! stall, until the segment is complete. If it runs out while nothing is asked for, the player was paused or closed,
//! which is its own affair, and the next segment is a new beginning.
//!
//! It is an estimate. A player that shows parts of a segment is better off than it says, one that waits for a fuller
//! buffer before it goes on is worse off, and a segment that should have been announced but wasn't isn't missed here.

use std::collections::VecDeque;
use std::time::Duration;

use starling_proto::Time;

use crate::stats::Stalls;

/// What players went through, for [`crate::stats::Stats`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Playback {
    /// Of all players so far.
    pub stalls: Stalls,
    /// From the first request of the first player to its first complete segment, seconds; `None` before that.
    pub startup_seconds: Option<f64>,
}

/// The model of one player.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    opened: Option<Time>,
    startup: Option<Duration>,
    /// When the buffer runs out, or ran out; `None` while the player isn't playing.
    dry: Option<Time>,
    /// The wait since `dry` belongs to a stall that was counted already.
    counted: bool,
    /// Positions asked for and not yet complete.
    owed: VecDeque<u64>,
    /// Newest positions that are complete.
    complete: VecDeque<u64>,
    stalls: u64,
    stalled: Duration,
}

/// Shorter waits aren't counted: what a player decodes between "complete" and "shown" hides them. A guess.
const NOTICEABLE: Duration = Duration::from_millis(100);

/// A player that has run dry and still wants to play asks again within this time. A guess: hls.js retries after 1 s,
/// and playlists are loaded again every target duration.
const RETRIES_WITHIN: Duration = Duration::from_secs(3);

/// Positions remembered: far more than a player asks for at once or a second time.
const REMEMBERED: usize = 32;

impl Observer {
    /// The player made its first request, of whatever kind. Later calls change nothing.
    pub fn opened(&mut self, now: Time) {
        self.opened.get_or_insert(now);
    }

    /// The player begins anew: it was reloaded, or went elsewhere in the stream.
    pub fn restarted(&mut self, now: Time) {
        self.book(now);
        self.stop();
        self.owed.clear();
        self.complete.clear();
    }

    /// The player asked for the segment at `position`.
    pub fn requested(&mut self, now: Time, position: u64) {
        self.opened(now);
        if self.owed.is_empty() && self.dry.is_some_and(|dry| dry + RETRIES_WITHIN < now) {
            self.stop();
        }
        if !self.owed.contains(&position) && !self.complete.contains(&position) {
            remember(&mut self.owed, position);
        }
    }

    /// All bytes of the segment at `position`, which plays for `duration`, were handed to the player.
    pub fn completed(&mut self, now: Time, position: u64, duration: Duration) {
        if self.complete.contains(&position) {
            return;
        }
        self.book(now);
        self.counted = false;
        self.owed.retain(|owed| *owed != position);
        remember(&mut self.complete, position);
        if let (None, Some(opened)) = (self.startup, self.opened) {
            self.startup = Some(now.since(opened));
        }
        self.dry = Some(self.dry.map_or(now, |dry| dry.max(now)) + duration);
    }

    /// The transfer of the segment at `position` ended early, by either side.
    pub fn abandoned(&mut self, now: Time, position: u64) {
        self.book(now);
        self.owed.retain(|owed| *owed != position);
    }

    /// Stalls so far, with the one that is going on.
    pub fn stalls(&self, now: Time) -> Stalls {
        let mut ended = self.clone();
        ended.book(now);
        Stalls { count: ended.stalls, seconds: ended.stalled.as_secs_f64() }
    }

    /// How long the player waited for its first complete segment.
    pub fn startup(&self) -> Option<Duration> {
        self.startup
    }

    /// Adds the wait that ends now, if it is one.
    fn book(&mut self, now: Time) {
        let Some(dry) = self.dry.filter(|dry| *dry < now && !self.owed.is_empty()) else { return };
        let waited = now.since(dry);
        if waited > NOTICEABLE || self.counted {
            self.stalls += u64::from(!self.counted);
            self.stalled += waited;
            self.counted = true;
            self.dry = Some(now);
        }
    }

    fn stop(&mut self) {
        self.dry = None;
        self.counted = false;
    }
}

fn remember(positions: &mut VecDeque<u64>, position: u64) {
    if positions.len() == REMEMBERED {
        positions.pop_front();
    }
    positions.push_back(position);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Duration = Duration::from_secs(2);

    fn at(seconds: f64) -> Time {
        Time((seconds * 1e6) as u64)
    }

    /// Opened at 0, segments 1 and 2 complete at 1 s: it plays until 5 s.
    fn playing() -> Observer {
        let mut observer = Observer::default();
        observer.opened(at(0.0));
        for position in [1, 2] {
            observer.requested(at(0.5), position);
            observer.completed(at(1.0), position, TWO);
        }
        observer
    }

    fn stalls(observer: &Observer, now: f64) -> (u64, f64) {
        let stalls = observer.stalls(at(now));
        (stalls.count, stalls.seconds)
    }

    #[test]
    fn startup_lasts_from_the_first_request_to_the_first_complete_segment() {
        let mut observer = Observer::default();
        observer.opened(at(1.0));
        observer.opened(at(1.5));
        observer.requested(at(2.0), 7);
        assert_eq!(observer.startup(), None);
        observer.completed(at(3.25), 7, TWO);
        observer.requested(at(3.5), 8);
        observer.completed(at(9.0), 8, TWO);
        assert_eq!(observer.startup(), Some(Duration::from_millis(2250)));
    }

    #[test]
    fn a_player_served_in_time_never_stalls() {
        let mut observer = playing();
        for position in 3..100 {
            let asked = position as f64 * 2.0 - 3.0;
            observer.requested(at(asked), position);
            observer.completed(at(asked + 1.9), position, TWO);
        }
        assert_eq!(stalls(&observer, 196.0), (0, 0.0));
    }

    #[test]
    fn a_late_segment_is_a_stall_from_running_dry_to_completion() {
        let mut observer = playing();
        observer.requested(at(3.0), 3);
        assert_eq!(stalls(&observer, 5.0), (0, 0.0));
        assert_eq!(stalls(&observer, 5.5), (1, 0.5));
        observer.completed(at(6.5), 3, TWO);
        assert_eq!(stalls(&observer, 6.5), (1, 1.5));
        observer.requested(at(7.0), 4);
        observer.completed(at(8.0), 4, TWO);
        assert_eq!(stalls(&observer, 8.0), (1, 1.5), "played on from 6.5 to 8.5");
        observer.requested(at(8.0), 5);
        assert_eq!(stalls(&observer, 11.0), (2, 2.0), "dry again at 10.5");
    }

    #[test]
    fn a_pause_is_not_a_stall() {
        let mut observer = playing();
        assert_eq!(stalls(&observer, 60.0), (0, 0.0));
        observer.requested(at(60.0), 3);
        assert_eq!(stalls(&observer, 61.0), (0, 0.0));
        observer.completed(at(61.0), 3, TWO);
        observer.requested(at(61.0), 4);
        assert_eq!(stalls(&observer, 63.0), (0, 0.0));
        assert_eq!(stalls(&observer, 64.0), (1, 1.0), "playing again since 61");
    }

    #[test]
    fn a_broken_transfer_and_its_retry_are_one_stall() {
        let mut observer = playing();
        observer.requested(at(4.0), 3);
        observer.abandoned(at(6.0), 3);
        assert_eq!(stalls(&observer, 6.5), (1, 1.0));
        observer.requested(at(7.0), 3);
        observer.completed(at(7.5), 3, TWO);
        assert_eq!(stalls(&observer, 8.0), (1, 2.5));
    }

    #[test]
    fn a_player_that_was_closed_while_waiting_waits_no_more() {
        let mut observer = playing();
        observer.requested(at(4.0), 3);
        observer.abandoned(at(6.0), 3);
        assert_eq!(stalls(&observer, 100.0), (1, 1.0));
        observer.requested(at(100.0), 50);
        observer.completed(at(101.0), 50, TWO);
        assert_eq!(stalls(&observer, 101.0), (1, 1.0));
    }

    #[test]
    fn a_new_beginning_is_no_stall() {
        let mut observer = playing();
        observer.requested(at(2.0), 3);
        observer.restarted(at(3.0));
        observer.requested(at(3.0), 1);
        observer.completed(at(8.0), 1, TWO);
        assert_eq!(stalls(&observer, 9.0), (0, 0.0));
    }

    #[test]
    fn the_same_segment_twice_plays_once() {
        let mut observer = playing();
        observer.completed(at(1.5), 2, TWO);
        observer.requested(at(2.0), 3);
        assert_eq!(stalls(&observer, 6.0), (1, 1.0));
    }

    #[test]
    fn a_short_wait_is_not_counted() {
        let mut observer = playing();
        observer.requested(at(3.0), 3);
        observer.completed(at(5.05), 3, TWO);
        assert_eq!(stalls(&observer, 6.0), (0, 0.0));
    }
}
