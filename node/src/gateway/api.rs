//! Figures and the one switch.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{Command, Shared};
use crate::hls::reply::{self, Keep, Kind, failure};

/// The JSON of `POST /api/upload`, and of its answer.
#[derive(Debug, Serialize, Deserialize)]
struct Upload {
    enabled: bool,
}

pub(super) async fn stats(State(shared): State<Arc<Shared>>) -> Response {
    let stats = shared.wiring.stats.borrow().clone();
    json(&stats)
}

pub(super) async fn upload(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Ok(upload) = serde_json::from_slice::<Upload>(&body) else {
        return failure(StatusCode::BAD_REQUEST, r#"send {"enabled": true} or {"enabled": false}"#);
    };
    if shared.wiring.commands.try_send(Command::Upload { enabled: upload.enabled }).is_err() {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "busy; try again");
    }
    tracing::info!(enabled = upload.enabled, "sharing switched from the page");
    json(&upload)
}

pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    reply::metrics(&shared.wiring.metrics)
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let kind = Kind { content_type: "application/json", keep: Keep::Never };
            reply::bytes(&HeaderMap::new(), body.into(), kind)
        }
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
