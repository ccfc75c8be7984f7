//! Attacks that other SIP servers fell to, on the core (`peers.md` names them by number).
//! Owns:  one test per case that a call, a registration or a table has to withstand; what the wire
//!        layer alone withstands is tested in `sip/tests/attacks.rs`, connections in the shard.
//! Gives: after each attack a standing call that goes on and ends as it should.
//! Never: real time.
//! Holds: nothing panics, nothing stays behind, what was refused is counted.

mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use call::Input;
use shared::edge::{EdgeRules, FloodRules};
use shared::event::Event;
use shared::ids::{FlowKey, ShardId};
use shared::metrics::Counter;
use shared::net::{Source, Transport};
use shared::route::{Emergency, RouteTable};
use shared::settings::ShardSettings;
use shared::snapshot::{Snapshot, Trunk};
use world::{
    ANN, BEN, Bench, CARRIER, US, answer, established, from_ann, header, register, sdp, settings,
};

const STRANGER: &str = "203.0.113.66:5060";

/// Ann and Ben talk; nobody is banned, so that every single message is read.
struct Siege {
    bench: Bench,
    ours: String,
}

impl Siege {
    fn new() -> Self {
        let rules = EdgeRules { ban: Duration::ZERO, ..EdgeRules::default() };
        let snapshot = Snapshot { edge: Arc::new(rules), ..world::snapshot() };
        let mut bench = Bench::with(settings(), snapshot);
        let (_, ours) = established(&mut bench);
        Self { bench, ours }
    }

    /// What a stranger hears for this, as start lines.
    fn say(&mut self, text: &str) -> Vec<String> {
        self.bench.say(STRANGER, text);
        let start = |text: String| text.lines().next().unwrap_or_default().to_owned();
        self.bench.heard(STRANGER).into_iter().map(start).collect()
    }

    /// The call still stands, and ends with one record.
    fn withstood(mut self) {
        let bench = &mut self.bench;
        bench.pass(Duration::from_secs(200));
        bench.sent.clear();
        let before = bench.cdrs.len();
        bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 9, "end", &self.ours, ""));
        bench.only(ANN, "SIP/2.0 200");
        let bye = bench.only(BEN, "BYE");
        bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
        assert_eq!(bench.cdrs.len(), before + 1);
        assert_eq!(bench.core.counters().of(Counter::CallsPanicked), 0);
        bench.assert_quiet();
    }
}

/// A request of the stranger's with a branch and a Call-ID of its own.
fn of_stranger(method: &str, uri: &str, number: usize, lines: &str, body: &str) -> String {
    let text = from_ann(method, uri, 1, &format!("x{number}"), "", body);
    text.replace(ANN, STRANGER)
        .replace("\"Ann\" <sip:1001@", "<sip:mallory@")
        .replace("call-ann", &format!("call-x{number}"))
        .replace("X-Case: 42\r\n", lines)
}

fn is_refusal(line: &str) -> bool {
    ["SIP/2.0 4", "SIP/2.0 5", "SIP/2.0 6"].iter().any(|start| line.starts_with(start))
}

fn authenticating() -> Bench {
    let rules = EdgeRules { ban: Duration::ZERO, ..EdgeRules::default() };
    let snapshot = Snapshot { edge: Arc::new(rules), ..world::snapshot() };
    Bench::with(ShardSettings { call_auth: true, ..settings() }, snapshot)
}

#[test]
fn case_01_long_methods_names_values_and_many_headers_are_refused() {
    let mut siege = Siege::new();
    let good = of_stranger("INVITE", "sip:1002@pbx.test", 1, "", "");
    let lines = [
        format!("X-Long: {}\r\n", "v".repeat(60_000)),
        format!("{}: v\r\n", "N".repeat(60_000)),
        "a: b\r\n".repeat(10_000),
    ];
    for line in &lines {
        let heard = siege.say(&of_stranger("INVITE", "sip:1002@pbx.test", 1, line, ""));
        assert!(heard.iter().all(|line| is_refusal(line)), "{heard:?}");
    }
    let heard = siege.say(&good.replace("1 INVITE", &format!("1 {}", "M".repeat(500))));
    assert_eq!(heard, ["SIP/2.0 400 Bad Request"]);
    assert!(siege.bench.core.counters().of(Counter::SipMalformed) >= 3);
    siege.withstood();
}

