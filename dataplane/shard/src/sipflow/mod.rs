//! The SIP flow of one shard: a copy of every message of a call, chained to the call's last one.
//! Owns:  the block that is filled, the place of the next frame, each standing call's last frame.
//! Gives: `keep` per message, without a system call or an allocation; to call records their `Place`.
//! Never: waits for a disk, opens a file; that is the writer's, a thread beside the shards.
//! Holds: a frame has a place only when there is room for it: what is dropped leaves no hole, and the
//!        next frame of its call says so.

mod deck;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Thread;
use std::time::Duration;

use call::io::Rung;
use shared::event::Notice;
use shared::ids::CallId;
use shared::journal::Entry;
use shared::limits::{CALLS_PER_SHARD_MAX, SIP_MESSAGE_BYTES_MAX};
use shared::metrics::{Counter, Counters};
use shared::net::Destination;
use shared::settings::SipFlowSettings;
use shared::sipflow::{Frame, HEADER_BYTES, Place, Position, Segment, Stream, frame_len};
use shared::time::{Instant, Now};

use deck::{BLOCK_BYTES, BLOCKS_MAX, Block, Deck};
pub(crate) use writer::{Writer, open};

/// What a kill costs, and how long somebody who looks may have to wait for the newest message.
const FLUSH_WAIT: Duration = Duration::from_millis(250);
/// A segment goes on for this part of the time that messages are kept, so that none is kept much
/// longer than that.
const TTL_PARTS: u32 = 8;
const TURN_MIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct SipFlow {
    deck: Arc<Deck>,
    writer: Thread,
    block: Block,
    /// Since when the oldest frame of the block waits.
    since: Option<Instant>,
    /// Blocks that were ever made: with the deck, or here.
    blocks: usize,
    segment_bytes: u64,
    /// The segment ends then, however short it is. None before its first frame.
    turn_at: Option<Instant>,
    turn_after: Duration,
    /// By slot of the call.
    seats: Vec<Seat>,
    /// The disk has room.
    taking: bool,
}

/// What is known of the newest call in a slot.
#[derive(Clone, Copy, Debug, Default)]
struct Seat {
    call: CallId,
    generation: u32,
    last: Option<Position>,
    /// Messages that were dropped since.
    lost: u32,
    /// It has its record: what still comes is found by reading on from the place there.
    ended: bool,
}

/// One message, whose it is and which way it went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed<'p> {
    pub(crate) rung: Rung,
    /// It came; else we sent it.
    pub(crate) came: bool,
    pub(crate) way: Destination,
    pub(crate) bytes: &'p [u8],
}

impl SipFlow {
    fn new(stream: Stream, settings: &SipFlowSettings, deck: Arc<Deck>, writer: Thread) -> Self {
        let segment = Segment { stream, number: Segment::FIRST };
        Self {
            deck,
            writer,
            block: Block::at_start(segment, Vec::with_capacity(BLOCK_BYTES)),
            since: None,
            blocks: 1,
            segment_bytes: settings.segment_bytes,
            turn_at: None,
            turn_after: (settings.ttl / TTL_PARTS).max(TURN_MIN),
            // Pages that no call has reached cost nothing.
            seats: Vec::with_capacity(CALLS_PER_SHARD_MAX),
            taking: true,
        }
    }

    /// Whether the disk may be written to.
    pub(crate) const fn set_taking(&mut self, taking: bool) {
        self.taking = taking;
    }

    pub(crate) fn keep(&mut self, now: Now, passed: &Passed<'_>, counters: &mut Counters) {
        let Passed { rung, came, way, bytes } = *passed;
        let fits = self.taking && bytes.len() <= SIP_MESSAGE_BYTES_MAX;
        if !fits || !self.make_room(now.mono, frame_len(bytes.len())) {
            counters.bump(Counter::SipFlowDropped);
            if let Some(seat) = self.seat(rung) {
                seat.lost = seat.lost.saturating_add(1);
            }
            return;
        }
        let position = self.block.end();
        let (previous, lost) = self.seat(rung).map_or((None, 0), |seat| {
            (seat.last.replace(position), std::mem::take(&mut seat.lost))
        });
        let frame = Frame {
            at: now.wall,
            call: rung.call,
            side: rung.side,
            came,
            transport: way.transport,
            local: way.local,
            peer: way.peer,
            previous,
            lost,
            raw: bytes,
        };
        frame.write(self.block.segment, position.offset, &mut self.block.bytes);
        self.since.get_or_insert(now.mono);
        counters.bump(Counter::SipFlowMessages);
        counters.add(Counter::SipFlowBytes, frame_len(bytes.len()) as u64);
    }

