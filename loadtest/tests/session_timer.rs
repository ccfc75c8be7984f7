//! Session timers on the wire (RFC 4028; issue 4, must show 3).
//! Owns:  one gateway per test.
//! Gives: a refresh at half the interval, the end of a call whose peer is gone.
//! Never: every rule of the RFC; `call` tests those in virtual time.
//! Holds: SIPp's scenarios hold the times, so a pass means that they were kept.

use std::time::Duration;

use loadtest::gateway::Plan;
use loadtest::scene::{Expected, Scene, assert_record};
use loadtest::sipp::Run;
use serde_json::Value;

/// The shortest interval that the RFC allows is 90 s; the slowest scenario takes two thirds of it.
const LIMIT: Duration = Duration::from_secs(90);

fn call(scenario: &str) -> (usize, Value, Scene) {
    let plan = Plan {
        call_auth: false,
        proxy_lines: vec!["session_timer = true".to_owned(), "session_expires = 90".to_owned()],
        ..Plan::default()
    };
    let scene = Scene::start(plan).expect("a gateway");
    let callee = scene.callee("1002", Run::new("uas_answer").with("RING_MS", 100));
    let caller = scene.caller(Run::new(scenario), "1001", "1002");
    let (caller, _) = scene.call(caller, callee.expect("a callee"), LIMIT).expect("the call");
    let record = scene.record(&caller).expect("a CDR");
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
    (caller.received("UPDATE "), record, scene)
}

#[test]
fn a_refresh_comes_at_half_the_interval() {
    let (refreshes, record, scene) = call("uac_refreshed");
    assert_eq!(refreshes, 1);
    assert_record(&record, &Expected::ANSWERED);
    assert_eq!(scene.gateway.metric("session_refreshes_total"), Ok(1.0));
}

#[test]
fn a_call_whose_peer_does_not_refresh_ends() {
    let (refreshes, record, scene) = call("uac_never_refreshes");
    assert_eq!(refreshes, 0);
    assert_record(&record, &Expected { hangup_reason: "bySystem", ..Expected::ANSWERED });
    assert_eq!(scene.gateway.metric("sessions_expired_total"), Ok(1.0));
}
