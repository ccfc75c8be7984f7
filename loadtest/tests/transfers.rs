//! Transfers with phones that we did not write (issue 4, must show 3): SIPp and baresip.
//! Owns:  one gateway per test.
//! Gives: REFER blind and attended, to a phone that answers and to a busy one; INVITE with Replaces.
//! Never: races between the parties; `call` tests those in virtual time.
//! Holds: bounded by deadlines; the outcome is looked for in NOTIFY, in the sound and in the record.

use std::time::Duration;

use loadtest::gateway::Plan;
use loadtest::scene::{Expected, SOON, Scene, assert_both_spoke, assert_record};
use loadtest::sipp::{Run, Transcript};
use loadtest::text::{Dialog, header, tag};
use loadtest::{wait, wav};
use serde_json::Value;
use shared::cdr::Cdr;
use shared::cdr::LegEventType::{Removed, TransferAccepted, TransferFailed, Transferred};

const TRYING: &str = "SIP/2.0 100 Trying";
/// Packets of both sides: about two seconds.
const A_WHILE: u32 = 200;

fn start() -> Scene {
    Scene::start(Plan::default()).expect("a gateway")
}

/// Somebody at the gateway.
fn uri(scene: &Scene, user: &str) -> String {
    format!("sip:{user}@{}", scene.gateway.sip)
}

fn cdr(record: &Value) -> Cdr {
    serde_json::from_value(record.clone()).expect("a CDR")
}

/// What became of the call's legs, in order.
fn assert_steps(record: &Value, expected: &[shared::cdr::LegEventType]) {
    let cdr = cdr(record);
    let steps: Vec<_> = cdr.leg_timeline.events.iter().map(|event| event.event_type).collect();
    assert_eq!(steps, expected, "{record}");
}

/// What was heard in the second before the end. On a busy host a peer stutters; no other tone is as loud.
fn assert_hears_at_last(heard: &[i16], hz: f32) {
    let sound = wav::spoken(heard);
    let share = wav::steady_share(&sound[sound.len().saturating_sub(8_000)..], hz);
    assert!(share > 0.5, "the share of {hz} Hz is {share} at the end");
}

/// The dialog of a callee who rings or talks, from what it saw and said.
fn dialog_of_called(seen: &Transcript) -> Option<Dialog> {
    let invite = seen.all_received("INVITE ").next()?;
    let answer = seen.all_sent("SIP/2.0 180").next()?;
    Dialog::of_called(invite, answer).ok()
}

/// The dialog of a caller who has sent the ACK of a 200.
fn dialog_of_caller(seen: &Transcript) -> Option<Dialog> {
    let answer = seen.all_received("SIP/2.0 200").next()?;
    let own = header(answer, "To").ok().and_then(tag)?;
    let is_for = |ack: &str| header(ack, "To").ok().and_then(tag) == Some(own);
    let is_up = seen.all_sent("ACK ").any(is_for);
    is_up.then(|| Dialog::of_caller(answer).ok()).flatten()
}

