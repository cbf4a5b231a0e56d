//! The directory a program keeps its keys in, and its lock.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use libp2p::identity::Keypair;
use thiserror::Error;

use crate::os;

/// A locked directory; the lock is freed when this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why a data directory can't be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Somebody else works with it.
    #[error("another starling uses {0}; stop it, or give this one a directory of its own with --data-dir")]
    InUse(PathBuf),
    /// It can't be made or written.
    #[error("can't use {path} as data directory; give another with --data-dir")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file can't be read or written.
    #[error("can't use the key file {path}; free some space or mend its permissions, or give another --data-dir")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{0} is not a Starling key; move it away to get a new one, or put back the right one")]
    NotAKey(PathBuf),
    /// Others can read it.
    #[error("others can read the key file {0}; take their permission away: chmod 600 {0}")]
    Exposed(PathBuf),
}

impl DataDir {
    /// Makes the directory if need be, and locks it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Unusable { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(unusable)?;
        let lock = File::create(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The Ed25519 key kept in a file of mode 0600; made at first use.
///
/// # Errors
/// [`KeyError`].
pub fn key(path: &Path) -> Result<Keypair, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(bytes) => {
            if os::is_exposed(path).map_err(io)? {
                return Err(KeyError::Exposed(path.to_owned()));
            }
            Keypair::from_protobuf_encoding(&bytes).map_err(|_| KeyError::NotAKey(path.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            let bytes = key.to_protobuf_encoding().map_err(|_| KeyError::NotAKey(path.to_owned()))?;
            os::write_private(path, &bytes).map_err(io)?;
            tracing::info!(path = %path.display(), "new key made");
            Ok(key)
        }
        Err(error) => Err(io(error)),
    }
}

/// Between two starts' epochs at least: viewers number their own bridges over a broadcaster's absence in between.
const EPOCHS_APART: u64 = 1000;

/// The epoch of this start: the time in milliseconds, but above that of every start before, which is kept in a file. A clock
/// that was set back in between would otherwise make the new start look like an old one to viewers, who'd ignore it.
///
/// # Errors
/// If the file can't be written: the epoch holds, but the next start will not know of it.
pub fn epoch(path: &Path, now_ms: u64) -> (u64, io::Result<()>) {
    let before = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let epoch = now_ms.max(before.map_or(1, |before| before.saturating_add(EPOCHS_APART)));
    if before.is_some_and(|before| now_ms < before) {
        tracing::warn!("the system clock was set back since the last start; viewers follow this start all the same");
    }
    (epoch, std::fs::write(path, format!("{epoch}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = DataDir::open(dir.path()).expect("first");
        assert!(matches!(DataDir::open(dir.path()), Err(OpenError::InUse(_))));
        drop(first);
        DataDir::open(dir.path()).expect("free again");
    }

    #[test]
    fn a_key_lasts_and_is_private() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("stream.key");
        let made = key(&path).expect("made");
        assert!(!os::is_exposed(&path).expect("metadata"));
        assert_eq!(key(&path).expect("read").public(), made.public());
        std::fs::write(dir.path().join("nonsense"), b"nonsense").expect("written");
        let nonsense = dir.path().join("nonsense");
        assert!(matches!(key(&nonsense), Err(KeyError::Exposed(_) | KeyError::NotAKey(_))));
    }

    #[test]
    fn every_start_is_later_than_the_last_whatever_the_clock_says() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("epoch");
        let mut last = 0;
        for now in [5_000_000, 5_000_001, 9_000_000, 1_000, 9_100_000, 0] {
            let (epoch, written) = epoch(&path, now);
            written.expect("written");
            assert!(epoch >= now && (last == 0 || epoch >= last + EPOCHS_APART), "{last}, then {epoch}");
            last = epoch;
        }
        std::fs::write(&path, "nonsense").expect("written");
        assert_eq!(epoch(&path, 7).0, 7);
        let (epoch, written) = epoch(&dir.path().join("missing/epoch"), 7);
        assert_eq!(epoch, 7);
        assert!(written.is_err());
    }
}
