//! How many lines a second may be written of one kind.
//! Owns:  the count of this second, and how many lines were left out since the last one.
//! Gives: `take`: whether one more fits, and how many came before it and did not.
//! Never: builds a line.
//! Holds: what is left out is told with the next line that fits.

use std::time::Duration;

use shared::time::Instant;

/// Lines per second and shard.
const PER_SECOND: u32 = 50;

#[derive(Debug)]
pub(crate) struct Budget {
    window: Instant,
    spent: u32,
    left_out: u32,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self { window: Instant::ZERO, spent: 0, left_out: 0 }
    }

    /// With how many lines were left out before this one; `None`: so is this one.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u32> {
        if now.since(self.window) >= Duration::from_secs(1) {
            (self.window, self.spent) = (now, 0);
        }
        if self.spent >= PER_SECOND {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.spent += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_fifty_lines_and_the_next_tells_how_many_were_left_out() {
        let (start, mut budget) = (Instant::from_millis(5_000), Budget::new());
        let told = (0..80).filter(|_| budget.take(start).is_some()).count();
        assert_eq!(told, 50);
        assert_eq!(budget.take(start + Duration::from_millis(999)), None);
        assert_eq!(budget.take(start + Duration::from_secs(1)), Some(31));
        assert_eq!(budget.take(start + Duration::from_secs(1)), Some(0));
    }
}
