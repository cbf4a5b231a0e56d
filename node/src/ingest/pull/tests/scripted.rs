//! What comes out of well-behaved sources, to the letter.

use bytes::Bytes;

use super::*;
use crate::origin::tests::server::{Answer, TestServer};

/// A transport stream in name: two packets that carry `mark`.
pub(super) fn ts(mark: u64) -> Bytes {
    let mut body = vec![0; 376];
    (body[0], body[188]) = (0x47, 0x47);
    body[4..12].copy_from_slice(&mark.to_be_bytes());
    body.into()
}

pub(super) fn mp4(kind: &[u8; 4], mark: u64, len: usize) -> Bytes {
    let mut body = vec![0; len];
    body[4..8].copy_from_slice(kind);
    body[8..16].copy_from_slice(&mark.to_be_bytes());
    body.into()
}

/// One-second segments `from..to`, called `<name><number>.ts`.
pub(super) fn listing(name: &str, from: u64, to: u64) -> String {
    let body: String = (from..to).map(|n| format!("#EXTINF:1,\n{name}{n}.ts\n")).collect();
    format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{from}\n{body}")
}

/// A server with segments `0..to`, of which the last five are listed at `/live/v.m3u8`.
pub(super) async fn source(to: u64) -> TestServer {
    let server = TestServer::start().await;
    add(&server, "", 0, to);
    server.text("/live/v.m3u8", listing("", to.saturating_sub(5), to));
    server
}

pub(super) fn add(server: &TestServer, name: &str, from: u64, to: u64) {
    for n in from..to {
        server.put(&format!("/live/{name}{n}.ts"), Answer::Body(ts(n)));
    }
}

#[tokio::test]
async fn a_media_playlist_is_followed_to_its_end() {
    let server = source(10).await;
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    let shape = pulled.shape().await;
    assert_eq!(shape.multivariant, None);
    let [track] = shape.renditions.as_slice() else { panic!("one rendition") };
    assert_eq!((track.id, track.uri.as_str(), track.extension.as_str()), (RenditionId(0), "", "ts"));
    assert_eq!((track.target_duration, track.hls_version, track.tags.len()), (1, 3, 0));

    let begun = pulled.segments(3).await;
    assert_eq!(numbers(&begun), [7, 8, 9]);
    assert_eq!(begun[0].body, ts(7));
    assert_eq!((begun[0].uri.as_str(), begun[0].offset, &begun[0].init), ("7.ts", 0, &None));
    assert_eq!(begun[0].duration, Duration::from_secs(1));
    assert_eq!(begun[2].start.seconds_since(begun[0].start), 2.0);
    let age = crate::clock::wall_now().seconds_since(begun[2].start + begun[2].duration);
    assert!((0.0..40.0).contains(&age), "estimated from arrival: {age}");

    add(&server, "", 10, 12);
    server.text("/live/v.m3u8", listing("", 7, 12) + "#EXT-X-ENDLIST\n");
    let rest = pulled.segments(2).await;
    assert_eq!((numbers(&rest), breaks(&rest)), (vec![10, 11], vec![false, false]));
    pulled.ended().await;
    assert_eq!(pulled.log.at(Level::WARN), Vec::<String>::new());
    assert_eq!(server.requests().iter().filter(|(path, _)| path == "/live/8.ts").count(), 1);
}

