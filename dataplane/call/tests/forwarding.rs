//! Forwards of users (RFC 5806, RFC 7044): when a call goes on, whereto, and what ends a chain of them.
//! Owns:  the rules of a forward; races over a network are the simulator's.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: the caller hears one final answer, the call has one record, and nothing is left in the core.

mod world;

use std::sync::Arc;
use std::time::Duration;

use shared::cdr::{Cdr, LegEventType};
use shared::event::Event;
use shared::forwarding::Forwarding;
use shared::metrics::Counter;
use shared::settings::ShardSettings;
use shared::snapshot::{Snapshot, User};
use world::{ANN, BEN, Bench, CARRIER, answer, from_ann, header, sdp, settings, snapshot, tag};

const CLEO: &str = "10.0.0.13:5060";
const DAN: &str = "10.0.0.14:5060";
const RING: Duration = Duration::from_secs(20);

/// `(user, mode, destination)`; each rings for `RING`. Users that the bench does not have are added.
fn forwarding(wishes: &[(&str, &str, &str)]) -> Snapshot {
    let mut snapshot = snapshot();
    let users = Arc::make_mut(&mut snapshot.users);
    let plain = User::clone(&users["1001"]);
    for (name, mode, to) in wishes {
        let user = users.get(name).map_or_else(|| plain.clone(), |known| User::clone(known));
        let wish = Forwarding::read(Some(mode), Some(to), Some(20)).expect("a forwarding");
        let user = User { username: (*name).into(), forwarding: wish.map(Box::new), ..user };
        users.insert((*name).into(), Arc::new(user));
    }
    snapshot
}

fn bench(wishes: &[(&str, &str, &str)]) -> Bench {
    let mut bench = Bench::with(settings(), forwarding(wishes));
    bench.register("1002", BEN);
    bench.register("1003", CLEO);
    bench
}

