//! A stream told chunk by chunk.

use super::*;
use crate::ingest::chunks::Unsound;
use crate::ingest::samples::{chunks, init, manifest};
use crate::ingest::{Part, Segment};

const MS: Duration = Duration::from_millis(1);

/// A stream, its clock, and what came out.
struct Told {
    live: Live,
    now: Instant,
    wall: WallTime,
    out: Vec<Ingested>,
    mark: u32,
}

impl Told {
    fn begin(representations: usize) -> Self {
        let live = Live::new(250 * MS);
        let wall = WallTime(1_800_000_000_000_000);
        let mut told = Self { live, now: Instant::now(), wall, out: Vec::new(), mark: 0 };
        told.manifest("first", representations).unwrap();
        told
    }

    fn manifest(&mut self, began: &str, representations: usize) -> Result<(), Refusal> {
        let presentation = Presentation::parse(&manifest(began, representations), "m.mpd").unwrap();
        self.live.manifest(presentation, self.now, &mut self.out)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.wall = self.wall + time;
    }

    fn claim(&mut self, path: &str) -> Result<Claim, Refusal> {
        let mark = self.mark;
        self.live.claim(path, |_| Some(init(mark)), self.now, &mut self.out)
    }

    fn open(&mut self, path: &str) -> Turn {
        match self.claim(path).unwrap() {
            Claim::Open(turn) => turn,
            other @ (Claim::Foreign | Claim::Later) => panic!("{path}: {other:?}"),
        }
    }

    fn feed(&mut self, turn: Turn, data: &[u8]) -> Result<(), Refusal> {
        self.live.feed(turn, data, self.now, self.wall, &mut self.out)
    }

    /// A whole segment in real time, five chunks of 200 ms.
    fn segment(&mut self, path: &str, start: u32) {
        let turn = self.open(path);
        for chunk in chunks(start, 200, 5) {
            self.pass(200 * MS);
            self.feed(turn, &chunk).unwrap();
        }
        self.live.finish(turn, self.now, &mut self.out).unwrap();
    }

    fn taken(&mut self) -> (Vec<Shape>, Vec<Part>, Vec<Segment>) {
        let (mut shapes, mut parts, mut segments) = (Vec::new(), Vec::new(), Vec::new());
        for event in std::mem::take(&mut self.out) {
            match event {
                Ingested::Shape(shape) => shapes.push(shape),
                Ingested::Part(part) => parts.push(*part),
                Ingested::Segment(segment) => segments.push(*segment),
                Ingested::Ended => panic!("a pushed stream doesn't end"),
            }
        }
        (shapes, parts, segments)
    }
}

#[test]
fn each_chunk_goes_out_when_it_is_whole_and_the_parts_make_the_segment() {
    let mut told = Told::begin(1);
    let turn = told.open("v0-1.m4s");
    let pieces = chunks(0, 200, 5);
    for (index, piece) in pieces.iter().enumerate() {
        told.pass(200 * MS);
        let (front, back) = piece.split_at(piece.len() - 1);
        told.feed(turn, front).unwrap();
        assert_eq!(told.out.len(), if index == 0 { 0 } else { index + 1 });
        told.feed(turn, back).unwrap();
        assert_eq!(told.out.len(), index + 2, "the shape and a part each");
    }
    told.live.finish(turn, told.now, &mut told.out).unwrap();
    let (shapes, parts, segments) = told.taken();
    assert_eq!(shapes.len(), 1);
    assert_eq!(shapes[0].renditions[0].part_target, Some(230 * MS));
    let [segment] = segments.as_slice() else { panic!("{segments:?}") };
    assert_eq!(segment.body, pieces.concat());
    assert_eq!(segment.body, parts.iter().map(|part| part.body.to_vec()).collect::<Vec<_>>().concat());
    assert_eq!((segment.number, segment.duration, segment.discontinuity), (1, 1000 * MS, false));
    assert_eq!(segment.start, WallTime(1_800_000_000_000_000), "the first chunk came when it was over");
    for (index, part) in (0..).zip(&parts) {
        assert_eq!((part.number, part.index, part.independent), (1, index, index == 0));
        assert_eq!((part.start, part.duration), (segment.start + 200 * MS * index, 200 * MS));
        assert_eq!(part.init.as_ref(), Some(&init(0)));
    }
}

