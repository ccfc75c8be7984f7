//! Targets that are tried one after the other, or all at once (RFC 3261 16.6, 16.7, 16.8).
//! Owns:  the turn from one target to the next, and the failure that is heard in the end.
//! Gives: the next target after a failure, a ring time-out, silence.
//! Never: two phones that ring on for one call; a target tried twice.
//! Holds: whichever target answers first carries the call, even one whose time was over.

use std::time::Duration;

use shared::ask::{Forward, RouteDecision, Strategy};
use shared::cdr::HangupReason;
use shared::snapshot::HttpRouterRules;
use sim::phone::Ending;
use sim::phone::plan::{CalleePlan, CallerPlan, Outcome, Ring};
use sim::program::forward;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

const RING: Duration = Duration::from_secs(5);

/// 1001 calls; the router names these, with five seconds each.
fn hunting(shards: u8, users: &[&str], strategy: Strategy) -> Result<World, Failure> {
    let router =
        Some(HttpRouterRules { budget: Duration::from_secs(2), fallback_to_static: false });
    let settings = WorldSettings { http_router: router, shards, ..WorldSettings::calm(80) };
    let names = ["1001", "1002", "1003", "1004"];
    let phones = names.map(PhoneSpec::user);
    let mut world = World::started(settings, &phones)?;
    let uris: Vec<String> = users.iter().map(|user| format!("sip:{user}@ringgate.test")).collect();
    let forward = Forward { ring_timeout: Some(RING), ..forward(&uris, strategy) };
    let decision = RouteDecision::Forward(Box::new(forward));
    world.program_mut().route_next(Duration::ZERO, decision);
    Ok(world)
}

fn answer_after(millis: u64) -> CalleePlan {
    let outcome = Outcome::Answer(Duration::from_millis(millis));
    CalleePlan { outcome, ..CalleePlan::answer() }
}

fn call(world: &mut World) -> Result<(), Failure> {
    world.call(0, CallerPlan::to("sip:200@ringgate.test"));
    world.run_for(Duration::from_secs(60))
}

