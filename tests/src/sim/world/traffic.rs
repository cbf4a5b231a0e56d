//! Chunks: asked for, sent, arriving; fetches from the origin.

use super::*;

/// Requests and fetches that fail say so after this.
const FAILS_AFTER: Duration = Duration::from_millis(1);
/// A fetch from the origin takes this many round trips before its first byte: a connection is often there (a guess).
const ORIGIN_ROUND_TRIPS: u32 = 2;

impl World {
    pub(super) fn request(&mut self, who: u32, to: u32, id: RequestId, request: ChunkRequest) {
        if !self.node(who).connections.contains(&to) {
            let failed = Input::Responded { id, outcome: Outcome::Failed };
            return self.push(self.now + FAILS_AFTER, who, Event::Input(Box::new(failed)));
        }
        if self.blocked(who, to) {
            return;
        }
        let at = self.now + self.delay(who, to);
        self.push(at, to, Event::Requested { from: who, id: id.0 as u32, request: Box::new(request) });
    }

    pub(super) fn requested(&mut self, who: u32, from: u32, id: u32, request: ChunkRequest) {
        if self.node(who).connections.contains(&from) {
            // The number says who asked, and which of its requests it is.
            let id = RequestId(u64::from(from) << 32 | u64::from(id));
            self.feed(who, Input::Requested { from: peer_id(from), id, request });
        }
    }

    pub(super) fn answer(&mut self, who: u32, id: RequestId, mut header: ChunkHeader, rides: bool) {
        let (asker, id) = ((id.0 >> 32) as u32, id.0 as u32);
        if self.blocked(who, asker) || !self.node(who).connections.contains(&asker) {
            return;
        }
        header.introduced = header.instead.iter().take(1).map(|peer| self.info(index_of(*peer))).collect();
        let introduction = header.introduced.iter().map(|info| info.encode().len()).sum::<usize>();
        let header = Box::new(header);
        let (ChunkStatus::Chunk, Some(number)) = (header.status, header.number) else {
            self.meter.control(CHUNK_OVERHEAD + introduction);
            let at = self.now + self.delay(who, asker);
            return self.push(at, asker, Event::Without { id, header });
        };
        if who != SOURCE && !self.node(who).player.holds(number) {
            self.violations.push(format!("{:?} node {who} sends chunk {number} it does not hold", self.now));
        }
        let Some(len) = self.segment_of(number).and_then(|a| a.length_of(number)) else { return };
        let said = if rides { self.rider(who, asker, number) } else { Told::default() };
        let overhead = CHUNK_OVERHEAD + introduction + statement_bytes(said);
        let bytes = len as usize + overhead;
        let (here, there) = (self.node(who).link.region, self.node(asker).link.region);
        let trip = self.paths.message(here, there, bytes, &mut self.rng);
        let now = self.now;
        let left = self.node_mut(who).link.send(now, bytes);
        let at = self.node_mut(asker).link.receive(left + trip, bytes);
        if self.meter.warm {
            self.meter.control(overhead);
            self.meter.delays.0 += trip.as_secs_f64();
            self.meter.delays.1 += 1;
            self.node_mut(who).sent_bytes += u64::from(len);
        }
        self.push(at, asker, Event::Chunk { from: who, id, len, said, header });
    }

    /// As below, but nobody is told anything twice.
    fn rider(&mut self, who: u32, asker: u32, number: ChunkNumber) -> Told {
        let said = self.told_with(who, number);
        let (segment, index) = (number.0 / self.chunks_per_segment, (number.0 % self.chunks_per_segment) as u8);
        if said.end == 0 || !self.scenario.low_latency {
            return said;
        }
        let told = &mut self.node_mut(who).told;
        let Some((_, of, run)) = told.iter_mut().find(|(neighbour, ..)| *neighbour == asker) else {
            told.push((asker, segment as u32, said));
            return said;
        };
        if *of == segment as u32 && (run.begin..run.end).contains(&index) {
            return Told::default();
        }
        let joins = *of == segment as u32 && (run.begin..run.end).contains(&said.begin);
        *run = if joins { Told { begin: run.begin, end: said.end.max(run.end) } } else { said };
        *of = segment as u32;
        said
    }

    /// What is told with a chunk: with the first of a segment all that is known of it; in low latency with each its own part
    /// and the next, or the one before.
    fn told_with(&self, sender: u32, number: ChunkNumber) -> Told {
        let (segment, index) = (number.0 / self.chunks_per_segment, (number.0 % self.chunks_per_segment) as usize);
        let known = match sender {
            SOURCE => self.segment_of(number).map_or(0, |a| a.lengths.len()),
            _ => self.node(sender).player.announced(SegmentNumber(segment)),
        };
        if self.scenario.low_latency {
            let newest = (index / PART_CHUNKS * PART_CHUNKS + CONTINUED_CHUNKS).min(known);
            return Told { begin: newest.saturating_sub(CONTINUED_CHUNKS) as u8, end: newest as u8 };
        }
        Told { begin: 0, end: if index == 0 { known as u8 } else { 0 } }
    }

