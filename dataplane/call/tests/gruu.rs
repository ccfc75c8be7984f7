//! Addresses of one phone (RFC 5627): what the registrar gives out, and whom they lead to.
//! Owns:  two phones of one user, and the GRUUs that they hear.
//! Gives: one test per rule; what a temporary one looks like inside is tested where it is made.
//! Never: real time.
//! Holds: after each test nothing is left in the core.

mod world;

use std::sync::Arc;
use std::time::Duration;

use call::io::Phone;
use call::{Input, MeshMessage};
use shared::command::Command;
use shared::forwarding::{ForwardMode, Forwarding};
use shared::ids::ShardId;
use shared::settings::ShardSettings;
use shared::snapshot::{Snapshot, User};
use world::{
    ANN, BEN, Bench, answer, established, from_ann, from_called, header, sdp, settings, snapshot,
    tag,
};

/// Ben's second phone.
const CELL: &str = "10.0.0.22:5060";
const DESK_URN: &str = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
const CELL_URN: &str = "urn:uuid:00000000-0000-1000-8000-000A95A0E128";

/// What one phone of Ben's registers with.
struct Registers {
    at: &'static str,
    urn: &'static str,
    call: &'static str,
    lines: &'static str,
    /// More parameters of its Contact.
    params: &'static str,
}

const DESK: Registers = Registers {
    at: BEN,
    urn: DESK_URN,
    call: "d1",
    lines: "Supported: path, gruu\r\n",
    params: "",
};
const MOBILE: Registers =
    Registers { at: CELL, urn: CELL_URN, call: "m1", lines: "Supported: gruu\r\n", params: "" };

impl Registers {
    /// The 200, with all contacts.
    fn register(&self, bench: &mut Bench, cseq: u32) -> String {
        let Self { at, urn, call, lines, params } = self;
        let text = |cseq, more: &str| {
            format!(
                "REGISTER sip:pbx.test SIP/2.0\r\n\
                 Via: SIP/2.0/UDP {at};branch=z9hG4bK{call}{cseq};rport\r\nMax-Forwards: 70\r\n\
                 From: <sip:1002@pbx.test>;tag=r\r\nTo: <sip:1002@pbx.test>\r\nCall-ID: {call}\r\n\
                 CSeq: {cseq} REGISTER\r\nContact: <sip:ben@{at}>;+sip.instance=\"<{urn}>\"{params}\r\n\
                 Expires: 300\r\n{lines}{more}Content-Length: 0\r\n\r\n"
            )
        };
        bench.say(at, &text(cseq, ""));
        let challenge = bench.only(at, "SIP/2.0 401");
        let line = header(&challenge, "WWW-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
        let own =
            sip::auth::answer(&parsed, "1002", "secret-1002", "REGISTER", "sip:pbx.test", 1, "abc");
        bench.say(at, &text(cseq + 1, &format!("Authorization: {own}\r\n")));
        bench.only(at, "SIP/2.0 200")
    }
}

/// Of the contact at `at`, a quoted parameter.
fn param(answer: &str, at: &str, name: &str) -> Option<String> {
    let contact = answer.lines().find(|line| line.starts_with(&format!("Contact: <sip:ben@{at}>")));
    let (_, rest) = contact.expect("it is registered").split_once(&format!(";{name}=\""))?;
    rest.split('"').next().map(str::to_owned)
}

/// Both phones are there; what the desk phone has heard.
fn both(bench: &mut Bench) -> String {
    MOBILE.register(bench, 1);
    DESK.register(bench, 1)
}

/// Ann calls this address: which phones ring; then she gives up.
fn rings(bench: &mut Bench, uri: &str, branch: &str) -> Vec<&'static str> {
    let say = |bench: &mut Bench, method, to: &str, body: &str| {
        let text = from_ann(method, uri, 1, branch, to, body);
        bench.say(ANN, &text.replace("call-ann", branch));
    };
    say(bench, "INVITE", "", &sdp("10.0.0.11", 4000));
    let mut rung = Vec::new();
    for at in [BEN, CELL] {
        for invite in bench.heard(at).into_iter().filter(|text| text.starts_with("INVITE ")) {
            assert!(invite.starts_with(&format!("INVITE sip:ben@{at} ")), "the contact: {invite}");
            bench.say(at, &answer(&invite, "486 Busy Here", "b", "", ""));
            bench.only(at, "ACK ");
            rung.push(at);
        }
    }
    let heard = bench.heard(ANN);
    let last = heard.last().expect("an answer");
    assert!(last.starts_with(if rung.is_empty() { "SIP/2.0 4" } else { "SIP/2.0 486" }), "{last}");
    say(bench, "ACK", &tag(&header(last, "To")), "");
    if rung.is_empty() {
        rung.push(if last.starts_with("SIP/2.0 404") { "404" } else { "480" });
        assert!(last.starts_with(&format!("SIP/2.0 {}", rung[0])), "{last}");
    }
    rung
}

