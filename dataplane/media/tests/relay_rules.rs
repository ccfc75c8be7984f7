//! What else decides about a packet: its form, the direction, the other side, RTCP on which port.
//! Owns:  one test per rule of `relay` that is not about sources; the accounting property.
//! Gives: the counter of every drop.
//! Never: a clock or a socket.
//! Holds: accounting is checked with every packet (`packets::Desk`).

mod packets;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use media::edit::Remote;
use media::relay::{Component, Relays, Verdict};
use packets::{CALLEE, CALLER, DROPS, Desk, KEY, address, remote, rtcp, rtp, settings};
use proptest::prelude::*;
use shared::ids::{RelayKey, Side};
use shared::limits;
use shared::metrics::{Counter, Counters};
use shared::settings::MediaLock;
use shared::time::Instant;

fn drop_of(desk: &mut Desk, component: Component, packet: &[u8]) -> Option<Counter> {
    match desk.put(Side::Caller, component, address(CALLER), packet) {
        Verdict::Drop(reason) => Some(reason),
        Verdict::Forward { .. } => None,
    }
}

#[test]
fn what_is_neither_rtp_nor_rtcp_is_dropped() {
    let mut desk = Desk::talking(MediaLock::Strict);
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let dtls = [&[22, 0xfe, 0xfd][..], &[0; 40]].concat();
    let mut extension_too_long = rtp(1, 1);
    extension_too_long[0] |= 0x10;
    extension_too_long.truncate(14);
    let mut csrc_too_long = rtp(1, 1);
    csrc_too_long[0] |= 0x0f;
    csrc_too_long.truncate(40);
    let mut packet_type_72 = rtp(1, 1);
    packet_type_72[1] = 72;
    let mut report_too_long = rtcp();
    report_too_long[3] = 2;
    for packet in [
        &b""[..],
        b"\x80",
        &rtp(1, 1)[..11],
        &stun,
        &dtls,
        &extension_too_long,
        &csrc_too_long,
        &packet_type_72,
        &report_too_long,
        &rtcp()[..7],
    ] {
        let reason = drop_of(&mut desk, Component::Rtp, packet);
        assert_eq!(reason, Some(Counter::RtpNotRtp), "{packet:02x?}");
    }
    assert_eq!(drop_of(&mut desk, Component::Rtcp, &rtp(1, 1)), Some(Counter::RtpNotRtp));
    assert_eq!(drop_of(&mut desk, Component::Rtp, &rtp(1, 1)[..12]), None);
}

#[test]
fn packets_beyond_the_limit_are_dropped() {
    let mut desk = Desk::talking(MediaLock::Strict);
    let mut packet = rtp(1, 1);
    packet.resize(limits::RTP_PACKET_BYTES_MAX, 0);
    assert_eq!(drop_of(&mut desk, Component::Rtp, &packet), None);
    packet.push(0);
    assert_eq!(drop_of(&mut desk, Component::Rtp, &packet), Some(Counter::RtpTooLong));
    assert_eq!(drop_of(&mut desk, Component::Rtcp, &packet), Some(Counter::RtpTooLong));
}

#[test]
fn a_side_that_may_not_send_or_receive_is_on_hold() {
    for (caller, callee, expected) in [
        // (may send, may receive) of each side, and whether caller to callee flows.
        ((true, true), (true, true), true),
        ((false, true), (true, true), false),
        ((true, true), (true, false), false),
        ((true, false), (false, true), true),
    ] {
        let mut desk = Desk::bare(MediaLock::Strict);
        let with = |text, (may_send, may_receive)| Remote { may_send, may_receive, ..remote(text) };
        desk.describe(Side::Caller, with(CALLER, caller));
        desk.describe(Side::Callee, with(CALLEE, callee));
        let verdict = desk.rtp(Side::Caller, CALLER, 1, 1);
        let wanted = if expected { Ok(address(CALLEE)) } else { Err(Counter::RtpOnHold) };
        assert_eq!(verdict, wanted);
        // RTCP flows on, whatever the direction (RFC 3264 5.1).
        assert!(desk.rtcp(Side::Caller, Component::Rtcp, "198.51.100.1:4001").is_ok());
    }
}

/// Keep-alives of a phone that only receives (RFC 6263) tell where it is.
#[test]
fn a_side_that_may_not_send_latches_all_the_same() {
    let mut desk = Desk::bare(MediaLock::Strict);
    desk.describe(Side::Caller, Remote { may_send: false, ..remote("10.0.0.2:4000") });
    desk.describe(Side::Callee, remote(CALLEE));
    desk.talk(Side::Caller, "198.51.100.77:61234", 1, 0..3);
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 1), Ok(address("198.51.100.77:61234")));
}

