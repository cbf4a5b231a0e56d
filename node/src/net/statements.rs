//! Signed statements on their way into the store, and chunks that outran theirs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use starling_proto::wire::{Announcement, Catalogue, Continuation, Joined, Roster, Window};
use starling_proto::{ChunkNumber, Epoch, Input, PeerId, RenditionId};

use super::driver::{Driver, Said};
use super::fetch::Fetched;
use super::swarm;
use crate::identity;
use crate::media::{WINDOW_CONTINUATIONS, WINDOW_SEGMENTS};
use crate::statement::{self, StatementError};

/// A chunk whose announcement isn't known yet: neither played nor passed on.
pub(super) struct Unproven {
    rendition: RenditionId,
    epoch: Epoch,
    number: ChunkNumber,
    from: PeerId,
    body: Bytes,
    at: Instant,
}

/// A continuation of what isn't here.
pub(super) struct Apart {
    more: Continuation,
    envelope: Bytes,
    at: Instant,
}

/// Announcements kept without their catalogue: a window's worth for each of a few renditions.
const EARLY_MAX: usize = 64;
/// Continuations kept without what they continue: three seconds' worth for each of a few renditions.
const APART_MAX: usize = 64;
/// Chunks kept without their announcement: a segment's worth for each of a few renditions.
const UNPROVEN_MAX: usize = 64;
/// How long one is kept: gossip repairs a lost announcement within a few heartbeats.
const UNPROVEN_AGE_MAX: Duration = Duration::from_secs(5);

impl Driver {
    /// A catalogue's envelope from a neighbour or from gossip. Returns whether it was sound.
    pub(super) fn take_catalogue(&mut self, envelope: &Bytes) -> Result<(), StatementError> {
        if *envelope == self.media.signed_catalogue() {
            return Ok(());
        }
        let catalogue = Arc::new(statement::verify::<Catalogue>(&self.stream_key, &self.stream, envelope)?);
        let known = self.media.catalogue();
        if known.is_some_and(|c| (c.epoch, c.version) >= (catalogue.epoch, catalogue.version)) {
            return Ok(());
        }
        tracing::info!(epoch = %catalogue.epoch, version = catalogue.version, "catalogue received");
        self.hold_catalogue(catalogue, envelope.clone());
        Ok(())
    }

    /// What a newcomer is given, by a neighbour or by the broadcaster's HTTP server.
    pub(super) fn take_window(&mut self, window: &Window) -> Result<(), StatementError> {
        let catalogue = if window.catalogue.is_empty() { Ok(()) } else { self.take_catalogue(&window.catalogue) };
        let count = window.announcements.len().min(WINDOW_SEGMENTS);
        self.take_announcements(&window.announcements[..count])?;
        let mut continuations = window.continuations.iter().take(WINDOW_CONTINUATIONS);
        continuations.try_for_each(|envelope| self.take_continuation(envelope))?;
        catalogue
    }

    fn hold_catalogue(&mut self, catalogue: Arc<Catalogue>, signed: Bytes) {
        if !self.media.set_catalogue(catalogue.clone(), signed) {
            return;
        }
        let epoch = catalogue.epoch;
        self.inputs.push_back(Input::CatalogueHeld { catalogue });
        for rendition in self.wanted_before_catalogue.drain(..) {
            self.inputs.push_back(Input::Followed { rendition });
        }
        let begun = self.early.extract_if(.., |(announcement, _)| announcement.epoch <= epoch);
        let mut due: Vec<_> = begun.filter(|(announcement, _)| announcement.epoch == epoch).collect();
        due.sort_by_key(|(announcement, _)| (announcement.segment, announcement.end_chunk()));
        self.announce_all(due);
    }

    /// Announcements' envelopes from a neighbour or from gossip, oldest first; taken up to the first that doesn't hold.
    pub(super) fn take_announcements(&mut self, envelopes: &[Bytes]) -> Result<(), StatementError> {
        let mut fresh = Vec::new();
        let taken = envelopes.iter().try_for_each(|envelope| self.check_announcement(envelope, &mut fresh));
        self.announce_all(fresh);
        taken
    }

