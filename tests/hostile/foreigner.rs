//! A peer of a future version: greets like ours, and speaks nothing we do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Event, Message as Exchange};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder};
use starling_node::link::Link;
use starling_node::{identity, statement};
use starling_proto::wire::{ControlRequest, ControlResponse, Hello, Message, Role, Status};
use starling_proto::{Epoch, StreamId, WallTime};

use crate::evil::{Raw, framed, raw};

type Behaviour = request_response::Behaviour<Raw>;

/// It runs until this is dropped.
pub(crate) struct Foreigner {
    address: Multiaddr,
    partings: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Foreigner {
    /// Listens under `key`, and calls somebody of the link's stream at `at`, again and again.
    pub(crate) async fn start(key: Keypair, link: &Link, at: Option<Multiaddr>) -> Self {
        let stream = statement::stream_id(&identity::to_proto(&link.key).unwrap(), &link.name);
        let mut swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_quic()
            .with_behaviour(|_| raw("/starling/1/control"))
            .unwrap()
            .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(120)))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let partings = Arc::new(AtomicUsize::new(0));
        let life = live(swarm, stream, at, partings.clone());
        Self { address, partings, task: tokio::spawn(life) }
    }

    pub(crate) fn address(&self) -> Multiaddr {
        self.address.clone()
    }

    /// Connections the others closed.
    pub(crate) fn partings(&self) -> usize {
        self.partings.load(Ordering::Relaxed)
    }
}

impl Drop for Foreigner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // few events matter
async fn live(mut swarm: Swarm<Behaviour>, stream: StreamId, at: Option<Multiaddr>, partings: Arc<AtomicUsize>) {
    let mut call = tokio::time::interval(Duration::from_secs(1));
    let hello = || Some(hello(stream));
    loop {
        let event = tokio::select! {
            event = swarm.select_next_some() => event,
            _ = call.tick() => {
                if let Some(at) = at.clone().filter(|_| swarm.connected_peers().next().is_none()) {
                    let _ = swarm.dial(at);
                }
                continue;
            }
        };
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                let request = ControlRequest { hello: hello(), ..ControlRequest::none() };
                swarm.behaviour_mut().send_request(&peer_id, framed(&request.encode()));
            }
            SwarmEvent::ConnectionClosed { .. } => {
                partings.fetch_add(1, Ordering::Relaxed);
            }
            SwarmEvent::Behaviour(Event::Message { message: Exchange::Request { request, channel, .. }, .. }) => {
                let request = ControlRequest::decode(&request).unwrap();
                let hello = request.hello.and_then(|_| hello());
                let response = ControlResponse { hello, ..ControlResponse::noted() };
                let _ = swarm.behaviour_mut().send_response(channel, framed(&response.encode()));
            }
            _ => {}
        }
    }
}

fn hello(stream: StreamId) -> Hello {
    Hello {
        versions: vec![99],
        stream,
        role: Role::Viewer,
        region: String::new(),
        clock: WallTime(0),
        clock_error_us: u32::MAX,
        addrs: Vec::new(),
        status: Status {
            epoch: Epoch(0),
            catalogue_version: 0,
            tracks: Vec::new(),
            free_slots: 10,
            uplink_bps: 1_000_000,
            guessed: false,
        },
        agent: "abroad/99".into(),
    }
}
