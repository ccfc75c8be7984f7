//! OPTIONS to trunks: one that is gone is passed over, and comes back by itself.
//! Owns:  trunk A that vanishes and returns, in worlds of one shard and of several.
//! Gives: calls that go straight to B while A is down; what a reload leaves as it was.
//! Never: a trunk that several shards ask.
//! Holds: when every trunk is down a call is tried all the same.

use std::time::Duration;

use shared::failover::Failover;
use shared::snapshot::{HealthChecks, Trunk};
use sim::phone::plan::CallerPlan;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

/// Down after at most 3 * 5.5 s and a second, up after at most 2 * 5.5 s.
const TO_BE_SEEN: Duration = Duration::from_secs(20);

fn terms(trunk: Trunk) -> Trunk {
    let checks = HealthChecks {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        failures: 3,
        successes: 2,
    };
    let failover = Failover { setup: Duration::from_secs(3), ..Failover::default() };
    Trunk { health: Some(checks), failover, ..trunk }
}

fn started(seed: u64, shards: u8) -> Result<World, Failure> {
    let document = serde_json::json!({
        "name": "out", "match": { "to.user": "^9(\\d+)$" }, "rewrite": { "to.user": "{1}" },
        "dest": ["a", "b"], "select": "sequential",
    });
    let mut flaws = shared::document::Flaws::default();
    let rule = shared::route::check(&document, &Default::default(), &mut flaws);
    let routes = vec![rule.expect("a rule")];
    let settings =
        WorldSettings { shards, routes, trunk_terms: terms, ..WorldSettings::calm(seed) };
    let names = ["a", "b", "c"].map(PhoneSpec::trunk_named);
    let phones: Vec<PhoneSpec> = [PhoneSpec::user("1001")].into_iter().chain(names).collect();
    World::started(settings, &phones)
}

/// Calls that several shards serve, one after the other; how many INVITEs each trunk's host got.
fn dial(world: &mut World) -> Result<[usize; 3], Failure> {
    let count = |world: &World, phone: u8| {
        let to = std::net::SocketAddr::from(([10, 1, 0, phone + 2], 5_060));
        world.noted().requests("INVITE").filter(|sent| sent.to == to).count()
    };
    let before = [1, 2, 3].map(|phone| count(world, phone));
    for call in 0..6 {
        let plan = CallerPlan::to("sip:94930@ringgate.test");
        world.after(Duration::from_millis(300 * call), Act::Call(0, plan));
    }
    world.run_for(Duration::from_secs(4))?;
    let after = [1, 2, 3].map(|phone| count(world, phone));
    Ok([0, 1, 2].map(|trunk| after[trunk] - before[trunk]))
}

/// Without checks nothing is asked any more, so that the world can come to rest.
fn finish(mut world: World) -> Result<(), Failure> {
    world.publish(|snapshot| {
        let unchecked = |trunk: &Trunk| Trunk { health: None, ..trunk.clone() };
        snapshot.trunks = std::sync::Arc::new(snapshot.trunks.iter().map(unchecked).collect());
    })?;
    world.run_for(Duration::from_secs(60))?;
    world.finish().map(drop)
}

#[test]
fn a_trunk_that_vanishes_is_passed_over_and_comes_back_by_itself() -> Result<(), Failure> {
    for shards in [1, 3] {
        let mut world = started(301, shards)?;
        world.run_for(TO_BE_SEEN)?;
        assert_eq!(dial(&mut world)?, [6, 0, 0], "all is well");
        world.run_for(Duration::from_secs(15))?;
        world.after(Duration::ZERO, Act::Vanish(1));
        world.run_for(TO_BE_SEEN)?;
        assert_eq!(dial(&mut world)?, [0, 6, 0], "a is down");
        world.run_for(Duration::from_secs(15))?;
        let last = world.noted().records.last().expect("a record");
        assert_eq!((last.status_code, last.outbound_trunk.as_deref()), (200, Some("b")));
        assert_eq!(last.leg_timeline.events, [], "a was not tried");
        world.after(Duration::ZERO, Act::ComeBack(1));
        world.run_for(TO_BE_SEEN)?;
        assert_eq!(dial(&mut world)?, [6, 0, 0], "a is back");
        finish(world)?;
    }
    Ok(())
}

#[test]
fn each_trunk_is_asked_by_one_shard() -> Result<(), Failure> {
    let mut world = started(302, 3)?;
    world.run_for(Duration::from_secs(60))?;
    for host in [3, 4, 5] {
        let to = std::net::SocketAddr::from(([10, 1, 0, host], 5_060));
        let asked = world.noted().requests("OPTIONS").filter(|sent| sent.to == to).count();
        assert!((11..=15).contains(&asked), "{to} was asked {asked} times in 65 s");
    }
    finish(world)
}

#[test]
fn when_every_trunk_is_down_a_call_is_tried_all_the_same() -> Result<(), Failure> {
    let mut world = started(303, 1)?;
    for phone in [1, 2] {
        world.after(Duration::ZERO, Act::Vanish(phone));
    }
    world.run_for(TO_BE_SEEN)?;
    world.after(Duration::ZERO, Act::ComeBack(2));
    world.call(0, CallerPlan::to("sip:94930@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    let record = world.noted().record();
    assert_eq!((record.status_code, record.outbound_trunk.as_deref()), (200, Some("b")));
    assert_eq!(record.hangup_messages[0].code, 408, "a was tried first");
    finish(world)
}

#[test]
fn a_reload_keeps_what_is_known_of_a_destination_and_of_no_other() -> Result<(), Failure> {
    let mut world = started(304, 3)?;
    world.after(Duration::ZERO, Act::Vanish(1));
    world.run_for(TO_BE_SEEN)?;
    world.publish(|_| {})?;
    assert_eq!(dial(&mut world)?, [0, 6, 0], "a is still down");
    world.run_for(Duration::from_secs(15))?;
    // Trunk a moves to the host of c, about which nothing bad is known.
    world.publish(|snapshot| {
        let mut trunks = Vec::clone(&snapshot.trunks);
        let address = trunks[2].entrances[0].address;
        trunks.truncate(2);
        trunks[0].entrances[0].address = address;
        snapshot.trunks = std::sync::Arc::new(trunks);
    })?;
    assert_eq!(dial(&mut world)?, [0, 0, 6], "a is somewhere else now");
    world.run_for(Duration::from_secs(15))?;
    finish(world)
}
