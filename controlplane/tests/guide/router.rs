//! Guide 1.1, HTTP router: the request, the sample response, forwarding, the fallback.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::integrator::gate::{Gate, Setup};
use crate::integrator::receiver::{Receiver, Reply};
use crate::integrator::shape::assert_like;

/// The guide's configuration with our own address in it.
pub(crate) fn setup(router: &Receiver, more: &str) -> Setup {
    let url = router.url("/pbx/route");
    Setup::with_users(&["1001", "1002", "200"]).section(&format!(
        "[proxy.http_router]\nurl = \"{url}\"\n{more}\n\
         [proxy.http_router.headers]\nX-API-Key = \"secret-token\"\n"
    ))
}

pub(crate) const FALLBACK: &str = "fallback_to_static = true\ntimeout_ms = 5000";
pub(crate) const NO_FALLBACK: &str = "fallback_to_static = false\ntimeout_ms = 5000";

/// A gateway whose router says the same about every call.
pub(crate) async fn answering(answer: &Value) -> (Receiver, Gate) {
    let router = Receiver::saying(200, answer).await;
    let gate = Gate::start(&setup(&router, NO_FALLBACK)).await;
    (router, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_request_every_invite_is_posted_with_the_fields_of_the_sample() {
    let (router, gate) = answering(&json!({"action": "reject", "status": 404})).await;
    let mut caller = gate.agent("1001").await;
    caller.headers =
        vec![("User-Agent", "Yealink T54W".to_owned()), ("X-Client-ID", "998877".to_owned())];
    for call in 0..2 {
        let (answer, _) = caller.invite("sip:200@pbx.com").await;
        assert_eq!(answer.status(), 404, "{answer:?}");
        let asked = router.nth(call).await;
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/pbx/route"));
        assert_eq!(asked.header("X-API-Key"), "secret-token");
        assert!(asked.header("content-type").starts_with("application/json"), "{asked:?}");
        let body = asked.json();
        let sample = json!({
            "call_id": "ab39-551-229",
            "from": "<sip:1001@pbx.com>",
            "to": "<sip:200@pbx.com>",
            "source_addr": "1.2.3.4:5060",
            "uri": "sip:200@pbx.com",
            "headers": {"User-Agent": "Yealink T54W", "X-Client-ID": "998877"},
            "body": "v=0\r\n..."
        });
        assert_like(&body, &sample);
        assert_eq!(body["call_id"], answer.call_id(), "{body:#}");
        assert_eq!(body["uri"], "sip:200@pbx.com");
        assert_eq!(body["to"], "<sip:200@pbx.com>");
        let from = body["from"].as_str().expect("a text");
        assert!(from.starts_with("<sip:1001@pbx.com>"), "{from}");
        assert_eq!(body["source_addr"], caller.local.to_string());
        assert_eq!(body["headers"]["User-Agent"], "Yealink T54W");
        assert_eq!(body["headers"]["X-Client-ID"], "998877");
        let sdp = body["body"].as_str().expect("a text");
        assert!(sdp.starts_with("v=0\r\n") && sdp.contains("m=audio"), "the full SDP: {sdp}");
        // What the contract adds to the guide.
        assert_eq!((&body["caller"], &body["callee"]), (&json!("1001"), &json!("200")));
        assert_eq!((&body["method"], &body["direction"]), (&json!("INVITE"), &json!("internal")));
        let secret = |name: &&String| name.to_ascii_lowercase().ends_with("authorization");
        let headers = body["headers"].as_object().expect("an object");
        assert_eq!(headers.keys().find(secret), None, "credentials stay with us");
    }
    assert_eq!(router.count(), 2, "one question for each INVITE that may call");
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_request_the_from_of_the_sample_is_a_bare_address() {
    let (router, gate) = answering(&json!({"action": "reject"})).await;
    gate.agent("1001").await.invite("sip:200@pbx.com").await;
    assert_eq!(router.nth(0).await.json()["from"], "<sip:1001@pbx.com>");
}

/// The guide's printed response, with the two lines that its printing lost.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_response_the_sample_rings_target_1_and_then_target_2() {
    let router = Receiver::saying(200, &Value::Null).await;
    let gate = Gate::start(&setup(&router, NO_FALLBACK)).await;
    let mut caller = gate.agent("1001").await;
    let (mut first, mut second) = (gate.agent("extension").await, gate.agent("mobile").await);
    let answer = json!({
        "action": "forward",
        "targets": [first.uri(), second.uri()],
        "timeout": 30,
        "media_proxy": "auto",
        "headers": {"X-Call-Reason": "support-ticket-123"}
    });
    router.say(Reply::json(200, &answer));
    let refused = async {
        let invite = first.ring().await;
        assert_eq!(invite.header("X-Call-Reason"), "support-ticket-123");
        first.answer(&invite, 486, "Busy Here").await;
        first.request("ACK").await;
    };
    let taken = async {
        let (invite, leg) = second.pick_up().await;
        assert_eq!(invite.header("X-Call-Reason"), "support-ticket-123");
        assert_eq!(invite.request_uri(), second.uri());
        leg
    };
    let ((final_answer, leg), (), _) =
        tokio::join!(caller.invite("sip:200@pbx.com"), refused, taken);
    assert_eq!(final_answer.status(), 200, "{final_answer:?}");
    let (audio, ours) = (final_answer.audio().expect("an answer"), second.local.port() ^ 1);
    assert_ne!(audio.1, ours, "auto: media passes through the gateway");
    let leg = leg.expect("a dialog");
    tokio::join!(caller.hang_up(&leg), second.hear_bye());
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_response_targets_without_an_action_are_a_forward() {
    let router = Receiver::saying(200, &Value::Null).await;
    let gate = Gate::start(&setup(&router, NO_FALLBACK)).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.agent("bot").await);
    router.say(Reply::json(200, &json!({"targets": [callee.uri()]})));
    let ((answer, leg), _) = tokio::join!(caller.invite("sip:200@pbx.com"), callee.pick_up());
    assert_eq!(answer.status(), 200, "{answer:?}");
    let leg = leg.expect("a dialog");
    tokio::join!(caller.hang_up(&leg), callee.hear_bye());
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_response_timeout_is_the_ring_timeout_in_seconds() {
    for name in ["timeout", "max_ring_time"] {
        let router = Receiver::saying(200, &Value::Null).await;
        let gate = Gate::start(&setup(&router, NO_FALLBACK)).await;
        let (mut caller, mut first) = (gate.agent("1001").await, gate.agent("first").await);
        let mut second = gate.agent("second").await;
        let targets = [first.uri(), second.uri()];
        router.say(Reply::json(200, &json!({"action": "forward", "targets": targets, name: 2})));
        let rings = async {
            let invite = first.ring().await;
            let since = Instant::now();
            first.hear_cancel(&invite).await;
            since.elapsed()
        };
        let ((answer, leg), rang, _) =
            tokio::join!(caller.invite("sip:200@pbx.com"), rings, second.pick_up());
        assert_eq!(answer.status(), 200, "{name}: {answer:?}");
        assert!(rang.abs_diff(Duration::from_secs(2)) < Duration::from_secs(1), "{name}: {rang:?}");
        let leg = leg.expect("a dialog");
        tokio::join!(caller.hang_up(&leg), second.hear_bye());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_response_strategy_parallel_rings_both_and_the_first_answer_wins() {
    let router = Receiver::saying(200, &Value::Null).await;
    let gate = Gate::start(&setup(&router, NO_FALLBACK)).await;
    let (mut caller, mut slow) = (gate.agent("1001").await, gate.agent("slow").await);
    let mut quick = gate.agent("quick").await;
    let targets = [slow.uri(), quick.uri()];
    let answer = json!({"action": "forward", "targets": targets, "strategy": "parallel"});
    router.say(Reply::json(200, &answer));
    let (rings, rang) = tokio::sync::oneshot::channel();
    let loses = async {
        let invite = slow.ring().await;
        rings.send(()).expect("somebody waits");
        slow.hear_cancel(&invite).await;
    };
    let wins = async {
        let invite = quick.ring().await;
        rang.await.expect("both ring");
        quick.answer(&invite, 200, "OK").await;
        quick.request("ACK").await;
    };
    let ((answer, leg), (), ()) = tokio::join!(caller.invite("sip:200@pbx.com"), loses, wins);
    assert_eq!(answer.status(), 200, "{answer:?}");
    let leg = leg.expect("a dialog");
    tokio::join!(caller.hang_up(&leg), quick.hear_bye());
}

/// "If your API fails, use internal routes": 500, a refusal, nonsense, silence.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_config_fallback_to_static_uses_internal_routes_when_the_api_fails() {
    let router = Receiver::saying(500, &json!({"error": "database down"})).await;
    let lines = "fallback_to_static = true\ntimeout_ms = 300";
    let gate = Gate::start(&setup(&router, lines)).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.phone("1002").await);
    let replies = [
        Reply::json(500, &json!({"error": "database down"})),
        Reply::json(403, &json!({})),
        Reply::text(200, "<html>welcome</html>"),
        Reply::never(),
    ];
    for reply in replies {
        let shown = format!("{reply:?}");
        router.say(reply);
        let ((answer, leg), _) = tokio::join!(caller.invite("sip:1002@pbx.com"), callee.pick_up());
        assert_eq!(answer.status(), 200, "{shown}: {answer:?}");
        let leg = leg.expect("a dialog");
        tokio::join!(caller.hang_up(&leg), callee.hear_bye());
    }
    assert_eq!(router.count(), 4, "each call was asked about");
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_config_without_the_fallback_the_caller_hears_503_and_when_to_come_back() {
    let router = Receiver::saying(500, &json!({})).await;
    let gate = Gate::start(&setup(&router, NO_FALLBACK)).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.phone("1002").await);
    let (answer, _) = caller.invite("sip:1002@pbx.com").await;
    assert_eq!(answer.status(), 503, "{answer:?}");
    let wait: u32 = answer.header("Retry-After").parse().expect("seconds");
    assert!(wait > 0);
    callee.assert_quiet("INVITE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_config_timeout_ms_bounds_the_wait_for_the_api() {
    let router = Receiver::start(|_| Reply::never()).await;
    let gate = Gate::start(&setup(&router, "fallback_to_static = false\ntimeout_ms = 400")).await;
    let mut caller = gate.agent("1001").await;
    let since = Instant::now();
    let (answer, _) = caller.invite("sip:1002@pbx.com").await;
    let took = since.elapsed();
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!((400..2_400).contains(&took.as_millis()), "{took:?}");
}
