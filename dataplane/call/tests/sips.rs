//! WebSocket clients and `sips` addresses, as far as the core decides.
//! Owns:  the rules for who is reached by a flow alone, and for calls that ask for TLS.
//! Gives: one test per rule; frames and handshakes are the shell's.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use std::sync::Arc;

use call::Input;
use shared::act::{CallAction, CallName, Refusal};
use shared::forwarding::Forwarding;
use shared::ids::{FlowKey, ShardId, Side};
use shared::net::{Source, Transport};
use shared::settings::{ShardSettings, WebListeners};
use shared::snapshot::{Snapshot, Trunk, User};
use world::acting::{act, only_answer};
use world::{ANN, BEN, Bench, answer, from_ann, header, register, sdp, settings, snapshot, tag};

const US_TLS: &str = "10.0.0.1:5061";
const US_WSS: &str = "10.0.0.1:8443";
const US_WS: &str = "10.0.0.1:8088";
/// Ends of the connections that phones opened.
const ANN_FLOW: &str = "10.0.0.11:41111";
const BEN_FLOW: &str = "10.0.0.12:42222";
const CARRIER: &str = "10.0.0.98:5061";

fn with_all() -> ShardSettings {
    let at = |text: &str| vec![text.parse().expect("an address")];
    let web = WebListeners { ws: at(US_WS), wss: at(US_WSS), path: "/ws".to_owned() };
    ShardSettings { tls: at(US_TLS), web, ..settings() }
}

fn over(bench: &mut Bench, transport: Transport, peer: &str, text: &str) {
    let local = match transport {
        Transport::Ws => US_WS,
        Transport::Wss => US_WSS,
        _ => US_TLS,
    };
    let peer: std::net::SocketAddr = peer.parse().expect("an address");
    let flow = FlowKey { shard: ShardId(0), slot: u32::from(peer.port()), generation: 1 };
    let local = local.parse().expect("an address");
    let from = Source { transport, local, peer, flow: Some(flow) };
    bench.input(Input::Received { from, bytes: text.as_bytes() });
}

/// Registers 1002 over its flow with this Contact.
fn register_ben(bench: &mut Bench, transport: Transport, contact: &str) {
    let text = |cseq, extra: &str| {
        let text = register("1002", "x9.invalid", cseq, extra);
        let text = text.replace("SIP/2.0/UDP", &format!("SIP/2.0/{}", transport.via_word()));
        text.replace("<sip:1002@x9.invalid>", contact)
    };
    over(bench, transport, BEN_FLOW, &text(1, ""));
    let challenge = bench.only(BEN_FLOW, "SIP/2.0 401");
    let line = header(&challenge, "WWW-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let uri = "sip:pbx.test";
    let credentials = sip::auth::answer(&parsed, "1002", "secret-1002", "REGISTER", uri, 1, "abc");
    over(bench, transport, BEN_FLOW, &text(2, &format!("Authorization: {credentials}\r\n")));
    bench.only(BEN_FLOW, "SIP/2.0 200");
}

/// A request of Ann's over TLS.
fn ann_says(bench: &mut Bench, method: &str, uri: &str, cseq: u32, branch: &str, to: &str) {
    let body = if method == "INVITE" { sdp("10.0.0.11", 4000) } else { String::new() };
    let text = from_ann(method, uri, cseq, branch, to, &body);
    over(bench, Transport::Tls, ANN_FLOW, &text.replace("SIP/2.0/UDP", "SIP/2.0/TLS"));
}

/// Ann calls over TLS and hears this; her ACK of the refusal is sent.
fn refused(bench: &mut Bench, uri: &str, status: &str) {
    ann_says(bench, "INVITE", uri, 1, "a1", "");
    let heard = bench.heard(ANN_FLOW);
    let last = heard.last().expect("an answer");
    assert!(last.starts_with(&format!("SIP/2.0 {status}\r\n")), "{last}");
    let ours = tag(&header(last, "To"));
    ann_says(bench, "ACK", uri, 1, "a1", &ours);
    bench.assert_quiet();
}

/// The host in its Contact exists nowhere, or is a number that means nothing here.
#[test]
fn a_websocket_client_is_reached_by_its_flow_whatever_its_contact_says() {
    for transport in [Transport::Ws, Transport::Wss] {
        let mut bench = Bench::new(with_all());
        register_ben(&mut bench, transport, "<sip:1002@x9.invalid;transport=ws>");
        let text = from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000));
        bench.say(ANN, &text);
        let invite = bench.only(BEN_FLOW, "INVITE sip:1002@x9.invalid;transport=ws ");
        let us = if transport == Transport::Ws { US_WS } else { US_WSS };
        let via = format!("SIP/2.0/{} {us};", transport.via_word());
        assert!(header(&invite, "Via").starts_with(&via), "{invite}");
        assert_eq!(header(&invite, "Contact"), format!("<sip:{us};transport=ws>"));
        let contact = "10.0.0.77:5060;transport=ws";
        let ok = answer(&invite, "200 OK", "ben", contact, &sdp("10.0.0.12", 5000));
        over(&mut bench, transport, BEN_FLOW, &ok);
        bench.only(BEN_FLOW, "ACK sip:phone@10.0.0.77:5060;transport=ws ");
        let heard = bench.heard(ANN);
        let ours = tag(&header(heard.last().expect("an answer"), "To"));
        bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a2", &ours, ""));
        bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a3", &ours, ""));
        let bye = bench.only(BEN_FLOW, "BYE ");
        over(&mut bench, transport, BEN_FLOW, &answer(&bye, "200 OK", "", "", ""));
        bench.assert_quiet();
    }
}

