//! Boxes of fragmented MP4 (ISO/IEC 14496-12): what is needed of `moov`, `moof` and `prft` to know when samples play.
//!
//! All of it takes bytes off the network: nothing here panics or allocates by what a field says.

/// The box breaks the rules of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The track whose times are read: the video if there is one, else the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Track {
    pub(crate) id: u32,
    /// Ticks a second, at least 1.
    pub(crate) timescale: u32,
    /// Ticks of a sample for which no other duration is given (`trex`).
    pub(crate) sample_duration: u32,
    /// Flags of a sample for which no others are given (`trex`).
    pub(crate) sample_flags: u32,
    pub(crate) video: bool,
}

/// What a `traf` covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Decode time of the first sample, ticks.
    pub(crate) start: u64,
    /// Decode time at which the last sample is over, ticks.
    pub(crate) end: u64,
    /// Decoding can begin with the first sample.
    pub(crate) sync: bool,
}

/// `sample_is_non_sync_sample`, ISO/IEC 14496-12 §8.8.3.1.
const NON_SYNC: u32 = 0x0001_0000;

/// The track to follow in a `moov`.
pub(crate) fn track_of(moov: &[u8]) -> Result<Option<Track>, Malformed> {
    let mut chosen: Option<Track> = None;
    for trak in children(moov).filter_map(|child| child.named(b"trak")) {
        let track = read_trak(trak).ok_or(Malformed)?;
        if chosen.is_none_or(|best| track.video && !best.video) {
            chosen = Some(track);
        }
    }
    let defaults = child(moov, b"mvex").map(children).into_iter().flatten();
    for trex in defaults.filter_map(|child| child.named(b"trex")) {
        let id = number(trex, 4);
        if let Some(track) = chosen.as_mut().filter(|track| Some(track.id) == id) {
            track.sample_duration = number(trex, 12).ok_or(Malformed)?;
            track.sample_flags = number(trex, 20).ok_or(Malformed)?;
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
    (timescale > 0).then_some(Track { id, timescale, sample_duration: 0, sample_flags: 0, video })
}

/// What a `traf` covers, if it is of `track` and says where it starts.
pub(crate) fn run_of(traf: &[u8], track: Track) -> Result<Option<Run>, Malformed> {
    let tfhd = child(traf, b"tfhd").ok_or(Malformed)?;
    if number(tfhd, 4) != Some(track.id) {
        return Ok(None);
    }
    let Some(tfdt) = child(traf, b"tfdt") else {
        return Ok(None);
    };
    let start = if tfdt.first() == Some(&1) { long_number(tfdt, 4) } else { number(tfdt, 4).map(u64::from) }
        .ok_or(Malformed)?;
    let duration = default_in(tfhd, 0x8, &[]).ok_or(Malformed)?.unwrap_or(track.sample_duration);
    let flags = default_in(tfhd, 0x20, &[0x8, 0x10]).ok_or(Malformed)?.unwrap_or(track.sample_flags);
    let (mut end, mut first_flags) = (start, None);
    for trun in children(traf).filter_map(|child| child.named(b"trun")) {
        let length = run_length(trun, duration).ok_or(Malformed)?;
        end = end.checked_add(length).ok_or(Malformed)?;
        first_flags = match first_flags {
            None => first_sample_flags(trun, flags),
            known @ Some(_) => known,
        };
    }
    Ok(Some(Run { start, end, sync: first_flags.is_some_and(|flags| flags & NON_SYNC == 0) }))
}

/// A default of a `tfhd` (§8.8.7), if it has the one that `flag` stands for; `before` are the flags of the defaults
/// before it.
fn default_in(tfhd: &[u8], flag: u32, before: &[u32]) -> Option<Option<u32>> {
    let flags = number(tfhd, 0)? & 0x00ff_ffff;
    if flags & flag == 0 {
        return Some(None);
    }
    let base_offset = if flags & 0x1 != 0 { 8 } else { 0 };
    let description = if flags & 0x2 != 0 { 4 } else { 0 };
    let others = 4 * before.iter().filter(|other| flags & **other != 0).count();
    number(tfhd, 8 + base_offset + description + others).map(Some)
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

/// Flags of the first sample of a `trun`; `None` if it has no samples.
fn first_sample_flags(trun: &[u8], default: u32) -> Option<u32> {
    let flags = number(trun, 0)? & 0x00ff_ffff;
    if number(trun, 4)? == 0 {
        return None;
    }
    let optional = |flag: u32| if flags & flag != 0 { 4 } else { 0 };
    if flags & 0x4 != 0 {
        return number(trun, 8 + optional(0x1));
    }
    if flags & 0x400 != 0 {
        return number(trun, 8 + optional(0x1) + optional(0x100) + optional(0x200));
    }
    Some(default)
}

/// Size and type in a box header, once 8 bytes of it are there.
pub(crate) fn size_and_kind(header: &[u8]) -> Option<(u32, [u8; 4])> {
    let size = u32::from_be_bytes(header.get(..4)?.try_into().ok()?);
    Some((size, header.get(4..8)?.try_into().ok()?))
}

pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(field.try_into().ok()?))
}

pub(crate) fn long_number(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_be_bytes(field.try_into().ok()?))
}

/// A box inside a box that is in memory.
pub(crate) struct Child<'a> {
    kind: [u8; 4],
    body: &'a [u8],
}

impl<'a> Child<'a> {
    /// Its body, if it is of this type.
    pub(crate) fn named(self, kind: &[u8; 4]) -> Option<&'a [u8]> {
        (self.kind == *kind).then_some(self.body)
    }
}

/// The first box of this type inside a box that is in memory.
pub(crate) fn child<'a>(parent: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    children(parent).find_map(|child| child.named(kind))
}

/// The boxes inside a box that is in memory; ends at the first that does not fit.
pub(crate) fn children(mut bytes: &[u8]) -> impl Iterator<Item = Child<'_>> {
    std::iter::from_fn(move || {
        let (size, kind) = size_and_kind(bytes)?;
        let size = if size == 0 { bytes.len() } else { usize::try_from(size).ok()? };
        let body = bytes.get(8..size)?;
        bytes = &bytes[size..];
        Some(Child { kind, body })
    })
}
