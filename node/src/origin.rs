//! The broadcaster's HTTP server or CDN, as a viewer or seed uses it: statements, byte ranges of segments, playlists and keys.
//!
//! What to fetch is named by messages from the stream, and a stream is not to be trusted with the viewer's network: only
//! the host and port in the link may be anywhere; every other address, in a URI or a redirect, must be on the public
//! internet (see `address` and `client`). Bytes are handed on as they come and are *not* verified here.

pub(crate) mod address;
pub(crate) mod body;
pub(crate) mod client;

#[cfg(test)]
pub(crate) mod tests;

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use starling_proto::RenditionId;
use starling_proto::wire::{Announcement, MAX_CONTROL_LEN, Message as _, Rendition, Window};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;

pub use address::is_global;
use body::Wanted;
use client::{Clients, Reach};

use crate::hls::name;

/// How long fetching them may take; the mesh tells the same.
const STATEMENTS_WITHIN: Duration = Duration::from_secs(5);

/// Requests under way at once; more wait their turn. A browser's limit per host, so that no CDN takes offence.
pub const REQUESTS_MAX: usize = 6;

/// Largest body [`Origin::fetch_whole`] reads, bytes: a playlist of a day of two-second segments.
pub const WHOLE_MAX: u64 = 8 << 20;

/// Redirects followed for one request.
pub const REDIRECTS_MAX: usize = 3;

/// How long a connection may take to stand, names and TLS included.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How long the origin may be silent, before or within an answer.
pub const SILENCE_MAX: Duration = Duration::from_secs(4);

/// A client of one origin. Keeps connections open between requests; share it behind an `Arc`.
#[derive(Debug)]
pub struct Origin {
    base: Url,
    clients: Clients,
    slots: Semaphore,
}

/// Where a segment stands at the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The rendition's playlist: relative to the link's origin URL, or absolute.
    pub playlist: &'a str,
    /// The segment: relative to the playlist, or absolute.
    pub segment: &'a str,
    /// Where the segment begins within that resource, bytes.
    pub offset: u64,
    /// Length of the segment, bytes; `None` while it grows.
    pub len: Option<u64>,
}

/// A whole resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Its bytes, at most [`WHOLE_MAX`].
    pub body: Bytes,
    /// Where it was found after redirects: what URIs within it are relative to.
    pub url: Url,
}

/// Why there can be no client for an origin.
#[derive(Debug, Error)]
pub enum OriginError {
    /// Not HTTP.
    #[error("the origin must be an http or https address, this one is {0}:")]
    Scheme(String),
    /// TLS can't be set up on this machine.
    #[error("can't set up the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Why bytes didn't come from the origin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FetchError {
    /// The URI can't be resolved against its playlist, or isn't HTTP.
    #[error("not an http or https address")]
    BadUri,
    /// The address is not the link's own and not on the public internet.
    #[error("refused: only the link's own origin may be at a private or local address")]
    Forbidden,
    /// No connection.
    #[error("can't connect: {0}")]
    Connect(String),
    /// Nothing came for [`SILENCE_MAX`].
    #[error("the server went silent")]
    Silent,
    /// The connection broke.
    #[error("the transfer broke off: {0}")]
    Broken(String),
    /// Longer redirect chain than [`REDIRECTS_MAX`].
    #[error("redirected too often")]
    Redirects,
    /// 404 or 410: not there yet, or no longer.
    #[error("not there (HTTP {0})")]
    Gone(u16),
    /// Any other status that isn't the bytes; 5xx is worth another try.
    #[error("the server answered HTTP {0}")]
    Status(u16),
    /// A web page in place of media.
    #[error("the server sent a web page (text/html) instead")]
    Html,
    /// The resource is shorter than the announced segment, or the server sent another range than asked for.
    #[error("wrong length: wanted bytes up to {wanted}, got up to {got}")]
    WrongLength {
        /// End of the range wanted, bytes from the resource's start.
        wanted: u64,
        /// Where the bytes ended, or began if they begin after what was wanted.
        got: u64,
    },
    /// Something else under the name of the statements.
    #[error("the server sent something else than statements")]
    NoStatements,
    /// More than the caller is ready to take.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
}

