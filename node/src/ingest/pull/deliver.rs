//! Fetching the segments of one rendition and sending them on in order.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{StreamExt, poll_fn};
use starling_proto::RenditionId;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};
use url::Url;

use super::cursor::New;
use super::line::{LINE_MAX, shown};
use super::media::{Listed, TAGS_MAX};
use super::outline::published;
use super::{INIT_MAX, Pull, PullError, SEGMENT_MAX, Stop, sniff};
use crate::ingest::{Ingested, Segment};
use crate::origin::FetchError;

/// Segments of one rendition fetched at the same time: the next may begin while one is awaited.
const PARALLEL: usize = 2;

/// Initialization sections kept: a programme's and an advertisement's, before and after.
const INITS_KEPT: usize = 4;

/// Pause between attempts at one segment.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// What has been sent of a rendition.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    last: Option<u64>,
    /// A segment is missing before the next one.
    broken: bool,
    /// The last segment couldn't be had.
    failing: bool,
}

/// Why a segment isn't sent.
#[derive(Debug)]
enum Miss {
    Skip { number: u64, url: String, reason: String },
    Failed(PullError),
}

impl Delivery {
    /// Number of the last segment dealt with, sent or skipped.
    pub(super) fn last(&self) -> Option<u64> {
        self.last
    }

    /// Fetches what comes in `listed` and sends it on. `base` is where viewers will think the playlist is.
    pub(super) async fn run(
        &mut self,
        pull: &Pull,
        id: RenditionId,
        base: Url,
        mut listed: mpsc::Receiver<New>,
    ) -> Result<(), Stop> {
        let fetch = Fetch { pull, id, base, inits: Mutex::default() };
        let fetched = poll_fn(|context| listed.poll_recv(context)).map(|new| fetch.segment(new)).buffered(PARALLEL);
        let mut fetched = std::pin::pin!(fetched);
        while let Some(result) = fetched.next().await {
            match result {
                Ok(mut segment) => {
                    segment.discontinuity |= std::mem::take(&mut self.broken);
                    self.last = Some(segment.number);
                    if std::mem::take(&mut self.failing) {
                        info!(rendition = id.0, number = segment.number, "segments are good again");
                    }
                    pull.events.send(Ingested::Segment(segment)).await.map_err(|_| Stop::Closed)?;
                }
                Err(Miss::Failed(error)) => return Err(Stop::Failed(error)),
                Err(Miss::Skip { number, url, reason }) => {
                    self.last = Some(number);
                    self.broken = true;
                    if std::mem::replace(&mut self.failing, true) {
                        debug!(rendition = id.0, number, url, reason, "skipped another segment");
                    } else {
                        warn!(rendition = id.0, number, url, reason, "skipped a segment");
                    }
                }
            }
        }
        Ok(())
    }
}

/// The side that fetches, several at a time.
struct Fetch<'a> {
    pull: &'a Pull,
    id: RenditionId,
    base: Url,
    /// Newest last. Locked while fetching, so that none is fetched twice.
    inits: Mutex<VecDeque<Init>>,
}

struct Init {
    generation: u32,
    url: Url,
    range: Option<Range<u64>>,
    body: Bytes,
}

impl Fetch<'_> {
    async fn segment(&self, new: New) -> Result<Box<Segment>, Miss> {
        let listed = &new.listed;
        let skip = |reason: String| Miss::Skip { number: listed.number, url: shown(&listed.url), reason };
        let uri = published(&self.base, &listed.url, &listed.uri);
        if uri.len() > LINE_MAX {
            return Err(skip("its URI is longer than 2048 bytes; shorten it".to_owned()));
        }
        let deadline = Instant::now() + (2 * listed.duration).clamp(Duration::from_secs(3), Duration::from_secs(12));
        let init = self.init(&new, deadline).await?;
        let body = self.bytes(&listed.url, listed.range.as_ref(), SEGMENT_MAX, deadline).await;
        let body = body.map_err(|error| skip(advice(&error)))?;
        if let Some(reason) = not_media(&body, listed.keys.hide_segments()) {
            return Err(skip(reason));
        }
        Ok(Box::new(Segment {
            rendition: self.id,
            number: listed.number,
            body,
            start: listed.date.unwrap_or_default(),
            duration: listed.duration,
            discontinuity: listed.discontinuity,
            init,
            tags: tags(listed),
            uri,
            offset: listed.range.as_ref().map_or(0, |range| range.start),
        }))
    }

    async fn init(&self, new: &New, deadline: Instant) -> Result<Option<Bytes>, Miss> {
        let Some(map) = new.listed.init.as_deref() else { return Ok(None) };
        let mut inits = self.inits.lock().await;
        let known = inits.iter().find(|i| i.generation == new.generation && i.url == map.url && i.range == map.range);
        if let Some(known) = known {
            return Ok(Some(known.body.clone()));
        }
        let skip = |reason: String| Miss::Skip { number: new.listed.number, url: shown(&map.url), reason };
        let body = match self.bytes(&map.url, map.range.as_ref(), INIT_MAX, deadline).await {
            Ok(body) => body,
            Err(FetchError::TooLarge(_)) => {
                return Err(Miss::Failed(PullError::InitTooLarge { url: shown(&map.url) }));
            }
            Err(error) => return Err(skip(format!("its initialization section can't be had: {error}"))),
        };
        if let Some(reason) = not_media(&body, new.listed.keys.hide_segments()) {
            return Err(skip(format!("its initialization section: {reason}")));
        }
        if inits.len() == INITS_KEPT {
            inits.pop_front();
        }
        let (url, range) = (map.url.clone(), map.range.clone());
        inits.push_back(Init { generation: new.generation, url, range, body: body.clone() });
        Ok(Some(body))
    }

    /// Tries until `deadline`: CDNs list a segment before all their machines have it.
    async fn bytes(
        &self,
        url: &Url,
        range: Option<&Range<u64>>,
        limit: u64,
        deadline: Instant,
    ) -> Result<Bytes, FetchError> {
        loop {
            let attempt = timeout_at(deadline, self.pull.loader.bytes(url, range, limit)).await;
            let error = match attempt.unwrap_or(Err(FetchError::Silent)) {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            if is_final(&error) || Instant::now() + RETRY_AFTER >= deadline {
                return Err(error);
            }
            sleep(RETRY_AFTER).await;
        }
    }
}

/// The lines to repeat before the segment, so that it can stand first in a playlist.
fn tags(listed: &Listed) -> Vec<String> {
    let keys = listed.keys.lines(listed.number);
    keys.chain(listed.dateranges.iter().cloned()).chain(listed.tags.iter().cloned()).take(TAGS_MAX).collect()
}

/// What is wrong with a body, if it is no media.
fn not_media(body: &[u8], encrypted: bool) -> Option<String> {
    let media = if encrypted { !sniff::is_page(body) } else { sniff::is_media(body) };
    if body.is_empty() {
        Some("it is empty".to_owned())
    } else if !media {
        Some(format!("it is not media (it begins with '{}'); check the source", sniff::beginning(body)))
    } else {
        None
    }
}

/// Trying again won't help.
fn is_final(error: &FetchError) -> bool {
    matches!(error, FetchError::TooLarge(_) | FetchError::Html | FetchError::BadUri | FetchError::Forbidden)
}

fn advice(error: &FetchError) -> String {
    if matches!(error, FetchError::TooLarge(_)) {
        return "it is larger than 32 MiB; make segments shorter".to_owned();
    }
    error.to_string()
}
