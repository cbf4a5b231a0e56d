//! First contact, statuses, hints: what keeps the neighbour table true and full.

use std::time::Duration;

use bytes::Bytes;

use crate::id::PeerId;
use crate::time::{Now, Time};
use crate::wire::control::{MAX_DEPTHS, NeighbourInfo};
use crate::wire::{ControlRequest, Hello, HintRequest, HintResponse, Role, Roster, Status, TrackStatus, VERSION};

use super::Peer;
use super::io::Output;
use super::neighbours::proximity;
use super::serve::INSTEAD_MAX;

/// Timers of this sub-protocol.
#[derive(Clone, Debug, Default)]
pub(super) struct Contact {
    status_at: Time,
    status_told: Time,
    /// When the broadcaster was last told.
    source_told: Time,
    /// Depths, whether there is room and whether the uplink is known, as last told.
    standing_told: (Vec<u8>, bool, bool),
    hints_at: Time,
    asking_hints: bool,
    introduce_at: Time,
    rank_at: Time,
    prune_at: Time,
    source_at: Time,
    source_failures: u8,
    dialling_source: bool,
    hurry_at: Time,
}

/// How soon to ask again when no hint server answered.
const HINTS_RETRY: Duration = Duration::from_secs(3);
/// Bounds of what a hint server may ask for as refresh interval.
const REFRESH_MIN_MS: u32 = 500;
const REFRESH_MAX_MS: u32 = 120_000;
/// Who has nothing to give tells so this many times less often: its neighbours ask it for no chunks, and its link may be too
/// narrow for more. So does the broadcaster, and so it is told (a guess).
const SILENT_FACTOR: u32 = 4;
/// A newcomer dials no more: each connection costs 9 KB of its uplink (in the lab), and its player waits.
const LEAF_NEIGHBOURS: usize = 5;
/// A newcomer with a player dials viewers after this, or, while it loads from the origin, when that is here, or after the
/// second: their handshakes keep acknowledgements waiting in a slow uplink (in the lab: 250 KB at 0.4 Mbit/s up took 1.4 s instead of 0.3).
const DIALS_AFTER: Duration = Duration::from_millis(300);
const DIALS_AFTER_LOADING: Duration = Duration::from_millis(1200);
/// How often a viewer short of neighbours asks one for others.
const INTRODUCE_EVERY: Duration = Duration::from_secs(5);
/// How often our place among the seeds is computed anew while there is no roster.
const RANK_EVERY: Duration = Duration::from_secs(2);
/// How often surplus connections are closed.
const PRUNE_EVERY: Duration = Duration::from_secs(3);
/// A newcomer is not closed as surplus before it had time to become useful.
const PRUNE_AGE_MIN: Duration = Duration::from_secs(6);
/// First wait before the broadcaster is dialled again; doubles up to 2⁴ times that. Its restart takes about a second.
const SOURCE_REDIAL: Duration = Duration::from_millis(400);
/// Up to this audience everybody keeps a connection to the broadcaster if it can: about what that has room for, see
/// `Config::source`. Beyond it viewers dial as much less often as there are more of them.
const SOURCE_AUDIENCE: u32 = 100;
/// How often a viewer whose root fell silent may dial the broadcaster out of turn.
const HURRY_EVERY: Duration = Duration::from_secs(4);
/// How soon to ask for a rendition's window again while nothing was announced.
const WINDOW_RETRY: Duration = Duration::from_millis(700);

impl Contact {
    pub(super) fn status_due(&mut self, now: Time, wait: Duration) {
        self.status_at = self.status_at.min(now + wait);
    }
}

impl Peer {
    pub(super) fn connected(&mut self, now: Now, peer: PeerId, out: &mut Vec<Output>) {
        if self.neighbours.banned.contains(&peer) {
            out.push(Output::Ban { peer, reason: "banned before" });
            return;
        }
        self.neighbours.connect(peer, now.mono);
        if peer == self.config.source {
            self.contact.dialling_source = false;
        }
        let hello = Some(self.hello(now));
        out.push(Output::Tell { to: peer, request: Box::new(ControlRequest { hello, ..ControlRequest::none() }) });
    }

