//! What the control plane publishes to every shard: users, trunks, routes, acl; immutable, with a generation.
//! Owns:  `Snapshot`, `User`, `Secret`, `Trunk` and its `Entrance`s.
//! Gives: look-up by name in O(1); a shard swaps the `Arc` between turns.
//! Never: changes after it was published.
//! Holds: secrets are not shown by `Debug`; a part that did not change is the same `Arc` in the next
//!        generation, so that one new extension does not copy ten thousand others.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::acl::Acl;
use crate::config::Network;
use crate::edge::EdgeRules;
use crate::failover::Failover;
use crate::net::Transport;
use crate::route::RouteTable;

/// By user name, exactly as in the AOR's user part.
pub type Users = HashMap<Box<str>, Arc<User>>;

#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows by one with every publication; shards report the one they serve.
    pub generation: u64,
    pub users: Arc<Users>,
    pub trunks: Arc<Vec<Trunk>>,
    pub routes: Arc<RouteTable>,
    pub acl: Arc<Acl>,
    pub edge: Arc<EdgeRules>,
    /// The HTTP router, when calls are to ask one.
    pub http_router: Option<HttpRouterRules>,
    /// User backends that have to be asked, when there are any.
    pub remote_users: Option<RemoteUsers>,
}

impl Snapshot {
    /// The same with a table of routes that no other thread uses: an expression keeps scratch space,
    /// and two shards must not meet in it.
    #[must_use]
    pub fn for_shard(&self) -> Self {
        Self { routes: Arc::new(RouteTable::clone(&self.routes)), ..self.clone() }
    }
}

/// How the HTTP router is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRouterRules {
    /// The control plane answers within it; the shard waits a little longer.
    pub budget: Duration,
    /// Without a decision the static routes decide; else the caller hears 503.
    pub fallback_to_static: bool,
}

/// How the backends are waited for that a snapshot cannot hold: databases and programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteUsers {
    /// Place of the first of them in the chain.
    pub first: u8,
    pub budget: Duration,
}

#[derive(Clone, Debug)]
pub struct User {
    pub username: Box<str>,
    pub secret: Secret,
    pub display_name: Option<Box<str>>,
    pub enabled: bool,
    /// Callers without credentials may reach this user.
    pub allow_guest_calls: bool,
    /// Place in the chain of the backend that knows it.
    pub backend: u8,
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
    /// Where calls go that the first destination does not take.
    pub backup: Option<Backup>,
    /// Further source addresses that are this trunk (`inbound_hosts`); port 0 matches any port.
    pub inbound: Vec<SocketAddr>,
    /// The same, whole networks at a time.
    pub inbound_networks: Vec<Network>,
    pub max_calls: Option<u32>,
    /// Calls that begin within one second.
    pub max_cps: Option<u32>,
    pub enabled: bool,
    /// Which way calls go through it.
    pub direction: TrunkDirection,
    /// A call from its addresses is its own only when these start the users of From and To.
    pub from_prefix: Option<Box<str>>,
    pub to_prefix: Option<Box<str>>,
    /// Share of a weighted choice.
    pub weight: u32,
    /// The called address gets the trunk's host; else it keeps the one that was dialled.
    pub rewrite_host: bool,
    pub max_ring: Option<Duration>,
    pub failover: Failover,
    /// Whether and how it is asked by OPTIONS if it is there.
    pub health: Option<HealthChecks>,
}

/// A trunk is down after so many failures in a row, and up again after so many answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthChecks {
    pub interval: Duration,
    /// How long one answer is waited for.
    pub timeout: Duration,
    pub failures: u32,
    pub successes: u32,
}

impl Default for HealthChecks {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(3),
            failures: 3,
            successes: 2,
        }
    }
}

/// `backup_dest` of a trunk: the same carrier at another address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub host: Box<str>,
    pub address: SocketAddr,
    pub local: Option<IpAddr>,
    pub transport: Transport,
}

/// One destination of a trunk; the fields mean what they mean there.
#[derive(Clone, Copy, Debug)]
pub struct Entrance<'t> {
    pub host: &'t str,
    pub address: SocketAddr,
    pub local: Option<IpAddr>,
    pub transport: Transport,
}

impl Trunk {
    /// A trunk that serves both ways, with nothing out of the ordinary.
    pub fn plain(name: &str, host: &str, address: SocketAddr, transport: Transport) -> Self {
        Self {
            name: name.into(),
            host: host.into(),
            address,
            local: None,
            transport,
            backup: None,
            inbound: Vec::new(),
            inbound_networks: Vec::new(),
            max_calls: None,
            max_cps: None,
            enabled: true,
            direction: TrunkDirection::Both,
            from_prefix: None,
            to_prefix: None,
            weight: WEIGHT_DEFAULT,
            rewrite_host: true,
            max_ring: None,
            failover: Failover::default(),
            health: None,
        }
    }

    /// In the order in which they are tried.
    pub fn entrances(&self) -> impl Iterator<Item = Entrance<'_>> {
        std::iter::once(self.entrance()).chain(self.backup.iter().map(|backup| Entrance {
            host: &backup.host,
            address: backup.address,
            local: backup.local,
            transport: backup.transport,
        }))
    }

    /// `dest`.
    pub fn entrance(&self) -> Entrance<'_> {
        let Self { address, local, transport, .. } = *self;
        Entrance { host: &self.host, address, local, transport }
    }
}

/// The original's weight of a trunk that names none.
pub const WEIGHT_DEFAULT: u32 = 100;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrunkDirection {
    #[default]
    Both,
    /// Calls come from it; none go to it.
    Inbound,
    Outbound,
}

impl TrunkDirection {
    pub const fn takes_calls(self) -> bool {
        !matches!(self, Self::Inbound)
    }

    pub const fn gives_calls(self) -> bool {
        !matches!(self, Self::Outbound)
    }
}
