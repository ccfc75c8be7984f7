//! `/api/v1/webhooks`: what an operator sees of the outbox and can do about it.

mod stand_ins;

use axum::http::{Method, StatusCode};
use controlplane::store::{Next, Outbox, Records, Settlement, Tried};
use controlplane::webhooks::outbox::CALL_RECORD;
use serde_json::{Value, json};
use shared::time::WallMs;
use stand_ins::asking::{Ask, Gate};
use stand_ins::{MORNING, TOKEN, call_id, cdr, only};

const CONFIG: &str = "[callrecord]\ntype = \"http\"\n\
     url = \"https://u:secret@billing.example/cdr?k=secret\"\nheaders = { X-Key = \"secret\" }\n";

struct Desk {
    gate: Gate,
}

impl Desk {
    /// Three call records: one dead, one delivered, one pending after a failure.
    async fn with_history() -> Self {
        let gate = Gate::new(CONFIG).await;
        let batch = [cdr(1), cdr(2), cdr(3)];
        let events = gate.deliveries.of_cdrs(&batch);
        gate.store.add_cdrs_with(&batch, &events).await.expect("they are stored");
        let rows = gate.store.due(CALL_RECORD, WallMs(i64::MAX), 9).await.expect("it is read").rows;
        let outcome = |place: usize, next, status| Settlement::Attempt {
            id: rows[place].id,
            key: rows[place].key.clone(),
            tried: Tried {
                at: MORNING,
                took_ms: 7,
                status: Some(status),
                error: (status != 200).then(|| format!("answered {status}")),
                answer: (status != 200).then(|| "sorry".to_owned()),
            },
            next,
        };
        let outcomes = [
            outcome(0, Next::Dead, 500),
            outcome(1, Next::Delivered, 200),
            outcome(2, Next::DueAt(MORNING.add_ms(1_000)), 503),
        ];
        gate.store.settle(CALL_RECORD, &outcomes, "t").await.expect("it is written");
        Self { gate }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let ask = Ask::new(method, &format!("/api/v1/webhooks{path}")).bearer(TOKEN);
        let ask = match &body {
            Some(body) => ask.json(body),
            None => ask,
        };
        let answer = self.gate.ask(ask).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"), "a secret shows");
        (answer.status, answer.json())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.ask(Method::POST, path, body).await
    }
}

fn events(page: &Value) -> Vec<String> {
    let items = page["data"].as_array().expect("a list");
    items.iter().map(|one| one["event_id"].as_str().expect("text").to_owned()).collect()
}

fn event(number: u64) -> String {
    format!("cdr_{}", call_id(number))
}

#[tokio::test]
async fn endpoints_show_their_state_and_no_secret() {
    let gate = Desk::with_history().await;
    let all = gate.get("").await;
    let states: Vec<_> =
        all["data"].as_array().expect("a list").iter().map(|e| &e["state"]).collect();
    assert_eq!(states, ["up", "not_configured"]);
    let one = gate.get("/callrecord").await;
    assert_eq!(one["target"], "https://billing.example");
    assert_eq!((&one["with_media"], &one["timeout_ms"]), (&json!(false), &json!(15_000)));
    let (status, body) = gate.ask(Method::GET, "/nobody", None).await;
    assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("no_such_endpoint")));
}

#[tokio::test]
async fn deliveries_are_listed_newest_first_in_pages() {
    let gate = Desk::with_history().await;
    let first = gate.get("/deliveries?limit=2").await;
    assert_eq!(events(&first), [event(3), event(2)]);
    assert!(first["data"][0].get("payload").is_none(), "a list has no payloads");
    let cursor = first["page"]["next_cursor"].as_str().expect("there is another page");
    let second = gate.get(&format!("/deliveries?limit=2&cursor={cursor}")).await;
    assert_eq!(events(&second), [event(1)]);
    assert_eq!(second["page"]["next_cursor"], Value::Null);
    for (state, number) in [("dead", 1), ("delivered", 2), ("pending", 3)] {
        let page = gate.get(&format!("/deliveries?state={state}&endpoint=callrecord")).await;
        assert_eq!(events(&page), [event(number)], "{state}");
    }
    let of_call = gate.get(&format!("/deliveries?call={}", call_id(2))).await;
    assert_eq!(events(&of_call), [event(2)]);
    for wrong in ["state=lost", "endpoint=x", "limit=0", "limit=501", "cursor=x", "colour=red"] {
        let (status, _) = gate.ask(Method::GET, &format!("/deliveries?{wrong}"), None).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn one_delivery_has_its_payload_and_every_attempt() {
    let gate = Desk::with_history().await;
    let dead = gate.get("/deliveries?state=dead").await;
    let id = dead["data"][0]["id"].as_i64().expect("a number");
    let one = gate.get(&format!("/deliveries/{id}")).await;
    assert_eq!(one["payload"]["sessionId"], call_id(1).to_string());
    assert_eq!((&one["attempts"], &one["last_error"]), (&json!(1), &json!("answered 500")));
    assert_eq!(one["log"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&one["log"][0]["status"], &one["log"][0]["answer"]),
        (&json!(500), &json!("sorry"))
    );
    for none in ["/deliveries/999", "/deliveries/x"] {
        let (status, body) = gate.ask(Method::GET, none, None).await;
        assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("no_such_delivery")));
    }
}

