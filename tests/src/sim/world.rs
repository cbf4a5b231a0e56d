//! Everybody, one heap, one clock.

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

    fn populate(&mut self) {
        let source = self.add_node(Role::Source, 0, 1e9);
        debug_assert_eq!(source, SOURCE);
        self.nodes[SOURCE].alive = true;
        let catalogue = self.catalogue.clone();
        self.push(Time(1), SOURCE, Event::Input(Input::CatalogueHeld { catalogue }));
        self.push(Time(1000), SOURCE, Event::Produce);
        for i in 0..self.scenario.viewers {
            let at = self.scenario.join_seconds * i as f64 / self.scenario.viewers.max(1) as f64;
            self.new_viewer(Time((at * 1e6) as u64 + 5_000_000));
        }
        self.push(Time((self.scenario.warmup_seconds * 1e6) as u64), SOURCE, Event::WarmUp);
        if let Some(at) = self.scenario.hints_die_at {
            self.push(Time((at * 1e6) as u64), SOURCE, Event::HintsDie);
        }
        self.next_churn();
    }

    fn new_viewer(&mut self, at: Time) {
        let region = (self.nodes.len() % self.scenario.regions.max(1)) as u8;
        let sigma = self.scenario.uplink_sigma;
        let up = self.scenario.uplink_mean_bps * (sigma * self.rng.normal() - sigma * sigma / 2.0).exp();
        let who = self.add_node(Role::Viewer, region, up.max(200_000.0));
        self.push(at, who, Event::Join);
    }

    fn add_node(&mut self, role: Role, region: u8, up_bps: f64) -> usize {
        let who = self.nodes.len();
        let id = peer_id(who);
        let stream = StreamId([7; 32]);
        let source = peer_id(SOURCE);
        let mut config = match role {
            Role::Source => Config::source(stream, source),
            Role::Viewer => Config::viewer(stream, source),
        };
        config.region = format!("r{region}");
        config.upload_limit_bps = (role == Role::Viewer).then_some((up_bps * 0.85) as u64);
        let peer = Peer::new(id, config, self.rng.next_u64());
        self.index.insert(id, who);
        self.nodes.push(Node {
            peer,
            id,
            alive: false,
            link: Link::new(region, up_bps, 100e6),
            player: Player::default(),
            following: false,
            tick_at: Time::NEVER,
            heard: VecDeque::new(),
            unproven: Vec::new(),
            connections: Vec::new(),
            stalls_before: (0, 0.0),
            sent_bytes: 0,
        });
        who
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

    fn dial(&mut self, who: usize, peer: PeerId) {
        let Some(with) = self.index.get(&peer).copied() else { return };
        if self.nodes[with].alive {
            let at = self.now + self.delay(who, with) * 3;
            self.push(at, who, Event::Connect { with });
        } else {
            self.push(self.now + DIAL_TIMEOUT, who, Event::Input(Input::Disconnected { peer }));
        }
    }

    fn connect(&mut self, who: usize, with: usize) {
        let (a, b) = (self.nodes[who].id, self.nodes[with].id);
        if !self.nodes[with].alive {
            return self.feed(who, Input::Disconnected { peer: b });
        }
        if !self.nodes[who].connections.contains(&with) {
            self.nodes[who].connections.push(with);
            self.nodes[with].connections.push(who);
        }
        self.feed(who, Input::Connected { peer: b });
        self.feed(with, Input::Connected { peer: a });
    }

    fn disconnect(&mut self, who: usize, with: usize) {
        if !self.nodes[who].connections.contains(&with) {
            return;
        }
        self.nodes[who].connections.retain(|c| *c != with);
        self.push(self.now, who, Event::Sever { with });
        let at = self.now + self.delay(who, with);
        self.push(at, with, Event::Sever { with: who });
    }

    fn severed(&mut self, who: usize, with: usize) {
        self.nodes[who].connections.retain(|c| *c != with);
        let peer = self.nodes[with].id;
        self.feed(who, Input::Disconnected { peer });
    }

    fn tell(&mut self, who: usize, to: PeerId, request: Box<ControlRequest>) {
        let Some(to) = self.index.get(&to).copied() else { return };
        self.meter.control_bytes += (request.encode().len() + MESSAGE_OVERHEAD) as u64;
        let at = self.now + self.delay(who, to);
        self.push(at, to, Event::Control { from: who, request });
    }

    fn control(&mut self, who: usize, from: usize, request: ControlRequest) {
        if !self.nodes[who].connections.contains(&from) {
            return;
        }
        let peer = self.nodes[from].id;
        if let Some(mut hello) = request.hello {
            hello.addrs = vec![Bytes::from_static(b"sim")];
            let trip = self.delay(who, from);
            let mut answer = self.nodes[who].peer.hello(self.clock());
            answer.addrs = vec![Bytes::from_static(b"sim")];
            self.meter.control_bytes += (answer.encode().len() + MESSAGE_OVERHEAD) as u64;
            let greeted =
                Input::Greeted { peer: self.nodes[who].id, hello: Box::new(answer), round_trip: Some(trip * 2) };
            self.push(self.now + trip, from, Event::Input(greeted));
            if who == SOURCE {
                self.introduce(who, from);
            }
            self.feed(who, Input::Greeted { peer, hello: Box::new(hello), round_trip: None });
        }
        if let Some(status) = request.status {
            self.feed(who, Input::StatusTold { peer, status });
        }
        if let Some(cancel) = request.cancel {
            self.feed(who, Input::Cancelled { from: peer, rendition: cancel.rendition, number: cancel.number });
        }
        if request.neighbours {
            self.introduce(who, from);
        }
    }

    /// `who` names some of its neighbours to `to`.
    fn introduce(&mut self, who: usize, to: usize) {
        let mut others: Vec<usize> =
            self.nodes[who].connections.iter().copied().filter(|c| *c != to && *c != SOURCE).collect();
        self.rng.shuffle(&mut others);
        let info = |c: &usize| NeighbourInfo {
            peer: self.nodes[*c].id,
            addrs: vec![Bytes::from_static(b"sim")],
            region: format!("r{}", self.nodes[*c].link.region),
        };
        let infos: Vec<_> = others.iter().take(8).map(info).collect();
        self.meter.control_bytes +=
            infos.iter().map(|i| i.encode().len() as u64).sum::<u64>() + MESSAGE_OVERHEAD as u64;
        let at = self.now + self.delay(who, to);
        self.push(at, to, Event::Input(Input::Introduced { infos }));
    }

    fn answer(&mut self, who: usize, id: RequestId, header: ChunkHeader, of: (RenditionId, Epoch)) {
        let Some((asker, asked, theirs)) = self.inbound.remove(&id) else { return };
        debug_assert_eq!(asked, who);
        let lost = self.scenario.loss > 0.0 && self.rng.unit() < self.scenario.loss;
        let trip = self.delay(who, asker);
        if lost {
            let failed = Event::Input(Input::Responded { id: theirs, outcome: Outcome::Failed });
            return self.push(self.now + Duration::from_secs(5), asker, failed);
        }
        let (ChunkStatus::Chunk, Some(number)) = (header.status, header.number) else {
            self.meter.control_bytes += CHUNK_OVERHEAD as u64;
            let outcome = Outcome::Without(header);
            return self.push(self.now + trip, asker, Event::Input(Input::Responded { id: theirs, outcome }));
        };
        if who != SOURCE && !self.nodes[who].player.holds(number) {
            self.violations.push(format!("{:?} node {who} sends chunk {number} it does not hold", self.now));
        }
        let Some(len) = self.window.iter().rev().find_map(|a| a.length_of(number)) else { return };
        let bytes = len as usize + CHUNK_OVERHEAD;
        let left = self.nodes[who].link.send(self.now, bytes);
        let at = self.nodes[asker].link.receive(left + trip, bytes);
        self.nodes[who].sent_bytes += u64::from(len);
        if self.meter.warm {
            self.meter.control_bytes += CHUNK_OVERHEAD as u64;
            self.meter.source_bytes += if who == SOURCE { u64::from(len) } else { 0 };
        }
        self.push(at, asker, Event::Chunk { from: who, header, id: theirs, len, of });
    }

    fn chunk_arrives(
        &mut self,
        who: usize,
        from: usize,
        header: ChunkHeader,
        id: RequestId,
        len: u32,
        of: (RenditionId, Epoch),
    ) {
        let Some(number) = header.number else { return };
        let spread = transmission(len as usize, self.nodes[from].link.up_bps);
        let peer = self.nodes[from].id;
        // The first chunk of a segment carries the segment's statement.
        let statement = self.window.iter().rev().find(|a| a.first_chunk == number).cloned();
        if let Some(announcement) = statement {
            self.hear(who, &announcement);
        }
        self.feed(who, Input::Responded { id, outcome: Outcome::Chunk { header, len, spread } });
        if self.meter.warm {
            self.meter.peer_bytes += u64::from(len);
            let near = self.nodes[from].link.region == self.nodes[who].link.region;
            self.meter.near_bytes += if near { u64::from(len) } else { 0 };
        }
        let segment = self.window.iter().rev().find(|a| a.index_of(number).is_some()).map(|a| a.segment);
        if segment.is_some_and(|s| self.nodes[who].heard.contains(&s)) {
            self.got(who, number, Some(peer), len, of);
        } else {
            self.nodes[who].unproven.push((number, peer, len));
        }
    }

    fn origin_done(
        &mut self,
        who: usize,
        id: RequestId,
        announcement: &Arc<Announcement>,
        first: ChunkNumber,
        end: ChunkNumber,
        took: Duration,
    ) {
        for number in (first.0..end.0).map(ChunkNumber) {
            let len = announcement.length_of(number).unwrap_or(0);
            self.meter.origin_bytes += if self.meter.warm { u64::from(len) } else { 0 };
            self.got(who, number, None, len, (announcement.rendition, announcement.epoch));
        }
        self.feed(who, Input::OriginEnded { id, complete: true, took });
    }

    /// A genuine chunk reached a viewer.
    fn got(&mut self, who: usize, number: ChunkNumber, from: Option<PeerId>, len: u32, of: (RenditionId, Epoch)) {
        if self.nodes[who].player.arrived(number) && self.meter.warm {
            self.meter.delivered_bytes += u64::from(len);
            if let Some(a) = self.window.iter().rev().find(|a| a.index_of(number).is_some()) {
                self.meter.diffusion.push(self.clock().wall.seconds_since(a.announced));
            }
        }
        self.feed(who, Input::Checked { rendition: of.0, epoch: of.1, number, from, genuine: true });
        self.play(who);
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

    fn window_arrives(&mut self, who: usize) {
        let catalogue = self.catalogue.clone();
        self.feed(who, Input::CatalogueHeld { catalogue });
        self.feed(who, Input::Followed { rendition: RENDITION });
        let skip = self.window.len().saturating_sub(8);
        let recent: Vec<_> = self.window.iter().skip(skip).cloned().collect();
        for announcement in &recent {
            self.hear(who, announcement);
        }
        self.play(who);
    }

    fn hear(&mut self, who: usize, announcement: &Arc<Announcement>) {
        let node = &mut self.nodes[who];
        if node.heard.contains(&announcement.segment) {
            return;
        }
        node.heard.push_back(announcement.segment);
        if node.heard.len() > 64 {
            node.heard.pop_front();
        }
        node.player.listed(announcement);
        let proven = |(number, _, _): &(ChunkNumber, PeerId, u32)| announcement.index_of(*number).is_some();
        let chunks: Vec<_> = node.unproven.extract_if(.., |chunk| proven(chunk)).collect();
        self.feed(who, Input::Announced { announcement: announcement.clone() });
        for (number, peer, len) in chunks {
            self.got(who, number, Some(peer), len, (announcement.rendition, announcement.epoch));
        }
    }

    fn join(&mut self, who: usize) {
        self.nodes[who].alive = true;
        self.nodes[who].player.joined = self.now;
        // The link holds the broadcaster's address.
        self.feed(who, Input::Tick);
    }

    fn produce(&mut self) {
        let number = self.window.last().map_or(0, |a| a.segment.0 + 1);
        let seconds = self.scenario.segment_seconds;
        self.push(self.now + Duration::from_secs_f64(seconds), SOURCE, Event::Produce);
        let chunks = (seconds / CHUNK_SECONDS).ceil().max(1.0) as usize;
        let len = (self.scenario.bitrate_bps * seconds / 8.0 / chunks as f64) as u32;
        let start = self.clock().wall - Duration::from_secs_f64(seconds);
        let announcement = Arc::new(Announcement {
            epoch: EPOCH,
            rendition: RENDITION,
            segment: SegmentNumber(number),
            first_chunk: ChunkNumber(number * chunks as u64),
            lengths: vec![len.min(128 * 1024); chunks],
            hashes: Bytes::from(vec![0; HASH_LEN * chunks]),
            start: WallTime(start.0.max(0)),
            duration_us: (seconds * 1e6) as u64,
            discontinuity: false,
            init: None,
            tags: Vec::new(),
            uri: format!("{number}.m4s"),
            offset: 0,
            announced: self.clock().wall,
        });
        self.window.push(announcement.clone());
        self.gossip(&announcement);
        self.feed(SOURCE, Input::Produced { announcement });
    }

    /// gossipsub, modelled: everybody connected and following hears of it after some hops.
    fn gossip(&mut self, announcement: &Arc<Announcement>) {
        let alive = self.nodes.iter().filter(|n| n.alive).count();
        let hops_max = ((alive as f64).ln() / 4f64.ln()).ceil().max(1.0) as usize;
        let size = announcement.encode().len() + 80 + 40;
        for who in 1..self.nodes.len() {
            let node = &self.nodes[who];
            if !node.alive || !node.following || node.connections.is_empty() {
                continue;
            }
            let hops = 1 + self.rng.below(hops_max);
            let mut after = Duration::ZERO;
            for _ in 0..hops {
                let far = self.rng.unit() < 0.3;
                after += delay(0, u8::from(far), &mut self.rng).mul_f64(self.scenario.delay_scale) + GOSSIP_HOP_WORK;
            }
            // Mesh degree 4: each announcement arrives about three times (research notes, libp2p §8c).
            self.meter.control_bytes += if self.meter.warm { 3 * size as u64 } else { 0 };
            let at = self.now + after;
            self.push(at, who, Event::Hear(announcement.clone()));
        }
    }

    fn ask_hints(&mut self, who: usize, mut request: starling_proto::wire::HintRequest) {
        if !self.hints_alive {
            return self.push(self.now + Duration::from_secs(2), who, Event::Input(Input::HintsFailed));
        }
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.asking.insert(id, who);
        request.addrs = vec![Bytes::from_static(b"sim")];
        self.meter.control_bytes += (request.encode().len() + MESSAGE_OVERHEAD) as u64;
        let peer = self.nodes[who].id;
        let place = directory::Place { region: request.region.clone(), ..directory::Place::default() };
        self.direct(directory::Input::Asked { peer, id, request, place });
    }

    fn direct(&mut self, input: directory::Input) {
        let now = self.clock();
        let mut out = Vec::new();
        self.directory.handle(now, input, &mut out);
        for output in out {
            self.carry_out_direction(output);
        }
        let deadline = self.directory.deadline().max(Time(self.now.0 + 1000));
        if deadline < self.directory_tick || self.directory_tick <= self.now {
            self.directory_tick = deadline;
            if deadline != Time::NEVER {
                self.push(deadline, SOURCE, Event::DirectoryTick);
            }
        }
    }

    fn carry_out_direction(&mut self, output: directory::Output) {
        match output {
            directory::Output::Answer { id, response, .. } => {
                let Some(who) = self.asking.remove(&id) else { return };
                let at = self.now + self.delay(who, SOURCE) * 2;
                self.meter.control_bytes += (response.encode().len() + MESSAGE_OVERHEAD) as u64;
                if let Ok(roster) = Roster::decode(&response.roster) {
                    self.push(at, who, Event::Input(Input::RosterHeld { roster: Arc::new(roster) }));
                }
                self.push(at, who, Event::Input(Input::Hinted { response: Box::new(response) }));
            }
            directory::Output::SignRoster { stream, roster } => {
                let bytes = roster.encode();
                self.direct(directory::Input::RosterSigned { stream, bytes });
            }
        }
    }

    fn next_churn(&mut self) {
        let per_second = self.scenario.churn_per_minute * self.scenario.viewers as f64 / 60.0;
        if per_second > 0.0 {
            let wait = self.rng.exponential(1.0 / per_second);
            self.push(self.now + Duration::from_secs_f64(wait), SOURCE, Event::Churn);
        }
    }

    fn churn(&mut self) {
        let alive: Vec<usize> =
            (1..self.nodes.len()).filter(|n| self.nodes[*n].alive && self.nodes[*n].player.playing()).collect();
        if let Some(who) = alive.get(self.rng.below(alive.len())).copied() {
            let silent = self.rng.unit() < 0.5;
            self.leave(who, silent);
            self.new_viewer(self.now);
        }
        self.next_churn();
    }

    fn leave(&mut self, who: usize, silent: bool) {
        self.nodes[who].alive = false;
        for with in std::mem::take(&mut self.nodes[who].connections) {
            let after = if silent { SILENT_LOSS } else { self.delay(who, with) };
            self.push(self.now + after, with, Event::Sever { with: who });
        }
    }

    fn warm_up(&mut self) {
        self.meter.warm = true;
        self.meter.control_bytes = 0;
        let now = self.now;
        for node in &mut self.nodes {
            node.stalls_before = (node.player.stalls.0, node.player.stalled_seconds(now));
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
