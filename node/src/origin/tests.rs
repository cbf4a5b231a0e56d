//! Against a real HTTP server on loopback.

pub(crate) mod server;

use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::time::timeout;

use self::server::{Answer, TestServer};
use super::*;

fn body(len: usize) -> Bytes {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

fn place(segment: &str, len: u64) -> Place<'_> {
    Place { playlist: "video/index.m3u8", segment, offset: 0, len: Some(len) }
}

async fn origin(server: &TestServer) -> Origin {
    // Async so that the client is made within the runtime, as in production.
    std::future::ready(Origin::new(server.url("/live/master.m3u8")).unwrap()).await
}

async fn fetched(origin: &Origin, place: &Place<'_>, range: Range<u64>) -> Result<Vec<u8>, FetchError> {
    let mut got = Vec::new();
    let fetch = origin.fetch(place, range, |piece| got.extend_from_slice(&piece));
    timeout(Duration::from_secs(30), fetch).await.unwrap()?;
    Ok(got)
}

#[tokio::test]
async fn ranges_and_wholes_are_exact() {
    let server = TestServer::start().await;
    let whole = body(300_000);
    server.put("/live/video/1.ts", Answer::Body(whole.clone()));
    let origin = origin(&server).await;
    let place = place("1.ts", 300_000);
    assert_eq!(fetched(&origin, &place, 0..300_000).await.unwrap(), whole);
    assert_eq!(fetched(&origin, &place, 131_072..262_144).await.unwrap(), whole[131_072..262_144]);
    assert_eq!(fetched(&origin, &place, 299_999..300_000).await.unwrap(), whole[299_999..]);
    assert_eq!(fetched(&origin, &place, 7..7).await.unwrap(), b"");
    let ranges: Vec<_> = server.requests().into_iter().map(|(_, range)| range).collect();
    assert_eq!(ranges, [None, Some("bytes=131072-262143".into()), Some("bytes=299999-299999".into())]);
}

