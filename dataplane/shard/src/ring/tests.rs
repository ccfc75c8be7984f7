//! The ring against real sockets of this machine's loopback.
//! Owns:  `Bench`, a ring with small groups that waits for what a test names.
//! Gives: proof of the promises in `mod.rs`.
//! Never: sleeps: every wait is for a completion, with a deadline.
//! Holds: nothing leaves 127.0.0.0/8.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::*;
use crate::bell::Bell;
use crate::pktinfo;
use token::Seat;

const DEADLINE: Duration = Duration::from_secs(5);
const MEDIA: Token = Token::Media { relay: Seat { index: 1, generation: 1 }, leg: 0 };

struct Bench {
    ring: Ring,
    media: Group,
    datagrams: Group,
    streams: Group,
    bell: Bell,
}

impl Bench {
    /// Eight buffers per group.
    fn new() -> Self {
        let bell = Bell::new().expect("an eventfd");
        let media = Group::new(GROUP_MEDIA, 8, 512).expect("memory");
        let datagrams = Group::new(GROUP_DATAGRAMS, 8, 2_048).expect("memory");
        let streams = Group::new(GROUP_STREAMS, 8, 4_096).expect("memory");
        let ring = Ring::new(bell.as_fd(), &[&media, &datagrams, &streams]).expect("a ring");
        Self { ring, media, datagrams, streams, bell }
    }

    /// Waits until `count` completions came.
    fn take(&mut self, count: usize) -> Vec<Completion> {
        let give_up_at = Instant::now() + DEADLINE;
        let mut taken = Vec::new();
        while taken.len() < count {
            assert!(Instant::now() < give_up_at, "{} of {count} came: {taken:?}", taken.len());
            self.ring.enter().expect("enter");
            let before = taken.len();
            self.ring.reap(count - before, &mut taken);
            if taken.len() == before {
                self.ring.wait(1, Duration::from_millis(100)).expect("wait");
            }
        }
        taken
    }

    fn take_one(&mut self) -> Completion {
        self.take(1).pop().expect("one was asked for")
    }

    /// Whatever is there now.
    fn take_ready(&mut self) -> Vec<Completion> {
        let mut taken = Vec::new();
        self.ring.enter().expect("enter");
        self.ring.reap(usize::MAX, &mut taken);
        taken
    }
}

fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    socket
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("bound")
}

#[test]
fn a_datagram_comes_with_its_sender_and_one_that_is_too_long_says_so() {
    let mut bench = Bench::new();
    let (ours, peer) = (udp(), udp());
    bench.ring.receive_datagrams(ours.as_fd(), Shape::Plain, GROUP_MEDIA, MEDIA).expect("room");
    bench.ring.enter().expect("enter");
    peer.send_to(b"short", address(&ours)).expect("sent");
    peer.send_to(&[7; 600], address(&ours)).expect("sent");
    for expected in [&b"short"[..], &[7; 512 - 44]] {
        let completion = bench.take_one();
        assert!(completion.more && completion.token == MEDIA);
        let loan = completion.loan.expect("a buffer");
        let datagram = bench.media.datagram(&loan, Shape::Plain).expect("a datagram");
        assert_eq!(datagram.from, address(&peer));
        assert_eq!(datagram.payload, expected);
        assert_eq!(datagram.truncated, expected.len() > 100);
        bench.media.give_back(loan);
    }
}

#[test]
fn a_packet_is_forwarded_from_its_receive_buffer_and_the_buffer_comes_back() {
    let mut bench = Bench::new();
    let (ours, out, peer) = (udp(), udp(), udp());
    bench.ring.receive_datagrams(ours.as_fd(), Shape::Plain, GROUP_MEDIA, MEDIA).expect("room");
    bench.ring.enter().expect("enter");
    // More packets than buffers: each buffer has to come back.
    for number in 0..40_u8 {
        peer.send_to(&[number; 172], address(&ours)).expect("sent");
        let loan = bench.take_one().loan.expect("a buffer");
        bench.ring.forward(out.as_fd(), address(&peer), &bench.media, loan).expect("room");
        assert!(bench.ring.released().is_none(), "it is not submitted yet");
        bench.ring.enter().expect("enter");
        let Some(Released::Loan(loan)) = bench.ring.released() else { panic!("no loan") };
        bench.media.give_back(loan);
        let mut packet = [0; 200];
        let (length, from) = peer.recv_from(&mut packet).expect("forwarded");
        assert_eq!((&packet[..length], from), (&[number; 172][..], address(&out)));
    }
    assert!(bench.take_ready().is_empty(), "a send that went out says nothing");
}

