//! Getting chunks: pull-ahead, repair, origin.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use starling_proto::wire::{Announcement, Catalogue, ChunkHeader, ChunkRequest, ChunkStatus, Kind, path_digest};
use starling_proto::{ChunkNumber, Epoch, Input, Outcome, Output, PeerId, RequestId, SegmentNumber, WallTime};

use crate::rig::*;

const SECOND: Duration = Duration::from_secs(1);

/// A viewer with two neighbours that hold segment 0, which is announced just now; and what it asked so far.
pub(crate) fn with_two_neighbours() -> (Rig, Vec<Output>) {
    let mut rig = Rig::viewer(true);
    rig.meet(id(2), status(1, 7, 1_000_000));
    rig.meet(id(3), status(2, 7, 1_000_000));
    let mut out = rig.announce(0);
    out.extend(plain(rig.pass(SECOND / 10)));
    (rig, out)
}

/// The first request: its id, whom it asks, who else could be asked, and for which chunk.
pub(crate) fn first_of(out: &[Output]) -> (RequestId, PeerId, PeerId, u64) {
    let (open, parent, _, number) = requests(out)[0];
    (open, parent, if parent == id(2) { id(3) } else { id(2) }, number)
}

#[test]
fn one_pull_ahead_request_is_open_in_each_substream() {
    let (_, out) = with_two_neighbours();
    let mut next: Vec<_> = requests(&out).into_iter().map(|r| (r.3, r.2)).collect();
    next.sort_by_key(|r| r.0);
    assert_eq!(next, (0..4).map(|n| (n, Kind::Next)).collect::<Vec<_>>());
}

#[test]
fn a_forger_is_banned_and_its_chunk_obtained_elsewhere() {
    let (mut rig, out) = with_two_neighbours();
    let (open, parent, _, number) = requests(&out)[0];
    rig.respond(open, number, vec![parent.tag()]);
    let mut out = rig.check(number, Some(parent), false);
    assert!(out.iter().any(|o| matches!(o, Output::Ban { peer, .. } if *peer == parent)));
    assert!(rig.peer.parents().iter().all(|p| *p != Some(parent)));
    out.extend(plain(rig.pass(SECOND / 2)));
    assert!(requests(&out).iter().any(|r| r.3 == number && r.1 != parent), "asked of the other");
    assert!(requests(&out).iter().all(|r| r.1 != parent));
    let back = rig.feed(Input::Connected { peer: parent });
    assert!(back.iter().any(|o| matches!(o, Output::Ban { .. })));
}

#[test]
fn a_late_chunk_is_asked_of_another_neighbour_then_of_the_origin_once() {
    let (mut rig, out) = with_two_neighbours();
    let parents = rig.peer.parents();
    let mut timed: Vec<_> = out.into_iter().map(|o| (rig.now, o)).collect();
    let heard = rig.now;
    timed.extend(rig.pass(10 * SECOND));
    let all: Vec<_> = timed.iter().map(|(_, o)| o.clone()).collect();
    for number in 0..CHUNKS {
        let parent = parents[number as usize % usize::from(SUBSTREAMS)];
        let got = |o: &Output| {
            matches!(o, Output::Request { request, to, .. }
            if request.kind == Kind::Get && request.number.0 == number && Some(*to) != parent)
        };
        let fetched =
            |o: &Output| matches!(o, Output::FetchOrigin { first, end, .. } if (first.0..end.0).contains(&number));
        let repair = timed.iter().find(|(_, o)| got(o)).map(|t| t.0);
        let origin: Vec<_> = timed.iter().filter(|(_, o)| fetched(o)).map(|t| t.0).collect();
        assert_eq!(origin.len(), 1, "the origin is asked once while it has not answered");
        if let Some(repair) = repair {
            assert!(repair < origin[0], "neighbours come first");
        }
        let after = origin[0].since(heard);
        assert!(after > SECOND / 2 && after < 3 * SECOND, "near the deadline of 3 s, not {after:?}");
    }
    assert!(requests(&all).iter().any(|r| r.2 == Kind::Get));
}

