//! A participant of a stream: viewer or broadcaster. Decides everything, does nothing.
//!
//! Feed it an [`Input`] with [`Peer::handle`], carry out the [`Output`]s, and call again at [`Peer::deadline`].
//! It knows chunks by name, size and state; payloads, hashes and signatures are the shell's.
//!
//! | file | sub-protocol |
//! |---|---|
//! | `neighbours` | whom we know and whom we are connected to |
//! | `contact` | first contact, statuses, hints: what keeps `neighbours` true |
//! | `track`, `window` | one rendition: its segments, its substreams |
//! | `pace` | how quick all of that has to be |
//! | `parents` | pull-ahead: a parent for each substream |
//! | `repair` | late chunks: other neighbours, then the origin |
//! | `uploads`, `places`, `serve` | whom we serve, in what order |
//! | `uplink` | how fast |
//! | `seeding` | who takes first copies |
//! | `clock` | the broadcaster's clock |

mod clock;
mod contact;
mod io;
mod neighbours;
mod pace;
mod parents;
mod places;
mod repair;
mod requests;
pub mod seeding;
mod serve;
mod track;
mod uplink;
mod uploads;
mod window;

use std::sync::Arc;
use std::time::Duration;

pub use io::{Input, Outcome, Output};

use crate::config::Config;
use crate::id::{ChunkNumber, Epoch, PeerId, RenditionId, SegmentNumber};
use crate::rng::Rng;
use crate::stats::Stats;
use crate::time::{Now, Time, WallTime};
use crate::wire::{Announcement, Catalogue, Role};
use clock::StreamClock;
use neighbours::Neighbours;
use pace::Pace;
use requests::{Purpose, Requests};
use track::Track;
use uploads::Uploads;
use window::{Segment, Timing};

/// Renditions followed at once: one picture, one sound, one subtitle, and the next of each while switching.
const TRACKS_MAX: usize = 8;

/// How often neighbours are asked for announcements that were missed before one that came. Who was cut off for longer than
/// their windows reach asks in vain.
const HOLE_ASKS: u8 = 3;

/// The machine.
#[derive(Debug, Clone)]
pub struct Peer {
    id: PeerId,
    config: Config,
    rng: Rng,
    clock: StreamClock,
    catalogue: Option<Arc<Catalogue>>,
    tracks: Vec<Track>,
    neighbours: Neighbours,
    requests: Requests,
    uploads: Uploads,
    contact: contact::Contact,
    roster: Option<Vec<(PeerId, u32)>>,
    roster_term: u64,
    audience: u32,
    origin_took: Duration,
    /// Until then nothing is due but uploads, unless something happens.
    quiet_until: Time,
    stats: Stats,
}

impl Peer {
    /// A peer that behaves identically for identical `seed` and inputs.
    pub fn new(id: PeerId, config: Config, seed: u64) -> Self {
        let source = config.role == Role::Source;
        Self {
            id,
            rng: Rng::new(seed),
            clock: if source { StreamClock::exact() } else { StreamClock::assumed() },
            catalogue: None,
            tracks: Vec::new(),
            neighbours: Neighbours::default(),
            requests: Requests::default(),
            uploads: Uploads::new(config.uplink_assumed_bps as f64),
            contact: contact::Contact::default(),
            roster: None,
            roster_term: 0,
            audience: 20,
            origin_took: config.origin_fetch_assumed,
            quiet_until: Time::ZERO,
            stats: Stats::default(),
            config,
        }
    }

