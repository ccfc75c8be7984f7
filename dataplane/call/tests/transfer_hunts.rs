//! Transfers of calls that a hunt has found somebody for, and callers who are answered before: hunt and
//! command never mix.
//! Owns:  what is left of a hunt when its call is transferred or accepted.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: a target of the hunt is not called, and not joined, because of a transfer.

mod world;

use std::time::Duration;

use call::Input;
use shared::act::{Acted, CallAction, CallName, Refusal};
use shared::ask::{
    Ask, Decision, Forward, Orders, RouteDecision, RouteTarget, Strategy, TargetAddress,
};
use shared::command::Command;
use shared::event::{Answer, Event};
use shared::ids::Side;
use shared::net::Transport;
use shared::snapshot::{HttpRouterRules, RemoteUsers, Snapshot};
use world::{ANN, BEN, Bench, answer, established, from_ann, header, sdp, settings, snapshot, tag};

const CLEO: &str = "10.0.0.13:5060";
const FIRST: &str = "10.0.0.77:5070";
const SECOND: &str = "10.0.0.78:5070";
const RING: Duration = Duration::from_secs(5);

fn target(at: &str) -> RouteTarget {
    let peer = at.parse().expect("an address");
    let at_peer = TargetAddress { transport: Transport::Udp, peer, local: None };
    RouteTarget { uri: format!("sip:bot@{at}"), at: Some(at_peer) }
}

