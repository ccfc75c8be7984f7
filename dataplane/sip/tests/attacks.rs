//! Attacks that other SIP servers fell to, on the wire layer.
//! Owns:  hostile messages, each named after what it tries.
//! Gives: proof that each one is refused or read without harm.
//! Never: more than the wire layer; what a call does with them is tested in `sim`.
//! Holds: every refusal names its reason.

mod samples;

use samples::{Verdict, read_all, verdict};
use sip::wire::frame::{Frame, next_frame};
use sip::wire::{HeaderName, Host, Malformed, NameAddr, Uri, Via, Writer, reply, scan};

/// A good request with one more header line in it, and a body.
fn request_with(line: &[u8]) -> Vec<u8> {
    let mut bytes = b"OPTIONS sip:a@h.example SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;rport\r\n\
        From: <sip:b@h.example>;tag=1\r\nTo: <sip:a@h.example>\r\nCall-ID: c@h\r\n\
        CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n"
        .to_vec();
    bytes.extend_from_slice(line);
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes
}

fn replaced(from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(request_with(b"Content-Length: 0")).expect("text");
    assert!(text.contains(from), "{from}");
    text.replace(from, to).into_bytes()
}

/// Why a request is refused, by the scanner or by the checks behind it.
fn refusal(bytes: &[u8]) -> Option<Malformed> {
    scan(bytes).and_then(|message| message.check_request()).err()
}

/// What a faulty line says must not be lost on the peer: the refusal can still be written.
#[test]
fn a_request_with_a_faulty_line_can_be_answered() {
    for line in [&b"no colon"[..], b"bad\x00name: v", b": v"] {
        let bytes = request_with(line);
        assert_eq!(refusal(&bytes).and_then(Malformed::status), Some(400));
        let text = String::from_utf8(answer(&bytes)).expect("text");
        assert!(text.contains("Via: ") && text.contains("Call-ID: "), "{text}");
    }
    let whole = request_with(b"Content-Length: 0");
    let cut = &whole[..whole.len() - 2];
    assert_eq!(refusal(cut), Some(Malformed::NoEnd));
    assert!(String::from_utf8(answer(cut)).expect("text").contains("Via: "));
}

fn answer(bytes: &[u8]) -> Vec<u8> {
    let request = scan(bytes).expect("it scans");
    let mut out = Vec::new();
    let peer = "192.0.2.9:5062".parse().expect("an address");
    reply(&mut out, &request, 200, Some(b"t"), peer).end();
    out
}

// 1. Lengths beyond reason.

#[test]
fn a_cseq_method_of_500_bytes_is_a_mismatch_not_an_overflow() {
    let long = "M".repeat(500);
    assert_eq!(verdict(&replaced("1 OPTIONS", &format!("1 {long}"))), Verdict::Refuse(400));
    let both = replaced("OPTIONS", &long);
    assert_eq!(verdict(&both), Verdict::Accept, "an unknown method is the core's to refuse");
    assert!(scan(&answer(&both)).is_ok());
}

#[test]
fn names_and_values_of_64_kb_are_too_long() {
    for line in [[vec![b'N'; 64_000], b": v".to_vec()].concat(), vec![b'v'; 64_000]] {
        let line = if line[0] == b'v' { [b"X: ".to_vec(), line].concat() } else { line };
        assert_eq!(refusal(&request_with(&line)), Some(Malformed::LineTooLong));
    }
    let folded = [b"X: v".to_vec(), b"\r\n v".repeat(12_000)].concat();
    assert_eq!(refusal(&request_with(&folded)), Some(Malformed::LineTooLong));
    let beyond = request_with(&[b"X: ".to_vec(), vec![b'v'; 70_000]].concat());
    assert_eq!(scan(&beyond).err(), Some(Malformed::MessageTooLong));
}

#[test]
fn ten_thousand_headers_are_too_many() {
    let lines = b"a: b\r\n".repeat(10_000);
    let bytes = request_with(&lines[..lines.len() - 2]);
    assert_eq!(refusal(&bytes), Some(Malformed::TooManyHeaders));
    assert_eq!(Malformed::TooManyHeaders.status(), Some(513));
    assert_eq!(next_frame(&bytes), Frame::Malformed(Malformed::MessageTooLong));
}

