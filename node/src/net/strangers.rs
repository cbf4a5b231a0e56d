//! Peers that speak another version of the protocol: let go, and told of where it matters to the person.

use std::collections::BTreeSet;

use starling_proto::PeerId;
use starling_proto::wire::VERSION;

use super::driver::Driver;
use crate::identity;

/// Who can't talk with us.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// Those met, the first few: whether there are any is all that counts.
    met: BTreeSet<PeerId>,
    /// What the person is told of it.
    notice: Option<&'static str>,
    /// And what was said in the log, once each.
    said: Vec<&'static str>,
}

/// Strangers remembered.
const MET_MAX: usize = 64;

const BROADCASTER: &str = "the broadcaster runs another version of Starling than this one: update the older of the two; until \
                           then the picture comes from the origin alone, if it comes";
const EVERYBODY: &str = "all viewers met so far run another version of Starling than this one: update the older; until then \
                         nothing comes from them and nothing goes to them";

impl Driver {
    /// A peer speaks these versions, and not ours.
    pub(super) fn met_stranger(&mut self, peer: PeerId, theirs: &[u16], agent: &str) {
        let agent: String = agent.chars().filter(|c| !c.is_control()).take(64).collect();
        let theirs = &theirs[..theirs.len().min(8)];
        if self.strangers.met.len() < MET_MAX && self.strangers.met.insert(peer) {
            tracing::info!(
                ?theirs,
                ours = VERSION,
                agent,
                "a peer speaks another version of the protocol; letting it go"
            );
        } else {
            tracing::debug!(?theirs, ours = VERSION, agent, "a peer speaks another version of the protocol again");
        }
    }

    /// It speaks our version after all.
    pub(super) fn met_friend(&mut self, peer: PeerId) {
        self.strangers.met.remove(&peer);
    }

    /// What the person should know; said in the log once.
    pub(super) fn look_at_strangers(&mut self) {
        let source = identity::to_proto(&libp2p::identity::PublicKey::from(self.stream_key.clone()).to_peer_id());
        let others = self.neighbour_addrs.keys().any(|peer| Some(*peer) != source);
        let strangers = &mut self.strangers;
        let notice = if source.is_some_and(|source| strangers.met.contains(&source)) {
            Some(BROADCASTER)
        } else if !strangers.met.is_empty() && !others {
            Some(EVERYBODY)
        } else {
            None
        };
        if let Some(notice) = notice.filter(|notice| !strangers.said.contains(notice)) {
            strangers.said.push(notice);
            tracing::warn!("{notice}");
        }
        strangers.notice = notice;
    }

    pub(super) fn notice(&self) -> Option<&'static str> {
        self.strangers.notice
    }
}
