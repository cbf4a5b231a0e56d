//! The signed table of contents of a stream.

use bytes::Bytes;

use super::cbor::{DecodeError, MAX_ITEMS};
use super::signed::Statement;
use super::{MAX_GOSSIP_LEN, MAX_TEXT_LEN};
use crate::id::{Epoch, RenditionId};
use crate::time::WallTime;

message! {
    /// What the stream consists of. Published at start, at every change and about once a minute;
    /// of two, the one with the larger (epoch, version) counts.
    pub struct Catalogue {
        /// The stream's name, as people read it.
        1 => name: String,
        /// The broadcaster's current start.
        2 => epoch: Epoch,
        /// Rises with every change within the epoch.
        3 => version: u32,
        /// When this was said, by the broadcaster's clock.
        4 => issued: WallTime,
        /// The multivariant playlist with each media playlist's URI replaced by
        /// `<rendition id>/index.m3u8`; absent if the source is a single media playlist.
        5 => multivariant: Option<String>,
        /// All renditions, by rising id.
        6 => renditions: Vec<Rendition>,
        /// Whether the broadcaster itself answers chunk requests; otherwise first copies come from the origin.
        7 => serves: bool,
        /// The programme is over: no more announcements will come.
        8 => ended: bool,
    }
}

message! {
    /// One quality of the stream.
    pub struct Rendition {
        /// Its name in all other messages.
        1 => id: RenditionId,
        /// For people: "720p", "audio English".
        2 => label: String,
        /// Peak rate in bits per second, as the multivariant playlist tells or as configured; 0 if unknown.
        3 => bandwidth_bps: u64,
        /// EXT-X-TARGETDURATION, seconds.
        4 => target_duration: u32,
        /// Into how many substreams its chunks are dealt.
        5 => substreams: u8,
        /// The newest media initialization sections (EXT-X-MAP); empty for MPEG-TS.
        6 => inits: Vec<Init>,
        /// URI of its media playlist at the origin, relative to the link's origin URL.
        7 => origin: String,
        /// EXT-X-VERSION.
        8 => hls_version: u8,
        /// Playlist-level tag lines to repeat untouched (EXT-X-INDEPENDENT-SEGMENTS, …).
        9 => tags: Vec<String>,
        /// File name ending of its segments ("m4s", "ts", "vtt"), which tells players the type.
        10 => extension: String,
        /// PART-TARGET, microseconds: no part is longer; absent for a rendition without parts.
        11 => part_target_us: Option<u32>,
    }
}

message! {
    /// A media initialization section.
    pub struct Init {
        /// What announcements call it.
        1 => index: u16,
        /// Its bytes.
        2 => body: Bytes,
    }
}

impl Catalogue {
    /// The rendition called `id`.
    pub fn rendition(&self, id: RenditionId) -> Option<&Rendition> {
        self.renditions.iter().find(|r| r.id == id)
    }
}

impl Rendition {
    /// The init section called `index`.
    pub fn init(&self, index: u16) -> Option<&Bytes> {
        self.inits.iter().find(|init| init.index == index).map(|init| &init.body)
    }
}

impl Statement for Catalogue {
    const DOMAIN: &'static str = "catalogue";

    fn check(&self) -> Result<(), DecodeError> {
        let bytes: usize = self.renditions.iter().flat_map(|r| &r.inits).map(|i| i.body.len()).sum();
        let rising = self.renditions.windows(2).all(|pair| pair[0].id < pair[1].id);
        let sound = |r: &Rendition| {
            (1..=32).contains(&r.substreams)
                && (1..=3600).contains(&r.target_duration)
                && r.part_target_us.is_none_or(|us| (10_000..=10_000_000).contains(&us))
                && r.label.len() <= MAX_TEXT_LEN
                && (1..=8).contains(&r.extension.len())
                && r.extension.bytes().all(|b| b.is_ascii_alphanumeric())
                && r.tags.iter().all(|tag| is_tag_line(tag))
        };
        let ok = self.name.len() <= MAX_TEXT_LEN
            && !self.renditions.is_empty()
            && self.renditions.len() <= MAX_ITEMS
            && bytes <= MAX_GOSSIP_LEN
            && rising
            && self.renditions.iter().all(sound);
        if ok { Ok(()) } else { Err(DecodeError::OutOfRange) }
    }
}

/// One playlist line that can be repeated without breaking out of its line.
pub(super) fn is_tag_line(line: &str) -> bool {
    line.starts_with('#') && line.len() <= 2048 && !line.contains(['\r', '\n'])
}
