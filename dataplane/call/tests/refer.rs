//! A REFER outside a dialog: a user who wants to be called and joined with somebody (scenario A).
//! Owns:  who may send one, and what its sender hears.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use world::{ANN, BEN, Bench, answer, header, sdp, settings};

/// A web page of Ann's that speaks SIP.
const PAGE: &str = "10.0.0.31:5060";

fn refer(user: &str, cseq: u32, lines: &str) -> String {
    format!(
        "REFER sip:pbx.test SIP/2.0\r\nVia: SIP/2.0/UDP {PAGE};branch=z9hG4bKpage{cseq};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@pbx.test>;tag=page\r\nTo: <sip:{user}@pbx.test>\r\n\
         Call-ID: page\r\nCSeq: {cseq} REFER\r\nContact: <sip:{user}@{PAGE}>\r\n{lines}\
         Content-Length: 0\r\n\r\n"
    )
}

/// Sends it with the right digest; what came back last.
fn authenticated(bench: &mut Bench, user: &str, lines: &str) -> Vec<String> {
    bench.say(PAGE, &refer(user, 1, lines));
    let challenge = bench.only(PAGE, "SIP/2.0 407");
    let line = header(&challenge, "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let secret = format!("secret-{user}");
    let uri = "sip:pbx.test";
    let credentials = sip::auth::answer(&parsed, user, &secret, "REFER", uri, 1, "abc");
    bench.say(PAGE, &refer(user, 2, &format!("Proxy-Authorization: {credentials}\r\n{lines}")));
    bench.heard(PAGE)
}

fn bench() -> Bench {
    let mut bench = Bench::new(settings());
    bench.register("1001", ANN);
    bench.register("1002", BEN);
    bench
}

fn fragment(bench: &mut Bench, notify: &str) -> String {
    assert!(notify.starts_with(&format!("NOTIFY sip:1001@{PAGE}")), "{notify}");
    assert_eq!(header(notify, "Event"), "refer");
    assert!(header(notify, "To").ends_with(";tag=page"), "{notify}");
    bench.say(PAGE, &answer(notify, "200 OK", "", "", ""));
    notify.split("\r\n\r\n").nth(1).expect("a body").trim().to_owned()
}

#[test]
fn a_user_is_called_and_joined_with_whom_the_refer_names() {
    let mut bench = bench();
    let heard = authenticated(&mut bench, "1001", "Refer-To: <sip:1002@pbx.test>\r\n");
    assert!(heard[0].starts_with("SIP/2.0 202"), "{heard:#?}");
    assert!(header(&heard[0], "Contact").contains("10.0.0.1:5060"), "{}", heard[0]);
    assert_eq!(fragment(&mut bench, &heard[1]), "SIP/2.0 100 Trying");
    let ann = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&ann, "200 OK", "ann", ANN, &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "ACK");
    let ben = bench.only(BEN, "INVITE");
    assert!(header(&ben, "From").starts_with("<sip:1001@pbx.test>"), "{ben}");
    bench.say(BEN, &answer(&ben, "180 Ringing", "ben", BEN, ""));
    let notify = bench.only(PAGE, "NOTIFY");
    assert_eq!(fragment(&mut bench, &notify), "SIP/2.0 180 Ringing");
    bench.say(BEN, &answer(&ben, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    let notify = bench.only(PAGE, "NOTIFY");
    assert!(header(&notify, "Subscription-State").starts_with("terminated"));
    assert_eq!(fragment(&mut bench, &notify), "SIP/2.0 200 OK");
}

#[test]
fn a_call_that_fails_is_told_as_it_failed() {
    let mut bench = bench();
    let heard = authenticated(&mut bench, "1001", "Refer-To: <sip:1002@pbx.test>\r\n");
    fragment(&mut bench, &heard[1]);
    let ann = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&ann, "486 Busy Here", "ann", "", ""));
    bench.only(ANN, "ACK");
    let notify = bench.only(PAGE, "NOTIFY");
    assert_eq!(fragment(&mut bench, &notify), "SIP/2.0 486 Busy Here");
    assert_eq!(bench.cdrs.pop().expect("a CDR").status_code, 486);
    bench.assert_quiet();
}

/// Attack case 29 of the peers' list: outside a dialog a REFER needs its sender's password.
#[test]
fn nobody_refers_without_credentials_or_somebody_else() {
    let mut bench = bench();
    bench.say(PAGE, &refer("1001", 1, "Refer-To: <sip:1002@pbx.test>\r\n"));
    bench.only(PAGE, "SIP/2.0 407");
    let wrong = "Proxy-Authorization: Digest username=\"1001\", realm=\"pbx.test\", nonce=\"x\", \
                 uri=\"sip:pbx.test\", response=\"00000000000000000000000000000000\"\r\n\
                 Refer-To: <sip:1002@pbx.test>\r\n";
    bench.say(PAGE, &refer("1001", 3, wrong));
    bench.only(PAGE, "SIP/2.0 403");
    // Ben's password does not make one Ann.
    bench.say(PAGE, &refer("1002", 4, "Refer-To: <sip:1002@pbx.test>\r\n"));
    let challenge = bench.only(PAGE, "SIP/2.0 407");
    let line = header(&challenge, "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let credentials =
        sip::auth::answer(&parsed, "1002", "secret-1002", "REFER", "sip:pbx.test", 1, "abc");
    let lines = format!("Proxy-Authorization: {credentials}\r\nRefer-To: <sip:1003@pbx.test>\r\n");
    bench.say(PAGE, &refer("1001", 5, &lines));
    bench.only(PAGE, "SIP/2.0 403");
    assert!(bench.heard(ANN).is_empty() && bench.heard(BEN).is_empty());
}

#[test]
fn what_cannot_be_called_is_answered_at_once() {
    for (user, target, status) in [
        ("1001", "<sip:7777@pbx.test>", 404),
        ("1003", "<sip:1002@pbx.test>", 480),
        ("1001", "<sip:1002@pbx.test;method=SUBSCRIBE>", 501),
        ("1001", "<sips:1002@pbx.test>", 416),
    ] {
        let mut bench = bench();
        let heard = authenticated(&mut bench, user, &format!("Refer-To: {target}\r\n"));
        assert!(heard[0].starts_with(&format!("SIP/2.0 {status}")), "{target}: {heard:#?}");
        assert!(bench.cdrs.is_empty() && bench.heard(ANN).is_empty());
        bench.assert_quiet();
    }
}
