//! Which chunks of the newest segments are here, on the way, or missing.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{ChunkNumber, SegmentNumber};
use crate::time::Time;
use crate::wire::Announcement;

/// A set of up to 256 chunk positions of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions([u64; 4]);

impl Positions {
    pub(crate) fn contains(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    /// Returns whether it was absent.
    pub(crate) fn insert(&mut self, index: usize) -> bool {
        let absent = !self.contains(index);
        self.0[index / 64] |= 1 << (index % 64);
        absent
    }

    pub(crate) fn remove(&mut self, index: usize) {
        self.0[index / 64] &= !(1 << (index % 64));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// Chunks of a segment that were announced at once: a part or several of a growing segment, otherwise all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Index of the chunk after its last.
    pub(crate) end: usize,
    pub(crate) timing: Timing,
}

/// When chunks may be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// When we heard of them, or when a player first wanted them, if that was later.
    pub(crate) heard: Time,
    /// When our own timer lets us ask the origin.
    pub(crate) origin_at: Time,
    /// From then on only the origin can bring them in time: nobody else's answer is waited for.
    pub(crate) last: Time,
}

impl Timing {
    /// At once, and of the origin.
    pub(crate) fn now(now: Time) -> Self {
        Self { heard: now, origin_at: now, last: now }
    }
}

/// One announced segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) announcement: Arc<Announcement>,
    /// At least one; the last ends with the last chunk.
    pub(crate) spans: Vec<Span>,
    /// Whether we fetch it at all: announced after we joined, or wanted by a player.
    pub(crate) wanted: bool,
    pub(crate) have: Positions,
    /// Being fetched by repair.
    pub(crate) asked: Positions,
    /// Being fetched from the origin.
    pub(crate) at_origin: Positions,
}

impl Segment {
    /// A segment just heard of.
    pub(crate) fn new(announcement: Arc<Announcement>, timing: Timing, wanted: bool) -> Self {
        let spans = vec![Span { end: announcement.lengths.len(), timing }];
        let (have, asked, at_origin) = Default::default();
        Self { announcement, spans, wanted, have, asked, at_origin }
    }

    /// Takes over what is now said of a growing segment. Returns the positions that are new.
    pub(crate) fn grow(&mut self, announcement: Arc<Announcement>, timing: Timing) -> Range<usize> {
        let fresh = self.announcement.lengths.len()..announcement.lengths.len();
        if !fresh.is_empty() {
            self.spans.push(Span { end: fresh.end, timing });
        }
        self.announcement = announcement;
        fresh
    }

    /// A player wants what nobody wanted before: it counts as heard of now.
    pub(crate) fn want(&mut self, timing: Timing) {
        self.wanted = true;
        self.spans = vec![Span { end: self.announcement.lengths.len(), timing }];
    }

    /// When the chunk at `index` may be asked for.
    pub(crate) fn timing(&self, index: usize) -> Timing {
        let at = self.spans.partition_point(|span| span.end <= index).min(self.spans.len() - 1);
        self.spans[at].timing
    }

    /// Whether all that is announced of it is here.
    pub(crate) fn is_complete(&self) -> bool {
        self.have.len() == self.announcement.lengths.len()
    }

    /// Chunks not here.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (usize, ChunkNumber)> + '_ {
        let first = self.announcement.first_chunk.0;
        let missing = (0..self.announcement.lengths.len()).filter(|i| !self.have.contains(*i));
        missing.map(move |i| (i, ChunkNumber(first + i as u64)))
    }

    /// Chunks neither here nor being fetched by repair or from the origin.
    pub(crate) fn open(&self) -> impl Iterator<Item = (usize, ChunkNumber)> + '_ {
        self.missing().filter(|(i, _)| !self.asked.contains(*i) && !self.at_origin.contains(*i))
    }
}

/// The newest segments of one rendition and epoch, by rising chunk number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    pub(crate) segments: VecDeque<Segment>,
}

/// Never fewer segments than this are kept, see `Media` in the node.
const SEGMENTS_MIN: usize = 5;
/// Never more.
const SEGMENTS_MAX: usize = 64;

impl Window {
    /// Adds a segment unless it is known or older than the window. Returns whether it was added.
    pub(crate) fn add(&mut self, segment: Segment, keep: Duration) -> bool {
        let first = segment.announcement.first_chunk;
        let at = self.segments.partition_point(|s| s.announcement.first_chunk < first);
        let overlaps_next =
            self.segments.get(at).is_some_and(|s| s.announcement.first_chunk < segment.announcement.end_chunk());
        let overlaps_previous = at > 0 && self.segments[at - 1].announcement.end_chunk() > first;
        if overlaps_next || overlaps_previous {
            return false;
        }
        self.segments.insert(at, segment);
        self.trim(keep);
        true
    }

