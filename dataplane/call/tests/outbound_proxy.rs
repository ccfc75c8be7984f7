//! A trunk behind an outbound proxy: where requests go, whom they name, what is recorded
//! (RFC 3261 8.1.2, 12.1.2, 16.12).
//! Owns:  Route and Request-URI of INVITE, ACK, BYE, REGISTER and OPTIONS.
//! Gives: one test per rule; the proxy and what stands behind it are the text of the tests.
//! Never: real time.
//! Holds: the trunk's own host is named by every request, and is sent none.

mod world;

use std::sync::Arc;
use std::time::Duration;

use shared::account::{Account, Registering};
use shared::net::Transport;
use shared::snapshot::{Entrance, HealthChecks, Snapshot, Trunk};
use shared::trunk_options::TrunkOptions;
use world::trunks::{acknowledge, lines_of};
use world::{
    ANN, Bench, CARRIER, answer, from_ann, from_called, header, sdp, settings, snapshot, tag,
};

/// What stands behind the proxy, and is reached when the proxy is not in the way.
const GATEWAY: &str = "10.0.0.77:5060";
const ROUTE: &str = "<sip:edge.test:5080;lr>";
const TARGET: &str = "sip:0123456@carrier.test";

fn trunk() -> Trunk {
    let proxy = CARRIER.parse().expect("an address");
    let entrance = Entrance {
        host: "edge.test".into(),
        port: Some(5_080),
        ..Entrance::plain("edge.test", proxy, Transport::Udp)
    };
    let options = TrunkOptions { route: Some(ROUTE.into()), ..TrunkOptions::default() };
    Trunk {
        port: None,
        entrances: vec![entrance],
        options: Arc::new(options),
        ..Trunk::plain("carrier", "carrier.test", proxy, Transport::Udp)
    }
}

fn bench_with(trunk: Trunk) -> Bench {
    let trunks = Arc::new(vec![trunk]);
    Bench::with(settings(), Snapshot { trunks, ..snapshot() })
}

