//! Addresses: which can be dialled, and which of a viewer's claims others may be given.

use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use starling_proto::wire::MAX_ADDRS;

/// What a multiaddr of ours boils down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) transport: Transport,
    /// The peer the address insists on.
    pub(crate) peer: Option<PeerId>,
}

/// Where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Ip(IpAddr),
    /// The protocol as written, `/dns4/…` for one.
    Name(Protocol<'static>),
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Quic,
    Tcp,
}

/// Who can reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The same machine.
    Loopback,
    /// The same network: RFC 1918, RFC 4193, RFC 6598 (carrier NAT), link-local.
    Private,
    /// Anybody.
    Public,
    /// Nobody: unspecified, multicast, broadcast.
    Nobody,
}

impl Endpoint {
    /// The endpoint an address names; `None` for anything but QUIC and TCP on a host (relayed addresses, web sockets).
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other protocols are refused alike")]
    pub(crate) fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let host = match parts.next()? {
            Protocol::Ip4(ip) => Host::Ip(ip.into()),
            Protocol::Ip6(ip) => Host::Ip(ip.into()),
            name if name.tag().starts_with("dns") => Host::Name(name.acquire()),
            _ => return None,
        };
        let (transport, port) = match parts.next()? {
            Protocol::Tcp(port) => (Transport::Tcp, port),
            Protocol::Udp(port) => parts.next().filter(|p| *p == Protocol::QuicV1).map(|_| (Transport::Quic, port))?,
            _ => return None,
        };
        let peer = match parts.next() {
            None => None,
            Some(Protocol::P2p(peer)) => Some(peer),
            Some(_) => return None,
        };
        parts.next().is_none().then_some(Self { host, port, transport, peer })
    }

    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ip(ip) => Some(ip.to_canonical()),
            Host::Name(_) => None,
        }
    }

    /// The address again, without a peer.
    pub(crate) fn address(&self) -> Multiaddr {
        let host = match &self.host {
            Host::Ip(IpAddr::V4(ip)) => Protocol::Ip4(*ip),
            Host::Ip(IpAddr::V6(ip)) => Protocol::Ip6(*ip),
            Host::Name(name) => name.clone(),
        };
        let address = Multiaddr::empty().with(host);
        match self.transport {
            Transport::Quic => address.with(Protocol::Udp(self.port)).with(Protocol::QuicV1),
            Transport::Tcp => address.with(Protocol::Tcp(self.port)),
        }
    }

    fn at(&self, ip: IpAddr) -> Self {
        Self { host: Host::Ip(ip), peer: None, ..self.clone() }
    }
}

/// Who can reach `ip`.
pub(crate) fn reach(ip: IpAddr) -> Reach {
    let unique_local = |ip: Ipv6Addr| ip.segments()[0] & 0xfe00 == 0xfc00;
    let link_local = |ip: Ipv6Addr| ip.segments()[0] & 0xffc0 == 0xfe80;
    match ip.to_canonical() {
        ip if ip.is_unspecified() || ip.is_multicast() => Reach::Nobody,
        ip if ip.is_loopback() => Reach::Loopback,
        IpAddr::V4(ip) if ip.is_broadcast() => Reach::Nobody,
        IpAddr::V4(ip) => {
            let carrier_nat = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            if ip.is_private() || ip.is_link_local() || carrier_nat { Reach::Private } else { Reach::Public }
        }
        IpAddr::V6(ip) => {
            if unique_local(ip) || link_local(ip) {
                Reach::Private
            } else {
                Reach::Public
            }
        }
    }
}

