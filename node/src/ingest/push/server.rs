//! The HTTP side: who may push, and bodies of bounded size in bounded time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::desk::Desk;
use super::key::PushKey;
use super::lane::Turn;
use super::live::Claim;
use super::name::{self, Kind};
use super::refusal::Refusal;
use crate::ingest::pull::SEGMENT_MAX;
use crate::ingest::pull::pushed::PLAYLIST_MAX;

/// Connections at once: an encoder has two a rendition and two more. A guess.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// Largest manifest taken, bytes; ffmpeg's has some 2 KiB.
const MANIFEST_MAX: usize = 256 << 10;

/// A request on which nothing comes for this long is given up. ffmpeg opens that of an fMP4 stream's initialization
/// section when it starts and fills it after the first segment.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long a whole request may take: three of the longest segments.
const REQUEST_MAX: Duration = Duration::from_secs(180);

/// How often a segment that came before its manifest, or before the end of its predecessor, asks whether it may go on;
/// and how long after its own end.
const ASK_EVERY: Duration = Duration::from_millis(100);
const ASK_AFTER_END: Duration = Duration::from_secs(5);

/// Whoever shows a wrong key waits so long for the answer: with [`CONNECTIONS_MAX`], 64 attempts a second.
const WRONG_KEY_DELAY: Duration = Duration::from_secs(1);

/// What handlers share.
pub(super) struct Shared {
    pub(super) key: PushKey,
    pub(super) desk: Arc<Desk>,
    /// A wrong key was shown before.
    pub(super) has_refused: AtomicBool,
    /// When a file that wasn't taken was last reported.
    pub(super) told: Mutex<Option<Instant>>,
}

/// Files that aren't taken are reported once in so long: who pushes nonsense does so every second.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// The endpoint.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let hint =
        || async { (StatusCode::NOT_FOUND, "push to /ingest/<key>/…, the URL starling printed after `push`\n") };
    Router::new().route("/ingest/{*path}", any(handle)).fallback(hint).with_state(shared)
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(path) = shared.key.admits(&path, &headers) else {
        if !shared.has_refused.swap(true, Ordering::Relaxed) {
            warn!("someone pushed with a wrong key or none and was refused; further attempts are not reported");
        }
        sleep(WRONG_KEY_DELAY).await;
        return refuse(&Refusal::Key);
    };
    match method {
        Method::PUT | Method::POST => {}
        // What was announced stays announced, and what is old goes by itself.
        Method::DELETE => return StatusCode::NO_CONTENT.into_response(),
        _ => {
            let allow = [(header::ALLOW, "PUT, POST, DELETE")];
            return (StatusCode::METHOD_NOT_ALLOWED, allow, "this is for pushing only\n").into_response();
        }
    }
    let Some(path) = name::checked(path).map(str::to_owned) else { return refuse(&Refusal::Name) };
    // A task of its own: what is handed on is handed on whole, even if the connection breaks meanwhile.
    let received = tokio::spawn(async move {
        let taken = timeout(REQUEST_MAX, receive(&shared.desk, &path, body)).await;
        let result = taken.unwrap_or(Err(Refusal::Silent(REQUEST_MAX.as_secs())));
        if let Err(refusal) = &result {
            shared.tell(&path, refusal);
        }
        result
    });
    match received.await {
        Ok(Ok(())) => StatusCode::CREATED.into_response(),
        Ok(Err(refusal)) => refuse(&refusal),
        Err(_) => refuse(&Refusal::Ending),
    }
}

impl Shared {
    fn tell(&self, path: &str, refusal: &Refusal) {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_routine = matches!(refusal, Refusal::BrokenOff | Refusal::Ending);
        if is_routine || told.is_some_and(|told| now.duration_since(told) < TELL_EVERY) {
            debug!(path, %refusal, "a pushed file was not taken");
        } else {
            *told = Some(now);
            warn!(path, %refusal, "a pushed file was not taken");
        }
    }
}

