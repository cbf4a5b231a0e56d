//! Who may do what.

use super::*;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn only_names_of_this_machine_are_served() {
    let served = Served::impatient(three_segments()).await;
    let port = served.address.port();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}"), "localhost".into()]
    {
        for path in ["/", "/live/index.m3u8", "/api/stats", "/healthz"] {
            assert_eq!(served.status_for_host(path, &host).await, "HTTP/1.1 200 OK", "{host} {path}");
        }
    }
    for host in [format!("evil.example:{port}"), "evil.example".into(), format!("192.168.1.9:{port}"), String::new()] {
        for path in ["/", "/live/index.m3u8", "/api/stats", "/nothing"] {
            assert_eq!(served.status_for_host(path, &host).await, "HTTP/1.1 421 Misdirected Request", "{host} {path}");
        }
    }
}

#[tokio::test]
async fn the_page_switches_sharing() {
    let mut served = Served::impatient(three_segments()).await;
    let headers = [JSON, ("sec-fetch-site", "same-origin")];
    assert_eq!(served.switch(r#"{"enabled":false}"#, &headers).await, StatusCode::OK);
    assert_eq!(served.commands.recv().await, Some(Command::Upload { enabled: false }));
    let origin = served.url("");
    assert_eq!(served.switch(r#"{"enabled":true}"#, &[JSON, ("origin", &origin)]).await, StatusCode::OK);
    assert_eq!(served.commands.recv().await, Some(Command::Upload { enabled: true }));
    assert_eq!(served.switch(r#"{"enabled":true}"#, &[JSON]).await, StatusCode::OK, "from a command line");
    assert_eq!(served.switch(r#"{"enabled":true}"#, &[JSON]).await, StatusCode::SERVICE_UNAVAILABLE, "nobody listens");
}

#[tokio::test]
async fn other_sites_can_switch_nothing() {
    let mut served = Served::impatient(three_segments()).await;
    let other_port = format!("http://127.0.0.1:{}", served.address.port() ^ 1);
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "none"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", other_port.as_str()),
    ];
    for header in foreign {
        assert_eq!(served.switch(r#"{"enabled":true}"#, &[JSON, header]).await, StatusCode::FORBIDDEN, "{header:?}");
    }
    for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let status = served.switch(r#"{"enabled":true}"#, &[("content-type", form)]).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{form}");
    }
    for body in ["", "{}", "true", r#"{"enabled":"yes"}"#] {
        assert_eq!(served.switch(body, &[JSON]).await, StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(served.get("/api/upload").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(served.commands.try_recv().is_err());
}

#[tokio::test]
async fn pages_of_other_sites_may_read_media_and_nothing_else() {
    let served = Served::impatient(three_segments()).await;
    for path in ["/live/index.m3u8", "/live/0/index.m3u8", "/live/0/1-1.ts", "/live/0/1-99.ts"] {
        assert_eq!(header(&served.get(path).await, "access-control-allow-origin"), "*", "{path}");
        let preflight = served.request(Method::OPTIONS, path, &[]).await;
        assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
        assert!(header(&preflight, "access-control-allow-headers").contains("range"));
    }
    for path in ["/", "/api/stats", "/metrics", "/player.js", "/nothing"] {
        assert_eq!(header(&served.get(path).await, "access-control-allow-origin"), "", "{path}");
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_but_keys() {
    let served = Served::impatient(three_segments()).await;
    let page = served.get("/").await;
    let policy = header(&page, "content-security-policy");
    assert!(policy.starts_with("default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:;"), "{policy}");
    assert!(policy.ends_with("connect-src 'self' https: http://origin.example:8080"), "{policy}");
    let page = page.text().await.expect("text");
    assert!(!page.contains("http://") && !page.contains("https://"), "the page links to other servers");
    for asset in ["/player.js", "/style.css", "/icon.svg"] {
        assert!(page.contains(asset));
        assert_eq!(served.get(asset).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn figures() {
    let served = Served::impatient(three_segments()).await;
    served.stats.send_modify(|stats| stats.stream = "Birds".into());
    let stats = served.get("/api/stats").await;
    assert_eq!(header(&stats, "content-type"), "application/json");
    let stats: serde_json::Value = serde_json::from_slice(&stats.bytes().await.expect("a body")).expect("JSON");
    assert_eq!(stats["stream"], "Birds");
    assert_eq!(stats["lag_seconds"], serde_json::Value::Null);
    let metrics = served.get("/metrics").await;
    assert!(header(&metrics, "content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    assert_eq!(metrics.text().await.expect("text"), "# EOF\n");
    assert_eq!(served.get("/healthz").await.text().await.expect("text"), "ok\n");
}

#[tokio::test]
async fn it_ends_when_told_though_a_body_is_under_way() {
    let media = three_segments();
    media.announce(Arc::new(samples::announcement(1, 4)), Bytes::new());
    let mut served = Served::start(media, Patience::default()).await;
    let waiting = served.get("/live/0/1-4.ts").await;
    assert_eq!(waiting.status(), StatusCode::OK);
    served.stop.take().expect("running").send(()).expect("running");
    let refused = async { while TcpStream::connect(served.address).await.is_ok() {} };
    timeout(GENEROUS, refused).await.expect("ends though the body waits for its chunk");
}
