//! `GET /audit`: who did what, newest first.
//! Owns:  the shape of an entry.
//! Gives: pages by cursor, filters by actor, action, object and time.
//! Never: changes the log.
//! Holds: an entry has no secret: `access/audit.rs` took them out before it was stored.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use shared::time::WallMs;

use super::asked::Pairs;
use super::doc::{self, Doc};
use super::routes::{Need, Routes};
use super::{App, Code, Problem, search};
use crate::access::Right;
use crate::store::{AuditRow, AuditSearch};

pub(super) fn routes() -> Routes {
    Routes::new().get("/audit", Need::Right(Right::AuditRead), list).doc(
        Doc::new("Who did what, newest first")
            .pages()
            .query("actor", doc::text(), "As an entry has it")
            .query("action", doc::text(), "As an entry has it")
            .query("object", doc::text(), "As an entry has it")
            .query("from", doc::text(), "RFC 3339, or a day")
            .query("until", doc::text(), "Before this time")
            .answer(
                200,
                "A page of entries",
                json!({
                    "data": [{
                        "id": 7,
                        "at": "2026-11-24T10:00:00.000Z",
                        "actor": "user admin",
                        "source": "127.0.0.1",
                        "action": "user.change",
                        "object": "user carol",
                        "outcome": "done",
                        "before": {},
                        "after": {},
                        "detail": null,
                    }],
                    "page": { "limit": 50, "next_cursor": null },
                }),
            ),
    )
}

async fn list(State(app): State<App>, pairs: Pairs) -> Result<Json<Value>, Problem> {
    const KNOWN: [&str; 7] = ["limit", "cursor", "actor", "action", "object", "from", "until"];
    pairs.refuse_unknown(&KNOWN)?;
    let limit = pairs.limit()?;
    let below = pairs.last("cursor").map(|cursor| {
        cursor.parse::<i64>().map_err(|_| {
            Problem::new(Code::FilterInvalid, "this cursor is none that was given out")
        })
    });
    let text = |name: &str| pairs.last(name).map(str::to_owned);
    let time = |name: &str| search::moment(name, pairs.last(name)).map(|at| at.map(|at| at.0));
    let asked = AuditSearch {
        limit: i64::from(limit) + 1,
        below: below.transpose()?,
        actor: text("actor"),
        action: text("action"),
        object: text("object"),
        from: time("from")?,
        until: time("until")?,
    };
    let mut rows = app.store.audit(&asked).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|row| row.id.to_string());
    Ok(Json(json!({
        "data": rows.iter().map(show).collect::<Vec<_>>(),
        "page": { "limit": limit, "next_cursor": next },
    })))
}

fn show(row: &AuditRow) -> Value {
    let value = |text: &Option<String>| -> Value {
        let parsed = text.as_deref().map(|text| {
            // One that was cut is no JSON any more and is shown as it is.
            serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
        });
        parsed.unwrap_or(Value::Null)
    };
    json!({
        "id": row.id,
        "at": WallMs(row.at),
        "actor": row.actor,
        "source": row.source,
        "action": row.action,
        "object": row.object,
        "outcome": row.outcome,
        "before": value(&row.before),
        "after": value(&row.after),
        "detail": row.detail,
    })
}
