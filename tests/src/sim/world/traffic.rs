//! What peers send one another: connections, control messages, chunks, fetches from the origin.

use super::*;

impl World {
    pub(super) fn dial(&mut self, who: usize, peer: PeerId) {
        let Some(with) = self.index.get(&peer).copied() else { return };
        if self.nodes[with].alive {
            let at = self.now + self.delay(who, with) * 3;
            self.push(at, who, Event::Connect { with });
        } else {
            self.push(self.now + DIAL_TIMEOUT, who, Event::Input(Input::Disconnected { peer }));
        }
    }

    pub(super) fn connect(&mut self, who: usize, with: usize) {
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

    pub(super) fn disconnect(&mut self, who: usize, with: usize) {
        if !self.nodes[who].connections.contains(&with) {
            return;
        }
        self.nodes[who].connections.retain(|c| *c != with);
        self.push(self.now, who, Event::Sever { with });
        let at = self.now + self.delay(who, with);
        self.push(at, with, Event::Sever { with: who });
    }

    pub(super) fn severed(&mut self, who: usize, with: usize) {
        self.nodes[who].connections.retain(|c| *c != with);
        let peer = self.nodes[with].id;
        self.feed(who, Input::Disconnected { peer });
    }

    pub(super) fn tell(&mut self, who: usize, to: PeerId, request: Box<ControlRequest>) {
        let Some(to) = self.index.get(&to).copied() else { return };
        self.meter.control_bytes += (request.encode().len() + MESSAGE_OVERHEAD) as u64;
        let at = self.now + self.delay(who, to);
        self.push(at, to, Event::Control { from: who, request });
    }

    pub(super) fn control(&mut self, who: usize, from: usize, request: ControlRequest) {
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
    pub(super) fn introduce(&mut self, who: usize, to: usize) {
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

    pub(super) fn answer(&mut self, who: usize, id: RequestId, header: ChunkHeader, of: (RenditionId, Epoch)) {
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

    pub(super) fn chunk_arrives(
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

    pub(super) fn origin_done(
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
    pub(super) fn got(
        &mut self,
        who: usize,
        number: ChunkNumber,
        from: Option<PeerId>,
        len: u32,
        of: (RenditionId, Epoch),
    ) {
        if self.nodes[who].player.arrived(number) && self.meter.warm {
            self.meter.delivered_bytes += u64::from(len);
            if let Some(a) = self.window.iter().rev().find(|a| a.index_of(number).is_some()) {
                self.meter.diffusion.push(self.clock().wall.seconds_since(a.announced));
            }
        }
        self.feed(who, Input::Checked { rendition: of.0, epoch: of.1, number, from, genuine: true });
        self.play(who);
    }

    pub(super) fn window_arrives(&mut self, who: usize) {
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

    pub(super) fn hear(&mut self, who: usize, announcement: &Arc<Announcement>) {
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
}
