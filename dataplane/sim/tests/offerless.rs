//! INVITEs without an offer: the callee offers, the caller answers in the ACK (RFC 3261 13.2.1).
//! Owns:  first INVITEs and re-INVITEs without SDP.
//! Gives: media both ways; an ACK with an answer on the callee's leg.
//! Never: a 2xx without an offer, an ACK without an answer.
//! Holds: when no ACK comes, both legs end.

use std::time::Duration;

use sim::phone::Ending;
use sim::phone::plan::{AckPlan, CallerPlan, Step};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn run(plan: CallerPlan) -> Result<World, Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
    let mut world = World::started(WorldSettings::calm(30), &phones)?;
    world.call(0, plan);
    world.run_for(Duration::from_secs(90))?;
    Ok(world)
}

#[test]
fn the_callee_offers_and_the_caller_answers_in_its_ack() -> Result<(), Failure> {
    let mut world = run(CallerPlan { offer: false, ..CallerPlan::to("sip:1002@ringgate.test") })?;
    let (one, two) = (world.phone(0).usage(0), world.phone(1).usage(0));
    assert!(one.report.packets_heard >= 5 && two.report.packets_heard >= 5);
    assert!(!two.report.unacknowledged);
    world.finish().map(drop)
}

#[test]
fn a_re_invite_without_offer_asks_for_one() -> Result<(), Failure> {
    let steps = vec![(Duration::from_secs(3), Step::OfferlessReInvite)];
    let mut world = run(CallerPlan { steps, ..CallerPlan::to("sip:1002@ringgate.test") })?;
    assert_eq!(world.noted().answers("INVITE", 200).count(), 2);
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}

#[test]
fn an_answer_that_never_comes_ends_both_legs() -> Result<(), Failure> {
    let ack = AckPlan::Never;
    let mut world =
        run(CallerPlan { offer: false, ack, ..CallerPlan::to("sip:1002@ringgate.test") })?;
    assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::RemoteBye));
    assert!(world.phone(1).usage(0).report.ending.is_some());
    world.finish().map(drop)
}
