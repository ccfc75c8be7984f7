//! A call that a program asks for: Ann is called, then Ben, then they are joined (surface.md 5).
//! Owns:  every way in which such a call is made, refused and ended; races and loss are the simulator's.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: after each test nothing is left in the core, and there is one CDR.

mod world;

use std::time::Duration;

use media::edit::RelayEdit;
use shared::cdr::{CallStatus, Cdr, Direction, HangupReason};
use shared::command::Command;
use shared::event::{Answer, Event};
use shared::headers::ExtraHeader;
use shared::ids::Side;
use shared::originate::{Originate, Originated, Party, Unstarted};
use world::{ANN, BEN, Bench, CARRIER, answer, from_called, header, sdp, settings};

/// Another phone of Ann's.
const ANN_TOO: &str = "10.0.0.21:5060";

fn bench() -> Bench {
    let mut bench = Bench::new(settings());
    bench.register("1001", ANN);
    bench.register("1002", BEN);
    bench
}

fn wish(from: &str, to: &str) -> Originate {
    Originate { from: from.into(), to: to.into(), ..Originate::default() }
}

fn originate(bench: &mut Bench, wanted: Originate) -> Originated {
    let command = Command::Originate { id: 7, wanted: Box::new(wanted) };
    bench.input(call::Input::Command(command));
    let mut answers = bench.events.iter().filter_map(|event| match event {
        Event::Answer { id: 7, answer: Answer::Originated(originated), .. } => Some(*originated),
        _ => None,
    });
    let only = answers.next().expect("an answer");
    assert_eq!(answers.next(), None, "one answer");
    bench.events.clear();
    only
}

/// Ann was called and has answered with `body`; Ben's INVITE is out. Both INVITEs.
fn first_answered(bench: &mut Bench, wanted: Originate, body: &str) -> (String, String) {
    assert!(matches!(originate(bench, wanted), Originated::Started(_)));
    let ann = bench.only(ANN, "INVITE");
    assert!(bench.heard(BEN).is_empty(), "the second party waits for the first");
    bench.say(ANN, &answer(&ann, "180 Ringing", "ann", ANN, ""));
    bench.say(ANN, &answer(&ann, "200 OK", "ann", ANN, body));
    bench.only(ANN, "ACK");
    let ben = bench.only(BEN, "INVITE");
    (ann, ben)
}

