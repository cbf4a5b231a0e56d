//! Whom to propose: mostly near and able, a few far, evenly spread, and the same from one answer to the next.
//!
//! The server keeps the graph of its proposals. An answer first repeats what still fits, rather those who were told of
//! the asker too, so that both ends of a link hear of it and neighbours stay; it then draws the rest at random from
//! the asker's network, its region, and elsewhere. Drawing looks at a few dozen candidates, however large the stream is.

use std::time::Duration;

use super::Config;
use super::index::{self, Index, Ring};
use super::place::Proximity;
use super::viewer::{Handle, Link, Slab, Viewer};
use crate::rng::Rng;
use crate::time::Time;
use crate::wire::Role;

/// Proposals in which one viewer takes part at once, both ways; a full one is not drawn. Bounds how hot the ablest get.
const LINKS_MAX: usize = 48;

/// Neighbours of the asker's own prefix in one answer: they often share its access link, so they add no upload to its
/// household. A guess.
const SAME_NETWORK_MAX: usize = 4;

/// Repeated proposals that can't upload anything, in one answer: the asker feeds them, they don't feed it. A guess.
const IDLE_MAX: usize = 4;

/// Candidates looked at for each one wanted: enough choice to prefer able ones, cheap enough to draw each time.
const CANDIDATES_PER_PICK: usize = 4;

/// A viewer that still reports fewer neighbours than this wasn't helped by what it was told: half of it is replaced.
const NEIGHBOURS_MIN: u16 = 3;

/// How long proposals are given to work before they count as failed.
const TRIED_AFTER: Duration = Duration::from_secs(8);

/// One link older than this is let go with [`RENEWAL_CHANCE`] per answer: about one a minute, so that the mesh follows
/// what changes without giving up its connections.
const RENEWABLE_AFTER: Duration = Duration::from_secs(60);

/// See [`RENEWABLE_AFTER`].
const RENEWAL_CHANCE: f64 = 1.0 / 6.0;

/// The part of the directory that proposing looks at.
pub(super) struct Ranking<'a> {
    pub(super) viewers: &'a mut Slab,
    pub(super) index: &'a Index,
    pub(super) rng: &'a mut Rng,
    pub(super) config: &'a Config,
    pub(super) now: Time,
}

/// A viewer to be proposed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick {
    pub(super) handle: Handle,
    pub(super) proximity: Proximity,
    /// Not of the asker's region.
    outside: bool,
    idle: bool,
    value: f64,
}

/// How many of which kind an answer holds.
struct Quota {
    near: usize,
    near_max: usize,
    outside_max: usize,
    far_max: usize,
    mixing: usize,
}

