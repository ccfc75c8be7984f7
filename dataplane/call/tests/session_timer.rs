//! Session timers of either leg (RFC 4028).
//! Owns:  one test per choice that the RFC leaves, and per way that a refresh may fail.
//! Gives: raw text in, raw text out.
//! Never: real time.
//! Holds: the two legs know nothing of each other's timers; a dead peer ends the call.

mod world;

use std::time::Duration;

use shared::cdr::HangupReason;
use shared::settings::{SessionTimerMode, SessionTimers, ShardSettings};
use world::{ANN, BEN, Bench, answer, from_ann, from_ben, header, sdp, settings, tag};

const SUPPORTED: SessionTimerMode = SessionTimerMode::Supported;
const ALWAYS: SessionTimerMode = SessionTimerMode::Always;
const TIMER: &str = "Supported: timer\r\n";
const UPDATES: &str = "Allow: INVITE, ACK, BYE, UPDATE\r\n";

fn bench(mode: SessionTimerMode, expires_s: u32) -> Bench {
    let mut settings: ShardSettings = settings();
    settings.timers.session = SessionTimers { mode, expires_s };
    Bench::new(settings)
}

/// A message with more header lines.
fn with(text: &str, more: &str) -> String {
    text.replacen("Content-Length:", &format!("{more}Content-Length:"), 1)
}

fn has(text: &str, name: &str) -> bool {
    text.lines().any(|line| line.starts_with(&format!("{name}: ")))
}

fn number_of(text: &str) -> u32 {
    header(text, "CSeq").split(' ').next().and_then(|word| word.parse().ok()).expect("a number")
}

fn ann_says() -> String {
    sdp("10.0.0.11", 4000)
}

fn ben_says() -> String {
    sdp("10.0.0.12", 5000)
}

fn invite(more: &str) -> String {
    with(&from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &ann_says()), more)
}

/// A call that stands: the INVITE to Ben, and the 200 to Ann.
struct Stands {
    bench: Bench,
    invite: String,
    ok: String,
}

impl Stands {
    /// What Ann and Ben say about timers.
    fn new(mut bench: Bench, ann: &str, ben: &str) -> Self {
        bench.register("1002", BEN);
        bench.say(ANN, &invite(ann));
        bench.only(ANN, "SIP/2.0 100");
        let invite = bench.only(BEN, "INVITE");
        bench.say(BEN, &with(&answer(&invite, "200 OK", "ben", BEN, &ben_says()), ben));
        bench.only(BEN, "ACK");
        let ok = bench.only(ANN, "SIP/2.0 200");
        bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &tag_of(&ok), ""));
        Self { bench, invite, ok }
    }

    fn ann(&self, method: &str, cseq: u32, body: &str) -> String {
        let branch = format!("a{cseq}{method}");
        from_ann(method, "sip:1002@pbx.test", cseq, &branch, &tag_of(&self.ok), body)
    }

    fn ben(&self, method: &str, cseq: u32, body: &str) -> String {
        from_ben(method, &self.invite, cseq, &format!("b{cseq}{method}"), body)
    }

    fn pass(&mut self, seconds: u64) {
        self.bench.pass(Duration::from_secs(seconds));
    }

    /// Ended by us: why, and after how long.
    fn end(&self) -> (HangupReason, u64) {
        let [cdr] = self.bench.cdrs.as_slice() else { panic!("{:?}", self.bench.cdrs) };
        (cdr.hangup_reason, cdr.duration_ms)
    }
}

fn tag_of(ok: &str) -> String {
    tag(&header(ok, "To"))
}

#[test]
fn without_the_setting_nobody_hears_of_timers() {
    let asks = format!("{TIMER}Session-Expires: 60\r\n");
    let stands = Stands::new(bench(SessionTimerMode::Off, 600), &asks, "");
    for text in [&stands.invite, &stands.ok] {
        assert!(!has(text, "Session-Expires") && !text.contains("Supported: timer"), "{text}");
    }
    let mut bench = bench(SessionTimerMode::Off, 600);
    bench.say(ANN, &invite("Require: timer\r\n"));
    assert_eq!(header(&bench.only(ANN, "SIP/2.0 420"), "Unsupported"), "timer");
}