/// RFC 3261 8.1.1.8 and 12.1.1: where the Request-URI is `sips`, Contact is.
#[test]
fn a_sips_address_is_called_where_every_hop_has_tls() {
    let cases = [
        (Transport::Tls, "sip:1002@x9.invalid;transport=tls", "<sip:10.0.0.1:5061;transport=tls>"),
        (Transport::Tls, "sips:1002@x9.invalid", "<sips:10.0.0.1:5061>"),
        (Transport::Wss, "sips:1002@x9.invalid;transport=ws", "<sips:10.0.0.1:8443;transport=ws>"),
    ];
    for (transport, contact, ours) in cases {
        let mut bench = Bench::new(with_all());
        register_ben(&mut bench, transport, &format!("<{contact}>"));
        let uri = "sips:1002@pbx.test";
        ann_says(&mut bench, "INVITE", uri, 1, "a1", "");
        let invite = bench.only(BEN_FLOW, &format!("INVITE {contact} "));
        assert_eq!(header(&invite, "Contact"), ours);
        let ok = answer(&invite, "200 OK", "ben", "x9.invalid", &sdp("10.0.0.12", 5000));
        over(&mut bench, transport, BEN_FLOW, &ok);
        bench.only(BEN_FLOW, "ACK ");
        let heard = bench.heard(ANN_FLOW);
        let answered = heard.last().expect("an answer");
        assert!(answered.starts_with("SIP/2.0 200"), "{answered}");
        assert_eq!(header(answered, "Contact"), "<sips:10.0.0.1:5061>");
        let tag = tag(&header(answered, "To"));
        ann_says(&mut bench, "ACK", "sips:10.0.0.1:5061", 1, "a2", &tag);
        ann_says(&mut bench, "BYE", "sips:10.0.0.1:5061", 2, "a3", &tag);
        let bye = bench.only(BEN_FLOW, "BYE ");
        over(&mut bench, transport, BEN_FLOW, &answer(&bye, "200 OK", "", "", ""));
        bench.assert_quiet();
    }
}

#[test]
fn a_sips_address_that_is_reached_in_the_clear_only_is_480_and_not_called() {
    let mut bench = Bench::new(with_all());
    bench.register("1002", BEN);
    refused(&mut bench, "sips:1002@pbx.test", "480 SIPS Not Allowed");
    assert_eq!(bench.heard(BEN), [""; 0]);

    let mut bench = Bench::new(with_all());
    register_ben(&mut bench, Transport::Ws, "<sip:1002@x9.invalid;transport=ws>");
    refused(&mut bench, "sips:1002@pbx.test", "480 SIPS Not Allowed");
    assert_eq!(bench.heard(BEN_FLOW), [""; 0]);

    let mut bench = Bench::new(with_all());
    refused(&mut bench, "sips:0123456@carrier.test:5060", "480 SIPS Not Allowed");
    assert_eq!(bench.heard(world::CARRIER), [""; 0]);
}

/// Of two phones the one with TLS is called alone.
#[test]
fn a_fork_to_a_sips_address_leaves_out_who_has_no_tls() {
    let mut bench = Bench::new(with_all());
    bench.register("1002", BEN);
    register_ben(&mut bench, Transport::Tls, "<sip:1002@x9.invalid;transport=tls>");
    let uri = "sips:1002@pbx.test";
    ann_says(&mut bench, "INVITE", uri, 1, "a1", "");
    let invite = bench.only(BEN_FLOW, "INVITE ");
    assert_eq!(bench.heard(BEN), [""; 0]);
    let busy = answer(&invite, "486 Busy Here", "ben", "", "");
    over(&mut bench, Transport::Tls, BEN_FLOW, &busy);
    bench.only(BEN_FLOW, "ACK ");
    let heard = bench.heard(ANN_FLOW);
    let last = heard.last().expect("an answer");
    assert!(last.starts_with("SIP/2.0 486"), "{last}");
    let ours = tag(&header(last, "To"));
    ann_says(&mut bench, "ACK", uri, 1, "a1", &ours);
    bench.assert_quiet();
}

