//! `scripts/demo` and `scripts/testnet`: a swarm on this machine, to look at or to work with.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;
use starling_tests::fleet::{
    Binaries,
    demo::{self, DemoOptions},
    interrupted,
    testnet::{Testnet, default_directory},
};

/// What a shell reports of a program ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Run a swarm on this machine
#[derive(Parser)]
#[command(name = "testnet")]
enum Command {
    /// Start a swarm in the background: hint server, broadcaster with a test picture, viewers with players
    Up {
        /// How many viewers
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(0..=500))]
        viewers: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Show what is up and how it does
    Status(Place),
    /// Add viewers
    Add {
        /// How many
        #[arg(value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=500))]
        viewers: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Kill a viewer as a crash would
    Kill {
        /// Its number
        #[arg(value_name = "I")]
        number: usize,
        #[command(flatten)]
        place: Place,
    },
    /// End the swarm and remove all its files
    Down(Place),
    /// Show a swarm in the foreground, with a live table, and judge it at the end
    Demo(DemoOptions),
}

#[derive(clap::Args)]
struct Place {
    /// Where the swarm's state, data and logs are [default: starling-testnet in $XDG_RUNTIME_DIR, or a directory of
    /// the user's where temporary files go]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    run(Command::parse()).await.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up { viewers, place } => up(&place.directory(), viewers.into()).await,
        Command::Status(place) => {
            println!("{}", Testnet::open(&place.directory())?.status().await);
            Ok(ExitCode::SUCCESS)
        }
        Command::Add { viewers, place } => add(&place.directory(), viewers.into()).await,
        Command::Kill { number, place } => {
            Testnet::open(&place.directory())?.kill(number)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Down(place) => {
            Testnet::open(&place.directory())?.down().await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(options) => {
            let good = demo::run(options, Binaries::find()?).await?;
            Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

async fn up(directory: &Path, viewers: usize) -> Result<ExitCode> {
    tokio::select! {
        testnet = Testnet::up(directory, viewers, Binaries::find()?) => {
            println!("{}", testnet?.status().await);
            Ok(ExitCode::SUCCESS)
        }
        interrupt = interrupted() => {
            interrupt?;
            if let Ok(testnet) = Testnet::open(directory) {
                testnet.down().await?;
            }
            Ok(INTERRUPTED.into())
        }
    }
}

async fn add(directory: &Path, viewers: usize) -> Result<ExitCode> {
    let mut testnet = Testnet::open(directory)?;
    tokio::select! {
        added = testnet.add(viewers, Binaries::find()?) => added?,
        interrupt = interrupted() => {
            interrupt?;
            return Ok(INTERRUPTED.into());
        }
    }
    println!("{}", testnet.status().await);
    Ok(ExitCode::SUCCESS)
}

impl Place {
    fn directory(self) -> PathBuf {
        self.dir.unwrap_or_else(default_directory)
    }
}
