//! Which segments a playlist lists: complete runs of numbers, nothing a player couldn't fetch.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use starling_proto::wire::Announcement;
use starling_proto::{Epoch, RenditionId, SegmentNumber, WallTime};

use crate::media::{Listed, Media};

/// The entries of a media playlist, oldest first, positions rising by exactly one.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// EXT-X-DISCONTINUITY-SEQUENCE.
    pub discontinuity_sequence: u64,
    /// One for each media sequence number.
    pub entries: Vec<Entry>,
}

/// One line of a media playlist.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its media sequence number.
    pub position: u64,
    /// When its first frame was captured.
    pub start: WallTime,
    /// How long it plays, microseconds.
    pub duration_us: u64,
    /// Whether EXT-X-DISCONTINUITY stands before it.
    pub discontinuity: bool,
    /// What is to be fetched; `None` for a hole, which is listed as EXT-X-GAP.
    pub media: Option<Playable>,
    /// It still grows, so that only its parts can be listed. Only ever the last entry.
    pub growing: bool,
}

/// A segment with all a player needs to play it.
#[derive(Clone, Debug)]
pub struct Playable {
    /// The segment.
    pub announcement: Arc<Announcement>,
    /// What its file is named after.
    pub named: (Epoch, SegmentNumber),
    /// The bytes of its initialization section, if it needs one.
    pub init: Option<Bytes>,
}

/// What may be listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Nothing below this position: a media sequence number never falls from one load to the next.
    pub from: u64,
    /// Only segments all of whose chunks are here.
    pub complete_only: bool,
    /// Nothing will follow the newest segment.
    pub ended: bool,
}

/// At least this many segments are listed if there are as many: players begin three target durations before the end
/// (RFC 8216bis §6.3.3), and some of those who poll late come for the ones before. A guess.
const LISTED_MIN: usize = 6;

/// A run of missing segments up to this long is listed as gaps; a longer one makes a new beginning. A guess.
const HOLE_MAX: u64 = 16;

/// Chooses what to list of a rendition.
pub fn window(media: &Media, rendition: RenditionId, rules: Rules) -> Window {
    let listing = media.listing(rendition);
    // What leaves the playlist must stay available for as long as the playlist is (RFC 8216bis §6.2.2), so only the
    // newer half of what is held is listed.
    let retired = (listing.len() / 2).min(listing.len().saturating_sub(LISTED_MIN));
    let mut window = Window::default();
    for listed in settle(listing).into_iter().skip(retired).skip_while(|listed| listed.position < rules.from) {
        window.append(listed, |epoch, index| media.init(rendition, epoch, index), rules);
    }
    window.drop_unsettled_end(rules);
    window
}

/// Leaves at most one segment that grows, at the end. One that others follow grows no more: it is as long as it was said to
/// be, if the next begins where it ends or if so much has come since that the rest must be lost; until then nothing beyond it
/// is listed, since what is listed can't be taken back.
fn settle(mut listing: Vec<Listed>) -> Vec<Listed> {
    let ends = |at: usize, listing: &[Listed]| {
        let (this, next) = (&listing[at].announcement, &listing[at + 1].announcement);
        let another = this.epoch != next.epoch;
        another || this.end_chunk() == next.first_chunk || listing[at + 1..].iter().any(|later| later.complete)
    };
    let last = listing.len().saturating_sub(1);
    let cut = (0..last).find(|at| listing[*at].announcement.growing && !ends(*at, &listing));
    listing.truncate(cut.map_or(listing.len(), |at| at + 1));
    listing
}

impl Window {
    /// How many of the entries can be fetched as whole segments.
    pub fn playable(&self) -> usize {
        self.entries.iter().filter(|entry| entry.media.is_some() && !entry.growing).count()
    }

    /// Media sequence number of the newest segment listed, and how many parts of it are; of one that grows no more, `None`.
    pub fn end(&self) -> Option<(u64, Option<usize>)> {
        let last = self.entries.last()?;
        let parts = last.media.as_ref().filter(|_| last.growing).map(|media| media.announcement.parts.len());
        Some((last.position, parts))
    }

