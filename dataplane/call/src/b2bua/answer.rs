//! Responses to our INVITEs: ringing, early media, the answer, failures, forks (RFC 3261 13.2.2, 16.7).
//! Owns:  the choice of who takes a side, and of the best failure.
//! Gives: `Call::handle_invite_response`, `handle_invite_failed`, `acknowledge`.
//! Never: relays a 100; sends a second final response to the inviter.
//! Holds: a 2xx of a branch that lost gets its ACK and then BYE.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use shared::cdr::{Direction, HangupReason};
use shared::event::{CallStage, Severity};
use shared::metrics::Counter;
use sip::dialog::contact_uri;
use sip::wire::{HeaderName, Message};

use super::cause::cause_of;
use super::compose::{self, Carries, SDP, carries};
use super::media::{read, refusal};
use super::prack::{Taken, sent_no_offer};
use super::reliable::cseq_of;
use super::setup::contact_way;
use super::{
    AfterOpen, Aim, Call, Failure, INVITER, LegState, OwedAck, State, Unacked, challenged, orphan,
    small, terms,
};
use crate::desk::{ALLOW, Desk, Reply};
use crate::relays::RelayOwners;
use crate::transactions::ClientKey;

pub(super) const ELSEWHERE: Cow<'static, str> =
    Cow::Borrowed("SIP;cause=200;text=\"Call completed elsewhere\"");
/// No Reason in the CANCEL.
pub(crate) const NO_CAUSE: Cow<'static, str> = Cow::Borrowed("");

impl Call {
    /// A response to the INVITE that created leg `index`.
    pub(crate) fn handle_invite_response(
        &mut self,
        desk: &mut Desk,
        owners: &mut RelayOwners,
        index: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let status = response.status().unwrap_or_default();
        match status {
            0..=199 => self.branch_progress(desk, owners, index, response),
            200..=299 => self.branch_answered(desk, owners, index, client, response),
            422 if self.ask_longer(desk, index, response) => {}
            _ => {
                let contacts = if status < 400 {
                    response.values(HeaderName::Contact).map(<[u8]>::to_vec).take(8).collect()
                } else {
                    Vec::new()
                };
                let reason = match response.start() {
                    sip::wire::Start::Response { reason, .. } => reason.to_vec(),
                    sip::wire::Start::Request { .. } => Vec::new(),
                };
                self.note_rest(desk, index, status, response);
                let failure = Failure::theirs(status, String::new());
                let cause = cause_of(response);
                let failure = Failure { reason, contacts, cause, ..failure };
                self.branch_failed(desk, index, failure, false);
            }
        }
        self.arm(desk);
    }

    /// No final response will come: 408 for silence, 503 for a transport that failed.
    pub(crate) fn handle_invite_failed(&mut self, desk: &mut Desk, index: u8, status: u16) {
        self.branch_failed(desk, index, Failure::theirs(status, String::new()), true);
        self.arm(desk);
    }

    /// A trunk that asks for it is left alone for a while, a bounded one. Without Retry-After a 503 is
    /// a 500 (RFC 3261 21.5.4).
    fn note_rest(&self, desk: &mut Desk, index: u8, status: u16, response: &Message<'_>) {
        let Some(leg) = self.leg(index).filter(|_| status == 503) else { return };
        let (Some(name), Some(wait)) = (&leg.trunk, retry_after(response)) else { return };
        let peer = leg.way.peer;
        desk.trunks.rest(desk.now.mono, name, peer, wait);
        desk.count(Counter::TrunkRests);
        desk.notice(Severity::Warning, "trunk_rests", || {
            format!(
                "trunk {name} at {peer} answered 503 and wants no calls for {} s",
                wait.as_secs()
            )
        });
    }

