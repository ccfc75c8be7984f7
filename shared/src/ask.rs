//! What a shard asks programs before it goes on, and what they decide.
//! Owns:  `Ask` (the HTTP router, the user backends) and `Decision`.
//! Gives: plain values; the control plane turns them into HTTP, SQL and back (surface.md section 3).
//! Never: a credentials header, or a decision that still has to be checked.
//! Holds: an ask is answered once or runs out at its deadline; an answer after that is dropped.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::cdr::Direction;
use crate::headers::ExtraHeader;
use crate::ids::CallId;
use crate::net::Transport;
use crate::snapshot::User;

#[derive(Clone, Debug)]
pub enum Ask {
    Route(RouteAsk),
    User(UserAsk),
}

/// An INVITE whose way a program decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAsk {
    /// Our id, under which the exchange is kept.
    pub call: CallId,
    /// SIP Call-ID.
    pub call_id: String,
    /// The URIs in angle brackets; `headers` has the values as written.
    pub from: String,
    pub to: String,
    /// User parts, and the Request-URI.
    pub caller: String,
    pub callee: String,
    pub uri: String,
    /// The socket's address, whatever Via says.
    pub source: SocketAddr,
    pub direction: Direction,
    /// Without credentials; a header that stands twice is here twice.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// Credentials whose user the shard does not know, or may not decide about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAsk {
    pub username: String,
    pub realm: String,
    pub request_uri: String,
    /// `INVITE`, `REFER` or `REGISTER`.
    pub method: &'static str,
    /// SIP Call-ID, for the log.
    pub call_id: String,
    pub source: SocketAddr,
    /// Place in the chain of the backend that knows this user already: only those before it are asked.
    pub known_at: Option<u8>,
    pub headers: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub enum Decision {
    Route(RouteDecision),
    User(UserDecision),
}

#[derive(Clone, Debug)]
pub enum RouteDecision {
    Forward(Box<Forward>),
    /// The static routes and the registrar decide.
    NotHandled,
    Reject(Reject),
    /// The program did not decide: the configured fallback does.
    Unavailable,
}

#[derive(Clone, Debug)]
pub enum UserDecision {
    Known(User),
    /// With a status for the log of the caller's side: 402 or 403.
    Refused {
        status: u16,
        spam: bool,
    },
    /// No backend can answer now.
    Unavailable,
    /// Every backend that was asked said no.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// 400 to 699, no challenge.
    pub status: u16,
    /// Empty: the standard phrase.
    pub reason: String,
    pub retry_after_s: Option<u32>,
    pub spam: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// At least one, at most `limits::TARGETS_PER_CALL_MAX`.
    pub targets: Vec<RouteTarget>,
    pub strategy: Strategy,
    /// How long one target may ring, or all of them when they ring together.
    pub ring_timeout: Option<Duration>,
    pub orders: Orders,
}

/// A URI to call. `at` is set when the control plane knows its address: a number, or a resolved name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTarget {
    pub uri: String,
    pub at: Option<TargetAddress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetAddress {
    pub transport: Transport,
    pub peer: SocketAddr,
    /// Our address on the way there; `None` when nobody could say.
    pub local: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Parallel,
    Sequential,
}

/// How a call is treated, beside where it goes. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Added to the INVITE that goes out; they replace headers of the caller with the same name.
    pub headers: Vec<ExtraHeader>,
    /// `Some(true)`: everything of the caller that is not ours to write crosses. `Some(false)`:
    /// nothing does. `None`: what crosses in every call.
    pub with_original_headers: Option<bool>,
    /// Encoding names as in `a=rtpmap`; empty allows all.
    pub allow_codecs: Vec<Box<str>>,
    pub max_duration: Option<Duration>,
    /// `None`: as configured.
    pub record: Option<Record>,
    /// Zero switches it off; `None`: as configured.
    pub rtp_timeout: Option<Duration>,
    pub media_proxy: MediaProxy,
    /// For the call record.
    pub extensions: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    FromAnswer,
    FromMedia,
    Never,
}

/// Whether media flows through us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaProxy {
    #[default]
    Auto,
    Always,
    Bypass,
    Nat,
    Never,
}

impl MediaProxy {
    /// Whether the program wants media to go round us.
    pub const fn avoids_us(self) -> bool {
        matches!(self, Self::Bypass | Self::Never)
    }
}
