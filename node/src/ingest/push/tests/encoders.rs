//! ffmpeg pushes as it does for people.

use std::process::Stdio;

use tokio::process::{Child, Command};

use super::proxy::Proxy;
use super::*;

const HLS: [&str; 8] =
    ["-f", "hls", "-hls_time", "1", "-hls_list_size", "4", "-hls_flags", "delete_segments+program_date_time"];

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
    "-hls_playlist",
    "1",
];

/// Encodes in real time for so many seconds and pushes to `url`.
fn ffmpeg(seconds: u32, output: &[&str], url: &str) -> Child {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostdin", "-v", "error", "-re", "-t", &seconds.to_string()]);
    ffmpeg.args(["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-t", &seconds.to_string()]);
    ffmpeg.args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
    ffmpeg.args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"]);
    ffmpeg.args(["-b:v", "300k", "-g", "25", "-sc_threshold", "0", "-c:a", "aac", "-b:a", "64k"]);
    ffmpeg.args(output).args(["-method", "PUT", url]).stdin(Stdio::null()).kill_on_drop(true);
    ffmpeg.spawn().expect("ffmpeg, which plays the encoder here, must be installed")
}

async fn ends_well(mut ffmpeg: Child) {
    let status = timeout(SOON, ffmpeg.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "ffmpeg: {status}");
}

/// What stands on the shelf under the name that follows address and generation.
fn name(segment: &Segment) -> &str {
    segment.uri.rsplit('/').next().unwrap()
}

/// Whole segments, as pushed and in order.
async fn follow_hls(packing: &[&str], extension: &str) {
    let mut pushed = Pushed::begin().await;
    let (proxy, url) = Proxy::before(&pushed.url).await;
    let ffmpeg = ffmpeg(8, &[&HLS[..], packing].concat(), url.join("index.m3u8").unwrap().as_str());
    let shape = pushed.shape().await;
    assert_eq!((shape.multivariant, shape.renditions[0].extension.as_str()), (None, extension));
    let mut segments = Vec::new();
    while segments.len() < 5 {
        segments.push(pushed.segment().await);
    }
    ends_well(ffmpeg).await;
    for (number, segment) in (0..).zip(&segments) {
        assert_eq!((segment.number, segment.discontinuity), (number, false));
        assert!(proxy.bodies(name(segment)) == [segment.body.clone()], "{} isn't as pushed", segment.uri);
        assert_eq!(segment.init, proxy.bodies("init.mp4").first().cloned());
        let since = segment.start.seconds_since(segments[0].start);
        assert!((since - number as f64).abs() < 0.01, "{since} s, but each lasts one");
    }
    assert_eq!(proxy.failures(), Vec::<String>::new());
    assert!(extension != "ts" || proxy.deletions() > 0, "it was told to delete");
}

#[tokio::test]
async fn ffmpeg_pushes_transport_streams() {
    follow_hls(&[], "ts").await;
}

#[tokio::test]
async fn ffmpeg_pushes_fmp4_over_lasting_connections() {
    follow_hls(&["-hls_segment_type", "fmp4", "-http_persistent", "1"], "m4s").await;
}

#[tokio::test]
async fn ffmpeg_pushes_several_variants() {
    let mut pushed = Pushed::begin().await;
    let variants = ["-map", "0:v", "-map", "0:v", "-map", "1:a", "-master_pl_name", "master.m3u8"];
    let map = ["-var_stream_map", "v:0,agroup:a v:1,agroup:a a:0,agroup:a"];
    let url = pushed.url.join("v%v/index.m3u8").unwrap();
    // The crate for addresses writes the sign as it must be written in one.
    let url = url.as_str().replace("%25v", "%v");
    let ffmpeg = ffmpeg(5, &[&HLS[..], &variants, &map].concat(), &url);
    let shape = pushed.shape().await;
    assert_eq!(shape.renditions.len(), 3);
    let text = shape.multivariant.unwrap();
    for id in 0..3 {
        assert!(text.contains(&format!("{id}/index.m3u8")), "{text}");
    }
    let mut next = [0; 3];
    while next.iter().any(|count| *count < 3) {
        let segment = pushed.segment().await;
        let expected = &mut next[usize::from(segment.rendition.0)];
        assert_eq!((segment.number, segment.discontinuity), (*expected, false));
        *expected += 1;
    }
    ends_well(ffmpeg).await;
}

