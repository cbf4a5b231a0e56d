//! Asking a neighbour for chunks, and its answers.

use bytes::Bytes;

use super::cbor::{DecodeError, Field};
use super::control::NeighbourInfo;
use crate::id::{ChunkNumber, Epoch, PeerId, RenditionId};
use cbor4ii::core::utils::{BufWriter, SliceReader};

message! {
    /// Asks for one chunk.
    pub struct ChunkRequest {
        /// In which way.
        1 => kind: Kind,
        /// Numbers belong to this epoch.
        2 => epoch: Epoch,
        /// Of which rendition.
        3 => rendition: RenditionId,
        /// Which one, see [`Kind`].
        4 => number: ChunkNumber,
        /// How the previous chunk from this neighbour arrived.
        5 => feedback: Option<Feedback>,
        /// Who asks is fed by a root that has fallen silent, and would take its place.
        6 => root_silent: bool,
        /// What the broadcaster says of chunks reaches who asks sooner than this chunk will: it needn't come with it.
        7 => informed: bool,
        /// [`path_digest`] of the path that whom it asks told who asks last: only another one has to be told.
        8 => path_known: Option<u16>,
    }
}

/// The two ways to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first chunk numbered ≥ `number` of the same substream, answered when it exists: pull-ahead.
    Next,
    /// Exactly this chunk, answered at once: repair.
    Get,
}

message! {
    /// How a chunk's bytes arrived: what the sender can't see, because QUIC accepts 10 MB
    /// before it pushes back.
    pub struct Feedback {
        /// Bytes of the response.
        1 => bytes: u32,
        /// Microseconds between its first and its last byte.
        2 => spread_us: u32,
        /// When the first byte came, by the receiver's own clock, in microseconds modulo 2³²: only differences mean something.
        3 => first_us: Option<u32>,
    }
}

message! {
    /// What stands before a chunk's bytes; alone, it says why there are none.
    pub struct ChunkHeader {
        /// What this answer is.
        1 => status: Status,
        /// Which chunk follows.
        2 => number: Option<ChunkNumber>,
        /// The sender and its ancestors in this substream, nearest first, as [`PeerId::tag`]s; empty: as the asker knows, or for a
        /// repair, which has no use for it.
        3 => path: Vec<u32>,
        /// How many more children the sender would take.
        4 => free_slots: u16,
        /// The signed announcement of its segment.
        5 => statement: Bytes,
        /// With [`Status::Refused`] or `notice`: who has this substream and may have room.
        6 => instead: Vec<PeerId>,
        /// The sender will soon refuse the asker in this substream, which should look for another parent meanwhile.
        7 => notice: bool,
        /// Where those can be dialled.
        8 => introduced: Vec<NeighbourInfo>,
        /// Instead of `statement`: the signed [`super::Continuation`] that says this chunk.
        9 => continuation: Bytes,
    }
}

/// What an answer to a chunk request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The chunk follows.
    Chunk,
    /// Nothing came within the time a request may be held, or it was cancelled; ask again.
    Empty,
    /// The asker is an ancestor of the asked in this substream.
    Loop,
    /// No room; do not ask again soon.
    Refused,
    /// The asked does not have it and is not waiting for it.
    Unknown,
}

impl ChunkHeader {
    /// An answer without a chunk.
    pub fn without_chunk(status: Status) -> Self {
        let (number, path, statement, instead, introduced, continuation) = Default::default();
        Self { status, number, path, free_slots: 0, statement, instead, notice: false, introduced, continuation }
    }
}

/// What tells a path from others: each tag in turn shifts (by 5 bits) and multiplies (by 2³² / φ) what comes of those before.
pub fn path_digest(path: &[u32]) -> u16 {
    let mixed = path.iter().fold(0, |mixed: u32, tag| (mixed.rotate_left(5) ^ tag).wrapping_mul(0x9E37_79B9));
    (mixed >> 16) as u16
}

macro_rules! numbered {
    ($name:ident { $($variant:ident = $n:literal),* }) => {
        impl Field for $name {
            fn put(&self, out: &mut BufWriter) {
                let number: u8 = match self { $(Self::$variant => $n),* };
                number.put(out);
            }
            fn take(reader: &mut SliceReader<'_>) -> Result<Self, DecodeError> {
                match <u8 as Field>::take(reader)? {
                    $($n => Ok(Self::$variant),)*
                    _ => Err(DecodeError::OutOfRange),
                }
            }
        }
    };
}
pub(super) use numbered;

numbered!(Kind { Next = 0, Get = 1 });
numbered!(Status { Chunk = 0, Empty = 1, Loop = 2, Refused = 3, Unknown = 4 });
