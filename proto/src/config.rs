//! Every knob of a [`crate::Peer`], with its unit, its consequence and where its value comes from.

use std::time::Duration;

use crate::id::{PeerId, StreamId};
use crate::wire::Role;

/// How a participant behaves. The defaults are for a viewer on a home link.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The stream.
    pub stream: StreamId,
    /// The broadcaster: the stream's key.
    pub source: PeerId,
    /// Viewer or broadcaster.
    pub role: Role,
    /// Self-declared region, for neighbours the hint server said nothing about; may be empty.
    pub region: String,
    /// Whether to pass anything on.
    pub upload: bool,
    /// Upload limit the person set, bits per second; `None`: what is measured, see [`Self::uplink_assumed_bps`].
    pub upload_limit_bps: Option<u64>,
    /// Taken for the uplink until there are measurements, bits per second. Low: a few seconds of a few children measure it,
    /// and whoever offers more than its link carries fails all of them (a guess).
    pub uplink_assumed_bps: u64,
    /// Share of the uplink that is offered to children; the rest is for repair and for the household, and keeps queues short
    /// (research notes §3.3: 0.85). One child more than fits may be taken on.
    pub uplink_share: f64,
    /// Neighbours to seek. Eight give every substream of eight a parent of its own (a guess within the 6–12 of gossipsub's mesh).
    pub neighbours_target: usize,
    /// Neighbours to accept; further connections are closed. Each costs some 150 KB (research notes, libp2p §8d).
    pub neighbours_max: usize,
    /// Copies of each substream the broadcaster itself sends. One below a hundred viewers (DESIGN §4.6).
    pub source_copies: usize,
    /// Media kept for neighbours and for players that rewind.
    pub window: Duration,
    /// How long a pull-ahead request is held before it is answered empty. Below the shell's request timeout.
    pub park_timeout: Duration,
    /// At least this long after its announcement a chunk may stay away before another neighbour is asked for it; longer
    /// where the parent is known to take longer. Covers a tree of some ten hops at 40 ms (a guess).
    pub repair_patience: Duration,
    /// Time from announcement to the moment a segment must be whole, as a share of its target duration. A player that holds
    /// back three target durations has two to three of them buffered when the next segment is announced; a quarter of one
    /// is kept in reserve (tests/ABLATIONS.md).
    pub deadline_share: f64,
    /// Time from the announcement of a part to the moment it must be here, in low latency: what the gateway's PART-HOLD-BACK
    /// leaves when a part has been played and its successor must follow (a guess, see the latency budget in `tests/LATENCY.md`).
    pub part_due: Duration,
    /// Origin timers are spread over this share of the time between announcement and last moment (research notes §3.5: W ≥ 6·D).
    pub origin_spread_share: f64,
    /// Fetch from the origin assumed to take this long until measured.
    pub origin_fetch_assumed: Duration,
    /// How often to say what we hold when nothing changed.
    pub status_interval: Duration,
    /// How soon again to say it when something did.
    pub status_interval_min: Duration,
}

impl Config {
    /// The defaults for a viewer of `stream`.
    pub fn viewer(stream: StreamId, source: PeerId) -> Self {
        Self {
            stream,
            source,
            role: Role::Viewer,
            region: String::new(),
            upload: true,
            upload_limit_bps: None,
            uplink_assumed_bps: 4_000_000,
            uplink_share: 0.85,
            neighbours_target: 8,
            neighbours_max: 16,
            source_copies: 1,
            window: Duration::from_secs(30),
            park_timeout: Duration::from_secs(8),
            repair_patience: Duration::from_millis(400),
            deadline_share: 1.75,
            part_due: Duration::from_millis(1400),
            origin_spread_share: 0.4,
            origin_fetch_assumed: Duration::from_millis(250),
            status_interval: Duration::from_secs(5),
            status_interval_min: Duration::from_millis(800),
        }
    }

    /// The defaults for the broadcaster of `stream`.
    pub fn source(stream: StreamId, source: PeerId) -> Self {
        let uplink_assumed_bps = 1_000_000_000; // paced by its few copies, not by its link
        Self { role: Role::Source, neighbours_max: 64, uplink_assumed_bps, ..Self::viewer(stream, source) }
    }
}
