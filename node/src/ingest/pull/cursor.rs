//! Which of the listed segments are new.
//!
//! Easy while the numbers rise. A number that falls is either an old copy of the playlist from some cache, to be
//! ignored, or an encoder that began again, to be followed: told apart by what is listed under the numbers.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::time::Duration;

use starling_proto::WallTime;
use tokio::time::Instant;

use super::media::{Listed, MediaPlaylist, TAGS_MAX};

/// Segments to begin with: enough for a player to start (three target durations, RFC 8216bis §6.3.3).
const BEGIN_MIN: usize = 3;
/// And no more than these, however short.
const BEGIN_MAX: usize = 6;
/// That many new segments at once mean we were away: go to the live edge instead of catching up.
const BACKLOG_MAX: usize = 2 * BEGIN_MAX;
/// Segments remembered, to notice file names and numbers that come again.
const REMEMBERED: usize = 512;
/// EXT-X-DATERANGE lines remembered, so that each is passed on once.
const DATERANGES_REMEMBERED: usize = 256;

/// Where we are in one rendition.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Number of the newest segment handed on.
    last: Option<u64>,
    /// The segment after it, of which parts were handed on.
    begun: Option<Begun>,
    /// Oldest number of the last playlist.
    window_start: u64,
    remembered: VecDeque<Remembered>,
    /// Rises with every restart and discontinuity: initialization sections may have changed under their name.
    generation: u32,
    /// Rises with every restart.
    run: u32,
    /// The next segment doesn't continue the previous one.
    broken: bool,
    behind: Option<Behind>,
    names_come_again: bool,
    dateranges: VecDeque<u64>,
    /// EXT-X-DATERANGE lines waiting for a segment.
    pending: Vec<String>,
}

/// What one reading of the playlist brought.
#[derive(Debug, Default, PartialEq)]
pub(super) struct News {
    /// In order; EXT-X-GAP left out. Only the last may be one that grows.
    pub(super) segments: Vec<New>,
    /// What an operator may want to know.
    pub(super) notes: Vec<Note>,
}

/// A segment to fetch, or what is new of it.
#[derive(Debug, PartialEq)]
pub(super) struct New {
    pub(super) listed: Listed,
    /// An initialization section fetched in another generation must be fetched again.
    pub(super) generation: u32,
    /// Its parts that are new, by their places in it.
    pub(super) parts: Range<usize>,
    pub(super) stage: Stage,
}

/// How much of a segment is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Parts only.
    Growing,
    /// All of it, after parts of it were handed on.
    Grown,
    /// All of it, at once.
    Whole,
}

/// Something out of the ordinary.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The encoder began again; its numbers went from the first to the second.
    Restarted { from: u64, to: u64 },
    /// Segments left the playlist unseen.
    Missed { count: u64 },
    /// The same URI (shown without its query) was listed under another number.
    NameComesAgain { uri: String },
    /// A copy of the playlist older than the last.
    OldCopy,
}

#[derive(Debug)]
struct Remembered {
    run: u32,
    number: u64,
    name: u64,
    path: u64,
    date: Option<WallTime>,
}

/// What was said of a segment when its first parts were handed on; the rest must not say otherwise.
#[derive(Debug)]
struct Begun {
    number: u64,
    generation: u32,
    discontinuity: bool,
    dateranges: Vec<String>,
    /// Parts handed on.
    parts: usize,
}

/// The playlist ends before what we had.
#[derive(Debug)]
struct Behind {
    since: Instant,
    newest: u64,
}

