//! The thread that makes segments ahead and syncs what shards wrote (group commit).
//! Owns:  the files of every shard's journal from their making until they are complete and synced.
//! Gives: a spare segment before it is needed; at most `LOOK` and one sync of loss when power fails.
//! Never: runs on a shard's CPU when there is another; removes a segment.
//! Holds: a segment is complete on the disk, header and directory entry too, before a shard has it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use shared::journal::{Segment, Stream};
use shared::limits;
use shared::settings::ShardSettings;

use super::Journal;
use super::deck::{Deck, SPARES, Spare};
use crate::background::{Outcome, leave_cpus};
use crate::start_error::StartError;

/// Between two looks. With the time of a sync it stays within 200 ms (reliability.md DU2).
const LOOK: Duration = Duration::from_millis(150);
static ZEROS: [u8; 64 * 1_024] = [0; 64 * 1_024];

/// The running thread; it ends when every shard's journal is dropped.
#[derive(Debug)]
pub(crate) struct Keeper(JoinHandle<()>);

impl Keeper {
    pub(crate) fn join(self) -> Result<(), String> {
        self.0.join().map_err(|panic| crate::shards::message_of(panic.as_ref()))
    }
}

/// Makes the first segments of every shard and starts the thread.
pub(crate) fn open(all: &[ShardSettings]) -> Result<(Vec<Journal>, Keeper), StartError> {
    let mut shelves: Vec<Shelf> = all.iter().map(Shelf::new).collect();
    for shelf in &mut shelves {
        for _ in 0..=SPARES {
            shelf.add().map_err(|error| StartError::JournalRefused {
                path: shelf.folder.clone(),
                error,
            })?;
        }
    }
    let journals =
        shelves.iter().map(|shelf| Journal::new(shelf.stream.shard, Arc::clone(&shelf.deck)));
    let journals = journals.collect();
    let shards: Vec<usize> = all.iter().map(|settings| settings.cpu).collect();
    let thread = thread::Builder::new()
        .name("journal".to_owned())
        .spawn(move || {
            leave_cpus(&shards);
            while shelves.iter_mut().fold(false, |goes_on, shelf| shelf.look() | goes_on) {
                thread::park_timeout(LOOK);
            }
        })
        .map_err(|error| StartError::JournalRefused {
            path: all[0].journal.folder.clone(),
            error,
        })?;
    Ok((journals, Keeper(thread)))
}

/// The journal of one shard as the keeper sees it.
#[derive(Debug)]
struct Shelf {
    deck: Arc<Deck>,
    folder: PathBuf,
    stream: Stream,
    bytes: u64,
    next: u64,
    /// Files that may still be written, by number.
    files: VecDeque<(u64, Arc<File>)>,
    stocking: Outcome,
    syncing: Outcome,
}

impl Shelf {
    fn new(settings: &ShardSettings) -> Self {
        let journal = &settings.journal;
        Self {
            deck: Arc::new(Deck::new()),
            folder: journal.folder.clone(),
            stream: Stream { run: journal.run, shard: settings.shard },
            bytes: journal.segment_bytes.max(shared::journal::SEGMENT_BYTES_MIN),
            next: Segment::FIRST,
            files: VecDeque::new(),
            stocking: Outcome::default(),
            syncing: Outcome::default(),
        }
    }

    /// Does what is due; `false` when the shard is gone and all is synced.
    fn look(&mut self) -> bool {
        // Read before the sync: what an ended shard wrote last is synced below.
        let ended = self.deck.ended.load(Ordering::Acquire);
        if self.deck.dirty.swap(false, Ordering::AcqRel) {
            self.sync();
        }
        if !ended && self.deck.spares.len() < SPARES && self.stocking.may_try() {
            let outcome = self.stock();
            let text = "there is no spare segment of the journal";
            self.stocking.tell(&self.deck.troubles, "journal_no_spare", text, outcome);
        }
        !ended
    }

    /// On the disk what was written, then lets go of complete segments.
    fn sync(&mut self) {
        self.deck.begin_sync();
        let writing = self.deck.writing.load(Ordering::Acquire);
        let written = self.files.iter().filter(|(number, _)| *number <= writing);
        let outcome = written.map(|(_, file)| file.sync_data()).fold(Ok(()), Result::and);
        self.deck.end_sync();
        match &outcome {
            Ok(()) => self.files.retain(|(number, _)| *number >= writing),
            Err(_) => self.deck.dirty.store(true, Ordering::Release),
        }
        self.syncing.tell(
            &self.deck.troubles,
            "journal_unsynced",
            "the journal is not synced",
            outcome,
        );
    }

    fn stock(&mut self) -> io::Result<()> {
        let waiting = self.segments_waiting()?;
        if waiting >= limits::JOURNAL_SEGMENTS_MAX {
            let text = format!("{waiting} segments wait for the database already");
            return Err(io::Error::other(text));
        }
        self.add()
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

    fn add(&mut self) -> io::Result<()> {
        let segment = Segment { stream: self.stream, number: self.next };
        let file = Arc::new(make(&self.folder, segment, self.bytes)?);
        self.next += 1;
        self.files.push_back((segment.number, Arc::clone(&file)));
        let spare = Spare { segment, file, bytes: self.bytes };
        // It is asked for room first, so this is never refused.
        self.deck.spares.push(spare).map_err(|_| io::Error::other("too many spare segments"))
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
