//! Media past us, byte by byte: what the legs are told, what commands hear (guide 1.1: `media_proxy`).
//! Owns:  the bodies on the wire; whether phones hear each other is the simulator's.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: no relay is asked for in any of them.

mod world;

use std::time::Duration;

use call::Input;
use shared::act::{CallAction, Play, Recording, Refusal, Samples};
use shared::ask::{
    Decision, Forward, MediaProxy, Orders, Record, RouteDecision, RouteTarget, Strategy,
};
use shared::command::Command;
use shared::event::Event;
use shared::ids::Side;
use shared::metrics::Counter;
use shared::snapshot::{HttpRouterRules, Snapshot};
use world::acting::{on, only_answer};
use world::{ANN, BEN, Bench, answer, from_ann, from_ben, header, sdp, settings, snapshot, tag};

/// Ann's INVITE is with Ben, by the router's word.
fn ringing(orders: Orders) -> (Bench, String) {
    let router = HttpRouterRules { budget: Duration::from_secs(1), fallback_to_static: true };
    let mut bench = Bench::with(settings(), Snapshot { http_router: Some(router), ..snapshot() });
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:200@pbx.test", 1, "a1", "", &ann_says()));
    bench.only(ANN, "SIP/2.0 100");
    let asked = bench.events.iter().find_map(|event| match event {
        Event::Asked { id, .. } => Some(*id),
        _ => None,
    });
    let orders = Orders { media_proxy: MediaProxy::Never, ..orders };
    let targets = vec![RouteTarget { uri: "sip:1002@pbx.test".to_owned(), at: None }];
    let (strategy, ring_timeout) = (Strategy::Sequential, None);
    let forward = Forward { targets, strategy, ring_timeout, orders };
    let decision = Decision::Route(RouteDecision::Forward(Box::new(forward)));
    let decision = Box::new(decision);
    bench.input(Input::Command(Command::Decided { id: asked.expect("an ask"), decision }));
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    bench.only(ANN, "SIP/2.0 180");
    (bench, invite)
}

