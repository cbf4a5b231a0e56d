//! Byte ranges from the origin: cut into chunks as they stream in, checked, handed to the loop.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use starling_proto::wire::{Announcement, Part, Rendition, Window};
use starling_proto::{ChunkNumber, RenditionId, RequestId};
use tokio::sync::mpsc;

use crate::origin::{FetchError, Origin, Place};
use crate::statement;

/// What a fetch brought.
#[derive(Debug)]
pub(super) enum Fetched {
    /// A chunk, checked.
    Chunk { announcement: Arc<Announcement>, number: ChunkNumber, body: Bytes, genuine: bool },
    /// Statements to begin with.
    Window(Window),
    /// Its end.
    Ended { id: RequestId, took: Duration, error: Option<FetchError> },
}

/// Asks the broadcaster's HTTP server for what a newcomer needs, of one rendition or the catalogue alone. A connection
/// is then open in any case, kept for the first fetch: the first picture comes from there.
pub(super) async fn fetch_window(origin: Arc<Origin>, rendition: Option<RenditionId>, to: mpsc::Sender<Fetched>) {
    match origin.fetch_statements(rendition).await {
        Ok(Some(window)) => drop(to.send(Fetched::Window(window)).await), // Err: the node ends
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "the origin has no statements, the mesh will"),
    }
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
    let mut cutter = Cutter { announcement: &announcement, next: chunks.start, pending: BytesMut::new(), to: &to };
    let pieces = pieces(&rendition, &announcement, chunks);
    let result = match &pieces[..] {
        [(place, bytes)] => origin.fetch(place, bytes.clone(), |piece| cutter.take(&piece)).await,
        _ => fetch_together(&origin, pieces, &mut cutter).await,
    };
    let _ = to.send(Fetched::Ended { id, took: began.elapsed(), error: result.err() }).await;
}

/// Parts asked for at once where each is a resource of its own: a player that begins wants ten, a round trip each.
const TOGETHER: usize = 5;

async fn fetch_together(
    origin: &Origin,
    pieces: Vec<(Place<'_>, Range<u64>)>,
    cutter: &mut Cutter<'_>,
) -> Result<(), FetchError> {
    let wholes: Vec<_> = pieces.into_iter().map(|(place, bytes)| whole(origin, place, bytes)).collect();
    let mut bodies = stream::iter(wholes).buffered(TOGETHER);
    while let Some(body) = bodies.next().await {
        cutter.take(&body?);
    }
    Ok(())
}

async fn whole(origin: &Origin, place: Place<'_>, bytes: Range<u64>) -> Result<BytesMut, FetchError> {
    let mut body = BytesMut::new();
    origin.fetch(&place, bytes, |piece| body.extend_from_slice(&piece)).await?;
    Ok(body)
}

/// Makes chunks of what streams in.
struct Cutter<'a> {
    announcement: &'a Arc<Announcement>,
    next: ChunkNumber,
    pending: BytesMut,
    to: &'a mpsc::Sender<Fetched>,
}

impl Cutter<'_> {
    fn take(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
        while let Some(len) = self.announcement.length_of(self.next).filter(|len| self.pending.len() >= *len as usize) {
            let (announcement, number) = (self.announcement.clone(), self.next);
            let body = self.pending.split_to(len as usize).freeze();
            let genuine = statement::is_genuine(&announcement, number, &body);
            // The channel holds all chunks of all fetches that can be open at once.
            let _ = self.to.try_send(Fetched::Chunk { announcement, number, body, genuine });
            self.next = ChunkNumber(number.0 + 1);
        }
    }
}

/// Where the bytes of chunks are: a range of the segment, or, while it grows and its parts are resources of their own, of
/// each of these. A segment without an address never became more than its parts.
fn pieces<'a>(
    rendition: &'a Rendition,
    announcement: &'a Announcement,
    chunks: Range<ChunkNumber>,
) -> Vec<(Place<'a>, Range<u64>)> {
    let index = |number: ChunkNumber| usize::try_from(number.0.saturating_sub(announcement.first_chunk.0)).unwrap_or(0);
    let wanted = announcement.byte_offset(index(chunks.start))..announcement.byte_offset(index(chunks.end));
    let unplaced = announcement.growing || announcement.uri.is_empty();
    let apart = unplaced && announcement.parts.iter().all(|part| part.source.is_some());
    if !apart {
        return vec![(Place::of(rendition, announcement), wanted)];
    }
    let piece = |(index, part): (usize, &'a Part)| {
        let source = part.source.as_ref()?;
        let Range { start: begin, end } = announcement.part_bytes(index);
        let bytes = wanted.start.max(begin)..wanted.end.min(end);
        let place = Place {
            playlist: &rendition.origin,
            segment: &source.uri,
            offset: source.offset,
            len: Some(end - begin).filter(|_| source.offset == 0),
        };
        (bytes.start < bytes.end).then(|| (place, bytes.start - begin..bytes.end - begin))
    };
    announcement.parts.iter().enumerate().filter_map(piece).collect()
}

#[cfg(test)]
mod tests {
    use starling_proto::wire::PartSource;

    use super::*;
    use crate::hls::samples::{announcement_of_chunks, rendition};

    #[test]
    fn a_segment_without_an_address_is_where_its_parts_are() {
        let mut announcement = announcement_of_chunks(1, 2, &[10, 20, 30]);
        let part = |chunks, uri: &str, offset| {
            let source = Some(PartSource { uri: uri.to_owned(), offset });
            Part { chunks, duration_us: 1, independent: false, source }
        };
        announcement.parts = vec![part(1, "a", 0), part(2, "b", 7)];
        let rendition = rendition(0);
        let all = announcement.first_chunk..announcement.end_chunk();
        let where_it_is = |announcement: &Announcement| {
            let pieces = pieces(&rendition, announcement, all.clone());
            pieces.into_iter().map(|(place, bytes)| (place.segment.to_owned(), place.offset, bytes)).collect::<Vec<_>>()
        };
        let whole = vec![(announcement.uri.clone(), announcement.offset, 0..60)];
        assert_eq!(where_it_is(&announcement), whole);
        announcement.uri = String::new();
        assert_eq!(where_it_is(&announcement), [("a".to_owned(), 0, 0..10), ("b".to_owned(), 7, 0..50)]);
    }
}
