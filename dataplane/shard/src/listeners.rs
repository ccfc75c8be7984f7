//! The SIP sockets: made before any shard runs, so that a taken port is one line and not a crash.
//! Owns:  how listeners are bound, for one shard and for many.
//! Gives: each shard its own sockets, in shard order.
//! Never: SO_REUSEPORT before it is known that nobody else has the port.
//! Holds: the same addresses on every shard; port 0 becomes one real port for all of them.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use shared::net::Transport;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::start_error::{self, StartError};
use crate::{arrival, pktinfo};

/// Asked of the kernel for each SIP UDP socket, both ways; it gives what its limits allow.
const UDP_BUFFER_BYTES: usize = 4 * 1_024 * 1_024;
/// Connections that wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const TCP_BACKLOG: i32 = 4_096;

/// The SIP sockets of one shard.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    pub(crate) udp: Vec<Listener>,
    pub(crate) tcp: Vec<Listener>,
    pub(crate) tls: Vec<Listener>,
    pub(crate) ws: Vec<Listener>,
    pub(crate) wss: Vec<Listener>,
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: Socket,
    pub(crate) local: SocketAddr,
    pub(crate) transport: Transport,
}

/// Which addresses to listen on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addresses<'a> {
    pub(crate) udp: &'a [SocketAddr],
    pub(crate) tcp: &'a [SocketAddr],
    pub(crate) tls: &'a [SocketAddr],
    pub(crate) ws: &'a [SocketAddr],
    pub(crate) wss: &'a [SocketAddr],
}

/// Binds every address once per shard.
pub(crate) fn open(at: Addresses<'_>, shards: usize) -> Result<Vec<Listeners>, StartError> {
    let mut all: Vec<Listeners> = (0..shards).map(|_| Listeners::default()).collect();
    let wanted = [
        (Transport::Udp, at.udp),
        (Transport::Tcp, at.tcp),
        (Transport::Tls, at.tls),
        (Transport::Ws, at.ws),
        (Transport::Wss, at.wss),
    ];
    for (transport, addresses) in wanted {
        for address in addresses {
            let listeners = bind_all(transport, *address, shards)?;
            for (of_shard, listener) in all.iter_mut().zip(listeners) {
                of_shard.of(transport).push(listener);
            }
        }
    }
    Ok(all)
}

impl Listeners {
    fn of(&mut self, transport: Transport) -> &mut Vec<Listener> {
        match transport {
            Transport::Udp => &mut self.udp,
            Transport::Tcp => &mut self.tcp,
            Transport::Tls => &mut self.tls,
            Transport::Ws => &mut self.ws,
            Transport::Wss => &mut self.wss,
        }
    }
}

fn bind_all(
    transport: Transport,
    address: SocketAddr,
    shards: usize,
) -> Result<Vec<Listener>, StartError> {
    let refused = |error| start_error::of_bind(transport, address, error);
    if shards == 1 {
        return Ok(vec![bind(transport, address, false).map_err(refused)?]);
    }
    // With SO_REUSEPORT a second process of the same user would silently share our traffic, so the
    // port must be free without it first. The probe closes before the real sockets open.
    let probe = bind(transport, address, false).map_err(refused)?;
    let address = probe.local;
    drop(probe);
    (0..shards).map(|_| bind(transport, address, true).map_err(refused)).collect()
}

fn bind(transport: Transport, address: SocketAddr, shared: bool) -> std::io::Result<Listener> {
    let (kind, protocol) = match transport {
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        _ => (Type::STREAM, Protocol::TCP),
    };
    // The ring waits for these sockets, so they stay blocking: it would fail instead of waiting.
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    if transport == Transport::Udp {
        grow_buffers(&socket);
        arrival::enable(socket.as_fd())?;
        if address.ip().is_unspecified() {
            pktinfo::enable(socket.as_fd(), address.is_ipv4())?;
        }
        socket.bind(&SockAddr::from(address))?;
    } else {
        // Connections of the process before us may still be in TIME-WAIT (RFC 9293 3.6.1).
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(TCP_BACKLOG)?;
    }
    let local = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Listener { socket, local, transport })
}

/// Best effort: smaller buffers lose datagrams only in bursts, and SIP sends those again.
fn grow_buffers(socket: &Socket) {
    let outcomes = [
        socket.set_recv_buffer_size(UDP_BUFFER_BYTES),
        socket.set_send_buffer_size(UDP_BUFFER_BYTES),
    ];
    debug_assert!(outcomes.iter().all(Result::is_ok), "the kernel cuts the size, it does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn every_shard_gets_the_same_addresses() {
        let any = [loopback()];
        let at = Addresses { udp: &any, tcp: &any, tls: &any, ws: &any, wss: &any };
        let all = open(at, 3).expect("free ports");
        assert_eq!(all.len(), 3);
        for shard in &all {
            assert_eq!(shard.udp[0].local, all[0].udp[0].local);
            assert_eq!(shard.tcp[0].local, all[0].tcp[0].local);
            assert_eq!(shard.tls[0].local, all[0].tls[0].local);
            assert_eq!(shard.tls[0].transport, Transport::Tls);
            assert_eq!(shard.ws[0].local, all[0].ws[0].local);
            assert_eq!(shard.wss[0].local, all[0].wss[0].local);
            assert_eq!(shard.wss[0].transport, Transport::Wss);
            assert_ne!(shard.udp[0].local.port(), 0);
        }
    }

    #[test]
    fn a_taken_port_is_noticed_with_one_shard_and_with_many() {
        for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
            let holder = bind(transport, loopback(), true).expect("a free port");
            for shards in [1, 2] {
                let outcome = bind_all(transport, holder.local, shards);
                let taken = matches!(outcome, Err(StartError::PortTaken { transport: t, address })
                    if t == transport && address == holder.local);
                assert!(taken, "{transport:?} with {shards} shards");
            }
        }
    }

    #[test]
    fn an_address_of_another_machine_is_refused_by_name() {
        let address: SocketAddr = "192.0.2.1:5060".parse().expect("an address");
        let at = Addresses { udp: &[address], ..Addresses::default() };
        let error = open(at, 1).expect_err("not ours");
        assert!(error.to_string().starts_with("cannot listen on UDP 192.0.2.1:5060"), "{error}");
    }

    #[test]
    fn a_v6_wildcard_leaves_the_v4_port_free() {
        let six: SocketAddr = "[::]:0".parse().expect("an address");
        let Ok(listener) = bind(Transport::Udp, six, false) else {
            return; // a machine without IPv6
        };
        let four = SocketAddr::from(([0, 0, 0, 0], listener.local.port()));
        bind(Transport::Udp, four, false).expect("V6ONLY");
    }
}