    /// Takes announcements that hold, oldest first.
    fn announce_all(&mut self, fresh: Vec<(Arc<Announcement>, Bytes)>) {
        if self.media.announce_all(fresh.iter().cloned()) {
            self.heard_at = Instant::now();
        }
        for (announcement, _) in fresh {
            self.tell_announced(&announcement);
            self.prove(&announcement);
            self.join_apart(&announcement);
        }
    }

    /// Tells the machine of an announcement, and which of its chunks are here already.
    fn tell_announced(&mut self, announcement: &Arc<Announcement>) {
        let (rendition, epoch) = (announcement.rendition, announcement.epoch);
        self.inputs.push_back(Input::Announced { announcement: announcement.clone() });
        for number in (announcement.first_chunk.0..announcement.end_chunk().0).map(ChunkNumber) {
            if self.media.chunk(rendition, epoch, number).is_some() {
                self.inputs.push_back(Input::Kept { rendition, epoch, number });
            }
        }
    }

    /// Checks one, unless it is known already; then the machine only hears of it again. One that is ahead of its catalogue waits
    /// for that: the machine follows nothing of a new start of the broadcaster before, and what it doesn't fetch no player must be
    /// offered.
    fn check_announcement(
        &mut self,
        envelope: &Bytes,
        fresh: &mut Vec<(Arc<Announcement>, Bytes)>,
    ) -> Result<(), StatementError> {
        let claimed: Announcement = statement::peek(envelope)?;
        if let Some(known) = self.media.stated_by(&claimed, envelope) {
            self.tell_announced(&known);
            return Ok(());
        }
        let announcement = Arc::new(statement::verify::<Announcement>(&self.stream_key, &self.stream, envelope)?);
        let is_early = self.media.catalogue().is_none_or(|catalogue| catalogue.epoch < announcement.epoch);
        if is_early {
            self.keep_early(announcement, envelope.clone());
        } else {
            fresh.push((announcement, envelope.clone()));
        }
        Ok(())
    }

    /// Of several starts of the broadcaster the newest counts.
    fn keep_early(&mut self, announcement: Arc<Announcement>, envelope: Bytes) {
        self.early.retain(|(kept, signed)| kept.epoch >= announcement.epoch && *signed != envelope);
        if self.early.iter().any(|(kept, _)| kept.epoch > announcement.epoch) {
            return;
        }
        if self.early.len() >= EARLY_MAX {
            self.early.remove(0);
        }
        self.early.push((announcement, envelope));
    }

    /// A continuation's envelope, that came with a chunk or with others.
    pub(super) fn take_continuation(&mut self, envelope: &Bytes) -> Result<(), StatementError> {
        let claimed: Continuation = statement::peek(envelope)?;
        let is_over = self.media.catalogue().is_none_or(|catalogue| catalogue.epoch != claimed.epoch);
        let joined = self.joined(&claimed);
        if is_over || joined == Joined::Known || self.apart.iter().any(|apart| apart.envelope == *envelope) {
            return Ok(());
        }
        let more = statement::verify::<Continuation>(&self.stream_key, &self.stream, envelope)?;
        if let Joined::Longer(longer) = joined {
            let longer = self.lengthen(longer, &more, envelope);
            self.join_apart(&longer);
        } else {
            self.apart.truncate(APART_MAX - 1);
            self.apart.insert(0, Apart { more, envelope: envelope.clone(), at: Instant::now() });
        }
        Ok(())
    }

    /// What a continuation and what is signed of its segment say together.
    fn joined(&self, more: &Continuation) -> Joined {
        let known = self.media.proven(more.rendition, more.epoch, more.segment);
        known.map_or(Joined::Apart, |known| more.join(&known))
    }

