//! Blind transfers by REFER and by command, over good and bad lines (RFC 5589 6).
//! Owns:  three phones, of which one goes and one comes.
//! Gives: audio between the two that are left, one record, the outcome told to whoever wanted it.
//! Never: a phone that knows more than its own dialog.
//! Holds: the checker's rules over every run; what is asserted here is what they cannot know.

use std::time::Duration;

use shared::act::{Acted, CallAction, Refusal};
use shared::cdr::{HangupReason, LegEventType};
use shared::ids::Side;
use sim::phone::plan::{CalleePlan, CallerPlan, Step};
use sim::phone::{Ending, Phase};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

const TALK: Duration = Duration::from_secs(40);

fn phones() -> [PhoneSpec; 3] {
    ["1001", "1002", "1003"].map(PhoneSpec::user)
}

/// 1001 calls 1002, who lets the call go on for long; after five seconds 1002 refers to 1003.
fn refer_after_five(settings: WorldSettings, third: CalleePlan) -> Result<World, Failure> {
    let mut world = World::started(settings, &phones())?;
    let steps = vec![(Duration::from_secs(5), Step::Refer(1_003))];
    world.phone_mut(1).expect_call(CalleePlan { steps, ..CalleePlan::answer() });
    world.phone_mut(2).expect_call(third);
    let plan = CallerPlan { hang_up_after: Some(TALK), ..CallerPlan::to("sip:1002@ringgate.test") };
    world.call(0, plan);
    world.run_for(TALK + Duration::from_secs(20))?;
    Ok(world)
}

