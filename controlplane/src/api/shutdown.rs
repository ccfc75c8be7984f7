//! `POST {ami}/shutdown`: no new calls, then the end, as SIGTERM asks for it.
//! Owns:  the body: how long standing calls may go on.
//! Gives: 200 at once; the process goes on answering while it drains.
//! Never: ends a call before its time; that is the supervisor's when the deadline is over.
//! Holds: asking again changes nothing and says what counts.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use serde_json::{Value, json};
use shared::metrics::Counter;

use super::doc::{self, Doc};
use super::fields::Fields;
use super::routes::{Need, Routes};
use super::{App, Code, Problem};
use crate::access::{Caller, Deed, Right};

/// Seconds; a longer drain is better left to nobody calling.
const DEADLINE_S: std::ops::RangeInclusive<i64> = 0..=86_400;

pub(super) fn routes() -> Routes {
    let begun = json!({
        "status": "shutdown initiated",
        "already_asked": false,
        "deadline_s": 30,
        "calls": 2,
    });
    Routes::new().post("/shutdown", Need::Ami(Right::SystemAdmin), shutdown).doc(
        Doc::new("No new calls, then the end")
            .body(doc::object(&[("deadline_s", doc::number(0, 86_400))]), json!({}))
            .or_nothing()
            .answer(200, "It has begun", begun)
            .refuses(&[Code::BodyInvalid]),
    )
}

async fn shutdown(
    State(app): State<App>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let (deadline, news) = app.ending.ask(read(&body)?);
    if news {
        let text = format!("standing calls may go on for {} s", deadline.as_secs());
        app.access.record(&caller, Deed::done("shutdown", "gateway").detail(text)).await;
    }
    Ok(Json(json!({
        "status": "shutdown initiated",
        "already_asked": !news,
        "deadline_s": deadline.as_secs(),
        "calls": app.board.totals().of(Counter::Calls),
    })))
}

/// No body asks for the time that the process was started with.
fn read(body: &[u8]) -> Result<Option<Duration>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    let body = serde_json::from_slice(body)
        .map_err(|error| Problem::new(Code::BodyUnreadable, error.to_string()))?;
    let mut fields = Fields::of(body)?;
    let seconds = fields.number("deadline_s");
    if let Some(seconds) = seconds.filter(|seconds| !DEADLINE_S.contains(seconds)) {
        let (least, most) = (DEADLINE_S.start(), DEADLINE_S.end());
        fields.refuse("deadline_s", format!("must be {least} to {most}, not {seconds}"));
    }
    fields.finish()?;
    Ok(seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs))
}
