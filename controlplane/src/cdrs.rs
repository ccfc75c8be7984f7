//! Call records on their way into the database.
//! Owns:  the batch that is being written, and the file that keeps it when the database does not.
//! Gives: one transaction per batch: up to 500 records or 50 ms, whatever comes first.
//! Never: drops a record. While the database fails the batch is tried again and the queue behind it
//!        fills; at the end of the process what is left goes to a file that the next start reads.
//! Holds: a record is in the database once, however often it was tried.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::cdr::Cdr;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::board::Board;
use crate::store::{Store, StoreError};

const BATCH_MAX: usize = 500;
const BATCH_WAIT: Duration = Duration::from_millis(50);
/// Records that wait behind a failing batch; beyond it the shards refuse new calls.
const QUEUE_LEN: usize = 16_384;
/// Between two tries of one batch: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// The task that writes, and the way to end it.
#[derive(Debug)]
pub struct CdrWriter {
    task: JoinHandle<()>,
    hurry: watch::Sender<bool>,
}

impl CdrWriter {
    /// `folder`: where a batch goes that the database does not take before the process ends.
    pub fn start(
        store: Arc<dyn Store>,
        board: Arc<Board>,
        folder: PathBuf,
    ) -> (Self, mpsc::Sender<Cdr>) {
        let (sender, queue) = mpsc::channel(QUEUE_LEN);
        let (hurry, hurried) = watch::channel(false);
        let writer = Writer { store, board, folder, queue, hurried, given_up: false };
        (Self { task: tokio::spawn(writer.run()), hurry }, sender)
    }

    /// From now on nothing is tried twice: what the database does not take goes to the file.
    pub fn hurry(&self) {
        self.hurry.send_replace(true);
    }

    /// Waits until everything is written. After `patience` nothing is tried twice any more: what the
    /// database does not take goes to the file.
    pub async fn finish(mut self, patience: Duration) {
        let done = timeout(patience, &mut self.task).await;
        let done = match done {
            Ok(done) => done,
            Err(_) => {
                self.hurry();
                self.task.await
            }
        };
        if let Err(error) = done {
            tracing::error!(%error, "the writer of call records ended badly");
        }
    }
}

struct Writer {
    store: Arc<dyn Store>,
    board: Arc<Board>,
    folder: PathBuf,
    queue: mpsc::Receiver<Cdr>,
    hurried: watch::Receiver<bool>,
    /// The database failed in a hurry: what follows goes to files at once.
    given_up: bool,
}

impl Writer {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.fill(&mut batch).await {
            self.write(&batch).await;
            batch.clear();
            self.waiting(0);
        }
    }

    /// Collects one batch; false when there will be none any more.
    async fn fill(&mut self, batch: &mut Vec<Cdr>) -> bool {
        if self.queue.recv_many(batch, BATCH_MAX).await == 0 {
            return false;
        }
        let deadline = Instant::now() + BATCH_WAIT;
        while batch.len() < BATCH_MAX {
            let room = BATCH_MAX - batch.len();
            match timeout_at(deadline, self.queue.recv_many(batch, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        true
    }

    /// Ends when the batch is in the database or in the file.
    async fn write(&mut self, batch: &[Cdr]) {
        if self.given_up {
            self.keep(batch, "the database failed before");
            return;
        }
        let mut wait = RETRY_FIRST;
        loop {
            self.waiting(batch.len());
            let error = match self.store.add_cdrs(batch).await {
                Ok(()) => {
                    let stored = batch.len() as u64;
                    self.board.counts.cdrs_stored.fetch_add(stored, Ordering::Relaxed);
                    return;
                }
                Err(error) => error,
            };
            let failures = self.board.counts.cdr_failures.fetch_add(1, Ordering::Relaxed) + 1;
            let hurried = *self.hurried.borrow();
            if hurried || matches!(error, StoreError::Refused(_)) {
                self.given_up |= hurried;
                self.keep(batch, &error.to_string());
                return;
            }
            tracing::error!(
                %error, failures, records = batch.len(), retry_in = ?wait,
                "call records could not be stored; they are kept and tried again"
            );
            // A hurry ends the wait: the next try is the last one.
            let _hurried = timeout(wait, self.hurried.wait_for(|hurry| *hurry)).await;
            wait = RETRY_LAST.min(2 * wait);
        }
    }

    /// Records that are not in the database: those of the batch and those behind it.
    fn waiting(&self, batch: usize) {
        let waiting = (batch + self.queue.len()) as u64;
        self.board.counts.cdr_backlog.store(waiting, Ordering::Relaxed);
    }

    fn keep(&self, batch: &[Cdr], error: &str) {
        match write_file(&self.folder, batch) {
            Ok(path) => tracing::error!(
                error, records = batch.len(), file = %path.display(),
                "call records are kept in a file; the next start stores them"
            ),
            Err(file_error) => {
                // The log is the last place that is left.
                for cdr in batch {
                    let cdr = serde_json::to_string(cdr).unwrap_or_else(|e| e.to_string());
                    tracing::error!(error, %file_error, cdr, "a call record could not be stored");
                }
            }
        }
    }
}

/// One JSON record per line, in a file of its own.
fn write_file(folder: &Path, batch: &[Cdr]) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let first = batch.first().map_or_else(String::new, |cdr| cdr.session_id.to_string());
    let path = folder.join(format!("{first}.jsonl"));
    let part = path.with_extension("part");
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&part)?;
    for cdr in batch {
        serde_json::to_writer(&file, cdr)?;
        file.write_all(b"\n")?;
    }
    file.sync_all()?;
    fs::rename(&part, &path)?;
    File::open(folder)?.sync_all()?;
    Ok(path)
}

/// Stores what an earlier process kept in files. Gives the number of records; a file that cannot be
/// stored stays where it is.
pub async fn recover(store: &dyn Store, folder: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut recovered = 0;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let batch = match read_file(&path) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "kept call records are unreadable");
                continue;
            }
        };
        match store.add_cdrs(&batch).await {
            Ok(()) => {
                recovered += batch.len();
                fs::remove_file(&path)?;
            }
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "call records stay in their file");
            }
        }
    }
    Ok(recovered)
}

fn read_file(path: &Path) -> io::Result<Vec<Cdr>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::from)).collect()
}
