//! Phones behind address translation: private Contact, private SDP (RFC 3581, RFC 4961, RFC 5626).
//! Owns:  one and two translated ends.
//! Gives: calls and audio in both directions.
//! Never: a packet to the private address once the outside one is known.
//! Holds: signalling goes to where the REGISTER came from, media to where packets come from.

use std::time::Duration;

use sim::phone::plan::CallerPlan;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Failure, World};

fn talk(caller: PhoneSpec, callee: PhoneSpec) -> Result<(), Failure> {
    let mut world = World::started(WorldSettings::calm(7), &[caller, callee])?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(Duration::from_secs(30))?;
    let (one, two) = (world.phone(0).usage(0), world.phone(1).usage(0));
    assert!(one.talking().heard_from.contains(&two.report.mark), "the caller heard nothing");
    assert!(two.talking().heard_from.contains(&one.report.mark), "the callee heard nothing");
    assert!(one.report.packets_heard >= 5 && two.report.packets_heard >= 5);
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}

#[test]
fn a_phone_behind_nat_calls() -> Result<(), Failure> {
    talk(PhoneSpec::user("1001").behind_nat(), PhoneSpec::user("1002"))
}

#[test]
fn a_phone_behind_nat_is_called() -> Result<(), Failure> {
    talk(PhoneSpec::user("1001"), PhoneSpec::user("1002").behind_nat())
}

#[test]
fn two_phones_behind_two_nats_talk() -> Result<(), Failure> {
    talk(PhoneSpec::user("1001").behind_nat(), PhoneSpec::user("1002").behind_nat())
}

#[test]
fn a_phone_behind_nat_over_tcp_is_called_on_its_flow() -> Result<(), Failure> {
    talk(PhoneSpec::user("1001"), PhoneSpec::user("1002").behind_nat().over_tcp())
}
