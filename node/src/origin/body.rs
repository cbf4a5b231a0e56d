//! Reading an HTTP answer: is it the bytes that were asked for, and no more of them than there is room for.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Response, StatusCode};
use tokio::time::timeout;

use super::FetchError;
use super::client::explain;

/// What the caller wants of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it, unless it is larger than `limit` bytes.
    Whole {
        /// Bytes.
        limit: u64,
    },
    /// These bytes of it.
    Range(Range<u64>),
}

/// Read past, at most, when a server ignores Range and sends the file from its start; bytes.
const SKIP_MAX: u64 = 32 << 20;

/// Refuses a successful answer that says it is a web page: the work of captive portals and friendly error handlers.
pub(crate) fn refuse_page(response: Response) -> Result<Response, FetchError> {
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let is_page = content_type.trim_start().to_ascii_lowercase().starts_with("text/html");
    if response.status().is_success() && is_page { Err(FetchError::Html) } else { Ok(response) }
}

/// Reads the wanted bytes into one piece; the caller has bounded the range.
pub(crate) async fn collect(response: Response, wanted: &Wanted, silence: Duration) -> Result<Bytes, FetchError> {
    let mut pieces = Vec::new();
    stream(response, wanted, silence, &mut |piece| pieces.push(piece)).await?;
    if let [only] = pieces.as_slice() {
        return Ok(only.clone());
    }
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
    Ok(joined.freeze())
}

/// Hands the wanted bytes to `sink` as they arrive, in order. A pause longer than `silence` is an error.
pub(crate) async fn stream(
    mut response: Response,
    wanted: &Wanted,
    silence: Duration,
    sink: &mut impl FnMut(Bytes),
) -> Result<(), FetchError> {
    let mut position = first_byte(&response, wanted)?;
    check_length(&response, wanted, position)?;
    loop {
        if let Wanted::Range(range) = wanted
            && position >= range.end
        {
            return Ok(());
        }
        let read = timeout(silence, response.chunk()).await.map_err(|_| FetchError::Silent)?;
        let Some(piece) = read.map_err(|e| explain(&e))? else { break };
        let end = position + piece.len() as u64;
        match wanted {
            Wanted::Whole { limit } if end > *limit => return Err(FetchError::TooLarge(*limit)),
            Wanted::Whole { .. } => sink(piece),
            Wanted::Range(range) => {
                let overlap = range.start.max(position)..range.end.min(end);
                if overlap.start < overlap.end {
                    sink(piece.slice((overlap.start - position) as usize..(overlap.end - position) as usize));
                }
            }
        }
        position = end;
    }
    match wanted {
        Wanted::Whole { .. } => Ok(()),
        Wanted::Range(range) => Err(FetchError::WrongLength { wanted: range.end, got: position }),
    }
}

/// Where in the resource the answer's body begins, if it is one we can use.
fn first_byte(response: &Response, wanted: &Wanted) -> Result<u64, FetchError> {
    let status = response.status();
    let code = status.as_u16();
    match (status, wanted) {
        (StatusCode::OK, _) => Ok(0),
        (StatusCode::PARTIAL_CONTENT, Wanted::Range(range)) => {
            let first = content_range_start(response).unwrap_or(range.start);
            if first > range.start {
                return Err(FetchError::WrongLength { wanted: range.end, got: first });
            }
            Ok(first)
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Wanted::Range(range)) => {
            Err(FetchError::WrongLength { wanted: range.end, got: content_range_total(response).unwrap_or(0) })
        }
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) => Err(FetchError::Gone(code)),
        _ => Err(FetchError::Status(code)),
    }
}

/// Refuses, before reading it, a body that its header says is too short, too long or begins too early.
fn check_length(response: &Response, wanted: &Wanted, first: u64) -> Result<(), FetchError> {
    let len = response.content_length();
    match wanted {
        Wanted::Whole { limit } if len.is_some_and(|len| len > *limit) => Err(FetchError::TooLarge(*limit)),
        Wanted::Range(range) if range.start - first > SKIP_MAX => Err(FetchError::TooLarge(SKIP_MAX)),
        Wanted::Range(range) => match len.map(|len| first.saturating_add(len)) {
            Some(end) if end < range.end => Err(FetchError::WrongLength { wanted: range.end, got: end }),
            Some(_) | None => Ok(()),
        },
        Wanted::Whole { .. } => Ok(()),
    }
}

/// `Content-Range: bytes FIRST-LAST/TOTAL`, RFC 9110 §14.4.
fn content_range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// The total in `Content-Range: bytes */TOTAL`.
fn content_range_total(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_RANGE)?.to_str().ok()?.rsplit('/').next()?.trim().parse().ok()
}
