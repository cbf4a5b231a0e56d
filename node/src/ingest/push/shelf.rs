//! What encoders push as HLS, until it is read: playlists, initialization sections, segments.
//!
//! Reading waits for what is pushed later, so a playlist may overtake its segments. Of segments read long ago only the name
//! is remembered, and how often other bytes came under it: the generation.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::live::is_init;
use super::refusal::Refusal;
use crate::ingest::pull::pushed::Listing;

/// Names remembered; a guess: four renditions with the longest usual window.
const FILES_MAX: usize = 1024;
/// Initialization sections and playlists kept.
const LASTING_MAX: usize = 128;
/// Bytes of segments: four of the largest.
const BYTES_MAX: usize = 128 << 20;
/// Segments kept after they were read, for a reader who begins again.
const READ_MAX: usize = 16;
/// A request on which nothing came for so long may be replaced by another.
const TAKEOVER_AFTER: Duration = Duration::from_secs(2);
/// An encoder whose last playlist is younger than so many target durations is at work, and another is refused.
const ALIVE_TARGETS: f64 = 1.25;

/// Files by path.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, File>,
    playlists: BTreeMap<String, Playlist>,
    /// Files that are coming: by which request, and when that was last heard.
    coming: BTreeMap<String, (u64, Instant)>,
    bytes: usize,
    count: u64,
}

#[derive(Debug)]
struct File {
    /// `None` some time after it was read, unless it is an initialization section.
    body: Option<Bytes>,
    lasting: bool,
    read: bool,
    digest: blake3::Hash,
    generation: u32,
    /// An encoder that began again has listed the name: what comes next is another file, even if the bytes are the same.
    superseded: bool,
    /// Rises with every file stored: the oldest go first.
    age: u64,
}

#[derive(Debug)]
struct Playlist {
    text: String,
    unread: bool,
    at: Instant,
    /// What it listed, empty for a multivariant playlist.
    listing: Listing,
    /// Generations of what it listed.
    generations: Vec<u32>,
    /// [`Inner::count`] when it came, and when the last playlist of the encoder's run before came: files older than that
    /// are not this run's.
    count: u64,
    since: u64,
}

/// How a playlist relates to the one before.
#[derive(Debug, PartialEq, Eq)]
enum Relation {
    Continues,
    /// An older copy of the same: requests overtake one another.
    Older,
    /// From another encoder, or another run of it.
    Other,
}

/// Says that a file is coming as long as it lives.
#[derive(Debug)]
pub(super) struct Coming<'a> {
    shelf: &'a Shelf,
    path: &'a str,
    id: u64,
}

impl Coming<'_> {
    /// Something came.
    ///
    /// # Errors
    /// If another request took over.
    pub(super) fn heard(&self, now: Instant) -> Result<(), Refusal> {
        match self.shelf.lock().coming.get_mut(self.path) {
            Some((id, heard)) if *id == self.id => {
                *heard = now;
                Ok(())
            }
            Some(_) | None => Err(Refusal::TakenOver),
        }
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let mut inner = self.shelf.lock();
        if inner.coming.get(self.path).is_some_and(|(id, _)| *id == self.id) {
            inner.coming.remove(self.path);
        }
        drop(inner);
        self.shelf.changed.send_replace(());
    }
}

impl Shelf {
    /// Announces a file; another request for it is refused meanwhile, unless this one falls silent.
    ///
    /// # Errors
    /// If it is coming already.
    pub(super) fn expect<'a>(&'a self, path: &'a str, now: Instant) -> Result<Coming<'a>, Refusal> {
        let mut inner = self.lock();
        let is_active = |(_, heard): &(u64, Instant)| now.saturating_duration_since(*heard) < TAKEOVER_AFTER;
        if inner.coming.get(path).is_some_and(is_active) {
            return Err(Refusal::AnotherEncoder);
        }
        inner.count += 1;
        let id = inner.count;
        inner.coming.insert(path.to_owned(), (id, now));
        Ok(Coming { shelf: self, path, id })
    }

