//! Whom we serve, in what order, and how fast: serial uploads under a limit.

use std::time::Duration;

use crate::id::{ChunkNumber, Epoch, PeerId, RenditionId, RequestId};
use crate::time::Time;
use crate::wire::{ChunkHeader, ChunkRequest, ChunkStatus, Feedback};

use super::places::{Limit, ROOT_SILENT_AFTER, SILENT_AFTER, Standing};
use super::uplink::Uplink;

/// Requests held, answers waiting, children taken on. All bounded, see the constants.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    parked: Vec<Parked>,
    queue: Vec<Ready>,
    children: Vec<Child>,
    busy_until: Time,
    /// When a repair was last sent.
    repaired: Option<Time>,
    /// How long answers wait for their turn, seconds: mean of late.
    pub(crate) wait: f64,
    uplink: Uplink,
}

/// A pull-ahead request that waits for its chunk.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    pub(crate) id: RequestId,
    pub(crate) from: PeerId,
    pub(crate) rendition: RenditionId,
    pub(crate) epoch: Epoch,
    pub(crate) substream: u8,
    pub(crate) number: ChunkNumber,
    since: Time,
    pub(crate) knows: Knows,
}

/// What somebody who asks for a chunk says it knows already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knows {
    /// What proves the chunk, see [`ChunkRequest::informed`].
    pub(crate) proof: bool,
    /// See [`ChunkRequest::path_known`].
    pub(crate) path: Option<u16>,
}

/// An answer that waits for its turn.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) id: RequestId,
    pub(crate) to: PeerId,
    pub(crate) rendition: RenditionId,
    pub(crate) epoch: Epoch,
    pub(crate) substream: u8,
    pub(crate) number: ChunkNumber,
    pub(crate) len: u32,
    /// The asker's own uplink.
    pub(crate) uplink_bps: u64,
    /// How many hops there are below the asker; `None`: the strongest first, whatever is below it.
    pub(crate) height: Option<u8>,
    /// Since when it waits.
    pub(crate) since: Time,
    /// Whether it was asked for ahead: only then its arrival is reported, and something told with it.
    pub(crate) ahead: bool,
    pub(crate) knows: Knows,
}

/// Somebody who takes a substream from us.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) peer: PeerId,
    pub(crate) rendition: RenditionId,
    pub(crate) substream: u8,
    pub(crate) uplink_bps: u64,
    pub(crate) since: Time,
    last: Time,
    /// When the newest chunk was sent to it.
    sent: Option<Time>,
    /// Since when it is told that it has to go: a stronger one has its place.
    leaving: Option<Time>,
    /// It may have the place of one that said nothing for so long.
    patience: Duration,
}

/// Requests held at most, over all neighbours: 16 neighbours × 8 substreams × 2.
const PARKED_MAX: usize = 256;
/// Answers waiting at most.
const QUEUE_MAX: usize = 256;
/// Answers of pull-ahead waiting for one neighbour: it has one request open in each of at most 32 substreams.
const QUEUE_PER_NEIGHBOUR_MAX: usize = 32;
/// What a further answer leaves of the mean wait: some two dozen count, a second or two of a busy uplink.
const WAIT_KEEP: f64 = 0.96;
/// A chunk that is taken back this long after it was sent was late by our fault: longer than a far child's round trip and
/// the chunk's own time on a link that can serve at all.
const LATE_AFTER: Duration = Duration::from_millis(500);
/// A child that did not ask for this long is none any more. Above `Config::park_timeout`.
const CHILD_EXPIRY: Duration = Duration::from_secs(12);
/// A child stays at least this long before a stronger one may replace it (a guess; keeps trees from churning).
const TENURE_MIN: Duration = Duration::from_secs(8);
/// After this long a root's place goes to the one drawn by lot if that is in the roster's stronger half, however able the root
/// is: it may be one that pollutes or brings nothing, which the broadcaster can't see (a guess; shorter ones move trees for
/// nothing).
const TURN: Duration = Duration::from_secs(60);
/// It is told after this long: by then the stronger one and its descendants know their new path, and aren't the weaker
/// one's descendants any more.
const NOTICE_AFTER: Duration = Duration::from_millis(1200);
/// A child silent for so long is none any more (a guess: twice what makes room for others).
const GONE_AFTER: Duration = Duration::from_secs(3);
/// Chunks sent and not reported at a time while nobody knows what the uplink carries: a slow one is jammed by more for seconds,
/// for its owner's own requests as well; a fast one's reports come after a round trip.
const UNKNOWN_OPEN_MAX: usize = 2;
/// Of what waits, what goes to somebody with others below it is sent before chunks that are this many older, for each hop: the last
/// of the longest way is the last of all (the critical path of list scheduling). So is what goes to a stronger uplink, for each
/// doubling of it: it will have others below it. With less of both the weak take turns with the strong where uplinks are scarce,
/// which no tree survives (measured, see tests/ABLATIONS.md).
const AHEAD_A_HOP: u64 = 10;
const AHEAD_A_DOUBLING: u64 = 4;
/// Hops believed to be below a child: more than in any tree of 100,000 (11 in the mean), and a limit to what a lie brings.
pub(super) const HEIGHT_MAX: u8 = 20;
/// How much stronger the newcomer must be (research notes §3.4).
const REPLACE_FACTOR: u64 = 2;

