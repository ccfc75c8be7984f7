//! From a trunk as it is written to a trunk that can be called: names become addresses.
//! Owns:  what becomes of a name that is not resolved.
//! Gives: `Trunk`s, and how long their addresses hold; `Resolver` knows what this host listens on.
//! Never: a decision about a call.
//! Holds: an address that was found once is kept until another one is found.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use shared::config::{Config, HostPort, Network, TrunkConfig, TrunkSource};
use shared::limits::{ENTRANCES_PER_TRUNK_MAX, SOURCES_PER_NAME_MAX};
use shared::net::Transport;
use shared::snapshot::{Entrance, InboundHost, Trunk};
use tokio::time::{Instant, timeout};

use super::names::Surroundings;
use crate::names::{self, Answer, Found, Hop, Records, Serves};

/// A name server that needs longer is not there.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);
/// An error that took so long is nobody's answer.
const SILENCE: Duration = Duration::from_secs(1);
/// After so many of them in a row nobody is asked in this round any more: thousands of names would
/// otherwise keep a start waiting for minutes.
const SILENT_MAX: usize = 64;

/// What of this host a trunk has to fit.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    records: Arc<dyn Records>,
    serves: Serves,
    /// A name that is not resolved is waited for; otherwise its trunk is refused.
    patient: bool,
    /// Names in a row that nobody answered about.
    silent: Arc<AtomicUsize>,
}

/// A trunk with the addresses of now.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) trunk: Trunk,
    /// How long its addresses hold.
    pub(super) valid: Duration,
    /// Names that were not resolved, each in one line.
    pub(super) odd: Vec<String>,
}

impl Resolver {
    pub(super) fn new(config: &Config, around: &Surroundings) -> Self {
        let sip = config.sip();
        let serves = Serves {
            udp: !sip.udp_ports().is_empty(),
            tcp: sip.tcp_port().is_some(),
            tls: config.tls().is_some(),
            ipv4: sip.addr().is_none_or(|own| own.is_ipv4()),
            ipv6: sip.addr().map_or(around.ipv6, |own| own.is_ipv6()),
        };
        let (records, silent) = (Arc::clone(&around.records), Arc::default());
        Self { records, serves, patient: false, silent }
    }

    /// For what is in force already, or has to be: a name server that is gone keeps nobody from
    /// starting.
    pub(super) fn patient(self) -> Self {
        Self { patient: true, ..self }
    }

    /// The error is one line; `key` names the trunk in it. `before`: the trunk as it is served.
    pub(super) async fn resolve(
        &self,
        config: &TrunkConfig,
        key: &str,
        before: Option<&Trunk>,
    ) -> Result<Resolved, String> {
        let dest = match &config.outbound_proxy {
            Some(proxy) => (&proxy.host, proxy.transport, "outbound_proxy"),
            None => (&config.dest, config.transport, "dest"),
        };
        let backup = config.backup.as_ref().map(|(dest, by)| (dest, *by, "backup_dest"));
        let ends: Vec<_> = [dest].into_iter().chain(backup).collect();
        for (dest, named, _) in &ends {
            self.check_served(dest, *named, key)?;
        }
        let asked = ends.iter().map(|(dest, named, _)| self.find(dest, *named));
        let hosts = config.inbound.iter().filter_map(|source| match source {
            TrunkSource::Host(host) => Some(host),
            TrunkSource::Network(_) => None,
        });
        let sources = hosts.clone().map(|host| self.addresses(host));
        let (found, sources) = join(join_all(asked), join_all(sources)).await;
        let is_known = before.is_some_and(|before| {
            *before.host == *config.dest.host && before.port == config.dest.port
        });
        let mut resolving = Resolving {
            resolved: Resolved {
                trunk: unresolved(config),
                valid: names::FOR_EVER,
                odd: Vec::new(),
            },
            before,
            // Of a trunk that waits for its name already, nothing new is wrong.
            patient: self.patient || is_known,
        };
        let last = ends.len() - 1;
        for (place, ((dest, named, field), found)) in ends.iter().zip(found).enumerate() {
            let kept = if place < last { KEPT_FOR_BACKUP } else { 0 };
            resolving.enter((dest, *named), &format!("{key}.{field}"), found, kept)?;
        }
        for (host, found) in hosts.zip(sources) {
            resolving.source(host, key, found)?;
        }
        Ok(resolving.resolved)
    }

