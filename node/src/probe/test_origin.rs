//! A low-latency origin for tests: the built-in picture in parts of 0.2 s and segments of 2 s, in real time, with blocking
//! reloads, held hints and delta updates; and the faults that origins have.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::sleep_until;
use url::Url;

use super::test_server::{Reply, Request, TestServer};
use crate::picture::{Config, Encoder};

pub(super) const PART: Duration = Duration::from_millis(200);
pub(super) const PARTS: u64 = 10;
const FRAMES: u64 = 5;
/// Segments with their parts listed, beside the one that grows.
const WITH_PARTS: u64 = 3;
/// Segments that a delta update lists: CAN-SKIP-UNTIL of 12 s.
const NOT_SKIPPED: u64 = 6;

/// A part: the number of its segment, and its own in it.
pub(super) type Place = (u64, u64);

/// How an origin behaves.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// Segments that exist when it starts.
    pub(super) history: u64,
    /// Segments in all; then the programme ends.
    pub(super) segments: u64,
    /// What the multivariant playlist offers: names and bitrates.
    pub(super) renditions: &'static [(&'static str, u64)],
    /// Whole segments listed.
    pub(super) window: u64,
    /// This part comes so much later than it should, and none overtakes it.
    pub(super) late: Option<(Place, Duration)>,
    /// This part is declared absent.
    pub(super) gap: Option<Place>,
    /// The body of the first part is that of the second.
    pub(super) swapped: Option<(Place, Place)>,
    /// Reloads are answered at once, whatever they ask for.
    pub(super) never_blocks: bool,
    /// Parts are byte ranges of their segments' files.
    pub(super) ranges: bool,
    /// What EXTINF says, in seconds.
    pub(super) extinf: f64,
    /// EXT-X-SERVER-CONTROL.
    pub(super) control: &'static str,
    /// Parts that have this number or a later one are hinted at under a name that leads nowhere.
    pub(super) false_hints_from: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            history: 8,
            segments: 10,
            renditions: &[("low", 200_000)],
            window: 8,
            late: None,
            gap: None,
            swapped: None,
            never_blocks: false,
            ranges: false,
            extinf: 2.0,
            control: "CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.6,CAN-SKIP-UNTIL=12",
            false_hints_from: None,
        }
    }
}

/// A running origin; it stops when dropped.
pub(super) struct Origin {
    server: TestServer,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Programme {
    options: Options,
    began: Instant,
    began_wall: OffsetDateTime,
    renditions: Vec<Rendition>,
}

struct Rendition {
    name: &'static str,
    bitrate: u64,
    init: Bytes,
    parts: Vec<Bytes>,
}

impl Origin {
    /// An origin that answers some requests with `broken` instead.
    pub(super) async fn start(
        options: Options,
        broken: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let programme = Arc::new(Programme::new(options));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let server = TestServer::holding(move |request| {
            let range = request.range.map_or(String::new(), |(first, last)| format!(" {first}-{last}"));
            log.lock().expect("nobody panicked").push(format!("{}{range}", request.path));
            let instead = broken(&request);
            let programme = Arc::clone(&programme);
            async move {
                match instead {
                    Some(reply) => reply,
                    None => programme.answer(&request.path).await,
                }
            }
        })
        .await;
        Self { server, asked }
    }

    pub(super) fn url(&self, path: &str) -> Url {
        self.server.url(path)
    }

    /// Every request so far: its path, query and byte range.
    pub(super) fn asked(&self) -> MutexGuard<'_, Vec<String>> {
        self.asked.lock().expect("nobody panicked")
    }
}

impl Programme {
    fn new(options: Options) -> Self {
        let parts = options.segments * PARTS;
        let renditions =
            options.renditions.iter().map(|(name, bitrate)| Rendition::new(name, *bitrate, parts)).collect();
        let past = PART * (options.history * PARTS) as u32;
        Self {
            began: Instant::now() - past,
            began_wall: OffsetDateTime::from(SystemTime::now() - past),
            renditions,
            options,
        }
    }

    async fn answer(&self, path: &str) -> Reply {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let Some((name, file)) = path.trim_start_matches('/').split_once('/') else {
            return Reply::ok(self.multivariant());
        };
        let Some(rendition) = self.renditions.iter().find(|rendition| rendition.name == name) else {
            return Reply::status(404);
        };
        match file.split('.').collect::<Vec<_>>()[..] {
            ["live", "m3u8"] => self.playlist(rendition, query).await,
            ["init", "mp4"] => Reply::ok(&rendition.init[..]),
            [sequence, "mp4"] => self.segment(rendition, sequence),
            [sequence, index, "mp4"] => self.part(rendition, sequence, index).await,
            _ => Reply::status(404),
        }
    }

    async fn playlist(&self, rendition: &Rendition, query: &str) -> Reply {
        let directive = |name| query.split('&').find_map(|pair| pair.strip_prefix(name)?.parse::<u64>().ok());
        let wanted = directive("_HLS_msn=").map(|msn| msn * PARTS + directive("_HLS_part=").unwrap_or(PARTS - 1));
        if let Some(wanted) = wanted.filter(|_| !self.options.never_blocks) {
            if wanted > self.made() + 2 * PARTS {
                return Reply::status(400);
            }
            self.made_is_more_than(wanted).await;
        }
        Reply::ok(self.media(rendition, query.contains("_HLS_skip=YES")))
    }

    fn segment(&self, rendition: &Rendition, sequence: &str) -> Reply {
        let Ok(sequence) = sequence.parse::<u64>() else { return Reply::status(404) };
        let made = if self.options.ranges { self.made() / PARTS + 1 } else { self.made() / PARTS };
        if sequence >= made.min(self.options.segments) {
            return Reply::status(404);
        }
        Reply::ok(rendition.segment(sequence).concat())
    }

