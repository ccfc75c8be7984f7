//! The API as a program sees it: paths, shapes, refusals, Range.

mod stand_ins;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use controlplane::board::{Board, Stage};
use controlplane::questions::DEADLINE;
use controlplane::store::{
    AuditLog, AuditSearch, Connections, Recording, RecordingState, Recordings, Records,
};
use serde_json::{Value, json};
use shared::act::{CallAction, Refusal};
use shared::event::DialogView;
use shared::ids::{ShardId, Side};
use shared::limits::ACT_WAIT_MAX;
use shared::metrics::{Counter, Counters};
use shared::originate::{Originated, Party, Unstarted};
use stand_ins::{FakePlane, Folder, MoodyStore, TOKEN, call_id, call_view, cdr};
use tower::ServiceExt;

struct Gate {
    plane: Arc<FakePlane>,
    board: Arc<Board>,
    store: Arc<MoodyStore>,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("plain text"))
    }

    /// Checks that it is a problem with this code and status.
    fn assert_problem(&self, status: StatusCode, code: &str) {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header(header::CONTENT_TYPE), "application/problem+json");
        let body = self.json();
        assert_eq!(body["code"], code);
        assert_eq!(body["status"], status.as_u16());
        assert_eq!(body["type"], format!("urn:ringgate:problem:{code}"));
        for text in ["title", "detail", "message"] {
            assert!(body[text].as_str().is_some_and(|text| !text.is_empty()), "{text}");
        }
    }
}

impl Gate {
    async fn new(configuration: &str) -> Self {
        let gate = stand_ins::gate::Gate::of(configuration).await;
        let stand_ins::gate::Gate { plane, board, store, router, .. } = gate;
        Self { plane, board, store, router }
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("never fails");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a whole body");
        Answer { status: parts.status, headers: parts.headers, body: body.to_vec() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(request(Method::GET, path, Body::empty())).await
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        let mut request = request(method, path, Body::from(body.to_string()));
        let json = header::HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        self.ask(request).await
    }
}

fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    let from: SocketAddr = "127.0.0.1:50000".parse().expect("an address");
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "127.0.0.1:8080")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .extension(ConnectInfo(from))
        .body(body)
        .expect("a request")
}

const PREFIXES: [&str; 3] = ["/console", "/api", "/api/v1"];

#[tokio::test]
async fn active_calls_of_all_shards_answer_under_every_prefix() {
    let gate = Gate::new("").await;
    gate.plane
        .calls
        .lock()
        .expect("no panic")
        .extend([call_view(2, 1, true), call_view(1, 0, false)]);
    for prefix in PREFIXES {
        let answer = gate.get(&format!("{prefix}/calls/active")).await;
        assert_eq!(answer.status, StatusCode::OK);
        let body = answer.json();
        assert_eq!(body["total"], 2);
        let first = json!({
            "call_id": call_id(1).to_string(),
            "node": "gate-1",
            "meta": {
                "session_id": call_id(1).to_string(),
                "caller": "1001",
                "callee": "1002",
                "direction": "internal",
                "started_at": "2026-11-24T10:00:00.000Z",
                "answered_at": null,
                "status": "Ringing",
            },
            "state": {
                "id": call_id(1).to_string(),
                "state": "ringing",
                "leg_count": 2,
                "bridge_active": false,
                "media_path": "anchored",
                "recording": false,
                "held": { "caller": true, "callee": false },
                "muted": { "caller": false, "callee": false },
                "sip_call_ids": ["a-leg-1@phone", "b-leg-1@gate"],
                "shard": 0,
            },
        });
        assert_eq!(body["data"][0], first);
        assert_eq!(body["data"][1]["meta"]["status"], "Talking");
    }
    let one = gate.get("/console/calls/active?limit=1").await.json();
    assert_eq!(one["data"].as_array().map(Vec::len), Some(1));
    let wrong = gate.get("/console/calls/active?limit=many").await;
    wrong.assert_problem(StatusCode::BAD_REQUEST, "filter_invalid");
}

