//! Commands of the control plane while calls stand: drain, stop, publish, questions.
//! Owns:  what the other plane may do to a running shard.
//! Gives: 503 with Retry-After to new calls, standing ones go on; `Drained` after the last.
//! Never: a call that a command cuts, except `Stop`.
//! Holds: every question is answered at once.

use std::time::Duration;

use shared::ids::ShardId;
use sim::phone::Ending;
use sim::phone::plan::CallerPlan;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

const SECOND: Duration = Duration::from_secs(1);

fn started(shards: u8) -> Result<World, Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002"), PhoneSpec::user("1003")];
    World::started(WorldSettings { shards, ..WorldSettings::calm(70) }, &phones)
}

#[test]
fn a_draining_gateway_refuses_new_calls_and_finishes_the_old_ones() -> Result<(), Failure> {
    let mut world = started(2)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.after(5 * SECOND, Act::Drain);
    world.after(6 * SECOND, Act::Call(2, CallerPlan::to("sip:1001@ringgate.test")));
    world.run_for(8 * SECOND)?;
    assert_eq!(world.phone(2).usage(0).report.final_status, Some(503));
    assert_eq!(world.phone(0).usage(0).report.ending, None, "the standing call goes on");
    assert_eq!(world.noted().drained.len(), 1, "one shard had no call");
    world.run_for(10 * SECOND)?;
    let mut drained = world.noted().drained.clone();
    drained.sort();
    assert_eq!(drained, [ShardId(0), ShardId(1)]);
    assert_eq!(world.noted().records.iter().filter(|record| record.status_code == 200).count(), 1);
    world.finish().map(drop)
}

#[test]
fn stop_ends_standing_and_ringing_calls() -> Result<(), Failure> {
    let mut world = started(2)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(4 * SECOND)?;
    world.call(2, CallerPlan::to("sip:1001@ringgate.test"));
    world.after(SECOND, Act::Stop);
    world.run_for(10 * SECOND)?;
    assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::RemoteBye));
    assert_eq!(world.phone(1).usage(0).report.ending, Some(Ending::RemoteBye));
    assert!(matches!(world.phone(2).usage(0).report.ending, Some(Ending::Refused(500..=599))));
    assert_eq!(world.noted().records.len(), 2);
    world.finish().map(drop)
}

#[test]
fn a_new_snapshot_and_questions_do_not_disturb_a_call() -> Result<(), Failure> {
    let mut world = started(3)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    for second in 1..8 {
        world.after(second * SECOND, Act::Publish);
        world.after(second * SECOND, Act::Ask);
    }
    world.run_for(30 * SECOND)?;
    assert_eq!(world.noted().generations.iter().max(), Some(&8));
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}
