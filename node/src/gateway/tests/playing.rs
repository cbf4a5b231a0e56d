//! What players are told.

use super::*;

#[tokio::test]
async fn a_single_media_playlist_stands_in_for_the_whole_stream() {
    let served = Served::impatient(three_segments()).await;
    let playlist = served.get("/live/index.m3u8").await;
    assert_eq!(header(&playlist, "content-type"), "application/vnd.apple.mpegurl");
    assert_eq!(header(&playlist, "cache-control"), "no-store");
    let playlist = playlist.text().await.expect("text");
    assert!(playlist.ends_with("\n0/1-3.ts\n"), "{playlist}");
    let below = served.get("/live/0/index.m3u8").await.text().await.expect("text");
    assert_eq!(below.replace("\n1-", "\n0/1-"), playlist);
}

#[tokio::test]
async fn a_multivariant_playlist_is_passed_on_as_it_is() {
    let mut catalogue = samples::catalogue(1);
    let text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,X-MINE=\"a b\"\n0/index.m3u8\n# anything\n";
    catalogue.multivariant = Some(text.into());
    let served = Served::impatient(samples::media(catalogue)).await;
    assert_eq!(served.get("/live/index.m3u8").await.text().await.expect("text"), text);
}

#[tokio::test]
async fn a_playlist_asked_for_too_early_comes_when_there_is_something_to_list() {
    let media = Arc::new(Media::new(Duration::from_secs(60), 1 << 20));
    let patience = Patience { playlist: GENEROUS, fuller_playlist: GENEROUS, ..Patience::default() };
    let served = Served::start(media.clone(), patience).await;
    let request = reqwest::Client::new().get(served.url("/live/index.m3u8")).send();
    let early = tokio::spawn(async { request.await.expect("a response").text().await.expect("text") });
    media.set_catalogue(Arc::new(samples::catalogue(1)), Bytes::new());
    for number in 1..=3 {
        tokio::task::yield_now().await;
        assert!(!early.is_finished());
        media.announce(Arc::new(samples::announcement(1, number)), Bytes::new());
    }
    let playlist = timeout(GENEROUS, early).await.expect("in time").expect("no panic");
    assert_eq!(playlist.matches("#EXTINF").count(), 3);
}

#[tokio::test]
async fn one_segment_is_listed_after_a_while_if_no_more_come() {
    let media = samples::media(samples::catalogue(1));
    media.announce(Arc::new(samples::announcement(1, 1)), Bytes::new());
    let patience = Patience { playlist: GENEROUS, fuller_playlist: Duration::from_millis(10), ..Patience::default() };
    let served = Served::start(media, patience).await;
    assert_eq!(served.get("/live/index.m3u8").await.text().await.expect("text").matches("#EXTINF").count(), 1);
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let served = Served::impatient(Arc::new(Media::new(Duration::from_secs(60), 1 << 20))).await;
    let answer = served.get("/live/index.m3u8").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&answer, "retry-after"), "1");
    assert!(answer.text().await.expect("text").starts_with("no catalogue of the stream yet"));
    served.media.set_catalogue(Arc::new(samples::catalogue(1)), Bytes::new());
    let answer = served.get("/live/index.m3u8").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().await.expect("text").contains("no segment"));
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let served = Served::impatient(three_segments()).await;
    let paths = [
        "/live/1/index.m3u8",
        "/live/x/index.m3u8",
        "/live/0/1-4.ts",
        "/live/0/2-1.ts",
        "/live/0/init-1-0.mp4",
        "/live/0/x",
        "/x",
    ];
    for path in paths {
        let answer = served.get(path).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-store");
        assert!(answer.text().await.expect("text").len() < 120, "short");
    }
}

