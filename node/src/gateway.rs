//! The viewer's own web server: a page with a player, plain HLS for every other player, and figures.
//!
//! It serves what [`Media`] holds, listing a segment as soon as it is announced and sending its bytes on as they are
//! verified. What players ask for is told to the driver as [`Demand`]s; the gateway itself fetches nothing.

mod api;
mod guard;
mod live;
mod page;
pub mod playback;
mod players;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use starling_proto::{Epoch, RenditionId, SegmentNumber};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use self::playback::Playback;
use self::players::Players;
use crate::hls::{Metrics, connection, reply};
use crate::media::Media;
use crate::stats::Stats;

/// Connections at once. A browser opens six, ffmpeg one a request; a guess with room.
const CONNECTIONS_MAX: usize = 256;

/// What a player asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// A media playlist: the rendition is being played, or is about to be.
    Playlist {
        /// Which rendition.
        rendition: RenditionId,
    },
    /// A segment.
    Segment {
        /// Which rendition.
        rendition: RenditionId,
        /// The broadcaster's start the number belongs to.
        epoch: Epoch,
        /// Which segment.
        segment: SegmentNumber,
        /// Whether a player begins with it: it just started, or went back.
        first: bool,
    },
}

/// What the person at the player wants changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Pass the stream on to other viewers, or don't.
    Upload {
        /// Whether to.
        enabled: bool,
    },
}

/// What the gateway is connected to. Demands and commands that find their channel full are dropped; a command's
/// sender is told.
pub struct Wiring {
    /// Where the media is.
    pub media: Arc<Media>,
    /// The answer to `GET /api/stats`.
    pub stats: watch::Receiver<Stats>,
    /// Told what players ask for.
    pub demands: mpsc::Sender<Demand>,
    /// Told what people want.
    pub commands: mpsc::Sender<Command>,
    /// The answer to `GET /metrics`.
    pub metrics: Metrics,
    /// Web origins (`http://host:port`) the page may fetch decryption keys from, besides any https one. Normally that
    /// of the link's origin, so that no stream can make a browser call another plain http server.
    pub key_origins: Vec<String>,
}

/// How long clients are made to wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a playlist, from the request; then 503.
    pub playlist: Duration,
    /// For a third segment to list, from when the first is there; then the playlist is served with what there is.
    /// Players begin three segments before the end.
    pub fuller_playlist: Duration,
    /// For each chunk of a segment's body, from when it is its turn; then the body breaks off.
    pub chunk: Duration,
}

impl Default for Patience {
    /// Players give up on a playlist after 10 s (hls.js) or more; a chunk that is 12 s late has missed its moment with
    /// any player. Guesses.
    fn default() -> Self {
        Self {
            playlist: Duration::from_secs(10),
            fuller_playlist: Duration::from_millis(1500),
            chunk: Duration::from_secs(12),
        }
    }
}

/// The server before it runs.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

struct Shared {
    wiring: Wiring,
    patience: Patience,
    players: Arc<Players>,
    /// The lowest position each rendition's playlist may begin with: where it began last.
    listed_from: Mutex<BTreeMap<RenditionId, u64>>,
}

impl Gateway {
    /// A gateway that waits as by default.
    pub fn new(wiring: Wiring) -> Self {
        Self::with_patience(wiring, Patience::default())
    }

    /// A gateway that waits as told.
    pub fn with_patience(wiring: Wiring, patience: Patience) -> Self {
        let shared = Shared { wiring, patience, players: Arc::default(), listed_from: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// What players went through so far, as far as their requests tell.
    pub fn playback(&self) -> Playback {
        self.shared.players.playback()
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
        let bound = listener.local_addr()?;
        let router = self.router().layer(from_fn_with_state(bound, guard::known_host));
        connection::serve(listener, router, CONNECTIONS_MAX, shutdown).await
    }

    fn router(&self) -> Router {
        let live = Router::new()
            .route("/live/index.m3u8", get(live::stream).options(reply::preflight))
            .route("/live/{rendition}/{file}", get(live::file).options(reply::preflight))
            .layer(from_fn(reply::allow_all_origins));
        let api = Router::new()
            .route("/api/stats", get(api::stats))
            .route("/api/upload", post(api::upload).route_layer(from_fn(guard::same_origin)))
            .route("/metrics", get(api::metrics))
            .route("/healthz", get(|| async { "ok\n" }));
        page::router().merge(live).merge(api).fallback(page::not_found).with_state(self.shared.clone())
    }
}
