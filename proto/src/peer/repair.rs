//! Chunks that pull-ahead did not bring: asked of other neighbours, and near the deadline of the origin.

use std::time::Duration;

use crate::id::{ChunkNumber, PeerId};
use crate::time::{Now, Time};
use crate::wire::control::Cancel;
use crate::wire::{ChunkHeader, ChunkRequest, ChunkStatus, ControlRequest, Kind, Role, TrackStatus};

use super::io::Output;
use super::pace::Pace;
use super::requests::{InFlight, Purpose};
use super::track::{InVain, Substream, Track};
use super::window::Timing;
use super::{Peer, seeding};

/// How often to look while something is due and nobody could be asked. Well below the patience, above the cost of a look.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Repairs open with one neighbour at a time: enough to fill one round trip with 128 KiB chunks.
const OPEN_PER_NEIGHBOUR_MAX: usize = 4;
/// Repairs open in all (research notes, libp2p §9: 4–8 chunks a neighbour).
const OPEN_MAX: usize = 24;
/// Missing chunks looked at together.
const MISSING_MAX: usize = OPEN_MAX * 4;
/// Fetches from the origin open at once.
const ORIGIN_OPEN_MAX: usize = 4;
/// A parent that didn't refuse for so long has taken us on (a guess: some round trips).
const TAKEN_ON_AFTER: Duration = Duration::from_secs(2);
/// Failures in a row after which a neighbour is let go.
pub(super) const STRIKES_MAX: u8 = 5;
/// A neighbour that refused or did not answer is asked again after this.
const RETRY_FAILED: Duration = Duration::from_millis(1500);
/// So much later than its chunks usually come a neighbour has most of them, seconds (measured, see tests/ABLATIONS.md).
const HELD_MARGIN: f64 = 0.1;
/// Neighbours asked in vain for one chunk before it is left alone until one of them may be asked again: a fifth hardly
/// knows better (tests/ABLATIONS.md).
const TRIES_AT_ONCE: usize = 4;
/// Questions in vain remembered.
const IN_VAIN_MAX: usize = 128;

impl Peer {
    /// Asks for what is late. Runs on a timer whatever else happens, so that no cycle of waiting peers can form.
    pub(super) fn repair(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.config.role == Role::Source {
            return;
        }
        self.expire_repairs(now.mono, out);
        for t in 0..self.tracks.len() {
            if self.tracks[t].repair_at > now.mono {
                continue;
            }
            self.look_above(now, t, out);
            self.look_below(now.mono, t);
            let missing = self.missing(now.mono, t);
            self.tracks[t].repair_at = missing.iter().map(|m| m.look_at(now.mono)).min().unwrap_or(Time::NEVER);
            // Beyond so many there may be one that isn't among them.
            let origin_due = missing.len() == MISSING_MAX || missing.iter().any(|m| m.origin_at <= now.mono);
            for chunk in missing {
                if chunk.origin_at <= now.mono {
                    continue;
                }
                if chunk.repair_at <= now.mono {
                    self.ask_somebody(now, t, chunk.number, out);
                }
            }
            if origin_due {
                self.ask_origin(now, t, out);
            }
        }
    }

    /// Finds the substreams in which a tree hangs from us and we hang from nobody. What we get by repair comes too late for those
    /// below, who all repair as well: where uplinks are scarce most of a tree's work is in vain then.
    fn look_below(&mut self, now: Time, t: usize) {
        let track = &mut self.tracks[t];
        let Some(cut_off_after) = track.pace.cut_off_after else { return };
        let a_chunk = track.lasting(1).max(Duration::from_millis(1));
        let patience = cut_off_after.div_duration_f64(a_chunk).ceil() as u32;
        for (s, substream) in track.substreams.iter_mut().enumerate() {
            let taken_on = substream.parent.is_some() && now.since(substream.since) >= TAKEN_ON_AFTER;
            let unfed = u32::from(substream.elsewhere).checked_sub(patience);
            // The origin is quicker than any parent: one that has its own back is let bring a chunk now and then.
            let is_due = |unfed: u32| !taken_on || unfed % (patience + 1) < patience;
            substream.cut_off =
                unfed.is_some_and(is_due) && self.uploads.children_of(track.rendition, s as u8).next().is_some();
        }
    }

