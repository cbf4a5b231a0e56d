//! How many places for children there are, and who may have the place of whom after how long.

use std::time::Duration;

use super::uploads::Child;

/// So long a child is served after a stronger one took its place: time for some trials elsewhere (a guess).
const NOTICE: Duration = Duration::from_secs(6);
/// A root that had to go is served longer: what looks for a parent is all its tree, and most of those it knows are below it.
const ROOT_NOTICE: Duration = Duration::from_secs(20);
/// A child that neither asks on nor reports for this long after a chunk was sent to it is probably gone, and others may come;
/// longer than any round trip behind a full queue. A killed node's connection is noticed after 6 s.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(1500);
/// One fed by a silent root needn't wait so long for its place: a whole tree waits. A chunk reaches a root, and its next request
/// comes back, within some 0.3 s (in the lab).
pub(super) const ROOT_SILENT_AFTER: Duration = Duration::from_millis(600);

/// What speaks against somebody who asks for a place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// It has one, and was silent until now: it goes if it is full without it.
    pub(crate) was_silent: bool,
    /// It came just now, and isn't taken on.
    pub(crate) is_new: bool,
}

/// How many children fit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// A viewer, in all.
    Slots {
        /// So many it tells others of.
        told: usize,
        /// So many it takes on, if asked.
        most: usize,
    },
    /// The broadcaster: this many in each substream.
    CopiesPerSubstream(usize),
}

impl Limit {
    /// How long a child is served that has to go.
    pub(super) fn notice(self) -> Duration {
        match self {
            Self::Slots { .. } => NOTICE,
            Self::CopiesPerSubstream(_) => ROOT_NOTICE,
        }
    }

    /// After how long the first may have the place of a silent one.
    pub(super) fn patience(self) -> Duration {
        match self {
            Self::Slots { .. } => SILENT_AFTER,
            Self::CopiesPerSubstream(_) => ROOT_SILENT_AFTER,
        }
    }

    /// How many may be on their way out at a time.
    pub(super) fn leaving_max(self) -> usize {
        match self {
            Self::Slots { told, .. } => told / 4 + 1,
            Self::CopiesPerSubstream(max) => max * 2,
        }
    }

    /// Whether two children take room from one another.
    pub(super) fn is_shared(self, a: &Child, b: &Child) -> bool {
        match self {
            Self::Slots { .. } => true,
            Self::CopiesPerSubstream(_) => a.rendition == b.rendition && a.substream == b.substream,
        }
    }
}
