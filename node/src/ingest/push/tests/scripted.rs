//! Encoders that do one thing after another.

use axum::http::header;
use futures::stream::poll_fn;
use reqwest::{Body, Client, Method, StatusCode};

use super::*;
use crate::ingest::pull::pushed::PLAYLIST_MAX;
use crate::ingest::samples::{boxed, chunks, init, manifest};

/// One TS segment; `fill` makes it differ.
fn ts(fill: u8) -> Vec<u8> {
    let mut packets = vec![fill; 376];
    (packets[0], packets[188]) = (0x47, 0x47);
    packets
}

fn playlist(sequence: u64, files: &[&str]) -> String {
    let files: String = files.iter().map(|file| format!("#EXTINF:1,\n{file}\n")).collect();
    format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n{files}")
}

impl Pushed {
    async fn put(&self, name: &str, body: impl Into<Body>) -> (StatusCode, String) {
        let sent = Client::new().put(self.url.join(name).unwrap()).body(body).send();
        let response = timeout(SOON, sent).await.unwrap().unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn puts(&self, name: &str, body: impl Into<Body>) {
        let (status, text) = self.put(name, body).await;
        assert_eq!(status, StatusCode::CREATED, "{name}: {text}");
    }
}

/// A request that is under way as long as chunks are sent.
fn streaming(url: Url) -> (mpsc::Sender<Vec<u8>>, JoinHandle<StatusCode>) {
    let (sender, mut chunks) = mpsc::channel::<Vec<u8>>(1);
    let body = poll_fn(move |context| chunks.poll_recv(context).map(|chunk| chunk.map(Ok::<_, io::Error>)));
    let sent = Client::new().put(url).body(Body::wrap_stream(body)).send();
    (sender, tokio::spawn(async move { sent.await.unwrap().status() }))
}

#[tokio::test]
async fn parts_come_while_the_segment_is_still_open() {
    let mut pushed = Pushed::begin().await;
    // In ffmpeg's order: the segment's request begins before anything says what it is.
    let pieces = chunks(0, 200, 3);
    let (segment, answer) = streaming(pushed.url.join("v0-1.m4s").unwrap());
    segment.send(pieces[0].clone()).await.unwrap();
    pushed.puts("m.mpd", manifest("first", 1)).await;
    pushed.puts("v0.mp4", init(0)).await;
    assert_eq!(pushed.shape().await.renditions[0].part_target, Some(Duration::from_millis(230)));
    for (index, piece) in (0..).zip(&pieces) {
        if index > 0 {
            segment.send(piece.clone()).await.unwrap();
        }
        let part = pushed.part().await;
        assert_eq!((part.index, part.body.as_ref()), (index, piece.as_slice()));
        assert!(!answer.is_finished());
    }
    drop(segment);
    assert_eq!(pushed.segment().await.body, pieces.concat());
    assert_eq!(timeout(SOON, answer).await.unwrap().unwrap(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_playlist_may_overtake_its_segment() {
    let mut pushed = Pushed::begin().await;
    pushed.puts("index.m3u8", playlist(4, &["4.ts"])).await;
    pushed.puts("4.ts", ts(4)).await;
    assert_eq!(pushed.shape().await.multivariant, None);
    assert_eq!(pushed.segment().await.body, ts(4));
    // A segment that no playlist lists isn't announced, and what is listed comes in the playlist's order.
    pushed.puts("6.ts", ts(6)).await;
    pushed.puts("unlisted.ts", ts(9)).await;
    pushed.puts("5.ts", ts(5)).await;
    pushed.puts("index.m3u8", playlist(4, &["4.ts", "5.ts", "6.ts"])).await;
    for number in [5, 6] {
        let segment = pushed.segment().await;
        assert_eq!((segment.number, segment.body.to_vec()), (number, ts(number as u8)));
        assert!(!segment.discontinuity);
    }
}

#[tokio::test]
async fn a_restart_under_the_same_names_is_a_discontinuity() {
    let mut pushed = Pushed::begin().await;
    for number in 0..2u8 {
        pushed.puts(&format!("{number}.ts"), ts(number)).await;
    }
    pushed.puts("index.m3u8", playlist(0, &["0.ts", "1.ts"]) + "#EXT-X-ENDLIST\n").await;
    pushed.shape().await;
    assert_eq!((pushed.segment().await.number, pushed.segment().await.number), (0, 1));
    pushed.puts("0.ts", ts(100)).await;
    pushed.puts("index.m3u8", playlist(0, &["0.ts"])).await;
    let segment = pushed.segment().await;
    assert_eq!((segment.number, segment.body.to_vec(), segment.discontinuity), (0, ts(100), true));
}

#[tokio::test]
async fn two_encoders_at_once() {
    let mut pushed = Pushed::begin().await;
    pushed.puts("7.ts", ts(7)).await;
    // Long enough to be alive throughout.
    let lasting = |text: String| text.replace("TARGETDURATION:1", "TARGETDURATION:600");
    pushed.puts("index.m3u8", lasting(playlist(7, &["7.ts"]))).await;
    pushed.shape().await;
    pushed.segment().await;
    pushed.puts("0.ts", ts(0)).await;
    let (status, text) = pushed.put("index.m3u8", lasting(playlist(0, &["0.ts"]))).await;
    assert_eq!((status, text.contains("another encoder is pushing")), (StatusCode::CONFLICT, true), "{text}");
    let (status, text) = pushed.put("other.m3u8", lasting(playlist(0, &["0.ts"]))).await;
    assert_eq!((status, text.contains("master_pl_name")), (StatusCode::CONFLICT, true), "{text}");
    let (status, text) = pushed.put("m.mpd", manifest("first", 1)).await;
    assert_eq!((status, text.contains("index.m3u8")), (StatusCode::CONFLICT, true), "{text}");
    pushed.puts("8.ts", ts(8)).await;
    pushed.puts("index.m3u8", lasting(playlist(7, &["7.ts", "8.ts"]))).await;
    let segment = pushed.segment().await;
    assert_eq!((segment.number, segment.discontinuity), (8, false));
}

#[tokio::test]
async fn another_form_goes_on_with_a_discontinuity() {
    let mut pushed = Pushed::begin().await;
    pushed.puts("7.ts", ts(7)).await;
    pushed.puts("index.m3u8", playlist(7, &["7.ts"]) + "#EXT-X-ENDLIST\n").await;
    pushed.shape().await;
    pushed.segment().await;
    pushed.puts("m.mpd", manifest("first", 1)).await;
    pushed.puts("v0.mp4", init(0)).await;
    pushed.puts("v0-1.m4s", chunks(0, 200, 2).concat()).await;
    assert_eq!(pushed.shape().await.renditions[0].extension, "m4s");
    let breaks = [pushed.part().await.discontinuity, pushed.part().await.discontinuity];
    assert_eq!((breaks, pushed.segment().await.discontinuity), ([true, true], true));
}

#[tokio::test]
async fn keys_and_methods() {
    let pushed = Pushed::begin().await;
    let client = Client::new();
    let mut url = pushed.url.clone();
    url.set_path("/ingest/wrong-key-entirely/index.m3u8");
    let response = client.put(url.clone()).body("x").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Basic"));
    assert!(!response.text().await.unwrap().contains(KEY));
    url.set_path("/ingest/seg.ts");
    assert_eq!(client.put(url.clone()).body(ts(1)).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let basic = client.put(url.clone()).basic_auth("anybody", Some(KEY)).body(ts(1)).send().await.unwrap();
    assert_eq!(basic.status(), StatusCode::CREATED);
    let bearer = client.post(url.clone()).bearer_auth(KEY).body(ts(1)).send().await.unwrap();
    assert_eq!(bearer.status(), StatusCode::CREATED);
    for (method, status) in [(Method::DELETE, StatusCode::NO_CONTENT), (Method::GET, StatusCode::METHOD_NOT_ALLOWED)] {
        let request = client.request(method.clone(), pushed.url.join("seg.ts").unwrap());
        assert_eq!(request.send().await.unwrap().status(), status, "{method}");
    }
    url.set_path("/elsewhere");
    assert_eq!(client.put(url).body("x").send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nonsense_is_answered_with_what_is_wrong() {
    let mut pushed = Pushed::begin().await;
    let page = "<!DOCTYPE html><html>oops</html>";
    for (name, body, status, says) in [
        ("index.m3u8", page.as_bytes().to_vec(), 422, "not an HLS playlist"),
        ("index.m3u8", vec![0xff; 50], 422, "not text"),
        ("m.mpd", page.as_bytes().to_vec(), 422, "not a DASH manifest"),
        ("0.ts", page.as_bytes().to_vec(), 422, "not media"),
        ("0.ts", Vec::new(), 422, "empty"),
        ("a%20b.ts", ts(0), 400, "no name for a file"),
        ("a//b.ts", ts(0), 400, "no name for a file"),
        ("big.m3u8", vec![b'#'; PLAYLIST_MAX + 1], 413, "larger than"),
        ("init.mp4", [init(0).to_vec(), boxed(b"free", &[0; 20_000])].concat(), 413, "larger than"),
    ] {
        let (got, text) = pushed.put(name, body).await;
        assert_eq!((got.as_u16(), text.contains(says)), (status, true), "{name}: {text}");
    }
    // A segment of a stream that is known, but no CMAF.
    pushed.puts("m.mpd", manifest("first", 1)).await;
    pushed.puts("v0.mp4", init(0)).await;
    let (got, text) = pushed.put("v0-1.m4s", page).await;
    assert_eq!((got.as_u16(), text.contains("not fragmented MP4")), (422, true), "{text}");
    pushed.puts("v0-1.m4s", chunks(0, 200, 2).concat()).await;
    pushed.shape().await;
    assert!(!pushed.part().await.discontinuity);
}