impl Cursor {
    /// Takes in a reading made at `now`.
    pub(super) fn take(&mut self, playlist: MediaPlaylist, now: Instant) -> News {
        let mut news = News::default();
        let (Some(first), Some(newest)) = (playlist.segments.first(), playlist.segments.last()) else { return news };
        let (first, newest) = (first.number, newest.number);
        if let Some(last) = self.last {
            match self.judge(&playlist, newest, last, now) {
                Judgement::Continues => {}
                Judgement::Old => {
                    news.notes.push(Note::OldCopy);
                    return news;
                }
                Judgement::Restarted => {
                    news.notes.push(Note::Restarted { from: last, to: newest });
                    self.restart();
                }
            }
        }
        self.window_start = first;
        self.behind = None;
        let begin = self.begin(&playlist, &mut news.notes);
        for listed in playlist.segments {
            if listed.number < begin {
                self.queue_dateranges(listed.dateranges);
            } else {
                self.add(listed, &mut news);
            }
        }
        if let Some(growing) = playlist.growing.filter(|growing| Some(growing.number) == self.next()) {
            self.grow(growing, &mut news);
        }
        self.queue_dateranges(playlist.trailing);
        news
    }

    /// Number of the segment to come.
    pub(super) fn next(&self) -> Option<u64> {
        self.last.and_then(|last| last.checked_add(1))
    }

    /// How many parts of it were handed on.
    pub(super) fn next_part(&self) -> usize {
        self.begun.as_ref().map_or(0, |begun| begun.parts)
    }

    /// Begins after a segment that somebody else handed on.
    pub(super) fn begin_after(&mut self, number: u64) {
        self.last = Some(number);
    }

    /// Forgets segments after `delivered`, which were taken but never delivered.
    pub(super) fn rewind(&mut self, delivered: Option<u64>) {
        let begun = self.begun.take().map(|begun| begun.number);
        // What there was of a segment that grew is delivered as a segment.
        let number = if begun.is_some() && begun == delivered { delivered } else { self.last.min(delivered) };
        self.last = number;
        self.remembered.retain(|known| number.is_some_and(|number| known.number <= number));
        self.broken = number.is_some();
    }

    fn judge(&mut self, playlist: &MediaPlaylist, newest: u64, last: u64, now: Instant) -> Judgement {
        let target = Duration::from_secs(playlist.target_duration.into());
        let shared = playlist.segments.iter().find(|listed| listed.number == newest.min(last));
        let date_moved = shared.is_some_and(|listed| self.date_moved(listed, target));
        if newest >= last {
            return if date_moved { Judgement::Restarted } else { Judgement::Continues };
        }
        let path_changed = shared.is_some_and(|listed| self.path_changed(listed));
        let before_window = newest < self.window_start;
        let behind = self.behind.get_or_insert(Behind { since: now, newest });
        // A cache that lags catches up or stays as it is; an encoder moves on from where it began.
        let lives = newest > behind.newest && now - behind.since >= 3 * target;
        if date_moved || path_changed || before_window || lives {
            return Judgement::Restarted;
        }
        Judgement::Old
    }

    fn known(&self, number: u64) -> Option<&Remembered> {
        self.remembered.iter().rev().find(|known| known.run == self.run && known.number == number)
    }

    /// The number was given to another moment. Allows for dates that are counted anew from the window's first segment.
    fn date_moved(&self, listed: &Listed, target: Duration) -> bool {
        match (self.known(listed.number).and_then(|known| known.date), listed.date) {
            (Some(before), Some(now)) => before.seconds_since(now).abs() > 1.5 * target.as_secs_f64(),
            _ => false,
        }
    }

    /// The number was given to another file. Queries are left out: tokens change there.
    fn path_changed(&self, listed: &Listed) -> bool {
        self.known(listed.number).is_some_and(|known| known.path != digest(&listed.url.path()))
    }

    fn restart(&mut self) {
        self.last = None;
        self.begun = None;
        self.run += 1;
        self.generation += 1;
        self.broken = true;
    }

    /// Number of the first segment to hand on.
    fn begin(&mut self, playlist: &MediaPlaylist, notes: &mut Vec<Note>) -> u64 {
        let Some(last) = self.last else { return live_edge(playlist) };
        let next = last.saturating_add(1);
        let new = playlist.segments.iter().filter(|listed| listed.number >= next).count();
        let first = playlist.segments.first().map_or(next, |listed| listed.number);
        let begin = if new > BACKLOG_MAX { live_edge(playlist) } else { next.max(first) };
        if begin > next {
            self.broken = true;
            self.generation += 1;
            notes.push(Note::Missed { count: begin - next });
        }
        begin
    }

