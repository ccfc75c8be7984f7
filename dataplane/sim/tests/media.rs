//! Media that stops, that comes from strangers, and that finds no port (RFC 3550, SE7, NW6).
//! Owns:  the relay's rules as a whole gateway shows them.
//! Gives: the RTP time-out, the source lock, refusals for want of ports, rest before reuse.
//! Never: a stranger's packet on a latched stream.
//! Holds: ports come back.

use std::time::Duration;

use shared::cdr::HangupReason;
use sim::phone::Ending;
use sim::phone::plan::{CalleePlan, CallerPlan, Step};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn silence_from_both_sides_ends_the_call() -> Result<(), Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
    let mut world = World::started(WorldSettings::calm(90), &phones)?;
    let steps = vec![(5 * SECOND, Step::Mute)];
    world.phone_mut(1).expect_call(CalleePlan { steps: steps.clone(), ..CalleePlan::answer() });
    world.call(
        0,
        CallerPlan { steps, hang_up_after: None, ..CallerPlan::to("sip:1002@ringgate.test") },
    );
    world.run_for(60 * SECOND)?;
    let record = world.noted().record();
    assert_eq!(record.hangup_reason, HangupReason::RtpTimeout);
    // Five seconds of sound, thirty of silence, and the sweep once a second.
    assert!((34_000..=36_500).contains(&record.duration_ms), "{} ms", record.duration_ms);
    for phone in 0..2 {
        assert_eq!(world.phone(phone).usage(0).report.ending, Some(Ending::RemoteBye));
    }
    world.finish().map(drop)
}

#[test]
fn a_phone_that_vanishes_does_not_keep_the_call() -> Result<(), Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
    let mut world = World::started(WorldSettings::calm(91), &phones)?;
    world.call(0, CallerPlan { hang_up_after: None, ..CallerPlan::to("sip:1002@ringgate.test") });
    world.after(5 * SECOND, Act::Vanish(0));
    world.after(8 * SECOND, Act::Vanish(1));
    world.run_for(90 * SECOND)?;
    assert_eq!(world.noted().record().hangup_reason, HangupReason::RtpTimeout);
    world.finish().map(drop)
}

#[test]
fn packets_of_a_stranger_are_dropped() -> Result<(), Failure> {
    let phones = [PhoneSpec::user("1001").behind_nat(), PhoneSpec::user("1002")];
    let mut world = World::started(WorldSettings::calm(92), &phones)?;
    let hang_up_after = Some(20 * SECOND);
    world.call(0, CallerPlan { hang_up_after, ..CallerPlan::to("sip:1002@ringgate.test") });
    for second in 8..18 {
        world.after(second * SECOND, Act::Attack);
    }
    world.run_for(40 * SECOND)?;
    // Two ports, ten attacks, four packets each; every one that gets through fails the run.
    assert_eq!(world.noted().repelled, 80);
    world.finish().map(drop)
}

#[test]
fn without_a_free_port_a_call_is_refused_and_works_again_after_the_rest() -> Result<(), Failure> {
    let mut settings = WorldSettings::calm(93);
    settings.ports_per_shard = 4; // one relay
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002"), PhoneSpec::user("1003")];
    let mut world = World::started(settings, &phones)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(5 * SECOND)?;
    world.call(2, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(SECOND)?;
    let refused = world.phone(2).usage(0).report.final_status;
    assert!(matches!(refused, Some(500..=599)), "{refused:?}");
    // The first call ends, its ports rest for 30 s.
    world.run_for(10 * SECOND)?;
    world.call(2, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(SECOND)?;
    assert!(matches!(world.phone(2).usage(1).report.final_status, Some(500..=599)));
    world.run_for(40 * SECOND)?;
    world.call(2, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(20 * SECOND)?;
    assert_eq!(world.phone(2).usage(2).report.final_status, Some(200));
    world.finish().map(drop)
}

#[test]
fn a_relay_whose_ports_cannot_be_bound_tries_others() -> Result<(), Failure> {
    let mut settings = WorldSettings::calm(94);
    settings.refused_relays = 50;
    let mut world = World::started(settings, &[PhoneSpec::user("1001"), PhoneSpec::user("1002")])?;
    for _ in 0..20 {
        world.call(
            0,
            CallerPlan { hang_up_after: Some(SECOND), ..CallerPlan::to("sip:1002@ringgate.test") },
        );
        world.run_for(10 * SECOND)?;
    }
    assert_eq!(world.noted().records.len(), 20);
    let answered = world.noted().records.iter().filter(|record| record.status_code == 200).count();
    assert!(answered >= 10, "{answered} of 20 calls found ports");
    world.finish().map(drop)
}
