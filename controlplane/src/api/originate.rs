//! Click-to-dial: `POST /commands` with `"action": "originate"`, and `POST {ami}/originate`.
//! Owns:  the body, its ranges, and what each refusal of the data plane becomes.
//! Gives: 202 with the call's id once the call exists; how it goes on is on the event stream.
//! Never: 202 for a party that is not there.
//! Holds: both paths take the same body; only the second one may leave `action` out.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::headers::{EXTRA_HEADERS_MAX, ExtraHeader};
use shared::ids::{CallId, ShardId};
use shared::originate::{Originate, Originated, Party, Unstarted};

use super::asked::Document;
use super::doc::{self, Doc};
use super::routes::{Need, Routes};
use super::{App, Code, Prefix, Problem};
use crate::access::{Caller, Deed, Outcome, Right};

/// Seconds that each party may ring.
const RING_S: std::ops::RangeInclusive<u64> = 1..=600;
/// A number, a name, or a SIP URI.
const ADDRESS_CHARS_MAX: usize = 256;

pub(super) fn routes() -> Routes {
    Routes::new()
        .post("/commands", Need::Right(Right::CallsControl), command)
        .doc(doc("Call two parties and join them", true))
}

pub(super) fn ami_routes() -> Routes {
    Routes::new()
        .post("/originate", Need::Ami(Right::Ami), ami_originate)
        .doc(doc("Call two parties and join them", false))
}

fn doc(summary: &'static str, action_is_needed: bool) -> Doc {
    let action = if action_is_needed { "!action" } else { "action" };
    let schema = doc::object(&[
        (action, doc::word(&["originate"])),
        ("!from", doc::text()),
        ("!to", doc::text()),
        ("caller_id", doc::text_or_null()),
        ("timeout", doc::number(1, 600)),
        ("headers", json!({ "type": "object", "additionalProperties": { "type": "string" } })),
        ("record", doc::flag()),
    ]);
    let example = json!({ "action": "originate", "from": "1001", "to": "1002", "timeout": 20 });
    let started = json!({
        "message": "the first party is being called",
        "call_id": "019db5d0c8617a3e9d3b6b5a2f1c4e77",
        "shard": 0,
    });
    Doc::new(summary).body(schema, example).answer(202, "The call exists", started).refuses(&[
        Code::CallsRefused,
        Code::CommandInvalid,
        Code::CommandUnknown,
        Code::NotRegistered,
        Code::PartyUnknown,
        Code::PartyUnreachable,
        Code::ShardsSilent,
    ])
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    from: String,
    to: String,
    caller_id: Option<String>,
    timeout: Option<u64>,
    headers: Option<BTreeMap<String, String>>,
    record: Option<bool>,
}

async fn command(
    State(app): State<App>,
    caller: Caller,
    Extension(prefix): Extension<Prefix>,
    Document(body): Document,
) -> Result<Response, Problem> {
    let started = originate(&app, &caller, read(body, false)?).await?;
    let place = format!("{}/calls/active/{}", prefix.0, started.call);
    Ok(([(header::LOCATION, place)], started).into_response())
}

async fn ami_originate(
    State(app): State<App>,
    caller: Caller,
    Document(body): Document,
) -> Result<Started, Problem> {
    originate(&app, &caller, read(body, true)?).await
}

/// The call exists.
struct Started {
    call: CallId,
    shard: ShardId,
}

impl IntoResponse for Started {
    fn into_response(self) -> Response {
        let body = json!({
            "message": "the first party is being called",
            "call_id": self.call,
            "shard": self.shard.0,
        });
        (StatusCode::ACCEPTED, Json(body)).into_response()
    }
}

async fn originate(app: &App, caller: &Caller, wanted: Originate) -> Result<Started, Problem> {
    let (from, to) = (wanted.from.clone(), wanted.to.clone());
    let shard = owner_of(&from, app.questions.shards());
    let parties = format!("from {from} to {to}");
    match app.questions.originate(shard, wanted).await? {
        Originated::Started(call) => {
            tracing::info!(%call, %from, %to, by = %caller, "a program asked for a call");
            let id = call.to_string();
            app.access.record(caller, Deed::done("call.originate", &id).detail(parties)).await;
            Ok(Started { call, shard })
        }
        Originated::Refused(why) => {
            tracing::info!(?why, %from, %to, by = %caller, "a call that was asked for is not made");
            let deed = Deed::new("call.originate", &parties, Outcome::Refused);
            app.access.record(caller, deed.detail(format!("{why:?}"))).await;
            Err(refused(why, &from, &to))
        }
    }
}

/// The shard that keeps the first party's registration, so that it can say at once whether there is
/// one. Any other would ask it, and answer before it knows.
fn owner_of(from: &str, shards: u8) -> ShardId {
    let rest = from.split_once(':').map_or(from, |(_, rest)| rest);
    let user = rest.split_once('@').map_or(rest, |(user, _)| user);
    ShardId::of_name(user.trim().as_bytes(), shards)
}

