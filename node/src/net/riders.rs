//! What proves chunks rides with them, but to nobody twice.

use std::collections::HashMap;
use std::ops::Range;

use starling_proto::{ChunkNumber, Epoch, PeerId, RenditionId};

use crate::media::Rider;

/// What neighbours were told with chunks over the connection there is to them. If it got lost they ask for the window.
#[derive(Debug, Default)]
pub(super) struct Riders {
    told: HashMap<PeerId, Vec<Told>>,
}

#[derive(Debug)]
struct Told {
    rendition: RenditionId,
    epoch: Epoch,
    /// The newest run of chunks said without a gap.
    chunks: Range<u64>,
    /// That they end a segment.
    ends: bool,
}

impl Riders {
    /// Whether this has to go with chunk `number` to this neighbour, who counts as told from then on.
    pub(super) fn rides(
        &mut self,
        to: PeerId,
        (rendition, epoch): (RenditionId, Epoch),
        number: ChunkNumber,
        rider: &Rider,
    ) -> bool {
        let told = self.told.entry(to).or_default();
        let (chunks, ends) = (rider.chunks.clone(), rider.ends);
        let Some(known) = told.iter_mut().find(|told| told.rendition == rendition) else {
            told.push(Told { rendition, epoch, chunks, ends });
            return true;
        };
        let same = known.epoch == epoch;
        if same && known.chunks.contains(&number.0) && (known.ends || !ends || chunks.end != known.chunks.end) {
            return false;
        }
        let joins = same && (known.chunks.start..=known.chunks.end).contains(&chunks.start);
        let (start, end) =
            if joins { (known.chunks.start, known.chunks.end.max(chunks.end)) } else { (chunks.start, chunks.end) };
        *known = Told { rendition, epoch, chunks: start..end, ends };
        true
    }

    /// The connection is gone, and what was on its way with it.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.told.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::Envelope;

    const OF: (RenditionId, Epoch) = (RenditionId(0), Epoch(1));
    const PEER: PeerId = PeerId([7; 32]);

    fn rider(chunks: Range<u64>) -> Rider {
        Rider { chunks, ends: false, envelope: Envelope::Continuation(Bytes::new()) }
    }

    #[test]
    fn what_was_said_is_said_to_each_once() {
        let mut riders = Riders::default();
        let mut rides = |to, of, number, chunks| riders.rides(to, of, ChunkNumber(number), &rider(chunks));
        assert!(rides(PEER, OF, 2, 0..4));
        assert!(!rides(PEER, OF, 3, 0..4));
        assert!(rides(PeerId([8; 32]), OF, 3, 0..4), "another neighbour");
        assert!(rides(PEER, OF, 4, 2..6), "more than was said");
        assert!(!rides(PEER, OF, 1, 0..4), "said, as is all up to the newest");
        assert!(rides(PEER, OF, 6, 6..8));
        assert!(!rides(PEER, OF, 4, 2..6), "the next segment goes on where this ended");
        assert!(rides(PEER, OF, 13, 12..14));
        assert!(rides(PEER, OF, 10, 8..12), "lies in a gap");
        assert!(rides(PEER, (RenditionId(1), Epoch(1)), 6, 4..8), "another rendition");
        assert!(rides(PEER, (RenditionId(0), Epoch(2)), 6, 4..8), "the broadcaster began anew");
        assert!(!rides(PEER, (RenditionId(1), Epoch(1)), 7, 4..8));
        riders.forget(&PEER);
        assert!(riders.rides(PEER, OF, ChunkNumber(4), &rider(2..6)));
    }

    #[test]
    fn that_a_segment_has_ended_is_said_though_its_chunks_were() {
        let mut riders = Riders::default();
        let mut rides = |rider: &Rider| riders.rides(PEER, OF, ChunkNumber(5), rider);
        let end = Rider { ends: true, ..rider(2..6) };
        assert!(rides(&rider(2..6)));
        assert!(rides(&end));
        assert!(!rides(&end));
        assert!(!rides(&rider(2..6)));
    }
}
