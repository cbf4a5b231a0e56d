//! From what an input delivers to what the mesh carries: numbers, chunks, hashes, signatures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::identity::{Keypair, SigningError};
use starling_proto::wire::{Announcement, Catalogue, Continuation, Init, Message, PartSource, Rendition, Statement};
use starling_proto::{ChunkNumber, Epoch, RenditionId, SegmentNumber, StreamId, WallTime};
use thiserror::Error;

use crate::clock::wall_now;
use crate::hls::name;
use crate::ingest::{Ingested, Part, Segment, Shape, Track};
use crate::net::{Produced, Said};
use crate::statement;

/// Makes statements. Without a key they carry no signature: for a viewer that follows the origin's playlist by itself.
pub struct Publisher {
    key: Option<Keypair>,
    stream: StreamId,
    name: String,
    epoch: Epoch,
    version: u32,
    own_origin: bool,
    serves: bool,
    shape: Option<Shape>,
    lanes: BTreeMap<RenditionId, Lane>,
    ended: bool,
}

/// What is known of a segment before its first byte.
struct Head {
    rendition: RenditionId,
    number: u64,
    start: WallTime,
    discontinuity: bool,
    init: Option<Bytes>,
    tags: Vec<String>,
    uri: String,
    offset: u64,
}

/// What is said of a part beside its bytes.
struct Grown {
    duration: Duration,
    independent: bool,
    source: Option<PartSource>,
}

/// One rendition's numbers.
#[derive(Default)]
struct Lane {
    /// The segment that grows: the source's number, and what was said of it.
    growing: Option<(u64, Arc<Announcement>)>,
    next_chunk: u64,
    /// Ours = the source's + this.
    number_offset: i128,
    last_number: Option<u64>,
    inits: Vec<Init>,
    next_init: u16,
}

