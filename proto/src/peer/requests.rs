//! Our own chunk requests that are not answered yet.

use std::collections::BTreeMap;

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
    open: BTreeMap<RequestId, InFlight>,
    last: u64,
}

impl Requests {
    pub(crate) fn open(&mut self, request: InFlight) -> RequestId {
        self.last += 1;
        let id = RequestId(self.last);
        self.open.insert(id, request);
        id
    }

    pub(crate) fn find(&self, id: RequestId) -> Option<&InFlight> {
        self.open.get(&id)
    }

    pub(crate) fn close(&mut self, id: RequestId) -> Option<InFlight> {
        self.open.remove(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RequestId, &InFlight)> {
        self.open.iter()
    }

    pub(crate) fn count(&self, pick: impl Fn(&InFlight) -> bool) -> usize {
        self.open.values().filter(|r| pick(r)).count()
    }
}
