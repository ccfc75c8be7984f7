//! Call records under our own prefix: slices, cursors, exports; and what every prefix may change.

mod stand_ins;

use axum::http::{Method, StatusCode, header};
use controlplane::store::{Recording, RecordingState, Recordings, Records};
use serde_json::{Value, json};
use shared::cdr::{CallStatus, Cdr};
use stand_ins::asking::{Answer, Ask, Gate};
use stand_ins::{Folder, TOKEN, call_id, cdr};

const LIST: &str = "/api/v1/call-records";

async fn filled(count: u64) -> Gate {
    let gate = Gate::new("").await;
    let batch: Vec<Cdr> = (1..=count).map(cdr).collect();
    gate.store.add_cdrs(&batch).await.expect("it is stored");
    gate
}

async fn get(gate: &Gate, path: &str) -> Answer {
    gate.ask(Ask::get(path).bearer(TOKEN)).await
}

fn ids(body: &Value) -> Vec<i64> {
    let data = body["data"].as_array().expect("a list");
    data.iter().map(|item| item["id"].as_i64().expect("a number")).collect()
}

#[tokio::test]
async fn cursors_lead_through_the_list_and_back() {
    let gate = filled(7).await;
    let first = get(&gate, &format!("{LIST}?limit=3")).await.json();
    assert_eq!(ids(&first), [7, 6, 5]);
    let page = &first["page"];
    assert_eq!((&page["limit"], &page["total_estimate"]), (&json!(3), &json!(7)));
    assert_eq!(page["prev_cursor"], Value::Null);
    let cursor = |body: &Value, name: &str| body["page"][name].as_str().expect(name).to_owned();
    let next =
        async |cursor: &str| get(&gate, &format!("{LIST}?limit=3&cursor={cursor}")).await.json();
    let second = next(&cursor(&first, "next_cursor")).await;
    assert_eq!(ids(&second), [4, 3, 2]);
    let third = next(&cursor(&second, "next_cursor")).await;
    assert_eq!(ids(&third), [1]);
    assert_eq!(third["page"]["next_cursor"], Value::Null);
    let back = next(&cursor(&third, "prev_cursor")).await;
    assert_eq!(ids(&back), [4, 3, 2]);
    assert_eq!(back["data"], second["data"]);

    let item = &first["data"][0];
    assert_eq!(item["detail_url"], format!("{LIST}/7"));
    assert_eq!((&item["from"], &item["status"]), (&json!("1001"), &json!("completed")));
    let whole = get(&gate, LIST).await.json();
    assert_eq!((ids(&whole).len(), &whole["page"]["limit"]), (7, &json!(50)));
    assert_eq!(whole["page"]["next_cursor"], Value::Null);
    let by_body = Ask::post(LIST).bearer(TOKEN).json(&json!({ "limit": 2, "sort": "started_at" }));
    assert_eq!(ids(&gate.ask(by_body).await.json()), [1, 2]);
}

