//! The operator's side: status page, its JSON, metrics, health.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Json};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::status::Status;

/// The newest status and when it was written.
pub(crate) type Published = watch::Receiver<Arc<(Instant, Status)>>;

/// A running HTTP server.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

/// Connections at once: a browser or two, a scraper, a health checker.
const CONNECTIONS_MAX: usize = 64;

/// The main loop publishes every second; when it hasn't for this long, it is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How long open requests are waited for at the end.
const FAREWELL: Duration = Duration::from_millis(500);

impl Http {
    /// Binds `addr` and serves on it.
    pub(crate) async fn start(addr: SocketAddr, published: Published, registry: Registry) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let listener = Limited { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
        let serving = axum::serve(listener, routes(published, registry));
        let serving = serving.with_graceful_shutdown(async { drop(stopped.await) });
        Ok(Self { addr, stop, task: tokio::spawn(serving.into_future()) })
    }

    /// Finishes what is being answered, for a moment, and stops.
    pub(crate) async fn stop(mut self) {
        drop(self.stop);
        if tokio::time::timeout(FAREWELL, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

fn routes(published: Published, registry: Registry) -> Router {
    let registry = Arc::new(registry);
    Router::new()
        .route("/", get(page))
        .route("/api/status", get(status))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(async move || metrics(&registry)))
        .fallback(async || (StatusCode::NOT_FOUND, "not here: try /, /api/status, /metrics, /healthz or /readyz\n"))
        .with_state(published)
}

async fn page() -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("status.html")))
}

async fn status(State(published): State<Published>) -> impl IntoResponse {
    let newest = published.borrow().clone();
    ([(header::CACHE_CONTROL, "no-store")], Json(newest.1.clone()))
}

async fn ready(State(published): State<Published>) -> impl IntoResponse {
    let silent = published.borrow().0.elapsed();
    if silent < STUCK_AFTER {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("the main loop has been stuck for {} s\n", silent.as_secs()))
    }
}

fn metrics(registry: &Registry) -> impl IntoResponse + use<> {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text)
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}

/// Accepts no more than so many connections at once.
struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

/// A connection that gives its place back when it ends.
struct Placed {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
}

impl axum::serve::Listener for Limited {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Placed, SocketAddr) {
        // Fails only for a closed semaphore; this one is never closed.
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, addr) = axum::serve::Listener::accept(&mut self.listener).await;
        (Placed { stream, _place: place }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Placed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
