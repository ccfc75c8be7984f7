//! What a shard asks programs, on the bench: the words of the ask, the orders on the wire, the limits.
//! Owns:  the bytes; timing, loss and races are the simulator's.
//! Gives: one test per rule, and added headers over arbitrary text.
//! Never: real time.
//! Holds: after each test nothing waits in the core.

mod world;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use call::Input;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use shared::ask::{
    Ask, Decision, Forward, Orders, Record, Reject, RouteAsk, RouteDecision, RouteTarget, Strategy,
    TargetAddress, UserDecision,
};
use shared::command::Command;
use shared::event::Event;
use shared::headers::ExtraHeader;
use shared::ids::CallId;
use shared::limits::{ASK_BACKLOG_MAX, ASKS_PER_SHARD_MAX};
use shared::metrics::Counter;
use shared::net::Transport;
use shared::route::{Emergency, RouteTable};
use shared::snapshot::{HttpRouterRules, RemoteUsers, Snapshot};
use sip::wire::scan;
use world::{
    ANN, BEN, Bench, CARRIER, answer, from_ann, header, register, sdp, settings, snapshot, tag,
};

/// A host that only the router knows.
const BOT: &str = "10.0.0.77:5070";

fn bench(fallback_to_static: bool) -> Bench {
    let budget = Duration::from_secs(1);
    let router = Some(HttpRouterRules { budget, fallback_to_static });
    Bench::with(settings(), Snapshot { http_router: router, ..snapshot() })
}

fn invite(target: &str) -> String {
    from_ann("INVITE", target, 1, "a1", "", &sdp("10.0.0.11", 4000))
}

/// The one ask that waits, taken from the events.
fn ask_of(bench: &mut Bench) -> (u64, Ask) {
    let mut asks = bench.events.extract_if(.., |event| matches!(event, Event::Asked { .. }));
    let Some(Event::Asked { id, ask, .. }) = asks.next() else { panic!("nothing was asked") };
    assert_eq!(asks.count(), 0, "asked more than once");
    (id, *ask)
}

fn decide(bench: &mut Bench, decision: RouteDecision) -> RouteAsk {
    let (id, ask) = ask_of(bench);
    let Ask::Route(ask) = ask else { panic!("{ask:?}") };
    let decision = Box::new(Decision::Route(decision));
    bench.input(Input::Command(Command::Decided { id, decision }));
    ask
}

fn at_bot(orders: Orders) -> RouteDecision {
    let at = TargetAddress {
        transport: Transport::Udp,
        peer: BOT.parse().expect("an address"),
        local: None,
    };
    let target = RouteTarget { uri: format!("sip:bot@{BOT}"), at: Some(at) };
    let (targets, strategy) = (vec![target], Strategy::Sequential);
    RouteDecision::Forward(Box::new(Forward { targets, strategy, ring_timeout: None, orders }))
}

/// Ann cancels, so that the bench is quiet again.
fn cancel(bench: &mut Bench, invite_at_bot: &str) {
    bench.say(BOT, &answer(invite_at_bot, "180 Ringing", "bot", BOT, ""));
    bench.heard(ANN);
    bench.say(ANN, &from_ann("CANCEL", "sip:200@pbx.test", 1, "a1", "", ""));
    let heard = bench.heard(ANN);
    let ours = tag(&header(heard.last().expect("487"), "To"));
    bench.say(ANN, &from_ann("ACK", "sip:200@pbx.test", 1, "a1", &ours, ""));
    let cancel = bench.only(BOT, "CANCEL");
    bench.say(BOT, &answer(&cancel, "200 OK", "bot", "", ""));
    bench.say(BOT, &answer(invite_at_bot, "487 Request Terminated", "bot", "", ""));
    bench.only(BOT, "ACK");
    bench.assert_quiet();
}

#[test]
fn the_ask_tells_what_the_invite_said_but_its_credentials() {
    let mut bench = bench(true);
    let text = invite("sip:200@pbx.test")
        .replace("X-Case: 42", "X-Case: 42\r\nX-Case: 43\r\nProxy-Authorization: Digest x=\"y\"");
    bench.say(ANN, &text);
    bench.only(ANN, "SIP/2.0 100");
    let ask = decide(&mut bench, RouteDecision::NotHandled);
    let headers = ask.headers.clone();
    let expected = RouteAsk {
        call: ask.call,
        call_id: "call-ann".to_owned(),
        from: "<sip:1001@pbx.test>".to_owned(),
        to: "<sip:200@pbx.test>".to_owned(),
        caller: "1001".to_owned(),
        callee: "200".to_owned(),
        uri: "sip:200@pbx.test".to_owned(),
        source: ANN.parse().expect("an address"),
        direction: shared::cdr::Direction::Internal,
        headers: Vec::new(),
        body: sdp("10.0.0.11", 4000),
    };
    assert_eq!(RouteAsk { headers: Vec::new(), ..ask }, expected);
    assert_ne!(expected.call, CallId::default());
    let cases: Vec<_> = headers.iter().filter(|(name, _)| name == "X-Case").collect();
    assert_eq!(cases.len(), 2, "both lines are told: {headers:?}");
    assert!(headers.iter().all(|(name, _)| name != "Proxy-Authorization"), "{headers:?}");
}