    fn check_served(
        &self,
        dest: &HostPort,
        named: Option<Transport>,
        key: &str,
    ) -> Result<(), String> {
        // A name may say itself which transports it has.
        let free = named.is_none() && dest.port.is_none() && dest.host.parse::<IpAddr>().is_err();
        let usual = named.unwrap_or(Transport::Udp);
        if free || self.serves.transport(usual) {
            return Ok(());
        }
        let word = usual.uri_word();
        Err(format!("{key}: it is reached over {word}, which is switched off here"))
    }

    async fn find(&self, dest: &HostPort, named: Option<Transport>) -> Result<Found, String> {
        let found = names::find(&*self.records, dest, named, self.serves);
        match dest.host.parse::<IpAddr>() {
            Ok(_) => found.await,
            Err(_) => self.in_time(found).await,
        }
    }

    /// What a name server says, if there is one.
    async fn in_time<T>(
        &self,
        asking: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        if self.silent.load(Ordering::Relaxed) >= SILENT_MAX {
            return Err(late());
        }
        let began = Instant::now();
        let answer = timeout(LOOKUP_DEADLINE, asking).await.unwrap_or_else(|_| Err(late()));
        if answer.is_err() && began.elapsed() >= SILENCE {
            self.silent.fetch_add(1, Ordering::Relaxed);
        } else {
            self.silent.store(0, Ordering::Relaxed);
        }
        answer
    }

    async fn addresses(&self, host: &HostPort) -> Result<Answer<IpAddr>, String> {
        if let Ok(ip) = host.host.parse::<IpAddr>() {
            return Ok(Answer { records: vec![ip], valid: names::FOR_EVER });
        }
        let asking = self.records.addresses(host.host.clone());
        self.in_time(async { asking.await.map_err(|missing| missing.to_string()) }).await
    }
}

/// Places of a trunk that its `dest` leaves to its backup.
const KEPT_FOR_BACKUP: usize = 2;

/// A trunk between its answers.
struct Resolving<'t> {
    resolved: Resolved,
    before: Option<&'t Trunk>,
    patient: bool,
}

impl Resolving<'_> {
    /// Appends the addresses of one destination.
    fn enter(
        &mut self,
        (dest, named): (&HostPort, Option<Transport>),
        key: &str,
        found: Result<Found, String>,
        kept: usize,
    ) -> Result<(), String> {
        let entrances = &mut self.resolved.trunk.entrances;
        let base = entrances.last().map_or(0, |last| last.rank.saturating_add(1));
        let room = ENTRANCES_PER_TRUNK_MAX.saturating_sub(entrances.len() + kept);
        let is_same = |known: &&Entrance| {
            *known.host == *dest.host
                && known.port == dest.port
                && named.is_none_or(|named| named == known.transport)
        };
        let known = self.before.iter().flat_map(|trunk| &trunk.entrances).filter(is_same);
        let known: Vec<Entrance> = known.take(room).cloned().collect();
        let reason = match found {
            Ok(Found { hops, partial, valid }) if !partial || known.is_empty() => {
                self.resolved.valid = self.resolved.valid.min(valid);
                let entrance = |Hop { address, transport, rank, weight }: Hop| Entrance {
                    host: dest.host.as_str().into(),
                    port: dest.port,
                    address,
                    local: local_towards(address),
                    transport,
                    rank: base.saturating_add(rank),
                    weight,
                };
                entrances.extend(hops.into_iter().map(entrance).take(room));
                return Ok(());
            }
            Ok(_) => format!("{key}: {dest} is resolved in part only"),
            Err(reason) => format!("{key}: {dest} {reason}"),
        };
        self.resolved.valid = self.resolved.valid.min(names::ASK_AGAIN);
        let Some(first) = known.first().map(|known| known.rank) else {
            return self.without(reason, "it has no address until then");
        };
        let again = |known: Entrance| {
            let rank = base.saturating_add(known.rank.saturating_sub(first));
            Entrance { rank, ..known }
        };
        entrances.extend(known.into_iter().map(again));
        self.resolved.odd.push(format!("{reason}; the addresses of before are used until then"));
        Ok(())
    }

    fn source(
        &mut self,
        host: &HostPort,
        key: &str,
        found: Result<Answer<IpAddr>, String>,
    ) -> Result<(), String> {
        let is_it = |known: &&InboundHost| *known.host == *host.host && known.port == host.port;
        let reason = match found {
            Ok(Answer { records: mut addresses, valid }) => {
                self.resolved.valid = self.resolved.valid.min(valid);
                // An answer that only turns round says nothing new.
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(SOURCES_PER_NAME_MAX);
                let (host, port) = (host.host.as_str().into(), host.port);
                self.resolved.trunk.inbound.push(InboundHost { host, port, addresses });
                return Ok(());
            }
            Err(reason) => format!("{key}.inbound_hosts: {host} {reason}"),
        };
        self.resolved.valid = self.resolved.valid.min(names::ASK_AGAIN);
        let Some(known) = self.before.and_then(|before| before.inbound.iter().find(is_it)) else {
            return self.without(reason, "its calls are not known until then");
        };
        self.resolved.trunk.inbound.push(known.clone());
        self.resolved.odd.push(format!("{reason}; its addresses of before count until then"));
        Ok(())
    }

    fn without(&mut self, reason: String, until: &str) -> Result<(), String> {
        if !self.patient {
            return Err(reason);
        }
        self.resolved.odd.push(format!("{reason}; {until}"));
        Ok(())
    }
}