#[test]
fn case_02_and_10_bodies_that_we_do_not_read_are_refused_unread() {
    let mut siege = Siege::new();
    let nested = "[".repeat(20_000);
    let xml = format!("{}{}", "<a>".repeat(8_000), "</a>".repeat(8_000));
    let bodies = [
        ("multipart/mixed;boundary=x", "--x\n\n--x\n".to_owned()),
        ("multipart/mixed;boundary=x", "--x\r\nContent-Length: -1\r\n\r\nv=0".to_owned()),
        ("multipart/mixed", "--\r\n--\r\n--".to_owned()),
        ("multipart/mixed;boundary=\"", "\n\n\n".to_owned()),
        ("application/json", nested),
        ("application/pidf+xml", xml),
    ];
    for (number, (kind, body)) in bodies.iter().enumerate() {
        let text = of_stranger("INVITE", "sip:1002@pbx.test", number, "", body);
        let heard = siege.say(&text.replace("application/sdp", kind));
        assert_eq!(heard.last().map(String::as_str), Some("SIP/2.0 415 Unsupported Media Type"));
    }
    assert!(siege.bench.heard(BEN).is_empty());
    siege.withstood();
}

#[test]
fn case_03_a_subscribe_with_sixty_long_accept_headers_is_refused() {
    let mut siege = Siege::new();
    let accept = format!("Accept: {}\r\n", "a".repeat(900)).repeat(60);
    for (number, event, answer) in
        [(1, "presence", "SIP/2.0 489 Bad Event"), (2, "dialog", "SIP/2.0 401 Unauthorized")]
    {
        let lines = format!("Event: {event}\r\n{accept}");
        let heard = siege.say(&of_stranger("SUBSCRIBE", "sip:1002@pbx.test", number, &lines, ""));
        assert_eq!(heard, [answer]);
    }
    siege.withstood();
}

#[test]
fn case_04_descriptions_beyond_reason_are_passed_on_bounded_or_refused() {
    let mut siege = Siege::new();
    let good = sdp("203.0.113.66", 4_000);
    let codecs: String = (0..200).map(|number| format!(" {number}")).collect();
    let lines: String = (0..2_000).map(|_| "m=audio 4000 RTP/AVP 0\r\n").collect();
    let bodies = [
        good.replace("RTP/AVP 0 8", "RTP/AVP 4294967296"),
        good.replace("RTP/AVP 0 8", "RTP/AVP 0 -1 999"),
        good.replace("RTP/AVP 0 8", &format!("RTP/AVP{codecs}")),
        good.replace("a=sendrecv", &format!("a=fmtp:0 {}", "x;".repeat(2_000))),
        good.replace("a=sendrecv", "a=rtpmap:101 red/0\r\na=fmtp:101 101/101"),
        good.replace("audio 4000", "audio 65536"),
        good.replace("audio 4000", "audio -1"),
        good.replace("IN IP4 203.0.113.66", "IN IP4 0.0.0.0"),
        good.replace("c=IN IP4 203.0.113.66\r\n", ""),
        format!("{good}{lines}"),
        "v=0".to_owned(),
        "\r\n".repeat(500),
    ];
    for (number, body) in bodies.iter().enumerate() {
        let heard = siege.say(&of_stranger("INVITE", "sip:1002@pbx.test", number, "", body));
        assert!(!heard.is_empty(), "{number}");
        for invite in siege.bench.heard(BEN) {
            assert!(invite.len() < 20_000 && !invite.contains("203.0.113.66 "), "{invite}");
            assert!(!invite.contains("c=IN IP4 203.0.113.66"), "{invite}");
        }
    }
    siege.withstood();
}

#[test]
fn case_06_credentials_that_do_not_read_pass_nobody() {
    let mut bench = authenticating();
    let lines = [
        "Digest username=\"1001",
        "Digest username=\"\", realm=\"pbx.test\", nonce=\"\", uri=\"\", response=\"\"",
        "Digest username=\"1001\", realm=\"pbx.test\", nonce=\"a\", uri=\"sip:pbx.test\", response=",
        "Digest ,,,,,,=,=\"\"",
        "Digest",
        "Basic MTAwMTpzZWNyZXQ=",
        "Digest username=\"1001\", realm=\"pbx.test\", realm=\"pbx.test\", response=\"x\"",
        "Digest username=\"1001\\\", realm=\"pbx.test\", nonce=\"n\", response=\"00\"",
    ];
    for (number, line) in lines.iter().enumerate() {
        let cseq = u32::try_from(number).expect("few") + 1;
        let text = register("1001", STRANGER, cseq, &format!("Authorization: {line}\r\n"));
        bench.say(STRANGER, &text);
        let heard = bench.heard(STRANGER);
        assert!(heard.len() == 1 && is_refusal(&heard[0]), "{line}: {heard:?}");
    }
    assert_eq!(bench.core.census().bindings, 0);
    bench.assert_quiet();
}

