//! Attended transfers over good and bad lines, on one shard and between shards (RFC 5589 7).
//! Owns:  three phones, of which the first talks with both others and joins them.
//! Gives: audio between the two that are left, a record per call, the outcome told.
//! Never: a phone that knows more than its own dialogs.
//! Holds: the checker's rules over every run; what is asserted here is what they cannot know.

use std::time::Duration;

use shared::cdr::{Cdr, HangupReason, LegEventType};
use shared::ids::CallId;
use sim::phone::plan::{CalleePlan, CallerPlan, Step};
use sim::phone::{Ending, Phase};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

const JOIN_AT: Duration = Duration::from_secs(8);
const TALK: Duration = Duration::from_secs(40);

fn phones() -> [PhoneSpec; 3] {
    ["1001", "1002", "1003"].map(PhoneSpec::user)
}

/// When who hangs up: Ann her first and her second call, Ben, Cleo.
#[derive(Clone, Copy, Default)]
struct HangUps {
    ann: [Option<Duration>; 2],
    ben: Option<Duration>,
    cleo: Option<Duration>,
}

/// Ann calls Ben, holds him, calls Cleo, and joins them.
fn world(
    settings: WorldSettings,
    ends: HangUps,
    others: [CalleePlan; 2],
) -> Result<World, Failure> {
    let mut world = World::started(settings, &phones())?;
    let [ben, cleo] = others;
    world.phone_mut(1).expect_call(CalleePlan { hang_up_after: ends.ben, ..ben });
    world.phone_mut(2).expect_call(CalleePlan { hang_up_after: ends.cleo, ..cleo });
    let hold = (Duration::from_secs(2), Step::Hold { old: false });
    let steps = [vec![hold, (JOIN_AT, Step::Join)], Vec::new()];
    for ((to, steps), hang_up_after) in ["1002", "1003"].into_iter().zip(steps).zip(ends.ann) {
        let target = format!("sip:{to}@ringgate.test");
        world.call(0, CallerPlan { steps, hang_up_after, ..CallerPlan::to(target) });
    }
    Ok(world)
}

fn plain() -> [CalleePlan; 2] {
    [CalleePlan::answer(), CalleePlan::answer()]
}

#[test]
fn the_two_others_talk_and_hear_each_other() -> Result<(), Failure> {
    let mut across = 0;
    for seed in 60..72 {
        let shards = if seed == 60 { 1 } else { 3 };
        let settings = WorldSettings { shards, ..WorldSettings::calm(seed) };
        let ends = HangUps { cleo: Some(TALK), ..HangUps::default() };
        let mut world = world(settings, ends, plain())?;
        world.run_for(TALK + Duration::from_secs(20))?;
        let ann = world.phone(0);
        assert_eq!(ann.usage(0).report.notified, [100, 200], "seed {seed}");
        for usage in ann.usages() {
            assert_eq!(usage.report.ending, Some(Ending::RemoteBye), "seed {seed}");
        }
        let (ben, cleo) = (&world.phone(1).usage(0).report, &world.phone(2).usage(0).report);
        assert_eq!((ben.ending, cleo.ending), (Some(Ending::RemoteBye), Some(Ending::LocalBye)));
        assert!(ben.heard_from.contains(&cleo.mark) && cleo.heard_from.contains(&ben.mark));
        let records = &world.noted().records;
        assert_eq!(records.len(), 2, "seed {seed}");
        assert_eq!(records[0].hangup_reason, HangupReason::ByRefer);
        across += u32::from(records[0].shard != records[1].shard);
        world.finish()?;
    }
    assert!(across >= 3, "{across} of 12 between shards");
    Ok(())
}

/// Each of the three hangs up at every moment round the join, on one shard and on three.
#[test]
fn whoever_hangs_up_leaves_nobody_alone() -> Result<(), Failure> {
    for who in 0..4 {
        for wait in (5_600..7_000).step_by(70) {
            for (shards, seed) in [(1, 73), (3, 74), (3, 75)] {
                let settings = WorldSettings { shards, ..WorldSettings::calm(seed) };
                let at = Some(Duration::from_millis(wait));
                let mut ends = HangUps { cleo: Some(TALK), ben: Some(TALK), ..HangUps::default() };
                match who {
                    0 => ends.ann[0] = at.map(|at| at + Duration::from_secs(2)),
                    1 => ends.ann[1] = at.map(|at| at + Duration::from_secs(2)),
                    2 => ends.ben = at,
                    _ => ends.cleo = at,
                }
                let others = plain()
                    .map(|plan| CalleePlan { reply_after: Duration::from_millis(300), ..plan });
                let mut world = world(settings, ends, others)?;
                world.run_for(TALK + Duration::from_secs(40))?;
                for phone in 0..3 {
                    let mut usages = world.phone(phone).usages().iter();
                    let is_over = usages.all(|usage| usage.phase() == Phase::Over);
                    assert!(is_over, "{who} at {wait}");
                }
                assert_eq!(world.noted().records.len(), 2, "{who} at {wait}");
                world.finish()?;
            }
        }
    }
    Ok(())
}

