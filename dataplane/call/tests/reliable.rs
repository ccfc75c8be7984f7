//! Reliable provisional responses, each leg for itself (RFC 3262).
//! Owns:  one test per combination of the two legs, and per way that a PRACK may fail.
//! Gives: raw text in, raw text out.
//! Never: real time; loss is the simulator's.
//! Holds: what is not acknowledged is repeated or ends the call, and nothing is left behind.

mod world;

use std::time::Duration;

use media::edit::RelayEdit;
use shared::cdr::HangupReason;
use shared::metrics::Counter;
use world::{ANN, BEN, Bench, answer, from_ann, from_ben, header, sdp, settings, tag};

const SUPPORTED: &str = "Supported: 100rel\r\n";
const REQUIRED: &str = "Require: 100rel\r\n";
const URI: &str = "sip:1002@pbx.test";

fn with(text: &str, more: &str) -> String {
    text.replacen("Content-Length:", &format!("{more}Content-Length:"), 1)
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|found| found.starts_with(line))
}

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").expect("a message has an end").1
}

fn number(text: &str, name: &str) -> u32 {
    let value = header(text, name);
    value.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")
}

fn ann_says() -> String {
    sdp("10.0.0.11", 4000)
}

fn ben_says() -> String {
    sdp("10.0.0.12", 5000)
}

/// Ann's INVITE is on its way to Ben.
struct Rings {
    bench: Bench,
    /// What Ben got.
    invite: String,
    next: u32,
}

impl Rings {
    fn new(ann: &str, offer: &str) -> Self {
        let mut bench = Bench::new(settings());
        bench.register("1002", BEN);
        bench.say(ANN, &with(&from_ann("INVITE", URI, 1, "a1", "", offer), ann));
        bench.only(ANN, "SIP/2.0 100");
        let invite = bench.only(BEN, "INVITE");
        Self { bench, invite, next: 2 }
    }

    fn ben(&mut self, status: &str, more: &str, body: &str) {
        self.fork("ben", status, more, body);
    }

    fn fork(&mut self, tag: &str, status: &str, more: &str, body: &str) {
        self.bench.say(BEN, &with(&answer(&self.invite, status, tag, BEN, body), more));
    }

    fn ben_reliably(&mut self, status: &str, rseq: u32, body: &str) {
        self.ben(status, &rel(rseq), body);
    }

    /// The PRACK that Ben got; he answers it.
    fn ben_pracked(&mut self, rseq: u32) -> String {
        let prack = self.bench.only(BEN, "PRACK");
        let cseq = number(&self.invite, "CSeq");
        assert_eq!(header(&prack, "RAck"), format!("{rseq} {cseq} INVITE"));
        assert!(number(&prack, "CSeq") > cseq, "{prack}");
        self.bench.say(BEN, &answer(&prack, "200 OK", "", "", ""));
        prack
    }

    fn prack(&mut self, told: &str, rack: &str, body: &str) {
        let (cseq, tag) = (self.next, tag(&header(told, "To")));
        self.next += 1;
        let prack = from_ann("PRACK", URI, cseq, &format!("p{cseq}"), &tag, body);
        self.bench.say(ANN, &with(&prack, &format!("RAck: {rack}\r\n")));
    }

    /// Ann acknowledges what she was told, and hears the 200.
    fn ann_pracks(&mut self, told: &str, body: &str) -> Vec<String> {
        let rseq = number(told, "RSeq");
        self.prack(told, &format!("{rseq} 1 INVITE"), body);
        let mut heard = self.bench.heard(ANN);
        let first = heard.remove(0);
        assert!(first.starts_with("SIP/2.0 200") && first.contains("PRACK"), "{first}");
        heard
    }

    fn ann_acks(&mut self, ok: &str, body: &str) {
        let tag = tag(&header(ok, "To"));
        self.bench.say(ANN, &from_ann("ACK", URI, 1, "a1ack", &tag, body));
    }

    /// The call stands, nothing is repeated; Ann hangs up and nothing is left.
    fn stands_and_ends(mut self, ok: &str) {
        self.bench.pass(Duration::from_secs(40));
        for peer in [ANN, BEN] {
            assert_eq!(self.bench.heard(peer), Vec::<String>::new(), "{peer}");
        }
        let tag = tag(&header(ok, "To"));
        self.bench.say(ANN, &from_ann("BYE", URI, 90, "bye", &tag, ""));
        self.bench.only(ANN, "SIP/2.0 200");
        let bye = self.bench.only(BEN, "BYE");
        self.bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
        assert_eq!(self.bench.cdrs[0].hangup_reason, HangupReason::ByCaller);
        self.bench.assert_quiet();
    }

