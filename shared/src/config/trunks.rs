//! `[proxy.trunks.NAME]`: carriers and other PBXs with an address that the file names.
//! Owns:  `TrunkConfig`, the form of `dest` and `inbound_hosts`.
//! Gives: hosts and ports; names are resolved by the control plane at start and on reload.
//! Never: asks a name server.
//! Holds: a trunk that is here has a host, a port and a transport that we serve.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::access::Network;
use super::account;
use super::file::TrunkFile;
use super::problem::{Origin, Report};
use super::secret::ReadSecret;
use super::trunk_options;
use crate::account::Account;
use crate::failover::{Failover, FailoverCodes};
use crate::net::Transport;
use crate::snapshot::{HealthChecks, TrunkDirection, WEIGHT_DEFAULT};
use crate::trunk_options::{OutboundProxy, TrunkOptions};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkConfig {
    pub name: String,
    pub dest: HostPort,
    /// `None`: UDP, unless the name says itself what it has (RFC 3263 4.1).
    pub transport: Option<Transport>,
    pub backup: Option<(HostPort, Option<Transport>)>,
    /// Further sources of its calls.
    pub inbound: Vec<TrunkSource>,
    pub max_calls: Option<u32>,
    pub max_cps: Option<u32>,
    pub enabled: bool,
    pub direction: TrunkDirection,
    pub from_prefix: Option<String>,
    pub to_prefix: Option<String>,
    pub weight: u32,
    pub rewrite_host: bool,
    pub max_ring: Option<Duration>,
    pub failover: Failover,
    pub health: Option<HealthChecks>,
    pub account: Option<Arc<Account>>,
    pub options: TrunkOptions,
    /// Where requests go instead of to `dest`, which they name.
    pub outbound_proxy: Option<OutboundProxy>,
    /// Where it was written; a trunk of the database has none.
    pub origin: Origin,
}

/// Where calls of a trunk come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrunkSource {
    /// Without a port any port is its own.
    Host(HostPort),
    Network(Network),
}

impl TrunkSource {
    /// A host, an address, or a network such as `10.0.0.0/8`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.contains('/') {
            return HostPort::parse(text).map(Self::Host);
        }
        let network = Network::parse(text).map(Self::Network);
        network.ok_or_else(|| format!("\"{text}\" is not a network"))
    }
}

/// Letters, digits, `-` and `_`: a name stands in paths and log lines.
pub fn is_trunk_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    !name.is_empty() && name.len() <= 64 && name.chars().all(plain)
}

/// A host name or address, and the port if one was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// IPv6 without brackets.
    pub host: String,
    pub port: Option<u16>,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracket = self.host.contains(':');
        let (open, close) = if bracket { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl HostPort {
    /// `host`, `host:port`, `1.2.3.4:5060`, `[::1]:5060` or a bare IPv6 address.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = if let Ok(ip) = text.parse::<IpAddr>() {
            (ip.to_string(), None)
        } else if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or("the bracket is not closed")?;
            host.parse::<IpAddr>().map_err(|_| format!("\"{host}\" is not an IPv6 address"))?;
            (host.to_owned(), port.strip_prefix(':'))
        } else {
            let (host, port) = text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
            (host.to_owned(), port)
        };
        if host.is_empty() {
            return Err("has no host".to_owned());
        }
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "-._:".contains(c));
        if let Some(odd) = host.chars().find(|c| odd(*c)) {
            return Err(format!("{odd:?} cannot be part of a host name"));
        }
        let port = match port {
            None => None,
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => Some(port),
                _ => return Err(format!("\"{port}\" is not a port")),
            },
        };
        Ok(Self { host, port })
    }
}

