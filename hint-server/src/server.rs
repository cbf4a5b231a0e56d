//! The loop: network events in, the directory's decisions out.
//!
//! Nothing here awaits while carrying decisions out, and nothing here decides.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Message as Exchange, ResponseChannel};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{PeerId, Swarm};
use starling_proto::directory::{Directory, Input, Output, Place};
use starling_proto::time::{WallTime, micros};
use starling_proto::wire::{HintRequest, HintResponse, Message, Roster, Signed};
use starling_proto::{Now, RequestId, StreamId, Time};
use tokio::sync::watch;

use crate::address::{Endpoint, offered};
use crate::metrics::Metrics;
use crate::place::Places;
use crate::status::{Observer, Status};
use crate::swarm::{Behaviour, BehaviourEvent, name_of};

/// The shell around a [`Directory`].
pub(crate) struct Shell {
    pub(crate) swarm: Swarm<Behaviour>,
    pub(crate) directory: Directory,
    pub(crate) key: Keypair,
    pub(crate) places: Places,
    pub(crate) metrics: Metrics,
    pub(crate) published: watch::Sender<Arc<(Instant, Status)>>,
    /// What `--hint` takes.
    pub(crate) addresses: Vec<String>,
    pub(crate) clock: Clock,
    pub(crate) observer: Observer,
    pub(crate) sightings: HashMap<ConnectionId, Sighting>,
    pub(crate) channels: BTreeMap<RequestId, (ResponseChannel<Bytes>, Instant)>,
    pub(crate) requests: u64,
}

/// The process's clocks, read in one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

/// Where the other end of a connection is.
pub(crate) struct Sighting {
    endpoint: Endpoint,
    place: Place,
}

/// Requests waiting for their answer. The directory answers at once, so this bounds a mistake, not a load.
const CHANNELS_MAX: usize = 1_024;

/// How often status and metrics are brought up to date.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Longest sleep, so that a deadline in the far future is a valid instant on every system.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Time(micros(self.started.elapsed())),
            wall: WallTime(i64::try_from(wall.as_micros()).unwrap_or(i64::MAX)),
        }
    }

    fn until(&self, deadline: Time) -> Duration {
        deadline.since(Time(micros(self.started.elapsed()))).min(SLEEP_MAX)
    }
}

