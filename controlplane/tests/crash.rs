//! A gateway that is killed in the middle of a call, and the start after it. Needs io_uring.

mod stand_ins;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use loadtest::phone::Phone;
use media::tone::{goertzel_power, mean_power};
use rustix::process::Signal;
use stand_ins::Folder;
use stand_ins::program::{Gate, spare_port, write_config};

const PATIENCE: Duration = Duration::from_secs(20);
/// Two sides, 50 packets a second, 188 bytes each: well over a second of talk.
const CAPTURED_BYTES: u64 = 40_000;

const USERS: &str = "[[proxy.user_backends]]\ntype = \"memory\"\nusers = [\n\
    { username = \"7\", password = \"a\" },\n{ username = \"8\", password = \"b\" },\n]\n\
    [recording]\nenabled = true\n";

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_capture_of_a_killed_gateway_becomes_a_recording() {
    let folder = Folder::new("crash");
    let port = spare_port();
    write_config(folder.path(), port, USERS);
    let gate = Gate::start(folder.path());
    let server = ([127, 0, 0, 1], port).into();
    let mut caller = Phone::bind(server, "7", "a").expect("a port");
    let mut callee = Phone::bind(server, "8", "b").expect("a port");
    caller.register(60).await.expect("7 registers");
    callee.register(60).await.expect("8 registers");
    let (call, answered) = tokio::join!(caller.call("8", 440.0), callee.answer_next(1_000.0));
    let standing = (call.expect("8 answers"), answered.expect("it is called"));

    let captures = folder.path().join("data/captures");
    wait_until(&gate, "a capture", || {
        let sizes = files(&captures, "rgcap").into_iter().map(|path| path.metadata());
        sizes.flatten().any(|metadata| metadata.len() > CAPTURED_BYTES)
    });
    gate.signal(Signal::KILL);
    assert_eq!(gate.end().0, None, "killed");
    drop(standing);

    let again = Gate::start(folder.path());
    let recordings = folder.path().join("data/recordings");
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
}
