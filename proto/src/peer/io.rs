//! What happened, and what to do about it: the whole surface of a [`crate::Peer`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::id::{ChunkNumber, Epoch, PeerId, RenditionId, RequestId, SegmentNumber};
use crate::wire::control::Cancel;
use crate::wire::{
    Announcement, Catalogue, ChunkHeader, ChunkRequest, ControlRequest, Hello, HintRequest, HintResponse,
    NeighbourInfo, Roster, Status,
};

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline passed.
    Tick,
    /// A connection to a peer stands.
    Connected {
        /// Whose.
        peer: PeerId,
    },
    /// The last connection to a peer is gone, or none could be made.
    Disconnected {
        /// Whose.
        peer: PeerId,
    },
    /// A neighbour introduced itself, asked or answering.
    Greeted {
        /// Who.
        peer: PeerId,
        /// As it said.
        hello: Box<Hello>,
        /// For an answer: how long it took, from which the clock offset follows.
        round_trip: Option<Duration>,
    },
    /// A neighbour told what it holds.
    StatusTold {
        /// Who.
        peer: PeerId,
        /// As it said.
        status: Status,
    },
    /// A neighbour proposed others.
    Introduced {
        /// Proposals.
        infos: Vec<NeighbourInfo>,
    },
    /// A neighbour leaves the stream.
    Left {
        /// Who.
        peer: PeerId,
    },
    /// A hint server answered.
    Hinted {
        /// Its answer.
        response: Box<HintResponse>,
    },
    /// No hint server answered.
    HintsFailed,
    /// A roster whose signature holds arrived.
    RosterHeld {
        /// The roster.
        roster: Arc<Roster>,
    },
    /// A newer catalogue was accepted.
    CatalogueHeld {
        /// The catalogue; its signature was checked.
        catalogue: Arc<Catalogue>,
    },
    /// A segment was announced; its signature was checked. May come any number of times.
    Announced {
        /// The announcement.
        announcement: Arc<Announcement>,
    },
    /// The broadcaster cut a segment of its own: announced, and all chunks at hand.
    Produced {
        /// Its announcement.
        announcement: Arc<Announcement>,
    },
    /// A player asked for a rendition's playlist: follow it.
    Followed {
        /// Which.
        rendition: RenditionId,
    },
    /// No player asks for a rendition any more.
    Unfollowed {
        /// Which.
        rendition: RenditionId,
    },
    /// A player asked for a segment.
    Wanted {
        /// Of which rendition.
        rendition: RenditionId,
        /// Of which epoch.
        epoch: Epoch,
        /// Which.
        segment: SegmentNumber,
        /// It is the first of a player that just began: its picture waits for this.
        first: bool,
    },
    /// A neighbour asked for a chunk. Answered by exactly one [`Output::Answer`].
    Requested {
        /// Who.
        from: PeerId,
        /// To answer to.
        id: RequestId,
        /// What.
        request: ChunkRequest,
    },
    /// A neighbour took a pull-ahead request back.
    Cancelled {
        /// Who.
        from: PeerId,
        /// Its request.
        cancel: Cancel,
    },
    /// A chunk request of ours ended.
    Responded {
        /// Which.
        id: RequestId,
        /// How.
        outcome: Outcome,
    },
    /// A chunk that arrived was checked against its statement.
    Checked {
        /// Of which rendition.
        rendition: RenditionId,
        /// Of which epoch.
        epoch: Epoch,
        /// Which.
        number: ChunkNumber,
        /// Who sent it; `None`: the origin.
        from: Option<PeerId>,
        /// Whether it is what the broadcaster signed.
        genuine: bool,
    },
    /// A chunk of an announced segment is here already: kept from before the broadcaster's restart.
    Kept {
        /// Of which rendition.
        rendition: RenditionId,
        /// Of which epoch.
        epoch: Epoch,
        /// Which.
        number: ChunkNumber,
    },
    /// A neighbour said what no honest one says.
    Misbehaved {
        /// Who.
        peer: PeerId,
        /// For the log.
        reason: &'static str,
    },
    /// A chunk was dropped unchecked: its statement did not come in time.
    Dropped {
        /// Of which rendition.
        rendition: RenditionId,
        /// Of which epoch.
        epoch: Epoch,
        /// Which.
        number: ChunkNumber,
    },
    /// A fetch from the origin ended; chunks it brought were told before by [`Input::Checked`].
    OriginEnded {
        /// Which.
        id: RequestId,
        /// Whether all bytes came.
        complete: bool,
        /// How long it took.
        took: Duration,
    },
    /// The person changed the upload settings.
    UploadSet {
        /// Whether to pass anything on.
        enabled: bool,
    },
}

