//! The broadcaster's signed statement of what a segment consists of.
//!
//! In low latency a segment is stated while it grows: each statement says all of it so far. The first rides with chunks, then
//! [`super::Continuation`]s do; the last one goes out on gossip, and so does each if the broadcaster sends no chunks itself.

use std::ops::Range;

use bytes::Bytes;

use super::MAX_CHUNK_LEN;
use super::catalogue::is_tag_line;
use super::cbor::{DecodeError, MAX_ITEMS};
use super::signed::Statement;
use crate::id::{ChunkNumber, Epoch, RenditionId, SegmentNumber};
use crate::time::WallTime;

/// Bytes of a chunk's BLAKE3 digest that an announcement keeps. The only forger of interest looks for a second
/// preimage (the broadcaster chose the first), which 128 bits put at 2¹²⁸ work.
pub const HASH_LEN: usize = 16;

message! {
    /// One segment, or what there is of it so far: where it stands, which chunks it is cut into, what each hashes to.
    pub struct Announcement {
        /// The broadcaster's start it belongs to.
        1 => epoch: Epoch,
        /// The rendition it belongs to.
        2 => rendition: RenditionId,
        /// Its media sequence number.
        3 => segment: SegmentNumber,
        /// Number of its first chunk; the others follow without gaps.
        4 => first_chunk: ChunkNumber,
        /// Length of each chunk, bytes.
        5 => lengths: Vec<u32>,
        /// [`HASH_LEN`] bytes for each chunk, joined.
        6 => hashes: Bytes,
        /// When its first frame was captured (EXT-X-PROGRAM-DATE-TIME), by the broadcaster's clock.
        7 => start: WallTime,
        /// EXTINF, microseconds; of a growing segment, so far.
        8 => duration_us: u64,
        /// EXT-X-DISCONTINUITY stands before it.
        9 => discontinuity: bool,
        /// Which initialization section it needs; absent for MPEG-TS.
        10 => init: Option<u16>,
        /// Tag lines to repeat before it untouched (EXT-X-KEY, EXT-X-DATERANGE, …).
        11 => tags: Vec<String>,
        /// Where the origin has it: a URI relative to the rendition's playlist at the origin, or absolute. Empty if it has
        /// no more than the parts, which say where they are.
        12 => uri: String,
        /// Offset of its first byte within that resource, for EXT-X-BYTERANGE.
        13 => offset: u64,
        /// When this was said, by the broadcaster's clock.
        14 => announced: WallTime,
        /// Its parts in order, for a low-latency stream; together they hold all chunks and the whole duration.
        15 => parts: Vec<Part>,
        /// More parts will follow.
        16 => growing: bool,
    }
}

message! {
    /// One part (EXT-X-PART) of a segment: a run of its chunks.
    pub struct Part {
        /// How many chunks.
        1 => chunks: u16,
        /// DURATION, microseconds.
        2 => duration_us: u32,
        /// INDEPENDENT=YES: decoding can begin with it.
        3 => independent: bool,
        /// Where the origin has it while the segment grows, or if that has no address; absent if at [`Announcement::uri`], at
        /// its place in the segment.
        4 => source: Option<PartSource>,
    }
}

message! {
    /// A resource of its own for a part.
    pub struct PartSource {
        /// As [`Announcement::uri`].
        1 => uri: String,
        /// Offset of its first byte within that resource.
        2 => offset: u64,
    }
}

impl Announcement {
    /// What tells it from all others of its rendition.
    pub fn named(&self) -> (Epoch, SegmentNumber) {
        (self.epoch, self.segment)
    }

    /// How many chunks it is cut into.
    pub fn chunk_count(&self) -> u64 {
        self.lengths.len() as u64
    }

    /// The number after its last chunk.
    pub fn end_chunk(&self) -> ChunkNumber {
        ChunkNumber(self.first_chunk.0 + self.chunk_count())
    }

    /// Position of `chunk` within the segment, if it belongs to it.
    pub fn index_of(&self, chunk: ChunkNumber) -> Option<usize> {
        let index = chunk.0.checked_sub(self.first_chunk.0)?;
        (index < self.chunk_count()).then_some(index as usize)
    }

    /// Length of `chunk` in bytes, if it belongs to the segment.
    pub fn length_of(&self, chunk: ChunkNumber) -> Option<u32> {
        self.index_of(chunk).map(|index| self.lengths[index])
    }

    /// What `chunk` must hash to.
    pub fn hash_of(&self, chunk: ChunkNumber) -> Option<&[u8]> {
        let at = self.index_of(chunk)? * HASH_LEN;
        self.hashes.get(at..at + HASH_LEN)
    }