#[test]
fn case_08_a_request_at_its_last_hop_and_one_that_was_here_go_no_further() {
    let mut siege = Siege::new();
    let good = of_stranger("INVITE", "sip:1002@pbx.test", 1, "", &sdp("203.0.113.66", 4_000));
    let last = good.replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(siege.say(&last), ["SIP/2.0 483 Too Many Hops"]);
    let ours = "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKrg00000000010000000000000000000000ff";
    let looped = of_stranger("INVITE", "sip:1002@pbx.test", 2, &format!("Via: {ours}\r\n"), "");
    assert_eq!(siege.say(&looped), ["SIP/2.0 482 Loop Detected"]);
    assert!(siege.bench.heard(BEN).is_empty());
    assert_eq!(siege.bench.core.counters().of(Counter::SipLoops), 2);
    siege.withstood();
}

#[test]
fn case_11_nothing_in_a_name_becomes_a_header_or_a_line_of_the_record() {
    let mut siege = Siege::new();
    let names = [
        "\"a\rEvil: 1\" <sip:mallory@pbx.test>",
        "\"<script>alert(1)</script>\" <sip:mallory@pbx.test>",
        "<sip:mal%0d%0aEvil:%201@pbx.test>",
        "<sip:mal%00lory@pbx.test>",
        "\"\u{7f}\u{1b}[31m\" <sip:mallory@pbx.test>",
    ];
    for (number, name) in names.iter().enumerate() {
        let text = of_stranger("INVITE", "sip:1002@pbx.test", number, "", "");
        siege.say(&text.replace("<sip:mallory@pbx.test>", name));
        for invite in siege.bench.heard(BEN) {
            let evil = |line: &str| line.to_ascii_lowercase().starts_with("evil");
            assert!(!invite.split(['\r', '\n']).any(evil), "{invite}");
            siege.bench.say(BEN, &answer(&invite, "486 Busy Here", "ben", "", ""));
        }
    }
    for cdr in &siege.bench.cdrs {
        let shown = format!("{}{}", cdr.caller, cdr.callee);
        assert!(!shown.contains(['\r', '\n', '\0']), "{shown:?}");
    }
    siege.withstood();
}

#[test]
fn case_12_other_protocols_on_the_port_hear_nothing() {
    let mut siege = Siege::new();
    let stun = [&[0, 1, 0, 0][..], &[0x21, 0x12, 0xa4, 0x42], &[7; 12]].concat();
    let packets: [&[u8]; 8] = [
        b"HEP3\x00\x06",
        &stun,
        &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255],
        &[0x80, 0xc8, 0, 0],
        &[0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xff; 1_500],
        b"GET / HTTP/1.1\r\n\r\n",
        b"",
    ];
    let from = source(STRANGER, Transport::Udp, None);
    for bytes in packets {
        siege.bench.input(Input::Received { from, bytes });
    }
    // A STUN request is a keep-alive (RFC 5626 3.5.2): its answer is no more than its address.
    let answers = std::mem::take(&mut siege.bench.sent);
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers[0].1.len() <= 64 && answers[0].0 == from.peer, "{answers:?}");
    let counters = siege.bench.core.counters();
    let seen = counters.of(Counter::SipNotSip) + counters.of(Counter::SipMalformed);
    assert!(seen >= 6, "{seen}");
    siege.withstood();
}

fn source(peer: &str, transport: Transport, flow: Option<FlowKey>) -> Source {
    let local = US.parse().expect("an address");
    Source { transport, local, peer: peer.parse().expect("an address"), flow }
}

/// Ten thousand sources, eight kinds of messages each.
#[test]
fn case_13_a_flood_from_everywhere_stays_bounded_and_emergency_calls_go_out() {
    let flood = Some(FloodRules { requests_per_second: 2, calls_max: 2 });
    let mut snapshot = world::snapshot();
    snapshot.edge = Arc::new(EdgeRules { flood, ..EdgeRules::default() });
    let help = Trunk::plain("help", "help.test", CARRIER.parse().expect("one"), Transport::Udp);
    let emergency = Emergency { numbers: vec!["112".into()], trunk: "help".into() };
    snapshot.routes = Arc::new(RouteTable::sorted(Vec::new(), Some(emergency)));
    snapshot.trunks = Arc::new(vec![help]);
    let mut bench = Bench::with(settings(), snapshot);
    bench.register("1001", ANN);
    let requests = ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE", "ACK", "CANCEL"]
        .map(|method| of_stranger(method, "sip:nobody@pbx.test", 1, "", ""));
    let stray = answer(&requests[2], "200 OK", "t", "", "");
    for number in 0..10_000_u32 {
        let peer =
            format!("198.{}.{}.{}:5060", 18 + number / 65_536, number / 256 % 256, number % 256);
        for text in requests.iter().chain([&stray]) {
            bench.say(
                &peer,
                &text.replace(STRANGER, &peer).replace("bKx1", &format!("bKx{number}")),
            );
        }
        bench.sent.clear();
        bench.events.clear();
    }
    let census = bench.core.census();
    assert!(census.calls == 0 && census.server_transactions <= 30_002, "{census:?}");
    assert!(bench.core.counters().of(Counter::FloodsDropped) > 20_000);
    let help = from_ann("INVITE", "sip:112@pbx.test", 1, "help", "", &sdp("10.0.0.11", 4_000));
    bench.say(ANN, &help);
    assert!(bench.heard(CARRIER).iter().any(|text| text.starts_with("INVITE")));
    bench.assert_quiet();
}