fn read(body: Value, action_is_known: bool) -> Result<Originate, Problem> {
    let Value::Object(mut fields) = body else {
        return Err(invalid("the body must be a JSON object"));
    };
    match fields.remove("action") {
        Some(Value::String(name)) if name == "originate" => {}
        Some(Value::String(name)) => {
            let name: String = name.chars().take(64).collect();
            return Err(Problem::new(
                Code::CommandUnknown,
                format!("there is no action \"{name}\" here; \"originate\" makes a call"),
            ));
        }
        Some(_) => return Err(invalid("\"action\" must be a string")),
        None if action_is_known => {}
        None => return Err(invalid("\"action\" is missing; \"originate\" makes a call")),
    }
    let body: Body = serde_json::from_value(Value::Object(fields))
        .map_err(|error| invalid(format!("originate: {error}")))?;
    let timeout = body.timeout.filter(|seconds| !RING_S.contains(seconds));
    if let Some(seconds) = timeout {
        let (low, high) = (RING_S.start(), RING_S.end());
        return Err(invalid(format!("\"timeout\" is {low} to {high} seconds, not {seconds}")));
    }
    Ok(Originate {
        from: address("from", &body.from)?,
        to: address("to", &body.to)?,
        caller_id: body.caller_id.map(|text| address("caller_id", &text)).transpose()?,
        ring: body.timeout.map(Duration::from_secs),
        headers: headers(body.headers.unwrap_or_default())?,
        record: body.record,
    })
}

fn address(field: &str, text: &str) -> Result<Box<str>, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > ADDRESS_CHARS_MAX {
        return Err(invalid(format!("\"{field}\" is 1 to {ADDRESS_CHARS_MAX} characters long")));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(format!("\"{field}\" has a control character in it")));
    }
    Ok(text.into())
}

fn headers(lines: BTreeMap<String, String>) -> Result<Vec<ExtraHeader>, Problem> {
    if lines.len() > EXTRA_HEADERS_MAX {
        return Err(invalid(format!("\"headers\" has more than {EXTRA_HEADERS_MAX} entries")));
    }
    let line = |(name, value): (&String, &String)| {
        ExtraHeader::new(name, value).map_err(|why| {
            let name: String = name.chars().take(64).collect();
            invalid(format!("\"headers\": {name:?}: {why}"))
        })
    };
    lines.iter().map(line).collect()
}

fn refused(why: Unstarted, from: &str, to: &str) -> Problem {
    let named = |party: Party| match party {
        Party::CallerId => ("caller_id", ""),
        Party::From => ("from", from),
        Party::To => ("to", to),
    };
    match why {
        Unstarted::NotRegistered(party) => {
            let (field, text) = named(party);
            Problem::new(Code::NotRegistered, format!("\"{field}\": {text} is not registered"))
        }
        Unstarted::Overloaded => Problem::new(
            Code::CallsRefused,
            "the gateway takes no new calls: it is full, or about to stop",
        ),
        Unstarted::Unreachable(party, 400 | 416) | Unstarted::Unreadable(party) => {
            let (field, _) = named(party);
            invalid(format!("\"{field}\" must be a user, a number, or a sip: URI without headers"))
        }
        Unstarted::Unreachable(party, 404) => {
            let (field, text) = named(party);
            let text = format!("\"{field}\": {text} is no user of ours and no trunk's");
            Problem::new(Code::PartyUnknown, text)
        }
        Unstarted::Unreachable(party, status) => {
            let (field, text) = named(party);
            let text = format!("\"{field}\": {text} cannot be called now (SIP {status})");
            Problem::new(Code::PartyUnreachable, text)
        }
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::CommandInvalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_contract_prints_is_read() {
        let body = json!({
            "action": "originate", "from": "1001", "to": "sip:+4930123@carrier.test",
            "caller_id": "\"Help desk\" <sip:100@pbx.test>", "timeout": 20,
            "headers": {"X-Ticket": "42"}, "record": true,
        });
        let wanted = read(body, false).expect("it is in order");
        assert_eq!((&*wanted.from, &*wanted.to), ("1001", "sip:+4930123@carrier.test"));
        assert_eq!((wanted.ring, wanted.record), (Some(Duration::from_secs(20)), Some(true)));
        assert_eq!(wanted.headers, [ExtraHeader::new("X-Ticket", "42").expect("a line")]);
        assert!(read(json!({"from": "1", "to": "2"}), true).is_ok());
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for body in [
            json!([]),
            json!({"action": "originate", "from": "1001"}),
            json!({"action": "originate", "from": "1001", "to": ""}),
            json!({"action": "originate", "from": "10\u{0}01", "to": "1002"}),
            json!({"action": "originate", "from": "1001", "to": "1002", "timeout": 0}),
            json!({"action": "originate", "from": "1001", "to": "1002", "timeout": 601}),
            json!({"action": "originate", "from": "1001", "to": "1002", "timout": 5}),
            json!({"action": "originate", "from": "1", "to": "2", "headers": {"Via": "x"}}),
            json!({"action": "originate", "from": "1", "to": "2", "headers": {"X-A": "a\r\nVia: b"}}),
            json!({"action": "originate", "from": "1", "to": "2", "headers": {"X A": "b"}}),
            json!({"action": "originate", "from": "1", "to": "2", "headers": ["X-A: b"]}),
            json!({"from": "1001", "to": "1002"}),
        ] {
            let problem = read(body.clone(), false).expect_err("it is refused");
            assert_eq!(problem.code(), Code::CommandInvalid, "{body}");
        }
        let body = json!({"action": "explode", "from": "1001", "to": "1002"});
        assert_eq!(read(body, false).expect_err("refused").code(), Code::CommandUnknown);
    }

    #[test]
    fn the_shard_is_the_one_that_has_the_registration() {
        for text in ["1001", " 1001 ", "sip:1001@pbx.test", "sip:1001@[::1]:5060;transport=tcp"] {
            assert_eq!(owner_of(text, 7), ShardId::of_name(b"1001", 7), "{text}");
        }
    }
}
