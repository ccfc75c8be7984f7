//! Carriers that ask for credentials (RFC 3261 22, RFC 7616): what goes out again, and to whom never.
//! Owns:  401 and 407 to every request that we send to a trunk.
//! Gives: one test per rule; the carrier is the text of the tests, its arithmetic `sip::auth::verify`.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use std::sync::Arc;
use std::time::Duration;

use shared::account::Account;
use shared::event::Event;
use shared::metrics::Counter;
use shared::net::Transport;
use shared::snapshot::{HealthChecks, Secret, Snapshot, Trunk};
use sip::auth::{Credentials, verify};
use world::{
    ANN, BEN, Bench, CARRIER, answer, from_ann, from_called, header, sdp, settings, snapshot, tag,
};

const TARGET: &str = "sip:0123456@carrier.test";
const REALM: &str = "carrier.example";
const PASSWORD: &str = "correct horse";

fn account() -> Account {
    let account = Account::new("4930", PASSWORD).expect("both are plain");
    Account { auth_username: "auth-4930".into(), realm: Some(REALM.into()), ..account }
}

fn bench_with(account: Account) -> Bench {
    let carrier = CARRIER.parse().expect("an address");
    let trunk = Trunk {
        account: Some(Arc::new(account)),
        ..Trunk::plain("carrier", "carrier.test", carrier, Transport::Udp)
    };
    Bench::with(settings(), Snapshot { trunks: Arc::new(vec![trunk]), ..snapshot() })
}

fn bench() -> Bench {
    bench_with(account())
}

/// A 401 or 407 with one challenge for each algorithm.
fn challenge(request: &str, status: &str, nonce: &str, algorithms: &[&str], rest: &str) -> String {
    challenge_of(request, status, REALM, nonce, algorithms, rest)
}

fn challenge_of(
    request: &str,
    status: &str,
    realm: &str,
    nonce: &str,
    algorithms: &[&str],
    rest: &str,
) -> String {
    let name = if status.starts_with("401") { "WWW" } else { "Proxy" };
    let lines: String = algorithms
        .iter()
        .map(|algorithm| {
            format!(
                "{name}-Authenticate: Digest realm=\"{realm}\", nonce=\"{nonce}\", \
                 algorithm={algorithm}, qop=\"auth\"{rest}\r\n"
            )
        })
        .collect();
    let text = answer(request, status, "challenger", "", "");
    text.replace("Content-Length", &format!("{lines}Content-Length"))
}

/// The credentials of a request under this name, if they are right: algorithm, count, nonce.
fn right(request: &str, name: &str) -> (String, u32, String) {
    let value = header(request, name);
    let credentials = Credentials::parse(value.as_bytes()).expect("credentials");
    let method = request.split(' ').next().expect("a method");
    let uri = request.split(' ').nth(1).expect("a URI");
    assert_eq!(credentials.uri, uri.as_bytes(), "the digest is over another URI: {request}");
    assert_eq!(credentials.username_text().as_deref(), Some("auth-4930"));
    let secret = Secret::Plain(PASSWORD.into());
    assert!(verify(&credentials, method.as_bytes(), REALM, &secret), "wrong: {request}");
    assert!(!credentials.cnonce.is_empty(), "no cnonce: {request}");
    let nonce = String::from_utf8_lossy(credentials.nonce).into_owned();
    (credentials.algorithm.as_str().to_owned(), credentials.nc.expect("a count"), nonce)
}

