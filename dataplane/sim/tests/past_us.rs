//! Media that the router sends past the gateway (guide 1.1: `media_proxy` none), over good and bad lines.
//! Owns:  calls between phones that see each other, decided by a router that wants no anchor.
//! Gives: sound from phone to phone without a port of ours, through holds, moves and transfers.
//! Never: a phone behind a NAT: the router asks for this where there is none.
//! Holds: the checker lets us name only places that some phone has named.

use std::time::Duration;

use shared::act::CallAction;
use shared::ask::{Forward, MediaProxy, Orders, RouteDecision, Strategy};
use shared::ids::Side;
use shared::metrics::Counter;
use shared::snapshot::HttpRouterRules;
use sim::phone::Ending;
use sim::phone::plan::{CalleePlan, CallerPlan, Outcome, Ring, Step};
use sim::program::forward;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

const SECOND: Duration = Duration::from_secs(1);

fn started(settings: WorldSettings, users: &[&str], strategy: Strategy) -> Result<World, Failure> {
    started_by(settings, users, strategy, MediaProxy::Never)
}

/// 1001 calls; the router names these.
fn started_by(
    settings: WorldSettings,
    users: &[&str],
    strategy: Strategy,
    media_proxy: MediaProxy,
) -> Result<World, Failure> {
    let router = Some(HttpRouterRules { budget: 2 * SECOND, fallback_to_static: false });
    let settings = WorldSettings { http_router: router, media_past_us: true, ..settings };
    let phone = |user| PhoneSpec { voice_every: SECOND / 5, ..PhoneSpec::user(user) };
    let mut world = World::started(settings, &["1001", "1002", "1003"].map(phone))?;
    let uris: Vec<String> = users.iter().map(|user| format!("sip:{user}@ringgate.test")).collect();
    let orders = Orders { media_proxy, ..Orders::default() };
    let ring_timeout = Some(5 * SECOND);
    let forward = Forward { ring_timeout, orders, ..forward(&uris, strategy) };
    let decision = RouteDecision::Forward(Box::new(forward));
    world.program_mut().route_next(Duration::ZERO, decision);
    Ok(world)
}

fn call(world: &mut World, talk: Duration) {
    let plan = CallerPlan { hang_up_after: Some(talk), ..CallerPlan::to("sip:1002@ringgate.test") };
    world.call(0, plan);
}

/// Both heard each other and nobody else; the gateway carried nothing.
fn assert_direct(world: &World, callee: usize) {
    let (first, second) = (&world.phone(0).usage(0).report, &world.phone(callee).usage(0).report);
    assert!(first.heard_from.contains(&second.mark), "{first:?}");
    assert!(second.heard_from.contains(&first.mark), "{second:?}");
    let record = world.noted().record();
    assert!(record.media_quality.is_empty() && !record.recorded, "{record:?}");
    assert_eq!(world.counter(Counter::CallsPastUs), 1);
    assert_eq!(world.ledger().media.open_ports().count(), 0);
}

#[test]
fn sound_goes_from_phone_to_phone() -> Result<(), Failure> {
    for word in [MediaProxy::Never, MediaProxy::Bypass] {
        let mut world = started_by(WorldSettings::calm(60), &["1002"], Strategy::Sequential, word)?;
        call(&mut world, 10 * SECOND);
        world.run_for(6 * SECOND)?;
        assert_eq!(world.ledger().media.open_ports().count(), 0, "no port of ours is taken");
        world.run_for(30 * SECOND)?;
        assert_direct(&world, 1);
        assert_eq!(world.noted().record().status_code, 200);
        world.finish()?;
    }
    Ok(())
}

