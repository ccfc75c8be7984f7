//! `/routing`, and `/routes` for newer clients: the dial plan, switched, copied, explained.
//! Owns:  toggle and clone.
//! Gives: the routes; what a call would do is in `explain`.
//! Never: a rule of its own.
//! Holds: the list is in the order in which the rules are asked.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::asked::Id;
use super::crud::{Asking, Resource};
use super::routes::Routes;
use super::{App, Clients, Prefix, Problem, crud_doc, etag, explain};
use crate::access::Caller;
use crate::directory::{self, Kind, Object};

/// Copies of one rule that may lie beside it.
const COPIES_MAX: usize = 100;

pub(super) fn routes(clients: Clients) -> Routes {
    let rules = Resource { kind: Kind::Route, clients, path: "/routing" };
    under(rules)
        .post("/diagnostics/routes/evaluate", rules.reading(), explain::explain)
        .doc(crud_doc::explain())
}

pub(super) fn own_routes() -> Routes {
    let rules = Resource { kind: Kind::Route, clients: Clients::Own, path: "/routes" };
    under(rules).post("/routes/explain", rules.reading(), explain::explain).doc(crud_doc::explain())
}

fn under(rules: Resource) -> Routes {
    let read = move |State(app): State<App>, Id(id): Id| async move {
        let object = rules.find(&app, &id)?;
        Ok::<_, Problem>(etag::tagged(Value::Object(object.shown())))
    };
    let switch = move |State(app): State<App>,
                       caller: Caller,
                       Extension(prefix): Extension<Prefix>,
                       headers: HeaderMap,
                       Id(id): Id| async move {
        toggle(rules, &app, &Asking { caller, prefix, headers }, &id).await
    };
    let clone = move |State(app): State<App>,
                      caller: Caller,
                      Extension(prefix): Extension<Prefix>,
                      headers: HeaderMap,
                      Id(id): Id| async move {
        copy(rules, &app, &Asking { caller, prefix, headers }, &id).await
    };
    rules
        .routes()
        .get(&rules.one("/data"), rules.reading(), read)
        .doc(crud_doc::one(rules))
        .post(&rules.one("/toggle"), rules.writing(), switch)
        .doc(crud_doc::toggle(rules))
        .post(&rules.one("/clone"), rules.writing(), clone)
        .doc(crud_doc::copy(rules))
}

/// Switches a rule off, or on again.
async fn toggle(
    rules: Resource,
    app: &App,
    asking: &Asking,
    id: &str,
) -> Result<Response, Problem> {
    let disabled = is_disabled(&rules.find(app, id)?);
    let patch = json!({ "disabled": !disabled });
    let done =
        app.directory.patch(Kind::Route, directory::Id::parse(id), patch, asking.seen()).await;
    let changed = rules.recorded(app, &asking.caller, "toggle", id, done).await?;
    rules.answer(app, &asking.prefix, StatusCode::OK, &changed).await
}

fn is_disabled(object: &Object) -> bool {
    object.fields.get("disabled").and_then(Value::as_bool).unwrap_or(false)
}

/// The same rule under a new name, switched off until somebody looked at it. One of a file may be
/// copied too.
async fn copy(rules: Resource, app: &App, asking: &Asking, id: &str) -> Result<Response, Problem> {
    let object = rules.find(app, id)?;
    let contents = app.directory.contents();
    let is_free = |name: &String| {
        let taken = contents.list(Kind::Route).iter().any(|other| other.name == *name);
        !taken
    };
    let names = (1..=COPIES_MAX).map(|number| match number {
        1 => format!("{} (copy)", object.name),
        number => format!("{} (copy {number})", object.name),
    });
    let name = { names }.find(is_free).unwrap_or_else(|| object.name.clone());
    let mut document = object.fields.clone();
    document.insert("name".to_owned(), name.into());
    document.insert("disabled".to_owned(), true.into());
    rules.create(app, asking, Value::Object(document)).await
}
