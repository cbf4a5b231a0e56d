//! The result of a measurement, as it is printed. Field names are part of the interface: scripts and tests read them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    continuity::TimestampErrors,
    media::Container,
    player::{Interruptions, Sample},
    stats::{Summary, micros},
};

/// Everything one run measured. Times are in seconds, sizes in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The address that was asked for.
    pub url: String,
    /// What was chosen from a multivariant playlist.
    pub variant: Option<Variant>,
    /// Whether it played by parts or by whole segments; `null` before the first media playlist.
    pub mode: Option<Mode>,
    /// PART-TARGET of the playlist: no part is longer.
    pub part_target_seconds: Option<f64>,
    /// How far from the end of the playlist play begins: PART-HOLD-BACK, HOLD-BACK or three target durations.
    pub hold_back_seconds: Option<f64>,
    /// How the segments are packed, once one arrived.
    pub container: Option<Container>,
    /// Wall clock at the first request, in seconds since 1970.
    pub started_at: f64,
    /// From the first request to the end of the run.
    pub elapsed_seconds: f64,
    /// From just before the first playlist request to the first picture; `null` if there was none.
    pub startup_seconds: Option<f64>,
    /// Interruptions after the first picture, skips included.
    pub stalls: Count,
    /// Media that was lost because it fell out of the live window or could not be fetched.
    pub skips: Count,
    /// Media the server itself declared absent (EXT-X-GAP), passed over.
    pub gaps: Count,
    /// How often play moved forward to be nearer to the end of the programme, of which the viewer missed
    /// `skipped_seconds`: not stalls, but not the same as never stalling. Only with `--max-latency`.
    pub jumps: u64,
    /// Media left out by the jumps.
    pub skipped_seconds: f64,
    /// Wall clock minus capture time of the frame at the playhead, once a second from the first picture on, also
    /// during stalls; `null` if the playlist has no EXT-X-PROGRAM-DATE-TIME.
    pub lag_seconds: Option<Summary>,
    /// Media ahead of the playhead, sampled with the lag.
    pub buffer_seconds: Option<Summary>,
    /// Body bytes received.
    pub bytes: Bytes,
    /// Bits of media per second of media, over the segments and parts that arrived whole.
    pub bitrate_bps: Option<f64>,
    /// Media shown.
    pub played_seconds: f64,
    /// Segments that arrived whole.
    pub segments: u64,
    /// Parts that arrived whole.
    pub parts: u64,
    /// Of these, parts asked for before they were listed (EXT-X-PRELOAD-HINT).
    pub hinted_parts: u64,
    /// Discontinuities between segments played one after another.
    pub discontinuities: u64,
    /// Times the server started its numbering anew.
    pub restarts: u64,
    /// Media timestamps that did not continue as they must.
    pub timestamp_errors: TimestampErrors,
    /// Requests that failed.
    pub errors: Errors,
    /// From the request for a segment or part to its last byte; not of parts that the server held back until they existed.
    pub download_seconds: Option<Summary>,
    /// From the request to the head of the answer, likewise.
    pub first_byte_seconds: Option<Summary>,
    /// From the end of the capture of a segment or part to its last byte here, if it was added while we watched.
    pub arrival_seconds: Option<Summary>,
    /// The first hundred segments or parts that came when the buffer had already run dry.
    pub late: Vec<Late>,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
    /// The one-second samples, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<LagSample>>,
    /// Why the run ended early; `null` if it did not.
    pub error: Option<String>,
}

/// What a stream is played by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Parts of segments, as they are made (low-latency HLS).
    Parts,
    /// Whole segments.
    Segments,
}

/// How often something happened, and for how long in all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Count {
    /// How often.
    pub count: u64,
    /// How long in all.
    pub seconds: f64,
}

/// Body bytes by purpose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bytes {
    /// Segments and initialisation sections, also of requests that broke off.
    pub media: u64,
    /// Playlists.
    pub playlist: u64,
}

/// Failed requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Errors {
    /// All of them.
    pub total: u64,
    /// Requests made because an earlier one failed.
    pub retries: u64,
    /// By kind: `timeout`, `connect`, `http_404`, `broken_off`, `not_media`, `not_a_playlist` …
    pub by_kind: BTreeMap<String, u64>,
}

/// A segment that came too late.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Late {
    /// Its media sequence number.
    pub sequence: u64,
    /// Which part of that segment it is, if not the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<u64>,
    /// How long the viewer had been waiting when it was there.
    pub late_seconds: f64,
    /// How long its download took.
    pub download_seconds: f64,
}

/// The variant that was played.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Variant {
    /// Its BANDWIDTH attribute, in bits per second.
    pub bandwidth: u64,
    /// Its width and height in pixels.
    pub resolution: Option<(u64, u64)>,
}

/// One moment of the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LagSample {
    /// Wall clock, in seconds since 1970.
    pub wall: f64,
    /// Time since the first request.
    pub t: f64,
    /// Lag behind the capture, if the playlist is dated.
    pub lag: Option<f64>,
    /// Media ahead of the playhead.
    pub buffer: f64,
    /// Whether the picture moved.
    pub playing: bool,
    /// Media bytes received so far.
    pub media_bytes: u64,
}

impl Report {
    /// The exit code of the program: 0 if the run ended as it should, 2 if the stream could not be played (on).
    pub fn exit_code(&self) -> u8 {
        if self.error.is_some() { 2 } else { 0 }
    }

    /// The report as indented JSON.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl From<Interruptions> for Count {
    fn from(interruptions: Interruptions) -> Self {
        Self { count: interruptions.count, seconds: interruptions.time.as_secs_f64() }
    }
}

impl From<Sample> for LagSample {
    fn from(sample: Sample) -> Self {
        Self {
            wall: micros(sample.wall),
            t: sample.at.as_secs_f64(),
            lag: sample.lag.map(micros),
            buffer: sample.buffer.as_secs_f64(),
            playing: sample.playing,
            media_bytes: sample.media_bytes,
        }
    }
}
