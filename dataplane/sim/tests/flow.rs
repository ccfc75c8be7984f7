//! Phones on TCP, and connections that break (RFC 3261 18, RFC 5626).
//! Owns:  calls over flows, on the flow's own shard and on another one.
//! Gives: no repeats on a reliable transport; a broken flow takes its binding away.
//! Never: a message on a flow of another shard.
//! Holds: a phone that comes back on a new connection can be called again.

use std::time::Duration;

use shared::event::RegistrationChange;
use sim::phone::plan::{CalleePlan, CallerPlan};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

fn phones() -> [PhoneSpec; 2] {
    [PhoneSpec::user("1001").over_tcp(), PhoneSpec::user("1002").over_tcp()]
}

#[test]
fn a_call_between_two_flows_needs_no_repeat() -> Result<(), Failure> {
    for shards in [1, 3] {
        let mut world =
            World::started(WorldSettings { shards, ..WorldSettings::calm(8) }, &phones())?;
        world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
        world.run_for(Duration::from_secs(30))?;
        assert_eq!(world.noted().requests("INVITE").count(), 1);
        assert_eq!(world.noted().requests("BYE").count(), 1);
        assert_eq!(world.noted().record().status_code, 200);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_broken_flow_takes_the_binding_away_and_a_new_one_brings_it_back() -> Result<(), Failure> {
    let mut world =
        World::started(WorldSettings { shards: 2, ..WorldSettings::calm(9) }, &phones())?;
    world.after(Duration::ZERO, Act::BreakFlow(1));
    world.run_for(Duration::from_millis(100))?;
    let gone = world.noted().registrations.last().expect("an event");
    assert_eq!(
        (gone.change, gone.aor.as_str()),
        (RegistrationChange::Offline, "sip:1002@ringgate.test")
    );
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_millis(400))?;
    assert_eq!(world.phone(0).usage(0).report.final_status, Some(480));
    // The phone connects and registers again within two seconds.
    world.run_for(Duration::from_secs(5))?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    assert_eq!(world.phone(0).usage(1).report.final_status, Some(200));
    world.finish().map(drop)
}

#[test]
fn a_flow_that_breaks_in_a_call_does_not_keep_the_call_for_ever() -> Result<(), Failure> {
    let mut world =
        World::started(WorldSettings { shards: 2, ..WorldSettings::calm(10) }, &phones())?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.after(Duration::from_secs(5), Act::BreakFlow(1));
    world.run_for(Duration::from_secs(60))?;
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}

#[test]
fn a_flow_that_breaks_while_the_phone_rings_fails_that_leg_only() -> Result<(), Failure> {
    let phones =
        [PhoneSpec::user("1001"), PhoneSpec::user("1002").over_tcp(), PhoneSpec::user("1002")];
    let mut world =
        World::started(WorldSettings { shards: 2, ..WorldSettings::calm(11) }, &phones)?;
    world.phone_mut(1).expect_call(CalleePlan::ring_forever());
    world.after(Duration::from_secs(1), Act::BreakFlow(1));
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    assert_eq!(world.phone(0).usage(0).report.final_status, Some(200));
    world.finish().map(drop)
}
