//! From captures to recordings: a queue, a few workers, and what a crash left behind.
//! Owns:  the task that takes closed captures and keeps their rows.
//! Gives: one stereo WAV per call: `FOLDER/YYYYMMDD/SESSION.wav`.
//! Never: blocks the pump for a disk, removes a capture before its recording is safe.
//! Holds: doing a capture twice gives the same recording and the same row. One that fails is tried
//!        again, so that a disk that was full needs no restart.

mod finalize;
mod leftovers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::event::CaptureClosed;
use shared::ids::CallId;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use finalize::{Finished, NotFinished, finalize};
pub use leftovers::{CAPTURE_EXTENSION, leftovers};

use crate::archive::Archive;
use crate::board::Board;
use crate::store::{Recording, RecordingState, Store, StoreError};

/// Captures that are worked on at a time: each reads and writes one file from end to end.
const WORKERS: usize = 2;
/// Captures that wait; beyond it the pump waits, and with it the shards.
const QUEUE_LEN: usize = 16_384;
/// Tries to write a row; later the next start does it, since the capture is still there.
const ROW_TRIES: u32 = 8;
const ROW_RETRY: Duration = Duration::from_millis(500);
/// Until a capture that failed is tried again, twice as long each time.
const AGAIN_FIRST: Duration = Duration::from_secs(30);
const AGAIN_LAST: Duration = Duration::from_hours(1);
/// Captures that failed and wait; more are left to the next start.
const AGAIN_MAX: usize = 10_000;

#[derive(Debug)]
pub struct Finalizer {
    task: JoinHandle<()>,
}

impl Finalizer {
    /// `folder`: where recordings go.
    pub fn start(
        store: Arc<dyn Store>,
        board: Arc<Board>,
        archive: Arc<Archive>,
        folder: PathBuf,
    ) -> (Self, mpsc::Sender<CaptureClosed>) {
        let (sender, queue) = mpsc::channel(QUEUE_LEN);
        let desk = Arc::new(Desk { store, board, archive, folder });
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
    archive: Arc<Archive>,
    folder: PathBuf,
}

/// A capture, and how often it failed.
struct Work {
    closed: CaptureClosed,
    failures: u32,
}

/// Captures that failed, by when they are tried again.
#[derive(Default)]
struct Again(BTreeMap<(Instant, CallId), Work>);

impl Again {
    fn put(&mut self, work: Work) {
        if self.0.len() >= AGAIN_MAX {
            tracing::error!(call = %work.closed.call, "a capture waits for the next start");
            return;
        }
        let doublings = work.failures.saturating_sub(1).min(16);
        let wait = AGAIN_LAST.min(AGAIN_FIRST * 2_u32.pow(doublings));
        self.0.insert((Instant::now() + wait, work.closed.call), work);
    }

    /// Waits for the next one; for ever when there is none.
    async fn due(&mut self) -> Work {
        match self.0.first_key_value() {
            Some(((at, _), _)) => sleep_until(*at).await,
            None => std::future::pending().await,
        }
        let (_, work) = self.0.pop_first().expect("there was one, and it is ours");
        work
    }
}

async fn run(desk: Arc<Desk>, mut queue: mpsc::Receiver<CaptureClosed>) {
    let mut work: JoinSet<Option<Work>> = JoinSet::new();
    let mut again = Again::default();
    let mut open = true;
    loop {
        desk.waiting(queue.len() + work.len() + again.0.len());
        let room = open && work.len() < WORKERS;
        let next = tokio::select! {
            closed = queue.recv(), if room => {
                open = closed.is_some();
                closed.map(|closed| Work { closed, failures: 0 })
            }
            next = again.due(), if room => Some(next),
            Some(done) = work.join_next(), if !work.is_empty() => {
                match done {
                    Ok(failed) => failed.into_iter().for_each(|failed| again.put(failed)),
                    Err(error) => tracing::error!(%error, "a recording could not be made"),
                }
                None
            }
            else => break,
        };
        if let Some(next) = next {
            let desk = Arc::clone(&desk);
            work.spawn(async move { desk.make(next).await });
        }
    }
}

impl Desk {
    /// One capture, from its first row to its last. Gives it back when it is worth another try.
    async fn make(&self, Work { closed, failures }: Work) -> Option<Work> {
        let failed = Work { closed: closed.clone(), failures: failures + 1 };
        let mut recording = Recording {
            call: closed.call,
            state: RecordingState::Pending,
            capture: closed.path.clone(),
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
            }
            Err(why) => {
                recording.state = why.state();
                let reason = match (&why, closed.lost) {
                    (NotFinished::Empty, 1..) => "no packet reached the disk".to_owned(),
                    _ => why.to_string(),
                };
                recording.error = joined(recording.error.take(), Some(reason));
                if failures == 0 {
                    counts.recordings_failed.fetch_add(1, Ordering::Relaxed);
                }
                let (call, capture) = (recording.call, recording.capture.display());
                tracing::warn!(%call, %capture, reason = %why, "no recording");
            }
        }
        let stored = self.put(&recording).await;
        if stored && recording.state == RecordingState::Ready {
            counts.recordings_ready.fetch_add(1, Ordering::Relaxed);
        }
        let spent = matches!(recording.state, RecordingState::Ready | RecordingState::Empty);
        if stored && spent {
            self.remove(&recording.capture).await;
        }
        let is_retried = !stored || recording.state == RecordingState::Failed;
        is_retried.then_some(failed)
    }

    /// Writes the row; false when the database did not take it in a while.
    async fn put(&self, recording: &Recording) -> bool {
        for attempt in 1..=ROW_TRIES {
            let sections = match recording.state {
                RecordingState::Ready => self.archive.targets().sections(),
                _ => Vec::new(),
            };
            match self.store.finish_recording(recording, &sections).await {
                Ok(()) => {
                    if !sections.is_empty() {
                        self.archive.wake();
                    }
                    return true;
                }
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

/// One folder per day, so that none grows without bound.
pub fn recording_path(folder: &Path, call: CallId) -> PathBuf {
    folder.join(day_of(call)).join(format!("{call}.wav"))
}

/// `YYYYMMDD`, the day on which the call began (UTC).
pub fn day_of(call: CallId) -> String {
    // 48 bits of wall time stand before 80 other bits.
    let ms = i64::try_from(call.0 >> 80).unwrap_or(0);
    let day = time::OffsetDateTime::from_unix_timestamp(ms / 1_000)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
        .date();
    format!("{:04}{:02}{:02}", day.year(), u8::from(day.month()), day.day())
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
