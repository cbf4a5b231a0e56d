//! The stream as players get it.

use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{Stream, StreamExt};
use starling_proto::wire::{Announcement, Catalogue, Rendition};
use starling_proto::{ChunkNumber, Epoch, RenditionId, SegmentNumber};
use tokio::time::{Instant, timeout_at};

use super::players::{Agent, Transfer};
use super::{Demand, Shared};
use crate::hls::body::{self, Broken};
use crate::hls::directives::Directives;
use crate::hls::name::{self, Named, content_type};
use crate::hls::parts;
use crate::hls::playlist::{self, Form, Report};
use crate::hls::reply::{self, Keep, Kind, failure};
use crate::hls::window::{self, Rules, Window};

/// What a low-latency player keeps between the newest part and its playhead: time for a part to come by another way when its
/// own fails. A guess, see `Config::part_due`.
const PART_HOLD_BACK: Duration = Duration::from_millis(1800);

/// Parts that are not here yet are not listed for a player that begins, up to this much: the broadcaster tells a newcomer of
/// parts that are nowhere else yet, and most take this long through the mesh (measured with fifty viewers, `scripts/lab home`).
const ON_ITS_WAY: Duration = Duration::from_millis(700);

const PLAYLIST: Kind = Kind { content_type: "application/vnd.apple.mpegurl", keep: Keep::Never };

/// `/live/index.m3u8`
pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
    Query(directives): Query<Directives>,
    headers: HeaderMap,
) -> Response {
    let agent = Agent::of(&headers);
    shared.players.playlist(&agent);
    let deadline = Instant::now() + shared.patience.playlist;
    let Some(catalogue) = shared.catalogue(deadline).await else { return no_catalogue() };
    if let Some(rendition) = playlist::direct(&catalogue) {
        let prefix = format!("{}/", rendition.id);
        return media_playlist(&shared, &headers, rendition.id, &prefix, &directives, deadline).await;
    }
    let text = catalogue.multivariant.clone().unwrap_or_default();
    reply::bytes(&headers, text.into(), PLAYLIST)
}

/// `/live/<rendition>/…`
pub(super) async fn file(
    State(shared): State<Arc<Shared>>,
    Path((rendition, file)): Path<(String, String)>,
    Query(directives): Query<Directives>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Ok(rendition) = rendition.parse().map(RenditionId) else { return unknown() };
    match name::parse(&file) {
        Some(Named::Playlist) => {
            shared.players.playlist(&Agent::of(&headers));
            let deadline = Instant::now() + shared.patience.playlist;
            media_playlist(&shared, &headers, rendition, "", &directives, deadline).await
        }
        Some(Named::Segment(epoch, number)) => {
            let Some((position, announcement)) = shared.find(rendition, epoch, number) else { return unknown() };
            if announcement.growing && !headers.contains_key(header::RANGE) {
                return unknown(); // it is listed by parts only
            }
            let kind = Kind { content_type: content_type(&file), keep: Keep::Never };
            let whole = 0..announcement.byte_len();
            let transfer = (method == Method::GET).then(|| shared.begin(&headers, position, &announcement, None));
            media(&shared, &headers, announcement, whole, kind, transfer)
        }
        Some(Named::Part(epoch, number, index)) => {
            let find = || shared.find(rendition, epoch, number);
            let Some((position, announcement)) = parts::announced(&shared.wiring.media, index, find).await else {
                return unknown();
            };
            let kind = Kind { content_type: content_type(&file), keep: Keep::Never };
            let bytes = announcement.part_bytes(index);
            let transfer =
                (method == Method::GET).then(|| shared.begin(&headers, position, &announcement, Some(index)));
            media(&shared, &headers, announcement, bytes, kind, transfer)
        }
        Some(Named::Init(epoch, index)) => match shared.wiring.media.init(rendition, epoch, index) {
            Some(body) => reply::bytes(&headers, body, Kind { content_type: content_type(&file), keep: Keep::Never }),
            None => unknown(),
        },
        None => unknown(),
    }
}