#[test]
fn sipp_sends_a_baresip_on_to_another_one() {
    let scene = start();
    let mut stays = scene.baresip("1002", 660).expect("a phone");
    let mut target = scene.baresip("1003", 1_000).expect("a phone");
    let run = Run::new("uac_transfers").with("REFER_TO", uri(&scene, "1003"));
    let run = scene.caller(run.argument("-d", 1_000), "1001", "1002");
    let at = scene.spare().expect("a port");
    let transferor = run.complete(at, scene.gateway.sip, SOON).expect("it is let go");
    let told = [TRYING, "SIP/2.0 180 Ringing", "SIP/2.0 200 OK"];
    assert_eq!(transferor.notified(), told, "{}", transferor.text);
    scene.talk(A_WHILE).expect("the two that are left talk");
    stays.hang_up().expect("hung up");
    target.await_event("CALL_CLOSED", SOON).expect("both sides end");
    assert_hears_at_last(&stays.await_heard(SOON).expect("audio"), 1_000.0);
    assert_hears_at_last(&target.await_heard(SOON).expect("audio"), 660.0);
    let record = scene.record(&transferor).expect("a CDR");
    assert_record(&record, &Expected { hangup_reason: "byCallee", ..Expected::ANSWERED });
    assert_steps(&record, &[Transferred, TransferAccepted, Removed]);
    let wanted = cdr(&record).leg_timeline.events[0].details.clone().expect("whereto");
    assert!(wanted.starts_with("sip:1003@"), "{record}");
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

#[test]
fn baresip_sends_a_sipp_on_to_another_one() {
    let scene = start();
    let stays = scene.callee("1002", Run::new("uas_answer").with("RING_MS", 100));
    let target = scene.callee("1003", Run::new("uas_hangs_up").argument("-d", 1_500));
    let mut transferor = scene.baresip("1001", 440).expect("a phone");
    transferor.dial(&uri(&scene, "1002")).expect("dialled");
    let call = transferor.await_event("CALL_ESTABLISHED", SOON).expect("answered");
    transferor.transfer(&uri(&scene, "1003")).expect("sent");
    // So says baresip when NOTIFY told it of a 200.
    let closed = transferor.await_event("CALL_CLOSED", SOON).expect("it is let go");
    assert_eq!(closed["param"], "Call transfered", "{closed}");
    target.expect("a callee").succeed(SOON).expect("it talked and hung up");
    stays.expect("a callee").succeed(SOON).expect("it talked to the end");
    let call_id = call["id"].as_str().expect("events carry the Call-ID");
    let record = scene.gateway.await_record(call_id).expect("a CDR");
    // Who came sits where the caller sat.
    assert_record(&record, &Expected::ANSWERED);
    assert_steps(&record, &[Transferred, TransferAccepted, Removed]);
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

#[test]
fn a_baresip_that_is_sent_on_to_a_busy_phone_talks_on() {
    let scene = start();
    let stays = scene.baresip("1002", 660).expect("a phone");
    let busy = Run::new("uas_refuses").with("STATUS", 486).with("REASON", "Busy Here");
    let busy = scene.callee("1003", busy).expect("a busy phone");
    let run = Run::new("uac_transfers_in_vain").with("REFER_TO", uri(&scene, "1003"));
    let run = scene.caller(run.argument("-d", 1_000), "1001", "1002");
    let (transferor, _) = scene.call(run, busy, SOON).expect("the call");
    assert_eq!(transferor.notified(), [TRYING, "SIP/2.0 486 Busy Here"], "{}", transferor.text);
    let heard = stays.await_heard(SOON).expect("audio");
    assert_hears_at_last(&heard, 440.0);
    let spoken_ms = wav::spoken(&heard).len() / 8;
    assert!(spoken_ms > 1_800, "it heard the caller before and after: {spoken_ms} ms");
    let record = scene.record(&transferor).expect("a CDR");
    assert_record(&record, &Expected::ANSWERED);
    assert_steps(&record, &[Transferred, TransferFailed]);
    let why = cdr(&record).leg_timeline.events[1].details.clone().expect("why");
    assert!(why.contains("sip:1003@") && why.contains("486"), "{record}");
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

/// This baresip hangs up by itself when it hears so; the gateway leaves it the call.
#[test]
fn a_baresip_that_transfers_to_a_busy_phone_hears_so() {
    let scene = start();
    let stays = scene.callee("1002", Run::new("uas_answer").with("RING_MS", 100));
    let busy = Run::new("uas_refuses").with("STATUS", 486).with("REASON", "Busy Here");
    let busy = scene.callee("1003", busy).expect("a busy phone");
    let mut transferor = scene.baresip("1001", 440).expect("a phone");
    transferor.dial(&uri(&scene, "1002")).expect("dialled");
    let call = transferor.await_event("CALL_ESTABLISHED", SOON).expect("answered");
    scene.talk(A_WHILE).expect("the two talk");
    transferor.transfer(&uri(&scene, "1003")).expect("sent");
    let failed = transferor.await_event("TRANSFER_FAILED", SOON).expect("it is told");
    assert_eq!(failed["param"], "486 Busy Here", "{failed}");
    busy.succeed(SOON).expect("it heard its ACK");
    let stays = stays.expect("a callee").succeed(SOON).expect("it talked to the end");
    assert_eq!(stays.received("BYE "), 1, "{}", stays.text);
    assert_hears_at_last(&transferor.await_heard(SOON).expect("audio"), 1_000.0);
    let call_id = call["id"].as_str().expect("events carry the Call-ID");
    let record = scene.gateway.await_record(call_id).expect("a CDR");
    assert_record(&record, &Expected::ANSWERED);
    assert_steps(&record, &[Transferred, TransferFailed]);
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

/// SIPp has 1002 and 1003 on two calls and joins them; it is let go of both.
#[test]
fn sipp_joins_a_baresip_with_another_sipp() {
    let scene = start();
    let mut stays = scene.baresip("1002", 660).expect("a phone");
    let joined = scene.callee("1003", Run::new("uas_joined")).expect("a callee");
    let asks = scene.caller(Run::new("uac_hung_up_on"), "1001", "1003");
    let asks = asks.start(scene.spare().expect("a port"), scene.gateway.sip).expect("SIPp");
    let up = wait::until("the second call", SOON, || dialog_of_caller(&asks.transcript()));
    let refer_to = format!("{}?Replaces={}", uri(&scene, "1003"), up.expect("up").escaped());
    let run = Run::new("uac_joins").with("REFER_TO", refer_to).argument("-d", 500);
    let run = scene.caller(run, "1001", "1002");
    let first = run.complete(scene.spare().expect("a port"), scene.gateway.sip, SOON);
    let first = first.expect("it is let go of the first call");
    assert_eq!(first.notified(), [TRYING, "SIP/2.0 200 OK"], "{}", first.text);
    let second = asks.succeed(SOON).expect("it is let go of the second call");
    scene.talk(A_WHILE).expect("the two that are left talk");
    stays.hang_up().expect("hung up");
    joined.succeed(SOON).expect("it talked to the end");
    assert_hears_at_last(&stays.await_heard(SOON).expect("audio"), 1_000.0);
    let record = scene.record(&first).expect("a CDR");
    assert_record(&record, &Expected { hangup_reason: "byCallee", ..Expected::ANSWERED });
    assert_steps(&record, &[Transferred, TransferAccepted, Removed]);
    let gone = scene.record(&second).expect("a CDR");
    let expected = Expected { callee: "1003", hangup_reason: "byRefer", ..Expected::ANSWERED };
    assert_record(&gone, &expected);
    assert_steps(&gone, &[TransferAccepted]);
    let whereto = cdr(&gone).leg_timeline.events[0].details.clone().expect("where it went");
    assert!(whereto.contains(&cdr(&record).session_id.to_string()), "{gone}");
    scene.gateway.await_metric("joins_done_total", |count| count == 1.0).expect("counted");
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

/// 1002 rings; 1003 takes the call by naming the dialog of the phone that rings (RFC 3891).
#[test]
fn a_ringing_call_is_picked_up_by_another_phone() {
    let scene = start();
    let rings = scene.callee("1002", Run::new("uas_rings_only")).expect("a phone");
    let caller = scene.caller(Run::new("uac_call").argument("-d", 1_500), "1001", "1002");
    let caller = caller.start(scene.spare().expect("a port"), scene.gateway.sip).expect("SIPp");
    let ringing = wait::until("the ringing", SOON, || dialog_of_called(&rings.transcript()));
    let replaces = format!("Replaces: {}", ringing.expect("it rings").replaces());
    let taker = Run::new("uac_hung_up_on").in_invites("Require: replaces").in_invites(&replaces);
    let taker = scene.caller(taker, "1003", "1002");
    let taker = taker.start(scene.spare().expect("a port"), scene.gateway.sip).expect("SIPp");
    let caller = caller.succeed(SOON).expect("it talked and hung up");
    let taker = taker.succeed(SOON).expect("it talked to the end");
    let rings = rings.succeed(SOON).expect("it was cancelled");
    let cancel = rings.all_received("CANCEL ").next().expect("it was cancelled");
    let elsewhere = "SIP;cause=200;text=\"Call completed elsewhere\"";
    assert_eq!(header(cancel, "Reason"), Ok(elsewhere), "{cancel}");
    let record = scene.record(&caller).expect("a CDR");
    assert_record(&record, &Expected::ANSWERED);
    let own = taker.call_id().expect("it sent an INVITE");
    let roles = cdr(&record).sip_leg_roles;
    assert!(roles.iter().any(|role| role.call_id == own), "{record}");
    assert_both_spoke(&record, 20);
    scene.gateway.await_metric("legs_replaced_total", |count| count == 1.0).expect("counted");
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

/// The same for a call that stands: the phone that had it gets BYE, baresip hears the other one.
#[test]
fn a_standing_call_of_a_baresip_is_taken_by_another_phone() {
    let scene = start();
    let had = Run::new("uas_answer").with("RING_MS", 100).silent();
    let had = scene.callee("1002", had).expect("a phone");
    let mut caller = scene.baresip("1001", 660).expect("a phone");
    caller.dial(&uri(&scene, "1002")).expect("dialled");
    let call = caller.await_event("CALL_ESTABLISHED", SOON).expect("answered");
    scene.talk(A_WHILE / 2).expect("the caller speaks");
    let dialog = dialog_of_called(&had.transcript()).expect("it has a dialog");
    let taker = Run::new("uac_call").in_invites(&format!("Replaces: {}", dialog.replaces()));
    let taker = scene.caller(taker.argument("-d", 2_000), "1003", "1002");
    let at = scene.spare().expect("a port");
    taker.complete(at, scene.gateway.sip, SOON).expect("it talked and hung up");
    had.succeed(SOON).expect("it was let go");
    caller.await_event("CALL_CLOSED", SOON).expect("both sides end");
    assert_hears_at_last(&caller.await_heard(SOON).expect("audio"), 440.0);
    let call_id = call["id"].as_str().expect("events carry the Call-ID");
    let record = scene.gateway.await_record(call_id).expect("a CDR");
    assert_record(&record, &Expected { hangup_reason: "byCallee", ..Expected::ANSWERED });
    assert_steps(&record, &[Transferred, TransferAccepted, Removed]);
    assert_both_spoke(&record, 20);
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}