// 5. Content-Length that lies.

#[test]
fn a_content_length_that_lies_is_refused() {
    for value in ["-1", "99999999999999999999", "4294967296", "1 2", "0x10", "1,2", "+0", "", "1"] {
        let bytes = request_with(format!("Content-Length: {value}").as_bytes());
        assert_eq!(verdict(&bytes), Verdict::Refuse(400), "{value:?}");
    }
    for twice in ["Content-Length: 0\r\nl: 0", "l: 0\r\nContent-Length: 5"] {
        assert_eq!(verdict(&request_with(twice.as_bytes())), Verdict::Refuse(400), "{twice}");
    }
}

#[test]
fn a_datagram_longer_than_its_content_length_is_cut() {
    let mut bytes = request_with(b"Content-Length: 3");
    bytes.extend_from_slice(b"abcINVITE sip:x SIP/2.0");
    assert_eq!(verdict(&bytes), Verdict::Accept);
    assert_eq!(scan(&bytes).expect("it scans").body(), b"abc");
}

#[test]
fn a_stream_without_one_readable_content_length_ends() {
    let cases: [(&str, Malformed); 5] = [
        ("X: y", Malformed::LengthMissing),
        ("Content-Length: -1", Malformed::LengthUnreadable),
        ("Content-Length: 1\r\nl: 2", Malformed::LengthUnreadable),
        ("Content-Length\r\n : 5", Malformed::LengthMissing),
        ("Content-Length: 70000", Malformed::MessageTooLong),
    ];
    for (line, why) in cases {
        assert_eq!(next_frame(&request_with(line.as_bytes())), Frame::Malformed(why), "{line}");
    }
}

// 7. Headers that hide from a filter.

#[test]
fn a_name_that_hides_behind_odd_bytes_is_refused() {
    for odd in ["\x0b", "\x0c", "\x00", "\x7f", "\u{a0}", "\r\n ", "\n\t", "\r", "\\", "@"] {
        for line in [format!("P-Asserted-Identity{odd}: <sip:x@h>"), format!("{odd}Route: <sip:x>")]
        {
            let scanned = scan(&request_with(line.as_bytes())).map(|message| {
                // A fold in front makes the line part of the value before it: it is no header.
                message.count_hidden()
            });
            assert!(matches!(scanned, Err(Malformed::BadHeaderLine) | Ok(0)), "{line:?}");
        }
    }
    for blanks in [" ", "\t", " \t  "] {
        let bytes = request_with(format!("P-Asserted-Identity{blanks}: <sip:x@h>").as_bytes());
        let message = scan(&bytes).expect("RFC 3261 25.1 HCOLON allows blanks");
        assert!(message.first(HeaderName::PAssertedIdentity).is_some(), "{blanks:?}");
    }
    assert_eq!(refusal(&request_with(b": v")), Some(Malformed::BadHeaderLine));
    assert_eq!(refusal(&request_with(b"no colon")), Some(Malformed::BadHeaderLine));
}

trait Hidden {
    fn count_hidden(&self) -> usize;
}

impl Hidden for sip::wire::Message<'_> {
    fn count_hidden(&self) -> usize {
        let hidden = |name: &[u8]| {
            let lower = name.to_ascii_lowercase();
            lower.starts_with(b"p-asserted") || lower.ends_with(b"route")
        };
        self.lines().filter(|(_, written, _)| hidden(written)).count()
    }
}

/// The framer and the scanner have to see the same headers, or a body becomes a message.
#[test]
fn the_framer_and_the_scanner_read_one_length() {
    for line in [
        "Content-Length : 4",
        "content-length\t: 4",
        "l:4",
        "X: y\r\n Content-Length: 9\r\nL: 4",
        "X: y\n\tl: 9\nL:\t4",
    ] {
        let bytes = [request_with(line.as_bytes()), b"bodyBYE sip:x SIP/2.0".to_vec()].concat();
        let Frame::Message { length } = next_frame(&bytes) else { panic!("{line:?}") };
        let message = scan(&bytes[..length]).expect("it scans");
        assert_eq!((message.body(), message.check_request()), (&b"body"[..], Ok(())), "{line:?}");
    }
}

