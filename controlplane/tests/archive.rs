//! Uploads to a real S3 server: verified before the local copy goes, nothing lost when it fails.
#![cfg(feature = "s3")]

mod stand_ins;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use controlplane::archive::{Archive, Folder as LocalFolder, PART_BYTES, S3, Targets};
use controlplane::board::{Board, Counts};
use controlplane::store::{
    Connections, Db, NewEvent, Next, Outbox, Recording, RecordingState, Recordings, Records,
    Section, Settlement, Store, Tried, Uploads, now_ms,
};
use shared::config::{Archive as Rules, Database, Sources, load};
use shared::ids::CallId;
use shared::time::WallMs;
use stand_ins::archiving::{Running, until, until_so};
use stand_ins::bucket::{BucketServer, Fault};
use stand_ins::{Folder, call_id, cdr};

/// Nobody waits so long for a request to a server on the same machine.
const QUICK: Duration = Duration::from_millis(400);

struct Desk {
    folder: Folder,
    server: BucketServer,
    store: Arc<Db>,
    board: Arc<Board>,
}

fn rules(lines: &str) -> Rules {
    let text = format!("[recording]\n{lines}\n");
    let sources = Sources {
        file: Some(("ringgate.toml", &text)),
        env: Vec::new(),
        read_secret: &|_| Err("no secret is read here".to_owned()),
        strict: true,
    };
    let loaded = load(&sources);
    loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems)).archive().clone()
}

impl Desk {
    async fn new() -> Self {
        let folder = Folder::new("archive");
        let server = BucketServer::start(&folder.path().join("bucket")).await;
        // A file: one in memory is gone with its connection, when a task is cut off in a transaction.
        let file = Database::Sqlite(folder.path().join("gate.sqlite3"));
        let store = Arc::new(Db::open(&file).await.expect("it opens"));
        Self { folder, server, store, board: Arc::new(Board::new(&[0])) }
    }

    /// A process that uploads recordings, and call records with recordings beside them.
    fn start(&self, rules: &Rules) -> Running {
        let bucket = Arc::new(S3::new(&self.server.bucket, QUICK));
        let targets =
            Targets { call_records: Some(bucket), recordings_beside: true, recordings: None };
        let store: Arc<dyn Store> = self.store.clone();
        Running::start(store, &self.board, targets, rules)
    }

    fn recording(&self, number: u64, bytes: &[u8]) -> Recording {
        let call = call_id(number);
        let path = self.folder.path().join(format!("{call}.wav"));
        std::fs::write(&path, bytes).expect("a writable folder");
        Recording {
            call,
            state: RecordingState::Ready,
            capture: PathBuf::from("spent"),
            path: Some(path),
            duration_ms: Some(10_000),
            size: Some(bytes.len() as u64),
            packets_lost: 0,
            error: None,
        }
    }

    /// A call has ended: its record and its recording are stored.
    async fn finish(&self, recording: &Recording) {
        let mut record = cdr(1);
        record.session_id = recording.call;
        self.store.add_cdrs(&[record]).await.expect("it is stored");
        let sections = [Section::CallRecord];
        self.store.finish_recording(recording, &sections).await.expect("it is stored");
    }

    async fn state(&self, call: CallId) -> RecordingState {
        self.store.recording(call).await.expect("it is read").expect("it has a row").state
    }

    async fn until(&self, what: &str, done: impl Fn(&Counts) -> bool) {
        until(&self.board, what, done).await;
    }

    async fn until_uploaded(&self, call: CallId) {
        let is_gone = async || self.state(call).await == RecordingState::Uploaded;
        until_so("the recording is uploaded", is_gone).await;
    }
}

fn key(number: u64) -> String {
    format!("pbx/records/20261124/{}.wav", call_id(number))
}

#[tokio::test]
async fn a_recording_is_stored_and_only_then_leaves_the_disk() {
    let desk = Desk::new().await;
    let recording = desk.recording(1, b"RIFF....some sound");
    desk.finish(&recording).await;
    let running = desk.start(&Rules::default());
    desk.until_uploaded(recording.call).await;
    assert_eq!(desk.server.object(&key(1)).as_deref(), Some(b"RIFF....some sound".as_slice()));
    assert!(!recording.path.expect("it had one").exists());
    let found = running.archive.find_remote(recording.call).await.expect("it is read");
    let (target, uploaded) = found.expect("it was uploaded");
    assert_eq!((uploaded.key.as_str(), uploaded.size), (key(1).as_str(), 18));
    let part = target.read(&uploaded.key, Some(4..=7)).await.expect("it is readable");
    assert_eq!(part.length, 4);
    assert_eq!(to_bytes(part.body, 100).await.expect("a short body").as_ref(), b"....");
}

