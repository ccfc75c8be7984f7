//! Media past us when something moves in a standing call: a port, a leg, a recording.
//! Owns:  what the other side is told of it; sound itself is the simulator's.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use std::time::Duration;

use shared::act::CallAction;
use shared::ask::MediaProxy;
use shared::command::Command;
use shared::event::Event;
use shared::ids::Side;
use shared::metrics::Counter;
use shared::originate::Originate;
use shared::settings::{MediaSettings, ShardSettings};
use world::acting::{on, only_answer};
use world::{ANN, BEN, Bench, answer, established, from_ann, from_ben, header, sdp, settings, tag};

const CLEO: &str = "10.0.0.13:5060";
const URI: &str = "sip:1002@pbx.test";

fn bench() -> Bench {
    let plain = settings();
    let media = MediaSettings { proxy: MediaProxy::Never, ..plain.media };
    Bench::new(ShardSettings { media, ..plain })
}

/// A re-INVITE that came to `peer`, answered with this port.
fn agrees(bench: &mut Bench, peer: &str, port: u16) -> String {
    let invite = bench.only(peer, "INVITE");
    let ip = peer.split(':').next().expect("an address");
    bench.say(peer, &answer(&invite, "200 OK", "", peer, &sdp(ip, port)));
    let heard = bench.heard(peer);
    assert!(heard[0].starts_with("ACK"), "{heard:#?}");
    assert_eq!(heard.len(), 1, "{heard:#?}");
    invite
}

fn hang_up(bench: &mut Bench, ours: &str) {
    bench.say(ANN, &from_ann("BYE", URI, 90, "bye", ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
}

/// The answer to a re-INVITE of ours may name another port, which only its sender knows as yet.
#[test]
fn a_port_that_moves_with_an_answer_is_told_to_the_other_side() {
    let mut bench = bench();
    let (_, ours) = established(&mut bench);
    on(&mut bench, 1, CallAction::Hold { side: Side::Caller, on: true });
    agrees(&mut bench, ANN, 4444);
    assert_eq!(only_answer(&mut bench, 1), Ok(()));
    let told = agrees(&mut bench, BEN, 5000);
    assert!(told.contains("m=audio 4444") && told.contains("10.0.0.11"), "{told}");
    assert_eq!(bench.heard(ANN), [""; 0], "Ben is where he was");
    // One that stays where it is needs nobody told.
    on(&mut bench, 2, CallAction::Hold { side: Side::Caller, on: false });
    agrees(&mut bench, ANN, 4444);
    assert_eq!(bench.heard(BEN), [""; 0]);
    hang_up(&mut bench, &ours);
}

/// Two phones that take another port for every answer are not asked forever.
#[test]
fn ports_that_never_rest_are_not_followed_forever() {
    let mut bench = bench();
    let (_, ours) = established(&mut bench);
    on(&mut bench, 1, CallAction::Hold { side: Side::Caller, on: true });
    let mut turns = 0;
    for port in 6000..6100 {
        let peer = if turns % 2 == 0 { ANN } else { BEN };
        if bench.sent.is_empty() {
            break;
        }
        agrees(&mut bench, peer, port);
        turns += 1;
    }
    assert_eq!(turns, 5, "the first and four that follow");
    hang_up(&mut bench, &ours);
}

/// The recording ends where the leg comes to: the record and the log say so.
#[test]
fn a_recorded_leg_that_comes_to_a_call_past_us_is_missed_aloud() {
    let mut bench = bench();
    bench.register("1001", ANN);
    bench.register("1003", CLEO);
    let (invite, ours) = established(&mut bench);
    let wanted = Originate {
        from: "1001".into(),
        to: "1003".into(),
        record: Some(true),
        ..Originate::default()
    };
    let wanted = Box::new(wanted);
    bench.input(call::Input::Command(Command::Originate { id: 7, wanted }));
    let to_ann = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&to_ann, "200 OK", "two", ANN, &sdp("10.0.0.11", 4002)));
    bench.only(ANN, "ACK");
    let to_cleo = bench.only(CLEO, "INVITE");
    bench.say(CLEO, &answer(&to_cleo, "200 OK", "cleo", CLEO, &sdp("10.0.0.13", 6000)));
    bench.only(CLEO, "ACK");
    let (call_id, local) = (header(&to_ann, "Call-ID"), tag(&header(&to_ann, "From")));
    let replaces = format!("{call_id}%3Bto-tag%3D{local}%3Bfrom-tag%3Dtwo");
    let refer = from_ann("REFER", URI, 2, "r2", &ours, "");
    let line = format!("Refer-To: <sip:1003@pbx.test?Replaces={replaces}>\r\nContent-Length");
    bench.say(ANN, &refer.replacen("Content-Length", &line, 1));
    let heard = bench.heard(ANN);
    assert!(heard[0].starts_with("SIP/2.0 202"), "{heard:#?}");
    bench.say(ANN, &answer(&heard[1], "200 OK", "", "", ""));
    let change = agrees(&mut bench, CLEO, 6000);
    assert!(change.contains("m=audio 5000"), "Ben's own place: {change}");
    assert_eq!(bench.core.counters_seen().of(Counter::RecordingsBroken), 1);
    let said = bench
        .events
        .iter()
        .any(|event| matches!(event, Event::Notice(notice) if notice.code == "recording_ends"));
    assert!(said, "the operator is told");
    for request in bench.heard(ANN) {
        bench.say(ANN, &answer(&request, "200 OK", "", "", ""));
    }
    agrees(&mut bench, BEN, 5000);
    bench.pass(Duration::from_secs(1));
    bench.say(BEN, &from_ben("BYE", &invite, 1, "b1", ""));
    bench.only(BEN, "SIP/2.0 200");
    let bye = bench.only(CLEO, "BYE");
    bench.say(CLEO, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
    let details = bench.cdrs.iter().flat_map(|cdr| &cdr.leg_timeline.events);
    let details: Vec<_> = details.filter_map(|event| event.details.as_deref()).collect();
    let why = "not recorded from here on: its media goes past us";
    assert!(details.iter().any(|details| details.ends_with(why)), "{details:#?}");
}
