//! Low latency: segments that are announced while they grow.

use std::sync::Arc;
use std::time::Duration;

use starling_proto::wire::{Announcement, ChunkHeader, ChunkStatus, Kind, Rendition};
use starling_proto::{ChunkNumber, Config, Input, Outcome, Output, SegmentNumber, WallTime};

use crate::rig::*;

const BEAT: Duration = Duration::from_millis(250);

/// A viewer of a stream in parts with two neighbours, all its substreams supplied.
fn viewer_with_neighbours() -> (Rig, Vec<Output>) {
    let mut rig = Rig::new(viewer());
    follow(&mut rig);
    rig.meet(id(2), lagging(status(1, 0, 1_000_000), Some(0.1)));
    rig.meet(id(3), lagging(status(2, 0, 1_000_000), Some(0.1)));
    let mut out = rig.feed(Input::Announced { announcement: growing(0, 1, rig.now) });
    out.extend(plain(rig.pass(BEAT / 5)));
    (rig, out)
}

fn follow(rig: &mut Rig) {
    let whole = catalogue(EPOCH, true);
    let parts = Rendition { part_target_us: Some(250_000), ..whole.renditions[0].clone() };
    let mut catalogue = (*whole).clone();
    catalogue.renditions = vec![parts];
    rig.feed(Input::CatalogueHeld { catalogue: Arc::new(catalogue) });
    rig.feed(Input::Followed { rendition: RENDITION });
}

/// The parent of the substream of `number` brings it, with what is said of its segment so far.
fn arrives(rig: &mut Rig, out: &[Output], number: u64) -> Vec<Output> {
    let said = growing(number / CHUNKS, number % CHUNKS + 1, rig.now);
    let mut all = rig.feed(Input::Announced { announcement: said });
    all.extend(brings(rig, out, number));
    all
}

/// As above, and what is said of it isn't news.
fn brings(rig: &mut Rig, out: &[Output], number: u64) -> Vec<Output> {
    let (open, from, ..) = *requests(out).iter().rfind(|r| r.3 == number && r.2 == Kind::Next).expect("asked for");
    let mut all = rig.respond(open, number, vec![from.tag()]);
    all.extend(rig.check(number, Some(from), true));
    all
}

#[test]
fn the_next_part_is_asked_for_before_it_is_announced() {
    let (_, out) = viewer_with_neighbours();
    let mut next: Vec<_> = requests(&out).into_iter().map(|r| (r.3, r.2)).collect();
    next.sort_by_key(|r| r.0);
    assert_eq!(next, (0..4).map(|n| (n, Kind::Next)).collect::<Vec<_>>());
}

#[test]
fn parts_on_time_are_never_repaired_nor_fetched_from_the_origin() {
    let (mut rig, mut out) = viewer_with_neighbours();
    for number in 0..3 * CHUNKS {
        let more = arrives(&mut rig, &out, number);
        out.extend(more);
        let passed = plain(rig.pass(BEAT));
        out.extend(passed);
    }
    assert!(requests(&out).iter().all(|r| r.2 == Kind::Next), "{:?}", requests(&out));
    assert!(fetches(&out).is_empty());
    assert_eq!(rig.peer.stats().peer_bytes, 3 * CHUNKS * u64::from(LEN));
}

#[test]
fn a_part_whose_successor_came_first_is_repaired_before_it_is_due() {
    let (mut rig, mut out) = viewer_with_neighbours();
    let first = arrives(&mut rig, &out, 0);
    out.extend(first);
    out.extend(plain(rig.pass(BEAT)));
    let missed = rig.peer.parents()[1].expect("a parent");
    out.extend(plain(rig.pass(BEAT)));
    let heard = rig.now;
    let third = arrives(&mut rig, &out, 2);
    out.extend(third);
    let timed = rig.pass(Config::viewer(STREAM, SOURCE).part_due);
    let is_repair = |o: &Output| matches!(o, Output::Request { request, to, .. } if request.kind == Kind::Get && request.number.0 == 1 && *to != missed);
    let repaired = timed.iter().find(|(_, o)| is_repair(o)).expect("asked of the other neighbour").0;
    assert!(repaired.since(heard) < 3 * BEAT, "after {:?}", repaired.since(heard));
    let all = plain(timed);
    assert_eq!(fetches(&all).iter().filter(|f| (f.1..f.2).contains(&1)).count(), 1, "and of the origin in time");
}

