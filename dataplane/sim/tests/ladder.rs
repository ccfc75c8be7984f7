//! The ladder of a call against the wire: what crossed the gateway's boundary is in it, once, in order.
//! Owns:  a calm world, so that the wire can be counted.
//! Gives: proof for calls over one shard and several, and for one that waited for a program.
//! Never: a file; the shell has its own tests.
//! Holds: every run also passes the checker's rules about ladders.

use std::time::Duration;

use shared::ids::Side;
use shared::snapshot::RemoteUsers;
use sim::noted::Passed;
use sim::phone::plan::CallerPlan;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

/// The ladder of the one call of this world.
fn ladder(settings: WorldSettings) -> Result<(World, Vec<Passed>), Failure> {
    let phones = [PhoneSpec::user("1001"), PhoneSpec::user("1002")];
    let mut world = World::started(settings, &phones)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    world.finish()?;
    let call = world.noted().record().session_id;
    let own = world.noted().ladder.iter().filter(|passed| passed.call == call);
    let own = own.cloned().collect();
    Ok((world, own))
}

fn of(ladder: &[Passed], side: Side) -> Vec<String> {
    let own = ladder.iter().filter(|passed| passed.side == side);
    own.map(|passed| {
        let way = if passed.came { '>' } else { '<' };
        match passed.status {
            Some(status) => format!("{way} {status} {}", passed.method),
            None => format!("{way} {}", passed.method),
        }
    })
    .collect()
}

#[test]
fn a_ladder_has_what_was_on_the_wire_in_order() -> Result<(), Failure> {
    for shards in [1, 3] {
        let settings = WorldSettings { shards, scatter: shards > 1, ..WorldSettings::calm(91) };
        let (world, ladder) = ladder(settings)?;
        let caller = ["> INVITE", "< 100 INVITE", "< 180 INVITE", "< 200 INVITE", "> ACK", "> BYE"];
        let seen = of(&ladder, Side::Caller);
        assert_eq!(seen[..6], caller, "{shards} shards");
        assert_eq!(seen[6..], ["< 200 BYE"], "{shards} shards");
        let callee = of(&ladder, Side::Callee);
        let callee: Vec<_> = callee.iter().filter(|line| *line != "> 100 INVITE").collect();
        let expected = ["< INVITE", "> 180 INVITE", "> 200 INVITE", "< ACK", "< BYE", "> 200 BYE"];
        assert_eq!(callee, expected, "{shards} shards");
        // What the gateway sent is what the world saw it send on the legs of the call.
        let legs = &world.noted().record().sip_leg_roles;
        let is_of_leg = |call_id: &str| legs.iter().any(|leg| leg.call_id == call_id);
        let sent = world.noted().sent.iter().filter(|sent| is_of_leg(&sent.call_id));
        // The challenge and all in front of it belong to no call yet.
        let sent = sent.skip_while(|sent| sent.status != Some(100)).count();
        assert_eq!(ladder.iter().filter(|passed| !passed.came).count(), sent, "{shards} shards");
    }
    Ok(())
}

#[test]
fn an_invite_that_waited_for_the_user_backends_stands_first_in_the_ladder() -> Result<(), Failure> {
    let settings = WorldSettings {
        remote_users: Some(RemoteUsers { first: 0, budget: Duration::from_secs(2) }),
        known_remotely: vec!["1001".to_owned()],
        ..WorldSettings::calm(92)
    };
    let (_, ladder) = ladder(settings)?;
    let seen = of(&ladder, Side::Caller);
    assert_eq!(seen[..3], ["> INVITE", "< 100 INVITE", "< 180 INVITE"]);
    assert_eq!(ladder[0].side, Side::Caller, "before the callee heard of it");
    Ok(())
}
