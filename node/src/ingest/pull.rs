//! Pulls a live HLS stream, as any packager or CDN offers it, and hands on its segments.
//!
//! What comes out is what went in: bodies are opaque bytes, tags are repeated as they stand, URIs stay as written. Only
//! what would break elsewhere is changed: key URIs become absolute, an implied initialization vector is spelt out,
//! variables are resolved. One task runs it all; dropping the future of [`run`] stops everything.
//!
//! `load` fetches, `outline` and `media` read playlists, `cursor` finds what is new, `clock` dates it, `pace` says when
//! to look again, `rendition` ties these together for one media playlist, `fetch` fetches segments, `deliver` sends them on.
//!
//! In low latency (RFC 8216bis §4.4.4.9) a segment comes part by part while it grows: `low_latency` says whether, `growing`
//! puts it together. What can't be had or trusted of its parts comes with the whole segment, as ever.

mod clock;
mod cursor;
mod date;
mod deliver;
mod fetch;
mod growing;
mod key;
mod line;
mod load;
mod low_latency;
mod media;
mod outline;
mod pace;
mod preload;
pub(super) mod pushed;
mod rendition;
mod sniff;
mod variables;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use starling_proto::RenditionId;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};
use url::Url;

use super::push::shelf::Shelf;
use super::{Ingested, Part, Segment, Shape, Track};
use crate::origin::client::{Reach, is_http};
use clock::SharedClock;
use line::shown;
use load::{LoadError, Loader, Source};
use media::MediaPlaylist;
use outline::{Entry, Outline};
use rendition::Rendition;

/// Largest segment taken, bytes: 8 s at 32 Mbit/s. Larger ones are skipped.
pub const SEGMENT_MAX: u64 = 32 << 20;

/// Largest initialization section taken, bytes: all of them together travel in the catalogue.
pub const INIT_MAX: u64 = 16 << 10;

/// How long a source that can't be reached at start is tried.
const PATIENCE: Duration = Duration::from_secs(30);

/// First and longest pause between attempts to reach a source.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

/// One rendition said EXT-X-ENDLIST: how long the others may take to say so too.
const END_WITHIN: Duration = Duration::from_secs(20);

/// Why a source can't be used, or no longer.
#[derive(Debug, Error)]
pub enum PullError {
    /// The URL's scheme.
    #[error("can't pull from {0}: only http and https URLs; serve the playlist over HTTP")]
    NotHttp(String),
    /// TLS can't be set up on this machine.
    #[error("can't set up the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// Not reached, or no playlist with segments there, within the first 30 s.
    #[error("gave up on {url} after {}s: {reason}; check the address and that the encoder is running", PATIENCE.as_secs())]
    Unreachable {
        /// Of the playlist, without login and query.
        url: String,
        /// The last attempt's failure.
        reason: String,
    },
    /// What is there can't be used; the reason says what to do.
    #[error("can't use {url}: {reason}")]
    Unusable {
        /// Of the playlist, without login and query.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A recording.
    #[error("this playlist is not live: it ends (EXT-X-ENDLIST); give the URL of a running stream ({url})")]
    NotLive {
        /// Of the playlist, without login and query.
        url: String,
    },
    /// Initialization sections are part of the catalogue, which has to stay small.
    #[error(
        "the initialization section {url} is larger than 16 KiB; configure the packager to leave out what isn't needed"
    )]
    InitTooLarge {
        /// Of the section, without login and query.
        url: String,
    },
}

/// Pulls from `source`, a media or multivariant playlist, until it ends, `shutdown` resolves, or nobody receives
/// `events` any more; these are no errors.
///
/// Before the first segment comes the [`Shape`]. A low-latency source's segments come part by part, too. Segments of one rendition come in order; their numbers are the
/// source's: they skip where segments were lost and *fall* when the encoder began again, and the first segment after
/// either has `discontinuity` set. Anything that may pass (a dead server, a bad segment) is waited for or skipped with
/// one warning.
///
/// # Errors
/// [`PullError`], for what only a person can mend.
pub async fn run(
    source: Url,
    events: mpsc::Sender<Ingested>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), PullError> {
    run_with(source, Role::Broadcaster, None, events, shutdown, PATIENCE).await
}

