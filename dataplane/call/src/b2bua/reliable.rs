//! Provisional responses that the inviter acknowledges, and what has to wait for that (RFC 3262 3, 5).
//! Owns:  `Reliable`: what the inviter can do, the response that waits for its PRACK, those behind it.
//! Gives: `tell_caller_progress`, `handle_prack`, `reliable_timeout`; `hold_answer` for the 2xx.
//! Never: a second response on its way before the first is acknowledged; a second description.
//! Holds: no 2xx passes a description that is not acknowledged, and nothing is repeated behind a
//!        final response; without a PRACK for 64*T1 the INVITE hears 504.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use shared::cdr::HangupReason;
use shared::event::Severity;
use shared::metrics::Counter;
use shared::net::Destination;
use shared::time::Instant;
use sip::sdp::{Description, Direction};
use sip::wire::{HeaderName, Message, Method, RAck, scan};

use super::compose::{self, Carries, SDP, carries};
use super::media::read;
use super::prack::{OPTION, is_reliable};
use super::refresh::fits;
use super::{Call, INVITER, LegState};
use crate::desk::{ALLOW, Desk, Reply};
use crate::transactions::ServerKey;

/// Responses that wait behind one that has no PRACK yet.
const WAITING_MAX: usize = 8;

/// Of an INVITE whose sender can acknowledge provisional responses.
#[derive(Debug)]
pub(crate) struct Reliable {
    /// It insists on it (Require); else it is able to (Supported).
    required: bool,
    /// The number of the INVITE.
    cseq: u32,
    /// The number of the response that was sent last.
    rseq: u32,
    /// One whose PRACK has not come.
    out: Option<Outstanding>,
    waiting: VecDeque<Waiting>,
    /// A description went out: the INVITE's offer is answered, or an offer was made.
    told: bool,
    /// Whoever is called next may make the inviter an offer before the answer.
    pub takes_offer: bool,
    held: Option<Held>,
}

/// A 2xx that waits for a PRACK.
#[derive(Debug)]
enum Held {
    /// That of the leg that answered.
    Callee(Vec<u8>),
    /// Our own, which a program wants.
    Program,
}

#[derive(Debug)]
struct Outstanding {
    rseq: u32,
    /// It carries a description.
    tells: bool,
    /// That is an offer: the PRACK brings the answer.
    offers: bool,
    /// The leg whose offer it is: it waits for the answer, until a final response refuses it.
    owes: Option<OwedPrack>,
    /// `None` behind a final response.
    repeat: Option<Repeat>,
}

#[derive(Debug)]
struct Repeat {
    response: Rc<Vec<u8>>,
    to: Destination,
    at: Instant,
    wait: Duration,
    give_up_at: Instant,
}

/// A response of a called leg that is to be passed on.
#[derive(Debug)]
struct Waiting {
    status: u16,
    response: Vec<u8>,
    body: Vec<u8>,
    owes: Option<OwedPrack>,
}

/// A leg whose offer came in this response: its PRACK carries the answer.
#[derive(Debug)]
pub(crate) struct OwedPrack {
    pub leg: u8,
    pub response: Vec<u8>,
}

impl Reliable {
    /// What an INVITE says about it; most say nothing.
    pub(crate) fn wanted(desk: &mut Desk, invite: &Message<'_>) -> Option<Box<Self>> {
        let required = invite.names_option(HeaderName::Require, OPTION);
        if !required && !invite.names_option(HeaderName::Supported, OPTION) {
            return None;
        }
        // RFC 3262 3: the first number is at random, and below 2^31.
        let rseq = u32::try_from(desk.mint.random() % 0x7fff_0000).expect("it is below 2^31");
        Some(Box::new(Self {
            required,
            cseq: invite.cseq().map_or(0, |cseq| cseq.number),
            rseq,
            out: None,
            waiting: VecDeque::new(),
            told: false,
            takes_offer: false,
            held: None,
        }))
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let repeat = self.out.as_ref()?.repeat.as_ref()?;
        Some(repeat.at.min(repeat.give_up_at))
    }

    fn has_told(&self) -> bool {
        self.told || self.waiting.iter().any(|waiting| !waiting.body.is_empty())
    }
}

impl Call {
    /// A description went to the inviter in a reliable response: no other one may follow it there.
    pub(crate) fn has_told(&self) -> bool {
        self.reliable.as_ref().is_some_and(|reliable| reliable.told)
    }

