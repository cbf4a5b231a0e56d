//! A tree that hangs from nobody: its uppermost viewer asks the origin at once.

use std::time::Duration;

use starling_proto::wire::{Kind, TrackStatus};
use starling_proto::{Input, PeerId, RequestId};

use crate::rig::*;
use crate::supply::{first_of, with_two_neighbours};

const SECOND: Duration = Duration::from_secs(1);

/// A viewer that lost all its neighbours, and got `chunks` of a substream from the origin since, some at a time; and the first
/// of them. It may have a child there.
fn left_alone(has_child: bool, chunks: u64) -> (Rig, u64) {
    let (mut rig, out) = with_two_neighbours();
    let (open, parent, _, number) = first_of(&out);
    rig.respond(open, number, vec![parent.tag(), SOURCE.tag()]);
    rig.check(number, Some(parent), true);
    for n in [2, 3] {
        rig.feed(Input::Disconnected { peer: id(n) });
    }
    if has_child {
        rig.ask(id(9), Kind::Next, number + u64::from(SUBSTREAMS));
    }
    let a_segment = CHUNKS / u64::from(SUBSTREAMS);
    for segment in 1..=chunks / a_segment {
        rig.announce(segment);
        (segment * CHUNKS..(segment + 1) * CHUNKS).for_each(|number| drop(rig.check(number, None, true)));
        rig.pass(2 * SECOND);
    }
    (rig, number)
}

/// How many chunks of a new segment are fetched at once in the substream of `number`, and how many in others.
fn fetched_at_once(rig: &mut Rig, segment: u64, number: u64) -> (usize, usize) {
    let out = [rig.announce(segment), plain(rig.pass(SECOND / 20))].concat();
    let fetched = fetches(&out).into_iter().flat_map(|(_, first, end)| first..end);
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        fetched.filter(|n| *n >= segment * CHUNKS).partition(|n| (n - number).is_multiple_of(u64::from(SUBSTREAMS)));
    (here.len(), elsewhere.len())
}

#[test]
fn who_finds_no_parent_but_has_children_asks_the_origin_at_once() {
    let (mut rig, number) = left_alone(true, 8);
    let substream = number as usize % usize::from(SUBSTREAMS);
    assert_eq!(rig.peer.depths(rig.now)[substream], TrackStatus::NO_PATH, "nobody else should come");
    assert_eq!(fetched_at_once(&mut rig, 9, number), (2, 0), "nobody depends on us in other substreams");
    let (mut leaf, number) = left_alone(false, 8);
    assert_eq!(fetched_at_once(&mut leaf, 9, number), (0, 0), "who has no children waits for its timer");
    let (mut early, number) = left_alone(true, 4);
    assert_eq!(fetched_at_once(&mut early, 9, number), (0, 0), "there may be a parent yet");
}

#[test]
fn a_pause_of_the_broadcaster_cuts_nobody_off() {
    let (mut rig, number) = left_alone(true, 2);
    rig.pass(60 * SECOND);
    assert_eq!(fetched_at_once(&mut rig, 9, number), (0, 0));
}

#[test]
fn who_is_cut_off_is_patient_with_an_origin_that_fails() {
    let (mut rig, number) = left_alone(true, 8);
    let out = rig.announce(9);
    let open = fetches(&out).into_iter().filter(|(_, first, _)| (first - number).is_multiple_of(4)).collect::<Vec<_>>();
    assert!(!open.is_empty());
    let mut timed = Vec::new();
    for (id, ..) in open {
        let ended = rig.feed(Input::OriginEnded { id, complete: false, took: SECOND / 100 });
        timed.extend(ended.into_iter().map(|o| (rig.now, o)));
    }
    let failed = rig.now;
    timed.extend(rig.pass(SECOND));
    let again =
        timed.iter().find(|(_, o)| !fetches(std::slice::from_ref(o)).is_empty()).map(|(at, _)| at.since(failed));
    assert!(again.expect("tried again") >= SECOND * 3 / 10, "{again:?}");
}

#[test]
fn who_is_fed_again_waits_again() {
    let (mut rig, number) = left_alone(true, 8);
    let mut out = rig.meet(id(2), status(1, 5 * CHUNKS, 1_000_000));
    out.extend(plain(rig.pass(SECOND / 2)));
    let in_tree = |r: &&(RequestId, PeerId, Kind, u64)| r.2 == Kind::Next && (r.3 - number).is_multiple_of(4);
    let (open, _, _, next) = *requests(&out).iter().find(in_tree).expect("asked for ahead");
    rig.announce(next / CHUNKS);
    rig.respond(open, next, vec![id(2).tag(), SOURCE.tag()]);
    rig.check(next, Some(id(2)), true);
    assert_eq!(fetched_at_once(&mut rig, 9, number), (0, 0));
}
