//! What one side of a call can learn of the other side's network: nothing (RFC 3323 4.2, RFC 5853 3.1).
//! Owns:  a call with everything in it that names a host, message by message; what crosses on purpose.
//! Gives: the walk over every message that each side got.
//! Never: real time.
//! Holds: each word is one that only one side knows; a word that was never said would prove nothing.

mod world;

use std::time::Duration;

use shared::trunk_options::TrunkOptions;
use world::trunks::{OTHER, acknowledge, adding, bench, lines_of, trunk_calls};
use world::{Bench, CARRIER, answer, from_called, header, sdp, tag};

/// Only the carrier's side knows these: addresses, a proxy on its way, names of its machines.
const CALLERS: [&str; 9] = [
    "10.0.0.99",
    "10.9.9.",
    "edge.far.test",
    "call-ann",
    "z9hG4bKt1",
    "tag=ann",
    "CarrierSwitch",
    "inner.far.test",
    "7000",
];
/// Only the other trunk's side knows these.
const CALLEES: [&str; 8] = [
    "10.0.0.98",
    "10.8.8.",
    "edge.other-net.test",
    "tag=cld",
    "cld@",
    "OtherSwitch",
    "z9hG4bKcld",
    "6000",
];

fn carriers_lines() -> String {
    "Via: SIP/2.0/UDP 10.9.9.1;branch=z9hG4bKinner;received=10.9.9.2\r\n\
     Record-Route: <sip:10.0.0.99:5060;lr>, <sip:edge.far.test;lr>\r\n\
     User-Agent: CarrierSwitch/1.0 (10.9.9.3)\r\nP-Charging-Vector: icid-value=10.9.9.4\r\n\
     Warning: 399 inner.far.test \"as it is\"\r\nReply-To: <sip:zoe@10.9.9.5>\r\n\
     Server: CarrierSwitch\r\n"
        .to_owned()
}

fn others_lines() -> String {
    "Record-Route: <sip:edge.other-net.test;lr>, <sip:10.0.0.98:5060;lr>\r\n\
     Server: OtherSwitch/2.0\r\nUser-Agent: OtherSwitch\r\n\
     Warning: 399 10.8.8.1 \"as it is\"\r\nReply-To: <sip:cleo@10.8.8.2>\r\n"
        .to_owned()
}

/// SDP that says where its writer is in every place that it can.
fn telling_sdp(ip: &str, net: &str, port: u16) -> String {
    format!(
        "v=0\r\no=host.{net}5 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 8\r\nc=IN IP4 {ip}\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtcp:{port} IN IP4 {net}6\r\na=candidate:1 1 UDP 1 {net}7 {port} typ host\r\n\
         a=ice-ufrag:{net}8\r\na=sendrecv\r\n"
    )
}

/// Everything that each side got and said, the carrier's first.
#[derive(Default)]
struct Heard {
    by: [Vec<String>; 2],
    said: [String; 2],
}

impl Heard {
    fn say(&mut self, bench: &mut Bench, at: &str, text: &str) {
        self.said[usize::from(at == OTHER)].push_str(text);
        bench.say(at, text);
        self.listen(bench);
    }

    fn listen(&mut self, bench: &mut Bench) {
        for (side, at) in [CARRIER, OTHER].into_iter().enumerate() {
            self.by[side].extend(bench.heard(at));
        }
    }

