//! Properties of the wire layer over arbitrary bytes.
//! Owns:  the generators and what has to hold for each of their values.
//! Gives: the same cases in every run: the seed is fixed, nothing is written to disk.
//! Never: a property that holds because nothing was generated.
//! Holds: reading never panics; what is written reads back; cutting a stream is up to its bytes.

mod samples;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use samples::{PHONES, Random, read_all, torture};
use sip::wire::frame::{Frame, next_frame};
use sip::wire::{HeaderName, NameAddr, Uri, Via, Writer, reply, scan};

fn check<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, b"ringgate wire layer, fixed seed.");
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(strategy, |value| {
        test(value);
        Ok(())
    });
    outcome.unwrap_or_else(|why| panic!("{why}"));
}

/// Bytes with the ones that mean something to SIP made likely.
fn hostile(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let telling = b"\r\n\0 \t\"<>,;:=@%/\\()[]{}?&+-.019azSIP".to_vec();
    let byte = prop_oneof![3 => prop::sample::select(telling), 1 => any::<u8>()];
    vec(byte, 0..most)
}

/// What `Writer` promises about a value: line breaks with the blanks behind them are one blank,
/// NUL is gone, and the ends are trimmed by whoever reads.
fn unfolded(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut folded = false;
    for &byte in value {
        let blank = byte.is_ascii_whitespace();
        if folded && blank {
            continue;
        }
        folded = matches!(byte, b'\r' | b'\n');
        match byte {
            b'\r' | b'\n' => out.push(b' '),
            0 => {}
            other => out.push(other),
        }
    }
    out.trim_ascii().to_vec()
}

#[test]
fn what_is_written_reads_back() {
    const NAMES: [&str; 4] = ["Subject", "X-Unknown", "Call-ID", "Contact"];
    let strategy = (vec((0..NAMES.len(), hostile(120)), 0..20), hostile(200), hostile(30));
    check(2_000, &strategy, |(headers, body, reason)| {
        let mut out = b"before".to_vec();
        let mut writer = Writer::response(&mut out, 404, &reason);
        for (index, value) in &headers {
            if index % 2 == 0 {
                writer.header(NAMES[*index], value);
            } else {
                writer.line(NAMES[*index].as_bytes(), value);
            }
        }
        writer.body(b"text/plain", &body);
        let message = scan(&out[6..]).expect("what is written scans");
        assert_eq!((message.status(), message.body()), (Some(404), &body[..]));
        let read: Vec<_> = message.lines().map(|(_, name, value)| (name, value.to_vec())).collect();
        let length = body.len().to_string().into_bytes();
        let meant: Vec<_> = headers
            .iter()
            .map(|(index, value)| (NAMES[*index].as_bytes(), unfolded(value)))
            .chain([(&b"Content-Type"[..], b"text/plain".to_vec()), (b"Content-Length", length)])
            .collect();
        assert_eq!(read, meant);
        let Frame::Message { length } = next_frame(&out[6..]) else { panic!("no frame") };
        assert_eq!(length, out.len() - 6);
    });
}

#[test]
fn a_request_line_is_one_line_whatever_the_uri_holds() {
    check(1_000, &(hostile(20), hostile(60)), |(method, uri)| {
        let mut out = Vec::new();
        Writer::request(&mut out, &[b"M".to_vec(), method].concat(), &uri).end();
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 3);
        assert_eq!(out.iter().filter(|&&byte| byte == b' ').count(), 3);
    });
}

#[test]
fn a_copied_header_keeps_its_lines_and_unknown_ones_their_names() {
    check(500, &vec(hostile(60), 1..8), |values| {
        let mut out = Vec::new();
        let mut writer = Writer::response(&mut out, 200, b"OK");
        for value in &values {
            writer.header("X-One", value).header("k", value);
        }
        writer.end();
        let source = scan(&out).expect("it scans");
        let mut copy = Vec::new();
        let mut writer = Writer::response(&mut copy, 200, b"OK");
        writer.copy(&source, HeaderName::Supported).copy(&source, HeaderName::Other);
        writer.end();
        let copied = scan(&copy).expect("a copy scans");
        for name in [HeaderName::Supported, HeaderName::Other] {
            let (was, is): (Vec<_>, Vec<_>) =
                (source.all(name).collect(), copied.all(name).collect());
            assert_eq!(was, is);
        }
        assert_eq!(copied.lines().filter(|line| line.1 == b"X-One").count(), values.len());
    });
}

/// A request out of arbitrary values: what the peer writes between the names.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let via = prop_oneof![
        2 => Just(b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx;rport".to_vec()),
        1 => hostile(60),
        2 => hostile(40).prop_map(|tail| [b"SIP/2.0/TCP h:5061;".to_vec(), tail].concat()),
    ];
    (vec(via, 0..5), hostile(60), hostile(60), hostile(30), hostile(20)).prop_map(
        |(vias, from, to, call_id, cseq)| {
            let mut out = Vec::new();
            let mut writer = Writer::request(&mut out, b"INVITE", b"sip:a@h");
            for via in &vias {
                writer.header("Via", via);
            }
            writer.header("From", &from).header("To", &to);
            writer.header("Call-ID", &call_id).header("CSeq", &cseq);
            writer.end();
            out
        },
    )
}

