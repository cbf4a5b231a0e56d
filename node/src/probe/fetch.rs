//! HTTP as the player uses it: bounded bodies, hls.js's time limits, and errors that have a name to be counted under.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{StatusCode, header};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use super::{
    media::Fault,
    playlist::{ByteRange, PlaylistError, Resource},
};

/// hls.js 1.7, `maxTimeToFirstByteMs` of every load policy.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// hls.js 1.7, `maxLoadTimeMs` of `playlistLoadPolicy`.
const WHOLE_PLAYLIST: Duration = Duration::from_secs(20);
/// hls.js 1.7, `maxLoadTimeMs` of `fragLoadPolicy`.
const WHOLE_SEGMENT: Duration = Duration::from_secs(120);
/// Largest playlist read, in bytes: a day of two-second segments with long addresses.
const LARGEST_PLAYLIST: u64 = 16 << 20;
/// Largest segment read, in bytes: 20 s at 100 Mbit/s.
const LARGEST_SEGMENT: u64 = 256 << 20;

/// A client whose clones share connections and byte counts.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: reqwest::Client,
    received: Arc<Received>,
}

#[derive(Debug, Default)]
struct Received {
    media: AtomicU64,
    playlist: AtomicU64,
}

/// A playlist's text and the address that answered, after redirects.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) address: Url,
    pub(super) body: String,
}

/// A segment's body, still arriving.
#[derive(Debug)]
pub(super) struct Body {
    response: reqwest::Response,
    received: Arc<Received>,
    deadline: Instant,
    length: u64,
}

/// Why a request came to nothing.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error("no answer within the time limit")]
    Timeout,
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the answer broke off: {0}")]
    BrokenOff(String),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the server ignored the byte range")]
    NoRange,
    #[error(transparent)]
    NotMedia(#[from] Fault),
    #[error(transparent)]
    Playlist(#[from] PlaylistError),
    #[error("cannot write the dump: {0}; free some space or leave out --dump")]
    Dump(#[from] std::io::Error),
}

impl Http {
    /// A client for a stream that begins at `entry`. A machine without TLS certificates can still play plain HTTP.
    pub(super) fn new(entry: &Url) -> Result<Self, reqwest::Error> {
        let client = builder(entry).build().or_else(|error| {
            if entry.scheme() == "http" { builder(entry).tls_certs_only([]).build() } else { Err(error) }
        })?;
        Ok(Self { client, received: Arc::default() })
    }

    /// Bytes of segments and initialisation sections received, also of bodies that broke off.
    pub(super) fn media_bytes(&self) -> u64 {
        self.received.media.load(Ordering::Relaxed)
    }

    /// Bytes of playlists received.
    pub(super) fn playlist_bytes(&self) -> u64 {
        self.received.playlist.load(Ordering::Relaxed)
    }

    /// Loads a playlist.
    pub(super) async fn playlist(&self, url: Url) -> Result<Page, FetchError> {
        let started = Instant::now();
        let mut response = answer(self.client.get(url), started).await?;
        let address = response.url().clone();
        let mut body = Vec::new();
        while let Some(chunk) = next_chunk(&mut response, started + WHOLE_PLAYLIST).await? {
            self.received.playlist.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            body.extend_from_slice(&chunk);
            if body.len() as u64 > LARGEST_PLAYLIST {
                return Err(FetchError::TooLarge(LARGEST_PLAYLIST));
            }
        }
        // a playlist must be UTF-8; what is not cannot be a tag or an address we use
        let body =
            String::from_utf8(body).unwrap_or_else(|bytes| String::from_utf8_lossy(bytes.as_bytes()).into_owned());
        Ok(Page { address, body })
    }

    /// Asks for a segment or an initialisation section; returns when the head of the answer is there.
    pub(super) async fn media(&self, resource: &Resource) -> Result<Body, FetchError> {
        let started = Instant::now();
        let mut request = self.client.get(resource.url.clone());
        if let Some(ByteRange { offset, length }) = resource.range {
            let last = offset.saturating_add(length - 1);
            request = request.header(header::RANGE, format!("bytes={offset}-{last}"));
        }
        let response = answer(request, started).await?;
        if resource.range.is_some() && response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(FetchError::NoRange);
        }
        Ok(Body { response, received: Arc::clone(&self.received), deadline: started + WHOLE_SEGMENT, length: 0 })
    }
}

impl Body {
    /// The next bytes; `None` at the end. An end before the announced length is an error.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        let Some(chunk) = next_chunk(&mut self.response, self.deadline).await? else {
            return Ok(None);
        };
        self.length += chunk.len() as u64;
        self.received.media.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if self.length > LARGEST_SEGMENT {
            return Err(FetchError::TooLarge(LARGEST_SEGMENT));
        }
        Ok(Some(chunk))
    }
}

impl FetchError {
    /// The name it is counted under; there are at most a few dozen of them, one for each HTTP status.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Timeout => "timeout".into(),
            Self::Connect(_) => "connect".into(),
            Self::Status(status) => format!("http_{}", status.as_u16()),
            Self::BrokenOff(_) => "broken_off".into(),
            Self::TooLarge(_) => "too_large".into(),
            Self::NoRange => "range_ignored".into(),
            Self::NotMedia(Fault::Empty | Fault::WebPage) => "not_media".into(),
            Self::NotMedia(Fault::Truncated | Fault::Malformed) => "damaged".into(),
            Self::Playlist(PlaylistError::Delta) => "delta_update".into(),
            Self::Playlist(_) => "not_a_playlist".into(),
            Self::Dump(_) => "dump".into(),
        }
    }

    /// The server says that there is no such thing (any more).
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Status(StatusCode::NOT_FOUND | StatusCode::GONE))
    }
}

fn builder(entry: &Url) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("starling-probe/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(FIRST_BYTE)
        .pool_max_idle_per_host(2)
        .tcp_nodelay(true);
    // a proxy from the environment cannot reach this machine's own servers
    if is_loopback(entry) { builder.no_proxy() } else { builder }
}

async fn answer(request: reqwest::RequestBuilder, started: Instant) -> Result<reqwest::Response, FetchError> {
    let response =
        timeout_at(started + FIRST_BYTE, request.send()).await.map_err(|_| FetchError::Timeout)?.map_err(|error| {
            match error {
                error if error.is_timeout() => FetchError::Timeout,
                error if error.is_connect() => FetchError::Connect(root_cause(error)),
                error => FetchError::BrokenOff(root_cause(error)),
            }
        })?;
    match response.status() {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
        status => Err(FetchError::Status(status)),
    }
}

async fn next_chunk(response: &mut reqwest::Response, deadline: Instant) -> Result<Option<Bytes>, FetchError> {
    timeout_at(deadline, response.chunk())
        .await
        .map_err(|_| FetchError::Timeout)?
        .map_err(|error| FetchError::BrokenOff(root_cause(error)))
}

/// The innermost message: "connection refused" rather than three layers about sending requests.
fn root_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
