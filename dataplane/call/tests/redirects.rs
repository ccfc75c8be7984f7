//! 3xx of phones and trunks (RFC 3261 8.1.3.4, 16.5): followed where the configuration says so.
//! Owns:  whose 3xx is followed, whereto, and by whose right.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: what is not followed is passed on; the caller hears one final answer.

mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::cdr::LegEventType;
use shared::forwarding::Redirects;
use shared::metrics::Counter;
use shared::net::Transport;
use shared::snapshot::{Snapshot, Trunk};
use world::{ANN, BEN, Bench, CARRIER, answer, from_ann, header, sdp, settings, snapshot};

const CLEO: &str = "10.0.0.13:5060";
const OTHER: &str = "10.0.0.98:5060";

fn bench(redirects: Redirects) -> Bench {
    let mut snapshot = Snapshot { redirects, ..snapshot() };
    let other = OTHER.parse().expect("an address");
    let trunks = Arc::make_mut(&mut snapshot.trunks);
    trunks.push(Trunk::plain("other", "other.test", other, Transport::Udp));
    let mut bench = Bench::with(settings(), snapshot);
    bench.register("1002", BEN);
    bench.register("1003", CLEO);
    bench
}

/// Ann calls; what `peer` hears of it.
fn invited(bench: &mut Bench, uri: &str, peer: &str) -> String {
    bench.say(ANN, &from_ann("INVITE", uri, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "SIP/2.0 100");
    bench.only(peer, "INVITE")
}

fn moved(bench: &mut Bench, peer: &str, invite: &str, contacts: &str) {
    let moved = answer(invite, "302 Moved Temporarily", "t", "", "");
    let contacts = format!("Contact: {contacts}\r\nContent-Length");
    bench.say(peer, &moved.replacen("Content-Length", &contacts, 1));
    // The next INVITE may be for the same peer, and is for the test to find.
    let to = peer.parse().expect("an address");
    let is_ack = |(at, text): &(SocketAddr, String)| *at == to && text.starts_with("ACK");
    assert_eq!(bench.sent.iter().filter(|sent| is_ack(sent)).count(), 1);
    bench.sent.retain(|sent| !is_ack(sent));
}

fn answered(bench: &mut Bench, peer: &str, invite: &str) {
    bench.say(peer, &answer(invite, "200 OK", "t", peer, &sdp("10.0.0.13", 6000)));
    bench.only(peer, "ACK");
    bench.only(ANN, "SIP/2.0 200");
}

/// The final answer that Ann hears, and the record's count of steps.
fn ended(bench: &mut Bench) -> (String, usize) {
    let heard = bench.only(ANN, "SIP/2.0 ");
    bench.say(
        ANN,
        &from_ann("ACK", "sip:1002@pbx.test", 1, "a1", &world::tag(&header(&heard, "To")), ""),
    );
    bench.assert_quiet();
    let record = bench.cdrs.pop().expect("a record");
    assert!(bench.cdrs.is_empty(), "one record");
    let events = record.leg_timeline.events.iter();
    (heard, events.filter(|event| event.event_type == LegEventType::Forwarded).count())
}

#[test]
fn a_phone_deflects_to_a_user() {
    for redirects in [Redirects::OfUsers, Redirects::OfAll] {
        let mut bench = bench(redirects);
        let ben = invited(&mut bench, "sip:1002@pbx.test", BEN);
        moved(&mut bench, BEN, &ben, "<sip:1003@pbx.test>");
        let cleo = bench.only(CLEO, "INVITE");
        assert!(header(&cleo, "Diversion").contains("<sip:1002@pbx.test>;reason=deflection"));
        answered(&mut bench, CLEO, &cleo);
    }
}

/// The user may call out, so its phone may send a call there; the caller stays the caller.
#[test]
fn a_phone_deflects_to_a_trunk() {
    let mut bench = bench(Redirects::OfUsers);
    let ben = invited(&mut bench, "sip:1002@pbx.test", BEN);
    moved(&mut bench, BEN, &ben, "<sip:+4930@carrier.test>");
    let carrier = bench.only(CARRIER, "INVITE sip:+4930@carrier.test");
    assert!(header(&carrier, "From").contains("sip:1001@"), "{carrier}");
    answered(&mut bench, CARRIER, &carrier);
}

#[test]
fn the_contact_with_the_highest_q_is_followed() {
    let mut bench = bench(Redirects::OfUsers);
    let ben = invited(&mut bench, "sip:1002@pbx.test", BEN);
    let contacts = "<sip:nobody@pbx.test>;q=0.3, <sip:1003@pbx.test>;q=0.8";
    moved(&mut bench, BEN, &ben, contacts);
    let cleo = bench.only(CLEO, "INVITE");
    answered(&mut bench, CLEO, &cleo);
}

#[test]
fn without_leave_a_redirection_is_passed_on() {
    let mut bench = bench(Redirects::PassedOn);
    let ben = invited(&mut bench, "sip:1002@pbx.test", BEN);
    moved(&mut bench, BEN, &ben, "<sip:1003@pbx.test>");
    assert!(bench.heard(CLEO).is_empty());
    let (heard, steps) = ended(&mut bench);
    assert!(heard.starts_with("SIP/2.0 302") && steps == 0, "{heard}");
    assert_eq!(header(&heard, "Contact"), "<sip:1003@pbx.test>");
}

#[test]
fn a_trunks_redirection_wants_leave_of_its_own() {
    for (redirects, followed) in [(Redirects::OfUsers, false), (Redirects::OfAll, true)] {
        let mut bench = bench(redirects);
        let carrier = invited(&mut bench, "sip:+4930@carrier.test", CARRIER);
        moved(&mut bench, CARRIER, &carrier, "<sip:+4940@other.test>");
        let other = bench.heard(OTHER);
        assert_eq!(!other.is_empty(), followed);
        if let Some(other) = other.first() {
            assert!(other.starts_with("INVITE sip:+4940@other.test"), "{other}");
            answered(&mut bench, OTHER, other);
        } else {
            assert!(ended(&mut bench).0.starts_with("SIP/2.0 302"));
        }
    }
}

/// Where a trunk points is called only if the caller may call it: a call that came by a trunk does not
/// go out by another without a rule.
#[test]
fn a_trunk_gives_nobody_rights() {
    let mut bench = bench(Redirects::OfAll);
    let invite = from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.98", 4000));
    bench.say(OTHER, &invite.replace(ANN, OTHER));
    bench.only(OTHER, "SIP/2.0 100");
    let ben = bench.only(BEN, "INVITE");
    moved(&mut bench, BEN, &ben, "<sip:+4930@carrier.test>");
    let carrier = bench.only(CARRIER, "INVITE");
    moved(&mut bench, CARRIER, &carrier, "<sip:+4940@other.test>");
    let heard = bench.heard(OTHER);
    assert!(!heard.iter().any(|text| text.starts_with("INVITE")), "{heard:#?}");
    assert!(heard.last().is_some_and(|text| text.starts_with("SIP/2.0 302")), "{heard:#?}");
    assert_eq!(bench.core.counters_seen().of(Counter::ForwardsRefused), 1);
}

/// RFC 3261 16.5: no target is tried twice.
#[test]
fn a_redirection_that_leads_back_ends() {
    let mut bench = bench(Redirects::OfAll);
    let ben = invited(&mut bench, "sip:1002@pbx.test", BEN);
    moved(&mut bench, BEN, &ben, "<sip:1003@pbx.test>");
    let cleo = bench.only(CLEO, "INVITE");
    moved(&mut bench, CLEO, &cleo, "<sip:1002@pbx.test>");
    assert!(bench.heard(BEN).is_empty(), "he was tried");
    let (_, steps) = ended(&mut bench);
    assert_eq!((steps, bench.core.counters_seen().of(Counter::ForwardsRefused)), (1, 1));

    let mut bench = self::bench(Redirects::OfAll);
    let mut carrier = invited(&mut bench, "sip:+4930@carrier.test", CARRIER);
    let mut calls = 1;
    for number in 31..60 {
        moved(&mut bench, CARRIER, &carrier, &format!("<sip:+49{number}@carrier.test>"));
        let Some(next) = bench.heard(CARRIER).pop() else { break };
        carrier = next;
        calls += 1;
    }
    assert_eq!((calls, ended(&mut bench).1), (6, 5));
}

/// What became of the place that it led to is what the caller hears, not the way there.
#[test]
fn a_redirection_that_was_followed_is_forgotten() {
    let mut bench = bench(Redirects::OfUsers);
    let ben = invited(&mut bench, "sip:1002@pbx.test", BEN);
    moved(&mut bench, BEN, &ben, "<sip:1003@pbx.test>");
    let cleo = bench.only(CLEO, "INVITE");
    bench.say(CLEO, &answer(&cleo, "480 Temporarily Unavailable", "t", "", ""));
    bench.only(CLEO, "ACK");
    let (heard, steps) = ended(&mut bench);
    assert!(heard.starts_with("SIP/2.0 480") && steps == 1, "{heard}");
}

/// What is no address, or of another scheme, is for the caller to make sense of.
#[test]
fn a_contact_that_cannot_be_called_is_passed_on() {
    for contact in ["<tel:+4930>", "<sips:1003@pbx.test>", "<http://pbx.test/away>"] {
        let mut bench = bench(Redirects::OfUsers);
        let ben = invited(&mut bench, "sip:1002@pbx.test", BEN);
        moved(&mut bench, BEN, &ben, contact);
        let (heard, steps) = ended(&mut bench);
        assert!(heard.starts_with("SIP/2.0 302") && steps == 0, "{heard}");
        assert_eq!(header(&heard, "Contact"), contact);
    }
}

/// One phone sends the call away, another one of the same user rings in vain.
#[test]
fn a_deflection_waits_for_the_users_other_phones() {
    let mut bench = bench(Redirects::OfUsers);
    bench.register("1002", "10.0.0.14:5060");
    let ben = invited(&mut bench, "sip:1002@pbx.test", BEN);
    let other = bench.only("10.0.0.14:5060", "INVITE");
    moved(&mut bench, BEN, &ben, "<sip:1003@pbx.test>");
    assert!(bench.heard(CLEO).is_empty());
    bench.say("10.0.0.14:5060", &answer(&other, "486 Busy Here", "u", "", ""));
    bench.pass(Duration::from_millis(10));
    let cleo = bench.only(CLEO, "INVITE");
    answered(&mut bench, CLEO, &cleo);
}
