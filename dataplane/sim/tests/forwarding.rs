//! Calls that go on elsewhere for a user's forwarding, over several shards (issue 4, must show 5).
//! Owns:  the four reasons, a number that the rules know, a chain that closes.
//! Gives: who rings and for how long, what the caller hears, what the record tells.
//! Never: a phone that rings on behind a forward.
//! Holds: one final answer, one record; bindings on other shards make no difference.

use std::time::Duration;

use shared::cdr::{Cdr, Direction, LegEventType};
use shared::forwarding::{Forwarding, Redirects};
use shared::metrics::Counter;
use shared::snapshot::RemoteUsers;
use sim::phone::Ending;
use sim::phone::plan::{CalleePlan, CallerPlan, Outcome};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn wish(user: &str, mode: &str, to: &str) -> (String, Forwarding) {
    let wish = Forwarding::read(Some(mode), Some(to), Some(6)).expect("right");
    (user.to_owned(), wish.expect("a forwarding"))
}

/// 1001 to 1003 with a phone each, and the carrier; 1999 has none.
fn started(settings: WorldSettings) -> Result<World, Failure> {
    let users = ["1001", "1002", "1003"].map(PhoneSpec::user);
    let phones: Vec<PhoneSpec> = users.into_iter().chain([PhoneSpec::trunk()]).collect();
    let settings = WorldSettings { absent_users: vec!["1999".to_owned()], ..settings };
    World::started(settings, &phones)
}

fn forwarding(shards: u8, forwards: Vec<(String, Forwarding)>) -> Result<World, Failure> {
    started(WorldSettings { shards, forwards, ..WorldSettings::calm(91) })
}

fn call(world: &mut World, to: &str) -> Result<(), Failure> {
    world.call(0, CallerPlan::to(to));
    world.run_for(Duration::from_secs(60))
}

fn steps(record: &Cdr) -> usize {
    let events = record.leg_timeline.events.iter();
    events.filter(|event| event.event_type == LegEventType::Forwarded).count()
}

#[test]
fn each_reason_leads_to_the_destination() -> Result<(), Failure> {
    for shards in [1, 4] {
        for (mode, to, plan, is_silent) in [
            ("always", "1002", None, false),
            ("when_busy", "1002", Some(CalleePlan::refuse(486)), false),
            ("when_not_answered", "1002", Some(CalleePlan::ring_forever()), false),
            ("when_not_answered", "1002", Some(CalleePlan::silent()), true),
            ("when_not_registered", "1999", None, false),
        ] {
            let mut world = forwarding(shards, vec![wish(to, mode, "1003")])?;
            // A silent phone takes no note of the call.
            let has_usage = plan.is_some() && !is_silent;
            if let Some(plan) = plan {
                world.phone_mut(1).expect_call(plan);
            }
            call(&mut world, &format!("sip:{to}@ringgate.test"))?;
            let rang = usize::from(has_usage);
            assert_eq!(world.phone(1).usages().len(), rang, "{mode}");
            assert_eq!(world.phone(2).usage(0).report.final_status, Some(200), "{mode}");
            assert!(world.phone(2).usage(0).talking().packets_heard > 0, "{mode}");
            let record = world.noted().record();
            assert_eq!((record.status_code, &*record.callee, steps(record)), (200, to, 1));
            world.finish()?;
        }
    }
    Ok(())
}

#[test]
fn who_does_not_answer_rings_for_the_time_of_the_forwarding() -> Result<(), Failure> {
    let mut world = forwarding(3, vec![wish("1002", "when_not_answered", "1003")])?;
    world.phone_mut(1).expect_call(CalleePlan::ring_forever());
    call(&mut world, "sip:1002@ringgate.test")?;
    let first = &world.phone(1).usage(0).report;
    assert_eq!(first.ending, Some(Ending::Cancelled));
    let rang = first.ended_at.expect("it ended").since(first.began_at).as_millis();
    assert!((6_000..6_100).contains(&rang), "it rang for {rang} ms");
    world.finish().map(drop)
}

