use std::net::SocketAddr;

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::hls::samples;
use crate::hls::samples::encoded::{Encoded, FRAMES, read_with_ffmpeg};

struct Running {
    address: SocketAddr,
    served: Served,
}

impl Running {
    async fn start(media: Arc<Media>) -> Self {
        let served = Served::default();
        let mut registry = Registry::default();
        served.register(&mut registry);
        let metrics: Metrics = Arc::new(move |text| prometheus_client::encoding::text::encode(text, &registry));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(OriginServer::new(media, metrics, served.clone()).serve(listener, std::future::pending()));
        Self { address, served }
    }

    async fn request(&self, method: Method, path: &str, range: Option<&str>) -> reqwest::Response {
        let request = reqwest::Client::new().request(method, format!("http://{}{path}", self.address));
        range
            .into_iter()
            .fold(request, |request, range| request.header("range", range))
            .send()
            .await
            .expect("a response")
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.request(Method::GET, path, None).await
    }
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn media_with(count: u64) -> Arc<Media> {
    let media = samples::media(samples::catalogue(1));
    (1..=count).for_each(|number| samples::add(&media, samples::announcement(1, number)));
    media
}

#[tokio::test]
async fn complete_segments_are_listed_and_others_do_not_exist() {
    let media = media_with(3);
    media.announce(Arc::new(samples::announcement(1, 4)), Bytes::new());
    let origin = Running::start(media).await;
    let playlist = origin.get("/index.m3u8").await;
    assert_eq!(header(&playlist, "content-type"), "application/vnd.apple.mpegurl");
    assert_eq!(header(&playlist, "cache-control"), "public, max-age=1");
    assert!(playlist.text().await.expect("text").ends_with("\n0/1-3.ts\n"));
    assert!(origin.get("/0/index.m3u8").await.text().await.expect("text").ends_with("\n1-3.ts\n"));
    assert_eq!(origin.get("/0/1-3.ts").await.status(), StatusCode::OK);
    for path in ["/0/1-4.ts", "/0/1-5.ts", "/1/index.m3u8", "/x", "/0/x", "/live/index.m3u8"] {
        let answer = origin.get(path).await;
        assert_eq!((answer.status(), header(&answer, "cache-control")), (StatusCode::NOT_FOUND, "no-store"), "{path}");
    }
}

#[tokio::test]
async fn statements_are_there_for_viewers_to_begin_with() {
    let media = media_with(3);
    let origin = Running::start(media.clone()).await;
    let link = format!("http://{}/index.m3u8", origin.address).parse().expect("a URL");
    let viewers = crate::origin::Origin::new(link).expect("a client");
    for rendition in [None, Some(RenditionId(0)), Some(RenditionId(7))] {
        let told = viewers.fetch_statements(rendition).await.expect("an answer").expect("a broadcaster's server");
        assert_eq!(told, media.newest(rendition, None, None), "{rendition:?}");
    }
    let answer = origin.get("/0/statements.cbor").await;
    assert_eq!(
        (header(&answer, "content-type"), header(&answer, "cache-control")),
        ("application/cbor", "public, max-age=1")
    );
    assert_eq!(origin.get("/x/statements.cbor").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn segments_may_be_kept_and_read_by_everybody() {
    let origin = Running::start(media_with(3)).await;
    let segment = origin.get("/0/1-2.ts").await;
    assert_eq!(header(&segment, "cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(header(&segment, "access-control-allow-origin"), "*");
    assert_eq!(header(&segment, "content-type"), "video/mp2t");
    let preflight = origin.request(Method::OPTIONS, "/0/1-2.ts", None).await;
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&preflight, "access-control-allow-origin"), "*");
}

#[tokio::test]
async fn exactly_the_bytes_of_segments_are_counted() {
    let origin = Running::start(media_with(3)).await;
    for path in ["/index.m3u8", "/0/index.m3u8", "/0/1-9.ts", "/healthz", "/metrics"] {
        origin.get(path).await.bytes().await.expect("a body");
    }
    origin.request(Method::HEAD, "/0/1-1.ts", None).await;
    origin.request(Method::GET, "/0/1-1.ts", Some("bytes=5-")).await;
    assert_eq!(origin.served.media_bytes.get(), 0);
    assert_eq!(origin.served.playlist_requests.get(), 2);
    assert_eq!(origin.get("/0/1-1.ts").await.bytes().await.expect("a body"), "abc");
    assert_eq!(origin.served.media_bytes.get(), 3);
    let part = origin.request(Method::GET, "/0/1-1.ts", Some("bytes=1-1")).await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.bytes().await.expect("a body"), "b");
    assert_eq!(origin.served.media_bytes.get(), 4);
    let metrics = origin.get("/metrics").await.text().await.expect("text");
    assert!(metrics.contains("\nhttp_media_bytes_total 4\n"), "{metrics}");
}

#[tokio::test]
async fn before_the_first_segment_the_answer_is_to_try_again() {
    let origin = Running::start(Arc::new(Media::new(Duration::from_secs(60), 1 << 20))).await;
    for path in ["/index.m3u8", "/0/index.m3u8"] {
        let answer = origin.get(path).await;
        assert_eq!((answer.status(), header(&answer, "retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    }
    assert_eq!(origin.get("/healthz").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn garbage_is_refused_and_the_next_request_served() {
    let origin = Running::start(media_with(3)).await;
    for garbage in ["\x16\x03\x01\0\0", "GET\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(origin.address).await.expect("a connection");
        stream.write_all(garbage.as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{garbage:?}");
    }
    assert_eq!(origin.get("/0/1-2.ts").await.status(), StatusCode::OK);
}

async fn ffmpeg_reads(encoded: Encoded) {
    let media = encoded.begun(3);
    let origin = Running::start(media.clone()).await;
    let url = format!("http://{}/index.m3u8", origin.address);
    let ((frames, complaints), ()) = tokio::join!(read_with_ffmpeg(&url), encoded.go_on(&media, 3));
    assert_eq!(complaints, "");
    assert_eq!(frames, encoded.segments.len() * FRAMES);
    let sent: u64 = encoded.segments.iter().map(|segment| segment.body.len() as u64).sum();
    assert!(origin.served.media_bytes.get() >= sent);
    let last = encoded.segments.last().expect("segments");
    let name = format!("/0/{}", name::segment((last.announcement.epoch, last.announcement.segment), encoded.extension));
    assert_eq!(origin.get(&name).await.bytes().await.expect("a body"), last.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_reads_a_live_transport_stream_without_a_warning() {
    ffmpeg_reads(Encoded::transport_stream(6)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_reads_live_fragmented_mp4_without_a_warning() {
    ffmpeg_reads(Encoded::fragmented_mp4(6)).await;
}
