//! Made-up streams for the tests of this crate.

pub(crate) mod encoded;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use starling_proto::wire::{Announcement, Catalogue, HASH_LEN, Init, Part, Rendition};
use starling_proto::{ChunkNumber, Epoch, RenditionId, SegmentNumber, WallTime};

use crate::media::Media;

/// 2026-11-22T12:00:00Z.
pub(crate) const NOON: WallTime = WallTime(1_795_348_800_000_000);

/// One chunk of three bytes, two seconds long; segment 0 begins at noon.
pub(crate) fn announcement(epoch: u64, number: u64) -> Announcement {
    announcement_of_chunks(epoch, number, &[3])
}

pub(crate) fn announcement_of_chunks(epoch: u64, number: u64, lengths: &[u32]) -> Announcement {
    Announcement {
        parts: Vec::new(),
        growing: false,
        epoch: Epoch(epoch),
        rendition: RenditionId(0),
        segment: SegmentNumber(number),
        first_chunk: ChunkNumber(number * 100),
        lengths: lengths.to_vec(),
        hashes: Bytes::from(vec![0; lengths.len() * HASH_LEN]),
        start: NOON + Duration::from_secs(2 * number),
        duration_us: 2_000_000,
        discontinuity: false,
        init: None,
        tags: Vec::new(),
        uri: format!("{epoch}/{number}.ts"),
        offset: 0,
        announced: NOON,
    }
}

/// The first `parts` of four parts of a segment.
pub(crate) fn grown(number: u64, parts: usize) -> Announcement {
    let part = |index| Part { chunks: 1, duration_us: 500_000, independent: index == 0, source: None };
    Announcement {
        first_chunk: ChunkNumber(number * 4),
        lengths: vec![100; parts],
        hashes: Bytes::from(vec![0; HASH_LEN * parts]),
        duration_us: 500_000 * parts as u64,
        parts: (0..parts).map(part).collect(),
        growing: parts < 4,
        ..announcement(1, number)
    }
}

/// A single media playlist as source.
pub(crate) fn catalogue(epoch: u64) -> Catalogue {
    Catalogue {
        name: "Test".into(),
        epoch: Epoch(epoch),
        version: 1,
        issued: NOON,
        multivariant: None,
        renditions: vec![rendition(0)],
        serves: false,
        ended: false,
    }
}

pub(crate) fn rendition(id: u16) -> Rendition {
    Rendition {
        id: RenditionId(id),
        label: "only".into(),
        bandwidth_bps: 0,
        target_duration: 2,
        substreams: 4,
        inits: Vec::new(),
        origin: String::new(),
        hls_version: 3,
        tags: Vec::new(),
        extension: "ts".into(),
        part_target_us: None,
    }
}

pub(crate) fn init(index: u16, body: &'static [u8]) -> Init {
    Init { index, body: Bytes::from_static(body) }
}

/// A minute of room, with a catalogue.
pub(crate) fn media(catalogue: Catalogue) -> Arc<Media> {
    let media = Media::new(Duration::from_secs(60), 64 << 20);
    media.set_catalogue(Arc::new(catalogue), Bytes::new());
    Arc::new(media)
}

/// Announced, but nothing of it is here.
pub(crate) fn one_segment(chunks: &[&[u8]]) -> (Arc<Media>, Arc<Announcement>) {
    let media = media(catalogue(1));
    let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.len() as u32).collect();
    let announcement = Arc::new(announcement_of_chunks(1, 0, &lengths));
    media.announce(announcement.clone(), Bytes::new());
    (media, announcement)
}

pub(crate) fn insert(media: &Media, announcement: &Announcement, index: u64, body: &[u8]) {
    let number = ChunkNumber(announcement.first_chunk.0 + index);
    media.insert(announcement.rendition, announcement.epoch, number, Bytes::copy_from_slice(body));
}

pub(crate) fn insert_all(media: &Media, announcement: &Announcement, chunks: &[&[u8]]) {
    for (index, body) in chunks.iter().enumerate() {
        insert(media, announcement, index as u64, body);
    }
}

/// Announces a segment and inserts its chunks of three bytes.
pub(crate) fn add(media: &Media, announcement: Announcement) {
    let announcement = Arc::new(announcement);
    media.announce(announcement.clone(), Bytes::new());
    for index in 0..announcement.chunk_count() {
        insert(media, &announcement, index, b"abc");
    }
}
