//! Fetching from the source.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;

use super::media::{self, MediaPlaylist};
use super::outline::{Outline, is_multivariant};
use super::pushed;
use super::sniff::beginning;
use super::variables::Variables;
use crate::ingest::push::shelf::Shelf;
use crate::origin::body::{self, Wanted};
use crate::origin::client::{Clients, Reach};
use crate::origin::{CONNECT_WITHIN, FetchError, REQUESTS_MAX, SILENCE_MAX};

/// Largest playlist read, bytes.
const PLAYLIST_MAX: usize = 8 << 20;

/// Where the source's files come from.
#[derive(Debug)]
pub(super) enum Loader {
    /// Its HTTP server.
    Server {
        clients: Clients,
        /// Segments and initialization sections under way at once, over all renditions.
        slots: Semaphore,
    },
    /// An encoder puts them there.
    Shelf(Arc<Shelf>),
}

/// Why a playlist couldn't be had. Each but [`LoadError::Fetch`] and [`LoadError::NoSegments`] is final at start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum LoadError {
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("the playlist has no segments yet")]
    NoSegments,
    #[error("it is not an HLS playlist (it begins with '{begins}'); check the URL")]
    NotPlaylist { begins: String },
    #[error("it is a multivariant playlist without variants; check the packager's settings")]
    NoVariants,
    #[error("it names '{0}', which is not a URI; check the packager's settings")]
    BadUri(String),
    #[error("it uses the variable '{0}', which nothing defines; check EXT-X-DEFINE and the URL's query")]
    UndefinedVariable(String),
    #[error("it has {0}, more than can be announced; simplify it")]
    TooLarge(&'static str),
}

/// What a source URL turned out to be.
#[derive(Debug)]
pub(super) enum Source {
    Multivariant(Outline),
    Media(Outline),
}

impl LoadError {
    /// Without the query, where tokens tend to be.
    pub(super) fn bad_uri(uri: &str) -> Self {
        Self::BadUri(uri.chars().take_while(|c| *c != '?').take(200).collect())
    }

    /// Trying again may help.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Fetch(_) | Self::NoSegments)
    }

    /// The server is there and says the playlist isn't: its name may have changed.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Gone(_) | FetchError::Status(401 | 403)))
    }
}

impl Loader {
    pub(super) fn new(source: &Url, reach: Reach) -> Result<Self, reqwest::Error> {
        Ok(Self::Server { clients: Clients::new(source, reach)?, slots: Semaphore::new(REQUESTS_MAX) })
    }

    /// Reads what is at the source URL.
    pub(super) async fn source(&self, source: &Url) -> Result<Source, LoadError> {
        let (text, url) = self.text(source, Duration::from_secs(10)).await?;
        if is_multivariant(&text) {
            Ok(Source::Multivariant(Outline::multivariant(&text, source, &url, PLAYLIST_MAX)?))
        } else {
            Ok(Source::Media(Outline::single(source)))
        }
    }

    /// Reads a media playlist; at least one segment is in it.
    pub(super) async fn media(
        &self,
        url: &Url,
        imported: &Variables,
        within: Duration,
    ) -> Result<MediaPlaylist, LoadError> {
        let (text, url) = self.text(url, within).await?;
        let mut playlist = media::parse(&text, &url, imported, PLAYLIST_MAX)?;
        if let Self::Shelf(shelf) = self {
            playlist = pushed::followed(playlist, &url, shelf);
        }
        if playlist.segments.is_empty() { Err(LoadError::NoSegments) } else { Ok(playlist) }
    }

    /// Fetches (part of) a resource of at most `limit` bytes.
    pub(super) async fn bytes(&self, url: &Url, range: Option<&Range<u64>>, limit: u64) -> Result<Bytes, FetchError> {
        let _slot = match self {
            Self::Server { slots, .. } => Some(slots.acquire().await),
            Self::Shelf(_) => None,
        };
        self.ahead(url, range, limit).await
    }

    /// As [`Self::bytes`], for what is yet to come: the server holds the answer meanwhile, and nobody waits for a slot.
    pub(super) async fn ahead(&self, url: &Url, range: Option<&Range<u64>>, limit: u64) -> Result<Bytes, FetchError> {
        let clients = match self {
            Self::Server { clients, .. } => clients,
            Self::Shelf(shelf) => return from_shelf(shelf, url, range, limit).await,
        };
        let wanted = match range {
            Some(range) if range.end - range.start > limit => return Err(FetchError::TooLarge(limit)),
            Some(range) if range.is_empty() => return Ok(Bytes::new()),
            Some(range) => Wanted::Range(range.clone()),
            None => Wanted::Whole { limit },
        };
        let response = clients.get(url.clone(), range, CONNECT_WITHIN + SILENCE_MAX).await?;
        let response = body::refuse_page(response)?;
        body::collect(response, &wanted, SILENCE_MAX).await
    }

    async fn text(&self, url: &Url, within: Duration) -> Result<(String, Url), LoadError> {
        let clients = match self {
            Self::Server { clients, .. } => clients,
            Self::Shelf(shelf) => {
                // It was checked when it was pushed.
                let text = shelf.playlist(&pushed::path_of(url), within).await.ok_or(FetchError::Silent)?;
                return Ok((text, url.clone()));
            }
        };
        let wanted = Wanted::Whole { limit: PLAYLIST_MAX as u64 };
        let load = async {
            let response = clients.get(url.clone(), None, within).await?;
            let found = with_login_of(url, response.url().clone());
            Ok::<_, FetchError>((body::collect(response, &wanted, SILENCE_MAX).await?, found))
        };
        let (body, url) = timeout(within, load).await.map_err(|_| FetchError::Silent)??;
        let playlist = String::from_utf8(body.into()).map_err(|e| not_playlist(e.as_bytes()))?;
        if playlist.is_empty() {
            // Caught between truncating and writing.
            return Err(LoadError::NoSegments);
        }
        if !playlist.strip_prefix('\u{feff}').unwrap_or(&playlist).starts_with("#EXTM3U") {
            return Err(not_playlist(playlist.as_bytes()));
        }
        Ok((playlist, url))
    }
}

async fn from_shelf(shelf: &Shelf, url: &Url, range: Option<&Range<u64>>, limit: u64) -> Result<Bytes, FetchError> {
    let (generation, path) = pushed::generation_of(url).ok_or(FetchError::BadUri)?;
    let body = shelf.file(path, generation).await;
    let part = match range {
        Some(range) => usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok()),
        None => Some((0, body.len())),
    };
    let got = body.len() as u64;
    match part {
        Some((start, end)) if start <= end && end <= body.len() && (end - start) as u64 <= limit => {
            Ok(body.slice(start..end))
        }
        Some((start, end)) if end <= body.len() && start <= end => Err(FetchError::TooLarge(limit)),
        Some(_) | None => Err(FetchError::WrongLength { wanted: range.map_or(got, |range| range.end), got }),
    }
}

/// The URL an answer came from, with the login of the URL that was `asked`, if that is the same server: the client moves
/// logins into a header, and what the playlist names needs them too.
fn with_login_of(asked: &Url, mut found: Url) -> Url {
    if asked.origin() == found.origin() {
        // Fails only for URLs without a host, and these have one.
        let _ = found.set_username(asked.username());
        let _ = found.set_password(asked.password());
    }
    found
}

fn not_playlist(body: &[u8]) -> LoadError {
    LoadError::NotPlaylist { begins: beginning(body) }
}
