//! The player page. Everything it needs is in this program, so it works without the internet.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;

use super::{Shared, Wiring};
use crate::hls::reply::{self, Keep, Kind, failure};

/// hls.js as `scripts/web` fetched it before the build; empty if it didn't run. See `build.rs`.
const HLS_JS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hls.min.js"));

const INDEX: &str = include_str!("../../web/index.html");
const SCRIPT: &str = include_str!("../../web/player.js");
const STYLE: &str = include_str!("../../web/style.css");
const ICON: &str = include_str!("../../web/icon.svg");

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(index))
        .route("/player.js", get(|| async { asset(SCRIPT.as_bytes(), JAVASCRIPT) }))
        .route("/style.css", get(|| async { asset(STYLE.as_bytes(), "text/css; charset=utf-8") }))
        .route("/icon.svg", get(|| async { asset(ICON.as_bytes(), "image/svg+xml") }))
        .route("/hls.min.js", get(player_library))
}

pub(super) async fn not_found() -> Response {
    failure(StatusCode::NOT_FOUND, "nothing here; the player is at / and the plain playlist at /live/index.m3u8")
}

async fn index(State(shared): State<Arc<Shared>>) -> Response {
    let mut response = asset(INDEX.as_bytes(), "text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy(&shared.wiring));
    response
}

async fn player_library() -> Response {
    if HLS_JS.is_empty() {
        return failure(StatusCode::NOT_FOUND, "built without hls.js; run scripts/web and build again");
    }
    asset(HLS_JS, JAVASCRIPT)
}

fn asset(body: &'static [u8], content_type: &'static str) -> Response {
    let mut response =
        reply::bytes(&HeaderMap::new(), Bytes::from_static(body), Kind { content_type, keep: Keep::Never });
    let headers = response.headers_mut();
    for (name, value) in [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// What the page may load. Keys of encrypted streams lie with the broadcaster: any https server has proven its name,
/// but a plain http one could be anything in the viewer's own network, so it must be named.
fn policy(wiring: &Wiring) -> HeaderValue {
    const REST: &str = "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; object-src 'none'; \
                        base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self' https:";
    let sound = |origin: &&String| origin.bytes().all(|b| b.is_ascii_alphanumeric() || b":/.-[]".contains(&b));
    let named: String = wiring.key_origins.iter().filter(sound).map(|origin| format!(" {origin}")).collect();
    HeaderValue::try_from(format!("{REST}{named}")).unwrap_or(HeaderValue::from_static(REST))
}
