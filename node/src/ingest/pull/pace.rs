//! When to read a playlist again.
//!
//! RFC 8216bis §6.3.4 has a client wait a target duration after a change and half of one after none, which finds a
//! segment half a target duration late on average. That rule protects servers from a thousand players, and viewers keep
//! it. A broadcaster is one reader for all of them, and its delay is added to everybody's: so it asks shortly before the
//! next segment is due and then a few times more, and falls back to the standard's rhythm when the segment stays out.
//! Where the server can hold the request until there is news (CAN-BLOCK-RELOAD, §6.2.5.2), it is let do that; where it
//! can't and lists parts, it is asked once a part target.

use std::time::Duration;

use tokio::time::Instant;

use super::Role;
use super::media::MediaPlaylist;

/// Without news for this many target durations, the source counts as stuck.
const STUCK_AFTER: u32 = 5;

/// The rhythm of one rendition.
#[derive(Debug)]
pub(super) struct Pace {
    role: Role,
    target: Duration,
    /// Duration of the newest segment: most likely the next one's, too.
    newest: Duration,
    blocks: bool,
    /// PART-TARGET, if parts are taken.
    part_target: Option<Duration>,
    changed: Instant,
}

impl Pace {
    /// Begins with the first reading.
    pub(super) fn new(playlist: &MediaPlaylist, role: Role, now: Instant) -> Self {
        let (target, newest) = (Duration::ZERO, Duration::ZERO);
        let mut pace = Self { role, target, newest, blocks: false, part_target: None, changed: now };
        pace.read(playlist);
        pace
    }

    /// Takes in what a reading says of the stream's rhythm.
    pub(super) fn read(&mut self, playlist: &MediaPlaylist) {
        self.target = Duration::from_secs(playlist.target_duration.into());
        self.newest = playlist.segments.last().map_or(self.target, |listed| listed.duration);
        self.blocks = playlist.blocks;
        self.part_target = playlist.part_target;
    }

    /// How long after beginning to load a playlist to begin again; `news` if it had a new segment or part.
    pub(super) fn wait(&mut self, news: bool, now: Instant) -> Duration {
        if news {
            self.changed = now;
        }
        let step = (self.target / 8).clamp(STEP_MIN, Duration::from_millis(500));
        let before_due = self.newest.saturating_sub(step);
        let due = now - self.changed < self.target * 3 / 2;
        let part = self.part_target.map(|target| target.clamp(STEP_MIN, self.target));
        match (news, self.role) {
            (true, _) if self.blocks => STEP_BLOCKING,
            (true, Role::Viewer) => self.target,
            (true, Role::Broadcaster) => part.unwrap_or_else(|| before_due.clamp(self.target / 4, self.target)),
            (false, Role::Broadcaster) if due => part.unwrap_or(step),
            (false, _) => self.target / 2,
        }
    }

    /// The server may hold a request until the next segment is there.
    pub(super) fn blocks(&self) -> bool {
        self.blocks
    }

    /// Parts are taken.
    pub(super) fn has_parts(&self) -> bool {
        self.part_target.is_some()
    }

    /// How long a reload may take: a held one up to three target durations (§6.2.5.2), and the answer.
    pub(super) fn reload_within(&self) -> Duration {
        let held = if self.blocks { self.target * 3 } else { Duration::ZERO };
        held + Duration::from_secs(10)
    }

    /// No news for too long.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        now - self.changed >= self.target * STUCK_AFTER
    }
}

/// No server is asked more often.
const STEP_MIN: Duration = Duration::from_millis(100);

/// Held requests follow at once; this is only against servers that say they hold and don't.
const STEP_BLOCKING: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn playlist(blocks: bool) -> MediaPlaylist {
        MediaPlaylist { target_duration: 4, blocks, ..MediaPlaylist::default() }
    }

    #[test]
    fn asks_shortly_before_news_is_due_then_often_then_seldom() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let mut pace = Pace::new(&playlist(false), Role::Broadcaster, begun);
        assert_eq!(pace.wait(true, begun), Duration::from_millis(3500));
        assert_eq!(pace.wait(false, at(3500)), Duration::from_millis(500));
        assert_eq!(pace.wait(true, at(4000)), Duration::from_millis(3500));
        assert_eq!(pace.wait(false, at(10_000)), Duration::from_secs(2));
        assert!(!pace.is_stuck(at(23_900)));
        assert!(pace.is_stuck(at(24_000)));
    }

    #[test]
    fn a_server_that_holds_is_asked_at_once() {
        let begun = Instant::now();
        let mut pace = Pace::new(&playlist(true), Role::Viewer, begun);
        assert_eq!(pace.wait(true, begun), STEP_BLOCKING);
        assert_eq!(pace.wait(false, begun), Duration::from_secs(2));
        assert_eq!(pace.reload_within(), Duration::from_secs(22));
    }

    #[test]
    fn where_parts_are_listed_and_nothing_is_held_each_is_looked_for() {
        let begun = Instant::now();
        let parts = MediaPlaylist { part_target: Some(Duration::from_millis(300)), ..playlist(false) };
        let mut pace = Pace::new(&parts, Role::Broadcaster, begun);
        assert_eq!(pace.wait(true, begun), Duration::from_millis(300));
        assert_eq!(pace.wait(false, begun), Duration::from_millis(300));
        assert_eq!(pace.wait(false, begun + Duration::from_secs(6)), Duration::from_secs(2));
        pace.read(&MediaPlaylist { part_target: Some(Duration::from_millis(1)), ..playlist(false) });
        assert_eq!(pace.wait(true, begun), STEP_MIN);
    }

    #[test]
    fn viewers_keep_the_standards_rhythm() {
        let begun = Instant::now();
        let mut pace = Pace::new(&playlist(false), Role::Viewer, begun);
        assert_eq!(pace.wait(true, begun), Duration::from_secs(4));
        assert_eq!(pace.wait(false, begun), Duration::from_secs(2));
    }
}
