//! Blind transfer by REFER or by a program: one leg goes, a third phone takes its place (RFC 5589 6).
//! Owns:  what Ann, Ben and Cleo hear of it, whoever of them goes and however it ends.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: after each test nothing is left in the core, and there is one CDR.

mod world;

use std::time::Duration;

use media::edit::RelayEdit;
use shared::act::{Acted, CallAction, CallName, Refusal};
use shared::cdr::{Cdr, HangupReason, LegEventType};
use shared::command::Command;
use shared::event::{Answer, Event};
use shared::ids::Side;
use shared::limits::TRANSFERS_PER_CALL_MAX;
use world::{
    ANN, BEN, Bench, CARRIER, answer, established, from_ann, from_called, header, sdp, settings,
    tag,
};

const CLEO: &str = "10.0.0.13:5060";

/// Ann has called Ben; Cleo is registered. The INVITE that Ben saw, and our tag towards Ann.
fn bench() -> (Bench, String, String) {
    let mut bench = Bench::new(settings());
    bench.register("1003", CLEO);
    let (invite, ours) = established(&mut bench);
    (bench, invite, ours)
}

/// With a header line before the body.
fn with(request: &str, line: &str) -> String {
    request.replacen("Content-Length", &format!("{line}\r\nContent-Length"), 1)
}

fn refer_of_ben(invite: &str, cseq: u32, target: &str) -> String {
    let plain = from_called(BEN, "ben", "REFER", invite, cseq, &format!("r{cseq}"), "");
    with(&plain, &format!("Refer-To: {target}"))
}

/// The NOTIFY that `peer` was sent, answered; its sipfrag and subscription state.
fn notified(bench: &mut Bench, peer: &str, notify: &str) -> (String, String) {
    assert!(notify.starts_with("NOTIFY"), "{peer} heard {notify}");
    assert!(header(notify, "Event").starts_with("refer"), "{notify}");
    assert_eq!(header(notify, "Content-Type"), "message/sipfrag;version=2.0");
    let fragment = notify.split("\r\n\r\n").nth(1).expect("a body").trim().to_owned();
    let state = header(notify, "Subscription-State");
    bench.say(peer, &answer(notify, "200 OK", "", "", ""));
    (fragment, state)
}

/// Ben refers Ann to Cleo and has heard 202 and 100 Trying. The INVITE that Cleo saw.
fn referred(bench: &mut Bench, invite: &str) -> String {
    bench.say(BEN, &refer_of_ben(invite, 1, "<sip:1003@pbx.test>"));
    let heard = bench.heard(BEN);
    assert!(heard[0].starts_with("SIP/2.0 202"), "{heard:#?}");
    let (fragment, state) = notified(bench, BEN, &heard[1]);
    assert_eq!(fragment, "SIP/2.0 100 Trying");
    assert!(state.starts_with("active;expires="), "{state}");
    bench.only(CLEO, "INVITE")
}

fn last_remotes(bench: &Bench) -> [Option<(String, bool)>; 2] {
    let mut remotes = [None, None];
    for edit in &bench.edits {
        if let RelayEdit::Remote { side, remote, .. } = edit {
            let both_ways = remote.may_send && remote.may_receive;
            remotes[side.index()] = Some((remote.rtp.to_string(), both_ways));
        }
    }
    remotes
}

fn only_cdr(mut bench: Bench) -> Cdr {
    bench.assert_quiet();
    assert_eq!(bench.cdrs.len(), 1, "{:#?}", bench.cdrs);
    bench.cdrs.pop().expect("one")
}

fn end_by_us(bench: &mut Bench, peer: &str) {
    let bye = bench.only(peer, "BYE");
    bench.say(peer, &answer(&bye, "200 OK", "", "", ""));
}

