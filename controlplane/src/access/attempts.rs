//! How often somebody may try to log in: per account and per source, in two tables that never grow.
//! Owns:  the counts of tries and when they were.
//! Gives: leave to try, or how long to wait.
//! Never: says whether an account exists: every name has a place, known or not.
//! Holds: the tables have a fixed size. Two names that share a place share its delay, and which ones do
//!        is drawn at start, so nobody can choose to share a place with somebody else.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

const PLACES: usize = 4_096;
/// Wrong passwords of one account that cost no time.
const FREE_TRIES: u32 = 5;
const FIRST_DELAY_MS: u64 = 1_000;
const LONGEST_DELAY_MS: u64 = 60_000;
/// An account that nobody failed at for so long starts afresh.
const FORGOTTEN_AFTER_MS: u64 = 15 * 60_000;
/// Tries of one source within a minute.
const SOURCE_TRIES: u32 = 10;
const SOURCE_WINDOW_MS: u64 = 60_000;

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    tries: u32,
    /// Milliseconds since our start. Of an account: when it was tried last. Of a source: when its
    /// window began.
    at: u64,
}

#[derive(Debug)]
pub struct Attempts {
    drawn: RandomState,
    accounts: Vec<Count>,
    sources: Vec<Count>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            drawn: RandomState::new(),
            accounts: vec![Count::default(); PLACES],
            sources: vec![Count::default(); PLACES],
        }
    }
}

impl Attempts {
    /// Counts a try; it counts as failed until `succeeded` says otherwise, so that tries side by side
    /// do not slip through. `now` is in milliseconds of a clock that never steps; the error is how
    /// many to wait.
    pub fn begin(&mut self, now: u64, account: &str, source: Option<IpAddr>) -> Result<(), u64> {
        let (account, source) = self.places(account, source);
        let of_account = &mut self.accounts[account];
        if now.saturating_sub(of_account.at) > FORGOTTEN_AFTER_MS {
            of_account.tries = 0;
        }
        let of_source = &mut self.sources[source];
        if of_source.tries == 0 || now.saturating_sub(of_source.at) >= SOURCE_WINDOW_MS {
            *of_source = Count { tries: 0, at: now };
        }
        let wait = if of_source.tries >= SOURCE_TRIES {
            SOURCE_WINDOW_MS.saturating_sub(now.saturating_sub(of_source.at)).max(1)
        } else {
            delay(of_account.tries).saturating_sub(now.saturating_sub(of_account.at))
        };
        if wait > 0 {
            return Err(wait);
        }
        of_source.tries += 1;
        *of_account = Count { tries: of_account.tries.saturating_add(1), at: now };
        Ok(())
    }

    pub fn succeeded(&mut self, account: &str, source: Option<IpAddr>) {
        let (account, source) = self.places(account, source);
        self.accounts[account] = Count::default();
        self.sources[source].tries = self.sources[source].tries.saturating_sub(1);
    }

    fn places(&self, account: &str, source: Option<IpAddr>) -> (usize, usize) {
        let place = |hash: u64| usize::try_from(hash % PLACES as u64).unwrap_or(0);
        let account = self.drawn.hash_one(account.to_lowercase());
        (place(account), place(self.drawn.hash_one(source.map(network_of))))
    }
}

/// One customer of a provider holds a /64.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(source) => source.into(),
        IpAddr::V6(source) => {
            std::net::Ipv6Addr::from_bits(source.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

fn delay(tries: u32) -> u64 {
    match tries.checked_sub(FREE_TRIES) {
        None => 0,
        Some(over) => FIRST_DELAY_MS.saturating_mul(1 << over.min(20)).min(LONGEST_DELAY_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 5_000;

    fn source(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn an_account_has_five_tries_and_then_waits_twice_as_long_each_time() {
        let mut attempts = Attempts::default();
        let mut now = START;
        for last in 0..5 {
            assert_eq!(attempts.begin(now, "admin", source(last)), Ok(()));
        }
        for (last, wait) in [(10, 1_000), (11, 2_000), (12, 4_000), (13, 8_000)] {
            assert_eq!(attempts.begin(now, "Admin", source(last)), Err(wait), "any spelling");
            assert_eq!(attempts.begin(now + wait - 1, "admin", source(last)), Err(1));
            now += wait;
            assert_eq!(attempts.begin(now, "admin", source(last)), Ok(()));
        }
        for last in 20..30 {
            now += LONGEST_DELAY_MS;
            assert_eq!(attempts.begin(now, "admin", source(last)), Ok(()), "never longer");
        }
        now += FORGOTTEN_AFTER_MS + 1;
        for last in 30..35 {
            assert_eq!(attempts.begin(now, "admin", source(last)), Ok(()), "forgotten");
        }
    }

    #[test]
    fn a_success_clears_the_account_and_gives_the_source_its_try_back() {
        let mut attempts = Attempts::default();
        for _ in 0..50 {
            assert_eq!(attempts.begin(START, "admin", source(1)), Ok(()));
            attempts.succeeded("admin", source(1));
        }
    }

    #[test]
    fn a_source_has_ten_tries_a_minute_whatever_the_account() {
        let mut attempts = Attempts::default();
        let first: IpAddr = "2001:db8::1".parse().expect("an address");
        let same: IpAddr = "2001:db8::ffff".parse().expect("an address");
        for name in 0..10 {
            assert_eq!(attempts.begin(START, &format!("user{name}"), Some(first)), Ok(()));
        }
        let later = START + 20_000;
        assert_eq!(attempts.begin(later, "another", Some(same)), Err(40_000));
        assert_eq!(attempts.begin(START + 60_000, "another", Some(same)), Ok(()));
    }
}