    fn branch_progress(
        &mut self,
        desk: &mut Desk,
        owners: &mut RelayOwners,
        index: u8,
        response: &Message<'_>,
    ) {
        let status = response.status().unwrap_or_default();
        let Some(leg) = self.leg_mut(index) else { return };
        leg.provisional = true;
        if let Some(reason) = leg.cancel_wanted.take() {
            leg.cancelled = true;
            if let Some(invite) = leg.invite {
                desk.cancel(invite, Some(&*reason).filter(|reason| !reason.is_empty()));
            }
            if let Some(give_up_at) = &mut self.give_up_at {
                // RFC 3261 9.1: 64*T1 for its final response count from the CANCEL.
                *give_up_at = (*give_up_at).max(desk.now.mono + 64 * desk.timers.t1);
            }
        }
        let in_round = self.is_in_round(index);
        if in_round {
            self.setup_until = None;
        }
        let taken = self.take_provisional(desk, index, response);
        if status == 100 || !in_round || taken == Taken::Dropped {
            return;
        }
        let leg = &mut self.legs[usize::from(index)];
        leg.rang = true;
        leg.dialog.learn(response);
        let aim = self.round.map(|round| round.aim);
        let is_callee = matches!(aim, Some(Aim::Answer | Aim::SecondParty));
        if is_callee && self.ringing.is_none() {
            self.ringing = Some(desk.now);
            self.tell(desk, CallStage::Ringing);
        }
        match aim {
            Some(Aim::Answer) if taken == Taken::Offers => {
                self.pass_early_offer(desk, owners, index, response);
            }
            Some(Aim::Answer) => self.pass_progress_on(desk, index, status, response),
            Some(Aim::SecondParty) => {
                self.report_referral(desk, 180, b"");
                self.hear_early(desk, index, response);
            }
            // Its early media has to wait: the side is still another leg's.
            Some(Aim::Transfer) => self.report_referral(desk, 180, b""),
            // Nobody could hear what the first party's network has to say.
            Some(Aim::FirstParty) | None => {}
        }
    }

    fn pass_progress_on(
        &mut self,
        desk: &mut Desk,
        index: u8,
        status: u16,
        response: &Message<'_>,
    ) {
        // An SDP in an unreliable 1xx of an offerless INVITE is no offer yet (RFC 3264, RFC 3261 13.2.1).
        let mut body = Vec::new();
        if carries(response) == Carries::Sdp
            && !self.offerless
            && let Ok(said) = read(response.body())
        {
            self.heard(desk, index, &said);
            if self.invite.is_none() {
                return; // a program has answered the caller already
            }
            // It has taken the first one for the answer, and may not be told another (RFC 3262 5).
            if !self.will_have_told() {
                body = self.say(desk, INVITER, &said);
            }
        }
        self.tell_caller_progress(desk, status, response, &body);
    }

    fn branch_answered(
        &mut self,
        desk: &mut Desk,
        owners: &mut RelayOwners,
        index: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let tag = response.to().ok().and_then(|to| to.tag()).unwrap_or_default();
        let round = self.round;
        let Some(leg) = self.leg_mut(index) else { return };
        // One whose time was over has picked up before our CANCEL came: that is an answer too.
        // Not of a transfer: only its own targets were called for it.
        let late = |aim| leg.given_up && aim != Aim::Transfer;
        let round = round.filter(|round| index >= round.first_leg || late(round.aim));
        if (leg.state == LegState::Up || leg.has_moved) && leg.dialog.remote_tag == tag {
            return resend_ack(desk, client); // a repeated 2xx
        }
        if leg.state != LegState::Inviting {
            return orphan::hang_up(desk, client, response); // another fork answered as well
        }
        leg.invite = None;
        leg.asked = None;
        leg.dialog.learn(response);
        let Some(round) = round else {
            // It lost the race, or the caller is gone: answered, acknowledged, hung up.
            leg.state = LegState::Ended;
            return orphan::hang_up(desk, client, response);
        };
        leg.state = LegState::Up;
        terms::keep_recorded(leg.terms.as_deref(), &mut leg.dialog, response);
        leg.timer.agree_as_client(desk.now.mono, &desk.settings.timers.session, response);
        if leg.way.flow.is_none()
            && contact_uri(response).is_some()
            && leg.is_host
            && let Some(way) = contact_way(response, &leg.way)
        {
            leg.way = way;
        }
        self.round = None;
        self.is_sips |= round.is_sips;
        if round.aim != Aim::Transfer {
            self.joined[round.side.index()] = Some(index);
        }
        self.ring_until = None;
        self.setup_until = None;
        self.hunt.stop();
        self.forget_stand_ins(round.aim);
        if round.aim == Aim::Answer {
            self.keep_share_of(index);
            self.count_late(desk, index);
        }
        self.cancel_branches(desk, ELSEWHERE);
        match round.aim {
            Aim::Answer => self.connect(desk, owners, index, client, response),
            Aim::FirstParty => self.first_party_answered(desk, index, client, response),
            Aim::SecondParty => self.second_party_answered(desk, index, client, response),
            Aim::Transfer => self.target_answered(desk, index, client, response),
        }
    }

