//! When a registration is refreshed, and how long a failed one waits (RFC 3261 10.2.4, RFC 5626 4.5).
//! Owns:  the shares of a granted time, the steps of the back-off.
//! Gives: durations, from a random word that the caller drew.
//! Never: a clock.
//! Holds: a refresh is due before the time is over, with a transaction's time to spare where the time
//!        is long enough; no wait is longer than `WAIT_MAX`, and none shorter than `REFRESH_MIN`.

use std::time::Duration;

use crate::health::part;

/// RFC 5626 4.5: while no flow works at all.
const BASE: Duration = Duration::from_secs(30);
/// Of an answer that the same request gets again: a wrong password, an unknown account.
const REFUSED_BASE: Duration = Duration::from_secs(300);
const WAIT_MAX: Duration = Duration::from_secs(1_800);
/// An answer may ask for more than our own steps.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// A carrier that grants a second or two is not asked all day: between two refreshes it may have none.
const REFRESH_MIN: Duration = Duration::from_secs(5);
/// Timer F: how long the answer to a refresh may take (RFC 3261 17.1.2.2).
const TRANSACTION: Duration = Duration::from_secs(32);

/// From the answer on: at 75 to 90 of 100, so that registrations do not fall into step.
pub(super) fn refresh_after(granted: Duration, random: u64) -> Duration {
    let wait = granted * 3 / 4 + part(granted * 3 / 20, random);
    let wait = if granted >= 4 * TRANSACTION { wait.min(granted - TRANSACTION) } else { wait };
    wait.max(REFRESH_MIN)
}

/// What a failure means for the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Another try may well do: silence, overload, a server that is out of order.
    Passing(Option<Duration>),
    /// It was understood and refused.
    Refused,
}

impl Kind {
    pub(super) const fn of(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            408 | 480 | 500..=599 => Self::Passing(retry_after),
            _ => Self::Refused,
        }
    }

    /// After so many failures in a row: half of the step and more, up to the whole (RFC 5626 4.5).
    pub(super) fn wait(self, failures: u32, random: u64) -> Duration {
        let base = if self == Self::Refused { REFUSED_BASE } else { BASE };
        let doublings = failures.saturating_sub(1).min(10);
        let step = (base * (1 << doublings)).min(WAIT_MAX);
        let wait = step / 2 + part(step / 2, random);
        match self {
            Self::Passing(Some(asked)) => wait.max(asked.min(RETRY_AFTER_MAX)),
            Self::Passing(None) | Self::Refused => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_refresh_is_due_before_the_time_is_over() {
        for (granted, low, high) in [(10, 7, 9), (60, 45, 54), (128, 96, 96), (3_600, 2_700, 3_240)]
        {
            for random in [0, 1 << 63, u64::MAX] {
                let wait = refresh_after(granted * S, random);
                assert!(wait >= low * S && wait <= high * S, "{granted} s: {wait:?}");
            }
        }
    }

    #[test]
    fn a_carrier_that_grants_next_to_nothing_is_not_asked_all_day() {
        for granted in [1, 2, 5] {
            assert_eq!(refresh_after(granted * S, 0), REFRESH_MIN, "{granted} s");
        }
    }

    #[test]
    fn failures_wait_longer_and_longer_up_to_a_limit() {
        let waits = |kind: Kind| {
            let wait = |failures| kind.wait(failures, 0).as_secs();
            [1, 2, 3, 6, 7, 100].map(wait)
        };
        assert_eq!(waits(Kind::Passing(None)), [15, 30, 60, 480, 900, 900]);
        assert_eq!(waits(Kind::Refused), [150, 300, 600, 900, 900, 900]);
        assert_eq!(Kind::Passing(None).wait(100, u64::MAX).as_secs(), 1_799);
        assert_eq!(Kind::Passing(Some(120 * S)).wait(1, 0), 120 * S);
        assert_eq!(Kind::Passing(Some(86_400 * S)).wait(1, 0), RETRY_AFTER_MAX);
    }

    #[test]
    fn what_was_understood_and_refused_is_not_asked_again_soon() {
        for status in [400, 401, 403, 404, 407, 603] {
            assert_eq!(Kind::of(status, Some(S)), Kind::Refused, "{status}");
        }
        for status in [408, 480, 500, 503] {
            assert_eq!(Kind::of(status, None), Kind::Passing(None), "{status}");
        }
    }
}