#[test]
fn a_host_that_the_router_named_gets_the_orders_on_the_wire() {
    let mut bench = bench(true);
    let text = invite("sip:200@pbx.test").replace(
        "X-Case: 42",
        "X-Case: 42\r\nX-Keep: me\r\nP-Early-Media: supported\r\nP-Asserted-Identity: <sip:boss@x>",
    );
    bench.say(ANN, &text);
    bench.heard(ANN);
    let added = |name, value| ExtraHeader::new(name, value).expect("an ordinary header");
    let orders = Orders {
        headers: vec![added("X-Call-Reason", "support-ticket-123"), added("x-case", "7")],
        with_original_headers: Some(true),
        allow_codecs: vec!["PCMA".into()],
        rtp_timeout: Some(Duration::from_secs(9)),
        record: Some(Record::FromMedia),
        ..Orders::default()
    };
    decide(&mut bench, at_bot(orders));
    let invite = bench.only(BOT, "INVITE sip:bot@10.0.0.77:5070 SIP/2.0");
    for line in ["X-Call-Reason: support-ticket-123", "X-Keep: me", "P-Early-Media: supported"] {
        assert!(invite.contains(&format!("\r\n{line}\r\n")), "{line} is missing in {invite}");
    }
    assert!(invite.contains("x-case: 7") && !invite.contains("X-Case: 42"), "{invite}");
    assert!(!invite.contains("P-Asserted-Identity"), "nobody vouched for it: {invite}");
    assert!(invite.contains(" RTP/AVP 8\r\n"), "only PCMA is left: {invite}");
    let edits = format!("{:?}", bench.edits);
    assert!(edits.contains("rtp_timeout: 9s") && edits.contains("Record"), "{edits}");
    cancel(&mut bench, &invite);
}

/// Neither the wait for a program nor its refusal stands before an emergency call.
#[test]
fn an_emergency_number_is_asked_of_nobody() {
    let router = HttpRouterRules { budget: Duration::from_secs(1), fallback_to_static: false };
    let numbers = vec!["112".into()];
    let emergency = Emergency { numbers, trunk: "carrier".into() };
    let routes = Arc::new(RouteTable::sorted(Vec::new(), Some(emergency)));
    let snapshot = Snapshot { http_router: Some(router), routes, ..snapshot() };
    let mut bench = Bench::with(settings(), snapshot);
    bench.say(ANN, &invite("sip:112@pbx.test"));
    assert!(!bench.events.iter().any(|event| matches!(event, Event::Asked { .. })));
    let invite = bench.only(CARRIER, "INVITE sip:112@");
    bench.say(CARRIER, &answer(&invite, "180 Ringing", "c", CARRIER, ""));
    bench.heard(ANN);
    bench.say(ANN, &from_ann("CANCEL", "sip:112@pbx.test", 1, "a1", "", ""));
    let heard = bench.heard(ANN);
    let ours = tag(&header(heard.last().expect("487"), "To"));
    bench.say(ANN, &from_ann("ACK", "sip:112@pbx.test", 1, "a1", &ours, ""));
    let cancel = bench.only(CARRIER, "CANCEL");
    bench.say(CARRIER, &answer(&cancel, "200 OK", "c", "", ""));
    bench.say(CARRIER, &answer(&invite, "487 Request Terminated", "c", "", ""));
    bench.only(CARRIER, "ACK");
    bench.assert_quiet();
}

#[test]
fn the_callers_headers_stay_behind_when_the_router_says_so() {
    let mut bench = bench(true);
    bench.say(ANN, &invite("sip:200@pbx.test"));
    bench.heard(ANN);
    let orders = Orders { with_original_headers: Some(false), ..Orders::default() };
    decide(&mut bench, at_bot(orders));
    let invite = bench.only(BOT, "INVITE");
    assert!(!invite.contains("X-Case"), "{invite}");
    cancel(&mut bench, &invite);
}

