//! A CMAF stream while it is being pushed: each segment is a request that grows; what is whole of it goes out at once.
//!
//! One lane a rendition. All lanes share one clock, since encoders put all tracks on one timeline. No IO here: times and
//! bytes come in, events come out.

use std::time::{Duration, Instant};

use bytes::Bytes;
use starling_proto::{RenditionId, WallTime};

use super::capture::Capture;
use super::lane::{Lane, Opening, Turn};
use super::presentation::Presentation;
use super::refusal::Refusal;
use crate::boxes::{child, children, size_and_kind};
use crate::ingest::chunks::track;
use crate::ingest::{Ingested, Shape, Track as Described};

/// How long other renditions' first chunks are waited for after one's: they all say how long parts are, and the shape of
/// the stream comes before any of them. A guess: twice the usual chunk.
const GATHER: Duration = Duration::from_millis(500);

/// The stream as pushed so far.
#[derive(Debug)]
pub(super) struct Live {
    /// Chunks are joined into parts no longer than this.
    longest_part: Duration,
    presentation: Option<Presentation>,
    lanes: Vec<Lane>,
    capture: Capture,
    /// EXT-X-TARGETDURATION; rises when a segment is longer.
    target_duration: u32,
    /// As last sent.
    said: Option<Shape>,
    /// Since when first chunks are waited for.
    gathering: Option<Instant>,
    /// Events before the first shape.
    waiting: Vec<Ingested>,
    turns: u64,
}

/// What comes of a request for a segment.
#[derive(Debug)]
pub(super) enum Claim {
    /// It is none of this stream's segments.
    Foreign,
    /// Not yet: the manifest, the initialization section or the end of the segment before is missing.
    Later,
    /// Its bytes may come.
    Open(Turn),
}

impl Live {
    pub(super) fn new(longest_part: Duration) -> Self {
        Self {
            longest_part,
            presentation: None,
            lanes: Vec::new(),
            capture: Capture::default(),
            target_duration: 1,
            said: None,
            gathering: None,
            waiting: Vec::new(),
            turns: 0,
        }
    }

    /// Takes in a manifest.
    ///
    /// # Errors
    /// If it is another encoder's than the one that is pushing.
    pub(super) fn manifest(
        &mut self,
        presentation: Presentation,
        now: Instant,
        out: &mut Vec<Ingested>,
    ) -> Result<(), Refusal> {
        let known = self.presentation.as_ref();
        let restarted = known.is_some_and(|known| known.began != presentation.began);
        if restarted && self.lanes.iter().any(|lane| lane.is_busy(now)) {
            return Err(Refusal::AnotherEncoder);
        }
        if !known.is_some_and(|known| known.has_the_files_of(&presentation)) {
            self.close_all(now, out);
            let begun = self.said.is_some();
            self.lanes.clear();
            self.lanes.resize_with(presentation.representations.len(), || Lane::new(begun));
            self.target_duration = presentation.segment_max;
            (self.said, self.gathering) = (None, None);
        }
        self.presentation = Some(presentation);
        Ok(())
    }

    /// The stream has a manifest by which the file at `path` is a segment.
    pub(super) fn knows(&self, path: &str) -> bool {
        self.presentation.as_ref().is_some_and(|known| known.segment(path).is_some())
    }

    /// The initialization section at `path` is in use.
    pub(super) fn is_busy(&self, path: &str, now: Instant) -> bool {
        self.presentation.as_ref().is_some_and(|known| known.has_init(path))
            && self.lanes.iter().any(|lane| lane.is_busy(now))
    }

    /// A request has begun to bring the file at `path`; `init` has initialization sections by path.
    ///
    /// # Errors
    /// If another request is bringing another segment of the same rendition, or the initialization section is unsound.
    pub(super) fn claim(
        &mut self,
        path: &str,
        init: impl FnOnce(&str) -> Option<Bytes>,
        now: Instant,
        out: &mut Vec<Ingested>,
    ) -> Result<Claim, Refusal> {
        let Some(presentation) = &self.presentation else { return Ok(Claim::Later) };
        let Some((index, ordinal)) = presentation.segment(path) else { return Ok(Claim::Foreign) };
        let Some(init) = init(&presentation.representations[index].init) else { return Ok(Claim::Later) };
        let track = track(&init)?;
        match self.lanes[index].may_open(ordinal, now)? {
            Opening::Later => return Ok(Claim::Later),
            Opening::Now => {}
            Opening::AfterClosing => self.close(index, now, out),
        }
        self.turns += 1;
        let turn = Turn { lane: index, id: self.turns };
        self.lanes[index].open(turn.id, path, ordinal, init, track, now);
        Ok(Claim::Open(turn))
    }

