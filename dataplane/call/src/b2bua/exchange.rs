//! Requests inside the dialogs of a call: re-INVITE, UPDATE, INFO and their kin cross to the other leg.
//! Owns:  `Exchange`: one request of a leg, passed on, and its way back (RFC 3261 14, RFC 3311, RFC 6086).
//! Gives: `handle_request`, `handle_ack`, `handle_exchange_response`.
//! Never: answers for the other leg what only the other leg can know.
//! Holds: one INVITE at a time in both directions: 491 for glare, 500 for impatience.

use std::time::Duration;

use shared::cdr::HangupReason;
use shared::ids::Side;
use shared::net::Source;
use shared::time::Instant;
use sip::dialog::Order;
use sip::sdp::Description;
use sip::wire::{HeaderName, Message, Method, scan};

use super::compose::{self, Carries, SDP, carries};
use super::media::{read, refusal};
use super::reliable::cseq_of;
use super::setup::contact_way;
use super::{AfterOpen, Call, LegState, OwedAck, State, Unacked, orphan, session_timer};
use crate::desk::{ALLOW, ALLOW_EVENTS, Desk, Reply};
use crate::relays::RelayOwners;
use crate::transactions::{Asks, ClientKey, ServerKey};

/// Requests of one call that may be on their way at a time; more are answered 500.
const EXCHANGES_MAX: usize = 8;
/// How long the other leg may take over one of them; a person may have to agree to a re-INVITE.
const EXCHANGE_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Exchange {
    pub number: u32,
    pub from: u8,
    pub to: u8,
    pub method: Method,
    pub server: ServerKey,
    /// Its own request on the other leg, once that is out.
    pub(crate) client: Option<ClientKey>,
    /// A peer that answers 1xx and nothing more is not waited for longer.
    pub(crate) give_up_at: Instant,
    /// Whether the request carries the offer (else an INVITE's 2xx does).
    pub offers: bool,
    /// It was sent again with a longer session interval.
    pub longer: bool,
}

impl Call {
    /// A request with our tag of leg `index` in To; everything but ACK and CANCEL.
    pub(crate) fn handle_request(
        &mut self,
        desk: &mut Desk,
        owners: &mut RelayOwners,
        index: u8,
        server: ServerKey,
        request: &Message<'_>,
        from: &Source,
    ) {
        let number = request.cseq().map_or(0, |cseq| cseq.number);
        let is_for_all = matches!(request.method(), Method::Bye | Method::Prack);
        let over = self.ended.is_some() && !is_for_all;
        let Some(leg) = self.leg_mut(index).filter(|_| !over) else {
            return desk.refuse(server, 481);
        };
        if leg.dialog.accept_cseq(number) == Order::OutOfOrder {
            return desk.refuse(server, 500);
        }
        match request.method() {
            Method::Bye => {
                self.hear_cause(request);
                self.handle_bye(desk, index, server);
                self.forget_cause();
            }
            Method::Prack => self.handle_prack(desk, index, server, request),
            Method::Invite | Method::Update => {
                self.refresh(index, request, from);
                let is_done = session_timer::refused(desk, server, request)
                    || self.answer_refresh(desk, index, server, request);
                if !is_done {
                    self.relay_offer(desk, owners, index, server, request);
                }
            }
            Method::Info | Method::Message | Method::Notify => {
                self.relay_request(desk, index, server, request);
            }
            Method::Options => {
                desk.respond(server, Reply::new(200), |_, _, mut out| {
                    out.header("Allow", ALLOW).header("Accept", SDP);
                    out.end();
                });
            }
            Method::Subscribe => {
                // Subscriptions have dialogs of their own (RFC 6665 4.5.2).
                desk.respond(server, Reply::new(489), |_, _, mut out| {
                    out.header("Allow-Events", ALLOW_EVENTS);
                    out.end();
                });
            }
            _ => {
                desk.respond(server, Reply::new(405), |_, _, mut out| {
                    out.header("Allow", ALLOW);
                    out.end();
                });
            }
        }
        self.arm(desk);
    }

