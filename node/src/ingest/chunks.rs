//! Cutting a CMAF segment into its chunks while it grows: each is a `moof` with its `mdat`, and whatever stands before
//! them (`styp`, `prft`, `emsg`, …).

use std::ops::Range;

use starling_proto::WallTime;
use thiserror::Error;

use crate::boxes::{Malformed, Run, Track, child, children, long_number, number, run_of, size_and_kind, track_of};
use crate::ingest::pull::SEGMENT_MAX;

/// One whole chunk of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Where in the segment it is.
    pub(super) range: Range<usize>,
    /// What it covers of the track's time; `None` if it doesn't say.
    pub(super) run: Option<Run>,
    /// When its samples were captured, if a producer reference time (`prft`) says so.
    pub(super) reference: Option<Reference>,
}

/// A producer reference time, ISO/IEC 14496-12 §8.16.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// The wall clock's time …
    pub(super) wall: WallTime,
    /// … at this tick of the track.
    pub(super) media_time: u64,
    /// The clock was read when the chunk was finished or written, not when its first sample was captured.
    pub(super) afterwards: bool,
}

/// What is wrong with the bytes of a segment.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum Unsound {
    #[error("it is not fragmented MP4; push CMAF segments (moof and mdat boxes)")]
    NotFragments,
    #[error("it breaks the rules of fragmented MP4 (ISO/IEC 14496-12); check the encoder")]
    Malformed,
    #[error("it ends inside a box or chunk")]
    Truncated,
}

impl From<Malformed> for Unsound {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// How far a segment is cut.
#[derive(Debug)]
pub(super) struct Cutter {
    track: Track,
    /// Where the chunk in progress begins.
    begun: usize,
    /// Where the next box begins.
    at: usize,
    run: Option<Run>,
    reference: Option<Reference>,
    has_moof: bool,
}

/// Seconds from 1900, where NTP begins, to 1970; RFC 5905 §6.
const NTP_TO_UNIX: i64 = 2_208_988_800;

/// Boxes that may stand between chunks, or before the first.
const BETWEEN: [&[u8; 4]; 9] = [b"styp", b"sidx", b"ssix", b"emsg", b"prft", b"free", b"skip", b"uuid", b"mfra"];

impl Cutter {
    pub(super) fn new(track: Track) -> Self {
        Self { track, begun: 0, at: 0, run: None, reference: None, has_moof: false }
    }

    /// The next whole chunk in `segment`, the bytes that came so far. After an error the cutter is of no more use.
    pub(super) fn next(&mut self, segment: &[u8]) -> Result<Option<Chunk>, Unsound> {
        while let Some((kind, body)) = whole_box(segment, self.at)? {
            self.at = body.end;
            let body = segment.get(body).ok_or(Unsound::Truncated)?;
            match &kind {
                b"moof" => self.moof(body)?,
                b"mdat" if self.has_moof => return Ok(Some(self.chunk())),
                b"mdat" => return Err(Unsound::Malformed),
                b"prft" => self.reference = reference(body, self.track).or(self.reference),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Where the last whole chunk ends.
    pub(super) fn end(&self) -> usize {
        self.begun
    }

    /// How many bytes of the finished `segment` are good: all, if it ends with a box that may stand behind a chunk.
    pub(super) fn finish(&self, segment: &[u8]) -> Result<usize, Unsound> {
        if self.at == segment.len() && !self.has_moof { Ok(self.at) } else { Err(Unsound::Truncated) }
    }

    fn moof(&mut self, body: &[u8]) -> Result<(), Unsound> {
        self.has_moof = true;
        for traf in children(body).filter_map(|child| child.named(b"traf")) {
            let Some(run) = run_of(traf, self.track)? else { continue };
            self.run = Some(self.run.map_or(run, |first| Run { end: run.end.max(first.end), ..first }));
        }
        Ok(())
    }

    fn chunk(&mut self) -> Chunk {
        let range = self.begun..self.at;
        self.begun = self.at;
        self.has_moof = false;
        Chunk { range, run: self.run.take(), reference: self.reference.take() }
    }
}

/// The track an initialization section describes.
pub(super) fn track(init: &[u8]) -> Result<Track, Unsound> {
    let moov = child(init, b"moov").ok_or(Unsound::NotFragments)?;
    track_of(moov)?.ok_or(Unsound::Malformed)
}

/// A box: its type, and where its body is.
type Boxed = ([u8; 4], Range<usize>);

/// The box at `at`, if all of it is there.
fn whole_box(segment: &[u8], at: usize) -> Result<Option<Boxed>, Unsound> {
    let rest = segment.get(at..).unwrap_or_default();
    let Some((size, kind)) = size_and_kind(rest) else { return Ok(None) };
    if !matches!(&kind, b"moof" | b"mdat") && !BETWEEN.contains(&&kind) {
        return Err(Unsound::NotFragments);
    }
    let (header, size) = match size {
        // To the end of the file, which a segment in the making doesn't have.
        0 => return Err(Unsound::Malformed),
        1 => match long_number(rest, 8) {
            Some(size) => (16, size),
            None => return Ok(None),
        },
        size => (8, u64::from(size)),
    };
    if size < header || size > SEGMENT_MAX {
        return Err(Unsound::Malformed);
    }
    // Both are at most SEGMENT_MAX.
    let (start, end) = (at + header as usize, at + size as usize);
    Ok((end <= segment.len()).then_some((kind, start..end)))
}

/// Reads a `prft` of `track`.
fn reference(body: &[u8], track: Track) -> Option<Reference> {
    let version_and_flags = number(body, 0)?;
    if number(body, 4)? != track.id {
        return None;
    }
    let ntp = long_number(body, 8)?;
    let media_time = if version_and_flags >> 24 == 0 { u64::from(number(body, 16)?) } else { long_number(body, 16)? };
    let seconds = i64::try_from(ntp >> 32).ok()? - NTP_TO_UNIX;
    let micros = ((ntp & 0xffff_ffff) * 1_000_000) >> 32;
    let wall = WallTime(seconds * 1_000_000 + i64::try_from(micros).ok()?);
    // 2: the moof was finished, 4: it was written; 0, 1, 8 and 24 speak of the sample itself.
    Some(Reference { wall, media_time, afterwards: matches!(version_and_flags & 0x00ff_ffff, 2 | 4) })
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;
