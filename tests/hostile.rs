//! A poisoned neighbour in a real stream: it promises everything and then sends wrong bytes, or too many, or none.
//! Whoever asks it finds out, cuts it off, and plays on; what is played is the origin's, byte for byte.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says best by panicking

#[path = "hostile/evil.rs"]
mod evil;
#[path = "hostile/foreigner.rs"]
mod foreigner;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evil::{Evil, Malice};
use foreigner::Foreigner;
use libp2p::identity::Keypair;
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
async fn a_statement_that_the_broadcaster_did_not_sign_is_found_out() {
    let seen = poison(Malice::ForgedContinuation).await;
    assert!(seen.cut_off > 0, "somebody cut the poisoned neighbour off");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_survived() {
    poison(Malice::Silence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_another_version_is_let_go_and_nobody_minds() {
    let _machine = MACHINE.lock().await;
    let fleet = Fleet::new(Binaries::find().unwrap()).unwrap();
    let broadcast = on_air(&fleet).await;
    let link: Link = broadcast.link.parse().unwrap();
    let foreigner = Foreigner::start(Keypair::generate_ed25519(), &link, Some(link.at[0].clone())).await;
    until("the broadcaster lets it go", || async { foreigner.partings() > 0 }).await;
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
    let first = Common { listen: Some(listen.clone()), ..Common::default() };
    let mut seats = vec![Seat::take(&fleet, &broadcast, 0, first).await];
    seats.push(Seat::take(&fleet, &broadcast, 1, Common::default()).await);
    // It finds a viewer, too: one that has a neighbour it understands.
    until("viewers have met", || async { received_from_viewers(&seats).await > 0 }).await;
    let intruder = Foreigner::start(Keypair::generate_ed25519(), &link, Some(listen.parse().unwrap())).await;
    until("the viewer lets it go", || async { intruder.partings() > 0 }).await;
    received_by_all(&seats, A_WHILE).await;
    for seat in &mut seats {
        let report = seat.probe.stop(PATIENCE).await.unwrap();
        assert_eq!(report.stalls.count, 0, "nobody stalls");
        assert_eq!(seat.viewer.stats().await.unwrap().notice, None, "nothing for a person to do");
    }
    let (source, viewer) = (broadcast.program.log(), seats[0].viewer.program.log());
    for log in [&source, &viewer] {
        let said: Vec<_> = log.lines().filter(|line| line.contains(VERSION)).collect();
        assert_eq!(said.iter().filter(|line| line.contains("INFO")).count(), 1, "said once: {log}");
        assert!(said.iter().all(|line| !line.contains("WARN")), "no operator need care: {log}");
        assert!(said[0].contains("99") && said[0].contains("abroad/99"), "which: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcaster_of_another_version_is_told_to_the_person() {
    let _machine = MACHINE.lock().await;
    let fleet = Fleet::new(Binaries::find().unwrap()).unwrap();
    let origin = on_air(&fleet).await;
    let key = Keypair::generate_ed25519();
    let mut link = Link { key: key.public().to_peer_id(), ..origin.link.parse::<Link>().unwrap() };
    let foreigner = Foreigner::start(key, &link, None).await;
    link.at = vec![foreigner.address()];
    let viewer = fleet.watch(&link.to_string(), &WatchOptions::default()).await.unwrap();
    let mut probe = fleet.probe(&viewer.playlist, None, &Common::default()).unwrap();
    until("the person is told", || async { viewer.stats().await.unwrap().notice.is_some() }).await;
    until("it plays from the origin", || async { probe.has_played() }).await;
    // Some more attempts of either.
    until("it is tried again", || async { foreigner.partings() >= 3 }).await;
    assert_eq!(probe.stop(PATIENCE).await.unwrap().stalls.count, 0);
    let notice = viewer.stats().await.unwrap().notice.unwrap();
    assert!(notice.contains("the broadcaster") && notice.contains("update the older"), "{notice}");
    let log = viewer.program.log();
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains("another version")).count();
    assert_eq!(warnings, 1, "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// What programs say when they let somebody go.
const VERSION: &str = "speaks another version of the protocol; letting it go";

async fn on_air(fleet: &Fleet) -> Broadcast {
    let options =
        BroadcastOptions { bitrate: Some("1100k".into()), segment_seconds: Some(2), ..BroadcastOptions::default() };
    let broadcast = fleet.broadcast("test", &options).await.unwrap();
    broadcast.on_air(SEGMENTS_FOR_PLAYERS, PATIENCE).await.unwrap();
    broadcast
}

/// Either may be the one that feeds the other: the broadcaster has one place in each substream.
async fn received_from_viewers(seats: &[Seat]) -> u64 {
    let mut bytes = 0;
    for seat in seats {
        bytes += seat.viewer.stats().await.unwrap().received.viewers();
    }
    bytes
}

async fn received_by_all(seats: &[Seat], bytes: u64) {
    until("everybody has received enough", || async {
        let mut least = u64::MAX;
        for seat in seats {
            least = least.min(seat.viewer.stats().await.unwrap().received.all());
        }
        least >= bytes
    })
    .await;
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
    let broadcast = on_air(&fleet).await;
    let origin = Origin::watch(&broadcast);
    // It is there first: the broadcaster introduces it to everybody who comes.
    let link: Link = broadcast.link.parse().unwrap();
    let evil = Evil::join(&link, malice).await;
    let mut seats = Vec::new();
    for number in 0..VIEWERS {
        seats.push(Seat::take(&fleet, &broadcast, number, Common::default()).await);
    }
    until("the poisoned neighbour is asked for chunks", || async { evil.asked() > 0 }).await;
    received_by_all(&seats, A_WHILE).await;
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
    async fn take(fleet: &Fleet, broadcast: &Broadcast, number: usize, common: Common) -> Self {
        let options = WatchOptions { common, ..WatchOptions::default() };
        let viewer = fleet.watch(&broadcast.link, &options).await.unwrap();
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