impl Origin {
    /// A client for the origin at `base`, the link's origin URL.
    ///
    /// # Errors
    /// [`OriginError`].
    pub fn new(base: Url) -> Result<Self, OriginError> {
        if !client::is_http(&base) {
            return Err(OriginError::Scheme(base.scheme().to_owned()));
        }
        let clients = Clients::new(&base, Reach::Public)?;
        Ok(Self { base, clients, slots: Semaphore::new(REQUESTS_MAX) })
    }

    /// The link's origin URL.
    pub fn url(&self) -> &Url {
        &self.base
    }

    /// Fetches bytes `range` of a segment, counted from the segment's start, and hands each piece to `sink` as it
    /// arrives; on success the pieces together are exactly that range. Drop the future to stop.
    ///
    /// # Errors
    /// [`FetchError`]; the pieces handed over before it are still the range's beginning.
    pub async fn fetch(
        &self,
        place: &Place<'_>,
        range: Range<u64>,
        mut sink: impl FnMut(Bytes),
    ) -> Result<(), FetchError> {
        if range.is_empty() {
            return Ok(());
        }
        let url = self.resolve(place)?;
        let start = place.offset.saturating_add(range.start);
        let wanted = start..place.offset.saturating_add(range.end);
        let is_all = start == 0 && Some(range.end) == place.len;
        let _slot = self.slots.acquire().await;
        let mut response = self.request(url.clone(), (!is_all).then_some(&wanted)).await?;
        if is_all && response.content_length() > place.len {
            // The first of several segments in one file (EXT-X-BYTERANGE) can't be told from a file of its own.
            response = self.request(url, Some(&wanted)).await?;
        }
        body::stream(response, &Wanted::Range(wanted), SILENCE_MAX, &mut sink).await
    }

    /// Fetches the newest statements, of one rendition or the catalogue alone. `None`: the origin is another server than a
    /// broadcaster's; then what the link names is fetched instead, as any player would, so that a connection is open.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch_statements(&self, rendition: Option<RenditionId>) -> Result<Option<Window>, FetchError> {
        if !self.base.path().ends_with(name::PLAYLIST) {
            if rendition.is_none() {
                self.fetch_whole("").await?;
            }
            return Ok(None);
        }
        let folder = rendition.map_or_else(String::new, |rendition| format!("{rendition}/"));
        let uri = folder + name::STATEMENTS;
        let fetch = timeout(STATEMENTS_WITHIN, self.fetch_up_to(&uri, MAX_CONTROL_LEN as u64));
        let Whole { body, .. } = fetch.await.map_err(|_| FetchError::Silent)??;
        Window::decode(&body).map(Some).map_err(|_| FetchError::NoStatements)
    }

    /// Fetches a whole small resource, a playlist or a key. `uri` is relative to the link's origin URL, or absolute.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch_whole(&self, uri: &str) -> Result<Whole, FetchError> {
        self.fetch_up_to(uri, WHOLE_MAX).await
    }

    async fn fetch_up_to(&self, uri: &str, limit: u64) -> Result<Whole, FetchError> {
        let url = self.base.join(uri).map_err(|_| FetchError::BadUri)?;
        let _slot = self.slots.acquire().await;
        let response = self.request(url, None).await?;
        let url = response.url().clone();
        let body = body::collect(response, &Wanted::Whole { limit }, SILENCE_MAX).await?;
        Ok(Whole { body, url })
    }

    fn resolve(&self, place: &Place<'_>) -> Result<Url, FetchError> {
        let playlist = self.base.join(place.playlist).map_err(|_| FetchError::BadUri)?;
        playlist.join(place.segment).map_err(|_| FetchError::BadUri)
    }

    async fn request(&self, url: Url, range: Option<&Range<u64>>) -> Result<Response, FetchError> {
        body::refuse_page(self.clients.get(url, range, CONNECT_WITHIN + SILENCE_MAX).await?)
    }
}

impl<'a> Place<'a> {
    /// Where the catalogue and an announcement say the segment is.
    pub fn of(rendition: &'a Rendition, announcement: &'a Announcement) -> Self {
        Self {
            playlist: &rendition.origin,
            segment: &announcement.uri,
            offset: announcement.offset,
            len: (!announcement.growing).then(|| announcement.byte_len()),
        }
    }
}
