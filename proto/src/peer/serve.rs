//! Answering neighbours' requests for chunks.

use crate::id::{ChunkNumber, Epoch, PeerId, RenditionId, RequestId};
use crate::time::{Now, Time};
use crate::wire::control::Cancel;
use crate::wire::{ChunkHeader, ChunkRequest, ChunkStatus, Kind, Role, path_digest};

use super::io::Output;
use super::neighbours::Neighbour;
use super::parents::PATH_MAX;
use super::places::{Limit, Standing};
use super::requests::InFlight;
use super::track::Track;
use super::uploads::{Child, HEIGHT_MAX, Knows, Parked, Ready, refusal};
use super::{Peer, seeding};

/// Peers named in a refusal.
pub(super) const INSTEAD_MAX: usize = 3;
/// Held requests of one neighbour: two for each of 32 substreams would be the most anyone needs; this many is plenty.
const PARKED_PER_NEIGHBOUR_MAX: usize = 32;
/// What receiving takes of the uplink, as a share of what is received: requests, acknowledgements, statuses (in the lab a
/// viewer of 1 Mbit/s sends some 60 kbit/s beside chunks).
const RECEIVING_COST: f64 = 0.06;
/// A viewer's uplink is measured, and it has neighbours, some seconds after it came (in the lab); while at least so many and
/// half the audience are that old, nobody younger becomes a root (guesses).
const SETTLED_AFTER: std::time::Duration = std::time::Duration::from_secs(10);
const SETTLED_MIN: usize = 4;
/// Below this an announcement of 1 KB for each of four neighbours is an eighth of a second of the uplink, bits per second.
const NARROW_BPS: f64 = 250_000.0;
/// Slots told at most; beyond it the number means nothing.
const SLOTS_MAX: usize = 512;

/// A request, when its answer is known.
struct Asked {
    from: PeerId,
    id: RequestId,
    kind: Kind,
    knows: Knows,
}

impl Peer {
    pub(super) fn requested(
        &mut self,
        now: Now,
        from: PeerId,
        id: RequestId,
        request: &ChunkRequest,
        out: &mut Vec<Output>,
    ) {
        let of = (request.rendition, request.epoch);
        let header = match self.track_index(request.rendition, request.epoch) {
            None => Some(ChunkHeader::without_chunk(ChunkStatus::Unknown)),
            Some(_) if !self.config.upload || self.neighbours.banned.contains(&from) => Some(refusal(Vec::new())),
            Some(t) => match request.kind {
                Kind::Get => self.serve_now(now, t, from, id, request),
                Kind::Next => self.serve_ahead(now, t, from, id, request),
            },
        };
        if let Some(header) = header {
            answer(id, of, header, out);
        }
    }

    /// A repair: at once or not at all.
    fn serve_now(
        &mut self,
        now: Now,
        t: usize,
        from: PeerId,
        id: RequestId,
        request: &ChunkRequest,
    ) -> Option<ChunkHeader> {
        let (number, track) = (request.number, &self.tracks[t]);
        let held = track.window.find(number).filter(|(segment, index)| segment.have.contains(*index));
        let Some((segment, index)) = held else {
            return Some(ChunkHeader::without_chunk(ChunkStatus::Unknown));
        };
        // Who would be answered later has better chances elsewhere.
        let len = segment.announcement.lengths[index];
        if !self.uploads.takes_repair(now.mono, len, self.uplink_bps(), track.pace.answer_within, self.uplink_unknown())
        {
            return Some(refusal(Vec::new()));
        }
        let asked = Asked { from, id, kind: Kind::Get, knows: Knows::of(request) };
        self.enqueue(now.mono, t, asked, number);
        None
    }

