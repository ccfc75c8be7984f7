//! `[recording] type = "http"`: a program takes each recording as a form, and the local copy goes only
//! when the program gives the same bytes back.

mod stand_ins;

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::to_bytes;
use controlplane::archive::Targets;
use controlplane::board::{Board, Counts};
use controlplane::store::{
    Db, Found, Recording, RecordingState, Recordings, Records, Section, Store, Uploads,
};
use controlplane::webhooks::Client;
use shared::config::Database;
use shared::ids::CallId;
use stand_ins::archiving::{Running, until, until_so};
use stand_ins::deciding::{Behaviour, Heard, Program};
use stand_ins::{Folder, call_id, cdr, config};

const SOUND: &str = "RIFF....some sound";

struct Desk {
    folder: Folder,
    store: Arc<Db>,
    board: Arc<Board>,
}

impl Desk {
    async fn new() -> Self {
        let folder = Folder::new("recording-form");
        let file = Database::Sqlite(folder.path().join("gate.sqlite3"));
        let store = Arc::new(Db::open(&file).await.expect("it opens"));
        Self { folder, store, board: Arc::new(Board::new(&[0])) }
    }

    /// As the gateway does it with this configuration.
    fn start(&self, program: &Program) -> Running {
        let config = config(&format!(
            "[recording]\ntype = \"http\"\nurl = \"{}\"\ntimeout_ms = 1000\n\
             headers = {{ X-Key = \"k-1\" }}\n[webhooks]\nsecret = \
             \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n",
            program.url("/upload?tenant=7")
        ));
        let client = Arc::new(Client::of_config(&config).expect("a client"));
        let targets = Targets::of(config.archive(), &client).expect("targets");
        assert_eq!(targets.sections(), [Section::Recording]);
        let store: Arc<dyn Store> = self.store.clone();
        Running::start(store, &self.board, targets, config.archive())
    }

    /// A recording that is ready, of a call whose record is not stored.
    async fn record(&self, number: u64) -> Recording {
        let call = call_id(number);
        let path = self.folder.path().join(format!("{call}.wav"));
        std::fs::write(&path, SOUND).expect("a writable folder");
        let recording = Recording {
            call,
            state: RecordingState::Ready,
            capture: PathBuf::from("spent"),
            path: Some(path),
            duration_ms: Some(10_000),
            size: Some(SOUND.len() as u64),
            packets_lost: 0,
            error: None,
        };
        let sections = [Section::Recording];
        self.store.finish_recording(&recording, &sections).await.expect("it is stored");
        recording
    }

    async fn end(&self, number: u64) {
        self.store.add_cdrs(&[cdr(number)]).await.expect("it is stored");
    }

    async fn state(&self, call: CallId) -> RecordingState {
        self.store.recording(call).await.expect("it is read").expect("it has a row").state
    }

    async fn until(&self, what: &str, done: impl Fn(&Counts) -> bool) {
        until(&self.board, what, done).await;
    }

    async fn until_gone(&self, recording: &Recording) {
        let is_gone = async || self.state(recording.call).await == RecordingState::Uploaded;
        until_so("the local copy goes", is_gone).await;
    }
}

/// A program that stores what it is given, and gives it back.
fn shelf() -> Program {
    let program = Program::that(Behaviour::Answer(500, String::new()));
    let place = program.url("/shelf/1.wav");
    program.now(move |heard| match heard.method.as_str() {
        "POST" => Behaviour::Answer(201, format!("{place}\n")),
        _ => Behaviour::Answer(200, SOUND.to_owned()),
    });
    program
}

/// What a field of the form says.
fn field(heard: &Heard, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&heard.body);
    let (_, rest) = text.split_once(&format!("name=\"{name}\""))?;
    let (_, rest) = rest.split_once("\r\n\r\n")?;
    Some(rest.split_once("\r\n--")?.0.to_owned())
}

