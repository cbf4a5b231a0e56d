//! ffmpeg as a live encoder: a moving picture and a tone, as HLS in a directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, Command};

use crate::stage::eventually;

/// How segments are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// MPEG-TS.
    Ts,
    /// Fragmented MP4.
    Fmp4,
}

/// A running ffmpeg; it ends when it is dropped.
pub(crate) struct Encoder {
    directory: PathBuf,
    packing: Packing,
    _ffmpeg: Child,
}

/// Segments on air when an encoder counts as started. See [`starling_tests::fleet::SEGMENTS_FOR_PLAYERS`].
const STARTED: usize = 6;

/// Each lasts this long, seconds.
const SEGMENT_SECONDS: usize = 1;

impl Encoder {
    /// Encodes in real time into `directory`, as `live.m3u8`; some segments are there already. None is ever deleted.
    pub(crate) async fn start(directory: &Path, packing: Packing) -> Self {
        let (name, init): (&str, &[&str]) = match packing {
            Packing::Ts => ("mpegts", &[]),
            Packing::Fmp4 => ("fmp4", &["-hls_fmp4_init_filename", "init.mp4"]),
        };
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.current_dir(directory).args(["-hide_banner", "-nostdin", "-v", "error", "-re"]);
        ffmpeg.args(["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"]);
        ffmpeg.args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
        // Noise makes the picture as heavy as a film of its size; without it a segment is a single chunk.
        ffmpeg.args(["-vf", "noise=alls=20:allf=t", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]);
        ffmpeg.args(["-b:v", "800k", "-maxrate", "800k", "-bufsize", "800k", "-g", "25", "-sc_threshold", "0"]);
        ffmpeg.args(["-c:a", "aac", "-b:a", "64k", "-f", "hls", "-hls_time", &SEGMENT_SECONDS.to_string()]);
        ffmpeg.args(["-hls_list_size", "12", "-hls_flags", "program_date_time+temp_file", "-hls_segment_type", name]);
        ffmpeg.args(init).args(["-hls_segment_filename", &format!("%05d.{}", packing.ending()), "live.m3u8"]);
        ffmpeg.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let ffmpeg = ffmpeg.spawn().expect("ffmpeg, which plays the encoder here, must be installed");
        let encoder = Self { directory: directory.to_owned(), packing, _ffmpeg: ffmpeg };
        eventually("the encoder is on air", async || {
            let playlist = fs::read_to_string(directory.join("live.m3u8")).unwrap_or_default();
            if playlist.matches("#EXTINF").count() >= STARTED { Ok(()) } else { Err(playlist) }
        })
        .await;
        encoder
    }

    /// All segments there are, in order.
    pub(crate) fn segments(&self) -> Vec<Vec<u8>> {
        let is_segment = |path: &PathBuf| {
            path.extension().is_some_and(|ending| ending == self.packing.ending())
                && path.file_stem().is_some_and(|name| name.to_string_lossy().parse::<u64>().is_ok())
        };
        let mut files: Vec<_> =
            fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path()).filter(is_segment).collect();
        files.sort();
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// The initialization section, where the packing has one.
    pub(crate) fn init(&self) -> Option<Vec<u8>> {
        (self.packing == Packing::Fmp4).then(|| fs::read(self.directory.join("init.mp4")).unwrap())
    }
}

impl Packing {
    fn ending(self) -> &'static str {
        match self {
            Self::Ts => "ts",
            Self::Fmp4 => "m4s",
        }
    }
}
