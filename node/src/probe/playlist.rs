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
}

/// One segment, with everything its tags say resolved.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    pub(super) sequence: u64,
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
    #[error("the playlist has an address that cannot be used: {0:?}")]
    Address(String),
    #[error(transparent)]
    Variable(#[from] VariableError),
}

impl Playlist {
    /// Reads `body`, which was answered by `address` (after redirects). `imports` are the variables of the multivariant playlist.
    pub(super) fn read(body: &str, address: &Url, imports: &Variables) -> Result<Self, PlaylistError> {
        let body = body.trim_start_matches('\u{feff}');
        if body.trim().is_empty() {
            return Err(PlaylistError::Empty);
        }
        if !body.starts_with("#EXTM3U") {
            let line = body.trim_start().lines().next().unwrap_or_default();
            return Err(PlaylistError::NotHls(line.chars().take(40).collect()));
        }
        reader::read(body, address, imports)
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

    /// How much media the list holds.
    pub(super) fn length(&self) -> Duration {
        self.segments.iter().map(|segment| segment.duration).sum()
    }
}

#[cfg(test)]
#[path = "playlist_tests.rs"]
mod tests;
