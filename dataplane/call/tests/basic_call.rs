//! A call from its INVITE to its CDR, on the bench: the codes on the wire and what is written down.
//! Owns:  the everyday cases; races and loss are the simulator's.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use std::time::Duration;

use media::edit::RelayEdit;
use shared::cdr::{CallStatus, HangupReason};
use shared::event::{CallStage, Event};
use shared::ids::Side;
use shared::metrics::Counter;
use world::{
    ANN, BEN, Bench, CARRIER, answer, established, from_ann, from_ben, header, sdp, settings, tag,
};

fn bench() -> Bench {
    Bench::new(settings())
}

#[test]
fn a_call_is_answered_and_hung_up_by_the_caller() {
    let mut bench = bench();
    let (invite, ours) = established(&mut bench);
    assert!(invite.contains("X-Case: 42"), "private headers cross: {invite}");
    assert_ne!(header(&invite, "Call-ID"), "call-ann", "each leg has its own Call-ID");
    assert!(invite.contains("c=IN IP4 10.0.0.1"), "media is anchored: {invite}");
    assert!(!invite.contains("4000"), "the caller's port is not passed on: {invite}");
    bench.pass(Duration::from_secs(10));
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    let cdr = bench.cdrs.pop().expect("one CDR");
    assert_eq!((cdr.caller.as_str(), cdr.callee.as_str()), ("1001", "1002"));
    assert_eq!((cdr.status, cdr.status_code), (CallStatus::Completed, 200));
    assert_eq!((cdr.hangup_reason, cdr.duration_ms), (HangupReason::ByCaller, 10_000));
    let ring = cdr.ring_time.expect("it rang");
    assert_eq!(cdr.answer_time.expect("it was answered").0 - ring.0, 2_000);
    bench.assert_quiet();
    assert!(bench.cdrs.is_empty(), "one CDR only");
}

#[test]
fn media_follows_the_answer() {
    let mut bench = bench();
    established(&mut bench);
    let remotes: Vec<_> = bench
        .edits
        .iter()
        .filter_map(|edit| match edit {
            RelayEdit::Remote { side, remote, .. } => Some((side.index(), remote.rtp.to_string())),
            _ => None,
        })
        .collect();
    assert_eq!(remotes, [(0, "10.0.0.11:4000".to_owned()), (1, "10.0.0.12:5000".to_owned())]);
}

#[test]
fn the_callee_hangs_up() {
    let mut bench = bench();
    let (invite, _) = established(&mut bench);
    bench.say(BEN, &from_ben("BYE", &invite, 1, "b1", ""));
    bench.only(BEN, "SIP/2.0 200");
    let bye = bench.only(ANN, "BYE");
    bench.say(ANN, &answer(&bye, "200 OK", "", "", ""));
    assert_eq!(bench.cdrs[0].hangup_reason, HangupReason::ByCallee);
    bench.assert_quiet();
}

#[test]
fn unknown_is_404_and_not_registered_is_480() {
    for (target, status) in [("sip:7777@pbx.test", 404), ("sip:1003@pbx.test", 480)] {
        let mut bench = bench();
        bench.say(ANN, &from_ann("INVITE", target, 1, "a1", "", &sdp("10.0.0.11", 4000)));
        let heard = bench.heard(ANN);
        assert!(heard.last().is_some_and(|last| last.starts_with(&format!("SIP/2.0 {status}"))));
        assert_eq!((bench.cdrs.len(), bench.cdrs[0].status_code), (1, status));
        let ours = tag(&header(heard.last().expect("an answer"), "To"));
        bench.say(ANN, &from_ann("ACK", target, 1, "a1", &ours, ""));
        bench.assert_quiet();
    }
}