#[test]
fn a_group_that_ran_dry_ends_the_receive_and_goes_on_when_buffers_are_back() {
    let mut bench = Bench::new();
    let (ours, peer) = (udp(), udp());
    bench.ring.receive_datagrams(ours.as_fd(), Shape::Plain, GROUP_MEDIA, MEDIA).expect("room");
    bench.ring.enter().expect("enter");
    for number in 0..12_u8 {
        peer.send_to(&[number], address(&ours)).expect("sent");
    }
    let mut completions = bench.take(9);
    let dry = completions.pop().expect("nine");
    assert_eq!((dry.result, dry.more, dry.loan.is_none()), (-libc::ENOBUFS, false, true));
    for completion in completions {
        bench.media.give_back(completion.loan.expect("a buffer"));
    }
    bench.ring.receive_datagrams(ours.as_fd(), Shape::Plain, GROUP_MEDIA, MEDIA).expect("room");
    for number in 8..12_u8 {
        let loan = bench.take_one().loan.expect("a buffer");
        let datagram = bench.media.datagram(&loan, Shape::Plain).expect("a datagram");
        assert_eq!(datagram.payload, [number], "the socket kept what found no buffer");
        bench.media.give_back(loan);
    }
}

#[test]
fn a_cancelled_receive_ends_under_its_own_token_and_frees_the_port() {
    let mut bench = Bench::new();
    let ours = udp();
    let at = address(&ours);
    bench.ring.receive_datagrams(ours.as_fd(), Shape::Plain, GROUP_MEDIA, MEDIA).expect("room");
    bench.ring.enter().expect("enter");
    bench.ring.cancel(MEDIA).expect("room");
    bench.ring.retire(ours.into());
    let completion = bench.take_one();
    assert_eq!((completion.token, completion.result), (MEDIA, -libc::ECANCELED));
    assert!(!completion.more && completion.loan.is_none());
    assert!(matches!(bench.ring.released(), Some(Released::Socket(_))));
    UdpSocket::bind(at).expect("the port is free");
}

#[test]
fn a_wildcard_socket_knows_and_keeps_the_address_it_was_reached_at() {
    let local: [IpAddr; 2] = ["127.0.0.9", "::1"].map(|text| text.parse().expect("an address"));
    for reached in local {
        let any = if reached.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        // A machine may have IPv6 switched off.
        let Ok(peer) = UdpSocket::bind((reached, 0)) else { continue };
        peer.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let ours = UdpSocket::bind(any).expect("a port");
        pktinfo::enable(ours.as_fd(), reached.is_ipv4()).expect("PKTINFO");
        answer_from_where_it_came_to(&ours, &peer, reached);
    }
}

fn answer_from_where_it_came_to(ours: &UdpSocket, peer: &UdpSocket, reached: IpAddr) {
    let mut bench = Bench::new();
    let token = Token::Datagram { listener: 0 };
    let (shape, group) = (Shape::WithControl, GROUP_DATAGRAMS);
    bench.ring.receive_datagrams(ours.as_fd(), shape, group, token).expect("room");
    bench.ring.enter().expect("enter");
    let reached = SocketAddr::new(reached, address(ours).port());
    peer.send_to(b"OPTIONS", reached).expect("sent");
    let loan = bench.take_one().loan.expect("a buffer");
    let datagram = bench.datagrams.datagram(&loan, shape).expect("a datagram");
    assert_eq!((datagram.payload, datagram.from), (&b"OPTIONS"[..], address(peer)));
    let local = pktinfo::read_local(datagram.control).expect("a local address");
    assert_eq!(local, reached.ip());
    let token = Token::DatagramSend(Seat { index: 0, generation: 0 });
    let answer = Rc::new(b"200".to_vec());
    let from = Some(local);
    bench.ring.send_datagram(ours.as_fd(), datagram.from, from, answer, token).expect("room");
    bench.ring.enter().expect("enter");
    let mut bytes = [0; 16];
    let (length, from) = peer.recv_from(&mut bytes).expect("answered");
    assert_eq!((&bytes[..length], from), (&b"200"[..], reached));
    bench.datagrams.give_back(loan);
}

#[test]
fn a_send_that_fails_says_which_one_it_was() {
    let mut bench = Bench::new();
    let ours = udp();
    let seat = Seat { index: 3, generation: 77 };
    let too_long = Rc::new(vec![0; 65_508]); // one byte beyond the longest UDP payload
    let to = address(&ours);
    bench
        .ring
        .send_datagram(ours.as_fd(), to, None, too_long, Token::DatagramSend(seat))
        .expect("room");
    let completion = bench.take_one();
    assert_eq!(completion.token, Token::DatagramSend(seat));
    assert_eq!(completion.result, -libc::EMSGSIZE);
    assert!(matches!(bench.ring.released(), Some(Released::Bytes(_))));
}