#[test]
fn a_side_without_a_usable_address_is_no_peer() {
    for unusable in
        ["0.0.0.0:6000", "203.0.113.9:0", "224.0.0.1:6000", "255.255.255.255:6000", "[::]:6000"]
    {
        let mut desk = Desk::bare(MediaLock::Strict);
        desk.describe(Side::Caller, remote(CALLER));
        assert_eq!(desk.rtp(Side::Caller, CALLER, 1, 0), Err(Counter::RtpNoPeer));
        desk.describe(Side::Callee, remote(unusable));
        assert_eq!(desk.rtp(Side::Caller, CALLER, 1, 1), Err(Counter::RtpNoPeer), "{unusable}");
        let report = desk.rtcp(Side::Caller, Component::Rtcp, "198.51.100.1:4001");
        if unusable != "203.0.113.9:0" {
            assert_eq!(report, Err(Counter::RtpNoPeer), "{unusable}");
        }
    }
}

fn muxed(text: &str) -> Remote {
    let plain = remote(text);
    Remote { rtcp: plain.rtp, ..plain }
}

/// RFC 5761: RTCP on the RTP port goes out there again only when the other side does the same.
#[test]
fn rtcp_leaves_through_the_port_that_the_other_side_expects() {
    let from_caller = (Side::Caller, CALLER);
    for (caller, callee, came, expected) in [
        (muxed(CALLER), muxed(CALLEE), Component::Rtp, (CALLEE, Component::Rtp)),
        (muxed(CALLER), remote(CALLEE), Component::Rtp, ("203.0.113.9:6001", Component::Rtcp)),
        (remote(CALLER), muxed(CALLEE), Component::Rtcp, (CALLEE, Component::Rtp)),
        (remote(CALLER), remote(CALLEE), Component::Rtcp, ("203.0.113.9:6001", Component::Rtcp)),
    ] {
        let mut desk = Desk::bare(MediaLock::Strict);
        desk.describe(Side::Caller, caller);
        desk.describe(Side::Callee, callee);
        let (side, rtp_from) = from_caller;
        let from = if came == Component::Rtp { rtp_from } else { "198.51.100.1:4001" };
        let verdict = desk.rtcp(side, came, from);
        assert_eq!(verdict, Ok((address(expected.0), expected.1)));
        assert_eq!(desk.counters.of(Counter::RtcpForwarded), 1);
    }
}

#[test]
fn muxed_rtcp_goes_to_and_comes_from_the_latched_source_only() {
    let mut desk = Desk::bare(MediaLock::Strict);
    desk.describe(Side::Caller, muxed("10.0.0.2:4000"));
    desk.describe(Side::Callee, muxed(CALLEE));
    let mapped = "198.51.100.77:61234";
    let early = desk.rtcp(Side::Caller, Component::Rtp, mapped);
    assert_eq!(early, Err(Counter::RtpOnProbation));
    desk.talk(Side::Caller, mapped, 1, 0..3);
    let heard = desk.rtcp(Side::Caller, Component::Rtp, mapped);
    assert_eq!(heard, Ok((address(CALLEE), Component::Rtp)));
    let foreign = desk.rtcp(Side::Caller, Component::Rtp, "198.51.100.77:61235");
    assert_eq!(foreign, Err(Counter::RtpSourceMismatch));
    let back = desk.rtcp(Side::Callee, Component::Rtp, CALLEE);
    assert_eq!(back, Ok((address(mapped), Component::Rtp)));
}

#[test]
fn packets_for_a_closed_relay_or_an_older_tenant_of_its_slot_reach_nobody() {
    let mut desk = Desk::talking(MediaLock::Strict);
    assert!(desk.relays.close(KEY).is_some());
    assert!(desk.relays.close(KEY).is_none());
    assert_eq!(desk.rtp(Side::Caller, CALLER, 1, 1), Err(Counter::RtpNoRelay));
    let newer = RelayKey { generation: KEY.generation + 1, ..KEY };
    desk.relays.open(desk.now, newer);
    desk.describe(Side::Callee, remote(CALLEE)); // An edit for the old tenant.
    assert_eq!(desk.rtp(Side::Caller, CALLER, 1, 2), Err(Counter::RtpNoRelay));
    assert!(desk.relays.close(KEY).is_none());
    assert_eq!(desk.relays.open_count(), 1);
}

#[test]
fn verdicts_say_whether_to_record() {
    let mut desk = Desk::talking(MediaLock::Strict);
    let mut recorded = |on| {
        desk.relays.set_recording(KEY, 2, on);
        let packet = rtp(1, 1);
        let verdict = desk.put(Side::Caller, Component::Rtp, address(CALLER), &packet);
        matches!(verdict, Verdict::Forward { record: true, .. })
    };
    assert_eq!([recorded(true), recorded(false), recorded(true)], [true, false, true]);
    let streams = desk.relays.close(KEY).expect("it was open");
    assert_eq!(
        streams.map(|s| (s.line, s.side)),
        [(2, Some(Side::Caller)), (2, Some(Side::Callee))]
    );
}

