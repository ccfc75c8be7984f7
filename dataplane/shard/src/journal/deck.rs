//! What a shard and the keeper of its journal share.
//! Owns:  the spare fronts on their way to the shard, and how far each end has come.
//! Gives: hand-overs that neither side waits for.
//! Never: a lock.
//! Holds: the shard writes a front, the keeper copies what is written to the disk; no file has two writers.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use shared::journal::{Position, Segment};

use crate::background::{self, Troubles};

/// Fronts made ahead. While the disk stalls or is full, they are what calls are still written to.
pub(super) const SPARES: usize = 3;

/// A front: the segment as the shard writes it, in memory, with its header.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) segment: Segment,
    pub(super) file: Arc<File>,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct Deck {
    pub(super) spares: ArrayQueue<Spare>,
    /// How far the fronts are good. Segments below are complete.
    pub(super) written: Mark,
    /// How far the disk has the same.
    pub(super) saved: Mark,
    /// The shard is gone.
    pub(super) ended: AtomicBool,
    pub(super) troubles: Troubles,
}

impl Deck {
    pub(super) fn new() -> Self {
        Self {
            // The first front is made before the shard takes any.
            spares: ArrayQueue::new(SPARES + 1),
            written: Mark::default(),
            saved: Mark::default(),
            ended: AtomicBool::new(false),
            troubles: background::troubles(),
        }
    }
}

/// A place in a journal that one thread moves and others read.
#[derive(Debug, Default)]
pub(super) struct Mark(AtomicU64);

/// A segment has at most 1 GiB (`dataplane.journal_segment_mb`).
const OFFSET_BITS: u32 = 31;

impl Mark {
    pub(super) fn set(&self, at: Position) {
        debug_assert!(at.offset >> OFFSET_BITS == 0);
        self.0.store(at.segment << OFFSET_BITS | at.offset, Ordering::Release);
    }

    pub(super) fn get(&self) -> Position {
        let packed = self.0.load(Ordering::Acquire);
        let offset = packed & ((1 << OFFSET_BITS) - 1);
        Position { segment: packed >> OFFSET_BITS, offset }
    }
}
