//! From a host to where its SIP server listens (RFC 3263 4.1 and 4.2).
//! Owns:  which questions follow which, and how their answers are ranked.
//! Gives: `find`.
//! Never: an address of a family or a transport that we do not serve.
//! Holds: at most `ENTRANCES_PER_TRUNK_MAX` addresses, the best first; when one name of several fails,
//!        the others are used and the question is asked again soon.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use shared::config::HostPort;
use shared::limits::ENTRANCES_PER_TRUNK_MAX;
use shared::net::Transport;

use tokio::time::timeout;

use super::{ASK_AGAIN, Answer, Missing, Naptr, Records, Srv};

/// An address that was written as a number.
pub const FOR_EVER: Duration = Duration::MAX;
/// Name servers that do not know what NAPTR is may say nothing.
const NAPTR_WAIT: Duration = Duration::from_millis(1_500);
/// SRV records that are looked at: of one name a server may send thousands.
const TARGETS_MAX: usize = 16;

/// What we listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serves {
    pub udp: bool,
    pub tcp: bool,
    pub tls: bool,
    pub ipv4: bool,
    pub ipv6: bool,
}

impl Serves {
    pub const fn transport(self, transport: Transport) -> bool {
        match transport {
            Transport::Udp => self.udp,
            Transport::Tcp => self.tcp,
            Transport::Tls => self.tls,
            Transport::Ws | Transport::Wss => false,
        }
    }

    const fn family(self, ip: IpAddr) -> bool {
        if ip.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub address: SocketAddr,
    pub transport: Transport,
    /// Lower ones first.
    pub rank: u16,
    /// Among those of one rank.
    pub weight: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// At least one, in order of rank.
    pub hops: Vec<Hop>,
    /// Some of the names were not resolved: there may be more.
    pub partial: bool,
    pub valid: Duration,
}

/// Where SRV records may be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    name: String,
    transport: Transport,
}

/// A name with a port: the target of an SRV record, or the host itself.
struct Target {
    service: usize,
    priority: u16,
    weight: u16,
    name: String,
    port: u16,
    transport: Transport,
}

/// `named`: the transport that the configuration asks for. The error is the end of a sentence that
/// begins with the host.
pub async fn find(
    records: &dyn Records,
    dest: &HostPort,
    named: Option<Transport>,
    serves: Serves,
) -> Result<Found, String> {
    let spoken = [Transport::Udp, Transport::Tcp].into_iter().find(|by| serves.transport(*by));
    let usual = named.or(spoken).unwrap_or(Transport::Udp);
    if let Ok(ip) = dest.host.parse::<IpAddr>() {
        let address = SocketAddr::new(ip, dest.port.unwrap_or_else(|| usual.port()));
        let hop = Hop { address, transport: usual, rank: 0, weight: 0 };
        return ranked([((0, 0), hop)].into(), serves).map(|hops| Found {
            hops,
            partial: false,
            valid: FOR_EVER,
        });
    }
    let mut so_far = SoFar { valid: FOR_EVER, partial: false };
    let mut targets = Vec::new();
    if dest.port.is_none() {
        let services = services(records, &dest.host, named, serves, &mut so_far).await;
        targets = targets_of(records, services, &mut so_far).await?;
    }
    if targets.is_empty() {
        let (name, port) = (dest.host.clone(), dest.port.unwrap_or_else(|| usual.port()));
        let transport = usual;
        targets.push(Target { service: 0, priority: 0, weight: 0, name, port, transport });
    }
    let asked = targets.iter().map(|target| records.addresses(target.name.clone()));
    let mut hops = Vec::new();
    let mut failed = None;
    for (target, answer) in targets.iter().zip(join_all(asked).await) {
        match answer {
            Ok(Answer { records, valid: holds }) => {
                so_far.holds(holds);
                hops.extend(hops_at(target, &records, serves));
            }
            Err(missing) => failed = Some(missing),
        }
    }
    match failed {
        Some(missing) if hops.is_empty() => return Err(missing.to_string()),
        Some(_) => so_far.lacks(),
        None => {}
    }
    let SoFar { valid, partial } = so_far;
    ranked(hops, serves).map(|hops| Found { hops, partial, valid })
}

/// What the answers so far allow.
struct SoFar {
    valid: Duration,
    partial: bool,
}

impl SoFar {
    fn holds(&mut self, valid: Duration) {
        self.valid = self.valid.min(valid);
    }

    fn lacks(&mut self) {
        self.partial = true;
        self.holds(ASK_AGAIN);
    }
}

