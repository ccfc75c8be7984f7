//! The shards' journals on their way into the database: one tailer per shard, one recovery at start.
//! Owns:  the tasks that read segments, and the end of a segment's life.
//! Gives: each record in the database once, with everything that follows from it, however often this
//!        process or the database fails in between.
//! Never: a record in memory that is not in a file; more than one batch of them at a time.
//! Holds: a segment is removed when no record in it is still needed: those of calls that have ended
//!        are stored, and the start of every standing call is in a newer one.

mod folder;
mod reader;
mod recovery;
mod sink;
mod tailer;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use shared::ids::ShardId;
use shared::journal::{Position, Stream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use sink::{Database, Sink};

use crate::board::Board;
use tailer::Desk;

/// How far a shard's journal is good, as its shard told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    pub position: Position,
    /// Calls that have ended since the start of the process.
    pub ends: u64,
    /// The shard writes no more, and this is all of it.
    whole: bool,
    over: Over,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Over {
    #[default]
    No,
    /// A shard may be stuck: what it told last is all that can be trusted.
    Stuck,
    /// Nobody writes any more.
    Stopped,
}

/// Where the pump leaves what shards tell of their journals.
#[derive(Clone, Debug)]
pub struct Taps(Arc<[watch::Sender<Reached>]>);

impl Taps {
    /// One per shard.
    pub fn new(shards: u8) -> Self {
        Self((0..shards).map(|_| watch::Sender::new(Reached::default())).collect())
    }

    /// The news of one shard.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn subscribe(&self, shard: ShardId) -> watch::Receiver<Reached> {
        self.0[usize::from(shard.0)].subscribe()
    }

    /// Never waits.
    pub fn reached(&self, shard: ShardId, position: Position, ends: u64) {
        if let Some(tap) = self.0.get(usize::from(shard.0)) {
            tap.send_modify(|reached| {
                reached.position = reached.position.max(position);
                reached.ends = reached.ends.max(ends);
            });
        }
    }

    /// What was reached is all that there will be.
    pub fn completed(&self, shard: ShardId) {
        if let Some(tap) = self.0.get(usize::from(shard.0)) {
            tap.send_modify(|reached| reached.whole = true);
        }
    }

    fn over(&self, over: Over) {
        for tap in self.0.iter() {
            tap.send_modify(|reached| reached.over = over);
        }
    }
}

/// What a journal is started with.
#[derive(Debug)]
pub struct Setup {
    pub sink: Arc<dyn Sink>,
    pub board: Arc<Board>,
    /// Where the segments are.
    pub folder: PathBuf,
    /// Of this start of the process; segments of others are recovered.
    pub run: u64,
    pub shards: u8,
}

/// The running tasks. They may be cut at any moment: what is stored and what is not is in the
/// database, and the next start goes on from there.
#[derive(Debug)]
pub struct Journal {
    tasks: JoinSet<()>,
    taps: Taps,
}

impl Journal {
    pub fn start(setup: Setup) -> (Self, Taps) {
        let Setup { sink, board, folder, run, shards } = setup;
        let desk = || Desk::new(Arc::clone(&sink), Arc::clone(&board), folder.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(watched(Arc::clone(&board), recovery::run(desk(), run)));
        let taps = Taps::new(shards);
        for shard in (0..shards).map(ShardId) {
            let stream = Stream { run, shard };
            let tailer = tailer::follow(desk(), stream, taps.subscribe(shard));
            tasks.spawn(watched(Arc::clone(&board), tailer));
        }
        (Self { tasks, taps: taps.clone() }, taps)
    }

    /// Waits until everything is stored. `stopped`: every shard has said its last word. What takes
    /// longer than `patience` stays in the segments, and the next start stores it.
    pub async fn finish(mut self, patience: Duration, stopped: bool) {
        self.taps.over(if stopped { Over::Stopped } else { Over::Stuck });
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a reader of the journal ended badly");
                }
            }
        };
        if timeout(patience, all).await.is_err() {
            tracing::warn!("call records stay in the journal; the next start stores them");
            self.tasks.shutdown().await;
        }
    }
}

/// A reader that panics leaves its records in the journal. From then on the gateway is not ready, so
/// that somebody restarts it.
async fn watched(board: Arc<Board>, reader: impl Future<Output = ()> + Send) {
    if AssertUnwindSafe(reader).catch_unwind().await.is_err() {
        board.counts.journals_failing.fetch_add(1, Ordering::Relaxed);
        tracing::error!("a reader of the journal failed; only a restart stores its call records");
    }
}
