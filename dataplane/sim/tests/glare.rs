//! Two re-INVITEs that cross on the wire (RFC 3261 14.1, 14.2).
//! Owns:  glare between the legs of one call.
//! Gives: 491 to one side at least, a retry after its own wait, both changes done in the end.
//! Never: a lost call.
//! Holds: the call goes on with the media that was agreed last.

use std::time::Duration;

use sim::phone::plan::{CalleePlan, CallerPlan, Outcome, Step};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn run(steps: [Step; 2]) -> Result<World, Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
    let mut world = World::started(WorldSettings::calm(11), &phones)?;
    let at_once = Duration::from_millis(1);
    world.phone_mut(1).expect_call(CalleePlan {
        outcome: Outcome::Answer(at_once),
        rings: Vec::new(),
        // The callee counts from its answer, the caller from hearing it one trip later.
        steps: vec![(Duration::from_millis(3_010), steps[1])],
        ..CalleePlan::answer()
    });
    world.call(
        0,
        CallerPlan {
            steps: vec![(Duration::from_secs(3), steps[0])],
            hang_up_after: Some(Duration::from_secs(30)),
            ..CallerPlan::to("sip:1002@ringgate.test")
        },
    );
    world.run_for(Duration::from_secs(60))?;
    Ok(world)
}

#[test]
fn crossing_re_invites_meet_491_and_both_come_through() -> Result<(), Failure> {
    let mut world = run([Step::MoveMedia, Step::MoveMedia])?;
    let glares: u32 = (0..2).map(|phone| world.phone(phone).usage(0).report.glares).sum();
    assert!(glares >= 1, "nobody heard 491");
    // Both moved their media by then, and both still hear the other.
    for phone in 0..2 {
        let talking = world.phone(phone).usage(0).talking();
        assert_eq!(talking.audio().port() % 40, 4, "phone {phone} moved to {}", talking.audio());
    }
    assert_eq!(world.noted().record().status_code, 200);
    let heard = world.phone(0).usage(0).report.packets_heard;
    assert!(heard >= 20, "the caller heard {heard} packets in 30 s");
    world.finish().map(drop)
}

#[test]
fn an_update_that_crosses_a_re_invite_is_refused_and_tried_again() -> Result<(), Failure> {
    let mut world = run([Step::Update, Step::MoveMedia])?;
    assert!(
        world.noted().answers("UPDATE", 491).next().is_some()
            || world.noted().answers("INVITE", 491).next().is_some()
    );
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}
