//! The SIP socket of a phone: one reader task, transactions by branch, dialogs by Call-ID.
//! Owns:  resends (RFC 3261 17), what was answered to a request, the ladder.
//! Gives: `transact`: a request in, its final response out; new INVITEs as `Invitation`.
//! Never: waits for a call's owner: BYE, re-INVITE, OPTIONS are answered by the reader itself.
//! Holds: a repeated request gets the bytes of its first answer.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rsip::headers::{Header, UntypedHeader};
use rsip::message::{HasHeaders, HeadersExt};
use rsip::{Method, Request, Response, SipMessage};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::call::Dialog;
use super::ladder::{LadderLine, now_ms};
use super::{GIVE_UP, Outgoing, PhoneError, token};
use crate::message;

/// Timers T1 and T2 (RFC 3261 17.1.1.1).
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
/// Remembered answers and dialogs of one phone; tests make far fewer calls per phone.
const ANSWERS_MAX: usize = 4_096;
const INVITATIONS_MAX: usize = 64;

/// An INVITE that opens a dialog.
#[derive(Debug)]
pub(super) struct Invitation {
    pub(super) request: Request,
    pub(super) from: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Wire {
    socket: UdpSocket,
    pub(super) local: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) user: String,
    ladder: Mutex<Vec<LadderLine>>,
    /// Waiting client transactions by branch and method.
    waiting: Mutex<HashMap<String, mpsc::UnboundedSender<Response>>>,
    /// Answers to requests by branch and method.
    answers: Mutex<HashMap<String, Vec<u8>>>,
    pub(super) dialogs: Mutex<HashMap<String, Arc<Dialog>>>,
}

impl Wire {
    pub(super) fn bind(
        server: SocketAddr,
        user: &str,
    ) -> io::Result<(Arc<Self>, mpsc::Receiver<Invitation>)> {
        // A connected socket tells which of our addresses leads to the server; the phone's own socket
        // stays unconnected, because a gateway may answer from another address of its host.
        let probe = std::net::UdpSocket::bind(("0.0.0.0", 0))?;
        probe.connect(server)?;
        let socket = std::net::UdpSocket::bind((probe.local_addr()?.ip(), 0))?;
        socket.set_nonblocking(true)?;
        let wire = Arc::new(Self {
            local: socket.local_addr()?,
            socket: UdpSocket::from_std(socket)?,
            server,
            user: user.to_owned(),
            ladder: Mutex::default(),
            waiting: Mutex::default(),
            answers: Mutex::default(),
            dialogs: Mutex::default(),
        });
        let (ringing, invitations) = mpsc::channel(INVITATIONS_MAX);
        tokio::spawn(listen(Arc::downgrade(&wire), ringing));
        Ok((wire, invitations))
    }

