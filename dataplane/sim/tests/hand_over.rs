//! Three shards, and a kernel that gives every datagram to any of them (architecture.md, steering).
//! Owns:  the mesh: messages, questions, flows of other shards.
//! Gives: calls that work whichever shard hears what.
//! Never: a message that moves twice; the world fails a run in which one does.
//! Holds: what lands on its owner does not move at all.

use std::time::Duration;

use sim::network::Weather;
use sim::phone::plan::{CalleePlan, CallerPlan, Step};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn settings(shards: u8, weather: Weather) -> WorldSettings {
    WorldSettings { shards, scatter: true, weather, ..WorldSettings::calm(80) }
}

fn busy_call(world: &mut World) -> Result<(), Failure> {
    let step = |second: u64, step| (Duration::from_secs(second), step);
    let steps =
        vec![step(2, Step::Hold { old: false }), step(4, Step::Resume), step(6, Step::SendInfo)];
    world.phone_mut(1).expect_call(CalleePlan { steps: steps.clone(), ..CalleePlan::answer() });
    let hang_up_after = Some(Duration::from_secs(20));
    world.call(0, CallerPlan { steps, hang_up_after, ..CallerPlan::to("sip:1002@ringgate.test") });
    world.run_for(Duration::from_secs(60))
}

#[test]
fn messages_at_the_wrong_shard_move_once_and_the_call_works() -> Result<(), Failure> {
    for weather in [Weather::CALM, Weather::ROUGH] {
        let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
        let mut world = World::started(settings(3, weather), &phones)?;
        busy_call(&mut world)?;
        assert!(world.noted().moved > 5, "{} messages moved", world.noted().moved);
        assert_eq!(world.noted().record().status_code, 200);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn flows_of_other_shards_carry_the_call() -> Result<(), Failure> {
    let phones =
        [PhoneSpec::user("1001").over_tcp(), PhoneSpec::user("1002").over_tcp().behind_nat()];
    let mut world = World::started(settings(3, Weather::ROUGH), &phones)?;
    busy_call(&mut world)?;
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}

#[test]
fn one_shard_moves_nothing() -> Result<(), Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
    let mut world = World::started(settings(1, Weather::ROUGH), &phones)?;
    busy_call(&mut world)?;
    assert_eq!(world.noted().moved, 0);
    world.finish().map(drop)
}
