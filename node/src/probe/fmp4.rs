//! Timestamps of fragmented MP4 (ISO/IEC 14496-12), read while the bytes pass.
//!
//! Only `moov` and `moof` are kept, and only until they are complete; `mdat` is stepped over. The track's decode times
//! (`tfdt` plus the durations in `trun`) say where a segment starts and ends.

use super::media::{Fault, Span};

/// Largest `moov` or `moof` read, in bytes. An hour of samples in one fragment stays below 3 MiB.
const LARGEST_BOX: u64 = 4 << 20;

/// The track whose timestamps are checked: the video if there is one, else the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Track {
    id: u32,
    /// Ticks a second, at least 1.
    timescale: u32,
    /// Ticks of a sample for which no other duration is given (`trex`).
    sample_duration: u32,
    video: bool,
}

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
            let Some((start, end)) = run_of(traf, track)? else {
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

fn size_and_kind(header: &[u8]) -> Option<(u32, [u8; 4])> {
    let size = u32::from_be_bytes(header.get(..4)?.try_into().ok()?);
    Some((size, header.get(4..8)?.try_into().ok()?))
}

/// The track to follow in a `moov`.
fn track_of(moov: &[u8]) -> Result<Option<Track>, Fault> {
    let mut chosen: Option<Track> = None;
    for trak in children(moov).filter_map(|child| child.named(b"trak")) {
        let track = read_trak(trak).ok_or(Fault::Malformed)?;
        if chosen.is_none_or(|best| track.video && !best.video) {
            chosen = Some(track);
        }
    }
    let defaults = child(moov, b"mvex").map(children).into_iter().flatten();
    for trex in defaults.filter_map(|child| child.named(b"trex")) {
        let id = number(trex, 4);
        if let Some(track) = chosen.as_mut().filter(|track| Some(track.id) == id) {
            track.sample_duration = number(trex, 12).ok_or(Fault::Malformed)?;
        }
    }
    Ok(chosen)
}

fn read_trak(trak: &[u8]) -> Option<Track> {
    let tkhd = child(trak, b"tkhd")?;
    let mdia = child(trak, b"mdia")?;
    let mdhd = child(mdia, b"mdhd")?;
    // version 1 has 64-bit times before these fields
    let id = number(tkhd, if tkhd.first() == Some(&1) { 20 } else { 12 })?;
    let timescale = number(mdhd, if mdhd.first() == Some(&1) { 20 } else { 12 })?;
    let video = child(mdia, b"hdlr").and_then(|hdlr| hdlr.get(8..12)) == Some(b"vide");
    (timescale > 0).then_some(Track { id, timescale, sample_duration: 0, video })
}

/// First and end tick of a `traf`, if it is of our track and says where it starts.
fn run_of(traf: &[u8], track: Track) -> Result<Option<(u64, u64)>, Fault> {
    let tfhd = child(traf, b"tfhd").ok_or(Fault::Malformed)?;
    if number(tfhd, 4) != Some(track.id) {
        return Ok(None);
    }
    let Some(tfdt) = child(traf, b"tfdt") else {
        return Ok(None);
    };
    let start = if tfdt.first() == Some(&1) { long_number(tfdt, 4) } else { number(tfdt, 4).map(u64::from) }
        .ok_or(Fault::Malformed)?;
    let default = default_duration(tfhd).ok_or(Fault::Malformed)?.unwrap_or(track.sample_duration);
    let mut end = start;
    for trun in children(traf).filter_map(|child| child.named(b"trun")) {
        let length = run_length(trun, default).ok_or(Fault::Malformed)?;
        end = end.checked_add(length).ok_or(Fault::Malformed)?;
    }
    Ok(Some((start, end)))
}

/// The default sample duration of a `tfhd`, if it has one (§8.8.7).
fn default_duration(tfhd: &[u8]) -> Option<Option<u32>> {
    let flags = number(tfhd, 0)? & 0x00ff_ffff;
    if flags & 0x8 == 0 {
        return Some(None);
    }
    let base_offset = if flags & 0x1 != 0 { 8 } else { 0 };
    let description = if flags & 0x2 != 0 { 4 } else { 0 };
    number(tfhd, 8 + base_offset + description).map(Some)
}

/// Ticks covered by a `trun` (§8.8.8).
fn run_length(trun: &[u8], default: u32) -> Option<u64> {
    let flags = number(trun, 0)? & 0x00ff_ffff;
    let samples = number(trun, 4)?;
    if flags & 0x100 == 0 {
        return Some(u64::from(samples) * u64::from(default));
    }
    let optional = |flag: u32| if flags & flag != 0 { 4 } else { 0 };
    let first = 8 + optional(0x1) + optional(0x4);
    let stride = optional(0x100) + optional(0x200) + optional(0x400) + optional(0x800);
    let entries = trun.get(first..)?;
    if (entries.len() / stride) < usize::try_from(samples).ok()? {
        return None;
    }
    entries.chunks_exact(stride).take(samples as usize).map(|entry| number(entry, 0).map(u64::from)).sum()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(field.try_into().ok()?))
}

fn long_number(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_be_bytes(field.try_into().ok()?))
}

struct Child<'a> {
    kind: [u8; 4],
    body: &'a [u8],
}

impl<'a> Child<'a> {
    fn named(self, kind: &[u8; 4]) -> Option<&'a [u8]> {
        (self.kind == *kind).then_some(self.body)
    }
}

fn child<'a>(parent: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    children(parent).find_map(|child| child.named(kind))
}

/// The boxes inside a box that is in memory; ends at the first that does not fit.
fn children(mut bytes: &[u8]) -> impl Iterator<Item = Child<'_>> {
    std::iter::from_fn(move || {
        let (size, kind) = size_and_kind(bytes)?;
        let size = if size == 0 { bytes.len() } else { usize::try_from(size).ok()? };
        let body = bytes.get(8..size)?;
        bytes = &bytes[size..];
        Some(Child { kind, body })
    })
}

#[cfg(test)]
#[path = "fmp4_tests.rs"]
mod tests;
