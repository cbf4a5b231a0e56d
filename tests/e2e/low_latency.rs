//! A low-latency broadcast: parts travel between viewers while their segment is being made, and players play by them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use starling_tests::fleet::{BroadcastOptions, Common, SEGMENTS_FOR_PLAYERS, WatchOptions};

use crate::{
    seats::{self, Seat},
    stage::{self, PATIENCE},
};

const VIEWERS: usize = 4;

/// Enough that every viewer met its neighbours and several segments went around: 8 s of the stream.
const A_WHILE: u64 = 1_000_000;

/// Seconds. Whole segments of 2 s can't be played less than 6 s behind (RFC 8216bis §4.4.3.8: HOLD-BACK is three target
/// durations), so whoever is nearer plays by parts that came while their segment grew.
const NEARER_THAN_SEGMENTS: f64 = 5.0;

#[tokio::test]
async fn parts_reach_players_before_their_segment_is_over() {
    let _machine = stage::alone().await;
    let fleet = stage::fleet();
    let mut hint_server = fleet.hint_server(&Common::default()).await.unwrap();
    let options = BroadcastOptions {
        hints: vec![hint_server.hint.clone()],
        bitrate: Some("1M".into()),
        part_seconds: Some(0.2),
        ..BroadcastOptions::default()
    };
    let mut broadcast = fleet.broadcast("test", &options).await.unwrap();
    broadcast.on_air(SEGMENTS_FOR_PLAYERS, PATIENCE).await.unwrap();

    let mut seats = Seat::take_all(&fleet, &broadcast.link, (1..=VIEWERS).map(viewer), &[]).await;
    seats::receive_more(&seats, A_WHILE).await;
    let before = seats::received(&seats).await;
    seats::receive_more(&seats, A_WHILE).await;
    let share = seats::viewers_share(&before, &seats::received(&seats).await);

    let mut victim = seats.remove(1);
    victim.measured().await.assert_smooth();
    victim.viewer.program.kill().await.unwrap();
    seats::receive_more(&seats, A_WHILE).await;

    for measured in seats::measured(&mut seats).await {
        measured.assert_smooth();
        assert_eq!(measured.json["mode"], "parts", "{}: {:#}", measured.who, measured.json);
        let lag = measured.report.lag_seconds.expect("the playlist is dated");
        assert!(lag.p95 < NEARER_THAN_SEGMENTS, "{} is {} s behind: {:#}", measured.who, lag.p95, measured.json);
        println!("{}: lag {:.2} s, p95 {:.2} s", measured.who, lag.p50, lag.p95);
    }
    println!("{:.1} % from viewers", share * 100.0);
    assert!(share > 0.5, "most bytes should come from other viewers, {share:.2} did");
    stage::all_end([&mut broadcast.program, &mut hint_server.program]).await;
    seats::leave(&mut seats).await;
    stage::nobody_panicked(&fleet);
}

/// What is pulled is another stream's gateway: an origin that holds reloads and lists parts, as any other would.
#[tokio::test]
async fn a_low_latency_origin_is_pulled_by_parts() {
    let _machine = stage::alone().await;
    let fleet = stage::fleet();
    let options = BroadcastOptions {
        common: Common::named("first-broadcaster"),
        bitrate: Some("1M".into()),
        part_seconds: Some(0.2),
        ..BroadcastOptions::default()
    };
    let mut first = fleet.broadcast("test", &options).await.unwrap();
    first.on_air(SEGMENTS_FOR_PLAYERS, PATIENCE).await.unwrap();
    let dumps = ["first", "second"].map(|name| fleet.directory().join(format!("dump-{name}")));
    let dump_args = |index: usize| ["--dump", dumps[index].to_str().unwrap()];
    let mut origin = Seat::take(&fleet, &first.link, viewer(1), &dump_args(0)).await;

    let options = BroadcastOptions {
        common: Common::named("second-broadcaster"),
        stream: "again".into(),
        ..BroadcastOptions::default()
    };
    let mut second = fleet.broadcast(&origin.viewer.playlist, &options).await.unwrap();
    second.on_air(1, PATIENCE).await.unwrap();
    let mut seat = Seat::take(&fleet, &second.link, viewer(2), &dump_args(1)).await;
    seats::receive_more(std::slice::from_ref(&seat), 2 * A_WHILE).await;
    let received = seat.stats().await.received;
    let over_libp2p = second.metrics().await.unwrap().sum("starling_sent_peers_bytes_total", &[]).unwrap();

    let measured = seat.measured().await;
    measured.assert_smooth();
    assert_eq!(measured.json["mode"], "parts", "{:#}", measured.json);
    let lag = measured.report.lag_seconds.expect("the playlist is dated");
    println!("lag {:.2} s, p95 {:.2} s", lag.p50, lag.p95);
    assert!(lag.p95 < NEARER_THAN_SEGMENTS, "{} s behind: {:#}", lag.p95, measured.json);
    assert!(received.origin > 0 && over_libp2p == 0.0, "first copies come from the origin: {received:?}");

    origin.measured().await.assert_smooth();
    let [ours, theirs] = [&dumps[1], &dumps[0]].map(|dump| dumped(dump));
    let numbers: BTreeSet<u64> = ours.keys().map(|(number, _)| *number).collect();
    let growing = numbers.iter().filter(|number| took(&ours, **number) > HALF_A_SEGMENT).count();
    assert!(growing >= 4, "parts came before their segment was over: of {growing} of {} segments", numbers.len());
    let [ours, theirs] = [ours, theirs].map(|files| files.into_values().flat_map(|(_, body)| body).collect::<Vec<_>>());
    assert!(theirs.windows(ours.len()).any(|theirs| theirs == ours), "what was pulled is what was broadcast");
    stage::all_end([&mut second.program]).await;
    seats::leave(&mut [seat, origin]).await;
    stage::all_end([&mut first.program]).await;
    stage::nobody_panicked(&fleet);
}

/// Of the 2 s that its first part and its last are apart while it is being made; listed at once, they come at once.
const HALF_A_SEGMENT: Duration = Duration::from_secs(1);

/// What a player dumped of segments and parts, by number and place, with the time when it had come.
fn dumped(dump: &Path) -> BTreeMap<(u64, u64), (SystemTime, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dump).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(stem) = name.strip_suffix(".bin").filter(|stem| !stem.starts_with("init-")) else { continue };
        let (number, part) = stem.split_once('.').unwrap_or((stem, "0"));
        let place = (number.parse().unwrap(), part.parse().unwrap());
        let at = fs::metadata(&path).unwrap().modified().unwrap();
        files.insert(place, (at, fs::read(&path).unwrap()));
    }
    files
}

/// From the first file of a segment to its last.
fn took(files: &BTreeMap<(u64, u64), (SystemTime, Vec<u8>)>, number: u64) -> Duration {
    let mut times = files.range((number, 0)..(number + 1, 0)).map(|(_, (at, _))| *at);
    let first = times.next().unwrap();
    times.next_back().and_then(|last| last.duration_since(first).ok()).unwrap_or_default()
}

fn viewer(number: usize) -> WatchOptions {
    WatchOptions { common: Common::named(format!("viewer-{number}")), ..WatchOptions::default() }
}