    /// Feeds one input at `now`; what the world must do is appended to `out`.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        tracing::trace!(?input, "in");
        // Most inputs concern uploads alone, and looking at everything else costs the most.
        let stirs = !matches!(
            input,
            Input::Tick | Input::Requested { .. } | Input::Cancelled { .. } | Input::StatusTold { .. }
        );
        match input {
            Input::Tick => {}
            Input::Connected { peer } => self.connected(now, peer, out),
            Input::Disconnected { peer } => self.disconnected(now, peer),
            Input::Greeted { peer, hello, round_trip } => self.greeted(now, peer, &hello, round_trip, out),
            Input::StatusTold { peer, status } => self.status_told(now, peer, status, out),
            Input::Introduced { infos } => self.introduced(infos),
            Input::Left { peer } => out.push(Output::Disconnect { peer }),
            Input::Hinted { response } => self.hinted(now, *response, out),
            Input::HintsFailed => self.hints_failed(now),
            Input::RosterHeld { roster } => self.roster_held(now, &roster, out),
            Input::CatalogueHeld { catalogue } => self.catalogue_held(now, catalogue, out),
            Input::Announced { announcement } => self.announced(now, announcement, false),
            Input::Produced { announcement } => self.announced(now, announcement, true),
            Input::Followed { rendition } => self.follow(now, rendition, out),
            Input::Unfollowed { rendition } => self.unfollow(rendition, out),
            Input::Wanted { rendition, epoch, segment, first } => self.wanted(now, rendition, epoch, segment, first),
            Input::Requested { from, id, request } => self.requested(now, from, id, &request, out),
            Input::Cancelled { from, cancel } => self.cancelled(now, from, &cancel, out),
            Input::Responded { id, outcome } => self.responded(now, id, &outcome, out),
            Input::Checked { rendition, epoch, number, from, genuine } => {
                self.checked(now, rendition, epoch, number, from, genuine, out);
            }
            Input::Kept { rendition, epoch, number } => self.kept(now.mono, rendition, epoch, number),
            Input::Misbehaved { peer, reason } => self.ban(now, peer, reason, out),
            Input::Dropped { rendition, epoch, number } => self.dropped(now, rendition, epoch, number),
            Input::OriginEnded { id, complete, took } => {
                if let Some(request) = self.requests.close(id) {
                    self.origin_ended(now, &request, complete, took);
                }
            }
            Input::UploadSet { enabled } => self.upload_set(now, enabled, out),
        }
        if stirs || self.quiet_until <= now.mono {
            self.tracks.iter_mut().for_each(Track::refresh_rate);
            self.keep_contact(now, out); // first: a new place among the seeds orphans substreams
            self.pull_ahead(now, out);
            self.repair(now, out);
            self.quiet_until = self.next_stir();
        }
        self.send_ready(now, out);
    }

    /// When contacts, parents or repairs need looking after again.
    fn next_stir(&self) -> Time {
        let source = self.config.role == Role::Source;
        let pull = if source { Time::NEVER } else { self.pull_deadline().min(self.repair_deadline()) };
        pull.min(self.contact_deadline())
    }

    /// When to call again with [`Input::Tick`] if nothing else happens.
    pub fn deadline(&self) -> Time {
        self.quiet_until.min(self.uploads.deadline(self.config.park_timeout, self.uplink_unknown()))
    }

    /// Counters since the beginning.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Peers we hold a connection to, the broadcaster included.
    pub fn neighbour_count(&self) -> usize {
        self.neighbours.iter().count()
    }

    /// The broadcaster's clock, as far as we can tell.
    pub fn stream_time(&self, now: Now) -> WallTime {
        self.clock.now(now)
    }

    /// Hops from the origin in each substream of the first rendition followed.
    pub fn depths(&self, now: Time) -> Vec<u8> {
        self.tracks.first().map(|t| t.depths(now)).unwrap_or_default()
    }

    /// Who feeds each substream of the first rendition followed.
    pub fn parents(&self) -> Vec<Option<PeerId>> {
        self.tracks.first().map(|t| t.substreams.iter().map(|s| s.parent).collect()).unwrap_or_default()
    }

    /// Substreams we pass on: children over all substreams.
    pub fn child_count(&self) -> usize {
        self.uploads.child_count()
    }

    /// Upload limit in force, bits per second: the person's, or what was measured.
    pub fn upload_limit_bps(&self) -> Option<u64> {
        let measured = self.uploads.uplink().measured_bps().map(|bps| bps as u64);
        match (self.config.upload_limit_bps, measured) {
            (Some(limit), Some(measured)) => Some(limit.min(measured)),
            (limit, measured) => limit.or(measured),
        }
    }

    fn track_index(&self, rendition: RenditionId, epoch: Epoch) -> Option<usize> {
        self.tracks.iter().position(|t| t.rendition == rendition && t.epoch == epoch)
    }

    fn catalogue_held(&mut self, now: Now, catalogue: Arc<Catalogue>, out: &mut Vec<Output>) {
        let newer = self.catalogue.as_ref().is_none_or(|c| (c.epoch, c.version) < (catalogue.epoch, catalogue.version));
        if !newer {
            return;
        }
        let epoch = catalogue.epoch;
        let known: Vec<RenditionId> = catalogue.renditions.iter().map(|r| r.id).collect();
        self.catalogue = Some(catalogue);
        let stale: Vec<RenditionId> = self.tracks.iter().filter(|t| t.epoch < epoch).map(|t| t.rendition).collect();
        for rendition in stale {
            self.restart_track(now, rendition, known.contains(&rendition), out);
        }
        if self.config.role == Role::Source {
            for rendition in known {
                self.follow(now, rendition, out);
            }
        }
        self.rank_seeds(now.mono, out);
    }

    /// The broadcaster began anew: the old numbers mean nothing any more.
    fn restart_track(&mut self, now: Now, rendition: RenditionId, goes_on: bool, out: &mut Vec<Output>) {
        self.answer_all_parked(rendition, out);
        self.tracks.retain(|t| t.rendition != rendition);
        self.neighbours.forget_refusals(rendition);
        if let (true, Some(catalogue)) = (goes_on, &self.catalogue) {
            // What was said before its catalogue got here is news all the same.
            let since = catalogue.issued.min(self.clock.now(now));
            self.add_track(now.mono, rendition, since);
        }
    }

    fn follow(&mut self, now: Now, rendition: RenditionId, out: &mut Vec<Output>) {
        if self.tracks.iter().any(|t| t.rendition == rendition) || self.tracks.len() >= TRACKS_MAX {
            return;
        }
        if self.add_track(now.mono, rendition, self.clock.now(now)) {
            out.push(Output::Subscribe { rendition });
            self.contact.status_due(now.mono, Duration::ZERO);
            let newcomer = self.neighbours.viewers() == 0; // not somebody whose player changed the rendition
            self.tracks.last_mut().into_iter().for_each(|track| track.is_leaf = newcomer);
            self.rank_seeds(now.mono, out);
        }
    }

    fn add_track(&mut self, now: Time, rendition: RenditionId, joined: WallTime) -> bool {
        let Some(catalogue) = &self.catalogue else { return false };
        let Some(shape) = catalogue.rendition(rendition) else { return false };
        self.tracks.push(Track::new(shape, catalogue.epoch, Pace::of(shape, &self.config), joined, now));
        true
    }

    fn unfollow(&mut self, rendition: RenditionId, out: &mut Vec<Output>) {
        let Some(t) = self.tracks.iter().position(|t| t.rendition == rendition) else { return };
        for s in 0..self.tracks[t].count() {
            self.abandon(t, s, out);
        }
        self.answer_all_parked(rendition, out);
        self.tracks.remove(t);
        out.push(Output::Unsubscribe { rendition });
    }

    fn announced(&mut self, now: Now, announcement: Arc<Announcement>, produced: bool) {
        let Some(t) = self.track_index(announcement.rendition, announcement.epoch) else { return };
        let (heard, keep) = (now.mono, self.config.window);
        let pace = self.tracks[t].pace;
        let timing = self.timing(heard, pace.due, pace);
        let track = &mut self.tracks[t];
        let live = announcement.announced >= track.joined || track.window.is_rhythmic(&announcement, heard);
        let (first, end) = (announcement.first_chunk, announcement.end_chunk());
        let known = track.window.segment_mut(announcement.segment).filter(|s| announcement.continues(&s.announcement));
        let fresh = match known {
            Some(known) => {
                let fresh = known.grow(announcement, timing);
                if live && !known.wanted {
                    known.want(timing);
                }
                fresh
            }
            None => {
                let fresh = 0..announcement.lengths.len();
                if !track.window.add(Segment::new(announcement, timing, live), keep) {
                    return;
                }
                if track.window.has_hole_before(end) {
                    track.hole_asks = HOLE_ASKS;
                }
                fresh
            }
        };
        let begin = if live { first } else { end };
        track.from = Some(match track.from {
            Some(from) if live => from,
            Some(from) => from.max(begin),
            None => begin,
        });
        track.repair_at = heard;
        if !fresh.is_empty() {
            track.heard_news(heard);
        }
        let fresh = first.0 + fresh.start as u64..first.0 + fresh.end as u64;
        self.fresh_chunks(heard, t, fresh.map(ChunkNumber), produced);
    }

    /// Chunks that were just announced: our own, or on their way here, or still to come.
    fn fresh_chunks(&mut self, now: Time, t: usize, numbers: impl Iterator<Item = ChunkNumber>, produced: bool) {
        for number in numbers {
            let track = &mut self.tracks[t];
            let early = track.unchecked.iter().position(|u| u.number == number).map(|at| track.unchecked.remove(at));
            let Some((segment, index)) = track.window.find_mut(number) else { continue };
            if produced {
                segment.have.insert(index);
                self.release(now, t, number);
            } else if early.is_some() {
                segment.asked.insert(index);
            }
        }
    }

    fn wanted(&mut self, now: Now, rendition: RenditionId, epoch: Epoch, number: SegmentNumber, first: bool) {
        let Some(t) = self.track_index(rendition, epoch) else { return };
        let pace = self.tracks[t].pace;
        let timing = self.timing(now.mono, pace.catch_up, pace);
        let track = &mut self.tracks[t];
        let Some(segment) = track.window.segment_mut(number) else { return };
        if segment.is_complete() {
            return;
        }
        if !segment.wanted {
            segment.want(timing);
        }
        if first {
            // The picture waits for this one: no time for anybody but the origin. In low latency what else was announced before
            // we came is due within a part or two of it, before neighbours are found.
            let at_once = Timing::now(now.mono);
            segment.spans.iter_mut().for_each(|span| span.timing = at_once);
            let by_parts = !segment.announcement.parts.is_empty();
            let follows = |s: &&mut Segment| by_parts && !s.wanted && s.announcement.segment > number;
            track.window.segments.iter_mut().filter(follows).for_each(|s| s.want(at_once));
        }
        track.repair_at = now.mono;
    }

    fn responded(&mut self, now: Now, id: crate::RequestId, outcome: &Outcome, out: &mut Vec<Output>) {
        let Some(request) = self.requests.find(id).cloned() else { return };
        self.requests.close(id);
        if let Outcome::Chunk { header, .. } | Outcome::Without(header) = outcome
            && !header.introduced.is_empty()
            && (header.notice || self.orphans(&request))
        {
            self.meet(&header.introduced);
        }
        match (outcome, request.purpose) {
            (Outcome::Chunk { header, len, spread }, Purpose::Next) => {
                if !self.fed(now, &request, header, *len, *spread, out) {
                    self.ban(now, request.to, "answered with another chunk than was asked for", out);
                }
                self.answer_loops(&request, out);
            }
            (Outcome::Chunk { header, .. }, Purpose::Get) => {
                if header.number != Some(request.number) {
                    self.unrepaired(now, &request, None);
                    self.ban(now, request.to, "answered with another chunk than was asked for", out);
                }
            }
            (Outcome::Without(header), Purpose::Next) => self.unfed(now, &request, header),
            (Outcome::Without(header), Purpose::Get) => self.unrepaired(now, &request, Some(header)),
            (Outcome::Failed, Purpose::Next) => {
                self.refused_by(now, &request, &[]);
                self.strike(request.to, out);
            }
            (Outcome::Failed, Purpose::Get) => {
                self.unrepaired(now, &request, None);
                self.strike(request.to, out);
            }
            (Outcome::Malformed, Purpose::Next | Purpose::Get) => {
                self.unrepaired(now, &request, None);
                self.ban(now, request.to, "sent a malformed answer", out);
            }
            (_, Purpose::Origin { .. }) => {}
        }
    }

    #[allow(clippy::too_many_arguments)] // the fields of one input
    fn checked(
        &mut self,
        now: Now,
        rendition: RenditionId,
        epoch: Epoch,
        number: ChunkNumber,
        from: Option<PeerId>,
        genuine: bool,
        out: &mut Vec<Output>,
    ) {
        self.stats.rejected_chunks += u64::from(!genuine);
        if let (Some(peer), false) = (from, genuine) {
            self.ban(now, peer, "sent bytes the broadcaster did not sign", out);
        }
        let Some(t) = self.track_index(rendition, epoch) else { return };
        let s = self.tracks[t].substream_of(number);
        let Some((segment, index)) = self.tracks[t].window.find_mut(number) else {
            return self.dropped(now, rendition, epoch, number);
        };
        segment.asked.remove(index);
        if !genuine {
            self.tracks[t].repair_at = now.mono;
            return; // if it came from the origin, the fetch is still open: `origin_ended` closes it
        }
        segment.at_origin.remove(index);
        let len = u64::from(segment.announcement.lengths[index]);
        let fresh = segment.have.insert(index);
        let heard = segment.timing(index).heard;
        let lag = self.clock.now(now).seconds_since(segment.announcement.stated(index));
        self.count_arrival(from, len, fresh);
        if !fresh {
            return;
        }
        let (patience, ahead) = (self.tracks[t].pace.patience, self.tracks[t].pulls_ahead(number));
        let substream = &mut self.tracks[t].substreams[usize::from(s)];
        if from.is_none() && substream.is_root() {
            substream.fed = now.mono;
            substream.path.clear();
            substream.lags_by(lag);
        }
        if from.is_some() && from == substream.parent {
            substream.arrived_after(now.mono.since(heard).as_secs_f64());
            substream.lags_by(lag);
        } else {
            substream.elsewhere = substream.elsewhere.saturating_add(1);
        }
        let others = |p: &PeerId| substream.parent.is_some_and(|parent| parent != *p) && substream.trial != Some(*p);
        let repaired = from.filter(others);
        let late = ahead && substream.is_overdue(now.mono, heard, patience);
        let awaited = substream.in_flight.is_some_and(|ahead| ahead.number == number);
        let was_trial = self.cancel_if_here(now, t, number, out);
        self.stats.repaired_chunks += u64::from(repaired.is_some());
        // Where a tree is cut off nobody near has what is missing, and only the origin brings it.
        let by_origin = from.is_none() && awaited;
        if late && (repaired.is_some() || by_origin) && !was_trial {
            self.missed(now, t, s, repaired, out);
        }
        self.cancel_repairs(t, number, out);
        if let Some(neighbour) = from.and_then(|p| self.neighbours.find_mut(p)) {
            neighbour.strikes = 0;
        }
        self.release(now.mono, t, number);
        self.tell_if_moved(now.mono);
    }

    fn kept(&mut self, now: Time, rendition: RenditionId, epoch: Epoch, number: ChunkNumber) {
        let Some(t) = self.track_index(rendition, epoch) else { return };
        let Some((segment, index)) = self.tracks[t].window.find_mut(number) else { return };
        segment.have.insert(index);
        self.release(now, t, number);
    }

    fn dropped(&mut self, now: Now, rendition: RenditionId, epoch: Epoch, number: ChunkNumber) {
        let Some(t) = self.track_index(rendition, epoch) else { return };
        let track = &mut self.tracks[t];
        track.unchecked.retain(|u| u.number != number);
        if let Some((segment, index)) = track.window.find_mut(number) {
            segment.asked.remove(index);
            track.repair_at = now.mono;
        }
    }

    fn count_arrival(&mut self, from: Option<PeerId>, len: u64, fresh: bool) {
        match from {
            None => self.stats.origin_bytes += len,
            Some(peer) => {
                self.stats.peer_bytes += len;
                let neighbour = self.neighbours.find(peer);
                match neighbour.map(|n| (n.role, n.proximity)) {
                    Some((Some(Role::Source), _)) => self.stats.source_bytes += len,
                    Some((_, 0 | 1)) => self.stats.near_bytes += len,
                    Some(_) | None => {}
                }
            }
        }
        if !fresh {
            self.stats.duplicate_chunks += 1;
            self.stats.duplicate_bytes += len;
        }
    }
}