    pub(super) fn disconnected(&mut self, now: Now, peer: PeerId) {
        if peer == self.config.source {
            // Who is well connected needs the broadcaster only as a seed: a large audience would be at its door all the time.
            let crowd = if self.seeds() || self.neighbours.viewers() < self.config.neighbours_target / 2 {
                1
            } else {
                (self.audience / SOURCE_AUDIENCE).max(1)
            };
            let wait = SOURCE_REDIAL * (1 << self.contact.source_failures.min(4)) * crowd;
            self.contact.source_at = now.mono + wait + self.rng.jitter(wait);
            self.contact.source_failures = self.contact.source_failures.saturating_add(1);
            self.contact.dialling_source = false;
        }
        self.neighbours.disconnect(peer, now.mono, &mut self.rng);
        self.uploads.forget(peer);
        self.bereave(now.mono, peer);
        self.close_requests_to(now, peer);
    }

    /// What we say of ourselves; the shell adds addresses and agent.
    pub fn hello(&self, now: Now) -> Hello {
        Hello {
            versions: vec![VERSION],
            stream: self.config.stream,
            role: self.config.role,
            region: self.config.region.clone(),
            clock: self.clock.now(now),
            clock_error_us: self.clock.error_us(now.mono),
            addrs: Vec::new(),
            status: self.status(now.mono),
            agent: String::new(),
        }
    }

    /// What we hold and would take on.
    fn status(&self, now: Time) -> Status {
        let track = |t: &super::track::Track| TrackStatus {
            rendition: t.rendition,
            head: t.window.head(),
            depths: Bytes::from(t.depths(now)),
            lags: Bytes::from(t.lags(self.uploads.wait)),
            branches: Bytes::from(t.branches(self.id)),
            heights: Bytes::from(self.heights(t)),
        };
        Status {
            epoch: self.catalogue.as_ref().map(|c| c.epoch).unwrap_or_default(),
            catalogue_version: self.catalogue.as_ref().map_or(0, |c| c.version),
            tracks: self.tracks.iter().map(track).collect(),
            free_slots: self.free_slots(),
            uplink_bps: self.uplink_told(),
            guessed: self.uplink_unknown(),
        }
    }

    pub(super) fn greeted(
        &mut self,
        now: Now,
        peer: PeerId,
        hello: &Hello,
        round_trip: Option<Duration>,
        out: &mut Vec<Output>,
    ) {
        if hello.stream != self.config.stream || !hello.versions.contains(&VERSION) {
            tracing::debug!(?peer, versions = ?hello.versions, "another stream or version, let go");
            out.push(Output::Disconnect { peer });
            return;
        }
        let region = self.config.region.clone();
        // What somebody is follows from the stream's key, not from what it says.
        let role = if peer == self.config.source { Role::Source } else { Role::Viewer };
        self.neighbours.greet(peer, hello, role, &region);
        if role == Role::Source {
            self.contact.source_failures = 0; // as for other neighbours, not before
        }
        if let Some(round_trip) = round_trip {
            self.clock.learn(now, hello.clock, hello.clock_error_us, round_trip);
        }
        if role == Role::Viewer && !hello.addrs.is_empty() {
            self.neighbours.learn(peer, hello.addrs.clone(), proximity(&region, &hello.region), u16::MAX);
        }
        self.orphans_look_at_once(now.mono);
        self.fetch_missing_catalogue(peer, &hello.status, out);
    }

    pub(super) fn status_told(&mut self, now: Now, peer: PeerId, status: Status, out: &mut Vec<Output>) {
        self.fetch_missing_catalogue(peer, &status, out);
        let Some(neighbour) = self.neighbours.find_mut(peer) else { return };
        let fits = |list: &Bytes| list.len() <= MAX_DEPTHS;
        let sound = |t: &TrackStatus| [&t.depths, &t.lags, &t.branches, &t.heights].into_iter().all(fits);
        if status.tracks.iter().all(sound) {
            neighbour.status = Some(status);
            self.orphans_look_at_once(now.mono);
        }
    }

    /// Where we stand in the trees, or whether we have room, changed: tell soon, but not too often. Who feeds nobody and
    /// can't matters to nobody, and its uplink is the narrowest.
    pub(super) fn tell_if_moved(&mut self, now: Time) {
        if self.uploads.child_count() == 0 && self.free_slots() == 0 && !self.contact.standing_told.1 {
            return;
        }
        let depths = self.depths(now).into_iter();
        let (told, room, known) = &self.contact.standing_told;
        let fed = |depth: u8| depth != TrackStatus::NO_PATH;
        if !depths.map(fed).eq(told.iter().copied().map(fed))
            || (self.free_slots() > 0) != *room
            || self.uplink_unknown() == *known
        {
            let soonest = (self.contact.status_told + self.config.status_interval_min).max(now);
            self.contact.status_at = self.contact.status_at.min(soonest);
        }
    }

