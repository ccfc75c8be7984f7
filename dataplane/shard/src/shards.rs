//! The control plane's handle on the data plane.
//! Owns:  the shards' threads and this end of their queues.
//! Gives: commands in, events out, one descriptor that is readable while events wait.
//! Never: blocks, except in `join`.
//! Holds: may be shared between threads; dropping it tells every shard to stop.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use shared::command::Command;
use shared::event::Event;
use shared::ids::ShardId;
use shared::net::Transport;

use crate::bell::Buzzer;
use crate::journal::Keeper;
use crate::keys::Keys;
use crate::link::Link;
use crate::sipflow::Writer;

#[derive(Debug)]
pub struct Shards {
    links: Vec<Arc<Link>>,
    threads: Vec<JoinHandle<Result<(), String>>>,
    buzzer: Arc<Buzzer>,
    listeners: Vec<(Transport, SocketAddr)>,
    /// They end by themselves after the last shard.
    keeper: Option<Keeper>,
    writer: Option<Writer>,
    /// What the newest TLS flows are made with. For callers alone: no shard takes this lock.
    keys: Mutex<Option<Arc<Keys>>>,
}

impl Shards {
    pub(crate) fn new(
        buzzer: Arc<Buzzer>,
        listeners: Vec<(Transport, SocketAddr)>,
        keeper: Keeper,
        writer: Option<Writer>,
        keys: Option<Arc<Keys>>,
    ) -> Self {
        let (keeper, keys) = (Some(keeper), Mutex::new(keys));
        Self { links: Vec::new(), threads: Vec::new(), buzzer, listeners, keeper, writer, keys }
    }

    pub(crate) fn add(&mut self, link: Arc<Link>, thread: JoinHandle<Result<(), String>>) {
        self.links.push(link);
        self.threads.push(thread);
    }

    /// The command comes back when the shard's queue is full or there is no such shard.
    pub fn send(&self, shard: ShardId, command: Command) -> Result<(), Command> {
        match self.links.get(usize::from(shard.0)) {
            Some(link) => link.send(command),
            None => Err(command),
        }
    }

    /// To every shard; returns how many could not take it.
    pub fn broadcast(&self, command: Command) -> usize {
        self.links.iter().filter(|link| link.send(command.clone()).is_err()).count()
    }

    /// New TLS flows are made with these keys within a second, or with the next snapshot; standing ones
    /// go on. Gives those from before.
    pub fn renew(&self, keys: &Arc<Keys>) -> Option<Arc<Keys>> {
        let mut known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        for link in &self.links {
            // Keys that nobody took yet are older.
            drop(link.keys.force_push(Arc::clone(keys)));
        }
        known.replace(Arc::clone(keys))
    }

    /// Appends at most `most` events to `out`, from each shard in turn; returns how many.
    pub fn take_events(&self, most: usize, out: &mut Vec<Event>) -> usize {
        let mut taken = 0;
        let mut dry = 0;
        for link in self.links.iter().cycle() {
            if taken == most || dry == self.links.len() {
                break;
            }
            match link.events.pop() {
                Some(event) => {
                    out.push(event);
                    taken += 1;
                    dry = 0;
                }
                None => dry += 1,
            }
        }
        taken
    }

    /// Readable while events may wait. Clear it, then take events until none is left. It is also
    /// made readable when a shard's thread ends.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.buzzer.as_fd()
    }

    pub fn clear_event_fd(&self) {
        self.buzzer.clear();
    }

    /// The addresses that the shards listen on, with the real port where the settings had port 0.
    pub fn listeners(&self) -> &[(Transport, SocketAddr)] {
        &self.listeners
    }

    pub fn count(&self) -> u8 {
        self.links.len() as u8
    }

    /// Shards whose thread has ended: after `Command::Stop`, or because it failed.
    pub fn ended(&self) -> impl Iterator<Item = ShardId> {
        let ended = |thread: &JoinHandle<_>| thread.is_finished();
        let threads = self.threads.iter().enumerate();
        threads.filter(move |(_, thread)| ended(thread)).map(|(shard, _)| ShardId(shard as u8))
    }

    /// Waits for every shard to end and tells how each did. Send `Command::Stop` first.
    pub fn join(mut self) -> Vec<(ShardId, Result<(), String>)> {
        let threads = std::mem::take(&mut self.threads).into_iter().enumerate();
        let mut ends: Vec<_> = threads
            .map(|(shard, thread)| {
                let outcome = thread.join().unwrap_or_else(|panic| Err(message_of(panic.as_ref())));
                (ShardId(shard as u8), outcome)
            })
            .collect();
        // It syncs what the shards wrote last.
        let kept = self.keeper.take().map_or(Ok(()), Keeper::join);
        let written = self.writer.take().map_or(Ok(()), Writer::join);
        for (of, kept) in [("journal", kept), ("SIP flow", written)] {
            if let (Err(reason), Some((_, outcome))) = (kept, ends.first_mut()) {
                *outcome = outcome.clone().and_then(|()| Err(format!("{of}: {reason}")));
            }
        }
        ends
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        // Nobody will read their events or send them anything. A full queue means that the shard
        // hangs, and then nothing that we send would help.
        self.broadcast(Command::Stop);
    }
}

/// What a panic said.
pub(crate) fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

// The control plane shares the handle between its tasks.
const fn shareable<T: Send + Sync>() {}
const _: () = shareable::<Shards>();
