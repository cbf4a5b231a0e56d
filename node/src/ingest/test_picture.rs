//! The built-in test picture as an input: a live stream that needs no other program, by segments or by parts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use starling_proto::{RenditionId, WallTime};
use thiserror::Error;
use tokio::sync::mpsc;

use super::{Ingested, Part, Segment, Shape, Track};
use crate::clock::{self, Reading};
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
    /// Length of a part, likewise; `None`: whole segments only.
    pub part: Option<Duration>,
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
    /// No parts of that length.
    #[error("parts of the test picture must last 0.04 seconds to half a segment; change --part-seconds")]
    PartLength,
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
    run_by(clock::read, options, events).await
}

async fn run_by(
    clocks: impl Fn() -> Reading,
    options: Options,
    events: mpsc::Sender<Ingested>,
) -> Result<(), TestPictureError> {
    if !(Duration::from_millis(200)..=Duration::from_secs(20)).contains(&options.segment) {
        return Err(TestPictureError::SegmentLength);
    }
    if options.part.is_some_and(|part| part < Duration::from_millis(40) || part * 2 > options.segment) {
        return Err(TestPictureError::PartLength);
    }
    if !(1..=16).contains(&options.bitrates_bps.len()) {
        return Err(TestPictureError::Renditions);
    }
    let mut lanes = lanes(&options)?;
    let shape = shape(&lanes);
    if events.send(Ingested::Shape(shape)).await.is_err() {
        return Ok(());
    }
    let mut clock = CaptureClock::start(clocks());
    let config = lanes[0].encoder.config().clone();
    let frames = frames_in(&config, options.segment);
    let step = options.part.map_or(frames, |part| frames_in(&config, part));
    for number in 0.. {
        let before = number * frames;
        let mut growing: Vec<Vec<u8>> = vec![Vec::new(); lanes.len()];
        for at in (0..frames).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            let end = (at + step).min(frames);
            let piece = Piece { number, before, at, end, began: clock.wall_at(before, &config), last: end == frames };
            tokio::time::sleep_until(clock.instant_at(before + end, &config).into()).await;
            for (lane, growing) in lanes.iter_mut().zip(&mut growing) {
                if events.send(lane.piece(&piece, growing)).await.is_err() {
                    return Ok(());
                }
            }
        }
        clock.follow(clocks());
    }
    Ok(())
}

/// A run of frames of one segment.
struct Piece {
    /// The segment's.
    number: u64,
    /// Frames before the segment.
    before: u64,
    /// The run, counted from the segment's first frame.
    at: u64,
    end: u64,
    /// When the segment's first frame was captured.
    began: WallTime,
    /// The segment ends with it.
    last: bool,
}

impl Lane {
    /// The next part; with the last of them, the segment. `growing`: what came before.
    fn piece(&mut self, piece: &Piece, growing: &mut Vec<u8>) -> Ingested {
        let config = self.encoder.config();
        let (frame_us, frame_duration) = (frame_us(config), u64::from(config.frame_duration()));
        let captured = |frame: u64| piece.began + Duration::from_micros(frame * frame_us);
        let samples: Vec<Sample> = (piece.at..piece.end)
            .map(|frame| {
                let shown = u64::try_from(captured(frame).0 / 1000).unwrap_or(0);
                self.encoder.frame(shown, piece.number, frame == 0)
            })
            .collect();
        let body = self.encoder.fragment(&samples, (piece.before + piece.at) * frame_duration);
        growing.extend_from_slice(&body);
        if piece.last {
            return Ingested::Segment(Box::new(Segment {
                rendition: self.track.id,
                number: piece.number,
                body: std::mem::take(growing).into(),
                start: piece.began,
                duration: Duration::from_micros(piece.end * frame_us),
                discontinuity: false,
                init: Some(self.init.clone()),
                tags: Vec::new(),
                uri: String::new(),
                offset: 0,
            }));
        }
        let duration = Duration::from_micros((piece.end - piece.at) * frame_us);
        Ingested::Part(Box::new(Part {
            rendition: self.track.id,
            number: piece.number,
            index: u32::try_from(piece.at / (piece.end - piece.at)).unwrap_or(u32::MAX),
            body,
            start: captured(piece.at),
            duration,
            independent: piece.at == 0,
            discontinuity: false,
            init: Some(self.init.clone()),
            tags: Vec::new(),
            uri: String::new(),
            offset: 0,
        }))
    }
}

/// Ties frame numbers to both clocks. Pace follows the monotonic clock; the wall clock is looked at once a segment, so that
/// the picture's clock stays true when somebody sets it.
struct CaptureClock {
    began: Instant,
    wall: WallTime,
}

impl CaptureClock {
    fn start(now: Reading) -> Self {
        Self { began: now.mono, wall: now.wall }
    }

    fn instant_at(&self, frame: u64, config: &Config) -> Instant {
        self.began + Duration::from_micros(frame * frame_us(config))
    }

    fn wall_at(&self, frame: u64, config: &Config) -> WallTime {
        self.wall + Duration::from_micros(frame * frame_us(config))
    }

    fn follow(&mut self, now: Reading) {
        let running = now.mono - self.began;
        let off = now.wall.0 - (self.wall + running).0;
        if off.unsigned_abs() > u64::try_from(JUMP.as_micros()).unwrap_or(u64::MAX) {
            tracing::warn!(seconds = off as f64 / 1e6, "the system clock was set; the picture's clock follows it");
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
            part_target: options.part,
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

fn frames_in(config: &Config, time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).div_ceil(frame_us(config).max(1)).max(1)
}

fn frame_us(config: &Config) -> u64 {
    1_000_000 / u64::from(config.frames_per_second.max(1))
}

#[cfg(test)]
mod tests;
