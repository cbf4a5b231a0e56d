//! The built-in live test picture: H.264 in CMAF, made without any other program.
//!
//! The picture is made of flat cells, so coding it takes microseconds and a few hundred
//! bytes; padding then brings the stream to any bitrate. It shows a clock for people and
//! a [`strip`] of blocks with the same clock for machines: a screenshot of a player,
//! taken at a known time, tells how far behind the camera it plays.
//!
//! Nothing here reads a clock or does IO. One [`Encoder`] makes one rendition; its
//! caller paces the frames, starts a segment with each key frame and cuts the fragments:
//!
//! ```text
//! frame() frame() frame() … ─▶ fragment()   a whole segment, or a part of one
//! ```

mod backdrop;
mod bits;
mod canvas;
mod cavlc;
mod cmaf;
mod dial;
mod font;
mod layout;
mod padding;
mod parameters;
#[cfg(test)]
mod pixel_tests;
mod scene;
mod slice;
pub mod strip;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use canvas::Canvas;
use padding::Budget;
use parameters::Parameters;
use scene::Scene;
use slice::SliceEncoder;

/// Units of media time in a second.
pub const TIMESCALE: u32 = 90_000;

/// The frame rate of [`Config::for_bitrate`].
const DEFAULT_FRAMES_PER_SECOND: u32 = 25;
const BITRATES: std::ops::RangeInclusive<u64> = 100_000..=100_000_000;
const LEAST_WIDTH: u16 = 320;
const LEAST_HEIGHT: u16 = 180;

/// One rendition of the test picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Pixels; even, at least 320.
    pub width: u16,
    /// Pixels; even, at least 180.
    pub height: u16,
    /// At most 60, and a divisor of [`TIMESCALE`], so that every frame lasts a whole
    /// number of its units.
    pub frames_per_second: u32,
    /// Bits a second of everything a player downloads but the init section; 100,000 to
    /// 100,000,000, kept within 2 % in every segment. A picture that needs more by itself
    /// takes more: 65 kbit/s at 480x270, 160 at 1280x720 and 280 at 1920x1080 (measured,
    /// 25 frames a second).
    pub bitrate_bps: u64,
    /// The stream's name, printed in the picture as far as there is room.
    pub title: String,
    /// The rendition's name, likewise.
    pub label: String,
}

impl Config {
    /// A rendition of 16:9 and 25 frames a second, as large as live services commonly
    /// make it at that bitrate, labelled with height and bitrate.
    pub fn for_bitrate(bitrate_bps: u64, title: &str) -> Self {
        let (width, height) = match bitrate_bps {
            ..600_000 => (480, 270),
            600_000..1_000_000 => (640, 360),
            1_000_000..2_500_000 => (854, 480),
            2_500_000..5_000_000 => (1280, 720),
            5_000_000.. => (1920, 1080),
        };
        let rate = if bitrate_bps < 1_000_000 {
            format!("{}K", bitrate_bps / 1000)
        } else {
            format!("{:.1}M", bitrate_bps as f64 / 1e6)
        };
        Self {
            width,
            height,
            frames_per_second: DEFAULT_FRAMES_PER_SECOND,
            bitrate_bps,
            title: title.to_owned(),
            label: format!("{height}P {rate}"),
        }
    }

    /// How long a frame lasts, in units of [`TIMESCALE`]. Frame number n starts at n
    /// times this.
    pub fn frame_duration(&self) -> u32 {
        TIMESCALE / self.frames_per_second.max(1)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let rate = self.frames_per_second;
        if !(1..=60).contains(&rate) || !TIMESCALE.is_multiple_of(rate) {
            return Err(ConfigError::FrameRate(rate));
        }
        if !BITRATES.contains(&self.bitrate_bps) {
            return Err(ConfigError::Bitrate(self.bitrate_bps));
        }
        let (width, height) = (self.width, self.height);
        let odd = width % 2 == 1 || height % 2 == 1;
        if odd || width < LEAST_WIDTH || height < LEAST_HEIGHT {
            return Err(ConfigError::Size { width, height });
        }
        Ok(())
    }
}

