//! The flow table against real connections on 127.0.0.1.
//! Owns:  `Bench`, a ring, a table and what came out of it.
//! Gives: proof of limits, of order, and that a seat's next tenant never hears of the last one.
//! Never: sleeps; time for the table is a number that the test moves.
//! Holds: every wait has a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

mod mutual;
mod sealed;
mod web_flows;

use super::*;
use crate::bell::Bell;
use crate::listeners::{self, Addresses};
use crate::ring::buffers::{Group, Shape};
use crate::ring::{Completion, GROUP_DATAGRAMS, GROUP_MEDIA, GROUP_STREAMS};

const DEADLINE: Duration = Duration::from_secs(5);

/// What the shell answers by itself (RFC 5626 4.4.1).
const PING: &[u8] = b"\r\n\r\n";

struct Bench {
    ring: Ring,
    streams: Group,
    tcp: SipTcp,
    at: SocketAddr,
    at_tls: SocketAddr,
    at_ws: SocketAddr,
    counters: Counters,
    now: Instant,
    /// What flows delivered, in order.
    received: Vec<(Seat, Vec<u8>)>,
    closed: Vec<FlowKey>,
    failed: Vec<Destination>,
    unshaken: Vec<HandshakeFailure>,
    proved: Vec<Vec<Box<str>>>,
    sent: usize,
}

impl Bench {
    fn new() -> Self {
        Self::with_keys(None)
    }

    fn with_keys(keys: Option<Arc<Keys>>) -> Self {
        let bell = Bell::new().expect("an eventfd");
        let streams = Group::new(GROUP_STREAMS, 16, 16_384).expect("memory");
        let media = Group::new(GROUP_MEDIA, 2, 512).expect("memory");
        let datagrams = Group::new(GROUP_DATAGRAMS, 2, 512).expect("memory");
        let ring = Ring::new(bell.as_fd(), &[&streams, &media, &datagrams]).expect("a ring");
        assert_eq!(Shape::Plain.control_bytes(), 0);
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let at = Addresses { tcp: &[any], tls: &[any], ws: &[any], ..Addresses::default() };
        let listeners = listeners::open(at, 1).expect("ports").remove(0);
        let at = listeners.tcp[0].local;
        let at_tls = listeners.tls[0].local;
        let at_ws = listeners.ws[0].local;
        let mut bench = Self {
            ring,
            streams,
            tcp: SipTcp::new(ShardId(3), listeners, keys),
            at,
            at_tls,
            at_ws,
            counters: Counters::default(),
            now: Instant::from_millis(60_000),
            received: Vec::new(),
            closed: Vec::new(),
            failed: Vec::new(),
            unshaken: Vec::new(),
            proved: Vec::new(),
            sent: 0,
        };
        bench.tcp.listen(&mut bench.ring);
        bench
    }

