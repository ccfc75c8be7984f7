//! The wall clock steps while calls stand (reliability.md TM1).
//! Owns:  steps of an hour both ways.
//! Gives: durations from the monotonic clock, times of a record in order.
//! Never: a timer that a step moves.
//! Holds: a registration lasts as long as before.

use std::time::Duration;

use sim::phone::plan::CallerPlan;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

#[test]
fn a_step_changes_no_duration_and_no_order() -> Result<(), Failure> {
    for step in [-3_600_000, 3_600_000] {
        for after in [1, 4, 8] {
            let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
            let mut world = World::started(WorldSettings::calm(95), &phones)?;
            world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
            world.after(Duration::from_secs(after), Act::StepWall(step));
            world.run_for(Duration::from_secs(30))?;
            let record = world.noted().record();
            assert!((10_000..=10_050).contains(&record.duration_ms), "{} ms", record.duration_ms);
            let (start, end) = (record.start_time, record.end_time);
            let (ring, answer) =
                (record.ring_time.expect("rang"), record.answer_time.expect("answered"));
            assert!(start <= ring && ring <= answer && answer <= end, "{record:?}");
            assert!(world.phone(1).is_registered(world.now()));
            world.finish()?;
        }
    }
    Ok(())
}
