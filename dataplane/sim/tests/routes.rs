//! The dial plan in a world with phones and a carrier, on several shards.
//! Owns:  a number that comes in, a number that goes out, a number that nobody gets.
//! Gives: what the far end sees, and what the record says.
//! Never: a rule that two shards would read differently.
//! Holds: calls of users go to users first; calls of the carrier ask the rules first.

use std::time::Duration;

use shared::cdr::Direction;
use shared::originate::Originate;
use shared::snapshot::RemoteUsers;
use sim::phone::plan::{CalleePlan, CallerPlan};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

fn rules() -> Vec<shared::route::Route> {
    let documents = [
        serde_json::json!({
            "name": "did", "direction": "inbound", "source_trunks": ["carrier"],
            "match": { "to.user": "^\\+4930(\\d{4})$" }, "rewrite": { "to.user": "{1}" },
        }),
        serde_json::json!({
            "name": "out", "match": { "to.user": "^9(\\d+)$" }, "rewrite": { "to.user": "00{1}" },
            "dest": "carrier", "max_ring_time": 5,
        }),
        serde_json::json!({
            "name": "closed", "match": { "to.user": "^8" },
            "reject": { "code": 603, "reason": "Closed today" },
        }),
    ];
    let mut flaws = shared::document::Flaws::default();
    let read = |document| shared::route::check(document, &Default::default(), &mut flaws);
    let routes: Vec<_> = documents.iter().filter_map(read).collect();
    assert_eq!((routes.len(), &flaws), (3, &Default::default()));
    routes
}

/// 1001 and 1002 with a phone each, then the carrier.
fn started(seed: u64) -> Result<World, Failure> {
    let settings = WorldSettings { shards: 3, routes: rules(), ..WorldSettings::calm(seed) };
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002"), PhoneSpec::trunk()];
    World::started(settings, &phones)
}

#[test]
fn a_number_of_the_carrier_reaches_the_extension_behind_it() -> Result<(), Failure> {
    let mut world = started(71)?;
    world.call(2, CallerPlan::to("sip:+49301002@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    let record = world.noted().record();
    assert_eq!((record.status_code, record.direction), (200, Direction::Inbound));
    assert_eq!(world.phone(1).usages().len(), 1, "1002 was called");
    world.finish().map(drop)
}

#[test]
fn a_prefix_goes_out_and_rings_no_longer_than_its_rule_says() -> Result<(), Failure> {
    let mut world = started(72)?;
    world.phone_mut(2).expect_call(CalleePlan::ring_forever());
    world.call(0, CallerPlan::to("sip:93012345@ringgate.test"));
    world.run_for(Duration::from_secs(6))?;
    assert_eq!(world.phone(0).usage(0).report.final_status, Some(480));
    world.run_for(Duration::from_secs(40))?;
    let record = world.noted().record();
    assert_eq!((record.status_code, record.direction), (480, Direction::Outbound));
    assert_eq!(record.outbound_trunk.as_deref(), Some("carrier"));
    world.finish().map(drop)
}

#[test]
fn a_rule_that_rejects_and_a_number_without_a_rule() -> Result<(), Failure> {
    for (number, status) in [("8123", 603), ("7123", 404)] {
        let mut world = started(73)?;
        world.call(0, CallerPlan::to(format!("sip:{number}@ringgate.test")));
        world.run_for(Duration::from_secs(5))?;
        assert_eq!(world.phone(0).usage(0).report.final_status, Some(status));
        world.run_for(Duration::from_secs(40))?;
        world.finish()?;
    }
    Ok(())
}

#[test]
fn under_loss_the_rules_hold_as_well() -> Result<(), Failure> {
    for seed in 80..90 {
        let rough = WorldSettings::rough(seed);
        let settings = WorldSettings { shards: 2, routes: rules(), scatter: true, ..rough };
        let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002"), PhoneSpec::trunk()];
        let mut world = World::started(settings, &phones)?;
        world.run_for(Duration::from_secs(10))?;
        world.call(0, CallerPlan::to("sip:93012345@ringgate.test"));
        world.call(2, CallerPlan::to("sip:+49301002@ringgate.test"));
        world.run_for(Duration::from_secs(60))?;
        world.finish()?;
    }
    Ok(())
}

/// Where backends keep users that no snapshot has, whoever is registered is called; a rule for every
/// number does not send it away, and gets what nobody is registered as.
#[test]
fn a_registered_user_of_a_backend_goes_before_the_rules() -> Result<(), Failure> {
    let document = serde_json::json!({
        "name": "all", "match": { "to.user": "^\\d+$" }, "dest": "carrier",
    });
    let mut flaws = shared::document::Flaws::default();
    let rule = shared::route::check(&document, &Default::default(), &mut flaws);
    for (number, direction) in [("1002", Direction::Internal), ("4711", Direction::Outbound)] {
        let settings = WorldSettings {
            shards: 3,
            routes: vec![rule.clone().expect("a rule")],
            remote_users: Some(RemoteUsers { first: 0, budget: Duration::from_secs(1) }),
            known_remotely: vec!["1002".to_owned()],
            ..WorldSettings::calm(75)
        };
        let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002"), PhoneSpec::trunk()];
        let mut world = World::started(settings, &phones)?;
        world.call(0, CallerPlan::to(format!("sip:{number}@ringgate.test")));
        world.run_for(Duration::from_secs(30))?;
        let record = world.noted().record();
        assert_eq!((record.status_code, record.direction), (200, direction), "{number}");
        world.finish()?;
    }
    Ok(())
}

/// Click-to-dial to a number outside: whichever shard is asked, and whichever would keep a user of that name.
#[test]
fn the_first_party_of_a_program_may_be_a_number_behind_a_rule() -> Result<(), Failure> {
    for number in ["93012345", "93012346", "93012347", "93012348"] {
        for seed in 80..84 {
            let mut world = started(seed)?;
            world.phone_mut(0).expect_call(CalleePlan::answer());
            world.phone_mut(2).expect_call(CalleePlan {
                hang_up_after: Some(Duration::from_secs(10)),
                ..CalleePlan::answer()
            });
            let (from, to) = (number.into(), "1001".into());
            let wish = Originate { from, to, ..Originate::default() };
            world.after(Duration::ZERO, Act::Originate(wish));
            world.run_for(Duration::from_secs(60))?;
            let record = world.noted().record();
            assert_eq!((record.status_code, record.caller.as_str()), (200, number), "{record:?}");
            assert_eq!(record.outbound_trunk.as_deref(), Some("carrier"));
            assert_eq!(world.phone(0).usages().len(), 1, "1001 was called");
            world.finish()?;
        }
    }
    Ok(())
}
