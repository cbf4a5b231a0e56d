//! Signing and checking what `proto` only describes: statements and chunks.

use bytes::Bytes;
use libp2p::identity::Keypair;
use libp2p::identity::ed25519;
use starling_proto::wire::{Announcement, DecodeError, HASH_LEN, MAX_CHUNK_LEN, Message, Signed, Statement};
use starling_proto::{ChunkNumber, StreamId};
use std::time::Duration;
use thiserror::Error;

/// Why a statement isn't believed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum StatementError {
    /// The bytes aren't a statement.
    #[error("not a statement: {0}")]
    Decode(#[from] DecodeError),
    /// Somebody else signed it, or it was changed.
    #[error("the signature does not hold")]
    Signature,
}

/// Media per chunk: small enough for the next hop to begin early, large enough to cost little (DESIGN §3: 100–250 ms).
const CHUNK_DURATION: Duration = Duration::from_millis(100);

/// Chunks below this cost more in requests than they gain: one travels within the first congestion window of a connection
/// (RFC 9002 §7.2: ten packets), so that what is smaller arrives hardly sooner.
const CHUNK_LEN_MIN: usize = 12 * 1024;

/// Names a stream: the digest of its key and its name.
pub fn stream_id(key: &starling_proto::PeerId, name: &str) -> StreamId {
    let mut hasher = blake3::Hasher::new_derive_key("starling/1 stream id");
    hasher.update(&key.0);
    hasher.update(name.as_bytes());
    StreamId(*hasher.finalize().as_bytes())
}

/// Signs a statement and returns its envelope.
///
/// # Errors
/// If the key can't sign; Ed25519 keys can.
pub fn sign<S: Statement>(
    key: &Keypair,
    stream: &StreamId,
    statement: &S,
) -> Result<Bytes, libp2p::identity::SigningError> {
    let payload = statement.encode();
    let signature = key.sign(&Signed::signed_bytes::<S>(stream, &payload))?;
    let signature = signature.try_into().unwrap_or([0; 64]);
    Ok(Signed { payload, signature }.encode())
}

/// Opens an envelope and checks its signature.
///
/// # Errors
/// [`StatementError`].
pub fn verify<S: Statement>(key: &ed25519::PublicKey, stream: &StreamId, envelope: &[u8]) -> Result<S, StatementError> {
    let signed = Signed::decode(envelope)?;
    if !key.verify(&Signed::signed_bytes::<S>(stream, &signed.payload), &signed.signature) {
        return Err(StatementError::Signature);
    }
    Ok(S::parse(&signed.payload)?)
}

/// What an envelope claims, unproven: to see cheaply whether it is known already.
///
/// # Errors
/// [`StatementError::Decode`].
pub fn peek<S: Statement>(envelope: &[u8]) -> Result<S, StatementError> {
    Ok(S::parse(&Signed::decode(envelope)?.payload)?)
}

/// Cuts a segment into chunks of equal length (the last may be shorter): one per 200 ms of media, within
/// 16 to 128 KiB.
pub fn cut(body: &Bytes, duration: Duration) -> Vec<Bytes> {
    let wanted = (duration.as_secs_f64() / CHUNK_DURATION.as_secs_f64()).ceil().max(1.0) as usize;
    let len = body.len().div_ceil(wanted).clamp(CHUNK_LEN_MIN, MAX_CHUNK_LEN);
    (0..body.len()).step_by(len.max(1)).map(|at| body.slice(at..(at + len).min(body.len()))).collect()
}

/// The digests an announcement carries for its chunks.
pub fn hashes(chunks: &[Bytes]) -> Bytes {
    chunks.iter().flat_map(|chunk| digest(chunk)).collect::<Vec<u8>>().into()
}

/// Whether bytes are the chunk the announcement promises.
pub fn is_genuine(announcement: &Announcement, number: ChunkNumber, body: &[u8]) -> bool {
    announcement.length_of(number) == u32::try_from(body.len()).ok()
        && announcement.hash_of(number) == Some(digest(body).as_slice())
}

fn digest(body: &[u8]) -> [u8; HASH_LEN] {
    let mut digest = [0; HASH_LEN];
    digest.copy_from_slice(&blake3::hash(body).as_bytes()[..HASH_LEN]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity;
    use starling_proto::wire::{Roster, RosterMember};

    fn roster(peer: starling_proto::PeerId) -> Roster {
        Roster { issuer: peer, term: 7, members: vec![RosterMember { peer, weight: 3 }], audience: 1 }
    }

    #[test]
    fn only_what_the_key_signed_for_this_stream_holds() {
        let key = Keypair::generate_ed25519();
        let peer = identity::of(&key).expect("Ed25519");
        let public = identity::public_key(&key.public().to_peer_id()).expect("Ed25519");
        let (ours, other) = (stream_id(&peer, "a"), stream_id(&peer, "b"));
        let envelope = sign(&key, &ours, &roster(peer)).expect("signed");
        assert_eq!(verify(&public, &ours, &envelope), Ok(roster(peer)));
        assert_eq!(verify::<Roster>(&public, &other, &envelope), Err(StatementError::Signature));
        let mut damaged = envelope.to_vec();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert_eq!(verify::<Roster>(&public, &ours, &damaged), Err(StatementError::Signature));
    }

    #[test]
    fn chunks_put_together_are_the_segment() {
        for len in [1, 100, 16_384, 16_385, 275_000, 5_000_000] {
            let body: Bytes = (0..len).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
            let chunks = cut(&body, Duration::from_secs(2));
            assert!(chunks.iter().all(|c| !c.is_empty() && c.len() <= MAX_CHUNK_LEN), "{len}");
            assert_eq!(chunks.concat(), body, "{len}");
            assert_eq!(hashes(&chunks).len(), chunks.len() * HASH_LEN);
        }
    }
}
