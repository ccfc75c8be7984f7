//! What a source may ask of us before it has shown who it is: rates, bans, names of programs, sizes.
//! Owns:  `EdgeRules`, `FloodRules` and their defaults.
//! Gives: plain values for every shard, exchanged with the snapshot.
//! Never: an address; who is refused by address stands in `acl`.
//! Holds: the defaults refuse nothing that a phone or a carrier does.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeRules {
    /// `dos_enabled`; without it nobody is counted by rate.
    pub flood: Option<FloodRules>,
    /// Probes of one source within a minute that get it banned; 0: none do.
    pub probes_max: u32,
    /// The length of a ban; zero: nobody is banned.
    pub ban: Duration,
    /// Parts of a User-Agent that is refused, in lower case.
    pub agents_refused: Vec<Box<str>>,
    /// Parts of a User-Agent, one of which it must have; empty: no matter.
    pub agents_admitted: Vec<Box<str>>,
    /// Calls at a time, over all shards.
    pub calls_max: Option<usize>,
    /// Longer Request-URIs are answered 414.
    pub uri_bytes_max: Option<usize>,
}

/// What one source may do in a second, and hold at a time, on one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloodRules {
    /// Requests that open something.
    pub requests_per_second: u32,
    /// Standing calls.
    pub calls_max: u32,
}

impl EdgeRules {
    /// The original's defaults.
    pub const PROBES_MAX: u32 = 50;
    pub const BAN: Duration = Duration::from_secs(600);

    pub const fn bans(&self) -> bool {
        !self.ban.is_zero()
    }
}

impl Default for EdgeRules {
    fn default() -> Self {
        Self {
            flood: None,
            probes_max: Self::PROBES_MAX,
            ban: Self::BAN,
            agents_refused: Vec::new(),
            agents_admitted: Vec::new(),
            calls_max: None,
            uri_bytes_max: None,
        }
    }
}

impl Default for FloodRules {
    fn default() -> Self {
        Self { requests_per_second: 100, calls_max: 500 }
    }
}
