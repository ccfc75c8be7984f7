//! What the gateway itself says towards one side: sound, or keys that are pressed (RFC 4733).
//! Owns:  `Speech`, and where in its speech a `Speaker` is.
//! Gives: the payload of the next 20 ms.
//! Never: a sequence number or an address (that is `splice` and `speakers`), a clock.
//! Holds: each frame stands for 20 ms, whether it has a packet or not, so time passes evenly.

use std::time::Duration;

use shared::act::Samples;

use crate::g711::Law;

/// What a frame stands for.
pub const FRAME: Duration = Duration::from_millis(20);
pub(crate) const FRAME_SAMPLES: usize = 160;
/// A key sounds for 100 ms: phones and carriers want 40 ms at least (ITU-T Q.24).
const KEY_FRAMES: u16 = 5;
/// The last packet of a key is sent three times in all (RFC 4733 2.5.1.4).
const END_REPEATS: u16 = 2;
/// From the end of a key to the next one: 60 ms, with the repeats in it.
const GAP_FRAMES: u16 = 3;
/// -10 dBm0 (RFC 4733 2.3.3).
const KEY_VOLUME: u8 = 10;
const END_BIT: u8 = 0x80;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Event codes of RFC 4733 3.2, one after the other.
    Keys {
        keys: Box<[u8]>,
        payload_type: u8,
    },
    Sound {
        samples: Samples,
        law: Law,
        repeat: bool,
    },
}

/// The event code of a key as people write it.
pub const fn event_of(key: u8) -> Option<u8> {
    match key {
        b'0'..=b'9' => Some(key - b'0'),
        b'*' => Some(10),
        b'#' => Some(11),
        b'A'..=b'D' => Some(key - b'A' + 12),
        b'a'..=b'd' => Some(key - b'a' + 12),
        _ => None,
    }
}

/// The next 20 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    End,
    Packet(Content),
    Pause,
}

/// What a packet carries, beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    /// How long before this frame the timestamp lies, in samples.
    pub(crate) back: u32,
    /// Bytes of payload.
    pub(crate) length: usize,
}

/// Somebody who says a speech.
#[derive(Debug)]
pub(crate) struct Speaker {
    speech: Speech,
    /// Samples of sound, or keys, that are said.
    at: usize,
    /// Frames of the present key.
    frame: u16,
    started: bool,
}

impl Speaker {
    pub(crate) const fn new(speech: Speech) -> Self {
        Self { speech, at: 0, frame: 0, started: false }
    }

    /// Writes the payload of the next frame.
    pub(crate) fn say(&mut self, payload: &mut [u8; FRAME_SAMPLES]) -> Frame {
        match &self.speech {
            Speech::Keys { keys, payload_type } => {
                let Some(&key) = keys.get(self.at) else { return Frame::End };
                let frame = self.frame;
                self.frame += 1;
                if self.frame == KEY_FRAMES + GAP_FRAMES {
                    (self.at, self.frame) = (self.at + 1, 0);
                }
                press(key, frame, *payload_type, payload)
            }
            Speech::Sound { samples, law, repeat } => {
                let samples = samples.as_slice();
                if self.at >= samples.len() && *repeat {
                    self.at = 0;
                }
                let Some(rest) = samples.get(self.at..).filter(|rest| !rest.is_empty()) else {
                    return Frame::End;
                };
                payload.fill(law.silence());
                for (code, &sample) in payload.iter_mut().zip(rest) {
                    *code = law.encode(sample);
                }
                self.at += FRAME_SAMPLES;
                Frame::Packet(Content {
                    payload_type: law.payload_type(),
                    marker: !std::mem::replace(&mut self.started, true),
                    back: 0,
                    length: FRAME_SAMPLES,
                })
            }
        }
    }
}

