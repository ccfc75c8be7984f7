//! What a dialled address is: a user of ours, a trunk or another host with an address, or nowhere.
//! Owns:  the reading of the Request-URI.
//! Gives: `Place` for what is dialled, `hop` for what a program named; the registrar, here or on
//!        another shard, turns a user into contacts.
//! Never: asks the network.
//! Holds: nobody calls out but to a configured trunk, or to where the HTTP router sends the call.

use std::net::{IpAddr, SocketAddr};

use shared::ask::{RouteTarget, TargetAddress};
use shared::net::{Destination, Source, Transport};
use shared::settings::ShardSettings;
use shared::snapshot::{Entrance, Trunk};
use sip::wire::{Host, Scheme, Uri};

use crate::b2bua::{Hop, Target};
use crate::desk::Desk;
use crate::entrances;
use crate::gruu;
use crate::hunting::host_target;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// User part of the AOR.
    User(Box<str>),
    Trunk {
        name: Box<str>,
        way: Destination,
    },
    /// Of this name the snapshot knows nobody, but the user backends may: who is registered is here.
    Unlisted(Box<str>),
    /// The status that says why not.
    Nowhere(u16),
}

/// `random` picks among equal addresses of a trunk.
pub(crate) fn locate(desk: &Desk, uri: &[u8], from: &Source, random: u64) -> Place {
    let uri = match read(uri, from.transport.is_secure()) {
        Ok(uri) => uri,
        Err(status) => return Place::Nowhere(status),
    };
    if let Some(trunk) = trunk_for(desk, &uri) {
        return match first_way(desk, trunk, from, random) {
            Ok(way) => Place::Trunk { name: trunk.name.clone(), way },
            Err(status) => Place::Nowhere(status),
        };
    }
    if is_ours(desk, &uri, from) { user(desk, &uri) } else { Place::Nowhere(404) }
}

/// A target that the router named. That authorises it, so it may be any host. `asked` is the
/// Request-URI of the caller: the name that it called us by is ours even where no domain is
/// configured.
pub(crate) fn hop(
    desk: &Desk,
    named: &RouteTarget,
    asked: &[u8],
    from: &Source,
    random: u64,
) -> Hop {
    let nowhere = |status| Hop::Nowhere { uri: named.uri.clone(), status };
    let text = named.uri.as_bytes();
    let uri = match read(text, false) {
        Ok(uri) => uri,
        Err(status) => return nowhere(status),
    };
    if let Some(trunk) = trunk_for(desk, &uri) {
        let target = |way| Hop::Target(host_target(text, Some(&trunk.name), way));
        return first_way(desk, trunk, from, random).map_or_else(nowhere, target);
    }
    match named.at {
        Some(at) if !is_named_ours(desk, &uri, asked, from) => {
            let TargetAddress { transport, peer, local } = at;
            let target = |way| Hop::Target(host_target(text, None, way));
            way_over(desk, transport, peer, local, from).map_or_else(|| nowhere(500), target)
        }
        None if !is_ours(desk, &uri, from) => nowhere(404),
        _ => match user(desk, &uri) {
            Place::User(user) | Place::Unlisted(user) => Hop::User(user),
            Place::Nowhere(status) => nowhere(status),
            Place::Trunk { .. } => nowhere(500),
        },
    }
}

/// A URI that can be called, or the status that says why not. `sips` promises TLS on the whole way: who
/// asks for it in the clear has broken the promise before us.
fn read(text: &[u8], is_secure: bool) -> Result<Uri<'_>, u16> {
    let uri = Uri::parse(text).map_err(|_| 400_u16)?;
    match uri.scheme {
        Scheme::Sip => Ok(uri),
        Scheme::Sips if is_secure => Ok(uri),
        Scheme::Sips | Scheme::Other => Err(416),
        Scheme::Tel => Err(404),
    }
}

fn user(desk: &Desk, uri: &Uri<'_>) -> Place {
    let named = uri.user_unescaped();
    let behind = gruu::user_of(desk, uri);
    let named = std::str::from_utf8(&named).ok();
    let Some(user) = behind.as_deref().or(named) else { return Place::Nowhere(404) };
    match desk.snapshot.users.get(user) {
        Some(known) if known.enabled => Place::User(user.into()),
        Some(_) => Place::Nowhere(480),
        None if desk.snapshot.remote_users.is_some() && !user.is_empty() => {
            Place::Unlisted(user.into())
        }
        None => Place::Nowhere(404),
    }
}

/// A trunk whose host is the URI's; with a port in the URI that has to be the trunk's too.
fn trunk_for<'s>(desk: &'s Desk, uri: &Uri<'_>) -> Option<&'s Trunk> {
    let open = |trunk: &&Trunk| trunk.enabled && trunk.direction.takes_calls();
    desk.snapshot.trunks.iter().filter(open).find(|trunk| {
        let default = trunk.port_default();
        let port = uri.port.unwrap_or(default);
        let is_behind = |ip: IpAddr| {
            let proxied = trunk.options.route.is_some() && trunk.host.parse() == Ok(ip);
            proxied && port == trunk.port.unwrap_or(default)
        };
        let is_at = |ip: IpAddr| {
            is_behind(ip) || trunk.entrances.iter().any(|at| at.address == (ip, port).into())
        };
        match uri.host {
            Host::Name(name) => {
                name.eq_ignore_ascii_case(trunk.host.as_bytes())
                    && port == trunk.port.unwrap_or(default)
            }
            Host::V4(ip) => is_at(ip.into()),
            Host::V6(ip) => is_at(ip.into()),
        }
    })
}

