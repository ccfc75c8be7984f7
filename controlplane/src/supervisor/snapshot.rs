//! What the shards know about users, trunks and routes: built here, published as one immutable value.
//! Owns:  the chain of user backends, the names of trunks, the generation.
//! Gives: `build`, `Publisher`.
//! Never: publishes half of something: an error leaves the running snapshot alone.
//! Holds: generations grow by one; every shard gets every published one, or it is said which did not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::command::Command;
use shared::config::{Backend, Config, HostPort, TrunkConfig, TrunkSource};
use shared::ids::ShardId;
use shared::net::Transport;
use shared::route::RouteTable;
use shared::snapshot::{Snapshot, Trunk, User, Users};
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::board::Board;
use crate::plane::{Plane, shards};
use crate::store::{Extension, Store};

const SIP_PORT: u16 = 5060;
/// A name server that needs longer is not there.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);
/// How long shards may take to swap; they do it within a turn.
const LIVE_DEADLINE: Duration = Duration::from_secs(2);
/// Between two offers to a shard whose queue is full.
const OFFER_AGAIN: Duration = Duration::from_millis(20);

/// Users and trunks as they are now. The error is one line for the operator.
pub(super) async fn build(
    config: &Config,
    store: &dyn Store,
    ipv6: bool,
    generation: u64,
) -> Result<Snapshot, String> {
    let extensions = store.extensions().await.map_err(|error| error.to_string())?;
    build_with(config, extensions, ipv6, generation).await
}

/// The same with extensions that are not in the database yet.
pub(super) async fn build_with(
    config: &Config,
    extensions: Vec<Extension>,
    ipv6: bool,
    generation: u64,
) -> Result<Snapshot, String> {
    let users = users(config.backends(), extensions);
    let mut trunks = Vec::new();
    for trunk in config.trunks() {
        trunks.push(resolve(trunk, config, ipv6).await?);
    }
    let routes = config.routes().iter().map(|written| written.route.clone()).collect();
    let routes = RouteTable::sorted(routes, config.emergency().cloned());
    Ok(Snapshot {
        generation,
        users: Arc::new(users),
        trunks: Arc::new(trunks),
        routes: Arc::new(routes),
        ..Snapshot::default()
    })
}

/// The first backend that knows a name decides about it.
fn users(backends: &[Backend], extensions: Vec<Extension>) -> Users {
    let mut users = Users::new();
    let mut extensions = extensions.into_iter().map(of_extension).peekable();
    for (place, backend) in backends.iter().enumerate() {
        let place = u8::try_from(place).unwrap_or(u8::MAX);
        let known: Vec<User> = match backend {
            Backend::Extensions => extensions.by_ref().collect(),
            Backend::Memory(known) => known.clone(),
        };
        for user in known {
            let user = User { backend: place, ..user };
            users.entry(user.username.clone()).or_insert_with(|| Arc::new(user));
        }
    }
    users
}

fn of_extension(extension: Extension) -> User {
    User {
        username: extension.extension.into(),
        secret: extension.secret,
        display_name: extension.display_name.map(Into::into),
        enabled: extension.enabled,
        allow_guest_calls: extension.allow_guest_calls,
        backend: 0,
    }
}

async fn resolve(trunk: &TrunkConfig, config: &Config, ipv6: bool) -> Result<Trunk, String> {
    let key = format!("proxy.trunks.{}", trunk.name);
    let fits = |address: &SocketAddr| match config.sip().addr() {
        Some(own) => own.is_ipv4() == address.is_ipv4(),
        None => ipv6 || address.is_ipv4(),
    };
    let found = look_up(&trunk.dest, SIP_PORT).await;
    let found = found.map_err(|reason| format!("{key}.dest: {} {reason}", trunk.dest))?;
    let address = found.iter().copied().find(fits).ok_or_else(|| {
        format!("{key}.dest: {} has no address of a family that we listen on", trunk.dest)
    })?;
    let listens = match trunk.transport {
        Transport::Udp => !config.sip().udp_ports().is_empty(),
        _ => config.sip().tcp_port().is_some(),
    };
    if !listens {
        let word = trunk.transport.uri_word();
        return Err(format!("{key}: it is reached over {word}, which is switched off here"));
    }
    let (mut inbound, mut inbound_networks) = (Vec::new(), Vec::new());
    for source in &trunk.inbound {
        match source {
            TrunkSource::Network(network) => inbound_networks.push(*network),
            TrunkSource::Host(host) => {
                let found = look_up(host, 0).await;
                let found =
                    found.map_err(|reason| format!("{key}.inbound_hosts: {host} {reason}"))?;
                inbound.extend(found);
            }
        }
    }
    Ok(Trunk {
        name: trunk.name.as_str().into(),
        host: trunk.dest.host.as_str().into(),
        address,
        local: local_towards(address),
        transport: trunk.transport,
        inbound,
        inbound_networks,
        max_calls: trunk.max_calls,
        enabled: trunk.enabled,
        direction: trunk.direction,
        from_prefix: trunk.from_prefix.as_deref().map(Into::into),
        to_prefix: trunk.to_prefix.as_deref().map(Into::into),
        weight: trunk.weight,
        rewrite_host: trunk.rewrite_host,
        max_ring: trunk.max_ring,
    })
}