#[test]
fn a_bad_chunk_from_a_neighbour_does_not_repeat_the_fetch_from_the_origin() {
    let (mut rig, out) = with_two_neighbours();
    let (open, parent, _, number) = requests(&out)[0];
    let out = plain(rig.pass(4 * SECOND));
    let at_origin = |out: &[Output]| fetches(out).iter().filter(|f| (f.1..f.2).contains(&number)).count();
    assert_eq!(at_origin(&out), 1);
    let mut out = rig.respond(open, number, vec![parent.tag()]);
    out.extend(rig.check(number, Some(parent), false));
    out.extend(plain(rig.pass(SECOND)));
    assert_eq!(at_origin(&out), 0, "the first fetch is still open");
}

#[test]
fn bad_bytes_from_the_origin_are_not_fetched_again_at_once() {
    let mut rig = Rig::viewer(true);
    rig.announce(0);
    let out = plain(rig.pass(4 * SECOND));
    let (fetch, first, end) = fetches(&out)[0];
    let mut again = Vec::new();
    for number in first..end {
        again.extend(rig.check(number, None, false));
    }
    assert!(fetches(&again).is_empty(), "the fetch has not ended");
    let ended = rig.feed(Input::OriginEnded { id: fetch, complete: false, took: SECOND / 10 });
    assert!(fetches(&ended).is_empty());
    let later = plain(rig.pass(SECOND));
    assert!(!fetches(&later).is_empty(), "tried again a little later");
}

#[test]
fn a_repair_answered_with_another_chunk_leaves_no_hole() {
    let (mut rig, out) = with_two_neighbours();
    let mut all = out;
    let (repair, liar, _, number) = loop {
        let more = plain(rig.pass(SECOND / 10));
        all.extend(more.clone());
        if let Some(get) = requests(&more).into_iter().find(|r| r.2 == Kind::Get) {
            break get;
        }
    };
    let out = rig.respond(repair, number + 1, vec![liar.tag()]);
    assert!(out.iter().any(|o| matches!(o, Output::Ban { peer, .. } if *peer == liar)));
    let out = [out, plain(rig.pass(5 * SECOND))].concat();
    let asked =
        requests(&out).iter().any(|r| r.3 == number) || fetches(&out).iter().any(|f| (f.1..f.2).contains(&number));
    assert!(asked, "chunk {number} was given up");
}

#[test]
fn an_answer_of_a_neighbour_gone_does_not_double_the_requests() {
    let (mut rig, out) = with_two_neighbours();
    let (open, parent, other, number) = first_of(&out);
    rig.feed(Input::Disconnected { peer: parent });
    rig.pass(SECOND / 5);
    assert!(rig.peer.parents().contains(&Some(other)));
    let mut out = rig.respond(open, number, vec![parent.tag()]);
    out.extend(rig.check(number, Some(parent), true));
    out.extend(plain(rig.pass(SECOND / 10)));
    let s = number % u64::from(SUBSTREAMS);
    let again: Vec<_> =
        requests(&out).into_iter().filter(|r| r.2 == Kind::Next && r.3 % u64::from(SUBSTREAMS) == s).collect();
    assert!(again.is_empty(), "one is open with the new parent already: {again:?}");
}

#[test]
fn a_refusal_leads_to_whom_it_names() {
    let mut rig = Rig::viewer(true);
    let mut out = rig.meet(SOURCE, status(0, 0, 0));
    rig.meet(id(2), status(255, 7, 1_000_000));
    out.extend(rig.announce(0));
    out.extend(plain(rig.pass(SECOND / 10)));
    let (open, to, _, number) = requests(&out)[0];
    assert_eq!(to, SOURCE);
    let header = ChunkHeader { instead: vec![id(9), id(2)], ..ChunkHeader::without_chunk(ChunkStatus::Refused) };
    let out = rig.feed(Input::Responded { id: open, outcome: Outcome::Without(header) });
    assert!(requests(&out).iter().any(|r| r.1 == id(2) && r.3 == number));
}