#[test]
fn a_caller_who_knows_timers_refreshes_unless_it_asks_us_to() {
    for (asked, granted) in [
        ("1800", "600;refresher=uac"),
        ("1800;refresher=uas", "600;refresher=uas"),
        ("120;refresher=uac", "120;refresher=uac"),
    ] {
        let asks = format!("{TIMER}Session-Expires: {asked}\r\n");
        let stands = Stands::new(bench(SUPPORTED, 600), &asks, "");
        assert_eq!(header(&stands.ok, "Session-Expires"), granted);
        assert_eq!(header(&stands.ok, "Require"), "timer");
        assert_eq!(header(&stands.invite, "Session-Expires"), "600", "each leg has its own");
        assert_eq!(header(&stands.invite, "Supported"), "timer");
    }
    // Her Min-SE is kept to, her wish alone is enough, and so is a Require.
    let asks = format!("{TIMER}Session-Expires: 1800\r\nMin-SE: 900\r\n");
    let stands = Stands::new(bench(SUPPORTED, 600), &asks, "");
    assert_eq!(header(&stands.ok, "Session-Expires"), "900;refresher=uac");
    let stands = Stands::new(bench(SUPPORTED, 600), "Require: timer\r\n", "");
    assert_eq!(header(&stands.ok, "Session-Expires"), "600;refresher=uac");
}

#[test]
fn a_caller_who_knows_no_timers_is_refreshed_by_us_when_that_is_wanted() {
    let stands = Stands::new(bench(SUPPORTED, 600), "", "");
    assert!(!has(&stands.ok, "Session-Expires"), "{}", stands.ok);
    let stands = Stands::new(bench(ALWAYS, 600), "", "");
    assert_eq!(header(&stands.ok, "Session-Expires"), "600;refresher=uas");
    assert!(!has(&stands.ok, "Require"), "she could not do what it asks for");
    // A proxy of hers asks, and she would not understand a 422.
    let stands = Stands::new(bench(SUPPORTED, 600), "Session-Expires: 60\r\n", "");
    assert_eq!(header(&stands.ok, "Session-Expires"), "90;refresher=uas");
}

#[test]
fn an_interval_below_90_s_is_refused_before_there_is_a_call() {
    let mut bench = bench(SUPPORTED, 600);
    bench.say(ANN, &invite(&format!("{TIMER}Session-Expires: 89\r\n")));
    let refusal = bench.only(ANN, "SIP/2.0 422 Session Interval Too Small");
    assert_eq!(header(&refusal, "Min-SE"), "90");
    bench.say(ANN, &invite("Session-Expires: soon\r\n").replace("z9hG4bKa1", "z9hG4bKa2"));
    bench.only(ANN, "SIP/2.0 400");
    bench.pass(Duration::from_secs(60));
    assert!(bench.cdrs.is_empty());
    bench.heard(ANN);
    let asks = format!("{TIMER}Session-Expires: 600\r\n");
    let mut stands = Stands::new(bench, &asks.replace("600", "90"), "");
    let update = with(&stands.ann("UPDATE", 2, ""), &asks.replace("600", "20"));
    stands.bench.say(ANN, &update);
    stands.bench.only(ANN, "SIP/2.0 422");
}

#[test]
fn a_callee_who_wants_a_longer_interval_is_asked_once_more() {
    let mut bench = bench(SUPPORTED, 600);
    bench.register("1002", BEN);
    bench.say(ANN, &invite(""));
    bench.heard(ANN);
    let first = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&first, "180 Ringing", "ringing", BEN, ""));
    bench.heard(ANN);
    let small = with(&answer(&first, "422 Too Small", "x", "", ""), "Min-SE: 1200\r\n");
    bench.say(BEN, &small);
    let mut heard = bench.heard(BEN);
    let second = heard.pop().expect("the second INVITE");
    assert!(heard.len() == 1 && heard[0].starts_with("ACK"), "{heard:?}");
    assert_eq!(header(&second, "Session-Expires"), "1200");
    assert_eq!(header(&second, "Min-SE"), "1200");
    assert_eq!(number_of(&second), number_of(&first) + 1);
    for name in ["Call-ID", "From", "To", "Contact", "X-Case", "Content-Type"] {
        assert_eq!(header(&second, name), header(&first, name), "{name}");
    }
    assert_eq!(second.split("\r\n\r\n").nth(1), first.split("\r\n\r\n").nth(1));
    assert!(bench.heard(ANN).is_empty());
    let small = with(&answer(&second, "422 Too Small", "x", "", ""), "Min-SE: 2400\r\n");
    bench.say(BEN, &small);
    bench.only(BEN, "ACK");
    bench.only(ANN, "SIP/2.0 500");
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1", "", ""));
    bench.assert_quiet();
}

