//! Call records: `GET` and `POST /call-records` (a list), `GET`, `PATCH`, `DELETE /call-records/{id}`.
//! Owns:  which list a prefix has: pages with a total, or slices with cursors and exports.
//! Gives: what was stored; tags and a note are what people may change.
//! Never: a change of the record itself.
//! Holds: `{id}` is the number, the session id, or the SIP Call-ID of any leg.

use std::io;
use std::path::Path;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::asked::{Document, Id, Pairs};
use super::fields::Fields;
use super::record_shapes::{asked_router, detail, item};
use super::routes::{Need, Routes};
use super::{App, Code, Prefix, Problem, etag, export, page, record_doc, record_query, search};
use crate::access::{Caller, Deed, Right};
use crate::recordings::CAPTURE_EXTENSION;
use crate::store::{CallRecord, RecordChange, RecordSearch, RecordingState, SliceSearch};

const TAGS_MAX: usize = 32;
const TAG_CHARS_MAX: usize = 64;
const NOTE_CHARS_MAX: usize = 4_096;

const LIST: &str = "/call-records";
const ONE: &str = "/call-records/{id}";
const READ: Need = Need::Right(Right::CdrRead);

/// One record, under every prefix.
pub(super) fn routes() -> Routes {
    Routes::new()
        .get(ONE, READ, one)
        .doc(record_doc::one())
        .on(Method::PATCH, ONE, Need::Right(Right::CdrWrite), change)
        .doc(record_doc::change())
        .on(Method::DELETE, ONE, Need::Right(Right::CdrDelete), remove)
        .doc(record_doc::remove())
}

/// The list of the older prefixes: pages with a total.
pub(super) fn older_routes() -> Routes {
    Routes::new()
        .get(LIST, READ, pages)
        .doc(record_doc::pages())
        .post(LIST, READ, pages_by_body)
        .doc(record_doc::pages_by_body())
}

/// Our own list: slices with cursors, and exports.
pub(super) fn own_routes() -> Routes {
    Routes::new()
        .get(LIST, READ, slices)
        .doc(record_doc::slices())
        .post(LIST, READ, slices_by_body)
        .doc(record_doc::slices_by_body())
}

async fn pages(
    State(app): State<App>,
    Extension(prefix): Extension<Prefix>,
    Pairs(pairs): Pairs,
) -> Result<Response, Problem> {
    show_page(&app, &prefix, &search::from_pairs(&pairs)?).await
}

async fn pages_by_body(
    State(app): State<App>,
    Extension(prefix): Extension<Prefix>,
    Document(body): Document,
) -> Result<Response, Problem> {
    show_page(&app, &prefix, &search::from_body(&body)?).await
}

async fn slices(
    State(app): State<App>,
    Extension(prefix): Extension<Prefix>,
    headers: HeaderMap,
    Pairs(pairs): Pairs,
) -> Result<Response, Problem> {
    let asked = record_query::from_pairs(&pairs)?;
    match export::wanted(&headers) {
        Some(format) => {
            let all = record_query::whole(asked, &pairs)?;
            export::export(app.store, prefix, format, all).await
        }
        None => show_slice(&app, &prefix, &asked).await,
    }
}

async fn slices_by_body(
    State(app): State<App>,
    Extension(prefix): Extension<Prefix>,
    Document(body): Document,
) -> Result<Response, Problem> {
    show_slice(&app, &prefix, &record_query::from_body(&body)?).await
}

async fn show_page(app: &App, prefix: &Prefix, search: &RecordSearch) -> Result<Response, Problem> {
    let found = app.store.records(search).await?;
    let items = found.records.iter().map(|record| item(record, prefix)).collect();
    let page = page::envelope(search.page, search.per_page, found.total, items);
    Ok(Json(page).into_response())
}

async fn show_slice(app: &App, prefix: &Prefix, search: &SliceSearch) -> Result<Response, Problem> {
    let found = app.store.record_slice(search).await?;
    let items = found.records.iter().map(|record| item(record, prefix)).collect();
    Ok(Json(record_query::envelope(search, &found, items)).into_response())
}

/// All of a record, with what the HTTP router was asked about it.
async fn shown(app: &App, record: &CallRecord, prefix: &Prefix) -> Result<Value, Problem> {
    let exchange = app.store.exchange(record.cdr.session_id).await?;
    let mut shown = detail(record, prefix)?;
    if let (Some(exchange), Value::Object(shown)) = (exchange, &mut shown) {
        shown.insert("httpRouter".to_owned(), asked_router(exchange));
    }
    Ok(shown)
}

async fn one(
    State(app): State<App>,
    Extension(prefix): Extension<Prefix>,
    Id(id): Id,
) -> Result<Response, Problem> {
    let record = find(&app, &id).await?;
    Ok(etag::tagged(shown(&app, &record, &prefix).await?).into_response())
}

pub(super) async fn find(app: &App, id: &str) -> Result<CallRecord, Problem> {
    app.store.record(id).await?.ok_or_else(|| no_such_record(id))
}

