//! From segments to records, in virtual time: a database that fails, locks, lies about its commits; a
//! recovery that is killed; damage; segments that have to stay and segments that have to go.

mod stand_ins;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use controlplane::board::{Board, Counts};
use controlplane::journal::{Database, Journal, Setup, Sink, Taps};
use controlplane::store::{Db, JournalMark, Outbox, Pending, RecordSearch, Records, StoreError};
use controlplane::webhooks::outbox::{CALL_RECORD, Deliveries, Endpoints};
use shared::cdr::{Cdr, HangupReason};
use shared::ids::{CallId, ShardId};
use shared::journal::{Entry, Frames, HEADER_BYTES, Position, SEGMENT_BYTES_MIN, Segment, Stream};
use shared::time::WallMs;
use stand_ins::{Folder, call_id, cdr, config};
use tokio::time::{Instant, sleep};

const RUN: u64 = 200;
const EARLIER: Stream = Stream { run: 100, shard: ShardId(0) };
const NOW: Stream = Stream { run: RUN, shard: ShardId(0) };

/// A database that keeps what it committed, and does to a batch what it is told to.
#[derive(Debug, Default)]
struct Book {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    records: BTreeMap<CallId, Cdr>,
    /// What follows from a record, an outbox row for one: must happen once per record.
    effects: BTreeMap<CallId, u32>,
    marks: BTreeMap<Stream, JournalMark>,
    batches: Vec<usize>,
    failures: u32,
    locked: bool,
    /// The commit happens, its answer is lost.
    lost_answers: u32,
    /// This record breaks a rule of the database.
    refuses: Option<CallId>,
    /// Every transaction takes this long on either side of its commit.
    slow: Duration,
}

impl Book {
    fn change<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.kept.lock().expect("no test panics with it"))
    }

    fn count(&self) -> usize {
        self.change(|kept| kept.records.len())
    }

    fn record(&self, number: u64) -> Cdr {
        self.change(|kept| kept.records.get(&call_id(number)).cloned()).expect("it is stored")
    }

    /// Every record once, with its effects once.
    fn assert_exactly(&self, numbers: impl IntoIterator<Item = u64>) {
        let expected: Vec<CallId> = numbers.into_iter().map(call_id).collect();
        let kept = self.change(|kept| kept.records.keys().copied().collect::<Vec<_>>());
        assert_eq!(kept, expected);
        let effects = self.change(|kept| kept.effects.clone());
        assert!(effects.values().all(|count| *count == 1), "{effects:?}");
    }

    async fn commit(&self, ends: &[Cdr], mark: JournalMark) -> Result<(), StoreError> {
        let slow = self.change(|kept| kept.slow);
        sleep(slow).await;
        self.change(|kept| {
            if kept.locked || kept.failures > 0 {
                kept.failures = kept.failures.saturating_sub(1);
                return Err(StoreError::Unavailable("locked".to_owned()));
            }
            if ends.iter().any(|cdr| Some(cdr.session_id) == kept.refuses) {
                return Err(StoreError::Refused("a rule".to_owned()));
            }
            kept.batches.push(ends.len());
            for cdr in ends {
                if kept.records.insert(cdr.session_id, cdr.clone()).is_none() {
                    *kept.effects.entry(cdr.session_id).or_default() += 1;
                }
            }
            kept.marks.insert(mark.stream, mark);
            if kept.lost_answers > 0 {
                kept.lost_answers -= 1;
                return Err(StoreError::Unavailable("connection lost".to_owned()));
            }
            Ok(())
        })?;
        sleep(slow).await;
        Ok(())
    }
}

impl Sink for Book {
    fn take<'a>(&'a self, ends: &'a [Cdr], mark: JournalMark) -> Pending<'a, ()> {
        Box::pin(self.commit(ends, mark))
    }

    fn marks(&self) -> Pending<'_, Vec<JournalMark>> {
        Box::pin(async {
            match self.change(|kept| (kept.locked, kept.marks.values().copied().collect())) {
                (true, _) => Err(StoreError::Unavailable("locked".to_owned())),
                (false, marks) => Ok(marks),
            }
        })
    }

    fn forget(&self, stream: Stream) -> Pending<'_, ()> {
        Box::pin(async move {
            self.change(|kept| kept.marks.remove(&stream));
            Ok(())
        })
    }
}

