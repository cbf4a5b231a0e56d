//! The command line, which is also the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use libp2p::Multiaddr;

use crate::address::{Endpoint, Host};

/// Proposes near and able neighbours to the viewers of a Starling stream.
#[derive(Clone, Debug, Parser)]
#[command(name = "starling-hint-server", version, long_about = ABOUT, after_long_help = EXAMPLES)]
pub struct Config {
    /// Where viewers reach this server; repeat for several. Port 0 takes any free port
    #[arg(
        long,
        env = "STARLING_HINT_LISTEN",
        value_name = "MULTIADDR",
        value_delimiter = ',',
        value_parser = listen_address,
        default_values = ["/ip4/0.0.0.0/udp/7400/quic-v1", "/ip4/0.0.0.0/tcp/7400"]
    )]
    pub listen: Vec<Multiaddr>,

    /// Where the status page, metrics and health checks are served. Keep it off the public network: it has no password
    #[arg(long, env = "STARLING_HINT_HTTP", value_name = "ADDR", default_value = "127.0.0.1:7480")]
    pub http: SocketAddr,

    /// A city or country database in MaxMind format (.mmdb), to place viewers by address
    ///
    /// GeoLite2-City, GeoLite2-Country and DB-IP's files work. Without one viewers are placed by what they say of
    /// themselves and by shared address prefixes. It is read once, at the start.
    #[arg(long, env = "STARLING_HINT_GEOIP", value_name = "FILE")]
    pub geoip: Option<PathBuf>,

    /// A database of access providers in MaxMind format (GeoLite2-ASN), to prefer neighbours of the same provider
    #[arg(long, env = "STARLING_HINT_GEOIP_ASN", value_name = "FILE")]
    pub geoip_asn: Option<PathBuf>,

    /// Where the server's key lives; its name in `hint` addresses follows from the key. Default: the user's data directory
    #[arg(long, env = "STARLING_HINT_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// An address under which the Internet reaches this server, if it can't see it itself (behind NAT or in a
    /// container); repeat for several
    #[arg(
        long,
        env = "STARLING_HINT_EXTERNAL_ADDRESS",
        value_name = "MULTIADDR",
        value_delimiter = ',',
        value_parser = external_address
    )]
    pub external_address: Vec<Multiaddr>,

    /// Most viewers at once, over all streams; each takes 1 to 2 KB. More are told that the server is full
    #[arg(
        long,
        env = "STARLING_HINT_VIEWERS_MAX",
        value_name = "N",
        default_value_t = 200_000,
        value_parser = clap::value_parser!(u32).range(1..=2_000_000)
    )]
    pub viewers_max: u32,

    /// How often viewers ask. Not an option: what they say every ten seconds, nobody needs to tune; tests do.
    #[arg(skip = Duration::from_secs(10))]
    pub refresh: Duration,
}

const ABOUT: &str = "\
Proposes near and able neighbours to the viewers of a Starling stream.

Viewers tell this server what they watch and how much upload they offer. It knows who they are from the connection and \
where they are from their address, and answers each with a dozen others to connect to: mostly near, able to upload, a few \
far away so that the swarm stays one piece. It also signs, every 30 seconds, the list of able viewers from which seeds are \
drawn. No media passes through it. If it stops, viewers keep watching and exchange neighbours among themselves.

When it is ready it prints on standard output one line `hint MULTIADDR` for every address viewers can use (that is what \
`starling broadcast --hint` takes) and one line `http URL` for its status page. Logs go to standard error; RUST_LOG sets \
their level (error, warn, info, debug, trace).";

const EXAMPLES: &str = "\
Examples:
  On one machine, to try it:
      starling-hint-server --listen /ip4/127.0.0.1/udp/0/quic-v1 --http 127.0.0.1:0
  On a server, with places from a database:
      starling-hint-server --geoip GeoLite2-City.mmdb --geoip-asn GeoLite2-ASN.mmdb
  In a container or behind a router that forwards port 7400:
      starling-hint-server --external-address /dns4/hints.example.org/udp/7400/quic-v1
  Then, for the broadcaster:
      starling broadcast test --hint /dns4/hints.example.org/udp/7400/quic-v1/p2p/12D3KooW...";

fn listen_address(text: &str) -> Result<Multiaddr, String> {
    match endpoint(text)? {
        (address, Endpoint { host: Host::Ip(_), .. }) => Ok(address),
        (_, Endpoint { host: Host::Name(_), .. }) => {
            Err("a server listens on numbers, not names: write /ip4/0.0.0.0/udp/7400/quic-v1".to_owned())
        }
    }
}

fn external_address(text: &str) -> Result<Multiaddr, String> {
    endpoint(text).map(|(address, _)| address)
}

fn endpoint(text: &str) -> Result<(Multiaddr, Endpoint), String> {
    let forms = "write /ip4/0.0.0.0/udp/7400/quic-v1 or /ip4/0.0.0.0/tcp/7400";
    let address: Multiaddr = text.parse().map_err(|error| format!("not a multiaddr ({error}): {forms}"))?;
    let endpoint = Endpoint::of(&address).ok_or_else(|| format!("neither QUIC nor TCP: {forms}"))?;
    Ok((endpoint.address(), endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, String> {
        let args = ["starling-hint-server"].iter().chain(args);
        Config::try_parse_from(args).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_listen_on_quic_and_tcp() {
        let config = parse(&[]).expect("no option is required");
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.http.port(), 7480);
    }

    #[test]
    fn bad_addresses_are_told_the_right_form() {
        for bad in ["localhost:7400", "/ip4/1.2.3.4/udp/7400", "/dns4/example.org/tcp/7400", "/ip4/300.0.0.1/tcp/1"] {
            let error = parse(&["--listen", bad]).expect_err("refused");
            assert!(error.contains("/ip4/0.0.0.0/udp/7400/quic-v1"), "{bad}: {error}");
        }
        assert!(parse(&["--http", "7480"]).is_err());
        assert!(parse(&["--viewers-max", "0"]).is_err());
    }

    #[test]
    fn external_addresses_may_be_names() {
        let config =
            parse(&["--external-address", "/dns4/hints.example.org/udp/7400/quic-v1"]).expect("a name is fine");
        assert_eq!(config.external_address.len(), 1);
    }
}