    /// The winner's 2xx goes to the inviter.
    fn connect(
        &mut self,
        desk: &mut Desk,
        owners: &mut RelayOwners,
        index: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        self.went_to(index);
        let sdp = self.agreed_sdp(index, response);
        let Some(said) = sdp.as_deref().and_then(|sdp| read(sdp).ok()) else {
            // An answer without a session description that we can read cannot be connected.
            self.acknowledge(desk, OwedAck::new(index, client, response), None);
            return self.end(desk, HangupReason::Failed, 502, None);
        };
        let is_usual = !self.offerless && self.reliable.is_none();
        let offers =
            matches!(sdp, Some(Cow::Borrowed(_))) && !is_usual && sent_no_offer(desk, client);
        if offers && self.will_have_told() || self.offerless && !offers {
            // The inviter was made another offer before, or this one did not wait for its answer.
            self.refuse_offer(desk, index, client, response);
            return self.end(desk, HangupReason::Failed, 488, None);
        }
        if !self.offerless {
            self.acknowledge(desk, OwedAck::new(index, client, response), None);
            self.heard(desk, index, &said);
            if self.invite.is_none() {
                self.accepted = None; // a program has answered the caller already
                self.talk(desk);
                return self.align(desk, INVITER);
            }
            if self.has_told() {
                self.accepted = None;
                return self.answer_caller(desk, response, b"", None);
            }
            let before = self.legs[usize::from(INVITER)].last_sdp.clone();
            let body = self.say(desk, INVITER, &said);
            self.answer_caller(desk, response, &body, None);
            // Somebody else's early media was promised to it, and no relay of ours hides the change.
            if self.media.past_us && !before.is_empty() && before != body {
                self.restate_peer(desk, INVITER);
            }
            return;
        }
        let ips = [INVITER, index].map(|leg| self.legs[usize::from(leg)].way.local.ip());
        match self.open_lines(desk, owners, &said, ips) {
            Ok(true) => {
                let response = response.bytes().to_vec();
                self.after_open = Some(AfterOpen::Answer { leg: index, client, response });
            }
            Ok(false) if self.can_carry(&said) => self.offer_caller(desk, index, client, response),
            _ => {
                self.refuse_offer(desk, index, client, response);
                self.end(desk, HangupReason::Failed, 488, None);
            }
        }
    }

    /// The trunk and the direction of the record are those of the leg that answered.
    pub(super) fn went_to(&mut self, index: u8) {
        self.outbound_trunk.clone_from(&self.legs[usize::from(index)].trunk);
        self.direction = direction(self.inbound_trunk.is_some(), self.outbound_trunk.is_some());
    }

    /// ACK of a 2xx whose offer we cannot carry: every line refused.
    pub(crate) fn refuse_offer(
        &mut self,
        desk: &mut Desk,
        index: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let way = self.legs[usize::from(index)].way;
        let answer = refusal(desk, &way, response.body());
        self.acknowledge(desk, OwedAck::new(index, client, response), Some(&answer));
    }

    /// The called leg's 2xx carries the offer: the inviter's ACK will carry the answer.
    pub(crate) fn offer_caller(
        &mut self,
        desk: &mut Desk,
        index: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let Ok(offer) = read(response.body()) else { return };
        self.heard(desk, index, &offer);
        let body = self.say(desk, INVITER, &offer);
        self.answer_caller(desk, response, &body, Some(OwedAck::new(index, client, response)));
    }

    pub(super) fn answer_caller(
        &mut self,
        desk: &mut Desk,
        response: &Message<'_>,
        body: &[u8],
        owes: Option<OwedAck>,
    ) {
        if self.hold_answer(desk, Some(response)) {
            return;
        }
        let Some(server) = self.invite.take() else { return };
        self.stop_telling(desk);
        let cseq = cseq_of(desk, server);
        let status = response.status().unwrap_or(200);
        self.agree_on_session(desk, INVITER, server);
        let rules = desk.settings.timers.session;
        let inviter = &self.legs[usize::from(INVITER)];
        let (way, tag, timer) = (inviter.way, inviter.dialog.local_tag.clone(), inviter.timer);
        let answer = Reply { status, reason: b"", to_tag: Some(&tag) };
        let reply_to = desk.transactions.servers.find(server).map(|server| server.reply_to);
        self.talk(desk);
        let sent = desk.respond(server, answer, |desk, request, mut out| {
            out.copy(request, HeaderName::RecordRoute);
            desk.write_contact(&mut out, &way);
            out.header("Allow", ALLOW);
            timer.write_answer(&mut out, &rules, request);
            compose::pass_through(&mut out, response);
            compose::write_body(out, SDP, body);
        });
        let leg = &mut self.legs[usize::from(INVITER)];
        leg.state = LegState::Up;
        leg.dialog.state = sip::dialog::State::Confirmed;
        if let (Some(response), Some(to)) = (sent, reply_to) {
            leg.unacked = Some(Unacked::new(desk, response, to, cseq, owes));
        }
        self.settle_terms(desk);
        self.arm(desk);
    }

