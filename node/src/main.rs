//! The `starling` program.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use starling_node::cli::{Cli, Command};
use starling_node::{broadcast, os, probe, watch};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter =
        EnvFilter::try_from_env("STARLING_LOG").unwrap_or_else(|_| EnvFilter::new("info,libp2p=warn,netlink=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("starling: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // A thread of its own carries any viewer; what wakes across threads costs (see tests/ABLATIONS.md). A broadcaster draws
    // and encodes beside its network.
    let mut builder = match cli.command {
        Command::Broadcast(_) => tokio::runtime::Builder::new_multi_thread(),
        Command::Watch(_) | Command::Probe(_) => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let shutdown = os::termination().context("listening for signals")?;
        match cli.command {
            Command::Broadcast(args) => Box::pin(broadcast::run(args, shutdown)).await.map(|()| ExitCode::SUCCESS),
            Command::Watch(args) => Box::pin(watch::run(args, shutdown)).await.map(|()| ExitCode::SUCCESS),
            Command::Probe(args) => Box::pin(probe::command(args, shutdown)).await,
        }
    })
}