#[test]
fn no_allowed_codec_is_488() {
    let mut bench = bench(true);
    bench.say(ANN, &invite("sip:200@pbx.test"));
    bench.heard(ANN);
    decide(&mut bench, at_bot(Orders { allow_codecs: vec!["opus".into()], ..Orders::default() }));
    let refused = bench.only(ANN, "SIP/2.0 488");
    bench
        .say(ANN, &from_ann("ACK", "sip:200@pbx.test", 1, "a1", &tag(&header(&refused, "To")), ""));
    assert!(bench.heard(BOT).is_empty());
    bench.assert_quiet();
}

#[test]
fn a_rejection_has_the_programs_words() {
    let mut bench = bench(true);
    bench.say(ANN, &invite("sip:200@pbx.test"));
    bench.heard(ANN);
    let reason = "Balance Too Low\r\nEvil: 1".to_owned();
    let reject = Reject { status: 503, reason, retry_after_s: Some(17), spam: false };
    decide(&mut bench, RouteDecision::Reject(reject));
    let refused = bench.only(ANN, "SIP/2.0 503 Balance Too Low");
    assert_eq!(header(&refused, "Retry-After"), "17");
    assert!(!refused.contains("\r\nEvil"), "{refused}");
    bench
        .say(ANN, &from_ann("ACK", "sip:200@pbx.test", 1, "a1", &tag(&header(&refused, "To")), ""));
    let cdr = &bench.cdrs[0];
    assert_eq!((cdr.status_code, cdr.hangup_messages[0].target.as_str()), (503, "http_router"));
    bench.assert_quiet();
}

/// Our own address with another port is another program; the name that the caller used is us.
#[test]
fn which_targets_are_ours_is_told_by_address_and_port() {
    let at = |peer: &str| {
        let peer = peer.parse().expect("an address");
        Some(TargetAddress { transport: Transport::Udp, peer, local: None })
    };
    for (uri, at, expected) in [
        ("sip:1002@10.0.0.1:5060", at("10.0.0.1:5060"), BEN),
        ("sip:1002@10.0.0.1", at("10.0.0.1:5060"), BEN),
        ("sip:1002@10.0.0.1:5070", at("10.0.0.1:5070"), "10.0.0.1:5070"),
        ("sip:1002@pbx.test", at("10.0.0.50:5060"), BEN),
        ("sip:1002@elsewhere.test", at("10.0.0.50:5060"), "10.0.0.50:5060"),
        ("sip:1002@elsewhere.test", None, BEN),
        ("sip:+49@carrier.test", at("10.0.0.50:5060"), CARRIER),
    ] {
        let mut bench = bench(true);
        bench.register("1002", BEN);
        bench.say(ANN, &invite("sip:200@pbx.test"));
        bench.heard(ANN);
        let (targets, strategy) =
            (vec![RouteTarget { uri: uri.to_owned(), at }], Strategy::Sequential);
        let orders = Orders::default();
        let forward = Forward { targets, strategy, ring_timeout: None, orders };
        decide(&mut bench, RouteDecision::Forward(Box::new(forward)));
        assert_eq!(bench.heard(expected).len(), 1, "{uri}: {:?}", bench.sent);
    }
}

/// A control plane that is behind is not asked, and a full table asks nobody: static routes or 503.
#[test]
fn asking_that_is_no_use_is_decided_at_once() {
    for (fallback, expected) in [(true, "SIP/2.0 404"), (false, "SIP/2.0 503")] {
        let mut bench = bench(fallback);
        bench.core.plain_counters().set(Counter::EventBacklog, ASK_BACKLOG_MAX + 1);
        bench.say(ANN, &invite("sip:nobody@pbx.test"));
        let heard = bench.heard(ANN);
        assert!(heard[1].starts_with(expected), "{heard:?}");
        assert_eq!(heard[1].contains("Retry-After"), !fallback);
        assert!(!bench.events.iter().any(|event| matches!(event, Event::Asked { .. })));
        assert_eq!(bench.core.plain_counters().of(Counter::AsksRefused), 1);
    }
}

