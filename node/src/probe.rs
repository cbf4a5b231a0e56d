//! `starling probe`: a headless player that measures. Everything in this project is measured by it, so its rules are written down here.
//!
//! It plays any HLS address in real time with the buffering rules of a real player, decodes nothing, and prints a JSON
//! [`Report`]. The rules are those of RFC 8216bis (draft-pantos-hls-rfc8216bis) and, where the draft leaves a player
//! free, those of hls.js 1.7 with its default settings. Where it differs from hls.js, it says so.
//!
//! * **Clock.** Time zero is just before the first playlist request. Lag compares the capture times in the playlist with
//!   this machine's wall clock: an offset between the two clocks is part of the figure.
//! * **Quality.** The first variant of a multivariant playlist, or with `--bandwidth` the largest within the cap. It
//!   never switches, and it does not fetch separate audio or subtitle playlists.
//! * **Where it starts.** At EXT-X-START if there is one, else at the beginning of a playlist that has ended, else the
//!   hold-back before the end of a live one: HOLD-BACK of EXT-X-SERVER-CONTROL, or three target durations (§6.3.3;
//!   hls.js `liveSyncDurationCount` 3). The position is exact, inside a segment if it falls there.
//! * **Reloading.** One target duration after the last load began if the playlist had changed, half of it if not (§6.3.4).
//!   (hls.js waits the duration of the last segment if that is shorter.)
//! * **Fetching.** Segments one after another in their order, while less than 30 s are buffered (hls.js
//!   `maxBufferLength`), over at most two kept connections. A segment can be played when it is whole.
//! * **Start-up** ends, and the picture moves, when the first segment is whole and one second (or one whole segment, if
//!   shorter) lies ahead of the playhead.
//! * **Stall.** The playhead reaches the end of the buffered media while more is to come. It ends by the same rule as
//!   start-up. Count and seconds are exact to the moment, whatever the load of the machine. hls.js never speeds up to
//!   make up for lost time outside low latency mode, neither does this: after a stall the lag stays larger.
//! * **Failed requests** are repeated after 1, 2, 4, 8 s, but no later than a target duration (hls.js: 1 to 8 s): a
//!   playlist for as long as `--give-up` allows, a segment six times (hls.js `fragLoadPolicy`), one that was answered 404 or
//!   410 once. Then the segment is lost. Times to the first byte and to the whole are limited as in hls.js: 10 s, and
//!   20 s for playlists or 120 s for segments.
//! * **Skip.** Media is lost if its segment cannot be had, or left the playlist before it was fetched; in the second case
//!   play goes on at the hold-back from the end, as if joining anew. A skip counts as an interruption of the length of
//!   what was lost; if the player was stalled already, that stall lasts as long as the wait or the loss, whichever is longer.
//! * **EXT-X-GAP** segments are not fetched and the playhead passes over them: counted under `gaps`, not as stalls.
//! * **Lag** is the wall clock minus the capture time of the frame at the playhead, by EXT-X-PROGRAM-DATE-TIME plus the
//!   offset into the segment. It is sampled once a second from the first picture on, also during stalls.
//! * **Media timestamps** must continue from segment to segment within 50 ms unless a discontinuity is marked, by the
//!   decode times and durations of the video track (fMP4) or the presentation times of the video stream (MPEG-TS, where
//!   the last frame is taken to last as long as the average). A jump that is not marked is counted and played across.
//!   The playhead runs on these times, not on the rounded durations of the playlist. Segments encrypted as a whole
//!   (AES-128) are counted and timed but not looked into, and their keys are not fetched.
//! * **Low latency.** Parts and blocking reloads are left aside for now: such streams are played as ordinary HLS.

mod arrivals;
mod continuity;
mod cursor;
mod download;
mod fetch;
mod fmp4;
mod life;
mod media;
mod pace;
mod player;
mod playlist;
mod programme;
mod reader;
mod report;
mod session;
mod stats;
mod tally;
mod ts;
mod variables;

#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::builder::FalseyValueParser;
use url::Url;

