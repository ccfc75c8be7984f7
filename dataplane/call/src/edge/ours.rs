//! Where our phones and calls are, for the question whether a source is one of ours.
//! Owns:  the hashes of their addresses, and when they were gathered.
//! Gives: `has`; `is_old` says when to gather anew.
//! Never: looks at a phone or a call: to look at all of them for each forged packet would stop a shard.
//! Holds: gathering takes a small part of the time: the more there is, the longer it is used.

use std::time::Duration;

use rustc_hash::FxHashSet;
use shared::time::Instant;

const USED_MIN: Duration = Duration::from_secs(1);
/// Addresses that are gathered within a millisecond or two: so many for each second of use.
const PER_SECOND: u64 = 20_000;

#[derive(Debug, Default)]
pub(super) struct Ours {
    hashes: FxHashSet<u64>,
    /// How many were looked at.
    looked_at: u64,
    gathered_at: Option<Instant>,
}

impl Ours {
    pub(super) fn is_old(&self, now: Instant) -> bool {
        let used = Duration::from_millis(self.looked_at * 1_000 / PER_SECOND).max(USED_MIN);
        self.gathered_at.is_none_or(|at| now.since(at) >= used)
    }

    pub(super) fn renew(&mut self, now: Instant, all: impl Iterator<Item = u64>) {
        self.hashes.clear();
        self.looked_at = 0;
        for hash in all {
            self.looked_at += 1;
            self.hashes.insert(hash);
        }
        self.gathered_at = Some(now);
    }

    pub(super) fn has(&self, hash: u64) -> bool {
        self.hashes.contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_gathered_is_used_the_longer_the_more_it_is() {
        let start = Instant::from_millis(5_000);
        let mut ours = Ours::default();
        assert!(ours.is_old(start));
        ours.renew(start, [7, 7, 9].into_iter());
        assert!(ours.has(7) && ours.has(9) && !ours.has(8));
        assert!(!ours.is_old(start + Duration::from_millis(999)));
        assert!(ours.is_old(start + USED_MIN));
        ours.renew(start, (0..100_000).map(|number| number % 3));
        assert!(!ours.is_old(start + Duration::from_millis(4_999)) && !ours.has(7));
        assert!(ours.is_old(start + Duration::from_secs(5)));
    }
}
