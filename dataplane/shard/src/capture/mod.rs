//! Capture files: what recorded relays heard, appended by tasks of the executor.
//! Owns:  the open captures of the shard and which relay feeds which.
//! Gives: an append per packet, without I/O; `CaptureClosed` when a file is complete.
//! Never: stops or delays a call: a full disk loses packets, counts them and says why.
//! Holds: one file per call, closed when its last relay has gone.

mod feed;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::GlommioError;
use glommio::io::{BufferedFile, OpenOptions};
use rustc_hash::FxHashMap;
use shared::event::CaptureClosed;
use shared::ids::{CallId, RelayKey};
use shared::metrics::{Counter, Counters};
use shared::time::{Instant, Now};

use crate::bell::Bell;
pub(crate) use feed::Heard;
use feed::{Feed, Stock};

/// A file that is not closed by then is reported as it stands.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Tries of one chunk that a signal or a short write interrupted.
const TRIES_MAX: usize = 8;

type Shared = Rc<RefCell<Feed>>;
/// Calls whose writer has finished.
type Done = Rc<RefCell<VecDeque<CallId>>>;

#[derive(Debug)]
pub(crate) struct Captures {
    by_relay: FxHashMap<RelayKey, Line>,
    by_call: FxHashMap<CallId, Capture>,
    stock: Rc<Stock>,
    done: Done,
    bell: Arc<Bell>,
    closed: VecDeque<Closed>,
}

/// The call and the media line that a relay's packets are recorded under.
#[derive(Clone, Copy, Debug)]
struct Line {
    call: CallId,
    line: u8,
}

#[derive(Debug)]
struct Capture {
    path: PathBuf,
    feed: Shared,
    relays: usize,
    /// Set when the last relay went: who is waiting for the file.
    waits: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    relay: RelayKey,
    give_up_at: Instant,
}

/// A capture that nobody writes any more, and the relay whose report it belongs to.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) relay: RelayKey,
    pub(crate) capture: CaptureClosed,
}

impl Captures {
    pub(crate) fn new(bell: Arc<Bell>) -> Self {
        Self {
            by_relay: FxHashMap::default(),
            by_call: FxHashMap::default(),
            stock: Rc::default(),
            done: Done::default(),
            bell,
            closed: VecDeque::new(),
        }
    }

    /// From now on this relay's packets go to the call's file. To be called inside the executor.
    pub(crate) fn record(
        &mut self,
        now: Now,
        relay: RelayKey,
        call: CallId,
        line: u8,
        path: PathBuf,
    ) {
        if self.by_call.get(&call).is_some_and(|capture| capture.waits.is_some()) {
            return; // the file is being closed; a relay that comes after it is counted as lost
        }
        if self.by_relay.insert(relay, Line { call, line }).is_some() {
            return; // it was recorded already; the file is the same
        }
        let (stock, done, bell) = (&self.stock, &self.done, &self.bell);
        let capture = self.by_call.entry(call).or_insert_with(|| {
            let feed = Rc::new(RefCell::new(Feed::new(now, call, Rc::clone(stock))));
            let writer = write(call, path.clone(), Rc::clone(&feed));
            let (done, bell) = (Rc::clone(done), Arc::clone(bell));
            glommio::spawn_local(async move {
                writer.await;
                done.borrow_mut().push_back(call);
                bell.ring();
            })
            .detach();
            Capture { path, feed, relays: 0, waits: None }
        });
        capture.relays += 1;
    }

    /// Appends one packet of a recorded relay.
    pub(crate) fn append(&mut self, relay: RelayKey, heard: &Heard<'_>) {
        let Some(line) = self.by_relay.get(&relay) else { return self.stock.lose(1) };
        if let Some(capture) = self.by_call.get(&line.call) {
            capture.feed.borrow_mut().append(line.line, heard);
        }
    }

    /// Adds what became of packets since the last call.
    pub(crate) fn count(&self, counters: &mut Counters) {
        let (written, lost) = self.stock.take_packets();
        counters.add(Counter::CapturePackets, written);
        counters.add(Counter::CaptureLost, lost);
    }