/// Ann calls out; the INVITE that the proxy got.
fn dial(bench: &mut Bench) -> String {
    bench.say(ANN, &from_ann("INVITE", TARGET, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "SIP/2.0 100");
    bench.only(CARRIER, "INVITE sip:0123456@carrier.test SIP/2.0")
}

/// The call is answered; our tag towards Ann. `routes` is what the answer has recorded.
fn answered(bench: &mut Bench, invite: &str, routes: &str, acks: &str) -> (String, String) {
    let ok = answer(invite, "200 OK", "cld", GATEWAY, &sdp("10.0.0.77", 6000));
    bench.say(CARRIER, &ok.replacen("CSeq: ", &format!("{routes}CSeq: "), 1));
    let ack = bench.only(acks, "ACK");
    let ok = bench.only(ANN, "SIP/2.0 200");
    acknowledge(bench, ANN, &ok);
    (ack, tag(&header(&ok, "To")))
}

fn ann_hangs_up(bench: &mut Bench, ours: &str, at: &str) -> String {
    bench.say(ANN, &from_ann("BYE", TARGET, 2, "a2", ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(at, "BYE");
    bench.say(at, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
    bye
}

#[test]
fn an_invite_goes_to_the_proxy_and_names_the_trunk() {
    let mut bench = bench_with(trunk());
    let invite = dial(&mut bench);
    assert_eq!(lines_of(&invite, "Route"), [ROUTE]);
    bench.say(CARRIER, &answer(&invite, "486 Busy Here", "cld", "", ""));
    // RFC 3261 17.1.1.3: the ACK takes the way of the INVITE.
    let ack = bench.only(CARRIER, "ACK sip:0123456@carrier.test");
    assert_eq!(lines_of(&ack, "Route"), [ROUTE]);
    world::trunks::failed(&mut bench, ANN, "486");
}

/// RFC 3261 12.1.2: the route set is what was recorded, so a proxy that did not stays out.
#[test]
fn a_proxy_that_does_not_record_itself_is_left_after_the_answer() {
    let mut bench = bench_with(trunk());
    let invite = dial(&mut bench);
    let (ack, ours) = answered(&mut bench, &invite, "", GATEWAY);
    assert!(ack.starts_with("ACK sip:phone@10.0.0.77:5060 "), "{ack}");
    assert!(lines_of(&ack, "Route").is_empty(), "{ack}");
    let bye = ann_hangs_up(&mut bench, &ours, GATEWAY);
    assert!(lines_of(&bye, "Route").is_empty(), "{bye}");
}

/// RFC 3261 16.12: what was recorded, the nearest first; the target stays in the Request-URI.
#[test]
fn recorded_routes_are_followed_loosely() {
    let mut bench = bench_with(trunk());
    let invite = dial(&mut bench);
    let routes = "Record-Route: <sip:10.0.0.55;lr>, <sip:10.0.0.99:5060;lr>\r\n";
    let (ack, ours) = answered(&mut bench, &invite, routes, CARRIER);
    let expected = ["<sip:10.0.0.99:5060;lr>", "<sip:10.0.0.55;lr>"];
    assert!(ack.starts_with("ACK sip:phone@10.0.0.77:5060 "), "{ack}");
    assert_eq!(lines_of(&ack, "Route"), expected);
    let bye = ann_hangs_up(&mut bench, &ours, CARRIER);
    assert!(bye.starts_with("BYE sip:phone@10.0.0.77:5060 "), "{bye}");
    assert_eq!(lines_of(&bye, "Route"), expected);
}

/// RFC 3261 16.12.1.1: a router of RFC 2543 wants to be named in the Request-URI.
#[test]
fn a_strict_router_is_named_and_the_target_goes_last() {
    let mut bench = bench_with(trunk());
    let invite = dial(&mut bench);
    let routes = "Record-Route: <sip:10.0.0.55;lr>, <sip:10.0.0.99:5060>\r\n";
    let (ack, ours) = answered(&mut bench, &invite, routes, CARRIER);
    assert!(ack.starts_with("ACK sip:10.0.0.99:5060 "), "{ack}");
    assert_eq!(lines_of(&ack, "Route"), ["<sip:10.0.0.55;lr>", "<sip:phone@10.0.0.77:5060>"]);
    ann_hangs_up(&mut bench, &ours, CARRIER);
}

/// CANCEL goes where its INVITE went (RFC 3261 9.1).
#[test]
fn a_cancel_takes_the_way_of_its_invite() {
    let mut bench = bench_with(trunk());
    let invite = dial(&mut bench);
    bench.say(CARRIER, &answer(&invite, "180 Ringing", "cld", GATEWAY, ""));
    bench.only(ANN, "SIP/2.0 180");
    bench.say(ANN, &from_ann("CANCEL", TARGET, 1, "a1", "", ""));
    let cancel = bench.only(CARRIER, "CANCEL sip:0123456@carrier.test");
    assert_eq!(lines_of(&cancel, "Route"), [ROUTE]);
    bench.say(CARRIER, &answer(&cancel, "200 OK", "cld", "", ""));
    bench.say(CARRIER, &answer(&invite, "487 Request Terminated", "cld", "", ""));
    bench.only(CARRIER, "ACK");
    let heard = bench.heard(ANN);
    let last = heard.last().expect("a final response");
    assert!(last.starts_with("SIP/2.0 487"), "{heard:?}");
    bench.say(ANN, &from_ann("ACK", TARGET, 1, "a1", &tag(&header(last, "To")), ""));
    bench.assert_quiet();
}

#[test]
fn calls_of_the_proxy_are_the_trunks() {
    let mut bench = bench_with(trunk());
    bench.register("1002", world::BEN);
    world::trunks::trunk_calls(&mut bench, CARRIER, "1002", "");
    let invite = bench.only(world::BEN, "INVITE");
    world::trunks::busy(&mut bench, CARRIER, world::BEN, &invite);
    let direction = bench.cdrs.pop().map(|cdr| cdr.direction);
    assert_eq!(direction, Some(shared::cdr::Direction::Inbound));
}

#[test]
fn a_registration_goes_through_the_proxy() {
    let registers = Registering { expires: Duration::from_secs(600), headers: Vec::new() };
    let account = Account::new("4930", "secret").expect("both are plain");
    let account = Account { registers: Some(registers), ..account };
    let mut bench = bench_with(Trunk { account: Some(Arc::new(account)), ..trunk() });
    bench.pass(Duration::from_secs(2));
    let heard = bench.heard(CARRIER);
    let register = heard.first().expect("a REGISTER");
    assert!(register.starts_with("REGISTER sip:carrier.test SIP/2.0"), "{register}");
    assert_eq!(lines_of(register, "Route"), [ROUTE]);
    assert_eq!(header(register, "To"), "<sip:4930@carrier.test>");
    bench.input(call::Input::Command(shared::command::Command::Stop));
    bench.assert_quiet();
}

#[test]
fn a_health_check_goes_through_the_proxy() {
    let checks = HealthChecks { interval: Duration::from_secs(5), ..HealthChecks::default() };
    let mut bench = bench_with(Trunk { health: Some(checks), ..trunk() });
    bench.pass(Duration::from_secs(5));
    let heard = bench.heard(CARRIER);
    let options = heard.first().expect("an OPTIONS");
    assert!(options.starts_with("OPTIONS sip:carrier.test SIP/2.0"), "{options}");
    assert_eq!(lines_of(options, "Route"), [ROUTE]);
    bench.input(call::Input::Command(shared::command::Command::Stop));
    bench.assert_quiet();
}

/// The call that stands goes by what was recorded in the other direction, too.
#[test]
fn a_bye_from_behind_the_proxy_ends_the_call() {
    let mut bench = bench_with(trunk());
    let invite = dial(&mut bench);
    answered(&mut bench, &invite, "", GATEWAY);
    bench.say(GATEWAY, &from_called(GATEWAY, "cld", "BYE", &invite, 5, "b5", ""));
    bench.only(GATEWAY, "SIP/2.0 200");
    let bye = bench.only(ANN, "BYE");
    bench.say(ANN, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
}