/// Why something an input delivered can't be published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The key failed.
    #[error("can't sign: {0}")]
    Sign(#[from] SigningError),
    /// What came can't be expressed: an empty segment, a text that is too long.
    #[error("the input delivered what can't be announced ({0}); it was left out")]
    Unsound(&'static str),
    /// No catalogue holds that much.
    #[error("the catalogue would be {0} bytes, more than the mesh carries; use fewer renditions")]
    CatalogueTooLarge(usize),
}

/// Into how many substreams chunks are dealt (research notes §1.1: 8 use 97 % of the uplinks' capacity).
const SUBSTREAMS: u8 = 8;
/// Parts that a continuation says: the newest, and the one before it, so that what was to come with chunks of one part comes
/// with those of the next (see tests/ABLATIONS.md).
const CONTINUED_PARTS: usize = 2;
/// Initialization sections kept in the catalogue: those of the segments still listed.
const INITS_MAX: usize = 4;
/// Catalogues stay below gossipsub's limit, envelope included.
const CATALOGUE_LEN_MAX: usize = starling_proto::wire::MAX_GOSSIP_LEN - 256;

impl Publisher {
    /// A publisher that numbers from zero within `epoch`. With `own_origin` segments are named as this program's own HTTP
    /// server names them, otherwise as the source does.
    pub fn new(key: Option<Keypair>, stream: StreamId, name: String, epoch: Epoch, own_origin: bool) -> Self {
        Self {
            key,
            stream,
            name,
            epoch,
            version: 0,
            own_origin,
            serves: false,
            shape: None,
            lanes: BTreeMap::new(),
            ended: false,
        }
    }

    /// Whether the broadcaster's node answers chunk requests.
    pub fn serve(&mut self, serves: bool) {
        self.serves = serves;
    }

    /// What to tell the mesh of something the input delivered; a segment with a new init section needs a new catalogue first.
    ///
    /// # Errors
    /// [`PublishError`]; the publisher goes on with whatever comes next.
    pub fn publish(&mut self, ingested: Ingested) -> Result<Vec<Produced>, PublishError> {
        match ingested {
            Ingested::Shape(shape) => {
                self.shape = Some(shape);
                Ok(vec![self.catalogue()?])
            }
            Ingested::Part(part) => self.part(*part),
            Ingested::Segment(segment) => self.segment(*segment),
            Ingested::Ended => {
                self.ended = true;
                Ok(vec![self.catalogue()?])
            }
        }
    }

    /// The catalogue once more, under a new version: for those who missed it.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn repeat(&mut self) -> Result<Option<Produced>, PublishError> {
        if self.shape.is_none() {
            return Ok(None);
        }
        self.catalogue().map(Some)
    }

    /// One more part of the segment that grows, or the first of the next.
    fn part(&mut self, part: Part) -> Result<Vec<Produced>, PublishError> {
        let mut produced = Vec::new();
        let lane = self.lanes.entry(part.rendition).or_default();
        if lane.growing.as_ref().is_some_and(|(number, _)| *number != part.number) {
            produced.push(self.close(part.rendition)?);
        }
        let lane = self.lanes.entry(part.rendition).or_default();
        let begun = lane.growing.as_ref().map_or(0, |(_, announcement)| announcement.parts.len());
        if begun != part.index as usize {
            return Err(PublishError::Unsound("a part without those before it"));
        }
        if begun == 0 {
            let head = Head {
                rendition: part.rendition,
                number: part.number,
                start: part.start,
                discontinuity: part.discontinuity,
                init: part.init,
                tags: part.tags,
                uri: String::new(),
                offset: 0,
            };
            let announcement = self.begin(head, &mut produced)?;
            let lane = self.lanes.entry(part.rendition).or_default();
            lane.growing = Some((part.number, Arc::new(announcement)));
        }
        let source = (!self.own_origin).then_some(PartSource { uri: part.uri, offset: part.offset });
        let grown = Grown { duration: part.duration, independent: part.independent, source };
        produced.push(self.grow(part.rendition, &part.body, grown, true)?);
        Ok(produced)
    }

    /// A finished segment: new, or the end of the one that grows.
    fn segment(&mut self, segment: Segment) -> Result<Vec<Produced>, PublishError> {
        let lane = self.lanes.entry(segment.rendition).or_default();
        let mut produced = Vec::new();
        match &lane.growing {
            Some((number, _)) if *number == segment.number => return Ok(vec![self.finish(segment)?]),
            Some(_) => produced.push(self.close(segment.rendition)?),
            None => {}
        }
        let (rendition, body, duration) = (segment.rendition, segment.body, segment.duration);
        let head = Head {
            rendition,
            number: segment.number,
            start: segment.start,
            discontinuity: segment.discontinuity,
            init: segment.init,
            tags: segment.tags,
            uri: segment.uri,
            offset: segment.offset,
        };
        let chunks = statement::cut(&body, duration);
        let mut announcement = self.begin(head, &mut produced)?;
        announcement.lengths = lengths(&chunks);
        announcement.hashes = statement::hashes(&chunks);
        announcement.duration_us = duration_us(duration);
        produced.push(self.announce(announcement, chunks)?);
        Ok(produced)
    }

    /// The end of the segment that grows: what its parts did not bring becomes a last one.
    fn finish(&mut self, segment: Segment) -> Result<Produced, PublishError> {
        let Some((_, said)) = self.lanes.entry(segment.rendition).or_default().growing.clone() else {
            return Err(PublishError::Unsound("the end of a segment that never began"));
        };
        let said_len = said.byte_len() as usize;
        let begins_alike = segment.body.get(..said_len).is_some_and(|begin| {
            let mut at = 0;
            let chunks = said.lengths.iter().map(|len| {
                at += *len as usize;
                segment.body.slice(at - *len as usize..at)
            });
            begin.len() == said_len && statement::hashes(&chunks.collect::<Vec<_>>()) == said.hashes
        });
        if !begins_alike {
            tracing::warn!(
                segment = segment.number,
                "a segment is not what its parts were; it ends with the last of them. Does the source change what it said?"
            );
            return self.close(segment.rendition);
        }
        if !self.own_origin {
            let lane = self.lanes.entry(segment.rendition).or_default();
            let uri = Announcement { uri: segment.uri, offset: segment.offset, ..(*said).clone() };
            lane.growing = Some((segment.number, Arc::new(uri)));
        }
        if segment.body.len() == said_len {
            return self.close(segment.rendition);
        }
        let duration = segment.duration.saturating_sub(said.duration()).max(Duration::from_millis(1));
        let rest = segment.body.slice(said_len..);
        let produced =
            self.grow(segment.rendition, &rest, Grown { duration, independent: false, source: None }, false)?;
        Ok(produced)
    }

    /// The segment that grows grows no more.
    fn close(&mut self, rendition: RenditionId) -> Result<Produced, PublishError> {
        let Some((_, said)) = self.lanes.entry(rendition).or_default().growing.take() else {
            return Err(PublishError::Unsound("the end of a segment that never began"));
        };
        self.announce(Announcement { growing: false, announced: wall_now(), ..(*said).clone() }, Vec::new())
    }

    /// Adds a part to the segment that grows; `on`: it goes on growing.
    fn grow(&mut self, rendition: RenditionId, body: &Bytes, grown: Grown, on: bool) -> Result<Produced, PublishError> {
        let lane = self.lanes.entry(rendition).or_default();
        let Some((number, said)) = lane.growing.take() else {
            return Err(PublishError::Unsound("a part of a segment that never began"));
        };
        let chunks = statement::cut(body, grown.duration);
        let mut announcement = (*said).clone();
        announcement.lengths.extend(lengths(&chunks));
        announcement.hashes = [announcement.hashes, statement::hashes(&chunks)].concat().into();
        announcement.parts.push(starling_proto::wire::Part {
            chunks: u16::try_from(chunks.len()).unwrap_or(u16::MAX),
            duration_us: u32::try_from(grown.duration.as_micros()).unwrap_or(u32::MAX),
            independent: grown.independent,
            source: grown.source,
        });
        announcement.duration_us += duration_us(grown.duration);
        announcement.growing = on;
        announcement.announced = wall_now();
        if on {
            lane.growing = Some((number, said));
        }
        let produced = self.announce(announcement, chunks)?;
        if let (true, Produced::Segment(said, _)) = (on, &produced) {
            let lane = self.lanes.entry(rendition).or_default();
            lane.growing = Some((number, said.announcement.clone()));
        }
        Ok(produced)
    }

    /// The announcement of a segment of which nothing is said yet; a new init section needs a new catalogue first.
    fn begin(&mut self, head: Head, produced: &mut Vec<Produced>) -> Result<Announcement, PublishError> {
        let Some(track) = self.track(head.rendition).cloned() else {
            return Err(PublishError::Unsound("a segment of an unknown rendition"));
        };
        let lane = self.lanes.entry(head.rendition).or_default();
        let init = head.init.as_ref().map(|body| lane.init(body));
        if let Some((_, true)) = init {
            produced.push(self.catalogue()?);
        }
        let lane = self.lanes.entry(head.rendition).or_default();
        let number = lane.number(head.number);
        let mut announcement = Announcement {
            epoch: self.epoch,
            rendition: head.rendition,
            segment: SegmentNumber(number),
            first_chunk: ChunkNumber(lane.next_chunk),
            lengths: Vec::new(),
            hashes: Bytes::new(),
            start: head.start,
            duration_us: 0,
            discontinuity: head.discontinuity,
            init: init.map(|(index, _)| index),
            tags: head.tags,
            uri: head.uri,
            offset: head.offset,
            announced: wall_now(),
            parts: Vec::new(),
            growing: false,
        };
        if self.own_origin {
            announcement.uri = name::segment((announcement.epoch, announcement.segment), &track.extension);
            announcement.offset = 0;
        }
        Ok(announcement)
    }

    /// Signs what is now said of a segment and counts it as said.
    fn announce(&mut self, announcement: Announcement, fresh: Vec<Bytes>) -> Result<Produced, PublishError> {
        announcement.check().map_err(|_| PublishError::Unsound("an empty or oversized segment, or a tag too long"))?;
        let envelope = self.sign(&announcement)?;
        let lane = self.lanes.entry(announcement.rendition).or_default();
        lane.next_chunk = announcement.end_chunk().0;
        lane.last_number = Some(announcement.segment.0);
        tracing::debug!(
            rendition = %announcement.rendition, segment = %announcement.segment, chunks = fresh.len(), growing = announcement.growing,
            "announced"
        );
        let continuation =
            match Continuation::of(&announcement, CONTINUED_PARTS).filter(|_| self.key.is_some() && self.serves) {
                Some(more) => {
                    let signed = self.sign(&more)?;
                    Some((Arc::new(more), signed))
                }
                None => None,
            };
        Ok(Produced::Segment(Said { announcement: Arc::new(announcement), signed: envelope, continuation }, fresh))
    }

    fn catalogue(&mut self) -> Result<Produced, PublishError> {
        self.version += 1;
        let shape = self.shape.as_ref();
        let rendition = |track: &Track| Rendition {
            id: track.id,
            label: track.label.clone(),
            bandwidth_bps: track.bandwidth_bps,
            target_duration: track.target_duration.max(1),
            substreams: SUBSTREAMS,
            inits: self.lanes.get(&track.id).map(|lane| lane.inits.clone()).unwrap_or_default(),
            origin: if self.own_origin { format!("{}/{}", track.id, name::PLAYLIST) } else { track.uri.clone() },
            hls_version: track.hls_version,
            tags: track.tags.clone(),
            extension: track.extension.clone(),
            part_target_us: track.part_target.and_then(|target| u32::try_from(target.as_micros()).ok()),
        };
        let catalogue = Catalogue {
            name: self.name.clone(),
            epoch: self.epoch,
            version: self.version,
            issued: wall_now(),
            multivariant: shape.and_then(|s| s.multivariant.clone()),
            renditions: shape.map(|s| s.renditions.iter().map(rendition).collect()).unwrap_or_default(),
            serves: self.serves,
            ended: self.ended,
        };
        catalogue.check().map_err(|_| PublishError::Unsound("a stream of this shape"))?;
        let len = catalogue.encode().len();
        if len > CATALOGUE_LEN_MAX {
            return Err(PublishError::CatalogueTooLarge(len));
        }
        let envelope = self.sign(&catalogue)?;
        Ok(Produced::Catalogue(Arc::new(catalogue), envelope))
    }

    fn sign<S: Statement>(&self, statement: &S) -> Result<Bytes, SigningError> {
        self.key.as_ref().map_or_else(|| Ok(Bytes::new()), |key| statement::sign(key, &self.stream, statement))
    }

    fn track(&self, rendition: RenditionId) -> Option<&Track> {
        self.shape.as_ref()?.renditions.iter().find(|track| track.id == rendition)
    }
}

fn lengths(chunks: &[Bytes]) -> Vec<u32> {
    chunks.iter().map(|chunk| u32::try_from(chunk.len()).unwrap_or(u32::MAX)).collect()
}

fn duration_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Lane {
    /// The index of an init section, and whether it is new.
    fn init(&mut self, body: &Bytes) -> (u16, bool) {
        if let Some(known) = self.inits.iter().find(|init| init.body == *body) {
            return (known.index, false);
        }
        let index = self.next_init;
        self.next_init = self.next_init.wrapping_add(1);
        self.inits.push(Init { index, body: body.clone() });
        if self.inits.len() > INITS_MAX {
            self.inits.remove(0);
        }
        (index, true)
    }

    /// Our number for a segment: the source's, but never falling, since the source may begin again.
    fn number(&mut self, sources: u64) -> u64 {
        let next = self.last_number.map_or(0, |last| last + 1);
        let number = i128::from(sources) + self.number_offset;
        match u64::try_from(number) {
            Ok(number) if number >= next => number,
            Ok(_) | Err(_) => {
                self.number_offset = i128::from(next) - i128::from(sources);
                next
            }
        }
    }
}