/// Ann agrees to the re-INVITE that tells her what Cleo speaks.
fn aligned(bench: &mut Bench) {
    let change = bench.only(ANN, "INVITE");
    assert!(!change.contains("sendonly") && !change.contains("recvonly"), "{change}");
    bench.say(ANN, &answer(&change, "200 OK", "", ANN, &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "ACK");
}

#[test]
fn the_callee_hands_the_caller_to_somebody_else() {
    let (mut bench, invite, ours) = bench();
    let cleo = referred(&mut bench, &invite);
    assert!(header(&cleo, "From").contains("sip:1001@pbx.test"), "who will talk: {cleo}");
    assert!(header(&cleo, "To").contains("sip:1003@pbx.test"), "{cleo}");
    assert_eq!(header(&cleo, "Referred-By"), "<sip:1002@pbx.test>");
    assert!(cleo.contains("RTP/AVP 0 8") && cleo.contains("c=IN IP4 10.0.0.1"), "{cleo}");
    bench.say(CLEO, &answer(&cleo, "180 Ringing", "cleo", CLEO, ""));
    let notify = bench.only(BEN, "NOTIFY");
    assert_eq!(notified(&mut bench, BEN, &notify).0, "SIP/2.0 180 Ringing");
    assert!(bench.heard(ANN).is_empty(), "the transferee is not let go, nor bothered");
    let spoken = sdp("10.0.0.13", 6000).replace("RTP/AVP 0 8", "RTP/AVP 0");
    bench.say(CLEO, &answer(&cleo, "200 OK", "cleo", CLEO, &spoken));
    bench.only(CLEO, "ACK");
    let heard = bench.heard(BEN);
    let (fragment, state) = notified(&mut bench, BEN, &heard[0]);
    assert_eq!(
        (fragment.as_str(), state.as_str()),
        ("SIP/2.0 200 OK", "terminated;reason=noresource")
    );
    assert!(heard[1].starts_with("BYE"), "{heard:#?}");
    bench.say(BEN, &answer(&heard[1], "200 OK", "", "", ""));
    aligned(&mut bench);
    let expected = ["10.0.0.11:4000", "10.0.0.13:6000"].map(|at| Some((at.to_owned(), true)));
    assert_eq!(last_remotes(&bench), expected);
    bench.pass(Duration::from_secs(3));
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a9", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    end_by_us(&mut bench, CLEO);
    let cdr = only_cdr(bench);
    assert_eq!((cdr.status_code, cdr.hangup_reason), (200, HangupReason::ByCaller));
    assert_eq!((cdr.caller.as_str(), cdr.callee.as_str()), ("1001", "1002"));
    let roles: Vec<_> = cdr.sip_leg_roles.iter().map(|leg| leg.role).collect();
    assert_eq!(roles, [Side::Caller, Side::Callee, Side::Callee]);
    let events: Vec<_> = cdr.leg_timeline.events.iter().map(|event| event.event_type).collect();
    assert_eq!(
        events,
        [LegEventType::Transferred, LegEventType::TransferAccepted, LegEventType::Removed]
    );
    assert_eq!(cdr.leg_timeline.events[1].leg_id, header(&cleo, "Call-ID"));
}

#[test]
fn the_caller_hands_the_callee_to_somebody_else() {
    let (mut bench, _, ours) = bench();
    let plain = from_ann("REFER", "sip:1002@pbx.test", 2, "r2", &ours, "");
    bench.say(ANN, &with(&plain, "Refer-To: sip:1003@pbx.test"));
    let heard = bench.heard(ANN);
    assert!(heard[0].starts_with("SIP/2.0 202"), "{heard:#?}");
    notified(&mut bench, ANN, &heard[1]);
    let cleo = bench.only(CLEO, "INVITE");
    assert!(header(&cleo, "From").contains("sip:1002@pbx.test"), "{cleo}");
    bench.say(CLEO, &answer(&cleo, "200 OK", "cleo", CLEO, &sdp("10.0.0.13", 6000)));
    bench.only(CLEO, "ACK");
    let heard = bench.heard(ANN);
    assert_eq!(notified(&mut bench, ANN, &heard[0]).0, "SIP/2.0 200 OK");
    assert!(heard[1].starts_with("BYE"));
    bench.say(ANN, &answer(&heard[1], "200 OK", "", "", ""));
    assert!(bench.heard(BEN).is_empty(), "Cleo speaks as Ann did: nothing to tell Ben");
    let expected = ["10.0.0.13:6000", "10.0.0.12:5000"].map(|at| Some((at.to_owned(), true)));
    assert_eq!(last_remotes(&bench), expected);
    bench.say(CLEO, &from_called(CLEO, "cleo", "BYE", &cleo, 1, "c1", ""));
    bench.only(CLEO, "SIP/2.0 200");
    end_by_us(&mut bench, BEN);
    let cdr = only_cdr(bench);
    assert_eq!(cdr.hangup_reason, HangupReason::ByCaller, "who sat on the caller's side hung up");
    assert_eq!(cdr.call_id, "call-ann");
}

#[test]
fn a_target_that_does_not_take_it_leaves_the_call_as_it_was() {
    for (status, told) in
        [("486 Busy Here", "SIP/2.0 486 Busy Here"), ("503 Full", "SIP/2.0 500 Full")]
    {
        let (mut bench, invite, ours) = bench();
        let cleo = referred(&mut bench, &invite);
        let before = bench.edits.len();
        bench.say(CLEO, &answer(&cleo, status, "cleo", "", ""));
        bench.only(CLEO, "ACK");
        let notify = bench.only(BEN, "NOTIFY");
        let (fragment, state) = notified(&mut bench, BEN, &notify);
        assert_eq!(fragment, told);
        assert!(state.starts_with("terminated"), "{state}");
        assert_eq!(bench.edits.len(), before, "media is untouched");
        assert!(bench.heard(ANN).is_empty() && bench.cdrs.is_empty());
        // It can be tried again, and the second REFER of a dialog has an id (RFC 3515 2.4.6).
        bench.say(BEN, &refer_of_ben(&invite, 2, "<sip:1003@pbx.test>"));
        let heard = bench.heard(BEN);
        assert!(heard[0].starts_with("SIP/2.0 202"), "{heard:#?}");
        assert_eq!(header(&heard[1], "Event"), "refer;id=2");
        let cleo = bench.only(CLEO, "INVITE");
        bench.say(CLEO, &answer(&cleo, "480 Away", "cleo", "", ""));
        bench.heard(CLEO);
        bench.heard(BEN);
        bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a9", &ours, ""));
        bench.only(ANN, "SIP/2.0 200");
        end_by_us(&mut bench, BEN);
        let cdr = only_cdr(bench);
        let failed = cdr.leg_timeline.events.iter();
        let failed = failed.filter(|event| event.event_type == LegEventType::TransferFailed);
        assert_eq!(failed.count(), 2, "{:?}", cdr.leg_timeline);
    }
}

#[test]
fn who_wanted_to_go_may_hang_up_before_the_target_answers() {
    let (mut bench, invite, _) = bench();
    let cleo = referred(&mut bench, &invite);
    bench.say(CLEO, &answer(&cleo, "180 Ringing", "cleo", CLEO, ""));
    bench.heard(BEN);
    bench.say(BEN, &from_called(BEN, "ben", "BYE", &invite, 2, "b2", ""));
    bench.only(BEN, "SIP/2.0 200");
    assert!(bench.heard(ANN).is_empty() && bench.cdrs.is_empty(), "the call goes on");
    assert_eq!(last_remotes(&bench)[1], Some(("10.0.0.12:5000".to_owned(), false)));
    bench.say(CLEO, &answer(&cleo, "200 OK", "cleo", CLEO, &sdp("10.0.0.13", 6000)));
    bench.only(CLEO, "ACK");
    assert!(bench.heard(BEN).is_empty(), "nothing more is said in an ended dialog");
    assert!(bench.heard(ANN).is_empty(), "Cleo speaks as Ben did");
    bench.say(CLEO, &from_called(CLEO, "cleo", "BYE", &cleo, 1, "c1", ""));
    bench.only(CLEO, "SIP/2.0 200");
    end_by_us(&mut bench, ANN);
    assert_eq!(only_cdr(bench).hangup_reason, HangupReason::ByCallee);
}

#[test]
fn who_is_left_alone_by_a_failed_transfer_is_let_go() {
    let (mut bench, invite, _) = bench();
    let cleo = referred(&mut bench, &invite);
    bench.say(BEN, &from_called(BEN, "ben", "BYE", &invite, 2, "b2", ""));
    bench.only(BEN, "SIP/2.0 200");
    bench.say(CLEO, &answer(&cleo, "486 Busy Here", "cleo", "", ""));
    bench.only(CLEO, "ACK");
    end_by_us(&mut bench, ANN);
    assert!(bench.heard(BEN).is_empty());
    assert_eq!(only_cdr(bench).hangup_reason, HangupReason::ByRefer);
}

#[test]
fn the_transferee_may_hang_up_while_the_target_rings() {
    let (mut bench, invite, ours) = bench();
    let cleo = referred(&mut bench, &invite);
    bench.say(CLEO, &answer(&cleo, "180 Ringing", "cleo", CLEO, ""));
    bench.heard(BEN);
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a9", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let heard = bench.heard(BEN);
    assert_eq!(notified(&mut bench, BEN, &heard[0]).0, "SIP/2.0 487 Request Terminated");
    assert!(heard[1].starts_with("BYE"), "{heard:#?}");
    bench.say(BEN, &answer(&heard[1], "200 OK", "", "", ""));
    let cancel = bench.only(CLEO, "CANCEL");
    bench.say(CLEO, &answer(&cancel, "200 OK", "cleo", "", ""));
    bench.say(CLEO, &answer(&cleo, "487 Request Terminated", "cleo", "", ""));
    bench.only(CLEO, "ACK");
    assert_eq!(only_cdr(bench).hangup_reason, HangupReason::ByCaller);
}

#[test]
fn a_target_that_never_answers_is_given_up() {
    let (mut bench, invite, _) = bench();
    let cleo = referred(&mut bench, &invite);
    bench.say(CLEO, &answer(&cleo, "180 Ringing", "cleo", CLEO, ""));
    bench.heard(BEN);
    bench.pass(Duration::from_millis(60_100));
    assert!(bench.heard(CLEO).iter().any(|heard| heard.starts_with("CANCEL")));
    let notify = bench.heard(BEN).pop().expect("a NOTIFY");
    assert_eq!(notified(&mut bench, BEN, &notify).0, "SIP/2.0 480 Temporarily Unavailable");
    assert!(bench.cdrs.is_empty(), "the call stands");
    // Its 200 crosses our CANCEL.
    bench.say(CLEO, &answer(&cleo, "200 OK", "cleo", CLEO, &sdp("10.0.0.13", 6000)));
    let heard = bench.heard(CLEO);
    assert!(heard[0].starts_with("ACK") && heard[1].starts_with("BYE"), "{heard:#?}");
    assert!(bench.heard(ANN).is_empty());
}

/// The usual way of a phone: hold, REFER, and the one who was held has to hear again.
#[test]
fn a_held_leg_talks_again_with_the_target() {
    let (mut bench, invite, _) = bench();
    let hold = sdp("10.0.0.12", 5000).replace("sendrecv", "sendonly");
    bench.say(BEN, &from_called(BEN, "ben", "INVITE", &invite, 1, "b1", &hold));
    bench.heard(BEN);
    let held = bench.only(ANN, "INVITE");
    let body = sdp("10.0.0.11", 4000).replace("sendrecv", "recvonly");
    bench.say(ANN, &answer(&held, "200 OK", "", ANN, &body));
    bench.only(ANN, "ACK");
    bench.heard(BEN);
    bench.say(BEN, &from_called(BEN, "ben", "ACK", &invite, 1, "b1ack", ""));
    bench.say(BEN, &refer_of_ben(&invite, 2, "<sip:1003@pbx.test>"));
    bench.heard(BEN);
    let cleo = bench.only(CLEO, "INVITE");
    assert!(cleo.contains("a=sendrecv") && !cleo.contains("recvonly"), "{cleo}");
    bench.say(CLEO, &answer(&cleo, "200 OK", "cleo", CLEO, &sdp("10.0.0.13", 6000)));
    bench.heard(CLEO);
    aligned(&mut bench);
    assert_eq!(last_remotes(&bench)[0], Some(("10.0.0.11:4000".to_owned(), true)));
}

#[test]
fn only_one_transfer_at_a_time_and_only_of_a_standing_call() {
    let (mut bench, invite, _) = bench();
    referred(&mut bench, &invite);
    bench.say(BEN, &refer_of_ben(&invite, 2, "<sip:1003@pbx.test>"));
    bench.only(BEN, "SIP/2.0 491");
    bench.say(BEN, &refer_of_ben(&invite, 2, "<sip:1003@pbx.test>").replace("r2", "r2b"));
    bench.only(BEN, "SIP/2.0 500"); // the same CSeq again (RFC 3261 12.2.2)
}

#[test]
fn what_a_refer_may_not_ask_for_is_refused() {
    let (mut bench, invite, _) = bench();
    let refused = [
        ("<sip:1003@pbx.test;method=BYE>", 501),
        ("<sip:1003@pbx.test?Subject=x>", 400),
        ("<tel:+4930123>", 416),
        ("<sip:10 03@pbx.test>", 400),
        ("<sip:1003@pbx.test>, <sip:1001@pbx.test>", 400),
    ];
    for (number, (target, status)) in (1..).zip(refused) {
        bench.say(BEN, &refer_of_ben(&invite, number, target));
        bench.only(BEN, &format!("SIP/2.0 {status}"));
    }
    let plain = from_called(BEN, "ben", "REFER", &invite, 20, "r20", "");
    bench.say(BEN, &plain);
    bench.only(BEN, "SIP/2.0 400");
    assert!(bench.heard(CLEO).is_empty() && bench.heard(ANN).is_empty());
    // A target that routing does not know is told in the NOTIFY.
    bench.say(BEN, &refer_of_ben(&invite, 21, "<sip:7777@pbx.test;method=INVITE>"));
    let heard = bench.heard(BEN);
    assert!(heard[0].starts_with("SIP/2.0 202"), "{heard:#?}");
    notified(&mut bench, BEN, &heard[1]);
    assert_eq!(notified(&mut bench, BEN, &heard[2]).0, "SIP/2.0 404 Not Found");
}

/// RFC 4488: who wants no subscription gets none.
#[test]
fn a_silent_refer_hears_nothing_more() {
    let (mut bench, invite, _) = bench();
    bench.say(BEN, &with(&refer_of_ben(&invite, 1, "<sip:1003@pbx.test>"), "Refer-Sub: false"));
    let accepted = bench.only(BEN, "SIP/2.0 202");
    assert_eq!(header(&accepted, "Refer-Sub"), "false");
    let cleo = bench.only(CLEO, "INVITE");
    bench.say(CLEO, &answer(&cleo, "200 OK", "cleo", CLEO, &sdp("10.0.0.13", 6000)));
    bench.heard(CLEO);
    bench.only(BEN, "BYE");
}

/// Reliability SE9: a caller who came by a trunk is not sent out by one at our cost.
#[test]
fn a_trunks_caller_cannot_refer_to_a_trunk() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    let invite = from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.99", 9000));
    let as_carrier = |text: String| {
        text.replace(ANN, CARRIER).replace("sip:1001@pbx.test", "sip:+4930999@carrier.test")
    };
    bench.say(CARRIER, &as_carrier(invite));
    bench.heard(CARRIER);
    let ben = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&ben, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    let ours = tag(&header(&bench.only(CARRIER, "SIP/2.0 200"), "To"));
    bench.say(CARRIER, &as_carrier(from_ann("ACK", "sip:1002@pbx.test", 1, "a1a", &ours, "")));
    let refer = as_carrier(from_ann("REFER", "sip:1002@pbx.test", 2, "r2", &ours, ""));
    bench.say(CARRIER, &with(&refer, "Refer-To: <sip:+4930123@carrier.test>"));
    let heard = bench.heard(CARRIER);
    assert!(heard[0].starts_with("SIP/2.0 202"), "{heard:#?}");
    assert!(heard[2].contains("SIP/2.0 403 Forbidden"), "{heard:#?}");
    assert_eq!(heard.len(), 3, "no call goes out: {heard:#?}");
    // Ben is our user: he may.
    let plain = from_called(BEN, "ben", "REFER", &ben, 1, "rb", "");
    bench.say(BEN, &with(&plain, "Refer-To: <sip:+4930123@carrier.test>"));
    assert!(bench.heard(CARRIER).iter().any(|heard| heard.starts_with("INVITE sip:+4930123@")));
}