    /// Leaves parts out at the end that `is_held` says no to, at most `most` of them: a player that begins must not count on
    /// what was only just said to exist.
    pub fn without_fresh_parts(&mut self, most: Duration, is_held: impl Fn(&Announcement, usize) -> bool) {
        let mut left_out = Duration::ZERO;
        let mut settled = |media: &Announcement, index: usize| {
            left_out += Duration::from_micros(media.parts[index].duration_us.into());
            left_out > most || is_held(media, index)
        };
        while let [before @ .., last] = &mut self.entries[..] {
            let Some(media) = last.media.as_mut().filter(|media| !media.announcement.parts.is_empty()) else { return };
            let whole = media.announcement.clone();
            let kept = (0..whole.parts.len()).rev().find(|index| settled(&whole, *index)).map_or(0, |index| index + 1);
            if kept == whole.parts.len() {
                return;
            }
            if kept > 0 || before.is_empty() {
                let shorter = whole.first_parts(kept.max(1));
                (last.duration_us, last.growing) = (shorter.duration_us, true);
                media.announcement = Arc::new(shorter);
                return;
            }
            self.entries.pop();
        }
    }

    fn append(&mut self, listed: Listed, init: impl Fn(Epoch, u16) -> Option<Bytes>, rules: Rules) {
        let entry = Entry::of(&listed, init, rules);
        match self.entries.last() {
            None if entry.media.is_none() => return,
            None => self.discontinuity_sequence = listed.discontinuity_sequence,
            Some(last) if listed.position - last.position - 1 > HOLE_MAX => {
                self.entries.clear();
                self.discontinuity_sequence = listed.discontinuity_sequence;
            }
            Some(last) => {
                let gaps = gaps(last, &entry);
                self.entries.extend(gaps);
            }
        }
        self.entries.push(entry);
    }

    /// The end of a playlist can't be taken back, so it holds nothing that may yet turn out otherwise: no segment
    /// that isn't playable yet, and none behind a hole before one more has come, for statements overtake each other.
    fn drop_unsettled_end(&mut self, rules: Rules) {
        let behind_hole = matches!(&self.entries[..], [.., before, _] if before.media.is_none());
        if behind_hole && !rules.ended {
            self.entries.pop();
        }
        while self.entries.last().is_some_and(|entry| entry.media.is_none()) {
            self.entries.pop();
        }
        if let Some(last) = self.entries.last_mut() {
            last.growing = last.media.as_ref().is_some_and(|media| media.announcement.growing);
        }
    }
}

impl Entry {
    fn of(listed: &Listed, init: impl Fn(Epoch, u16) -> Option<Bytes>, rules: Rules) -> Self {
        let announcement = &listed.announcement;
        let needed = announcement.init.map(|index| init(announcement.epoch, index));
        // What grows is listed by parts, and whoever announces a part has it or waits for it.
        let playable = (listed.complete || announcement.growing || !rules.complete_only) && needed != Some(None);
        Self {
            position: listed.position,
            start: announcement.start,
            duration_us: announcement.duration_us,
            discontinuity: listed.discontinuity,
            media: playable.then(|| Playable {
                announcement: announcement.clone(),
                named: listed.named,
                init: needed.flatten(),
            }),
            growing: false,
        }
    }

    /// When its last frame was captured, as far as it goes.
    pub fn end(&self) -> WallTime {
        self.start + std::time::Duration::from_micros(self.duration_us)
    }
}

/// Entries for the missing positions between two, sharing the time between them; if the clock doesn't tell, each is
/// as long as its predecessor.
fn gaps(before: &Entry, after: &Entry) -> Vec<Entry> {
    let missing = after.position.saturating_sub(before.position + 1);
    let between = u64::try_from(after.start.0.saturating_sub(before.end().0)).unwrap_or(0);
    let share = between / missing.max(1);
    let plausible = !after.discontinuity && (1..=2 * before.duration_us).contains(&share);
    let duration_us = if plausible { share } else { before.duration_us };
    let gap = |index: u64| Entry {
        position: before.position + 1 + index,
        start: before.end() + std::time::Duration::from_micros(index * duration_us),
        duration_us,
        discontinuity: false,
        media: None,
        growing: false,
    };
    (0..missing).map(gap).collect()
}

#[cfg(test)]
mod tests;
