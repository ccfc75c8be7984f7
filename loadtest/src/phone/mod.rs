//! A small soft phone: registers, calls, answers, hangs up, speaks a tone and listens (UDP, IPv4).
//! Owns:  one SIP socket per phone with its reader task, one `Voice` per call.
//! Gives: `Phone`, `Call`, `CallReport`, the ladder of what went over the wire.
//! Never: the gateway's own SIP code; messages go through rsip.
//! Holds: every wait ends by a final response or by the times of RFC 3261 17.

mod call;
mod ladder;
mod wire;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rsip::headers::{Header, UntypedHeader};
use rsip::message::HeadersExt;
use rsip::{Method, Response};
use tokio::sync::mpsc;

pub use crate::digest::Algorithm;
pub use call::{Call, CallReport, HungUpBy};
pub use ladder::{LadderLine, merge};

use crate::digest::{self, Challenge, Credentials};
use crate::message;
use wire::{Invitation, Wire};

/// 64*T1: Timers B and F (RFC 3261 17.1.1.2, 17.1.2.2).
pub(crate) const GIVE_UP: Duration = Duration::from_secs(32);

/// Why a phone did not get what it asked for.
#[derive(Debug)]
pub enum PhoneError {
    /// The other side ended the call or never completed it.
    Ended(&'static str),
    Io(io::Error),
    /// What came could not be read, or lacked what a phone needs.
    Malformed(String),
    /// A final response above 299.
    Refused {
        status: u16,
        method: String,
    },
    TimedOut(&'static str),
}

impl fmt::Display for PhoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(what) => write!(f, "the call ended: {what}"),
            Self::Io(error) => write!(f, "network: {error}"),
            Self::Malformed(what) => write!(f, "unreadable: {what}"),
            Self::Refused { status, method } => write!(f, "{method} was answered {status}"),
            Self::TimedOut(what) => write!(f, "no answer in time: {what}"),
        }
    }
}

impl std::error::Error for PhoneError {}

impl From<io::Error> for PhoneError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<message::ReadError> for PhoneError {
    fn from(error: message::ReadError) -> Self {
        Self::Malformed(error.to_string())
    }
}

#[derive(Debug)]
pub struct Phone {
    wire: Arc<Wire>,
    password: String,
    only: Option<Algorithm>,
    invitations: mpsc::Receiver<Invitation>,
    register_call_id: String,
    register_cseq: u32,
}

impl Phone {
    /// Binds a port on the address that leads to `server`. Needs a running tokio runtime.
    pub fn bind(server: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let (wire, invitations) = Wire::bind(server, user)?;
        Ok(Self {
            wire,
            password: password.to_owned(),
            only: None,
            invitations,
            register_call_id: token("reg"),
            register_cseq: 0,
        })
    }

    pub fn user(&self) -> &str {
        &self.wire.user
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.wire.local
    }

    /// Answers only challenges of this algorithm; without it the strongest one is taken.
    pub fn insist_on(&mut self, algorithm: Algorithm) {
        self.only = Some(algorithm);
    }

    pub fn ladder(&self) -> Vec<LadderLine> {
        self.wire.ladder()
    }

    /// Registers the phone's address; 0 removes it. Gives the seconds that the registrar granted.
    pub async fn register(&mut self, expires_s: u32) -> Result<u32, PhoneError> {
        let server = self.wire.server;
        let uri = format!("sip:{}:{}", server.ip(), server.port());
        let aor = format!("<sip:{}@{}>", self.wire.user, server.ip());
        let call_id = self.register_call_id.clone();
        let request = Outgoing {
            method: Method::Register,
            uri,
            from: format!("{aor};tag={}", token("t")),
            to: aor,
            call_id,
            extra: vec![
                Header::Contact(self.wire.contact().into()),
                Header::Expires(expires_s.to_string().into()),
            ],
            sdp: None,
        };
        let mut cseq = self.register_cseq;
        let outcome = self.authenticated(request, &mut cseq).await;
        self.register_cseq = cseq;
        let (response, _) = outcome?;
        let status = response.status_code.code();
        if status != 200 {
            return Err(PhoneError::Refused { status, method: "REGISTER".to_owned() });
        }
        Ok(self.granted(&response, expires_s))
    }

    /// Calls an extension (`1002`) or a URI (`sip:1002@host`) and waits for the answer.
    pub async fn call(&mut self, target: &str, tone_hz: f32) -> Result<Call, PhoneError> {
        call::place(self, target, tone_hz).await
    }

    /// Waits for the next call, rings, answers it.
    pub async fn answer_next(&mut self, tone_hz: f32) -> Result<Call, PhoneError> {
        let invitation =
            self.invitations.recv().await.ok_or(PhoneError::Ended("the phone was closed"))?;
        call::answer(&self.wire, invitation, tone_hz).await
    }

    /// Sends a request, answers one challenge, gives the final response and what was sent last.
    async fn authenticated(
        &self,
        mut request: Outgoing,
        cseq: &mut u32,
    ) -> Result<(Response, rsip::Request), PhoneError> {
        *cseq += 1;
        let first = self.wire.compose(&request, *cseq, None)?;
        let response = self.wire.transact(first.clone(), request.sdp.as_deref()).await?;
        let status = response.status_code.code();
        if status != 401 && status != 407 {
            return Ok((response, first));
        }
        let offered = message::challenges(&response);
        let Some(challenge) = Challenge::choose(offered.into_iter(), self.only) else {
            return Ok((response, first));
        };
        let cnonce = token("c");
        let credentials = Credentials {
            username: &self.wire.user,
            password: &self.password,
            cnonce: &cnonce,
            nonce_count: 1,
        };
        let method = request.method.to_string();
        let value = digest::authorization(&challenge, credentials, &method, &request.uri);
        request.extra.push(match status {
            401 => Header::Authorization(value.into()),
            _ => Header::ProxyAuthorization(value.into()),
        });
        *cseq += 1;
        let second = self.wire.compose(&request, *cseq, None)?;
        let response = self.wire.transact(second.clone(), request.sdp.as_deref()).await?;
        Ok((response, second))
    }

    /// `expires` of our Contact, or the Expires header, or what we asked for (RFC 3261 10.2.4).
    fn granted(&self, response: &Response, asked_s: u32) -> u32 {
        let own = message::uri_of(&self.wire.contact()).to_owned();
        let of_contact = response.contact_headers().into_iter().find_map(|header| {
            let value = header.value().split(',').find(|one| one.contains(&own))?;
            value.split(';').find_map(|param| param.trim().strip_prefix("expires=")?.parse().ok())
        });
        let of_message = response.expires_header().and_then(|header| header.value().parse().ok());
        of_contact.or(of_message).unwrap_or(asked_s)
    }
}

/// A request as its user sees it; the wire adds Via, CSeq, Max-Forwards and the rest.
#[derive(Debug)]
struct Outgoing {
    method: Method,
    uri: String,
    from: String,
    to: String,
    call_id: String,
    extra: Vec<Header>,
    sdp: Option<String>,
}

/// A random token of a phone: tag, branch, Call-ID.
fn token(prefix: &str) -> String {
    format!("{prefix}{:016x}", rand::random::<u64>())
}