#[tokio::test]
async fn one_call_is_found_by_its_id_and_by_either_call_id() {
    let gate = Gate::new("").await;
    gate.plane.calls.lock().expect("no panic").push(call_view(7, 1, true));
    let own_id = call_view(7, 1, true).id.to_string();
    for id in [own_id.as_str(), "a-leg-7@phone", "b-leg-7%40gate"] {
        let answer = gate.get(&format!("/console/calls/active/{id}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{id}");
        assert_eq!(answer.json()["data"]["meta"]["session_id"], own_id);
    }
    let unknown = gate.get("/console/calls/active/nobody").await;
    unknown.assert_problem(StatusCode::NOT_FOUND, "no_such_call");
}

#[tokio::test]
async fn a_silent_shard_is_a_503_and_not_a_shorter_list() {
    let gate = Gate::new("").await;
    // The database, which has a thread of its own, is open: from here on time may jump.
    tokio::time::pause();
    gate.plane.silent.store(true, Ordering::Relaxed);
    for path in ["/console/calls/active", "/api/v1/calls/active/x", "/ami/v1/dialogs"] {
        let answer = gate.get(path).await;
        answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "shards_silent");
        assert_eq!(answer.header(header::RETRY_AFTER), "1");
    }
}

#[tokio::test]
async fn dialogs_are_a_flat_list_with_state_from_and_to() {
    let gate = Gate::new("").await;
    gate.plane.dialogs.lock().expect("no panic").push(DialogView {
        call: call_id(1),
        shard: ShardId(1),
        side: Side::Callee,
        state: "Confirmed",
        call_id: "b-leg".to_owned(),
        local_tag: "l".to_owned(),
        remote_tag: "r".to_owned(),
        from: "sip:1001@pbx".to_owned(),
        to: "sip:1002@pbx".to_owned(),
        remote_target: "sip:1002@192.0.2.2".to_owned(),
        local_cseq: 1,
        remote_cseq: 0,
    });
    let body = gate.get("/ami/v1/dialogs").await.json();
    assert_eq!(body.as_array().map(Vec::len), Some(1));
    let [state, from, to] = ["state", "from", "to"].map(|key| body[0][key].clone());
    assert_eq!([state, from, to], ["Confirmed", "sip:1001@pbx", "sip:1002@pbx"]);
}

#[tokio::test]
async fn health_counts_per_shard_and_in_total() {
    let gate = Gate::new("").await;
    for (shard, calls) in [(0, 2), (1, 3)] {
        let mut counters = Counters::default();
        counters.set(Counter::Calls, calls);
        counters.add(Counter::CallsStarted, 10 * calls);
        gate.board.counted(ShardId(shard), counters);
    }
    gate.board.live(ShardId(1), 4);
    let body = gate.get("/ami/v1/health").await.json();
    assert_eq!(body["status"], "running");
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert!(body["uptime"].is_u64());
    assert_eq!((&body["calls"], &body["total"]), (&json!(5), &json!(50)));
    assert_eq!(body["sipserver"]["calls"], 5);
    assert_eq!(body["callrecord"]["backlog"], 0);
    let shards = body["shards"].as_array().expect("a list");
    assert_eq!((&shards[0]["cpu"], &shards[1]["cpu"]), (&json!(1), &json!(3)));
    assert_eq!(shards[1]["generation"], 4);
    assert_eq!(shards[1]["counters"]["calls"], 3);
    assert_eq!(shards[0]["state"], "serving");
}

#[tokio::test]
async fn ready_names_every_reason_why_not() {
    let gate = Gate::new("").await;
    let ready = gate.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::OK);
    assert_eq!(gate.get("/livez").await.body, b"ok\n");
    gate.board.counts.published.store(2, Ordering::Relaxed);
    gate.board.live(ShardId(0), 2);
    gate.board.reached(ShardId(0), Stage::Drained);
    gate.board.counts.draining.store(true, Ordering::Relaxed);
    gate.store.failures.store(1, Ordering::Relaxed);
    let not_ready = gate.get("/readyz").await;
    assert_eq!(not_ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let reasons = json!([
        "shard 0 is drained",
        "shard 1 does not serve generation 2 yet",
        "draining",
        "the database fails",
    ]);
    assert_eq!(not_ready.json(), json!({ "ready": false, "reasons": reasons }));
}

