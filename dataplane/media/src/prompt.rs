//! Prompts: the WAV files that can be played into a call.
//! Owns:  which kinds of WAV are read: 8 kHz, one channel, PCM of 16 bits, PCMU or PCMA.
//! Gives: `read`: linear samples, or what about the file is not as it has to be.
//! Never: opens a file; converts a sampling rate.
//! Holds: whatever the bytes are, the answer is samples or a reason, and never more than the file.

use std::fmt;

use crate::g711::{Law, RATE};

const FORMAT_PCM: u16 = 1;
const FORMAT_A_LAW: u16 = 6;
const FORMAT_U_LAW: u16 = 7;
/// The format stands in the first two bytes of a GUID further on.
const FORMAT_EXTENSIBLE: u16 = 0xfffe;
const GUID_AT: usize = 24;

/// Why a file cannot be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPrompt {
    Bits(u16),
    Channels(u16),
    Empty,
    Format(u16),
    NotWave,
    Rate(u32),
    /// It ends within a chunk that says how long it is.
    Torn,
}

impl fmt::Display for NotPrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits(bits) => write!(f, "{bits} bits per sample, 16 (or 8 of G.711) are played"),
            Self::Channels(channels) => write!(f, "{channels} channels, one is played"),
            Self::Empty => f.write_str("there is no sound in it"),
            Self::Format(format) => {
                write!(f, "WAV format {format}; PCM (1), PCMA (6) and PCMU (7) are played")
            }
            Self::NotWave => f.write_str("it is no WAV file"),
            Self::Rate(rate) => write!(f, "{rate} samples per second, {RATE} are played"),
            Self::Torn => f.write_str("the file is shorter than it says"),
        }
    }
}

impl std::error::Error for NotPrompt {}

/// How the sound is written.
#[derive(Clone, Copy)]
enum Coding {
    Law(Law),
    Linear,
}

/// The samples of a WAV file.
pub fn read(file: &[u8]) -> Result<Vec<i16>, NotPrompt> {
    let chunks = file.strip_prefix(b"RIFF").and_then(|rest| rest.get(4..));
    let mut chunks =
        chunks.and_then(|rest| rest.strip_prefix(b"WAVE")).ok_or(NotPrompt::NotWave)?;
    let mut coding = None;
    while let Some((head, rest)) = chunks.split_first_chunk::<8>() {
        let [name @ .., a, b, c, d] = head;
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        let content = rest.get(..length).ok_or(NotPrompt::Torn)?;
        match name {
            b"fmt " => coding = Some(coding_of(content)?),
            b"data" => return samples(coding.ok_or(NotPrompt::NotWave)?, content),
            _ => {}
        }
        // Chunks begin at even places.
        chunks = rest.get(length + length % 2..).unwrap_or_default();
    }
    Err(NotPrompt::Empty)
}

fn coding_of(content: &[u8]) -> Result<Coding, NotPrompt> {
    let half = |at: usize| -> Result<u16, NotPrompt> {
        let bytes = content.get(at..at + 2).ok_or(NotPrompt::Torn)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    };
    let (channels, bits) = (half(2)?, half(14)?);
    let rate = u32::from(half(4)?) | u32::from(half(6)?) << 16;
    let format = match half(0)? {
        FORMAT_EXTENSIBLE => half(GUID_AT)?,
        plain => plain,
    };
    let (coding, wanted) = match format {
        FORMAT_PCM => (Coding::Linear, 16),
        FORMAT_A_LAW => (Coding::Law(Law::A), 8),
        FORMAT_U_LAW => (Coding::Law(Law::U), 8),
        other => return Err(NotPrompt::Format(other)),
    };
    match (channels, rate, bits) {
        (1, RATE, bits) if bits == wanted => Ok(coding),
        (1, RATE, bits) => Err(NotPrompt::Bits(bits)),
        (1, rate, _) => Err(NotPrompt::Rate(rate)),
        (channels, ..) => Err(NotPrompt::Channels(channels)),
    }
}

fn samples(coding: Coding, content: &[u8]) -> Result<Vec<i16>, NotPrompt> {
    let samples: Vec<i16> = match coding {
        Coding::Law(law) => content.iter().map(|&code| law.decode(code)).collect(),
        Coding::Linear => {
            let pairs = content.chunks_exact(2);
            pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
        }
    };
    if samples.is_empty() { Err(NotPrompt::Empty) } else { Ok(samples) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(format: u16, channels: u16, rate: u32, bits: u16, sound: &[u8]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
        file.extend(b"LIST\x03\0\0\0abc\0"); // an odd chunk and its filler
        file.extend(b"fmt \x10\0\0\0");
        file.extend(format.to_le_bytes());
        file.extend(channels.to_le_bytes());
        file.extend(rate.to_le_bytes());
        file.extend([0; 6]);
        file.extend(bits.to_le_bytes());
        file.extend(b"data");
        file.extend(u32::try_from(sound.len()).expect("short").to_le_bytes());
        file.extend(sound);
        file
    }

    #[test]
    fn the_three_codings_are_read() {
        let linear = [0x34, 0x12, 0xff, 0xff, 0];
        assert_eq!(read(&wave(1, 1, 8_000, 16, &linear)), Ok(vec![0x1234, -1]));
        for (format, law) in [(6, Law::A), (7, Law::U)] {
            let codes = [0x00, 0x80, 0x55, 0xff];
            let expected = codes.map(|code| law.decode(code)).to_vec();
            assert_eq!(read(&wave(format, 1, 8_000, 8, &codes)), Ok(expected));
        }
    }

    #[test]
    fn what_cannot_be_played_is_named() {
        for (file, reason) in [
            (wave(3, 1, 8_000, 32, b"abcd"), NotPrompt::Format(3)),
            (wave(1, 2, 8_000, 16, b"abcd"), NotPrompt::Channels(2)),
            (wave(1, 1, 44_100, 16, b"abcd"), NotPrompt::Rate(44_100)),
            (wave(1, 1, 8_000, 24, b"abcd"), NotPrompt::Bits(24)),
            (wave(7, 1, 8_000, 16, b"abcd"), NotPrompt::Bits(16)),
            (wave(1, 1, 8_000, 16, b""), NotPrompt::Empty),
            (b"ID3 something else".to_vec(), NotPrompt::NotWave),
            (Vec::new(), NotPrompt::NotWave),
        ] {
            assert_eq!(read(&file), Err(reason));
        }
    }

    #[test]
    fn every_shorter_piece_of_a_file_is_refused() {
        let whole = wave(1, 1, 8_000, 16, &[1; 40]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        assert_eq!(read(&whole).map(|samples| samples.len()), Ok(20));
    }
}
