//! An ordinary call between two registered users (RFC 3665 3.1 with a B2BUA in between).
//! Owns:  the plain case that all others vary.
//! Gives: audio both ways, one record with the right parties and times.
//! Never: a bad network.
//! Holds: what the record says is what the phones did.

use std::time::Duration;

use shared::cdr::{CallStatus, Direction, HangupReason};
use shared::ids::Side;
use sim::phone::plan::{CalleePlan, CallerPlan};
use sim::phone::{Ending, Phase};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn two_phones() -> Result<World, Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
    World::started(WorldSettings::calm(1), &phones)
}

#[test]
fn a_call_is_answered_heard_and_recorded_as_it_was() -> Result<(), Failure> {
    let mut world = two_phones()?;
    let call = world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;

    let (caller, callee) = (world.phone(0).usage(call), world.phone(1).usage(0));
    assert_eq!(caller.report.ending, Some(Ending::LocalBye));
    assert_eq!(callee.report.ending, Some(Ending::RemoteBye));
    assert_eq!(
        caller.talking().heard_from.iter().copied().collect::<Vec<_>>(),
        [callee.report.mark]
    );
    assert_eq!(
        callee.talking().heard_from.iter().copied().collect::<Vec<_>>(),
        [caller.report.mark]
    );
    assert!(caller.report.packets_heard >= 8 && callee.report.packets_heard >= 8);
    assert!(caller.talking().reports_heard >= 1 && callee.talking().reports_heard >= 1, "RTCP");

    let record = world.noted().record();
    assert_eq!((record.caller.as_str(), record.callee.as_str()), ("1001", "1002"));
    assert_eq!((record.status_code, record.status), (200, CallStatus::Completed));
    assert_eq!(
        (record.hangup_reason, record.direction),
        (HangupReason::ByCaller, Direction::Internal)
    );
    assert_eq!(record.sip_leg_roles.len(), 2);
    // Ten seconds from the ACK to the BYE, and one trip for each of answer and BYE.
    assert!((10_000..=10_050).contains(&record.duration_ms), "{} ms", record.duration_ms);
    let ring = record.ring_time.expect("it rang").0 - record.start_time.0;
    let answer = record.answer_time.expect("it was answered").0 - record.start_time.0;
    assert!((200..=250).contains(&ring) && (2_000..=2_050).contains(&answer), "{ring} {answer}");
    world.finish().map(drop)
}

#[test]
fn the_callee_may_hang_up_first() -> Result<(), Failure> {
    let mut world = two_phones()?;
    let hang_up_after = Some(Duration::from_secs(3));
    world.phone_mut(1).expect_call(CalleePlan { hang_up_after, ..CalleePlan::answer() });
    world.call(0, CallerPlan { hang_up_after: None, ..CallerPlan::to("sip:1002@ringgate.test") });
    world.run_for(Duration::from_secs(20))?;
    assert_eq!(world.noted().record().hangup_reason, HangupReason::ByCallee);
    assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::RemoteBye));
    world.finish().map(drop)
}

/// Own tags, Call-ID and Contact on each side: nothing of one leg shows on the other.
#[test]
fn a_leg_shows_nothing_of_the_other_one() -> Result<(), Failure> {
    let mut world = two_phones()?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(5))?;
    let (caller, callee) = (&world.phone(0).usage(0).report, &world.phone(1).usage(0).report);
    assert_ne!(caller.call_id, callee.call_id);
    assert_ne!(caller.local_tag, callee.local_tag);
    assert_eq!((caller.role, callee.role), (Side::Caller, Side::Callee));
    world.run_for(Duration::from_secs(15))?;
    assert_eq!(world.phone(0).usage(0).phase(), Phase::Over);
    world.finish().map(drop)
}
