//! EXT-X-KEY and EXT-X-MAP: both hold until the next of their kind, and the first governs the second.

use std::fmt::Write;

use starling_proto::Epoch;

use super::name;
use super::window::Playable;

/// What is in force at some line of a playlist.
#[derive(Debug, Default)]
pub(super) struct InForce {
    keys: Vec<String>,
    map: Option<(Epoch, u16)>,
}

impl InForce {
    /// Writes the tags that change what is in force to what the segment needs. `prefix` stands before file names.
    pub(super) fn write_changes(&mut self, out: &mut String, playable: &Playable, prefix: &str) {
        let announcement = &playable.announcement;
        let keys = keys_of(playable);
        let map = announcement.init.map(|index| (announcement.epoch, index));
        let mut map_line = String::new();
        if let Some((epoch, index)) = map
            && map != self.map
        {
            let _ = writeln!(map_line, "#EXT-X-MAP:URI=\"{prefix}{}\"", name::init(epoch, index));
            self.map = map;
        }
        // A key applies to the init sections that follow it (RFC 8216bis §4.4.4.4), so a plain one comes before.
        if !map_line.is_empty() && playable.init.as_deref().is_some_and(is_plain) {
            if self.keys.iter().any(|key| encrypts_whole_files(key)) {
                out.push_str("#EXT-X-KEY:METHOD=NONE\n");
                self.keys.clear();
            }
            if keys.iter().any(|key| encrypts_whole_files(key)) {
                out.push_str(&std::mem::take(&mut map_line));
            }
        }
        if keys != self.keys {
            match &keys[..] {
                [] => out.push_str("#EXT-X-KEY:METHOD=NONE\n"),
                keys => keys.iter().for_each(|key| _ = writeln!(out, "{key}")),
            }
            self.keys = keys;
        }
        out.push_str(&map_line);
    }
}

/// Whether a tag line is one that [`InForce`] writes.
pub(super) fn is_key(tag: &str) -> bool {
    tag.starts_with("#EXT-X-KEY:")
}

/// The keys a segment needs; none if it isn't encrypted. They name their initialization vectors: whoever announces a
/// segment spells out the implied ones, because our media sequence numbers differ from the source's.
fn keys_of(playable: &Playable) -> Vec<String> {
    let encrypts = |tag: &&String| is_key(tag) && attribute(tag, "METHOD").map(str::trim) != Some("NONE");
    playable.announcement.tags.iter().filter(encrypts).cloned().collect()
}

/// AES-128 and its longer relatives, against SAMPLE-AES, which leaves init sections alone.
fn encrypts_whole_files(tag: &str) -> bool {
    attribute(tag, "METHOD").is_some_and(|method| method.starts_with("AES-"))
}

/// The value of an attribute of a tag line, with its quotes if it has any.
fn attribute<'a>(tag: &'a str, wanted: &str) -> Option<&'a str> {
    let (_, mut rest) = tag.split_once(':')?;
    loop {
        let (name, after) = rest.split_once('=')?;
        let quoted = after.strip_prefix('"').and_then(|inner| inner.find('"')).map(|at| at + 2);
        let end = quoted.unwrap_or_else(|| after.find(',').unwrap_or(after.len()));
        if name.trim() == wanted {
            return after.get(..end);
        }
        rest = after.get(end..)?.strip_prefix(',')?;
    }
}

/// Whether an init section begins like an MP4 file, which an encrypted one doesn't. ISO/IEC 14496-12 §4.3, §8.2.
fn is_plain(init: &[u8]) -> bool {
    init.get(4..8).is_some_and(|kind| [b"ftyp", b"styp", b"moov"].iter().any(|plain| kind == *plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_outside_quotes_only() {
        let tag = r#"#EXT-X-KEY:METHOD=AES-128,URI="https://k.example/?a=1,IV=0x9",KEYFORMAT="identity""#;
        assert_eq!(attribute(tag, "METHOD"), Some("AES-128"));
        assert_eq!(attribute(tag, "IV"), None);
        assert_eq!(attribute(tag, "KEYFORMAT"), Some("\"identity\""));
    }

    #[test]
    fn broken_tags_have_no_attributes() {
        for tag in
            ["#EXT-X-KEY", "#EXT-X-KEY:", "#EXT-X-KEY:METHOD", "#EXT-X-KEY:A=\"", "#EXT-X-KEY:A=\"\"x,METHOD=NONE"]
        {
            assert_eq!(attribute(tag, "METHOD"), None, "{tag}");
        }
    }
}
