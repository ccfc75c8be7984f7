//! Two baresip instances, first with each other, then through the gateway (issue 2, must show 3).
//! Owns:  the proof that the peers themselves carry the tones before the gateway is judged by them.
//! Gives: parties, times, recording of a call between phones that we did not write.
//! Never: a sound card.
//! Holds: bounded by deadlines.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use loadtest::baresip::{Account, Baresip};
use loadtest::gateway::Plan;
use loadtest::scene::{Expected, Scene, assert_record, assert_recording};
use loadtest::{wait, wav};

const LIMIT: Duration = Duration::from_secs(10);
const TALK: Duration = Duration::from_secs(10);

fn account(user: &str, tone_hz: u16) -> Account<'_> {
    let nowhere: SocketAddr = "127.0.0.1:9".parse().expect("an address");
    Account { user, password: "", registrar: nowhere, register_s: 0, tone_hz }
}

#[test]
fn the_peers_alone_carry_both_tones() {
    let mut callee = Baresip::start(&account("1002", 1_000)).expect("a callee");
    let registrar = callee.sip;
    let mut caller =
        Baresip::start(&Account { registrar, ..account("1001", 440) }).expect("a caller");
    caller.dial("sip:1002@127.0.0.1").expect("dialled");
    caller.await_event("CALL_ESTABLISHED", LIMIT).expect("answered");
    talk(Duration::from_secs(3), Instant::now());
    caller.hang_up().expect("hung up");
    callee.await_event("CALL_CLOSED", LIMIT).expect("both sides end");
    let (left, right) =
        (caller.await_heard(LIMIT).expect("audio"), callee.await_heard(LIMIT).expect("audio"));
    assert!(wav::steady_share(&left, 1_000.0) > 0.9, "{}", wav::steady_share(&left, 1_000.0));
    assert!(wav::steady_share(&right, 440.0) > 0.9, "{}", wav::steady_share(&right, 440.0));
}

#[test]
fn a_baresip_call_of_ten_seconds_leaves_a_right_cdr_and_a_right_recording() {
    let scene = Scene::start(Plan { recording: true, ..Plan::default() }).expect("a gateway");
    let gateway = &scene.gateway;
    let mut callee = scene.baresip("1002", 1_000).expect("a callee");
    let mut caller = scene.baresip("1001", 440).expect("a caller");
    caller.dial(&format!("sip:1002@{}", gateway.sip)).expect("dialled");
    let established = caller.await_event("CALL_ESTABLISHED", LIMIT).expect("answered");
    let talking = Instant::now();
    talk(TALK, talking);
    caller.hang_up().expect("hung up");
    callee.await_event("CALL_CLOSED", LIMIT).expect("both sides end");

    let call_id = established["id"].as_str().expect("events carry the Call-ID");
    let record = gateway.await_record(call_id).expect("a CDR");
    let talk_ms = Some(TALK.as_millis() as u64);
    assert_record(&record, &Expected { talk_ms, ..Expected::ANSWERED });
    let wav = gateway.await_recording(call_id).expect("a recording");
    assert_recording(&wav, &record);
    let (left, right) =
        (caller.await_heard(LIMIT).expect("audio"), callee.await_heard(LIMIT).expect("audio"));
    assert!(wav::steady_share(&left, 1_000.0) > 0.9, "{}", wav::steady_share(&left, 1_000.0));
    assert!(wav::steady_share(&right, 440.0) > 0.9, "{}", wav::steady_share(&right, 440.0));
    gateway.await_drained(LIMIT).expect("nothing is left");
}

fn talk(time: Duration, since: Instant) {
    let over = || (since.elapsed() >= time).then_some(());
    wait::until("the talk time", time + LIMIT, over).expect("time passes");
}
