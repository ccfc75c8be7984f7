//! Sources that may hold many connections: trunks, networks that the acl names, and this host.
//! Owns:  what of the snapshot says so, and how many each may hold.
//! Gives: `flows_max` for a source; `source_of`: whose connection it is.
//! Never: a look at the acl or the trunks for a source with a few connections.
//! Holds: a proxy, or an office behind one address, is let in by a line of the configuration; whom
//!        nobody names keeps the bound of strangers.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use shared::acl::Acl;
use shared::config::Network;
use shared::limits;
use shared::snapshot::{Snapshot, Trunk};

use super::SipTcp;

#[derive(Debug, Default)]
pub(super) struct Known {
    trunks: Arc<Vec<Trunk>>,
    acl: Arc<Acl>,
    /// This host is known once a snapshot is.
    is_served: bool,
}

impl Known {
    fn has(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        (self.is_served && source.is_loopback()) || self.is_named(source) || self.is_trunks(source)
    }

    /// The rule that admits it is about it, and not about everybody.
    fn is_named(&self, source: IpAddr) -> bool {
        let rule = self.acl.0.iter().find(|rule| rule.network.contains(source));
        let everybody = |network| matches!(network, Network::All | Network::Prefix { bits: 0, .. });
        rule.is_some_and(|rule| rule.allow && !everybody(rule.network))
    }

    fn is_trunks(&self, source: IpAddr) -> bool {
        self.trunks.iter().filter(|trunk| trunk.enabled).any(|trunk| {
            let is_it = |ip: IpAddr| ip.to_canonical() == source;
            trunk.entrances.iter().any(|entrance| is_it(entrance.address.ip()))
                || trunk.inbound.iter().flat_map(|host| &host.addresses).any(|ip| is_it(*ip))
                || trunk.inbound_networks.iter().any(|network| network.contains(source))
        })
    }
}

impl SipTcp {
    /// Who is known has changed.
    pub(crate) fn expect_sources(&mut self, snapshot: &Snapshot) {
        let (trunks, acl) = (Arc::clone(&snapshot.trunks), Arc::clone(&snapshot.acl));
        self.known = Known { trunks, acl, is_served: true };
    }

    /// Whether one more connection of `source`, which has `held`, is one too many.
    pub(super) fn holds_too_many(&self, source: IpAddr, held: usize) -> bool {
        held >= limits::FLOWS_PER_SOURCE_MAX
            && (held >= limits::FLOWS_PER_KNOWN_SOURCE_MAX || !self.known.has(source))
    }
}

/// An IPv4 address, or the 64 bits of an IPv6 network: one customer.
pub(super) fn source_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use shared::acl::AclRule;
    use shared::net::Transport;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn trunks_named_networks_and_this_host_are_known_and_nobody_else() {
        let at = "198.51.100.7:5061".parse().expect("an address");
        let trunk = Trunk::plain("carrier", "carrier.test", at, Transport::Tls);
        let off = "198.51.100.8:5061".parse().expect("an address");
        let off = Trunk { enabled: false, ..Trunk::plain("off", "off.test", off, Transport::Tls) };
        let rules = ["deny 10.0.0.9", "allow 10.0.0.0/8", "allow 0.0.0.0/0", "allow all"];
        let rules = rules.map(|rule| AclRule::parse(rule).expect("a rule"));
        let known = Known {
            trunks: Arc::new(vec![trunk, off]),
            acl: Arc::new(Acl(rules.to_vec())),
            is_served: true,
        };
        for source in ["198.51.100.7", "::ffff:198.51.100.7", "10.0.0.1", "127.0.0.1", "::1"] {
            assert!(known.has(ip(source)), "{source}");
        }
        for source in ["198.51.100.8", "10.0.0.9", "203.0.113.1", "2001:db8::1"] {
            assert!(!known.has(ip(source)), "{source}");
        }
        assert!(!Known::default().has(ip("127.0.0.1")));
    }

    #[test]
    fn one_customer_of_ipv6_is_one_source() {
        assert_eq!(source_of(ip("2001:db8:1:2::1")), source_of(ip("2001:db8:1:2:ffff::9")));
        assert_ne!(source_of(ip("2001:db8:1:2::1")), source_of(ip("2001:db8:1:3::1")));
        assert_eq!(source_of(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }
}
