//! Calls that stand when the gateway is asked to end, or is killed. Needs io_uring.

mod stand_ins;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use controlplane::store::{Connections, Db, RecordSearch, Records};
use loadtest::phone::{Call, HungUpBy, Phone, PhoneError};
use media::tone::{goertzel_power, mean_power};
use rustix::process::Signal;
use shared::cdr::{Cdr, HangupReason};
use shared::config::Database;
use stand_ins::Folder;
use stand_ins::program::{Gate, spare_port, write_config};

const PATIENCE: Duration = Duration::from_secs(20);
/// Two sides, 50 packets a second, 188 bytes each: well over a second of talk.
const CAPTURED_BYTES: u64 = 40_000;

const USERS: &str = "[[proxy.user_backends]]\ntype = \"memory\"\nusers = [\n\
    { username = \"7\", password = \"a\" },\n{ username = \"8\", password = \"b\" },\n]\n\
    [recording]\nenabled = true\n";

/// A gateway with one answered call.
struct Standing {
    gate: Gate,
    server: SocketAddr,
    phones: [Phone; 2],
    calls: [Call; 2],
}

impl Standing {
    async fn start(folder: &Path, arguments: &[&str]) -> Self {
        let port = spare_port();
        write_config(folder, port, USERS);
        let gate = Gate::start_with(folder, arguments);
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        let mut caller = Phone::bind(server, "7", "a").expect("a port");
        let mut callee = Phone::bind(server, "8", "b").expect("a port");
        caller.register(60).await.expect("7 registers");
        callee.register(60).await.expect("8 registers");
        let (call, answered) = tokio::join!(caller.call("8", 440.0), callee.answer_next(1_000.0));
        let calls = [call.expect("8 answers"), answered.expect("it is called")];
        Self { gate, server, phones: [caller, callee], calls }
    }
}

/// The files below `folder` that have this ending.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found
}

/// Asks the gateway, which takes its time, until something holds.
fn wait_until(gate: &Gate, what: &str, mut holds: impl FnMut() -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up_at, "{what} did not happen");
        assert_eq!(gate.get("/livez").0, 200);
    }
}

/// Waits until the call has left enough sound on the disk.
fn wait_for_capture(gate: &Gate, folder: &Path) {
    let captures = folder.join("data/captures");
    wait_until(gate, "a capture", || {
        let sizes = files(&captures, "rgcap").into_iter().map(|path| path.metadata());
        sizes.flatten().any(|metadata| metadata.len() > CAPTURED_BYTES)
    });
}

