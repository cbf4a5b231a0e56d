//! A broadcast of somebody else's live playlist: what viewers play is the origin's files, byte for byte, and the bytes go
//! among them.

use std::{fs, path::Path};

use starling_tests::fleet::{BroadcastOptions, Common, WatchOptions};

use crate::{
    encoder::{Encoder, Packing},
    seats::{self, Seat},
    stage,
    web::Web,
};

const VIEWERS: usize = 3;

/// Some 15 s of the stream.
const A_WHILE: u64 = 1_600_000;

/// First copies take turns, so of three viewers each gets two of three bytes from the others.
const SHARE_MIN: f64 = 0.5;

#[tokio::test]
async fn ts_goes_from_the_cdn_to_the_viewers() {
    pull(Packing::Ts, FirstCopies::FromTheCdn).await;
}

#[tokio::test]
async fn fmp4_goes_from_the_cdn_to_the_viewers() {
    pull(Packing::Fmp4, FirstCopies::FromTheCdn).await;
}

#[tokio::test]
async fn fmp4_goes_through_the_broadcaster_if_it_is_told_so() {
    pull(Packing::Fmp4, FirstCopies::FromTheBroadcaster).await;
}

/// Who gives the mesh its first copy of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstCopies {
    FromTheCdn,
    FromTheBroadcaster,
}

async fn pull(packing: Packing, first_copies: FirstCopies) {
    let _machine = stage::alone().await;
    let fleet = stage::fleet();
    let source = fleet.directory().join("source");
    fs::create_dir(&source).unwrap();
    let encoder = Encoder::start(&source, packing).await;
    let web = Web::files(&source).await;
    let origin = (first_copies == FirstCopies::FromTheBroadcaster).then(|| "here".to_owned());
    let options = BroadcastOptions { common: Common::named("broadcaster"), origin, ..BroadcastOptions::default() };
    let mut broadcast = fleet.broadcast(&web.url("live.m3u8"), &options).await.unwrap();

    let mut seats = Vec::new();
    let dumps: Vec<_> = (1..=VIEWERS).map(|number| fleet.directory().join(format!("dump-{number}"))).collect();
    for (number, dump) in (1..).zip(&dumps) {
        let common = Common::named(format!("viewer-{number}"));
        let options = WatchOptions { common, ..WatchOptions::default() };
        let dump = dump.to_str().unwrap();
        seats.push(Seat::take(&fleet, &broadcast.link, options, &["--dump", dump]).await);
    }
    let before = seats::received(&seats).await;
    seats::receive_more(&seats, A_WHILE).await;
    let after = seats::received(&seats).await;
    let broadcaster = broadcast.metrics().await.unwrap();

    for measured in seats::measured(&mut seats).await {
        measured.assert_smooth();
    }
    for dump in &dumps {
        assert_is_the_origins(dump, &encoder);
    }
    let share = seats::viewers_share(&before, &after);
    assert!(share > SHARE_MIN, "{share:.2} came from other viewers: {before:?} to {after:?}");
    let over_libp2p = broadcaster.sum("starling_sent_peers_bytes_total", &[]).unwrap();
    let from_origin: u64 = after.iter().map(|received| received.origin).sum();
    match first_copies {
        FirstCopies::FromTheCdn => {
            assert_eq!(over_libp2p, 0.0, "the broadcaster sends announcements only");
            assert!(from_origin > 0, "the CDN gives the first copies");
        }
        FirstCopies::FromTheBroadcaster => {
            assert!(over_libp2p > 0.0, "the broadcaster's node gives the first copies");
            let repeated: Vec<_> =
                web.requests().into_iter().filter(|(path, times)| !path.ends_with("m3u8") && *times > 1).collect();
            assert!(repeated.is_empty(), "only the broadcaster asks the source, once for each: {repeated:?}");
        }
    }
    stage::ends(&mut broadcast.program).await;
    seats::leave(&mut seats).await;
    stage::nobody_panicked(&fleet);
}

/// What a player was given are the encoder's segments, every one from the first to the last.
pub(crate) fn assert_is_the_origins(dump: &Path, encoder: &Encoder) {
    let segments = encoder.segments();
    let (mut played, mut has_init) = (Vec::new(), false);
    let files = fs::read_dir(dump).unwrap().map(|entry| entry.unwrap().path());
    // The player ended while it wrote one that has another ending.
    for file in files.filter(|file| file.extension().is_some_and(|ending| ending == "bin")) {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let body = fs::read(&file).unwrap();
        if name.starts_with("init-") {
            assert_eq!(Some(body), encoder.init(), "{}", file.display());
            has_init = true;
        } else {
            let which = segments.iter().position(|segment| *segment == body);
            let which = which.unwrap_or_else(|| panic!("{} is none of the origin's segments", file.display()));
            played.push((name.parse::<u64>().unwrap(), which));
        }
    }
    played.sort_unstable();
    assert!(played.len() >= 10, "a long enough part of the stream was played: {played:?}");
    let consecutive = played.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1 && pair[1].1 == pair[0].1 + 1);
    assert!(consecutive, "in order and without a hole: {played:?}");
    assert_eq!(has_init, encoder.init().is_some());
}
