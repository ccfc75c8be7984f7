//! Reliable provisional responses between phones that speak them, or do not (RFC 3262).
//! Owns:  every pair of wishes, with and without an offer in the INVITE, in calm and rough weather.
//! Gives: early media on both sides, and calls that are answered whatever is lost.
//! Never: an RSeq to a phone that does not know it.
//! Holds: what rang reliably was acknowledged, or the call failed; nothing is left when it is over.

use std::time::Duration;

use shared::metrics::Counter;
use sim::network::Weather;
use sim::phone::Ending;
use sim::phone::plan::{AckPlan, CalleePlan, CallerPlan, Outcome, Ring};
use sim::phone::reliable::Reliability::{self, Off, Required, Supported};
use sim::scenario::{self, Options};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

const SECOND: Duration = Duration::from_secs(1);
const ALL: [Reliability; 3] = [Off, Required, Supported];

fn phones(settings: WorldSettings, wishes: [Reliability; 2]) -> Result<World, Failure> {
    let phone = |user, reliability| PhoneSpec { reliability, ..PhoneSpec::user(user) };
    let [caller, callee] = wishes;
    World::started(settings, &[phone("1001", caller), phone("1002", callee)])
}

/// The callee rings, speaks early, rings again and picks up.
fn started(settings: WorldSettings, wishes: [Reliability; 2]) -> Result<World, Failure> {
    let mut world = phones(settings, wishes)?;
    let rings = [(200, Ring::Ringing), (900, Ring::EarlyMedia), (1_500, Ring::Ringing)];
    let rings = rings.map(|(at, ring)| (Duration::from_millis(at), ring)).to_vec();
    let outcome = Outcome::Answer(6 * SECOND);
    world.phone_mut(1).expect_call(CalleePlan { rings, outcome, ..CalleePlan::answer() });
    Ok(world)
}

fn plan(offer: bool) -> CallerPlan {
    CallerPlan { offer, ..CallerPlan::to("sip:1002@ringgate.test") }
}

fn pracks(world: &World) -> [u32; 2] {
    let [one, two] = [0, 1].map(|phone| &world.phone(phone).usage(0).report);
    [one.pracks_sent, two.pracks_heard]
}

/// What each side wants of the other is its own: one is careful with a peer that is not.
#[test]
fn each_leg_is_as_reliable_as_its_phone_wants() -> Result<(), Failure> {
    for (caller, callee, expected) in [
        (Off, Off, [0, 0]),
        (Off, Supported, [0, 1]),
        (Off, Required, [0, 3]),
        (Supported, Off, [1, 0]),
        (Supported, Supported, [1, 1]),
        (Supported, Required, [3, 3]),
        (Required, Off, [3, 0]),
        (Required, Supported, [3, 1]),
        (Required, Required, [3, 3]),
    ] {
        let mut world = started(WorldSettings::calm(1), [caller, callee])?;
        world.call(0, plan(true));
        world.run_for(5 * SECOND)?;
        for phone in 0..2 {
            let talking = world.phone(phone).usage(0).talking();
            assert!(talking.packets_heard >= 2, "early media, {caller:?} {callee:?} {phone}");
        }
        assert_eq!(pracks(&world), expected, "{caller:?} {callee:?}");
        world.run_for(30 * SECOND)?;
        assert_eq!(world.phone(0).usage(0).report.provisionals, [100, 180, 183, 180]);
        assert_eq!(world.phone(1).usage(0).report.ending, Some(Ending::RemoteBye));
        assert_eq!(world.noted().record().status_code, 200);
        world.finish()?;
    }
    Ok(())
}

