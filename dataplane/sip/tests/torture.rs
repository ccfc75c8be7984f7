//! The torture messages of RFC 4475 and RFC 5118, one verdict each.
//! Owns:  the table of verdicts.
//! Gives: proof that every message was looked at.
//! Never: a message that is left out.
//! Holds: a file without a row fails, and so does a row without a file.

mod samples;

use samples::Verdict::{Accept, Drop, Refuse};
use samples::{Verdict, torture, verdict};
use sip::wire::{HeaderName, Host, Malformed, Message, Method, Scheme, Start, scan};

/// Name, RFC section, verdict of the wire layer, and who answers what where it accepts.
const TABLE: &[(&str, &str, Verdict, &str)] = &[
    // RFC 4475 3.1.1: valid
    ("wsinv", "3.1.1.1", Accept, "well-formed"),
    ("intmeth", "3.1.1.2", Accept, "core: 501 or 405, the method is unknown"),
    ("esc01", "3.1.1.3", Accept, "well-formed; routing compares the unescaped user"),
    ("escnull", "3.1.1.4", Accept, "registrar: two Contacts, %00 is not the end of a text"),
    ("esc02", "3.1.1.5", Accept, "core: 501 or 405, % escapes nothing in a method"),
    ("lwsdisp", "3.1.1.6", Accept, "well-formed"),
    ("longreq", "3.1.1.7", Accept, "well-formed, inside every limit of ours"),
    ("dblreq", "3.1.1.8", Accept, "the first message counts, the rest of the datagram is ignored"),
    ("semiuri", "3.1.1.9", Accept, "well-formed; the semicolon belongs to the user"),
    ("transports", "3.1.1.10", Accept, "well-formed; only the top Via has to be one of ours"),
    ("mpart01", "3.1.1.11", Accept, "well-formed; the body is binary"),
    ("unreason", "3.1.1.12", Accept, "well-formed response"),
    ("noreason", "3.1.1.13", Accept, "well-formed response"),
    // RFC 4475 3.1.2: invalid
    ("badinv01", "3.1.2.1", Refuse(400), "Via with empty elements and parameters"),
    ("clerr", "3.1.2.2", Refuse(400), "Content-Length beyond the datagram"),
    ("ncl", "3.1.2.3", Refuse(400), "negative Content-Length"),
    ("scalar02", "3.1.2.4", Refuse(400), "CSeq of 2^31 or more, Max-Forwards above 255"),
    ("scalarlg", "3.1.2.5", Drop, "a response with such a CSeq is ours in no way"),
    ("quotbal", "3.1.2.6", Refuse(400), "unbalanced quote in To"),
    ("ltgtruri", "3.1.2.7", Refuse(400), "brackets round the Request-URI"),
    ("lwsruri", "3.1.2.8", Refuse(400), "blank inside the Request-URI"),
    ("lwsstart", "3.1.2.9", Refuse(400), "two blanks in the start line"),
    ("trws", "3.1.2.10", Refuse(400), "blanks behind the version"),
    ("escruri", "3.1.2.11", Refuse(400), "headers in the Request-URI"),
    ("baddate", "3.1.2.12", Accept, "Date is not used here, and the RFC lets us be liberal"),
    ("regbadct", "3.1.2.13", Refuse(400), "a Contact URI with headers needs brackets"),
    ("badaspec", "3.1.2.14", Refuse(400), "blanks inside the brackets of To"),
    ("baddn", "3.1.2.15", Refuse(400), "unquoted comma in a display name; see also its own test"),
    ("badvers", "3.1.2.16", Refuse(505), "SIP/7.0"),
    ("mismatch01", "3.1.2.17", Refuse(400), "CSeq names another method"),
    ("mismatch02", "3.1.2.18", Refuse(400), "the RFC allows 400 or 501; 400 needs no method list"),
    ("bigcode", "3.1.2.19", Drop, "a status of ten digits"),
    // RFC 4475 3.2: transaction layer
    ("badbranch", "3.2.1", Accept, "transaction: a bare cookie identifies nothing, RFC 2543 rules"),
    // RFC 4475 3.3: application layer
    ("insuf", "3.3.1", Refuse(400), "From, To and Call-ID are missing"),
    ("unkscm", "3.3.2", Accept, "core: 416"),
    ("novelsc", "3.3.3", Accept, "core: 416"),
    ("unksm2", "3.3.4", Accept, "registrar: 404 or 400, To is no address of this domain"),
    ("bext01", "3.3.5", Accept, "core: 420 with Unsupported"),
    ("invut", "3.3.6", Accept, "core: 415 with Accept"),
    ("regaut01", "3.3.7", Accept, "registrar: 401, as if there were no credentials"),
    ("multi01", "3.3.8", Refuse(400), "From, To, Call-ID, CSeq, Max-Forwards twice"),
    ("mcl01", "3.3.9", Refuse(400), "Content-Length twice, and different"),
    ("bcast", "3.3.10", Drop, "a response with two Via was meant for somebody else"),
    ("zeromf", "3.3.11", Accept, "core: 483, or the answer to OPTIONS for itself"),
    ("cparam01", "3.3.12", Accept, "registrar: unknownparam belongs to the header"),
    ("cparam02", "3.3.13", Accept, "registrar: unknownparam belongs to the URI"),
    ("regescrt", "3.3.14", Accept, "registrar: the Route inside the Contact URI is kept, not used"),
    ("sdp01", "3.3.15", Accept, "core: 406 or an answer without a body"),
    // RFC 4475 3.4: backward compatibility
    ("inv2543", "3.4.1", Accept, "transaction: RFC 2543 rules, no branch and no From tag"),
    // RFC 5118
    ("ipv6-good", "4.1", Accept, "well-formed"),
    ("ipv6-bad", "4.2", Refuse(400), "an IPv6 address without brackets"),
    ("port-ambiguous", "4.3", Accept, "5070 is the last group of the address, not a port"),
    ("port-unambiguous", "4.4", Accept, "well-formed"),
    ("via-received-param-with-delim", "4.5", Accept, "brackets in received are tolerated"),
    ("via-received-param-no-delim", "4.5", Accept, "well-formed"),
    ("ipv6-in-sdp", "4.6", Refuse(400), "as printed it declares more than it has; own test below"),
    ("mult-ip-in-header", "4.7", Accept, "well-formed"),
    ("mult-ip-in-sdp", "4.8", Accept, "well-formed"),
    ("ipv4-mapped-ipv6", "4.9", Accept, "well-formed"),
    ("ipv6-bug-abnf-3-colons", "4.10", Refuse(400), "RFC 5954 has corrected the grammar"),
    ("ipv6-correct-abnf-2-colons", "4.10", Accept, "well-formed"),
];

