//! `GET /api/v1/events`: what happens, as a stream of server-sent events.
//! Owns:  the stream's form: `id`, `event`, `data`; the comment that keeps a quiet one open.
//! Gives: events from behind `Last-Event-ID`, or from now on.
//! Never: events to somebody who may not hear them any more: credentials are looked at again while the
//!        stream is open.
//! Holds: a stream ends with `lagged` when events are missing, and says `lagged` first when those that
//!        were asked for are gone.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::asked::Pairs;
use super::doc::{self, Doc};
use super::routes::{Need, Routes};
use super::{App, Code, Problem, gate};
use crate::access::Right;
use crate::news::{Heard, Reader};

const NEED: Need = Need::Right(Right::CallsRead);
/// A comment after so long without an event, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often a stream looks whether its reader still may hear it.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What a reader may pick with `types`.
const TYPES: [&str; 8] = [
    "call_created",
    "call_ringing",
    "call_answered",
    "call_hangup",
    "registered",
    "unregistered",
    "offline",
    "trunks_reloaded",
];

pub(super) fn routes() -> Routes {
    Routes::new().get("/events", NEED, events).doc(
        Doc::new("What happens, as server-sent events; goes on behind Last-Event-ID")
            .query("types", doc::text(), "Only these, with commas between")
            .query("last_event_id", doc::text(), "For who cannot set the header")
            .file(200, "A stream without an end", "text/event-stream"),
    )
}

struct Listening {
    app: App,
    parts: Parts,
    reader: Reader,
    types: Vec<String>,
    look: Interval,
}

async fn events(State(app): State<App>, pairs: Pairs, parts: Parts) -> Result<Response, Problem> {
    pairs.refuse_unknown(&["types", "last_event_id"])?;
    let types = wanted_types(&pairs)?;
    let header = parts.headers.get("last-event-id").and_then(|value| value.to_str().ok());
    // A program that cannot set the header says it in the query.
    let last_id = header.or_else(|| pairs.last("last_event_id")).map(str::to_owned);
    let reader = app.news.listen(last_id.as_deref()).ok_or_else(|| {
        Problem::new(Code::TooBusy, "as many programs listen as there is room for")
    })?;
    let mut look = interval_at(Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let listening = Listening { app, parts, reader, types, look };
    let stream = stream::unfold(listening, |mut listening| async move {
        let event = listening.next().await?;
        Some((Ok::<_, Infallible>(event), listening))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("still here");
    let mut response = Sse::new(stream).keep_alive(keep_alive).into_response();
    // A proxy that collects an answer before it passes it on would hold back every event.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn wanted_types(pairs: &Pairs) -> Result<Vec<String>, Problem> {
    let Some(text) = pairs.last("types") else { return Ok(Vec::new()) };
    let types: Vec<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
    match types.iter().find(|word| !TYPES.contains(&word.as_str())) {
        None => Ok(types),
        Some(word) => {
            let text = format!("\"{word}\" is not one of {}", TYPES.join(", "));
            Err(Problem::new(Code::FilterInvalid, text))
        }
    }
}

impl Listening {
    /// A database that does not answer now throws nobody out: the next look decides.
    async fn may_still_listen(&self) -> bool {
        match gate::admit(&self.app, NEED, &self.parts).await {
            Ok(_) => true,
            Err(problem) => problem.code().status().is_server_error(),
        }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            let heard = tokio::select! {
                heard = self.reader.next() => heard?,
                _ = self.look.tick() => {
                    if !self.may_still_listen().await {
                        return None;
                    }
                    continue;
                }
            };
            match heard {
                Heard::Told(told) => {
                    let asked = self.types.is_empty() || self.types.iter().any(|t| t == told.kind);
                    if asked {
                        let id = self.app.news.id(told.number);
                        return Some(Event::default().id(id).event(told.kind).data(&told.json));
                    }
                }
                Heard::Lagged { newest, resumes } => {
                    let detail = if resumes {
                        "events that were asked for are gone; what is left follows"
                    } else {
                        "this reader was too slow: events are missing, ask for the state again"
                    };
                    let id = self.app.news.id(newest);
                    let data = json!({ "id": id, "type": "lagged", "data": { "detail": detail } });
                    return Some(Event::default().id(id).event("lagged").data(data.to_string()));
                }
            }
        }
    }
}
