//! The data directory: one key, and a lock that keeps a second server out.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use libp2p::identity::Keypair;
use thiserror::Error;

use crate::os;

/// An open data directory. Nobody else can open it until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub(crate) key: Keypair,
    _lock: File,
}

/// Why a data directory can't be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// No option, and no home directory.
    #[error("no place for the server's key is known: give one with --data-dir")]
    Homeless,
    /// Locked.
    #[error("another hint server uses {}: stop it, or give this one its own --data-dir", .0.display())]
    InUse(PathBuf),
    /// Not a key.
    #[error("{} is not a key of this server: restore it, or delete it to get a new key and with it new addresses", .0.display())]
    BadKey(PathBuf),
    /// Anything the system said.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What was said.
        source: io::Error,
    },
}

const KEY_FILE: &str = "hint-server.key";

impl DataDir {
    /// Opens `dir`, or this program's place in the user's data directory; makes what isn't there yet.
    pub(crate) fn open(dir: Option<&Path>) -> Result<Self, DataDirError> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => os::data_home().ok_or(DataDirError::Homeless)?.join("starling-hint-server"),
        };
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        let lock = lock(&dir)?;
        let key = key(&dir.join(KEY_FILE))?;
        Ok(Self { key, _lock: lock })
    }
}

fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join("lock");
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(DataDirError::Io { path, source }),
    }
}

/// The Ed25519 secret in `path`: 32 bytes.
fn key(path: &Path) -> Result<Keypair, DataDirError> {
    match File::open(path) {
        Ok(file) => read_key(file, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create_key(path),
        Err(source) => Err(DataDirError::Io { path: path.to_owned(), source }),
    }
}

fn read_key(file: File, path: &Path) -> Result<Keypair, DataDirError> {
    if os::is_exposed(&file).map_err(at(path))? {
        tracing::warn!(path = %path.display(), "other users may read the key: take their rights away (chmod 600)");
    }
    let mut secret = Vec::new();
    file.take(33).read_to_end(&mut secret).map_err(at(path))?;
    let bad = || DataDirError::BadKey(path.to_owned());
    let secret: [u8; 32] = secret.try_into().map_err(|_| bad())?;
    Keypair::ed25519_from_bytes(secret).map_err(|_| bad())
}

/// Writes beside and renames, so that a crash leaves no half key.
fn create_key(path: &Path) -> Result<Keypair, DataDirError> {
    let secret: [u8; 32] = rand::random();
    let unfinished = path.with_extension("new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&unfinished)(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = os::create_private(&unfinished).map_err(at(&unfinished))?;
    file.write_all(&secret).and_then(|()| file.sync_all()).map_err(at(&unfinished))?;
    fs::rename(&unfinished, path).map_err(at(path))?;
    tracing::info!(path = %path.display(), "made a new key");
    Keypair::ed25519_from_bytes(secret).map_err(|_| DataDirError::BadKey(path.to_owned()))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    |source| DataDirError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stays_and_is_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deep/er");
        let first = DataDir::open(Some(&path)).expect("made").key.public();
        assert_eq!(DataDir::open(Some(&path)).expect("opened again").key.public(), first);
        let file = File::open(path.join(KEY_FILE)).expect("there");
        assert!(!os::is_exposed(&file).expect("readable"));
    }

    #[test]
    fn a_second_server_is_kept_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = DataDir::open(Some(dir.path())).expect("made");
        let error = DataDir::open(Some(dir.path())).expect_err("locked").to_string();
        assert!(error.contains("another hint server") && error.contains("--data-dir"), "{error}");
        drop(first);
        assert!(DataDir::open(Some(dir.path())).is_ok());
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        for bytes in [&[1_u8; 31][..], &[1; 33], b""] {
            fs::write(dir.path().join(KEY_FILE), bytes).expect("written");
            let error = DataDir::open(Some(dir.path())).expect_err("no key").to_string();
            assert!(error.contains("delete it"), "{error}");
        }
    }
}