    fn last(&self, side: usize, start: &str) -> String {
        let found = self.by[side].iter().rev().find(|text| text.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start} in {:#?}", self.by[side])).clone()
    }

    /// No message that this side got has a word of `secrets`, each of which the other side has said.
    fn assert_clean(&self, side: usize, secrets: &[&str]) {
        let said = &self.said[1 - side];
        assert!(secrets.iter().all(|word| said.contains(word)), "{said}");
        for text in &self.by[side] {
            for word in secrets {
                assert!(!text.contains(word), "{word} in {text}");
            }
        }
    }
}

fn from_carrier(method: &str, cseq: u32, ours: &str, body: &str) -> String {
    let text = world::from_ann(method, "sip:255555@pbx.test", cseq, "t1x", ours, body)
        .replace(world::ANN, CARRIER)
        .replace("\"Ann\" <sip:1001@pbx.test>", "\"Zoe\" <sip:+4989@far.test>")
        .replace("z9hG4bKt1x", &format!("z9hG4bKt1{cseq}{method}"));
    adding(&text, &carriers_lines())
}

/// A call from trunk to trunk with ringing, an answer, a re-INVITE from each side, INFO, and a BYE.
fn whole_call(bench: &mut Bench) -> Heard {
    let mut heard = Heard::default();
    let lines = carriers_lines();
    let said = telling_sdp("10.0.0.99", "10.9.9.", 7000);
    let plain = sdp("10.0.0.99", 7000);
    let invite = world::from_ann("INVITE", "sip:255555@pbx.test", 1, "t1", "", &said)
        .replace(world::ANN, CARRIER)
        .replace("\"Ann\" <sip:1001@pbx.test>", "\"Zoe\" <sip:+4989@far.test>");
    heard.say(bench, CARRIER, &adding(&invite, &lines));
    let called = heard.last(1, "INVITE");
    let answers = |request: &str, status: &str, body: &str| {
        let text = answer(request, status, "cld", OTHER, body);
        text.replacen("CSeq: ", &format!("{}CSeq: ", others_lines()), 1)
    };
    let theirs = telling_sdp("10.0.0.98", "10.8.8.", 6000);
    heard.say(bench, OTHER, &answers(&called, "183 Session Progress", &theirs));
    heard.say(bench, OTHER, &answers(&called, "200 OK", &theirs));
    let ok = heard.last(0, "SIP/2.0 200");
    let ours = tag(&header(&ok, "To"));
    acknowledge(bench, CARRIER, &ok);
    heard.listen(bench);
    // The carrier moves its media, then the other side does.
    heard.say(
        bench,
        CARRIER,
        &from_carrier("INVITE", 2, &ours, &plain.replace("o=- 1 1", "o=- 1 2")),
    );
    let again = heard.last(1, "INVITE");
    heard.say(bench, OTHER, &answers(&again, "200 OK", &sdp("10.0.0.98", 6000)));
    let ok = heard.last(0, "SIP/2.0 200");
    acknowledge(bench, CARRIER, &ok);
    heard.listen(bench);
    let body = sdp("10.0.0.98", 6000).replace("o=- 1 1", "o=- 1 3");
    let reinvite = from_called(OTHER, "cld", "INVITE", &called, 11, "cld11", &body);
    heard.say(bench, OTHER, &adding(&reinvite, &others_lines()));
    let asked = heard.last(0, "INVITE");
    let text = answer(&asked, "200 OK", "", CARRIER, &plain.replace("o=- 1 1", "o=- 1 4"));
    heard.say(bench, CARRIER, &text.replacen("CSeq: ", &format!("{lines}CSeq: "), 1));
    heard.say(bench, OTHER, &from_called(OTHER, "cld", "ACK", &called, 11, "cld11a", ""));
    heard.say(bench, CARRIER, &from_carrier("INFO", 3, &ours, ""));
    let told = heard.last(1, "INFO");
    heard.say(bench, OTHER, &answers(&told, "200 OK", ""));
    heard.say(bench, CARRIER, &from_carrier("BYE", 4, &ours, ""));
    let bye = heard.last(1, "BYE");
    heard.say(bench, OTHER, &answers(&bye, "200 OK", ""));
    heard
}

#[test]
fn no_message_of_a_call_tells_one_side_of_the_other() {
    let mut bench = bench(TrunkOptions::default(), TrunkOptions::default());
    let heard = whole_call(&mut bench);
    assert!(heard.by[0].len() >= 7 && heard.by[1].len() >= 7, "{:#?}", heard.by);
    heard.assert_clean(1, &CALLERS);
    heard.assert_clean(0, &CALLEES);
    // What is left of who is where is ours alone.
    for text in &heard.by[1] {
        for contact in lines_of(text, "Contact") {
            assert_eq!(contact, "<sip:10.0.0.1:5060>", "{text}");
        }
        for via in lines_of(text, "Via") {
            let ours = via.contains("10.0.0.1:5060;branch=") || text.starts_with("SIP/2.0");
            assert!(ours, "{text}");
        }
        let requests_route = text.starts_with("INVITE") && !text.contains(";tag=cld");
        assert!(!requests_route || lines_of(text, "Route").is_empty(), "{text}");
    }
    bench.assert_quiet();
}

/// RFC 7433: User-to-User is for the far end, in the INVITE, in its answers and in the BYE.
#[test]
fn user_to_user_crosses_both_ways() {
    let mut bench = bench(TrunkOptions::default(), TrunkOptions::default());
    let said = "56a390f3d2b7310023a2;encoding=hex;purpose=foo;content=bar";
    trunk_calls(&mut bench, CARRIER, "255555", &format!("User-to-User: {said}\r\n"));
    let invite = bench.only(OTHER, "INVITE");
    assert_eq!(header(&invite, "User-to-User"), said);
    let with = |text: &str, value: &str| {
        text.replacen("CSeq: ", &format!("User-to-User: {value}\r\nCSeq: "), 1)
    };
    let ok = answer(&invite, "200 OK", "cld", OTHER, &sdp("10.0.0.98", 6000));
    bench.say(OTHER, &with(&ok, "00aa;encoding=hex"));
    bench.only(OTHER, "ACK");
    let ok = bench.only(CARRIER, "SIP/2.0 200");
    assert_eq!(header(&ok, "User-to-User"), "00aa;encoding=hex");
    acknowledge(&mut bench, CARRIER, &ok);
    bench.pass(Duration::from_secs(1));
    let bye = from_called(OTHER, "cld", "BYE", &invite, 7, "b7", "");
    bench.say(OTHER, &with(&bye, "00bb;encoding=hex"));
    bench.only(OTHER, "SIP/2.0 200");
    let bye = bench.only(CARRIER, "BYE");
    assert_eq!(lines_of(&bye, "User-to-User"), ["00bb;encoding=hex"]);
    bench.say(CARRIER, &answer(&bye, "200 OK", "", "", ""));
    bench.assert_quiet();
}

/// What is not for the far end, and what nobody knows, does not cross.
#[test]
fn unknown_headers_stay_where_they_are() {
    let mut bench = bench(TrunkOptions::default(), TrunkOptions::default());
    let lines = "P-Charging-Vector: a\r\nP-Access-Network-Info: b\r\nGeolocation: <c>\r\n\
                 X-Ticket: 42\r\n";
    trunk_calls(&mut bench, CARRIER, "255555", lines);
    let invite = bench.only(OTHER, "INVITE");
    for name in ["P-Charging-Vector", "P-Access-Network-Info", "Geolocation"] {
        assert!(lines_of(&invite, name).is_empty(), "{name} in {invite}");
    }
    assert_eq!(header(&invite, "X-Ticket"), "42");
    world::trunks::busy(&mut bench, CARRIER, OTHER, &invite);
}