fn joined(bench: &mut Bench) -> (String, String) {
    let (ann, ben) = first_answered(bench, wish("1001", "1002"), &sdp("10.0.0.11", 4000));
    bench.say(BEN, &answer(&ben, "180 Ringing", "ben", BEN, ""));
    bench.pass(Duration::from_secs(1));
    bench.say(BEN, &answer(&ben, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    assert!(bench.heard(ANN).is_empty(), "both speak the same: nothing to tell Ann");
    (ann, ben)
}

/// The phone at `peer` answers the BYE that it was sent.
fn end_by_us(bench: &mut Bench, peer: &str) -> String {
    let bye = bench.only(peer, "BYE");
    bench.say(peer, &answer(&bye, "200 OK", "", "", ""));
    bye
}

fn only_cdr(mut bench: Bench) -> Cdr {
    bench.assert_quiet();
    assert_eq!(bench.cdrs.len(), 1, "{:#?}", bench.cdrs);
    bench.cdrs.pop().expect("one")
}

#[test]
fn both_are_called_and_joined() {
    let mut bench = bench();
    let (ann, ben) = joined(&mut bench);
    assert!(ann.contains("m=audio 2") && ann.contains("RTP/AVP 0 8 9 96 101"), "{ann}");
    assert!(ann.contains("c=IN IP4 10.0.0.1"), "media is anchored: {ann}");
    assert!(header(&ann, "From").starts_with("<sip:1002@pbx.test>"), "whom she will talk with");
    assert!(header(&ann, "To").starts_with("<sip:1001@pbx.test>"), "{ann}");
    assert!(ben.contains("RTP/AVP 0 8 9 96 101"), "what Ann chose comes first: {ben}");
    assert!(header(&ben, "From").starts_with("<sip:1001@pbx.test>"), "{ben}");
    let remotes: Vec<_> = bench
        .edits
        .iter()
        .filter_map(|edit| match edit {
            RelayEdit::Remote { side, remote, .. } => Some((*side, remote.rtp.to_string())),
            _ => None,
        })
        .collect();
    let expected = [(Side::Caller, "10.0.0.11:4000"), (Side::Callee, "10.0.0.12:5000")];
    assert_eq!(remotes, expected.map(|(side, place)| (side, place.to_owned())));

    bench.pass(Duration::from_secs(5));
    bench.say(BEN, &from_called(BEN, "ben", "BYE", &ben, 1, "b1", ""));
    bench.only(BEN, "SIP/2.0 200");
    end_by_us(&mut bench, ANN);
    let cdr = only_cdr(bench);
    assert_eq!((cdr.caller.as_str(), cdr.callee.as_str()), ("1001", "1002"));
    assert_eq!((cdr.status, cdr.status_code), (CallStatus::Completed, 200));
    assert_eq!((cdr.hangup_reason, cdr.duration_ms), (HangupReason::ByCallee, 5_000));
    assert_eq!((cdr.direction, cdr.source_addr.as_str()), (Direction::Internal, ANN));
    let roles: Vec<_> = cdr.sip_leg_roles.iter().map(|leg| (&leg.call_id, leg.role)).collect();
    let ids = [header(&ann, "Call-ID"), header(&ben, "Call-ID")];
    assert_eq!(roles, [(&ids[0], Side::Caller), (&ids[1], Side::Callee)]);
    assert_eq!(cdr.call_id, ids[0]);
    let ring = cdr.ring_time.expect("Ben rang");
    assert_eq!(cdr.answer_time.expect("it was answered").0 - ring.0, 1_000);
}

#[test]
fn the_first_party_hangs_up() {
    let mut bench = bench();
    let (ann, _) = joined(&mut bench);
    bench.say(ANN, &from_called(ANN, "ann", "BYE", &ann, 1, "a1", ""));
    bench.only(ANN, "SIP/2.0 200");
    end_by_us(&mut bench, BEN);
    assert_eq!(only_cdr(bench).hangup_reason, HangupReason::ByCaller);
}

#[test]
fn byes_that_cross_end_the_call_once() {
    let mut bench = bench();
    let (ann, ben) = joined(&mut bench);
    bench.say(ANN, &from_called(ANN, "ann", "BYE", &ann, 1, "a1", ""));
    bench.only(ANN, "SIP/2.0 200");
    bench.only(BEN, "BYE");
    bench.say(BEN, &from_called(BEN, "ben", "BYE", &ben, 1, "b1", ""));
    bench.only(BEN, "SIP/2.0 481"); // ours was first, and the dialog is over
    assert_eq!(only_cdr(bench).hangup_reason, HangupReason::ByCaller);
}

#[test]
fn busy_at_either_end_is_the_end() {
    for (who, caller_heard) in [("the first", false), ("the second", true)] {
        let mut bench = bench();
        let (peer, invite) = if caller_heard {
            let (_, ben) =
                first_answered(&mut bench, wish("1001", "1002"), &sdp("10.0.0.11", 4000));
            (BEN, ben)
        } else {
            originate(&mut bench, wish("1001", "1002"));
            (ANN, bench.only(ANN, "INVITE"))
        };
        bench.say(peer, &answer(&invite, "486 Busy Here", "x", "", ""));
        bench.only(peer, "ACK");
        if caller_heard {
            end_by_us(&mut bench, ANN);
        }
        assert!(bench.heard(BEN).is_empty(), "{who}");
        let cdr = only_cdr(bench);
        assert_eq!((cdr.status, cdr.status_code), (CallStatus::Missed, 486), "{who}");
        assert_eq!(cdr.hangup_reason, HangupReason::Rejected, "{who}");
        let target = &cdr.hangup_messages[0].target;
        assert!(target.contains(if caller_heard { "1002" } else { "1001" }), "{who}: {target}");
    }
}

#[test]
fn nobody_answers_in_the_time_that_was_asked_for() {
    let ring = Some(Duration::from_secs(7));
    let mut bench = bench();
    originate(&mut bench, Originate { ring, ..wish("1001", "1002") });
    let ann = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&ann, "180 Ringing", "ann", ANN, ""));
    bench.pass(Duration::from_millis(7_100));
    let cancel = bench.only(ANN, "CANCEL");
    bench.say(ANN, &answer(&cancel, "200 OK", "ann", "", ""));
    bench.say(ANN, &answer(&ann, "487 Request Terminated", "ann", "", ""));
    bench.only(ANN, "ACK");
    let cdr = only_cdr(bench);
    assert_eq!((cdr.status_code, cdr.hangup_reason), (480, HangupReason::NoAnswer));
    assert_eq!((cdr.ring_time, cdr.answer_time), (None, None), "the second party never rang");

    let mut bench = self::bench();
    let wanted = Originate { ring, ..wish("1001", "1002") };
    let (_, ben) = first_answered(&mut bench, wanted, &sdp("10.0.0.11", 4000));
    bench.say(BEN, &answer(&ben, "183 Session Progress", "ben", BEN, ""));
    bench.pass(Duration::from_millis(7_100));
    bench.only(BEN, "CANCEL");
    end_by_us(&mut bench, ANN);
    let cdr = only_cdr(bench);
    assert_eq!((cdr.status_code, cdr.hangup_reason), (480, HangupReason::NoAnswer));
    assert!(cdr.ring_time.is_some());
}

