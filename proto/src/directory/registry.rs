//! Who is registered, in which stream, until when.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::Config;
use super::index::Index;
use super::roster::Rosters;
use super::viewer::{Claims, Handle, Slab, Viewer};
use crate::id::{PeerId, StreamId};
use crate::time::Time;
use crate::wire::Role;

/// Streams one participant may be registered in at once, so that a single one can't fill the server.
const STREAMS_PER_PEER_MAX: usize = 8;

/// Everybody, by name and by time of expiry.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) viewers: Slab,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    by_name: BTreeMap<(PeerId, StreamId), Handle>,
    expiries: BTreeSet<(Time, Handle)>,
}

/// One programme's participants.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Viewers only.
    pub(super) index: Index,
    pub(super) sources: usize,
    /// Viewers that can stand on a roster.
    pub(super) able: usize,
    pub(super) rosters: Rosters,
    pub(super) asked: u64,
}

/// Why somebody was not registered.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum RegisterError {
    /// [`Config::viewers_max`] are here already.
    #[error("this hint server is full: watch on without hints, or ask the broadcaster for another hint server")]
    Full,
    /// [`Config::streams_max`] streams are here already.
    #[error("this hint server carries no more streams: ask the broadcaster for another hint server")]
    TooManyStreams,
    /// The peer is in too many streams.
    #[error("one peer can be registered in {STREAMS_PER_PEER_MAX} streams at most: leave one first")]
    TooManyOfOnePeer,
}

impl Registry {
    pub(super) fn find(&self, peer: PeerId, stream: StreamId) -> Option<Handle> {
        self.by_name.get(&(peer, stream)).copied()
    }

    /// The registration of `peer` in `stream`, new or brought up to date, valid until `expires`.
    pub(super) fn register(
        &mut self,
        now: Time,
        config: &Config,
        (peer, stream): (PeerId, StreamId),
        claims: Claims,
        expires: Time,
    ) -> Result<Handle, RegisterError> {
        if let Some(handle) = self.find(peer, stream) {
            self.update(handle, claims, expires);
            return Ok(handle);
        }
        self.check_room(config, peer, stream)?;
        let entry = self.streams.entry(stream).or_default();
        let claims = Claims { place: entry.admit(claims.place), ..claims };
        let viewer = Viewer { peer, stream, claims, since: now, expires, gone: false, links: Vec::new() };
        let handle = self.viewers.insert(viewer);
        if let Some(viewer) = self.viewers.get(handle) {
            entry.enter(handle, viewer);
        }
        self.by_name.insert((peer, stream), handle);
        self.expiries.insert((expires, handle));
        Ok(handle)
    }

    /// Forgets a registration; a stream nobody is left in goes with it, and is returned.
    pub(super) fn remove(&mut self, handle: Handle) -> Option<Stream> {
        let viewer = self.viewers.remove(handle)?;
        self.by_name.remove(&(viewer.peer, viewer.stream));
        self.expiries.remove(&(viewer.expires, handle));
        let stream = self.streams.get_mut(&viewer.stream)?;
        stream.leave(handle, &viewer);
        stream.rosters.lose(viewer.peer);
        if stream.is_empty() { self.streams.remove(&viewer.stream) } else { None }
    }

    /// Its connection is gone: it keeps its registrations but is not proposed any more.
    pub(super) fn mark_gone(&mut self, peer: PeerId) {
        let first = (peer, StreamId([0; 32]));
        let handles = self.by_name.range(first..).take_while(|((who, _), _)| *who == peer).map(|(_, handle)| *handle);
        for handle in handles.collect::<Vec<_>>() {
            self.change(handle, |viewer| viewer.gone = true);
        }
    }

    pub(super) fn first_expiry(&self) -> Option<(Time, Handle)> {
        self.expiries.first().copied()
    }

    fn update(&mut self, handle: Handle, claims: Claims, expires: Time) {
        let Some(viewer) = self.viewers.get(handle) else { return };
        self.expiries.remove(&(viewer.expires, handle));
        self.expiries.insert((expires, handle));
        let Some(stream) = self.streams.get(&viewer.stream) else { return };
        let claims = Claims { place: stream.admit(claims.place), ..claims };
        self.change(handle, |viewer| {
            viewer.claims = claims;
            viewer.expires = expires;
            viewer.gone = false;
        });
    }

    /// Changes a registration and keeps its stream's accounts right.
    fn change(&mut self, handle: Handle, change: impl FnOnce(&mut Viewer)) {
        let Some(viewer) = self.viewers.get_mut(handle) else { return };
        let Some(stream) = self.streams.get_mut(&viewer.stream) else { return };
        stream.leave(handle, viewer);
        change(viewer);
        stream.enter(handle, viewer);
    }

    fn check_room(&self, config: &Config, peer: PeerId, stream: StreamId) -> Result<(), RegisterError> {
        let first = (peer, StreamId([0; 32]));
        let of_this_peer = self.by_name.range(first..).take_while(|((who, _), _)| *who == peer).count();
        if self.viewers.len() >= config.viewers_max {
            return Err(RegisterError::Full);
        }
        if of_this_peer >= STREAMS_PER_PEER_MAX {
            return Err(RegisterError::TooManyOfOnePeer);
        }
        if self.streams.len() >= config.streams_max && !self.streams.contains_key(&stream) {
            return Err(RegisterError::TooManyStreams);
        }
        Ok(())
    }
}

impl Stream {
    fn is_empty(&self) -> bool {
        self.index.len() == 0 && self.sources == 0
    }

    fn admit(&self, mut place: super::Place) -> super::Place {
        place.region = self.index.admit(place.region);
        place
    }

    fn enter(&mut self, handle: Handle, viewer: &Viewer) {
        self.able += usize::from(viewer.is_able());
        match viewer.claims.role {
            Role::Viewer => self.index.insert(handle, &viewer.claims),
            Role::Source => self.sources += 1,
        }
    }

    fn leave(&mut self, handle: Handle, viewer: &Viewer) {
        self.able -= usize::from(viewer.is_able());
        match viewer.claims.role {
            Role::Viewer => self.index.remove(handle, &viewer.claims),
            Role::Source => self.sources -= 1,
        }
    }
}