    /// Where media of each side goes, by the last edit.
    fn media(&self) -> [Option<String>; 2] {
        let mut places = [None, None];
        for edit in &self.bench.edits {
            if let RelayEdit::Remote { side, remote, .. } = edit {
                places[side.index()] = Some(remote.rtp.to_string());
            }
        }
        places
    }

    fn assert_media(&self) {
        let expected = ["10.0.0.11:4000", "10.0.0.12:5000"].map(|one| Some(one.to_owned()));
        assert_eq!(self.media(), expected);
    }

    fn count(&self, counter: Counter) -> u64 {
        self.bench.core.counters_seen().of(counter)
    }
}

fn rel(rseq: u32) -> String {
    format!("{REQUIRED}RSeq: {rseq}\r\n")
}

#[test]
fn neither_leg_is_reliable() {
    let mut rings = Rings::new("", &ann_says());
    assert!(has(&rings.invite, "Supported: 100rel") && !has(&rings.invite, "Require"));
    rings.ben("183 Session Progress", "", &ben_says());
    assert!(rings.bench.heard(BEN).is_empty());
    let told = rings.bench.only(ANN, "SIP/2.0 183");
    assert!(!has(&told, "RSeq") && !has(&told, "Require") && body(&told).contains("m=audio"));
    rings.assert_media();
    rings.ben("200 OK", "", &ben_says());
    rings.bench.only(BEN, "ACK");
    let ok = rings.bench.only(ANN, "SIP/2.0 200");
    assert_eq!(body(&ok), body(&told));
    rings.ann_acks(&ok, "");
    rings.stands_and_ends(&ok);
}

#[test]
fn the_callers_leg_alone_is_reliable() {
    for wish in [SUPPORTED, REQUIRED] {
        let mut rings = Rings::new(wish, &ann_says());
        rings.ben("183 Session Progress", "", &ben_says());
        assert!(rings.bench.heard(BEN).is_empty());
        let told = rings.bench.only(ANN, "SIP/2.0 183");
        assert_eq!(header(&told, "Require"), "100rel");
        assert!(body(&told).contains("m=audio"));
        assert!(rings.ann_pracks(&told, "").is_empty());
        rings.assert_media();
        rings.ben("200 OK", "", &ben_says());
        rings.bench.only(BEN, "ACK");
        let ok = rings.bench.only(ANN, "SIP/2.0 200");
        assert_eq!(body(&ok), "", "the offer is answered (RFC 3262 5)");
        rings.ann_acks(&ok, "");
        rings.stands_and_ends(&ok);
    }
}

#[test]
fn the_callees_leg_alone_is_reliable() {
    for last in ["", &ben_says()] {
        let mut rings = Rings::new("", &ann_says());
        rings.ben_reliably("183 Session Progress", 7, &ben_says());
        rings.ben_pracked(7);
        let told = rings.bench.only(ANN, "SIP/2.0 183");
        assert!(!has(&told, "RSeq") && !has(&told, "Require"), "{told}");
        rings.assert_media();
        // His 2xx may leave the answer out that he has given.
        rings.ben("200 OK", "", last);
        rings.bench.only(BEN, "ACK");
        let ok = rings.bench.only(ANN, "SIP/2.0 200");
        assert_eq!(body(&ok), body(&told), "she needs it in the 2xx");
        rings.ann_acks(&ok, "");
        rings.stands_and_ends(&ok);
    }
}

#[test]
fn both_legs_are_reliable() {
    let mut rings = Rings::new(SUPPORTED, &ann_says());
    rings.ben_reliably("183 Session Progress", 4_000_000_000, &ben_says());
    rings.ben_pracked(4_000_000_000);
    let told = rings.bench.only(ANN, "SIP/2.0 183");
    assert!(rings.ann_pracks(&told, "").is_empty());
    rings.assert_media();
    rings.ben_reliably("180 Ringing", 4_000_000_001, "");
    rings.ben_pracked(4_000_000_001);
    let again = rings.bench.only(ANN, "SIP/2.0 180");
    assert_eq!(number(&again, "RSeq"), number(&told, "RSeq") + 1, "as careful as he was");
    assert!(rings.ann_pracks(&again, "").is_empty());
    rings.ben("200 OK", "", "");
    rings.bench.only(BEN, "ACK");
    let ok = rings.bench.only(ANN, "SIP/2.0 200");
    rings.ann_acks(&ok, "");
    rings.stands_and_ends(&ok);
}

