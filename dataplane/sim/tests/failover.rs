//! Trunks that do not take a call, and those that stand in for them.
//! Owns:  trunk A dead in each way, B alive; the second destination of one trunk; a 503's Retry-After.
//! Gives: B carries the call within the configured time, and the record tells the story.
//! Never: a second try after the called party said no, or was heard.
//! Holds: the caller hears one final answer; nothing is left behind.

use std::time::Duration;

use shared::cdr::{Cdr, LegEventType};
use shared::failover::{Failover, FailoverCodes};
use shared::metrics::Counter;
use shared::net::Transport;
use shared::snapshot::Trunk;
use sim::phone::plan::{CalleePlan, CallerPlan, Outcome, Ring};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

const SETUP: Duration = Duration::from_secs(3);

fn terms(trunk: Trunk) -> Trunk {
    Trunk { failover: Failover { setup: SETUP, ..Failover::default() }, ..trunk }
}

fn rule(more: serde_json::Value) -> shared::route::Route {
    let mut document = serde_json::json!({
        "name": "out", "match": { "to.user": "^9(\\d+)$" }, "rewrite": { "to.user": "{1}" },
        "dest": ["a", "b"], "select": "sequential",
    });
    let fields = document.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    let mut flaws = shared::document::Flaws::default();
    shared::route::check(&document, &Default::default(), &mut flaws).expect("a rule")
}

/// 1001, then the far ends of trunks of these names; a rule sends 9... to a, then to b.
fn started(settings: WorldSettings, trunks: &[&str]) -> Result<World, Failure> {
    let mut phones = vec![PhoneSpec::user("1001")];
    phones.extend(trunks.iter().map(|name| PhoneSpec::trunk_named(name)));
    World::started(settings, &phones)
}

fn settings(seed: u64) -> WorldSettings {
    let routes = vec![rule(serde_json::json!({}))];
    WorldSettings { routes, trunk_terms: terms, ..WorldSettings::calm(seed) }
}

fn dial(world: &mut World) -> Result<(), Failure> {
    world.call(0, CallerPlan::to("sip:94930@ringgate.test"));
    world.run_for(Duration::from_secs(30))
}

fn timeline(record: &Cdr) -> Vec<(LegEventType, &str)> {
    let events = record.leg_timeline.events.iter();
    events.map(|event| (event.event_type, event.details.as_deref().unwrap_or_default())).collect()
}

/// How long the second trunk's far end waited for its INVITE.
fn waited(world: &World, phone: usize) -> Duration {
    let caller = world.phone(0).usage(0).report.began_at;
    world.phone(phone).usage(0).report.began_at.since(caller)
}

