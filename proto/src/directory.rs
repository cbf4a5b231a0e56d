//! The hint server's brain: who watches what, where they are, whom each should connect to, and who seeds.
//!
//! Like every machine here it is fed what happened ([`Input`]) and says what to do ([`Output`]); it reads no clock and
//! draws no randomness but its seed's. It proposes and nothing more: viewers keep their mesh when it is gone, and its
//! whole memory is rebuilt by their next requests, so none of it is worth storing.

use std::time::Duration;

use bytes::Bytes;

use crate::id::{PeerId, RequestId, StreamId};
use crate::rng::Rng;
use crate::time::{Now, Time};
use crate::wire::{Hint, HintRequest, HintResponse, Role, Roster, VERSION};

mod index;
mod place;
mod rank;
mod registry;
mod roster;
mod status;
#[cfg(test)]
mod tests;
mod viewer;

pub use place::{CONTINENT_KM, Place, Proximity, REGION_KM, REGION_LEN_MAX};
pub use registry::RegisterError;
pub use status::{Counters, RegionStatus, StreamStatus};

use rank::{Pick, Ranking};
use registry::{Registry, Stream};
use viewer::{Claims, Handle};

/// Limits and rhythms of a [`Directory`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose name stands on rosters: the key the shell signs with.
    pub issuer: PeerId,
    /// Registrations over all streams; each takes 1 to 2 KB. More are refused, which costs them only the hints.
    pub viewers_max: usize,
    /// Streams at once.
    pub streams_max: usize,
    /// How often viewers ask, while requests stay below [`Self::requests_per_second_max`]. A registration lasts three of
    /// these.
    pub refresh: Duration,
    /// How soon a viewer that just came asks again: what it was told first is soon out of date.
    pub refresh_young: Duration,
    /// With more viewers than this allows, each asks less often. What it costs is the shell's networking; an answer itself
    /// takes some 10–20 µs (measured on one slow core, 10,000 viewers in one stream).
    pub requests_per_second_max: u32,
    /// Fewest proposals in an answer, if there are so many viewers.
    pub hints_min: usize,
    /// Most proposals in an answer.
    pub hints_max: usize,
    /// How many of them come from outside the asker's region, so that the swarm stays one piece.
    pub hints_mixing: usize,
    /// How long a roster stands.
    pub term: Duration,
    /// Most members of a roster.
    pub roster_max: usize,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A participant asked. The shell knows from the connection who it is and where, and has reduced the addresses in the
    /// request to those others may be given.
    Asked {
        /// Who, proven by the connection.
        peer: PeerId,
        /// Returned with the answer.
        id: RequestId,
        /// What it said.
        request: HintRequest,
        /// Where it was seen.
        place: Place,
    },
    /// The last connection to a participant ended.
    Left {
        /// Who.
        peer: PeerId,
    },
    /// A roster was signed: the encoded [`crate::wire::Signed`].
    RosterSigned {
        /// Whose roster.
        stream: StreamId,
        /// The envelope.
        bytes: Bytes,
    },
    /// The deadline passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Answer a request.
    Answer {
        /// As in [`Input::Asked`].
        id: RequestId,
        /// Who asked.
        to: PeerId,
        /// The answer.
        response: HintResponse,
    },
    /// Sign this and feed back [`Input::RosterSigned`]; a stream's first answers wait for it.
    SignRoster {
        /// Whose roster.
        stream: StreamId,
        /// What to sign.
        roster: Roster,
    },
}

/// The machine. See the module's documentation.
#[derive(Debug)]
pub struct Directory {
    config: Config,
    rng: Rng,
    registry: Registry,
    counters: Counters,
}

impl Config {
    /// The defaults for a server whose rosters `issuer` signs.
    pub fn new(issuer: PeerId) -> Self {
        Self {
            issuer,
            viewers_max: 200_000,
            streams_max: 1_024,
            refresh: Duration::from_secs(10),
            refresh_young: Duration::from_secs(3),
            requests_per_second_max: 1_000,
            hints_min: 12,
            hints_max: 16,
            hints_mixing: 3,
            term: Duration::from_secs(30),
            roster_max: 32,
        }
    }
}

/// A registration is forgotten after so many silent refresh intervals.
const SILENT_REFRESHES: u32 = 3;

/// Refresh intervals vary by this share either way, so that viewers who came together don't ask together.
const REFRESH_JITTER: f64 = 0.2;

/// Up to this age a viewer is young, see [`Config::refresh_young`].
const YOUNG: Duration = Duration::from_secs(8);

impl Directory {
    /// A directory that behaves identically for identical `seed` and inputs.
    pub fn new(config: Config, seed: u64) -> Self {
        Self { config, rng: Rng::new(seed), registry: Registry::default(), counters: Counters::default() }
    }

