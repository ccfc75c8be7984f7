//! Certificates of trunks: whose call it is by the client's name (RFC 5922), which of ours a call shows.
//! Owns:  what the core makes of names that the shell has heard over a flow, and of trunks with files.
//! Gives: one test per rule; certificates are the shell's.
//! Never: real time.
//! Holds: without a proved name a caller at an unknown address is asked for a password.

mod world;

use std::sync::Arc;

use call::{Input, MeshMessage};
use shared::cdr::Direction;
use shared::command::Command;
use shared::event::Event;
use shared::ids::{FlowKey, ShardId};
use shared::metrics::Counter;
use shared::net::{Destination, Source, Transport};
use shared::settings::{ClientFiles, ShardSettings};
use shared::snapshot::{Snapshot, Trunk};
use shared::trunk_options::TrunkOptions;
use world::trunks::{trusted, with_trunks};
use world::{ANN, BEN, Bench, answer, from_ann, from_ben, header, sdp, settings};

const US_TLS: &str = "10.0.0.1:5061";
/// Nobody's address: the client comes from wherever it is.
const CLIENT: &str = "10.0.0.55:40000";
const NAME: &str = "sbc.carrier.test";

fn flow(shard: u8) -> FlowKey {
    FlowKey { shard: ShardId(shard), slot: 3, generation: 1 }
}

fn named() -> TrunkOptions {
    TrunkOptions { tls_names: vec![NAME.into()], ..trusted() }
}

fn bench(shards: u8) -> Bench {
    let tls = vec![US_TLS.parse().expect("an address")];
    let settings = ShardSettings { call_auth: true, tls, shards, ..settings() };
    Bench::with(settings, with_trunks(named(), TrunkOptions::default()))
}

fn source(of: FlowKey) -> Source {
    Source {
        transport: Transport::Tls,
        local: US_TLS.parse().expect("an address"),
        peer: CLIENT.parse().expect("an address"),
        flow: Some(of),
    }
}

fn over(bench: &mut Bench, of: FlowKey, text: &str) {
    bench.input(Input::Received { from: source(of), bytes: text.as_bytes() });
}

fn invite(call: &str) -> String {
    from_ann("INVITE", "sip:66@pbx.test", 1, &format!("t{call}"), "", &sdp("10.0.0.55", 7000))
        .replace("SIP/2.0/UDP 10.0.0.11:5060", "SIP/2.0/TLS 10.0.0.55:5061")
        .replace("\"Ann\" <sip:1001@pbx.test>", "<sip:+4989@far.test>")
        .replace("call-ann", &format!("call-{call}"))
}

fn prove(bench: &mut Bench, of: FlowKey, names: &[&str]) {
    let names = names.iter().map(|&name| name.into()).collect();
    bench.input(Input::FlowProved { from: source(of), names });
}

/// The client hears a challenge for its call.
fn challenged(bench: &mut Bench, call: &str) {
    let heard = bench.heard(CLIENT);
    let last = heard.last().expect("an answer");
    assert!(last.starts_with("SIP/2.0 407"), "{heard:?}");
    over(bench, flow(0), &acknowledging(call, last));
}

fn acknowledging(call: &str, answer: &str) -> String {
    from_ann("ACK", "sip:66@pbx.test", 1, &format!("t{call}"), "", "")
        .replace("SIP/2.0/UDP 10.0.0.11:5060", "SIP/2.0/TLS 10.0.0.55:5061")
        .replace("\"Ann\" <sip:1001@pbx.test>", "<sip:+4989@far.test>")
        .replace("call-ann", &format!("call-{call}"))
        .replace("To: <sip:66@pbx.test>", &format!("To: {}", header(answer, "To")))
}

/// The call reaches Ben, who is busy; its record.
fn reaches_ben(bench: &mut Bench) -> shared::cdr::Cdr {
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "486 Busy Here", "ben", "", ""));
    bench.only(BEN, "ACK");
    drop(bench.heard(CLIENT));
    bench.pass(std::time::Duration::from_secs(40)); // the client never acknowledges
    bench.cdrs.pop().expect("a record")
}

#[test]
fn a_call_over_a_flow_that_proved_the_name_is_the_trunks() {
    let mut bench = bench(1);
    bench.register("1002", BEN);
    prove(&mut bench, flow(0), &["elsewhere.test", NAME]);
    over(&mut bench, flow(0), &invite("one"));
    assert_eq!(reaches_ben(&mut bench).direction, Direction::Inbound);
}

