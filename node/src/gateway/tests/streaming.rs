//! Bodies of segments.

use super::*;

const BODY: &[&[u8]] = &[b"abc", b"defg", b"hi"];

async fn serve_one(patience: Patience) -> (Served, Arc<Announcement>) {
    let (media, announcement) = samples::one_segment(BODY);
    (Served::start(media, patience).await, announcement)
}

#[tokio::test]
async fn ranges_and_heads() {
    let (served, announcement) = serve_one(Patience::default()).await;
    samples::insert_all(&served.media, &announcement, BODY);
    let whole = served.get("/live/0/1-0.ts").await;
    assert_eq!((whole.status(), header(&whole, "content-length")), (StatusCode::OK, "9"));
    assert_eq!(header(&whole, "content-type"), "video/mp2t");
    assert_eq!(header(&whole, "accept-ranges"), "bytes");
    assert_eq!(whole.bytes().await.expect("a body"), "abcdefghi");
    for (range, content_range, body) in [
        ("bytes=0-", "bytes 0-8/9", "abcdefghi"),
        ("bytes=2-4", "bytes 2-4/9", "cde"),
        ("bytes=-1", "bytes 8-8/9", "i"),
    ] {
        let part = served.request(Method::GET, "/live/0/1-0.ts", &[("range", range)]).await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(header(&part, "content-range"), content_range);
        assert_eq!(header(&part, "content-length"), body.len().to_string());
        assert_eq!(part.bytes().await.expect("a body"), body);
    }
    let beyond = served.request(Method::GET, "/live/0/1-0.ts", &[("range", "bytes=9-")]).await;
    assert_eq!((beyond.status(), header(&beyond, "content-range")), (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */9"));
    let head = served.request(Method::HEAD, "/live/0/1-0.ts", &[]).await;
    assert_eq!((head.status(), header(&head, "content-length")), (StatusCode::OK, "9"));
    assert_eq!(head.bytes().await.expect("no body"), "");
}

#[tokio::test]
async fn ranges_and_heads_of_playlists() {
    let served = Served::impatient(three_segments()).await;
    let whole = served.get("/live/index.m3u8").await.bytes().await.expect("a body");
    let part = served.request(Method::GET, "/live/index.m3u8", &[("range", "bytes=0-")]).await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.bytes().await.expect("a body"), whole);
    let head = served.request(Method::HEAD, "/live/index.m3u8", &[]).await;
    assert_eq!((head.status(), header(&head, "content-length")), (StatusCode::OK, whole.len().to_string().as_str()));
}

#[tokio::test]
async fn a_body_is_sent_on_as_its_chunks_come() {
    let (served, announcement) = serve_one(Patience { chunk: GENEROUS, ..Patience::default() }).await;
    let response = served.get("/live/0/1-0.ts").await;
    assert_eq!(header(&response, "content-length"), "9", "known before the first byte");
    let mut body = response.bytes_stream();
    for (index, chunk) in BODY.iter().enumerate() {
        samples::insert(&served.media, &announcement, index as u64, chunk);
        let arrived = timeout(GENEROUS, body.next()).await.expect("in time").expect("more").expect("bytes");
        assert_eq!(arrived, *chunk);
    }
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn a_body_whose_chunk_does_not_come_is_seen_as_broken() {
    let (served, announcement) = serve_one(Patience { chunk: Duration::from_millis(20), ..Patience::default() }).await;
    samples::insert(&served.media, &announcement, 0, BODY[0]);
    for range in [None, Some(("range", "bytes=0-")), Some(("range", "bytes=1-7"))] {
        let response = served.request(Method::GET, "/live/0/1-0.ts", range.as_slice()).await;
        assert!(response.status().is_success());
        assert!(response.bytes().await.is_err(), "short, and looks whole: {range:?}");
    }
    let present = served.request(Method::GET, "/live/0/1-0.ts", &[("range", "bytes=0-2")]).await;
    assert_eq!(present.bytes().await.expect("a body"), "abc");
}

#[tokio::test]
async fn a_segment_that_is_removed_while_awaited_is_seen_as_broken() {
    let (served, _) = serve_one(Patience { chunk: GENEROUS, ..Patience::default() }).await;
    let response = served.get("/live/0/1-0.ts").await;
    for number in 1..60 {
        served.media.announce(Arc::new(samples::announcement(1, number)), Bytes::new());
    }
    assert!(timeout(GENEROUS, response.bytes()).await.expect("at once").is_err());
    assert_eq!(served.get("/live/0/1-0.ts").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn init_sections() {
    let mut catalogue = samples::catalogue(1);
    catalogue.renditions[0].inits = vec![samples::init(3, b"\0\0\0\x08ftyp")];
    let served = Served::impatient(samples::media(catalogue)).await;
    let init = served.get("/live/0/init-1-3.mp4").await;
    assert_eq!(header(&init, "content-type"), "video/mp4");
    assert_eq!(init.bytes().await.expect("a body"), &b"\0\0\0\x08ftyp"[..]);
    assert_eq!(served.get("/live/0/init-1-4.mp4").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(served.get("/live/0/init-2-3.mp4").await.status(), StatusCode::NOT_FOUND);
}
