//! So much work within a millisecond, and the rest in the next: what is long does not hold up a turn.
//! Owns:  what was done since the step began, and whether its end is waited for.
//! Gives: `room`, `spend`, `wait`.
//! Never: a wheel; whoever is told to wait arms it.
//! Holds: no more than the bound within one step, however many inputs it has.

use std::time::Duration;

use shared::time::Instant;

const STEP: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Pace {
    most: usize,
    began: Instant,
    spent: usize,
    /// The wheel wakes whoever waits.
    waits_until: Option<Instant>,
}

impl Pace {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, began: Instant::ZERO, spent: 0, waits_until: None }
    }

    /// How much may still be done in this step.
    pub(super) fn room(&mut self, now: Instant) -> usize {
        if now.since(self.began) >= STEP {
            (self.began, self.spent) = (now, 0);
        }
        self.most - self.spent
    }

    pub(super) fn spend(&mut self, done: usize) {
        self.spent = (self.spent + done).min(self.most);
    }

    /// When it goes on; `None` where somebody is to be woken then already.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Instant> {
        if self.waits_until.is_some_and(|until| until > now) {
            return None;
        }
        self.waits_until = Some(now + STEP);
        self.waits_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_its_bound_and_one_wake_up() {
        let (start, mut pace) = (Instant::from_millis(7), Pace::new(3));
        assert_eq!(pace.room(start), 3);
        pace.spend(2);
        assert_eq!(pace.room(start), 1);
        pace.spend(1);
        assert_eq!(pace.room(start), 0);
        assert_eq!(pace.wait(start), Some(start + STEP));
        assert_eq!(pace.wait(start), None, "it is armed");
        assert_eq!(pace.room(start + STEP), 3);
        pace.spend(3);
        assert_eq!(pace.wait(start + STEP), Some(start + 2 * STEP));
    }
}
