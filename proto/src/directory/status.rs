//! What a directory looks like from outside, for pages and metrics.

use super::Directory;
use crate::id::StreamId;

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests, whatever became of them.
    pub asked: u64,
    /// Requests answered with an error.
    pub refused: u64,
    /// Registrations forgotten for silence.
    pub expired: u64,
    /// Proposals made, by [`super::Proximity::class`].
    pub proposed: [u64; 4],
}

/// One stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamStatus {
    /// Which.
    pub stream: StreamId,
    /// Registered viewers.
    pub viewers: usize,
    /// Registered broadcasters.
    pub sources: usize,
    /// Viewers that offer upload and are connected or were a moment ago.
    pub able: usize,
    /// Upload offered, bits per second.
    pub uplink_bps: u64,
    /// Requests since the stream appeared.
    pub asked: u64,
    /// Term of its newest roster.
    pub term: u64,
    /// Members of its newest roster.
    pub roster: usize,
    /// By rising name; at most 257.
    pub regions: Vec<RegionStatus>,
}

/// One region of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionStatus {
    /// Its name; empty: unknown.
    pub region: String,
    /// Registered viewers.
    pub viewers: usize,
    /// Upload offered, bits per second.
    pub uplink_bps: u64,
}

impl Directory {
    /// What happened since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Registrations over all streams, broadcasters included.
    pub fn registrations(&self) -> usize {
        self.registry.viewers.len()
    }

    /// All streams, by rising id. Costs a look at every region of every stream.
    pub fn streams(&self) -> Vec<StreamStatus> {
        let streams = self.registry.streams.iter();
        streams
            .map(|(id, stream)| {
                let regions: Vec<RegionStatus> = stream
                    .index
                    .regions()
                    .map(|(name, region)| RegionStatus {
                        region: name.to_owned(),
                        viewers: region.everyone.len(),
                        uplink_bps: region.uplink_bps,
                    })
                    .collect();
                StreamStatus {
                    stream: *id,
                    viewers: stream.index.len(),
                    sources: stream.sources,
                    able: stream.able,
                    uplink_bps: regions.iter().map(|region| region.uplink_bps).sum(),
                    asked: stream.asked,
                    term: stream.rosters.term,
                    roster: stream.rosters.members.len(),
                    regions,
                }
            })
            .collect()
    }
}
