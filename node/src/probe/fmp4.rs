//! Timestamps of fragmented MP4 (ISO/IEC 14496-12), read while the bytes pass.
//!
//! Only `moov` and `moof` are kept, and only until they are complete; `mdat` is stepped over. The track's decode times
//! (`tfdt` plus the durations in `trun`) say where a segment starts and ends.

use super::media::{Fault, Span};
pub(super) use crate::boxes::Track;
use crate::boxes::{Malformed, Run, children, run_of, size_and_kind, track_of};

/// Largest `moov` or `moof` read, in bytes. An hour of samples in one fragment stays below 3 MiB.
const LARGEST_BOX: u64 = 4 << 20;

/// Takes the bytes of an initialisation section or a segment in pieces of any size.
#[derive(Debug)]
pub(super) struct Fragments {
    track: Option<Track>,
    at: Position,
    /// First and end tick of what was seen so far.
    ticks: Option<(u64, u64)>,
    /// Largest distance in ticks between the end of a fragment and the start of the next, and its sign.
    break_inside: i64,
}

#[derive(Debug)]
enum Position {
    /// Between boxes, or inside the header of one.
    Header(Vec<u8>),
    /// Inside a box that is kept until it is whole.
    Kept { kind: [u8; 4], body: Vec<u8>, left: u64 },
    /// Inside a box that is stepped over.
    Skipped { left: u64 },
    /// Inside a box that reaches to the end.
    Rest,
}

impl Fragments {
    /// `track` comes from the initialisation section, unless the segment brings its own `moov`.
    pub(super) fn new(track: Option<Track>) -> Self {
        Self { track, at: Position::Header(Vec::with_capacity(16)), ticks: None, break_inside: 0 }
    }

    /// The track found so far.
    pub(super) fn track(&self) -> Option<Track> {
        self.track
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            bytes = match &mut self.at {
                Position::Header(header) => {
                    let (&byte, rest) = bytes.split_first().ok_or(Fault::Truncated)?;
                    header.push(byte);
                    if let Some(next) = after_header(header)? {
                        self.enter(next)?;
                    }
                    rest
                }
                Position::Kept { kind, body, left } => {
                    let (mine, rest) = split(bytes, *left);
                    body.extend_from_slice(mine);
                    *left -= mine.len() as u64;
                    if *left == 0 {
                        let (kind, body) = (*kind, std::mem::take(body));
                        self.at = Position::Header(Vec::with_capacity(16));
                        self.read(kind, &body)?;
                    }
                    rest
                }
                Position::Skipped { left } => {
                    let (mine, rest) = split(bytes, *left);
                    *left -= mine.len() as u64;
                    if *left == 0 {
                        self.at = Position::Header(Vec::with_capacity(16));
                    }
                    rest
                }
                Position::Rest => &[],
            };
        }
        Ok(())
    }

    /// What the bytes covered; a fault if they end inside a box.
    pub(super) fn finish(self) -> Result<Option<Span>, Fault> {
        match self.at {
            Position::Header(header) if header.is_empty() => {}
            Position::Rest => {}
            Position::Header(_) | Position::Kept { .. } | Position::Skipped { .. } => {
                return Err(Fault::Truncated);
            }
        }
        let (Some(track), Some((start, end))) = (self.track, self.ticks) else {
            return Ok(None);
        };
        let nanos = |ticks: i128| i64::try_from(ticks * 1_000_000_000 / i128::from(track.timescale)).ok();
        let span = || {
            Some(Span {
                start: nanos(start.into())?,
                end: nanos(end.into())?,
                blur: 0,
                break_inside: nanos(self.break_inside.into())?,
                period: None,
            })
        };
        span().ok_or(Fault::Malformed).map(Some)
    }

    fn enter(&mut self, next: Position) -> Result<(), Fault> {
        self.at = next;
        if let Position::Kept { kind, left: 0, .. } = self.at {
            self.at = Position::Header(Vec::with_capacity(16));
            return self.read(kind, &[]);
        }
        if let Position::Skipped { left: 0 } = self.at {
            self.at = Position::Header(Vec::with_capacity(16));
        }
        Ok(())
    }

    fn read(&mut self, kind: [u8; 4], body: &[u8]) -> Result<(), Fault> {
        match &kind {
            b"moov" => self.track = track_of(body)?,
            _ => self.fragment(body)?,
        }
        Ok(())
    }

    fn fragment(&mut self, moof: &[u8]) -> Result<(), Fault> {
        let Some(track) = self.track else {
            return Ok(());
        };
        for traf in children(moof).filter_map(|child| child.named(b"traf")) {
            let Some(Run { start, end, sync: _ }) = run_of(traf, track)? else {
                continue;
            };
            if let Some((_, previous_end)) = self.ticks {
                let off = i64::try_from(i128::from(start) - i128::from(previous_end)).map_err(|_| Fault::Malformed)?;
                if off.unsigned_abs() > self.break_inside.unsigned_abs() {
                    self.break_inside = off;
                }
            }
            let first = self.ticks.map_or(start, |(first, _)| first);
            self.ticks = Some((first, end));
        }
        Ok(())
    }
}

fn split(bytes: &[u8], left: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len())))
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Decides what follows a box header, once it is whole: 8 bytes, or 16 with a 64-bit size.
fn after_header(header: &[u8]) -> Result<Option<Position>, Fault> {
    let Some((size, kind)) = size_and_kind(header) else {
        return Ok(None);
    };
    let left = match size {
        0 => return Ok(Some(Position::Rest)),
        1 => match header.get(8..16).and_then(|long| long.try_into().ok()) {
            Some(long) => u64::from_be_bytes(long).checked_sub(16),
            None => return Ok(None),
        },
        _ => u64::from(size).checked_sub(8),
    }
    .ok_or(Fault::Malformed)?;
    let kept = matches!(&kind, b"moov" | b"moof");
    if kept && left > LARGEST_BOX {
        return Err(Fault::Malformed);
    }
    Ok(Some(if kept { Position::Kept { kind, body: Vec::new(), left } } else { Position::Skipped { left } }))
}

#[cfg(test)]
#[path = "fmp4_tests.rs"]
mod tests;
