//! Address translation as RFC 4787 names it: how outer ports are given out (mapping) and who may use them (filtering).
//!
//! Only UDP and TCP are translated; ICMP doesn't pass. A port that is free outside is kept (RFC 4787 §4.2.1), except by
//! a symmetric NAT, which gives a random one to every destination.

use std::{collections::HashMap, net::SocketAddrV4, time::Duration};

use serde::{Deserialize, Serialize};
use starling_proto::Rng;

use super::packet::Transport;

/// A class of NAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NatClass {
    /// No translation: the host has a public address and everybody reaches it.
    #[default]
    None,
    /// Endpoint-independent mapping and filtering: whoever knows the outer port reaches the host.
    FullCone,
    /// Endpoint-independent mapping, address and port-dependent filtering.
    PortRestricted,
    /// Address and port-dependent mapping and filtering.
    Symmetric,
}

/// One host's NAT.
#[derive(Debug)]
pub(super) struct Nat {
    class: NatClass,
    mappings: HashMap<Inner, Mapping>,
    outer: HashMap<(Transport, u16), Inner>,
}

/// What a mapping belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Inner {
    transport: Transport,
    port: u16,
    /// Only where the mapping depends on it.
    remote: Option<SocketAddrV4>,
}

#[derive(Debug)]
struct Mapping {
    port: u16,
    /// When something last went out, to anybody.
    used: Duration,
    /// When something last went out to each.
    sent: HashMap<SocketAddrV4, Duration>,
}

/// Mappings a NAT holds at most, and destinations it remembers for each; the longest unused goes first.
const MAPPINGS_MAX: usize = 2048;
const DESTINATIONS_MAX: usize = 512;
/// RFC 4787 §4.3: not below 2 minutes, 5 recommended.
const UDP_EXPIRY: Duration = Duration::from_secs(300);
/// RFC 5382 §5: 2 h 4 min.
const TCP_EXPIRY: Duration = Duration::from_secs(7440);
/// Outer ports given out at random (RFC 4787 §4.2.1: 1024 and up).
const PORTS: std::ops::Range<usize> = 1024..65536;

impl Nat {
    pub(super) fn new(class: NatClass) -> Self {
        Self { class, mappings: HashMap::new(), outer: HashMap::new() }
    }

    pub(super) fn is_transparent(&self) -> bool {
        self.class == NatClass::None
    }

    /// The outer port for a packet that leaves.
    pub(super) fn outbound(
        &mut self,
        now: Duration,
        transport: Transport,
        port: u16,
        to: SocketAddrV4,
        rng: &mut Rng,
    ) -> Option<u16> {
        let inner = Inner { transport, port, remote: (self.class == NatClass::Symmetric).then_some(to) };
        let expired = self.mappings.get(&inner).is_some_and(|mapping| now > mapping.used + expiry(transport));
        if expired {
            self.forget(inner);
        }
        if !self.mappings.contains_key(&inner) {
            self.map(now, inner, rng)?;
        }
        let mapping = self.mappings.get_mut(&inner)?;
        mapping.used = now;
        if mapping.sent.len() >= DESTINATIONS_MAX && !mapping.sent.contains_key(&to) {
            let oldest = mapping.sent.iter().min_by_key(|(_, at)| **at).map(|(remote, _)| *remote);
            oldest.and_then(|oldest| mapping.sent.remove(&oldest));
        }
        mapping.sent.insert(to, now);
        Some(mapping.port)
    }

    /// The inner port for a packet that arrives at an outer one; `None`: it isn't let in.
    pub(super) fn inbound(&self, now: Duration, transport: Transport, port: u16, from: SocketAddrV4) -> Option<u16> {
        let inner = self.outer.get(&(transport, port))?;
        let mapping = self.mappings.get(inner)?;
        let lately = |at: &Duration| now <= *at + expiry(transport);
        let allowed = match self.class {
            NatClass::None => true,
            NatClass::FullCone => lately(&mapping.used),
            NatClass::PortRestricted | NatClass::Symmetric => mapping.sent.get(&from).is_some_and(lately),
        };
        allowed.then_some(inner.port)
    }

