//! The shard's end of the journal: order, segments, a front that is refused.
//! Owns:  a folder per test, fronts made by hand where the keeper would.
//! Gives: what a reader finds in the files.
//! Never: a shard.
//! Holds: whatever happens, every record that was pushed is read back, in order.

use std::fs;
use std::path::{Path, PathBuf};

use shared::cdr::{CallStatus, Cdr, Direction, HangupReason};
use shared::ids::CallId;
use shared::journal::{Found, HEADER_BYTES, SEGMENT_BYTES_MIN, Scan, Stream};
use shared::time::WallMs;

use super::deck::Spare;
use super::*;

pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("journal-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

pub(super) const STREAM: Stream = Stream { run: 99, shard: ShardId(3) };

pub(super) fn segment(number: u64) -> Segment {
    Segment { stream: STREAM, number }
}

/// Gives the journal a front, as the keeper does.
fn supply(journal: &Journal, folder: &Path, number: u64) {
    let file = front::make(&folder.join(segment(number).file_name()), segment(number));
    let file = file.expect("there is room");
    let spare = Spare { segment: segment(number), file: Arc::new(file), bytes: SEGMENT_BYTES_MIN };
    journal.deck.spares.push(spare).expect("room for a spare");
}

fn journal() -> Journal {
    Journal::new(STREAM.shard, Arc::new(Deck::new()))
}

fn cdr(number: u128) -> Cdr {
    Cdr {
        call_id: format!("call-{number}"),
        session_id: CallId(number),
        caller: "1001".to_owned(),
        callee: "x".repeat(700),
        caller_uri: "sip:1001@a".to_owned(),
        callee_uri: "sip:1002@a".to_owned(),
        direction: Direction::Internal,
        status: CallStatus::Completed,
        start_time: WallMs(1),
        ring_time: None,
        answer_time: Some(WallMs(2)),
        end_time: WallMs(3),
        duration_ms: 1,
        status_code: 200,
        hangup_reason: HangupReason::ByCaller,
        hangup_messages: Vec::new(),
        sip_leg_roles: Vec::new(),
        leg_timeline: shared::cdr::LegTimeline::default(),
        source_addr: "192.0.2.1:5060".to_owned(),
        sip_trunk: None,
        outbound_trunk: None,
        user_agent: None,
        recorded: false,
        media_quality: Vec::new(),
        sip_flow: None,
        metadata: std::collections::BTreeMap::new(),
        last_error: None,
        shard: 3,
    }
}

pub(super) fn end(number: u128) -> Entry {
    Entry::End(Box::new(cdr(number)))
}

/// The calls whose ends are in these segments, in order.
pub(super) fn read(folder: &Path, numbers: std::ops::RangeInclusive<u64>) -> Vec<u128> {
    let mut found = Vec::new();
    for number in numbers {
        let bytes = fs::read(folder.join(segment(number).file_name())).expect("the segment");
        assert_eq!(Segment::read(&bytes), Ok(segment(number)));
        let mut scan = Scan::whole(segment(number), HEADER_BYTES as u64, &bytes[HEADER_BYTES..]);
        loop {
            match scan.next() {
                Found::Record(record) => match record.entry().expect("of this version") {
                    Entry::End(cdr) => found.push(cdr.session_id.0),
                    other => panic!("{other:?}"),
                },
                Found::End => break,
                other => panic!("{other:?}"),
            }
        }
    }
    found
}

fn notices(journal: &mut Journal) -> Vec<&'static str> {
    std::iter::from_fn(|| journal.take_notice()).map(|notice| notice.code).collect()
}

#[test]
fn records_are_in_the_file_after_one_write_and_the_news_say_how_far() {
    let folder = Folder::new("plain");
    let (mut journal, mut counters) = (journal(), Counters::default());
    supply(&journal, &folder.0, 1);
    for number in 0..10 {
        journal.push(Instant::from_millis(1_000), &end(number), &mut counters);
    }
    assert!(journal.news().is_none() && !journal.is_written(), "nothing is in the file yet");
    journal.write(Instant::from_millis(1_001), &mut counters);
    assert!(journal.is_written() && !journal.take_turned());
    assert_eq!(read(&folder.0, 1..=1), (0..10).collect::<Vec<_>>());
    assert!(journal.news().is_none() && !journal.is_saved(), "the disk does not have it yet");
    let bytes = journal.written.offset - HEADER_BYTES as u64;
    assert_eq!(counters.of(Counter::JournalBytes), bytes);
    journal.report(&mut counters);
    assert_eq!(counters.of(Counter::JournalUnsaved), bytes + HEADER_BYTES as u64);
    let Some(Event::Journaled { position, ends: 10, .. }) = journal.news() else {
        panic!("a disk that is slow keeps nobody from the number of ends");
    };
    assert_eq!(position, Position::default());
    journal.told(position);
    assert!(journal.news().is_none());
    journal.deck.saved.set(journal.written);
    assert!(journal.is_saved() && journal.look_at(Instant::from_millis(1_001)).is_none());
    let Some(Event::Journaled { shard, position, ends, last: false }) = journal.news() else {
        panic!("news");
    };
    assert_eq!((shard, position, ends), (STREAM.shard, journal.written, 10));
    journal.told(position);
    assert!(journal.news().is_none());
}