    /// A pull-ahead request: taken on, held, or refused.
    fn serve_ahead(
        &mut self,
        now: Now,
        t: usize,
        from: PeerId,
        id: RequestId,
        request: &ChunkRequest,
    ) -> Option<ChunkHeader> {
        let number = request.number;
        let track = &self.tracks[t];
        let (rendition, epoch, s) = (track.rendition, track.epoch, track.substream_of(number));
        if track.substreams[usize::from(s)].path.contains(&from.tag()) {
            return Some(ChunkHeader::without_chunk(ChunkStatus::Loop));
        }
        let source = self.config.role == Role::Source;
        let proven = |n: &&Neighbour| n.status.as_ref().is_some_and(|status| !status.guessed);
        // Below a root is a whole tree: no guess is believed there.
        let asker = self.neighbours.find(from).filter(|n| !source || proven(n));
        let uplink_bps = asker.map_or(0, Neighbour::uplink_bps);
        let child = Child::new(from, rendition, s, uplink_bps, now.mono);
        let child = if request.root_silent && source { child.below_silence() } else { child };
        let limit = self.limit(t);
        let was_silent = self.uploads.was_silent(now.mono, &child, limit);
        if let Some(feedback) = &request.feedback {
            self.uploads.report(now.mono, (from, rendition, s), feedback);
        }
        let roster = self.roster.as_ref().filter(|_| source && asker.is_some());
        let seed = roster.filter(|roster| seeding::rank(roster, rendition, s, from) == Some(0));
        // Whoever is able may stay a root for a while: below it is a whole tree. But nobody of all trees, nor for ever.
        let yields = |peer, had_turn| {
            seed.is_some_and(|roster| {
                had_turn && seeding::is_strong(roster, from) || seeding::is_abler(roster, from, peer)
            })
        };
        let is_new = seed.is_none() && !request.root_silent && self.is_too_new(now.mono, from);
        if !self.uploads.admit(child, limit, Standing { was_silent, is_new }, yields) {
            let instead = self.uploads.children_of(rendition, s).filter(|p| *p != from).take(INSTEAD_MAX).collect();
            return Some(refusal(instead));
        }
        let count = self.tracks[t].count();
        if let Some(held) = self.tracks[t].window.first_held(number, count) {
            if !self.uploads.has_room(from) {
                return Some(refusal(Vec::new()));
            }
            let asked = Asked { from, id, kind: Kind::Next, knows: Knows::of(request) };
            self.enqueue(now.mono, t, asked, held);
            return None;
        }
        let mut of_theirs = 0;
        self.uploads.unpark(|p| {
            of_theirs += usize::from(p.from == from);
            false
        });
        let parked = Parked::new(id, from, (rendition, epoch), s, number, now.mono, Knows::of(request));
        let held = of_theirs < PARKED_PER_NEIGHBOUR_MAX && self.uploads.park(parked);
        (!held).then(|| refusal(Vec::new()))
    }

    /// Whether the broadcaster leaves a free root's place to somebody else: newcomers ask first, and most of the audience is
    /// connected to it, so that whoever was fed by the root will ask.
    fn is_too_new(&self, now: Time, peer: PeerId) -> bool {
        let settled = |n: &Neighbour| n.role == Some(Role::Viewer) && now.since(n.since) >= SETTLED_AFTER;
        self.config.role == Role::Source
            && !self.neighbours.find(peer).is_some_and(settled)
            && self.neighbours.iter().filter(|n| settled(n)).count() >= (self.audience as usize / 2).max(SETTLED_MIN)
    }

    fn limit(&self, t: usize) -> Limit {
        match self.config.role {
            Role::Source => Limit::CopiesPerSubstream(self.config.source_copies),
            Role::Viewer => {
                let told = self.slots(t);
                let fullest_bps = self.offered_bps(self.tracks[t].pace.uplink_share_max);
                let one_more = told > 0 && !self.uplink_unknown() && self.fits(t, fullest_bps) > told;
                Limit::Slots { told, most: told + usize::from(one_more) }
            }
        }
    }

    /// How many substream children the uplink carries at this track's rate; so many are told of.
    fn slots(&self, t: usize) -> usize {
        self.fits(t, self.uplink_bps())
    }

    /// How many substreams of this track fit into `bps`.
    fn fits(&self, t: usize, bps: f64) -> usize {
        let track = &self.tracks[t];
        if track.is_leaf {
            return 0;
        }
        let Some(rate) = track.rate_bps() else { return usize::from(track.count()) };
        let per_child = (rate / f64::from(track.count())).max(1.0);
        ((bps / per_child) as usize).min(SLOTS_MAX)
    }

    /// Upload we offer, bits per second: less than we send at, or every chunk would wait for the one before it, and less what
    /// our own requests and acknowledgements take.
    pub(super) fn uplink_bps(&self) -> f64 {
        self.offered_bps(self.config.uplink_share)
    }

    fn offered_bps(&self, share: f64) -> f64 {
        (self.pace_bps() * share - self.received_bps() * RECEIVING_COST).max(0.0)
    }

    /// Rate of all that is followed, bits per second.
    fn received_bps(&self) -> f64 {
        self.tracks.iter().filter_map(Track::rate_bps).sum()
    }

    /// What we send at, bits per second: the person's limit or what the link carries, whichever is less.
    pub(super) fn pace_bps(&self) -> f64 {
        if !self.config.upload {
            return 0.0;
        }
        // A broadcaster's few copies need no pace, and tell little of its link.
        let own = match self.config.role {
            Role::Source => self.config.uplink_assumed_bps as f64,
            Role::Viewer => self.uploads.uplink().bps(),
        };
        self.config.upload_limit_bps.map_or(own, |limit| own.min(limit as f64))
    }

