//! Runs simulated worlds and prints their tables.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use serde_json::Value;
use starling_tests::sim::compare::compare;
use starling_tests::sim::{Report, Scenario, Table, World};

/// Simulates a stream with thousands of viewers, with the very code real viewers run.
#[derive(Parser)]
struct Args {
    /// A scenario of tests/scenarios, a group of them (scarce), a file (TOML or JSON), or `all`.
    #[arg(default_value = "steady")]
    name: String,
    /// Viewers at a time; otherwise as the scenario says.
    #[arg(long)]
    viewers: Option<usize>,
    /// Simulated seconds; otherwise as the scenario says.
    #[arg(long)]
    seconds: Option<u64>,
    /// Same seed, same output.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run with this many seeds, from --seed on, and give 95 % confidence intervals [default: 3 up to 1,000 viewers, else 1].
    #[arg(long)]
    seeds: Option<u64>,
    /// Share of viewers replaced per minute, 0 to 1.
    #[arg(long)]
    churn: Option<f64>,
    /// Mean uplink in bits per second, whatever σ the scenario asks for.
    #[arg(long)]
    uplink: Option<f64>,
    /// First copies come from the origin, not from the broadcaster's node.
    #[arg(long)]
    cdn: bool,
    /// Also write the figures as JSON: an object, or an array of them if there are several scenarios.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Instead of simulating: what differs between two files written by --json with the same seeds.
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"])]
    compare: Option<Vec<PathBuf>>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    if let Some([before, after]) = args.compare.as_deref() {
        println!("{}\n", compare(&read(before)?, &read(after)?));
        return Ok(());
    }
    let mut figures = Vec::new();
    for scenario in scenarios(&args.name)? {
        let scenario = amended(scenario, &args)?;
        let seeds = args.seeds.unwrap_or(if scenario.viewers <= 1000 { 3 } else { 1 }).max(1);
        let mut table = Table(Vec::new());
        for seed in args.seed..args.seed + seeds {
            table.0.push(run(Scenario { seed, ..scenario.clone() })?);
        }
        println!("{table}\n");
        figures.push(table.to_json());
    }
    if let Some(path) = &args.json {
        write(path, figures)?;
    }
    Ok(())
}

fn scenarios(name: &str) -> anyhow::Result<Vec<Scenario>> {
    if name != "all" {
        return Scenario::named(name);
    }
    starling_tests::sim::scenario::known()?.iter().map(|file| Scenario::load(file)).collect()
}

fn amended(mut scenario: Scenario, args: &Args) -> anyhow::Result<Scenario> {
    scenario.viewers = args.viewers.unwrap_or(scenario.viewers);
    scenario.seconds = args.seconds.unwrap_or(scenario.seconds);
    scenario.churn_per_minute = args.churn.unwrap_or(scenario.churn_per_minute);
    scenario.serves &= !args.cdn;
    if let Some(uplink) = args.uplink {
        (scenario.sigma, scenario.uplink_mean_bps) = (None, uplink);
    }
    ensure!(scenario.viewers > 0, "--viewers must be at least 1");
    scenario.check()?;
    Ok(scenario)
}

fn run(scenario: Scenario) -> anyhow::Result<Report> {
    let mut world = World::new(scenario);
    let report = world.run();
    if let Some(violation) = world.violations.first() {
        bail!("what must never happen did: {violation}");
    }
    Ok(report)
}

fn write(path: &Path, mut figures: Vec<Value>) -> anyhow::Result<()> {
    let all = if figures.len() == 1 { figures.remove(0) } else { figures.into() };
    std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")
        .with_context(|| format!("writing {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} was not written by --json", path.display()))
}
