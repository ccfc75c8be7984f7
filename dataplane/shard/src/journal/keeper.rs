//! The thread that brings what shards wrote from memory to the disk and syncs it (group commit).
//! Owns:  the files of every shard's journal from their making until they are complete and synced.
//! Gives: fronts and segments before they are needed; at most `LOOK`, `SYNC` and one sync of loss when power
//!        fails.
//! Never: runs on a shard's CPU when there is another; removes a segment; keeps a shard waiting.
//! Holds: a front is there until the disk has all of it; segments are complete with header and entry
//!        in their folder before anything is copied into them.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shared::ids::ShardId;
use shared::journal::{Position, Segment, Stream};
use shared::limits;
use shared::settings::{JournalSettings, ShardSettings};

use super::Journal;
use super::deck::{Deck, SPARES, Spare};
use super::front::Front;
use crate::background::{Outcome, Trouble, leave_cpus};
use crate::start_error::StartError;

/// Between two looks: for so long a record is in memory alone.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// Between two syncs. With a look and the time of a sync it stays within 200 ms (reliability.md DU2).
const SYNC: Duration = Duration::from_millis(130);
/// Fronts that wait for the disk, the spare ones included.
const FRONTS_MAX: usize = SPARES + 2;
/// Copied at a time.
const PIECE: u64 = 256 * 1_024;
static ZEROS: [u8; 64 * 1_024] = [0; 64 * 1_024];

/// The running thread; it ends when every shard's journal is dropped.
#[derive(Debug)]
pub(crate) struct Keeper(JoinHandle<()>);

impl Keeper {
    pub(crate) fn join(self) -> Result<(), String> {
        self.0.join().map_err(|panic| crate::shards::message_of(panic.as_ref()))
    }
}

/// Brings the disk up to what earlier runs left in memory, makes the first segments of every shard and
/// starts the thread.
pub(crate) fn open(all: &[ShardSettings]) -> Result<(Vec<Journal>, Keeper), StartError> {
    let journal = &all[0].journal;
    let refused = |error| StartError::JournalRefused { path: journal.folder.clone(), error };
    let (front, recovered) = Front::open(journal).map_err(refused)?;
    let front = Arc::new(front);
    let mut shelves: Vec<Shelf> = all
        .iter()
        .map(|settings| Shelf::new(&settings.journal, settings.shard, Arc::clone(&front)))
        .collect();
    for shelf in &mut shelves {
        shelf.fill().map_err(refused)?;
    }
    shelves[0].tell_start(recovered);
    let journal_of = |shelf: &Shelf| Journal::new(shelf.stream.shard, Arc::clone(shelf.deck()));
    let journals = shelves.iter().map(journal_of).collect();
    let shards: Vec<usize> = all.iter().map(|settings| settings.cpu).collect();
    let thread = thread::Builder::new()
        .name("journal".to_owned())
        .spawn(move || {
            leave_cpus(&shards);
            let mut look = || {
                let now = Instant::now();
                shelves.iter_mut().fold(false, |goes_on, shelf| shelf.look(now) | goes_on)
            };
            while look() {
                thread::park_timeout(LOOK);
            }
            front.close();
        })
        .map_err(refused)?;
    Ok((journals, Keeper(thread)))
}

/// The journal of one shard as the keeper sees it.
#[derive(Debug)]
pub(super) struct Shelf {
    deck: Arc<Deck>,
    front: Arc<Front>,
    folder: PathBuf,
    stream: Stream,
    bytes: u64,
    next: u64,
    /// Segments whose fronts are there, oldest first.
    files: VecDeque<Pair>,
    /// Copied, and not synced yet.
    dirty: bool,
    synced_at: Instant,
    buffer: Vec<u8>,
    stocking: Outcome,
    making: Outcome,
    copying: Outcome,
    syncing: Outcome,
}

/// A segment in memory and on the disk.
#[derive(Debug)]
struct Pair {
    segment: Segment,
    front: Arc<File>,
    /// Of the front.
    path: PathBuf,
    disk: Option<File>,
    copied: u64,
}

