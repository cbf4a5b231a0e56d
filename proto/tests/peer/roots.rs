//! Roots of the trees: who becomes one, who stays one, and what happens when one is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use starling_proto::wire::{ChunkHeader, ChunkRequest, ChunkStatus, Kind, NeighbourInfo, Roster, RosterMember, Status};
use starling_proto::{Config, Input, Outcome, Output, PeerId, RequestId};

use crate::rig::*;

const SECOND: Duration = Duration::from_secs(1);

/// A broadcaster on air that gives each substream once, and knows these as able.
fn broadcaster(members: &[(u8, u32)]) -> Rig {
    let mut rig = Rig::new(Config::source(STREAM, id(1)));
    rig.feed(Input::CatalogueHeld { catalogue: catalogue(EPOCH, true) });
    rig.feed(Input::Produced { announcement: announcement(EPOCH, 0, rig.now) });
    let members = members.iter().map(|(n, weight)| RosterMember { peer: id(*n), weight: *weight }).collect();
    let roster = Roster { issuer: id(99), term: 1, members, audience: 10 };
    rig.feed(Input::RosterHeld { roster: Arc::new(roster) });
    rig
}

/// Whether the broadcaster takes this viewer on in this substream, or keeps it.
fn takes(rig: &mut Rig, viewer: u8, substream: u64) -> bool {
    takes_for(rig, viewer, CHUNKS + substream)
}

/// As [`takes`], for a chunk that isn't there yet.
fn takes_for(rig: &mut Rig, viewer: u8, number: u64) -> bool {
    let (asked, out) = rig.ask(id(viewer), Kind::Next, number);
    answered(&out, asked).is_none()
}

/// How many places `others` get while each substream has one of `first` as its root.
fn places_taken(members: &[(u8, u32)], first: [u8; SUBSTREAMS as usize], others: &[u8]) -> usize {
    places_taken_by(members, first, others, false)
}

/// As [`places_taken`]; `guessed`: nobody knows yet what their uplinks carry.
fn places_taken_by(members: &[(u8, u32)], first: [u8; SUBSTREAMS as usize], others: &[u8], guessed: bool) -> usize {
    let mut rig = broadcaster(members);
    for (substream, root) in first.iter().enumerate() {
        assert!(takes(&mut rig, *root, substream as u64), "there is room");
    }
    let strangers = first.iter().filter(|root| members.iter().all(|(member, _)| member != *root));
    for (viewer, weight) in members.iter().copied().chain(strangers.map(|root| (*root, 4000))) {
        rig.meet(id(viewer), Status { guessed, ..status(1, 7, u64::from(weight) * 1000) });
    }
    rig.pass(10 * SECOND); // longer than any tenure
    for (substream, root) in first.iter().enumerate() {
        takes(&mut rig, *root, substream as u64);
    }
    let all = (0..u64::from(SUBSTREAMS)).flat_map(|s| others.iter().map(move |viewer| (*viewer, s)));
    all.filter(|(viewer, s)| takes(&mut rig, *viewer, *s)).count()
}

#[test]
fn an_able_root_stays_whoever_is_drawn_as_seed() {
    let even: Vec<_> = (2..10).map(|n| (n, 4000)).collect();
    assert_eq!(places_taken(&even, [2, 3, 4, 5], &[6, 7, 8, 9]), 0);
}

#[test]
fn a_root_that_is_not_able_yields_to_the_seed() {
    let even: Vec<_> = (2..10).map(|n| (n, 4000)).collect();
    let seeds: Vec<u8> = (2..10).collect();
    assert_eq!(places_taken(&even, [20, 21, 22, 23], &seeds), usize::from(SUBSTREAMS), "off the roster");
    assert_eq!(places_taken_by(&even, [20, 21, 22, 23], &seeds, true), 0, "nobody is proven to be able");
    let uneven: Vec<_> = (2..10).map(|n| (n, if n < 6 { 500 } else { 50_000 })).collect();
    let taken = places_taken(&uneven, [2, 3, 4, 5], &[6, 7, 8, 9]);
    assert!(taken >= 3, "in its weaker half: {taken} of {SUBSTREAMS} taken");
}

#[test]
fn one_viewer_does_not_stay_the_root_of_all() {
    let even: Vec<_> = (2..10).map(|n| (n, 4000)).collect();
    assert!(places_taken(&even, [2; SUBSTREAMS as usize], &[3, 4, 5, 6, 7, 8, 9]) > 0);
}

#[test]
fn a_child_that_falls_silent_makes_room() {
    for silent in [true, false] {
        let mut rig = broadcaster(&[]);
        assert!(takes(&mut rig, 2, 0));
        let out = rig.feed(Input::Produced { announcement: announcement(EPOCH, 1, rig.now) });
        let sent = |o: &Output| matches!(o, Output::Answer { header, .. } if header.status == ChunkStatus::Chunk);
        assert!(out.iter().chain(&plain(rig.pass(SECOND / 10))).any(sent));
        if !silent {
            rig.ask(id(2), Kind::Next, 2 * CHUNKS);
        }
        rig.pass(2 * SECOND);
        let (asked, out) = rig.ask(id(3), Kind::Next, 2 * CHUNKS);
        assert_eq!(answered(&out, asked).is_none(), silent, "silent: {silent}");
    }
}

