//! Holds that programs ask for: our own re-INVITE, and everything that may cross it (RFC 3261 14).
//! Owns:  one test per way that a hold may go.
//! Gives: raw text in, raw text out.
//! Never: real time.
//! Holds: an act is answered once, when the phone has agreed, refused, or been silent for too long.

mod world;

use std::time::Duration;

use media::edit::RelayEdit;
use shared::act::{CallAction, Refusal};
use shared::ids::Side;
use world::acting::{answers, bench, on, only_answer};
use world::{ANN, BEN, Bench, answer, established, from_ann, from_ben, header, sdp};

const CALLEE: CallAction = CallAction::Hold { side: Side::Callee, on: true };
const BACK: CallAction = CallAction::Hold { side: Side::Callee, on: false };

fn recvonly(body: &str) -> String {
    body.replace("sendrecv", "recvonly")
}

fn ben_says() -> String {
    sdp("10.0.0.12", 5000)
}

/// The newest word to the relay about the callee's side.
fn callee_held(bench: &Bench) -> bool {
    let newest = bench.edits.iter().rev().find_map(|edit| match edit {
        RelayEdit::Remote { side: Side::Callee, remote, .. } => Some(*remote),
        _ => None,
    });
    newest.is_some_and(|remote| remote.held)
}

fn version_of(body: &str) -> u64 {
    let origin = body.lines().find(|line| line.starts_with("o=")).expect("o=");
    origin.split(' ').nth(2).and_then(|word| word.parse().ok()).expect("a number")
}

/// Ben is on hold.
fn held() -> (Bench, String, String) {
    let mut bench = bench();
    let (invite, ours) = established(&mut bench);
    on(&mut bench, 1, CALLEE);
    let hold = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&hold, "200 OK", "", BEN, &recvonly(&ben_says())));
    bench.only(BEN, "ACK");
    assert_eq!(only_answer(&mut bench, 1), Ok(()));
    (bench, invite, ours)
}

#[test]
fn a_leg_is_put_on_hold_and_taken_back_without_the_other_one_hearing_of_it() {
    let mut bench = bench();
    let (invite, _) = established(&mut bench);
    on(&mut bench, 1, CALLEE);
    let hold = bench.only(BEN, "INVITE");
    assert_eq!(header(&hold, "Call-ID"), header(&invite, "Call-ID"));
    assert!(hold.contains("a=sendonly"), "{hold}");
    assert!(version_of(&hold) > version_of(&invite), "{hold}");
    assert!(!callee_held(&bench), "nothing stands before he has agreed");
    assert_eq!(answers(&mut bench), []);
    bench.say(BEN, &answer(&hold, "180 Ringing", "", BEN, ""));
    assert_eq!(answers(&mut bench), []);
    bench.say(BEN, &answer(&hold, "200 OK", "", BEN, &recvonly(&ben_says())));
    bench.only(BEN, "ACK");
    assert_eq!(only_answer(&mut bench, 1), Ok(()));
    assert!(callee_held(&bench));
    on(&mut bench, 2, CALLEE);
    assert_eq!(only_answer(&mut bench, 2), Ok(()), "he is on hold already");
    assert!(bench.heard(BEN).is_empty());
    on(&mut bench, 3, BACK);
    let back = bench.only(BEN, "INVITE");
    assert!(back.contains("a=sendrecv"), "{back}");
    assert!(version_of(&back) > version_of(&hold));
    bench.say(BEN, &answer(&back, "200 OK", "", BEN, &ben_says()));
    bench.only(BEN, "ACK");
    assert_eq!(only_answer(&mut bench, 3), Ok(()));
    assert!(!callee_held(&bench));
    assert!(bench.heard(ANN).is_empty());
}

