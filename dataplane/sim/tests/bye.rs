//! BYEs that cross other things on the wire (RFC 3261 15.1).
//! Owns:  BYE against BYE, against a re-INVITE, against the answer of a re-INVITE, against INFO.
//! Gives: both phones hang up, every request is answered.
//! Never: a request to a leg that said BYE.
//! Holds: one record, ended by who was heard first.

use std::time::Duration;

use sim::network::Weather;
use sim::phone::plan::{CalleePlan, CallerPlan, Step};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs the same clash over a hundred networks, so that it happens in every order.
fn clash(caller: CallerPlan, callee: &CalleePlan) -> Result<(), Failure> {
    for seed in 0..100 {
        let mut settings = WorldSettings::calm(seed);
        settings.weather = Weather { delay_min: millis(1), delay_max: millis(60), ..Weather::CALM };
        let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
        let mut world = World::started(settings, &phones)?;
        world.phone_mut(1).expect_call(callee.clone());
        world.call(0, caller.clone());
        world.run_for(Duration::from_secs(60))?;
        assert_eq!(world.noted().record().status_code, 200, "seed {seed}");
        world.finish()?;
    }
    Ok(())
}

fn hanging_up_after(wait: Duration) -> CallerPlan {
    CallerPlan { hang_up_after: Some(wait), ..CallerPlan::to("sip:1002@ringgate.test") }
}

#[test]
fn two_byes_cross() -> Result<(), Failure> {
    let hang_up_after = Some(millis(5_000));
    clash(hanging_up_after(millis(5_000)), &CalleePlan { hang_up_after, ..CalleePlan::answer() })
}

#[test]
fn a_bye_crosses_a_re_invite() -> Result<(), Failure> {
    for step in [Step::Hold { old: false }, Step::OfferlessReInvite, Step::Update, Step::SendInfo] {
        let steps = vec![(millis(5_000), step)];
        clash(hanging_up_after(millis(4_980)), &CalleePlan { steps, ..CalleePlan::answer() })?;
    }
    Ok(())
}

#[test]
fn a_bye_overtakes_the_answer_and_the_ack_of_its_own_re_invite() -> Result<(), Failure> {
    for step in [Step::MoveMedia, Step::OfferlessReInvite] {
        let plan =
            CallerPlan { steps: vec![(millis(5_000), step)], ..hanging_up_after(millis(5_090)) };
        clash(plan, &CalleePlan::answer())?;
    }
    Ok(())
}

#[test]
fn a_bye_right_after_the_answer() -> Result<(), Failure> {
    clash(hanging_up_after(millis(0)), &CalleePlan::answer())?;
    let hang_up_after = Some(millis(0));
    clash(hanging_up_after(millis(9_000)), &CalleePlan { hang_up_after, ..CalleePlan::answer() })
}