/// Why there is no such test picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// See [`Config::bitrate_bps`].
    #[error("no test picture of {0} bit/s; ask for 100000 to 100000000")]
    Bitrate(u64),
    /// See [`Config::frames_per_second`].
    #[error("no test picture of {0} frames per second; ask for 24, 25, 30, 50 or 60")]
    FrameRate(u32),
    /// ITU-T H.264 Table A-1 ends below it.
    #[error("{width}x{height} at {frames_per_second} frames per second is more than H.264 allows; ask for less")]
    NoLevel {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
        /// Frames per second.
        frames_per_second: u32,
    },
    /// See [`Config::width`] and [`Config::height`].
    #[error("no test picture of {width}x{height}; ask for even numbers, at least 320x180")]
    Size {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
    },
}

/// One coded frame.
#[derive(Clone, Debug)]
pub struct Sample {
    /// NAL units, each behind its length in four bytes.
    pub data: Bytes,
    /// Decoding can start here.
    pub key: bool,
    /// When it was captured, in milliseconds since the Unix epoch.
    pub wall_ms: u64,
}

/// Makes one rendition, frame by frame. The same calls give the same bytes.
#[derive(Debug)]
pub struct Encoder {
    config: Config,
    parameters: Parameters,
    scene: Scene,
    canvas: Canvas,
    slices: SliceEncoder,
    budget: Budget,
    fragments: u32,
}

impl Encoder {
    /// An encoder that has made nothing yet; its memory is some 60 bytes per 16 × 16
    /// pixels.
    ///
    /// # Errors
    /// If `config` is outside the limits its fields name.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let parameters = Parameters::new(&config)?;
        let scene = Scene::new(&config);
        Ok(Self {
            canvas: scene.canvas(),
            slices: SliceEncoder::new(),
            budget: Budget::new(config.bitrate_bps, config.frames_per_second),
            fragments: 0,
            config,
            parameters,
            scene,
        })
    }

    /// What the encoder was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The codecs parameter for playlists and media types, such as `avc1.42C01E`:
    /// RFC 6381 §3.3.
    pub fn codecs(&self) -> String {
        self.parameters.codecs()
    }

    /// `ftyp` and `moov`, the file that `EXT-X-MAP` names.
    pub fn init_section(&self) -> Bytes {
        cmaf::init_section(&self.config, &self.parameters)
    }

    /// The next frame, captured at `wall_ms` (milliseconds since the Unix epoch), as part
    /// of the media segment number `sequence`. `key` makes it a key frame; the first
    /// always is one.
    pub fn frame(&mut self, wall_ms: u64, sequence: u64, key: bool) -> Sample {
        let key = key || !self.slices.has_reference();
        self.scene.paint(&mut self.canvas, wall_ms, sequence);
        let slice = self.slices.encode(&self.canvas, key);
        self.budget.add_frame();
        self.budget.spend(slice.len() + 4);

        let room = self.budget.bytes();
        let mut data = Vec::with_capacity(room + slice.len() + 4);
        if room >= padding::LEAST {
            // Renditions that differ in bitrate differ in noise, too.
            let seed = wall_ms ^ self.config.bitrate_bps.rotate_left(32);
            padding::push_unit(&mut data, room, seed);
            self.budget.spend(data.len());
        }
        data.extend((slice.len() as u32).to_be_bytes());
        data.extend(slice);
        Sample { data: data.into(), key, wall_ms }
    }

    /// One CMAF chunk (`prft`, `moof`, `mdat`) of consecutive samples that starts at
    /// `base_decode_time`, in units of [`TIMESCALE`]: the number of its first frame times
    /// [`Config::frame_duration`]. `prft` tells the first sample's time of capture.
    ///
    /// Each fragment counts its `mfhd` sequence number up by one. No samples make no
    /// bytes.
    pub fn fragment(&mut self, samples: &[Sample], base_decode_time: u64) -> Bytes {
        if samples.is_empty() {
            return Bytes::new();
        }
        self.fragments = self.fragments.wrapping_add(1);
        let duration = self.config.frame_duration();
        let chunk = cmaf::chunk(samples, base_decode_time, duration, self.fragments);
        let coded: usize = samples.iter().map(|sample| sample.data.len()).sum();
        self.budget.spend(chunk.len() - coded);
        chunk
    }
}
