//! What the core wants done, in order, with the buffers it is written into.
//! Owns:  the output queue, the pool of message buffers, the limits of lines per second.
//! Gives: `send`, `event`, `journal`, `relay`; buffers that come back through `recycle`.
//! Never: decides anything.
//! Holds: outputs leave in the order they were put in.

use std::collections::VecDeque;
use std::rc::Rc;

use media::edit::RelayEdit;
use shared::event::{Event, Notice, Severity};
use shared::ids::ShardId;
use shared::journal::Entry;
use shared::metrics::{Counter, Counters};
use shared::net::Destination;
use shared::time::Instant;

use crate::budget::Budget;
use crate::io::{MeshMessage, Output, Rung};

/// Buffers kept for reuse, and the size above which one is not worth keeping.
const POOL_MAX: usize = 1_024;
const POOLED_BYTES_MAX: usize = 4_096;
/// Room in a new buffer: most responses fit, and an INVITE grows it once. One that began with nothing
/// was moved six times before a message was whole; so much and twice so much are sizes that the
/// allocator has at hand.
const FRESH_BYTES: usize = 496;

#[derive(Debug)]
pub(crate) struct Outbox {
    shard: ShardId,
    queue: VecDeque<Output>,
    pool: Vec<Rc<Vec<u8>>>,
    pub counters: Counters,
    notices: Budget,
    security: Budget,
}

impl Outbox {
    pub(crate) fn new(shard: ShardId) -> Self {
        Self {
            shard,
            queue: VecDeque::new(),
            pool: Vec::new(),
            counters: Counters::default(),
            notices: Budget::new(),
            security: Budget::new(),
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    pub(crate) fn send(&mut self, to: Destination, bytes: Rc<Vec<u8>>, rung: Option<Rung>) {
        self.counters.bump(Counter::SipSent);
        match to.flow {
            // The flow lives on another shard, which has its socket.
            Some(flow) if flow.shard != self.shard => {
                let message = MeshMessage::Send { to, bytes: bytes.to_vec() };
                if let Some(rung) = rung {
                    self.push(Output::Keep { rung, came: false, way: to, bytes });
                }
                self.mesh(flow.shard, message);
            }
            _ => self.push(Output::Send { to, bytes, rung }),
        }
    }

    pub(crate) fn relay(&mut self, edit: RelayEdit) {
        self.push(Output::Relay(edit));
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    pub(crate) fn journal(&mut self, entry: Entry) {
        self.push(Output::Journal(entry));
    }

    pub(crate) fn mesh(&mut self, to: ShardId, message: MeshMessage) {
        self.counters.bump(Counter::MeshMoved);
        self.push(Output::Mesh { to, message });
    }

    /// An empty buffer, from the pool when it has one.
    pub(crate) fn buffer(&mut self) -> Rc<Vec<u8>> {
        let fresh = || Rc::new(Vec::with_capacity(FRESH_BYTES));
        let mut buffer = self.pool.pop().unwrap_or_else(fresh);
        match Rc::get_mut(&mut buffer) {
            Some(bytes) => bytes.clear(),
            None => buffer = fresh(),
        }
        buffer
    }

    /// Writes into a fresh buffer.
    pub(crate) fn write(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Rc<Vec<u8>> {
        let mut buffer = self.buffer();
        fill(Rc::get_mut(&mut buffer).expect("a fresh buffer has one owner"));
        buffer
    }

    /// Takes a buffer back when nobody else holds it any more.
    pub(crate) fn recycle(&mut self, buffer: Rc<Vec<u8>>) {
        let reusable = Rc::strong_count(&buffer) == 1 && buffer.capacity() <= POOLED_BYTES_MAX;
        if reusable && self.pool.len() < POOL_MAX {
            self.pool.push(buffer);
        }
    }

    /// Tells the operator, within the limit; `detail` is not even built beyond it.
    pub(crate) fn notice(
        &mut self,
        now: Instant,
        severity: Severity,
        code: &'static str,
        detail: impl FnOnce() -> String,
    ) {
        let Some(suppressed) = self.notices.take(now) else {
            return self.counters.bump(Counter::NoticesSuppressed);
        };
        let shard = self.shard;
        let notice = Notice { shard, severity, code, detail: detail(), suppressed };
        self.event(Event::Notice(notice));
    }

    /// A line of the security log, which has a limit of its own: a flood of other lines hides none of
    /// it, and a flood of it hides no other line.
    pub(crate) fn security(
        &mut self,
        now: Instant,
        code: &'static str,
        detail: impl FnOnce() -> String,
    ) {
        let Some(suppressed) = self.security.take(now) else {
            return self.counters.bump(Counter::SecuritySuppressed);
        };
        let (shard, severity) = (self.shard, Severity::Warning);
        let notice = Notice { shard, severity, code, detail: detail(), suppressed };
        self.event(Event::Notice(notice));
    }
}
