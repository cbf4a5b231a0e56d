//! Sending on the segments of one rendition, and the parts of the one that grows, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::stream::{self, StreamExt, poll_fn};
use starling_proto::RenditionId;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};
use url::Url;

use super::cursor::{New, Stage};
use super::fetch::{Fetch, Miss};
use super::growing::{Fetched, Growing};
use super::media::Hint;
use super::preload::Ahead;
use super::{Pull, Segment, Stop};
use crate::ingest::Ingested;

/// Segments or parts of one rendition fetched at the same time: the next may begin while one is awaited.
const PARALLEL: usize = 2;

/// Segments in a row whose parts were wrong, after which the rendition comes by whole segments for good.
const FAULTS_MAX: u32 = 3;

/// What has been sent of a rendition.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    last: Option<u64>,
    /// A segment is missing before the next one.
    broken: bool,
    /// The last segment or part couldn't be had.
    failing: bool,
    growing: Option<Growing>,
    /// Generation in which a segment was compared with its parts, and was the same.
    compared: Option<u32>,
    /// Segments in a row whose parts were wrong.
    faults: u32,
}

/// What was found in a playlist.
pub(super) enum Queued {
    New(Box<New>),
    /// What comes next.
    Hint(Hint),
}

/// What is to be sent.
enum Due {
    Whole(Arc<New>),
    /// With the request for it, if it was asked for ahead.
    Part(Arc<New>, usize, Option<Ahead>),
    /// The end of a segment that was begun by parts.
    Rest(Arc<New>),
}

/// What came of it.
enum Came {
    Whole(Result<Box<Segment>, Miss>),
    Part(Arc<New>, usize, Box<Result<Fetched, Miss>>),
    Rest(Arc<New>),
}

impl Delivery {
    /// Number of the last segment dealt with, sent or skipped.
    pub(super) fn last(&self) -> Option<u64> {
        self.last
    }

    /// Fetches what comes in `listed` and sends it on. `base` is where viewers will think the playlist is; sets `refused`
    /// when the rendition can't be taken by parts.
    pub(super) async fn run(
        &mut self,
        pull: &Pull,
        (id, base): (RenditionId, Url),
        mut listed: mpsc::Receiver<Queued>,
        refused: Arc<AtomicBool>,
    ) -> Result<(), Stop> {
        let fetch = Fetch::new(pull, id, base);
        let due = poll_fn(|context| listed.poll_recv(context)).flat_map(|queued| stream::iter(due(&fetch, queued)));
        let mut came = std::pin::pin!(due.map(|due| bring(&fetch, due)).buffered(PARALLEL));
        while let Some(came) = came.next().await {
            match came {
                Came::Whole(whole) => {
                    self.end_growing(pull).await?;
                    self.segment(pull, whole).await?;
                }
                Came::Part(new, index, part) => self.part(pull, &new, index, *part, &refused).await?,
                Came::Rest(new) => self.rest(&fetch, &new, &refused).await?,
            }
        }
        self.end_growing(pull).await
    }

    /// The segment that grows, if any, ends with the parts that were sent.
    pub(super) async fn end_growing(&mut self, pull: &Pull) -> Result<(), Stop> {
        let Some(growing) = self.growing.take() else { return Ok(()) };
        if !growing.is_begun() {
            self.broken |= growing.is_discontinuity();
            return Ok(());
        }
        self.segment(pull, Ok(growing.end())).await?;
        self.broken = true;
        Ok(())
    }

    async fn segment(&mut self, pull: &Pull, segment: Result<Box<Segment>, Miss>) -> Result<(), Stop> {
        match segment {
            Ok(mut segment) => {
                segment.discontinuity |= std::mem::take(&mut self.broken);
                self.last = Some(segment.number);
                if std::mem::take(&mut self.failing) {
                    info!(rendition = segment.rendition.0, number = segment.number, "segments are good again");
                }
                pull.events.send(Ingested::Segment(segment)).await.map_err(|_| Stop::Closed)
            }
            Err(Miss::Failed(error)) => Err(Stop::Failed(error)),
            Err(Miss::Skip { number, url, reason }) => {
                self.last = Some(number);
                self.broken = true;
                self.tell(number, &url, &reason, "skipped a segment");
                Ok(())
            }
        }
    }

