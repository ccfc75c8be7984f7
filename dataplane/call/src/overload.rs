//! Overload: how long messages wait before they are read, and which requests are refused for it.
//! Owns:  how long the messages of this turn have waited, and since when waits are long.
//! Gives: `Load::chance` for a request that would open something; `Core::sheds`.
//! Never: a refusal of what belongs to a dialog or a transaction, of a CANCEL, of an emergency call.
//! Holds: one late turn refuses nobody: only waits that stay long do.

use std::time::Duration;

use shared::metrics::Counter;
use shared::net::Source;
use shared::time::Instant;
use sip::wire::{HeaderName, Message, Method};

use crate::core::Core;

/// A shard that keeps up reads a message within a few milliseconds. A call's set-up waits some four
/// times, so that waits of 100 ms leave its caller half a second.
const LONG: Duration = Duration::from_millis(20);
/// Waits have to be long for this long: a thread that did not get its CPU for a moment finds a
/// queue, and has worked it off in its next turn.
const LASTING: Duration = Duration::from_millis(100);
/// After a refusal that is not waited for again for a while.
const WARY: Duration = Duration::from_secs(5);
/// What was known of waits is worth nothing after so long.
const RECENT: Duration = Duration::from_secs(1);
/// What a refusal is drawn from.
const MILLE: u64 = 1_000;

/// How long a wait may be for a kind of request: none is refused below the first, all above the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience(Duration, Duration);

impl Patience {
    /// What was not begun: it costs us nothing yet.
    const NEW: Self = Self(LONG, Duration::from_millis(80));
    /// It was challenged and comes back: half of its cost was paid.
    const BEGUN: Self = Self(Duration::from_millis(40), Duration::from_millis(160));
    /// Phones that lose their registration cannot be called, and try again soon.
    const REGISTER: Self = Self(Duration::from_millis(60), Duration::from_millis(240));
}

#[derive(Debug, Default)]
pub(crate) struct Load {
    /// The turn at hand, and the longest that any of its messages has waited.
    at: Instant,
    wait: Duration,
    /// Since somebody asked.
    longest: Duration,
    long_since: Option<Instant>,
    refused_at: Option<Instant>,
}

impl Load {
    pub(crate) fn waited(&mut self, now: Instant, wait: Duration) {
        self.longest = self.longest.max(wait);
        if now == self.at {
            self.wait = self.wait.max(wait);
        } else {
            if self.wait < LONG {
                self.long_since = None;
            }
            (self.at, self.wait) = (now, wait);
        }
        if self.wait >= LONG {
            self.long_since.get_or_insert(now);
        }
    }

    /// When what is read in this turn came, as far as anybody knows.
    pub(crate) fn present_since(&self, now: Instant) -> Instant {
        let wait = if self.at == now { self.wait } else { Duration::ZERO };
        now.before(wait)
    }

    /// The longest wait since the last question.
    pub(crate) fn take_longest(&mut self) -> Duration {
        std::mem::take(&mut self.longest)
    }

    /// Of a thousand such requests, how many are to be refused now.
    pub(crate) fn chance(&self, now: Instant, Patience(none, all): Patience) -> u64 {
        let lasts = |since| now.since(since) >= LASTING;
        let wary = self.refused_at.is_some_and(|last| now.since(last) < WARY);
        let is_old = now.since(self.at) >= RECENT;
        if is_old || self.wait < none || !(wary || self.long_since.is_some_and(lasts)) {
            return 0;
        }
        let part = (self.wait - none).as_micros() * u128::from(MILLE) / (all - none).as_micros();
        u64::try_from(part).unwrap_or(MILLE).min(MILLE)
    }
}

impl Core {
    /// How long the next message has waited to be read; known to whoever reads it.
    pub fn waited(&mut self, now: Instant, wait: Duration) {
        self.desk.load.waited(now, wait);
    }

    /// Whether a request that belongs to nothing yet is refused because too much waits. To be asked
    /// before anything is made of it.
    pub(crate) fn sheds(&mut self, from: &Source, request: &Message<'_>) -> bool {
        let patience = match request.method() {
            Method::Cancel => return false,
            // A carrier that hears 503 to its OPTIONS takes all of its calls away.
            Method::Register | Method::Options => Patience::REGISTER,
            _ if request.first(HeaderName::ProxyAuthorization).is_some() => Patience::BEGUN,
            _ => Patience::NEW,
        };
        let now = self.desk.now.mono;
        let chance = self.desk.load.chance(now, patience);
        if chance == 0 || self.desk.mint.random() % MILLE >= chance {
            return false;
        }
        if request.method() == Method::Invite && self.dials_emergency(from, request) {
            return false;
        }
        self.desk.load.refused_at = Some(now);
        self.desk.count(Counter::OverloadShed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_millis(10_000);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_late_turn_refuses_nobody_and_lasting_waits_do() {
        let mut load = Load::default();
        load.waited(START, ms(500));
        assert_eq!(load.chance(START, Patience::NEW), 0, "the thread was held for a moment");
        load.waited(START + ms(1), ms(3));
        load.waited(START + ms(50), ms(90));
        assert_eq!(load.chance(START + ms(149), Patience::NEW), 0);
        assert_eq!(load.chance(START + ms(150), Patience::NEW), 1_000);
        assert_eq!(load.chance(START + ms(150), Patience::BEGUN), 416);
        assert_eq!(load.chance(START + ms(150), Patience::REGISTER), 166);
        load.waited(START + ms(151), ms(50));
        assert_eq!(load.chance(START + ms(151), Patience::NEW), 500);
        assert_eq!(load.take_longest(), ms(500));
        assert_eq!(load.take_longest(), ms(0));
    }

    #[test]
    fn who_has_refused_is_wary_for_a_while() {
        let mut load = Load { refused_at: Some(START), ..Load::default() };
        load.waited(START + ms(1_000), ms(80));
        assert_eq!(load.chance(START + ms(1_000), Patience::NEW), 1_000);
        load.waited(START + ms(5_500), ms(80));
        assert_eq!(load.chance(START + ms(5_500), Patience::NEW), 1_000, "it is long all the time");
        load.waited(START + ms(5_600), ms(1));
        load.waited(START + ms(5_700), ms(80));
        assert_eq!(load.chance(START + ms(5_700), Patience::NEW), 0);
    }
}
