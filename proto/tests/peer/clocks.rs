//! Somebody sets a clock, forwards or back, by seconds or hours: figures may jump, the stream goes on.

use std::sync::Arc;
use std::time::Duration;

use starling_proto::wire::{Announcement, Hello, TrackStatus};
use starling_proto::{Input, WallTime};

use crate::rig::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR_US: i64 = 3_600_000_000;
const JUMPS: [i64; 5] = [3_000_000, -3_000_000, 2 * HOUR_US, -2 * HOUR_US, -500_000 * HOUR_US];

/// A viewer that knows the broadcaster's clock and has heard of segment 0. It takes first copies itself: what it hears of as
/// news it fetches at once.
fn viewer_in_time() -> Rig {
    let mut rig = Rig::viewer(false);
    let clock = WallTime(rig.now.0 as i64);
    let hello = Hello { clock, clock_error_us: 0, ..hello(status(TrackStatus::NO_PATH, 0, 0)) };
    rig.feed(Input::Connected { peer: id(2) });
    rig.feed(Input::Greeted { peer: id(2), hello: Box::new(hello), round_trip: Some(SECOND / 50) });
    let announced = WallTime(rig.now.0 as i64);
    play(&mut rig, 0, announced);
    rig
}

/// Lets a segment's duration pass; whatever is fetched arrives. How many of its chunks were fetched.
fn play(rig: &mut Rig, segment: u64, announced: WallTime) -> u64 {
    let announcement = Announcement { announced, ..(*announcement(EPOCH, segment, rig.now)).clone() };
    let mut out = rig.feed(Input::Announced { announcement: Arc::new(announcement) });
    out.extend(plain(rig.pass(SECOND / 5)));
    let mut fetched = 0;
    for (id, first, end) in fetches(&out) {
        (first..end).for_each(|number| drop(rig.hold(number)));
        rig.feed(Input::OriginEnded { id, complete: true, took: SECOND / 10 });
        fetched += end - first;
    }
    rig.pass(SECOND * 9 / 5);
    fetched
}

#[test]
fn a_viewers_clock_changes_neither_what_it_asks_nor_the_broadcasters_time_nor_its_timers() {
    for jump in JUMPS {
        let mut ticks = Vec::new();
        let mut rig = viewer_in_time();
        for (round, off) in [0, jump, 0].into_iter().enumerate() {
            rig.wall_off = off;
            let before = rig.ticks;
            for segment in 1..=10 {
                let announced = WallTime(rig.now.0 as i64);
                let asked = play(&mut rig, 10 * round as u64 + segment, announced);
                assert_eq!(asked, CHUNKS, "set by {off} us");
            }
            ticks.push(rig.ticks - before);
            let error = rig.peer.stream_time(rig.clocks()).seconds_since(WallTime(rig.now.0 as i64));
            assert!(error.abs() < 0.1, "set by {off} us, the broadcaster's time is {error} s off");
            let said = rig.peer.hello(rig.clocks()).clock.seconds_since(WallTime(rig.now.0 as i64));
            assert!(said.abs() < 0.1, "and neighbours are told nothing else: {said}");
        }
        assert!(ticks.iter().all(|n| *n <= 2 * ticks[0]), "set by {jump} us, it is woken {ticks:?} times");
    }
}

#[test]
fn a_viewer_that_never_learned_the_broadcasters_time_goes_on_too() {
    for jump in JUMPS {
        let mut rig = Rig::viewer(false);
        let announced = WallTime(rig.now.0 as i64);
        assert_eq!(play(&mut rig, 0, announced), CHUNKS);
        rig.wall_off = jump;
        for segment in 1..=5 {
            let announced = WallTime(rig.now.0 as i64);
            assert_eq!(play(&mut rig, segment, announced), CHUNKS, "set by {jump} us");
        }
    }
}

#[test]
fn a_broadcasters_clock_makes_nothing_old_or_new() {
    for jump in JUMPS {
        let mut rig = viewer_in_time();
        for segment in 1..=5 {
            let announced = WallTime(rig.now.0 as i64 + jump);
            assert_eq!(play(&mut rig, segment, announced), CHUNKS, "set by {jump} us");
        }
    }
}

#[test]
fn a_window_from_before_we_came_is_not_taken_for_news() {
    let mut rig = Rig::viewer(false);
    let mut out = Vec::new();
    for segment in 0..4 {
        let old = Announcement { announced: WallTime(0), ..(*announcement(EPOCH, segment, rig.now)).clone() };
        out.extend(rig.feed(Input::Announced { announcement: Arc::new(old) }));
    }
    out.extend(plain(rig.pass(SECOND)));
    assert!(fetches(&out).is_empty(), "only on a player's demand");
    let announced = WallTime(0);
    assert_eq!(play(&mut rig, 4, announced), CHUNKS, "what follows a second later is");
}