    fn orphans_look_at_once(&mut self, now: Time) {
        let looks = |s: &&mut super::track::Substream| s.parent.is_none() || s.noticed;
        for substream in self.tracks.iter_mut().flat_map(|t| &mut t.substreams).filter(looks) {
            substream.look_at = substream.look_at.min(now);
            self.quiet_until = now;
        }
    }

    fn fetch_missing_catalogue(&self, peer: PeerId, status: &Status, out: &mut Vec<Output>) {
        let theirs = (status.epoch, status.catalogue_version);
        let ours = self.catalogue.as_ref().map_or_else(Default::default, |c| (c.epoch, c.version));
        if theirs > ours && self.config.role == Role::Viewer {
            out.push(Output::FetchWindow { from: peer, rendition: None, since: None });
        }
    }

    pub(super) fn introduced(&mut self, infos: Vec<NeighbourInfo>) {
        for info in infos.into_iter().filter(|i| i.peer != self.id && !i.addrs.is_empty()) {
            self.neighbours.learn(info.peer, info.addrs, proximity(&self.config.region, &info.region), u16::MAX);
        }
    }

    /// Who feeds what we look for was named: connecting with them can't wait.
    pub(super) fn meet(&mut self, infos: &[NeighbourInfo]) {
        for info in infos.iter().take(INSTEAD_MAX).filter(|i| i.peer != self.id && !i.addrs.is_empty()) {
            let proximity = proximity(&self.config.region, &info.region);
            self.neighbours.want(info.peer, info.addrs.clone(), proximity);
        }
    }

    pub(super) fn hinted(&mut self, now: Now, response: HintResponse, out: &mut Vec<Output>) {
        self.contact.asking_hints = false;
        let refresh = response.refresh_ms.clamp(REFRESH_MIN_MS, REFRESH_MAX_MS);
        self.contact.hints_at = now.mono + Duration::from_millis(u64::from(refresh));
        if response.audience > 0 {
            self.audience = response.audience;
        }
        self.neighbours.age_hints();
        for (rank, hint) in response.hints.into_iter().enumerate().filter(|(_, h)| h.peer != self.id) {
            self.neighbours.learn(hint.peer, hint.addrs, hint.proximity.min(3), rank as u16);
        }
        self.dial(now.mono, out);
    }

    pub(super) fn hints_failed(&mut self, now: Now) {
        self.contact.asking_hints = false;
        self.contact.hints_at = now.mono + HINTS_RETRY + self.rng.jitter(HINTS_RETRY);
    }

    pub(super) fn roster_held(&mut self, now: Now, roster: &Roster, out: &mut Vec<Output>) {
        if roster.term < self.roster_term {
            return;
        }
        self.roster_term = roster.term;
        let members: Vec<_> = roster.members.iter().map(|m| (m.peer, m.weight)).collect();
        if self.roster.as_ref() != Some(&members) {
            self.roster = Some(members);
            self.rank_seeds(now.mono, out);
        }
        if roster.audience > 0 {
            self.audience = roster.audience;
        }
    }

    /// Everything here that runs on a timer.
    pub(super) fn keep_contact(&mut self, now: Now, out: &mut Vec<Output>) {
        for track in self.tracks.iter_mut().filter(|t| t.leaf_until() <= now.mono) {
            track.is_leaf = false;
            self.contact.status_due(now.mono, Duration::ZERO);
        }
        if self.contact.status_at <= now.mono {
            self.tell_status(now.mono, out);
        }
        if self.contact.hints_at <= now.mono && !self.contact.asking_hints {
            self.ask_hints(out);
        }
        if self.contact.rank_at <= now.mono {
            self.contact.rank_at = now.mono + RANK_EVERY;
            self.rank_seeds(now.mono, out);
        }
        if self.contact.introduce_at <= now.mono {
            self.contact.introduce_at = now.mono + INTRODUCE_EVERY + self.rng.jitter(INTRODUCE_EVERY);
            self.ask_introductions(out);
        }
        if self.contact.prune_at <= now.mono {
            self.contact.prune_at = now.mono + PRUNE_EVERY;
            self.prune(now.mono, out);
        }
        self.fetch_windows(now.mono, out);
        self.dial(now.mono, out);
    }