/// Writes segments as a shard does.
struct Pen {
    folder: PathBuf,
    segment: Segment,
    file: File,
    offset: u64,
    ends: u64,
}

impl Pen {
    fn new(folder: &Path, stream: Stream) -> Self {
        let segment = Segment { stream, number: Segment::FIRST };
        let file = make(folder, segment);
        Self { folder: folder.to_owned(), segment, file, offset: HEADER_BYTES as u64, ends: 0 }
    }

    fn write(&mut self, at_ms: u64, entry: Entry) {
        self.ends += u64::from(matches!(entry, Entry::End(_)));
        let mut frames = Frames::default();
        frames.push(at_ms, &entry);
        let bytes = frames.seal(self.segment, self.offset, u64::MAX);
        self.file.write_all_at(bytes, self.offset).expect("room");
        self.offset += bytes.len() as u64;
    }

    fn start(&mut self, at_ms: u64, number: u64) {
        let mut start = cdr(number);
        start.hangup_reason = HangupReason::SystemCrash;
        start.duration_ms = 0;
        start.end_time = start.answer_time.expect("it was answered");
        self.write(at_ms, Entry::Start(Box::new(start)));
    }

    fn end(&mut self, at_ms: u64, number: u64) {
        self.write(at_ms, Entry::End(Box::new(cdr(number))));
    }

    fn turn(&mut self) {
        self.segment.number += 1;
        self.file = make(&self.folder, self.segment);
        self.offset = HEADER_BYTES as u64;
    }

    const fn position(&self) -> Position {
        Position { segment: self.segment.number, offset: self.offset }
    }
}

fn make(folder: &Path, segment: Segment) -> File {
    let path = folder.join(segment.file_name());
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(true).read(true).write(true).open(path);
    let file = file.expect("the folder is writable");
    file.set_len(SEGMENT_BYTES_MIN).expect("room");
    file.write_all_at(&segment.header(), 0).expect("room");
    file
}

struct Desk {
    folder: Folder,
    book: Arc<Book>,
    board: Arc<Board>,
}

impl Desk {
    fn new(test: &str) -> Self {
        let folder = Folder::new(test);
        Self { folder, book: Arc::default(), board: Arc::new(Board::new(&[0])) }
    }

    fn start(&self) -> (Journal, Taps) {
        let sink: Arc<dyn Sink> = self.book.clone();
        let folder = self.folder.path().to_owned();
        let board = Arc::clone(&self.board);
        Journal::start(Setup { sink, board, folder, run: RUN, shards: 1 })
    }

    fn pen(&self, stream: Stream) -> Pen {
        Pen::new(self.folder.path(), stream)
    }

    /// Numbers of the segments that are there.
    fn segments(&self, stream: Stream) -> Vec<u64> {
        let names = fs::read_dir(self.folder.path()).expect("the folder is read");
        let names = names.map(|entry| entry.expect("an entry").file_name());
        let segments = names.filter_map(|name| Segment::of_file_name(name.to_str()?));
        let mut numbers: Vec<u64> =
            segments.filter(|s| s.stream == stream).map(|s| s.number).collect();
        numbers.sort_unstable();
        numbers
    }

    fn quarantined(&self) -> usize {
        fs::read_dir(self.folder.path().join("quarantine")).map_or(0, Iterator::count)
    }

    fn tell(&self, taps: &Taps, pen: &Pen) {
        taps.reached(ShardId(0), pen.position(), pen.ends);
    }

    fn backlog(&self) -> u64 {
        Counts::of(&self.board.counts.cdr_backlog)
    }
}

