//! What a shard and the writer of its SIP flow share.
//! Owns:  full blocks on their way to the writer, empty ones on their way back.
//! Gives: hand-overs that neither side waits for.
//! Never: a lock; more than `BLOCKS_MAX` blocks of one shard.
//! Holds: blocks arrive in the order in which they were filled.

use std::sync::atomic::AtomicBool;

use crossbeam::queue::ArrayQueue;
use shared::sipflow::{HEADER_BYTES, Position, Segment};

use crate::background::{self, Troubles};

/// Some 160 messages.
pub(super) const BLOCK_BYTES: usize = 128 * 1_024;
/// 4 MiB of a shard may wait for a slow disk: some five seconds of 50 calls a second.
pub(super) const BLOCKS_MAX: usize = 32;

/// Whole frames that stand one after the other in a segment.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) segment: Segment,
    /// Where the first of them stands.
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Deck {
    pub(super) full: ArrayQueue<Block>,
    pub(super) empties: ArrayQueue<Vec<u8>>,
    /// The shard is gone.
    pub(super) ended: AtomicBool,
    /// It could not hand its last block over.
    pub(super) lost: AtomicBool,
    pub(super) troubles: Troubles,
}

impl Block {
    pub(super) const fn at_start(segment: Segment, bytes: Vec<u8>) -> Self {
        Self { segment, offset: HEADER_BYTES as u64, bytes }
    }

    /// Where the next frame stands.
    pub(super) fn end(&self) -> Position {
        let offset = self.offset + self.bytes.len() as u64;
        Position { segment: self.segment.number, offset }
    }
}

impl Deck {
    pub(super) fn new() -> Self {
        Self {
            full: ArrayQueue::new(BLOCKS_MAX),
            empties: ArrayQueue::new(BLOCKS_MAX),
            ended: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            troubles: background::troubles(),
        }
    }
}