    /// Missing chunks of wanted segments, earliest deadline first.
    fn missing(&self, now: Time, t: usize) -> Vec<Missing> {
        let (track, served) = (&self.tracks[t], self.is_served());
        let wanted = track.window.segments.iter().filter(|s| s.wanted && !s.is_complete());
        let chunks = wanted.flat_map(|segment| {
            segment.open().map(move |(index, number)| {
                let Timing { heard, origin_at, .. } = segment.timing(index);
                let expected_of = track.expected_of(number);
                let patience = expected_of.map_or(0.0, |substream| substream.patience(track.pace.patience));
                let patient_until = heard + Duration::from_secs_f64(patience);
                Missing {
                    number,
                    repair_at: patient_until.max(track.asked_enough_until(number, now)),
                    origin_at: track.origin_at(number, origin_at, heard, served),
                }
            })
        });
        chunks.take(MISSING_MAX).collect()
    }

    /// The broadcaster sends chunks, and is connected.
    fn is_served(&self) -> bool {
        self.catalogue.as_ref().is_some_and(|c| c.serves) && self.neighbours.source().is_some()
    }

    fn ask_somebody(&mut self, now: Now, t: usize, number: ChunkNumber, out: &mut Vec<Output>) {
        let open = self.requests.count(|r| r.purpose == Purpose::Get);
        if open >= OPEN_MAX {
            return;
        }
        let Some(holder) = self.holder(now, t, number) else { return };
        let track = &mut self.tracks[t];
        let (rendition, epoch) = (track.rendition, track.epoch);
        if let Some((segment, index)) = track.window.find_mut(number) {
            segment.asked.insert(index);
        }
        let id =
            self.requests.open(InFlight { to: holder, rendition, epoch, number, purpose: Purpose::Get, at: now.mono });
        tracing::debug!(?holder, %number, "repair");
        let (kind, feedback, root_silent, informed, path_known) = (Kind::Get, None, false, true, None);
        let request = ChunkRequest { kind, epoch, rendition, number, feedback, root_silent, informed, path_known };
        out.push(Output::Request { id, to: holder, request });
    }

    /// A neighbour that by what it tells has the chunk, and wasn't just asked for it in vain: near, and with little open.
    fn holder(&mut self, now: Now, t: usize, number: ChunkNumber) -> Option<PeerId> {
        let (clock, now, track) = (self.clock.now(now), now.mono, &self.tracks[t]);
        let s = track.substream_of(number);
        let parent = track.expected_of(number).and_then(Substream::asked);
        let (segment, index) = track.window.find(number)?;
        // By the broadcaster's clock, and no less than by ours, should that one be set.
        let heard = now.since(segment.timing(index).heard).as_secs_f64();
        let age = clock.seconds_since(segment.announcement.stated(index)).max(heard);
        let open = |peer: PeerId| self.requests.count(|r| r.to == peer && r.purpose == Purpose::Get);
        let in_vain: Vec<PeerId> = track.asked_in_vain(number, now).collect();
        let held_after = track.pace.held_after.map(|after| after.as_secs_f64());
        let noise = self.rng.next_u64();
        let branch = track.substreams[usize::from(s)].branch(self.id);
        let is_child = |peer: PeerId| self.uploads.children_of(track.rendition, s).any(|child| child == peer);
        let candidates = self.neighbours.iter().filter_map(|n| {
            let able = n.role == Some(Role::Viewer) && n.uplink_bps() > 0 && Some(n.peer) != parent;
            let told = n.track_in(track.rendition, track.epoch).filter(|_| able)?;
            let after = told.lag(s).map(|lag| lag + HELD_MARGIN).or(held_after);
            let by_now = after.is_some_and(|after| age >= after);
            let holds = by_now || told.head.is_some_and(|head| head >= number);
            if !holds || in_vain.contains(&n.peer) {
                return None;
            }
            // Where the tree is cut off further up it waits with us.
            let waits_too = branch.is_some() && told.branch(s) == branch || is_child(n.peer);
            let open = open(n.peer);
            // Who is nearer the source in this substream has it earlier.
            let depth = told.depth(s).unwrap_or(TrackStatus::NO_PATH);
            let order = (waits_too, n.proximity > 1, open, depth, n.strikes, crate::rng::mix(n.digest ^ noise));
            (open < OPEN_PER_NEIGHBOUR_MAX).then_some((order, n.peer))
        });
        candidates.min_by_key(|(order, _)| *order).map(|(_, peer)| peer)
    }

