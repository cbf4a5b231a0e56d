//! The broadcaster's HTTP server: plain HLS for people without Starling, for a CDN in front of it, and the viewers'
//! last resort.
//!
//! Unlike the viewer's gateway it lists complete segments only, and its answers may be cached.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::get;
use futures::TryStreamExt;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};
use starling_proto::wire::{Announcement, Message as _};
use starling_proto::{Epoch, RenditionId, SegmentNumber};
use tokio::net::TcpListener;

use crate::hls::directives::Directives;
use crate::hls::name::{self, Named, STATEMENTS, content_type};
use crate::hls::playlist::{Form, Report};
use crate::hls::reply::{self, Keep, Kind, failure};
use crate::hls::window::{self, Rules};
use crate::hls::{Metrics, body, connection, parts, playlist};
use crate::media::Media;

/// Connections at once; a guess. Who needs more puts a CDN in front.
const CONNECTIONS_MAX: usize = 1024;

/// What a low-latency player keeps between the newest part and its playhead. Three part targets, the least, leave nothing for a
/// packet sent again: at 120 ms of round trip and 0.5 % of loss players straight at the origin stood still for 2.4 % of the time
/// (`scripts/lab home`).
const PART_HOLD_BACK: Duration = Duration::from_millis(1000);

/// How long an answer is held for a player that waits for something new; then 503. Players give up after 10 s or more.
const PATIENCE: Duration = Duration::from_secs(8);

/// The server before it runs.
#[derive(Clone)]
pub struct OriginServer {
    shared: Arc<Shared>,
}

/// What was sent, counted from the start. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Bytes of segment bodies (not headers, playlists or init sections) as they are handed to a connection for
    /// writing. What a client never took because it went away in mid-body is at most one connection's send buffer
    /// (about 0.4 MB) too much.
    pub media_bytes: Counter,
    /// Requests for segments.
    pub segment_requests: Counter,
    /// Requests for playlists.
    pub playlist_requests: Counter,
}

struct Shared {
    media: Arc<Media>,
    metrics: Metrics,
    served: Served,
}

impl OriginServer {
    /// A server of what `media` holds. `metrics` answers `GET /metrics`.
    pub fn new(media: Arc<Media>, metrics: Metrics, served: Served) -> Self {
        Self { shared: Arc::new(Shared { media, metrics, served }) }
    }

    /// Serves until `shutdown` is ready and at most a second longer.
    ///
    /// # Errors
    /// What the listener reports.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        connection::serve(listener, self.router(), CONNECTIONS_MAX, shutdown).await
    }

    fn router(&self) -> Router {
        let media = Router::new()
            .route("/index.m3u8", get(stream).options(reply::preflight))
            .route(&format!("/{STATEMENTS}"), get(catalogue_alone))
            .route(&format!("/{{rendition}}/{STATEMENTS}"), get(statements))
            .route("/{rendition}/{file}", get(file).options(reply::preflight))
            .layer(from_fn(reply::allow_all_origins));
        Router::new()
            .route("/", get(|| async { "This is a live stream; open /index.m3u8 in a player.\n" }))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/metrics", get(metrics))
            .merge(media)
            .fallback(|| async { unknown() })
            .with_state(self.shared.clone())
    }
}

impl Served {
    /// Adds the counters to a registry, under `http_…`.
    pub fn register(&self, registry: &mut Registry) {
        let (bytes, segments, playlists) = (&self.media_bytes, &self.segment_requests, &self.playlist_requests);
        registry.register_with_unit("http_media", "Bytes of segments sent over HTTP", Unit::Bytes, bytes.clone());
        registry.register("http_segment_requests", "Requests for segments over HTTP", segments.clone());
        registry.register("http_playlist_requests", "Requests for playlists over HTTP", playlists.clone());
    }
}

async fn stream(
    State(shared): State<Arc<Shared>>,
    Query(directives): Query<Directives>,
    headers: HeaderMap,
) -> Response {
    let Some(catalogue) = shared.media.catalogue() else { return not_begun() };
    if let Some(rendition) = playlist::direct(&catalogue) {
        let prefix = format!("{}/", rendition.id);
        return media_playlist(&shared, &headers, rendition.id, &prefix, &directives).await;
    }
    shared.served.playlist_requests.inc();
    let text = catalogue.multivariant.clone().unwrap_or_default();
    reply::bytes(&headers, text.into(), kind(name::PLAYLIST, Keep::Briefly))
}

