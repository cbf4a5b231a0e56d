//! Connections, control messages, and the hint server: the very `Directory`, its questions and answers delayed.

use super::life::{SILENT_LOSS, region_name};
use super::*;

/// A dial to somebody gone or out of reach fails after this.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Neighbours named in an answer, as the node does.
const INTRODUCED_MAX: usize = 8;
/// Announcements in a window, as the node does.
const WINDOW_SEGMENTS: usize = 12;
/// A hint server out of reach is given up after this.
const HINTS_TIMEOUT: Duration = Duration::from_secs(2);
/// The size of a signed catalogue with one rendition.
const CATALOGUE_BYTES: usize = 250;

impl World {
    pub(super) fn dial(&mut self, who: u32, with: u32) {
        let (a, b) = (self.node(who), self.node(with));
        let open = self.paths.reachable((who as usize, a.link.nat), (with as usize, b.link.nat));
        if !b.alive || !open || self.blocked(who, with) {
            return self.push(self.now + DIAL_TIMEOUT, who, Event::DialFailed { with });
        }
        let full = b.connections.len() >= connections_max(with) || b.banned.contains(&who);
        let after = self.delay(who, with) * 3;
        let event = if full { Event::DialFailed { with } } else { Event::Connect { with } };
        self.push(self.now + after, who, event);
    }

    pub(super) fn connect(&mut self, who: u32, with: u32) {
        let (a, b) = (self.node(who).id, self.node(with).id);
        if !self.node(with).alive {
            return self.feed(who, Input::Disconnected { peer: b });
        }
        if !self.node(who).connections.contains(&with) {
            self.node_mut(who).connections.push(with);
            self.node_mut(with).connections.push(who);
        }
        self.feed(who, Input::Connected { peer: b });
        self.feed(with, Input::Connected { peer: a });
    }

    pub(super) fn disconnect(&mut self, who: u32, with: u32) {
        if !self.node(who).connections.contains(&with) {
            return;
        }
        self.node_mut(who).connections.retain(|c| *c != with);
        self.push(self.now, who, Event::Sever { with });
        let after = if self.blocked(who, with) { SILENT_LOSS } else { self.delay(who, with) };
        self.push(self.now + after, with, Event::Sever { with: who });
    }

    pub(super) fn severed(&mut self, who: u32, with: u32) {
        self.node_mut(who).told.retain(|(neighbour, ..)| *neighbour != with);
        self.node_mut(who).connections.retain(|c| *c != with);
        self.feed(who, Input::Disconnected { peer: peer_id(with) });
    }

    pub(super) fn tell(&mut self, who: u32, to: u32, request: Box<ControlRequest>) {
        self.meter.control(request.encode().len() + MESSAGE_OVERHEAD);
        if self.blocked(who, to) {
            return;
        }
        let at = self.now + self.delay(who, to);
        self.push(at, to, Event::Control { from: who, request });
    }

    pub(super) fn control(&mut self, who: u32, from: u32, request: ControlRequest) {
        if !self.node(who).connections.contains(&from) {
            return;
        }
        let peer = peer_id(from);
        if let Some(mut hello) = request.hello {
            hello.addrs = vec![ADDR];
            let mut answer = self.node(who).peer.hello(self.clock());
            answer.addrs = vec![ADDR];
            self.meter.control(answer.encode().len() + MESSAGE_OVERHEAD);
            let trip = self.delay(who, from);
            let greeted = Event::Greeted { by: who, trip: trip * 2, hello: Box::new(answer) };
            self.push(self.now + trip, from, greeted);
            if who == SOURCE {
                self.introduce(who, from);
            }
            self.feed(who, Input::Greeted { peer, hello: Box::new(hello), round_trip: None });
        }
        if let Some(status) = request.status {
            self.feed(who, Input::StatusTold { peer, status });
        }
        if let Some(cancel) = request.cancel {
            self.feed(who, Input::Cancelled { from: peer, cancel });
        }
        if request.neighbours {
            self.introduce(who, from);
        }
    }