    /// This relay is gone. `true`: it was the last of a recorded call, and its report must wait for
    /// `poll_closed`.
    pub(crate) fn leave(&mut self, now: Instant, relay: RelayKey) -> bool {
        let Some(Line { call, .. }) = self.by_relay.remove(&relay) else { return false };
        let Some(capture) = self.by_call.get_mut(&call) else { return false };
        capture.relays -= 1;
        if capture.relays > 0 {
            return false;
        }
        capture.waits = Some(Wait { relay, give_up_at: now + CLOSE_WAIT });
        capture.feed.borrow_mut().end();
        true
    }

    /// Hands old bytes to the writers and gives up on files that do not close. Called a few times a
    /// second.
    pub(crate) fn sweep(&mut self, now: Instant) {
        for capture in self.by_call.values() {
            capture.feed.borrow_mut().flush_old(now);
        }
        let late =
            |capture: &Capture| capture.waits.as_ref().is_some_and(|wait| now >= wait.give_up_at);
        let late: Vec<CallId> =
            self.by_call.iter().filter(|(_, c)| late(c)).map(|(call, _)| *call).collect();
        for call in late {
            self.close(call, Some("the file did not close in time"));
        }
    }

    /// Gives up on every file that is being closed: the shard leaves now.
    pub(crate) fn abandon(&mut self) {
        let waiting = self.by_call.iter().filter(|(_, capture)| capture.waits.is_some());
        for call in waiting.map(|(call, _)| *call).collect::<Vec<_>>() {
            self.close(call, Some("the shard stopped before the file closed"));
        }
    }

    pub(crate) fn poll_closed(&mut self) -> Option<Closed> {
        loop {
            if let Some(closed) = self.closed.pop_front() {
                return Some(closed);
            }
            let call = self.done.borrow_mut().pop_front()?;
            self.close(call, None);
        }
    }

    /// Captures that have a file open.
    pub(crate) fn open_count(&self) -> usize {
        self.by_call.len()
    }

    fn close(&mut self, call: CallId, late: Option<&str>) {
        // A writer whose call was given up on finishes for nobody.
        let Some(capture) = self.by_call.remove(&call) else { return };
        let Some(wait) = capture.waits else {
            unreachable!("a writer finishes after its last relay has left");
        };
        let tally = capture.feed.borrow().tally.clone();
        self.closed.push_back(Closed {
            relay: wait.relay,
            capture: CaptureClosed {
                call,
                path: capture.path,
                packets: tally.written,
                bytes: tally.bytes,
                lost: tally.lost,
                error: tally.error.or_else(|| late.map(str::to_owned)),
            },
        });
    }
}

/// The writing task of one call: chunk after chunk until the feed ends. Errors stay in the feed.
async fn write(call: CallId, path: PathBuf, feed: Shared) {
    let file = match open(&path).await {
        Ok(file) => Some(file),
        Err(error) => {
            feed.borrow_mut().failed(format!("cannot create the file: {error}"), 0);
            None
        }
    };
    let mut at = 0;
    loop {
        let chunk = std::future::poll_fn(|cx| feed.borrow_mut().poll_chunk(cx.waker())).await;
        let Some(chunk) = chunk else { break };
        let Some(file) = &file else {
            feed.borrow_mut().failed("there is no file".to_owned(), chunk.packets);
            continue;
        };
        let length = chunk.bytes.len();
        match write_all(file, chunk.bytes, at).await {
            Ok(()) => {
                at += length as u64;
                feed.borrow_mut().written(length, chunk.packets);
            }
            // The file now ends within a record, which its reader notices; nothing is appended.
            Err(error) => feed.borrow_mut().failed(error.to_string(), chunk.packets),
        }
    }
    if let Some(file) = file
        && let Err(error) = file.close().await
    {
        feed.borrow_mut().failed(format!("closing capture {call}: {error}"), 0);
    }
}

async fn open(path: &Path) -> Result<BufferedFile, GlommioError<()>> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600) // what people said is nobody else's
        .buffered_open(path)
        .await
}

async fn write_all(file: &BufferedFile, bytes: Vec<u8>, at: u64) -> io::Result<()> {
    let mut written = 0;
    for _ in 0..TRIES_MAX {
        // glommio keeps the buffer of a write, so what may have to be written again is a copy.
        match file.write_at(bytes[written..].to_vec(), at + written as u64).await {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) => {
                let error = io::Error::from(error);
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
        if written == bytes.len() {
            return Ok(());
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}