#[tokio::test]
async fn metrics_have_help_type_and_a_series_per_shard() {
    let gate = Gate::new("").await;
    let mut counters = Counters::default();
    counters.set(Counter::Calls, 3);
    gate.board.counted(ShardId(1), counters);
    let answer = gate.get("/metrics").await;
    assert!(answer.header(header::CONTENT_TYPE).starts_with("text/plain; version=0.0.4"));
    let text = String::from_utf8(answer.body).expect("text");
    for line in [
        "# TYPE ringgate_calls gauge",
        "ringgate_calls{shard=\"0\"} 0",
        "ringgate_calls{shard=\"1\"} 3",
        "# TYPE ringgate_rtp_forwarded_total counter",
        "ringgate_cdr_backlog 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    let mut types: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let count = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!(types.len(), count, "every TYPE once");
}

#[tokio::test]
async fn records_come_in_pages_with_the_original_envelope_and_item() {
    let gate = Gate::new("").await;
    let batch: Vec<_> = (1..=12).map(cdr).collect();
    gate.store.add_cdrs(&batch).await.expect("stored");
    for prefix in ["/console", "/api"] {
        let body = gate.get(&format!("{prefix}/call-records?page=2&per_page=5")).await.json();
        assert_eq!(body["page"], 2);
        assert_eq!(body["per_page"], 5);
        assert_eq!(body["total_pages"], 3);
        assert_eq!(body["total_items"], 12);
        let items = body["items"].as_array().expect("a list");
        assert_eq!(items.len(), 5);
        let item = &items[0];
        assert_eq!(item["id"], 7);
        assert_eq!(item["from"], "1001");
        assert_eq!(item["to"], "1002");
        assert_eq!(item["status"], "completed");
        assert_eq!(item["status_code"], 200);
        assert_eq!(item["hangup_reason"], "byCaller");
        assert_eq!(item["duration_secs"], 10);
        assert_eq!(item["started_at"], "2026-11-24T10:00:07.000Z");
        assert_eq!(item["detail_url"], format!("{prefix}/call-records/7"));
        assert_eq!(item["recording"], Value::Null);
    }
    let empty = gate.get("/api/call-records?caller=2002").await.json();
    assert_eq!((&empty["total_items"], &empty["total_pages"]), (&json!(0), &json!(1)));
    let unknown = gate.get("/api/call-records?colour=red").await;
    unknown.assert_problem(StatusCode::BAD_REQUEST, "filter_unknown");
    let body = json!({ "page": 1, "per_page": 5, "filters": { "q": "a-leg-3@" }, "sort": "" });
    let searched = gate.send(Method::POST, "/console/call-records", &body).await;
    assert_eq!(searched.json()["items"][0]["id"], 3);
    let broken = request(Method::POST, "/console/call-records", Body::from("{"));
    gate.ask(broken).await.assert_problem(StatusCode::BAD_REQUEST, "body_unreadable");
    let long = json!({ "filters": { "q": "x".repeat(2 << 20) } });
    let long = gate.send(Method::POST, "/console/call-records", &long).await;
    long.assert_problem(StatusCode::PAYLOAD_TOO_LARGE, "body_too_long");
    let odd = gate.get("/console/call-records/%ff").await;
    odd.assert_problem(StatusCode::BAD_REQUEST, "path_unreadable");
    let unknown = gate.get("/console/calls/active?colour=red").await;
    unknown.assert_problem(StatusCode::BAD_REQUEST, "filter_unknown");
}

#[tokio::test]
async fn one_record_is_the_whole_cdr_in_camel_case() {
    let gate = Gate::new("").await;
    gate.store.add_cdrs(&[cdr(1)]).await.expect("stored");
    let own_id = call_id(1).to_string();
    for id in ["1", own_id.as_str(), "a-leg-1@phone", "b-leg-1@gate"] {
        let body = gate.get(&format!("/console/call-records/{id}")).await.json();
        assert_eq!(body["id"], 1, "{id}");
        assert_eq!(body["callId"], "a-leg-1@phone");
        assert_eq!(body["sessionId"], own_id);
        assert_eq!(body["startTime"], "2026-11-24T10:00:01.000Z");
        assert_eq!(body["answerTime"], "2026-11-24T10:00:03.000Z");
        assert_eq!(body["statusCode"], 200);
        assert_eq!(body["hangupReason"], "byCaller");
        assert_eq!(body["sipLegRoles"][1]["role"], "callee");
    }
    let unknown = gate.get("/console/call-records/2").await;
    unknown.assert_problem(StatusCode::NOT_FOUND, "no_such_record");
}

async fn with_recording(folder: &Folder) -> Gate {
    let gate = Gate::new("").await;
    gate.store.add_cdrs(&[cdr(1)]).await.expect("stored");
    let path = folder.path().join("x.wav");
    let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    std::fs::write(&path, bytes).expect("written");
    let recording = Recording {
        call: call_id(1),
        state: RecordingState::Ready,
        capture: "gone".into(),
        path: Some(path),
        duration_ms: Some(10_000),
        size: Some(1_000),
        packets_lost: 0,
        error: None,
    };
    gate.store.put_recording(&recording).await.expect("stored");
    gate
}

async fn range(gate: &Gate, range: &str) -> Answer {
    let mut asked = request(Method::GET, "/api/v1/call-records/1/recording", Body::empty());
    asked.headers_mut().insert(header::RANGE, range.parse().expect("a header"));
    gate.ask(asked).await
}

#[tokio::test]
async fn a_recording_is_served_whole_and_in_ranges() {
    let folder = Folder::new("ranges");
    let gate = with_recording(&folder).await;
    let whole = gate.get("/console/call-records/1/recording").await;
    assert_eq!((whole.status, whole.body.len()), (StatusCode::OK, 1_000));
    assert_eq!(whole.header(header::CONTENT_TYPE), "audio/wav");
    assert_eq!(whole.header(header::ACCEPT_RANGES), "bytes");
    let name = format!("inline; filename=\"{}.wav\"", call_id(1));
    assert_eq!(whole.header(header::CONTENT_DISPOSITION), name);

    for (asked, content_range, bytes) in [
        ("bytes=0-3", "bytes 0-3/1000", vec![0, 1, 2, 3]),
        ("bytes=998-", "bytes 998-999/1000", vec![230, 231]),
        ("bytes=-2", "bytes 998-999/1000", vec![230, 231]),
        ("bytes=999-5000", "bytes 999-999/1000", vec![231]),
    ] {
        let part = range(&gate, asked).await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT, "{asked}");
        assert_eq!(part.header(header::CONTENT_RANGE), content_range);
        assert_eq!(part.header(header::CONTENT_LENGTH), bytes.len().to_string());
        assert_eq!(part.body, bytes);
    }
    let beyond = range(&gate, "bytes=1000-").await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.header(header::CONTENT_RANGE), "bytes */1000");
    let head = request(Method::HEAD, "/api/call-records/1/recording", Body::empty());
    let head = gate.ask(head).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(head.header(header::CONTENT_LENGTH), "1000");

    let detail = gate.get("/api/call-records/1").await.json();
    assert_eq!(detail["recordingUrl"], "/api/call-records/1/recording");
    assert_eq!(detail["recordingDurationSecs"], 10);
    assert_eq!(detail["recorder"][0]["size"], 1_000);
    let list = gate.get("/api/call-records").await.json();
    assert_eq!(list["items"][0]["recording"]["duration_secs"], 10);
}

