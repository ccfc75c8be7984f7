//! What the routes of `call_records` say about themselves.
//! Owns:  the schemas and examples of call records.
//! Gives: one `Doc` per route.
//! Never: a record of somebody.
//! Holds: the parameters are those that `search` and `record_query` read.

use serde_json::{Value, json};

use super::Code;
use super::doc::{self, Doc};
use super::page;

const OLDER_SORTS: [&str; 4] =
    ["duration_asc", "duration_desc", "started_at_asc", "started_at_desc"];
const SORTS: [&str; 4] = ["-started_at", "started_at", "-duration", "duration"];
const REFUSED: [Code; 2] = [Code::FilterInvalid, Code::FilterUnknown];
const LACKS: &str = "filters: onlyTranscribed, departmentIds, sipTrunkIds, outboundSipTrunkIds";

fn item() -> Value {
    json!({
        "id": 1,
        "call_id": "a-leg-1@phone",
        "direction": "internal",
        "status": "completed",
        "from": "1001",
        "to": "1002",
        "tags": ["vip"],
        "duration_secs": 10,
        "started_at": "2026-11-24T10:00:00.000Z",
        "detail_url": "/console/call-records/1",
        "status_code": 200,
        "hangup_reason": "byCaller",
    })
}

fn whole() -> Value {
    json!({
        "id": 1,
        "callId": "a-leg-1@phone",
        "caller": "1001",
        "callee": "1002",
        "startTime": "2026-11-24T10:00:00.000Z",
        "statusCode": 200,
        "hangupReason": "byCaller",
        "tags": ["vip"],
        "note": { "text": "called back" },
    })
}

pub(super) fn pages() -> Doc {
    Doc::new("Call records, a page at a time")
        .query("page", doc::number(1, 1_000_000), "From 1")
        .query("per_page", doc::number(5, 100), "20 if not said")
        .query("status", doc::word(&["any", "completed", "failed", "missed"]), "")
        .query("direction", doc::word(&["any", "inbound", "internal", "outbound"]), "")
        .query("caller", doc::text(), "Part of the number")
        .query("callee", doc::text(), "Part of the number")
        .query("q", doc::text(), "Part of a number, a URI, a Call-ID or the session id")
        .query("tags", doc::text(), "All of them, with commas between")
        .query("dateFrom", doc::text(), "A day, or RFC 3339")
        .query("dateTo", doc::text(), "A day, included, or RFC 3339")
        .query("sort", doc::word(&OLDER_SORTS), "")
        .answer(200, "A page of records", page::envelope(1, 20, 1, vec![item()]))
        .lacks(LACKS)
        .refuses(&REFUSED)
}

pub(super) fn pages_by_body() -> Doc {
    let schema = doc::object(&[
        ("page", doc::number(1, 1_000_000)),
        ("per_page", doc::number(5, 100)),
        ("filters", json!({ "type": "object" })),
        ("sort", doc::word(&OLDER_SORTS)),
    ]);
    Doc::new("The same, asked with a body")
        .body(schema, json!({ "page": 1, "per_page": 20, "filters": { "caller": "1001" } }))
        .answer(200, "A page of records", page::envelope(1, 20, 1, vec![item()]))
        .lacks(LACKS)
        .refuses(&REFUSED)
}

/// What our own list can be asked, besides its pages.
fn filters() -> Vec<(&'static str, Value, &'static str)> {
    const NUMBER: &str = "A whole number, or its start with * behind it";
    vec![
        ("from", doc::text(), NUMBER),
        ("to", doc::text(), NUMBER),
        ("number", doc::text(), "The caller's or the callee's; whole, or a start with * behind it"),
        ("trunk", doc::text(), "The call came from it or went to it"),
        ("direction", doc::word(&["inbound", "internal", "outbound"]), ""),
        ("status", doc::word(&["completed", "failed", "missed"]), ""),
        ("sip_code", doc::number(100, 699), "The final status"),
        ("started_after", doc::text(), "A day, or RFC 3339; included"),
        ("started_before", doc::text(), "A day, or RFC 3339; not included"),
        ("has_recording", doc::flag(), ""),
        ("min_duration", doc::number(0, i64::from(u32::MAX)), "Seconds"),
        ("call_id", doc::text(), "The SIP Call-ID of any leg"),
        ("q", doc::text(), "Part of a number, a URI, a Call-ID or the session id"),
        ("sort", doc::word(&SORTS), "-started_at if not said"),
    ]
}

fn slice() -> Value {
    let page =
        json!({ "limit": 50, "next_cursor": null, "prev_cursor": null, "total_estimate": 1 });
    json!({ "data": [item()], "page": page })
}

pub(super) fn slices() -> Doc {
    let doc =
        Doc::new("Call records, from cursor to cursor; as CSV or NDJSON all that fit").pages();
    filters()
        .into_iter()
        .fold(doc, |doc, (name, schema, text)| doc.query(name, schema, text))
        .answer(200, "Some records, or a stream of all that fit", slice())
        .file(200, "", "text/csv")
        .file(200, "", "application/x-ndjson")
}

pub(super) fn slices_by_body() -> Doc {
    let mut fields: Vec<_> =
        filters().into_iter().map(|(name, schema, _)| (name, schema)).collect();
    fields.extend([("limit", doc::number(1, 500)), ("cursor", doc::text())]);
    Doc::new("The same, asked with a body")
        .body(doc::object(&fields), json!({ "from": "1001", "limit": 20 }))
        .answer(200, "Some records", slice())
        .refuses(&[Code::FilterInvalid, Code::FilterUnknown])
}

pub(super) fn one() -> Doc {
    Doc::new("One record, by its number, session id, or the SIP Call-ID of any leg")
        .at("id", "1")
        .answer(200, "The record", whole())
        .refuses(&[Code::NoSuchRecord])
        .versioned()
}

pub(super) fn change() -> Doc {
    let note = json!({ "type": ["object", "null"], "properties": { "text": doc::text_or_null() } });
    let schema = doc::object(&[("tags", doc::list_of(doc::text())), ("note", note)]);
    Doc::new("Change what people add to a record; what is not said stays")
        .at("id", "1")
        .body(schema, json!({ "tags": ["vip"], "note": { "text": "called back" } }))
        .answer(200, "The record", whole())
        .refuses(&[Code::BodyInvalid, Code::NoSuchRecord])
        .versioned()
}

pub(super) fn remove() -> Doc {
    Doc::new("Remove a record and its recording")
        .at("id", "1")
        .empty(204, "Both are gone")
        .refuses(&[Code::NoSuchRecord, Code::RecordingPending])
        .versioned()
}