#[tokio::test]
async fn a_large_recording_goes_in_parts_and_comes_back_whole() {
    let desk = Desk::new().await;
    let bytes: Vec<u8> =
        (0..2 * PART_BYTES + 12_345).map(|n| u8::try_from(n % 251).expect("small")).collect();
    let recording = desk.recording(2, &bytes);
    desk.finish(&recording).await;
    let _running = desk.start(&Rules::default());
    desk.until_uploaded(recording.call).await;
    assert!(desk.server.object(&key(2)).as_deref() == Some(bytes.as_slice()), "it differs");
}

#[tokio::test]
async fn a_bucket_that_fails_in_any_way_loses_nothing() {
    let desk = Desk::new().await;
    for (number, fault) in [(10, Fault::Refuse), (11, Fault::Hang), (12, Fault::Corrupt)] {
        desk.server.set(fault);
        let recording = desk.recording(number, b"RIFF....some sound");
        let failures = Counts::of(&desk.board.counts.upload_failures);
        desk.finish(&recording).await;
        {
            let _running = desk.start(&Rules::default());
            let failed = |counts: &Counts| Counts::of(&counts.upload_failures) > failures;
            desk.until(&format!("{fault:?} is noticed"), failed).await;
        }
        assert!(recording.path.as_ref().is_some_and(|path| path.exists()), "{fault:?}");
        assert_eq!(desk.state(recording.call).await, RecordingState::Ready, "{fault:?}");
        // The next process finds the bucket well.
        desk.server.set(Fault::None);
        let _running = desk.start(&Rules::default());
        desk.until_uploaded(recording.call).await;
        let stored = desk.server.object(&key(number));
        assert_eq!(stored.as_deref(), Some(b"RIFF....some sound".as_slice()), "{fault:?}");
    }
}

/// reliability.md DU9: the backlog does not wait for its own retries.
#[tokio::test]
async fn a_bucket_that_comes_back_gets_the_whole_backlog_at_once() {
    let desk = Desk::new().await;
    desk.server.set(Fault::Refuse);
    let waiting: Vec<Recording> =
        (30..50).map(|number| desk.recording(number, b"RIFF....some sound")).collect();
    for recording in &waiting {
        desk.finish(recording).await;
    }
    let ids = desk.store.take_uploads(Section::CallRecord, 100, 1_000).await.expect("they are due");
    let running = desk.start(&Rules::default());
    desk.until("failures", |counts| Counts::of(&counts.upload_failures) >= 20).await;
    // As after many failures: their next tries are minutes away.
    for upload in ids {
        desk.store.upload_failed(upload.id, 540_000, "503").await.expect("it is noted");
    }
    desk.server.set(Fault::None);
    let next = desk.recording(50, b"RIFF....some sound");
    desk.finish(&next).await;
    running.archive.wake();
    for recording in waiting.iter().chain([&next]) {
        desk.until_uploaded(recording.call).await;
    }
}

#[tokio::test]
async fn a_file_that_has_to_be_pushed_stays_until_it_was() {
    let desk = Desk::new().await;
    let recording = desk.recording(60, b"RIFF....some sound");
    let key = recording.call.to_string();
    let event = NewEvent {
        event_id: format!("cdr_{key}"),
        endpoint: "callrecord".to_owned(),
        key: key.clone(),
        kind: "cdr".to_owned(),
        payload: "{}".to_owned(),
    };
    desk.store.add_events(&[event]).await.expect("it is stored");
    desk.finish(&recording).await;
    let running = desk.start(&Rules::default());
    desk.until("the upload", |counts| Counts::of(&counts.uploads_done) == 1).await;
    running.archive.sweep().await;
    let path = recording.path.clone().expect("it has one");
    assert!(path.exists());
    assert_eq!(desk.state(recording.call).await, RecordingState::Ready);
    let due = desk.store.due("callrecord", WallMs(now_ms()), 1).await.expect("it is read");
    let (id, next) = (due.rows[0].id, Next::Delivered);
    let attempt = Settlement::Attempt { id, key, tried: Tried::default(), next };
    desk.store.settle("callrecord", &[attempt], "").await.expect("it is noted");
    running.archive.sweep().await;
    assert!(!path.exists());
    assert_eq!(desk.state(recording.call).await, RecordingState::Uploaded);
}

/// Killed after the upload and before the removal: the next process clears up.
#[tokio::test]
async fn a_copy_that_a_kill_left_behind_goes_and_one_that_shall_stay_stays() {
    let desk = Desk::new().await;
    let recording = desk.recording(61, b"RIFF....some sound");
    desk.finish(&recording).await;
    let keep = desk.start(&rules("keep_media_copy = true"));
    desk.until("the upload", |counts| Counts::of(&counts.uploads_done) == 1).await;
    keep.archive.sweep().await;
    assert_eq!(desk.state(recording.call).await, RecordingState::Ready);
    drop(keep);
    let running = desk.start(&Rules::default());
    running.archive.sweep().await;
    assert_eq!(desk.state(recording.call).await, RecordingState::Uploaded);
    assert!(!recording.path.expect("it had one").exists());
}

