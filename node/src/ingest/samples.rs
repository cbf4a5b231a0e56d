//! CMAF built by hand, for tests.

use bytes::Bytes;

/// Ticks a second of all samples here: milliseconds.
pub(super) const TIMESCALE: u32 = 1000;

pub(super) fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).expect("test boxes are small");
    [&size.to_be_bytes()[..], kind, body].concat()
}

pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// An initialization section with one track, 1; `mark` makes it differ from others.
pub(super) fn init(mark: u32) -> Bytes {
    let tkhd = boxed(b"tkhd", &words(&[0, 0, 0, 1, 0, mark]));
    let mdhd = boxed(b"mdhd", &words(&[0, 0, 0, TIMESCALE, 0, 0]));
    let hdlr = boxed(b"hdlr", &[&words(&[0, 0])[..], b"vide", &[0; 12]].concat());
    let trak = boxed(b"trak", &[tkhd, boxed(b"mdia", &[mdhd, hdlr].concat())].concat());
    let trex = boxed(b"trex", &words(&[0, 1, 1, 40, 0, 0]));
    let moov = boxed(b"moov", &[trak, boxed(b"mvex", &trex)].concat());
    [boxed(b"ftyp", b"iso6"), moov].concat().into()
}

/// A chunk of one sample: `ticks` long, beginning at `start`.
pub(super) fn chunk(start: u32, ticks: u32, sync: bool) -> Vec<u8> {
    let tfhd = boxed(b"tfhd", &words(&[0x20, 1, if sync { 0 } else { 0x0001_0000 }]));
    let tfdt = boxed(b"tfdt", &words(&[0, start]));
    let trun = boxed(b"trun", &words(&[0x101, 1, 0, ticks]));
    let moof = boxed(b"moof", &boxed(b"traf", &[tfhd, tfdt, trun].concat()));
    [moof, boxed(b"mdat", &start.to_be_bytes())].concat()
}

/// The chunks of a segment: so many, each `ticks` long.
pub(super) fn chunks(start: u32, ticks: u32, count: u32) -> Vec<Vec<u8>> {
    let styp = boxed(b"styp", b"msdhmsix");
    let mut chunks: Vec<_> = (0..count).map(|n| chunk(start + n * ticks, ticks, n == 0)).collect();
    chunks[0] = [styp, chunks[0].clone()].concat();
    chunks
}

/// A manifest of so many representations of video, called `v0`, `v1`, …
pub(super) fn manifest(began: &str, representations: usize) -> String {
    let one = |id| {
        format!(
            "<Representation id=\"v{id}\" bandwidth=\"1000\"><SegmentTemplate initialization=\"$RepresentationID$.mp4\" \
             media=\"$RepresentationID$-$Number$.m4s\"/></Representation>"
        )
    };
    let all: String = (0..representations).map(one).collect();
    format!(
        "<MPD availabilityStartTime=\"{began}\" maxSegmentDuration=\"PT1S\"><Period>\
         <AdaptationSet contentType=\"video\">{all}</AdaptationSet></Period></MPD>"
    )
}
