//! A counting HTTP relay: what passes through it is counted by the bench itself, not by the programs under test.
//!
//! Every measuring player of a bench reads through one, on either side, so that both sides pay the same for it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::TryStreamExt as _;
use reqwest::{Client, Url};
use tokio::{net::TcpListener, task::JoinHandle};

/// Headers that belong to one connection, not to the message (RFC 9110 §7.6.1), and the host, which differs.
const NOT_RELAYED: [HeaderName; 4] = [header::CONNECTION, header::TRANSFER_ENCODING, header::HOST, header::TE];

/// A relay in front of one HTTP server; it ends when dropped.
pub struct Relay {
    address: String,
    passed: Arc<Passed>,
    serving: JoinHandle<()>,
}

/// What has passed a relay.
#[derive(Debug, Default)]
struct Passed {
    media: AtomicU64,
    playlists: AtomicU64,
}

struct Upstream {
    base: Url,
    client: Client,
    passed: Arc<Passed>,
}

impl Relay {
    /// A relay on a free loopback port in front of the server that `url` is on.
    ///
    /// # Errors
    /// If no port or HTTP client is to be had.
    pub async fn start(url: &Url) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let client = Client::builder().no_proxy().http1_only().build().map_err(io::Error::other)?;
        let passed = Arc::new(Passed::default());
        let upstream = Arc::new(Upstream { base: url.clone(), client, passed: Arc::clone(&passed) });
        let router = Router::new().fallback(relay).with_state(upstream);
        let serving = tokio::spawn(async move {
            // It only ends by being dropped.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, passed, serving })
    }

    /// Where `url` is to be found through this relay: the same path on the relay's address.
    pub fn in_front_of(&self, url: &Url) -> String {
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("http://{}{}{query}", self.address, url.path())
    }

    /// Body bytes of everything that isn't a playlist.
    pub fn media_bytes(&self) -> u64 {
        self.passed.media.load(Relaxed)
    }

    /// Body bytes of playlists.
    pub fn playlist_bytes(&self) -> u64 {
        self.passed.playlists.load(Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn relay(State(upstream): State<Arc<Upstream>>, request: Request) -> Response {
    let mut url = upstream.base.clone();
    url.set_path(request.uri().path());
    url.set_query(request.uri().query());
    let playlist = url.path().ends_with(".m3u8");
    let asked = upstream.client.request(request.method().clone(), url).headers(relayed(request.headers()));
    let answer = match asked.send().await {
        Ok(answer) => answer,
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    let (status, headers) = (answer.status(), relayed(answer.headers()));
    let passed = Arc::clone(&upstream.passed);
    let body = answer.bytes_stream().inspect_ok(move |bytes| {
        let counter = if playlist { &passed.playlists } else { &passed.media };
        counter.fetch_add(bytes.len() as u64, Relaxed);
    });
    (status, headers, Body::from_stream(body)).into_response()
}

fn relayed(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in NOT_RELAYED {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn passes_everything_on_and_counts_media_apart_from_playlists() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}/live/index.m3u8", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route("/live/index.m3u8", get(|| async { "#EXTM3U\n" })).route(
            "/live/1.m4s",
            get(|headers: HeaderMap| async move { (StatusCode::PARTIAL_CONTENT, headers, "1234") }),
        );
        tokio::spawn(async move { axum::serve(listener, router).await });
        let relay = Relay::start(&url).await.unwrap();

        let client = Client::builder().no_proxy().build().unwrap();
        let playlist = client.get(relay.in_front_of(&url)).send().await.unwrap().text().await.unwrap();
        assert_eq!(playlist, "#EXTM3U\n");
        let segment = relay.in_front_of(&url.join("1.m4s?x=y").unwrap());
        let answer = client.get(segment).header("x-range-like", "kept").send().await.unwrap();
        assert_eq!(answer.status(), 206);
        assert_eq!(answer.headers()["x-range-like"], "kept");
        assert_eq!(answer.text().await.unwrap(), "1234");
        assert_eq!((relay.media_bytes(), relay.playlist_bytes()), (4, 8));
    }

    #[tokio::test]
    async fn a_dead_server_is_told_as_such() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let relay = Relay::start(&url).await.unwrap();
        let answer = Client::builder().no_proxy().build().unwrap().get(relay.in_front_of(&url)).send().await.unwrap();
        assert_eq!(answer.status(), 502);
    }
}
