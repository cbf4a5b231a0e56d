//! The simulator as a test: every scenario small, held to snapshots so that every change of behaviour is a reviewable
//! diff. Accept a wanted change with `INSTA_UPDATE=always cargo test -p starling-tests --test sim`.

use starling_tests::sim::{Report, Scenario, Table, World};

/// Enough for trees of several levels, few enough for a test.
const VIEWERS: usize = 150;

fn run(scenario: Scenario) -> Report {
    let mut world = World::new(scenario);
    let report = world.run();
    assert!(world.violations.is_empty(), "what must never happen did: {:?}", world.violations.first());
    report
}

/// A scenario of `tests/scenarios`, small.
fn small(name: &str) -> Scenario {
    let mut found = Scenario::named(name).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(found.len(), 1, "{name} is a group");
    Scenario { viewers: VIEWERS, ..found.remove(0) }
}

/// Runs a scenario of `tests/scenarios`, small, and holds its table to the snapshot.
fn held(name: &str) -> Report {
    let report = run(small(name));
    insta::assert_snapshot!(name.replace('.', "_"), Table(vec![report.clone()]).to_string());
    report
}

#[test]
fn steady() {
    let report = held("steady");
    assert_eq!(report.never_started, 0);
    assert_eq!(report.stalls, 0);
    assert!(report.offload > 0.9 * report.offload_bound, "{report:?}");
}

#[test]
fn flash() {
    let report = held("flash");
    assert_eq!(report.never_started, 0);
    assert!(report.startup_p95_seconds <= 1.5, "{report:?}");
}

#[test]
fn mass_exit() {
    assert!(held("mass-exit").stalled_ratio < 0.001);
}

#[test]
fn churn() {
    let report = held("churn");
    assert!(report.stalled_ratio < 0.001, "{report:?}");
    assert!(report.offload > 0.9 * report.offload_bound, "{report:?}");
}

#[test]
fn churn_30() {
    assert!(held("churn-30").stalled_ratio < 0.002);
}

#[test]
fn low_latency() {
    let report = held("low-latency");
    assert!(report.stalled_ratio < 0.001, "{report:?}");
    assert!(report.offload > 0.9 * report.offload_bound, "{report:?}");
    assert!(report.lag_p95_seconds < 3.5, "{report:?}");
}

#[test]
fn home_hls() {
    held("home-hls");
}

#[test]
fn scarce_0_8() {
    held("scarce-0.8");
}

#[test]
fn scarce_1_0() {
    held("scarce-1.0");
}

#[test]
fn scarce_1_2() {
    held("scarce-1.2");
}

#[test]
fn scarce_1_65() {
    held("scarce-1.65");
}

#[test]
fn scarce_3() {
    let report = held("scarce-3");
    assert!(report.offload > 0.97 * report.offload_bound, "{report:?}");
}

#[test]
fn two_continents() {
    let report = held("two-continents");
    // A quarter of the others is in the own region.
    assert!(report.locality > 0.6, "{report:?}");
}

#[test]
fn partition() {
    held("partition");
}

#[test]
fn hints_down() {
    let report = held("hints-down");
    assert!(report.stalled_ratio < 0.001, "{report:?}");
    assert!(report.offload > 0.9 * report.offload_bound, "{report:?}");
}

#[test]
fn free_riders() {
    held("free-riders");
}

#[test]
fn polluters() {
    let report = held("polluters");
    assert!(report.bad_ratio < 0.05, "polluters are cut off: {report:?}");
}

#[test]
fn phones() {
    held("phones");
}

#[test]
fn home() {
    held("home");
}

#[test]
fn home_nat() {
    held("home-nat");
}

#[test]
fn fed_by_a_cdn() {
    let report = run(Scenario { serves: false, ..small("steady") });
    assert_eq!(report.stalls, 0, "{report:?}");
    assert!(report.offload > 0.9 * report.offload_bound, "{report:?}");
}

#[test]
fn bytes_stay_in_their_region_and_big_uplinks_near_the_source() {
    // Uplinks scarce enough that places near the source are contended.
    let scenario =
        Scenario { viewers: 200, regions: 2, uplink_mean_bps: 4_000_000.0, uplink_sigma: 1.0, ..Scenario::default() };
    let report = run(scenario);
    assert!(report.locality > 0.8, "{report:?}");
    let (high, low) = report.depth_by_uplink;
    assert!(high < low, "depth {high} of high uplinks, {low} of low");
}

#[test]
fn same_seed_same_world_other_seed_other_world() {
    let figures = |seed| {
        let scenario =
            Scenario { viewers: 60, seconds: 60, seed, churn_per_minute: 0.3, loss: 0.01, ..small("home-nat") };
        Table(vec![run(scenario)]).to_json().to_string()
    };
    assert_eq!(figures(7), figures(7));
    assert_ne!(figures(7), figures(8));
}

#[test]
fn every_scenario_is_tried_here() {
    let files = starling_tests::sim::scenario::known().unwrap_or_default();
    let source = include_str!("sim.rs");
    for file in files {
        let name = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        assert!(source.contains(&format!("held(\"{name}\")")), "{name} has no test");
    }
}
