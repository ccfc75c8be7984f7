//! Lamps, message waiting and texts with SIPp on all sides (RFC 6665, RFC 4235, RFC 3842, RFC 3428).
//! Owns:  one gateway per test.
//! Gives: what a telephone with lamps hears of a call, and who gets a text.
//! Never: a look inside the gateway: subscriptions are counted on /metrics.
//! Holds: bounded by deadlines; SIPp's scenarios check states and versions, so a pass means both.

use std::time::{Duration, Instant};

use loadtest::gateway::Plan;
use loadtest::scene::{SOON, Scene};
use loadtest::sipp::Run;
use loadtest::wait;

#[test]
fn a_lamp_sees_a_call_ring_stand_and_end() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let callee = Run::new("uas_answer").with("RING_MS", 1_500);
    let callee = scene.callee("1002", callee).expect("a callee");
    let lamp = scene.caller(Run::new("uac_lamp").with("EVENT", "dialog"), "1003", "1002");
    let lamp = lamp.start(scene.spare().expect("a port"), scene.gateway.sip).expect("a lamp");
    scene.gateway.await_metric("subscriptions", |count| count == 1.0).expect("it watches");
    scene.gateway.await_metric("notifies_sent_total", |count| count == 1.0).expect("and is told");
    // The pace of one NOTIFY a second counts from there.
    let (told, pace) = (Instant::now(), Duration::from_millis(1_200));
    let is_over = || (told.elapsed() >= pace).then_some(());
    wait::until("the pace", SOON, is_over).expect("time passes");
    let caller = scene.caller(Run::new("uac_call").argument("-d", 2_000), "1001", "1002");
    scene.call(caller, callee, SOON).expect("the call");
    lamp.succeed(SOON).expect("the lamp went through its states");
    scene.gateway.await_metric("subscriptions", |count| count == 0.0).expect("nothing is left");
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

#[test]
fn a_phone_is_told_that_no_message_waits() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let phone =
        scene.caller(Run::new("uac_mailbox").with("EVENT", "message-summary"), "1003", "1003");
    let at = scene.spare().expect("a port");
    phone.tcp().complete(at, scene.gateway.sip, SOON).expect("it is told");
    scene.gateway.await_metric("subscriptions", |count| count == 0.0).expect("nothing is left");
}

#[test]
fn a_text_reaches_a_phone_and_one_to_nobody_is_480() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let phone = scene.callee("1002", Run::new("uas_text")).expect("a phone");
    let text = |to, status| scene.caller(Run::new("uac_text").with("STATUS", status), "1001", to);
    scene.call(text("1002", 200), phone, SOON).expect("it was read");
    let at = scene.spare().expect("a port");
    text("1003", 480).complete(at, scene.gateway.sip, SOON).expect("1003 has no phone");
}
