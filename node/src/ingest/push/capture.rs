//! When samples were captured.
//!
//! Media time runs evenly, arrivals jitter: the distance between the two is fixed by the first chunk, for all renditions
//! alike, and kept. It is measured again at a segment's start when a whole segment has proved it wrong by half a second:
//! the encoder paused, or somebody set a clock.

use std::time::Duration;

use starling_proto::WallTime;

use crate::ingest::chunks::Reference;

/// How wrong is wrong, microseconds.
const JUMP_US: i64 = 500_000;

/// The stream's clock.
#[derive(Debug, Default)]
pub(super) struct Capture {
    /// Wall clock time of media time zero, microseconds.
    zero: Option<i64>,
    /// The least that the chunks since said of it.
    said: Option<i64>,
}

/// A stretch of media as it was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Media time of its first sample.
    pub(super) start: Duration,
    /// How long it plays.
    pub(super) duration: Duration,
    /// When its last byte came.
    pub(super) arrived: WallTime,
    /// What its producer said, with the media time that is meant.
    pub(super) reference: Option<(Reference, Duration)>,
}

impl Capture {
    /// Media time has jumped: a chunk that contradicts what is known begins anew.
    pub(super) fn check(&mut self, seen: Seen) {
        if self.zero.is_some_and(|zero| is_jump(zero, seen.zero())) {
            *self = Self::default();
        }
    }

    /// Takes in a chunk.
    pub(super) fn see(&mut self, seen: Seen) {
        let zero = seen.zero();
        self.zero.get_or_insert(zero);
        self.said = Some(self.said.map_or(zero, |low| low.min(zero)));
    }

    /// A segment begins: the time to put the mistake right.
    pub(super) fn begin_segment(&mut self) {
        let (Some(zero), Some(low)) = (self.zero, self.said.take()) else { return };
        // All of it late, or some of it too early to be true.
        if is_jump(zero, low) {
            self.zero = Some(low);
        }
    }

    /// When the sample at a media time was captured; the epoch before the first chunk.
    pub(super) fn at(&self, media: Duration) -> WallTime {
        WallTime(self.zero.unwrap_or(0)) + media
    }
}

impl Seen {
    /// Wall clock time of media time zero.
    fn zero(self) -> i64 {
        match self.reference {
            Some((reference, at)) => {
                let spent = if reference.afterwards { self.duration } else { Duration::ZERO };
                micros_before(reference.wall, at.saturating_add(spent))
            }
            // It can't have come before it was over.
            None => micros_before(self.arrived, self.start.saturating_add(self.duration)),
        }
    }
}

fn is_jump(from: i64, to: i64) -> bool {
    to.saturating_sub(from).saturating_abs() > JUMP_US
}

fn micros_before(wall: WallTime, media: Duration) -> i64 {
    (wall - media).0
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: i64 = 1_800_000_000_000_000;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A chunk of 200 ms at `start`, seen so late (ms).
    fn chunk(start: u64, late: i64) -> Seen {
        let arrived = WallTime(WALL).shifted((start as i64 + 200 + late) * 1000);
        Seen { start: ms(start), duration: ms(200), arrived, reference: None }
    }

    #[test]
    fn the_first_chunk_sets_it_and_jitter_does_not_move_it() {
        let mut capture = Capture::default();
        capture.see(chunk(5000, 0));
        assert_eq!(capture.at(ms(5000)), WallTime(WALL) + ms(5000));
        for late in [300, 900, -100] {
            capture.see(chunk(5200, late));
        }
        capture.begin_segment();
        assert_eq!(capture.at(ms(7000)), WallTime(WALL) + ms(7000));
    }

    #[test]
    fn what_a_whole_segment_contradicts_is_put_right_at_the_next() {
        let mut capture = Capture::default();
        capture.see(chunk(0, 0));
        capture.begin_segment();
        capture.see(chunk(2000, 800));
        capture.see(chunk(2200, 700));
        assert_eq!(capture.at(ms(2000)), WallTime(WALL) + ms(2000));
        capture.begin_segment();
        assert_eq!(capture.at(ms(4000)), WallTime(WALL) + ms(4700));
        capture.see(chunk(4000, 0));
        capture.begin_segment();
        assert_eq!(capture.at(ms(6000)), WallTime(WALL) + ms(6000));
    }

    #[test]
    fn a_producers_word_beats_the_arrival() {
        let reference = Reference { wall: WallTime(WALL), media_time: 0, afterwards: false };
        let mut capture = Capture::default();
        capture.see(Seen { reference: Some((reference, ms(5000))), ..chunk(5000, 777) });
        assert_eq!(capture.at(ms(5000)), WallTime(WALL));
        let mut capture = Capture::default();
        let written = Reference { afterwards: true, ..reference };
        capture.see(Seen { reference: Some((written, ms(5000))), ..chunk(5000, 777) });
        assert_eq!(capture.at(ms(5200)), WallTime(WALL));
    }
}
