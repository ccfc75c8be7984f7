//! From captures to recordings: a queue, a few workers, and what a crash left behind.
//! Owns:  the task that takes closed captures and keeps their rows.
//! Gives: one stereo WAV per call: `FOLDER/YYYYMMDD/SESSION.wav`.
//! Never: blocks the pump for a disk, removes a capture before its recording is safe.
//! Holds: doing a capture twice gives the same recording and the same row.

mod finalize;
mod leftovers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::event::CaptureClosed;
use shared::ids::CallId;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

pub use finalize::{Finished, NotFinished, finalize};
pub use leftovers::leftovers;

use crate::board::Board;
use crate::store::{Recording, RecordingState, Store, StoreError};

/// Captures that are worked on at a time: each reads and writes one file from end to end.
const WORKERS: usize = 2;
/// Captures that wait; beyond it the pump waits, and with it the shards.
const QUEUE_LEN: usize = 16_384;
/// Tries to write a row; later the next start does it, since the capture is still there.
const ROW_TRIES: u32 = 8;
const ROW_RETRY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Finalizer {
    task: JoinHandle<()>,
}

impl Finalizer {
    /// `folder`: where recordings go.
    pub fn start(
        store: Arc<dyn Store>,
        board: Arc<Board>,
        folder: PathBuf,
    ) -> (Self, mpsc::Sender<CaptureClosed>) {
        let (sender, queue) = mpsc::channel(QUEUE_LEN);
        let desk = Arc::new(Desk { store, board, folder });
        (Self { task: tokio::spawn(run(desk, queue)) }, sender)
    }

    /// Waits for what is in the queue; what takes longer is left to the next start.
    pub async fn finish(mut self, patience: Duration) {
        match timeout(patience, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the finalizer ended badly"),
            Err(_) => {
                self.task.abort();
                tracing::warn!("captures are left; the next start makes recordings of them");
            }
        }
    }
}

#[derive(Debug)]
struct Desk {
    store: Arc<dyn Store>,
    board: Arc<Board>,
    folder: PathBuf,
}

async fn run(desk: Arc<Desk>, mut queue: mpsc::Receiver<CaptureClosed>) {
    let mut work = JoinSet::new();
    let mut open = true;
    loop {
        desk.waiting(queue.len() + work.len());
        tokio::select! {
            closed = queue.recv(), if open && work.len() < WORKERS => match closed {
                Some(closed) => {
                    let desk = Arc::clone(&desk);
                    work.spawn(async move { desk.make(closed).await });
                }
                None => open = false,
            },
            Some(done) = work.join_next(), if !work.is_empty() => report(done),
            else => break,
        }
    }
}

fn report(done: Result<(), tokio::task::JoinError>) {
    if let Err(error) = done {
        tracing::error!(%error, "a recording could not be made");
    }
}

impl Desk {
    /// One capture, from its first row to its last.
    async fn make(&self, closed: CaptureClosed) {
        let mut recording = Recording {
            call: closed.call,
            state: RecordingState::Pending,
            capture: closed.path,
            path: None,
            duration_ms: None,
            size: None,
            packets_lost: closed.lost,
            error: closed.error,
        };
        self.put(&recording).await;
        let (capture, target) =
            (recording.capture.clone(), recording_path(&self.folder, recording.call));
        let done = tokio::task::spawn_blocking({
            let target = target.clone();
            move || finalize(&capture, &target)
        });
        let done = done.await.unwrap_or_else(|error| Err(NotFinished::Failed(error.to_string())));
        let counts = &self.board.counts;
        match done {
            Ok(finished) => {
                recording.state = RecordingState::Ready;
                recording.path = Some(target);
                recording.duration_ms = Some(finished.duration_ms);
                recording.size = Some(finished.bytes);
                recording.error = joined(recording.error.take(), finished.note);
                counts.recordings_ready.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => {
                recording.state = why.state();
                recording.error = joined(recording.error.take(), Some(why.to_string()));
                counts.recordings_failed.fetch_add(1, Ordering::Relaxed);
                let (call, capture) = (recording.call, recording.capture.display());
                tracing::warn!(%call, %capture, reason = %why, "no recording");
            }
        }
        let stored = self.put(&recording).await;
        let spent = matches!(recording.state, RecordingState::Ready | RecordingState::Empty);
        if stored && spent {
            self.remove(&recording.capture).await;
        }
    }

    /// Writes the row; false when the database did not take it in a while.
    async fn put(&self, recording: &Recording) -> bool {
        for attempt in 1..=ROW_TRIES {
            match self.store.put_recording(recording).await {
                Ok(()) => return true,
                Err(error @ StoreError::Refused(_)) => {
                    tracing::error!(call = %recording.call, %error, "a recording has no row");
                    return false;
                }
                Err(error) => {
                    tracing::error!(call = %recording.call, %error, attempt, "a recording's row");
                    sleep(ROW_RETRY * attempt).await;
                }
            }
        }
        false
    }

    async fn remove(&self, capture: &Path) {
        if let Err(error) = tokio::fs::remove_file(capture).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(capture = %capture.display(), %error, "a capture cannot be removed");
        }
    }

    fn waiting(&self, captures: usize) {
        self.board.counts.recordings_backlog.store(captures as u64, Ordering::Relaxed);
    }
}

fn joined(first: Option<String>, second: Option<String>) -> Option<String> {
    match (first, second) {
        (Some(first), Some(second)) => Some(format!("{first}; {second}")),
        (first, second) => first.or(second),
    }
}

/// One folder per day, so that none grows without bound. The day is that of the call's id (UTC).
pub fn recording_path(folder: &Path, call: CallId) -> PathBuf {
    // 48 bits of wall time stand before 80 other bits.
    let ms = i64::try_from(call.0 >> 80).unwrap_or(0);
    let day = time::OffsetDateTime::from_unix_timestamp(ms / 1_000)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
        .date();
    let day = format!("{:04}{:02}{:02}", day.year(), u8::from(day.month()), day.day());
    folder.join(day).join(format!("{call}.wav"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_lies_under_the_day_of_its_call() {
        // 2026-11-24T01:09:18Z
        let call = CallId((1_795_482_558_000_u128 << 80) | 7);
        let path = recording_path(Path::new("r"), call);
        assert_eq!(path.parent(), Some(Path::new("r/20261124")));
        assert_eq!(path.file_stem().and_then(|s| s.to_str()), Some(call.to_string().as_str()));
    }
}
