//! What we say ourselves for a program: sound, keys, and what is recorded of a call.
//! Owns:  one test per rule of `b2bua/{speech,keys,recording}.rs`.
//! Gives: edits out, news in.
//! Never: a packet; those are `media`'s.
//! Holds: an act is answered once, by the news of its own speech.

mod world;

use std::time::Duration;

use call::Input;
use media::edit::{RelayEdit, Say};
use media::g711::Law;
use media::speakers::{NotSaid, SpeechNews, What};
use media::speech::Speech;
use shared::act::{CallAction, Play, Recording, Refusal, Samples};
use shared::ids::{RelayKey, Side};
use world::acting::{answers, bench, on, only_answer};
use world::{ANN, BEN, Bench, answer, from_ann, header, sdp, tag};

const CALLER: [bool; 2] = [true, false];
const BOTH: [bool; 2] = [true, true];

fn play(towards: [bool; 2]) -> CallAction {
    CallAction::Play(Play { towards, samples: Samples::new(vec![5; 800]), repeat: false })
}

fn keys(side: Side, keys: &str) -> CallAction {
    CallAction::Keys { side, keys: keys.into() }
}

/// A call in which Ann offered `formats` and Ben took `choice`.
fn talking(formats: &str, choice: &str) -> Bench {
    let mut bench = bench();
    bench.register("1002", BEN);
    let with = |ip: &str, port, formats: &str| {
        let events =
            if formats.contains("101") { "a=rtpmap:101 telephone-event/8000\r\n" } else { "" };
        sdp(ip, port).replace("RTP/AVP 0 8", &format!("RTP/AVP {formats}")) + events
    };
    let offer = with("10.0.0.11", 4000, formats);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &offer));
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &with("10.0.0.12", 5000, choice)));
    let ok = bench.heard(ANN).pop().expect("the answer");
    let ours = tag(&header(&ok, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &ours, ""));
    bench.heard(BEN);
    bench.edits.clear();
    bench
}

/// What was to be said since the last look.
fn said(bench: &mut Bench) -> Vec<(RelayKey, Side, Say)> {
    let edits = std::mem::take(&mut bench.edits).into_iter();
    edits
        .filter_map(|edit| match edit {
            RelayEdit::Say { relay, side, say } => Some((relay, side, *say)),
            _ => None,
        })
        .collect()
}

fn tell(bench: &mut Bench, said: &(RelayKey, Side, Say), what: What) {
    let (relay, side, say) = said;
    let news = SpeechNews { relay: *relay, side: *side, token: say.token, what };
    bench.input(Input::Speech(news));
}

#[test]
fn sound_is_said_in_the_codec_that_both_agreed_on_and_done_when_it_is_heard() {
    for (formats, choice, law) in
        [("0 8", "8", Law::A), ("0 8", "0 8", Law::U), ("9 8 0", "0", Law::U)]
    {
        let mut bench = talking(formats, choice);
        on(&mut bench, 1, play(CALLER));
        let said = said(&mut bench);
        assert_eq!((said.len(), said[0].1), (1, Side::Caller));
        let Speech::Sound { law: spoken, ref samples, .. } = said[0].2.speech else {
            panic!("{said:?}")
        };
        assert_eq!((spoken, samples.as_slice().len()), (law, 800), "{formats} {choice}");
        assert_eq!(answers(&mut bench), []);
        tell(&mut bench, &said[0], What::Began);
        assert_eq!(only_answer(&mut bench, 1), Ok(()));
        tell(&mut bench, &said[0], What::Ended { packets: 5, whole: true });
        assert_eq!(answers(&mut bench), []);
        on(&mut bench, 2, CallAction::StopPlaying { towards: BOTH });
        assert_eq!(only_answer(&mut bench, 2), Err(Refusal::NotPlaying));
    }
}

#[test]
fn an_act_towards_both_is_done_when_both_hear_it_and_refused_when_one_cannot() {
    let mut bench = talking("0 8", "0");
    on(&mut bench, 1, play(BOTH));
    let both = said(&mut bench);
    assert_eq!(both.len(), 2);
    tell(&mut bench, &both[1], What::Began);
    assert_eq!(answers(&mut bench), []);
    tell(&mut bench, &both[0], What::Began);
    assert_eq!(only_answer(&mut bench, 1), Ok(()));
    on(&mut bench, 2, CallAction::StopPlaying { towards: BOTH });
    let hushed = bench.edits.iter().filter(|edit| matches!(edit, RelayEdit::Hush { .. })).count();
    assert_eq!(hushed, 2);
    for one in &both {
        assert_eq!(answers(&mut bench), []);
        tell(&mut bench, one, What::Ended { packets: 3, whole: false });
    }
    assert_eq!(only_answer(&mut bench, 2), Ok(()));
    on(&mut bench, 3, play(BOTH));
    let both = said(&mut bench);
    tell(&mut bench, &both[0], What::NotSaid(NotSaid::TooMany));
    assert_eq!(only_answer(&mut bench, 3), Err(Refusal::SpeakersFull));
    tell(&mut bench, &both[1], What::Began);
    assert_eq!(answers(&mut bench), []);
}

