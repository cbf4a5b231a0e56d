//! What the machine wants done, done. Nothing here waits.

use bytes::Bytes;
use libp2p::Multiaddr;
use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use starling_proto::wire::{ChunkHeader, ChunkStatus, ControlRequest, HintRequest, MAX_ADDRS, WindowRequest};
use starling_proto::{ChunkNumber, Epoch, Input, Now, Output, PeerId, RenditionId, RequestId, SegmentNumber};

use super::codec::ChunkAnswer;
use super::driver::{Asked, Driver, Waiting};
use super::fetch::fetch;
use super::swarm;
use crate::identity;
use crate::media::{Envelope, Rider};

impl Driver {
    pub(super) fn carry_out(&mut self, _now: Now, output: Output) {
        match output {
            Output::Dial { peer, addrs } => self.dial(peer, &addrs),
            Output::Disconnect { peer } => self.disconnect(peer),
            Output::Ban { peer, reason } => self.ban(peer, reason),
            Output::Tell { to, request } => self.tell(to, *request),
            Output::FetchWindow { from, rendition, since } => self.ask_for_window(from, rendition, since),
            Output::Subscribe { rendition } => {
                let topic = swarm::topic(&self.stream, Some(rendition));
                if let Err(error) = self.swarm.behaviour_mut().gossip.subscribe(&topic) {
                    tracing::warn!(%error, %rendition, "can't subscribe");
                }
            }
            Output::Unsubscribe { rendition } => {
                let topic = swarm::topic(&self.stream, Some(rendition));
                self.swarm.behaviour_mut().gossip.unsubscribe(&topic);
            }
            Output::Request { id, to, request } => {
                let Some(peer) = identity::to_libp2p(&to) else { return };
                let (rendition, epoch) = (request.rendition, request.epoch);
                let sent = self.swarm.behaviour_mut().chunks.ask(&peer, request);
                self.outbound.insert(sent, Asked { id, to, rendition, epoch });
            }
            Output::Answer { id, header, of, rides } => self.answer(id, header, of, rides),
            Output::FetchOrigin { id, announcement, first, end } => {
                let rendition = self.media.catalogue().and_then(|c| c.rendition(announcement.rendition).cloned());
                let (Some(origin), Some(rendition)) = (self.origin.clone(), rendition) else {
                    let took = std::time::Duration::ZERO;
                    return self.inputs.push_back(Input::OriginEnded { id, complete: false, took });
                };
                tokio::spawn(fetch(origin, rendition, announcement, first..end, id, self.fetched_tx.clone()));
            }
            Output::AskHints { request } => self.ask_hints(*request),
        }
    }

    fn dial(&mut self, peer: PeerId, addrs: &[Bytes]) {
        let Some(libp2p_peer) = identity::to_libp2p(&peer) else { return };
        let mut addresses: Vec<Multiaddr> =
            addrs.iter().take(MAX_ADDRS).filter_map(|a| Multiaddr::try_from(a.to_vec()).ok()).collect();
        if addresses.is_empty() {
            addresses.clone_from(&self.source);
        }
        let addresses = self.dials.first(libp2p_peer, addresses);
        self.dial_at(peer, libp2p_peer, addresses);
    }

    pub(super) fn dial_at(&mut self, peer: PeerId, libp2p_peer: libp2p::PeerId, addresses: Vec<Multiaddr>) {
        let options = DialOpts::peer_id(libp2p_peer)
            .addresses(addresses)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .build();
        if let Err(error) = self.swarm.dial(options) {
            tracing::debug!(?peer, %error, "not dialled");
            if matches!(error, DialError::DialPeerConditionFalse(_)) {
                return; // a dial is under way and will tell, or there is a connection already
            }
            self.dials.forget(&libp2p_peer);
            if !self.swarm.is_connected(&libp2p_peer) {
                self.inputs.push_back(Input::Disconnected { peer });
            }
        }
    }

    fn disconnect(&mut self, peer: PeerId) {
        let Some(libp2p_peer) = identity::to_libp2p(&peer) else { return };
        self.dials.forget(&libp2p_peer);
        if self.swarm.disconnect_peer_id(libp2p_peer).is_err() {
            self.inputs.push_back(Input::Disconnected { peer });
        }
    }