#[test]
fn rfc5627_5_3_a_phone_that_asks_hears_its_addresses_and_another_hears_none() {
    let mut bench = Bench::new(settings());
    let silent = Registers { lines: "", ..DESK }.register(&mut bench, 1);
    assert_eq!(param(&silent, BEN, "pub-gruu"), None);
    let told = DESK.register(&mut bench, 3);
    let public = format!("sip:1002@pbx.test;gr={DESK_URN}");
    assert_eq!(param(&told, BEN, "pub-gruu"), Some(public.clone()));
    let temporary = param(&told, BEN, "temp-gruu").expect("one");
    assert!(
        temporary.starts_with("sip:tgruu.") && temporary.ends_with("@pbx.test;gr"),
        "{temporary}"
    );
    assert!(!temporary.contains("1002"), "it tells nobody whose it is");
    // The next one is another one, the public one stays.
    let again = DESK.register(&mut bench, 5);
    assert_eq!(param(&again, BEN, "pub-gruu"), Some(public));
    assert_ne!(param(&again, BEN, "temp-gruu"), Some(temporary));
    // And who must have them gets them, too.
    let must = Registers { lines: "Require: gruu\r\n", ..DESK }.register(&mut bench, 7);
    assert!(param(&must, BEN, "temp-gruu").is_some());
}

#[test]
fn a_public_one_rings_its_phone_alone_and_the_user_both() {
    let mut bench = Bench::new(settings());
    both(&mut bench);
    let gruu = |urn: &str| format!("sip:1002@pbx.test;gr={urn}");
    assert_eq!(rings(&mut bench, &gruu(DESK_URN), "one"), [BEN]);
    assert_eq!(rings(&mut bench, &gruu(CELL_URN), "two"), [CELL]);
    assert_eq!(rings(&mut bench, &gruu(&CELL_URN.to_lowercase()), "case"), [CELL]);
    assert_eq!(rings(&mut bench, &gruu("urn:uuid:nobody"), "none"), ["480"]);
    assert_eq!(rings(&mut bench, "sip:1002@pbx.test", "all"), [BEN, CELL]);
    assert_eq!(rings(&mut bench, &format!("sip:77@pbx.test;gr={DESK_URN}"), "who"), ["404"]);
    bench.assert_quiet();
}

/// Both go on until the phone registers anew, with another Call-ID; then neither leads anywhere.
#[test]
fn rfc5627_3_1_temporary_ones_last_as_long_as_their_registration() {
    let mut bench = Bench::new(settings());
    let told = both(&mut bench);
    let first = param(&told, BEN, "temp-gruu").expect("one");
    let again = DESK.register(&mut bench, 3);
    let second = param(&again, BEN, "temp-gruu").expect("another");
    assert_eq!(rings(&mut bench, &first, "one"), [BEN]);
    assert_eq!(rings(&mut bench, &second, "two"), [BEN]);
    let told = Registers { call: "d2", ..DESK }.register(&mut bench, 1);
    assert_eq!(rings(&mut bench, &first, "three"), ["404"]);
    assert_eq!(rings(&mut bench, &second, "four"), ["404"]);
    let third = param(&told, BEN, "temp-gruu").expect("one");
    assert_eq!(rings(&mut bench, &third, "five"), [BEN]);
    // One that was changed on the way, or made up, is nobody's.
    let forged = third.replacen("tgruu.", "tgruu.0", 1);
    assert_eq!(rings(&mut bench, &forged, "six"), ["404"]);
    assert_eq!(rings(&mut bench, "sip:tgruu.00@pbx.test;gr", "seven"), ["404"]);
    // Without its parameter it is an ordinary name, and nobody has that.
    let bare = third.trim_end_matches(";gr").to_owned();
    assert_eq!(rings(&mut bench, &bare, "eight"), ["404"]);
    bench.assert_quiet();
}