#[test]
fn busy_passes_through() {
    let mut bench = bench();
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.heard(ANN);
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "486 Busy Right Now", "ben", "", ""));
    bench.only(BEN, "ACK");
    let busy = bench.only(ANN, "SIP/2.0 486 Busy Right Now");
    let ours = tag(&header(&busy, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1", &ours, ""));
    let cdr = &bench.cdrs[0];
    assert_eq!((cdr.status_code, cdr.hangup_reason), (486, HangupReason::Rejected));
    bench.assert_quiet();
}

#[test]
fn the_caller_cancels() {
    let mut bench = bench();
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.heard(ANN);
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    bench.heard(ANN);
    bench.say(ANN, &from_ann("CANCEL", "sip:1002@pbx.test", 1, "a1", "", ""));
    let heard = bench.heard(ANN);
    assert!(heard[0].starts_with("SIP/2.0 200") && heard[0].contains("CANCEL"), "{heard:?}");
    assert!(heard[1].starts_with("SIP/2.0 487"), "{heard:?}");
    let ours = tag(&header(&heard[1], "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1", &ours, ""));
    let cancel = bench.only(BEN, "CANCEL");
    assert_eq!(header(&cancel, "Via"), header(&invite, "Via"));
    bench.say(BEN, &answer(&cancel, "200 OK", "ben", "", ""));
    bench.say(BEN, &answer(&invite, "487 Request Terminated", "ben", "", ""));
    bench.only(BEN, "ACK");
    assert_eq!(
        (bench.cdrs[0].status_code, bench.cdrs[0].hangup_reason),
        (487, HangupReason::Canceled)
    );
    bench.assert_quiet();
}

#[test]
fn nobody_answers() {
    let mut bench = bench();
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    bench.heard(ANN);
    bench.pass(Duration::from_secs(61));
    let heard = bench.heard(ANN);
    assert!(heard[0].starts_with("SIP/2.0 480"), "{heard:?}");
    assert!(bench.heard(BEN)[0].starts_with("CANCEL"));
    assert_eq!(
        (bench.cdrs[0].status_code, bench.cdrs[0].hangup_reason),
        (480, HangupReason::NoAnswer)
    );
    bench.assert_quiet();
}

#[test]
fn the_callee_holds_and_resumes() {
    let mut bench = bench();
    let (invite, _) = established(&mut bench);
    let hold = sdp("10.0.0.12", 5000).replace("sendrecv", "sendonly");
    bench.say(BEN, &from_ben("INVITE", &invite, 1, "b1", &hold));
    bench.only(BEN, "SIP/2.0 100");
    let relayed = bench.only(ANN, "INVITE");
    assert!(relayed.contains("a=sendonly"), "{relayed}");
    let held = sdp("10.0.0.11", 4000).replace("sendrecv", "recvonly");
    bench.say(ANN, &answer(&relayed, "200 OK", "", ANN, &held));
    bench.only(ANN, "ACK");
    let ok = bench.only(BEN, "SIP/2.0 200");
    assert!(ok.contains("a=recvonly"), "{ok}");
    bench.say(BEN, &from_ben("ACK", &invite, 1, "b1ack", ""));
    let on_hold = bench.edits.iter().rev().find_map(|edit| match edit {
        RelayEdit::Remote { side, remote, .. } if side.index() == 1 => Some(*remote),
        _ => None,
    });
    assert!(on_hold.is_some_and(|remote| !remote.may_receive && remote.may_send));
    bench.say(BEN, &from_ben("INVITE", &invite, 2, "b2", &sdp("10.0.0.12", 5000)));
    let resumed = bench.only(ANN, "INVITE");
    assert!(resumed.contains("a=sendrecv"));
}

#[test]
fn re_invites_that_cross_are_answered_491() {
    let mut bench = bench();
    let (invite, ours) = established(&mut bench);
    bench.say(BEN, &from_ben("INVITE", &invite, 1, "b1", &sdp("10.0.0.12", 5002)));
    bench.only(ANN, "INVITE");
    bench.say(
        ANN,
        &from_ann("INVITE", "sip:1002@pbx.test", 2, "a2", &ours, &sdp("10.0.0.11", 4002)),
    );
    bench.only(ANN, "SIP/2.0 491");
}

#[test]
fn an_offerless_invite_gets_its_answer_in_the_ack() {
    let mut bench = bench();
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", ""));
    bench.heard(ANN);
    let invite = bench.only(BEN, "INVITE");
    assert!(!invite.contains("m=audio"), "{invite}");
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    assert!(bench.heard(BEN).is_empty(), "the ACK has to wait for the answer");
    let ok = bench.only(ANN, "SIP/2.0 200");
    assert!(ok.contains("m=audio 2"), "{ok}");
    let ours = tag(&header(&ok, "To"));
    let ack = from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &ours, &sdp("10.0.0.11", 4000));
    bench.say(ANN, &ack);
    let ack = bench.only(BEN, "ACK");
    assert!(ack.contains("m=audio 2"), "{ack}");
}

