//! What a viewer's node tells of itself: `/api/stats`.

use serde::Serialize;

/// The JSON of `GET /api/stats`. Stable: fields are added, never renamed or removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// The stream's name.
    pub stream: String,
    /// Media bytes that arrived, each byte once per arrival.
    pub received: Received,
    /// Media bytes that left.
    pub sent: Sent,
    /// Peers we hold a connection to and exchange the stream with.
    pub neighbours: u32,
    /// Now − capture time of the newest byte ready to play, by the broadcaster's clock as estimated; seconds.
    /// Absent until something is ready.
    pub lag_seconds: Option<f64>,
    /// From start of the program (or first request of a player, if later) to the first segment ready to be served; seconds.
    pub startup_seconds: Option<f64>,
    /// Times a player waited for a segment it was already owed.
    pub stalls: Stalls,
    /// Chunks that did not hash to what the broadcaster signed.
    pub rejected_chunks: u64,
    /// Bytes sent and received that are not media: announcements, requests, headers, hints.
    pub control_bytes: u64,
    /// Chunks that arrived more than once.
    pub duplicate_chunks: u64,
    /// Their bytes; also in `received`.
    pub duplicate_bytes: u64,
    /// Media requests to the origin.
    pub origin_requests: u64,
    /// Upload state.
    pub upload: Upload,
    /// Whether a hint server answers at present.
    pub hint_server: bool,
    /// What the person should do something about, in words; absent if nothing.
    pub notice: Option<String>,
    /// How this viewer gets each substream, for the curious: hops from the origin; absent where it has no path.
    pub depths: Vec<Option<u8>>,
    /// The first bytes of this node's key, by which others name it in their `parents`.
    pub peer: String,
    /// Who feeds each substream, as `peer`; absent where nobody does at present.
    pub parents: Vec<Option<String>>,
    /// Share of the received bytes that came from peers, 0 to 1.
    pub peer_share: f64,
}

/// See [`Stats::received`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Received {
    /// From other viewers and from the broadcaster's own node, over libp2p.
    pub peers: u64,
    /// From the origin (CDN or broadcaster's HTTP server), over HTTP.
    pub origin: u64,
    /// Of `peers`: from the broadcaster's own node.
    pub broadcaster: u64,
    /// Of `peers`: from viewers in the same region.
    pub same_region: u64,
}

/// See [`Stats::sent`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sent {
    /// To other viewers.
    pub peers: u64,
}

/// See [`Stats::stalls`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stalls {
    /// How many.
    pub count: u64,
    /// How long in all.
    pub seconds: f64,
}

/// See [`Stats::upload`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Upload {
    /// Whether this viewer passes anything on.
    pub enabled: bool,
    /// The limit in force, bits per second; absent: none is set and none was measured yet.
    pub limit_bps: Option<u64>,
    /// Recent upload, bits per second.
    pub rate_bps: u64,
}
