//! The WebSocket of one flow against the client side of the same library, and against raw bytes.
//! Owns:  a client that lives in memory.
//! Gives: proof of the handshake, of what frames may be, of closing and of pings.
//! Never: a socket or a clock.
//! Holds: what the client sends is cut into pieces of every size.

use super::*;

const ASKED: &str = "GET /ws HTTP/1.1\r\nHost: pbx.test\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn client() -> WebSocketContext {
    WebSocketContext::new(Role::Client, None)
}

/// What the client sends, as bytes.
fn said(client: &mut WebSocketContext, message: Message) -> Vec<u8> {
    let mut out = Vec::new();
    let mut pipe = Pipe { incoming: &mut &[][..], outgoing: &mut out };
    client.write(&mut pipe, message).expect("written");
    client.flush(&mut pipe).expect("written");
    out
}

/// What the client hears first in these bytes.
fn heard(client: &mut WebSocketContext, mut bytes: &[u8]) -> Message {
    let mut pipe = Pipe { incoming: &mut bytes, outgoing: &mut Vec::new() };
    client.read(&mut pipe).expect("a message")
}

/// Everything that `web` makes of these bytes in pieces of `size`, and what went out meanwhile.
fn read(web: &mut Web, bytes: &[u8], size: usize) -> (Vec<Heard>, Vec<u8>) {
    let (mut all, mut out) = (Vec::new(), Vec::new());
    for mut piece in bytes.chunks(size) {
        loop {
            let one = web.read("/ws", &mut piece, &mut out);
            let is_last = matches!(one, Heard::More | Heard::Over { .. } | Heard::Refused);
            if one != Heard::More {
                all.push(one);
            }
            if is_last {
                break;
            }
        }
    }
    (all, out)
}

fn opened() -> Web {
    let mut web = Web::new();
    let (all, out) = read(&mut web, ASKED.as_bytes(), 4_096);
    assert_eq!(all, [Heard::Upgraded]);
    assert!(out.starts_with(b"HTTP/1.1 101 "));
    web
}

fn message(bytes: &[u8]) -> Heard {
    Heard::Message(Bytes::copy_from_slice(bytes))
}

/// A masked frame with a mask of zeroes, which leaves the payload as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("short").to_be_bytes();
    let mut out = vec![first, 0x80 | 126, length[0], length[1], 0, 0, 0, 0];
    out.extend_from_slice(payload);
    out
}

#[test]
fn messages_come_out_as_they_went_in_however_the_stream_is_segmented() {
    let (mut client, long) = (client(), vec![b'x'; 40_000]);
    let mut bytes = ASKED.as_bytes().to_vec();
    for sent in [
        Message::Text("OPTIONS".into()),
        Message::Binary(Bytes::from_static(&[0xff, 0xfe])),
        Message::Ping(Bytes::from_static(b"there?")),
        Message::Binary(long.clone().into()),
    ] {
        bytes.extend(said(&mut client, sent));
    }
    // Pieces of the first fragments are as long as the whole is.
    for size in [1, 7, 1_000, 100_000] {
        let mut web = Web::new();
        let (all, out) = read(&mut web, &bytes, size);
        let wanted = [
            Heard::Upgraded,
            message(b"OPTIONS"),
            message(&[0xff, 0xfe]),
            Heard::Alive,
            message(&long),
        ];
        assert_eq!(all, wanted, "in pieces of {size}");
        let pong = out.windows(8).any(|part| part == b"\x8a\x06there?");
        assert!(pong, "the ping was not answered in pieces of {size}");
    }
}

#[test]
fn what_we_send_is_text_where_it_is_text() {
    let (mut client, web) = (client(), opened());
    for length in [0, 125, 126, 40_000] {
        let text = "x".repeat(length);
        let bytes = web.frame(text.as_bytes());
        assert_eq!(heard(&mut client, &bytes), Message::Text(text.into()));
    }
    let bytes = web.frame(&[0xff, 0]);
    assert_eq!(heard(&mut client, &bytes), Message::Binary(Bytes::from_static(&[0xff, 0])));
}

#[test]
fn fragments_are_one_message_and_control_frames_may_stand_between_them() {
    let mut web = opened();
    let bytes =
        [frame(0x01, b"OPT"), frame(0x00, b"IO"), frame(0x89, b""), frame(0x80, b"NS")].concat();
    let (all, _) = read(&mut web, &bytes, bytes.len());
    assert_eq!(all, [Heard::Alive, message(b"OPTIONS")]);
}

