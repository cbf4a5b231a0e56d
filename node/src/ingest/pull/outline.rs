//! What a source consists of: its renditions, and the multivariant playlist as viewers are to see it.
//!
//! In the text only URIs change: media playlists become `<id>/index.m3u8`, keys and session data absolute. Dropped are
//! EXT-X-DEFINE (resolved), EXT-X-CONTENT-STEERING (it would steer viewers away from the mesh) and
//! EXT-X-I-FRAME-STREAM-INF (its segments are byte ranges of others').

use std::fmt::Write;

use starling_proto::RenditionId;
use starling_proto::wire::MAX_TEXT_LEN;
use url::Url;

use super::LoadError;
use super::line::{LINE_MAX, absolute, attribute, lines, tag, with_attribute, without_login};
use super::variables::{self, Variables};

/// Renditions of one source: more than any real ladder with its languages, fewer than a catalogue can list.
pub(super) const RENDITIONS_MAX: usize = 64;

/// Longest multivariant text, bytes: half of what a catalogue has room for.
pub(super) const TEXT_MAX: usize = 32 * 1024;

/// The renditions and how they belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outline {
    /// The multivariant playlist for viewers; `None` if the source is one media playlist.
    pub(super) text: Option<String>,
    /// By id.
    pub(super) entries: Vec<Entry>,
    /// What media playlists may import.
    pub(super) variables: Variables,
}

/// One rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its playlist.
    pub(super) url: Url,
    /// The same, relative to the source URL where that gives the same address.
    pub(super) uri: String,
    /// For people.
    pub(super) label: String,
    /// Bits per second; 0 if unknown.
    pub(super) bandwidth_bps: u64,
}

/// The text is a multivariant playlist.
pub(super) fn is_multivariant(text: &str) -> bool {
    lines(text).filter_map(tag).any(|(name, _)| matches!(name, "EXT-X-STREAM-INF" | "EXT-X-MEDIA"))
}

impl Outline {
    /// A source that is a single media playlist.
    pub(super) fn single(source: &Url) -> Self {
        let entry = Entry { url: source.clone(), uri: String::new(), label: "main".to_owned(), bandwidth_bps: 0 };
        Self { text: None, entries: vec![entry], variables: Variables::new() }
    }

    /// Reads a multivariant playlist that was asked for at `source` and found, after redirects, at `url`.
    pub(super) fn multivariant(text: &str, source: &Url, url: &Url, limit: usize) -> Result<Self, LoadError> {
        let (text, variables) = variables::resolve(text, url, &Variables::new(), limit)?;
        let mut reading = Reading { source, base: url, entries: Vec::new() };
        let rewritten = reading.rewrite(&text)?;
        if reading.entries.is_empty() {
            return Err(LoadError::NoVariants);
        }
        if rewritten.len() > TEXT_MAX {
            return Err(LoadError::TooLarge("a multivariant playlist of more than 32 KiB"));
        }
        Ok(Self { text: Some(rewritten), entries: reading.entries, variables })
    }
}

struct Reading<'a> {
    source: &'a Url,
    base: &'a Url,
    entries: Vec<Entry>,
}

