//! Programs that act on calls, on the bench: what each leg sees on the wire, and the one answer.
//! Owns:  one test per rule of `b2bua/acts.rs`.
//! Gives: raw text in, raw text out.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use std::time::Duration;

use media::edit::{Mute, RelayEdit};
use shared::act::{Acted, CallAction, CallName, HangUp, Refusal};
use shared::cdr::{CallStatus, HangupReason};
use shared::ids::{CallId, Side};
use world::acting::{act, answers, bench, is_done, standing};
use world::{ANN, BEN, answer, established, from_ann, from_ben, header, sdp, tag};

fn hang_up(code: Option<u16>) -> CallAction {
    CallAction::HangUp(HangUp { code, reason: Some("say \"no\"".into()), by: "ops".into() })
}

#[test]
fn hang_up_says_bye_and_why_to_both() {
    let mut bench = bench();
    established(&mut bench);
    let call = standing(&mut bench);
    bench.pass(Duration::from_secs(3));
    act(&mut bench, 7, CallName::Id(call), hang_up(None));
    for phone in [ANN, BEN] {
        let bye = bench.only(phone, "BYE");
        assert_eq!(header(&bye, "Reason"), "Q.850;cause=16;text=\"say \\\"no\\\"\"");
        bench.say(phone, &answer(&bye, "200 OK", "", "", ""));
    }
    assert!(is_done(&answers(&mut bench), 7, call));
    let cdr = &bench.cdrs[0];
    assert_eq!((cdr.hangup_reason, cdr.status), (HangupReason::BySystem, CallStatus::Completed));
    let message = &cdr.hangup_messages[0];
    assert_eq!((message.code, message.target.as_str()), (200, "ops"));
    act(&mut bench, 8, CallName::Id(call), hang_up(None));
    let after = answers(&mut bench);
    assert!(matches!(after[..], [(8, Acted::UnknownCall | Acted::Refused { .. })]), "{after:?}");
    bench.assert_quiet();
    assert_eq!(answers(&mut bench), []);
}

#[test]
fn hang_up_of_a_ringing_call_refuses_the_caller_and_cancels_the_callee() {
    let mut bench = bench();
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.heard(ANN);
    let invite = bench.only(BEN, "INVITE");
    let call = standing(&mut bench);
    // Ben has said nothing yet: no CANCEL before his first word (RFC 3261 9.1).
    act(&mut bench, 1, CallName::Leg("call-ann".into()), hang_up(Some(486)));
    let refused = bench.only(ANN, "SIP/2.0 486 say \"no\"");
    let ours = tag(&header(&refused, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1", &ours, ""));
    assert!(is_done(&answers(&mut bench), 1, call));
    assert!(bench.heard(BEN).is_empty());
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    let cancel = bench.only(BEN, "CANCEL");
    assert_eq!(header(&cancel, "Reason"), "SIP;cause=486;text=\"say \\\"no\\\"\"");
    bench.say(BEN, &answer(&cancel, "200 OK", "ben", "", ""));
    bench.say(BEN, &answer(&invite, "487 Request Terminated", "ben", "", ""));
    let cdr = &bench.cdrs[0];
    assert_eq!((cdr.status_code, cdr.hangup_reason), (486, HangupReason::BySystem));
    bench.assert_quiet();
}

/// RFC 3261 15: the BYE to a leg waits for the ACK of our 2xx, so the answer does, too.
#[test]
fn hang_up_is_done_when_the_last_bye_is_out() {
    for acknowledged in [true, false] {
        let mut bench = bench();
        bench.register("1002", BEN);
        let offer = sdp("10.0.0.11", 4000);
        bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &offer));
        let invite = bench.only(BEN, "INVITE");
        bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
        let ok = bench.heard(ANN).pop().expect("the answer");
        let ours = tag(&header(&ok, "To"));
        let call = standing(&mut bench);
        act(&mut bench, 3, CallName::Id(call), hang_up(None));
        assert!(bench.heard(BEN).iter().any(|text| text.starts_with("BYE")));
        assert!(!bench.heard(ANN).iter().any(|text| text.starts_with("BYE")));
        assert_eq!(answers(&mut bench), [], "Ann may not have heard that it was answered");
        if acknowledged {
            bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &ours, ""));
            assert!(bench.heard(ANN).iter().any(|text| text.starts_with("BYE")));
            assert!(is_done(&answers(&mut bench), 3, call));
        } else {
            bench.pass(Duration::from_secs(11));
            let refused = Acted::Refused { call, why: Refusal::NotConfirmed };
            assert_eq!(answers(&mut bench), [(3, refused)]);
        }
        bench.assert_quiet();
        assert_eq!(answers(&mut bench), []);
    }
}

