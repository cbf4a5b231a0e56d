//! HTTP responses: bodies in whole or in part, and failures that say what is wrong.

use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;

use super::range::{self, Asked};

/// How long a response may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Not at all: live playlists at the viewer, states, failures.
    Never,
    /// One second, so that a cache in front of the origin answers most of those who poll a playlist.
    Briefly,
    /// For ever: the name belongs to these bytes alone.
    Forever,
}

/// What describes a body, whichever part of it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Content-Type.
    pub content_type: &'static str,
    /// Cache-Control.
    pub keep: Keep,
}

/// A body at hand; honours Range.
pub fn bytes(request: &HeaderMap, body: Bytes, kind: Kind) -> Response {
    let len = body.len() as u64;
    // A part lies within the body, whose length is a usize.
    ranged(request, len, kind, |part| Body::from(body.slice(part.start as usize..part.end as usize)))
}

/// A body of `len` bytes of which `part` yields any range; honours Range. Content-Length is always set, so a body that
/// ends early is seen as broken.
pub fn ranged(request: &HeaderMap, len: u64, kind: Kind, part: impl FnOnce(Range<u64>) -> Body) -> Response {
    let (status, range) = match range::asked(request, len) {
        Asked::Whole => (StatusCode::OK, 0..len),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Unsatisfiable => {
            let mut response = failure(StatusCode::RANGE_NOT_SATISFIABLE, "no such range");
            if let Ok(value) = HeaderValue::try_from(format!("bytes */{len}")) {
                response.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            return response;
        }
    };
    let mut response = Response::new(part(range.clone()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind.content_type));
    headers.insert(header::CACHE_CONTROL, kind.keep.header());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if status == StatusCode::PARTIAL_CONTENT
        && let Some(value) = range::content_range(&range, len)
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    response
}

/// A short text for people. It may be shown to them as it is, so it says what to do where they can do something.
pub fn failure(status: StatusCode, text: impl Into<String>) -> Response {
    let mut text = text.into();
    text.push('\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, Keep::Never.header());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// All metrics as text, for Prometheus.
pub fn metrics(encode: &super::Metrics) -> Response {
    let mut text = String::new();
    if encode(&mut text).is_err() {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, "metrics can't be written");
    }
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    bytes(&HeaderMap::new(), Bytes::from(text), Kind { content_type, keep: Keep::Never })
}

/// Lets pages of every origin read a response.
pub async fn allow_all_origins(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let exposed = HeaderValue::from_static("content-length, content-range, date");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    response
}

/// Answers a browser's OPTIONS ahead of a request with a Range header from a page of another origin.
pub async fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("range, cache-control"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

impl Keep {
    fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Never => "no-store",
            Self::Briefly => "public, max-age=1",
            Self::Forever => "public, max-age=31536000, immutable",
        })
    }
}