#[test]
fn who_insists_gets_every_response_reliably_and_who_is_able_what_matters() {
    for (wish, reliable) in [(REQUIRED, true), (SUPPORTED, false)] {
        let mut rings = Rings::new(wish, &ann_says());
        rings.ben("180 Ringing", "", "");
        let told = rings.bench.only(ANN, "SIP/2.0 180");
        assert_eq!(has(&told, "RSeq"), reliable, "{told}");
        // Nothing was described, so the 2xx need not wait (RFC 3262 3).
        rings.ben("200 OK", "", &ben_says());
        rings.bench.only(BEN, "ACK");
        let ok = rings.bench.only(ANN, "SIP/2.0 200");
        assert!(body(&ok).contains("m=audio"));
        rings.ann_acks(&ok, "");
        if reliable {
            assert!(rings.ann_pracks(&told, "").is_empty(), "late, and known nevertheless");
        }
        rings.stands_and_ends(&ok);
    }
}

#[test]
fn several_responses_go_out_one_after_the_other() {
    let mut rings = Rings::new(REQUIRED, &ann_says());
    rings.ben("180 Ringing", "", "");
    rings.ben("180 Ringing", "", "");
    rings.ben("180 Ringing", "", "");
    rings.ben("183 Session Progress", "", &ben_says());
    rings.ben("182 Queued", "", "");
    let mut told = rings.bench.only(ANN, "SIP/2.0 180");
    let first = number(&told, "RSeq");
    assert!((1..1 << 31).contains(&first));
    // One more 180 waits; a third says nothing new.
    for (place, status) in (1..).zip(["180", "183", "182"]) {
        let next = rings.ann_pracks(&told, "");
        assert_eq!(next.len(), 1, "{next:?}");
        assert!(next[0].starts_with(&format!("SIP/2.0 {status}")), "{}", next[0]);
        assert_eq!(number(&next[0], "RSeq"), first + place);
        told = next[0].clone();
    }
    assert!(rings.ann_pracks(&told, "").is_empty());
    rings.ben("486 Busy Here", "", "");
    rings.bench.only(BEN, "ACK");
    let busy = rings.bench.only(ANN, "SIP/2.0 486");
    let ours = tag(&header(&busy, "To"));
    rings.bench.say(ANN, &from_ann("ACK", URI, 1, "a1", &ours, ""));
    rings.bench.assert_quiet();
}

#[test]
fn more_responses_than_may_wait_are_dropped_and_counted() {
    let mut rings = Rings::new(REQUIRED, &ann_says());
    for status in 0..20 {
        rings.ben(&format!("1{} Progress", 80 + status % 4), "", "");
    }
    rings.bench.only(ANN, "SIP/2.0 180");
    // One is out, eight wait, two say what the last of these says.
    assert_eq!(rings.count(Counter::ProvisionalsDropped), 9);
    rings.ben("486 Busy Here", "", "");
    rings.bench.only(ANN, "SIP/2.0 486");
}

#[test]
fn a_response_without_a_prack_is_repeated_and_ends_the_call_after_64_t1() {
    let mut rings = Rings::new(SUPPORTED, &ann_says());
    rings.ben("183 Session Progress", "", &ben_says());
    let told = rings.bench.only(ANN, "SIP/2.0 183");
    let began = rings.bench.now;
    let mut repeats = Vec::new();
    while rings.bench.now.since(began) < Duration::from_millis(31_900) {
        rings.bench.pass(Duration::from_millis(100));
        for text in rings.bench.heard(ANN) {
            assert_eq!(text, told);
            repeats.push(rings.bench.now.since(began).as_millis());
        }
    }
    assert_eq!(repeats, [500, 1_500, 3_500, 7_500, 15_500, 31_500], "doubled without a ceiling");
    assert!(rings.bench.heard(BEN).is_empty());
    rings.bench.pass(Duration::from_millis(200));
    let refused = rings.bench.only(ANN, "SIP/2.0 504");
    let cancel = rings.bench.only(BEN, "CANCEL");
    rings.bench.say(BEN, &answer(&cancel, "200 OK", "ben", "", ""));
    rings.ben("487 Request Terminated", "", "");
    rings.bench.only(BEN, "ACK");
    assert_eq!(rings.count(Counter::ProvisionalsUnacknowledged), 1);
    assert_eq!(rings.bench.cdrs[0].status_code, 504);
    let ours = tag(&header(&refused, "To"));
    rings.bench.say(ANN, &from_ann("ACK", URI, 1, "a1", &ours, ""));
    rings.bench.assert_quiet();
}

