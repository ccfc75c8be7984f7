//! Tones of the test phones, as files for peers that play files, and how much of one is heard.
//! Owns:  the level, and the share of a tone in what was heard.
//! Gives: `tone-440.ulaw` for SIPp, `tone-1000.wav` for baresip.
//! Never: more than half a minute per file, because no test call is longer.
//! Holds: files hold a whole number of periods of any whole frequency, so a loop has no click.

use std::fs;
use std::path::Path;

use media::g711::{self, Law};
use media::tone::{Tone, goertzel_power, mean_power};

const SECONDS: usize = 30;
/// -10 dBFS.
const AMPLITUDE: i16 = 10_000;

pub fn of(hz: f32) -> Tone {
    Tone::new(hz.into(), AMPLITUDE)
}

/// The share of the energy of `samples` that lies at `hz`: near 1.0 for that tone alone.
pub fn share(samples: &[i16], hz: f32) -> f32 {
    let all = mean_power(samples);
    if all == 0.0 { 0.0 } else { (goertzel_power(samples, hz.into()) / all) as f32 }
}

pub fn write_ulaw(folder: &Path, hz: u16) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    Law::U.encode_into(&samples(hz), &mut bytes);
    fs::write(folder.join(format!("tone-{hz}.ulaw")), bytes)
}

pub fn write_wav(folder: &Path, hz: u16) -> Result<(), hound::Error> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: g711::RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(folder.join(format!("tone-{hz}.wav")), spec)?;
    for sample in samples(hz) {
        wav.write_sample(sample)?;
    }
    wav.finalize()
}

fn samples(hz: u16) -> Vec<i16> {
    let mut samples = vec![0; SECONDS * g711::RATE as usize];
    of(hz.into()).fill(&mut samples);
    samples
}
