//! A media playlist, read segment by segment, with what each segment inherits from the lines before it.

mod part;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use starling_proto::WallTime;
use url::Url;

use super::LoadError;
use super::date;
use super::key::Keys;
use super::line::{attribute, is_repeatable, lines, tag};
use super::variables::{self, Variables};
use part::Ranges;
pub(super) use part::{Hint, ListedPart, PARTS_MAX};

/// Newest segments kept of one playlist; a DVR window of hours is of no use here.
const SEGMENTS_MAX: usize = 1024;

/// Newest finished segments whose parts are kept: no more need have any (RFC 8216bis §4.4.4.9), and one is enough to find
/// out what was missed of the segment that grew.
const WITH_PARTS_MAX: usize = 4;

/// Playlist-level tags kept, and tags kept before one segment.
pub(super) const TAGS_MAX: usize = 32;

/// One reading of a media playlist.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct MediaPlaylist {
    /// EXT-X-TARGETDURATION, seconds, 1 to 3600; the longest segment's if the tag is missing.
    pub(super) target_duration: u32,
    /// EXT-X-VERSION.
    pub(super) version: u8,
    /// Playlist-level tags that the standard knows, to repeat.
    pub(super) tags: Vec<String>,
    /// Playlist-level tags it doesn't know: those above EXT-X-MEDIA-SEQUENCE and its like. Further down they are taken
    /// to belong to the next segment.
    pub(super) unknown_tags: Vec<String>,
    /// The newest segments, at most [`SEGMENTS_MAX`], by rising number.
    pub(super) segments: Vec<Listed>,
    /// The segment after them, if parts of it are listed: without an address yet, and as long as they are.
    pub(super) growing: Option<Listed>,
    /// PART-TARGET (EXT-X-PART-INF), not zero.
    pub(super) part_target: Option<Duration>,
    /// The part that will be listed next.
    pub(super) hint: Option<Hint>,
    /// EXT-X-DATERANGE lines after the last segment.
    pub(super) trailing: Vec<String>,
    /// EXT-X-ENDLIST.
    pub(super) ended: bool,
    /// The server holds back a request for a segment that isn't there yet (CAN-BLOCK-RELOAD).
    pub(super) blocks: bool,
}

/// A segment as listed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listed {
    pub(super) number: u64,
    /// Where it is.
    pub(super) url: Url,
    /// The same as written.
    pub(super) uri: String,
    /// EXT-X-BYTERANGE.
    pub(super) range: Option<Range<u64>>,
    /// EXTINF.
    pub(super) duration: Duration,
    /// EXT-X-PROGRAM-DATE-TIME, its own or counted from a neighbour's.
    pub(super) date: Option<WallTime>,
    pub(super) discontinuity: bool,
    /// EXT-X-GAP: listed, but not there.
    pub(super) gap: bool,
    pub(super) init: Option<Arc<Map>>,
    pub(super) keys: Keys,
    /// EXT-X-DATERANGE lines before it.
    pub(super) dateranges: Vec<String>,
    /// Other lines to repeat before it.
    pub(super) tags: Vec<String>,
    /// Its parts, the first [`PARTS_MAX`] of them; of older segments none.
    pub(super) parts: Vec<ListedPart>,
}

impl Listed {
    /// Where in its resource it begins, bytes.
    pub(super) fn offset(&self) -> u64 {
        self.range.as_ref().map_or(0, |range| range.start)
    }
}

/// EXT-X-MAP: where an initialization section is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) url: Url,
    pub(super) range: Option<Range<u64>>,
}

impl MediaPlaylist {
    /// EXT-X-VERSION for the lines as they are repeated: an initialization vector spelt out needs 2.
    pub(super) fn hls_version(&self) -> u8 {
        let counts = self.segments.iter().any(|listed| listed.keys.count());
        self.version.max(if counts { 2 } else { 1 })
    }

    /// What the segments' file names should end in: as the newest does, if players know it.
    pub(super) fn extension(&self) -> String {
        const KNOWN: [&str; 16] = [
            "ts", "m2ts", "m4s", "mp4", "m4v", "m4a", "cmfv", "cmfa", "cmft", "aac", "ac3", "ec3", "mp3", "vtt",
            "webvtt", "m4f",
        ];
        let Some(newest) = self.segments.last() else { return "ts".to_owned() };
        let ending = newest.url.path().rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        let by_kind = || if newest.init.is_some() { "m4s" } else { "ts" }.to_owned();
        ending.filter(|ending| KNOWN.contains(&ending.as_str())).unwrap_or_else(by_kind)
    }
}

