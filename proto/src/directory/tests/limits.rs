//! Coming, staying, leaving, and being refused.

use super::*;

#[test]
fn the_silent_expire_and_the_gone_are_not_proposed() {
    let mut world = World::new(config());
    (0..5).for_each(|who| drop(world.ask_from(who, "eu", 10)));
    world.feed(Input::Left { peer: peer(3) });
    let told: Vec<u32> = world.ask_from(9, "eu", 10).hints.iter().map(|hint| number(hint.peer)).collect();
    assert!(told.len() == 4 && !told.contains(&3), "{told:?}");
    world.pass(29 * SECOND);
    world.ask_from(0, "eu", 10);
    assert_eq!(world.viewers(), 6, "three intervals aren't over, and the gone one keeps its place");
    world.pass(SECOND);
    assert!(world.directory.deadline() <= world.now.mono);
    world.feed(Input::Tick);
    assert_eq!(world.viewers(), 1);
    world.pass(30 * SECOND);
    world.feed(Input::Tick);
    assert_eq!((world.viewers(), world.directory.deadline()), (0, crate::Time::NEVER));
    assert!(world.directory.streams().is_empty());
}

#[test]
fn leaving_forgets_at_once() {
    let mut world = World::new(config());
    (0..3).for_each(|who| drop(world.ask_from(who, "eu", 10)));
    let answer = world.ask(1, HintRequest { leaving: true, ..request(10) }, Place::default());
    assert!(answer.hints.is_empty() && answer.error.is_none());
    assert_eq!(world.ask_from(2, "eu", 10).hints.len(), 1);
}

#[test]
fn bounds_hold_and_refusals_say_so() {
    let mut world = World::new(Config { viewers_max: 10, streams_max: 2, ..config() });
    let to = |stream, uplink| HintRequest { stream: StreamId([stream; 32]), ..request(uplink) };
    assert_eq!(world.ask(0, to(1, 1), Place::default()).error, None);
    assert_eq!(world.ask(0, to(2, 1), Place::default()).error, None);
    let error = world.ask(0, to(3, 1), Place::default()).error.expect("a third stream is too many");
    assert!(error.contains("no more streams"), "{error}");
    let refused = (1..20).filter(|who| world.ask(*who, to(1, 1), Place::default()).error.is_some()).count();
    assert_eq!((refused, world.directory.registrations()), (11, 10));
    assert_eq!(world.ask(3, to(1, 1), Place::default()).error, None, "who is in stays in");
}

#[test]
fn hostile_regions_do_not_fill_the_memory() {
    let mut world = World::new(config());
    for who in 0..2_000 {
        world.ask(who, HintRequest { region: format!("r{who}/x"), ..request(1) }, Place::default());
    }
    let regions = world.directory.streams()[0].regions.len();
    assert!(regions <= crate::directory::index::REGIONS_MAX + 1, "{regions} regions");
    world.pass(40 * SECOND);
    world.feed(Input::Tick);
    assert_eq!(world.directory.registrations(), 0);
}

#[test]
fn another_version_is_told_what_to_do() {
    let mut world = World::new(config());
    let error = |world: &mut World, versions: &[u16]| {
        let request = HintRequest { versions: versions.to_vec(), ..request(1) };
        world.ask(0, request, Place::default()).error.unwrap_or_default()
    };
    assert_eq!(error(&mut world, &[VERSION, 99]), "");
    assert!(error(&mut world, &[99]).contains("hint server to be updated"));
    assert!(error(&mut world, &[0]).contains("update starling"));
    assert!(error(&mut world, &[]).contains("update starling"));
}

#[test]
fn many_viewers_ask_less_often_and_live_longer() {
    let mut world = World::new(Config { requests_per_second_max: 10, ..config() });
    (0..1_000).for_each(|who| drop(world.ask_from(who, "eu", 1)));
    world.pass(20 * SECOND);
    let answer = world.ask_from(0, "eu", 1);
    assert!((80_000..=120_000).contains(&answer.refresh_ms), "{}", answer.refresh_ms);
    world.pass(290 * SECOND);
    world.feed(Input::Tick);
    assert_eq!(world.viewers(), 1, "who was told to come back in 100 s is kept for 300 s");
}
