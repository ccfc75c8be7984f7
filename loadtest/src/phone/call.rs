//! One call of a phone: its dialog, its voice, who hung up.
//! Owns:  `Dialog` (shared with the reader task) and `Call` (held by the test).
//! Gives: `hang_up`, `ended`, what was heard.
//! Never: forks: the first 2xx makes the dialog.
//! Holds: a dialog ends once, and its BYE is answered even when nobody holds the call any more.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rsip::headers::{Header, UntypedHeader};
use rsip::message::{HasHeaders, HeadersExt};
use rsip::{Method, Request, Response};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::wire::{Invitation, Wire, lock};
use super::{GIVE_UP, Outgoing, Phone, PhoneError, token};
use crate::message;
use crate::sdp::{self, Direction};
use crate::voice::{Heard, Voice};

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HungUpBy {
    Me,
    Other,
}

/// What is left of a call that ended.
#[derive(Clone, Debug, Serialize)]
pub struct CallReport {
    pub call_id: String,
    pub hung_up_by: HungUpBy,
    pub talked_ms: u64,
    pub heard: Heard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// We answered and wait for the ACK.
    Answered,
    Talking,
    Ended(HungUpBy),
}

/// The dialog of RFC 3261 12, seen from the phone.
#[derive(Debug)]
pub(super) struct Dialog {
    user: String,
    call_id: String,
    /// Our From or To value, with our tag.
    local: String,
    /// The other one's, with its tag.
    remote: String,
    /// Contact of the other side.
    target: String,
    route: Vec<String>,
    cseq: AtomicU32,
    /// CSeq of our INVITE, for its ACK; 0 when we were called.
    invite_cseq: u32,
    phase: watch::Sender<Phase>,
    voice: Mutex<Option<Voice>>,
    voice_at: SocketAddr,
    sdp_version: AtomicU32,
}

impl Dialog {
    /// A request inside this dialog, from the reader task.
    pub(super) async fn receive(
        &self,
        wire: &Wire,
        request: Request,
        from: SocketAddr,
    ) -> Result<(), PhoneError> {
        match request.method {
            Method::Ack => {
                if let Some(audio) = sdp::read_audio(request.body()) {
                    self.aim(audio);
                }
                self.phase.send_if_modified(|phase| {
                    let answered = *phase == Phase::Answered;
                    if answered {
                        *phase = Phase::Talking;
                    }
                    answered
                });
                Ok(())
            }
            Method::Bye => {
                // The answer first: whoever waits for the end may take the phone away.
                let answered = self.reply(wire, &request, 200, None, from).await;
                self.end(HungUpBy::Other);
                answered
            }
            Method::Invite | Method::Update => self.renegotiate(wire, request, from).await,
            Method::Info | Method::Options => self.reply(wire, &request, 200, None, from).await,
            // A CANCEL that crosses our 200 changes nothing any more (RFC 3261 9.2).
            Method::Cancel => self.reply(wire, &request, 200, None, from).await,
            _ => self.reply(wire, &request, 405, None, from).await,
        }
    }

    async fn renegotiate(
        &self,
        wire: &Wire,
        request: Request,
        from: SocketAddr,
    ) -> Result<(), PhoneError> {
        let mut direction = Direction::SendRecv;
        if let Some(audio) = sdp::read_audio(request.body()) {
            direction = audio.direction.answer();
            self.aim(audio);
        }
        let version = self.sdp_version.fetch_add(1, Ordering::Relaxed);
        let answer = sdp::write(&self.user, self.voice_at, version, direction);
        self.reply(wire, &request, 200, Some(&answer), from).await
    }

    async fn reply(
        &self,
        wire: &Wire,
        request: &Request,
        status: u16,
        sdp: Option<&str>,
        to: SocketAddr,
    ) -> Result<(), PhoneError> {
        let mut response = message::response(request, status, "");
        response.headers_mut().push(Header::Contact(wire.contact().into()));
        wire.reply(request, response, sdp, to).await
    }

    /// Sends the ACK of our INVITE, first or again.
    pub(super) async fn acknowledge(&self, wire: &Wire) -> Result<(), PhoneError> {
        let ack = wire.compose(&self.outgoing(Method::Ack), self.invite_cseq, None)?;
        wire.send_message(ack.into(), None, wire.server).await
    }

