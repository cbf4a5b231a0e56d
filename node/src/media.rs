//! What this process holds of the stream: the catalogue, the newest segments, their verified chunks.
//!
//! Shared by everything that serves bytes: the local gateway, the broadcaster's HTTP server and the
//! uploads to neighbours. Bounded by a window in time and a limit in bytes; the oldest goes first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use starling_proto::wire::{Announcement, Catalogue, Continuation, Init, Window};
use starling_proto::{ChunkNumber, Epoch, RenditionId, SegmentNumber, WallTime};
use tokio::sync::watch;

mod proof;

use proof::Proof;
pub use proof::{Envelope, Rider};

/// Announcements in one window: more than any player's hold-back, less than a message's limit.
pub(crate) const WINDOW_SEGMENTS: usize = 12;

/// Continuations in one window: of the few newest segments of which not all is known as one, all parts.
pub(crate) const WINDOW_CONTINUATIONS: usize = 64;

/// The store. Cheap to share behind an [`Arc`]; no method blocks for longer than a map look-up.
#[derive(Debug)]
pub struct Media {
    held: Mutex<Held>,
    changed: watch::Sender<u64>,
    window: Duration,
    limit_bytes: usize,
}

/// A segment as players are to see it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its EXT-X-MEDIA-SEQUENCE number in *our* playlist: rises by one from segment to segment, across epochs.
    pub position: u64,
    /// What it consists of.
    pub announcement: Arc<Announcement>,
    /// The epoch and number it was first listed under. Players go on using that name, though an announcement that was
    /// made here may since have been replaced by a signed one with other numbers.
    pub named: (Epoch, SegmentNumber),
    /// EXT-X-DISCONTINUITY stands before it: the source said so, or the broadcaster was restarted.
    pub discontinuity: bool,
    /// EXT-X-DISCONTINUITY-SEQUENCE a playlist beginning with this segment must carry.
    pub discontinuity_sequence: u64,
    /// Whether it grows no more and all its chunks are here.
    pub complete: bool,
}

#[derive(Debug, Default)]
struct Held {
    catalogue: Option<(Arc<Catalogue>, Bytes)>,
    /// Initialization sections of the catalogue and of segments still here, which the catalogue may have dropped.
    inits: BTreeMap<InitName, Bytes>,
    tracks: BTreeMap<RenditionId, Track>,
    /// position = segment number + base, per epoch, so that all renditions count alike.
    bases: VecDeque<(Epoch, i128)>,
    bytes: usize,
}

type InitName = (RenditionId, Epoch, u16);

#[derive(Debug, Default)]
struct Track {
    segments: VecDeque<Segment>,
    /// Discontinuities that left the window.
    discontinuities_gone: u64,
    /// The newest segment that left the window: nothing is listed before it again.
    last_gone: Option<Gone>,
}

#[derive(Clone, Copy, Debug)]
struct Gone {
    position: u64,
    epoch: Epoch,
}

#[derive(Debug)]
struct Segment {
    position: u64,
    announcement: Arc<Announcement>,
    proof: Proof,
    named: (Epoch, SegmentNumber),
    chunks: Vec<Option<Bytes>>,
}

/// At least this many segments stay, whatever the window says: players need three target durations (RFC 8216bis §6.2.2).
const SEGMENTS_MIN: usize = 5;

/// Epochs remembered: the current one, and those whose segments may still be listed.
const EPOCHS_MAX: usize = 4;

impl Media {
    /// An empty store that keeps the newest `window` of media, and at most about `limit_bytes` of chunks.
    pub fn new(window: Duration, limit_bytes: usize) -> Self {
        Self { held: Mutex::default(), changed: watch::Sender::new(0), window, limit_bytes }
    }

    /// Ticks at every change of catalogue, segments or chunks.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The newest catalogue.
    pub fn catalogue(&self) -> Option<Arc<Catalogue>> {
        self.held().catalogue.as_ref().map(|(catalogue, _)| catalogue.clone())
    }

    /// The newest catalogue as it was signed; empty if there is none or it is our own make.
    pub fn signed_catalogue(&self) -> Bytes {
        self.held().catalogue.as_ref().map(|(_, signed)| signed.clone()).unwrap_or_default()
    }

