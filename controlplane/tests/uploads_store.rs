//! Uploads and local copies in the database: the same promises on both.

mod stand_ins;

use std::path::PathBuf;

use controlplane::store::{
    Db, JournalMark, Journals, Load, LocalCopies, NewEvent, Next, Outbox, Recording,
    RecordingState, Recordings, Records, Section, Settlement, Tried, Uploaded, Uploads, now_ms,
};
use shared::config::Database;
use shared::ids::{CallId, ShardId};
use shared::journal::{Position, Stream};
use shared::time::WallMs;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Executor};
use stand_ins::{Folder, call_id, cdr, postgres};

const MINUTE_MS: u64 = 60_000;

/// Every promise is a test on each database, with a database of its own.
macro_rules! on_both {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $promise() {
                let db = super::Db::in_memory().await.expect("a database in memory");
                super::$promise(db).await;
            })*
        }

        mod postgresql {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::postgres::db().await).await;
            })*
        }
    };
}

on_both! {
    a_stored_record_has_its_upload_once_and_only_when_records_are_archived,
    what_is_taken_is_leased_and_what_failed_can_be_called_back,
    a_section_without_a_target_rests_until_it_has_one_again,
    a_file_is_spent_when_it_was_uploaded_and_nobody_needs_it,
    retention_sees_the_oldest_first_and_none_that_is_needed,
}

fn mark() -> JournalMark {
    JournalMark {
        stream: Stream { run: 7, shard: ShardId(0) },
        position: Position { segment: 0, offset: 4_096 },
        finished: false,
    }
}

async fn waiting(store: &Db) -> u64 {
    store.upload_backlog().await.expect("it is read").waiting
}

async fn take(store: &Db, section: Section) -> Vec<(i64, CallId)> {
    let taken = store.take_uploads(section, 10, 60 * MINUTE_MS).await.expect("they are taken");
    taken.into_iter().map(|upload| (upload.id, upload.call)).collect()
}

fn ready(number: u64) -> Recording {
    Recording {
        call: call_id(number),
        state: RecordingState::Ready,
        capture: PathBuf::from("spent"),
        path: Some(PathBuf::from(format!("{number}.wav"))),
        duration_ms: Some(1_000),
        size: Some(1_000),
        packets_lost: 0,
        error: None,
    }
}

fn uploaded(section: Section) -> Uploaded {
    Uploaded { section, key: Some("a/b.wav".to_owned()), size: 1_000, sha256: "00".repeat(32) }
}

/// The call record of this call has to be sent to somebody.
async fn push(store: &Db, call: CallId) -> i64 {
    let event = NewEvent {
        event_id: format!("cdr_{call}"),
        endpoint: "callrecord".to_owned(),
        key: call.to_string(),
        kind: "cdr".to_owned(),
        payload: "{}".to_owned(),
    };
    store.add_events(&[event]).await.expect("it is stored");
    let due = store.due("callrecord", WallMs(now_ms()), 10).await.expect("it is read");
    due.rows.iter().find(|row| row.key == call.to_string()).expect("it is due").id
}

async fn end(store: &Db, call: CallId, id: i64, next: Next) {
    let attempt = Settlement::Attempt { id, key: call.to_string(), tried: Tried::default(), next };
    store.settle("callrecord", &[attempt], "").await.expect("it is noted");
}

async fn a_stored_record_has_its_upload_once_and_only_when_records_are_archived(store: Db) {
    store.take_journal(&[cdr(1)], &[], mark()).await.expect("it is stored");
    assert_eq!(waiting(&store).await, 0, "nobody wants it");
    store.archive_records(true).await.expect("it is noted");
    store.archive_records(true).await.expect("twice is no error");
    for _ in 0..2 {
        store.take_journal(&[cdr(2), cdr(3)], &[], mark()).await.expect("it is stored");
        assert_eq!(waiting(&store).await, 2);
    }
    store.add_cdrs(&[cdr(4)]).await.expect("it is stored");
    let taken = store.take_uploads(Section::CallRecord, 10, 1_000).await.expect("they are due");
    let calls: Vec<_> = taken.iter().map(|upload| (upload.call, upload.load)).collect();
    assert_eq!(calls, [2, 3, 4].map(|number| (call_id(number), Load::Record)));
    let done = uploaded(Section::CallRecord);
    store.upload_done(taken[0].id, &done).await.expect("it is noted");
    store.take_journal(&[cdr(2)], &[], mark()).await.expect("the journal may come again");
    assert_eq!(waiting(&store).await, 2, "what was uploaded is not uploaded again");
    store.archive_records(false).await.expect("it is noted");
    store.add_cdrs(&[cdr(5)]).await.expect("it is stored");
    assert_eq!(waiting(&store).await, 2);
}

