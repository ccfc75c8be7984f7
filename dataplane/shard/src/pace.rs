//! How the shard waits: woken by each event while it is quiet, on a 1 ms tick while media flows.
//! Owns:  the rate at which one changes to the other.
//! Gives: `Pace`, fed with counts and the time, asked for the current mode.
//! Never: a clock, a timer, a sleep.
//! Holds: between two changes of mode lies at least one window.

use std::time::Duration;

use shared::time::Instant;

/// A tick while media flows: it adds 0.5 ms to a packet on average and wakes the shard 1000 times a
/// second instead of once per packet.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Rates are taken over this long.
const WINDOW: Duration = Duration::from_millis(100);
/// Completions in one window above which ticking is cheaper. Measured on one core of a VM: a wake-up
/// by an event costs 70 us beside its work, a tick 26 us, so they meet at some 370 events a second.
const TICK_FROM: u32 = 40;
/// And below which it is not, with room between so that a steady rate does not flap.
const EVENT_BELOW: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The kernel rings the bell for every batch.
    Event,
    /// The bell is off for completions; the shard looks every `TICK`.
    Tick,
}

#[derive(Debug)]
pub(crate) struct Pace {
    mode: Mode,
    window_ends: Instant,
    seen: u32,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { mode: Mode::Event, window_ends: now + WINDOW, seen: 0 }
    }

    pub(crate) const fn mode(&self) -> Mode {
        self.mode
    }

    /// One turn handled `completions`.
    pub(crate) fn observe(&mut self, now: Instant, completions: u32) {
        self.seen = self.seen.saturating_add(completions);
        // Up at once: a burst must not cost a wake-up per packet until the window ends.
        if self.seen >= TICK_FROM {
            self.mode = Mode::Tick;
        }
        if now < self.window_ends {
            return;
        }
        // Turns may be further apart than a window: then this one count stands for all of it.
        if now.since(self.window_ends) >= WINDOW || self.seen < EVENT_BELOW {
            self.mode = Mode::Event;
        }
        self.seen = 0;
        self.window_ends = now + WINDOW;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `per_second` completions a second in turns of 1 ms and returns the mode after each.
    fn feed(pace: &mut Pace, from_ms: u64, for_ms: u64, per_second: u64) -> Vec<Mode> {
        let mut sent = 0;
        (1..=for_ms)
            .map(|ms| {
                let due = ms * per_second / 1_000;
                pace.observe(Instant::from_millis(from_ms + ms), (due - sent) as u32);
                sent = due;
                pace.mode()
            })
            .collect()
    }

    #[test]
    fn a_quiet_shard_waits_for_events() {
        let mut pace = Pace::new(Instant::ZERO);
        assert!(feed(&mut pace, 0, 2_000, 390).iter().all(|mode| *mode == Mode::Event));
    }

    #[test]
    fn media_of_ten_calls_ticks_within_one_window() {
        let mut pace = Pace::new(Instant::ZERO);
        let modes = feed(&mut pace, 0, 300, 1_000);
        assert!(modes[100..].iter().all(|mode| *mode == Mode::Tick));
    }

    #[test]
    fn a_burst_ticks_at_once() {
        let mut pace = Pace::new(Instant::ZERO);
        pace.observe(Instant::from_millis(1), 500);
        assert_eq!(pace.mode(), Mode::Tick);
    }

    #[test]
    fn the_tick_ends_within_two_windows_of_silence() {
        let mut pace = Pace::new(Instant::ZERO);
        feed(&mut pace, 0, 500, 50_000);
        let modes = feed(&mut pace, 500, 300, 0);
        assert_eq!(modes[0], Mode::Tick);
        assert!(modes[200..].iter().all(|mode| *mode == Mode::Event));
    }

    #[test]
    fn a_rate_between_the_two_bounds_does_not_flap() {
        for start in [Mode::Event, Mode::Tick] {
            let mut pace = Pace::new(Instant::ZERO);
            pace.mode = start;
            let modes = feed(&mut pace, 0, 2_000, 300);
            assert!(modes.iter().all(|mode| *mode == start), "{start:?}");
        }
    }

    #[test]
    fn rare_turns_are_not_a_high_rate() {
        let mut pace = Pace::new(Instant::ZERO);
        for second in 1..20 {
            pace.observe(Instant::from_millis(second * 1_000), 60);
            assert_eq!(pace.mode(), Mode::Event);
        }
    }
}
