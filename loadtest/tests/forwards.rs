//! Calls that go on elsewhere, and calls to several phones at once, on the wire (issue 4, must show 5).
//! Owns:  one gateway per test, phones that are SIPp.
//! Gives: forwarding always, on busy, on no answer, where nobody is registered; a fork to three phones.
//! Never: chains, loops and other races of forwarding; `call` tests those in virtual time.
//! Holds: bounded by deadlines; what a phone was asked and what the record says are both looked at.

use std::time::Duration;

use loadtest::gateway::Plan;
use loadtest::scene::{Expected, SOON, Scene, assert_record};
use loadtest::sipp::Run;
use loadtest::text::header;
use serde_json::Value;
use shared::cdr::{Cdr, LegEventType};
use shared::ids::Side;

/// The shortest that there is.
const RING: Duration = Duration::from_secs(5);

/// 1002 has its calls sent on to 1003.
fn scene(mode: &str) -> Scene {
    let fields = format!(
        "call_forwarding_mode = \"{mode}\", call_forwarding_destination = \"1003\", \
         call_forwarding_timeout = {}",
        RING.as_secs()
    );
    let user_fields = vec![("1002".to_owned(), fields)];
    Scene::start(Plan { user_fields, ..Plan::default() }).expect("a gateway")
}

fn cdr(record: &Value) -> Cdr {
    serde_json::from_value(record.clone()).expect("a CDR")
}

/// 1001 calls 1002 and talks with 1003, who hears why. The record.
fn forwarded(scene: &Scene, reason: &str) -> Cdr {
    let callee = scene.callee("1003", Run::new("uas_answer").with("RING_MS", 100));
    let caller = scene.caller(Run::new("uac_call").argument("-d", 500), "1001", "1002");
    let (caller, callee) = scene.call(caller, callee.expect("a callee"), SOON).expect("the call");
    let invite = callee.all_received("INVITE ").next().expect("it was called");
    let diversion = header(invite, "Diversion").expect("it is told whose call it was");
    let gateway = scene.gateway.sip.ip().to_string();
    let is_ours = |host: &str| host.starts_with(&gateway) || host.starts_with("ringgate.test");
    let host = diversion.strip_prefix("<sip:1002@").expect("the user who forwards");
    assert!(is_ours(host) && host.contains(&format!(">;reason={reason};")), "{diversion}");
    assert!(header(invite, "History-Info").is_ok(), "{invite}");
    assert!(header(invite, "From").is_ok_and(|from| from.contains("sip:1001@")), "{invite}");

    let record = scene.record(&caller).expect("a CDR");
    assert_record(&record, &Expected::ANSWERED);
    let cdr = cdr(&record);
    let [step] = &cdr.leg_timeline.events[..] else { panic!("one step: {record}") };
    let told = step.details.as_deref().unwrap_or_default();
    let is_told = told.starts_with("sip:1002@") && told.contains(" forwards to sip:1003@");
    assert!(is_told && told.ends_with(&format!("({reason})")), "{record}");
    assert_eq!(step.event_type, LegEventType::Forwarded);
    scene.gateway.await_metric("forwards_total", |count| count == 1.0).expect("it is counted");
    scene.gateway.await_drained(Duration::from_secs(45)).expect("nothing is left");
    cdr
}

/// How the first phone's refusal is told.
fn refusals(cdr: &Cdr) -> Vec<u16> {
    cdr.hangup_messages.iter().map(|message| message.code).collect()
}

#[test]
fn a_busy_user_has_the_call_sent_on() {
    let scene = scene("when_busy");
    let busy = Run::new("uas_refuses").with("STATUS", 486).with("REASON", "Busy Here");
    let busy = scene.callee("1002", busy).expect("a busy phone");
    let cdr = forwarded(&scene, "user-busy");
    assert_eq!((refusals(&cdr), cdr.sip_leg_roles.len()), (vec![486], 3));
    busy.succeed(SOON).expect("it heard its ACK");
}

