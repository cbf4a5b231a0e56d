//! Several machines in memory: a fixed delay, a virtual clock, an origin that always has everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use starling_proto::wire::{Announcement, ChunkStatus, ControlRequest};
use starling_proto::{ChunkNumber, Config, Input, Now, Outcome, Output, Peer, PeerId, RequestId, Time, WallTime};

use crate::rig::{EPOCH, LEN, RENDITION, SOURCE, STREAM, announcement, catalogue, id, viewer};

enum Event {
    Input(Input),
    Control(PeerId, Box<ControlRequest>),
    Tick,
}

/// All of them; index 0 is the broadcaster.
pub(crate) struct Swarm {
    pub(crate) peers: Vec<(PeerId, Peer)>,
    /// Chunks each one holds.
    pub(crate) held: Vec<BTreeSet<u64>>,
    /// Answers of these are lost.
    pub(crate) mute: BTreeSet<usize>,
    now: Time,
    delay: Duration,
    events: BTreeMap<(Time, u64), (usize, Event)>,
    sequence: u64,
    inbound: BTreeMap<RequestId, (usize, usize, RequestId)>,
    announced: Vec<Arc<Announcement>>,
    serves: bool,
}

impl Swarm {
    /// A broadcaster and `viewers`, all connected to each other, `delay` apart.
    pub(crate) fn new(viewers: u8, serves: bool, delay: Duration) -> Self {
        let source = (SOURCE, Peer::new(SOURCE, Config::source(STREAM, SOURCE), 0));
        let others = (0..viewers).map(|i| (id(i + 1), Peer::new(id(i + 1), viewer(), u64::from(i) + 1)));
        let peers: Vec<_> = std::iter::once(source).chain(others).collect();
        let count = peers.len();
        let mut swarm = Self {
            peers,
            held: vec![BTreeSet::new(); count],
            mute: BTreeSet::new(),
            now: Time(1_000_000),
            delay,
            events: BTreeMap::new(),
            sequence: 0,
            inbound: BTreeMap::new(),
            announced: Vec::new(),
            serves,
        };
        for who in 0..count {
            swarm.feed(who, Input::CatalogueHeld { catalogue: catalogue(EPOCH, serves) });
            swarm.feed(who, Input::Followed { rendition: RENDITION });
            for with in (0..count).filter(|w| *w != who) {
                let peer = swarm.peers[with].0;
                swarm.feed(who, Input::Connected { peer });
            }
        }
        swarm
    }

    /// Cuts a segment and announces it to everybody, then lets its duration pass.
    pub(crate) fn produce(&mut self) {
        let announcement = announcement(EPOCH, self.announced.len() as u64, self.now);
        self.announced.push(announcement.clone());
        if self.serves {
            self.feed(0, Input::Produced { announcement: announcement.clone() });
        }
        for who in 1..self.peers.len() {
            self.push(self.delay, who, Event::Input(Input::Announced { announcement: announcement.clone() }));
        }
        self.pass(Duration::from_secs(2));
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.events.first_entry().filter(|e| e.key().0 <= end) {
            self.now = next.key().0;
            let (who, event) = next.remove();
            match event {
                Event::Input(input) => self.feed(who, input),
                Event::Control(from, request) => self.control(who, from, *request),
                Event::Tick if self.peers[who].1.deadline() <= self.now => self.feed(who, Input::Tick),
                Event::Tick => {}
            }
        }
        self.now = end;
    }

    fn push(&mut self, after: Duration, who: usize, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), (who, event));
    }

    fn feed(&mut self, who: usize, input: Input) {
        if let Input::Checked { number, genuine: true, .. } = &input {
            self.held[who].insert(number.0);
        }
        let now = Now { mono: self.now, wall: WallTime(self.now.0 as i64) };
        let mut out = Vec::new();
        self.peers[who].1.handle(now, input, &mut out);
        out.into_iter().for_each(|output| self.carry_out(who, output));
        let due = self.peers[who].1.deadline().max(Time(self.now.0 + 100));
        if due != Time::NEVER {
            self.push(due.since(self.now), who, Event::Tick);
        }
    }

    fn carry_out(&mut self, who: usize, output: Output) {
        let of = |peers: &[(PeerId, Peer)], peer: PeerId| peers.iter().position(|p| p.0 == peer);
        match output {
            Output::Tell { to, request } => {
                let Some(to) = of(&self.peers, to) else { return };
                self.push(self.delay, to, Event::Control(self.peers[who].0, request));
            }
            Output::Request { id, to, request } => {
                let Some(to) = of(&self.peers, to) else { return };
                self.sequence += 1;
                let theirs = RequestId(self.sequence);
                self.inbound.insert(theirs, (who, to, id));
                let from = self.peers[who].0;
                self.push(self.delay, to, Event::Input(Input::Requested { from, id: theirs, request }));
            }
            Output::Answer { id, header, .. } => {
                let (asker, asked, id) = self.inbound.remove(&id).expect("every request is answered once");
                assert_eq!(asked, who);
                if self.mute.contains(&who) {
                    return;
                }
                let (ChunkStatus::Chunk, Some(number)) = (header.status, header.number) else {
                    let input = Input::Responded { id, outcome: Outcome::Without(header) };
                    return self.push(self.delay, asker, Event::Input(input));
                };
                assert!(who == 0 || self.held[who].contains(&number.0), "sends what it does not hold");
                let outcome = Outcome::Chunk { header, len: LEN, spread: Duration::from_millis(20) };
                self.push(self.delay, asker, Event::Input(Input::Responded { id, outcome }));
                self.arrives(self.delay, asker, number, Some(self.peers[who].0));
            }
            Output::FetchOrigin { id, first, end, .. } => {
                let took = Duration::from_millis(150);
                for number in first.0..end.0 {
                    self.arrives(took, who, ChunkNumber(number), None);
                }
                self.push(took, who, Event::Input(Input::OriginEnded { id, complete: true, took }));
            }
            Output::AskHints { .. } => self.push(self.delay, who, Event::Input(Input::HintsFailed)),
            Output::Dial { .. }
            | Output::Disconnect { .. }
            | Output::Ban { .. }
            | Output::FetchWindow { .. }
            | Output::Subscribe { .. }
            | Output::Unsubscribe { .. } => {}
        }
    }

    fn arrives(&mut self, after: Duration, who: usize, number: ChunkNumber, from: Option<PeerId>) {
        let checked = Input::Checked { rendition: RENDITION, epoch: EPOCH, number, from, genuine: true };
        self.push(after + Duration::from_micros(1), who, Event::Input(checked));
    }

    fn control(&mut self, who: usize, from: PeerId, request: ControlRequest) {
        if let Some(hello) = request.hello {
            self.feed(who, Input::Greeted { peer: from, hello: Box::new(hello), round_trip: None });
        }
        if let Some(status) = request.status {
            self.feed(who, Input::StatusTold { peer: from, status });
        }
        if let Some(cancel) = request.cancel {
            self.feed(who, Input::Cancelled { from, cancel });
        }
    }
}
