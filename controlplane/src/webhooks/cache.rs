//! What somebody said a moment ago: a map whose entries run out, bounded, without a clock.
//! Owns:  two halves, the young one and the old one; when the young one is full the old one is dropped.
//! Gives: `find`, `put`.
//! Never: an entry past its time, however often it is asked for.
//! Holds: at most as many entries as it was made for; every operation costs the same.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub struct Cache<V> {
    young: HashMap<Box<str>, Entry<V>>,
    old: HashMap<Box<str>, Entry<V>>,
    half: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    until: Instant,
}

impl<V: Clone> Cache<V> {
    /// For so many entries, at least two.
    pub fn new(entries_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (entries_max / 2).max(1) }
    }

    pub fn find(&self, now: Instant, key: &str) -> Option<V> {
        let found = self.young.get(key).or_else(|| self.old.get(key));
        found.filter(|entry| now < entry.until).map(|entry| entry.value.clone())
    }

    /// Zero keeps nothing.
    pub fn put(&mut self, now: Instant, key: &str, value: V, keep: Duration) {
        if keep.is_zero() {
            return;
        }
        if self.young.len() >= self.half && !self.young.contains_key(key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.into(), Entry { value, until: now + keep });
    }

    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn an_entry_lives_exactly_as_long_as_it_was_told() {
        let start = Instant::now();
        let mut cache = Cache::new(10);
        cache.put(start, "a", 1, KEEP);
        cache.put(start, "never", 2, Duration::ZERO);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(cache.find(at(4_999), "a"), Some(1));
        assert_eq!(cache.find(at(5_000), "a"), None, "asking does not prolong it");
        assert_eq!(cache.find(start, "never"), None);
        cache.put(at(6_000), "a", 3, KEEP);
        assert_eq!(cache.find(at(10_000), "a"), Some(3), "the newer one counts");
    }

    #[tokio::test(start_paused = true)]
    async fn it_never_grows_past_its_bound_and_keeps_the_newest() {
        let now = Instant::now();
        let mut cache = Cache::new(100);
        for number in 0..10_000_u32 {
            cache.put(now, &number.to_string(), number, KEEP);
            assert!(cache.len() <= 100);
            for recent in number.saturating_sub(49)..=number {
                assert_eq!(cache.find(now, &recent.to_string()), Some(recent));
            }
        }
    }
}
