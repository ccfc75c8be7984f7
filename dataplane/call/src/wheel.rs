//! The timer wheel of a shard: six levels of 64 slots, one tick per millisecond.
//! Owns:  every armed timer of the core, as a key; the owner of the key knows what it means.
//! Gives: O(1) arm and fire; `next` for the one real timer that the shell keeps.
//! Never: cancels. A key whose owner moved on is ignored when it fires, so timers are bounded by time.
//! Holds: a timer fires at its time rounded up to a tick, never before.

use shared::time::Instant;

const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 2^36 ms, some two years: later deadlines are cut to this.
const TICKS_MAX: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;

#[derive(Debug)]
pub(crate) struct Wheel<K> {
    elapsed: u64,
    levels: Vec<Level<K>>,
    /// Armed for a tick that has already passed; they fire at the next `fire`.
    overdue: Vec<K>,
    armed: usize,
}

#[derive(Debug)]
struct Level<K> {
    occupied: u64,
    slots: Vec<Vec<(u64, K)>>,
}

impl<K> Wheel<K> {
    pub(crate) fn new(now: Instant) -> Self {
        let level = || Level { occupied: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect() };
        Self {
            elapsed: now.as_millis(),
            levels: (0..LEVELS).map(|_| level()).collect(),
            overdue: Vec::new(),
            armed: 0,
        }
    }

    pub(crate) fn arm(&mut self, at: Instant, key: K) {
        self.armed += 1;
        self.place(at.as_nanos().div_ceil(1_000_000), key);
    }

    pub(crate) fn armed(&self) -> usize {
        self.armed
    }

    /// When `fire` has something to do next. May be early for a far timer, never late.
    pub(crate) fn next(&self) -> Option<Instant> {
        if !self.overdue.is_empty() {
            return Some(Instant::from_millis(self.elapsed));
        }
        self.next_slot().map(|(_, _, tick)| Instant::from_millis(tick))
    }

    /// Moves the wheel to `now` and appends the keys that are due, in order of their time.
    pub(crate) fn fire(&mut self, now: Instant, due: &mut Vec<K>) {
        let before = due.len();
        due.append(&mut self.overdue);
        let target = now.as_millis();
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > target {
                break;
            }
            self.elapsed = self.elapsed.max(tick);
            let mut entries = std::mem::take(&mut self.levels[level].slots[slot]);
            self.levels[level].occupied &= !(1 << slot);
            for (at, key) in entries.drain(..) {
                if at <= self.elapsed { due.push(key) } else { self.place(at, key) }
            }
            // The emptied vector keeps its capacity for the next round, unless the slot was refilled.
            if self.levels[level].slots[slot].is_empty() {
                self.levels[level].slots[slot] = entries;
            }
        }
        self.elapsed = self.elapsed.max(target);
        self.armed -= due.len() - before;
    }

    fn place(&mut self, tick: u64, key: K) {
        if tick <= self.elapsed {
            self.overdue.push(key);
            return;
        }
        let tick = tick.min(self.elapsed + TICKS_MAX / 2);
        let differing = (self.elapsed ^ tick) | (SLOTS as u64 - 1);
        let level = ((63 - differing.leading_zeros()) / SLOT_BITS) as usize;
        let level = level.min(LEVELS - 1);
        let slot = slot_of(tick, level);
        self.levels[level].occupied |= 1 << slot;
        self.levels[level].slots[slot].push((tick, key));
    }

    /// The occupied slot that comes first: level, slot, the tick at which it must be opened.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        self.levels.iter().enumerate().find_map(|(index, level)| {
            if level.occupied == 0 {
                return None;
            }
            let shift = SLOT_BITS * u32::try_from(index).expect("six levels");
            let current = slot_of(self.elapsed, index);
            let turn = u32::try_from(current).expect("64 slots");
            let ahead = level.occupied.rotate_right(turn).trailing_zeros() as usize;
            let slot = (current + ahead) % SLOTS;
            let level_span = 1_u64 << (shift + SLOT_BITS);
            let mut tick = (self.elapsed & !(level_span - 1)) + ((slot as u64) << shift);
            if tick <= self.elapsed && ahead != 0 {
                tick += level_span; // only the top level wraps round
            }
            Some((index, slot, tick))
        })
    }
}

fn slot_of(tick: u64, level: usize) -> usize {
    let shift = SLOT_BITS * u32::try_from(level).expect("six levels");
    usize::try_from((tick >> shift) & (SLOTS as u64 - 1)).expect("six bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every timer fires once, in the first millisecond that is not before its time, whatever the
    /// spread: checked against a sorted list.
    #[test]
    fn timers_fire_in_order_and_on_time() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let start = Instant::from_millis(123_456);
        let mut wheel = Wheel::new(start);
        let mut expected: Vec<(u64, usize)> = Vec::new();
        for key in 0..5_000 {
            let spread = [50, 5_000, 400_000, 90_000_000][key % 4];
            let at = start.as_nanos() + random() % (spread * 1_000_000);
            wheel.arm(Instant::from_nanos(at), key);
            expected.push((at.div_ceil(1_000_000), key));
        }
        expected.sort_unstable();
        let mut fired = Vec::new();
        let mut steps = 0;
        while let Some(next) = wheel.next() {
            let mut due = Vec::new();
            wheel.fire(next, &mut due);
            fired.extend(due.into_iter().map(|key| (next.as_millis(), key)));
            steps += 1;
            assert!(steps < 100_000, "the wheel spins");
        }
        fired.sort_unstable();
        assert_eq!(fired, expected);
        assert_eq!(wheel.armed(), 0);
    }

    #[test]
    fn a_late_turn_fires_everything_that_is_due_at_once() {
        let mut wheel = Wheel::new(Instant::ZERO);
        for ms in [1, 70, 5_000, 300_000] {
            wheel.arm(Instant::from_millis(ms), ms);
        }
        wheel.arm(Instant::ZERO, 0);
        let mut due = Vec::new();
        wheel.fire(Instant::from_millis(299_999), &mut due);
        due.sort_unstable();
        assert_eq!(due, [0, 1, 70, 5_000]);
        assert_eq!(wheel.next(), Some(Instant::from_millis(300_000)));
    }
}
