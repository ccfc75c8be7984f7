//! Attended transfer: Ann has Ben and Cleo on two calls and joins them (RFC 5589 7, RFC 3891).
//! Owns:  what the three hear of it, however it ends and whoever of them comes in between.
//! Gives: one test per rule and per race.
//! Never: real time.
//! Holds: after each test nothing is left in the core, and there is one CDR per call.

mod world;

use std::sync::Arc;
use std::time::Duration;

use media::edit::RelayEdit;
use shared::act::{Acted, CallAction, CallName, Recording, Refusal};
use shared::cdr::{Cdr, HangupReason, LegEventType};
use shared::ids::CallId;
use shared::metrics::Counter;
use shared::settings::{SessionTimerMode, SessionTimers, ShardSettings};
use shared::snapshot::Snapshot;
use shared::toll::TollRules;
use world::acting::{act, answers};
use world::{
    ANN, BEN, Bench, CARRIER, answer, established, from_ann, from_called, header, sdp, settings,
    tag,
};

const CLEO: &str = "10.0.0.13:5060";

/// Ann talks with Ben and with Cleo, or with whoever the second call went to.
struct Two {
    bench: Bench,
    /// The INVITEs that Ben and Cleo saw.
    ben: String,
    cleo: String,
    /// Our tags towards Ann, in her first and her second dialog.
    ours: [String; 2],
    cseq: u32,
}

/// The same text in Ann's second dialog.
fn second(text: String) -> String {
    text.replace("call-ann", "call-two").replace("tag=ann", "tag=two")
}

fn with(request: &str, line: &str) -> String {
    request.replacen("Content-Length", &format!("{line}\r\nContent-Length"), 1)
}

fn two() -> Two {
    two_with(settings())
}

fn two_with(settings: ShardSettings) -> Two {
    let mut bench = Bench::new(settings);
    bench.register("1003", CLEO);
    let (ben, first) = established(&mut bench);
    let uri = "sip:1003@pbx.test";
    bench.say(ANN, &second(from_ann("INVITE", uri, 1, "c1", "", &sdp("10.0.0.11", 4002))));
    bench.only(ANN, "SIP/2.0 100");
    let cleo = bench.only(CLEO, "INVITE");
    bench.say(CLEO, &answer(&cleo, "200 OK", "cleo", CLEO, &sdp("10.0.0.13", 6000)));
    bench.only(CLEO, "ACK");
    let ours = tag(&header(&bench.only(ANN, "SIP/2.0 200"), "To"));
    bench.say(ANN, &second(from_ann("ACK", uri, 1, "c1ack", &ours, "")));
    Two { bench, ben, cleo, ours: [first, ours], cseq: 2 }
}

impl Two {
    fn replaces(&self) -> String {
        format!("call-two%3Bto-tag%3D{}%3Bfrom-tag%3Dtwo", self.ours[1])
    }

    /// Ann's REFER in her first dialog. What she heard.
    fn refer(&mut self, replaces: &str) -> Vec<String> {
        self.cseq += 1;
        let (cseq, branch) = (self.cseq, format!("r{}", self.cseq));
        let plain = from_ann("REFER", "sip:1002@pbx.test", cseq, &branch, &self.ours[0], "");
        let line = format!("Refer-To: <sip:1003@pbx.test?Replaces={replaces}>");
        self.bench.say(ANN, &with(&plain, &line));
        self.bench.heard(ANN)
    }

    /// The same for the dialog with Cleo, accepted. What Cleo is asked.
    fn referred(&mut self) -> String {
        let heard = self.refer(&self.replaces());
        assert!(heard[0].starts_with("SIP/2.0 202"), "{heard:#?}");
        assert_eq!(self.told(&heard[1]), "SIP/2.0 100 Trying");
        assert_eq!(heard.len(), 2, "{heard:#?}");
        self.bench.only(CLEO, "INVITE")
    }

    /// A NOTIFY to Ann, answered.
    fn told(&mut self, notify: &str) -> String {
        assert!(notify.starts_with("NOTIFY"), "{notify}");
        self.bench.say(ANN, &answer(notify, "200 OK", "", "", ""));
        notify.split("\r\n\r\n").nth(1).expect("a body").trim().to_owned()
    }

    fn cleo_agrees(&mut self, change: &str) {
        self.bench.say(CLEO, &answer(change, "200 OK", "", CLEO, &sdp("10.0.0.13", 6000)));
        self.bench.only(CLEO, "ACK");
    }

    /// Ann hears how it ended and is let go of both calls.
    fn ann_is_let_go(&mut self) {
        let heard = self.bench.heard(ANN);
        assert_eq!(heard.len(), 3, "{heard:#?}");
        assert!(header(&heard[0], "Subscription-State").starts_with("terminated"));
        assert_eq!(self.told(&heard[0]), "SIP/2.0 200 OK");
        let dialogs = ["call-ann", "call-two"];
        for (bye, call_id) in heard[1..].iter().zip(dialogs) {
            assert!(bye.starts_with("BYE") && header(bye, "Call-ID") == call_id, "{bye}");
            self.bench.say(ANN, &answer(bye, "200 OK", "", "", ""));
        }
    }

