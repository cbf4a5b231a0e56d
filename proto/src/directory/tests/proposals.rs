//! Who is proposed to whom.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[test]
fn most_proposals_stay_inside_the_region_and_a_few_leave_it() {
    let answers = settle(&mut World::new(config()), 200, east_west, |_| 10);
    let far: Vec<usize> = answers.iter().map(|a| a.hints.iter().filter(|hint| hint.proximity == 3).count()).collect();
    assert!(answers.iter().all(|a| (12..=16).contains(&a.hints.len())));
    assert!(far.iter().all(|far| (1..=3).contains(far)), "{far:?}");
    let early = answers.iter().filter(|a| a.hints.iter().take(6).any(|hint| hint.proximity == 3)).count();
    assert!(early > 190, "who only takes the first six must mix as well: {early} of 200");
}

#[test]
fn the_proposals_hold_all_regions_together() {
    let region = |who: u32| ["eu/de", "eu/fr", "na/us", "as/jp", "sa/br"][who as usize % 5];
    let answers = settle(&mut World::new(config()), 500, region, |who| u64::from(who % 20));
    let mut connections = BTreeSet::new();
    for (answer, who) in answers.iter().zip(0..) {
        let told = answer.hints.iter().take(8).map(|hint| number(hint.peer));
        told.for_each(|other| connections.extend([(who, other), (other, who)]));
    }
    let (mut reached, mut next) = (BTreeSet::from([0]), vec![0]);
    while let Some(who) = next.pop() {
        let others = connections.range((who, 0)..=(who, u32::MAX)).map(|(_, other)| *other);
        next.extend(others.filter(|other| reached.insert(*other)));
    }
    assert_eq!(reached.len(), 500, "reached from one viewer over first-eight proposals");
}

#[test]
fn a_small_region_is_filled_up_from_its_continent_first() {
    let mut world = World::new(config());
    let region = |who: u32| if who < 4 { "eu/pt" } else { ["eu/es", "as/jp"][who as usize % 2] };
    let answers = settle(&mut world, 124, region, |_| 10);
    let classes = |class| answers[0].hints.iter().filter(|hint| hint.proximity == class).count();
    assert_eq!(classes(1), 3);
    assert!(classes(2) >= 6, "{} of the continent", classes(2));
    assert!(classes(3) <= 3, "{} far", classes(3));
}

#[test]
fn nobody_is_told_of_itself_or_of_anybody_twice() {
    for (who, answer) in settle(&mut World::new(config()), 30, |_| "eu", |_| 10).iter().enumerate() {
        let told: BTreeSet<u32> = answer.hints.iter().map(|hint| number(hint.peer)).collect();
        assert_eq!(told.len(), answer.hints.len());
        assert!(!told.contains(&(who as u32)));
    }
}

#[test]
fn the_same_seed_and_inputs_give_the_same_answers() {
    let run = || settle(&mut World::new(config()), 100, east_west, |who| u64::from(who % 7));
    assert_eq!(run(), run());
}

#[test]
fn able_ones_are_proposed_more_but_nobody_is_swamped() {
    let uplink = |who: u32| if who < 20 { 100 } else { 5 };
    let answers = settle(&mut World::new(config()), 1_000, |_| "eu", uplink);
    let mut proposed = BTreeMap::<u32, usize>::new();
    answers.iter().flat_map(|a| &a.hints).for_each(|hint| *proposed.entry(number(hint.peer)).or_default() += 1);
    let total: usize = proposed.values().sum();
    let mean = total as f64 / 1_000.0;
    let able = (0..20).map(|who| proposed.get(&who).copied().unwrap_or(0)).sum::<usize>() as f64 / 20.0;
    let most = proposed.values().max().copied().unwrap_or(0) as f64;
    assert!(able > 1.5 * mean, "able {able} mean {mean}");
    assert!(most < 4.0 * mean, "most {most} mean {mean}");
    assert!(proposed.len() > 950, "only {} of 1000 are ever proposed", proposed.len());
}

#[test]
fn proposals_become_mutual_and_stay() {
    let mut world = World::new(config());
    let told = |answers: &[HintResponse]| -> BTreeSet<(u32, u32)> {
        let pairs = answers.iter().zip(0..);
        pairs.flat_map(|(a, who)| a.hints.iter().map(move |hint| (who, number(hint.peer)))).collect()
    };
    let before = told(&settle(&mut world, 300, |_| "eu", |_| 10));
    let after = told(&settle(&mut world, 300, |_| "eu", |_| 10));
    let mutual = after.iter().filter(|(a, b)| after.contains(&(*b, *a))).count() as f64 / after.len() as f64;
    let kept = before.intersection(&after).count() as f64 / before.len() as f64;
    assert!(mutual > 0.7, "mutual {mutual}");
    assert!(kept > 0.8, "kept {kept}");
}

#[test]
fn a_viewer_without_neighbours_is_told_of_others() {
    let mut world = World::new(config());
    let told = |answer: &HintResponse| answer.hints.iter().map(|hint| hint.peer).collect::<BTreeSet<_>>();
    let before = told(&settle(&mut world, 200, |_| "eu", |_| 10)[0]);
    let lonely = HintRequest { region: "eu".to_owned(), neighbours: 0, ..request(10) };
    let after = told(&world.ask(0, lonely, Place::default()));
    assert!(after.difference(&before).count() >= 4, "hardly anybody new");
}

#[test]
fn only_followers_of_a_common_rendition_are_proposed() {
    let mut world = World::new(config());
    let follows =
        |ids: &[u16]| HintRequest { renditions: ids.iter().copied().map(RenditionId).collect(), ..request(10) };
    for who in 0..60 {
        world.ask(who, follows(if who % 2 == 0 { &[0, 5] } else { &[1] }), Place::default());
    }
    let picture = world.ask(100, follows(&[1]), Place::default());
    assert!(!picture.hints.is_empty() && picture.hints.iter().all(|hint| number(hint.peer) % 2 == 1));
    let sound = world.ask(101, follows(&[5]), Place::default());
    assert!(!sound.hints.is_empty() && sound.hints.iter().all(|hint| number(hint.peer).is_multiple_of(2)));
    let undecided = world.ask(102, follows(&[]), Place::default());
    assert_eq!(undecided.hints.len(), 12);
}

#[test]
fn private_addresses_are_not_given_to_the_public() {
    let mut world = World::new(config());
    let seen = |private| Place { private, ..Place::default() };
    (0..20).for_each(|who| drop(world.ask(who, request(10), seen(true))));
    assert!(world.ask(50, request(10), seen(false)).hints.is_empty());
    assert_eq!(world.ask(51, request(10), seen(true)).hints.len(), 12);
}