    fn outgoing(&self, method: Method) -> Outgoing {
        let extra = self.route.iter().map(|route| Header::Route(route.as_str().into())).collect();
        Outgoing {
            method,
            uri: self.target.clone(),
            from: self.local.clone(),
            to: self.remote.clone(),
            call_id: self.call_id.clone(),
            extra,
            sdp: None,
        }
    }

    fn aim(&self, audio: sdp::Audio) {
        if let Some(voice) = lock(&self.voice).as_ref() {
            let silent = !audio.direction.receives() || audio.address.ip().is_unspecified();
            voice.aim((!silent).then_some(audio.address));
        }
    }

    fn end(&self, by: HungUpBy) {
        self.phase.send_if_modified(|phase| {
            let standing = !matches!(phase, Phase::Ended(_));
            if standing {
                *phase = Phase::Ended(by);
            }
            standing
        });
    }
}

/// A call that was answered. Dropping it leaves the dialog to the other side's BYE.
#[derive(Debug)]
pub struct Call {
    wire: Arc<Wire>,
    dialog: Arc<Dialog>,
    since: Instant,
}

impl Call {
    pub fn call_id(&self) -> &str {
        &self.dialog.call_id
    }

    pub fn heard(&self) -> Heard {
        lock(&self.dialog.voice).as_ref().map(Voice::heard).unwrap_or_default()
    }

    /// How much of what was heard in the last 100 ms lies at `hz`.
    pub fn tone_share(&self, hz: f32) -> f32 {
        lock(&self.dialog.voice).as_ref().map_or(0.0, |voice| voice.tone_share(hz))
    }

    /// Sends BYE and waits for its answer.
    pub async fn hang_up(self) -> Result<CallReport, PhoneError> {
        self.dialog.end(HungUpBy::Me);
        let cseq = self.dialog.cseq.fetch_add(1, Ordering::Relaxed) + 1;
        let bye = self.wire.compose(&self.dialog.outgoing(Method::Bye), cseq, None)?;
        let response = self.wire.transact(bye, None).await?;
        let status = response.status_code.code();
        if status != 200 {
            return Err(PhoneError::Refused { status, method: "BYE".to_owned() });
        }
        Ok(self.report())
    }

    /// Waits until the other side hangs up.
    pub async fn ended(self, wait: Duration) -> Result<CallReport, PhoneError> {
        let mut phase = self.dialog.phase.subscribe();
        let over = phase.wait_for(|phase| matches!(phase, Phase::Ended(_)));
        match timeout(wait, over).await {
            Ok(Ok(_)) => Ok(self.report()),
            Ok(Err(_)) => Err(PhoneError::Ended("the phone was closed")),
            Err(_) => Err(PhoneError::TimedOut("BYE of the other side")),
        }
    }

    fn report(&self) -> CallReport {
        let hung_up_by = match *self.dialog.phase.borrow() {
            Phase::Ended(by) => by,
            Phase::Answered | Phase::Talking => HungUpBy::Other,
        };
        let heard = self.heard();
        lock(&self.dialog.voice).take();
        CallReport {
            call_id: self.dialog.call_id.clone(),
            hung_up_by,
            talked_ms: self.since.elapsed().as_millis() as u64,
            heard,
        }
    }
}