#[test]
fn an_answer_cannot_make_the_interval_longer_than_it_was_asked_for() {
    let grants = format!("{UPDATES}Session-Expires: 4294967295;refresher=uac\r\n");
    let mut stands = Stands::new(bench(SUPPORTED, 600), "", &grants);
    stands.bench.pass(Duration::from_millis(299_900));
    assert!(stands.bench.heard(BEN).is_empty());
    stands.bench.pass(Duration::from_millis(200));
    let update = stands.bench.only(BEN, "UPDATE");
    assert_eq!(header(&update, "Session-Expires"), "600;refresher=uac");
}

#[test]
fn we_refresh_by_update_at_half_the_interval_and_keep_the_callee() {
    let grants = format!("{UPDATES}Session-Expires: 300;refresher=uac\r\nRequire: timer\r\n");
    let mut stands = Stands::new(bench(SUPPORTED, 600), "", &grants);
    for turn in 1..=4 {
        stands.bench.pass(Duration::from_millis(149_900));
        assert!(stands.bench.heard(BEN).is_empty(), "turn {turn}");
        stands.bench.pass(Duration::from_millis(200));
        let update = stands.bench.only(BEN, "UPDATE");
        assert_eq!(header(&update, "Session-Expires"), "300;refresher=uac");
        assert_eq!(header(&update, "Supported"), "timer");
        assert!(update.ends_with("Content-Length: 0\r\n\r\n"), "{update}");
        let ok = answer(&update, "200 OK", "", BEN, "");
        stands.bench.say(BEN, &with(&ok, "Session-Expires: 300;refresher=uac\r\n"));
    }
    assert!(stands.bench.heard(ANN).is_empty() && stands.bench.cdrs.is_empty());
    stands.bench.say(ANN, &stands.ann("BYE", 2, ""));
    let bye = stands.bench.only(BEN, "BYE");
    stands.bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    stands.bench.assert_quiet();
}

#[test]
fn a_callee_without_update_is_refreshed_by_a_re_invite_that_changes_nothing() {
    let grants = "Session-Expires: 90;refresher=uac\r\n";
    let mut stands = Stands::new(bench(SUPPORTED, 600), "", grants);
    for _ in 0..3 {
        stands.pass(45);
        let again = stands.bench.only(BEN, "INVITE");
        assert_eq!(
            again.split("\r\n\r\n").nth(1),
            stands.invite.split("\r\n\r\n").nth(1),
            "the same session version"
        );
        let ok = answer(&again, "200 OK", "", BEN, &ben_says());
        stands.bench.say(BEN, &with(&ok, grants));
        let ack = stands.bench.only(BEN, "ACK");
        assert_eq!(number_of(&ack), number_of(&again));
    }
    assert!(stands.bench.heard(ANN).is_empty() && stands.bench.cdrs.is_empty());
}

#[test]
fn a_callee_that_refuses_update_after_all_gets_a_re_invite() {
    let grants = format!("{UPDATES}Session-Expires: 300;refresher=uac\r\n");
    let mut stands = Stands::new(bench(SUPPORTED, 600), "", &grants);
    stands.pass(150);
    let update = stands.bench.only(BEN, "UPDATE");
    stands.bench.say(BEN, &answer(&update, "501 Not Implemented", "", "", ""));
    stands.pass(5);
    assert!(stands.bench.heard(BEN)[0].starts_with("INVITE"));
}

