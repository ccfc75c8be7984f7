//! The task that moves one shard's journal into the database while the shard runs.
//! Owns:  the wait for news, the batch that is being stored, its tries.
//! Gives: one transaction per batch: up to 500 records or 100 ms, whatever comes first.
//! Never: gives up on a record. One that the database can never take is put aside and told.
//! Holds: a batch is tried until it is stored; meanwhile the journal grows on the disk, not here.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::cdr::Cdr;
use shared::journal::{Position, Stream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::folder;
use super::reader::{Batch, Damage, Reader};
use super::{Over, Reached, Sink};
use crate::board::Board;
use crate::store::{JournalMark, StoreError};

pub(super) const BATCH_MAX: usize = 500;
const BATCH_WAIT: Duration = Duration::from_millis(100);
/// Between two tries of one batch: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// What readers of journals work with.
#[derive(Debug)]
pub(super) struct Desk {
    sink: Arc<dyn Sink>,
    board: Arc<Board>,
    /// Where the segments are.
    pub(super) folder: PathBuf,
    /// Segments below are removed already.
    removed_below: u64,
    /// News of the shard; recovery has none.
    reached: Option<watch::Receiver<Reached>>,
    taken: u64,
    /// What this desk has added to the gauges.
    backlog: u64,
    failing: bool,
}

/// Reads on as the shard writes. Ends when the shard has stopped and all is stored.
pub(super) async fn follow(mut desk: Desk, stream: Stream, mut reached: watch::Receiver<Reached>) {
    desk.reached = Some(reached.clone());
    let mut reader = Reader::live(desk.folder.clone(), stream);
    let mut seen = Reached::default();
    loop {
        // The sender lives as long as this task's owner.
        if reached.wait_for(|reached| *reached != seen).await.is_err() {
            return;
        }
        if reached.borrow().over == Over::No {
            sleep(BATCH_WAIT).await;
        }
        seen = *reached.borrow_and_update();
        desk.update_backlog();
        // Never to the end of a file: the keeper may still write, and what is marked is not read again.
        reader = desk.take_all(reader, Some(seen.position)).await;
        desk.sweep(&reader).await;
        if seen.over != Over::No {
            break;
        }
    }
    // What a disk that stalled has not been given yet comes out of memory at the next start.
    if seen.over == Over::Stopped && seen.whole && reader.stands() == 0 {
        desk.finish(&[], stream, reader.at).await;
    }
}

impl Desk {
    pub(super) const fn new(sink: Arc<dyn Sink>, board: Arc<Board>, folder: PathBuf) -> Self {
        Self {
            sink,
            board,
            folder,
            removed_below: 1,
            reached: None,
            taken: 0,
            backlog: 0,
            failing: false,
        }
    }

    /// Records that left this desk so far.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Stores everything up to the limit.
    pub(super) async fn take_all(&mut self, mut reader: Reader, limit: Option<Position>) -> Reader {
        loop {
            let (back, batch) = self.read(reader, limit).await;
            reader = back;
            for damage in &batch.damage {
                self.tell(damage);
            }
            if !batch.ends.is_empty() {
                let mark =
                    JournalMark { stream: reader.stream, position: reader.at, finished: false };
                self.store(&batch.ends, mark).await;
                reader.stored();
            }
            if batch.caught_up {
                return reader;
            }
        }
    }

    /// The next batch, read on a thread that may wait for a disk.
    async fn read(&mut self, mut reader: Reader, limit: Option<Position>) -> (Reader, Batch) {
        let mut wait = RETRY_FIRST;
        loop {
            let read = tokio::task::spawn_blocking(move || {
                let batch = reader.batch(limit, BATCH_MAX);
                (reader, batch)
            });
            let (back, batch) = match read.await {
                Ok(read) => read,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            match batch {
                Ok(batch) => return (back, batch),
                Err(error) => {
                    self.failed("the journal cannot be read", &error, wait);
                    sleep(wait).await;
                    wait = RETRY_LAST.min(2 * wait);
                }
            }
            reader = back;
        }
    }

    /// Ends when the records and the mark are in the database.
    pub(super) async fn store(&mut self, ends: &[Cdr], mark: JournalMark) {
        match self.try_until_decided(ends, mark).await {
            Ok(()) => self.stored(ends.len()),
            Err(_) => {
                // One of them can never be stored; the others must not suffer for it.
                for one in ends {
                    match self.try_until_decided(std::slice::from_ref(one), mark).await {
                        Ok(()) => self.stored(1),
                        Err(reason) => self.refused(one, &reason),
                    }
                }
            }
        }
    }

    /// Tries until it is stored, or refused for good.
    async fn try_until_decided(&mut self, ends: &[Cdr], mark: JournalMark) -> Result<(), String> {
        let mut wait = RETRY_FIRST;
        loop {
            match self.sink.take(ends, mark).await {
                Ok(()) => {
                    self.set_failing(false);
                    return Ok(());
                }
                Err(StoreError::Refused(reason)) => return Err(reason),
                Err(error) => self.failed("call records could not be stored", &error, wait),
            }
            self.pause(wait).await;
            wait = RETRY_LAST.min(2 * wait);
        }
    }

    /// Waits before the next try; the gauge goes on meanwhile.
    async fn pause(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        loop {
            self.update_backlog();
            let Some(reached) = &mut self.reached else { return sleep(wait).await };
            match timeout_at(until, reached.changed()).await {
                Ok(Ok(())) => {}
                // Nobody writes any more.
                Ok(Err(_)) => return sleep_until(until).await,
                Err(_) => return,
            }
        }
    }

    fn stored(&mut self, records: usize) {
        let records = records as u64;
        self.board.counts.cdrs_stored.fetch_add(records, Ordering::Relaxed);
        self.taken += records;
        self.update_backlog();
    }

    fn refused(&mut self, cdr: &Cdr, reason: &str) {
        self.taken += 1;
        self.board.counts.journal_damaged.fetch_add(1, Ordering::Relaxed);
        let record = serde_json::to_string(cdr).unwrap_or_else(|error| error.to_string());
        let name = format!("{}.json", cdr.session_id);
        match folder::quarantine(&self.folder, &name, record.as_bytes()) {
            Ok(kept) => {
                let kept = kept.display();
                tracing::error!(reason, %kept, "the database refuses a call record");
            }
            // The log is the last place that is left.
            Err(error) => {
                tracing::error!(reason, %error, record, "the database refuses a call record");
            }
        }
    }

    /// The last words about a stream: everything in it is stored, so its segments go.
    pub(super) async fn finish(&mut self, ends: &[Cdr], stream: Stream, position: Position) {
        self.store(ends, JournalMark { stream, position, finished: true }).await;
        if self.remove(stream, u64::MAX).await {
            self.forget(stream).await;
        }
    }

    pub(super) async fn forget(&mut self, stream: Stream) {
        // A mark that stays is forgotten by the next start.
        if let Err(error) = self.sink.forget(stream).await {
            tracing::warn!(%error, "the mark of a finished journal stays for now");
        }
    }

    async fn sweep(&mut self, reader: &Reader) {
        if reader.at.segment <= self.removed_below {
            return;
        }
        let end = reader.needed_from();
        if end > self.removed_below && self.remove(reader.stream, end).await {
            self.removed_below = end;
        }
    }

    /// Removes segments below `end`; what cannot be removed now is tried with the next ones.
    pub(super) async fn remove(&self, stream: Stream, end: u64) -> bool {
        let folder = self.folder.clone();
        let removed = tokio::task::spawn_blocking(move || folder::remove(&folder, stream, end));
        match removed.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "segments of the journal cannot be removed");
                false
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    pub(super) async fn marks(&mut self) -> Vec<JournalMark> {
        let mut wait = RETRY_FIRST;
        loop {
            match self.sink.marks().await {
                Ok(marks) => {
                    self.set_failing(false);
                    return marks;
                }
                Err(error) => self.failed("the marks of the journal cannot be read", &error, wait),
            }
            sleep(wait).await;
            wait = RETRY_LAST.min(2 * wait);
        }
    }

    pub(super) fn failed(&mut self, what: &str, error: &dyn std::fmt::Display, wait: Duration) {
        self.set_failing(true);
        let failures = self.board.counts.cdr_failures.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(
            %error, failures, retry_in = ?wait,
            "{what}; they stay in the journal and are tried again"
        );
    }

    fn tell(&self, damage: &Damage) {
        self.board.counts.journal_damaged.fetch_add(1, Ordering::Relaxed);
        let Damage { segment, what, kept } = damage;
        let kept = kept.as_ref().map(|path| path.display().to_string());
        tracing::error!(segment = segment.file_name(), kept, "damage in the journal: {what}");
    }

    fn set_failing(&mut self, failing: bool) {
        if std::mem::replace(&mut self.failing, failing) != failing {
            let gauge = &self.board.counts.journals_failing;
            move_gauge(gauge, u64::from(!failing), u64::from(failing));
        }
    }

    /// Records that this shard wrote and the database does not have.
    fn update_backlog(&mut self) {
        let Some(reached) = &self.reached else { return };
        let backlog = reached.borrow().ends.saturating_sub(self.taken);
        move_gauge(&self.board.counts.cdr_backlog, self.backlog, backlog);
        self.backlog = backlog;
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.set_failing(false);
        move_gauge(&self.board.counts.cdr_backlog, self.backlog, 0);
    }
}

/// Several tasks share a gauge: each replaces its own part.
fn move_gauge(gauge: &AtomicU64, from: u64, to: u64) {
    gauge.fetch_add(to, Ordering::Relaxed);
    gauge.fetch_sub(from, Ordering::Relaxed);
}
