//! The gateway speaks into a relayed stream: the listener sees one stream, the other side is replaced.
//! Owns:  one test per rule of `speakers` as a shell sees them.
//! Gives: packets, verdicts and news, beat by beat.
//! Never: a clock or a socket.
//! Holds: what is replaced is counted, and nothing else is lost.

mod packets;

use media::edit::{Mute, Remote, Say};
use media::g711::Law;
use media::relay::{Component, Verdict};
use media::rtp::{Header, Packet};
use media::speakers::{NotSaid, SpeechNews, What};
use media::speech::{FRAME, Speech};
use packets::{CALLEE, CALLER, Desk, KEY, address, remote, rtp};
use shared::act::Samples;
use shared::ids::{RelayKey, Side};
use shared::limits::SPEAKERS_MAX;
use shared::metrics::Counter;
use shared::settings::MediaLock;

const SSRC: u32 = 0x77;

fn sound(token: u64, frames: usize) -> Say {
    let samples = Samples::new(vec![1_000; 160 * frames]);
    Say { token, seed: 9, speech: Speech::Sound { samples, law: Law::A, repeat: false } }
}

/// To whom, and the packet.
type Sent = (String, Header, Vec<u8>);

/// One beat: what was sent, to whom, and what was told.
fn beat(desk: &mut Desk) -> (Vec<Sent>, Vec<SpeechNews>) {
    let (mut sent, mut news) = (Vec::new(), Vec::new());
    desk.now = desk.now + FRAME;
    desk.relays.beat(
        desk.now,
        |spoken| {
            let packet = Packet::parse(spoken.packet).expect("it is RTP");
            sent.push((spoken.to.to_string(), packet.header, packet.payload.to_vec()));
        },
        |one| news.push(one),
    );
    (sent, news)
}

/// A packet of the caller on its way to the callee: its number there, or why it stays away.
fn passes(desk: &mut Desk, sequence: u16) -> Result<u16, Counter> {
    let mut packet = rtp(SSRC, sequence);
    match desk.put(Side::Caller, Component::Rtp, address(CALLER), &packet) {
        Verdict::Drop(reason) => Err(reason),
        Verdict::Forward { change, .. } => {
            if let Some(change) = change {
                change.apply(&mut packet);
            }
            Ok(Header::parse(&packet).expect("still RTP").sequence)
        }
    }
}

fn talking() -> Desk {
    let mut desk = Desk::talking(MediaLock::Strict);
    for sequence in 100..103 {
        desk.pass(20);
        assert_eq!(passes(&mut desk, sequence), Ok(sequence));
    }
    desk
}

#[test]
fn the_listener_hears_one_unbroken_stream() {
    let mut desk = talking();
    assert_eq!(desk.relays.say(desk.now, KEY, Side::Callee, sound(1, 3)), None);
    assert!(desk.relays.is_speaking());
    let mut numbers = Vec::new();
    for (frame, sequence) in (103..106).enumerate() {
        assert_eq!(passes(&mut desk, sequence), Err(Counter::RtpReplaced));
        let (sent, news) = beat(&mut desk);
        let [(to, header, payload)] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!((to.as_str(), header.ssrc, header.payload_type), (CALLEE, SSRC, 8));
        assert_eq!((header.marker, payload.len()), (frame == 0, 160));
        assert_eq!(payload[0], Law::A.encode(1_000));
        // RTP time goes on with the time since the caller's packet 102.
        let elapsed = u32::try_from(frame).expect("few") + 1;
        assert_eq!(header.timestamp, 160 * (102 + elapsed));
        numbers.push(header.sequence);
        assert_eq!(news.len(), usize::from(frame == 0), "{news:?}");
    }
    assert_eq!(numbers, [103, 104, 105]);
    let (sent, news) = beat(&mut desk);
    assert!(sent.is_empty());
    assert_eq!(news[0].what, What::Ended { packets: 3, whole: true });
    assert!(!desk.relays.is_speaking());
    assert_eq!(passes(&mut desk, 106), Ok(106), "three for three");
    assert_eq!(passes(&mut desk, 105), Err(Counter::RtpReplaced), "late: its place is taken");
    // A second speech, in which the caller sends nothing: its numbers move up.
    desk.relays.say(desk.now, KEY, Side::Callee, sound(2, 2));
    let numbers: Vec<_> = (0..2).map(|_| beat(&mut desk).0[0].1.sequence).collect();
    beat(&mut desk);
    assert_eq!(numbers, [107, 108]);
    assert_eq!(passes(&mut desk, 107), Ok(109));
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 5, 1), Ok(address(CALLER)), "untouched");
}

#[test]
fn keys_of_ours_stand_between_the_words_of_the_other_side() {
    let mut desk = talking();
    let speech = Speech::Keys { keys: Box::new([5]), payload_type: 101 };
    desk.relays.say(desk.now, KEY, Side::Callee, Say { token: 1, seed: 9, speech });
    let mut heads = Vec::new();
    for _ in 0..9 {
        heads.extend(beat(&mut desk).0.into_iter().map(|(_, header, payload)| (header, payload)));
    }
    assert_eq!(heads.len(), 7);
    assert!(heads.iter().all(|(header, _)| header.timestamp == heads[0].0.timestamp));
    let numbers: Vec<_> = heads.iter().map(|(header, _)| header.sequence).collect();
    assert_eq!(numbers, (103..110).collect::<Vec<_>>());
    assert_eq!(heads[6].1, [5, 0x8a, 3, 0x20]);
    assert_eq!(passes(&mut desk, 103), Ok(110));
}