/// The forwarded call goes out by the rules, whether or not a backend might know the number.
#[test]
fn a_number_goes_out_by_the_rules() -> Result<(), Failure> {
    let document = serde_json::json!({
        "name": "out", "match": { "to.user": "^9(\\d+)$", "from.user": "1002" },
        "rewrite": { "to.user": "+{1}" }, "dest": "carrier",
    });
    for asks in [false, true] {
        let mut flaws = shared::document::Flaws::default();
        let rule = shared::route::check(&document, &Default::default(), &mut flaws);
        let budget = Duration::from_secs(2);
        let settings = WorldSettings {
            shards: 3,
            routes: vec![rule.expect("a rule")],
            forwards: vec![wish("1002", "when_busy", "94930123")],
            remote_users: asks.then_some(RemoteUsers { first: 1, budget }),
            ..WorldSettings::calm(92)
        };
        let mut world = started(settings)?;
        world.phone_mut(1).expect_call(CalleePlan::refuse(486));
        call(&mut world, "sip:1002@ringgate.test")?;
        let record = world.noted().record();
        assert_eq!((record.status_code, record.direction), (200, Direction::Outbound));
        assert_eq!((record.outbound_trunk.as_deref(), &*record.caller), (Some("carrier"), "1001"));
        assert_eq!((world.phone(3).usages().len(), steps(record)), (1, 1));
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_ring_of_forwards_is_answered_once() -> Result<(), Failure> {
    for (mode, status) in [("always", 482), ("when_not_registered", 480)] {
        let forwards = vec![wish("1999", mode, "1998"), wish("1998", mode, "1999")];
        let absent_users = vec!["1998".to_owned(), "1999".to_owned()];
        let phones = [PhoneSpec::user("1001")];
        let settings =
            WorldSettings { shards: 3, forwards, absent_users, ..WorldSettings::calm(93) };
        let mut world = World::started(settings, &phones)?;
        call(&mut world, "sip:1999@ringgate.test")?;
        assert_eq!(world.noted().record().status_code, status);
        assert_eq!(world.counter(Counter::ForwardsRefused), 1);
        world.finish()?;
    }
    Ok(())
}

/// A phone sends a call on by 302; without leave the caller hears that.
#[test]
fn a_phone_deflects_a_call() -> Result<(), Failure> {
    for (redirects, status) in [(Redirects::OfUsers, 200), (Redirects::PassedOn, 302)] {
        let mut world = started(WorldSettings { shards: 4, redirects, ..WorldSettings::calm(95) })?;
        let moved_to = Some("sip:1003@ringgate.test".to_owned());
        world.phone_mut(1).expect_call(CalleePlan { moved_to, ..CalleePlan::refuse(302) });
        call(&mut world, "sip:1002@ringgate.test")?;
        let record = world.noted().record();
        assert_eq!((record.status_code, steps(record)), (status, usize::from(status == 200)));
        assert_eq!(world.phone(2).usages().len(), usize::from(status == 200));
        world.finish()?;
    }
    Ok(())
}

/// Must show 5: one answer, two phones that are told that the call was taken elsewhere.
#[test]
fn three_phones_ring_and_two_of_them_stop() -> Result<(), Failure> {
    let names = ["1001", "1002", "1002", "1002"];
    let mut world = World::started(
        WorldSettings { shards: 4, ..WorldSettings::calm(94) },
        &names.map(PhoneSpec::user),
    )?;
    let answers = Outcome::Answer(Duration::from_secs(2));
    world.phone_mut(1).expect_call(CalleePlan::ring_forever());
    world.phone_mut(2).expect_call(CalleePlan { outcome: answers, ..CalleePlan::answer() });
    world.phone_mut(3).expect_call(CalleePlan::ring_forever());
    call(&mut world, "sip:1002@ringgate.test")?;
    for phone in [1, 3] {
        assert_eq!(world.phone(phone).usage(0).report.ending, Some(Ending::Cancelled));
    }
    assert_eq!(world.phone(2).usage(0).report.final_status, Some(200));
    assert_eq!(world.noted().requests("CANCEL").count(), 2);
    world.finish().map(drop)
}