async fn file(
    State(shared): State<Arc<Shared>>,
    Path((rendition, file)): Path<(String, String)>,
    Query(directives): Query<Directives>,
    headers: HeaderMap,
) -> Response {
    let Ok(rendition) = rendition.parse().map(RenditionId) else { return unknown() };
    match name::parse(&file) {
        Some(Named::Playlist) => media_playlist(&shared, &headers, rendition, "", &directives).await,
        Some(Named::Segment(epoch, number)) => match shared.find(rendition, epoch, number) {
            // Of what grows there are parts, and ranges of what is announced; nothing that a cache may keep.
            Some(growing) if growing.growing && !headers.contains_key(header::RANGE) => unknown(),
            Some(announcement) => {
                let keep = if announcement.growing { Keep::Never } else { Keep::Forever };
                let whole = 0..announcement.byte_len();
                media(&shared, &headers, announcement, whole, kind(&file, keep))
            }
            None => unknown(),
        },
        Some(Named::Part(epoch, number, index)) => {
            let find = || shared.find(rendition, epoch, number).map(|announcement| (0, announcement));
            let Some((_, announcement)) = parts::announced(&shared.media, index, find).await else { return unknown() };
            let bytes = announcement.part_bytes(index);
            media(&shared, &headers, announcement, bytes, kind(&file, Keep::Forever))
        }
        Some(Named::Init(epoch, index)) => match shared.media.init(rendition, epoch, index) {
            Some(body) => reply::bytes(&headers, body, kind(&file, Keep::Forever)),
            None => unknown(),
        },
        None => unknown(),
    }
}

/// What a viewer's node begins with, a round trip or two earlier than the mesh can tell it: every statement proves itself.
async fn statements(State(shared): State<Arc<Shared>>, Path(rendition): Path<String>, headers: HeaderMap) -> Response {
    let Ok(rendition) = rendition.parse().map(RenditionId) else { return unknown() };
    reply::bytes(&headers, shared.media.newest(Some(rendition), None, None).encode(), kind(STATEMENTS, Keep::Briefly))
}

async fn catalogue_alone(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    reply::bytes(&headers, shared.media.newest(None, None, None).encode(), kind(STATEMENTS, Keep::Briefly))
}

async fn media_playlist(
    shared: &Shared,
    headers: &HeaderMap,
    rendition: RenditionId,
    prefix: &str,
    directives: &Directives,
) -> Response {
    shared.served.playlist_requests.inc();
    let Some(catalogue) = shared.media.catalogue() else { return not_begun() };
    let Some(described) = catalogue.rendition(rendition) else { return unknown() };
    let list = |rendition| {
        let rules = Rules { complete_only: true, ended: catalogue.ended, ..Rules::default() };
        window::window(&shared.media, rendition, rules)
    };
    let window = match directives.awaited(&shared.media, PATIENCE, || list(rendition)).await {
        Ok(window) => window,
        Err(refusal) => return refusal,
    };
    if window.entries.is_empty() {
        return not_begun();
    }
    let others = catalogue.renditions.iter().filter(|other| other.id != rendition && prefix.is_empty());
    let reports: Vec<Report> = others.filter_map(|other| playlist::report(other, &list(other.id))).collect();
    let form =
        Form { prefix, ended: catalogue.ended, hold_back: PART_HOLD_BACK, skip: directives.skips(), reports: &reports };
    let keep = if described.part_target_us.is_some() { Keep::Never } else { Keep::Briefly };
    reply::bytes(headers, playlist::media(described, &window, form).into(), kind(name::PLAYLIST, keep))
}

/// The bytes `of` a segment.
fn media(
    shared: &Shared,
    headers: &HeaderMap,
    announcement: Arc<Announcement>,
    of: Range<u64>,
    kind: Kind,
) -> Response {
    shared.served.segment_requests.inc();
    let counter = shared.served.media_bytes.clone();
    reply::ranged(headers, of.end - of.start, kind, |part| {
        // What is announced is here, so nothing is waited for.
        let bytes = of.start + part.start..of.start + part.end;
        let bytes = body::segment(shared.media.clone(), announcement, bytes, Duration::ZERO);
        Body::from_stream(bytes.inspect_ok(move |chunk| _ = counter.inc_by(chunk.len() as u64)))
    })
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    reply::metrics(&shared.metrics)
}

impl Shared {
    fn find(&self, rendition: RenditionId, epoch: Epoch, number: SegmentNumber) -> Option<Arc<Announcement>> {
        let listing = self.media.listing(rendition);
        let listed = listing.into_iter().find(|listed| listed.named == (epoch, number))?;
        (listed.complete || listed.announcement.growing).then_some(listed.announcement)
    }
}

fn kind(file: &str, keep: Keep) -> Kind {
    Kind { content_type: content_type(file), keep }
}

fn not_begun() -> Response {
    failure(StatusCode::SERVICE_UNAVAILABLE, "the broadcast hasn't begun; try again in a moment")
}

fn unknown() -> Response {
    failure(StatusCode::NOT_FOUND, "not here: it left the playlist, or never was in it")
}

#[cfg(test)]
mod tests;