#[test]
fn more_requests_than_the_queue_has_places_all_go_out_in_order() {
    let mut bench = Bench::new();
    // Several readers, or a full queue submitted at once would overflow the socket buffer of one.
    let (ours, peers) = (udp(), [(); 8].map(|()| udp()));
    for number in 0..3 * ENTRIES {
        let to = address(&peers[number as usize % peers.len()]);
        let token = Token::DatagramSend(Seat { index: 0, generation: number });
        let bytes = Rc::new(number.to_be_bytes().to_vec());
        bench.ring.send_datagram(ours.as_fd(), to, None, bytes, token).expect("room");
        // What a full queue made the ring submit is read before the next round.
        if number % ENTRIES == ENTRIES - 1 {
            bench.ring.enter().expect("enter");
            for expected in number + 1 - ENTRIES..=number {
                let mut bytes = [0; 4];
                let peer = &peers[expected as usize % peers.len()];
                peer.recv_from(&mut bytes).expect("it was sent");
                assert_eq!(u32::from_be_bytes(bytes), expected);
            }
        }
    }
    let extra = Rc::new(vec![0; 4]);
    for _ in 0..ENTRIES + 1 {
        let token = Token::DatagramSend(Seat { index: 0, generation: 0 });
        let to = address(&peers[0]);
        bench.ring.send_datagram(ours.as_fd(), to, None, Rc::clone(&extra), token).expect("room");
    }
    assert_eq!(bench.ring.uring.submission().len(), 1, "the full queue was submitted for the last");
    bench.ring.enter().expect("enter");
    while bench.ring.released().is_some() {}
    assert_eq!(Rc::strong_count(&extra), 1, "nothing is held once all is submitted");
}

#[test]
fn an_operation_that_we_do_not_use_is_refused_by_the_kernel() {
    let mut bench = Bench::new();
    let entry = opcode::Nop::new().build().user_data(Token::Cancel.pack());
    bench.ring.push(entry).expect("room");
    assert_eq!(bench.take_one().result, -libc::EACCES);
}

#[test]
fn a_listener_delivers_connections_and_a_stream_is_sent_whole() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    bench.ring.accept(listener.as_fd(), Token::Accept { listener: 0 }).expect("room");
    bench.ring.enter().expect("enter");
    let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let completion = bench.take_one();
    let accepted = completion.accepted.expect("a connection");
    assert!(completion.more);

    // Far more than the socket buffers hold: the kernel has to wait for the reader.
    let bytes: Rc<Vec<u8>> = Rc::new((0..8_000_000_u32).map(|n| (n % 251) as u8).collect());
    let token = Token::FlowSend(Seat { index: 0, generation: 0 });
    bench.ring.send_stream(accepted.as_fd(), &bytes, 0, token).expect("room");
    bench.ring.enter().expect("enter");
    assert_eq!(Rc::strong_count(&bytes), 2, "the ring holds what the kernel still reads");
    let length = bytes.len();
    let reader = std::thread::spawn(move || {
        let mut read = vec![0; length];
        let mut peer = peer;
        peer.read_exact(&mut read).map(|()| read)
    });
    let completion = bench.take_one();
    assert_eq!((completion.token, completion.result), (token, bytes.len() as i32));
    assert_eq!(Rc::strong_count(&bytes), 1);
    let read = reader.join().expect("it did not panic").expect("it read all");
    assert!(read == *bytes, "in order and complete");
}

#[test]
fn a_refused_connection_reports_it() {
    let mut bench = Bench::new();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = free.local_addr().expect("bound");
    drop(free);
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let token = Token::Connect(Seat { index: 5, generation: 2 });
    bench.ring.connect(socket.as_fd(), nobody, token).expect("room");
    let completion = bench.take_one();
    assert_eq!((completion.token, completion.result), (token, -libc::ECONNREFUSED));
}

#[test]
fn the_bell_rings_for_completions_unless_it_is_off() {
    let mut bench = Bench::new();
    let (ours, peer) = (udp(), udp());
    bench.ring.receive_datagrams(ours.as_fd(), Shape::Plain, GROUP_MEDIA, MEDIA).expect("room");
    bench.ring.enter().expect("enter");
    let rung = |bench: &Bench| {
        let mut poll =
            libc::pollfd { fd: bench.bell.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        #[allow(unsafe_code)]
        // SAFETY: one pollfd, ours, and a count of one; a safe read would block.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        ready == 1
    };
    bench.ring.set_bell(false);
    peer.send_to(b"1", address(&ours)).expect("sent");
    let first = bench.take_one();
    assert!(!rung(&bench), "it is off");
    bench.ring.set_bell(true);
    assert!(!bench.ring.has_work());
    peer.send_to(b"2", address(&ours)).expect("sent");
    let second = bench.take_one();
    assert!(rung(&bench), "it is on");
    for completion in [first, second] {
        bench.media.give_back(completion.loan.expect("a buffer"));
    }
}

#[test]
fn a_stream_that_ends_says_so_without_a_buffer() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (ours, _) = listener.accept().expect("a connection");
    let token = Token::FlowReceive(Seat { index: 0, generation: 0 });
    bench.ring.receive_stream(ours.as_fd(), token).expect("room");
    bench.ring.enter().expect("enter");
    drop(peer);
    let completion = bench.take_one();
    assert_eq!((completion.result, completion.more), (0, false));
    if let Some(loan) = completion.loan {
        bench.streams.give_back(loan);
    }
}