    /// Sends a part on if it continues its segment. What can't be sent comes with the whole segment.
    async fn part(
        &mut self,
        pull: &Pull,
        new: &New,
        index: usize,
        fetched: Result<Fetched, Miss>,
        refused: &AtomicBool,
    ) -> Result<(), Stop> {
        if !self.growing.as_ref().is_some_and(|growing| growing.is_of(new)) {
            self.end_growing(pull).await?;
        }
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(Miss::Failed(error)) => return Err(Stop::Failed(error)),
            Err(Miss::Skip { number, url, reason }) => {
                self.growing.iter_mut().for_each(Growing::stop);
                self.tell(number, &url, &reason, "can't fetch a part; the rest comes with the whole segment");
                return Ok(());
            }
        };
        if self.growing.is_none() && index == 0 && !refused.load(Ordering::Relaxed) {
            let mut head = fetched.head.clone();
            head.discontinuity |= self.broken;
            match Growing::new(head, new.generation) {
                Ok(growing) => (self.growing, self.broken) = (Some(growing), false),
                Err(_) => self.fault(new, refused, "its initialization section is not of fragmented MP4"),
            }
        }
        let Some(growing) = &mut self.growing else { return Ok(()) };
        let is_compared = self.compared == Some(new.generation);
        match growing.take(&new.listed, index, fetched) {
            // The segment's end is known and isn't fetched first: both go in one statement.
            Ok(Some(_)) if is_compared && new.stage == Stage::Grown && growing.is_whole(&new.listed) => {}
            Ok(Some(part)) => return pull.events.send(Ingested::Part(part)).await.map_err(|_| Stop::Closed),
            Ok(None) => {}
            Err(_) => self.fault(new, refused, "a part of it is not made of whole CMAF chunks"),
        }
        Ok(())
    }

    /// Sends the segment that `new` says is all there. Once one was seen to be its parts joined, those that have all their
    /// parts aren't fetched again.
    async fn rest(&mut self, fetch: &Fetch<'_>, new: &New, refused: &AtomicBool) -> Result<(), Stop> {
        let pull = fetch.pull;
        let Some(growing) = self.growing.take_if(|growing| growing.is_of(new) && growing.is_begun()) else {
            self.end_growing(pull).await?;
            return self.segment(pull, fetch.segment(new).await).await;
        };
        let has_all = growing.is_whole(&new.listed);
        let listed = &new.listed;
        if has_all && self.compared == Some(new.generation) {
            self.faults = 0;
            let mut segment = growing.end();
            segment.uri = fetch.uri(listed.number, &listed.url, &listed.uri).unwrap_or_default();
            segment.offset = listed.offset();
            return self.segment(pull, Ok(segment)).await;
        }
        let segment = match fetch.segment(new).await {
            Ok(mut whole) if growing.begins(&whole.body) => {
                whole.discontinuity = growing.is_discontinuity();
                if has_all && growing.is_as_long_as(&whole.body) {
                    (self.compared, self.faults) = (Some(new.generation), 0);
                }
                Ok(whole)
            }
            Ok(_) => {
                self.fault(new, refused, "it is not what its parts were, and ends with the last of them");
                Ok(growing.end())
            }
            Err(Miss::Skip { number, url, reason }) => {
                self.tell(number, &url, &reason, "can't fetch a segment; it ends with the last of its parts");
                Ok(growing.end())
            }
            Err(Miss::Failed(error)) => Err(Miss::Failed(error)),
        };
        let is_cut = !has_all && segment.as_ref().is_ok_and(|segment| segment.duration < listed.duration);
        self.segment(pull, segment).await?;
        self.broken |= is_cut;
        Ok(())
    }

    /// Notes that a segment's parts were wrong; too many of them, and there will be none.
    fn fault(&mut self, new: &New, refused: &AtomicBool, what: &str) {
        let number = new.listed.number;
        self.faults += 1;
        if self.faults == 1 {
            warn!(number, what, "a segment can't be taken by parts; check the packager");
        } else if self.faults >= FAULTS_MAX && !refused.swap(true, Ordering::Relaxed) {
            warn!(number, what, "its parts are no use: going on with whole segments, and without low latency");
        }
    }

    /// The first failure of a row is a warning.
    fn tell(&mut self, number: u64, url: &str, reason: &str, what: &str) {
        if std::mem::replace(&mut self.failing, true) {
            debug!(number, url, reason, "again: {what}");
        } else {
            warn!(number, url, reason, "{what}");
        }
    }
}

fn due(fetch: &Fetch<'_>, queued: Queued) -> Vec<Due> {
    let new = match queued {
        Queued::New(new) => Arc::<New>::from(new),
        Queued::Hint(hint) => {
            fetch.follow(hint);
            return Vec::new();
        }
    };
    let mut due: Vec<_> =
        new.parts.clone().map(|index| Due::Part(new.clone(), index, fetch.ahead(&new, index))).collect();
    match new.stage {
        Stage::Whole => due.push(Due::Whole(new)),
        Stage::Grown => due.push(Due::Rest(new)),
        Stage::Growing => {}
    }
    due
}

async fn bring(fetch: &Fetch<'_>, due: Due) -> Came {
    match due {
        Due::Whole(new) => Came::Whole(fetch.segment(&new).await),
        Due::Part(new, index, ahead) => {
            let part = fetch.part(&new, index, ahead).await;
            Came::Part(new, index, Box::new(part))
        }
        Due::Rest(new) => Came::Rest(new),
    }
}
