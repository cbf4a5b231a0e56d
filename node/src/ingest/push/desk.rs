//! Where everything pushed is handed in: it goes on the shelf, from which HLS is followed, or straight into the CMAF
//! stream. Which of the two it is follows from what comes: a DASH manifest, or playlists alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use starling_proto::RenditionId;
use tokio::sync::{Mutex, mpsc, watch};
use tracing::{debug, info, warn};

use super::lane::Turn;
use super::live::{Claim, Live, is_init};
use super::presentation::Presentation;
use super::refusal::Refusal;
use super::shelf::Shelf;
use crate::clock::wall_now;
use crate::ingest::Ingested;
use crate::ingest::chunks::track;
use crate::ingest::pull::{INIT_MAX, pushed};

/// How long a multivariant playlist or a manifest may come after the first media playlist; ffmpeg sends it at once. A
/// guess.
const GRACE: Duration = Duration::from_millis(1500);

/// A playlist that had no news for so many target durations may be replaced by one of another name.
const STALE_TARGETS: u32 = 3;

/// A CMAF stream of which nothing came for so long may be replaced by playlists: longer than a segment, since ffmpeg sends
/// both.
const CMAF_STALE: Duration = Duration::from_secs(30);

/// What is being pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Nothing,
    /// This media playlist; there may come a multivariant one that names it, or a manifest.
    Undecided(String),
    /// HLS with this playlist at its root, as it stood when this many had been taken up.
    Hls(String, u64),
    /// CMAF segments named by a manifest.
    Cmaf,
}

/// Takes what is pushed.
pub(super) struct Desk {
    pub(super) shelf: Arc<Shelf>,
    form: watch::Sender<Form>,
    stream: Mutex<Stream>,
}

struct Stream {
    live: Live,
    /// When a segment of it last came.
    heard: Option<Instant>,
    outlet: Outlet,
    /// Pushes that began.
    begun: u64,
}

/// The way out. What comes of another form, or from another playlist, doesn't continue what went before.
struct Outlet {
    events: mpsc::Sender<Ingested>,
    has_sent: bool,
    /// Something else was sent before; numbers of each rendition's first segment since.
    seam: Option<BTreeMap<RenditionId, u64>>,
}

impl Desk {
    pub(super) fn new(longest_part: Duration, events: mpsc::Sender<Ingested>) -> Self {
        let outlet = Outlet { events, has_sent: false, seam: None };
        let stream = Stream { live: Live::new(longest_part), heard: None, outlet, begun: 0 };
        Self { shelf: Arc::default(), form: watch::Sender::default(), stream: Mutex::new(stream) }
    }

    /// Follows the playlists that are pushed, whenever there are any; never ends by itself.
    pub(super) async fn follow(&self) {
        let mut forms = self.form.subscribe();
        loop {
            let form = forms.borrow_and_update().clone();
            let changed = async {
                // The sender is ours, so it isn't gone.
                let _ = forms.wait_for(|now| *now != form).await;
            };
            match &form {
                Form::Nothing | Form::Cmaf => changed.await,
                Form::Undecided(path) => {
                    let _ = tokio::time::timeout(GRACE, changed).await;
                    self.form.send_if_modified(|now| {
                        let stays = *now == form;
                        if stays {
                            *now = Form::Hls(path.clone(), 0);
                        }
                        stays
                    });
                }
                Form::Hls(path, _) => {
                    tokio::select! {
                        () = self.follow_playlist(path, &form) => {}
                        () = changed => {}
                    }
                }
            }
        }
    }

    async fn follow_playlist(&self, path: &str, form: &Form) {
        let (sender, mut events) = mpsc::channel(1);
        let relay = async {
            while let Some(event) = events.recv().await {
                if self.stream.lock().await.outlet.send([event]).await.is_err() {
                    return;
                }
            }
        };
        let (result, ()) = tokio::join!(pushed::run(self.shelf.clone(), path, sender), relay);
        if let Err(error) = result {
            warn!(%error, "what is pushed can't be broadcast; waiting for another push");
        }
        self.form.send_if_modified(|now| {
            let was_ours = now == form;
            if was_ours {
                *now = Form::Nothing;
            }
            was_ours
        });
    }

    /// A playlist.
    ///
    /// # Errors
    /// If it is none, or another encoder's.
    pub(super) async fn playlist(&self, path: &str, text: String, now: Instant) -> Result<(), Refusal> {
        let listing = pushed::listing(&text, path).map_err(Refusal::Body)?;
        let mut stream = self.stream.lock().await;
        let form = self.form.borrow().clone();
        let is_known = match form {
            // They come beside the manifest and say the same.
            Form::Cmaf if stream.is_fresh(now) => return Ok(()),
            Form::Nothing | Form::Cmaf => false,
            Form::Undecided(_) => listing.playlists.is_empty(),
            // Another multivariant text: the renditions may be others.
            Form::Hls(root, _) if root == path => listing.playlists.is_empty() || self.shelf.has(path, &text),
            Form::Hls(root, _) if self.shelf.names(&root, path) => true,
            Form::Hls(root, _) => {
                let is_above = listing.playlists.contains(&root);
                if !is_above && self.shelf.is_alive(&root, STALE_TARGETS, now) {
                    return Err(Refusal::AnotherPlaylist(root));
                }
                false
            }
        };
        let is_root = !listing.playlists.is_empty();
        self.shelf.put_playlist(path, text, listing, now)?;
        if is_known {
            return Ok(());
        }
        info!(playlist = path, "an encoder pushes HLS");
        stream.begin(now).await?;
        let path = path.to_owned();
        self.form.send_replace(if is_root { Form::Hls(path, stream.begun) } else { Form::Undecided(path) });
        Ok(())
    }

