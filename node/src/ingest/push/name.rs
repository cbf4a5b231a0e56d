//! Names of pushed files: what they may look like, and what they say of a file.

/// Longest path below the key, bytes; a guess, ten times what packagers use.
const PATH_MAX: usize = 256;
/// Most directories in it.
const DEPTH_MAX: usize = 4;

/// What a file is, by the ending of its name; content types are missing or wrong too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// DASH: `.mpd`.
    Manifest,
    /// Segments and initialization sections.
    Media,
    /// HLS: `.m3u8`, `.m3u`.
    Playlist,
}

/// The path as the file's name, if it is one: plain components, none of them empty or `.` or `..`, nothing that a URL
/// would have to escape.
pub(super) fn checked(path: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~+=,@$!".contains(c);
    let component = |name: &str| !name.is_empty() && name != "." && name != ".." && name.chars().all(plain);
    let sound = path.len() <= PATH_MAX && path.split('/').count() <= DEPTH_MAX + 1 && path.split('/').all(component);
    sound.then_some(path)
}

/// What the file called `path` is.
pub(super) fn kind(path: &str) -> Kind {
    match path.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("mpd") => Kind::Manifest,
        Some("m3u8" | "m3u") => Kind::Playlist,
        Some(_) | None => Kind::Media,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_packagers_give_and_names_they_do_not() {
        for name in ["index.m3u8", "v0/seg-00001.m4s", "a/b/c/d/e.ts", "live_$1.ts", "chunk-stream0-00001.m4s"] {
            assert_eq!(checked(name), Some(name));
        }
        for name in
            ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a b", "a%2fb", "a\\b", "é.ts", "a/b/c/d/e/f", "a\0"]
        {
            assert_eq!(checked(name), None, "{name}");
        }
        assert_eq!(checked(&"a".repeat(257)), None);
    }

    #[test]
    fn the_ending_tells() {
        assert_eq!(kind("a/INDEX.M3U8"), Kind::Playlist);
        assert_eq!(kind("m.mpd"), Kind::Manifest);
        assert_eq!(kind("init.mp4"), Kind::Media);
        assert_eq!(kind("segment"), Kind::Media);
    }
}