/// Reads `text`, found at `url`.
pub(super) fn parse(text: &str, url: &Url, imported: &Variables, limit: usize) -> Result<MediaPlaylist, LoadError> {
    let (text, _) = variables::resolve(text, url, imported, limit)?;
    let mut reading = Reading::new(url);
    for line in lines(&text) {
        match tag(line) {
            Some((name, value)) => reading.tag(line, name, value)?,
            None if line.starts_with('#') || line.trim().is_empty() => {}
            None => reading.uri(line),
        }
    }
    Ok(reading.finish())
}

struct Reading<'a> {
    base: &'a Url,
    playlist: MediaPlaylist,
    segments: VecDeque<Listed>,
    /// Number of the next segment.
    number: u64,
    /// What applies until it is changed.
    keys: Keys,
    init: Option<Arc<Map>>,
    bitrate: Option<String>,
    /// When the next segment begins, if that follows from an earlier date.
    date: Option<WallTime>,
    ranges: Ranges,
    part_ranges: Ranges,
    next: Next,
}

/// What applies to the next segment only.
#[derive(Default)]
struct Next {
    duration: Option<Duration>,
    byterange: Option<(u64, Option<u64>)>,
    discontinuity: bool,
    gap: bool,
    dateranges: Vec<String>,
    tags: Vec<String>,
    parts: Vec<ListedPart>,
}

impl<'a> Reading<'a> {
    fn new(base: &'a Url) -> Self {
        Self {
            base,
            playlist: MediaPlaylist::default(),
            segments: VecDeque::new(),
            number: 0,
            keys: Keys::default(),
            init: None,
            bitrate: None,
            date: None,
            ranges: Ranges::default(),
            part_ranges: Ranges::default(),
            next: Next::default(),
        }
    }

    fn tag(&mut self, line: &str, name: &str, value: &str) -> Result<(), LoadError> {
        let value = value.trim();
        match name {
            "EXTINF" => self.next.duration = Some(seconds(value.split(',').next().unwrap_or(""))),
            "EXT-X-BYTERANGE" => self.next.byterange = byterange(value),
            "EXT-X-DISCONTINUITY" => self.next.discontinuity = true,
            "EXT-X-GAP" => self.next.gap = true,
            "EXT-X-PROGRAM-DATE-TIME" => self.date_next(value),
            "EXT-X-DATERANGE" => keep(&mut self.next.dateranges, line),
            "EXT-X-BITRATE" => self.bitrate = is_repeatable(line).then(|| line.to_owned()),
            "EXT-X-KEY" => self.keys.set(line, value, self.base)?,
            "EXT-X-MAP" => self.init = Some(Arc::new(map(value, self.base)?)),
            "EXT-X-TARGETDURATION" => {
                self.playlist.target_duration = seconds(value).as_secs_f64().ceil() as u32;
                self.end_header();
            }
            "EXT-X-MEDIA-SEQUENCE" => {
                self.number = value.parse().unwrap_or(0);
                self.end_header();
            }
            "EXT-X-DISCONTINUITY-SEQUENCE" => self.end_header(),
            "EXT-X-SKIP" => {
                let skipped = attribute(value, "SKIPPED-SEGMENTS").and_then(|n| n.parse().ok()).unwrap_or(0);
                self.number = self.number.saturating_add(skipped);
            }
            "EXT-X-VERSION" => self.playlist.version = value.parse().unwrap_or(0),
            "EXT-X-SERVER-CONTROL" => self.playlist.blocks = attribute(value, "CAN-BLOCK-RELOAD") == Some("YES"),
            "EXT-X-PART-INF" => {
                let target = attribute(value, "PART-TARGET").map(seconds);
                self.playlist.part_target = target.filter(|target| !target.is_zero());
            }
            "EXT-X-PART" => {
                let part = ListedPart::read(value, self.base, &mut self.part_ranges);
                if self.next.parts.len() < PARTS_MAX {
                    self.next.parts.push(part);
                }
            }
            "EXT-X-PRELOAD-HINT" => self.playlist.hint = Hint::read(value, self.base).or(self.playlist.hint.take()),
            "EXT-X-ENDLIST" => self.playlist.ended = true,
            "EXT-X-INDEPENDENT-SEGMENTS" | "EXT-X-START" | "EXT-X-I-FRAMES-ONLY" => {
                keep(&mut self.playlist.tags, line);
            }
            // Of the playlist as a whole, which ours is not: it has another window and other parts.
            "EXTM3U" | "EXT-X-PLAYLIST-TYPE" | "EXT-X-ALLOW-CACHE" | "EXT-X-RENDITION-REPORT" => {}
            _ => keep(&mut self.next.tags, line),
        }
        Ok(())
    }