    /// A DASH manifest.
    ///
    /// # Errors
    /// If it is none, or another encoder's.
    pub(super) async fn manifest(&self, path: &str, text: &str, now: Instant) -> Result<(), Refusal> {
        let presentation = Presentation::parse(text, path)?;
        let mut stream = self.stream.lock().await;
        let form = self.form.borrow().clone();
        match form {
            Form::Hls(root, _) if self.shelf.is_alive(&root, STALE_TARGETS, now) => {
                return Err(Refusal::AnotherPlaylist(root));
            }
            Form::Cmaf => {}
            Form::Nothing | Form::Undecided(_) | Form::Hls(..) => {
                info!(manifest = path, renditions = presentation.representations.len(), "an encoder pushes CMAF");
                stream.begin(now).await?;
                self.form.send_replace(Form::Cmaf);
            }
        }
        let mut out = Vec::new();
        let result = stream.live.manifest(presentation, now, &mut out);
        stream.outlet.send(out).await?;
        result
    }

    /// A whole file that is no segment of a CMAF stream.
    ///
    /// # Errors
    /// If it is no media, or another encoder's.
    pub(super) async fn file(&self, path: &str, body: Bytes, now: Instant) -> Result<(), Refusal> {
        if let Some(reason) = pushed::not_media(&body) {
            return Err(Refusal::Body(reason));
        }
        if is_init(&body) {
            track(&body)?;
            if body.len() as u64 > INIT_MAX {
                return Err(Refusal::TooLarge(INIT_MAX));
            }
            let is_other = self.shelf.init(path).is_some_and(|known| known != body);
            if is_other && self.stream.lock().await.live.is_busy(path, now) {
                return Err(Refusal::AnotherEncoder);
            }
        }
        self.shelf.put(path, body);
        Ok(())
    }

    /// A request brings the file at `path`: whether it is a segment of a CMAF stream.
    ///
    /// # Errors
    /// As [`Live::claim`].
    pub(super) async fn claim(&self, path: &str) -> Result<Claim, Refusal> {
        let (mut stream, mut out) = (self.stream.lock().await, Vec::new());
        let claim = stream.live.claim(path, |init| self.shelf.init(init), Instant::now(), &mut out);
        stream.outlet.send(out).await?;
        claim
    }

    /// The file at `path` is a segment of a CMAF stream.
    pub(super) async fn knows(&self, path: &str) -> bool {
        self.stream.lock().await.live.knows(path)
    }

    /// More of a segment.
    ///
    /// # Errors
    /// As [`Live::feed`].
    pub(super) async fn feed(&self, turn: Turn, data: &[u8]) -> Result<(), Refusal> {
        let (mut stream, mut out) = (self.stream.lock().await, Vec::new());
        let now = Instant::now();
        stream.heard = Some(now);
        let result = stream.live.feed(turn, data, now, wall_now(), &mut out);
        stream.outlet.send(out).await?;
        result
    }

    /// The end of a segment.
    ///
    /// # Errors
    /// As [`Live::finish`].
    pub(super) async fn finish(&self, turn: Turn) -> Result<(), Refusal> {
        let (mut stream, mut out) = (self.stream.lock().await, Vec::new());
        let result = stream.live.finish(turn, Instant::now(), &mut out);
        stream.outlet.send(out).await?;
        result
    }

    /// The segment's request has failed.
    pub(super) async fn abort(&self, turn: Turn) {
        let (mut stream, mut out) = (self.stream.lock().await, Vec::new());
        stream.live.abort(turn, Instant::now(), &mut out);
        if stream.outlet.send(out).await.is_err() {
            debug!("nobody takes what is pushed any more");
        }
    }
}

impl Stream {
    /// A segment of a CMAF stream came a while ago at most.
    fn is_fresh(&self, now: Instant) -> bool {
        self.heard.is_none_or(|heard| now.saturating_duration_since(heard) < CMAF_STALE)
    }

    /// Another push begins.
    async fn begin(&mut self, now: Instant) -> Result<(), Refusal> {
        let mut out = Vec::new();
        self.live.leave(now, &mut out);
        self.heard = None;
        self.begun += 1;
        self.outlet.send(out).await?;
        self.outlet.seam = self.outlet.has_sent.then(BTreeMap::new);
        Ok(())
    }
}

impl Outlet {
    async fn send(&mut self, events: impl IntoIterator<Item = Ingested>) -> Result<(), Refusal> {
        for mut event in events {
            self.mark(&mut event);
            self.has_sent = true;
            self.events.send(event).await.map_err(|_| Refusal::Ending)?;
        }
        Ok(())
    }

    fn mark(&mut self, event: &mut Ingested) {
        let Some(first) = &mut self.seam else { return };
        let (rendition, number, discontinuity) = match event {
            Ingested::Part(part) => (part.rendition, part.number, &mut part.discontinuity),
            Ingested::Segment(segment) => (segment.rendition, segment.number, &mut segment.discontinuity),
            Ingested::Shape(_) | Ingested::Ended => return,
        };
        *discontinuity |= *first.entry(rendition).or_insert(number) == number;
    }
}
