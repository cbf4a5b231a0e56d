//! One connection's side: opens streams when told, serves those that the other opens.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::request_response::{Codec, OutboundFailure};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, StreamUpgradeError, SubstreamProtocol};
use libp2p::{PeerId, StreamProtocol};
use tokio::task::JoinSet;

use super::STREAMS_MAX;
use super::streams::Line;

/// Opens a stream.
#[derive(Debug)]
pub(crate) struct Open;

pub(crate) struct Handler<C: Codec> {
    peer: PeerId,
    line: Line<C>,
    /// Streams of theirs; ends with the connection.
    serving: JoinSet<()>,
    /// Streams to ask for.
    wanted: usize,
    opened: VecDeque<Result<Stream, OutboundFailure>>,
}

impl<C> Handler<C>
where
    C: Codec<Protocol = StreamProtocol> + Clone + Send + 'static,
{
    pub(super) fn new(peer: PeerId, line: Line<C>) -> Self {
        Self { peer, line, serving: JoinSet::new(), wanted: 0, opened: VecDeque::new() }
    }

    fn serve(&mut self, stream: Stream) {
        while self.serving.try_join_next().is_some() {}
        if self.serving.len() >= STREAMS_MAX {
            return tracing::debug!(peer = %self.peer, "more streams than the protocol needs: one dropped");
        }
        self.serving.spawn(self.line.clone().serve(self.peer, stream));
    }
}

impl<C> ConnectionHandler for Handler<C>
where
    C: Codec<Protocol = StreamProtocol> + Clone + Send + 'static,
{
    type FromBehaviour = Open;
    type ToBehaviour = Result<Stream, OutboundFailure>;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.line.protocol.clone()), ())
    }

    fn on_behaviour_event(&mut self, Open: Open) {
        self.wanted += 1;
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if let Some(opened) = self.opened.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(opened));
        }
        if self.wanted > 0 {
            self.wanted -= 1;
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol: self.listen_protocol() });
        }
        Poll::Pending
    }

    #[allow(clippy::wildcard_enum_match_arm)] // non-exhaustive, and three variants matter
    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                self.serve(stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, .. }) => {
                self.opened.push_back(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => OutboundFailure::Timeout,
                    StreamUpgradeError::NegotiationFailed => OutboundFailure::UnsupportedProtocols,
                    StreamUpgradeError::Io(error) => OutboundFailure::Io(error),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.opened.push_back(Err(error));
            }
            _ => {}
        }
    }
}