#[test]
fn a_reply_to_anything_that_scans_reads_back_and_keeps_its_hops() {
    let peers = ["192.0.2.7:1", "[2001:db8::7]:65535", "192.0.2.1:5060"];
    let tags = prop_oneof![Just(None), Just(Some(b"t1".to_vec()))];
    let strategy = (request(), 0..peers.len(), 100_u16..700, tags);
    check(4_000, &strategy, |(bytes, peer, status, tag)| {
        let request = scan(&bytes).expect("what is written scans");
        let mut out = Vec::new();
        let peer = peers[peer].parse().expect("an address");
        reply(&mut out, &request, status, tag.as_deref(), peer).end();
        let response = scan(&out).expect("a reply scans");
        assert_eq!(response.status(), Some(status));
        for name in [HeaderName::CallId, HeaderName::CSeq, HeaderName::From] {
            assert_eq!(response.first(name), request.first(name));
        }
        let hops = |message: &sip::wire::Message<'_>| {
            let all: Vec<_> = message.values(HeaderName::Via).map(<[u8]>::to_vec).collect();
            (message.all(HeaderName::Via).count(), all)
        };
        let ((lines, mine), (reply_lines, theirs)) = (hops(&request), hops(&response));
        assert_eq!((lines, mine.len()), (reply_lines, theirs.len()));
        assert_eq!(mine.get(1..), theirs.get(1..));
        if let (Ok(was), Ok(is)) = (request.via(), response.via()) {
            assert_eq!((was.host, was.port, was.branch), (is.host, is.port, is.branch));
            assert_eq!(was.rport.map(|_| Some(peer.port())), is.rport);
        }
        if request.check_request().is_ok() {
            assert_eq!(response.check_response(), Ok(()));
        }
    });
}

fn read_everything(bytes: &[u8]) {
    if let Ok(message) = scan(bytes) {
        read_all(&message);
    }
    let _ = next_frame(bytes);
    let _ = Via::parse(bytes).map(|via| via.host.to_string());
    if let Ok(address) = NameAddr::parse(bytes) {
        let _ = (address.tag(), address.param("expires"), address.parsed_uri().map(|uri| uri.port));
    }
    if let Ok(uri) = Uri::parse(bytes) {
        let _ = (uri.user_unescaped(), uri.param("transport"), uri.host.to_string());
        assert!(uri.equals(&uri));
    }
    let _ = HeaderName::parse(bytes);
}

#[test]
fn no_reader_panics_on_arbitrary_bytes() {
    check(4_000, &vec(any::<u8>(), 0..300), |bytes| read_everything(&bytes));
    check(8_000, &hostile(300), |bytes| read_everything(&bytes));
    let line = b"OPTIONS sip:a SIP/2.0\r\nVia:".to_vec();
    check(4_000, &hostile(200), |bytes| {
        read_everything(&[line.clone(), bytes, b"\r\n\r\n".to_vec()].concat());
    });
}

#[test]
fn no_reader_panics_on_a_torture_message_with_bytes_changed() {
    let set = torture();
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    check(4_000, &(0..set.len(), changes), |(number, changes)| {
        let mut bytes = set[number].1.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_everything(&bytes);
    });
}

/// An element that splits again, or is not trimmed, would be another value to the next reader.
#[test]
fn list_elements_are_trimmed_and_whole() {
    check(4_000, &hostile(80), |value| {
        let mut out = Vec::new();
        let mut writer = Writer::response(&mut out, 200, b"OK");
        writer.header("Route", &value);
        writer.end();
        let message = scan(&out).expect("it scans");
        for element in message.values(HeaderName::Route) {
            assert!(!element.is_empty() && element == element.trim_ascii());
            let mut again = Vec::new();
            let mut writer = Writer::response(&mut again, 200, b"OK");
            writer.header("Route", element);
            writer.end();
            let again = scan(&again).expect("it scans");
            let found: Vec<_> = again.values(HeaderName::Route).collect();
            assert_eq!(found, [element]);
        }
    });
}

/// The messages of a stream that arrives in pieces; `None` when it breaks.
fn cut(pieces: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match next_frame(&buffer) {
                Frame::NeedMore => break,
                Frame::KeepAlive { length, .. } => drop(buffer.drain(..length)),
                Frame::Message { length } => found.push(buffer.drain(..length).collect()),
                Frame::Malformed(_) => return None,
            }
        }
    }
    Some(found)
}

/// Everything that may stand on a stream: it declares its length, and that is right.
fn streamable() -> Vec<Vec<u8>> {
    let all = torture().into_iter().map(|(_, bytes)| bytes);
    let all = all.chain(PHONES.iter().map(|bytes| bytes.to_vec()));
    all.filter(
        |bytes| matches!(next_frame(bytes), Frame::Message { length } if length == bytes.len()),
    )
    .collect()
}

#[test]
fn every_segmentation_of_a_message_gives_the_same_message() {
    let set = streamable();
    assert!(set.len() >= 45, "only {} messages can stand on a stream", set.len());
    for message in &set {
        let whole = cut(&[message]).expect("it frames");
        assert_eq!(whole, std::slice::from_ref(message));
        for at in 1..message.len() {
            let (head, tail) = message.split_at(at);
            assert_eq!(cut(&[head, tail]).as_ref(), Some(&whole), "cut at {at}");
        }
    }
}

#[test]
fn pipelined_messages_come_out_the_same_in_pieces_of_any_size() {
    let set = streamable();
    let mut random = Random(0x5eed_0001);
    for round in 0..60 {
        let mut stream = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..6 {
            let message = &set[random.below(set.len())];
            stream.extend_from_slice(&b"\r\n\r\n\r\n"[..2 * random.below(4)]);
            stream.extend_from_slice(message);
            sent.push(message.clone());
        }
        let (mut pieces, mut rest): (Vec<&[u8]>, _) = (Vec::new(), &stream[..]);
        let most = [1, 2, 3, 7, 64, 1_000][round % 6];
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at((1 + random.below(most)).min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        assert_eq!(cut(&pieces), Some(sent), "round {round}, pieces of at most {most}");
    }
}