#[tokio::test]
async fn ffmpeg_streams_cmaf() {
    for persistent in ["1", "0"] {
        let mut pushed = Pushed::begin().await;
        let (proxy, url) = Proxy::before(&pushed.url).await;
        let options = [&CMAF[..], &["-http_persistent", persistent]].concat();
        let ffmpeg = ffmpeg(5, &options, url.join("m.mpd").unwrap().as_str());
        let shape = pushed.shape().await;
        let text = shape.multivariant.unwrap();
        assert!(text.contains("CODECS=\"avc1") && text.contains("TYPE=AUDIO"), "{text}");
        assert!(shape.renditions.iter().all(|track| track.part_target.is_some_and(|t| t <= PART_MAX)));
        let (mut parts, mut segments) = ([const { Vec::<Part>::new() }; 2], [const { Vec::<Segment>::new() }; 2]);
        while segments.iter().any(|segments| segments.len() < 4) {
            match pushed.next().await {
                Ingested::Part(part) => parts[usize::from(part.rendition.0)].push(*part),
                Ingested::Segment(segment) => segments[usize::from(segment.rendition.0)].push(*segment),
                other @ (Ingested::Shape(_) | Ingested::Ended) => panic!("{other:?}"),
            }
        }
        ends_well(ffmpeg).await;
        for (parts, segments) in parts.iter().zip(&segments) {
            for (number, segment) in (1..).zip(segments) {
                assert_eq!((segment.number, segment.discontinuity), (number, false));
                assert!(proxy.bodies(name(segment)) == [segment.body.clone()], "{} isn't as pushed", segment.uri);
                let own: Vec<_> = parts.iter().filter(|part| part.number == number).collect();
                assert!(own.len() >= 4, "{} parts a second", own.len());
                let joined: Vec<u8> = own.iter().flat_map(|part| part.body.to_vec()).collect();
                assert!(joined == segment.body, "{}: the parts don't make the segment", segment.uri);
                let durations: Duration = own.iter().map(|part| part.duration).sum();
                assert!(durations.abs_diff(segment.duration) < Duration::from_micros(50));
                assert!(own[0].independent && own.iter().all(|part| part.duration <= PART_MAX));
            }
            let length: Duration = segments[..3].iter().map(|segment| segment.duration).sum();
            let between = segments[3].start.seconds_since(segments[0].start);
            assert!((between - length.as_secs_f64()).abs() < 0.01, "{between} s for {length:?}");
        }
        assert!((segments[0][0].start.seconds_since(segments[1][0].start)).abs() < 0.1, "picture and sound together");
        assert_eq!(proxy.failures(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_killed_ffmpeg_started_again_goes_on_with_a_discontinuity() {
    for options in [&CMAF[..], &HLS[..]] {
        let mut pushed = Pushed::begin().await;
        let name = if options[1] == "dash" { "m.mpd" } else { "index.m3u8" };
        let url = pushed.url.join(name).unwrap();
        let mut first = ffmpeg(60, options, url.as_str());
        let mut heard = 0;
        while heard < 3 {
            if let Ingested::Segment(segment) = pushed.next().await {
                assert!(!segment.discontinuity);
                heard += 1;
            }
        }
        first.kill().await.unwrap();
        let _second = ffmpeg(60, options, url.as_str());
        // The first rendition that goes on does so with a discontinuity, and that once.
        let mut broken = None;
        loop {
            let Ingested::Segment(segment) = pushed.next().await else { continue };
            match broken {
                None if segment.discontinuity => broken = Some(segment.rendition),
                Some(rendition) if rendition == segment.rendition => {
                    assert!(!segment.discontinuity);
                    break;
                }
                None | Some(_) => {}
            }
        }
    }
}
