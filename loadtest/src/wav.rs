//! Judging a recording: length, tone per side, gaps.
//! Owns:  the two sides of a stereo WAV as samples.
//! Gives: figures that a test compares.
//! Never: repairs or resamples.
//! Holds: the left side is the first sample of each frame.

use std::io::Cursor;

use crate::tones;

/// Below this a sample counts as silence: -56 dBFS, far under any tone of ours, over the idle
/// noise of mu-law.
const SILENCE: i16 = 50;

#[derive(Clone, Debug)]
pub struct Stereo {
    pub left: Vec<i16>,
    pub right: Vec<i16>,
}

impl Stereo {
    /// Reads a WAV of two channels, 16 bits, 8 kHz.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = hound::WavReader::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
        let spec = reader.spec();
        if (spec.channels, spec.bits_per_sample, spec.sample_rate) != (2, 16, 8_000) {
            return Err(format!("not stereo 16 bit 8 kHz but {spec:?}"));
        }
        let samples: Result<Vec<i16>, _> = reader.samples::<i16>().collect();
        let samples = samples.map_err(|error| error.to_string())?;
        let side = |first: usize| samples.iter().skip(first).step_by(2).copied().collect();
        Ok(Self { left: side(0), right: side(1) })
    }

    pub fn duration_ms(&self) -> u64 {
        milliseconds(self.left.len())
    }
}

/// A mono WAV, such as a phone writes of what it heard.
pub fn read_mono(bytes: &[u8]) -> Result<Vec<i16>, String> {
    let reader = hound::WavReader::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    if reader.spec().channels != 1 {
        return Err(format!("not mono but {:?}", reader.spec()));
    }
    let samples: Result<Vec<i16>, _> = reader.into_samples::<i16>().collect();
    samples.map_err(|error| error.to_string())
}

/// The part between the first and the last sound.
pub fn spoken(side: &[i16]) -> &[i16] {
    let loud = |sample: &i16| sample.unsigned_abs() >= SILENCE.unsigned_abs();
    match (side.iter().position(loud), side.iter().rposition(loud)) {
        (Some(first), Some(last)) => &side[first..=last],
        _ => &[],
    }
}

/// The longest silence inside the spoken part.
pub fn longest_gap_ms(side: &[i16]) -> u64 {
    let quiet = |sample: &i16| sample.unsigned_abs() < SILENCE.unsigned_abs();
    let longest = spoken(side)
        .chunk_by(|a, b| quiet(a) == quiet(b))
        .filter(|run| run.first().is_some_and(quiet))
        .map(<[i16]>::len)
        .max();
    milliseconds(longest.unwrap_or(0))
}

/// The smallest share of `hz` over all half seconds of the spoken part: near 1.0 means that this
/// tone, and nothing else, is heard all the time. 0.0 when there is no sound.
pub fn steady_share(side: &[i16], hz: f32) -> f32 {
    let shares = spoken(side).chunks_exact(4_000).map(|half| tones::share(half, hz));
    shares.min_by(f32::total_cmp).unwrap_or(0.0)
}

/// The largest share of `hz` over all half seconds of the spoken part.
pub fn loudest_share(side: &[i16], hz: f32) -> f32 {
    let shares = spoken(side).chunks_exact(4_000).map(|half| tones::share(half, hz));
    shares.max_by(f32::total_cmp).unwrap_or(0.0)
}

fn milliseconds(samples: usize) -> u64 {
    samples as u64 / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32, count: usize) -> Vec<i16> {
        let mut samples = vec![0; count];
        tones::of(hz).fill(&mut samples);
        samples
    }

    #[test]
    fn a_gap_inside_is_found_and_silence_at_the_ends_is_not_one() {
        let mut side = vec![0; 8_000];
        side.extend(tone(440.0, 8_000));
        side.extend([0; 480]);
        side.extend(tone(440.0, 8_000));
        side.extend([0; 8_000]);
        assert!((59..=61).contains(&longest_gap_ms(&side)), "{}", longest_gap_ms(&side));
        assert!(longest_gap_ms(&tone(1_000.0, 16_000)) <= 1);
    }

    #[test]
    fn a_steady_tone_is_told_from_another_one() {
        let side = tone(440.0, 16_000);
        assert!(steady_share(&side, 440.0) > 0.99);
        assert!(steady_share(&side, 1_000.0) < 0.01);
        assert!(steady_share(&[0; 16_000], 440.0).abs() < f32::EPSILON);
    }
}
