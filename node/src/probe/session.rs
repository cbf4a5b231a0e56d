//! The loop around the player: reloads the playlist, fetches segments one after another, samples once a second.
//!
//! What becomes of what arrives is in `arrivals`, what is asked for next in `requests`. Two requests are under way at most,
//! one for the playlist and one for a segment or part. Everything that decides is in [`Player`], [`Programme`] and
//! [`Continuity`]; a session only brings them the time, the bytes and the failures.

use std::{
    future::Future,
    path::Path,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, sleep_until};
use url::Url;

use super::{
    Args, Samples,
    continuity::Continuity,
    download::Init,
    fetch::Http,
    life::Life,
    pace::Pace,
    player::{Player, Sample},
    playlist::Multivariant,
    preload::Preload,
    programme::Programme,
    report::{Mode, Report},
    requests::{FORWARD_BUFFER, Fetched, Loaded},
    samples::SampleFile,
    tally::{Frame, Tally},
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// See "Catching up" in the module documentation.
const CATCH_UP_BUFFER: Duration = SECOND;
const CATCH_UP_SLACK: Duration = Duration::from_millis(50);
const STALL_ADDS: Duration = Duration::from_millis(250);

/// One measurement from the first request to the report.
pub(super) struct Session {
    pub(super) args: Args,
    pub(super) dump: Option<Arc<Path>>,
    sample_file: Option<SampleFile>,
    pub(super) http: Http,
    began: Instant,
    began_wall: f64,
    pub(super) source: Url,
    pub(super) chosen: Option<Multivariant>,
    pub(super) programme: Programme,
    pub(super) player: Player,
    pub(super) continuity: Continuity,
    pub(super) tally: Tally,
    pub(super) init: Option<Init>,
    pub(super) reloads: Pace,
    pub(super) fetches: Pace,
    pub(super) preload: Preload,
    /// The next reload may name the part it waits for: the last one brought something new.
    pub(super) may_block: bool,
    /// The next reload may leave out what is known: the last one could be read.
    pub(super) may_skip: bool,
    /// When the playlist was asked for that was loaded last.
    pub(super) known_at: Duration,
    /// What is being fetched is of no use any more.
    pub(super) fetch_is_stale: bool,
    sample_at: Option<Duration>,
    progress_at: Duration,
    pub(super) life: Life,
}

/// Why a session ends.
enum End {
    /// Played out, told to stop, or the time is up.
    Regular,
    /// The stream cannot be played (any more).
    Failed(String),
}

pub(super) type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

impl Session {
    /// Prepares a measurement; its clock starts now.
    pub(super) fn new(args: Args, http: Http, sample_file: Option<SampleFile>) -> Self {
        Self {
            sample_file,
            dump: args.dump.as_deref().map(Arc::from),
            http,
            began: Instant::now(),
            began_wall: wall_clock(),
            source: args.url.clone(),
            chosen: None,
            programme: Programme::default(),
            player: Player::starting_at(Duration::ZERO),
            continuity: Continuity::default(),
            tally: Tally::default(),
            init: None,
            reloads: Pace::default(),
            fetches: Pace::default(),
            preload: Preload::default(),
            may_block: false,
            may_skip: false,
            known_at: Duration::ZERO,
            fetch_is_stale: false,
            sample_at: None,
            progress_at: SECOND,
            life: Life::default(),
            args,
        }
    }

    /// Plays until the end of the programme, the given time, `shutdown` or a failure.
    pub(super) async fn run(mut self, shutdown: impl Future<Output = ()>) -> Report {
        let mut shutdown = pin!(shutdown);
        let mut reload: Pending<Loaded> = None;
        let mut fetch: Pending<Fetched> = None;
        let end = loop {
            let now = self.now();
            if let Err(failure) = self.tick(now) {
                break End::Failed(failure);
            }
            self.request_media(now, &mut fetch);
            self.request_playlist(now, &mut reload);
            if let Some(end) = self.over(now) {
                break end;
            }
            let wake = self.wake(now, reload.is_some(), fetch.is_some());
            let settled = tokio::select! {
                () = &mut shutdown => break End::Regular,
                loaded = settle(&mut reload) => self.playlist_came(loaded),
                (segment, outcome) = settle(&mut fetch) => self.media_came(&segment, outcome),
                () = sleep_until(self.began + wake) => Ok(()),
            };
            if let Err(failure) = settled {
                break End::Failed(failure);
            }
        };
        self.report(end)
    }

    /// Time since the measurement began.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Moves the player on, and takes the samples that are due. `Err` says why the session cannot go on.
    fn tick(&mut self, now: Duration) -> Result<(), String> {
        self.player.play_at(now, self.rate());
        self.life.received(now, self.http.media_bytes());
        if self.sample_at.is_none() {
            self.sample_at = self.player.account().startup;
        }
        if let Some(due) = self.sample_at.filter(|due| *due <= now) {
            if let Some(sample) = self.player.sample(now, wall_clock()) {
                self.keep(sample)?;
            }
            self.sample_at = Some(next_second(due, now));
        }
        if self.args.progress && self.progress_at <= now {
            eprintln!("{}", self.progress(now));
            self.progress_at = next_second(self.progress_at, now);
        }
        Ok(())
    }

    /// How fast to play now, see "Catching up".
    fn rate(&self) -> f64 {
        let low_latency = self.programme.low_latency().zip(self.programme.playlist());
        let (Some(fast), Some((low_latency, list))) = (self.args.catch_up, low_latency) else { return 1.0 };
        let stalls = u32::try_from(self.player.account().stalls.count).unwrap_or(u32::MAX);
        let target = low_latency.hold_back + STALL_ADDS.saturating_mul(stalls).min(list.target);
        let buffered = self.player.buffered();
        if buffered > CATCH_UP_BUFFER && buffered > target + CATCH_UP_SLACK { fast } else { 1.0 }
    }

    fn keep(&mut self, sample: Sample) -> Result<(), String> {
        let sample = Sample { media_bytes: self.http.media_bytes(), ..sample };
        self.tally.sample(sample);
        let Some(file) = &mut self.sample_file else {
            return Ok(());
        };
        file.write(sample)
            .map_err(|error| format!("cannot write the samples: {error}; free some space or choose another --samples"))
    }

    fn over(&self, now: Duration) -> Option<End> {
        if self.player.ended() {
            let shown = self.player.account().startup.is_some();
            return Some(if shown {
                End::Regular
            } else {
                End::Failed("the programme ended without a segment that could be played".into())
            });
        }
        if self.args.seconds.is_some_and(|seconds| now >= seconds) {
            return Some(End::Regular);
        }
        let dead = self.life.dead(now, self.args.give_up)?;
        Some(End::Failed(format!("{}: {dead}", self.source)))
    }

    /// When to look again if nothing arrives before.
    fn wake(&self, now: Duration, reloading: bool, fetching: bool) -> Duration {
        let room = self.player.shrinks_to(FORWARD_BUFFER);
        let retry = self.fetches.at().max(room.unwrap_or_default());
        [
            self.sample_at.filter(|at| *at > now),
            self.player.shrinks_to(Duration::ZERO).filter(|at| *at > now),
            (!reloading).then(|| self.reloads.at()),
            (!fetching && retry > now).then_some(retry),
            self.args.seconds,
        ]
        .into_iter()
        .flatten()
        .fold(now + SECOND, Duration::min)
    }

    fn progress(&self, now: Duration) -> String {
        let account = self.player.account();
        let state = match (account.startup, self.player.waiting()) {
            (None, _) => "starting",
            (Some(_), None) => "playing",
            (Some(_), Some(_)) => "stalled",
        };
        let lag = self.tally.last_lag().map_or(String::new(), |lag| format!(", lag {lag:.1} s"));
        format!(
            "{:.0} s: {state}, buffer {:.1} s{lag}, stalls {}, received {:.1} MB",
            now.as_secs_f64(),
            self.player.buffered().as_secs_f64(),
            account.stalls.count,
            self.http.media_bytes() as f64 / 1e6,
        )
    }

    fn report(mut self, end: End) -> Report {
        let elapsed = self.now();
        self.player.stop(elapsed);
        let low_latency = self.programme.low_latency();
        let playlist = self.programme.playlist();
        self.tally.report(Frame {
            url: self.args.url.to_string(),
            started_at: self.began_wall,
            elapsed,
            account: self.player.account(),
            timestamps: self.continuity.errors(),
            http: &self.http,
            mode: playlist.map(|_| if low_latency.is_some() { Mode::Parts } else { Mode::Segments }),
            part_target: low_latency.map(|low_latency| low_latency.part_target),
            hold_back: playlist.map(|list| low_latency.map_or(list.hold_back, |low_latency| low_latency.hold_back)),
            with_samples: self.args.samples == Samples::InReport,
            error: match end {
                End::Regular => None,
                End::Failed(reason) => Some(reason),
            },
        })
    }
}

/// Waits for what is pending and takes it out; waits forever if nothing is.
async fn settle<T>(pending: &mut Pending<T>) -> T {
    let Some(future) = pending else {
        return std::future::pending().await;
    };
    let outcome = future.await;
    *pending = None;
    outcome
}

/// The first whole second after `due` that lies in the future.
fn next_second(due: Duration, now: Duration) -> Duration {
    due + SECOND * u32::try_from((now - due).as_secs() + 1).unwrap_or(u32::MAX)
}

/// Seconds since 1970 on this machine's clock.
pub(super) fn wall_clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