impl Shelf {
    pub(super) fn new(journal: &JournalSettings, shard: ShardId, front: Arc<Front>) -> Self {
        Self {
            deck: Arc::new(Deck::new()),
            front,
            folder: journal.folder.clone(),
            stream: Stream { run: journal.run, shard },
            bytes: journal.segment_bytes.max(shared::journal::SEGMENT_BYTES_MIN),
            next: Segment::FIRST,
            files: VecDeque::new(),
            dirty: false,
            synced_at: Instant::now(),
            buffer: Vec::new(),
            stocking: Outcome::default(),
            making: Outcome::default(),
            copying: Outcome::default(),
            syncing: Outcome::default(),
        }
    }

    /// What a shard starts with.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        while self.files.len() <= SPARES {
            self.add()?;
        }
        self.make_disk_files()
    }

    pub(super) fn deck(&self) -> &Arc<Deck> {
        &self.deck
    }

    /// As if a second had passed since something failed.
    #[cfg(test)]
    pub(super) const fn forget_tries(&mut self) {
        self.making.forget_try();
        self.copying.forget_try();
        self.stocking.forget_try();
    }

    fn tell_start(&mut self, recovered: usize) {
        let tell = |failed, code, text| {
            drop(self.deck.troubles.push(Trouble { failed, code, text }));
        };
        if recovered > 0 {
            let text = format!("{recovered} segments of an earlier run came out of memory");
            tell(false, "journal_recovered", text);
        }
        for notice in &self.front.notices {
            tell(true, "journal_front_on_disk", notice.clone());
        }
    }

    /// Does what is due; `false` when the shard is gone and all that can be is on the disk.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        // Read before the copying: what an ended shard wrote last is copied below.
        let ended = self.deck.ended.load(Ordering::Acquire);
        let written = self.deck.written.get();
        self.make_disk_files_told(ended);
        self.copy_told(written, ended);
        if self.dirty && (ended || now.duration_since(self.synced_at) >= SYNC) {
            self.sync();
            self.synced_at = now;
        }
        if !self.dirty {
            self.let_go(written, ended);
        }
        if !ended && self.deck.spares.len() < SPARES && self.stocking.may_try() {
            let outcome = self.stock();
            let text = "there is no spare front of the journal";
            self.stocking.tell(&self.deck.troubles, "journal_no_front", text, outcome);
        }
        !ended
    }

    fn make_disk_files_told(&mut self, ended: bool) {
        if ended || self.making.may_try() {
            let outcome = self.make_disk_files();
            let text = "there is no spare segment of the journal";
            self.making.tell(&self.deck.troubles, "journal_no_spare", text, outcome);
        }
    }

    /// The segment that is written and the one after it, which on a full disk is already there.
    fn make_disk_files(&mut self) -> io::Result<()> {
        let last = self.deck.written.get().segment.max(Segment::FIRST) + 1;
        for at in 0..self.files.len() {
            let segment = self.files[at].segment;
            if segment.number > last {
                break;
            }
            if self.files[at].disk.is_none() {
                let waiting = self.segments_waiting()?;
                if waiting >= limits::JOURNAL_SEGMENTS_MAX {
                    let text = format!("{waiting} segments wait for the database already");
                    return Err(io::Error::other(text));
                }
                self.files[at].disk = Some(make(&self.folder, segment, self.bytes)?);
            }
        }
        Ok(())
    }

    fn copy_told(&mut self, written: Position, ended: bool) {
        let is_behind = self.dirty || self.deck.saved.get() < written;
        if is_behind && (ended || self.copying.may_try()) {
            let outcome = self.copy(written);
            let text = "the journal is in memory only";
            self.copying.tell(&self.deck.troubles, "journal_unsaved", text, outcome);
        }
    }

    /// To the disk what the shard wrote since the last time, as far as there are files for it. What is
    /// told to be there ends with a whole frame.
    fn copy(&mut self, written: Position) -> io::Result<()> {
        for pair in &mut self.files {
            if pair.segment.number > written.segment {
                break;
            }
            let Some(disk) = &pair.disk else { break };
            let is_complete = pair.segment.number < written.segment;
            let end = if is_complete { pair.front.metadata()?.len() } else { written.offset };
            while pair.copied < end {
                let length = (end - pair.copied).min(PIECE);
                self.buffer.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
                pair.front.read_exact_at(&mut self.buffer, pair.copied)?;
                disk.write_all_at(&self.buffer, pair.copied)?;
                pair.copied += length;
                self.dirty = true;
            }
            let at = Position { segment: pair.segment.number, offset: end };
            self.deck.saved.set(at.max(self.deck.saved.get()));
        }
        Ok(())
    }

    fn sync(&mut self) {
        let files = self.files.iter().filter_map(|pair| pair.disk.as_ref());
        let outcome = files.map(File::sync_data).fold(Ok(()), Result::and);
        self.dirty = outcome.is_err();
        if self.dirty {
            // The kernel tells of a lost page once, and then takes it for good.
            self.files.iter_mut().for_each(|pair| pair.copied = 0);
        }
        let text = "the journal is not synced";
        self.syncing.tell(&self.deck.troubles, "journal_unsynced", text, outcome);
    }

    /// Lets go of fronts that the disk has whole. Oldest first: one that a kill leaves behind has all
    /// later ones beside it.
    fn let_go(&mut self, written: Position, ended: bool) {
        let saved = self.deck.saved.get();
        while let Some(pair) = self.files.front() {
            let number = pair.segment.number;
            let is_complete = number < written.segment && number < saved.segment;
            if !(is_complete || ended && saved >= written) {
                break;
            }
            // The next start copies it once more.
            drop(fs::remove_file(&pair.path));
            self.files.pop_front();
        }
    }

    fn segments_waiting(&self) -> io::Result<u64> {
        let mut count = 0;
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let segment = name.to_str().and_then(Segment::of_file_name);
            count += u64::from(segment.is_some_and(|segment| segment.stream == self.stream));
        }
        Ok(count)
    }

    /// As many fronts as there should be, unless those that wait for the disk are too many.
    fn stock(&mut self) -> io::Result<()> {
        while self.deck.spares.len() < SPARES {
            if self.files.len() >= FRONTS_MAX {
                let text = format!("{} segments wait for the disk", self.files.len());
                return Err(io::Error::other(text));
            }
            self.add()?;
        }
        Ok(())
    }

    fn add(&mut self) -> io::Result<()> {
        let segment = Segment { stream: self.stream, number: self.next };
        let (path, front) = self.front.make(segment, self.bytes)?;
        let front = Arc::new(front);
        self.next += 1;
        let pair = Pair { segment, front: Arc::clone(&front), path, disk: None, copied: 0 };
        self.files.push_back(pair);
        let spare = Spare { segment, file: front, bytes: self.bytes };
        // It is asked for room first, so this is never refused.
        self.deck.spares.push(spare).map_err(|_| io::Error::other("too many spare fronts"))
    }
}

/// A new segment: allocated, with its header, safe with its directory entry. Nothing is left of one
/// that could not be made.
pub(super) fn make(folder: &Path, segment: Segment, bytes: u64) -> io::Result<File> {
    let path = folder.join(segment.file_name());
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    let made = allocate(&file, bytes)
        .and_then(|()| file.write_all_at(&segment.header(), 0))
        .and_then(|()| file.sync_all())
        .and_then(|()| File::open(folder)?.sync_all());
    if let Err(error) = made {
        // If that fails too, the next start finds a segment without a frame.
        drop(fs::remove_file(&path));
        return Err(error);
    }
    Ok(file)
}

#[allow(unsafe_code)]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(|_| ErrorKind::InvalidInput)?;
    // SAFETY: the call takes an open descriptor of ours and three numbers. The standard library can
    // only set a length, which allocates nothing.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) {
        return Err(error);
    }
    let mut offset = 0;
    while offset < bytes {
        let piece = usize::try_from(bytes - offset).map_or(ZEROS.len(), |n| n.min(ZEROS.len()));
        file.write_all_at(&ZEROS[..piece], offset)?;
        offset += piece as u64;
    }
    Ok(())
}
