//! Who may send into a relay: latching, probation, the source lock (SE7), NAT.
//! Owns:  one test per rule of `latch` and `peer`.
//! Gives: the reason for every held back packet.
//! Never: a clock or a socket.
//! Holds: accounting is checked with every packet (`packets::Desk`).

mod packets;

use media::edit::Remote;
use media::relay::Component;
use packets::{CALLEE, CALLER, Desk, KEY, address, remote};
use shared::ids::Side;
use shared::metrics::Counter;
use shared::settings::MediaLock;

const HELD: Result<std::net::SocketAddr, Counter> = Err(Counter::RtpOnProbation);
const FOREIGN: Result<std::net::SocketAddr, Counter> = Err(Counter::RtpSourceMismatch);

#[test]
fn the_address_of_the_sdp_latches_with_its_first_packet() {
    let mut desk = Desk::talking(MediaLock::Strict);
    assert_eq!(desk.rtp(Side::Caller, CALLER, 1, 1), Ok(address(CALLEE)));
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 1), Ok(address(CALLER)));
    assert_eq!(desk.rtp(Side::Caller, "198.51.100.1:4002", 1, 2), FOREIGN);
}

/// A phone behind NAT: private address in its SDP, packets from a mapped one.
#[test]
fn a_phone_behind_nat_is_sent_to_where_it_sends_from() {
    let mut desk = Desk::bare(MediaLock::Strict);
    desk.describe(Side::Caller, remote("192.168.1.20:4000"));
    desk.describe(Side::Callee, remote(CALLEE));
    let mapped = "198.51.100.77:61234";
    // Before the latch its SDP is all we know.
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 1), Ok(address("192.168.1.20:4000")));
    let heard = desk.talk(Side::Caller, mapped, 1, 1..5);
    assert_eq!(heard, [HELD, HELD, Ok(address(CALLEE)), Ok(address(CALLEE))]);
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 2), Ok(address(mapped)));
    let [caller, _] = desk.relays.close(KEY).expect("it was open");
    assert_eq!((caller.packets, caller.forwarded, caller.lost), (4, 2, 0));
    assert_eq!(caller.source_mismatches, 0);
}

#[test]
fn two_phones_behind_nat_hear_each_other() {
    let mut desk = Desk::bare(MediaLock::Strict);
    desk.describe(Side::Caller, remote("10.0.0.2:4000"));
    desk.describe(Side::Callee, remote("0.0.0.0:9"));
    let (a, b) = ("198.51.100.77:1025", "203.0.113.80:1026");
    desk.talk(Side::Caller, a, 1, 1..4);
    desk.talk(Side::Callee, b, 2, 1..4);
    assert_eq!(desk.rtp(Side::Caller, a, 1, 4), Ok(address(b)));
    assert_eq!(desk.rtp(Side::Callee, b, 2, 4), Ok(address(a)));
}

#[test]
fn probation_starts_again_with_another_ssrc_or_a_sequence_that_does_not_advance() {
    let mut desk = Desk::talking(MediaLock::Strict);
    let stranger = "192.0.2.50:5000";
    for (ssrc, sequence) in [(1, 10), (1, 11), (2, 12), (2, 13), (2, 13), (2, 5)] {
        assert_eq!(desk.rtp(Side::Caller, stranger, ssrc, sequence), HELD, "{ssrc} {sequence}");
    }
    assert_eq!(desk.rtp(Side::Caller, stranger, 2, 6), HELD);
    assert_eq!(desk.rtp(Side::Caller, stranger, 2, 7), Ok(address(CALLEE)));
}

#[test]
fn probation_passes_over_the_wrap_of_the_sequence() {
    let mut desk = Desk::talking(MediaLock::Strict);
    for (sequence, expected) in [(65_534, HELD), (65_535, HELD), (0, Ok(address(CALLEE)))] {
        assert_eq!(desk.rtp(Side::Caller, "192.0.2.50:5000", 1, sequence), expected);
    }
}