/// The only call record of a gateway that has ended.
async fn only_record(folder: &Path) -> Cdr {
    let store =
        Db::open(&Database::Sqlite(folder.join("data/ringgate.sqlite3"))).await.expect("it opens");
    let search = RecordSearch { page: 1, per_page: 5, ..Default::default() };
    let mut found = store.records(&search).await.expect("it is read");
    store.close().await;
    assert_eq!(found.total, 1, "exactly one record of the call");
    found.records.remove(0).cdr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_capture_of_a_killed_gateway_becomes_a_recording() {
    let folder = Folder::new("crash");
    let Standing { gate, phones, calls, .. } = Standing::start(folder.path(), &[]).await;
    wait_for_capture(&gate, folder.path());
    gate.signal(Signal::KILL);
    assert_eq!(gate.end().0, None, "killed");
    drop((calls, phones));

    let again = Gate::start(folder.path());
    let recordings = folder.path().join("data/recordings");
    let captures = folder.path().join("data/captures");
    wait_until(&again, "a recording", || {
        !files(&recordings, "wav").is_empty() && files(&captures, "rgcap").is_empty()
    });
    let wav = files(&recordings, "wav").remove(0);
    let mut reader = hound::WavReader::open(&wav).expect("a WAV file");
    let samples: Vec<i16> = reader.samples().collect::<Result<_, _>>().expect("whole samples");
    assert!(samples.len() > 2 * 8_000, "more than a second: {} samples", samples.len());
    for (side, hz) in [(0, 440.0), (1, 1_000.0)] {
        let heard: Vec<i16> = samples.iter().copied().skip(side).step_by(2).collect();
        let share = goertzel_power(&heard, hz) / mean_power(&heard);
        assert!(share > 0.5, "side {side} has {share} of {hz} Hz");
    }
    again.signal(Signal::TERM);
    assert_eq!(again.end().0, Some(0));
    let cdr = only_record(folder.path()).await;
    assert_eq!((cdr.hangup_reason, cdr.status_code), (HangupReason::SystemCrash, 200));
    assert!(cdr.recorded && cdr.duration_ms > 500, "{cdr:?}");
    let talked = cdr.end_time.0 - cdr.answer_time.expect("it was answered").0;
    assert_eq!(u64::try_from(talked).ok(), Some(cdr.duration_ms), "{cdr:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_may_end_by_itself_while_the_gateway_drains() {
    let folder = Folder::new("drain");
    let arguments = ["serve", "--drain", "60"];
    let Standing { mut gate, phones, calls, .. } = Standing::start(folder.path(), &arguments).await;
    wait_for_capture(&gate, folder.path());
    gate.signal(Signal::TERM);
    gate.wait_for("draining");
    let (status, ready) = gate.get("/readyz");
    assert_eq!((status, &ready["reasons"][0]), (503, &"draining".into()));
    let [caller, callee] = calls;
    let (report, other) = tokio::join!(caller.hang_up(), callee.ended(PATIENCE));
    report.expect("the BYE is answered");
    assert_eq!(other.expect("the BYE is passed on").hung_up_by, HungUpBy::Other);
    let (code, log) = gate.end();
    assert_eq!(code, Some(0), "{log}");
    drop(phones);
    let cdr = only_record(folder.path()).await;
    assert_eq!(cdr.hangup_reason, HangupReason::ByCaller);
    assert_eq!(files(&folder.path().join("data/recordings"), "wav").len(), 1);
}

/// `POST /ami/v1/shutdown` with this deadline, and a phone that hears of it.
fn ask_for_the_end(gate: &Gate, deadline_s: u64) {
    let body = serde_json::json!({ "deadline_s": deadline_s });
    let (status, told) = gate.post("/ami/v1/shutdown", &body);
    assert_eq!((status, &told["deadline_s"]), (200, &deadline_s.into()), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_over_http_takes_no_new_call_and_waits_for_the_standing_one() {
    let folder = Folder::new("shutdown");
    let arguments = ["serve", "--drain", "0"];
    let standing = Standing::start(folder.path(), &arguments).await;
    let Standing { mut gate, server, phones: _phones, calls } = standing;
    let mut third = Phone::bind(server, "7", "a").expect("a port");
    ask_for_the_end(&gate, 60);
    gate.wait_for("draining");
    assert_eq!(gate.get("/ami/v1/health").1["status"], "draining");
    match third.call("8", 440.0).await {
        Err(PhoneError::Refused { status, .. }) => assert_eq!(status, 503),
        other => panic!("a new call while draining: {other:?}"),
    }
    let [caller, callee] = calls;
    let (report, other) = tokio::join!(caller.hang_up(), callee.ended(PATIENCE));
    report.expect("the BYE is answered");
    other.expect("the BYE is passed on");
    let (code, log) = gate.end();
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_over_http_ends_what_outlasts_its_deadline() {
    let folder = Folder::new("shutdown-now");
    let arguments = ["serve", "--drain", "600"];
    let Standing { gate, phones, calls, .. } = Standing::start(folder.path(), &arguments).await;
    ask_for_the_end(&gate, 1);
    for call in calls {
        call.ended(PATIENCE).await.expect("a BYE comes");
    }
    let (code, log) = gate.end();
    assert_eq!(code, Some(0), "{log}");
    drop(phones);
    let cdr = only_record(folder.path()).await;
    assert_eq!((cdr.hangup_reason, cdr.status_code), (HangupReason::BySystem, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_outlast_the_drain_are_ended_on_both_sides() {
    let folder = Folder::new("outlast");
    let arguments = ["serve", "--drain", "0"];
    let Standing { gate, phones, calls, .. } = Standing::start(folder.path(), &arguments).await;
    gate.signal(Signal::TERM);
    for call in calls {
        let report = call.ended(PATIENCE).await.expect("a BYE comes");
        assert_eq!(report.hung_up_by, HungUpBy::Other);
    }
    let (code, log) = gate.end();
    assert_eq!(code, Some(0), "{log}");
    drop(phones);
    let cdr = only_record(folder.path()).await;
    assert_eq!((cdr.hangup_reason, cdr.status_code), (HangupReason::BySystem, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_at_once_and_the_record_is_kept() {
    let folder = Folder::new("twice");
    let arguments = ["serve", "--drain", "600"];
    let Standing { mut gate, phones, calls, .. } = Standing::start(folder.path(), &arguments).await;
    gate.signal(Signal::INT);
    gate.wait_for("draining");
    gate.signal(Signal::INT);
    for call in calls {
        call.ended(PATIENCE).await.expect("a BYE comes");
    }
    let (code, log) = gate.end();
    assert_eq!(code, Some(1), "{log}");
    drop(phones);
    let cdr = only_record(folder.path()).await;
    assert_eq!(cdr.hangup_reason, HangupReason::BySystem);
}
