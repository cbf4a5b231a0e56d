//! Pull-ahead: a parent for every substream, and a request open with it before the chunk exists.

use std::time::Duration;

use crate::id::{ChunkNumber, PeerId, RenditionId};
use crate::time::{Now, Time};
use crate::wire::control::Cancel;
use crate::wire::{ChunkHeader, ChunkRequest, ChunkStatus, Feedback, Kind, Role, path_digest};

use super::io::Output;
use super::neighbours::Neighbour;
use super::pace::Pace;
use super::repair::cancel;
use super::requests::{InFlight, Purpose};
use super::track::{Ahead, ROOT_CHILD_PATH, Track, Unchecked};
use super::{Peer, seeding};

/// How soon to look again when nobody could be a parent.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Candidates tried before the parent is asked for a chunk after all: each costs a round trip.
const TRIALS_MAX: u8 = 3;
/// What a hop costs, in seconds: a delay and a turn in a queue (a guess; 40 ms and a few chunks at 10 Mbit/s).
const HOP_COST: f64 = 0.12;
/// What a full parent costs, in seconds: it will probably refuse.
const FULL_COST: f64 = 1.0;
/// What a failure costs, in seconds.
const STRIKE_COST: f64 = 0.2;
/// What the broadcaster costs as a parent in place: next to nothing, it is the root.
const SOURCE_COST: f64 = 0.05;
/// A seed goes on for this long after a roster made somebody else the seed: everybody has the new roster by then (hint
/// servers refresh every 10 s).
const HANDOVER: Duration = Duration::from_secs(12);
/// No chunk may be numbered further beyond what is known than this: some four segments of the largest size.
const NUMBER_LEAP_MAX: u64 = 1024;

impl Peer {
    /// Keeps every substream of every track supplied with a parent and an open request.
    pub(super) fn pull_ahead(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.config.role == Role::Source {
            return;
        }
        for t in 0..self.tracks.len() {
            for s in 0..self.tracks[t].substreams.len() {
                self.supply(now, t, s as u8, out);
            }
        }
    }

    fn supply(&mut self, now: Now, t: usize, s: u8, out: &mut Vec<Output>) {
        if self.tracks[t].substreams[usize::from(s)].look_at <= now.mono {
            self.look_for_parent(now, t, s);
        }
        let track = &self.tracks[t];
        let substream = &track.substreams[usize::from(s)];
        let (Some(parent), None) = (substream.asked(), substream.in_flight) else { return };
        let Some(number) = track.next_wanted(s) else { return };
        let (rendition, epoch, informed) = (track.rendition, track.epoch, track.is_informed(s));
        let substream = &mut self.tracks[t].substreams[usize::from(s)];
        let path_known = (substream.path.first() == Some(&parent.tag())).then(|| path_digest(&substream.path));
        let root_silent = substream.root_silent && parent == self.config.source;
        let feedback = substream.feedback.take_if(|(of, _)| *of == parent).map(|(_, feedback)| feedback);
        let id =
            self.requests.open(InFlight { to: parent, rendition, epoch, number, purpose: Purpose::Next, at: now.mono });
        self.tracks[t].substreams[usize::from(s)].in_flight = Some(Ahead { id, number, to: parent });
        let kind = Kind::Next;
        let request = ChunkRequest { kind, epoch, rendition, number, feedback, root_silent, informed, path_known };
        out.push(Output::Request { id, to: parent, request });
    }

    /// Finds a parent for an orphaned substream, or a much better one for a supplied one.
    fn look_for_parent(&mut self, now: Now, t: usize, s: u8) {
        let Pace { improve_every, improvement_min, .. } = self.tracks[t].pace;
        let jitter = self.rng.jitter(improve_every);
        let substream = &self.tracks[t].substreams[usize::from(s)];
        let (current, noticed) = (substream.parent, substream.noticed);
        let stays = !noticed && now.mono.since(substream.since) < improve_every;
        let settled = current.is_some() && (stays || substream.trial.is_some());
        let best = if settled { None } else { self.best_parent(now.mono, t, s) };
        let kept_cost = |p| self.cost_of(p, t, s).filter(|_| !noticed);
        let current_cost = current.map(|p| kept_cost(p).unwrap_or(f64::INFINITY));
        let take = match (best, current_cost) {
            (Some((peer, cost)), Some(now_costs)) => Some(peer) != current && cost + improvement_min <= now_costs,
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        };
        let substream = &mut self.tracks[t].substreams[usize::from(s)];
        substream.look_at = match (take, current) {
            (false, None) => now.mono + LOOK_AGAIN,
            (false, Some(_)) if noticed => now.mono + LOOK_AGAIN,
            (true, _) | (false, Some(_)) => now.mono + improve_every + jitter,
        };
        if let (true, Some((peer, cost))) = (take, best) {
            tracing::debug!(?peer, substream = s, cost, before = ?current, "parent chosen");
            let substream = &mut self.tracks[t].substreams[usize::from(s)];
            if current.is_some() {
                substream.trial = Some(peer);
            } else {
                (substream.parent, substream.since) = (Some(peer), now.mono);
            }
        }
    }