/// RTP bleed: one packet from each of many ports of a host, over and over, ten times as fast as the
/// phone; or from many hosts.
#[test]
fn a_spray_of_single_packets_neither_latches_nor_keeps_a_phone_out() {
    // Packets of strangers between two of the phone. Many hosts can keep it from a second packet
    // in time, but not from a third.
    for (one_host, between) in [(true, [10, 10, 10]), (false, [2, 20, 2])] {
        let mut desk = Desk::bare(MediaLock::Strict);
        desk.describe(Side::Caller, remote("192.168.1.20:4000"));
        desk.describe(Side::Callee, remote(CALLEE));
        let mut sprayed = 0_u16;
        let mut spray = |desk: &mut Desk, count: u16| {
            for _ in 0..count {
                sprayed += 1;
                let stranger = match one_host {
                    true => format!("192.0.2.66:{}", 1_024 + sprayed),
                    false => format!("192.0.{}.{}:5060", sprayed >> 8, sprayed & 0xff),
                };
                let verdict = desk.rtp(Side::Caller, &stranger, 99, sprayed);
                assert!(verdict == HELD || verdict == FOREIGN);
            }
        };
        for _ in 0..200 {
            desk.pass(10);
            spray(&mut desk, 10);
        }
        let mut heard = Vec::new();
        for (sequence, count) in (0..).zip(between) {
            let phone = "198.51.100.77:61234";
            heard.extend(desk.talk(Side::Caller, phone, 1, sequence..sequence + 1));
            spray(&mut desk, count);
        }
        assert_eq!(heard, [HELD, HELD, Ok(address(CALLEE))]);
    }
}

/// Before the other side has an SDP nobody is to be heard; whoever sprays then gains nothing.
#[test]
fn nobody_passes_probation_while_the_other_side_is_unknown() {
    let mut desk = Desk::bare(MediaLock::Strict);
    desk.describe(Side::Caller, remote("192.168.1.20:4000"));
    let sprayed = desk.talk(Side::Caller, "192.0.2.66:5000", 1, 0..50);
    assert!(sprayed.iter().all(|verdict| *verdict == Err(Counter::RtpNoPeer)));
    desk.describe(Side::Callee, remote(CALLEE));
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 1), Ok(address("192.168.1.20:4000")));
    assert_eq!(desk.rtp(Side::Caller, "192.0.2.66:5000", 1, 50), HELD);
}

#[test]
fn a_side_without_an_sdp_is_held_back() {
    let mut desk = Desk::bare(MediaLock::Strict);
    desk.describe(Side::Caller, remote(CALLER));
    let heard = desk.talk(Side::Callee, CALLEE, 2, 0..10);
    assert!(heard.iter().all(|verdict| *verdict == HELD));
}

#[test]
fn strict_never_lets_another_source_in_however_long_the_latched_one_is_silent() {
    let mut desk = Desk::talking(MediaLock::Strict);
    desk.talk(Side::Caller, CALLER, 1, 0..5);
    desk.pass(600_000);
    let heard = desk.talk(Side::Caller, "192.0.2.66:5000", 1, 5..505);
    assert!(heard.iter().all(|verdict| *verdict == FOREIGN));
    assert_eq!(desk.rtp(Side::Caller, CALLER, 1, 5), Ok(address(CALLEE)));
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 0), Ok(address(CALLER)));
    let [caller, callee] = desk.relays.close(KEY).expect("it was open");
    assert_eq!((caller.packets, caller.source_mismatches, caller.lost), (6, 500, 0));
    assert_eq!((callee.packets, callee.source_mismatches), (1, 0));
}

/// SE7: the SDP address is preferred. Whoever latched before the phone spoke is turned out, but not
/// by a single packet, whose source may be forged.
#[test]
fn the_address_of_the_sdp_takes_its_place_from_a_stranger_after_its_own_probation() {
    let mut desk = Desk::talking(MediaLock::Strict);
    desk.talk(Side::Caller, "192.0.2.66:5000", 9, 0..4);
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 1), Ok(address("192.0.2.66:5000")));
    let mut heard = Vec::new();
    for sequence in 0..4 {
        heard.extend(desk.talk(Side::Caller, CALLER, 1, sequence..sequence + 1));
        desk.talk(Side::Caller, "192.0.2.66:5000", 9, 4 + sequence..5 + sequence);
    }
    assert_eq!(heard, [FOREIGN, FOREIGN, Ok(address(CALLEE)), Ok(address(CALLEE))]);
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 2), Ok(address(CALLER)));
    assert_eq!(desk.rtp(Side::Caller, "192.0.2.66:5000", 9, 8), FOREIGN);
}

/// Another port of the SDP's own address (STUN, symmetric NAT) is nearer than another address.
#[test]
fn the_sdp_address_with_another_port_is_preferred_over_other_addresses() {
    let mut desk = Desk::talking(MediaLock::Strict);
    desk.talk(Side::Caller, "192.0.2.66:5000", 9, 0..4);
    desk.talk(Side::Caller, "198.51.100.1:31000", 1, 0..3);
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 1), Ok(address("198.51.100.1:31000")));
    let back = desk.talk(Side::Caller, "192.0.2.66:5000", 9, 4..14);
    assert!(back.iter().all(|verdict| *verdict == FOREIGN));
}

