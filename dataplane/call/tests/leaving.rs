//! A core that is told to drain, on the bench: what new calls and phones hear.
//! Owns:  the wire while draining; when a shard is drained is the simulator's.
//! Gives: raw text in, raw text out.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use shared::command::Command;
use world::{ANN, BEN, Bench, from_ann, header, register, sdp, settings};

#[test]
fn new_calls_are_told_when_to_come_again_and_phones_register_briefly() {
    let mut bench = Bench::new(settings());
    assert_eq!(granted(&mut bench, "1002", BEN), "300");
    bench.input(call::Input::Command(Command::Drain));
    assert_eq!(granted(&mut bench, "1003", "10.0.0.13:5060"), "10", "the least that we grant");
    let invite = from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4_000));
    bench.say(ANN, &invite);
    let refused = bench.heard(ANN).into_iter().find(|text| text.starts_with("SIP/2.0 503"));
    let refused = refused.expect("no new calls");
    let seconds: u32 = header(&refused, "Retry-After").parse().expect("a number");
    assert!((1..=60).contains(&seconds), "{seconds}");
    bench.assert_quiet();
}

/// The seconds that a registration got which asked for 300.
fn granted(bench: &mut Bench, user: &str, at: &str) -> String {
    bench.say(at, &register(user, at, 1, ""));
    let challenge = bench.only(at, "SIP/2.0 401");
    let line = header(&challenge, "WWW-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let (secret, uri) = (format!("secret-{user}"), "sip:pbx.test");
    let credentials = sip::auth::answer(&parsed, user, &secret, "REGISTER", uri, 1, "abc");
    bench.say(at, &register(user, at, 2, &format!("Authorization: {credentials}\r\n")));
    let done = bench.only(at, "SIP/2.0 200");
    let contact = header(&done, "Contact");
    contact.split("expires=").nth(1).expect("it says so").to_owned()
}
