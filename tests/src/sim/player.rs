//! A player: begins three segments behind the newest, fetches in order, plays, stalls when dry.

use std::collections::BTreeMap;
use std::sync::Arc;

use starling_proto::wire::Announcement;
use starling_proto::{SegmentNumber, Time};

/// Segments held back from the live edge (RFC 8216bis §6.3.3: three target durations).
const HOLD_BACK: usize = 3;

/// Its state. Capture times are simulated time, so lag is a difference.
#[derive(Clone, Debug, Default)]
pub struct Player {
    /// When the viewer came.
    pub joined: Time,
    /// Known segments: announcement and chunks still missing.
    segments: BTreeMap<SegmentNumber, (Arc<Announcement>, Vec<bool>)>,
    /// Where it begins.
    first: Option<SegmentNumber>,
    /// The segment being fetched.
    fetching: Option<SegmentNumber>,
    /// The segment to be played next, and when its turn comes; `None` before the first picture.
    next: Option<(SegmentNumber, Time)>,
    /// Since when it stalls.
    dry_since: Option<Time>,
    /// From joining to first picture.
    pub startup: Option<f64>,
    /// Stalls and their seconds.
    pub stalls: (u64, f64),
    /// Lag at each segment's turn, seconds, with when.
    pub lags: Vec<(Time, f64)>,
}

/// What the player wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wish {
    /// A segment; `true` for the first.
    Segment(SegmentNumber, bool),
    /// To be woken then.
    Wake(Time),
}

impl Player {
    /// The playlist lists a segment.
    pub fn listed(&mut self, announcement: &Arc<Announcement>) {
        let missing = vec![true; announcement.lengths.len()];
        self.segments.entry(announcement.segment).or_insert_with(|| (announcement.clone(), missing));
        while self.segments.len() > 40 {
            self.segments.pop_first();
        }
    }

    /// A chunk is here. Returns whether it was missing.
    pub fn arrived(&mut self, number: starling_proto::ChunkNumber) -> bool {
        let segment =
            self.segments.values_mut().rev().find_map(|(a, missing)| a.index_of(number).map(|i| &mut missing[i]));
        segment.is_some_and(|missing| std::mem::replace(missing, false))
    }

    /// Whether a chunk is here.
    pub fn holds(&self, number: starling_proto::ChunkNumber) -> bool {
        self.segments.values().rev().find_map(|(a, missing)| a.index_of(number).map(|i| !missing[i])).unwrap_or(false)
    }

    /// Bytes of media that passed the playhead between two moments, roughly: rate × time.
    pub fn playing(&self) -> bool {
        self.next.is_some()
    }

    /// Moves on: picks segments to fetch, starts, resumes, stalls.
    pub fn advance(&mut self, now: Time) -> Vec<Wish> {
        let mut wishes = Vec::new();
        self.fetch(&mut wishes);
        self.play(now, &mut wishes);
        wishes
    }

    fn fetch(&mut self, wishes: &mut Vec<Wish>) {
        loop {
            match self.fetching {
                None => {
                    if self.segments.len() < HOLD_BACK {
                        return;
                    }
                    let Some(first) = self.segments.keys().rev().nth(HOLD_BACK - 1).copied() else { return };
                    self.first = Some(first);
                    self.fetching = Some(first);
                    wishes.push(Wish::Segment(first, true));
                }
                Some(current) if self.complete(current) => {
                    let following = SegmentNumber(current.0 + 1);
                    if !self.segments.contains_key(&following) {
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
        if turn > now {
            return;
        }
        if self.complete(number) {
            if let Some(since) = self.dry_since.take() {
                self.stalls.1 += now.since(since).as_secs_f64();
            }
            self.show(number, now, wishes);
        } else if self.dry_since.is_none() {
            self.dry_since = Some(now);
            self.stalls.0 += 1;
        }
    }

    fn show(&mut self, number: SegmentNumber, now: Time, wishes: &mut Vec<Wish>) {
        let Some((announcement, _)) = self.segments.get(&number) else { return };
        let captured = Time(announcement.start.0.max(0) as u64);
        self.lags.push((now, now.since(captured).as_secs_f64()));
        let turn = now + announcement.duration();
        self.next = Some((SegmentNumber(number.0 + 1), turn));
        wishes.push(Wish::Wake(turn));
    }

    fn complete(&self, number: SegmentNumber) -> bool {
        self.segments.get(&number).is_some_and(|(_, missing)| missing.iter().all(|m| !m))
    }

    /// Seconds stalled so far, a running stall included.
    pub fn stalled_seconds(&self, now: Time) -> f64 {
        self.stalls.1 + self.dry_since.map_or(0.0, |since| now.since(since).as_secs_f64())
    }
}