/// Ann offered two formats, Ben took one: he is not asked for another one by a hold.
#[test]
fn a_hold_offers_only_what_both_have_agreed_on() {
    let mut bench = bench();
    bench.register("1002", BEN);
    let offer = sdp("10.0.0.11", 4000);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &offer));
    let invite = bench.only(BEN, "INVITE");
    let choice = ben_says().replace("RTP/AVP 0 8", "RTP/AVP 8");
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &choice));
    let ok = bench.heard(ANN).pop().expect("the answer");
    let ours = world::tag(&header(&ok, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &ours, ""));
    bench.heard(BEN);
    for (side, phone) in [(Side::Callee, BEN), (Side::Caller, ANN)] {
        on(&mut bench, side as u64, CallAction::Hold { side, on: true });
        let hold = bench.only(phone, "INVITE");
        assert!(hold.contains("RTP/AVP 8\r\n"), "{hold}");
        bench.say(phone, &answer(&hold, "200 OK", "", phone, &recvonly(&choice)));
        bench.only(phone, "ACK");
        assert_eq!(only_answer(&mut bench, side as u64), Ok(()));
    }
}

/// RFC 3261 14.1: Ben's dialog has a Call-ID of ours, so we wait 2.1 to 4 s; Ann's has hers: 0 to 2 s.
#[test]
fn a_hold_that_meets_another_re_invite_is_sent_again() {
    for (side, phone, least, most) in
        [(Side::Callee, BEN, 2_090, 4_010), (Side::Caller, ANN, 0, 2_010)]
    {
        let mut bench = bench();
        established(&mut bench);
        on(&mut bench, 1, CallAction::Hold { side, on: true });
        let hold = bench.only(phone, "INVITE");
        bench.say(phone, &answer(&hold, "491 Request Pending", "", "", ""));
        bench.only(phone, "ACK");
        bench.pass(Duration::from_millis(least));
        assert!(bench.heard(phone).is_empty());
        bench.pass(Duration::from_millis(most - least));
        let again = bench.heard(phone).remove(0);
        assert!(again.starts_with("INVITE") && again.contains("a=sendonly"), "{again}");
        assert!(version_of(&again) > version_of(&hold), "what was refused was never said");
        bench.say(phone, &answer(&again, "200 OK", "", phone, &recvonly(&ben_says())));
        bench.heard(phone);
        assert_eq!(only_answer(&mut bench, 1), Ok(()));
    }
}

#[test]
fn a_phone_that_refuses_stays_as_it_was() {
    for status in [405, 488, 603] {
        let mut bench = bench();
        let (invite, ours) = established(&mut bench);
        on(&mut bench, 1, CALLEE);
        let hold = bench.only(BEN, "INVITE");
        bench.say(BEN, &answer(&hold, &format!("{status} No"), "", "", ""));
        bench.only(BEN, "ACK");
        assert_eq!(only_answer(&mut bench, 1), Err(Refusal::PeerRefused(status)));
        assert!(!callee_held(&bench) && bench.cdrs.is_empty(), "the call goes on");
        // What Ann says next reaches him as she says it.
        let moved = sdp("10.0.0.11", 4004);
        bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 2, "a2", &ours, &moved));
        let passed = bench.only(BEN, "INVITE");
        assert!(passed.contains("a=sendrecv"), "{passed}");
        assert!(version_of(&passed) > version_of(&hold));
        let _ = invite;
    }
}

/// A phone that answers 491 to everything: the act ends with what it said, and so do we.
#[test]
fn a_phone_that_is_always_busy_is_not_asked_for_ever() {
    let mut bench = bench();
    established(&mut bench);
    on(&mut bench, 1, CALLEE);
    let mut tries = 0;
    for _ in 0..600 {
        for invite in bench.heard(BEN).iter().filter(|text| text.starts_with("INVITE")) {
            tries += 1;
            bench.say(BEN, &answer(invite, "491 Request Pending", "", "", ""));
        }
        bench.pass(Duration::from_millis(100));
    }
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::PeerRefused(491)));
    assert!((3..=6).contains(&tries), "{tries} tries in 10 s");
    assert!(bench.cdrs.is_empty(), "the call stands");
}