    /// The cheapest parent for a substream and its cost in hops.
    fn best_parent(&mut self, now: Time, t: usize, s: u8) -> Option<(PeerId, f64)> {
        let track = &self.tracks[t];
        let rendition = track.rendition;
        let serves = self.catalogue.as_ref().is_some_and(|c| c.serves);
        let substream = &track.substreams[usize::from(s)];
        // Whom the broadcaster gives notice was seed by an older roster.
        let seed = substream.rank == Some(0) && !substream.noticed;
        let leaving = substream.parent.filter(|_| substream.noticed);
        let willing = |p: &PeerId| self.neighbours.is_willing(*p, rendition, s, now);
        let source = self.neighbours.source().filter(|_| serves).filter(willing);
        if seed && source.is_some() {
            return source.map(|source| (source, -1.0));
        }
        if seed && !serves {
            return None;
        }
        // A root is gone: who was fed by it and is able takes its place, or is told who did.
        if substream.root_silent && substream.parent.is_none() && source.is_some() && self.is_able() {
            return source.map(|source| (source, SOURCE_COST));
        }
        let usable = |n: &&Neighbour| {
            let below = self.uploads.children_of(rendition, s).any(|child| child == n.peer);
            !n.refuses(rendition, s, now) && n.role == Some(Role::Viewer) && !below && leaving != Some(n.peer)
        };
        let noise: u64 = self.rng.next_u64();
        let viewers = self.neighbours.iter().filter(usable).filter_map(|n| {
            let jitter = (crate::rng::mix(n.digest ^ noise) % 1000) as f64 / 1e4;
            cost(n, track, s).map(|c| (n.peer, c + jitter))
        });
        let best = viewers.min_by(|a, b| a.1.total_cmp(&b.1));
        // The broadcaster is asked only by those who find nobody else: it takes one child per substream and names it to others.
        best.or_else(|| source.map(|source| (source, 0.5)))
    }

    fn cost_of(&self, parent: PeerId, t: usize, s: u8) -> Option<f64> {
        let neighbour = self.neighbours.find(parent)?;
        match neighbour.role {
            Some(Role::Source) => Some(SOURCE_COST),
            Some(Role::Viewer) | None => {
                let full = neighbour.status.as_ref().is_some_and(|s| s.free_slots == 0);
                cost(neighbour, &self.tracks[t], s).map(|c| if full { c - FULL_COST } else { c })
            }
        }
    }

    /// Drops the parent of a substream and takes back what is open with it.
    pub(super) fn abandon(&mut self, t: usize, s: u8, out: &mut Vec<Output>) {
        self.take_back_ahead(t, s, true, out);
        self.tracks[t].substreams[usize::from(s)].orphan(Time::ZERO);
    }

    fn take_back_ahead(&mut self, t: usize, s: u8, leaves: bool, out: &mut Vec<Output>) {
        let track = &mut self.tracks[t];
        let substream = &mut track.substreams[usize::from(s)];
        if let Some(Ahead { id, number, to }) = substream.in_flight.take() {
            self.requests.close(id);
            if self.neighbours.find(to).is_some() {
                out.push(cancel(
                    to,
                    Cancel { epoch: track.epoch, rendition: track.rendition, number, leaves, feedback: None },
                ));
            }
        }
    }

    /// The children of a root are the first to notice that it is gone, and all others in its tree depend on them: they ask
    /// the broadcaster for its place, who knows better whether it is free.
    pub(super) fn look_above(&mut self, now: Now, t: usize, out: &mut Vec<Output>) {
        if !self.catalogue.as_ref().is_some_and(|c| c.serves) {
            return;
        }
        for s in 0..self.tracks[t].count() {
            let track = &self.tracks[t];
            let substream = &track.substreams[usize::from(s)];
            let above = substream.parent.filter(|parent| *parent != self.config.source);
            let below_root = above.is_some() && substream.path.len() == ROOT_CHILD_PATH;
            let tries = substream.trial.is_some();
            if tries || !(below_root && track.waits_too_long(now.mono, s)) {
                continue;
            }
            let Some(source) = self.neighbours.source() else {
                self.hurry_to_source(now.mono);
                continue;
            };
            if self.neighbours.is_willing(source, track.rendition, s, now.mono) {
                tracing::debug!(parent = ?substream.parent, substream = s, "root silent, asking the broadcaster");
                self.doubt_parent(now.mono, t, s, Some(source), out);
                self.tracks[t].substreams[usize::from(s)].root_silent = true;
            }
        }
    }