    /// A target refresh: a new Contact, a new flow, a NAT that mapped anew.
    fn refresh(&mut self, index: u8, request: &Message<'_>, from: &Source) {
        let Some(leg) = self.leg_mut(index) else { return };
        leg.dialog.refresh_target(request);
        let back = from.back();
        if from.transport.is_reliable() || leg.way.peer == from.peer {
            leg.way = back;
        } else if let Some(way) = contact_way(request, &back) {
            leg.way = way;
        } else {
            leg.way = back;
        }
    }

    fn handle_bye(&mut self, desk: &mut Desk, index: u8, server: ServerKey) {
        desk.refuse(server, 200);
        let Some(leg) = self.leg_mut(index) else { return };
        let (side, was) = (leg.side, leg.state);
        leg.state = if was == LegState::Inviting { was } else { LegState::Ended };
        let unacked = leg.unacked.take(); // who hangs up has seen our 2xx
        if was == LegState::Up {
            leg.dialog.state = sip::dialog::State::Terminated;
        }
        if let Some(owed) = unacked.and_then(|unacked| unacked.owes) {
            self.acknowledge_refusing(desk, index, owed);
        }
        match was {
            LegState::Ended => {}
            // Somebody else has taken its place already.
            LegState::Up if self.joined[side.index()] != Some(index) => {}
            LegState::Up if self.transfer.as_ref().is_some_and(|one| one.leaves == index) => {
                self.transferor_left(desk, index);
            }
            // It picked up and went before the inviter could be told, whose PRACK was waited for.
            LegState::Up if self.answered.is_none() && self.invite.is_some() => {
                self.end(desk, HangupReason::NoAnswer, 480, Some(index));
            }
            LegState::Up if self.answered.is_none() => {
                // The first party of a call that we make, before the second has answered.
                self.end(desk, HangupReason::Canceled, 487, Some(index));
            }
            LegState::Up => {
                let reason = match side {
                    Side::Caller => HangupReason::ByCaller,
                    Side::Callee => HangupReason::ByCallee,
                };
                if self.replacing.as_ref().is_some_and(|one| one.is_for(index)) {
                    return self.transferor_left(desk, index); // somebody is about to take its place
                }
                if self.lent.is_some() && !self.is_lent(index) {
                    return self.lender_left(desk, index, reason);
                }
                self.end(desk, reason, 200, Some(index));
            }
            // Who called us may BYE an early dialog (RFC 3261 15.1.1): a CANCEL by another name.
            LegState::Inviting if self.legs[usize::from(index)].invite.is_none() => {
                self.end(desk, HangupReason::Canceled, 487, None);
            }
            LegState::Inviting => {
                // Not by the book (RFC 3261 15), but it is gone: so is our INVITE to it.
                if let Some(invite) = self.legs[usize::from(index)].invite {
                    desk.drop_client(invite);
                }
                self.handle_invite_failed(desk, index, 480);
            }
        }
    }

    /// INVITE and UPDATE: what they offer has to pass through our ports.
    fn relay_offer(
        &mut self,
        desk: &mut Desk,
        owners: &mut RelayOwners,
        index: u8,
        server: ServerKey,
        request: &Message<'_>,
    ) {
        let method = request.method();
        if let Err((status, wait)) = self.may_offer(index, method) {
            desk.respond(server, Reply::new(status), |_, _, mut out| {
                if wait {
                    out.header("Retry-After", b"3");
                }
                out.end();
            });
            return;
        }
        let Some(to) = self.peer_of(index) else { return desk.refuse(server, 491) };
        if method == Method::Invite {
            desk.respond(server, Reply::new(100), |_, _, out| out.end());
        }
        let offers = match carries(request) {
            Carries::Nothing => false,
            Carries::Other => return desk.refuse(server, 415),
            Carries::Sdp => true,
        };
        let Some(number) = self.new_exchange(desk, index, to, server, method, offers) else {
            return;
        };
        if !offers {
            return self.send_exchange(desk, number);
        }
        let offer = match read(request.body()) {
            Ok(offer) => offer,
            Err(error) => return self.fail_exchange(desk, number, error.status()),
        };
        let mut ips = [self.legs[usize::from(to)].way.local.ip(); 2];
        for leg in [index, to] {
            let leg = &self.legs[usize::from(leg)];
            ips[leg.side.index()] = leg.way.local.ip();
        }
        match self.open_lines(desk, owners, &offer, ips) {
            Err(status) => self.fail_exchange(desk, number, status),
            Ok(_) if !self.can_carry(&offer) => self.fail_exchange(desk, number, 488),
            Ok(true) => self.after_open = Some(AfterOpen::Exchange(number)),
            Ok(false) => self.send_exchange(desk, number),
        }
    }

