//! Takes a live stream that an encoder pushes over HTTP: HLS file by file, or CMAF segments that are sent on while they
//! grow.
//!
//! `key` and `server` decide who may push and how much, `desk` what it is. HLS goes on the `shelf` and is followed there
//! as a pulled playlist is (`pull`). CMAF goes through `live`: a `presentation` (DASH manifest, with its `template`s)
//! names renditions and segments, a `lane` takes one rendition's segments, `super::chunks` cuts them, `parts` joins chunks,
//! `capture` dates them.

mod capture;
mod desk;
mod key;
mod lane;
mod live;
mod name;
mod parts;
mod presentation;
mod refusal;
mod server;
pub(crate) mod shelf;
mod template;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use url::Url;

use super::Ingested;
use crate::hls::connection;
use desk::Desk;
pub use key::{PushKey, PushKeyError};
use server::Shared;

/// Longest part that chunks are joined into, unless told otherwise: the bound for low latency.
pub const PART_MAX: Duration = Duration::from_millis(250);

/// An endpoint before it is served.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    key: PushKey,
}

impl Endpoint {
    /// Listens at `address`; port 0 takes any free one.
    ///
    /// # Errors
    /// What the system reports.
    pub async fn bind(address: SocketAddr, key: PushKey) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, key })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system reports.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What encoders push to, reached at `host` (name or address, with port): `http://HOST/ingest/<key>/`. It holds the
    /// key.
    ///
    /// # Errors
    /// If there can't be such a host.
    pub fn url(&self, host: &str) -> Result<Url, url::ParseError> {
        Url::parse(&format!("http://{host}/ingest/{}/", self.key.text()))
    }

    /// Takes what is pushed until `shutdown` resolves or nobody receives `events` any more. Chunks are joined into parts
    /// no longer than `longest_part`.
    ///
    /// The stream doesn't end when the encoder does: it pauses, and goes on with a discontinuity when one pushes again.
    ///
    /// # Errors
    /// What the listener reports.
    pub async fn run(
        self,
        longest_part: Duration,
        events: mpsc::Sender<Ingested>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let desk = Arc::new(Desk::new(longest_part, events.clone()));
        let shared = Shared { key: self.key, desk: desk.clone(), has_refused: false.into(), told: None.into() };
        let router = server::router(Arc::new(shared));
        let served = connection::serve(self.listener, router, server::CONNECTIONS_MAX, std::future::pending());
        tokio::select! {
            result = served => result,
            () = desk.follow() => Ok(()),
            () = events.closed() => Ok(()),
            () = shutdown => Ok(()),
        }
    }
}
