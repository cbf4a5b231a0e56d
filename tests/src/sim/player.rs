//! A player: begins three segments behind the newest (in low latency: so many seconds), fetches in order, plays, stalls when
//! dry.

use std::collections::VecDeque;
use std::sync::Arc;

use starling_proto::wire::Announcement;
use starling_proto::{ChunkNumber, SegmentNumber, Time};

/// Segments held back from the live edge (RFC 8216bis §6.3.3: three target durations).
const HOLD_BACK: usize = 3;
/// In low latency: seconds held back from the newest part, as the node's gateway asks (`PART_HOLD_BACK`).
const PART_HOLD_BACK: f64 = 1.8;
/// Segments remembered; more than any window.
const REMEMBERED: usize = 40;

/// Its state. Capture times are simulated time, so lag is a difference.
#[derive(Clone, Debug, Default)]
pub struct Player {
    /// When the viewer came.
    pub joined: Time,
    /// Known segments by rising number, and which of their chunks are missing.
    segments: VecDeque<(Arc<Announcement>, u64)>,
    /// Where it begins.
    first: Option<SegmentNumber>,
    /// The segment being fetched.
    fetching: Option<SegmentNumber>,
    /// The segment to be played next, and when its turn comes; `None` before the first picture.
    next: Option<(SegmentNumber, Time)>,
    /// In low latency, where play is: the next chunk, each a part.
    next_part: Option<(ChunkNumber, Time)>,
    /// Since when it stalls.
    dry_since: Option<Time>,
    /// From joining to first picture.
    pub startup: Option<f64>,
    /// Stalls and their seconds.
    pub stalls: (u64, f64),
}

/// What the player does or wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wish {
    /// A segment; `true` for the first.
    Segment(SegmentNumber, bool),
    /// To be woken then.
    Wake(Time),
    /// It shows a picture this many seconds old.
    Shows(f64),
}

impl Player {
    /// The playlist lists a segment. Returns whether it was unknown.
    pub fn listed(&mut self, announcement: &Arc<Announcement>) -> bool {
        let at = self.segments.partition_point(|(a, _)| a.segment < announcement.segment);
        if let Some((known, missing)) = self.segments.get_mut(at).filter(|(a, _)| announcement.continues(a)) {
            *missing |= positions(announcement) & !positions(known);
            *known = announcement.clone();
            return true;
        }
        let known = self.segments.get(at).is_some_and(|(a, _)| a.segment == announcement.segment);
        let forgotten = at == 0 && self.segments.len() >= REMEMBERED;
        if known || forgotten {
            return false;
        }
        self.segments.insert(at, (announcement.clone(), positions(announcement)));
        if self.segments.len() > REMEMBERED {
            self.segments.pop_front();
        }
        true
    }

    /// Whether the segment of a chunk is listed.
    pub fn knows(&self, number: ChunkNumber) -> bool {
        self.place(number).is_some()
    }

    /// A chunk is here. Returns whether it was missing.
    pub fn arrived(&mut self, number: ChunkNumber) -> bool {
        let Some((at, index)) = self.place(number) else { return false };
        let missing = &mut self.segments[at].1;
        let fresh = *missing >> index & 1 == 1;
        *missing &= !(1 << index);
        fresh
    }

    /// Whether a chunk is here.
    pub fn holds(&self, number: ChunkNumber) -> bool {
        self.place(number).is_some_and(|(at, index)| self.segments[at].1 >> index & 1 == 0)
    }

    fn place(&self, number: ChunkNumber) -> Option<(usize, usize)> {
        let newest_first = self.segments.iter().enumerate().rev();
        newest_first
            .take_while(|(_, (a, _))| a.end_chunk() > number)
            .find_map(|(at, (a, _))| Some((at, a.index_of(number)?)))
    }

    /// How many chunks of a segment are announced, as far as it knows.
    pub fn announced(&self, number: SegmentNumber) -> usize {
        self.find(number).map_or(0, |(a, _)| a.lengths.len())
    }

    /// Whether the picture moves, or did.
    pub fn playing(&self) -> bool {
        self.next.is_some() || self.next_part.is_some()
    }

    /// Moves on: picks segments to fetch, starts, resumes, stalls.
    pub fn advance(&mut self, now: Time, wishes: &mut Vec<Wish>) {
        if self.segments.back().is_some_and(|(a, _)| !a.parts.is_empty()) {
            return self.advance_by_parts(now, wishes);
        }
        self.fetch(wishes);
        self.play(now, wishes);
    }

    /// The first segment wanted is the one the hold-back lies in; play begins there once all of it up to there is here.
    fn advance_by_parts(&mut self, now: Time, wishes: &mut Vec<Wish>) {
        let Some((newest, _)) = self.segments.back() else { return };
        let edge = newest.end().0 - (PART_HOLD_BACK * 1e6) as i64;
        if self.fetching != Some(newest.segment) {
            let holds = |a: &Announcement| a.start.0 <= edge;
            let first = self.segments.iter().rev().find(|(a, _)| holds(a)).map(|(a, _)| a.segment);
            let Some(first) = self.first.or(first) else { return };
            let after = self.fetching.map_or(first.0, |last| last.0 + 1);
            wishes.extend((after..=newest.segment.0).map(|n| Wish::Segment(SegmentNumber(n), n == first.0)));
            (self.first, self.fetching) = (Some(first), Some(newest.segment));
        }
        self.play_chunks(now, edge, wishes);
    }