#[test]
fn relearn_lets_a_new_source_in_only_after_half_a_second_of_silence_and_its_own_probation() {
    let mut desk = Desk::talking(MediaLock::Relearn);
    desk.talk(Side::Caller, CALLER, 1, 0..5);
    let new = "192.0.2.80:7000";
    // The old source is silent from here on: 24 packets take 480 ms.
    let early = desk.talk(Side::Caller, new, 2, 0..24);
    assert!(early.iter().all(|verdict| *verdict == FOREIGN));
    let late = desk.talk(Side::Caller, new, 2, 24..28);
    assert_eq!(late, [FOREIGN, FOREIGN, Ok(address(CALLEE)), Ok(address(CALLEE))]);
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 3, 0), Ok(address(new)));
}

#[test]
fn relearn_forgets_a_probation_during_which_the_latched_source_spoke_again() {
    let mut desk = Desk::talking(MediaLock::Relearn);
    let new = "192.0.2.80:7000";
    desk.talk(Side::Caller, new, 2, 0..3);
    desk.pass(600);
    desk.talk(Side::Caller, "192.0.2.81:7000", 3, 0..2);
    assert!(desk.rtp(Side::Caller, new, 2, 3).is_ok());
    desk.pass(600);
    let heard = desk.talk(Side::Caller, "192.0.2.81:7000", 3, 2..5);
    assert_eq!(heard, [FOREIGN, FOREIGN, Ok(address(CALLEE))]);
}

#[test]
fn off_forwards_from_anyone_and_sends_to_the_latest() {
    let mut desk = Desk::talking(MediaLock::Off);
    for stranger in ["192.0.2.1:1000", "192.0.2.2:2000", "192.0.2.1:1000"] {
        assert_eq!(desk.rtp(Side::Caller, stranger, 1, 1), Ok(address(CALLEE)));
        assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 2), Ok(address(stranger)));
    }
}

#[test]
fn the_same_description_again_keeps_the_latch_and_relearn_forgets_it() {
    let mut desk = Desk::bare(MediaLock::Strict);
    let private = remote("192.168.1.20:4000");
    desk.describe(Side::Caller, private);
    desk.describe(Side::Callee, remote(CALLEE));
    let mapped = "198.51.100.77:61234";
    desk.talk(Side::Caller, mapped, 1, 0..3);
    desk.describe(Side::Caller, private);
    desk.describe(Side::Caller, Remote { may_receive: false, ..private });
    desk.describe(Side::Caller, private);
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 1), Ok(address(mapped)));
    desk.describe(Side::Caller, Remote { relearn: true, ..private });
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 2), Ok(private.rtp));
    assert_eq!(desk.rtp(Side::Caller, mapped, 1, 4), HELD);
}

#[test]
fn another_address_by_signalling_moves_the_stream_at_once() {
    let mut desk = Desk::talking(MediaLock::Strict);
    desk.talk(Side::Caller, CALLER, 1, 0..3);
    desk.describe(Side::Caller, remote("198.51.100.2:8000"));
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 1), Ok(address("198.51.100.2:8000")));
    assert_eq!(desk.rtp(Side::Caller, CALLER, 1, 3), HELD);
    assert_eq!(desk.rtp(Side::Caller, "198.51.100.2:8000", 1, 4), Ok(address(CALLEE)));
    assert_eq!(desk.rtp(Side::Caller, CALLER, 1, 5), FOREIGN);
}

/// RFC 3264 8.4: the hold of RFC 2543 names no address, so it moves nothing.
#[test]
fn an_old_hold_keeps_the_latch() {
    let mut desk = Desk::talking(MediaLock::Strict);
    desk.talk(Side::Caller, CALLER, 1, 0..3);
    desk.describe(Side::Caller, Remote { may_receive: false, ..remote("0.0.0.0:4000") });
    assert_eq!(desk.rtp(Side::Caller, CALLER, 1, 3), Ok(address(CALLEE)));
    assert_eq!(desk.rtp(Side::Caller, "192.0.2.66:5000", 1, 4), FOREIGN);
}