    /// The same, where one that only waits for its turn counts as well.
    pub(crate) fn will_have_told(&self) -> bool {
        self.reliable.as_ref().is_some_and(|reliable| reliable.has_told())
    }

    /// The INVITE carried no offer, and its sender has answered the one of somebody called before.
    pub(crate) fn has_answered_early(&self) -> bool {
        let said = self.leg(INVITER).is_some_and(|leg| !leg.said.is_empty());
        !self.offerless && said && self.has_told()
    }

    /// 1xx to the inviter, with what the called leg's response carries. Reliably where the inviter
    /// insists on it; where it is able to, when a description is in it or the callee was as careful.
    pub(crate) fn tell_caller_progress(
        &mut self,
        desk: &mut Desk,
        status: u16,
        response: &Message<'_>,
        body: &[u8],
    ) {
        let is_owed =
            |reliable: &Reliable| reliable.required || !body.is_empty() || is_reliable(response);
        if self.reliable.as_deref().is_some_and(is_owed) {
            return self.tell_in_turn(desk, status, response, body.to_vec(), None);
        }
        self.write_progress(desk, status, response, body, None);
    }

    /// `owes`: the leg whose offer `body` is.
    pub(super) fn tell_in_turn(
        &mut self,
        desk: &mut Desk,
        status: u16,
        response: &Message<'_>,
        body: Vec<u8>,
        owes: Option<OwedPrack>,
    ) {
        let Some(reliable) = self.reliable.as_mut().filter(|_| self.invite.is_some()) else {
            return;
        };
        if reliable.held.is_some() {
            return; // it has been answered
        }
        let repeats = body.is_empty()
            && reliable
                .waiting
                .back()
                .is_some_and(|last| last.status == status && last.body.is_empty());
        if repeats {
            return;
        }
        if reliable.waiting.len() >= WAITING_MAX {
            desk.count(Counter::ProvisionalsDropped);
            if let Some(owed) = owes {
                self.prack_refusing(desk, &owed);
            }
            return;
        }
        let response = response.bytes().to_vec();
        reliable.waiting.push_back(Waiting { status, response, body, owes });
        self.tell_next(desk);
        self.arm(desk);
    }

    /// Sends the response whose turn it is.
    fn tell_next(&mut self, desk: &mut Desk) {
        let Some(server) = self.invite else { return };
        let Some(reliable) = self.reliable.as_mut().filter(|one| one.out.is_none()) else { return };
        let Some(next) = reliable.waiting.pop_front() else { return };
        reliable.rseq += 1;
        let rseq = reliable.rseq;
        let to = desk.transactions.servers.find(server).map(|server| server.reply_to);
        let Ok(response) = scan(&next.response) else { return };
        let sent = self.write_progress(desk, next.status, &response, &next.body, Some(rseq));
        let (Some(response), Some(to), Some(reliable)) = (sent, to, &mut self.reliable) else {
            return;
        };
        let (now, wait) = (desk.now.mono, desk.timers.t1);
        let give_up_at = now + 64 * wait;
        let tells = !next.body.is_empty();
        reliable.told |= tells;
        // It is repeated over reliable transports, too: a proxy behind may lose it (RFC 3262 3).
        let repeat = Some(Repeat { response, to, at: now + wait, wait, give_up_at });
        let offers = next.owes.is_some();
        reliable.out = Some(Outstanding { rseq, tells, offers, owes: next.owes, repeat });
    }

    fn write_progress(
        &mut self,
        desk: &mut Desk,
        status: u16,
        response: &Message<'_>,
        body: &[u8],
        rseq: Option<u32>,
    ) -> Option<Rc<Vec<u8>>> {
        let server = self.invite?;
        let inviter = self.leg(INVITER)?;
        let (way, tag) = (inviter.way, &inviter.dialog.local_tag);
        let answer = Reply { status, reason: b"", to_tag: Some(tag) };
        desk.respond(server, answer, |desk, request, mut out| {
            out.copy(request, HeaderName::RecordRoute);
            desk.write_contact(&mut out, &way);
            out.header("Allow", ALLOW);
            if let Some(rseq) = rseq {
                out.header("Require", OPTION);
                out.header_fmt("RSeq", format_args!("{rseq}"));
            }
            compose::pass_through(&mut out, response);
            compose::write_body(out, SDP, body);
        })
    }