    fn add(&mut self, mut listed: Listed, news: &mut News) {
        self.last = Some(listed.number);
        let name = name(&listed);
        if !self.names_come_again && self.remembered.iter().any(|known| known.name == name) {
            self.names_come_again = true;
            let uri = listed.uri.split('?').next().unwrap_or("").to_owned();
            news.notes.push(Note::NameComesAgain { uri });
        }
        let path = digest(&listed.url.path());
        let remembered = Remembered { run: self.run, number: listed.number, name, path, date: listed.date };
        push_bounded(&mut self.remembered, remembered, REMEMBERED);
        self.queue_dateranges(std::mem::take(&mut listed.dateranges));
        let begun = self.begun.take().filter(|begun| begun.number == listed.number && !listed.gap);
        if let Some(begun) = begun {
            let parts = begun.parts..listed.parts.len().max(begun.parts);
            news.segments.push(begun.more(listed, parts, Stage::Grown));
            return;
        }
        self.generation += u32::from(listed.discontinuity);
        if listed.gap {
            self.broken = true;
            return;
        }
        listed.discontinuity |= std::mem::take(&mut self.broken);
        listed.dateranges = std::mem::take(&mut self.pending);
        news.segments.push(New { listed, generation: self.generation, parts: 0..0, stage: Stage::Whole });
    }

    fn grow(&mut self, mut listed: Listed, news: &mut News) {
        self.queue_dateranges(std::mem::take(&mut listed.dateranges));
        let mut begun = match self.begun.take() {
            Some(begun) => begun,
            None => {
                self.generation += u32::from(listed.discontinuity);
                Begun {
                    number: listed.number,
                    generation: self.generation,
                    discontinuity: listed.discontinuity | std::mem::take(&mut self.broken),
                    dateranges: std::mem::take(&mut self.pending),
                    parts: 0,
                }
            }
        };
        let parts = begun.parts..listed.parts.len();
        if !parts.is_empty() {
            begun.parts = parts.end;
            news.segments.push(begun.more(listed, parts, Stage::Growing));
        }
        self.begun = Some(begun);
    }

    /// Each line rides with the next new segment, once, wherever in the playlist it stands.
    fn queue_dateranges(&mut self, lines: Vec<String>) {
        for line in lines {
            let digest = digest(&line);
            if self.dateranges.contains(&digest) || self.pending.len() >= TAGS_MAX {
                continue;
            }
            push_bounded(&mut self.dateranges, digest, DATERANGES_REMEMBERED);
            self.pending.push(line);
        }
    }
}

impl Begun {
    /// The segment, of which these parts are new.
    fn more(&self, mut listed: Listed, parts: Range<usize>, stage: Stage) -> New {
        listed.discontinuity = self.discontinuity;
        listed.dateranges.clone_from(&self.dateranges);
        New { listed, generation: self.generation, parts, stage }
    }
}

enum Judgement {
    Continues,
    Old,
    Restarted,
}

/// Number of the segment to begin with: three target durations before the end, within limits.
fn live_edge(playlist: &MediaPlaylist) -> u64 {
    let wanted = Duration::from_secs(3 * u64::from(playlist.target_duration));
    let mut number = 0;
    let mut length = Duration::ZERO;
    for (count, listed) in playlist.segments.iter().rev().take(BEGIN_MAX).enumerate() {
        if count >= BEGIN_MIN && length >= wanted {
            break;
        }
        number = listed.number;
        length += listed.duration;
    }
    number
}

/// What caches file it under.
fn name(listed: &Listed) -> u64 {
    digest(&(listed.url.as_str(), listed.range.as_ref().map(|range| range.start)))
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn push_bounded<T>(queue: &mut VecDeque<T>, value: T, max: usize) {
    if queue.len() == max {
        queue.pop_front();
    }
    queue.push_back(value);
}

#[cfg(test)]
mod tests;
