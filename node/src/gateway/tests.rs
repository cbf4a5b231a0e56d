use std::net::SocketAddr;

use bytes::Bytes;
use futures::StreamExt;
use reqwest::{Method, StatusCode};
use starling_proto::wire::{Announcement, Catalogue, Rendition};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::hls::samples;
use crate::hls::samples::encoded::{Encoded, FRAMES, read_with_ffmpeg};

const GENEROUS: Duration = Duration::from_secs(30);

/// A gateway under way, and the other ends of its wires.
struct Served {
    address: SocketAddr,
    media: Arc<Media>,
    stats: watch::Sender<Stats>,
    demands: mpsc::Receiver<Demand>,
    commands: mpsc::Receiver<Command>,
    gateway: Gateway,
    stop: Option<oneshot::Sender<()>>,
}

impl Served {
    async fn start(media: Arc<Media>, patience: Patience) -> Self {
        let (stats, stats_receiver) = watch::channel(Stats::default());
        let (demand_sender, demands) = mpsc::channel(64);
        let (command_sender, commands) = mpsc::channel(1);
        let gateway = Gateway::with_patience(
            Wiring {
                media: media.clone(),
                stats: stats_receiver,
                demands: demand_sender,
                commands: command_sender,
                metrics: Arc::new(|text| std::fmt::Write::write_str(text, "# EOF\n")),
                key_origins: vec!["http://origin.example:8080".into(), "bad; script-src *".into()],
            },
            patience,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(gateway.clone().serve(listener, async { _ = stopped.await }));
        Self { address, media, stats, demands, commands, gateway, stop: Some(stop) }
    }

    /// Nothing is waited for.
    async fn impatient(media: Arc<Media>) -> Self {
        let none = Duration::ZERO;
        Self::start(media, Patience { playlist: none, fuller_playlist: none, chunk: none }).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.request(Method::GET, path, &[]).await
    }

    async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let request = reqwest::Client::new().request(method, self.url(path));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        timeout(GENEROUS, request.send()).await.expect("in time").expect("a response")
    }

    async fn switch(&self, body: &str, headers: &[(&str, &str)]) -> StatusCode {
        let request = reqwest::Client::new().post(self.url("/api/upload")).body(body.to_owned());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.expect("a response").status()
    }

    /// The status line of the answer to a request with this Host header.
    async fn status_for_host(&self, path: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn three_segments() -> Arc<Media> {
    let media = samples::media(samples::catalogue(1));
    (1..=3).for_each(|number| samples::add(&media, samples::announcement(1, number)));
    media
}

mod access;
mod playing;
mod streaming;
