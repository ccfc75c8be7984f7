//! A SIP user agent that a test plays by hand: every header and every answer is the test's own.

use std::net::SocketAddr;
use std::time::Duration;

use loadtest::digest::{Algorithm, Challenge, Credentials, authorization};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::SOON;
use super::sip::{Message, sdp, uri_of};

/// The domain of every sample in the guide.
pub(crate) const DOMAIN: &str = "pbx.com";

pub(crate) struct Agent {
    socket: UdpSocket,
    pub(crate) local: SocketAddr,
    server: SocketAddr,
    pub(crate) user: String,
    password: String,
    tag: String,
    /// Of the next REGISTER: they count up (RFC 3261 10.2).
    register_cseq: u32,
    /// Headers of every request that this agent begins.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// What came and nobody asked for yet.
    unread: Vec<Message>,
}

/// One side of a dialog.
#[derive(Clone, Debug)]
pub(crate) struct Leg {
    pub(crate) call_id: String,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
}

/// A request before it has Via and CSeq.
#[derive(Clone)]
struct Draft {
    method: &'static str,
    uri: String,
    from: String,
    to: String,
    call_id: String,
    cseq: u32,
    extra: Vec<(String, String)>,
    body: String,
}

fn token(prefix: &str) -> String {
    format!("{prefix}{:016x}", rand::random::<u64>())
}

impl Agent {
    pub(crate) async fn bind(server: SocketAddr, user: &str, password: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        Self {
            local: socket.local_addr().expect("it is bound"),
            socket,
            server,
            user: user.to_owned(),
            password: password.to_owned(),
            tag: token("t"),
            register_cseq: 1,
            headers: Vec::new(),
            unread: Vec::new(),
        }
    }

    /// Where this agent is: what a router names as a target.
    pub(crate) fn uri(&self) -> String {
        format!("sip:{}@{}", self.user, self.local)
    }

    fn own(&self) -> String {
        format!("<sip:{}@{DOMAIN}>;tag={}", self.user, self.tag)
    }

    fn session(&self) -> String {
        // Nobody listens there; these agents are about signalling.
        sdp("127.0.0.1", self.local.port() ^ 1)
    }

    async fn send(&mut self, draft: &Draft, branch: &str) {
        let Draft { method, uri, from, to, call_id, cseq, extra, body } = draft;
        let mut text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch={branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: <{}>\r\n",
            self.local,
            self.uri()
        );
        let own = self.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let more = extra.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(more) {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += "Content-Type: application/sdp\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        self.socket.send_to(text.as_bytes(), self.server).await.expect("sent");
    }

    /// The next message for which `wanted` holds; the others wait.
    pub(crate) async fn await_message(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Message) -> bool,
    ) -> Message {
        let found = self.find(limit, wanted).await;
        found.unwrap_or_else(|| {
            let starts: Vec<&str> = self.unread.iter().map(|m| m.start.as_str()).collect();
            panic!("{} waits for {what}; there is {starts:?}", self.user)
        })
    }