    /// Repeats what has no PRACK, without a ceiling for the time between (RFC 3262 3).
    pub(crate) fn reliable_timeout(&mut self, desk: &mut Desk) {
        let (now, rung) = (desk.now.mono, self.rung(INVITER));
        let out = self.reliable.as_mut().and_then(|reliable| reliable.out.as_mut());
        let Some(repeat) = out.and_then(|out| out.repeat.as_mut()) else { return };
        if repeat.give_up_at <= now {
            self.inviter_silent(desk);
        } else if repeat.at <= now {
            repeat.wait *= 2;
            repeat.at = now + repeat.wait;
            let (to, response) = (repeat.to, Rc::clone(&repeat.response));
            desk.count(Counter::SipRetransmitsOut);
            desk.out.send(to, response, Some(rung));
        }
    }

    /// Nobody acknowledges: the INVITE is refused (RFC 3262 3), whoever rings is let go.
    fn inviter_silent(&mut self, desk: &mut Desk) {
        desk.count(Counter::ProvisionalsUnacknowledged);
        let id = self.id;
        desk.notice(Severity::Warning, "provisional_unacknowledged", || {
            format!("call {id}: the caller did not acknowledge a reliable provisional response")
        });
        self.end(desk, HangupReason::Failed, 504, None);
    }

    /// A final response goes to the inviter: nothing is repeated or sent behind it. A PRACK that is
    /// under way still finds what it acknowledges.
    pub(crate) fn stop_telling(&mut self, desk: &mut Desk) {
        let Some(reliable) = &mut self.reliable else { return };
        let mut owed = Vec::new();
        if let Some(out) = &mut reliable.out {
            out.repeat = None;
            owed.extend(out.owes.take());
        }
        owed.extend(reliable.waiting.drain(..).filter_map(|waiting| waiting.owes));
        reliable.held = None;
        for owed in owed {
            self.prack_refusing(desk, &owed);
        }
    }

    /// Keeps the 2xx back while a description waits for its PRACK (RFC 3262 3). `response`: that of
    /// the leg that answered; else a program wants it.
    pub(crate) fn hold_answer(&mut self, desk: &mut Desk, response: Option<&Message<'_>>) -> bool {
        let Some(reliable) = &mut self.reliable else { return false };
        let waits = |out: &Outstanding| out.tells && out.repeat.is_some();
        if self.invite.is_none() || !reliable.out.as_ref().is_some_and(waits) {
            return false;
        }
        reliable.waiting.clear(); // what carries an offer has told already, and is not behind another
        let response = response.map(|response| response.bytes().to_vec());
        reliable.held = Some(response.map_or(Held::Program, Held::Callee));
        self.arm(desk);
        true
    }

    /// A PRACK with the tag of leg `index` in To.
    pub(crate) fn handle_prack(
        &mut self,
        desk: &mut Desk,
        index: u8,
        server: ServerKey,
        request: &Message<'_>,
    ) {
        let Ok(Some(rack)) = request.rack() else { return desk.refuse(server, 400) };
        let Some(out) = self.take_acknowledged(index, rack) else {
            desk.count(Counter::PracksUnmatched);
            return desk.refuse(server, 481);
        };
        match (out.owes, carries(request)) {
            (Some(owed), _) => self.early_offer_answered(desk, server, &owed, request),
            (None, Carries::Nothing) => desk.refuse(server, 200),
            (None, Carries::Other) => desk.refuse(server, 415),
            // The answer came behind the final response: nobody waits for it, but it is no offer.
            (None, Carries::Sdp) if out.offers => desk.refuse(server, 200),
            (None, Carries::Sdp) => self.answer_second_offer(desk, server, request),
        }
        if self.ended.is_none() {
            self.go_on_telling(desk);
        }
    }

    fn take_acknowledged(&mut self, index: u8, rack: RAck) -> Option<Outstanding> {
        let reliable = self.reliable.as_mut().filter(|_| index == INVITER)?;
        let is_of_invite = rack.cseq == reliable.cseq && rack.method == Method::Invite;
        reliable.out.take_if(|out| is_of_invite && out.rseq == rack.rseq)
    }

    fn go_on_telling(&mut self, desk: &mut Desk) {
        match self.reliable.as_mut().and_then(|reliable| reliable.held.take()) {
            Some(Held::Callee(response)) => {
                if let Ok(response) = scan(&response) {
                    self.answer_caller(desk, &response, b"", None);
                }
            }
            Some(Held::Program) => self.answer_early(desk, b""),
            None => self.tell_next(desk),
        }
    }