impl Reading<'_> {
    fn rewrite(&mut self, text: &str) -> Result<String, LoadError> {
        let mut output = String::with_capacity(text.len() + 256);
        let mut variant: Option<String> = None;
        for raw in text.split_inclusive('\n') {
            let line = raw.trim_end_matches(['\n', '\r']);
            let line_end = &raw[line.len()..];
            let line = line.strip_prefix('\u{feff}').unwrap_or(line);
            let rewritten = match tag(line) {
                Some(("EXT-X-I-FRAME-STREAM-INF" | "EXT-X-CONTENT-STEERING", _)) => continue,
                Some(("EXT-X-STREAM-INF", list)) => {
                    variant = Some(list.to_owned());
                    line.to_owned()
                }
                Some(("EXT-X-MEDIA", list)) => self.media(line, list)?,
                Some(("EXT-X-SESSION-KEY" | "EXT-X-SESSION-DATA", list)) => self.with_absolute_uri(line, list)?,
                Some(_) => line.to_owned(),
                None if line.starts_with('#') || line.trim().is_empty() => line.to_owned(),
                // A URI that no EXT-X-STREAM-INF announces means nothing (RFC 8216bis §4.4.6.2), and would lead astray.
                None => match variant.take() {
                    Some(list) => playlist_uri(self.entry(line, variant_label(&list), bandwidth(&list))?),
                    None => continue,
                },
            };
            output.push_str(&rewritten);
            output.push_str(line_end);
        }
        Ok(output)
    }

    fn media(&mut self, line: &str, list: &str) -> Result<String, LoadError> {
        match (attribute(list, "URI"), attribute(list, "TYPE")) {
            (Some(uri), Some("AUDIO" | "VIDEO" | "SUBTITLES")) => {
                let id = self.entry(uri, media_label(list), 0)?;
                Ok(with_attribute(line, "URI", &playlist_uri(id)))
            }
            _ => Ok(line.to_owned()),
        }
    }

    fn with_absolute_uri(&self, line: &str, list: &str) -> Result<String, LoadError> {
        let Some(uri) = attribute(list, "URI") else { return Ok(line.to_owned()) };
        Ok(with_attribute(line, "URI", &absolute(self.base, uri).ok_or_else(|| LoadError::bad_uri(uri))?))
    }

    /// The rendition whose playlist is `uri`: a new one, or the one that has it already.
    fn entry(&mut self, uri: &str, label: String, bandwidth_bps: u64) -> Result<RenditionId, LoadError> {
        let url = self.base.join(uri).map_err(|_| LoadError::bad_uri(uri))?;
        let index = match self.entries.iter().position(|entry| entry.url == url) {
            Some(index) => index,
            None if self.entries.len() == RENDITIONS_MAX => return Err(LoadError::TooLarge("more than 64 renditions")),
            None => {
                let uri = published(self.source, &url, uri);
                self.entries.push(Entry { url, uri, label, bandwidth_bps: 0 });
                self.entries.len() - 1
            }
        };
        let entry = &mut self.entries[index];
        entry.bandwidth_bps = entry.bandwidth_bps.max(bandwidth_bps);
        Ok(RenditionId(index as u16))
    }
}

/// How viewers are told of `url`: as `written`, if that, joined to the `base` they will use, comes out the same; after
/// a redirect it doesn't, and they need the whole address.
pub(super) fn published(base: &Url, url: &Url, written: &str) -> String {
    let same = base.join(written).is_ok_and(|theirs| theirs == *url);
    if same && written.len() <= LINE_MAX { written.to_owned() } else { without_login(url.clone()).into() }
}

fn playlist_uri(id: RenditionId) -> String {
    format!("{id}/index.m3u8")
}

