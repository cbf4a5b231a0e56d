//! Who comes and goes, and what the broadcaster produces.

use super::*;

impl World {
    pub(super) fn populate(&mut self) {
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

    pub(super) fn new_viewer(&mut self, at: Time) {
        let region = (self.nodes.len() % self.scenario.regions.max(1)) as u8;
        let sigma = self.scenario.uplink_sigma;
        let up = self.scenario.uplink_mean_bps * (sigma * self.rng.normal() - sigma * sigma / 2.0).exp();
        let who = self.add_node(Role::Viewer, region, up.max(200_000.0));
        self.push(at, who, Event::Join);
    }

    pub(super) fn add_node(&mut self, role: Role, region: u8, up_bps: f64) -> usize {
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

    pub(super) fn join(&mut self, who: usize) {
        self.nodes[who].alive = true;
        self.nodes[who].player.joined = self.now;
        // The link holds the broadcaster's address.
        self.feed(who, Input::Tick);
    }

    pub(super) fn produce(&mut self) {
        let number = self.window.last().map_or(0, |a| a.segment.0 + 1);
        let seconds = self.scenario.segment_seconds;
        self.push(self.now + Duration::from_secs_f64(seconds), SOURCE, Event::Produce);
        let chunks = (seconds / CHUNK_SECONDS).ceil().max(1.0) as usize;
        let len = (self.scenario.bitrate_bps * seconds / 8.0 / chunks as f64) as u32;
        let start = self.clock().wall - Duration::from_secs_f64(seconds);
        let announcement = Arc::new(Announcement {
            parts: Vec::new(),
            growing: false,
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
    pub(super) fn gossip(&mut self, announcement: &Arc<Announcement>) {
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

    pub(super) fn next_churn(&mut self) {
        let per_second = self.scenario.churn_per_minute * self.scenario.viewers as f64 / 60.0;
        if per_second > 0.0 {
            let wait = self.rng.exponential(1.0 / per_second);
            self.push(self.now + Duration::from_secs_f64(wait), SOURCE, Event::Churn);
        }
    }

    pub(super) fn churn(&mut self) {
        let alive: Vec<usize> =
            (1..self.nodes.len()).filter(|n| self.nodes[*n].alive && self.nodes[*n].player.playing()).collect();
        if let Some(who) = alive.get(self.rng.below(alive.len())).copied() {
            let silent = self.rng.unit() < 0.5;
            self.leave(who, silent);
            self.new_viewer(self.now);
        }
        self.next_churn();
    }

    pub(super) fn leave(&mut self, who: usize, silent: bool) {
        self.nodes[who].alive = false;
        for with in std::mem::take(&mut self.nodes[who].connections) {
            let after = if silent { SILENT_LOSS } else { self.delay(who, with) };
            self.push(self.now + after, with, Event::Sever { with: who });
        }
    }

    pub(super) fn warm_up(&mut self) {
        self.meter.warm = true;
        self.meter.control_bytes = 0;
        let now = self.now;
        for node in &mut self.nodes {
            node.stalls_before = (node.player.stalls.0, node.player.stalled_seconds(now));
        }
    }
}
