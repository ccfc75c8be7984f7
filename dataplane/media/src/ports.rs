//! Which RTP port a call gets: even ports of the shard's slice, in an order nobody can guess.
//! Owns:  the state of every pair: free, in use, or resting after a call.
//! Gives: an even port; RTCP takes the odd one above (RFC 3550 11).
//! Never: binds a port, allocates after `new`.
//! Holds: a pair is in exactly one state, and rests `limits::PORT_REST_MS` before it is free again,
//!        so that late packets of the old call reach nobody (RTP bleed).

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::time::Duration;

use shared::limits;
use shared::settings::PortSlice;
use shared::time::Instant;

const REST: Duration = Duration::from_millis(limits::PORT_REST_MS);
/// Rested pairs that one `take` sets free: more than one, so that the queue always shrinks.
const FREED_PER_TAKE: usize = 4;

#[derive(Clone, Debug)]
pub struct Ports {
    first: u16,
    /// Free pairs in no order.
    free: Vec<u16>,
    /// Pairs in the order of their return, and when that was.
    resting: VecDeque<(Instant, u16)>,
    /// Whether the pair at this index is in use.
    taken: Vec<bool>,
    in_use: usize,
    random: u64,
    draws: u64,
}

impl Ports {
    /// `random` is secret and differs per shard and start: ports must not be guessable.
    pub fn new(slice: PortSlice, random: u64) -> Self {
        let first = u32::from(slice.first).next_multiple_of(2);
        let end = u32::from(slice.last) + 1;
        let pairs = usize::try_from(end.saturating_sub(first) / 2).expect("at most 32 768 pairs");
        let port = |pair: usize| {
            u16::try_from(first as usize + 2 * pair).expect("a pair of the slice is a port")
        };
        Self {
            first: slice.first.saturating_add(slice.first % 2),
            free: (0..pairs).map(port).collect(),
            resting: VecDeque::with_capacity(pairs),
            taken: vec![false; pairs],
            in_use: 0,
            random,
            draws: 0,
        }
    }

    /// An even port, chosen at random among those that are free and rested; `None` when all are in
    /// use or resting.
    pub fn take(&mut self, now: Instant) -> Option<u16> {
        for _ in 0..FREED_PER_TAKE {
            match self.resting.front() {
                Some(&(since, port)) if now - since >= REST => {
                    self.resting.pop_front();
                    self.free.push(port);
                }
                _ => break,
            }
        }
        if self.free.is_empty() {
            return None;
        }
        let choice = self.draw(self.free.len());
        let port = self.free.swap_remove(choice);
        let pair = self.pair(port).expect("only ports of the slice are free");
        self.taken[pair] = true;
        self.in_use += 1;
        Some(port)
    }

    /// The call of this port ended; it rests now. A port that is not in use changes nothing.
    pub fn give_back(&mut self, now: Instant, port: u16) {
        let Some(pair) = self.pair(port) else { return };
        if !self.taken[pair] {
            return;
        }
        self.taken[pair] = false;
        self.in_use -= 1;
        // Time of one shard never runs backwards, so the queue stays sorted.
        self.resting.push_back((now, port));
    }

    pub const fn in_use(&self) -> usize {
        self.in_use
    }

    /// Pairs that may not be used yet.
    pub fn resting(&self, now: Instant) -> usize {
        let rested = self.resting.partition_point(|&(since, _)| now - since >= REST);
        self.resting.len() - rested
    }

    fn pair(&self, port: u16) -> Option<usize> {
        let offset = port.checked_sub(self.first)?;
        let pair = usize::from(offset / 2);
        (offset % 2 == 0 && pair < self.taken.len()).then_some(pair)
    }

    /// A number below `bound`. SipHash over a secret and a count: seen ports do not tell the next.
    fn draw(&mut self, bound: usize) -> usize {
        self.draws += 1;
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.random);
        hasher.write_u64(self.draws);
        let scaled = (u128::from(hasher.finish()) * bound as u128) >> 64;
        usize::try_from(scaled).expect("it is below `bound`")
    }
}
