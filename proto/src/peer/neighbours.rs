//! Whom we know, whom we hold a connection to, and what they said they hold.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::id::{Epoch, PeerId, RenditionId};
use crate::rng::Rng;
use crate::time::Time;
use crate::wire::{Hello, Role, Status, TrackStatus};

/// A peer we hold a connection to.
#[derive(Clone, Debug)]
pub(crate) struct Neighbour {
    pub(crate) peer: PeerId,
    /// Of its name: compared for every chunk that is late.
    pub(crate) digest: u64,
    pub(crate) since: Time,
    /// `None` until it said hello.
    pub(crate) role: Option<Role>,
    pub(crate) status: Option<Status>,
    /// Distance class as in [`crate::wire::Hint::proximity`].
    pub(crate) proximity: u8,
    /// Requests that failed or came back late since the last good one.
    pub(crate) strikes: u8,
    /// Until when not to ask it for substreams, per substream refusal.
    pub(crate) refusals: Vec<Refusal>,
}

/// "Not this substream, not before then."
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) rendition: RenditionId,
    pub(crate) substream: u8,
    pub(crate) until: Time,
    pub(crate) times: u8,
}

/// Somebody we could connect to.
#[derive(Clone, Debug)]
struct Candidate {
    addrs: Vec<Bytes>,
    proximity: u8,
    /// Its rank in the newest hints; later is worse.
    rank: u16,
    retry_at: Time,
    failures: u8,
}

/// All of them. Bounded: [`CANDIDATES_MAX`] and the connections the shell admits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Neighbours {
    connected: Vec<Neighbour>,
    candidates: BTreeMap<PeerId, Candidate>,
    dialling: Vec<(PeerId, Time)>,
    /// To be dialled even if there are neighbours enough.
    urgent: VecDeque<PeerId>,
    pub(crate) banned: Vec<PeerId>,
}

/// Addresses remembered for later; the worst go first.
const CANDIDATES_MAX: usize = 64;
/// Dialled beyond the target at a time.
const URGENT_MAX: usize = 4;
/// Bans remembered; the shell blocks them besides.
const BANNED_MAX: usize = 256;
/// A dial that said nothing for this long is counted as failed. Above the shell's connection timeout.
const DIAL_TIMEOUT: Duration = Duration::from_secs(12);
/// Dials begun at a time: each is some packets of full size, more of which than this the queue of a slow home link doesn't hold
/// (in the lab: 200 ms at 0.13 Mbit/s).
const DIALS_AT_ONCE: usize = 3;
/// What is dialled for longer isn't waited for: a handshake takes two round trips, or both links are slow.
const DIAL_BEGINS: Duration = Duration::from_millis(500);
/// First wait before a peer that could not be reached is tried again; doubles up to 2⁶ times that.
const REDIAL_AFTER: Duration = Duration::from_millis(750);
/// First wait after a refusal; doubles up to 2⁴ times that. Longer than a status interval at its shortest.
const REFUSAL_BACKOFF: Duration = Duration::from_millis(1500);

impl Neighbours {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Neighbour> {
        self.connected.iter()
    }

    pub(crate) fn find(&self, peer: PeerId) -> Option<&Neighbour> {
        self.connected.iter().find(|n| n.peer == peer)
    }

    /// Whether it is connected and didn't refuse this substream lately.
    pub(crate) fn is_willing(&self, peer: PeerId, rendition: RenditionId, substream: u8, now: Time) -> bool {
        self.find(peer).is_some_and(|n| !n.refuses(rendition, substream, now))
    }

    pub(crate) fn find_mut(&mut self, peer: PeerId) -> Option<&mut Neighbour> {
        self.connected.iter_mut().find(|n| n.peer == peer)
    }

    /// Connected peers other than the broadcaster.
    pub(crate) fn viewers(&self) -> usize {
        self.connected.iter().filter(|n| n.role != Some(Role::Source)).count()
    }

    pub(crate) fn source(&self) -> Option<PeerId> {
        self.connected.iter().find(|n| n.role == Some(Role::Source)).map(|n| n.peer)
    }

