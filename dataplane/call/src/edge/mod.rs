//! The edge of one shard: who sends too much, who is banned, and until when.
//! Owns:  the table of sources, that of attacked names, the calls that each source holds.
//! Gives: `enter` for a message that nobody has read yet; counts that end in `take_accused`.
//! Never: an answer: who is stopped here hears nothing, so that a forged source brings nobody one.
//! Holds: without a ban and without `dos_enabled` a message costs two comparisons.

mod agents;
mod handshakes;
mod ours;
mod table;
mod watch;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use rustc_hash::FxHashMap;
use shared::edge::{EdgeRules, FloodRules};
use shared::time::Instant;

use ours::Ours;
use table::{Row, Table};
pub(crate) use watch::Stop;

/// Wrong passwords of one source within a minute that get it banned. A phone with a wrong password
/// asks once or twice a minute.
pub(crate) const FAILURES_MAX: u32 = 20;
/// Wrong passwords for one name, from wherever they come, after which each counts for more.
const NAME_FAILURES_MAX: u32 = 30;
const NAME_FAILURE_WEIGHT: u32 = 7;
/// Everything that a source sends, answers and acknowledgements included, per request that opens
/// something: a whole call has fewer than ten messages.
const PACKETS_PER_REQUEST: u32 = 20;
/// Who passed authentication is no stranger for so long.
const KNOWN: Duration = Duration::from_secs(60);
/// What a search for calls and phones of a source has found holds for so long.
const FOUND: Duration = Duration::from_secs(10);
/// Such a search looks at everything that stands: not more than a hundred a second.
const SEARCH_REST: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Edge {
    sources: Table,
    /// Names of users whose passwords are tried.
    names: Table,
    accused: Option<Accused>,
    ours: Ours,
    /// No ban lasts longer.
    bans_until: Instant,
    searched_at: Option<Instant>,
    /// Calls that each source holds; keyed by hash, so that nobody chooses the places.
    calls: FxHashMap<u64, u32>,
}

/// A source that has done enough to be banned, unless it is one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accused {
    pub source: IpAddr,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Passwords,
    Probes,
    Scanner,
}

impl Why {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Passwords => "passwords",
            Self::Probes => "probes",
            Self::Scanner => "scanner",
        }
    }
}

/// What becomes of a message that nobody has read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Admitted,
    Banned,
    TooMany,
}

impl Edge {
    pub(crate) fn new(seeds: [u64; 2]) -> Self {
        Self {
            sources: Table::new(seeds),
            names: Table::new(seeds),
            accused: None,
            ours: Ours::default(),
            bans_until: Instant::ZERO,
            searched_at: None,
            calls: FxHashMap::default(),
        }
    }

    /// Whether a message has to be looked at.
    pub(crate) fn is_on(&self, now: Instant, rules: &EdgeRules) -> bool {
        rules.flood.is_some() || now < self.bans_until
    }

    pub(crate) fn enter(
        &mut self,
        now: Instant,
        flood: Option<FloodRules>,
        source: IpAddr,
        bytes: &[u8],
    ) -> Entry {
        let key = key_of(source);
        let Some(FloodRules { requests_per_second: rate, .. }) = flood else {
            let found = self.sources.find(key);
            let banned = found.is_some_and(|row| row.banned_until > now);
            return if banned { Entry::Banned } else { Entry::Admitted };
        };
        let row = self.sources.row(now, key);
        if row.banned_until > now {
            return Entry::Banned;
        }
        let fits = row.packets.take(now, rate.saturating_mul(PACKETS_PER_REQUEST))
            && (!opens(bytes) || row.requests.take(now, rate));
        if fits { Entry::Admitted } else { Entry::TooMany }
    }

    fn row(&mut self, now: Instant, source: IpAddr) -> &mut Row {
        let row = self.sources.row(now, key_of(source));
        row.roll(now);
        row
    }

    /// A challenge goes out.
    fn challenged(&mut self, now: Instant, rules: &EdgeRules, source: IpAddr) {
        let row = self.row(now, source);
        row.challenged += 1;
        if rules.probes_max > 0 && row.probes >= rules.probes_max {
            self.accuse(source, Why::Probes);
        }
    }

    /// The answer to a challenge has come, whatever it is worth.
    fn answered(&mut self, now: Instant, source: IpAddr) {
        self.row(now, source).answered += 1;
    }

    /// It has shown a password that is right.
    fn passed(&mut self, now: Instant, source: IpAddr) {
        let row = self.row(now, source);
        row.answered += 1;
        row.known_until = now + KNOWN;
    }