    /// Stores a segment or initialization section, which then is no longer coming.
    pub(super) fn put(&self, path: &str, body: Bytes) {
        let mut inner = self.lock();
        let (digest, lasting) = (blake3::hash(&body), is_init(&body));
        let before = inner.remove(path);
        let generation = match &before {
            Some(file) if file.digest == digest && !file.superseded => file.generation,
            Some(file) => file.generation.wrapping_add(1),
            None => 1,
        };
        inner.count += 1;
        inner.bytes += body.len();
        let file =
            File { body: Some(body), lasting, read: false, digest, generation, superseded: false, age: inner.count };
        inner.files.insert(path.to_owned(), file);
        // With the file: a playlist that came in between would wait for another of the same name.
        inner.coming.remove(path);
        inner.shrink();
        drop(inner);
        self.changed.send_replace(());
    }

    /// Stores a playlist, empty `listing` for a multivariant one.
    ///
    /// # Errors
    /// If another encoder is at work.
    pub(super) fn put_playlist(&self, path: &str, text: String, listing: Listing, now: Instant) -> Result<(), Refusal> {
        let mut inner = self.lock();
        let mut since = 0;
        if let Some(old) = inner.playlists.get(path) {
            since = old.since;
            match relation(old, &listing, &inner.generations(&listing, since)) {
                Relation::Continues => {}
                Relation::Older => return Ok(()),
                Relation::Other => {
                    let alive = old.listing.target.mul_f64(ALIVE_TARGETS);
                    if !old.listing.ended && now.saturating_duration_since(old.at) < alive {
                        return Err(Refusal::AnotherEncoder);
                    }
                    since = old.count;
                }
            }
        } else if inner.playlists.len() >= LASTING_MAX {
            return Err(Refusal::TooMany);
        }
        let generations = inner.generations(&listing, since);
        for ((_, file), generation) in listing.segments.iter().zip(&generations) {
            if let Some(file) = inner.files.get_mut(file) {
                file.superseded = file.generation != *generation;
            }
        }
        let count = inner.count;
        let playlist = Playlist { text, unread: true, at: now, listing, generations, count, since };
        inner.playlists.insert(path.to_owned(), playlist);
        drop(inner);
        self.changed.send_replace(());
        Ok(())
    }

    /// The playlist at `path`, or one of those it names, came within so many of its target durations and did not end.
    pub(super) fn is_alive(&self, path: &str, targets: u32, now: Instant) -> bool {
        let inner = self.lock();
        let Some(playlist) = inner.playlists.get(path) else { return false };
        let of = playlist.listing.playlists.iter().filter_map(|path| inner.playlists.get(path));
        let mut media = of.chain([playlist]).filter(|playlist| playlist.listing.playlists.is_empty());
        media.any(|playlist| {
            let within = playlist.listing.target * targets;
            !playlist.listing.ended && now.saturating_duration_since(playlist.at) < within
        })
    }

    /// The playlist at `path` reads so.
    pub(super) fn has(&self, path: &str, text: &str) -> bool {
        self.lock().playlists.get(path).is_some_and(|playlist| playlist.text == text)
    }

    /// The playlist at `path` is a multivariant one that names the one at `other`.
    pub(super) fn names(&self, path: &str, other: &str) -> bool {
        self.lock().playlists.get(path).is_some_and(|playlist| playlist.listing.playlists.iter().any(|it| it == other))
    }

    /// An initialization section, if it is there.
    pub(super) fn init(&self, path: &str) -> Option<Bytes> {
        self.lock().files.get(path).filter(|file| file.lasting)?.body.clone()
    }

    /// The generation of the file at `path` that the playlist at `playlist` means: the one there is, or the next.
    pub(crate) fn generation(&self, playlist: &str, path: &str) -> u32 {
        let inner = self.lock();
        let Some(playlist) = inner.playlists.get(playlist) else { return inner.generation(path, 0) };
        let mut listed = playlist.listing.segments.iter().zip(&playlist.generations);
        // What isn't listed is an initialization section; those may outlast their encoder.
        listed.find(|((_, listed), _)| listed == path).map_or_else(|| inner.generation(path, 0), |(_, known)| *known)
    }

