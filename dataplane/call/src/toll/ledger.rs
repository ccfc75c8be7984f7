//! What each account has called over trunks: now, within the last minute, today; on all shards.
//! Owns:  one row for each account that called today or calls now, with a tally for each shard.
//! Gives: `check` before a call, `begin` and `end` around it, `left` while it stands; `own` is what the
//!        other shards are to hear, and `hear` takes what they say.
//! Never: asks anybody: a call waits for no other shard.
//! Holds: a tally says everything about its shard, so words that wait between shards become one; the
//!        table is bounded, and forgets who did nothing today.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use shared::ids::ShardId;
use shared::limits::TOLL_ACCOUNTS_MAX;
use shared::time::{Instant, Now, WallMs};
use shared::toll::Caps;

const MINUTE: Duration = Duration::from_secs(60);
const DAY_MS: i64 = 86_400_000;
/// As many as the highest cap per minute.
const BEGUN_MAX: usize = 10_000;
/// With fewer accounts nobody looks which of them are idle.
const PRUNED_FROM: usize = 1_024;
/// Nor sooner than this after the last look, which takes some milliseconds in a full table.
const PRUNE_REST: Duration = Duration::from_secs(10);

/// Who is held to caps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    Extension(Box<str>),
    /// Where a call came from that nobody had to prove a name for (`edge::key_of`).
    Source(u128),
    /// An extension's texts: they take no calls away.
    Texter(Box<str>),
    Trunk(Box<str>),
    TrunkTexts(Box<str>),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extension(name) => write!(f, "extension {name}"),
            Self::Source(key) => write!(f, "source {}", Ipv6Addr::from_bits(*key).to_canonical()),
            Self::Texter(name) => write!(f, "texts of extension {name}"),
            Self::Trunk(name) => write!(f, "trunk {name}"),
            Self::TrunkTexts(name) => write!(f, "texts by trunk {name}"),
        }
    }
}

/// What one account does and did on one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Days since 1970 that `calls` and `seconds` are of (UTC).
    day: i64,
    calls: u32,
    seconds: u64,
    standing: u32,
    abroad: u32,
    /// The sum of when the standing ones began, in milliseconds of the wall clock.
    begun_ms: i64,
}

impl Tally {
    fn turn_to(&mut self, day: i64) {
        if self.day != day {
            (self.day, self.calls, self.seconds) = (day, 0, 0);
        }
    }
}

/// The cap that a call would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cap {
    Calls,
    Daily,
    International,
    Minute,
    Minutes,
    /// The table has no room for another account.
    Room,
}

#[derive(Debug, Default)]
struct Row {
    own: Tally,
    others: Vec<(ShardId, Tally)>,
    /// When calls of the last minute began, wherever they did.
    begun: VecDeque<Instant>,
}

impl Row {
    fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.others.iter().map(|(_, tally)| tally).chain([&self.own])
    }

    fn note_begun(&mut self, now: Instant) {
        while self.begun.front().is_some_and(|at| now.since(*at) >= MINUTE)
            || self.begun.len() >= BEGUN_MAX
        {
            self.begun.pop_front();
        }
        self.begun.push_back(now);
    }

    fn within_minute(&self, now: Instant) -> usize {
        self.begun.iter().rev().take_while(|at| now.since(**at) < MINUTE).count()
    }

    fn is_idle(&self, now: Now) -> bool {
        let day = day_of(now.wall);
        self.tallies().all(|tally| tally.standing == 0 && (tally.day != day || tally.calls == 0))
            && self.within_minute(now.mono) == 0
    }

    fn sum(&self, of: impl Fn(&Tally) -> u64) -> u64 {
        self.tallies().map(of).sum()
    }

    /// Of this day, and of the calls that stand.
    fn used(&self, now: Now) -> Duration {
        let day = day_of(now.wall);
        let spent = self.sum(|tally| if tally.day == day { tally.seconds } else { 0 });
        let running = self.sum(|tally| {
            let since = i64::from(tally.standing).saturating_mul(now.wall.0) - tally.begun_ms;
            since.max(0).unsigned_abs()
        });
        Duration::from_secs(spent) + Duration::from_millis(running)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// In order, so that nobody chooses the places.
    rows: BTreeMap<Account, Row>,
    pruned_at: Option<Instant>,
}

