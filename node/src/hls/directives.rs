//! Playlist delivery directives (RFC 8216bis §6.2.5): what a player wants to wait for, and what it can do without.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use tokio::time::{Duration, Instant, timeout_at};

use super::reply::failure;
use super::window::Window;
use crate::media::Media;

/// As they stand in a playlist's query.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Directives {
    /// Hold the answer until the playlist holds the segment with this media sequence number.
    #[serde(rename = "_HLS_msn")]
    pub sequence: Option<u64>,
    /// With it: until it holds that part of it, or a later one.
    #[serde(rename = "_HLS_part")]
    pub part: Option<usize>,
    /// `YES` or `v2`: leave out what the player has.
    #[serde(rename = "_HLS_skip")]
    pub skip: Option<String>,
}

/// A server must not hold an answer for a segment further ahead than this (RFC 8216bis §6.2.5.2).
const AHEAD_MAX: u64 = 2;

impl Directives {
    /// Whether a delta update is wanted.
    pub fn skips(&self) -> bool {
        self.skip.as_deref().is_some_and(|skip| skip == "YES" || skip == "v2")
    }

    /// What the playlist lists once it holds what is waited for.
    ///
    /// # Errors
    /// An answer to give instead: 400 for what can't be waited for, 503 if it didn't come within `patience`.
    #[allow(clippy::result_large_err)] // it is sent at once
    pub async fn awaited(
        &self,
        media: &Media,
        patience: Duration,
        list: impl Fn() -> Window,
    ) -> Result<Window, Response> {
        let Some(sequence) = self.sequence else {
            return match self.part {
                None => Ok(list()),
                Some(_) => Err(failure(StatusCode::BAD_REQUEST, "_HLS_part needs _HLS_msn")),
            };
        };
        let deadline = Instant::now() + patience;
        let mut changes = media.changes();
        loop {
            changes.mark_unchanged();
            let window = list();
            if window.end().is_some_and(|(newest, _)| sequence > newest + AHEAD_MAX) {
                return Err(failure(StatusCode::BAD_REQUEST, "_HLS_msn is too far ahead of the playlist"));
            }
            if holds(&window, sequence, self.part) {
                return Ok(window);
            }
            if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return Err(failure(StatusCode::SERVICE_UNAVAILABLE, "nothing new came; try again"));
            }
        }
    }
}

fn holds(window: &Window, sequence: u64, part: Option<usize>) -> bool {
    let Some((newest, growing)) = window.end() else { return false };
    if newest != sequence {
        return newest > sequence;
    }
    let Some(part) = part else { return growing.is_none() };
    let parts = match growing {
        Some(parts) => parts,
        None => window.entries.last().and_then(|last| last.media.as_ref()).map_or(0, |m| m.announcement.parts.len()),
    };
    // A part beyond the last stands for the first of the next segment (§6.2.5.2); a segment without parts holds any.
    parts > part || (growing.is_none() && parts == 0)
}