#[test]
fn a_lost_prack_of_the_caller_is_asked_for_again() {
    let mut rings = Rings::new(SUPPORTED, &ann_says());
    rings.ben("183 Session Progress", "", &ben_says());
    let told = rings.bench.only(ANN, "SIP/2.0 183");
    rings.bench.pass(Duration::from_millis(600));
    assert_eq!(rings.bench.only(ANN, "SIP/2.0 183"), told);
    assert!(rings.ann_pracks(&told, "").is_empty());
    rings.bench.pass(Duration::from_secs(20));
    assert!(rings.bench.heard(ANN).is_empty(), "it is acknowledged");
    rings.ben("486 Busy Here", "", "");
    rings.bench.only(ANN, "SIP/2.0 486");
}

#[test]
fn a_lost_prack_of_ours_is_repeated_and_the_callees_repeats_are_absorbed() {
    let mut rings = Rings::new("", &ann_says());
    rings.ben_reliably("183 Session Progress", 7, &ben_says());
    let prack = rings.bench.only(BEN, "PRACK");
    rings.bench.only(ANN, "SIP/2.0 183");
    rings.bench.pass(Duration::from_millis(600));
    assert_eq!(rings.bench.only(BEN, "PRACK"), prack, "the same transaction");
    rings.ben_reliably("183 Session Progress", 7, &ben_says());
    assert!(rings.bench.heard(BEN).is_empty(), "one PRACK for each number");
    assert!(rings.bench.heard(ANN).is_empty(), "and nothing passed on twice");
    rings.bench.say(BEN, &answer(&prack, "200 OK", "", "", ""));
    rings.ben_reliably("183 Session Progress", 7, &ben_says());
    rings.bench.pass(Duration::from_secs(20));
    assert!(rings.bench.heard(BEN).is_empty() && rings.bench.heard(ANN).is_empty());
    rings.ben("486 Busy Here", "", "");
    rings.bench.only(ANN, "SIP/2.0 486");
}

#[test]
fn a_rack_that_matches_nothing_is_answered_481() {
    let mut rings = Rings::new(SUPPORTED, &ann_says());
    rings.ben("183 Session Progress", "", &ben_says());
    let told = rings.bench.only(ANN, "SIP/2.0 183");
    let rseq = number(&told, "RSeq");
    for rack in
        [format!("{} 1 INVITE", rseq + 1), format!("{rseq} 2 INVITE"), format!("{rseq} 1 UPDATE")]
    {
        rings.prack(&told, &rack, "");
        rings.bench.only(ANN, "SIP/2.0 481");
    }
    rings.prack(&told, "soon", "");
    rings.bench.only(ANN, "SIP/2.0 400");
    assert!(rings.ann_pracks(&told, "").is_empty());
    rings.prack(&told, &format!("{rseq} 1 INVITE"), "");
    rings.bench.only(ANN, "SIP/2.0 481"); // it is acknowledged already
    assert_eq!(rings.count(Counter::PracksUnmatched), 4);
    // Ben sends one, too: he has nothing to acknowledge.
    let prack = from_ben("PRACK", &rings.invite, 1, "b1", "");
    rings.bench.say(BEN, &with(&prack, &format!("RAck: {rseq} 1 INVITE\r\n")));
    rings.bench.only(BEN, "SIP/2.0 481");
    rings.ben("486 Busy Here", "", "");
    rings.bench.only(ANN, "SIP/2.0 486");
}