#[test]
fn a_trunk_that_says_nothing_is_left_after_the_set_up_time() -> Result<(), Failure> {
    for shards in [1, 3] {
        let mut world = started(WorldSettings { shards, ..settings(201) }, &["a", "b"])?;
        world.phone_mut(1).expect_call(CalleePlan::silent());
        dial(&mut world)?;
        let wait = waited(&world, 2).as_millis();
        assert!((3_000..3_300).contains(&wait), "b was called after {wait} ms");
        let record = world.noted().record();
        assert_eq!((record.status_code, record.outbound_trunk.as_deref()), (200, Some("b")));
        assert_eq!(record.hangup_messages[0].code, 408);
        let expected = [
            (LegEventType::Removed, "trunk a at 10.1.0.3:5060 did not answer"),
            (LegEventType::Added, "trunk b at 10.1.0.4:5060"),
        ];
        assert_eq!(timeline(record), expected);
        assert_eq!(record.leg_timeline.events[1].leg_id, record.sip_leg_roles[2].call_id);
        assert_eq!(world.counter(Counter::TrunkFailovers), 1);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_trunk_that_answers_503_is_left_at_once_and_rests_as_it_asked() -> Result<(), Failure> {
    let mut world = started(settings(202), &["a", "b"])?;
    let refuse = CalleePlan { retry_after: Some(20), ..CalleePlan::refuse(503) };
    world.phone_mut(1).expect_call(refuse);
    dial(&mut world)?;
    let record = world.noted().record();
    assert_eq!((record.status_code, record.outbound_trunk.as_deref()), (200, Some("b")));
    assert_eq!(timeline(record)[0].1, "trunk a at 10.1.0.3:5060 answered 503");
    assert_eq!(world.noted().answers("INVITE", 503).count(), 0, "it is not ours to pass on");
    // A rests for 20 s from its answer on; 30 s have passed. Once more, and a call in between.
    let refuse = CalleePlan { retry_after: Some(20), ..CalleePlan::refuse(503) };
    world.phone_mut(1).expect_call(refuse);
    for (after, to_a) in [(0, 2), (10, 2), (25, 3)] {
        world.after(
            Duration::from_secs(after),
            Act::Call(0, CallerPlan::to("sip:91@ringgate.test")),
        );
        world.run_for(Duration::from_secs(after + 2))?;
        assert_eq!(world.phone(1).usages().len(), to_a, "after {after} s");
    }
    world.run_for(Duration::from_secs(30))?;
    assert_eq!(world.counter(Counter::TrunkRests), 2);
    world.finish().map(drop)
}

/// Over TCP nobody listens; over UDP the network says so (ICMP).
#[test]
fn a_trunk_that_refuses_the_connection_is_left_at_once() -> Result<(), Failure> {
    for transport in [Transport::Tcp, Transport::Udp] {
        let settings = WorldSettings { unreachable: 100, ..settings(203) };
        let a = PhoneSpec { transport, ..PhoneSpec::trunk_named("a") };
        let phones = [PhoneSpec::user("1001"), a, PhoneSpec::trunk_named("b")];
        let mut world = World::started(settings, &phones)?;
        world.after(Duration::ZERO, Act::Vanish(1));
        world.run_for(Duration::from_millis(10))?;
        dial(&mut world)?;
        let wait = waited(&world, 2).as_millis();
        assert!(wait < 500, "{transport:?}: b was called after {wait} ms");
        let record = world.noted().record();
        assert_eq!((record.status_code, record.outbound_trunk.as_deref()), (200, Some("b")));
        assert_eq!(timeline(record)[0].1, "trunk a at 10.1.0.3:5060 was not reached");
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_trunk_whose_callee_says_no_is_not_followed() -> Result<(), Failure> {
    for status in [486, 404, 603, 501, 302] {
        let mut world = started(settings(204), &["a", "b"])?;
        world.phone_mut(1).expect_call(CalleePlan::refuse(status));
        dial(&mut world)?;
        assert_eq!(world.phone(0).usage(0).report.final_status, Some(status));
        assert_eq!(world.phone(2).usages().len(), 0, "{status}: b was called");
        let record = world.noted().record();
        assert_eq!(record.outbound_trunk.as_deref(), Some("a"));
        assert_eq!(timeline(record), []);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn the_codes_are_the_operators_to_choose() -> Result<(), Failure> {
    let own = |trunk: Trunk| {
        let codes = FailoverCodes::parse(&["404".to_owned()]).expect("a code");
        Trunk { failover: Failover { setup: SETUP, codes }, ..trunk }
    };
    for (status, carried_by) in [(404, "b"), (500, "a")] {
        let settings = WorldSettings { trunk_terms: own, ..settings(205) };
        let mut world = started(settings, &["a", "b"])?;
        world.phone_mut(1).expect_call(CalleePlan::refuse(status));
        dial(&mut world)?;
        assert_eq!(world.noted().record().outbound_trunk.as_deref(), Some(carried_by));
        world.finish()?;
    }
    Ok(())
}

/// 183 with an announcement, then 500: the caller has heard what there is to hear.
#[test]
fn a_trunk_that_was_heard_is_not_followed() -> Result<(), Failure> {
    for (ring, to_b) in [(Ring::EarlyMedia, 0), (Ring::Ringing, 1), (Ring::Trying, 1)] {
        let mut world = started(settings(206), &["a", "b"])?;
        let rings = vec![(Duration::from_millis(100), ring)];
        world.phone_mut(1).expect_call(CalleePlan { rings, ..CalleePlan::refuse(500) });
        dial(&mut world)?;
        assert_eq!(world.phone(2).usages().len(), to_b, "{ring:?}");
        world.finish()?;
    }
    Ok(())
}

/// A phone that rang and was not picked up rings behind every trunk; a next hop that said 100 and no
/// more until its ring time does not.
#[test]
fn no_answer_of_the_callee_is_an_answer() -> Result<(), Failure> {
    for (ring, to_b) in [(Ring::Ringing, 0), (Ring::Trying, 1)] {
        let routes = vec![rule(serde_json::json!({ "max_ring_time": 6 }))];
        let mut world = started(WorldSettings { routes, ..settings(207) }, &["a", "b"])?;
        let rings = vec![(Duration::from_millis(100), ring)];
        world.phone_mut(1).expect_call(CalleePlan { rings, ..CalleePlan::ring_forever() });
        dial(&mut world)?;
        assert_eq!(world.phone(2).usages().len(), to_b, "{ring:?}");
        world.finish()?;
    }
    Ok(())
}

#[test]
fn when_every_trunk_fails_the_caller_hears_one_answer_and_no_503() -> Result<(), Failure> {
    let mut world = started(settings(208), &["a", "b"])?;
    for phone in [1, 2] {
        world.phone_mut(phone).expect_call(CalleePlan::refuse(503));
    }
    dial(&mut world)?;
    assert_eq!(world.phone(0).usage(0).report.final_status, Some(500));
    let record = world.noted().record();
    assert_eq!((record.status_code, record.outbound_trunk.as_deref()), (500, Some("b")));
    let codes: Vec<u16> = record.hangup_messages.iter().map(|message| message.code).collect();
    assert_eq!(codes, [503, 503]);
    world.finish().map(drop)
}

/// `backup_dest`: the same trunk at another address goes before the next trunk, also where a user or
/// the rule names the trunk alone.
#[test]
fn the_second_destination_of_a_trunk_goes_before_the_next_trunk() -> Result<(), Failure> {
    for target in ["sip:94930@ringgate.test", "sip:4930@a.test"] {
        let mut world = started(settings(209), &["a", "a", "b"])?;
        world.phone_mut(1).expect_call(CalleePlan::silent());
        world.call(0, CallerPlan::to(target));
        world.run_for(Duration::from_secs(30))?;
        assert_eq!(world.phone(3).usages().len(), 0, "b was called");
        let record = world.noted().record();
        assert_eq!((record.status_code, record.outbound_trunk.as_deref()), (200, Some("a")));
        assert_eq!(timeline(record)[1].1, "trunk a at 10.1.0.4:5060");
        world.finish()?;
    }
    Ok(())
}

/// Its calls need no password either.
#[test]
fn the_second_destination_calls_us_as_the_trunk() -> Result<(), Failure> {
    let mut world = started(settings(210), &["a", "a"])?;
    world.call(2, CallerPlan::to("sip:1001@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    let record = world.noted().record();
    assert_eq!((record.status_code, record.sip_trunk.as_deref()), (200, Some("a")));
    world.finish().map(drop)
}

/// RFC 3261 9.1: what answers after its time is cancelled; a 200 in that moment carries the call.
#[test]
fn a_late_first_sign_of_life_is_cancelled_and_a_late_answer_counts() -> Result<(), Failure> {
    for (outcome, carried_by) in [
        (Outcome::Answer(Duration::from_millis(3_500)), "a"),
        (Outcome::Refuse(486, Duration::from_millis(3_500)), "b"),
    ] {
        let mut world = started(settings(211), &["a", "b"])?;
        world.phone_mut(1).expect_call(CalleePlan {
            rings: Vec::new(),
            outcome,
            ..CalleePlan::answer()
        });
        dial(&mut world)?;
        let record = world.noted().record();
        assert_eq!((record.status_code, record.outbound_trunk.as_deref()), (200, Some(carried_by)));
        world.finish()?;
    }
    Ok(())
}

#[test]
fn under_loss_some_trunk_takes_every_call_and_nothing_leaks() -> Result<(), Failure> {
    for seed in 220..240 {
        let rough = WorldSettings { shards: 2, scatter: true, ..WorldSettings::rough(seed) };
        let routes = vec![rule(serde_json::json!({ "select": "random" }))];
        let settings = WorldSettings { routes, trunk_terms: terms, unreachable: 50, ..rough };
        let mut world = started(settings, &["a", "a", "b"])?;
        world.run_for(Duration::from_secs(10))?;
        for plan in [CalleePlan::silent(), CalleePlan::refuse(503), CalleePlan::refuse(486)] {
            world.phone_mut(1).expect_call(plan);
        }
        world.after(Duration::from_secs(12), Act::Vanish(2));
        for after in [0, 1, 5, 20, 21] {
            let plan = CallerPlan::to("sip:94930@ringgate.test");
            world.after(Duration::from_secs(after), Act::Call(0, plan));
        }
        world.run_for(Duration::from_secs(100))?;
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_thousand_calls_over_weighted_trunks_split_within_three_points() -> Result<(), Failure> {
    let dests = serde_json::json!({
        "select": "weighted",
        "dest": [{ "name": "a", "weight": 60 }, { "name": "b", "weight": 30 },
                 { "name": "c", "weight": 10 }],
    });
    // Ports rest for a while after each call.
    let ports_per_shard = 12_000;
    let routes = vec![rule(dests)];
    let settings = WorldSettings { routes, shards: 2, ports_per_shard, ..settings(240) };
    let mut world = started(settings, &["a", "b", "c"])?;
    for trunk in 1..=3 {
        for _ in 0..1_000 {
            world.phone_mut(trunk).expect_call(CalleePlan {
                outcome: Outcome::Refuse(486, Duration::from_millis(10)),
                ..CalleePlan::silent()
            });
        }
    }
    for call in 0..1_000 {
        let plan = CallerPlan::to("sip:94930@ringgate.test");
        world.after(Duration::from_millis(50 * call), Act::Call(0, plan));
    }
    world.run_for(Duration::from_secs(90))?;
    for (trunk, share) in [(1, 600), (2, 300), (3, 100)] {
        let hits = world.phone(trunk).usages().len();
        assert!(hits.abs_diff(share) <= 30, "trunk {trunk} got {hits} of {share}");
    }
    world.finish().map(drop)
}