    /// The parent of a substream may bring nothing any more: others are tried, first `other`. It is left when one of them
    /// brought a chunk, for if everything is late at once, everybody would lose its place otherwise.
    fn doubt_parent(&mut self, now: Time, t: usize, s: u8, other: Option<PeerId>, out: &mut Vec<Output>) {
        self.take_back_ahead(t, s, false, out);
        let substream = &mut self.tracks[t].substreams[usize::from(s)];
        substream.failed_trials = 0;
        substream.noticed = true;
        substream.trial = other;
        substream.look_at = now;
    }

    /// A pull-ahead request was answered with a chunk.
    pub(super) fn fed(
        &mut self,
        now: Now,
        request: &InFlight,
        header: &ChunkHeader,
        len: u32,
        spread: Duration,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(number) = header.number else { return false };
        let Some(t) = self.track_index(request.rendition, request.epoch) else { return true };
        let track = &mut self.tracks[t];
        let known = track.window.end().map_or(0, |end| end.0).max(request.number.0);
        let s = track.substream_of(request.number);
        if number < request.number || track.substream_of(number) != s || number.0 > known + NUMBER_LEAP_MAX {
            return false;
        }
        let heard = track.window.find_mut(number).map(|(segment, index)| {
            segment.asked.insert(index);
            segment.timing(index).heard
        });
        if heard.is_none() && track.unchecked.len() < 64 {
            track.unchecked.push(Unchecked { number, from: request.to, since: now.mono, asked: false });
        }
        track.substreams[usize::from(s)].came_after(heard.map(|heard| now.mono.since(heard)));
        let looped = header.path.contains(&self.id.tag());
        let step = u64::from(track.count());
        let substream = &mut track.substreams[usize::from(s)];
        substream.in_flight = None;
        substream.cursor = ChunkNumber(number.0 + step);
        if number > request.number {
            track.repair_at = now.mono; // what was passed over won't come by itself
        }
        let substream = &mut track.substreams[usize::from(s)];
        substream.root_silent = false;
        let feedback = Feedback {
            bytes: len,
            spread_us: u32::try_from(spread.as_micros()).unwrap_or(u32::MAX),
            first_us: Some(now.mono.before(spread).0 as u32),
        };
        let before = substream.feedback.replace((request.to, feedback));
        (substream.fed, substream.elsewhere) = (now.mono, 0);
        if looped {
            self.refused_by(now, request, &[]);
            return true;
        }
        let path_known = substream.path.first() == Some(&request.to.tag());
        if !(header.path.is_empty() && path_known) {
            substream.path.clone_from(&header.path);
            substream.path.truncate(PATH_MAX);
        }
        if substream.trial == Some(request.to) {
            if let Some(left) = substream.parent.filter(|parent| self.neighbours.find(*parent).is_some()) {
                let InFlight { epoch, rendition, number, .. } = *request;
                let feedback = before.filter(|(of, _)| *of == left).map(|(_, feedback)| feedback);
                out.push(cancel(left, Cancel { epoch, rendition, number, leaves: true, feedback }));
            }
            (substream.parent, substream.since) = (substream.trial.take(), now.mono);
            substream.noticed = false;
            self.stats.parent_switches += 1;
        }
        if substream.parent == Some(request.to) {
            substream.noticed &= header.notice; // one that was late may be in time again
        }
        if header.notice && substream.parent == Some(request.to) {
            self.noticed(now, t, s, request.to, &header.instead);
        }
        true
    }

    /// The parent will soon refuse us: others are tried while it still serves, first whom it named.
    fn noticed(&mut self, now: Now, t: usize, s: u8, parent: PeerId, instead: &[PeerId]) {
        let named = self.first_willing(now.mono, self.tracks[t].rendition, s, instead);
        let substream = &mut self.tracks[t].substreams[usize::from(s)];
        substream.failed_trials = 0;
        substream.look_at = now.mono;
        if !std::mem::replace(&mut substream.noticed, true) {
            tracing::debug!(?parent, substream = s, ?named, "parent gives notice");
            substream.trial = named;
        }
    }

