//! Routes as documents: the rule language, kept as it was written.
//! Owns:  which parts of a rule have a column of their own.
//! Gives: columns from a document, a document from columns, a `Route` from columns.
//! Never: a second reading of the rule language; `shared::route` has the only one.
//! Holds: what comes out can be sent back and means the same.

use serde_json::{Map, Value};
use shared::document::{Flaws, Path};
use shared::route::{ROUTE_FIELDS_READ_ONLY, Route, check};

use crate::store::Row;

pub(super) fn read(document: &Value, flaws: &mut Flaws) -> Option<Map<String, Value>> {
    let route = check(document, &Path::default(), flaws)?;
    if flaws.refuse() {
        return None;
    }
    let mut kept = document.as_object()?.clone();
    for field in ROUTE_FIELDS_READ_ONLY.into_iter().chain(["warnings"]) {
        kept.remove(field);
    }
    let mut columns = Map::new();
    let mut set = |name: &str, value: Value| columns.insert(name.to_owned(), value);
    set("name", (*route.name).into());
    set("direction", route.direction.as_str().into());
    set("priority", route.priority.into());
    set("is_active", (!route.disabled).into());
    for field in ["description", "owner", "notes"] {
        set(field, kept.get(field).cloned().unwrap_or(Value::Null));
    }
    set("document", Value::Object(kept));
    Some(columns)
}

pub(super) fn show(row: &Row) -> Map<String, Value> {
    let document = row.fields.get("document").and_then(Value::as_object);
    let mut shown = document.cloned().unwrap_or_default();
    fill(&mut shown);
    shown
}

/// Fields that every rule has, with their defaults.
pub(super) fn fill(shown: &mut Map<String, Value>) {
    for (field, default) in [
        ("priority", Value::from(0)),
        ("disabled", false.into()),
        ("direction", "any".into()),
        ("match", Value::Object(Map::new())),
        ("rewrite", Value::Object(Map::new())),
        ("description", Value::Null),
        ("owner", Value::Null),
    ] {
        shown.entry(field).or_insert(default);
    }
}

/// The error says what cannot be read any more.
pub(super) fn route(columns: &Map<String, Value>) -> Result<Route, String> {
    let mut flaws = Flaws::default();
    let document = columns.get("document").unwrap_or(&Value::Null);
    check(document, &Path::default(), &mut flaws).ok_or_else(|| {
        let first = flaws.0.first();
        first.map_or_else(String::new, |flaw| format!("{}: {}", flaw.path.dotted(), flaw.text))
    })
}
