//! The broadcaster's signatures under what is known of a segment.

use std::ops::Range;

use bytes::Bytes;
use starling_proto::ChunkNumber;
use starling_proto::wire::{Announcement, Continuation};

/// What rides with a chunk to prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rider {
    /// Numbers of the chunks it says.
    pub chunks: Range<u64>,
    /// And that these are all of their segment.
    pub ends: bool,
    /// What it is.
    pub envelope: Envelope,
}

/// Something signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// The announcement of a segment.
    Statement(Bytes),
    /// A continuation of it.
    Continuation(Bytes),
}

/// An announcement as it was signed, and continuations of it.
#[derive(Debug)]
pub(super) struct Proof {
    /// Empty if what is known was not signed, but made here from the origin's playlist.
    pub(super) signed: Bytes,
    said: Reach,
    /// By rising reach, one for each; as many as a segment may have parts.
    more: Vec<More>,
}

/// Of how many chunks something is said, and whether it says that these are all.
type Reach = (usize, bool);

#[derive(Debug)]
struct More {
    begin: usize,
    said: Reach,
    signed: Bytes,
}

impl Proof {
    pub(super) fn new(announcement: &Announcement, signed: Bytes) -> Self {
        Self { signed, said: (announcement.lengths.len(), !announcement.growing), more: Vec::new() }
    }

    /// Whether nothing is signed.
    pub(super) fn is_empty(&self) -> bool {
        self.signed.is_empty()
    }

    /// Whether what was signed as one says as much as `announcement`.
    pub(super) fn says_all(&self, announcement: &Announcement) -> bool {
        !self.signed.is_empty() && self.said >= (announcement.lengths.len(), !announcement.growing)
    }

    /// Takes a signed announcement that says more as one.
    pub(super) fn announced(&mut self, announcement: &Announcement, signed: Bytes) {
        self.signed = signed;
        self.said = (announcement.lengths.len(), !announcement.growing);
    }

    /// Takes a signed continuation of the segment that `announcement` says the beginning of.
    pub(super) fn continued(&mut self, announcement: &Announcement, more: &Continuation, signed: Bytes) {
        let index = |chunk: u64| (chunk.saturating_sub(announcement.first_chunk.0)) as usize;
        let (begin, end) = (index(more.first_chunk.0), index(more.end_chunk().0));
        // What ends the segment says the last parts once more.
        self.more.retain(|known| known.said.0 < end);
        self.more.push(More { begin, said: (end, more.ends), signed });
    }

    /// What proves the chunk at `index` of a segment that begins with chunk `first`; `None` if nothing is signed.
    pub(super) fn rider(&self, first: ChunkNumber, index: usize) -> Option<Rider> {
        let chunks = |begin: usize, end: usize| first.0 + begin as u64..first.0 + end as u64;
        // The last that says it says most of what comes next.
        match self.more.iter().rfind(|more| (more.begin..more.said.0).contains(&index)) {
            Some(more) => {
                let envelope = Envelope::Continuation(more.signed.clone());
                Some(Rider { chunks: chunks(more.begin, more.said.0), ends: more.said.1, envelope })
            }
            None if self.signed.is_empty() => None,
            None => {
                let envelope = Envelope::Statement(self.signed.clone());
                Some(Rider { chunks: chunks(0, self.said.0), ends: self.said.1, envelope })
            }
        }
    }

    /// The fewest continuations that say what the announcement as it was signed doesn't, in order.
    pub(super) fn chain(&self) -> Vec<Bytes> {
        self.chain_from(self.said).0
    }

    /// The same for what is said before chunk `known` of a segment, where its end counts as one more; `None` if only the
    /// announcement itself says all the rest.
    pub(super) fn beyond(&self, announcement: &Announcement, known: ChunkNumber) -> Option<Vec<Bytes>> {
        let index = known.0.checked_sub(announcement.first_chunk.0)?;
        let all = announcement.chunk_count();
        let (chain, reached) = self.chain_from((index.min(all) as usize, index > all && !announcement.growing));
        let newest = self.more.last().map_or(self.said, |more| more.said.max(self.said));
        (reached >= newest).then_some(chain)
    }

    fn chain_from(&self, mut reached: Reach) -> (Vec<Bytes>, Reach) {
        let mut chain = Vec::new();
        while let Some(more) = self.more.iter().rfind(|more| more.begin <= reached.0 && more.said > reached) {
            reached = more.said;
            chain.push(more.signed.clone());
        }
        (chain, reached)
    }
}
