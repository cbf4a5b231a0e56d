//! What a run writes down while it runs: who is there, what the origin sends to whom, second by second.

use std::collections::BTreeMap;

use super::{
    household::Household,
    router::{Counters, Sent},
    wall_seconds,
};
use crate::fleet::http::Stats;

/// Everything seen, in the order of time.
#[derive(Clone, Debug)]
pub struct Record {
    broadcaster: usize,
    /// Hosts of viewers and players, by number.
    pub members: BTreeMap<usize, Member>,
    /// One entry a second.
    pub seconds: Vec<Second>,
    /// What nodes told of themselves, all together, every few seconds.
    pub looks: Vec<Look>,
    /// What the scenario made happen, and when (seconds since 1970).
    pub events: Vec<(f64, String)>,
    /// The household's traffic; nothing if the scenario has none.
    pub household: Household,
    /// The router's counters at the last second.
    pub last: Counters,
}

/// A host of somebody who watches.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its seat.
    pub number: usize,
    /// On which side.
    pub audience: Audience,
    /// Seconds since 1970.
    pub joined_at: f64,
    /// Absent while it is there.
    pub left_at: Option<f64>,
    /// Whether it left without a word.
    pub killed: bool,
}

/// Two audiences see the same stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// With nodes.
    Viewers,
    /// Straight at the origin.
    Direct,
}

/// What the broadcaster's host sent in about a second, IP packets and all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    /// Seconds since 1970, at its end.
    pub wall: f64,
    /// To viewers.
    pub viewers: Sent,
    /// Of that, to those who joined less than [`JOINING_SECONDS`] ago.
    pub joiners: u64,
    /// To players that go straight to it.
    pub direct: u64,
    /// Viewers there.
    pub present: usize,
    /// Viewers whose player stands still.
    pub stalled: usize,
}

/// All nodes at one moment, as they see themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// Seconds since 1970.
    pub wall: f64,
    /// Nodes that told.
    pub nodes: usize,
    /// Of those, nodes that have measured their uplink.
    pub measured: usize,
    /// What those believe they may upload, together, bits per second.
    pub limits_bps: u64,
    /// What their links carry.
    pub links_bps: f64,
    /// Substreams, over all nodes.
    pub substreams: usize,
    /// Of those, without a path to the origin.
    pub lost: usize,
    /// Hops over the others.
    pub hops: u64,
}

/// Who came less than this ago is joining: what it takes from the origin for its first picture is counted apart.
pub const JOINING_SECONDS: f64 = 10.0;

impl Record {
    /// Nothing yet.
    pub fn new(broadcaster: usize) -> Self {
        let (members, seconds, looks, events, household, last) = Default::default();
        Self { broadcaster, members, seconds, looks, events, household, last }
    }

    pub(super) fn joins(&mut self, host: usize, number: usize, audience: Audience) {
        let member = Member { number, audience, joined_at: wall_seconds(), left_at: None, killed: false };
        self.members.insert(host, member);
    }

    pub(super) fn leaves(&mut self, host: usize, killed: bool) {
        if let Some(member) = self.members.get_mut(&host) {
            member.left_at = Some(wall_seconds());
            member.killed = killed;
        }
    }

    pub(super) fn event(&mut self, what: String) {
        tracing::info!("{what}");
        self.events.push((wall_seconds(), what));
    }

    /// Sums up what nodes told of themselves; each with the rate of its uplink.
    pub(super) fn look<'a>(&mut self, told: impl Iterator<Item = (&'a Stats, f64)>) {
        let mut look = Look { wall: wall_seconds(), ..Look::default() };
        for (stats, up_bps) in told {
            look.nodes += 1;
            if let Some(limit) = stats.upload.limit_bps {
                look.measured += 1;
                look.limits_bps += limit;
                look.links_bps += up_bps;
            }
            look.substreams += stats.depths.len();
            look.lost += stats.depths.iter().filter(|depth| depth.is_none()).count();
            look.hops += stats.depths.iter().flatten().map(|depth| u64::from(*depth)).sum::<u64>();
        }
        self.looks.push(look);
    }

    /// Takes the difference to the last second.
    pub(super) fn second(&mut self, counters: &Counters, stalled: usize) {
        let wall = wall_seconds();
        let mut second = Second { wall, stalled, ..Second::default() };
        for (host, member) in &self.members {
            let sent = |counters: &Counters| counters.sent.get(&(self.broadcaster, *host)).copied().unwrap_or_default();
            let (now, then) = (sent(counters), sent(&self.last));
            let change = Sent { tcp: now.tcp - then.tcp, udp: now.udp - then.udp };
            match member.audience {
                Audience::Direct => second.direct += change.tcp + change.udp,
                Audience::Viewers => {
                    second.viewers.tcp += change.tcp;
                    second.viewers.udp += change.udp;
                    second.present += usize::from(member.left_at.is_none());
                    if wall - member.joined_at < JOINING_SECONDS {
                        second.joiners += change.tcp + change.udp;
                    }
                }
            }
        }
        self.last = counters.clone();
        self.seconds.push(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origins_bytes_are_told_apart_by_receiver() {
        let mut record = Record::new(1);
        record.joins(2, 0, Audience::Viewers);
        record.joins(3, 0, Audience::Direct);
        record.joins(4, 1, Audience::Viewers);
        if let Some(member) = record.members.get_mut(&2) {
            member.joined_at -= 60.0;
        }
        let sent = |to: [(u64, u64); 3]| Counters {
            sent: (2..).zip(to).map(|(host, (tcp, udp))| ((1, host), Sent { tcp, udp })).collect(),
            hosts: Vec::new(),
        };
        record.second(&sent([(10, 20), (1000, 0), (3, 0)]), 0);
        record.second(&sent([(15, 40), (3000, 0), (10, 1)]), 1);
        let last = record.seconds[1];
        assert_eq!((last.viewers, last.direct, last.joiners), (Sent { tcp: 12, udp: 21 }, 2000, 8));
        assert_eq!((last.present, last.stalled), (2, 1));
    }
}
