//! Bindings come, are refreshed, run out and are wiped (RFC 3261 10).
//! Owns:  the registrar's dialogue with phones of both digest algorithms.
//! Gives: events, expiry on time, `*`, Min-Expires, what a wrong password gets.
//! Never: a binding without credentials.
//! Holds: after the last expiry nothing of a registration stands.

use std::time::Duration;

use shared::event::RegistrationChange::{Offline, Registered, Unregistered};
use sim::phone::plan::CallerPlan;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::speech::Dialect;
use sim::speech::digest::Hash;
use sim::world::{Act, Failure, World};

#[test]
fn both_digest_algorithms_register() -> Result<(), Failure> {
    for hashes in [vec![Hash::Md5], vec![Hash::Sha256]] {
        let phone = PhoneSpec { hashes, ..PhoneSpec::user("1001") };
        let mut world = World::started(WorldSettings::calm(20), &[phone])?;
        assert!(world.phone(0).is_registered(world.now()));
        assert_eq!(world.noted().answers("REGISTER", 401).count(), 1);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn compact_folded_and_oddly_written_messages_are_understood() -> Result<(), Failure> {
    for dialect in [Dialect::Compact, Dialect::Odd] {
        let phone = |user| PhoneSpec { dialect, ..PhoneSpec::user(user) };
        let mut world = World::started(WorldSettings::calm(21), &[phone("1001"), phone("1002")])?;
        world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
        world.run_for(Duration::from_secs(30))?;
        assert_eq!(world.noted().record().status_code, 200, "{dialect:?}");
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_binding_that_is_not_refreshed_runs_out_on_time() -> Result<(), Failure> {
    let minute = Duration::from_secs(60);
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002").registering_for(minute)];
    let mut world = World::started(WorldSettings::calm(22), &phones)?;
    world.after(Duration::ZERO, Act::StopRegistering(1));
    world.run_for(minute)?;
    let changes: Vec<_> = world.noted().registrations.iter().map(|change| change.change).collect();
    assert_eq!(changes, [Registered, Registered, Offline]);
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(2))?;
    assert_eq!(world.phone(0).usage(0).report.final_status, Some(480));
    world.finish().map(drop)
}

#[test]
fn a_refreshed_binding_stays() -> Result<(), Failure> {
    let minute = Duration::from_secs(60);
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002").registering_for(minute)];
    let mut world = World::started(WorldSettings::rough(23), &phones)?;
    world.run_for(Duration::from_secs(600))?;
    assert!(world.phone(1).is_registered(world.now()));
    assert!(!world.noted().registrations.iter().any(|change| change.change == Offline));
    world.finish().map(drop)
}

/// RFC 3261 10.2.2, 10.3 step 6.
#[test]
fn a_star_wipes_all_bindings_of_the_user() -> Result<(), Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1001")];
    let mut world = World::started(WorldSettings::calm(24), &phones)?;
    world.after(Duration::ZERO, Act::WipeBindings(0));
    world.run_for(Duration::from_millis(200))?;
    let wiped = world.noted().registrations.iter().filter(|change| change.change == Unregistered);
    assert_eq!(wiped.count(), 2);
    world.run_for(Duration::from_secs(10))?;
    assert!(world.phone(0).is_registered(world.now()), "it registered again afterwards");
    world.finish().map(drop)
}

/// RFC 3261 10.3 step 6, 20.23: the world's registrar wants at least 60 s.
#[test]
fn too_short_an_expiry_is_refused_with_the_least_one() -> Result<(), Failure> {
    let phone = PhoneSpec::user("1001").registering_for(Duration::from_secs(10));
    let mut world = World::started(WorldSettings::calm(25), &[phone])?;
    assert_eq!(world.noted().answers("REGISTER", 423).count(), 1);
    assert!(world.phone(0).is_registered(world.now()));
    world.finish().map(drop)
}
