//! Call records as JSON.
//! Owns:  the two shapes: the original's list item, and the CDR in camelCase.
//! Gives: what was stored; nothing is computed that a record does not say.
//! Never: a name of a field of its own where the original has one.
//! Holds: every prefix has the same shapes; links start with the prefix that was asked.

use serde_json::{Value, json};
use shared::time::WallMs;

use super::{Code, Prefix, Problem};
use crate::store::{CallRecord, Recording, RecordingState, StoredExchange};

fn path_of(record: &CallRecord, prefix: &Prefix) -> String {
    format!("{}/call-records/{}", prefix.0, record.id)
}

fn ready(record: &CallRecord) -> Option<&Recording> {
    record.recording.as_ref().filter(|recording| recording.state == RecordingState::Ready)
}

/// One line of a list, in the original's shape.
pub(super) fn item(record: &CallRecord, prefix: &Prefix) -> Value {
    let cdr = &record.cdr;
    let detail_url = path_of(record, prefix);
    let recording = ready(record).map(|recording| {
        json!({
            "url": format!("{detail_url}/recording"),
            "duration_secs": recording.duration_ms.map(|ms| ms / 1_000),
            "size": recording.size,
        })
    });
    json!({
        "id": record.id,
        "call_id": cdr.call_id,
        "session_id": cdr.session_id,
        "display_id": cdr.session_id,
        "direction": cdr.direction,
        "status": cdr.status,
        "from": cdr.caller,
        "to": cdr.callee,
        "caller_name": null,
        "agent": null,
        "agent_extension": null,
        "department": null,
        "queue": null,
        "caller_uri": cdr.caller_uri,
        "callee_uri": cdr.callee_uri,
        "sip_gateway": cdr.sip_trunk,
        "sip_trunk": cdr.sip_trunk,
        "outbound_trunk": cdr.outbound_trunk,
        "tags": record.tags,
        "has_transcript": false,
        "transcript_status": null,
        "transcript_language": null,
        "duration_secs": cdr.duration_ms / 1_000,
        "recording": recording,
        "recording_state": record.recording.as_ref().map(|recording| recording.state.as_str()),
        "started_at": cdr.start_time,
        "ring_time": cdr.ring_time,
        "answer_time": cdr.answer_time,
        "ended_at": cdr.end_time,
        "detail_url": detail_url,
        "status_code": cdr.status_code,
        "hangup_reason": cdr.hangup_reason,
        "hangup_messages": cdr.hangup_messages,
        "error": cdr.last_error,
    })
}

/// What the HTTP router was asked and said; text that was cut is no JSON any more.
pub(super) fn asked_router(exchange: StoredExchange) -> Value {
    let body = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    json!({
        "askedAt": WallMs(exchange.asked_at),
        "latencyMs": exchange.latency_ms,
        "outcome": exchange.outcome,
        "status": exchange.status,
        "request": body(exchange.request),
        "answer": exchange.answer.map(body),
        "notes": exchange.notes,
    })
}

/// The whole CDR, and where its recording is.
pub(super) fn detail(record: &CallRecord, prefix: &Prefix) -> Result<Value, Problem> {
    let mut value = serde_json::to_value(&record.cdr)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let own = json!({
        "id": record.id,
        "displayId": record.cdr.session_id,
        "fromNumber": record.cdr.caller,
        "toNumber": record.cdr.callee,
        "durationSecs": record.cdr.duration_ms / 1_000,
        "tags": record.tags,
        "note": record.note.as_ref().map(|text| json!({ "text": text })),
        "recordingState": record.recording.as_ref().map(|recording| recording.state.as_str()),
        "recordingError": record.recording.as_ref().and_then(|recording| recording.error.clone()),
    });
    let recorded = ready(record).map(|recording| {
        let url = format!("{}/recording", path_of(record, prefix));
        json!({
            "recordingUrl": url,
            "recordingDurationSecs": recording.duration_ms.map(|ms| ms / 1_000),
            "recorder": [{
                "trackId": "mixed",
                "path": recording.path,
                "size": recording.size,
                "extra": {},
            }],
        })
    });
    for part in [Some(own), recorded].into_iter().flatten() {
        if let (Value::Object(value), Value::Object(part)) = (&mut value, part) {
            value.extend(part);
        }
    }
    Ok(value)
}