#[test]
fn every_message_gets_its_verdict() {
    let found = torture();
    let wrong: Vec<String> = TABLE
        .iter()
        .filter_map(|(name, section, expected, reason)| {
            let bytes = &found.iter().find(|(file, _)| file == name)?.1;
            let given = verdict(bytes);
            (given != *expected)
                .then(|| format!("{name} ({section}): {given:?}, not {expected:?}: {reason}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_has_one_row_and_every_row_a_file() {
    let mut rows: Vec<_> = TABLE.iter().map(|row| row.0.to_owned()).collect();
    rows.sort();
    let files: Vec<_> = torture().into_iter().map(|(name, _)| name).collect();
    assert_eq!(files, rows);
    let of_4475 = TABLE.iter().filter(|row| row.1.starts_with('3')).count();
    assert_eq!((of_4475, TABLE.len() - of_4475), (49, 12));
}

fn bytes(name: &str) -> Vec<u8> {
    torture().into_iter().find(|(file, _)| file == name).expect("a torture message").1
}

fn with<R>(name: &str, read: impl FnOnce(&Message<'_>) -> R) -> R {
    read(&scan(&bytes(name)).unwrap_or_else(|why| panic!("{name}: {why}")))
}

#[test]
fn a_short_tortuous_invite_reads_in_full() {
    with("wsinv", |message| {
        assert_eq!(message.max_forwards(), Ok(Some(68)));
        assert_eq!(message.cseq().map(|cseq| (cseq.number, cseq.method)), Ok((9, Method::Invite)));
        assert_eq!(message.to().expect("To").tag(), Some(&b"1918181833n"[..]));
        let from = message.from().expect("From");
        assert_eq!(
            (from.display, from.tag()),
            (&br#"J Rosenberg \\\""#[..], Some(&b"98asjd8"[..]))
        );
        let branches: Vec<_> = message
            .values(HeaderName::Via)
            .map(|via| sip::wire::Via::parse(via).expect("a Via").branch.expect("a branch"))
            .collect();
        assert_eq!(branches, [&b"390skdjuw"[..], b"z9hG4bK9ikj8", b"z9hG4bK30239"]);
        assert_eq!(message.first(HeaderName::Subject), Some(&b""[..]));
        assert_eq!(message.body().len(), 150);
    });
}

#[test]
fn the_widest_range_of_characters_reads() {
    with("intmeth", |message| {
        let Start::Request { method_text, uri, .. } = message.start() else { panic!("a request") };
        assert_eq!(method_text, b"!interesting-Method0123456789_*+`.%indeed'~");
        let uri = sip::wire::Uri::parse(uri).expect("a URI");
        let user = &b"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"[..];
        assert_eq!((uri.user, uri.host), (Some(user), Host::Name(b"example.com")));
        assert_eq!(message.to().expect("To").display, b"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f");
        assert_eq!(message.from().expect("From").tag(), Some(&b"_token~1'+`*%!-."[..]));
    });
}

#[test]
fn escapes_are_kept_and_read_where_they_have_meaning() {
    with("esc01", |message| {
        let to = message.to().expect("To").parsed_uri().expect("a URI");
        assert_eq!(to.user_unescaped().as_ref(), b"user");
        let Start::Request { uri, .. } = message.start() else { panic!("a request") };
        let uri = sip::wire::Uri::parse(uri).expect("a URI");
        assert_eq!(uri.user_unescaped().as_ref(), b"sips:user@example.com");
    });
    with("escnull", |message| {
        assert_eq!(message.values(HeaderName::Contact).count(), 2);
        let to = message.to().expect("To").parsed_uri().expect("a URI");
        assert_eq!(to.user_unescaped().as_ref(), b"null-\0-null");
    });
    with("esc02", |message| {
        assert_eq!(message.method(), Method::Other);
        assert_eq!(message.all(HeaderName::Contact).count(), 2, "C%6Fntact is not Contact");
    });
}

#[test]
fn the_first_of_two_requests_in_a_datagram_counts() {
    with("dblreq", |message| {
        assert_eq!((message.method(), message.body()), (Method::Register, &b""[..]));
        assert_eq!(message.call_id(), Ok(&b"dblreq.0ha0isndaksdj99sdfafnl3lk233412"[..]));
    });
}

#[test]
fn a_parameter_belongs_to_the_header_without_brackets_and_to_the_uri_inside_them() {
    let contact = |message: &Message<'_>| {
        let value = message.first(HeaderName::Contact).expect("a Contact");
        let address = sip::wire::NameAddr::parse(value).expect("an address");
        let uri = address.parsed_uri().expect("a URI");
        (address.param("unknownparam").is_some(), uri.param("unknownparam").is_some())
    };
    assert_eq!(with("cparam01", contact), (true, false));
    assert_eq!(with("cparam02", contact), (false, true));
}

#[test]
fn a_binary_body_is_kept_byte_for_byte() {
    with("mpart01", |message| {
        assert_eq!(message.body().len(), 553);
        assert!(message.body().ends_with(b"\x99\xd0\x05\r\n--7a9cbec02ceef655--\r\n"));
    });
}

/// The file of the RFC ends without an empty line, which alone is reason enough; the display name
/// has to be a reason too.
#[test]
fn an_unquoted_comma_in_a_display_name_is_refused_for_itself() {
    let mut whole = bytes("baddn");
    assert_eq!(
        scan(&whole).and_then(|message| message.check_request()).err(),
        Some(Malformed::NoEnd)
    );
    whole.extend_from_slice(b"\r\n");
    let message = scan(&whole).expect("its form is a message");
    assert_eq!(message.check_request(), Err(Malformed::BadHeader("From")));
}

/// Each refusal comes from the defect that the RFC planted, not from another one.
#[test]
fn refusals_name_the_planted_defect() {
    let reason = |name| with(name, |message| message.check_request());
    let beyond = Malformed::LengthBeyondDatagram { declared: 9999, received: 154 };
    assert_eq!(reason("badinv01"), Err(Malformed::BadHeader("Via")));
    assert_eq!(reason("clerr"), Err(beyond));
    assert_eq!(reason("ncl"), Err(Malformed::LengthUnreadable));
    assert_eq!(reason("scalar02"), Err(Malformed::BadHeader("CSeq")));
    assert_eq!(reason("quotbal"), Err(Malformed::BadHeader("To")));
    for name in ["ltgtruri", "lwsruri", "lwsstart", "escruri", "ipv6-bad"] {
        assert_eq!(reason(name), Err(Malformed::BadRequestUri), "{name}");
    }
    assert_eq!(reason("trws"), Err(Malformed::BadStartLine));
    assert_eq!(reason("regbadct"), Err(Malformed::BadHeader("Contact")));
    assert_eq!(reason("badaspec"), Err(Malformed::BadHeader("To")));
    assert_eq!(reason("badvers"), Err(Malformed::Version));
    assert_eq!(reason("mismatch01"), Err(Malformed::CSeqMethod));
    assert_eq!(reason("mismatch02"), Err(Malformed::CSeqMethod));
    assert_eq!(reason("insuf"), Err(Malformed::HeaderMissing("From")));
    assert_eq!(reason("mcl01"), Err(Malformed::HeaderRepeated("Content-Length")));
    assert_eq!(scan(&bytes("bigcode")).err(), Some(Malformed::BadStatusLine));
}

/// RFC 5118 4.6 means a valid message, but declares 268 bytes of body and shows fewer.
#[test]
fn ipv6_in_a_body_is_accepted_once_its_length_is_right() {
    let bytes = bytes("ipv6-in-sdp");
    let received = 251;
    let beyond = Malformed::LengthBeyondDatagram { declared: 268, received };
    assert_eq!(scan(&bytes).expect("it scans").check_request(), Err(beyond));
    let text = String::from_utf8(bytes).expect("text").replace(": 268", &format!(": {received}"));
    assert_eq!(verdict(text.as_bytes()), Accept);
}

#[test]
fn an_ipv6_port_stands_behind_the_brackets() {
    let target = |message: &Message<'_>| {
        let Start::Request { uri, .. } = message.start() else { panic!("a request") };
        let uri = sip::wire::Uri::parse(uri).expect("a URI");
        assert_eq!(uri.scheme, Scheme::Sip);
        (uri.host.to_string(), uri.port)
    };
    assert_eq!(with("port-ambiguous", target), ("[2001:db8::10:5070]".to_owned(), None));
    assert_eq!(with("port-unambiguous", target), ("[2001:db8::10]".to_owned(), Some(5070)));
}