    /// Puts into a call's record where its messages are found. An end is the last that this call
    /// hears of here.
    pub(crate) fn stamp(&mut self, entry: &mut Entry) {
        let (cdr, ends) = match entry {
            Entry::Beat => return,
            Entry::Start(cdr) => (cdr, false),
            Entry::End(cdr) => (cdr, true),
        };
        let stream = self.block.segment.stream;
        let Some(seat) = self.seats.get_mut(cdr.session_id.slot() as usize) else { return };
        if seat.call != cdr.session_id {
            return;
        }
        cdr.sip_flow = seat.last.map(|position| Place { stream, position });
        seat.ended |= ends;
    }

    /// When `hand_over_old` has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + FLUSH_WAIT)
    }

    /// Gives the writer what has waited long enough.
    pub(crate) fn hand_over_old(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) && !self.hand_over() {
            self.since = Some(now); // the writer is behind: asked again as if they had just come
        }
    }

    /// Gives the writer what there is: the shard ends.
    pub(crate) fn hand_over_all(&mut self) {
        if !self.hand_over() {
            self.deck.lost.store(true, Ordering::Release);
        }
    }

    /// The writer's next trouble, or the end of one.
    pub(crate) fn take_notice(&self, counters: &mut Counters) -> Option<Notice> {
        let trouble = self.deck.troubles.pop()?;
        counters.add(Counter::SipFlowFailures, u64::from(trouble.failed));
        Some(trouble.into_notice(self.block.segment.stream.shard))
    }

    /// The seat of a call that has no record yet. A late message of an earlier tenant has none.
    fn seat(&mut self, rung: Rung) -> Option<&mut Seat> {
        let slot = rung.call.slot() as usize;
        if slot >= self.seats.len() {
            self.seats.resize(slot + 1, Seat::default());
        }
        let seat = &mut self.seats[slot];
        if seat.call != rung.call {
            let later = rung.generation.wrapping_sub(seat.generation) <= u32::MAX / 2;
            if seat.call != CallId::default() && !later {
                return None;
            }
            let Rung { call, generation, .. } = rung;
            *seat = Seat { call, generation, ..Seat::default() };
        }
        (!seat.ended).then_some(seat)
    }

    /// Sees to it that a frame of this length can be appended to the block. `false`: the writer has
    /// every block.
    fn make_room(&mut self, now: Instant, length: usize) -> bool {
        let end = self.block.end().offset + length as u64;
        let turns = self.turn_at.is_some_and(|at| at <= now) || end > self.segment_bytes;
        if turns || self.block.bytes.len() + length > BLOCK_BYTES {
            if !self.hand_over() {
                return false;
            }
            if turns {
                let Segment { stream, number } = self.block.segment;
                self.block.segment = Segment { stream, number: number + 1 };
                self.block.offset = HEADER_BYTES as u64;
                self.turn_at = None;
            }
        }
        self.turn_at.get_or_insert(now + self.turn_after);
        true
    }

    fn hand_over(&mut self) -> bool {
        if self.block.bytes.is_empty() {
            return true;
        }
        let empty = match self.deck.empties.pop() {
            Some(empty) => empty,
            None if self.blocks < BLOCKS_MAX => {
                self.blocks += 1;
                Vec::with_capacity(BLOCK_BYTES)
            }
            None => return false,
        };
        let next =
            Block { segment: self.block.segment, offset: self.block.end().offset, bytes: empty };
        let full = std::mem::replace(&mut self.block, next);
        self.deck.full.push(full).expect("the queue has a place for every block");
        self.since = None;
        self.writer.unpark();
        true
    }
}

impl Drop for SipFlow {
    fn drop(&mut self) {
        self.deck.ended.store(true, Ordering::Release);
        self.writer.unpark();
    }
}

const _: () = assert!(BLOCK_BYTES >= shared::sipflow::FRAME_BYTES_MAX);
