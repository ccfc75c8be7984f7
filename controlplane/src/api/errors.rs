//! `GET /errors`: every code that a refusal can carry.
//! Owns:  nothing; the catalogue is `Code`.
//! Gives: code, status, title and type of each.
//! Never: a code that is not in the catalogue: a `Problem` cannot be made without one.
//! Holds: codes keep their meaning; new ones may come.

use axum::Json;
use serde_json::{Value, json};

use super::Code;
use super::doc::Doc;
use super::routes::{Need, Routes};

pub(super) fn routes() -> Routes {
    Routes::new().get("/errors", Need::Login, list).doc(Doc::new("Every code of a refusal").answer(
        200,
        "The catalogue",
        json!({ "data": [show(&Code::NoSuchCall)] }),
    ))
}

fn show(code: &Code) -> Value {
    json!({
        "code": code.as_str(),
        "status": code.status().as_u16(),
        "title": code.title(),
        "type": code.urn(),
    })
}

async fn list() -> Json<Value> {
    Json(json!({ "data": Code::ALL.iter().map(show).collect::<Vec<_>>() }))
}
