//! Who may talk to the programs' side of the gateway: HTTP address, prefixes, AMI sources.
//! Owns:  `Http`, `Network`.
//! Gives: an address that is loopback, prefixes that do not collide, `Network::contains`.
//! Never: opens HTTP to the network while there are no logins.
//! Holds: every prefix starts with a slash, ends without one, and has plain segments.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::file::ConfigFile;
use super::problem::Report;

#[derive(Clone, Debug)]
pub struct Http {
    addr: SocketAddr,
    console: String,
    api: String,
    ami: String,
    ami_allows: Vec<Network>,
}

/// The prefix of our own REST API; not configurable.
pub const OWN_API_PREFIX: &str = "/api/v1";

impl Http {
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `/console`
    pub fn console_prefix(&self) -> &str {
        &self.console
    }

    /// `/api`
    pub fn api_prefix(&self) -> &str {
        &self.api
    }

    /// `/ami/v1`
    pub fn ami_prefix(&self) -> &str {
        &self.ami
    }

    pub fn ami_allows(&self) -> &[Network] {
        &self.ami_allows
    }

    pub(super) fn check(file: &ConfigFile, report: &mut Report<'_>) -> Self {
        let addr = match file.http_addr.as_deref() {
            None => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            Some(text) => loopback(text),
        };
        let addr = addr.unwrap_or_else(|(text, hint)| {
            report.error_try("http_addr", text, hint);
            SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))
        });
        let written = [
            ("console.base_path", &file.console.base_path, "/console"),
            ("console.api_prefix", &file.console.api_prefix, "/api"),
            ("proxy.ami_path", &file.proxy.ami_path, "/ami/v1"),
        ];
        let [console, api, ami] = written.map(|(key, text, default)| match text {
            None => default.to_owned(),
            Some(text) => prefix(key, text, report),
        });
        if console == api || console == ami {
            report.error("console.base_path", format!("\"{console}\" is another prefix too"));
        } else if api == ami {
            report.error("console.api_prefix", format!("\"{api}\" is another prefix too"));
        }
        Self { addr, console, api, ami, ami_allows: allows(file.ami.allows.as_deref(), report) }
    }
}

fn loopback(text: &str) -> Result<SocketAddr, (String, String)> {
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let addr: SocketAddr = named.as_deref().unwrap_or(text).parse().map_err(|_| {
        (format!("\"{text}\" is not an address and port"), "write \"127.0.0.1:8080\"".to_owned())
    })?;
    if addr.ip().to_canonical().is_loopback() {
        return Ok(addr);
    }
    let port = addr.port();
    Err((
        format!("{addr} would open HTTP to the network, and there are no logins yet"),
        format!(
            "use \"127.0.0.1:{port}\" and reach it with: ssh -L {port}:127.0.0.1:{port} THIS_HOST"
        ),
    ))
}

fn prefix(key: &str, text: &str, report: &mut Report<'_>) -> String {
    let plain = |segment: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
        !segment.is_empty() && segment.chars().all(fits)
    };
    let trimmed = text.trim_end_matches('/');
    let fits = trimmed.strip_prefix('/').is_some_and(|path| path.split('/').all(plain));
    if !fits {
        report.error_try(key, format!("\"{text}\" is not a path prefix"), "write \"/name\"");
    } else if trimmed == OWN_API_PREFIX {
        report.error(key, format!("\"{OWN_API_PREFIX}\" is the prefix of the newer API"));
    }
    trimmed.to_owned()
}

fn allows(written: Option<&[String]>, report: &mut Report<'_>) -> Vec<Network> {
    let Some(written) = written else { return Network::LOOPBACK.to_vec() };
    let mut networks = Vec::new();
    for (place, text) in written.iter().enumerate() {
        match Network::parse(text) {
            Some(network) => networks.push(network),
            None => report.error_try(
                &format!("ami.allows[{place}]"),
                format!("\"{text}\" is neither an address nor a network"),
                "write \"10.0.0.5\", \"10.0.0.0/8\" or \"*\"",
            ),
        }
    }
    networks
}

/// A set of source addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    All,
    /// The first `bits` bits of the address count.
    Prefix {
        ip: IpAddr,
        bits: u8,
    },
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Prefix { ip, bits } => write!(f, "{ip}/{bits}"),
        }
    }
}

impl Network {
    pub const LOOPBACK: [Self; 2] = [
        Self::Prefix { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), bits: 32 },
        Self::Prefix { ip: IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), bits: 128 },
    ];

    /// `*`, an address, or a network in CIDR form.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().ok()?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|b| *b <= most))?;
        Some(Self::Prefix { ip, bits })
    }

    /// An IPv4 address that came in over an IPv6 socket counts as IPv4.
    pub fn contains(&self, source: IpAddr) -> bool {
        let Self::Prefix { ip, bits } = self else { return true };
        match (*ip, source.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(source)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0);
                (net.to_bits() ^ source.to_bits()) & mask == 0
            }
            (IpAddr::V6(net), IpAddr::V6(source)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(*bits)).unwrap_or(0);
                (net.to_bits() ^ source.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_their_bits_say() {
        let inside = |network: &str, source: &str| {
            let network = Network::parse(network).expect("a network");
            network.contains(source.parse().expect("an address"))
        };
        assert!(inside("10.0.0.0/8", "10.200.3.4"));
        assert!(!inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(inside("0.0.0.0/0", "192.0.2.1"));
        assert!(!inside("0.0.0.0/0", "2001:db8::1"));
        assert!(inside("2001:db8::/32", "2001:db8:1::1"));
        assert!(inside("*", "2001:db8::1"));
        assert!(!inside("127.0.0.1", "127.0.0.2"));
        for wrong in ["", "10.0.0.0/33", "10.0.0", "::/129", "localhost", "10.0.0.0/-1"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