/// As [`run`], for a viewer that follows the link's `origin` by itself: other hosts than the link's must be on the public
/// internet, and playlists are asked for no more often than the standard says. With `resume` it goes on with a stream it
/// has the beginning of.
///
/// # Errors
/// As [`run`].
pub async fn run_as_viewer(
    origin: Url,
    resume: Option<Resume>,
    events: mpsc::Sender<Ingested>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), PullError> {
    run_with(origin, Role::Viewer, resume, events, shutdown, PATIENCE).await
}

/// Where a viewer takes a stream up.
pub struct Resume {
    /// What to fetch; the other renditions are left out.
    pub renditions: Vec<RenditionId>,
    /// Whether a segment is here already.
    pub has: Has,
}

/// Asked with rendition, URI as announced, offset and the source's number of a segment.
pub type Has = Box<dyn Fn(RenditionId, &str, u64, u64) -> bool + Send + Sync>;

async fn run_with(
    source: Url,
    role: Role,
    resume: Option<Resume>,
    events: mpsc::Sender<Ingested>,
    shutdown: impl Future<Output = ()>,
    patience: Duration,
) -> Result<(), PullError> {
    let listener = events.clone();
    let pull = Pull::new(source, role, resume, events)?;
    tokio::select! {
        result = Box::pin(pull.run(Some(patience))) => result,
        () = shutdown => Ok(()),
        () = listener.closed() => Ok(()),
    }
}

/// On whose behalf a source is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Of everybody, by someone who chose the source.
    Broadcaster,
    /// Of one, by the stream's word.
    Viewer,
}

/// What all renditions share.
struct Pull {
    source: Url,
    role: Role,
    resume: Option<Resume>,
    loader: Arc<Loader>,
    events: mpsc::Sender<Ingested>,
    clock: SharedClock,
    /// Last sent; locked while sending, so that shapes go out in the order they were made.
    shape: Mutex<Option<Shape>>,
}

/// Why following the renditions ended.
enum Stop {
    /// The receiver is gone.
    Closed,
    /// The multivariant playlist now names other media playlists.
    Moved(Outline),
    Failed(PullError),
}

impl Pull {
    fn new(source: Url, role: Role, resume: Option<Resume>, events: mpsc::Sender<Ingested>) -> Result<Self, PullError> {
        if !is_http(&source) {
            return Err(PullError::NotHttp(shown(&source)));
        }
        let reach = match role {
            Role::Broadcaster => Reach::Anywhere,
            Role::Viewer => Reach::Public,
        };
        let loader = Arc::new(Loader::new(&source, reach)?);
        Ok(Self { source, role, resume, loader, events, clock: SharedClock::default(), shape: Mutex::default() })
    }

    /// For a source whose files are pushed to `shelf`.
    fn pushed(shelf: Arc<Shelf>, source: Url, events: mpsc::Sender<Ingested>) -> Self {
        let loader = Arc::new(Loader::Shelf(shelf));
        let (clock, shape) = (SharedClock::default(), Mutex::default());
        Self { source, role: Role::Broadcaster, resume: None, loader, events, clock, shape }
    }