    /// A pull-ahead request was answered without a chunk.
    pub(super) fn unfed(&mut self, now: Now, request: &InFlight, header: &ChunkHeader) {
        match header.status {
            ChunkStatus::Empty | ChunkStatus::Chunk => self.free_request(request),
            ChunkStatus::Loop | ChunkStatus::Refused | ChunkStatus::Unknown => {
                self.refused_by(now, request, &header.instead);
            }
        }
    }

    /// The parent, or who is on trial, won't have us: look elsewhere, first where it pointed.
    pub(super) fn refused_by(&mut self, now: Now, request: &InFlight, instead: &[PeerId]) {
        let Some(t) = self.track_index(request.rendition, request.epoch) else { return };
        let s = self.tracks[t].substream_of(request.number);
        if let Some(neighbour) = self.neighbours.find_mut(request.to) {
            neighbour.refused(request.rendition, s, now.mono, &mut self.rng);
        }
        let named = self.first_willing(now.mono, request.rendition, s, instead);
        let improve_every = self.tracks[t].pace.improve_every;
        let substream = &mut self.tracks[t].substreams[usize::from(s)];
        if substream.trial == Some(request.to) {
            substream.trial = None;
            substream.failed_trials = substream.failed_trials.saturating_add(1);
            if substream.noticed && substream.failed_trials < TRIALS_MAX {
                substream.look_at = now.mono;
                substream.trial = named.filter(|named| Some(*named) != substream.parent);
            }
            return self.free_request(request);
        }
        if substream.parent != Some(request.to) {
            return;
        }
        substream.orphan(Time::ZERO);
        if let (Some(peer), false) = (named, substream.rank == Some(0)) {
            (substream.parent, substream.since) = (Some(peer), now.mono);
            substream.look_at = now.mono + improve_every;
        }
        self.tracks[t].repair_at = now.mono;
    }

    /// The first of these that can be asked for a substream.
    fn first_willing(&self, now: Time, rendition: RenditionId, s: u8, peers: &[PeerId]) -> Option<PeerId> {
        peers.iter().find(|peer| self.neighbours.is_willing(**peer, rendition, s, now)).copied()
    }

    /// Whether a refusal of this request leaves a substream without a parent. Refused trials are many where uplinks are
    /// scarce, and not worth a connection.
    pub(super) fn orphans(&self, request: &InFlight) -> bool {
        let Some(t) = self.track_index(request.rendition, request.epoch) else { return false };
        let track = &self.tracks[t];
        let parent = track.substreams[usize::from(track.substream_of(request.number))].parent;
        request.purpose == Purpose::Next && parent.is_none_or(|parent| parent == request.to)
    }

    fn free_request(&mut self, request: &InFlight) {
        let Some(t) = self.track_index(request.rendition, request.epoch) else { return };
        let s = self.tracks[t].substream_of(request.number);
        let substream = &mut self.tracks[t].substreams[usize::from(s)];
        if substream.in_flight.is_some_and(|ahead| ahead.number == request.number) {
            substream.in_flight = None;
        }
    }

    /// Somebody else, or the origin, had a chunk the parent did not bring in time.
    pub(super) fn missed(&mut self, now: Now, t: usize, s: u8, had_it: Option<PeerId>, out: &mut Vec<Output>) {
        let rendition = self.tracks[t].rendition;
        let other = self.first_willing(now.mono, rendition, s, had_it.as_slice());
        let substream = &mut self.tracks[t].substreams[usize::from(s)];
        let Some(parent) = substream.parent else { return };
        if Some(parent) == had_it || substream.trial.is_some() {
            return;
        }
        tracing::debug!(?parent, other = ?had_it, substream = s, "parent late, trying another");
        self.doubt_parent(now.mono, t, s, other, out);
    }

    /// Takes back pull-ahead requests for chunks that came another way meanwhile. Returns whether that was to have been the
    /// proof of somebody on trial, who has failed.
    pub(super) fn cancel_if_here(&mut self, now: Now, t: usize, number: ChunkNumber, out: &mut Vec<Output>) -> bool {
        let track = &mut self.tracks[t];
        let (rendition, s) = (track.rendition, track.substream_of(number));
        let substream = &mut track.substreams[usize::from(s)];
        let Some(Ahead { to, .. }) = substream.in_flight.filter(|ahead| ahead.number == number) else { return false };
        if substream.trial == Some(to) {
            substream.trial = None;
            if let Some(neighbour) = self.neighbours.find_mut(to) {
                neighbour.refused(rendition, s, now.mono, &mut self.rng);
            }
            self.take_back_ahead(t, s, true, out);
            return true;
        }
        out.push(cancel(to, Cancel { epoch: track.epoch, rendition, number, leaves: false, feedback: None }));
        false
    }

