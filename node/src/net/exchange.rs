//! Request-response over streams that are kept. On the wire it is request-response as libp2p has it; only that the asker
//! doesn't close its side, and asks the next question on the same stream: opening one for each costs three to four times
//! the CPU for chunks as small as ours (research notes, libp2p §8). Whoever closes a stream after each answer is spoken to
//! as well.

mod handler;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::request_response::{Codec, OutboundFailure};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Stream, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::mpsc;

use handler::{Handler, Open};
pub(crate) use streams::Channel;
use streams::{Asking, Happened, Line};

/// Questions to connected peers, and theirs to us. Whom we aren't connected with isn't dialled.
pub(crate) struct Behaviour<C: Codec> {
    own: PeerId,
    line: Line<C>,
    last: u64,
    connections: HashMap<PeerId, Vec<Connection<C::Request>>>,
    happened: mpsc::Receiver<Happened<C>>,
    to_swarm: VecDeque<Action<C::Request, C::Response>>,
}

type Action<Request, Response> = ToSwarm<Event<Request, Response>, Open>;

/// What comes of it.
#[derive(Debug)]
pub(crate) enum Event<Request, Response> {
    /// Somebody asks.
    Asked {
        /// Who.
        peer: PeerId,
        /// What.
        request: Request,
        /// For the answer; dropped, the asker learns that there is none.
        channel: Channel<Response>,
    },
    /// The answer to a question of ours.
    Answered {
        /// Whose.
        peer: PeerId,
        /// To which.
        id: ExchangeId,
        /// What.
        response: Response,
    },
    /// No answer will come.
    Failed {
        /// To which question.
        id: ExchangeId,
        /// Why.
        error: OutboundFailure,
    },
    /// The last answer to somebody (see [`Channel::say_last`]) has left, or can't.
    Left {
        /// To whom.
        peer: PeerId,
    },
}

/// A question of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExchangeId(u64);

struct Connection<Request> {
    id: ConnectionId,
    /// Whether the smaller of the two dialled. Of several connections both then use the same, and the other one can go.
    preferred: bool,
    idle: Vec<Stream>,
    /// For streams that are being opened.
    waiting: VecDeque<(ExchangeId, Request)>,
    /// Questions that have their stream.
    open: usize,
}

/// Streams open per connection and protocol, each way: two for each of 8 substreams, repairs and room for several
/// renditions. Far below the 512 streams at which yamux gives up a connection (research notes, libp2p §3).
const STREAMS_MAX: usize = 64;
/// Streams kept per connection without a question: one for each substream, and some repairs.
const IDLE_MAX: usize = 12;
/// What tasks have to tell waits for the loop; they wait with it.
const HAPPENED_MAX: usize = 64;

