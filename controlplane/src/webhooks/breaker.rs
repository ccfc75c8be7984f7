//! A circuit breaker: whoever failed five times in a row is not waited for until a probe succeeds.
//! Owns:  the count of failures, the times of the probes.
//! Gives: `admit` before each question, `succeeded` or `failed` after it. No clock.
//! Never: lets a question wait for a probe: whoever gets `Probe` goes on without the answer.
//! Holds: while it is open there is one probe per wait; the waits double up to half a minute.

use std::time::Duration;

use tokio::time::Instant;

/// Straight failures that open it.
pub const FAILURES_MAX: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Pass,
    /// Nobody waits for the answer, but the question is put to find out whether there is one.
    Probe,
    Refused,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    probe_at: Instant,
    wait: Duration,
}

impl Breaker {
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub fn admit(&mut self, now: Instant) -> Admission {
        match &mut self.open {
            None => Admission::Pass,
            Some(open) if now < open.probe_at => Admission::Refused,
            Some(open) => {
                // The next one is due whatever becomes of this one, even if nobody ever says.
                open.wait = WAIT_MAX.min(2 * open.wait);
                open.probe_at = now + open.wait;
                Admission::Probe
            }
        }
    }

    /// Whether it was open.
    pub fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.open.take().is_some()
    }

    /// Whether that opened it.
    pub fn failed(&mut self, now: Instant) -> bool {
        if self.open.is_some() {
            return false; // a probe, or a question from before it opened
        }
        self.failures += 1;
        let opens = self.failures >= FAILURES_MAX;
        if opens {
            self.open = Some(Open { probe_at: now + FIRST_WAIT, wait: FIRST_WAIT });
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(breaker: &mut Breaker, now: Instant, times: u32) {
        for _ in 0..times {
            assert_eq!(breaker.admit(now), Admission::Pass);
            breaker.failed(now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn five_straight_failures_open_it_and_a_success_between_does_not() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        failing(&mut breaker, now, 4);
        assert!(!breaker.succeeded());
        failing(&mut breaker, now, 4);
        assert!(!breaker.is_open());
        assert!(breaker.failed(now), "the fifth opens it");
        assert_eq!(breaker.admit(now), Admission::Refused);
        assert!(!breaker.failed(now), "it is open already");
    }

    #[tokio::test(start_paused = true)]
    async fn probes_become_rare_and_one_success_closes_it() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        failing(&mut breaker, start, 5);
        let mut probes = Vec::new();
        for second in 0..130 {
            match breaker.admit(start + Duration::from_secs(second)) {
                Admission::Pass => panic!("it let a question through at {second} s"),
                Admission::Probe => probes.push(second),
                Admission::Refused => {}
            }
        }
        assert_eq!(probes, [1, 3, 7, 15, 31, 61, 91, 121]);
        assert!(breaker.succeeded());
        assert_eq!(breaker.admit(start), Admission::Pass);
        failing(&mut breaker, start, 5);
        let soon = start + Duration::from_secs(1);
        assert_eq!(breaker.admit(soon), Admission::Probe, "the waits begin anew");
    }
}
