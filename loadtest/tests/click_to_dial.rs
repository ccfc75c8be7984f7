//! Scenario A of the guide: a program asks for a call between two baresip phones.
//! Owns:  the proof with phones that we did not write, over the program's own API.
//! Gives: audio both ways, one CDR with the parties as people expect them, a recording.
//! Never: a phone that dials.
//! Holds: bounded by deadlines.

use std::time::{Duration, Instant};

use loadtest::gateway::{Gateway, Plan};
use loadtest::scene::{Expected, Scene, assert_record, assert_recording};
use loadtest::{wait, wav};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);
const TALK: Duration = Duration::from_secs(8);

fn ask(gateway: &Gateway, path: &str, body: &Value) -> (u16, Value) {
    let answer = gateway.post(path, body).expect("an answer");
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    (answer.status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

#[test]
fn two_baresip_phones_are_called_and_joined() {
    let scene = Scene::start(Plan { recording: true, ..Plan::default() }).expect("a gateway");
    let gateway = &scene.gateway;
    let mut second = scene.baresip("1002", 1_000).expect("a phone");
    let mut first = scene.baresip("1001", 440).expect("a phone");
    let body = json!({"action": "originate", "from": "1001", "to": "1002", "timeout": 20});
    let (status, answer) = ask(gateway, "/api/v1/commands", &body);
    assert_eq!(status, 202, "{answer}");
    let call_id = answer["call_id"].as_str().expect("a call_id").to_owned();
    first.await_event("CALL_ESTABLISHED", LIMIT).expect("the first answered");
    second.await_event("CALL_ESTABLISHED", LIMIT).expect("the second answered");
    let talking = Instant::now();
    let over = || (talking.elapsed() >= TALK).then_some(());
    wait::until("the talk time", TALK + LIMIT, over).expect("time passes");
    let active = gateway.json(&format!("/api/v1/calls/active/{call_id}")).expect("it stands");
    assert_eq!(active["data"]["state"]["state"], "talking", "{active}");
    first.hang_up().expect("hung up");
    second.await_event("CALL_CLOSED", LIMIT).expect("both sides end");

    let record = gateway.await_record(&call_id).expect("a CDR");
    let talk_ms = Some(TALK.as_millis() as u64);
    assert_record(&record, &Expected { talk_ms, ..Expected::ANSWERED });
    assert_eq!(record["sipLegRoles"].as_array().map(Vec::len), Some(2), "{record}");
    assert_recording(&gateway.await_recording(&call_id).expect("a recording"), &record);
    let heard = [&first, &second].map(|phone| phone.await_heard(LIMIT).expect("audio"));
    for (samples, hz) in heard.iter().zip([1_000.0, 440.0]) {
        let share = wav::steady_share(samples, hz);
        assert!(share > 0.9, "share of {hz} Hz falls to {share}");
    }
    gateway.await_drained(LIMIT).expect("nothing is left");
}

#[test]
fn a_call_that_cannot_be_made_is_refused_and_leaves_nothing() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let gateway = &scene.gateway;
    let phone = scene.baresip("1001", 440).expect("a phone");
    for (from, to, status, code) in [
        ("1003", "1001", 409, "not_registered"),
        ("7777", "1001", 404, "party_unknown"),
        ("1001", "7777", 404, "party_unknown"),
        ("1001", "", 422, "command_invalid"),
    ] {
        let (heard, answer) = ask(gateway, "/ami/v1/originate", &json!({"from": from, "to": to}));
        assert_eq!((heard, answer["code"].as_str()), (status, Some(code)), "{from} {to}: {answer}");
    }
    // The second party is known, but has no phone: the first is not rung for nothing.
    let (status, answer) =
        ask(gateway, "/ami/v1/originate", &json!({"from": "1001", "to": "1002"}));
    assert_eq!(status, 202, "{answer}");
    let call_id = answer["call_id"].as_str().expect("a call_id");
    let record = gateway.await_record(call_id).expect("a CDR");
    assert_eq!(
        (record["statusCode"].as_u64(), record["status"].as_str()),
        (Some(480), Some("missed"))
    );
    drop(phone);
    gateway.await_drained(LIMIT).expect("nothing is left");
}
