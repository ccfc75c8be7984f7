//! What a shard and the keeper of its journal share.
//! Owns:  the spare segments on their way to the shard, and the flags of both ends.
//! Gives: hand-overs that neither side waits for.
//! Never: a lock.
//! Holds: a segment is numbered and made by the keeper, written by the shard, synced by the keeper.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use shared::journal::Segment;

use crate::background::{self, Troubles};

/// A write goes into the cache and is over in microseconds; on a busy CPU its thread may have to wait.
const WRITE_WAIT: Duration = Duration::from_micros(50);
const WRITE_WAITS_MAX: usize = 2_000;

/// Segments made ahead. On a full disk they are what calls are still written to.
pub(super) const SPARES: usize = 1;

/// A segment with its header and room for frames, all of it allocated.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) segment: Segment,
    pub(super) file: Arc<File>,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Deck {
    pub(super) spares: ArrayQueue<Spare>,
    /// Number of the segment that is written; those below it are complete.
    pub(super) writing: AtomicU64,
    /// Something was written since the last sync.
    pub(super) dirty: AtomicBool,
    /// The shard is gone.
    pub(super) ended: AtomicBool,
    /// The keeper is in a sync, the shard in a write.
    syncing: AtomicBool,
    writing_now: AtomicBool,
    pub(super) troubles: Troubles,
}

impl Deck {
    pub(super) fn new() -> Self {
        Self {
            // The first segment is made before the shard takes any.
            spares: ArrayQueue::new(SPARES + 1),
            writing: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            syncing: AtomicBool::new(false),
            writing_now: AtomicBool::new(false),
            troubles: background::troubles(),
        }
    }

    /// The shard begins to write. `true`: a sync is under way, and pages that it may be writing back
    /// would hold the shard up until the disk has them.
    pub(super) fn begin_write(&self) -> bool {
        self.writing_now.store(true, Ordering::SeqCst);
        self.syncing.load(Ordering::SeqCst)
    }

    pub(super) fn end_write(&self) {
        self.writing_now.store(false, Ordering::SeqCst);
    }

    /// The keeper begins a sync: later writes see it, and one that did not is over when this returns.
    pub(super) fn begin_sync(&self) {
        self.syncing.store(true, Ordering::SeqCst);
        for _ in 0..WRITE_WAITS_MAX {
            if !self.writing_now.load(Ordering::SeqCst) {
                break;
            }
            thread::sleep(WRITE_WAIT);
        }
    }

    pub(super) fn end_sync(&self) {
        self.syncing.store(false, Ordering::SeqCst);
    }
}
