//! `POST /routes/explain`: where a call would go, and why not elsewhere.
//! Owns:  the form of the question, in our words and in the original's.
//! Gives: the shard's own explanation, from the table that it serves.
//! Never: a decision made here.
//! Holds: nothing rings, no turn is taken.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use shared::command::Question;
use shared::document::{Fields, FlawKind, Flaws, Path};
use shared::event::Answer;
use shared::ids::ShardId;
use shared::route::Trial;

use super::asked::Document;
use super::{App, Code, Problem};
use crate::directory::{Id, Kind};

const HEADERS_MAX: usize = 64;

pub(super) async fn explain(
    State(app): State<App>,
    Document(body): Document,
) -> Result<Json<Value>, Problem> {
    let mut flaws = Flaws::default();
    let trial = read(&app, &body, &mut flaws);
    let Some(trial) = trial.filter(|_| !flaws.refuse()) else {
        return Err(Problem::of_flaws(&flaws));
    };
    // Every shard serves the same table; the first one is as good as any.
    let answer = app.questions.ask_one(ShardId(0), Question::Explain(Arc::new(trial))).await?;
    let Answer::Explained(explanation) = answer else {
        return Err(Problem::new(Code::Internal, "a shard answered another question"));
    };
    let shown = serde_json::to_value(&*explanation);
    shown.map(Json).map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

fn read(app: &App, body: &Value, flaws: &mut Flaws) -> Option<Trial> {
    let contents = app.directory.contents();
    let realm = contents.config.sip().realm();
    let mut fields = Fields::of(body, Path::default(), flaws)?;
    // A number or a name stands for a user of ours.
    let address = |text: &str| {
        if text.contains(':') { text.to_owned() } else { format!("sip:{text}@{realm}") }
    };
    let from = fields.word("from", flaws).or_else(|| fields.word("caller", flaws));
    let to = fields.word("to", flaws).or_else(|| fields.word("callee", flaws));
    if to.is_none() {
        flaws.push(fields.path("to"), FlawKind::Required, "who is called?");
    }
    let to = address(to?);
    let request_uri = fields.word("request_uri", flaws).map_or_else(|| bare(&to), address);
    let source_trunk = fields.word("source_trunk", flaws).map(str::to_owned);
    if let Some(name) = &source_trunk
        && contents.find(Kind::Trunk, &Id::Name(name.clone())).is_none()
    {
        let text = format!("there is no trunk \"{name}\"");
        flaws.push(fields.path("source_trunk"), FlawKind::UnknownTrunk, text);
    }
    let source_ip = fields.word("source_ip", flaws).and_then(|text| {
        let ip = text.parse().ok();
        if ip.is_none() {
            let wrong = format!("\"{text}\" is not an address");
            flaws.push(fields.path("source_ip"), FlawKind::Invalid, wrong);
        }
        ip
    });
    const WAYS: [&str; 4] = ["inbound", "outbound", "internal", "any"];
    let direction = fields.choice("direction", &WAYS, flaws);
    if direction == Some("inbound") && source_trunk.is_none() && source_ip.is_none() {
        let text = "an inbound call comes from a trunk: name source_trunk or source_ip";
        flaws.push(fields.path("source_trunk"), FlawKind::Required, text);
    }
    // Files and database are one table here.
    fields.choice("dataset", &["runtime", "db"], flaws);
    let call_id = fields.word("call_id", flaws).unwrap_or("trial").to_owned();
    let headers = headers(&mut fields, flaws);
    fields.finish(flaws);
    Some(Trial {
        from: address(from.unwrap_or("anonymous")),
        to,
        request_uri,
        source_trunk,
        source_ip,
        call_id,
        headers,
    })
}

/// A Request-URI has no name and no brackets.
fn bare(address: &str) -> String {
    let inside = address.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or_else(|| address.to_owned(), |(uri, _)| uri.to_owned())
}

fn headers(fields: &mut Fields<'_>, flaws: &mut Flaws) -> Vec<(String, String)> {
    let Some(value) = fields.value("headers") else { return Vec::new() };
    let Value::Object(map) = value else {
        flaws.push(fields.path("headers"), FlawKind::WrongKind, "must be an object");
        return Vec::new();
    };
    if map.len() > HEADERS_MAX {
        let text = format!("has {} lines, at most {HEADERS_MAX}", map.len());
        flaws.push(fields.path("headers"), FlawKind::Invalid, text);
    }
    let line = |(name, value): (&String, &Value)| {
        (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    map.iter().map(line).collect()
}