/// A program moves the leg on this side; what it has heard by now.
fn transfer(bench: &mut Bench, id: u64, leaves: Side, target: &str) {
    let calls = bench.core.census().calls;
    assert_eq!(calls, 1, "the call that is meant");
    let call = CallName::Leg("call-ann".into());
    let action = CallAction::Transfer { leaves, target: target.into() };
    bench.input(call::Input::Command(Command::Act { id, call, action }));
}

fn acted(bench: &mut Bench, id: u64) -> Option<Acted> {
    bench.events.iter().find_map(|event| match event {
        Event::Answer { id: found, answer: Answer::Acted(acted), .. } if *found == id => {
            Some(*acted)
        }
        _ => None,
    })
}

fn refusal(bench: &mut Bench, id: u64) -> Option<Refusal> {
    match acted(bench, id) {
        Some(Acted::Refused { why, .. }) => Some(why),
        _ => None,
    }
}

#[test]
fn a_program_hears_when_the_target_has_taken_the_call() {
    let (mut bench, _, ours) = bench();
    transfer(&mut bench, 5, Side::Callee, "1003");
    let cleo = bench.only(CLEO, "INVITE");
    bench.say(CLEO, &answer(&cleo, "180 Ringing", "cleo", CLEO, ""));
    assert_eq!(acted(&mut bench, 5), None, "what was only sent is not done");
    assert!(bench.heard(BEN).is_empty() && bench.heard(ANN).is_empty());
    bench.say(CLEO, &answer(&cleo, "200 OK", "cleo", CLEO, &sdp("10.0.0.13", 6000)));
    bench.only(CLEO, "ACK");
    assert!(matches!(acted(&mut bench, 5), Some(Acted::Done { .. })));
    end_by_us(&mut bench, BEN);
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a9", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    end_by_us(&mut bench, CLEO);
    only_cdr(bench);
}

