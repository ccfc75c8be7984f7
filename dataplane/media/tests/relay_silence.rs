//! Media that stopped: which relays a sweep reports, and when (NW6).
//! Owns:  the tests of `Relays::sweep`.
//! Gives: virtual time, so that an hour costs nothing.
//! Never: a clock or a socket.
//! Holds: each silence is reported once.

mod packets;

use std::time::Duration;

use media::edit::Remote;
use media::relay::{Component, Relays};
use packets::{CALLEE, CALLER, Desk, KEY, Random, remote, settings};
use shared::ids::{RelayKey, Side};
use shared::settings::{MediaLock, MediaSettings};
use shared::time::Instant;

/// Sweeps once a second for so long, and gives the seconds at which the relay was reported.
fn reports(desk: &mut Desk, seconds: u64) -> Vec<u64> {
    let start = desk.now;
    let mut reports = Vec::new();
    for second in 1..=seconds {
        desk.now = start + Duration::from_secs(second);
        desk.relays.sweep(desk.now, |relay| {
            assert_eq!(relay, KEY);
            reports.push(second);
        });
    }
    reports
}

#[test]
fn silence_is_reported_once_after_the_time_out_from_the_last_packet() {
    let mut desk = Desk::talking(MediaLock::Strict);
    assert_eq!(reports(&mut desk, 50), [0; 0]);
    assert!(desk.rtp(Side::Caller, CALLER, 1, 1).is_ok());
    assert_eq!(reports(&mut desk, 400), [60]);
}

#[test]
fn a_relay_that_never_had_media_is_silent_from_its_opening() {
    let mut desk = Desk::bare(MediaLock::Strict);
    assert_eq!(reports(&mut desk, 200), [60]);
}

#[test]
fn a_relay_may_have_a_time_out_of_its_own() {
    let mut desk = Desk::talking(MediaLock::Strict);
    desk.relays.set_timeout(desk.now, KEY, Duration::from_secs(7));
    assert!(desk.rtp(Side::Caller, CALLER, 1, 1).is_ok());
    assert_eq!(reports(&mut desk, 60), [7]);
    desk.relays.set_timeout(desk.now, KEY, Duration::ZERO);
    assert!(desk.rtp(Side::Caller, CALLER, 1, 2).is_ok());
    assert!(reports(&mut desk, 400).is_empty(), "switched off");
}

#[test]
fn one_side_alone_keeps_the_call_alive() {
    let mut desk = Desk::talking(MediaLock::Strict);
    for sequence in 0..10 {
        assert!(desk.rtp(Side::Callee, CALLEE, 1, sequence).is_ok());
        assert_eq!(reports(&mut desk, 50), [0; 0]);
    }
}

#[test]
fn rtcp_is_a_sign_of_life() {
    let mut desk = Desk::talking(MediaLock::Strict);
    assert_eq!(reports(&mut desk, 50), [0; 0]);
    assert!(desk.rtcp(Side::Caller, Component::Rtcp, "198.51.100.1:4001").is_ok());
    assert_eq!(reports(&mut desk, 100), [60]);
}

/// Whoever sprays at the ports of a dead call does not keep it alive.
#[test]
fn packets_of_untrusted_sources_are_no_sign_of_life() {
    let mut desk = Desk::talking(MediaLock::Strict);
    assert!(desk.rtp(Side::Caller, CALLER, 1, 1).is_ok());
    assert_eq!(reports(&mut desk, 50), [0; 0]);
    assert!(desk.rtp(Side::Caller, "192.0.2.66:5000", 1, 2).is_err());
    assert_eq!(reports(&mut desk, 50), [10]);
}

#[test]
fn media_that_comes_back_and_stops_again_is_reported_again() {
    let mut desk = Desk::talking(MediaLock::Strict);
    assert_eq!(reports(&mut desk, 70), [60]);
    assert!(desk.rtp(Side::Caller, CALLER, 1, 1).is_ok());
    assert_eq!(reports(&mut desk, 200), [60]);
}

