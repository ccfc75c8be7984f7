//! A trunk's other destination takes over in transfers and in calls that we make, as in routed calls.
//! Owns:  who is tried after whom, what counts against the trunk, what the record tells.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: after each test nothing is left in the core, and nothing counts against the trunk.

mod world;

use std::sync::Arc;
use std::time::Duration;

use call::Input;
use shared::act::{CallAction, CallName, Refusal};
use shared::cdr::LegEventType;
use shared::command::Command;
use shared::ids::Side;
use shared::metrics::Counter;
use shared::net::Transport;
use shared::originate::Originate;
use shared::snapshot::{Entrance, Snapshot, Trunk};
use world::acting::{act, only_answer};
use world::{
    ANN, BEN, Bench, CARRIER, answer, established, from_ann, from_called, header, sdp, settings,
    snapshot, tag,
};

const BACKUP: &str = "10.0.0.98:5060";
const NUMBER: &str = "sip:0123456@carrier.test";

fn bench(terms: impl Fn(Trunk) -> Trunk) -> Bench {
    let [first, second] = [CARRIER, BACKUP].map(|at| at.parse().expect("an address"));
    let trunk = Trunk::plain("carrier", "carrier.test", first, Transport::Udp);
    let trunk = terms(trunk.with_backup(Entrance::plain("backup.test", second, Transport::Udp)));
    Bench::with(settings(), Snapshot { trunks: Arc::new(vec![trunk]), ..snapshot() })
}

fn transfer(bench: &mut Bench) {
    let action = CallAction::Transfer { leaves: Side::Caller, target: NUMBER.into() };
    act(bench, 1, CallName::Leg("call-ann".into()), action);
}

fn refuse(bench: &mut Bench, peer: &str, status: &str) {
    let invite = bench.only(peer, "INVITE");
    bench.say(peer, &answer(&invite, status, "no", "", ""));
    bench.only(peer, "ACK");
}

fn pick_up(bench: &mut Bench, peer: &str) -> String {
    let invite = bench.only(peer, "INVITE");
    let ip = peer.split(':').next().expect("an address");
    bench.say(peer, &answer(&invite, "200 OK", "yes", peer, &sdp(ip, 5000)));
    bench.only(peer, "ACK");
    invite
}

/// The phone at `peer` answers the BYE that it was sent.
fn is_let_go(bench: &mut Bench, peer: &str) {
    let bye = bench.only(peer, "BYE");
    bench.say(peer, &answer(&bye, "200 OK", "", "", ""));
}

fn hang_up(bench: &mut Bench, peer: &str, invite: &str) {
    bench.say(peer, &from_called(peer, "yes", "BYE", invite, 1, "bye", ""));
    bench.only(peer, "SIP/2.0 200");
}

fn close(bench: &mut Bench) {
    bench.assert_quiet();
    assert_eq!(bench.core.census().trunk_calls, 0);
}

#[test]
fn a_transfer_goes_on_to_the_trunks_other_destination() {
    let mut bench = bench(|trunk| Trunk { max_calls: Some(1), max_cps: Some(1), ..trunk });
    established(&mut bench);
    transfer(&mut bench);
    refuse(&mut bench, CARRIER, "503 Not Now");
    let invite = pick_up(&mut bench, BACKUP);
    assert_eq!(only_answer(&mut bench, 1), Ok(()));
    is_let_go(&mut bench, ANN);
    assert_eq!(bench.core.census().trunk_calls, 1);
    assert_eq!(bench.core.counters_seen().of(Counter::TrunkFailovers), 1);
    hang_up(&mut bench, BACKUP, &invite);
    is_let_go(&mut bench, BEN);
    close(&mut bench);
    let kinds = bench.cdrs[0].leg_timeline.events.iter().map(|event| event.event_type);
    let kinds: Vec<_> = kinds.collect();
    use LegEventType::{Added, Removed, TransferAccepted, Transferred};
    assert_eq!(kinds, [Transferred, Removed, Added, TransferAccepted, Removed]);
}

/// Silence is a failure after the time that the trunk is given, and not after the whole ring time.
#[test]
fn a_silent_destination_of_a_transfer_is_left() {
    let mut bench = bench(|trunk| trunk);
    established(&mut bench);
    transfer(&mut bench);
    assert!(bench.only(CARRIER, "INVITE").contains("m=audio"));
    bench.pass(Duration::from_millis(5_100));
    let invite = pick_up(&mut bench, BACKUP);
    assert_eq!(only_answer(&mut bench, 1), Ok(()));
    bench.heard(CARRIER);
    is_let_go(&mut bench, ANN);
    hang_up(&mut bench, BACKUP, &invite);
    is_let_go(&mut bench, BEN);
    close(&mut bench);
}

