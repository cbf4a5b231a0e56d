//! A bounded HTTP server: so many connections and no more, none of them idle for ever, and an end that comes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// A connection on which no byte moves for this long is closed. Longer than anything a handler waits for; a guess.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// How long bodies under way may still be sent after the shutdown.
const LINGER: Duration = Duration::from_secs(1);

/// Serves until `shutdown` is ready and at most a second longer. Further connections wait in the backlog while
/// `connections_max` are open.
///
/// # Errors
/// What the listener reports; failures of single connections are theirs alone.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = Bounded { listener, permits: Arc::new(Semaphore::new(connections_max)) };
    let (begin, begun) = oneshot::channel();
    let graceful = async move {
        shutdown.await;
        let _ = begin.send(());
    };
    let lingered = async {
        let _ = begun.await;
        sleep(LINGER).await;
    };
    tokio::select! {
        ended = axum::serve(listener, router).with_graceful_shutdown(graceful).into_future() => ended,
        () = lingered => Ok(()),
    }
}

struct Bounded {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed, so there always is a permit some time.
        let permit = self.permits.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Chunks are to leave when they come. Without it they still arrive.
        let _ = stream.set_nodelay(true);
        let idle = Box::pin(sleep_until(Instant::now() + IDLE_MAX));
        (Connection { stream, idle, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A TCP connection that fails when nothing moves.
struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Passes on what the stream answered, unless it has nothing and that has been so for too long.
    fn watched<T>(&mut self, answer: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if answer.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
            return answer;
        }
        self.idle.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let answer = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watched(answer, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let answer = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watched(answer, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let answer = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watched(answer, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const GENEROUS: Duration = Duration::from_secs(30);

    async fn answered(stream: &mut TcpStream) -> bool {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            if !matches!(timeout(GENEROUS, stream.read_buf(&mut answer)).await, Ok(Ok(1..))) {
                return false;
            }
        }
        answer.starts_with(b"HTTP/1.1 200")
    }

    #[tokio::test]
    async fn one_more_connection_waits_until_another_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/", get(|| async { "ok" }));
        tokio::spawn(serve(listener, router, 1, std::future::pending()));
        let mut first = TcpStream::connect(address).await.expect("a connection");
        first.write_all(REQUEST).await.expect("sent");
        assert!(answered(&mut first).await);
        let mut second = TcpStream::connect(address).await.expect("a place in the backlog");
        second.write_all(REQUEST).await.expect("sent");
        first.write_all(REQUEST).await.expect("sent");
        assert!(answered(&mut first).await, "the first is still served");
        assert_eq!(second.try_read(&mut [0]).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        drop(first);
        assert!(answered(&mut second).await);
    }
}
