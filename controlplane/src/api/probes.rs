//! `GET /livez` and `/readyz`: for supervisors and load balancers.
//! Owns:  what ready means.
//! Gives: 200, or 503 with every reason.
//! Never: not ready because of a program outside; the database is inside.
//! Holds: alive says only that this process answers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::time::timeout;

use super::App;
use super::doc::Doc;
use super::routes::{Need, Routes};
use crate::board::{Counts, Stage};

/// A database that needs longer than this is not ready.
const PING_DEADLINE: Duration = Duration::from_secs(2);

pub(super) fn routes() -> Routes {
    let state = |ready: bool| json!({ "ready": ready, "reasons": ["draining"] });
    Routes::new()
        .get("/livez", Need::Anybody, live)
        .doc(Doc::new("Whether the process answers").file(200, "ok", "text/plain"))
        .get("/readyz", Need::Anybody, ready)
        .doc(Doc::new("Whether it should get work").answer(200, "It should", state(true)).answer(
            503,
            "It should not, and why",
            state(false),
        ))
}

async fn live() -> &'static str {
    "ok\n"
}

async fn ready(State(app): State<App>) -> Response {
    let mut reasons = Vec::new();
    let published = Counts::of(&app.board.counts.published);
    for (number, shard) in app.board.shards().iter().enumerate() {
        match shard.stage {
            Stage::Serving => {}
            other => reasons.push(format!("shard {number} is {}", other.as_str())),
        }
        if shard.generation < published {
            reasons.push(format!("shard {number} does not serve generation {published} yet"));
        }
        if shard.is_silent() {
            reasons.push(format!("shard {number} has been silent"));
        }
    }
    if app.board.counts.draining.load(Ordering::Relaxed) {
        reasons.push("draining".to_owned());
    }
    if Counts::of(&app.board.counts.journals_failing) > 0 {
        reasons.push("call records cannot be stored".to_owned());
    }
    match timeout(PING_DEADLINE, app.store.ping()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            reasons.push("the database fails".to_owned());
        }
        Err(_) => reasons.push("the database does not answer".to_owned()),
    }
    let ready = reasons.is_empty();
    let body = Json(json!({ "ready": ready, "reasons": reasons }));
    if ready {
        return body.into_response();
    }
    let soon = [(header::RETRY_AFTER, HeaderValue::from_static("1"))];
    (StatusCode::SERVICE_UNAVAILABLE, soon, body).into_response()
}
