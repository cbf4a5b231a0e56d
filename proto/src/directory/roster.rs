//! Which able peers everybody draws the seeds from, term by term.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::registry::Stream;
use super::viewer::{Slab, Viewer};
use super::{Config, Output};
use crate::id::{PeerId, RequestId, StreamId};
use crate::time::{Now, Time};
use crate::wire::{HintResponse, Roster, RosterMember};

/// Younger viewers are left out as long as [`SEASONED_MIN`] older ones exist: what they say they can upload is assumed until
/// they have sent for a while, and every seed that turns out weak moves the root of a tree twice.
const SEASONED_AFTER: Duration = Duration::from_secs(30);

/// See [`SEASONED_AFTER`].
const SEASONED_MIN: usize = 8;

/// Sessions are heavy-tailed, so age foretells what remains (research notes, algorithms §3.4); beyond ten minutes it
/// tells little more. A guess.
const AGE_MAX: Duration = Duration::from_secs(600);

/// How much a member of the last roster counts for more than others: seeds that stay are seeds with warm connections.
/// A guess.
const INCUMBENT_FACTOR: u64 = 2;

/// A member keeps its weight until its ability is this many times as large or small, in percent: seeds follow the weights,
/// and measurements waver by some tens of percent.
const WEIGHT_KEPT_PERCENT: u32 = 160;

/// A roster that could be twice as large, or lost half its members, is replaced within its term. If the look at
/// everybody finds no better one, the next look comes no sooner than this.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Answers that wait for a stream's first signature. More go out without a roster.
const HELD_MAX: usize = 64;

/// A stream's current roster and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Rosters {
    pub(super) term: u64,
    /// By rising name.
    pub(super) members: Vec<RosterMember>,
    signed: Bytes,
    /// The wall clock's term of the last look at everybody.
    clock_term: Option<u64>,
    /// When a look found nothing better.
    content_at: Option<Time>,
    lost: usize,
    held: Vec<(RequestId, PeerId, HintResponse)>,
}

impl Rosters {
    /// A participant left.
    pub(super) fn lose(&mut self, peer: PeerId) {
        self.lost += usize::from(self.weight_of(peer).is_some());
    }

    /// The weight of a member.
    fn weight_of(&self, peer: PeerId) -> Option<u32> {
        self.members.binary_search_by_key(&peer, |member| member.peer).ok().map(|at| self.members[at].weight)
    }

    /// Sends an answer with the newest signed roster; the very first answers wait for theirs to be signed.
    pub(super) fn answer(&mut self, id: RequestId, to: PeerId, mut response: HintResponse, out: &mut Vec<Output>) {
        if self.signed.is_empty() && self.held.len() < HELD_MAX {
            self.held.push((id, to, response));
            return;
        }
        response.roster = self.signed.clone();
        out.push(Output::Answer { id, to, response });
    }

    pub(super) fn signed(&mut self, bytes: Bytes, out: &mut Vec<Output>) {
        self.signed = bytes;
        self.release(out);
    }

    /// Lets go of what waits, signed or not.
    pub(super) fn release(&mut self, out: &mut Vec<Output>) {
        for (id, to, mut response) in self.held.drain(..) {
            response.roster = self.signed.clone();
            out.push(Output::Answer { id, to, response });
        }
    }
}

