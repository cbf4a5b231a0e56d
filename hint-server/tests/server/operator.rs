//! What the operator sees: pages, messages, the program itself.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use crate::support::{Running, Viewer, config, request};
use starling_hint_server::start;

#[tokio::test]
async fn pages_metrics_and_health_answer() {
    let server = Running::new(|_| {}).await;
    Viewer::new(&server.addresses[0]).ask(request("eu")).await;
    for (path, expected) in [("/healthz", "ok"), ("/readyz", "ready"), ("/", "Starling hint server")] {
        let (code, body) = server.page(path).await;
        assert!(code == 200 && body.contains(expected), "{path}: {code} {body}");
    }
    assert!(!server.page("/").await.1.contains("https://"), "the page needs nothing from elsewhere");
    let (code, metrics) = server.page("/metrics").await;
    assert_eq!(code, 200);
    for name in [
        "starling_hint_requests_total{result=\"answered\"}",
        "starling_hint_connections",
        "starling_hint_answer_seconds",
    ] {
        assert!(metrics.contains(name), "{name} is not in {metrics}");
    }
    let (code, body) = server.page("/nowhere").await;
    assert!(code == 404 && body.contains("/metrics"));
}

#[tokio::test]
async fn mistakes_are_explained() {
    let server = Running::new(|_| {}).await;
    let dir = tempfile::tempdir().expect("a directory");
    let base = config(dir.path());
    let taken = |address: &str| address.split("/p2p/").next().expect("first").parse().expect("printed");
    let wrong = [
        (starling_hint_server::Config { listen: vec![taken(&server.addresses[0])], ..base.clone() }, "--listen"),
        (starling_hint_server::Config { listen: vec![taken(&server.addresses[1])], ..base.clone() }, "--listen"),
        (
            starling_hint_server::Config {
                listen: vec!["/ip4/192.0.2.1/tcp/0".parse().expect("valid")],
                ..base.clone()
            },
            "--listen",
        ),
        (
            starling_hint_server::Config {
                http: server.http[7..].trim_end_matches('/').parse().expect("printed"),
                ..base.clone()
            },
            "--http",
        ),
        (starling_hint_server::Config { geoip: Some("Cargo.toml".into()), ..base.clone() }, ".mmdb"),
        (starling_hint_server::Config { geoip_asn: Some("missing.mmdb".into()), ..base.clone() }, "missing.mmdb"),
        (starling_hint_server::Config { data_dir: Some("Cargo.toml".into()), ..base.clone() }, "Cargo.toml"),
    ];
    for (config, advice) in wrong {
        let Err(error) = start(config).await else { panic!("started in spite of a wrong {advice}") };
        assert!(error.to_string().contains(advice), "{error}");
    }
    assert!(start(base).await.is_ok(), "failed starts leave nothing locked");
}

#[cfg(unix)]
#[test]
fn the_program_says_where_it_is_and_ends_when_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = spawn(dir.path());
    let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    let hint = lines.next().expect("a line");
    assert!(hint.starts_with("hint /ip4/127.0.0.1/udp/") && hint.contains("/quic-v1/p2p/12D3Koo"), "{hint}");
    let http = lines.next().expect("a line");
    assert!(http.starts_with("http http://127.0.0.1:") && http.ends_with('/'), "{http}");

    let second = spawn(dir.path()).wait_with_output().expect("ran");
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && error.contains("another hint server uses"), "{error}");
    assert!(second.stdout.is_empty());

    let killed = Command::new("kill").arg(server.id().to_string()).status().expect("kill exists");
    assert!(killed.success());
    assert!(server.wait().expect("ended").success(), "SIGTERM is a clean end");
    let mut log = String::new();
    server.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
    assert!(log.contains("stopped"), "{log}");
    assert_eq!(lines.next(), None, "nothing else on standard output");

    let mut again = spawn(dir.path());
    let line = BufReader::new(again.stdout.take().expect("piped")).lines().next().expect("a line").expect("text");
    assert_eq!(line.rsplit('/').next(), hint.rsplit('/').next(), "the same name after a restart");
    again.kill().expect("ours");
    again.wait().expect("ended");
}

fn spawn(dir: &std::path::Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_starling-hint-server"))
        .args(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("built by cargo")
}
