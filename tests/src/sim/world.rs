//! Everybody, one heap, one clock.

mod hints;
mod life;
mod traffic;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use starling_proto::directory::{self, Directory};
use starling_proto::wire::{
    Announcement, Catalogue, ChunkHeader, ChunkStatus, ControlRequest, HASH_LEN, Message, NeighbourInfo, Rendition,
    Role, Roster,
};
use starling_proto::{
    ChunkNumber, Config, Epoch, Input, Now, Outcome, Output, Peer, PeerId, RenditionId, RequestId, Rng, SegmentNumber,
    StreamId, Time, WallTime,
};

use super::network::{Link, delay, transmission};
use super::player::{Player, Wish};
use super::report::Report;
use super::scenario::Scenario;

/// The simulated world.
pub struct World {
    scenario: Scenario,
    now: Time,
    rng: Rng,
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: Vec<Option<(usize, Event)>>,
    free: Vec<usize>,
    sequence: u64,
    nodes: Vec<Node>,
    index: HashMap<PeerId, usize>,
    directory: Directory,
    directory_tick: Time,
    hints_alive: bool,
    inbound: HashMap<RequestId, (usize, usize, RequestId)>,
    asking: HashMap<RequestId, usize>,
    last_id: u64,
    catalogue: Arc<Catalogue>,
    window: Vec<Arc<Announcement>>,
    meter: Meter,
    out: Vec<Output>,
    /// Violations of what must never happen; empty in a sound world.
    pub violations: Vec<String>,
}

/// What is counted beside the machines' own counters.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    pub(super) origin_bytes: u64,
    pub(super) source_bytes: u64,
    pub(super) delivered_bytes: u64,
    pub(super) near_bytes: u64,
    pub(super) peer_bytes: u64,
    pub(super) control_bytes: u64,
    pub(super) diffusion: Vec<f64>,
    pub(super) warm: bool,
    pub(super) events: u64,
}

pub(super) struct Node {
    pub(super) peer: Peer,
    id: PeerId,
    pub(super) alive: bool,
    pub(super) link: Link,
    pub(super) player: Player,
    following: bool,
    tick_at: Time,
    /// Segments announced to it, newest last.
    heard: VecDeque<SegmentNumber>,
    /// Chunks that outran their announcement.
    unproven: Vec<(ChunkNumber, PeerId, u32)>,
    connections: Vec<usize>,
    pub(super) stalls_before: (u64, f64),
    pub(super) sent_bytes: u64,
}

#[derive(Debug)]
enum Event {
    Input(Input),
    Tick,
    Wake,
    Join,
    Produce,
    Churn,
    WarmUp,
    HintsDie,
    DirectoryTick,
    Connect { with: usize },
    Sever { with: usize },
    Control { from: usize, request: Box<ControlRequest> },
    Chunk { from: usize, header: ChunkHeader, id: RequestId, len: u32, of: (RenditionId, Epoch) },
    OriginDone { id: RequestId, announcement: Arc<Announcement>, first: ChunkNumber, end: ChunkNumber, took: Duration },
    WindowArrives,
    Hear(Arc<Announcement>),
}

const SOURCE: usize = 0;
const RENDITION: RenditionId = RenditionId(0);
const EPOCH: Epoch = Epoch(1);
/// Duration of media in a chunk, seconds (DESIGN §3: 100–250 ms).
const CHUNK_SECONDS: f64 = 0.2;
/// Bytes a control message costs beside its own: stream set-up, QUIC and UDP/IP headers of request and answer (a guess).
const MESSAGE_OVERHEAD: usize = 120;
/// Bytes a chunk answer costs beside its payload: request, header, packet headers at 3 %.
const CHUNK_OVERHEAD: usize = 150;
/// What the origin gives one fetch.
const ORIGIN_BPS: f64 = 50e6;
/// A dial to somebody gone fails after this.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that died without a word is noticed after this (QUIC idle time-out in the node).
const SILENT_LOSS: Duration = Duration::from_secs(6);
/// Gossip reaches everybody within log_4 N hops, each costing forwarding besides its delay (research notes, libp2p §8c).
const GOSSIP_HOP_WORK: Duration = Duration::from_millis(4);

impl World {
    /// A world about to begin.
    pub fn new(scenario: Scenario) -> Self {
        let mut rng = Rng::new(scenario.seed);
        let catalogue = Arc::new(Catalogue {
            name: "simulated".into(),
            epoch: EPOCH,
            version: 1,
            issued: WallTime(0),
            multivariant: None,
            renditions: vec![Rendition {
                id: RENDITION,
                label: "simulated".into(),
                bandwidth_bps: scenario.bitrate_bps as u64,
                target_duration: scenario.segment_seconds.ceil().max(1.0) as u32,
                substreams: 8,
                inits: Vec::new(),
                origin: "0/index.m3u8".into(),
                hls_version: 6,
                tags: Vec::new(),
                extension: "m4s".into(),
                part_target_us: None,
            }],
            serves: scenario.serves,
            ended: false,
        });
        let directory = Directory::new(directory::Config::new(peer_id(usize::MAX)), rng.next_u64());
        let mut world = Self {
            now: Time::ZERO,
            rng,
            heap: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            nodes: Vec::new(),
            index: HashMap::new(),
            directory,
            directory_tick: Time::NEVER,
            hints_alive: true,
            inbound: HashMap::new(),
            asking: HashMap::new(),
            last_id: 0,
            catalogue,
            window: Vec::new(),
            meter: Meter::default(),
            out: Vec::new(),
            violations: Vec::new(),
            scenario,
        };
        world.populate();
        world
    }

