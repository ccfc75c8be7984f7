//! What the journal is told of a call: its start before the answer, its start again in a new segment.
//! Owns:  calls that stand while the journal turns.
//! Gives: the record that a crash would leave, at any moment of a call.
//! Never: a file; the shell has its own tests.
//! Holds: every run also passes the checker's rules about starts and ends.

use std::time::Duration;

use shared::cdr::HangupReason;
use sim::phone::plan::CallerPlan;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

const SECOND: Duration = Duration::from_secs(1);

fn started(callees: usize) -> Result<World, Failure> {
    let mut phones = vec![PhoneSpec::user("1001"), PhoneSpec::user("1002")];
    phones.extend((0..callees).map(|number| PhoneSpec::user(&format!("2{number:03}"))));
    World::started(WorldSettings::calm(71), &phones)
}

#[test]
fn the_start_of_a_call_is_the_record_that_a_crash_leaves() -> Result<(), Failure> {
    let mut world = started(0)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(5 * SECOND)?;
    let [start] = world.noted().starts.as_slice() else { panic!("one start") };
    assert_eq!((start.hangup_reason, start.status_code), (HangupReason::SystemCrash, 200));
    assert_eq!((start.duration_ms, start.answer_time), (0, Some(start.end_time)));
    assert_eq!((start.caller.as_str(), start.callee.as_str()), ("1001", "1002"));
    assert_eq!(start.sip_leg_roles.len(), 2);
    let start = start.clone();
    world.finish()?;
    let end = world.noted().record();
    assert_eq!((end.session_id, &end.call_id), (start.session_id, &start.call_id));
    assert_eq!((end.start_time, end.answer_time), (start.start_time, start.answer_time));
    Ok(())
}

#[test]
fn standing_calls_are_written_again_when_the_journal_turns() -> Result<(), Failure> {
    let mut world = started(0)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(4 * SECOND)?;
    assert_eq!(world.noted().starts.len(), 1);
    world.after(SECOND, Act::TurnJournal);
    world.run_for(2 * SECOND)?;
    let starts = &world.noted().starts;
    assert_eq!(starts.len(), 2, "written again");
    assert_eq!(starts[0].session_id, starts[1].session_id);
    let talked = starts[1].duration_ms;
    assert!((1_000..6_000).contains(&talked), "it says how long the call stands: {talked} ms");
    // The second turn comes when the call is through the round of the first, which is not over.
    world.after(SECOND / 2, Act::TurnJournal);
    world.after(SECOND / 2 + Duration::from_millis(70), Act::TurnJournal);
    world.run_for(SECOND)?;
    assert_eq!(world.noted().starts.len(), 4, "once for each turn");
    world.finish()?;
    assert_eq!(world.noted().records.len(), 1);
    Ok(())
}

#[test]
fn a_call_that_began_in_the_new_segment_or_has_ended_is_not_written_again() -> Result<(), Failure> {
    let mut world = started(1)?;
    world.after(SECOND, Act::TurnJournal);
    world.run_for(2 * SECOND)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(60 * SECOND)?;
    assert_eq!(world.noted().records.len(), 1, "it has ended");
    world.after(SECOND, Act::TurnJournal);
    world.finish()?;
    assert_eq!(world.noted().starts.len(), 1);
    Ok(())
}