#[test]
fn in_a_stream_the_broadcaster_does_not_serve_the_seed_fetches_at_once_and_others_wait() {
    let mut seed = Rig::viewer(false);
    let at_once = fetches(&seed.announce(0));
    assert_eq!(at_once.iter().map(|f| f.2 - f.1).sum::<u64>(), CHUNKS, "alone, it is the seed of everything");

    let mut other = Rig::viewer(false);
    other.meet(id(2), status(0, 0, 4_000_000_000_000));
    // Seeds are drawn anew every two seconds; those who were hand over within twelve.
    other.pass(20 * SECOND);
    assert!(fetches(&other.announce(1)).is_empty(), "the strong neighbour is the seed");
    let early = plain(other.pass(SECOND / 5));
    assert!(fetches(&early).is_empty());
    assert!(!fetches(&plain(other.pass(5 * SECOND))).is_empty(), "but nobody waits for ever");
}

#[test]
fn chunks_that_outrun_their_statement_are_not_asked_again() {
    let (mut rig, mut out) = with_two_neighbours();
    for number in 0..CHUNKS {
        out.extend(rig.check(number, Some(id(2)), true));
    }
    let (request, parent, _, number) = requests(&out)[0];
    let ahead = 3 * CHUNKS + number % u64::from(SUBSTREAMS);
    let out = rig.respond(request, ahead, vec![parent.tag()]);
    assert!(out.iter().all(|o| !matches!(o, Output::Ban { .. })));
    let mut out = rig.announce(3);
    out.extend(plain(rig.pass(SECOND)));
    assert!(requests(&out).iter().all(|r| r.3 != ahead));
    let dropped = Input::Dropped { rendition: RENDITION, epoch: EPOCH, number: ChunkNumber(ahead) };
    let mut out = rig.feed(dropped);
    out.extend(plain(rig.pass(5 * SECOND)));
    assert!(requests(&out).iter().any(|r| r.3 == ahead) || fetches(&out).iter().any(|f| (f.1..f.2).contains(&ahead)));
}

/// Segment 0 as it was announced before we came.
fn announce_old(rig: &mut Rig) {
    let fresh = announcement(EPOCH, 0, rig.now);
    let announcement = Arc::new(Announcement { announced: WallTime(-1_000_000), ..(*fresh).clone() });
    rig.feed(Input::Announced { announcement });
}

#[test]
fn of_silent_neighbours_no_answer_is_waited_for_when_only_the_origin_can_be_in_time() {
    for neighbours in 1..=6 {
        let mut rig = Rig::viewer(true);
        for neighbour in 0..neighbours {
            rig.meet(id(2 + neighbour), status(1, 7, 1_000_000));
        }
        announce_old(&mut rig);
        let out =
            rig.feed(Input::Wanted { rendition: RENDITION, epoch: EPOCH, segment: SegmentNumber(0), first: false });
        let mut fetched: Vec<_> = fetches(&out);
        // A player that has one segment of two seconds needs it when that is played; a fetch may take half a second.
        fetched.extend(fetches(&plain(rig.pass(SECOND * 3 / 2))));
        let fetched: Vec<_> = fetched.iter().flat_map(|f| f.1..f.2).collect();
        assert!((0..CHUNKS).all(|number| fetched.contains(&number)), "of {neighbours}: {fetched:?}");
    }
}

#[test]
fn a_late_parent_stays_until_another_delivers() {
    let (mut rig, out) = with_two_neighbours();
    let (_, parent, other, number) = first_of(&out);
    let substream = number as usize % usize::from(SUBSTREAMS);
    rig.pass(3 * SECOND / 2);
    let out = rig.check(number, Some(other), true);
    let ahead = |out: &[Output]| {
        let next =
            |r: &&(RequestId, PeerId, Kind, u64)| r.2 == Kind::Next && r.3 % u64::from(SUBSTREAMS) == substream as u64;
        requests(out).iter().find(next).map(|r| (r.0, r.1)).unwrap()
    };
    let (asked, tried) = ahead(&out);
    assert_eq!((tried, rig.peer.parents()[substream]), (other, Some(parent)));
    let refused = Outcome::Without(ChunkHeader::without_chunk(ChunkStatus::Refused));
    let out = rig.feed(Input::Responded { id: asked, outcome: refused });
    assert_eq!((ahead(&out).1, rig.peer.parents()[substream]), (parent, Some(parent)), "its place is kept");
}