    fn bye_to(&mut self, peer: &str) {
        let bye = self.bench.only(peer, "BYE");
        self.bench.say(peer, &answer(&bye, "200 OK", "", "", ""));
    }

    fn of_cleo(&mut self, method: &str, cseq: u32, body: &str) {
        let branch = format!("cleo{cseq}");
        self.bench.say(CLEO, &from_called(CLEO, "cleo", method, &self.cleo, cseq, &branch, body));
    }

    fn of_ben(&mut self, method: &str, cseq: u32, body: &str) {
        let branch = format!("ben{cseq}");
        self.bench.say(BEN, &from_called(BEN, "ben", method, &self.ben, cseq, &branch, body));
    }

    /// A request of Ann's in her first (0) or second (1) dialog.
    fn of_ann(&mut self, dialog: usize, method: &str, cseq: u32, body: &str) {
        let uri = ["sip:1002@pbx.test", "sip:1003@pbx.test"][dialog];
        let branch = format!("ann{dialog}{method}{cseq}");
        let text = from_ann(method, uri, cseq, &branch, &self.ours[dialog], body);
        self.bench.say(ANN, &if dialog == 1 { second(text) } else { text });
    }

    /// Ann hangs up both calls, which are as they were.
    fn both_still_stand(&mut self) {
        assert!(self.bench.cdrs.is_empty(), "{:#?}", self.bench.cdrs);
        self.of_ann(0, "BYE", 50, "");
        self.bench.only(ANN, "SIP/2.0 200");
        self.bye_to(BEN);
        self.of_ann(1, "BYE", 50, "");
        self.bench.only(ANN, "SIP/2.0 200");
        self.bye_to(CLEO);
        let cdrs = self.close();
        assert!(cdrs.iter().all(|cdr| cdr.hangup_reason == HangupReason::ByCaller), "{cdrs:#?}");
    }

    /// Nothing is left; the two records, in the order in which the calls ended.
    fn close(&mut self) -> Vec<Cdr> {
        self.bench.assert_quiet();
        assert_eq!(self.bench.core.census().moved_legs, 0);
        assert_eq!(self.bench.cdrs.len(), 2, "{:#?}", self.bench.cdrs);
        std::mem::take(&mut self.bench.cdrs)
    }

    fn failed(&mut self) -> u64 {
        self.bench.core.counters().of(Counter::JoinsFailed)
    }
}

fn kinds(cdr: &Cdr) -> Vec<LegEventType> {
    cdr.leg_timeline.events.iter().map(|event| event.event_type).collect()
}

fn remotes_of_first(bench: &Bench) -> [Option<(String, bool)>; 2] {
    let mut relays = bench.edits.iter().filter_map(|edit| match edit {
        RelayEdit::Open { relay, .. } => Some(*relay),
        _ => None,
    });
    let first = relays.next().expect("the first call has one");
    let mut remotes = [None, None];
    for edit in &bench.edits {
        if let RelayEdit::Remote { relay, side, remote } = edit
            && *relay == first
        {
            let both_ways = remote.may_send && remote.may_receive;
            remotes[side.index()] = Some((remote.rtp.to_string(), both_ways));
        }
    }
    remotes
}

#[test]
fn two_calls_are_joined_and_who_joined_them_is_let_go() {
    let mut two = two();
    let change = two.referred();
    assert_eq!(header(&change, "Call-ID"), header(&two.cleo, "Call-ID"), "in her dialog");
    assert!(header(&change, "To").ends_with(";tag=cleo") && change.contains("a=sendrecv"));
    let origin = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("o=")).expect("an origin");
        line.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let (before, now) = (origin(&two.cleo), origin(&change));
    assert_eq!(before[1], now[1], "the same session (RFC 3264 8)");
    assert_eq!(now[2].parse(), before[2].parse().map(|version: u64| version + 1));
    assert!(two.bench.heard(BEN).is_empty());
    two.cleo_agrees(&change);
    two.ann_is_let_go();
    assert!(two.bench.heard(BEN).is_empty(), "Cleo speaks as Ann did");
    let expected = ["10.0.0.13:6000", "10.0.0.12:5000"].map(|at| Some((at.to_owned(), true)));
    assert_eq!(remotes_of_first(&two.bench), expected);
    // Her own call is long gone from the table when Cleo wants something.
    two.bench.pass(Duration::from_secs(100));
    two.of_cleo("INFO", 1, "");
    let info = two.bench.only(BEN, "INFO");
    two.bench.say(BEN, &answer(&info, "200 OK", "", "", ""));
    two.bench.only(CLEO, "SIP/2.0 200");
    two.of_ben("INFO", 1, "");
    let info = two.bench.only(CLEO, "INFO");
    two.bench.say(CLEO, &answer(&info, "200 OK", "", "", ""));
    two.bench.only(BEN, "SIP/2.0 200");
    two.of_cleo("BYE", 2, "");
    two.bench.only(CLEO, "SIP/2.0 200");
    two.bye_to(BEN);
    assert_eq!(two.bench.core.counters().of(Counter::JoinsDone), 1);
    let cdrs = two.close();
    assert_eq!((cdrs[0].call_id.as_str(), cdrs[1].call_id.as_str()), ("call-two", "call-ann"));
    assert_eq!((cdrs[0].hangup_reason, cdrs[0].status_code), (HangupReason::ByRefer, 200));
    assert_eq!(kinds(&cdrs[0]), [LegEventType::TransferAccepted]);
    let details = cdrs[0].leg_timeline.events[0].details.clone().expect("where it went");
    assert!(details.contains(&cdrs[1].session_id.to_string()), "{details}");
    assert_eq!(cdrs[1].hangup_reason, HangupReason::ByCaller, "who sat on the caller's side");
    assert!(cdrs[1].duration_ms >= 100_000 && cdrs[0].duration_ms < 1_000);
    assert_eq!(
        kinds(&cdrs[1]),
        [LegEventType::Transferred, LegEventType::TransferAccepted, LegEventType::Removed]
    );
    assert_eq!(cdrs[1].leg_timeline.events[1].leg_id, header(&two.cleo, "Call-ID"));
}

