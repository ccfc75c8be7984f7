//! Lists of what operators configure: filters, order, pages, for three generations of clients.
//! Owns:  the names of the filters and what they compare.
//! Gives: a page in the envelope of the clients that ask.
//! Never: ignores a filter: an unknown one is refused, one that is not built says so.
//! Holds: a cursor names the last object that was seen, so a change before it moves nothing.

use axum::Json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use shared::time::WallMs;

use super::crud::Resource;
use super::page::{PER_PAGE_DEFAULT, clamp_per_page, envelope};
use super::{App, Clients, Code, Problem};
use crate::directory::{Kind, Object, Source};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 500;

#[derive(Debug)]
pub(super) struct Asked {
    page: u32,
    per_page: u32,
    limit: usize,
    after: Option<String>,
    filters: Vec<(String, String)>,
}

pub(super) fn from_pairs(of: Resource, pairs: &[(String, String)]) -> Result<Asked, Problem> {
    let mut asked = Asked {
        page: 1,
        per_page: PER_PAGE_DEFAULT,
        limit: LIMIT_DEFAULT,
        after: None,
        filters: Vec::new(),
    };
    for (name, value) in pairs {
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        let number = || {
            let number = value.parse::<u32>().ok().filter(|number| *number > 0);
            number.ok_or_else(|| invalid(name, value, "a number from 1"))
        };
        match (name.as_str(), of.clients) {
            ("limit", Clients::Own) => {
                asked.limit = usize::try_from(number()?).unwrap_or(LIMIT_MAX).min(LIMIT_MAX);
            }
            ("cursor", Clients::Own) => asked.after = Some(read_cursor(value)?),
            ("page", Clients::Guide | Clients::Older) => asked.page = number()?,
            ("per_page", Clients::Guide | Clients::Older) => {
                asked.per_page = clamp_per_page(number()?);
            }
            ("sort", _) => {} // there is one order: by name, rules in the order they are asked
            _ => {
                check_filter(of.kind, name, value)?;
                asked.filters.push((name.clone(), value.to_owned()));
            }
        }
    }
    Ok(asked)
}

/// From the original's body: `{page, per_page, filters{}, sort}`.
pub(super) fn from_body(of: Resource, body: &Value) -> Result<Asked, Problem> {
    let Value::Object(body) = body else {
        return Err(Problem::new(Code::BodyUnreadable, "the body must be a JSON object"));
    };
    let mut pairs = Vec::new();
    for (name, value) in body {
        match (name.as_str(), value) {
            ("filters", Value::Object(filters)) => {
                pairs.extend(filters.iter().map(|(name, value)| (name.clone(), text_of(value))));
            }
            ("filters", Value::Null) => {}
            ("filters", _) => {
                return Err(Problem::new(Code::BodyUnreadable, "filters must be an object"));
            }
            _ => pairs.push((name.clone(), text_of(value))),
        }
    }
    from_pairs(of, &pairs)
}

/// Values of a body as they would stand in a query. Nothing asked for is empty.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn invalid(name: &str, value: &str, expected: &str) -> Problem {
    Problem::new(Code::FilterInvalid, format!("{name} must be {expected}, not \"{value}\""))
}

const fn filters(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Extension => &[
            "q",
            "source",
            "status",
            "login_allowed",
            "call_forwarding_enabled",
            "department_ids",
            "created_at_from",
            "created_at_to",
        ],
        Kind::Route => {
            &["q", "source", "status", "direction", "selection", "owner", "source_context"]
        }
        Kind::Trunk => &["q", "source", "status", "direction", "is_active", "carrier"],
    }
}