#[test]
fn who_is_fed_by_a_silent_root_waits_less_for_its_place() {
    for root_silent in [true, false] {
        let mut rig = broadcaster(&[]);
        assert!(takes(&mut rig, 2, 0));
        rig.feed(Input::Produced { announcement: announcement(EPOCH, 1, rig.now) });
        rig.pass(SECOND * 3 / 4);
        let (id, from) = (RequestId(99), id(3));
        let request = ChunkRequest { root_silent, ..request(Kind::Next, EPOCH, 2 * CHUNKS) };
        let out = rig.feed(Input::Requested { from, id, request });
        assert_eq!(answered(&out, id).is_none(), root_silent, "root silent: {root_silent}");
    }
}

#[test]
fn a_newcomer_leaves_a_free_place_to_those_who_are_there() {
    let mut rig = broadcaster(&[(40, 4000)]);
    assert!(takes(&mut rig, 20, 0), "nobody else is there");
    for viewer in 2..=6 {
        rig.meet(id(viewer), status(1, 7, 1_000_000));
    }
    rig.pass(11 * SECOND);
    for (viewer, takes_it) in [(30, false), (2, true), (40, true)] {
        rig.meet(id(viewer), status(1, 7, 1_000_000));
        let free = if viewer == 40 { 2 } else { 1 };
        assert_eq!(takes(&mut rig, viewer, free), takes_it, "viewer {viewer}; 40 is the seed");
    }
}

#[test]
fn when_a_root_is_gone_those_able_among_its_children_ask_for_its_place() {
    for able in [true, false] {
        let mut rig = below_a_root();
        rig.meet(id(4), status(2, 7, 1_000_000));
        // Each second request of a child tells how the first one's chunk came: 16 Mbit/s.
        for number in (0..CHUNKS).filter(|_| able) {
            rig.ask(id(5), Kind::Next, number);
            rig.pass(SECOND / 20);
        }
        let mut out = rig.feed(Input::Disconnected { peer: id(2) });
        out.extend(plain(rig.pass(SECOND / 100)));
        assert_eq!(!asked_of_the_broadcaster(&out).is_empty(), able, "able: {able}");
    }
}

#[test]
fn a_child_that_leaves_makes_room_at_once_and_one_that_takes_a_chunk_back_does_not() {
    for leaves in [true, false] {
        let mut rig = broadcaster(&[]);
        assert!(takes(&mut rig, 2, 0));
        rig.feed(cancelled(id(2), CHUNKS, leaves, None));
        assert_eq!(takes(&mut rig, 3, 0), leaves, "leaves: {leaves}");
    }
}

#[test]
fn who_comes_back_after_a_silence_finds_its_place_taken() {
    let mut rig = broadcaster(&[]);
    assert!(takes(&mut rig, 2, 0));
    rig.feed(Input::Produced { announcement: announcement(EPOCH, 1, rig.now) });
    rig.pass(SECOND / 10);
    rig.pass(2 * SECOND);
    rig.ask(id(3), Kind::Next, 2 * CHUNKS);
    let (asked, out) = rig.ask(id(2), Kind::Next, 2 * CHUNKS);
    assert!(answered(&out, asked).is_none(), "it is served for a while");
    for (after, served) in [(9, true), (9, true), (9, false)] {
        rig.pass(after * SECOND);
        for (viewer, stays) in [(2, served), (3, true)] {
            let (asked, out) = rig.ask(id(viewer), Kind::Next, 2 * CHUNKS + u64::from(SUBSTREAMS));
            assert_eq!(answered(&out, asked).is_none(), stays, "viewer {viewer}");
        }
    }
}

/// A viewer fed by the root `id(2)` in substream 0, connected to the broadcaster, and the request it has open there.
fn below_a_root() -> Rig {
    let mut rig = Rig::viewer(true);
    rig.meet(id(2), status(1, 7, 1_000_000));
    rig.meet(SOURCE, status(0, 7, 0));
    let mut out = rig.announce(0);
    out.extend(plain(rig.pass(SECOND / 10)));
    for (open, to, kind, number) in requests(&out) {
        assert_eq!((to, kind), (id(2), Kind::Next));
        rig.respond(open, number, vec![id(2).tag(), SOURCE.tag()]);
        rig.check(number, Some(id(2)), true);
    }
    for number in u64::from(SUBSTREAMS)..CHUNKS {
        rig.check(number, Some(id(2)), true);
    }
    rig
}