#[test]
fn a_via_parameter_cannot_swallow_the_next_hop() {
    let bytes = replaced(";rport", ";received=<, SIP/2.0/UDP p.example;branch=z9hG4bKb");
    assert_eq!(verdict(&bytes), Verdict::Refuse(400));
    let bytes = replaced(";rport", ";x=\"y, SIP/2.0/UDP p.example;branch=z9hG4bKb");
    assert_eq!(verdict(&bytes), Verdict::Refuse(400));
}

#[test]
fn two_branches_in_one_via_are_refused() {
    assert_eq!(verdict(&replaced(";rport", ";branch=z9hG4bKb")), Verdict::Refuse(400));
}

#[test]
fn a_cseq_method_that_only_ends_like_the_method_is_a_mismatch() {
    let bytes = replaced("OPTIONS sip", "THING sip");
    let bytes = String::from_utf8(bytes).expect("text").replace("1 OPTIONS", "1 SOMETHING");
    assert_eq!(verdict(bytes.as_bytes()), Verdict::Refuse(400));
}

// 8. Replies to what is very long.

#[test]
fn a_reply_to_very_long_tags_and_vias_is_whole() {
    for length in [1, 126, 127, 128, 255, 256, 1_023, 1_024, 4_095, 4_096, 7_000] {
        let long = "x".repeat(length);
        let text = String::from_utf8(request_with(b"Content-Length: 0")).expect("text");
        let bytes = text
            .replace("tag=1", &format!("tag={long}"))
            .replace("z9hG4bKa", &format!("z9hG4bK{long}"))
            .into_bytes();
        let out = answer(&bytes);
        let response = scan(&out).expect("a reply scans");
        assert_eq!(response.check_response(), Ok(()), "{length}");
        assert_eq!(response.from().expect("From").tag(), Some(long.as_bytes()));
        let via = response.via().expect("Via");
        assert_eq!(via.branch, Some(format!("z9hG4bK{long}").as_bytes()));
        assert_eq!((via.received, via.rport), (Some(&b"192.0.2.9"[..]), Some(Some(5062))));
    }
}

#[test]
fn more_than_70_vias_are_a_loop() {
    let hops = |count: usize| {
        let others = ", SIP/2.0/UDP p;branch=z9hG4bKp".repeat(count - 1);
        replaced(";rport", &others)
    };
    assert_eq!(verdict(&hops(70)), Verdict::Accept);
    assert_eq!(verdict(&hops(71)), Verdict::Refuse(483));
    assert_eq!(verdict(&replaced("Max-Forwards: 70", "Max-Forwards: 0")), Verdict::Accept);
    assert_eq!(verdict(&replaced("Max-Forwards: 70", "Max-Forwards: 256")), Verdict::Refuse(400));
}

// 9. Addresses that are none.

#[test]
fn ipv6_without_brackets_with_three_colons_or_a_zone_is_refused() {
    for host in
        ["2001:db8::1", "[2001:db8:::1]", "[fe80::1%eth0]", "[::1", "::1]", "[]", "[1.2.3.4]"]
    {
        assert!(Uri::parse(format!("sip:a@{host}").as_bytes()).is_err(), "{host}");
        assert!(Via::parse(format!("SIP/2.0/UDP {host};branch=x").as_bytes()).is_err(), "{host}");
    }
}

#[test]
fn ports_outside_of_16_bits_are_refused() {
    for port in ["65536", "-1", "4294967296", "+5060", "5060x", "0x10", "", " "] {
        assert!(Uri::parse(format!("sip:a@h:{port}").as_bytes()).is_err() || port.is_empty());
    }
    assert!(Via::parse(b"SIP/2.0/UDP h:65536;branch=x").is_err());
    assert!(Via::parse(b"SIP/2.0/UDP h:-1;branch=x").is_err());
    assert_eq!(Uri::parse(b"sip:a@h:65535").map(|uri| uri.port), Ok(Some(65_535)));
    // Port 0 is written by phones that cannot be called; it reads, and no socket sends there.
    assert_eq!(Uri::parse(b"sip:a@h:0").map(|uri| uri.port), Ok(Some(0)));
    let rport = Via::parse(b"SIP/2.0/UDP h;rport=65536").map(|via| via.rport);
    assert_eq!(rport, Ok(Some(None)), "an answer that does not read is no port");
}