#[test]
fn who_is_given_notice_tries_others_and_keeps_its_parent_until_one_delivers() {
    let (mut rig, mut out) = with_two_neighbours();
    let (open, parent, _, number) = requests(&out)[0];
    let substream = number as usize % usize::from(SUBSTREAMS);
    let other = if parent == id(2) { id(3) } else { id(2) };
    let deliver = |rig: &mut Rig, (open, from): (RequestId, PeerId), number, notice| {
        let header = ChunkHeader {
            number: Some(ChunkNumber(number)),
            path: vec![from.tag()],
            notice,
            ..ChunkHeader::without_chunk(ChunkStatus::Chunk)
        };
        let outcome = Outcome::Chunk { header, len: LEN, spread: Duration::from_millis(20) };
        let out = [rig.feed(Input::Responded { id: open, outcome }), rig.check(number, Some(from), true)].concat();
        let next = |r: &&(RequestId, PeerId, Kind, u64)| r.2 == Kind::Next && r.3 == number + u64::from(SUBSTREAMS);
        let asked = requests(&out).iter().find(next).map(|r| (r.0, r.1)).unwrap();
        let left = |o: &Output| {
            let Output::Tell { to, request } = o else { return None };
            request.cancel.as_ref().is_some_and(|cancel| cancel.leaves).then_some(*to)
        };
        (asked, rig.peer.parents()[substream], out.iter().find_map(left))
    };
    let step = u64::from(SUBSTREAMS);
    let (trial, kept, _) = deliver(&mut rig, (open, parent), number, true);
    assert_eq!((trial.1, kept), (other, Some(parent)), "the next chunk is asked of another, which has to prove itself");
    let refused = Outcome::Without(ChunkHeader::without_chunk(ChunkStatus::Loop));
    out = rig.feed(Input::Responded { id: trial.0, outcome: refused });
    let (again, asked, ..) = requests(&out)[0];
    assert_eq!(asked, parent, "it still serves");
    rig.announce(1);
    let (mut ahead, kept, _) = deliver(&mut rig, (again, parent), number + step, true);
    assert_eq!((ahead.1, kept), (parent, Some(parent)), "nobody else to try yet");
    // When the other was left alone long enough it is tried again, and delivers.
    let mut number = number + 2 * step;
    while ahead.1 == parent {
        assert!(number < 40 * step, "the other is never tried again");
        rig.announce(number / CHUNKS + 1);
        ahead = deliver(&mut rig, ahead, number, true).0;
        number += step;
        rig.now = rig.now + SECOND / 10;
    }
    rig.announce(number / CHUNKS + 1);
    let (_, now, left) = deliver(&mut rig, ahead, number, false);
    assert_eq!((now, left), (Some(other), Some(parent)), "and who was left is told");
}

#[test]
fn what_was_announced_before_a_player_wants_it_is_asked_of_neighbours_at_once() {
    let mut rig = Rig::viewer(true);
    for neighbour in 2..5 {
        rig.meet(id(neighbour), status(1, 7, 1_000_000));
    }
    announce_old(&mut rig);
    rig.pass(SECOND / 10);
    let mut out =
        rig.feed(Input::Wanted { rendition: RENDITION, epoch: EPOCH, segment: SegmentNumber(0), first: false });
    out.extend(plain(rig.pass(SECOND / 20)));
    let mut asked: Vec<_> = requests(&out).into_iter().map(|r| r.3).collect();
    asked.sort_unstable();
    assert_eq!(asked, (0..CHUNKS).collect::<Vec<_>>(), "each once, of its parent or of somebody else");
}

#[test]
fn a_late_chunk_is_asked_of_who_will_have_it_by_now() {
    let asked = |lag_seconds: Option<f64>| {
        let mut rig = Rig::viewer(true);
        rig.meet(id(2), lagging(status(1, 0, 1_000_000), lag_seconds));
        rig.meet(id(3), lagging(status(2, 0, 1_000_000), lag_seconds));
        let mut timed: Vec<_> = rig.announce(1).into_iter().map(|o| (rig.now, o)).collect();
        let heard = rig.now;
        timed.extend(rig.pass(5 * SECOND));
        let repair = |o: &Output| matches!(o, Output::Request { request, .. } if request.kind == Kind::Get);
        timed.iter().find(|(_, o)| repair(o)).map(|(at, _)| at.since(heard).as_secs_f64())
    };
    let (soon, late) = (asked(Some(0.2)).expect("asked"), asked(Some(2.0)).expect("asked"));
    assert!(soon < 1.5 && late >= 2.0, "{soon}, {late}");
    assert_eq!(asked(None), None, "nor of who gets nothing itself");
}