    /// Takes what is said now by a continuation that holds.
    fn lengthen(&mut self, longer: Announcement, more: &Continuation, envelope: &Bytes) -> Arc<Announcement> {
        let longer = Arc::new(longer);
        self.media.continued(longer.clone(), more, envelope.clone());
        self.heard_at = Instant::now();
        self.inputs.push_back(Input::Announced { announcement: longer.clone() });
        self.prove(&longer);
        longer
    }

    /// Continuations that waited for this announcement, the earliest first: each may be what the next one waits for.
    fn join_apart(&mut self, announcement: &Announcement) {
        let named = (announcement.rendition, announcement.epoch, announcement.segment);
        let of = |apart: &Apart| (apart.more.rendition, apart.more.epoch, apart.more.segment) == named;
        let mut waited: Vec<_> = self.apart.extract_if(.., |apart| of(apart)).collect();
        waited.sort_by_key(|apart| apart.more.end_chunk());
        for apart in waited {
            match self.joined(&apart.more) {
                Joined::Longer(longer) => drop(self.lengthen(longer, &apart.more, &apart.envelope)),
                Joined::Known => {}
                Joined::Apart => self.apart.push(apart),
            }
        }
    }

    /// A roster's envelope from a hint server of the link.
    pub(super) fn take_roster(&mut self, envelope: &Bytes) -> Result<(), StatementError> {
        let claimed: Roster = statement::peek(envelope)?;
        let issuer = identity::to_libp2p(&claimed.issuer).ok_or(StatementError::Signature)?;
        let trusted = self.hint_servers.iter().any(|(server, _)| *server == issuer);
        let key = identity::public_key(&issuer).filter(|_| trusted).ok_or(StatementError::Signature)?;
        let roster = statement::verify::<Roster>(&key, &self.stream, envelope)?;
        self.inputs.push_back(Input::RosterHeld { roster: Arc::new(roster) });
        Ok(())
    }

    /// A chunk arrived from a neighbour: into the store if it is what was announced.
    pub(super) fn take_chunk(
        &mut self,
        from: PeerId,
        rendition: RenditionId,
        epoch: Epoch,
        number: ChunkNumber,
        body: Bytes,
    ) {
        match self.media.announcement_of(rendition, epoch, number) {
            Some(announcement) => self.check_chunk(&announcement, number, Some(from), body),
            None if self.unproven.len() < UNPROVEN_MAX => {
                self.unproven.push(Unproven { rendition, epoch, number, from, body, at: Instant::now() });
            }
            None => self.inputs.push_back(Input::Dropped { rendition, epoch, number }),
        }
    }

    fn check_chunk(&mut self, announcement: &Announcement, number: ChunkNumber, from: Option<PeerId>, body: Bytes) {
        let genuine = statement::is_genuine(announcement, number, &body);
        self.settle_chunk(announcement, number, from, body, genuine);
    }

    fn settle_chunk(
        &mut self,
        announcement: &Announcement,
        number: ChunkNumber,
        from: Option<PeerId>,
        body: Bytes,
        genuine: bool,
    ) {
        let (rendition, epoch) = (announcement.rendition, announcement.epoch);
        if genuine {
            self.media.insert(rendition, epoch, number, body);
        }
        self.inputs.push_back(Input::Checked { rendition, epoch, number, from, genuine });
    }

