//! Contract 5: what only the new prefix has: problems, the event stream, the document, probes.

use serde_json::json;

use crate::integrator::SOON;
use crate::integrator::gate::{Gate, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn contract_5_errors_are_problem_json_with_a_stable_code() {
    let gate = Gate::start(&Setup::with_users(&["1001"])).await;
    let hangup = json!({"action": "hangup"});
    let answers = [
        gate.client
            .post("/api/v1/calls/active/no-such-call/commands", &hangup)
            .await
            .expect(&[404]),
        gate.client.post("/api/v1/commands", &json!({"action": "explode"})).await.expect(&[422]),
        gate.client.stranger().get("/api/v1/call-records").await.expect(&[401]),
        gate.client.get("/api/v1/no-such-thing").await.expect(&[404]),
    ];
    for answer in answers {
        let kind = answer.header("content-type");
        assert!(kind.starts_with("application/problem+json"), "{}: {kind}", answer.what);
        let problem = answer.json();
        assert_eq!(problem["status"], answer.status, "{problem}");
        assert!(problem["code"].as_str().is_some_and(|code| !code.is_empty()), "{problem}");
        assert!(problem["title"].is_string() && problem["type"].is_string(), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_5_the_same_idempotency_key_makes_one_call() {
    let gate = Gate::start(&Setup::with_users(&["1001", "1002"])).await;
    let (mut first, mut second) = (gate.phone("1001").await, gate.phone("1002").await);
    let body = json!({"action": "originate", "from": "1001", "to": "1002"});
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = gate.client.post_with("/api/v1/commands", &body, "Idempotency-Key", "click-1");
        ids.push(answer.await.expect(&[202]).json()["call_id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    let (_, leg) = first.pick_up().await;
    second.pick_up().await;
    first.assert_quiet("INVITE").await;
    tokio::join!(first.hang_up(&leg), second.hear_bye());
}

/// Reads the stream until something holds.
async fn read_until(
    response: &mut reqwest::Response,
    what: &str,
    holds: impl Fn(&str) -> bool,
) -> String {
    let mut text = String::new();
    let whole = tokio::time::timeout(SOON, async {
        while !holds(&text) {
            let piece = response.chunk().await.expect("the stream stands");
            let piece = piece.expect("the stream does not end");
            text += &String::from_utf8_lossy(&piece);
        }
    });
    let outcome = whole.await;
    assert!(outcome.is_ok(), "{what} is not in: {text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_5_events_stream_registrations_and_calls_and_resume() {
    let gate = Gate::start(&Setup::with_users(&["1001", "1002"])).await;
    let mut stream = gate.client.open_after("/api/v1/events", None).await;
    assert_eq!(stream.status().as_u16(), 200);
    let kind = stream.headers()["content-type"].to_str().expect("text").to_owned();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let mut caller = gate.phone("1001").await;
    let text = read_until(&mut stream, "the registration", |text| {
        text.contains("1001") && text.contains("\n\n")
    })
    .await;
    let id = text.lines().find_map(|line| line.strip_prefix("id:")).expect("events have ids");
    let id = id.trim().to_owned();
    let mut callee = gate.phone("1002").await;
    let ((_, leg), _) = tokio::join!(caller.invite("sip:1002@pbx.com"), callee.pick_up());
    let leg = leg.expect("a dialog");
    read_until(&mut stream, "the call", |text| text.contains(&leg.call_id)).await;
    // Somebody who was away hears what he missed.
    let mut again = gate.client.open_after("/api/v1/events", Some(&id)).await;
    read_until(&mut again, "the call, after the fact", |text| text.contains(&leg.call_id)).await;
    tokio::join!(caller.hang_up(&leg), callee.hear_bye());
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_5_openapi_names_every_endpoint_of_the_contract() {
    let gate = Gate::start(&Setup::default()).await;
    let document = gate.client.get("/api/v1/openapi.json").await.expect(&[200]).json();
    assert!(document["openapi"].as_str().is_some_and(|v| v.starts_with("3.1")), "{document}");
    let paths = document["paths"].as_object().expect("paths");
    let verbs = |path: &str| -> Vec<String> {
        let shown = paths.iter().find(|(own, _)| {
            // Names of parameters are the document's own.
            let plain = |text: &str| {
                let words = text.split('/').map(|w| if w.starts_with('{') { "{}" } else { w });
                words.collect::<Vec<_>>().join("/")
            };
            plain(own).ends_with(&plain(path))
        });
        let shown = shown.and_then(|(_, operations)| operations.as_object());
        shown.map(|all| all.keys().cloned().collect()).unwrap_or_default()
    };
    let mut missing = Vec::new();
    for (path, needed) in [
        ("/api/v1/login", &["post"][..]),
        ("/api/v1/calls/active", &["get"]),
        ("/api/v1/calls/active/{call_id}/commands", &["post"]),
        ("/api/v1/extensions", &["get", "post"]),
        ("/api/v1/extensions/{id}", &["get", "put", "patch", "delete"]),
        ("/api/v1/call-records", &["get", "post"]),
        ("/api/v1/call-records/{id}", &["get"]),
        ("/api/v1/call-records/{id}/recording", &["get"]),
        ("/api/v1/call-records/{id}/sip-flow", &["get"]),
        ("/api/v1/call-records/{id}/pcap", &["get"]),
        ("/api/v1/commands", &["post"]),
        ("/api/v1/events", &["get"]),
        ("/ami/v1/health", &["get"]),
        ("/ami/v1/dialogs", &["get"]),
        ("/ami/v1/shutdown", &["post"]),
        ("/ami/v1/originate", &["post"]),
    ] {
        let found = verbs(path);
        for verb in needed {
            if !found.iter().any(|own| own == verb) {
                missing.push(format!("{verb} {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?} not in {:?}", paths.keys().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_5_metrics_and_probes_answer() {
    let gate = Gate::start(&Setup::default()).await;
    let metrics = gate.client.get("/metrics").await.expect(&[200]);
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.contains("# TYPE ") && text.contains("# HELP "), "{text}");
    for path in ["/livez", "/readyz"] {
        gate.client.stranger().get(path).await.expect(&[200]);
    }
}