/// As phones do it: Ben was put on hold while Ann asked Cleo.
#[test]
fn who_was_held_talks_again() {
    let mut two = two();
    let hold = sdp("10.0.0.11", 4000).replace("sendrecv", "sendonly");
    two.of_ann(0, "INVITE", 2, &hold);
    let held = two.bench.only(BEN, "INVITE");
    let recvonly = sdp("10.0.0.12", 5000).replace("sendrecv", "recvonly");
    two.bench.say(BEN, &answer(&held, "200 OK", "", BEN, &recvonly));
    two.bench.heard(BEN);
    two.bench.heard(ANN);
    two.of_ann(0, "ACK", 2, "");
    let change = two.referred();
    assert!(change.contains("a=sendrecv") && !change.contains("recvonly"), "{change}");
    two.cleo_agrees(&change);
    two.ann_is_let_go();
    let back = two.bench.only(BEN, "INVITE");
    assert!(back.contains("a=sendrecv"), "{back}");
    two.bench.say(BEN, &answer(&back, "200 OK", "", BEN, &sdp("10.0.0.12", 5000)));
    two.bench.only(BEN, "ACK");
    assert_eq!(remotes_of_first(&two.bench)[1], Some(("10.0.0.12:5000".to_owned(), true)));
    two.of_ben("BYE", 1, "");
    two.bench.only(BEN, "SIP/2.0 200");
    two.bye_to(CLEO);
    assert_eq!(two.close()[1].hangup_reason, HangupReason::ByCallee);
}

/// Ann refers in the dialog with Cleo and names the one with Ben: the other way round.
#[test]
fn either_of_the_two_dialogs_may_be_the_one_that_is_named() {
    let mut two = two();
    let plain = second(from_ann("REFER", "sip:1003@pbx.test", 2, "r2", &two.ours[1], ""));
    let line = format!(
        "Refer-To: <sip:1002@pbx.test;method=INVITE?Require=replaces&Replaces=call-ann%3b\
         from-tag%3dann%3bto-tag%3d{}>",
        two.ours[0]
    );
    two.bench.say(ANN, &with(&plain, &line));
    let heard = two.bench.heard(ANN);
    assert!(heard[0].starts_with("SIP/2.0 202"), "{heard:#?}");
    two.told(&heard[1]);
    let change = two.bench.only(BEN, "INVITE");
    two.bench.say(BEN, &answer(&change, "200 OK", "", BEN, &sdp("10.0.0.12", 5000)));
    two.bench.only(BEN, "ACK");
    let heard = two.bench.heard(ANN);
    assert_eq!(two.told(&heard[0]), "SIP/2.0 200 OK");
    two.of_ben("BYE", 1, "");
    two.bench.only(BEN, "SIP/2.0 200");
    two.bye_to(CLEO);
    two.bench.heard(ANN);
    let cdrs = two.close();
    assert_eq!((cdrs[0].call_id.as_str(), cdrs[1].call_id.as_str()), ("call-ann", "call-two"));
}

/// Which call a program means by this leg. What it wants is refused, and changes nothing.
fn meant(bench: &mut Bench, leg: &str) -> CallId {
    act(bench, 7, CallName::Leg(leg.into()), CallAction::Record(Recording::Stop));
    match answers(bench)[..] {
        [(7, Acted::Refused { call, why: Refusal::NotRecording })] => call,
        ref others => panic!("{others:?}"),
    }
}