    /// More of a segment came at `now`, which is `wall`.
    ///
    /// # Errors
    /// If the bytes are no CMAF segment, or another connection took over; the request is to be given up with
    /// [`Self::abort`].
    pub(super) fn feed(
        &mut self,
        turn: Turn,
        data: &[u8],
        now: Instant,
        wall: WallTime,
        out: &mut Vec<Ingested>,
    ) -> Result<(), Refusal> {
        let longest = self.longest_part;
        let lane = &mut self.lanes.get_mut(turn.lane).ok_or(Refusal::TakenOver)?;
        let mut made = Vec::new();
        let result = lane.feed(turn.id, data, (now, wall), longest, &mut self.capture, &mut made);
        self.emit(turn.lane, made, now, out);
        result
    }

    /// The request has brought all of its segment.
    ///
    /// # Errors
    /// If it ended in the middle of something, or another connection took over; what was whole has been sent on.
    pub(super) fn finish(&mut self, turn: Turn, now: Instant, out: &mut Vec<Ingested>) -> Result<(), Refusal> {
        let lane = self.lanes.get_mut(turn.lane).filter(|lane| lane.has(turn.id)).ok_or(Refusal::TakenOver)?;
        let whole = lane.check_end();
        self.close(turn.lane, now, out);
        whole.map_err(Refusal::from)
    }

    /// The request was broken off. What came of its segment makes a shorter one.
    pub(super) fn abort(&mut self, turn: Turn, now: Instant, out: &mut Vec<Ingested>) {
        if self.lanes.get(turn.lane).is_some_and(|lane| lane.has(turn.id)) {
            self.close(turn.lane, now, out);
        }
    }

    /// Another form of pushing takes over.
    pub(super) fn leave(&mut self, now: Instant, out: &mut Vec<Ingested>) {
        self.close_all(now, out);
        *self = Self::new(self.longest_part);
    }

    fn close_all(&mut self, now: Instant, out: &mut Vec<Ingested>) {
        for index in 0..self.lanes.len() {
            self.close(index, now, out);
        }
    }

    fn close(&mut self, index: usize, now: Instant, out: &mut Vec<Ingested>) {
        let mut made = Vec::new();
        self.lanes[index].close(&mut made);
        self.emit(index, made, now, out);
    }

    /// Sends on what a lane made, after the shape it needs.
    fn emit(&mut self, index: usize, made: Vec<Ingested>, now: Instant, out: &mut Vec<Ingested>) {
        let id = rendition(index);
        for mut event in made {
            let longest = match &mut event {
                Ingested::Part(part) => {
                    part.rendition = id;
                    self.lanes[index].make_room(part.duration);
                    part.duration
                }
                Ingested::Segment(segment) => {
                    segment.rendition = id;
                    segment.duration
                }
                Ingested::Shape(_) | Ingested::Ended => Duration::ZERO,
            };
            // EXTINF, rounded, may not exceed it (RFC 8216bis §4.4.3.1).
            self.target_duration = self.target_duration.max(longest.as_secs_f64().round() as u32);
            self.waiting.push(event);
        }
        if self.waiting.is_empty() {
            return;
        }
        let is_ready = |lane: &Lane| lane.is_measured();
        if self.said.is_none() {
            let since = match self.lanes.iter().any(is_ready) {
                true => *self.gathering.get_or_insert(now),
                false => return,
            };
            if !self.lanes.iter().all(is_ready) && now - since < GATHER {
                return;
            }
        }
        let shape = self.shape();
        if self.said.as_ref() != Some(&shape) {
            out.push(Ingested::Shape(shape.clone()));
            self.said = Some(shape);
        }
        out.append(&mut self.waiting);
    }

    fn shape(&self) -> Shape {
        let Some(presentation) = &self.presentation else {
            return Shape { multivariant: None, renditions: Vec::new() };
        };
        let each = presentation.representations.iter().zip(&self.lanes).enumerate();
        let renditions = each.map(|(index, (known, lane))| Described {
            id: rendition(index),
            label: known.label(),
            bandwidth_bps: known.bandwidth_bps,
            target_duration: self.target_duration,
            hls_version: 7,
            tags: vec!["#EXT-X-INDEPENDENT-SEGMENTS".to_owned()],
            uri: format!("{index}/index.m3u8"),
            extension: known.extension(),
            part_target: lane.part_target(self.longest_part),
        });
        Shape { multivariant: presentation.multivariant(), renditions: renditions.collect() }
    }
}

/// At most [`super::presentation::REPRESENTATIONS_MAX`].
fn rendition(index: usize) -> RenditionId {
    RenditionId(index as u16)
}

/// The body is an initialization section: a `moov`, and no samples.
pub(super) fn is_init(body: &[u8]) -> bool {
    matches!(size_and_kind(body), Some((_, kind)) if matches!(&kind, b"ftyp" | b"moov" | b"styp"))
        && child(body, b"moov").is_some()
        && children(body).all(|child| child.named(b"moof").is_none())
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
