//! Two trunks with options of their own, and a rule that sends the calls of each to the other.
//! Owns:  the addresses, the rules.
//! Gives: a bench with them, calls of a user with a password and calls of a trunk.
//! Never: a trunk that asks for credentials.
//! Holds: numbers that begin with 1 go to the first, with 2 to the second, with 6 to extension 1002.
#![allow(dead_code, unreachable_pub)] // each test uses its part

use std::sync::Arc;

use shared::net::Transport;
use shared::route::{Emergency, RouteTable};
use shared::settings::ShardSettings;
use shared::snapshot::{Snapshot, Trunk, User};
use shared::trunk_options::TrunkOptions;

use super::{
    ANN, BEN, Bench, CARRIER, answer, from_ann, from_called, header, sdp, settings, snapshot, tag,
};

pub const OTHER: &str = "10.0.0.98:5060";
/// What the bench answers 112 with.
const EMERGENCY: &str = "112";

pub fn trusted() -> TrunkOptions {
    TrunkOptions { trusted: true, ..TrunkOptions::default() }
}

pub fn trunk(name: &str, at: &str, options: TrunkOptions) -> Trunk {
    let host = format!("{name}.test");
    let at = at.parse().expect("an address");
    Trunk { options: Arc::new(options), ..Trunk::plain(name, &host, at, Transport::Udp) }
}

fn rules() -> RouteTable {
    let documents = [
        serde_json::json!({ "name": "one", "match": { "to.user": "^1\\d{5}$" }, "dest": "carrier" }),
        serde_json::json!({ "name": "two", "match": { "to.user": "^2\\d{5}$" }, "dest": "other" }),
        serde_json::json!({
            "name": "both", "match": { "to.user": "^3\\d{5}$" }, "dest": ["carrier", "other"],
            "select": "sequential",
        }),
        serde_json::json!({
            "name": "in", "match": { "to.user": "^6" }, "rewrite": { "to.user": "1002" },
        }),
    ];
    let mut flaws = shared::document::Flaws::default();
    let read = |document| shared::route::check(document, &Default::default(), &mut flaws);
    let routes: Vec<_> = documents.iter().filter_map(read).collect();
    assert_eq!((routes.len(), &flaws), (4, &Default::default()));
    let emergency = Emergency { numbers: vec![EMERGENCY.into()], trunk: "other".into() };
    RouteTable::sorted(routes, Some(emergency))
}

pub fn with_trunks(carrier: TrunkOptions, other: TrunkOptions) -> Snapshot {
    let mut snapshot = snapshot();
    let users = Arc::make_mut(&mut snapshot.users);
    let ann = User { display_name: Some("Ann \"A\" Lee".into()), ..(*users["1001"]).clone() };
    users.insert("1001".into(), Arc::new(ann));
    let trunks = vec![trunk("carrier", CARRIER, carrier), trunk("other", OTHER, other)];
    Snapshot { trunks: Arc::new(trunks), routes: Arc::new(rules()), ..snapshot }
}

/// Calls of users want a password.
pub fn bench(carrier: TrunkOptions, other: TrunkOptions) -> Bench {
    let settings = ShardSettings { call_auth: true, ..settings() };
    let mut bench = Bench::with(settings, with_trunks(carrier, other));
    bench.register("1002", BEN);
    bench
}

/// A message with more header lines.
pub fn adding(text: &str, lines: &str) -> String {
    text.replacen("Max-Forwards: 70\r\n", &format!("Max-Forwards: 70\r\n{lines}"), 1)
}

/// Ann calls a number with her password; the INVITE has these lines more.
pub fn ann_calls(bench: &mut Bench, number: &str, lines: &str) {
    ann_offers(bench, number, lines, &sdp("10.0.0.11", 4000));
}

pub fn ann_offers(bench: &mut Bench, number: &str, lines: &str, offer: &str) {
    ann_invites(bench, number, lines, offer, |text| text);
}

/// The same with an INVITE that is dressed otherwise.
pub fn ann_calls_as(
    bench: &mut Bench,
    number: &str,
    lines: &str,
    dress: impl Fn(String) -> String,
) {
    ann_invites(bench, number, lines, &sdp("10.0.0.11", 4000), dress);
}

