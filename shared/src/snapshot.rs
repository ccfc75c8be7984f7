//! What the control plane publishes to every shard: users and trunks, immutable, with a generation.
//! Owns:  `Snapshot`, `User`, `Secret`, `Trunk`.
//! Gives: look-up by name in O(1); a shard swaps the `Arc` between turns.
//! Never: changes after it was published.
//! Holds: secrets are not shown by `Debug`.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::net::Transport;

#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows by one with every publication; shards report the one they serve.
    pub generation: u64,
    /// By user name, exactly as in the AOR's user part.
    pub users: HashMap<Box<str>, User>,
    pub trunks: Vec<Trunk>,
}

#[derive(Clone, Debug)]
pub struct User {
    pub username: Box<str>,
    pub secret: Secret,
    pub display_name: Option<Box<str>>,
    pub enabled: bool,
    /// Callers without credentials may reach this user.
    pub allow_guest_calls: bool,
}

/// What digest is checked against (RFC 7616 3.4.2).
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// H(username:realm:password) for one realm; an algorithm without its hash is not offered.
    Ha1 {
        realm: Box<str>,
        md5: Option<[u8; 16]>,
        sha256: Option<[u8; 32]>,
        sha512_256: Option<[u8; 32]>,
    },
    Plain(Box<str>),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ha1 { realm, .. } => write!(f, "Ha1({realm}, ...)"),
            Self::Plain(_) => write!(f, "Plain(...)"),
        }
    }
}

/// A carrier or another PBX with a static address. Requests from one of its addresses need no digest.
#[derive(Clone, Debug)]
pub struct Trunk {
    pub name: Box<str>,
    /// As written in the configuration: a URI whose host (and port) equals it goes out here.
    pub host: Box<str>,
    pub address: SocketAddr,
    /// Our address towards it, from a route look-up of the control plane; `None` when that failed.
    pub local: Option<IpAddr>,
    pub transport: Transport,
    /// Further source addresses that are this trunk (`inbound_hosts`); port 0 matches any port.
    pub inbound: Vec<SocketAddr>,
    pub max_calls: Option<u32>,
    pub enabled: bool,
}