#[tokio::test]
async fn filters_narrow_and_unknown_ones_are_refused() {
    let gate = filled(3).await;
    let mut missed = cdr(9);
    missed.status = CallStatus::Missed;
    missed.callee = "+49301".to_owned();
    missed.status_code = 486;
    gate.store.add_cdrs(&[missed]).await.expect("it is stored");
    for (query, expected) in [
        ("status=missed", vec![4]),
        ("sip_code=486", vec![4]),
        ("to=%2B4930*", vec![4]),
        ("to=%2B4930", vec![]),
        ("number=1002&sort=started_at", vec![1, 2, 3]),
        ("call_id=b-leg-2%40gate", vec![2]),
        ("q=leg-3", vec![3]),
        ("started_after=2026-11-24T10:00:03Z", vec![4, 3]),
        ("started_before=2026-11-24T10:00:02Z", vec![1]),
        ("min_duration=11", vec![]),
        ("has_recording=false&limit=1", vec![4]),
    ] {
        let answer = get(&gate, &format!("{LIST}?{query}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.json());
        assert_eq!(ids(&answer.json()), expected, "{query}");
    }
    for (query, code) in [
        ("colour=red", "filter_unknown"),
        ("page=2", "filter_unknown"),
        ("limit=501", "filter_invalid"),
        ("cursor=nonsense", "filter_invalid"),
        ("status=", "filter_invalid"),
    ] {
        let answer = get(&gate, &format!("{LIST}?{query}")).await;
        answer.assert_problem(StatusCode::BAD_REQUEST, code);
    }
}

#[tokio::test]
async fn an_export_has_every_record_and_no_formula() {
    let gate = filled(0).await;
    let count = 1_203;
    let mut batch: Vec<Cdr> = (0..count).map(cdr).collect();
    batch[0].caller = "=HYPERLINK(\"http://x\")".to_owned();
    batch[1].callee = "+4930 \"quoted\", with comma".to_owned();
    batch[2].status = CallStatus::Failed;
    gate.store.add_cdrs(&batch).await.expect("it is stored");

    let csv = gate.ask(Ask::get(LIST).bearer(TOKEN).header("accept", "text/csv")).await;
    assert_eq!(csv.status, StatusCode::OK);
    assert_eq!(csv.headers[header::CONTENT_TYPE], "text/csv; charset=utf-8");
    let mut reader = csv::Reader::from_reader(csv.body.as_slice());
    let headers = reader.headers().expect("a first line").clone();
    let column = |name: &str| headers.iter().position(|header| header == name).expect("a column");
    let rows: Vec<csv::StringRecord> =
        reader.records().collect::<Result<_, _>>().expect("every line is whole");
    assert_eq!(rows.len() as u64, count);
    let row = |number: u64| {
        let id = call_id(number).to_string();
        rows.iter().find(|row| row[column("sessionId")] == *id).expect("it is there")
    };
    assert_eq!(&row(0)[column("caller")], "'=HYPERLINK(\"http://x\")");
    assert_eq!(&row(1)[column("callee")], "'+4930 \"quoted\", with comma");
    assert_eq!(&row(7)[column("startTime")], "2026-11-24T10:00:07.000Z");
    assert_eq!(&rows[0][column("sessionId")], call_id(count - 1).to_string(), "newest first");

    let accept = "application/x-ndjson";
    let lines = format!("{LIST}?status=completed&sort=started_at");
    let lines = gate.ask(Ask::get(&lines).bearer(TOKEN).header("accept", accept)).await;
    assert_eq!(lines.headers[header::CONTENT_TYPE], accept);
    let text = String::from_utf8(lines.body).expect("UTF-8");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len() as u64, count - 1);
    assert_eq!(lines[0]["caller"], "=HYPERLINK(\"http://x\")", "JSON is as it was");
    assert_eq!(lines[0]["callId"], "a-leg-0@phone");

    let paged = Ask::get("/api/v1/call-records?limit=5").bearer(TOKEN).header("accept", "text/csv");
    gate.ask(paged).await.assert_problem(StatusCode::BAD_REQUEST, "filter_invalid");
    let nothing = Ask::get("/api/v1/call-records?q=nobody").bearer(TOKEN);
    let nothing = gate.ask(nothing.header("accept", "text/csv")).await;
    assert_eq!(String::from_utf8_lossy(&nothing.body).lines().count(), 1, "only the names");
}

#[tokio::test]
async fn tags_and_a_note_can_be_changed_and_nothing_else() {
    let gate = filled(2).await;
    let patch = async |path: &str, body: Value| {
        gate.ask(Ask::new(Method::PATCH, path).bearer(TOKEN).json(&body)).await
    };
    let body = json!({ "tags": [" vip ", "vip", "late"], "note": { "text": "called back" } });
    for prefix in ["/console", "/api", "/api/v1"] {
        let answer = patch(&format!("{prefix}/call-records/2"), body.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
        assert_eq!(answer.json()["tags"], json!(["vip", "late"]));
        assert_eq!(answer.json()["note"], json!({ "text": "called back" }));
    }
    let found = get(&gate, "/api/call-records?tags=late,vip").await.json();
    assert_eq!((&found["total_items"], &found["items"][0]["id"]), (&json!(1), &json!(2)));
    assert_eq!(found["items"][0]["tags"], json!(["vip", "late"]));
    let no_note = patch("/api/v1/call-records/2", json!({ "note": null })).await.json();
    assert_eq!((&no_note["note"], &no_note["tags"]), (&Value::Null, &json!(["vip", "late"])));
    for (body, pointer) in [
        (json!({ "status": "failed" }), "/status"),
        (json!({ "tags": [7] }), "/tags/0"),
        (json!({ "tags": ["x".repeat(65)] }), "/tags"),
        (json!({ "tags": ["a\nb"] }), "/tags"),
        (json!({ "note": "text" }), "/note"),
        (json!({ "note": { "text": "x".repeat(4_097) } }), "/note"),
        (json!({ "note": { "text": "x", "by": "me" } }), "/note"),
    ] {
        let answer = patch("/api/v1/call-records/2", body.clone()).await;
        answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    let gone = patch("/api/v1/call-records/77", json!({ "tags": [] })).await;
    gone.assert_problem(StatusCode::NOT_FOUND, "no_such_record");
    let stale = Ask::new(Method::PATCH, "/api/v1/call-records/2").bearer(TOKEN);
    let stale = stale.header("if-match", "\"old\"").json(&json!({ "tags": [] }));
    gate.ask(stale).await.assert_problem(StatusCode::PRECONDITION_FAILED, "precondition_failed");
    let log = gate.audit().await;
    let object = format!("call record {}", call_id(2));
    assert!(log.contains(&("cdr.change".to_owned(), object, "done".to_owned())), "{log:?}");
}

#[tokio::test]
async fn a_removed_record_takes_its_recording_along() {
    let gate = filled(2).await;
    let folder = Folder::new("removed");
    let wav = folder.path().join("1.wav");
    std::fs::write(&wav, "RIFF").expect("it is written");
    let mut recording = Recording {
        call: call_id(1),
        state: RecordingState::Pending,
        capture: folder.path().join("1.rgcap"),
        path: Some(wav.clone()),
        duration_ms: Some(1),
        size: Some(4),
        packets_lost: 0,
        error: None,
    };
    gate.store.put_recording(&recording).await.expect("it is stored");
    let path = format!("/api/v1/call-records/{}", call_id(1));
    let remove = async || gate.ask(Ask::new(Method::DELETE, &path).bearer(TOKEN)).await;
    remove().await.assert_problem(StatusCode::CONFLICT, "recording_pending");
    assert!(wav.exists());
    recording.state = RecordingState::Ready;
    gate.store.put_recording(&recording).await.expect("it is stored");
    assert_eq!(remove().await.status, StatusCode::NO_CONTENT);
    assert!(!wav.exists(), "the file is gone");
    assert_eq!(gate.store.recording(call_id(1)).await.expect("it is read"), None);
    remove().await.assert_problem(StatusCode::NOT_FOUND, "no_such_record");
    assert_eq!(ids(&get(&gate, LIST).await.json()), [2]);
    let log = gate.audit().await;
    assert!(log.iter().any(|(action, ..)| action == "cdr.remove"), "{log:?}");
}

/// Marked as recorded and without a row: while there is a capture it may still get one; when that is
/// gone too, nothing can come any more.
#[tokio::test]
async fn a_record_whose_recording_was_lost_can_be_removed() {
    let folder = Folder::new("lost");
    let gate = Gate::new(&format!("data_dir = \"{}\"\n", folder.path().display())).await;
    let recorded = Cdr { recorded: true, ..cdr(1) };
    gate.store.add_cdrs(&[recorded]).await.expect("it is stored");
    let captures = folder.path().join("captures");
    std::fs::create_dir_all(&captures).expect("it is writable");
    let capture = captures.join(format!("{}.rgcap", call_id(1)));
    std::fs::write(&capture, "not finished").expect("it is written");
    let path = format!("/api/v1/call-records/{}", call_id(1));
    let remove = async || gate.ask(Ask::new(Method::DELETE, &path).bearer(TOKEN)).await;
    remove().await.assert_problem(StatusCode::CONFLICT, "recording_pending");
    let recording = async || get(&gate, &format!("{path}/recording")).await;
    recording().await.assert_problem(StatusCode::CONFLICT, "recording_pending");
    std::fs::remove_file(&capture).expect("it was there");
    recording().await.assert_problem(StatusCode::NOT_FOUND, "recording_failed");
    assert_eq!(remove().await.status, StatusCode::NO_CONTENT);
    remove().await.assert_problem(StatusCode::NOT_FOUND, "no_such_record");
}