    /// Fetches runs of chunks whose time has come from the origin.
    fn ask_origin(&mut self, now: Now, t: usize, out: &mut Vec<Output>) {
        let (mut open, mut runs, served) = (self.requests.at_origin(), Vec::new(), self.is_served());
        for (at, segment) in
            self.tracks[t].window.segments.iter().enumerate().filter(|(_, s)| s.wanted && !s.is_complete())
        {
            for (index, number) in segment.open() {
                let Timing { heard, origin_at, .. } = segment.timing(index);
                if self.tracks[t].origin_at(number, origin_at, heard, served) > now.mono {
                    continue;
                }
                match runs.last_mut() {
                    Some((last_at, _, end)) if *last_at == at && *end == number => *end = ChunkNumber(number.0 + 1),
                    Some(_) | None if open >= ORIGIN_OPEN_MAX => break,
                    Some(_) | None => {
                        open += 1;
                        runs.push((at, number, ChunkNumber(number.0 + 1)));
                    }
                }
            }
        }
        for (at, first, end) in runs {
            self.fetch_origin(now, t, at, first, end, out);
        }
    }

    fn fetch_origin(
        &mut self,
        now: Now,
        t: usize,
        at: usize,
        first: ChunkNumber,
        end: ChunkNumber,
        out: &mut Vec<Output>,
    ) {
        let track = &mut self.tracks[t];
        let (rendition, epoch) = (track.rendition, track.epoch);
        let segment = &mut track.window.segments[at];
        for number in first.0..end.0 {
            if let Some(index) = segment.announcement.index_of(ChunkNumber(number)) {
                segment.at_origin.insert(index);
            }
        }
        let announcement = segment.announcement.clone();
        let purpose = Purpose::Origin { end };
        let id = self.requests.open(InFlight { to: self.id, rendition, epoch, number: first, purpose, at: now.mono });
        tracing::debug!(%first, %end, "origin asked");
        self.stats.origin_fetches += 1;
        out.push(Output::FetchOrigin { id, announcement, first, end });
    }

    /// A fetch from the origin ended: what it did not bring is open again.
    pub(super) fn origin_ended(&mut self, now: Now, request: &InFlight, complete: bool, took: Duration) {
        let Purpose::Origin { end } = request.purpose else { return };
        if complete {
            self.origin_took = self.origin_took.mul_f64(0.8) + took.mul_f64(0.2);
        }
        let retry = now.mono + Duration::from_millis(300) + self.rng.jitter(Duration::from_millis(300));
        let Some(t) = self.track_index(request.rendition, request.epoch) else { return };
        let track = &mut self.tracks[t];
        if let Some((segment, _)) = track.window.find_mut(request.number) {
            for number in request.number.0..end.0 {
                if let Some(index) = segment.announcement.index_of(ChunkNumber(number)) {
                    segment.at_origin.remove(index);
                }
            }
            if !complete {
                track.origin_retry = retry;
                segment.spans.iter_mut().for_each(|span| span.timing.origin_at = span.timing.origin_at.max(retry));
            }
        }
        track.repair_at = now.mono;
    }