/// Every address of a name, the best one first. Port 0 stands for any.
async fn look_up(host: &HostPort, port_default: u16) -> Result<Vec<SocketAddr>, String> {
    let port = host.port.unwrap_or(port_default);
    let found = timeout(LOOKUP_DEADLINE, lookup_host((host.host.as_str(), port))).await;
    let found: Vec<SocketAddr> = found
        .map_err(|_| format!("was not resolved within {} s", LOOKUP_DEADLINE.as_secs()))?
        .map_err(|error| format!("cannot be resolved: {error}"))?
        .collect();
    if found.is_empty() { Err("resolves to nothing".to_owned()) } else { Ok(found) }
}

/// Our address on the way there: the kernel's route, asked without sending anything.
fn local_towards(address: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(address).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

/// Brings snapshots to every shard.
#[derive(Debug)]
pub struct Publisher {
    pub plane: Arc<dyn Plane>,
    pub board: Arc<Board>,
    /// The table of routes that was published last, and each shard's own copy of it.
    tables: Mutex<(Arc<RouteTable>, Vec<Arc<RouteTable>>)>,
}

impl Publisher {
    pub fn new(plane: Arc<dyn Plane>, board: Arc<Board>) -> Self {
        Self { plane, board, tables: Mutex::default() }
    }

    /// Offers the snapshot until every shard serves it; the error names those that do not.
    pub async fn publish(&self, snapshot: Arc<Snapshot>) -> Result<(), Vec<ShardId>> {
        let generation = snapshot.generation;
        self.board.counts.published.store(generation, Ordering::Relaxed);
        let tables = self.tables(&snapshot.routes);
        let for_shard = |shard: &ShardId| {
            let routes = Arc::clone(&tables[usize::from(shard.0)]);
            Command::Publish(Arc::new(Snapshot { routes, ..Snapshot::clone(&snapshot) }))
        };
        let mut waiting: Vec<ShardId> = shards(&*self.plane).collect();
        let offered = timeout(LIVE_DEADLINE, async {
            loop {
                waiting.retain(|shard| self.plane.send(*shard, for_shard(shard)).is_err());
                if waiting.is_empty() {
                    break;
                }
                tokio::time::sleep(OFFER_AGAIN).await;
            }
            self.board.all(|shard| shard.generation >= generation).await;
        });
        if offered.await.is_ok() {
            return Ok(());
        }
        let states = self.board.shards();
        let late = shards(&*self.plane)
            .filter(|shard| states[usize::from(shard.0)].generation < generation);
        Err(late.collect())
    }

    /// One copy per shard, made when the rules changed: two threads must not meet in one matcher.
    fn tables(&self, routes: &Arc<RouteTable>) -> Vec<Arc<RouteTable>> {
        // The pair is whole between any two statements that hold the lock.
        let mut known = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&known.0, routes) || known.1.is_empty() {
            let own = |_| Arc::new(RouteTable::clone(routes));
            *known = (Arc::clone(routes), shards(&*self.plane).map(own).collect());
        }
        known.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::snapshot::Secret;

    fn user(name: &str, password: &str) -> User {
        User {
            username: name.into(),
            secret: Secret::Plain(password.into()),
            display_name: None,
            enabled: true,
            allow_guest_calls: false,
            backend: 0,
        }
    }

    fn extension(name: &str, password: &str) -> Extension {
        Extension {
            extension: name.to_owned(),
            display_name: None,
            secret: Secret::Plain(password.into()),
            enabled: true,
            allow_guest_calls: false,
        }
    }

    #[test]
    fn the_first_backend_that_knows_a_name_decides() {
        let file = Backend::Memory(vec![user("1", "file"), user("2", "file")]);
        let rows = || vec![extension("2", "row"), extension("3", "row")];
        let password = |users: &Users, name: &str| match &users.get(name).expect("known").secret {
            Secret::Plain(password) => password.to_string(),
            Secret::Ha1 { .. } => panic!("no hash was written"),
        };
        let found = users(&[file.clone(), Backend::Extensions], rows());
        assert_eq!(found.len(), 3);
        assert_eq!(password(&found, "2"), "file");
        let found = users(&[Backend::Extensions, file], rows());
        assert_eq!(password(&found, "2"), "row");
        assert_eq!(password(&found, "3"), "row");
    }
}