    fn tell_status(&mut self, now: Time, out: &mut Vec<Output>) {
        self.contact.status_told = now;
        self.uploads.doubt_old_reports(now);
        let seldom = self.config.status_interval * SILENT_FACTOR;
        // Of the broadcaster's nobody needs more than which catalogue it has.
        let often = self.gives() && self.config.role == Role::Viewer;
        self.contact.status_at = now + if often { self.config.status_interval } else { seldom };
        let (known, known_then) = (!self.uplink_unknown(), self.contact.standing_told.2);
        self.contact.standing_told = (self.depths(now), self.free_slots() > 0, known);
        let status = self.status(now);
        // All that the broadcaster wants to know is who could be a root, and it has more neighbours than anybody.
        let tells_source = known != known_then || now.since(self.contact.source_told) >= seldom;
        if tells_source {
            self.contact.source_told = now;
        }
        let listens = |role| role == Role::Viewer || tells_source;
        for neighbour in self.neighbours.iter().filter(|n| n.role.is_some_and(listens)) {
            let request = ControlRequest { status: Some(status.clone()), ..ControlRequest::none() };
            out.push(Output::Tell { to: neighbour.peer, request: Box::new(request) });
        }
    }

    fn ask_hints(&mut self, out: &mut Vec<Output>) {
        self.contact.asking_hints = true;
        let request = HintRequest {
            versions: vec![VERSION],
            stream: self.config.stream,
            role: self.config.role,
            region: self.config.region.clone(),
            uplink_bps: self.uplink_told(),
            renditions: self.tracks.iter().map(|t| t.rendition).collect(),
            addrs: Vec::new(),
            neighbours: u16::try_from(self.neighbours.viewers()).unwrap_or(u16::MAX),
            leaving: false,
        };
        out.push(Output::AskHints { request: Box::new(request) });
    }

    fn ask_introductions(&mut self, out: &mut Vec<Output>) {
        let short = self.neighbours.viewers() < self.config.neighbours_target && self.config.role == Role::Viewer;
        let count = self.neighbours.iter().count();
        let asked = self.neighbours.iter().nth(self.rng.below(count));
        if let (true, Some(asked)) = (short, asked) {
            let request = ControlRequest { neighbours: true, ..ControlRequest::none() };
            out.push(Output::Tell { to: asked.peer, request: Box::new(request) });
        }
    }

    /// Closes the least useful connections beyond the maximum.
    fn prune(&mut self, now: Time, out: &mut Vec<Output>) {
        let surplus = self.neighbours.iter().count().saturating_sub(self.config.neighbours_max);
        if surplus == 0 {
            return;
        }
        let feeds = |peer: PeerId| {
            self.tracks.iter().flat_map(|t| &t.substreams).any(|s| s.parent == Some(peer) || s.trial == Some(peer))
        };
        let idle = self.neighbours.iter().filter(|n| {
            n.role != Some(Role::Source)
                && now.since(n.since) >= PRUNE_AGE_MIN
                && !feeds(n.peer)
                && !self.uploads.serves(n.peer)
        });
        let mut idle: Vec<_> = idle.map(|n| (n.proximity, n.since, n.peer)).collect();
        idle.sort_by_key(|(proximity, since, peer)| (std::cmp::Reverse(*proximity), *since, peer.digest()));
        for (_, _, peer) in idle.into_iter().take(surplus) {
            out.push(Output::Disconnect { peer });
        }
    }

    /// A followed rendition of which nothing was announced yet, or not all: ask neighbours for its window.
    fn fetch_windows(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.config.role == Role::Source {
            return;
        }
        let count = self.neighbours.iter().filter(|n| n.role.is_some()).count();
        for track in self.tracks.iter_mut().filter(|t| t.window_due() <= now) {
            let following = |n: &&super::neighbours::Neighbour| n.track(track.rendition).is_some();
            let gap = track.gap().map(|gap| gap.from);
            // The broadcaster knows for certain; but all who missed something would ask it at once.
            let hears_nothing = track.hole_asks == 0 && gap.is_none();
            let asked = self.neighbours.iter().find(|n| n.role == Some(Role::Source) && hears_nothing);
            let asked = gap.and_then(|from| self.neighbours.find(from)).or(asked);
            let likely = self.neighbours.iter().filter(following).count();
            let asked = asked.or_else(|| self.neighbours.iter().filter(following).nth(self.rng.below(likely)));
            let asked =
                asked.or_else(|| self.neighbours.iter().filter(|n| n.role.is_some()).nth(self.rng.below(count)));
            let Some(asked) = asked else { continue };
            let since = track.known_since();
            track.window_asked(gap.unwrap_or(asked.peer), now + WINDOW_RETRY);
            out.push(Output::FetchWindow { from: asked.peer, rendition: Some(track.rendition), since });
        }
    }

