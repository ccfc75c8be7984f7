//! The keeper's end of the journal: from memory to the disk, and what is left when either fails.
//! Owns:  a folder per test, time by hand.
//! Gives: what a reader finds on the disk, and which fronts are left.
//! Never: a thread, a wait.
//! Holds: a front goes when the disk has it, and not before.

use std::fs;
use std::os::unix::fs::symlink;
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
        let front = Arc::new(Front::open(&settings).expect("a place"));
        front.recover(&settings).expect("the folder is there");
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
    assert!(settings.folder.exists());
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
    let front = Front::open(&settings).expect("the same place");
    let count = front.recover(&settings).expect("there is room");
    assert_eq!((count, read(&settings.folder, 1..=2)), (4, all.clone()));
    assert_eq!(front.recover(&settings).expect("nothing is left"), 0);
    assert_eq!(read(&settings.folder, 1..=2), all);
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
fn a_place_that_others_can_enter_is_refused_and_a_link_is_not_followed() {
    let folder = Folder::new("planted");
    let settings = settings(&folder);
    let front = Front::open(&settings).expect("a place");
    let place = front.folder().to_owned();
    fs::remove_dir(&place).expect("it is empty");
    let elsewhere = folder.0.join("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    symlink(&elsewhere, &place).expect("a link");
    let error = Front::open(&settings).expect_err("somebody else's place");
    assert!(error.to_string().contains("only this user"), "{error}");
    assert_eq!(front.recover(&settings).expect("it is passed over"), 0);
}
