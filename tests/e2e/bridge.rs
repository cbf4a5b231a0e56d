//! The broadcaster dies while the CDN its stream comes from lives on: viewers follow that by themselves, and are among
//! themselves again when it is back.

use std::fs;
use std::time::Duration;

use starling_tests::fleet::{Broadcast, BroadcastOptions, Common, Fleet, WatchOptions};
use tokio::time::Instant;

use crate::{
    encoder::{Encoder, Packing},
    pull::assert_is_the_origins,
    seats::{self, Seat},
    stage::{self, Address, eventually},
    web::Web,
};

const VIEWERS: usize = 3;

/// Some 10 s of the stream.
const A_WHILE: u64 = 1_100_000;

#[tokio::test]
async fn ts_viewers_play_on_from_the_cdn_and_go_back_to_the_mesh() {
    bridge(Packing::Ts).await;
}

#[tokio::test]
async fn fmp4_viewers_play_on_from_the_cdn_and_go_back_to_the_mesh() {
    bridge(Packing::Fmp4).await;
}

async fn bridge(packing: Packing) {
    let _machine = stage::alone().await;
    let fleet = stage::fleet();
    let source = fleet.directory().join("source");
    fs::create_dir(&source).unwrap();
    let encoder = Encoder::start(&source, packing).await;
    let web = Web::files(&source).await;
    let address = Address::free();
    let mut broadcast = start(&fleet, &web, &address).await;
    let link = broadcast.link.clone();
    let mut seats = Vec::new();
    let dumps: Vec<_> = (1..=VIEWERS).map(|number| fleet.directory().join(format!("dump-{number}"))).collect();
    for (number, dump) in (1..).zip(&dumps) {
        let options = WatchOptions { common: Common::named(format!("viewer-{number}")), ..WatchOptions::default() };
        seats.push(Seat::take(&fleet, &link, options, &["--dump", dump.to_str().unwrap()]).await);
    }
    seats::receive_more(&seats, A_WHILE).await;
    assert_eq!(silences(&seats), [0; VIEWERS], "nobody asks the origin while announcements come");

    broadcast.program.kill().await.unwrap();
    let before = seats::received(&seats).await;
    eventually("every viewer plays on from the origin", async || {
        let now = seats::received(&seats).await;
        let all_do = before.iter().zip(&now).all(|(before, now)| now.origin >= before.origin + A_WHILE);
        if all_do { Ok(()) } else { Err(format!("from {before:?} to {now:?}")) }
    })
    .await;
    assert_eq!(silences(&seats), [1; VIEWERS], "each says so once");

    broadcast = start(&fleet, &web, &address).await;
    assert_eq!(broadcast.link, link);
    eventually("every viewer hears of the broadcaster again", async || {
        let heard = seats.iter().filter(|seat| seat.viewer.program.log().contains("is heard of again")).count();
        if heard == VIEWERS { Ok(()) } else { Err(format!("{heard} do")) }
    })
    .await;
    let before = seats::received(&seats).await;
    seats::receive_more(&seats, 2 * A_WHILE).await;
    let after = seats::received(&seats).await;
    let share = seats::viewers_share(&before, &after);

    for measured in seats::measured(&mut seats).await {
        measured.assert_smooth();
    }
    for dump in &dumps {
        assert_is_the_origins(dump, &encoder);
    }
    assert!(share > 0.5, "{share:.2} came from other viewers again: {before:?} to {after:?}");
    stage::ends(&mut broadcast.program).await;
    seats::leave(&mut seats).await;
    stage::nobody_panicked(&fleet);
}

/// Reading a playlist that doesn't change is allowed once in half a target duration (RFC 8216bis §6.3.4).
const HALF_A_TARGET_DURATION: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_cdn_without_news_is_read_like_any_player_reads_it() {
    const READINGS: u64 = 16;
    let _machine = stage::alone().await;
    let fleet = stage::fleet();
    let source = fleet.directory().join("source");
    fs::create_dir(&source).unwrap();
    let encoder = Encoder::start(&source, Packing::Ts).await;
    let web = Web::files(&source).await;
    let mut broadcast = start(&fleet, &web, &Address::free()).await;
    let options = WatchOptions { common: Common::named("viewer-1"), ..WatchOptions::default() };
    let mut seat = [Seat::take(&fleet, &broadcast.link, options, &[]).await];
    seats::receive_more(&seat, A_WHILE).await;

    drop(encoder);
    broadcast.program.kill().await.unwrap();
    let readings = || web.requests().get("live.m3u8").copied().unwrap_or_default();
    eventually("the viewer looks for itself", async || match silences(&seat)[0] {
        0 => Err(String::new()),
        _ => Ok(()),
    })
    .await;
    // Whatever was out when the encoder ended is fetched with the first readings.
    let more = async |count: u64| {
        let before = readings();
        eventually("it goes on looking", async || {
            let more = readings() - before;
            if more >= count { Ok(()) } else { Err(format!("{more} readings")) }
        })
        .await;
    };
    more(READINGS / 2).await;
    let segments = || web.requests().iter().filter(|(path, _)| path.ends_with(".ts")).map(|r| r.1).sum::<u64>();
    let (began, fetched) = (Instant::now(), segments());
    more(READINGS).await;
    assert!(began.elapsed() >= HALF_A_TARGET_DURATION * (READINGS as u32 - 1), "too often: {:?}", began.elapsed());
    assert_eq!(segments(), fetched, "nothing that is here already is fetched");

    // Then the CDN dies as well.
    drop(web);
    let warnings = |part: &str| {
        let log = seat[0].viewer.program.log();
        log.lines().filter(|line| line.contains("WARN") && line.contains(part)).count()
    };
    eventually("the viewer says that the CDN is gone", async || match warnings("can't load the playlist any more") {
        0 => Err(String::new()),
        _ => Ok(()),
    })
    .await;
    assert_eq!(warnings("can't load the playlist any more"), 1);
    assert_eq!(silences(&seat), [1]);
    seats::measured(&mut seat).await;
    seats::leave(&mut seat).await;
    stage::nobody_panicked(&fleet);
}

async fn start(fleet: &Fleet, web: &Web, address: &Address) -> Broadcast {
    let options = BroadcastOptions { common: address.of("broadcaster"), ..BroadcastOptions::default() };
    fleet.broadcast(&web.url("live.m3u8"), &options).await.unwrap()
}

/// How often each viewer said that it hears nothing of the broadcaster.
fn silences(seats: &[Seat]) -> Vec<usize> {
    let said = |seat: &Seat| seat.viewer.program.log().matches("nothing is heard of the broadcaster any more").count();
    seats.iter().map(said).collect()
}
