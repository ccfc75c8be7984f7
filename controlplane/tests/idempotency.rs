//! `Idempotency-Key`: a POST that is sent twice happens once.

mod stand_ins;

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use controlplane::store::{
    Connections, Db, IdempotencyKey, IdempotencyKeys, KeptAnswer, KeyTake, Taken, Users,
};
use serde_json::{Value, json};
use stand_ins::asking::{Answer, Ask, Gate};
use stand_ins::{TOKEN, only, postgres};

const DAY_MS: i64 = 24 * 3_600_000;

fn user(name: &str) -> Value {
    json!({ "username": name, "password": "a long enough password" })
}

async fn post(gate: &Gate, path: &str, key: &str, body: &Value) -> Answer {
    let ask = Ask::post(path).bearer(TOKEN).json(body).header("idempotency-key", key);
    gate.ask(ask).await
}

fn replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_nothing_happens_again() {
    let gate = Gate::with_users("").await;
    let first = post(&gate, "/api/v1/users", "k1", &user("carol")).await;
    assert_eq!((first.status, replayed(&first)), (StatusCode::CREATED, false));
    let second = post(&gate, "/api/v1/users", "k1", &user("carol")).await;
    assert_eq!((second.status, replayed(&second)), (StatusCode::CREATED, true));
    assert_eq!(second.body, first.body);
    for name in [header::CONTENT_TYPE, header::ETAG] {
        assert_eq!(second.headers[&name], first.headers[&name]);
    }
    let made = gate.audit().await.into_iter().filter(|row| row.0 == "user.create").count();
    assert_eq!(made, 1);
    let without = gate.ask(Ask::post("/api/v1/users").bearer(TOKEN).json(&user("carol"))).await;
    without.assert_problem(StatusCode::CONFLICT, "name_taken");
    // A refusal is an answer like any other.
    for again in [false, true] {
        let taken = post(&gate, "/api/v1/users", "k2", &user("carol")).await;
        taken.assert_problem(StatusCode::CONFLICT, "name_taken");
        assert_eq!(replayed(&taken), again);
    }
}