#[test]
fn case_14_a_caller_whose_connection_breaks_leaves_nothing_behind() {
    let mut siege = Siege::new();
    for number in 0..50 {
        let flow = FlowKey { shard: ShardId(0), slot: number, generation: 1 };
        let from = source(STRANGER, Transport::Tcp, Some(flow));
        let body = sdp("203.0.113.66", 4_000);
        let text = of_stranger("INVITE", "sip:1002@pbx.test", number as usize, "", &body);
        siege.bench.input(Input::Received { from, bytes: text.replace("/UDP", "/TCP").as_bytes() });
        siege.bench.input(Input::FlowClosed(flow));
    }
    siege.withstood();
}

#[test]
fn case_17_requests_without_credentials_hold_no_transaction_and_no_timer() {
    let mut bench = authenticating();
    let before = bench.core.census();
    for number in 0..1_000 {
        bench.say(STRANGER, &of_stranger("INVITE", "sip:1002@pbx.test", number, "", ""));
        let register = of_stranger("REGISTER", "sip:pbx.test", number, "", "");
        bench.say(STRANGER, &register.replace("bKx", "bKr"));
    }
    assert_eq!(bench.heard(STRANGER).len(), 2_000);
    assert_eq!(bench.core.census(), before);
}

#[test]
fn case_18_who_forges_a_source_gets_it_one_answer_and_others_none() {
    let mut bench = authenticating();
    for method in ["INVITE", "OPTIONS", "REGISTER", "MESSAGE", "BYE", "INFO"] {
        bench.say(
            STRANGER,
            &of_stranger(method, "sip:1002@pbx.test", 2, "", "")
                .replace("bKx2", &format!("bK{method}")),
        );
        bench.pass(Duration::from_secs(120));
        assert_eq!(bench.heard(STRANGER).len(), 1, "{method}");
    }
    // Neither do credentials that somebody made up bring more.
    let line = "Proxy-Authorization: Digest username=\"1001\", realm=\"pbx.test\", nonce=\"x\", \
                uri=\"sip:1002@pbx.test\", response=\"00000000000000000000000000000000\"\r\n";
    bench.say(STRANGER, &of_stranger("INVITE", "sip:1002@pbx.test", 4, line, ""));
    bench.pass(Duration::from_secs(120));
    bench.only(STRANGER, "SIP/2.0 403");
    // The victim stands in Via, the packet comes from elsewhere.
    let victim = "192.0.2.77:9";
    let text = of_stranger("OPTIONS", "sip:pbx.test", 3, "", "");
    let text = text.replace(&format!("UDP {STRANGER}"), &format!("UDP {victim}"));
    bench.say(STRANGER, &text.replace(";rport", ""));
    let targets: Vec<SocketAddr> = bench.sent.iter().map(|(to, _)| *to).collect();
    assert_eq!(targets, [STRANGER.parse::<SocketAddr>().expect("an address")]);
}

/// Ten thousand sources that are none: nothing is kept for any of them but a row of a bounded table.
#[test]
fn case_18_no_memory_is_left_for_a_forged_source() {
    let mut bench = authenticating();
    let before = bench.core.census();
    for number in 0..10_000_usize {
        let peer = format!("198.18.{}.{}:5060", number / 256, number % 256);
        for method in ["INVITE", "REGISTER"] {
            let text = of_stranger(method, "sip:1002@pbx.test", number, "", "");
            bench.say(&peer, &text.replace(STRANGER, &peer).replace("bKx", &format!("bK{method}")));
        }
        assert_eq!(bench.heard(&peer).len(), 2);
    }
    assert_eq!(bench.core.census(), before);
    bench.pass(Duration::from_secs(60));
    assert!(bench.sent.is_empty(), "nobody hears anything again");
}

