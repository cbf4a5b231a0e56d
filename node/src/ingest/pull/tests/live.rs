//! What ffmpeg makes, pulled while it makes it, and compared with its files byte by byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::*;
use crate::origin::tests::server::TestServer;

/// A running encoder of ten seconds of picture and tone, in real time, that has written `playlist`. `;` stands for a
/// space within an argument.
async fn encode(directory: &Path, playlist: &str, arguments: &str) -> Child {
    let common = "-nostdin -v error -re -f lavfi -i testsrc2=size=160x90:rate=10 -re -f lavfi -i sine=sample_rate=16000 \
        -t 10 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 10 -c:a aac -b:a 32k -f hls -hls_time 1 -hls_list_size 20";
    let encoder = Command::new("ffmpeg")
        .args(common.split_whitespace())
        .args(arguments.split_whitespace().map(|argument| argument.replace(';', " ")))
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("ffmpeg must be installed");
    let written = async {
        while !directory.join(playlist).exists() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, written).await.unwrap();
    encoder
}

/// Shape and all segments by rendition.
async fn everything(mut pulled: Pulled) -> (Shape, BTreeMap<u16, Vec<Segment>>) {
    let mut shape = None;
    let mut segments = BTreeMap::<u16, Vec<Segment>>::new();
    loop {
        match pulled.next().await {
            Ingested::Shape(said) => shape = Some(said),
            Ingested::Segment(segment) => segments.entry(segment.rendition.0).or_default().push(*segment),
            Ingested::Part(part) => panic!("no part was to come: {part:?}"),
            Ingested::Ended => break,
        }
    }
    assert_eq!(pulled.log.warnings("skipped"), 0);
    assert_eq!(pulled.log.warnings("left the playlist"), 0);
    (shape.unwrap(), segments)
}

/// Numbers without a gap from near the start, bodies as in the files, dates that advance with the durations.
fn assert_exact(directory: &Path, segments: &[Segment]) {
    assert!(segments.len() >= 4, "{}", segments.len());
    for pair in segments.windows(2) {
        assert_eq!(pair[1].number, pair[0].number + 1);
        let expected = pair[0].duration.as_secs_f64();
        assert!((pair[1].start.seconds_since(pair[0].start) - expected).abs() < 0.2);
        assert!(!pair[1].discontinuity);
    }
    for segment in segments {
        let file = fs::read(directory.join(&segment.uri)).unwrap();
        let from = segment.offset as usize;
        assert_eq!(segment.body, file[from..from + segment.body.len()], "{}", segment.uri);
    }
}

/// Our playlist of what was pulled, counted from another number, as a gateway would write it.
fn write_out(directory: &Path, extension: &str, segments: &[Segment]) {
    let mut playlist = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:70000\n".to_owned();
    if let Some(init) = &segments[0].init {
        fs::write(directory.join("init.mp4"), init).unwrap();
        playlist += "#EXT-X-MAP:URI=\"init.mp4\"\n";
    }
    for segment in segments {
        let name = format!("{}.{extension}", segment.number);
        fs::write(directory.join(&name), &segment.body).unwrap();
        for tag in &segment.tags {
            playlist += &format!("{tag}\n");
        }
        playlist += &format!("#EXTINF:{:.6},\n{name}\n", segment.duration.as_secs_f64());
    }
    fs::write(directory.join("out.m3u8"), playlist + "#EXT-X-ENDLIST\n").unwrap();
}

