//! The bench: how much the viewers carry, what it costs them, and what they see, held against targets.
//!
//! One workload is one run of real processes on this machine: hint server, broadcaster with its test picture, N viewers
//! each with a measuring player (`starling probe`) on its local playlist, and in the same run more measuring players
//! straight at the broadcaster's HTTP server, and a bare QUIC transfer of the same bytes in the same rhythm.
//!
//! **What is counted where.** Percentages are only worth what their byte counts are, so the bench counts itself wherever
//! it can: every player reads through a [`relay`] of the bench, and the link given to viewers names a relay instead of the
//! broadcaster's HTTP server, so all HTTP bytes are counted outside the programs under test, on a port of their own for
//! each purpose. What the broadcaster sends over libp2p nobody outside can see; there the larger of two counts is
//! believed, the broadcaster's own and the sum of what the viewers say they got from it. The same goes for HTTP: the
//! larger of relay and viewers' sum. Where two counts differ by more than 5 % the run fails.
//!
//! **When.** Counters are differences over a window that begins five seconds after the last player shows a picture, and
//! lasts a whole number of segments. Start-up and stalls are of the whole run, joins included.

pub mod figures;
pub mod raw_quic;
pub mod relay;
pub mod report;
mod snapshot;
mod stage;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use tokio::time::sleep;

use self::{
    figures::{Measured, Side},
    raw_quic::{Pace, RawQuic},
    report::Report,
    stage::Stage,
};
use crate::fleet::Binaries;

/// After the last player shows a picture, before the window begins.
const SETTLE: Duration = Duration::from_secs(5);

/// Media in one burst of the raw QUIC transfer: the design's 200 ms chunks (DESIGN §1).
const CHUNK_SECONDS: f64 = 0.2;

/// How long after its window the raw QUIC transfer may take to end.
const RAW_QUIC_GRACE: Duration = Duration::from_secs(30);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name in tables.
    pub name: &'static str,
    /// Viewers, each a node and a player.
    pub viewers: usize,
    /// Players straight at the origin.
    pub direct: usize,
    /// The stream's rate, bits per second.
    pub bitrate_bps: u64,
    /// Length of a segment, seconds.
    pub segment_seconds: u32,
    /// Length of the window, seconds; rounded up to whole segments.
    pub seconds: u64,
    /// The least offload, percent, and whether start-up, lag and memory have targets too.
    pub offload_percent: f64,
    /// Whether start-up, lag and memory have targets.
    pub targets_times: bool,
}

/// W1: ten viewers.
pub const W1: Workload = Workload {
    name: "W1",
    viewers: 10,
    direct: 10,
    bitrate_bps: 1_100_000,
    segment_seconds: 2,
    seconds: 120,
    offload_percent: 88.0,
    targets_times: true,
};

/// W2: fifty viewers, and as many players at the origin. Two cores carry both: the players cost 0.2 % of a core each,
/// the viewers 1.7 %, measured, and nobody stalls.
pub const W2: Workload =
    Workload { name: "W2", viewers: 50, direct: 50, offload_percent: 95.0, targets_times: false, ..W1 };

/// W1 at 5 Mbit/s: with [`W1`] it tells what one byte more costs.
pub const W5: Workload = Workload { name: "W1 at 5 Mbit/s", bitrate_bps: 5_000_000, ..W1 };

/// Runs one workload from nothing to a report; ends everything it started.
///
/// # Errors
/// If a program doesn't start, ends early, or doesn't answer: then there is nothing to report.
pub async fn run(workload: Workload, binaries: Binaries) -> Result<Report> {
    let mut stage = Stage::set(workload, binaries).await?;
    stage.wait_until_all_play().await?;
    sleep(SETTLE).await;

    let window = Duration::from_secs(workload.seconds.next_multiple_of(workload.segment_seconds.into()));
    stage.tell(&format!("all play; measuring for {} s", window.as_secs()));
    let (began, before) = (wall_seconds(), stage.snapshot().await?);
    let pace = Pace {
        peers: before.mean_neighbours().max(1),
        bitrate: workload.bitrate_bps,
        chunk_bytes: (workload.bitrate_bps as f64 / 8.0 * CHUNK_SECONDS) as usize,
        seconds: window.as_secs(),
    };
    let raw_quic = RawQuic::start(&stage.fleet, pace).await?;
    sleep(window).await;
    let (ended, after) = (wall_seconds(), stage.snapshot().await?);
    let raw_quic = raw_quic.outcome(RAW_QUIC_GRACE).await?;
    stage.tell("window over; collecting");

    let ready_seconds = stage.ready_seconds();
    let (nodes, direct) = stage.stop_players().await?;
    let measured = Measured {
        window_seconds: window.as_secs_f64(),
        change: after.since(&before),
        nodes: Side::new(nodes, began..ended),
        direct: Side::new(direct, began..ended),
        ready_seconds,
        neighbours: after.mean_neighbours(),
        raw_quic,
    };
    Ok(Report::new(workload, &measured))
}

fn wall_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
