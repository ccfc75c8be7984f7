//! What happens inside and around a dialog, seen with SIPp (issue 2, deliver 5, must show 4).
//! Owns:  one gateway per test.
//! Gives: hold and resume, early media, PRACK, offerless INVITE, late ACK, loss, TCP.
//! Never: anything about times or audio that `calls` shows.
//! Holds: bounded by deadlines; SIPp's scenarios check codes and SDP, so a pass means both.

use std::time::Duration;

use loadtest::gateway::Plan;
use loadtest::scene::{Expected, SOON, Scene, assert_record};
use loadtest::sipp::Run;

/// One call between the two scenarios; gives the CDR check the plain answered call.
fn answered_call(caller: Run, callee: Run) -> (loadtest::sipp::Transcript, Scene) {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let callee = scene.callee("1002", callee).expect("a callee");
    let caller = scene.caller(caller.argument("-d", 1_000), "1001", "1002");
    let (caller, _) = scene.call(caller, callee, SOON).expect("the call");
    let record = scene.record(&caller).expect("a CDR");
    assert_record(&record, &Expected::ANSWERED);
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
    (caller, scene)
}

#[test]
fn a_callee_holds_and_resumes() {
    answered_call(Run::new("uac_held"), Run::new("uas_holds"));
}

#[test]
fn early_media_reaches_the_caller_before_the_answer() {
    answered_call(Run::new("uac_early"), Run::new("uas_early"));
}

/// Each side as careful as it likes (RFC 3262): what comes between them is the gateway's business.
#[test]
fn ringing_is_reliable_on_both_legs_or_on_either_alone() {
    for (caller, callee) in [
        ("uac_reliable", "uas_reliable"),
        ("uac_reliable", "uas_early"),
        ("uac_early", "uas_reliable"),
    ] {
        let (caller_saw, _) = answered_call(Run::new(caller), Run::new(callee));
        // It acknowledges the 183 after 0.7 s, so that a reliable one comes again at 0.5 s.
        let least = if caller == "uac_reliable" { 2 } else { 1 };
        let heard = caller_saw.received("SIP/2.0 183");
        assert!(heard >= least, "{caller} {callee}: {}", caller_saw.text);
    }
}

#[test]
fn an_offerless_invite_carries_offer_and_answer_the_other_way_round() {
    answered_call(Run::new("uac_offerless"), Run::new("uas_offers"));
}

#[test]
fn a_late_ack_makes_the_200_come_again_and_the_call_stand() {
    let callee = Run::new("uas_answer").with("RING_MS", 100);
    let (caller, _) = answered_call(Run::new("uac_late_ack"), callee);
    // 200 at 0, 0.5 and 1.5 s before the ACK at 1.8 s, and one for the BYE.
    assert!(caller.received("SIP/2.0 200") >= 4, "{}", caller.text);
}

/// Loss on the caller's side alone: SIPp as a callee does not answer a repeated BYE.
#[test]
fn twenty_calls_survive_ten_percent_loss_at_the_caller() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let at = scene.spare().expect("a port");
    scene.register("1002", at).expect("a callee");
    let callee = Run::new("uas_answer").with("RING_MS", 100).calls(20);
    let callee = callee.start(at, scene.gateway.sip).expect("a callee");
    let caller = scene.caller(Run::new("uac_call"), "1001", "1002");
    let caller = caller.argument("-d", 500).argument("-lost", 10).calls(20).argument("-r", 5);
    let (caller, _) = scene.call(caller, callee, Duration::from_secs(90)).expect("all calls");
    // SIPp does not log what it loses: the repeats on either side show that something was.
    let repeated = |name: &str| scene.gateway.metric(name).expect("metrics");
    let repeats = repeated("sip_retransmits_in_total") + repeated("sip_retransmits_out_total");
    assert!(repeats > 0.0, "nothing was lost: {}", caller.text);
    let stored = scene.gateway.await_metric("cdr_stored_total", |count| count >= 20.0);
    assert_eq!(stored, Ok(20.0));
    // A lost last answer keeps its transaction for 32 s; calls are over at once.
    scene.gateway.await_drained(Duration::from_secs(45)).expect("nothing is left");
}

/// The user has a second contact where nobody answers any more: a phone that lost its power.
#[test]
fn a_dead_second_contact_does_not_keep_the_call_alive_for_ever() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    scene.register("1002", scene.spare().expect("a port")).expect("a phone that goes away");
    let callee = scene.callee("1002", Run::new("uas_answer").with("RING_MS", 500));
    let run = scene.caller(Run::new("uac_call").argument("-d", 1_000), "1001", "1002");
    let (caller, _) = scene.call(run, callee.expect("a callee"), SOON).expect("the call");
    assert_record(&scene.record(&caller).expect("a CDR"), &Expected::ANSWERED);
    // Timer B of the INVITE that nobody answered (RFC 3261 17.1.1.2).
    scene.gateway.await_drained(Duration::from_secs(45)).expect("nothing is left");
}

#[test]
fn a_caller_on_tcp_reaches_a_callee_on_udp() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let callee = Run::new("uas_answer").with("RING_MS", 100);
    let callee = scene.callee("1002", callee).expect("a callee");
    let caller = scene.caller(Run::new("uac_call").argument("-d", 1_000).tcp(), "1001", "1002");
    let (caller, _) = scene.call(caller, callee, SOON).expect("the call");
    assert_record(&scene.record(&caller).expect("a CDR"), &Expected::ANSWERED);
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

fn call_to_a_trunk(tcp: bool) {
    let port = loadtest::gateway::spare_port("127.0.0.1".parse().expect("an address"));
    let port = port.expect("a port");
    let transport = if tcp { ";transport=tcp" } else { "" };
    let trunk = ("carrier".to_owned(), format!("sip:127.0.0.1:{port}{transport}"));
    let scene = Scene::start(Plan { trunks: vec![trunk], ..Plan::default() }).expect("a gateway");
    let at = std::net::SocketAddr::new(scene.gateway.sip.ip(), port);
    let callee = Run::new("uas_answer").with("RING_MS", 100).calls(1);
    let callee = if tcp { callee.tcp() } else { callee };
    let callee = callee.start(at, scene.gateway.sip).expect("a carrier");
    let run = Run::new("uac_call").to_host(&format!("127.0.0.1:{port}")).argument("-d", 1_000);
    let caller = scene.caller(run, "1001", "4930123456");
    let (caller, _) = scene.call(caller, callee, SOON).expect("the call");
    let record = scene.record(&caller).expect("a CDR");
    assert_record(&record, &Expected { callee: "4930123456", ..Expected::ANSWERED });
    assert_eq!(record["outboundTrunk"], "carrier");
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

#[test]
fn a_call_goes_out_to_a_trunk_on_udp() {
    call_to_a_trunk(false);
}

#[test]
fn a_call_goes_out_to_a_trunk_on_tcp() {
    call_to_a_trunk(true);
}
