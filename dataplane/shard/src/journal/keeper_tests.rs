//! The keeper's end of the journal: from memory to the disk, and what is left when either fails.
//! Owns:  a folder per test, time by hand.
//! Gives: what a reader finds on the disk, and which fronts are left.
//! Never: a thread, a wait.
//! Holds: a front goes when the disk has it, and not before.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant as Monotonic};

use shared::journal::SEGMENT_BYTES_MIN;
use shared::settings::JournalSettings;

use super::front::Front;
use super::keeper::Shelf;
use super::tests::{Folder, STREAM, end, read, segment};
use super::*;

fn settings(folder: &Folder) -> JournalSettings {
    let journal = folder.0.join("journal");
    fs::create_dir_all(&journal).expect("a folder");
    JournalSettings {
        folder: journal,
        front: Some(folder.0.join("front")),
        run: STREAM.run,
        segment_bytes: SEGMENT_BYTES_MIN,
    }
}

/// A shard's journal and its keeper.
struct Both {
    settings: JournalSettings,
    front: Arc<Front>,
    shelf: Shelf,
    journal: Journal,
    counters: Counters,
    pushed: u128,
    now: Monotonic,
}

impl Both {
    fn start(settings: JournalSettings) -> Self {
        let (front, _) = Front::open(&settings).expect("a place");
        let front = Arc::new(front);
        let mut shelf = Shelf::new(&settings, STREAM.shard, Arc::clone(&front));
        shelf.fill().expect("there is room");
        let journal = Journal::new(STREAM.shard, Arc::clone(shelf.deck()));
        let counters = Counters::default();
        Self { settings, front, shelf, journal, counters, pushed: 0, now: Monotonic::now() }
    }

    fn write(&mut self, count: u128) {
        for number in self.pushed..self.pushed + count {
            self.journal.push(Instant::from_millis(5), &end(number), &mut self.counters);
        }
        self.pushed += count;
        self.journal.write(Instant::from_millis(5), &mut self.counters);
    }

    fn write_until_segment(&mut self, number: u64) {
        while self.journal.written.segment < number {
            assert!(self.journal.is_written(), "it has a front");
            self.write(1);
        }
    }

    /// So much later, time for whatever is due.
    fn look(&mut self) -> bool {
        self.now += Duration::from_secs(1);
        self.shelf.look(self.now)
    }

    fn fronts(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = fs::read_dir(self.front.folder())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name())
            .filter_map(|name| Segment::of_file_name(name.to_str()?))
            .map(|segment| segment.number)
            .collect();
        numbers.sort_unstable();
        numbers
    }
}

#[test]
fn what_is_written_comes_to_the_disk_and_complete_fronts_go() {
    let folder = Folder::new("copied");
    let mut both = Both::start(settings(&folder));
    both.write(10);
    assert!(!both.journal.is_saved() && both.look() && both.journal.is_saved());
    assert_eq!(read(&both.settings.folder, 1..=1), (0..10).collect::<Vec<_>>());
    both.write_until_segment(3);
    assert!(both.look());
    assert_eq!(both.fronts(), [3, 4, 5, 6], "the open one and three spares");
    assert_eq!(read(&both.settings.folder, 1..=3), (0..both.pushed).collect::<Vec<_>>());
    let Both { settings, front, mut shelf, journal, .. } = both;
    drop(journal);
    assert!(!shelf.look(Monotonic::now()), "nobody writes any more");
    front.close();
    assert_eq!(fs::read_dir(folder.0.join("front")).expect("its parent stays").count(), 0);
    assert!(!settings.folder.join("front-at").exists() && settings.folder.exists());
}

#[test]
fn a_kill_before_the_copy_costs_nothing_and_the_next_start_has_it_all() {
    let folder = Folder::new("killed");
    let mut both = Both::start(settings(&folder));
    both.write(5);
    assert!(both.look());
    both.write_until_segment(2);
    both.write(3);
    let all: Vec<u128> = (0..both.pushed).collect();
    let settings = both.settings.clone();
    // As if it had been killed: nothing is copied, nothing removed.
    drop(both.shelf);
    fs::remove_file(settings.folder.join(segment(2).file_name())).expect("it was made ahead");
    let place = both.front.folder().to_owned();
    drop(both.front);
    let after = JournalSettings { run: STREAM.run + 1, front: None, ..settings.clone() };
    let (next, count) = Front::open(&after).expect("there is room");
    assert_eq!((count, read(&settings.folder, 1..=2)), (4, all.clone()));
    assert!(!place.exists(), "the place is known, wherever fronts go now");
    next.close();
    let again = JournalSettings { run: STREAM.run + 2, ..settings };
    let (_, count) = Front::open(&again).expect("a place");
    assert_eq!((count, read(&again.folder, 1..=2)), (0, all));
}

