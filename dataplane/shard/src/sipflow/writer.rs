//! The thread that writes the SIP flow of every shard, and removes what is too old or too much.
//! Owns:  the files, from the first block of a segment on; the folder's size.
//! Gives: blocks in their place, in order; troubles to the shard.
//! Never: runs on a shard's CPU when there is another; syncs: power loss may cost what the kernel held.
//! Holds: a block that the disk refuses is tried again, so that a file has no hole; meanwhile the shard
//!        runs out of blocks and drops messages.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use shared::settings::{ShardSettings, SipFlowSettings};
use shared::sipflow::{FAMILY, Segment, Stream};

use super::SipFlow;
use super::deck::{Block, Deck};
use crate::background::{Outcome, leave_cpus};
use crate::start_error::StartError;

/// The longest sleep; a shard that has something wakes the thread.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks for segments whose time is over.
const EXPIRE_WAIT: Duration = Duration::from_secs(60);

/// The running thread; it ends when every shard's flow is dropped.
#[derive(Debug)]
pub(crate) struct Writer(JoinHandle<usize>);

impl Writer {
    pub(crate) fn join(self) -> Result<(), String> {
        match self.0.join() {
            Ok(0) => Ok(()),
            Ok(lost) => Err(format!("{lost} blocks of messages were not written")),
            Err(panic) => Err(crate::shards::message_of(panic.as_ref())),
        }
    }
}

/// One flow per shard, or none, and the thread that writes them.
pub(crate) fn open(
    all: &[ShardSettings],
) -> Result<(Vec<Option<SipFlow>>, Option<Writer>), StartError> {
    let Some(settings) = all.first().and_then(|first| first.sipflow.clone()) else {
        return Ok((all.iter().map(|_| None).collect(), None));
    };
    let refused = |error| StartError::SipFlowRefused { path: settings.folder.clone(), error };
    make_folder(&settings.folder).map_err(refused)?;
    let stream = |one: &ShardSettings| Stream { run: settings.run, shard: one.shard };
    let decks: Vec<_> = all.iter().map(|_| Arc::new(Deck::new())).collect();
    let lines = all.iter().zip(&decks);
    let lines = lines.map(|(one, deck)| Line::new(one.shard.0.into(), Arc::clone(deck))).collect();
    let mut files = Files::new(settings.clone(), lines);
    let shards: Vec<usize> = all.iter().map(|settings| settings.cpu).collect();
    let thread = thread::Builder::new().name("sipflow".to_owned()).spawn(move || {
        leave_cpus(&shards);
        while files.look() {
            thread::park_timeout(LOOK);
        }
        files.lost()
    });
    let thread = thread.map_err(refused)?;
    let flow = |(one, deck): (&ShardSettings, Arc<Deck>)| {
        Some(SipFlow::new(stream(one), &settings, deck, thread.thread().clone()))
    };
    let flows = all.iter().zip(decks).map(flow).collect();
    Ok((flows, Some(Writer(thread))))
}

/// The files of all shards.
#[derive(Debug)]
pub(super) struct Files {
    settings: SipFlowSettings,
    lines: Vec<Line>,
    expiring: Outcome,
    /// None: a segment was begun, so there may be one too many.
    expired_at: Option<Instant>,
}

/// What comes from one shard.
#[derive(Debug)]
pub(super) struct Line {
    number: usize,
    deck: Arc<Deck>,
    open: Option<(Segment, File)>,
    /// The block that the disk refused.
    waiting: Option<Block>,
    writing: Outcome,
}

impl Files {
    pub(super) const fn new(settings: SipFlowSettings, lines: Vec<Line>) -> Self {
        Self { settings, lines, expiring: Outcome::new(), expired_at: None }
    }

