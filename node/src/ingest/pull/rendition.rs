//! Following one media playlist.

use std::time::Duration;

use starling_proto::RenditionId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use url::Url;

use super::clock::Clock;
use super::cursor::{Cursor, News, Note};
use super::deliver::{Delivery, Queued};
use super::line::shown;
use super::load::{LoadError, Source};
use super::low_latency::LowLatency;
use super::media::{Listed, MediaPlaylist};
use super::outline::{Outline, published};
use super::pace::Pace;
use super::{Backoff, Pull, Stop, track};
use crate::clock::wall_now;
use crate::ingest::Shape;

/// Segments listed and not yet being fetched; when it is full, the playlist waits.
const QUEUE: usize = 16;

/// Failures in a row after which the playlist counts as lost; one alone is everyday life.
const TELL_AFTER: u64 = 2;

/// Failures in a row after which the multivariant playlist is asked whether the rendition has moved.
const MOVED_AFTER: u32 = 3;

/// One rendition, as far as we are; survives its playlist's move to another address.
#[derive(Debug, Default)]
pub(super) struct Rendition {
    cursor: Cursor,
    clock: Clock,
    pub(super) low_latency: LowLatency,
    delivery: Delivery,
}

impl Rendition {
    /// Follows the playlist, beginning with `first`, a reading just made, until it ends.
    pub(super) async fn follow(
        &mut self,
        pull: &Pull,
        outline: &Outline,
        id: RenditionId,
        first: MediaPlaylist,
    ) -> Result<(), Stop> {
        let base = pull.source.join(&outline.entries[usize::from(id.0)].uri).unwrap_or_else(|_| pull.source.clone());
        self.delivery.end_growing(pull).await?;
        self.cursor.rewind(self.delivery.last());
        if let (None, Some(number)) = (self.delivery.last(), newest_held(pull, id, &base, &first)) {
            self.cursor.begin_after(number);
        }
        let (queue, listed) = mpsc::channel(QUEUE);
        let Self { cursor, clock, low_latency, delivery } = self;
        let now = Instant::now();
        let unknown_tags = first.unknown_tags.clone();
        let pace = Pace::new(&first, pull.role, now);
        let deliver = delivery.run(pull, (id, base), listed, low_latency.refused());
        let (stuck, told_old_copy) = (false, false);
        let watch =
            Watch { pull, outline, id, cursor, clock, low_latency, pace, queue, unknown_tags, stuck, told_old_copy };
        tokio::try_join!(Box::pin(watch.run(first, now)), Box::pin(deliver))?;
        Ok(())
    }
}

/// Number of the newest listed segment that is here already, if the stream is taken up.
fn newest_held(pull: &Pull, id: RenditionId, base: &Url, playlist: &MediaPlaylist) -> Option<u64> {
    let resume = pull.resume.as_ref()?;
    let held =
        |listed: &&Listed| (resume.has)(id, &published(base, &listed.url, &listed.uri), listed.offset(), listed.number);
    playlist.segments.iter().rev().find(held).map(|listed| listed.number)
}

/// The side that reads the playlist.
struct Watch<'a> {
    pull: &'a Pull,
    outline: &'a Outline,
    id: RenditionId,
    cursor: &'a mut Cursor,
    clock: &'a mut Clock,
    low_latency: &'a mut LowLatency,
    pace: Pace,
    queue: mpsc::Sender<Queued>,
    /// Those of the first reading stand; some packagers keep counters in them.
    unknown_tags: Vec<String>,
    stuck: bool,
    /// Caches of different age answer by turns; once is enough.
    told_old_copy: bool,
}