/// The addresses of `peer` that others are given, in binary form: what it claims and we see, or what it claims with the
/// address we see. It was seen at `observed`; what is claimed without proof could make others dial strangers.
pub(crate) fn offered(peer: PeerId, claims: &[Bytes], observed: &Endpoint) -> Vec<Bytes> {
    let Some(seen) = observed.ip() else { return Vec::new() };
    let claimed: Vec<Endpoint> = claims.iter().filter_map(|claim| claim_of(peer, claim)).collect();
    let proven = claimed.iter().filter(|claim| claim.ip().is_some_and(|ip| is_believable(ip, seen))).cloned();
    let moved = claimed.iter().filter(|claim| claim.ip().is_some_and(|ip| ip.is_ipv4() == seen.is_ipv4()));
    let moved = moved.map(|claim| claim.at(seen));
    // A QUIC viewer dials from the socket it listens on, so a NAT's mapping of it may let others in.
    let mapped = (observed.transport == Transport::Quic).then(|| observed.at(seen));
    let mut addresses = Vec::new();
    for address in proven.chain(moved).chain(mapped).map(|endpoint| Bytes::from(endpoint.address().to_vec())) {
        if addresses.len() < MAX_ADDRS && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn claim_of(peer: PeerId, claim: &Bytes) -> Option<Endpoint> {
    let endpoint = Endpoint::of(&Multiaddr::try_from(claim.to_vec()).ok()?)?;
    let own = endpoint.peer.is_none_or(|named| named == peer);
    (own && endpoint.port != 0 && endpoint.ip().is_some()).then_some(Endpoint { peer: None, ..endpoint })
}

fn is_believable(claimed: IpAddr, seen: IpAddr) -> bool {
    match (reach(claimed), reach(seen)) {
        (Reach::Nobody, _) => false,
        (Reach::Loopback, seen) => seen == Reach::Loopback,
        (Reach::Private, Reach::Loopback | Reach::Private) => true,
        (Reach::Private | Reach::Public, _) => claimed == seen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(address: &str) -> Bytes {
        address.parse::<Multiaddr>().expect("written here").to_vec().into()
    }

    fn seen_at(observed: &str, claims: &[&str]) -> Vec<String> {
        let observed = Endpoint::of(&observed.parse().expect("written here")).expect("an endpoint");
        let claims: Vec<Bytes> = claims.iter().map(|claim| binary(claim)).collect();
        let offered = offered(PeerId::random(), &claims, &observed);
        offered.iter().map(|bytes| Multiaddr::try_from(bytes.to_vec()).expect("ours").to_string()).collect()
    }

    #[test]
    fn only_seen_public_addresses_are_offered() {
        let offered =
            seen_at("/ip4/203.0.113.9/tcp/50123", &["/ip4/203.0.113.9/tcp/4001", "/ip4/198.51.100.1/udp/9/quic-v1"]);
        assert_eq!(offered, ["/ip4/203.0.113.9/tcp/4001", "/ip4/203.0.113.9/udp/9/quic-v1"]);
    }

    #[test]
    fn behind_a_nat_the_seen_address_takes_the_claimed_ports() {
        let claims = ["/ip4/192.168.1.5/udp/4001/quic-v1", "/ip4/127.0.0.1/udp/4001/quic-v1", "/ip6/::1/tcp/4001"];
        let offered = seen_at("/ip4/203.0.113.9/udp/61000/quic-v1", &claims);
        assert_eq!(offered, ["/ip4/203.0.113.9/udp/4001/quic-v1", "/ip4/203.0.113.9/udp/61000/quic-v1"]);
    }

    #[test]
    fn private_claims_count_inside_and_loopback_ones_on_the_machine() {
        let claims = ["/ip4/192.168.1.5/tcp/4001", "/ip4/127.0.0.1/tcp/4001"];
        assert_eq!(seen_at("/ip4/192.168.1.5/tcp/50000", &claims), ["/ip4/192.168.1.5/tcp/4001"]);
        let on_the_machine = seen_at("/ip4/127.0.0.1/tcp/50000", &claims);
        assert_eq!(on_the_machine, ["/ip4/192.168.1.5/tcp/4001", "/ip4/127.0.0.1/tcp/4001"]);
    }

    #[test]
    fn nonsense_is_left_out_and_the_rest_bounded() {
        let stranger = format!("/ip4/203.0.113.9/tcp/4001/p2p/{}", PeerId::random());
        let nonsense = ["/ip4/203.0.113.9/tcp/0", "/ip4/203.0.113.9/tcp/80/ws", "/dns4/example.org/tcp/1", &stranger];
        assert!(seen_at("/ip4/203.0.113.9/tcp/50000", &nonsense).is_empty());
        let many: Vec<String> = (1..30).map(|port| format!("/ip4/203.0.113.9/tcp/{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(seen_at("/ip4/203.0.113.9/tcp/50000", &many).len(), MAX_ADDRS);
        let observed = Endpoint::of(&"/ip4/203.0.113.9/tcp/1".parse().expect("valid")).expect("an endpoint");
        assert!(offered(PeerId::random(), &[Bytes::from_static(b"\xff\xff\xff garbage")], &observed).is_empty());
    }

    #[test]
    fn reach_follows_the_registries() {
        let cases = [
            ("127.9.9.9", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("10.1.2.3", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("100.128.0.1", Reach::Public),
            ("fd00::1", Reach::Private),
            ("fe80::1", Reach::Private),
            ("2001:db8::1", Reach::Public),
            ("0.0.0.0", Reach::Nobody),
            ("224.0.0.1", Reach::Nobody),
        ];
        for (ip, expected) in cases {
            assert_eq!(reach(ip.parse().expect("written here")), expected, "{ip}");
        }
    }
}
