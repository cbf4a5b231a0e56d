//! Playlists as the player needs them: RFC 8216bis text in, a list of variants or of segments with absolute addresses out.
//! These are the types; `reader` fills them.

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use url::Url;

use super::{
    reader,
    variables::{VariableError, Variables},
};

/// A playlist of either kind (RFC 8216bis §4.1).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Playlist {
    Media(MediaPlaylist),
    Multivariant(Multivariant),
}

/// The list of qualities to choose from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Multivariant {
    pub(super) variants: Vec<Variant>,
    /// What its media playlists may import.
    pub(super) variables: Variables,
    /// EXT-X-START, in seconds; it goes before the media playlist's.
    pub(super) start: Option<f64>,
}

/// One quality.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variant {
    pub(super) url: Url,
    /// Peak bits per second.
    pub(super) bandwidth: u64,
    /// Width and height in pixels.
    pub(super) resolution: Option<(u64, u64)>,
    /// Its sound is (or may be) in another playlist.
    pub(super) separate_audio: bool,
}

/// The list of segments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MediaPlaylist {
    pub(super) target: Duration,
    /// How far from the end of the list to start (EXT-X-SERVER-CONTROL HOLD-BACK, else three target durations).
    pub(super) hold_back: Duration,
    /// EXT-X-START TIME-OFFSET, in seconds from the first segment, or from the end when negative.
    pub(super) start: Option<f64>,
    /// EXT-X-ENDLIST: nothing will be added.
    pub(super) ended: bool,
    /// EXT-X-MEDIA-SEQUENCE: the number of the first segment.
    pub(super) first: u64,
    pub(super) segments: Vec<Segment>,
    /// What the low-latency tags say, if they say enough to play by them.
    pub(super) low_latency: Option<Box<LowLatency>>,
}

/// What a playlist offers to those who do not want to wait for whole segments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LowLatency {
    /// EXT-X-PART-INF PART-TARGET: no part is longer.
    pub(super) part_target: Duration,
    /// EXT-X-SERVER-CONTROL PART-HOLD-BACK: how far from the end of the list to start.
    pub(super) hold_back: Duration,
    /// EXT-X-SERVER-CONTROL CAN-SKIP-UNTIL: segments further from the end may be left out of a delta update.
    pub(super) skip_until: Option<Duration>,
    /// Every part listed, in order: those of the last segments, then those of the segment that still grows.
    pub(super) parts: Vec<Segment>,
    /// EXT-X-PRELOAD-HINT TYPE=PART: what will be the next part, as far as can be told before it is listed.
    pub(super) hint: Option<Segment>,
}

/// One segment or one part of it, with everything its tags say resolved.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    /// Which part of that segment this is; `None` for the whole.
    pub(super) part: Option<Part>,
    /// Segments of one discontinuity sequence share a media timeline.
    pub(super) discontinuity: u64,
    pub(super) duration: Duration,
    pub(super) resource: Resource,
    pub(super) map: Option<Arc<Resource>>,
    /// Encrypted as a whole (AES-128, AES-256): the bytes say nothing without the key.
    pub(super) opaque: bool,
    /// EXT-X-GAP: listed but absent.
    pub(super) gap: bool,
    /// When its first frame was captured, in seconds since 1970 (EXT-X-PROGRAM-DATE-TIME, extrapolated by durations).
    pub(super) capture: Option<f64>,
}

/// What is said of a partial segment (EXT-X-PART) only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    /// Its place in its segment, from 0.
    pub(super) index: u64,
    /// INDEPENDENT=YES: decoding can start with it.
    pub(super) independent: bool,
}

/// A whole HTTP resource or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resource {
    pub(super) url: Url,
    pub(super) range: Option<ByteRange>,
}

/// A range of bytes, `length` at least 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ByteRange {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Why a body is not a playlist that can be played.
#[derive(Debug, Error, PartialEq)]
pub(super) enum PlaylistError {
    #[error("the playlist is empty")]
    Empty,
    #[error("not an HLS playlist: it starts with {0:?}, check the URL")]
    NotHls(String),
    #[error("the playlist has no EXT-X-TARGETDURATION and lists no variants, check the URL")]
    Neither,
    #[error("the delta update leaves out segments that were never listed")]
    Delta,
    #[error("the playlist has an address that cannot be used: {0:?}")]
    Address(String),
    #[error(transparent)]
    Variable(#[from] VariableError),
}

impl Playlist {
    /// As [`Playlist::read_after`], when nothing is known.
    #[cfg(test)]
    pub(super) fn read(body: &str, address: &Url, imports: &Variables) -> Result<Self, PlaylistError> {
        Self::read_after(None, body, address, imports)
    }