fn ann_invites(
    bench: &mut Bench,
    number: &str,
    lines: &str,
    offer: &str,
    dress: impl Fn(String) -> String,
) {
    let uri = format!("sip:{number}@pbx.test");
    let invite = |cseq, branch| {
        let text = dress(from_ann("INVITE", &uri, cseq, branch, "", offer));
        adding(&text, lines)
    };
    bench.say(ANN, &invite(1, "a1"));
    let heard = bench.only(ANN, "SIP/2.0 407");
    bench.say(ANN, &from_ann("ACK", &uri, 1, "a1", &tag(&header(&heard, "To")), ""));
    let challenge = header(&heard, "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(challenge.as_bytes()).expect("a challenge");
    let own = sip::auth::answer(&parsed, "1001", "secret-1001", "INVITE", &uri, 1, "abc");
    bench.say(ANN, &adding(&invite(2, "a2"), &format!("Proxy-Authorization: {own}\r\n")));
    trying(bench, ANN);
}

/// Somebody behind a trunk calls a number.
pub fn trunk_calls(bench: &mut Bench, at: &str, number: &str, lines: &str) {
    let offer = sdp(at.split(':').next().expect("an address"), 7000);
    let uri = format!("sip:{number}@pbx.test");
    let invite = from_ann("INVITE", &uri, 1, "t1", "", &offer)
        .replace(ANN, at)
        .replace("\"Ann\" <sip:1001@pbx.test>", "\"Zoe\" <sip:+4989@far.test>");
    bench.say(at, &adding(&invite, lines));
    trying(bench, at);
}

/// The caller has heard 100; what it heard after that stays to be heard.
fn trying(bench: &mut Bench, at: &str) {
    let heard = bench.heard(at);
    assert!(heard.first().is_some_and(|text| text.starts_with("SIP/2.0 100")), "{heard:?}");
    let peer = at.parse().expect("an address");
    bench.sent.extend(heard.into_iter().skip(1).map(|text| (peer, text)));
}

/// Whoever was called picks up, and hangs up again. `caller`: who hears that.
pub fn answered_and_over(bench: &mut Bench, caller: &str, called: &str, invite: &str) -> String {
    let ip = called.split(':').next().expect("an address");
    bench.say(called, &answer(invite, "200 OK", "cld", called, &sdp(ip, 6000)));
    bench.only(called, "ACK");
    let ok = bench.only(caller, "SIP/2.0 200");
    acknowledge(bench, caller, &ok);
    let bye = from_called(called, "cld", "BYE", invite, 7, "bye7", "");
    bench.say(called, &bye);
    bench.only(called, "SIP/2.0 200");
    let bye = bench.only(caller, "BYE");
    bench.say(caller, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
    ok
}

/// The caller's ACK of our final response.
pub fn acknowledge(bench: &mut Bench, caller: &str, response: &str) {
    let (from, to) = (header(response, "From"), header(response, "To"));
    let (call_id, cseq) = (header(response, "Call-ID"), header(response, "CSeq"));
    let number = cseq.split(' ').next().expect("a number");
    let is_success = response.starts_with("SIP/2.0 2");
    let via = header(response, "Via");
    let branch = via.split("branch=").nth(1).and_then(|rest| rest.split(';').next());
    let branch = if is_success { "z9hG4bKack" } else { branch.expect("a branch") };
    let text = format!(
        "ACK sip:gateway@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {caller};branch={branch};rport\r\n\
         Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
         CSeq: {number} ACK\r\nContent-Length: 0\r\n\r\n"
    );
    bench.say(caller, &text);
}

/// The caller hears that it failed, and nothing is left.
pub fn failed(bench: &mut Bench, caller: &str, status: &str) {
    let heard = bench.only(caller, &format!("SIP/2.0 {status}"));
    acknowledge(bench, caller, &heard);
    bench.assert_quiet();
}

/// Whoever was called is busy.
pub fn busy(bench: &mut Bench, caller: &str, called: &str, invite: &str) {
    bench.say(called, &answer(invite, "486 Busy Here", "cld", "", ""));
    bench.only(called, "ACK");
    failed(bench, caller, "486");
}

pub fn lines_of(text: &str, name: &str) -> Vec<String> {
    let start = format!("{}: ", name.to_ascii_lowercase());
    let own = text.lines().filter(|line| line.to_ascii_lowercase().starts_with(&start));
    own.map(|line| line[start.len()..].to_owned()).collect()
}