    pub(crate) async fn find(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Message) -> bool,
    ) -> Option<Message> {
        if let Some(at) = self.unread.iter().position(&wanted) {
            return Some(self.unread.remove(at));
        }
        let give_up_at = Instant::now() + limit;
        let mut buffer = vec![0; 65_535];
        loop {
            let received = timeout_at(give_up_at, self.socket.recv_from(&mut buffer)).await;
            let (length, _) = received.ok()?.expect("a socket");
            match Message::read(&buffer[..length]) {
                Some(message) if wanted(&message) => return Some(message),
                Some(message) => self.unread.push(message),
                // Keep-alives of a few bytes.
                None => {}
            }
        }
    }

    pub(crate) async fn request(&mut self, method: &'static str) -> Message {
        self.await_message(method, SOON, |message| message.is_request(method)).await
    }

    /// Nothing of this method comes.
    pub(crate) async fn assert_quiet(&mut self, method: &'static str) {
        let came = self.find(super::QUIET, |message| message.is_request(method)).await;
        assert!(came.is_none(), "{}: unexpected {came:?}", self.user);
    }

    /// Sends a request, answers one challenge, acknowledges what an INVITE's end needs.
    async fn transact(&mut self, mut draft: Draft) -> (Message, u32) {
        let mut challenged = false;
        loop {
            let branch = token("z9hG4bK");
            self.send(&draft, &branch).await;
            let (call_id, cseq) =
                (draft.call_id.clone(), format!("{} {}", draft.cseq, draft.method));
            let answer = self
                .await_message(&format!("an answer to {cseq}"), SOON, |message| {
                    message.status() >= 200
                        && message.call_id() == call_id
                        && message.header("CSeq") == cseq
                })
                .await;
            if draft.method == "INVITE" && answer.status() >= 300 {
                let ack = Draft {
                    method: "ACK",
                    to: answer.header("To").to_owned(),
                    extra: Vec::new(),
                    body: String::new(),
                    ..draft.clone()
                };
                self.send(&ack, &branch).await;
            }
            let offered =
                [answer.all("WWW-Authenticate"), answer.all("Proxy-Authenticate")].concat();
            let challenge = Challenge::choose(offered.into_iter(), Some(Algorithm::Md5));
            let is_challenge = matches!(answer.status(), 401 | 407) && !challenged;
            let Some(challenge) = challenge.filter(|_| is_challenge && !self.password.is_empty())
            else {
                return (answer, draft.cseq);
            };
            challenged = true;
            draft.cseq += 1;
            let cnonce = token("c");
            let credentials = Credentials {
                username: &self.user,
                password: &self.password,
                cnonce: &cnonce,
                nonce_count: 1,
            };
            let value = authorization(&challenge, credentials, draft.method, &draft.uri);
            let name = if answer.status() == 401 { "Authorization" } else { "Proxy-Authorization" };
            draft.extra.push((name.to_owned(), value));
        }
    }

    pub(crate) async fn register(&mut self, expires_s: u32) -> Message {
        let (own, call_id) = (self.own(), format!("reg-{}", self.tag));
        let draft = Draft {
            method: "REGISTER",
            uri: format!("sip:{DOMAIN}"),
            to: format!("<sip:{}@{DOMAIN}>", self.user),
            from: own,
            call_id,
            cseq: self.register_cseq,
            extra: vec![("Expires".to_owned(), expires_s.to_string())],
            body: String::new(),
        };
        let (answer, cseq) = self.transact(draft).await;
        self.register_cseq = cseq + 1;
        answer
    }

    /// Calls `uri`; gives the final answer, and the dialog when it is a 2xx (which has its ACK then).
    pub(crate) async fn invite(&mut self, uri: &str) -> (Message, Option<Leg>) {
        let draft = Draft {
            method: "INVITE",
            uri: uri.to_owned(),
            from: self.own(),
            to: format!("<{uri}>"),
            call_id: token("call-"),
            cseq: 1,
            extra: Vec::new(),
            body: self.session(),
        };
        let (answer, cseq) = self.transact(draft).await;
        if answer.status() >= 300 {
            return (answer, None);
        }
        let leg = Leg {
            call_id: answer.call_id().to_owned(),
            local: answer.header("From").to_owned(),
            remote: answer.header("To").to_owned(),
            target: uri_of(answer.header("Contact")).to_owned(),
            cseq,
        };
        let ack = self.in_dialog("ACK", &leg);
        self.send(&ack, &token("z9hG4bK")).await;
        (answer, Some(leg))
    }

    /// Asks the gateway to call `from` and connect it with `to` (RFC 3515, outside a dialog).
    pub(crate) async fn refer(&mut self, from: &str, to: &str) -> Message {
        let draft = Draft {
            method: "REFER",
            uri: from.to_owned(),
            from: self.own(),
            to: format!("<{from}>"),
            call_id: token("refer-"),
            cseq: 1,
            extra: vec![("Refer-To".to_owned(), format!("<{to}>"))],
            body: String::new(),
        };
        self.transact(draft).await.0
    }

    fn in_dialog(&self, method: &'static str, leg: &Leg) -> Draft {
        Draft {
            method,
            uri: leg.target.clone(),
            from: leg.local.clone(),
            to: leg.remote.clone(),
            call_id: leg.call_id.clone(),
            cseq: leg.cseq,
            extra: Vec::new(),
            body: String::new(),
        }
    }

    pub(crate) async fn hang_up(&mut self, leg: &Leg) {
        let draft = Draft { cseq: leg.cseq + 1, ..self.in_dialog("BYE", leg) };
        let (answer, _) = self.transact(draft).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
    }

    /// Answers a request, with our session for a 2xx to an INVITE.
    pub(crate) async fn answer(&mut self, request: &Message, status: u16, reason: &str) {
        let mut text = format!("SIP/2.0 {status} {reason}\r\n");
        for name in ["Via", "Record-Route"] {
            for value in request.all(name) {
                text += &format!("{name}: {value}\r\n");
            }
        }
        let to = request.header("To");
        let tagged = to.contains(";tag=") || status == 100;
        let tag = if tagged { String::new() } else { format!(";tag={}", self.tag) };
        text += &format!(
            "From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: <{}>\r\n",
            request.header("From"),
            request.call_id(),
            request.header("CSeq"),
            self.uri()
        );
        let body = if request.method() == "INVITE" && (200..300).contains(&status) {
            text += "Content-Type: application/sdp\r\n";
            self.session()
        } else {
            String::new()
        };
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        self.socket.send_to(text.as_bytes(), self.server).await.expect("sent");
    }

    /// The called side: waits for an INVITE, rings, and leaves it at that.
    pub(crate) async fn ring(&mut self) -> Message {
        let invite = self.request("INVITE").await;
        self.answer(&invite, 180, "Ringing").await;
        invite
    }

    /// The called side: rings, answers and waits for the ACK.
    pub(crate) async fn pick_up(&mut self) -> (Message, Leg) {
        let invite = self.ring().await;
        self.answer(&invite, 200, "OK").await;
        self.request("ACK").await;
        let leg = self.called(&invite);
        (invite, leg)
    }

    fn called(&self, invite: &Message) -> Leg {
        Leg {
            call_id: invite.call_id().to_owned(),
            local: format!("{};tag={}", invite.header("To"), self.tag),
            remote: invite.header("From").to_owned(),
            target: uri_of(invite.header("Contact")).to_owned(),
            cseq: 0,
        }
    }

    /// Waits for the other side's BYE and answers it.
    pub(crate) async fn hear_bye(&mut self) -> Message {
        let bye = self.request("BYE").await;
        self.answer(&bye, 200, "OK").await;
        bye
    }

    /// Waits for a CANCEL and ends the INVITE as RFC 3261 9.2 wants.
    pub(crate) async fn hear_cancel(&mut self, invite: &Message) {
        let cancel = self.request("CANCEL").await;
        self.answer(&cancel, 200, "OK").await;
        self.answer(invite, 487, "Request Terminated").await;
    }
}