    /// One round of what the shell does with the completions of flows.
    fn turn(&mut self) {
        let mut batch = Vec::new();
        self.tcp.arm(&mut self.ring);
        self.ring.enter().expect("enter");
        while self.ring.released().is_some() {}
        self.ring.reap(64, &mut batch);
        for completion in batch {
            self.complete(completion);
        }
        while let Some(news) = self.tcp.poll_news() {
            match news {
                News::Closed(key) => self.closed.push(key),
                News::Failed(to) => self.failed.push(to),
                News::HandshakeFailed(failure) => self.unshaken.push(*failure),
                News::Proved { names, .. } => self.proved.push(names),
                News::Sent(_) => self.sent += 1,
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Completion { token, result, more, loan, accepted } = completion;
        match token {
            Token::Accept { listener } => {
                let taken = (listener, accepted.expect("a connection"));
                self.tcp.accepted(&mut self.ring, self.now, taken, &mut self.counters);
            }
            Token::Connect(seat) => self.tcp.connected(&mut self.ring, self.now, seat, result),
            Token::FlowReceive(seat) => {
                if let Some(loan) = loan {
                    if self.tcp.source(seat).is_some() {
                        let bytes = self.streams.bytes(&loan).to_vec();
                        self.receive(seat, bytes);
                    }
                    self.streams.give_back(loan);
                }
                if !more {
                    let counters = &mut self.counters;
                    self.tcp.disarmed(&mut self.ring, seat, result > 0, counters);
                }
            }
            Token::FlowSend(seat) => self.tcp.sent(&mut self.ring, seat, result),
            Token::Cancel => {}
            other => panic!("{other:?}"),
        }
    }

    fn receive(&mut self, seat: Seat, bytes: Vec<u8>) {
        if self.tcp.is_web(seat) {
            return self.receive_web(seat, &bytes);
        }
        if !self.tcp.is_sealed(seat) {
            return self.received.push((seat, bytes));
        }
        let (mut stream, counters) = (Vec::new(), &mut self.counters);
        let over = self.tcp.unseal(&mut self.ring, self.now, seat, &bytes, &mut stream, counters);
        if stream == PING {
            self.tcp.answer_ping(&mut self.ring, seat, &mut self.counters);
        }
        if !stream.is_empty() {
            self.received.push((seat, stream));
        }
        if over {
            self.tcp.finish(&mut self.ring, self.now, self.tcp.key(seat));
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let give_up_at = std::time::Instant::now() + DEADLINE;
        loop {
            self.turn();
            if done(self) {
                return;
            }
            assert!(std::time::Instant::now() < give_up_at, "never: {what}");
            self.ring.wait(1, Duration::from_millis(20)).expect("wait");
        }
    }

    fn dial(&mut self) -> TcpStream {
        let open = self.tcp.open_count();
        let stream = TcpStream::connect(self.at).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        self.until("the connection is taken", |bench| bench.tcp.open_count() > open);
        stream
    }

    fn destination(&self, stream: &TcpStream) -> Destination {
        Destination {
            transport: Transport::Tcp,
            local: self.at,
            peer: stream.local_addr().expect("connected"),
            flow: None,
            shows: None,
        }
    }

    fn send(&mut self, to: Destination, bytes: Vec<u8>) {
        self.tcp.send(&mut self.ring, self.now, to, Rc::new(bytes), &mut self.counters);
    }

    fn advance(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.tcp.sweep(&mut self.ring, self.now, &mut self.counters);
    }
}

/// The peer sees the end of its connection, cleanly or as a reset.
fn ended(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn bytes_come_with_the_flow_they_came_over() {
    let mut bench = Bench::new();
    let mut stream = bench.dial();
    stream.write_all(b"hello").expect("sent");
    bench.until("bytes came", |bench| !bench.received.is_empty());
    let (seat, bytes) = bench.received[0].clone();
    assert_eq!(bytes, b"hello");
    let source = bench.tcp.source(seat).expect("an open flow");
    assert_eq!(source.peer, stream.local_addr().expect("connected"));
    assert_eq!((source.local, source.transport), (bench.at, Transport::Tcp));
    assert_eq!(source.flow.expect("a flow").shard, ShardId(3));
}

#[test]
fn messages_go_back_over_the_flow_in_order() {
    let mut bench = Bench::new();
    let mut stream = bench.dial();
    let to = bench.destination(&stream);
    for number in 0..100_u8 {
        bench.send(to, vec![number; 1_000]);
    }
    bench.until("all is sent", |bench| bench.sent == 100);
    let mut read = vec![0; 100_000];
    stream.read_exact(&mut read).expect("all of it");
    let in_order = read.chunks(1_000).enumerate().all(|(n, c)| c.iter().all(|b| *b == n as u8));
    assert!(in_order);
    assert_eq!(bench.tcp.open_count(), 1, "the peer's address leads to its flow");
}

#[test]
fn a_connection_is_opened_on_demand_once_and_reused() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let peer = listener.local_addr().expect("bound");
    let to =
        Destination { transport: Transport::Tcp, local: bench.at, peer, flow: None, shows: None };
    bench.send(to, b"one".to_vec());
    bench.send(to, b"two".to_vec());
    bench.until("both are sent", |bench| bench.sent == 2);
    bench.send(to, b"six".to_vec());
    bench.until("the third is sent", |bench| bench.sent == 3);
    let (mut stream, _) = listener.accept().expect("connected");
    let mut read = [0; 9];
    stream.read_exact(&mut read).expect("all three");
    assert_eq!(&read, b"onetwosix");
    listener.set_nonblocking(true).expect("non-blocking");
    assert!(listener.accept().is_err(), "there is no second connection");
    stream.write_all(b"answer").expect("sent");
    bench.until("the answer came", |bench| !bench.received.is_empty());
}

#[test]
fn a_refused_connection_fails_every_message_that_waited_for_it() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let peer = listener.local_addr().expect("bound");
    drop(listener);
    let to =
        Destination { transport: Transport::Tcp, local: bench.at, peer, flow: None, shows: None };
    bench.send(to, b"one".to_vec());
    bench.send(to, b"two".to_vec());
    bench.until("the flow closed", |bench| bench.closed.len() == 1);
    assert_eq!(bench.failed, [to, to]);
    assert_eq!(bench.tcp.open_count(), 0);
}

#[test]
fn a_connection_that_never_comes_up_is_given_up_after_five_seconds() {
    let mut bench = Bench::new();
    // A listener whose backlog is full drops further SYNs: they stay half open.
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a port");
    socket.listen(0).expect("listening");
    let peer = socket.local_addr().expect("bound").as_socket().expect("IPv4");
    let _fills_it = TcpStream::connect(peer).expect("the first one fits");
    let to =
        Destination { transport: Transport::Tcp, local: bench.at, peer, flow: None, shows: None };
    bench.send(to, b"never".to_vec());
    bench.turn();
    bench.advance(4);
    bench.turn();
    assert!(bench.failed.is_empty());
    bench.advance(1);
    bench.until("it was given up", |bench| bench.closed.len() == 1);
    assert_eq!(bench.failed, [to]);
}

#[test]
fn a_slow_reader_is_cut_when_its_queue_is_full() {
    let mut bench = Bench::new();
    let mut stream = bench.dial();
    let to = bench.destination(&stream);
    // The peer never reads: first the sockets' buffers fill up, then our queue.
    let mut pushed = 0;
    while bench.closed.is_empty() {
        bench.send(to, vec![7; 32_768]);
        bench.turn();
        pushed += 32_768;
        assert!(pushed < 64 << 20, "64 MiB are no queue any more");
    }
    assert_eq!(bench.counters.of(Counter::FlowsCut), 1);
    assert!(!bench.failed.is_empty(), "what was not sent is told");
    assert!(ended(&mut stream));
    bench.until("the ring let go", |bench| bench.tcp.free.len() == 1);
}

#[test]
fn one_source_has_so_many_flows_and_no_more() {
    let mut bench = Bench::new();
    let mut streams: Vec<TcpStream> =
        (0..limits::FLOWS_PER_SOURCE_MAX).map(|_| bench.dial()).collect();
    let mut refused = TcpStream::connect(bench.at).expect("the kernel takes it");
    refused.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    bench.until("it was refused", |bench| bench.counters.of(Counter::FlowsRefused) == 1);
    assert!(ended(&mut refused));
    // One that ends makes room for another.
    drop(streams.pop());
    bench.until("one ended", |bench| bench.closed.len() == 1);
    bench.dial();
    assert_eq!(bench.tcp.open_count(), limits::FLOWS_PER_SOURCE_MAX);
}

/// A proxy beside us, an office behind one address that the acl names, a trunk.
#[test]
fn a_known_source_may_have_many_flows() {
    let mut bench = Bench::new();
    bench.tcp.expect_sources(&shared::snapshot::Snapshot::default());
    let count = limits::FLOWS_PER_SOURCE_MAX + 8;
    let _streams: Vec<TcpStream> = (0..count).map(|_| bench.dial()).collect();
    assert_eq!(bench.tcp.open_count(), count);
    assert_eq!(bench.counters.of(Counter::FlowsRefused), 0);
}

#[test]
fn a_flow_is_told_to_be_closed_once_and_its_key_leads_nowhere_afterwards() {
    let mut bench = Bench::new();
    let mut stream = bench.dial();
    stream.write_all(b"x").expect("sent");
    bench.until("bytes came", |bench| !bench.received.is_empty());
    let seat = bench.received[0].0;
    let key = bench.tcp.key(seat);
    stream.shutdown(Shutdown::Both).expect("open");
    bench.until("the flow closed", |bench| bench.closed == [key]);
    bench.until("the ring let go", |bench| bench.tcp.free.len() == 1);

    let mut next = bench.dial();
    next.write_all(b"y").expect("sent");
    bench.until("bytes came", |bench| bench.received.len() == 2);
    let next_seat = bench.received[1].0;
    assert_eq!(next_seat.index, seat.index, "the same seat");
    assert_ne!(next_seat.generation, seat.generation, "another tenant");
    let mut to = bench.destination(&next);
    to.flow = Some(key);
    bench.send(to, b"for the dead".to_vec());
    bench.turn();
    assert_eq!(bench.failed, [to]);
    bench.tcp.finish(&mut bench.ring, bench.now, key);
    bench.turn();
    assert_eq!((bench.closed.len(), bench.tcp.open_count()), (1, 1));
}

#[test]
fn a_flow_that_shall_end_still_sends_what_is_queued() {
    let mut bench = Bench::new();
    let mut stream = bench.dial();
    let to = bench.destination(&stream);
    let seat = bench.tcp.seat_at(0);
    let key = bench.tcp.key(seat);
    bench.send(to, b"last words".to_vec());
    bench.tcp.finish(&mut bench.ring, bench.now, key);
    assert!(bench.tcp.source(seat).is_none(), "nothing is read any more");
    bench.until("it closed", |bench| bench.closed == [key]);
    let mut read = String::new();
    stream.read_to_string(&mut read).expect("a clean end");
    assert_eq!(read, "last words");
}

#[test]
fn idle_flows_and_unfinished_messages_are_cut_by_the_sweep() {
    let mut bench = Bench::new();
    let (mut idle, mut slow) = (bench.dial(), bench.dial());
    let slow_seat = bench.tcp.seat_at(1);
    bench.tcp.keep_partial(slow_seat, b"INVITE".to_vec(), false, bench.now);
    bench.advance(10);
    bench.until("the slow one is cut", |bench| bench.closed.len() == 1);
    assert!(ended(&mut slow));
    bench.advance(589);
    bench.turn();
    assert_eq!(bench.closed.len(), 1);
    bench.advance(1);
    bench.until("the idle one is cut", |bench| bench.closed.len() == 2);
    assert!(ended(&mut idle));
    assert_eq!(bench.counters.of(Counter::FlowsCut), 2);
}

#[test]
fn a_ping_is_answered_with_a_pong() {
    let mut bench = Bench::new();
    let mut stream = bench.dial();
    let seat = bench.tcp.seat_at(0);
    bench.tcp.answer_ping(&mut bench.ring, seat, &mut bench.counters);
    bench.turn();
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).expect("a pong");
    assert_eq!(&pong, b"\r\n");
    assert_eq!(bench.sent, 0, "the pong's buffer is not the core's");
}