    /// Both sides have a leg: from now on it counts as answered. To be called before anybody is told:
    /// who hears of it may have to pay, so it is written down first.
    pub(crate) fn talk(&mut self, desk: &mut Desk) {
        self.state = State::Talking;
        self.count_answered(desk);
    }

    pub(crate) fn count_answered(&mut self, desk: &mut Desk) {
        if self.answered.is_some() {
            return;
        }
        self.answered = Some(desk.now);
        if self.ringing.is_none() {
            self.ringing = self.answered;
        }
        desk.count(Counter::CallsAnswered);
        self.journal_start(desk);
        self.end_at = self.orders.max_duration.map(|most| desk.now.mono + most);
        self.record_from_answer(desk);
        self.tell(desk, CallStage::Answered);
    }

    /// ACK of a leg's 2xx, kept with the transaction for repeats of that 2xx.
    pub(crate) fn acknowledge(&mut self, desk: &mut Desk, owed: OwedAck, answer: Option<&[u8]>) {
        let Some(leg) = self.leg(owed.leg) else { return };
        let (way, rung) = (leg.way, Some(self.rung(owed.leg)));
        let invite = desk.with_credentials(owed.client);
        let ack = desk.send_ack(leg.dialog.request_uri(), way, rung, |mut out| {
            leg.dialog.write_request_headers(&mut out, owed.cseq, "ACK");
            challenged::copy_credentials(&mut out, invite.as_deref());
            compose::write_body(out, SDP, answer.unwrap_or_default());
        });
        if let Some(client) = desk.transactions.clients.find_mut(owed.client) {
            client.ack = Some((way, ack));
        }
    }

    /// `silence`: nothing came from there, the failure is our own conclusion.
    fn branch_failed(&mut self, desk: &mut Desk, index: u8, mut failure: Failure, silence: bool) {
        let Some(leg) = self.leg_mut(index) else { return };
        if leg.state != LegState::Inviting {
            leg.invite = None;
            return;
        }
        leg.invite = None;
        leg.asked = None;
        leg.state = LegState::Ended;
        leg.dialog.state = sip::dialog::State::Terminated;
        if leg.given_up {
            return; // its failure was noted when its time was over
        }
        failure.target = compose::readable(&leg.dialog.remote_target);
        failure.locked_out = self.is_locked_out(desk, index, failure.status);
        let global = failure.status >= 600;
        self.note_try(desk, index, failure.status, silence);
        self.note_failure(failure);
        if global {
            // RFC 3261 16.7 step 5. It speaks for its own group: whoever named the next one wants it
            // tried.
            self.cancel_branches(desk, NO_CAUSE);
        }
        self.settle_round(desk);
    }

    pub(crate) fn note_failure(&mut self, failure: Failure) {
        let better = match &self.best_failure {
            None => true,
            Some(best) => failure.rank() < best.rank(),
        };
        if better {
            self.best_failure = Some(failure.clone());
        }
        self.failures.push(failure);
    }

    /// When every branch of the round has failed, the hunt goes on.
    pub(crate) fn settle_round(&mut self, desk: &mut Desk) {
        let Some(round) = self.round else { return };
        let mut legs = self.legs.iter().skip(usize::from(round.first_leg));
        if legs.any(|leg| leg.state == LegState::Inviting) {
            return;
        }
        self.round_failed(desk, round.aim);
    }

    /// Nobody of the round is left. A transfer has no group behind its target but other trunks.
    fn round_failed(&mut self, desk: &mut Desk, aim: Aim) {
        if self.lets_stand_in(desk, aim) {
            return;
        }
        if aim != Aim::Transfer {
            return self.group_failed(desk);
        }
        self.round = None;
        self.no_target_left(desk);
    }