    pub(super) fn free_slots(&self) -> u16 {
        if !self.config.upload || self.config.role == Role::Source {
            return 0;
        }
        let slots = (0..self.tracks.len()).map(|t| self.slots(t)).min().unwrap_or(0);
        u16::try_from(slots.saturating_sub(self.uploads.child_count())).unwrap_or(u16::MAX)
    }

    /// Whether nobody told yet how chunks of ours arrive. A broadcaster's few copies need no care.
    pub(super) fn uplink_unknown(&self) -> bool {
        self.config.role == Role::Viewer && !self.uploads.uplink().is_known()
    }

    /// Whether our uplink is known to carry as much as we receive.
    pub(super) fn is_able(&self) -> bool {
        self.uploads.uplink().measured_bps().is_some() && self.pace_bps() >= self.received_bps()
    }

    /// Whether our uplink is so narrow that passing on announcements would fill it.
    pub fn is_narrow(&self) -> bool {
        self.config.role == Role::Viewer && self.uploads.uplink().bps() < NARROW_BPS
    }

    /// Whether neighbours can have something of us.
    pub(super) fn gives(&self) -> bool {
        let carries_a_child = self.config.role == Role::Source || (0..self.tracks.len()).all(|t| self.slots(t) > 0);
        self.config.upload && (carries_a_child || self.uploads.child_count() > 0)
    }

    /// Upload as neighbours and hint servers are told, bits per second: none if it isn't enough for one child, as repairs would
    /// come too late. Until it is measured no more than would give back what is received: by claiming more a newcomer would
    /// take the place of somebody able.
    pub(super) fn uplink_told(&self) -> u64 {
        if !self.gives() {
            return 0;
        }
        let known = self.config.role == Role::Source
            || self.tracks.is_empty()
            || self.uploads.uplink().measured_bps().is_some();
        if known { self.uplink_bps() as u64 } else { self.uplink_bps().min(self.received_bps()) as u64 }
    }

    /// How many hops there are below us in each substream, as told to neighbours; empty if there is nobody, or it doesn't matter.
    pub(super) fn heights(&self, track: &Track) -> Vec<u8> {
        if !track.pace.highest_first {
            return Vec::new();
        }
        let child = |s, peer| self.neighbours.find(peer).map_or(0, |n| height_of(n, track, s)) + 1;
        let below = |s| self.uploads.children_of(track.rendition, s).map(|peer| child(s, peer)).max().unwrap_or(0);
        let heights: Vec<u8> = (0..track.count()).map(below).collect();
        if heights.iter().all(|height| *height == 0) { Vec::new() } else { heights }
    }

    fn enqueue(&mut self, now: Time, t: usize, asked: Asked, number: ChunkNumber) {
        let track = &self.tracks[t];
        let Some((segment, index)) = track.window.find(number) else { return };
        let Asked { from, id, kind, knows } = asked;
        let (substream, ahead, asker) = (track.substream_of(number), kind == Kind::Next, self.neighbours.find(from));
        let below = || asker.filter(|_| ahead).map_or(0, |n| height_of(n, track, substream));
        self.uploads.enqueue(Ready {
            id,
            to: from,
            rendition: track.rendition,
            epoch: track.epoch,
            substream,
            number,
            len: segment.announcement.lengths[index],
            uplink_bps: asker.map_or(0, Neighbour::uplink_bps),
            height: track.pace.highest_first.then(below),
            since: now,
            ahead,
            knows,
        });
    }

    /// A chunk is here: whoever waits for it gets it.
    pub(super) fn release(&mut self, now: Time, t: usize, number: ChunkNumber) {
        let track = &self.tracks[t];
        let (rendition, epoch, s) = (track.rendition, track.epoch, track.substream_of(number));
        let waits = |p: &Parked| p.rendition == rendition && p.epoch == epoch && p.substream == s && p.number <= number;
        for parked in self.uploads.unpark(waits) {
            let Parked { from, id, knows, .. } = parked;
            self.enqueue(now, t, Asked { from, id, kind: Kind::Next, knows }, number);
        }
    }

    /// Sends what the uplink has room for, and gives held requests back in time.
    pub(super) fn send_ready(&mut self, now: Now, out: &mut Vec<Output>) {
        for parked in self.uploads.overdue(now.mono, self.config.park_timeout) {
            answer(parked.id, (parked.rendition, parked.epoch), ChunkHeader::without_chunk(ChunkStatus::Empty), out);
        }
        let rate = self.pace_bps();
        while let Some(ready) = self.uploads.next_send(now.mono, rate, self.uplink_unknown()) {
            let mut header = ChunkHeader::without_chunk(ChunkStatus::Chunk);
            header.number = Some(ready.number);
            // Who asks for exactly this chunk has heard of it, and has no use for our path.
            if ready.ahead {
                let path = self.path_told(ready.rendition, ready.substream);
                header.path = if ready.knows.path == Some(path_digest(&path)) { Vec::new() } else { path };
            }
            header.free_slots = self.free_slots();
            header.notice = self.uploads.must_go(now.mono, ready.to, ready.rendition, ready.substream);
            if header.notice {
                let others = self.uploads.children_of(ready.rendition, ready.substream);
                header.instead = others.take(INSTEAD_MAX).collect();
            }
            self.stats.sent_bytes += u64::from(ready.len);
            let (of, rides) = ((ready.rendition, ready.epoch), ready.ahead && !ready.knows.proof);
            out.push(Output::Answer { id: ready.id, header, of, rides });
        }
    }

