//! Stands between an encoder and the endpoint, passes everything on as it comes, and keeps a copy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use futures::TryStreamExt;
use tokio::net::TcpListener;
use url::Url;

/// Bodies by path (the last under each), and what was answered.
#[derive(Clone, Default)]
pub(super) struct Proxy(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    bodies: BTreeMap<String, Vec<Bytes>>,
    failures: Vec<String>,
    deletions: usize,
}

impl Proxy {
    /// A proxy in front of `target`, and the same URL through it.
    pub(super) async fn before(target: &Url) -> (Self, Url) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url = target.clone();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let (proxy, target, client) = (Self::default(), target.clone(), reqwest::Client::new());
        let kept = proxy.clone();
        let router = Router::new().fallback(move |request: Request| {
            let (kept, target, client) = (kept.clone(), target.clone(), client.clone());
            // ffmpeg closes its connection without waiting for the answer.
            let passed = tokio::spawn(async move { kept.pass(request, &target, &client).await });
            async move { passed.await.unwrap_or(StatusCode::BAD_GATEWAY) }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        (proxy, url)
    }

    async fn pass(&self, request: Request, target: &Url, client: &reqwest::Client) -> StatusCode {
        let path = request.uri().path().to_owned();
        let name = path.strip_prefix(target.path()).unwrap_or(&path).to_owned();
        let method = request.method().clone();
        let copy = Arc::new(Mutex::new(Vec::new()));
        let keep = copy.clone();
        let body = request.into_body().into_data_stream();
        let body = body.inspect_ok(move |data| keep.lock().unwrap().extend_from_slice(data));
        let url = target.join(&path).unwrap();
        let sent = client.request(method.clone(), url).body(reqwest::Body::wrap_stream(body)).send().await;
        let mut kept = self.0.lock().unwrap();
        let status = match sent {
            Ok(response) => response.status(),
            Err(_) => StatusCode::BAD_GATEWAY,
        };
        if !status.is_success() {
            kept.failures.push(format!("{method} {name}: {status}"));
        }
        if method == Method::DELETE {
            kept.deletions += 1;
            return status;
        }
        let body = Bytes::from(std::mem::take(&mut *copy.lock().unwrap()));
        kept.bodies.entry(name).or_default().push(body);
        status
    }

    /// What was pushed under this name, each time.
    pub(super) fn bodies(&self, name: &str) -> Vec<Bytes> {
        self.0.lock().unwrap().bodies.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn failures(&self) -> Vec<String> {
        self.0.lock().unwrap().failures.clone()
    }

    pub(super) fn deletions(&self) -> usize {
        self.0.lock().unwrap().deletions
    }
}
