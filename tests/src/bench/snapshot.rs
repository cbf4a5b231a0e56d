//! All counters of a run at one moment, and what changed between two.

use std::time::Duration;

use crate::fleet::{
    http::{Received, Stats},
    proc_fs::Usage,
};

/// All counters at one moment. Bytes are of media.
pub(super) struct Snapshot {
    pub(super) viewers: Vec<ViewerSnapshot>,
    /// Through the relay the viewers' link names.
    pub(super) origin_http: u64,
    /// Through the relay of the players straight at the origin.
    pub(super) direct_http: u64,
    /// The broadcaster's own count.
    pub(super) broadcaster_libp2p: u64,
    pub(super) broadcaster_cpu: Duration,
}

/// One viewer's counters.
pub(super) struct ViewerSnapshot {
    pub(super) stats: Stats,
    pub(super) usage: Usage,
    /// Through the relay of its player.
    pub(super) delivered: u64,
}

/// What happened between two snapshots.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Per viewer.
    pub viewers: Vec<ViewerChange>,
    /// Media the viewers fetched over HTTP, as the relay saw it; bytes.
    pub origin_http: u64,
    /// Media the players at the origin fetched, bytes.
    pub direct_http: u64,
    /// Media the broadcaster says it sent over libp2p, bytes.
    pub broadcaster_libp2p: u64,
    /// The broadcaster's CPU time.
    pub broadcaster_cpu: Duration,
}

/// One viewer's part in a [`Change`]. Bytes are of media unless they say otherwise.
#[derive(Clone, Debug, Default)]
pub struct ViewerChange {
    /// What it says it received.
    pub received: Received,
    /// What it says it sent to other viewers.
    pub sent: u64,
    /// What its player received, as the relay saw it.
    pub delivered: u64,
    /// Bytes that aren't media, as it says itself.
    pub control: u64,
    /// CPU time.
    pub cpu: Duration,
    /// Resident memory at the end of the window, bytes.
    pub resident: u64,
    /// The most it ever had resident, bytes.
    pub resident_peak: u64,
    /// Chunks rejected since it started: none is forgiven for coming early.
    pub rejected_chunks: u64,
}

impl Snapshot {
    /// Rounded to a whole number of neighbours.
    pub(super) fn mean_neighbours(&self) -> usize {
        let sum: u32 = self.viewers.iter().map(|viewer| viewer.stats.neighbours).sum();
        (f64::from(sum) / self.viewers.len().max(1) as f64).round() as usize
    }

    pub(super) fn since(&self, before: &Self) -> Change {
        Change {
            viewers: self.viewers.iter().zip(&before.viewers).map(|(after, before)| after.since(before)).collect(),
            origin_http: self.origin_http - before.origin_http,
            direct_http: self.direct_http - before.direct_http,
            broadcaster_libp2p: self.broadcaster_libp2p.saturating_sub(before.broadcaster_libp2p),
            broadcaster_cpu: self.broadcaster_cpu.saturating_sub(before.broadcaster_cpu),
        }
    }
}

impl ViewerSnapshot {
    fn since(&self, before: &Self) -> ViewerChange {
        let (now, then) = (&self.stats, &before.stats);
        ViewerChange {
            received: Received {
                peers: now.received.peers.saturating_sub(then.received.peers),
                origin: now.received.origin.saturating_sub(then.received.origin),
                broadcaster: now.received.broadcaster.saturating_sub(then.received.broadcaster),
                same_region: now.received.same_region.saturating_sub(then.received.same_region),
            },
            sent: now.sent.peers.saturating_sub(then.sent.peers),
            delivered: self.delivered - before.delivered,
            control: now.control_bytes.saturating_sub(then.control_bytes),
            cpu: self.usage.cpu.saturating_sub(before.usage.cpu),
            resident: self.usage.resident,
            resident_peak: self.usage.resident_peak,
            rejected_chunks: now.rejected_chunks,
        }
    }
}