#[tokio::test]
async fn what_is_dead_is_replayed_and_what_is_pending_is_not() {
    let gate = Desk::with_history().await;
    let id_of = |page: Value| page["data"][0]["id"].as_i64().expect("a number");
    let dead = id_of(gate.get("/deliveries?state=dead").await);
    let (status, body) = gate.post(&format!("/deliveries/{dead}/replay"), None).await;
    assert_eq!((status, &body["state"]), (StatusCode::ACCEPTED, &json!("pending")));
    let (status, body) = gate.post(&format!("/deliveries/{dead}/replay"), None).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("delivery_pending")));
    let since = |text: &str| Some(json!({ "since": text }));
    let (status, body) = gate.post("/callrecord/replay", since("2026-11-24T00:00:00Z")).await;
    assert_eq!(
        (status, &body["replayed"]),
        (StatusCode::ACCEPTED, &json!(0)),
        "none is dead any more"
    );
    for wrong in [None, since("yesterday"), Some(json!({})), Some(json!({ "since": 3 }))] {
        let (status, body) = gate.post("/callrecord/replay", wrong).await;
        assert!(matches!(status.as_u16(), 400 | 422), "{status}: {body}");
    }
}

#[tokio::test]
async fn all_dead_ones_since_a_time_are_replayed() {
    let gate = Desk::with_history().await;
    let since = |text: &str| Some(json!({ "since": text }));
    let (_, body) = gate.post("/callrecord/replay", since("2026-11-24T10:00:00.001Z")).await;
    assert_eq!(body["replayed"], 0);
    let (_, body) = gate.post("/callrecord/replay", since("2026-11-24T10:00:00Z")).await;
    assert_eq!(body["replayed"], 1);
    assert_eq!(events(&gate.get("/deliveries?state=pending").await), [event(3), event(1)]);
}

#[tokio::test]
async fn the_switch_and_the_test_event_need_a_configured_endpoint() {
    let gate = Desk::with_history().await;
    let (status, body) = gate.post("/callrecord/disable", None).await;
    assert_eq!((status, &body["state"]), (StatusCode::OK, &json!("disabled")));
    assert_eq!(body["reason"], "an operator switched it off");
    let (status, body) = gate.post("/callrecord/enable", None).await;
    assert_eq!((status, &body["state"]), (StatusCode::OK, &json!("up")));
    let (status, body) = gate.post("/callrecord/test", None).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let pending = gate.get("/deliveries?state=pending&limit=1").await;
    assert_eq!(events(&pending)[0], body["event_id"].as_str().expect("text"));
    assert_eq!(pending["data"][0]["kind"], "test");
    for path in ["/locator/enable", "/locator/disable", "/locator/test"] {
        let (status, body) = gate.post(path, None).await;
        let code = json!("endpoint_not_configured");
        assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &code), "{path}");
    }
    for path in ["/callrecord/test", "/callrecord/enable", "/callrecord/replay"] {
        let (status, _) = gate.ask(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}

#[tokio::test]
async fn reading_and_changing_take_different_rights_and_changes_are_written_down() {
    let gate = Desk::with_history().await;
    let ask = |method, path: &str, scope| {
        let ask = Ask::new(method, &format!("/api/v1/webhooks{path}")).bearer(&only(scope));
        gate.gate.ask(ask)
    };
    let denied = ask(Method::GET, "", "cdr:read").await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let denied = ask(Method::POST, "/callrecord/disable", "system:read").await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let done = ask(Method::POST, "/callrecord/disable", "webhooks:write").await;
    assert_eq!(done.status, StatusCode::OK);
    let deeds = gate.gate.audit().await;
    assert!(
        deeds.iter().any(|(action, object, _)| {
            action == "webhook.disable" && object == "webhook callrecord"
        }),
        "{deeds:?}"
    );
}