fn late() -> String {
    format!("was not resolved within {} s", LOOKUP_DEADLINE.as_secs())
}

fn network(source: &TrunkSource) -> Option<Network> {
    match source {
        TrunkSource::Network(network) => Some(*network),
        TrunkSource::Host(_) => None,
    }
}

/// Everything but addresses.
fn unresolved(config: &TrunkConfig) -> Trunk {
    Trunk {
        name: config.name.as_str().into(),
        host: config.dest.host.as_str().into(),
        port: config.dest.port,
        entrances: Vec::new(),
        inbound: Vec::new(),
        inbound_networks: config.inbound.iter().filter_map(network).collect(),
        max_calls: config.max_calls,
        max_cps: config.max_cps,
        enabled: config.enabled,
        direction: config.direction,
        from_prefix: config.from_prefix.as_deref().map(Into::into),
        to_prefix: config.to_prefix.as_deref().map(Into::into),
        weight: config.weight,
        rewrite_host: config.rewrite_host,
        max_ring: config.max_ring,
        failover: config.failover,
        health: config.health,
        account: config.account.clone(),
        options: Arc::new(config.options.clone()),
    }
}

/// Our address on the way there: the kernel's route, asked without sending anything.
pub(crate) fn local_towards(address: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(address).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;
    use crate::names::{Asking, Naptr, Srv};

    /// Nobody is there.
    #[derive(Debug)]
    struct Silent;

    impl Records for Silent {
        fn naptr(&self, _: String) -> Asking<Naptr> {
            Box::pin(std::future::pending())
        }
        fn srv(&self, _: String) -> Asking<Srv> {
            Box::pin(std::future::pending())
        }
        fn addresses(&self, _: String) -> Asking<IpAddr> {
            Box::pin(std::future::pending())
        }
    }

    fn resolver() -> Resolver {
        let serves = Serves { udp: true, tcp: true, tls: false, ipv4: true, ipv6: false };
        Resolver { records: Arc::new(Silent), serves, patient: true, silent: Arc::default() }
    }

    /// Thousands of trunks by name and no name server: a start waits for some names, not for each.
    #[tokio::test(start_paused = true)]
    async fn a_start_without_a_name_server_does_not_wait_for_every_name() {
        let (resolver, began) = (resolver(), Instant::now());
        let hosts = (0..5_000).map(|number| HostPort::parse(&format!("gw{number}.test")));
        let hosts: Vec<_> = hosts.map(|host| host.expect("a host")).collect();
        let asked = hosts.iter().map(|host| resolver.find(host, None));
        let failed = stream::iter(asked).buffered(64).filter(|found| {
            let failed = found.is_err();
            async move { failed }
        });
        assert_eq!(failed.count().await, hosts.len());
        assert!(began.elapsed() <= 3 * LOOKUP_DEADLINE, "{:?}", began.elapsed());
        // An address needs nobody, whatever happened before.
        let number = HostPort::parse("192.0.2.7:5070").expect("an address");
        let found = resolver.find(&number, None).await.expect("it is one already");
        assert_eq!(found.hops[0].address.to_string(), "192.0.2.7:5070");
    }
}
