//! How many records fit a question, remembered in proportion to what counting them took.
//! Owns:  the counts, and until when each is good enough.
//! Gives: `Totals`, one per database.
//! Never: a query; a clock.
//! Holds: counting takes at most one part in `WORTH` of the time, however often a question is asked; at most
//!        `KEPT_MAX` questions are remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A count is good for so many times as long as it took.
const WORTH: u32 = 60;
const KEPT_MAX: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    kept: Arc<Mutex<HashMap<String, Kept>>>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    total: u64,
    until: Instant,
}

impl Totals {
    pub(super) fn get(&self, question: &str, now: Instant) -> Option<u64> {
        let kept = self.locked();
        kept.get(question).filter(|kept| now < kept.until).map(|kept| kept.total)
    }

    pub(super) fn keep(&self, question: String, total: u64, took: Duration, now: Instant) {
        let mut kept = self.locked();
        kept.retain(|_, kept| now < kept.until);
        if kept.len() < KEPT_MAX {
            kept.insert(question, Kept { total, until: now + took * WORTH });
        }
    }

    /// Whoever panicked with it left a whole map.
    fn locked(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_count_is_remembered_in_proportion_to_what_it_took() {
        let (totals, start) = (Totals::default(), Instant::now());
        let at = |time: Duration| start + time;
        totals.keep("slow".to_owned(), 150_000, SECOND / 5, start);
        assert_eq!(totals.get("slow", at(SECOND)), Some(150_000));
        assert_eq!(totals.get("slow", at(11 * SECOND)), Some(150_000));
        assert_eq!(totals.get("slow", at(12 * SECOND)), None);
        assert_eq!(totals.get("other", at(SECOND)), None);
    }

    #[test]
    fn questions_that_are_remembered_are_bounded_and_old_ones_make_room() {
        let (totals, counted) = (Totals::default(), Instant::now());
        for number in 0..=KEPT_MAX as u64 {
            totals.keep(number.to_string(), number, SECOND, counted);
        }
        assert_eq!(totals.get("63", counted), Some(63));
        assert_eq!(totals.get("64", counted), None, "no room");
        let later = counted + 61 * SECOND;
        totals.keep("64".to_owned(), 64, SECOND, later);
        assert_eq!(totals.get("64", later), Some(64));
        assert_eq!(totals.get("63", later), None);
    }
}