#[test]
fn without_a_proof_of_its_own_flow_the_client_is_asked_for_a_password() {
    let mut bench = bench(1);
    bench.register("1002", BEN);
    over(&mut bench, flow(0), &invite("one"));
    challenged(&mut bench, "one");
    prove(&mut bench, flow(7), &[NAME]);
    over(&mut bench, flow(0), &invite("two"));
    challenged(&mut bench, "two");
    // The same place, another tenant.
    let later = FlowKey { generation: 2, ..flow(0) };
    prove(&mut bench, later, &[NAME]);
    over(&mut bench, flow(0), &invite("three"));
    challenged(&mut bench, "three");
    assert_eq!(bench.cut, []);
    bench.assert_quiet();
}

/// Whoever shows a certificate says that it is a trunk.
#[test]
fn a_client_with_the_name_of_no_trunk_is_sent_away_counted_and_named() {
    let mut bench = bench(3);
    prove(&mut bench, flow(0), &["elsewhere.test", "far.test"]);
    assert_eq!(bench.cut, [flow(0)]);
    prove(&mut bench, flow(0), &[]);
    assert_eq!(bench.cut, [flow(0), flow(0)]);
    assert_eq!(bench.core.counters().of(Counter::TlsNamesUnknown), 2);
    assert!(bench.mesh.is_empty(), "no other shard hears of it");
    let lines: Vec<&str> = bench.events.iter().filter_map(notice).collect();
    let line = "security event=tls_name_unknown source=10.0.0.55 port=40000 transport=TLS names=";
    assert_eq!(
        lines,
        [format!("{line}\"elsewhere.test far.test\" count=2"), format!("{line}\"\" count=0")]
    );
    // A trunk that is switched off has no name.
    let mut off = with_trunks(named(), TrunkOptions::default());
    Arc::make_mut(&mut off.trunks)[0].enabled = false;
    let off = Snapshot { generation: 2, ..off };
    bench.input(Input::Command(Command::Publish(Arc::new(off))));
    prove(&mut bench, flow(0), &[NAME]);
    assert_eq!(bench.cut.len(), 3);
}

fn notice(event: &Event) -> Option<&str> {
    match event {
        Event::Notice(notice) => Some(&notice.detail),
        _ => None,
    }
}

/// Neither a flow that ended nor a trunk that goes by another name keeps a right.
#[test]
fn a_name_lasts_as_long_as_its_flow_and_its_trunk() {
    let mut bench = bench(1);
    bench.register("1002", BEN);
    prove(&mut bench, flow(0), &[NAME]);
    let other = TrunkOptions { tls_names: vec!["new.carrier.test".into()], ..trusted() };
    let renamed = Snapshot { generation: 2, ..with_trunks(other, TrunkOptions::default()) };
    bench.input(Input::Command(Command::Publish(Arc::new(renamed))));
    over(&mut bench, flow(0), &invite("one"));
    challenged(&mut bench, "one");
    let again = Snapshot { generation: 3, ..with_trunks(named(), TrunkOptions::default()) };
    bench.input(Input::Command(Command::Publish(Arc::new(again))));
    bench.input(Input::FlowClosed(flow(0)));
    over(&mut bench, flow(0), &invite("two"));
    challenged(&mut bench, "two");
    bench.assert_quiet();
}

/// A call belongs to the shard of its Call-ID, and the flow to the one that accepted it.
#[test]
fn every_shard_hears_of_a_name() {
    let mut bench = bench(3);
    prove(&mut bench, flow(0), &[NAME]);
    let told: Vec<u8> = bench
        .mesh
        .iter()
        .filter(|(_, message)| matches!(message, MeshMessage::FlowProved { .. }))
        .map(|(to, _)| to.0)
        .collect();
    assert_eq!(told, [1, 2]);
    let mut bench = self::bench(1);
    bench.register("1002", BEN);
    let message = MeshMessage::FlowProved { from: source(flow(1)), names: vec![NAME.into()] };
    assert!(message.has_to_arrive());
    bench.input(Input::Mesh { from: ShardId(1), message });
    let (from, text) = (source(flow(1)), invite("one"));
    bench.input(Input::Moved { from, bytes: text.as_bytes() });
    assert_eq!(reaches_ben(&mut bench).direction, Direction::Inbound);
}

/// A carrier at its TLS port that is shown the certificate in `file`.
fn carrier(name: &str, file: &str) -> Trunk {
    let at = "10.0.0.99:5061".parse().expect("an address");
    let files = ClientFiles::new(file.into(), format!("{file}.key").into());
    let options = TrunkOptions { client_files: Some(files), ..trusted() };
    let host = format!("{name}.test");
    Trunk { options: Arc::new(options), ..Trunk::plain(name, &host, at, Transport::Tls) }
}