    /// Whether `index` may start an INVITE or UPDATE now: the status, and whether to say when.
    pub(crate) fn may_offer(&self, index: u8, method: Method) -> Result<(), (u16, bool)> {
        let is_whole = self.lent.is_none() && self.joined.iter().all(Option::is_some);
        if self.state != State::Talking || !is_whole {
            return Err((491, false));
        }
        let pending =
            |exchange: &&Exchange| matches!(exchange.method, Method::Invite | Method::Update);
        if let Some(other) = self.exchanges.iter().find(pending) {
            // RFC 3261 14.2, RFC 3311 5.2
            return Err(if other.from == index { (500, true) } else { (491, false) });
        }
        let unanswered = self.legs.iter().any(|leg| leg.unacked.is_some());
        let refreshes = self.legs.iter().any(|leg| leg.timer.is_inviting());
        let to = self.peer_of(index).and_then(|to| self.leg(to));
        if self.has_reinvite_out() || refreshes || to.is_some_and(|to| to.timer.out.is_some()) {
            return Err((491, false));
        }
        if method == Method::Invite && unanswered || self.after_open.is_some() {
            return Err((491, false));
        }
        Ok(())
    }

    fn new_exchange(
        &mut self,
        desk: &mut Desk,
        from: u8,
        to: u8,
        server: ServerKey,
        method: Method,
        offers: bool,
    ) -> Option<u32> {
        if self.exchanges.len() >= EXCHANGES_MAX {
            desk.refuse(server, 500);
            return None;
        }
        self.made.exchanges += 1;
        let number = self.made.exchanges;
        let give_up_at = desk.now.mono + EXCHANGE_WAIT;
        let exchange = Exchange {
            number,
            from,
            to,
            method,
            server,
            client: None,
            give_up_at,
            offers,
            longer: false,
        };
        self.exchanges.push(exchange);
        Some(number)
    }

    fn relay_request(
        &mut self,
        desk: &mut Desk,
        index: u8,
        server: ServerKey,
        request: &Message<'_>,
    ) {
        let Some(to) = self.peer_of(index) else { return desk.refuse(server, 480) };
        if self.is_lent(to) {
            return desk.refuse(server, 491);
        }
        let made = self.new_exchange(desk, index, to, server, request.method(), false);
        if let Some(number) = made {
            self.send_exchange(desk, number);
        }
    }

    /// Sends the request of an exchange to the other leg.
    pub(crate) fn send_exchange(&mut self, desk: &mut Desk, number: u32) {
        let Some(exchange) = self.exchanges.iter().find(|one| one.number == number) else { return };
        let (to, method, server) = (exchange.to, exchange.method, exchange.server);
        let is_offer = exchange.offers;
        let bytes = desk.transactions.servers.find(server).map(|found| found.request.clone());
        let Some(bytes) = bytes else { return self.fail_exchange(desk, number, 500) };
        let Ok(request) = scan(&bytes) else { return self.fail_exchange(desk, number, 500) };
        let body = match read(request.body()) {
            Ok(offer) if is_offer => self.say(desk, to, &offer),
            _ => request.body().to_vec(),
        };
        let owner = self.owner(to, Asks::Relayed(number));
        let max_forwards = request.max_forwards().ok().flatten().unwrap_or(70).saturating_sub(1);
        let leg = &self.legs[usize::from(to)];
        let hidden = self.is_hidden(leg.side, leg.terms.as_deref());
        let leg = &mut self.legs[usize::from(to)];
        let cseq = leg.dialog.next_cseq();
        let (dialog, way, timer) = (&leg.dialog, leg.way, &leg.timer);
        let rules = desk.settings.timers.session;
        let uri = dialog.request_uri();
        let sent = desk.request(method, uri, way, max_forwards, owner, |desk, mut out| {
            dialog.write_request_headers(&mut out, cseq, method.as_str());
            if matches!(method, Method::Invite | Method::Update) {
                desk.write_contact(&mut out, &way);
                out.header("Allow", ALLOW);
                timer.write_request(&mut out, &rules);
            }
            out.header("User-Agent", desk.settings.product.as_bytes());
            compose::pass_and_add(&mut out, &request, None, &[], hidden);
            let content_type = request.first(HeaderName::ContentType).unwrap_or(SDP);
            compose::write_body(out, content_type, &body);
        });
        if sent.is_none() {
            return self.fail_exchange(desk, number, 503);
        }
        if let Some(exchange) = self.exchanges.iter_mut().find(|one| one.number == number) {
            exchange.client = sent;
        }
    }

