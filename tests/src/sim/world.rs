//! Everybody, one queue, one clock.

mod contact;
mod gossip;
mod life;
mod meter;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use starling_proto::directory::{self, Directory};
use starling_proto::wire::{
    Announcement, Catalogue, ChunkHeader, ChunkRequest, ChunkStatus, ControlRequest, HASH_LEN, Hello, Message,
    NeighbourInfo, Part, Rendition, Role, Roster,
};
use starling_proto::{
    ChunkNumber, Config, Epoch, Input, Now, Outcome, Output, Peer, PeerId, RenditionId, RequestId, Rng, SegmentNumber,
    StreamId, Time, WallTime,
};

use super::network::{Link, Paths, transmission};
use super::player::{Player, Wish};
use super::population::{Draw, Population};
use super::queue::Queue;
use super::report::Report;
use super::scenario::Scenario;
pub(super) use meter::{Interval, Meter};

/// The simulated world.
pub struct World {
    scenario: Scenario,
    now: Time,
    rng: Rng,
    queue: Queue<(u32, Event)>,
    nodes: Vec<Node>,
    paths: Paths,
    population: Population,
    directory: Directory,
    directory_tick: Time,
    hints_alive: bool,
    /// The continents can't reach one another.
    parted: bool,
    catalogue: Arc<Catalogue>,
    /// What was said of each segment so far, by number; more than once while it grew.
    said: Vec<Vec<Arc<Announcement>>>,
    chunks_per_segment: u64,
    meter: Meter,
    /// Emptied and filled again, so that nothing is allocated for each event.
    out: Vec<Output>,
    wishes: Vec<Wish>,
    /// Violations of what must never happen; empty in a sound world.
    pub violations: Vec<String>,
}

pub(super) struct Node {
    pub(super) peer: Peer,
    id: PeerId,
    pub(super) alive: bool,
    pub(super) link: Link,
    pub(super) uploads: bool,
    pollutes: bool,
    pub(super) player: Player,
    /// Subscribed to announcements.
    following: bool,
    /// The machine's, as of the last input.
    deadline: Time,
    /// When its next tick is scheduled.
    tick_at: Time,
    /// Chunks that outran their announcement: from whom, and whether they are genuine.
    unproven: Vec<(ChunkNumber, u32, bool)>,
    /// What was told of growing segments, whose beginning isn't known.
    apart: Vec<(u32, Told)>,
    /// What neighbours were told with chunks: of which segment, and which run of its chunks.
    told: Vec<(u32, u32, Told)>,
    connections: Vec<u32>,
    banned: Vec<u32>,
    pub(super) stalls_before: (u64, f64),
    /// Media bytes sent since the warm-up.
    pub(super) sent_bytes: u64,
}

/// Which chunks of its segment are told of with a chunk, by their places: none, or from the first on, or from one on that the
/// receiver should have heard of.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    begin: u8,
    end: u8,
}

#[derive(Debug)]
enum Event {
    Tick,
    Wake,
    Join,
    Leave { silent: bool, replaced: bool },
    Produce,
    WarmUp,
    Sample,
    Crowd,
    Part,
    Heal,
    HintsDie,
    DirectoryTick,
    DirectoryLoses,
    Connect { with: u32 },
    DialFailed { with: u32 },
    Sever { with: u32 },
    Greeted { by: u32, trip: Duration, hello: Box<Hello> },
    Control { from: u32, request: Box<ControlRequest> },
    Requested { from: u32, id: u32, request: Box<ChunkRequest> },
    Chunk { from: u32, id: u32, len: u32, said: Told, header: Box<ChunkHeader> },
    Without { id: u32, header: Box<ChunkHeader> },
    OriginDone { id: RequestId, first: ChunkNumber, end: ChunkNumber, took: Duration },
    WindowArrives,
    Hear { segment: u32 },
    Input(Box<Input>),
}

const SOURCE: u32 = 0;
const RENDITION: RenditionId = RenditionId(0);
const EPOCH: Epoch = Epoch(1);
/// Duration of media in a chunk, seconds (DESIGN §3: 100–250 ms).
pub(super) const CHUNK_SECONDS: f64 = 0.1;
/// Chunks in a part, in low latency: both are announced when it ends.
const PART_CHUNKS: usize = 2;
/// Chunks that a continuation says, as the node's publisher has it: two parts' worth.
const CONTINUED_CHUNKS: usize = 2 * PART_CHUNKS;
/// Bytes a control message costs beside its own: stream set-up, QUIC and UDP/IP headers of request and answer (a guess).
const MESSAGE_OVERHEAD: usize = 120;
/// Bytes a chunk answer costs beside its payload: request, header, packet headers at 3 %.
const CHUNK_OVERHEAD: usize = 150;
/// What the origin gives one fetch.
const ORIGIN_BPS: f64 = 50e6;
/// Addresses are nothing here.
const ADDR: Bytes = Bytes::from_static(b"sim");