    fn ban(&mut self, peer: PeerId, reason: &'static str) {
        let Some(libp2p_peer) = identity::to_libp2p(&peer) else { return };
        tracing::warn!(peer = %libp2p_peer, reason, "neighbour cut off");
        self.dials.forget(&libp2p_peer);
        self.swarm.behaviour_mut().blocked.block_peer(libp2p_peer);
        let _ = self.swarm.disconnect_peer_id(libp2p_peer);
    }

    /// As [`Output::FetchWindow`] has it.
    pub(super) fn ask_for_window(
        &mut self,
        from: PeerId,
        rendition: Option<RenditionId>,
        since: Option<(SegmentNumber, ChunkNumber)>,
    ) {
        let (since, known) = since.unzip();
        let window = Some(WindowRequest { rendition, since, known });
        self.tell(from, ControlRequest { window, ..ControlRequest::none() });
    }

    fn tell(&mut self, to: PeerId, mut request: ControlRequest) {
        let Some(peer) = identity::to_libp2p(&to) else { return };
        let is_hello = request.hello.is_some();
        if is_hello {
            request.hello = Some(self.hello());
        }
        let sent = self.swarm.behaviour_mut().control.ask(&peer, request);
        self.told(sent, to, is_hello);
    }

    fn answer(
        &mut self,
        id: RequestId,
        mut header: ChunkHeader,
        (rendition, epoch): (RenditionId, Epoch),
        rides: bool,
    ) {
        let Some(Waiting { channel, from }) = self.inbound.remove(&id) else { return };
        if !channel.is_open() {
            return; // who asked is gone, and isn't told anything
        }
        let known = header.instead.iter().find_map(|peer| self.neighbour_addrs.get(peer));
        header.introduced = known.cloned().into_iter().collect();
        let number = header.number.filter(|_| header.status == ChunkStatus::Chunk);
        let body = number.map(|n| self.media.chunk(rendition, epoch, n));
        let answer = match (number, body) {
            (Some(number), Some(Some(body))) => {
                let rider = if rides { self.media.rider(rendition, epoch, number) } else { None };
                let told = (rendition, epoch);
                match rider.filter(|rider| self.riders.rides(from, told, number, rider)) {
                    None => {}
                    Some(Rider { envelope: Envelope::Statement(signed), .. }) => header.statement = signed,
                    Some(Rider { envelope: Envelope::Continuation(signed), .. }) => header.continuation = signed,
                }
                ChunkAnswer { header, body, spread: std::time::Duration::ZERO }
            }
            // Evicted from the store a moment before the machine forgot it.
            (Some(_), _) => without(ChunkHeader::without_chunk(ChunkStatus::Unknown)),
            (None, _) => without(header),
        };
        channel.say(answer);
    }

    fn ask_hints(&mut self, mut request: HintRequest) {
        let count = self.hint_servers.len();
        if count == 0 {
            return self.inputs.push_back(Input::HintsFailed);
        }
        let (server, address) = self.hint_servers[self.hint_next % count].clone();
        request.addrs = self.addresses();
        let addresses = vec![address];
        let sent = self.swarm.behaviour_mut().hints.send_request_with_addresses(&server, request, addresses);
        self.hint_asked.insert(sent);
    }

    pub(super) fn leave_hint_servers(&mut self) {
        let request = HintRequest {
            versions: vec![starling_proto::wire::VERSION],
            stream: self.stream,
            role: starling_proto::wire::Role::Viewer,
            region: String::new(),
            uplink_bps: 0,
            renditions: Vec::new(),
            addrs: Vec::new(),
            neighbours: 0,
            leaving: true,
        };
        for (server, _) in self.hint_servers.clone() {
            if self.swarm.is_connected(&server) {
                self.swarm.behaviour_mut().hints.send_request(&server, request.clone());
            }
        }
    }

    /// Where we can be dialled, in binary form.
    pub(super) fn addresses(&self) -> Vec<Bytes> {
        let listening = self.swarm.external_addresses().chain(self.swarm.listeners());
        swarm::outward(listening).iter().map(|a| Bytes::from(a.to_vec())).collect()
    }
}

fn without(header: ChunkHeader) -> ChunkAnswer {
    ChunkAnswer { header, body: Bytes::new(), spread: std::time::Duration::ZERO }
}
