//! Timers: a machine with nothing to do rests.

use std::time::Duration;

use bytes::Bytes;
use starling_proto::wire::{ChunkHeader, ChunkStatus, Hint, HintResponse, Kind, Role};
use starling_proto::{Config, Input, Outcome, Output, Time};

use crate::rig::*;

/// Ticks in `seconds` with nothing happening, and how often a deadline was not in the future.
fn idle(rig: &mut Rig, seconds: u64) -> (u64, u64) {
    let (before, mut stuck) = (rig.ticks, 0);
    let end = rig.now + Duration::from_secs(seconds);
    while rig.now < end && rig.ticks - before < 1000 * seconds {
        let deadline = rig.peer.deadline();
        stuck += u64::from(deadline <= rig.now);
        rig.now = deadline.max(Time(rig.now.0 + 100)).min(end);
        rig.feed(Input::Tick);
    }
    (rig.ticks - before, stuck)
}

fn rests(name: &str, mut rig: Rig) {
    rig.feed(Input::Tick); // a fresh machine is due at once
    let (ticks, stuck) = idle(&mut rig, 60);
    assert!(ticks <= 100 * 60, "{name}: {ticks} ticks in a minute");
    assert_eq!(stuck, 0, "{name}: deadlines that had passed already, of {ticks}");
}

#[test]
fn a_viewer_rests() {
    rests("alone", Rig::new(viewer()));
    rests("following", Rig::viewer(true));
    let mut missing = Rig::viewer(true);
    missing.meet(id(2), status(1, 7, 1_000_000));
    missing.announce(0);
    rests("with chunks missing", missing);
    let mut seed = Rig::viewer(false);
    seed.announce(0);
    rests("as a seed whose origin never answers", seed);
}

#[test]
fn a_viewer_rests_while_its_only_neighbour_says_nothing() {
    let mut rig = Rig::viewer(true);
    rig.feed(Input::Connected { peer: id(2) });
    rests("before hello", rig);
}

#[test]
fn a_source_rests_before_its_first_segment() {
    let mut rig = Rig::new(Config::source(STREAM, id(1)));
    rig.feed(Input::CatalogueHeld { catalogue: catalogue(EPOCH, true) });
    rig.meet(id(2), status(1, 0, 1_000_000));
    rests("source", rig);
}

#[test]
fn a_seed_of_a_stream_that_is_not_served_rests() {
    let mut rig = Rig::viewer(false);
    rig.meet(id(2), status(1, 7, 1_000_000));
    rig.meet(id(3), status(2, 7, 90_000_000));
    rig.announce(0);
    for number in 0..CHUNKS {
        rig.hold(number);
    }
    rests("seed", rig);
}

#[test]
fn whoever_claims_to_be_the_source_is_a_viewer() {
    let mut rig = Rig::viewer(true);
    rig.feed(Input::Connected { peer: id(2) });
    let hello = starling_proto::wire::Hello { role: Role::Source, ..hello(status(255, 0, 0)) };
    rig.feed(Input::Greeted { peer: id(2), hello: Box::new(hello), round_trip: None });
    rig.announce(0);
    rig.pass(Duration::from_secs(1));
    assert!(rig.peer.parents().iter().all(Option::is_none));
}

#[test]
fn being_refused_for_hours_does_no_harm() {
    let mut rig = Rig::viewer(true);
    let mut out = rig.meet(id(2), status(1, 0, 1_000_000));
    out.extend(rig.announce(0));
    let mut refusals = 0;
    for _ in 0..600 {
        out.extend(plain(rig.pass(Duration::from_secs(50))));
        let Some((open, ..)) = requests(&out).into_iter().rfind(|r| r.3 % u64::from(SUBSTREAMS) == 0) else { continue };
        refusals += 1;
        let refusal = ChunkHeader::without_chunk(ChunkStatus::Refused);
        out = rig.feed(Input::Responded { id: open, outcome: Outcome::Without(refusal) });
    }
    assert!(refusals > 300);
}

#[test]
fn who_has_nothing_to_give_tells_less_often_how_it_stands() {
    let statuses = |upload| {
        let mut rig = Rig::new(Config { upload, ..viewer() });
        rig.feed(Input::CatalogueHeld { catalogue: catalogue(EPOCH, true) });
        rig.feed(Input::Followed { rendition: RENDITION });
        rig.meet(id(2), status(1, 7, 1_000_000));
        let told = |o: &Output| matches!(o, Output::Tell { request, .. } if request.status.is_some());
        plain(rig.pass(Duration::from_secs(100))).iter().filter(|o| told(o)).count()
    };
    let (gives, takes) = (statuses(true), statuses(false));
    assert!((19..=22).contains(&gives) && (4..=7).contains(&takes), "{gives}, {takes}");
}

#[test]
fn the_broadcaster_is_told_seldom_and_when_the_uplink_is_known() {
    let mut rig = Rig::new(viewer());
    rig.feed(Input::CatalogueHeld { catalogue: catalogue(EPOCH, true) });
    rig.feed(Input::Followed { rendition: RENDITION });
    rig.meet(SOURCE, status(0, 7, 1_000_000));
    rig.meet(id(2), status(1, 7, 1_000_000));
    let told = |out: &[Output], of| {
        let status = |o: &&Output| matches!(o, Output::Tell { to, request } if *to == of && request.status.is_some());
        out.iter().filter(status).count()
    };
    let out = plain(rig.pass(Duration::from_secs(100)));
    let (source, viewer) = (told(&out, SOURCE), told(&out, id(2)));
    assert!((4..=6).contains(&source) && viewer >= 19, "{source}, {viewer}");
    let mut out = Vec::new();
    for number in 0..CHUNKS {
        rig.announce(number);
        out.extend(rig.hold(number * CHUNKS));
        rig.ask(id(2), Kind::Next, number * CHUNKS);
        out.extend(plain(rig.pass(Duration::from_millis(300))));
    }
    assert!(!rig.peer.hello(rig.clocks()).status.guessed, "its reports tell the uplink");
    assert_eq!(told(&out, SOURCE), 1);
}

#[test]
fn few_dials_begin_at_a_time() {
    let mut rig = Rig::viewer(true);
    let hint = |n| Hint { peer: id(n), addrs: vec![Bytes::from_static(b"somewhere")], proximity: 1, uplink_bps: 0 };
    let hints = (2..12).map(hint).collect();
    let response = HintResponse {
        hints,
        refresh_ms: 10_000,
        roster: Bytes::new(),
        audience: 0,
        place: String::new(),
        error: None,
    };
    let dials =
        |out: &[Output]| out.iter().filter(|o| matches!(o, Output::Dial { peer, .. } if *peer != SOURCE)).count();
    assert_eq!(dials(&rig.feed(Input::Hinted { response: Box::new(response) })), 3);
    assert_eq!(dials(&rig.feed(Input::Connected { peer: id(2) })), 1, "one is there");
    assert_eq!(dials(&plain(rig.pass(Duration::from_secs(2)))), 4, "as many as it wants, as time passes");
}