    /// A playlist that wasn't read yet: waits for it. After `within` the one that was, if there is one.
    pub(crate) async fn playlist(&self, path: &str, within: Duration) -> Option<String> {
        let unread = self.wait_for(|inner| {
            let playlist = inner.playlists.get_mut(path).filter(|playlist| playlist.unread)?;
            playlist.unread = false;
            Some(playlist.text.clone())
        });
        match tokio::time::timeout(within, unread).await {
            Ok(text) => Some(text),
            Err(_) => self.lock().playlists.get(path).map(|playlist| playlist.text.clone()),
        }
    }

    /// A file of this generation: waits for it.
    pub(crate) async fn file(&self, path: &str, generation: u32) -> Bytes {
        self.wait_for(|inner| {
            let is_coming = inner.coming.contains_key(path);
            let is_meant = |file: &&mut File| file.generation == generation || (file.lasting && !is_coming);
            let file = inner.files.get_mut(path).filter(is_meant)?;
            let body = file.body.clone()?;
            file.read = true;
            inner.forget_read();
            Some(body)
        })
        .await
    }

    async fn wait_for<T>(&self, mut attempt: impl FnMut(&mut Inner) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(found) = attempt(&mut self.lock()) {
                return found;
            }
            // The sender is ours, so it isn't gone.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Of the file at `path`, or of the next one if that is coming, or if the file is older than `since`.
    fn generation(&self, path: &str, since: u64) -> u32 {
        let Some(file) = self.files.get(path) else { return 1 };
        let is_next = self.coming.contains_key(path) || file.superseded || file.age <= since;
        file.generation.wrapping_add(u32::from(is_next))
    }

    fn generations(&self, listing: &Listing, since: u64) -> Vec<u32> {
        listing.segments.iter().map(|(_, path)| self.generation(path, since)).collect()
    }

    fn remove(&mut self, path: &str) -> Option<File> {
        let file = self.files.remove(path)?;
        self.bytes -= file.body.as_ref().map_or(0, Bytes::len);
        Some(file)
    }

    /// Keeps the bounds: what is oldest goes.
    fn shrink(&mut self) {
        while self.files.values().filter(|file| file.lasting).count() > LASTING_MAX {
            self.remove_oldest(|file| file.lasting);
        }
        while self.files.len() > FILES_MAX {
            self.remove_oldest(|file| !file.lasting);
        }
        while self.bytes > BYTES_MAX && self.remove_oldest(|file| !file.lasting && file.body.is_some()) {}
    }

    fn forget_read(&mut self) {
        let is_kept = |file: &File| file.read && !file.lasting && file.body.is_some();
        if self.files.values().filter(|file| is_kept(file)).count() > READ_MAX
            && let Some(file) = self.files.values_mut().filter(|file| is_kept(file)).min_by_key(|file| file.age)
        {
            self.bytes -= file.body.take().map_or(0, |body| body.len());
        }
    }

    fn remove_oldest(&mut self, of: impl Fn(&File) -> bool) -> bool {
        let oldest = self.files.iter().filter(|(_, file)| of(file)).min_by_key(|(_, file)| file.age);
        let oldest = oldest.map(|(path, _)| path.clone());
        oldest.is_some_and(|path| self.remove(&path).is_some())
    }
}

fn relation(old: &Playlist, new: &Listing, generations: &[u32]) -> Relation {
    let known: BTreeMap<u64, (&str, u32)> =
        old.listing.segments.iter().zip(&old.generations).map(|((n, path), g)| (*n, (path.as_str(), *g))).collect();
    let listed = || new.segments.iter().zip(generations).map(|((n, path), g)| (*n, (path.as_str(), *g)));
    if listed().any(|(number, file)| known.get(&number).is_some_and(|before| *before != file)) {
        return Relation::Other;
    }
    let last = |segments: &[(u64, String)]| segments.last().map(|(number, _)| *number);
    match (last(&old.listing.segments), last(&new.segments)) {
        (Some(before), Some(now)) if now < before => {
            let shared = listed().any(|(number, _)| known.contains_key(&number));
            if shared { Relation::Older } else { Relation::Other }
        }
        _ => Relation::Continues,
    }
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
