//! Reason headers (RFC 3326, RFC 6432): who released a call says why, and the other side hears it.
//! Owns:  what crosses, and the causes that are ours.
//! Gives: one test per road of a Reason.
//! Never: real time.
//! Holds: a peer's own words come first.

mod world;

use std::time::Duration;

use call::Input;
use shared::command::Command;
use world::{
    ANN, BEN, Bench, CARRIER, answer, established, from_ann, from_ben, header, sdp, settings,
};

const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

fn with_reason(text: &str, reason: &str) -> String {
    text.replacen("Call-ID: ", &format!("Reason: {reason}\r\nCall-ID: "), 1)
}

fn has_reason(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("Reason: "))
}

#[test]
fn the_reason_of_a_bye_crosses() {
    for reason in ["Q.850;cause=16", "Q.850 ;cause=31 ;text=\"x\""] {
        let mut bench = Bench::new(settings());
        let (_, ours) = established(&mut bench);
        let bye = from_ann("BYE", "sip:1002@pbx.test", 2, "a2", &ours, "");
        bench.say(ANN, &with_reason(&bye, reason));
        assert_eq!(header(&bench.only(BEN, "BYE"), "Reason"), reason);
    }
    let mut bench = Bench::new(settings());
    let (invite, _) = established(&mut bench);
    bench.say(BEN, &from_ben("BYE", &invite, 1, "b1", ""));
    bench.heard(BEN);
    assert!(!has_reason(&bench.only(ANN, "BYE")), "nothing was said, nothing is made up");
}

/// Who forks in front of us tells our phones that another one has picked up.
#[test]
fn the_reason_of_a_cancel_crosses() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    let cancel = from_ann("CANCEL", "sip:1002@pbx.test", 1, "a1", "", "");
    bench.say(ANN, &with_reason(&cancel, ELSEWHERE));
    assert_eq!(header(&bench.only(BEN, "CANCEL"), "Reason"), ELSEWHERE);
}

#[test]
fn a_failure_brings_its_reason_along() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4000)));
    let invite = bench.only(BEN, "INVITE");
    let busy = answer(&invite, "486 Busy Here", "ben", "", "");
    bench.say(BEN, &with_reason(&busy, "Q.850;cause=17;text=\"User busy\""));
    let heard = bench.heard(ANN).pop().expect("an answer");
    assert!(heard.starts_with("SIP/2.0 486"), "{heard}");
    assert_eq!(header(&heard, "Reason"), "Q.850;cause=17;text=\"User busy\"");
}

/// A carrier hears what its own network says for the status; a phone does not need it.
#[test]
fn a_trunk_hears_the_cause_of_its_network() {
    for (target, status, cause) in
        [("1002", "SIP/2.0 480", "Q.850;cause=18"), ("nobody", "SIP/2.0 404", "Q.850;cause=1")]
    {
        let mut bench = Bench::new(settings());
        let uri = format!("sip:{target}@pbx.test");
        let invite = from_ann("INVITE", &uri, 1, "a1", "", &sdp("10.0.0.99", 4000));
        bench.say(CARRIER, &invite.replace(ANN, CARRIER));
        let heard = bench.heard(CARRIER).pop().expect("an answer");
        assert!(heard.starts_with(status), "{heard}");
        assert_eq!(header(&heard, "Reason"), cause);
        bench.say(ANN, &invite.replace("z9hG4bKa1", "z9hG4bKa2").replace("call-ann", "call-2"));
        let heard = bench.heard(ANN).pop().expect("an answer");
        assert!(heard.starts_with(status) && !has_reason(&heard), "{heard}");
    }
}

#[test]
fn a_call_that_we_end_says_so() {
    let mut bench = Bench::new(settings());
    established(&mut bench);
    bench.pass(Duration::from_secs(1));
    bench.input(Input::Command(Command::Stop));
    for peer in [ANN, BEN] {
        assert_eq!(header(&bench.only(peer, "BYE"), "Reason"), "Q.850;cause=41");
    }
}