pub use self::{
    continuity::TimestampErrors,
    media::Container,
    report::{Bytes, Count, Errors, LagSample, Late, Report, Variant},
    stats::Summary,
};
use self::{fetch::Http, session::Session};

/// Play an HLS stream like a real player, without a picture, and print what a viewer would have had as JSON
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  starling probe http://127.0.0.1:7373/live.m3u8 --seconds 60
  starling probe https://cdn.example/master.m3u8 --bandwidth 2000000 --progress

It ends with the programme, after --seconds, or at Ctrl-C; the JSON is printed in any case.
Exit code 0: played; 2: the stream could not be played (see \"error\" in the JSON).")]
pub struct Args {
    /// Address of a playlist: a node's, a CDN's, any http(s)://….m3u8, multivariant or media
    #[arg(value_name = "URL", value_parser = http_address)]
    pub url: Url,

    /// Stop after this many seconds [default: at the end of the programme or Ctrl-C]
    #[arg(long, value_name = "N", env = "STARLING_PROBE_SECONDS", value_parser = seconds)]
    pub seconds: Option<Duration>,

    /// Give up when the server has sent nothing usable for this many seconds
    #[arg(long, value_name = "N", env = "STARLING_PROBE_GIVE_UP", default_value = "30", value_parser = seconds)]
    pub give_up: Duration,

    /// Play the best variant that needs no more than this many bits per second [default: the first listed]
    #[arg(long, value_name = "BPS", env = "STARLING_PROBE_BANDWIDTH")]
    pub bandwidth: Option<u64>,

    /// Also write the JSON to this file
    #[arg(long, value_name = "FILE", env = "STARLING_PROBE_JSON")]
    pub json: Option<PathBuf>,

    /// Write the body of every segment received to DIR/NUMBER.bin (its media sequence number), and that of a new
    /// initialisation section to DIR/init-NUMBER.bin
    #[arg(long, value_name = "DIR", env = "STARLING_PROBE_DUMP")]
    pub dump: Option<PathBuf>,

    /// Include the one-second samples of lag and buffer in the JSON
    #[arg(long, env = "STARLING_PROBE_SAMPLES", value_parser = FalseyValueParser::new())]
    pub samples: bool,

    /// Print a line a second to stderr while playing
    #[arg(long, env = "STARLING_PROBE_PROGRESS", value_parser = FalseyValueParser::new())]
    pub progress: bool,
}

/// The whole subcommand: plays until `shutdown` or the end, prints the JSON to stdout and to `--json`, and says how to exit.
///
/// # Errors
/// As [`run`]; and if the JSON cannot be written.
pub async fn command(args: Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<ExitCode> {
    let file = args.json.clone();
    let report = run(args, shutdown).await?;
    let json = report.to_json()?;
    writeln!(std::io::stdout(), "{json}").context("cannot print the report")?;
    if let Some(file) = file {
        save(&json, &file)?;
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// Measures. A stream that cannot be played is no `Err`: the report says so in `error`.
///
/// # Errors
/// If the dump directory cannot be made, or the system's TLS certificates cannot be loaded.
pub async fn run(args: Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<Report> {
    if let Some(dump) = &args.dump {
        std::fs::create_dir_all(dump)
            .with_context(|| format!("cannot make the directory {}; choose another --dump", dump.display()))?;
    }
    let http = Http::new(&args.url).context("cannot set up HTTPS; install the ca-certificates of your system")?;
    Ok(Session::new(args, http).run(shutdown).await)
}

fn save(json: &str, file: &Path) -> anyhow::Result<()> {
    std::fs::write(file, format!("{json}\n"))
        .with_context(|| format!("cannot write {}; choose another --json", file.display()))
}

fn http_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; give the whole address, with http:// or https://"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        "starling" => {
            Err("this is a link to watch: run `starling watch` with it and probe the playlist it prints".into())
        }
        other => Err(format!("cannot play {other}: addresses, only http:// and https://")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.0..=1e9).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "give a number of seconds, such as 60 or 2.5".into())
}