    /// Takes a (verified) catalogue if it is newer than the one held. `signed` is empty for one made here from
    /// the origin's playlist, which any signed one replaces.
    pub fn set_catalogue(&self, catalogue: Arc<Catalogue>, signed: Bytes) -> bool {
        let mut held = self.held();
        if let Some((old, _)) = &held.catalogue
            && (old.epoch, old.version) >= (catalogue.epoch, catalogue.version)
        {
            return false;
        }
        held.keep_inits(&catalogue);
        held.catalogue = Some((catalogue, signed));
        drop(held);
        self.tick();
        true
    }

    /// Takes the initialization sections of a catalogue made here from the origin's playlist while a signed one stands.
    pub fn add_inits(&self, catalogue: &Catalogue) {
        self.held().keep_inits(catalogue);
    }

    /// Whether the segment the origin calls `number` is listed. If so, the segments of `epoch` that follow, which have the
    /// origin's numbers, go on from there.
    pub fn goes_on_from(&self, rendition: RenditionId, (uri, offset): (&str, u64), epoch: Epoch, number: u64) -> bool {
        let mut held = self.held();
        let Some(track) = held.tracks.get(&rendition) else { return false };
        let named = |s: &&Segment| s.announcement.uri == uri && s.announcement.offset == offset;
        let Some(position) = track.segments.iter().rev().find(named).map(|s| s.position) else { return false };
        held.begin_epoch(epoch, SegmentNumber(number), position);
        true
    }

    /// An initialization section of the catalogue, or of a segment that is still here.
    pub fn init(&self, rendition: RenditionId, epoch: Epoch, index: u16) -> Option<Bytes> {
        self.held().inits.get(&(rendition, epoch, index)).cloned()
    }

    /// Lists a segment. `signed` is the statement to hand on; empty for one made here from the origin's playlist,
    /// which is never handed on. Returns whether it is new, or proves what was listed before.
    pub fn announce(&self, announcement: Arc<Announcement>, signed: Bytes) -> bool {
        self.announce_all([(announcement, signed)])
    }

    /// Lists several segments at once, so that no player sees the oldest of them as the newest. Returns as [`Self::announce`].
    pub fn announce_all(&self, segments: impl IntoIterator<Item = (Arc<Announcement>, Bytes)>) -> bool {
        let mut held = self.held();
        let mut added = false;
        for (announcement, signed) in segments {
            added |= held.add(announcement, signed);
        }
        if added {
            held.evict(self.window, self.limit_bytes);
            drop(held);
            self.tick();
        }
        added
    }

    /// Keeps a verified chunk of an announced segment. Returns whether it was missing.
    pub fn insert(&self, rendition: RenditionId, epoch: Epoch, number: ChunkNumber, body: Bytes) -> bool {
        let mut held = self.held();
        let len = body.len();
        let Some(slot) = held.slot(rendition, epoch, number) else { return false };
        if slot.is_some() {
            return false;
        }
        *slot = Some(body);
        held.bytes += len;
        held.evict(self.window, self.limit_bytes);
        drop(held);
        self.tick();
        true
    }

    /// A chunk, if it is here.
    pub fn chunk(&self, rendition: RenditionId, epoch: Epoch, number: ChunkNumber) -> Option<Bytes> {
        self.held().slot(rendition, epoch, number)?.clone()
    }

    /// What a chunk must be, if its segment is announced.
    pub fn announcement_of(
        &self,
        rendition: RenditionId,
        epoch: Epoch,
        number: ChunkNumber,
    ) -> Option<Arc<Announcement>> {
        let held = self.held();
        held.tracks.get(&rendition)?.find(epoch, number).map(|segment| segment.announcement.clone())
    }

    /// What rides with chunk `number` to prove it: with every chunk of a segment that has parts, for those are not announced
    /// otherwise while it grows; else with the first.
    pub fn rider(&self, rendition: RenditionId, epoch: Epoch, number: ChunkNumber) -> Option<Rider> {
        let held = self.held();
        let segment = held.tracks.get(&rendition)?.find(epoch, number)?;
        let index = segment.announcement.index_of(number)?;
        let rides = index == 0 || !segment.announcement.parts.is_empty();
        if rides { segment.proof.rider(segment.announcement.first_chunk, index) } else { None }
    }