#[tokio::test]
async fn statements_are_asked_of_a_broadcasters_server_only_and_nonsense_is_told_apart() {
    let server = TestServer::start().await;
    server.put("/live/master.m3u8", Answer::Body(body(10)));
    assert_eq!(origin(&server).await.fetch_statements(None).await, Ok(None));
    assert_eq!(origin(&server).await.fetch_statements(Some(RenditionId(0))).await, Ok(None));
    assert_eq!(server.requests().len(), 1, "what the link names, once");
    let broadcaster = Origin::new(server.url("/live/index.m3u8")).unwrap();
    assert_eq!(broadcaster.fetch_statements(None).await, Err(FetchError::Gone(404)));
    for nonsense in [Bytes::new(), body(10), body(100_000)] {
        server.put("/live/0/statements.cbor", Answer::Body(nonsense));
        let told = broadcaster.fetch_statements(Some(RenditionId(0))).await;
        assert_eq!(told, Err(FetchError::NoStatements));
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_read_past() {
    let server = TestServer::start().await;
    let whole = body(100_000);
    server.put("/live/video/1.ts", Answer::IgnoresRange(whole.clone()));
    let origin = origin(&server).await;
    assert_eq!(fetched(&origin, &place("1.ts", 100_000), 50_000..60_000).await.unwrap(), whole[50_000..60_000]);
}

#[tokio::test]
async fn a_segment_within_a_larger_file_is_found_by_its_offset() {
    let server = TestServer::start().await;
    let file = body(50_000);
    server.put("/live/video/all.mp4", Answer::Body(file.clone()));
    let origin = origin(&server).await;
    let second = Place { offset: 20_000, ..place("all.mp4", 10_000) };
    assert_eq!(fetched(&origin, &second, 0..10_000).await.unwrap(), file[20_000..30_000]);
    assert_eq!(fetched(&origin, &second, 100..200).await.unwrap(), file[20_100..20_200]);
    // The first one looks like a whole file until the answer turns out longer.
    assert_eq!(fetched(&origin, &place("all.mp4", 20_000), 0..20_000).await.unwrap(), file[..20_000]);
    assert_eq!(server.requests().last().unwrap().1.as_deref(), Some("bytes=0-19999"));
}

#[tokio::test]
async fn what_is_not_the_segment_is_an_error() {
    let server = TestServer::start().await;
    let origin = origin(&server).await;
    let whole = body(1000);
    let cases = [
        (Answer::Status(404), FetchError::Gone(404)),
        (Answer::Status(410), FetchError::Gone(410)),
        (Answer::Status(500), FetchError::Status(500)),
        (Answer::Status(403), FetchError::Status(403)),
        (Answer::Status(304), FetchError::Status(304)),
        (Answer::Typed("text/html; charset=utf-8", whole.clone()), FetchError::Html),
        (Answer::Body(whole.slice(..400)), FetchError::WrongLength { wanted: 900, got: 400 }),
        (Answer::Body(whole.slice(..50)), FetchError::WrongLength { wanted: 900, got: 50 }),
        (Answer::Range("bytes 500-999/1000", whole.clone()), FetchError::WrongLength { wanted: 900, got: 500 }),
        (Answer::Range("bytes 100-499/1000", whole.slice(100..500)), FetchError::WrongLength { wanted: 900, got: 500 }),
    ];
    for (answer, error) in cases {
        server.put("/live/video/1.ts", answer);
        assert_eq!(fetched(&origin, &place("1.ts", 1000), 100..900).await, Err(error));
    }
    // A server may send more than asked for, if it says so.
    server.put("/live/video/1.ts", Answer::Range("bytes 50-999/1000", whole.slice(50..)));
    assert_eq!(fetched(&origin, &place("1.ts", 1000), 100..900).await.unwrap(), whole[100..900]);
}

#[tokio::test]
async fn silence_and_broken_transfers_end() {
    let server = TestServer::start().await;
    let origin = origin(&server).await;
    server.put("/live/video/1.ts", Answer::BreaksOff(body(500)));
    let broken = fetched(&origin, &place("1.ts", 600), 0..600).await;
    assert!(matches!(broken, Err(FetchError::Broken(_))), "{broken:?}");
    server.put("/live/video/1.ts", Answer::Stalls(body(500)));
    let mut got = 0;
    let stalled = origin.fetch(&place("1.ts", 600), 0..600, |piece| got += piece.len()).await;
    assert_eq!((stalled, got), (Err(FetchError::Silent), 500));
}

#[tokio::test]
async fn nobody_there_is_an_error() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let origin = Origin::new(Url::parse(&format!("http://127.0.0.1:{port}/x.m3u8")).unwrap()).unwrap();
    let refused = fetched(&origin, &place("1.ts", 600), 0..600).await;
    assert!(matches!(&refused, Err(FetchError::Connect(reason)) if reason.contains("refused")), "{refused:?}");
    assert!(matches!(Origin::new(Url::parse("ftp://host/").unwrap()), Err(OriginError::Scheme(_))));
}

#[tokio::test]
async fn playlists_and_keys_come_whole_with_their_address() {
    let server = TestServer::start().await;
    let origin = origin(&server).await;
    server.text("/live/master.m3u8", "#EXTM3U");
    server.put("/live/key", Answer::Redirect("/keys/7".into()));
    server.put("/keys/7", Answer::Body(body(16)));
    server.put("/live/huge", Answer::Body(vec![0; WHOLE_MAX as usize + 1].into()));
    assert_eq!(origin.fetch_whole("").await.unwrap().body, "#EXTM3U");
    let key = origin.fetch_whole("key").await.unwrap();
    assert_eq!((key.body, key.url), (body(16), server.url("/keys/7")));
    assert_eq!(origin.fetch_whole("huge").await, Err(FetchError::TooLarge(WHOLE_MAX)));
    assert_eq!(origin.fetch_whole("absent").await, Err(FetchError::Gone(404)));
}

#[tokio::test]
async fn redirects_are_followed_but_not_for_ever() {
    let server = TestServer::start().await;
    let origin = origin(&server).await;
    for hop in 0..9 {
        server.put(&format!("/hop/{hop}"), Answer::Redirect(format!("{}", hop + 1)));
    }
    server.put("/hop/9", Answer::Body(body(100)));
    assert_eq!(fetched(&origin, &place("/hop/6", 100), 0..100).await.unwrap(), body(100));
    assert_eq!(fetched(&origin, &place("/hop/5", 100), 0..100).await, Err(FetchError::Redirects));
}

#[tokio::test]
async fn a_stream_cant_reach_into_the_viewers_network() {
    let (server, victim) = (TestServer::start().await, TestServer::start().await);
    let origin = origin(&server).await;
    let port = victim.address.port();
    server.put("/live/video/jump", Answer::Redirect(format!("http://127.0.0.1:{port}/secret")));
    server.put("/live/video/name", Answer::Redirect(format!("http://localhost:{port}/secret")));
    for uri in [
        "jump".to_owned(),
        "name".to_owned(),
        format!("http://127.0.0.1:{port}/secret"),
        format!("//127.0.0.1:{port}/secret"),
        format!("http://localhost:{port}/secret"),
        format!("http://[::1]:{port}/secret"),
        format!("http://[::ffff:127.0.0.1]:{port}/secret"),
        format!("http://0:{port}/secret"),
        format!("http://017700000001:{port}/secret"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        format!("https://127.0.0.1:{}/", server.address.port() ^ 1),
    ] {
        assert_eq!(fetched(&origin, &place(&uri, 10), 0..10).await, Err(FetchError::Forbidden), "{uri}");
        let by_playlist = Place { playlist: &uri, ..place("x", 10) };
        let by_playlist = fetched(&origin, &by_playlist, 0..10).await;
        // A relative one stays at the link's origin, which doesn't have it.
        let expected =
            if uri.contains(':') || uri.starts_with("//") { FetchError::Forbidden } else { FetchError::Gone(404) };
        assert_eq!(by_playlist, Err(expected), "{uri}");
    }
    for uri in ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,hello", "http://"] {
        assert_eq!(fetched(&origin, &place(uri, 10), 0..10).await, Err(FetchError::BadUri), "{uri}");
    }
    assert_eq!(victim.requests(), []);
}

#[tokio::test]
async fn at_most_six_requests_at_once() {
    let server = TestServer::start().await;
    let origin = origin(&server).await;
    let paths: Vec<String> = (0..10).map(|n| format!("/held/{n}")).collect();
    for path in &paths {
        server.put(path, Answer::Held);
    }
    let fetches = paths.iter().map(|path| origin.fetch_whole(path));
    let release = async {
        while server.requests().len() < REQUESTS_MAX {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for path in &paths {
            server.put(path, Answer::Body(body(5)));
        }
    };
    let (results, ()) = futures::join!(futures::future::join_all(fetches), release);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!((server.requests().len(), server.most_at_once()), (10, REQUESTS_MAX));
}