fn asked_of_the_broadcaster(out: &[Output]) -> Vec<(starling_proto::RequestId, u64)> {
    let next = requests(out).into_iter().filter(|(_, to, kind, _)| *to == SOURCE && *kind == Kind::Next);
    next.map(|(open, .., number)| (open, number % u64::from(SUBSTREAMS))).collect()
}

#[test]
fn children_of_a_root_that_falls_silent_ask_the_broadcaster_once() {
    let mut rig = below_a_root();
    rig.announce(1);
    let out = plain(rig.pass(SECOND * 3 / 2));
    let mut asked = asked_of_the_broadcaster(&out);
    asked.sort_by_key(|(_, substream)| *substream);
    let substreams: Vec<u64> = asked.iter().map(|(_, substream)| *substream).collect();
    assert_eq!(substreams, (0..u64::from(SUBSTREAMS)).collect::<Vec<_>>(), "each once");
    // It is there after all: the broadcaster names it, and the child goes back.
    let header = ChunkHeader { instead: vec![id(2)], ..ChunkHeader::without_chunk(ChunkStatus::Refused) };
    let out = rig.feed(Input::Responded { id: asked[0].0, outcome: Outcome::Without(header) });
    assert_eq!(rig.peer.parents()[0], Some(id(2)));
    assert!(asked_of_the_broadcaster(&out).is_empty());
}

#[test]
fn whose_root_delivers_leaves_the_broadcaster_alone() {
    let mut rig = below_a_root();
    for segment in 1..5 {
        let mut out = rig.announce(segment);
        out.extend(plain(rig.pass(SECOND / 10)));
        for number in segment * CHUNKS..(segment + 1) * CHUNKS {
            out.extend(rig.check(number, Some(id(2)), true));
        }
        out.extend(plain(rig.pass(2 * SECOND)));
        assert_eq!(asked_of_the_broadcaster(&out), []);
    }
}

#[test]
fn who_is_named_by_a_parent_that_refuses_is_dialled_however_many_neighbours_there_are() {
    let mut rig = Rig::viewer(true);
    for n in 2..18 {
        rig.meet(id(n), status(1, 7, 1_000_000));
    }
    let mut out = rig.announce(0);
    out.extend(plain(rig.pass(SECOND / 10)));
    let (open, ..) = requests(&out)[0];
    let dials =
        |out: &[Output], who: PeerId| out.iter().any(|o| matches!(o, Output::Dial { peer, .. } if *peer == who));
    let info = |n| NeighbourInfo { peer: id(n), addrs: vec![Bytes::from_static(b"somewhere")], region: String::new() };
    let header = ChunkHeader {
        instead: vec![id(50)],
        introduced: vec![info(50)],
        ..ChunkHeader::without_chunk(ChunkStatus::Refused)
    };
    let out = rig.feed(Input::Responded { id: open, outcome: Outcome::Without(header) });
    assert!(dials(&out, id(50)));
    let out = rig.feed(Input::Introduced { infos: vec![info(51)] });
    assert!(!dials(&out, id(51)), "hearsay can wait");
}

/// A broadcaster whose root `id(2)` of substream 0 said nothing since a chunk was sent to it.
fn with_a_silent_root() -> Rig {
    let mut rig = broadcaster(&[]);
    assert!(takes(&mut rig, 2, 0));
    rig.feed(Input::Produced { announcement: announcement(EPOCH, 1, rig.now) });
    rig.pass(2 * SECOND);
    rig
}

#[test]
fn a_root_that_was_silent_keeps_a_place_that_nobody_took() {
    let mut rig = with_a_silent_root();
    assert!(takes_for(&mut rig, 2, 2 * CHUNKS));
    assert!(!takes_for(&mut rig, 3, 2 * CHUNKS), "there is one place");
}

#[test]
fn who_has_to_go_stays_when_its_place_is_free_again() {
    let mut rig = with_a_silent_root();
    let next = 2 * CHUNKS;
    assert!(takes_for(&mut rig, 3, next), "the other is silent");
    assert!(takes_for(&mut rig, 2, next), "it is served for a while");
    rig.feed(cancelled(id(3), next, true, None));
    for _ in 0..4 {
        assert!(takes_for(&mut rig, 2, next));
        rig.pass(9 * SECOND);
    }
    assert!(!takes_for(&mut rig, 3, next), "the place is taken");
}

#[test]
fn a_newcomer_that_got_a_place_below_a_silent_root_keeps_it() {
    let mut rig = broadcaster(&[]);
    for viewer in 2..=6 {
        rig.meet(id(viewer), status(1, 7, 1_000_000));
    }
    rig.pass(11 * SECOND);
    rig.meet(id(30), status(1, 7, 1_000_000));
    let (asked, from) = (RequestId(99), id(30));
    let request = ChunkRequest { root_silent: true, ..request(Kind::Next, EPOCH, CHUNKS) };
    let out = rig.feed(Input::Requested { from, id: asked, request });
    assert!(answered(&out, asked).is_none());
    assert!(takes(&mut rig, 30, 0));
}