/// Cleo had called Ann: the leg that moves is the one that its call came by. Her Call-ID names her own
/// call until she has joined the other one.
#[test]
fn a_caller_may_be_joined_with_somebody_else() {
    let mut bench = Bench::new(settings());
    bench.register("1001", ANN);
    let (ben, first) = established(&mut bench);
    let of_cleo = |method: &str, cseq: u32, to_tag: &str, body: &str| {
        let text = from_ann(method, "sip:1001@pbx.test", cseq, &format!("x{method}"), to_tag, body);
        let text = text.replace(ANN, CLEO).replace("sip:1001@pbx.test>;tag=ann", "X");
        text.replace("\"Ann\" <X", "<sip:1003@pbx.test>;tag=cleo").replace("call-ann", "call-cleo")
    };
    bench.say(CLEO, &of_cleo("INVITE", 1, "", &sdp("10.0.0.13", 6000)));
    bench.heard(CLEO);
    let invite = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&invite, "200 OK", "annb", ANN, &sdp("10.0.0.11", 4002)));
    bench.only(ANN, "ACK");
    let ours = tag(&header(&bench.only(CLEO, "SIP/2.0 200"), "To"));
    bench.say(CLEO, &of_cleo("ACK", 1, &ours, ""));
    let (call_id, from) = (header(&invite, "Call-ID"), tag(&header(&invite, "From")));
    let refer = from_ann("REFER", "sip:1002@pbx.test", 2, "r2", &first, "");
    let line = format!(
        "Refer-To: <sip:1003@pbx.test?Replaces={call_id}%3Bto-tag%3D{from}%3Bfrom-tag%3Dannb>"
    );
    bench.say(ANN, &with(&refer, &line));
    let change = bench.only(CLEO, "INVITE");
    let on_loan = meant(&mut bench, "call-cleo");
    bench.say(CLEO, &answer(&change, "200 OK", "", CLEO, &sdp("10.0.0.13", 6000)));
    bench.only(CLEO, "ACK");
    let joined = meant(&mut bench, "call-cleo");
    for bye in bench.heard(ANN).iter().filter(|heard| heard.starts_with("BYE")) {
        bench.say(ANN, &answer(bye, "200 OK", "", "", ""));
    }
    bench.pass(Duration::from_secs(60));
    bench.say(CLEO, &of_cleo("BYE", 2, &ours, ""));
    bench.only(CLEO, "SIP/2.0 200");
    let bye = bench.only(BEN, "BYE");
    assert_eq!(header(&bye, "Call-ID"), header(&ben, "Call-ID"));
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
    assert_eq!((bench.cdrs.len(), bench.core.census().moved_legs), (2, 0));
    assert_eq!([on_loan, joined], [bench.cdrs[0].session_id, bench.cdrs[1].session_id]);
}

#[test]
fn what_is_no_dialog_of_hers_is_told_and_changes_nothing() {
    let mut two = two();
    let (first, ours) = (two.ours[0].clone(), two.ours[1].clone());
    let other = if ours.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{other}", &ours[..ours.len() - 1]);
    let cases = [
        (format!("call-none%3Bto-tag%3D{ours}%3Bfrom-tag%3Dtwo"), "481"),
        (format!("call-two%3Bto-tag%3D{ours}%3Bfrom-tag%3Dann"), "481"),
        (format!("call-two%3Bto-tag%3Dtwo%3Bfrom-tag%3D{ours}"), "481"),
        (format!("call-two%3Bto-tag%3D{forged}%3Bfrom-tag%3Dtwo"), "481"),
        ("call-two%3Bto-tag%3Drg3f00000000000000000000%3Bfrom-tag%3Dtwo".to_owned(), "481"),
        (format!("call-two%3Bto-tag%3D{ours}%3Bfrom-tag%3Dtwo%3Bearly-only"), "486"),
        (format!("call-ann%3Bto-tag%3D{first}%3Bfrom-tag%3Dann"), "400"),
    ];
    for (count, (replaces, status)) in (1..).zip(cases) {
        let heard = two.refer(&replaces);
        assert!(heard[0].starts_with("SIP/2.0 202"), "{replaces}: {heard:#?}");
        two.told(&heard[1]);
        assert!(header(&heard[2], "Subscription-State").starts_with("terminated"));
        let told = two.told(&heard[2]);
        assert!(told.starts_with(&format!("SIP/2.0 {status} ")), "{replaces}: {told}");
        assert_eq!(two.failed(), count);
        assert!(two.bench.heard(CLEO).is_empty() && two.bench.heard(BEN).is_empty());
    }
    two.both_still_stand();
}

#[test]
fn a_replaces_that_does_not_read_is_refused_at_once() {
    let mut two = two();
    for bad in ["call-two", "a%3Bto-tag%3Db", "", "a%3Bto-tag%3Db%3Bfrom-tag%3Dc&Subject=x"] {
        let heard = two.refer(bad);
        assert!(heard.len() == 1 && heard[0].starts_with("SIP/2.0 400"), "{bad}: {heard:#?}");
    }
    two.both_still_stand();
}

