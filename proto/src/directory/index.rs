//! Who of a stream is where: pools one can draw from at random without looking at everybody.

use std::collections::BTreeMap;

use super::place::continent;
use super::viewer::{Claims, Handle};
use crate::id::RenditionId;
use crate::rng::Rng;

/// Distinct regions per stream. Names beyond it count as their continent, or as unknown.
pub(super) const REGIONS_MAX: usize = 256;

/// The viewers of one stream by region, rendition and network.
#[derive(Debug, Default)]
pub(super) struct Index {
    regions: BTreeMap<String, Region>,
    networks: BTreeMap<u64, Pool>,
    len: usize,
}

/// The viewers of one region.
#[derive(Debug, Default)]
pub(super) struct Region {
    pub(super) everyone: Pool,
    pub(super) uplink_bps: u64,
    by_rendition: BTreeMap<RenditionId, Pool>,
    undecided: Pool,
}

/// Where to draw from, seen from an asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    /// Its address prefix, whatever they follow.
    Network,
    /// Its region.
    Region,
    /// Other regions of its continent.
    Continent,
    /// All other regions.
    Elsewhere,
    /// The same, each as likely as any other however far.
    Mixing,
    /// All regions, whatever they follow.
    Everywhere,
}

/// A set with random access.
#[derive(Debug, Default)]
pub(super) struct Pool {
    members: Vec<Handle>,
    at: BTreeMap<Handle, usize>,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn regions(&self) -> impl Iterator<Item = (&str, &Region)> {
        self.regions.iter().map(|(name, region)| (name.as_str(), region))
    }

    /// The name under which `region` is kept here, so that hostile names can't fill the memory.
    pub(super) fn admit(&self, region: String) -> String {
        let known = |name: &str| self.regions.contains_key(name);
        if self.regions.len() < REGIONS_MAX || known(&region) {
            return region;
        }
        let continent = continent(&region);
        if known(continent) { continent.to_owned() } else { String::new() }
    }

    pub(super) fn insert(&mut self, handle: Handle, claims: &Claims) {
        let region = self.regions.entry(claims.place.region.clone()).or_default();
        region.everyone.insert(handle);
        region.uplink_bps += claims.uplink_bps;
        for rendition in &claims.renditions {
            region.by_rendition.entry(*rendition).or_default().insert(handle);
        }
        if claims.renditions.is_empty() {
            region.undecided.insert(handle);
        }
        if let Some(network) = claims.place.network {
            self.networks.entry(network).or_default().insert(handle);
        }
        self.len += 1;
    }

    pub(super) fn remove(&mut self, handle: Handle, claims: &Claims) {
        if let Some(region) = self.regions.get_mut(&claims.place.region) {
            region.remove(handle, claims);
            if region.everyone.is_empty() {
                self.regions.remove(&claims.place.region);
            }
        }
        if let Some(network) = claims.place.network {
            remove_from(&mut self.networks, &network, handle);
        }
        self.len = self.len.saturating_sub(1);
    }

    /// Those of `ring` around the asker who follow something it follows.
    pub(super) fn pools(&self, ring: Ring, asker: &Claims) -> Vec<&Pool> {
        let own = &asker.place.region;
        let beside = |name: &str| !own.is_empty() && name != own && continent(name) == continent(own);
        match ring {
            Ring::Network => asker.place.network.and_then(|network| self.networks.get(&network)).into_iter().collect(),
            Ring::Region => self.following(asker, |name| name == own),
            Ring::Continent => self.following(asker, beside),
            Ring::Elsewhere | Ring::Mixing => self.following(asker, |name| name != own),
            Ring::Everywhere => self.regions.values().map(|region| &region.everyone).collect(),
        }
    }

    fn following(&self, asker: &Claims, wanted: impl Fn(&str) -> bool) -> Vec<&Pool> {
        let regions = self.regions.iter().filter(|(name, _)| wanted(name)).map(|(_, region)| region);
        regions.flat_map(|region| region.following(&asker.renditions)).filter(|pool| !pool.is_empty()).collect()
    }
}

impl Region {
    fn following(&self, renditions: &[RenditionId]) -> Vec<&Pool> {
        if renditions.is_empty() {
            return vec![&self.everyone];
        }
        let same = renditions.iter().filter_map(|rendition| self.by_rendition.get(rendition));
        same.chain([&self.undecided]).collect()
    }

    fn remove(&mut self, handle: Handle, claims: &Claims) {
        self.everyone.remove(handle);
        self.undecided.remove(handle);
        for rendition in &claims.renditions {
            remove_from(&mut self.by_rendition, rendition, handle);
        }
        self.uplink_bps = self.uplink_bps.saturating_sub(claims.uplink_bps);
    }
}

impl Pool {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Handle> + '_ {
        self.members.iter().copied()
    }

    fn insert(&mut self, handle: Handle) {
        if let std::collections::btree_map::Entry::Vacant(entry) = self.at.entry(handle) {
            entry.insert(self.members.len());
            self.members.push(handle);
        }
    }

    fn remove(&mut self, handle: Handle) {
        let Some(at) = self.at.remove(&handle) else { return };
        self.members.swap_remove(at);
        if let Some(moved) = self.members.get(at) {
            self.at.insert(*moved, at);
        }
    }
}

/// Some `count` members of all `pools` together, each as likely as any other; all of them if there are no more.
/// A member of two pools may come twice.
pub(super) fn sample(pools: &[&Pool], count: usize, rng: &mut Rng) -> Vec<Handle> {
    let total: usize = pools.iter().map(|pool| pool.len()).sum();
    if total <= count {
        return pools.iter().flat_map(|pool| pool.iter()).collect();
    }
    let mut picks: Vec<usize> = (0..count).map(|_| rng.below(total)).collect();
    picks.sort_unstable();
    picks.dedup();
    let mut members = Vec::with_capacity(picks.len());
    let (mut pool, mut before) = (0, 0);
    for pick in picks {
        while pick - before >= pools[pool].len() {
            before += pools[pool].len();
            pool += 1;
        }
        members.push(pools[pool].members[pick - before]);
    }
    members
}

fn remove_from<K: Ord>(pools: &mut BTreeMap<K, Pool>, key: &K, handle: Handle) {
    if let Some(pool) = pools.get_mut(key) {
        pool.remove(handle);
        if pool.is_empty() {
            pools.remove(key);
        }
    }
}