/// Changes of the legs themselves meet the join.
#[test]
fn changes_of_the_others_do_not_hinder_it() -> Result<(), Failure> {
    for step in [Step::MoveMedia, Step::OfferlessReInvite, Step::Update, Step::SendInfo] {
        for at in (5_700..6_700).step_by(130) {
            for shards in [1, 3] {
                let settings = WorldSettings { shards, ..WorldSettings::calm(76) };
                let ends = HangUps { cleo: Some(TALK), ..HangUps::default() };
                let others = plain().map(|plan| CalleePlan {
                    steps: vec![(Duration::from_millis(at), step)],
                    reply_after: Duration::from_millis(250),
                    ..plan
                });
                let mut world = world(settings, ends, others)?;
                world.run_for(TALK + Duration::from_secs(20))?;
                let told = &world.phone(0).usage(0).report.notified;
                assert_eq!(told.last(), Some(&200), "{step:?} at {at} on {shards}");
                world.finish()?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_phone_that_refuses_leaves_both_calls_standing() -> Result<(), Failure> {
    for shards in [1, 3] {
        let settings = WorldSettings { shards, ..WorldSettings::calm(77) };
        let ends = HangUps { ann: [Some(TALK); 2], ..HangUps::default() };
        let [ben, cleo] = plain();
        let cleo = CalleePlan { refuse_changes: Some(488), ..cleo };
        let mut world = world(settings, ends, [ben, cleo])?;
        world.run_for(TALK + Duration::from_secs(20))?;
        let ann = world.phone(0);
        assert_eq!(ann.usage(0).report.notified, [100, 488]);
        for usage in ann.usages() {
            assert_eq!(usage.report.ending, Some(Ending::LocalBye));
        }
        let cleo = &world.phone(2).usage(0).report;
        assert!(cleo.packets_heard >= 30, "they talked on: {cleo:?}");
        world.finish()?;
    }
    Ok(())
}

/// Lost, doubled and late messages: whatever becomes of it, the checker's rules hold.
#[test]
fn a_bad_line_leaves_nothing_behind() -> Result<(), Failure> {
    for seed in 0..60 {
        let mut settings = WorldSettings::rough(seed);
        settings.shards = 1 + u8::try_from(seed % 3).expect("small");
        settings.scatter = seed % 2 == 0;
        settings.weather.loss = [10, 15, 20, 25][usize::try_from(seed % 4).expect("small")];
        settings.weather.duplication = 20;
        let at = Duration::from_millis(5_000 + 60 * seed);
        let ends = HangUps {
            // Where nothing came of it, she ends them in the end.
            ann: [5, 7].map(|every| Some(if seed % every == 0 { at } else { 2 * TALK })),
            ben: (seed % 3 == 0).then_some(at),
            cleo: Some(if seed % 4 == 0 { at } else { TALK }),
        };
        let mut world = world(settings, ends, plain())?;
        world.run_for(Duration::from_secs(200))?;
        world.finish()?;
    }
    Ok(())
}

/// A kill -9 at any moment of the join leaves one record per call: of its end, or else of its last start. The
/// call that goes on is written down with who talks in it then, before anybody is let go.
#[test]
fn a_kill_at_any_moment_leaves_one_record_per_call() -> Result<(), Failure> {
    let (mut across, mut joined) = (0, 0);
    for seed in 60..66 {
        let shards = if seed == 60 { 1 } else { 3 };
        let settings = WorldSettings { shards, ..WorldSettings::calm(seed) };
        let ends = HangUps { cleo: Some(TALK), ..HangUps::default() };
        let mut world = world(settings, ends, plain())?;
        world.run_for(JOIN_AT - Duration::from_secs(1))?;
        for _ in 0..2_400 {
            world.run_for(Duration::from_millis(5))?;
            let noted = world.noted();
            let ended: Vec<_> = noted.records.iter().map(|record| record.session_id).collect();
            let left = left_by_a_kill(&noted.starts, &ended);
            let mut all: Vec<_> = left.iter().map(|start| start.session_id).collect();
            all.extend(&ended);
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), left.len() + ended.len(), "seed {seed}: a call has two");
            assert_eq!(all.len(), 2, "seed {seed}: a call has none");
            let ([record], [start]) = (noted.records.as_slice(), left.as_slice()) else { continue };
            assert_eq!(record.hangup_reason, HangupReason::ByRefer, "seed {seed}");
            let legs = start.sip_leg_roles.iter().map(|leg| leg.call_id.as_str());
            let moved = record.leg_timeline.events.iter().find_map(|event| {
                let is_moved = event.event_type == LegEventType::TransferAccepted;
                is_moved.then_some(event.leg_id.as_str())
            });
            assert!(legs.clone().any(|leg| Some(leg) == moved), "seed {seed}: {start:#?}");
            joined += 1;
            across += u32::from(record.shard != start.shard);
        }
        world.finish()?;
        assert_eq!(world.noted().records.len(), 2, "seed {seed}");
    }
    assert!(joined > 0 && across > 0, "{joined} moments, {across} of them between shards");
    Ok(())
}

/// Of calls that have not ended the newest start, as the next run of the gateway finds them.
fn left_by_a_kill<'s>(starts: &'s [Cdr], ended: &[CallId]) -> Vec<&'s Cdr> {
    let mut left: Vec<&Cdr> = Vec::new();
    for start in starts.iter().filter(|start| !ended.contains(&start.session_id)) {
        left.retain(|other| other.session_id != start.session_id);
        left.push(start);
    }
    left
}