    /// Feeds one input; what the world must do is appended to `out`.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.expire(now.mono, out);
        match input {
            Input::Asked { peer, id, request, place } => self.asked(now, peer, id, request, place, out),
            Input::Left { peer } => self.registry.mark_gone(peer),
            Input::RosterSigned { stream, bytes } => {
                if let Some(stream) = self.registry.streams.get_mut(&stream) {
                    stream.rosters.signed(bytes, out);
                }
            }
            Input::Tick => {}
        }
    }

    /// When to call again with [`Input::Tick`] if nothing else happens.
    pub fn deadline(&self) -> Time {
        self.registry.first_expiry().map_or(Time::NEVER, |(at, _)| at)
    }

    fn expire(&mut self, now: Time, out: &mut Vec<Output>) {
        while let Some((_, handle)) = self.registry.first_expiry().filter(|(at, _)| *at <= now) {
            self.counters.expired += 1;
            self.forget(handle, out);
        }
    }

    fn forget(&mut self, handle: Handle, out: &mut Vec<Output>) {
        if let Some(mut abandoned) = self.registry.remove(handle) {
            abandoned.rosters.release(out);
        }
    }

    fn asked(
        &mut self,
        now: Now,
        peer: PeerId,
        id: RequestId,
        request: HintRequest,
        place: Place,
        out: &mut Vec<Output>,
    ) {
        self.counters.asked += 1;
        let stream = request.stream;
        if let Some(error) = version_error(&request.versions) {
            return self.refuse(id, peer, error, out);
        }
        if request.leaving {
            if let Some(handle) = self.registry.find(peer, stream) {
                self.forget(handle, out);
            }
            out.push(Output::Answer { id, to: peer, response: self.empty_answer() });
            return;
        }
        let refresh = self.refresh();
        let expires = now.mono + refresh * SILENT_REFRESHES;
        let claims = Claims::new(request, place);
        match self.registry.register(now.mono, &self.config, (peer, stream), claims, expires) {
            Ok(handle) => self.answer(now, id, handle, refresh, out),
            Err(error) => {
                tracing::debug!(?peer, ?stream, %error, "refused");
                self.refuse(id, peer, error.to_string(), out);
            }
        }
    }

    fn answer(&mut self, now: Now, id: RequestId, asker: Handle, refresh: Duration, out: &mut Vec<Output>) {
        let Some(viewer) = self.registry.viewers.get(asker) else { return };
        let (peer, stream_id, role, age) = (viewer.peer, viewer.stream, viewer.claims.role, viewer.age(now.mono));
        let place = viewer.claims.place.describe();
        let Some(stream) = self.registry.streams.get_mut(&stream_id) else { return };
        stream.asked += 1;
        out.extend(roster::renew(now, &self.config, stream_id, stream, &self.registry.viewers));
        let audience = u32::try_from(stream.index.len()).unwrap_or(u32::MAX);
        let hints = self.hints(now.mono, asker, stream_id, role);
        let young = if age < YOUNG { refresh.min(self.config.refresh_young) } else { refresh };
        let response =
            HintResponse { hints, refresh_ms: self.jittered_ms(young), audience, place, ..self.empty_answer() };
        if let Some(stream) = self.registry.streams.get_mut(&stream_id) {
            stream.rosters.answer(id, peer, response, out);
        }
    }

    fn hints(&mut self, now: Time, asker: Handle, stream: StreamId, role: Role) -> Vec<Hint> {
        let Some(Stream { index, rosters, .. }) = self.registry.streams.get(&stream) else { return Vec::new() };
        let members = || rosters.members.iter().filter_map(|m| self.registry.find(m.peer, stream));
        let members: Vec<Handle> = if role == Role::Source { members().collect() } else { Vec::new() };
        let viewers = &mut self.registry.viewers;
        let mut ranking = Ranking { viewers, index, rng: &mut self.rng, config: &self.config, now };
        let picks = match role {
            Role::Viewer => ranking.propose(asker),
            Role::Source => ranking.propose_to_source(asker, &members),
        };
        picks.into_iter().filter_map(|pick| self.hint(pick)).collect()
    }

    fn hint(&mut self, pick: Pick) -> Option<Hint> {
        let viewer = self.registry.viewers.get(pick.handle)?;
        let proximity = pick.proximity.class();
        self.counters.proposed[usize::from(proximity)] += 1;
        let claims = &viewer.claims;
        Some(Hint { peer: viewer.peer, addrs: claims.addrs.clone(), proximity, uplink_bps: claims.uplink_bps })
    }

    fn refuse(&mut self, id: RequestId, to: PeerId, error: String, out: &mut Vec<Output>) {
        self.counters.refused += 1;
        let refresh_ms = self.jittered_ms(self.config.refresh * SILENT_REFRESHES);
        let response = HintResponse { refresh_ms, error: Some(error), ..self.empty_answer() };
        out.push(Output::Answer { id, to, response });
    }

    fn empty_answer(&self) -> HintResponse {
        let refresh_ms = u32::try_from(self.config.refresh.as_millis()).unwrap_or(u32::MAX);
        let (hints, roster) = (Vec::new(), Bytes::new());
        HintResponse { hints, refresh_ms, roster, audience: 0, place: String::new(), error: None }
    }

    /// How often everybody may ask at the present size.
    fn refresh(&self) -> Duration {
        let rate = f64::from(self.config.requests_per_second_max.max(1));
        self.config.refresh.max(Duration::from_secs_f64(self.registry.viewers.len() as f64 / rate))
    }

    fn jittered_ms(&mut self, interval: Duration) -> u32 {
        let factor = 1.0 + REFRESH_JITTER * (2.0 * self.rng.unit() - 1.0);
        (interval.as_millis() as f64 * factor) as u32
    }
}

/// What to tell a program that speaks none of our versions.
fn version_error(versions: &[u16]) -> Option<String> {
    if versions.contains(&VERSION) {
        return None;
    }
    let advice = match versions.iter().max() {
        Some(newest) if *newest > VERSION => "ask for the hint server to be updated",
        Some(_) | None => "update starling",
    };
    let spoken: Vec<String> = versions.iter().take(8).map(u16::to_string).collect();
    let spoken = if spoken.is_empty() { "none".to_owned() } else { spoken.join(", ") };
    Some(format!("this hint server speaks protocol version {VERSION}, the request {spoken}: {advice}"))
}
