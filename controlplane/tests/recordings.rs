//! From capture files to recordings: the sound, the states, and a start after a crash.

mod stand_ins;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use controlplane::archive::{Archive, Targets};
use controlplane::board::{Board, Counts};
use controlplane::recordings::{Finalizer, NotFinished, finalize, leftovers, recording_path};
use controlplane::store::{Db, RecordingState, Recordings, Store};
use media::capture::{write_header, write_packet};
use media::relay::Component;
use media::tone::{Tone, goertzel_power, mean_power};
use shared::config::Archive as Rules;
use shared::event::CaptureClosed;
use shared::ids::{CallId, Side};
use shared::time::Instant;
use stand_ins::{Folder, MORNING, call_id};
use tokio::sync::mpsc;

/// G.711 mu-law of one sample, by the text of ITU-T G.711 and not by our tables.
fn mu_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs() + 132).min(32_767);
    let exponent = (0..8).rev().find(|e| magnitude >> (e + 7) != 0).unwrap_or(0);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign
        | (u8::try_from(exponent).expect("at most 7") << 4)
        | u8::try_from(mantissa).expect("4 bits"))
}

/// A capture of `frames` times 20 ms, both sides with a tone of their own.
fn capture(folder: &Path, call: CallId, payload_type: u8, frames: u32) -> PathBuf {
    let mut bytes = Vec::new();
    write_header(&mut bytes, call, MORNING);
    let mut tones = [Tone::new(440.0, 8_000), Tone::new(1_000.0, 8_000)];
    for frame in 0..frames {
        for side in Side::BOTH {
            let mut samples = [0; 160];
            tones[side.index()].fill(&mut samples);
            let mut packet = vec![0x80, payload_type];
            packet.extend(u16::try_from(frame).expect("a short call").to_be_bytes());
            packet.extend((frame * 160).to_be_bytes());
            packet.extend((7 + side.index() as u32).to_be_bytes());
            packet.extend(samples.map(mu_law));
            let at = Instant::from_millis(u64::from(frame) * 20);
            write_packet(&mut bytes, at, 0, side, Component::Rtp, &packet);
        }
    }
    let path = folder.join(format!("{call}.rgcap"));
    std::fs::write(&path, bytes).expect("the folder is writable");
    path
}

/// The stronger of the two tones on each side.
fn tones(wav: &Path) -> [f64; 2] {
    let samples: Vec<i16> = hound::WavReader::open(wav)
        .expect("a WAV file")
        .into_samples()
        .collect::<Result<_, _>>()
        .expect("whole samples");
    [0, 1].map(|side| {
        let side: Vec<i16> = samples.iter().copied().skip(side).step_by(2).collect();
        let found = [440.0, 1_000.0]
            .into_iter()
            .find(|hz| goertzel_power(&side, *hz) > 0.8 * mean_power(&side));
        found.expect("one of the tones")
    })
}

struct Desk {
    folder: Folder,
    store: Arc<Db>,
    board: Arc<Board>,
}

impl Desk {
    async fn new() -> Self {
        let folder = Folder::new("recordings");
        for name in ["captures", "recordings"] {
            std::fs::create_dir(folder.path().join(name)).expect("the folder is writable");
        }
        let store = Db::in_memory().await.expect("a database in memory");
        Self { folder, store: Arc::new(store), board: Arc::new(Board::new(&[0])) }
    }

    fn captures(&self) -> PathBuf {
        self.folder.path().join("captures")
    }

    fn recordings(&self) -> PathBuf {
        self.folder.path().join("recordings")
    }

    fn start(&self) -> (Finalizer, mpsc::Sender<CaptureClosed>) {
        let store: Arc<dyn Store> = self.store.clone();
        let board = Arc::clone(&self.board);
        let targets = Targets::default();
        let archive = Archive::new(Arc::clone(&store), board, targets, &Rules::default());
        Finalizer::start(store, Arc::clone(&self.board), archive, self.recordings())
    }

    /// A process with its finalizer, from start to end.
    async fn work(&self, closed: Vec<CaptureClosed>) {
        let (finalizer, queue) = self.start();
        for capture in closed {
            queue.send(capture).await.expect("the finalizer takes it");
        }
        drop(queue);
        finalizer.finish(Duration::from_secs(60)).await;
    }

    async fn state(&self, call: CallId) -> RecordingState {
        self.store.recording(call).await.expect("it is read").expect("it has a row").state
    }
}

fn closed(call: CallId, path: PathBuf) -> CaptureClosed {
    let bytes = path.metadata().map_or(0, |metadata| metadata.len());
    CaptureClosed { call, path, packets: 0, bytes, lost: 0, error: None }
}

#[tokio::test]
async fn the_caller_is_left_the_callee_right_and_the_capture_goes() {
    let desk = Desk::new().await;
    let call = call_id(1);
    let path = capture(&desk.captures(), call, 0, 100);
    desk.work(vec![closed(call, path.clone())]).await;
    let recording = desk.store.recording(call).await.expect("it is read").expect("it has a row");
    assert_eq!(recording.state, RecordingState::Ready, "{:?}", recording.error);
    let wav = recording.path.expect("it is ready");
    assert_eq!(wav, recording_path(&desk.recordings(), call));
    assert_eq!(tones(&wav), [440.0, 1_000.0]);
    assert_eq!(recording.duration_ms, Some(2_000));
    assert_eq!(recording.size, Some(wav.metadata().expect("it is there").len()));
    assert!(!path.exists(), "the capture has done its work");
    assert_eq!(Counts::of(&desk.board.counts.recordings_ready), 1);
}