/// The first party gives up while the second rings: for it that is a CANCEL by another name.
#[test]
fn the_first_party_gives_up_while_the_second_rings() {
    let mut bench = bench();
    let (ann, ben) = first_answered(&mut bench, wish("1001", "1002"), &sdp("10.0.0.11", 4000));
    bench.say(BEN, &answer(&ben, "180 Ringing", "ben", BEN, ""));
    bench.say(ANN, &from_called(ANN, "ann", "BYE", &ann, 1, "a1", ""));
    bench.only(ANN, "SIP/2.0 200");
    let cancel = bench.only(BEN, "CANCEL");
    bench.say(BEN, &answer(&cancel, "200 OK", "ben", "", ""));
    // Ben's 200 crosses the CANCEL: nobody is left to talk with him.
    bench.say(BEN, &answer(&ben, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    let heard = bench.heard(BEN);
    assert!(heard[0].starts_with("ACK") && heard[1].starts_with("BYE"), "{heard:#?}");
    bench.say(BEN, &answer(&heard[1], "200 OK", "", "", ""));
    let cdr = only_cdr(bench);
    assert_eq!((cdr.status_code, cdr.hangup_reason), (487, HangupReason::Canceled));
    assert_eq!((cdr.status, cdr.answer_time), (CallStatus::Missed, None));
}

#[test]
fn a_redirection_is_not_followed() {
    let mut bench = bench();
    let (_, ben) = first_answered(&mut bench, wish("1001", "1002"), &sdp("10.0.0.11", 4000));
    bench.say(BEN, &answer(&ben, "302 Moved Temporarily", "ben", "10.9.9.9:5060", ""));
    bench.only(BEN, "ACK");
    end_by_us(&mut bench, ANN);
    assert_eq!(only_cdr(bench).status_code, 302);
}

#[test]
fn early_media_of_the_second_party_is_heard_by_the_first() {
    let mut bench = bench();
    let (_, ben) = first_answered(&mut bench, wish("1001", "1002"), &sdp("10.0.0.11", 4000));
    let early = sdp("10.0.0.12", 5000);
    bench.say(BEN, &answer(&ben, "183 Session Progress", "ben", BEN, &early));
    let heard = bench.edits.iter().any(|edit| {
        matches!(edit, RelayEdit::Remote { side: Side::Callee, remote, .. }
            if remote.rtp.to_string() == "10.0.0.12:5000" && remote.may_send)
    });
    assert!(heard, "{:?}", bench.edits);
    assert!(bench.heard(ANN).is_empty());
    bench.say(BEN, &answer(&ben, "200 OK", "ben", BEN, &early));
    bench.only(BEN, "ACK");
    assert!(bench.cdrs.is_empty());
}

fn with_formats(body: &str, formats: &str) -> String {
    body.replace("RTP/AVP 0 8", &format!("RTP/AVP {formats}"))
}

/// RFC 3725 4: another choice of the second party is told to the first by a re-INVITE.
#[test]
fn the_first_party_is_told_when_the_second_chooses_otherwise() {
    let mut bench = bench();
    let body = with_formats(&sdp("10.0.0.11", 4000), "0");
    let (ann, ben) = first_answered(&mut bench, wish("1001", "1002"), &body);
    assert!(ben.contains("RTP/AVP 0 8 9 96 101"), "{ben}");
    let chosen = with_formats(&sdp("10.0.0.12", 5000), "8");
    bench.say(BEN, &answer(&ben, "200 OK", "ben", BEN, &chosen));
    bench.only(BEN, "ACK");
    let change = bench.only(ANN, "INVITE");
    assert_eq!(header(&change, "Call-ID"), header(&ann, "Call-ID"));
    assert!(header(&change, "To").contains("tag=ann"), "{change}");
    assert!(change.contains("RTP/AVP 8\r\n"), "{change}");
    let port = |text: &str| text.split("m=audio ").nth(1).map(|rest| rest[..5].to_owned());
    assert_eq!(port(&change), port(&ann), "our port stays");
    let body = with_formats(&sdp("10.0.0.11", 4000), "8");
    bench.say(ANN, &answer(&change, "200 OK", "", ANN, &body));
    bench.only(ANN, "ACK");
    bench.say(ANN, &answer(&change, "200 OK", "", ANN, &body));
    bench.only(ANN, "ACK"); // a repeat gets it again
    bench.say(ANN, &from_called(ANN, "ann", "BYE", &ann, 1, "a1", ""));
    bench.only(ANN, "SIP/2.0 200");
    end_by_us(&mut bench, BEN);
    assert_eq!(only_cdr(bench).status_code, 200);
}

/// RFC 3261 14.1: we made the Call-ID, so we wait 2.1 to 4 s after a 491.
#[test]
fn glare_is_waited_out() {
    let mut bench = bench();
    let body = with_formats(&sdp("10.0.0.11", 4000), "0");
    let (_, ben) = first_answered(&mut bench, wish("1001", "1002"), &body);
    let chosen = with_formats(&sdp("10.0.0.12", 5000), "8");
    bench.say(BEN, &answer(&ben, "200 OK", "ben", BEN, &chosen));
    bench.heard(BEN);
    let change = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&change, "491 Request Pending", "", "", ""));
    bench.only(ANN, "ACK");
    bench.pass(Duration::from_millis(2_050));
    assert!(bench.heard(ANN).is_empty());
    bench.pass(Duration::from_millis(1_950));
    // By then it may have been sent again.
    let again = bench.heard(ANN).remove(0);
    assert!(again.starts_with("INVITE"), "{again}");
    bench.say(ANN, &answer(&again, "200 OK", "", ANN, &with_formats(&body, "8")));
    bench.only(ANN, "ACK");
    assert!(bench.cdrs.is_empty(), "the call stands");
}

