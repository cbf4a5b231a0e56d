//! Following HLS that is not at some server but pushed to us: read from the shelf it is put on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use url::Url;

use super::media::{self, Map, MediaPlaylist};
use super::outline::{Outline, is_multivariant};
use super::sniff;
use super::variables::Variables;
use super::{Ingested, Pull, PullError};
use crate::ingest::push::shelf::Shelf;

/// Largest playlist taken, bytes.
pub(in crate::ingest) const PLAYLIST_MAX: usize = 1 << 20;

/// What stands before a path on the shelf, to make it a URL. Nothing is ever asked of it (RFC 6761 §6.4).
const BASE: &str = "http://pushed.invalid/";

/// What a pushed playlist names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::ingest) struct Listing {
    /// Its media playlists, if it is a multivariant playlist.
    pub(in crate::ingest) playlists: Vec<String>,
    /// Numbers and paths of its segments, if it is a media playlist.
    pub(in crate::ingest) segments: Vec<(u64, String)>,
    /// EXT-X-TARGETDURATION.
    pub(in crate::ingest) target: Duration,
    /// EXT-X-ENDLIST.
    pub(in crate::ingest) ended: bool,
}

/// Reads the playlist that is pushed to `path`.
///
/// # Errors
/// What is wrong with it.
pub(in crate::ingest) fn listing(text: &str, path: &str) -> Result<Listing, String> {
    if !text.strip_prefix('\u{feff}').unwrap_or(text).starts_with("#EXTM3U") {
        return Err(format!("it is not an HLS playlist (it begins with '{}')", sniff::beginning(text.as_bytes())));
    }
    let url = url(path).ok_or("its name can't be part of an address")?;
    if is_multivariant(text) {
        let outline = Outline::multivariant(text, &url, &url, PLAYLIST_MAX).map_err(|error| error.to_string())?;
        let playlists = outline.entries.iter().map(|entry| path_of(&entry.url)).collect();
        return Ok(Listing { playlists, target: Duration::from_secs(1), ..Listing::default() });
    }
    let playlist = media::parse(text, &url, &Variables::new(), PLAYLIST_MAX).map_err(|error| error.to_string())?;
    Ok(Listing {
        playlists: Vec::new(),
        segments: playlist.segments.iter().map(|listed| (listed.number, path_of(&listed.url))).collect(),
        target: Duration::from_secs(playlist.target_duration.into()),
        ended: playlist.ended,
    })
}

/// What is wrong with a pushed segment or initialization section, if it can't be one. One that is encrypted as a whole may
/// begin with anything, but fills AES blocks (RFC 8216bis §4.4.4.4); it is looked at again when its playlist is there.
pub(in crate::ingest) fn not_media(body: &[u8]) -> Option<String> {
    let maybe_encrypted = !body.is_empty() && body.len().is_multiple_of(16) && !sniff::is_page(body);
    if sniff::is_media(body) || maybe_encrypted {
        return None;
    }
    Some(match body {
        [] => "it is empty".to_owned(),
        _ => format!("it is not media (it begins with '{}')", sniff::beginning(body)),
    })
}

/// As [`super::run`], for the playlist at `path` on the shelf: waits for ever, and does not end.
///
/// # Errors
/// [`PullError`], for what only a person can mend.
pub(in crate::ingest) async fn run(
    shelf: Arc<Shelf>,
    path: &str,
    events: mpsc::Sender<Ingested>,
) -> Result<(), PullError> {
    let Some(source) = url(path) else { return Ok(()) };
    Box::pin(Pull::pushed(shelf, source, events).run(None)).await
}

/// Reads a media playlist for following: its files' addresses hold their generations, so that a name used again is another
/// file; and an end is a pause, since encoders come back.
pub(super) fn followed(mut playlist: MediaPlaylist, url: &Url, shelf: &Shelf) -> MediaPlaylist {
    let playlist_path = path_of(url);
    let with_generation = |url: &Url| {
        let (path, mut url) = (path_of(url), url.clone());
        url.set_path(&format!("/{}/{path}", shelf.generation(&playlist_path, &path)));
        url
    };
    for listed in &mut playlist.segments {
        listed.url = with_generation(&listed.url);
        if let Some(map) = &mut listed.init {
            *map = Arc::new(Map { url: with_generation(&map.url), range: map.range.clone() });
        }
    }
    (playlist.ended, playlist.blocks) = (false, true);
    // Encoders that push parts are none known; a part's file would need a generation, too.
    playlist.part_target = None;
    playlist
}

/// The path on the shelf of what a playlist names.
pub(super) fn path_of(url: &Url) -> String {
    url.path().trim_start_matches('/').to_owned()
}

/// Takes apart what [`followed`] put together.
pub(super) fn generation_of(url: &Url) -> Option<(u32, &str)> {
    let (generation, path) = url.path().strip_prefix('/')?.split_once('/')?;
    Some((generation.parse().ok()?, path))
}

fn url(path: &str) -> Option<Url> {
    Url::parse(BASE).ok()?.join(path).ok()
}
