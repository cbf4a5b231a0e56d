//! Byte ranges from the origin: cut into chunks as they stream in, checked, handed to the loop.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use starling_proto::wire::{Announcement, Rendition};
use starling_proto::{ChunkNumber, RequestId};
use tokio::sync::mpsc;

use crate::origin::{FetchError, Origin, Place};
use crate::statement;

/// What a fetch brought.
#[derive(Debug)]
pub(super) enum Fetched {
    /// A chunk, checked.
    Chunk { announcement: Arc<Announcement>, number: ChunkNumber, body: Bytes, genuine: bool },
    /// Its end.
    Ended { id: RequestId, took: Duration, error: Option<FetchError> },
}

/// Fetches chunks `first..end` of a segment.
pub(super) async fn fetch(
    origin: Arc<Origin>,
    rendition: Rendition,
    announcement: Arc<Announcement>,
    chunks: Range<ChunkNumber>,
    id: RequestId,
    to: mpsc::Sender<Fetched>,
) {
    let began = Instant::now();
    let index = |number: ChunkNumber| usize::try_from(number.0.saturating_sub(announcement.first_chunk.0)).unwrap_or(0);
    let bytes = announcement.byte_offset(index(chunks.start))..announcement.byte_offset(index(chunks.end));
    let mut next = chunks.start;
    let mut pending = BytesMut::new();
    let result = origin
        .fetch(&Place::of(&rendition, &announcement), bytes, |piece| {
            pending.extend_from_slice(&piece);
            while let Some(len) = announcement.length_of(next).filter(|len| pending.len() >= *len as usize) {
                let body = pending.split_to(len as usize).freeze();
                let genuine = statement::is_genuine(&announcement, next, &body);
                // The channel holds all chunks of all fetches that can be open at once.
                let _ = to.try_send(Fetched::Chunk { announcement: announcement.clone(), number: next, body, genuine });
                next = ChunkNumber(next.0 + 1);
            }
        })
        .await;
    let _ = to.send(Fetched::Ended { id, took: began.elapsed(), error: result.err() }).await;
}