/// RFC 3261 8.2.7: without a transaction a repeat is answered anew, with the same To tag.
#[test]
fn case_18_a_lost_challenge_is_repaired_by_the_phone_and_its_ack_is_absorbed() {
    let mut bench = authenticating();
    bench.register("1002", BEN);
    let uri = "sip:1002@pbx.test";
    let invite = from_ann("INVITE", uri, 1, "m1", "", &sdp("10.0.0.11", 4_000));
    bench.say(ANN, &invite);
    let lost = bench.only(ANN, "SIP/2.0 407");
    bench.pass(Duration::from_millis(500));
    bench.say(ANN, &invite);
    let challenge = bench.only(ANN, "SIP/2.0 407");
    let ours = world::tag(&header(&challenge, "To"));
    assert_eq!(ours, world::tag(&header(&lost, "To")));
    let strays = bench.core.counters().of(Counter::SipStrays);
    bench.say(ANN, &from_ann("ACK", uri, 1, "m1", &ours, ""));
    assert_eq!(bench.core.counters().of(Counter::SipStrays), strays, "it is known");
    for (branch, tag) in [("m1", "rg00-0123456789abcdef"), ("m9", &*ours)] {
        bench.say(ANN, &from_ann("ACK", uri, 1, branch, tag, ""));
    }
    assert_eq!(bench.core.counters().of(Counter::SipStrays), strays + 2, "made up");
    assert!(bench.heard(ANN).is_empty());
    let line = header(&challenge, "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a challenge");
    let own = sip::auth::answer(&parsed, "1001", "secret-1001", "INVITE", uri, 1, "c");
    let line = format!("Proxy-Authorization: {own}\r\nX-Case: 42");
    let second = from_ann("INVITE", uri, 2, "m2", "", &sdp("10.0.0.11", 4_000));
    bench.say(ANN, &second.replace("X-Case: 42", &line));
    bench.only(ANN, "SIP/2.0 100");
    bench.only(BEN, "INVITE");
    // Taken back before anybody answered: the first INVITE is gone, the second is the call's.
    bench.say(ANN, &from_ann("CANCEL", uri, 1, "m1", "", ""));
    bench.only(ANN, "SIP/2.0 481");
    bench.say(ANN, &from_ann("CANCEL", uri, 2, "m2", "", ""));
    let heard = bench.heard(ANN);
    let starts: Vec<&str> = heard.iter().map(|text| &text[..11]).collect();
    assert_eq!(starts, ["SIP/2.0 200", "SIP/2.0 487"]);
}

#[test]
fn case_19_a_flood_writes_fifty_lines_a_second_and_counts_the_rest() {
    let mut siege = Siege::new();
    siege.bench.events.clear();
    for number in 0..5_000 {
        let text = of_stranger("OPTIONS", "sip:pbx.test", number, "", "");
        siege.say(&text.replace("CSeq: 1 OPTIONS", "CSeq: 1 THING"));
    }
    let notices = siege.bench.events.iter().filter(|one| matches!(one, Event::Notice(_))).count();
    assert!(notices <= 50, "{notices}");
    let counters = siege.bench.core.counters();
    assert_eq!(counters.of(Counter::SipMalformed), 5_000);
    assert!(counters.of(Counter::NoticesSuppressed) >= 4_950);
    siege.withstood();
}

#[test]
fn case_20_calls_that_nobody_answers_give_their_ports_back() {
    let mut siege = Siege::new();
    let mut refused = 0;
    for number in 0..200 {
        let body = sdp("203.0.113.66", 4_000);
        let heard = siege.say(&of_stranger("INVITE", "sip:1002@pbx.test", number, "", &body));
        refused += usize::from(heard.iter().any(|line| line.starts_with("SIP/2.0 503")));
    }
    assert!(refused > 0, "there are ports for fifty calls");
    siege.bench.pass(Duration::from_secs(120));
    assert_eq!(siege.bench.core.census().calls, 1);
    siege.bench.sent.clear();
    let body = sdp("203.0.113.66", 4_000);
    let heard = siege.say(&of_stranger("INVITE", "sip:1002@pbx.test", 999, "", &body));
    assert_eq!(heard, ["SIP/2.0 100 Trying"]);
    siege.withstood();
}

#[test]
fn case_21_a_challenge_gets_no_credentials_of_ours() {
    let mut siege = Siege::new();
    for (number, realm) in ["evil.test", "pbx.test"].into_iter().enumerate() {
        let heard = siege.say(&of_stranger("INVITE", "sip:1002@pbx.test", number, "", ""));
        assert_eq!(heard, ["SIP/2.0 100 Trying"]);
        let invite = siege.bench.only(BEN, "INVITE");
        let challenge = format!(
            "Proxy-Authenticate: Digest realm=\"{realm}\", nonce=\"n\", algorithm=MD5\r\nContent-Length"
        );
        let text = answer(&invite, "407 Proxy Authentication Required", "ben", "", "");
        siege.bench.say(BEN, &text.replace("Content-Length", &challenge));
        let ack = siege.bench.only(BEN, "ACK");
        assert!(!ack.contains("Authorization"), "{ack}");
        assert!(siege.bench.heard(STRANGER)[0].starts_with("SIP/2.0 403"));
    }
    siege.withstood();
}