    /// CANCEL to every branch that still rings; one that said nothing yet is cancelled when it does.
    pub(crate) fn cancel_branches(&mut self, desk: &mut Desk, cause: Cow<'static, str>) {
        for leg in &mut self.legs {
            let Some(invite) = leg.invite else { continue };
            if leg.cancelled || leg.state != LegState::Inviting {
                continue;
            }
            if leg.provisional {
                leg.cancelled = true;
                desk.cancel(invite, Some(&*cause).filter(|cause| !cause.is_empty()));
            } else {
                leg.cancel_wanted = Some(cause.clone());
            }
        }
    }

    /// Nobody of the round answered in time: 480 for who rang, 408 for who said nothing (Timer C
    /// counts as a 408 of the branch, RFC 3261 16.8).
    pub(crate) fn ring_timed_out(&mut self, desk: &mut Desk) {
        let Some(round) = self.round.take() else { return };
        for index in usize::from(round.first_leg)..self.legs.len() {
            let leg = &mut self.legs[index];
            if leg.state != LegState::Inviting {
                continue;
            }
            leg.given_up = true;
            let status = if leg.rang { 480 } else { 408 };
            let (rang, target) = (leg.rang, compose::readable(&leg.dialog.remote_target));
            self.note_try(desk, small(index), status, !rang);
            self.note_failure(Failure::ours(status, target));
        }
        self.cancel_branches(desk, NO_CAUSE);
        self.round_failed(desk, round.aim);
    }
}

impl Unacked {
    pub(crate) fn new(
        desk: &Desk,
        response: Rc<Vec<u8>>,
        to: shared::net::Destination,
        cseq: u32,
        owes: Option<OwedAck>,
    ) -> Self {
        let (now, wait) = (desk.now.mono, desk.timers.t1);
        // 2xx are repeated over reliable transports too (RFC 3261 13.3.1.4).
        let give_up_at = now + 64 * desk.timers.t1;
        Self { response, to, cseq, resend_at: now + wait, wait, give_up_at, owes }
    }
}

fn resend_ack(desk: &mut Desk, client: ClientKey) {
    desk.count(Counter::SipRetransmitsIn);
    let Some(found) = desk.transactions.clients.find(client) else { return };
    let rung = found.owner.rung();
    if let Some((to, ack)) = found.ack.clone() {
        desk.count(Counter::SipRetransmitsOut);
        desk.out.send(to, ack, rung);
    }
}

/// The seconds of Retry-After; comment and parameters are for people (RFC 3261 20.33).
fn retry_after(response: &Message<'_>) -> Option<Duration> {
    let value = std::str::from_utf8(response.first(HeaderName::RetryAfter)?).ok()?.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).map_or(value, |end| &value[..end]);
    digits.parse().ok().map(Duration::from_secs)
}

/// Seen from us: what a trunk brings in is inbound, what goes out to one outbound.
pub(crate) const fn direction(inbound_trunk: bool, outbound_trunk: bool) -> Direction {
    match (inbound_trunk, outbound_trunk) {
        (true, _) => Direction::Inbound,
        (false, true) => Direction::Outbound,
        (false, false) => Direction::Internal,
    }
}

/// Smaller is better (RFC 3261 16.7 step 6): 6xx, then the lowest class, and in 4xx what tells the
/// caller most. Busy says more than "not there".
pub(super) const fn rank(status: u16) -> u16 {
    match status {
        600..=699 => 0,
        486 => 10,
        300..=399 => 20,
        480 => 44,
        408 => 45,
        400..=499 => 40,
        503 => 55,
        _ => 50,
    }
}

impl Failure {
    const fn rank(&self) -> u16 {
        rank(if self.locked_out { 503 } else { self.status })
    }

    /// What the caller hears. A challenge is not ours to pass on (we cannot answer it, and the
    /// caller has no business with that realm); a peer's 503 would make the caller avoid us, not the
    /// next hop (RFC 3261 16.7 step 6).
    pub(crate) const fn told_caller(&self) -> u16 {
        match self.status {
            // As if it had answered 503: the caller's credentials are not what it is about.
            401 | 407 if self.locked_out => 500,
            401 | 407 => 403,
            // Session intervals are between us and that leg.
            422 => 500,
            503 if !self.is_ours => 500,
            other => other,
        }
    }
}
