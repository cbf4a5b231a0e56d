//! The fleet against fakes: shell scripts that print what the real programs print.

use std::{fs, os::unix::fs::PermissionsExt as _};

use axum::routing::get;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use super::{testnet::Testnet, *};

const SOON: Duration = Duration::from_secs(30);

/// Prints its arguments and environment on stderr, its ready lines on stdout, and runs until told to end.
const STARLING: &str = r#"#!/bin/sh
echo "args: $*" >&2
echo "env: hint=${STARLING_HINT-none} extra=${STARLING_EXTRA-none}" >&2
trap 'echo told to end >&2; exit 7' TERM
case $1 in
broadcast) [ "$2" != bad ] || { echo 'no such input' >&2; exit 3; }
           printf 'link starling://key/'; sleep 0.1; echo demo; echo 'hls HLS' ;;
watch)     echo 'playlist http://127.0.0.1:2/live.m3u8'; echo 'player http://127.0.0.1:2/' ;;
probe)     report='{"startup_seconds":0.5,"played_seconds":3,"stalls":{"count":1,"seconds":2.5},"lag_seconds":null,"bitrate_bps":1.5,
             "bytes":{"media":7,"playlist":8},"segments":9,"timestamp_errors":{"gaps":1,"overlaps":2,"more":0},"error":null}'
           trap 'printf "%s" "$report" > "$5"; exit 0' TERM
           echo '1 s: playing, buffer 2.0 s' >&2 ;;
esac
while :; do sleep 0.05; done
"#;

const HINT_SERVER: &str = "#!/bin/sh\necho \"args: $*\" >&2\necho 'hint /ip4/127.0.0.1/udp/1/quic-v1/p2p/x'\necho 'http http://127.0.0.1:3/'\nexec sleep 600\n";

fn fakes() -> (TempDir, Binaries) {
    fakes_with("http://127.0.0.1:1/live.m3u8")
}