#[test]
fn the_answer_waits_until_a_description_is_acknowledged() {
    let mut rings = Rings::new(SUPPORTED, &ann_says());
    rings.ben("183 Session Progress", "", &ben_says());
    let told = rings.bench.only(ANN, "SIP/2.0 183");
    rings.ben("200 OK", "", &ben_says());
    rings.bench.only(BEN, "ACK");
    assert!(rings.bench.heard(ANN).is_empty(), "no 2xx yet (RFC 3262 3)");
    assert!(rings.bench.starts.is_empty(), "and nobody pays yet");
    let ok = rings.ann_pracks(&told, "");
    assert!(ok.len() == 1 && ok[0].starts_with("SIP/2.0 200"), "{ok:?}");
    assert!(header(&ok[0], "CSeq").contains("INVITE") && body(&ok[0]).is_empty());
    rings.ann_acks(&ok[0], "");
    rings.stands_and_ends(&ok[0]);
}

#[test]
fn a_callee_who_hangs_up_while_its_answer_waits_was_not_there() {
    let mut rings = Rings::new(SUPPORTED, &ann_says());
    rings.ben("183 Session Progress", "", &ben_says());
    rings.bench.only(ANN, "SIP/2.0 183");
    rings.ben("200 OK", "", &ben_says());
    rings.bench.only(BEN, "ACK");
    let bye = from_ben("BYE", &rings.invite, 1, "b1", "");
    rings.bench.say(BEN, &bye);
    rings.bench.only(BEN, "SIP/2.0 200");
    let gone = rings.bench.only(ANN, "SIP/2.0 480");
    assert_eq!(rings.bench.cdrs[0].hangup_reason, HangupReason::NoAnswer);
    let ours = tag(&header(&gone, "To"));
    rings.bench.say(ANN, &from_ann("ACK", URI, 1, "a1", &ours, ""));
    rings.bench.assert_quiet();
}

#[test]
fn an_answer_that_waits_in_vain_ends_with_504_and_bye() {
    let mut rings = Rings::new(SUPPORTED, &ann_says());
    rings.ben("183 Session Progress", "", &ben_says());
    rings.bench.only(ANN, "SIP/2.0 183");
    rings.ben("200 OK", "", &ben_says());
    rings.bench.only(BEN, "ACK");
    rings.bench.pass(Duration::from_millis(32_100));
    let last = rings.bench.heard(ANN).pop().expect("an answer");
    assert!(last.starts_with("SIP/2.0 504"), "{last}");
    let bye = rings.bench.only(BEN, "BYE");
    rings.bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    let ours = tag(&header(&last, "To"));
    rings.bench.say(ANN, &from_ann("ACK", URI, 1, "a1", &ours, ""));
    rings.bench.assert_quiet();
}

#[test]
fn a_cancel_ends_the_repeats_and_a_late_prack_is_still_known() {
    let mut rings = Rings::new(SUPPORTED, &ann_says());
    rings.ben_reliably("183 Session Progress", 7, &ben_says());
    rings.ben_pracked(7);
    let told = rings.bench.only(ANN, "SIP/2.0 183");
    rings.bench.say(ANN, &from_ann("CANCEL", URI, 1, "a1", "", ""));
    let heard = rings.bench.heard(ANN);
    assert!(heard[0].starts_with("SIP/2.0 200") && heard[1].starts_with("SIP/2.0 487"));
    assert!(rings.ann_pracks(&told, "").is_empty());
    let ours = tag(&header(&heard[1], "To"));
    rings.bench.say(ANN, &from_ann("ACK", URI, 1, "a1", &ours, ""));
    let cancel = rings.bench.only(BEN, "CANCEL");
    rings.bench.say(BEN, &answer(&cancel, "200 OK", "ben", "", ""));
    // What he said before he heard of it wants its PRACK all the same.
    rings.ben_reliably("180 Ringing", 8, "");
    rings.ben_pracked(8);
    rings.ben("487 Request Terminated", "", "");
    rings.bench.only(BEN, "ACK");
    rings.bench.pass(Duration::from_secs(60));
    assert!(rings.bench.heard(ANN).is_empty(), "nothing is repeated");
    rings.bench.assert_quiet();
}