#[test]
fn the_peers_own_refresh_is_answered_here() {
    let asks = format!("{TIMER}Session-Expires: 90;refresher=uac\r\n");
    let mut stands = Stands::new(bench(SUPPORTED, 600), &asks, "");
    for turn in 0..4 {
        stands.pass(45);
        let body = if turn % 2 == 0 { String::new() } else { ann_says() };
        let update = with(&stands.ann("UPDATE", 10 + turn, &body), &asks);
        stands.bench.say(ANN, &update);
        let ok = stands.bench.only(ANN, "SIP/2.0 200");
        assert_eq!(header(&ok, "Session-Expires"), "90;refresher=uac");
        assert_eq!(ok.contains("m=audio"), !body.is_empty(), "{ok}");
    }
    stands.pass(45);
    let again = with(&stands.ann("INVITE", 20, &ann_says()), &asks);
    stands.bench.say(ANN, &again);
    let ok = stands.bench.only(ANN, "SIP/2.0 200");
    let body = |text: &str| text.split("\r\n\r\n").nth(1).expect("a body").to_owned();
    assert_eq!(body(&ok), body(&stands.ok), "what she was told before");
    stands.bench.say(ANN, &stands.ann("ACK", 20, ""));
    assert!(stands.bench.heard(BEN).is_empty(), "Ben hears nothing of all that");
    stands.pass(59);
    assert!(stands.bench.cdrs.is_empty());
    stands.pass(2);
    assert_eq!(stands.end().0, HangupReason::BySystem);
}

/// Both legs are refreshed by a change that crosses them, each with its own interval.
#[test]
fn a_change_is_relayed_and_refreshes_both_legs() {
    let asks = format!("{TIMER}Session-Expires: 300;refresher=uac\r\n");
    let grants = "Session-Expires: 90;refresher=uac\r\n";
    let mut stands = Stands::new(bench(SUPPORTED, 600), &asks, grants);
    stands.pass(40);
    let moved = ann_says().replace("4000", "4004");
    stands.bench.say(ANN, &with(&stands.ann("INVITE", 2, &moved), &asks));
    stands.bench.only(ANN, "SIP/2.0 100");
    let passed = stands.bench.only(BEN, "INVITE");
    assert_eq!(header(&passed, "Session-Expires"), "90;refresher=uac");
    let ok = answer(&passed, "422 Too Small", "", "", "");
    stands.bench.say(BEN, &with(&ok, "Min-SE: 120\r\n"));
    let passed = stands.bench.heard(BEN).pop().expect("once more");
    assert_eq!(header(&passed, "Session-Expires"), "120;refresher=uac");
    assert_eq!(header(&passed, "Min-SE"), "120");
    let ok = answer(&passed, "200 OK", "", BEN, &ben_says());
    stands.bench.say(BEN, &with(&ok, "Session-Expires: 120;refresher=uac\r\n"));
    stands.bench.only(BEN, "ACK");
    let ok = stands.bench.only(ANN, "SIP/2.0 200");
    assert_eq!(header(&ok, "Session-Expires"), "300;refresher=uac");
    stands.bench.say(ANN, &stands.ann("ACK", 2, ""));
    stands.pass(59);
    assert!(stands.bench.heard(BEN).is_empty(), "half of 120 s from then");
    stands.pass(1);
    assert!(stands.bench.heard(BEN)[0].starts_with("INVITE"));
}

/// RFC 4028 10: 32 s before the end, or a third of the interval when that is less.
#[test]
fn a_peer_that_stops_refreshing_ends_the_call() {
    for (interval, ends) in [(90_u64, 60_000), (300, 268_000)] {
        let asks = format!("{TIMER}Session-Expires: {interval};refresher=uac\r\n");
        let mut stands = Stands::new(bench(SUPPORTED, 600), &asks, "");
        stands.pass(interval);
        assert!(stands.bench.heard(ANN)[0].starts_with("BYE"));
        assert!(stands.bench.heard(BEN)[0].starts_with("BYE"));
        let (reason, lasted) = stands.end();
        assert_eq!(reason, HangupReason::BySystem);
        assert!((ends..ends + 100).contains(&lasted), "{lasted} ms of {interval} s");
        let said = &stands.bench.cdrs[0].hangup_messages;
        assert_eq!((said[0].code, said[0].reason.as_str()), (408, "Session Not Refreshed"));
        stands.bench.assert_quiet();
    }
}