#[test]
fn a_phone_with_two_flows_is_called_over_its_newest_alone() {
    let mut bench = Bench::new(settings());
    // A flow is a contact with a reg-id of its own.
    for (at, call, params) in [(CELL, "f1", ";reg-id=1"), (BEN, "f2", ";reg-id=2")] {
        Registers { at, call, params, ..DESK }.register(&mut bench, 1);
    }
    assert_eq!(rings(&mut bench, "sip:1002@pbx.test", "all"), [BEN, CELL]);
    assert_eq!(rings(&mut bench, &format!("sip:1002@pbx.test;gr={DESK_URN}"), "one"), [BEN]);
    bench.assert_quiet();
}

/// Who calls one phone wants that one, and nobody else's instead.
#[test]
fn a_call_to_one_phone_is_not_forwarded() {
    let wish =
        Forwarding { mode: ForwardMode::Always, to: "1003".into(), ring: Duration::from_secs(9) };
    let mut snapshot = snapshot();
    let users = Arc::make_mut(&mut snapshot.users);
    let ben = User { forwarding: Some(Box::new(wish)), ..(*users["1002"]).clone() };
    users.insert("1002".into(), Arc::new(ben));
    let mut bench = Bench::with(settings(), snapshot);
    both(&mut bench);
    assert_eq!(rings(&mut bench, "sip:1002@pbx.test", "all"), ["480"], "1003 is not registered");
    assert_eq!(rings(&mut bench, &format!("sip:1002@pbx.test;gr={DESK_URN}"), "one"), [BEN]);
    bench.assert_quiet();
}

