//! The Starling protocol as state machines, without IO.
//!
//! Everything that decides lives here; everything that touches a socket, a clock, a disk or a random source lives in
//! the shells (`node`, `hint-server`, and the simulator in `tests`). Time and seeds come in as arguments.

pub mod config;
pub mod directory;
pub mod id;
pub mod peer;
pub mod rng;
pub mod stats;
pub mod time;
pub mod wire;

pub use config::Config;
pub use id::{ChunkNumber, Epoch, PeerId, RenditionId, RequestId, SegmentNumber, StreamId};
pub use peer::{Input, Outcome, Output, Peer};
pub use rng::Rng;
pub use time::{Now, Time, WallTime};