    /// Unknown tags above the fixed header tags belong to the playlist.
    fn end_header(&mut self) {
        if self.segments.is_empty() && self.next.duration.is_none() {
            self.playlist.unknown_tags.append(&mut self.next.tags);
            self.playlist.unknown_tags.truncate(TAGS_MAX);
        }
    }

    fn date_next(&mut self, value: &str) {
        let Some(date) = date::parse(value) else { return };
        if self.date.is_none() {
            date_backwards(&mut self.segments, date);
        }
        self.date = Some(date);
    }

    fn uri(&mut self, line: &str) {
        let next = std::mem::take(&mut self.next);
        // EXTINF is what makes a line a segment, RFC 8216bis §4.4.4.1.
        let Some(duration) = next.duration else { return };
        let range = next.byterange.map(|(len, offset)| self.ranges.next(line, len, offset));
        let joined = self.base.join(line);
        let gap = next.gap || joined.is_err();
        let url = joined.unwrap_or_else(|_| self.base.clone());
        let listed = Listed { url, uri: line.to_owned(), range, gap, ..self.listed(next, duration) };
        self.number = listed.number.saturating_add(1);
        self.date = listed.date.map(|date| date + duration);
        self.segments.push_back(listed);
        if self.segments.len() > SEGMENTS_MAX {
            self.segments.pop_front();
        }
        if let Some(older) = self.segments.iter_mut().rev().nth(WITH_PARTS_MAX) {
            older.parts = Vec::new();
        }
    }

    /// The next segment, with all it has but an address.
    fn listed(&self, next: Next, duration: Duration) -> Listed {
        Listed {
            number: self.number,
            url: self.base.clone(),
            uri: String::new(),
            range: None,
            duration,
            date: self.date,
            discontinuity: next.discontinuity,
            gap: false,
            init: self.init.clone(),
            keys: self.keys.clone(),
            dateranges: next.dateranges,
            tags: self.bitrate.iter().cloned().chain(next.tags).collect(),
            parts: next.parts,
        }
    }

    fn finish(mut self) -> MediaPlaylist {
        let mut next = std::mem::take(&mut self.next);
        let growing = (!next.parts.is_empty()).then(|| {
            let so_far = next.parts.iter().map(|part| part.duration).sum();
            self.listed(std::mem::take(&mut next), so_far)
        });
        let mut playlist = self.playlist;
        playlist.segments = self.segments.into();
        playlist.growing = growing;
        playlist.trailing = next.dateranges;
        if playlist.target_duration == 0 {
            let longest = playlist.segments.iter().map(|s| s.duration).max().unwrap_or_default();
            playlist.target_duration = longest.as_secs_f64().round() as u32;
        }
        playlist.target_duration = playlist.target_duration.max(1);
        playlist.version = playlist.version.max(1);
        playlist
    }
}

/// Segments before the first date count back from it.
fn date_backwards(segments: &mut VecDeque<Listed>, mut date: WallTime) {
    for segment in segments.iter_mut().rev() {
        date = date - segment.duration;
        segment.date = Some(date);
    }
}

fn keep(tags: &mut Vec<String>, line: &str) {
    if tags.len() < TAGS_MAX && is_repeatable(line) {
        tags.push(line.to_owned());
    }
}

/// Decimal seconds, 0 to an hour; 0 for anything else.
fn seconds(value: &str) -> Duration {
    let seconds = value.trim().parse::<f64>().ok().filter(|s| s.is_finite()).unwrap_or(0.0);
    Duration::from_micros((seconds.clamp(0.0, 3600.0) * 1e6).round() as u64)
}

/// `<length>[@<offset>]`.
fn byterange(value: &str) -> Option<(u64, Option<u64>)> {
    match value.trim().split_once('@') {
        Some((len, offset)) => Some((len.parse().ok()?, Some(offset.parse().ok()?))),
        None => Some((value.trim().parse().ok()?, None)),
    }
}

fn map(list: &str, base: &Url) -> Result<Map, LoadError> {
    let uri = attribute(list, "URI").unwrap_or("");
    let url = base.join(uri).map_err(|_| LoadError::bad_uri(uri))?;
    let range = attribute(list, "BYTERANGE").and_then(byterange);
    let range = range.map(|(len, offset)| offset.unwrap_or(0)..offset.unwrap_or(0).saturating_add(len));
    Ok(Map { url, range })
}

#[cfg(test)]
mod tests;