#[tokio::test]
async fn a_recording_that_is_not_there_says_why() {
    let folder = Folder::new("absent");
    let gate = with_recording(&folder).await;
    let mut recorded = cdr(2);
    recorded.recorded = true;
    gate.store.add_cdrs(&[recorded, cdr(3), cdr(4)]).await.expect("stored");
    let state = |number: u64, state, error: Option<&str>| Recording {
        call: call_id(number),
        state,
        capture: "x".into(),
        path: None,
        duration_ms: None,
        size: None,
        packets_lost: 0,
        error: error.map(str::to_owned),
    };
    let unsupported = state(4, RecordingState::Unsupported, Some("payload type 18"));
    gate.store.put_recording(&unsupported).await.expect("stored");
    let path = |number: u64| format!("/api/call-records/{}/recording", call_id(number));
    let lost = gate.get(&path(2)).await;
    lost.assert_problem(StatusCode::NOT_FOUND, "recording_failed");
    gate.get(&path(3)).await.assert_problem(StatusCode::NOT_FOUND, "recording_absent");
    let failed = gate.get(&path(4)).await;
    failed.assert_problem(StatusCode::NOT_FOUND, "recording_failed");
    assert_eq!(failed.json()["detail"], "payload type 18");
    let side = gate.get("/api/call-records/1/recording?stream=A").await;
    side.assert_problem(StatusCode::NOT_IMPLEMENTED, "not_built");
    std::fs::remove_file(folder.path().join("x.wav")).expect("it was there");
    let gone = gate.get("/api/call-records/1/recording").await;
    gone.assert_problem(StatusCode::NOT_FOUND, "recording_failed");
}

