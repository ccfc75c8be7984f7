//! Under which address a trunk sees us: `external_ip` of its own.
//! Owns:  which trunks of the snapshot have one.
//! Gives: `Faces::of`, once for each snapshot; `towards`, for each message and description.
//! Never: a look at the trunks where none has such an address.
//! Holds: a peer that is at none of these trunks gets nothing from here.

use std::net::IpAddr;

use shared::snapshot::Trunk;

/// Places in the snapshot's list.
#[derive(Debug, Default)]
pub(crate) struct Faces(Vec<usize>);

impl Faces {
    pub(crate) fn of(trunks: &[Trunk]) -> Self {
        let has_own = |(_, trunk): &(usize, &Trunk)| !trunk.options.external_ip.is_empty();
        Self(trunks.iter().enumerate().filter(has_own).map(|(place, _)| place).collect())
    }

    /// Our address for this peer, of the family of `local`.
    pub(crate) fn towards(&self, trunks: &[Trunk], peer: IpAddr, local: IpAddr) -> Option<IpAddr> {
        let own = self.0.iter().filter_map(|place| trunks.get(*place));
        let trunk = own.into_iter().find(|trunk| trunk.enabled && trunk.is_at(peer))?;
        let mut addresses = trunk.options.external_ip.iter();
        addresses.find(|ip| ip.is_ipv4() == local.is_ipv4()).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::net::Transport;
    use shared::trunk_options::TrunkOptions;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_the_trunk_itself_sees_its_address_of_ours() {
        let at = |last| ([10, 0, 0, last], 5_060).into();
        let plain = Trunk::plain("a", "a.test", at(1), Transport::Udp);
        let options = TrunkOptions { external_ip: vec![ip("192.0.2.1")], ..Default::default() };
        let own = Trunk {
            options: Arc::new(options),
            ..Trunk::plain("b", "b.test", at(2), Transport::Udp)
        };
        let trunks = [plain, own];
        let faces = Faces::of(&trunks);
        let towards = |peer, local| faces.towards(&trunks, ip(peer), ip(local));
        assert_eq!(towards("10.0.0.2", "10.0.0.9"), Some(ip("192.0.2.1")));
        assert_eq!(towards("10.0.0.1", "10.0.0.9"), None);
        assert_eq!(towards("10.0.0.2", "::1"), None, "of the other family it has none");
        assert_eq!(Faces::of(&trunks[..1]).towards(&trunks[..1], ip("10.0.0.2"), ip("::1")), None);
    }
}
