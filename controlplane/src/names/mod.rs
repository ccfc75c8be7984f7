//! Questions to the name server: where a SIP server is (RFC 3263), with an end to every wait.
//! Owns:  `Records`, what may be asked; the order of questions (`next_hop`); the resolver (`server`).
//! Gives: addresses with transport, rank and weight, and how long they hold.
//! Never: a shard's wait: shards get addresses, not names.
//! Holds: "there is no such name" and "nobody answered" are told apart.

#[cfg(test)]
mod forged;
mod next_hop;
mod server;

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

pub use next_hop::{FOR_EVER, Found, Hop, Serves, find};
pub use server::NameServers;

/// When a part of an answer is missing.
pub const ASK_AGAIN: Duration = Duration::from_secs(30);

/// However long a record lives: a carrier that moved is found within this time.
pub const KNOWN_MAX: Duration = Duration::from_secs(3_600);

/// What is asked of a name server.
pub trait Records: fmt::Debug + Send + Sync + 'static {
    fn naptr(&self, name: String) -> Asking<Naptr>;
    fn srv(&self, name: String) -> Asking<Srv>;
    fn addresses(&self, name: String) -> Asking<IpAddr>;
}

pub type Asking<T> = Pin<Box<dyn Future<Output = Result<Answer<T>, Missing>> + Send>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    pub records: Vec<T>,
    /// How long they may be used.
    pub valid: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The name server knows no such record.
    Unknown,
    /// Nobody could say.
    Failed(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the name server knows no address of it"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// RFC 3403, as far as RFC 3263 uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    pub order: u16,
    pub preference: u16,
    /// `s`: the replacement is the name of SRV records.
    pub flags: String,
    /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`.
    pub service: String,
    pub replacement: String,
}

/// RFC 2782.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// `.` says that the service is not there.
    pub target: String,
}
