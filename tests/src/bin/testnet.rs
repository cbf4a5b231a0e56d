//! `scripts/demo` and `scripts/testnet`: a swarm on this machine, to look at or to work with.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use starling_tests::fleet::{
    Binaries,
    demo::{self, DemoOptions},
    interrupted,
    testnet::{Testnet, default_directory},
};

/// Run a swarm on this machine
#[derive(Parser)]
#[command(name = "testnet")]
struct Args {
    #[command(subcommand)]
    command: Command,

    /// Where the swarm's state, data and logs are [default: starling-testnet in $XDG_RUNTIME_DIR, or a directory of
    /// the user's where temporary files go]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Start a swarm in the background: hint server, broadcaster with a test picture, viewers with players
    Up {
        /// How many viewers
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(0..=500))]
        viewers: u16,
    },
    /// Show what is up and how it does
    Status,
    /// Add viewers
    Add {
        /// How many
        #[arg(value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=500))]
        viewers: u16,
    },
    /// Kill a viewer as a crash would
    Kill {
        /// Its number
        #[arg(value_name = "I")]
        number: usize,
    },
    /// End the swarm and remove all its files
    Down,
    /// Show a swarm in the foreground, with a live table, and judge it at the end
    Demo(DemoOptions),
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    run(args).await.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

async fn run(args: Args) -> Result<ExitCode> {
    let directory = args.dir.unwrap_or_else(default_directory);
    match args.command {
        Command::Up { viewers } => tokio::select! {
            testnet = Testnet::up(&directory, viewers.into(), Binaries::find()?) => println!("{}", testnet?.status().await),
            interrupt = interrupted() => {
                interrupt?;
                if let Ok(testnet) = Testnet::open(&directory) {
                    testnet.down().await?;
                }
                return Ok(ExitCode::from(130));
            }
        },
        Command::Status => println!("{}", Testnet::open(&directory)?.status().await),
        Command::Add { viewers } => {
            let mut testnet = Testnet::open(&directory)?;
            tokio::select! {
                added = testnet.add(viewers.into(), Binaries::find()?) => added?,
                interrupt = interrupted() => {
                    interrupt?;
                    return Ok(ExitCode::from(130));
                }
            }
            println!("{}", testnet.status().await);
        }
        Command::Kill { number } => Testnet::open(&directory)?.kill(number)?,
        Command::Down => Testnet::open(&directory)?.down().await?,
        Command::Demo(options) => {
            let good = demo::run(options, Binaries::find()?).await?;
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}
