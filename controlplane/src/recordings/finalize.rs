//! One capture into one WAV file, atomically.
//! Owns:  the temporary file beside the target.
//! Gives: how long the recording is, or why there is none.
//! Never: leaves half a recording under its final name; touches the capture.
//! Holds: after `Ok` the recording is on the disk, its name included.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use media::capture::{NotCapture, Tail};
use media::g711::RATE;
use media::timeline::Summary;
use media::wav::{self, WavError};

use crate::store::RecordingState;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    pub duration_ms: u64,
    pub bytes: u64,
    /// What is missing in it.
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFinished {
    /// No sound was sent at all.
    Empty,
    /// The disk, or a capture that cannot be read. Worth another try.
    Failed(String),
    /// RTP payload types that we do not decode, with their packets.
    Unsupported(Vec<(u8, u64)>),
}

impl NotFinished {
    pub(super) const fn state(&self) -> RecordingState {
        match self {
            Self::Empty => RecordingState::Empty,
            Self::Failed(_) => RecordingState::Failed,
            Self::Unsupported(_) => RecordingState::Unsupported,
        }
    }
}

impl fmt::Display for NotFinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("nobody sent any sound"),
            Self::Failed(reason) => f.write_str(reason),
            Self::Unsupported(types) => {
                f.write_str("only PCMU and PCMA are recorded; this call used ")?;
                write_types(f, types)
            }
        }
    }
}

impl std::error::Error for NotFinished {}

fn write_types(out: &mut impl fmt::Write, types: &[(u8, u64)]) -> fmt::Result {
    for (place, (payload_type, packets)) in types.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        write!(out, "{comma}payload type {payload_type} ({packets} packets)")?;
    }
    Ok(())
}

/// Blocks; call it where blocking is allowed.
pub fn finalize(capture: &Path, target: &Path) -> Result<Finished, NotFinished> {
    let failed = |what: &str, error: io::Error| NotFinished::Failed(format!("{what}: {error}"));
    let source = File::open(capture).map_err(|error| failed("the capture", error))?;
    let folder = target.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder).map_err(|error| failed("the recordings folder", error))?;
    let part = target.with_extension("part");
    let written = write(source, &part);
    let finished = written.and_then(|finished| {
        fs::rename(&part, target)
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|error| failed("the recording", error))?;
        Ok(finished)
    });
    if finished.is_err()
        && let Err(error) = fs::remove_file(&part)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %part.display(), %error, "half a recording cannot be removed");
    }
    finished
}

fn write(source: File, part: &Path) -> Result<Finished, NotFinished> {
    let failed = |error: io::Error| NotFinished::Failed(format!("the recording: {error}"));
    let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(part);
    let mut out = BufWriter::with_capacity(1 << 16, file.map_err(failed)?);
    let made = wav::write(source, &mut out).map_err(|error| match error {
        // The shard creates the file before its first write: nothing of the call is in it.
        WavError::Capture(NotCapture::TooShort) => NotFinished::Empty,
        other => NotFinished::Failed(other.to_string()),
    })?;
    judge(&made.summary)?;
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let duration_ms = made.summary.samples * 1_000 / u64::from(RATE);
    Ok(Finished { duration_ms, bytes, note: note(&made.summary, made.tail) })
}

/// Whether there is anything to hear in it.
fn judge(summary: &Summary) -> Result<(), NotFinished> {
    if summary.packets_used > 0 {
        return Ok(());
    }
    let skipped: Vec<_> = summary.packets_skipped.iter().map(|(t, n)| (*t, *n)).collect();
    Err(if skipped.is_empty() { NotFinished::Empty } else { NotFinished::Unsupported(skipped) })
}

fn note(summary: &Summary, tail: Tail) -> Option<String> {
    let mut notes = Vec::new();
    if let Tail::Torn { offset } = tail {
        notes.push(format!("the capture is torn at byte {offset}"));
    }
    if summary.packets_malformed > 0 {
        notes.push(format!("{} packets were no RTP", summary.packets_malformed));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}
