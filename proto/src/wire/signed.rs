//! The envelope that proves who said something.

use bytes::Bytes;

use super::cbor::{DecodeError, Message};
use crate::id::StreamId;

message! {
    /// A statement with its author's signature. Statements prove themselves, whoever hands them over.
    pub struct Signed {
        /// The statement's encoded bytes.
        1 => payload: Bytes,
        /// Ed25519 signature over [`Signed::signed_bytes`].
        2 => signature: [u8; 64],
    }
}

/// A message that is only believed when signed.
pub trait Statement: Message {
    /// Separates the kinds of statements, so that one can't be replayed as another.
    const DOMAIN: &'static str;

    /// Checks what the encoding alone can't express.
    ///
    /// # Errors
    /// [`DecodeError::OutOfRange`] if a value contradicts another or exceeds its bound.
    fn check(&self) -> Result<(), DecodeError>;

    /// Decodes and checks.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are not such a statement.
    fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        let statement = Self::decode(payload)?;
        statement.check()?;
        Ok(statement)
    }
}

impl Signed {
    /// The bytes that are signed: domain, stream, payload. The stream is bound in so that a key
    /// used for two streams can't have its statements moved between them.
    pub fn signed_bytes<S: Statement>(stream: &StreamId, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + payload.len());
        bytes.extend_from_slice(b"starling/1/");
        bytes.extend_from_slice(S::DOMAIN.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&stream.0);
        bytes.extend_from_slice(payload);
        bytes
    }
}