/// Busy is an answer; and when nobody is left, the call stays as it was.
#[test]
fn what_is_an_answer_is_no_reason_to_try_another() {
    let mut bench = bench(|trunk| trunk);
    let (_, ours) = established(&mut bench);
    transfer(&mut bench);
    refuse(&mut bench, CARRIER, "486 Busy Here");
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::TargetFailed(486)));
    transfer(&mut bench);
    refuse(&mut bench, CARRIER, "500 Broken");
    refuse(&mut bench, BACKUP, "500 Broken");
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::TargetFailed(500)));
    assert_eq!(bench.core.census().trunk_calls, 0);
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 9, "bye", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    is_let_go(&mut bench, BEN);
    close(&mut bench);
}

fn originate(bench: &mut Bench, from: &str, to: &str) {
    let wanted = Originate { from: from.into(), to: to.into(), ..Originate::default() };
    let wanted = Box::new(wanted);
    bench.input(Input::Command(Command::Originate { id: 7, wanted }));
}

#[test]
fn either_party_of_a_call_that_we_make_is_called_by_the_other_destination() {
    let mut bench = bench(|trunk| Trunk { max_calls: Some(1), ..trunk });
    bench.register("1001", ANN);
    originate(&mut bench, "1001", NUMBER);
    pick_up(&mut bench, ANN);
    refuse(&mut bench, CARRIER, "503 Not Now");
    let invite = pick_up(&mut bench, BACKUP);
    assert!(header(&invite, "From").starts_with("<sip:1001@pbx.test>"), "{invite}");
    hang_up(&mut bench, BACKUP, &invite);
    is_let_go(&mut bench, ANN);
    close(&mut bench);

    originate(&mut bench, NUMBER, "1001");
    refuse(&mut bench, CARRIER, "503 Not Now");
    let first = pick_up(&mut bench, BACKUP);
    assert!(first.contains("m=audio"), "{first}");
    let second = pick_up(&mut bench, ANN);
    hang_up(&mut bench, ANN, &second);
    is_let_go(&mut bench, BACKUP);
    close(&mut bench);
    let trunks = bench.cdrs.iter().map(|cdr| cdr.outbound_trunk.as_deref());
    assert_eq!(trunks.collect::<Vec<_>>(), [Some("carrier"); 2]);
    assert!(bench.cdrs.iter().all(|cdr| cdr.status_code == 200), "{:#?}", bench.cdrs);
}

#[test]
fn a_call_that_we_make_ends_when_nobody_is_left() {
    let mut bench = bench(|trunk| trunk);
    bench.register("1001", ANN);
    originate(&mut bench, "1001", NUMBER);
    pick_up(&mut bench, ANN);
    refuse(&mut bench, CARRIER, "503 Not Now");
    refuse(&mut bench, BACKUP, "503 Not Now");
    is_let_go(&mut bench, ANN);
    close(&mut bench);
    assert_eq!(bench.cdrs[0].hangup_messages.len(), 2, "one of each: {:#?}", bench.cdrs);
}

/// A call counts once per second and trunk, not once for each destination that it tries there.
#[test]
fn a_second_try_at_a_trunk_is_no_second_call_of_that_second() {
    let mut bench = bench(|trunk| Trunk { max_cps: Some(1), ..trunk });
    let invite = from_ann("INVITE", NUMBER, 1, "a1", "", &sdp("10.0.0.11", 4000));
    bench.say(ANN, &invite);
    bench.only(ANN, "SIP/2.0 100");
    refuse(&mut bench, CARRIER, "503 Not Now");
    let other = bench.only(BACKUP, "INVITE");
    // The next call of that second is one too many.
    let second = invite.replace("call-ann", "call-two").replace("z9hG4bKa1", "z9hG4bKb1");
    bench.say(ANN, &second);
    let refused = bench.heard(ANN).pop().expect("an answer");
    assert!(refused.starts_with("SIP/2.0 503"), "{refused}");
    bench.say(BACKUP, &answer(&other, "486 Busy Here", "no", "", ""));
    bench.only(BACKUP, "ACK");
    let busy = bench.only(ANN, "SIP/2.0 486");
    let ack = from_ann("ACK", NUMBER, 1, "a1", &tag(&header(&busy, "To")), "");
    bench.say(ANN, &ack);
    close(&mut bench);
}
