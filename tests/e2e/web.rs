//! An HTTP server on loopback as an origin is one: files with ranges, or whatever a test wants answered.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A server that ends when it is dropped.
pub(crate) struct Web {
    base: String,
    requests: Arc<Mutex<BTreeMap<String, u64>>>,
    task: JoinHandle<()>,
}

impl Web {
    /// Serves the files of a directory.
    pub(crate) async fn files(directory: &Path) -> Self {
        let directory = directory.to_owned();
        Self::answering(move |path, _| std::fs::read(file_in(&directory, path)).ok()).await
    }

    /// Serves what `body` says for a path, without its leading slash, and the number of earlier requests for it. `None`
    /// is a 404.
    pub(crate) async fn answering(body: impl Fn(&str, u64) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let requests: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        let (counted, body) = (Arc::clone(&requests), Arc::new(body));
        let router = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap| {
            let path = uri.path().trim_start_matches('/').to_owned();
            let earlier = {
                let mut requests = counted.lock().unwrap();
                let count = requests.entry(path.clone()).or_default();
                *count += 1;
                *count - 1
            };
            let answer = match body(&path, earlier) {
                Some(whole) => ranged(&method, &headers, &path, whole.into()),
                None => StatusCode::NOT_FOUND.into_response(),
            };
            async { answer }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { base, requests, task }
    }

    /// The address of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// How often each path was asked for.
    pub(crate) fn requests(&self) -> BTreeMap<String, u64> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Only what lies in the directory itself.
fn file_in(directory: &Path, path: &str) -> PathBuf {
    directory.join(Path::new(path).file_name().unwrap_or_default())
}

fn ranged(method: &Method, headers: &HeaderMap, path: &str, whole: Bytes) -> Response {
    let kind = match path.rsplit_once('.') {
        Some((_, "m3u8")) => "application/vnd.apple.mpegurl",
        Some((_, "ts")) => "video/mp2t",
        Some(_) | None => "video/mp4",
    };
    let kind = [(header::CONTENT_TYPE, kind), (header::ACCEPT_RANGES, "bytes")];
    let asked = headers.get(header::RANGE).filter(|_| method == Method::GET);
    let Some(asked) = asked.and_then(|range| range.to_str().ok()) else { return (kind, whole).into_response() };
    match range_of(asked, whole.len()) {
        Some(range) => {
            let told = format!("bytes {}-{}/{}", range.start(), range.end(), whole.len());
            (StatusCode::PARTIAL_CONTENT, kind, [(header::CONTENT_RANGE, told)], whole.slice(range)).into_response()
        }
        None => StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
    }
}

/// `bytes=FIRST-LAST` or `bytes=FIRST-`: all that is asked of an origin here.
fn range_of(header: &str, len: usize) -> Option<RangeInclusive<usize>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let last: usize = if last.is_empty() { len } else { last.parse::<usize>().ok()?.saturating_add(1) };
    let last = last.min(len).checked_sub(1)?;
    (first <= last).then_some(first..=last)
}