    /// The inviter's answer to the offer of a called leg goes into the PRACK to that leg.
    fn early_offer_answered(
        &mut self,
        desk: &mut Desk,
        server: ServerKey,
        owed: &OwedPrack,
        request: &Message<'_>,
    ) {
        let answer = read(request.body()).ok().filter(|_| carries(request) == Carries::Sdp);
        let Some(answer) = answer else {
            // RFC 3262 5: it was to bring one.
            desk.refuse(server, if request.body().is_empty() { 200 } else { 400 });
            self.prack_refusing(desk, owed);
            return self.end(desk, HangupReason::Failed, 488, None);
        };
        desk.refuse(server, 200);
        self.offerless = false;
        self.heard(desk, INVITER, &answer);
        // Who is gone gets nothing; whoever is called next is offered what the inviter answered.
        if self.leg(owed.leg).is_some_and(|leg| leg.state != LegState::Ended) {
            let body = self.say(desk, owed.leg, &answer);
            self.prack_owed(desk, owed, &body);
        }
    }

    /// A second offer, in a PRACK. It is answered here when what the inviter was told is an answer to
    /// it as well: it has moved its media, or chosen of what it offered. Else it keeps what it has.
    fn answer_second_offer(&mut self, desk: &mut Desk, server: ServerKey, request: &Message<'_>) {
        let told = self.legs[usize::from(INVITER)].last_sdp.clone();
        let offer = match read(request.body()) {
            Ok(offer) => offer,
            Err(error) => return desk.refuse(server, error.status()),
        };
        let is_answer = read(&told).is_ok_and(|told| directions_fit(&told, &offer));
        let is_known = self.has_told() && fits(&told, request.body());
        if !is_answer || !is_known || self.media.past_us || self.ended.is_some() {
            return desk.refuse(server, 488);
        }
        self.heard(desk, INVITER, &offer);
        desk.respond(server, Reply::new(200), |_, _, out| out.body(SDP, &told));
    }

    /// The inviter was told a description before the answer and keeps to it (RFC 3261 13.2.1): when
    /// whoever answered says another one, a re-INVITE tells it.
    pub(crate) fn settle_terms(&mut self, desk: &mut Desk) {
        let peer = self.peer_of(INVITER).filter(|_| self.has_told());
        let said = peer.map(|peer| self.legs[usize::from(peer)].said.clone()).unwrap_or_default();
        let Ok(said) = read(&said) else { return };
        if !self.was_told_as_much(desk, &said) {
            self.restate_peer(desk, INVITER);
        }
    }

    /// Whether the inviter would be told the same once more.
    pub(super) fn was_told_as_much(&mut self, desk: &Desk, said: &Description<'_>) -> bool {
        let leg = &self.legs[usize::from(INVITER)];
        let (before, version) = (leg.last_sdp.clone(), leg.origin_version);
        let agrees = self.say(desk, INVITER, said) == before;
        let leg = &mut self.legs[usize::from(INVITER)];
        (leg.last_sdp, leg.origin_version) = (before, version);
        agrees
    }

    /// Whether a called leg may be asked for reliable responses: with an offer in our INVITE always,
    /// without one only where the inviter can answer the offer that comes then.
    pub(crate) fn asks_reliability(&self, offers: bool) -> bool {
        let free = |reliable: &Reliable| reliable.takes_offer && !reliable.has_told();
        offers || self.reliable.as_deref().is_some_and(free)
    }

    /// Only one phone at a time may make the inviter an offer: it can answer one.
    pub(crate) fn let_offer_early(&mut self, targets: usize) {
        if let Some(reliable) = &mut self.reliable {
            reliable.takes_offer = targets == 1;
        }
    }
}

/// The number of the request in this transaction, while that has no final response.
pub(super) fn cseq_of(desk: &Desk, server: ServerKey) -> u32 {
    let found = desk.transactions.servers.find(server);
    let request = found.and_then(|server| scan(&server.request).ok());
    request.and_then(|request| request.cseq().ok()).map_or(0, |cseq| cseq.number)
}

/// Each line that was told has a direction that answers the one that is offered now (RFC 3264 6.1).
fn directions_fit(told: &Description<'_>, offer: &Description<'_>) -> bool {
    told.media.iter().zip(&offer.media).all(|(told, offer)| {
        let any = offer.direction == Direction::SendRecv;
        told.port == 0 || any || told.direction == offer.direction.answered()
    })
}
