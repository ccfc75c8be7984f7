//! What stands: the state and the numbers of every shard, and of the control plane's own queues.
//! Owns:  one `ShardState` per shard and the process-wide counts.
//! Gives: copies to health, metrics and readiness; a signal when a shard's state changes.
//! Never: keeps history.
//! Holds: a shard goes through its stages in order and never back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::ids::ShardId;
use shared::metrics::Counters;
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Starting,
    Serving,
    Drained,
    Stopped,
}

impl Stage {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Drained => "drained",
            Self::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Debug)]
pub struct ShardState {
    pub cpu: usize,
    pub stage: Stage,
    /// Generation of the snapshot that it serves.
    pub generation: u64,
    pub counters: Counters,
    /// When the counters came; a shard sends them once a second.
    pub counters_at: Option<Instant>,
}

/// Generation of the snapshot that shards are started with.
pub const FIRST_GENERATION: u64 = 1;
/// Counters come once a second; a shard that missed several is in trouble.
const SILENT_AFTER: Duration = Duration::from_secs(5);

impl ShardState {
    /// It runs, but has not been heard of for too long.
    pub fn is_silent(&self) -> bool {
        self.stage < Stage::Stopped
            && self.counters_at.is_some_and(|at| at.elapsed() > SILENT_AFTER)
    }
}

#[derive(Debug)]
pub struct Board {
    started: Instant,
    shards: Mutex<Vec<ShardState>>,
    /// Grows with every change of a stage or generation.
    changes: watch::Sender<u64>,
    pub counts: Counts,
}

/// Counts of the control plane.
#[derive(Debug, Default)]
pub struct Counts {
    pub cdrs_stored: AtomicU64,
    /// Batches that the database did not take at the first try.
    pub cdr_failures: AtomicU64,
    /// Call records that are not in the database yet.
    pub cdr_backlog: AtomicU64,
    /// Pieces of the journal that could not be read, and records that the database refused.
    pub journal_damaged: AtomicU64,
    /// Readers of the journal whose last try failed.
    pub journals_failing: AtomicU64,
    pub recordings_ready: AtomicU64,
    /// Captures that did not become a recording.
    pub recordings_failed: AtomicU64,
    /// Captures that wait or are being worked on.
    pub recordings_backlog: AtomicU64,
    pub logins: AtomicU64,
    pub login_failures: AtomicU64,
    /// Logins that were not tried, because there were too many before.
    pub logins_throttled: AtomicU64,
    /// Requests that were refused for who sent them.
    pub requests_denied: AtomicU64,
    /// Recordings that left the disk because of their age or number.
    pub recordings_expired: AtomicU64,
    /// Uploads that were stored and verified since the start.
    pub uploads_done: AtomicU64,
    /// Tries that failed; each is made again.
    pub upload_failures: AtomicU64,
    /// Uploads that wait, tried or not.
    pub uploads_backlog: AtomicU64,
    /// How long the oldest of them has waited, in s.
    pub uploads_oldest: AtomicU64,
    /// Uploads whose file is gone.
    pub uploads_lost: AtomicU64,
    pub disk_used_percent: AtomicU64,
    /// `disk::Level` as a number.
    pub disk_level: AtomicU64,
    /// Questions to the HTTP router, those without a decision, and whether it is waited for (0) or not.
    pub route_requests: AtomicU64,
    pub route_failures: AtomicU64,
    pub router_open: AtomicU64,
    /// Exchanges with it that could not be stored.
    pub exchanges_lost: AtomicU64,
    /// Questions to user backends, those without an answer, and those that a cache answered.
    pub user_requests: AtomicU64,
    pub user_failures: AtomicU64,
    pub user_cache_hits: AtomicU64,
    /// User backends that are not waited for.
    pub users_open: AtomicU64,
    pub draining: std::sync::atomic::AtomicBool,
    /// Generation of the newest snapshot.
    pub published: AtomicU64,
}

impl Board {
    /// One shard per CPU.
    pub fn new(cpus: &[usize]) -> Self {
        let state = |cpu: &usize| ShardState {
            cpu: *cpu,
            stage: Stage::Starting,
            generation: 0,
            counters: Counters::default(),
            counters_at: None,
        };
        Self {
            started: Instant::now(),
            shards: Mutex::new(cpus.iter().map(state).collect()),
            changes: watch::Sender::new(0),
            counts: Counts::default(),
        }
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn shards(&self) -> Vec<ShardState> {
        self.lock().clone()
    }

    /// All shards' numbers in one.
    pub fn totals(&self) -> Counters {
        let mut totals = Counters::default();
        for shard in self.lock().iter() {
            totals.merge(&shard.counters);
        }
        totals
    }

    /// A shard is up and serves the snapshot that it was started with.
    pub fn started(&self, shard: ShardId) {
        self.live(shard, FIRST_GENERATION);
        self.reached(shard, Stage::Serving);
    }

    pub fn reached(&self, shard: ShardId, stage: Stage) {
        self.change(shard, |state| state.stage = state.stage.max(stage));
    }

    pub fn live(&self, shard: ShardId, generation: u64) {
        self.change(shard, |state| state.generation = state.generation.max(generation));
    }

    pub fn counted(&self, shard: ShardId, counters: Counters) {
        if let Some(state) = self.lock().get_mut(usize::from(shard.0)) {
            state.counters = counters;
            state.counters_at = Some(Instant::now());
        }
    }

    pub fn every(&self, fits: impl Fn(&ShardState) -> bool) -> bool {
        self.lock().iter().all(fits)
    }

    /// Waits until `fits` says so of every shard.
    pub async fn all(&self, fits: impl Fn(&ShardState) -> bool) {
        let mut changes = self.changes.subscribe();
        loop {
            if self.every(&fits) {
                return;
            }
            // The sender lives in `self`, so the wait ends by a change only.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn change(&self, shard: ShardId, apply: impl FnOnce(&mut ShardState)) {
        if let Some(state) = self.lock().get_mut(usize::from(shard.0)) {
            apply(state);
        }
        self.changes.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ShardState>> {
        // Every state is whole between any two statements that hold the lock.
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    pub fn of(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }
}