#[test]
fn case_22_a_response_serves_once_and_for_its_user_alone() {
    let mut bench = authenticating();
    bench.say(STRANGER, &register("1001", STRANGER, 1, ""));
    let line = header(&bench.only(STRANGER, "SIP/2.0 401"), "WWW-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a challenge");
    let credentials = |user: &str, secret: &str, count| {
        let own = sip::auth::answer(&parsed, user, secret, "REGISTER", "sip:pbx.test", count, "c");
        format!("Authorization: {own}\r\n")
    };
    let own = credentials("1001", "secret-1001", 1);
    bench.say(STRANGER, &register("1001", STRANGER, 2, &own));
    bench.only(STRANGER, "SIP/2.0 200");
    bench.say(STRANGER, &register("1001", STRANGER, 3, &own));
    let again = bench.only(STRANGER, "SIP/2.0 401");
    assert!(again.contains("stale=true"), "{again}");
    let used = credentials("1001", "secret-1001", 1);
    bench.say(STRANGER, &register("1001", STRANGER, 4, &used));
    bench.only(STRANGER, "SIP/2.0 401");
    // Of one user for another one's name, and for another one's AOR.
    let other = credentials("1001", "secret-1001", 2).replace("\"1001\"", "\"1002\"");
    bench.say(STRANGER, &register("1002", STRANGER, 5, &other));
    bench.only(STRANGER, "SIP/2.0 403");
    let own = credentials("1001", "secret-1001", 3);
    bench.say(STRANGER, &register("1002", STRANGER, 6, &own));
    bench.only(STRANGER, "SIP/2.0 403");
    // What we never offered.
    for (cseq, (fine, odd)) in
        [(7, ("algorithm=MD5", "algorithm=MD5-sess")), (8, ("qop=auth", "qop=auth-int"))]
    {
        let text = credentials("1001", "secret-1001", 4).replace(fine, odd);
        assert!(text.contains(odd), "{text}");
        bench.say(STRANGER, &register("1001", STRANGER, cseq, &text));
        let heard = bench.heard(STRANGER);
        assert!(heard.iter().all(|text| is_refusal(text)) && !heard.is_empty(), "{odd}: {heard:?}");
    }
    assert!(bench.core.counters().of(Counter::AuthReplayed) >= 2);
}

#[test]
fn case_23_strangers_send_no_messages_subscribe_to_nothing_and_refer_nobody() {
    let mut bench = authenticating();
    bench.register("1002", BEN);
    let lines = "Event: dialog\r\nRefer-To: <sip:1003@pbx.test>\r\n";
    for (number, (method, status)) in [
        ("MESSAGE", "407"),
        ("SUBSCRIBE", "401"),
        ("NOTIFY", "405"),
        ("PUBLISH", "405"),
        ("INFO", "481"),
        ("UPDATE", "481"),
        ("PRACK", "481"),
        ("BYE", "481"),
        ("REFER", "407"),
        ("INVITE", "407"),
        ("REGISTER", "401"),
    ]
    .into_iter()
    .enumerate()
    {
        bench.say(STRANGER, &of_stranger(method, "sip:1002@pbx.test", number, lines, ""));
        bench.only(STRANGER, &format!("SIP/2.0 {status}"));
    }
    assert!(bench.heard(BEN).is_empty() && bench.heard(CARRIER).is_empty());
    assert_eq!(bench.core.census().calls, 0);
}

#[test]
fn case_24_who_has_a_password_speaks_for_nobody_else() {
    let mut bench = authenticating();
    bench.register("1002", BEN);
    let invite = from_ann("INVITE", "sip:1002@pbx.test", 1, "m1", "", "").replace(ANN, STRANGER);
    bench.say(STRANGER, &invite);
    let line = header(&bench.only(STRANGER, "SIP/2.0 407"), "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a challenge");
    let uri = "sip:1002@pbx.test";
    // Right credentials of 1003, a From of 1001.
    let own = sip::auth::answer(&parsed, "1003", "secret-1003", "INVITE", uri, 1, "c");
    let line = format!("Proxy-Authorization: {own}\r\nX-Case: 42");
    bench.say(STRANGER, &invite.replace("m1", "m2").replace("X-Case: 42", &line));
    bench.only(STRANGER, "SIP/2.0 403");
    assert!(bench.heard(BEN).is_empty());
    let told = bench.events.iter().any(|event| match event {
        Event::Notice(notice) => notice.detail.starts_with("security event=other_identity source="),
        _ => false,
    });
    assert!(told);
}

