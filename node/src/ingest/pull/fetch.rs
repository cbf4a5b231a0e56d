//! Fetching what one rendition lists.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use starling_proto::RenditionId;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use super::cursor::New;
use super::growing::Fetched;
use super::line::{LINE_MAX, shown};
use super::media::{Hint, Listed, TAGS_MAX};
use super::outline::published;
use super::preload::{Ahead, Preload};
use super::{INIT_MAX, Pull, PullError, SEGMENT_MAX, Segment, sniff};
use crate::origin::FetchError;

/// Initialization sections kept: a programme's and an advertisement's, before and after.
const INITS_KEPT: usize = 4;

/// Pause between attempts at one segment or part.
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// Largest part taken, bytes: 1 s at 64 Mbit/s.
const PART_MAX: u64 = 8 << 20;

/// Why a segment or a part can't be sent.
#[derive(Debug)]
pub(super) enum Miss {
    Skip { number: u64, url: String, reason: String },
    Failed(PullError),
}

/// The side that fetches, several at a time.
pub(super) struct Fetch<'a> {
    pub(super) pull: &'a Pull,
    id: RenditionId,
    base: Url,
    /// Newest last. Locked while fetching, so that none is fetched twice.
    inits: Mutex<VecDeque<Init>>,
    preload: Preload,
}

struct Init {
    generation: u32,
    url: Url,
    range: Option<Range<u64>>,
    body: Bytes,
}

impl<'a> Fetch<'a> {
    /// `base` is where viewers will think the playlist is.
    pub(super) fn new(pull: &'a Pull, id: RenditionId, base: Url) -> Self {
        Self { pull, id, base, inits: Mutex::default(), preload: Preload::default() }
    }

    pub(super) async fn segment(&self, new: &New) -> Result<Box<Segment>, Miss> {
        let listed = &new.listed;
        let uri = self.uri(listed.number, &listed.url, &listed.uri)?;
        let deadline = Instant::now() + (2 * listed.duration).clamp(Duration::from_secs(3), Duration::from_secs(12));
        let init = self.init(new, deadline).await?;
        let body = self.media(listed, (&listed.url, listed.range.as_ref()), SEGMENT_MAX, deadline).await?;
        Ok(Box::new(Segment { body, uri, offset: listed.offset(), ..self.head(listed, init) }))
    }

    /// Asks for a part that will be listed.
    pub(super) fn follow(&self, hint: Hint) {
        self.preload.follow(hint, &self.pull.loader, PART_MAX);
    }

    /// The request for part `index`, if it was asked for before it was listed.
    pub(super) fn ahead(&self, new: &New, index: usize) -> Option<Ahead> {
        new.listed.parts.get(index).and_then(|part| self.preload.take(part))
    }

    /// Part `index` of those listed. It is waited for less long than a segment: that can still be had when it can't.
    pub(super) async fn part(&self, new: &New, index: usize, ahead: Option<Ahead>) -> Result<Fetched, Miss> {
        let listed = &new.listed;
        let Some(part) = listed.parts.get(index) else {
            return Err(skip(listed.number, &listed.url, "it is not listed".to_owned()));
        };
        let uri = self.uri(listed.number, &part.url, &part.uri)?;
        let patience = (3 * part.duration).clamp(Duration::from_secs(1), Duration::from_secs(4));
        let now = Instant::now();
        let deadline = now + patience;
        let init = self.init(new, deadline).await?;
        let preloaded = match ahead {
            Some(request) => self.preload.body(request, now + patience / 2).await,
            None => None,
        };
        let body = match preloaded.filter(|body| sniff::is_media(body)) {
            Some(body) => body,
            None => self.media(listed, (&part.url, part.range.as_ref()), PART_MAX, deadline).await?,
        };
        Ok(Fetched { head: self.head(listed, init), body, uri })
    }

    /// What viewers are told of where something is.
    pub(super) fn uri(&self, number: u64, url: &Url, written: &str) -> Result<String, Miss> {
        let uri = published(&self.base, url, written);
        if uri.len() > LINE_MAX {
            return Err(skip(number, url, "its URI is longer than 2048 bytes; shorten it".to_owned()));
        }
        Ok(uri)
    }

    /// What is known of a segment but its bytes and address.
    fn head(&self, listed: &Listed, init: Option<Bytes>) -> Segment {
        Segment {
            rendition: self.id,
            number: listed.number,
            body: Bytes::new(),
            start: listed.date.unwrap_or_default(),
            duration: listed.duration,
            discontinuity: listed.discontinuity,
            init,
            tags: tags(listed),
            uri: String::new(),
            offset: 0,
        }
    }

    async fn media(
        &self,
        listed: &Listed,
        (url, range): (&Url, Option<&Range<u64>>),
        limit: u64,
        deadline: Instant,
    ) -> Result<Bytes, Miss> {
        let body = self.bytes(url, range, limit, deadline).await;
        let body = body.map_err(|error| skip(listed.number, url, advice(&error, limit)))?;
        match not_media(&body, listed.keys.hide_segments()) {
            Some(reason) => Err(skip(listed.number, url, reason)),
            None => Ok(body),
        }
    }

    async fn init(&self, new: &New, deadline: Instant) -> Result<Option<Bytes>, Miss> {
        let Some(map) = new.listed.init.as_deref() else { return Ok(None) };
        let mut inits = self.inits.lock().await;
        let known = inits.iter().find(|i| i.generation == new.generation && i.url == map.url && i.range == map.range);
        if let Some(known) = known {
            return Ok(Some(known.body.clone()));
        }
        let skip = |reason: String| skip(new.listed.number, &map.url, reason);
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

fn skip(number: u64, url: &Url, reason: String) -> Miss {
    Miss::Skip { number, url: shown(url), reason }
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

/// `limit` is what a segment or a part may have, bytes.
fn advice(error: &FetchError, limit: u64) -> String {
    if matches!(error, FetchError::TooLarge(_)) {
        let (limit, what) = (limit >> 20, if limit == PART_MAX { "parts" } else { "segments" });
        return format!("it is larger than {limit} MiB; make {what} shorter");
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_too_much_is_told_how_much_it_may_be() {
        let told = |limit| advice(&FetchError::TooLarge(limit), limit);
        assert_eq!(told(PART_MAX), "it is larger than 8 MiB; make parts shorter");
        assert_eq!(told(32 << 20), "it is larger than 32 MiB; make segments shorter");
    }
}