/// RFC 3891 3: only who was called can put somebody else on an early dialog.
#[test]
fn a_call_that_still_rings_cannot_be_taken() {
    let mut bench = Bench::new(settings());
    bench.register("1003", CLEO);
    let (ben, first) = established(&mut bench);
    bench.say(
        ANN,
        &second(from_ann("INVITE", "sip:1003@pbx.test", 1, "c1", "", &sdp("10.0.0.11", 4002))),
    );
    bench.heard(ANN);
    let cleo = bench.only(CLEO, "INVITE");
    bench.say(CLEO, &answer(&cleo, "180 Ringing", "cleo", CLEO, ""));
    let ours = tag(&header(&bench.only(ANN, "SIP/2.0 180"), "To"));
    let mut two = Two { bench, ben, cleo, ours: [first, ours], cseq: 2 };
    for early in ["", "%3Bearly-only"] {
        let heard = two.refer(&format!("{}{early}", two.replaces()));
        assert!(heard[2].contains("SIP/2.0 481 "), "{heard:#?}");
        two.told(&heard[1]);
        two.told(&heard[2]);
    }
    let cleo = two.cleo.clone();
    two.bench.say(CLEO, &answer(&cleo, "200 OK", "cleo", CLEO, &sdp("10.0.0.13", 6000)));
    two.bench.only(CLEO, "ACK");
    two.bench.only(ANN, "SIP/2.0 200");
    two.of_ann(1, "ACK", 1, "");
    two.both_still_stand();
}

#[test]
fn a_leg_that_does_not_agree_goes_back_as_it_was() {
    for status in ["488 Not Acceptable Here", "603 Decline"] {
        let mut two = two();
        let change = two.referred();
        two.bench.say(CLEO, &answer(&change, status, "", "", ""));
        two.bench.only(CLEO, "ACK");
        let notify = two.bench.only(ANN, "NOTIFY");
        assert!(two.told(&notify).starts_with(&format!("SIP/2.0 {}", &status[..3])));
        assert!(two.bench.heard(BEN).is_empty());
        // Her dialog goes on where the other call left it: numbers and versions only grow.
        two.of_ann(1, "INVITE", 2, &sdp("10.0.0.11", 4444));
        let next = two.bench.only(CLEO, "INVITE");
        let number = |text: &str| -> u32 {
            header(text, "CSeq")
                .split(' ')
                .next()
                .and_then(|word| word.parse().ok())
                .expect("a CSeq")
        };
        assert!(number(&next) > number(&change), "{next}");
        two.bench.say(CLEO, &answer(&next, "200 OK", "", CLEO, &sdp("10.0.0.13", 6000)));
        two.bench.only(CLEO, "ACK");
        two.bench.heard(ANN);
        two.of_ann(1, "ACK", 2, "");
        two.both_still_stand();
    }
}

/// It may be tried again, and then it works.
#[test]
fn glare_with_the_legs_own_change_is_waited_out() {
    let mut two = two();
    let change = two.referred();
    two.of_cleo("INVITE", 1, &sdp("10.0.0.13", 6600));
    two.bench.only(CLEO, "SIP/2.0 491");
    two.of_cleo("ACK", 1, "");
    two.bench.say(CLEO, &answer(&change, "491 Request Pending", "", "", ""));
    two.bench.only(CLEO, "ACK");
    assert!(two.bench.heard(ANN).is_empty(), "nothing is decided");
    two.bench.pass(Duration::from_secs(4));
    let again = two.bench.heard(CLEO);
    let again = again.iter().find(|heard| heard.starts_with("INVITE")).expect("once more");
    two.bench.say(CLEO, &answer(again, "200 OK", "", CLEO, &sdp("10.0.0.13", 6000)));
    two.bench.heard(CLEO);
    two.ann_is_let_go();
    two.of_cleo("BYE", 2, "");
    two.bench.only(CLEO, "SIP/2.0 200");
    two.bye_to(BEN);
    two.close();
}

/// Ann's own re-INVITE is under way in the call that is named.
#[test]
fn a_change_in_the_other_call_is_waited_for() {
    let mut two = two();
    two.of_ann(1, "INVITE", 2, &sdp("10.0.0.11", 4444));
    let pending = two.bench.only(CLEO, "INVITE");
    two.bench.heard(ANN);
    let heard = two.refer(&two.replaces());
    assert_eq!(heard.len(), 2, "{heard:#?}");
    two.told(&heard[1]);
    two.bench.pass(Duration::from_millis(1_200));
    two.bench.say(CLEO, &answer(&pending, "200 OK", "", CLEO, &sdp("10.0.0.13", 6000)));
    two.bench.heard(CLEO);
    two.bench.heard(ANN);
    two.of_ann(1, "ACK", 2, "");
    two.bench.pass(Duration::from_millis(600));
    let change = two.bench.only(CLEO, "INVITE");
    two.cleo_agrees(&change);
    two.ann_is_let_go();
    two.of_cleo("BYE", 1, "");
    two.bench.only(CLEO, "SIP/2.0 200");
    two.bye_to(BEN);
    two.close();
}

