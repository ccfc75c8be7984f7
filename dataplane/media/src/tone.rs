//! Tones: a sine to send, and how much of a frequency is in what was received.
//! Owns:  `Tone` (a sine with a phase that runs on) and the Goertzel power.
//! Gives: 16-bit linear samples at 8 kHz.
//! Never: allocates, reads a clock.
//! Holds: samples fetched in any portions are the same samples.

use std::f64::consts::TAU;

use crate::g711::RATE;

#[derive(Clone, Debug)]
pub struct Tone {
    amplitude: f64,
    /// Turns per sample, and where the next sample stands in its turn (0..1).
    step: f64,
    phase: f64,
}

impl Tone {
    /// A sine of `frequency_hz` (below 4 kHz) with peaks of `amplitude`.
    pub fn new(frequency_hz: f64, amplitude: i16) -> Self {
        Self { amplitude: f64::from(amplitude), step: frequency_hz / f64::from(RATE), phase: 0.0 }
    }

    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            *sample = self.next_sample();
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most the amplitude, an i16")]
    fn next_sample(&mut self) -> i16 {
        let sample = (self.amplitude * (TAU * self.phase).sin()).round();
        self.phase = (self.phase + self.step).fract();
        sample as i16
    }
}

/// Power of `frequency_hz` in the samples: the mean square of that component, so that a sine of
/// amplitude a gives a * a / 2. Zero for no samples.
pub fn goertzel_power(samples: &[i16], frequency_hz: f64) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let omega = TAU * frequency_hz / f64::from(RATE);
    let coefficient = 2.0 * omega.cos();
    let (mut last, mut before) = (0.0, 0.0);
    for &sample in samples {
        let next = coefficient.mul_add(last, f64::from(sample) - before);
        (before, last) = (last, next);
    }
    let energy = last * last + before * before - coefficient * last * before;
    let count = samples.len() as f64;
    2.0 * energy / (count * count)
}

/// Mean square of the samples: a sine of amplitude a gives a * a / 2. Zero for no samples.
pub fn mean_power(samples: &[i16]) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    samples.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / samples.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_of_any_length_join_into_the_same_sine() {
        let mut whole = [0; 1_000];
        Tone::new(440.0, 12_000).fill(&mut whole);
        let (mut parts, mut tone) = ([0; 1_000], Tone::new(440.0, 12_000));
        for part in parts.chunks_mut(37) {
            tone.fill(part);
        }
        assert_eq!(whole, parts);
        assert_eq!(whole[0], 0);
        assert!(whole.iter().all(|sample| sample.abs() <= 12_000));
    }

    #[test]
    fn the_phase_does_not_drift_in_an_hour() {
        let (mut tone, mut portion) = (Tone::new(1_000.0, 10_000), [0; 8_000]);
        for _ in 0..3_600 {
            tone.fill(&mut portion);
        }
        let mut first = [0; 8_000];
        Tone::new(1_000.0, 10_000).fill(&mut first);
        let apart = portion.iter().zip(first).map(|(a, b)| (a - b).abs()).max();
        assert!(apart.unwrap() <= 1, "{apart:?}");
    }

    #[test]
    fn goertzel_finds_the_tone_that_is_there_and_no_other() {
        let mut samples = [0; 1_600];
        Tone::new(440.0, 10_000).fill(&mut samples);
        let expected = 10_000.0 * 10_000.0 / 2.0;
        assert!((goertzel_power(&samples, 440.0) / expected - 1.0).abs() < 0.01);
        assert!((mean_power(&samples) / expected - 1.0).abs() < 0.01);
        assert!(goertzel_power(&samples, 1_000.0) / expected < 0.001);
        assert_eq!(goertzel_power(&[], 440.0), 0.0);
    }
}