    /// `who` names some of its neighbours to `to`.
    fn introduce(&mut self, who: u32, to: u32) {
        let mut others: Vec<u32> =
            self.node(who).connections.iter().copied().filter(|c| *c != to && *c != SOURCE).collect();
        self.rng.shuffle(&mut others);
        others.truncate(INTRODUCED_MAX);
        let infos: Vec<_> = others.iter().map(|other| self.info(*other)).collect();
        self.meter.control(infos.iter().map(|i| i.encode().len()).sum::<usize>() + MESSAGE_OVERHEAD);
        let at = self.now + self.delay(who, to);
        self.push(at, to, Event::Input(Box::new(Input::Introduced { infos })));
    }

    /// Where a viewer can be dialled.
    pub(super) fn info(&self, viewer: u32) -> NeighbourInfo {
        let region = region_name(&self.paths, self.node(viewer).link.region);
        NeighbourInfo { peer: peer_id(viewer), addrs: vec![ADDR], region }
    }

    pub(super) fn fetch_window(&mut self, who: u32, from: u32, since: Option<(SegmentNumber, ChunkNumber)>) {
        let other = self.node(from);
        let holds = other.alive && (other.following || from == SOURCE);
        if !holds || self.blocked(who, from) {
            return; // the machine asks again
        }
        let unknown = since.map_or(usize::MAX, |(since, _)| self.said.len() - since.0 as usize);
        let segments = unknown.min(WINDOW_SEGMENTS).min(self.said.len());
        let bytes = self.newest().map_or(0, |a| a.encode().len()) * segments;
        self.meter.control(CATALOGUE_BYTES + bytes + MESSAGE_OVERHEAD);
        let at = self.now + self.delay(who, from) * 2;
        self.push(at, who, Event::WindowArrives);
    }

    pub(super) fn window_arrives(&mut self, who: u32) {
        let catalogue = self.catalogue.clone();
        self.feed(who, Input::CatalogueHeld { catalogue });
        self.feed(who, Input::Followed { rendition: RENDITION });
        for segment in self.said.len().saturating_sub(WINDOW_SEGMENTS)..self.said.len() {
            self.hear(who, segment, usize::MAX);
        }
        self.play(who);
    }

    pub(super) fn ask_hints(&mut self, who: u32, mut request: starling_proto::wire::HintRequest) {
        if !self.hints_alive || self.blocked(who, SOURCE) {
            return self.push(self.now + HINTS_TIMEOUT, who, Event::Input(Box::new(Input::HintsFailed)));
        }
        request.addrs = vec![ADDR];
        self.meter.control(request.encode().len() + MESSAGE_OVERHEAD);
        let place = directory::Place { region: request.region.clone(), ..directory::Place::default() };
        self.direct(directory::Input::Asked { peer: peer_id(who), id: RequestId(who.into()), request, place });
    }

    pub(super) fn direct(&mut self, input: directory::Input) {
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
            directory::Output::Answer { to, response, .. } => {
                let who = index_of(to);
                let at = self.now + self.delay(who, SOURCE) * 2;
                self.meter.control(response.encode().len() + MESSAGE_OVERHEAD);
                if let Ok(roster) = Roster::decode(&response.roster) {
                    self.push(at, who, Event::Input(Box::new(Input::RosterHeld { roster: Arc::new(roster) })));
                }
                self.push(at, who, Event::Input(Box::new(Input::Hinted { response: Box::new(response) })));
            }
            directory::Output::SignRoster { stream, roster } => {
                let bytes = roster.encode();
                self.direct(directory::Input::RosterSigned { stream, bytes });
            }
        }
    }
}

/// Connections a node admits (`node/src/net/driver.rs`).
fn connections_max(who: u32) -> usize {
    let neighbours_max = if who == SOURCE { 64 } else { 16 };
    neighbours_max * 2 + 16
}