#[test]
fn one_speech_takes_the_place_of_another_and_hush_ends_it() {
    let mut desk = talking();
    desk.relays.say(desk.now, KEY, Side::Callee, sound(1, 50));
    beat(&mut desk);
    let news = desk.relays.say(desk.now, KEY, Side::Callee, sound(2, 50)).expect("the first ends");
    assert_eq!((news.token, news.what), (1, What::Ended { packets: 1, whole: false }));
    let (sent, news) = beat(&mut desk);
    assert_eq!((sent[0].1.sequence, news[0].token, news[0].what), (104, 2, What::Began));
    let news = desk.relays.hush(KEY, Side::Callee).expect("it was speaking");
    assert_eq!((news.token, news.what), (2, What::Ended { packets: 1, whole: false }));
    assert_eq!(desk.relays.hush(KEY, Side::Callee), None);
    assert_eq!(passes(&mut desk, 103), Ok(105));
}

#[test]
fn nobody_is_spoken_to_who_has_no_address_or_wants_to_hear_nothing() {
    let deaf = Remote { may_receive: false, ..remote(CALLEE) };
    for described in [None, Some(deaf)] {
        let mut desk = Desk::bare(MediaLock::Strict);
        if let Some(remote) = described {
            desk.describe(Side::Callee, remote);
        }
        desk.relays.say(desk.now, KEY, Side::Callee, sound(1, 2));
        let all: Vec<_> = (0..3).map(|_| beat(&mut desk)).collect();
        assert!(all.iter().all(|(sent, _)| sent.is_empty()));
        assert_eq!(all[2].1[0].what, What::Ended { packets: 0, whole: true });
    }
}

/// A leg that a program holds hears what the program plays, and nothing else.
#[test]
fn a_held_side_hears_us_and_nobody_else() {
    let mut desk = talking();
    desk.describe(Side::Callee, Remote { held: true, may_send: false, ..remote(CALLEE) });
    assert_eq!(passes(&mut desk, 103), Err(Counter::RtpOnHold));
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 5, 1), Err(Counter::RtpOnHold));
    desk.relays.say(desk.now, KEY, Side::Callee, sound(1, 2));
    assert_eq!(beat(&mut desk).0.len(), 1);
    desk.describe(Side::Callee, remote(CALLEE));
    assert_eq!(passes(&mut desk, 104), Err(Counter::RtpReplaced));
    assert_eq!(desk.rtp(Side::Callee, CALLEE, 5, 2), Ok(address(CALLER)));
}

#[test]
fn a_muted_side_stays_mute_after_our_speech() {
    let mut desk = talking();
    desk.relays.set_mute(KEY, Side::Caller, Mute::Silence);
    desk.relays.say(desk.now, KEY, Side::Callee, sound(1, 1));
    beat(&mut desk);
    beat(&mut desk);
    let verdict = desk.put(Side::Caller, Component::Rtp, address(CALLER), &rtp(SSRC, 103));
    let Verdict::Forward { change: Some(change), .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!((change.silence, change.sequence), (Some(Law::U), Some(104)));
}

#[test]
fn a_closed_relay_says_nothing_more_and_an_unknown_one_refuses() {
    let mut desk = talking();
    desk.relays.say(desk.now, KEY, Side::Callee, sound(1, 50));
    desk.relays.close(KEY);
    assert!(!desk.relays.is_speaking());
    assert_eq!(beat(&mut desk), (Vec::new(), Vec::new()));
    let news = desk.relays.say(desk.now, KEY, Side::Callee, sound(2, 50)).expect("refused");
    assert_eq!(news.what, What::NotSaid(NotSaid::NoRelay));
}

#[test]
fn more_speakers_than_a_shard_has_are_refused() {
    let mut desk = Desk::bare(MediaLock::Strict);
    let key = |slot| RelayKey { slot, generation: 7 };
    for slot in 0..SPEAKERS_MAX {
        let slot = u32::try_from(slot).expect("few") + KEY.slot + 1;
        desk.relays.open(desk.now, key(slot));
        assert_eq!(desk.relays.say(desk.now, key(slot), Side::Callee, sound(1, 1)), None);
    }
    let news = desk.relays.say(desk.now, KEY, Side::Callee, sound(2, 1)).expect("refused");
    assert_eq!(news.what, What::NotSaid(NotSaid::TooMany));
    desk.pass(1);
    let (_, news) = beat(&mut desk);
    assert!(news.is_empty());
    let (_, news) = beat(&mut desk);
    assert_eq!(news.len(), SPEAKERS_MAX, "each ends");
    assert_eq!(desk.relays.say(desk.now, KEY, Side::Callee, sound(3, 1)), None);
}
