//! Relay sockets against a real ring on 127.0.0.1.
//! Owns:  `Bench`, a ring with one relay's ports on it.
//! Gives: proof that packets find their leg and never a newer tenant's.
//! Never: sleeps.
//! Holds: every wait has a deadline.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use super::*;
use crate::bell::Bell;
use crate::ring::buffers::Group;
use crate::ring::{Completion, Released};

const DEADLINE: Duration = Duration::from_secs(5);
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Bench {
    ring: Ring,
    media: Group,
    sockets: RelaySockets,
}

impl Bench {
    fn new() -> Self {
        let bell = Bell::new().expect("an eventfd");
        let media = Group::new(GROUP_MEDIA, 16, 2_112).expect("memory");
        let ring = Ring::new(bell.as_fd(), &[&media]).expect("a ring");
        Self { ring, media, sockets: RelaySockets::default() }
    }

    /// Opens a relay on four ports that are free, and returns the first of them.
    fn open(&mut self, relay: RelayKey) -> u16 {
        for _ in 0..200 {
            let probe = UdpSocket::bind((LOCALHOST, 0)).expect("a port");
            let first = probe.local_addr().expect("bound").port() & !3;
            drop(probe);
            if first >= 1_024 && self.sockets.open(&mut self.ring, relay, &pairs(first)).is_ok() {
                self.ring.enter().expect("enter");
                return first;
            }
        }
        panic!("no four ports in a row are free");
    }

    fn take_one(&mut self) -> Completion {
        let give_up_at = std::time::Instant::now() + DEADLINE;
        let mut taken = Vec::new();
        loop {
            self.ring.enter().expect("enter");
            self.ring.reap(1, &mut taken);
            if let Some(completion) = taken.pop() {
                return completion;
            }
            assert!(std::time::Instant::now() < give_up_at, "nothing came");
            self.ring.wait(1, Duration::from_millis(100)).expect("wait");
        }
    }
}

fn pairs(first: u16) -> [LocalPair; 2] {
    [first, first + 2].map(|rtp_port| LocalPair { ip: LOCALHOST, rtp_port })
}

fn key(generation: u32) -> RelayKey {
    RelayKey { slot: 5, generation }
}

fn peer() -> UdpSocket {
    let socket = UdpSocket::bind((LOCALHOST, 0)).expect("a port");
    socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    socket
}

#[test]
fn legs_are_numbered_both_ways() {
    for leg in 0..4 {
        let (side, component) = side_and_component(leg);
        assert_eq!(leg_of(side, component), leg);
    }
    assert_eq!(side_and_component(0), (Side::Caller, Component::Rtp));
    assert_eq!(side_and_component(3), (Side::Callee, Component::Rtcp));
}

#[test]
fn a_packet_finds_its_leg_and_leaves_through_the_other_sides_port() {
    let mut bench = Bench::new();
    let first = bench.open(key(1));
    let (sender, receiver) = (peer(), peer());
    for leg in 0..4_u8 {
        sender.send_to(&[leg; 172], (LOCALHOST, first + u16::from(leg))).expect("sent");
        let completion = bench.take_one();
        let Token::Media { relay, leg: came_by } = completion.token else { panic!("no media") };
        assert_eq!((came_by, relay.generation, relay.index), (leg, 1, 5));
        let (side, component) = side_and_component(leg);
        let out = leg_of(side.other(), component);
        let socket = bench.sockets.socket(relay, out).expect("open");
        let loan = completion.loan.expect("a buffer");
        let to = receiver.local_addr().expect("bound");
        bench.ring.forward(socket, to, &bench.media, loan).expect("room");
        bench.ring.enter().expect("enter");
        let mut packet = [0; 200];
        let (length, from) = receiver.recv_from(&mut packet).expect("forwarded");
        assert_eq!((&packet[..length], from.port()), (&[leg; 172][..], first + u16::from(out)));
        let Some(Released::Loan(loan)) = bench.ring.released() else { panic!("no loan") };
        bench.media.give_back(loan);
    }
}

#[test]
fn a_late_packet_of_a_closed_relay_never_reaches_the_next_tenant() {
    let mut bench = Bench::new();
    let first = bench.open(key(1));
    let sender = peer();
    sender.send_to(b"for the first", (LOCALHOST, first)).expect("sent");
    bench.ring.wait(1, DEADLINE).expect("wait"); // its completion is there, and nobody took it
    assert!(bench.sockets.close(&mut bench.ring, key(1)));
    let second = bench.open(key(2));
    sender.send_to(b"for the second", (LOCALHOST, second)).expect("sent");
    let mut heard = Vec::new();
    while heard.is_empty() {
        let completion = bench.take_one();
        let Token::Media { relay, leg } = completion.token else { panic!("no media") };
        let live = bench.sockets.socket(relay, leg).is_some();
        assert_eq!(live, relay.generation == 2);
        let Some(loan) = completion.loan else { continue };
        let datagram = bench.media.datagram(&loan, Shape::Plain).expect("a datagram");
        if live {
            heard.push(datagram.payload.to_vec());
        }
        bench.media.give_back(loan);
    }
    assert_eq!(heard, [b"for the second"]);
}

#[test]
fn a_closed_relay_frees_its_ports_and_is_closed_once() {
    let mut bench = Bench::new();
    let first = bench.open(key(1));
    assert!(UdpSocket::bind((LOCALHOST, first)).is_err(), "the port is ours");
    assert!(!bench.sockets.close(&mut bench.ring, key(2)), "nobody's");
    assert!(bench.sockets.close(&mut bench.ring, key(1)));
    assert!(!bench.sockets.close(&mut bench.ring, key(1)), "already closed");
    for _ in 0..4 {
        let completion = bench.take_one();
        assert_eq!(completion.result, -libc::ECANCELED);
    }
    while bench.ring.released().is_some() {}
    for port in first..first + 4 {
        UdpSocket::bind((LOCALHOST, port)).expect("the port is free");
    }
}

#[test]
fn a_relay_opens_all_four_ports_or_none() {
    let mut bench = Bench::new();
    let first = bench.open(key(1));
    assert!(bench.sockets.close(&mut bench.ring, key(1)));
    for _ in 0..4 {
        bench.take_one();
    }
    while bench.ring.released().is_some() {}
    let taken = UdpSocket::bind((LOCALHOST, first + 3)).expect("the port is free");
    assert!(bench.sockets.open(&mut bench.ring, key(2), &pairs(first)).is_err());
    assert!(bench.sockets.socket(Seat { index: 5, generation: 2 }, 0).is_none());
    for port in first..first + 3 {
        UdpSocket::bind((LOCALHOST, port)).expect("nothing of it stayed bound");
    }
    drop(taken);
    bench.sockets.open(&mut bench.ring, key(3), &pairs(first)).expect("all four are free");
}