/// The names of SRV records to ask for, in order.
async fn services(
    records: &dyn Records,
    host: &str,
    named: Option<Transport>,
    serves: Serves,
    so_far: &mut SoFar,
) -> Vec<Service> {
    let usual = |transport| {
        let name = format!("{}.{host}", label(transport));
        Service { name, transport }
    };
    if let Some(named) = named {
        return vec![usual(named)];
    }
    // Not every name server knows what NAPTR is: one that fails here is asked for the rest.
    let asked = timeout(NAPTR_WAIT, records.naptr(host.to_owned())).await;
    if let Ok(Ok(Answer { records, valid })) = asked {
        let found = of_naptr(records, serves);
        if !found.is_empty() {
            so_far.holds(valid);
            return found;
        }
    }
    let open = [Transport::Udp, Transport::Tcp].into_iter();
    open.filter(|transport| serves.transport(*transport)).map(usual).collect()
}

fn of_naptr(mut records: Vec<Naptr>, serves: Serves) -> Vec<Service> {
    records.sort_by_key(|record| (record.order, record.preference));
    let service = |record: Naptr| {
        let transport = match record.service.to_ascii_uppercase().as_str() {
            "SIP+D2U" => Transport::Udp,
            "SIP+D2T" => Transport::Tcp,
            "SIPS+D2T" => Transport::Tls,
            _ => return None,
        };
        let fits = record.flags.eq_ignore_ascii_case("s") && serves.transport(transport);
        fits.then_some(Service { name: record.replacement, transport })
    };
    records.into_iter().filter_map(service).take(TARGETS_MAX).collect()
}

const fn label(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp | Transport::Ws | Transport::Wss => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
    }
}

/// None when there are no such records; then the host itself is asked for.
async fn targets_of(
    records: &dyn Records,
    services: Vec<Service>,
    so_far: &mut SoFar,
) -> Result<Vec<Target>, String> {
    let asked = services.iter().map(|service| records.srv(service.name.clone()));
    let answers = join_all(asked).await;
    let mut targets = Vec::new();
    let (mut refused, mut failed) = (false, None);
    for (number, (service, answer)) in services.iter().zip(answers).enumerate() {
        let Answer { records, valid: holds } = match answer {
            Ok(answer) => answer,
            Err(Missing::Unknown) => continue,
            Err(missing) => {
                failed = Some(missing);
                continue;
            }
        };
        so_far.holds(holds);
        let target = |Srv { priority, weight, port, target }| Target {
            service: number,
            priority,
            weight,
            name: target,
            port,
            transport: service.transport,
        };
        let (here, gone): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.target != "." && record.port > 0);
        refused |= !gone.is_empty();
        targets.extend(here.into_iter().map(target));
    }
    match failed {
        // Whether there is a server of its own for SIP is not known: the host may be only the web's.
        Some(missing) if targets.is_empty() => return Err(missing.to_string()),
        Some(_) => so_far.lacks(),
        None if targets.is_empty() && refused => {
            return Err("says that it has no SIP server".to_owned());
        }
        None => {}
    }
    targets.sort_by_key(|target| (target.service, target.priority));
    targets.truncate(TARGETS_MAX);
    Ok(targets)
}

type Key = (usize, u32);

/// IPv4 before IPv6 where both are served: not every host has a way to IPv6.
fn hops_at(target: &Target, found: &[IpAddr], serves: Serves) -> Vec<(Key, Hop)> {
    let fit: Vec<IpAddr> = found.iter().copied().filter(|ip| serves.family(*ip)).collect();
    let hop = |ip: IpAddr| {
        let of_family = fit.iter().filter(|other| other.is_ipv4() == ip.is_ipv4()).count();
        // A target with two addresses gets no more calls than it asks for.
        let share = target.weight / u16::try_from(of_family).unwrap_or(u16::MAX).max(1);
        let weight = if target.weight > 0 { share.max(1) } else { 0 };
        let address = SocketAddr::new(ip, target.port);
        let key = (target.service, u32::from(target.priority) * 2 + u32::from(ip.is_ipv6()));
        (key, Hop { address, transport: target.transport, rank: 0, weight })
    };
    fit.iter().copied().map(hop).collect()
}

/// Sorted by address, too: an answer that only turns round says nothing new.
fn ranked(mut hops: Vec<(Key, Hop)>, serves: Serves) -> Result<Vec<Hop>, String> {
    hops.retain(|(_, hop)| serves.family(hop.address.ip()));
    hops.sort_by_key(|(key, hop)| (*key, hop.address));
    let mut ranked: Vec<Hop> = Vec::new();
    let (mut rank, mut before) = (0_u16, None);
    for (key, hop) in hops {
        let is_known = |one: &Hop| (one.address, one.transport) == (hop.address, hop.transport);
        if ranked.len() == ENTRANCES_PER_TRUNK_MAX {
            break;
        }
        if ranked.iter().any(is_known) {
            continue;
        }
        if before.is_some_and(|before| before != key) {
            rank += 1;
        }
        before = Some(key);
        ranked.push(Hop { rank, ..hop });
    }
    if ranked.is_empty() {
        return Err("has no address of a family that we listen on".to_owned());
    }
    Ok(ranked)
}

#[cfg(test)]
mod tests;
