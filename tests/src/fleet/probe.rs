//! A measuring player of the fleet, and the JSON it leaves.
//!
//! [`ProbeReport`] is written from the documentation, not shared with the node: a renamed field must break a test.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Program;

const PLAYING: &str = "playing";

/// What a player may do, in its own words.
const STATES: [&str; 3] = ["starting", PLAYING, "stalled"];

/// Enough of the end of a log to hold a whole line, bytes.
const LAST_LINES: u64 = 1024;

/// A running `starling probe`.
pub struct Probe {
    /// The process.
    pub program: Program,
    json: PathBuf,
}

/// The part of a probe's report that is looked at here. Times are in seconds, sizes in bytes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ProbeReport {
    /// Wall clock at the first request, seconds since 1970.
    #[serde(default)]
    pub started_at: f64,
    /// From the first request to the end.
    #[serde(default)]
    pub elapsed_seconds: f64,
    /// From the first playlist request to the first picture.
    pub startup_seconds: Option<f64>,
    /// Media shown.
    pub played_seconds: f64,
    /// Interruptions after the first picture.
    pub stalls: Count,
    /// Lag at the playhead; absent if the playlist isn't dated.
    pub lag_seconds: Option<Summary>,
    /// Body bytes received.
    pub bytes: Bytes,
    /// Bits of media per second of media.
    pub bitrate_bps: Option<f64>,
    /// Segments that arrived whole.
    pub segments: u64,
    /// Parts that did, in low latency.
    #[serde(default)]
    pub parts: u64,
    /// Media timestamps that didn't continue as they must.
    pub timestamp_errors: TimestampErrors,
    /// One sample a second, with `--samples`.
    #[serde(default)]
    pub samples: Vec<Sample>,
    /// Why the run ended early.
    pub error: Option<String>,
}

/// How often something happened, and for how long in all.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub struct Count {
    /// How often.
    pub count: u64,
    /// How long in all.
    pub seconds: f64,
}

/// Percentiles.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub struct Summary {
    /// The middle value.
    pub p50: f64,
    /// 95 of 100 values aren't above it.
    pub p95: f64,
}

/// Body bytes by purpose.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub struct Bytes {
    /// Segments and initialisation sections.
    pub media: u64,
    /// Playlists.
    pub playlist: u64,
}

/// Timestamps that didn't fit.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub struct TimestampErrors {
    /// Segments that started later than the one before ended.
    pub gaps: u64,
    /// Segments that started earlier than the one before ended.
    pub overlaps: u64,
}

/// One moment of a run.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub struct Sample {
    /// Wall clock, seconds since 1970.
    pub wall: f64,
    /// Lag at the playhead.
    pub lag: Option<f64>,
    /// Whether the picture moved.
    #[serde(default)]
    pub playing: bool,
    /// Media bytes received so far.
    #[serde(default)]
    pub media_bytes: u64,
}

impl Probe {
    pub(super) fn new(program: Program, json: PathBuf) -> Self {
        Self { program, json }
    }

    /// Whether it has shown a picture by now. Only known if it was started with `--progress`.
    pub fn has_played(&self) -> bool {
        self.program.log().contains(PLAYING)
    }

    /// What its player does at present: one of `starting`, `playing`, `stalled`, as its log says.
    pub fn state(&self) -> Option<String> {
        state_in(self.program.log_file())
    }

    /// Waits until it ends by itself; what it measured.
    ///
    /// # Errors
    /// If it doesn't end within `within`, or leaves no report.
    pub async fn finish(&mut self, within: Duration) -> Result<ProbeReport> {
        self.program.wait(within).await?;
        let told = || format!("{} left no report{}", self.program.name(), self.program.log_tail());
        let json = fs::read_to_string(&self.json).with_context(told)?;
        serde_json::from_str(&json)
            .with_context(|| format!("the report of {} is not as documented", self.program.name()))
    }

    /// Ends it now; what it measured.
    ///
    /// # Errors
    /// As [`Probe::finish`].
    pub async fn stop(&mut self, within: Duration) -> Result<ProbeReport> {
        self.program.terminate(within).await?;
        self.finish(within).await
    }
}

/// The state in the last line a player wrote with `--progress`.
pub(super) fn state_in(log: &Path) -> Option<String> {
    let mut log = File::open(log).ok()?;
    let end = log.metadata().ok()?.len();
    log.seek(SeekFrom::Start(end.saturating_sub(LAST_LINES))).ok()?;
    let mut last = Vec::new();
    log.read_to_end(&mut last).ok()?;
    let last = String::from_utf8_lossy(&last);
    let state_of = |line: &str| STATES.into_iter().find(|state| line.contains(state));
    last.lines().rev().find_map(state_of).map(str::to_owned)
}
