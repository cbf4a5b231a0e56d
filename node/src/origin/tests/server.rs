//! A small HTTP server that does as it is told, well or badly.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep};
use url::Url;

/// What a path answers.
#[derive(Clone)]
pub(crate) enum Answer {
    /// The body, or the part of it that Range asks for.
    Body(Bytes),
    /// The whole body with 200, whatever is asked for.
    IgnoresRange(Bytes),
    /// The body with this content type.
    Typed(&'static str, Bytes),
    Status(u16),
    Redirect(String),
    /// The beginning, and then nothing for ever.
    Stalls(Bytes),
    /// The beginning, though the header promised more.
    BreaksOff(Bytes),
    /// 206 with this Content-Range, whatever is asked for.
    Range(&'static str, Bytes),
    /// The body, for those who log in as operator:secret.
    LoggedIn(Bytes),
    /// Held until the path is put again, for at most a few seconds.
    Held,
}

/// Runs until dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<BTreeMap<String, Answer>>,
    /// Path, query and Range of every request.
    requests: Mutex<Vec<(String, Option<String>)>>,
    /// Requests being answered: now, and at most.
    under_way: Mutex<(usize, usize)>,
    directory: Option<PathBuf>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    /// Serves the files below `directory`, where no answer was put.
    pub(crate) async fn of_directory(directory: &Path) -> Self {
        Self::serve(Some(directory.to_owned())).await
    }

    async fn serve(directory: Option<PathBuf>) -> Self {
        let shared = Arc::new(Shared { directory, ..Shared::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, task }
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    pub(crate) fn put(&self, path: &str, answer: Answer) {
        self.shared.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    pub(crate) fn text(&self, path: &str, text: impl Into<String>) {
        self.put(path, Answer::Body(Bytes::from(text.into())));
    }

    /// Path with query, and Range, of each request so far.
    pub(crate) fn requests(&self) -> Vec<(String, Option<String>)> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The largest number of requests that were being answered at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.under_way.lock().unwrap().1
    }

    /// Waits until `count` more requests for `path` have come.
    pub(crate) async fn more_requests(&self, path: &str, count: usize) {
        let seen = || self.requests().iter().filter(|(asked, _)| asked == path).count();
        let before = seen();
        tokio::time::timeout(Duration::from_secs(30), async {
            while seen() < before + count {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    {
        let mut under_way = shared.under_way.lock().unwrap();
        under_way.0 += 1;
        under_way.1 = under_way.1.max(under_way.0);
    }
    let response = choose(&shared, request).await;
    shared.under_way.lock().unwrap().0 -= 1;
    response
}

async fn choose(shared: &Shared, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let range = request.headers().get(RANGE).map(|value| value.to_str().unwrap().to_owned());
    let login = request.headers().get(AUTHORIZATION);
    let has_login = login.is_some_and(|login| login == "Basic b3BlcmF0b3I6c2VjcmV0");
    let asked = request.uri().path_and_query().map_or(path.clone(), ToString::to_string);
    shared.requests.lock().unwrap().push((asked, range.clone()));
    for _ in 0..500 {
        let known = shared.answers.lock().unwrap().get(&path).cloned();
        match known {
            Some(Answer::Held) => sleep(Duration::from_millis(20)).await,
            Some(Answer::LoggedIn(body)) if has_login => return in_range(&body, range.as_deref()),
            Some(known) => return respond(known, range.as_deref()),
            None => return from_directory(shared, &path, range.as_deref()).await,
        }
    }
    status(503).body(Body::empty()).unwrap()
}

async fn from_directory(shared: &Shared, path: &str, range: Option<&str>) -> Response<Body> {
    let Some(directory) = &shared.directory else { return respond(Answer::Status(404), None) };
    match tokio::fs::read(directory.join(path.trim_start_matches('/'))).await {
        Ok(body) => respond(Answer::Body(body.into()), range),
        Err(_) => respond(Answer::Status(404), None),
    }
}

fn respond(answer: Answer, range: Option<&str>) -> Response<Body> {
    let forever = stream::pending::<Result<Bytes, std::io::Error>>();
    let response = match answer {
        Answer::Body(body) => return in_range(&body, range),
        Answer::IgnoresRange(body) => status(200).body(Body::from(body)),
        Answer::Typed(kind, body) => status(200).header(CONTENT_TYPE, kind).body(Body::from(body)),
        Answer::Status(code) => status(code).body(Body::from("sorry")),
        Answer::Redirect(to) => status(302).header(LOCATION, to).body(Body::empty()),
        Answer::Stalls(body) => status(200).body(Body::from_stream(stream::iter([Ok(body)]).chain(forever))),
        Answer::BreaksOff(body) => {
            let promised = body.len() + 100;
            let broken = stream::iter([Ok(body), Err(std::io::Error::other("cut"))]);
            status(200).header(CONTENT_LENGTH, promised).body(Body::from_stream(broken))
        }
        Answer::Range(stated, body) => status(206).header(CONTENT_RANGE, stated).body(Body::from(body)),
        Answer::LoggedIn(_) => status(401).body(Body::empty()),
        Answer::Held => status(503).body(Body::empty()),
    };
    response.unwrap()
}

fn in_range(body: &Bytes, range: Option<&str>) -> Response<Body> {
    let Some(range) = range else { return status(200).body(Body::from(body.clone())).unwrap() };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last) = (first.parse::<usize>().unwrap(), last.parse().unwrap_or(usize::MAX));
    if first >= body.len() {
        let stated = format!("bytes */{}", body.len());
        return status(416).header(CONTENT_RANGE, stated).body(Body::empty()).unwrap();
    }
    let last = last.min(body.len() - 1);
    let stated = format!("bytes {first}-{last}/{}", body.len());
    status(206).header(CONTENT_RANGE, stated).body(Body::from(body.slice(first..=last))).unwrap()
}

fn status(code: u16) -> axum::http::response::Builder {
    Response::builder().status(StatusCode::from_u16(code).unwrap())
}