    /// `edge`: where the hold-back ends, as the media's time.
    fn play_chunks(&mut self, now: Time, edge: i64, wishes: &mut Vec<Wish>) {
        let Some((number, turn)) = self.next_part else {
            let Some((first, missing)) = self.first.and_then(|first| self.find(first)) else { return };
            // What it holds without a gap from where decoding begins.
            let held = (missing.trailing_zeros() as usize).min(first.lengths.len());
            let chunk = chunk_us(first).max(1) as i64;
            let begin = ((edge - first.start.0) / chunk).clamp(0, first.lengths.len() as i64 - 1);
            let begins = ChunkNumber(first.first_chunk.0 + begin as u64);
            if held > begin as usize {
                self.startup = Some(now.since(self.joined).as_secs_f64());
                self.show_chunk(begins, now, wishes);
            }
            return;
        };
        if self.goes_on(now, turn, |player| player.holds(number)) {
            self.show_chunk(number, now, wishes);
        }
    }

    fn show_chunk(&mut self, number: ChunkNumber, now: Time, wishes: &mut Vec<Wish>) {
        let Some((at, index)) = self.place(number) else { return };
        let announcement = &self.segments[at].0;
        let chunk = chunk_us(announcement);
        let captured = Time(announcement.start.0.max(0) as u64 + chunk * index as u64);
        wishes.push(Wish::Shows(now.since(captured).as_secs_f64()));
        let turn = Time(now.0 + chunk);
        self.next_part = Some((ChunkNumber(number.0 + 1), turn));
        wishes.push(Wish::Wake(turn));
    }

    /// A stall, if there is one, is over: play goes on, or the viewer leaves.
    pub fn end_stall(&mut self, now: Time) {
        self.stalls.1 = self.stalled_seconds(now);
        self.dry_since = None;
    }

    fn fetch(&mut self, wishes: &mut Vec<Wish>) {
        loop {
            match self.fetching {
                None => {
                    let Some(at) = self.segments.len().checked_sub(HOLD_BACK) else { return };
                    let first = self.segments[at].0.segment;
                    self.first = Some(first);
                    self.fetching = Some(first);
                    wishes.push(Wish::Segment(first, true));
                }
                Some(current) if self.complete(current) => {
                    let following = SegmentNumber(current.0 + 1);
                    if self.find(following).is_none() {
                        return;
                    }
                    self.fetching = Some(following);
                    wishes.push(Wish::Segment(following, false));
                }
                Some(_) => return,
            }
        }
    }

    fn play(&mut self, now: Time, wishes: &mut Vec<Wish>) {
        let Some((number, turn)) = self.next else {
            if let Some(first) = self.first.filter(|f| self.complete(*f)) {
                self.startup = Some(now.since(self.joined).as_secs_f64());
                self.show(first, now, wishes);
            }
            return;
        };
        if self.goes_on(now, turn, |player| player.complete(number)) {
            self.show(number, now, wishes);
        }
    }

    /// Whether what comes next is shown now: its turn has come, and it is here. If it isn't, the player stalls.
    fn goes_on(&mut self, now: Time, turn: Time, is_here: impl FnOnce(&Self) -> bool) -> bool {
        if turn > now {
            return false;
        }
        let here = is_here(self);
        if here {
            self.end_stall(now);
        } else if self.dry_since.is_none() {
            self.dry_since = Some(now);
            self.stalls.0 += 1;
        }
        here
    }

    fn show(&mut self, number: SegmentNumber, now: Time, wishes: &mut Vec<Wish>) {
        let Some((announcement, _)) = self.find(number) else { return };
        let captured = Time(announcement.start.0.max(0) as u64);
        wishes.push(Wish::Shows(now.since(captured).as_secs_f64()));
        let turn = now + announcement.duration();
        self.next = Some((SegmentNumber(number.0 + 1), turn));
        wishes.push(Wish::Wake(turn));
    }

    fn find(&self, number: SegmentNumber) -> Option<&(Arc<Announcement>, u64)> {
        self.segments.iter().rev().find(|(a, _)| a.segment == number)
    }

    fn complete(&self, number: SegmentNumber) -> bool {
        self.find(number).is_some_and(|(a, missing)| *missing == 0 && !a.growing)
    }

    /// Seconds stalled so far, a running stall included.
    pub fn stalled_seconds(&self, now: Time) -> f64 {
        self.stalls.1 + self.dry_since.map_or(0.0, |since| now.since(since).as_secs_f64())
    }
}

/// How long a chunk of a segment lasts, microseconds: all are alike here.
fn chunk_us(announcement: &Announcement) -> u64 {
    announcement.duration_us / announcement.chunk_count().max(1)
}

/// A bit for each chunk of a segment, as far as it is announced.
fn positions(announcement: &Announcement) -> u64 {
    u64::MAX >> (64 - announcement.lengths.len().clamp(1, 64))
}