    /// What is signed of a segment, as far as it is here.
    pub fn proven(&self, rendition: RenditionId, epoch: Epoch, segment: SegmentNumber) -> Option<Arc<Announcement>> {
        let held = self.held();
        let mut segments = held.tracks.get(&rendition)?.segments.iter().rev();
        let found = segments.find(|s| s.announcement.named() == (epoch, segment))?;
        (!found.proof.is_empty()).then(|| found.announcement.clone())
    }

    /// What is known of a segment, if this announcement of it is here as it was signed. Another signature under the same is
    /// not known to hold.
    pub fn stated_by(&self, announcement: &Announcement, signed: &Bytes) -> Option<Arc<Announcement>> {
        let held = self.held();
        let found = held.tracks.get(&announcement.rendition)?.find(announcement.epoch, announcement.first_chunk)?;
        (found.proof.signed == *signed).then(|| found.announcement.clone())
    }

    /// Keeps a signed continuation of a segment, which says `announcement` with what was said before.
    pub fn continued(&self, announcement: Arc<Announcement>, more: &Continuation, signed: Bytes) {
        let mut held = self.held();
        let tracks = held.tracks.get_mut(&announcement.rendition);
        let named = |s: &&mut Segment| s.announcement.named() == announcement.named();
        let Some(segment) = tracks.and_then(|t| t.segments.iter_mut().find(named)) else { return };
        segment.proof.continued(&segment.announcement, more, signed);
        if announcement.continues(&segment.announcement) {
            segment.grow(announcement);
        }
        drop(held);
        self.tick();
    }

    /// What a newcomer needs: the catalogue as it was signed and, if it says of which rendition, the newest statements; not
    /// those before segment `since`, if that is here, nor of it what says only what is `known`, as a `WindowRequest` has it.
    pub fn newest(&self, of: Option<RenditionId>, since: Option<SegmentNumber>, known: Option<ChunkNumber>) -> Window {
        let catalogue = self.signed_catalogue();
        let held = self.held();
        let segments = of.and_then(|rendition| held.tracks.get(&rendition)).map(|track| &track.segments);
        let begun = segments.and_then(|all| all.iter().rposition(|s| Some(s.announcement.segment) == since));
        let skip = segments.map_or(0, |all| all.len().saturating_sub(WINDOW_SEGMENTS)).max(begun.unwrap_or(0));
        let (mut announcements, mut continuations) = (Vec::new(), Vec::new());
        for segment in segments.into_iter().flatten().skip(skip).filter(|s| !s.proof.is_empty()) {
            let known = known.filter(|_| Some(segment.announcement.segment) == since);
            let rest = known.and_then(|known| segment.proof.beyond(&segment.announcement, known));
            if rest.is_none() {
                announcements.push(segment.proof.signed.clone());
            }
            continuations.extend(rest.unwrap_or_else(|| segment.proof.chain()));
        }
        continuations.drain(..continuations.len().saturating_sub(WINDOW_CONTINUATIONS));
        Window { catalogue, announcements, continuations }
    }

    /// A rendition's segments as players are to see them, oldest first.
    pub fn listing(&self, rendition: RenditionId) -> Vec<Listed> {
        let held = self.held();
        held.tracks.get(&rendition).map(Track::listing).unwrap_or_default()
    }

    /// One segment of the listing.
    pub fn listed(&self, rendition: RenditionId, position: u64) -> Option<Listed> {
        self.listing(rendition).into_iter().find(|listed| listed.position == position)
    }

    /// Capture time of the newest byte that is ready to play: the end of the newest segment all of whose predecessors
    /// in the listing are complete, or of its leading chunks.
    pub fn ready_until(&self, rendition: RenditionId) -> Option<WallTime> {
        self.held().tracks.get(&rendition)?.ready_until()
    }