    /// Does what is due; `false` when every shard is gone and all is written, or given up.
    pub(super) fn look(&mut self) -> bool {
        // Read before the last look at their blocks.
        let ended = self.lines.iter().all(|line| line.deck.ended.load(Ordering::Acquire));
        for line in &mut self.lines {
            if line.write(&self.settings.folder) {
                self.expired_at = None;
            }
        }
        if self.expired_at.is_none_or(|at| at.elapsed() >= EXPIRE_WAIT) {
            self.expired_at = Some(Instant::now());
            let outcome = self.expire(SystemTime::now());
            if let Some(line) = self.lines.first() {
                let what = "old segments of the SIP flow cannot be removed";
                self.expiring.tell(&line.deck.troubles, "sipflow_not_removed", what, outcome);
            }
        }
        !ended
    }

    /// As if a second had passed.
    #[cfg(test)]
    pub(super) fn forget_failures(&mut self) {
        self.lines.iter_mut().for_each(|line| line.writing.forget_try());
    }

    /// Blocks that will never be written.
    fn lost(&self) -> usize {
        let lost = |line: &Line| {
            let left = usize::from(line.deck.lost.load(Ordering::Acquire));
            line.deck.full.len() + usize::from(line.waiting.is_some()) + left
        };
        self.lines.iter().map(lost).sum()
    }

    /// Removes segments that are too old, then the oldest until there is room for those that are
    /// being written.
    pub(super) fn expire(&mut self, now: SystemTime) -> io::Result<()> {
        let mut closed = Vec::new();
        let mut bytes = 0;
        for entry in fs::read_dir(&self.settings.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let segment = name.to_str().and_then(|name| Segment::of_file_name_of(&FAMILY, name));
            let Some(segment) = segment else { continue };
            let found = entry.metadata()?;
            let written_at = found.modified()?;
            let line = self.lines.iter_mut().find(|line| line.is_writing(segment));
            if now.duration_since(written_at).is_ok_and(|age| age >= self.settings.ttl) {
                // Its shard goes on in the next one.
                line.map(|line| line.open.take());
                remove(&entry.path())?;
            } else if line.is_none() {
                bytes += found.len();
                closed.push((written_at, segment, found.len(), entry.path()));
            }
        }
        closed.sort_unstable();
        let reserved = self.settings.segment_bytes.saturating_mul(self.lines.len() as u64);
        let most = self.settings.bytes_max.saturating_sub(reserved);
        for (.., length, path) in closed {
            if bytes <= most {
                break;
            }
            remove(&path)?;
            bytes -= length;
        }
        Ok(())
    }
}

impl Line {
    pub(super) const fn new(number: usize, deck: Arc<Deck>) -> Self {
        Self { number, deck, open: None, waiting: None, writing: Outcome::new() }
    }

    fn is_writing(&self, segment: Segment) -> bool {
        self.open.as_ref().is_some_and(|(open, _)| *open == segment)
    }

    /// Writes what there is; `true`: a segment was begun.
    fn write(&mut self, folder: &Path) -> bool {
        let mut begun = false;
        while self.writing.may_try() {
            let Some(block) = self.waiting.take().or_else(|| self.deck.full.pop()) else { break };
            begun |= !self.is_writing(block.segment);
            let outcome = self.put(folder, &block);
            match outcome {
                Ok(()) => {
                    let mut bytes = block.bytes;
                    bytes.clear();
                    // There are no more blocks than places for them.
                    drop(self.deck.empties.push(bytes));
                }
                Err(_) => self.waiting = Some(block),
            }
            let what = format!("the SIP flow of shard {} cannot be written", self.number);
            self.writing.tell(&self.deck.troubles, "sipflow_failed", &what, outcome);
        }
        begun
    }

    fn put(&mut self, folder: &Path, block: &Block) -> io::Result<()> {
        if !self.is_writing(block.segment) {
            make_folder(folder)?;
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600) // who called whom is nobody else's
                .open(path(folder, block.segment))?;
            file.write_all_at(&block.segment.header_of(&FAMILY), 0)?;
            self.open = Some((block.segment, file));
        }
        let Some((_, file)) = &self.open else { return Ok(()) };
        file.write_all_at(&block.bytes, block.offset)
    }
}

fn path(folder: &Path, segment: Segment) -> PathBuf {
    folder.join(segment.file_name_of(&FAMILY))
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
