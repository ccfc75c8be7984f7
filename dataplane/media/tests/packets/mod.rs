//! What the tests of this crate send: RTP and RTCP packets, and a relay with two described sides.
//! Owns:  `Desk`, builders of packets and addresses, a small seeded random source.
//! Gives: verdicts with the accounting already checked.
//! Never: a clock or a socket.
//! Holds: every packet that goes through `Desk::put` is accounted for exactly once.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::time::Duration;

use media::edit::Remote;
use media::relay::{Component, Relays, Verdict};
use media::rtp::Header;
use shared::ask::MediaProxy;
use shared::ids::{RelayKey, Side};
use shared::metrics::{Counter, Counters};
use shared::settings::{MediaLock, MediaSettings};
use shared::time::Instant;

pub(crate) const KEY: RelayKey = RelayKey { slot: 5, generation: 3 };
pub(crate) const CALLER: &str = "198.51.100.1:4000";
pub(crate) const CALLEE: &str = "203.0.113.9:6000";

/// Why packets are dropped: all counters that a verdict may name.
pub(crate) const DROPS: [Counter; 9] = [
    Counter::RtpReplaced,
    Counter::RtpMuted,
    Counter::RtpNoPeer,
    Counter::RtpNoRelay,
    Counter::RtpNotRtp,
    Counter::RtpOnHold,
    Counter::RtpOnProbation,
    Counter::RtpSourceMismatch,
    Counter::RtpTooLong,
];

pub(crate) const fn settings(lock: MediaLock) -> MediaSettings {
    MediaSettings {
        lock,
        probation_packets: 3,
        rtp_timeout: Duration::from_secs(60),
        hold_timeout: Duration::from_secs(3_600),
        proxy: MediaProxy::Auto,
    }
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("a test names a socket address")
}

/// What an SDP with `c=` and `m=` of this address says, RTCP on the next port.
pub(crate) fn remote(rtp: &str) -> Remote {
    let rtp = address(rtp);
    let rtcp = SocketAddr::new(rtp.ip(), rtp.port().saturating_add(1));
    Remote { rtp, rtcp, may_send: true, may_receive: true, held: false, relearn: false }
}

pub(crate) fn rtp_with(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut packet = header.to_bytes().to_vec();
    packet.extend_from_slice(payload);
    packet
}

/// 20 ms of PCMU silence.
pub(crate) fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let timestamp = 160 * u32::from(sequence);
    let header = Header { marker: false, payload_type: 0, sequence, timestamp, ssrc };
    rtp_with(header, &[0xff; 160])
}

/// An empty receiver report.
pub(crate) fn rtcp() -> Vec<u8> {
    vec![0x80, 201, 0, 1, 0, 0, 0, 7]
}

/// One relay under test.
pub(crate) struct Desk {
    pub(crate) relays: Relays,
    pub(crate) counters: Counters,
    pub(crate) now: Instant,
}

impl Desk {
    /// An open relay of which nothing is known yet.
    pub(crate) fn bare(lock: MediaLock) -> Self {
        let (mut relays, now) = (Relays::new(settings(lock)), Instant::from_millis(1_000));
        relays.open(now, KEY);
        Self { relays, counters: Counters::default(), now }
    }

    /// Both sides described with public addresses.
    pub(crate) fn talking(lock: MediaLock) -> Self {
        let mut desk = Self::bare(lock);
        desk.describe(Side::Caller, remote(CALLER));
        desk.describe(Side::Callee, remote(CALLEE));
        desk
    }

    pub(crate) fn describe(&mut self, side: Side, remote: Remote) {
        self.relays.set_remote(self.now, KEY, side, remote);
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    /// Puts one packet in and checks that exactly one received and one outcome counter moved.
    pub(crate) fn put(
        &mut self,
        side: Side,
        component: Component,
        from: SocketAddr,
        packet: &[u8],
    ) -> Verdict {
        let before = self.counters.clone();
        let verdict = self.relays.handle_packet(
            self.now,
            KEY,
            side,
            component,
            from,
            packet,
            &mut self.counters,
        );
        let moved = |counter: Counter| self.counters.of(counter) - before.of(counter);
        let received = moved(Counter::RtpReceived) + moved(Counter::RtcpReceived);
        let forwarded = moved(Counter::RtpForwarded) + moved(Counter::RtcpForwarded);
        let dropped: u64 = DROPS.into_iter().map(moved).sum();
        assert_eq!(received, 1);
        match verdict {
            Verdict::Forward { .. } => assert_eq!((forwarded, dropped), (1, 0)),
            Verdict::Drop(reason) => {
                assert_eq!((forwarded, dropped, moved(reason)), (0, 1, 1));
            }
        }
        let all: u64 = Counter::ALL.iter().copied().map(moved).sum();
        assert_eq!(all, 2, "no other counter moves");
        verdict
    }

    /// One RTP packet; where it goes to, or why it does not.
    pub(crate) fn rtp(
        &mut self,
        side: Side,
        from: &str,
        ssrc: u32,
        sequence: u16,
    ) -> Result<SocketAddr, Counter> {
        match self.put(side, Component::Rtp, address(from), &rtp(ssrc, sequence)) {
            Verdict::Drop(reason) => Err(reason),
            Verdict::Forward { to, component, .. } => {
                assert_eq!(component, Component::Rtp);
                Ok(to)
            }
        }
    }

    /// One RTCP packet; where it goes to and from which socket, or why it does not.
    pub(crate) fn rtcp(
        &mut self,
        side: Side,
        component: Component,
        from: &str,
    ) -> Result<(SocketAddr, Component), Counter> {
        match self.put(side, component, address(from), &rtcp()) {
            Verdict::Drop(reason) => Err(reason),
            Verdict::Forward { to, component, .. } => Ok((to, component)),
        }
    }

    /// Packets of one source, 20 ms apart.
    pub(crate) fn talk(
        &mut self,
        side: Side,
        from: &str,
        ssrc: u32,
        sequences: std::ops::Range<u16>,
    ) -> Vec<Result<SocketAddr, Counter>> {
        sequences
            .map(|sequence| {
                self.pass(20);
                self.rtp(side, from, ssrc, sequence)
            })
            .collect()
    }
}

/// A seeded xorshift, so that a failing test fails again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