    /// Bytes of chunks held.
    pub fn bytes(&self) -> usize {
        self.held().bytes
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A panic elsewhere can't leave the maps half-changed in a way that matters: every change is one insertion.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }
}

impl Held {
    fn add(&mut self, announcement: Arc<Announcement>, signed: Bytes) -> bool {
        let track = self.tracks.entry(announcement.rendition).or_default();
        if let Some(known) = track.segments.iter_mut().find(|s| s.is(&announcement)) {
            if announcement.continues(&known.announcement) {
                known.proof.announced(&announcement, signed);
                known.grow(announcement);
                return true;
            }
            let position = known.position;
            let (epoch, number) = announcement.named();
            let proven = known.is_proven_by(&announcement, &signed);
            if proven {
                if announcement.epoch == known.announcement.epoch {
                    known.proof.announced(&announcement, signed);
                } else {
                    known.proof = Proof::new(&announcement, signed); // continuations are in the old numbers
                }
                known.announcement = announcement;
            }
            self.begin_epoch(epoch, number, position);
            return proven;
        }
        let Some(position) = self.position(&announcement) else { return false };
        let track = self.tracks.entry(announcement.rendition).or_default();
        if track.last_gone.is_some_and(|gone| position <= gone.position) {
            return false;
        }
        let at = track.segments.partition_point(|s| s.position < position);
        if track.segments.get(at).is_some_and(|s| s.position == position) {
            return false;
        }
        let chunks = vec![None; announcement.lengths.len()];
        let named = announcement.named();
        let proof = Proof::new(&announcement, signed);
        track.segments.insert(at, Segment { position, announcement, proof, named, chunks });
        true
    }

    /// Besides what `catalogue` has, what segments need, and what goes with the other of a signed catalogue and the one
    /// made here to go on after it.
    fn keep_inits(&mut self, catalogue: &Catalogue) {
        let Self { inits, tracks, catalogue: held, .. } = self;
        let standing = held.as_ref().map(|(standing, _)| standing.epoch);
        let needed = |(rendition, epoch, index): &InitName| {
            let needs = |s: &Segment| s.announcement.init == Some(*index) && s.announcement.epoch == *epoch;
            let others = *epoch != catalogue.epoch && (*epoch > catalogue.epoch || Some(*epoch) == standing);
            others || tracks.get(rendition).is_some_and(|track| track.segments.iter().any(needs))
        };
        inits.retain(|name, _| needed(name));
        for rendition in &catalogue.renditions {
            let named = |init: &Init| ((rendition.id, catalogue.epoch, init.index), init.body.clone());
            inits.extend(rendition.inits.iter().map(named));
        }
    }

    /// Where the segment stands in our own numbering; the first of a new epoch continues after the newest.
    fn position(&mut self, announcement: &Announcement) -> Option<u64> {
        let newest = self.tracks.values().filter_map(|t| t.segments.back()).map(|s| s.position).max();
        let next = newest.map_or(announcement.segment.0, |p| p + 1);
        self.begin_epoch(announcement.epoch, announcement.segment, next);
        let (_, base) = self.bases.iter().find(|(epoch, _)| *epoch == announcement.epoch)?;
        u64::try_from(i128::from(announcement.segment.0) + base).ok()
    }

    /// Ties an epoch's numbers to ours, once: its segment `number` stands at `position`. Epochs that are over get no place
    /// any more; the catalogue's is not, though what was made here to go on after it may have a later one.
    fn begin_epoch(&mut self, epoch: Epoch, number: SegmentNumber, position: u64) {
        let current = self.catalogue.as_ref().map(|(catalogue, _)| catalogue.epoch);
        let over = self.bases.iter().any(|(newer, _)| *newer > epoch) && Some(epoch) != current;
        if over || self.bases.iter().any(|(known, _)| *known == epoch) {
            return;
        }
        self.bases.push_back((epoch, i128::from(position) - i128::from(number.0)));
        if self.bases.len() > EPOCHS_MAX {
            let oldest = self.bases.iter().position(|(epoch, _)| Some(*epoch) != current).unwrap_or(0);
            self.bases.remove(oldest);
        }
    }

    fn slot(&mut self, rendition: RenditionId, epoch: Epoch, number: ChunkNumber) -> Option<&mut Option<Bytes>> {
        let track = self.tracks.get_mut(&rendition)?;
        let segment = track
            .segments
            .iter_mut()
            .find(|s| s.announcement.epoch == epoch && s.announcement.index_of(number).is_some())?;
        let index = segment.announcement.index_of(number)?;
        segment.chunks.get_mut(index)
    }

