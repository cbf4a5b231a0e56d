//! What peers, viewers and hint servers say to one another.
//!
//! | where | what |
//! |---|---|
//! | gossipsub `/starling/1/<stream>/catalogue` | [`Signed`] [`Catalogue`] |
//! | gossipsub `/starling/1/<stream>/<rendition>` | [`Signed`] [`Announcement`] |
//! | request-response `/starling/1/chunk` | [`ChunkRequest`] → [`ChunkHeader`] (with a [`Signed`] [`Announcement`] or [`Continuation`]) + payload |
//! | request-response `/starling/1/control` | [`ControlRequest`] → [`ControlResponse`] |
//! | request-response `/starling/1/hint` | [`HintRequest`] → [`HintResponse`] |
//!
//! All are integer-keyed CBOR maps; keys are never reused, unknown ones are skipped.

#[macro_use]
pub mod cbor;

pub mod announcement;
pub mod catalogue;
pub mod chunk;
pub mod continuation;
pub mod control;
pub mod hint;
pub mod signed;

pub use announcement::{Announcement, HASH_LEN, Part, PartSource};
pub use catalogue::{Catalogue, Init, Rendition};
pub use cbor::{DecodeError, Message};
pub use chunk::{ChunkHeader, ChunkRequest, Feedback, Kind, Status as ChunkStatus, path_digest};
pub use continuation::{Continuation, Joined};
pub use control::{
    ControlRequest, ControlResponse, Hello, NeighbourInfo, Role, Status, TrackStatus, Window, WindowRequest,
};
pub use hint::{Hint, HintRequest, HintResponse, Roster, RosterMember};
pub use signed::{Signed, Statement};

/// The protocol version this build speaks. Both sides list theirs on first contact.
pub const VERSION: u16 = 1;

/// Largest chunk payload, bytes. Smaller chunks cost CPU per request, larger ones delay the next
/// hop and fill stream windows (research notes: 64–128 KiB).
pub const MAX_CHUNK_LEN: usize = 128 * 1024;

/// Largest message on gossipsub and largest catalogue, bytes.
pub const MAX_GOSSIP_LEN: usize = 64 * 1024;

/// Largest control or hint message, bytes: a window of 64 announcements of 1.5 KB and a catalogue.
pub const MAX_CONTROL_LEN: usize = 256 * 1024;

/// Largest chunk request, and largest header before a chunk's payload, bytes. The header may carry a signed
/// statement (a segment of 256 chunks: 256 × 16 B of hashes, as much again of lengths and tags).
pub const MAX_CHUNK_HEADER_LEN: usize = 24 * 1024;

/// Longest text in any field that people fill in: names, regions, labels; bytes.
pub const MAX_TEXT_LEN: usize = 128;

/// Longest list of addresses in one message.
pub const MAX_ADDRS: usize = 8;
