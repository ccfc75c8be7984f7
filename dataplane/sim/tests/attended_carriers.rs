//! Attended transfers that join the legs of two carriers across shards, while the carriers misbehave.
//! Owns:  a phone that talks through two carriers and joins them, and what goes wrong at either.
//! Gives: no leg, name or share of a trunk's limit left on any shard, a record per call.
//! Never: a carrier that knows of the other.
//! Holds: the checker's rules over every run: nothing stands after the quiet time, on no shard.

use std::time::Duration;

use shared::cdr::LegEventType;
use shared::settings::{SessionTimerMode, SessionTimers};
use shared::snapshot::Trunk;
use sim::phone::carrier::CarrierPlan;
use sim::phone::plan::{CalleePlan, CallerPlan, Step};
use sim::phone::reliable::Reliability;
use sim::phone::timers::TimerPlan;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

const SECOND: Duration = Duration::from_secs(1);
const JOIN_AT: Duration = Duration::from_secs(8);
const TALK: Duration = Duration::from_secs(60);

/// Hardly room for the calls of one evening: a share that is not given back is missed.
fn narrow(trunk: Trunk) -> Trunk {
    Trunk { max_calls: Some(4), ..trunk }
}

fn carrier(name: &str, seed: u64) -> PhoneSpec {
    let reliability =
        [Reliability::Off, Reliability::Supported, Reliability::Required][seed as usize % 3];
    let plan = CarrierPlan {
        is_proxy: seed.is_multiple_of(2),
        worn_percent: [0, 50, 100][seed as usize % 3],
        ..CarrierPlan::of(name)
    };
    let timer =
        TimerPlan { asks_s: 90, refreshes: seed % 4 > 1, min_s: 90, updates: seed % 4 == 1 };
    PhoneSpec {
        reliability,
        carrier: (seed % 5 != 4).then_some(plan),
        timer: (!seed.is_multiple_of(3)).then_some(timer),
        ..PhoneSpec::trunk_named(name)
    }
}

/// Whoever misbehaves does it now and then: by refusing, by being slow, by hanging up.
fn manners(seed: u64) -> CalleePlan {
    CalleePlan {
        refuse_changes: [None, None, Some(488), Some(500), Some(403), Some(491)][seed as usize % 6],
        reply_after: Duration::from_millis([0, 300, 3_000, 9_000][seed as usize % 4]),
        hang_up_after: Some(if seed % 7 == 3 { JOIN_AT + SECOND / 2 } else { TALK }),
        ..CalleePlan::answer()
    }
}

/// She calls out through both and joins them.
fn world(seed: u64, settings: WorldSettings) -> Result<World, Failure> {
    let mut settings = WorldSettings { trunk_terms: narrow, ..settings };
    settings.shards = 3;
    if seed.is_multiple_of(2) {
        let mode = SessionTimerMode::Supported;
        settings.timers.session = SessionTimers { mode, expires_s: 90 };
    }
    let phones = [PhoneSpec::user("1001"), carrier("first", seed), carrier("second", seed / 2)];
    let mut world = World::started(settings, &phones)?;
    for phone in [1, 2] {
        world.phone_mut(phone).expect_call(manners(seed / phone as u64));
    }
    let steps = [vec![(2 * SECOND, Step::Hold { old: false }), (JOIN_AT, Step::Join)], Vec::new()];
    for (host, steps) in ["first.test", "second.test"].into_iter().zip(steps) {
        let hang_up_after = Some(TALK + 20 * SECOND);
        let target = format!("sip:+493012345@{host}");
        world.call(0, CallerPlan { steps, hang_up_after, ..CallerPlan::to(target) });
    }
    Ok(world)
}

#[test]
fn carriers_that_misbehave_leave_no_leg_name_or_share_on_any_shard() -> Result<(), Failure> {
    let (mut across, mut joined) = (0, 0);
    for seed in 0..48 {
        let mut world = world(seed, WorldSettings::calm(seed))?;
        world.run_for(160 * SECOND)?;
        let records = &world.noted().records;
        assert_eq!(records.len(), 2, "seed {seed}");
        let events = records.iter().flat_map(|record| &record.leg_timeline.events);
        let is_joined = |kind: LegEventType| kind == LegEventType::TransferAccepted;
        let is_joined = events.map(|event| event.event_type).any(is_joined);
        joined += u32::from(is_joined);
        across += u32::from(is_joined && records[0].shard != records[1].shard);
        world.finish()?;
    }
    assert!(joined >= 12 && across >= 6, "{joined} of 48 joined, {across} between shards");
    Ok(())
}

/// A carrier is gone in the middle of it, and one that comes back knows no nonce of before.
#[test]
fn carriers_that_vanish_and_come_back_leave_nothing_either() -> Result<(), Failure> {
    for seed in 0..48 {
        let settings = WorldSettings { scatter: seed % 2 == 1, ..WorldSettings::rough(seed) };
        let mut world = world(seed, settings)?;
        let who = 1 + seed as usize % 2;
        let at = Duration::from_millis(9_000 + 180 * seed);
        world.after(at, Act::Vanish(who));
        if seed % 3 > 0 {
            world.after(at + 700 * Duration::from_millis(seed), Act::ComeBack(who));
        }
        world.run_for(200 * SECOND)?;
        world.finish()?;
    }
    Ok(())
}