/// They talk; gives the INVITE to Ben and our tag towards Ann.
fn talking(orders: Orders) -> (Bench, String, String) {
    let (mut bench, invite) = ringing(orders);
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &ben_says()));
    bench.only(BEN, "ACK");
    let ok = bench.only(ANN, "SIP/2.0 200");
    let ours = tag(&header(&ok, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:200@pbx.test", 1, "a1ack", &ours, ""));
    assert_eq!(body(&ok), ben_says());
    (bench, invite, ours)
}

fn hang_up(bench: &mut Bench, ours: &str) {
    bench.say(ANN, &from_ann("BYE", "sip:200@pbx.test", 9, "bye", ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "ben", "", ""));
    bench.assert_quiet();
}

fn ann_says() -> String {
    // With what a relay would take out or change.
    sdp("10.0.0.11", 4000) + "a=candidate:1 1 UDP 1 10.0.0.11 4000 typ host\r\na=rtcp:4001\r\n"
}

fn ben_says() -> String {
    sdp("10.0.0.12", 5000)
}

fn body(message: &str) -> &str {
    message.split_once("\r\n\r\n").expect("a body").1
}

#[test]
fn offer_and_answer_pass_byte_by_byte_and_no_port_is_taken() {
    let (mut bench, invite, ours) = talking(Orders::default());
    assert_eq!(body(&invite), ann_says());
    assert!(bench.edits.is_empty(), "{:?}", bench.edits);
    assert_eq!(bench.core.counters().of(Counter::CallsPastUs), 1);
    // Each side's own re-INVITE likewise.
    let moved = ben_says().replace("o=- 1 1 ", "o=- 1 2 ").replace("5000", "5002");
    bench.say(BEN, &from_ben("INVITE", &invite, 7, "b7", &moved));
    bench.only(BEN, "SIP/2.0 100");
    let at_ann = bench.only(ANN, "INVITE");
    assert_eq!(body(&at_ann), moved);
    let agreed = ann_says().replace("o=- 1 1 ", "o=- 1 2 ");
    bench.say(ANN, &answer(&at_ann, "200 OK", "", ANN, &agreed));
    bench.only(ANN, "ACK");
    assert_eq!(body(&bench.only(BEN, "SIP/2.0 200")), agreed);
    bench.say(BEN, &from_ben("ACK", &invite, 7, "b7ack", ""));
    assert!(bench.edits.is_empty(), "{:?}", bench.edits);
    hang_up(&mut bench, &ours);
    let [record] = bench.cdrs.as_slice() else { panic!("{:?}", bench.cdrs) };
    assert!(record.media_quality.is_empty() && !record.recorded && record.status_code == 200);
}

#[test]
fn commands_that_need_the_media_say_that_it_is_not_here() {
    let (mut bench, _, ours) = talking(Orders::default());
    let samples = Samples::new(vec![0_i16; 800]);
    let play = Play { towards: [true, true], samples, repeat: false };
    let refused = [
        CallAction::Play(play),
        CallAction::Mute { side: Side::Caller, on: true },
        CallAction::Record(Recording::Start),
    ];
    for (id, action) in (1..).zip(refused) {
        on(&mut bench, id, action);
        assert_eq!(only_answer(&mut bench, id), Err(Refusal::NoMedia));
    }
    hang_up(&mut bench, &ours);
}

#[test]
fn a_ringing_call_is_accepted_with_a_place_to_send_to_and_not_without() {
    let (mut bench, invite) = ringing(Orders::default());
    on(&mut bench, 1, CallAction::Record(Recording::Start));
    assert_eq!(only_answer(&mut bench, 1), Err(Refusal::NoMedia));
    on(&mut bench, 2, CallAction::Accept { sdp: None });
    assert_eq!(only_answer(&mut bench, 2), Err(Refusal::NoMedia));
    let music = sdp("10.0.0.50", 9000).replace("o=- 1 1", "o=music 5 1");
    on(&mut bench, 3, CallAction::Accept { sdp: Some(music.as_str().into()) });
    let ok = bench.only(ANN, "SIP/2.0 200");
    assert_eq!(body(&ok), music);
    let ours = tag(&header(&ok, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:200@pbx.test", 1, "a1ack", &ours, ""));
    assert_eq!(only_answer(&mut bench, 3), Ok(()));
    // Ben picks up: Ann is told where he is, under the origin that she knows.
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &ben_says()));
    bench.only(BEN, "ACK");
    let again = bench.only(ANN, "INVITE");
    let told = ben_says().replace("o=- 1 1 IN IP4 10.0.0.12", "o=music 5 2 IN IP4 10.0.0.50");
    assert_eq!(body(&again), told);
    bench.say(ANN, &answer(&again, "200 OK", "", ANN, &ann_says()));
    bench.only(ANN, "ACK");
    hang_up(&mut bench, &ours);
}

#[test]
fn allowed_codecs_are_still_the_routers_to_choose() {
    let orders = Orders { allow_codecs: vec!["PCMA".into()], ..Orders::default() };
    let (mut bench, invite) = ringing(orders);
    assert!(body(&invite).contains("m=audio 4000 RTP/AVP 8\r\n"), "{invite}");
    assert!(body(&invite).contains("a=candidate:1"), "{invite}");
    bench.say(BEN, &answer(&invite, "486 Busy Here", "ben", "", ""));
    bench.only(BEN, "ACK");
    let busy = bench.only(ANN, "SIP/2.0 486");
    let ours = tag(&header(&busy, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:200@pbx.test", 1, "a1", &ours, ""));
    bench.assert_quiet();
}

/// What somebody wants to hear has to pass through us.
#[test]
fn a_recording_wins_over_the_wish_to_go_past_us() {
    for record in [Record::FromAnswer, Record::FromMedia] {
        let orders = Orders { record: Some(record), ..Orders::default() };
        let (mut bench, invite) = ringing(orders);
        assert!(body(&invite).contains("c=IN IP4 10.0.0.1\r\n"), "{invite}");
        assert!(!bench.edits.is_empty());
        assert_eq!(bench.core.counters().of(Counter::CallsPastUs), 0);
        let said = bench.events.iter().any(|event| {
            matches!(event, Event::Notice(notice)
                if notice.code == "media_anchored" && notice.detail.contains("be recorded"))
        });
        assert!(said, "the operator is told");
    }
}