#[test]
fn who_asks_for_tls_in_the_clear_is_416() {
    let mut bench = Bench::new(with_all());
    register_ben(&mut bench, Transport::Tls, "<sip:1002@x9.invalid;transport=tls>");
    let uri = "sips:1002@pbx.test";
    bench.say(ANN, &from_ann("INVITE", uri, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    let heard = bench.heard(ANN);
    let last = heard.last().expect("an answer");
    assert!(last.starts_with("SIP/2.0 416"), "{last}");
    let ours = tag(&header(last, "To"));
    bench.say(ANN, &from_ann("ACK", uri, 1, "a1", &ours, ""));
    assert_eq!(bench.heard(BEN_FLOW), [""; 0]);
    bench.assert_quiet();
}

#[test]
fn a_trunk_over_tls_is_called_by_its_sips_address() {
    let carrier = CARRIER.parse().expect("an address");
    let trunk = Trunk::plain("secure", "secure.test", carrier, Transport::Tls);
    let snapshot = Snapshot { trunks: Arc::new(vec![trunk]), ..snapshot() };
    let mut bench = Bench::with(with_all(), snapshot);
    let uri = "sips:0123456@secure.test";
    ann_says(&mut bench, "INVITE", uri, 1, "a1", "");
    let invite = bench.only(CARRIER, &format!("INVITE {uri} "));
    assert_eq!(header(&invite, "Contact"), "<sips:10.0.0.1:5061>");
    over(&mut bench, Transport::Tls, CARRIER, &answer(&invite, "486 Busy Here", "c", "", ""));
    bench.only(CARRIER, "ACK ");
    let heard = bench.heard(ANN_FLOW);
    let ours = tag(&header(heard.last().expect("an answer"), "To"));
    ann_says(&mut bench, "ACK", uri, 1, "a1", &ours);
    bench.assert_quiet();
}

/// Ann and Ben talk over TLS, by Ben's `sips` address. The INVITE that he saw, and our tag towards her.
fn talking(bench: &mut Bench) -> (String, String) {
    register_ben(bench, Transport::Tls, "<sips:1002@x9.invalid>");
    ann_says(bench, "INVITE", "sips:1002@pbx.test", 1, "a1", "");
    let invite = bench.only(BEN_FLOW, "INVITE ");
    let ok = answer(&invite, "200 OK", "ben", "x9.invalid", &sdp("10.0.0.12", 5000));
    over(bench, Transport::Tls, BEN_FLOW, &ok);
    bench.only(BEN_FLOW, "ACK ");
    let heard = bench.heard(ANN_FLOW);
    let ours = tag(&header(heard.last().expect("an answer"), "To"));
    ann_says(bench, "ACK", "sips:10.0.0.1:5061", 1, "a2", &ours);
    (invite, ours)
}

fn hang_up(bench: &mut Bench, ours: &str) {
    ann_says(bench, "BYE", "sips:10.0.0.1:5061", 9, "a9", ours);
    let bye = bench.only(BEN_FLOW, "BYE ");
    over(bench, Transport::Tls, BEN_FLOW, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
}

fn transfer(bench: &mut Bench, id: u64, target: &str) {
    let action = CallAction::Transfer { leaves: Side::Callee, target: target.into() };
    act(bench, id, CallName::Leg("call-ann".into()), action);
}

/// RFC 5630: what was promised to the one who stays holds for whoever comes.
#[test]
fn a_call_that_came_over_tls_is_transferred_to_nobody_in_the_clear() {
    const CLEO: &str = "10.0.0.13:5060";
    let mut bench = Bench::new(with_all());
    let (_, ours) = talking(&mut bench);
    bench.register("1003", CLEO);
    transfer(&mut bench, 1, "sip:1003@pbx.test");
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::TargetFailed(480)));
    assert_eq!(bench.heard(CLEO), [""; 0]);
    transfer(&mut bench, 2, "sips:1003@pbx.test");
    assert_eq!(only_answer(&mut bench, 2), Err(Refusal::TargetFailed(480)));
    assert_eq!(bench.heard(CLEO), [""; 0]);
    hang_up(&mut bench, &ours);
}

/// And a `sips` target is called where both who stays and who comes have TLS.
#[test]
fn a_sips_target_is_called_from_a_call_over_tls_alone() {
    let carrier = CARRIER.parse().expect("an address");
    let trunk = Trunk::plain("secure", "secure.test", carrier, Transport::Tls);
    let snapshot = Snapshot { trunks: Arc::new(vec![trunk]), ..snapshot() };
    let mut bench = Bench::with(with_all(), snapshot.clone());
    let (_, ours) = talking(&mut bench);
    transfer(&mut bench, 1, "sips:0123456@secure.test");
    let invite = bench.only(CARRIER, "INVITE sips:0123456@secure.test ");
    over(&mut bench, Transport::Tls, CARRIER, &answer(&invite, "486 Busy Here", "c", "", ""));
    bench.only(CARRIER, "ACK ");
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::TargetFailed(486)));
    hang_up(&mut bench, &ours);

    let mut bench = Bench::with(with_all(), snapshot);
    let (_, ours) = world::established(&mut bench);
    transfer(&mut bench, 2, "sips:0123456@secure.test");
    assert_eq!(only_answer(&mut bench, 2), Err(Refusal::TargetFailed(416)));
    assert_eq!(bench.heard(CARRIER), [""; 0]);
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 9, "a9", &ours, ""));
    bench.heard(ANN);
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
}