#[test]
fn a_disk_that_takes_nothing_holds_no_shard_up_until_the_fronts_are_full() {
    let folder = Folder::new("no-disk");
    let mut both = Both::start(settings(&folder));
    let (away, journal) = (folder.0.join("away"), both.settings.folder.clone());
    fs::rename(&journal, &away).expect("it is ours");
    both.write_until_segment(4);
    assert!(both.look() && both.journal.is_written() && !both.journal.is_saved());
    both.journal.report(&mut both.counters);
    assert!(both.counters.of(Counter::JournalUnsaved) > SEGMENT_BYTES_MIN);
    let codes: Vec<&str> =
        std::iter::from_fn(|| both.journal.take_notice()).map(|notice| notice.code).collect();
    assert!(codes.contains(&"journal_no_spare"), "{codes:?}");
    while both.journal.is_written() {
        both.write(1);
        assert!(both.look());
    }
    both.journal.report(&mut both.counters);
    assert!(both.counters.of(Counter::JournalUnsaved) > 3 * SEGMENT_BYTES_MIN);
    // The first found the segment that was made ahead.
    assert_eq!(both.fronts(), [2, 3, 4, 5, 6], "no more of them than that");
    fs::rename(&away, &journal).expect("it is ours");
    both.shelf.forget_tries();
    for _ in 0..8 {
        assert!(both.look());
        both.write(0);
        both.shelf.forget_tries();
    }
    assert!(both.journal.is_saved());
    let last = both.journal.written.segment;
    assert_eq!(read(&journal, 1..=last), (0..both.pushed).collect::<Vec<_>>());
}

#[test]
fn half_a_frame_and_a_front_of_zeros_cost_the_disk_nothing() {
    let folder = Folder::new("zeros");
    let mut both = Both::start(settings(&folder));
    both.write(6);
    assert!(both.look());
    let (place, settings) = (both.front.folder().to_owned(), both.settings.clone());
    drop((both.shelf, both.journal, both.front));
    // What a disk may have kept of a front when power failed.
    let front = place.join(segment(1).file_name());
    let mut bytes = fs::read(&front).expect("the front");
    let (half, zeros) = (bytes.len() / 2, bytes.len() - 100);
    bytes[half..zeros].fill(0);
    fs::write(&front, bytes).expect("it is ours");
    let after = JournalSettings { run: STREAM.run + 1, ..settings };
    let (_, count) = Front::open(&after).expect("a place");
    assert_eq!((count, read(&after.folder, 1..=1)), (4, (0..6).collect::<Vec<_>>()));
}

#[test]
fn another_folder_with_the_same_note_takes_nothing() {
    let folder = Folder::new("clone");
    let mut both = Both::start(settings(&folder));
    both.write(3);
    let other = folder.0.join("other");
    fs::create_dir(&other).expect("a folder");
    fs::copy(both.settings.folder.join("front-at"), other.join("front-at")).expect("a note");
    let run = STREAM.run + 1;
    let cloned = JournalSettings { folder: other, run, ..both.settings.clone() };
    let (_, count) = Front::open(&cloned).expect("a place");
    assert_eq!((count, both.fronts()), (0, vec![1, 2, 3, 4]));
}

#[test]
fn somebody_who_tidies_memory_costs_no_record() {
    let folder = Folder::new("tidied");
    let mut both = Both::start(settings(&folder));
    fs::remove_dir_all(both.front.folder()).expect("it is ours");
    while both.journal.written.segment < 7 {
        both.write(1);
        assert!(both.look());
    }
    assert!(both.look() && both.journal.is_saved());
    assert_eq!(read(&both.settings.folder, 1..=7), (0..both.pushed).collect::<Vec<_>>());
}

#[test]
fn without_a_place_in_memory_fronts_are_on_the_disk() {
    let folder = Folder::new("planted");
    let mut settings = settings(&folder);
    let base = folder.0.join("front");
    fs::create_dir(&base).expect("a folder");
    symlink(folder.0.join("journal"), base.join(format!("ringgate-{:016x}", settings.run)))
        .expect("a link");
    let error = Front::open(&settings).expect_err("what was configured is meant");
    assert!(error.to_string().contains("front"), "{error}");
    settings.front = None;
    settings.run = STREAM.run + 1;
    let memory = Path::new("/dev/shm").join(format!("ringgate-{:016x}", settings.run));
    fs::create_dir_all(&memory).expect("it is ours");
    let (front, _) = Front::open(&settings).expect("the disk");
    fs::remove_dir(&memory).expect("it is empty");
    assert_eq!(front.notices.len(), 1, "{:?}", front.notices);
    let (path, _) = front.make(segment(1), SEGMENT_BYTES_MIN).expect("there is room");
    assert!(path.starts_with(&settings.folder), "{}", path.display());
    fs::remove_file(path).expect("it is ours");
    front.close();
    assert_eq!(fs::read_dir(&settings.folder).expect("the folder").count(), 0);
}