/// The caller's side: INVITE, credentials, ACK.
pub(super) async fn place(
    phone: &mut Phone,
    target: &str,
    tone_hz: f32,
) -> Result<Call, PhoneError> {
    let wire = Arc::clone(&phone.wire);
    let uri = match target.split_once(':') {
        Some(_) => target.to_owned(),
        None => format!("sip:{target}@{}", wire.server),
    };
    let voice = Voice::bind(wire.local.ip(), tone_hz)?;
    let voice_at = voice.local();
    let local = format!("<sip:{}@{}>;tag={}", wire.user, wire.server.ip(), token("t"));
    let call_id = token("call");
    let invite = Outgoing {
        method: Method::Invite,
        uri: uri.clone(),
        from: local.clone(),
        to: format!("<{uri}>"),
        call_id: call_id.clone(),
        extra: vec![Header::Contact(wire.contact().into())],
        sdp: Some(sdp::write(&wire.user, voice_at, 1, Direction::SendRecv)),
    };
    let mut cseq = 0;
    let (response, _) = phone.authenticated(invite, &mut cseq).await?;
    let status = response.status_code.code();
    if status >= 300 {
        return Err(PhoneError::Refused { status, method: "INVITE".to_owned() });
    }
    let answer = sdp::read_audio(response.body())
        .ok_or_else(|| PhoneError::Malformed("200 without an audio answer".to_owned()))?;
    let dialog = Arc::new(Dialog {
        user: wire.user.clone(),
        call_id: call_id.clone(),
        local,
        remote: response.to_header()?.value().to_owned(),
        target: remote_target(response.contact_header()?.value()),
        route: route_set(&response, true),
        cseq: AtomicU32::new(cseq),
        invite_cseq: cseq,
        phase: watch::Sender::new(Phase::Talking),
        voice: Mutex::new(Some(voice)),
        voice_at,
        sdp_version: AtomicU32::new(2),
    });
    lock(&wire.dialogs).insert(call_id, Arc::clone(&dialog));
    dialog.acknowledge(&wire).await?;
    dialog.aim(answer);
    Ok(Call { wire, dialog, since: Instant::now() })
}

/// The callee's side: 180, 200 until the ACK comes (RFC 3261 13.3.1.4).
pub(super) async fn answer(
    wire: &Arc<Wire>,
    invitation: Invitation,
    tone_hz: f32,
) -> Result<Call, PhoneError> {
    let Invitation { request, from } = invitation;
    let tag = token("t");
    let voice = Voice::bind(wire.local.ip(), tone_hz)?;
    let voice_at = voice.local();
    let offer = sdp::read_audio(request.body());
    let call_id = message::call_id(&request);
    let mut ok = message::response(&request, 200, &tag);
    ok.headers_mut().push(Header::Contact(wire.contact().into()));
    let dialog = Arc::new(Dialog {
        user: wire.user.clone(),
        call_id: call_id.clone(),
        local: ok.to_header()?.value().to_owned(),
        remote: request.from_header()?.value().to_owned(),
        target: remote_target(request.contact_header()?.value()),
        route: route_set(&request, false),
        cseq: AtomicU32::new(0),
        invite_cseq: 0,
        phase: watch::Sender::new(Phase::Answered),
        voice: Mutex::new(Some(voice)),
        voice_at,
        sdp_version: AtomicU32::new(2),
    });
    lock(&wire.dialogs).insert(call_id, Arc::clone(&dialog));
    let mut ringing = message::response(&request, 180, &tag);
    ringing.headers_mut().push(Header::Contact(wire.contact().into()));
    wire.reply(&request, ringing, None, from).await?;
    if let Some(offer) = offer {
        dialog.aim(offer);
    }
    let direction = offer.map_or(Direction::SendRecv, |offer| offer.direction.answer());
    let body = sdp::write(&wire.user, voice_at, 1, direction);
    send_until_acknowledged(wire, &dialog, &request, ok, &body, from).await?;
    Ok(Call { wire: Arc::clone(wire), dialog, since: Instant::now() })
}

async fn send_until_acknowledged(
    wire: &Wire,
    dialog: &Dialog,
    request: &Request,
    ok: Response,
    body: &str,
    to: SocketAddr,
) -> Result<(), PhoneError> {
    let mut phase = dialog.phase.subscribe();
    let give_up_at = Instant::now() + GIVE_UP;
    let mut wait = T1;
    while Instant::now() < give_up_at {
        wire.reply(request, ok.clone(), Some(body), to).await?;
        let acknowledged = phase.wait_for(|phase| *phase != Phase::Answered);
        if timeout_at(Instant::now() + wait, acknowledged).await.is_ok() {
            return Ok(());
        }
        wait = T2.min(wait * 2);
    }
    Err(PhoneError::TimedOut("ACK"))
}

fn remote_target(contact: &str) -> String {
    message::uri_of(contact).to_owned()
}

/// Record-Route, in order for the called side, reversed for the caller (RFC 3261 12.1).
fn route_set(message: &impl HasHeaders, reversed: bool) -> Vec<String> {
    let mut route: Vec<String> = message
        .headers()
        .iter()
        .filter_map(|header| match header {
            Header::RecordRoute(value) => Some(value.value().to_owned()),
            _ => None,
        })
        .collect();
    if reversed {
        route.reverse();
    }
    route
}
