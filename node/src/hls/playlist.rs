//! Writes media playlists.

use std::fmt::Write;

use starling_proto::WallTime;
use starling_proto::wire::{Catalogue, Rendition};
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

/// The text of a rendition's media playlist. `prefix` leads from where the playlist is served to where the segments
/// are: empty or `<rendition id>/`.
pub fn media(rendition: &Rendition, window: &Window, prefix: &str, ended: bool) -> String {
    let mut out = String::with_capacity(512 + 160 * window.entries.len());
    write_header(&mut out, rendition, window);
    let mut in_force = InForce::default();
    for entry in &window.entries {
        write_entry(&mut out, &mut in_force, rendition, entry, prefix);
    }
    if ended {
        out.push_str("#EXT-X-ENDLIST\n");
    }
    out
}

fn write_header(out: &mut String, rendition: &Rendition, window: &Window) {
    let entries = &window.entries;
    let mapped = entries.iter().filter_map(|entry| entry.media.as_ref()).any(|media| media.init.is_some());
    // RFC 8216bis §8: 3 for fractions in EXTINF, 6 for EXT-X-MAP.
    let version = rendition.hls_version.max(if mapped { 6 } else { 3 });
    // §4.4.3.1: no EXTINF, rounded, exceeds it. It changes only if the source itself broke that promise.
    let longest = entries.iter().map(|entry| (entry.duration_us + 500_000) / 1_000_000).max().unwrap_or(0);
    let target = longest.max(u64::from(rendition.target_duration));
    let sequence = entries.first().map_or(0, |entry| entry.position);
    let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target}");
    let _ = writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{sequence}");
    let _ = writeln!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", window.discontinuity_sequence);
    for tag in &rendition.tags {
        let _ = writeln!(out, "{tag}");
    }
}

fn write_entry(out: &mut String, in_force: &mut InForce, rendition: &Rendition, entry: &Entry, prefix: &str) {
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
    let (seconds, micros) = (entry.duration_us / 1_000_000, entry.duration_us % 1_000_000);
    let file = match &entry.media {
        Some(playable) => name::segment(playable.named, &rendition.extension),
        None => format!("gap-{}.{}", entry.position, rendition.extension),
    };
    let _ = writeln!(out, "#EXTINF:{seconds}.{micros:06},\n{prefix}{file}");
}

fn date_time(at: WallTime) -> Option<String> {
    let date = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1000).ok()?;
    date.format(DATE_TIME).ok()
}

#[cfg(test)]
mod tests;