#[test]
fn the_shape_waits_for_all_renditions_but_not_for_long() {
    let mut told = Told::begin(2);
    let (one, other) = (told.open("v0-1.m4s"), told.open("v1-1.m4s"));
    let pieces = chunks(0, 200, 5);
    told.feed(one, &pieces[0]).unwrap();
    assert!(told.out.is_empty());
    told.feed(other, &pieces[0]).unwrap();
    assert!(
        matches!(told.out.as_slice(), [Ingested::Shape(_), Ingested::Part(_), Ingested::Part(_)]),
        "{:?}",
        told.out
    );

    let mut told = Told::begin(2);
    let one = told.open("v0-1.m4s");
    told.feed(one, &pieces[0]).unwrap();
    told.pass(GATHER);
    told.feed(one, &pieces[1]).unwrap();
    let (shapes, parts, _) = told.taken();
    let targets: Vec<_> = shapes[0].renditions.iter().map(|track| track.part_target).collect();
    assert_eq!((targets, parts.len()), (vec![Some(230 * MS), Some(250 * MS)], 2));
}

#[test]
fn segments_follow_one_another_steadily() {
    let mut told = Told::begin(1);
    told.segment("v0-1.m4s", 0);
    // The next is late by what the network does.
    told.pass(150 * MS);
    told.segment("v0-2.m4s", 1000);
    let (shapes, _, segments) = told.taken();
    assert_eq!(shapes.len(), 1);
    assert_eq!(segments[1].start, segments[0].start + 1000 * MS);
    assert!(!segments[1].discontinuity);
}

#[test]
fn a_restarted_encoder_goes_on_with_a_discontinuity() {
    let mut told = Told::begin(1);
    told.segment("v0-1.m4s", 0);
    told.segment("v0-2.m4s", 1000);
    told.pass(10_000 * MS);
    told.manifest("second", 1).unwrap();
    told.segment("v0-1.m4s", 0);
    told.segment("v0-2.m4s", 1000);
    let (shapes, parts, segments) = told.taken();
    assert_eq!(shapes.len(), 1, "nothing else has changed");
    let breaks: Vec<_> = segments.iter().map(|segment| (segment.number, segment.discontinuity)).collect();
    assert_eq!(breaks, [(1, false), (2, false), (1, true), (2, false)]);
    assert_eq!(parts.iter().filter(|part| part.discontinuity).count(), 5);
    assert_eq!(segments[2].start, segments[1].start + 11_000 * MS);
}

#[test]
fn gaps_and_new_initialization_sections_are_discontinuities() {
    let mut told = Told::begin(1);
    told.segment("v0-1.m4s", 0);
    told.segment("v0-2.m4s", 1500);
    told.mark = 7;
    told.segment("v0-3.m4s", 2500);
    told.pass(1000 * MS);
    told.segment("v0-5.m4s", 3500);
    let (_, _, segments) = told.taken();
    let breaks: Vec<_> = segments.iter().map(|segment| segment.discontinuity).collect();
    assert_eq!(breaks, [false, true, true, true]);
    assert_eq!(segments[2].init, Some(init(7)));
}

#[test]
fn a_broken_connection_leaves_a_shorter_segment() {
    let mut told = Told::begin(1);
    let turn = told.open("v0-1.m4s");
    let pieces = chunks(0, 200, 5);
    told.feed(turn, &[&pieces[0][..], &pieces[1], &pieces[2][..20]].concat()).unwrap();
    told.live.abort(turn, told.now, &mut told.out);
    let (_, parts, segments) = told.taken();
    assert_eq!(parts.len(), 2);
    assert_eq!((segments[0].body.to_vec(), segments[0].duration), (pieces[..2].concat(), 400 * MS));
    assert_eq!(told.feed(turn, &pieces[3]), Err(Refusal::TakenOver));
    told.segment("v0-2.m4s", 1000);
    assert!(told.taken().2[0].discontinuity);
}