#[test]
fn a_call_that_stays_busy_is_not_waited_for_forever() {
    let mut two = two();
    two.of_ann(1, "INVITE", 2, &sdp("10.0.0.11", 4444));
    let pending = two.bench.only(CLEO, "INVITE");
    two.bench.say(CLEO, &answer(&pending, "100 Trying", "", "", ""));
    two.bench.heard(ANN);
    let heard = two.refer(&two.replaces());
    two.told(&heard[1]);
    two.bench.pass(Duration::from_millis(10_100));
    let notify = two.bench.only(ANN, "NOTIFY");
    assert_eq!(two.told(&notify), "SIP/2.0 491 Request Pending");
    two.bench.say(CLEO, &answer(&pending, "488 No", "", "", ""));
    two.bench.heard(CLEO);
    two.bench.heard(ANN);
    two.both_still_stand();
}

#[test]
fn the_target_may_hang_up_before_it_agrees() {
    let mut two = two();
    let change = two.referred();
    two.of_cleo("BYE", 1, "");
    two.bench.only(CLEO, "SIP/2.0 200");
    let heard = two.bench.heard(ANN);
    let bye = heard.iter().find(|heard| heard.starts_with("BYE")).expect("her second call ends");
    assert_eq!(header(bye, "Call-ID"), "call-two");
    two.bench.say(ANN, &answer(bye, "200 OK", "", "", ""));
    let notify = heard.iter().find(|heard| heard.starts_with("NOTIFY")).expect("the outcome");
    assert!(two.told(notify).starts_with("SIP/2.0 481"));
    two.bench.say(CLEO, &answer(&change, "487 Request Terminated", "", "", ""));
    two.bench.only(CLEO, "ACK");
    // The call with Ben goes on.
    assert!(two.bench.heard(BEN).is_empty());
    two.of_ann(0, "BYE", 50, "");
    two.bench.only(ANN, "SIP/2.0 200");
    two.bye_to(BEN);
    let cdrs = two.close();
    assert_eq!(cdrs[0].hangup_reason, HangupReason::ByCallee);
    assert_eq!(cdrs[1].hangup_reason, HangupReason::ByCaller);
}

/// Ben is gone: Cleo's answer comes to a call that is over, and she hears again where Ann is.
#[test]
fn the_transferee_may_hang_up_before_the_target_agrees() {
    for agrees in [true, false] {
        let mut two = two();
        let change = two.referred();
        two.of_ben("BYE", 1, "");
        two.bench.only(BEN, "SIP/2.0 200");
        let heard = two.bench.heard(ANN);
        assert!(two.told(&heard[0]).starts_with("SIP/2.0 487"), "{heard:#?}");
        assert!(heard[1].starts_with("BYE") && header(&heard[1], "Call-ID") == "call-ann");
        two.bench.say(ANN, &answer(&heard[1], "200 OK", "", "", ""));
        assert!(two.bench.heard(CLEO).is_empty());
        if agrees {
            two.bench.say(CLEO, &answer(&change, "200 OK", "", CLEO, &sdp("10.0.0.13", 6000)));
            let heard = two.bench.heard(CLEO);
            assert!(heard[0].starts_with("ACK") && heard[1].starts_with("INVITE"), "{heard:#?}");
            let port = |text: &str| {
                let line = text.lines().find(|line| line.starts_with("m=")).expect("a line");
                line.split(' ').nth(1).map(str::to_owned)
            };
            assert_eq!(port(&heard[1]), port(&two.cleo), "back to where she was");
            two.bench.say(CLEO, &answer(&heard[1], "200 OK", "", CLEO, &sdp("10.0.0.13", 6000)));
            two.bench.only(CLEO, "ACK");
        } else {
            // A person is asked there; our CANCEL takes it back.
            two.bench.say(CLEO, &answer(&change, "180 Ringing", "", "", ""));
            let cancel = two.bench.only(CLEO, "CANCEL");
            two.bench.say(CLEO, &answer(&cancel, "200 OK", "", "", ""));
            two.bench.say(CLEO, &answer(&change, "487 Request Terminated", "", "", ""));
            two.bench.only(CLEO, "ACK");
        }
        assert!(two.bench.heard(ANN).is_empty());
        two.of_ann(1, "BYE", 50, "");
        two.bench.only(ANN, "SIP/2.0 200");
        two.bye_to(CLEO);
        let cdrs = two.close();
        assert_eq!(cdrs[0].hangup_reason, HangupReason::ByCallee);
        assert_eq!(kinds(&cdrs[0])[1], LegEventType::TransferFailed);
    }
}

/// Many phones hang up their own calls as soon as the REFER is accepted.
#[test]
fn who_joins_them_may_hang_up_either_call_at_once() {
    for dialogs in [&[0_usize][..], &[1], &[0, 1], &[1, 0]] {
        let mut two = two();
        let change = two.referred();
        for dialog in dialogs {
            two.of_ann(*dialog, "BYE", 50, "");
            two.bench.only(ANN, "SIP/2.0 200");
        }
        assert!(two.bench.heard(BEN).is_empty() && two.bench.heard(CLEO).is_empty());
        two.cleo_agrees(&change);
        for heard in two.bench.heard(ANN) {
            two.bench.say(ANN, &answer(&heard, "200 OK", "", "", ""));
        }
        two.of_cleo("BYE", 1, "");
        two.bench.only(CLEO, "SIP/2.0 200");
        two.bye_to(BEN);
        assert_eq!(two.close()[0].hangup_reason, HangupReason::ByRefer);
    }
}