    /// A wrong password, for a user that there is or not.
    fn failed(&mut self, now: Instant, source: IpAddr, user: Option<&[u8]>) {
        let mut weight = 1;
        if let Some(user) = user {
            let name = self.names.row(now, name_key(user));
            name.roll(now);
            name.failures = name.failures.saturating_add(1);
            // Many sources try one name: each of them is stopped sooner, the name stays open.
            if name.failures > NAME_FAILURES_MAX {
                weight = NAME_FAILURE_WEIGHT;
            }
        }
        let row = self.row(now, source);
        row.answered += 1;
        row.failures = row.failures.saturating_add(weight);
        if row.failures >= FAILURES_MAX {
            self.accuse(source, Why::Passwords);
        }
    }

    fn probed(&mut self, now: Instant, rules: &EdgeRules, source: IpAddr) {
        let row = self.row(now, source);
        row.probes = row.probes.saturating_add(1);
        if rules.probes_max > 0 && row.probes >= rules.probes_max {
            self.accuse(source, Why::Probes);
        }
    }

    fn accuse(&mut self, source: IpAddr, why: Why) {
        self.accused = Some(Accused { source, why });
    }

    pub(crate) fn take_accused(&mut self) -> Option<Accused> {
        self.accused.take()
    }

    pub(crate) fn ban(&mut self, now: Instant, source: IpAddr, time: Duration) {
        let until = now + time;
        let row = self.row(now, source);
        row.pardon();
        row.banned_until = until;
        self.bans_until = self.bans_until.max(until);
    }

    /// It is one of ours: a ban ends, and what was counted.
    pub(crate) fn vouch(&mut self, now: Instant, source: IpAddr) {
        let row = self.row(now, source);
        row.pardon();
        row.known_until = now + KNOWN;
    }

    /// Ends the bans of those that `is_ours` knows by now.
    pub(crate) fn pardon_where(&mut self, now: Instant, is_ours: impl Fn(IpAddr) -> bool) {
        if now >= self.bans_until {
            return;
        }
        for (key, row) in self.sources.rows_mut().filter(|(_, row)| row.banned_until > now) {
            if is_ours(Ipv6Addr::from_bits(key).to_canonical()) {
                row.pardon();
            }
        }
    }

    /// Whether a search may be made now.
    fn may_search(&mut self, now: Instant) -> bool {
        let rested = self.searched_at.is_none_or(|last| now.since(last) >= SEARCH_REST);
        if rested {
            self.searched_at = Some(now);
        }
        rested
    }

    pub(crate) fn bans(&self, now: Instant) -> usize {
        if now < self.bans_until { self.sources.banned(now) } else { 0 }
    }

    /// A call of this source begins.
    pub(crate) fn call_begun(&mut self, source: IpAddr) {
        *self.calls.entry(self.sources.hash(key_of(source))).or_default() += 1;
    }

    pub(crate) fn call_over(&mut self, source: IpAddr) {
        let hash = self.sources.hash(key_of(source));
        if let Some(count) = self.calls.get_mut(&hash) {
            *count -= 1;
            if *count == 0 {
                self.calls.remove(&hash);
            }
        }
    }

    pub(crate) fn calls_of(&self, source: IpAddr) -> u32 {
        self.calls.get(&self.sources.hash(key_of(source))).copied().unwrap_or_default()
    }
}

/// An IPv4 address as one of IPv6; of an IPv6 address the 64 bits that one customer has.
pub(crate) fn key_of(source: IpAddr) -> u128 {
    match source.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() & !u128::from(u64::MAX),
    }
}

/// FNV-1a: names are of our own users, so nobody chooses them to meet.
fn name_key(user: &[u8]) -> u128 {
    let start = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let step = |hash: u128, byte: &u8| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    };
    user.iter().fold(start, step)
}

/// Whether it is a request that begins something, told from its first bytes. Keep-alives are none.
fn opens(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    const NOT: [&[u8]; 7] =
        [b"SIP/2.0 ", b"ACK ", b"BYE ", b"CANCEL ", b"PRACK ", b"UPDATE ", b"INFO "];
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && !NOT.iter().any(|start| bytes.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_customer_of_ipv6_is_one_source_and_mapped_addresses_are_ipv4() {
        let key = |text: &str| key_of(text.parse().expect("an address"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.2"), key("192.0.2.1"));
    }

    #[test]
    fn a_source_has_its_rate_and_what_ends_calls_has_more() {
        let mut edge = Edge::new([3, 5]);
        let flood = Some(FloodRules { requests_per_second: 10, calls_max: 1 });
        let source = "192.0.2.1".parse().expect("an address");
        let now = Instant::from_millis(1_000);
        let mut admitted = |bytes: &[u8], times: usize| {
            let enter = |_: &usize| edge.enter(now, flood, source, bytes) == Entry::Admitted;
            (0..times).filter(enter).count()
        };
        assert_eq!(admitted(b"INVITE sip:a@b SIP/2.0", 50), 10);
        assert_eq!(admitted(b"BYE sip:a@b SIP/2.0", 50), 50);
        assert_eq!(admitted(b"SIP/2.0 200 OK", 500), 100, "twenty times the rate in all");
    }
}
