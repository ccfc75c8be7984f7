//! Programs that act on standing calls: hang up and mute, by our id and by a leg's Call-ID.
//! Owns:  what the phones hear of it.
//! Gives: one test per command; random ones at random times are in every evening of `smoke`.
//! Never: an answer before the wire shows it; the ledger of every run looks after that.
//! Holds: the world ends clean after each.

use std::time::Duration;

use shared::act::{Acted, CallAction, HangUp, Play, Samples};
use shared::cdr::HangupReason;
use shared::ids::Side;
use sim::phone::Ending;
use sim::phone::plan::CallerPlan;
use sim::phone::talk::SILENCE;
use sim::spec::{PhoneSpec, WorldSettings};
use sim::world::{Act, Failure, World};

const SECOND: Duration = Duration::from_secs(1);

fn started(shards: u8) -> Result<World, Failure> {
    let phone = |user| PhoneSpec { voice_every: SECOND / 5, ..PhoneSpec::user(user) };
    let settings = WorldSettings { shards, ..WorldSettings::calm(80) };
    World::started(settings, &[phone("1001"), phone("1002")])
}

fn hang_up(code: Option<u16>) -> CallAction {
    CallAction::HangUp(HangUp { code, reason: Some("enough".into()), by: "ops".into() })
}

fn first(action: CallAction, by_leg: Option<usize>) -> Act {
    Act::Command { nth: 0, by_leg, action }
}

#[test]
fn a_talking_call_is_hung_up_on_both_sides() -> Result<(), Failure> {
    for (shards, by_leg) in [(1, None), (3, None), (3, Some(0)), (3, Some(1))] {
        let mut world = started(shards)?;
        world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
        world.after(5 * SECOND, first(hang_up(None), by_leg));
        world.run_for(6 * SECOND)?;
        for phone in 0..2 {
            assert_eq!(world.phone(phone).usage(0).report.ending, Some(Ending::RemoteBye));
        }
        let record = world.noted().record();
        assert_eq!(record.hangup_reason, HangupReason::BySystem);
        let [message] = record.hangup_messages.as_slice() else { panic!("{record:?}") };
        assert_eq!((message.reason.as_str(), message.target.as_str()), ("enough", "ops"));
        assert_eq!(world.ledger().commands.done(), 1);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_ringing_call_ends_with_the_code_that_was_asked_for() -> Result<(), Failure> {
    for (code, heard) in [(None, 480), (Some(486), 486), (Some(200), 480)] {
        let mut world = started(2)?;
        world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
        world.after(SECOND, first(hang_up(code), None));
        world.run_for(5 * SECOND)?;
        assert_eq!(world.phone(0).usage(0).report.ending, Some(Ending::Refused(heard)));
        assert_eq!(world.noted().requests("CANCEL").count(), 1);
        assert_eq!(world.noted().record().status_code, heard);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn only_the_muted_side_falls_silent() -> Result<(), Failure> {
    for muted in Side::BOTH {
        let mut world = started(2)?;
        world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
        // Before the answer: not a single packet may get through.
        world.after(SECOND, first(CallAction::Mute { side: muted, on: true }, None));
        world.run_for(8 * SECOND)?;
        let heard_by = |world: &World, side: Side| {
            world.phone(side.index()).usage(0).talking().heard_from.clone()
        };
        let marks = heard_by(&world, muted.other());
        assert_eq!(marks.into_iter().collect::<Vec<_>>(), [SILENCE], "{muted:?} is muted");
        assert!(!heard_by(&world, muted).contains(&SILENCE), "the other one is not");
        world.after(SECOND, first(CallAction::Mute { side: muted, on: false }, None));
        world.run_for(4 * SECOND)?;
        assert_eq!(heard_by(&world, muted.other()).len(), 2, "heard again");
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_call_that_has_ended_takes_no_command() -> Result<(), Failure> {
    let mut world = started(2)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.after(5 * SECOND, first(hang_up(None), None));
    world.after(5 * SECOND + SECOND / 1_000, first(hang_up(None), None));
    world.run_for(6 * SECOND)?;
    let answers: Vec<_> = world.ledger().commands.answers(1).collect();
    assert!(matches!(answers[..], [] | [Acted::Refused { .. }]), "{answers:?}");
    assert_eq!(world.ledger().commands.done(), 1);
    world.finish().map(drop)
}

#[test]
fn a_held_phone_hears_nothing_and_is_not_heard_until_it_is_taken_back() -> Result<(), Failure> {
    for side in Side::BOTH {
        let mut world = started(2)?;
        world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
        world.after(4 * SECOND, first(CallAction::Hold { side, on: true }, Some(0)));
        world.run_for(5 * SECOND)?;
        let heard =
            |world: &World| [0, 1].map(|phone| world.phone(phone).usage(0).talking().packets_heard);
        let talks = |world: &World| world.phone(side.index()).usage(0).talking().sends;
        let before = heard(&world);
        assert!(before.iter().all(|count| *count > 3) && !talks(&world), "{side:?} {before:?}");
        world.run_for(2 * SECOND)?;
        assert_eq!(heard(&world), before, "{side:?}");
        world.after(SECOND / 10, first(CallAction::Hold { side, on: false }, None));
        world.run_for(3 * SECOND)?;
        assert!(talks(&world));
        assert!(heard(&world).iter().zip(before).all(|(now, before)| *now > before + 5));
        assert_eq!(world.ledger().commands.done(), 2);
        world.finish()?;
    }
    Ok(())
}

#[test]
fn a_caller_is_answered_early_and_talks_when_the_callee_answers() -> Result<(), Failure> {
    let mut world = started(2)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.after(SECOND, first(CallAction::Accept { sdp: None }, None));
    world.run_for(8 * SECOND)?;
    assert_eq!(world.ledger().commands.done(), 1);
    for phone in 0..2 {
        let heard = world.phone(phone).usage(0).talking().packets_heard;
        assert!(heard > 10, "phone {phone} heard {heard}");
    }
    let (asked, answered) = (world.noted().requests("INVITE").count(), world.noted().records.len());
    assert!(asked >= 1 && answered == 0);
    world.run_for(30 * SECOND)?;
    assert_eq!(world.noted().record().status_code, 200);
    world.finish().map(drop)
}

#[test]
fn what_is_played_and_pressed_reaches_the_phone() -> Result<(), Failure> {
    let mut world = started(2)?;
    world.call(0, CallerPlan::to("sip:1002@ringgate.test"));
    world.run_for(4 * SECOND)?;
    let samples = Samples::new(vec![0; 8_000]);
    let play = Play { towards: [true, true], samples, repeat: false };
    world.after(SECOND / 10, first(CallAction::Play(play), None));
    world.run_for(2 * SECOND)?;
    assert_eq!(world.noted().said, 100, "a second, to both");
    let keys = CallAction::Keys { side: Side::Callee, keys: "42#".into() };
    world.after(SECOND / 10, first(keys, Some(1)));
    world.run_for(2 * SECOND)?;
    assert_eq!(world.noted().said, 100 + 3 * 7, "seven packets for each key");
    assert_eq!(world.ledger().commands.done(), 2);
    world.run_for(30 * SECOND)?;
    world.finish().map(drop)
}
