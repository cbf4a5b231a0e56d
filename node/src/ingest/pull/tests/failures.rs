//! Each way a source can be wrong: what is said, how often, and what comes next.

use bytes::Bytes;
use tokio::net::TcpListener;

use super::scripted::{add, listing, mp4, source, ts};
use super::*;
use crate::origin::tests::server::{Answer, TestServer};

#[tokio::test]
async fn nobody_at_the_address() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = Url::parse(&format!("http://me:pw@127.0.0.1:{port}/x.m3u8?token=1")).unwrap();
    let pulled = pull_with(&url, Role::Broadcaster, Duration::from_secs(2));
    let log = pulled.log.clone();
    let error = pulled.error().await;
    assert!(error.starts_with(&format!("gave up on http://127.0.0.1:{port}/x.m3u8 after")), "{error}");
    assert!(
        error.contains("refused") && error.ends_with("check the address and that the encoder is running"),
        "{error}"
    );
    assert_eq!(log.warnings("can't load the playlist yet"), 1);
}

#[tokio::test]
async fn an_encoder_that_starts_late_is_waited_for() {
    let server = TestServer::start().await;
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    server.more_requests("/live/v.m3u8", 1).await;
    server.text("/live/v.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n");
    server.more_requests("/live/v.m3u8", 1).await;
    add(&server, "", 0, 1);
    server.text("/live/v.m3u8", listing("", 0, 1));
    pulled.shape().await;
    assert_eq!(pulled.segment().await.number, 0);
}

#[tokio::test]
async fn a_server_that_dies_is_waited_for() {
    let server = source(5).await;
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    pulled.shape().await;
    pulled.segments(3).await;
    server.put("/live/v.m3u8", Answer::Status(503));
    server.more_requests("/live/v.m3u8", 3).await;
    add(&server, "", 5, 6);
    server.text("/live/v.m3u8", listing("", 1, 6));
    let next = pulled.segment().await;
    assert_eq!((next.number, next.discontinuity), (5, false));
    assert_eq!(pulled.log.warnings("can't load the playlist any more"), 1);
    pulled.log.wait_for(Level::INFO, "the playlist is back").await;
}

#[tokio::test]
async fn something_else_than_a_playlist() {
    let server = TestServer::start().await;
    let page = "\n<!DOCTYPE html>\n<html><body>Welcome</body></html>";
    server.put("/live/v.m3u8", Answer::Typed("text/html", page.into()));
    let error = pull(&server.url("/live/v.m3u8?secret=1")).error().await;
    let expected = format!(
        "can't use {}: it is not an HLS playlist (it begins with '<!DOCTYPE html> <html><body>We'); check the URL",
        server.url("/live/v.m3u8")
    );
    assert_eq!(error, expected);
    server.put("/live/v.m3u8", Answer::Body(Bytes::from_static(b"\xff\xd8\xff\xe0 JFIF")));
    assert!(pull(&server.url("/live/v.m3u8")).error().await.contains("not an HLS playlist"));
    server.text("/live/v.m3u8", "#EXTM3U\n#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"a\"\n");
    assert!(pull(&server.url("/live/v.m3u8")).error().await.contains("without variants"));
    server.text("/live/v.m3u8", "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"t\"\n#EXTINF:1,\n{$t}\n");
    assert!(pull(&server.url("/live/v.m3u8")).error().await.contains("variable 't'"));
    let error = pull(&Url::parse("file:///tmp/x.m3u8").unwrap()).error().await;
    assert!(error.contains("only http and https"), "{error}");
}

