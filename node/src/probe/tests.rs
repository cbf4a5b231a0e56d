//! The whole probe against real servers on loopback: live streams made by ffmpeg, and servers that misbehave.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use clap::Parser;
use tokio::{
    process::{Child, Command},
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    test_server::{Reply, Request, TestServer},
    *,
};

/// Longer than any of these takes on the slowest machine.
const GENEROUS: Duration = Duration::from_secs(120);

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(url: &Url, options: &[&str]) -> Args {
    let words = ["probe", url.as_str()].into_iter().chain(options.iter().copied());
    Cli::try_parse_from(words).expect("the options are known").args
}

pub(super) async fn measure(url: &Url, options: &[&str]) -> Report {
    timeout(GENEROUS, run(args(url, options), std::future::pending()))
        .await
        .expect("it ends by itself")
        .expect("the options are usable")
}

/// Ten seconds of a live picture with sound, in segments of one second, by ffmpeg.
fn ffmpeg(dir: &Path, kind: &str) -> Child {
    let input = "-loglevel error -re -f lavfi -i testsrc2=size=160x90:rate=25 -f lavfi -i sine -t 10 \
                 -c:v libx264 -preset ultrafast -bf 2 -g 25 -c:a aac";
    let output = "-f hls -hls_time 1 -hls_list_size 6 -hls_flags program_date_time+temp_file";
    Command::new("ffmpeg")
        .args(input.split_whitespace())
        .args(output.split_whitespace())
        .args(["-hls_segment_type", kind, "live.m3u8"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("ffmpeg is installed (apt install ffmpeg)")
}

async fn serve_files(dir: &Path) -> TestServer {
    let dir = dir.to_owned();
    let file = move |request: &Request| {
        let name = request.path.trim_start_matches('/');
        std::fs::read(dir.join(name)).map_or(Reply::status(404), Reply::ok)
    };
    TestServer::start(file).await
}

/// Plays a live stream of ffmpeg to its end, and checks every figure that does not depend on the machine's speed.
async fn plays_what_ffmpeg_makes(kind: &str, extension: &str, container: Container) {
    let stream = tempfile::tempdir().expect("a temporary directory");
    let dump = tempfile::tempdir().expect("a temporary directory");
    let server = serve_files(stream.path()).await;
    let mut ffmpeg = ffmpeg(stream.path(), kind);
    timeout(GENEROUS, async {
        while !stream.path().join(format!("live4.{extension}")).exists() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("ffmpeg makes segments");

    let dir = dump.path().display().to_string();
    let report = measure(&server.url("/live.m3u8"), &["--dump", &dir, "--samples"]).await;
    let status = timeout(GENEROUS, ffmpeg.wait()).await.expect("ffmpeg ends");
    assert!(status.expect("ffmpeg ran").success());

    assert_eq!(report.error, None);
    assert_eq!(report.exit_code(), 0);
    assert_eq!(report.container, Some(container));
    assert_eq!(report.timestamp_errors, TimestampErrors::default());
    assert_eq!((report.discontinuities, report.skips.count, report.errors.total), (0, 0, 0));
    assert_eq!(report.notes, Vec::<String>::new());

    let sent: BTreeMap<String, Vec<u8>> = files(stream.path(), &format!(".{extension}"), "live");
    let got: BTreeMap<String, Vec<u8>> = files(dump.path(), ".bin", "");
    let media: Vec<_> = got.iter().filter(|(name, _)| !name.starts_with("init")).collect();
    assert_eq!(media.len() as u64, report.segments);
    assert!(report.segments >= 4, "it joined within the first five seconds");
    assert!(media.iter().all(|(name, body)| sent.get(*name) == Some(*body)));
    let bytes: usize = got.values().map(Vec::len).sum();
    assert_eq!(report.bytes.media, bytes as u64);

    // one-second segments in ten seconds: the probe played every one it has fetched, to the end
    let startup = report.startup_seconds.expect("it played");
    assert!((report.played_seconds - report.segments as f64).abs() < 0.05);
    let accounted = startup + report.played_seconds + report.stalls.seconds;
    assert!((report.elapsed_seconds - accounted).abs() < 1.1, "waits are accounted for");
    let lag = report.lag_seconds.expect("ffmpeg dates its segments");
    assert!(lag.p50 >= 2.9, "three target durations behind the end of the playlist");
    assert!(lag.p95 >= lag.p50 && lag.max < 60.0);
    assert_eq!(report.samples.map(|samples| samples.len() as u64), Some(lag.count));
}

fn files(dir: &Path, suffix: &str, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).expect("it exists");
    entries
        .filter_map(|entry| {
            let path = entry.expect("it can be listed").path();
            let name = path.file_name()?.to_str()?.strip_suffix(suffix)?;
            let name = name.strip_prefix(prefix)?.to_owned();
            Some((name, std::fs::read(path).expect("it can be read")))
        })
        .collect()
}

#[tokio::test]
async fn plays_a_live_transport_stream() {
    plays_what_ffmpeg_makes("mpegts", "ts", Container::MpegTs).await;
}

#[tokio::test]
async fn plays_live_fragmented_mp4() {
    plays_what_ffmpeg_makes("fmp4", "m4s", Container::Fmp4).await;
}

/// A live stream of half-second segments (packed audio, so that it needs no encoder), numbered by the time since the start.
fn live_playlist(began: Instant) -> String {
    let last = (began.elapsed().as_millis() / 500) as u64 + 10;
    let segments: String = (last - 8..last).map(|sequence| format!("#EXTINF:0.5,\n{sequence}.aac\n")).collect();
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{}\n{segments}", last - 8)
}

/// Serves the live stream, except what `broken` answers; also says when a segment numbered `last` or later was asked for.
async fn live_server(
    last: u64,
    broken: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
) -> (TestServer, Arc<Notify>) {
    let began = Instant::now();
    let reached = Arc::new(Notify::new());
    let notify = Arc::clone(&reached);
    let server = TestServer::start(move |request| {
        let number = request.path.trim_start_matches('/').strip_suffix(".aac");
        if number.and_then(|number| number.parse().ok()).is_some_and(|number: u64| number >= last) {
            notify.notify_one();
        }
        broken(request).unwrap_or_else(|| match number {
            Some(_) => Reply::ok("ID3 packed audio"),
            None => Reply::ok(live_playlist(began)),
        })
    })
    .await;
    (server, reached)
}

/// Measures until `reached`.
async fn measure_until(url: &Url, reached: Arc<Notify>) -> Report {
    let shutdown = async move { reached.notified().await };
    timeout(GENEROUS, run(args(url, &[]), shutdown)).await.expect("it gets there").expect("the options are usable")
}

#[tokio::test]
async fn gives_up_on_a_server_that_dies() {
    let (server, reached) = live_server(7, |_| None).await;
    let args = args(&server.url("/a.m3u8"), &["--give-up", "2"]);
    let probe = tokio::spawn(run(args, std::future::pending()));
    timeout(GENEROUS, reached.notified()).await.expect("it plays");
    drop(server);
    let report = timeout(GENEROUS, probe).await.expect("it ends by itself");
    let report = report.expect("it does not panic").expect("the options are usable");
    let error = report.error.as_deref().expect("the server died");
    assert!(error.contains("gave up after 2 s"), "{error}");
    assert_eq!(report.exit_code(), 2);
    assert!(report.errors.total > 0 && report.errors.retries > 0);
    assert!(report.segments > 0 && report.played_seconds > 0.0, "it played before");
}

#[tokio::test]
async fn says_that_a_web_page_is_no_playlist() {
    let server = TestServer::start(|_| Reply::ok("<!DOCTYPE html>\n<html>Welcome</html>")).await;
    let report = measure(&server.url("/live.m3u8"), &[]).await;
    let error = report.error.as_deref().expect("a page cannot be played");
    assert!(error.contains("not an HLS playlist") && error.contains("check the URL"), "{error}");
    assert!(error.contains(server.url("/live.m3u8").as_str()), "{error}");
    assert_eq!((report.exit_code(), report.startup_seconds), (2, None));
}

#[tokio::test]
async fn waits_for_a_server_that_is_not_ready() {
    let asked = AtomicU64::new(0);
    let not_ready = move |_: &Request| (asked.fetch_add(1, Relaxed) == 0).then(|| Reply::status(503));
    let (server, reached) = live_server(8, not_ready).await;
    let report = measure_until(&server.url("/a.m3u8"), reached).await;
    assert_eq!(report.error, None);
    assert_eq!(report.errors.by_kind.get("http_503"), Some(&1));
    assert!(report.startup_seconds.is_some_and(|startup| startup >= 1.0), "the wait counts");
}

#[tokio::test]
async fn skips_what_cannot_be_had() {
    // number 7 is no media, however often it is asked for; 14 and 15 are missing
    let (server, reached) = live_server(20, |request| match request.path.as_str() {
        "/7.aac" => Some(Reply::ok("<html>")),
        "/14.aac" | "/15.aac" => Some(Reply::status(404)),
        _ => None,
    })
    .await;
    let report = measure_until(&server.url("/a.m3u8"), reached).await;
    let kinds = &report.errors.by_kind;
    assert!(kinds.contains_key("not_media"), "{kinds:?}");
    assert!(report.skips.count > 0);
    assert!(report.stalls.count > 0 && report.stalls.seconds >= report.skips.seconds);
}

#[tokio::test]
async fn asks_twice_for_what_is_missing() {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let server = TestServer::start(move |request| match request.path.as_str() {
        "/p.m3u8" => Reply::ok(
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.1,\n0.aac\n#EXTINF:0.2,\n1.aac\n#EXTINF:0.3,\n2.aac\n#EXT-X-ENDLIST\n",
        ),
        "/1.aac" => {
            count.fetch_add(1, Relaxed);
            Reply::status(404)
        }
        _ => Reply::ok("ID3 packed audio"),
    })
    .await;
    let report = measure(&server.url("/p.m3u8"), &[]).await;
    assert_eq!(report.error, None);
    assert_eq!(asked.load(Relaxed), 2);
    assert_eq!((report.errors.total, report.errors.retries), (2, 1));
    assert_eq!((report.skips.count, report.skips.seconds), (1, 0.2));
    assert!((report.played_seconds - 0.4).abs() < 1e-6);
    // it ran dry while asking again, and then found that what it waited for does not exist
    assert_eq!(report.stalls.count, 1);
    assert_eq!(report.late.len(), 1);
    assert_eq!(report.late[0].sequence, 2);
}

#[tokio::test]
async fn plays_byte_ranges_of_a_chosen_variant_to_the_end() {
    let server = TestServer::start(|request| {
        Reply::ok(match request.path.as_str() {
            "/master.m3u8" => {
                "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=900\nhigh.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=300\nlow/p.m3u8\n"
            }
            "/low/p.m3u8" => {
                "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.2,\n#EXT-X-BYTERANGE:10@2\nall.aac\n\
                 #EXTINF:0.3,\n#EXT-X-BYTERANGE:8\nall.aac\n#EXT-X-GAP\n#EXTINF:0.5,\ngap.aac\n#EXT-X-ENDLIST\n"
            }
            _ => "..ID3 firstID3 next..",
        })
    })
    .await;
    let dump = tempfile::tempdir().expect("a temporary directory");
    let dir = dump.path().display().to_string();
    let url = server.url("/master.m3u8");
    let report = measure(&url, &["--bandwidth", "500", "--dump", &dir]).await;
    assert_eq!(report.error, None);
    assert_eq!(report.variant.map(|variant| variant.bandwidth), Some(300));
    assert_eq!((report.segments, report.bytes.media), (2, 18));
    assert!((report.played_seconds - 0.5).abs() < 1e-6);
    assert_eq!((report.stalls.count, report.gaps.count, report.gaps.seconds), (0, 1, 0.5));
    assert_eq!(report.timestamp_errors.unchecked, 2);
    let got = files(dump.path(), ".bin", "");
    assert_eq!(got.get("0").map(Vec::as_slice), Some(&b"ID3 firstI"[..]));
    assert_eq!(got.get("1").map(Vec::as_slice), Some(&b"D3 next."[..]));
}

#[tokio::test]
async fn a_signal_ends_it_with_a_report() {
    let (server, reached) = live_server(6, |_| None).await;
    let report = measure_until(&server.url("/a.m3u8"), reached).await;
    assert_eq!((report.error, report.played_seconds > 0.0), (None, true));
}

#[test]
fn says_when_the_json_cannot_be_written() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let refused = save("{}", &dir.path().join("missing/report.json")).expect_err("there is no such directory");
    assert!(refused.to_string().contains("choose another --json"), "{refused}");
    save("{}", &dir.path().join("report.json")).expect("this can be written");
}

#[test]
fn options_are_checked() {
    let parse = |words: &[&str]| Cli::try_parse_from([&["probe"], words].concat());
    assert!(parse(&["http://h/x.m3u8", "--seconds", "2.5", "--progress"]).is_ok());
    for wrong in [
        &["h/x.m3u8"][..],
        &["ftp://h/x.m3u8"],
        &["http://h/x", "--seconds", "-1"],
        &["http://h/x", "--give-up", "soon"],
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
    let link = parse(&["starling://k"]).err().expect("it is a link").to_string();
    assert!(link.contains("starling watch"), "{link}");
}