#[tokio::test]
async fn a_recording_that_the_program_gives_back_leaves_the_disk_and_is_read_from_there() {
    let (desk, program) = (Desk::new().await, shelf());
    let recording = desk.record(1).await;
    desk.end(1).await;
    let running = desk.start(&program);
    desk.until_gone(&recording).await;
    assert!(!recording.path.as_ref().expect("it had one").exists());
    let heard = program.heard();
    let [posted, read_back] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!(posted.target, "/upload?tenant=7");
    for (name, value) in [
        ("call_id", cdr(1).call_id),
        ("session_id", recording.call.to_string()),
        ("track_id", "stereo".to_owned()),
        ("recording", SOUND.to_owned()),
    ] {
        assert_eq!(field(posted, name), Some(value), "{name}");
    }
    let text = String::from_utf8_lossy(&posted.body).into_owned();
    let file = format!("name=\"recording\"; filename=\"{}.wav\"\r\n", recording.call);
    assert!(text.contains(&file) && text.contains("Content-Type: audio/wav"), "{text}");
    assert_eq!(posted.headers["webhook-id"], format!("rec_{}", recording.call).as_str());
    for heard in [posted, read_back] {
        assert_eq!(heard.headers["x-key"], "k-1");
        assert!(heard.headers.contains_key("webhook-signature"));
    }
    let found = running.archive.find_remote(recording.call).await.expect("it is read");
    let (target, Found { key, size }) = found.expect("it can be read back");
    assert_eq!((key, size), (program.url("/shelf/1.wav"), SOUND.len() as u64));
    // The program knows no ranges.
    let key = program.url("/shelf/1.wav");
    let part = target.read(&key, Some(4..=7)).await.expect("it is readable");
    assert_eq!(part.length, 4);
    assert_eq!(to_bytes(part.body, 100).await.expect("a short body").as_ref(), b"....");
    let whole = target.read(&key, None).await.expect("it is readable");
    assert_eq!(whole.length, SOUND.len() as u64);
    assert_eq!(to_bytes(whole.body, 100).await.expect("a short body").as_ref(), SOUND.as_bytes());
}

#[tokio::test]
async fn a_recording_that_is_not_given_back_is_handed_over_once_and_stays() {
    let desk = Desk::new().await;
    let here = Program::that(Behaviour::Answer(500, String::new()));
    let place = here.url("/shelf/1.wav");
    for (number, answer, read_back) in [
        (1, "ok".to_owned(), Behaviour::Answer(404, String::new())),
        (2, place.clone(), Behaviour::Answer(404, String::new())),
        (3, place.clone(), Behaviour::Answer(200, "RIFF....other sound".to_owned())),
        (4, place.clone(), Behaviour::Answer(200, "RIFF....SOME sound".to_owned())),
        (5, place, Behaviour::Hang),
        // It is in our own network, and nobody named it.
        (6, "http://127.0.0.1:1/r.wav".to_owned(), Behaviour::Answer(404, String::new())),
    ] {
        let recording = desk.record(number).await;
        desk.end(number).await;
        let posted = || here.heard().iter().filter(|heard| heard.method == "POST").count();
        let before = posted();
        here.now(move |heard| match heard.method.as_str() {
            "POST" => Behaviour::Answer(200, answer.clone()),
            _ => read_back.clone(),
        });
        let done = Counts::of(&desk.board.counts.uploads_done);
        let running = desk.start(&here);
        desk.until("the upload", |counts| Counts::of(&counts.uploads_done) > done).await;
        running.archive.sweep().await;
        assert_eq!(posted() - before, 1, "call {number}");
        assert_eq!(desk.state(recording.call).await, RecordingState::Ready, "call {number}");
        assert!(recording.path.expect("it has one").exists(), "call {number}");
        let found = running.archive.find_remote(recording.call).await.expect("it is read");
        assert!(found.is_none(), "call {number}");
    }
    assert_eq!(Counts::of(&desk.board.counts.upload_failures), 0);
}

#[tokio::test]
async fn a_program_that_refuses_or_hangs_gets_the_recording_later() {
    let (desk, program) = (Desk::new().await, shelf());
    let recording = desk.record(1).await;
    // Its call record does not come before the first try.
    {
        let _running = desk.start(&program);
        desk.until("a try", |counts| Counts::of(&counts.upload_failures) == 1).await;
    }
    assert!(program.heard().is_empty(), "whose recording it is would have been unknown");
    desk.end(1).await;
    for (tries, failing) in [
        (2, Behaviour::Answer(503, "full".to_owned())),
        (3, Behaviour::Hang),
        (4, Behaviour::Answer(302, String::new())),
    ] {
        let bad = Program::that(failing.clone());
        let _running = desk.start(&bad);
        desk.until("a try", |counts| Counts::of(&counts.upload_failures) == tries).await;
        assert_eq!(desk.state(recording.call).await, RecordingState::Ready, "{failing:?}");
    }
    let _running = desk.start(&program);
    desk.until_gone(&recording).await;
    assert_eq!(Counts::of(&desk.board.counts.uploads_lost), 0);
}
