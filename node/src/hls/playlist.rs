//! Writes media playlists.

use std::fmt::Write;
use std::time::Duration;

use starling_proto::wire::{Catalogue, Rendition};
use starling_proto::{Epoch, SegmentNumber, WallTime};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::keys::{self, InForce};
use super::name;
use super::window::{Entry, Window};

/// RFC 8216bis §4.4.4.6, with the milliseconds it recommends.
const DATE_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The rendition a player that asks for the whole stream is given directly, without a multivariant playlist: the
/// first, if the source itself is a single media playlist.
///
/// A media playlist may stand wherever a multivariant one may, and every player takes it. It saves a request at start,
/// and a bandwidth (which a multivariant playlist must state) needn't be invented.
pub fn direct(catalogue: &Catalogue) -> Option<&Rendition> {
    catalogue.multivariant.is_none().then(|| catalogue.renditions.first()).flatten()
}

/// Whether a rendition is one a player shows, rather than one it plays beside (an EXT-X-MEDIA of its own, such as
/// separate audio or subtitles).
pub fn is_main(catalogue: &Catalogue, rendition: &Rendition) -> bool {
    let uri = format!("{}/{}", rendition.id, name::PLAYLIST);
    catalogue.multivariant.as_ref().is_none_or(|text| text.lines().any(|line| line.trim() == uri))
}

/// How a media playlist is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// From where the playlist is served to where the segments are: empty or `<rendition id>/`.
    pub prefix: &'a str,
    /// Nothing will follow.
    pub ended: bool,
    /// PART-HOLD-BACK, for a rendition with parts; never below three part targets (RFC 8216bis §4.4.3.8).
    pub hold_back: Duration,
    /// Leave out what the player has already, as far as CAN-SKIP-UNTIL allows (`_HLS_skip=YES`).
    pub skip: bool,
    /// The ends of the stream's other renditions.
    pub reports: &'a [Report],
}

/// Where another rendition's playlist ends, for EXT-X-RENDITION-REPORT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// URI of its playlist, from this one.
    pub uri: String,
    /// LAST-MSN.
    pub sequence: u64,
    /// LAST-PART.
    pub part: Option<usize>,
}

/// CAN-SKIP-UNTIL: this many target durations, the least allowed (RFC 8216bis §4.4.3.8).
const SKIP_UNTIL_TARGETS: u64 = 6;
/// Parts are listed up to this many target durations before the end (RFC 8216bis §4.4.4.9 asks for at least three).
const PARTS_TARGETS: u64 = 3;

/// The text of a rendition's media playlist. A rendition with parts gets the low-latency tags, which players that don't know
/// them ignore.
pub fn media(rendition: &Rendition, window: &Window, form: Form<'_>) -> String {
    let mut out = String::with_capacity(512 + 160 * window.entries.len());
    let target = target_duration(rendition, window);
    write_header(&mut out, rendition, window, target, form);
    let end = window.entries.last().map(Entry::end).unwrap_or_default();
    let skipped = if form.skip { skippable(window, target) } else { 0 };
    if skipped > 0 {
        let _ = writeln!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
    }
    let with_parts = |entry: &Entry| {
        rendition.part_target_us.is_some()
            && end.seconds_since(entry.end()) < (PARTS_TARGETS * target) as f64
            && !form.ended
    };
    let mut in_force = InForce::default();
    for entry in &window.entries[skipped..] {
        write_entry(&mut out, &mut in_force, rendition, entry, form.prefix, with_parts(entry));
    }
    if form.ended {
        out.push_str("#EXT-X-ENDLIST\n");
    } else if rendition.part_target_us.is_some() {
        write_tail(&mut out, rendition, window, form);
    }
    out
}

/// Where another rendition's playlist ends; `None` if it has no parts, or nothing to list yet.
pub fn report(rendition: &Rendition, window: &Window) -> Option<Report> {
    let (sequence, growing) = window.end().filter(|_| rendition.part_target_us.is_some())?;
    let last = window.entries.last()?.media.as_ref()?;
    let parts = growing.unwrap_or(last.announcement.parts.len());
    Some(Report { uri: format!("../{}/{}", rendition.id, name::PLAYLIST), sequence, part: parts.checked_sub(1) })
}

/// How many of the oldest entries a delta update leaves out: those beyond CAN-SKIP-UNTIL from the end.
fn skippable(window: &Window, target: u64) -> usize {
    let Some(end) = window.entries.last().map(Entry::end) else { return 0 };
    let old = |entry: &&Entry| end.seconds_since(entry.end()) > (SKIP_UNTIL_TARGETS * target) as f64;
    window.entries.iter().take_while(old).count()
}