#[test]
fn a_trunk_is_called_by_its_host_and_keeps_its_limit() {
    let mut bench = bench();
    let uri = "sip:+4930123@carrier.test";
    bench.say(ANN, &from_ann("INVITE", uri, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "SIP/2.0 100");
    let invite = bench.only(CARRIER, "INVITE sip:+4930123@carrier.test SIP/2.0");
    bench.say(CARRIER, &answer(&invite, "200 OK", "c", CARRIER, &sdp("10.0.0.99", 9000)));
    bench.heard(CARRIER);
    let second = from_ann("INVITE", uri, 1, "x1", "", &sdp("10.0.0.11", 4004));
    bench.heard(ANN);
    bench.say(ANN, &second.replace("call-ann", "call-two"));
    assert!(bench.heard(ANN)[1].starts_with("SIP/2.0 503"));
}

#[test]
fn ports_that_are_taken_are_replaced_by_others() {
    let mut bench = bench();
    bench.refuse_relays = 3;
    established(&mut bench);
    let opens = bench.edits.iter().filter(|edit| matches!(edit, RelayEdit::Open { .. })).count();
    assert_eq!(opens, 4);
    let mut bench = Bench::new(settings());
    bench.refuse_relays = 99;
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    assert!(bench.heard(ANN)[1].starts_with("SIP/2.0 503"));
    assert!(bench.heard(BEN).is_empty());
    bench.pass(Duration::from_secs(120));
    bench.assert_quiet();
}

#[test]
fn a_silent_call_ends_on_both_sides() {
    let mut bench = bench();
    established(&mut bench);
    let relay = bench.edits.iter().find_map(|edit| match edit {
        RelayEdit::Open { relay, .. } => Some(*relay),
        _ => None,
    });
    bench.input(call::Input::RelaySilent(relay.expect("a relay was opened")));
    bench.only(ANN, "BYE");
    bench.only(BEN, "BYE");
    assert_eq!(bench.cdrs[0].hangup_reason, HangupReason::RtpTimeout);
    bench.assert_quiet();
}

#[test]
fn a_callee_that_hangs_up_while_it_rings_leaves_nothing_behind() {
    let mut bench = bench();
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.heard(ANN);
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    bench.heard(ANN);
    bench.say(BEN, &from_ben("BYE", &invite, 1, "b1", ""));
    bench.only(BEN, "SIP/2.0 200");
    let failed = bench.only(ANN, "SIP/2.0 480");
    let ours = tag(&header(&failed, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1", &ours, ""));
    bench.assert_quiet();
}

/// RFC 3261 13.2.2.4: the offer of a 2xx is answered even when nobody wants the call any more.
#[test]
fn an_unwanted_offer_is_refused_in_the_ack() {
    let mut bench = bench();
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", ""));
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    bench.say(ANN, &from_ann("CANCEL", "sip:1002@pbx.test", 1, "a1", "", ""));
    let cancel = bench.only(BEN, "CANCEL");
    bench.say(BEN, &answer(&cancel, "200 OK", "ben", "", ""));
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    let heard = bench.heard(BEN);
    assert!(heard[0].starts_with("ACK") && heard[0].contains("m=audio 0 "), "{heard:#?}");
    assert!(heard[1].starts_with("BYE"), "{heard:#?}");
}

#[test]
fn an_ended_call_passes_nothing_on() {
    let mut bench = bench();
    let (invite, ours) = established(&mut bench);
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    bench.heard(ANN);
    bench.heard(BEN);
    bench.say(BEN, &from_ben("INFO", &invite, 1, "b1", ""));
    bench.only(BEN, "SIP/2.0 481");
    assert!(bench.heard(ANN).is_empty());
}

/// What the journal cannot write down any more is not promised to anybody.
#[test]
fn a_journal_without_room_refuses_new_calls_and_lets_standing_ones_go_on() {
    let mut bench = Bench::new(settings());
    let (invite, _) = established(&mut bench);
    let full = shared::limits::JOURNAL_WAITING_BYTES_MAX as u64;
    bench.core.plain_counters().set(Counter::JournalWaiting, full);
    let other = from_ann("INVITE", "sip:1002@pbx.test", 7, "a7", "", &sdp("10.0.0.11", 4000));
    bench.say(ANN, &other.replace("call-ann", "call-other"));
    let refused = bench.only(ANN, "SIP/2.0 503");
    assert!(refused.contains("Retry-After: "), "{refused}");
    bench.say(BEN, &from_ben("BYE", &invite, 1, "b1", ""));
    bench.only(BEN, "SIP/2.0 200");
    bench.only(ANN, "BYE");
    assert_eq!((bench.starts.len(), bench.cdrs.len()), (1, 1));
}

/// Programs that listen hear each stage once, and nothing of another record's words.
#[test]
fn a_call_is_told_stage_by_stage() {
    let mut bench = bench();
    let (_, ours) = established(&mut bench);
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    let cdr = bench.cdrs.pop().expect("one CDR");
    let told: Vec<_> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Call(news) => Some(&**news),
            _ => None,
        })
        .collect();
    let (reason, by) = (HangupReason::ByCaller, Some(Side::Caller));
    let stages: Vec<_> = told.iter().map(|news| news.stage).collect();
    let ended = CallStage::Ended { reason, by, sip_status: 200 };
    assert_eq!(stages, [CallStage::Created, CallStage::Ringing, CallStage::Answered, ended]);
    for news in told {
        assert_eq!((news.call, &news.sip_call_id), (cdr.session_id, &cdr.call_id));
        assert_eq!((news.caller.as_str(), news.callee.as_str()), ("1001", "1002"));
    }
}

/// The control plane is behind: what it must not miss comes first, and the counter says so.
#[test]
fn news_gives_way_when_events_wait() {
    let mut bench = bench();
    let waiting = shared::limits::NEWS_BACKLOG_MAX as u64;
    bench.core.plain_counters().set(Counter::EventBacklog, waiting);
    bench.say(ANN, &from_ann("INVITE", "sip:7777@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    assert_eq!(bench.cdrs.len(), 1);
    assert!(!bench.events.iter().any(|event| matches!(event, Event::Call(_))));
    assert_eq!(bench.core.plain_counters().of(Counter::CallNewsDropped), 2);
}