#[test]
fn a_program_hears_why_nobody_took_the_call() {
    let (mut bench, _, _) = bench();
    transfer(&mut bench, 1, Side::Callee, "10 03");
    assert_eq!(refusal(&mut bench, 1), Some(Refusal::TargetUnreadable));
    transfer(&mut bench, 2, Side::Callee, "7777");
    assert_eq!(refusal(&mut bench, 2), Some(Refusal::TargetFailed(404)));
    transfer(&mut bench, 3, Side::Callee, "1003");
    transfer(&mut bench, 4, Side::Caller, "1003");
    assert_eq!(refusal(&mut bench, 4), Some(Refusal::NotNow));
    let cleo = bench.only(CLEO, "INVITE");
    bench.say(CLEO, &answer(&cleo, "486 Busy Here", "cleo", "", ""));
    assert_eq!(refusal(&mut bench, 3), Some(Refusal::TargetFailed(486)));
    bench.only(CLEO, "ACK");
    // A target that only rings is given up before the program is.
    transfer(&mut bench, 6, Side::Callee, "1003");
    let cleo = bench.only(CLEO, "INVITE");
    bench.say(CLEO, &answer(&cleo, "180 Ringing", "cleo", CLEO, ""));
    bench.pass(Duration::from_millis(20_100));
    assert_eq!(refusal(&mut bench, 6), Some(Refusal::TargetFailed(480)));
    assert!(bench.heard(CLEO)[0].starts_with("CANCEL"));
    assert!(bench.heard(BEN).is_empty() && bench.heard(ANN).is_empty() && bench.cdrs.is_empty());
}

#[test]
fn a_program_hears_that_the_call_ended_under_its_transfer() {
    let (mut bench, _, ours) = bench();
    transfer(&mut bench, 5, Side::Callee, "1003");
    bench.only(CLEO, "INVITE");
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a9", &ours, ""));
    assert_eq!(refusal(&mut bench, 5), Some(Refusal::CallEnded));
}

#[test]
fn a_call_is_transferred_a_bounded_number_of_times() {
    let (mut bench, _, _) = bench();
    for id in 0..u64::from(TRANSFERS_PER_CALL_MAX) {
        transfer(&mut bench, id, Side::Callee, "7777");
        assert_eq!(refusal(&mut bench, id), Some(Refusal::TargetFailed(404)));
    }
    transfer(&mut bench, 99, Side::Callee, "1003");
    assert_eq!(refusal(&mut bench, 99), Some(Refusal::TooMany));
}