    /// Runs to the end and tells what came of it.
    pub fn run(&mut self) -> Report {
        let end = Time(self.scenario.seconds * 1_000_000);
        while let Some(Reverse((at, _, slot))) = self.heap.pop() {
            if at > end {
                break;
            }
            self.now = at;
            let Some((who, event)) = self.events[slot].take() else { continue };
            self.free.push(slot);
            self.meter.events += 1;
            self.step(who, event);
        }
        self.now = end;
        Report::of(&self.scenario, &self.nodes, &self.meter, end)
    }

    fn push(&mut self, at: Time, who: usize, event: Event) {
        let slot = self.free.pop().unwrap_or(self.events.len());
        if slot == self.events.len() {
            self.events.push(None);
        }
        self.events[slot] = Some((who, event));
        self.sequence += 1;
        self.heap.push(Reverse((at.max(self.now), self.sequence, slot)));
    }

    fn step(&mut self, who: usize, event: Event) {
        match event {
            Event::Produce => self.produce(),
            Event::Churn => self.churn(),
            Event::WarmUp => self.warm_up(),
            Event::HintsDie => self.hints_alive = false,
            Event::DirectoryTick => self.direct(directory::Input::Tick),
            Event::Join => self.join(who),
            _ if !self.nodes[who].alive => self.bounce(event),
            Event::Input(input) => self.feed(who, input),
            Event::Tick => {
                if self.nodes[who].tick_at == self.now {
                    self.nodes[who].tick_at = Time::NEVER;
                    self.feed(who, Input::Tick);
                }
            }
            Event::Wake => self.play(who),
            Event::Connect { with } => self.connect(who, with),
            Event::Sever { with } => self.severed(who, with),
            Event::Control { from, request } => self.control(who, from, *request),
            Event::Chunk { from, header, id, len, of } => self.chunk_arrives(who, from, header, id, len, of),
            Event::OriginDone { id, announcement, first, end, took } => {
                self.origin_done(who, id, &announcement, first, end, took);
            }
            Event::WindowArrives => self.window_arrives(who),
            Event::Hear(announcement) => {
                self.hear(who, &announcement);
                self.play(who);
            }
        }
    }

    /// Whoever asks the dead hears of it in time.
    fn bounce(&mut self, event: Event) {
        if let Event::Input(Input::Requested { id, .. }) = event {
            self.inbound.remove(&id);
        }
    }

    fn feed(&mut self, who: usize, input: Input) {
        let now = self.clock();
        let mut out = std::mem::take(&mut self.out);
        let _span = tracing::debug_span!("peer", who, at = ?self.now).entered();
        self.nodes[who].peer.handle(now, input, &mut out);
        for output in out.drain(..) {
            self.carry_out(who, output);
        }
        self.out = out;
        let deadline = self.nodes[who].peer.deadline().max(Time(self.now.0 + 1));
        if deadline < self.nodes[who].tick_at {
            self.nodes[who].tick_at = deadline;
            self.push(deadline, who, Event::Tick);
        }
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, wall: WallTime(self.now.0 as i64) }
    }

    fn delay(&mut self, a: usize, b: usize) -> Duration {
        let (ra, rb) = (self.nodes[a].link.region, self.nodes[b].link.region);
        delay(ra, rb, &mut self.rng).mul_f64(self.scenario.delay_scale)
    }

    fn carry_out(&mut self, who: usize, output: Output) {
        match output {
            Output::Dial { peer, .. } => self.dial(who, peer),
            Output::Disconnect { peer } | Output::Ban { peer, .. } => {
                if let Some(with) = self.index.get(&peer).copied() {
                    self.disconnect(who, with);
                }
            }
            Output::Tell { to, request } => self.tell(who, to, request),
            Output::FetchWindow { from, .. } => {
                let Some(from) = self.index.get(&from).copied() else { return };
                let trip = self.delay(who, from) * 2;
                self.meter.control_bytes += 800;
                self.push(self.now + trip, who, Event::WindowArrives);
            }
            Output::Subscribe { .. } => self.nodes[who].following = true,
            Output::Unsubscribe { .. } => self.nodes[who].following = false,
            Output::Request { id, to, request } => {
                let Some(to) = self.index.get(&to).copied() else { return };
                self.last_id += 1;
                let theirs = RequestId(self.last_id);
                self.inbound.insert(theirs, (who, to, id));
                let at = self.now + self.delay(who, to);
                let from = self.nodes[who].id;
                self.push(at, to, Event::Input(Input::Requested { from, id: theirs, request }));
            }
            Output::Answer { id, header, of } => self.answer(who, id, header, of),
            Output::FetchOrigin { id, announcement, first, end } => {
                let bytes: u64 =
                    (first.0..end.0).filter_map(|n| announcement.length_of(ChunkNumber(n))).map(u64::from).sum();
                let took = self.delay(who, SOURCE) * 4 + transmission(bytes as usize, ORIGIN_BPS);
                self.push(self.now + took, who, Event::OriginDone { id, announcement, first, end, took });
            }
            Output::AskHints { request } => self.ask_hints(who, *request),
        }
    }

    fn play(&mut self, who: usize) {
        for wish in self.nodes[who].player.advance(self.now) {
            match wish {
                Wish::Wake(at) => self.push(at, who, Event::Wake),
                Wish::Segment(segment, first) => {
                    self.feed(who, Input::Wanted { rendition: RENDITION, epoch: EPOCH, segment, first });
                }
            }
        }
    }
}

fn peer_id(index: usize) -> PeerId {
    let mut id = [0; 32];
    let mut rng = Rng::new(index as u64 ^ 0x57a1_11f6);
    for word in id.chunks_exact_mut(8) {
        word.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    PeerId(id)
}
