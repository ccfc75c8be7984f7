//! The journal of one shard: what the core promised, in a file before the promise leaves.
//! Owns:  the frames that are not written yet, the open front, where writing has come.
//! Gives: `push` without a system call, `write` with one; the position for the control plane.
//! Never: touches a disk: fronts are in memory and outlive the process, the keeper copies them to the
//!        disk, where the control plane reads and removes them.
//! Holds: frames reach the file in order; what cannot be written waits and is tried again.

mod deck;
mod front;
mod keeper;
#[cfg(test)]
mod keeper_tests;
#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::event::{Event, Notice, Severity};
use shared::ids::ShardId;
use shared::journal::{Entry, Frames, Position, Segment};
use shared::limits;
use shared::metrics::{Counter, Counters};
use shared::time::Instant;

use deck::{Deck, Spare};
pub(crate) use keeper::{Keeper, open};

/// A call that a crash cuts is known to have lasted until the newest frame: half a second of error
/// at most, and a turn.
pub(crate) const BEAT: Duration = Duration::from_millis(500);
/// After a front that the system refused.
const RETRY_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Journal {
    shard: ShardId,
    deck: Arc<Deck>,
    frames: Frames,
    open: Option<Spare>,
    offset: u64,
    segment_bytes: u64,
    /// How far the fronts are good.
    written: Position,
    /// What the control plane was told last: how far the disk is good, and how many calls have ended.
    told: Position,
    told_ends: u64,
    /// Ends of calls that were pushed.
    ends: u64,
    /// The disk does not keep up: the number of ends is told without a new position.
    tells_ends: bool,
    beat_at: Instant,
    retry_at: Instant,
    stalled: bool,
    turned: bool,
    notices: Vec<Notice>,
}