#[test]
fn a_full_segment_is_followed_by_the_next_and_nothing_is_torn_between() {
    let folder = Folder::new("turn");
    let (mut journal, mut counters) = (journal(), Counters::default());
    supply(&journal, &folder.0, 1);
    supply(&journal, &folder.0, 2);
    let mut turns = 0;
    let mut pushed = 0;
    while turns == 0 {
        for _ in 0..7 {
            journal.push(Instant::from_millis(5), &end(pushed), &mut counters);
            pushed += 1;
        }
        journal.write(Instant::from_millis(5), &mut counters);
        turns += u32::from(journal.take_turned());
    }
    assert!(pushed > 700, "{pushed} records of some 1.2 KB in 1 MiB");
    assert_eq!(read(&folder.0, 1..=2), (0..pushed).collect::<Vec<_>>());
}

#[test]
fn without_a_segment_records_wait_and_are_written_when_one_comes() {
    let folder = Folder::new("stall");
    let (mut journal, mut counters) = (journal(), Counters::default());
    for number in 0..5 {
        journal.push(Instant::from_millis(5), &end(number), &mut counters);
        journal.write(Instant::from_millis(5), &mut counters);
    }
    assert_eq!(notices(&mut journal), ["journal_full"], "told once");
    let waiting = counters.of(Counter::JournalWaiting);
    assert!(waiting > 4_000 && waiting == journal.waiting() as u64, "{waiting} bytes");
    supply(&journal, &folder.0, 1);
    journal.write(Instant::from_millis(6), &mut counters);
    assert_eq!(notices(&mut journal), ["journal_back"]);
    assert_eq!(counters.of(Counter::JournalWaiting), 0);
    assert_eq!(read(&folder.0, 1..=1), (0..5).collect::<Vec<_>>());
}

#[test]
fn a_front_that_the_system_refuses_is_given_up_and_the_next_one_has_everything() {
    let folder = Folder::new("refused");
    let (mut journal, mut counters) = (journal(), Counters::default());
    supply(&journal, &folder.0, 1);
    let mut spare = journal.deck.spares.pop().expect("just supplied");
    let path = folder.0.join(segment(1).file_name());
    spare.file = Arc::new(fs::File::open(path).expect("it is there"));
    journal.deck.spares.push(spare).expect("room for it");
    supply(&journal, &folder.0, 2);
    journal.push(Instant::from_millis(5), &end(1), &mut counters);
    journal.write(Instant::from_millis(5), &mut counters);
    assert_eq!(notices(&mut journal), ["journal_failed"]);
    assert_eq!(counters.of(Counter::JournalFailures), 1);
    journal.push(Instant::from_millis(900), &end(2), &mut counters);
    journal.write(Instant::from_millis(900), &mut counters);
    assert!(!journal.is_written(), "there is a second for the next try");
    journal.write(Instant::from_millis(1_005), &mut counters);
    assert_eq!(notices(&mut journal), ["journal_back"]);
    assert_eq!((read(&folder.0, 1..=1), read(&folder.0, 2..=2)), (vec![], vec![1, 2]));
}

#[test]
fn a_beat_is_due_only_when_nothing_else_proved_life() {
    let (mut journal, mut counters) = (journal(), Counters::default());
    journal.push(Instant::from_millis(1_000), &end(1), &mut counters);
    journal.beat(Instant::from_millis(1_499), &mut counters);
    assert_eq!(counters.of(Counter::JournalRecords), 1);
    journal.beat(Instant::from_millis(1_500), &mut counters);
    journal.beat(Instant::from_millis(1_600), &mut counters);
    assert_eq!(counters.of(Counter::JournalRecords), 2);
    assert_eq!(journal.beat_at(), Instant::from_millis(2_000));
}

#[test]
fn a_file_that_cannot_be_allocated_leaves_nothing_behind() {
    let folder = Folder::new("room");
    let error = keeper::make(&folder.0, segment(1), 1 << 60).expect_err("an exabyte");
    assert!(error.raw_os_error().is_some(), "{error}");
    assert_eq!(fs::read_dir(&folder.0).expect("the folder").count(), 0);
}

#[test]
fn without_memory_the_same_bytes_go_to_the_same_place_later() {
    let folder = Folder::new("no-memory");
    let (mut journal, mut counters) = (journal(), Counters::default());
    supply(&journal, &folder.0, 1);
    journal.push(Instant::from_millis(5), &end(1), &mut counters);
    journal.write(Instant::from_millis(5), &mut counters);
    let path = folder.0.join(segment(1).file_name());
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
    journal.open.as_mut().expect("one is written").file = Arc::new(full);
    journal.push(Instant::from_millis(6), &end(2), &mut counters);
    journal.write(Instant::from_millis(6), &mut counters);
    assert_eq!(notices(&mut journal), ["journal_failed"]);
    let file = fs::OpenOptions::new().write(true).open(path).expect("it is there");
    journal.open.as_mut().expect("it is kept").file = Arc::new(file);
    journal.write(Instant::from_millis(1_006), &mut counters);
    assert_eq!(notices(&mut journal), ["journal_back"]);
    assert_eq!(read(&folder.0, 1..=1), vec![1, 2]);
}
