//! Calls over TLS, as far as the core decides: what Via and Contact say, and where requests go.
//! Owns:  the rules for flows and trunks that are reached over TLS.
//! Gives: one test per rule; the handshake is the shell's.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use std::sync::Arc;

use call::Input;
use shared::ids::{FlowKey, ShardId};
use shared::net::{Source, Transport};
use shared::settings::ShardSettings;
use shared::snapshot::{Snapshot, Trunk};
use world::{ANN, Bench, answer, from_ann, header, register, sdp, settings, snapshot, tag};

const US_TLS: &str = "10.0.0.1:5061";
/// Ben's end of the connection that he opened.
const BEN_TLS: &str = "10.0.0.12:41234";
const CARRIER_TLS: &str = "10.0.0.99:5061";

fn with_tls() -> ShardSettings {
    ShardSettings { tls: vec![US_TLS.parse().expect("an address")], ..settings() }
}

fn over_tls(bench: &mut Bench, peer: &str, text: &str) {
    let from = Source {
        transport: Transport::Tls,
        local: US_TLS.parse().expect("an address"),
        peer: peer.parse().expect("an address"),
        flow: Some(FlowKey { shard: ShardId(0), slot: 3, generation: 1 }),
    };
    bench.input(Input::Received { from, bytes: text.as_bytes() });
}

/// Registers 1002 over its flow, under a Contact where it does not listen.
fn register_ben(bench: &mut Bench) {
    let contact = "10.0.0.12:5061;transport=tls";
    let text = |cseq, extra: &str| {
        let text = register("1002", contact, cseq, extra);
        let text = text.replace(&format!("SIP/2.0/UDP {contact}"), "SIP/2.0/TLS 10.0.0.12:5061");
        text.replace(&format!("reg-1002-{contact}"), "reg-1002")
    };
    over_tls(bench, BEN_TLS, &text(1, ""));
    let challenge = bench.only(BEN_TLS, "SIP/2.0 401");
    let line = header(&challenge, "WWW-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let uri = "sip:pbx.test";
    let credentials = sip::auth::answer(&parsed, "1002", "secret-1002", "REGISTER", uri, 1, "abc");
    over_tls(bench, BEN_TLS, &text(2, &format!("Authorization: {credentials}\r\n")));
    bench.only(BEN_TLS, "SIP/2.0 200");
}

#[test]
fn a_phone_is_called_and_hung_up_over_the_flow_that_it_registered_over() {
    let mut bench = Bench::new(with_tls());
    register_ben(&mut bench);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    let invite = bench.only(BEN_TLS, "INVITE sip:1002@10.0.0.12:5061;transport=tls ");
    assert!(header(&invite, "Via").starts_with("SIP/2.0/TLS 10.0.0.1:5061;"), "{invite}");
    assert_eq!(header(&invite, "Contact"), "<sip:10.0.0.1:5061;transport=tls>");
    let contact = "10.0.0.12:5061;transport=tls";
    let ok = answer(&invite, "200 OK", "ben", contact, &sdp("10.0.0.12", 5000));
    over_tls(&mut bench, BEN_TLS, &ok);
    let ack = bench.only(BEN_TLS, "ACK ");
    assert!(header(&ack, "Via").starts_with("SIP/2.0/TLS "), "{ack}");
    let heard = bench.heard(ANN);
    let answered = heard.last().expect("an answer");
    assert!(answered.starts_with("SIP/2.0 200"), "{answered}");
    assert_eq!(header(answered, "Contact"), "<sip:10.0.0.1:5060>", "Ann is called over UDP");
    let ours = tag(&header(answered, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a2", &ours, ""));
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a3", &ours, ""));
    let bye = bench.only(BEN_TLS, "BYE ");
    over_tls(&mut bench, BEN_TLS, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
}

#[test]
fn a_trunk_over_tls_is_called_by_its_address_whatever_its_contact_says() {
    let carrier = CARRIER_TLS.parse().expect("an address");
    let trunk = Trunk::plain("secure", "secure.test", carrier, Transport::Tls);
    let snapshot = Snapshot { trunks: Arc::new(vec![trunk]), ..snapshot() };
    let mut bench = Bench::with(with_tls(), snapshot);
    // Without a port the one of TLS is meant.
    let target = "sip:0123456@secure.test";
    bench.say(ANN, &from_ann("INVITE", target, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    let invite = bench.only(CARRIER_TLS, "INVITE ");
    assert!(header(&invite, "Via").starts_with("SIP/2.0/TLS 10.0.0.1:5061;"), "{invite}");
    assert_eq!(header(&invite, "Contact"), "<sip:10.0.0.1:5061;transport=tls>");
    let elsewhere = "10.0.0.77:5061;transport=tls";
    let ok = answer(&invite, "200 OK", "carrier", elsewhere, &sdp("10.0.0.99", 5000));
    over_tls(&mut bench, CARRIER_TLS, &ok);
    bench.only(CARRIER_TLS, "ACK sip:phone@10.0.0.77:5061;transport=tls ");
    let heard = bench.heard(ANN);
    let ours = tag(&header(heard.last().expect("an answer"), "To"));
    bench.say(ANN, &from_ann("ACK", target, 1, "a2", &ours, ""));
    bench.say(ANN, &from_ann("BYE", target, 2, "a3", &ours, ""));
    let bye = bench.only(CARRIER_TLS, "BYE ");
    over_tls(&mut bench, CARRIER_TLS, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
}

#[test]
fn without_a_listener_for_it_nothing_goes_over_tls() {
    let carrier = CARRIER_TLS.parse().expect("an address");
    let trunk = Trunk::plain("secure", "secure.test", carrier, Transport::Tls);
    let snapshot = Snapshot { trunks: Arc::new(vec![trunk]), ..snapshot() };
    let mut bench = Bench::with(settings(), snapshot);
    let target = "sip:0123456@secure.test";
    bench.say(ANN, &from_ann("INVITE", target, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    assert_eq!(bench.heard(CARRIER_TLS), [""; 0]);
    let heard = bench.heard(ANN);
    let last = heard.last().expect("an answer");
    assert!(last.starts_with("SIP/2.0 500"), "{last}");
    let ours = tag(&header(last, "To"));
    bench.say(ANN, &from_ann("ACK", target, 1, "a1", &ours, ""));
    bench.assert_quiet();
}