#[test]
fn the_end_of_a_segment_changes_nothing_that_was_said() {
    let (mut rig, mut out) = viewer_with_neighbours();
    for number in 0..CHUNKS - 1 {
        let more = arrives(&mut rig, &out, number);
        out.extend(more);
        let passed = plain(rig.pass(BEAT));
        out.extend(passed);
    }
    // The last part is lost; the announcement by gossip tells of it.
    out.extend(rig.feed(Input::Announced { announcement: growing(0, CHUNKS, rig.now) }));
    out.extend(plain(rig.pass(3 * BEAT)));
    let repairs: Vec<u64> = requests(&out).iter().filter(|r| r.2 == Kind::Get).map(|r| r.3).collect();
    assert_eq!(repairs, [CHUNKS - 1]);
}

#[test]
fn who_waits_for_a_part_gets_it_when_it_is_announced_and_here() {
    let mut rig = Rig::new(Config::source(STREAM, id(1)));
    follow(&mut rig);
    rig.meet(id(2), status(1, 0, 1_000_000));
    let (waiting, out) = rig.ask(id(2), Kind::Next, 1);
    assert_eq!(answered(&out, waiting), None);
    let out = rig.feed(Input::Produced { announcement: growing(0, 1, rig.now) });
    assert_eq!(answered(&out, waiting), None, "another substream's");
    let out = rig.feed(Input::Produced { announcement: growing(0, 2, rig.now) });
    assert_eq!(answered(&out, waiting), Some((ChunkStatus::Chunk, Some(1))));
}

#[test]
fn one_who_joins_within_a_segment_gets_it_from_its_beginning() {
    let mut rig = Rig::new(viewer());
    follow(&mut rig);
    rig.meet(id(2), status(1, 2, 1_000_000));
    // Said before we joined: nobody wants it yet.
    let old = growing(0, 2, rig.now);
    let old = starling_proto::wire::Announcement { announced: starling_proto::WallTime(0), ..(*old).clone() };
    let mut out = rig.feed(Input::Announced { announcement: Arc::new(old) });
    assert!(requests(&out).iter().all(|r| r.3 >= 2));
    out.extend(rig.feed(Input::Announced { announcement: growing(0, 3, rig.now) }));
    out.extend(plain(rig.pass(4 * BEAT)));
    for number in 0..3 {
        let asked =
            requests(&out).iter().any(|r| r.3 == number) || fetches(&out).iter().any(|f| (f.1..f.2).contains(&number));
        assert!(asked, "{}", ChunkNumber(number));
    }
}

#[test]
fn who_begins_fetches_all_that_was_announced_from_there_on_at_once() {
    let mut rig = Rig::new(viewer());
    follow(&mut rig);
    let before = |segment, parts| {
        let said = growing(segment, parts, rig.now);
        Arc::new(Announcement { announced: WallTime(-1_000_000), ..(*said).clone() })
    };
    let (whole, begun) = (before(0, CHUNKS), before(1, 2));
    for announcement in [whole, begun] {
        rig.feed(Input::Announced { announcement });
    }
    let first = SegmentNumber(0);
    let out = rig.feed(Input::Wanted { rendition: RENDITION, epoch: EPOCH, segment: first, first: true });
    let fetched: Vec<_> = fetches(&out).iter().map(|f| (f.1, f.2)).collect();
    assert_eq!(fetched, [(0, CHUNKS), (CHUNKS, CHUNKS + 2)]);
}

#[test]
fn who_hears_of_nothing_new_asks_for_it_a_few_times() {
    let (mut rig, _) = viewer_with_neighbours();
    rig.meet(SOURCE, status(0, 7, 0));
    let asked = |rig: &mut Rig, ms| {
        let out = plain(rig.pass(Duration::from_millis(ms)));
        out.iter().filter(|o| matches!(o, Output::FetchWindow { from, .. } if *from == SOURCE)).count()
    };
    assert_eq!(asked(&mut rig, 300), 0);
    assert_eq!(asked(&mut rig, 500), 1);
    assert_eq!(asked(&mut rig, 3_000), 2, "it may have paused");
    rig.feed(Input::Announced { announcement: growing(0, 2, rig.now) });
    assert_eq!(asked(&mut rig, 300), 0);
    assert_eq!(asked(&mut rig, 500), 1);
    rig.pass(Duration::from_secs(5));
    rig.feed(Input::Announced { announcement: growing(0, 3, rig.now) });
    assert_eq!(asked(&mut rig, 3_000), 0, "no newcomer any more");
}

