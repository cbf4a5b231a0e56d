//! From what an input delivers to what the mesh carries: numbers, chunks, hashes, signatures.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::identity::{Keypair, SigningError};
use starling_proto::wire::{Announcement, Catalogue, Init, Message, Rendition, Statement};
use starling_proto::{ChunkNumber, Epoch, RenditionId, SegmentNumber, StreamId};
use thiserror::Error;

use crate::clock::wall_now;
use crate::hls::name;
use crate::ingest::{Ingested, Segment, Shape, Track};
use crate::net::Produced;
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

/// One rendition's numbers.
#[derive(Default)]
struct Lane {
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
            Ingested::Part(_) => Err(PublishError::Unsound("parts, which are not carried yet")),
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

    fn segment(&mut self, segment: Segment) -> Result<Vec<Produced>, PublishError> {
        let Some(track) = self.track(segment.rendition).cloned() else {
            return Err(PublishError::Unsound("a segment of an unknown rendition"));
        };
        let mut produced = Vec::new();
        let lane = self.lanes.entry(segment.rendition).or_default();
        let init = segment.init.as_ref().map(|body| lane.init(body));
        if let Some((_, true)) = init {
            produced.push(self.catalogue()?);
        }
        let lane = self.lanes.entry(segment.rendition).or_default();
        let number = lane.number(segment.number);
        let chunks = statement::cut(&segment.body, segment.duration);
        let first_chunk = ChunkNumber(lane.next_chunk);
        let mut announcement = Announcement {
            epoch: self.epoch,
            rendition: segment.rendition,
            segment: SegmentNumber(number),
            first_chunk,
            lengths: chunks.iter().map(|c| u32::try_from(c.len()).unwrap_or(u32::MAX)).collect(),
            hashes: statement::hashes(&chunks),
            start: segment.start,
            duration_us: u64::try_from(segment.duration.as_micros()).unwrap_or(u64::MAX),
            discontinuity: segment.discontinuity,
            init: init.map(|(index, _)| index),
            tags: segment.tags,
            uri: segment.uri,
            offset: segment.offset,
            announced: wall_now(),
        };
        if self.own_origin {
            announcement.uri = name::segment((announcement.epoch, announcement.segment), &track.extension);
            announcement.offset = 0;
        }
        announcement.check().map_err(|_| PublishError::Unsound("an empty or oversized segment, or a tag too long"))?;
        let envelope = self.sign(&announcement)?;
        let lane = self.lanes.entry(segment.rendition).or_default();
        lane.next_chunk = announcement.end_chunk().0;
        lane.last_number = Some(number);
        tracing::debug!(rendition = %segment.rendition, segment = number, chunks = chunks.len(), "announced");
        produced.push(Produced::Segment(Arc::new(announcement), envelope, chunks));
        Ok(produced)
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