#[tokio::test]
async fn the_media_sequence_never_falls_when_older_segments_turn_up() {
    let media = samples::media(samples::catalogue(1));
    (5..=7).for_each(|number| samples::add(&media, samples::announcement(1, number)));
    let served = Served::impatient(media).await;
    let before = served.get("/live/index.m3u8").await.text().await.expect("text");
    (2..=4).for_each(|number| samples::add(&served.media, samples::announcement(1, number)));
    assert_eq!(served.get("/live/index.m3u8").await.text().await.expect("text"), before);
}

#[tokio::test]
async fn the_driver_is_told_what_players_ask_for() {
    let mut served = Served::impatient(three_segments()).await;
    let rendition = RenditionId(0);
    served.get("/live/index.m3u8").await;
    assert_eq!(served.demands.recv().await, Some(Demand::Playlist { rendition }));
    for (number, first) in [(1, true), (2, false), (3, false), (1, true)] {
        served.get(&format!("/live/0/1-{number}.ts")).await;
        let expected = Demand::Segment { rendition, epoch: Epoch(1), segment: SegmentNumber(number), first };
        assert_eq!(served.demands.recv().await, Some(expected));
    }
    served.request(Method::HEAD, "/live/0/1-2.ts", &[]).await;
    served.get("/live/0/1-9.ts").await;
    assert!(served.demands.try_recv().is_err(), "neither of these wants a segment");
}

#[tokio::test]
async fn a_driver_that_does_not_listen_stops_nobody() {
    let mut served = Served::impatient(three_segments()).await;
    served.demands.close();
    assert_eq!(served.get("/live/index.m3u8").await.status(), StatusCode::OK);
    assert_eq!(served.get("/live/0/1-1.ts").await.bytes().await.expect("a body"), "abc");
}

#[tokio::test]
async fn startup_and_stalls_are_seen_from_picture_only() {
    let mut catalogue = samples::catalogue(1);
    catalogue.renditions.push(Rendition { label: "sound".into(), ..samples::rendition(1) });
    catalogue.multivariant = Some("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n0/index.m3u8\n".into());
    let media = samples::media(catalogue);
    samples::add(&media, samples::announcement(1, 1));
    samples::add(&media, Announcement { rendition: RenditionId(1), ..samples::announcement(1, 1) });
    let served = Served::impatient(media).await;
    served.get("/live/index.m3u8").await;
    served.get("/live/1/1-1.ts").await.bytes().await.expect("a body");
    assert_eq!(served.gateway.playback(), Playback::default());
    served.get("/live/0/1-1.ts").await.bytes().await.expect("a body");
    // The last bytes may arrive before the server notices that they were the last.
    let startup = async {
        while served.gateway.playback().startup_seconds.is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(GENEROUS, startup).await.expect("noticed");
}

async fn ffmpeg_reads(encoded: Encoded, multivariant: Option<&str>) {
    let media = encoded.begun(3);
    if let Some(text) = multivariant {
        let catalogue = Catalogue { multivariant: Some(text.into()), ..encoded.catalogue(2, false) };
        media.set_catalogue(Arc::new(catalogue), Bytes::new());
    }
    let served = Served::start(media.clone(), Patience::default()).await;
    let url = served.url("/live/index.m3u8");
    let ((frames, complaints), ()) = tokio::join!(read_with_ffmpeg(&url), encoded.go_on(&media, 3));
    assert_eq!(complaints, "");
    assert_eq!(frames, encoded.segments.len() * FRAMES);
    assert_eq!(served.gateway.playback().stalls, crate::stats::Stalls::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_reads_a_live_transport_stream_without_a_warning() {
    ffmpeg_reads(Encoded::transport_stream(6), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_reads_live_fragmented_mp4_without_a_warning() {
    ffmpeg_reads(Encoded::fragmented_mp4(6), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_reads_below_a_multivariant_playlist_without_a_warning() {
    let text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=300000,RESOLUTION=160x90\n0/index.m3u8\n";
    ffmpeg_reads(Encoded::fragmented_mp4(6), Some(text)).await;
}