#[test]
fn who_is_left_alone_when_it_fails_is_let_go() {
    let mut two = two();
    let change = two.referred();
    for dialog in [0, 1] {
        two.of_ann(dialog, "BYE", 50, "");
        two.bench.only(ANN, "SIP/2.0 200");
    }
    two.bench.say(CLEO, &answer(&change, "488 Not Acceptable Here", "", "", ""));
    let heard = two.bench.heard(CLEO);
    assert!(heard[0].starts_with("ACK") && heard[1].starts_with("BYE"), "{heard:#?}");
    two.bench.say(CLEO, &answer(&heard[1], "200 OK", "", "", ""));
    two.bye_to(BEN);
    let reasons: Vec<_> = two.close().iter().map(|cdr| cdr.hangup_reason).collect();
    assert!(reasons.contains(&HangupReason::ByRefer), "{reasons:?}");
    assert!(reasons.contains(&HangupReason::ByCaller), "{reasons:?}");
}

/// A target that is not there any more: 481, or no answer at all, ends its own call only.
#[test]
fn a_target_whose_dialog_is_dead_ends_its_own_call() {
    for silent in [false, true] {
        let mut two = two();
        let change = two.referred();
        if silent {
            two.bench.pass(Duration::from_secs(33));
        } else {
            two.bench.say(CLEO, &answer(&change, "481 Gone", "", "", ""));
        }
        let heard = two.bench.heard(ANN);
        let status = if silent { "408" } else { "481" };
        let notify = heard.iter().find(|heard| heard.starts_with("NOTIFY")).expect("the outcome");
        assert!(two.told(notify).starts_with(&format!("SIP/2.0 {status}")));
        let bye = heard.iter().find(|heard| heard.starts_with("BYE")).expect("her second call");
        assert_eq!(header(bye, "Call-ID"), "call-two");
        two.bench.say(ANN, &answer(bye, "200 OK", "", "", ""));
        two.bench.heard(CLEO);
        assert!(two.bench.heard(BEN).is_empty());
        two.of_ann(0, "BYE", 50, "");
        two.bench.only(ANN, "SIP/2.0 200");
        two.bye_to(BEN);
        assert_eq!(two.close()[0].hangup_reason, HangupReason::Failed);
    }
}

/// What Cleo asks while nobody knows yet whose she is.
#[test]
fn what_would_need_the_leg_on_loan_waits() {
    let mut two = two();
    let change = two.referred();
    two.of_ann(1, "INFO", 3, "");
    two.bench.only(ANN, "SIP/2.0 491");
    two.of_ann(1, "INVITE", 4, &sdp("10.0.0.11", 4444));
    two.bench.only(ANN, "SIP/2.0 491");
    two.of_ann(0, "INVITE", 4, &sdp("10.0.0.11", 4444));
    two.bench.only(ANN, "SIP/2.0 491");
    two.cseq = 10;
    let heard = two.refer(&two.replaces());
    assert!(heard[0].starts_with("SIP/2.0 491"), "one transfer at a time: {heard:#?}");
    two.cleo_agrees(&change);
    two.ann_is_let_go();
    two.of_ben("BYE", 1, "");
    two.bench.only(BEN, "SIP/2.0 200");
    two.bye_to(CLEO);
    two.close();
}

/// Her first 200 was lost on the way of its ACK and comes again when she is in the other call.
#[test]
fn a_repeated_answer_of_a_moved_leg_gets_its_ack_and_no_bye() {
    let mut two = two();
    let change = two.referred();
    two.cleo_agrees(&change);
    two.ann_is_let_go();
    for wait in [0, 20] {
        two.bench.pass(Duration::from_secs(wait));
        let first = answer(&two.cleo, "200 OK", "cleo", CLEO, &sdp("10.0.0.13", 6000));
        two.bench.say(CLEO, &first);
        two.bench.only(CLEO, "ACK");
        two.bench.say(CLEO, &answer(&change, "200 OK", "", CLEO, &sdp("10.0.0.13", 6000)));
        two.bench.only(CLEO, "ACK");
    }
    two.of_ben("BYE", 1, "");
    two.bench.only(BEN, "SIP/2.0 200");
    two.bye_to(CLEO);
    two.close();
}