/// The client sees the close code of what it did.
#[test]
fn whoever_breaks_the_protocol_is_told_why_and_heard_no_more() {
    let half = vec![b'x'; SIP_MESSAGE_BYTES_MAX / 2 + 1];
    let mut long = vec![0x82, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0];
    long.extend([0; 4]);
    let mut endless = vec![0x82, 0x80 | 127];
    endless.extend([0xff; 12]);
    let cases: [(&str, Vec<u8>, u16); 10] = [
        ("not masked", vec![0x81, 2, b'h', b'i'], 1002),
        ("a frame that is too long", long, 1009),
        ("a length of 64 bits", endless, 1009),
        ("fragments that are too long", [frame(0x02, &half), frame(0x00, &half)].concat(), 1009),
        ("a reserved bit", frame(0xc1, b"x"), 1002),
        ("an operation that nobody knows", frame(0x83, b"x"), 1002),
        ("a fragment of nothing", frame(0x80, b"x"), 1002),
        ("a new message within one", [frame(0x01, b"x"), frame(0x81, b"y")].concat(), 1002),
        ("a fragmented ping", frame(0x09, b"x"), 1002),
        ("text that is none", frame(0x81, &[0xc3, 0x28]), 1007),
    ];
    for (what, bytes, code) in cases {
        let mut web = opened();
        let (all, out) = read(&mut web, &bytes, 4_096);
        assert_eq!(all.last(), Some(&Heard::Over { broken: true }), "{what}");
        assert_eq!(out, [&[0x88, 2][..], &code.to_be_bytes()].concat(), "{what}");
        assert!(!web.takes_messages() && web.say_goodbye().is_empty(), "{what}");
        let (all, out) = read(&mut web, &frame(0x81, b"more"), 4_096);
        assert_eq!((all, out), (vec![Heard::Over { broken: false }], Vec::new()), "{what}");
    }
}

#[test]
fn a_close_is_answered_and_ours_is_said_once() {
    let (mut web, mut client) = (opened(), client());
    let frame = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    let bytes = said(&mut client, Message::Close(Some(frame)));
    let (all, out) = read(&mut web, &bytes, 3);
    assert_eq!(all, [Heard::Over { broken: false }]);
    assert_eq!(out, b"\x88\x06\x03\xe8done");
    assert!(web.say_goodbye().is_empty());

    let mut web = opened();
    assert_eq!(web.say_goodbye(), b"\x88\x02\x03\xe9");
    assert!(web.say_goodbye().is_empty() && !web.takes_messages());
}

#[test]
fn a_client_is_pinged_every_25_seconds_and_dead_when_it_does_not_answer() {
    let at = |seconds: u64| Instant::from_millis(seconds * 1_000);
    let mut web = Web::new();
    assert_eq!(web.beat(at(0)), Beat::Nothing, "there is no WebSocket yet");
    let mut web = opened();
    let ping = Beat::Ping(vec![0x89, 0]);
    assert_eq!((web.beat(at(1)), web.beat(at(25))), (Beat::Nothing, Beat::Nothing));
    assert_eq!((web.beat(at(26)), web.beat(at(50))), (ping, Beat::Nothing));
    let (all, _) = read(&mut web, &frame(0x8a, b""), 100);
    assert_eq!(all, [Heard::Alive]);
    assert_eq!((web.beat(at(51)), web.beat(at(75))), (Beat::Ping(vec![0x89, 0]), Beat::Nothing));
    assert_eq!(web.beat(at(76)), Beat::Dead);
}

#[test]
fn a_request_that_drips_or_never_ends_is_bounded() {
    let mut web = Web::new();
    let (all, out) = read(&mut web, ASKED.as_bytes(), 1);
    assert_eq!((all, &out[..12]), (vec![Heard::Upgraded], &b"HTTP/1.1 101"[..]));
    let mut web = Web::new();
    let (all, out) = read(&mut web, &vec![b'x'; 100_000], 1_000);
    assert_eq!(all[0], Heard::Refused);
    assert!(out.starts_with(b"HTTP/1.1 431 "));
    let mut web = Web::new();
    let (all, out) = read(&mut web, ASKED.replace("/ws", "/").as_bytes(), 10);
    assert_eq!(all[0], Heard::Refused);
    assert!(out.starts_with(b"HTTP/1.1 404 "));
}

/// Numbers from a seed; the high bits are the good ones.
fn next_random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// Frames with true and false headers, cut anywhere: nothing panics, and after the end nothing comes.
#[test]
fn whatever_comes_is_read_or_ends_the_flow() {
    for seed in 0..3_000_u64 {
        let (mut web, mut state) = (opened(), seed);
        let mut bytes = Vec::new();
        for _ in 0..next_random(&mut state) % 6 {
            let payload: Vec<u8> = (0..next_random(&mut state) % 300).map(|n| n as u8).collect();
            let mut one =
                frame([0x81, 0x82, 0x01, 0x80, 0x89, 0x8a][next_random(&mut state) % 6], &payload);
            if next_random(&mut state).is_multiple_of(3) {
                let at = next_random(&mut state) % one.len().min(10);
                one[at] = next_random(&mut state) as u8;
            }
            bytes.extend(one);
        }
        let (all, out) = read(&mut web, &bytes, 1 + next_random(&mut state) % 200);
        let end = all.iter().position(|one| matches!(one, Heard::Over { .. }));
        let is_end = |one: &Heard| *one == Heard::Over { broken: false };
        assert!(end.is_none_or(|at| all[at + 1..].iter().all(is_end)), "seed {seed}: {all:?}");
        assert!(out.len() <= bytes.len() + 256, "seed {seed}: {} bytes", out.len());
    }
}