    /// What a fetch from the origin brought.
    pub(super) fn on_fetched(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Chunk { announcement, number, body, genuine } => {
                if !genuine && !std::mem::replace(&mut self.origin_differs, true) {
                    tracing::warn!(
                        segment = %announcement.segment,
                        "the origin serves other bytes than the broadcaster signed; do its segments change under the same name?"
                    );
                }
                self.settle_chunk(&announcement, number, None, body, genuine);
            }
            Fetched::Ended { id, took, error } => {
                match (&error, std::mem::replace(&mut self.origin_fails, error.is_some())) {
                    (Some(error), false) => {
                        tracing::warn!(%error, "can't fetch from the origin; trying again, and going on with what neighbours have");
                    }
                    (Some(error), true) => tracing::debug!(%error, "fetch from the origin failed again"),
                    (None, true) => tracing::info!("the origin answers again"),
                    (None, false) => {}
                }
                self.inputs.push_back(Input::OriginEnded { id, complete: error.is_none(), took });
            }
            Fetched::Window(window) => {
                if let Err(error) = self.take_window(&window) {
                    tracing::debug!(%error, "the origin's statements aren't this stream's");
                }
            }
        }
    }

    /// Chunks that waited for this announcement.
    fn prove(&mut self, announcement: &Announcement) {
        let due = |u: &Unproven| {
            u.rendition == announcement.rendition
                && u.epoch == announcement.epoch
                && announcement.index_of(u.number).is_some()
        };
        for chunk in self.unproven.extract_if(.., |u| due(u)).collect::<Vec<_>>() {
            self.check_chunk(announcement, chunk.number, Some(chunk.from), chunk.body);
        }
    }

    pub(super) fn drop_old_unproven(&mut self) {
        for chunk in self.unproven.extract_if(.., |u| u.at.elapsed() >= UNPROVEN_AGE_MAX).collect::<Vec<_>>() {
            let Unproven { rendition, epoch, number, .. } = chunk;
            self.inputs.push_back(Input::Dropped { rendition, epoch, number });
        }
        self.apart.retain(|apart| apart.at.elapsed() < UNPROVEN_AGE_MAX);
    }

    /// The broadcaster's own catalogue; or, without envelope, one a viewer made from the origin's playlist, which never
    /// takes the place of a signed one.
    pub(super) fn publish_catalogue(&mut self, catalogue: &Arc<Catalogue>, signed: Bytes) {
        if signed.is_empty() {
            if self.media.signed_catalogue().is_empty() {
                self.media.set_catalogue(catalogue.clone(), signed);
            } else {
                self.media.add_inits(catalogue);
            }
            return;
        }
        self.hold_catalogue(catalogue.clone(), signed.clone());
        self.gossip(None, signed);
    }

    /// The broadcaster's own segment, or more of one; or, without envelope, one a viewer fetched by the origin's playlist.
    pub(super) fn publish_segment(&mut self, said: Said, chunks: Vec<Bytes>) {
        let Said { announcement, signed, continuation } = said;
        let (rendition, epoch) = (announcement.rendition, announcement.epoch);
        self.media.announce(announcement.clone(), signed.clone());
        if let Some((more, signed)) = continuation {
            self.media.continued(announcement.clone(), &more, signed);
        }
        let fresh = announcement.end_chunk().0.saturating_sub(chunks.len() as u64);
        let fresh_bytes: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        for (number, body) in (fresh..).map(ChunkNumber).zip(chunks) {
            self.media.insert(rendition, epoch, number, body);
        }
        if signed.is_empty() {
            self.unsigned_bytes += fresh_bytes;
        } else {
            // With what we send ourselves a growing segment's statements ride; what viewers fetch elsewhere they must be told of.
            let serves = self.media.catalogue().is_some_and(|catalogue| catalogue.serves);
            if !announcement.growing || !serves {
                self.gossip(Some(rendition), signed);
            }
            self.inputs.push_back(Input::Produced { announcement });
        }
    }

    fn gossip(&mut self, rendition: Option<RenditionId>, envelope: Bytes) {
        use libp2p::gossipsub::PublishError;
        let topic = swarm::topic(&self.stream, rendition);
        let len = envelope.len() as u64;
        match self.swarm.behaviour_mut().gossip.publish(topic, envelope) {
            Ok(_) => {
                self.overhead.fetch_add(len, std::sync::atomic::Ordering::Relaxed);
            }
            // Nobody there yet, or said before: late joiners ask for the window.
            Err(PublishError::NoPeersSubscribedToTopic | PublishError::Duplicate) => {}
            Err(error) => tracing::warn!(%error, "can't announce; viewers will fetch the window from us"),
        }
    }
}

#[cfg(test)]
mod tests;
