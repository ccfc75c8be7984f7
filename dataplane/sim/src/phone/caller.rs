//! The calling side of a first INVITE (RFC 3261 13.2, 9.1, 22.2).
//! Owns:  how a phone dials, answers a challenge, cancels and acknowledges.
//! Gives: a confirmed dialog, or a report that says why there is none.
//! Never: the callee's answers; changes of a standing call.
//! Holds: CANCEL waits for a provisional response; a 2xx that crossed it is acknowledged and ended.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rsip::Method;
use shared::time::Instant;

use crate::phone::client::{Alarm, Purpose, give_up_at, key};
use crate::phone::plan::{AckPlan, CallerPlan};
use crate::phone::talk::Talking;
use crate::phone::usage::{Deed, Ending, Names, Phase, Usage};
use crate::phone::{Phone, UsageId, challenge_in};
use crate::speech::heard::Heard;
use crate::speech::{Body, cancel_of};

/// A challenge to the first INVITE and one more for a nonce that grew stale.
const TRIES_MAX: u8 = 3;

/// Longer than any gateway lets a phone ring.
const PATIENCE: Duration = Duration::from_secs(200);

impl Phone {
    pub fn call(&mut self, now: Instant, plan: CallerPlan) -> UsageId {
        let id = self.usages.len();
        let names = Names {
            call_id: format!("{}@{}", self.random.word(14), self.settings.home.ip()),
            local_tag: self.random.word(8),
            local_uri: format!("sip:{}@{}", self.settings.user, self.settings.domain),
            remote_uri: plan.target.clone(),
        };
        let mut talking = Talking::new(self.random.range(1, 1 << 40), self.take_port());
        if plan.video {
            talking.with_video();
        }
        let cancel_after = plan.cancel_after;
        self.usages.push(Usage::caller(now, plan, names, talking));
        self.usages[id].cseq = u32::try_from(self.random.range(1, 1_000)).expect("small");
        self.invite(now, id);
        // Nobody holds the receiver for ever.
        self.at(now, cancel_after.unwrap_or(PATIENCE), id, Deed::Cancel);
        id
    }

    fn invite(&mut self, now: Instant, id: UsageId) {
        let usage = &mut self.usages[id];
        usage.cseq += 1;
        usage.tries += 1;
        let cseq = usage.cseq;
        let with_offer = usage.caller_plan().is_some_and(|plan| plan.offer);
        let body = with_offer.then(|| Body::sdp(usage.talking.offer()));
        let text = self.dialog_request(id, Method::Invite, cseq, body);
        let to = self.settings.gateway;
        let key = self.ask(now, text, to, Purpose::Invite(id));
        self.usages[id].inviting = Some(key);
    }

    pub(super) fn hear_ringing(&mut self, now: Instant, id: UsageId, heard: &Heard) {
        let status = heard.status.expect("a response");
        if !self.takes_provisional(now, id, heard) {
            return;
        }
        let usage = &mut self.usages[id];
        usage.report.provisionals.push(status);
        // RFC 3261 13.2.1: the first description in a provisional response may be the answer.
        if let Some(sdp) = heard.sdp().filter(|_| usage.talking.is_offering())
            && heard.to_tag.is_some()
        {
            match usage.talking.take_answer(sdp) {
                Ok(()) => self.start_to_speak(now, id),
                Err(why) => self.breaches.push(format!("{}: {why}", heard.call_id)),
            }
        }
        if self.usages[id].wants_cancel {
            self.cancel(now, id);
        }
    }

    pub(super) fn hear_invite_answer(
        &mut self,
        now: Instant,
        id: UsageId,
        heard: Option<&Heard>,
        asked: &Heard,
    ) {
        self.usages[id].inviting = None;
        let Some(heard) = heard else {
            return self.usages[id].close(now, Ending::TimedOut);
        };
        let status = heard.status.expect("a response");
        if matches!(status, 401 | 407) && self.try_again(now, id, heard) {
            return;
        }
        if let (422, Some(plan)) = (status, self.settings.timer)
            && !self.usages[id].wants_cancel
            && self.usages[id].session.learn_least(heard, plan)
        {
            return self.invite(now, id);
        }
        let usage = &mut self.usages[id];
        usage.report.final_status = Some(status);
        match status {
            200..=299 => self.hear_answer(now, id, heard, asked),
            487 => usage.close(now, Ending::Cancelled),
            status => usage.close(now, Ending::Refused(status)),
        }
    }

    /// RFC 3261 22.2: the same request with credentials, same Call-ID, next CSeq.
    fn try_again(&mut self, now: Instant, id: UsageId, heard: &Heard) -> bool {
        let usage = &self.usages[id];
        let Some((ask, challenge)) = challenge_in(heard, &self.settings) else {
            return false;
        };
        if usage.tries >= TRIES_MAX || usage.wants_cancel {
            return false;
        }
        if usage.credentials.is_some() && !challenge.stale {
            return false;
        }
        self.usages[id].credentials = Some((ask, challenge));
        self.invite(now, id);
        true
    }