    /// A neighbour is gone: its substreams are orphans, or go on with whom they try.
    pub(super) fn bereave(&mut self, now: Time, peer: PeerId) {
        for track in &mut self.tracks {
            for substream in &mut track.substreams {
                substream.trial = substream.trial.filter(|trial| *trial != peer);
                substream.in_flight = substream.in_flight.filter(|ahead| ahead.to != peer);
            }
            for substream in track.substreams.iter_mut().filter(|s| s.parent == Some(peer)) {
                match substream.trial.take() {
                    Some(trial) => (substream.parent, substream.noticed) = (Some(trial), false),
                    None => {
                        let root_gone = substream.path.len() == ROOT_CHILD_PATH;
                        substream.orphan(Time::ZERO);
                        substream.root_silent = root_gone;
                    }
                }
                track.repair_at = now;
            }
        }
    }

    /// Recomputes our place among the seeds.
    pub(super) fn rank_seeds(&mut self, now: Time, out: &mut Vec<Output>) {
        let fallback: Vec<(PeerId, u32)>;
        // Only a hint server's roster reaches others later than us; a newcomer that sees nobody yet is seed for a moment only.
        let signed = self.roster.as_ref().is_some_and(|roster| !roster.is_empty());
        let roster = match &self.roster {
            Some(roster) if !roster.is_empty() => roster,
            // Without a roster every viewer draws from those it sees; in a small swarm they see the same.
            Some(_) | None => {
                let seen = self.neighbours.iter().filter(|n| n.role == Some(Role::Viewer) && n.uplink_bps() > 0);
                let weight = |bps: u64| u32::try_from(bps / 1000).unwrap_or(u32::MAX).max(1);
                let own = (self.id, weight(self.uplink_told())); // as the others see it
                let serves = self.catalogue.as_ref().is_some_and(|c| c.serves);
                let own = (!serves && self.config.upload).then_some(own);
                fallback = seen.map(|n| (n.peer, weight(n.uplink_bps()))).chain(own).collect();
                &fallback
            }
        };
        for track in &mut self.tracks {
            for (s, substream) in track.substreams.iter_mut().enumerate() {
                let rank = seeding::rank(roster, track.rendition, s as u8, self.id);
                let was_seed = substream.rank == Some(0) && substream.seed_until == Time::ZERO;
                let hands_over = rank != Some(0) && if was_seed { signed } else { substream.seed_until > now };
                substream.seed_until = match (hands_over, was_seed) {
                    (true, true) => now + HANDOVER,
                    (true, false) => substream.seed_until,
                    (false, _) => Time::ZERO,
                };
                substream.rank = if hands_over { Some(0) } else { rank };
            }
            track.repair_at = track.repair_at.min(now);
        }
        self.dial_source_as_seed(now);
        let serves = self.catalogue.as_ref().is_some_and(|c| c.serves);
        let unserved = |t: usize, s: usize, peer: &Self| {
            let substream = &peer.tracks[t].substreams[s];
            !serves && substream.rank == Some(0) && substream.parent.is_some()
        };
        for t in 0..self.tracks.len() {
            for s in 0..self.tracks[t].substreams.len() {
                if unserved(t, s, self) {
                    self.abandon(t, s as u8, out);
                }
            }
        }
    }

    pub(super) fn pull_deadline(&self) -> Time {
        let waiting = |s: &super::track::Substream| {
            if s.in_flight.is_none() && s.parent.is_some() && !s.noticed { Time::NEVER } else { s.look_at }
        };
        self.tracks.iter().flat_map(|t| &t.substreams).map(waiting).min().unwrap_or(Time::NEVER)
    }
}

/// Longest ancestor path kept or told.
pub(super) const PATH_MAX: usize = 64;

/// What a viewer would cost as a parent, in seconds of delay; `None` if it has no path to the origin. A segment (or part)
/// comes as a burst, so a parent with a share of its slots taken is busy with it for about that share of its duration.
fn cost(neighbour: &Neighbour, track: &Track, substream: u8) -> Option<f64> {
    let told = neighbour.track_in(track.rendition, track.epoch)?;
    let depth = told.depth(substream)?;
    let status = neighbour.status.as_ref().filter(|s| s.uplink_bps > 0)?;
    let sends = track.chunk_bits() / status.uplink_bps as f64;
    let lag = told.lag(substream).unwrap_or(f64::from(depth) * HOP_COST);
    let full = if status.free_slots == 0 { FULL_COST } else { 0.0 };
    let proximity = track.pace.distance[usize::from(neighbour.proximity.min(3))];
    Some(lag + sends + proximity + f64::from(neighbour.strikes) * STRIKE_COST + full)
}