    /// A part that comes next is waited for.
    async fn part(&self, rendition: &Rendition, sequence: &str, index: &str) -> Reply {
        let (Ok(sequence), Ok(index)) = (sequence.parse::<u64>(), index.parse::<u64>()) else {
            return Reply::status(404);
        };
        let number = sequence * PARTS + index;
        if number > self.made() || number >= self.all() || self.options.gap == Some((sequence, index)) {
            return Reply::status(404);
        }
        self.made_is_more_than(number).await;
        let from = self.options.swapped.filter(|(wrong, _)| *wrong == (sequence, index));
        let (sequence, index) = from.map_or((sequence, index), |(_, right)| right);
        Reply::ok(&rendition.segment(sequence)[index as usize][..])
    }

    /// Parts in all.
    fn all(&self) -> u64 {
        self.options.segments * PARTS
    }

    /// When the part of this number is made.
    fn made_at(&self, number: u64) -> Instant {
        let regular = self.began + PART * (number as u32 + 1);
        match self.options.late {
            Some(((sequence, index), late)) if number >= sequence * PARTS + index => {
                regular.max(self.began + PART * (sequence * PARTS + index + 1) as u32 + late)
            }
            Some(_) | None => regular,
        }
    }

    /// Parts made by now.
    fn made(&self) -> u64 {
        let now = Instant::now();
        (0..self.all()).take_while(|number| self.made_at(*number) <= now).count() as u64
    }

    async fn made_is_more_than(&self, number: u64) {
        if number < self.all() {
            sleep_until(self.made_at(number).into()).await;
        }
    }

    fn multivariant(&self) -> String {
        self.renditions.iter().fold("#EXTM3U\n".to_owned(), |text, Rendition { name, bitrate, .. }| {
            format!("{text}#EXT-X-STREAM-INF:BANDWIDTH={bitrate}\n{name}/live.m3u8\n")
        })
    }

    fn media(&self, rendition: &Rendition, delta: bool) -> String {
        let (whole, growing) = (self.made() / PARTS, self.made() % PARTS);
        let first = whole.saturating_sub(self.options.window);
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:10\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-SERVER-CONTROL:{}\n#EXT-X-PART-INF:PART-TARGET=0.2\n",
            self.options.control
        );
        let from = if delta { whole.saturating_sub(NOT_SKIPPED).max(first) } else { first };
        if from > first {
            line(&mut text, format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={}", from - first));
        } else {
            line(&mut text, format_args!("#EXT-X-MAP:URI=\"init.mp4\""));
        }
        for sequence in from..whole {
            self.date(&mut text, sequence);
            if sequence + WITH_PARTS >= whole {
                (0..PARTS).for_each(|index| self.list_part(&mut text, rendition, sequence, index));
            }
            line(&mut text, format_args!("#EXTINF:{},\n{sequence}.mp4", self.options.extinf));
        }
        if whole == self.options.segments {
            text += "#EXT-X-ENDLIST\n";
            return text;
        }
        self.date(&mut text, whole);
        (0..growing).for_each(|index| self.list_part(&mut text, rendition, whole, index));
        let name = if self.options.false_hints_from.is_some_and(|from| whole >= from) { "nowhere" } else { "" };
        if self.options.ranges {
            line(&mut text, format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{whole}.mp4\",BYTERANGE-START=9"));
        } else {
            line(&mut text, format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{name}{whole}.{growing}.mp4\""));
        }
        text
    }

    fn date(&self, text: &mut String, sequence: u64) {
        let date = self.began_wall + PART * (sequence * PARTS) as u32;
        line(text, format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", date.format(&Rfc3339).expect("it is a common year")));
    }

    fn list_part(&self, text: &mut String, rendition: &Rendition, sequence: u64, index: u64) {
        let independent = if index == 0 { ",INDEPENDENT=YES" } else { "" };
        let gap = if self.options.gap == Some((sequence, index)) { ",GAP=YES" } else { "" };
        let uri = if self.options.ranges {
            let sizes: Vec<usize> = rendition.segment(sequence).iter().map(Bytes::len).collect();
            let offset: usize = sizes[..index as usize].iter().sum();
            // the offset may be left out where a part follows another
            let at = if index.is_multiple_of(2) { format!("@{offset}") } else { String::new() };
            format!("URI=\"{sequence}.mp4\",BYTERANGE=\"{}{at}\"", sizes[index as usize])
        } else {
            format!("URI=\"{sequence}.{index}.mp4\"")
        };
        line(text, format_args!("#EXT-X-PART:DURATION=0.2,{uri}{independent}{gap}"));
    }
}

impl Rendition {
    fn new(name: &'static str, bitrate: u64, parts: u64) -> Self {
        let mut encoder = Encoder::new(Config::for_bitrate(bitrate, "test")).expect("there is such a picture");
        let duration = u64::from(encoder.config().frame_duration());
        let init = encoder.init_section();
        let parts = (0..parts).map(|part| {
            let frames = part * FRAMES..(part + 1) * FRAMES;
            let samples: Vec<_> = frames
                .clone()
                .map(|frame| encoder.frame(frame * 40, part / PARTS, frame % (FRAMES * PARTS) == 0))
                .collect();
            encoder.fragment(&samples, frames.start * duration)
        });
        Self { name, bitrate, init, parts: parts.collect() }
    }

    fn segment(&self, sequence: u64) -> &[Bytes] {
        let first = (sequence * PARTS) as usize;
        &self.parts[first..first + PARTS as usize]
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("there is memory");
}
