//! The part that comes next, asked for before it is listed (EXT-X-PRELOAD-HINT, RFC 8216bis §4.4.5.3): the server answers
//! when the part is there, which saves each of them a round trip.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::load::Loader;
use super::media::{Hint, ListedPart};
use crate::origin::FetchError;

/// Hints in a row that brought nothing, after which no more are followed: the server doesn't hold them.
const FAILURES_MAX: u32 = 3;

/// What is asked for ahead in one rendition: one part at a time.
#[derive(Debug, Default)]
pub(super) struct Preload(Mutex<State>);

/// A request for what comes next; ends when dropped.
pub(super) type Ahead = JoinSet<Result<Bytes, FetchError>>;

#[derive(Debug, Default)]
struct State {
    /// Followed last.
    hint: Option<Hint>,
    request: Option<Ahead>,
    failures: u32,
}

impl Preload {
    /// Asks for what `hint` tells of, unless that was done. A request for something else ends: it isn't coming.
    pub(super) fn follow(&self, hint: Hint, loader: &Arc<Loader>, limit: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.hint.as_ref() == Some(&hint) {
            return;
        }
        state.failures += u32::from(state.request.take().is_some());
        state.hint = Some(hint.clone());
        if state.failures < FAILURES_MAX {
            let loader = loader.clone();
            let mut request = Ahead::new();
            request.spawn(async move { loader.ahead(&hint.url, hint.range.as_ref(), limit).await });
            state.request = Some(request);
        }
    }

    /// The request for `part`, if it was asked for ahead.
    pub(super) fn take(&self, part: &ListedPart) -> Option<Ahead> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_hinted = state.hint.as_ref().is_some_and(|hint| hint.url == part.url && hint.range == part.range);
        state.request.take_if(|_| is_hinted)
    }

    /// What a request brought `until` then.
    pub(super) async fn body(&self, mut request: Ahead, until: Instant) -> Option<Bytes> {
        let body = match timeout_at(until, request.join_next()).await {
            Ok(Some(Ok(Ok(body)))) => Some(body),
            Ok(Some(Ok(Err(_)) | Err(_)) | None) | Err(_) => None,
        };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = if body.is_some() { 0 } else { state.failures + 1 };
        body
    }
}
