//! A phone that lives on one connection (TLS, WS, WSS), as text: it registers, calls, answers, hangs up.
//! Owns:  the phone's connection, its credentials, the numbers of its requests.
//! Gives: `FlowPhone` for the phone; `Media` for what a call of it sounds like; `Talk` for two of them in a call.
//! Never: a task that reads on: what comes is read when a test waits for it.
//! Holds: every wait has a deadline, and what comes instead of what is waited for is an error.

mod sound;
mod talk;
mod tls;
mod web;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use shared::net::Transport;

pub use sound::Media;
pub use talk::Talk;

use crate::digest::{self, Challenge, Credentials};
use crate::sdp::{self, Direction};
use crate::text::{header, headers, tag, uri};

/// For the next message, on a busy host.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A connection that carries whole messages.
trait Wire: Debug + Send {
    fn send(&mut self, message: &str) -> Result<(), String>;
    fn next(&mut self) -> Result<String, String>;
}

#[derive(Debug)]
pub struct FlowPhone {
    pub user: String,
    password: String,
    transport: Transport,
    gateway: SocketAddr,
    /// What it writes into Via and Contact.
    host: String,
    wire: Box<dyn Wire>,
}

/// The caller's side of a dialog.
#[derive(Clone, Debug)]
pub struct Placed {
    pub call_id: String,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
}

impl FlowPhone {
    /// Believes this certificate alone.
    pub fn over_tls(
        (user, password): (&str, &str),
        gateway: SocketAddr,
        believed: &Path,
    ) -> Result<Self, String> {
        let wire = tls::Tls::connect(gateway, believed)?;
        let host = wire.local()?.to_string();
        Ok(Self::new(user, password, Transport::Tls, gateway, host, Box::new(wire)))
    }

    /// A WebSocket client that we did not write carries it; over WSS it believes the certificate. Its
    /// host is a name that nobody can resolve (RFC 7118 5).
    pub fn over_web(
        (user, password): (&str, &str),
        gateway: SocketAddr,
        believed: Option<&Path>,
    ) -> Result<Self, String> {
        let wire = Box::new(web::Web::start(gateway, believed)?);
        let transport = if believed.is_some() { Transport::Wss } else { Transport::Ws };
        Ok(Self::new(user, password, transport, gateway, format!("{user}.invalid"), wire))
    }

    fn new(
        user: &str,
        password: &str,
        transport: Transport,
        gateway: SocketAddr,
        host: String,
        wire: Box<dyn Wire>,
    ) -> Self {
        let (user, password) = (user.to_owned(), password.to_owned());
        Self { user, password, transport, gateway, host, wire }
    }

    /// A socket for the sound of a call.
    pub fn media(&self, tone_hz: f32) -> Result<Media, String> {
        Media::bind(self.gateway.ip(), tone_hz)
    }

    /// The next message, which starts so; provisional responses are passed over.
    pub fn hear(&mut self, start: &str) -> Result<String, String> {
        loop {
            let message = self.wire.next().map_err(|error| {
                format!("{} over {}, {start}: {error}", self.user, self.transport.via_word())
            })?;
            if message.starts_with(start) {
                return Ok(message);
            }
            if !message.starts_with("SIP/2.0 1") {
                return Err(format!("{}: {start} was expected: {message}", self.user));
            }
        }
    }

    fn hear_final(&mut self) -> Result<String, String> {
        loop {
            let answer = self.hear("SIP/2.0 ")?;
            if !answer.starts_with("SIP/2.0 1") {
                return Ok(answer);
            }
        }
    }

    pub fn register(&mut self) -> Result<(), String> {
        let mut dialog = self.begin(&self.user);
        dialog.target = format!("sip:{}", self.gateway);
        let answer = self.ask("REGISTER", &mut dialog)?;
        let contact = self.contact();
        let is_kept = headers(&answer, "Contact").any(|value| value.starts_with(&contact));
        is_kept.then_some(()).ok_or_else(|| format!("{contact} is not registered: {answer}"))
    }

    /// Outside a dialog.
    pub fn options(&mut self) -> Result<(), String> {
        let mut dialog = self.begin(&self.user);
        dialog.target = format!("sip:{}", self.gateway);
        self.ask("OPTIONS", &mut dialog).map(drop)
    }

    /// A request without a body that is answered 200, after one challenge at most.
    fn ask(&mut self, method: &str, dialog: &mut Placed) -> Result<String, String> {
        dialog.cseq += 1;
        self.request(method, dialog, &token(), "", "")?;
        let answer = self.hear_final()?;
        if answer.starts_with("SIP/2.0 200") {
            return Ok(answer);
        }
        let credentials = self.credentials(method, &dialog.target, &answer)?;
        dialog.cseq += 1;
        self.request(method, dialog, &token(), &credentials, "")?;
        self.hear("SIP/2.0 200")
    }