    pub(super) fn chunk_arrives(
        &mut self,
        who: u32,
        from: u32,
        id: u32,
        (len, said): (u32, Told),
        header: ChunkHeader,
    ) {
        let Some(number) = header.number else { return };
        if !self.node(who).connections.contains(&from) {
            return; // went down with the connection
        }
        let sender = self.node(from);
        let slowest = sender.link.up_bps.min(self.node(who).link.down_bps);
        let spread = transmission(len as usize, slowest);
        let genuine = !sender.pollutes;
        if said.end > 0 {
            self.hear_more(who, (number.0 / self.chunks_per_segment) as u32, said);
        }
        let id = RequestId(id.into());
        self.feed(who, Input::Responded { id, outcome: Outcome::Chunk { header, len, spread } });
        self.count_chunk(who, from, len);
        if self.node(who).player.knows(number) {
            self.got(who, number, Some(from), genuine);
        } else {
            self.node_mut(who).unproven.push((number, from, genuine));
        }
    }

    /// What came with a chunk; if it continues what isn't known it waits for that.
    fn hear_more(&mut self, who: u32, segment: u32, said: Told) {
        let known = self.node(who).player.announced(SegmentNumber(segment.into()));
        if usize::from(said.begin) > known {
            return self.node_mut(who).apart.push((segment, said));
        }
        if usize::from(said.end) > known {
            self.hear(who, segment as usize, said.end.into());
        }
    }

    fn count_chunk(&mut self, who: u32, from: u32, len: u32) {
        let near = self.node(from).link.region == self.node(who).link.region;
        if from == SOURCE {
            self.meter.first_hand(len, self.now, self.node(who).player.joined);
        }
        let bytes = if self.meter.warm { u64::from(len) } else { 0 };
        match from {
            SOURCE => self.meter.source_bytes += bytes,
            _ => self.meter.peer_bytes += bytes,
        }
        self.meter.near_bytes += if near && from != SOURCE { bytes } else { 0 };
    }

    pub(super) fn fetch_origin(&mut self, who: u32, id: RequestId, first: ChunkNumber, end: ChunkNumber) {
        let Some(segment) = self.segment_of(first) else { return };
        let bytes: u64 = (first.0..end.0).filter_map(|n| segment.length_of(ChunkNumber(n))).map(u64::from).sum();
        let region = self.node(who).link.region;
        // The origin is a CDN with a server in every region.
        let wait =
            (0..ORIGIN_ROUND_TRIPS * 2).map(|_| self.paths.message(region, region, 1, &mut self.rng)).sum::<Duration>();
        let sent = self.now + wait + transmission(bytes as usize, ORIGIN_BPS);
        let at = self.node_mut(who).link.receive(sent, bytes as usize);
        let took = at.since(self.now);
        self.push(at, who, Event::OriginDone { id, first, end, took });
    }

    pub(super) fn origin_done(
        &mut self,
        who: u32,
        id: RequestId,
        first: ChunkNumber,
        end: ChunkNumber,
        took: Duration,
    ) {
        for number in (first.0..end.0).map(ChunkNumber) {
            let len = self.segment_of(number).and_then(|a| a.length_of(number)).unwrap_or(0);
            self.meter.first_hand(len, self.now, self.node(who).player.joined);
            self.meter.origin_bytes += if self.meter.warm { u64::from(len) } else { 0 };
            self.got(who, number, None, true);
        }
        self.feed(who, Input::OriginEnded { id, complete: true, took });
    }

    /// A chunk whose statement is known reached a viewer, and was checked.
    pub(super) fn got(&mut self, who: u32, number: ChunkNumber, from: Option<u32>, genuine: bool) {
        let now = self.now;
        let Some(segment) = self.segment_of(number) else { return };
        let len = u64::from(segment.length_of(number).unwrap_or(0));
        let stated = segment.index_of(number).map_or(segment.announced, |index| segment.stated(index));
        let fresh = genuine && self.nodes[who as usize].player.arrived(number);
        if self.meter.warm {
            let count = match (genuine, fresh) {
                (false, _) => &mut self.meter.bad_bytes,
                (true, false) => &mut self.meter.duplicate_bytes,
                (true, true) => &mut self.meter.delivered_bytes,
            };
            *count += len;
            if fresh {
                self.meter.diffusion.add(WallTime(now.0 as i64).seconds_since(stated));
            }
        }
        let from = from.map(peer_id);
        self.feed(who, Input::Checked { rendition: RENDITION, epoch: EPOCH, number, from, genuine });
        if fresh {
            self.play(who);
        }
    }

    fn segment_of(&self, number: ChunkNumber) -> Option<&Arc<Announcement>> {
        self.said.get((number.0 / self.chunks_per_segment) as usize)?.last()
    }
}

/// Bytes of a statement: signature and frame, what every segment or continuation has, then what each chunk has (measured).
fn statement_bytes(said: Told) -> usize {
    let chunk = HASH_LEN + 3 + 12 / PART_CHUNKS;
    let chunks = usize::from(said.end - said.begin);
    match said {
        Told { end: 0, .. } => 0,
        Told { begin: 0, .. } => 80 + 70 + chunks * chunk,
        Told { .. } => 74 + 40 + chunks * chunk,
    }
}