impl Watch<'_> {
    /// Returns, and so closes the queue, when the playlist has ended.
    async fn run(mut self, first: MediaPlaylist, now: Instant) -> Result<(), Stop> {
        let (mut playlist, mut begun) = (first, now);
        loop {
            let ended = playlist.ended;
            let has_news = self.take(playlist).await?;
            if ended {
                return Ok(());
            }
            let wait = self.pace.wait(has_news, Instant::now());
            self.warn_if_stuck(has_news);
            sleep_until(begun + wait).await;
            (playlist, begun) = self.reload().await?;
        }
    }

    /// Queues what is new; whether there was anything.
    async fn take(&mut self, mut playlist: MediaPlaylist) -> Result<bool, Stop> {
        self.low_latency.judge(&mut playlist, self.pull.role);
        self.pace.read(&playlist);
        playlist.unknown_tags.clone_from(&self.unknown_tags);
        let track = track(self.id, &self.outline.entries[usize::from(self.id.0)], &playlist);
        let target = Duration::from_secs(playlist.target_duration.into());
        let hint = playlist.hint.take();
        let News { mut segments, notes } = self.cursor.take(playlist, Instant::now());
        let restarted = notes.iter().any(|note| matches!(note, Note::Restarted { .. }));
        self.pull.send_shape(|shape| shape.map(|shape| with_track(shape, track, restarted))).await;
        self.tell(notes);
        self.clock.date(&mut segments, target, wall_now(), &self.pull.clock);
        let has_news = !segments.is_empty();
        let queued = segments.into_iter().map(|new| Queued::New(Box::new(new))).chain(hint.map(Queued::Hint));
        for queued in queued {
            self.queue.send(queued).await.map_err(|_| Stop::Closed)?;
        }
        Ok(has_news)
    }

    /// Loads the playlist again, however long it takes; also says when loading began.
    async fn reload(&mut self) -> Result<(MediaPlaylist, Instant), Stop> {
        let url = self.url();
        let (mut backoff, mut failures, mut gone) = (Backoff::default(), 0u64, 0);
        loop {
            let begun = Instant::now();
            let asked = if self.pace.blocks() && failures == 0 { self.held(url) } else { url.clone() };
            let loaded = self.pull.loader.media(&asked, &self.outline.variables, self.pace.reload_within()).await;
            let error = match loaded {
                Ok(playlist) => {
                    if failures >= TELL_AFTER {
                        info!(url = shown(url), "the playlist is back");
                    }
                    return Ok((playlist, begun));
                }
                Err(error) => error,
            };
            failures += 1;
            if failures == TELL_AFTER {
                warn!(url = shown(url), %error, "can't load the playlist any more; trying again until it is back");
            }
            gone = if error.is_gone() { gone + 1 } else { 0 };
            if gone >= MOVED_AFTER {
                self.look_whether_moved(&error).await?;
            }
            sleep_until(begun + backoff.next()).await;
        }
    }

    /// After an encoder's restart its playlists may have other names. Says so by an error.
    async fn look_whether_moved(&self, error: &LoadError) -> Result<(), Stop> {
        if self.outline.text.is_none() {
            return Ok(());
        }
        debug!(%error, "reading the multivariant playlist again");
        let Ok(Source::Multivariant(outline)) = self.pull.loader.source(&self.pull.source).await else { return Ok(()) };
        if outline.entries.iter().map(|entry| &entry.url).eq(self.outline.entries.iter().map(|entry| &entry.url)) {
            return Ok(());
        }
        info!(url = shown(&self.pull.source), "the multivariant playlist names other playlists now; following those");
        Err(Stop::Moved(outline))
    }

    fn url(&self) -> &Url {
        &self.outline.entries[usize::from(self.id.0)].url
    }

    /// The URL that makes the server wait for the next segment, or the next part of it, RFC 8216bis §6.2.5.2.
    fn held(&self, url: &Url) -> Url {
        let mut url = url.clone();
        if let Some(next) = self.cursor.next() {
            let mut query = url.query_pairs_mut();
            query.append_pair("_HLS_msn", &next.to_string());
            if self.pace.has_parts() {
                query.append_pair("_HLS_part", &self.cursor.next_part().to_string());
            }
        }
        url
    }

    fn warn_if_stuck(&mut self, has_news: bool) {
        let stuck = !has_news && self.pace.is_stuck(Instant::now());
        if stuck && !self.stuck {
            warn!(
                url = shown(self.url()),
                "the playlist has had no new segment for five target durations; check that the encoder is running"
            );
        } else if has_news && self.stuck {
            info!(url = shown(self.url()), "the playlist moves again");
        }
        self.stuck = stuck || (self.stuck && !has_news);
    }

    fn tell(&mut self, notes: Vec<Note>) {
        let url = shown(self.url());
        for note in notes {
            match note {
                Note::Restarted { from, to } => {
                    warn!(url, from, to, "the encoder began again; going on with a discontinuity");
                }
                Note::Missed { count } => {
                    warn!(url, count, "segments left the playlist before they were fetched; lengthen the playlist");
                }
                Note::NameComesAgain { uri } => warn!(
                    url,
                    uri,
                    "the encoder reuses file names for other segments; viewers' origin copies may differ: use unique names"
                ),
                Note::OldCopy => {
                    if !std::mem::replace(&mut self.told_old_copy, true) {
                        warn!(
                            url,
                            "got an older copy of the playlist than before; check the caches in front of the source"
                        );
                    }
                }
            }
        }
    }
}

/// The shape with one rendition's track renewed. Its file name ending stays, unless the encoder began again.
fn with_track(shape: &Shape, mut track: super::Track, restarted: bool) -> Shape {
    let mut shape = shape.clone();
    if let Some(old) = shape.renditions.get_mut(usize::from(track.id.0)) {
        if !restarted {
            track.extension.clone_from(&old.extension);
        }
        *old = track;
    }
    shape
}
