//! Hold, resume and moved media by re-INVITE and UPDATE (RFC 3264 8, RFC 3261 14, RFC 3311).
//! Owns:  changes of a standing call from either side.
//! Gives: the directions on the other leg; silence while held, sound afterwards.
//! Never: media against the agreed direction.
//! Holds: an INFO arrives while all this goes on.

use std::time::Duration;

use sim::phone::plan::{CalleePlan, CallerPlan, Step};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

const SECOND: Duration = Duration::from_secs(1);

fn started(seed: u64) -> Result<World, Failure> {
    let phone = |user| PhoneSpec { voice_every: SECOND / 5, ..PhoneSpec::user(user) };
    World::started(WorldSettings::calm(seed), &[phone("1001"), phone("1002")])
}

fn packets(world: &World) -> [u64; 2] {
    [0, 1].map(|phone| world.phone(phone).usage(0).talking().packets_heard)
}

#[test]
fn the_callee_holds_and_resumes() -> Result<(), Failure> {
    for old in [false, true] {
        let mut world = started(40)?;
        let steps = vec![(5 * SECOND, Step::Hold { old }), (15 * SECOND, Step::Resume)];
        world.phone_mut(1).expect_call(CalleePlan { steps, ..CalleePlan::answer() });
        let hang_up_after = Some(25 * SECOND);
        world.call(0, CallerPlan { hang_up_after, ..CallerPlan::to("sip:1002@ringgate.test") });
        // The answer comes 2 s after the INVITE; by 8 s the hold stands, until 17 s.
        world.run_for(8 * SECOND)?;
        let held = packets(&world);
        world.run_for(8 * SECOND)?;
        let later = packets(&world);
        assert_eq!(later[1], held[1], "old {old}: the holder hears nothing");
        assert!(later[0] > held[0], "old {old}: the held side may hear music");
        world.run_for(8 * SECOND)?;
        assert!(packets(&world)[1] > later[1] + 20, "old {old}: sound again after the resume");
        world.run_for(20 * SECOND)?;
        assert_eq!(world.noted().record().status_code, 200);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn media_moves_to_a_new_port_by_re_invite_and_stays_after_an_update() -> Result<(), Failure> {
    let mut world = started(41)?;
    let steps = vec![(3 * SECOND, Step::MoveMedia), (6 * SECOND, Step::Update)];
    world.call(0, CallerPlan { steps, ..CallerPlan::to("sip:1002@ringgate.test") });
    world.run_for(9 * SECOND)?;
    let before = packets(&world);
    world.run_for(3 * SECOND)?;
    let after = packets(&world);
    assert!(after[0] > before[0] + 5 && after[1] > before[1] + 5, "{before:?} {after:?}");
    assert_eq!(world.noted().answers("UPDATE", 200).count(), 1);
    world.run_for(20 * SECOND)?;
    world.finish().map(drop)
}

#[test]
fn info_reaches_the_other_side() -> Result<(), Failure> {
    let mut world = started(42)?;
    let steps = vec![(3 * SECOND, Step::SendInfo), (4 * SECOND, Step::SendInfo)];
    world.phone_mut(1).expect_call(CalleePlan { steps: steps.clone(), ..CalleePlan::answer() });
    world.call(0, CallerPlan { steps, ..CallerPlan::to("sip:1002@ringgate.test") });
    world.run_for(30 * SECOND)?;
    for phone in 0..2 {
        assert_eq!(world.phone(phone).usage(0).report.infos_heard, 2, "phone {phone}");
    }
    world.finish().map(drop)
}

#[test]
fn a_refused_change_leaves_the_call_as_it_was() -> Result<(), Failure> {
    let mut world = started(43)?;
    let refuse_changes = Some(488);
    world.phone_mut(1).expect_call(CalleePlan { refuse_changes, ..CalleePlan::answer() });
    let steps = vec![(3 * SECOND, Step::MoveMedia)];
    world.call(0, CallerPlan { steps, ..CallerPlan::to("sip:1002@ringgate.test") });
    world.run_for(30 * SECOND)?;
    assert!(world.noted().answers("INVITE", 488).next().is_some());
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}