impl Uploads {
    pub(crate) fn new(assumed_bps: f64) -> Self {
        Self {
            parked: Vec::new(),
            queue: Vec::new(),
            children: Vec::new(),
            busy_until: Time::ZERO,
            repaired: None,
            wait: 0.0,
            uplink: Uplink::new(assumed_bps),
        }
    }

    /// Takes `child` on in a substream if there is room, or (a viewer) instead of a weaker one, or of one that `yields`: told who it is
    /// and whether it had its turn, being there for long or in two places more than `child`. Returns whether `child` is one now.
    pub(crate) fn admit(
        &mut self,
        child: Child,
        limit: Limit,
        standing: Standing,
        yields: impl Fn(PeerId, bool) -> bool,
    ) -> bool {
        let now = child.last;
        self.dismiss(|c| now.since(c.last) >= CHILD_EXPIRY || c.is_gone(now));
        if let Some(at) = self.children.iter().position(|c| c.is_same(&child)) {
            let goes = self.children[at].leaving.is_some_and(|since| now.since(since) >= limit.notice());
            let has_place = self.has_place(&child, limit);
            if (goes && !has_place) || self.is_surplus(at, limit) {
                self.dismiss(|c| c.is_same(&child));
                return false;
            }
            let known = &mut self.children[at];
            (known.last, known.uplink_bps) = (now, child.uplink_bps);
            match has_place {
                true => known.leaving = None,
                false if standing.was_silent => _ = known.leaving.get_or_insert(now),
                false => {}
            }
            return true;
        }
        if standing.is_new {
            return false;
        }
        if self.has_place(&child, limit) {
            self.children.push(child);
            return true;
        }
        let weakest = self.rivals(&child, limit).min_by_key(|c| c.uplink_bps).cloned();
        let Some(weakest) = weakest else { return false };
        // Whom a broadcaster feeds has a whole tree below it.
        let by_strength = matches!(limit, Limit::Slots { .. });
        let stronger = by_strength && child.uplink_bps >= weakest.uplink_bps.max(1).saturating_mul(REPLACE_FACTOR);
        let places = |peer| self.children.iter().filter(|c| c.peer == peer && c.leaving.is_none()).count();
        let crowded = places(weakest.peer) > places(child.peer) + 1;
        let had_its_turn = crowded || now.since(weakest.since) >= TURN;
        if yields(weakest.peer, had_its_turn) || (stronger && now.since(weakest.since) >= TENURE_MIN) {
            tracing::debug!(weaker = ?weakest.peer, substream = weakest.substream, "child replaced by a stronger one");
            self.give_notice(now, &weakest, limit);
            self.children.push(child);
            return true;
        }
        false
    }

    /// Whether this child said nothing for so long that somebody may have its place.
    pub(crate) fn was_silent(&self, now: Time, child: &Child, limit: Limit) -> bool {
        self.children.iter().any(|c| c.is_same(child) && c.is_unheard_for(now, limit.patience()))
    }

    /// Whether there is a place for `child` beside others who stay and can be heard.
    fn has_place(&self, child: &Child, limit: Limit) -> bool {
        let (Limit::Slots { most: max, .. } | Limit::CopiesPerSubstream(max)) = limit;
        self.rivals(child, limit).count() < max
    }

