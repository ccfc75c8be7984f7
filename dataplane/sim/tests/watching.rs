//! Lamps, which watch calls on whatever shard these are, and texts (RFC 6665, RFC 4235, RFC 3428).
//! Owns:  the way of a change from a call to a lamp, over lossy lines too.
//! Gives: the states that a lamp shows, and none when all is over.
//! Never: a lamp that hears something twice or out of order (the phone itself checks that).
//! Holds: subscriptions run out with nothing left behind.

use std::time::Duration;

use shared::metrics::Counter;
use sim::network::Weather;
use sim::phone::plan::{CalleePlan, CallerPlan, Outcome};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn phones() -> [PhoneSpec; 3] {
    [PhoneSpec::user("1001"), PhoneSpec::user("1002"), PhoneSpec::user("1003")]
}

const HOUR: Duration = Duration::from_secs(3_600);

/// In seed 306 a phone draws a branch that begins like one of ours: it was taken for a loop (482).
#[test]
fn a_lamp_shows_a_call_of_another_shard_from_its_ringing_to_its_end() -> Result<(), Failure> {
    for seed in 300..312 {
        let settings = WorldSettings { shards: 3, scatter: true, ..WorldSettings::calm(seed) };
        let mut world = World::started(settings, &phones())?;
        let now = world.now();
        let caller = world.phone_mut(2).watch(now, "sip:1001@ringgate.test", HOUR);
        let callee = world.phone_mut(2).watch(now, "sip:1002@ringgate.test", HOUR);
        world.run_for(Duration::from_secs(5))?;
        assert!(world.phone(2).lamp(callee).lit.is_empty());
        world.phone_mut(1).expect_call(CalleePlan {
            outcome: Outcome::Answer(Duration::from_secs(6)),
            ..CalleePlan::answer()
        });
        world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
        world.run_for(Duration::from_secs(4))?;
        assert_eq!(world.phone(2).lamp(callee).lit.len(), 1, "seed {seed}: it rings");
        world.run_for(Duration::from_secs(60))?;
        for lamp in [caller, callee] {
            let lamp = world.phone(2).lamp(lamp);
            let seen: Vec<_> = lamp.seen.iter().map(String::as_str).collect();
            assert!(seen.contains(&"early"), "seed {seed}: {seen:?}");
            assert!(seen.contains(&"confirmed"), "seed {seed}: {seen:?}");
            assert_eq!(seen.last(), Some(&"terminated"), "seed {seed}: {seen:?}");
            assert!(lamp.lit.is_empty() && lamp.over.is_none(), "seed {seed}: {lamp:?}");
        }
        world.finish()?;
        let over = world.phone(2).lamp(callee).over.as_deref();
        assert_eq!(over, Some("terminated;reason=timeout"), "seed {seed}");
    }
    Ok(())
}

/// Datagrams are lost, doubled and out of order; what a lamp shows is not.
#[test]
fn lamps_are_right_over_rough_lines() -> Result<(), Failure> {
    for seed in 320..332 {
        let calm = WorldSettings::calm(seed);
        let settings = WorldSettings { shards: 2, weather: Weather::ROUGH, ..calm };
        let mut world = World::started(settings, &phones())?;
        let now = world.now();
        world.phone_mut(2).watch(now, "sip:1002@ringgate.test", HOUR);
        for _ in 0..3 {
            world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
            world.run_for(Duration::from_secs(40))?;
        }
        assert_eq!(world.counter(Counter::SubscriptionsLost), 0, "seed {seed}");
        world.finish()?; // which looks at the lamps
    }
    Ok(())
}

/// RFC 3428: whoever hears 2xx for a text has a reader, on whatever shard that is registered.
#[test]
fn texts_are_read_or_refused() -> Result<(), Failure> {
    let settings = WorldSettings { shards: 3, scatter: true, ..WorldSettings::calm(350) };
    let settings = WorldSettings { absent_users: vec!["1999".to_owned()], ..settings };
    let mut world = World::started(settings, &phones())?;
    for (user, status) in [("1002", 200), ("1003", 200), ("1999", 480), ("nobody", 404)] {
        let now = world.now();
        let text = world.phone_mut(0).text(now, &format!("sip:{user}@ringgate.test"));
        world.run_for(Duration::from_secs(5))?;
        assert_eq!(world.phone(0).texts()[text].status, Some(status), "{user}");
    }
    assert_eq!([1, 2].map(|phone| world.phone(phone).heard_texts().len()), [1, 1]);
    world.finish().map(drop)
}

/// A phone that was switched off does not know what it is told, and is told no more.
#[test]
fn a_phone_that_forgot_is_left_alone() -> Result<(), Failure> {
    let mut world = World::started(WorldSettings::calm(340), &phones())?;
    let now = world.now();
    world.phone_mut(2).watch(now, "sip:1002@ringgate.test", HOUR);
    world.run_for(Duration::from_secs(2))?;
    let now = world.now();
    world.phone_mut(2).vanish(now);
    world.phone_mut(2).come_back(now);
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(60))?;
    assert_eq!(world.counter(Counter::SubscriptionsLost), 1);
    world.finish().map(drop)
}
