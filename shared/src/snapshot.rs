//! What the control plane publishes to every shard: users, trunks, routes, acl; immutable, with a generation.
//! Owns:  `Snapshot`, `User`, `Secret`, `Trunk` and its `Entrance`s.
//! Gives: look-up by name in O(1); a shard swaps the `Arc` between turns.
//! Never: changes after it was published.
//! Holds: secrets are not shown by `Debug`; a part that did not change is the same `Arc` in the next
//!        generation, and one new extension copies some twenty others of ten thousand.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::account::Account;
use crate::acl::Acl;
use crate::by_name::ByName;
use crate::config::{HostPort, Network};
use crate::edge::EdgeRules;
use crate::failover::Failover;
use crate::forwarding::{Forwarding, Redirects};
use crate::ids::CertificateId;
use crate::net::Transport;
use crate::route::RouteTable;
use crate::toll::TollRules;
use crate::trunk_options::TrunkOptions;

/// By user name, exactly as in the AOR's user part.
pub type Users = ByName<Arc<User>>;

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
    /// Whose 3xx sends a call on.
    pub redirects: Redirects,
    /// What calls over trunks are held to, when that was asked for.
    pub toll: Option<Arc<TollRules>>,
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
    pub forwarding: Option<Box<Forwarding>>,
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

/// A carrier or another PBX. Requests from one of its addresses need no digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    pub name: Box<str>,
    /// As written in the configuration: a URI whose host (and port) equals it goes out here.
    pub host: Box<str>,
    pub port: Option<u16>,
    /// Where it is reached, at most `ENTRANCES_PER_TRUNK_MAX`, lower ranks first; empty while its
    /// names are not resolved.
    pub entrances: Vec<Entrance>,
    /// Further sources of its calls (`inbound_hosts`).
    pub inbound: Vec<InboundHost>,
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
    /// What its challenges are answered with.
    pub account: Option<Arc<Account>>,
    pub options: Arc<TrunkOptions>,
}

/// A host of `inbound_hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundHost {
    pub host: Box<str>,
    /// `None`: from any port of it.
    pub port: Option<u16>,
    /// At most `SOURCES_PER_NAME_MAX`.
    pub addresses: Vec<IpAddr>,
}

impl InboundHost {
    pub fn has(&self, peer: SocketAddr) -> bool {
        self.port.is_none_or(|port| port == peer.port()) && self.addresses.contains(&peer.ip())
    }
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

/// One address of a trunk: of `dest` or of `backup_dest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// As written in the configuration, for the Request-URI and for the certificate (RFC 5922).
    pub host: Box<str>,
    pub port: Option<u16>,
    pub address: SocketAddr,
    /// Our address towards it, from a route look-up of the control plane; `None` when that failed.
    pub local: Option<IpAddr>,
    pub transport: Transport,
    /// Those of a lower rank are tried first (priority of RFC 2782); a backup comes after them all.
    pub rank: u16,
    /// Share of the calls among those of one rank.
    pub weight: u16,
}

impl Entrance {
    /// The only address of its rank.
    pub fn plain(host: &str, address: SocketAddr, transport: Transport) -> Self {
        let (host, port) = (host.into(), Some(address.port()));
        Self { host, port, address, local: None, transport, rank: 0, weight: 0 }
    }
}

impl Trunk {
    /// The certificate of ours that it is shown, where it can be.
    pub fn shows(&self, transport: Transport) -> Option<CertificateId> {
        let files = self.options.client_files.as_ref().filter(|_| transport == Transport::Tls);
        files.map(|files| files.id)
    }

    /// A trunk that serves both ways, with nothing out of the ordinary.
    pub fn plain(name: &str, host: &str, address: SocketAddr, transport: Transport) -> Self {
        Self {
            name: name.into(),
            host: host.into(),
            port: Some(address.port()),
            entrances: vec![Entrance::plain(host, address, transport)],
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
            account: None,
            options: Arc::default(),
        }
    }

    /// The same with a second destination, for calls that the first one does not take.
    #[must_use]
    pub fn with_backup(mut self, backup: Entrance) -> Self {
        let rank = self.entrances.last().map_or(0, |last| last.rank.saturating_add(1));
        self.entrances.push(Entrance { rank, ..backup });
        self
    }

    /// Whether one of its hosts has this address. Ports do not count: behind one that we know there
    /// may be others of the same host.
    pub fn is_at(&self, ip: IpAddr) -> bool {
        self.entrances.iter().any(|entrance| entrance.address.ip() == ip)
            || self.inbound.iter().any(|host| host.addresses.contains(&ip))
            || self.inbound_networks.iter().any(|network| network.contains(ip))
    }

    /// `host:port` of a URI, as it is written in the configuration.
    pub fn address(&self) -> String {
        HostPort { host: self.host.to_string(), port: self.port }.to_string()
    }

    /// Host and port that requests through one of its entrances name: behind an outbound proxy its own.
    pub fn named<'t>(&'t self, entrance: &'t Entrance) -> (&'t str, Option<u16>) {
        match self.options.route {
            Some(_) => (&self.host, self.port),
            None => (&entrance.host, entrance.port),
        }
    }

    /// Where a URI without a port leads, if it leads here.
    pub fn port_default(&self) -> u16 {
        self.entrances.first().map_or(Transport::Udp, |first| first.transport).port()
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