impl<C> Behaviour<C>
where
    C: Codec<Protocol = StreamProtocol> + Clone + Send + 'static,
    C::Request: Clone,
{
    /// `timeout` is how long an answer may take, on both sides.
    pub(crate) fn new(own: PeerId, protocol: StreamProtocol, codec: C, timeout: Duration) -> Self {
        let (happened_tx, happened) = mpsc::channel(HAPPENED_MAX);
        let line = Line { protocol, codec, timeout, happened: happened_tx };
        Self { own, line, last: 0, connections: HashMap::new(), happened, to_swarm: VecDeque::new() }
    }

    /// Asks; an event tells what came of it.
    pub(crate) fn ask(&mut self, peer: &PeerId, request: C::Request) -> ExchangeId {
        self.last += 1;
        let id = ExchangeId(self.last);
        let connections = self.connections.get_mut(peer).map(Vec::as_mut_slice).unwrap_or_default();
        let Some(connection) = connections.iter_mut().max_by_key(|c| c.preferred) else {
            self.fail(id, OutboundFailure::DialFailure);
            return id;
        };
        if connection.open + connection.waiting.len() >= STREAMS_MAX {
            self.fail(id, OutboundFailure::Io(io::Error::other("too many questions are open")));
        } else if let Some(stream) = connection.idle.pop() {
            connection.open += 1;
            let retry = Some(request.clone());
            let asking = Asking { peer: *peer, connection: connection.id, id, retry };
            self.send(asking, stream, request);
        } else {
            connection.waiting.push_back((id, request));
            let connection = connection.id;
            self.open(*peer, connection);
        }
        id
    }

    fn send(&self, asking: Asking<C::Request>, stream: Stream, request: C::Request) {
        tokio::spawn(self.line.clone().ask(asking, stream, request));
    }

    /// Asks for another stream.
    fn open(&mut self, peer_id: PeerId, connection: ConnectionId) {
        let handler = NotifyHandler::One(connection);
        self.to_swarm.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: Open });
    }

    fn fail(&mut self, id: ExchangeId, error: OutboundFailure) {
        self.to_swarm.push_back(ToSwarm::GenerateEvent(Event::Failed { id, error }));
    }

    fn find(&mut self, peer: &PeerId, connection: ConnectionId) -> Option<&mut Connection<C::Request>> {
        self.connections.get_mut(peer)?.iter_mut().find(|c| c.id == connection)
    }

    /// A stream that was asked for is open, or can't be.
    fn on_opened(&mut self, peer: PeerId, connection: ConnectionId, opened: Result<Stream, OutboundFailure>) {
        let Some(found) = self.find(&peer, connection) else { return };
        let Some((id, request)) = found.waiting.pop_front() else { return };
        match opened {
            Ok(stream) => {
                found.open += 1;
                self.send(Asking { peer, connection, id, retry: None }, stream, request);
            }
            Err(error) => self.fail(id, error),
        }
    }

    fn on_happened(&mut self, happened: Happened<C>) -> Option<Event<C::Request, C::Response>> {
        match happened {
            Happened::Asked { peer, request, channel } => Some(Event::Asked { peer, request, channel }),
            Happened::Left { peer } => Some(Event::Left { peer }),
            Happened::Answered { asking, stream, response } => {
                self.keep(&asking, stream);
                Some(Event::Answered { peer: asking.peer, id: asking.id, response })
            }
            Happened::Failed { asking, error } => self.on_failed(asking, error),
        }
    }

    /// Keeps a stream for the next question, unless that would keep a second connection alive.
    fn keep(&mut self, asking: &Asking<C::Request>, stream: Stream) {
        let Some(connections) = self.connections.get_mut(&asking.peer) else { return };
        let only = connections.len() == 1;
        let Some(connection) = connections.iter_mut().find(|c| c.id == asking.connection) else { return };
        connection.open -= 1;
        if connection.idle.len() < IDLE_MAX && (only || connection.preferred) {
            connection.idle.push(stream);
        }
    }

    /// A kept stream may have been closed by the other side meanwhile: then the question goes out once more, on a new one.
    fn on_failed(
        &mut self,
        asking: Asking<C::Request>,
        error: OutboundFailure,
    ) -> Option<Event<C::Request, C::Response>> {
        let Asking { peer, connection, id, retry } = asking;
        if let Some(found) = self.find(&peer, connection) {
            found.open -= 1;
            if let Some(request) = retry {
                found.waiting.push_back((id, request));
                found.idle.clear();
                self.open(peer, connection);
                return None;
            }
        }
        Some(Event::Failed { id, error })
    }

    fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(connections) = self.connections.get_mut(&peer) else { return };
        let Some(at) = connections.iter().position(|c| c.id == connection) else { return };
        let closed = connections.swap_remove(at);
        if connections.is_empty() {
            self.connections.remove(&peer);
        }
        for (id, _) in closed.waiting {
            self.fail(id, OutboundFailure::ConnectionClosed);
        }
    }

    fn handler(&self, peer: PeerId) -> Handler<C> {
        Handler::new(peer, self.line.clone())
    }
}

impl<C> NetworkBehaviour for Behaviour<C>
where
    C: Codec<Protocol = StreamProtocol> + Clone + Send + 'static,
    C::Request: Clone,
{
    type ConnectionHandler = Handler<C>;
    type ToSwarm = Event<C::Request, C::Response>;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler<C>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler<C>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    #[allow(clippy::wildcard_enum_match_arm)] // non-exhaustive, and two variants matter
    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(new) => {
                let preferred = new.endpoint.is_dialer() == (self.own < new.peer_id);
                let connections = self.connections.entry(new.peer_id).or_default();
                if preferred {
                    connections.iter_mut().for_each(|c| c.idle.clear());
                }
                let (idle, waiting) = (Vec::new(), VecDeque::new());
                connections.push(Connection { id: new.connection_id, preferred, idle, waiting, open: 0 });
            }
            FromSwarm::ConnectionClosed(closed) => self.on_closed(closed.peer_id, closed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, opened: THandlerOutEvent<Self>) {
        self.on_opened(peer, connection, opened);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.to_swarm.pop_front() {
                return Poll::Ready(event);
            }
            let Poll::Ready(Some(happened)) = self.happened.poll_recv(context) else { return Poll::Pending };
            if let Some(event) = self.on_happened(happened) {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
        }
    }
}