#[test]
fn a_full_table_asks_nobody() {
    let mut bench = bench(false);
    let call = |number: usize| {
        invite("sip:200@pbx.test")
            .replace("call-ann", &format!("call-{number}"))
            .replace("z9hG4bKa1", &format!("z9hG4bKa{number}"))
    };
    for number in 0..ASKS_PER_SHARD_MAX {
        bench.say(ANN, &call(number));
    }
    bench.sent.clear();
    bench.say(ANN, &call(ASKS_PER_SHARD_MAX));
    let heard = bench.heard(ANN);
    assert!(heard[1].starts_with("SIP/2.0 503") && heard[1].contains("Retry-After"), "{heard:?}");
    assert_eq!(bench.core.census().asks, ASKS_PER_SHARD_MAX);
    bench.assert_quiet();
    assert_eq!(bench.core.census().asks, 0, "every deadline was kept");
    assert_eq!(bench.cdrs.len(), ASKS_PER_SHARD_MAX + 1);
}

/// An attacker without a nonce of ours makes nobody ask; a user that nobody could have asks nobody.
#[test]
fn only_a_fresh_nonce_asks_the_backends() {
    let remote_users = Some(RemoteUsers { first: 0, budget: Duration::from_secs(1) });
    let mut bench = Bench::with(settings(), Snapshot { remote_users, ..snapshot() });
    let forged = |user: &str, nonce: &str| {
        let credentials = format!(
            "Authorization: Digest username=\"{user}\", realm=\"pbx.test\", nonce=\"{nonce}\", \
             uri=\"sip:pbx.test\", response=\"{}\"\r\n",
            "0".repeat(32)
        );
        register("stranger", ANN, 2, &credentials)
    };
    bench.say(ANN, &forged("stranger", "made-up"));
    let challenge = bench.only(ANN, "SIP/2.0 401");
    assert!(challenge.contains("stale=true"), "{challenge}");
    let line = header(&challenge, "WWW-Authenticate");
    let nonce = line.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
    let nonce = nonce.expect("a nonce").to_owned();
    bench.say(
        ANN,
        &forged(&"x".repeat(200), &nonce).replace("CSeq: 2", "CSeq: 3").replace("stranger2", "s3"),
    );
    bench.only(ANN, "SIP/2.0 403");
    assert!(!bench.events.iter().any(|event| matches!(event, Event::Asked { .. })));
    bench.say(ANN, &forged("stranger", &nonce).replace("stranger2", "stranger4"));
    let (id, ask) = ask_of(&mut bench);
    assert!(matches!(ask, Ask::User(_)));
    let decision = Box::new(Decision::Route(RouteDecision::NotHandled));
    bench.input(Input::Command(Command::Decided { id, decision }));
    bench.only(ANN, "SIP/2.0 503");
    let decision = Box::new(Decision::User(UserDecision::Unknown));
    bench.input(Input::Command(Command::Decided { id, decision }));
    assert_eq!(bench.core.plain_counters().of(Counter::AsksLate), 1);
    bench.assert_quiet();
}

/// Whatever text a program sends: a header is refused, or the INVITE reads back to exactly it and
/// says nothing else that was not meant.
#[test]
fn an_added_header_adds_one_line_or_nothing() {
    let telling = b"\r\n\0 \t:;,<>\"@%ViaRouteXcl-09".to_vec();
    let byte = prop_oneof![4 => prop::sample::select(telling), 1 => any::<u8>()];
    let text = || prop::collection::vec(byte.clone(), 0..24);
    let cases = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, b"ringgate added header fixed seed");
    let plain: Cell<Option<usize>> = Cell::new(None);
    let outcome = TestRunner::new_with_rng(cases, rng).run(&(text(), text()), |(name, value)| {
        let name = format!("X-{}", String::from_utf8_lossy(&name));
        let value = String::from_utf8_lossy(&value).into_owned();
        let header = ExtraHeader::new(&name, &value).ok();
        let mut bench = bench(true);
        bench.say(ANN, &invite("sip:200@pbx.test"));
        let headers = header.iter().cloned().collect();
        decide(&mut bench, at_bot(Orders { headers, ..Orders::default() }));
        let bytes = bench.only(BOT, "INVITE").into_bytes();
        let read = scan(&bytes).expect("it reads");
        prop_assert!(read.check_request().is_ok());
        let lines: Vec<_> = read.lines().collect();
        let before = plain.get().unwrap_or_else(|| lines.len() - headers_in(&header));
        plain.set(Some(before));
        prop_assert_eq!(lines.len(), before + headers_in(&header));
        if let Some(header) = &header {
            let found = lines.iter().filter(|(_, written, value)| {
                *written == header.name().as_bytes() && *value == header.value().as_bytes()
            });
            prop_assert_eq!(found.count(), 1);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|why| panic!("{why}"));
}

fn headers_in(header: &Option<ExtraHeader>) -> usize {
    usize::from(header.is_some())
}
