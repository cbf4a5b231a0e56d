//! Integer-keyed CBOR maps (RFC 8949), the form of every Starling message.
//!
//! The `message!` macro declares a struct together with its keys; unknown keys are skipped, absent
//! optional ones take their default, a required one that is missing is an error. Decoding is
//! total: any bytes give a value or a [`DecodeError`], never a panic, and lists are bounded.

use bytes::Bytes;
use cbor4ii::core::dec::{Decode, IgnoredAny};
use cbor4ii::core::enc::Encode;
use cbor4ii::core::types;
use cbor4ii::core::utils::{BufWriter, SliceReader};
use thiserror::Error;

use crate::id::{ChunkNumber, Epoch, PeerId, RenditionId, SegmentNumber, StreamId};
use crate::time::WallTime;

/// No list in any message is longer.
pub const MAX_ITEMS: usize = 256;

/// Why bytes are not the message they should be. The sender is at fault; nothing was changed.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum DecodeError {
    /// Not CBOR, cut short, or of another shape.
    #[error("malformed message")]
    Malformed,
    /// A field this version needs is absent.
    #[error("field {0} is missing")]
    Missing(u64),
    /// A list is longer than [`MAX_ITEMS`].
    #[error("a list is longer than {MAX_ITEMS}")]
    TooLong,
    /// A value outside what its field allows.
    #[error("a value is out of range")]
    OutOfRange,
    /// Bytes after the end of the message.
    #[error("bytes after the end of the message")]
    Trailing,
}

/// A value that can stand in a message.
pub trait Field: Sized {
    /// Appends the value.
    fn put(&self, out: &mut BufWriter);
    /// Reads the value.
    fn take(reader: &mut SliceReader<'_>) -> Result<Self, DecodeError>;
    /// Whether to leave the key out altogether.
    fn is_absent(&self) -> bool {
        false
    }
    /// What an absent key means; `None` if the key is required.
    fn absent() -> Option<Self> {
        None
    }
}

/// A whole message.
pub trait Message: Field {
    /// The bytes of this message.
    fn encode(&self) -> Bytes {
        let mut out = BufWriter::new(Vec::with_capacity(128));
        self.put(&mut out);
        Bytes::from(out.into_inner())
    }

    /// Reads a message that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are anything else.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = SliceReader::new(bytes);
        let message = Self::take(&mut reader)?;
        if remaining(&mut reader) { Err(DecodeError::Trailing) } else { Ok(message) }
    }
}