fn call(bench: &mut Bench, uri: &str) {
    bench.say(ANN, &from_ann("INVITE", uri, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    // Some calls have their final answer in the same turn: that is for the test.
    let trying = bench.sent.iter().position(|(_, text)| text.starts_with("SIP/2.0 100"));
    bench.sent.remove(trying.expect("a 100"));
}

fn ring(bench: &mut Bench, peer: &str, invite: &str) {
    bench.say(peer, &answer(invite, "180 Ringing", "t", peer, ""));
}

fn refuse(bench: &mut Bench, peer: &str, invite: &str, status: &str) {
    bench.say(peer, &answer(invite, status, "t", "", ""));
    bench.only(peer, "ACK");
}

/// Whoever was called at `peer` picks up, and Ann hangs up after a while.
fn answered(bench: &mut Bench, peer: &str, invite: &str) -> Cdr {
    bench.say(peer, &answer(invite, "200 OK", "t", peer, &sdp("10.0.0.13", 6000)));
    bench.only(peer, "ACK");
    let heard = bench.heard(ANN);
    let finals: Vec<_> = heard.iter().filter(|text| !text.starts_with("SIP/2.0 1")).collect();
    assert!(finals.len() == 1 && finals[0].starts_with("SIP/2.0 200"), "{heard:#?}");
    let ours = tag(&header(finals[0], "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &ours, ""));
    bench.pass(Duration::from_secs(5));
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(peer, "BYE");
    bench.say(peer, &answer(&bye, "200 OK", "", "", ""));
    only_record(bench)
}

/// Ann hears this status and nothing else that is final.
fn failed(bench: &mut Bench, status: u16) -> Cdr {
    let heard = bench.heard(ANN);
    let finals: Vec<_> = heard.iter().filter(|text| !text.starts_with("SIP/2.0 1")).collect();
    let expected = format!("SIP/2.0 {status}");
    assert!(finals.len() == 1 && finals[0].starts_with(&expected), "{heard:#?}");
    let ours = tag(&header(finals[0], "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1", &ours, ""));
    let record = only_record(bench);
    assert_eq!(record.status_code, status);
    record
}

fn only_record(bench: &mut Bench) -> Cdr {
    bench.assert_quiet();
    assert_eq!(bench.cdrs.len(), 1, "{:#?}", bench.cdrs);
    bench.cdrs.pop().expect("one")
}

fn steps(record: &Cdr) -> Vec<&str> {
    let events = record.leg_timeline.events.iter();
    let steps = events.filter(|event| event.event_type == LegEventType::Forwarded);
    steps.filter_map(|event| event.details.as_deref()).collect()
}

fn refused(bench: &Bench) -> u64 {
    let named = |event: &&Event| format!("{event:?}").contains("forward_refused");
    let count = bench.core.counters_seen().of(Counter::ForwardsRefused);
    assert_eq!(bench.events.iter().any(|event| named(&event)), count > 0, "the log says so");
    count
}

fn lines(text: &str, name: &str) -> Vec<String> {
    let start = format!("{name}: ");
    text.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
}

#[test]
fn always_rings_nobody_but_the_destination() {
    let mut bench = bench(&[("1002", "always", "1003")]);
    call(&mut bench, "sip:1002@pbx.test");
    assert!(bench.heard(BEN).is_empty(), "who forwards every call is not called");
    let invite = bench.only(CLEO, "INVITE");
    assert!(invite.contains("sip:1001@pbx.test"), "the caller stays the caller: {invite}");
    assert_eq!(lines(&invite, "Diversion"), ["<sip:1002@pbx.test>;reason=unconditional;counter=1"]);
    assert_eq!(
        lines(&invite, "History-Info"),
        [
            "<sip:1002@pbx.test?Reason=SIP%3Bcause%3D302>;index=1",
            "<sip:1003@pbx.test;cause=302>;index=1.1;mp=1",
        ]
    );
    let record = answered(&mut bench, CLEO, &invite);
    assert_eq!((record.callee.as_str(), record.status_code), ("1002", 200));
    assert_eq!(steps(&record), ["sip:1002@pbx.test forwards to sip:1003@pbx.test (unconditional)"]);
    assert_eq!(bench.core.counters_seen().of(Counter::Forwards), 1);
}

#[test]
fn a_busy_user_has_calls_sent_on() {
    for mode in ["when_busy", "when_unavailable"] {
        for status in ["486 Busy Here", "600 Busy Everywhere"] {
            let mut bench = bench(&[("1002", mode, "1003")]);
            call(&mut bench, "sip:1002@pbx.test");
            let ben = bench.only(BEN, "INVITE");
            assert!(lines(&ben, "Diversion").is_empty() && lines(&ben, "History-Info").is_empty());
            refuse(&mut bench, BEN, &ben, status);
            let cleo = bench.only(CLEO, "INVITE");
            assert!(header(&cleo, "Diversion").contains("reason=user-busy"), "{cleo}");
            let record = answered(&mut bench, CLEO, &cleo);
            assert_eq!((record.sip_leg_roles.len(), steps(&record).len()), (3, 1));
        }
    }
}

#[test]
fn nobody_answers_within_the_time_of_the_forwarding() {
    for mode in ["when_not_answered", "when_unavailable"] {
        let mut bench = bench(&[("1002", mode, "1003")]);
        call(&mut bench, "sip:1002@pbx.test");
        let ben = bench.only(BEN, "INVITE");
        ring(&mut bench, BEN, &ben);
        bench.pass(RING - Duration::from_millis(10));
        assert!(bench.heard(CLEO).is_empty() && bench.heard(BEN).is_empty(), "too early");
        bench.pass(Duration::from_millis(20));
        let cancel = bench.only(BEN, "CANCEL");
        bench.say(BEN, &answer(&cancel, "200 OK", "t", "", ""));
        refuse(&mut bench, BEN, &ben, "487 Request Terminated");
        let cleo = bench.only(CLEO, "INVITE");
        assert!(header(&cleo, "Diversion").contains("reason=no-answer"), "{cleo}");
        let record = answered(&mut bench, CLEO, &cleo);
        assert_eq!(record.hangup_messages[0].code, 480);
    }
}

/// RFC 3261 9.1: the 200 of who was given up crosses our CANCEL. Somebody picked up: that counts.
#[test]
fn an_answer_that_crosses_the_forward_takes_the_call_back() {
    let mut bench = bench(&[("1002", "when_not_answered", "1003")]);
    call(&mut bench, "sip:1002@pbx.test");
    let ben = bench.only(BEN, "INVITE");
    ring(&mut bench, BEN, &ben);
    bench.pass(RING);
    bench.only(BEN, "CANCEL");
    let cleo = bench.only(CLEO, "INVITE");
    ring(&mut bench, CLEO, &cleo);
    bench.say(BEN, &answer(&ben, "200 OK", "t", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    let cancel = bench.only(CLEO, "CANCEL");
    assert_eq!(header(&cancel, "Reason"), "SIP;cause=200;text=\"Call completed elsewhere\"");
    bench.say(CLEO, &answer(&cancel, "200 OK", "t", "", ""));
    refuse(&mut bench, CLEO, &cleo, "487 Request Terminated");
    let heard = bench.heard(ANN);
    let ok = heard.iter().find(|text| text.starts_with("SIP/2.0 200")).expect("a 200");
    let ours = tag(&header(ok, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &ours, ""));
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    assert_eq!(only_record(&mut bench).status_code, 200);
}

#[test]
fn nobody_is_registered() {
    for mode in ["when_not_registered", "when_unavailable"] {
        let mut bench = Bench::with(settings(), forwarding(&[("1002", mode, "1003")]));
        bench.register("1003", CLEO);
        call(&mut bench, "sip:1002@pbx.test");
        let cleo = bench.only(CLEO, "INVITE");
        assert!(header(&cleo, "Diversion").contains("reason=unavailable"), "{cleo}");
        answered(&mut bench, CLEO, &cleo);
    }
}

/// Each condition is one of its own, and a refusal by hand is the user's word.
#[test]
fn what_the_mode_does_not_name_is_not_forwarded() {
    for (mode, status, heard) in [
        ("when_busy", "480 Temporarily Unavailable", 480),
        ("when_busy", "404 Not Found", 404),
        ("when_not_answered", "486 Busy Here", 486),
        ("when_not_registered", "486 Busy Here", 486),
        ("when_unavailable", "603 Decline", 603),
        ("when_unavailable", "488 Not Acceptable Here", 488),
    ] {
        let mut bench = bench(&[("1002", mode, "1003")]);
        call(&mut bench, "sip:1002@pbx.test");
        let ben = bench.only(BEN, "INVITE");
        refuse(&mut bench, BEN, &ben, status);
        assert!(bench.heard(CLEO).is_empty(), "{mode} after {status}");
        let record = failed(&mut bench, heard);
        assert!(steps(&record).is_empty());
        assert_eq!(refused(&bench), 0);
    }
}

/// One phone is busy, the other rings: somebody could have answered.
#[test]
fn a_phone_that_rang_outweighs_one_that_was_busy() {
    let mut bench = bench(&[("1002", "when_unavailable", "1003")]);
    bench.register("1002", DAN);
    call(&mut bench, "sip:1002@pbx.test");
    let (ben, dan) = (bench.only(BEN, "INVITE"), bench.only(DAN, "INVITE"));
    refuse(&mut bench, BEN, &ben, "486 Busy Here");
    ring(&mut bench, DAN, &dan);
    assert!(bench.heard(CLEO).is_empty(), "one phone rings still");
    bench.pass(RING);
    let cancel = bench.only(DAN, "CANCEL");
    bench.say(DAN, &answer(&cancel, "200 OK", "t", "", ""));
    refuse(&mut bench, DAN, &dan, "487 Request Terminated");
    let cleo = bench.only(CLEO, "INVITE");
    assert!(header(&cleo, "Diversion").contains("reason=no-answer"), "{cleo}");
    answered(&mut bench, CLEO, &cleo);
}

#[test]
fn a_chain_tells_every_step_the_newest_first() {
    let mut bench = bench(&[("1002", "when_busy", "1004"), ("1004", "always", "1003")]);
    call(&mut bench, "sip:1002@pbx.test");
    let ben = bench.only(BEN, "INVITE");
    refuse(&mut bench, BEN, &ben, "486 Busy Here");
    let cleo = bench.only(CLEO, "INVITE");
    assert_eq!(
        lines(&cleo, "Diversion"),
        [
            "<sip:1004@pbx.test>;reason=unconditional;counter=1",
            "<sip:1002@pbx.test>;reason=user-busy;counter=1",
        ]
    );
    assert_eq!(
        lines(&cleo, "History-Info"),
        [
            "<sip:1002@pbx.test?Reason=SIP%3Bcause%3D486>;index=1",
            "<sip:1004@pbx.test;cause=486?Reason=SIP%3Bcause%3D302>;index=1.1;mp=1",
            "<sip:1003@pbx.test;cause=302>;index=1.1.1;mp=1.1",
        ]
    );
    assert_eq!(header(&cleo, "Max-Forwards"), "67", "each step is a hop");
    let record = answered(&mut bench, CLEO, &cleo);
    assert_eq!(steps(&record).len(), 2);
}

/// The destination is a user who forwards back: nobody is rung twice.
#[test]
fn a_loop_ends_where_it_closes() {
    let mut both = bench(&[("1002", "always", "1003"), ("1003", "always", "1002")]);
    call(&mut both, "sip:1002@pbx.test");
    assert!(both.heard(BEN).is_empty() && both.heard(CLEO).is_empty());
    let record = failed(&mut both, 482);
    assert_eq!((steps(&record).len(), refused(&both)), (1, 1));

    let mut busy = bench(&[("1002", "when_busy", "1003"), ("1003", "when_busy", "1002")]);
    call(&mut busy, "sip:1002@pbx.test");
    let ben = busy.only(BEN, "INVITE");
    refuse(&mut busy, BEN, &ben, "486 Busy Here");
    let cleo = busy.only(CLEO, "INVITE");
    refuse(&mut busy, CLEO, &cleo, "486 Busy Here");
    assert!(busy.heard(BEN).is_empty(), "he was tried");
    failed(&mut busy, 486);
    assert_eq!(refused(&busy), 1);
}

/// 1002 forwards to itself, or to who calls.
#[test]
fn a_call_comes_back_to_neither_end() {
    for to in ["1002", "1001", "sip:1001@pbx.test"] {
        let mut bench = bench(&[("1002", "always", to)]);
        bench.register("1001", ANN);
        call(&mut bench, "sip:1002@pbx.test");
        assert!(bench.heard(BEN).is_empty());
        failed(&mut bench, 482);
        assert_eq!(refused(&bench), 1);
    }
}

#[test]
fn a_chain_has_five_links_at_most() {
    let names: Vec<String> = (0..8).map(|number| format!("{}", 2_000 + number)).collect();
    let wishes: Vec<_> =
        names.windows(2).map(|pair| (pair[0].as_str(), "always", pair[1].as_str())).collect();
    let mut bench = bench(&wishes);
    call(&mut bench, "sip:2000@pbx.test");
    let record = failed(&mut bench, 482);
    assert_eq!((steps(&record).len(), refused(&bench)), (5, 1));
}

/// The gateway at the other end of the trunk forwards as well, and the call comes round.
#[test]
fn diversions_before_us_count() {
    for (counter, followed) in [("2;reason=user-busy", true), ("5", false)] {
        let mut bench = bench(&[("1002", "always", "1003")]);
        let invite = from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.99", 4000));
        let before = format!("<sip:+4930@far.test>;counter={counter}");
        let invite = invite.replace("X-Case: 42", &format!("Diversion: {before}"));
        bench.say(CARRIER, &invite.replace(ANN, CARRIER));
        let heard = bench.heard(CARRIER);
        let calls = bench.heard(CLEO);
        assert_eq!(!calls.is_empty(), followed, "{heard:#?}");
        if let Some(invite) = calls.first() {
            let expected = ["<sip:1002@pbx.test>;reason=unconditional;counter=1", &before];
            assert_eq!(lines(invite, "Diversion"), expected, "a trunk's word is passed on");
        } else {
            assert!(heard.iter().any(|text| text.starts_with("SIP/2.0 482")), "{heard:#?}");
        }
    }
}

/// The trunk is called by the user's right; who called stays in From.
#[test]
fn a_forward_leads_to_a_trunk() {
    let mut bench = bench(&[("1002", "when_busy", "sip:+4930123@carrier.test")]);
    call(&mut bench, "sip:1002@pbx.test");
    let ben = bench.only(BEN, "INVITE");
    refuse(&mut bench, BEN, &ben, "486 Busy Here");
    let carrier = bench.only(CARRIER, "INVITE sip:+4930123@carrier.test");
    assert!(header(&carrier, "From").contains("sip:1001@"), "{carrier}");
    assert!(header(&carrier, "Diversion").contains("<sip:1002@pbx.test>"), "{carrier}");
    assert_eq!(bench.core.census().trunk_calls, 1);
    let record = answered(&mut bench, CARRIER, &carrier);
    assert_eq!(record.outbound_trunk.as_deref(), Some("carrier"));
    assert_eq!(bench.core.census().trunk_calls, 0);
}

#[test]
fn a_destination_that_is_nowhere_leaves_the_call_as_it_was() {
    let mut always = bench(&[("1002", "always", "sip:nobody@pbx.test")]);
    call(&mut always, "sip:1002@pbx.test");
    failed(&mut always, 480);
    assert_eq!(refused(&always), 1);

    let mut busy = bench(&[("1002", "when_busy", "1999")]);
    call(&mut busy, "sip:1002@pbx.test");
    let ben = busy.only(BEN, "INVITE");
    refuse(&mut busy, BEN, &ben, "486 Busy Here");
    let record = failed(&mut busy, 486);
    assert!(steps(&record).is_empty());
    assert_eq!(refused(&busy), 1);
}

/// Who has no account reaches a user who lets them in, and whom that user has named, but no trunk.
#[test]
fn a_guest_is_forwarded_to_users_only() {
    for (to, rings) in [("1003", true), ("sip:+4930123@carrier.test", false)] {
        let mut snapshot = forwarding(&[("1002", "always", to)]);
        let users = Arc::make_mut(&mut snapshot.users);
        let ben = User { allow_guest_calls: true, ..User::clone(&users["1002"]) };
        users.insert("1002".into(), Arc::new(ben));
        let settings = ShardSettings { call_auth: true, ..settings() };
        let mut bench = Bench::with(settings, snapshot);
        bench.register("1003", CLEO);
        let invite = from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000));
        bench.say(ANN, &invite.replace("sip:1001@pbx.test", "sip:stranger@far.test"));
        assert_eq!(!bench.heard(CLEO).is_empty(), rings);
        assert!(bench.heard(CARRIER).is_empty());
        assert_eq!(refused(&bench), u64::from(!rings));
    }
}

/// The caller gives up while the forward rings: one CANCEL, one 487.
#[test]
fn a_caller_that_cancels_ends_the_forward() {
    let mut bench = bench(&[("1002", "always", "1003")]);
    call(&mut bench, "sip:1002@pbx.test");
    let cleo = bench.only(CLEO, "INVITE");
    ring(&mut bench, CLEO, &cleo);
    bench.heard(ANN);
    bench.say(ANN, &from_ann("CANCEL", "sip:1002@pbx.test", 1, "a1", "", ""));
    let cancel = bench.only(CLEO, "CANCEL");
    bench.say(CLEO, &answer(&cancel, "200 OK", "t", "", ""));
    refuse(&mut bench, CLEO, &cleo, "487 Request Terminated");
    let heard = bench.heard(ANN);
    assert!(heard.iter().any(|text| text.starts_with("SIP/2.0 487")), "{heard:#?}");
    assert_eq!(only_record(&mut bench).status_code, 487);
}

/// Three phones of one user: one picks up, the two others are told that the call was taken elsewhere.
#[test]
fn phones_that_lost_the_race_hear_that_the_call_was_taken_elsewhere() {
    let mut bench = Bench::new(settings());
    for phone in [BEN, CLEO, DAN] {
        bench.register("1002", phone);
    }
    call(&mut bench, "sip:1002@pbx.test");
    let [ben, cleo, dan] = [BEN, CLEO, DAN].map(|phone| bench.only(phone, "INVITE"));
    ring(&mut bench, BEN, &ben);
    bench.say(CLEO, &answer(&cleo, "200 OK", "t", CLEO, &sdp("10.0.0.13", 6000)));
    bench.only(CLEO, "ACK");
    // Dan's phone has said nothing yet: its CANCEL waits for its first word (RFC 3261 9.1).
    assert!(bench.heard(DAN).is_empty());
    ring(&mut bench, DAN, &dan);
    for (phone, invite) in [(BEN, &ben), (DAN, &dan)] {
        let cancel = bench.only(phone, "CANCEL");
        let reason = "SIP;cause=200;text=\"Call completed elsewhere\"";
        assert_eq!(header(&cancel, "Reason"), reason);
        bench.say(phone, &answer(&cancel, "200 OK", "t", "", ""));
        refuse(&mut bench, phone, invite, "487 Request Terminated");
    }
    let ours = tag(&header(&bench.heard(ANN).pop().expect("a 200"), "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &ours, ""));
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    let bye = bench.only(CLEO, "BYE");
    bench.say(CLEO, &answer(&bye, "200 OK", "", "", ""));
    let record = only_record(&mut bench);
    assert_eq!((record.status_code, record.sip_leg_roles.len()), (200, 4));
}
