//! The whole encoder: its boxes read back, its bitrate, and its picture as ffmpeg sees it.
//!
//! ffmpeg must be installed; without it these tests fail.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use mp4_atom::{Any, Codec, DecodeMaybe, Ftyp, Moof, Moov, Prft, ReferenceTime};

use super::*;

/// 2026-11-22 13:51:22.480 UTC.
const START_MS: u64 = 1_795_355_482_480;
const SEQUENCE: u64 = 4711;

fn config(width: u16, height: u16, frames_per_second: u32, bitrate_bps: u64) -> Config {
    Config { width, height, frames_per_second, ..Config::for_bitrate(bitrate_bps, "Starling: live test") }
}

/// A stream of some segments, as the broadcaster makes it.
struct Recording {
    init: Bytes,
    /// Every fragment of every segment.
    segments: Vec<Vec<Bytes>>,
    clocks: Vec<u64>,
}

impl Recording {
    fn new(config: Config, segments: u64, segment_frames: u64, part_frames: usize) -> Self {
        let duration = u64::from(config.frame_duration());
        let rate = u64::from(config.frames_per_second);
        let mut encoder = Encoder::new(config).expect("valid");
        let mut clocks = Vec::new();
        let mut segments = vec![Vec::new(); segments as usize];
        for (segment, fragments) in (0..).zip(&mut segments) {
            let first = segment * segment_frames;
            let frames: Vec<u64> = (first..first + segment_frames).collect();
            for part in frames.chunks(part_frames) {
                let mut samples = Vec::new();
                for frame in part {
                    let wall_ms = START_MS + frame * 1000 / rate;
                    samples.push(encoder.frame(wall_ms, SEQUENCE + segment, *frame == first));
                    clocks.push(wall_ms);
                }
                fragments.push(encoder.fragment(&samples, part[0] * duration));
            }
        }
        Self { init: encoder.init_section(), segments, clocks }
    }

    fn file(&self) -> Vec<u8> {
        let mut file = self.init.to_vec();
        file.extend(self.segments.iter().flatten().flatten());
        file
    }
}

/// Runs ffmpeg with `input` on its standard input; it must not have anything to say.
pub(super) fn ffmpeg(arguments: &[&str], input: Vec<u8>) -> Vec<u8> {
    let mut child = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "warning", "-xerror"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("these tests need ffmpeg: apt-get install ffmpeg");
    let mut stdin = child.stdin.take().expect("piped");
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("ffmpeg ends");
    writer.join().expect("no panic").expect("ffmpeg reads all");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    assert_eq!(complaints, "");
    output.stdout
}

fn boxes(mut bytes: &[u8]) -> Vec<Any> {
    let mut boxes = Vec::new();
    while let Some(one) = Any::decode_maybe(&mut bytes).expect("well-formed") {
        boxes.push(one);
    }
    assert!(bytes.is_empty());
    boxes
}

#[test]
fn ffmpeg_plays_every_frame_without_a_warning() {
    for (config, part_frames) in [
        (Config::for_bitrate(100_000, "small"), 50),
        (Config::for_bitrate(1_100_000, "W1"), 5),
        (config(426, 240, 30, 300_000), 6),
        (config(1280, 720, 50, 3_000_000), 10),
        (config(1920, 1080, 60, 40_000_000), 60),
    ] {
        let size = format!("{}x{}", config.width, config.height);
        let recording = Recording::new(config, 2, 60, part_frames);
        // A line for each decoded frame, after a header.
        let lines = ffmpeg(&["-i", "-", "-f", "framecrc", "-"], recording.file());
        let lines = String::from_utf8(lines).expect("text");
        let frames = lines.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(frames, recording.clocks.len(), "{size}");
        assert!(lines.contains(&size), "{lines}");
    }
}

#[test]
fn the_strip_is_read_back_from_decoded_frames() {
    for (config, scaled_height) in [
        (config(320, 180, 25, 200_000), 360),
        (Config::for_bitrate(500_000, "strip"), 360),
        (Config::for_bitrate(1_100_000, "strip"), 360),
        (config(1280, 720, 25, 1_500_000), 360),
        (config(1920, 1080, 25, 1_500_000), 360),
        (config(720, 1280, 25, 1_500_000), 1138),
    ] {
        let native = (usize::from(config.width), usize::from(config.height));
        let recording = Recording::new(config, 1, 10, 10);
        for (width, height) in [native, (640, scaled_height)] {
            let scale = format!("scale={width}:{height}");
            let arguments = ["-i", "-", "-vf", &scale, "-f", "rawvideo", "-pix_fmt", "gray", "-"];
            let frames = ffmpeg(&arguments, recording.file());
            let clocks: Vec<u64> = frames
                .chunks(width * height)
                .map(|frame| strip::decode(width, height, frame).expect("a clock"))
                .collect();
            assert_eq!(clocks, recording.clocks, "{native:?} as {width}x{height}");
        }
    }
}

#[test]
fn every_segment_has_the_bitrate_asked_for() {
    for (config, part_frames) in [
        (Config::for_bitrate(100_000, "the smallest, with parts"), 5),
        (Config::for_bitrate(300_000, ""), 50),
        (Config::for_bitrate(300_000, ""), 5),
        (Config::for_bitrate(1_100_000, ""), 5),
        (config(1280, 720, 24, 2_999_999), 48),
        (config(1920, 1080, 60, 20_000_000), 12),
    ] {
        let segment_frames = 2 * u64::from(config.frames_per_second);
        let wanted = config.bitrate_bps as f64 * 2.0 / 8.0;
        let recording = Recording::new(config.clone(), 5, segment_frames, part_frames);
        for (number, segment) in recording.segments.iter().enumerate() {
            let bytes: usize = segment.iter().map(Bytes::len).sum();
            let error = (bytes as f64 / wanted - 1.0).abs();
            assert!(error < 0.02, "{config:?} segment {number}: {bytes} B, not {wanted}");
        }
    }
}