#[tokio::test]
async fn a_key_belongs_to_one_caller_one_route_and_one_body() {
    let gate = Gate::with_users("").await;
    post(&gate, "/api/v1/users", "k", &user("carol")).await;
    let other = post(&gate, "/api/v1/users", "k", &user("dora")).await;
    other.assert_problem(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused");
    assert!(gate.store.login("dora").await.expect("read").is_none());
    let route = post(&gate, "/api/v1/call-records", "k", &json!({})).await;
    assert_eq!((route.status, replayed(&route)), (StatusCode::OK, false));
    let (session, _) = gate.login("ada").await;
    let ask = Ask::post("/api/v1/users").session(&session).json(&user("dora"));
    let caller = gate.ask(ask.header("idempotency-key", "k")).await;
    assert_eq!((caller.status, replayed(&caller)), (StatusCode::CREATED, false));
    // Who may not do it learns nothing from a key.
    let ask = Ask::post("/api/v1/users").bearer(&only("cdr:read")).json(&user("carol"));
    let denied = gate.ask(ask.header("idempotency-key", "k")).await;
    denied.assert_problem(StatusCode::FORBIDDEN, "permission_missing");
}

#[tokio::test]
async fn a_twin_that_comes_too_early_is_told_to_wait() {
    let gate = Gate::with_users("").await;
    // Hashing the password takes its time, so the first one is still at it.
    let body = user("carol");
    let (one, other) = tokio::join!(
        post(&gate, "/api/v1/users", "k", &body),
        post(&gate, "/api/v1/users", "k", &body),
    );
    let (done, early) = if one.status == StatusCode::CREATED { (one, other) } else { (other, one) };
    assert_eq!(done.status, StatusCode::CREATED);
    early.assert_problem(StatusCode::CONFLICT, "idempotency_in_flight");
    assert_eq!(early.headers[header::RETRY_AFTER], "1");
    assert!(replayed(&post(&gate, "/api/v1/users", "k", &user("carol")).await));
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_undo_what_it_began() {
    let gate = Gate::with_users("").await;
    let body = user("carol");
    {
        let ask = post(&gate, "/api/v1/users", "k", &body);
        let mut ask = std::pin::pin!(ask);
        // Until the key is taken and the work has begun.
        while gate.access.passwords().computed() == 0 {
            let step = std::future::poll_fn(|context| {
                std::task::Poll::Ready(ask.as_mut().poll(context).is_ready())
            });
            assert!(!step.await, "it is not done yet");
            tokio::task::yield_now().await;
        }
    }
    loop {
        let again = post(&gate, "/api/v1/users", "k", &user("carol")).await;
        if again.code() == "idempotency_in_flight" {
            tokio::task::yield_now().await;
            continue;
        }
        assert_eq!((again.status, replayed(&again)), (StatusCode::CREATED, true));
        break;
    }
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() {
    let gate = Gate::with_users("").await;
    let search = json!({ "page": 1 });
    post(&gate, "/api/v1/call-records", "k", &search).await;
    gate.advance(DAY_MS - 1);
    assert!(replayed(&post(&gate, "/api/v1/call-records", "k", &search).await));
    gate.advance(2);
    assert!(!replayed(&post(&gate, "/api/v1/call-records", "k", &search).await));
}

#[tokio::test]
async fn a_secret_that_is_shown_once_does_not_come_again() {
    let gate = Gate::with_users("").await;
    let body = json!({ "name": "t", "scopes": ["ami"] });
    let first = post(&gate, "/api/v1/tokens", "k", &body).await;
    assert_eq!(first.status, StatusCode::CREATED);
    let again = post(&gate, "/api/v1/tokens", "k", &body).await;
    again.assert_problem(StatusCode::CONFLICT, "idempotency_unknown");
    let list = gate.ask(Ask::get("/api/v1/tokens").bearer(TOKEN)).await.json();
    assert_eq!(list["page"]["total_estimate"], 1, "there is one all the same");
}

#[tokio::test]
async fn a_failure_of_ours_may_be_tried_again() {
    let gate = Gate::with_users("").await;
    let body = json!({ "action": "originate", "from": "1001", "to": "1002" });
    gate.plane.full.store(true, Ordering::Relaxed);
    let failed = post(&gate, "/api/v1/commands", "k", &body).await;
    failed.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "shards_silent");
    gate.plane.full.store(false, Ordering::Relaxed);
    for again in [false, true] {
        let started = post(&gate, "/api/v1/commands", "k", &body).await;
        assert_eq!((started.status, replayed(&started)), (StatusCode::ACCEPTED, again));
    }
    assert_eq!(gate.plane.wished.lock().expect("no panic").len(), 1, "one call for one key");
}

#[tokio::test]
async fn keys_that_are_none_are_refused() {
    let gate = Gate::with_users("").await;
    let long = "k".repeat(256);
    for key in ["", long.as_str()] {
        let answer = post(&gate, "/api/v1/users", key, &user("carol")).await;
        answer.assert_problem(StatusCode::BAD_REQUEST, "idempotency_key_invalid");
    }
    let longest = post(&gate, "/api/v1/users", &long[1..], &user("carol")).await;
    assert_eq!(longest.status, StatusCode::CREATED);
    let mut twice = Ask::post("/api/v1/users").bearer(TOKEN).json(&user("dora"));
    for key in ["a", "b"] {
        twice.request.headers_mut().append("idempotency-key", key.parse().expect("a value"));
    }
    let twice = gate.ask(twice).await;
    twice.assert_problem(StatusCode::BAD_REQUEST, "idempotency_key_invalid");
    let mut big = Ask::post("/api/v1/users").bearer(TOKEN).header("idempotency-key", "big");
    *big.request.body_mut() = Body::from(vec![b'x'; (1 << 20) + 1]);
    gate.ask(big).await.assert_problem(StatusCode::PAYLOAD_TOO_LARGE, "body_too_long");
    // Other methods have no use for a key and pass.
    let get = Ask::new(Method::GET, "/api/v1/users").bearer(TOKEN).header("idempotency-key", "k");
    assert_eq!(gate.ask(get).await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_a_database_nothing_is_begun() {
    let gate = Gate::with_users("").await;
    gate.store.real.close().await;
    let answer = post(&gate, "/api/v1/users", "k", &user("carol")).await;
    answer.assert_problem(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable");
    assert_eq!(gate.access.passwords().computed(), 0);
}

#[tokio::test]
async fn both_databases_keep_keys_alike() {
    let sqlite = Db::in_memory().await.expect("a database in memory");
    for store in [sqlite, postgres::db().await] {
        let key = |key: &str| IdempotencyKey {
            caller: "user 1".to_owned(),
            route: "POST /x".to_owned(),
            key: key.to_owned(),
        };
        let take = |now: i64| KeyTake {
            fingerprint: "f".to_owned(),
            run: "r".to_owned(),
            now,
            oldest: now - 100,
            keys_max: 2,
        };
        let taken = async |name: &str, now: i64| {
            store.take_key(&key(name), &take(now)).await.expect("answered")
        };
        assert_eq!(taken("a", 1_000).await, Taken::Now);
        let Taken::Known(known) = taken("a", 1_001).await else { panic!("it is taken") };
        assert_eq!((known.run.as_str(), known.answer), ("r", None));
        let kept = KeptAnswer { status: 201, headers: "{}".to_owned(), body: Some("x".to_owned()) };
        store.keep_answer(&key("a"), &kept).await.expect("stored");
        let Taken::Known(known) = taken("a", 1_002).await else { panic!("it is taken") };
        assert_eq!(known.answer, Some(kept));
        assert_eq!(taken("b", 1_003).await, Taken::Now);
        assert_eq!(taken("c", 1_004).await, Taken::TooMany);
        store.free_key(&key("b")).await.expect("stored");
        assert_eq!(taken("c", 1_005).await, Taken::Now);
        assert_eq!(taken("a", 1_101).await, Taken::Now, "its day is over");
    }
}

#[tokio::test]
async fn every_code_is_in_the_catalogue() {
    let gate = Gate::with_users("").await;
    let list = gate.ask(Ask::get("/api/v1/errors").bearer(TOKEN)).await.json();
    let codes = list["data"].as_array().expect("a list");
    assert_eq!(codes.len(), controlplane::api::Code::ALL.len());
    for known in ["name_taken", "idempotency_in_flight", "login_refused", "not_built"] {
        let found = codes.iter().find(|code| code["code"] == known).expect(known);
        assert!(found["status"].as_u64().is_some_and(|status| (400..600).contains(&status)));
        assert_eq!(found["type"], format!("urn:ringgate:problem:{known}"));
    }
    // Nothing else in the program writes a problem: what is emitted is in the list.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let mut writers = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of the API") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.contains("from_static(\"application/problem+json\")") {
            writers.push(path.file_name().expect("a name").to_string_lossy().into_owned());
        }
    }
    assert_eq!(writers, ["problem.rs"]);
}
