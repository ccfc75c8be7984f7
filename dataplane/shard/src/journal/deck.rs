//! What a shard and the keeper of its journal share.
//! Owns:  the spare segments on their way to the shard, and the flags of both ends.
//! Gives: hand-overs that neither side waits for.
//! Never: a lock.
//! Holds: a segment is numbered and made by the keeper, written by the shard, synced by the keeper.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crossbeam::queue::ArrayQueue;
use shared::journal::Segment;

use crate::background::{self, Troubles};

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
            troubles: background::troubles(),
        }
    }
}