fn target_duration(rendition: &Rendition, window: &Window) -> u64 {
    // §4.4.3.1: no EXTINF, rounded, exceeds it. It changes only if the source itself broke that promise.
    let longest = window.entries.iter().map(|entry| (entry.duration_us + 500_000) / 1_000_000).max().unwrap_or(0);
    longest.max(u64::from(rendition.target_duration))
}

fn write_header(out: &mut String, rendition: &Rendition, window: &Window, target: u64, form: Form<'_>) {
    let entries = &window.entries;
    let mapped = entries.iter().filter_map(|entry| entry.media.as_ref()).any(|media| media.init.is_some());
    let part_target = rendition.part_target_us.filter(|_| !form.ended);
    // RFC 8216bis §8: 3 for fractions in EXTINF, 6 for EXT-X-MAP, 9 for EXT-X-SKIP.
    let needed = match (part_target, mapped) {
        (Some(_), _) => 9,
        (None, true) => 6,
        (None, false) => 3,
    };
    let version = rendition.hls_version.max(needed);
    let sequence = entries.first().map_or(0, |entry| entry.position);
    let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target}");
    let _ = writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{sequence}");
    let _ = writeln!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", window.discontinuity_sequence);
    if let Some(us) = part_target.map(u64::from) {
        let hold_back = (form.hold_back.as_micros() as f64 / 1e6).max(3.0 * us as f64 / 1e6);
        let _ = writeln!(
            out,
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={hold_back:.3},CAN-SKIP-UNTIL={}.0",
            SKIP_UNTIL_TARGETS * target
        );
        let _ = writeln!(out, "#EXT-X-PART-INF:PART-TARGET={}", seconds(us));
    }
    for tag in &rendition.tags {
        let _ = writeln!(out, "{tag}");
    }
}

fn write_entry(
    out: &mut String,
    in_force: &mut InForce,
    rendition: &Rendition,
    entry: &Entry,
    prefix: &str,
    with_parts: bool,
) {
    if entry.discontinuity {
        out.push_str("#EXT-X-DISCONTINUITY\n");
    }
    if let Some(playable) = &entry.media {
        in_force.write_changes(out, playable, prefix);
        for tag in playable.announcement.tags.iter().filter(|tag| !keys::is_key(tag)) {
            let _ = writeln!(out, "{tag}");
        }
    }
    if let Some(date) = date_time(entry.start) {
        let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{date}");
    }
    if entry.media.is_none() {
        out.push_str("#EXT-X-GAP\n");
    }
    if let Some(playable) = entry.media.as_ref().filter(|_| with_parts) {
        for (index, part) in playable.announcement.parts.iter().enumerate() {
            let file = name::part(playable.named, index, &rendition.extension);
            let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
            let duration = seconds(u64::from(part.duration_us));
            let _ = writeln!(out, "#EXT-X-PART:DURATION={duration},URI=\"{prefix}{file}\"{independent}");
        }
    }
    if entry.growing {
        return;
    }
    let file = match &entry.media {
        Some(playable) => name::segment(playable.named, &rendition.extension),
        None => format!("gap-{}.{}", entry.position, rendition.extension),
    };
    let _ = writeln!(out, "#EXTINF:{},\n{prefix}{file}", seconds(entry.duration_us));
}

/// What comes next, and how far the other renditions are.
fn write_tail(out: &mut String, rendition: &Rendition, window: &Window, form: Form<'_>) {
    if let Some((named, index)) = next_part(rendition, window) {
        let file = name::part(named, index, &rendition.extension);
        let _ = writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{}{file}\"", form.prefix);
    }
    for report in form.reports {
        let part = report.part.map_or_else(String::new, |part| format!(",LAST-PART={part}"));
        let _ = writeln!(out, "#EXT-X-RENDITION-REPORT:URI=\"{}\",LAST-MSN={}{part}", report.uri, report.sequence);
    }
}

/// The part that most likely comes next: of the segment that grows, or the first of the next when it is about as long as the
/// one before it.
fn next_part(rendition: &Rendition, window: &Window) -> Option<((Epoch, SegmentNumber), usize)> {
    let mut newest = window.entries.iter().rev();
    let (last, before) = (newest.next()?, newest.next());
    let media = last.media.as_ref()?;
    let (epoch, number) = media.named;
    let full = before.map_or(u64::MAX, |entry| entry.duration_us);
    let half_a_part = u64::from(rendition.part_target_us?) / 2;
    if last.growing && last.duration_us + half_a_part < full {
        return Some(((epoch, number), media.announcement.parts.len()));
    }
    Some(((epoch, SegmentNumber(number.0 + 1)), 0))
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

fn date_time(at: WallTime) -> Option<String> {
    let date = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1000).ok()?;
    date.format(DATE_TIME).ok()
}

#[cfg(test)]
mod tests;
