//! Where a broadcast's media comes from.

mod chunks;
pub mod pull;
pub mod push;
#[cfg(test)]
mod samples;
pub mod test_picture;

use std::time::Duration;

use bytes::Bytes;
use starling_proto::{RenditionId, WallTime};

/// What an input delivers, in order, over a bounded channel.
#[derive(Debug, Clone)]
pub enum Ingested {
    /// The stream's shape; sent before the first segment and again when it changes.
    Shape(Shape),
    /// A finished part of a segment that still grows, in order; only from a source with [`Track::part_target`].
    Part(Box<Part>),
    /// A finished segment. After parts: its body is theirs joined, or begins with it.
    Segment(Box<Segment>),
    /// The source said EXT-X-ENDLIST.
    Ended,
}

/// The stream's renditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The multivariant playlist with every media playlist URI replaced by `<rendition id>/index.m3u8`, all else
    /// untouched; `None` for a source that is a single media playlist.
    pub multivariant: Option<String>,
    /// By rising id, which is also their index.
    pub renditions: Vec<Track>,
}

/// One rendition of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Its name from now on.
    pub id: RenditionId,
    /// For people.
    pub label: String,
    /// BANDWIDTH, bits per second; 0 if unknown.
    pub bandwidth_bps: u64,
    /// EXT-X-TARGETDURATION, seconds.
    pub target_duration: u32,
    /// EXT-X-VERSION.
    pub hls_version: u8,
    /// Playlist-level tags to repeat untouched (EXT-X-INDEPENDENT-SEGMENTS, …).
    pub tags: Vec<String>,
    /// Where its playlist is at the source: relative to the source URL, or absolute.
    pub uri: String,
    /// File name ending of its segments, without dot.
    pub extension: String,
    /// PART-TARGET (EXT-X-PART-INF) of a low-latency source: no part is longer.
    pub part_target: Option<Duration>,
}

/// One finished part (EXT-X-PART) of a segment: one or more whole CMAF chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Of which rendition.
    pub rendition: RenditionId,
    /// Media sequence number, at the source, of the segment it belongs to.
    pub number: u64,
    /// Its place in the segment, from 0, without gaps.
    pub index: u32,
    /// Its bytes.
    pub body: Bytes,
    /// When its first frame was captured.
    pub start: WallTime,
    /// How long it plays.
    pub duration: Duration,
    /// INDEPENDENT=YES: decoding can begin with it.
    pub independent: bool,
    /// As in [`Segment`], the same for all parts of a segment.
    pub discontinuity: bool,
    /// As in [`Segment`].
    pub init: Option<Bytes>,
    /// As in [`Segment`], as far as known when the first part came; the same for all parts of a segment.
    pub tags: Vec<String>,
    /// Where the source has the part: as [`Segment::uri`].
    pub uri: String,
    /// Offset within that resource.
    pub offset: u64,
}

/// One finished segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Of which rendition.
    pub rendition: RenditionId,
    /// Its media sequence number at the source.
    pub number: u64,
    /// Its bytes.
    pub body: Bytes,
    /// When its first frame was captured: PROGRAM-DATE-TIME where the source gives one, else estimated from when the
    /// segment appeared.
    pub start: WallTime,
    /// EXTINF.
    pub duration: Duration,
    /// EXT-X-DISCONTINUITY stands before it, or the source restarted.
    pub discontinuity: bool,
    /// The initialization section (EXT-X-MAP) it needs.
    pub init: Option<Bytes>,
    /// Tags to repeat before it untouched (EXT-X-KEY with an absolute URI, EXT-X-DATERANGE, …).
    pub tags: Vec<String>,
    /// Where the source has it: relative to its media playlist's URI, or absolute. Empty if it has no more than the parts.
    pub uri: String,
    /// Offset within that resource (EXT-X-BYTERANGE).
    pub offset: u64,
}
