//! ACKs that come late or never, and the 2xx that is sent again meanwhile (RFC 3261 13.3.1.4).
//! Owns:  the three-way handshake of an answer on both legs.
//! Gives: the times of the repeats; BYE to both sides when no ACK comes for 64*T1.
//! Never: a 2xx that is repeated after its ACK.
//! Holds: the legs end together.

use std::time::Duration;

use sim::phone::Ending;
use sim::phone::plan::{AckPlan, CallerPlan};
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn run(ack: AckPlan, over_tcp: bool) -> Result<World, Failure> {
    let caller = PhoneSpec::user("1001");
    let caller = if over_tcp { caller.over_tcp() } else { caller };
    let mut world = World::started(WorldSettings::calm(3), &[caller, PhoneSpec::user("1002")])?;
    let hang_up_after = Some(Duration::from_secs(20));
    world.call(0, CallerPlan { ack, hang_up_after, ..CallerPlan::to("sip:1002@ringgate.test") });
    world.run_for(Duration::from_secs(60))?;
    Ok(world)
}

/// Milliseconds from the first 200 to each 200 that the caller was sent.
fn repeats(world: &World) -> Vec<u64> {
    let times: Vec<_> = world.noted().answers("INVITE", 200).map(|sent| sent.at).collect();
    let millis = |at: &shared::time::Instant| (at.since(times[0]).as_secs_f64() * 1_000.0).round();
    times.iter().map(|at| millis(at) as u64).collect()
}

/// T1 doubling up to T2: 0, 0.5, 1.5, 3.5, 7.5 s; the ACK comes after 6 s.
#[test]
fn an_answer_is_sent_again_until_its_ack_comes() -> Result<(), Failure> {
    for over_tcp in [false, true] {
        let mut world = run(AckPlan::After(Duration::from_secs(6)), over_tcp)?;
        let times = repeats(&world);
        assert_eq!(times.len(), 4, "over TCP {over_tcp}: {times:?}");
        for (found, expected) in times.iter().zip([0_u64, 500, 1_500, 3_500]) {
            assert!(found.abs_diff(expected) <= 2, "over TCP {over_tcp}: {times:?}");
        }
        assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::LocalBye));
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_call_that_is_never_acknowledged_ends_after_64_t1() -> Result<(), Failure> {
    let mut world = run(AckPlan::Never, false)?;
    assert_eq!(repeats(&world).len(), 11);
    for phone in 0..2 {
        let report = &world.phone(phone).usage(0).report;
        assert_eq!(report.ending, Some(Ending::RemoteBye), "phone {phone}");
    }
    let record = world.noted().record();
    assert_eq!(record.status_code, 200);
    assert!((32_000..=32_100).contains(&record.duration_ms), "{} ms", record.duration_ms);
    world.finish().map(drop)
}
