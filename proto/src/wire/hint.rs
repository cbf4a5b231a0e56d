//! What viewers tell a hint server, and what it proposes.

use bytes::Bytes;

use super::cbor::{DecodeError, MAX_ITEMS};
use super::control::Role;
use super::signed::Statement;
use crate::id::{PeerId, RenditionId, StreamId};

message! {
    /// "I am here; whom should I connect to?" Also keeps the registration alive. Who asks is proven by the connection.
    pub struct HintRequest {
        /// Protocol versions the sender speaks.
        1 => versions: Vec<u16>,
        /// Which stream.
        2 => stream: StreamId,
        /// What the sender is.
        3 => role: Role,
        /// Self-declared region, may be empty; used where no geo database knows better.
        4 => region: String,
        /// Upload offered, bits per second; 0: none.
        5 => uplink_bps: u64,
        /// Renditions it follows.
        6 => renditions: Vec<RenditionId>,
        /// Multiaddrs it can be dialled at, in binary form.
        7 => addrs: Vec<Bytes>,
        /// How many neighbours it has.
        8 => neighbours: u16,
        /// It leaves: forget it.
        9 => leaving: bool,
    }
}

message! {
    /// Proposals.
    pub struct HintResponse {
        /// Neighbours, best first.
        1 => hints: Vec<Hint>,
        /// When to ask again, milliseconds.
        2 => refresh_ms: u32,
        /// The signed [`Roster`] of able peers.
        3 => roster: Bytes,
        /// How many viewers the stream has.
        4 => audience: u32,
        /// Where the server places the asker, for people.
        5 => place: String,
        /// Why there are no hints: version mismatch, too many viewers.
        6 => error: Option<String>,
    }
}

message! {
    /// A proposed neighbour.
    pub struct Hint {
        /// Who.
        1 => peer: PeerId,
        /// Multiaddrs in binary form.
        2 => addrs: Vec<Bytes>,
        /// Distance class: 0 same network, 1 same region, 2 same continent, 3 far.
        3 => proximity: u8,
        /// Upload it offers, bits per second.
        4 => uplink_bps: u64,
    }
}

message! {
    /// The peers from which seeds are drawn. Everybody who has the same roster computes the same seeds.
    pub struct Roster {
        /// Who signed it: a hint server of the link, or the broadcaster.
        1 => issuer: PeerId,
        /// Rises with every roster of this issuer (Unix seconds ÷ term length).
        2 => term: u64,
        /// At most some 32, any order.
        3 => members: Vec<RosterMember>,
        /// How many viewers the stream has.
        4 => audience: u32,
    }
}

message! {
    /// One able peer.
    pub struct RosterMember {
        /// Who.
        1 => peer: PeerId,
        /// Its share: offered upload in kbit/s, at least 1.
        2 => weight: u32,
    }
}

impl Statement for Roster {
    const DOMAIN: &'static str = "roster";

    fn check(&self) -> Result<(), DecodeError> {
        let ok = self.members.len() <= MAX_ITEMS && self.members.iter().all(|m| m.weight > 0);
        if ok { Ok(()) } else { Err(DecodeError::OutOfRange) }
    }
}
