//! Segments whole, in pieces, and hostile.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ingest::samples::{boxed, chunk, chunks, init, words};

fn cutter() -> Cutter {
    track(&init(0)).map(Cutter::new).expect("the init is sound")
}

/// Everything that is cut from bytes arriving `step` at a time.
fn cut(segment: &[u8], step: usize) -> Result<Vec<Chunk>, Unsound> {
    let (mut cutter, mut found) = (cutter(), Vec::new());
    for end in (0..segment.len()).step_by(step).chain([segment.len()]) {
        while let Some(chunk) = cutter.next(&segment[..end])? {
            found.push(chunk);
        }
    }
    cutter.finish(segment).map(|_| found)
}

#[test]
fn chunks_are_the_same_in_pieces_of_any_size() {
    let parts = chunks(5000, 40, 3);
    let segment = parts.concat();
    let found = cut(&segment, segment.len()).unwrap();
    let runs: Vec<_> = found.iter().map(|chunk| chunk.run.unwrap()).collect();
    assert_eq!(runs[0], Run { start: 5000, end: 5040, sync: true });
    assert_eq!(runs[2], Run { start: 5080, end: 5120, sync: false });
    assert_eq!(found[0].range, 0..parts[0].len());
    assert_eq!(found[2].range.end, segment.len());
    for step in [1, 7, 64] {
        assert_eq!(cut(&segment, step).unwrap(), found);
    }
}

#[test]
fn a_chunk_is_there_with_its_last_byte() {
    let segment = chunk(0, 40, true);
    let mut cutter = cutter();
    assert_eq!(cutter.next(&segment[..segment.len() - 1]), Ok(None));
    assert!(cutter.next(&segment).unwrap().is_some());
}

#[test]
fn a_producers_clock_is_read() {
    let prft = |flags: u32| {
        // 2026-11-27T12:00:00.5Z
        let ntp = [1_795_780_800 + 2_208_988_800, 0x8000_0000];
        boxed(b"prft", &words(&[0x0100_0000 | flags, 1, ntp[0], ntp[1], 0, 5000]))
    };
    for (flags, afterwards) in [(0, false), (24, false), (2, true)] {
        let found = cut(&[prft(flags), chunk(5000, 40, true)].concat(), 100).unwrap();
        let wall = WallTime(1_795_780_800_500_000);
        assert_eq!(found[0].reference, Some(Reference { wall, media_time: 5000, afterwards }));
    }
}

#[test]
fn what_is_no_cmaf_is_told() {
    let one = chunk(0, 40, true);
    let (moof, mdat) = one.split_at(one.len() - 12);
    for (segment, expected) in [
        (b"<!DOCTYPE html>".to_vec(), Unsound::NotFragments),
        (boxed(b"mdat", b"early"), Unsound::Malformed),
        ([moof, moof].concat(), Unsound::Truncated),
        (moof.to_vec(), Unsound::Truncated),
        (one[..one.len() - 1].to_vec(), Unsound::Truncated),
        (words(&[0, u32::from_be_bytes(*b"moof")]), Unsound::Malformed),
        (words(&[7, u32::from_be_bytes(*b"moof")]), Unsound::Malformed),
        (words(&[u32::MAX, u32::from_be_bytes(*b"mdat")]), Unsound::Malformed),
        (words(&[1, u32::from_be_bytes(*b"mdat"), u32::MAX, 0]), Unsound::Malformed),
        (boxed(b"moof", &boxed(b"traf", b"")), Unsound::Malformed),
        (boxed(b"abcd", b""), Unsound::NotFragments),
    ] {
        assert_eq!(cut(&segment, 5), Err(expected), "{segment:?}");
    }
    assert_eq!(cut(&[mdat, &one].concat(), 5), Err(Unsound::Malformed));
}

proptest! {
    /// Whatever comes, chunks lie one behind another within it.
    #[test]
    fn hostile_bytes_are_cut_in_order_or_refused(
        mut segment in Just(chunks(0, 40, 4).concat()),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        noise in vec(any::<u8>(), 0..40),
        step in 1usize..90,
    ) {
        for (at, byte) in changes {
            let at = at.index(segment.len());
            segment[at] = byte;
        }
        segment.extend(noise);
        let (mut cutter, mut end) = (cutter(), 0);
        'all: for have in (0..=segment.len()).step_by(step) {
            loop {
                match cutter.next(&segment[..have]) {
                    Ok(Some(chunk)) => {
                        prop_assert_eq!(chunk.range.start, end);
                        prop_assert!(chunk.range.end > end && chunk.range.end <= have);
                        prop_assert!(chunk.run.is_none_or(|run| run.start <= run.end));
                        end = chunk.range.end;
                    }
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
            }
        }
    }
}
