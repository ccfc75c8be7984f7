//! `[proxy.trunks.NAME]`: carriers and other PBXs with an address that the file names.
//! Owns:  `TrunkConfig`, the form of `dest` and `inbound_hosts`.
//! Gives: hosts and ports; names are resolved by the control plane at start and on reload.
//! Never: asks a name server.
//! Holds: a trunk that is here has a host, a port and a transport that we serve.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::file::TrunkFile;
use super::problem::Report;
use crate::net::Transport;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkConfig {
    pub name: String,
    pub dest: HostPort,
    pub transport: Transport,
    /// Further sources; without a port any port is theirs.
    pub inbound: Vec<HostPort>,
    pub max_calls: Option<u32>,
    pub enabled: bool,
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
    report: &mut Report<'_>,
) -> Vec<TrunkConfig> {
    let mut trunks = Vec::new();
    for (name, file) in files {
        let key = format!("proxy.trunks.{name}");
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
            report.error(&key, "a trunk name has letters, digits, - and _ only");
            continue;
        }
        if let Some(trunk) = trunk(name, file, &key, report) {
            trunks.push(trunk);
        }
    }
    trunks
}

fn trunk(name: String, file: TrunkFile, key: &str, report: &mut Report<'_>) -> Option<TrunkConfig> {
    let inbound = inbound(&file.inbound_hosts, key, report);
    let Some(dest) = file.dest else {
        report.error_try(key, "has no dest", "write dest = \"sip:HOST:PORT\"");
        return None;
    };
    let dest_key = format!("{key}.dest");
    let (dest, transport) = match parse_dest(&dest) {
        Ok(parsed) => parsed,
        Err(text) => {
            report.error_try(&dest_key, text, "write \"sip:HOST:PORT\"");
            return None;
        }
    };
    let transport = match (file.transport.as_deref(), transport) {
        (Some("tls"), _) | (None, Some(Transport::Tls)) => {
            let key = if file.transport.is_some() { format!("{key}.transport") } else { dest_key };
            report.error_try(&key, "trunks over TLS are not built yet", "use \"udp\" or \"tcp\"");
            return None;
        }
        (Some("tcp"), _) => Transport::Tcp,
        (Some(_), _) => Transport::Udp,
        (None, found) => found.unwrap_or(Transport::Udp),
    };
    let enabled = !file.disabled.unwrap_or(false);
    Some(TrunkConfig { name, dest, transport, inbound, max_calls: file.max_calls, enabled })
}

fn inbound(hosts: &[String], key: &str, report: &mut Report<'_>) -> Vec<HostPort> {
    let mut inbound = Vec::new();
    for (place, text) in hosts.iter().enumerate() {
        let key = format!("{key}.inbound_hosts[{place}]");
        if text.contains('/') {
            report.error_try(
                &key,
                "networks are not built yet as inbound hosts",
                "list the addresses one by one",
            );
            continue;
        }
        match HostPort::parse(text) {
            Ok(host) => inbound.push(host),
            Err(reason) => report.error(&key, reason),
        }
    }
    inbound
}

/// `sip:host:port;transport=tcp`, or the same without scheme and parameters.
fn parse_dest(text: &str) -> Result<(HostPort, Option<Transport>), String> {
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