#[test]
fn a_refresh_that_finds_nobody_ends_the_call() {
    let grants = format!("{UPDATES}Session-Expires: 90;refresher=uac\r\n");
    for (status, byes, ends) in [("481 Gone", 0, 45), ("408 Timeout", 1, 45), ("", 1, 77)] {
        let mut stands = Stands::new(bench(SUPPORTED, 600), "", &grants);
        stands.pass(45);
        let update = stands.bench.only(BEN, "UPDATE");
        if !status.is_empty() {
            stands.bench.say(BEN, &answer(&update, status, "", "", ""));
        }
        stands.pass(33);
        let heard = stands.bench.heard(BEN);
        let to_ben = heard.iter().any(|text| text.starts_with("BYE"));
        assert_eq!(usize::from(to_ben), byes, "{status}: {heard:?}");
        assert!(stands.bench.heard(ANN)[0].starts_with("BYE"));
        let (reason, lasted) = stands.end();
        assert_eq!((reason, lasted / 1_000), (HangupReason::BySystem, ends), "{status}");
        stands.bench.assert_quiet();
    }
}

/// A refusal says that the peer is there; the one that keeps no time is content with that.
#[test]
fn a_refused_refresh_is_tried_again_until_the_time_is_over() {
    let grants = format!("{UPDATES}Session-Expires: 90;refresher=uac\r\n");
    let mut stands = Stands::new(bench(SUPPORTED, 600), "", &grants);
    let mut tries = 0;
    for _ in 0..1_000 {
        for update in stands.bench.heard(BEN).iter().filter(|text| text.starts_with("UPDATE")) {
            tries += 1;
            stands.bench.say(BEN, &answer(update, "403 No", "", "", ""));
        }
        stands.bench.pass(Duration::from_millis(100));
    }
    assert!((5..=12).contains(&tries), "{tries}");
    assert_eq!(stands.end().1 / 1_000, 90);

    let mut stands = Stands::new(bench(ALWAYS, 90), "", UPDATES);
    let mut tries = 0;
    for _ in 0..2_000 {
        for peer in [ANN, BEN] {
            let heard = stands.bench.heard(peer);
            for request in heard.iter().filter(|text| !text.starts_with("ACK")) {
                tries += 1;
                stands.bench.say(peer, &answer(request, "488 No", "", "", ""));
            }
        }
        stands.bench.pass(Duration::from_millis(100));
    }
    assert!((8..=10).contains(&tries), "every 45 s to each: {tries}");
    assert!(stands.bench.cdrs.is_empty());
}

/// RFC 3261 14.1, 14.2: our re-INVITE and theirs.
#[test]
fn a_refresh_and_a_re_invite_that_cross_meet_491() {
    let grants = "Session-Expires: 90;refresher=uac\r\n";
    let mut stands = Stands::new(bench(SUPPORTED, 600), "", grants);
    stands.pass(45);
    let ours = stands.bench.only(BEN, "INVITE");
    let moved = ben_says().replace("5000", "5004");
    stands.bench.say(BEN, &stands.ben("INVITE", 7, &moved));
    stands.bench.only(BEN, "SIP/2.0 491");
    stands.bench.say(BEN, &stands.ben("ACK", 7, "").replace("b7ACK", "b7INVITE"));
    stands.bench.say(ANN, &stands.ann("INVITE", 2, &ann_says().replace("4000", "4004")));
    stands.bench.only(ANN, "SIP/2.0 491");
    stands.bench.say(ANN, &stands.ann("ACK", 2, "").replace("a2ACK", "a2INVITE"));
    stands.bench.say(BEN, &answer(&ours, "491 Request Pending", "", "", ""));
    stands.bench.only(BEN, "ACK");
    // Nothing is out any more: his change passes, and it is a refresh.
    stands.bench.say(BEN, &with(&stands.ben("INVITE", 8, &moved), TIMER));
    stands.bench.only(BEN, "SIP/2.0 100");
    let passed = stands.bench.only(ANN, "INVITE");
    stands.bench.say(ANN, &answer(&passed, "200 OK", "", ANN, &ann_says()));
    stands.bench.only(ANN, "ACK");
    let ok = stands.bench.only(BEN, "SIP/2.0 200");
    assert_eq!(header(&ok, "Session-Expires"), "600;refresher=uas", "we go on refreshing");
    stands.bench.say(BEN, &stands.ben("ACK", 8, ""));
    stands.pass(290);
    assert!(stands.bench.heard(BEN).is_empty() && stands.bench.cdrs.is_empty());
    stands.pass(11);
    assert!(stands.bench.heard(BEN)[0].starts_with("INVITE"));
}