/// Declares a struct that travels as an integer-keyed map.
macro_rules! message {
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $( $(#[$fdoc:meta])* $key:literal => $field:ident : $ty:ty ),* $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $( $(#[$fdoc])* pub $field: $ty ),* }

        impl crate::wire::cbor::Field for $name {
            fn put(&self, out: &mut cbor4ii::core::utils::BufWriter) {
                use crate::wire::cbor::{Field, put_map, put_key};
                let present = 0usize $( + usize::from(!Field::is_absent(&self.$field)) )*;
                put_map(out, present);
                $( if !Field::is_absent(&self.$field) { put_key(out, $key); Field::put(&self.$field, out); } )*
            }

            fn take(reader: &mut cbor4ii::core::utils::SliceReader<'_>) -> Result<Self, crate::wire::cbor::DecodeError> {
                use crate::wire::cbor::{Field, DecodeError, take_map, take_key, skip};
                $( let mut $field: Option<$ty> = None; )*
                for _ in 0..take_map(reader)? {
                    match take_key(reader)? {
                        $( $key => $field = Some(<$ty as Field>::take(reader)?), )*
                        _ => skip(reader)?,
                    }
                }
                Ok(Self { $( $field: $field.or_else(<$ty as Field>::absent).ok_or(DecodeError::Missing($key))? ),* })
            }
        }

        impl crate::wire::cbor::Message for $name {}
    };
}

pub(crate) fn put_map(out: &mut BufWriter, len: usize) {
    infallible(types::Map::bounded(len, out));
}

pub(crate) fn put_key(out: &mut BufWriter, key: u64) {
    infallible(key.encode(out));
}

pub(crate) fn take_map(reader: &mut SliceReader<'_>) -> Result<usize, DecodeError> {
    match types::Map::len(reader) {
        Ok(Some(len)) if len <= MAX_ITEMS => Ok(len),
        Ok(Some(_)) => Err(DecodeError::TooLong),
        Ok(None) | Err(_) => Err(DecodeError::Malformed),
    }
}

pub(crate) fn take_key(reader: &mut SliceReader<'_>) -> Result<u64, DecodeError> {
    u64::decode(reader).map_err(|_| DecodeError::Malformed)
}

pub(crate) fn skip(reader: &mut SliceReader<'_>) -> Result<(), DecodeError> {
    IgnoredAny::decode(reader).map(|_| ()).map_err(|_| DecodeError::Malformed)
}

fn remaining(reader: &mut SliceReader<'_>) -> bool {
    use cbor4ii::core::dec::Read;
    reader.fill(1).is_ok_and(|rest| !rest.as_ref().is_empty())
}

/// Writing to memory can't fail; the encoder's type can't say so.
fn infallible<T, E>(result: Result<T, E>) {
    debug_assert!(result.is_ok(), "encoding into memory failed");
}

macro_rules! plain {
    ($($ty:ty),*) => { $(
        impl Field for $ty {
            fn put(&self, out: &mut BufWriter) {
                infallible(self.encode(out));
            }
            fn take(reader: &mut SliceReader<'_>) -> Result<Self, DecodeError> {
                Self::decode(reader).map_err(|_| DecodeError::Malformed)
            }
        }
    )* };
}
plain!(u8, u16, u32, u64, i64, String);

/// `false` is left out.
impl Field for bool {
    fn put(&self, out: &mut BufWriter) {
        infallible(self.encode(out));
    }
    fn take(reader: &mut SliceReader<'_>) -> Result<Self, DecodeError> {
        Self::decode(reader).map_err(|_| DecodeError::Malformed)
    }
    fn is_absent(&self) -> bool {
        !self
    }
    fn absent() -> Option<Self> {
        Some(false)
    }
}

impl Field for Bytes {
    fn put(&self, out: &mut BufWriter) {
        infallible(types::Bytes(self.as_ref()).encode(out));
    }
    fn take(reader: &mut SliceReader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::copy_from_slice(take_bytes(reader)?))
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

impl<const N: usize> Field for [u8; N] {
    fn put(&self, out: &mut BufWriter) {
        infallible(types::Bytes(self.as_slice()).encode(out));
    }
    fn take(reader: &mut SliceReader<'_>) -> Result<Self, DecodeError> {
        take_bytes(reader)?.try_into().map_err(|_| DecodeError::OutOfRange)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut BufWriter) {
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(reader: &mut SliceReader<'_>) -> Result<Self, DecodeError> {
        T::take(reader).map(Some)
    }
    fn is_absent(&self) -> bool {
        self.is_none()
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut BufWriter) {
        infallible(types::Array::bounded(self.len(), out));
        for item in self {
            item.put(out);
        }
    }
    fn take(reader: &mut SliceReader<'_>) -> Result<Self, DecodeError> {
        let len = match types::Array::len(reader) {
            Ok(Some(len)) if len <= MAX_ITEMS => len,
            Ok(Some(_)) => return Err(DecodeError::TooLong),
            Ok(None) | Err(_) => return Err(DecodeError::Malformed),
        };
        (0..len).map(|_| T::take(reader)).collect()
    }
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

macro_rules! newtype {
    ($($name:ident($inner:ty)),*) => { $(
        impl Field for $name {
            fn put(&self, out: &mut BufWriter) {
                self.0.put(out);
            }
            fn take(reader: &mut SliceReader<'_>) -> Result<Self, DecodeError> {
                <$inner as Field>::take(reader).map(Self)
            }
        }
    )* };
}
newtype!(
    PeerId([u8; 32]),
    StreamId([u8; 32]),
    Epoch(u64),
    RenditionId(u16),
    SegmentNumber(u64),
    ChunkNumber(u64),
    WallTime(i64)
);

fn take_bytes<'de>(reader: &mut SliceReader<'de>) -> Result<&'de [u8], DecodeError> {
    types::Bytes::<&'de [u8]>::decode(reader).map(|b| b.0).map_err(|_| DecodeError::Malformed)
}
