//! Names of files: `<epoch>-<number>.<extension>` for segments, `part-<epoch>-<number>-<index>.<extension>` for their parts,
//! `init-<epoch>-<index>.mp4` for init sections.
//!
//! The epoch makes a name immutable: after a restart of the broadcaster numbers may begin again, names don't.

use starling_proto::{Epoch, SegmentNumber};

/// What a file name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// The media playlist of the rendition.
    Playlist,
    /// A segment.
    Segment(Epoch, SegmentNumber),
    /// A part of a segment, by its place in it.
    Part(Epoch, SegmentNumber, usize),
    /// An initialization section, by its index in the catalogue.
    Init(Epoch, u16),
}

/// The name of every playlist.
pub const PLAYLIST: &str = "index.m3u8";

/// The name of a broadcaster's newest statements, of one rendition or the catalogue alone.
pub const STATEMENTS: &str = "statements.cbor";

/// The name of a segment; `extension` as in [`starling_proto::wire::Rendition::extension`].
pub fn segment((epoch, number): (Epoch, SegmentNumber), extension: &str) -> String {
    format!("{epoch}-{number}.{extension}")
}

/// The name of a part of a segment.
pub fn part((epoch, number): (Epoch, SegmentNumber), index: usize, extension: &str) -> String {
    format!("part-{epoch}-{number}-{index}.{extension}")
}

/// The name of an initialization section.
pub fn init(epoch: Epoch, index: u16) -> String {
    format!("init-{epoch}-{index}.mp4")
}

/// The meaning of a file name; `None` for a name that was never given. The extension of a segment is not looked at.
pub fn parse(file: &str) -> Option<Named> {
    if file == PLAYLIST {
        return Some(Named::Playlist);
    }
    let (stem, _) = file.split_once('.')?;
    if let Some(rest) = stem.strip_prefix("init-") {
        let (epoch, index) = rest.split_once('-')?;
        return Some(Named::Init(Epoch(epoch.parse().ok()?), index.parse().ok()?));
    }
    if let Some(rest) = stem.strip_prefix("part-") {
        let (segment, index) = rest.rsplit_once('-')?;
        let (epoch, number) = segment.split_once('-')?;
        return Some(Named::Part(Epoch(epoch.parse().ok()?), SegmentNumber(number.parse().ok()?), index.parse().ok()?));
    }
    let (epoch, number) = stem.split_once('-')?;
    Some(Named::Segment(Epoch(epoch.parse().ok()?), SegmentNumber(number.parse().ok()?)))
}

/// The media type of a file with this name, by its extension. RFC 8216bis §3 and §4 for the HLS types.
pub fn content_type(file: &str) -> &'static str {
    let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    match extension.as_str() {
        "m3u8" => "application/vnd.apple.mpegurl",
        "ts" | "m2ts" => "video/mp2t",
        "mp4" | "m4s" | "m4v" | "cmfv" => "video/mp4",
        "m4a" | "cmfa" => "audio/mp4",
        "aac" => "audio/aac",
        "mp3" => "audio/mpeg",
        "ac3" => "audio/ac3",
        "ec3" => "audio/eac3",
        "vtt" | "webvtt" => "text/vtt",
        "cbor" => "application/cbor", // RFC 8949 §9.4
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        assert_eq!(
            parse(&segment((Epoch(7), SegmentNumber(12)), "m4s")),
            Some(Named::Segment(Epoch(7), SegmentNumber(12)))
        );
        assert_eq!(
            parse(&part((Epoch(7), SegmentNumber(12)), 3, "m4s")),
            Some(Named::Part(Epoch(7), SegmentNumber(12), 3))
        );
        assert_eq!(parse(&init(Epoch(7), 3)), Some(Named::Init(Epoch(7), 3)));
        assert_eq!(parse("index.m3u8"), Some(Named::Playlist));
    }

    #[test]
    fn names_never_given_mean_nothing() {
        for name in [
            "",
            ".",
            "-",
            "7-.ts",
            "-7.ts",
            "7.ts",
            "init-7.mp4",
            "init-7-99999.mp4",
            "part-7-1.ts",
            "part-7-1-.ts",
            "x-1.ts",
            "..",
            "7-12",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
        assert_eq!(parse("99999999999999999999999-1.ts"), None);
    }
}
