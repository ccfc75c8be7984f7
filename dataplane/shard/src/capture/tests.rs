//! Captures on a real executor, with real files in a temporary folder.
//! Owns:  `Folder`, removed at the end, and the loop that lets the writers work.
//! Gives: proof that files are complete, shared by a call's relays, and harmless when they fail.
//! Never: sleeps: the executor is yielded to until the file is closed.
//! Holds: every wait has a deadline.

use std::fs;

use glommio::{LocalExecutorBuilder, Placement};
use media::capture::{Reader, Tail};
use media::relay::Component;
use shared::ids::Side;
use shared::time::WallMs;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);
const CALL: CallId = CallId(0xca11);

struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("shard-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it was created");
    }
}

fn run<T: 'static>(work: impl Future<Output = T> + 'static) -> T {
    let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 * 1_024);
    builder.make().expect("an executor").run(work)
}

fn captures() -> Captures {
    Captures::new(Arc::new(Bell::new().expect("an eventfd")))
}

fn now(ms: u64) -> Now {
    Now { mono: Instant::from_millis(1_000 + ms), wall: WallMs(1_700_000_000_000 + ms as i64) }
}

fn relay(slot: u32) -> RelayKey {
    RelayKey { slot, generation: 1 }
}

fn heard(at: Now, side: Side, packet: &[u8]) -> Heard<'_> {
    Heard { at: at.mono, side, component: Component::Rtp, packet }
}

async fn closed(captures: &mut Captures) -> Closed {
    let give_up_at = std::time::Instant::now() + DEADLINE;
    loop {
        if let Some(closed) = captures.poll_closed() {
            return closed;
        }
        assert!(std::time::Instant::now() < give_up_at, "the file never closed");
        glommio::executor().yield_task_queue_now().await;
    }
}

#[test]
fn everything_that_two_relays_of_a_call_heard_is_in_one_file() {
    let folder = Folder::new("capture-two");
    let path = folder.0.join("call.capture");
    let file = path.clone();
    let (closed, counters) = run(async move {
        let mut captures = captures();
        for slot in 0..2 {
            captures.record(now(0), relay(slot), CALL, slot as u8, file.clone());
        }
        for count in 0..1_000_u64 {
            let at = now(count * 10);
            let (slot, side) = ((count % 2) as u32, Side::BOTH[(count / 2 % 2) as usize]);
            let packet = [count as u8; 172];
            captures.append(relay(slot), &heard(at, side, &packet));
            captures.sweep(at.mono);
            if count % 50 == 0 {
                glommio::executor().yield_task_queue_now().await;
            }
        }
        assert!(!captures.leave(now(10_000).mono, relay(0)), "the other one still records");
        assert!(captures.poll_closed().is_none());
        assert!(captures.leave(now(10_000).mono, relay(1)));
        let closed = closed(&mut captures).await;
        let mut counters = Counters::default();
        captures.count(&mut counters);
        (closed, counters)
    });
    assert_eq!(closed.relay, relay(1));
    let CaptureClosed { call, packets, bytes, lost, error, .. } = closed.capture;
    assert_eq!((call, packets, lost, error), (CALL, 1_000, 0, None));
    assert_eq!(counters.of(Counter::CapturePackets), 1_000);

    let file = fs::read(&path).expect("the file");
    assert_eq!(file.len() as u64, bytes);
    let mut reader = Reader::new(&file).expect("a capture");
    assert_eq!(reader.header().call, CALL);
    let read: Vec<_> = reader.by_ref().collect();
    assert_eq!(read.len(), 1_000);
    assert_eq!(reader.tail(), Tail::Clean);
    let at_7 = &read[7];
    assert_eq!((at_7.at, at_7.line, at_7.side), (Duration::from_millis(70), 1, Side::Callee));
    assert_eq!(at_7.bytes, [7; 172]);
}

#[test]
fn a_recording_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("capture-mode");
    let path = folder.0.join("call.capture");
    let file = path.clone();
    run(async move {
        let mut captures = captures();
        captures.record(now(0), relay(0), CALL, 0, file);
        captures.leave(now(1).mono, relay(0));
        closed(&mut captures).await
    });
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_cannot_be_created_loses_packets_and_says_why() {
    let folder = Folder::new("capture-missing");
    let path = folder.0.join("nowhere").join("call.capture");
    let closed = run(async move {
        let mut captures = captures();
        captures.record(now(0), relay(0), CALL, 0, path);
        for count in 0..100 {
            captures.append(relay(0), &heard(now(count), Side::Caller, &[7; 172]));
            glommio::executor().yield_task_queue_now().await;
        }
        captures.leave(now(100).mono, relay(0));
        let closed = closed(&mut captures).await;
        let mut counters = Counters::default();
        captures.count(&mut counters);
        assert_eq!(counters.of(Counter::CaptureLost), 100);
        closed
    });
    assert_eq!((closed.capture.packets, closed.capture.lost), (0, 100));
    let error = closed.capture.error.expect("a reason");
    assert!(error.contains("cannot create the file") && error.contains("nowhere"), "{error}");
}

#[test]
fn a_full_disk_is_an_error_of_the_capture_and_of_nothing_else() {
    let closed = run(async {
        let mut captures = captures();
        captures.record(now(0), relay(0), CALL, 0, PathBuf::from("/dev/full"));
        for count in 0..100 {
            captures.append(relay(0), &heard(now(count), Side::Caller, &[7; 172]));
        }
        captures.leave(now(100).mono, relay(0));
        closed(&mut captures).await
    });
    assert_eq!((closed.capture.packets, closed.capture.lost), (0, 100));
    let error = closed.capture.error.expect("a reason");
    assert!(error.contains("No space left"), "{error}");
}

#[test]
fn a_file_that_does_not_close_is_given_up_and_its_writer_ends_for_nobody() {
    let folder = Folder::new("capture-late");
    let path = folder.0.join("call.capture");
    run(async move {
        let mut captures = captures();
        captures.record(now(0), relay(0), CALL, 0, path);
        assert!(captures.leave(now(0).mono, relay(0)));
        // The executor gets no turn, so the writer cannot finish.
        captures.sweep(now(4_999).mono);
        assert!(captures.poll_closed().is_none());
        captures.sweep(now(5_000).mono);
        let late = captures.poll_closed().expect("given up").capture;
        assert_eq!(late.error.as_deref(), Some("the file did not close in time"));
        assert_eq!(captures.open_count(), 0);
        let done = Rc::clone(&captures.done);
        let give_up_at = std::time::Instant::now() + DEADLINE;
        while done.borrow().is_empty() {
            assert!(std::time::Instant::now() < give_up_at, "the writer never ended");
            glommio::executor().yield_task_queue_now().await;
        }
        assert!(captures.poll_closed().is_none());
    });
}

#[test]
fn a_relay_that_is_not_recorded_loses_nothing_by_leaving() {
    let mut captures = captures();
    assert!(!captures.leave(now(0).mono, relay(9)));
    assert!(captures.poll_closed().is_none());
}
