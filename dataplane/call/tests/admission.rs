//! Sources that the acl refuses, on the bench: silence outside of dialogs, and nothing cut off.
//! Owns:  one test per rule of `Core::admits`.
//! Gives: raw text in, raw text out.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use std::sync::Arc;

use shared::acl::{Acl, AclRule};
use shared::command::Command;
use shared::snapshot::Snapshot;
use world::{
    ANN, BEN, Bench, CARRIER, answer, established, from_ann, register, sdp, settings, snapshot,
};

fn acl(rules: &[&str]) -> Arc<Acl> {
    let rules = rules.iter().map(|rule| AclRule::parse(rule).expect("a rule"));
    Arc::new(Acl(rules.collect()))
}

fn bench(rules: &[&str]) -> Bench {
    Bench::with(settings(), Snapshot { acl: acl(rules), ..snapshot() })
}

fn publish(bench: &mut Bench, generation: u64, rules: &[&str]) {
    let next = Snapshot { generation, acl: acl(rules), ..snapshot() };
    bench.input(call::Input::Command(Command::Publish(Arc::new(next))));
}

#[test]
fn a_refused_source_hears_nothing_until_the_rules_change() {
    let mut bench = bench(&["allow 10.0.0.12", "deny all"]);
    let invite = from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4_000));
    bench.say(ANN, &invite);
    bench.say(ANN, &register("1001", ANN, 1, ""));
    assert_eq!(bench.heard(ANN), [""; 0]);
    bench.register("1002", BEN);
    publish(&mut bench, 2, &["allow 10.0.0.0/24"]);
    bench.say(ANN, &register("1001", ANN, 2, ""));
    bench.only(ANN, "SIP/2.0 401");
    bench.assert_quiet();
}

#[test]
fn a_trunk_needs_no_rule() {
    let mut bench = bench(&["deny all"]);
    let text = from_ann("OPTIONS", "sip:1001@pbx.test", 1, "o1", "", "");
    bench.say(CARRIER, &text.replace(ANN, CARRIER));
    bench.only(CARRIER, "SIP/2.0 200");
    bench.say(BEN, &text.replace(ANN, BEN));
    assert_eq!(bench.heard(BEN), [""; 0]);
    bench.assert_quiet();
}

#[test]
fn a_standing_call_goes_on_when_its_source_is_refused_later() {
    let mut bench = bench(&[]);
    let (_, ours) = established(&mut bench);
    publish(&mut bench, 2, &["deny all"]);
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
}