    /// Who takes room from `child`, which asks now.
    fn rivals<'a>(&'a self, child: &'a Child, limit: Limit) -> impl Iterator<Item = &'a Child> {
        let heard = move |c: &Child| !c.is_unheard_for(child.last, child.patience);
        let stays = move |c: &&Child| c.leaving.is_none() && heard(c) && limit.is_shared(c, child) && !c.is_same(child);
        self.children.iter().filter(stays)
    }

    /// A quarter more children than there is room for may be on their way out; beyond it the first must go at once.
    fn give_notice(&mut self, now: Time, weaker: &Child, limit: Limit) {
        let leaving = |c: &&Child| c.leaving.is_some() && limit.is_shared(c, weaker);
        if self.children.iter().filter(leaving).count() >= limit.leaving_max()
            && let Some(first) = self.children.iter().filter(leaving).min_by_key(|c| c.leaving).cloned()
        {
            self.dismiss(|c| c.is_same(&first));
        }
        let found = self.children.iter_mut().find(|c| c.is_same(weaker));
        found.into_iter().for_each(|child| child.leaving = Some(now));
    }

    /// Whether this child is to be told that it must go.
    pub(crate) fn must_go(&self, now: Time, peer: PeerId, rendition: RenditionId, substream: u8) -> bool {
        let told = |c: &Child| c.leaving.is_some_and(|since| now.since(since) >= NOTICE_AFTER);
        self.children.iter().any(|c| c.is(peer, rendition, substream) && told(c))
    }

    /// Whether the uplink turned out to carry fewer children, and this is one of the weakest. An eighth more than it should
    /// carry stay, so that they needn't go and come as the estimate wavers.
    fn is_surplus(&self, at: usize, limit: Limit) -> bool {
        let Limit::Slots { told, most } = limit else { return false };
        let place = |c: &Child| (c.uplink_bps, std::cmp::Reverse(c.since));
        let own = &self.children[at];
        let stay = || self.children.iter().filter(|c| c.leaving.is_none());
        own.leaving.is_none()
            && stay().count() > most.max(told + told / 8)
            && stay().filter(|c| place(c) > place(own)).count() >= told
    }