fn bandwidth(list: &str) -> u64 {
    attribute(list, "BANDWIDTH").and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// "720p", "audio only", "800 kbit/s": whatever tells most.
fn variant_label(list: &str) -> String {
    let height = attribute(list, "RESOLUTION").and_then(|size| size.split_once('x')).map(|(_, height)| height);
    match (height, attribute(list, "NAME")) {
        (Some(height), _) => text(&format!("{height}p")),
        (None, Some(name)) => text(name),
        (None, None) => format!("{} kbit/s", bandwidth(list) / 1000),
    }
}

fn media_label(list: &str) -> String {
    let mut label = attribute(list, "TYPE").unwrap_or("").to_ascii_lowercase();
    if let Some(name) = attribute(list, "NAME").or_else(|| attribute(list, "LANGUAGE")) {
        // Writing to a String can't fail.
        let _ = write!(label, " {name}");
    }
    text(&label)
}

/// At most [`MAX_TEXT_LEN`] bytes, no control characters.
fn text(label: &str) -> String {
    let mut kept = String::new();
    for c in label.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > MAX_TEXT_LEN {
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#EXTM3U\r\n\
        #EXT-X-VERSION:7\r\n\
        ## kept comment\r\n\
        #EXT-X-DEFINE:NAME=\"dir\",VALUE=\"hi\"\r\n\
        #EXT-X-CONTENT-STEERING:SERVER-URI=\"/steer\"\r\n\
        #EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"key.bin\"\r\n\
        \r\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"English\",URI=\"audio.m3u8?x=1\",X-ODD=1\r\n\
        #EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"cc\",NAME=\"CC\",INSTREAM-ID=\"CC1\"\r\n\
        #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"Deutsch\",URI=\"/abs/sub.m3u8\"\r\n\
        #EXT-X-UNKNOWN:URI=\"untouched.m3u8\"\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2000000,RESOLUTION=1280x720,AUDIO=\"a\",X-FOO=\"{$dir}\"\r\n\
        {$dir}/v.m3u8\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=64000,AUDIO=\"a\"\r\n\
        # between\r\n\
        audio.m3u8?x=1\r\n\
        #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\r\n\
        stray.m3u8\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=900000\r\n\
        http://other/low.m3u8";

    const REWRITTEN: &str = "#EXTM3U\r\n\
        #EXT-X-VERSION:7\r\n\
        ## kept comment\r\n\
        #EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"http://host/live/key.bin\"\r\n\
        \r\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"English\",URI=\"0/index.m3u8\",X-ODD=1\r\n\
        #EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID=\"cc\",NAME=\"CC\",INSTREAM-ID=\"CC1\"\r\n\
        #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"Deutsch\",URI=\"1/index.m3u8\"\r\n\
        #EXT-X-UNKNOWN:URI=\"untouched.m3u8\"\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2000000,RESOLUTION=1280x720,AUDIO=\"a\",X-FOO=\"hi\"\r\n\
        2/index.m3u8\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=64000,AUDIO=\"a\"\r\n\
        # between\r\n\
        0/index.m3u8\r\n\
        #EXT-X-STREAM-INF:BANDWIDTH=900000\r\n\
        3/index.m3u8";

    fn read(source: &str, found: &str) -> Outline {
        Outline::multivariant(TEXT, &Url::parse(source).unwrap(), &Url::parse(found).unwrap(), 1 << 20).unwrap()
    }

    #[test]
    fn only_uris_change() {
        assert!(is_multivariant(TEXT));
        let outline = read("http://me:pw@host/live/x.m3u8?t=1", "http://me:pw@host/live/x.m3u8?t=1");
        assert_eq!(outline.text.as_deref(), Some(REWRITTEN));
        let entries: Vec<_> =
            outline.entries.iter().map(|e| (e.uri.as_str(), e.label.as_str(), e.bandwidth_bps)).collect();
        let expected = [
            ("audio.m3u8?x=1", "audio English", 64_000),
            ("/abs/sub.m3u8", "subtitles Deutsch", 0),
            ("hi/v.m3u8", "720p", 2_000_000),
            ("http://other/low.m3u8", "900 kbit/s", 900_000),
        ];
        assert_eq!(entries, expected);
        assert_eq!(outline.entries[2].url.as_str(), "http://me:pw@host/live/hi/v.m3u8");
    }

    #[test]
    fn after_a_redirect_viewers_get_whole_addresses() {
        let outline = read("http://host/live/x.m3u8", "http://cdn/s/42/x.m3u8");
        assert_eq!(outline.entries[2].uri, "http://cdn/s/42/hi/v.m3u8");
        let same_place = read("http://host/live/x.m3u8", "http://host/live/y.m3u8");
        assert_eq!(same_place.entries[2].uri, "hi/v.m3u8");
    }

    #[test]
    fn hostile_sizes_are_refused() {
        let url = Url::parse("http://host/").unwrap();
        let many: String = (0..65).map(|n| format!("#EXT-X-STREAM-INF:BANDWIDTH=1\n{n}.m3u8\n")).collect();
        assert!(matches!(Outline::multivariant(&many, &url, &url, 1 << 20), Err(LoadError::TooLarge(_))));
        let long = format!("#EXT-X-STREAM-INF:BANDWIDTH=1,X=\"{}\"\na.m3u8\n", "x".repeat(TEXT_MAX));
        assert!(matches!(Outline::multivariant(&long, &url, &url, 1 << 20), Err(LoadError::TooLarge(_))));
        assert!(matches!(Outline::multivariant("#EXT-X-STREAM-INF:\n", &url, &url, 100), Err(LoadError::NoVariants)));
        let label = text(&format!("a\u{7}{}", "é".repeat(100)));
        assert_eq!(label.len(), 127);
    }
}