pub(super) fn check(
    files: BTreeMap<String, TrunkFile>,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Vec<TrunkConfig> {
    let mut trunks = Vec::new();
    for (name, file) in files {
        let key = format!("proxy.trunks.{name}");
        if !is_trunk_name(&name) {
            report.error(&key, "a trunk name has 1 to 64 letters, digits, - and _");
            continue;
        }
        if let Some(trunk) = trunk(name, file, &key, read, report) {
            trunks.push(trunk);
        }
    }
    trunks
}

fn trunk(
    name: String,
    file: TrunkFile,
    key: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Option<TrunkConfig> {
    let inbound = inbound(&file.inbound_hosts, key, report);
    let failover = failover(&file, key, report);
    let health = health(&file);
    let account = account::check(&file, key, read, report);
    let Some(dest) = file.dest else {
        report.error_try(key, "has no dest", "write dest = \"sip:HOST:PORT\"");
        return None;
    };
    let named = file.transport.as_deref();
    let has_backup = file.backup_dest.as_ref().is_some_and(|text| !text.is_empty());
    let by = named.map(transport_of);
    let (options, outbound_proxy) =
        trunk_options::check(&file.options, by, has_backup, key, report);
    let (dest, transport) = way(&dest, "dest", named, key, report)?;
    let backup = file.backup_dest.filter(|text| !text.is_empty());
    let backup = match backup {
        Some(text) => Some(way(&text, "backup_dest", named, key, report)?),
        None => None,
    };
    Some(TrunkConfig {
        name,
        dest,
        transport,
        backup,
        inbound,
        max_calls: file.max_calls,
        max_cps: file.max_cps.filter(|most| *most > 0),
        enabled: !file.disabled.unwrap_or(false),
        direction: match file.direction.as_deref() {
            Some("inbound") => TrunkDirection::Inbound,
            Some("outbound") => TrunkDirection::Outbound,
            _ => TrunkDirection::Both,
        },
        from_prefix: file.incoming_from_user_prefix.filter(|prefix| !prefix.is_empty()),
        to_prefix: file.incoming_to_user_prefix.filter(|prefix| !prefix.is_empty()),
        weight: file.weight.unwrap_or(WEIGHT_DEFAULT),
        rewrite_host: file.rewrite_hostport.unwrap_or(true),
        max_ring: file.max_ring_time.filter(|seconds| *seconds > 0).map(Duration::from_secs),
        failover,
        health,
        account,
        options,
        outbound_proxy,
        origin: report.origin(key),
    })
}

/// A destination and how it is reached; `named` is the trunk's `transport`.
fn way(
    text: &str,
    field: &str,
    named: Option<&str>,
    key: &str,
    report: &mut Report<'_>,
) -> Option<(HostPort, Option<Transport>)> {
    let own_key = format!("{key}.{field}");
    let (host, found) = match parse_dest(text) {
        Ok(parsed) => parsed,
        Err(text) => {
            report.error_try(&own_key, text, "write \"sip:HOST:PORT\"");
            return None;
        }
    };
    Some((host, named.map(transport_of).or(found)))
}

/// A word of `transport`.
fn transport_of(word: &str) -> Transport {
    match word {
        "tls" => Transport::Tls,
        "tcp" => Transport::Tcp,
        _ => Transport::Udp,
    }
}

fn health(file: &TrunkFile) -> Option<HealthChecks> {
    let usual = HealthChecks::default();
    let checks = HealthChecks {
        interval: file.health_check_interval_secs.map_or(usual.interval, Duration::from_secs),
        timeout: file.health_check_timeout_ms.map_or(usual.timeout, Duration::from_millis),
        failures: file.health_check_probe_count.unwrap_or(usual.failures),
        successes: file.health_check_recovery_count.unwrap_or(usual.successes),
    };
    file.health_check_enabled.unwrap_or(false).then_some(checks)
}

fn failover(file: &TrunkFile, key: &str, report: &mut Report<'_>) -> Failover {
    let codes = match file.failover_codes.as_deref().map(FailoverCodes::parse) {
        None => FailoverCodes::default(),
        Some(Ok(codes)) => codes,
        Some(Err((place, text))) => {
            let key = format!("{key}.failover_codes[{place}]");
            report.error_try(&key, text, "write \"503\" or \"500-599\"");
            FailoverCodes::NONE
        }
    };
    let setup = file.setup_timeout_ms.map_or(Failover::SETUP_DEFAULT, Duration::from_millis);
    Failover { setup, codes }
}

fn inbound(hosts: &[String], key: &str, report: &mut Report<'_>) -> Vec<TrunkSource> {
    let mut inbound = Vec::new();
    for (place, text) in hosts.iter().enumerate() {
        match TrunkSource::parse(text) {
            Ok(source) => inbound.push(source),
            Err(reason) => report.error(&format!("{key}.inbound_hosts[{place}]"), reason),
        }
    }
    inbound
}

/// `sip:host:port;transport=tcp`, or the same without scheme and parameters.
pub fn parse_dest(text: &str) -> Result<(HostPort, Option<Transport>), String> {
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sip") => ("sip", rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sips") => ("sips", rest),
        _ => ("", text),
    };
    let (address, params) = rest.split_once(';').unwrap_or((rest, ""));
    if address.contains('@') {
        return Err("must not have a user part: the called number goes there".to_owned());
    }
    let host = HostPort::parse(address)?;
    let mut transport = (scheme == "sips").then_some(Transport::Tls);
    for param in params.split(';') {
        match param.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case("transport") => {
                transport = Some(match value.to_ascii_lowercase().as_str() {
                    "udp" => Transport::Udp,
                    "tcp" => Transport::Tcp,
                    "tls" => Transport::Tls,
                    other => return Err(format!("transport \"{other}\" is not one of ours")),
                });
            }
            _ if param.is_empty() => {}
            _ => return Err(format!("parameter \"{param}\" is not understood here")),
        }
    }
    Ok((host, transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_with_and_without_scheme() {
        let read = |text| parse_dest(text).map(|(host, by)| (host.to_string(), by));
        assert_eq!(read("sip:carrier.example:5070"), Ok(("carrier.example:5070".into(), None)));
        assert_eq!(read("10.0.0.5"), Ok(("10.0.0.5".into(), None)));
        assert_eq!(
            read("sip:[2001:db8::1]:5060;transport=TCP"),
            Ok(("[2001:db8::1]:5060".into(), Some(Transport::Tcp)))
        );
        assert_eq!(
            read("sips:carrier.example"),
            Ok(("carrier.example".into(), Some(Transport::Tls)))
        );
        for wrong in ["sip:user@host", "sip:", "host:port", "host:0", "sip:host;x=1", "ho st"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