    /// Who takes this substream from us, and stays.
    pub(crate) fn children_of(&self, rendition: RenditionId, substream: u8) -> impl Iterator<Item = PeerId> + '_ {
        self.children
            .iter()
            .filter(move |c| c.rendition == rendition && c.substream == substream && c.leaving.is_none())
            .map(|c| c.peer)
    }

    pub(crate) fn serves(&self, peer: PeerId) -> bool {
        self.children.iter().any(|c| c.peer == peer)
    }

    pub(crate) fn child_count(&self) -> usize {
        self.children.len()
    }

    /// Holds a request until its chunk is here. Returns `false` if too many are held.
    pub(crate) fn park(&mut self, parked: Parked) -> bool {
        let room = self.parked.len() < PARKED_MAX;
        if room {
            self.parked.push(parked);
        }
        room
    }

    /// Whether a repair of `len` bytes would be sent within `time` at `rate_bps`, behind what waits. Nobody reports on repairs:
    /// one at a time while the uplink is `unknown`.
    pub(crate) fn takes_repair(&self, now: Time, len: u32, rate_bps: f64, time: Duration, unknown: bool) -> bool {
        let another =
            self.queue.iter().any(|r| !r.ahead) || self.repaired.is_some_and(|sent| now.since(sent) < SILENT_AFTER);
        if unknown && another {
            return false;
        }
        let queued: u64 = self.queue.iter().map(|r| u64::from(r.len)).sum();
        let busy = self.free_at(unknown).since(now).as_secs_f64();
        let sent = busy + (queued + u64::from(len)) as f64 * 8.0 / rate_bps.max(1.0);
        self.queue.len() < QUEUE_MAX && sent < time.as_secs_f64()
    }

    /// A child takes back what was sent already. If that was a while ago, it never got through our uplink.
    pub(crate) fn taken_back(&mut self, now: Time, from: PeerId, rendition: RenditionId, substream: u8) {
        let child = self.children.iter_mut().find(|c| c.is(from, rendition, substream));
        match child.and_then(|child| child.sent.take()) {
            Some(sent) if now.since(sent) >= LATE_AFTER => {
                self.uplink.late(now);
                self.uplink.undelivered(now, from, sent);
            }
            Some(_) => self.uplink.excuse(), // it came another way meanwhile
            None => {}
        }
    }

    /// A child goes elsewhere. If it waited for long for what was sent to it, that's why.
    pub(crate) fn left(&mut self, now: Time, peer: PeerId, rendition: RenditionId, substream: u8) {
        let goes = |c: &Child| c.is(peer, rendition, substream);
        for child in self.children.iter_mut().filter(|c| goes(c)) {
            if let Some(sent) = child.sent.take_if(|sent| now.since(*sent) >= LATE_AFTER) {
                self.uplink.undelivered(now, peer, sent);
            }
        }
        self.dismiss(goes);
    }

    /// Removes children that tell nothing any more, whatever was sent to them last.
    fn dismiss(&mut self, goes: impl Fn(&Child) -> bool) {
        for child in self.children.extract_if(.., |c| goes(c)).filter(|c| c.sent.is_some()) {
            tracing::trace!(peer = ?child.peer, "gone before it reported");
            self.uplink.excuse();
        }
    }

    /// Whether another answer to `peer` may wait.
    pub(crate) fn has_room(&self, peer: PeerId) -> bool {
        let theirs = self.queue.iter().filter(|r| r.to == peer).count();
        self.queue.len() < QUEUE_MAX && theirs < QUEUE_PER_NEIGHBOUR_MAX
    }

    pub(crate) fn enqueue(&mut self, ready: Ready) {
        self.queue.push(ready);
    }

    /// Takes out all answers that wait, and the children: nothing is passed on any more.
    pub(crate) fn clear_queue(&mut self) -> Vec<Ready> {
        self.children.clear();
        std::mem::take(&mut self.queue)
    }

    /// Takes out the answers that wait for which `pick` says yes.
    pub(crate) fn unqueue(&mut self, pick: impl Fn(&Ready) -> bool) -> Vec<Ready> {
        self.queue.extract_if(.., |ready| pick(ready)).collect()
    }

    /// Takes out the held requests for which `pick` says yes.
    pub(crate) fn unpark(&mut self, mut pick: impl FnMut(&Parked) -> bool) -> Vec<Parked> {
        let mut taken = Vec::new();
        self.parked.retain(|parked| {
            let take = pick(parked);
            if take {
                taken.push(parked.clone());
            }
            !take
        });
        taken
    }

    /// Held requests that were held long enough.
    pub(crate) fn overdue(&mut self, now: Time, timeout: Duration) -> Vec<Parked> {
        if self.parked.first().is_none_or(|p| now.since(p.since) < timeout) {
            return Vec::new();
        }
        self.unpark(|p| now.since(p.since) >= timeout)
    }

    /// When another answer may be sent: when the uplink is free, and, if `unknown`, not too much is on it.
    fn free_at(&self, unknown: bool) -> Time {
        if !unknown {
            return self.busy_until;
        }
        let waits = |c: &Child| c.sent.filter(|sent| c.last <= *sent); // who asked on has it
        let mut sent: Vec<Time> = self.children.iter().filter_map(waits).collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        let heard_at = sent.get(UNKNOWN_OPEN_MAX - 1).map_or(Time::ZERO, |sent| *sent + SILENT_AFTER);
        self.busy_until.max(heard_at)
    }

    /// The next answer to send, if the uplink is free; it is then busy for as long as the answer takes. `unknown`: nobody knows
    /// yet what it carries.
    pub(crate) fn next_send(&mut self, now: Time, rate_bps: f64, unknown: bool) -> Option<Ready> {
        if self.free_at(unknown) > now {
            return None;
        }
        let best = (0..self.queue.len()).min_by_key(|i| {
            let ready = &self.queue[*i];
            (ready.turn(), std::cmp::Reverse(ready.uplink_bps), ready.number, ready.id)
        })?;
        let ready = self.queue.swap_remove(best);
        self.wait = self.wait * WAIT_KEEP + now.since(ready.since).as_secs_f64() * (1.0 - WAIT_KEEP);
        let child = self.children.iter_mut().find(|c| c.is(ready.to, ready.rendition, ready.substream));
        if let Some(child) = child.filter(|_| ready.ahead) {
            child.sent = Some(now);
            self.uplink.sends(now);
        }
        if !ready.ahead {
            self.repaired = Some(now);
        }
        self.uplink.carries(now, ready.len);
        let takes = Duration::from_secs_f64(f64::from(ready.len) * 8.0 / rate_bps.max(1000.0));
        self.busy_until = now + takes;
        Some(ready)
    }

    /// Somebody is gone: so are its requests. The shell's answers to them would go nowhere.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.parked.retain(|p| p.from != peer);
        self.queue.retain(|r| r.to != peer);
        self.dismiss(|c| c.peer == peer);
        self.uplink.forget(peer);
    }

    /// A child's report of how our last chunk of a substream arrived.
    pub(crate) fn report(&mut self, now: Time, child: (PeerId, RenditionId, u8), feedback: &Feedback) {
        let (peer, rendition, substream) = child;
        let known = self.children.iter_mut().find(|c| c.is(peer, rendition, substream));
        // Without a chunk of ours it tells of somebody else's link.
        if let Some(sent) = known.and_then(|known| known.sent.take()) {
            self.uplink.report(now, peer, sent, feedback);
        }
    }

    /// To be called every now and then.
    pub(crate) fn doubt_old_reports(&mut self, now: Time) {
        self.uplink.doubt_old_reports(now);
    }

    /// What the uplink carries, bits per second.
    pub(crate) fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    pub(crate) fn deadline(&self, timeout: Duration, unknown: bool) -> Time {
        let send = if self.queue.is_empty() { Time::NEVER } else { self.free_at(unknown) };
        let park = self.parked.first().map_or(Time::NEVER, |p| p.since + timeout);
        send.min(park)
    }
}

