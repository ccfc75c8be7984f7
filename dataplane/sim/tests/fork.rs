//! Several phones of one user, and several answers of one phone (RFC 3261 13.2.2.4, 16.7).
//! Owns:  the race of parallel legs and of branches behind one leg.
//! Gives: the first answer wins; the others hear CANCEL, or ACK and BYE.
//! Never: two answers to the caller.
//! Holds: no phone is left ringing or off the hook.

use std::time::Duration;

use sim::phone::Ending;
use sim::phone::plan::{CalleePlan, CallerPlan, Outcome, Ring};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn three_phones() -> Result<World, Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002"), PhoneSpec::user("1002")];
    World::started(WorldSettings::calm(4), &phones)
}

fn answer_after(millis: u64) -> CalleePlan {
    let outcome = Outcome::Answer(Duration::from_millis(millis));
    CalleePlan { outcome, ..CalleePlan::answer() }
}

#[test]
fn the_other_phone_stops_ringing_when_one_answers() -> Result<(), Failure> {
    let mut world = three_phones()?;
    world.phone_mut(1).expect_call(CalleePlan::ring_forever());
    world.phone_mut(2).expect_call(answer_after(2_000));
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    assert_eq!(world.phone(1).usage(0).report.ending, Some(Ending::Cancelled));
    assert_eq!(world.phone(2).usage(0).report.ending, Some(Ending::RemoteBye));
    assert_eq!(world.noted().record().sip_leg_roles.len(), 3);
    world.finish().map(drop)
}

/// Both 200s are on the wire at once: the later one gets ACK and BYE.
#[test]
fn the_loser_of_a_race_of_answers_is_hung_up() -> Result<(), Failure> {
    let mut world = three_phones()?;
    world.phone_mut(1).expect_call(answer_after(2_000));
    world.phone_mut(2).expect_call(answer_after(2_003));
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(5))?;
    let loser = &world.phone(2).usage(0).report;
    assert_eq!((loser.final_status, loser.ending), (Some(200), Some(Ending::RemoteBye)));
    assert_eq!(world.phone(1).usage(0).report.ending, None, "the winner talks");
    world.run_for(Duration::from_secs(20))?;
    world.finish().map(drop)
}

/// The best of several refusals goes back (RFC 3261 16.7 step 6): 6xx before all, else the lowest.
#[test]
fn when_all_refuse_the_caller_hears_one_refusal() -> Result<(), Failure> {
    for (statuses, expected) in [([486, 486], 486), ([486, 603], 603)] {
        let mut world = three_phones()?;
        world.phone_mut(1).expect_call(CalleePlan::refuse(statuses[0]));
        world.phone_mut(2).expect_call(CalleePlan::refuse(statuses[1]));
        world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
        world.run_for(Duration::from_secs(20))?;
        assert_eq!(world.phone(0).usage(0).report.final_status, Some(expected));
        world.finish()?;
    }
    Ok(())
}

/// A proxy behind the phone's address forks: two 2xx with two tags on one leg.
#[test]
fn a_second_answer_with_another_tag_gets_ack_and_bye() -> Result<(), Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
    let mut world = World::started(WorldSettings::calm(5), &phones)?;
    world.phone_mut(1).expect_call(CalleePlan {
        rings: vec![
            (Duration::ZERO, Ring::Ringing),
            (Duration::from_millis(50), Ring::OtherBranch),
        ],
        fork_answers_after: Some(Duration::from_millis(700)),
        ..answer_after(1_000)
    });
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(5))?;
    let other = &world.phone(1).usage(1).report;
    assert_eq!((other.final_status, other.ending), (Some(200), Some(Ending::RemoteBye)));
    assert!(!other.unacknowledged);
    assert_eq!(world.phone(1).usage(0).report.ending, None, "the first dialog carries the call");
    world.run_for(Duration::from_secs(20))?;
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}

/// The same 180 and the same 200 three times: heard once by the caller's call (RFC 3261 17.1).
#[test]
fn repeated_responses_change_nothing() -> Result<(), Failure> {
    let mut settings = WorldSettings::calm(6);
    settings.weather.duplication = 100;
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
    let mut world = World::started(settings, &phones)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    assert_eq!(world.noted().record().status_code, 200);
    assert_eq!(world.phone(1).usages().len(), 1, "one call, though each INVITE came twice");
    world.finish().map(drop)
}

/// The loser's early media goes on until the CANCEL reaches it; the winner sits behind a NAT, so
/// its packets come from an address that no SDP named. The stream must be the winner's.
#[test]
fn early_media_of_the_loser_does_not_take_the_winners_stream() -> Result<(), Failure> {
    let mut settings = WorldSettings::calm(7);
    settings.probation_packets = 3;
    settings.weather.delay_min = Duration::from_millis(60);
    settings.weather.delay_max = Duration::from_millis(60);
    let often = |phone: PhoneSpec| PhoneSpec { voice_every: Duration::from_millis(20), ..phone };
    let phones = [
        often(PhoneSpec::user("1001")),
        often(PhoneSpec::user("1002")),
        often(PhoneSpec::user("1002").behind_nat()),
    ];
    let mut world = World::started(settings, &phones)?;
    world.phone_mut(1).expect_call(CalleePlan {
        rings: vec![(Duration::from_millis(100), Ring::EarlyMedia)],
        ..CalleePlan::ring_forever()
    });
    world.phone_mut(2).expect_call(answer_after(1_500));
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(10))?;
    let winner = world.phone(2).usage(0);
    assert!(winner.talking().packets_heard > 200, "{} heard", winner.talking().packets_heard);
    let caller = world.phone(0).usage(0);
    assert!(caller.talking().heard_from.contains(&winner.report.mark), "the winner was not heard");
    world.run_for(Duration::from_secs(20))?;
    world.finish().map(drop)
}
