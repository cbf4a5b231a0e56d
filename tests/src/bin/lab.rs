//! `scripts/lab`: real programs on a network of our own making.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use starling_tests::{
    fleet::{Binaries, interrupted},
    lab::{self, network::Network, page, scenario::Scenario},
};
use tracing_subscriber::EnvFilter;

/// What a shell reports of a program ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Run real programs on a network of our own making: distance, narrow links, loss, NAT, churn
///
/// Hint server, broadcaster and every viewer get a network namespace of their own, joined by a router of ours. Needs root
/// and /dev/net/tun.
///
/// Exit code 0: measured; 1: measured, and a target of the scenario missed; 2: nothing could be measured.
#[derive(Parser)]
#[command(name = "lab")]
struct Args {
    /// A file in tests/lab/ without its ending, or a path
    scenario: String,

    /// That many viewers at a time
    #[arg(long, value_name = "N")]
    viewers: Option<usize>,

    /// Measure for that long
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,

    /// Decides everything drawn by lot: same seed, same links, same comings and goings
    #[arg(long, value_name = "K")]
    seed: Option<u64>,

    /// Also as many players straight at the origin
    #[arg(long)]
    direct: bool,

    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the page with everything over time to this file [default: beside the JSON, or where temporary files go]
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,

    /// Let the programs' logs stay and say where they are
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("LAB_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    run(Args::parse()).await.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

async fn run(args: Args) -> Result<ExitCode> {
    let mut scenario = Scenario::find(&args.scenario)?;
    scenario.viewers = args.viewers.unwrap_or(scenario.viewers);
    scenario.seconds = args.seconds.unwrap_or(scenario.seconds);
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    scenario.direct |= args.direct;
    scenario.check()?;
    if let Some(missing) = Network::missing() {
        bail!(missing);
    }
    let outcome = tokio::select! {
        outcome = lab::run(scenario, Binaries::find()?, args.keep) => outcome?,
        interrupt = interrupted() => {
            interrupt?;
            return Ok(INTERRUPTED.into());
        }
    };
    let report = &outcome.report;
    println!("{report}");
    if let Some(file) = &args.json {
        write(file, &(serde_json::to_string_pretty(report)? + "\n"))?;
    }
    let page = args.page.clone().unwrap_or_else(|| match &args.json {
        Some(json) => json.with_extension("html"),
        None => env::temp_dir().join(format!("starling-lab-{}.html", report.scenario)),
    });
    write(&page, &page::render(&outcome.measured, report))?;
    println!("page {}", page.display());
    Ok(if report.missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