#[test]
fn a_response_out_of_order_is_dropped_without_a_prack() {
    let mut rings = Rings::new("", &ann_says());
    rings.ben_reliably("183 Session Progress", 7, &ben_says());
    rings.ben_pracked(7);
    rings.bench.only(ANN, "SIP/2.0 183");
    for rseq in [9, 6] {
        rings.ben_reliably("182 Queued", rseq, "");
        assert!(rings.bench.heard(BEN).is_empty() && rings.bench.heard(ANN).is_empty());
    }
    assert_eq!(rings.count(Counter::ProvisionalsDropped), 2);
    rings.ben_reliably("180 Ringing", 8, "");
    rings.ben_pracked(8);
    rings.bench.only(ANN, "SIP/2.0 180");
}

/// A proxy further down rings two phones: each early dialog counts for itself, and the one that
/// loses is hung up with a number that comes behind its PRACK.
#[test]
fn each_fork_has_numbers_of_its_own() {
    let mut rings = Rings::new("", &ann_says());
    rings.fork("one", "183 Session Progress", &rel(7), &ben_says());
    let one = rings.ben_pracked(7);
    rings.bench.only(ANN, "SIP/2.0 183");
    rings.fork("two", "183 Session Progress", &rel(500), &sdp("10.0.0.12", 5002));
    let two = rings.ben_pracked(500);
    assert_eq!((tag(&header(&one, "To")), tag(&header(&two, "To"))), ("one".into(), "two".into()));
    assert!(number(&two, "CSeq") > number(&one, "CSeq"));
    rings.bench.only(ANN, "SIP/2.0 183");
    rings.fork("one", "180 Ringing", &rel(8), "");
    rings.ben_pracked(8);
    rings.bench.only(ANN, "SIP/2.0 180");
    // The first one picks up, and its 2xx leaves the description out: its own counts.
    rings.fork("one", "200 OK", "", "");
    rings.bench.only(BEN, "ACK");
    rings.assert_media();
    let ok = rings.bench.only(ANN, "SIP/2.0 200");
    rings.ann_acks(&ok, "");
    rings.fork("two", "200 OK", "", "");
    let heard = rings.bench.heard(BEN);
    assert!(heard[0].starts_with("ACK") && heard[1].starts_with("BYE"), "{heard:?}");
    assert!(number(&heard[1], "CSeq") > number(&two, "CSeq") + 1, "{}", heard[1]);
    rings.bench.say(BEN, &answer(&heard[1], "200 OK", "", "", ""));
    rings.stands_and_ends(&ok);
}

#[test]
fn an_offer_in_a_reliable_response_is_answered_in_the_prack() {
    let mut rings = Rings::new(REQUIRED, "");
    assert!(has(&rings.invite, "Supported: 100rel") && body(&rings.invite).is_empty());
    rings.ben_reliably("183 Session Progress", 7, &ben_says());
    assert!(rings.bench.heard(BEN).is_empty(), "nobody has answered it yet");
    let told = rings.bench.only(ANN, "SIP/2.0 183");
    assert!(body(&told).contains("c=IN IP4 10.0.0.1"), "{told}");
    rings.ben_reliably("183 Session Progress", 7, &ben_says());
    assert!(rings.bench.heard(BEN).is_empty() && rings.bench.heard(ANN).is_empty());
    assert!(rings.ann_pracks(&told, &ann_says()).is_empty());
    let prack = rings.ben_pracked(7);
    assert!(body(&prack).contains("c=IN IP4 10.0.0.1") && body(&prack).contains("m=audio"));
    rings.assert_media();
    rings.ben("200 OK", "", "");
    let ack = rings.bench.only(BEN, "ACK");
    assert!(body(&ack).is_empty(), "it was answered");
    let ok = rings.bench.only(ANN, "SIP/2.0 200");
    assert!(body(&ok).is_empty());
    rings.ann_acks(&ok, "");
    rings.stands_and_ends(&ok);
}

