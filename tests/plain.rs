//! A player that knows nothing of Starling: ffmpeg reads a viewer's plain playlist and has nothing to complain about.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use starling_tests::fleet::{Binaries, Fleet, WatchOptions};
use tokio::{process::Command, time::timeout};

/// How much is decoded, seconds of media.
const SECONDS: u32 = 8;
/// Frames a second of the test picture.
const FRAME_RATE: u32 = 25;
/// Frames that may be missing where the decoded piece begins and ends.
const EDGES: u32 = 2;
/// For eight seconds of a live stream, on any machine this runs on.
const PATIENCE: Duration = Duration::from_secs(90);

/// The one remark ffmpeg makes about every live stream of fragmented MP4, those it made itself included: whenever it
/// reloads the playlist it reads the initialisation section again.
const REMARK: &str = "Found duplicated MOOV Atom. Skipped it";

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_plays_a_viewers_playlist_without_a_warning() -> Result<()> {
    ffmpeg_plays(None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_plays_a_low_latency_playlist_as_any_other() -> Result<()> {
    ffmpeg_plays(Some(0.2)).await
}

async fn ffmpeg_plays(part_seconds: Option<f64>) -> Result<()> {
    let fleet = Fleet::new(Binaries::find()?)?;
    let (_hint, broadcast) = fleet.on_air(part_seconds).await?;
    let viewer = fleet.watch(&broadcast.link, &WatchOptions::default()).await?;

    let mut ffmpeg = Command::new("ffmpeg");
    // `repeat`: every message as it is, none summed up as "Last message repeated".
    ffmpeg.args(["-nostdin", "-nostats", "-v", "repeat+warning", "-xerror", "-progress", "pipe:1"]);
    ffmpeg.args(["-i", &viewer.playlist, "-t", &SECONDS.to_string(), "-f", "null", "-"]);
    ffmpeg.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, ffmpeg.output())
        .await
        .with_context(|| format!("ffmpeg takes more than {PATIENCE:?}; the viewer logged:\n{}", viewer.program.log()))?
        .context("starting ffmpeg: install it, on Debian the package ffmpeg")?;

    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ffmpeg failed ({}):\n{log}", output.status);
    let warnings: Vec<&str> = log.lines().filter(|line| !is_remark(line)).collect();
    ensure!(warnings.is_empty(), "ffmpeg warns:\n{}", warnings.join("\n"));
    let progress = String::from_utf8_lossy(&output.stdout);
    let frames = frames(&progress).with_context(|| format!("ffmpeg counts no frames:\n{progress}"))?;
    println!("{frames} frames");
    ensure!(frames >= SECONDS * FRAME_RATE - EDGES, "only {frames} frames in {SECONDS} s");
    Ok(())
}

/// Whether a line is [`REMARK`] and nothing else, behind the name of the demuxer: `[mov,mp4 @ 0x5581] …`.
fn is_remark(line: &str) -> bool {
    let message = line.strip_prefix('[').and_then(|line| line.split_once("] ")).map_or(line, |(_, message)| message);
    message.trim_end() == REMARK
}

/// The last `frame=` of what `-progress` wrote.
fn frames(progress: &str) -> Option<u32> {
    progress.lines().rev().find_map(|line| line.strip_prefix("frame=")?.trim().parse().ok())
}