    /// Sends an INVITE with credentials; `complete` takes its answer.
    pub fn invite(&mut self, callee: &str, media: &Media) -> Result<Placed, String> {
        let mut dialog = self.begin(callee);
        let offer = sdp::write(&self.user, media.local()?, 1, Direction::SendRecv);
        let branch = token();
        dialog.cseq += 1;
        self.request("INVITE", &dialog, &branch, "", &offer)?;
        let challenge = self.hear("SIP/2.0 407")?;
        let refused = Placed { remote: header(&challenge, "To")?.to_owned(), ..dialog.clone() };
        self.request("ACK", &refused, &branch, "", "")?;
        let credentials = self.credentials("INVITE", &dialog.target, &challenge)?;
        dialog.cseq += 1;
        self.request("INVITE", &dialog, &token(), &credentials, &offer)?;
        Ok(dialog)
    }

    /// The 200 to that INVITE, and its ACK.
    pub fn complete(&mut self, dialog: &mut Placed, media: &mut Media) -> Result<(), String> {
        let answer = self.hear("SIP/2.0 200")?;
        media.aim(&answer)?;
        dialog.remote = header(&answer, "To")?.to_owned();
        let contact = header(&answer, "Contact")?;
        dialog.target = uri(contact).ok_or_else(|| format!("no URI in {contact}"))?.to_owned();
        self.request("ACK", dialog, &token(), "", "")
    }

    /// Rings and answers the call that comes next.
    pub fn pick_up(&mut self, media: &mut Media) -> Result<(), String> {
        let invite = self.hear("INVITE ")?;
        media.aim(&invite)?;
        self.answer(&invite, "180 Ringing", "")?;
        let sdp = sdp::write(&self.user, media.local()?, 1, Direction::SendRecv);
        self.answer(&invite, "200 OK", &sdp)?;
        self.hear("ACK ").map(drop)
    }

    /// Sends a request in a call that this phone made; the answer is still to be heard.
    pub fn say(&mut self, method: &str, dialog: &mut Placed) -> Result<(), String> {
        dialog.cseq += 1;
        self.request(method, dialog, &token(), "", "")
    }

    /// Waits for a request of the other side and answers it 200.
    pub fn allow(&mut self, method: &str) -> Result<(), String> {
        let request = self.hear(&format!("{method} "))?;
        self.answer(&request, "200 OK", "")
    }

    fn begin(&self, callee: &str) -> Placed {
        let gateway = self.gateway;
        let target = format!("sip:{callee}@{gateway}");
        Placed {
            call_id: token(),
            local: format!("<sip:{}@{gateway}>;tag={}", self.user, token()),
            remote: format!("<{target}>"),
            target,
            cseq: 0,
        }
    }

    fn contact(&self) -> String {
        let word = if self.transport == Transport::Tls { "tls" } else { "ws" };
        format!("<sip:{}@{};transport={word}>", self.user, self.host)
    }

    fn credentials(&self, method: &str, target: &str, answer: &str) -> Result<String, String> {
        let (asked, said) = match answer.starts_with("SIP/2.0 407") {
            true => ("Proxy-Authenticate", "Proxy-Authorization"),
            false => ("WWW-Authenticate", "Authorization"),
        };
        let challenge = Challenge::choose(headers(answer, asked), None)
            .ok_or_else(|| format!("{}: no challenge for {method} in {answer}", self.user))?;
        let cnonce = token();
        let credentials = Credentials {
            username: &self.user,
            password: &self.password,
            cnonce: &cnonce,
            nonce_count: 1,
        };
        let value = digest::authorization(&challenge, credentials, method, target);
        Ok(format!("{said}: {value}\r\n"))
    }

    fn request(
        &mut self,
        method: &str,
        dialog: &Placed,
        branch: &str,
        line: &str,
        body: &str,
    ) -> Result<(), String> {
        let Placed { call_id, local, remote, target, cseq } = dialog;
        let (word, host, contact) = (self.transport.via_word(), &self.host, self.contact());
        let message = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/{word} {host};rport;branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\nFrom: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: {contact}\r\n{line}{}",
            with_length(body)
        );
        self.wire.send(&message)
    }

    fn answer(&mut self, request: &str, status: &str, body: &str) -> Result<(), String> {
        let mut message = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "Record-Route", "From", "Call-ID", "CSeq"] {
            for value in headers(request, name) {
                message += &format!("{name}: {value}\r\n");
            }
        }
        let to = header(request, "To")?;
        let own = if tag(to).is_some() { "" } else { ";tag=called" };
        message +=
            &format!("To: {to}{own}\r\nContact: {}\r\n{}", self.contact(), with_length(body));
        self.wire.send(&message)
    }
}

fn with_length(body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!("{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn token() -> String {
    format!("{:016x}", rand::random::<u64>())
}