#[tokio::test]
async fn a_recording() {
    let server = TestServer::start().await;
    server.text("/live/v.m3u8", listing("", 0, 5) + "#EXT-X-ENDLIST\n");
    server.text("/live/m.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n");
    for path in ["/live/v.m3u8", "/live/m.m3u8"] {
        let error = pull(&server.url(path)).error().await;
        assert!(error.starts_with("this playlist is not live: it ends (EXT-X-ENDLIST)"), "{error}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_segments_are_skipped() {
    let server = source(10).await;
    server.put("/live/8.ts", Answer::Body(Bytes::from_static(b"<!DOCTYPE html><html>Login</html>")));
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    pulled.shape().await;
    let segments = pulled.segments(2).await;
    assert_eq!((numbers(&segments), breaks(&segments)), (vec![7, 9], vec![false, true]));
    assert_eq!(pulled.log.warnings("it is not media (it begins with '<!DOCTYPE html><html>Login</ht'"), 1);

    add(&server, "", 10, 14);
    server.put("/live/10.ts", Answer::Typed("text/html", ts(10)));
    server.put("/live/11.ts", Answer::Body(Bytes::new()));
    server.put("/live/12.ts", Answer::Body(vec![0x47; 33 << 20].into()));
    server.text("/live/v.m3u8", listing("", 9, 14));
    let next = pulled.segment().await;
    assert_eq!((next.number, next.discontinuity), (13, true));
    // The first of a row is a warning, the others are not.
    assert_eq!(pulled.log.warnings("skipped a segment"), 2);
    pulled.log.wait_for(Level::INFO, "segments are good again").await;
}

#[tokio::test]
async fn segments_that_are_not_there_are_tried_again_then_skipped() {
    let server = source(10).await;
    server.put("/live/8.ts", Answer::Status(404));
    server.put("/live/9.ts", Answer::Status(500));
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    pulled.shape().await;
    assert_eq!(pulled.segment().await.number, 7);
    server.more_requests("/live/9.ts", 2).await;
    server.put("/live/9.ts", Answer::Body(ts(9)));
    let next = pulled.segment().await;
    assert_eq!((next.number, next.discontinuity), (9, true));
    assert_eq!(pulled.log.warnings("not there (HTTP 404)"), 1);
}

#[tokio::test]
async fn an_encrypted_page_is_still_a_page() {
    let server = TestServer::start().await;
    let key = "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n";
    server.text("/live/v.m3u8", listing("", 0, 3).replacen("#EXTINF", &format!("{key}#EXTINF"), 1));
    server.put("/live/0.ts", Answer::Body(Bytes::from_static(b"<\x03 any bytes at all")));
    server.put("/live/1.ts", Answer::Body(Bytes::from_static(b"<html>Sorry")));
    server.put("/live/2.ts", Answer::Body(Bytes::from_static(b"GG")));
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    pulled.shape().await;
    assert_eq!(numbers(&pulled.segments(2).await), [0, 2]);
}

#[tokio::test]
async fn names_used_again() {
    let server = TestServer::start().await;
    add(&server, "", 0, 4);
    let wrapped = |from: u64, to: u64| {
        let body: String = (from..to).map(|n| format!("#EXTINF:1,\n{}.ts\n", n % 4)).collect();
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{from}\n{body}")
    };
    server.text("/live/v.m3u8", wrapped(0, 3));
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    pulled.shape().await;
    pulled.segments(3).await;
    server.put("/live/0.ts", Answer::Body(ts(100)));
    server.text("/live/v.m3u8", wrapped(3, 6));
    let next = pulled.segments(3).await;
    assert_eq!((numbers(&next), &next[1].body), (vec![3, 4, 5], &ts(100)));
    assert_eq!(pulled.log.warnings("the encoder reuses file names"), 1);
}

#[tokio::test]
async fn an_encoder_that_begins_again() {
    let server = TestServer::start().await;
    let with_init = |from, to, init: u64| {
        server.put("/live/init.mp4", Answer::Body(mp4(b"ftyp", init, 100)));
        listing("", from, to).replacen("#EXTINF", "#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF", 1)
    };
    add(&server, "", 0, 60);
    server.text("/live/v.m3u8", with_init(50, 55, 1));
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    pulled.shape().await;
    assert_eq!(pulled.segments(3).await[2].init, Some(mp4(b"ftyp", 1, 100)));
    server.text("/live/v.m3u8", with_init(0, 2, 2));
    let segments = pulled.segments(2).await;
    assert_eq!((numbers(&segments), breaks(&segments)), (vec![0, 1], vec![true, false]));
    // Under the same name stands another initialization section.
    assert_eq!(segments[0].init, Some(mp4(b"ftyp", 2, 100)));
    assert_eq!(pulled.log.warnings("the encoder began again"), 1);
    server.text("/live/v.m3u8", with_init(0, 3, 2));
    assert_eq!(pulled.segment().await.number, 2);
}

#[tokio::test]
async fn a_playlist_that_stands_still() {
    let server = source(5).await;
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    pulled.shape().await;
    pulled.segments(3).await;
    pulled.log.wait_for(Level::WARN, "no new segment for five target durations").await;
    server.more_requests("/live/v.m3u8", 3).await;
    add(&server, "", 5, 6);
    server.text("/live/v.m3u8", listing("", 1, 6));
    assert_eq!(pulled.segment().await.number, 5);
    pulled.log.wait_for(Level::INFO, "the playlist moves again").await;
    assert_eq!(pulled.log.warnings("no new segment"), 1);
}

#[tokio::test]
async fn an_initialization_section_too_large_for_the_catalogue() {
    let server = source(5).await;
    server.put("/live/init.mp4", Answer::Body(mp4(b"ftyp", 1, INIT_MAX as usize + 1)));
    server.text("/live/v.m3u8", listing("", 0, 5).replacen("#EXTINF", "#EXT-X-MAP:URI=\"init.mp4\"\n#EXTINF", 1));
    let mut pulled = pull(&server.url("/live/v.m3u8"));
    pulled.shape().await;
    let error = pulled.error().await;
    assert!(error.contains("init.mp4 is larger than 16 KiB"), "{error}");
}

#[tokio::test]
async fn a_viewers_own_network_is_out_of_reach() {
    let (server, victim) = (source(5).await, source(5).await);
    let foreign = listing(victim.url("/live/").as_str(), 0, 3);
    server.text("/live/v.m3u8", foreign + "#EXTINF:1,\n3.ts\n");
    let mut pulled = pull_with(&server.url("/live/v.m3u8"), Role::Viewer, SOON);
    pulled.shape().await;
    assert_eq!(pulled.segment().await.number, 3);
    assert_eq!(pulled.log.warnings("only the link's own origin may be at a private or local address"), 1);
    assert_eq!(victim.requests(), []);
}
