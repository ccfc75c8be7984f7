//! What can be played into a call: files of the prompts folder, tones, silence.
//! Owns:  where prompts may lie, and how long one may be.
//! Gives: linear samples that every shard can share.
//! Never: a file outside of the folder, whatever a program asks for or a link points to.
//! Holds: a prompt is read whole before a call hears of it; it is at most ten minutes long.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

use media::g711::RATE;
use media::prompt::{self, NotPrompt};
use media::tone::Tone;
use shared::act::Samples;

/// Ten minutes of PCM with 16 bits.
const FILE_BYTES_MAX: u64 = 10 << 20;
/// A quarter of full scale: as loud as speech.
const TONE_AMPLITUDE: i16 = 8_000;
pub const TONE_MS_MAX: u32 = 60_000;

#[derive(Debug)]
pub enum NoPrompt {
    /// The name leads out of the folder, or nowhere.
    Name,
    NotThere,
    Read(io::Error),
    TooLong,
    Unplayable(NotPrompt),
}

impl fmt::Display for NoPrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("the name must be a path below the prompts folder"),
            Self::NotThere => f.write_str("there is no such file in the prompts folder"),
            Self::Read(error) => write!(f, "it cannot be read: {error}"),
            Self::TooLong => write!(f, "it is longer than {FILE_BYTES_MAX} bytes"),
            Self::Unplayable(reason) => reason.fmt(f),
        }
    }
}

impl std::error::Error for NoPrompt {}

/// Reads a prompt; blocks.
pub fn read(folder: &Path, name: &str) -> Result<Samples, NoPrompt> {
    let name = Path::new(name);
    let below = name.components().all(|part| matches!(part, Component::Normal(_)));
    if name.as_os_str().is_empty() || !below || name.as_os_str().len() > 255 {
        return Err(NoPrompt::Name);
    }
    let of_path = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NoPrompt::NotThere,
        io::ErrorKind::InvalidInput => NoPrompt::Name,
        _ => NoPrompt::Read(error),
    };
    // A link may stand in the folder, but it must not lead out of it.
    let folder = folder.canonicalize().map_err(of_path)?;
    let path = folder.join(name).canonicalize().map_err(of_path)?;
    if !path.starts_with(&folder) || !path.is_file() {
        return Err(NoPrompt::NotThere);
    }
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(of_path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(NoPrompt::Read)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(NoPrompt::TooLong);
    }
    prompt::read(&bytes).map(Samples::new).map_err(NoPrompt::Unplayable)
}

pub fn tone(hz: f32, duration_ms: u32) -> Samples {
    let mut samples = vec![0; length_of(duration_ms)];
    Tone::new(f64::from(hz), TONE_AMPLITUDE).fill(&mut samples);
    Samples::new(samples)
}

pub fn silence(duration_ms: u32) -> Samples {
    Samples::new(vec![0; length_of(duration_ms)])
}

const fn length_of(duration_ms: u32) -> usize {
    let duration_ms = if duration_ms > TONE_MS_MAX { TONE_MS_MAX } else { duration_ms };
    (duration_ms as usize) * (RATE as usize) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_out_of_the_folder() {
        let outside = std::env::temp_dir().join(format!("prompts-{}", std::process::id()));
        let folder = outside.join("prompts");
        std::fs::create_dir_all(folder.join("en")).expect("the folder is writable");
        let wave = [&media::wav::header(1)[..], &[1, 2, 3, 4]].concat();
        for path in [outside.join("secret.wav"), folder.join("en/hello.wav")] {
            std::fs::write(path, &wave).expect("it is writable");
        }
        std::os::unix::fs::symlink("../secret.wav", folder.join("link.wav")).expect("a link");
        // It is stereo, so it is refused only after it was read.
        let found = read(&folder, "en/hello.wav");
        assert!(matches!(found, Err(NoPrompt::Unplayable(NotPrompt::Channels(2)))), "{found:?}");
        let absolute = outside.join("secret.wav");
        for name in
            ["", "../secret.wav", "en/../../secret.wav", absolute.to_str().expect("text"), "a\0b"]
        {
            assert!(matches!(read(&folder, name), Err(NoPrompt::Name)), "{name}");
        }
        for name in ["link.wav", "en", "nothing.wav", "en/hello.wav/x"] {
            assert!(matches!(read(&folder, name), Err(NoPrompt::NotThere)), "{name}");
        }
        std::fs::remove_dir_all(&outside).expect("it was there");
    }

    #[test]
    fn tones_and_silence_have_the_length_that_was_asked_for_within_a_minute() {
        assert_eq!(tone(440.0, 250).as_slice().len(), 2_000);
        assert_eq!(silence(u32::MAX).as_slice().len(), 60 * 8_000);
    }
}
