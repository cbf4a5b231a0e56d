//! One task for each question of ours, one for each stream of theirs.

use std::io;
use std::time::Duration;

use futures::AsyncWriteExt;
use libp2p::core::upgrade::NegotiationError;
use libp2p::request_response::{Codec, OutboundFailure};
use libp2p::swarm::{ConnectionId, Stream};
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::ExchangeId;

/// What every task of one protocol needs.
#[derive(Clone)]
pub(super) struct Line<C: Codec> {
    pub(super) protocol: StreamProtocol,
    pub(super) codec: C,
    /// How long an answer may take, on both sides.
    pub(super) timeout: Duration,
    pub(super) happened: mpsc::Sender<Happened<C>>,
}

/// A question of ours under way.
pub(super) struct Asking<Request> {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) id: ExchangeId,
    /// The question again, if its stream was used before.
    pub(super) retry: Option<Request>,
}

/// What tasks tell.
pub(super) enum Happened<C: Codec> {
    Asked { peer: PeerId, request: C::Request, channel: Channel<C::Response> },
    Answered { asking: Asking<C::Request>, stream: Stream, response: C::Response },
    Failed { asking: Asking<C::Request>, error: OutboundFailure },
    Left { peer: PeerId },
}

/// Where an answer goes.
#[derive(Debug)]
pub(crate) struct Channel<Response>(oneshot::Sender<Answer<Response>>);

#[derive(Debug)]
struct Answer<Response> {
    response: Response,
    last: bool,
}

impl<Response> Channel<Response> {
    /// Answers. Whether the asker is still there to hear it doesn't matter.
    pub(crate) fn say(self, response: Response) {
        let _ = self.0.send(Answer { response, last: false });
    }

    /// Answers for the last time: [`super::Event::Left`] tells when it has left.
    pub(crate) fn say_last(self, response: Response) {
        let _ = self.0.send(Answer { response, last: true });
    }

    /// Whether somebody waits for the answer.
    pub(crate) fn is_open(&self) -> bool {
        !self.0.is_closed()
    }
}

impl<C> Line<C>
where
    C: Codec<Protocol = StreamProtocol> + Send + 'static,
{
    /// Asks on `stream`, and gives it back with the answer.
    pub(super) async fn ask(mut self, mut asking: Asking<C::Request>, mut stream: Stream, request: C::Request) {
        let exchange = async {
            self.codec.write_request(&self.protocol, &mut stream, request).await?;
            stream.flush().await?;
            self.codec.read_response(&self.protocol, &mut stream).await
        };
        let told = match timeout(self.timeout, exchange).await {
            Ok(Ok(response)) => Happened::Answered { asking, stream, response },
            Ok(Err(error)) => {
                let closed = error.kind() != io::ErrorKind::InvalidData;
                asking.retry = asking.retry.filter(|_| closed);
                Happened::Failed { asking, error: failure(error) }
            }
            Err(_) => Happened::Failed { asking: Asking { retry: None, ..asking }, error: OutboundFailure::Timeout },
        };
        let _ = self.happened.send(told).await; // Err: the node ends
    }

    /// Serves one question after another until the stream ends, or one has no answer.
    pub(super) async fn serve(mut self, peer: PeerId, mut stream: Stream) {
        while let Ok(request) = self.codec.read_request(&self.protocol, &mut stream).await {
            let (channel, answer) = oneshot::channel();
            let asked = Happened::Asked { peer, request, channel: Channel(channel) };
            if self.happened.send(asked).await.is_err() {
                return;
            }
            let Ok(Ok(Answer { response, last })) = timeout(self.timeout, answer).await else { return };
            let write = async {
                self.codec.write_response(&self.protocol, &mut stream, response).await?;
                stream.flush().await
            };
            let written = timeout(self.timeout, write).await;
            if last {
                let _ = stream.close().await;
                let _ = self.happened.send(Happened::Left { peer }).await;
                return;
            }
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// With lazy negotiation a protocol that isn't spoken shows when the answer is read.
fn failure(error: io::Error) -> OutboundFailure {
    let negotiation = error.get_ref().and_then(|inner| inner.downcast_ref::<NegotiationError>());
    match negotiation {
        Some(NegotiationError::Failed) => OutboundFailure::UnsupportedProtocols,
        Some(NegotiationError::ProtocolError(_)) | None => OutboundFailure::Io(error),
    }
}
