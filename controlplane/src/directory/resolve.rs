//! From a trunk as it is written to a trunk that can be called: names become addresses.
//! Owns:  the questions to the name server, and their deadline.
//! Gives: `Trunk`s; `Resolver` knows what this host listens on.
//! Never: a decision about a call.
//! Holds: a trunk that is here has an address of a family that we listen on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use shared::config::{Config, HostPort, TrunkConfig, TrunkSource};
use shared::net::Transport;
use shared::snapshot::{Backup, Trunk};
use tokio::net::lookup_host;
use tokio::time::timeout;

/// A name server that needs longer is not there.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// What of this host a trunk has to fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    /// The only address that we listen on, if there is one.
    own: Option<IpAddr>,
    ipv6: bool,
    udp: bool,
    tcp: bool,
    tls: bool,
}

impl Resolver {
    pub(super) fn new(config: &Config, ipv6: bool) -> Self {
        let sip = config.sip();
        Self {
            own: sip.addr(),
            ipv6,
            udp: !sip.udp_ports().is_empty(),
            tcp: sip.tcp_port().is_some(),
            tls: config.tls().is_some(),
        }
    }

    /// The error is one line; `key` names the trunk in it.
    pub(super) async fn resolve(self, trunk: &TrunkConfig, key: &str) -> Result<Trunk, String> {
        let address = self.find(&trunk.dest, trunk.transport, &format!("{key}.dest")).await?;
        self.check_listens(trunk.transport, key)?;
        let mut backup = None;
        if let Some((dest, transport)) = &trunk.backup {
            let address = self.find(dest, *transport, &format!("{key}.backup_dest")).await?;
            self.check_listens(*transport, key)?;
            let (host, local) = (dest.host.as_str().into(), local_towards(address));
            backup = Some(Backup { host, address, local, transport: *transport });
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
            backup,
            inbound,
            inbound_networks,
            max_calls: trunk.max_calls,
            max_cps: trunk.max_cps,
            enabled: trunk.enabled,
            direction: trunk.direction,
            from_prefix: trunk.from_prefix.as_deref().map(Into::into),
            to_prefix: trunk.to_prefix.as_deref().map(Into::into),
            weight: trunk.weight,
            rewrite_host: trunk.rewrite_host,
            max_ring: trunk.max_ring,
            failover: trunk.failover,
            health: trunk.health,
            account: trunk.account.clone(),
        })
    }

    /// The best address of a family that we listen on.
    async fn find(
        self,
        dest: &HostPort,
        transport: Transport,
        key: &str,
    ) -> Result<SocketAddr, String> {
        let fits = |address: &SocketAddr| match self.own {
            Some(own) => own.is_ipv4() == address.is_ipv4(),
            None => self.ipv6 || address.is_ipv4(),
        };
        let found = look_up(dest, transport.port()).await;
        let found = found.map_err(|reason| format!("{key}: {dest} {reason}"))?;
        found
            .into_iter()
            .find(fits)
            .ok_or_else(|| format!("{key}: {dest} has no address of a family that we listen on"))
    }

    fn check_listens(self, transport: Transport, key: &str) -> Result<(), String> {
        let listens = match transport {
            Transport::Udp => self.udp,
            Transport::Tls => self.tls,
            _ => self.tcp,
        };
        if listens {
            return Ok(());
        }
        let word = transport.uri_word();
        Err(format!("{key}: it is reached over {word}, which is switched off here"))
    }
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
pub(crate) fn local_towards(address: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(address).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}
