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
//!
//! # Low latency
//!
//! A live playlist with EXT-X-PART-INF and EXT-X-SERVER-CONTROL's CAN-BLOCK-RELOAD=YES and PART-HOLD-BACK is played by its
//! parts, as hls.js does with its default `lowLatencyMode`, unless `--low-latency off` says otherwise. The same rules hold
//! for parts, with these differences:
//!
//! * **Reloading.** After a playlist that brought something new the next is asked for at once, with `_HLS_msn` and
//!   `_HLS_part` of the part that comes next, for the server to hold; and with `_HLS_skip=YES` while the last one is younger
//!   than half of CAN-SKIP-UNTIL. After one that brought nothing new, half a target duration later and without naming a part.
//!   After a failure without any directive. (hls.js also corrects for a CDN's `Age`; this does not.)
//! * **Fetching.** Parts as they are listed, one after another; segments for which no parts are listed, whole. What was
//!   fetched in parts is not fetched again, with one exception: if a part cannot be had, or the rest of a segment's parts
//!   are no longer listed, the rest is taken from the whole segment (hls.js does the same).
//! * **EXT-X-PRELOAD-HINT.** When everything listed is there, the hinted part is asked for; the server holds the answer until
//!   the part exists. hls.js does not do this, Shaka and Apple's players do; `--preload-hints off` turns it off. It is played
//!   once the playlist lists it. Not for files that hold several parts, if the hint does not say how long the part is.
//! * **Where it starts.** PART-HOLD-BACK before the end, exactly; decoding begins at the newest part before that which is
//!   INDEPENDENT or begins a segment. Parts that cannot be decoded, because one before them is absent, are skipped.
//! * **Start-up** ends with any media at the start position: a browser shows the first frame it has. A stall ends when one
//!   second or one whole part lies ahead, by the rule of ordinary HLS. hls.js leaves both to the browser; that browsers go
//!   on with a part is a guess.
//! * **Catching up.** hls.js does not speed up by default (`maxLiveSyncPlaybackRate` 1), and moves forward only when told to
//!   (`liveMaxLatencyDuration`, by default infinite). So does this: with `--max-latency`, when a playlist brings something
//!   new and the playhead is farther than that from its end, it moves to the hold-back. Counted as `jumps` and
//!   `skipped_seconds`, not as a skip; waiting for what is not buffered there is a stall. With `--catch-up` it plays faster, as
//!   hls.js does with `maxLiveSyncPlaybackRate`: while more than a second is buffered and the end of the buffer, which in low
//!   latency is the end of the playlist, is 50 ms farther than the hold-back and a quarter of a second for every stall (hls.js
//!   with `liveSyncOnStallIncrease` 0.25), at most a target duration.

mod arrivals;
mod continuity;
mod cursor;
mod download;
mod fetch;
mod fmp4;
mod life;
mod media;
mod pace;
mod parts;
mod player;
mod playlist;
mod preload;
mod programme;
mod reader;
mod report;
mod requests;
mod samples;
mod session;
mod stats;
mod tally;
mod ts;
mod variables;

#[cfg(test)]
mod low_latency_tests;
#[cfg(test)]
mod test_origin;
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
    report::{Bytes, Count, Errors, LagSample, Late, Mode, Report, Variant},
    samples::{SampleLine, Samples},
    stats::Summary,
};
use self::{fetch::Http, samples::SampleFile, session::Session};

/// Play an HLS stream like a real player, without a picture, and print what a viewer would have had as JSON
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  starling probe http://127.0.0.1:7373/live.m3u8 --seconds 60
  starling probe https://cdn.example/master.m3u8 --bandwidth 2000000 --progress
  starling probe http://127.0.0.1:7373/live.m3u8 --max-latency 5 --samples lag.jsonl
                              # a line of JSON each second: wall, t, lag, buffer, stalled, bytes
  starling probe http://127.0.0.1:7373/live.m3u8 --low-latency off
                              # the same stream as a player sees it that knows nothing of parts

A low-latency stream is played by its parts (\"mode\": \"parts\"), like hls.js. After a stall it stays farther behind,
unless --max-latency lets it jump forward: \"jumps\" and \"skipped_seconds\" say what the viewer missed, beside \"stalls\".

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

    /// Write the body of every segment received to DIR/NUMBER.bin (its media sequence number), of every part to
    /// DIR/NUMBER.PART.bin, and that of a new initialisation section to DIR/init-NUMBER.bin
    #[arg(long, value_name = "DIR", env = "STARLING_PROBE_DUMP")]
    pub dump: Option<PathBuf>,

    /// Play a low-latency stream by its parts
    #[arg(
        long,
        value_name = "auto|off",
        env = "STARLING_PROBE_LOW_LATENCY",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub low_latency: Choice,

    /// Ask for the part that comes next before it is listed, if the playlist hints at it
    #[arg(
        long,
        value_name = "auto|off",
        env = "STARLING_PROBE_PRELOAD_HINTS",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub preload_hints: Choice,

    /// Jump forward to the hold-back when play is more than this many seconds from the end of the playlist [default: never]
    #[arg(long, value_name = "N", env = "STARLING_PROBE_MAX_LATENCY", value_parser = seconds)]
    pub max_latency: Option<Duration>,

    /// Play a low-latency stream this much faster while it is farther from the end of the playlist than the hold-back, as the
    /// page `starling watch` serves does with 1.1 [default: never]
    #[arg(long, value_name = "RATE", env = "STARLING_PROBE_CATCH_UP", value_parser = rate)]
    pub catch_up: Option<f64>,

    /// Include the one-second samples of lag and buffer in the JSON, or write them to FILE as they are taken
    #[arg(long, value_name = "FILE", env = "STARLING_PROBE_SAMPLES", value_parser = Samples::parse,
        num_args = 0..=1, default_missing_value = "yes", default_value = "no", hide_default_value = true)]
    pub samples: Samples,

    /// Print a line a second to stderr while playing
    #[arg(long, env = "STARLING_PROBE_PROGRESS", value_parser = FalseyValueParser::new())]
    pub progress: bool,
}

/// Whether to use what a stream offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// If it is offered.
    Auto,
    /// Never.
    Off,
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
/// If the dump directory or the file of samples cannot be made, or the system's TLS certificates cannot be loaded.
pub async fn run(args: Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<Report> {
    if let Some(dump) = &args.dump {
        std::fs::create_dir_all(dump)
            .with_context(|| format!("cannot make the directory {}; choose another --dump", dump.display()))?;
    }
    let samples = match &args.samples {
        Samples::No | Samples::InReport => None,
        Samples::ToFile(path) => {
            let file = SampleFile::create(path);
            Some(file.with_context(|| format!("cannot write {}; choose another --samples", path.display()))?)
        }
    };
    let http = Http::new(&args.url).context("cannot set up HTTPS; install the ca-certificates of your system")?;
    Ok(Session::new(args, http, samples).run(shutdown).await)
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

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (1.0..=2.0).contains(rate));
    rate.ok_or_else(|| "give a rate between 1 and 2, such as 1.05".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.0..=1e9).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "give a number of seconds, such as 60 or 2.5".into())
}