impl World {
    /// A world about to begin.
    pub fn new(scenario: Scenario) -> Self {
        let mut rng = Rng::new(scenario.seed);
        let (population, first) = Population::new(&scenario, &mut rng);
        let chunks = (scenario.segment_seconds / CHUNK_SECONDS).ceil().clamp(1.0, 64.0) as u64;
        let mut world = Self {
            now: Time::ZERO,
            queue: Queue::default(),
            nodes: Vec::with_capacity(scenario.viewers + 1),
            paths: Paths::new(&scenario),
            population,
            directory: Directory::new(directory::Config::new(peer_id(u32::MAX)), rng.next_u64()),
            directory_tick: Time::NEVER,
            hints_alive: true,
            parted: false,
            catalogue: Arc::new(catalogue(&scenario)),
            said: Vec::new(),
            chunks_per_segment: chunks,
            meter: Meter::default(),
            out: Vec::new(),
            wishes: Vec::new(),
            violations: Vec::new(),
            rng,
            scenario,
        };
        world.populate(first);
        world
    }

    /// Runs to the end and tells what came of it.
    pub fn run(&mut self) -> Report {
        let end = Time(self.scenario.seconds * 1_000_000);
        while let Some((at, (who, event))) = self.queue.pop() {
            if at > end {
                break;
            }
            self.now = at.max(self.now);
            self.meter.events += 1;
            self.step(who, event);
        }
        self.now = end;
        self.meter.count_alive(end, 0);
        Report::of(&self.scenario, &self.nodes, &self.meter, end)
    }

    fn push(&mut self, at: Time, who: u32, event: Event) {
        self.queue.push(at, (who, event));
    }

    fn node(&self, who: u32) -> &Node {
        &self.nodes[who as usize]
    }

    fn node_mut(&mut self, who: u32) -> &mut Node {
        &mut self.nodes[who as usize]
    }

    fn step(&mut self, who: u32, event: Event) {
        match event {
            Event::Produce => self.produce(),
            Event::WarmUp => self.warm_up(),
            Event::Sample => self.sample(),
            Event::Crowd => self.crowd_leaves(),
            Event::Part => self.part(),
            Event::Heal => self.parted = false,
            Event::HintsDie => self.hints_alive = false,
            Event::DirectoryTick => self.direct(directory::Input::Tick),
            Event::DirectoryLoses => self.direct(directory::Input::Left { peer: peer_id(who) }),
            Event::Join => self.join(who),
            _ if !self.node(who).alive => {}
            Event::Leave { silent, replaced } => self.leave(who, silent, replaced),
            Event::Tick => self.tick(who),
            Event::Wake => self.play(who),
            Event::Connect { with } => self.connect(who, with),
            Event::DialFailed { with } => self.feed(who, Input::Disconnected { peer: peer_id(with) }),
            Event::Sever { with } => self.severed(who, with),
            Event::Greeted { by, trip, hello } => {
                self.feed(who, Input::Greeted { peer: peer_id(by), hello, round_trip: Some(trip) });
            }
            Event::Control { from, request } => self.control(who, from, *request),
            Event::Requested { from, id, request } => self.requested(who, from, id, *request),
            Event::Chunk { from, id, len, said, header } => self.chunk_arrives(who, from, id, (len, said), *header),
            Event::Without { id, header } => {
                let outcome = Outcome::Without(*header);
                self.feed(who, Input::Responded { id: RequestId(id.into()), outcome });
            }
            Event::OriginDone { id, first, end, took } => self.origin_done(who, id, first, end, took),
            Event::WindowArrives => self.window_arrives(who),
            Event::Hear { segment } => {
                self.hear(who, segment as usize, usize::MAX);
                self.play(who);
            }
            Event::Input(input) => self.feed(who, *input),
        }
    }

