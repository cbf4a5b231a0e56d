//! A small viewer and a small browser, to talk to a server under test.

use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use futures::StreamExt;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Message as Exchange, OutboundFailure, OutboundRequestId};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, noise, tcp, yamux};
use starling_hint_server::codec::Frames;
use starling_hint_server::{Config, PROTOCOL, Server, start};
use starling_proto::wire::{HintRequest, HintResponse, MAX_CONTROL_LEN, Message, Role, VERSION};
use starling_proto::{RenditionId, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

pub(crate) const STREAM: StreamId = StreamId([7; 32]);

/// Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server that runs until this is dropped.
pub(crate) struct Running {
    pub(crate) addresses: Vec<String>,
    pub(crate) http: String,
    _stop: oneshot::Sender<()>,
    _dir: tempfile::TempDir,
}

impl Running {
    pub(crate) async fn new(adjust: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = config(dir.path());
        adjust(&mut config);
        let server = start(config).await.unwrap_or_else(|error| panic!("{error}"));
        let (addresses, http) = (server.addresses().to_vec(), server.http_url());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(serve(server, stopped));
        Self { addresses, http, _stop: stop, _dir: dir }
    }

    /// What `/path` answers: the status line's code and the body.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        let host = self.http.trim_start_matches("http://").trim_end_matches('/');
        let mut connection = tokio::net::TcpStream::connect(host).await.expect("the server listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.expect("text");
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (code, body)
    }

    /// Waits until `/path` says `expected`.
    pub(crate) async fn until(&self, path: &str, expected: &str) {
        let mut last = String::new();
        let said = async {
            while !last.contains(expected) {
                tokio::time::sleep(Duration::from_millis(50)).await;
                last = self.page(path).await.1;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, said).await.is_ok(), "{path} never said {expected} but {last}");
    }

    pub(crate) async fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.page("/api/status").await.1).expect("json")
    }
}

async fn serve(server: Server, stopped: oneshot::Receiver<()>) {
    server.run(async { drop(stopped.await) }).await;
}

pub(crate) fn config(dir: &std::path::Path) -> Config {
    let dir = dir.to_str().expect("a plain path");
    let fixed = ["test", "--http", "127.0.0.1:0", "--data-dir", dir];
    let listen = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0"];
    Config::parse_from(fixed.into_iter().chain(listen))
}

/// A participant with its own key and connection; it answers pings and keeps its connection while it exists.
pub(crate) struct Viewer {
    pub(crate) peer: PeerId,
    questions: mpsc::Sender<Question>,
}

type Question = (Bytes, oneshot::Sender<Result<Bytes, OutboundFailure>>);

impl Viewer {
    pub(crate) fn new(server: &str) -> Self {
        Self::with_frames(server, MAX_CONTROL_LEN)
    }

    /// One that would even send messages of `len_max` bytes.
    pub(crate) fn with_frames(server: &str, len_max: usize) -> Self {
        let server: Multiaddr = server.parse().expect("printed by the server");
        let swarm = swarm(len_max);
        let peer = *swarm.local_peer_id();
        let (questions, asked) = mpsc::channel(8);
        tokio::spawn(live(swarm, server, asked));
        Self { peer, questions }
    }

    pub(crate) fn name(&self) -> starling_proto::PeerId {
        let bytes = self.peer.to_bytes();
        starling_proto::PeerId(bytes[6..].try_into().expect("an Ed25519 id"))
    }

    pub(crate) async fn ask(&self, request: HintRequest) -> HintResponse {
        let answer = self.say(request.encode()).await.expect("an answer");
        HintResponse::decode(&answer).expect("a hint response")
    }

    /// Sends any bytes as a request.
    pub(crate) async fn say(&self, message: Bytes) -> Result<Bytes, OutboundFailure> {
        let (answer, answered) = oneshot::channel();
        self.questions.send((message, answer)).await.expect("the viewer lives");
        tokio::time::timeout(PATIENCE, answered).await.expect("in time").expect("the viewer lives")
    }
}

pub(crate) fn request(region: &str) -> HintRequest {
    HintRequest {
        versions: vec![VERSION],
        stream: STREAM,
        role: Role::Viewer,
        region: region.to_owned(),
        uplink_bps: 10_000_000,
        renditions: vec![RenditionId(0)],
        addrs: vec![binary("/ip4/127.0.0.1/udp/4001/quic-v1")],
        neighbours: 8,
        leaving: false,
    }
}

pub(crate) fn binary(address: &str) -> Bytes {
    address.parse::<Multiaddr>().expect("written in a test").to_vec().into()
}

fn swarm(len_max: usize) -> Swarm<request_response::Behaviour<Frames>> {
    let support = [(PROTOCOL, request_response::ProtocolSupport::Outbound)];
    let behaviour = request_response::Behaviour::with_codec(
        Frames::up_to(len_max),
        support,
        request_response::Config::default().with_request_timeout(PATIENCE),
    );
    SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("encryption")
        .with_quic()
        .with_behaviour(|_| behaviour)
        .expect("infallible")
        .with_swarm_config(|c| {
            c.with_substream_upgrade_protocol_override(Version::V1Lazy).with_idle_connection_timeout(PATIENCE)
        })
        .build()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "most events are of no interest")]
async fn live(
    mut swarm: Swarm<request_response::Behaviour<Frames>>,
    server: Multiaddr,
    mut asked: mpsc::Receiver<Question>,
) {
    let Some(libp2p::multiaddr::Protocol::P2p(peer)) = server.iter().last() else { return };
    let mut open: Vec<(OutboundRequestId, oneshot::Sender<Result<Bytes, OutboundFailure>>)> = Vec::new();
    loop {
        let (id, result) = tokio::select! {
            question = asked.recv() => {
                let Some((message, answer)) = question else { return };
                let id = swarm.behaviour_mut().send_request_with_addresses(&peer, message, vec![server.clone()]);
                open.push((id, answer));
                continue;
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(request_response::Event::Message {
                    message: Exchange::Response { request_id, response }, ..
                }) => (request_id, Ok(response)),
                SwarmEvent::Behaviour(request_response::Event::OutboundFailure { request_id, error, .. }) => {
                    (request_id, Err(error))
                }
                _ => continue,
            },
        };
        if let Some(at) = open.iter().position(|(open, _)| *open == id) {
            let _ = open.swap_remove(at).1.send(result);
        }
    }
}
