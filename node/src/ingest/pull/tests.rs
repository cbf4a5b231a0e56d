//! Against real HTTP servers on loopback: scripted ones, and what ffmpeg makes.

mod failures;
mod live;
mod parts;
mod scripted;

use std::fmt::Write as _;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use url::Url;

use super::*;
use crate::ingest::{Ingested, Segment, Shape};

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(40);

/// A pull under way, and what it said.
struct Pulled {
    events: mpsc::Receiver<Ingested>,
    result: JoinHandle<Result<(), PullError>>,
    log: Log,
    /// Keeps the log in force on this thread, where the pull runs too.
    _guard: tracing::subscriber::DefaultGuard,
}

fn pull(url: &Url) -> Pulled {
    pull_with(url, Role::Broadcaster, Duration::from_secs(20))
}

fn pull_with(url: &Url, role: Role, patience: Duration) -> Pulled {
    pull_from(url, role, None, patience)
}

fn pull_from(url: &Url, role: Role, resume: Option<Resume>, patience: Duration) -> Pulled {
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.clone());
    let (sender, events) = mpsc::channel(4);
    let result = tokio::spawn(run_with(url.clone(), role, resume, sender, pending(), patience));
    Pulled { events, result, log, _guard: guard }
}

impl Pulled {
    async fn next(&mut self) -> Ingested {
        match timeout(SOON, self.events.recv()).await.expect("an event in time") {
            Some(event) => event,
            None => panic!("ended: {:?}", (&mut self.result).await),
        }
    }

    async fn shape(&mut self) -> Shape {
        match self.next().await {
            Ingested::Shape(shape) => shape,
            Ingested::Part(_) | Ingested::Segment(_) | Ingested::Ended => panic!("wanted a shape"),
        }
    }

    async fn part(&mut self) -> Part {
        match self.next().await {
            Ingested::Part(part) => *part,
            other @ (Ingested::Shape(_) | Ingested::Segment(_) | Ingested::Ended) => {
                panic!("wanted a part, got {other:?}")
            }
        }
    }

    async fn segment(&mut self) -> Segment {
        match self.next().await {
            Ingested::Segment(segment) => *segment,
            other @ (Ingested::Shape(_) | Ingested::Part(_) | Ingested::Ended) => {
                panic!("wanted a segment, got {other:?}")
            }
        }
    }

    async fn segments(&mut self, count: usize) -> Vec<Segment> {
        let mut segments = Vec::new();
        while segments.len() < count {
            segments.push(self.segment().await);
        }
        segments
    }

    async fn ended(&mut self) {
        assert!(matches!(self.next().await, Ingested::Ended));
        timeout(SOON, &mut self.result).await.unwrap().unwrap().unwrap();
    }

    async fn error(mut self) -> String {
        let error = timeout(SOON, &mut self.result).await.unwrap().unwrap().unwrap_err();
        error.to_string()
    }
}

fn numbers(segments: &[Segment]) -> Vec<u64> {
    segments.iter().map(|segment| segment.number).collect()
}

fn breaks(segments: &[Segment]) -> Vec<bool> {
    segments.iter().map(|segment| segment.discontinuity).collect()
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, String)>>>);

impl Log {
    fn at(&self, level: Level) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|(at, _)| *at == level).map(|(_, text)| text.clone()).collect()
    }

    /// How many warnings contain `part`.
    fn warnings(&self, part: &str) -> usize {
        self.at(Level::WARN).iter().filter(|text| text.contains(part)).count()
    }

    async fn wait_for(&self, level: Level, part: &str) {
        let said = async {
            while !self.at(level).iter().any(|text| text.contains(part)) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, said).await.unwrap_or_else(|_| panic!("nobody said {part:?}: {:?}", self.0.lock().unwrap()));
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().contains("ingest")
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push((*event.metadata().level(), text.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}
