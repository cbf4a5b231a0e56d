//! Who is playing. Requests carry no session, so players are told apart by what they call themselves, and a new
//! beginning by what they ask for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use starling_proto::Time;
use tokio::time::Instant;

use super::playback::{Observer, Playback};
use crate::stats::Stalls;

/// What a player calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agent(String);

/// All players seen lately.
pub(super) struct Players {
    begun: Instant,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    open: Vec<Session>,
    next_id: u64,
    /// Of sessions that were closed.
    stalls: Stalls,
    startup: Option<Duration>,
}

struct Session {
    id: u64,
    agent: Agent,
    seen: Time,
    /// The largest position asked for since it began.
    newest: Option<u64>,
    observer: Observer,
}

/// A segment on its way to a player.
pub(super) struct Transfer {
    players: Arc<Players>,
    session: u64,
    position: u64,
    duration: Duration,
    /// Whether the player's buffer depends on it.
    observed: bool,
}

/// Players at once; the one that was silent longest makes room. A guess.
const SESSIONS_MAX: usize = 8;

/// After so long a silence a player that comes back begins anew. Longer than any usual target duration; a guess.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// More than a segment has parts.
const PIECES: u64 = 1024;

/// A step forward by more segments than this is a jump, not play: some may have been listed as gaps. A guess.
const STEP_MAX: u64 = 4;

impl Agent {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let name = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("");
        Self(name.chars().take(200).collect())
    }
}

impl Players {
    /// A player asked for a playlist.
    pub(super) fn playlist(&self, agent: &Agent) {
        let now = self.now();
        self.sessions().of(agent, now);
    }

    /// A player asked for a segment, by its position, or for a part of it. Returns whether it begins with it, and what is to be told when it ends.
    /// `observed`: whether it is picture (or all there is), and all of it was asked for.
    pub(super) fn media(
        self: &Arc<Self>,
        agent: &Agent,
        (position, part): (u64, Option<usize>),
        duration: Duration,
        observed: bool,
    ) -> (bool, Transfer) {
        let now = self.now();
        let mut sessions = self.sessions();
        let session = sessions.of(agent, now);
        let first = session.begins_with(position);
        if first {
            session.observer.restarted(now);
        }
        session.newest = session.newest.filter(|_| !first).max(Some(position));
        // The observer only tells one piece from another: parts are pieces of their own.
        let position = position * PIECES + part.map_or(0, |part| 1 + (part as u64).min(PIECES - 2));
        if observed {
            session.observer.requested(now, position);
        }
        let transfer = Transfer { players: self.clone(), session: session.id, position, duration, observed };
        (first, transfer)
    }

    /// Of all players together.
    pub(super) fn playback(&self) -> Playback {
        let now = self.now();
        let sessions = self.sessions();
        let mut stalls = sessions.stalls.clone();
        sessions.open.iter().for_each(|session| session.add_stalls(&mut stalls, now));
        let open = sessions.open.iter().find_map(|session| session.observer.startup());
        Playback { stalls, startup_seconds: sessions.startup.or(open).map(|startup| startup.as_secs_f64()) }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.begun.elapsed()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Players {
    fn default() -> Self {
        Self { begun: Instant::now(), sessions: Mutex::default() }
    }
}

impl Sessions {
    /// The session of a player that made a request now.
    fn of(&mut self, agent: &Agent, now: Time) -> &mut Session {
        let current = |session: &Session| session.agent == *agent && now.since(session.seen) <= SILENCE_MAX;
        let index = match self.open.iter().position(current) {
            Some(index) => index,
            None => self.begin(agent, now),
        };
        let session = &mut self.open[index];
        session.seen = now;
        session.observer.opened(now);
        session
    }

    fn begin(&mut self, agent: &Agent, now: Time) -> usize {
        let replaced = self.open.iter().position(|session| session.agent == *agent);
        let silent = || (0..self.open.len()).min_by_key(|index| self.open[*index].seen);
        if let Some(index) = replaced.or_else(|| silent().filter(|_| self.open.len() >= SESSIONS_MAX)) {
            let closed = self.open.remove(index);
            closed.add_stalls(&mut self.stalls, closed.seen);
            self.startup = self.startup.or(closed.observer.startup());
        }
        let (id, agent) = (self.next_id, agent.clone());
        self.next_id += 1;
        self.open.push(Session { id, agent, seen: now, newest: None, observer: Observer::default() });
        self.open.len() - 1
    }
}

impl Session {
    fn begins_with(&self, position: u64) -> bool {
        let Some(newest) = self.newest else { return true };
        // One back is a retry, or the same moment in another rendition.
        position + 1 < newest || position > newest + STEP_MAX
    }

    fn add_stalls(&self, sum: &mut Stalls, now: Time) {
        let stalls = self.observer.stalls(now);
        sum.count += stalls.count;
        sum.seconds += stalls.seconds;
    }
}

impl Transfer {
    /// The player has all of it.
    pub(super) fn complete(mut self) {
        let (position, duration) = (self.position, self.duration);
        self.tell(|observer, now| observer.completed(now, position, duration));
        self.observed = false;
    }

    fn tell(&self, tell: impl FnOnce(&mut Observer, Time)) {
        if !self.observed {
            return;
        }
        let now = self.players.now();
        let mut sessions = self.players.sessions();
        if let Some(session) = sessions.open.iter_mut().find(|session| session.id == self.session) {
            tell(&mut session.observer, now);
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.tell(|observer, now| observer.abandoned(now, self.position));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(players: &Arc<Players>, agent: &str, position: u64) -> bool {
        players.media(&Agent(agent.into()), (position, None), Duration::from_secs(2), true).0
    }

    #[test]
    fn a_player_begins_once_and_again_when_it_jumps() {
        let players = Arc::new(Players::default());
        assert!(asks(&players, "a", 10));
        for position in [11, 12, 12, 11, 13, 15] {
            assert!(!asks(&players, "a", position), "{position}");
        }
        assert!(asks(&players, "a", 12), "reloaded");
        assert!(!asks(&players, "a", 13));
        assert!(asks(&players, "a", 30), "came back later");
    }

    #[test]
    fn players_with_other_names_are_other_players() {
        let players = Arc::new(Players::default());
        assert!(asks(&players, "a", 10));
        assert!(asks(&players, "b", 4));
        assert!(!asks(&players, "a", 11));
        assert!(!asks(&players, "b", 5));
    }

    #[test]
    fn the_number_of_sessions_is_bounded_and_closed_ones_still_count() {
        let players = Arc::new(Players::default());
        for number in 0..3 * SESSIONS_MAX {
            let (_, transfer) = players.media(&Agent(number.to_string()), (1, None), Duration::from_secs(2), true);
            transfer.complete();
        }
        assert_eq!(players.sessions().open.len(), SESSIONS_MAX);
        assert!(players.playback().startup_seconds.is_some());
    }

    #[test]
    fn a_transfer_that_is_dropped_is_owed_no_more() {
        let players = Arc::new(Players::default());
        players.media(&Agent("a".into()), (1, None), Duration::ZERO, true).1.complete();
        let (_, transfer) = players.media(&Agent("a".into()), (2, None), Duration::ZERO, true);
        let stalls_in_an_hour = || {
            let later = players.now() + Duration::from_secs(3600);
            players.sessions().open[0].observer.stalls(later).seconds
        };
        assert!(stalls_in_an_hour() > 3599.0);
        drop(transfer);
        assert!(stalls_in_an_hour() < 3599.0);
    }
}
