//! Users that only a program knows: registrations and calls wait for it (surface.md section 3).
//! Owns:  the wait of credentials, and what each answer of the backends becomes.
//! Gives: 200, 402, 403, 503; a caller that gives up while its backend thinks.
//! Never: 403 for a backend that is down; a challenge that waits.
//! Holds: who decides follows from the place in the chain.

use std::time::Duration;

use shared::ask::{Ask, UserAsk, UserDecision};
use shared::metrics::Counter;
use shared::snapshot::RemoteUsers;
use sim::phone::Ending;
use sim::phone::plan::CallerPlan;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

const BUDGET: Duration = Duration::from_secs(2);

/// 1001 is known to the backend alone, 1002 here.
fn settings(own_backend: u8) -> WorldSettings {
    WorldSettings {
        remote_users: Some(RemoteUsers { first: 0, budget: BUDGET }),
        known_remotely: vec!["1001".to_owned()],
        own_backend,
        ..WorldSettings::calm(90)
    }
}

fn phones() -> [PhoneSpec; 2] {
    [PhoneSpec::user("1001"), PhoneSpec::user("1002")]
}

fn asked(world: &World) -> Vec<&UserAsk> {
    let asks = world.noted().asked.iter();
    asks.filter_map(|ask| if let Ask::User(ask) = ask { Some(ask) } else { None }).collect()
}

#[test]
fn a_user_of_the_backend_registers_and_calls() -> Result<(), Failure> {
    for shards in [1, 3] {
        let mut world = World::started(WorldSettings { shards, ..settings(0) }, &phones())?;
        assert!(world.phone(0).is_registered(world.now()));
        world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
        world.call(1, CallerPlan::to("sip:1001@ringgate.test"));
        world.run_for(Duration::from_secs(30))?;
        assert_eq!(world.noted().records.len(), 2);
        assert!(world.noted().records.iter().all(|record| record.status_code == 200));
        let asks = asked(&world);
        assert!(asks.iter().all(|ask| ask.username == "1001"), "1002 is known here: {asks:?}");
        let methods: Vec<_> = asks.iter().map(|ask| ask.method).collect();
        assert_eq!(methods, ["REGISTER", "INVITE"]);
        assert_eq!(asks[0].realm, "ringgate.test");
        let mut names = asks[0].headers.iter().map(|(name, _)| name.as_str());
        assert!(names.all(|name| name != "Authorization"));
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_backend_ahead_of_our_own_users_is_always_asked() -> Result<(), Failure> {
    for decision in [UserDecision::Unknown, UserDecision::Unavailable] {
        let mut world = World::new(settings(1), &[PhoneSpec::user("1002")]);
        world.program_mut().answer_next(Duration::ZERO, decision);
        world.switch_on();
        world.run_for(Duration::from_secs(2))?;
        assert!(world.phone(0).is_registered(world.now()), "known here, so decided here");
        let asks = asked(&world);
        assert_eq!((asks.len(), asks[0].known_at), (1, Some(1)));
        world.finish()?;
    }
    Ok(())
}

/// The first answer to 1001's REGISTER, and what it is refused with.
fn refused_with(decision: Option<UserDecision>) -> Result<(Option<u16>, World), Failure> {
    let mut world = World::new(settings(0), &[PhoneSpec::user("1001")]);
    match decision {
        Some(decision) => world.program_mut().answer_next(Duration::from_millis(50), decision),
        None => world.program_mut().ignore_next_user(),
    }
    world.switch_on();
    world.run_for(Duration::from_secs(3))?;
    Ok((world.phone(0).registration_refused(), world))
}

#[test]
fn each_answer_has_its_status() -> Result<(), Failure> {
    let refused = |status, spam| UserDecision::Refused { status, spam };
    for (decision, expected) in [
        (Some(UserDecision::Unknown), 403),
        (Some(refused(403, false)), 403),
        (Some(refused(402, false)), 402),
        (Some(refused(403, true)), 403),
        (Some(UserDecision::Unavailable), 503),
        (None, 503),
    ] {
        let text = format!("{decision:?}");
        let (status, mut world) = refused_with(decision)?;
        assert_eq!(status, Some(expected), "{text}");
        world.run_for(Duration::from_secs(30))?;
        assert!(world.phone(0).is_registered(world.now()), "it tried again and the backend knew");
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_backend_that_never_answers_is_counted_and_answered_503() -> Result<(), Failure> {
    let (status, world) = refused_with(None)?;
    assert_eq!(status, Some(503));
    let counted = [Counter::AsksTimedOut, Counter::UserUndecided, Counter::UserDecisions]
        .map(|counter| world.counter(counter));
    assert_eq!(counted, [1, 1, 0]);
    Ok(())
}

#[test]
fn a_wrong_password_is_403_after_the_backend_named_the_right_one() -> Result<(), Failure> {
    let mut world = World::started(settings(0), &phones())?;
    let plan = CallerPlan { wrong_password: true, ..CallerPlan::to("sip:1002@ringgate.test") };
    world.call(0, plan);
    world.run_for(Duration::from_secs(10))?;
    assert_eq!(world.phone(0).usage(0).report.final_status, Some(403));
    assert!(world.phone(1).usages().is_empty());
    world.finish().map(drop)
}

/// There is no call yet, so there is no record; the CANCEL is answered all the same.
#[test]
fn a_caller_that_gives_up_while_its_backend_thinks_hears_487() -> Result<(), Failure> {
    let mut world = World::started(settings(0), &phones())?;
    world.program_mut().answer_next(Duration::from_secs(1), UserDecision::Unknown);
    let cancel_after = Some(Duration::from_millis(500));
    world.call(0, CallerPlan { cancel_after, ..CallerPlan::to("sip:1002@ringgate.test") });
    world.run_for(Duration::from_secs(10))?;
    assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::Cancelled));
    assert_eq!((world.noted().records.len(), world.counter(Counter::AsksLate)), (0, 1));
    world.finish().map(drop)
}
