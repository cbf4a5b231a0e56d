//! The key without which nothing is accepted, and the three ways to show it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::os;

/// Shortest key taken, characters: 72 bits if drawn at random, and an attempt takes a second (see `server`).
const LEN_MIN: usize = 12;
/// Longest, characters: it is part of a URL.
const LEN_MAX: usize = 128;

/// What an encoder must know to push. Its text appears in the push URL only, never in a log.
#[derive(Clone)]
pub struct PushKey(String);

/// Why there is no key.
#[derive(Debug, Error)]
pub enum PushKeyError {
    /// The file can't be read or written.
    #[error("can't use the push key file {path}; mend its permissions, or give another with --push-key-file")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{0} holds no push key; put {LEN_MIN} to {LEN_MAX} letters, digits, - or _ into it, or remove it to get a new one"
    )]
    NotAKey(PathBuf),
    /// Others can read it.
    #[error("others can read the push key file {0}; take their permission away: chmod 600 {0}")]
    Exposed(PathBuf),
}

impl PushKey {
    /// The key kept in a file of mode 0600; made at first use, 128 bits from the system's generator.
    ///
    /// # Errors
    /// [`PushKeyError`].
    pub fn load(path: &Path) -> Result<Self, PushKeyError> {
        let io = |source| PushKeyError::Io { path: path.to_owned(), source };
        match std::fs::read(path) {
            Ok(bytes) => {
                if os::is_exposed(path).map_err(io)? {
                    return Err(PushKeyError::Exposed(path.to_owned()));
                }
                let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
                Self::parse(text).ok_or_else(|| PushKeyError::NotAKey(path.to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self(rand::random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect());
                os::write_private(path, format!("{}\n", key.0).as_bytes()).map_err(io)?;
                tracing::info!(path = %path.display(), "new push key made");
                Ok(key)
            }
            Err(error) => Err(io(error)),
        }
    }

    /// A text that can be a key: so long, and of characters that URLs leave alone.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let sound = (LEN_MIN..=LEN_MAX).contains(&text.len()) && text.chars().all(plain);
        sound.then(|| Self(text.to_owned()))
    }

    /// For the push URL.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// What is pushed to `path` (what follows `/ingest/`), if the key stands first in it or in the headers: as password
    /// (RFC 7617) or as bearer token (RFC 6750).
    pub(super) fn admits<'a>(&self, path: &'a str, headers: &HeaderMap) -> Option<&'a str> {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        if self.is(first.as_bytes()) {
            return Some(rest);
        }
        let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, value) = shown.split_once(' ')?;
        let value = value.trim();
        let known = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => self.is(value.as_bytes()),
            "basic" => {
                let login = STANDARD.decode(value).ok()?;
                let colon = login.iter().position(|byte| *byte == b':')?;
                self.is(&login[colon + 1..])
            }
            _ => false,
        };
        known.then_some(path)
    }

    /// Takes the same time whatever is wrong: hashes are compared, and those in constant time.
    fn is(&self, shown: &[u8]) -> bool {
        blake3::hash(shown) == blake3::hash(self.0.as_bytes())
    }
}

impl fmt::Debug for PushKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PushKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn with(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    #[test]
    fn three_ways_in() {
        let key = PushKey::parse(KEY).unwrap();
        let none = HeaderMap::new();
        assert_eq!(key.admits("0123456789abcdef/a/b.ts", &none), Some("a/b.ts"));
        assert_eq!(key.admits("a/b.ts", &with("Bearer 0123456789abcdef")), Some("a/b.ts"));
        let basic = format!("Basic {}", STANDARD.encode(format!("me:{KEY}")));
        assert_eq!(key.admits("b.ts", &with(&basic)), Some("b.ts"));
        let wrong = format!("basic {}", STANDARD.encode(format!("{KEY}:other")));
        for headers in [none, with(&wrong), with("Basic !!"), with("Bearer"), with("Digest 0123456789abcdef")] {
            assert_eq!(key.admits("a/b.ts", &headers), None);
            assert_eq!(key.admits("0123456789abcdee/b.ts", &headers), None);
            assert_eq!(key.admits("", &headers), None);
        }
    }

    #[test]
    fn it_is_made_once_private_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("push.key");
        let key = PushKey::load(&path).unwrap();
        assert_eq!(key.text().len(), 32);
        assert!(!os::is_exposed(&path).unwrap());
        assert_eq!(PushKey::load(&path).unwrap().text(), key.text());
        assert!(!format!("{key:?}").contains(key.text()));
        assert_eq!(PushKey::parse("short").map(|key| key.0), None);
        assert_eq!(PushKey::parse("with spaces and/slashes").map(|key| key.0), None);
    }
}
