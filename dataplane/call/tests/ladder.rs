//! The ladder of a call: which messages the core says are its, on the bench.
//! Owns:  calls that go well, fail, are cancelled; repeats.
//! Gives: the whole list of each, in the order in which they passed.
//! Never: the bytes; the shell keeps those.
//! Holds: what belongs to no call is in no ladder.

mod world;

use std::time::Duration;

use shared::settings::{ShardSettings, SipFlowSettings};
use world::{ANN, BEN, Bench, answer, established, from_ann, from_ben, header, sdp, settings, tag};

fn invite(target: &str) -> String {
    from_ann("INVITE", target, 1, "a1", "", &sdp("10.0.0.11", 4000))
}

/// The ladder of the one call that has ended.
fn ladder(bench: &Bench) -> Vec<String> {
    let [cdr] = bench.cdrs.as_slice() else { panic!("{} records", bench.cdrs.len()) };
    assert!(bench.ladder.iter().all(|(rung, _)| rung.call == cdr.session_id));
    bench.ladder_of(cdr.session_id)
}

#[test]
fn every_message_of_a_call_is_in_its_ladder_and_a_registration_is_not() {
    let mut bench = Bench::new(settings());
    let (_, ours) = established(&mut bench);
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, ""));
    let heard = bench.heard(BEN);
    let bye = heard.last().expect("BYE");
    bench.say(BEN, &answer(bye, "200 OK", "", "", ""));
    let expected = [
        "Caller > INVITE",
        "Caller < 100 INVITE",
        "Callee < INVITE",
        "Callee > 180 INVITE",
        "Caller < 180 INVITE",
        "Callee > 200 INVITE",
        "Callee < ACK",
        "Caller < 200 INVITE",
        "Caller > ACK",
        "Caller > BYE",
        "Caller < 200 BYE",
        "Callee < BYE",
        "Callee > 200 BYE",
    ];
    assert_eq!(ladder(&bench), expected);
}

#[test]
fn a_call_that_is_refused_has_its_ladder_with_the_ack_that_comes_after_its_record() {
    let mut bench = Bench::new(settings());
    bench.say(ANN, &invite("sip:7777@pbx.test"));
    let refused = bench.heard(ANN).pop().expect("404");
    bench.say(ANN, &invite("sip:7777@pbx.test"));
    let ours = tag(&header(&refused, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:7777@pbx.test", 1, "a1", &ours, ""));
    let expected = [
        "Caller > INVITE",
        "Caller < 100 INVITE",
        "Caller < 404 INVITE",
        "Caller > INVITE",
        "Caller < 404 INVITE",
        "Caller > ACK",
    ];
    assert_eq!(ladder(&bench), expected);
}

#[test]
fn a_cancel_and_all_that_follows_it_are_in_the_ladder() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    bench.say(ANN, &invite("sip:1002@pbx.test"));
    let invited = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invited, "180 Ringing", "ben", BEN, ""));
    bench.say(ANN, &from_ann("CANCEL", "sip:1002@pbx.test", 1, "a1", "", ""));
    let cancel = bench.only(BEN, "CANCEL");
    bench.say(BEN, &answer(&cancel, "200 OK", "ben", "", ""));
    bench.say(BEN, &answer(&invited, "487 Request Terminated", "ben", "", ""));
    let ladder = ladder(&bench);
    let of = |side: &str| -> Vec<String> {
        let own = ladder.iter().filter_map(|line| line.strip_prefix(side));
        own.map(str::to_owned).collect()
    };
    let caller =
        ["> INVITE", "< 100 INVITE", "< 180 INVITE", "> CANCEL", "< 200 CANCEL", "< 487 INVITE"];
    assert_eq!(of("Caller "), caller);
    let callee = ["< INVITE", "> 180 INVITE", "< CANCEL", "> 200 CANCEL", "> 487 INVITE", "< ACK"];
    assert_eq!(of("Callee "), callee);
}

#[test]
fn repeats_are_in_the_ladder_as_often_as_they_passed() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    bench.say(ANN, &invite("sip:1002@pbx.test"));
    // The callee is silent for a second and a half: Timer A fires twice.
    bench.pass(Duration::from_millis(1_600));
    let invited = bench.heard(BEN).pop().expect("INVITE");
    bench.say(BEN, &answer(&invited, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.say(BEN, &answer(&invited, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    // The caller's ACK is late: the 200 is sent again.
    bench.pass(Duration::from_millis(600));
    let answered = bench.heard(ANN).pop().expect("200");
    let ours = tag(&header(&answered, "To"));
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 1, "a1ack", &ours, ""));
    bench.say(BEN, &from_ben("BYE", &invited, 1, "b1", ""));
    let ladder = ladder(&bench);
    let count = |what: &str| ladder.iter().filter(|line| *line == what).count();
    assert_eq!(count("Callee < INVITE"), 3, "{ladder:#?}");
    assert_eq!((count("Callee > 200 INVITE"), count("Callee < ACK")), (2, 2), "{ladder:#?}");
    assert_eq!(count("Caller < 200 INVITE"), 2, "{ladder:#?}");
    assert_eq!((count("Callee > BYE"), count("Caller < BYE")), (1, 1), "{ladder:#?}");
}

/// The question for credentials is part of what the caller's phone went through.
#[test]
fn the_challenge_in_front_of_a_call_is_in_its_ladder() {
    let flow = SipFlowSettings {
        folder: "flow".into(),
        run: 1,
        segment_bytes: 1 << 20,
        bytes_max: 1 << 24,
        ttl: Duration::from_secs(60),
    };
    let settings = ShardSettings { call_auth: true, sipflow: Some(flow), ..settings() };
    let uri = "sip:7777@pbx.test";
    let with_credentials = |challenge: &str, cseq: u32| {
        let line = header(challenge, "Proxy-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
        let value = sip::auth::answer(&parsed, "1001", "secret-1001", "INVITE", uri, 1, "abc");
        let text = from_ann("INVITE", uri, cseq, "a2", "", &sdp("10.0.0.11", 4000));
        let line = format!("Proxy-Authorization: {value}\r\nContent-Length");
        text.replacen("Content-Length", &line, 1)
    };
    for ack_is_late in [false, true] {
        let mut bench = Bench::new(settings.clone());
        bench.say(ANN, &invite(uri));
        let challenge = bench.only(ANN, "SIP/2.0 407");
        let ack = from_ann("ACK", uri, 1, "a1", &tag(&header(&challenge, "To")), "");
        if !ack_is_late {
            bench.say(ANN, &ack);
        }
        assert!(bench.ladder.is_empty(), "there is no call yet");
        bench.pass(Duration::from_secs(1));
        bench.say(ANN, &with_credentials(&challenge, 2));
        if ack_is_late {
            bench.say(ANN, &ack);
        }
        let expected = [
            "Caller > INVITE",
            "Caller < 407 INVITE",
            "Caller > ACK",
            "Caller > INVITE",
            "Caller < 100 INVITE",
            "Caller < 404 INVITE",
        ];
        let mut heard = ladder(&bench);
        if ack_is_late {
            let last = heard.pop().expect("the ACK");
            heard.insert(2, last);
        }
        assert_eq!(heard, expected);
    }
    // Who comes back too late has a call without it.
    let mut bench = Bench::new(settings);
    bench.say(ANN, &invite(uri));
    let challenge = bench.only(ANN, "SIP/2.0 407");
    bench.pass(Duration::from_secs(33));
    bench.say(ANN, &with_credentials(&challenge, 2));
    assert_eq!(ladder(&bench)[0], "Caller > INVITE");
    assert_eq!(ladder(&bench).len(), 3);
}