#[test]
fn ends_without_a_codec_in_common_do_not_stay_in_a_silent_call() {
    let mut bench = bench();
    let body = with_formats(&sdp("10.0.0.11", 4000), "0");
    let (_, ben) = first_answered(&mut bench, wish("1001", "1002"), &body);
    let chosen = with_formats(&sdp("10.0.0.12", 5000), "8");
    bench.say(BEN, &answer(&ben, "200 OK", "ben", BEN, &chosen));
    bench.heard(BEN);
    let change = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&change, "488 Not Acceptable Here", "", "", ""));
    let heard = bench.heard(ANN);
    assert!(heard[0].starts_with("ACK") && heard[1].starts_with("BYE"), "{heard:#?}");
    bench.say(ANN, &answer(&heard[1], "200 OK", "", "", ""));
    end_by_us(&mut bench, BEN);
    let cdr = only_cdr(bench);
    assert_eq!(cdr.hangup_reason, HangupReason::Failed);
    assert_eq!(cdr.hangup_messages[0].code, 488);
}

/// Ann picks up on one of her phones: the other one stops ringing, and nobody is called twice.
#[test]
fn the_first_party_may_have_several_phones() {
    let mut bench = bench();
    bench.register("1001", ANN_TOO);
    originate(&mut bench, wish("1001", "1002"));
    let (one, two) = (bench.only(ANN, "INVITE"), bench.only(ANN_TOO, "INVITE"));
    bench.say(ANN, &answer(&one, "180 Ringing", "ann", ANN, ""));
    bench.say(ANN_TOO, &answer(&two, "180 Ringing", "too", ANN_TOO, ""));
    bench.say(ANN_TOO, &answer(&two, "200 OK", "too", ANN_TOO, &sdp("10.0.0.21", 4100)));
    bench.only(ANN_TOO, "ACK");
    let cancel = bench.only(ANN, "CANCEL");
    assert!(cancel.contains("Call completed elsewhere"), "{cancel}");
    bench.say(ANN, &answer(&cancel, "200 OK", "ann", "", ""));
    bench.say(ANN, &answer(&one, "487 Request Terminated", "ann", "", ""));
    bench.only(ANN, "ACK");
    let ben = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&ben, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    bench.say(ANN_TOO, &from_called(ANN_TOO, "too", "BYE", &two, 1, "t1", ""));
    bench.only(ANN_TOO, "SIP/2.0 200");
    end_by_us(&mut bench, BEN);
    let cdr = only_cdr(bench);
    assert_eq!(cdr.hangup_reason, HangupReason::ByCaller);
    assert_eq!(cdr.call_id, header(&two, "Call-ID"), "the phone that was answered");
    assert_eq!(cdr.sip_leg_roles[0].call_id, cdr.call_id);
    assert_eq!(cdr.sip_leg_roles.len(), 3);
}