    fn evict(&mut self, window: Duration, limit_bytes: usize) {
        for track in self.tracks.values_mut() {
            while track.oldest_outlived(window) {
                self.bytes -= track.pop_oldest();
            }
        }
        while self.bytes > limit_bytes {
            let largest = self.tracks.values_mut().filter(|t| t.segments.len() > 2).max_by_key(|t| t.held_bytes());
            let Some(track) = largest else { return };
            self.bytes -= track.pop_oldest();
        }
    }
}

impl Track {
    fn find(&self, epoch: Epoch, number: ChunkNumber) -> Option<&Segment> {
        self.segments.iter().find(|s| s.announcement.epoch == epoch && s.announcement.index_of(number).is_some())
    }

    fn listing(&self) -> Vec<Listed> {
        let mut discontinuity_sequence = self.discontinuities_gone;
        let mut epoch = self.last_gone.map(|gone| gone.epoch);
        let listed = |segment: &Segment| {
            let discontinuity = segment.is_discontinuous_after(epoch);
            let listed = Listed {
                position: segment.position,
                announcement: segment.announcement.clone(),
                named: segment.named,
                discontinuity,
                discontinuity_sequence,
                complete: segment.is_complete(),
            };
            discontinuity_sequence += u64::from(discontinuity);
            epoch = Some(segment.named.0);
            listed
        };
        self.segments.iter().map(listed).collect()
    }

    fn ready_until(&self) -> Option<WallTime> {
        let newest = self.segments.iter().rev().find(|s| s.chunks.iter().any(Option::is_some))?;
        let a = &newest.announcement;
        let leading = newest.chunks.iter().take_while(|c| c.is_some()).count();
        let share = a.byte_offset(leading) as f64 / a.byte_len().max(1) as f64;
        Some(a.start + Duration::from_micros((a.duration_us as f64 * share) as u64))
    }

    fn oldest_outlived(&self, window: Duration) -> bool {
        let later: Duration = self.segments.iter().skip(1).map(|s| s.announcement.duration()).sum();
        self.segments.len() > SEGMENTS_MIN && later >= window
    }

    fn held_bytes(&self) -> usize {
        self.segments.iter().map(Segment::held_bytes).sum()
    }

    /// Returns the bytes freed.
    fn pop_oldest(&mut self) -> usize {
        let Some(oldest) = self.segments.pop_front() else { return 0 };
        let discontinuity = oldest.is_discontinuous_after(self.last_gone.map(|gone| gone.epoch));
        self.discontinuities_gone += u64::from(discontinuity);
        self.last_gone = Some(Gone { position: oldest.position, epoch: oldest.named.0 });
        oldest.held_bytes()
    }
}

impl Segment {
    /// The same segment, also when said again in another epoch: after a restart the broadcaster announces what its
    /// source still lists, under new numbers but the same URI and about the same capture time. About, since who dates
    /// a source without dates does so by when it looked. A name can't come again within three segments (RFC 8216bis §6.2.2).
    fn is(&self, other: &Announcement) -> bool {
        let a = &self.announcement;
        let same_name = a.named() == other.named();
        let apart = a.start.seconds_since(other.start).abs();
        let said_again = a.epoch != other.epoch
            && a.uri == other.uri
            && a.offset == other.offset
            && apart < 3.0 * a.duration().as_secs_f64();
        same_name || said_again
    }

    /// Whether the announcement is worth more than ours: signed where ours isn't, or is piece by piece, or of a newer start of
    /// the broadcaster, in whose numbers neighbours speak from now on.
    fn is_proven_by(&self, other: &Announcement, signed: &Bytes) -> bool {
        let better = !self.proof.says_all(other) || other.epoch > self.announcement.epoch;
        better && !signed.is_empty() && self.announcement.hashes == other.hashes
    }

    /// `epoch`: that of the segment before, if there was one. By first names, so that a replaced announcement changes
    /// nothing that players were told.
    fn is_discontinuous_after(&self, epoch: Option<Epoch>) -> bool {
        self.announcement.discontinuity || epoch.is_some_and(|epoch| epoch != self.named.0)
    }

    fn grow(&mut self, announcement: Arc<Announcement>) {
        self.chunks.resize(announcement.lengths.len(), None);
        self.announcement = announcement;
    }

    fn is_complete(&self) -> bool {
        !self.announcement.growing && self.chunks.iter().all(Option::is_some)
    }

    fn held_bytes(&self) -> usize {
        self.chunks.iter().flatten().map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests;
