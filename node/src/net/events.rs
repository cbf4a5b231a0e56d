//! What libp2p tells, as inputs.

use std::time::Instant;

use libp2p::gossipsub::{self, MessageAcceptance};
use libp2p::request_response::{self, Message, OutboundFailure};
use libp2p::swarm::SwarmEvent;
use starling_proto::wire::{
    ChunkRequest, ChunkStatus, ControlRequest, ControlResponse, Hello, HintRequest, HintResponse, NeighbourInfo,
    VERSION,
};
use starling_proto::{Input, Outcome, PeerId, RequestId};

use super::codec::ChunkAnswer;
use super::driver::{Driver, Waiting};
use super::exchange::{Channel, Event, ExchangeId};
use super::swarm::BehaviourEvent;
use crate::identity;
use crate::statement::StatementError;

/// Neighbours named in one answer.
const INTRODUCED_MAX: usize = 8;

impl Driver {
    #[allow(clippy::wildcard_enum_match_arm)] // non-exhaustive enums of which few variants matter
    pub(super) fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => self.on_gossip(propagation_source, &message_id, message),
            SwarmEvent::Behaviour(BehaviourEvent::Chunks(event)) => self.on_chunks(event),
            SwarmEvent::Behaviour(BehaviourEvent::Control(event)) => self.on_control(event),
            SwarmEvent::Behaviour(BehaviourEvent::Hints(event)) => self.on_hints(event),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, num_established, .. } => {
                self.dials.connected(&peer_id, &endpoint);
                if let Some(peer) = self.neighbour(&peer_id).filter(|_| num_established.get() == 1) {
                    self.riders.forget(&peer);
                    self.inputs.push_back(Input::Connected { peer });
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                if let Some(peer) = self.neighbour(&peer_id) {
                    self.neighbour_addrs.remove(&peer);
                    self.riders.forget(&peer);
                    self.inputs.push_back(Input::Disconnected { peer });
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer_id), error, .. } => {
                tracing::debug!(peer = %peer_id, %error, "can't connect");
                if let Some(peer) = self.neighbour(&peer_id).filter(|_| !self.swarm.is_connected(&peer_id)) {
                    match self.dials.failed(&peer_id) {
                        Some(addresses) => self.dial_at(peer, peer_id, addresses),
                        None => self.inputs.push_back(Input::Disconnected { peer }),
                    }
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => tracing::debug!(%address, "listening"),
            _ => {}
        }
    }

    /// Our name for a peer, unless it is a hint server.
    fn neighbour(&self, peer: &libp2p::PeerId) -> Option<PeerId> {
        let is_hint_server = self.hint_servers.iter().any(|(server, _)| server == peer);
        if is_hint_server { None } else { identity::to_proto(peer) }
    }

    fn on_gossip(&mut self, from: libp2p::PeerId, id: &gossipsub::MessageId, message: gossipsub::Message) {
        self.overhead.fetch_add(message.data.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let envelope = bytes::Bytes::from(message.data);
        let is_catalogue = message.topic == super::swarm::topic(&self.stream, None).hash();
        let taken = if is_catalogue {
            self.take_catalogue(&envelope)
        } else {
            self.take_announcements(std::slice::from_ref(&envelope))
        };
        if let (true, Some(from)) = (self.early.iter().any(|(_, signed)| *signed == envelope), self.neighbour(&from)) {
            self.ask_for_window(from, None, None);
        }
        let acceptance = match taken {
            Err(_) => MessageAcceptance::Reject,
            Ok(()) if self.peer.is_narrow() => MessageAcceptance::Ignore, // it isn't passed on
            Ok(()) => MessageAcceptance::Accept,
        };
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, &from, acceptance);
        self.blame(&from, taken);
    }

    /// Nobody honest passes on a statement that doesn't hold: everybody checks before forwarding.
    fn blame(&mut self, from: &libp2p::PeerId, taken: Result<(), StatementError>) {
        let Err(error) = taken else { return };
        tracing::debug!(peer = %from, %error, "a statement that doesn't hold");
        if let Some(peer) = identity::to_proto(from) {
            self.inputs.push_back(Input::Misbehaved { peer, reason: "passed on a statement that does not hold" });
        }
    }

    fn on_chunks(&mut self, event: Event<ChunkRequest, ChunkAnswer>) {
        match event {
            Event::Asked { peer, request, channel } => self.on_chunk_request(&peer, request, channel),
            Event::Answered { peer, id, response } => self.on_chunk_answer(&peer, id, response),
            Event::Failed { id, error } => {
                let Some(asked) = self.outbound.remove(&id) else { return };
                tracing::debug!(to = ?asked.to, %error, "a chunk request failed");
                let outcome = if is_malformed(&error) { Outcome::Malformed } else { Outcome::Failed };
                self.inputs.push_back(Input::Responded { id: asked.id, outcome });
            }
            Event::Left { .. } => {}
        }
    }

    fn on_chunk_request(&mut self, from: &libp2p::PeerId, request: ChunkRequest, channel: Channel<ChunkAnswer>) {
        self.inbound.retain(|_, waiting| waiting.channel.is_open());
        let Some(from) = identity::to_proto(from) else { return };
        self.inbound_last += 1;
        let id = RequestId(self.inbound_last);
        self.inbound.insert(id, Waiting { channel, from });
        self.inputs.push_back(Input::Requested { from, id, request });
    }

    fn on_chunk_answer(&mut self, from: &libp2p::PeerId, id: ExchangeId, answer: ChunkAnswer) {
        let Some(asked) = self.outbound.remove(&id) else { return };
        let ChunkAnswer { header, body, spread } = answer;
        if !header.statement.is_empty() {
            let taken = self.take_announcements(std::slice::from_ref(&header.statement));
            self.blame(from, taken);
        }
        if !header.continuation.is_empty() {
            let taken = self.take_continuation(&header.continuation);
            self.blame(from, taken);
        }
        let number = header.number.filter(|_| header.status == ChunkStatus::Chunk);
        let outcome = match number {
            Some(_) if body.is_empty() => Outcome::Malformed,
            Some(_) => Outcome::Chunk { header, len: u32::try_from(body.len()).unwrap_or(u32::MAX), spread },
            None if body.is_empty() => Outcome::Without(header),
            None => Outcome::Malformed,
        };
        self.inputs.push_back(Input::Responded { id: asked.id, outcome });
        if let Some(number) = number.filter(|_| !body.is_empty()) {
            self.take_chunk(asked.to, asked.rendition, asked.epoch, number, body);
        }
    }

    fn on_control(&mut self, event: Event<ControlRequest, ControlResponse>) {
        match event {
            Event::Asked { peer, request, channel } => self.on_control_request(&peer, request, channel),
            Event::Answered { peer, id, response } => self.on_control_answer(&peer, id, response),
            Event::Failed { id, error } => {
                let Some(told) = self.told.remove(&id) else { return };
                tracing::debug!(to = ?told.to, %error, "a control request failed");
                if let OutboundFailure::UnsupportedProtocols = error {
                    self.met_stranger(told.to, &[], "");
                    self.inputs.push_back(Input::Left { peer: told.to });
                } else if is_malformed(&error) {
                    let reason = "sent a malformed control answer";
                    self.inputs.push_back(Input::Misbehaved { peer: told.to, reason });
                }
            }
            Event::Left { peer } => {
                if let Some(peer) = identity::to_proto(&peer) {
                    self.inputs.push_back(Input::Left { peer });
                }
            }
        }
    }

    fn on_control_request(
        &mut self,
        from: &libp2p::PeerId,
        request: ControlRequest,
        channel: Channel<ControlResponse>,
    ) {
        let Some(peer) = identity::to_proto(from) else { return };
        let mut response = ControlResponse::noted();
        if let Some(hello) = request.hello {
            match self.on_hello(peer, hello) {
                Ok(greeting) => response = greeting,
                Err(why) => return channel.say_last(ControlResponse::refused(why)),
            }
        } else if let Some(window) = request.window {
            response.window = Some(self.media.newest(window.rendition, window.since, window.known));
        } else if let Some(status) = request.status {
            self.inputs.push_back(Input::StatusTold { peer, status });
        } else if let Some(cancel) = request.cancel {
            self.inputs.push_back(Input::Cancelled { from: peer, cancel });
        } else if request.neighbours {
            response.neighbours = self.introductions(peer);
        } else if request.bye {
            self.inputs.push_back(Input::Left { peer });
        } else {
            response = ControlResponse::refused("this version does not know that request");
        }
        channel.say(response);
    }

    /// Somebody introduced itself: remember where it is, and answer in kind; or say why we can't talk.
    fn on_hello(&mut self, peer: PeerId, hello: Hello) -> Result<ControlResponse, String> {
        if hello.stream != self.stream {
            return Err("this node carries another stream".to_owned());
        }
        if !hello.versions.contains(&VERSION) {
            self.met_stranger(peer, &hello.versions, &hello.agent);
            return Err(format!("this node speaks version {VERSION} only; update the older of the two"));
        }
        let response = ControlResponse {
            hello: Some(self.hello()),
            neighbours: self.introductions(peer),
            ..ControlResponse::noted()
        };
        self.remember(peer, &hello);
        self.inputs.push_back(Input::Greeted { peer, hello: Box::new(hello), round_trip: None });
        Ok(response)
    }

    fn on_control_answer(&mut self, from: &libp2p::PeerId, id: ExchangeId, response: ControlResponse) {
        let Some(told) = self.told.remove(&id) else { return };
        if let Some(error) = response.error {
            tracing::debug!(peer = %from, %error, "a control request was refused");
            if told.hello {
                tracing::info!(peer = %from, error = error.chars().filter(|c| !c.is_control()).take(200).collect::<String>(), "a peer won't talk to us");
                self.inputs.push_back(Input::Left { peer: told.to });
            }
        }
        if let Some(hello) = response.hello.filter(|_| told.hello) {
            if hello.stream == self.stream && !hello.versions.contains(&VERSION) {
                self.met_stranger(told.to, &hello.versions, &hello.agent);
                return self.inputs.push_back(Input::Left { peer: told.to });
            }
            self.remember(told.to, &hello);
            let round_trip = Some(told.at.elapsed());
            self.inputs.push_back(Input::Greeted { peer: told.to, hello: Box::new(hello), round_trip });
        }
        if !response.neighbours.is_empty() {
            self.inputs.push_back(Input::Introduced { infos: response.neighbours });
        }
        if let Some(window) = response.window {
            let taken = self.take_window(&window);
            self.blame(from, taken);
        }
    }

    fn remember(&mut self, peer: PeerId, hello: &Hello) {
        self.met_friend(peer);
        let addrs = hello.addrs.iter().take(starling_proto::wire::MAX_ADDRS).cloned().collect();
        let info = NeighbourInfo { peer, addrs, region: hello.region.chars().take(32).collect() };
        self.neighbour_addrs.insert(peer, info);
    }

    /// Some of our neighbours, for somebody else.
    fn introductions(&self, to: PeerId) -> Vec<NeighbourInfo> {
        use rand::seq::IteratorRandom;
        let source = identity::to_proto(&libp2p::identity::PublicKey::from(self.stream_key.clone()).to_peer_id());
        let others =
            self.neighbour_addrs.values().filter(|i| i.peer != to && Some(i.peer) != source && !i.addrs.is_empty());
        others.cloned().sample(&mut rand::rng(), INTRODUCED_MAX)
    }

    fn on_hints(&mut self, event: request_response::Event<HintRequest, HintResponse>) {
        use request_response::Event;
        match event {
            Event::Message { message: Message::Response { request_id, response }, .. } => {
                if self.hint_asked.remove(&request_id) {
                    self.on_hint_answer(response);
                }
            }
            Event::OutboundFailure { request_id, error, .. } => {
                if self.hint_asked.remove(&request_id) {
                    self.on_hint_failure(&error);
                }
            }
            Event::Message { .. } | Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    fn on_hint_answer(&mut self, response: HintResponse) {
        if response.error != self.hint_error {
            self.hint_error.clone_from(&response.error);
            if let Some(error) = &response.error {
                tracing::warn!(error = %error.chars().filter(|c| !c.is_control()).take(200).collect::<String>(), "the hint server has no hints for us");
            }
        }
        if !std::mem::replace(&mut self.hint_alive, true) {
            tracing::info!(place = %response.place, audience = response.audience, "hint server answers");
        }
        if !response.roster.is_empty()
            && let Err(error) = self.take_roster(&response.roster)
        {
            tracing::warn!(%error, "the hint server's roster does not hold; is the link current?");
        }
        self.inputs.push_back(Input::Hinted { response: Box::new(response) });
    }

    fn on_hint_failure(&mut self, error: &OutboundFailure) {
        if std::mem::replace(&mut self.hint_alive, false) {
            tracing::warn!(%error, "the hint server is gone; going on with the neighbours we have");
        }
        self.hint_next += 1;
        self.inputs.push_back(Input::HintsFailed);
    }

    /// A hello with everything the machine doesn't know.
    pub(super) fn hello(&self) -> Hello {
        let mut hello = self.peer.hello(self.now());
        hello.addrs = self.addresses();
        hello.agent = crate::AGENT.to_owned();
        hello
    }

    pub(super) fn told(&mut self, id: ExchangeId, to: PeerId, hello: bool) {
        self.told.insert(id, super::driver::Told { to, at: Instant::now(), hello });
    }
}

/// Whether the other side broke the protocol, rather than the connection.
fn is_malformed(error: &OutboundFailure) -> bool {
    matches!(error, OutboundFailure::Io(io) if io.kind() == std::io::ErrorKind::InvalidData)
}
