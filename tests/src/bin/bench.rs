//! `scripts/bench`: measures a real swarm on this machine and holds it against targets.

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use starling_tests::{
    bench::{
        self, W1, W2, W5, Workload,
        raw_quic::{self, Pace},
        report::Report,
    },
    fleet::{Binaries, interrupted},
};

/// Measure a real swarm on this machine and hold it against targets
///
/// Starts hint server, broadcaster, viewers and measuring players, and in the same run measuring players straight at the
/// origin and a bare QUIC transfer to compare with. Prints a table.
///
/// Exit code 0: every target was reached; 1: one was missed; 2: nothing could be measured.
#[derive(Parser)]
#[command(name = "bench", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,

    /// What to run
    #[arg(value_enum, default_value = "all")]
    workload: Choice,

    /// How long to measure, in seconds [default: 120]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,

    /// How many viewers [default: 50 in w2, else 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    viewers: Option<u16>,

    /// How many players straight at the origin [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    direct: Option<u16>,

    /// Also write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Only miss targets in which the speed of this machine has no part: bytes flowed, nobody stalled, nothing broke
    #[arg(long)]
    smoke: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    /// Ten viewers
    W1,
    /// Fifty viewers
    W2,
    /// Ten viewers, at 1.1 and then at 5 Mbit/s: what one byte more costs
    Cost,
    /// W1 and W2, one after the other
    All,
}

/// Programs the bench starts of itself.
#[derive(clap::Subcommand)]
enum Part {
    #[command(hide = true)]
    RawQuicRelay {
        certificate: PathBuf,
        #[command(flatten)]
        pace: Pace,
    },
    #[command(hide = true)]
    RawQuicSource {
        certificate: PathBuf,
        relay: SocketAddr,
        #[command(flatten)]
        pace: Pace,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    run(Args::parse()).await.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

async fn run(args: Args) -> Result<ExitCode> {
    match args.part {
        Some(Part::RawQuicRelay { certificate, pace }) => raw_quic::run_relay(&certificate, pace).await?,
        Some(Part::RawQuicSource { certificate, relay, pace }) => {
            raw_quic::run_source(&certificate, relay, pace).await?
        }
        None => {
            return tokio::select! {
                code = measure(&args) => code,
                interrupt = interrupted() => interrupt.map(|()| ExitCode::from(130)).map_err(Into::into),
            };
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &Args) -> Result<ExitCode> {
    let binaries = Binaries::find()?;
    let mut reports = Vec::new();
    for workload in args.workloads() {
        let mut report = bench::run(workload, binaries.clone()).await?;
        if let (Choice::Cost, Some(slower)) = (args.workload, reports.last()) {
            report.compare_cost(slower);
        }
        println!("{report}");
        reports.push(report);
    }
    if let Some(file) = &args.json {
        let json = serde_json::to_string_pretty(&reports)?;
        fs::write(file, json + "\n").with_context(|| format!("writing {}", file.display()))?;
    }
    let reached = |report: &Report| if args.smoke { report.untimed_pass() } else { report.pass };
    Ok(if reports.iter().all(reached) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Args {
    fn workloads(&self) -> Vec<Workload> {
        let chosen = match self.workload {
            Choice::W1 => vec![W1],
            Choice::W2 => vec![W2],
            Choice::Cost => vec![W1, W5],
            Choice::All => vec![W1, W2],
        };
        let changed = |workload: Workload| Workload {
            viewers: self.viewers.map_or(workload.viewers, usize::from),
            direct: self.direct.map_or(workload.direct, usize::from),
            seconds: self.seconds.unwrap_or(workload.seconds),
            ..workload
        };
        chosen.into_iter().map(changed).collect()
    }
}