#[tokio::test]
async fn a_command_reaches_its_call_by_every_name_under_every_prefix() {
    let gate = Gate::new("").await;
    let call = call_view(7, 1, true);
    gate.plane.calls.lock().expect("no panic").push(call.clone());
    let body = json!({ "action": "mute", "track_id": "audio-1" });
    let names = [call.id.to_string(), call.id.to_string().to_uppercase()];
    for name in names.iter().chain(&call.sip_call_ids) {
        for prefix in PREFIXES {
            let path = format!("{prefix}/calls/active/{name}/commands");
            let answer = gate.send(Method::POST, &path, &body).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.json());
            let expected = json!({
                "message": "mute done",
                "data": {
                    "action": "mute",
                    "applied_at": "2026-11-24T10:00:00.000Z",
                    "call_id": call.id,
                    "outcome": "done",
                    "shard": 1,
                },
            });
            assert_eq!(answer.json(), expected);
        }
    }
    let search = AuditSearch { limit: 100, ..Default::default() };
    let audit = gate.store.audit(&search).await.expect("read");
    assert_eq!(audit.len(), 12, "one entry each");
    assert!(audit.iter().all(|row| row.action == "call.mute" && row.outcome == "done"));
    let acts = gate.plane.acts.lock().expect("no panic");
    let muted = CallAction::Mute { side: Side::Callee, on: true };
    assert_eq!(acts.len(), 12);
    assert!(
        acts.iter()
            .all(|(shard, id, action)| { (*shard, *id, action) == (ShardId(1), call.id, &muted) })
    );
}