#[test]
fn case_25_known_and_unknown_users_are_answered_alike() {
    let mut bench = authenticating();
    let mut answers = Vec::new();
    for (cseq, user) in [(1, "1001"), (1, "9999")] {
        bench.say(STRANGER, &register(user, STRANGER, cseq, ""));
        let challenge = bench.only(STRANGER, "SIP/2.0 401");
        let line = header(&challenge, "WWW-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a challenge");
        let uri = "sip:pbx.test";
        let wrong = sip::auth::answer(&parsed, user, "guess", "REGISTER", uri, 1, "c");
        let line = format!("Authorization: {wrong}\r\n");
        bench.say(STRANGER, &register(user, STRANGER, cseq + 1, &line));
        let refusal = bench.only(STRANGER, "SIP/2.0 403");
        let names: Vec<String> = [challenge, refusal]
            .iter()
            .flat_map(|text| text.lines())
            .map(|line| line.split([':', ' ']).next().unwrap_or_default().to_owned())
            .collect();
        answers.push(names);
    }
    assert_eq!(answers[0], answers[1]);
    let invite =
        |user: &str, number| of_stranger("INVITE", &format!("sip:{user}@pbx.test"), number, "", "");
    for (number, user) in ["1001", "9999"].into_iter().enumerate() {
        bench.say(STRANGER, &invite(user, number));
        bench.only(STRANGER, "SIP/2.0 407");
    }
}

#[test]
fn case_26_a_contact_leads_back_to_where_it_came_from_and_there_are_few() {
    let mut bench = authenticating();
    let mut cseq = 0;
    let mut say = |bench: &mut Bench, contact: &str, expires: &str| {
        cseq += 2;
        bench.say(STRANGER, &register("1001", STRANGER, cseq - 1, ""));
        let line = header(&bench.only(STRANGER, "SIP/2.0 401"), "WWW-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a challenge");
        let uri = "sip:pbx.test";
        let own = sip::auth::answer(&parsed, "1001", "secret-1001", "REGISTER", uri, 1, "c");
        let text = register("1001", STRANGER, cseq, &format!("Authorization: {own}\r\n"));
        let text = text.replace(&format!("<sip:1001@{STRANGER}>"), contact);
        bench.say(STRANGER, &text.replace("Expires: 300", expires));
        let heard = bench.heard(STRANGER);
        heard[0].lines().next().unwrap_or_default().to_owned()
    };
    assert!(say(&mut bench, "*", "Expires: 300").starts_with("SIP/2.0 400"));
    assert!(say(&mut bench, "*, <sip:a@b>", "Expires: 0").starts_with("SIP/2.0 400"));
    for number in 0..100 {
        say(&mut bench, &format!("<sip:1001@127.0.0.1:{}>", 6_000 + number), "Expires: 300");
    }
    assert!(bench.core.census().bindings <= 16, "{:?}", bench.core.census());
    say(&mut bench, "<sip:1001@224.0.0.1>", "Expires: 300");
    bench.say(
        CARRIER,
        &from_ann("INVITE", "sip:1001@pbx.test", 1, "c1", "", "").replace(ANN, CARRIER),
    );
    let stranger: SocketAddr = STRANGER.parse().expect("an address");
    let carrier: SocketAddr = CARRIER.parse().expect("an address");
    assert!(bench.sent.iter().any(|(to, text)| *to == stranger && text.starts_with("INVITE")));
    assert!(bench.sent.iter().all(|(to, _)| [stranger, carrier].contains(to)), "{:?}", bench.sent);
}

#[test]
fn case_27_forged_requests_reach_no_call() {
    let mut siege = Siege::new();
    let mut guessed = siege.ours.clone();
    let mut last = guessed.pop().expect("a tag");
    last = if last == '0' { '1' } else { '0' };
    let guessed = format!("{guessed}{last}");
    for method in ["BYE", "INVITE", "UPDATE", "INFO", "REFER"] {
        for tag in [guessed.as_str(), "rg0000000000000000000000000000000000", "none"] {
            let text = from_ann(method, "sip:1002@pbx.test", 7, &format!("{method}{tag}"), tag, "");
            assert_eq!(siege.say(&text.replace(ANN, STRANGER)).len(), 1, "{method} {tag}");
        }
    }
    let cancel = from_ann("CANCEL", "sip:1002@pbx.test", 1, "other", "", "");
    let heard = siege.say(&cancel.replace(ANN, STRANGER));
    assert!(heard[0].starts_with("SIP/2.0 481"), "{heard:?}");
    let replaces = format!("Replaces: call-ann;to-tag={};from-tag=ann\r\n", siege.ours);
    let lines = format!("Require: replaces\r\n{replaces}");
    let heard = siege.say(&of_stranger("INVITE", "sip:1002@pbx.test", 3, &lines, ""));
    assert_eq!(heard, ["SIP/2.0 407 Proxy Authentication Required"]);
    assert!(siege.bench.heard(BEN).is_empty() && siege.bench.heard(ANN).is_empty());
    assert_eq!(siege.bench.core.census().calls, 1);
    siege.withstood();
}

