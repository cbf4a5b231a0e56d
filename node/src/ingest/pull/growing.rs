//! A segment that is put together of its parts.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::cursor::New;
use super::media::Listed;
use super::{Part, SEGMENT_MAX, Segment};
use crate::ingest::chunks::{Cutter, Unsound, track};
use crate::statement;

/// Most chunks announced by parts: an announcement holds 256, and what remains of the segment needs some.
const CHUNKS_MAX: usize = 192;

/// Most bytes of tags and the parts' URIs: each statement repeats them all, goes out on gossip, and has to fit into the
/// header of a chunk (24 KiB) with everything else it says.
const TEXT_MAX: usize = 8 << 10;

/// A segment as far as its parts were sent.
#[derive(Debug)]
pub(super) struct Growing {
    generation: u32,
    /// What is known of it without its bytes and address.
    head: Segment,
    body: BytesMut,
    duration: Duration,
    parts: usize,
    chunks: usize,
    text: usize,
    cutter: Cutter,
    stopped: bool,
}

/// A part that was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Of its segment: all but bytes and address.
    pub(super) head: Segment,
    pub(super) body: Bytes,
    pub(super) uri: String,
}

impl Growing {
    /// Before its first part.
    ///
    /// # Errors
    /// If its initialization section is none of fragmented MP4.
    pub(super) fn new(head: Segment, generation: u32) -> Result<Self, Unsound> {
        let cutter = Cutter::new(track(head.init.as_deref().unwrap_or_default())?);
        let text = head.tags.iter().map(String::len).sum();
        let (body, duration) = (BytesMut::new(), Duration::ZERO);
        Ok(Self { generation, head, body, duration, parts: 0, chunks: 0, text, cutter, stopped: false })
    }

    /// The segment that `new` tells of.
    pub(super) fn is_of(&self, new: &New) -> bool {
        (self.generation, self.head.number) == (new.generation, new.listed.number)
    }

    /// Takes part `index` of those listed. `None`: it comes with the whole segment, as all after it will.
    ///
    /// # Errors
    /// If it isn't made of whole CMAF chunks.
    pub(super) fn take(
        &mut self,
        listed: &Listed,
        index: usize,
        fetched: Fetched,
    ) -> Result<Option<Box<Part>>, Unsound> {
        let Some(part) = listed.parts.get(index).filter(|_| index == self.parts && !self.stopped) else {
            self.stopped |= index > self.parts;
            return Ok(None);
        };
        let chunks = self.chunks + statement::cut(&fetched.body, part.duration).len();
        let text = self.text + fetched.uri.len();
        let len = (self.body.len() + fetched.body.len()) as u64;
        if chunks > CHUNKS_MAX || text > TEXT_MAX || len > SEGMENT_MAX {
            self.stopped = true;
            return Ok(None);
        }
        self.append(&fetched.body).inspect_err(|_| self.stopped = true)?;
        let start = self.head.start + self.duration;
        self.duration += part.duration;
        (self.parts, self.chunks, self.text) = (self.parts + 1, chunks, text);
        Ok(Some(Box::new(Part {
            rendition: self.head.rendition,
            number: self.head.number,
            index: u32::try_from(index).unwrap_or(u32::MAX),
            body: fetched.body,
            start,
            duration: part.duration,
            independent: part.independent,
            discontinuity: self.head.discontinuity,
            init: self.head.init.clone(),
            tags: self.head.tags.clone(),
            uri: fetched.uri,
            offset: part.range.as_ref().map_or(0, |range| range.start),
        })))
    }

    /// A part was sent.
    pub(super) fn is_begun(&self) -> bool {
        self.parts > 0
    }

    /// EXT-X-DISCONTINUITY stands before it.
    pub(super) fn is_discontinuity(&self) -> bool {
        self.head.discontinuity
    }

    /// No more of its parts.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// The parts sent are all that is listed, and last as long as the segment does, to half a part (RFC 8216bis §4.4.4.9).
    pub(super) fn is_whole(&self, listed: &Listed) -> bool {
        let longest = listed.parts.iter().map(|part| part.duration).max().unwrap_or_default();
        self.parts == listed.parts.len() && self.duration.abs_diff(listed.duration) <= longest / 2
    }

    /// The parts are what `segment` begins with.
    pub(super) fn begins(&self, segment: &[u8]) -> bool {
        segment.starts_with(&self.body)
    }

    /// Nothing is in `segment` but the parts.
    pub(super) fn is_as_long_as(&self, segment: &[u8]) -> bool {
        segment.len() == self.body.len()
    }

    /// A segment of the parts that were sent.
    pub(super) fn end(self) -> Box<Segment> {
        Box::new(Segment { body: self.body.freeze(), duration: self.duration, ..self.head })
    }

    fn append(&mut self, part: &[u8]) -> Result<(), Unsound> {
        let len = self.body.len();
        self.body.extend_from_slice(part);
        let end = self.cutter.end();
        let whole = loop {
            match self.cutter.next(&self.body) {
                Ok(Some(_)) => {}
                Ok(None) => break self.cutter.finish(&self.body),
                Err(error) => break Err(error),
            }
        };
        // A part without a chunk of its own plays nothing.
        let result = whole.and_then(|_| if self.cutter.end() > end { Ok(()) } else { Err(Unsound::Truncated) });
        if result.is_err() {
            self.body.truncate(len);
        }
        result
    }
}