#[test]
fn a_silent_phone_confirms_nothing() {
    let mut bench = bench();
    established(&mut bench);
    on(&mut bench, 1, CALLEE);
    bench.pass(Duration::from_millis(9_900));
    assert_eq!(answers(&mut bench), []);
    bench.pass(Duration::from_millis(200));
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::NotConfirmed));
    assert!(bench.cdrs.is_empty(), "it has until Timer B");
    // Without any answer the dialog is gone (RFC 3261 12.2.1.2).
    bench.pass(Duration::from_secs(23));
    assert_eq!(bench.cdrs.len(), 1);
    assert_eq!(answers(&mut bench), []);
    bench.assert_quiet();
}

/// RFC 3261 14.1: not while another INVITE is under way in the dialog.
#[test]
fn a_hold_waits_for_a_re_invite_of_a_phone() {
    let mut bench = bench();
    let (_, ours) = established(&mut bench);
    let moved = sdp("10.0.0.11", 4004);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 2, "a2", &ours, &moved));
    let passed = bench.only(BEN, "INVITE");
    bench.heard(ANN);
    on(&mut bench, 1, CALLEE);
    assert!(bench.heard(BEN).is_empty());
    bench.say(BEN, &answer(&passed, "200 OK", "", BEN, &ben_says()));
    bench.only(BEN, "ACK");
    assert!(bench.only(ANN, "SIP/2.0 200").contains("m=audio"));
    assert_eq!(answers(&mut bench), [], "Ann has not acknowledged yet");
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 2, "a2ack", &ours, ""));
    let hold = bench.only(BEN, "INVITE");
    assert!(hold.contains("a=sendonly"), "{hold}");
    // Ann cannot change anything meanwhile.
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 3, "a3", &ours, &moved));
    bench.only(ANN, "SIP/2.0 491");
    bench.say(BEN, &answer(&hold, "200 OK", "", BEN, &recvonly(&ben_says())));
    assert_eq!(only_answer(&mut bench, 1), Ok(()));
}

#[test]
fn a_hold_that_never_got_its_turn_says_so() {
    let mut bench = bench();
    let (_, ours) = established(&mut bench);
    let moved = sdp("10.0.0.11", 4004);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 2, "a2", &ours, &moved));
    bench.heard(BEN);
    on(&mut bench, 1, CALLEE);
    bench.pass(Duration::from_secs(11));
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::Busy));
}

#[test]
fn a_held_leg_stays_on_hold_whatever_the_phones_negotiate() {
    let (mut bench, invite, ours) = held();
    // Ann moves her media: Ben hears of it, and is still asked to send nothing.
    let moved = sdp("10.0.0.11", 4004);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 2, "a2", &ours, &moved));
    let passed = bench.only(BEN, "INVITE");
    assert!(passed.contains("a=sendonly"), "{passed}");
    bench.say(BEN, &answer(&passed, "200 OK", "", BEN, &recvonly(&ben_says())));
    bench.only(BEN, "ACK");
    bench.heard(ANN);
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 2, "a2ack", &ours, ""));
    assert!(callee_held(&bench));
    // Ben refreshes his session and would like to talk: the answer keeps him on hold.
    bench.say(BEN, &from_ben("INVITE", &invite, 1, "b1", &ben_says()));
    bench.only(BEN, "SIP/2.0 100");
    let passed = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&passed, "200 OK", "", ANN, &moved));
    let ok = bench.only(BEN, "SIP/2.0 200");
    assert!(ok.contains("a=sendonly"), "{ok}");
    assert!(callee_held(&bench));
}

