//! Overload: how long messages wait before they are read, how full the table of transactions is, and
//! which requests are refused for it.
//! Owns:  how long the messages of this turn have waited, and since when waits are long.
//! Gives: `Load::chance` for a request that would open something; `Core::sheds`, `refuses_at_sight`.
//! Never: a refusal of what belongs to a dialog or a transaction, of a CANCEL, of an emergency call.
//! Holds: one late turn refuses nobody: only waits that stay long do. While nothing presses, an INVITE
//!        costs three comparisons here. A refused one is answered at once: one that is dropped comes
//!        back, and costs more than its answer.

use std::time::Duration;

use shared::limits::TRANSACTIONS_PER_SHARD_MAX;
use shared::metrics::Counter;
use shared::net::Source;
use shared::time::Instant;
use sip::wire::{HeaderName, Message, Method};

use crate::core::Core;
use crate::{gate, mint, steer};

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

/// What a call leaves behind lingers for 32 s (Timers J, L and M). From here on new calls give way, the
/// more the fuller the table is, so that as many are taken as go: a table that is simply full would
/// take none for half a minute, and then all.
const CROWDED: usize = TRANSACTIONS_PER_SHARD_MAX / 16 * 15;
/// Room for what standing calls still have to say.
const KEPT_FREE: usize = 2_048;
const _: () = assert!(CROWDED + KEPT_FREE < TRANSACTIONS_PER_SHARD_MAX);

/// Of a thousand new calls, how many are refused while so many transactions stand.
const fn crowding(transactions: usize) -> u64 {
    let full = TRANSACTIONS_PER_SHARD_MAX - KEPT_FREE;
    if transactions <= CROWDED {
        return 0;
    }
    let part = (transactions - CROWDED) as u64 * MILLE / (full - CROWDED) as u64;
    if part > MILLE { MILLE } else { part }
}

/// By lot, and the repeats of one request draw the same: what is refused once must not begin a call when
/// its repeat crosses the answer. Nobody outside knows the secret in the hash.
const fn is_drawn(hash: u128, chance: u64) -> bool {
    (hash >> 64) as u64 % MILLE < chance
}

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
    /// before anything is made of it; INVITEs have been looked at by `refuses_at_sight`.
    pub(crate) fn sheds(&mut self, request: &Message<'_>, hash: u128) -> bool {
        let patience = match request.method() {
            Method::Cancel | Method::Invite => return false,
            // A carrier that hears 503 to its OPTIONS takes all of its calls away.
            Method::Register | Method::Options => Patience::REGISTER,
            _ if request.first(HeaderName::ProxyAuthorization).is_some() => Patience::BEGUN,
            _ => Patience::NEW,
        };
        let by_waits = self.desk.load.chance(self.desk.now.mono, patience);
        let by_room = crowding(self.desk.transactions.len());
        let is_drawn = is_drawn(hash, by_waits.max(by_room));
        if is_drawn {
            self.note_shed(by_waits >= by_room);
        }
        is_drawn
    }

    /// Whether an INVITE that would begin a call was answered 503, or ended at the edge: known before
    /// more of it is read than its answer repeats. One that is broken goes on, and hears what is wrong.
    pub(crate) fn refuses_at_sight(&mut self, from: &Source, request: &Message<'_>) -> bool {
        let no_room = self.draining || gate::overloaded(&self.desk, self.calls.len());
        let by_waits = self.chance_of_invite(request);
        let by_room = crowding(self.desk.transactions.len());
        let chance = by_waits.max(by_room);
        if !no_room && chance == 0 || request.check_answerable().is_err() {
            return false;
        }
        // Whoever comes with a dialog that was not ours, while we have time, hears 481.
        let is_of_dialog = |tag| no_room || mint::shard_of_tag(tag).is_some();
        if request.to().ok().and_then(|to| to.tag()).is_some_and(is_of_dialog) {
            return false;
        }
        let hash = self.desk.transactions.server_hash(request, Method::Invite);
        if self.desk.transactions.server_by_hash(hash).is_some() {
            return false; // a repeat: what came of the first one answers it
        }
        // Whoever is to take a place in a standing call has begun already.
        if !no_room && (!is_drawn(hash, chance) || steer::shard_of_place(request).is_some()) {
            return false;
        }
        if self.is_stopped(from, request, hash) {
            return true;
        }
        if !no_room {
            if self.dials_emergency(from, request) {
                return false;
            }
            self.note_shed(by_waits >= by_room);
        }
        self.refuse_stateless(from, request, Some(hash), 503);
        true
    }

    fn chance_of_invite(&self, request: &Message<'_>) -> u64 {
        if self.desk.load.wait < LONG {
            return 0;
        }
        let begun = request.first(HeaderName::ProxyAuthorization).is_some();
        let patience = if begun { Patience::BEGUN } else { Patience::NEW };
        self.desk.load.chance(self.desk.now.mono, patience)
    }

    fn note_shed(&mut self, by_waits: bool) {
        if by_waits {
            self.desk.load.refused_at = Some(self.desk.now.mono);
        }
        self.desk.count(Counter::OverloadShed);
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
    fn a_table_that_fills_refuses_more_and_more() {
        assert_eq!((crowding(0), crowding(CROWDED)), (0, 0));
        let most = TRANSACTIONS_PER_SHARD_MAX - KEPT_FREE;
        let middle = usize::midpoint(CROWDED, most);
        assert_eq!(crowding(middle), MILLE / 2);
        assert_eq!((crowding(most), crowding(usize::MAX / 2_000)), (MILLE, MILLE));
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
