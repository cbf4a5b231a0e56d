//! EXT-X-KEY: which keys are in force, and the lines that say so before a segment.

use std::sync::Arc;

use url::Url;

use super::LoadError;
use super::line::{absolute, attribute, is_repeatable, with_attribute};

/// Keys in force: one per KEYFORMAT (RFC 8216bis §4.4.4.4), or a METHOD=NONE line if encryption ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keys(Arc<Vec<Key>>);

/// Key systems side by side; real streams have up to three.
const FORMATS_MAX: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    line: String,
    method: String,
    format: String,
    /// The segment's number is its initialization vector, which must be spelt out: our playlist counts differently.
    counts: bool,
}

impl Keys {
    /// Takes in a key line with attribute list `list` of the playlist at `base`.
    pub(super) fn set(&mut self, line: &str, list: &str, base: &Url) -> Result<(), LoadError> {
        let method = attribute(list, "METHOD").unwrap_or("");
        let format = attribute(list, "KEYFORMAT").unwrap_or("identity");
        let mut keys: Vec<Key> = match method {
            "NONE" => Vec::new(),
            _ => self.0.iter().filter(|key| key.method != "NONE" && key.format != format).cloned().collect(),
        };
        let line = match attribute(list, "URI") {
            Some(uri) => with_attribute(line, "URI", &absolute(base, uri).ok_or_else(|| LoadError::bad_uri(uri))?),
            None => line.to_owned(),
        };
        if keys.len() == FORMATS_MAX || !is_repeatable(&line) {
            return Err(LoadError::TooLarge("an EXT-X-KEY of more than 2 KiB, or more than 8 at once"));
        }
        let counts = matches!(method, "AES-128" | "AES-256" | "SAMPLE-AES")
            && format == "identity"
            && attribute(list, "IV").is_none();
        keys.push(Key { line, method: method.to_owned(), format: format.to_owned(), counts });
        self.0 = Arc::new(keys);
        Ok(())
    }

    /// The lines to repeat before segment `number`.
    pub(super) fn lines(&self, number: u64) -> impl Iterator<Item = String> {
        self.0.iter().map(move |key| match key.counts {
            // The number as a 128-bit big-endian integer, RFC 8216bis §5.2.
            true => format!("{},IV=0x{number:032x}", key.line.trim_end()),
            false => key.line.clone(),
        })
    }

    /// Whole segments are encrypted, so that nothing can be told from their bytes.
    pub(super) fn hide_segments(&self) -> bool {
        self.0.iter().any(|key| matches!(key.method.as_str(), "AES-128" | "AES-256" | "AES-256-GCM"))
    }

    /// A line had an initialization vector added, which needs EXT-X-VERSION 2.
    pub(super) fn count(&self) -> bool {
        self.0.iter().any(|key| key.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(lines: &[&str]) -> Keys {
        let base = Url::parse("http://host/live/x.m3u8").unwrap();
        let mut keys = Keys::default();
        for line in lines {
            keys.set(line, line.split_once(':').unwrap().1, &base).unwrap();
        }
        keys
    }

    #[test]
    fn uri_becomes_absolute_and_the_number_the_vector() {
        let keys = keys(&["#EXT-X-KEY:METHOD=AES-128,URI=\"k.bin\",X-A=1"]);
        assert!(keys.hide_segments() && keys.count());
        let expected = "#EXT-X-KEY:METHOD=AES-128,URI=\"http://host/live/k.bin\",X-A=1,\
            IV=0x00000000000000000000000000001234";
        assert_eq!(keys.lines(0x1234).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn formats_stand_side_by_side_until_replaced() {
        let identity = "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"http://a/\",IV=0x1";
        let fairplay = "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://k\",KEYFORMAT=\"com.apple.streamingkeydelivery\"";
        let newer = "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"http://b/\",IV=0x2";
        let both = keys(&[identity, fairplay, newer]);
        assert_eq!(both.lines(1).collect::<Vec<_>>(), [fairplay, newer]);
        assert!(!both.hide_segments());
    }

    #[test]
    fn the_end_of_encryption_is_said_before_each_segment() {
        let none = "#EXT-X-KEY:METHOD=NONE";
        let ended = keys(&["#EXT-X-KEY:METHOD=AES-128,URI=\"http://a/\"", none]);
        assert_eq!(ended.lines(7).collect::<Vec<_>>(), [none]);
        assert!(!ended.hide_segments());
    }

    #[test]
    fn too_much_is_refused() {
        let base = Url::parse("http://host/").unwrap();
        let mut keys = Keys::default();
        let long = format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{}\"", "x".repeat(3000));
        assert!(keys.set(&long, &long[11..], &base).is_err());
        let set = |n: usize, keys: &mut Keys| {
            let line = format!("#EXT-X-KEY:METHOD=AES-128,KEYFORMAT=\"{n}\"");
            keys.set(&line, line.split_once(':').unwrap().1, &base)
        };
        assert!((0..8).all(|n| set(n, &mut keys).is_ok()));
        assert!(set(8, &mut keys).is_err());
    }
}
