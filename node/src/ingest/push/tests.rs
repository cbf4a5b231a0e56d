//! Against the real endpoint over HTTP: scripted encoders, and ffmpeg.

mod encoders;
mod proxy;
mod scripted;

use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

use super::*;
use crate::ingest::{Part, Segment, Shape};

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const KEY: &str = "a-key-for-tests";

/// An endpoint, and what it delivers.
struct Pushed {
    url: Url,
    events: mpsc::Receiver<Ingested>,
    _run: JoinHandle<io::Result<()>>,
}

impl Pushed {
    async fn begin() -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(address, PushKey::parse(KEY).unwrap()).await.unwrap();
        let url = endpoint.url(&endpoint.address().unwrap().to_string()).unwrap();
        let (sender, events) = mpsc::channel(4);
        Self { url, events, _run: tokio::spawn(endpoint.run(PART_MAX, sender, pending())) }
    }

    async fn next(&mut self) -> Ingested {
        timeout(SOON, self.events.recv()).await.expect("an event in time").expect("it still runs")
    }

    async fn shape(&mut self) -> Shape {
        match self.next().await {
            Ingested::Shape(shape) => shape,
            other @ (Ingested::Part(_) | Ingested::Segment(_) | Ingested::Ended) => panic!("no shape: {other:?}"),
        }
    }

    async fn part(&mut self) -> Part {
        match self.next().await {
            Ingested::Part(part) => *part,
            other @ (Ingested::Shape(_) | Ingested::Segment(_) | Ingested::Ended) => panic!("no part: {other:?}"),
        }
    }

    async fn segment(&mut self) -> Segment {
        match self.next().await {
            Ingested::Segment(segment) => *segment,
            other @ (Ingested::Shape(_) | Ingested::Part(_) | Ingested::Ended) => panic!("no segment: {other:?}"),
        }
    }
}