    /// Ourselves and our ancestors, nearest first.
    fn path_told(&self, rendition: RenditionId, substream: u8) -> Vec<u32> {
        let own = std::iter::once(self.id.tag());
        let track = self.tracks.iter().find(|t| t.rendition == rendition);
        let path = track.and_then(|t| t.substreams.get(usize::from(substream))).map(|s| s.path.as_slice());
        own.chain(path.unwrap_or_default().iter().copied()).take(PATH_MAX).collect()
    }

    /// Our path changed: held requests of those who are now our ancestors would wait for themselves.
    pub(super) fn answer_loops(&mut self, request: &InFlight, out: &mut Vec<Output>) {
        let Some(t) = self.track_index(request.rendition, request.epoch) else { return };
        let track = &self.tracks[t];
        let (rendition, s) = (track.rendition, track.substream_of(request.number));
        let path = &track.substreams[usize::from(s)].path;
        let looped = |p: &Parked| p.rendition == rendition && p.substream == s && path.contains(&p.from.tag());
        for parked in self.uploads.unpark(looped) {
            answer(parked.id, (parked.rendition, parked.epoch), ChunkHeader::without_chunk(ChunkStatus::Loop), out);
        }
    }

    pub(super) fn cancelled(&mut self, now: Now, from: PeerId, cancel: &Cancel, out: &mut Vec<Output>) {
        let Cancel { rendition, number, leaves, .. } = *cancel;
        let before = out.len();
        // It may have asked again already, and that may have come first.
        let mut found = false;
        let oldest = |p: &Parked| {
            let first = !found && p.from == from && p.rendition == rendition && p.number == number;
            found |= first;
            first
        };
        for parked in self.uploads.unpark(oldest) {
            answer(parked.id, (parked.rendition, parked.epoch), ChunkHeader::without_chunk(ChunkStatus::Empty), out);
        }
        for ready in self.uploads.unqueue(|r| r.to == from && r.rendition == rendition && r.number == number) {
            answer(ready.id, (ready.rendition, ready.epoch), ChunkHeader::without_chunk(ChunkStatus::Empty), out);
        }
        let Some(track) = self.tracks.iter().find(|t| t.rendition == rendition) else { return };
        let substream = track.substream_of(number);
        if let Some(feedback) = &cancel.feedback {
            self.uploads.report(now.mono, (from, rendition, substream), feedback);
        }
        // Who found somebody better has nothing to complain of.
        if out.len() == before && !leaves {
            self.uploads.taken_back(now.mono, from, rendition, substream);
        }
        if leaves {
            self.uploads.left(now.mono, from, rendition, substream);
        }
    }

    /// The numbers of this rendition mean nothing any more.
    pub(super) fn answer_all_parked(&mut self, rendition: RenditionId, out: &mut Vec<Output>) {
        for parked in self.uploads.unpark(|p| p.rendition == rendition) {
            answer(parked.id, (parked.rendition, parked.epoch), ChunkHeader::without_chunk(ChunkStatus::Empty), out);
        }
    }

    pub(super) fn upload_set(&mut self, now: Now, enabled: bool, out: &mut Vec<Output>) {
        self.config.upload = enabled;
        if !enabled {
            for parked in self.uploads.unpark(|_| true) {
                answer(parked.id, (parked.rendition, parked.epoch), refusal(Vec::new()), out);
            }
            for ready in self.uploads.clear_queue() {
                answer(ready.id, (ready.rendition, ready.epoch), refusal(Vec::new()), out);
            }
        }
        self.contact.status_due(now.mono, std::time::Duration::ZERO);
    }
}

/// Answers without a chunk.
fn answer(id: RequestId, of: (RenditionId, Epoch), header: ChunkHeader, out: &mut Vec<Output>) {
    out.push(Output::Answer { id, header, of, rides: false });
}

/// How many hops a neighbour says there are below it, within bounds.
fn height_of(neighbour: &Neighbour, track: &Track, substream: u8) -> u8 {
    let told = neighbour.track_in(track.rendition, track.epoch);
    told.map_or(0, |told| told.height(substream)).min(HEIGHT_MAX)
}