#[tokio::test]
async fn each_segment_carries_what_it_needs() {
    let server = TestServer::start().await;
    let text = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-VENDOR:a=1\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:40\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-DEFINE:NAME=\"d\",VALUE=\"sub\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2026-11-22T14:00:00.5+0000\n\
         #EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"100@0\"\n\
         #EXTINF:1,\n#EXT-X-BYTERANGE:200@100\nall.mp4\n\
         #EXT-X-DATERANGE:ID=\"ad\",START-DATE=\"2026-11-22T14:00:01Z\"\n#EXT-X-CUE-OUT:3\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"{$d}/k\"\n#EXTINF:1,\n#EXT-X-BYTERANGE:200\nall.mp4\n\
         #EXT-X-DISCONTINUITY\n#EXTINF:1,\n{$d}/x.bin?t=1\n";
    server.text("/live/v.m3u8", text);
    let mut file = mp4(b"ftyp", 1, 100).to_vec();
    file.extend_from_slice(&mp4(b"moof", 2, 200));
    file.extend_from_slice(&[0xaa; 200]);
    server.put("/live/all.mp4", Answer::LoggedIn(file.clone().into()));
    server.put("/live/sub/x.bin", Answer::Body(Bytes::from_static(b"\x01\x02ciphertext")));
    let mut url = server.url("/live/v.m3u8");
    url.set_username("operator").unwrap();
    url.set_password(Some("secret")).unwrap();
    let mut pulled = pull(&url);

    let shape = pulled.shape().await;
    assert_eq!(shape.renditions[0].tags, ["#EXT-X-INDEPENDENT-SEGMENTS", "#EXT-X-VENDOR:a=1"]);
    assert_eq!((shape.renditions[0].extension.as_str(), shape.renditions[0].hls_version), ("m4s", 6));
    let [a, b, c] = <[Segment; 3]>::try_from(pulled.segments(3).await).unwrap();
    assert_eq!((a.number, a.uri.as_str(), a.offset, &a.body[..]), (40, "all.mp4", 100, &file[100..300]));
    assert_eq!(a.init.as_deref(), Some(&file[..100]));
    assert_eq!(a.tags, Vec::<String>::new());
    assert_eq!(a.start.0 % 60_000_000, 500_000);
    assert_eq!((b.offset, &b.body[..]), (300, &file[300..500]));
    assert_eq!(b.start.seconds_since(a.start), 1.0);
    let key = |number: u64| {
        format!("#EXT-X-KEY:METHOD=AES-128,URI=\"http://{}/live/sub/k\",IV=0x{number:032x}", server.address)
    };
    let daterange = "#EXT-X-DATERANGE:ID=\"ad\",START-DATE=\"2026-11-22T14:00:01Z\"";
    assert_eq!(b.tags, [&key(41), daterange, "#EXT-X-CUE-OUT:3"]);
    assert_eq!((c.uri.as_str(), c.offset, c.discontinuity), ("sub/x.bin?t=1", 0, true));
    assert_eq!((c.tags, &c.body[..]), (vec![key(42)], &b"\x01\x02ciphertext"[..]));
    server.text("/live/v.m3u8", format!("{text}#EXT-X-ENDLIST\n"));
    pulled.ended().await;
    assert!(pulled.log.at(Level::INFO).iter().all(|text| !text.contains("secret")));
}

#[tokio::test]
async fn after_a_redirect_addresses_are_whole() {
    let server = source(5).await;
    let elsewhere = source(5).await;
    server.put("/start.m3u8", Answer::Redirect("/live/master.m3u8".into()));
    server.text("/live/master.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\nv.m3u8\n");
    server.put("/live/v.m3u8", Answer::Redirect(elsewhere.url("/live/v.m3u8?session=1").into()));
    let mut pulled = pull(&server.url("/start.m3u8"));
    let shape = pulled.shape().await;
    assert_eq!(shape.multivariant.as_deref(), Some("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n0/index.m3u8\n"));
    assert_eq!(shape.renditions[0].uri, server.url("/live/v.m3u8").as_str());
    assert_eq!(pulled.segment().await.uri, elsewhere.url("/live/2.ts").as_str());
}

#[tokio::test]
async fn a_server_that_holds_requests_is_asked_for_the_next_segment() {
    let server = source(5).await;
    let held = |from, to| listing("", from, to) + "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n";
    server.text("/live/v.m3u8", held(0, 5));
    let mut pulled = pull(&server.url("/live/v.m3u8?t=x%20y"));
    pulled.shape().await;
    assert_eq!(numbers(&pulled.segments(3).await), [2, 3, 4]);
    server.put("/live/v.m3u8", Answer::Held);
    server.more_requests("/live/v.m3u8?t=x%20y&_HLS_msn=5", 1).await;
    add(&server, "", 5, 6);
    server.text("/live/v.m3u8", held(1, 6));
    assert_eq!(pulled.segment().await.number, 5);
}