/// Waits, in virtual time, until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let give_up_at = Instant::now() + Duration::from_secs(600);
    while !holds() {
        assert!(Instant::now() < give_up_at, "{what} never happens");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_stored_in_batches_and_a_clean_end_leaves_no_file() {
    let desk = Desk::new("plain");
    let mut pen = desk.pen(NOW);
    let (journal, taps) = desk.start();
    for number in 0..1_200 {
        pen.start(number, number);
        pen.end(number, number);
    }
    desk.tell(&taps, &pen);
    until("all are stored", || desk.book.count() == 1_200).await;
    desk.book.assert_exactly(0..1_200);
    let batches = desk.book.change(|kept| kept.batches.clone());
    assert!(batches.len() <= 4 && batches.iter().all(|size| *size <= 500), "{batches:?}");
    assert_eq!(Counts::of(&desk.board.counts.cdrs_stored), 1_200);
    until("nothing is behind", || desk.backlog() == 0).await;
    pen.end(2_000, 1_200);
    desk.tell(&taps, &pen);
    taps.completed(ShardId(0));
    journal.finish(Duration::from_secs(60), true).await;
    desk.book.assert_exactly(0..=1_200);
    assert_eq!(desk.segments(NOW), Vec::<u64>::new());
    assert!(desk.book.change(|kept| kept.marks.is_empty()), "the mark is forgotten");
}

/// The disk is behind when the shard stops: what it has not been given yet is the next start's.
#[tokio::test(start_paused = true)]
async fn a_stop_beside_a_slow_disk_stores_what_was_told_and_leaves_the_rest() {
    let desk = Desk::new("slow-stop");
    let mut pen = desk.pen(NOW);
    let (journal, taps) = desk.start();
    for number in 0..5 {
        pen.end(number, number);
    }
    desk.tell(&taps, &pen);
    for number in 5..10 {
        pen.end(number, number);
    }
    journal.finish(Duration::from_secs(60), true).await;
    desk.book.assert_exactly(0..5);
    assert_eq!(desk.segments(NOW), [1]);
    for number in 10..12 {
        pen.end(number, number);
    }
    let (sink, board) = (Arc::clone(&desk.book) as Arc<dyn Sink>, Arc::clone(&desk.board));
    let folder = desk.folder.path().to_owned();
    let (journal, _taps) = Journal::start(Setup { sink, board, folder, run: RUN + 1, shards: 1 });
    until("the segment is gone", || desk.segments(NOW).is_empty()).await;
    desk.book.assert_exactly(0..12);
    journal.finish(Duration::from_secs(60), true).await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_locked_for_a_minute_loses_nothing_and_holds_nothing_up() {
    let desk = Desk::new("locked");
    let mut pen = desk.pen(NOW);
    let (journal, taps) = desk.start();
    desk.book.change(|kept| kept.locked = true);
    for second in 0..60 {
        for call in 0..20 {
            pen.end(second * 1_000, second * 20 + call);
        }
        desk.tell(&taps, &pen);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((desk.book.count(), desk.backlog()), (0, 1_200), "they wait on the disk");
    assert!(Counts::of(&desk.board.counts.journals_failing) > 0, "the gateway is not ready");
    desk.book.change(|kept| kept.locked = false);
    let freed_at = Instant::now();
    until("all are stored", || desk.book.count() == 1_200).await;
    assert!(freed_at.elapsed() < Duration::from_secs(6), "{:?}", freed_at.elapsed());
    desk.book.assert_exactly(0..1_200);
    until("nothing is behind", || desk.backlog() == 0).await;
    assert_eq!(Counts::of(&desk.board.counts.journals_failing), 0);
    journal.finish(Duration::from_secs(60), true).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_is_not_done_twice() {
    let desk = Desk::new("lost-answer");
    let mut pen = desk.pen(NOW);
    let (journal, taps) = desk.start();
    desk.book.change(|kept| (kept.failures, kept.lost_answers) = (2, 2));
    for number in 0..30 {
        pen.end(number, number);
    }
    desk.tell(&taps, &pen);
    journal.finish(Duration::from_secs(60), true).await;
    desk.book.assert_exactly(0..30);
    assert_eq!(Counts::of(&desk.board.counts.cdr_failures), 4);
}

#[tokio::test(start_paused = true)]
async fn calls_that_a_kill_cut_get_the_record_of_their_start_and_the_last_beat() {
    let desk = Desk::new("cut");
    let mut pen = desk.pen(EARLIER);
    pen.start(5_000, 1);
    pen.start(6_000, 2);
    pen.end(8_000, 1);
    pen.write(9_500, Entry::Beat);
    let (journal, _taps) = desk.start();
    until("both are stored", || desk.book.count() == 2).await;
    until("the segment is gone", || desk.segments(EARLIER).is_empty()).await;
    let (ended, cut) = (desk.book.record(1), desk.book.record(2));
    assert_eq!(ended, cdr(1));
    assert_eq!((cut.hangup_reason, cut.duration_ms), (HangupReason::SystemCrash, 3_500));
    assert_eq!(cut.end_time, cut.answer_time.expect("answered").add_ms(3_500));
    until("the mark is forgotten", || desk.book.change(|kept| kept.marks.is_empty())).await;
    journal.finish(Duration::from_secs(60), true).await;
}

/// reliability.md DU1: killed while it recovers, again and again, at any moment.
#[tokio::test(start_paused = true)]
async fn a_recovery_that_is_killed_at_any_moment_does_nothing_twice() {
    for step in 0..5 {
        let desk = Desk::new("killed");
        desk.book.change(|kept| kept.slow = Duration::from_millis(10));
        let mut pen = desk.pen(EARLIER);
        for number in 0..600 {
            pen.start(number, number);
            if number % 3 != 0 {
                pen.end(number + 5, number);
            }
            if number % 150 == 149 {
                pen.turn();
            }
        }
        let mut kills = 0;
        while !desk.segments(EARLIER).is_empty() {
            let (journal, _taps) = desk.start();
            // One killed at once makes no way; later ones come a little further.
            sleep(Duration::from_millis(step + 3 * kills)).await;
            drop(journal);
            kills += 1;
            assert!(kills < 400, "it never gets done");
        }
        desk.book.assert_exactly(0..600);
        let cut = desk.book.change(|kept| {
            let reasons = kept.records.values().map(|cdr| cdr.hangup_reason);
            reasons.filter(|reason| *reason == HangupReason::SystemCrash).count()
        });
        assert_eq!(cut, 200, "every third");
    }
}

#[tokio::test(start_paused = true)]
async fn records_in_front_of_the_mark_are_not_stored_again() {
    let desk = Desk::new("mark");
    let mut pen = desk.pen(EARLIER);
    pen.end(1, 1);
    let position = pen.position();
    pen.end(2, 2);
    let mark = JournalMark { stream: EARLIER, position, finished: false };
    desk.book.change(|kept| kept.marks.insert(EARLIER, mark));
    let (journal, _taps) = desk.start();
    until("the segment is gone", || desk.segments(EARLIER).is_empty()).await;
    // The first one may have been deleted on purpose since.
    desk.book.assert_exactly([2]);
    journal.finish(Duration::from_secs(60), true).await;
}

#[tokio::test(start_paused = true)]
async fn a_finished_journal_is_removed_and_not_read() {
    let desk = Desk::new("finished");
    let mut pen = desk.pen(EARLIER);
    pen.end(1, 1);
    let gone = Stream { run: 50, ..EARLIER };
    for stream in [EARLIER, gone] {
        let mark = JournalMark { stream, position: Position::default(), finished: true };
        desk.book.change(|kept| kept.marks.insert(stream, mark));
    }
    let (journal, _taps) = desk.start();
    until("both marks are forgotten", || desk.book.change(|kept| kept.marks.is_empty())).await;
    assert_eq!((desk.segments(EARLIER), desk.book.count()), (vec![], 0));
    journal.finish(Duration::from_secs(60), true).await;
}

/// reliability.md DU10.
#[tokio::test(start_paused = true)]
async fn a_flipped_byte_costs_one_record_and_is_told_and_kept() {
    let desk = Desk::new("flip");
    let mut pen = desk.pen(EARLIER);
    let mut places = Vec::new();
    for number in 0..20 {
        places.push(pen.offset);
        pen.end(number, number);
    }
    let mut byte = [0];
    pen.file.read_exact_at(&mut byte, places[7] + 100).expect("written");
    pen.file.write_all_at(&[byte[0] ^ 0x20], places[7] + 100).expect("room");
    let (journal, _taps) = desk.start();
    until("the segment is gone", || desk.segments(EARLIER).is_empty()).await;
    desk.book.assert_exactly((0..20).filter(|number| *number != 7));
    assert_eq!(Counts::of(&desk.board.counts.journal_damaged), 1);
    assert_eq!(desk.quarantined(), 1);
    journal.finish(Duration::from_secs(60), true).await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_end_leaves_the_call_to_its_start() {
    let desk = Desk::new("end-lost");
    let mut pen = desk.pen(EARLIER);
    pen.start(1_000, 1);
    let place = pen.offset;
    pen.end(4_000, 1);
    pen.end(4_500, 2);
    pen.file.write_all_at(b"\0\0\0\0", place + 20).expect("room");
    let (journal, _taps) = desk.start();
    until("the segment is gone", || desk.segments(EARLIER).is_empty()).await;
    desk.book.assert_exactly([1, 2]);
    assert_eq!(desk.book.record(1).hangup_reason, HangupReason::SystemCrash);
    assert_eq!(desk.book.record(1).duration_ms, 3_500, "as long as the shard is known to live");
    journal.finish(Duration::from_secs(60), true).await;
}

#[tokio::test(start_paused = true)]
async fn a_torn_tail_a_missing_segment_and_a_foreign_header_do_not_stop_the_start() {
    let desk = Desk::new("torn");
    let mut pen = desk.pen(EARLIER);
    pen.end(1, 1);
    pen.turn();
    pen.end(2, 2);
    let second = pen.segment;
    pen.turn();
    pen.file.write_all_at(&[0xff; 12], 0).expect("room");
    pen.end(3, 3);
    let whole = pen.offset;
    pen.end(4, 4);
    pen.file.set_len(whole + 50).expect("a shorter file");
    fs::remove_file(desk.folder.path().join(second.file_name())).expect("it was there");
    let (journal, _taps) = desk.start();
    until("the segments are gone", || desk.segments(EARLIER).is_empty()).await;
    desk.book.assert_exactly([1, 3]);
    let damaged = Counts::of(&desk.board.counts.journal_damaged);
    assert_eq!(damaged, 3, "a missing segment, a header, a tail");
    journal.finish(Duration::from_secs(60), true).await;
}

#[tokio::test(start_paused = true)]
async fn a_segment_of_another_version_is_put_aside_whole() {
    let desk = Desk::new("version");
    let mut pen = desk.pen(EARLIER);
    let mut header = pen.segment.header();
    header[8] = 9;
    let checksum = crc32fast::hash(&header[..32]);
    header[32..36].copy_from_slice(&checksum.to_le_bytes());
    pen.file.write_all_at(&header, 0).expect("room");
    pen.end(1, 1);
    let (journal, _taps) = desk.start();
    until("the segment is put aside", || desk.quarantined() == 1).await;
    until("the folder is empty", || desk.segments(EARLIER).is_empty()).await;
    assert_eq!(desk.book.count(), 0);
    journal.finish(Duration::from_secs(60), true).await;
}

#[tokio::test(start_paused = true)]
async fn a_segment_stays_as_long_as_a_call_needs_it_and_no_longer() {
    let desk = Desk::new("pinned");
    let mut pen = desk.pen(NOW);
    let (journal, taps) = desk.start();
    pen.start(1, 1);
    pen.end(2, 2);
    pen.turn();
    pen.end(3, 3);
    pen.turn();
    pen.end(4, 4);
    desk.tell(&taps, &pen);
    until("three are stored", || desk.book.count() == 3).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(desk.segments(NOW), [1, 2, 3], "call 1 stands, its start is in the first");
    pen.start(5, 1);
    desk.tell(&taps, &pen);
    until("old segments go", || desk.segments(NOW) == [3]).await;
    // The shard goes without a word of call 1: its journal stays for the next start.
    journal.finish(Duration::from_secs(60), true).await;
    assert_eq!(desk.segments(NOW), [3]);
}

#[tokio::test(start_paused = true)]
async fn one_record_that_the_database_refuses_does_not_hold_up_the_others() {
    let desk = Desk::new("refused");
    let mut pen = desk.pen(NOW);
    desk.book.change(|kept| kept.refuses = Some(call_id(5)));
    let (journal, taps) = desk.start();
    for number in 0..10 {
        pen.end(number, number);
    }
    desk.tell(&taps, &pen);
    journal.finish(Duration::from_secs(60), true).await;
    desk.book.assert_exactly((0..10).filter(|number| *number != 5));
    assert_eq!(desk.quarantined(), 1, "the record is kept in a file");
    assert_eq!(Counts::of(&desk.board.counts.journal_damaged), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_database_does_not_take_before_the_end_is_stored_by_the_next_start() {
    let desk = Desk::new("next");
    let mut pen = Pen::new(desk.folder.path(), EARLIER);
    let (journal, taps) = {
        let sink: Arc<dyn Sink> = desk.book.clone();
        let (folder, board) = (desk.folder.path().to_owned(), Arc::clone(&desk.board));
        Journal::start(Setup { sink, board, folder, run: EARLIER.run, shards: 1 })
    };
    desk.book.change(|kept| kept.locked = true);
    for number in 0..700 {
        pen.end(number, number);
    }
    desk.tell(&taps, &pen);
    until("it fails", || desk.board.counts.cdr_failures.load(Ordering::Relaxed) > 2).await;
    journal.finish(Duration::from_secs(1), true).await;
    assert_eq!((desk.book.count(), desk.segments(EARLIER)), (0, vec![1]));
    desk.book.change(|kept| kept.locked = false);
    let (journal, _taps) = desk.start();
    until("all are stored", || desk.book.count() == 700).await;
    journal.finish(Duration::from_secs(60), true).await;
    desk.book.assert_exactly(0..700);
    assert_eq!(desk.segments(EARLIER), Vec::<u64>::new());
}

/// A real database whose first answers are lost after the commit.
#[derive(Debug)]
struct Forgetful {
    database: Database,
    lost: AtomicU32,
}

impl Sink for Forgetful {
    fn take<'a>(&'a self, ends: &'a [Cdr], mark: JournalMark) -> Pending<'a, ()> {
        Box::pin(async move {
            self.database.take(ends, mark).await?;
            let lose = |left: u32| left.checked_sub(1);
            match self.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lose) {
                Ok(_) => Err(StoreError::Unavailable("connection lost".to_owned())),
                Err(_) => Ok(()),
            }
        })
    }

    fn marks(&self) -> Pending<'_, Vec<JournalMark>> {
        self.database.marks()
    }

    fn forget(&self, stream: Stream) -> Pending<'_, ()> {
        self.database.forget(stream)
    }
}

/// In real time: the database is one. Calls of an earlier run, some of them cut, and calls of this run.
#[tokio::test]
async fn every_record_comes_with_one_event_however_often_it_is_stored() {
    const WANTED: &str = "[callrecord]\ntype = \"http\"\nurl = \"http://127.0.0.1:9/cdr\"\n";
    let desk = Desk::new("events");
    let db = Arc::new(Db::in_memory().await.expect("a database in memory"));
    let endpoints = Endpoints::of_config(&config(WANTED));
    let deliveries = Deliveries::open(db.clone(), endpoints).await.expect("it answers");
    let mut earlier = desk.pen(EARLIER);
    for number in 0..20 {
        earlier.start(number, number);
        if number >= 5 {
            earlier.end(number, number);
        }
    }
    let mut pen = desk.pen(NOW);
    for number in 20..40 {
        pen.end(number, number);
    }
    let database = Database { store: db.clone(), deliveries };
    let sink = Arc::new(Forgetful { database, lost: AtomicU32::new(3) });
    let board = Arc::clone(&desk.board);
    let folder = desk.folder.path().to_owned();
    let (journal, taps) = Journal::start(Setup { sink, board, folder, run: RUN, shards: 1 });
    desk.tell(&taps, &pen);
    taps.completed(ShardId(0));
    journal.finish(Duration::from_secs(60), true).await;
    let search = RecordSearch { page: 1, per_page: 100, ..Default::default() };
    assert_eq!(db.records(&search).await.expect("it is read").total, 40);
    let rows = db.due(CALL_RECORD, WallMs(i64::MAX), 100).await.expect("it is read").rows;
    let mut ids: Vec<String> = rows.iter().map(|row| row.event_id.clone()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..40).map(|n| format!("cdr_{}", call_id(n))).collect::<Vec<_>>());
    let cut = rows.iter().filter(|row| row.payload.contains("\"systemCrash\""));
    assert_eq!(cut.count(), 5);
    assert!(Counts::of(&desk.board.counts.cdr_failures) >= 3, "answers were lost");
}