#[test]
fn the_next_target_is_tried_after_a_failure() -> Result<(), Failure> {
    for failure in [486, 603, 503] {
        let mut world = hunting(1, &["1002", "1003"], Strategy::Sequential)?;
        world.phone_mut(1).expect_call(CalleePlan::refuse(failure));
        call(&mut world)?;
        let (first, second) = (&world.phone(1).usage(0).report, &world.phone(2).usage(0).report);
        assert_eq!((first.final_status, second.final_status), (Some(failure), Some(200)));
        assert!(second.began_at >= first.ended_at.expect("it ended"), "one after the other");
        let record = world.noted().record();
        assert_eq!((record.status_code, record.sip_leg_roles.len()), (200, 3));
        assert_eq!(record.hangup_messages[0].code, failure);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_target_that_rings_too_long_is_cancelled() -> Result<(), Failure> {
    let mut world = hunting(1, &["1002", "1003"], Strategy::Sequential)?;
    let early = CalleePlan {
        rings: vec![(Duration::from_millis(100), Ring::EarlyMedia)],
        ..CalleePlan::ring_forever()
    };
    world.phone_mut(1).expect_call(early);
    call(&mut world)?;
    let first = &world.phone(1).usage(0).report;
    assert_eq!(first.ending, Some(Ending::Cancelled));
    let rang = first.ended_at.expect("it ended").since(first.began_at);
    assert!((5_000..5_100).contains(&rang.as_millis()), "it rang for {rang:?}");
    assert_eq!(world.phone(2).usage(0).report.final_status, Some(200));
    assert!(world.phone(2).usage(0).talking().packets_heard > 0, "the winner hears the caller");
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}

/// The ring time bounds a next hop that says nothing at all: Timer B would take 32 s.
#[test]
fn a_silent_target_is_left_after_its_time() -> Result<(), Failure> {
    let mut world = hunting(1, &["1002", "1003"], Strategy::Sequential)?;
    world.phone_mut(1).expect_call(CalleePlan::silent());
    let began = world.now();
    call(&mut world)?;
    let second = &world.phone(2).usage(0).report;
    let waited = second.began_at.since(began).as_millis();
    assert!((5_000..5_200).contains(&waited), "tried after {waited} ms");
    assert_eq!(world.noted().record().status_code, 200);
    assert_eq!(world.noted().requests("CANCEL").count(), 0, "RFC 3261 9.1");
    world.finish().map(drop)
}

/// RFC 3261 9.1: the 200 of the first target crosses our CANCEL. Somebody picked up: that counts.
#[test]
fn an_answer_that_crosses_the_cancel_still_carries_the_call() -> Result<(), Failure> {
    let mut world = hunting(1, &["1002", "1003"], Strategy::Sequential)?;
    // Its 200 leaves before our CANCEL reaches it, and reaches us after we sent that.
    world.phone_mut(1).expect_call(answer_after(4_995));
    world.phone_mut(2).expect_call(CalleePlan::ring_forever());
    call(&mut world)?;
    let (first, second) = (&world.phone(1).usage(0).report, &world.phone(2).usage(0).report);
    assert_eq!(first.final_status, Some(200));
    assert_eq!((second.ending, second.final_status), (Some(Ending::Cancelled), Some(487)));
    let record = world.noted().record();
    assert_eq!((record.status_code, record.hangup_reason), (200, HangupReason::ByCaller));
    world.finish().map(drop)
}

#[test]
fn all_targets_ring_at_once_and_the_first_answer_wins() -> Result<(), Failure> {
    for shards in [1, 4] {
        let mut world = hunting(shards, &["1002", "1003", "1004"], Strategy::Parallel)?;
        world.phone_mut(1).expect_call(CalleePlan::ring_forever());
        world.phone_mut(2).expect_call(answer_after(1_000));
        world.phone_mut(3).expect_call(CalleePlan::refuse(486));
        call(&mut world)?;
        assert_eq!(world.phone(1).usage(0).report.ending, Some(Ending::Cancelled));
        assert_eq!(world.phone(2).usage(0).report.final_status, Some(200));
        assert_eq!(world.noted().record().sip_leg_roles.len(), 4);
        world.finish()?;
    }
    Ok(())
}

/// RFC 3261 16.7 step 6, over the whole hunt.
#[test]
fn the_best_failure_is_heard_when_all_have_failed() -> Result<(), Failure> {
    for (first, second, expected, reason) in [
        (CalleePlan::refuse(486), CalleePlan::silent(), 486, HangupReason::Rejected),
        (CalleePlan::silent(), CalleePlan::refuse(486), 486, HangupReason::Rejected),
        (CalleePlan::silent(), CalleePlan::ring_forever(), 480, HangupReason::NoAnswer),
        (CalleePlan::refuse(404), CalleePlan::refuse(503), 404, HangupReason::Failed),
    ] {
        let mut world = hunting(1, &["1002", "1003"], Strategy::Sequential)?;
        world.phone_mut(1).expect_call(first);
        world.phone_mut(2).expect_call(second);
        call(&mut world)?;
        let record = world.noted().record();
        assert_eq!((record.status_code, record.hangup_reason), (expected, reason));
        assert_eq!(record.hangup_messages.len(), 2);
        world.finish()?;
    }
    Ok(())
}

/// Who is unknown, who is not registered, what cannot be called: each costs nothing but its turn.
#[test]
fn targets_that_cannot_be_called_are_passed_over() -> Result<(), Failure> {
    for shards in [1, 3] {
        let router =
            Some(HttpRouterRules { budget: Duration::from_secs(2), fallback_to_static: false });
        let absent_users = vec!["1999".to_owned()];
        let settings =
            WorldSettings { http_router: router, shards, absent_users, ..WorldSettings::calm(81) };
        let mut world =
            World::started(settings, &[PhoneSpec::user("1001"), PhoneSpec::user("1002")])?;
        let uris =
            ["sip:nobody@ringgate.test", "sips:1002@ringgate.test", "sip:1999@ringgate.test"];
        let uris = uris.iter().chain(&["sip:1002@ringgate.test"]).map(ToString::to_string);
        let forward = forward(&uris.collect::<Vec<_>>(), Strategy::Sequential);
        let decision = RouteDecision::Forward(Box::new(forward));
        world.program_mut().route_next(Duration::ZERO, decision);
        call(&mut world)?;
        let record = world.noted().record();
        let codes: Vec<u16> = record.hangup_messages.iter().map(|message| message.code).collect();
        assert_eq!((record.status_code, codes), (200, vec![404, 416, 480]));
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_caller_that_cancels_stops_the_hunt() -> Result<(), Failure> {
    let mut world = hunting(1, &["1002", "1003", "1004"], Strategy::Sequential)?;
    world.phone_mut(1).expect_call(CalleePlan::refuse(486));
    world.phone_mut(2).expect_call(CalleePlan::ring_forever());
    let cancel_after = Some(Duration::from_secs(3));
    world.call(0, CallerPlan { cancel_after, ..CallerPlan::to("sip:200@ringgate.test") });
    world.run_for(Duration::from_secs(30))?;
    assert_eq!(world.phone(2).usage(0).report.ending, Some(Ending::Cancelled));
    assert!(world.phone(3).usages().is_empty(), "the hunt went on");
    assert_eq!(world.noted().record().hangup_reason, HangupReason::Canceled);
    world.finish().map(drop)
}
