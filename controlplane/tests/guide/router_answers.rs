//! Guide 1.1 and contract 3: every other action of the router, and every other field of its answer.

use std::time::{Duration, Instant};

use loadtest::phone::Phone;
use serde_json::{Value, json};

use super::router::{FALLBACK, NO_FALLBACK, answering, setup};
use crate::integrator::gate::Gate;
use crate::integrator::receiver::{Receiver, Reply};
use crate::integrator::shape::find;
use crate::integrator::{SOON, talk, until};

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_action_reject_gives_the_caller_status_and_reason() {
    let (router, gate) = answering(&Value::Null).await;
    let mut caller = gate.agent("1001").await;
    let cases = [
        (
            json!({"action": "reject", "status": 486, "reason": "Agent on a break"}),
            486,
            "Agent on a break",
        ),
        (json!({"action": "reject", "status": 603, "reason": "Decline"}), 603, "Decline"),
        (json!({"action": "reject"}), 403, ""),
        (json!({"action": "abort", "status": 480, "reason": "Closed"}), 480, "Closed"),
        (json!({"action": "abort"}), 403, ""),
        (json!({"action": "spam"}), 403, ""),
    ];
    for (reply, status, reason) in cases {
        router.say(Reply::json(200, &reply));
        let (answer, _) = caller.invite("sip:200@pbx.com").await;
        assert_eq!(answer.status(), status, "{reply}: {answer:?}");
        if !reason.is_empty() {
            assert_eq!(answer.reason(), reason, "{reply}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_action_not_handled_leaves_the_call_to_internal_routes() {
    for lines in [FALLBACK, NO_FALLBACK] {
        let router = Receiver::saying(200, &json!({"action": "not_handled"})).await;
        let gate = Gate::start(&setup(&router, lines)).await;
        let (mut caller, mut callee) = (gate.agent("1001").await, gate.phone("1002").await);
        let ((answer, leg), _) = tokio::join!(caller.invite("sip:1002@pbx.com"), callee.pick_up());
        assert_eq!(answer.status(), 200, "{lines}: {answer:?}");
        assert_eq!(router.count(), 1);
        let leg = leg.expect("a dialog");
        tokio::join!(caller.hang_up(&leg), callee.hear_bye());
    }
}

/// Whose address the callee is given for its media, for each word of the guide and the contract.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_response_media_proxy_says_whether_media_passes_through_us() {
    let (router, gate) = answering(&Value::Null).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.agent("bot").await);
    let mut wrong = Vec::new();
    // Both ends have the address that we see, so that `nat` has nothing to mend and `auto` is free.
    let words = [
        ("always", Some(true)),
        ("all", Some(true)),
        ("none", Some(false)),
        ("bypass", Some(false)),
        ("auto", None),
        ("nat", None),
        ("no-such-word", Some(true)),
    ];
    for (word, anchored) in words {
        let reply = json!({"action": "forward", "targets": [callee.uri()], "media_proxy": word});
        router.say(Reply::json(200, &reply));
        let called = async {
            let invite = callee.ring().await;
            callee.answer(&invite, 200, "OK").await;
            callee.request("ACK").await;
            invite
        };
        let ((answer, leg), invite) = tokio::join!(caller.invite("sip:200@pbx.com"), called);
        assert_eq!(answer.status(), 200, "{word}: {answer:?}");
        let through = invite.audio().expect("an offer").1 != caller.local.port() ^ 1;
        if anchored.is_some_and(|anchored| anchored != through) {
            wrong.push(format!("{word}: media passes through the gateway: {through}"));
        }
        let leg = leg.expect("a dialog");
        tokio::join!(caller.hang_up(&leg), callee.hear_bye());
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_response_reserved_headers_are_not_injected() {
    let (router, gate) = answering(&Value::Null).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.agent("bot").await);
    let headers = json!({
        "X-Call-Reason": "support-ticket-123",
        "Via": "SIP/2.0/UDP 192.0.2.66;branch=z9hG4bKforged",
        "Route": "<sip:192.0.2.66;lr>",
        "Contact": "<sip:forged@192.0.2.66>",
        "Content-Length": "1",
        "Authorization": "Digest forged"
    });
    let reply = json!({"action": "forward", "targets": [callee.uri()], "headers": headers});
    router.say(Reply::json(200, &reply));
    let ((answer, leg), (invite, _)) =
        tokio::join!(caller.invite("sip:200@pbx.com"), callee.pick_up());
    assert_eq!(answer.status(), 200, "{answer:?}");
    let shown: Vec<_> =
        invite.headers.iter().filter(|(_, value)| value.contains("forged")).collect();
    assert!(shown.is_empty(), "{shown:?}");
    assert!(!invite.headers.iter().any(|(_, value)| value.contains("192.0.2.66")));
    assert_eq!(invite.header("X-Call-Reason"), "support-ticket-123");
    let leg = leg.expect("a dialog");
    tokio::join!(caller.hang_up(&leg), callee.hear_bye());
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_response_with_original_headers_decides_whether_the_callers_go_on() {
    let (router, gate) = answering(&Value::Null).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.agent("bot").await);
    caller.headers = vec![("X-Client-ID", "998877".to_owned())];
    for (wanted, value) in [(true, "998877"), (false, "")] {
        let reply = json!({
            "action": "forward", "targets": [callee.uri()], "with_original_headers": wanted
        });
        router.say(Reply::json(200, &reply));
        let ((answer, leg), (invite, _)) =
            tokio::join!(caller.invite("sip:200@pbx.com"), callee.pick_up());
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(invite.header("X-Client-ID"), value, "with_original_headers: {wanted}");
        let leg = leg.expect("a dialog");
        tokio::join!(caller.hang_up(&leg), callee.hear_bye());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_response_max_duration_limits_the_call() {
    let (router, gate) = answering(&Value::Null).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.agent("bot").await);
    let reply = json!({"action": "forward", "targets": [callee.uri()], "max_duration": 2});
    router.say(Reply::json(200, &reply));
    let ((answer, _), _) = tokio::join!(caller.invite("sip:200@pbx.com"), callee.pick_up());
    assert_eq!(answer.status(), 200, "{answer:?}");
    let since = Instant::now();
    tokio::join!(caller.hear_bye(), callee.hear_bye());
    let talked = since.elapsed();
    assert!(talked.abs_diff(Duration::from_secs(2)) < Duration::from_secs(1), "{talked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_response_allow_codecs_narrows_the_offer() {
    let (router, gate) = answering(&Value::Null).await;
    let (mut caller, mut callee) = (gate.agent("1001").await, gate.agent("bot").await);
    let reply = json!({"action": "forward", "targets": [callee.uri()], "allow_codecs": ["pcma"]});
    router.say(Reply::json(200, &reply));
    let ((answer, leg), (invite, _)) =
        tokio::join!(caller.invite("sip:200@pbx.com"), callee.pick_up());
    assert_eq!(answer.status(), 200, "{answer:?}");
    let line = invite.body.lines().find(|line| line.starts_with("m=audio")).expect("audio");
    let formats: Vec<&str> = line.split(' ').skip(3).collect();
    assert_eq!(formats, ["8"], "{}", invite.body);
    let leg = leg.expect("a dialog");
    tokio::join!(caller.hang_up(&leg), callee.hear_bye());
}

/// `record` decides for this call alone.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_response_record_decides_for_this_call() {
    let (router, gate) = answering(&Value::Null).await;
    let mut caller = talk::phone(&gate, "1001").await;
    let mut bot = Phone::bind(gate.sip, "bot", "").expect("a socket");
    let target = format!("sip:bot@{}", bot.local_addr());
    let reply = json!({"action": "forward", "targets": [target], "record": true});
    router.say(Reply::json(200, &reply));
    let (calling, called) = talk::joined(&mut caller, "200", &mut bot).await;
    talk::goes_on(&called, Duration::from_secs(1)).await;
    let standing = gate.standing().await;
    assert_eq!(find(&standing, "recording"), Some(&json!(true)), "{standing}");
    let call_id = calling.call_id().to_owned();
    calling.hang_up().await.expect("it hangs up");
    let path = format!("/console/call-records/{call_id}/recording");
    let wav = until("the recording", SOON, async || {
        let answer = gate.client.get(&path).await;
        (answer.status == 200).then_some(answer.body)
    });
    talk::assert_stereo(&wav.await);
}

/// Request, answer, latency and outcome are kept with the call.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_1_the_exchange_with_the_router_is_kept_with_the_call() {
    let reply = json!({"action": "reject", "status": 486, "reason": "Agent on a break"});
    let (_router, gate) = answering(&reply).await;
    let (answer, _) = gate.agent("1001").await.invite("sip:200@pbx.com").await;
    let record = gate.record(answer.call_id()).await.to_string();
    assert!(record.contains("Agent on a break"), "the answer: {record}");
    assert!(record.contains("sip:200@pbx.com") && record.contains("m=audio"), "{record}");
    assert!(!record.contains("secret-token"), "the key is nobody's business: {record}");
}