    /// Connections to viewers that are dialled for.
    fn neighbours_wanted(&self) -> usize {
        let target = self.config.neighbours_target;
        if self.tracks.iter().any(|t| t.is_leaf) { target.min(LEAF_NEIGHBOURS) } else { target }
    }

    /// From when on viewers are dialled: what a player begins with comes from the origin, and before anything else.
    fn dials_from(&self) -> Time {
        let begun = self.tracks.iter().filter(|t| t.is_leaf).map(|t| t.begun).min();
        let wait = if self.requests.at_origin() > 0 { DIALS_AFTER_LOADING } else { DIALS_AFTER };
        begun.map_or(Time::ZERO, |begun| begun + wait)
    }

    fn dial(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.config.role == Role::Source {
            return;
        }
        if self.source_deadline() <= now {
            self.contact.dialling_source = true;
            out.push(Output::Dial { peer: self.config.source, addrs: Vec::new() });
        }
        if self.dials_from() > now {
            return;
        }
        while let Some((peer, addrs)) = self.neighbours.next_dial(self.neighbours_wanted(), now) {
            out.push(Output::Dial { peer, addrs });
        }
    }

    /// A root is wanted, and we may be it: dials the broadcaster without waiting for the turn, but not again and again.
    pub(super) fn hurry_to_source(&mut self, now: Time) {
        if self.contact.hurry_at <= now {
            self.contact.hurry_at = now + HURRY_EVERY;
            self.contact.source_at = self.contact.source_at.min(now);
        }
    }

    /// A place among the seeds is worth a connection to a broadcaster that serves.
    pub(super) fn dial_source_as_seed(&mut self, now: Time) {
        if self.seeds() {
            self.contact.source_at = self.contact.source_at.min(now);
        }
    }

    fn seeds(&self) -> bool {
        let serves = self.catalogue.as_ref().is_some_and(|c| c.serves);
        serves && self.tracks.iter().flat_map(|t| &t.substreams).any(|s| s.rank == Some(0))
    }

    pub(super) fn strike(&mut self, peer: PeerId, out: &mut Vec<Output>) {
        let Some(neighbour) = self.neighbours.find_mut(peer) else { return };
        neighbour.strikes = neighbour.strikes.saturating_add(1);
        if neighbour.strikes >= super::repair::STRIKES_MAX {
            tracing::debug!(?peer, "gives no answers, let go");
            out.push(Output::Disconnect { peer });
        }
    }

    pub(super) fn ban(&mut self, now: Now, peer: PeerId, reason: &'static str, out: &mut Vec<Output>) {
        if self.neighbours.banned.contains(&peer) {
            return;
        }
        self.neighbours.ban(peer);
        self.disconnected(now, peer);
        out.push(Output::Ban { peer, reason });
    }

    fn source_deadline(&self) -> Time {
        let idle = self.config.role == Role::Viewer && !self.contact.dialling_source;
        if idle && self.neighbours.find(self.config.source).is_none() { self.contact.source_at } else { Time::NEVER }
    }

    pub(super) fn contact_deadline(&self) -> Time {
        let c = &self.contact;
        let hints = if c.asking_hints { Time::NEVER } else { c.hints_at };
        let windows = self.tracks.iter().map(super::track::Track::window_due).min().unwrap_or(Time::NEVER);
        let leaf = self.tracks.iter().map(super::track::Track::leaf_until).min().unwrap_or(Time::NEVER);
        let asks = self.config.role == Role::Viewer && self.neighbours.iter().any(|n| n.role.is_some());
        let windows = if asks { windows } else { Time::NEVER };
        let dials = if self.config.role == Role::Viewer {
            self.neighbours.retry_at(self.neighbours_wanted()).max(self.dials_from())
        } else {
            Time::NEVER
        };
        let timers = c.status_at.min(hints).min(c.introduce_at).min(c.rank_at).min(c.prune_at);
        timers.min(leaf).min(windows).min(dials).min(self.source_deadline())
    }
}
