//! Calls that nobody picks up, and calls that cannot be made (RFC 3261 13.3.1.3, 21.4).
//! Owns:  every way a call fails that is not the caller's own doing.
//! Gives: 480 after the ring time, 408 for silence, the callee's own code, 404, 480, 403.
//! Never: a phone that rings on after the caller was told.
//! Holds: the record has the code that the caller heard.

use std::time::Duration;

use sim::phone::Ending;
use sim::phone::plan::{CalleePlan, CallerPlan};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn run(plan: CallerPlan, callee: Option<CalleePlan>) -> Result<World, Failure> {
    let mut settings = WorldSettings::calm(50);
    settings.timers.ring = Duration::from_secs(20);
    settings.absent_users = vec!["1999".to_owned()];
    let mut world = World::started(settings, &[PhoneSpec::user("1001"), PhoneSpec::user("1002")])?;
    if let Some(callee) = callee {
        world.phone_mut(1).expect_call(callee);
    }
    world.call(0, plan);
    world.run_for(Duration::from_secs(60))?;
    Ok(world)
}

fn status(world: &World) -> Option<u16> {
    world.phone(0).usage(0).report.final_status
}

#[test]
fn the_ring_time_ends_with_480_and_a_cancel() -> Result<(), Failure> {
    let call = CallerPlan::to("sip:1002@ringgate.test");
    let mut world = run(call, Some(CalleePlan::ring_forever()))?;
    assert_eq!(status(&world), Some(480));
    let phone = &world.phone(1).usage(0).report;
    assert_eq!(phone.ending, Some(Ending::Cancelled));
    let rang = phone.ended_at.expect("it ended").since(phone.began_at);
    assert!((20_000..=20_100).contains(&rang.as_millis()), "it rang for {rang:?}");
    assert_eq!(world.noted().record().status_code, 480);
    world.finish().map(drop)
}

/// Timer B: the phone is not there at all.
#[test]
fn silence_ends_with_408() -> Result<(), Failure> {
    let call = CallerPlan::to("sip:1002@ringgate.test");
    let mut world = run(call, Some(CalleePlan::silent()))?;
    assert_eq!(status(&world), Some(408));
    assert_eq!(world.noted().record().status_code, 408);
    world.finish().map(drop)
}

#[test]
fn a_refusal_is_passed_through() -> Result<(), Failure> {
    for code in [486, 603, 488] {
        let call = CallerPlan::to("sip:1002@ringgate.test");
        let mut world = run(call, Some(CalleePlan::refuse(code)))?;
        assert_eq!(status(&world), Some(code));
        assert_eq!(world.noted().record().status_code, code);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn an_unknown_user_is_404_and_one_who_is_away_480() -> Result<(), Failure> {
    for (target, expected) in [("sip:nobody@ringgate.test", 404), ("sip:1999@ringgate.test", 480)] {
        let mut world = run(CallerPlan::to(target), None)?;
        assert_eq!(status(&world), Some(expected), "{target}");
        assert_eq!(world.noted().record().status_code, expected, "{target}");
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_wrong_password_is_403_and_no_call() -> Result<(), Failure> {
    let plan = CallerPlan { wrong_password: true, ..CallerPlan::to("sip:1002@ringgate.test") };
    let mut world = run(plan, None)?;
    assert_eq!(status(&world), Some(403));
    assert!(world.phone(1).usages().is_empty());
    world.finish().map(drop)
}
