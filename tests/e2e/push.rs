//! A broadcast of what an encoder pushes: viewers without Starling play it, and so do those with.

use std::process::Stdio;
use std::time::Duration;

use starling_tests::fleet::{BroadcastOptions, Common, READY_WITHIN, SEGMENTS_FOR_PLAYERS, WatchOptions};
use tokio::process::{Child, Command};

use crate::{
    seats::Seat,
    stage::{self, PATIENCE},
};

/// Media played, seconds.
const A_WHILE: u64 = 10;

const HLS_TS: [&str; 8] =
    ["-f", "hls", "-hls_time", "1", "-hls_list_size", "6", "-hls_flags", "delete_segments+program_date_time"];

/// As README has it, with shorter segments.
const CMAF: [&str; 14] = [
    "-f",
    "dash",
    "-streaming",
    "1",
    "-ldash",
    "1",
    "-seg_duration",
    "1",
    "-frag_type",
    "duration",
    "-frag_duration",
    "0.2",
    "-http_persistent",
    "1",
];

#[tokio::test]
async fn pushed_transport_streams_play() {
    push(&HLS_TS, "index.m3u8").await;
}

#[tokio::test]
async fn pushed_cmaf_plays() {
    push(&CMAF, "live.mpd").await;
}

async fn push(output: &[&str], name: &str) {
    let _machine = stage::alone().await;
    let fleet = stage::fleet();
    let args = ["--push-listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
    let common = Common { args, ..Common::named("broadcaster") };
    let options = BroadcastOptions { common, ..BroadcastOptions::default() };
    let mut broadcast = fleet.broadcast("push", &options).await.unwrap();
    let url = broadcast.program.ready(&["push"], READY_WITHIN).await.unwrap().remove(0);
    let ffmpeg = encoder(output, &format!("{url}{name}"));
    broadcast.on_air(SEGMENTS_FOR_PLAYERS, READY_WITHIN).await.unwrap();

    let mut seat = Seat::take(
        &fleet,
        &broadcast.link,
        WatchOptions { common: Common::named("viewer"), ..WatchOptions::default() },
        &[],
    )
    .await;
    let mut probe = fleet.probe(&broadcast.hls, Some(A_WHILE), &Common::default()).unwrap();
    let report = probe.finish(PATIENCE + Duration::from_secs(A_WHILE)).await.unwrap();
    assert_eq!((report.error, report.stalls.count), (None, 0));
    let (segments, parts) = (report.segments, report.parts);
    assert!(segments + parts >= A_WHILE - 2, "{segments} segments and {parts} parts");
    assert_eq!(parts > 0, name == "live.mpd", "what comes chunk by chunk is played by parts");
    let errors = report.timestamp_errors;
    assert_eq!((errors.gaps, errors.overlaps), (0, 0));
    seat.measured().await.assert_smooth();

    stage::ends(&mut seat.viewer.program).await;
    drop(ffmpeg);
    stage::ends(&mut broadcast.program).await;
    let key = url.trim_end_matches('/').rsplit('/').next().unwrap();
    assert!(!broadcast.program.log().contains(key), "the key is in the log");
    stage::nobody_panicked(&fleet);
}

fn encoder(output: &[&str], url: &str) -> Child {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostdin", "-v", "error", "-re"]);
    ffmpeg.args(["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"]);
    ffmpeg.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
    ffmpeg.args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"]);
    ffmpeg.args(["-b:v", "300k", "-g", "25", "-sc_threshold", "0", "-c:a", "aac", "-b:a", "64k"]);
    ffmpeg.args(output).args(["-method", "PUT", url]).stdin(Stdio::null()).kill_on_drop(true);
    ffmpeg.spawn().expect("ffmpeg, which plays the encoder here, must be installed")
}