impl Ranking<'_> {
    /// Proposals for the viewer `asker`, best first.
    pub(super) fn propose(&mut self, asker: Handle) -> Vec<Pick> {
        self.let_go(asker);
        let Some(viewer) = self.viewers.get(asker) else { return Vec::new() };
        let quota = self.quota(viewer);
        let mut picks = self.keep(viewer, &quota);
        self.draw_all(asker, &quota, &mut picks);
        self.record(asker, &picks);
        in_order(picks)
    }

    /// Proposals for a broadcaster: the `able` ones it was given, then the ablest of a sample. It isn't proposed in turn,
    /// so nothing is recorded.
    pub(super) fn propose_to_source(&mut self, asker: Handle, able: &[Handle]) -> Vec<Pick> {
        let mut picks = Vec::new();
        if let Some(viewer) = self.viewers.get(asker) {
            let able = able.iter().filter_map(|handle| self.candidate(viewer, *handle));
            picks.extend(able.take(self.config.hints_max));
        }
        let wanted = self.config.hints_min.saturating_sub(picks.len());
        self.draw(asker, Ring::Everywhere, wanted, &mut picks);
        picks
    }

    /// Drops links to those who left, and a few that didn't work or grew old.
    fn let_go(&mut self, asker: Handle) {
        let Some(viewer) = self.viewers.get(asker) else { return };
        let left = |link: &&Link| self.viewers.get(link.to).is_none();
        let mut dropped: Vec<Handle> = viewer.links.iter().filter(left).map(|link| link.to).collect();
        let (tried, old) = (viewer.told(self.now, TRIED_AFTER), viewer.told(self.now, RENEWABLE_AFTER));
        if viewer.claims.neighbours < NEIGHBOURS_MIN && tried.len() > 2 * usize::from(NEIGHBOURS_MIN) {
            dropped.extend(&tried[..tried.len() / 2]);
        } else if self.rng.unit() < RENEWAL_CHANCE {
            dropped.extend(old.get(self.rng.below(old.len())));
        }
        dropped.into_iter().for_each(|other| self.unlink(asker, other));
    }

    fn quota(&self, asker: &Viewer) -> Quota {
        let len = |ring| self.index.pools(ring, &asker.claims).iter().map(|pool| pool.len()).sum::<usize>();
        let (min, max) = (self.config.hints_min, self.config.hints_max);
        let region = len(Ring::Region).saturating_sub(1);
        let elsewhere = len(Ring::Elsewhere);
        let continent = if region < min { len(Ring::Continent) } else { 0 };
        let mixing = self.config.hints_mixing.min(elsewhere);
        Quota {
            near: min.saturating_sub(mixing),
            near_max: max.saturating_sub(mixing),
            outside_max: min.saturating_sub(region).max(mixing),
            far_max: min.saturating_sub(region + continent).max(mixing),
            mixing,
        }
    }

    /// What of the asker's links belongs into this answer.
    fn keep(&self, asker: &Viewer, quota: &Quota) -> Vec<Pick> {
        let weighed = |link: &Link| {
            let pick = self.candidate(asker, link.to)?;
            Some((pick.value * mutuality(link), pick))
        };
        let mut links: Vec<(f64, Pick)> = asker.links.iter().filter_map(weighed).collect();
        links.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut picks: Vec<Pick> = Vec::new();
        for (_, pick) in links {
            let count = |which: fn(&Pick) -> bool| picks.iter().filter(|p| which(p)).count();
            let far = |p: &Pick| p.outside && p.proximity == Proximity::Far;
            let fits = match pick.outside {
                true => count(|p| p.outside) < quota.outside_max && (!far(&pick) || count(far) < quota.far_max),
                false => count(|p| !p.outside) < quota.near_max,
            };
            if fits && (!pick.idle || count(|p| p.idle) < IDLE_MAX) && picks.len() < self.config.hints_max {
                picks.push(pick);
            }
        }
        picks
    }

    fn draw_all(&mut self, asker: Handle, quota: &Quota, picks: &mut Vec<Pick>) {
        let near = |picks: &[Pick]| picks.iter().filter(|p| !p.outside).count();
        let adjacent = picks.iter().filter(|p| p.proximity == Proximity::SameNetwork).count();
        let wanted = SAME_NETWORK_MAX.saturating_sub(adjacent).min(quota.near.saturating_sub(near(picks)));
        self.draw(asker, Ring::Network, wanted, picks);
        self.draw(asker, Ring::Region, quota.near.saturating_sub(near(picks)), picks);
        let mixed = picks.len() - near(picks);
        self.draw(asker, Ring::Mixing, quota.mixing.saturating_sub(mixed), picks);
        for ring in [Ring::Region, Ring::Continent, Ring::Elsewhere] {
            self.draw(asker, ring, self.config.hints_min.saturating_sub(picks.len()), picks);
        }
    }

    /// Adds up to `wanted` of `ring`, drawn with a chance that follows their value (Efraimidis and Spirakis 2006,
    /// "Weighted random sampling with a reservoir": the smallest of exponentials with rates = weights).
    fn draw(&mut self, asker: Handle, ring: Ring, wanted: usize, picks: &mut Vec<Pick>) {
        let Some(viewer) = self.viewers.get(asker).filter(|_| wanted > 0) else { return };
        let pools = self.index.pools(ring, &viewer.claims);
        let sample = index::sample(&pools, (wanted + 2) * CANDIDATES_PER_PICK, self.rng);
        let mut keyed: Vec<(f64, Pick)> = Vec::with_capacity(sample.len());
        for handle in sample {
            let seen = picks.iter().chain(keyed.iter().map(|(_, pick)| pick)).any(|pick| pick.handle == handle);
            let full = self.viewers.get(handle).is_none_or(|other| other.links.len() >= LINKS_MAX);
            if handle == asker || seen || full {
                continue;
            }
            let Some(pick) = self.candidate(viewer, handle) else { continue };
            let even = if ring == Ring::Mixing { nearness(pick.proximity) } else { 1.0 };
            keyed.push((self.rng.exponential(even / pick.value), pick));
        }
        keyed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        picks.extend(keyed.into_iter().take(wanted).map(|(_, pick)| pick));
    }

    /// `handle` as a proposal to `asker`, if it can be one.
    fn candidate(&self, asker: &Viewer, handle: Handle) -> Option<Pick> {
        let other = self.viewers.get(handle)?;
        let reachable = !other.claims.place.private || asker.claims.place.private;
        let common = common_share(asker, other);
        if other.claims.role != Role::Viewer || other.gone || !reachable || common == 0.0 {
            return None;
        }
        let proximity = asker.claims.place.proximity(&other.claims.place);
        let same_provider = asker.claims.place.asn.is_some() && asker.claims.place.asn == other.claims.place.asn;
        let value = ability(other) / (1.0 + other.links.len() as f64)
            * nearness(proximity)
            * common
            * if same_provider { SAME_PROVIDER_FACTOR } else { 1.0 }
            * if other.claims.addrs.is_empty() { UNDIALABLE_FACTOR } else { 1.0 };
        let outside = asker.claims.place.region != other.claims.place.region;
        Some(Pick { handle, proximity, outside, idle: other.claims.uplink_bps == 0, value })
    }

    /// Makes the asker's links say what it is told now.
    fn record(&mut self, asker: Handle, picks: &[Pick]) {
        let Some(viewer) = self.viewers.get(asker) else { return };
        let told = |handle: Handle| picks.iter().any(|pick| pick.handle == handle);
        let dropped: Vec<Handle> =
            viewer.links.iter().filter(|link| link.mine && !told(link.to)).map(|link| link.to).collect();
        dropped.into_iter().for_each(|other| self.unlink(asker, other));
        for pick in picks {
            if let Some(viewer) = self.viewers.get_mut(asker) {
                viewer.link_to(pick.handle, self.now).mine = true;
            }
            if let Some(other) = self.viewers.get_mut(pick.handle) {
                other.link_to(asker, self.now).theirs = true;
            }
        }
    }

    fn unlink(&mut self, a: Handle, b: Handle) {
        for (from, to) in [(a, b), (b, a)] {
            if let Some(viewer) = self.viewers.get_mut(from) {
                viewer.links.retain(|link| link.to != to);
            }
        }
    }
}

