//! One rendition of a CMAF stream: its segments come one after another, each in a request of its own.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use starling_proto::{RenditionId, WallTime};

use super::capture::{Capture, Seen};
use super::parts::{self, Joined, Joiner};
use super::refusal::Refusal;
use super::template::Ordinal;
use crate::boxes::Track;
use crate::ingest::chunks::{Chunk, Cutter, Unsound};
use crate::ingest::pull::SEGMENT_MAX;
use crate::ingest::{Ingested, Part, Segment};

/// A request on which nothing came for so long may be replaced by another; ten usual chunks.
const TAKEOVER_AFTER: Duration = Duration::from_secs(2);

/// After the last byte of a segment the next may take so long to begin before another encoder's is believed. Encoders
/// begin it in the same moment.
const SUCCESSION: Duration = Duration::from_secs(1);

/// Longer chunks make no low latency: such a rendition has whole segments only. PART-TARGET must stay well below the
/// target duration.
const CHUNK_MAX: Duration = Duration::from_secs(1);

/// Longest segment taken.
const SEGMENT_SECONDS_MAX: u64 = 60;

/// Where a segment's samples should begin, and begin, may differ by this; audio frames are 21 ms.
const GAP: Duration = Duration::from_millis(100);

/// Which lane a request feeds, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) lane: usize,
    pub(super) id: u64,
}

/// Whether a segment may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Now,
    /// The one before has fallen silent; close it first.
    AfterClosing,
    /// The one before is still coming.
    Later,
}

/// One rendition.
#[derive(Debug)]
pub(super) struct Lane {
    open: Option<Open>,
    /// Of the last segment with a sample.
    last: Option<Ordinal>,
    number: u64,
    /// Ticks at which its last sample is over.
    end: u64,
    init: Option<Bytes>,
    /// When bytes last came.
    heard: Option<Instant>,
    /// Something came before that the first segment doesn't continue.
    broken: bool,
    /// PART-TARGET by the first chunk; zero for a rendition without parts.
    part_target: Option<Duration>,
}

/// A segment that is coming.
#[derive(Debug)]
struct Open {
    id: u64,
    path: String,
    ordinal: Ordinal,
    init: Bytes,
    track: Track,
    body: BytesMut,
    cutter: Cutter,
    begun: Option<Begun>,
}

/// A segment of which a chunk is here.
#[derive(Debug)]
struct Begun {
    joiner: Joiner,
    number: u64,
    /// Ticks at which its first sample begins and its last is over.
    first: u64,
    end: u64,
    start: WallTime,
    discontinuity: bool,
    next_part: u32,
}

impl Lane {
    /// With `broken`, its first segment has a discontinuity.
    pub(super) fn new(broken: bool) -> Self {
        Self { open: None, last: None, number: 0, end: 0, init: None, heard: None, broken, part_target: None }
    }