#[test]
fn both_can_be_held_and_more_wishes_than_a_call_keeps_are_refused() {
    let mut bench = bench();
    established(&mut bench);
    for id in 1..=8 {
        let side = if id % 2 == 0 { Side::Caller } else { Side::Callee };
        on(&mut bench, id, CallAction::Hold { side, on: true });
    }
    assert_eq!(answers(&mut bench), []);
    on(&mut bench, 9, CALLEE);
    assert_eq!(only_answer(&mut bench, 9), Err(Refusal::TooMany));
    let hold = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&hold, "200 OK", "", BEN, &recvonly(&ben_says())));
    // The second wish for him is fulfilled by the first, then it is Ann's turn.
    assert_eq!(answers(&mut bench).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1]);
    let hold = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&hold, "200 OK", "", ANN, &recvonly(&sdp("10.0.0.11", 4000))));
    let mut done: Vec<_> = answers(&mut bench).iter().map(|(id, _)| *id).collect();
    done.sort_unstable();
    assert_eq!(done, [2, 3, 4, 5, 6, 7, 8]);
}

/// What a held phone says of its direction is not passed on, so that no hold outlives its end.
#[test]
fn two_holds_that_cross_leave_nothing_behind() {
    let mut bench = bench();
    let (_, ours) = established(&mut bench);
    let ann_says = sdp("10.0.0.11", 4000);
    let turn = |bench: &mut Bench, id, side, on_hold, expected: &str, answered: &str| {
        on(bench, id, CallAction::Hold { side, on: on_hold });
        let (phone, body) =
            if side == Side::Callee { (BEN, ben_says()) } else { (ANN, ann_says.clone()) };
        let offer = bench.only(phone, "INVITE");
        assert!(offer.contains(&format!("a={expected}\r\n")), "{id}: {offer}");
        let body = body.replace("a=sendrecv", &format!("a={answered}"));
        bench.say(phone, &answer(&offer, "200 OK", "", phone, &body));
        bench.only(phone, "ACK");
        assert_eq!(only_answer(bench, id), Ok(()), "{id}");
    };
    turn(&mut bench, 1, Side::Callee, true, "sendonly", "recvonly");
    turn(&mut bench, 2, Side::Caller, true, "sendonly", "recvonly");
    turn(&mut bench, 3, Side::Callee, false, "sendrecv", "sendrecv");
    turn(&mut bench, 4, Side::Caller, false, "sendrecv", "sendrecv");
    // Ann moves while Ben is held: she hears that he agrees to all that she offers.
    turn(&mut bench, 5, Side::Callee, true, "sendonly", "recvonly");
    let moved = sdp("10.0.0.11", 4004);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 2, "a2", &ours, &moved));
    let passed = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&passed, "200 OK", "", BEN, &recvonly(&ben_says())));
    let heard = bench.heard(ANN);
    let ok = heard.iter().find(|text| text.starts_with("SIP/2.0 200")).expect("a 200");
    assert!(ok.contains("a=sendrecv\r\n"), "{ok}");
    assert!(callee_held(&bench));
}

#[test]
fn a_call_that_ends_meanwhile_answers_every_hold() {
    let mut bench = bench();
    let (_, ours) = established(&mut bench);
    on(&mut bench, 1, CALLEE);
    on(&mut bench, 2, CallAction::Hold { side: Side::Caller, on: true });
    let hold = bench.only(BEN, "INVITE");
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    let ended = answers(&mut bench);
    assert_eq!(ended.len(), 2, "{ended:?}");
    // His 200 crosses our BYE: it is acknowledged, and nothing more is said.
    bench.say(BEN, &answer(&hold, "200 OK", "", BEN, &recvonly(&ben_says())));
    assert!(bench.heard(BEN).iter().any(|text| text.starts_with("ACK")));
    bench.assert_quiet();
    assert_eq!(answers(&mut bench), []);
}

#[test]
fn only_a_leg_that_stands_can_be_held() {
    let mut bench = bench();
    bench.register("1002", BEN);
    let offer = sdp("10.0.0.11", 4000);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &offer));
    on(&mut bench, 1, CALLEE);
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::NotAnswered));
    on(&mut bench, 2, CallAction::Hold { side: Side::Caller, on: true });
    assert_eq!(only_answer(&mut bench, 2), Err(Refusal::NotAnswered));
}
