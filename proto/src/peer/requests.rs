//! Our own chunk requests that are not answered yet.

use crate::id::{ChunkNumber, Epoch, PeerId, RenditionId, RequestId};
use crate::time::Time;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    pub(crate) to: PeerId,
    pub(crate) rendition: RenditionId,
    pub(crate) epoch: Epoch,
    pub(crate) number: ChunkNumber,
    pub(crate) purpose: Purpose,
    pub(crate) at: Time,
}

/// Why it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Pull-ahead.
    Next,
    /// Repair.
    Get,
    /// Fetch from the origin, chunks `number..end`.
    Origin { end: ChunkNumber },
}

/// All of them; bounded by substreams, repair limits and origin limits of those who open them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    /// By rising id, which is the order in which they are opened.
    open: Vec<(RequestId, InFlight)>,
    last: u64,
}

impl Requests {
    pub(crate) fn open(&mut self, request: InFlight) -> RequestId {
        self.last += 1;
        let id = RequestId(self.last);
        self.open.push((id, request));
        id
    }

    pub(crate) fn find(&self, id: RequestId) -> Option<&InFlight> {
        self.place(id).map(|at| &self.open[at].1)
    }

    pub(crate) fn close(&mut self, id: RequestId) -> Option<InFlight> {
        self.place(id).map(|at| self.open.remove(at).1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RequestId, &InFlight)> {
        self.open.iter().map(|(id, request)| (id, request))
    }

    /// How many fetches from the origin are open.
    pub(crate) fn at_origin(&self) -> usize {
        self.count(|r| matches!(r.purpose, Purpose::Origin { .. }))
    }

    pub(crate) fn count(&self, pick: impl Fn(&InFlight) -> bool) -> usize {
        self.open.iter().filter(|(_, r)| pick(r)).count()
    }

    fn place(&self, id: RequestId) -> Option<usize> {
        self.open.binary_search_by_key(&id, |(id, _)| *id).ok()
    }
}