fn refuse(refusal: &Refusal) -> Response {
    let mut response = (refusal.status(), format!("{refusal}\n")).into_response();
    if *refusal == Refusal::Key {
        let basic = HeaderValue::from_static("Basic realm=\"starling push\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    }
    response
}

async fn receive(desk: &Desk, path: &str, body: Body) -> Result<(), Refusal> {
    let body = body.into_data_stream();
    match name::kind(path) {
        Kind::Playlist => desk.playlist(path, text(body, PLAYLIST_MAX).await?, Instant::now()).await,
        Kind::Manifest => desk.manifest(path, &text(body, MANIFEST_MAX).await?, Instant::now()).await,
        Kind::Media => media(desk, path, body).await,
    }
}

async fn text(mut body: BodyDataStream, limit: usize) -> Result<String, Refusal> {
    let mut text = BytesMut::new();
    while let Some(data) = next(&mut body).await? {
        append(&mut text, &data, limit)?;
    }
    String::from_utf8(text.into()).map_err(|_| Refusal::Body("it is not text (UTF-8)".to_owned()))
}

/// Takes a segment or initialization section: as it comes if it belongs to a CMAF stream, else when it is whole.
async fn media(desk: &Desk, path: &str, body: BodyDataStream) -> Result<(), Refusal> {
    let mut incoming = Incoming { desk, path, body, waiting: BytesMut::new(), turn: None };
    let result = incoming.run().await;
    if let (Some(turn), Err(_)) = (incoming.turn, &result) {
        desk.abort(turn).await;
    }
    result
}

struct Incoming<'a> {
    desk: &'a Desk,
    path: &'a str,
    body: BodyDataStream,
    /// What came before it was clear where it goes.
    waiting: BytesMut,
    turn: Option<Turn>,
}

impl Incoming<'_> {
    async fn run(&mut self) -> Result<(), Refusal> {
        let coming = self.desk.shelf.expect(self.path, Instant::now())?;
        loop {
            let asks = self.turn.is_none() && !self.waiting.is_empty();
            tokio::select! {
                data = next(&mut self.body) => match data? {
                    Some(data) => {
                        coming.heard(Instant::now())?;
                        self.take(&data).await?;
                    }
                    None => break,
                },
                () = sleep(ASK_EVERY), if asks => self.ask().await?,
            }
        }
        coming.heard(Instant::now())?;
        if self.turn.is_none() && self.desk.knows(self.path).await {
            let asking = async {
                while self.turn.is_none() {
                    self.ask().await?;
                    sleep(ASK_EVERY).await;
                }
                Ok(())
            };
            timeout(ASK_AFTER_END, asking).await.unwrap_or(Err(Refusal::AnotherEncoder))?;
        }
        match self.turn {
            Some(turn) => self.desk.finish(turn).await,
            None => self.desk.file(self.path, self.waiting.split().freeze(), Instant::now()).await,
        }
    }

    async fn take(&mut self, data: &Bytes) -> Result<(), Refusal> {
        match self.turn {
            Some(turn) => self.desk.feed(turn, data).await,
            None => {
                append(&mut self.waiting, data, usize::try_from(SEGMENT_MAX).unwrap_or(usize::MAX))?;
                self.ask().await
            }
        }
    }

    /// Asks whether it is a CMAF stream's, and its turn.
    async fn ask(&mut self) -> Result<(), Refusal> {
        match self.desk.claim(self.path).await? {
            Claim::Foreign | Claim::Later => Ok(()),
            Claim::Open(turn) => {
                self.turn = Some(turn);
                self.desk.feed(turn, &self.waiting.split()).await
            }
        }
    }
}

async fn next(body: &mut BodyDataStream) -> Result<Option<Bytes>, Refusal> {
    match timeout(SILENCE_MAX, body.next()).await {
        Ok(Some(Ok(data))) => Ok(Some(data)),
        Ok(Some(Err(_))) => Err(Refusal::BrokenOff),
        Ok(None) => Ok(None),
        Err(_) => Err(Refusal::Silent(SILENCE_MAX.as_secs())),
    }
}

fn append(body: &mut BytesMut, data: &[u8], limit: usize) -> Result<(), Refusal> {
    if body.len() + data.len() > limit {
        return Err(Refusal::TooLarge(limit as u64));
    }
    body.extend_from_slice(data);
    Ok(())
}