#[test]
fn the_quality_tells_what_each_side_sent() {
    let mut desk = Desk::talking(MediaLock::Strict);
    desk.talk(Side::Caller, CALLER, 1, 0..100);
    desk.talk(Side::Callee, CALLEE, 2, 0..40);
    desk.talk(Side::Callee, CALLEE, 2, 50..60);
    let [caller, callee] = desk.relays.close(KEY).expect("it was open");
    assert_eq!((caller.packets, caller.bytes, caller.forwarded), (100, 17_200, 100));
    assert_eq!((caller.lost, caller.jitter_us), (0, 0));
    assert_eq!((callee.packets, callee.lost, callee.forwarded), (50, 10, 50));
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (0..3_u8, 0..3_u16).prop_map(|(host, port)| {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)), 4_000 * port)
    })
}

fn any_remote() -> impl Strategy<Value = Remote> {
    (any_address(), any_address(), any::<[bool; 3]>()).prop_map(|(rtp, rtcp, flags)| {
        let [may_send, may_receive, relearn] = flags;
        Remote { rtp, rtcp, may_send, may_receive, held: false, relearn }
    })
}

fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0..3_u32, 0..20_u16).prop_map(|(ssrc, sequence)| rtp(ssrc, sequence)),
        1 => Just(rtcp()),
        1 => proptest::collection::vec(any::<u8>(), 0..64),
        1 => Just(vec![0x80; limits::RTP_PACKET_BYTES_MAX + 1]),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Packet(Side, Component, SocketAddr, Vec<u8>, u64),
    Remote(Side, Remote),
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let side = prop_oneof![Just(Side::Caller), Just(Side::Callee)];
    let component = prop_oneof![3 => Just(Component::Rtp), 1 => Just(Component::Rtcp)];
    prop_oneof![
        40 => (side.clone(), component, any_address(), any_packet(), 0..400_u64)
            .prop_map(|(s, c, a, p, wait)| Step::Packet(s, c, a, p, wait)),
        4 => (side, any_remote()).prop_map(|(side, remote)| Step::Remote(side, remote)),
        1 => Just(Step::Reopen),
    ]
}

fn any_lock() -> impl Strategy<Value = MediaLock> {
    prop_oneof![Just(MediaLock::Strict), Just(MediaLock::Relearn), Just(MediaLock::Off)]
}

proptest! {
    /// Received = forwarded + dropped, in the counters and in the qualities, whatever comes; and
    /// nothing is ever sent to an address that cannot be one of a phone.
    #[test]
    fn every_packet_is_accounted_for(
        lock in any_lock(),
        steps in proptest::collection::vec(any_step(), 1..300),
    ) {
        let mut desk = Desk::bare(lock);
        let (mut forwarded, mut mismatches, mut packets) = (0, 0, 0);
        let mut tally = |streams: [shared::cdr::StreamQuality; 2]| {
            for stream in streams {
                assert!(stream.forwarded <= stream.packets);
                forwarded += stream.forwarded;
                mismatches += stream.source_mismatches;
                packets += stream.packets;
            }
        };
        for step in steps {
            match step {
                Step::Packet(side, component, from, packet, wait) => {
                    desk.pass(wait);
                    let verdict = desk.put(side, component, from, &packet);
                    if let Verdict::Forward { to, .. } = verdict {
                        prop_assert!(to.port() != 0 && !to.ip().is_unspecified());
                    }
                }
                Step::Remote(side, remote) => desk.describe(side, remote),
                Step::Reopen => {
                    tally(desk.relays.close(KEY).expect("it is open"));
                    desk.relays.open(desk.now, KEY);
                }
            }
        }
        tally(desk.relays.close(KEY).expect("it is open"));
        prop_assert_eq!(desk.relays.open_count(), 0);
        let of = |counter| desk.counters.of(counter);
        let received = of(Counter::RtpReceived) + of(Counter::RtcpReceived);
        let sent = of(Counter::RtpForwarded) + of(Counter::RtcpForwarded);
        let dropped: u64 = DROPS.into_iter().map(of).sum();
        prop_assert_eq!(received, sent + dropped);
        prop_assert_eq!(forwarded, of(Counter::RtpForwarded));
        prop_assert_eq!(mismatches, of(Counter::RtpSourceMismatch));
        prop_assert!(packets <= of(Counter::RtpReceived));
    }

    /// Bytes from the network never panic and never move another relay's packets.
    #[test]
    fn hostile_bytes_are_only_ever_dropped_or_forwarded(
        packet in proptest::collection::vec(any::<u8>(), 0..2_200),
        side in prop_oneof![Just(Side::Caller), Just(Side::Callee)],
        on_rtcp in any::<bool>(),
    ) {
        let mut relays = Relays::new(settings(MediaLock::Strict));
        let mut counters = Counters::default();
        let now = Instant::from_millis(5);
        relays.open(now, KEY);
        relays.set_remote(now, KEY, Side::Caller, remote(CALLER));
        relays.set_remote(now, KEY, Side::Callee, remote(CALLEE));
        let component = if on_rtcp { Component::Rtcp } else { Component::Rtp };
        let from = address(if side == Side::Caller { CALLER } else { CALLEE });
        relays.handle_packet(now, KEY, side, component, from, &packet, &mut counters);
        let received = counters.of(Counter::RtpReceived) + counters.of(Counter::RtcpReceived);
        prop_assert_eq!(received, 1);
    }
}