    /// Reads `body`, which was answered by `address` (after redirects). `imports` are the variables of the multivariant
    /// playlist. What a delta update leaves out (EXT-X-SKIP) is taken from `known`, the playlist before it.
    pub(super) fn read_after(
        known: Option<&MediaPlaylist>,
        body: &str,
        address: &Url,
        imports: &Variables,
    ) -> Result<Self, PlaylistError> {
        let body = body.trim_start_matches('\u{feff}');
        if body.trim().is_empty() {
            return Err(PlaylistError::Empty);
        }
        if !body.starts_with("#EXTM3U") {
            let line = body.trim_start().lines().next().unwrap_or_default();
            return Err(PlaylistError::NotHls(line.chars().take(40).collect()));
        }
        reader::read(known, body, address, imports)
    }
}

impl Multivariant {
    /// The first variant; with a cap in bits per second the largest that is not above it, else the smallest.
    pub(super) fn choose(&self, cap: Option<u64>) -> Option<&Variant> {
        let Some(cap) = cap else {
            return self.variants.first();
        };
        let bandwidth = |variant: &&Variant| variant.bandwidth;
        let below = self.variants.iter().filter(|variant| variant.bandwidth <= cap);
        below.max_by_key(bandwidth).or_else(|| self.variants.iter().min_by_key(bandwidth))
    }
}

impl MediaPlaylist {
    /// The number the next segment to be added will have.
    pub(super) fn next_sequence(&self) -> u64 {
        self.segments.last().map_or(self.first, |last| last.sequence.saturating_add(1))
    }

    /// How much media the list holds in whole segments.
    pub(super) fn length(&self) -> Duration {
        self.segments.iter().map(|segment| segment.duration).sum()
    }

    /// The whole segment with this number, if it is listed.
    pub(super) fn segment(&self, sequence: u64) -> Option<&Segment> {
        let first = self.segments.first()?.sequence;
        self.segments.get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    /// Every part listed; none if the playlist is played by whole segments.
    pub(super) fn parts(&self) -> &[Segment] {
        self.low_latency.as_ref().map_or(&[], |low_latency| &low_latency.parts)
    }

    /// The parts listed of one segment.
    pub(super) fn parts_of(&self, sequence: u64) -> &[Segment] {
        let parts = self.parts();
        let from = parts.partition_point(|part| part.sequence < sequence);
        let to = parts.partition_point(|part| part.sequence <= sequence);
        parts.get(from..to).unwrap_or_default()
    }

    /// Whether the parts listed of each whole segment last as long as it does, to half a part (RFC 8216bis §4.4.4.9).
    pub(super) fn parts_add_up(&self) -> bool {
        let Some(low_latency) = &self.low_latency else {
            return true;
        };
        self.segments
            .iter()
            .rev()
            .map_while(|segment| {
                let parts = self.parts_of(segment.sequence);
                (!parts.is_empty())
                    .then(|| parts.iter().map(|part| part.duration).sum::<Duration>().abs_diff(segment.duration))
            })
            .all(|off| off <= low_latency.part_target / 2)
    }

    /// The place of what will be added next: the number of its segment, and that of the part in it.
    pub(super) fn end(&self) -> (u64, u64) {
        let next = self.next_sequence();
        (next, self.parts_of(next).len() as u64)
    }

    /// How far from the end of the list a player should stay.
    pub(super) fn distance(&self) -> Duration {
        match &self.low_latency {
            Some(low_latency) => low_latency.hold_back.max(low_latency.part_target),
            None => self.hold_back.max(self.target),
        }
    }
}

impl Segment {
    /// How it is ordered among others: the number of the segment, and that of the part in it.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.sequence, self.part.map_or(0, |part| part.index))
    }

    /// Decoding can start here: at a segment's beginning, or at a part that says so. (Not every segment begins with a
    /// key frame; players start there all the same.)
    pub(super) fn is_independent(&self) -> bool {
        self.part.is_none_or(|part| part.independent || part.index == 0)
    }

    /// Whether a request for one brings the other, and it reads the same.
    pub(super) fn is_same_media(&self, other: &Self) -> bool {
        self.resource == other.resource && self.map == other.map && self.opaque == other.opaque
    }
}

#[cfg(test)]
#[path = "playlist_tests.rs"]
mod tests;