async fn media_playlist(
    shared: &Shared,
    headers: &HeaderMap,
    rendition: RenditionId,
    prefix: &str,
    directives: &Directives,
    deadline: Instant,
) -> Response {
    let Some(catalogue) = shared.catalogue(deadline).await else { return no_catalogue() };
    if catalogue.rendition(rendition).is_none() {
        return failure(StatusCode::NOT_FOUND, "the stream has no such rendition; begin with /live/index.m3u8");
    }
    shared.demand(Demand::Playlist { rendition });
    let begun = shared.window(rendition, deadline).await;
    let awaited = directives.awaited(&shared.wiring.media, shared.patience.playlist, || shared.window_now(rendition).0);
    let window = match directives.sequence {
        None => beginning(shared, begun),
        Some(_) => match awaited.await {
            Ok(window) => shared.settled(rendition, window),
            Err(refusal) => return refusal,
        },
    };
    // Both may have changed meanwhile, but not so that the rendition disappears from the one it was found in.
    let catalogue = shared.wiring.media.catalogue().unwrap_or(catalogue);
    let Some(described) = catalogue.rendition(rendition).filter(|_| !window.entries.is_empty()) else {
        return failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "the stream is known, but no segment of it was announced yet; is the broadcast running?",
        );
    };
    let others = catalogue.renditions.iter().filter(|other| other.id != rendition && prefix.is_empty());
    let reports: Vec<Report> =
        others.filter_map(|other| playlist::report(other, &shared.window_now(other.id).0)).collect();
    let form =
        Form { prefix, ended: catalogue.ended, hold_back: PART_HOLD_BACK, skip: directives.skips(), reports: &reports };
    reply::bytes(headers, playlist::media(described, &window, form).into(), PLAYLIST)
}

/// What a player is told that begins.
fn beginning(shared: &Shared, mut window: Window) -> Window {
    let media = &shared.wiring.media;
    window.without_fresh_parts(ON_ITS_WAY, |announcement, part| {
        let first = announcement.first_chunk.0 + announcement.part_begin(part) as u64;
        let count = u64::from(announcement.parts[part].chunks);
        let held = |number| media.chunk(announcement.rendition, announcement.epoch, ChunkNumber(number)).is_some();
        (first..first + count).all(held)
    });
    window
}

/// The bytes `of` a segment.
fn media(
    shared: &Shared,
    headers: &HeaderMap,
    announcement: Arc<Announcement>,
    of: Range<u64>,
    kind: Kind,
    transfer: Option<Transfer>,
) -> Response {
    let patience = shared.patience.chunk;
    reply::ranged(headers, of.end - of.start, kind, |part| {
        let len = part.end - part.start;
        let bytes = of.start + part.start..of.start + part.end;
        let bytes = body::segment(shared.wiring.media.clone(), announcement, bytes, patience);
        Body::from_stream(noting_the_end(bytes, len, transfer))
    })
}

/// The same bytes. The transfer is complete when the last of `len` was taken (nobody asks for more, the length being
/// known), and abandoned when dropped before.
fn noting_the_end(
    bytes: impl Stream<Item = Result<Bytes, Broken>> + Send + 'static,
    len: u64,
    mut transfer: Option<Transfer>,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send + 'static {
    let mut missing = len;
    bytes.inspect(move |chunk| match chunk {
        Ok(chunk) => {
            missing = missing.saturating_sub(chunk.len() as u64);
            if missing == 0 {
                transfer.take().into_iter().for_each(Transfer::complete);
            }
        }
        Err(broken) => tracing::debug!(%broken, "a player's segment broke off"),
    })
}

