//! A caller that gives up, early and too late (RFC 3261 9, 15).
//! Owns:  CANCEL before, during and after the answer.
//! Gives: 487 to the caller and CANCEL to the phone, or an answered call that ends with BYE.
//! Never: a phone that rings on.
//! Holds: exactly one final answer, whichever way the race goes.

use std::time::Duration;

use shared::cdr::HangupReason;
use sim::phone::Ending;
use sim::phone::plan::{CalleePlan, CallerPlan, Outcome};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn run(callee: CalleePlan, cancel_after_ms: u64) -> Result<World, Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
    let mut world = World::started(WorldSettings::calm(2), &phones)?;
    world.phone_mut(1).expect_call(callee);
    let cancel_after = Some(Duration::from_millis(cancel_after_ms));
    world.call(0, CallerPlan { cancel_after, ..CallerPlan::to("sip:1002@ringgate.test") });
    world.run_for(Duration::from_secs(20))?;
    Ok(world)
}

#[test]
fn a_cancelled_call_ends_with_487_and_the_phone_stops_ringing() -> Result<(), Failure> {
    let mut world = run(CalleePlan::ring_forever(), 3_000)?;
    assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::Cancelled));
    assert_eq!(world.phone(1).usage(0).report.ending, Some(Ending::Cancelled));
    assert_eq!(world.noted().requests("CANCEL").count(), 1);
    let record = world.noted().record();
    assert_eq!((record.status_code, record.hangup_reason), (487, HangupReason::Canceled));
    world.finish().map(drop)
}

/// The CANCEL leaves the caller just before the 200 reaches it: the call was answered, so the
/// caller acknowledges and says BYE (RFC 3261 9.1).
#[test]
fn a_cancel_that_crosses_the_answer_changes_nothing() -> Result<(), Failure> {
    let callee =
        CalleePlan { outcome: Outcome::Answer(Duration::from_secs(2)), ..CalleePlan::answer() };
    // INVITE, 407, INVITE again, INVITE to the phone; the 200 comes back two trips later.
    let mut world = run(callee, 2_027)?;
    assert_eq!(world.phone(0).usage(0).report.final_status, Some(200));
    assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::LocalBye));
    assert_eq!(world.phone(1).usage(0).report.ending, Some(Ending::RemoteBye));
    assert!(world.noted().answers("CANCEL", 200).next().is_some(), "the CANCEL was answered");
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}

/// The CANCEL reaches the gateway while the phone's 200 is on its way to it: the caller hears 487,
/// the phone an ACK and a BYE (RFC 3261 9.1, 13.2.2.4).
#[test]
fn an_answer_that_comes_after_the_cancel_is_acknowledged_and_ended() -> Result<(), Failure> {
    let callee =
        CalleePlan { outcome: Outcome::Answer(Duration::from_secs(2)), ..CalleePlan::answer() };
    let mut world = run(callee, 2_017)?;
    assert_eq!(world.phone(0).usage(0).report.final_status, Some(487));
    let phone = &world.phone(1).usage(0).report;
    assert_eq!((phone.final_status, phone.ending), (Some(200), Some(Ending::RemoteBye)));
    assert_eq!(world.noted().record().status_code, 487);
    world.finish().map(drop)
}

/// RFC 3261 9.1: no CANCEL to a phone that said nothing yet; the INVITE is given up instead.
#[test]
fn a_silent_phone_gets_no_cancel() -> Result<(), Failure> {
    let mut world = run(CalleePlan::silent(), 1_000)?;
    assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::Cancelled));
    assert_eq!(world.noted().requests("CANCEL").count(), 0);
    world.finish().map(drop)
}
