//! What is counted while a session runs and is not the player's own account.

use std::{collections::BTreeSet, time::Duration};

use super::{
    continuity::TimestampErrors,
    fetch::{FetchError, Http},
    media::Container,
    player::{Account, Sample},
    report::{Bytes, Errors, Late, Mode, Report, Variant},
    stats::Series,
};

/// How many late segments are listed one by one.
const LATE_LISTED: usize = 100;

/// Counters and series of a session.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) variant: Option<Variant>,
    pub(super) discontinuities: u64,
    pub(super) restarts: u64,
    container: Option<Container>,
    segments: u64,
    parts: u64,
    hinted_parts: u64,
    /// Bytes and seconds of segments that arrived whole, for the bitrate.
    whole_bytes: u64,
    whole_media: Duration,
    errors: Errors,
    downloads: Series<Download>,
    samples: Series<Sample>,
    last_lag: Option<f64>,
    late: Vec<Late>,
    notes: BTreeSet<String>,
}

/// How one segment or part came, in seconds.
#[derive(Clone, Copy, Debug)]
struct Download {
    first_byte: Option<f64>,
    whole: Option<f64>,
    after_capture: Option<f64>,
}

/// A segment or part that arrived whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) sequence: u64,
    /// Which part, if it is one.
    pub(super) part: Option<u64>,
    /// It was asked for before it existed: how long it took says nothing.
    pub(super) hinted: bool,
    pub(super) container: Container,
    pub(super) bytes: u64,
    /// How much media it is.
    pub(super) media: Duration,
    pub(super) first_byte: Duration,
    pub(super) whole: Duration,
    /// Seconds since the end of its capture, if that is known and it was added while we watched.
    pub(super) after_capture: Option<f64>,
    /// How long the viewer had been waiting, if so.
    pub(super) waited: Option<Duration>,
}

/// What the report takes from the session's other parts.
pub(super) struct Frame<'a> {
    pub(super) url: String,
    pub(super) started_at: f64,
    pub(super) elapsed: Duration,
    pub(super) account: &'a Account,
    pub(super) timestamps: &'a TimestampErrors,
    pub(super) http: &'a Http,
    pub(super) mode: Option<Mode>,
    pub(super) part_target: Option<Duration>,
    pub(super) hold_back: Option<Duration>,
    pub(super) with_samples: bool,
    pub(super) error: Option<String>,
}

impl Tally {
    pub(super) fn segment(&mut self, arrival: Arrival) {
        let whole = arrival.whole.as_secs_f64();
        match arrival.part {
            None => self.segments += 1,
            Some(_) => self.parts += 1,
        }
        self.hinted_parts += u64::from(arrival.hinted);
        self.container = Some(arrival.container);
        self.whole_bytes += arrival.bytes;
        self.whole_media += arrival.media;
        self.downloads.push(Download {
            first_byte: (!arrival.hinted).then_some(arrival.first_byte.as_secs_f64()),
            whole: (!arrival.hinted).then_some(whole),
            after_capture: arrival.after_capture,
        });
        if let Some(waited) = arrival.waited.filter(|_| self.late.len() < LATE_LISTED) {
            self.late.push(Late {
                sequence: arrival.sequence,
                part: arrival.part,
                late_seconds: waited.as_secs_f64(),
                download_seconds: whole,
            });
        }
    }

    pub(super) fn error(&mut self, error: &FetchError) {
        self.errors.total += 1;
        *self.errors.by_kind.entry(error.kind()).or_default() += 1;
    }

    pub(super) fn retry(&mut self) {
        self.errors.retries += 1;
    }

    pub(super) fn sample(&mut self, sample: Sample) {
        self.samples.push(sample);
        self.last_lag = sample.lag;
    }

    /// The lag sampled last.
    pub(super) fn last_lag(&self) -> Option<f64> {
        self.last_lag
    }

    /// Something a reader of the figures should know; said once. Callers choose from a fixed set of texts.
    pub(super) fn note(&mut self, text: &str) {
        if !self.notes.contains(text) {
            tracing::info!("{text}");
            self.notes.insert(text.to_owned());
        }
    }

    pub(super) fn report(&self, frame: Frame<'_>) -> Report {
        let account = frame.account;
        let media_seconds = self.whole_media.as_secs_f64();
        Report {
            url: frame.url,
            variant: self.variant,
            mode: frame.mode,
            part_target_seconds: frame.part_target.map(|target| target.as_secs_f64()),
            hold_back_seconds: frame.hold_back.map(|hold_back| hold_back.as_secs_f64()),
            container: self.container,
            started_at: frame.started_at,
            elapsed_seconds: frame.elapsed.as_secs_f64(),
            startup_seconds: account.startup.map(|startup| startup.as_secs_f64()),
            stalls: account.stalls.into(),
            skips: account.skips.into(),
            gaps: account.gaps.into(),
            jumps: account.jumps.count,
            skipped_seconds: account.jumps.time.as_secs_f64(),
            lag_seconds: self.samples.summary(|sample| sample.lag),
            buffer_seconds: self.samples.summary(|sample| Some(sample.buffer.as_secs_f64())),
            bytes: Bytes { media: frame.http.media_bytes(), playlist: frame.http.playlist_bytes() },
            bitrate_bps: (media_seconds > 0.0).then(|| self.whole_bytes as f64 * 8.0 / media_seconds),
            played_seconds: account.played.as_secs_f64(),
            segments: self.segments,
            parts: self.parts,
            hinted_parts: self.hinted_parts,
            discontinuities: self.discontinuities,
            restarts: self.restarts,
            timestamp_errors: frame.timestamps.clone(),
            errors: self.errors.clone(),
            download_seconds: self.downloads.summary(|download| download.whole),
            first_byte_seconds: self.downloads.summary(|download| download.first_byte),
            arrival_seconds: self.downloads.summary(|download| download.after_capture),
            late: self.late.clone(),
            notes: self.notes.iter().cloned().collect(),
            samples: frame.with_samples.then(|| self.samples.values().iter().map(|sample| (*sample).into()).collect()),
            error: frame.error,
        }
    }
}