/// Decodes the playlist written out; must not complain.
async fn assert_decodes(directory: &Path) {
    let arguments = "-nostdin -v warning -allowed_extensions ALL -protocol_whitelist file,http,tcp,crypto,data \
        -i out.m3u8 -f null -";
    let run = Command::new("ffmpeg").args(arguments.split_whitespace()).current_dir(directory).output();
    let Output { status, stderr, .. } = timeout(SOON, run).await.unwrap().unwrap();
    assert!(status.success() && stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
}

#[tokio::test]
async fn transport_stream() {
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = TestServer::of_directory(source.path()).await;
    let _encoder = encode(source.path(), "live.m3u8", "-hls_flags program_date_time live.m3u8").await;
    let (shape, segments) = everything(pull(&server.url("/live.m3u8"))).await;
    assert_eq!((shape.multivariant, shape.renditions[0].extension.as_str()), (None, "ts"));
    assert_exact(source.path(), &segments[&0]);
    write_out(out.path(), &shape.renditions[0].extension, &segments[&0]);
    assert_decodes(out.path()).await;
}

#[tokio::test]
async fn fragmented_mp4_in_one_file() {
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = TestServer::of_directory(source.path()).await;
    let _encoder = encode(source.path(), "live.m3u8", "-hls_segment_type fmp4 -hls_flags single_file live.m3u8").await;
    let (shape, segments) = everything(pull(&server.url("/live.m3u8"))).await;
    assert_eq!((shape.renditions[0].extension.as_str(), shape.renditions[0].hls_version), ("m4s", 7));
    assert_exact(source.path(), &segments[&0]);
    assert!(segments[&0].windows(2).all(|pair| pair[1].offset == pair[0].offset + pair[0].body.len() as u64));
    write_out(out.path(), &shape.renditions[0].extension, &segments[&0]);
    assert_decodes(out.path()).await;
}

#[tokio::test]
async fn multivariant_with_two_variants_and_separate_audio() {
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = TestServer::of_directory(source.path()).await;
    let _encoder = encode(
        source.path(),
        "master.m3u8",
        "-map 0:v -map 0:v -map 1:a -b:v:0 200k -b:v:1 100k -hls_segment_type fmp4 -master_pl_name master.m3u8 \
         -hls_fmp4_init_filename init_%v.mp4 -var_stream_map v:0,agroup:snd;v:1,agroup:snd;a:0,agroup:snd \
         -hls_segment_filename %v_%d.m4s %v.m3u8",
    )
    .await;
    let (shape, segments) = everything(pull(&server.url("/master.m3u8"))).await;
    let theirs = fs::read_to_string(source.path().join("master.m3u8")).unwrap();
    let ours = shape.multivariant.unwrap();
    // Audio is mentioned first.
    let expected = theirs
        .replace("2.m3u8", "0/index.m3u8")
        .replace("\n0.m3u8", "\n1/index.m3u8")
        .replace("\n1.m3u8", "\n2/index.m3u8");
    assert_eq!(ours, expected);
    let uris: Vec<_> = shape.renditions.iter().map(|track| track.uri.as_str()).collect();
    assert_eq!(uris, ["2.m3u8", "0.m3u8", "1.m3u8"]);
    assert_eq!(segments.len(), 3);
    for (track, segments) in shape.renditions.iter().zip(segments.values()) {
        assert_exact(source.path(), segments);
        let init = fs::read(source.path().join(format!("init_{}.mp4", track.uri.replace(".m3u8", "")))).unwrap();
        assert!(segments.iter().all(|segment| segment.init.as_deref() == Some(&init[..])));
        write_out(out.path(), &track.extension, segments);
        assert_decodes(out.path()).await;
    }
}

#[tokio::test]
async fn encrypted() {
    let (source, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = TestServer::of_directory(source.path()).await;
    fs::write(source.path().join("secret.key"), b"0123456789abcdef").unwrap();
    // Key URI (relative to the playlist), key file; no vector, so that the numbers are the vectors.
    fs::write(source.path().join("key.info"), "secret.key\nsecret.key\n").unwrap();
    let _encoder = encode(source.path(), "live.m3u8", "-start_number 7 -hls_key_info_file key.info live.m3u8").await;
    let (shape, segments) = everything(pull(&server.url("/live.m3u8"))).await;
    assert_exact(source.path(), &segments[&0]);
    for segment in &segments[&0] {
        let [key] = segment.tags.as_slice() else { panic!("{:?}", segment.tags) };
        assert!(key.contains(&format!("URI=\"{}\"", server.url("/secret.key"))), "{key}");
    }
    write_out(out.path(), &shape.renditions[0].extension, &segments[&0]);
    assert_decodes(out.path()).await;
}