#[test]
fn case_28_only_the_address_of_a_packet_makes_it_a_trunks() {
    let mut bench = authenticating();
    bench.register("1002", BEN);
    let lines = format!(
        "P-Asserted-Identity: <sip:1003@pbx.test>\r\nX-Trunk: carrier\r\nX-Real-IP: {CARRIER}\r\n\
         Via: SIP/2.0/UDP {CARRIER};branch=z9hG4bKq;received=10.0.0.99\r\n"
    );
    let text = of_stranger("INVITE", "sip:1002@pbx.test", 1, &lines, "")
        .replace("<sip:mallory@pbx.test>", "<sip:+4930@carrier.test>");
    bench.say(STRANGER, &text);
    bench.only(STRANGER, "SIP/2.0 407");
    // The host of the carrier, another port: another program on it.
    bench
        .say("10.0.0.99:40000", &text.replace(STRANGER, "10.0.0.99:40000").replace("bKx1", "bKx2"));
    bench.only("10.0.0.99:40000", "SIP/2.0 407");
    assert!(bench.heard(BEN).is_empty());
}

#[test]
fn case_29_a_refer_asks_for_nothing_but_a_call_of_its_own_user() {
    let mut siege = Siege::new();
    let targets = [
        ("<sip:1003@pbx.test;method=BYE>", "SIP/2.0 501"),
        ("<sip:1003@pbx.test?Route=%3Csip:evil%3E>", "SIP/2.0 400"),
        ("<tel:+1900>", "SIP/2.0 416"),
        ("<sip:a@b>, <sip:c@d>", "SIP/2.0 400"),
    ];
    for (number, (target, start)) in targets.into_iter().enumerate() {
        let cseq = 3 + u32::try_from(number).expect("few");
        let text =
            from_ann("REFER", "sip:1002@pbx.test", cseq, &format!("r{cseq}"), &siege.ours, "");
        siege.bench.say(ANN, &text.replace("X-Case: 42", &format!("Refer-To: {target}")));
        siege.bench.only(ANN, start);
    }
    let lines = "Refer-To: <sip:+1900@carrier.test>\r\n";
    let heard = siege.say(&of_stranger("REFER", "sip:1002@pbx.test", 1, lines, ""));
    assert!(heard[0].starts_with("SIP/2.0 407"), "{heard:?}");
    assert!(siege.bench.heard(CARRIER).is_empty());
    siege.withstood();
}

#[test]
fn case_30_no_number_and_no_prefix_leads_a_stranger_to_a_trunk() {
    let mut bench = authenticating();
    let numbers = [
        "+19005551234",
        "0019005551234",
        "900019005551234",
        "*72900",
        "%2b1900",
        "1900;phone-context=x",
    ];
    for (number, dialled) in numbers.iter().enumerate() {
        for (place, host) in ["pbx.test", "carrier.test", "10.0.0.99:5060"].iter().enumerate() {
            let text = of_stranger(
                "INVITE",
                &format!("sip:{dialled}@{host}"),
                10 * number + place,
                "",
                "",
            );
            bench.say(STRANGER, &text);
            bench.only(STRANGER, "SIP/2.0 407");
        }
    }
    assert!(bench.heard(CARRIER).is_empty());
    assert_eq!(bench.core.counters().of(Counter::CallsStarted), 0);
}

/// Signed identities are not verified, so nobody is asked for a certificate, wherever it is said to be.
#[test]
fn case_31_an_identity_header_makes_nobody_fetch_anything() {
    let mut siege = Siege::new();
    let body = sdp("203.0.113.66", 4_000);
    let places = [
        "file:///dev/zero",
        "http://127.0.0.1:1/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data/",
        "https://cert.test/a?redirect=file:///etc/passwd",
        "",
        "gopher://",
    ];
    let before = siege.bench.core.census();
    for (number, place) in places.iter().enumerate() {
        for claims in ["ppt=shaken;alg=ES256", "ppt=div;alg=none", "ppt=\"\"", "alg"] {
            siege.bench.events.clear();
            let line = format!("Identity: eyJ4NXUiOiJ4In0.e30.AAAA;info=<{place}>;{claims}\r\n");
            let text = of_stranger("INVITE", "sip:1003@pbx.test", number, &line, &body);
            let text = text.replace("bKx", &format!("bK{}x", claims.len()));
            siege.bench.say(STRANGER, &text.replace("call-x", &format!("call-{}x", claims.len())));
            let asked = |event: &Event| matches!(event, Event::Asked { .. });
            assert!(!siege.bench.events.iter().any(asked), "{place}");
            let others = siege.bench.sent.drain(..).filter(|(to, _)| to.to_string() != STRANGER);
            assert_eq!(others.count(), 0, "{place}");
        }
    }
    siege.bench.pass(Duration::from_secs(60));
    assert_eq!(siege.bench.core.census().calls, before.calls);
    siege.withstood();
}
