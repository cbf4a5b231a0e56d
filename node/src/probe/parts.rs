//! The low-latency side of a playlist while it is being read (RFC 8216bis §4.4.3.7, §4.4.3.8, §4.4.4.9, §4.4.5.3).

use std::time::Duration;

use super::playlist::{LowLatency, Segment};

/// What the low-latency tags said so far.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// EXT-X-PART-INF PART-TARGET.
    pub(super) target: Option<Duration>,
    /// EXT-X-SERVER-CONTROL CAN-BLOCK-RELOAD=YES.
    pub(super) blocking: bool,
    /// EXT-X-SERVER-CONTROL PART-HOLD-BACK.
    pub(super) hold_back: Option<Duration>,
    /// EXT-X-SERVER-CONTROL CAN-SKIP-UNTIL.
    pub(super) skip_until: Option<Duration>,
    /// EXT-X-PRELOAD-HINT of a part.
    pub(super) hint: Option<Segment>,
    parts: Vec<Segment>,
}

impl Parts {
    pub(super) fn push(&mut self, part: Segment) {
        self.parts.push(part);
    }

    pub(super) fn last(&self) -> Option<&Segment> {
        self.parts.last()
    }

    /// How many parts of the segment `sequence`, the newest, are listed so far.
    pub(super) fn listed_of(&self, sequence: u64) -> u64 {
        let newest = self.parts.last().filter(|part| part.sequence == sequence);
        newest.map_or(0, |part| part.place().1.saturating_add(1))
    }

    /// Dates the parts by their segments; the one that still grows was begun to be captured at `growing`. `None` if the
    /// playlist does not say all that is needed to play by parts.
    pub(super) fn finish(mut self, segments: &[Segment], growing: Option<f64>) -> Option<LowLatency> {
        let first = segments.first().map_or(0, |segment| segment.sequence);
        let mut at = None;
        for part in &mut self.parts {
            if part.part.is_some_and(|part| part.index == 0) {
                let index = part.sequence.checked_sub(first).and_then(|index| usize::try_from(index).ok());
                at = index.and_then(|index| segments.get(index)).map_or(growing, |segment| segment.capture);
            }
            part.capture = at;
            at = at.map(|at| at + part.duration.as_secs_f64());
        }
        Some(LowLatency {
            part_target: self.target.filter(|target| self.blocking && !target.is_zero())?,
            hold_back: self.hold_back?,
            skip_until: self.skip_until.filter(|until| !until.is_zero()),
            parts: self.parts,
            hint: self.hint,
        })
    }
}