    pub(crate) fn connect(&mut self, peer: PeerId, now: Time) {
        self.dialling.retain(|(p, _)| *p != peer);
        if self.find(peer).is_some() {
            return;
        }
        let proximity = self.candidates.get(&peer).map_or(2, |c| c.proximity);
        self.connected.push(Neighbour {
            peer,
            digest: peer.digest(),
            since: now,
            role: None,
            status: None,
            proximity,
            strikes: 0,
            refusals: Vec::new(),
        });
    }

    pub(crate) fn disconnect(&mut self, peer: PeerId, now: Time, rng: &mut Rng) {
        self.dialling.retain(|(p, _)| *p != peer);
        self.connected.retain(|n| n.peer != peer);
        if let Some(candidate) = self.candidates.get_mut(&peer) {
            let wait = REDIAL_AFTER * (1 << candidate.failures.min(6));
            candidate.retry_at = now + wait + rng.jitter(wait);
            candidate.failures = candidate.failures.saturating_add(1);
        }
    }

    /// What a hello tells beyond status; `region` is our own.
    pub(crate) fn greet(&mut self, peer: PeerId, hello: &Hello, role: Role, region: &str) {
        if let Some(known) = self.candidates.get_mut(&peer) {
            known.failures = 0; // not before: one of another version would be dialled without rest
        }
        let hinted = self.candidates.get(&peer).filter(|c| c.rank != u16::MAX).map(|c| c.proximity);
        if let Some(neighbour) = self.find_mut(peer) {
            neighbour.role = Some(role);
            neighbour.status = Some(hello.status.clone());
            neighbour.proximity = hinted.unwrap_or_else(|| proximity(region, &hello.region));
        }
    }

    /// Remembers somebody to connect to. `rank`: place in the hints, `u16::MAX` for hearsay.
    pub(crate) fn learn(&mut self, peer: PeerId, addrs: Vec<Bytes>, proximity: u8, rank: u16) {
        if self.banned.contains(&peer) {
            return;
        }
        if let Some(neighbour) = self.find_mut(peer) {
            neighbour.proximity = if rank == u16::MAX { neighbour.proximity } else { proximity };
        }
        match self.candidates.get_mut(&peer) {
            Some(known) if rank == u16::MAX && known.rank != u16::MAX => {}
            Some(known) => {
                known.addrs = addrs;
                known.proximity = proximity;
                known.rank = rank;
            }
            None => {
                let fresh = Candidate { addrs, proximity, rank, retry_at: Time::ZERO, failures: 0 };
                self.candidates.insert(peer, fresh);
            }
        }
        if self.candidates.len() > CANDIDATES_MAX {
            let worst = self.candidates.iter().max_by_key(|(_, c)| (c.failures.min(3), c.rank)).map(|(p, _)| *p);
            worst.and_then(|p| self.candidates.remove(&p));
        }
    }

    /// Remembers somebody to connect to as soon as possible.
    pub(crate) fn want(&mut self, peer: PeerId, addrs: Vec<Bytes>, proximity: u8) {
        self.learn(peer, addrs, proximity, 0);
        if self.urgent.len() < URGENT_MAX && self.find(peer).is_none() && !self.urgent.contains(&peer) {
            self.urgent.push_back(peer);
        }
    }

    /// All ranks age when new hints come, so that those no longer proposed sink.
    pub(crate) fn age_hints(&mut self) {
        for candidate in self.candidates.values_mut().filter(|c| c.rank != u16::MAX) {
            candidate.rank = candidate.rank.saturating_add(64).min(u16::MAX - 1);
        }
    }

    /// The next one to dial, if fewer than `target` connections stand or are being made; best-ranked first.
    pub(crate) fn next_dial(&mut self, target: usize, now: Time) -> Option<(PeerId, Vec<Bytes>)> {
        self.dialling.retain(|(_, since)| now.since(*since) < DIAL_TIMEOUT);
        while let Some(peer) = self.urgent.pop_front() {
            let candidate = self.candidates.get(&peer).filter(|c| c.retry_at <= now && self.is_free(peer));
            if let Some(addrs) = candidate.map(|c| c.addrs.clone()) {
                self.dialling.push((peer, now));
                return Some((peer, addrs));
            }
        }
        if self.viewers() + self.dialling.len() >= target || self.dial_again_at() > now {
            return None;
        }
        let best = self.candidates.iter().filter(|(p, c)| c.retry_at <= now && self.is_free(**p));
        let (peer, candidate) = best.min_by_key(|(p, c)| (c.failures.min(3), c.rank, c.proximity, p.digest()))?;
        let found = (*peer, candidate.addrs.clone());
        self.dialling.push((found.0, now));
        Some(found)
    }