    fn tick(&mut self, who: u32) {
        let now = self.now;
        let node = self.node_mut(who);
        if node.tick_at != now {
            return; // another was scheduled before this one
        }
        node.tick_at = Time::NEVER;
        if node.deadline > now {
            return self.schedule_tick(who); // what it was for is done
        }
        self.feed(who, Input::Tick);
    }

    fn feed(&mut self, who: u32, input: Input) {
        let now = self.clock();
        let mut out = std::mem::take(&mut self.out);
        let _span = tracing::debug_span!("peer", who, at = ?self.now).entered();
        let node = &mut self.nodes[who as usize];
        node.peer.handle(now, input, &mut out);
        node.deadline = node.peer.deadline().max(Time(now.mono.0 + 1));
        for output in out.drain(..) {
            self.carry_out(who, output);
        }
        self.out = out;
        self.schedule_tick(who);
    }

    fn schedule_tick(&mut self, who: u32) {
        let node = &mut self.nodes[who as usize];
        if node.deadline < node.tick_at {
            node.tick_at = node.deadline;
            let at = node.deadline;
            self.push(at, who, Event::Tick);
        }
    }

    fn newest(&self) -> Option<&Arc<Announcement>> {
        self.said.last()?.last()
    }

    fn clock(&self) -> Now {
        Now { mono: self.now, wall: WallTime(self.now.0 as i64) }
    }

    fn delay(&mut self, a: u32, b: u32) -> Duration {
        let (ra, rb) = (self.node(a).link.region, self.node(b).link.region);
        self.paths.message(ra, rb, 1, &mut self.rng)
    }

    /// No packet gets through between these two now.
    fn blocked(&self, a: u32, b: u32) -> bool {
        self.parted && self.paths.continent(self.node(a).link.region) != self.paths.continent(self.node(b).link.region)
    }

    fn carry_out(&mut self, who: u32, output: Output) {
        match output {
            Output::Dial { peer, .. } => self.dial(who, index_of(peer)),
            Output::Disconnect { peer } => self.disconnect(who, index_of(peer)),
            Output::Ban { peer, .. } => {
                let with = index_of(peer);
                self.node_mut(who).banned.push(with);
                self.disconnect(who, with);
            }
            Output::Tell { to, request } => self.tell(who, index_of(to), request),
            Output::FetchWindow { from, since, .. } => self.fetch_window(who, index_of(from), since),
            Output::Subscribe { .. } => self.node_mut(who).following = true,
            Output::Unsubscribe { .. } => self.node_mut(who).following = false,
            Output::Request { id, to, request } => self.request(who, index_of(to), id, request),
            Output::Answer { id, header, rides, .. } => self.answer(who, id, header, rides),
            Output::FetchOrigin { id, first, end, .. } => self.fetch_origin(who, id, first, end),
            Output::AskHints { request } => self.ask_hints(who, *request),
        }
    }

    fn play(&mut self, who: u32) {
        let mut wishes = std::mem::take(&mut self.wishes);
        self.nodes[who as usize].player.advance(self.now, &mut wishes);
        for wish in wishes.drain(..) {
            match wish {
                Wish::Wake(at) => self.push(at, who, Event::Wake),
                Wish::Shows(lag) => self.meter.shows(lag),
                Wish::Segment(segment, first) => {
                    self.feed(who, Input::Wanted { rendition: RENDITION, epoch: EPOCH, segment, first });
                }
            }
        }
        self.wishes = wishes;
    }
}

/// A name that looks drawn at random and ends with the index.
fn peer_id(index: u32) -> PeerId {
    let mut id = [0; 32];
    let mut rng = Rng::new(u64::from(index) ^ 0x57a1_11f6);
    for word in id.chunks_exact_mut(8) {
        word.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    id[28..].copy_from_slice(&index.to_le_bytes());
    PeerId(id)
}

fn index_of(peer: PeerId) -> u32 {
    let [.., a, b, c, d] = peer.0;
    u32::from_le_bytes([a, b, c, d])
}

fn catalogue(scenario: &Scenario) -> Catalogue {
    let rendition = Rendition {
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
        part_target_us: scenario.low_latency.then_some((CHUNK_SECONDS * PART_CHUNKS as f64 * 1e6) as u32),
    };
    Catalogue {
        name: "simulated".into(),
        epoch: EPOCH,
        version: 1,
        issued: WallTime(0),
        multivariant: None,
        renditions: vec![rendition],
        serves: scenario.serves,
        ended: false,
    }
}
