//! Captures that a crash or a full disk left behind.
//! Owns:  the look into the captures folder at start, before any shard writes there.
//! Gives: what the finalizer still has to do.
//! Never: reads a capture.
//! Holds: a capture that can never become a recording is not tried again.

use std::io;
use std::path::{Path, PathBuf};

use shared::event::CaptureClosed;
use shared::ids::CallId;

use crate::store::{RecordingState, Store, StoreError};

/// The ending of capture files; the stem is the call's id.
pub const CAPTURE_EXTENSION: &str = "rgcap";

/// Every capture in `folder` that has no recording yet, oldest call first.
pub async fn leftovers(store: &dyn Store, folder: &Path) -> io::Result<Vec<CaptureClosed>> {
    let mut found = Vec::new();
    for (call, path) in captures(folder)? {
        let known = match store.recording(call).await {
            Ok(known) => known,
            Err(StoreError::Broken(reason)) => {
                tracing::error!(%call, reason, "a recording's row cannot be read");
                None
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        if known.as_ref().is_some_and(|known| known.state == RecordingState::Unsupported) {
            continue;
        }
        let bytes = std::fs::metadata(&path)?.len();
        let lost = known.map_or(0, |known| known.packets_lost);
        found.push(CaptureClosed { call, path, packets: 0, bytes, lost, error: None });
    }
    Ok(found)
}

fn captures(folder: &Path) -> io::Result<Vec<(CallId, PathBuf)>> {
    let mut captures = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let is_capture = path.extension().is_some_and(|extension| extension == CAPTURE_EXTENSION);
        match stem.and_then(|stem| stem.parse::<CallId>().ok()) {
            Some(call) if is_capture => captures.push((call, path)),
            _ => tracing::warn!(file = %path.display(), "not a capture of ours, left alone"),
        }
    }
    captures.sort();
    Ok(captures)
}