#[tokio::test]
async fn a_command_that_is_not_done_says_why() {
    let gate = Gate::new("").await;
    gate.plane.calls.lock().expect("no panic").push(call_view(7, 1, true));
    let send = async |name: &str, body: Value| {
        let path = format!("/console/calls/active/{name}/commands");
        gate.send(Method::POST, &path, &body).await
    };
    let name = call_view(7, 1, true).id.to_string();
    let hang_up = json!({ "action": "hangup", "reason": "admin_kick" });
    for unknown in ["nobody", &call_id(9).to_string(), &"f".repeat(32)] {
        let answer = send(unknown, hang_up.clone()).await;
        answer.assert_problem(StatusCode::NOT_FOUND, "no_such_call");
    }
    for (body, code) in [
        (json!({ "action": "hangup", "code": 99 }), "command_invalid"),
        (json!({ "action": "mute" }), "command_invalid"),
        (json!(["hangup"]), "command_invalid"),
        (json!({ "action": "juggle" }), "command_unknown"),
    ] {
        let answer = send(&name, body).await;
        answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, code);
    }
    let later = send(&name, json!({ "action": "transfer", "target": "ivr:main" })).await;
    later.assert_problem(StatusCode::NOT_IMPLEMENTED, "not_built");
    assert!(gate.plane.acts.lock().expect("no panic").is_empty(), "none reached a shard");
    for (why, status, code) in [
        (Refusal::AlreadyRecording, StatusCode::CONFLICT, "already_recording"),
        (Refusal::Busy, StatusCode::CONFLICT, "not_now"),
        (Refusal::CallEnded, StatusCode::CONFLICT, "call_ended"),
        (Refusal::CodecUnknown, StatusCode::CONFLICT, "codec_unknown"),
        (Refusal::NoMedia, StatusCode::CONFLICT, "no_media"),
        (Refusal::NoOffer, StatusCode::CONFLICT, "no_offer"),
        (Refusal::NotAnswered, StatusCode::CONFLICT, "not_answered"),
        (Refusal::NotConfirmed, StatusCode::GATEWAY_TIMEOUT, "not_confirmed"),
        (Refusal::NotPlaying, StatusCode::CONFLICT, "not_playing"),
        (Refusal::DiskFull, StatusCode::SERVICE_UNAVAILABLE, "disk_full"),
        (Refusal::NotRecording, StatusCode::CONFLICT, "not_recording"),
        (Refusal::NotRinging, StatusCode::CONFLICT, "not_ringing"),
        (Refusal::PeerRefused(488), StatusCode::CONFLICT, "peer_refused"),
        (Refusal::SdpUnusable, StatusCode::UNPROCESSABLE_ENTITY, "command_invalid"),
        (Refusal::SpeakersFull, StatusCode::SERVICE_UNAVAILABLE, "speakers_full"),
        (Refusal::TooMany, StatusCode::SERVICE_UNAVAILABLE, "commands_full"),
    ] {
        *gate.plane.refusal.lock().expect("no panic") = Some(why);
        send(&name, hang_up.clone()).await.assert_problem(status, code);
    }
    let answer = gate.get("/console/calls/active/x/commands").await;
    answer.assert_problem(StatusCode::METHOD_NOT_ALLOWED, "no_such_method");
    gate.plane.full.store(true, Ordering::Relaxed);
    let answer = send(&name, hang_up).await;
    answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "shards_silent");
    assert_eq!(answer.header(header::RETRY_AFTER), "1");
}

#[tokio::test]
async fn a_shard_that_never_answers_a_command_is_a_503() {
    let gate = Gate::new("").await;
    gate.plane.silent.store(true, Ordering::Relaxed);
    let path = format!("/api/calls/active/{}/commands", call_id(1));
    let hangup = json!({ "action": "hangup" });
    // The database before and after needs real time: only the wait for the shard is skipped.
    let skip = async {
        let mut look = tokio::time::interval(Duration::from_millis(2));
        while gate.plane.commands.lock().expect("no test panics with it").is_empty() {
            look.tick().await;
        }
        tokio::time::pause();
        tokio::time::advance(ACT_WAIT_MAX + DEADLINE).await;
        tokio::time::resume();
    };
    let (answer, ()) = tokio::join!(gate.send(Method::POST, &path, &hangup), skip);
    answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "shards_silent");
}

#[tokio::test]
async fn what_is_not_built_says_501_and_what_is_not_there_404() {
    let gate = Gate::new("").await;
    for (method, path) in [
        (Method::GET, "/console/login"),
        (Method::POST, "/api/extensions/import"),
        (Method::GET, "/ami/v1/transactions"),
    ] {
        let answer = gate.send(method.clone(), path, &json!({})).await;
        answer.assert_problem(StatusCode::NOT_IMPLEMENTED, "not_built");
    }
    for path in ["/", "/console", "/console/nowhere", "/ami/v1/nothing", "/api/v2/calls/active"] {
        let answer = gate.get(path).await;
        answer.assert_problem(StatusCode::NOT_FOUND, "no_such_path");
    }
    let wrong = gate.send(Method::DELETE, "/console/calls/active", &json!({})).await;
    wrong.assert_problem(StatusCode::METHOD_NOT_ALLOWED, "no_such_method");
}

