//! A carrier that wants credentials for everything, in calm and in rough weather.
//! Owns:  calls through it, over one shard and several; nonces that have run out; a wrong password.
//! Gives: the carrier's own count of what passed; its arithmetic is not the gateway's.
//! Never: a request that is asked again without end.
//! Holds: nothing is left behind; a registration stands as long as the trunk does.

use std::sync::Arc;
use std::time::Duration;

use shared::account::Account;
use shared::metrics::Counter;
use shared::snapshot::Trunk;
use sim::network::Weather;
use sim::phone::carrier::CarrierPlan;
use sim::phone::plan::{CalleePlan, CallerPlan, Outcome, Step};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::speech::digest::Hash;
use sim::world::{Act, Failure, World};

fn carrier(plan: CarrierPlan) -> PhoneSpec {
    PhoneSpec { carrier: Some(plan), ..PhoneSpec::trunk() }
}

fn number() -> CallerPlan {
    CallerPlan::to("sip:+493012345@carrier.test")
}

#[test]
fn calls_go_through_a_carrier_that_asks_whatever_the_weather() -> Result<(), Failure> {
    for (seed, weather) in (500..520).map(|seed| (seed, [Weather::CALM, Weather::ROUGH])) {
        for (weather, shards) in weather.into_iter().zip([1, 3]) {
            let plan = CarrierPlan {
                hash: [Hash::Md5, Hash::Sha256, Hash::Sha512_256][seed as usize % 3],
                is_proxy: seed % 2 == 0,
                worn_percent: [0, 100, 50][seed as usize % 3],
                ..CarrierPlan::of("carrier")
            };
            let settings = WorldSettings { shards, weather, ..WorldSettings::calm(seed) };
            let phones = [PhoneSpec::user("1001"), carrier(plan)];
            let mut world = World::started(settings, &phones)?;
            for call in 0..3 {
                let steps = vec![
                    (Duration::from_secs(2), Step::Hold { old: false }),
                    (Duration::from_secs(4), Step::Resume),
                    (Duration::from_secs(6), Step::SendInfo),
                ];
                let hang_up_after = Some(Duration::from_secs(9));
                let plan = CallerPlan { steps, hang_up_after, ..number() };
                world.after(Duration::from_secs(20 * call), Act::Call(0, plan));
            }
            world.run_for(Duration::from_secs(90))?;
            assert!(world.noted().records.iter().all(|record| record.status_code == 200));
            let counter = world.phone(1).counter();
            assert_eq!((counter.refused, world.noted().records.len()), (0, 3), "seed {seed}");
            // INVITE and BYE of each call; what is between them may be lost with a rough call's end.
            let least = if shards == 1 { 15 } else { 6 };
            assert!(counter.passed >= least, "seed {seed}: {counter:?}");
            assert!(world.counter(Counter::TrunkChallenges) >= least.into(), "seed {seed}");
            world.finish()?;
        }
    }
    Ok(())
}

#[test]
fn a_carrier_that_does_not_know_us_is_failed_over_without_a_loop() -> Result<(), Failure> {
    fn wrong(trunk: Trunk) -> Trunk {
        let account = Account::new("account-carrier", "mistyped").expect("both are plain");
        Trunk { account: Some(Arc::new(account)), ..trunk }
    }
    let settings = WorldSettings { trunk_terms: wrong, ..WorldSettings::calm(530) };
    let backup = PhoneSpec::trunk();
    let phones = [PhoneSpec::user("1001"), carrier(CarrierPlan::of("carrier")), backup];
    let mut world = World::started(settings, &phones)?;
    let document = serde_json::json!({
        "name": "out", "match": { "to.user": "^9(\\d+)$" }, "rewrite": { "to.user": "{1}" },
        "dest": ["carrier"],
    });
    let mut flaws = shared::document::Flaws::default();
    let rule = shared::route::check(&document, &Default::default(), &mut flaws).expect("a rule");
    world.publish(|snapshot| {
        snapshot.routes = Arc::new(shared::route::RouteTable::sorted(vec![rule.clone()], None));
    })?;
    world.call(0, CallerPlan::to("sip:94930@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    let record = world.noted().record();
    assert_eq!(record.status_code, 200, "its second address took the call");
    assert_eq!(record.hangup_messages[0].code, 407);
    let counter = world.phone(1).counter();
    assert_eq!((counter.challenged, counter.refused), (2, 1), "asked, answered, refused");
    world.finish().map(drop)
}

#[test]
fn a_call_is_cancelled_while_the_carrier_asks() -> Result<(), Failure> {
    for (seed, after) in [0, 20, 45, 70, 90, 120, 400].into_iter().enumerate() {
        let settings = WorldSettings::rough(540 + seed as u64);
        let phones = [PhoneSpec::user("1001"), carrier(CarrierPlan::of("carrier"))];
        let mut world = World::started(settings, &phones)?;
        world.phone_mut(1).expect_call(CalleePlan {
            outcome: Outcome::Answer(Duration::from_secs(8)),
            ..CalleePlan::answer()
        });
        let cancel_after = Some(Duration::from_millis(after));
        world.call(0, CallerPlan { cancel_after, ..number() });
        world.run_for(Duration::from_secs(40))?;
        world.finish()?;
    }
    Ok(())
}

/// The carrier grants 60 s: in ten minutes it is asked every 45 to 54 s, by one shard of three.
#[test]
fn a_registration_stands_for_as_long_as_the_trunk_does() -> Result<(), Failure> {
    fn registers(trunk: Trunk) -> Trunk {
        let Some(account) = trunk.account.as_deref().cloned() else { return trunk };
        let expires = Duration::from_secs(3_600);
        let registers = Some(shared::account::Registering { expires, headers: Vec::new() });
        Trunk { account: Some(Arc::new(Account { registers, ..account })), ..trunk }
    }
    for (seed, weather) in [(550, Weather::CALM), (551, Weather::ROUGH)] {
        let settings = WorldSettings {
            shards: 3,
            weather,
            trunk_terms: registers,
            ..WorldSettings::calm(seed)
        };
        let phones = [PhoneSpec::user("1001"), carrier(CarrierPlan::of("carrier"))];
        let mut world = World::started(settings, &phones)?;
        for _ in 0..20 {
            world.run_for(Duration::from_secs(30))?;
            let (contact, until) = world.phone(1).counter().registered.clone().expect("it stands");
            assert_eq!(contact, "sip:account-carrier@10.0.0.1:5060");
            assert!(until > world.now(), "seed {seed}: it has run out");
        }
        let asked = world.counter(Counter::TrunkRegisters);
        assert!((11..=15).contains(&asked), "seed {seed}: {asked} in ten minutes");
        // The carrier calls the Contact that was registered.
        world.call(1, CallerPlan::to("sip:account-carrier@10.0.0.1:5060"));
        world.run_for(Duration::from_secs(20))?;
        let record = world.noted().record();
        assert_eq!(record.sip_trunk.as_deref(), Some("carrier"));
        // Without the account the registration is taken back, and the world can come to rest.
        world.publish(|snapshot| {
            let without = |trunk: &Trunk| Trunk { account: None, ..trunk.clone() };
            snapshot.trunks = Arc::new(snapshot.trunks.iter().map(without).collect());
        })?;
        world.run_for(Duration::from_secs(60))?;
        assert_eq!(world.phone(1).counter().registered, None, "seed {seed}");
        world.finish()?;
    }
    Ok(())
}
