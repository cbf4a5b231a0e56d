//! A real stream, made by ffmpeg, fed to a [`Media`] as a live one.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use starling_proto::wire::{Announcement, Catalogue, Init};
use starling_proto::{ChunkNumber, SegmentNumber};

use super::NOON;
use crate::media::Media;

/// Picture and sound, cut into segments of one second.
pub(crate) struct Encoded {
    pub(crate) extension: &'static str,
    pub(crate) init: Option<Bytes>,
    pub(crate) segments: Vec<Cut>,
}

pub(crate) struct Cut {
    pub(crate) body: Bytes,
    pub(crate) announcement: Arc<Announcement>,
}

/// Frames of picture in each segment.
pub(crate) const FRAMES: usize = 25;

const CHUNK_LEN: usize = 4000;

impl Encoded {
    /// MPEG-TS.
    pub(crate) fn transport_stream(seconds: u32) -> Self {
        Self::encode(seconds, "ts", &["-hls_segment_type", "mpegts"])
    }

    /// CMAF-like fragmented MP4.
    pub(crate) fn fragmented_mp4(seconds: u32) -> Self {
        Self::encode(seconds, "m4s", &["-hls_segment_type", "fmp4"])
    }

    pub(crate) fn catalogue(&self, version: u32, ended: bool) -> Catalogue {
        let mut catalogue = Catalogue { version, ended, ..super::catalogue(1) };
        let rendition = &mut catalogue.renditions[0];
        rendition.extension = self.extension.into();
        rendition.target_duration = 1;
        rendition.inits = self.init.iter().map(|body| Init { index: 0, body: body.clone() }).collect();
        catalogue
    }

    /// A store with the first `count` segments.
    pub(crate) fn begun(&self, count: usize) -> Arc<Media> {
        let media = super::media(self.catalogue(1, false));
        for segment in &self.segments[..count] {
            media.announce(segment.announcement.clone(), Bytes::new());
            segment.chunks().for_each(|(number, body)| segment.insert(&media, number, body));
        }
        media
    }

    /// Adds the segments from number `from` on, announced first and then chunk by chunk, several times as fast as they
    /// play, and ends the programme.
    pub(crate) async fn go_on(&self, media: &Media, from: usize) {
        for segment in &self.segments[from..] {
            media.announce(segment.announcement.clone(), Bytes::new());
            for (number, body) in segment.chunks() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                segment.insert(media, number, body);
            }
        }
        media.set_catalogue(Arc::new(self.catalogue(u32::MAX, true)), Bytes::new());
    }

    fn encode(seconds: u32, extension: &'static str, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let picture = format!("testsrc2=size=160x90:rate={FRAMES}:duration={seconds}");
        let sound = format!("sine=frequency=440:duration={seconds}");
        let output = Command::new("ffmpeg")
            .current_dir(directory.path())
            .args(["-v", "error", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound])
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-sc_threshold", "0", "-c:a", "aac"])
            .args(["-f", "hls", "-hls_time", "1", "-hls_list_size", "0"])
            .args(options)
            .arg("out.m3u8")
            .output()
            .expect("ffmpeg is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::read(directory.path(), extension)
    }

    fn read(directory: &Path, extension: &'static str) -> Self {
        let file = |name: &str| Bytes::from(std::fs::read(directory.join(name)).expect("a file of ffmpeg's"));
        let playlist = String::from_utf8(file("out.m3u8").to_vec()).expect("text");
        let init = playlist.contains("#EXT-X-MAP").then(|| file("init.mp4"));
        let mut encoded = Self { extension, init, segments: Vec::new() };
        let mut duration_us = 0;
        let mut start = NOON;
        for line in playlist.lines() {
            if let Some(seconds) = line.strip_prefix("#EXTINF:") {
                duration_us = (seconds.trim_end_matches(',').parse::<f64>().expect("seconds") * 1e6) as u64;
            } else if !line.starts_with('#') {
                let body = file(line);
                let number = encoded.segments.len() as u64;
                let lengths: Vec<u32> = body.chunks(CHUNK_LEN).map(|chunk| chunk.len() as u32).collect();
                let mut announcement = super::announcement_of_chunks(1, number, &lengths);
                announcement.segment = SegmentNumber(number);
                announcement.init = encoded.init.as_ref().map(|_| 0);
                (announcement.start, announcement.duration_us) = (start, duration_us);
                start = start + announcement.duration();
                encoded.segments.push(Cut { body, announcement: Arc::new(announcement) });
            }
        }
        encoded
    }
}

impl Cut {
    fn chunks(&self) -> impl Iterator<Item = (ChunkNumber, Bytes)> {
        let chunk = |(index, body): (usize, &[u8])| {
            (ChunkNumber(self.announcement.first_chunk.0 + index as u64), self.body.slice_ref(body))
        };
        self.body.chunks(CHUNK_LEN).enumerate().map(chunk)
    }

    fn insert(&self, media: &Media, number: ChunkNumber, body: Bytes) {
        assert!(media.insert(self.announcement.rendition, self.announcement.epoch, number, body));
    }
}

/// Reads a stream from its first listed segment to its end with ffmpeg, as fast as it comes. Returns the number of
/// picture frames, and what ffmpeg had to complain about.
///
/// One complaint is left out: ffmpeg (5.1 at least) reads the init section again after every reload of a live
/// playlist, whoever wrote it, and then finds that it knows it already.
pub(crate) async fn read_with_ffmpeg(url: &str) -> (usize, String) {
    let output = tokio::process::Command::new("ffmpeg")
        .args([
            "-v",
            "warning",
            "-live_start_index",
            "0",
            "-i",
            url,
            "-map",
            "0:v",
            "-c",
            "copy",
            "-f",
            "framecrc",
            "-",
        ])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output =
        tokio::time::timeout(Duration::from_secs(60), output).await.expect("in time").expect("ffmpeg is installed");
    let frames = String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')).count();
    let complaints = String::from_utf8_lossy(&output.stderr);
    let ours =
        complaints.lines().filter(|line| !line.contains("duplicated MOOV") && !line.contains("Last message repeated"));
    (frames, ours.collect())
}