#[test]
fn a_call_is_found_by_every_leg_and_only_by_its_own_names() {
    let mut bench = bench();
    let (invite, _) = established(&mut bench);
    let call = standing(&mut bench);
    let names = [
        (CallName::Id(call), true),
        (CallName::Leg("call-ann".into()), true),
        (CallName::Leg(header(&invite, "Call-ID").into()), true),
        (CallName::Leg("call-anne".into()), false),
        (CallName::Leg(format!("{call}.9").into()), false),
        (CallName::Leg("".into()), false),
        (CallName::Id(CallId(call.0 ^ 1)), false),
        (CallName::Id(CallId(0)), false),
    ];
    for (id, (name, known)) in (1..).zip(names) {
        let mute = CallAction::Mute { side: Side::Caller, on: true };
        act(&mut bench, id, name.clone(), mute);
        let answers = answers(&mut bench);
        match known {
            true => assert!(is_done(&answers, id, call), "{name:?}: {answers:?}"),
            false => assert_eq!(answers, [(id, Acted::UnknownCall)], "{name:?}"),
        }
    }
}

#[test]
fn mute_edits_the_audio_of_one_side_once() {
    let mut bench = bench();
    bench.register("1002", BEN);
    let video = "m=video 4002 RTP/AVP 96\r\n";
    let secure = "m=audio 4004 RTP/SAVP 0\r\n";
    let offer = sdp("10.0.0.11", 4000) + video + secure;
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &offer));
    let call = standing(&mut bench);
    let mute = |on| CallAction::Mute { side: Side::Callee, on };
    for (id, on) in [(1, true), (2, true), (3, false)] {
        act(&mut bench, id, CallName::Id(call), mute(on));
        assert!(is_done(&answers(&mut bench), id, call));
    }
    let edits: Vec<_> = bench
        .edits
        .iter()
        .filter_map(|edit| match edit {
            RelayEdit::Mute { side, mute, .. } => Some((*side, *mute)),
            _ => None,
        })
        .collect();
    // Encrypted payload cannot be replaced; video has no part in it.
    let expected = [Mute::Silence, Mute::Drop, Mute::Off, Mute::Off];
    assert_eq!(edits, expected.map(|mute| (Side::Callee, mute)));
}

#[test]
fn a_relay_that_opens_later_is_muted_as_well() {
    let mut bench = bench();
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", ""));
    let invite = bench.only(BEN, "INVITE");
    let call = standing(&mut bench);
    act(&mut bench, 1, CallName::Id(call), CallAction::Mute { side: Side::Caller, on: true });
    assert!(is_done(&answers(&mut bench), 1, call));
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    let muted = |edit: &RelayEdit| {
        matches!(edit, RelayEdit::Mute { side: Side::Caller, mute: Mute::Silence, .. })
    };
    assert!(bench.edits.iter().any(muted), "{:?}", bench.edits);
}

#[test]
fn a_call_without_audio_cannot_be_muted() {
    let mut bench = bench();
    bench.register("1002", BEN);
    let offer = sdp("10.0.0.11", 4000).replace("m=audio", "m=video");
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &offer));
    let call = standing(&mut bench);
    act(&mut bench, 1, CallName::Id(call), CallAction::Mute { side: Side::Caller, on: true });
    let refused = Acted::Refused { call, why: Refusal::NoMedia };
    assert_eq!(answers(&mut bench), [(1, refused)]);
}

/// The callee hangs up while a BYE of ours waits for the caller's ACK: the act is answered once.
#[test]
fn an_act_is_answered_once_whoever_ends_the_call() {
    let mut bench = bench();
    let (invite, _) = established(&mut bench);
    let call = standing(&mut bench);
    bench.say(BEN, &from_ben("BYE", &invite, 1, "b1", ""));
    act(&mut bench, 1, CallName::Id(call), hang_up(None));
    let got = answers(&mut bench);
    assert!(matches!(got[..], [(1, Acted::Refused { .. } | Acted::UnknownCall)]), "{got:?}");
    assert_eq!(bench.cdrs[0].hangup_reason, HangupReason::ByCallee);
    bench.heard(ANN);
    bench.assert_quiet();
    assert_eq!(answers(&mut bench), []);
}
