//! The SQLite store: what it keeps, how it pages and searches, who may read the file.

mod stand_ins;

use std::os::unix::fs::PermissionsExt;

use controlplane::store::{
    Extension, RecordSearch, RecordSort, Recording, RecordingState, SqliteStore, Store, StoreError,
};
use shared::cdr::{CallStatus, Cdr, Direction};
use shared::snapshot::Secret;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use stand_ins::{Folder, MORNING, call_id, cdr};

async fn filled(count: u64) -> SqliteStore {
    let store = SqliteStore::in_memory().await.expect("a database in memory");
    let batch: Vec<Cdr> = (0..count).map(cdr).collect();
    store.add_cdrs(&batch).await.expect("it is stored");
    store
}

fn page(page: u32, per_page: u32) -> RecordSearch {
    RecordSearch { page, per_page, ..Default::default() }
}

async fn numbers(store: &SqliteStore, search: &RecordSearch) -> Vec<i64> {
    let found = store.records(search).await.expect("it is read");
    found.records.iter().map(|record| record.id).collect()
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_and_twice_is_once() {
    let store = filled(3).await;
    store.add_cdrs(&[cdr(1), cdr(3)]).await.expect("a repeat is no error");
    let all = store.records(&page(1, 10)).await.expect("it is read");
    assert_eq!(all.total, 4);
    let one = store.record(&call_id(1).to_string()).await.expect("it is read").expect("known");
    assert_eq!(one.cdr, cdr(1));
    assert!(one.recording.is_none());
}

#[tokio::test]
async fn a_record_is_found_by_number_session_and_either_call_id() {
    let store = filled(5).await;
    let own_id = call_id(3).to_string();
    for id in ["4", own_id.as_str(), "a-leg-3@phone", "b-leg-3@gate"] {
        let found = store.record(id).await.expect("it is read").expect(id);
        assert_eq!(found.cdr.session_id, call_id(3), "{id}");
    }
    for id in ["0", "99", "", "a-leg-3", "' OR 1=1 --"] {
        assert!(store.record(id).await.expect("it is read").is_none(), "{id}");
    }
}

#[tokio::test]
async fn a_call_id_that_two_calls_had_means_the_newer_one() {
    let store = SqliteStore::in_memory().await.expect("a database in memory");
    let (old, mut new) = (cdr(1), cdr(2));
    new.call_id.clone_from(&old.call_id);
    store.add_cdrs(&[old.clone(), new]).await.expect("it is stored");
    let found = store.record(&old.call_id).await.expect("it is read").expect("known");
    assert_eq!(found.cdr.session_id, call_id(2));
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let store = filled(23).await;
    let mut seen = Vec::new();
    for number in 1..=3 {
        seen.extend(numbers(&store, &page(number, 10)).await);
    }
    assert_eq!(seen, (1..=23).rev().collect::<Vec<i64>>());
    assert!(numbers(&store, &page(4, 10)).await.is_empty());
    let ascending = RecordSearch { sort: RecordSort::StartedAscending, ..page(1, 3) };
    assert_eq!(numbers(&store, &ascending).await, [1, 2, 3]);
}

#[tokio::test]
async fn every_filter_narrows() {
    let store = SqliteStore::in_memory().await.expect("a database in memory");
    let mut missed = cdr(2);
    missed.status = CallStatus::Missed;
    missed.duration_ms = 0;
    let mut inbound = cdr(3);
    inbound.direction = Direction::Inbound;
    inbound.caller = "+49 30 100%_x".to_owned();
    let mut long = cdr(4);
    long.duration_ms = 99_000;
    long.callee = "1003".to_owned();
    store.add_cdrs(&[cdr(1), missed, inbound, long]).await.expect("it is stored");

    let base = page(1, 10);
    let search = |change: fn(&mut RecordSearch)| {
        let mut search = base.clone();
        change(&mut search);
        search
    };
    let missed = search(|s| s.status = Some(CallStatus::Missed));
    assert_eq!(numbers(&store, &missed).await, [2]);
    let inbound = search(|s| s.direction = Some(Direction::Inbound));
    assert_eq!(numbers(&store, &inbound).await, [3]);
    let caller = search(|s| s.caller = Some("100".to_owned()));
    assert_eq!(numbers(&store, &caller).await, [4, 3, 2, 1]);
    let literal = search(|s| s.caller = Some("0%_".to_owned()));
    assert_eq!(numbers(&store, &literal).await, [3], "wildcards mean themselves");
    let callee = search(|s| s.callee = Some("1003".to_owned()));
    assert_eq!(numbers(&store, &callee).await, [4]);
    let text = search(|s| s.text = Some("a-leg-2".to_owned()));
    assert_eq!(numbers(&store, &text).await, [2]);
    let times = search(|s| {
        s.from = Some(MORNING.add_ms(2_000));
        s.until = Some(MORNING.add_ms(4_000));
    });
    assert_eq!(numbers(&store, &times).await, [3, 2], "the start counts, the end does not");
    let longest = search(|s| s.sort = RecordSort::DurationDescending);
    assert_eq!(numbers(&store, &longest).await, [4, 3, 1, 2]);
}

#[tokio::test]
async fn a_file_is_its_owners_alone_and_survives_a_restart() {
    let folder = Folder::new("store");
    let path = folder.path().join("gate.sqlite3");
    let store = SqliteStore::open(&path).await.expect("it opens");
    store.add_cdrs(&[cdr(1)]).await.expect("it is stored");
    for name in ["gate.sqlite3", "gate.sqlite3-wal"] {
        let mode = folder.path().join(name).metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(store.record("1").await.expect("it is read").is_some(), "a reader sees the writer");
    store.close().await;
    let again = SqliteStore::open(&path).await.expect("it opens again");
    assert!(again.record("1").await.expect("it is read").is_some());
    again.close().await;
}

/// The lock outlasts `busy_timeout`, so this test takes its five seconds.
#[tokio::test]
async fn a_database_that_another_process_locks_is_unavailable_and_then_works() {
    let folder = Folder::new("locked");
    let path = folder.path().join("gate.sqlite3");
    let store = SqliteStore::open(&path).await.expect("it opens");
    let options = SqliteConnectOptions::new().filename(&path);
    let mut other = SqliteConnection::connect_with(&options).await.expect("it connects");
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.expect("the lock is free");
    let refused = store.add_cdrs(&[cdr(1)]).await.expect_err("it is locked");
    assert!(matches!(refused, StoreError::Unavailable(_)), "worth another try: {refused}");
    sqlx::query("COMMIT").execute(&mut other).await.expect("it was ours");
    other.close().await.expect("it closes");
    store.add_cdrs(&[cdr(1)]).await.expect("it is free");
    assert!(store.record("1").await.expect("it is read").is_some());
}

#[tokio::test]
async fn what_is_no_database_says_so() {
    let folder = Folder::new("nonsense");
    let path = folder.path().join("gate.sqlite3");
    std::fs::write(&path, "this is text and no database at all, and long enough to be read as one")
        .expect("it is written");
    let error = SqliteStore::open(&path).await.expect_err("it is no database");
    assert!(error.to_string().contains("not a database"), "{error}");
}

#[tokio::test]
async fn the_first_start_happens_once() {
    let store = SqliteStore::in_memory().await.expect("a database in memory");
    let extension = |name: &str| Extension {
        extension: name.to_owned(),
        display_name: Some("Demo".to_owned()),
        secret: Secret::Plain("secret".into()),
        enabled: true,
        allow_guest_calls: false,
    };
    assert!(!store.started_before().await.expect("it is answered"));
    let first = store.first_start(&[extension("1001"), extension("1002")]).await;
    assert!(first.expect("it is stored"));
    assert!(store.started_before().await.expect("it is answered"));
    let second = store.first_start(&[extension("1003")]).await;
    assert!(!second.expect("it is answered"));
    let extensions = store.extensions().await.expect("they are read");
    let names: Vec<_> = extensions.iter().map(|extension| extension.extension.as_str()).collect();
    assert_eq!(names, ["1001", "1002"]);
    assert_eq!(extensions[0].secret, Secret::Plain("secret".into()));
}

#[tokio::test]
async fn a_recording_is_part_of_its_record() {
    let store = filled(1).await;
    let mut recording = Recording {
        call: call_id(0),
        state: RecordingState::Pending,
        capture: "captures/x.rgcap".into(),
        path: None,
        duration_ms: None,
        size: None,
        packets_lost: 3,
        error: None,
    };
    store.put_recording(&recording).await.expect("it is stored");
    recording.state = RecordingState::Ready;
    recording.path = Some("recordings/x.wav".into());
    recording.duration_ms = Some(10_000);
    recording.size = Some(320_044);
    store.put_recording(&recording).await.expect("it is replaced");
    let record = store.record("1").await.expect("it is read").expect("known");
    assert_eq!(record.recording.as_ref(), Some(&recording));
    assert_eq!(store.recording(call_id(0)).await.expect("it is read"), Some(recording));
    assert_eq!(store.recording(call_id(9)).await.expect("it is read"), None);
}
