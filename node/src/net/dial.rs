//! Which of a peer's addresses are dialled first: QUIC, because over TCP every answer leaves as one burst, which the queue
//! of a slow home link doesn't hold, and one lost packet delays all streams (in the lab an eighth of the connections were
//! TCP's, and three quarters as many of their full packets were dropped as of all the others').

use std::collections::{HashMap, HashSet};

use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// What to dial when QUIC didn't get through.
#[derive(Debug, Default)]
pub(super) struct Dials {
    quic: Quic,
    /// By peer that is being dialled.
    second_choice: HashMap<PeerId, Vec<Multiaddr>>,
    /// Peers that QUIC didn't reach, and that are dialled otherwise.
    fell_back: HashSet<PeerId>,
}

/// Whether this network lets QUIC through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quic {
    /// Where both were dialled at once TCP won on fast links, and QUIC was never tried alone.
    #[default]
    Unknown,
    Works,
    /// Somebody was reached over TCP after QUIC had failed: everything is dialled at once.
    Doubtful,
}

/// Peers with a second choice; swarms have no more dials under way. Beyond it everything is dialled at once.
const SECOND_MAX: usize = 64;

impl Dials {
    /// Which of `addresses` to dial now.
    pub(super) fn first(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        let (quic, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_quic);
        if quic.is_empty() || self.quic == Quic::Doubtful || self.second_choice.len() >= SECOND_MAX {
            return quic.into_iter().chain(others).collect();
        }
        if !others.is_empty() {
            self.second_choice.insert(peer, others);
        }
        quic
    }

    /// A dial failed: what to dial now.
    pub(super) fn failed(&mut self, peer: &PeerId) -> Option<Vec<Multiaddr>> {
        self.fell_back.remove(peer);
        let second = self.second_choice.remove(peer)?;
        if self.fell_back.len() < SECOND_MAX {
            self.fell_back.insert(*peer);
        }
        Some(second)
    }

    /// Nobody dials it any more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.second_choice.remove(peer);
        self.fell_back.remove(peer);
    }

    /// Somebody is connected.
    pub(super) fn connected(&mut self, peer: &PeerId, endpoint: &ConnectedPoint) {
        if is_quic(endpoint.get_remote_address()) {
            self.quic = Quic::Works;
        } else if self.fell_back.contains(peer) && endpoint.is_dialer() && self.quic == Quic::Unknown {
            self.quic = Quic::Doubtful;
        }
        self.forget(peer);
    }
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::QuicV1)
}

#[cfg(test)]
mod tests {
    use libp2p::core::Endpoint;
    use libp2p::core::transport::PortUse;

    use super::*;

    const QUIC: &str = "/ip4/192.0.2.1/udp/7/quic-v1";
    const TCP: &str = "/ip4/192.0.2.1/tcp/7";

    fn addresses(of: &[&str]) -> Vec<Multiaddr> {
        of.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn endpoint(address: &str) -> ConnectedPoint {
        let (role_override, port_use) = (Endpoint::Dialer, PortUse::Reuse);
        ConnectedPoint::Dialer { address: address.parse().unwrap(), role_override, port_use }
    }

    #[test]
    fn quic_first_unless_only_tcp_gets_through() {
        let (mut dials, peer) = (Dials::default(), PeerId::random());
        let both = || addresses(&[TCP, QUIC]);
        assert_eq!(dials.first(peer, both()), addresses(&[QUIC]));
        dials.connected(&PeerId::random(), &endpoint(TCP));
        assert_eq!(dials.first(peer, both()), addresses(&[QUIC]), "that one may have TCP alone");
        assert_eq!(dials.failed(&peer), Some(addresses(&[TCP])));
        dials.connected(&peer, &endpoint(TCP));
        assert_eq!(dials.first(peer, both()), addresses(&[QUIC, TCP]), "all at once");
        assert_eq!(dials.failed(&peer), None);
        dials.connected(&PeerId::random(), &endpoint(QUIC));
        dials.connected(&PeerId::random(), &endpoint(TCP));
        assert_eq!(dials.first(peer, both()), addresses(&[QUIC]), "it works; that one has a NAT of its own");
        assert_eq!(dials.first(peer, addresses(&[TCP])), addresses(&[TCP]));
    }

    #[test]
    fn who_is_connected_has_no_second_choice_and_there_are_not_many() {
        let (mut dials, peer) = (Dials::default(), PeerId::random());
        dials.connected(&peer, &endpoint(QUIC));
        dials.first(peer, addresses(&[QUIC, TCP]));
        dials.connected(&peer, &endpoint(QUIC));
        assert_eq!(dials.failed(&peer), None);
        for _ in 0..2 * SECOND_MAX {
            dials.first(PeerId::random(), addresses(&[QUIC, TCP]));
        }
        assert_eq!(dials.second_choice.len(), SECOND_MAX);
        dials.second_choice.keys().copied().collect::<Vec<_>>().iter().for_each(|peer| dials.forget(peer));
        assert!(dials.second_choice.is_empty());
    }
}
