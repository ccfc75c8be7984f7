//! Where a SIP message came from and where one goes.
//! Owns:  `Transport`, `Source`, `Destination`.
//! Gives: the words for Via and the URI `transport` parameter.
//! Never: opens or names a socket.
//! Holds: a `Destination` with a flow goes over that flow or nowhere (RFC 5626 5.3).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{CertificateId, FlowKey};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    Tcp,
    Tls,
    Udp,
    Ws,
    Wss,
}

impl Transport {
    /// The word of the Via header (RFC 3261 20.42, RFC 7118 5.2).
    pub const fn via_word(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Udp => "UDP",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// The word of the URI parameter `transport`.
    pub const fn uri_word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp => "udp",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Where it is listened for when no port is written (RFC 3261 19.1.2).
    pub const fn port(self) -> u16 {
        match self {
            Self::Tcp | Self::Udp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }

    /// Nobody on the way can read or change what goes over it.
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// A reliable transport needs no retransmission: timers A, E, G are off, D, I, J, K are zero.
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }
}

/// Where a message came from. `flow` is set for connection-oriented transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub transport: Transport,
    /// Our address that it arrived on.
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub flow: Option<FlowKey>,
}

impl Source {
    /// Straight back over the same socket or flow (RFC 3581 4).
    pub const fn back(&self) -> Destination {
        Destination {
            transport: self.transport,
            local: self.local,
            peer: self.peer,
            flow: self.flow,
            shows: None,
        }
    }
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    pub transport: Transport,
    /// The listener to send from (UDP), or the local address to put into Via and Contact.
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// The flow to use; without one, a connection-oriented transport connects or reuses one to `peer`.
    pub flow: Option<FlowKey>,
    /// The certificate that a connection of ours over TLS shows if it is asked for one. Connections that
    /// show different ones are never taken for each other.
    pub shows: Option<CertificateId>,
}