/// The desk phone's Contact is its GRUU, with our own address as its domain: requests in the dialog name it,
/// and go the way that they came.
#[test]
fn a_dialog_whose_target_is_a_gruu_goes_on_with_its_phone() {
    let mut bench = Bench::new(settings());
    both(&mut bench);
    let contact = format!("sip:1002@10.0.0.1;gr={DESK_URN}");
    let uri = format!("sip:1002@pbx.test;gr={DESK_URN}");
    bench.say(ANN, &from_ann("INVITE", &uri, 1, "a1", "", &sdp("10.0.0.11", 4000)));
    let invite = bench.only(BEN, "INVITE ");
    let ok = answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000));
    let own = header(&ok, "Contact");
    bench.say(BEN, &ok.replace(&own, &format!("<{contact}>")));
    let heard = bench.heard(ANN);
    let to = tag(&header(heard.last().expect("the answer"), "To"));
    bench.say(ANN, &from_ann("ACK", &uri, 1, "a2", &to, ""));
    bench.only(BEN, &format!("ACK {contact} "));
    bench.say(ANN, &from_ann("BYE", &uri, 2, "a3", &to, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(BEN, &format!("BYE {contact} "));
    bench.say(BEN, &answer(&bye, "200 OK", "ben", "", ""));
    bench.assert_quiet();
}

/// The user's bindings may be another shard's: it is asked for this phone's.
#[test]
fn another_shard_is_asked_for_the_phone_alone() {
    let names = ["1001", "1002", "1003"];
    let elsewhere = |name: &&str| ShardId::of_name(name.as_bytes(), 3) != ShardId(0);
    let user = names.into_iter().find(elsewhere).expect("three names, three shards");
    let mut bench = Bench::new(ShardSettings { shards: 3, ..settings() });
    let uri = format!("sip:{user}@pbx.test;gr={DESK_URN}");
    let text = from_ann("INVITE", &uri, 1, "a1", "", &sdp("10.0.0.11", 4000));
    let from = shared::net::Source {
        transport: shared::net::Transport::Udp,
        local: world::US.parse().expect("an address"),
        peer: ANN.parse().expect("an address"),
        flow: None,
    };
    bench.input(Input::Moved { from, bytes: text.as_bytes() });
    let asked = bench.mesh.iter().find_map(|(_, message)| match message {
        MeshMessage::AskBindings { aor, phone, .. } => Some((&**aor, phone.clone())),
        _ => None,
    });
    let phone = Phone::Instance(DESK_URN.as_bytes().into());
    assert_eq!(asked, Some((user, Some(phone.clone()))));
    // The shard that is asked answers with it alone.
    let mut bench = Bench::new(settings());
    both(&mut bench);
    for (phone, count) in [(Some(phone), 1), (None, 2)] {
        let message = MeshMessage::AskBindings { ask: 7, aor: "1002".into(), phone };
        bench.input(Input::Mesh { from: ShardId(1), message });
        let told = bench.mesh.pop().expect("an answer");
        let MeshMessage::Bindings { targets, .. } = told.1 else { panic!("{told:?}") };
        assert_eq!(targets.len(), count);
    }
}

#[test]
fn a_text_to_one_phone_reaches_that_one() {
    let mut bench = Bench::new(settings());
    both(&mut bench);
    let uri = format!("sip:1002@pbx.test;gr={CELL_URN}");
    let text = |cseq: u8, more: &str| {
        format!(
            "MESSAGE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {ANN};branch=z9hG4bKm{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:1001@pbx.test>;tag=m\r\nTo: <{uri}>\r\nCall-ID: text\r\n\
             CSeq: {cseq} MESSAGE\r\nContent-Type: text/plain\r\n{more}Content-Length: 2\r\n\r\nHi"
        )
    };
    bench.say(ANN, &text(1, ""));
    let challenge = bench.only(ANN, "SIP/2.0 407");
    let line = header(&challenge, "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let own = sip::auth::answer(&parsed, "1001", "secret-1001", "MESSAGE", &uri, 1, "abc");
    bench.say(ANN, &text(2, &format!("Proxy-Authorization: {own}\r\n")));
    assert_eq!(bench.heard(BEN), [""; 0]);
    let message = bench.only(CELL, "MESSAGE ");
    bench.say(CELL, &answer(&message, "200 OK", "c", "", ""));
    bench.only(ANN, "SIP/2.0 200");
    bench.assert_quiet();
}

/// Ben takes his call along from one phone to the other.
#[test]
fn a_transfer_to_one_phone_reaches_that_one() {
    let mut bench = Bench::new(settings());
    let (invite, _) = established(&mut bench);
    MOBILE.register(&mut bench, 1);
    let refer = from_called(BEN, "ben", "REFER", &invite, 1, "r1", "");
    let line = format!("Refer-To: <sip:1002@pbx.test;gr={CELL_URN}>\r\nContent-Length");
    bench.say(BEN, &refer.replacen("Content-Length", &line, 1));
    let heard = bench.heard(BEN);
    assert!(heard[0].starts_with("SIP/2.0 202"), "{heard:?}");
    assert!(!heard.iter().any(|text| text.starts_with("INVITE ")), "{heard:?}");
    bench.only(CELL, &format!("INVITE sip:ben@{CELL} "));
}

/// A snapshot that comes in between changes nothing about what was given out.
#[test]
fn a_reload_leaves_them_as_they_are() {
    let mut bench = Bench::new(settings());
    let told = both(&mut bench);
    let temporary = param(&told, BEN, "temp-gruu").expect("one");
    let next = Snapshot { generation: 2, ..snapshot() };
    bench.input(Input::Command(Command::Publish(Arc::new(next))));
    assert_eq!(rings(&mut bench, &temporary, "one"), [BEN]);
    bench.assert_quiet();
}