    pub(crate) fn fail_exchange(&mut self, desk: &mut Desk, number: u32, status: u16) {
        if let Some(exchange) = self.take_exchange(number) {
            desk.refuse(exchange.server, status);
        }
    }

    fn take_exchange(&mut self, number: u32) -> Option<Exchange> {
        let index = self.exchanges.iter().position(|one| one.number == number)?;
        Some(self.exchanges.remove(index))
    }

    /// A response to a request that we passed on.
    pub(crate) fn handle_exchange_response(
        &mut self,
        desk: &mut Desk,
        number: u32,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let status = response.status().unwrap_or_default();
        if status < 200 {
            return;
        }
        let invite = response.method() == Method::Invite;
        if status == 422 && self.exchange_longer(desk, number, response) {
            return;
        }
        let Some(exchange) = self.take_exchange(number) else {
            if invite && status < 300 {
                self.repeated_answer(desk, client, response);
            }
            return;
        };
        match status {
            200..=299 if invite => self.invite_agreed(desk, &exchange, client, response),
            200..=299 => self.request_agreed(desk, &exchange, response),
            _ => self.exchange_refused(desk, &exchange, status, response),
        }
        self.arm(desk);
    }

    /// The leg that was asked wants a longer session interval: the same once more (RFC 4028 7.3).
    fn exchange_longer(&mut self, desk: &mut Desk, number: u32, response: &Message<'_>) -> bool {
        let rules = desk.settings.timers.session;
        let Some(exchange) = self.exchanges.iter_mut().find(|one| one.number == number) else {
            return false;
        };
        let timer = &mut self.legs[usize::from(exchange.to)].timer;
        if exchange.longer || !timer.learn_longer(&rules, response) {
            return false;
        }
        (exchange.longer, exchange.client) = (true, None);
        self.send_exchange(desk, number);
        true
    }

    /// A 2xx whose exchange is over: a repeat, or one that came after the call's end.
    pub(crate) fn repeated_answer(
        &mut self,
        desk: &mut Desk,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let found = desk.transactions.clients.find(client);
        let rung = found.and_then(|client| client.owner.rung());
        if let Some((to, ack)) = found.and_then(|client| client.ack.clone()) {
            desk.out.send(to, ack, rung);
        } else if self.ended.is_some() || self.abandoned.contains(&client) {
            orphan::hang_up(desk, client, response);
        }
    }

    fn invite_agreed(
        &mut self,
        desk: &mut Desk,
        exchange: &Exchange,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let (from, to) = (exchange.from, exchange.to);
        self.agreed_by(desk, to, response);
        let said =
            if carries(response) == Carries::Sdp { read(response.body()).ok() } else { None };
        let mut owes = None;
        if exchange.offers {
            self.acknowledge(desk, OwedAck::new(to, client, response), None);
            self.hear_offer(desk, exchange);
        } else {
            owes = Some(OwedAck::new(to, client, response));
        }
        let mut body = Vec::new();
        if let Some(said) = &said {
            self.heard(desk, to, said);
            body = self.say_answer(desk, exchange, said);
        }
        let reply_to = desk.transactions.servers.find(exchange.server).map(|one| one.reply_to);
        let cseq = cseq_of(desk, exchange.server);
        let sent = self.answer_exchange(desk, exchange, response, SDP, &body);
        if let (Some(response), Some(reply_to)) = (sent, reply_to) {
            let unacked = Unacked::new(desk, response, reply_to, cseq, owes);
            self.legs[usize::from(from)].unacked = Some(unacked);
        } else if let Some(owed) = owes {
            // Who asked has left the call meanwhile.
            self.acknowledge_refusing(desk, from, owed);
        }
    }

