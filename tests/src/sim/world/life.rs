//! Who comes and goes.

use super::*;

/// A connection that died without a word is noticed after this (QUIC idle time-out in the node).
pub(super) const SILENT_LOSS: Duration = Duration::from_secs(6);
/// The broadcaster's uplink, bits per second: it is paced by its few copies, not by its link.
const SOURCE_BPS: f64 = 1e9;

impl World {
    pub(super) fn populate(&mut self, first: Vec<Draw>) {
        let source = self.add_node(Role::Source, 0, None);
        debug_assert_eq!(source, SOURCE);
        self.node_mut(SOURCE).alive = true;
        let catalogue = self.catalogue.clone();
        self.push(Time(1), SOURCE, Event::Input(Box::new(Input::CatalogueHeld { catalogue })));
        self.push(Time(1000), SOURCE, Event::Produce);
        for (i, draw) in first.into_iter().enumerate() {
            let at = self.population.arrival(i, &mut self.rng);
            let stay = self.population.stay(true, &mut self.rng);
            self.new_viewer(at, draw, stay);
        }
        let scenario = &self.scenario;
        let at = |seconds: f64| Time((seconds * 1e6) as u64);
        let mut planned = vec![(at(scenario.warmup_seconds), Event::WarmUp)];
        planned.extend(scenario.hints_die_at.map(|t| (at(t), Event::HintsDie)));
        planned.extend(scenario.exit.map(|exit| (at(exit.at), Event::Crowd)));
        planned.extend(scenario.partition.map(|span| (at(span.from), Event::Part)));
        planned.extend(scenario.partition.map(|span| (at(span.until), Event::Heal)));
        for (at, event) in planned {
            self.push(at, SOURCE, event);
        }
    }

    fn new_viewer(&mut self, at: Time, draw: Draw, stay: Option<Duration>) {
        let region = (self.nodes.len() % self.scenario.regions.max(1)) as u8;
        let who = self.add_node(Role::Viewer, region, Some(draw));
        self.push(at, who, Event::Join);
        if let Some(stay) = stay {
            let silent = self.rng.unit() < self.scenario.silent;
            self.push(at + stay, who, Event::Leave { silent, replaced: true });
        }
    }

    fn add_node(&mut self, role: Role, region: u8, draw: Option<Draw>) -> u32 {
        let who = self.nodes.len() as u32;
        let id = peer_id(who);
        let stream = StreamId([7; 32]);
        let source = peer_id(SOURCE);
        let mut config = match role {
            Role::Source => Config::source(stream, source),
            Role::Viewer => Config::viewer(stream, source),
        };
        config.region = region_name(&self.paths, region);
        config.upload = draw.is_none_or(|draw| draw.uploads);
        config.upload_limit_bps = draw.map(|draw| draw.up_bps as u64);
        let up_bps = draw.map_or(SOURCE_BPS, |draw| draw.up_bps);
        let nat = draw.map_or(super::super::network::NatClass::Open, |draw| draw.nat);
        let peer = Peer::new(id, config, self.rng.next_u64());
        self.nodes.push(Node {
            peer,
            id,
            alive: false,
            link: Link::new(region, nat, up_bps, self.scenario.downlink_bps),
            uploads: draw.is_none_or(|draw| draw.uploads),
            pollutes: draw.is_some_and(|draw| draw.pollutes),
            player: Player::default(),
            following: false,
            deadline: Time::NEVER,
            tick_at: Time::NEVER,
            unproven: Vec::new(),
            apart: Vec::new(),
            told: Vec::new(),
            connections: Vec::new(),
            banned: Vec::new(),
            stalls_before: (0, 0.0),
            sent_bytes: 0,
        });
        who
    }

    pub(super) fn join(&mut self, who: u32) {
        self.meter.count_alive(self.now, 1);
        let now = self.now;
        let node = self.node_mut(who);
        node.alive = true;
        node.player.joined = now;
        // The link holds the broadcaster's address.
        self.feed(who, Input::Tick);
    }

    pub(super) fn leave(&mut self, who: u32, silent: bool, replaced: bool) {
        self.meter.count_alive(self.now, -1);
        let now = self.now;
        let node = self.node_mut(who);
        node.alive = false;
        node.player.end_stall(now);
        for with in std::mem::take(&mut node.connections) {
            let after = if silent { SILENT_LOSS } else { self.delay(who, with) };
            self.push(self.now + after, with, Event::Sever { with: who });
        }
        let noticed = if silent { SILENT_LOSS } else { self.delay(who, SOURCE) };
        self.push(self.now + noticed, who, Event::DirectoryLoses);
        if replaced {
            let draw = self.population.newcomer(&mut self.rng);
            let stay = self.population.stay(false, &mut self.rng);
            self.new_viewer(self.now, draw, stay);
        }
    }

    /// The final whistle.
    pub(super) fn crowd_leaves(&mut self) {
        let Some(exit) = self.scenario.exit else { return };
        for who in 1..self.nodes.len() as u32 {
            if self.node(who).alive && self.rng.unit() < exit.share {
                let after = Duration::from_secs_f64(self.rng.exponential(exit.mean));
                let silent = self.rng.unit() < self.scenario.silent;
                self.push(self.now + after, who, Event::Leave { silent, replaced: false });
            }
        }
    }

    /// Nothing passes between the continents any more; both ends notice when their connections time out.
    pub(super) fn part(&mut self) {
        self.parted = true;
        for who in 0..self.nodes.len() as u32 {
            let cut: Vec<u32> =
                self.node(who).connections.iter().copied().filter(|with| self.blocked(who, *with)).collect();
            for with in cut {
                self.push(self.now + SILENT_LOSS, who, Event::Sever { with });
            }
        }
    }
}

/// Continent first, as hint servers and neighbours compare them.
pub(super) fn region_name(paths: &Paths, region: u8) -> String {
    format!("c{}-r{region}", paths.continent(region))
}
