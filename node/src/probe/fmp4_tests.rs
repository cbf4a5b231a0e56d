//! Fragments built by hand, whole, in pieces and damaged.

use super::*;

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).expect("test boxes are small");
    [&size.to_be_bytes()[..], kind, body].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn trak(id: u32, timescale: u32, handler: &[u8; 4]) -> Vec<u8> {
    let tkhd = boxed(b"tkhd", &words(&[0, 0, 0, id, 0, 0]));
    // version 1: 64-bit creation and modification times
    let mdhd = boxed(b"mdhd", &words(&[0x0100_0000, 0, 0, 0, 0, timescale, 0, 0, 0]));
    let hdlr = boxed(b"hdlr", &[&words(&[0, 0])[..], handler, &[0; 12]].concat());
    boxed(b"trak", &[tkhd, boxed(b"mdia", &[mdhd, hdlr].concat())].concat())
}

/// Audio as track 1 at 48 kHz, video as track 2 at 12.8 kHz with samples of 512 ticks (25 a second).
fn init() -> Vec<u8> {
    let trex = |id, duration| boxed(b"trex", &words(&[0, id, 1, duration, 0, 0]));
    let mvex = boxed(b"mvex", &[trex(1, 1024), trex(2, 512)].concat());
    let moov = [trak(1, 48_000, b"soun"), trak(2, 12_800, b"vide"), mvex].concat();
    [boxed(b"ftyp", b"iso6"), boxed(b"moov", &moov)].concat()
}

fn fragment(traf: &[Vec<u8>]) -> Vec<u8> {
    let moof = boxed(b"moof", &boxed(b"traf", &traf.concat()));
    [boxed(b"styp", b"msdh"), moof, boxed(b"mdat", &[7; 100])].concat()
}

fn tfhd(track: u32) -> Vec<u8> {
    boxed(b"tfhd", &words(&[0, track]))
}

fn tfdt(start: u32) -> Vec<u8> {
    boxed(b"tfdt", &words(&[0, start]))
}

/// `samples` samples of the default duration.
fn trun(samples: u32) -> Vec<u8> {
    boxed(b"trun", &words(&[0x1, samples, 0]))
}

fn video(start: u32, samples: u32) -> Vec<u8> {
    fragment(&[tfhd(2), tfdt(start), trun(samples)])
}

fn track() -> Track {
    let mut fragments = Fragments::new(None);
    fragments.push(&init()).expect("the init is sound");
    fragments.track().expect("there is a track")
}

fn span(bytes: &[u8]) -> Result<Option<Span>, Fault> {
    let mut fragments = Fragments::new(Some(track()));
    fragments.push(bytes)?;
    fragments.finish()
}

fn seconds(bytes: &[u8]) -> (f64, f64) {
    let span = span(bytes).expect("it is sound").expect("it has times");
    (span.start as f64 / 1e9, span.end as f64 / 1e9)
}

#[test]
fn follows_the_video_track() {
    assert_eq!(track(), Track { id: 2, timescale: 12_800, sample_duration: 512, sample_flags: 0, video: true });
}

#[test]
fn adds_up_decode_time_and_durations() {
    assert_eq!(seconds(&video(25_600, 50)), (2.0, 4.0));
}

#[test]
fn a_segment_of_many_fragments_is_one_span() {
    let bytes = [video(0, 5), video(2560, 5), video(5120, 5)].concat();
    assert_eq!(seconds(&bytes), (0.0, 0.6));
    let holed = [video(0, 5), video(12_800, 5)].concat();
    let span = span(&holed).expect("it is sound").expect("it has times");
    assert_eq!(span.break_inside, 800_000_000);
}

#[test]
fn reads_every_way_to_write_durations() {
    let long_start = boxed(b"tfdt", &words(&[0x0100_0000, 0, 12_800]));
    // tfhd with base data offset, sample description index and default duration
    let full_tfhd = boxed(b"tfhd", &words(&[0xb, 2, 0, 0, 1, 1280]));
    assert_eq!(seconds(&fragment(&[full_tfhd, long_start.clone(), trun(10)])), (1.0, 2.0));
    // trun with first-sample flags, and a duration, size, flags and offset for each sample
    let each = boxed(b"trun", &words(&[0xf05, 2, 0, 0, 6400, 1, 0, 0, 12_800, 1, 0, 0]));
    assert_eq!(seconds(&fragment(&[tfhd(2), long_start, each])), (1.0, 2.5));
}

#[test]
fn leaves_other_tracks_and_undated_fragments_alone() {
    let audio = fragment(&[tfhd(1), tfdt(0), trun(10)]);
    assert_eq!(span(&audio), Ok(None));
    let undated = fragment(&[tfhd(2), trun(10)]);
    assert_eq!(span(&undated), Ok(None));
    let both = [audio, video(0, 25)].concat();
    assert_eq!(seconds(&both), (0.0, 1.0));
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let bytes = [init(), video(0, 5), video(2560, 5)].concat();
    let whole = span(&bytes);
    for size in [1, 2, 7, 64] {
        let mut fragments = Fragments::new(None);
        for piece in bytes.chunks(size) {
            fragments.push(piece).expect("it is sound");
        }
        assert_eq!(fragments.finish(), whole, "in pieces of {size}");
    }
}

#[test]
fn large_and_endless_boxes_are_stepped_over() {
    let long = [&words(&[1])[..], b"mdat", &words(&[0, 20]), b"1234"].concat();
    let endless = [&words(&[0])[..], b"mdat", b"whatever follows"].concat();
    let bytes = [long, video(0, 25), boxed(b"free", b""), endless].concat();
    assert_eq!(seconds(&bytes), (0.0, 1.0));
}

#[test]
fn tells_what_is_cut_off_from_what_is_wrong() {
    let bytes = video(0, 25);
    assert_eq!(span(&bytes[..bytes.len() - 1]), Err(Fault::Truncated));
    assert_eq!(span(&[&words(&[3])[..], b"mdat"].concat()), Err(Fault::Malformed));
    let huge = [&words(&[0x7fff_ffff])[..], b"moof"].concat();
    assert_eq!(span(&huge), Err(Fault::Malformed), "a moof of 2 GB is not collected");
    let lying = boxed(b"trun", &words(&[0x100, 1_000_000, 5]));
    assert_eq!(span(&fragment(&[tfhd(2), tfdt(0), lying])), Err(Fault::Malformed));
    let late = boxed(b"tfdt", &words(&[0x0100_0000, u32::MAX, u32::MAX]));
    assert_eq!(span(&fragment(&[tfhd(2), late, trun(1)])), Err(Fault::Malformed));
}

#[test]
fn damage_anywhere_is_survived() {
    let bytes = [init(), video(0, 5)].concat();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let mut fragments = Fragments::new(None);
            if fragments.push(&damaged).is_ok() {
                let _ = fragments.finish();
            }
        }
    }
}
