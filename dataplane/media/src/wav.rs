//! WAV files: from a capture to a stereo recording that every player opens.
//! Owns:  the RIFF header, and the way from capture bytes to a finished file.
//! Gives: `write`, which streams: memory does not grow with the length of the call.
//! Never: opens a file, seeks in the capture.
//! Holds: the sizes in the header match the samples behind it, whenever `write` returns `Ok`.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::capture::{self, NotCapture, Record, Tail};
use crate::g711::RATE;
use crate::timeline::{FRAMES_MAX, Summary, Timeline};

pub const HEADER_BYTES: usize = 44;
const CHANNELS: u16 = 2;
const FRAME_BYTES: u16 = 2 * CHANNELS;
/// Piece of the capture that is read at a time; longer than any record.
const PIECE_BYTES: usize = 1 << 20;

/// Sizes are 32 bits wide in RIFF: the longest recording must fit.
const _: () = assert!(FRAMES_MAX * FRAME_BYTES as u64 + (HEADER_BYTES as u64) < 1 << 32);
const _: () = assert!(PIECE_BYTES > 2 * capture::RECORD_BYTES_MAX);

/// What a recording was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    pub capture: capture::Header,
    /// Whether the capture was whole.
    pub tail: Tail,
    pub summary: Summary,
}

/// Why there is no recording.
#[derive(Debug)]
pub enum WavError {
    Capture(NotCapture),
    Read(io::Error),
    Write(io::Error),
}

impl fmt::Display for WavError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capture(reason) => reason.fmt(f),
            Self::Read(error) => write!(f, "the capture could not be read: {error}"),
            Self::Write(error) => write!(f, "the recording could not be written: {error}"),
        }
    }
}

impl std::error::Error for WavError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Capture(reason) => Some(reason),
            Self::Read(error) | Self::Write(error) => Some(error),
        }
    }
}

/// Header of a PCM file, 16 bits, stereo, 8 kHz, with `frames` frames behind it.
pub fn header(frames: u32) -> [u8; HEADER_BYTES] {
    let sound_bytes = frames.saturating_mul(u32::from(FRAME_BYTES));
    let riff_bytes = sound_bytes.saturating_add(36);
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(b"RIFF");
    bytes[4..8].copy_from_slice(&riff_bytes.to_le_bytes());
    bytes[8..16].copy_from_slice(b"WAVEfmt ");
    bytes[16..20].copy_from_slice(&16_u32.to_le_bytes());
    bytes[20..22].copy_from_slice(&1_u16.to_le_bytes()); // PCM
    bytes[22..24].copy_from_slice(&CHANNELS.to_le_bytes());
    bytes[24..28].copy_from_slice(&RATE.to_le_bytes());
    bytes[28..32].copy_from_slice(&(RATE * u32::from(FRAME_BYTES)).to_le_bytes());
    bytes[32..34].copy_from_slice(&FRAME_BYTES.to_le_bytes());
    bytes[34..36].copy_from_slice(&16_u16.to_le_bytes());
    bytes[36..40].copy_from_slice(b"data");
    bytes[40..].copy_from_slice(&sound_bytes.to_le_bytes());
    bytes
}

/// Turns a capture into a recording. `wav` is written from where it stands and buffered by the
/// caller, if at all: writes are a few KiB long.
pub fn write<R: Read, W: Write + Seek>(capture: R, mut wav: W) -> Result<Recording, WavError> {
    let mut source = Pieces::new(capture);
    source.fill().map_err(WavError::Read)?;
    let (capture, length) = capture::read_header(source.bytes()).map_err(WavError::Capture)?;
    source.skip(length);
    let start = wav.stream_position().map_err(WavError::Write)?;
    wav.write_all(&header(0)).map_err(WavError::Write)?;
    let mut timeline = Timeline::default();
    let mut raw = Vec::new();
    let mut emit = |frames: &[i16]| -> Result<(), WavError> {
        raw.clear();
        raw.extend(frames.iter().flat_map(|sample| sample.to_le_bytes()));
        wav.write_all(&raw).map_err(WavError::Write)
    };
    let tail = loop {
        match capture::read_record(source.bytes()) {
            Record::Packet(packet, length) => {
                timeline.push(&packet, &mut emit)?;
                source.skip(length);
            }
            Record::Unknown(length) => source.skip(length),
            Record::Broken => break Tail::Torn { offset: source.offset() },
            Record::NeedMore(_) => {
                if source.fill().map_err(WavError::Read)? {
                    continue;
                }
                break match source.bytes() {
                    [] => Tail::Clean,
                    _ => Tail::Torn { offset: source.offset() },
                };
            }
        }
    };
    let summary = timeline.finish(&mut emit)?;
    let frames = u32::try_from(summary.samples).expect("a day of frames fits");
    wav.seek(SeekFrom::Start(start)).map_err(WavError::Write)?;
    wav.write_all(&header(frames)).map_err(WavError::Write)?;
    wav.seek(SeekFrom::End(0)).map_err(WavError::Write)?;
    wav.flush().map_err(WavError::Write)?;
    Ok(Recording { capture, tail, summary })
}

/// A capture read in pieces.
struct Pieces<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where in the file `start` is.
    offset: u64,
}

impl<R: Read> Pieces<R> {
    fn new(source: R) -> Self {
        Self { source, buffer: vec![0; PIECE_BYTES], start: 0, end: 0, offset: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    const fn offset(&self) -> u64 {
        self.offset
    }

    fn skip(&mut self, length: usize) {
        self.start += length;
        self.offset += length as u64;
    }

    /// Reads on; false at the end of the file. What was not skipped stays in front.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let before = self.end;
        while self.end < self.buffer.len() {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.end > before)
    }
}