#[test]
fn a_parent_whose_chunks_only_the_origin_brings_is_left_for_another() {
    let mut rig = Rig::new(viewer());
    follow(&mut rig);
    rig.pass(GROWN_UP);
    rig.meet(id(2), status(1, 0, 1_000_000));
    let mut out = rig.feed(Input::Announced { announcement: growing(0, 1, rig.now) });
    out.extend(plain(rig.pass(BEAT / 5)));
    assert_eq!(rig.peer.parents(), vec![Some(id(2)); usize::from(SUBSTREAMS)]);
    rig.meet(id(3), status(1, 0, 1_000_000));
    let tried = |out: &[Output]| requests(out).iter().any(|r| r.1 == id(3) && r.2 == Kind::Next && r.3 % 4 == 0);
    out.extend(plain(rig.pass(BEAT * 5)));
    assert!(!tried(&out), "everybody may be late");
    out.extend(rig.check(0, None, true)); // too late from anybody but the origin
    let (open, ..) = *requests(&out).iter().rfind(|r| r.3 == 0 && r.2 == Kind::Next).expect("asked for");
    let outcome = Outcome::Without(ChunkHeader::without_chunk(ChunkStatus::Empty)); // as it was taken back
    out.extend(rig.feed(Input::Responded { id: open, outcome }));
    out.extend(plain(rig.pass(BEAT / 5)));
    assert!(tried(&out));
}

#[test]
fn a_path_nothing_comes_by_is_none_while_others_hear_of_news() {
    let (mut rig, mut out) = viewer_with_neighbours();
    for number in 0..u64::from(SUBSTREAMS) {
        let more = arrives(&mut rig, &out, number);
        out.extend(more);
        out.extend(plain(rig.pass(BEAT)));
    }
    rig.pass(16 * BEAT);
    let paths = |rig: &Rig| rig.peer.depths(rig.now).iter().filter(|depth| **depth != 255).count();
    assert_eq!(paths(&rig), 4, "nothing new: nothing is missed");
    for parts in 1..=CHUNKS {
        rig.feed(Input::Announced { announcement: growing(1, parts, rig.now) });
        rig.pass(2 * BEAT);
    }
    assert_eq!(paths(&rig), 0);
}

#[test]
fn what_is_missing_between_two_statements_is_asked_of_who_sent_the_second() {
    let (mut rig, out) = viewer_with_neighbours();
    rig.pass(Duration::from_secs(1)); // since the window was asked for
    // The chunk came with a statement that continues what isn't known.
    let (open, from, ..) = *requests(&out).iter().find(|r| r.3 == 3).expect("asked for ahead");
    let windows = |out: &[Output]| {
        let asked =
            out.iter().filter_map(|o| if let Output::FetchWindow { from, .. } = o { Some(*from) } else { None });
        asked.collect::<Vec<_>>()
    };
    let mut early = rig.respond(open, 3, vec![from.tag()]);
    early.extend(plain(rig.pass(Duration::from_millis(30))));
    assert!(windows(&early).is_empty(), "it may come with the next chunk");
    assert_eq!(windows(&plain(rig.pass(Duration::from_millis(500)))), [from]);
    rig.feed(Input::Announced { announcement: growing(0, 4, rig.now) });
    rig.check(3, Some(from), true);
    assert!(windows(&plain(rig.pass(BEAT))).is_empty(), "nothing is missing any more");
}

#[test]
fn who_hears_of_chunks_before_they_come_wants_no_statements_with_them() {
    let (mut rig, mut out) = viewer_with_neighbours();
    let informed = |out: &[Output], of: u64| asked(out).find(|(_, r)| r.number.0 == of).map(|(_, r)| r.informed);
    out.extend(rig.feed(Input::Announced { announcement: growing(0, CHUNKS, rig.now) }));
    out.extend(plain(rig.pass(BEAT / 2)));
    assert_eq!(informed(&out, 0), Some(false), "nothing is known yet");
    let once = brings(&mut rig, &out, 0);
    assert_eq!(informed(&once, 4), Some(false), "it may have been chance");
    let twice = brings(&mut rig, &once, 4);
    assert_eq!(informed(&twice, 8), Some(true));
    // What is said of this one comes when it does.
    let outran = arrives(&mut rig, &twice, 8);
    assert_eq!(informed(&outran, 12), Some(false));
}

#[test]
fn who_asks_for_news_says_what_it_knows() {
    let (mut rig, mut out) = viewer_with_neighbours();
    let since = |out: &[Output]| {
        let asked = |o: &Output| if let Output::FetchWindow { since, .. } = o { *since } else { None };
        out.iter().rev().find_map(asked)
    };
    out.extend(plain(rig.pass(8 * BEAT)));
    assert_eq!(since(&out), Some((SegmentNumber(0), ChunkNumber(1))));
    let mut out = rig.feed(Input::Announced { announcement: growing(0, CHUNKS, rig.now) });
    out.extend(plain(rig.pass(8 * BEAT)));
    assert_eq!(since(&out), Some((SegmentNumber(0), ChunkNumber(CHUNKS + 1))), "that it has ended, too");
}
