//! The broadcaster's last sign of life, for whoever goes on without it.

use std::time::Instant;

use starling_proto::RenditionId;

/// When the broadcaster was last heard of, as far as somebody who follows something can tell.
#[derive(Clone, Debug)]
pub struct Heard {
    /// What players follow, by rising id. Nothing is announced to a node that follows nothing.
    pub following: Vec<RenditionId>,
    /// When a signed announcement was last news, or, if later, when players began to follow something.
    pub at: Instant,
}

impl Default for Heard {
    fn default() -> Self {
        Self { following: Vec::new(), at: Instant::now() }
    }
}
