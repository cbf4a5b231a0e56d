//! What more is said of a segment that grows.

use bytes::Bytes;

use super::announcement::{Announcement, HASH_LEN, Part, PartSource};
use super::cbor::{DecodeError, MAX_ITEMS};
use super::signed::Statement;
use crate::id::{ChunkNumber, Epoch, RenditionId, SegmentNumber};
use crate::time::WallTime;

message! {
    /// The newest parts of a segment that grows, for those who know what was said before: with every chunk the whole
    /// [`Announcement`] would be a thirtieth of a stream of 1 Mbit/s.
    pub struct Continuation {
        /// As [`Announcement::epoch`].
        1 => epoch: Epoch,
        /// As [`Announcement::rendition`].
        2 => rendition: RenditionId,
        /// As [`Announcement::segment`].
        3 => segment: SegmentNumber,
        /// How many of the segment's parts come before those said here.
        4 => parts_before: u16,
        /// Number of the first chunk said here.
        5 => first_chunk: ChunkNumber,
        /// Length of each chunk, bytes.
        6 => lengths: Vec<u32>,
        /// As [`Announcement::hashes`].
        7 => hashes: Bytes,
        /// The parts, of all these chunks; at least one.
        8 => parts: Vec<Part>,
        /// When this was said, by the broadcaster's clock.
        9 => announced: WallTime,
        /// No more parts will follow.
        10 => ends: bool,
        /// Where the origin has the whole segment, if that became known only now.
        11 => source: Option<PartSource>,
    }
}

/// What becomes of an announcement by a continuation.
#[derive(Clone, Debug, PartialEq)]
pub enum Joined {
    /// It says more now.
    Longer(Announcement),
    /// It said all that before.
    Known,
    /// They don't fit: something between them isn't known, or they contradict each other.
    Apart,
}

impl Continuation {
    /// What the last `count` parts of a growing segment are, or of one that has just ended; `None` if it has no more than
    /// that, so that the announcement itself is hardly longer.
    pub fn of(announcement: &Announcement, count: usize) -> Option<Self> {
        let before = announcement.parts.len().checked_sub(count).filter(|before| *before > 0)?;
        let chunks = announcement.part_begin(before);
        let place = || PartSource { uri: announcement.uri.clone(), offset: announcement.offset };
        Some(Self {
            epoch: announcement.epoch,
            rendition: announcement.rendition,
            segment: announcement.segment,
            parts_before: u16::try_from(before).ok()?,
            first_chunk: ChunkNumber(announcement.first_chunk.0 + chunks as u64),
            lengths: announcement.lengths.get(chunks..)?.to_vec(),
            hashes: announcement.hashes.slice(chunks * HASH_LEN..),
            parts: announcement.parts[before..].to_vec(),
            announced: announcement.announced,
            ends: !announcement.growing,
            source: (!announcement.growing).then(place),
        })
    }

    /// The number after the last chunk said here.
    pub fn end_chunk(&self) -> ChunkNumber {
        ChunkNumber(self.first_chunk.0 + self.lengths.len() as u64)
    }

    /// What `earlier` and this say together.
    pub fn join(&self, earlier: &Announcement) -> Joined {
        let same = (self.epoch, self.rendition, self.segment) == (earlier.epoch, earlier.rendition, earlier.segment);
        let before = usize::from(self.parts_before);
        if !same || before > earlier.parts.len() {
            return Joined::Apart;
        }
        let chunks = earlier.part_begin(before);
        let mut all = earlier.clone();
        all.parts.truncate(before);
        all.lengths.truncate(chunks);
        all.parts.extend_from_slice(&self.parts);
        all.lengths.extend_from_slice(&self.lengths);
        all.hashes = [&earlier.hashes[..chunks * HASH_LEN], &self.hashes].concat().into();
        all.duration_us = all.parts.iter().map(|part| u64::from(part.duration_us)).sum();
        (all.announced, all.growing) = (self.announced, !self.ends);
        if let Some(place) = &self.source {
            (all.uri, all.offset) = (place.uri.clone(), place.offset);
        }
        let follows = earlier.first_chunk.0 + chunks as u64 == self.first_chunk.0;
        match () {
            () if !follows || all.check().is_err() => Joined::Apart,
            () if all.continues(earlier) => Joined::Longer(all),
            () if earlier.parts.starts_with(&all.parts) && earlier.hashes.starts_with(&all.hashes) => Joined::Known,
            () => Joined::Apart,
        }
    }
}

impl Statement for Continuation {
    const DOMAIN: &'static str = "continuation";

    fn check(&self) -> Result<(), DecodeError> {
        let chunks: usize = self.parts.iter().map(|part| usize::from(part.chunks)).sum();
        let ok = !self.parts.is_empty()
            && self.parts_before > 0
            && chunks == self.lengths.len()
            && self.lengths.len() <= MAX_ITEMS
            && self.hashes.len() == self.lengths.len() * HASH_LEN
            && self.first_chunk.0 < 1 << 62
            && self.segment.0 < 1 << 62;
        if ok { Ok(()) } else { Err(DecodeError::OutOfRange) }
    }
}
