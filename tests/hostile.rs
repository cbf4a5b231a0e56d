//! A poisoned neighbour in a real stream: it promises everything and then sends wrong bytes, or too many, or none.
//! Whoever asks it finds out, cuts it off, and plays on; what is played is the origin's, byte for byte.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says best by panicking

#[path = "hostile/evil.rs"]
mod evil;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evil::{Evil, Malice};
use starling_node::link::Link;
use starling_tests::fleet::{
    Binaries, Broadcast, BroadcastOptions, Common, Fleet, Probe, SEGMENTS_FOR_PLAYERS, Viewer, WatchOptions, http,
};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(90);
const VIEWERS: usize = 3;
/// Twelve segments for each viewer, at 1.1 Mbit/s.
const A_WHILE: u64 = 275_000 * 12;

/// Swarms of real processes want the machine for themselves; under nextest its configuration sees to that.
static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_found_out() {
    let seen = poison(Malice::WrongBytes).await;
    assert!(seen.cut_off > 0, "somebody cut the poisoned neighbour off");
    assert!(seen.rejected > 0, "bytes were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_bytes_are_found_out() {
    let seen = poison(Malice::TooManyBytes).await;
    assert!(seen.cut_off > 0, "somebody cut the poisoned neighbour off");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_chunk_than_asked_for_is_found_out() {
    let seen = poison(Malice::AnotherChunk).await;
    assert!(seen.cut_off > 0, "somebody cut the poisoned neighbour off");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_survived() {
    poison(Malice::Silence).await;
}

/// What the viewers did about it.
struct Seen {
    /// Viewers that logged that they cut a neighbour off.
    cut_off: usize,
    /// Chunks refused, over all viewers.
    rejected: u64,
}

async fn poison(malice: Malice) -> Seen {
    let _machine = MACHINE.lock().await;
    let fleet = Fleet::new(Binaries::find().unwrap()).unwrap();
    let options =
        BroadcastOptions { bitrate: Some("1100k".into()), segment_seconds: Some(2), ..BroadcastOptions::default() };
    let broadcast = fleet.broadcast("test", &options).await.unwrap();
    let origin = Origin::watch(&broadcast);
    broadcast.on_air(SEGMENTS_FOR_PLAYERS, PATIENCE).await.unwrap();
    // It is there first: the broadcaster introduces it to everybody who comes.
    let link: Link = broadcast.link.parse().unwrap();
    let evil = Evil::join(&link, malice).await;
    let mut seats = Vec::new();
    for number in 0..VIEWERS {
        seats.push(Seat::take(&fleet, &broadcast, number).await);
    }
    until("the poisoned neighbour is asked for chunks", || async { evil.asked() > 0 }).await;
    until("everybody has received enough", || async {
        let mut least = u64::MAX;
        for seat in &seats {
            least = least.min(seat.viewer.stats().await.unwrap().received.all());
        }
        least >= A_WHILE
    })
    .await;
    let mut seen = Seen { cut_off: 0, rejected: 0 };
    for seat in &mut seats {
        let report = seat.probe.stop(PATIENCE).await.unwrap();
        assert_eq!(report.stalls.count, 0, "{malice:?}: nobody stalls");
        let log = seat.viewer.program.log();
        assert!(!log.contains("panicked"), "{log}");
        seen.cut_off += usize::from(log.contains("neighbour cut off"));
        seen.rejected += seat.viewer.stats().await.unwrap().rejected_chunks;
        origin.assert_knows_all(&seat.dump).await;
    }
    println!("{malice:?}: asked {} times, cut off by {}, {} chunks refused", evil.asked(), seen.cut_off, seen.rejected);
    seen
}

/// A viewer and its player, which keeps what it received.
struct Seat {
    viewer: Viewer,
    probe: Probe,
    dump: PathBuf,
}

impl Seat {
    async fn take(fleet: &Fleet, broadcast: &Broadcast, number: usize) -> Self {
        let viewer = fleet.watch(&broadcast.link, &WatchOptions::default()).await.unwrap();
        let dump = fleet.directory().join(format!("dump-{number}"));
        let args = vec!["--dump".to_owned(), dump.display().to_string()];
        let probe = fleet.probe(&viewer.playlist, None, &Common { args, ..Common::default() }).unwrap();
        Self { viewer, probe, dump }
    }
}

/// The digests of all segments the broadcaster's own HTTP server lists, from now on.
struct Origin(Arc<Mutex<HashSet<blake3::Hash>>>);

impl Origin {
    fn watch(broadcast: &Broadcast) -> Self {
        let known = Arc::new(Mutex::new(HashSet::new()));
        let (playlist, seen) = (broadcast.hls.clone(), known.clone());
        tokio::spawn(async move {
            let mut fetched = HashSet::new();
            let base = reqwest::Url::parse(&playlist).unwrap();
            loop {
                let text = http::body(&playlist).await.unwrap_or_default();
                for uri in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
                    if fetched.insert(uri.to_owned()) {
                        let url = base.join(uri).unwrap();
                        let body = reqwest::get(url).await.unwrap().bytes().await.unwrap();
                        seen.lock().unwrap().insert(blake3::hash(&body));
                    }
                }
                sleep(Duration::from_millis(500)).await;
            }
        });
        Self(known)
    }

    async fn assert_knows_all(&self, dump: &std::path::Path) {
        let mut count = 0;
        for entry in std::fs::read_dir(dump).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // Init sections are in the signed catalogue; the player ended while it wrote what has another ending.
            if name.starts_with("init-") || !name.ends_with(".bin") {
                continue;
            }
            let digest = blake3::hash(&std::fs::read(&path).unwrap());
            until("the origin lists what was played", || async { self.0.lock().unwrap().contains(&digest) }).await;
            count += 1;
        }
        assert!(count > 5, "only {count} segments were played");
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut met: impl FnMut() -> F) {
    let give_up = Instant::now() + PATIENCE;
    while !met().await {
        assert!(Instant::now() < give_up, "waited {PATIENCE:?} in vain until {what}");
        sleep(Duration::from_millis(200)).await;
    }
}