#[test]
fn who_lacks_a_chunk_of_before_we_came_is_not_asked_for_those_before_it() {
    let asked_again = |why: ChunkStatus| {
        let mut rig = Rig::viewer(true);
        rig.meet(id(2), status(1, 7, 1_000_000));
        announce_old(&mut rig);
        let old = |out: &[Output]| -> Vec<_> { requests(out).into_iter().filter(|r| r.2 == Kind::Get).collect() };
        let answer = |rig: &mut Rig, asked: &[(RequestId, PeerId, Kind, u64)], why| -> Vec<Output> {
            let without = || Outcome::Without(ChunkHeader::without_chunk(why));
            asked.iter().flat_map(|(id, ..)| rig.feed(Input::Responded { id: *id, outcome: without() })).collect()
        };
        let wanted = Input::Wanted { rendition: RENDITION, epoch: EPOCH, segment: SegmentNumber(0), first: false };
        let first = old(&rig.feed(wanted));
        let then = old(&answer(&mut rig, &first, ChunkStatus::Unknown));
        assert!(!first.is_empty() && !then.is_empty(), "some at a time: {first:?}, {then:?}");
        rig.pass(SECOND / 5);
        let mut out = answer(&mut rig, &then, why);
        out.extend(plain(rig.pass(SECOND / 4)));
        let later = plain(rig.pass(SECOND / 4));
        (!old(&out).is_empty(), !old(&later).is_empty())
    };
    assert_eq!(asked_again(ChunkStatus::Unknown), (false, true), "it may have got them meanwhile");
    assert!(asked_again(ChunkStatus::Refused).0, "who refuses lacks nothing");
}

#[test]
fn who_is_further_down_leaves_a_late_chunk_to_those_above() {
    let repaired_after = |above: u32| {
        let (mut rig, mut out) = with_two_neighbours();
        for _ in 0..CHUNKS / u64::from(SUBSTREAMS) {
            for (open, parent, _, number) in requests(&std::mem::take(&mut out)) {
                out.extend(rig.respond(open, number, std::iter::once(parent.tag()).chain(1..above).collect()));
                out.extend(rig.check(number, Some(parent), true));
            }
        }
        for n in [2, 3] {
            rig.feed(Input::StatusTold { peer: id(n), status: status(n - 1, 2 * CHUNKS - 1, 1_000_000) });
        }
        let heard = rig.now;
        let mut timed: Vec<_> = rig.announce(1).into_iter().map(|o| (heard, o)).collect();
        timed.extend(rig.pass(2 * SECOND));
        let repair = |(at, o): (_, Output)| requests(&[o]).iter().any(|r| r.2 == Kind::Get).then_some(at);
        timed.into_iter().find_map(repair).expect("repaired").since(heard)
    };
    let (child_of_root, deep) = (repaired_after(2), repaired_after(12));
    assert!(deep > child_of_root + SECOND / 3 && deep < child_of_root + SECOND, "{child_of_root:?}, {deep:?}");
    assert!(repaired_after(60) < deep + SECOND / 10, "there has to be time left");
}

