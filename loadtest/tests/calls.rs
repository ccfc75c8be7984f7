//! A recorded SIPp call with RTP both ways, 10 s (issue 2, must show 3).
//! Owns:  one gateway with recording.
//! Gives: parties, times, duration, who hung up; the WAV by length, tone per side, gaps.
//! Never: a sound by ear.
//! Holds: bounded by deadlines.

use std::time::Duration;

use loadtest::gateway::Plan;
use loadtest::phone::Phone;
use loadtest::scene::{Expected, Scene, assert_record, assert_recording};
use loadtest::sipp::Run;

const TALK_MS: u64 = 10_000;
const LIMIT: Duration = Duration::from_secs(40);

fn recorded() -> Plan {
    Plan { recording: true, ..Plan::default() }
}

#[test]
fn a_sipp_call_of_ten_seconds_leaves_a_right_cdr_and_a_right_recording() {
    let scene = Scene::start(recorded()).expect("a gateway");
    let callee = Run::new("uas_answer").with("RING_MS", 1_000);
    let callee = scene.callee("1002", callee).expect("a callee");
    let caller = scene.caller(Run::new("uac_call").argument("-d", TALK_MS), "1001", "1002");
    let (caller, _) = scene.call(caller, callee, LIMIT).expect("the call");

    let record = scene.record(&caller).expect("a CDR");
    let expected = Expected { ring_ms: Some(1_000), talk_ms: Some(TALK_MS), ..Expected::ANSWERED };
    assert_record(&record, &expected);
    let call_id = caller.call_id().expect("messages were sent");
    let wav = scene.gateway.await_recording(&call_id).expect("a recording");
    assert_recording(&wav, &record);
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

#[test]
fn a_call_that_the_callee_ends_says_so() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let callee = scene.callee("1002", Run::new("uas_hangs_up").argument("-d", 1_500));
    let caller = scene.caller(Run::new("uac_hung_up_on"), "1001", "1002");
    let (caller, _) = scene.call(caller, callee.expect("a callee"), LIMIT).expect("the call");
    let record = scene.record(&caller).expect("a CDR");
    let expected =
        Expected { talk_ms: Some(1_500), hangup_reason: "byCallee", ..Expected::ANSWERED };
    assert_record(&record, &expected);
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

/// Our own phones are what the demo uses; here their digest is SHA-256.
#[tokio::test(flavor = "multi_thread")]
async fn two_of_our_phones_hear_each_other_and_lose_nothing() {
    let plan = Plan { digest_algorithms: vec!["SHA-256", "MD5"], ..recorded() };
    let scene = Scene::start(plan).expect("a gateway");
    let server = scene.gateway.sip;
    let mut caller = Phone::bind(server, "1001", scene.gateway.password("1001")).expect("a port");
    let mut callee = Phone::bind(server, "1002", scene.gateway.password("1002")).expect("a port");
    caller.register(300).await.expect("1001 registers");
    callee.register(300).await.expect("1002 registers");
    let (placed, answered) = tokio::join!(caller.call("1002", 440.0), callee.answer_next(1_000.0));
    let (placed, answered) = (placed.expect("a 200"), answered.expect("an ACK"));
    let both_heard = || {
        let (one, other) = (placed.heard(), answered.heard());
        (one.packets_received >= 150 && other.packets_received >= 150).then_some((one, other))
    };
    let heard = tokio::task::block_in_place(|| {
        loadtest::wait::until("three seconds of RTP", Duration::from_secs(15), both_heard)
    });
    let (one, other) = heard.expect("RTP both ways");
    assert_eq!((one.tone_hz, other.tone_hz), (Some(1_000.0), Some(440.0)));
    let call_id = placed.call_id().to_owned();
    let report = placed.hang_up().await.expect("BYE is answered");
    let end = answered.ended(Duration::from_secs(10)).await.expect("BYE arrives");
    assert_eq!((report.heard.packets_lost, end.heard.packets_lost), (0, 0));
    let record = scene.gateway.await_record(&call_id).expect("a CDR");
    assert_record(&record, &Expected::ANSWERED);
    let wav = scene.gateway.await_recording(&call_id).expect("a recording");
    assert_recording(&wav, &record);
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}