    fn map(&mut self, now: Duration, inner: Inner, rng: &mut Rng) -> Option<()> {
        if self.mappings.len() >= MAPPINGS_MAX {
            let oldest = self.mappings.iter().min_by_key(|(_, mapping)| mapping.used).map(|(inner, _)| *inner);
            self.forget(oldest?);
        }
        let free = |port: &u16| !self.outer.contains_key(&(inner.transport, *port));
        let kept = (self.class != NatClass::Symmetric).then_some(inner.port).filter(free);
        let mut random = || u16::try_from(PORTS.start + rng.below(PORTS.len())).ok();
        // With 2,048 of 64,512 taken, sixteen draws in a row fail once in 10²⁴.
        let port = kept.or_else(|| (0..16).filter_map(|_| random()).find(free))?;
        self.outer.insert((inner.transport, port), inner);
        self.mappings.insert(inner, Mapping { port, used: now, sent: HashMap::new() });
        Some(())
    }

    fn forget(&mut self, inner: Inner) {
        if let Some(mapping) = self.mappings.remove(&inner) {
            self.outer.remove(&(inner.transport, mapping.port));
        }
    }
}

fn expiry(transport: Transport) -> Duration {
    match transport {
        Transport::Udp => UDP_EXPIRY,
        Transport::Tcp => TCP_EXPIRY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn at(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    /// A NAT whose host has sent from port 4001 to `a`, and then the port it got.
    fn sent_to_a(class: NatClass) -> (Nat, Rng, u16) {
        let (mut nat, mut rng) = (Nat::new(class), Rng::new(1));
        let port = nat.outbound(NOW, Transport::Udp, 4001, at("198.18.0.1:5"), &mut rng).unwrap();
        (nat, rng, port)
    }

    #[test]
    fn a_full_cone_lets_everybody_in_and_nobody_before_it_sent() {
        let (mut nat, mut rng, port) = sent_to_a(NatClass::FullCone);
        assert_eq!(nat.outbound(NOW, Transport::Udp, 4001, at("198.18.0.2:6"), &mut rng), Some(port));
        assert_eq!(nat.inbound(NOW, Transport::Udp, port, at("198.18.9.9:9")), Some(4001));
        assert_eq!(nat.inbound(NOW, Transport::Tcp, port, at("198.18.0.1:5")), None);
        assert_eq!(nat.inbound(NOW, Transport::Udp, port + 1, at("198.18.0.1:5")), None);
    }

    #[test]
    fn a_port_restricted_one_lets_in_whom_it_sent_to_by_address_and_port() {
        let (mut nat, mut rng, port) = sent_to_a(NatClass::PortRestricted);
        assert_eq!(nat.inbound(NOW, Transport::Udp, port, at("198.18.0.1:5")), Some(4001));
        assert_eq!(nat.inbound(NOW, Transport::Udp, port, at("198.18.0.1:6")), None);
        assert_eq!(nat.inbound(NOW, Transport::Udp, port, at("198.18.0.2:5")), None);
        assert_eq!(nat.outbound(NOW, Transport::Udp, 4001, at("198.18.0.2:5"), &mut rng), Some(port));
        assert_eq!(nat.inbound(NOW, Transport::Udp, port, at("198.18.0.2:5")), Some(4001));
    }

    #[test]
    fn a_symmetric_one_maps_every_destination_to_a_port_of_its_own() {
        let (mut nat, mut rng, port) = sent_to_a(NatClass::Symmetric);
        let other = nat.outbound(NOW, Transport::Udp, 4001, at("198.18.0.1:6"), &mut rng).unwrap();
        assert_ne!(port, other);
        assert_eq!(nat.outbound(NOW, Transport::Udp, 4001, at("198.18.0.1:5"), &mut rng), Some(port));
        assert_eq!(nat.inbound(NOW, Transport::Udp, other, at("198.18.0.1:6")), Some(4001));
        assert_eq!(nat.inbound(NOW, Transport::Udp, other, at("198.18.0.1:5")), None);
    }

    #[test]
    fn mappings_expire_and_tables_are_bounded() {
        let (mut nat, mut rng, port) = sent_to_a(NatClass::FullCone);
        let later = NOW + UDP_EXPIRY + Duration::from_secs(1);
        assert_eq!(nat.inbound(later, Transport::Udp, port, at("198.18.0.1:5")), None);
        for port in 1..=5000 {
            assert!(nat.outbound(later, Transport::Udp, port, at("198.18.0.1:5"), &mut rng).is_some());
        }
        assert!(nat.mappings.len() <= MAPPINGS_MAX && nat.outer.len() <= MAPPINGS_MAX);
        for remote in 1..=2000 {
            nat.outbound(later, Transport::Udp, 5000, SocketAddrV4::new([198, 18, 0, 1].into(), remote), &mut rng);
        }
        assert!(nat.mappings.values().all(|mapping| mapping.sent.len() <= DESTINATIONS_MAX));
    }
}