#[test]
fn a_path_that_is_not_told_again_is_as_it_was() {
    let (mut rig, out) = with_two_neighbours();
    let (open, parent, _, number) = requests(&out)[0];
    let next = number + u64::from(SUBSTREAMS);
    let knows = |out: &[Output], number: u64| {
        asked(out).find(|(to, r)| *to == parent && r.number.0 == number).map(|(_, r)| r.path_known)
    };
    assert_eq!(knows(&out, number), Some(None));
    let path = vec![parent.tag(), 7, 8];
    let out = rig.respond(open, number, path.clone());
    assert_eq!(knows(&out, next), Some(Some(path_digest(&path))));
    let substream = number as usize % usize::from(SUBSTREAMS);
    assert_eq!(rig.peer.depths(rig.now)[substream], 3);
    let (open, ..) = *requests(&out).iter().find(|r| r.3 == next).expect("asked for");
    rig.respond(open, next, vec![]);
    assert_eq!(rig.peer.depths(rig.now)[substream], 3);
    // Of another parent no path is known.
    let mut out = rig.feed(Input::Disconnected { peer: parent });
    out.extend(plain(rig.pass(SECOND)));
    let again = |r: &ChunkRequest| r.kind == Kind::Next && r.number.0 % 4 == number % 4;
    assert_eq!(asked(&out).find(|(_, r)| again(r)).map(|(_, r)| r.path_known), Some(None));
}

#[test]
fn a_new_parent_is_not_blamed_for_what_the_one_before_did_not_bring() {
    let (mut rig, out) = with_two_neighbours();
    let (_, parent, other, number) = first_of(&out);
    let substream = number as usize % usize::from(SUBSTREAMS);
    rig.meet(id(4), status(3, 7, 1_000_000));
    rig.pass(3 * SECOND / 2); // long enough to blame the parent
    rig.feed(Input::Disconnected { peer: parent });
    rig.pass(SECOND / 10);
    let after = rig.peer.parents()[substream].expect("another parent");
    let brought_by = if after == other { id(4) } else { other };
    let out = rig.check(number, Some(brought_by), true);
    let doubted = |o: &Output| {
        let Output::Tell { to, request } = o else { return false };
        *to == after && request.cancel.as_ref().is_some_and(|cancel| cancel.number.0 != number)
    };
    assert!(!out.iter().any(doubted));
}

#[test]
fn a_late_chunk_is_asked_of_another_branch_of_the_tree_first() {
    const ROOT: u32 = 0x77;
    let asked = |other: u8| {
        let mut rig = Rig::viewer(true);
        let mut out = rig.meet(id(2), status(1, 7, 1_000_000));
        out.extend(rig.announce(0));
        out.extend(plain(rig.pass(SECOND / 10)));
        let (open, parent, _, number) = requests(&out).remove(0);
        let substream = number as usize % usize::from(SUBSTREAMS);
        // Nearest first: the parent, which is the root's child, the root, the broadcaster.
        rig.respond(open, number, vec![parent.tag(), ROOT, SOURCE.tag()]);
        rig.check(number, Some(parent), true);
        for n in [4, 5, 6] {
            let mut told = status(3, 2 * CHUNKS, 1_000_000);
            let mut branches = [0; SUBSTREAMS as usize];
            branches[substream] = if n == other { 0x99 } else { parent.tag() as u8 };
            told.tracks[0].branches = Bytes::copy_from_slice(&branches);
            rig.meet(id(n), told);
        }
        let next = number + u64::from(SUBSTREAMS);
        let asked = requests(&plain(rig.pass(2 * SECOND))).into_iter().find(|r| r.2 == Kind::Get && r.3 == next);
        asked.expect("repaired").1
    };
    for other in [4, 5, 6] {
        assert_eq!(asked(other), id(other));
    }
}

#[test]
fn what_was_said_of_a_new_start_before_its_catalogue_came_is_fetched_by_whoever_watched_before() {
    let fetched = |watched_before: bool| {
        let mut rig = if watched_before { Rig::viewer(true) } else { Rig::new(viewer()) };
        let issued = rig.clocks().wall;
        rig.pass(SECOND);
        let said = announcement(Epoch(2), 0, rig.now);
        rig.pass(SECOND);
        let catalogue = Arc::new(Catalogue { issued, ..(*catalogue(Epoch(2), true)).clone() });
        rig.feed(Input::CatalogueHeld { catalogue });
        rig.feed(Input::Followed { rendition: RENDITION });
        rig.feed(Input::Announced { announcement: said });
        !fetches(&plain(rig.pass(6 * SECOND))).is_empty()
    };
    assert!(fetched(true));
    assert!(!fetched(false), "a newcomer needs only what its player asks for");
}
