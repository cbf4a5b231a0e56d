//! What people and servers get wrong: each time a clear message that says what to do, never a panic, a hang or silence.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use axum::Router;
use axum::extract::Path as Segment;
use axum::response::{Html, IntoResponse as _};
use axum::routing::get;
use starling_tests::fleet::{
    Binaries, Broadcast, BroadcastOptions, Common, Fleet, Program, SEGMENTS_FOR_PLAYERS, WatchOptions,
};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

/// No event takes longer, on any machine this runs on.
const PATIENCE: Duration = Duration::from_secs(90);
/// SIGTERM ends each program within this.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Well formed, and nobody's.
const LINK: &str = "starling://12D3KooWKqxzb7x8VjmT9k4R5YRFvs7ne65PWsg74yxpUYhoDutW/live?origin=http%3A%2F%2F127.0.0.1%3A1%2Flive.m3u8";

#[tokio::test(flavor = "multi_thread")]
async fn links_that_are_none() -> Result<()> {
    let fleet = fleet()?;
    let whole = LINK.len();
    for (link, says) in [
        ("garbage", "it must begin with starling://"),
        ("starling://abc/x?origin=http://a/", "copy the link again, whole"),
        (&LINK[..40], "the link's stream key is damaged"),
        (&LINK[..whole - 40], "no usable origin address"),
    ] {
        refused(fleet.watch(link, &WatchOptions::default()).await, &[says])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn options_and_inputs_that_are_none() -> Result<()> {
    let fleet = fleet()?;
    let options = WatchOptions { upload_limit: Some("fast".into()), ..WatchOptions::default() };
    refused(fleet.watch(LINK, &options).await, &["\"fast\" is not a rate; write 1100k"])?;
    let options =
        BroadcastOptions { hints: vec!["/ip4/127.0.0.1/udp/1/quic-v1".into()], ..BroadcastOptions::default() };
    refused(fleet.broadcast("test", &options).await, &["a hint server's address ends in /p2p/"])?;
    refused(
        fleet.broadcast("holiday.mp4", &BroadcastOptions::default()).await,
        &["INPUT must be `test`, `push` or the http(s) address", "holiday.mp4"],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_in_use() -> Result<()> {
    let fleet = fleet()?;
    let tcp = std::net::TcpListener::bind("127.0.0.1:0")?;
    let udp = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let (tcp, udp) = (tcp.local_addr().map(|at| (at, tcp))?, udp.local_addr().map(|at| (at, udp))?);
    let http = Common { http: Some(tcp.0.to_string()), ..Common::default() };
    let listen_tcp = Common { listen: Some(format!("/ip4/127.0.0.1/tcp/{}", tcp.0.port())), ..Common::default() };
    let listen_udp =
        Common { listen: Some(format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.0.port())), ..Common::default() };
    for (common, option) in [(http, "--http"), (listen_tcp, "--listen"), (listen_udp, "--listen")] {
        let says = ["port", option];
        let options = BroadcastOptions { common: common.clone(), ..BroadcastOptions::default() };
        refused(fleet.broadcast("test", &options).await, &says)?;
        let options = WatchOptions { common: common.clone(), ..WatchOptions::default() };
        refused(fleet.watch(LINK, &options).await, &says)?;
        refused(fleet.hint_server(&common).await, &says)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directories_in_use() -> Result<()> {
    let fleet = fleet()?;
    let options = WatchOptions { common: Common::named("one"), ..WatchOptions::default() };
    let _first = fleet.watch(LINK, &options).await?;
    refused(fleet.watch(LINK, &options).await, &["another starling uses", "--data-dir"])?;
    let common = Common::named("hints");
    let _first = fleet.hint_server(&common).await?;
    refused(fleet.hint_server(&common).await, &["another hint server uses", "--data-dir"])
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_exposed_or_damaged() -> Result<()> {
    let fleet = fleet()?;
    let data = fleet.directory().join("one.data");
    fs::create_dir(&data)?;
    let key = data.join("stream.key");
    fs::write(&key, "not a key")?;
    let options = BroadcastOptions { common: Common::named("one"), ..BroadcastOptions::default() };
    for (mode, says) in [(0o644, "chmod 600"), (0o600, "is not a Starling key; move it away")] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode))?;
        refused(fleet.broadcast("test", &options).await, &[says, "stream.key"])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_no_directory() -> Result<()> {
    let fleet = fleet()?;
    fs::write(fleet.directory().join("file.data"), "a file where the directory should be")?;
    let options = WatchOptions { common: Common::named("file"), ..WatchOptions::default() };
    refused(fleet.watch(LINK, &options).await, &["as data directory", "--data-dir"])?;
    let data = fleet.directory().join("full.data");
    fs::create_dir(&data)?;
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&data).status();
    if !mount.is_ok_and(|status| status.success()) {
        eprintln!("no full disk: only root can mount one");
        return Ok(());
    }
    // Fails when nothing more fits.
    let _ = fs::write(data.join("filler"), vec![1; 128 << 10]);
    let options = WatchOptions { common: Common::named("full"), ..WatchOptions::default() };
    let result = fleet.watch(LINK, &options).await;
    Command::new("umount").arg(&data).status()?;
    refused(result, &["can't use the key file", "No space left on device"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_origin_and_a_dead_broadcaster() -> Result<()> {
    let fleet = fleet()?;
    let mut viewer = fleet.watch(LINK, &WatchOptions::default()).await?;
    // Longer than the node makes a player wait.
    let answer = timeout(PATIENCE, reqwest::get(&viewer.playlist)).await.context("the playlist hangs")??;
    ensure!(answer.status() == 503, "the playlist answers {}", answer.status());
    let text = answer.text().await?;
    ensure!(text.contains("neither its origin nor a neighbour has answered"), "{text}");
    logs(&viewer.program, &["WARN", "nobody with this link's key answers", "can't load the playlist yet"]).await?;
    ends(&mut viewer.program).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_another_stream() -> Result<()> {
    let fleet = fleet()?;
    let broadcast = fleet.broadcast("test", &BroadcastOptions::default()).await?;
    broadcast.on_air(SEGMENTS_FOR_PLAYERS, PATIENCE).await?;
    let key = |link: &str| link.split('/').nth(2).map(str::to_owned).context("a link has a key");
    let link = broadcast.link.replace(&key(&broadcast.link)?, &key(LINK)?);
    let mut viewer = fleet.watch(&link, &WatchOptions::default()).await?;
    logs(&viewer.program, &["WARN", "nobody with this link's key answers", "the link is wrong"]).await?;
    ensure!(viewer.stats().await?.received.peers == 0, "took bytes from peers under a key that signed none");
    ends(&mut viewer.program).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_that_is_a_page() -> Result<()> {
    let origin = Origin::start(Segments::Good).await?;
    let fleet = fleet()?;
    let page = format!("{}/page.m3u8", origin.url);
    let error = match fleet.broadcast(&page, &BroadcastOptions::default()).await {
        // Ready lines come before the input is read.
        Ok(mut broadcast) => {
            let status = broadcast.program.wait(PATIENCE).await?;
            ensure!(!status.success(), "ended with success");
            broadcast.program.log()
        }
        Err(error) => error.to_string(),
    };
    clear(&error, &["it is not an HLS playlist", "check the URL"])
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_are_pages() -> Result<()> {
    let (_fleet, _origin, mut broadcast) = pulling(Segments::Pages).await?;
    logs(&broadcast.program, &["WARN", "skipped a segment", "page"]).await?;
    ends(&mut broadcast.program).await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_come_again_for_other_segments() -> Result<()> {
    let (_fleet, _origin, mut broadcast) = pulling(Segments::NamesAgain).await?;
    logs(&broadcast.program, &["WARN", "the encoder reuses file names", "use unique names"]).await?;
    ends(&mut broadcast.program).await
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_change_under_the_same_name() -> Result<()> {
    let (fleet, origin, broadcast) = pulling(Segments::Good).await?;
    logs(&broadcast.program, &["pulling"]).await?;
    origin.changed.store(true, Ordering::Relaxed);
    let mut viewer = fleet.watch(&broadcast.link, &WatchOptions::default()).await?;
    let playlist = viewer.playlist.clone();
    // A player that asks for whatever is listed.
    let player = tokio::spawn(async move {
        loop {
            if let Ok(answer) = reqwest::get(&playlist).await
                && let Ok(text) = answer.text().await
                && let Some(name) = text.lines().rev().find(|line| !line.is_empty() && !line.starts_with('#'))
                && let Some(base) = playlist.rfind('/')
            {
                let _ = reqwest::get(format!("{}/{name}", &playlist[..base])).await;
            }
            sleep(Duration::from_millis(200)).await;
        }
    });
    let give_up = Instant::now() + PATIENCE;
    while viewer.stats().await?.rejected_chunks == 0 {
        ensure!(Instant::now() < give_up, "no chunk was rejected; {}", viewer.program.log());
        sleep(Duration::from_millis(200)).await;
    }
    player.abort();
    logs(&viewer.program, &["WARN", "other bytes"]).await?;
    ends(&mut viewer.program).await
}

/// How an [`Origin`] behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Segments {
    Good,
    Pages,
    NamesAgain,
}

/// A live HLS server whose playlist grows by a segment a second.
struct Origin {
    url: String,
    /// Whether segments are other bytes than before: what viewers get then, and the broadcaster's later reads.
    changed: Arc<AtomicBool>,
}

impl Origin {
    async fn start(segments: Segments) -> Result<Self> {
        let started = Instant::now();
        let changed = Arc::new(AtomicBool::new(false));
        let reads: Arc<[AtomicUsize]> = (0..1024).map(|_| AtomicUsize::new(0)).collect();
        let playlist = move || async move { playlist(started.elapsed().as_secs(), segments) };
        let now_changed = changed.clone();
        let segment = move |Segment(name): Segment<String>| async move {
            if segments == Segments::Pages {
                return Html("<!doctype html><title>Please log in</title>").into_response();
            }
            let number: usize = name.trim_start_matches('s').trim_end_matches(".ts").parse().unwrap_or(0);
            // The broadcaster reads each first.
            let again = reads[number % 1024].fetch_add(1, Ordering::Relaxed) > 0;
            let fill = if again && now_changed.load(Ordering::Relaxed) { 1 } else { 0 };
            let packet: Vec<u8> = std::iter::once(0x47).chain(std::iter::repeat_n(fill, 187)).collect();
            packet.repeat(200).into_response()
        };
        let router = Router::new()
            .route("/page.m3u8", get(|| async { Html("<!doctype html><title>Welcome</title>") }))
            .route("/live.m3u8", get(playlist))
            .route("/seg/{name}", get(segment));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, changed })
    }
}

fn playlist(second: u64, segments: Segments) -> String {
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{second}\n");
    for number in second..second + 6 {
        let name = if segments == Segments::NamesAgain { number % 8 } else { number };
        text.push_str(&format!("#EXTINF:1.0,\nseg/s{name}.ts\n"));
    }
    text
}

async fn pulling(segments: Segments) -> Result<(Fleet, Origin, Broadcast)> {
    let origin = Origin::start(segments).await?;
    let fleet = fleet()?;
    let broadcast = fleet.broadcast(&format!("{}/live.m3u8", origin.url), &BroadcastOptions::default()).await?;
    Ok((fleet, origin, broadcast))
}

fn fleet() -> Result<Fleet> {
    Fleet::new(Binaries::find()?)
}

/// A program that didn't start, with an exit status that says so and a message that says all this.
fn refused<T>(result: Result<T>, says: &[&str]) -> Result<()> {
    let Err(error) = result else { bail!("it started; it should have said {says:?}") };
    let error = error.to_string();
    ensure!(error.contains("ended (exit status: ") && !error.contains("exit status: 0"), "{error}");
    clear(&error, says)
}

fn clear(text: &str, says: &[&str]) -> Result<()> {
    ensure!(!text.contains("panicked"), "{text}");
    says.iter().try_for_each(|phrase| {
        ensure!(text.contains(phrase), "{phrase:?} is not in: {text}");
        Ok(())
    })
}

/// Waits until a running program's log says all this.
async fn logs(program: &Program, says: &[&str]) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    while clear(&program.log(), says).is_err() && Instant::now() < give_up {
        sleep(Duration::from_millis(100)).await;
    }
    clear(&program.log(), says)
}

/// SIGTERM ends it in time, with success.
async fn ends(program: &mut Program) -> Result<()> {
    let status = program.terminate(END_WITHIN).await?;
    ensure!(status.success(), "ended with {status}");
    clear(&program.log(), &[])
}
