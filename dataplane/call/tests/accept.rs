//! A caller who is answered by a program before the callee picks up.
//! Owns:  one test per way that it may go on.
//! Gives: raw text in, raw text out.
//! Never: real time.
//! Holds: one final response to the caller; each leg ends.

mod world;

use std::time::Duration;

use media::edit::RelayEdit;
use shared::act::{CallAction, Refusal};
use shared::cdr::{CallStatus, HangupReason};
use shared::ids::Side;
use world::acting::{answers, bench, on, only_answer};
use world::{ANN, BEN, Bench, answer, established, from_ann, header, sdp, tag};

fn accept(sdp: Option<&str>) -> CallAction {
    CallAction::Accept { sdp: sdp.map(Into::into) }
}

/// Ben rings; gives his INVITE.
fn ringing(offer: &str) -> (Bench, String) {
    let mut bench = bench();
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", offer));
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    bench.heard(ANN);
    (bench, invite)
}

/// Ann was answered and has acknowledged it; gives our tag.
fn accepted(bench: &mut Bench, sdp: Option<&str>) -> String {
    on(bench, 1, accept(sdp));
    let ok = bench.only(ANN, "SIP/2.0 200");
    assert_eq!(answers(bench), [], "she has not acknowledged it");
    let ours = tag(&header(&ok, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &ours, ""));
    assert_eq!(only_answer(bench, 1), Ok(()));
    ours
}

#[test]
fn the_caller_is_answered_and_joined_with_what_the_callee_speaks() {
    let (mut bench, invite) = ringing(&sdp("10.0.0.11", 4000));
    let ours = accepted(&mut bench, None);
    assert!(bench.heard(BEN).is_empty(), "he goes on ringing");
    bench.pass(Duration::from_secs(5));
    let choice = sdp("10.0.0.12", 5000).replace("RTP/AVP 0 8", "RTP/AVP 8");
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &choice));
    bench.only(BEN, "ACK");
    let change = bench.only(ANN, "INVITE");
    assert!(change.contains("RTP/AVP 8\r\n"), "{change}");
    bench
        .say(ANN, &answer(&change, "200 OK", "", ANN, &sdp("10.0.0.11", 4000).replace("0 8", "8")));
    bench.only(ANN, "ACK");
    bench.pass(Duration::from_secs(2));
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    let cdr = &bench.cdrs[0];
    assert_eq!((cdr.status, cdr.hangup_reason), (CallStatus::Completed, HangupReason::ByCaller));
    assert_eq!(cdr.duration_ms, 7_000, "she pays from her answer on");
    bench.assert_quiet();
}

#[test]
fn nothing_is_renegotiated_where_both_say_the_same() {
    let (mut bench, invite) = ringing(&sdp("10.0.0.11", 4000));
    accepted(&mut bench, None);
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    assert!(bench.heard(ANN).is_empty());
}

#[test]
fn a_callee_who_declines_ends_the_call_that_was_answered() {
    let (mut bench, invite) = ringing(&sdp("10.0.0.11", 4000));
    accepted(&mut bench, None);
    bench.say(BEN, &answer(&invite, "486 Busy Here", "ben", "", ""));
    bench.only(BEN, "ACK");
    let bye = bench.only(ANN, "BYE");
    bench.say(ANN, &answer(&bye, "200 OK", "", "", ""));
    let cdr = &bench.cdrs[0];
    assert_eq!((cdr.status, cdr.status_code), (CallStatus::Completed, 200));
    assert_eq!(cdr.hangup_reason, HangupReason::Rejected);
    bench.assert_quiet();
}

#[test]
fn a_caller_who_hangs_up_stops_the_ringing() {
    let (mut bench, invite) = ringing(&sdp("10.0.0.11", 4000));
    let ours = accepted(&mut bench, None);
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let cancel = bench.only(BEN, "CANCEL");
    bench.say(BEN, &answer(&cancel, "200 OK", "ben", "", ""));
    bench.say(BEN, &answer(&invite, "487 Request Terminated", "ben", "", ""));
    bench.assert_quiet();
}

#[test]
fn an_answer_without_an_ack_is_not_confirmed() {
    let (mut bench, _) = ringing(&sdp("10.0.0.11", 4000));
    on(&mut bench, 1, accept(None));
    bench.pass(Duration::from_secs(11));
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::NotConfirmed));
}

#[test]
fn media_goes_where_the_program_says_until_the_callee_answers() {
    let (mut bench, _) = ringing(&sdp("10.0.0.11", 4000));
    accepted(&mut bench, Some(&sdp("10.0.0.77", 7000)));
    let remote = bench.edits.iter().rev().find_map(|edit| match edit {
        RelayEdit::Remote { side: Side::Callee, remote, .. } => Some(remote.rtp.to_string()),
        _ => None,
    });
    assert_eq!(remote.as_deref(), Some("10.0.0.77:7000"));
}

#[test]
fn what_cannot_be_answered_says_why_and_leaves_the_call_ringing() {
    let two_lines = sdp("10.0.0.77", 7000) + "m=video 7002 RTP/AVP 97\r\n";
    let off = sdp("10.0.0.77", 0);
    for unusable in ["", "v=1\r\n", &two_lines, &off, "v=0\r\nm=audio 7000 RTP/AVP 0\r\n"] {
        let (mut bench, _) = ringing(&sdp("10.0.0.11", 4000));
        on(&mut bench, 1, accept(Some(unusable)));
        assert_eq!(only_answer(&mut bench, 1), Err(Refusal::SdpUnusable), "{unusable}");
        assert!(bench.heard(ANN).is_empty() && bench.cdrs.is_empty());
    }
    let (mut bench, _) = ringing("");
    on(&mut bench, 1, accept(None));
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::NoOffer));
    let wideband = sdp("10.0.0.11", 4000).replace("RTP/AVP 0 8", "RTP/AVP 9");
    let (mut bench, _) = ringing(&wideband);
    on(&mut bench, 1, accept(None));
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::CodecUnknown));
    let mut bench = world::acting::bench();
    established(&mut bench);
    on(&mut bench, 1, accept(None));
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::NotRinging));
}