impl Ledger {
    pub(crate) fn check(
        &self,
        now: Now,
        account: &Account,
        caps: &Caps,
        is_abroad: bool,
    ) -> Result<(), Cap> {
        self.check_again(now, account, caps, is_abroad)?;
        let Some(row) = self.rows.get(account) else { return Ok(()) };
        let day = day_of(now.wall);
        if is_at(caps.calls_per_minute, row.within_minute(now.mono) as u64) {
            return Err(Cap::Minute);
        }
        let today = |tally: &Tally| if tally.day == day { u64::from(tally.calls) } else { 0 };
        if is_at(caps.calls_per_day, row.sum(today)) {
            return Err(Cap::Daily);
        }
        Ok(())
    }

    /// The same for a call that has begun before and is to go on.
    pub(crate) fn check_again(
        &self,
        now: Now,
        account: &Account,
        caps: &Caps,
        is_abroad: bool,
    ) -> Result<(), Cap> {
        let Some(row) = self.rows.get(account) else { return Ok(()) };
        if is_at(caps.calls_max, row.sum(|tally| tally.standing.into())) {
            return Err(Cap::Calls);
        }
        if is_abroad && is_at(caps.international_max, row.sum(|tally| tally.abroad.into())) {
            return Err(Cap::International);
        }
        if self.left(now, account, caps).is_some_and(|left| left.is_zero()) {
            return Err(Cap::Minutes);
        }
        Ok(())
    }

    /// Of the minutes of the day, what every standing call of the account may still use if all of them go
    /// on; `None` without a cap.
    pub(crate) fn left(&self, now: Now, account: &Account, caps: &Caps) -> Option<Duration> {
        let most = MINUTE * caps.minutes_per_day?;
        let Some(row) = self.rows.get(account) else { return Some(most) };
        let standing = row.sum(|tally| tally.standing.into()).max(1);
        let left = most.saturating_sub(row.used(now));
        Some(left / u32::try_from(standing).unwrap_or(u32::MAX))
    }

    /// A call of the account begins here; it ends with `end`.
    pub(crate) fn begin(
        &mut self,
        now: Now,
        account: &Account,
        is_abroad: bool,
    ) -> Result<(), Cap> {
        self.resume(now, account, is_abroad)?;
        let row = self.row(now, account).ok_or(Cap::Room)?;
        row.own.turn_to(day_of(now.wall));
        row.own.calls = row.own.calls.saturating_add(1);
        row.note_begun(now.mono);
        Ok(())
    }

    /// A call that began before, here or on another shard, stands again; it ends with `end`.
    pub(crate) fn resume(
        &mut self,
        now: Now,
        account: &Account,
        is_abroad: bool,
    ) -> Result<(), Cap> {
        let row = self.row(now, account).ok_or(Cap::Room)?;
        row.own.standing += 1;
        row.own.abroad += u32::from(is_abroad);
        row.own.begun_ms += now.wall.0;
        Ok(())
    }