fn fakes_with(hls: &str) -> (TempDir, Binaries) {
    let directory = tempfile::tempdir().unwrap();
    for (name, script) in [("starling", STARLING), ("starling-hint-server", HINT_SERVER)] {
        let path = directory.path().join(name);
        fs::write(&path, script.replace("HLS", hls)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let binaries = Binaries::within(&[directory.path()]).unwrap();
    (directory, binaries)
}

/// Serves a multivariant playlist whose one rendition has six segments; its URL.
async fn six_segments_on_air() -> String {
    let segments: String = (1..=6).map(|number| format!("#EXTINF:2,\n{number}.m4s\n")).collect();
    let media = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n{segments}");
    let router = axum::Router::new()
        .route("/live.m3u8", get(|| async { "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n0/live.m3u8\n" }))
        .route("/0/live.m3u8", get(|| async { media }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/live.m3u8", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn ended(pid: u32) {
    let give_up = Instant::now() + SOON;
    while proc_fs::started(pid).is_some() {
        assert!(Instant::now() < give_up, "process {pid} still runs");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn programs_are_ready_when_their_lines_are_whole() {
    let (_scripts, binaries) = fakes();
    let fleet = Fleet::new(binaries).unwrap();
    let hint = fleet.hint_server(&Common::default()).await.unwrap();
    assert_eq!((hint.hint.as_str(), hint.http.as_str()), ("/ip4/127.0.0.1/udp/1/quic-v1/p2p/x", "http://127.0.0.1:3/"));
    let options =
        BroadcastOptions { hints: vec![hint.hint.clone()], bitrate: Some("1100k".into()), ..Default::default() };
    let broadcast = fleet.broadcast("test", &options).await.unwrap();
    assert_eq!(
        (broadcast.link.as_str(), broadcast.hls.as_str()),
        ("starling://key/demo", "http://127.0.0.1:1/live.m3u8")
    );
    let log = broadcast.program.log();
    assert!(
        log.contains("args: broadcast test --name demo --listen /ip4/127.0.0.1/udp/0/quic-v1 --http 127.0.0.1:0"),
        "{log}"
    );
    assert!(log.contains("--hint /ip4/127.0.0.1/udp/1/quic-v1/p2p/x --bitrate 1100k"), "{log}");
    let viewer =
        fleet.watch(&broadcast.link, &WatchOptions { region: Some("eu".into()), ..Default::default() }).await.unwrap();
    assert_eq!(viewer.player, "http://127.0.0.1:2/");
    assert!(viewer.program.log().contains("args: watch starling://key/demo --no-open"), "{}", viewer.program.log());
    assert!(viewer.program.usage().unwrap().resident > 0);
}

#[tokio::test]
async fn a_program_that_ends_early_says_why() {
    let (_scripts, binaries) = fakes();
    let fleet = Fleet::new(binaries).unwrap();
    let error = fleet.broadcast("bad", &BroadcastOptions::default()).await.err().unwrap().to_string();
    assert!(error.contains("broadcaster-0 ended (exit status: 3)") && error.ends_with("no such input"), "{error}");
}

#[tokio::test]
async fn a_program_that_never_says_it_is_ready_is_given_up() {
    let (_scripts, binaries) = fakes();
    let fleet = Fleet::new(binaries).unwrap();
    let mut viewer = fleet.watch("starling://x", &WatchOptions::default()).await.unwrap();
    let error = viewer.program.ready(&["player", "never"], Duration::from_millis(50)).await.unwrap_err().to_string();
    assert!(error.contains("no `never` line"), "{error}");
}

#[tokio::test]
async fn programs_end_as_they_are_told_to() {
    let (_scripts, binaries) = fakes();
    let fleet = Fleet::new(binaries).unwrap();
    let mut viewer = fleet.watch("starling://x", &WatchOptions::default()).await.unwrap();
    assert_eq!(viewer.program.terminate(SOON).await.unwrap().code(), Some(7));
    assert!(viewer.program.log().contains("told to end"));
    assert!(viewer.program.usage().is_err());
    let mut other = fleet.watch("starling://x", &WatchOptions::default()).await.unwrap();
    other.program.kill().await.unwrap();
    assert!(!other.program.is_running().unwrap());
    let dropped = fleet.watch("starling://x", &WatchOptions::default()).await.unwrap().program.pid();
    ended(dropped).await;
}

#[tokio::test]
async fn nothing_survives_the_fleet_not_even_what_was_detached() {
    let (_scripts, binaries) = fakes();
    let fleet = Fleet::new(binaries).unwrap();
    let directory = fleet.directory().to_owned();
    let pid = fleet.watch("starling://x", &WatchOptions::default()).await.unwrap().program.detach();
    assert!(proc_fs::started(pid).is_some() && directory.exists());
    drop(fleet);
    ended(pid).await;
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_lasting_fleet_leaves_what_was_detached() {
    let (scripts, binaries) = fakes();
    let directory = scripts.path().join("state");
    let fleet = Fleet::lasting(&directory, binaries).unwrap();
    let options = WatchOptions { common: Common::named("kept"), ..Default::default() };
    let pid = fleet.watch("starling://x", &options).await.unwrap().program.detach();
    drop(fleet);
    let running = proc_fs::started(pid).is_some();
    assert!(running);
    assert!(directory.join("kept.log").exists());
    proc_fs::kill(pid).unwrap();
    ended(pid).await;
    proc_fs::terminate(pid).unwrap();
}

#[tokio::test]
async fn a_name_keeps_its_data_and_the_callers_settings_stay_out() {
    let (_scripts, binaries) = fakes();
    let fleet = Fleet::new(binaries).unwrap();
    let mut common = Common::named("one");
    common.env.push(("STARLING_EXTRA".into(), "given".into()));
    let options = WatchOptions { common, ..Default::default() };
    for _ in 0..2 {
        fleet.watch("starling://x", &options).await.unwrap();
    }
    let log = fs::read_to_string(fleet.directory().join("one.log")).unwrap();
    let data = format!("--data-dir {}", fleet.directory().join("one.data").display());
    assert_eq!(log.lines().filter(|line| line.contains(&data)).count(), 2, "{log}");
    assert!(log.contains("hint=none extra=given"), "{log}");
}

#[tokio::test]
async fn a_probe_is_seen_playing_and_leaves_its_report() {
    let (_scripts, binaries) = fakes();
    let fleet = Fleet::new(binaries).unwrap();
    let mut probe = fleet.probe("http://127.0.0.1:2/live.m3u8", None, &Common::default()).unwrap();
    let give_up = Instant::now() + SOON;
    while !probe.has_played() {
        assert!(Instant::now() < give_up, "{}", probe.program.log());
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(probe.state().as_deref(), Some("playing"));
    let report = probe.stop(SOON).await.unwrap();
    assert_eq!((report.startup_seconds, report.stalls.seconds, report.bytes.media), (Some(0.5), 2.5, 7));
    assert!(report.samples.is_empty() && report.timestamp_errors.overlaps == 2);
}

#[tokio::test]
async fn a_stream_is_on_air_when_it_lists_enough() {
    let (_scripts, binaries) = fakes_with(&six_segments_on_air().await);
    let fleet = Fleet::new(binaries).unwrap();
    let broadcast = fleet.broadcast("test", &BroadcastOptions::default()).await.unwrap();
    broadcast.on_air(6, SOON).await.unwrap();
    let error = broadcast.on_air(7, Duration::from_millis(1)).await.unwrap_err().to_string();
    assert!(error.ends_with("lists 6 segments, not 7"), "{error}");
}

#[tokio::test]
async fn a_testnet_runs_on_between_commands_and_leaves_nothing() {
    let (scripts, binaries) = fakes_with(&six_segments_on_air().await);
    let directory = scripts.path().join("net");
    drop(Testnet::up(&directory, 2, binaries.clone()).await.unwrap());
    let again = Testnet::up(&directory, 1, binaries.clone()).await.err().unwrap().to_string();
    assert!(again.contains("is up in"), "{again}");
    let mut testnet = Testnet::open(&directory).unwrap();
    testnet.kill(1).unwrap();
    testnet.add(1, binaries).await.unwrap();
    let missing = testnet.kill(1).unwrap_err().to_string();
    assert!(missing.ends_with("there are 2, 3"), "{missing}");
    let status = Testnet::open(&directory).unwrap().status().await;
    assert!(status.contains("share link    starling://key/demo"), "{status}");
    assert!(status.contains("viewer-3") && !status.contains("viewer-1"), "{status}");
    let pids: Vec<u32> = pids_in(&directory);
    assert_eq!(pids.len(), 6, "hint server, broadcaster, two viewers with players");
    assert!(pids.iter().all(|pid| proc_fs::started(*pid).is_some()));
    testnet.down().await.unwrap();
    assert!(pids.iter().all(|pid| proc_fs::started(*pid).is_none()) && !directory.exists());
    assert!(Testnet::open(&directory).is_err());
}

#[tokio::test]
async fn a_testnet_that_cannot_start_leaves_nothing_and_no_one_elses_files_are_touched() {
    let (scripts, binaries) = fakes();
    fs::write(scripts.path().join("starling"), "#!/bin/sh\nexit 1\n").unwrap();
    let directory = scripts.path().join("net");
    let error = Testnet::up(&directory, 2, binaries.clone()).await.err().unwrap().to_string();
    assert!(error.contains("broadcaster ended") && !directory.exists(), "{error}");
    let error = Testnet::up(scripts.path(), 2, binaries).await.err().unwrap().to_string();
    assert!(error.contains("holds other things"), "{error}");
}

#[test]
fn a_missing_binary_says_what_to_build() {
    let empty = tempfile::tempdir().unwrap();
    let error = Binaries::within(&[empty.path()]).unwrap_err().to_string();
    assert!(error.starts_with("starling is not in") && error.contains("cargo build"), "{error}");
}

fn pids_in(testnet: &Path) -> Vec<u32> {
    let state = fs::read_to_string(testnet.join("testnet.json")).unwrap();
    let pids = state.lines().filter_map(|line| line.trim().strip_prefix("\"pid\": "));
    pids.map(|pid| pid.trim_end_matches(',').parse().unwrap()).collect()
}