/// Ann calls out; the INVITE that the carrier got.
fn dial(bench: &mut Bench) -> String {
    bench.say(ANN, &from_ann("INVITE", TARGET, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "SIP/2.0 100");
    bench.only(CARRIER, "INVITE")
}

/// The carrier asks, and gets the INVITE with credentials.
fn dial_with_credentials(bench: &mut Bench) -> String {
    let first = dial(bench);
    bench.say(CARRIER, &challenge(&first, "407 Prove It", "n1", &["MD5"], ""));
    let heard = bench.heard(CARRIER);
    assert_eq!(heard.len(), 2, "an ACK and an INVITE: {heard:#?}");
    assert!(heard[0].starts_with("ACK") && heard[1].starts_with("INVITE"), "{heard:#?}");
    heard.into_iter().nth(1).expect("two")
}

/// A standing call: the INVITE that was answered, and our tag towards Ann.
fn stand(bench: &mut Bench) -> (String, String) {
    let invite = dial_with_credentials(bench);
    bench.say(CARRIER, &answer(&invite, "200 OK", "car", CARRIER, &sdp("10.0.0.99", 5000)));
    let ack = bench.only(CARRIER, "ACK");
    // RFC 3261 22.1: the ACK carries the credentials of its INVITE.
    assert_eq!(header(&ack, "Proxy-Authorization"), header(&invite, "Proxy-Authorization"));
    let ok = bench.only(ANN, "SIP/2.0 200");
    let ours = tag(&header(&ok, "To"));
    bench.say(ANN, &from_ann("ACK", TARGET, 1, "a1ack", &ours, ""));
    (invite, ours)
}

fn hang_up(bench: &mut Bench, ours: &str, cseq: u32) {
    bench.say(ANN, &from_ann("BYE", TARGET, cseq, "bye", ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(CARRIER, "BYE");
    bench.say(CARRIER, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
}

fn number(request: &str) -> u32 {
    let cseq = header(request, "CSeq");
    cseq.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

fn notices(bench: &Bench, code: &str) -> usize {
    let is_it = |event: &&Event| matches!(event, Event::Notice(notice) if notice.code == code);
    bench.events.iter().filter(is_it).count()
}

/// RFC 3261 22.2: the same Call-ID, tags and body, the next CSeq, a new branch.
#[test]
fn a_challenged_invite_goes_out_again_in_the_same_dialog_with_credentials() {
    let mut bench = bench();
    let first = dial(&mut bench);
    bench.say(CARRIER, &challenge(&first, "407 Prove It", "n1", &["MD5"], ", opaque=\"o\""));
    let heard = bench.heard(CARRIER);
    let (ack, second) = (&heard[0], &heard[1]);
    assert!(ack.starts_with("ACK") && ack.contains("branch="), "{ack}");
    assert_eq!(header(ack, "Via"), header(&first, "Via"));
    for name in ["From", "To", "Call-ID", "Contact", "X-Case", "Max-Forwards"] {
        assert_eq!(header(second, name), header(&first, name), "{name}");
    }
    assert_ne!(header(second, "Via"), header(&first, "Via"), "a transaction of its own");
    assert_eq!((number(&first), number(second)), (1, 2));
    assert_eq!(second.split("\r\n\r\n").nth(1), first.split("\r\n\r\n").nth(1), "one offer");
    let found = right(second, "Proxy-Authorization");
    assert_eq!(found, ("MD5".to_owned(), 1, "n1".to_owned()));
    assert!(second.contains("opaque=\"o\""), "{second}");
    assert!(bench.heard(ANN).is_empty(), "the caller has no business with it");
    assert_eq!(bench.core.counters().of(Counter::TrunkChallenges), 1);

    bench.say(CARRIER, &answer(second, "200 OK", "car", CARRIER, &sdp("10.0.0.99", 5000)));
    bench.only(CARRIER, "ACK");
    let ok = bench.only(ANN, "SIP/2.0 200");
    let ours = tag(&header(&ok, "To"));
    bench.say(ANN, &from_ann("ACK", TARGET, 1, "a1ack", &ours, ""));
    hang_up(&mut bench, &ours, 2);
    assert_eq!(bench.cdrs[0].status_code, 200);
    assert!(bench.cdrs[0].hangup_messages.is_empty(), "a challenge is no failure");
}

/// A repeated 407 means that our ACK was lost: the ACK again, and nothing more.
#[test]
fn a_repeated_challenge_gets_its_ack_again_and_no_other_invite() {
    let mut bench = bench();
    let first = dial(&mut bench);
    let asked = challenge(&first, "407 Prove It", "n1", &["MD5"], "");
    bench.say(CARRIER, &asked);
    assert_eq!(bench.heard(CARRIER).len(), 2);
    bench.say(CARRIER, &asked);
    bench.only(CARRIER, "ACK");
    bench.say(ANN, &from_ann("CANCEL", TARGET, 1, "a1", "", ""));
    let heard = bench.heard(ANN);
    let ours = tag(&header(heard.last().expect("a 487"), "To"));
    bench.say(ANN, &from_ann("ACK", TARGET, 1, "a1", &ours, ""));
    bench.assert_quiet();
}

/// RFC 8760: of several algorithms the strongest.
#[test]
fn the_strongest_algorithm_that_is_offered_answers() {
    for (offered, taken) in [
        (&["MD5", "SHA-256", "SHA-512-256"][..], "SHA-512-256"),
        (&["SHA-256", "MD5"], "SHA-256"),
        (&["MD5", "AKAv1-MD5"], "MD5"),
    ] {
        let mut bench = bench();
        let first = dial(&mut bench);
        bench.say(CARRIER, &challenge(&first, "401 Who", "n1", offered, ""));
        let second = bench.heard(CARRIER).pop().expect("an INVITE");
        assert_eq!(right(&second, "Authorization").0, taken);
        bench.say(CARRIER, &answer(&second, "486 Busy Here", "car", "", ""));
        let heard = bench.heard(ANN);
        let ours = tag(&header(heard.last().expect("a 486"), "To"));
        bench.say(ANN, &from_ann("ACK", TARGET, 1, "a1", &ours, ""));
        bench.assert_quiet();
    }
}

/// Ann hears `status`; the record keeps what the carrier said.
fn refused(bench: &mut Bench, status: u16, real: u16) {
    let last = bench.only(ANN, &format!("SIP/2.0 {status}"));
    assert!(!last.contains("Authenticate"), "a challenge is not passed on: {last}");
    let ours = tag(&header(&last, "To"));
    bench.say(ANN, &from_ann("ACK", TARGET, 1, "a1", &ours, ""));
    assert_eq!(bench.cdrs[0].status_code, status);
    assert_eq!(bench.cdrs[0].last_error.as_ref().map(|error| error.code), Some(real));
    bench.assert_quiet();
}

#[test]
fn a_second_refusal_is_the_trunks_failure_and_not_the_callers() {
    let mut bench = bench();
    let second = dial_with_credentials(&mut bench);
    bench.say(CARRIER, &challenge(&second, "407 Prove It", "n2", &["MD5"], ""));
    bench.only(CARRIER, "ACK");
    assert_eq!(bench.core.counters().of(Counter::TrunkCredentialsRefused), 1);
    assert_eq!(notices(&bench, "trunk_credentials"), 1);
    let shown = format!("{:?}", bench.events);
    assert!(!shown.contains(PASSWORD), "a notice names no secret");
    refused(&mut bench, 500, 407);
}

/// RFC 7616 3.3: stale says that only the nonce was wrong; that is believed once.
/// RFC 3262 3: a PRACK is a request like any other, and a trunk may ask who sends it.
#[test]
fn a_challenged_prack_goes_out_again_with_credentials() {
    let mut bench = bench();
    let invite = dial_with_credentials(&mut bench);
    let reliably = |status: &str, body: &str| {
        let text = answer(&invite, status, "car", CARRIER, body);
        text.replace("Content-Length", "Require: 100rel\r\nRSeq: 1\r\nContent-Length")
    };
    bench.say(CARRIER, &reliably("183 Session Progress", &sdp("10.0.0.99", 5000)));
    let prack = bench.only(CARRIER, "PRACK");
    bench.say(CARRIER, &challenge(&prack, "407 Prove It", "n2", &["MD5"], ""));
    let again = bench.only(CARRIER, "PRACK");
    assert_eq!(number(&again), number(&prack) + 1);
    assert_eq!(header(&again, "RAck"), format!("1 {} INVITE", number(&invite)));
    assert_eq!(right(&again, "Proxy-Authorization").2, "n2");
    bench.say(CARRIER, &answer(&again, "200 OK", "", "", ""));
    bench.only(ANN, "SIP/2.0 183");
    bench.say(CARRIER, &answer(&invite, "200 OK", "car", CARRIER, &sdp("10.0.0.99", 5000)));
    bench.only(CARRIER, "ACK");
    let ours = tag(&header(&bench.only(ANN, "SIP/2.0 200"), "To"));
    bench.say(ANN, &from_ann("ACK", TARGET, 1, "a1ack", &ours, ""));
    bench.say(ANN, &from_ann("BYE", TARGET, 2, "bye", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(CARRIER, "BYE");
    assert!(number(&bye) > number(&again), "behind every PRACK: {bye}");
    bench.say(CARRIER, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
}

/// The numbers of an early dialog end with it: the next INVITE's begin where its trunk likes.
#[test]
fn an_early_dialog_in_front_of_a_challenge_does_not_hide_the_next_one() {
    let mut bench = bench();
    let first = dial(&mut bench);
    let reliably = |invite: &str| {
        let body = sdp("10.0.0.99", 5000);
        let text = answer(invite, "183 Session Progress", "car", CARRIER, &body);
        text.replace("Content-Length", "Require: 100rel\r\nRSeq: 1\r\nContent-Length")
    };
    bench.say(CARRIER, &reliably(&first));
    let prack = bench.only(CARRIER, "PRACK");
    bench.say(CARRIER, &answer(&prack, "200 OK", "", "", ""));
    bench.say(CARRIER, &challenge(&first, "407 Prove It", "n1", &["MD5"], ""));
    let heard = bench.heard(CARRIER);
    let [ack, second] = heard.as_slice() else { panic!("{heard:#?}") };
    assert!(ack.starts_with("ACK") && second.starts_with("INVITE"), "{heard:#?}");
    bench.say(CARRIER, &reliably(second));
    let prack = bench.only(CARRIER, "PRACK");
    assert_eq!(header(&prack, "RAck"), format!("1 {} INVITE", number(second)));
    bench.say(CARRIER, &answer(&prack, "200 OK", "", "", ""));
    bench.heard(ANN);
    bench.say(CARRIER, &answer(second, "200 OK", "car", CARRIER, &sdp("10.0.0.99", 5000)));
    bench.only(CARRIER, "ACK");
    let ours = tag(&header(&bench.only(ANN, "SIP/2.0 200"), "To"));
    bench.say(ANN, &from_ann("ACK", TARGET, 1, "a1ack", &ours, ""));
    hang_up(&mut bench, &ours, 2);
}

#[test]
fn a_stale_nonce_is_replaced_once() {
    let mut bench = bench();
    let second = dial_with_credentials(&mut bench);
    bench.say(CARRIER, &challenge(&second, "407 Prove It", "n2", &["MD5"], ", stale=true"));
    let third = bench.heard(CARRIER).pop().expect("an INVITE");
    assert_eq!(right(&third, "Proxy-Authorization"), ("MD5".to_owned(), 1, "n2".to_owned()));
    assert_eq!(third.matches("Proxy-Authorization:").count(), 1, "the stale one is gone");
    assert_eq!(number(&third), 3);
    bench.say(CARRIER, &challenge(&third, "407 Prove It", "n3", &["MD5"], ", stale=true"));
    bench.only(CARRIER, "ACK");
    refused(&mut bench, 500, 407);
}

/// RFC 3261 22.3: a proxy and the server behind it, each with its own.
#[test]
fn a_proxy_and_the_server_behind_it_both_get_credentials() {
    let mut bench = bench();
    let second = dial_with_credentials(&mut bench);
    bench.say(CARRIER, &challenge(&second, "401 Who", "m1", &["SHA-256"], ""));
    let third = bench.heard(CARRIER).pop().expect("an INVITE");
    assert_eq!(right(&third, "Proxy-Authorization"), ("MD5".to_owned(), 1, "n1".to_owned()));
    assert_eq!(right(&third, "Authorization"), ("SHA-256".to_owned(), 1, "m1".to_owned()));
    // Whoever goes on asking is not served for ever.
    bench.say(CARRIER, &challenge(&third, "407 Prove It", "n2", &["MD5"], ""));
    bench.only(CARRIER, "ACK");
    refused(&mut bench, 500, 407);
}

#[test]
fn credentials_are_for_the_realm_that_they_were_given_out_for() {
    let mut bench = bench();
    let first = dial(&mut bench);
    let asked = challenge_of(&first, "407 Prove It", "evil.example", "n", &["MD5"], "");
    bench.say(CARRIER, &asked);
    bench.only(CARRIER, "ACK");
    assert_eq!(bench.core.counters().of(Counter::TrunkCredentialsRefused), 1);
    refused(&mut bench, 500, 407);
}

/// A phone of ours that asks for a password gets none, whatever the trunk's is.
#[test]
fn nobody_but_the_trunk_gets_credentials() {
    let mut bench = bench();
    bench.register("1002", BEN);
    let target = "sip:1002@pbx.test";
    bench.say(ANN, &from_ann("INVITE", target, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "SIP/2.0 100");
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &challenge(&invite, "407 Prove It", "n1", &["MD5"], ""));
    bench.only(BEN, "ACK");
    let last = bench.only(ANN, "SIP/2.0 403");
    let ours = tag(&header(&last, "To"));
    bench.say(ANN, &from_ann("ACK", target, 1, "a1", &ours, ""));
    bench.assert_quiet();
}

/// The trunk's Contact may lead to another host; what that asks for is not answered.
#[test]
fn a_host_that_is_not_the_trunks_gets_no_credentials() {
    const ELSEWHERE: &str = "10.0.0.66:5060";
    let mut bench = bench();
    let invite = dial_with_credentials(&mut bench);
    bench.say(CARRIER, &answer(&invite, "200 OK", "car", ELSEWHERE, &sdp("10.0.0.99", 5000)));
    bench.only(ELSEWHERE, "ACK");
    let ok = bench.only(ANN, "SIP/2.0 200");
    let ours = tag(&header(&ok, "To"));
    bench.say(ANN, &from_ann("ACK", TARGET, 1, "a1ack", &ours, ""));
    bench.say(ANN, &from_ann("BYE", TARGET, 2, "bye", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(ELSEWHERE, "BYE");
    bench.say(ELSEWHERE, &challenge(&bye, "401 Who", "n1", &["MD5"], ""));
    assert!(bench.heard(ELSEWHERE).is_empty());
    bench.assert_quiet();
}

/// RFC 3261 9.1: there is nothing to cancel before a provisional response, of the new INVITE.
#[test]
fn a_call_can_be_cancelled_between_the_challenge_and_the_answer() {
    let mut bench = bench();
    let first = dial(&mut bench);
    bench.say(CARRIER, &answer(&first, "100 Trying", "", "", ""));
    bench.say(CARRIER, &challenge(&first, "407 Prove It", "n1", &["MD5"], ""));
    let second = bench.heard(CARRIER).pop().expect("an INVITE");
    bench.say(ANN, &from_ann("CANCEL", TARGET, 1, "a1", "", ""));
    let heard = bench.heard(ANN);
    let ours = tag(&header(heard.last().expect("a 487"), "To"));
    bench.say(ANN, &from_ann("ACK", TARGET, 1, "a1", &ours, ""));
    assert!(bench.heard(CARRIER).is_empty(), "the CANCEL waits");
    bench.say(CARRIER, &answer(&second, "180 Ringing", "car", CARRIER, ""));
    let cancel = bench.only(CARRIER, "CANCEL");
    assert_eq!((number(&cancel), header(&cancel, "Via")), (2, header(&second, "Via")));
    bench.say(CARRIER, &answer(&cancel, "200 OK", "", "", ""));
    bench.say(CARRIER, &answer(&second, "487 Request Terminated", "car", "", ""));
    bench.only(CARRIER, "ACK");
    bench.assert_quiet();
}

/// The challenge crosses our CANCEL: nobody wants the call any more.
#[test]
fn a_challenge_to_a_cancelled_invite_is_not_answered() {
    let mut bench = bench();
    let first = dial(&mut bench);
    bench.say(CARRIER, &answer(&first, "100 Trying", "", "", ""));
    bench.say(ANN, &from_ann("CANCEL", TARGET, 1, "a1", "", ""));
    let heard = bench.heard(ANN);
    let ours = tag(&header(heard.last().expect("a 487"), "To"));
    bench.say(ANN, &from_ann("ACK", TARGET, 1, "a1", &ours, ""));
    bench.only(CARRIER, "CANCEL");
    bench.say(CARRIER, &challenge(&first, "407 Prove It", "n1", &["MD5"], ""));
    bench.only(CARRIER, "ACK");
    bench.assert_quiet();
}

/// The count of a nonce grows with every request that it serves (RFC 7616 3.4).
#[test]
fn requests_inside_the_dialog_are_asked_again_too_and_the_count_grows() {
    let mut bench = bench();
    let (_, ours) = stand(&mut bench);
    let mut numbers = vec![2];
    for (cseq, method) in [(2, "INFO"), (3, "UPDATE"), (4, "INVITE")] {
        let body = if method == "INFO" { String::new() } else { sdp("10.0.0.11", 4002) };
        bench.say(ANN, &from_ann(method, TARGET, cseq, &format!("d{cseq}"), &ours, &body));
        let first = bench.only(CARRIER, method);
        bench.say(CARRIER, &challenge(&first, "407 Prove It", "n1", &["MD5"], ""));
        let second = bench.heard(CARRIER).pop().expect("the request again");
        assert!(second.starts_with(method), "{second}");
        let (_, count, nonce) = right(&second, "Proxy-Authorization");
        assert_eq!((count, nonce.as_str()), (cseq, "n1"), "{method}");
        numbers.extend([number(&first), number(&second)]);
        let body = if method == "INFO" { String::new() } else { sdp("10.0.0.99", 5000) };
        bench.say(CARRIER, &answer(&second, "200 OK", "", CARRIER, &body));
        let heard = bench.heard(ANN);
        assert!(heard.last().is_some_and(|last| last.starts_with("SIP/2.0 200")), "{heard:#?}");
        if method == "INVITE" {
            let ack = bench.only(CARRIER, "ACK");
            assert_eq!(number(&ack), number(&second));
            bench.say(ANN, &from_ann("ACK", TARGET, cseq, "reack", &ours, ""));
        }
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    hang_up(&mut bench, &ours, 5);
}

/// The call is over, and so is all that is known of it; its BYE still needs credentials.
#[test]
fn a_challenged_bye_is_answered_when_the_call_is_gone() {
    let mut bench = bench();
    let (_, ours) = stand(&mut bench);
    bench.say(ANN, &from_ann("BYE", TARGET, 2, "bye", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let first = bench.only(CARRIER, "BYE");
    assert_eq!(bench.core.census().calls, 0);
    bench.say(CARRIER, &challenge(&first, "401 Who", "n9", &["SHA-256"], ""));
    let second = bench.only(CARRIER, "BYE");
    assert_eq!(number(&second), number(&first) + 1);
    assert_eq!(right(&second, "Authorization"), ("SHA-256".to_owned(), 1, "n9".to_owned()));
    bench.say(CARRIER, &answer(&second, "200 OK", "", "", ""));
    bench.assert_quiet();
}

/// What a refused re-INVITE leaves is the call as it was; the caller hears no challenge.
#[test]
fn a_refused_change_is_403_for_who_asked() {
    let mut bench = bench();
    let (_, ours) = stand(&mut bench);
    bench.say(ANN, &from_ann("INFO", TARGET, 2, "d2", &ours, ""));
    let first = bench.only(CARRIER, "INFO");
    bench.say(CARRIER, &challenge(&first, "407 Prove It", "n2", &["MD5"], ""));
    let second = bench.only(CARRIER, "INFO");
    bench.say(CARRIER, &challenge(&second, "407 Prove It", "n3", &["MD5"], ""));
    let told = bench.only(ANN, "SIP/2.0 403");
    assert!(!told.contains("Authenticate"), "{told}");
    hang_up(&mut bench, &ours, 3);
}

/// A call that came from the trunk: what we ask of it is challenged as well.
#[test]
fn a_trunk_that_called_us_gets_credentials_for_our_bye() {
    let mut bench = bench();
    bench.register("1002", BEN);
    let text = from_ann("INVITE", "sip:1002@pbx.test", 1, "c1", "", &sdp("10.0.0.99", 5000));
    bench.say(CARRIER, &text.replace(ANN, CARRIER));
    bench.only(CARRIER, "SIP/2.0 100");
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5002)));
    bench.only(BEN, "ACK");
    let ok = bench.only(CARRIER, "SIP/2.0 200");
    let ours = tag(&header(&ok, "To"));
    let ack = from_ann("ACK", "sip:1002@pbx.test", 1, "c2", &ours, "");
    bench.say(CARRIER, &ack.replace(ANN, CARRIER));
    bench.say(BEN, &from_called(BEN, "ben", "BYE", &invite, 1, "b1", ""));
    bench.only(BEN, "SIP/2.0 200");
    let first = bench.only(CARRIER, "BYE");
    bench.say(CARRIER, &challenge(&first, "401 Who", "n1", &["MD5"], ""));
    let second = bench.only(CARRIER, "BYE");
    right(&second, "Authorization");
    bench.say(CARRIER, &answer(&second, "200 OK", "", "", ""));
    bench.assert_quiet();
}

#[test]
fn a_challenged_options_is_answered_and_counts_as_one() {
    let carrier = CARRIER.parse().expect("an address");
    let trunk = Trunk {
        account: Some(Arc::new(account())),
        health: Some(HealthChecks::default()),
        ..Trunk::plain("carrier", "carrier.test", carrier, Transport::Udp)
    };
    let trunks = Arc::new(vec![trunk]);
    let mut bench = Bench::with(settings(), Snapshot { trunks, ..snapshot() });
    while bench.sent.is_empty() {
        bench.pass(Duration::from_millis(100));
    }
    let first = bench.only(CARRIER, "OPTIONS");
    bench.say(CARRIER, &challenge(&first, "401 Who", "n1", &["MD5"], ""));
    let second = bench.only(CARRIER, "OPTIONS");
    right(&second, "Authorization");
    assert_eq!(header(&second, "Call-ID"), header(&first, "Call-ID"));
    bench.say(CARRIER, &answer(&second, "200 OK", "car", "", ""));
    assert_eq!(bench.core.counters().of(Counter::TrunkPings), 1);
    assert_eq!(bench.core.counters().of(Counter::TrunkPingsFailed), 0);
}
