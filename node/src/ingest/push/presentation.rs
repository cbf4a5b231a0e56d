//! What an encoder says of its CMAF stream in a DASH manifest (MPD, ISO/IEC 23009-1): its renditions, and how their files
//! are called. Everything else in the manifest is of no use here.

use std::fmt::Write as _;

use roxmltree::{Document, Node, ParsingOptions};
use starling_proto::wire::MAX_TEXT_LEN;
use thiserror::Error;

use super::template::{self, Ordinal};

/// Representations of one stream: more than any real ladder with its languages.
pub(super) const REPRESENTATIONS_MAX: usize = 16;

/// Elements and attributes read of a manifest; ffmpeg's has some 20 and one a segment.
const NODES_MAX: u32 = 20_000;

/// A manifest, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Presentation {
    /// When the encoder says it began: tells one run from another.
    pub(super) began: String,
    /// Longest segment, seconds, rounded up.
    pub(super) segment_max: u32,
    /// By place: rendition ids count these.
    pub(super) representations: Vec<Representation>,
}

/// One rendition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Representation {
    pub(super) video: bool,
    pub(super) bandwidth_bps: u64,
    codecs: String,
    /// Width and height, pixels.
    size: Option<(u32, u32)>,
    /// Frames in so many seconds.
    frame_rate: Option<(u32, u32)>,
    language: String,
    /// Path of the initialization section.
    pub(super) init: String,
    /// Path of segments, but for the number.
    media: String,
}

/// Why a manifest can't be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum Unusable {
    #[error("it is not a DASH manifest: {0}")]
    NotManifest(String),
    #[error("it names no audio or video with SegmentTemplate (initialization and media); check the packager")]
    NoTemplates,
    #[error("it has more than {REPRESENTATIONS_MAX} representations; push fewer")]
    TooMany,
}

impl Presentation {
    /// Reads the manifest that was pushed to `path`.
    pub(super) fn parse(text: &str, path: &str) -> Result<Self, Unusable> {
        let options = ParsingOptions { nodes_limit: NODES_MAX, ..ParsingOptions::default() };
        let document =
            Document::parse_with_options(text, options).map_err(|error| Unusable::NotManifest(error.to_string()))?;
        let root = document.root_element();
        if root.tag_name().name() != "MPD" {
            return Err(Unusable::NotManifest(format!("its root is <{}>", text_of(root.tag_name().name()))));
        }
        let directory = path.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"));
        // A live manifest's last period is the one under way.
        let period = children(root, "Period").last().ok_or(Unusable::NoTemplates)?;
        let mut representations = Vec::new();
        for set in children(period, "AdaptationSet") {
            let found =
                children(set, "Representation").filter_map(|node| representation([period, set, node], &directory));
            representations.extend(found);
        }
        match representations.len() {
            0 => Err(Unusable::NoTemplates),
            1..=REPRESENTATIONS_MAX => Ok(Self {
                began: root.attribute("availabilityStartTime").map(text_of).unwrap_or_default(),
                segment_max: root.attribute("maxSegmentDuration").and_then(seconds).unwrap_or(2).clamp(1, 60),
                representations,
            }),
            _ => Err(Unusable::TooMany),
        }
    }

    /// Of which representation the file at `path` is a segment, and which.
    pub(super) fn segment(&self, path: &str) -> Option<(usize, Ordinal)> {
        let each = self.representations.iter().enumerate();
        each.filter_map(|(index, known)| Some((index, template::ordinal(&known.media, path)?))).next()
    }

    /// Both speak of the same files; what they say of them may differ, as ffmpeg measures bandwidths only once it runs.
    pub(super) fn has_the_files_of(&self, other: &Self) -> bool {
        let files = |known: &Representation| (known.init.clone(), known.media.clone(), known.video);
        self.representations.iter().map(files).eq(other.representations.iter().map(files))
    }

    /// The file at `path` is an initialization section.
    pub(super) fn has_init(&self, path: &str) -> bool {
        self.representations.iter().any(|known| known.init == path)
    }

    /// The multivariant playlist, media playlists called `<place>/index.m3u8`; `None` for one representation.
    pub(super) fn multivariant(&self) -> Option<String> {
        if self.representations.len() < 2 {
            return None;
        }
        let mut text = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n".to_owned();
        let has_video = self.representations.iter().any(|known| known.video);
        let audio = || self.representations.iter().enumerate().filter(|(_, known)| !known.video);
        if has_video {
            for (count, (index, known)) in audio().enumerate() {
                known.write_audio(&mut text, index, count);
            }
        }
        // What plays beside a picture: peaks add up.
        let loudest = audio().map(|(_, known)| known).max_by_key(|known| known.bandwidth_bps).filter(|_| has_video);
        for (index, known) in self.representations.iter().enumerate() {
            if known.video || !has_video {
                known.write_variant(&mut text, index, loudest);
            }
        }
        Some(text)
    }
}

