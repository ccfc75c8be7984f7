//! A gateway, and phones that are connected to it and have registered by their connections.
//! Owns:  its listeners and its certificate; who the phones are.
//! Gives: the gateway with the lines of the phones, for one load after the other.
//! Never: a connection that outlives the gateway: the lines are dropped first.
//! Holds: half of the phones call, the others are called.

use std::net::{Ipv4Addr, SocketAddr};

use crate::certificate::{Certificate, client};
use crate::gateway::{Gateway, Plan, spare_port};
use crate::load::lines::{LinePlan, Lines, Transport};

/// Of every phone.
const PASSWORD: &str = "secret-of-all-phones";

#[derive(Debug)]
pub struct Connected {
    pub lines: Lines,
    pub gateway: Gateway,
    /// Where the phones are connected to.
    pub at: SocketAddr,
}

/// Starts the gateway and connects `phones` that call and as many that are called.
pub fn start(transport: Transport, phones: u32, plan: Plan) -> Result<Connected, String> {
    // The gateway and the phones have read the files when this folder goes.
    let certificate = Certificate::new()?;
    let (tls_port, wss_port) =
        (spare_port(Ipv4Addr::LOCALHOST.into())?, spare_port(Ipv4Addr::LOCALHOST.into())?);
    let mut proxy_lines = certificate.lines();
    proxy_lines.push(format!("tls_port = {tls_port}"));
    proxy_lines.push(format!("wss_port = {wss_port}"));
    let users = LinePlan::users(phones).map(|user| (user, PASSWORD.to_owned())).collect();
    let gateway = Gateway::start(Plan { users, proxy_lines, ..plan })?;
    let mut at = gateway.sip;
    match transport {
        Transport::Udp => return Err("phones have no connection over UDP".to_owned()),
        Transport::Tcp => {}
        Transport::Tls => at.set_port(tls_port),
        Transport::Wss => at.set_port(wss_port),
    }
    let client = client(&certificate.believed())?;
    let password = PASSWORD.to_owned();
    let lines = Lines::open(&LinePlan { transport, gateway: at, client, phones, password })
        .map_err(|error| format!("{error}\n{}", gateway.log_tail()))?;
    Ok(Connected { lines, gateway, at })
}