    /// A chunk is here: whoever else was asked for it needn't send it.
    pub(super) fn cancel_repairs(&mut self, t: usize, number: ChunkNumber, out: &mut Vec<Output>) {
        let rendition = self.tracks[t].rendition;
        let open = |r: &InFlight| r.purpose == Purpose::Get && r.number == number && r.rendition == rendition;
        let idle: Vec<_> = self.requests.iter().filter(|(_, r)| open(r)).map(|(id, _)| *id).collect();
        out.extend(idle.into_iter().filter_map(|id| self.requests.close(id)).map(|request| take_back(&request)));
    }

    /// A repair ended without a chunk.
    pub(super) fn unrepaired(&mut self, now: Now, request: &InFlight, header: Option<&ChunkHeader>) {
        let failed = header.is_none_or(|h| h.status == ChunkStatus::Refused);
        if self.track_index(request.rendition, request.epoch).is_none() {
            return; // nothing of it is wanted any more, and nobody is blamed
        }
        if let Some(neighbour) = self.neighbours.find_mut(request.to) {
            neighbour.strikes = neighbour.strikes.saturating_add(u8::from(failed));
        }
        self.reopen(now.mono, request, !failed);
    }

    /// A neighbour is gone: answers to what it was asked would confuse what is asked of others now.
    pub(super) fn close_requests_to(&mut self, now: Now, peer: PeerId) {
        let asked = |r: &InFlight| r.to == peer && matches!(r.purpose, Purpose::Next | Purpose::Get);
        let gone: Vec<_> = self.requests.iter().filter(|(_, r)| asked(r)).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(request) = self.requests.close(id).filter(|r| r.purpose == Purpose::Get) {
                self.reopen(now.mono, &request, false);
            }
        }
    }

    fn reopen(&mut self, now: Time, request: &InFlight, lacks: bool) {
        let Some(t) = self.track_index(request.rendition, request.epoch) else { return };
        let track = &mut self.tracks[t];
        if let Some((segment, index)) = track.window.find_mut(request.number) {
            segment.asked.remove(index);
        }
        let until = now + if lacks { track.pace.retry_unknown } else { RETRY_FAILED };
        track.in_vain.retain(|asked| asked.until > now);
        track.in_vain.push(InVain { number: request.number, of: request.to, lacks, until });
        if track.in_vain.len() > IN_VAIN_MAX {
            track.in_vain.drain(..IN_VAIN_MAX / 2);
        }
        track.repair_at = now;
    }

    /// Repairs without an answer for too long are asked of somebody else too.
    fn expire_repairs(&mut self, now: Time, out: &mut Vec<Output>) {
        let due = |r: &InFlight| r.purpose == Purpose::Get && now >= self.answer_due(r);
        let overdue: Vec<_> = self.requests.iter().filter(|(_, r)| due(r)).map(|(id, _)| *id).collect();
        for id in overdue {
            if let Some(request) = self.requests.close(id) {
                let slow = now >= self.slow_from(&request);
                if let Some(neighbour) = self.neighbours.find_mut(request.to).filter(|_| slow) {
                    neighbour.strikes = neighbour.strikes.saturating_add(1);
                }
                self.reopen(now, &request, false);
                out.push(take_back(&request));
            }
        }
    }

    /// When an open repair is waited for no longer: it is slow, or only the origin can bring the chunk in time.
    fn answer_due(&self, repair: &InFlight) -> Time {
        let track = self.track_index(repair.rendition, repair.epoch).map(|t| &self.tracks[t]);
        let found = track.and_then(|track| track.window.find(repair.number));
        let last = found.map_or(Time::NEVER, |(segment, index)| segment.timing(index).last);
        let slow = self.slow_from(repair);
        if last > repair.at { last.min(slow) } else { slow }
    }

    fn slow_from(&self, repair: &InFlight) -> Time {
        let track = self.track_index(repair.rendition, repair.epoch);
        repair.at + track.map_or(Duration::ZERO, |t| self.tracks[t].pace.answer_within)
    }

    /// When to ask whom for what must be here within `time` of `heard`.
    pub(super) fn timing(&mut self, heard: Time, time: Duration, pace: Pace) -> Timing {
        let fetch = self.origin_took.mul_f64(pace.origin_factor) + pace.origin_margin;
        let last = (heard + time).before(fetch).max(heard);
        let spread = last.since(heard).mul_f64(self.config.origin_spread_share);
        let wait = seeding::staggered(spread, self.audience.max(1), self.rng.unit());
        Timing { heard, origin_at: last.before(spread) + wait, last }
    }

    pub(super) fn repair_deadline(&self) -> Time {
        let slow = self.requests.iter().filter(|(_, r)| r.purpose == Purpose::Get).map(|(_, r)| self.answer_due(r));
        let tracks = self.tracks.iter().map(|t| t.repair_at);
        slow.chain(tracks).min().unwrap_or(Time::NEVER)
    }
}