    /// Where chunk number `index` of the segment begins, bytes from the segment's start.
    pub fn byte_offset(&self, index: usize) -> u64 {
        self.lengths.iter().take(index).map(|len| u64::from(*len)).sum()
    }

    /// Length of the whole segment, bytes.
    pub fn byte_len(&self) -> u64 {
        self.byte_offset(self.lengths.len())
    }

    /// When its last frame was captured.
    pub fn end(&self) -> WallTime {
        self.start.shifted(i64::try_from(self.duration_us).unwrap_or(i64::MAX))
    }

    /// Duration as the machines count it.
    pub fn duration(&self) -> std::time::Duration {
        std::time::Duration::from_micros(self.duration_us)
    }

    fn parts_add_up(&self) -> bool {
        let sound = |part: &Part| {
            part.chunks > 0
                && part.source.as_ref().is_none_or(|source| {
                    source.uri.len() <= 2048 && !source.uri.contains(['\r', '\n']) && source.offset < 1 << 62
                })
        };
        self.parts.iter().all(sound)
            && self.part_begin(self.parts.len()) == self.lengths.len()
            && self.parts.iter().map(|part| u64::from(part.duration_us)).sum::<u64>() == self.duration_us
    }

    /// Index of the first chunk of part `index`; of the number after the last part, the number of chunks.
    pub fn part_begin(&self, index: usize) -> usize {
        self.parts.iter().take(index).map(|part| usize::from(part.chunks)).sum()
    }

    /// Which bytes of the segment part `index` is.
    pub fn part_bytes(&self, index: usize) -> Range<u64> {
        let at = |part: usize| self.byte_offset(self.part_begin(part));
        at(index)..at(index + 1)
    }

    /// What was said of the segment when it had `count` parts; `count` is at least 1 and at most as many as it has.
    pub fn first_parts(&self, count: usize) -> Self {
        let parts = self.parts[..count.min(self.parts.len())].to_vec();
        let chunks = self.part_begin(count).min(self.lengths.len());
        Self {
            growing: count < self.parts.len() || self.growing,
            duration_us: parts.iter().map(|part| u64::from(part.duration_us)).sum(),
            lengths: self.lengths[..chunks].to_vec(),
            hashes: self.hashes.slice(..(chunks * HASH_LEN).min(self.hashes.len())),
            parts,
            ..self.clone()
        }
    }

    /// Whether this says more of a growing segment than `earlier` did, and nothing else of what that said.
    pub fn continues(&self, earlier: &Self) -> bool {
        let further = self.lengths.len() > earlier.lengths.len() || !self.growing;
        earlier.growing
            && further
            && (self.epoch, self.rendition) == (earlier.epoch, earlier.rendition)
            && (self.segment, self.first_chunk, self.start) == (earlier.segment, earlier.first_chunk, earlier.start)
            && self.lengths.starts_with(&earlier.lengths)
            && self.hashes.starts_with(&earlier.hashes)
            && self.parts.starts_with(&earlier.parts)
    }

    /// When the chunk at `index` was first stated, by the broadcaster's clock: its part was, and those after it since.
    pub fn stated(&self, index: usize) -> WallTime {
        let mut chunks = 0;
        let later = self.parts.iter().skip_while(|part| {
            chunks += usize::from(part.chunks);
            chunks <= index
        });
        let since: u64 = later.skip(1).map(|part| u64::from(part.duration_us)).sum();
        self.announced.shifted(-(since as i64))
    }

    /// Bits per second of this segment.
    pub fn rate_bps(&self) -> f64 {
        self.byte_len() as f64 * 8e6 / self.duration_us.max(1) as f64
    }
}

impl Statement for Announcement {
    const DOMAIN: &'static str = "announcement";

    fn check(&self) -> Result<(), DecodeError> {
        let ok = !self.lengths.is_empty()
            && self.lengths.len() <= MAX_ITEMS
            && self.lengths.iter().all(|len| (1..=MAX_CHUNK_LEN).contains(&(*len as usize)))
            && self.hashes.len() == self.lengths.len() * HASH_LEN
            && self.first_chunk.0 < 1 << 62
            && self.segment.0 < 1 << 62
            && self.duration_us <= 3_600_000_000
            && self.tags.len() <= 32
            && self.tags.iter().all(|tag| is_tag_line(tag))
            && self.uri.len() <= 2048
            && !self.uri.contains(['\r', '\n'])
            && (0..1 << 53).contains(&self.start.0)
            && self.offset < 1 << 62
            && (!self.growing || !self.parts.is_empty())
            && (self.parts.is_empty() || self.parts_add_up());
        if ok { Ok(()) } else { Err(DecodeError::OutOfRange) }
    }
}