/// How a chunk request ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// With a chunk, yet unchecked: [`Input::Checked`] follows when its statement is known.
    Chunk {
        /// What stood before it.
        header: ChunkHeader,
        /// Its length, bytes.
        len: u32,
        /// From its first to its last byte.
        spread: Duration,
    },
    /// Without one.
    Without(ChunkHeader),
    /// Not at all: time-out or connection lost.
    Failed,
    /// With something this protocol doesn't allow.
    Malformed,
}

/// Do this.
#[derive(Clone, Debug)]
pub enum Output {
    /// Connect to a peer; the outcome is told as [`Input::Connected`] or [`Input::Disconnected`].
    Dial {
        /// Whom.
        peer: PeerId,
        /// Multiaddrs in binary form; empty: as known to the shell.
        addrs: Vec<Bytes>,
    },
    /// Close the connections to a peer.
    Disconnect {
        /// Whom.
        peer: PeerId,
    },
    /// Close the connections to a peer and accept none from it again.
    Ban {
        /// Whom.
        peer: PeerId,
        /// For the log.
        reason: &'static str,
    },
    /// Send a control message. A hello lacks addresses and agent: the shell adds them.
    Tell {
        /// To whom.
        to: PeerId,
        /// What.
        request: Box<ControlRequest>,
    },
    /// Fetch a rendition's window of announcements from a neighbour.
    FetchWindow {
        /// From whom.
        from: PeerId,
        /// Which; `None`: the catalogue alone.
        rendition: Option<RenditionId>,
        /// What comes before this segment is known, and what is said of its chunks before this one; that it ends counts as one
        /// more.
        since: Option<(SegmentNumber, ChunkNumber)>,
    },
    /// Follow a rendition's announcements on gossipsub.
    Subscribe {
        /// Which.
        rendition: RenditionId,
    },
    /// Stop following them.
    Unsubscribe {
        /// Which.
        rendition: RenditionId,
    },
    /// Ask a neighbour for a chunk; ends with [`Input::Responded`].
    Request {
        /// Ties the answer to it.
        id: RequestId,
        /// Whom.
        to: PeerId,
        /// What.
        request: ChunkRequest,
    },
    /// Answer a neighbour's chunk request.
    Answer {
        /// Which.
        id: RequestId,
        /// What; with [`crate::wire::ChunkStatus::Chunk`] the shell adds payload and statement.
        header: ChunkHeader,
        /// Of which rendition and epoch the chunk is.
        of: (RenditionId, Epoch),
        /// Whether what proves the chunk has to come with it.
        rides: bool,
    },
    /// Fetch chunks `first..end` of one segment from the origin; ends with [`Input::OriginEnded`].
    FetchOrigin {
        /// Ties the end to it.
        id: RequestId,
        /// Of which segment.
        announcement: Arc<Announcement>,
        /// The first chunk.
        first: ChunkNumber,
        /// The number after the last.
        end: ChunkNumber,
    },
    /// Ask a hint server; ends with [`Input::Hinted`] or [`Input::HintsFailed`]. The shell adds addresses.
    AskHints {
        /// What to say.
        request: Box<HintRequest>,
    },
}