impl Track {
    /// When our timer lets us fetch a chunk from the origin: at once when cut off; at once as its seed, a little later as the
    /// backup, unless the broadcaster serves us.
    fn origin_at(&self, number: ChunkNumber, timer: Time, heard: Time, served: bool) -> Time {
        let substream = &self.substreams[usize::from(self.substream_of(number))];
        match substream.rank {
            _ if substream.cut_off => heard.max(self.origin_retry),
            Some(0) if !served => heard.max(self.origin_retry),
            Some(1) if !served => timer.min(heard + self.pace.backup_wait),
            Some(_) | None => timer,
        }
    }

    /// Questions in vain that aren't to be asked again yet.
    fn lately_in_vain(&self, now: Time) -> impl Iterator<Item = &InVain> {
        self.in_vain.iter().filter(move |asked| asked.until > now)
    }

    /// Who was asked for a chunk in vain just now, or for a later one and lacks that, both of before we came: whoever comes has
    /// what is announced from then on.
    fn asked_in_vain(&self, number: ChunkNumber, now: Time) -> impl Iterator<Item = PeerId> {
        let is_old = !self.pulls_ahead(number);
        let begins_later =
            move |asked: &InVain| is_old && asked.lacks && asked.number > number && !self.pulls_ahead(asked.number);
        let spared = move |asked: &&InVain| asked.number == number || begins_later(asked);
        self.lately_in_vain(now).filter(spared).map(|asked| asked.of)
    }

    /// When a chunk may be asked for again, after several neighbours just said they don't have it.
    fn asked_enough_until(&self, number: ChunkNumber, now: Time) -> Time {
        if self.in_vain.len() < TRIES_AT_ONCE {
            return Time::ZERO;
        }
        let in_vain = self.lately_in_vain(now).filter(|asked| asked.number == number).map(|asked| asked.until);
        let (count, first) = in_vain.fold((0, Time::NEVER), |(count, first), until| (count + 1, first.min(until)));
        if count < TRIES_AT_ONCE { Time::ZERO } else { first }
    }
}

/// Tells who was asked that it needn't answer.
fn take_back(request: &InFlight) -> Output {
    let InFlight { epoch, rendition, number, .. } = *request;
    cancel(request.to, Cancel { epoch, rendition, number, leaves: false, feedback: None })
}

/// Takes something back that `to` was asked for.
pub(super) fn cancel(to: PeerId, cancel: Cancel) -> Output {
    Output::Tell { to, request: Box::new(ControlRequest { cancel: Some(cancel), ..ControlRequest::none() }) }
}

/// A chunk to be repaired.
struct Missing {
    number: ChunkNumber,
    /// When to ask another neighbour.
    repair_at: Time,
    /// When to ask the origin.
    origin_at: Time,
}

impl Missing {
    /// When to look again: at once when something is due then, every so often while what is due can't be had.
    fn look_at(&self, now: Time) -> Time {
        let due = self.repair_at.min(self.origin_at);
        if due > now { due } else { now + LOOK_EVERY }
    }
}
