//! What a trunk may say about itself: codecs, our address as it sees it, the road of its media.
//! Owns:  the SDP and the addresses on the wire, by the options of the trunks of a call.
//! Gives: one test per rule.
//! Never: real time.
//! Holds: a trunk without options is treated as before, whatever the other trunk of the call says.

mod world;

use std::sync::Arc;

use call::Input;
use media::edit::RelayEdit;
use shared::command::Command;
use shared::settings::ShardSettings;
use shared::snapshot::Snapshot;
use shared::trunk_options::{TrunkMedia, TrunkOptions};
use world::trunks::{
    OTHER, ann_calls, ann_offers, answered_and_over, bench, busy, failed, lines_of, trunk_calls,
    with_trunks,
};
use world::{ANN, BEN, Bench, CARRIER, answer, header, sdp, settings};

fn none() -> TrunkOptions {
    TrunkOptions::default()
}

fn codecs(names: &[&str]) -> TrunkOptions {
    let codecs = names.iter().map(|&name| name.into()).collect();
    TrunkOptions { codecs, ..TrunkOptions::default() }
}

fn seen_as(ip: &str) -> TrunkOptions {
    let external_ip = vec![ip.parse().expect("an address")];
    TrunkOptions { external_ip, ..TrunkOptions::default() }
}

fn rich_offer() -> String {
    "v=0\r\no=- 1 1 IN IP4 10.0.0.11\r\ns=-\r\nc=IN IP4 10.0.0.11\r\nt=0 0\r\n\
     m=audio 4000 RTP/AVP 9 0 8 96 101\r\na=rtpmap:96 opus/48000/2\r\n\
     a=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
        .to_owned()
}

/// The formats of the first media line.
fn formats(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("m=audio")).expect("audio");
    line.split("RTP/AVP ").nth(1).expect("formats").to_owned()
}

#[test]
fn a_trunk_is_offered_its_codecs_in_its_order() {
    let mut bench = bench(codecs(&["PCMA", "g722", "G729"]), none());
    ann_offers(&mut bench, "155555", "", &rich_offer());
    let invite = bench.only(CARRIER, "INVITE");
    assert_eq!(formats(&invite), "8 9 101");
    assert!(!invite.contains("opus"), "{invite}");
    busy(&mut bench, ANN, CARRIER, &invite);
    ann_again(&mut bench, "255555");
    let invite = bench.only(OTHER, "INVITE");
    assert_eq!(formats(&invite), "9 0 8 96 101", "the other trunk has no list");
    busy(&mut bench, ANN, OTHER, &invite);
}

fn ann_again(bench: &mut Bench, number: &str) {
    ann_offers(bench, number, "", &rich_offer());
}

#[test]
fn a_trunk_that_speaks_none_of_the_callers_codecs_is_488() {
    let mut bench = bench(codecs(&["G729"]), none());
    ann_offers(&mut bench, "155555", "", &rich_offer());
    assert!(bench.heard(CARRIER).is_empty(), "it is not called");
    failed(&mut bench, ANN, "488");
    assert_eq!(bench.cdrs.pop().map(|cdr| cdr.status_code), Some(488));
}

/// The next trunk of the rule may speak what the first one does not.
#[test]
fn without_a_codec_in_common_the_next_trunk_is_tried() {
    let mut bench = bench(codecs(&["G729"]), codecs(&["opus"]));
    ann_offers(&mut bench, "355555", "", &rich_offer());
    assert!(bench.heard(CARRIER).is_empty(), "it is not called");
    let invite = bench.only(OTHER, "INVITE");
    assert_eq!(formats(&invite), "96 101");
    answered_and_over(&mut bench, ANN, OTHER, &invite);
}

/// What comes from a trunk is held to its list as well, on the way in and in the answer.
#[test]
fn a_call_of_a_trunk_keeps_to_its_list() {
    let mut bench = bench(codecs(&["PCMA"]), codecs(&["PCMU", "PCMA"]));
    trunk_calls(&mut bench, CARRIER, "255555", "");
    let invite = bench.only(OTHER, "INVITE");
    assert_eq!(formats(&invite), "8", "both have it");
    let ok = answered_and_over(&mut bench, CARRIER, OTHER, &invite);
    assert_eq!(formats(&ok), "8");
    let mut apart = self::bench(codecs(&["PCMA"]), codecs(&["PCMU"]));
    trunk_calls(&mut apart, CARRIER, "255555", "");
    assert!(apart.heard(OTHER).is_empty());
    failed(&mut apart, CARRIER, "488");
}

