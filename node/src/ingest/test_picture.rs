//! The built-in test picture as an input: a live stream that needs no other program.

use std::time::{Duration, Instant};

use bytes::Bytes;
use starling_proto::{RenditionId, WallTime};
use thiserror::Error;
use tokio::sync::mpsc;

use super::{Ingested, Segment, Shape, Track};
use crate::clock::wall_now;
use crate::picture::{Config, ConfigError, Encoder, Sample};

/// What to show.
#[derive(Clone, Debug)]
pub struct Options {
    /// Written into the picture.
    pub title: String,
    /// One rendition each, bits per second.
    pub bitrates_bps: Vec<u64>,
    /// Length of a segment; a whole number of frames.
    pub segment: Duration,
}

/// Why there is no test picture.
#[derive(Debug, Error)]
pub enum TestPictureError {
    /// A rendition can't be made.
    #[error("the test picture can't have that form: {0}")]
    Config(#[from] ConfigError),
    /// No segment of that length.
    #[error("segments of the test picture must last 0.2 to 20 seconds; change --segment-seconds")]
    SegmentLength,
    /// None or too many.
    #[error("the test picture can have 1 to 16 renditions; change --bitrate")]
    Renditions,
}

/// One rendition being made.
struct Lane {
    encoder: Encoder,
    init: Bytes,
    track: Track,
}

/// A wall clock further off than this from where it should be was set by somebody.
const JUMP: Duration = Duration::from_millis(500);

/// Sends the picture, segment after segment as each is over, until nobody receives.
///
/// # Errors
/// [`TestPictureError`] for options that make no picture.
pub async fn run(options: Options, events: mpsc::Sender<Ingested>) -> Result<(), TestPictureError> {
    if !(Duration::from_millis(200)..=Duration::from_secs(20)).contains(&options.segment) {
        return Err(TestPictureError::SegmentLength);
    }
    if !(1..=16).contains(&options.bitrates_bps.len()) {
        return Err(TestPictureError::Renditions);
    }
    let mut lanes = lanes(&options)?;
    let shape = shape(&lanes);
    if events.send(Ingested::Shape(shape)).await.is_err() {
        return Ok(());
    }
    let mut clock = CaptureClock::start();
    let mut frames_before: u64 = 0;
    for number in 0.. {
        let frames = frames_per_segment(&lanes[0].encoder, options.segment);
        let began = clock.wall_at(frames_before, lanes[0].encoder.config());
        tokio::time::sleep_until(clock.instant_at(frames_before + frames, lanes[0].encoder.config()).into()).await;
        for lane in &mut lanes {
            let segment = lane.segment(number, began, frames_before, frames);
            if events.send(Ingested::Segment(Box::new(segment))).await.is_err() {
                return Ok(());
            }
        }
        frames_before += frames;
        clock.follow(frames_before, lanes[0].encoder.config());
    }
    Ok(())
}

impl Lane {
    fn segment(&mut self, number: u64, began: WallTime, frames_before: u64, frames: u64) -> Segment {
        let frame_us = frame_us(self.encoder.config());
        let samples: Vec<Sample> = (0..frames)
            .map(|frame| {
                let captured = began + Duration::from_micros(frame * frame_us);
                self.encoder.frame(u64::try_from(captured.0 / 1000).unwrap_or(0), number, frame == 0)
            })
            .collect();
        let decode_time = frames_before * u64::from(self.encoder.config().frame_duration());
        Segment {
            rendition: self.track.id,
            number,
            body: self.encoder.fragment(&samples, decode_time),
            start: began,
            duration: Duration::from_micros(frames * frame_us),
            discontinuity: false,
            init: Some(self.init.clone()),
            tags: Vec::new(),
            uri: String::new(),
            offset: 0,
        }
    }
}

/// Ties frame numbers to both clocks. Pace follows the monotonic clock; the wall clock is looked at once a segment, so that
/// the picture's clock stays true when somebody sets it.
struct CaptureClock {
    began: Instant,
    wall: WallTime,
}

impl CaptureClock {
    fn start() -> Self {
        Self { began: Instant::now(), wall: wall_now() }
    }

    fn instant_at(&self, frame: u64, config: &Config) -> Instant {
        self.began + Duration::from_micros(frame * frame_us(config))
    }

    fn wall_at(&self, frame: u64, config: &Config) -> WallTime {
        self.wall + Duration::from_micros(frame * frame_us(config))
    }

    fn follow(&mut self, frame: u64, config: &Config) {
        let running = self.began.elapsed();
        let off = wall_now().0 - (self.wall + running).0;
        if off.unsigned_abs() > u64::try_from(JUMP.as_micros()).unwrap_or(u64::MAX) {
            tracing::warn!(seconds = off as f64 / 1e6, frame, at = ?self.wall_at(frame, config), "the system clock jumped; following it");
            self.wall = self.wall.shifted(off);
        }
    }
}

fn lanes(options: &Options) -> Result<Vec<Lane>, ConfigError> {
    let lane = |(index, bitrate): (usize, &u64)| {
        let config = Config::for_bitrate(*bitrate, &options.title);
        let label = config.label.clone();
        let encoder = Encoder::new(config)?;
        let track = Track {
            id: RenditionId(index as u16),
            label,
            bandwidth_bps: *bitrate,
            target_duration: options.segment.as_secs_f64().ceil().max(1.0) as u32,
            hls_version: 7,
            tags: vec!["#EXT-X-INDEPENDENT-SEGMENTS".to_owned()],
            uri: format!("{index}/index.m3u8"),
            extension: "m4s".to_owned(),
            part_target: None,
        };
        Ok(Lane { init: encoder.init_section(), encoder, track })
    };
    options.bitrates_bps.iter().enumerate().map(lane).collect()
}

fn shape(lanes: &[Lane]) -> Shape {
    let renditions = lanes.iter().map(|lane| lane.track.clone()).collect();
    let multivariant = (lanes.len() > 1).then(|| {
        let variants = lanes.iter().map(|lane| {
            let (config, codecs) = (lane.encoder.config(), lane.encoder.codecs());
            // BANDWIDTH is the peak; padding keeps every segment within 2 % of the rate.
            let peak = config.bitrate_bps + config.bitrate_bps / 50;
            format!(
                "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={},CODECS=\"{codecs}\",RESOLUTION={}x{},FRAME-RATE={}.000\n{}\n",
                config.bitrate_bps, config.width, config.height, config.frames_per_second, lane.track.uri
            )
        });
        format!("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n{}", variants.collect::<String>())
    });
    Shape { multivariant, renditions }
}

fn frames_per_segment(encoder: &Encoder, segment: Duration) -> u64 {
    let frame_us = frame_us(encoder.config());
    u64::try_from(segment.as_micros()).unwrap_or(u64::MAX).div_ceil(frame_us.max(1)).max(1)
}

fn frame_us(config: &Config) -> u64 {
    1_000_000 / u64::from(config.frames_per_second.max(1))
}