#[test]
fn a_hold_of_any_side_has_its_own_time_out() {
    for (may_send, may_receive) in [(false, true), (true, false), (false, false)] {
        for side in Side::BOTH {
            let mut desk = Desk::talking(MediaLock::Strict);
            let address = if side == Side::Caller { CALLER } else { CALLEE };
            desk.describe(side, Remote { may_send, may_receive, ..remote(address) });
            assert_eq!(reports(&mut desk, 4_000), [3_600]);
            desk.describe(side, remote(address));
            assert_eq!(reports(&mut desk, 100), [60], "the resume counts anew");
        }
    }
}

/// A session refresh (RFC 4028) repeats the SDP and says nothing about media.
#[test]
fn the_same_description_again_does_not_prolong_the_wait() {
    let mut desk = Desk::talking(MediaLock::Strict);
    assert_eq!(reports(&mut desk, 50), [0; 0]);
    desk.describe(Side::Caller, remote(CALLER));
    assert_eq!(reports(&mut desk, 50), [10]);
}

#[test]
fn a_new_address_counts_anew() {
    let mut desk = Desk::talking(MediaLock::Strict);
    assert_eq!(reports(&mut desk, 50), [0; 0]);
    desk.describe(Side::Caller, remote("198.51.100.2:4000"));
    assert_eq!(reports(&mut desk, 100), [60]);
}

#[test]
fn zero_switches_a_time_out_off() {
    let media = MediaSettings { rtp_timeout: Duration::ZERO, ..settings(MediaLock::Strict) };
    let mut relays = Relays::new(media);
    relays.open(Instant::ZERO, KEY);
    relays.sweep(Instant::from_millis(1 << 40), |_| panic!("switched off"));
    // The hold time-out is another one.
    relays.set_remote(
        Instant::ZERO,
        KEY,
        Side::Caller,
        Remote { may_send: false, ..remote(CALLER) },
    );
    let mut reports = 0;
    relays.sweep(Instant::from_millis(3_600_001), |_| reports += 1);
    assert_eq!(reports, 1);
}

/// Against a plain model: many relays, packets at random, a sweep every second.
#[test]
fn a_sweep_over_many_relays_reports_the_same_as_a_plain_model() {
    const RELAYS: u32 = 500;
    let (mut relays, mut random) = (Relays::new(settings(MediaLock::Strict)), Random(42));
    let mut counters = shared::metrics::Counters::default();
    let key = |slot| RelayKey { slot, generation: 1 };
    for slot in 0..RELAYS {
        relays.open(Instant::ZERO, key(slot));
        relays.set_remote(Instant::ZERO, key(slot), Side::Caller, remote(CALLER));
        relays.set_remote(Instant::ZERO, key(slot), Side::Callee, remote(CALLEE));
    }
    let mut alive = vec![Instant::ZERO; RELAYS as usize];
    let mut reported = vec![false; RELAYS as usize];
    for second in 1..=600_u64 {
        let now = Instant::from_millis(1_000 * second);
        for _ in 0..8 {
            let slot = random.below(u64::from(RELAYS));
            let slot = u32::try_from(slot).expect("a slot");
            relays.handle_packet(
                now,
                key(slot),
                Side::Caller,
                Component::Rtp,
                packets::address(CALLER),
                &packets::rtp(1, 1),
                &mut counters,
            );
            alive[slot as usize] = now;
            reported[slot as usize] = false;
        }
        let mut found = Vec::new();
        relays.sweep(now, |relay| found.push(relay.slot));
        let expected: Vec<u32> = (0..RELAYS)
            .filter(|&slot| {
                let silent = now - alive[slot as usize] >= Duration::from_secs(60);
                silent && !std::mem::replace(&mut reported[slot as usize], silent)
            })
            .collect();
        assert_eq!(found, expected, "after {second} s");
    }
}
