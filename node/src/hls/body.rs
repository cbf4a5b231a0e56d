//! The bytes of a segment, sent on as its chunks come in.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use starling_proto::ChunkNumber;
use starling_proto::wire::Announcement;
use tokio::time::{Instant, timeout_at};

use crate::media::Media;

/// Why a body ended before its end. The client sees a broken transfer, never a short one that looks whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A chunk didn't come within the patience given.
    #[error("a chunk of the segment didn't come in time")]
    Late,
    /// The segment was removed before all of it was here.
    #[error("the segment left the window before it was complete")]
    Gone,
}

/// The bytes `part` of a segment. Chunks that are here are held on to at once; each of the others is waited for up to
/// `patience`, from when it is its turn.
pub fn segment(
    media: Arc<Media>,
    announcement: Arc<Announcement>,
    part: Range<u64>,
    patience: Duration,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send + 'static {
    let pieces = pieces(&media, &announcement, &part);
    stream::try_unfold(pieces, move |mut pieces| {
        let (media, announcement) = (media.clone(), announcement.clone());
        async move {
            let Some(piece) = pieces.pop_front() else { return Ok(None) };
            let chunk = match piece.chunk {
                Some(chunk) => chunk,
                None => arrival(&media, &announcement, piece.number, patience).await?,
            };
            if piece.cut.end > chunk.len() {
                return Err(Broken::Gone);
            }
            Ok(Some((chunk.slice(piece.cut), pieces)))
        }
    })
}

struct Piece {
    number: ChunkNumber,
    /// Which of its bytes are wanted.
    cut: Range<usize>,
    /// Its bytes, if they were here from the first.
    chunk: Option<Bytes>,
}

fn pieces(media: &Media, announcement: &Announcement, part: &Range<u64>) -> VecDeque<Piece> {
    let mut pieces = VecDeque::new();
    let mut begin = 0;
    for (index, len) in announcement.lengths.iter().map(|len| u64::from(*len)).enumerate() {
        let (from, to) = (part.start.max(begin), part.end.min(begin + len));
        if from < to {
            let number = ChunkNumber(announcement.first_chunk.0 + index as u64);
            let cut = (from - begin) as usize..(to - begin) as usize;
            let chunk = media.chunk(announcement.rendition, announcement.epoch, number);
            pieces.push_back(Piece { number, cut, chunk });
        }
        begin += len;
    }
    pieces
}

async fn arrival(
    media: &Media,
    announcement: &Announcement,
    number: ChunkNumber,
    patience: Duration,
) -> Result<Bytes, Broken> {
    let (rendition, epoch) = (announcement.rendition, announcement.epoch);
    let deadline = Instant::now() + patience;
    let mut changes = media.changes();
    loop {
        changes.mark_unchanged();
        if let Some(chunk) = media.chunk(rendition, epoch, number) {
            return Ok(chunk);
        }
        if media.announcement_of(rendition, epoch, number).is_none() {
            return Err(Broken::Gone);
        }
        match timeout_at(deadline, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Broken::Gone),
            Err(_) => return Err(Broken::Late),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, TryStreamExt};

    use super::*;
    use crate::hls::samples;

    const PATIENCE: Duration = Duration::from_secs(60);

    async fn read(media: &Arc<Media>, announcement: &Arc<Announcement>, part: Range<u64>) -> Result<Vec<u8>, Broken> {
        collect(segment(media.clone(), announcement.clone(), part, PATIENCE)).await
    }

    async fn collect(body: impl Stream<Item = Result<Bytes, Broken>>) -> Result<Vec<u8>, Broken> {
        Ok(body.try_collect::<Vec<Bytes>>().await?.concat())
    }

    #[tokio::test]
    async fn any_part_of_a_segment() {
        let (media, announcement) = samples::one_segment(&[b"abc", b"defg", b"h"]);
        samples::insert_all(&media, &announcement, &[b"abc", b"defg", b"h"]);
        for from in 0..=8 {
            for to in from..=8 {
                let expected = b"abcdefgh"[from as usize..to as usize].to_vec();
                assert_eq!(read(&media, &announcement, from..to).await, Ok(expected), "{from}..{to}");
            }
        }
    }

    #[tokio::test]
    async fn chunks_are_handed_on_as_they_come() {
        let (media, announcement) = samples::one_segment(&[b"abc", b"defg"]);
        samples::insert(&media, &announcement, 0, b"abc");
        let mut body = Box::pin(segment(media.clone(), announcement.clone(), 0..7, PATIENCE));
        assert_eq!(body.next().await, Some(Ok(Bytes::from_static(b"abc"))));
        let mut second = body.next();
        assert!(futures::poll!(&mut second).is_pending());
        samples::insert(&media, &announcement, 1, b"defg");
        assert_eq!(second.await, Some(Ok(Bytes::from_static(b"defg"))));
        assert_eq!(body.next().await, None);
    }

    #[tokio::test]
    async fn a_chunk_that_never_comes_breaks_the_body() {
        let (media, announcement) = samples::one_segment(&[b"abc", b"defg"]);
        samples::insert(&media, &announcement, 0, b"abc");
        let patience = Duration::from_millis(20);
        let body = |part| segment(media.clone(), announcement.clone(), part, patience);
        assert_eq!(collect(body(0..7)).await, Err(Broken::Late));
        assert_eq!(collect(body(0..3)).await, Ok(b"abc".to_vec()), "what is here is served");
    }

    #[tokio::test]
    async fn removal_breaks_a_body_that_waits_at_once_and_no_other() {
        let (media, announcement) = samples::one_segment(&[b"abc", b"defg"]);
        samples::insert(&media, &announcement, 0, b"abc");
        let waiting = tokio::spawn({
            let (media, announcement) = (media.clone(), announcement.clone());
            async move { read(&media, &announcement, 0..7).await }
        });
        let mut held = Box::pin(segment(media.clone(), announcement.clone(), 0..3, PATIENCE));
        tokio::task::yield_now().await;
        for number in 1..40 {
            media.announce(Arc::new(samples::announcement(1, number)), Bytes::new());
        }
        assert_eq!(waiting.await.expect("no panic"), Err(Broken::Gone));
        assert_eq!(held.next().await, Some(Ok(Bytes::from_static(b"abc"))));
    }
}
