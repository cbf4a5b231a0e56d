//! Small talk between neighbours: first contact, windows, what each holds.

use bytes::Bytes;
use cbor4ii::core::utils::{BufWriter, SliceReader};

use super::cbor::{DecodeError, Field};
use super::chunk::{Feedback, numbered};
use crate::id::{ChunkNumber, Epoch, PeerId, RenditionId, SegmentNumber, StreamId};
use crate::time::WallTime;

message! {
    /// One request; exactly one field is set. A receiver that knows none of the set fields answers
    /// with [`ControlResponse::error`].
    pub struct ControlRequest {
        /// First contact, both ways at once.
        1 => hello: Option<Hello>,
        /// Asks for the current window of announcements.
        2 => window: Option<WindowRequest>,
        /// Tells what the sender holds now.
        3 => status: Option<Status>,
        /// Takes a held pull-ahead request back: it is answered empty.
        4 => cancel: Option<Cancel>,
        /// Asks for other neighbours.
        5 => neighbours: bool,
        /// The sender leaves the stream.
        6 => bye: bool,
    }
}

message! {
    /// The answer; all fields absent means "noted".
    pub struct ControlResponse {
        /// To a hello.
        1 => hello: Option<Hello>,
        /// To a window request.
        2 => window: Option<Window>,
        /// To a request for neighbours, and after a hello to a broadcaster.
        3 => neighbours: Vec<NeighbourInfo>,
        /// Why the request was not understood or not granted, for the log.
        4 => error: Option<String>,
    }
}

message! {
    /// First contact.
    pub struct Hello {
        /// Protocol versions the sender speaks.
        1 => versions: Vec<u16>,
        /// The stream this connection is about.
        2 => stream: StreamId,
        /// What the sender is.
        3 => role: Role,
        /// Self-declared region, may be empty.
        4 => region: String,
        /// The broadcaster's clock as the sender believes it, when this was written.
        5 => clock: WallTime,
        /// How wrong that may be, microseconds.
        6 => clock_error_us: u32,
        /// Multiaddrs the sender can be dialled at, in binary form.
        7 => addrs: Vec<Bytes>,
        /// What it holds.
        8 => status: Status,
        /// Program and version, for people.
        9 => agent: String,
    }
}

/// What a participant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Watches and passes on.
    Viewer,
    /// The broadcaster.
    Source,
}
numbered!(Role { Viewer = 0, Source = 1 });

message! {
    /// What a participant holds and would take on.
    pub struct Status {
        /// The epoch its tracks belong to.
        1 => epoch: Epoch,
        /// Version of the newest catalogue it has.
        2 => catalogue_version: u32,
        /// The renditions it follows.
        3 => tracks: Vec<TrackStatus>,
        /// How many more children it would take, over all substreams.
        4 => free_slots: u16,
        /// Upload it offers to the mesh, bits per second; 0: it uploads nothing.
        5 => uplink_bps: u64,
        /// That is a guess: nobody told yet how what it sends arrives.
        6 => guessed: bool,
    }
}

message! {
    /// One rendition's part of a [`Status`].
    pub struct TrackStatus {
        /// Which.
        1 => rendition: RenditionId,
        /// The newest chunk it holds.
        2 => head: Option<ChunkNumber>,
        /// Its distance from the origin per substream, in hops; [`TrackStatus::NO_PATH`] where it has none.
        3 => depths: Bytes,
        /// How long its chunks take from the broadcaster's statement to here per substream, in units of
        /// [`TrackStatus::LAG_UNIT`]; 255: longer, or unknown.
        4 => lags: Bytes,
        /// By way of which child of a root it is fed per substream, or that it is one: the low byte of the tag; 0: none is known.
        5 => branches: Bytes,
        /// How many hops there are below it per substream, where they are most; empty if it feeds nobody, and in low
        /// latency, where nobody goes by it.
        6 => heights: Bytes,
    }
}

/// Longest list of depths: as many as there may be substreams.
pub const MAX_DEPTHS: usize = 32;

impl TrackStatus {
    /// Depth of a substream that arrives by no path.
    pub const NO_PATH: u8 = 255;
    /// Unit of [`Self::lags`]: below any difference that matters, and five seconds in a byte.
    pub const LAG_UNIT: std::time::Duration = std::time::Duration::from_millis(20);

    /// Hops from the origin in a substream, `None` without a path.
    pub fn depth(&self, substream: u8) -> Option<u8> {
        let depth = *self.depths.get(usize::from(substream))?;
        (depth != Self::NO_PATH).then_some(depth)
    }

    /// What [`Self::branches`] says of a substream.
    pub fn branch(&self, substream: u8) -> Option<u8> {
        self.branches.get(usize::from(substream)).copied().filter(|branch| *branch != 0)
    }

    /// What [`Self::heights`] says of a substream.
    pub fn height(&self, substream: u8) -> u8 {
        self.heights.get(usize::from(substream)).copied().unwrap_or(0)
    }

    /// What [`Self::lags`] says of a substream, seconds; `None` if unknown.
    pub fn lag(&self, substream: u8) -> Option<f64> {
        let lag = *self.lags.get(usize::from(substream))?;
        (lag != u8::MAX).then(|| f64::from(lag) * Self::LAG_UNIT.as_secs_f64())
    }
}

message! {
    /// Which pull-ahead request to take back.
    pub struct Cancel {
        /// As in the request.
        1 => epoch: Epoch,
        /// As in the request.
        2 => rendition: RenditionId,
        /// As in the request.
        3 => number: ChunkNumber,
        /// The sender wants nothing more of this substream: its place is free.
        4 => leaves: bool,
        /// How the last chunk of who is left arrived, if no request told it.
        5 => feedback: Option<Feedback>,
    }
}

message! {
    /// Asks for what a newcomer needs.
    pub struct WindowRequest {
        /// Announcements of this rendition; absent: the catalogue alone.
        1 => rendition: Option<RenditionId>,
        /// Not those before this segment, if the asked has it.
        2 => since: Option<SegmentNumber>,
        /// What that segment's announcement says of chunks before this one is known as well. That it ends counts as one more.
        3 => known: Option<ChunkNumber>,
    }
}

message! {
    /// What a newcomer needs; each statement proves itself.
    pub struct Window {
        /// The newest signed catalogue.
        1 => catalogue: Bytes,
        /// Signed announcements, oldest first.
        2 => announcements: Vec<Bytes>,
        /// Signed continuations of those whose announcement, as the sender has it, doesn't say all it knows; in order.
        3 => continuations: Vec<Bytes>,
    }
}

message! {
    /// Somebody to connect to.
    pub struct NeighbourInfo {
        /// Who.
        1 => peer: PeerId,
        /// Multiaddrs in binary form.
        2 => addrs: Vec<Bytes>,
        /// Its self-declared region.
        3 => region: String,
    }
}

impl ControlRequest {
    /// A request with no field set.
    pub fn none() -> Self {
        Self { hello: None, window: None, status: None, cancel: None, neighbours: false, bye: false }
    }
}

impl ControlResponse {
    /// "Noted."
    pub fn noted() -> Self {
        Self { hello: None, window: None, neighbours: Vec::new(), error: None }
    }

    /// A refusal with its reason.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { error: Some(reason.into()), ..Self::noted() }
    }
}
