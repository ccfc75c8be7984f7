//! One track of a recording as a WAV file of its own, made while it is read.
//! Owns:  the header of the mono file.
//! Gives: `Track`, a part of a multipart body: `media_audio-0` is the caller, `media_audio-1` the callee.
//! Never: writes a file; holds more than a piece of sound in memory.
//! Holds: a recording with one channel gives one track, which is the recording.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavReader};

use crate::webhooks::multipart::Content;

/// Samples of one piece.
const PIECE: usize = 16 << 10;
const HEADER_BYTES: u32 = 44;

#[derive(Clone, Debug)]
pub(super) struct Track {
    path: PathBuf,
    channel: u16,
    rate: u32,
    /// Samples of this channel.
    samples: u32,
}

fn odd(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

impl Track {
    /// One per channel, in order. It blocks.
    pub(super) fn of_recording(path: &Path) -> io::Result<Vec<Self>> {
        let wav = WavReader::open(path).map_err(odd)?;
        let spec = wav.spec();
        if spec.sample_format != SampleFormat::Int || spec.bits_per_sample != 16 {
            return Err(io::Error::other("the recording is not PCM of 16 bits"));
        }
        let track = |channel| Self {
            path: path.to_owned(),
            channel,
            rate: spec.sample_rate,
            samples: wav.duration(),
        };
        Ok((0..spec.channels).map(track).collect())
    }

    const fn bytes(&self) -> u32 {
        self.samples * 2
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        header.extend_from_slice(b"RIFF");
        header.extend_from_slice(&(HEADER_BYTES - 8 + self.bytes()).to_le_bytes());
        header.extend_from_slice(b"WAVEfmt ");
        header.extend_from_slice(&16_u32.to_le_bytes());
        // PCM, one channel.
        header.extend_from_slice(&[1, 0, 1, 0]);
        header.extend_from_slice(&self.rate.to_le_bytes());
        header.extend_from_slice(&(self.rate * 2).to_le_bytes());
        // Two bytes a frame, 16 bits a sample.
        header.extend_from_slice(&[2, 0, 16, 0]);
        header.extend_from_slice(b"data");
        header.extend_from_slice(&self.bytes().to_le_bytes());
        header
    }
}

impl Content for Track {
    fn size(&self) -> u64 {
        u64::from(HEADER_BYTES) + u64::from(self.bytes())
    }

    fn read(&self, take: &mut dyn FnMut(Vec<u8>) -> bool) -> io::Result<()> {
        let mut wav = WavReader::new(BufReader::new(File::open(&self.path)?)).map_err(odd)?;
        let channels = usize::from(wav.spec().channels);
        if !take(self.header()) {
            return Ok(());
        }
        let mut piece = Vec::with_capacity(2 * PIECE);
        let own = wav.samples::<i16>().skip(usize::from(self.channel)).step_by(channels);
        for sample in own {
            piece.extend_from_slice(&sample.map_err(odd)?.to_le_bytes());
            if piece.len() >= 2 * PIECE && !take(std::mem::take(&mut piece)) {
                return Ok(());
            }
        }
        if !piece.is_empty() {
            take(piece);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hound::{WavSpec, WavWriter};

    fn written(name: &str, channels: u16, frames: u32) -> PathBuf {
        let name = format!("{name}-{}-{:08x}.wav", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        let spec = WavSpec {
            channels,
            sample_rate: 8_000,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut wav = WavWriter::create(&path, spec).expect("a file");
        for frame in 0..frames {
            for channel in 0..channels {
                let sample = i16::try_from(frame % 1_000).expect("small")
                    + 2_000 * i16::try_from(channel).expect("small");
                wav.write_sample(sample).expect("it is written");
            }
        }
        wav.finalize().expect("it is whole");
        path
    }

    fn read_back(track: &Track) -> (Vec<u8>, Vec<i16>) {
        let mut bytes = Vec::new();
        track
            .read(&mut |piece| {
                bytes.extend(piece);
                true
            })
            .expect("it is read");
        let samples = WavReader::new(&bytes[..]).expect("a WAV file").into_samples::<i16>();
        let samples = samples.collect::<Result<_, _>>().expect("samples");
        (bytes, samples)
    }

    #[test]
    fn a_stereo_recording_gives_caller_and_callee() {
        let path = written("stereo", 2, 40_000);
        let tracks = Track::of_recording(&path).expect("it is PCM");
        assert_eq!(tracks.len(), 2);
        for (channel, track) in (0_i16..).zip(&tracks) {
            let (bytes, samples) = read_back(track);
            assert_eq!(track.size(), bytes.len() as u64);
            assert_eq!(samples.len(), 40_000);
            let expected =
                |frame: usize| i16::try_from(frame % 1_000).expect("small") + 2_000 * channel;
            assert!(samples.iter().enumerate().all(|(frame, sample)| *sample == expected(frame)));
        }
        std::fs::remove_file(path).expect("it is ours");
    }

    #[test]
    fn a_mono_recording_gives_itself() {
        let path = written("mono", 1, 100);
        let tracks = Track::of_recording(&path).expect("it is PCM");
        assert_eq!(tracks.len(), 1);
        assert_eq!(read_back(&tracks[0]).0, std::fs::read(&path).expect("it is there"));
        std::fs::remove_file(path).expect("it is ours");
    }

    #[test]
    fn what_is_no_recording_is_an_error() {
        assert!(Track::of_recording(Path::new("/nonexistent.wav")).is_err());
    }
}