/// Via, Contact and SDP towards the trunk, and none of it towards anybody else.
#[test]
fn a_trunk_sees_us_under_its_own_address() {
    let settings = ShardSettings {
        external_ip: vec!["198.51.100.1".parse().expect("an address")],
        ..settings()
    };
    let mut bench = Bench::with(settings, with_trunks(seen_as("192.0.2.50"), none()));
    trunk_calls(&mut bench, OTHER, "155555", "");
    let invite = bench.only(CARRIER, "INVITE");
    assert!(header(&invite, "Via").starts_with("SIP/2.0/UDP 192.0.2.50:5060;"), "{invite}");
    assert_eq!(header(&invite, "Contact"), "<sip:192.0.2.50:5060>");
    let says = |text: &str, ip: &str| {
        assert!(text.contains(&format!("c=IN IP4 {ip}\r\n")), "{text}");
        assert!(text.contains(&format!(" IN IP4 {ip}\r\ns=")), "{text}");
    };
    says(&invite, "192.0.2.50");
    assert!(!invite.contains("198.51.100.1"), "{invite}");
    let ok = answered_and_over(&mut bench, OTHER, CARRIER, &invite);
    assert_eq!(header(&ok, "Contact"), "<sip:198.51.100.1:5060>");
    says(&ok, "198.51.100.1");
    assert!(!ok.contains("192.0.2.50"), "{ok}");
    // And the other way round.
    trunk_calls(&mut bench, CARRIER, "255555", "");
    let invite = bench.only(OTHER, "INVITE");
    assert_eq!(header(&invite, "Contact"), "<sip:198.51.100.1:5060>");
    let ok = answered_and_over(&mut bench, CARRIER, OTHER, &invite);
    assert_eq!(header(&ok, "Contact"), "<sip:192.0.2.50:5060>");
    says(&ok, "192.0.2.50");
}

/// The next call has what a reload says; the one that stands keeps its codecs.
#[test]
fn options_are_live_with_the_next_snapshot() {
    let mut bench = bench(none(), none());
    ann_offers(&mut bench, "155555", "", &rich_offer());
    let invite = bench.only(CARRIER, "INVITE");
    let options = TrunkOptions { codecs: codecs(&["PCMU"]).codecs, ..seen_as("192.0.2.50") };
    let snapshot = Snapshot { generation: 2, ..with_trunks(options, none()) };
    bench.input(Input::Command(Command::Publish(Arc::new(snapshot))));
    let ok = answer(&invite, "200 OK", "cld", CARRIER, &sdp("10.0.0.99", 6000));
    bench.say(CARRIER, &ok);
    bench.only(CARRIER, "ACK");
    let ok = bench.only(ANN, "SIP/2.0 200");
    assert_eq!(formats(&ok), "0 8");
    world::trunks::acknowledge(&mut bench, ANN, &ok);
    bench.say(CARRIER, &world::from_called(CARRIER, "cld", "BYE", &invite, 7, "b7", ""));
    bench.only(CARRIER, "SIP/2.0 200");
    let bye = bench.only(ANN, "BYE");
    bench.say(ANN, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
    ann_again(&mut bench, "155555");
    let invite = bench.only(CARRIER, "INVITE");
    assert_eq!(
        (formats(&invite), lines_of(&invite, "Contact")),
        ("0 101".into(), vec!["<sip:192.0.2.50:5060>".into()])
    );
    busy(&mut bench, ANN, CARRIER, &invite);
}

fn relays(bench: &Bench) -> usize {
    bench.edits.iter().filter(|edit| matches!(edit, RelayEdit::Open { .. })).count()
}

fn media(media: TrunkMedia) -> TrunkOptions {
    TrunkOptions { media, ..TrunkOptions::default() }
}

#[test]
fn a_trunks_media_goes_where_the_trunk_wants_it() {
    use TrunkMedia::{Auto, PastUs, ThroughUs};
    for (carrier, other, passes) in [
        (Auto, Auto, false),
        (PastUs, Auto, true),
        (Auto, PastUs, true),
        (PastUs, ThroughUs, false),
        (ThroughUs, PastUs, false),
    ] {
        let mut bench = bench(media(carrier), media(other));
        trunk_calls(&mut bench, CARRIER, "255555", "");
        let invite = bench.only(OTHER, "INVITE");
        let own = invite.contains("c=IN IP4 10.0.0.99\r\n") && invite.contains("m=audio 7000 ");
        assert_eq!((own, relays(&bench) == 0), (passes, passes), "{carrier:?} to {other:?}");
        busy(&mut bench, CARRIER, OTHER, &invite);
    }
}

/// RFC 3323 4.2, `session`: who hears the other's address is not told it.
#[test]
fn privacy_of_the_session_keeps_media_here() {
    let mut bench = bench(media(TrunkMedia::PastUs), none());
    ann_calls(&mut bench, "155555", "Privacy: session\r\n");
    let invite = bench.only(CARRIER, "INVITE");
    assert!(!invite.contains("10.0.0.11") && relays(&bench) == 1, "{invite}");
    busy(&mut bench, ANN, CARRIER, &invite);
}

/// A phone behind no trunk has no list, and neither has the call of a trunk without one.
#[test]
fn phones_hear_what_the_caller_says() {
    let mut bench = bench(codecs(&["PCMA"]), none());
    ann_offers(&mut bench, "1002", "", &rich_offer());
    let invite = bench.only(BEN, "INVITE");
    assert_eq!(formats(&invite), "9 0 8 96 101");
    busy(&mut bench, ANN, BEN, &invite);
}