/// Two customers of one carrier: it knows each by a certificate.
fn two_faces() -> Bench {
    let tls = vec![US_TLS.parse().expect("an address")];
    let settings = ShardSettings { tls, ..settings() };
    let mut snapshot = with_trunks(TrunkOptions::default(), TrunkOptions::default());
    let trunks = vec![carrier("carrier", "a.pem"), carrier("other", "b.pem")];
    snapshot.trunks = Arc::new(trunks);
    Bench::with(settings, snapshot)
}

fn dial(bench: &mut Bench, number: &str) -> (Destination, String) {
    let uri = format!("sip:{number}@pbx.test");
    bench.say(
        ANN,
        &from_ann("INVITE", &uri, 1, number, "", &sdp("10.0.0.11", 4000))
            .replace("call-ann", number),
    );
    let invite = bench.only("10.0.0.99:5061", "INVITE ");
    let way = bench.ways.iter().rfind(|way| way.transport == Transport::Tls);
    (*way.expect("it left"), invite)
}

#[test]
fn each_trunk_is_called_under_its_own_certificate_and_a_lost_connection_is_its_own() {
    let mut bench = two_faces();
    let (first, invite) = dial(&mut bench, "103040");
    let (second, _) = dial(&mut bench, "203040");
    assert_eq!((first.peer, first.flow), (second.peer, None));
    assert!(first.shows.is_some() && second.shows.is_some() && first.shows != second.shows);
    // What happens to one connection is nothing to the calls over the other.
    bench.heard(ANN);
    bench.input(Input::SendFailed(second));
    let heard = bench.heard(ANN);
    let failed: Vec<_> = heard.iter().filter(|text| text.contains("Call-ID: 203040")).collect();
    assert!(
        failed.len() == 1 && heard.len() == 1 && failed[0].starts_with("SIP/2.0 5"),
        "{heard:?}"
    );
    let from = Source { peer: first.peer, ..source(flow(0)) };
    let busy = answer(&invite, "486 Busy Here", "far", "", "");
    bench.input(Input::Received { from, bytes: busy.as_bytes() });
    bench.only("10.0.0.99:5061", "ACK ");
    assert!(bench.only(ANN, "SIP/2.0 486").contains("Call-ID: 103040"));
}

/// The handshake that the first carrier refuses is a failed try as any other.
#[test]
fn a_refused_handshake_passes_the_call_on_to_the_next_trunk_at_once() {
    let mut bench = two_faces();
    let (first, invite) = dial(&mut bench, "303040");
    let before = bench.now;
    bench.input(Input::SendFailed(first));
    let again = bench.only("10.0.0.99:5061", "INVITE ");
    assert_eq!(bench.now, before);
    assert_ne!(header(&invite, "Via"), header(&again, "Via"));
    let second = bench.ways.iter().rfind(|way| way.transport == Transport::Tls).expect("it left");
    assert!(second.shows.is_some() && second.shows != first.shows);
}

/// The carrier has called us over the connection that we opened; when that is gone, our BYE finds the way
/// back under the certificate that the carrier knows.
#[test]
fn after_its_flow_a_call_of_the_carrier_goes_on_under_the_same_certificate() {
    let mut bench = two_faces();
    bench.register("1002", BEN);
    let at = "10.0.0.99:5061";
    let from = Source { peer: at.parse().expect("an address"), ..source(flow(0)) };
    let text = invite("one").replace("10.0.0.55", "10.0.0.99");
    bench.input(Input::Received { from, bytes: text.as_bytes() });
    let invite = bench.only(BEN, "INVITE ");
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    let heard = bench.heard(at);
    let ok = heard.last().expect("the answer");
    assert!(ok.starts_with("SIP/2.0 200"), "{heard:?}");
    let ack = acknowledging("one", ok).replace("10.0.0.55", "10.0.0.99");
    bench.input(Input::Received { from, bytes: ack.as_bytes() });
    bench.only(BEN, "ACK ");
    bench.input(Input::FlowClosed(flow(0)));
    bench.say(BEN, &from_ben("BYE", &invite, 1, "b1", ""));
    bench.only(at, "BYE ");
    let way = bench.ways.iter().rfind(|way| way.transport == Transport::Tls).expect("it left");
    let files = carrier("carrier", "a.pem").options.client_files.clone();
    assert_eq!((way.flow, way.shows), (None, files.map(|files| files.id)));
}