#[test]
fn ipv4_like_hosts_are_addresses_or_nothing() {
    for host in ["1.2.3", "1.2.3.4.5", "256.1.1.1", "1..2.3", "0x7f.1"] {
        let text = format!("sip:{host}");
        let parsed = Uri::parse(text.as_bytes()).map(|uri| uri.host);
        assert!(!matches!(parsed, Ok(Host::V4(_))), "{host}");
    }
}

// 11. Escapes and text.

#[test]
fn an_escaped_nul_in_the_user_is_a_byte_and_no_end() {
    let uri = Uri::parse(b"sip:admin%00evil@h.example").expect("a URI");
    assert_eq!(uri.user_unescaped().as_ref(), b"admin\0evil");
    let other = Uri::parse(b"sip:admin@h.example").expect("a URI");
    assert!(!uri.equals(&other));
    for bad in ["sip:a%@h", "sip:a%0@h", "sip:a%zz@h", "sip:a\0b@h"] {
        assert!(Uri::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn overlong_utf8_is_bytes_and_never_text_by_surprise() {
    let slash = b"\xc0\xaf\xe0\x80\xaf\xf8\x88\x80\x80\xaf\xff\xfe\xed\xa0\x80";
    let mut bytes = request_with(b"Content-Length: 0");
    let at = bytes.windows(6).position(|part| part == b"From: ").expect("From") + 6;
    bytes.splice(at..at, [b"\"", &slash[..], b"\" "].concat());
    assert_eq!(verdict(&bytes), Verdict::Accept);
    let message = scan(&bytes).expect("it scans");
    assert_eq!(message.from().expect("From").display, slash);
    read_all(&message);
    assert!(scan(&answer(&bytes)).is_ok());
}

#[test]
fn a_line_break_in_a_display_name_writes_no_header() {
    let displays: [&[u8]; 5] =
        [b"a\r\nEvil: 1", b"a\nEvil: 1", b"a\rEvil: 1", b"a\0\r\n\r\nbody", b"\r\n\r\n"];
    for display in displays {
        let mut out = Vec::new();
        let mut writer = Writer::request(&mut out, b"INVITE", b"sip:a@h\r\nEvil: 1");
        let value = [b"\"", display, b"\" <sip:b@h>;tag=1"].concat();
        writer.header("From", &value).line(b"X-From", &value);
        writer.header_fmt("X-Fmt", format_args!("{}", value.escape_ascii()));
        writer.header_fmt("X-Raw", format_args!("{}", String::from_utf8_lossy(&value)));
        writer.end();
        let message = scan(&out).expect("it scans");
        let names: Vec<_> = message.lines().map(|line| line.1).collect();
        assert_eq!(names, [&b"From"[..], b"X-From", b"X-Fmt", b"X-Raw", b"Content-Length"]);
        assert!(!out.windows(6).any(|part| part == b"\nEvil:" || part == b"\rEvil:"));
        assert!(NameAddr::parse(message.first(HeaderName::From).expect("From")).is_ok());
    }
}

#[test]
fn folds_and_lone_carriage_returns_of_a_peer_are_not_passed_on() {
    let bytes = replaced("<sip:b@h.example>", "\"a\rEvil: 1\r\n b\" <sip:b@h.example>");
    let out = answer(&bytes);
    let message = scan(&out).expect("it scans");
    assert_eq!(
        message.first(HeaderName::From),
        Some(&b"\"a Evil: 1 b\" <sip:b@h.example>;tag=1"[..])
    );
    assert!(!out.windows(2).any(|pair| pair[0] == b'\r' && pair[1] != b'\n'));
}
