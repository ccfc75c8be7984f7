//! Calls that stand now: `GET /calls/active` and `/calls/active/{call_id}`.
//! Owns:  the shape of an active call.
//! Gives: every shard's calls in one list, oldest first.
//! Never: a list that leaves a silent shard out without saying so.
//! Holds: `{call_id}` is our id or the SIP Call-ID of either leg.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use shared::command::Question;
use shared::event::{Answer, CallState, CallView};

use super::asked::{Id, Pairs};
use super::doc::{self, Doc};
use super::routes::{Need, Routes};
use super::{App, Code, Problem};
use crate::access::Right;

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 500;

pub(super) fn routes() -> Routes {
    let need = Need::Right(Right::CallsRead);
    Routes::new()
        .get("/calls/active", need, list)
        .doc(
            Doc::new("Calls that stand now, oldest first")
                .query("limit", doc::number(1, 500), "How many, 50 if not said")
                .answer(200, "The calls", json!({ "data": [example()], "total": 1 }))
                .refuses(&[Code::ShardsSilent]),
        )
        .get("/calls/active/{call_id}", need, one)
        .doc(
            Doc::new("One call, by our id or the SIP Call-ID of either leg")
                .at("call_id", "a-leg-1@phone")
                .answer(200, "The call", json!({ "data": example() }))
                .refuses(&[Code::NoSuchCall, Code::ShardsSilent]),
        )
}

async fn list(State(app): State<App>, pairs: Pairs) -> Result<Json<Value>, Problem> {
    pairs.refuse_unknown(&["limit"])?;
    let limit = match pairs.last("limit") {
        None => LIMIT_DEFAULT,
        Some(text) => text.parse::<usize>().map_err(|_| {
            Problem::new(Code::FilterInvalid, format!("limit must be a number, not \"{text}\""))
        })?,
    };
    let calls = calls(&app).await?;
    let total = calls.len();
    let shown = calls.iter().take(limit.clamp(1, LIMIT_MAX));
    let items: Vec<Value> = shown.map(|call| show(&app, call)).collect();
    Ok(Json(json!({ "data": items, "total": total })))
}

async fn one(State(app): State<App>, Id(call_id): Id) -> Result<Json<Value>, Problem> {
    let calls = calls(&app).await?;
    let is_it = |call: &&CallView| {
        call.id.to_string().eq_ignore_ascii_case(&call_id) || call.sip_call_ids.contains(&call_id)
    };
    match calls.iter().find(is_it) {
        Some(call) => Ok(Json(json!({ "data": show(&app, call) }))),
        None => Err(Problem::new(
            Code::NoSuchCall,
            format!("no call that stands now has the id \"{call_id}\""),
        )),
    }
}

async fn calls(app: &App) -> Result<Vec<CallView>, Problem> {
    let answers = app.questions.ask(Question::Calls).await?;
    let mut calls: Vec<CallView> = answers
        .into_iter()
        .flat_map(|answer| match answer {
            Answer::Calls(calls) => calls,
            _ => Vec::new(),
        })
        .collect();
    calls.sort_by_key(|call| call.id);
    Ok(calls)
}

fn show(app: &App, call: &CallView) -> Value {
    let talking = call.answered_at.is_some();
    let state = match call.state {
        CallState::Ending => "ending",
        CallState::Ringing => "ringing",
        CallState::Talking => "talking",
    };
    let media_path = match call.relays {
        _ if call.media_past_us => "bypass",
        0 => "none",
        _ => "anchored",
    };
    json!({
        "call_id": call.id,
        "node": app.node.as_ref(),
        "meta": {
            "session_id": call.id,
            "caller": call.caller,
            "callee": call.callee,
            "direction": call.direction,
            "started_at": call.started_at,
            "answered_at": call.answered_at,
            "status": if talking { "Talking" } else { "Ringing" },
        },
        "state": {
            "id": call.id,
            "state": state,
            "leg_count": call.legs,
            "bridge_active": talking,
            "media_path": media_path,
            "recording": call.recording,
            "held": sides(call.held),
            "muted": sides(call.muted),
            "sip_call_ids": call.sip_call_ids,
            "shard": call.shard.0,
        },
    })
}

fn sides([caller, callee]: [bool; 2]) -> Value {
    json!({ "caller": caller, "callee": callee })
}

fn example() -> Value {
    json!({
        "call_id": "019db5d0c8617a3e9d3b6b5a2f1c4e77",
        "node": "gate-1",
        "meta": {
            "session_id": "019db5d0c8617a3e9d3b6b5a2f1c4e77",
            "caller": "1001",
            "callee": "1002",
            "direction": "internal",
            "started_at": "2026-11-24T10:00:00.000Z",
            "answered_at": "2026-11-24T10:00:02.000Z",
            "status": "Talking",
        },
        "state": {
            "id": "019db5d0c8617a3e9d3b6b5a2f1c4e77",
            "state": "talking",
            "leg_count": 2,
            "bridge_active": true,
            "media_path": "anchored",
            "recording": false,
            "sip_call_ids": ["a-leg-1@phone", "b-leg-1@gate"],
            "shard": 0,
        },
    })
}