#[tokio::test]
async fn an_upload_that_was_cut_off_is_made_again_by_the_next_process() {
    let desk = Desk::new().await;
    let recording = desk.recording(20, b"RIFF");
    desk.finish(&recording).await;
    let take = async || desk.store.take_uploads(Section::CallRecord, 8, 3_600_000).await;
    assert_eq!(take().await.expect("it is due").len(), 1);
    assert!(take().await.expect("it is read").is_empty(), "it is leased");
    let _running = desk.start(&Rules::default());
    desk.until_uploaded(recording.call).await;
}

#[tokio::test]
async fn every_call_record_is_stored_under_its_call_id_and_none_replaces_another() {
    let desk = Desk::new().await;
    desk.store.add_cdrs(&[cdr(1)]).await.expect("of before the archive was configured");
    desk.store.archive_records(true).await.expect("it is noted");
    let mut again = cdr(3);
    again.call_id = cdr(2).call_id;
    let mut odd = cdr(4);
    odd.call_id = "../../etc/passwd".to_owned();
    let stored = desk.store.add_cdrs(&[cdr(2), again.clone(), odd.clone()]).await;
    stored.expect("they are stored");
    let _running = desk.start(&Rules::default());
    desk.until("three uploads", |counts| Counts::of(&counts.uploads_done) >= 3).await;
    let object = |name: &str| desk.server.object(&format!("pbx/records/20261124/{name}.json"));
    let first = object("a-leg-2@phone").expect("under its Call-ID");
    let first: serde_json::Value = serde_json::from_slice(&first).expect("JSON");
    assert_eq!(first["sessionId"], cdr(2).session_id.to_string());
    assert!(object(&again.session_id.to_string()).is_some(), "the second has its own name");
    assert!(object(&odd.session_id.to_string()).is_some(), "an odd Call-ID is no path");
    assert!(object("a-leg-1@phone").is_none(), "old records are left alone");
}

#[tokio::test]
async fn a_local_archive_gets_the_same_files() {
    let desk = Desk::new().await;
    let root = desk.folder.path().join("cdr");
    let targets = Targets {
        call_records: Some(Arc::new(LocalFolder::new(root.clone()))),
        recordings_beside: false,
        recordings: None,
    };
    desk.store.archive_records(true).await.expect("it is noted");
    desk.store.add_cdrs(&[cdr(5)]).await.expect("it is stored");
    let store: Arc<dyn Store> = desk.store.clone();
    let archive = Archive::new(store, Arc::clone(&desk.board), targets, &Rules::default());
    let task = archive.start();
    desk.until("one file", |counts| Counts::of(&counts.uploads_done) == 1).await;
    task.abort();
    let text = std::fs::read(root.join("20261124/a-leg-5@phone.json")).expect("it is there");
    let found: shared::cdr::Cdr = serde_json::from_slice(&text).expect("a call record");
    assert_eq!(found, cdr(5));
}

#[tokio::test]
async fn old_and_surplus_recordings_go_but_never_one_that_waits_for_its_upload() {
    let desk = Desk::new().await;
    for number in 1..=3 {
        let recording = desk.recording(number, &[0; 1_000]);
        desk.store.put_recording(&recording).await.expect("it is stored");
    }
    let waiting = desk.recording(4, &[0; 1_000]);
    desk.finish(&waiting).await;
    desk.server.set(Fault::Refuse);
    let running = desk.start(&rules("keep_bytes = 2500"));
    running.archive.sweep().await;
    for (number, state) in [
        (1, RecordingState::Expired),
        (2, RecordingState::Expired),
        (3, RecordingState::Ready),
        (4, RecordingState::Ready),
    ] {
        assert_eq!(desk.state(call_id(number)).await, state, "call {number}");
    }
    drop(running);
    // The calls began on the 24th of November 2026.
    let running = desk.start(&rules("keep_days = 1"));
    running.archive.sweep().await;
    let now = std::time::SystemTime::now();
    let began = std::time::UNIX_EPOCH + Duration::from_millis(stand_ins::MORNING.0.unsigned_abs());
    let is_old = now.duration_since(began).is_ok_and(|age| age > Duration::from_hours(24));
    let expected = if is_old { RecordingState::Expired } else { RecordingState::Ready };
    assert_eq!(desk.state(call_id(3)).await, expected);
    assert_eq!(desk.state(waiting.call).await, RecordingState::Ready);
    assert_eq!(Counts::of(&desk.board.counts.recordings_expired), 2 + u64::from(is_old));
    desk.store.ping().await.expect("the database is well");
}
