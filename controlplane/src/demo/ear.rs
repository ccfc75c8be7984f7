//! Listens to a recording: which of the demo's tones is on which side.
//! Owns:  the measure: the share of a tone in the power of a side.
//! Gives: `Heard`.
//! Never: the code that made the file: `hound` reads it.
//! Holds: a side has a tone only when that tone has more than half of its power.

use std::path::Path;

use media::tone::{goertzel_power, mean_power};

use super::{CALLEE_TONE_HZ, CALLER_TONE_HZ};

/// Windows of 100 ms, so that the start and the end of the talk do not blur the rest.
const WINDOW_SAMPLES: usize = 800;
/// A G.711 sine is louder by far; below it is silence.
const SILENCE_POWER: f64 = 100.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heard {
    pub(super) duration_ms: u64,
    pub(super) left_hz: Option<f32>,
    pub(super) right_hz: Option<f32>,
}

/// Blocks; reads the whole file.
pub(super) fn listen(path: &Path) -> Result<Heard, String> {
    let failed = |error: hound::Error| format!("{}: {error}", path.display());
    let mut wav = hound::WavReader::open(path).map_err(failed)?;
    let spec = wav.spec();
    if spec.channels != 2 || spec.sample_rate != 8_000 || spec.bits_per_sample != 16 {
        return Err(format!("{} is not 16 bit stereo at 8 kHz: {spec:?}", path.display()));
    }
    let samples = wav.samples::<i16>().collect::<Result<Vec<i16>, _>>().map_err(failed)?;
    let side =
        |first: usize| -> Vec<i16> { samples.iter().copied().skip(first).step_by(2).collect() };
    Ok(Heard {
        duration_ms: samples.len() as u64 / 2 * 1_000 / u64::from(spec.sample_rate),
        left_hz: tone(&side(0)),
        right_hz: tone(&side(1)),
    })
}

/// The one of the two tones that most windows with sound have.
fn tone(samples: &[i16]) -> Option<f32> {
    let loud: Vec<&[i16]> = samples
        .chunks_exact(WINDOW_SAMPLES)
        .filter(|window| mean_power(window) > SILENCE_POWER)
        .collect();
    let windows_with = |hz: f32| {
        let has =
            |window: &&&[i16]| goertzel_power(window, f64::from(hz)) > mean_power(window) / 2.0;
        loud.iter().filter(has).count()
    };
    [CALLER_TONE_HZ, CALLEE_TONE_HZ].into_iter().find(|hz| 2 * windows_with(*hz) > loud.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::tone::Tone;

    fn sine(hz: f32, samples: usize) -> Vec<i16> {
        let mut out = vec![0; samples];
        Tone::new(f64::from(hz), 8_000).fill(&mut out);
        out
    }

    #[test]
    fn the_tone_of_a_side_is_the_one_that_it_has() {
        assert_eq!(tone(&sine(CALLER_TONE_HZ, 8_000)), Some(CALLER_TONE_HZ));
        assert_eq!(tone(&sine(CALLEE_TONE_HZ, 8_000)), Some(CALLEE_TONE_HZ));
        assert_eq!(tone(&sine(620.0, 8_000)), None);
        assert_eq!(tone(&[0; 8_000]), None);
    }

    #[test]
    fn silence_round_the_talk_does_not_hide_the_tone() {
        let mut samples = vec![0; 4_000];
        samples.extend(sine(CALLER_TONE_HZ, 8_000));
        samples.extend([0; 4_000]);
        assert_eq!(tone(&samples), Some(CALLER_TONE_HZ));
    }
}
