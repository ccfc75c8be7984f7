//! Calls that a program asks for, over good and bad lines (surface.md 5, RFC 3725 4).
//! Owns:  the ways that such a call takes through the world, with both phones as callees.
//! Gives: audio both ways, one record, nothing left, also where messages are lost or doubled.
//! Never: a phone that knows why it is called.
//! Holds: the checker's rules over every run; what is asserted here is what they cannot know.

use std::time::Duration;

use shared::cdr::{CallStatus, HangupReason};
use shared::originate::{Originate, Originated, Party, Unstarted};
use sim::phone::plan::{CalleePlan, Outcome, Ring, Step};
use sim::phone::{Ending, Phase};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

fn wish(from: &str, to: &str) -> Act {
    Act::Originate(Originate { from: from.into(), to: to.into(), ..Originate::default() })
}

fn talking_for(wait: Duration) -> CalleePlan {
    CalleePlan { hang_up_after: Some(wait), ..CalleePlan::answer() }
}

fn world(settings: WorldSettings) -> Result<World, Failure> {
    World::started(settings, &[PhoneSpec::user("1001"), PhoneSpec::user("1002")])
}

#[test]
fn both_phones_are_called_and_hear_each_other() -> Result<(), Failure> {
    for shards in [1, 3] {
        let mut world = world(WorldSettings { shards, ..WorldSettings::calm(41) })?;
        world.phone_mut(0).expect_call(talking_for(Duration::from_secs(20)));
        world.phone_mut(1).expect_call(talking_for(Duration::from_secs(60)));
        world.after(Duration::ZERO, wish("1001", "1002"));
        world.run_for(Duration::from_secs(30))?;
        assert!(matches!(world.noted().originated[..], [Originated::Started(_)]));
        let (first, second) = (&world.phone(0).usage(0).report, &world.phone(1).usage(0).report);
        assert_eq!(
            (first.ending, second.ending),
            (Some(Ending::LocalBye), Some(Ending::RemoteBye))
        );
        assert!(first.began_at < second.began_at, "one after the other");
        assert!(second.began_at >= first.answered_at.expect("the first answered"));
        assert!(first.heard_from.contains(&second.mark) && second.heard_from.contains(&first.mark));
        assert!(first.packets_heard >= 10 && second.packets_heard >= 10, "{first:?}");
        let record = world.noted().record();
        assert_eq!((record.caller.as_str(), record.callee.as_str()), ("1001", "1002"));
        assert_eq!(
            (record.status, record.hangup_reason),
            (CallStatus::Completed, HangupReason::ByCaller)
        );
        world.finish()?;
    }
    Ok(())
}

#[test]
fn whoever_does_not_take_the_call_ends_it() -> Result<(), Failure> {
    let plans = [CalleePlan::refuse(486), CalleePlan::ring_forever(), CalleePlan::silent()];
    for (index, plan) in plans.into_iter().enumerate() {
        for second in [false, true] {
            let mut settings = WorldSettings::calm(42 + index as u64);
            settings.timers.ring = Duration::from_secs(12);
            let mut world = world(settings)?;
            if second {
                world.phone_mut(0).expect_call(CalleePlan::answer());
            }
            world.phone_mut(usize::from(second)).expect_call(plan.clone());
            world.after(Duration::ZERO, wish("1001", "1002"));
            world.run_for(Duration::from_secs(60))?;
            assert_eq!(world.phone(1).usages().is_empty(), !second || index == 2);
            if second {
                assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::RemoteBye));
            }
            let expected = [486, 480, 408][index];
            let record = world.noted().record();
            assert_eq!((record.status_code, record.answer_time), (expected, None), "{record:?}");
            world.finish()?;
        }
    }
    Ok(())
}

/// The first party hangs up at every point of the second's ringing, its answer included.
#[test]
fn the_first_party_may_give_up_at_any_time() -> Result<(), Failure> {
    for wait in (0..3_000).step_by(170) {
        let mut world = world(WorldSettings::calm(43))?;
        world.phone_mut(0).expect_call(talking_for(Duration::from_millis(wait)));
        world.phone_mut(1).expect_call(talking_for(Duration::from_secs(60)));
        world.after(Duration::ZERO, wish("1001", "1002"));
        world.run_for(Duration::from_secs(40))?;
        assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::LocalBye));
        assert!(world.phone(1).usages().iter().all(|usage| usage.phase() == Phase::Over));
        let reason = world.noted().record().hangup_reason;
        assert!(matches!(reason, HangupReason::Canceled | HangupReason::ByCaller), "{reason:?}");
        world.finish()?;
    }
    Ok(())
}

#[test]
fn early_media_and_changes_of_the_standing_call_pass() -> Result<(), Failure> {
    let mut world = world(WorldSettings::calm(44))?;
    let steps = vec![
        (Duration::from_secs(5), Step::Hold { old: false }),
        (Duration::from_secs(8), Step::Resume),
        (Duration::from_secs(11), Step::MoveMedia),
        (Duration::from_secs(13), Step::OfferlessReInvite),
    ];
    world.phone_mut(0).expect_call(CalleePlan { steps, ..talking_for(Duration::from_secs(25)) });
    world.phone_mut(1).expect_call(CalleePlan {
        rings: vec![(Duration::from_millis(100), Ring::EarlyMedia)],
        outcome: Outcome::Answer(Duration::from_secs(4)),
        ..talking_for(Duration::from_secs(60))
    });
    world.after(Duration::ZERO, wish("1001", "1002"));
    world.run_for(Duration::from_secs(45))?;
    let first = world.phone(0).usage(0);
    assert!(first.report.packets_heard >= 12, "{:?}", first.report);
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}

#[test]
fn a_party_that_is_not_there_is_said_at_once() -> Result<(), Failure> {
    let mut settings = WorldSettings::calm(45);
    settings.absent_users = vec!["1999".to_owned()];
    let mut world = world(settings)?;
    world.after(Duration::ZERO, wish("1999", "1002"));
    world.after(Duration::from_secs(1), wish("1001", "nobody"));
    world.run_for(Duration::from_secs(3))?;
    let refused = [
        Originated::Refused(Unstarted::NotRegistered(Party::From)),
        Originated::Refused(Unstarted::Unreachable(Party::To, 404)),
    ];
    assert_eq!(world.noted().originated, refused);
    assert!(world.noted().records.is_empty() && world.phone(1).usages().is_empty());
    world.finish().map(drop)
}

/// Lost, doubled and late messages: whatever becomes of the call, the checker's rules hold.
#[test]
fn a_bad_line_leaves_nothing_behind() -> Result<(), Failure> {
    for seed in 0..40 {
        let mut settings = WorldSettings::rough(seed);
        settings.shards = 1 + u8::try_from(seed % 3).expect("small");
        settings.scatter = seed % 2 == 0;
        settings.weather.loss = [10, 15, 20, 25][usize::try_from(seed % 4).expect("small")];
        settings.weather.duplication = 20;
        let phones = [
            PhoneSpec::user("1001"),
            PhoneSpec::user("1001").behind_nat(),
            PhoneSpec::user("1002"),
        ];
        let mut world = World::started(settings, &phones)?;
        for phone in 0..3 {
            let wait = Duration::from_millis(500 + 700 * seed);
            world.phone_mut(phone).expect_call(talking_for(wait));
        }
        world.after(Duration::ZERO, wish("1001", "1002"));
        world.run_for(Duration::from_secs(120))?;
        world.finish()?;
    }
    Ok(())
}
