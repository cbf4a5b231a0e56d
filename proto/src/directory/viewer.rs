//! One participant's registration, and the slab that holds them all.

use std::time::Duration;

use bytes::Bytes;

use super::place::Place;
use crate::id::{PeerId, RenditionId, StreamId};
use crate::time::Time;
use crate::wire::{HintRequest, MAX_ADDRS, Role};

/// Claims above this buy neither more proposals nor a larger share of the roster, kbit/s. A guess: beyond 100 Mbit/s
/// the honest gain little, and a liar would draw the stream to itself.
pub(super) const ABILITY_MAX_KBPS: u32 = 100_000;

/// Larger claims are cut to this, bits per second, so that sums of them can't overflow.
const UPLINK_MAX_BPS: u64 = 10_000_000_000;

/// Longest address kept, bytes: a relayed address with two peer ids takes some 110.
const ADDR_LEN_MAX: usize = 160;

/// Renditions looked at per participant: a picture, a sound track, subtitles and one to switch to.
const RENDITIONS_MAX: usize = 4;

/// A registration.
#[derive(Clone, Debug)]
pub(super) struct Viewer {
    pub(super) peer: PeerId,
    pub(super) stream: StreamId,
    pub(super) claims: Claims,
    pub(super) since: Time,
    pub(super) expires: Time,
    /// The connection is gone: not proposed to anybody new, until it asks again.
    pub(super) gone: bool,
    pub(super) links: Vec<Link>,
}

/// What it says of itself, bounded, and where it was seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Claims {
    pub(super) role: Role,
    pub(super) place: Place,
    pub(super) uplink_bps: u64,
    pub(super) renditions: Vec<RenditionId>,
    pub(super) addrs: Vec<Bytes>,
    pub(super) neighbours: u16,
}

/// Who was proposed to whom, seen from one end. Both ends hold one, so that proposals become mutual.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) to: Handle,
    /// They were proposed to me.
    pub(super) mine: bool,
    /// I was proposed to them.
    pub(super) theirs: bool,
    pub(super) since: Time,
}

impl Claims {
    pub(super) fn new(request: HintRequest, place: Place) -> Self {
        let mut renditions = Vec::new();
        for rendition in request.renditions {
            if renditions.len() < RENDITIONS_MAX && !renditions.contains(&rendition) {
                renditions.push(rendition);
            }
        }
        let mut addrs = request.addrs;
        addrs.retain(|addr| !addr.is_empty() && addr.len() <= ADDR_LEN_MAX);
        addrs.truncate(MAX_ADDRS);
        Self {
            role: request.role,
            place: place.sound(&request.region),
            uplink_bps: request.uplink_bps.min(UPLINK_MAX_BPS),
            renditions,
            addrs,
            neighbours: request.neighbours,
        }
    }

    /// Offered upload as far as it is believed, kbit/s.
    pub(super) fn ability_kbps(&self) -> u32 {
        u32::try_from(self.uplink_bps / 1_000).unwrap_or(u32::MAX).min(ABILITY_MAX_KBPS)
    }
}

impl Viewer {
    /// Takes part in rosters: uploads, and was here a moment ago.
    pub(super) fn is_able(&self) -> bool {
        !self.gone && self.claims.role == Role::Viewer && self.claims.ability_kbps() > 0
    }

    pub(super) fn age(&self, now: Time) -> Duration {
        now.since(self.since)
    }

    /// Who was proposed to it at least `age` ago, longest ago first.
    pub(super) fn told(&self, now: Time, age: Duration) -> Vec<Handle> {
        self.links.iter().filter(|link| link.mine && now.since(link.since) >= age).map(|link| link.to).collect()
    }

    pub(super) fn link_to(&mut self, to: Handle, now: Time) -> &mut Link {
        let at = self.links.iter().position(|link| link.to == to).unwrap_or_else(|| {
            self.links.push(Link { to, mine: false, theirs: false, since: now });
            self.links.len() - 1
        });
        &mut self.links[at]
    }
}

/// Names a registration; one that ended never matches the next in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Handle {
    slot: u32,
    generation: u32,
}

/// All registrations, at stable places.
#[derive(Debug, Default)]
pub(super) struct Slab {
    slots: Vec<(u32, Option<Viewer>)>,
    free: Vec<u32>,
}

impl Slab {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&Viewer> {
        self.slots.get(handle.slot as usize).filter(|(generation, _)| *generation == handle.generation)?.1.as_ref()
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut Viewer> {
        self.slots.get_mut(handle.slot as usize).filter(|(generation, _)| *generation == handle.generation)?.1.as_mut()
    }

    pub(super) fn insert(&mut self, viewer: Viewer) -> Handle {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let (generation, place) = &mut self.slots[slot as usize];
        *place = Some(viewer);
        Handle { slot, generation: *generation }
    }

    pub(super) fn remove(&mut self, handle: Handle) -> Option<Viewer> {
        let (generation, place) = self.slots.get_mut(handle.slot as usize)?;
        if *generation != handle.generation {
            return None;
        }
        let viewer = place.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(handle.slot);
        Some(viewer)
    }
}
