//! The only chance in the world: a splitmix64 stream, so a seed is a whole run.
//! Owns:  `Random`.
//! Gives: numbers, choices, delays and words; a `fork` for every phone and link.
//! Never: the operating system's randomness.
//! Holds: the same seed and the same questions give the same answers on every machine.

use std::time::Duration;

/// Sebastiano Vigna's splitmix64: one add and three mixes, full period, good enough for dice.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A stream of its own, so that what one phone asks does not move another's dice.
    pub const fn fork(&mut self) -> Self {
        Self(self.bits())
    }

    /// `0..bound`; 0 when the bound is 0. The bias of the modulus does not matter here.
    pub const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.bits() % bound }
    }

    /// `low..=high`.
    pub const fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub const fn percent(&mut self, chance: u32) -> bool {
        self.below(100) < chance as u64
    }

    /// The same in units of 1/10 000.
    pub const fn permyriad(&mut self, chance: u32) -> bool {
        self.below(10_000) < chance as u64
    }

    pub const fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.range(low, high))
    }

    /// A delay with microseconds in it: two packets rarely share an instant.
    pub const fn delay(&mut self, low: Duration, high: Duration) -> Duration {
        let (low, high) = (low.as_micros() as u64, high.as_micros() as u64);
        Duration::from_micros(self.range(low, if high < low { low } else { high }))
    }

    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.index(from.len())]
    }

    /// Lower case letters and digits, for tags, branches and Call-IDs.
    pub fn word(&mut self, len: usize) -> String {
        const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        (0..len).map(|_| char::from(LETTERS[self.index(LETTERS.len())])).collect()
    }

    pub fn bytes32(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for part in out.chunks_exact_mut(8) {
            part.copy_from_slice(&self.bits().to_le_bytes());
        }
        out
    }
}

/// Spreads one number over 64 bits; also the hash that steers a source to a shard.
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream() {
        let (mut one, mut two) = (Random::new(7), Random::new(7));
        let (first, second): (Vec<u64>, Vec<u64>) =
            (0..64).map(|_| (one.bits(), two.bits())).unzip();
        assert_eq!(first, second);
        assert_ne!(first[0], Random::new(8).bits());
    }

    #[test]
    fn a_percentage_is_met_within_a_tenth() {
        let mut random = Random::new(1);
        let hits = (0..100_000).filter(|_| random.percent(10)).count();
        assert!((9_500..=10_500).contains(&hits), "{hits}");
    }

    #[test]
    fn a_range_reaches_both_ends_and_nothing_else() {
        let mut random = Random::new(3);
        let seen: std::collections::BTreeSet<u64> =
            (0..1_000).map(|_| random.range(2, 5)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
    }
}
