//! A small HTTP/1.1 server for tests: keeps connections, answers by a function, at once or in its own time, dies when
//! dropped.

use std::{future::Future, net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use url::Url;

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// What was asked: the path with its query, and the byte range from first to last.
pub(super) struct Request {
    pub(super) path: String,
    pub(super) range: Option<(usize, usize)>,
}

type Answer = Arc<dyn Fn(Request) -> BoxFuture<'static, Reply> + Send + Sync>;

/// The server; dropping it closes its port and every connection at once.
pub(super) struct TestServer {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Reply {
    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into() }
    }

    pub(super) fn status(status: u16) -> Self {
        Self { status, body: b"no".to_vec() }
    }
}

impl TestServer {
    pub(super) async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::holding(move |request| std::future::ready(answer(&request))).await
    }

    /// A server that may hold its answers back.
    pub(super) async fn holding<R>(answer: impl Fn(Request) -> R + Send + Sync + 'static) -> Self
    where
        R: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let answer: Answer = Arc::new(move |request| Box::pin(answer(request)));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&answer)));
            }
        });
        Self { address, _tasks: tasks }
    }

    pub(super) fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().expect("a valid address")
    }
}

async fn serve(stream: TcpStream, answer: Answer) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let range = request.range;
        let Reply { status, body } = answer(request).await;
        let (status, body) = match range {
            Some((first, last)) if status == 200 => (206, body[first..=last].to_vec()),
            Some(_) | None => (status, body),
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
        let bytes = [head.as_bytes(), &body].concat();
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let read = stream.take(10_000).read_line(&mut line).await.ok()?;
        match line.trim() {
            _ if read == 0 => return None,
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let lower: Vec<String> = lines.iter().map(|line| line.to_ascii_lowercase()).collect();
    let range = lower.iter().find_map(|line| line.strip_prefix("range: bytes="));
    let range = range.and_then(|range| range.split_once('-'));
    Some(Request { path, range: range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?))) })
}
