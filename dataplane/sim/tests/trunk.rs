//! Calls from and to a trunk with a static address.
//! Owns:  both directions.
//! Gives: no digest for the trunk, its name in the record.
//! Never: a call between two trunks.
//! Holds: the trunk's early media reaches the caller.

use std::time::Duration;

use shared::cdr::Direction;
use sim::phone::plan::{Callee, CalleePlan, CallerPlan, Ring};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn started() -> Result<World, Failure> {
    let rings = vec![(Duration::from_millis(100), Ring::EarlyMedia)];
    let callee = Callee::Always(CalleePlan { rings, ..CalleePlan::answer() });
    let trunk = PhoneSpec { callee, ..PhoneSpec::trunk() };
    World::started(WorldSettings::calm(60), &[PhoneSpec::user("1001"), trunk])
}

#[test]
fn a_user_calls_a_number_at_the_trunk() -> Result<(), Failure> {
    let mut world = started()?;
    world.call(0, CallerPlan::to("sip:+493012345@carrier.test"));
    world.run_for(Duration::from_millis(1_800))?;
    assert!(world.phone(0).usage(0).talking().packets_heard > 0, "early media before the answer");
    world.run_for(Duration::from_secs(30))?;
    let record = world.noted().record();
    assert_eq!((record.status_code, record.direction), (200, Direction::Outbound));
    assert_eq!(record.outbound_trunk.as_deref(), Some("carrier"));
    assert_eq!(record.callee, "+493012345");
    world.finish().map(drop)
}

#[test]
fn the_trunk_calls_a_user_without_credentials() -> Result<(), Failure> {
    let mut world = started()?;
    world.call(1, CallerPlan::to("sip:1001@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    assert_eq!(world.noted().answers("INVITE", 407).count(), 0);
    let record = world.noted().record();
    assert_eq!((record.status_code, record.direction), (200, Direction::Inbound));
    assert_eq!(record.sip_trunk.as_deref(), Some("carrier"));
    world.finish().map(drop)
}

#[test]
fn a_trunk_call_to_a_trunk_is_refused() -> Result<(), Failure> {
    let mut world = started()?;
    world.call(1, CallerPlan::to("sip:+493012345@carrier.test"));
    world.run_for(Duration::from_secs(10))?;
    assert_eq!(world.phone(1).usage(0).report.final_status, Some(403));
    world.finish().map(drop)
}