#[test]
fn a_user_who_does_not_answer_has_the_call_sent_on_after_the_time() {
    let scene = scene("when_not_answered");
    let silent = scene.callee("1002", Run::new("uas_rings_only")).expect("a phone");
    let cdr = forwarded(&scene, "no-answer");
    let silent = silent.succeed(SOON).expect("it was cancelled");
    assert_eq!(silent.all_received("CANCEL ").count(), 1, "{}", silent.text);
    let left_ms = cdr.leg_timeline.events[0].timestamp.0 - cdr.ring_time.expect("it rang").0;
    let ring_ms = i64::try_from(RING.as_millis()).expect("seconds");
    assert!((ring_ms - 500..ring_ms + 2_000).contains(&left_ms), "after {left_ms} ms: {cdr:?}");
    assert_eq!((refusals(&cdr), cdr.sip_leg_roles.len()), (vec![480], 3));
}

#[test]
fn a_user_who_sends_every_call_on_does_not_ring() {
    let scene = scene("always");
    let mut left_alone = scene.callee("1002", Run::new("uas_rings_only")).expect("a phone");
    let cdr = forwarded(&scene, "unconditional");
    assert_eq!((refusals(&cdr), cdr.sip_leg_roles.len()), (vec![], 2));
    assert!(left_alone.is_running(), "it waits for its call");
    assert_eq!(left_alone.transcript().received("INVITE"), 0);
}

#[test]
fn a_user_who_is_not_registered_has_the_call_sent_on() {
    let scene = scene("when_not_registered");
    let cdr = forwarded(&scene, "unavailable");
    assert_eq!(cdr.sip_leg_roles.len(), 2);
}

/// The same while the user has a phone: it rings, and nobody else does.
#[test]
fn a_user_who_is_registered_is_called() {
    let scene = scene("when_not_registered");
    let mut elsewhere = scene.callee("1003", Run::new("uas_rings_only")).expect("a phone");
    let callee = scene.callee("1002", Run::new("uas_answer").with("RING_MS", 100));
    let caller = scene.caller(Run::new("uac_call").argument("-d", 500), "1001", "1002");
    let (caller, _) = scene.call(caller, callee.expect("a callee"), SOON).expect("the call");
    let record = scene.record(&caller).expect("a CDR");
    assert_record(&record, &Expected::ANSWERED);
    assert!(cdr(&record).leg_timeline.events.is_empty(), "{record}");
    assert!(elsewhere.is_running() && elsewhere.transcript().received("INVITE") == 0);
}

#[test]
fn three_phones_ring_one_answers_and_two_hear_that_it_was_answered_elsewhere() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let silent = || scene.callee("1002", Run::new("uas_rings_only")).expect("a phone");
    let silent = [silent(), silent()];
    let answering = Run::new("uas_answer").with("RING_MS", 2_000);
    let answering = scene.callee("1002", answering).expect("a phone");
    scene.gateway.await_metric("bindings", |count| count == 3.0).expect("three phones");
    let caller = scene.caller(Run::new("uac_call").argument("-d", 500), "1001", "1002");
    let (caller, callee) = scene.call(caller, answering, SOON).expect("the call");
    for phone in silent {
        let seen = phone.succeed(SOON).expect("it was cancelled");
        assert_eq!(seen.sent("SIP/2.0 180"), 1, "it rang: {}", seen.text);
        let cancel = seen.all_received("CANCEL ").next().expect("it was cancelled");
        let reason = "SIP;cause=200;text=\"Call completed elsewhere\"";
        assert_eq!(header(cancel, "Reason"), Ok(reason), "{cancel}");
    }
    assert_eq!(callee.received("CANCEL"), 0);
    let record = scene.record(&caller).expect("a CDR");
    let expected = Expected { ring_ms: Some(2_000), ..Expected::ANSWERED };
    assert_record(&record, &expected);
    let roles = cdr(&record).sip_leg_roles;
    let called = roles.iter().filter(|role| role.role == Side::Callee).count();
    assert_eq!((roles.len(), called), (4, 3), "{record}");
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}
