//! `POST {ami}/reload/{what}`: trunks, routes, acl, or all of the configuration, while calls go on.
//! Owns:  the shape of what a reload did, and of why it did not.
//! Gives: 200 when every shard serves the new generation; 422 with file and line when nothing changed.
//! Never: a half of it.
//! Holds: every try is in the audit log.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use shared::config::{Origin, Problem as Flaw};

use super::asked::Id;
use super::doc::Doc;
use super::routes::{Need, Routes};
use super::{App, Code, Problem};
use crate::access::{Caller, Deed, Outcome, Right};
use crate::directory::{NotReplaced, Part, Reason, Replaced};
use crate::supervisor::{NotReloaded, Reloaded};

pub(super) fn routes() -> Routes {
    let done = json!({
        "status": "ok",
        "generation": 7,
        "shards": [{ "shard": 0, "generation": 7 }],
        "metrics": { "users": 2, "trunks": 1, "routes": 3, "acl_rules": 0, "duration_ms": 4 },
        "warnings": [],
    });
    Routes::new().post("/reload/{what}", Need::Ami(Right::Ami), reload).doc(
        Doc::new("Read trunks, routes, acl or all of the configuration again, while calls go on")
            .at_one_of("what", &["routes", "trunks", "acl", "all"])
            .answer(200, "Every shard serves it", done)
            .refuses(&[Code::ConfigInvalid, Code::NoSuchPath, Code::ShardsSilent]),
    )
}

async fn reload(
    State(app): State<App>,
    caller: Caller,
    Id(what): Id,
) -> Result<Json<Value>, Problem> {
    let part = match what.as_str() {
        "acl" => Part::Acl,
        "all" => Part::All,
        "routes" => Part::Routes,
        "trunks" => Part::Trunks,
        _ => {
            let text = format!("\"{what}\" is not one of trunks, routes, acl, all");
            return Err(Problem::new(Code::NoSuchPath, text));
        }
    };
    let started = Instant::now();
    let action = format!("reload.{what}");
    match app.reloader.reload(part).await {
        Ok(done) => {
            done.log();
            let object = format!("generation {}", done.replaced.generation);
            app.access.record(&caller, Deed::done(&action, &object)).await;
            Ok(Json(shown(&app, part, &done, started)))
        }
        Err(reason) => {
            reason.log();
            let deed = Deed::new(&action, "configuration", Outcome::Failed);
            app.access.record(&caller, deed.detail(reason.to_string())).await;
            Err(reason.into())
        }
    }
}

fn shown(app: &App, part: Part, done: &Reloaded, started: Instant) -> Value {
    let Reloaded { replaced: Replaced { generation, counts, odd }, needs_restart } = done;
    let states = app.board.shards();
    let shards = states
        .iter()
        .enumerate()
        .map(|(number, state)| json!({ "shard": number, "generation": state.generation }));
    let mut body = json!({
        "status": "ok",
        "generation": generation,
        "shards": shards.collect::<Vec<_>>(),
        "metrics": {
            "users": counts.users,
            "trunks": counts.trunks,
            "routes": counts.routes,
            "acl_rules": counts.acl_rules,
            "duration_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        },
        "warnings": odd,
    });
    let all = part == Part::All;
    if all {
        body["users_reloaded"] = counts.users.into();
        body["needs_restart"] = json!(needs_restart);
    }
    if all || part == Part::Trunks {
        body["trunks_reloaded"] = counts.trunks.into();
    }
    if all || part == Part::Routes {
        body["routes_reloaded"] = counts.routes.into();
    }
    if all || part == Part::Acl {
        body["acl_rules_reloaded"] = counts.acl_rules.into();
        let contents = app.directory.contents();
        let rules = contents.config.acl().0.iter().map(ToString::to_string);
        body["active_rules"] = rules.collect();
    }
    body
}

impl From<NotReloaded> for Problem {
    fn from(reason: NotReloaded) -> Self {
        let text = reason.to_string();
        match reason {
            NotReloaded::Invalid(flaws) => Self::new(Code::ConfigInvalid, text)
                .with_list(flaws.iter().map(show_flaw).collect()),
            NotReloaded::NotReplaced(NotReplaced::Invalid(reasons)) => {
                let shown = |reason: &Reason| {
                    let (file, line) = place(reason.origin.as_ref());
                    json!({ "file": file, "line": line, "detail": reason.text })
                };
                Self::new(Code::ConfigInvalid, text).with_list(reasons.iter().map(shown).collect())
            }
            NotReloaded::NotReplaced(NotReplaced::Late { .. }) => {
                Self::new(Code::ShardsSilent, text)
            }
            NotReloaded::NotReplaced(NotReplaced::Store(error)) => error.into(),
            NotReloaded::Stopped(_) => Self::new(Code::Internal, text),
        }
    }
}

/// What is wrong with a file, and where.
fn show_flaw(flaw: &Flaw) -> Value {
    let (file, line) = place(Some(&flaw.origin));
    json!({
        "file": file,
        "line": line,
        "key": flaw.key,
        "detail": flaw.text,
        "suggestion": flaw.suggestion,
    })
}

fn place(origin: Option<&Origin>) -> (Value, Value) {
    match origin {
        Some(Origin::File { name, line }) => (json!(name.as_ref()), json!(line)),
        Some(Origin::Env(name)) => (json!(format!("env {name}")), Value::Null),
        Some(Origin::Default) | None => (Value::Null, Value::Null),
    }
}