/// Without an offer in the INVITE there is early media where both are careful, and the 2xx and its ACK
/// agree everywhere else.
#[test]
fn an_invite_without_an_offer_is_agreed_on_as_early_as_both_can() -> Result<(), Failure> {
    for caller in ALL {
        for callee in ALL {
            let mut world = started(WorldSettings::calm(2), [caller, callee])?;
            world.call(0, plan(false));
            world.run_for(5 * SECOND)?;
            let early = world.phone(0).usage(0).talking().packets_heard >= 2;
            assert_eq!(early, caller != Off && callee != Off, "{caller:?} {callee:?}");
            world.run_for(30 * SECOND)?;
            for phone in 0..2 {
                let report = &world.phone(phone).usage(0).report;
                assert!(report.packets_heard >= 5, "{caller:?} {callee:?}: {report:?}");
                assert!(!report.unacknowledged);
            }
            assert_eq!(world.noted().record().status_code, 200);
            world.finish()?;
        }
    }
    Ok(())
}

/// The caller is gone: nobody acknowledges, so that the callee is let go after 64*T1. One who picks up
/// first need not wait, when nothing was described yet.
#[test]
fn a_caller_who_vanishes_while_it_rings_costs_64_t1() -> Result<(), Failure> {
    let mut world = phones(WorldSettings::calm(3), [Required, Supported])?;
    world.phone_mut(1).expect_call(CalleePlan::ring_forever());
    world.call(0, plan(true));
    world.after(Duration::from_millis(100), Act::Vanish(0));
    world.run_for(60 * SECOND)?;
    assert_eq!(world.counter(Counter::ProvisionalsUnacknowledged), 1);
    assert_eq!(world.noted().record().status_code, 504);
    assert_eq!(world.phone(1).usage(0).report.ending, Some(Ending::Cancelled));
    world.finish()?;

    let mut world = started(WorldSettings::calm(3), [Required, Supported])?;
    world.call(0, plan(true));
    world.after(Duration::from_millis(100), Act::Vanish(0));
    world.run_for(60 * SECOND)?;
    assert_eq!(world.counter(Counter::ProvisionalsUnacknowledged), 0);
    assert_eq!(world.noted().record().status_code, 200);
    assert_eq!(world.phone(1).usage(0).report.ending, Some(Ending::RemoteBye));
    world.finish().map(drop)
}

#[test]
fn a_caller_who_cancels_between_ringing_and_prack_leaves_nothing() -> Result<(), Failure> {
    for after_ms in (180..1_000).step_by(20) {
        for callee in ALL {
            let mut world = started(WorldSettings::calm(4), [Required, callee])?;
            let cancel_after = Some(Duration::from_millis(after_ms));
            world.call(0, CallerPlan { cancel_after, ..plan(after_ms % 40 == 0) });
            world.run_for(60 * SECOND)?;
            assert_eq!(world.noted().record().status_code, 487);
            assert_eq!(world.phone(1).usage(0).report.ending, Some(Ending::Cancelled));
            world.finish()?;
        }
    }
    Ok(())
}

/// Loss, repeats and other orders: every pair of wishes gets through to the answer.
#[test]
fn reliable_responses_survive_a_rough_network() -> Result<(), Failure> {
    for seed in 0..45 {
        let (caller, callee) = (ALL[seed % 3], ALL[seed / 3 % 3]);
        let mut settings = WorldSettings::calm(u64::try_from(seed).expect("small"));
        settings.weather = Weather::ROUGH;
        let mut world = started(settings, [caller, callee])?;
        world.run_for(30 * SECOND)?;
        let ack = AckPlan::AtOnce;
        world.call(0, CallerPlan { ack, hang_up_after: Some(40 * SECOND), ..plan(seed % 2 == 0) });
        world.run_for(120 * SECOND)?;
        for phone in 0..2 {
            let unpracked = world.phone(phone).usages().iter().any(|one| one.report.unpracked);
            assert!(!unpracked, "seed {seed}: phone {phone} waited for a PRACK in vain");
        }
        let usages = world.phone(0).usages();
        assert_eq!(usages[0].report.final_status, Some(200), "seed {seed} {caller:?} {callee:?}");
        world.finish()?;
    }
    Ok(())
}

/// Whole evenings, in which each phone has its own wish.
#[test]
fn evenings_with_every_wish_keep_every_rule() -> Result<(), Failure> {
    for seed in 6_000..6_060 {
        scenario::run(seed, Options::default())?;
    }
    Ok(())
}