#[tokio::test]
async fn a_codec_that_we_do_not_decode_keeps_its_capture_and_says_why() {
    let desk = Desk::new().await;
    let call = call_id(1);
    let path = capture(&desk.captures(), call, 18, 10);
    desk.work(vec![closed(call, path.clone())]).await;
    let recording = desk.store.recording(call).await.expect("it is read").expect("it has a row");
    assert_eq!(recording.state, RecordingState::Unsupported);
    let reason = "only PCMU and PCMA are recorded; this call used payload type 18 (20 packets)";
    assert_eq!(recording.error.as_deref(), Some(reason));
    assert!(path.exists());
    let left = leftovers(&*desk.store, &desk.captures()).await.expect("the folder is read");
    assert_eq!(left, [], "it is not tried again and again");
}

#[tokio::test]
async fn captures_of_a_crash_become_recordings_on_the_next_start() {
    let desk = Desk::new().await;
    // One that nobody reported, one torn in the middle of a packet, one that was done already but
    // for the last step, one empty, and a file that is none of ours.
    let [silent, torn, done, empty] = [1, 2, 3, 4].map(call_id);
    capture(&desk.captures(), silent, 0, 50);
    let torn_path = capture(&desk.captures(), torn, 0, 50);
    let bytes = std::fs::read(&torn_path).expect("it is there");
    std::fs::write(&torn_path, &bytes[..bytes.len() - 100]).expect("it is written");
    let done_path = capture(&desk.captures(), done, 0, 50);
    finalize(&done_path, &recording_path(&desk.recordings(), done)).expect("a recording");
    std::fs::write(desk.captures().join(format!("{empty}.rgcap")), "").expect("it is written");
    std::fs::write(desk.captures().join("notes.txt"), "mine").expect("it is written");

    let left = leftovers(&*desk.store, &desk.captures()).await.expect("the folder is read");
    let calls: Vec<CallId> = left.iter().map(|capture| capture.call).collect();
    assert_eq!(calls, [silent, torn, done, empty], "oldest first");
    desk.work(left).await;
    for call in [silent, torn, done] {
        assert_eq!(desk.state(call).await, RecordingState::Ready);
        assert_eq!(tones(&recording_path(&desk.recordings(), call)), [440.0, 1_000.0]);
    }
    assert_eq!(desk.state(empty).await, RecordingState::Empty);
    let recording = desk.store.recording(torn).await.expect("it is read").expect("it has a row");
    let note = recording.error.expect("it says what is missing");
    assert!(note.starts_with("the capture is torn at byte "), "{note}");
    let rest: Vec<_> = std::fs::read_dir(desk.captures())
        .expect("the folder is read")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(rest, ["notes.txt"]);
    let left = leftovers(&*desk.store, &desk.captures()).await.expect("the folder is read");
    assert_eq!(left, []);
}

#[tokio::test]
async fn a_capture_that_cannot_be_read_is_tried_again_later() {
    let desk = Desk::new().await;
    let call = call_id(1);
    let path = desk.captures().join(format!("{call}.rgcap"));
    std::fs::write(&path, "this is not a capture, whatever its name says").expect("written");
    desk.work(vec![closed(call, path.clone())]).await;
    assert_eq!(desk.state(call).await, RecordingState::Failed);
    assert!(path.exists());
    let left = leftovers(&*desk.store, &desk.captures()).await.expect("the folder is read");
    assert_eq!(left.len(), 1);
}

/// What stands in the folder's way here is a full disk elsewhere.
#[tokio::test]
async fn a_recording_that_had_no_room_is_made_without_a_restart() {
    let desk = Desk::new().await;
    let call = call_id(1);
    let path = capture(&desk.captures(), call, 0, 50);
    let folder = recording_path(&desk.recordings(), call);
    let folder = folder.parent().expect("a folder per day");
    std::fs::write(folder, "no folder").expect("it is written");
    let (finalizer, queue) = desk.start();
    queue.send(closed(call, path.clone())).await.expect("the finalizer takes it");
    let is = async |state| {
        let row = desk.store.recording(call).await.expect("it is read");
        row.is_some_and(|recording| recording.state == state)
    };
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while !is(RecordingState::Failed).await {
        look.tick().await;
    }
    assert_eq!(Counts::of(&desk.board.counts.recordings_backlog), 1, "it waits");
    std::fs::remove_file(folder).expect("it was there");
    while !is(RecordingState::Ready).await {
        // The database needs real time: only the wait is skipped.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
        look.reset();
        look.tick().await;
    }
    drop(queue);
    finalizer.finish(Duration::from_secs(60)).await;
    assert!(!path.exists(), "the capture has done its work");
    let counts = &desk.board.counts;
    assert_eq!(
        (Counts::of(&counts.recordings_ready), Counts::of(&counts.recordings_failed)),
        (1, 1)
    );
}

#[test]
fn a_recording_that_fails_leaves_nothing_under_its_name() {
    let folder = Folder::new("half");
    let path = capture(folder.path(), call_id(1), 18, 5);
    let target = folder.path().join("day").join("x.wav");
    let refused = finalize(&path, &target).expect_err("no codec of ours");
    assert_eq!(refused, NotFinished::Unsupported(vec![(18, 10)]));
    let left: Vec<_> = std::fs::read_dir(folder.path().join("day")).expect("made").collect();
    assert!(left.is_empty(), "{left:?}");
}
