//! `[dns]`: which name servers are asked where SIP servers are.
//! Owns:  the form of `servers`.
//! Gives: their addresses; none stands for those of the system.
//! Never: asks one.
//! Holds: a name server is written as a number: its own name nobody could look up.

use std::net::{IpAddr, SocketAddr};

use super::file::DnsFile;
use super::problem::Report;

const PORT: u16 = 53;
const SERVERS_MAX: usize = 8;

pub(super) fn check(file: &DnsFile, report: &mut Report<'_>) -> Vec<SocketAddr> {
    let texts = file.servers.as_deref().unwrap_or_default();
    if texts.len() > SERVERS_MAX {
        report.error("dns.servers", format!("has more than {SERVERS_MAX} servers"));
    }
    let mut servers = Vec::new();
    for (place, text) in texts.iter().enumerate() {
        let at = text.parse::<SocketAddr>();
        let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
        match at.or(bare) {
            Ok(server) if server.port() > 0 => servers.push(server),
            _ => {
                let text = format!("\"{text}\" is no address of a name server");
                let key = format!("dns.servers[{place}]");
                report.error_try(&key, text, "write \"192.0.2.53\" or \"192.0.2.53:5353\"");
            }
        }
    }
    servers
}