/// Upload counts in proportion; those without any are drawn where nobody else is. Kbit/s.
fn ability(viewer: &Viewer) -> f64 {
    f64::from(viewer.claims.ability_kbps()).max(64.0)
}

/// How much more often near ones are drawn than far ones of the same pool. A guess.
fn nearness(proximity: Proximity) -> f64 {
    match proximity {
        Proximity::SameNetwork | Proximity::SameRegion => 4.0,
        Proximity::SameContinent => 2.0,
        Proximity::Far => 1.0,
    }
}

/// How much better it is to repeat a proposal than to make another of equal value: most if both were told of each other,
/// least if the other wasn't and isn't worth more. A guess.
fn mutuality(link: &Link) -> f64 {
    match (link.mine, link.theirs) {
        (true, true) => 4.0,
        (_, true) => 2.0,
        (_, false) => 1.0,
    }
}

/// Traffic inside one access provider is cheap and short (Choffnes and Bustamante 2008, "Taming the torrent"). A guess.
const SAME_PROVIDER_FACTOR: f64 = 1.5;

/// Nobody can dial it, though it can dial others.
const UNDIALABLE_FACTOR: f64 = 0.01;

/// The share of what the asker follows that the other follows too; half if one hasn't said.
fn common_share(asker: &Viewer, other: &Viewer) -> f64 {
    let (wanted, offered) = (&asker.claims.renditions, &other.claims.renditions);
    if wanted.is_empty() || offered.is_empty() {
        return 0.5;
    }
    wanted.iter().filter(|rendition| offered.contains(rendition)).count() as f64 / wanted.len() as f64
}

/// Near ones by value, with one from outside after every third: who only takes the first few still mixes.
fn in_order(mut picks: Vec<Pick>) -> Vec<Pick> {
    picks.sort_by(|a, b| b.value.total_cmp(&a.value));
    let (outside, near): (Vec<Pick>, Vec<Pick>) = picks.into_iter().partition(|pick| pick.outside);
    let (mut outside, mut ordered) = (outside.into_iter(), Vec::new());
    for (i, pick) in near.into_iter().enumerate() {
        ordered.push(pick);
        if i % 3 == 2 {
            ordered.extend(outside.next());
        }
    }
    ordered.extend(outside);
    ordered
}
