//! Which of a rule's trunks is tried first, and in what order the others follow.
//! Owns:  round robin, weighted, random, hash, as written.
//! Gives: an order of places; the caller passes over trunks that cannot take the call.
//! Never: state; the turn and the random number come in.
//! Holds: every trunk of the rule is in the order once.

use shared::route::Select;

/// What a choice hangs on beside the rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw<'d> {
    /// Calls that the rule sent on before.
    pub turn: u32,
    pub random: u64,
    /// The value that `hash` goes by.
    pub key: &'d [u8],
}

/// Places of `weights` in the order in which they are to be tried.
pub(crate) fn order(select: &Select, weights: &[u32], draw: Draw<'_>) -> Vec<usize> {
    let count = weights.len();
    if count < 2 {
        return (0..count).collect();
    }
    let first = match select {
        Select::Sequential => 0,
        Select::RoundRobin => draw.turn as usize % count,
        Select::Random => spread(draw.random, count as u64),
        Select::Hash(_) => spread(hash(draw.key), count as u64),
        Select::Weighted => weighted(weights, draw.random),
    };
    (first..count).chain(0..first).collect()
}

/// A place by its share. One of weight 0 is taken only when no other has a weight.
pub(crate) fn weighted(weights: &[u32], random: u64) -> usize {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if total == 0 {
        return spread(random, weights.len() as u64);
    }
    let mut point = spread(random, total) as u64;
    weights
        .iter()
        .position(|weight| {
            let hit = point < u64::from(*weight);
            point = point.saturating_sub(u64::from(*weight));
            hit
        })
        .unwrap_or(0)
}

/// A place out of `count` (below 2^32), by the high bits: the low ones of a hash are weak.
fn spread(random: u64, count: u64) -> usize {
    ((u128::from(random) * u128::from(count)) >> 64) as usize
}

/// FNV-1a with its halves mixed: the same on every shard and every start, so that one key goes one
/// way.
fn hash(key: &[u8]) -> u64 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::route::HashKey;

    const EQUAL: [u32; 3] = [100, 100, 100];

    fn draw(turn: u32, random: u64, key: &[u8]) -> Draw<'_> {
        Draw { turn, random, key }
    }

    #[test]
    fn round_robin_takes_turns_and_every_trunk_follows() {
        let orders: Vec<_> =
            (0..4).map(|turn| order(&Select::RoundRobin, &EQUAL, draw(turn, 0, b""))).collect();
        assert_eq!(orders, [vec![0, 1, 2], vec![1, 2, 0], vec![2, 0, 1], vec![0, 1, 2]]);
        assert_eq!(order(&Select::Sequential, &EQUAL, draw(7, 9, b"x")), [0, 1, 2]);
        assert_eq!(order(&Select::Random, &[], draw(0, 0, b"")), [0_usize; 0]);
    }

    #[test]
    fn weights_split_calls_within_three_points() {
        let mut hits = [0_u32; 3];
        for call in 0..10_000_u64 {
            let random = call.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hits[order(&Select::Weighted, &[60, 30, 10], draw(0, random, b""))[0]] += 1;
        }
        for (hits, share) in hits.into_iter().zip([6_000, 3_000, 1_000]) {
            assert!(hits.abs_diff(share) < 300, "{hits} of {share}");
        }
        for random in [0, u64::MAX / 2, u64::MAX] {
            let order = order(&Select::Weighted, &[0, 100], draw(0, random, b""));
            assert_eq!(order, [1, 0], "weight 0 comes last");
        }
        assert_eq!(order(&Select::Weighted, &[0, 0], draw(0, u64::MAX, b"")), [1, 0]);
    }

    /// The original hashes a constant for `call-id`, so that all calls take one trunk.
    #[test]
    fn hash_spreads_keys_and_keeps_each_on_its_way() {
        let select = Select::Hash(HashKey::CallId);
        let mut hits = [0_u32; 3];
        for call in 0..9_000 {
            let key = format!("{call}@phone.example");
            let place = order(&select, &EQUAL, draw(call, u64::from(call), key.as_bytes()))[0];
            assert_eq!(place, order(&select, &EQUAL, draw(0, 0, key.as_bytes()))[0]);
            hits[place] += 1;
        }
        assert!(hits.iter().all(|hits| hits.abs_diff(3_000) < 300), "{hits:?}");
    }
}
