//! Who takes first copies from the origin: weighted rendezvous hashing over a roster everybody has.

use crate::id::{PeerId, RenditionId};
use crate::rng::mix;

/// The place of `peer` in the order of seeds for a substream, 0 being the seed itself; `None` if it is not on the roster.
///
/// Weighted rendezvous hashing (Schindelhauer, Schomaker 2005): the member with the largest −w/ln h wins, h uniform in
/// (0, 1) from a hash of member and substream. When a member leaves, only its own substreams move.
pub fn rank(roster: &[(PeerId, u32)], rendition: RenditionId, substream: u8, peer: PeerId) -> Option<usize> {
    let own_score = score(&(peer, weight(roster, peer)?), rendition, substream);
    let ahead = |member: &&(PeerId, u32)| {
        let theirs = score(member, rendition, substream);
        theirs > own_score || (theirs == own_score && member.0 > peer)
    };
    Some(roster.iter().filter(ahead).count())
}

fn score((peer, weight): &(PeerId, u32), rendition: RenditionId, substream: u8) -> f64 {
    let key = u64::from(rendition.0) << 8 | u64::from(substream);
    let hash = mix(peer.digest() ^ mix(key ^ 0x5eed));
    let unit = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from((*weight).max(1)) / unit.ln()
}

/// Whether `a` is clearly abler to be a root than `b`: twice as strong, or alone on the roster or in its stronger half.
pub(crate) fn is_abler(roster: &[(PeerId, u32)], a: PeerId, b: PeerId) -> bool {
    let Some(of_a) = weight(roster, a) else { return false };
    let Some(of_b) = weight(roster, b) else { return true };
    let median = median(roster);
    of_a / 2 >= of_b || (of_a >= median && of_b < median)
}

/// Whether a member is in the roster's stronger half.
pub(crate) fn is_strong(roster: &[(PeerId, u32)], member: PeerId) -> bool {
    weight(roster, member).is_some_and(|own| own >= median(roster))
}

fn weight(roster: &[(PeerId, u32)], peer: PeerId) -> Option<u32> {
    roster.iter().find(|(member, _)| *member == peer).map(|(_, weight)| *weight)
}

/// Of a roster with somebody on it.
fn median(roster: &[(PeerId, u32)]) -> u32 {
    let mut weights: Vec<u32> = roster.iter().map(|(_, weight)| *weight).collect();
    weights.sort_unstable();
    weights[weights.len() / 2]
}

/// A truncated-exponential delay in `[0, spread]`, most of them late, a few early, so that of `n` who wait about two
/// fire before the rest hear of it (RFC 5401 §4.2: λ = ln n + 1, t = T/λ · ln(x)). `unit` is uniform in `[0, 1)`.
pub fn staggered(spread: std::time::Duration, n: u32, unit: f64) -> std::time::Duration {
    let lambda = f64::from(n.max(1)).ln() + 1.0;
    let x = unit * (lambda.exp() - 1.0) + 1.0;
    spread.mul_f64((x.ln() / lambda).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::time::Duration;

    fn roster(n: u8) -> Vec<(PeerId, u32)> {
        (0..n).map(|i| (PeerId([i + 1; 32]), if i == 0 { 40_000 } else { 4_000 })).collect()
    }

    #[test]
    fn every_substream_has_one_seed_and_one_backup() {
        let roster = roster(20);
        for substream in 0..8 {
            let mut ranks: Vec<_> =
                roster.iter().filter_map(|(p, _)| rank(&roster, RenditionId(0), substream, *p)).collect();
            ranks.sort_unstable();
            assert_eq!(ranks, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn seeds_move_only_when_a_seed_leaves() {
        let all = roster(20);
        let gone = all[7].0;
        let rest: Vec<_> = all.iter().copied().filter(|(p, _)| *p != gone).collect();
        for substream in 0..32 {
            let seed = |members: &[(PeerId, u32)]| {
                members.iter().map(|(p, _)| *p).find(|p| rank(members, RenditionId(1), substream, *p) == Some(0))
            };
            let before = seed(&all);
            if before != Some(gone) {
                assert_eq!(before, seed(&rest));
            }
        }
    }

    #[test]
    fn only_the_clearly_abler_takes_a_root_s_place() {
        let roster: Vec<_> = (1..=8).map(|i| (PeerId([i; 32]), u32::from(i) * 1000)).collect();
        let (weak, fair, strong, unknown) = (roster[1].0, roster[4].0, roster[7].0, PeerId([99; 32]));
        assert!(is_abler(&roster, weak, roster[0].0), "twice as strong");
        assert!(is_abler(&roster, strong, weak) && is_abler(&roster, weak, unknown));
        assert!(
            !is_abler(&roster, strong, fair) && !is_abler(&roster, unknown, weak) && !is_abler(&roster, weak, weak)
        );
    }

    #[test]
    fn weight_is_share() {
        let roster = roster(11);
        let heavy = (0..=255).filter(|s| rank(&roster, RenditionId(0), *s, roster[0].0) == Some(0)).count();
        assert!((96..160).contains(&heavy), "weight 10 of 20 should win about half of 256, won {heavy}");
    }

    #[test]
    fn staggered_timers_let_few_fire_early() {
        let mut rng = Rng::new(1);
        let spread = Duration::from_secs(1);
        let early = |n: u32, rng: &mut Rng| {
            let draws: Vec<_> = (0..n).map(|_| staggered(spread, n, rng.unit())).collect();
            let first = draws.iter().min().copied().unwrap_or_default();
            draws.iter().filter(|t| **t < first + Duration::from_millis(100)).count()
        };
        let mean = (0..100).map(|_| early(200, &mut rng)).sum::<usize>() as f64 / 100.0;
        assert!(mean < 6.0, "{mean} of 200 fire within 100 ms of the first");
    }
}