#[test]
fn a_caller_id_and_headers_go_where_they_belong() {
    let line = |name, value| ExtraHeader::new(name, value).expect("a line");
    let mut bench = bench();
    let wanted = Originate {
        caller_id: Some("\"Help desk\" <sip:100@pbx.test>".into()),
        headers: vec![line("X-Ticket", "42"), line("Alert-Info", "<http://h>;info=auto")],
        ..wish("1001", "1002")
    };
    let (ann, ben) = first_answered(&mut bench, wanted, &sdp("10.0.0.11", 4000));
    assert!(ann.contains("X-Ticket: 42\r\n") && ben.contains("X-Ticket: 42\r\n"));
    assert!(ann.contains("Alert-Info: <http://h>;info=auto\r\n"), "{ann}");
    assert!(!ben.contains("Alert-Info"), "nobody's phone answers by itself but the asker's: {ben}");
    assert!(header(&ben, "From").starts_with("\"Help desk\" <sip:100@pbx.test>;tag="), "{ben}");
}

#[test]
fn a_trunk_is_called_from_either_end_and_counts() {
    let mut bench = bench();
    originate(&mut bench, wish("sip:+4930123@carrier.test", "1002"));
    let out = bench.only(CARRIER, "INVITE sip:+4930123@carrier.test SIP/2.0");
    bench.say(CARRIER, &answer(&out, "200 OK", "c", CARRIER, &sdp("10.0.0.99", 9000)));
    bench.only(CARRIER, "ACK");
    bench.only(BEN, "INVITE");
    // The trunk takes one call at a time.
    originate(&mut bench, wish("1001", "sip:+4930124@carrier.test"));
    assert!(bench.heard(ANN).is_empty() && bench.heard(CARRIER).is_empty());
    let cdr = bench.cdrs.pop().expect("the second call");
    assert_eq!((cdr.status_code, cdr.outbound_trunk.as_deref()), (503, Some("carrier")));
    assert_eq!((cdr.direction, cdr.callee.as_str()), (Direction::Outbound, "+4930124"));
    bench.say(CARRIER, &from_called(CARRIER, "c", "BYE", &out, 1, "c1", ""));
    bench.only(CARRIER, "SIP/2.0 200");
    bench.pass(Duration::from_secs(40));
    assert!(matches!(
        originate(&mut bench, wish("1001", "sip:+4930124@carrier.test")),
        Originated::Started(_)
    ));
    bench.only(ANN, "INVITE");
}

