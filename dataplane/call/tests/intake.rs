//! What a shard still takes in when the disk is full: no recordings, or no calls.
//! Owns:  `Command::Intake` and its effect on new calls.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: a standing call goes on whatever happens.

mod world;

use call::Input;
use media::edit::RelayEdit;
use shared::command::{Command, Intake};
use world::{ANN, BEN, Bench, answer, established, from_ann, header, sdp, settings, tag};

fn recorded(bench: &Bench) -> bool {
    bench.edits.iter().any(|edit| matches!(edit, RelayEdit::Record { .. }))
}

fn recording_bench() -> Bench {
    let mut settings = settings();
    settings.recording.auto_start = true;
    Bench::new(settings)
}

fn tell(bench: &mut Bench, calls: bool, recordings: bool) {
    bench.input(Input::Command(Command::Intake(Intake { calls, recordings, messages: true })));
}

#[test]
fn without_recordings_a_call_goes_on_unrecorded_and_later_ones_are_recorded_again() {
    let mut bench = recording_bench();
    tell(&mut bench, true, false);
    let (_, ours) = established(&mut bench);
    assert!(!recorded(&bench));
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    assert!(!bench.cdrs[0].recorded);
    let mut bench = recording_bench();
    tell(&mut bench, true, false);
    tell(&mut bench, true, true);
    established(&mut bench);
    assert!(recorded(&bench));
}

#[test]
fn without_calls_a_new_one_hears_503_and_a_standing_one_goes_on() {
    let mut bench = recording_bench();
    let (_, ours) = established(&mut bench);
    tell(&mut bench, false, false);
    let invite = from_ann("INVITE", "sip:1003@pbx.test", 1, "n1", "", &sdp("10.0.0.11", 4100));
    bench.heard(ANN);
    bench.say(ANN, &invite.replace("call-ann", "call-two"));
    let refused = bench.only(ANN, "SIP/2.0 503");
    assert!(!header(&refused, "Retry-After").is_empty(), "{refused}");
    let tag = tag(&header(&refused, "To"));
    let ack = from_ann("ACK", "sip:1003@pbx.test", 1, "n1", &tag, "");
    bench.say(ANN, &ack.replace("call-ann", "call-two"));
    assert!(bench.cdrs.is_empty(), "the standing call is still there");
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    assert_eq!(bench.cdrs.len(), 1);
    bench.assert_quiet();
}