impl Journal {
    fn new(shard: ShardId, deck: Arc<Deck>) -> Self {
        Self {
            shard,
            deck,
            frames: Frames::default(),
            open: None,
            offset: 0,
            segment_bytes: 0,
            written: Position::default(),
            told: Position::default(),
            told_ends: 0,
            ends: 0,
            tells_ends: false,
            beat_at: Instant::ZERO,
            retry_at: Instant::ZERO,
            stalled: false,
            turned: false,
            notices: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, now: Instant, entry: &Entry, counters: &mut Counters) {
        self.ends += u64::from(matches!(entry, Entry::End(_)));
        self.beat_at = now + BEAT;
        self.frames.push(now.as_millis(), entry);
        counters.bump(Counter::JournalRecords);
    }

    /// Proof that the shard lives, unless a frame has just been one.
    pub(crate) fn beat(&mut self, now: Instant, counters: &mut Counters) {
        if self.beat_at <= now {
            self.push(now, &Entry::Beat, counters);
        }
    }

    /// When the next beat is due, while calls stand.
    pub(crate) const fn beat_at(&self) -> Instant {
        self.beat_at
    }

    pub(crate) fn is_written(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether the disk has it all, too.
    pub(crate) fn is_saved(&self) -> bool {
        self.is_written() && self.deck.saved.get() >= self.written
    }

    /// When it is worth a look whether the disk has what was written: there will be news then.
    pub(crate) fn look_at(&self, now: Instant) -> Option<Instant> {
        (self.deck.saved.get() < self.written).then(|| now + keeper::LOOK)
    }

    /// Bytes that no segment could take yet.
    pub(crate) fn waiting(&self) -> usize {
        self.frames.len()
    }

    /// Writes what waits, with one system call unless it crosses into the next segment.
    pub(crate) fn write(&mut self, now: Instant, counters: &mut Counters) {
        if self.frames.is_empty() || now < self.retry_at {
            return;
        }
        while !self.frames.is_empty() {
            if self.open.is_none() && !self.adopt() {
                self.stall();
                break;
            }
            let Some(open) = &self.open else { break };
            let bytes = self.frames.seal(open.segment, self.offset, open.bytes);
            let count = bytes.len();
            // Nothing to write: it is full.
            let outcome = open.file.write_all_at(bytes, self.offset);
            match outcome {
                Ok(()) if count == 0 => self.open = None,
                Ok(()) => {
                    self.offset += count as u64;
                    self.frames.written(count);
                    self.written = Position { segment: open.segment.number, offset: self.offset };
                    self.deck.written.set(self.written);
                    counters.add(Counter::JournalBytes, count as u64);
                }
                Err(error) => {
                    self.refused(now, &error, counters);
                    break;
                }
            }
        }
        if self.frames.is_empty() && std::mem::take(&mut self.stalled) {
            self.notice(Severity::Info, "journal_back", "the journal is written again".to_owned());
        }
        counters.set(Counter::JournalWaiting, self.frames.len() as u64);
    }

    /// Goes on in the next segment; `false` when there is none.
    fn adopt(&mut self) -> bool {
        let Some(spare) = self.deck.spares.pop() else { return false };
        self.turned |= self.written != Position::default();
        self.offset = shared::journal::HEADER_BYTES as u64;
        self.segment_bytes = spare.bytes;
        // The one before is complete, also when it was given up.
        self.written = Position { segment: spare.segment.number, offset: self.offset };
        self.deck.written.set(self.written);
        self.open = Some(spare);
        true
    }

    fn stall(&mut self) {
        if !std::mem::replace(&mut self.stalled, true) {
            let limit = limits::JOURNAL_WAITING_BYTES_MAX >> 20;
            let text = format!(
                "the journal has no room: records wait in memory, and from {limit} MiB on new \
                 calls are refused"
            );
            self.notice(Severity::Error, "journal_full", text);
        }
    }

    /// Without memory the same bytes go to the same place later. After anything else this front is given
    /// up and what waits goes into the next one: a frame that got into the file nevertheless comes
    /// twice, which is as good as once.
    fn refused(&mut self, now: Instant, error: &io::Error, counters: &mut Counters) {
        counters.bump(Counter::JournalFailures);
        if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            self.open = None;
        }
        self.stalled = true;
        self.retry_at = now + RETRY_WAIT;
        let text = format!("the journal cannot be written: {error}; records wait in memory");
        self.notice(Severity::Error, "journal_failed", text);
    }

    /// Whether writing has moved on to another segment since the last call.
    pub(crate) fn take_turned(&mut self) -> bool {
        std::mem::take(&mut self.turned)
    }

    /// Once a second: what the keeper met, as numbers and as words.
    pub(crate) fn report(&mut self, counters: &mut Counters) {
        while let Some(trouble) = self.deck.troubles.pop() {
            counters.add(Counter::JournalFailures, u64::from(trouble.failed));
            self.notices.push(trouble.into_notice(self.shard));
        }
        counters.set(Counter::JournalSpares, self.deck.spares.len() as u64);
        counters.set(Counter::JournalWaiting, self.frames.len() as u64);
        counters.set(Counter::JournalUnsaved, self.unsaved());
        // Ends whose records the disk does not have yet are told, too.
        self.tells_ends = self.ends != self.told_ends;
    }

    /// Bytes that are in memory only, give or take the ends of segments.
    fn unsaved(&self) -> u64 {
        let saved = self.deck.saved.get();
        let segments = self.written.segment.saturating_sub(saved.segment.max(Segment::FIRST));
        (segments * self.segment_bytes + self.written.offset).saturating_sub(saved.offset)
    }

    fn notice(&mut self, severity: Severity, code: &'static str, detail: String) {
        let shard = self.shard;
        self.notices.push(Notice { shard, severity, code, detail, suppressed: 0 });
    }

    /// For the operator; at most a few a second.
    pub(crate) fn take_notice(&mut self) -> Option<Notice> {
        self.notices.pop()
    }

    /// What the control plane has not been told yet.
    pub(crate) fn news(&self) -> Option<Event> {
        let (shard, position, ends) = (self.shard, self.deck.saved.get(), self.ends);
        self.has_news().then_some(Event::Journaled { shard, position, ends, last: false })
    }

    /// When the shard leaves: whether the disk has all of it, or the next start finds the rest in memory.
    pub(crate) fn last_news(&self) -> Event {
        let last = self.is_saved();
        let (shard, position, ends) = (self.shard, self.deck.saved.get(), self.ends);
        Event::Journaled { shard, position, ends, last }
    }

    pub(crate) fn has_news(&self) -> bool {
        self.deck.saved.get() != self.told || self.tells_ends
    }

    /// It took the news.
    pub(crate) const fn told(&mut self, position: Position) {
        self.told = position;
        self.told_ends = self.ends;
        self.tells_ends = false;
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.deck.ended.store(true, Ordering::Release);
    }
}
