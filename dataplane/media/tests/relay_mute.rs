//! Mute: silence takes the place of what one side says, and of nothing else.
//! Owns:  one test per kind of packet that a muted side may send.
//! Gives: the verdicts; the replacement itself is tested in `rtp`.
//! Never: a clock or a socket.
//! Holds: accounting is checked with every packet (`packets::Desk`).

mod packets;

use media::edit::Mute;
use media::g711::Law;
use media::relay::{Component, Verdict};
use media::rtp::Header;
use packets::{CALLEE, CALLER, Desk, KEY, address, rtcp, rtp_with};
use shared::ids::Side;
use shared::metrics::Counter;
use shared::settings::MediaLock;

fn muted(mute: Mute) -> Desk {
    let mut desk = Desk::talking(MediaLock::Strict);
    desk.relays.set_mute(KEY, Side::Caller, mute);
    desk
}

/// The silence that replaces a packet of this payload type, or why it stays away.
fn fate(desk: &mut Desk, side: Side, from: &str, payload_type: u8) -> Result<Option<Law>, Counter> {
    let header = Header { payload_type, ..Header::default() };
    match desk.put(side, Component::Rtp, address(from), &rtp_with(header, &[1; 160])) {
        Verdict::Drop(reason) => Err(reason),
        Verdict::Forward { change, .. } => Ok(change.and_then(|change| change.silence)),
    }
}

#[test]
fn the_stream_of_a_muted_side_goes_on_as_silence() {
    let mut desk = muted(Mute::Silence);
    assert_eq!(fate(&mut desk, Side::Caller, CALLER, 0), Ok(Some(Law::U)));
    assert_eq!(fate(&mut desk, Side::Caller, CALLER, 8), Ok(Some(Law::A)));
    assert_eq!(fate(&mut desk, Side::Callee, CALLEE, 0), Ok(None), "the other side is heard");
    desk.relays.set_mute(KEY, Side::Caller, Mute::Off);
    assert_eq!(fate(&mut desk, Side::Caller, CALLER, 0), Ok(None));
}

/// G.722, comfort noise, and keys that the muted side presses: nothing of it is known silence.
#[test]
fn what_has_no_known_silence_stays_away() {
    let mut desk = muted(Mute::Silence);
    for payload_type in [9, 13, 96, 101] {
        let fate = fate(&mut desk, Side::Caller, CALLER, payload_type);
        assert_eq!(fate, Err(Counter::RtpMuted), "payload type {payload_type}");
    }
}

#[test]
fn an_encrypted_payload_is_not_replaced() {
    let mut desk = muted(Mute::Drop);
    assert_eq!(fate(&mut desk, Side::Caller, CALLER, 0), Err(Counter::RtpMuted));
}

#[test]
fn rtcp_of_a_muted_side_flows() {
    for mute in [Mute::Silence, Mute::Drop] {
        let mut desk = muted(mute);
        let verdict = desk.put(Side::Caller, Component::Rtp, address(CALLER), &rtcp());
        assert!(matches!(verdict, Verdict::Forward { change: None, .. }), "{verdict:?}");
    }
}

/// A muted phone is alive: its packets count, and keep the call from timing out.
#[test]
fn a_muted_side_is_not_a_silent_relay() {
    let mut desk = muted(Mute::Drop);
    for _ in 0..40 {
        desk.pass(2_000);
        assert_eq!(fate(&mut desk, Side::Caller, CALLER, 0), Err(Counter::RtpMuted));
        desk.relays.sweep(desk.now, |relay| panic!("{relay:?} is alive"));
    }
}