/// The way to the first of a trunk's addresses that we reach, or the status that says why there is none.
fn first_way(desk: &Desk, trunk: &Trunk, from: &Source, random: u64) -> Result<Destination, u16> {
    if trunk.entrances.is_empty() {
        return Err(503);
    }
    let mut entrances = entrances::in_order(trunk, random);
    entrances.find_map(|entrance| way_to(desk, trunk, entrance, from)).ok_or(500)
}

/// The same target at the other addresses of its trunk.
pub(crate) fn others_of(desk: &Desk, target: &Target, from: &Source, random: u64) -> Vec<Target> {
    let Some(name) = &target.trunk else { return Vec::new() };
    let Some(trunk) = desk.snapshot.trunks.iter().find(|trunk| trunk.name == *name) else {
        return Vec::new();
    };
    let others = entrances::in_order(trunk, random).filter_map(|at| way_to(desk, trunk, at, from));
    let others = others.filter(|way| *way != target.way);
    others.map(|way| Target { way, ..target.clone() }).collect()
}

/// To one address of a trunk, under the certificate that it knows us by.
pub(crate) fn way_to(
    desk: &Desk,
    trunk: &Trunk,
    to: &Entrance,
    from: &Source,
) -> Option<Destination> {
    let way = way_over(desk, to.transport, to.address, to.local, from)?;
    Some(Destination { shows: trunk.shows(to.transport), ..way })
}

/// From the listener of that transport and family; `local` is our address where it has none.
fn way_over(
    desk: &Desk,
    transport: Transport,
    peer: SocketAddr,
    local: Option<IpAddr>,
    from: &Source,
) -> Option<Destination> {
    let listeners = match transport {
        Transport::Udp => &desk.settings.udp,
        Transport::Tcp => &desk.settings.tcp,
        Transport::Tls => &desk.settings.tls,
        // WebSocket clients connect to us; nobody is connected to.
        Transport::Ws | Transport::Wss => return None,
    };
    let listener = listeners.iter().find(|address| address.is_ipv4() == peer.is_ipv4())?;
    let ip = if listener.ip().is_unspecified() {
        let same_family = from.local.is_ipv4() == peer.is_ipv4();
        local.or_else(|| same_family.then(|| from.local.ip()))?
    } else {
        listener.ip()
    };
    let local = SocketAddr::new(ip, listener.port());
    Some(Destination { transport, local, peer, flow: None, shows: None })
}

/// Ours beyond doubt: a configured name, one of our listeners, or what the caller called us by.
fn is_named_ours(desk: &Desk, uri: &Uri<'_>, asked: &[u8], from: &Source) -> bool {
    let settings = &desk.settings;
    let port = uri.port.unwrap_or(5060);
    if settings.domains.is_empty()
        && let Ok(asked) = Uri::parse(asked)
        && asked.port.unwrap_or(5060) == port
        && same_host(asked.host, uri.host)
    {
        return true;
    }
    let ip = match uri.host {
        Host::Name(name) => {
            let same = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            return same(&settings.realm) || settings.domains.iter().any(|known| same(known));
        }
        Host::V4(ip) => IpAddr::V4(ip),
        Host::V6(ip) => IpAddr::V6(ip),
    };
    // Another program may listen beside us on the same address: the port tells.
    let mut listeners = listeners(settings);
    let is_listener = |listener: &SocketAddr| {
        let own = listener.ip() == ip
            || (listener.ip().is_unspecified()
                && (from.local.ip() == ip || settings.external_ip.contains(&ip)));
        own && listener.port() == port
    };
    listeners.any(is_listener) || (settings.external_ip.contains(&ip) && from.local.port() == port)
}

/// Every address that we listen on.
fn listeners(settings: &ShardSettings) -> impl Iterator<Item = &SocketAddr> {
    let web = settings.web.ws.iter().chain(&settings.web.wss);
    settings.udp.iter().chain(&settings.tcp).chain(&settings.tls).chain(web)
}

fn same_host(one: Host<'_>, other: Host<'_>) -> bool {
    match (one, other) {
        (Host::Name(one), Host::Name(other)) => one.eq_ignore_ascii_case(other),
        (one, other) => one == other,
    }
}

/// Ours: a configured domain, the realm, one of our addresses, the address it was sent to. Without
/// configured domains every host that is no trunk counts, since phones register under any name.
fn is_ours(desk: &Desk, uri: &Uri<'_>, from: &Source) -> bool {
    let settings = &desk.settings;
    if settings.domains.is_empty() {
        return true;
    }
    let ip = match uri.host {
        Host::Name(name) => {
            let same = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            return same(&settings.realm) || settings.domains.iter().any(|known| same(known));
        }
        Host::V4(ip) => IpAddr::V4(ip),
        Host::V6(ip) => IpAddr::V6(ip),
    };
    let mut listeners = listeners(settings);
    from.local.ip() == ip
        || settings.external_ip.contains(&ip)
        || listeners.any(|listener| listener.ip() == ip)
        || settings.domains.iter().any(|known| known.parse() == Ok(ip))
}
