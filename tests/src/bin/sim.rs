//! Runs one simulated world and prints its table.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use starling_tests::sim::{Scenario, World};

/// Simulates a stream with thousands of viewers, with the very code real viewers run.
#[derive(Parser)]
struct Args {
    /// Viewers at a time.
    #[arg(long)]
    viewers: Option<usize>,
    /// Simulated seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Same seed, same output.
    #[arg(long)]
    seed: Option<u64>,
    /// Share of viewers replaced per minute, 0 to 1.
    #[arg(long)]
    churn: Option<f64>,
    /// Mean uplink in bits per second.
    #[arg(long)]
    uplink: Option<f64>,
    /// First copies come from the origin, not from the broadcaster's node.
    #[arg(long)]
    cdn: bool,
    /// A scenario file (JSON); options on the command line win.
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// Also write the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let mut scenario = match &args.scenario {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{} is not a scenario", path.display()))?
        }
        None => Scenario::default(),
    };
    scenario.viewers = args.viewers.unwrap_or(scenario.viewers);
    scenario.seconds = args.seconds.unwrap_or(scenario.seconds);
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    scenario.churn_per_minute = args.churn.unwrap_or(scenario.churn_per_minute);
    scenario.uplink_mean_bps = args.uplink.unwrap_or(scenario.uplink_mean_bps);
    scenario.serves &= !args.cdn;
    let mut world = World::new(scenario);
    let report = world.run();
    println!("{report}");
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    anyhow::ensure!(
        world.violations.is_empty(),
        "what must never happen did: {}",
        world.violations[..1.min(world.violations.len())].join("")
    );
    Ok(())
}
