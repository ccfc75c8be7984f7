//! The base intervals that every transaction timer is made of (RFC 3261 17.1.1.1, table 4).
//! Owns:  T1, T2, T4 and the spans that are derived from them.
//! Gives: spans by meaning; the RFC's letters stand in the comments.
//! Never: a deadline; the machines add the spans to the instants they are given.
//! Holds: with `RFC3261` no span is shorter than the RFC demands.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Estimate of the round-trip time.
    pub t1: Duration,
    /// Longest wait between repeats of a non-INVITE request or of a final response to an INVITE.
    pub t2: Duration,
    /// How long a message may stay in the network.
    pub t4: Duration,
}

impl Timers {
    /// The defaults of RFC 3261 17.1.1.1 and 17.1.2.2.
    pub const RFC3261: Self = Self {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
    };

    /// How long a machine tries or lingers: Timers B, F, H, J of RFC 3261, L and M of RFC 6026.
    pub(crate) const fn give_up_after(self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// Timer D: at least 32 s, and as long as the server's Timer H (RFC 3261 17.1.1.2).
    pub(crate) fn absorb_finals_for(self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.give_up_after().max(Duration::from_secs(32)) }
    }

    /// Timers I and K: late repeats of a message that has been answered.
    pub(crate) const fn absorb_repeats_for(self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.t4 }
    }

    /// Timer J: repeats of a request that has its final response (RFC 3261 17.2.2).
    pub(crate) const fn absorb_requests_for(self, reliable: bool) -> Duration {
        if reliable { Duration::ZERO } else { self.give_up_after() }
    }

    /// The next wait of Timers E and G: twice the last one, at most T2.
    pub(crate) fn next_wait(self, last: Duration) -> Duration {
        self.t2.min(last.saturating_mul(2))
    }
}
