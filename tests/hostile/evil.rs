//! The poisoned neighbour: speaks the protocol well enough to be trusted with requests, and answers as told.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Event, Message as Exchange, ProtocolSupport, ResponseChannel};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder};
use starling_node::link::Link;
use starling_node::{identity, statement};
use starling_proto::wire::{
    ChunkHeader, ChunkRequest, ChunkStatus, Continuation, ControlRequest, ControlResponse, Hello, Message, Part, Role,
    Status, TrackStatus, VERSION,
};
use starling_proto::{ChunkNumber, Epoch, RenditionId, SegmentNumber, StreamId, WallTime};
use unsigned_varint as varint;

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malice {
    WrongBytes,
    TooManyBytes,
    AnotherChunk,
    /// What is said of the segment isn't signed by the broadcaster.
    ForgedContinuation,
    Silence,
}

/// It runs until this is dropped.
pub(crate) struct Evil {
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Evil {
    /// Connects to the broadcaster and to whoever it hears of, and claims to have everything.
    pub(crate) async fn join(link: &Link, malice: Malice) -> Self {
        let stream = statement::stream_id(&identity::to_proto(&link.key).unwrap(), &link.name);
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_quic()
            .with_behaviour(|_| Behaviour { chunks: raw("/starling/1/chunk"), control: raw("/starling/1/control") })
            .unwrap()
            .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(120)))
            .build();
        swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        swarm.dial(link.at.first().unwrap().clone()).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let mut life = Life { swarm, stream, address, malice, epoch: Epoch(0), asked: asked.clone(), held: Vec::new() };
        let greeted = Arc::new(tokio::sync::Notify::new());
        let known = greeted.clone();
        let task = tokio::spawn(async move { life.live(&known).await });
        tokio::time::timeout(Duration::from_secs(60), greeted.notified()).await.expect("the broadcaster answers");
        Self { asked, task }
    }

    /// Chunk requests so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    chunks: request_response::Behaviour<Raw>,
    control: request_response::Behaviour<Raw>,
}

struct Life {
    swarm: Swarm<Behaviour>,
    stream: StreamId,
    address: Multiaddr,
    malice: Malice,
    epoch: Epoch,
    asked: Arc<AtomicUsize>,
    held: Vec<ResponseChannel<Vec<u8>>>,
}

