//! From the SIP URIs that the router names to addresses that a shard can send to.
//! Owns:  the reading of host, port and transport; the wait for the resolver.
//! Gives: `RouteTarget`s in the order in which they were named.
//! Never: holds an answer back for a name that does not resolve: the shard says what becomes of it.
//! Holds: only names are looked up, all at the same time, within the budget of the call.

use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use shared::ask::{RouteTarget, TargetAddress};
use shared::config::{Config, HostPort};
use shared::net::Transport;
use tokio::time::{Instant, timeout_at};

use super::client::Lookup;
use crate::directory::local_towards;

const SIP_PORT: u16 = 5060;

/// What the look-up of a target depends on.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Names of ours and of trunks: the shard knows where they are.
    known: Vec<String>,
    /// The family that we listen on, when it is one.
    ipv4_only: Option<bool>,
}

impl Surroundings {
    pub(super) fn of_config(config: &Config) -> Self {
        let sip = config.sip();
        let trunks = config.trunks().iter().map(|trunk| trunk.dest.host.as_str());
        let names = sip.realms().iter().map(String::as_str).chain([sip.realm()]).chain(trunks);
        Self {
            known: names.map(str::to_ascii_lowercase).collect(),
            ipv4_only: sip.addr().map(|ip| ip.is_ipv4()),
        }
    }

    pub(super) async fn locate(
        &self,
        uris: Vec<String>,
        lookup: &dyn Lookup,
        until: Instant,
    ) -> Vec<RouteTarget> {
        let located = uris.into_iter().map(|uri| async move {
            let at = self.locate_one(&uri, lookup, until).await;
            RouteTarget { uri, at }
        });
        join_all(located).await
    }

    async fn locate_one(
        &self,
        uri: &str,
        lookup: &dyn Lookup,
        until: Instant,
    ) -> Option<TargetAddress> {
        let (host, transport) = read(uri)?;
        let addresses = match host.host.parse() {
            Ok(ip) => vec![ip],
            Err(_) if self.known.contains(&host.host.to_ascii_lowercase()) => return None,
            Err(_) => timeout_at(until, lookup.look_up(host.host.to_ascii_lowercase()))
                .await
                .ok()?
                .ok()?,
        };
        let peer = SocketAddr::new(self.best(&addresses)?, host.port.unwrap_or(SIP_PORT));
        Some(TargetAddress { transport, peer, local: local_towards(peer) })
    }

    /// IPv4 first where both are served: not every host has a way to IPv6.
    fn best(&self, addresses: &[IpAddr]) -> Option<IpAddr> {
        let of_family = |v4| addresses.iter().copied().find(|ip| ip.is_ipv4() == v4);
        match self.ipv4_only {
            Some(v4) => of_family(v4),
            None => of_family(true).or_else(|| of_family(false)),
        }
    }
}

/// Host and transport of a `sip:` URI. Others have none that we could use.
fn read(uri: &str) -> Option<(HostPort, Transport)> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("sip") {
        return None;
    }
    // An @ inside the user part is escaped (RFC 3261 25.1).
    let rest = rest.split_once('@').map_or(rest, |(_, host)| host);
    let (host, params) = rest.split_once(';').unwrap_or((rest, ""));
    let host = HostPort::parse(host).ok()?;
    let named = params.split(';').find_map(|param| {
        let (name, value) = param.split_once('=')?;
        name.eq_ignore_ascii_case("transport").then_some(value)
    });
    let transport = match named.map(str::to_ascii_lowercase).as_deref() {
        None | Some("udp") => Transport::Udp,
        Some("tcp") => Transport::Tcp,
        Some(_) => return None,
    };
    Some((host, transport))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::client::Looking;
    use super::*;

    #[derive(Debug)]
    struct Book;

    impl Lookup for Book {
        fn look_up(&self, host: String) -> Looking {
            Box::pin(async move {
                let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
                match host.as_str() {
                    "internal" => Ok(vec![ip("::1"), ip("127.0.0.9")]),
                    "slow" => std::future::pending().await,
                    "ours.example" => panic!("nobody looks up what we are"),
                    _ => Err(std::io::Error::other("unknown")),
                }
            })
        }
    }

    fn config(text: &str) -> Config {
        let sources = shared::config::Sources {
            file: Some(("test.toml", text)),
            env: Vec::new(),
            read_secret: &|_| Err("none".to_owned()),
            strict: true,
        };
        shared::config::load(&sources).config.expect("it is valid")
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_and_names_become_addresses_and_the_rest_is_left_to_the_shard() {
        let config = config("[proxy]\naddr = \"127.0.0.1\"\nrealms = [\"ours.example\"]\n");
        let surroundings = Surroundings::of_config(&config);
        let uris = [
            "sip:a;x=1@127.0.0.2:5070",
            "sip:bot@Internal;transport=TCP",
            "sip:1002@ours.example",
            "sip:x@nowhere.example",
            "sip:x@slow",
            "sips:x@127.0.0.3",
            "tel:+49",
            "sip:x@127.0.0.4;transport=tls",
            "sip:x@[::1]",
        ];
        let until = Instant::now() + Duration::from_secs(2);
        let uris_named = uris.map(str::to_owned).to_vec();
        let found = surroundings.locate(uris_named, &Book, until).await;
        assert!(Instant::now() <= until, "the slow one costs the budget and no more");
        let at: Vec<_> = found
            .iter()
            .map(|target| target.at.map(|at| (at.transport.uri_word(), at.peer.to_string())))
            .collect();
        let none = None;
        let expected = [
            Some(("udp", "127.0.0.2:5070".to_owned())),
            Some(("tcp", "127.0.0.9:5060".to_owned())),
        ];
        assert_eq!(at[..2], expected);
        assert!(at[2..].iter().all(|at| *at == none), "{at:?}");
        assert_eq!(found.iter().map(|target| target.uri.as_str()).collect::<Vec<_>>(), uris);
        let local = found[0].at.and_then(|at| at.local).expect("there is a route to loopback");
        assert!(local.is_loopback());
    }
}