impl Representation {
    /// For people.
    pub(super) fn label(&self) -> String {
        match (self.size, self.language.as_str()) {
            (Some((_, height)), _) => format!("{height}p"),
            (None, "") if self.video => "video".to_owned(),
            (None, "") => "audio".to_owned(),
            (None, language) => text_of(&format!("audio {language}")),
        }
    }

    /// The ending of its segments' names, if players know it.
    pub(super) fn extension(&self) -> String {
        let ending = self.media.rsplit_once('.').map_or("", |(_, ending)| ending);
        if ["m4s", "mp4", "m4v", "m4a", "cmfv", "cmfa"].contains(&ending) { ending } else { "m4s" }.to_owned()
    }

    // Writing to a String can't fail.

    fn write_audio(&self, text: &mut String, index: usize, count: usize) {
        let default = if count == 0 { "YES" } else { "NO" };
        let _ = write!(text, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"audio {}\"", count + 1);
        if !self.language.is_empty() {
            let _ = write!(text, ",LANGUAGE=\"{}\"", self.language);
        }
        let _ = writeln!(text, ",DEFAULT={default},AUTOSELECT=YES,URI=\"{index}/index.m3u8\"");
    }

    fn write_variant(&self, text: &mut String, index: usize, audio: Option<&Self>) {
        let bandwidth = self.bandwidth_bps.saturating_add(audio.map_or(0, |audio| audio.bandwidth_bps));
        let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}");
        let codecs = [Some(self), audio].into_iter().flatten().map(|known| known.codecs.as_str());
        let codecs: Vec<_> = codecs.filter(|codecs| !codecs.is_empty()).collect();
        if !codecs.is_empty() {
            let _ = write!(text, ",CODECS=\"{}\"", codecs.join(","));
        }
        if let Some((width, height)) = self.size {
            let _ = write!(text, ",RESOLUTION={width}x{height}");
        }
        if let Some((frames, seconds)) = self.frame_rate {
            let _ = write!(text, ",FRAME-RATE={:.3}", f64::from(frames) / f64::from(seconds));
        }
        let _ = writeln!(text, "{}\n{index}/index.m3u8", if audio.is_some() { ",AUDIO=\"audio\"" } else { "" });
    }
}

/// The rendition that the innermost of `nodes` describes; what it doesn't say, the outer ones may.
fn representation(nodes: [Node<'_, '_>; 3], directory: &str) -> Option<Representation> {
    let said = |name: &str| nodes.iter().rev().find_map(|node| node.attribute(name));
    let templated = |name: &str| {
        nodes.iter().rev().find_map(|node| children(*node, "SegmentTemplate").find_map(|it| it.attribute(name)))
    };
    let kind = said("contentType").or_else(|| said("mimeType")?.split('/').next())?;
    let video = match kind {
        "video" => true,
        "audio" => false,
        _ => return None,
    };
    let id = nodes[2].attribute("id").unwrap_or("");
    let told = said("bandwidth").unwrap_or("");
    let path = |name: &str| Some(format!("{directory}{}", template::resolve(templated(name)?, id, told)?));
    let number =
        |name: &str| said(name).and_then(|value| value.parse::<u32>().ok()).filter(|n| (1..=65536).contains(n));
    let codecs = said("codecs").unwrap_or("");
    Some(Representation {
        video,
        // Without -b:v ffmpeg doesn't say; players must be told something. Guesses.
        bandwidth_bps: told.parse().ok().filter(|b| *b > 0).unwrap_or(if video { 2_000_000 } else { 128_000 }),
        codecs: codecs
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || ".-_,".contains(*c))
            .take(MAX_TEXT_LEN)
            .collect(),
        size: number("width").zip(number("height")),
        frame_rate: said("frameRate").and_then(fraction),
        language: said("lang")
            .unwrap_or("")
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .take(35)
            .collect(),
        init: path("initialization")?,
        media: path("media")?,
    })
}

fn children<'a, 'input>(
    node: Node<'a, 'input>,
    name: &'static str,
) -> impl DoubleEndedIterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// `25`, `30000/1001`.
fn fraction(text: &str) -> Option<(u32, u32)> {
    let (above, below) = text.split_once('/').unwrap_or((text, "1"));
    let (above, below) = (above.trim().parse().ok()?, below.trim().parse().ok()?);
    (above > 0 && below > 0).then_some((above, below))
}

/// A duration of seconds only, `PT2.0S`, rounded up.
fn seconds(text: &str) -> Option<u32> {
    let seconds: f64 = text.strip_prefix("PT")?.strip_suffix('S')?.parse().ok()?;
    (seconds.is_finite() && seconds > 0.0).then_some(seconds.ceil().min(3600.0) as u32)
}

/// At most [`MAX_TEXT_LEN`] bytes, no control characters.
fn text_of(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_LEN / 4).collect()
}

#[cfg(test)]
#[path = "presentation_tests.rs"]
mod tests;