impl Life {
    async fn live(&mut self, greeted: &tokio::sync::Notify) {
        let mut boast = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event, greeted),
                _ = boast.tick() => self.boast(),
            }
        }
    }

    #[allow(clippy::wildcard_enum_match_arm)] // two events matter
    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>, greeted: &tokio::sync::Notify) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                let hello = Some(self.hello());
                let request = ControlRequest { hello, ..ControlRequest::none() };
                self.swarm.behaviour_mut().control.send_request(&peer_id, framed(&request.encode()));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Control(Event::Message { message, .. })) => match message {
                Exchange::Request { request, channel, .. } => self.on_control(&request, channel),
                Exchange::Response { response, .. } => {
                    self.on_answer(&response);
                    greeted.notify_one();
                }
            },
            SwarmEvent::Behaviour(BehaviourEvent::Chunks(Event::Message {
                message: Exchange::Request { request, channel, .. },
                ..
            })) => self.on_chunk_request(&request, channel),
            _ => {}
        }
    }

    fn on_control(&mut self, request: &[u8], channel: ResponseChannel<Vec<u8>>) {
        let Ok(request) = ControlRequest::decode(request) else { return };
        let mut response = ControlResponse::noted();
        if let Some(hello) = request.hello {
            self.epoch = self.epoch.max(hello.status.epoch);
            response.hello = Some(self.hello());
        }
        let _ = self.swarm.behaviour_mut().control.send_response(channel, framed(&response.encode()));
    }

    fn on_answer(&mut self, response: &[u8]) {
        let Ok(response) = ControlResponse::decode(response) else { return };
        if let Some(hello) = response.hello {
            self.epoch = self.epoch.max(hello.status.epoch);
        }
        for info in response.neighbours {
            for address in info.addrs.iter().filter_map(|a| Multiaddr::try_from(a.to_vec()).ok()).take(1) {
                let _ = self.swarm.dial(address);
            }
        }
    }

    fn on_chunk_request(&mut self, request: &[u8], channel: ResponseChannel<Vec<u8>>) {
        let Ok(request) = ChunkRequest::decode(request) else { return };
        self.asked.fetch_add(1, Ordering::Relaxed);
        let body = vec![0x5a; 27_500];
        let answer = match self.malice {
            Malice::WrongBytes => answer(request.number, &body),
            Malice::TooManyBytes => answer(request.number, &vec![0x5a; 3 << 20]),
            Malice::AnotherChunk => answer(ChunkNumber(request.number.0 + 1), &body),
            Malice::ForgedContinuation => {
                let header = ChunkHeader { continuation: self.forged(&request, &body), ..chunk(request.number) };
                [framed(&header.encode()), framed(&body)].concat()
            }
            Malice::Silence => return self.held.push(channel),
        };
        let _ = self.swarm.behaviour_mut().chunks.send_response(channel, answer);
    }

    /// Sound in every respect but who signed it.
    fn forged(&self, request: &ChunkRequest, body: &[u8]) -> Bytes {
        let continuation = Continuation {
            epoch: request.epoch,
            rendition: request.rendition,
            segment: SegmentNumber(request.number.0 / 20),
            parts_before: 1,
            first_chunk: request.number,
            lengths: vec![u32::try_from(body.len()).unwrap()],
            hashes: statement::hashes(&[Bytes::copy_from_slice(body)]),
            parts: vec![Part { chunks: 1, duration_us: 100_000, independent: false, source: None }],
            announced: WallTime(0),
            ends: false,
            source: None,
        };
        statement::sign(&Keypair::generate_ed25519(), &self.stream, &continuation).unwrap()
    }

    /// Nearest to the source of all, with room for everybody.
    fn boast(&mut self) {
        let request = ControlRequest { status: Some(self.status()), ..ControlRequest::none() };
        for peer in self.swarm.connected_peers().copied().collect::<Vec<_>>() {
            self.swarm.behaviour_mut().control.send_request(&peer, framed(&request.encode()));
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            versions: vec![VERSION],
            stream: self.stream,
            role: Role::Viewer,
            region: String::new(),
            clock: WallTime(0),
            clock_error_us: u32::MAX,
            addrs: vec![Bytes::from(self.address.to_vec())],
            status: self.status(),
            agent: "honest/1".into(),
        }
    }

    fn status(&self) -> Status {
        let depths = Bytes::from(vec![0; 8]);
        let track = TrackStatus {
            rendition: RenditionId(0),
            head: Some(ChunkNumber(1 << 40)),
            lags: depths.clone(),
            branches: depths.clone(),
            heights: depths.clone(),
            depths,
        };
        Status {
            epoch: self.epoch,
            catalogue_version: 0,
            tracks: vec![track],
            free_slots: 60_000,
            uplink_bps: 10_000_000_000,
            guessed: false,
        }
    }
}

fn answer(number: ChunkNumber, body: &[u8]) -> Vec<u8> {
    [framed(&chunk(number).encode()), framed(body)].concat()
}

fn chunk(number: ChunkNumber) -> ChunkHeader {
    ChunkHeader {
        number: Some(number),
        path: vec![1],
        free_slots: 100,
        ..ChunkHeader::without_chunk(ChunkStatus::Chunk)
    }
}

pub(crate) fn framed(bytes: &[u8]) -> Vec<u8> {
    [varint::encode::usize(bytes.len(), &mut varint::encode::usize_buffer()), bytes].concat()
}

pub(crate) fn raw(protocol: &'static str) -> request_response::Behaviour<Raw> {
    let config = request_response::Config::default().with_request_timeout(Duration::from_secs(30));
    request_response::Behaviour::with_codec(Raw, [(StreamProtocol::new(protocol), ProtocolSupport::Full)], config)
}

/// Whatever bytes the other side wrote, and whatever bytes we like.
#[derive(Clone)]
pub(crate) struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&response).await
    }
}

/// One message, its length read from before it: the asker keeps the stream open, so there is no end to read to.
async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Vec<u8>> {
    let len = varint::aio::read_u32(&mut *io).await.map_err(Into::<io::Error>::into)?;
    let mut bytes = Vec::new();
    io.take(u64::from(len)).read_to_end(&mut bytes).await?;
    Ok(bytes)
}
