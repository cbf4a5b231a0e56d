//! The libp2p side: what is spoken, within which limits, and who is who.

use std::io;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, TransportError, connection_limits, identify, noise, ping,
    request_response, tcp, yamux,
};
use starling_proto::wire::MAX_CONTROL_LEN;

use crate::address::{Endpoint, Transport};
use crate::codec::Frames;

/// The protocol viewers ask on.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/starling/1/hint");

/// What this server speaks.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) hints: request_response::Behaviour<Frames>,
}

/// Connections at once. One takes 80 (TCP) to 145 KiB (QUIC), so 3 GB at most (measured, research notes libp2p §8).
/// Larger audiences ask less often and don't stay connected in between.
const CONNECTIONS_MAX: u32 = 20_000;

/// Handshakes at once.
const HANDSHAKES_MAX: u32 = 1_024;

/// Connections of one peer: a QUIC and a TCP one, and the next while the last dies.
const CONNECTIONS_PER_PEER_MAX: u32 = 4;

/// Requests at once on one connection. Answers are immediate, so one would do.
const REQUESTS_PER_CONNECTION_MAX: usize = 8;

/// Viewers ask every ten seconds; who doesn't needs no connection.
const IDLE_AFTER: Duration = Duration::from_secs(30);

pub(crate) fn build(key: Keypair) -> Result<Swarm<Behaviour>, noise::Error> {
    let Ok(builder) = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_behaviour(behaviour);
    let builder = builder.with_swarm_config(|config| {
        config
            .with_idle_connection_timeout(IDLE_AFTER)
            // Saves a round trip per request: there is only one protocol to agree on.
            .with_substream_upgrade_protocol_override(Version::V1Lazy)
    });
    Ok(builder.build())
}

/// The protocol's name of a libp2p peer, whose key must be Ed25519: its 32 bytes follow this prefix in the id.
pub(crate) fn name_of(peer: PeerId) -> Option<starling_proto::PeerId> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&ED25519_PREFIX)?;
    Some(starling_proto::PeerId(key.try_into().ok()?))
}

/// Identity multihash of 36 bytes, a protobuf: key type 1 (Ed25519), key of 32 bytes (libp2p specifications, peer ids).
const ED25519_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// Begins to listen, or says in words why not.
pub(crate) fn listen(swarm: &mut Swarm<Behaviour>, address: &Multiaddr) -> Result<ListenerId, String> {
    claim_tcp_port(address).map_err(|error| error.to_string())?;
    swarm.listen_on(address.clone()).map_err(|error| match error {
        TransportError::MultiaddrNotSupported(_) => "neither QUIC nor TCP".to_owned(),
        TransportError::Other(error) => innermost(&error).to_string(),
    })
}

/// libp2p's TCP shares its port (SO_REUSEPORT, for hole punching), so two servers could listen on one and each get half
/// of the viewers. Binding it once without sharing finds the other.
fn claim_tcp_port(address: &Multiaddr) -> io::Result<()> {
    let endpoint = Endpoint::of(address).filter(|endpoint| endpoint.transport == Transport::Tcp && endpoint.port != 0);
    let Some((ip, port)) = endpoint.and_then(|endpoint| Some((endpoint.ip()?, endpoint.port))) else { return Ok(()) };
    std::net::TcpListener::bind((ip, port)).map(drop)
}

fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error)
}

fn behaviour(key: &Keypair) -> Behaviour {
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(HANDSHAKES_MAX))
        .with_max_established(Some(CONNECTIONS_MAX))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX));
    let agent = concat!("starling-hint-server/", env!("CARGO_PKG_VERSION")).to_owned();
    let config = request_response::Config::default().with_max_concurrent_streams(REQUESTS_PER_CONNECTION_MAX);
    Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        identify: identify::Behaviour::new(
            identify::Config::new("/starling/1".to_owned(), key.public()).with_agent_version(agent),
        ),
        ping: ping::Behaviour::default(),
        hints: request_response::Behaviour::with_codec(
            Frames::up_to(MAX_CONTROL_LEN),
            [(PROTOCOL, request_response::ProtocolSupport::Inbound)],
            config,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_key_itself() {
        let key = Keypair::generate_ed25519();
        let public = key.public().try_into_ed25519().expect("just made so").to_bytes();
        assert_eq!(name_of(key.public().to_peer_id()), Some(starling_proto::PeerId(public)));
    }

    #[test]
    fn other_keys_have_no_name() {
        let hashed = PeerId::random();
        assert_eq!(name_of(hashed), None);
        let mut secp256k1 = vec![0x00, 0x25, 0x08, 0x02, 0x12, 0x21];
        secp256k1.extend([2; 33]);
        assert_eq!(name_of(PeerId::from_bytes(&secp256k1).expect("well formed")), None);
    }
}