    fn request_agreed(&mut self, desk: &mut Desk, exchange: &Exchange, response: &Message<'_>) {
        let is_sdp = carries(response) == Carries::Sdp;
        let mut body = response.body().to_vec();
        if exchange.method == Method::Update {
            self.agreed_by(desk, exchange.to, response);
        }
        if exchange.offers {
            self.hear_offer(desk, exchange);
        }
        if is_sdp && let Ok(said) = read(response.body()) {
            self.heard(desk, exchange.to, &said);
            body = self.say_answer(desk, exchange, &said);
        }
        let content_type = response.first(HeaderName::ContentType).unwrap_or(SDP);
        self.answer_exchange(desk, exchange, response, content_type, &body);
    }

    /// A 2xx of this leg to an INVITE or UPDATE refreshes target and session.
    fn agreed_by(&mut self, desk: &Desk, to: u8, response: &Message<'_>) {
        let leg = &mut self.legs[usize::from(to)];
        leg.dialog.refresh_target(response);
        leg.timer.agree_as_client(desk.now.mono, &desk.settings.timers.session, response);
    }

    /// What the other leg said, for who asked. A leg that a program has put on hold says our own wish
    /// about directions, and who asked would keep to it after the hold: it hears that all it offered is
    /// agreed to, and the relay holds.
    fn say_answer(&mut self, desk: &Desk, exchange: &Exchange, said: &Description<'_>) -> Vec<u8> {
        let is_held = exchange.offers && self.legs[usize::from(exchange.to)].held;
        let offered = read(&self.legs[usize::from(exchange.from)].said).ok();
        let agreed = offered.filter(|_| is_held).and_then(|offered| {
            let mut live = offered.media.iter().filter(|line| line.port != 0);
            let first = live.next()?.direction;
            live.all(|line| line.direction == first).then(|| first.answered())
        });
        self.say_as(desk, exchange.from, said, agreed)
    }

    /// The offer was accepted: only now does media follow it.
    fn hear_offer(&mut self, desk: &mut Desk, exchange: &Exchange) {
        let bytes = desk.transactions.servers.find(exchange.server).map(|one| one.request.clone());
        let Some(bytes) = bytes else { return };
        let Ok(request) = scan(&bytes) else { return };
        if let Ok(offer) = read(request.body()) {
            self.heard(desk, exchange.from, &offer);
        }
    }

    fn answer_exchange(
        &mut self,
        desk: &mut Desk,
        exchange: &Exchange,
        response: &Message<'_>,
        content_type: &[u8],
        body: &[u8],
    ) -> Option<std::rc::Rc<Vec<u8>>> {
        let status = response.status().unwrap_or(200);
        let offers = matches!(exchange.method, Method::Invite | Method::Update);
        if offers {
            self.agree_on_session(desk, exchange.from, exchange.server);
        }
        let rules = desk.settings.timers.session;
        let leg = &self.legs[usize::from(exchange.from)];
        let (way, timer) = (leg.way, &leg.timer);
        desk.respond(exchange.server, Reply::new(status), |desk, request, mut out| {
            if offers {
                desk.write_contact(&mut out, &way);
                out.header("Allow", ALLOW);
                timer.write_answer(&mut out, &rules, request);
            }
            compose::pass_through(&mut out, response);
            compose::write_body(out, content_type, body);
        })
    }

    fn exchange_refused(
        &mut self,
        desk: &mut Desk,
        exchange: &Exchange,
        status: u16,
        response: &Message<'_>,
    ) {
        let told = match status {
            401 | 407 => 403,
            // Session intervals are between us and that leg.
            422 | 503 => 500,
            other => other,
        };
        let reason = match response.start() {
            sip::wire::Start::Response { reason, .. } if told == status => reason,
            _ => b"",
        };
        let answer = Reply { status: told, reason, to_tag: None };
        desk.respond(exchange.server, answer, |_, _, mut out| {
            compose::pass_through(&mut out, response);
            out.end();
        });
        self.dialog_may_be_gone(desk, exchange, status);
    }

    /// The request that we passed on got no final response.
    pub(crate) fn handle_exchange_failed(&mut self, desk: &mut Desk, number: u32, status: u16) {
        let Some(exchange) = self.take_exchange(number) else { return };
        desk.refuse(exchange.server, status);
        self.dialog_may_be_gone(desk, &exchange, status);
        self.arm(desk);
    }