/// Two phones behind one proxy make an offer each; the caller can answer one.
#[test]
fn the_offer_of_a_second_fork_is_refused_and_the_first_goes_on() {
    for picks_up in ["one", "two"] {
        let mut rings = Rings::new(SUPPORTED, "");
        rings.fork("one", "183 Session Progress", &rel(7), &ben_says());
        let told = rings.bench.only(ANN, "SIP/2.0 183");
        rings.fork("two", "183 Session Progress", &rel(500), &sdp("10.0.0.12", 5002));
        let refused = rings.ben_pracked(500);
        assert!(body(&refused).contains("m=audio 0 "), "{refused}");
        assert!(rings.bench.heard(ANN).is_empty());
        assert!(rings.ann_pracks(&told, &ann_says()).is_empty());
        let prack = rings.ben_pracked(7);
        assert_eq!(tag(&header(&prack, "To")), "one");
        rings.assert_media();
        rings.fork(picks_up, "200 OK", "", "");
        let last = rings.bench.heard(ANN).pop().expect("an answer");
        if picks_up == "one" {
            rings.bench.only(BEN, "ACK");
            rings.ann_acks(&last, "");
            rings.stands_and_ends(&last);
        } else {
            let heard = rings.bench.heard(BEN);
            assert!(heard[0].starts_with("ACK") && heard[1].starts_with("BYE"), "{heard:?}");
            assert!(last.starts_with("SIP/2.0 502"), "no session was agreed on: {last}");
        }
    }
}

#[test]
fn an_offer_that_the_caller_leaves_unanswered_ends_the_call() {
    for give_up in [false, true] {
        let mut rings = Rings::new(SUPPORTED, "");
        rings.ben_reliably("183 Session Progress", 7, &ben_says());
        let told = rings.bench.only(ANN, "SIP/2.0 183");
        let (status, ours) = if give_up {
            rings.bench.say(ANN, &from_ann("CANCEL", URI, 1, "a1", "", ""));
            (487, rings.bench.heard(ANN).pop().expect("an answer"))
        } else {
            (488, rings.ann_pracks(&told, "").pop().expect("an answer"))
        };
        assert!(ours.starts_with(&format!("SIP/2.0 {status}")), "{ours}");
        let heard = rings.bench.heard(BEN);
        assert!(heard[0].starts_with("PRACK") && heard[1].starts_with("CANCEL"), "{heard:?}");
        assert!(body(&heard[0]).contains("m=audio 0 "), "every line is refused: {}", heard[0]);
        for text in &heard {
            rings.bench.say(BEN, &answer(text, "200 OK", "ben", "", ""));
        }
        rings.ben("487 Request Terminated", "", "");
        rings.bench.only(BEN, "ACK");
        let tag = tag(&header(&ours, "To"));
        rings.bench.say(ANN, &from_ann("ACK", URI, 1, "a1", &tag, ""));
        rings.bench.assert_quiet();
    }
}

/// The PRACK crosses the final response: what it brings is an answer, not a second offer.
#[test]
fn an_answer_that_comes_behind_the_end_of_the_call_is_no_second_offer() {
    let mut rings = Rings::new(SUPPORTED, "");
    rings.ben_reliably("183 Session Progress", 7, &ben_says());
    let told = rings.bench.only(ANN, "SIP/2.0 183");
    rings.bench.say(ANN, &from_ann("CANCEL", URI, 1, "a1", "", ""));
    let ended = rings.bench.heard(ANN).pop().expect("an answer");
    assert!(ended.starts_with("SIP/2.0 487"), "{ended}");
    let refused = rings.bench.heard(BEN);
    assert!(body(&refused[0]).contains("m=audio 0 "), "{}", refused[0]);
    assert!(rings.ann_pracks(&told, &ann_says()).is_empty());
    assert!(rings.bench.heard(BEN).is_empty(), "he has his PRACK");
}

/// Without an offer from a caller who cannot answer one early, the callee is not asked for reliable
/// responses: it offers in its 2xx as ever, and the ACK answers.
#[test]
fn without_an_offer_the_other_combinations_agree_in_2xx_and_ack() {
    for (wish, asked) in [("", false), (SUPPORTED, true), (REQUIRED, true)] {
        let mut rings = Rings::new(wish, "");
        assert_eq!(has(&rings.invite, "Supported: 100rel"), asked, "{}", rings.invite);
        rings.ben("183 Session Progress", "", &ben_says());
        let told = rings.bench.only(ANN, "SIP/2.0 183");
        assert!(body(&told).is_empty(), "no offer yet (RFC 3261 13.2.1)");
        assert_eq!(has(&told, "RSeq"), wish == REQUIRED);
        rings.ben("200 OK", "", &ben_says());
        let ok = rings.bench.only(ANN, "SIP/2.0 200");
        assert!(body(&ok).contains("m=audio"));
        rings.ann_acks(&ok, &ann_says());
        let ack = rings.bench.only(BEN, "ACK");
        assert!(body(&ack).contains("m=audio"));
        rings.assert_media();
        if wish == REQUIRED {
            rings.ann_pracks(&told, "");
        }
        rings.stands_and_ends(&ok);
    }
}