    fn hear_answer(&mut self, now: Instant, id: UsageId, heard: &Heard, asked: &Heard) {
        let call = &heard.call_id;
        let usage = &mut self.usages[id];
        usage.phase = Phase::Confirmed;
        usage.report.answered_at = Some(now);
        // Another branch than the one that rang reliably has agreed on nothing yet.
        usage.early.agreed &= usage.remote_tag == heard.to_tag;
        usage.remote_tag.clone_from(&heard.to_tag);
        usage.routes = heard.record_routes.iter().rev().cloned().collect();
        if heard.to_tag.is_none() {
            self.breaches.push(format!("{call}: 2xx without a To tag (RFC 3261 12.1.1)"));
        }
        match &heard.contact {
            Some(contact) => usage.target.clone_from(contact),
            None => self.breaches.push(format!("{call}: 2xx without Contact (RFC 3261 12.1.1)")),
        }
        self.hear_session(now, id, heard);
        if let Err(why) = self.hear_media_of_answer(id, heard) {
            self.breaches.push(format!("{call}: {why}"));
        }
        let usage = &self.usages[id];
        let plan = usage.caller_plan().expect("the caller's").clone();
        let (cseq, wants_cancel) = (asked.cseq, usage.wants_cancel);
        match plan.ack {
            AckPlan::AtOnce => self.acknowledge(id, cseq),
            AckPlan::After(wait) => self.at(now, wait, id, Deed::Acknowledge(cseq)),
            AckPlan::Never => return,
        }
        if wants_cancel {
            // The CANCEL crossed the answer: RFC 3261 9.1 leaves nothing but a BYE.
            let wait = if let AckPlan::After(wait) = plan.ack { wait } else { Duration::ZERO };
            return self.at(now, wait, id, Deed::HangUp);
        }
        self.start_to_speak(now, id);
        self.lay_out_steps(now, id);
    }

    /// The answer to our offer, or the offer that our ACK will answer.
    fn hear_media_of_answer(&mut self, id: UsageId, heard: &Heard) -> Result<(), String> {
        let usage = &mut self.usages[id];
        let offered = usage.caller_plan().is_some_and(|plan| plan.offer);
        let was_answered = offered && !usage.talking.is_offering();
        match heard.sdp() {
            None if usage.early.agreed => Ok(()),
            Some(_) if usage.early.agreed => {
                Err("a description behind the one that was agreed on (RFC 3262 5)".into())
            }
            Some(sdp) if offered => usage.talking.take_answer(sdp),
            Some(sdp) => {
                usage.answer = Some(usage.talking.answer(sdp, false)?);
                Ok(())
            }
            // The answer came in a provisional response already.
            None if was_answered => Ok(()),
            None if offered => Err("2xx without an answer to the offer (RFC 3261 13.2.1)".into()),
            None => Err("2xx without an offer to an offerless INVITE (RFC 3261 13.2.1)".into()),
        }
    }

    pub(super) fn acknowledge(&mut self, id: UsageId, cseq: u32) {
        let body = self.usages[id].answer.take().map(Body::sdp);
        let text = self.dialog_request(id, Method::Ack, cseq, body);
        let to = self.target_of(&self.usages[id]);
        let bytes: Rc<[u8]> = self.send(to, text);
        self.usages[id].acks.insert(cseq, bytes);
    }

    /// RFC 3261 9.1: not before a provisional response, not after a final one.
    pub(super) fn cancel(&mut self, now: Instant, id: UsageId) {
        let usage = &mut self.usages[id];
        usage.wants_cancel = true;
        let Some(client) = usage.inviting.as_ref().and_then(|key| self.clients.get(key)) else {
            return;
        };
        let cancel = key(&client.asked.branch, Method::Cancel);
        if client.state == super::client::State::Proceeding && !self.clients.contains_key(&cancel) {
            let text = cancel_of(&client.asked);
            let to = self.settings.gateway;
            self.ask(now, text, to, Purpose::Cancel(id));
            self.alarms.push(give_up_at(now), Alarm::Usage(id, Deed::GiveUpInvite));
        }
    }

    /// RFC 3261 9.1: 64*T1 after the CANCEL the INVITE counts as cancelled, answered or not.
    pub(super) fn give_up_invite(&mut self, now: Instant, id: UsageId) {
        if self.usages[id].phase == Phase::Inviting {
            self.usages[id].inviting = None;
            self.usages[id].close(now, Ending::Cancelled);
        }
    }

    /// What the plan says about a standing call, from the answer on.
    pub(super) fn lay_out_steps(&mut self, now: Instant, id: UsageId) {
        let usage = &self.usages[id];
        let (steps, hang_up_after) = (usage.steps(), usage.hang_up_after());
        for (after, step) in steps {
            self.at(now, after, id, Deed::Step(step));
        }
        if let Some(after) = hang_up_after {
            self.at(now, after, id, Deed::HangUp);
        }
    }

    pub(super) fn start_to_speak(&mut self, now: Instant, id: UsageId) {
        if !self.usages[id].speaks {
            self.usages[id].speaks = true;
            let first = self.random.millis(1, 400);
            self.at(now, first, id, Deed::Speak);
        }
    }

    pub(super) fn speak(&mut self, now: Instant, id: UsageId) {
        let usage = &mut self.usages[id];
        if usage.phase == Phase::Closing {
            return;
        }
        let (mark, from) = (usage.report.mark, usage.talking.audio());
        if let Some((to, packet)) = usage.talking.speak(mark) {
            let bytes = Rc::from(packet.as_slice());
            self.outputs.push_back(super::Output::Rtp { from, to, bytes });
            if self.usages[id].talking.packets_sent % 5 == 1 {
                self.report_media(from, to, mark);
            }
        }
        self.at(now, self.settings.voice_every, id, Deed::Speak);
    }

    /// An empty receiver report on the port above (RFC 3550 6.4.2, 11).
    fn report_media(&mut self, from: SocketAddr, to: SocketAddr, mark: u64) {
        let above = |place: SocketAddr| SocketAddr::new(place.ip(), place.port() + 1);
        let mut packet = [0x80, 201, 0, 1, 0, 0, 0, 0];
        packet[4..].copy_from_slice(&mark.to_be_bytes()[..4]);
        let bytes = Rc::from(packet.as_slice());
        self.outputs.push_back(super::Output::Rtp { from: above(from), to: above(to), bytes });
    }
}