#[test]
fn rtcp_follows_the_address_of_the_latched_source() {
    let mut desk = Desk::bare(MediaLock::Strict);
    desk.describe(Side::Caller, remote("192.168.1.20:4000"));
    desk.describe(Side::Callee, remote(CALLEE));
    let to_callee = (address("203.0.113.9:6001"), Component::Rtcp);
    // Not latched, and not the address of the SDP.
    let held = desk.rtcp(Side::Caller, Component::Rtcp, "198.51.100.77:61235");
    assert_eq!(held, Err(Counter::RtpOnProbation));
    desk.talk(Side::Caller, "198.51.100.77:61234", 1, 0..3);
    // The private RTCP address is not reachable, and the mapped one is not known yet.
    let unknown = desk.rtcp(Side::Callee, Component::Rtcp, "203.0.113.9:6001");
    assert_eq!(unknown, Err(Counter::RtpNoPeer));
    let foreign = desk.rtcp(Side::Caller, Component::Rtcp, "192.0.2.66:5001");
    assert_eq!(foreign, Err(Counter::RtpSourceMismatch));
    let heard = desk.rtcp(Side::Caller, Component::Rtcp, "198.51.100.77:50007");
    assert_eq!(heard, Ok(to_callee));
    let other_port = desk.rtcp(Side::Caller, Component::Rtcp, "198.51.100.77:50008");
    assert_eq!(other_port, Err(Counter::RtpSourceMismatch));
    let back = desk.rtcp(Side::Callee, Component::Rtcp, "203.0.113.9:6001");
    assert_eq!(back, Ok((address("198.51.100.77:50007"), Component::Rtcp)));
}

#[test]
fn rtcp_from_the_address_of_the_sdp_passes_before_any_rtp() {
    let mut desk = Desk::talking(MediaLock::Strict);
    let heard = desk.rtcp(Side::Caller, Component::Rtcp, "198.51.100.1:4001");
    assert_eq!(heard, Ok((address("203.0.113.9:6001"), Component::Rtcp)));
    let [caller, _] = desk.relays.close(KEY).expect("it was open");
    assert_eq!(caller.packets, 0, "reports are not media");
}

/// When RTP moves to another host, its old RTCP source goes with it.
#[test]
fn a_latch_that_moves_to_another_address_takes_rtcp_along() {
    let mut desk = Desk::talking(MediaLock::Relearn);
    desk.talk(Side::Caller, CALLER, 1, 0..3);
    assert!(desk.rtcp(Side::Caller, Component::Rtcp, "198.51.100.1:4001").is_ok());
    desk.pass(600);
    desk.talk(Side::Caller, "192.0.2.80:7000", 2, 0..3);
    let gone = desk.rtcp(Side::Callee, Component::Rtcp, "203.0.113.9:6001");
    assert_eq!(gone, Err(Counter::RtpNoPeer));
    assert!(desk.rtcp(Side::Caller, Component::Rtcp, "192.0.2.80:7001").is_ok());
}

#[test]
fn ipv6_sources_latch_like_any_other() {
    let mut desk = Desk::bare(MediaLock::Strict);
    desk.describe(Side::Caller, remote("[2001:db8::1]:4000"));
    desk.describe(Side::Callee, remote(CALLEE));
    assert_eq!(desk.rtp(Side::Caller, "[2001:db8::1]:4000", 1, 1), Ok(address(CALLEE)));
    assert_eq!(desk.rtp(Side::Caller, "[2001:db8::2]:4000", 1, 2), FOREIGN);
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 2, 1), Ok(address("[2001:db8::1]:4000")));
}

/// A fork that lost keeps sending until its CANCEL arrives: it must not win the stream back from the
/// phone that answered, which sits behind NAT and has to pass a probation.
#[test]
fn a_source_that_signalling_moved_away_from_waits_for_the_new_one() {
    let mut desk = Desk::bare(MediaLock::Strict);
    desk.describe(Side::Caller, remote(CALLER));
    desk.describe(Side::Callee, remote("192.168.1.7:5000"));
    let (loser, winner) = ("203.0.113.50:5000", "203.0.113.60:5000");
    desk.talk(Side::Callee, loser, 7, 1..4);
    assert_eq!(desk.rtp(Side::Callee, loser, 7, 4), Ok(address(CALLER)));
    desk.describe(Side::Callee, Remote { relearn: true, ..remote("192.168.1.8:5000") });
    assert!(desk.talk(Side::Callee, loser, 7, 5..15).iter().all(|verdict| *verdict == HELD));
    let heard = desk.talk(Side::Callee, winner, 8, 1..4);
    assert_eq!(heard, [HELD, HELD, Ok(address(CALLER))]);
    assert_eq!(desk.rtp(Side::Callee, loser, 7, 15), FOREIGN);
}
