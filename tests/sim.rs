//! The simulator as a test: what a thousand viewers see, held to snapshots so that every change of behaviour is a
//! reviewable diff. Accept a wanted change with `INSTA_UPDATE=always cargo test -p starling-tests --test sim`.

use starling_tests::sim::{Report, Scenario, World};

fn run(scenario: Scenario) -> Report {
    let mut world = World::new(scenario);
    let report = world.run();
    assert!(world.violations.is_empty(), "what must never happen did: {:?}", world.violations.first());
    report
}

#[test]
fn a_thousand_viewers_in_steady_state() {
    let report = run(Scenario { name: "steady".into(), ..Scenario::default() });
    assert_eq!(report.never_started, 0);
    assert_eq!(report.stalls, 0);
    assert!(report.offload > 0.98, "{report}");
    insta::assert_snapshot!(report.to_string());
}

#[test]
fn a_thousand_viewers_fed_by_a_cdn() {
    let report = run(Scenario { name: "cdn".into(), serves: false, ..Scenario::default() });
    assert_eq!(report.stalls, 0);
    assert!(report.offload > 0.97, "{report}");
    insta::assert_snapshot!(report.to_string());
}

#[test]
fn churn_of_fifteen_percent_a_minute() {
    let scenario = Scenario { name: "churn".into(), viewers: 300, churn_per_minute: 0.15, ..Scenario::default() };
    let report = run(scenario);
    assert!(report.stalled_ratio < 0.001, "{report}");
    assert!(report.offload > 0.9, "{report}");
    insta::assert_snapshot!(report.to_string());
}

#[test]
fn nobody_stalls_when_the_hint_server_dies() {
    let scenario = Scenario { name: "hints die".into(), viewers: 200, hints_die_at: Some(45.0), ..Scenario::default() };
    let report = run(scenario);
    assert_eq!(report.stalls, 0, "{report}");
    assert!(report.offload > 0.95, "{report}");
}

#[test]
fn bytes_stay_in_their_region_and_big_uplinks_near_the_source() {
    // Uplinks scarce enough that places near the source are contended.
    let scenario = Scenario {
        name: "two regions".into(),
        viewers: 200,
        regions: 2,
        uplink_mean_bps: 4_000_000.0,
        uplink_sigma: 1.0,
        ..Scenario::default()
    };
    let report = run(scenario);
    assert!(report.locality > 0.8, "{report}");
    let (high, low) = report.depth_by_uplink;
    assert!(high < low, "{report}");
    insta::assert_snapshot!(report.to_string());
}

#[test]
fn same_seed_same_world_other_seed_other_world() {
    let small = |seed| {
        run(Scenario { viewers: 60, seconds: 60, seed, churn_per_minute: 0.3, ..Scenario::default() }).to_string()
    };
    assert_eq!(small(7), small(7));
    assert_ne!(small(7), small(8));
}