    fn trim(&mut self, keep: Duration) {
        let outlived = |segments: &VecDeque<Segment>| {
            segments.iter().skip(1).map(|s| s.announcement.duration()).sum::<Duration>() >= keep
        };
        while self.segments.len() > SEGMENTS_MAX || (self.segments.len() > SEGMENTS_MIN && outlived(&self.segments)) {
            self.segments.pop_front();
        }
    }

    pub(crate) fn find(&self, number: ChunkNumber) -> Option<(&Segment, usize)> {
        let at = self.segments.partition_point(|s| s.announcement.end_chunk() <= number);
        let segment = self.segments.get(at)?;
        segment.announcement.index_of(number).map(|index| (segment, index))
    }

    pub(crate) fn find_mut(&mut self, number: ChunkNumber) -> Option<(&mut Segment, usize)> {
        let at = self.segments.partition_point(|s| s.announcement.end_chunk() <= number);
        let segment = self.segments.get_mut(at)?;
        segment.announcement.index_of(number).map(|index| (segment, index))
    }

    pub(crate) fn segment_mut(&mut self, number: SegmentNumber) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|s| s.announcement.segment == number)
    }

    pub(crate) fn has(&self, number: ChunkNumber) -> bool {
        self.find(number).is_some_and(|(segment, index)| segment.have.contains(index))
    }

    /// Whether this is said as it happens: it follows what is here, and not together with it as in a window handed over.
    /// Then it is news, whatever the broadcaster's clock says; that may have been set back.
    pub(crate) fn is_rhythmic(&self, announcement: &Announcement, now: Time) -> bool {
        self.segments.back().is_some_and(|newest| {
            announcement.first_chunk >= newest.announcement.end_chunk()
                && now.since(newest.spans[0].timing.heard) >= announcement.duration() / 2
        })
    }

    /// Whether the newest segment, if it ends with `end`, follows another than the one before it.
    pub(crate) fn has_hole_before(&self, end: ChunkNumber) -> bool {
        let mut newest = self.segments.iter().rev().map(|s| &s.announcement);
        let (Some(last), Some(before)) = (newest.next(), newest.next()) else { return false };
        last.end_chunk() == end && last.segment.0 > before.segment.0 + 1
    }

    /// The first number after everything announced.
    pub(crate) fn end(&self) -> Option<ChunkNumber> {
        self.segments.back().map(|s| s.announcement.end_chunk())
    }

    /// The newest chunk here.
    pub(crate) fn head(&self) -> Option<ChunkNumber> {
        self.segments.iter().rev().find_map(|s| {
            let newest = (0..s.announcement.lengths.len()).rev().find(|i| s.have.contains(*i))?;
            Some(ChunkNumber(s.announcement.first_chunk.0 + newest as u64))
        })
    }

    /// The first chunk ≥ `from` of the same substream that is here.
    pub(crate) fn first_held(&self, from: ChunkNumber, substreams: u8) -> Option<ChunkNumber> {
        let step = u64::from(substreams.max(1));
        // Segment by segment: numbers may have gaps as wide as the broadcaster likes.
        self.segments.iter().filter(|s| s.announcement.end_chunk() > from).find_map(|segment| {
            let first = align(from, segment.announcement.first_chunk, step);
            let numbers = (first..segment.announcement.end_chunk().0).step_by(usize::from(substreams.max(1)));
            let mut held = numbers
                .map(ChunkNumber)
                .filter(|n| segment.announcement.index_of(*n).is_some_and(|index| segment.have.contains(index)));
            held.next()
        })
    }

    /// The first chunk ≥ `from` of the same substream that is not here; may lie beyond what is announced.
    pub(crate) fn first_missing(&self, from: ChunkNumber, substreams: u8) -> ChunkNumber {
        let step = u64::from(substreams.max(1));
        let mut number = from.0;
        while self.has(ChunkNumber(number)) {
            number += step;
        }
        ChunkNumber(number)
    }

    /// Mean rate of the segments held, bits per second; `None` before there is one.
    pub(crate) fn rate_bps(&self) -> Option<f64> {
        let bytes: u64 = self.segments.iter().map(|s| s.announcement.byte_len()).sum();
        let duration_us: u64 = self.segments.iter().map(|s| s.announcement.duration_us).sum();
        (duration_us > 0).then(|| bytes as f64 * 8e6 / duration_us as f64)
    }
}

/// The smallest number ≥ both that is congruent to `from` modulo `step`.
fn align(from: ChunkNumber, oldest: ChunkNumber, step: u64) -> u64 {
    let behind = oldest.0.saturating_sub(from.0);
    from.0 + behind.div_ceil(step) * step
}