async fn what_is_taken_is_leased_and_what_failed_can_be_called_back(store: Db) {
    store.archive_records(true).await.expect("it is noted");
    store.add_cdrs(&[cdr(1), cdr(2), cdr(3)]).await.expect("they are stored");
    assert!(take(&store, Section::Recording).await.is_empty(), "another section's");
    let taken = take(&store, Section::CallRecord).await;
    assert_eq!(taken.len(), 3);
    assert!(take(&store, Section::CallRecord).await.is_empty(), "they are leased");
    let [(first, first_call), (second, _), _] = taken[..] else { panic!("{taken:?}") };
    store.upload_failed(first, 5 * MINUTE_MS, "503").await.expect("it is noted");
    store.upload_lost(second, "gone").await.expect("it is noted");
    let backlog = store.upload_backlog().await.expect("it is read");
    assert_eq!((backlog.waiting, backlog.lost), (2, 1));
    assert!(backlog.oldest_ms.is_some());
    assert!(take(&store, Section::CallRecord).await.is_empty(), "it waits");
    store.hasten_uploads(Section::Recording, 10 * MINUTE_MS).await.expect("it is done");
    assert!(take(&store, Section::CallRecord).await.is_empty(), "another section was called");
    store.hasten_uploads(Section::CallRecord, 10 * MINUTE_MS).await.expect("it is done");
    let again = take(&store, Section::CallRecord).await;
    assert_eq!(again, [(first, first_call)], "a lease is not called back, nor what is lost");
    store.upload_done(first, &uploaded(Section::CallRecord)).await.expect("it is noted");
    store.upload_lost(first, "late").await.expect("it is no error");
    let backlog = store.upload_backlog().await.expect("it is read");
    assert_eq!((backlog.waiting, backlog.lost), (1, 1), "what is done stays done");
    assert_eq!(store.resume_uploads(&Section::ALL).await.expect("it is done"), 0);
    assert_eq!(
        take(&store, Section::CallRecord).await.len(),
        1,
        "the lease ended with its process"
    );
}

async fn a_section_without_a_target_rests_until_it_has_one_again(store: Db) {
    store.finish_recording(&ready(1), &[Section::Recording]).await.expect("it is stored");
    let free = store.recordings_before(CallId(u128::MAX), 10).await.expect("it is read");
    assert!(free.is_empty(), "it waits for its upload");
    let served = [Section::CallRecord];
    assert_eq!(store.resume_uploads(&served).await.expect("it is done"), 1);
    assert_eq!(waiting(&store).await, 0);
    let free = store.recordings_before(CallId(u128::MAX), 10).await.expect("it is read");
    assert_eq!(free, [(call_id(1), 1_000)], "retention is not held up by it");
    assert_eq!(store.resume_uploads(&Section::ALL).await.expect("it is done"), 0);
    assert_eq!(take(&store, Section::Recording).await.len(), 1);
}

async fn a_file_is_spent_when_it_was_uploaded_and_nobody_needs_it(store: Db) {
    let call = call_id(1);
    let is_spent = async || store.is_recording_spent(call).await.expect("it is read");
    store.finish_recording(&ready(1), &Section::ALL).await.expect("it is stored");
    store.add_cdrs(&[cdr(1)]).await.expect("it is stored");
    let push = push(&store, call).await;
    for section in Section::ALL {
        assert!(!is_spent().await, "{section:?} has not got it");
        for (id, _) in take(&store, section).await {
            store.upload_done(id, &uploaded(section)).await.expect("it is noted");
        }
    }
    assert!(!is_spent().await, "its push has not got it");
    assert!(store.spent_recordings(10).await.expect("it is read").is_empty());
    end(&store, call, push, Next::Delivered).await;
    assert!(is_spent().await);
    assert_eq!(store.spent_recordings(10).await.expect("it is read"), [call]);
    assert_eq!(store.uploads_of(call).await.expect("it is read").len(), 2);

    // The call record may name somebody who needs it: before it is stored nothing goes.
    store.finish_recording(&ready(2), &[Section::Recording]).await.expect("it is stored");
    for (id, _) in take(&store, Section::Recording).await {
        store.upload_done(id, &uploaded(Section::Recording)).await.expect("it is noted");
    }
    assert!(!store.is_recording_spent(call_id(2)).await.expect("it is read"));
    store.add_cdrs(&[cdr(2)]).await.expect("it is stored");
    assert!(store.is_recording_spent(call_id(2)).await.expect("it is read"));
}

async fn retention_sees_the_oldest_first_and_none_that_is_needed(store: Db) {
    for number in [3, 1, 2, 4] {
        store.put_recording(&ready(number)).await.expect("it is stored");
    }
    let push = push(&store, call_id(2)).await;
    let pending = Recording { path: None, state: RecordingState::Pending, ..ready(5) };
    store.put_recording(&pending).await.expect("it is stored");
    assert_eq!(store.recording_bytes().await.expect("it is read"), 4_000);
    let before = store.recordings_before(call_id(4), 10).await.expect("it is read");
    assert_eq!(before, [(call_id(1), 1_000), (call_id(3), 1_000)]);
    end(&store, call_id(2), push, Next::Dead).await;
    let before = store.recordings_before(call_id(4), 10).await.expect("it is read");
    assert_eq!(before.len(), 3, "a push that was given up needs nothing");
    let first = store.recordings_before(CallId(u128::MAX), 1).await.expect("it is read");
    assert_eq!(first, [(call_id(1), 1_000)]);
}

/// A record whose upload cannot be written is not stored either: a crash between the two loses none.
#[tokio::test]
async fn a_record_and_its_upload_are_stored_together_or_not_at_all() {
    let folder = Folder::new("together");
    let path = folder.path().join("gate.sqlite3");
    let store = Db::open(&Database::Sqlite(path.clone())).await.expect("it opens");
    store.archive_records(true).await.expect("it is noted");
    let options = SqliteConnectOptions::new().filename(&path);
    let mut other = SqliteConnection::connect_with(&options).await.expect("it connects");
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON uploads \
                  BEGIN SELECT RAISE(ABORT, 'refused by the test'); END";
    other.execute(refuse).await.expect("it is made");
    store.take_journal(&[cdr(1)], &[], mark()).await.expect_err("its upload is refused");
    assert!(store.record(&call_id(1).to_string()).await.expect("it is read").is_none());
    assert!(store.journal_marks().await.expect("they are read").is_empty());
    other.execute("DROP TRIGGER refuse").await.expect("it was there");
    other.close().await.expect("it closes");
    store.take_journal(&[cdr(1)], &[], mark()).await.expect("it is stored");
    assert_eq!(waiting(&store).await, 1);
}