    /// Exchanges that got no final response in time: 408 for who asked (a B2BUA's Timer C).
    pub(crate) fn expire_exchanges(&mut self, desk: &mut Desk) {
        let now = desk.now.mono;
        while let Some(late) = self.exchanges.iter().find(|one| one.give_up_at <= now) {
            let (number, client) = (late.number, late.client);
            if let Some(client) = client {
                desk.drop_client(client);
            }
            self.handle_exchange_failed(desk, number, 408);
        }
    }

    /// A leg goes: what it asked ends with its dialog (RFC 3261 15.1.2), what it was asked may be asked
    /// again of whoever takes its place.
    pub(crate) fn drop_exchanges_of(&mut self, desk: &mut Desk, leg: u8) {
        for exchange in self.exchanges.iter().filter(|one| one.from == leg) {
            // It stays in the list: an answer to its INVITE still wants its ACK.
            desk.refuse(exchange.server, 487);
        }
        while let Some(index) = self.exchanges.iter().position(|one| one.to == leg) {
            let exchange = self.exchanges.swap_remove(index);
            let offers = matches!(exchange.method, Method::Invite | Method::Update);
            desk.refuse(exchange.server, if offers { 491 } else { 480 });
            if exchange.method == Method::Invite {
                self.abandoned.extend(exchange.client);
            }
        }
        self.end_refreshing(leg);
    }

    /// 481 and 408 end the dialog (RFC 3261 12.2.1.2); for INFO and MESSAGE a 408 says little.
    fn dialog_may_be_gone(&mut self, desk: &mut Desk, exchange: &Exchange, status: u16) {
        let offers = matches!(exchange.method, Method::Invite | Method::Update);
        let side = self.legs[usize::from(exchange.to)].side;
        if self.joined[side.index()] != Some(exchange.to) {
            return; // it is no part of the call any more
        }
        if status == 481 {
            self.legs[usize::from(exchange.to)].state = LegState::Ended;
            self.end(desk, HangupReason::Failed, 200, Some(exchange.to));
        } else if offers && status == 408 {
            // It may be back by now, and would wait with its receiver up: BYE goes to both.
            self.end(desk, HangupReason::Failed, 200, None);
        }
    }

    /// ACK of a 2xx of ours.
    pub(crate) fn handle_ack(&mut self, desk: &mut Desk, index: u8, request: &Message<'_>) {
        let number = request.cseq().map_or(0, |cseq| cseq.number);
        let Some(leg) = self.leg_mut(index) else { return };
        let Some(unacked) = leg.unacked.take_if(|unacked| unacked.cseq == number) else { return };
        if let Some(owed) = unacked.owes {
            let answer = read(request.body()).ok().filter(|_| carries(request) == Carries::Sdp);
            let body = answer.as_ref().map(|answer| {
                self.heard(desk, index, answer);
                self.say(desk, owed.leg, answer)
            });
            match &body {
                Some(body) => self.acknowledge(desk, owed, Some(body)),
                None => self.acknowledge_refusing(desk, index, owed),
            }
            if body.is_none() {
                // The offer stays without an answer: there is no session (RFC 3261 13.2.1).
                self.end(desk, HangupReason::Failed, 200, None);
            }
        }
        if self.legs[usize::from(index)].bye_wanted {
            self.send_bye(desk, index);
        }
    }

    /// The ACK that a leg waits for will get no answer from leg `asked`, which was sent its offer:
    /// acknowledge with every line refused (RFC 3261 13.2.2.4).
    pub(crate) fn acknowledge_refusing(&mut self, desk: &mut Desk, asked: u8, owed: OwedAck) {
        let way = self.legs[usize::from(owed.leg)].way;
        let answer = refusal(desk, &way, &self.legs[usize::from(asked)].last_sdp);
        self.acknowledge(desk, owed, Some(&answer));
    }

    /// Our 2xx was never acknowledged: the dialog is up, so it ends with BYE (RFC 3261 13.3.1.4).
    pub(crate) fn ack_missing(&mut self, desk: &mut Desk, index: u8, unacked: &Unacked) {
        if let Some(owed) = unacked.owes {
            self.acknowledge_refusing(desk, index, owed);
        }
        if self.legs[usize::from(index)].bye_wanted {
            return self.send_bye(desk, index);
        }
        self.end(desk, HangupReason::BySystem, 200, None);
    }
}
