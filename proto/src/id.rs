//! Names of things: newtypes, so that a segment number can't be passed for a chunk number.

use std::fmt;

use crate::rng::mix;

/// A participant: its Ed25519 public key. libp2p's own peer id of such a key embeds these
/// 32 bytes, so shells convert both ways without loss.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

impl PeerId {
    /// Four bytes that name a peer inside an ancestor path. Two peers of one path share a tag
    /// with probability 2⁻³² per pair; the price of a clash is one refused parent.
    pub fn tag(&self) -> u32 {
        u32::from_le_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }

    /// A well-mixed 64-bit digest for rendezvous hashing; not cryptographic.
    pub fn digest(&self) -> u64 {
        self.0.chunks_exact(8).fold(0, |acc, word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            mix(acc ^ u64::from_le_bytes(bytes))
        })
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer:{:02x}{:02x}{:02x}{:02x}", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// A live programme: digest of the broadcaster's public key and the stream's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub [u8; 32]);

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream:{:02x}{:02x}{:02x}{:02x}", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Which start of the broadcaster this is: rises at every start, so that numbers may begin
    /// again. Milliseconds since the Unix epoch at that start, or the last epoch + 1 if larger.
    Epoch(u64)
);
number!(
    /// One quality of the stream: its index in the catalogue.
    RenditionId(u16)
);
number!(
    /// HLS media sequence number of a segment within an epoch.
    SegmentNumber(u64)
);
number!(
    /// Number of a chunk within (epoch, rendition): contiguous, rising.
    ChunkNumber(u64)
);
number!(
    /// Ties an answer to the question a machine asked, or a machine's answer to a question put
    /// to it. Unique per machine and direction.
    RequestId(u64)
);

impl ChunkNumber {
    /// The substream this chunk belongs to, of `count` (which is at least 1).
    pub fn substream(self, count: u8) -> u8 {
        (self.0 % u64::from(count.max(1))) as u8
    }
}