    pub(super) fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.user, self.local)
    }

    pub(super) fn ladder(&self) -> Vec<LadderLine> {
        lock(&self.ladder).clone()
    }

    /// A request with a Via of its own, or with `branch` (ACK of a failure, CANCEL).
    pub(super) fn compose(
        &self,
        outgoing: &Outgoing,
        cseq: u32,
        branch: Option<&str>,
    ) -> Result<Request, PhoneError> {
        let Outgoing { method, uri, from, to, call_id, extra, .. } = outgoing;
        let fresh = token("z9hG4bK");
        let branch = branch.unwrap_or(&fresh);
        let mut headers = vec![
            Header::Via(format!("SIP/2.0/UDP {};branch={branch};rport", self.local).into()),
            Header::MaxForwards("70".into()),
            Header::From(from.as_str().into()),
            Header::To(to.as_str().into()),
            Header::CallId(call_id.as_str().into()),
            Header::CSeq(format!("{cseq} {method}").into()),
            Header::UserAgent("Ringgate test phone".into()),
        ];
        headers.extend(extra.iter().cloned());
        Ok(message::request(*method, uri, headers)?)
    }

    /// Sends until the final response; an INVITE's failure is acknowledged here (17.1.1.3).
    pub(super) async fn transact(
        &self,
        request: Request,
        sdp: Option<&str>,
    ) -> Result<Response, PhoneError> {
        let invite = request.method == Method::Invite;
        let key = key(&request);
        let bytes = message::seal(request.clone(), sdp);
        let (deliver, mut responses) = mpsc::unbounded_channel();
        lock(&self.waiting).insert(key.clone(), deliver);
        let outcome = self.await_final(&request, &bytes, &mut responses).await;
        lock(&self.waiting).remove(&key);
        let response = outcome?;
        if invite && response.status_code.code() >= 300 {
            self.acknowledge_failure(&request, &response).await?;
        }
        Ok(response)
    }

    async fn await_final(
        &self,
        request: &Request,
        bytes: &[u8],
        responses: &mut mpsc::UnboundedReceiver<Response>,
    ) -> Result<Response, PhoneError> {
        let invite = request.method == Method::Invite;
        let text = message::summary(&SipMessage::from(request.clone()));
        let mut give_up_at = Instant::now() + GIVE_UP;
        let mut wait = T1;
        let mut resend_at = Instant::now();
        let mut proceeding = false;
        loop {
            if !(invite && proceeding) && Instant::now() >= resend_at {
                self.send(bytes, self.server, &text).await?;
                resend_at = Instant::now() + wait;
                wait = if invite { wait * 2 } else { T2.min(wait * 2) };
            }
            let until = if invite && proceeding { give_up_at } else { resend_at.min(give_up_at) };
            match timeout_at(until, responses.recv()).await {
                Ok(Some(response)) if response.status_code.code() < 200 => {
                    proceeding = true;
                    // A ringing phone may ring for minutes; the gateway's ring time ends it.
                    give_up_at = Instant::now() + if invite { 10 * GIVE_UP } else { GIVE_UP };
                }
                Ok(Some(response)) => return Ok(response),
                Ok(None) => return Err(PhoneError::Ended("the phone was closed")),
                Err(_) if Instant::now() >= give_up_at => {
                    return Err(PhoneError::TimedOut("final response"));
                }
                Err(_) => {}
            }
        }
    }

    async fn acknowledge_failure(
        &self,
        invite: &Request,
        response: &Response,
    ) -> Result<(), PhoneError> {
        let ack = Outgoing {
            method: Method::Ack,
            uri: invite.uri.to_string(),
            from: invite.from_header()?.value().to_owned(),
            to: response.to_header()?.value().to_owned(),
            call_id: message::call_id(invite),
            extra: Vec::new(),
            sdp: None,
        };
        let cseq = message::cseq(invite).map_or(1, |(number, _)| number);
        let branch = message::branch(invite);
        let ack = self.compose(&ack, cseq, branch.as_deref())?;
        self.send_message(ack.into(), None, self.server).await
    }

    pub(super) async fn send_message(
        &self,
        message: SipMessage,
        sdp: Option<&str>,
        to: SocketAddr,
    ) -> Result<(), PhoneError> {
        let text = message::summary(&message);
        let bytes = message::seal(message, sdp);
        self.send(&bytes, to, &text).await
    }

    /// Answers a request and keeps the answer for its repeats.
    pub(super) async fn reply(
        &self,
        request: &Request,
        response: Response,
        sdp: Option<&str>,
        to: SocketAddr,
    ) -> Result<(), PhoneError> {
        let message = SipMessage::from(response);
        let text = message::summary(&message);
        let bytes = message::seal(message, sdp);
        {
            let mut answers = lock(&self.answers);
            if answers.len() < ANSWERS_MAX {
                answers.insert(key(request), bytes.clone());
            }
        }
        self.send(&bytes, to, &text).await
    }

    async fn send(&self, bytes: &[u8], to: SocketAddr, text: &str) -> Result<(), PhoneError> {
        self.note(&self.user, "gateway", text);
        self.socket.send_to(bytes, to).await?;
        Ok(())
    }

    fn note(&self, from: &str, to: &str, text: &str) {
        lock(&self.ladder).push(LadderLine {
            at_ms: now_ms(),
            from: from.to_owned(),
            to: to.to_owned(),
            text: text.to_owned(),
        });
    }

    async fn receive(
        &self,
        bytes: &[u8],
        from: SocketAddr,
        ringing: &mpsc::Sender<Invitation>,
    ) -> Result<(), PhoneError> {
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Ok(());
        }
        let message = message::read(bytes)?;
        self.note("gateway", &self.user, &message::summary(&message));
        match message {
            SipMessage::Response(response) => self.receive_response(response).await,
            SipMessage::Request(request) => self.receive_request(request, from, ringing).await,
        }
    }

    async fn receive_response(&self, response: Response) -> Result<(), PhoneError> {
        let key = format!(
            "{} {}",
            message::branch(&response).unwrap_or_default(),
            message::cseq(&response).map(|(_, method)| method).unwrap_or_default()
        );
        let waiting = lock(&self.waiting).get(&key).cloned();
        match waiting {
            Some(deliver) => {
                // The waiter may have just left; then the response is late and nobody misses it.
                let _ = deliver.send(response);
                Ok(())
            }
            None => self.acknowledge_again(&response).await,
        }
    }

    /// A repeated 200 to an INVITE asks for the ACK once more (RFC 3261 13.2.2.4).
    async fn acknowledge_again(&self, response: &Response) -> Result<(), PhoneError> {
        let dialog = lock(&self.dialogs).get(&message::call_id(response)).cloned();
        let invite = message::cseq(response).is_some_and(|(_, method)| method == "INVITE");
        match dialog.filter(|_| invite && response.status_code.code() == 200) {
            Some(dialog) => dialog.acknowledge(self).await,
            None => Ok(()),
        }
    }

    async fn receive_request(
        &self,
        request: Request,
        from: SocketAddr,
        ringing: &mpsc::Sender<Invitation>,
    ) -> Result<(), PhoneError> {
        let known = lock(&self.answers).get(&key(&request)).cloned();
        if let Some(bytes) = known {
            return self.send(&bytes, from, "(again)").await;
        }
        let dialog = lock(&self.dialogs).get(&message::call_id(&request)).cloned();
        if let Some(dialog) = dialog {
            return dialog.receive(self, request, from).await;
        }
        let in_dialog = message::tag(request.to_header()?.value()).is_some();
        let status = match request.method {
            Method::Ack => return Ok(()),
            Method::Invite if !in_dialog => {
                let busy = message::response(&request, 486, &token("t"));
                return match ringing.try_send(Invitation { request: request.clone(), from }) {
                    Ok(()) => Ok(()),
                    Err(_) => self.reply(&request, busy, None, from).await,
                };
            }
            Method::Options if !in_dialog => 200,
            Method::Bye | Method::Cancel => 481,
            _ if in_dialog => 481,
            _ => 405,
        };
        let response = message::response(&request, status, &token("t"));
        self.reply(&request, response, None, from).await
    }
}

async fn listen(wire: Weak<Wire>, ringing: mpsc::Sender<Invitation>) {
    let mut buffer = vec![0u8; 65_535];
    loop {
        // The phone may go away at any time; looking up once a second is enough to notice.
        let Some(wire) = wire.upgrade() else { return };
        let until = Instant::now() + Duration::from_secs(1);
        let Ok(received) = timeout_at(until, wire.socket.recv_from(&mut buffer)).await else {
            continue;
        };
        let Ok((length, from)) = received else { continue };
        if let Err(error) = wire.receive(&buffer[..length], from, &ringing).await {
            wire.note("gateway", &wire.user, &format!("({error})"));
        }
    }
}

/// A server transaction's key (RFC 3261 17.2.3): an ACK of a failure shares its INVITE's branch
/// but is never answered.
fn key<M: HeadersExt + HasHeaders>(message: &M) -> String {
    let method = message::cseq(message).map(|(_, method)| method).unwrap_or_default();
    format!("{} {method}", message::branch(message).unwrap_or_default())
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