/// The roster to be signed now, if it is time for a new one.
///
/// Terms are counted by the wall clock, so that several servers turn together, and always rise: a roster replaced within
/// its term takes the next number.
pub(super) fn renew(now: Now, config: &Config, id: StreamId, stream: &mut Stream, viewers: &Slab) -> Option<Output> {
    let clock_term = (now.wall.0.max(0) as u64) / crate::time::micros(config.term).max(1);
    let rosters = &stream.rosters;
    let turned = rosters.clock_term != Some(clock_term);
    let rested = rosters.content_at.is_none_or(|at| now.mono.since(at) >= LOOK_AGAIN_AFTER);
    let small = rosters.members.len() < config.roster_max && stream.able >= (2 * rosters.members.len()).max(1);
    let broken = 2 * rosters.lost > rosters.members.len();
    if !(turned || rested && (small || broken)) {
        return None;
    }
    let members = elect(now.mono, config, stream, viewers);
    let same = members.iter().map(|m| m.peer).eq(stream.rosters.members.iter().map(|m| m.peer));
    let rosters = &mut stream.rosters;
    rosters.clock_term = Some(clock_term);
    rosters.lost = 0;
    rosters.content_at = (!turned && same).then_some(now.mono);
    if rosters.content_at.is_some() {
        return None;
    }
    rosters.term = clock_term.max(rosters.term.saturating_add(1));
    rosters.members.clone_from(&members);
    let audience = u32::try_from(stream.index.len()).unwrap_or(u32::MAX);
    let roster = Roster { issuer: config.issuer, term: rosters.term, members, audience };
    Some(Output::SignRoster { stream: id, roster })
}

/// The ablest by upload × age, each region up to its share of the audience first, by rising name.
fn elect(now: Time, config: &Config, stream: &Stream, viewers: &Slab) -> Vec<RosterMember> {
    let mut candidates = candidates(now, stream, viewers);
    candidates.sort_by_key(|(score, viewer)| (Reverse(*score), viewer.peer));
    let mut quotas = quotas(config, stream, &candidates);
    let (mut elected, mut others) = (Vec::new(), Vec::new());
    for (_, viewer) in candidates {
        let quota = quotas.entry(&viewer.claims.place.region).or_default();
        if *quota > 0 {
            *quota -= 1;
            elected.push(viewer);
        } else {
            others.push(viewer);
        }
    }
    let room = config.roster_max.saturating_sub(elected.len());
    elected.extend(others.into_iter().take(room));
    elected.truncate(config.roster_max);
    elected.sort_by_key(|viewer| viewer.peer);
    let member = |v: &&Viewer| {
        let ability = v.claims.ability_kbps().max(1);
        let near = |kept: &u32| {
            let (less, more) = (ability.min(*kept), ability.max(*kept));
            u64::from(more) * 100 <= u64::from(less) * u64::from(WEIGHT_KEPT_PERCENT)
        };
        let weight = stream.rosters.weight_of(v.peer).filter(near).unwrap_or(ability);
        RosterMember { peer: v.peer, weight }
    };
    elected.iter().map(member).collect()
}

fn candidates<'a>(now: Time, stream: &Stream, viewers: &'a Slab) -> Vec<(u64, &'a Viewer)> {
    let everyone = stream.index.regions().flat_map(|(_, region)| region.everyone.iter());
    let able: Vec<&Viewer> = everyone.filter_map(|handle| viewers.get(handle)).filter(|v| v.is_able()).collect();
    let seasoned = |viewer: &Viewer| viewer.age(now) >= SEASONED_AFTER;
    let enough = able.iter().filter(|viewer| seasoned(viewer)).count() >= SEASONED_MIN;
    let score = |viewer: &Viewer| {
        let age = viewer.age(now).min(AGE_MAX).as_secs().max(1);
        let stays = if stream.rosters.weight_of(viewer.peer).is_some() { INCUMBENT_FACTOR } else { 1 };
        u64::from(viewer.claims.ability_kbps()) * age * stays
    };
    able.into_iter().filter(|viewer| !enough || seasoned(viewer)).map(|viewer| (score(viewer), viewer)).collect()
}

/// How many members each region is sure of: its share of the audience, at least one.
fn quotas<'a>(config: &Config, stream: &Stream, candidates: &[(u64, &'a Viewer)]) -> BTreeMap<&'a str, usize> {
    let audience = stream.index.len().max(1);
    let sizes: BTreeMap<&str, usize> = stream.index.regions().map(|(n, region)| (n, region.everyone.len())).collect();
    let regions = candidates.iter().map(|(_, viewer)| viewer.claims.place.region.as_str());
    regions
        .map(|region| {
            let share = config.roster_max * sizes.get(region).copied().unwrap_or(0) / audience;
            (region, share.max(1))
        })
        .collect()
}