/// A trunk's limit counts the leg as long as it talks, whichever call it talks in.
#[test]
fn a_trunks_leg_counts_against_its_limit_until_it_ends() {
    let toll = Some(Arc::new(TollRules { country: Some("49".into()), ..TollRules::default() }));
    let mut bench = Bench::with(settings(), Snapshot { toll, ..world::snapshot() });
    let (_, first) = established(&mut bench);
    let uri = "sip:+4930123@carrier.test";
    bench.say(ANN, &second(from_ann("INVITE", uri, 1, "c1", "", &sdp("10.0.0.11", 4002))));
    bench.heard(ANN);
    let out = bench.only(CARRIER, "INVITE");
    bench.say(CARRIER, &answer(&out, "200 OK", "out", CARRIER, &sdp("10.0.0.99", 6000)));
    bench.only(CARRIER, "ACK");
    let ours = tag(&header(&bench.only(ANN, "SIP/2.0 200"), "To"));
    bench.say(ANN, &second(from_ann("ACK", uri, 1, "c1ack", &ours, "")));
    let refer = from_ann("REFER", "sip:1002@pbx.test", 2, "r2", &first, "");
    let line = format!("Refer-To: <{uri}?Replaces=call-two%3Bto-tag%3D{ours}%3Bfrom-tag%3Dtwo>");
    bench.say(ANN, &with(&refer, &line));
    let change = bench.only(CARRIER, "INVITE");
    bench.say(CARRIER, &answer(&change, "200 OK", "", CARRIER, &sdp("10.0.0.99", 6000)));
    bench.only(CARRIER, "ACK");
    for bye in bench.heard(ANN).iter().filter(|heard| heard.starts_with("BYE")) {
        bench.say(ANN, &answer(bye, "200 OK", "", "", ""));
    }
    bench.pass(Duration::from_secs(60));
    let census = bench.core.census();
    assert_eq!((bench.cdrs.len(), census.trunk_calls), (1, 1));
    // It is on two accounts: the trunk's and its caller's.
    assert_eq!(census.toll_calls, 2, "what it costs goes on, too");
    bench.say(CARRIER, &from_called(CARRIER, "out", "BYE", &out, 1, "o1", ""));
    bench.only(CARRIER, "SIP/2.0 200");
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
    assert_eq!((bench.core.census().trunk_calls, bench.core.census().toll_calls), (0, 0));
    assert_eq!(bench.cdrs[1].outbound_trunk.as_deref(), Some("carrier"));
}

/// A recording that was under way goes on in the call that the leg came to.
#[test]
fn a_leg_that_was_recorded_is_recorded_on() {
    let mut two = two();
    let start = CallAction::Record(Recording::Start);
    let call = CallName::Leg("call-two".into());
    two.bench.input(call::Input::Command(shared::command::Command::Act {
        id: 1,
        call,
        action: start,
    }));
    let records = |bench: &Bench| {
        bench.edits.iter().filter(|edit| matches!(edit, RelayEdit::Record { .. })).count()
    };
    assert_eq!(records(&two.bench), 1);
    let change = two.referred();
    two.cleo_agrees(&change);
    two.ann_is_let_go();
    assert_eq!(records(&two.bench), 2);
    two.of_ben("BYE", 1, "");
    two.bench.only(BEN, "SIP/2.0 200");
    two.bye_to(CLEO);
    two.close();
}

/// RFC 3892: a transferee is told what the REFER says about who sends it.
#[test]
fn referred_by_passes_on() {
    let mut two = two();
    two.of_ann(1, "BYE", 2, "");
    two.bench.heard(ANN);
    two.bye_to(CLEO);
    let plain = from_ann("REFER", "sip:1002@pbx.test", 2, "r2", &two.ours[0], "");
    let lines = "Referred-By: \"Ann's desk\" <sip:1001@pbx.test>\r\nRefer-To: <sip:1003@pbx.test>";
    two.bench.say(ANN, &with(&plain, lines));
    let invite = two.bench.only(CLEO, "INVITE");
    assert_eq!(header(&invite, "Referred-By"), "\"Ann's desk\" <sip:1001@pbx.test>");
    assert!(invite.contains("replaces\r\n"), "{invite}");
}

/// RFC 4028: whoever has the leg on loan keeps its time, so the lender agrees to nothing.
#[test]
fn a_refresh_of_a_leg_on_loan_waits_for_the_call_that_keeps_it() {
    let mut settings = settings();
    settings.timers.session = SessionTimers { mode: SessionTimerMode::Supported, expires_s: 600 };
    let mut two = two_with(settings);
    let change = two.referred();
    let update = |two: &mut Two, cseq: u32| {
        let branch = format!("update{cseq}");
        let plain = from_called(CLEO, "cleo", "UPDATE", &two.cleo, cseq, &branch, "");
        let lines = "Supported: timer\r\nSession-Expires: 90;refresher=uac";
        two.bench.say(CLEO, &with(&plain, lines));
    };
    update(&mut two, 1);
    two.bench.only(CLEO, "SIP/2.0 491");
    two.cleo_agrees(&change);
    two.ann_is_let_go();
    update(&mut two, 2);
    let ok = two.bench.only(CLEO, "SIP/2.0 200");
    assert_eq!(header(&ok, "Session-Expires"), "90;refresher=uac");
    two.bench.pass(Duration::from_secs(50));
    update(&mut two, 3);
    two.bench.only(CLEO, "SIP/2.0 200");
    two.bench.pass(Duration::from_secs(50));
    assert_eq!(two.bench.cdrs.len(), 1, "the call goes on as long as she refreshes");
    two.bench.pass(Duration::from_millis(10_100));
    two.bye_to(CLEO);
    two.bye_to(BEN);
    assert_eq!(two.close()[1].hangup_reason, HangupReason::BySystem);
}