/// Ann calls; the router wants the first tried, then the second. The INVITE that the first saw.
fn hunting() -> (Bench, String) {
    let rules = HttpRouterRules { budget: Duration::from_secs(1), fallback_to_static: true };
    let mut bench = Bench::with(settings(), Snapshot { http_router: Some(rules), ..snapshot() });
    bench.register("1003", CLEO);
    bench.say(ANN, &from_ann("INVITE", "sip:200@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "SIP/2.0 100");
    let mut asks = bench.events.extract_if(.., |event| matches!(event, Event::Asked { .. }));
    let Some(Event::Asked { id, ask, .. }) = asks.next() else { panic!("nothing was asked") };
    assert!(matches!(*ask, Ask::Route(_)), "{ask:?}");
    drop(asks);
    let forward = Forward {
        targets: vec![target(FIRST), target(SECOND)],
        strategy: Strategy::Sequential,
        ring_timeout: Some(RING),
        orders: Orders::default(),
    };
    let decision = Box::new(Decision::Route(RouteDecision::Forward(Box::new(forward))));
    bench.input(Input::Command(Command::Decided { id, decision }));
    let invite = bench.only(FIRST, "INVITE");
    (bench, invite)
}

/// The target at `peer` picks up. Our tag towards Ann.
fn picked_up(bench: &mut Bench, peer: &str, invite: &str) -> String {
    bench.say(peer, &answer(invite, "200 OK", "bot", peer, &sdp("10.0.0.77", 5000)));
    bench.only(peer, "ACK");
    let heard = bench.heard(ANN);
    let ok = heard.iter().find(|text| text.starts_with("SIP/2.0 200")).expect("a 200");
    let ours = tag(&header(ok, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:200@pbx.test", 1, "a1ack", &ours, ""));
    ours
}

fn transfer(bench: &mut Bench, id: u64, target: &str) {
    let call = CallName::Leg("call-ann".into());
    let action = CallAction::Transfer { leaves: Side::Callee, target: target.into() };
    bench.input(Input::Command(Command::Act { id, call, action }));
}

fn outcome(bench: &Bench, id: u64) -> Option<Result<(), Refusal>> {
    bench.events.iter().find_map(|event| match event {
        Event::Answer { id: found, answer: Answer::Acted(acted), .. } if *found == id => {
            Some(match acted {
                Acted::Done { .. } => Ok(()),
                Acted::Refused { why, .. } => Err(*why),
                Acted::UnknownCall => panic!("the call stands"),
            })
        }
        _ => None,
    })
}

#[test]
fn a_transfer_that_fails_does_not_go_on_with_the_hunt() {
    let (mut bench, invite) = hunting();
    picked_up(&mut bench, FIRST, &invite);
    transfer(&mut bench, 1, "1003");
    let cleo = bench.only(CLEO, "INVITE");
    bench.say(CLEO, &answer(&cleo, "486 Busy Here", "cleo", "", ""));
    bench.only(CLEO, "ACK");
    assert_eq!(outcome(&bench, 1), Some(Err(Refusal::TargetFailed(486))));
    transfer(&mut bench, 2, "nobody");
    assert_eq!(outcome(&bench, 2), Some(Err(Refusal::TargetFailed(404))));
    transfer(&mut bench, 3, "1003");
    bench.only(CLEO, "INVITE");
    bench.pass(Duration::from_secs(21));
    assert!(matches!(outcome(&bench, 3), Some(Err(Refusal::TargetFailed(408)))));
    assert!(bench.heard(SECOND).is_empty(), "the second target was not needed");
    assert!(bench.heard(FIRST).is_empty() && bench.heard(ANN).is_empty(), "the call stands");
}

#[test]
fn who_was_given_up_by_the_hunt_is_not_taken_for_the_target() {
    let (mut bench, first) = hunting();
    bench.say(FIRST, &answer(&first, "180 Ringing", "bot", FIRST, ""));
    bench.pass(RING + Duration::from_millis(100));
    let cancel = bench.only(FIRST, "CANCEL");
    bench.say(FIRST, &answer(&cancel, "200 OK", "bot", "", ""));
    let second = bench.only(SECOND, "INVITE");
    picked_up(&mut bench, SECOND, &second);
    transfer(&mut bench, 1, "1003");
    let cleo = bench.only(CLEO, "INVITE");
    // The first one's 200 has crossed our CANCEL, a little late.
    bench.say(FIRST, &answer(&first, "200 OK", "bot", FIRST, &sdp("10.0.0.77", 5000)));
    let heard = bench.heard(FIRST);
    assert!(heard.iter().any(|text| text.starts_with("ACK")), "{heard:#?}");
    assert!(heard.iter().any(|text| text.starts_with("BYE")), "{heard:#?}");
    assert!(bench.heard(CLEO).is_empty() && bench.heard(SECOND).is_empty());
    assert_eq!(outcome(&bench, 1), None);
    bench.say(CLEO, &answer(&cleo, "200 OK", "cleo", CLEO, &sdp("10.0.0.13", 6000)));
    bench.only(CLEO, "ACK");
    assert_eq!(outcome(&bench, 1), Some(Ok(())));
    bench.only(SECOND, "BYE");
}

/// Nobody has picked up, but the caller is answered: the next target is called all the same, and joined.
#[test]
fn the_hunt_goes_on_for_a_caller_whom_a_program_has_answered() {
    let (mut bench, first) = hunting();
    bench.say(FIRST, &answer(&first, "180 Ringing", "bot", FIRST, ""));
    bench.heard(ANN);
    let call = CallName::Leg("call-ann".into());
    let action = CallAction::Accept { sdp: None };
    bench.input(Input::Command(Command::Act { id: 1, call, action }));
    let ours = tag(&header(&bench.only(ANN, "SIP/2.0 200"), "To"));
    bench.say(ANN, &from_ann("ACK", "sip:200@pbx.test", 1, "a1ack", &ours, ""));
    assert_eq!(outcome(&bench, 1), Some(Ok(())));
    bench.pass(RING + Duration::from_millis(100));
    let cancel = bench.only(FIRST, "CANCEL");
    bench.say(FIRST, &answer(&cancel, "200 OK", "bot", "", ""));
    bench.say(FIRST, &answer(&first, "487 Request Terminated", "bot", "", ""));
    let second = bench.only(SECOND, "INVITE");
    assert!(second.contains("m=audio"), "the caller's offer goes there too: {second}");
    bench.say(SECOND, &answer(&second, "200 OK", "bot", SECOND, &sdp("10.0.0.78", 5000)));
    bench.only(SECOND, "ACK");
    assert_eq!(bench.starts.len(), 1, "it was answered once");
    bench.say(SECOND, &second_bye(&second));
    bench.only(SECOND, "SIP/2.0 200");
    assert!(bench.heard(ANN).iter().any(|text| text.starts_with("BYE")));
}

/// BYE of the leg that the INVITE created.
fn second_bye(invite: &str) -> String {
    world::from_called(SECOND, "bot", "BYE", invite, 1, "b1", "")
}

/// A name that a backend may know, and the registrar does not: the rules have the last word.
#[test]
fn a_target_that_only_a_backend_may_know_is_looked_up_and_not_waited_for() {
    let remote_users = Some(RemoteUsers { first: 1, budget: Duration::from_secs(1) });
    let mut bench = Bench::with(settings(), Snapshot { remote_users, ..snapshot() });
    established(&mut bench);
    transfer(&mut bench, 1, "2001");
    assert_eq!(outcome(&bench, 1), Some(Err(Refusal::TargetFailed(480))));
    assert!(bench.heard(BEN).is_empty() && bench.heard(ANN).is_empty());
}
