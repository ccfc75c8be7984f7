//! What a dialled address is: a user of ours, a trunk with a static address, or nowhere.
//! Owns:  the reading of the Request-URI.
//! Gives: `Place`; the registrar, here or on another shard, turns a user into contacts.
//! Never: asks the network.
//! Holds: nobody calls out but to a configured trunk.

use std::net::{IpAddr, SocketAddr};

use shared::net::{Destination, Source, Transport};
use shared::snapshot::Trunk;
use sip::wire::{Host, Scheme, Uri};

use crate::desk::Desk;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// User part of the AOR.
    User(Box<str>),
    Trunk {
        name: Box<str>,
        way: Destination,
    },
    /// The status that says why not.
    Nowhere(u16),
}

pub(crate) fn locate(desk: &Desk, uri: &[u8], from: &Source) -> Place {
    let Ok(uri) = Uri::parse(uri) else { return Place::Nowhere(400) };
    match uri.scheme {
        Scheme::Sip => {}
        // TLS transports come later; a promise of end-to-end security cannot be kept without them.
        Scheme::Sips | Scheme::Other => return Place::Nowhere(416),
        Scheme::Tel => return Place::Nowhere(404),
    }
    if let Some(trunk) = trunk_for(desk, &uri) {
        return match way_to(desk, trunk, from) {
            Some(way) => Place::Trunk { name: trunk.name.clone(), way },
            None => Place::Nowhere(500),
        };
    }
    if !is_ours(desk, &uri, from) {
        return Place::Nowhere(404);
    }
    let user = uri.user_unescaped();
    let Ok(user) = std::str::from_utf8(&user) else { return Place::Nowhere(404) };
    match desk.snapshot.users.get(user) {
        Some(known) if known.enabled => Place::User(user.into()),
        Some(_) => Place::Nowhere(480),
        None => Place::Nowhere(404),
    }
}

/// A trunk whose host is the URI's; with a port in the URI that has to be the trunk's too.
fn trunk_for<'s>(desk: &'s Desk, uri: &Uri<'_>) -> Option<&'s Trunk> {
    let open = |trunk: &&Trunk| trunk.enabled && trunk.direction.takes_calls();
    desk.snapshot.trunks.iter().filter(open).find(|trunk| {
        let host = match uri.host {
            Host::Name(name) => name.eq_ignore_ascii_case(trunk.host.as_bytes()),
            Host::V4(ip) => IpAddr::V4(ip) == trunk.address.ip(),
            Host::V6(ip) => IpAddr::V6(ip) == trunk.address.ip(),
        };
        host && uri.port.unwrap_or(5060) == trunk.address.port()
    })
}

pub(crate) fn way_to(desk: &Desk, trunk: &Trunk, from: &Source) -> Option<Destination> {
    let family = |address: &&SocketAddr| address.is_ipv4() == trunk.address.is_ipv4();
    let listeners = match trunk.transport {
        Transport::Udp => &desk.settings.udp,
        _ => &desk.settings.tcp,
    };
    let listener = listeners.iter().find(family)?;
    let ip = if listener.ip().is_unspecified() {
        let same_family = from.local.is_ipv4() == trunk.address.is_ipv4();
        trunk.local.or_else(|| same_family.then(|| from.local.ip()))?
    } else {
        listener.ip()
    };
    Some(Destination {
        transport: trunk.transport,
        local: SocketAddr::new(ip, listener.port()),
        peer: trunk.address,
        flow: None,
    })
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
    from.local.ip() == ip
        || settings.external_ip.contains(&ip)
        || settings.udp.iter().chain(&settings.tcp).any(|listener| listener.ip() == ip)
        || settings.domains.iter().any(|known| known.parse() == Ok(ip))
}