#[test]
fn frames_are_padded_evenly() {
    let mut encoder = Encoder::new(Config::for_bitrate(1_100_000, "even")).expect("valid");
    let share = 1_100_000 / 25 / 8;
    for frame in 0..100 {
        let key = frame % 50 == 0;
        let size = encoder.frame(START_MS + 40 * frame, 0, key).data.len();
        assert!(size <= share || key, "frame {frame}: {size} B of {share}");
        assert!(size >= share / 2, "frame {frame}: {size} B of {share}");
    }
}

#[test]
fn the_init_section_describes_the_stream() {
    let encoder = Encoder::new(config(854, 480, 25, 1_100_000)).expect("valid");
    let boxes = boxes(&encoder.init_section());
    let [Any::Ftyp(Ftyp { compatible_brands, .. }), Any::Moov(moov)] = &boxes[..] else { panic!("{boxes:?}") };
    assert!(compatible_brands.contains(&b"cmfc".into()));
    let Moov { trak, mvex, .. } = moov;
    assert_eq!(trak[0].mdia.mdhd.timescale, TIMESCALE);
    let trex = &mvex.as_ref().expect("fragmented").trex[0];
    assert_eq!(trex.default_sample_duration, 3600);
    let [Codec::Avc1(avc1)] = &trak[0].mdia.minf.stbl.stsd.codecs[..] else { panic!("{trak:?}") };
    assert_eq!((avc1.visual.width, avc1.visual.height), (854, 480));
    let avcc = &avc1.avcc;
    let [profile, constraints, level] =
        [avcc.avc_profile_indication, avcc.profile_compatibility, avcc.avc_level_indication];
    assert_eq!(encoder.codecs(), format!("avc1.{profile:02X}{constraints:02X}{level:02X}"));
    assert_eq!(encoder.codecs(), "avc1.42C01E");
}

#[test]
fn fragments_are_continuous_and_numbered() {
    let recording = Recording::new(Config::for_bitrate(1_100_000, "parts"), 2, 50, 5);
    let mut time = 0;
    for (index, fragment) in recording.segments.iter().flatten().enumerate() {
        let boxes = boxes(fragment);
        let [Any::Prft(prft), Any::Moof(moof), Any::Mdat(mdat)] = &boxes[..] else { panic!("{boxes:?}") };
        let Prft { ntp_timestamp, media_time, ref utc_time_semantics, .. } = *prft;
        assert_eq!(media_time, time);
        assert_eq!(*utc_time_semantics, ReferenceTime::Input);
        let unix_ms = START_MS + index as u64 * 200;
        assert_eq!(ntp_timestamp >> 32, unix_ms / 1000 + 2_208_988_800);

        let Moof { mfhd, traf } = moof;
        assert_eq!(mfhd.sequence_number, index as u32 + 1);
        let traf = &traf[0];
        assert_eq!(traf.tfdt.as_ref().map(|tfdt| tfdt.base_media_decode_time), Some(time));
        let trun = &traf.trun[0];
        let sizes: u32 = trun.samples.iter().filter_map(|sample| sample.size).sum();
        assert_eq!(sizes as usize, mdat.data.len());
        let keys: Vec<bool> = trun.samples.iter().map(|sample| sample.flags == Some(0x0200_0000)).collect();
        assert_eq!(keys, [index % 10 == 0, false, false, false, false]);
        let moof_start = fragment.len() - 8 - mdat.data.len() - trun.data_offset.expect("set") as usize + 8;
        assert_eq!(&fragment[moof_start + 4..moof_start + 8], b"moof");
        time += 5 * 3600;
    }
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let record = || Recording::new(Config::for_bitrate(300_000, "same"), 2, 10, 5).file();
    assert!(record() == record());
}

#[test]
fn the_first_frame_is_a_key_frame_and_nothing_makes_nothing() {
    let mut encoder = Encoder::new(Config::for_bitrate(300_000, "")).expect("valid");
    assert!(encoder.fragment(&[], 0).is_empty());
    assert!(encoder.frame(START_MS, 0, false).key);
    assert!(!encoder.frame(START_MS, 0, false).key);
    assert!(encoder.frame(u64::MAX, u64::MAX, true).key);
}

#[test]
fn impossible_pictures_are_refused() {
    let refused = |config| Encoder::new(config).expect_err("refused");
    for rate in [0, 7, 23, 61, 90_000] {
        assert_eq!(refused(config(640, 360, rate, 500_000)), ConfigError::FrameRate(rate));
    }
    for bitrate in [0, 99_999, 100_000_001, u64::MAX] {
        assert_eq!(refused(config(640, 360, 25, bitrate)), ConfigError::Bitrate(bitrate));
    }
    for (width, height) in [(0, 0), (641, 360), (640, 361), (318, 180), (320, 178)] {
        let error = ConfigError::Size { width, height };
        assert_eq!(refused(config(width, height, 25, 500_000)), error);
    }
    assert!(matches!(refused(config(u16::MAX - 1, u16::MAX - 1, 25, 500_000)), ConfigError::NoLevel { .. }));
}