#[test]
fn a_phone_that_hears_nothing_confirms_nothing() {
    let mut bench = talking("0", "0");
    on(&mut bench, 1, play(CALLER));
    let first = said(&mut bench);
    bench.pass(Duration::from_secs(3));
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::NotConfirmed));
    // A second sound takes the place of the first, whose end concerns nobody any more.
    on(&mut bench, 2, play(CALLER));
    let second = said(&mut bench);
    tell(&mut bench, &first[0], What::Ended { packets: 0, whole: false });
    assert_eq!(answers(&mut bench), []);
    tell(&mut bench, &second[0], What::Ended { packets: 0, whole: true });
    assert_eq!(only_answer(&mut bench, 2), Err(Refusal::NoMedia));
}

#[test]
fn what_we_cannot_write_is_refused() {
    let mut bench = talking("9", "9");
    on(&mut bench, 1, play(CALLER));
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::CodecUnknown));
    assert!(said(&mut bench).is_empty());
}

#[test]
fn keys_go_in_the_payload_type_of_the_leg_and_are_done_when_all_were_said() {
    let mut bench = talking("0 101", "0 101");
    for (id, ended, outcome) in [
        (1, What::Ended { packets: 21, whole: true }, Ok(())),
        (2, What::Ended { packets: 4, whole: false }, Err(Refusal::NotConfirmed)),
        (3, What::Ended { packets: 0, whole: true }, Err(Refusal::NoMedia)),
    ] {
        on(&mut bench, id, keys(Side::Callee, "4#a"));
        let said = said(&mut bench);
        assert_eq!((said.len(), said[0].1), (1, Side::Callee));
        let expected = Speech::Keys { keys: Box::new([4, 11, 12]), payload_type: 101 };
        assert_eq!(said[0].2.speech, expected);
        tell(&mut bench, &said[0], What::Began);
        assert_eq!(answers(&mut bench), []);
        tell(&mut bench, &said[0], ended);
        assert_eq!(only_answer(&mut bench, id), outcome);
    }
}

/// Ann takes telephone events, Ben does not: he gets INFO, one key after the other.
#[test]
fn keys_go_by_info_where_the_leg_has_no_telephone_events() {
    let mut bench = talking("0 101", "0");
    on(&mut bench, 1, keys(Side::Callee, "1d"));
    assert!(said(&mut bench).is_empty());
    let first = bench.only(BEN, "INFO");
    assert_eq!(header(&first, "Content-Type"), "application/dtmf-relay");
    assert!(first.ends_with("\r\n\r\nSignal=1\r\nDuration=160\r\n"), "{first}");
    on(&mut bench, 2, keys(Side::Callee, "5"));
    assert_eq!(only_answer(&mut bench, 2), Err(Refusal::Busy));
    bench.say(BEN, &answer(&first, "200 OK", "", "", ""));
    let second = bench.only(BEN, "INFO");
    assert!(second.ends_with("Signal=D\r\nDuration=160\r\n"), "{second}");
    assert_eq!(answers(&mut bench), []);
    bench.say(BEN, &answer(&second, "200 OK", "", "", ""));
    assert_eq!(only_answer(&mut bench, 1), Ok(()));
    on(&mut bench, 3, keys(Side::Callee, "9"));
    let refused = bench.only(BEN, "INFO");
    bench.say(BEN, &answer(&refused, "415 Unsupported Media Type", "", "", ""));
    assert_eq!(only_answer(&mut bench, 3), Err(Refusal::PeerRefused(415)));
    assert!(bench.cdrs.is_empty(), "the call stands");
}

#[test]
fn keys_that_a_phone_never_answers_end_with_the_deadline() {
    let mut bench = talking("0", "0");
    on(&mut bench, 1, keys(Side::Caller, "1"));
    bench.pass(Duration::from_secs(25));
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::NotConfirmed));
    bench.pass(Duration::from_secs(10));
    assert!(bench.cdrs.is_empty(), "408 to INFO does not end a call");
    on(&mut bench, 2, keys(Side::Caller, "1"));
    assert_eq!(answers(&mut bench), [], "it may be tried again");
}

#[test]
fn a_recording_starts_pauses_resumes_and_stops_in_one_file() {
    use Recording::{Pause, Resume, Start, Stop};
    let mut bench = talking("0", "0");
    let nothing = Err(Refusal::NotRecording);
    let again = Err(Refusal::AlreadyRecording);
    let script = [
        (Pause, nothing, ""),
        (Stop, nothing, ""),
        (Start, Ok(()), "record"),
        (Start, again, ""),
        (Pause, Ok(()), "pause"),
        (Pause, nothing, ""),
        (Start, again, ""),
        (Resume, Ok(()), "resume"),
        (Resume, nothing, ""),
        (Stop, Ok(()), "pause"),
        (Resume, nothing, ""),
        (Start, Ok(()), "resume"),
        (Stop, Ok(()), "pause"),
    ];
    for (id, (wanted, outcome, edit)) in (1..).zip(script) {
        on(&mut bench, id, CallAction::Record(wanted));
        assert_eq!(only_answer(&mut bench, id), outcome, "{id} {wanted:?}");
        let words: Vec<_> = std::mem::take(&mut bench.edits)
            .iter()
            .map(|edit| match edit {
                RelayEdit::Record { .. } => "record",
                RelayEdit::RecordPause { paused: true, .. } => "pause",
                RelayEdit::RecordPause { paused: false, .. } => "resume",
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = if edit.is_empty() { vec![] } else { vec![edit] };
        assert_eq!(words, expected, "{id} {wanted:?}");
    }
}