/// Whoever takes a place by Replaces in the clear would break the promise.
#[test]
fn nobody_takes_a_place_in_the_clear_in_a_call_over_tls() {
    let mut bench = Bench::new(with_all());
    let (_, ours) = talking(&mut bench);
    let uri = "sip:1002@pbx.test";
    let with = |text: &str, line: &str| {
        text.replacen("Content-Length", &format!("{line}\r\nContent-Length"), 1)
    };
    let invite = |cseq, line: &str| {
        let text = from_ann("INVITE", uri, cseq, &format!("c{cseq}"), "", &sdp("10.0.0.11", 4100));
        let text = text.replace("call-ann", "call-new").replace("tag=ann", "tag=new");
        let replaces = format!("Replaces: call-ann;to-tag={ours};from-tag=ann");
        with(&with(&text, &replaces), line)
    };
    bench.say(ANN, &invite(1, "X-First: yes"));
    let challenge = bench.only(ANN, "SIP/2.0 407");
    let line = header(&challenge, "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let credentials = sip::auth::answer(&parsed, "1001", "secret-1001", "INVITE", uri, 1, "abc");
    bench.say(ANN, &invite(2, &format!("Proxy-Authorization: {credentials}")));
    bench.only(ANN, "SIP/2.0 480");
    assert_eq!(bench.heard(BEN_FLOW), [""; 0]);
    hang_up(&mut bench, &ours);
}

/// A user may send its calls on to a `sips` address: they go there over TLS or not at all.
#[test]
fn a_forward_to_a_sips_address_leads_over_tls_or_nowhere() {
    let carrier = CARRIER.parse().expect("an address");
    let clear = world::CARRIER.parse().expect("an address");
    for (host, is_called) in [("secure.test", true), ("clear.test", false)] {
        let trunks = vec![
            Trunk::plain("secure", "secure.test", carrier, Transport::Tls),
            Trunk::plain("clear", "clear.test", clear, Transport::Udp),
        ];
        let to = format!("sips:0123456@{host}");
        let wish = Forwarding::read(Some("always"), Some(&to), None).expect("a forwarding");
        let mut users = (*snapshot().users).clone();
        let user = User { forwarding: wish.map(Box::new), ..(*users["1003"]).clone() };
        users.insert("1003".into(), Arc::new(user));
        let users = Arc::new(users);
        let snapshot = Snapshot { trunks: Arc::new(trunks), users, ..snapshot() };
        let mut bench = Bench::with(with_all(), snapshot);
        let uri = "sip:1003@pbx.test";
        ann_says(&mut bench, "INVITE", uri, 1, "a1", "");
        if is_called {
            let invite = bench.only(CARRIER, &format!("INVITE {to} "));
            let busy = answer(&invite, "486 Busy Here", "c", "", "");
            over(&mut bench, Transport::Tls, CARRIER, &busy);
            bench.only(CARRIER, "ACK ");
        }
        assert_eq!(bench.heard(world::CARRIER), [""; 0]);
        let heard = bench.heard(ANN_FLOW);
        let last = heard.last().expect("an answer");
        let status = if is_called { "SIP/2.0 486" } else { "SIP/2.0 480" };
        assert!(last.starts_with(status), "{last}");
        ann_says(&mut bench, "ACK", uri, 1, "a1", &tag(&header(last, "To")));
        bench.assert_quiet();
    }
}