/// One frame of a key: while it sounds its duration grows, then its end is said again, then nothing.
fn press(key: u8, frame: u16, payload_type: u8, payload: &mut [u8; FRAME_SAMPLES]) -> Frame {
    if frame >= KEY_FRAMES + END_REPEATS {
        return Frame::Pause;
    }
    let sounding = (frame + 1).min(KEY_FRAMES);
    let end = if sounding == KEY_FRAMES { END_BIT } else { 0 };
    let [high, low] = (sounding * FRAME_SAMPLES as u16).to_be_bytes();
    payload[..4].copy_from_slice(&[key, end | KEY_VOLUME, high, low]);
    Frame::Packet(Content {
        payload_type,
        marker: frame == 0,
        back: u32::from(frame) * FRAME_SAMPLES as u32,
        length: 4,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(speech: Speech, most: usize) -> Vec<(Frame, Vec<u8>)> {
        let (mut speaker, mut payload) = (Speaker::new(speech), [0; FRAME_SAMPLES]);
        let mut frames = Vec::new();
        while frames.len() < most {
            let frame = speaker.say(&mut payload);
            let length = match frame {
                Frame::End => break,
                Frame::Packet(content) => content.length,
                Frame::Pause => 0,
            };
            frames.push((frame, payload[..length].to_vec()));
        }
        frames
    }

    /// RFC 4733 2.5.1: one timestamp per key, growing durations, three end packets.
    #[test]
    fn a_key_is_five_packets_and_its_end_twice_more() {
        let keys = [event_of(b'5'), event_of(b'#')].map(|key| key.expect("a key"));
        let frames = said(Speech::Keys { keys: Box::new(keys), payload_type: 101 }, 99);
        assert_eq!(frames.len(), 16, "two keys of 160 ms");
        for (key, frames) in keys.into_iter().zip(frames.chunks(8)) {
            let durations = [160, 320, 480, 640, 800, 800, 800];
            for (index, ((frame, payload), duration)) in frames.iter().zip(durations).enumerate() {
                let expected = Content {
                    payload_type: 101,
                    marker: index == 0,
                    back: 160 * u32::try_from(index).expect("few"),
                    length: 4,
                };
                assert_eq!(*frame, Frame::Packet(expected));
                let end = if index >= 4 { 0x8a } else { 0x0a };
                let [high, low] = u16::to_be_bytes(duration);
                assert_eq!(*payload, [key, end, high, low]);
            }
            assert_eq!(frames[7].0, Frame::Pause);
        }
    }

    #[test]
    fn keys_have_the_codes_of_the_table_and_nothing_else_is_a_key() {
        let codes: Vec<_> = b"0123456789*#ABCDabcd".iter().map(|&key| event_of(key)).collect();
        let expected: Vec<_> = (0..16).chain(12..16).map(Some).collect();
        assert_eq!(codes, expected);
        assert!(b" ,pw-EeX\xff".iter().all(|&key| event_of(key).is_none()));
    }

    #[test]
    fn sound_is_cut_into_frames_and_its_last_one_filled_with_silence() {
        for law in [Law::A, Law::U] {
            let samples: Vec<i16> = (0..400).map(|n| n * 40).collect();
            let samples = Samples::new(samples);
            let frames = said(Speech::Sound { samples: samples.clone(), law, repeat: false }, 99);
            let marks: Vec<_> = frames
                .iter()
                .map(|(frame, _)| matches!(frame, Frame::Packet(Content { marker: true, .. })))
                .collect();
            assert_eq!(marks, [true, false, false]);
            let codes: Vec<u8> = frames.iter().flat_map(|(_, payload)| payload.clone()).collect();
            assert_eq!(codes.len(), 480);
            assert!(
                samples
                    .as_slice()
                    .iter()
                    .zip(&codes)
                    .all(|(&sample, &code)| law.encode(sample) == code)
            );
            assert!(codes[400..].iter().all(|&code| code == law.silence()));
        }
    }

    #[test]
    fn sound_repeats_for_as_long_as_it_is_asked_and_nothing_ends_at_once() {
        let sound = |samples: Vec<i16>, repeat| Speech::Sound {
            samples: Samples::new(samples),
            law: Law::U,
            repeat,
        };
        assert_eq!(said(sound(vec![7; 320], true), 50).len(), 50);
        assert_eq!(said(sound(vec![7; 320], false), 50).len(), 2);
        for repeat in [true, false] {
            assert_eq!(said(sound(Vec::new(), repeat), 50).len(), 0);
        }
    }
}
