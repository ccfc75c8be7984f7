//! WebSocket flows in the table: who is cut when, and that a slow reader is bounded.
//! Owns:  a client that is a plain socket.
//! Gives: proof of the time that a handshake, a message and a pong have.
//! Never: sleeps; time for the table is a number that the test moves.
//! Holds: every wait has a deadline.

use super::*;
use crate::sip_tcp::web_flow::Heard;

const ASKED: &[u8] = b"GET /ws HTTP/1.1\r\nHost: pbx.test\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n";

impl Bench {
    /// What the shell does with a piece of a WebSocket flow.
    pub(super) fn receive_web(&mut self, seat: Seat, mut piece: &[u8]) {
        let (now, mut whole) = (self.now, false);
        loop {
            let heard = self.tcp.hear(&mut self.ring, now, seat, &mut piece, &mut self.counters);
            whole |= heard != Heard::More;
            match heard {
                Heard::More => return self.tcp.read_out(seat, whole, now),
                Heard::Message(bytes) => self.received.push((seat, bytes.to_vec())),
                Heard::Alive | Heard::Upgraded => {}
                Heard::Over { .. } | Heard::Refused => {
                    return self.tcp.finish(&mut self.ring, now, self.tcp.key(seat));
                }
            }
        }
    }

    fn dial_web(&mut self) -> TcpStream {
        self.tcp.serve("/ws");
        let open = self.tcp.open_count();
        let stream = TcpStream::connect(self.at_ws).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        self.until("the connection is taken", |bench| bench.tcp.open_count() > open);
        stream
    }

    fn opened(&mut self) -> TcpStream {
        let mut stream = self.dial_web();
        let before = self.counters.of(Counter::WsHandshakes);
        stream.write_all(ASKED).expect("sent");
        self.until("it opened", |bench| bench.counters.of(Counter::WsHandshakes) > before);
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            self.turn();
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            answer.push(byte[0]);
        }
        stream
    }
}

#[test]
fn whoever_does_not_ask_to_the_end_is_cut_after_five_seconds() {
    let mut bench = Bench::new();
    let mut stream = bench.dial_web();
    stream.write_all(&ASKED[..40]).expect("sent");
    bench.turn();
    bench.advance(4);
    bench.turn();
    assert_eq!(bench.closed.len(), 0);
    bench.advance(1);
    bench.until("it was cut", |bench| bench.closed.len() == 1);
    assert!(ended(&mut stream));
    assert_eq!(bench.counters.of(Counter::WsHandshakesFailed), 1);
    assert_eq!(bench.counters.of(Counter::FlowsCut), 1);
}

#[test]
fn a_message_goes_back_over_the_flow_only_and_the_goodbye_is_the_last() {
    let mut bench = Bench::new();
    let mut stream = bench.opened();
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).expect("sent");
    bench.until("a message came", |bench| !bench.received.is_empty());
    let (seat, bytes) = bench.received[0].clone();
    assert_eq!(bytes, b"hi");
    let back = bench.tcp.source(seat).expect("an open flow").back();
    assert_eq!((back.transport, back.local), (Transport::Ws, bench.at_ws));
    let elsewhere = Destination { flow: None, ..back };
    bench.send(elsewhere, b"nobody listens there".to_vec());
    bench.turn();
    assert_eq!(bench.failed, [elsewhere]);
    bench.send(back, b"hello".to_vec());
    let key = back.flow.expect("a flow");
    bench.tcp.finish(&mut bench.ring, bench.now, key);
    bench.send(back, b"too late".to_vec());
    bench.until("it closed", |bench| bench.closed == [key]);
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("a clean end");
    assert_eq!(heard, b"\x81\x05hello\x88\x02\x03\xe9");
    assert_eq!(bench.failed, [elsewhere, back]);
}

#[test]
fn a_frame_that_drips_has_ten_seconds_and_a_ping_until_the_next_one() {
    let mut bench = Bench::new();
    let (mut slow, mut dead, mut alive) = (bench.opened(), bench.opened(), bench.opened());
    slow.write_all(&[0x81, 0xfe, 1]).expect("sent");
    let is_kept =
        |bench: &Bench| bench.tcp.flow(bench.tcp.seat_at(0)).unwrap().partial_since.is_some();
    bench.until("the start came", is_kept);
    bench.advance(9);
    bench.turn();
    assert_eq!(bench.closed.len(), 0);
    bench.advance(1);
    bench.until("the slow one is cut", |bench| bench.closed.len() == 1);
    assert!(ended(&mut slow));
    // They opened at 0 s, and the first look was at 9 s.
    bench.advance(24);
    bench.until("both are pinged", |bench| bench.counters.of(Counter::WsPings) == 2);
    for stream in [&mut dead, &mut alive] {
        bench.turn();
        let mut ping = [0; 2];
        stream.read_exact(&mut ping).expect("a ping");
        assert_eq!(ping, [0x89, 0]);
    }
    alive.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).expect("sent");
    let heard = bench.now;
    bench.until("the pong came", |bench| {
        bench.tcp.flow(bench.tcp.seat_at(2)).unwrap().heard == heard
    });
    bench.advance(25);
    bench.until("the dead one is cut", |bench| bench.closed.len() == 2);
    assert!(ended(&mut dead));
    assert_eq!(bench.counters.of(Counter::FlowsCut), 2);
    assert_eq!(bench.tcp.open_count(), 1);
}

#[test]
fn a_web_client_that_never_reads_is_cut_when_its_queue_is_full() {
    let mut bench = Bench::new();
    let mut stream = bench.opened();
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).expect("sent");
    bench.until("a message came", |bench| !bench.received.is_empty());
    let to = bench.tcp.source(bench.received[0].0).expect("open").back();
    let mut pushed = 0;
    while bench.closed.is_empty() {
        bench.send(to, vec![b'x'; 32_768]);
        bench.turn();
        pushed += 32_768;
        assert!(pushed < 64 << 20, "64 MiB are no queue any more");
    }
    assert_eq!(bench.counters.of(Counter::FlowsCut), 1);
}