    /// Without `patience`, the source may take as long as it likes to come.
    async fn run(&self, patience: Option<Duration>) -> Result<(), PullError> {
        let mut deadline = patience.map(|patience| Instant::now() + patience);
        let source = self.insist(&self.source, deadline, || self.loader.source(&self.source)).await?;
        let (Source::Multivariant(mut outline) | Source::Media(mut outline)) = source;
        let mut renditions: Vec<Rendition> = Vec::new();
        loop {
            let mut first = self.first_playlists(&outline, deadline.take()).await?;
            renditions.resize_with(outline.entries.len(), Rendition::default);
            for (rendition, playlist) in renditions.iter_mut().zip(&mut first) {
                rendition.low_latency.judge(playlist, self.role);
            }
            let tracks = (0..).zip(outline.entries.iter().zip(&first));
            let tracks = tracks.map(|(id, (entry, playlist))| track(RenditionId(id), entry, playlist)).collect();
            self.send_shape(|_| Some(Shape { multivariant: outline.text.clone(), renditions: tracks })).await;
            let low_latency = first.iter().any(|playlist| playlist.part_target.is_some());
            info!(source = shown(&self.source), renditions = outline.entries.len(), low_latency, "pulling");
            match self.follow(&outline, &mut renditions, first).await {
                Ok(()) => {
                    info!(source = shown(&self.source), "the source has ended");
                    let _ = self.events.send(Ingested::Ended).await;
                    return Ok(());
                }
                Err(Stop::Closed) => return Ok(()),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Moved(next)) => outline = next,
            }
        }
    }

    /// Every rendition's first playlist. A recording is an error at start (while there is a `deadline`).
    async fn first_playlists(
        &self,
        outline: &Outline,
        deadline: Option<Instant>,
    ) -> Result<Vec<MediaPlaylist>, PullError> {
        let load = |entry: &Entry| {
            let url = entry.url.clone();
            async move {
                let attempt = || self.loader.media(&url, &outline.variables, Duration::from_secs(10));
                let playlist = self.insist(&url, deadline, attempt).await?;
                if playlist.ended && deadline.is_some() {
                    return Err(PullError::NotLive { url: shown(&url) });
                }
                Ok(playlist)
            }
        };
        try_join_all(outline.entries.iter().map(load)).await
    }

    /// Tries until it succeeds, can't succeed, or `deadline` is over; without one, forever.
    async fn insist<T, F>(&self, url: &Url, deadline: Option<Instant>, attempt: impl Fn() -> F) -> Result<T, PullError>
    where
        F: Future<Output = Result<T, LoadError>>,
    {
        let mut backoff = Backoff::default();
        loop {
            let error = match attempt().await {
                Ok(loaded) => return Ok(loaded),
                Err(error) => error,
            };
            if deadline.is_some() && !error.may_pass() {
                return Err(PullError::Unusable { url: shown(url), reason: error.to_string() });
            }
            if deadline.is_some_and(|deadline| Instant::now() + backoff.pause() > deadline) {
                return Err(PullError::Unreachable { url: shown(url), reason: error.to_string() });
            }
            if self.resume.is_some() {
                debug!(url = shown(url), %error, "can't load the playlist yet; trying again");
            } else if backoff.is_new() {
                warn!(url = shown(url), %error, "can't load the playlist yet; trying again");
            }
            sleep(backoff.next()).await;
        }
    }

    /// Follows all renditions until they have ended.
    async fn follow(
        &self,
        outline: &Outline,
        renditions: &mut [Rendition],
        first: Vec<MediaPlaylist>,
    ) -> Result<(), Stop> {
        let each = (0..).map(RenditionId).zip(renditions).zip(first);
        let wanted = |id: &RenditionId| self.resume.as_ref().is_none_or(|resume| resume.renditions.contains(id));
        let mut running: FuturesUnordered<_> = each
            .filter(|((id, _), _)| wanted(id))
            .map(|((id, rendition), playlist)| Box::pin(rendition.follow(self, outline, id, playlist)))
            .collect();
        let mut grace = pin!(None);
        while !running.is_empty() {
            let waiting = async {
                match grace.as_mut().as_pin_mut() {
                    Some(grace) => grace.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = running.next() => ended?,
                () = waiting => return Ok(()),
            }
            if grace.is_none() {
                grace.set(Some(sleep(END_WITHIN)));
            }
        }
        Ok(())
    }

    /// Sends the shape that `change` makes of the last one, if it makes another.
    async fn send_shape(&self, change: impl FnOnce(Option<&Shape>) -> Option<Shape>) {
        let mut last = self.shape.lock().await;
        if let Some(shape) = change(last.as_ref())
            && last.as_ref() != Some(&shape)
        {
            // A closed channel ends everything in `run`.
            let _ = self.events.send(Ingested::Shape(shape.clone())).await;
            *last = Some(shape);
        }
    }
}

/// What is said of a rendition, by its place in the outline and its playlist.
fn track(id: RenditionId, entry: &Entry, playlist: &MediaPlaylist) -> Track {
    let mut tags = playlist.tags.clone();
    tags.extend(playlist.unknown_tags.iter().cloned());
    tags.truncate(media::TAGS_MAX);
    Track {
        id,
        label: entry.label.clone(),
        bandwidth_bps: entry.bandwidth_bps,
        target_duration: playlist.target_duration,
        hls_version: playlist.hls_version(),
        tags,
        uri: entry.uri.clone(),
        extension: playlist.extension(),
        part_target: playlist.part_target,
    }
}

/// Growing pauses.
#[derive(Debug, Default)]
struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Nothing was tried again yet.
    fn is_new(&self) -> bool {
        self.attempts == 0
    }

    /// The pause to come: doubled each time, up to a limit.
    fn pause(&self) -> Duration {
        let (first, longest) = BACKOFF;
        (first * 2u32.pow(self.attempts.min(8))).min(longest)
    }

    fn next(&mut self) -> Duration {
        let pause = self.pause();
        self.attempts = self.attempts.saturating_add(1);
        pause
    }
}