fn check_filter(kind: Kind, name: &str, value: &str) -> Result<(), Problem> {
    if kind == Kind::Extension && name.starts_with("registered_at_") {
        let text = format!("the filter \"{name}\" is not built yet");
        return Err(Problem::new(Code::NotBuilt, text));
    }
    if !filters(kind).contains(&name) {
        let known = filters(kind).join(", ");
        let text = format!("\"{name}\" is not one of page, per_page, limit, cursor, {known}");
        return Err(Problem::new(Code::FilterUnknown, text));
    }
    let fits = match name {
        "login_allowed" | "call_forwarding_enabled" | "is_active" => flag(value).is_some(),
        "created_at_from" | "created_at_to" => date(value).is_some(),
        "source" => matches!(value, "file" | "database"),
        _ => true,
    };
    if fits { Ok(()) } else { Err(invalid(name, value, "of its kind")) }
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A day, or a moment in RFC 3339; without a zone it is UTC.
fn date(value: &str) -> Option<WallMs> {
    let read = |text: String| serde_json::from_value::<WallMs>(Value::String(text)).ok();
    ["T00:00:00Z", "", "Z", ":00Z"].into_iter().find_map(|end| read(format!("{value}{end}")))
}

pub(super) async fn answer(app: &App, of: Resource, asked: &Asked) -> Result<Json<Value>, Problem> {
    let mut objects = app.directory.contents().list(of.kind);
    objects.retain(|object| {
        asked.filters.iter().all(|(name, value)| holds(of.kind, object, name, value))
    });
    order(of.kind, &mut objects);
    let total = objects.len();
    if of.clients == Clients::Own {
        return own_page(app, of, asked, &objects).await;
    }
    let per_page = usize::try_from(asked.per_page).unwrap_or(LIMIT_MAX);
    let skip = usize::try_from(asked.page - 1).unwrap_or(usize::MAX).saturating_mul(per_page);
    let shown = objects.get(skip.min(total)..(skip.saturating_add(per_page)).min(total));
    let items = of.show_all(app, shown.unwrap_or_default()).await;
    Ok(Json(envelope(asked.page, asked.per_page, total as u64, items)))
}

async fn own_page(
    app: &App,
    of: Resource,
    asked: &Asked,
    objects: &[Object],
) -> Result<Json<Value>, Problem> {
    let first = match asked.after.as_deref() {
        None | Some("") => 0,
        Some(name) => {
            let found = objects.iter().position(|object| object.name == name);
            found.map(|at| at + 1).ok_or_else(|| {
                Problem::new(
                    Code::FilterInvalid,
                    "what the cursor names is not in the list any more",
                )
            })?
        }
    };
    let end = (first + asked.limit).min(objects.len());
    let items = of.show_all(app, &objects[first..end]).await;
    let next = (end < objects.len()).then(|| write_cursor(&objects[end - 1].name));
    let previous = first.checked_sub(1).map(|_| match first.checked_sub(asked.limit + 1) {
        Some(before) => write_cursor(&objects[before].name),
        None => write_cursor(""),
    });
    Ok(Json(json!({
        "data": items,
        "page": {
            "next_cursor": next,
            "prev_cursor": previous,
            "limit": asked.limit,
            "total_estimate": objects.len(),
        },
    })))
}

fn write_cursor(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("after:{name}"))
}

fn read_cursor(text: &str) -> Result<String, Problem> {
    let read = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let name = read.as_deref().and_then(|text| text.strip_prefix("after:")).map(str::to_owned);
    name.ok_or_else(|| invalid("cursor", text, "one that a page gave"))
}

/// By name; rules in the order in which they are asked.
fn order(kind: Kind, objects: &mut [Object]) {
    if kind == Kind::Route {
        let priority =
            |object: &Object| object.fields.get("priority").and_then(Value::as_i64).unwrap_or(0);
        objects.sort_by_key(|object| std::cmp::Reverse(priority(object)));
    } else {
        objects.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

fn holds(kind: Kind, object: &Object, name: &str, value: &str) -> bool {
    let text = |field: &str| object.fields.get(field).and_then(Value::as_str).unwrap_or_default();
    let is = |field: &str| object.fields.get(field).and_then(Value::as_bool);
    let within = |at: &str| {
        let row = object.row.as_ref().map(|row| row.created_at);
        row.zip(date(value))
            .is_some_and(|(row, asked)| if at == "from" { row >= asked } else { row <= asked })
    };
    match (kind, name) {
        (_, "q") => {
            let needle = value.to_lowercase();
            ["extension", "name", "display_name", "description", "email", "sip_server", "carrier"]
                .iter()
                .any(|field| text(field).to_lowercase().contains(&needle))
        }
        (_, "source") => (value == "database") == (object.source == Source::Database),
        (Kind::Route, "status") => match value {
            "any" => true,
            "active" => is("disabled") != Some(true),
            _ => is("disabled") == Some(true),
        },
        (_, "status") => value == "any" || text("status") == value,
        (_, "direction") => value == "any" || text("direction") == value,
        (Kind::Route, "selection") => {
            let action = object.fields.get("action").and_then(|action| action.get("select"));
            let inner = action.and_then(Value::as_str).unwrap_or_default();
            text("select") == value || inner == value
        }
        (Kind::Route, "source_context") => {
            let list = object.fields.get("source_trunks").and_then(Value::as_array);
            text("source_trunk") == value || list.is_some_and(|l| l.iter().any(|t| t == value))
        }
        (_, "login_allowed") => is("login_disabled").map(|off| !off) == flag(value),
        (_, "call_forwarding_enabled") => {
            Some(!matches!(text("call_forwarding_mode"), "" | "none")) == flag(value)
        }
        (_, "is_active") => is("is_active") == flag(value),
        (_, "department_ids") => {
            let mine = object.fields.get("department_ids").and_then(Value::as_array);
            let asked = |id: &Value| value.split(',').any(|one| one.trim() == text_of(id));
            mine.is_some_and(|list| list.iter().any(asked))
        }
        (_, "created_at_from") => within("from"),
        (_, "created_at_to") => within("to"),
        (_, field) => text(field) == value,
    }
}
