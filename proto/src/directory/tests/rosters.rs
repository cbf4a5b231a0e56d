//! Who stands on rosters, and when they change.

use std::collections::BTreeSet;

use super::*;

#[test]
fn the_broadcaster_hears_of_the_roster_and_is_not_proposed() {
    let mut world = World::new(config());
    let source = HintRequest { role: Role::Source, uplink_bps: 1 << 40, ..request(0) };
    let first = world.ask(1_000, source.clone(), Place::default());
    assert!(first.hints.is_empty() && !first.roster.is_empty(), "even an empty roster is signed");
    let answers = settle(&mut world, 40, |_| "eu", u64::from);
    assert!(answers.iter().flat_map(|a| &a.hints).all(|hint| number(hint.peer) != 1_000));
    assert_eq!(answers[0].audience, 40, "viewers are counted, broadcasters aren't");
    let told = world.ask(1_000, source, Place::default()).hints;
    let members: BTreeSet<PeerId> = world.rosters[world.rosters.len() - 1].members.iter().map(|m| m.peer).collect();
    assert!(told.len() == 16 && told.iter().all(|hint| members.contains(&hint.peer)));
}

#[test]
fn rosters_grow_at_once_and_then_stand_for_a_term() {
    let mut world = World::new(config());
    (0..40).for_each(|who| drop(world.ask_from(who, east_west(who), 10)));
    let sizes: Vec<usize> = world.rosters.iter().map(|roster| roster.members.len()).collect();
    assert_eq!(sizes, [1, 2, 4, 8, 16, 32]);
    assert!(world.rosters.windows(2).all(|pair| pair[0].term < pair[1].term));
    assert!(world.rosters.iter().all(|roster| Statement::check(roster).is_ok() && roster.issuer == PeerId([9; 32])));
    (0..80).for_each(|who| drop(world.ask_from(who, east_west(who), 10)));
    assert_eq!(world.rosters.len(), 6, "frozen within the term");
    world.pass(30 * SECOND);
    world.ask_from(0, "eu-west", 10);
    assert_eq!(world.rosters.len(), 7);
}

#[test]
fn a_roster_keeps_members_that_live_and_spreads_over_regions() {
    let mut world = World::new(config());
    let region = |who: u32| if who.is_multiple_of(10) { "as" } else { "eu" };
    let uplink = |who: u32| if who.is_multiple_of(10) { 5 } else { 20 };
    settle(&mut world, 200, region, uplink);
    let before: BTreeSet<PeerId> = world.rosters[world.rosters.len() - 1].members.iter().map(|m| m.peer).collect();
    (200..300).for_each(|who| drop(world.ask_from(who, region(who), uplink(who))));
    settle(&mut world, 300, region, uplink);
    let roster = &world.rosters[world.rosters.len() - 1];
    let after: BTreeSet<PeerId> = roster.members.iter().map(|m| m.peer).collect();
    assert_eq!(after.len(), 32);
    assert!(before.intersection(&after).count() >= 30, "{} kept", before.intersection(&after).count());
    let asian = roster.members.iter().filter(|m| number(m.peer).is_multiple_of(10)).count();
    assert!((2..=6).contains(&asian), "{asian} of a tenth of the audience");
    assert!(roster.members.iter().all(|m| m.weight == if number(m.peer).is_multiple_of(10) { 5_000 } else { 20_000 }));
}

#[test]
fn a_roster_that_lost_half_its_members_is_replaced() {
    let mut world = World::new(config());
    settle(&mut world, 40, |_| "eu", |_| 10);
    let count = world.rosters.len();
    let members: Vec<u32> = world.rosters[count - 1].members.iter().map(|m| number(m.peer)).collect();
    world.ask_from(0, "eu", 10);
    let renewed = world.rosters.len();
    for who in members.iter().take(17) {
        world.ask(*who, HintRequest { leaving: true, ..request(10) }, Place::default());
    }
    world.pass(2 * SECOND);
    world.ask_from(members[20], "eu", 10);
    assert_eq!(world.rosters.len(), renewed + 1);
}

#[test]
fn viewers_that_upload_nothing_are_no_seeds() {
    let mut world = World::new(config());
    (0..10).for_each(|who| drop(world.ask_from(who, "eu", 0)));
    world.pass(30 * SECOND);
    world.ask_from(0, "eu", 0);
    assert!(world.rosters.iter().all(|roster| roster.members.is_empty()));
}