/// Without a router that says so: `[proxy] media_proxy` of the file, unless a router says otherwise.
#[test]
fn the_configuration_may_send_media_past_us_and_the_router_knows_better() -> Result<(), Failure> {
    for (file, router, past_us) in [
        (MediaProxy::Never, MediaProxy::Auto, 1),
        (MediaProxy::Bypass, MediaProxy::Auto, 1),
        (MediaProxy::Never, MediaProxy::Always, 0),
        (MediaProxy::Nat, MediaProxy::Auto, 0),
        (MediaProxy::Always, MediaProxy::Never, 1),
    ] {
        let settings = WorldSettings { media_proxy: file, ..WorldSettings::calm(62) };
        let mut world = started_by(settings, &["1002"], Strategy::Sequential, router)?;
        call(&mut world, 10 * SECOND);
        world.run_for(36 * SECOND)?;
        assert_eq!(world.counter(Counter::CallsPastUs), past_us, "{file:?}, {router:?}");
        assert_eq!(world.noted().record().status_code, 200);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn bad_lines_and_several_shards_change_nothing() -> Result<(), Failure> {
    for seed in 0..20 {
        let settings = WorldSettings { shards: 3, ..WorldSettings::rough(seed) };
        let mut world = started(settings, &["1002"], Strategy::Sequential)?;
        let steps = vec![
            (8 * SECOND, Step::Hold { old: false }),
            (14 * SECOND, Step::Resume),
            (20 * SECOND, Step::Update),
        ];
        world.phone_mut(1).expect_call(CalleePlan { steps, ..CalleePlan::answer() });
        call(&mut world, 40 * SECOND);
        world.run_for(120 * SECOND)?;
        assert_direct(&world, 1);
        world.finish()?;
    }
    Ok(())
}

/// The phone's own hold is passed on, and sound is back after it.
#[test]
fn a_hold_and_a_moved_port_reach_the_other_phone() -> Result<(), Failure> {
    let mut world = started(WorldSettings::calm(61), &["1002"], Strategy::Sequential)?;
    let steps = vec![
        (3 * SECOND, Step::MoveMedia),
        (6 * SECOND, Step::Hold { old: false }),
        (12 * SECOND, Step::Resume),
    ];
    world.phone_mut(1).expect_call(CalleePlan { steps, ..CalleePlan::answer() });
    call(&mut world, 25 * SECOND);
    let heard = |world: &World| world.phone(1).usage(0).talking().packets_heard;
    world.run_for(9 * SECOND)?;
    let held = heard(&world);
    assert!(held > 20, "{held} packets, to the port that it moved to, too");
    world.run_for(4 * SECOND)?;
    assert_eq!(heard(&world), held, "the holder hears nothing");
    world.run_for(10 * SECOND)?;
    assert!(heard(&world) > held + 20, "sound again after the resume");
    world.run_for(30 * SECOND)?;
    assert_direct(&world, 1);
    world.finish().map(drop)
}

/// A hold that a program wants: the held phone is told, and told again when it is over.
#[test]
fn a_program_holds_and_takes_back() -> Result<(), Failure> {
    let mut world = started(WorldSettings::calm(62), &["1002"], Strategy::Sequential)?;
    call(&mut world, 25 * SECOND);
    let hold = |on| Act::Command {
        nth: 0,
        by_leg: None,
        action: CallAction::Hold { side: Side::Callee, on },
    };
    world.after(6 * SECOND, hold(true));
    world.after(14 * SECOND, hold(false));
    world.run_for(8 * SECOND)?;
    let heard = |world: &World| world.phone(0).usage(0).talking().packets_heard;
    let held = heard(&world);
    world.run_for(4 * SECOND)?;
    assert_eq!(heard(&world), held, "the held phone sends nothing");
    world.run_for(8 * SECOND)?;
    assert!(heard(&world) > held + 10, "and talks again");
    assert_eq!(world.ledger().commands.done(), 2);
    world.run_for(30 * SECOND)?;
    assert_direct(&world, 1);
    world.finish().map(drop)
}

/// The phone that stays is told where its new peer is: no relay of ours hides the change.
#[test]
fn after_a_transfer_the_two_that_are_left_hear_each_other() -> Result<(), Failure> {
    for shards in [1, 3] {
        let settings = WorldSettings { shards, ..WorldSettings::calm(63) };
        let mut world = started(settings, &["1002"], Strategy::Sequential)?;
        let steps = vec![(5 * SECOND, Step::Refer(1_003))];
        world.phone_mut(1).expect_call(CalleePlan { steps, ..CalleePlan::answer() });
        world.phone_mut(2).expect_call(CalleePlan::answer());
        call(&mut world, 30 * SECOND);
        world.run_for(60 * SECOND)?;
        assert_eq!(world.phone(1).usage(0).report.ending, Some(Ending::RemoteBye));
        assert!(world.phone(2).usage(0).report.packets_heard > 20);
        assert_direct(&world, 2);
        world.finish()?;
    }
    Ok(())
}

/// The first target's early media named another place than the one that answers in the end.
#[test]
fn the_target_that_answers_is_heard_after_another_ones_early_media() -> Result<(), Failure> {
    for strategy in [Strategy::Sequential, Strategy::Parallel] {
        let mut world = started(WorldSettings::calm(64), &["1002", "1003"], strategy)?;
        let rings = vec![(SECOND / 2, Ring::EarlyMedia)];
        let outcome = Outcome::RingForever;
        world.phone_mut(1).expect_call(CalleePlan { rings, outcome, ..CalleePlan::answer() });
        world.phone_mut(2).expect_call(CalleePlan::answer());
        call(&mut world, 20 * SECOND);
        world.run_for(60 * SECOND)?;
        assert_direct(&world, 2);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn without_an_offer_the_answer_comes_in_the_ack() -> Result<(), Failure> {
    let mut world = started(WorldSettings::calm(65), &["1002"], Strategy::Sequential)?;
    let hang_up_after = Some(10 * SECOND);
    let plan = CallerPlan::to("sip:1002@ringgate.test");
    world.call(0, CallerPlan { offer: false, hang_up_after, ..plan });
    world.run_for(40 * SECOND)?;
    assert_direct(&world, 1);
    world.finish().map(drop)
}

/// What is to be recorded has to pass through us: the recording wins.
#[test]
fn a_call_that_is_recorded_stays_anchored() -> Result<(), Failure> {
    let settings = WorldSettings { recording: true, ..WorldSettings::calm(66) };
    let mut world = started(settings, &["1002"], Strategy::Sequential)?;
    call(&mut world, 10 * SECOND);
    world.run_for(40 * SECOND)?;
    let record = world.noted().record();
    assert!(record.recorded && !record.media_quality.is_empty(), "{record:?}");
    assert_eq!(world.counter(Counter::CallsPastUs), 0);
    world.finish().map(drop)
}