    pub(crate) fn end(
        &mut self,
        now: Now,
        account: &Account,
        began: WallMs,
        is_abroad: bool,
        talked: Duration,
    ) {
        let Some(row) = self.rows.get_mut(account) else { return };
        let own = &mut row.own;
        own.turn_to(day_of(now.wall));
        // A second that began is one.
        own.seconds += u64::try_from(talked.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
        own.standing = own.standing.saturating_sub(1);
        own.abroad = own.abroad.saturating_sub(u32::from(is_abroad));
        own.begun_ms = if own.standing == 0 { 0 } else { own.begun_ms - began.0 };
    }

    /// What another shard says of an account. `begun`: calls of it that have just begun there.
    pub(crate) fn hear(
        &mut self,
        now: Now,
        from: ShardId,
        account: &Account,
        tally: Tally,
        begun: u32,
    ) {
        let Some(row) = self.row(now, account) else { return };
        match row.others.iter_mut().find(|(shard, _)| *shard == from) {
            Some((_, known)) => *known = tally,
            None => row.others.push((from, tally)),
        }
        for _ in 0..(begun as usize).min(BEGUN_MAX) {
            row.note_begun(now.mono);
        }
    }

    pub(crate) fn own(&self, account: &Account) -> Tally {
        self.rows.get(account).map(|row| row.own).unwrap_or_default()
    }

    /// Calls that stand on this shard.
    pub(crate) fn standing(&self) -> usize {
        self.rows.values().map(|row| row.own.standing as usize).sum()
    }

    fn row(&mut self, now: Now, account: &Account) -> Option<&mut Row> {
        if self.rows.len() >= PRUNED_FROM && !self.rows.contains_key(account) {
            let rested = self.pruned_at.is_none_or(|at| now.mono.since(at) >= PRUNE_REST);
            if rested {
                self.pruned_at = Some(now.mono);
                self.rows.retain(|_, row| !row.is_idle(now));
            }
            if self.rows.len() >= TOLL_ACCOUNTS_MAX {
                return None;
            }
        }
        Some(self.rows.entry(account.clone()).or_default())
    }
}

fn is_at(cap: Option<u32>, used: u64) -> bool {
    cap.is_some_and(|most| used >= u64::from(most))
}

const fn day_of(wall: WallMs) -> i64 {
    wall.0.div_euclid(DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute past noon of some day.
    const START: Now =
        Now { mono: Instant::from_millis(5_000), wall: WallMs(20_000 * DAY_MS + DAY_MS / 2) };

    fn after(seconds: u64) -> Now {
        let wait = Duration::from_secs(seconds);
        Now { mono: START.mono + wait, wall: START.wall.add_ms(1_000 * seconds) }
    }

    fn ann() -> Account {
        Account::Extension("1001".into())
    }

    fn caps(change: impl FnOnce(&mut Caps)) -> Caps {
        let mut caps = Caps::default();
        change(&mut caps);
        caps
    }

    #[test]
    fn a_minute_has_so_many_calls_and_the_next_one_again() {
        let (mut ledger, caps) = (Ledger::default(), caps(|caps| caps.calls_per_minute = Some(2)));
        for second in [0, 30] {
            assert_eq!(ledger.check(after(second), &ann(), &caps, false), Ok(()));
            ledger.begin(after(second), &ann(), false).expect("there is room");
        }
        assert_eq!(ledger.check(after(59), &ann(), &caps, false), Err(Cap::Minute));
        assert_eq!(ledger.check(after(60), &ann(), &caps, false), Ok(()));
        let ben = Account::Extension("1002".into());
        assert_eq!(ledger.check(after(59), &ben, &caps, false), Ok(()));
    }

    #[test]
    fn standing_calls_count_until_they_end() {
        let caps = caps(|caps| (caps.calls_max, caps.international_max) = (Some(2), Some(1)));
        let mut ledger = Ledger::default();
        ledger.begin(START, &ann(), true).expect("there is room");
        assert_eq!(ledger.check(START, &ann(), &caps, true), Err(Cap::International));
        assert_eq!(ledger.check(START, &ann(), &caps, false), Ok(()));
        ledger.begin(START, &ann(), false).expect("there is room");
        assert_eq!(ledger.check(START, &ann(), &caps, false), Err(Cap::Calls));
        ledger.end(after(9), &ann(), START.wall, true, Duration::ZERO);
        assert_eq!(ledger.check(after(9), &ann(), &caps, true), Ok(()));
        assert_eq!(ledger.standing(), 1);
    }

    #[test]
    fn minutes_of_the_day_are_shared_by_what_stands_and_come_back_at_midnight() {
        let caps = caps(|caps| caps.minutes_per_day = Some(10));
        let mut ledger = Ledger::default();
        let left = |ledger: &Ledger, at| ledger.left(after(at), &ann(), &caps).map(|d| d.as_secs());
        assert_eq!(left(&ledger, 0), Some(600));
        ledger.begin(START, &ann(), false).expect("there is room");
        ledger.begin(after(100), &ann(), false).expect("there is room");
        assert_eq!(left(&ledger, 200), Some(150), "(600 - 200 - 100) / 2");
        ledger.end(after(200), &ann(), START.wall, false, Duration::from_secs(190));
        assert_eq!(left(&ledger, 200), Some(310), "it rang for ten seconds");
        assert_eq!(left(&ledger, 510), Some(0));
        assert_eq!(ledger.check(after(510), &ann(), &caps, false), Err(Cap::Minutes));
        ledger.end(after(510), &ann(), after(100).wall, false, Duration::from_secs(410));
        assert_eq!(left(&ledger, 520), Some(0));
        assert_eq!(left(&ledger, 43_200), Some(600), "the day is over (UTC)");
    }

    #[test]
    fn a_day_has_so_many_calls() {
        let caps = caps(|caps| caps.calls_per_day = Some(1));
        let mut ledger = Ledger::default();
        ledger.begin(START, &ann(), false).expect("there is room");
        ledger.end(after(1), &ann(), START.wall, false, Duration::ZERO);
        assert_eq!(ledger.check(after(7_200), &ann(), &caps, false), Err(Cap::Daily));
        assert_eq!(ledger.check(after(43_200), &ann(), &caps, false), Ok(()));
    }

    #[test]
    fn what_other_shards_say_counts_and_a_lost_message_is_made_good() {
        let caps = caps(|caps| (caps.calls_max, caps.calls_per_minute) = (Some(3), Some(9)));
        let (mut here, mut there) = (Ledger::default(), Ledger::default());
        for _ in 0..3 {
            there.begin(START, &ann(), false).expect("there is room");
        }
        // Two of the three messages are lost: the third says all that stands.
        here.hear(START, ShardId(1), &ann(), there.own(&ann()), 1);
        assert_eq!(here.check(START, &ann(), &caps, false), Err(Cap::Calls));
        assert_eq!(here.standing(), 0);
        there.end(after(5), &ann(), START.wall, false, Duration::from_secs(5));
        here.hear(after(5), ShardId(1), &ann(), there.own(&ann()), 0);
        assert_eq!(here.check(after(5), &ann(), &caps, false), Ok(()));
    }

    #[test]
    fn the_table_forgets_the_idle_and_refuses_beyond_its_bound() {
        let mut ledger = Ledger::default();
        let source = |number: usize| Account::Source(number as u128);
        for number in 0..TOLL_ACCOUNTS_MAX {
            ledger.begin(START, &source(number), false).expect("there is room");
        }
        assert_eq!(ledger.begin(START, &source(TOLL_ACCOUNTS_MAX), false), Err(Cap::Room));
        ledger.begin(START, &source(7), false).expect("it is there");
        for number in 8..TOLL_ACCOUNTS_MAX {
            ledger.end(after(1), &source(number), START.wall, false, Duration::ZERO);
        }
        assert_eq!(ledger.begin(after(61), &ann(), false), Err(Cap::Room), "of today");
        ledger.begin(after(43_200), &ann(), false).expect("the day is over");
        assert_eq!(ledger.rows.len(), 9);
    }

    /// A word that waits takes the next one about its account along, and no other.
    #[test]
    fn words_about_an_account_that_wait_become_one() {
        use crate::io::MeshMessage;
        let mut ledger = Ledger::default();
        let mut word = |account: &Account| {
            ledger.begin(START, account, false).expect("there is room");
            MeshMessage::Toll {
                counted: Box::new((account.clone(), ledger.own(account))),
                begun: 1,
            }
        };
        let (mut first, other) = (word(&ann()), word(&Account::Trunk("carrier".into())));
        let second = word(&ann());
        assert!(first.absorb(other).is_err());
        assert!(first.absorb(second).is_ok());
        let MeshMessage::Toll { counted, begun } = first else { panic!("{first:?}") };
        assert_eq!((counted.1.standing, begun), (2, 2));
        let mut there = Ledger::default();
        there.hear(START, ShardId(1), &counted.0, counted.1, begun);
        let caps = caps(|caps| caps.calls_per_minute = Some(2));
        assert_eq!(there.check(START, &ann(), &caps, false), Err(Cap::Minute));
    }
}
