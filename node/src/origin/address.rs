//! Which IP addresses are on the public internet.
//!
//! Anything else (this machine, its router, the office network, a cloud's metadata service) must not be reachable
//! through what a stream says. From the IANA special-purpose address registries, RFC 6890 and its successors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether packets to `ip` leave for the public internet. In doubt, no.
pub fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_global_v4(v4),
        IpAddr::V6(v6) => is_global_v6(v6),
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = match a {
        0 | 10 | 127 => true,          // this network (RFC 791), private (RFC 1918), loopback (RFC 1122)
        100 => (64..128).contains(&b), // carrier-grade NAT, RFC 6598
        169 => b == 254,               // link-local, RFC 3927; cloud metadata
        172 => (16..32).contains(&b),  // private
        192 => matches!(
            (b, c),
            (0, 0 | 2) // protocol assignments RFC 6890, documentation RFC 5737
            | (88, 99)                     // 6to4 relays, RFC 7526
            | (168, _)
        ), // private
        198 => b == 18 || b == 19 || (b, c) == (51, 100), // benchmarks RFC 2544, documentation
        203 => (b, c) == (0, 113),     // documentation
        224.. => true,                 // multicast RFC 5771, reserved RFC 1112, broadcast
        _ => false,
    };
    !special
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    match s {
        // IPv4 in IPv6 clothes: mapped (RFC 4291 §2.5.5.2) and NAT64 (RFC 6052), which IPv6-only mobile networks use
        // for every IPv4 server.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_global_v4(embedded(high, low)),
        [0x2001, 0..0x200, ..] => false, // protocol assignments incl. Teredo and ORCHID, RFC 2928
        [0x2001, 0x0db8, ..] => false,   // documentation, RFC 3849
        [0x2002, ..] => false,           // 6to4 carries an IPv4 address, RFC 3056, deprecated
        [0x3fff, 0..0x1000, ..] => false, // documentation, RFC 9637
        [first, ..] => first >> 13 == 0b001, // 2000::/3 is all of global unicast, RFC 4291 §2.4
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_internet_is_global() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(is_global(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.254",
            "127.0.0.1",
            "127.255.0.3",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.9",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.251",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::192.168.1.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff:fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_global(ip.parse().unwrap()), "{ip}");
        }
    }
}