    /// Bytes came a moment ago.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now - heard < TAKEOVER_AFTER) && self.open.is_some()
    }

    /// A request's turn lasts.
    pub(super) fn has(&self, id: u64) -> bool {
        self.open.as_ref().is_some_and(|open| open.id == id)
    }

    /// It is known how long its chunks are.
    pub(super) fn is_measured(&self) -> bool {
        self.part_target.is_some()
    }

    /// PART-TARGET, `longest` while nothing has come; `None` for a rendition without parts.
    pub(super) fn part_target(&self, longest: Duration) -> Option<Duration> {
        Some(self.part_target.unwrap_or(longest)).filter(|target| !target.is_zero())
    }

    /// Raises PART-TARGET for a part that is longer.
    pub(super) fn make_room(&mut self, part: Duration) {
        self.part_target = self.part_target.map(|target| target.max(part));
    }

    /// # Errors
    /// If another encoder is at work.
    pub(super) fn may_open(&self, ordinal: Ordinal, now: Instant) -> Result<Opening, Refusal> {
        let silence = self.heard.map_or(Duration::MAX, |heard| now.saturating_duration_since(heard));
        match &self.open {
            Some(_) if silence >= TAKEOVER_AFTER => Ok(Opening::AfterClosing),
            Some(open) if follows(Some(open.ordinal), ordinal) => Ok(Opening::Later),
            Some(_) => Err(Refusal::AnotherEncoder),
            None if self.last.is_some() && !follows(self.last, ordinal) && silence < SUCCESSION => Ok(Opening::Later),
            None => Ok(Opening::Now),
        }
    }

    pub(super) fn open(&mut self, id: u64, path: &str, ordinal: Ordinal, init: Bytes, track: Track, now: Instant) {
        self.heard = Some(now);
        let (body, cutter) = (BytesMut::new(), Cutter::new(track));
        self.open = Some(Open { id, path: path.to_owned(), ordinal, init, track, body, cutter, begun: None });
    }

    /// # Errors
    /// As [`super::live::Live::feed`].
    pub(super) fn feed(
        &mut self,
        id: u64,
        data: &[u8],
        (now, wall): (Instant, WallTime),
        longest_part: Duration,
        capture: &mut Capture,
        made: &mut Vec<Ingested>,
    ) -> Result<(), Refusal> {
        let mut open = self.open.take_if(|open| open.id == id).ok_or(Refusal::TakenOver)?;
        self.heard = Some(now);
        open.body.extend_from_slice(data);
        let result = self.cut(&mut open, wall, longest_part, capture, made);
        self.open = Some(open);
        result
    }

    fn cut(
        &mut self,
        open: &mut Open,
        wall: WallTime,
        longest_part: Duration,
        capture: &mut Capture,
        made: &mut Vec<Ingested>,
    ) -> Result<(), Refusal> {
        if open.body.len() as u64 > SEGMENT_MAX {
            return Err(Refusal::TooLarge(SEGMENT_MAX));
        }
        while let Some(chunk) = open.cutter.next(&open.body)? {
            let first = open.begun.as_ref().map(|begun| begun.first).or(chunk.run.map(|run| run.start)).unwrap_or(0);
            let end = chunk.run.map_or(first, |run| run.end);
            if end.saturating_sub(first) > SEGMENT_SECONDS_MAX * u64::from(open.track.timescale) {
                return Err(Refusal::Body(format!("the segment is longer than {SEGMENT_SECONDS_MAX} seconds")));
            }
            let mut begun = match open.begun.take() {
                Some(begun) => begun,
                None => self.begin(open, &chunk, wall, longest_part, capture)?,
            };
            begun.end = begun.end.max(end);
            if chunk.run.is_some() {
                capture.see(seen(open.track, &chunk, wall)?);
            }
            let mut finished = Vec::new();
            begun.joiner.push(&chunk, &mut finished);
            for joined in finished {
                made.extend(self.part(open, &mut begun, joined));
            }
            open.begun = Some(begun);
        }
        Ok(())
    }

    /// A segment's first chunk: what it continues, and when.
    fn begin(
        &mut self,
        open: &Open,
        chunk: &Chunk,
        wall: WallTime,
        longest_part: Duration,
        capture: &mut Capture,
    ) -> Result<Begun, Refusal> {
        let (run, timescale) = (chunk.run.ok_or(Unsound::Malformed)?, open.track.timescale);
        let first_ticks = run.end - run.start;
        let longest = ticks(longest_part, timescale);
        let target = *self.part_target.get_or_insert_with(|| match media(first_ticks, timescale) {
            long if long >= CHUNK_MAX => Duration::ZERO,
            _ => media(parts::part_target(first_ticks, longest), timescale),
        });
        let has_gap = run.start.abs_diff(self.end) > ticks(GAP, timescale);
        let continues = follows(self.last, open.ordinal) && self.init.as_ref() == Some(&open.init) && !has_gap;
        let discontinuity = self.broken || (self.last.is_some() && !continues);
        if discontinuity {
            capture.check(seen(open.track, chunk, wall)?);
        }
        capture.begin_segment();
        capture.see(seen(open.track, chunk, wall)?);
        let number = match open.ordinal {
            Ordinal::Number(number) => number,
            Ordinal::Time(_) => self.last.map_or(0, |_| self.number + 1),
        };
        (self.last, self.number, self.broken) = (Some(open.ordinal), number, false);
        self.init = Some(open.init.clone());
        Ok(Begun {
            joiner: Joiner::new(if target.is_zero() { u64::MAX } else { longest }),
            number,
            first: run.start,
            end: run.end,
            start: capture.at(media(run.start, timescale)),
            discontinuity,
            next_part: 0,
        })
    }

    /// Whether the bytes so far can be a whole segment.
    pub(super) fn check_end(&self) -> Result<(), Unsound> {
        let Some(open) = &self.open else { return Ok(()) };
        match open.cutter.finish(&open.body) {
            Ok(_) if open.begun.is_some() => Ok(()),
            Ok(_) => Err(Unsound::Truncated),
            Err(error) => Err(error),
        }
    }

    /// Ends the segment that is coming, if any, with the last whole chunk of it.
    pub(super) fn close(&mut self, made: &mut Vec<Ingested>) {
        let Some(mut open) = self.open.take() else { return };
        let Some(mut begun) = open.begun.take() else { return };
        if let Some(joined) = begun.joiner.flush() {
            made.extend(self.part(&open, &mut begun, joined));
        }
        self.end = begun.end;
        let len = open.cutter.finish(&open.body).unwrap_or(open.cutter.end());
        open.body.truncate(len);
        made.push(Ingested::Segment(Box::new(Segment {
            rendition: RenditionId(0),
            number: begun.number,
            body: open.body.freeze(),
            start: begun.start,
            duration: media(begun.end - begun.first, open.track.timescale),
            discontinuity: begun.discontinuity,
            init: Some(open.init),
            tags: Vec::new(),
            uri: open.path,
            offset: 0,
        })));
    }

    /// `None` for a rendition without parts.
    fn part(&self, open: &Open, begun: &mut Begun, joined: Joined) -> Option<Ingested> {
        if self.part_target.is_none_or(|target| target.is_zero()) {
            return None;
        }
        let index = begun.next_part;
        begun.next_part += 1;
        Some(Ingested::Part(Box::new(Part {
            rendition: RenditionId(0),
            number: begun.number,
            index,
            body: Bytes::copy_from_slice(&open.body[joined.range.clone()]),
            start: begun.start + media(joined.start.saturating_sub(begun.first), open.track.timescale),
            duration: media(joined.ticks, open.track.timescale),
            independent: joined.independent,
            discontinuity: begun.discontinuity,
            init: Some(open.init.clone()),
            tags: Vec::new(),
            uri: open.path.clone(),
            offset: joined.range.start as u64,
        })))
    }
}

/// A segment called `next` continues one called `last`.
fn follows(last: Option<Ordinal>, next: Ordinal) -> bool {
    match (last, next) {
        (Some(Ordinal::Number(last)), Ordinal::Number(next)) => last.checked_add(1) == Some(next),
        (Some(Ordinal::Time(last)), Ordinal::Time(next)) => next > last,
        (Some(Ordinal::Number(_) | Ordinal::Time(_)) | None, Ordinal::Number(_) | Ordinal::Time(_)) => false,
    }
}

fn seen(track: Track, chunk: &Chunk, arrived: WallTime) -> Result<Seen, Unsound> {
    let run = chunk.run.ok_or(Unsound::Malformed)?;
    Ok(Seen {
        start: media(run.start, track.timescale),
        duration: media(run.end - run.start, track.timescale),
        arrived,
        reference: chunk.reference.map(|reference| (reference, media(reference.media_time, track.timescale))),
    })
}

/// Time of so many ticks; more than 584 years are 584 years.
fn media(ticks: u64, timescale: u32) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(timescale.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn ticks(duration: Duration, timescale: u32) -> u64 {
    u64::try_from(duration.as_nanos() * u128::from(timescale) / 1_000_000_000).unwrap_or(u64::MAX)
}