#[test]
fn the_caller_talks_with_the_third_phone_and_hears_it() -> Result<(), Failure> {
    for shards in [1, 3] {
        let settings = WorldSettings { shards, ..WorldSettings::calm(51) };
        let mut world = refer_after_five(settings, CalleePlan::answer())?;
        let second = &world.phone(1).usage(0).report;
        assert_eq!(second.notified, [100, 180, 200]);
        assert_eq!(second.ending, Some(Ending::RemoteBye));
        let (first, third) = (&world.phone(0).usage(0).report, &world.phone(2).usage(0).report);
        assert_eq!((first.ending, third.ending), (Some(Ending::LocalBye), Some(Ending::RemoteBye)));
        assert!(first.heard_from.contains(&third.mark) && third.heard_from.contains(&first.mark));
        assert!(third.packets_heard >= 20, "{third:?}");
        let record = world.noted().record();
        assert_eq!(record.hangup_reason, HangupReason::ByCaller);
        assert_eq!(record.sip_leg_roles.len(), 3);
        let kinds: Vec<_> = record.leg_timeline.events.iter().map(|one| one.event_type).collect();
        assert_eq!(
            kinds,
            [LegEventType::Transferred, LegEventType::TransferAccepted, LegEventType::Removed]
        );
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_third_phone_that_does_not_take_it_leaves_the_two_talking() -> Result<(), Failure> {
    for (plan, told) in [(CalleePlan::refuse(486), 486), (CalleePlan::silent(), 408)] {
        let mut settings = WorldSettings::calm(52);
        settings.timers.ring = Duration::from_secs(15);
        let mut world = refer_after_five(settings, plan)?;
        let second = &world.phone(1).usage(0).report;
        assert_eq!(second.notified.last(), Some(&told), "{second:?}");
        let first = &world.phone(0).usage(0).report;
        assert_eq!(
            (first.ending, second.ending),
            (Some(Ending::LocalBye), Some(Ending::RemoteBye))
        );
        assert!(second.packets_heard >= 30, "they talked on: {second:?}");
        world.finish()?;
    }
    Ok(())
}

/// 1002 hangs up at every point between its REFER and well after the third phone's answer.
#[test]
fn who_refers_may_hang_up_at_any_time() -> Result<(), Failure> {
    for wait in (5_000..9_000).step_by(230) {
        let mut world = World::started(WorldSettings::calm(53), &phones())?;
        world.phone_mut(1).expect_call(CalleePlan {
            steps: vec![(Duration::from_secs(5), Step::Refer(1_003))],
            hang_up_after: Some(Duration::from_millis(wait)),
            ..CalleePlan::answer()
        });
        let plan =
            CallerPlan { hang_up_after: Some(TALK), ..CallerPlan::to("sip:1002@ringgate.test") };
        world.call(0, plan);
        world.run_for(TALK + Duration::from_secs(20))?;
        let third = world.phone(2).usages();
        // A BYE right after the answer was heard may overtake the REFER.
        if let Some(third) = third.first() {
            assert_eq!(third.phase(), Phase::Over);
            assert!(third.report.packets_heard >= 15, "wait {wait}: {:?}", third.report);
        } else {
            assert!(wait < 5_100, "wait {wait}");
        }
        world.finish()?;
    }
    Ok(())
}

/// The transfer meets a hold, a moved address and an offerless re-INVITE of the leg that stays.
#[test]
fn changes_of_the_leg_that_stays_do_not_hinder_it() -> Result<(), Failure> {
    for step in [Step::Hold { old: false }, Step::MoveMedia, Step::OfferlessReInvite, Step::Update]
    {
        for at in (4_900..8_000).step_by(310) {
            let mut world = World::started(WorldSettings::calm(54), &phones())?;
            let steps = vec![(Duration::from_secs(5), Step::Refer(1_003))];
            let reply_after = Duration::from_millis(900);
            world.phone_mut(1).expect_call(CalleePlan {
                steps,
                reply_after,
                ..CalleePlan::answer()
            });
            let plan = CallerPlan {
                steps: vec![(Duration::from_millis(at), step)],
                hang_up_after: Some(TALK),
                ..CallerPlan::to("sip:1002@ringgate.test")
            };
            world.call(0, plan);
            world.run_for(TALK + Duration::from_secs(20))?;
            assert_eq!(world.phone(2).usages().len(), 1, "{step:?} at {at}");
            assert_eq!(world.noted().record().hangup_reason, HangupReason::ByCaller);
            world.finish()?;
        }
    }
    Ok(())
}

#[test]
fn a_program_moves_either_leg_and_hears_what_became_of_it() -> Result<(), Failure> {
    for (leaves, gone) in [(Side::Callee, 1), (Side::Caller, 0)] {
        let mut world = World::started(WorldSettings::calm(55), &phones())?;
        let plan =
            CallerPlan { hang_up_after: Some(TALK), ..CallerPlan::to("sip:1002@ringgate.test") };
        world
            .phone_mut(1)
            .expect_call(CalleePlan { hang_up_after: Some(TALK), ..CalleePlan::answer() });
        world.phone_mut(2).expect_call(CalleePlan::refuse(603));
        world.call(0, plan);
        for at in [8, 12] {
            let action = CallAction::Transfer { leaves, target: "1003".into() };
            world.after(Duration::from_secs(at), Act::Command { nth: 0, by_leg: None, action });
        }
        world.run_for(TALK + Duration::from_secs(20))?;
        let answers = |id| world.ledger().commands.answers(id).copied().collect::<Vec<_>>();
        let refused = |acted: &Acted| match acted {
            Acted::Refused { why, .. } => Some(*why),
            _ => None,
        };
        assert_eq!(answers(0).first().and_then(refused), Some(Refusal::TargetFailed(603)));
        assert!(matches!(answers(1)[..], [Acted::Done { .. }]), "{:?}", answers(1));
        assert_eq!(world.phone(gone).usage(0).report.ending, Some(Ending::RemoteBye));
        let third = &world.phone(2).usage(1).report;
        assert!(third.packets_heard >= 20, "{third:?}");
        let stays = &world.phone(1 - gone).usage(0).report;
        assert!(stays.heard_from.contains(&third.mark), "{stays:?}");
        world.finish()?;
    }
    Ok(())
}

/// Lost, doubled and late messages: whatever becomes of the transfer, the checker's rules hold.
#[test]
fn a_bad_line_leaves_nothing_behind() -> Result<(), Failure> {
    for seed in 0..40 {
        let mut settings = WorldSettings::rough(seed);
        settings.shards = 1 + u8::try_from(seed % 3).expect("small");
        settings.weather.loss = [10, 15, 20, 25][usize::try_from(seed % 4).expect("small")];
        settings.weather.duplication = 20;
        let mut world = World::started(settings, &phones())?;
        let steps = vec![(Duration::from_secs(5), Step::Refer(1_003))];
        let hang_up_after = (seed % 3 == 0).then(|| Duration::from_millis(5_000 + 150 * seed));
        world.phone_mut(1).expect_call(CalleePlan { steps, hang_up_after, ..CalleePlan::answer() });
        let plan =
            CallerPlan { hang_up_after: Some(TALK), ..CallerPlan::to("sip:1002@ringgate.test") };
        world.call(0, plan);
        world.run_for(Duration::from_secs(150))?;
        world.finish()?;
    }
    Ok(())
}
