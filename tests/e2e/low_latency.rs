//! A low-latency broadcast: parts travel between viewers while their segment is being made, and players play by them.

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

fn viewer(number: usize) -> WatchOptions {
    WatchOptions { common: Common::named(format!("viewer-{number}")), ..WatchOptions::default() }
}
