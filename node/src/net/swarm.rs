//! The libp2p side: which protocols, which limits.

use std::time::Duration;

use anyhow::Context;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, allow_block_list, connection_limits, gossipsub, identify, noise, ping,
    request_response, tcp, yamux,
};
use starling_proto::StreamId;
use starling_proto::wire::{MAX_ADDRS, MAX_GOSSIP_LEN};

use super::codec::{CHUNK_PROTOCOL, CONTROL_PROTOCOL, ChunkCodec, ControlCodec, HINT_PROTOCOL, HintCodec, Overhead};
use super::exchange;

/// Everything a node speaks. One protocol per behaviour that asks: only then is negotiation free (V1Lazy).
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(crate) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) gossip: gossipsub::Behaviour,
    pub(crate) chunks: exchange::Behaviour<ChunkCodec>,
    pub(crate) control: exchange::Behaviour<ControlCodec>,
    pub(crate) hints: request_response::Behaviour<HintCodec>,
}

/// A held pull-ahead request lives at most this long; above `proto`'s park time-out on both ends.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(12);
/// After this long without a handshake TCP is tried: the first packet may be lost and sent again a second later, and its
/// answer too.
const QUIC_PATIENCE: Duration = Duration::from_secs(3);
/// Small talk.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

/// A swarm listening nowhere yet. `connections_max` bounds inbound and outbound connections together.
pub(crate) fn build(key: Keypair, connections_max: u32, overhead: &Overhead) -> anyhow::Result<Swarm<Behaviour>> {
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .context("setting up TCP")?
        .with_quic_config(|mut config| {
            config.handshake_timeout = QUIC_PATIENCE;
            config.max_concurrent_stream_limit = 256;
            config.max_idle_timeout = 6_000;
            config.keep_alive_interval = Duration::from_secs(2);
            config
        })
        .with_dns()
        .context("setting up DNS (is there an /etc/resolv.conf?)")?
        .with_behaviour(|key| behaviour(key, connections_max, overhead))
        .context("setting up the protocols")?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(Duration::from_secs(30))
                .with_substream_upgrade_protocol_override(libp2p::core::upgrade::Version::V1Lazy)
        })
        .with_connection_timeout(Duration::from_secs(8))
        .build();
    Ok(swarm)
}

/// The topic of a stream's catalogue (`None`) or of a rendition's announcements.
pub(crate) fn topic(stream: &StreamId, rendition: Option<starling_proto::RenditionId>) -> gossipsub::IdentTopic {
    let id: String = stream.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let last = rendition.map_or_else(|| "catalogue".to_owned(), |r| r.to_string());
    gossipsub::IdentTopic::new(format!("/starling/1/{id}/{last}"))
}

/// The addresses worth telling others, at most [`MAX_ADDRS`]: not loopback ones, which would lead to a machine of theirs, unless
/// there are no others.
pub(crate) fn outward<'a>(listening: impl Iterator<Item = &'a Multiaddr>) -> Vec<Multiaddr> {
    let (own, others): (Vec<_>, Vec<_>) = listening.partition(|address| is_loopback(address));
    let told = if others.is_empty() { own } else { others };
    told.into_iter().take(MAX_ADDRS).cloned().collect()
}

fn is_loopback(address: &Multiaddr) -> bool {
    let loopback = |part: Protocol<'_>| {
        matches!(part, Protocol::Ip4(ip) if ip.is_loopback()) || matches!(part, Protocol::Ip6(ip) if ip.is_loopback())
    };
    address.iter().any(loopback)
}

/// An address without its trailing `/p2p/…`, and that peer.
pub(crate) fn split_peer(address: &Multiaddr) -> Option<(libp2p::PeerId, Multiaddr)> {
    let mut rest = address.clone();
    match rest.pop() {
        Some(Protocol::P2p(peer)) => Some((peer, rest)),
        Some(_) | None => None,
    }
}

fn behaviour(
    key: &Keypair,
    connections_max: u32,
    overhead: &Overhead,
) -> Result<Behaviour, Box<dyn std::error::Error + Send + Sync + 'static>> {
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_established(Some(connections_max))
        .with_max_established_per_peer(Some(3))
        .with_max_pending_incoming(Some(64))
        .with_max_pending_outgoing(Some(64));
    let identify = identify::Config::new("/starling/1".to_owned(), key.public())
        .with_agent_version(crate::AGENT.to_owned())
        .with_interval(Duration::from_secs(300));
    let own = key.public().to_peer_id();
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        blocked: allow_block_list::Behaviour::default(),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_secs(15))),
        gossip: gossip()?,
        chunks: exchange::Behaviour::new(own, CHUNK_PROTOCOL, ChunkCodec(overhead.clone()), CHUNK_TIMEOUT),
        control: exchange::Behaviour::new(own, CONTROL_PROTOCOL, ControlCodec::new(overhead.clone()), CONTROL_TIMEOUT),
        hints: request_response::Behaviour::with_codec(
            HintCodec::new(overhead.clone()),
            [(HINT_PROTOCOL, request_response::ProtocolSupport::Outbound)],
            request_response::Config::default().with_request_timeout(CONTROL_TIMEOUT),
        ),
    })
}

/// Announcements are signed by the broadcaster and checked by us before they are passed on, so gossipsub's own signatures
/// would only cost (research notes, libp2p §2: 1.1 → 0.66 ms CPU per delivery). No peer scoring: neighbour choice is `proto`'s.
/// No flooding of own messages: fifty copies of each announcement were a tenth of a stream of 1 Mbit/s (in the lab).
fn gossip() -> Result<gossipsub::Behaviour, Box<dyn std::error::Error + Send + Sync + 'static>> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| gossipsub::MessageId::from(&blake3::hash(&message.data).as_bytes()[..20]))
        .heartbeat_interval(Duration::from_millis(700))
        .heartbeat_initial_delay(Duration::from_millis(200))
        .history_length(10)
        .history_gossip(6)
        .mesh_n_low(3)
        .mesh_n(4)
        .mesh_n_high(8)
        .mesh_outbound_min(1)
        .gossip_lazy(3)
        .flood_publish(false)
        .prune_backoff(Duration::from_secs(10))
        .max_transmit_size(MAX_GOSSIP_LEN + 1024)
        .build()?;
    Ok(gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, config)?)
}