impl Ready {
    /// The least is sent first.
    fn turn(&self) -> u64 {
        const MOST: u64 = AHEAD_A_HOP * HEIGHT_MAX as u64 + AHEAD_A_DOUBLING * u64::BITS as u64;
        let Some(height) = self.height else { return 0 };
        let doublings = u64::from(self.uplink_bps.max(1).ilog2());
        let ahead = AHEAD_A_HOP * u64::from(height) + AHEAD_A_DOUBLING * doublings;
        self.number.0.saturating_add(MOST.saturating_sub(ahead))
    }
}

impl Knows {
    pub(crate) fn of(request: &ChunkRequest) -> Self {
        Self { proof: request.informed, path: request.path_known }
    }
}

impl Parked {
    pub(crate) fn new(
        id: RequestId,
        from: PeerId,
        of: (RenditionId, Epoch),
        substream: u8,
        number: ChunkNumber,
        now: Time,
        knows: Knows,
    ) -> Self {
        Self { id, from, rendition: of.0, epoch: of.1, substream, number, since: now, knows }
    }
}

impl Child {
    pub(crate) fn new(peer: PeerId, rendition: RenditionId, substream: u8, uplink_bps: u64, now: Time) -> Self {
        let (sent, leaving, patience) = (None, None, SILENT_AFTER);
        Self { peer, rendition, substream, uplink_bps, since: now, last: now, sent, leaving, patience }
    }

    /// As [`Self::new`], fed by a root that is silent.
    pub(crate) fn below_silence(self) -> Self {
        Self { patience: ROOT_SILENT_AFTER, ..self }
    }

    fn is_gone(&self, now: Time) -> bool {
        self.is_unheard_for(now, GONE_AFTER)
    }

    fn is_unheard_for(&self, now: Time, time: Duration) -> bool {
        self.sent.is_some_and(|sent| self.last <= sent && now.since(sent) >= time)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.is(other.peer, other.rendition, other.substream)
    }

    fn is(&self, peer: PeerId, rendition: RenditionId, substream: u8) -> bool {
        self.peer == peer && self.rendition == rendition && self.substream == substream
    }
}

/// An answer without a chunk, naming who may have room instead.
pub(crate) fn refusal(instead: Vec<PeerId>) -> ChunkHeader {
    ChunkHeader { instead, ..ChunkHeader::without_chunk(ChunkStatus::Refused) }
}