#[test]
fn an_offer_that_nobody_asked_for_is_refused_in_the_prack() {
    let mut rings = Rings::new("", "");
    rings.ben_reliably("183 Session Progress", 7, &ben_says());
    let heard = rings.bench.heard(BEN);
    assert!(heard[0].starts_with("PRACK") && body(&heard[0]).contains("m=audio 0 "), "{heard:?}");
    assert!(heard[1].starts_with("CANCEL"), "{heard:?}");
    rings.bench.only(ANN, "SIP/2.0 488");
}

#[test]
fn a_second_offer_in_a_prack_is_answered_when_it_keeps_to_the_answer() {
    let mut rings = Rings::new(SUPPORTED, &ann_says());
    rings.ben("183 Session Progress", "", &ben_says());
    let told = rings.bench.only(ANN, "SIP/2.0 183");
    let rseq = number(&told, "RSeq");
    rings.prack(&told, &format!("{rseq} 1 INVITE"), &sdp("10.0.0.11", 4008));
    let answered = rings.bench.only(ANN, "SIP/2.0 200");
    assert_eq!(body(&answered), body(&told));
    assert_eq!(rings.media()[0].as_deref(), Some("10.0.0.11:4008"), "her media has moved");
    rings.ben("486 Busy Here", "", "");
    rings.bench.only(ANN, "SIP/2.0 486");
    // Another codec than the one that was agreed on, and a direction that nobody asked Ben for.
    for offer in [
        ann_says().replace("RTP/AVP 0 8", "RTP/AVP 18"),
        ann_says().replace("a=sendrecv", "a=sendonly"),
    ] {
        let mut rings = Rings::new(SUPPORTED, &ann_says());
        rings.ben("183 Session Progress", "", &ben_says());
        let told = rings.bench.only(ANN, "SIP/2.0 183");
        let rseq = number(&told, "RSeq");
        rings.prack(&told, &format!("{rseq} 1 INVITE"), &offer);
        rings.bench.only(ANN, "SIP/2.0 488");
        rings.bench.pass(Duration::from_secs(10));
        assert!(rings.bench.heard(ANN).is_empty(), "acknowledged it is");
        rings.assert_media();
    }
}

/// What was agreed on reliably cannot be changed by a 2xx: a re-INVITE does it.
#[test]
fn a_callee_who_answers_otherwise_than_it_rang_makes_a_re_invite() {
    let mut rings = Rings::new(SUPPORTED, &ann_says());
    rings.ben("183 Session Progress", "", &ben_says().replace("RTP/AVP 0 8", "RTP/AVP 0"));
    let told = rings.bench.only(ANN, "SIP/2.0 183");
    rings.ann_pracks(&told, "");
    rings.ben("200 OK", "", &ben_says().replace("RTP/AVP 0 8", "RTP/AVP 8"));
    rings.bench.only(BEN, "ACK");
    let ok = rings.bench.only(ANN, "SIP/2.0 200");
    rings.ann_acks(&ok, "");
    rings.bench.pass(Duration::from_millis(600));
    let again = rings.bench.only(ANN, "INVITE");
    assert!(body(&again).contains("RTP/AVP 8\r\n"), "{again}");
    rings.bench.say(ANN, &answer(&again, "200 OK", "", ANN, &ann_says()));
    rings.bench.only(ANN, "ACK");
    rings.stands_and_ends(&ok);
}

#[test]
fn other_options_are_still_refused() {
    let mut bench = Bench::new(settings());
    let invite = from_ann("INVITE", URI, 1, "a1", "", &ann_says());
    bench.say(ANN, &with(&invite, "Require: 100rel, sec-agree\r\n"));
    assert_eq!(header(&bench.only(ANN, "SIP/2.0 420"), "Unsupported"), "sec-agree");
    let options = from_ann("OPTIONS", "sip:pbx.test", 1, "o1", "", "");
    bench.say(ANN, &options);
    let said = bench.only(ANN, "SIP/2.0 200");
    assert!(header(&said, "Supported").contains("100rel"), "{said}");
    assert!(header(&said, "Allow").contains("PRACK"), "{said}");
    bench.assert_quiet();
}
