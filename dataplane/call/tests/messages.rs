//! MESSAGE outside a dialog (RFC 3428): between users, to a trunk by a rule, and never from strangers.
//! Owns:  whose text goes where, and which answer its sender gets.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use std::sync::Arc;
use std::time::Duration;

use call::{Input, MeshMessage};
use shared::command::Command;
use shared::event::Event;
use shared::ids::ShardId;
use shared::metrics::Counter;
use shared::route::RouteTable;
use shared::snapshot::{Snapshot, Trunk};
use shared::toll::TollRules;
use shared::trunk_options::TrunkOptions;
use world::{ANN, BEN, Bench, CARRIER, answer, header, settings, snapshot};

const CELL: &str = "10.0.0.22:5060";
/// The carrier's other address.
const SECOND: &str = "10.0.0.97:5060";

fn text(from: &str, at: &str, target: &str, branch: &str, lines: &str, body: &str) -> String {
    format!(
        "MESSAGE {target} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKm{branch};rport\r\n\
         Max-Forwards: 70\r\nFrom: \"Ann\" <sip:{from}@pbx.test>;tag=m\r\nTo: <{target}>\r\n\
         Call-ID: text-{branch}\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain;charset=utf-8\r\n\
         Subject: lunch\r\nX-Case: 7\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Ann's, with her digest.
fn send(bench: &mut Bench, target: &str, branch: &str, body: &str) {
    send_with(bench, target, branch, "", body);
}

fn send_with(bench: &mut Bench, target: &str, branch: &str, lines: &str, body: &str) {
    bench.say(ANN, &text("1001", ANN, target, branch, "", body));
    let challenge = bench.only(ANN, "SIP/2.0 407");
    let line = header(&challenge, "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let own = sip::auth::answer(&parsed, "1001", "secret-1001", "MESSAGE", target, 1, "abc");
    let lines = format!("{lines}Proxy-Authorization: {own}\r\n");
    bench.say(ANN, &text("1001", ANN, target, &format!("{branch}b"), &lines, body));
}

fn bench() -> Bench {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    bench
}

fn with_rules() -> Bench {
    with_options(TrunkOptions::default())
}

fn with_options(options: TrunkOptions) -> Bench {
    with_tolls(options, None)
}

fn with_tolls(options: TrunkOptions, toll: Option<TollRules>) -> Bench {
    with_carrier(|carrier| carrier.options = Arc::new(options), toll)
}

fn with_carrier(change: impl FnOnce(&mut Trunk), toll: Option<TollRules>) -> Bench {
    let documents = [
        serde_json::json!({
            "name": "out", "match": { "to.user": "^9(\\d+)$" }, "rewrite": { "to.user": "00{1}" },
            "dest": "carrier",
        }),
        serde_json::json!({
            "name": "did", "direction": "inbound", "source_trunks": ["carrier"],
            "match": { "to.user": "^\\+4930(\\d{4})$" }, "rewrite": { "to.user": "{1}" },
        }),
    ];
    let mut flaws = shared::document::Flaws::default();
    let read = |document| shared::route::check(document, &Default::default(), &mut flaws);
    let routes: Vec<_> = documents.iter().filter_map(read).collect();
    assert_eq!(routes.len(), 2, "{flaws:?}");
    let routes = Arc::new(RouteTable { routes, ..RouteTable::default() });
    let mut trunks = snapshot().trunks.as_ref().clone();
    let carrier = trunks.iter_mut().find(|trunk| &*trunk.name == "carrier").expect("a trunk");
    change(carrier);
    let (trunks, toll) = (Arc::new(trunks), toll.map(Arc::new));
    Bench::with(settings(), Snapshot { routes, trunks, toll, ..snapshot() })
}

#[test]
fn a_text_reaches_every_phone_and_the_first_that_takes_it_is_the_answer() {
    let mut bench = bench();
    bench.register("1002", CELL);
    send(&mut bench, "sip:1002@pbx.test", "a", "Lunch?");
    assert!(bench.heard(ANN).is_empty(), "nobody has it yet");
    let ben = bench.only(BEN, "MESSAGE sip:1002@10.0.0.12:5060 SIP/2.0");
    let cell = bench.only(CELL, "MESSAGE sip:1002@10.0.0.22:5060 SIP/2.0");
    assert!(header(&ben, "From").starts_with("\"Ann\" <sip:1001@pbx.test>;tag="), "{ben}");
    assert_eq!(header(&ben, "To"), "<sip:1002@pbx.test>");
    assert_eq!(header(&ben, "Content-Type"), "text/plain;charset=utf-8");
    assert_eq!((header(&ben, "Subject"), header(&ben, "X-Case")), ("lunch".into(), "7".into()));
    assert_eq!(header(&ben, "Max-Forwards"), "69");
    assert!(ben.ends_with("\r\n\r\nLunch?") && !ben.contains("Authorization"), "{ben}");
    assert_ne!(header(&ben, "Call-ID"), "text-ab", "the sender's dialog is its own");
    assert!(!ben.contains("Contact:"), "RFC 3428 5 forbids it: {ben}");
    bench.say(BEN, &answer(&ben, "200 OK", "ben", "", ""));
    bench.only(ANN, "SIP/2.0 200");
    bench.say(CELL, &answer(&cell, "486 Busy Here", "cell", "", ""));
    assert!(bench.heard(ANN).is_empty());
    assert_eq!(bench.core.counters().of(Counter::MessagesRelayed), 1);
    assert_eq!(bench.core.census().messages, 0);
    assert!(bench.cdrs.is_empty(), "a text is no call");
    bench.assert_quiet();
}

#[test]
fn what_nobody_takes_is_refused_at_once_or_when_all_have_spoken() {
    let mut bench = bench();
    bench.register("1002", CELL);
    // Not registered, unknown, at a trunk without a rule: nothing is kept for later.
    for (number, (target, status)) in [
        ("sip:1003@pbx.test", "480"),
        ("sip:7777@pbx.test", "404"),
        ("sip:55@carrier.test", "403"),
        ("sips:1002@pbx.test", "416"),
    ]
    .into_iter()
    .enumerate()
    {
        send(&mut bench, target, &format!("n{number}"), "Lunch?");
        bench.only(ANN, &format!("SIP/2.0 {status}"));
    }
    send(&mut bench, "sip:1002@pbx.test", "x", "Lunch?");
    let (ben, cell) = (bench.only(BEN, "MESSAGE"), bench.only(CELL, "MESSAGE"));
    bench.say(BEN, &answer(&ben, "503 Service Unavailable", "ben", "", ""));
    assert!(bench.heard(ANN).is_empty(), "the other one may take it");
    bench.say(CELL, &answer(&cell, "415 Unsupported Media Type", "cell", "", ""));
    bench.only(ANN, "SIP/2.0 415");
    // A phone that says nothing is as good as none; 408 would be of no use (RFC 4320 4.2).
    send(&mut bench, "sip:1002@pbx.test", "y", "Lunch?");
    bench.pass(Duration::from_secs(19));
    assert!(bench.heard(ANN).is_empty());
    bench.pass(Duration::from_secs(1));
    bench.only(ANN, "SIP/2.0 480");
    assert_eq!(bench.core.counters().of(Counter::MessagesRefused), 6);
    bench.assert_quiet();
    assert_eq!(bench.core.census().messages, 0);
}

#[test]
fn long_texts_are_refused_and_over_udp_sooner() {
    let mut bench = bench();
    bench.say(ANN, &text("1001", ANN, "sip:1002@pbx.test", "l", "", &"x".repeat(8_193)));
    bench.only(ANN, "SIP/2.0 413");
    send(&mut bench, "sip:1002@pbx.test", "m", &"x".repeat(1_301));
    bench.only(ANN, "SIP/2.0 513");
    send(&mut bench, "sip:1002@pbx.test", "n", &"x".repeat(1_300));
    bench.only(BEN, "MESSAGE");
}

/// Attack case 23 of the peers' list: without a password nobody writes, and with one only in one's name.
#[test]
fn nobody_writes_in_another_ones_name() {
    let mut bench = bench();
    bench.say(ANN, &text("1003", ANN, "sip:1002@pbx.test", "o", "", "Lunch?"));
    let line = header(&bench.only(ANN, "SIP/2.0 407"), "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let uri = "sip:1002@pbx.test";
    for (number, (user, secret)) in
        [("1001", "secret-1001"), ("1003", "guess")].into_iter().enumerate()
    {
        let own = sip::auth::answer(&parsed, user, secret, "MESSAGE", uri, 1, "abc");
        let lines = format!("Proxy-Authorization: {own}\r\n");
        bench.say(ANN, &text("1003", ANN, uri, &format!("p{number}"), &lines, "Lunch?"));
        bench.only(ANN, "SIP/2.0 403");
    }
    assert!(bench.heard(BEN).is_empty());
}

#[test]
fn a_rule_sends_a_text_to_a_trunk_and_its_answer_comes_back() {
    let mut bench = with_rules();
    send(&mut bench, "sip:9123@pbx.test", "a", "Lunch?");
    let carrier = bench.only(CARRIER, "MESSAGE sip:00123@");
    // 202: a gateway has it and promises no more (RFC 3428 7).
    bench.say(CARRIER, &answer(&carrier, "202 Accepted", "c", "", ""));
    bench.only(ANN, "SIP/2.0 202");
    for (number, (theirs, ours)) in
        [("503 Full", "500"), ("401 Who", "403"), ("405 No", "405"), ("302 There", "480")]
            .into_iter()
            .enumerate()
    {
        send(&mut bench, "sip:9123@pbx.test", &format!("b{number}"), "Lunch?");
        let carrier = bench.only(CARRIER, "MESSAGE");
        bench.say(CARRIER, &answer(&carrier, theirs, "c", "", ""));
        bench.only(ANN, &format!("SIP/2.0 {ours}"));
    }
    bench.assert_quiet();
}

/// Privacy (RFC 3323) and the trunk's proxy hold for a text as for a call.
#[test]
fn a_text_by_a_trunk_hides_its_sender_and_takes_the_trunks_road() {
    let route = Some("<sip:10.0.0.99:5060;lr>".into());
    let mut bench = with_options(TrunkOptions { route, ..TrunkOptions::default() });
    send_with(&mut bench, "sip:9123@pbx.test", "a", "Privacy: id\r\n", "Lunch?");
    let carrier = bench.only(CARRIER, "MESSAGE sip:00123@");
    assert_eq!(header(&carrier, "Route"), "<sip:10.0.0.99:5060;lr>");
    assert!(header(&carrier, "From").contains("anonymous.invalid"), "{carrier}");
    for word in ["1001", "Ann", "lunch"] {
        assert!(!carrier.contains(word), "{word} in {carrier}");
    }
    bench.say(CARRIER, &answer(&carrier, "200 OK", "c", "", ""));
    bench.only(ANN, "SIP/2.0 200");
    bench.assert_quiet();
}

/// RFC 3325: a text has its sender as a call has its caller.
#[test]
fn a_trusted_trunk_is_told_who_writes() {
    let trusted = TrunkOptions { trusted: true, ..TrunkOptions::default() };
    // The rule puts the trunk's host there.
    let own = "<sip:1001@carrier.test>";
    for (lines, wish, from) in [
        ("", None, "\"Ann\" <sip:1001@"),
        ("Privacy: id\r\n", Some("id"), "\"Anonymous\" <sip:anon"),
    ] {
        let mut bench = with_options(trusted.clone());
        let claims = format!("{lines}P-Asserted-Identity: <sip:boss@pbx.test>\r\n");
        send_with(&mut bench, "sip:9123@pbx.test", "a", &claims, "Lunch?");
        let carrier = bench.only(CARRIER, "MESSAGE sip:00123@");
        let told = |name| world::trunks::lines_of(&carrier, name);
        assert_eq!(told("P-Asserted-Identity"), [own]);
        assert_eq!(told("Privacy"), wish.into_iter().collect::<Vec<_>>());
        assert!(header(&carrier, "From").starts_with(from), "{carrier}");
        bench.say(CARRIER, &answer(&carrier, "200 OK", "c", "", ""));
        bench.only(ANN, "SIP/2.0 200");
        bench.assert_quiet();
    }
    // Whoever is no trusted trunk hears no assertion.
    let mut bench = with_rules();
    send(&mut bench, "sip:9123@pbx.test", "a", "Lunch?");
    let carrier = bench.only(CARRIER, "MESSAGE");
    assert!(!carrier.contains("P-Asserted-Identity"), "{carrier}");
}

#[test]
fn who_writes_as_nobody_is_whoever_the_password_says() {
    let trusted = TrunkOptions { trusted: true, ..TrunkOptions::default() };
    let mut bench = with_options(trusted);
    bench.register("1002", BEN);
    let nobody = |target: &str, branch: &str, lines: &str| {
        let text = text("1001", ANN, target, branch, lines, "Lunch?");
        text.replace("sip:1001@pbx.test", "sip:anonymous@anonymous.invalid")
    };
    for (target, at) in [("sip:9123@pbx.test", CARRIER), ("sip:1002@pbx.test", BEN)] {
        bench.say(ANN, &nobody(target, &target[4..8], ""));
        let line = header(&bench.only(ANN, "SIP/2.0 407"), "Proxy-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
        let own = sip::auth::answer(&parsed, "1001", "secret-1001", "MESSAGE", target, 1, "abc");
        let lines = format!("Privacy: session\r\nProxy-Authorization: {own}\r\n");
        bench.say(ANN, &nobody(target, &format!("w{}", &target[4..8]), &lines));
        let heard = bench.only(at, "MESSAGE");
        assert!(header(&heard, "From").starts_with("\"Anonymous\" <sip:anonymous@"), "{heard}");
        let told = world::trunks::lines_of(&heard, "P-Asserted-Identity");
        assert_eq!(told, if at == CARRIER { vec!["<sip:1001@carrier.test>"] } else { vec![] });
        let wish = world::trunks::lines_of(&heard, "Privacy");
        assert_eq!(wish, if at == CARRIER { vec!["session;id"] } else { vec![] });
        bench.say(at, &answer(&heard, "200 OK", "c", "", ""));
        bench.only(ANN, "SIP/2.0 200");
    }
    bench.assert_quiet();
}

/// A text that cannot leave is on nobody's account, and one that a trunk gets twice is once on its.
#[test]
fn a_text_is_paid_once_for_each_trunk_and_only_when_it_can_leave() {
    let mut rules = TollRules { country: Some("49".into()), ..TollRules::default() };
    rules.countries = Some(vec!["1".into()]);
    (rules.extension.calls_per_day, rules.trunk.calls_per_day) = (Some(2), Some(2));
    let twice = |carrier: &mut Trunk| {
        let mut second = carrier.entrances[0].clone();
        second.address = SECOND.parse().expect("an address");
        carrier.entrances.push(second);
    };
    let mut bench = with_carrier(twice, Some(rules));
    for branch in ["a", "b"] {
        send(&mut bench, "sip:9123@pbx.test", branch, &"x".repeat(1_400));
        bench.only(ANN, "SIP/2.0 513");
    }
    for branch in ["c", "d"] {
        send(&mut bench, "sip:9123@pbx.test", branch, "Lunch?");
        for (status, tag) in [("503 Busy", "c"), ("200 OK", "d")] {
            let heard = [CARRIER, SECOND].map(|peer| (peer, bench.heard(peer).pop()));
            let mut heard = heard.into_iter().filter_map(|(peer, text)| Some((peer, text?)));
            let (peer, text) = heard.next().expect("a text");
            assert!(heard.next().is_none(), "one at a time");
            bench.say(peer, &answer(&text, status, tag, "", ""));
        }
        bench.only(ANN, "SIP/2.0 200");
    }
    send(&mut bench, "sip:9123@pbx.test", "e", "Lunch?");
    bench.only(ANN, "SIP/2.0 403 Toll limit: daily_limit");
    assert_eq!(bench.core.counters().of(Counter::TollLimitsRefused), 1);
    bench.assert_quiet();
}

/// A stolen account sends no more texts than the caps let it make calls.
#[test]
fn texts_over_trunks_are_held_to_the_caps() {
    let mut rules = TollRules::default();
    (rules.country, rules.countries) = (Some("49".into()), Some(vec!["1".into()]));
    (rules.extension.calls_per_minute, rules.extension.calls_per_day) = (Some(2), Some(3));
    rules.trunk.calls_per_day = Some(4);
    let mut bench = with_tolls(TrunkOptions::default(), Some(rules));
    bench.register("1002", BEN);
    let sent = |bench: &mut Bench, branch: &str| {
        send(bench, "sip:9123@pbx.test", branch, "Lunch?");
        if let Some(carrier) = bench.heard(CARRIER).pop() {
            bench.say(CARRIER, &answer(&carrier, "200 OK", "c", "", ""));
        }
        let heard = bench.heard(ANN).pop().expect("an answer");
        heard.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!([sent(&mut bench, "a"), sent(&mut bench, "b")], ["SIP/2.0 200 OK"; 2]);
    assert_eq!(sent(&mut bench, "c"), "SIP/2.0 403 Toll limit: calls_per_minute");
    let lines: Vec<String> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Notice(notice) => Some(notice.detail.clone()),
            _ => None,
        })
        .filter(|text| text.contains("toll_refused"))
        .collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("account=\"texts of extension 1001\""), "{lines:#?}");
    // Within the house nothing is paid for.
    send(&mut bench, "sip:1002@pbx.test", "d", "Lunch?");
    let ben = bench.only(BEN, "MESSAGE");
    bench.say(BEN, &answer(&ben, "200 OK", "ben", "", ""));
    bench.only(ANN, "SIP/2.0 200");
    bench.pass(Duration::from_secs(60));
    assert_eq!(sent(&mut bench, "e"), "SIP/2.0 200 OK");
    assert_eq!(sent(&mut bench, "f"), "SIP/2.0 403 Toll limit: daily_limit");
    assert_eq!(bench.core.counters().of(Counter::TollLimitsRefused), 2);
    assert_eq!(bench.core.census().toll_calls, 0, "a text is over at once");
    bench.pass(Duration::from_secs(86_400));
    assert_eq!(sent(&mut bench, "g"), "SIP/2.0 200 OK");
    bench.assert_quiet();
}

#[test]
fn a_trunk_writes_to_users_by_the_rules_and_needs_no_password() {
    let mut bench = with_rules();
    bench.register("1002", BEN);
    bench.say(CARRIER, &text("5", CARRIER, "sip:+49301002@pbx.test", "t", "", "Lunch?"));
    let ben = bench.only(BEN, "MESSAGE sip:1002@");
    bench.say(BEN, &answer(&ben, "200 OK", "ben", "", ""));
    bench.only(CARRIER, "SIP/2.0 200");
    bench.say(CARRIER, &text("5", CARRIER, "sip:+4930@pbx.test", "u", "", "Lunch?"));
    bench.only(CARRIER, "SIP/2.0 404");
    bench.assert_quiet();
}

#[test]
fn who_is_registered_on_another_shard_is_found_there() {
    let own = shared::settings::ShardSettings { shards: 2, ..settings() };
    let mut bench = Bench::new(own);
    let away = ["1002", "1003"]
        .into_iter()
        .find(|user| ShardId::of_name(user.as_bytes(), 2) == ShardId(1))
        .expect("one of them is kept there");
    let target = format!("sip:{away}@pbx.test");
    // Call-IDs of this shard.
    let names = (0..).map(|number| format!("s{number}"));
    let here = |name: &String| {
        let owner = |text: String| ShardId::of_name(text.as_bytes(), 2);
        owner(format!("text-{name}")) == ShardId(0) && owner(format!("text-{name}b")) == ShardId(0)
    };
    let names: Vec<String> = names.filter(here).take(3).collect();
    let asked = |bench: &mut Bench| match bench.mesh.pop() {
        Some((ShardId(1), MeshMessage::AskBindings { ask, aor, .. })) if *aor == *away => ask,
        other => panic!("{other:?}"),
    };
    send(&mut bench, &target, &names[0], "Lunch?");
    let ask = asked(&mut bench);
    let bindings = MeshMessage::Bindings { ask, targets: Vec::new() };
    bench.input(Input::Mesh { from: ShardId(1), message: bindings.clone() });
    bench.only(ANN, "SIP/2.0 480");
    bench.input(Input::Mesh { from: ShardId(1), message: bindings });
    assert!(bench.heard(ANN).is_empty(), "it was answered already");
    send(&mut bench, &target, &names[1], "Lunch?");
    let ask = asked(&mut bench);
    let phone = call::io::BindingTarget {
        uri: b"sip:away@10.0.0.77".to_vec(),
        destination: shared::net::Destination {
            transport: shared::net::Transport::Udp,
            local: world::US.parse().expect("an address"),
            peer: BEN.parse().expect("an address"),
            flow: None,
            shows: None,
        },
        path: Vec::new(),
        q: 1_000,
    };
    let message = MeshMessage::Bindings { ask, targets: vec![phone] };
    bench.input(Input::Mesh { from: ShardId(1), message });
    let ben = bench.only(BEN, "MESSAGE sip:away@10.0.0.77");
    bench.say(BEN, &answer(&ben, "200 OK", "ben", "", ""));
    bench.only(ANN, "SIP/2.0 200");
    send(&mut bench, &target, &names[2], "Lunch?");
    bench.pass(Duration::from_secs(2));
    let refused = bench.only(ANN, "SIP/2.0 503");
    assert!(!header(&refused, "Retry-After").is_empty());
    bench.assert_quiet();
}

#[test]
fn a_gateway_that_leaves_takes_no_more() {
    let mut bench = bench();
    send(&mut bench, "sip:1002@pbx.test", "a", "Lunch?");
    bench.only(BEN, "MESSAGE");
    bench.input(Input::Command(Command::Drain));
    bench.say(ANN, &text("1001", ANN, "sip:1002@pbx.test", "b", "", "Lunch?"));
    bench.only(ANN, "SIP/2.0 503");
    bench.input(Input::Command(Command::Stop));
    bench.only(ANN, "SIP/2.0 503");
    assert_eq!(bench.core.census().messages, 0);
}
