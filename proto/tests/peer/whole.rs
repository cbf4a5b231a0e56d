//! Swarms as wholes: what everybody gets, and from whom.

use std::time::Duration;

use crate::rig::CHUNKS;
use crate::swarm::Swarm;

const DELAY: Duration = Duration::from_millis(10);

fn missing(swarm: &Swarm, chunks: u64) -> usize {
    swarm.held.iter().skip(1).map(|held| (0..chunks).filter(|n| !held.contains(n)).count()).sum()
}

fn fetches(swarm: &Swarm) -> u64 {
    swarm.peers.iter().map(|(_, peer)| peer.stats().origin_fetches).sum()
}

#[test]
fn nobody_asks_the_origin_while_neighbours_bring_everything_in_time() {
    for delay in [Duration::ZERO, DELAY] {
        let mut swarm = Swarm::new(6, true, delay);
        swarm.pass(Duration::from_secs(1));
        // The trees need a few segments to grow.
        (0..12).for_each(|_| swarm.produce());
        let before = fetches(&swarm);
        (0..20).for_each(|_| swarm.produce());
        swarm.pass(Duration::from_secs(3));
        assert_eq!(missing(&swarm, 32 * CHUNKS), 0);
        assert_eq!(fetches(&swarm) - before, 0, "delay {delay:?}");
    }
}

#[test]
fn a_stream_from_the_origin_alone_reaches_everybody() {
    let mut swarm = Swarm::new(6, false, DELAY);
    swarm.pass(Duration::from_secs(1));
    (0..20).for_each(|_| swarm.produce());
    swarm.pass(Duration::from_secs(4));
    assert_eq!(missing(&swarm, 20 * CHUNKS), 0);
    let stats =
        |pick: fn(&starling_proto::stats::Stats) -> u64| swarm.peers.iter().map(|(_, p)| pick(p.stats())).sum::<u64>();
    assert!(stats(|s| s.peer_bytes) > stats(|s| s.origin_bytes), "most comes from neighbours");
}

#[test]
fn neighbours_that_wait_for_each_other_are_freed_by_the_origin() {
    let mut swarm = Swarm::new(3, true, DELAY);
    swarm.pass(Duration::from_secs(1));
    (0..5).for_each(|_| swarm.produce());
    // The root falls silent: whoever depends on it or on each other waits in vain.
    swarm.mute.insert(0);
    (0..5).for_each(|_| swarm.produce());
    swarm.pass(Duration::from_secs(4));
    assert_eq!(missing(&swarm, 10 * CHUNKS), 0);
    assert!(fetches(&swarm) > 0);
}