#[test]
fn what_cannot_be_called_is_refused_before_a_call_exists() {
    use Party::{CallerId, From, To};
    let refused = [
        (wish("1003", "1002"), Unstarted::NotRegistered(From)),
        (wish("7777", "1002"), Unstarted::Unreachable(From, 404)),
        (wish("1001", "7777"), Unstarted::Unreachable(To, 404)),
        (wish("1001", "sips:1002@pbx.test"), Unstarted::Unreachable(To, 416)),
        (wish("1001", ""), Unstarted::Unreadable(To)),
        (wish("10 01", "1002"), Unstarted::Unreadable(From)),
        (wish("1001", "sip:1002@pbx.test?Replaces=x"), Unstarted::Unreadable(To)),
        (
            Originate {
                caller_id: Some("\"a\r\nVia: x\" <sip:b@c>".into()),
                ..wish("1001", "1002")
            },
            Unstarted::Unreadable(CallerId),
        ),
    ];
    let mut bench = bench();
    for (wanted, why) in refused {
        let said = originate(&mut bench, wanted.clone());
        assert_eq!(said, Originated::Refused(why), "{wanted:?}");
    }
    bench.input(call::Input::Command(Command::Drain));
    bench.events.clear();
    let said = originate(&mut bench, wish("1001", "1002"));
    assert_eq!(said, Originated::Refused(Unstarted::Overloaded));
    assert!(bench.heard(ANN).is_empty() && bench.heard(BEN).is_empty());
    assert!(bench.cdrs.is_empty());
    bench.assert_quiet();
}

/// The second party is somebody else's business until the first has answered: it is a call, and it
/// has a CDR.
#[test]
fn a_second_party_that_is_not_registered_is_never_rung_for() {
    let mut bench = bench();
    assert!(matches!(originate(&mut bench, wish("1001", "1003")), Originated::Started(_)));
    assert!(bench.heard(ANN).is_empty(), "nobody is rung for nothing");
    let cdr = only_cdr(bench);
    assert_eq!((cdr.status_code, cdr.hangup_reason), (480, HangupReason::NoAnswer));
    assert!(cdr.sip_leg_roles.is_empty() && !cdr.call_id.is_empty());
}

#[test]
fn a_stop_ends_both_legs() {
    let mut bench = bench();
    first_answered(&mut bench, wish("1001", "1002"), &sdp("10.0.0.11", 4000));
    bench.input(call::Input::Command(Command::Stop));
    bench.only(ANN, "BYE");
    assert_eq!(only_cdr(bench).hangup_reason, HangupReason::BySystem);
}

#[test]
fn an_answer_without_a_codec_of_ours_is_hung_up() {
    let mut bench = bench();
    originate(&mut bench, wish("1001", "1002"));
    let ann = bench.only(ANN, "INVITE");
    let body = with_formats(&sdp("10.0.0.11", 0), "0");
    bench.say(ANN, &answer(&ann, "200 OK", "ann", ANN, &body));
    let heard = bench.heard(ANN);
    assert!(heard[0].starts_with("ACK") && heard[1].starts_with("BYE"), "{heard:#?}");
    bench.say(ANN, &answer(&heard[1], "200 OK", "", "", ""));
    assert!(bench.heard(BEN).is_empty());
    assert_eq!(only_cdr(bench).status_code, 488);
}

#[test]
fn ports_that_are_taken_end_a_call_before_anybody_rings() {
    let mut bench = bench();
    bench.refuse_relays = 99;
    originate(&mut bench, wish("1001", "1002"));
    assert!(bench.heard(ANN).is_empty());
    assert_eq!(only_cdr(bench).status_code, 503);
}