fn no_such_record(id: &str) -> Problem {
    let text = format!("no call record has the number, session id or Call-ID \"{id}\"");
    Problem::new(Code::NoSuchRecord, text)
}

/// `{tags?: [..], note?: {text} | null}`; what is not there stays.
async fn change(
    State(app): State<App>,
    Extension(prefix): Extension<Prefix>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Document(body): Document,
) -> Result<Response, Problem> {
    let record = find(&app, &id).await?;
    let before = shown(&app, &record, &prefix).await?;
    etag::check(&headers, &before)?;
    let change = read_change(body)?;
    if !app.store.change_record(record.id, &change).await? {
        return Err(no_such_record(&id));
    }
    let after = shown(&app, &find(&app, &record.id.to_string()).await?, &prefix).await?;
    let object = format!("call record {}", record.cdr.session_id);
    let deed = Deed::done("cdr.change", &object);
    let deed = deed.change(Some(what_people_add(&before)), Some(what_people_add(&after)));
    app.access.record(&caller, deed).await;
    Ok(etag::tagged(after).into_response())
}

fn what_people_add(record: &Value) -> Value {
    json!({ "tags": record["tags"], "note": record["note"] })
}

fn read_change(body: Value) -> Result<RecordChange, Problem> {
    let has_note = body.get("note").is_some();
    let mut fields = Fields::of(body)?;
    let mut change = RecordChange::default();
    if let Some(tags) = fields.texts("tags") {
        let mut kept: Vec<String> = Vec::new();
        for tag in tags.iter().map(|tag| tag.trim()) {
            let chars = tag.chars().count();
            if chars == 0 || chars > TAG_CHARS_MAX || tag.chars().any(char::is_control) {
                let text = format!("a tag has 1 to {TAG_CHARS_MAX} printable characters");
                fields.refuse("tags", text);
            } else if !kept.iter().any(|known| known == tag) {
                kept.push(tag.to_owned());
            }
        }
        if kept.len() > TAGS_MAX {
            fields.refuse("tags", format!("a record has at most {TAGS_MAX} tags"));
        }
        change.tags = Some(kept);
    }
    if has_note {
        change.note = Some(match fields.object("note") {
            None => None,
            Some(mut note) => match (note.remove("text"), note.is_empty()) {
                (None | Some(Value::Null), true) => None,
                (Some(Value::String(text)), true) => Some(text),
                _ => {
                    fields.refuse("note", "must be an object with a text, or null");
                    None
                }
            },
        });
    }
    if let Some(Some(text)) = &change.note {
        if text.chars().count() > NOTE_CHARS_MAX {
            fields.refuse("note", format!("a note has at most {NOTE_CHARS_MAX} characters"));
        }
        if text.trim().is_empty() {
            change.note = Some(None);
        }
    }
    fields.finish()?;
    Ok(change)
}

/// The record, its recording and its files: what is not there any more is no obstacle, so that a removal
/// that broke off can be asked for again.
async fn remove(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Extension(prefix): Extension<Prefix>,
) -> Result<StatusCode, Problem> {
    let record = find(&app, &id).await?;
    let before = shown(&app, &record, &prefix).await?;
    etag::check(&headers, &before)?;
    if is_being_recorded(&app, &record).await? {
        let text = "its recording is being made; it can be removed when that is over";
        return Err(Problem::new(Code::RecordingPending, text));
    }
    if let Some(recording) = &record.recording {
        for path in recording.path.iter().chain([&recording.capture]) {
            remove_file(path).await?;
        }
    }
    if !app.store.delete_record(&record).await? {
        return Err(no_such_record(&id));
    }
    let object = format!("call record {}", record.cdr.session_id);
    app.access.record(&caller, Deed::done("cdr.remove", &object).change(Some(before), None)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether a recording of it may still come. A call may be marked as recorded and never get one: its
/// capture was lost with a disk.
pub(super) async fn is_being_recorded(app: &App, record: &CallRecord) -> Result<bool, Problem> {
    match &record.recording {
        Some(recording) => return Ok(recording.state == RecordingState::Pending),
        None if !record.cdr.recorded => return Ok(false),
        None => {}
    }
    let call = record.cdr.session_id;
    let capture = app.captures.join(format!("{call}.{CAPTURE_EXTENSION}"));
    let stands = tokio::fs::try_exists(&capture).await.map_err(|error| {
        tracing::error!(file = %capture.display(), %error, "a capture cannot be looked for");
        Problem::new(Code::Internal, "the log of the gateway says why")
    })?;
    // A capture goes when its row is there, which may have come since the record was read.
    Ok(stands || app.store.recording(call).await?.is_some())
}

async fn remove_file(path: &Path) -> Result<(), Problem> {
    match tokio::fs::remove_file(path).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "a recording cannot be removed");
            Err(Problem::new(Code::Internal, "the log of the gateway says why"))
        }
    }
}