impl Shell {
    /// Serves until `shutdown` completes.
    pub(crate) async fn run(&mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let mut status = tokio::time::interval(STATUS_EVERY);
        status.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let until_deadline = self.clock.until(self.directory.deadline());
            tokio::select! {
                event = self.swarm.select_next_some() => self.happened(event),
                () = tokio::time::sleep(until_deadline) => self.feed(Input::Tick),
                _ = status.tick() => self.publish(),
                () = &mut shutdown => return,
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most events are of no interest")]
    pub(crate) fn happened(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Hints(event)) => self.heard(event),
            SwarmEvent::ConnectionEstablished { connection_id, peer_id, endpoint, .. } => {
                self.connected(connection_id, peer_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, peer_id, num_established, .. } => {
                self.sightings.remove(&connection_id);
                self.metrics.connections.set(self.sightings.len() as i64);
                if let Some(peer) = name_of(peer_id).filter(|_| num_established == 0) {
                    self.feed(Input::Left { peer });
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                self.swarm.add_external_address(address);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                tracing::info!(%address, "no longer listening");
                self.swarm.remove_external_address(&address);
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(
                    ?addresses,
                    ?reason,
                    "a listener closed: viewers can't reach this server there any more"
                );
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener has trouble"),
            SwarmEvent::IncomingConnectionError { error, .. } => tracing::debug!(%error, "a connection failed"),
            _ => {}
        }
    }

    fn connected(&mut self, connection: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint) {
        let seen = Endpoint::of(endpoint.get_remote_address()).and_then(|endpoint| Some((endpoint.ip()?, endpoint)));
        let (Some((ip, endpoint)), Some(_)) = (seen, name_of(peer)) else {
            tracing::debug!(%peer, "neither an address nor an Ed25519 key: disconnected");
            self.swarm.close_connection(connection);
            return;
        };
        self.sightings.insert(connection, Sighting { endpoint, place: self.places.locate(ip) });
        self.metrics.connections.set(self.sightings.len() as i64);
    }

    fn heard(&mut self, event: request_response::Event<Bytes, Bytes>) {
        use request_response::Event;
        match event {
            Event::Message { peer, connection_id, message: Exchange::Request { request, channel, .. } } => {
                self.asked(peer, connection_id, &request, channel);
            }
            Event::InboundFailure { peer, error, .. } => tracing::debug!(%peer, %error, "an answer got lost"),
            Event::Message { message: Exchange::Response { .. }, .. }
            | Event::OutboundFailure { .. }
            | Event::ResponseSent { .. } => {}
        }
    }

    fn asked(&mut self, peer: PeerId, connection: ConnectionId, message: &[u8], channel: ResponseChannel<Bytes>) {
        let (Some(name), Some(sighting)) = (name_of(peer), self.sightings.get(&connection)) else { return };
        let mut request = match HintRequest::decode(message) {
            Ok(request) => request,
            Err(error) => {
                self.metrics.malformed.inc();
                tracing::debug!(%peer, %error, "not a request");
                self.reply(channel, &refusal(format!("not a request this hint server understands: {error}")));
                return;
            }
        };
        request.addrs = offered(peer, &request.addrs, &sighting.endpoint);
        let place = sighting.place.clone();
        self.requests += 1;
        let id = RequestId(self.requests);
        self.channels.insert(id, (channel, Instant::now()));
        if self.channels.len() > CHANNELS_MAX {
            self.channels.pop_first();
        }
        tracing::trace!(peer = ?name, stream = ?request.stream, "asked");
        self.feed(Input::Asked { peer: name, id, request, place });
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let mut outputs = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.directory.handle(self.clock.now(), input, &mut outputs);
            for output in outputs.drain(..) {
                match output {
                    Output::Answer { id, response, .. } => self.answer(id, &response),
                    Output::SignRoster { stream, roster } => inputs.extend(self.sign(stream, &roster)),
                }
            }
        }
    }

    fn answer(&mut self, id: RequestId, response: &HintResponse) {
        let Some((channel, since)) = self.channels.remove(&id) else { return };
        self.metrics.answer_seconds.observe(since.elapsed().as_secs_f64());
        self.reply(channel, response);
    }

    fn reply(&mut self, channel: ResponseChannel<Bytes>, response: &HintResponse) {
        // Fails if the asker hung up; it asks again when it comes back.
        let _ = self.swarm.behaviour_mut().hints.send_response(channel, response.encode());
    }

    fn sign(&self, stream: StreamId, roster: &Roster) -> Option<Input> {
        let payload = roster.encode();
        let signature = self.key.sign(&Signed::signed_bytes::<Roster>(&stream, &payload)).ok()?;
        let signature = signature.try_into().ok()?;
        self.metrics.rosters.inc();
        tracing::debug!(?stream, term = roster.term, members = roster.members.len(), "signed a roster");
        Some(Input::RosterSigned { stream, bytes: Signed { payload, signature }.encode() })
    }

    pub(crate) fn publish(&mut self) {
        let streams = self.directory.streams();
        let uplink_bps = streams.iter().map(|stream| stream.uplink_bps).sum();
        self.metrics.follow(&self.directory, streams.len(), uplink_bps);
        let now = Instant::now();
        let connections = self.sightings.len();
        let status = self.observer.look(now, &self.directory, &streams, &self.addresses, connections);
        self.published.send_replace(Arc::new((now, status)));
    }
}

fn refusal(error: String) -> HintResponse {
    let refresh_ms = 30_000;
    let (hints, roster, place) = (Vec::new(), Bytes::new(), String::new());
    HintResponse { hints, refresh_ms, roster, audience: 0, place, error: Some(error) }
}
