//! Joining chunks into parts: as many as fit into the part target, none of them cut.

use std::ops::Range;

use crate::ingest::chunks::Chunk;

/// A part's place in its segment and in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    /// Where in the segment it is.
    pub(super) range: Range<usize>,
    /// Decode time of its first sample, ticks.
    pub(super) start: u64,
    /// How long it plays, ticks.
    pub(super) ticks: u64,
    /// Decoding can begin with it.
    pub(super) independent: bool,
}

/// The part in progress.
#[derive(Debug)]
pub(super) struct Joiner {
    /// A part's longest duration, ticks; a longer chunk is a part of its own.
    target: u64,
    pending: Option<Joined>,
}

impl Joiner {
    pub(super) fn new(target: u64) -> Self {
        Self { target, pending: None }
    }

    /// Takes the next chunk; what is finished by it: one that no longer had room for it, and one that won't have room for
    /// another like it.
    pub(super) fn push(&mut self, chunk: &Chunk, finished: &mut Vec<Joined>) {
        let ticks = chunk.run.map_or(0, |run| run.end - run.start);
        if let Some(pending) = self.pending.take_if(|pending| pending.ticks.saturating_add(ticks) > self.target) {
            finished.push(pending);
        }
        let pending = match self.pending.take() {
            Some(pending) => Joined {
                range: pending.range.start..chunk.range.end,
                ticks: pending.ticks.saturating_add(ticks),
                ..pending
            },
            None => Joined {
                range: chunk.range.clone(),
                start: chunk.run.map_or(0, |run| run.start),
                ticks,
                independent: chunk.run.is_some_and(|run| run.sync),
            },
        };
        if pending.ticks.saturating_add(ticks) > self.target {
            finished.push(pending);
        } else {
            self.pending = Some(pending);
        }
    }

    /// The last one of the segment.
    pub(super) fn flush(&mut self) -> Option<Joined> {
        self.pending.take()
    }
}

/// PART-TARGET for parts made of chunks as long as the first, ticks.
///
/// No part may be longer, and none but the last of a segment shorter than 85 % of it (RFC 8216bis §4.4.4.9); 15 % above
/// the expected length leave room for chunks that differ by an audio frame.
pub(super) fn part_target(first_chunk: u64, longest: u64) -> u64 {
    if first_chunk == 0 {
        return longest.max(1);
    }
    let expected = first_chunk.saturating_mul((longest / first_chunk).max(1));
    let roomy = expected.saturating_add(expected / 100 * 15 + expected % 100 * 15 / 100);
    if first_chunk > longest { roomy } else { roomy.min(longest) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::Run;

    /// Parts of chunks of these durations, in ticks.
    fn parts(target: u64, durations: &[u64]) -> Vec<(Range<usize>, u64, u64, bool)> {
        let mut joiner = Joiner::new(target);
        let (mut finished, mut time) = (Vec::new(), 1000);
        for (index, ticks) in durations.iter().enumerate() {
            let run = Some(Run { start: time, end: time + ticks, sync: index == 0 });
            joiner.push(&Chunk { range: index * 10..index * 10 + 10, run, reference: None }, &mut finished);
            time += ticks;
        }
        finished.extend(joiner.flush());
        finished.into_iter().map(|part| (part.range, part.start, part.ticks, part.independent)).collect()
    }

    #[test]
    fn frames_are_joined_up_to_the_target() {
        let six = [(0..60, 1000, 240, true), (60..120, 1240, 240, false), (120..140, 1480, 80, false)];
        assert_eq!(parts(250, &[40; 14]), six);
        assert_eq!(parts(250, &[125; 4]), [(0..20, 1000, 250, true), (20..40, 1250, 250, false)]);
    }

    #[test]
    fn a_chunk_that_fills_a_part_goes_at_once() {
        let mut joiner = Joiner::new(250);
        let mut finished = Vec::new();
        let run = Some(Run { start: 0, end: 200, sync: true });
        joiner.push(&Chunk { range: 0..10, run, reference: None }, &mut finished);
        assert_eq!(finished.len(), 1);
    }

    #[test]
    fn long_chunks_stay_whole_and_alone() {
        let alone = [(0..10, 1000, 40, true), (10..20, 1040, 500, false), (20..30, 1540, 40, false)];
        assert_eq!(parts(250, &[40, 500, 40]), alone);
    }

    #[test]
    fn the_target_fits_what_comes() {
        assert_eq!(part_target(40, 250), 250);
        assert_eq!(part_target(200, 250), 230);
        assert_eq!(part_target(500, 250), 575);
        assert_eq!(part_target(0, 250), 250);
        assert_eq!(part_target(u64::MAX, 250), u64::MAX);
        for (chunk, longest) in [(200, 250), (40, 250), (500, 250), (100, 250), (125, 250), (167, 250)] {
            let (target, part) = (part_target(chunk, longest), chunk * (longest / chunk).max(1));
            assert!(part <= target && part * 100 >= target * 85, "{chunk}: {part} of {target}");
        }
    }
}