#[tokio::test]
async fn a_changed_header_is_told() {
    let server = source(5).await;
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    assert_eq!(pulled.shape().await.renditions[0].target_duration, 1);
    pulled.segments(3).await;
    add(&server, "", 5, 6);
    server.text("/live/v.m3u8", listing("", 1, 6).replace("TARGETDURATION:1", "TARGETDURATION:2\n#EXT-X-COUNTER:7"));
    let shape = pulled.shape().await;
    // Unknown header tags stay as they were first: some count.
    assert_eq!((shape.renditions[0].target_duration, shape.renditions[0].tags.len()), (2, 0));
    assert_eq!(pulled.segment().await.number, 5);
}

#[tokio::test]
async fn renditions_that_move_are_followed() {
    let server = TestServer::start().await;
    let master = |run: &str| {
        format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=2\n{run}hi.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{run}lo.m3u8\n")
    };
    let put = |run: &str, from, to| {
        for quality in ["hi", "lo"] {
            add(&server, &format!("{run}{quality}"), from, to);
            server.text(&format!("/live/{run}{quality}.m3u8"), listing(&format!("{run}{quality}"), from, to));
        }
        server.text("/live/master.m3u8", master(run));
    };
    put("a", 100, 105);
    let mut pulled = pull(&server.url("/live/master.m3u8"));
    let shape = pulled.shape().await;
    assert_eq!(shape.renditions[1].uri, "alo.m3u8");
    assert_eq!(pulled.segments(6).await.len(), 6);
    for quality in ["hi", "lo"] {
        server.put(&format!("/live/a{quality}.m3u8"), Answer::Status(404));
    }
    put("b", 0, 2);
    let shape = pulled.shape().await;
    assert_eq!(shape.renditions[1].uri, "blo.m3u8");
    let segments = pulled.segments(4).await;
    for id in 0..2 {
        let of_one: Vec<_> = segments.iter().filter(|s| s.rendition.0 == id).cloned().collect();
        assert_eq!((numbers(&of_one), breaks(&of_one)), (vec![0, 1], vec![true, false]));
    }
    assert_eq!(pulled.log.warnings("the encoder began again"), 2);
}

#[tokio::test]
async fn a_stream_is_taken_up_after_the_newest_that_is_here_in_the_renditions_that_are_wanted() {
    let server = TestServer::start().await;
    let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=2\nhi.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlo.m3u8\n";
    server.text("/live/master.m3u8", master);
    for quality in ["hi", "lo"] {
        add(&server, quality, 0, 10);
        server.text(&format!("/live/{quality}.m3u8"), listing(quality, 2, 10));
    }
    let has = |rendition, uri: &str, offset, number| {
        assert_eq!((rendition, offset, uri), (RenditionId(1), 0, format!("lo{number}.ts").as_str()));
        matches!(number, 3 | 5)
    };
    let resume = Resume { renditions: vec![RenditionId(1)], has: Box::new(has) };
    let mut pulled = pull_from(&server.url("/live/master.m3u8"), Role::Viewer, Some(resume), SOON);
    assert_eq!(pulled.shape().await.renditions.len(), 2);
    let segments = pulled.segments(4).await;
    assert_eq!((numbers(&segments), breaks(&segments)), (vec![6, 7, 8, 9], vec![false; 4]));
    assert!(segments.iter().all(|segment| segment.rendition == RenditionId(1)));
    let fetched = |path: &str| server.requests().iter().any(|(asked, _)| asked == path);
    assert!(!fetched("/live/lo5.ts") && !fetched("/live/hi9.ts"));
}

#[tokio::test]
async fn it_stops_when_told_or_when_nobody_listens() {
    let server = source(5).await;
    let url = server.url("/live/v.m3u8");
    let (sender, receiver) = mpsc::channel(1);
    timeout(SOON, run(url.clone(), sender, std::future::ready(()))).await.unwrap().unwrap();
    drop(receiver);
    let (sender, mut receiver) = mpsc::channel(1);
    let task = tokio::spawn(run(url, sender, pending()));
    assert!(matches!(receiver.recv().await, Some(Ingested::Shape(_))));
    drop(receiver);
    timeout(SOON, task).await.unwrap().unwrap().unwrap();
}