    /// Neither connected nor being dialled.
    fn is_free(&self, peer: PeerId) -> bool {
        self.find(peer).is_none() && !self.dialling.iter().any(|(dialled, _)| *dialled == peer)
    }

    /// When there are few enough dials that begin.
    fn dial_again_at(&self) -> Time {
        let latest = self.dialling.iter().rev().nth(DIALS_AT_ONCE - 1);
        latest.map_or(Time::ZERO, |(_, since)| *since + DIAL_BEGINS)
    }

    /// When somebody may be dialled who may not now.
    pub(crate) fn retry_at(&self, target: usize) -> Time {
        let expiry = self.dialling.iter().map(|(_, since)| *since + DIAL_TIMEOUT).min().unwrap_or(Time::NEVER);
        if self.viewers() + self.dialling.len() >= target {
            return expiry;
        }
        let waiting = self.candidates.iter().filter(|(p, _)| self.is_free(**p)).map(|(_, c)| c.retry_at);
        waiting.min().unwrap_or(Time::NEVER).max(self.dial_again_at()).min(expiry)
    }

    /// The broadcaster began anew: what was refused was another run's.
    pub(crate) fn forget_refusals(&mut self, rendition: RenditionId) {
        for neighbour in &mut self.connected {
            neighbour.refusals.retain(|r| r.rendition != rendition);
        }
    }

    pub(crate) fn ban(&mut self, peer: PeerId) {
        self.candidates.remove(&peer);
        self.banned.push(peer);
        if self.banned.len() > BANNED_MAX {
            self.banned.remove(0);
        }
    }
}

impl Neighbour {
    pub(crate) fn track(&self, rendition: RenditionId) -> Option<&TrackStatus> {
        self.status.as_ref()?.tracks.iter().find(|t| t.rendition == rendition)
    }

    /// As [`Self::track`], if it speaks of this start of the broadcaster: numbers and paths of another mean nothing.
    pub(crate) fn track_in(&self, rendition: RenditionId, epoch: Epoch) -> Option<&TrackStatus> {
        self.track(rendition).filter(|_| self.status.as_ref().is_some_and(|status| status.epoch == epoch))
    }

    pub(crate) fn uplink_bps(&self) -> u64 {
        self.status.as_ref().map_or(0, |s| s.uplink_bps)
    }

    pub(crate) fn refuses(&self, rendition: RenditionId, substream: u8, now: Time) -> bool {
        self.refusals.iter().any(|r| r.rendition == rendition && r.substream == substream && r.until > now)
    }

    /// Don't ask for this substream for a while; longer each time.
    pub(crate) fn refused(&mut self, rendition: RenditionId, substream: u8, now: Time, rng: &mut Rng) {
        let at = self.refusals.iter().position(|r| r.rendition == rendition && r.substream == substream);
        let times = at.map_or(0, |i| self.refusals.swap_remove(i).times);
        // A root's place is free from one moment to the next.
        let doubles = if self.role == Some(Role::Source) { 1 } else { 4 };
        let wait = REFUSAL_BACKOFF * (1 << times.min(doubles));
        let until = now + wait + rng.jitter(wait);
        self.refusals.retain(|r| r.until > now);
        self.refusals.push(Refusal { rendition, substream, until, times: times.saturating_add(1) });
    }
}

/// Distance class from two self-declared regions: same, same up to the first separator, else far.
pub(crate) fn proximity(ours: &str, theirs: &str) -> u8 {
    let continent = |region: &str| region.split(['-', '/', '.']).next().unwrap_or("").to_ascii_lowercase();
    match () {
        () if ours.eq_ignore_ascii_case(theirs) => 1,
        () if continent(ours) == continent(theirs) => 2,
        () => 3,
    }
}