impl Shared {
    /// The catalogue, waiting for the first.
    async fn catalogue(&self, deadline: Instant) -> Option<Arc<Catalogue>> {
        let mut changes = self.wiring.media.changes();
        loop {
            changes.mark_unchanged();
            if let Some(catalogue) = self.wiring.media.catalogue() {
                return Some(catalogue);
            }
            timeout_at(deadline, changes.changed()).await.ok()?.ok()?;
        }
    }

    /// What to list, waiting for a beginning; empty if there is none by the deadline.
    async fn window(&self, rendition: RenditionId, mut deadline: Instant) -> Window {
        /// Players begin three segments before the end.
        const FULL: usize = 3;
        let mut changes = self.wiring.media.changes();
        let mut begun = false;
        loop {
            changes.mark_unchanged();
            let (window, ended) = self.window_now(rendition);
            let by_parts = window.end().is_some_and(|(_, growing)| growing.is_some());
            if by_parts || window.playable() >= FULL || (ended && window.playable() > 0) {
                return self.settled(rendition, window);
            }
            if window.playable() > 0 && !begun {
                begun = true;
                deadline = deadline.min(Instant::now() + self.patience.fuller_playlist);
            }
            if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                let (window, _) = self.window_now(rendition);
                return self.settled(rendition, window);
            }
        }
    }

    fn window_now(&self, rendition: RenditionId) -> (Window, bool) {
        let ended = self.wiring.media.catalogue().is_some_and(|catalogue| catalogue.ended);
        let from = self.listed_from.lock().unwrap_or_else(PoisonError::into_inner).get(&rendition).copied();
        let rules = Rules { from: from.unwrap_or(0), complete_only: false, ended };
        (window::window(&self.wiring.media, rendition, rules), ended)
    }

    /// Remembers where a playlist begins that is about to be served. Only renditions of a catalogue get here, so the
    /// map is bounded as catalogues are.
    fn settled(&self, rendition: RenditionId, window: Window) -> Window {
        if let Some(first) = window.entries.first() {
            self.listed_from
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(rendition)
                .and_modify(|from| *from = first.position.max(*from))
                .or_insert(first.position);
        }
        window
    }

    fn find(&self, rendition: RenditionId, epoch: Epoch, number: SegmentNumber) -> Option<(u64, Arc<Announcement>)> {
        let listing = self.wiring.media.listing(rendition);
        listing
            .into_iter()
            .find(|listed| listed.named == (epoch, number))
            .map(|listed| (listed.position, listed.announcement))
    }

    /// A player asked for a segment or a part of it.
    fn begin(&self, headers: &HeaderMap, position: u64, announcement: &Announcement, part: Option<usize>) -> Transfer {
        let rendition = announcement.rendition;
        let duration = match part.and_then(|index| announcement.parts.get(index)) {
            Some(part) => Duration::from_micros(u64::from(part.duration_us)),
            None => announcement.duration(),
        };
        let catalogue = self.wiring.media.catalogue();
        let described = catalogue.as_deref().and_then(|c| Some((c, c.rendition(rendition)?)));
        let main = described
            .is_some_and(|(catalogue, rendition): (&Catalogue, &Rendition)| playlist::is_main(catalogue, rendition));
        let whole =
            !headers.contains_key(header::RANGE) || headers.get(header::RANGE).is_some_and(|range| range == "bytes=0-");
        let (first, transfer) = self.players.media(&Agent::of(headers), (position, part), duration, main && whole);
        self.demand(Demand::Segment { rendition, epoch: announcement.epoch, segment: announcement.segment, first });
        transfer
    }

    fn demand(&self, demand: Demand) {
        if self.wiring.demands.try_send(demand).is_err() {
            tracing::trace!(?demand, "demand dropped: the driver is behind");
        }
    }
}

fn no_catalogue() -> Response {
    failure(
        StatusCode::SERVICE_UNAVAILABLE,
        "no catalogue of the stream yet: neither its origin nor a neighbour has answered; still trying",
    )
}

fn unknown() -> Response {
    failure(StatusCode::NOT_FOUND, "not here: it left the playlist, or never was in it")
}
