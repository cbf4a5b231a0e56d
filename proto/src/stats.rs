//! Plain counters a machine keeps; shells export them.

/// What a peer did since it began. Bytes are media bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Received from other participants, the broadcaster's node included.
    pub peer_bytes: u64,
    /// Of those, from the broadcaster's node.
    pub source_bytes: u64,
    /// Of those, from viewers in the same region or network.
    pub near_bytes: u64,
    /// Received from the origin over HTTP.
    pub origin_bytes: u64,
    /// Handed to other viewers.
    pub sent_bytes: u64,
    /// Chunks that arrived though they were already here.
    pub duplicate_chunks: u64,
    /// Bytes of those.
    pub duplicate_bytes: u64,
    /// Chunks whose bytes were not what the broadcaster signed.
    pub rejected_chunks: u64,
    /// Chunks obtained by repair.
    pub repaired_chunks: u64,
    /// Fetches asked of the origin.
    pub origin_fetches: u64,
    /// Times a substream changed its parent.
    pub parent_switches: u64,
}
