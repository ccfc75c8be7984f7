//! Connections that we open, because a message has to go where no flow leads yet.
//! Owns:  how such a socket is made.
//! Gives: a flow in `Connecting`, to which messages may be queued at once.
//! Never: waits for the connection.
//! Holds: a connection that is refused on the spot leaves nothing behind.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use rustls::pki_types::ServerName;
use shared::ids::CertificateId;
use shared::limits;
use shared::net::{Destination, Transport};
use shared::snapshot::Trunk;
use shared::time::Instant;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::flow::{CONNECT_WAIT, Flow, State, Way};
use super::tls::Tls;
use super::{Ring, Seat, SipTcp, Token};

impl SipTcp {
    /// Starts a connection to `to.peer`; `None` when there cannot be one.
    pub(super) fn connect(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        to: &Destination,
    ) -> Option<Seat> {
        if self.open >= limits::FLOWS_PER_SHARD_MAX {
            return None;
        }
        let tls = match to.transport {
            Transport::Tcp => None,
            Transport::Tls => Some(self.secured(to)?),
            // WebSocket clients connect, and are reached by their own flow alone (RFC 7118 5).
            Transport::Udp | Transport::Ws | Transport::Wss => return None,
        };
        let socket = open(to.local, to.peer).ok()?;
        let state = State::Connecting { give_up_at: now + CONNECT_WAIT };
        let mut flow = Flow::new(socket.into(), to.local, to.peer, state, now);
        if let Some(tls) = tls {
            flow.shows = to.shows;
            flow.secure(tls, now + CONNECT_WAIT);
        }
        let seat = self.seat(flow);
        let flow = self.flow_mut(seat).expect("it was just seated");
        match ring.connect(flow.socket.as_fd(), to.peer, Token::Connect(seat)) {
            Ok(()) => {
                flow.connecting = true;
                Some(seat)
            }
            Err(_) => {
                self.end(ring, seat);
                None
            }
        }
    }

    /// Whose certificate is expected where: a connection over TLS to anybody else is not opened, since
    /// nobody could say who answered.
    pub(crate) fn expect_names(&mut self, trunks: &[Trunk]) {
        let secured = trunks.iter().filter(|trunk| trunk.enabled).flat_map(secured_ends);
        let name =
            |(host, end): (&str, End)| Some((end, ServerName::try_from(host).ok()?.to_owned()));
        // Of two trunks at one address that are shown the same the first one says who is there.
        let mut names = FxHashMap::default();
        for (end, name) in secured.filter_map(name) {
            names.entry(end).or_insert(name);
        }
        let before = std::mem::replace(&mut self.names, names);
        // A flow to whoever was there before is not one to whoever is there now. Where nobody is
        // expected any more the flow stays, for the calls that stand over it.
        let same = |end: &End| match self.names.get(end) {
            None => true,
            Some(name) => before.get(end) == Some(name),
        };
        let is_tls = |way: &Way| way.transport == Transport::Tls;
        self.by_peer.retain(|way, _| !is_tls(way) || same(&(way.peer, way.shows)));
    }

    fn secured(&self, to: &Destination) -> Option<Tls> {
        let (keys, name) = (self.keys.as_ref()?, self.names.get(&(to.peer, to.shows))?);
        let config = match to.shows {
            // Without it the trunk would not know us: nobody is called as nobody in particular.
            Some(certificate) => keys.showing(certificate)?,
            None => &keys.client,
        };
        Tls::connect(Arc::clone(config), name.clone()).ok()
    }
}

/// Whom a connection over TLS leads to, and what they get to see.
type End = (SocketAddr, Option<CertificateId>);

/// Which of a trunk's addresses are reached over TLS, with the name that each must prove.
fn secured_ends(trunk: &Trunk) -> impl Iterator<Item = (&str, End)> {
    let shows = trunk.shows(Transport::Tls);
    let entrances = trunk.entrances.iter();
    entrances
        .filter(|entrance| entrance.transport == Transport::Tls)
        .map(move |entrance| (&*entrance.host, (entrance.address, shows)))
}

fn open(local: SocketAddr, peer: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if local.is_ipv4() == peer.is_ipv4() && !local.ip().is_unspecified() {
        let own = SockAddr::from(SocketAddr::new(local.ip(), 0));
        match socket.bind(&own) {
            // An external address in front of a NAT is not ours to bind; the route chooses then.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            outcome => outcome?,
        }
    }
    Ok(socket)
}
