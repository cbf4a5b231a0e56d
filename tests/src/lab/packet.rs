//! IPv4 packets, as far as a router looks into them.

use std::net::{Ipv4Addr, SocketAddrV4};

/// What a NAT tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What the router reads of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    /// Absent for anything but whole TCP and UDP packets: other protocols, and fragments but the first.
    pub(super) ports: Option<Ports>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) transport: Transport,
    pub(super) source: u16,
    pub(super) destination: u16,
    /// Where the transport header begins.
    at: usize,
}

/// An end of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Source,
    Destination,
}

/// Shorter is no IPv4 packet (RFC 791 §3.1).
const HEADER_MIN: usize = 20;

impl Header {
    /// `None` for what isn't a whole IPv4 packet, IPv6 among it.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let header_length = usize::from(packet.first()? & 0x0f) * 4;
        if packet[0] >> 4 != 4 || header_length < HEADER_MIN || packet.len() < header_length {
            return None;
        }
        let [source, destination] =
            [12, 16].map(|at| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]));
        let fragment = word(packet, 6)? & 0x3fff != 0;
        let transport = match packet[9] {
            6 => Some((Transport::Tcp, 20)),
            17 => Some((Transport::Udp, 8)),
            _ => None,
        };
        let ports = transport.filter(|(_, length)| !fragment && packet.len() >= header_length + length);
        let ports = ports.and_then(|(transport, _)| {
            let (source, destination) = (word(packet, header_length)?, word(packet, header_length + 2)?);
            Some(Ports { transport, source, destination, at: header_length })
        });
        Some(Self { source, destination, ports })
    }

    pub(super) fn source(&self) -> Option<SocketAddrV4> {
        Some(SocketAddrV4::new(self.source, self.ports?.source))
    }

    pub(super) fn destination(&self) -> Option<SocketAddrV4> {
        Some(SocketAddrV4::new(self.destination, self.ports?.destination))
    }
}

/// Writes another address and port into one end of a packet, and mends the checksums.
pub(super) fn rewrite(packet: &mut [u8], ports: Ports, end: End, to: SocketAddrV4) {
    let (address_at, port_at) = match end {
        End::Source => (12, ports.at),
        End::Destination => (16, ports.at + 2),
    };
    let checksum_at = match ports.transport {
        Transport::Tcp => ports.at + 16,
        Transport::Udp => ports.at + 6,
    };
    let address: [u8; 4] = to.ip().octets();
    let new = [u16::from_be_bytes([address[0], address[1]]), u16::from_be_bytes([address[2], address[3]]), to.port()];
    // UDP without a checksum stays without (RFC 768).
    let summed = ports.transport == Transport::Tcp || word(packet, checksum_at) != Some(0);
    for (at, new) in [address_at, address_at + 2, port_at].into_iter().zip(new) {
        let old = word(packet, at).unwrap_or(0);
        packet[at..at + 2].copy_from_slice(&new.to_be_bytes());
        // The IP header's sum covers addresses, the transport's both (its pseudo header).
        if at < HEADER_MIN {
            mend(packet, 10, old, new);
        }
        if summed {
            mend(packet, checksum_at, old, new);
        }
    }
}

/// RFC 1624, equation 3.
fn mend(packet: &mut [u8], checksum_at: usize, old: u16, new: u16) {
    let mut sum = u32::from(!word(packet, checksum_at).unwrap_or(0)) + u32::from(!old) + u32::from(new);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !(sum as u16);
    packet[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// UDP from 192.168.1.2:1000 to 198.18.0.1:53 with four bytes, sums right.
    fn udp() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 32, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 168, 1, 2, 198, 18, 0, 1];
        packet.extend([0x03, 0xe8, 0, 53, 0, 12, 0, 0, b'a', b'b', b'c', b'd']);
        let ip = !folded(&packet[..20]);
        packet[10..12].copy_from_slice(&ip.to_be_bytes());
        let sum = !transport_sum(&packet);
        packet[26..28].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn folded(bytes: &[u8]) -> u16 {
        let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn transport_sum(packet: &[u8]) -> u16 {
        let mut covered = packet[12..].to_vec();
        covered.extend([0, 17, 0, (packet.len() - 20) as u8]);
        folded(&covered)
    }

    #[test]
    fn a_rewritten_packet_has_right_sums() {
        let mut packet = udp();
        assert_eq!((folded(&packet[..20]), transport_sum(&packet)), (0xffff, 0xffff));
        let header = Header::of(&packet).unwrap();
        assert_eq!(header.source(), Some("192.168.1.2:1000".parse().unwrap()));
        let ports = header.ports.unwrap();
        rewrite(&mut packet, ports, End::Source, "198.18.7.9:40123".parse().unwrap());
        rewrite(&mut packet, ports, End::Destination, "10.0.0.1:5353".parse().unwrap());
        let header = Header::of(&packet).unwrap();
        assert_eq!(header.source(), Some("198.18.7.9:40123".parse().unwrap()));
        assert_eq!(header.destination(), Some("10.0.0.1:5353".parse().unwrap()));
        assert_eq!((folded(&packet[..20]), transport_sum(&packet)), (0xffff, 0xffff));
    }

    #[test]
    fn what_has_no_ports_is_told_and_rubbish_is_none() {
        let mut fragment = udp();
        fragment[7] = 3;
        assert_eq!(Header::of(&fragment).unwrap().ports, None);
        let mut icmp = udp();
        icmp[9] = 1;
        assert_eq!(Header::of(&icmp).unwrap().ports, None);
        assert_eq!(Header::of(&udp()[..19]), None);
        assert_eq!(Header::of(&[0x60; 40]), None);
        assert_eq!(Header::of(&[]), None);
    }
}