#[tokio::test]
async fn prefixes_move_with_the_configuration() {
    let text = "[console]\nbase_path = \"/ops\"\napi_prefix = \"/rest\"\n[proxy]\nami_path = \
                \"/manage\"\n";
    let gate = Gate::new(text).await;
    for path in
        ["/ops/calls/active", "/rest/calls/active", "/api/v1/calls/active", "/manage/health"]
    {
        assert_eq!(gate.get(path).await.status, StatusCode::OK, "{path}");
    }
    let old = gate.get("/console/calls/active").await;
    old.assert_problem(StatusCode::NOT_FOUND, "no_such_path");
}

#[tokio::test]
async fn a_database_that_fails_is_a_503_without_its_secrets() {
    let gate = Gate::new("").await;
    gate.store.real.close().await;
    let answer = gate.get("/console/call-records").await;
    answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable");
    assert_eq!(answer.json()["detail"], "the log of the gateway says why");
}

#[tokio::test]
async fn a_call_can_be_asked_for_under_every_prefix() {
    let gate = Gate::new("").await;
    let body = json!({"action": "originate", "from": "1001", "to": "1002", "timeout": 15});
    for (path, place) in [
        ("/api/v1/commands", "/api/v1/calls/active/"),
        ("/api/commands", "/api/calls/active/"),
        ("/console/commands", "/console/calls/active/"),
        ("/ami/v1/originate", ""),
    ] {
        let answer = gate.send(Method::POST, path, &body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{path}");
        let id = call_id(1).to_string();
        assert_eq!(answer.json()["call_id"], id, "{path}");
        let expected = if place.is_empty() { String::new() } else { format!("{place}{id}") };
        assert_eq!(answer.header(header::LOCATION), expected);
    }
    let wished = gate.plane.wished.lock().expect("no test panics with it").clone();
    assert_eq!(wished.len(), 4);
    let (shard, wanted) = &wished[0];
    assert_eq!((&*wanted.from, &*wanted.to), ("1001", "1002"));
    assert_eq!(wanted.ring, Some(Duration::from_secs(15)));
    assert_eq!(*shard, ShardId::of_name(b"1001", 2), "the shard with the registration is asked");
    let answer = gate.get("/api/v1/commands").await;
    answer.assert_problem(StatusCode::METHOD_NOT_ALLOWED, "no_such_method");
}

#[tokio::test]
async fn a_call_that_is_not_made_says_why() {
    let gate = Gate::new("").await;
    let body = json!({"action": "originate", "from": "1001", "to": "1002"});
    for (why, status, code) in [
        (Unstarted::NotRegistered(Party::From), StatusCode::CONFLICT, "not_registered"),
        (Unstarted::Overloaded, StatusCode::SERVICE_UNAVAILABLE, "calls_refused"),
        (Unstarted::Unreachable(Party::To, 404), StatusCode::NOT_FOUND, "party_unknown"),
        (Unstarted::Unreachable(Party::To, 480), StatusCode::CONFLICT, "party_unreachable"),
        (
            Unstarted::Unreachable(Party::To, 416),
            StatusCode::UNPROCESSABLE_ENTITY,
            "command_invalid",
        ),
        (
            Unstarted::Unreadable(Party::CallerId),
            StatusCode::UNPROCESSABLE_ENTITY,
            "command_invalid",
        ),
    ] {
        *gate.plane.originated.lock().expect("no test panics with it") = Originated::Refused(why);
        let answer = gate.send(Method::POST, "/api/v1/commands", &body).await;
        answer.assert_problem(status, code);
        let waits = status == StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(!answer.header(header::RETRY_AFTER).is_empty(), waits, "{why:?}");
    }
    let wrong =
        json!({"action": "originate", "from": "1001", "to": "1002", "headers": {"Via": ""}});
    let answer = gate.send(Method::POST, "/ami/v1/originate", &wrong).await;
    answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "command_invalid");
    assert!(answer.json()["detail"].as_str().is_some_and(|text| text.contains("Via")));
    gate.plane.full.store(true, Ordering::Relaxed);
    let answer = gate.send(Method::POST, "/api/v1/commands", &body).await;
    answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "shards_silent");
}