#[test]
fn another_encoder_is_refused_while_one_is_at_work_and_not_after() {
    let mut told = Told::begin(1);
    told.segment("v0-1.m4s", 0);
    let turn = told.open("v0-2.m4s");
    told.feed(turn, &chunks(1000, 200, 5)[0]).unwrap();
    assert_eq!(told.claim("v0-1.m4s").unwrap_err(), Refusal::AnotherEncoder);
    assert_eq!(told.claim("v0-2.m4s").unwrap_err(), Refusal::AnotherEncoder);
    assert_eq!(told.manifest("second", 1).unwrap_err(), Refusal::AnotherEncoder);
    assert!(matches!(told.claim("v0-3.m4s").unwrap(), Claim::Later), "its own next one waits");
    told.pass(2000 * MS);
    let next = told.open("v0-3.m4s");
    assert_eq!(told.feed(turn, b"late"), Err(Refusal::TakenOver));
    told.feed(next, &chunks(2000, 200, 5).concat()).unwrap();
    told.live.finish(next, told.now, &mut told.out).unwrap();
    let durations: Vec<_> = told.taken().2.iter().map(|segment| segment.duration).collect();
    assert_eq!(durations, [1000 * MS, 200 * MS, 1000 * MS]);
}

#[test]
fn between_two_segments_another_encoder_waits() {
    let mut told = Told::begin(1);
    told.segment("v0-7.m4s", 0);
    assert!(matches!(told.claim("v0-1.m4s").unwrap(), Claim::Later));
    told.segment("v0-8.m4s", 1000);
    told.pass(1000 * MS);
    assert!(matches!(told.claim("v0-1.m4s").unwrap(), Claim::Open(_)));
}

#[test]
fn long_chunks_raise_the_part_target_and_very_long_ones_are_no_parts() {
    let mut told = Told::begin(1);
    let turn = told.open("v0-1.m4s");
    told.feed(turn, &[chunks(0, 200, 1).concat(), chunks(200, 700, 1).concat()].concat()).unwrap();
    let (shapes, parts, _) = told.taken();
    let longest = parts.iter().map(|part| part.duration).max();
    assert_eq!((longest, shapes.last().unwrap().renditions[0].part_target), (Some(700 * MS), Some(700 * MS)));

    let mut told = Told::begin(1);
    let turn = told.open("v0-1.m4s");
    told.feed(turn, &chunks(0, 2000, 1).concat()).unwrap();
    told.live.finish(turn, told.now, &mut told.out).unwrap();
    let (shapes, parts, segments) = told.taken();
    assert_eq!((parts.len(), segments.len()), (0, 1));
    let track = &shapes[0].renditions[0];
    assert_eq!((track.part_target, track.target_duration), (None, 2), "nor shorter than the segment");
}

#[test]
fn nonsense_is_refused_and_never_sent_on() {
    let mut told = Told::begin(1);
    let turn = told.open("v0-1.m4s");
    assert_eq!(told.feed(turn, b"<!DOCTYPE html><html>").unwrap_err(), Refusal::Segment(Unsound::NotFragments));
    told.live.abort(turn, told.now, &mut told.out);
    let turn = told.open("v0-1.m4s");
    assert_eq!(told.live.finish(turn, told.now, &mut told.out), Err(Refusal::Segment(Unsound::Truncated)));
    let turn = told.open("v0-1.m4s");
    let long = chunks(0, 61_000, 1).concat();
    assert!(matches!(told.feed(turn, &long), Err(Refusal::Body(_))));
    told.live.abort(turn, told.now, &mut told.out);
    assert!(matches!(told.claim("other.m4s").unwrap(), Claim::Foreign));
    let no_init = told.live.claim("v0-9.m4s", |_| None, told.now, &mut told.out);
    assert!(matches!(no_init.unwrap(), Claim::Later));
    let bad_init =
        told.live.claim("v0-9.m4s", |_| Some(Bytes::from_static(b"\0\0\0\x08ftyp")), told.now, &mut told.out);
    assert!(bad_init.is_err());
}
