//! The called side of a first INVITE (RFC 3261 13.3, 9.2, 15).
//! Owns:  how a phone rings, answers, refuses, is cancelled, and repeats its 2xx.
//! Gives: a confirmed dialog once the ACK came.
//! Never: the caller's side; changes of a standing call.
//! Holds: a 2xx is sent again until its ACK or for 64*T1, then the call ends with a BYE.

use std::rc::Rc;
use std::time::Duration;

use rsip::headers::UntypedHeader as _;
use shared::time::Instant;

use crate::phone::client::{T1, T2, give_up_at, key};
use crate::phone::plan::{Callee, CalleePlan, Outcome, Ring};
use crate::phone::talk::Talking;
use crate::phone::usage::{Deed, Ending, Phase, Unacknowledged, Usage};
use crate::phone::{Alarm, Output, Phone, UsageId, reply};
use crate::speech::heard::Heard;
use crate::speech::{Body, Reply};

/// Longer than any gateway lets a phone ring.
const RING_MAX: Duration = Duration::from_secs(180);

impl Phone {
    pub(super) fn hear_invite(&mut self, now: Instant, key: &str, heard: &Heard) {
        if heard.contact.is_none() {
            self.breach(format!("{}: INVITE without Contact (RFC 3261 8.1.1.8)", heard.call_id));
        }
        let merged = self.usages.iter().any(|usage| {
            usage.call_id == heard.call_id && usage.remote_tag.as_deref() == Some(&heard.from_tag)
        });
        if merged {
            // RFC 3261 8.2.2.2: the same request over two paths.
            return self.answer(now, key, Reply { status: 482, ..reply() });
        }
        if self.refuses_session(now, key, heard) {
            return;
        }
        let plan = self.plan_for_a_call();
        if plan.outcome == Outcome::Silent {
            self.servers.remove(key);
            self.unheard.insert(heard.call_id.clone());
            return;
        }
        let id = self.take_call(now, key, heard, plan.clone());
        for &(after, ring) in &plan.rings {
            self.at(now, after, id, Deed::Ring(ring));
        }
        match plan.outcome {
            Outcome::Answer(after) => {
                self.at(now, after, id, Deed::Answer);
                if let Some(later) = plan.fork_answers_after {
                    self.at(now, after + later, id, Deed::ForkAnswer);
                }
            }
            Outcome::Refuse(status, after) => self.at(now, after, id, Deed::Refuse(status)),
            // No phone rings for good: after a few minutes it says so.
            Outcome::RingForever => self.at(now, RING_MAX, id, Deed::Refuse(480)),
            Outcome::Silent => {}
        }
    }

    fn plan_for_a_call(&mut self) -> CalleePlan {
        if let Some(plan) = self.plans.pop_front() {
            return plan;
        }
        match &self.settings.callee {
            Callee::Always(plan) => plan.clone(),
            Callee::Random => CalleePlan::draw(&mut self.random),
        }
    }

    fn take_call(&mut self, now: Instant, key: &str, heard: &Heard, plan: CalleePlan) -> UsageId {
        let id = self.usages.len();
        let tag = self.random.word(8);
        let talking = Talking::new(self.random.range(1, 1 << 40), self.take_port());
        let mut usage = Usage::callee(now, plan, heard, tag, talking);
        usage.invited = Some(key.to_owned());
        usage.cseq = u32::try_from(self.random.range(1, 1_000)).expect("small");
        self.usages.push(usage);
        if let Some(server) = self.servers.get_mut(key) {
            server.usage = Some(id);
        }
        id
    }

    /// The INVITE that waits for its final answer, if it still does.
    fn waiting_invite(&self, id: UsageId) -> Option<String> {
        let key = self.usages[id].invited.clone()?;
        self.servers.get(&key).is_some_and(super::Server::is_open).then_some(key)
    }

    pub(super) fn ring(&mut self, now: Instant, id: UsageId, ring: Ring) {
        let Some(key) = self.waiting_invite(id) else { return };
        let contact = self.contact();
        let tag = match ring {
            Ring::OtherBranch => self.random.word(8),
            _ => self.usages[id].local_tag.clone(),
        };
        let is_reliable = self.rings_reliably(id, &key, ring);
        if is_reliable && self.waits_to_ring(id, ring) {
            return;
        }
        let is_asked = self.servers.get(&key).is_some_and(|server| server.asked.sdp().is_none());
        let (status, body) = match ring {
            Ring::EarlyMedia if self.usages[id].early.agreed => (183, None),
            Ring::EarlyMedia if is_reliable && is_asked => (183, self.offer_early(id)),
            Ring::Trying => (100, None),
            Ring::EarlyMedia => (183, self.answer_to_offer(id, &key).ok().flatten()),
            Ring::OtherBranch | Ring::Ringing => (180, None),
        };
        self.usages[id].report.provisionals.push(status);
        if body.is_some() {
            self.start_to_speak(now, id);
        }
        let to_tag = (status > 100).then_some(tag.as_str());
        let contact = (status > 100).then_some(contact.as_str());
        let (tells, body) = (body.is_some(), body.map(Body::sdp));
        let more = if is_reliable { self.number_next(id) } else { Vec::new() };
        self.answer(now, &key, Reply { status, to_tag, contact, body, more });
        if is_reliable {
            self.rang_reliably(now, id, &key, tells);
        }
    }

    /// The answer to the INVITE's offer: made once, repeated in every later response.
    fn answer_to_offer(&mut self, id: UsageId, key: &str) -> Result<Option<String>, String> {
        let Some(server) = self.servers.get(key) else { return Ok(None) };
        let Some(offer) = server.asked.sdp() else { return Ok(None) };
        let usage = &mut self.usages[id];
        if usage.answer.is_none() {
            let accepts_video = usage.callee_plan().is_some_and(|plan| plan.accepts_video);
            usage.answer = Some(usage.talking.answer(offer, accepts_video)?);
        }
        Ok(usage.answer.clone())
    }

    pub(super) fn accept(&mut self, now: Instant, id: UsageId) {
        let Some(key) = self.waiting_invite(id) else { return };
        if self.waits_to_answer(id) {
            return;
        }
        let body = match self.answer_to_offer(id, &key) {
            _ if self.usages[id].early.agreed => None,
            Ok(Some(answer)) => Some(answer),
            Ok(None) => Some(self.usages[id].talking.offer()),
            Err(why) => {
                let call = self.usages[id].call_id.clone();
                self.breach(format!("{call}: {why}"));
                return self.refuse(now, id, 488);
            }
        };
        let usage = &mut self.usages[id];
        usage.answer = None;
        usage.phase = Phase::Confirmed;
        usage.report.final_status = Some(200);
        usage.report.answered_at = Some(now);
        self.answer_ok(now, id, &key, body);
        self.start_to_speak(now, id);
        self.lay_out_steps(now, id);
    }

    /// A downstream proxy forked and another branch of it picked up too: another dialog.
    pub(super) fn accept_on_other_branch(&mut self, now: Instant, id: UsageId) {
        let usage = &self.usages[id];
        let Some(key) = usage.final_key.clone() else { return };
        let Some(server) = self.servers.get(&key).filter(|server| server.status == 200) else {
            return;
        };
        let asked = server.asked.clone();
        let plan = CalleePlan { steps: Vec::new(), hang_up_after: None, ..CalleePlan::answer() };
        let other = self.take_call(now, &key, &asked, plan);
        let Ok(answer) = self.answer_to_offer(other, &key) else { return };
        let body = match answer {
            Some(answer) => answer,
            None => self.usages[other].talking.offer(),
        };
        let usage = &mut self.usages[other];
        usage.phase = Phase::Confirmed;
        usage.report.final_status = Some(200);
        usage.report.answered_at = Some(now);
        self.answer_ok(now, other, &key, Some(body));
    }

    /// A 2xx to an INVITE: sent again by the call, not by the transaction (RFC 3261 13.3.1.4).
    /// `body`: none when offer and answer have passed before.
    pub(super) fn answer_ok(&mut self, now: Instant, id: UsageId, key: &str, body: Option<String>) {
        let Some(server) = self.servers.get(key) else { return };
        let offered = server.asked.sdp().is_none() && body.is_some();
        let (cseq, to) = (server.asked.cseq, server.from);
        let asked = server.asked.clone();
        let session = self.session_answer(now, id, &asked);
        let (contact, tag) = (self.contact(), self.usages[id].local_tag.clone());
        let (contact, to_tag) = (Some(contact.as_str()), Some(tag.as_str()));
        let body = body.map(Body::sdp);
        let allow = rsip::headers::Allow::new("INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE");
        let more = if session.is_empty() { vec![allow.into()] } else { session };
        self.answer(now, key, Reply { status: 200, to_tag, contact, body, more });
        let Some(bytes) = self.servers.get(key).and_then(|server| server.answer.clone()) else {
            return;
        };
        let waiting = Unacknowledged { cseq, bytes, wait: T1, to, offered };
        self.usages[id].unacknowledged.push(waiting);
        self.usages[id].final_key.get_or_insert_with(|| key.to_owned());
        self.usages[id].invited = None;
        self.at(now, T1, id, Deed::ResendOk(cseq));
        self.alarms.push(give_up_at(now), Alarm::Usage(id, Deed::GiveUpOk(cseq)));
    }

    pub(super) fn resend_ok(&mut self, now: Instant, id: UsageId, cseq: u32) {
        let waiting =
            self.usages[id].unacknowledged.iter_mut().find(|waiting| waiting.cseq == cseq);
        let Some(waiting) = waiting else { return };
        waiting.wait = (2 * waiting.wait).min(T2);
        let (to, bytes, wait) = (waiting.to, Rc::clone(&waiting.bytes), waiting.wait);
        self.outputs.push_back(Output::Sip { to, bytes });
        self.at(now, wait, id, Deed::ResendOk(cseq));
    }

    /// RFC 3261 13.3.1.4: no ACK for 64*T1: the dialog stands, and is ended with a BYE.
    pub(super) fn give_up_ok(&mut self, now: Instant, id: UsageId, cseq: u32) {
        let usage = &mut self.usages[id];
        let before = usage.unacknowledged.len();
        usage.unacknowledged.retain(|waiting| waiting.cseq != cseq);
        if usage.unacknowledged.len() < before {
            usage.report.unacknowledged = true;
            self.hang_up(now, id);
        }
    }

    pub(super) fn hear_ack_of_ok(&mut self, now: Instant, heard: &Heard) {
        let Some(id) = self.usages.iter().position(|usage| usage.is_dialog_of(heard)) else {
            return;
        };
        let usage = &mut self.usages[id];
        let Some(at) = usage.unacknowledged.iter().position(|w| w.cseq == heard.cseq) else {
            return;
        };
        let waiting = usage.unacknowledged.remove(at);
        if waiting.offered {
            let answered =
                heard.sdp().ok_or_else(|| "ACK without an answer (RFC 3261 13.2.2.4)".to_owned());
            if let Err(why) = answered.and_then(|sdp| usage.talking.take_answer(sdp)) {
                self.breaches.push(format!("{}: {why}", heard.call_id));
            }
        }
        if self.usages[id].wants_bye {
            self.hang_up(now, id);
        }
    }

    pub(super) fn refuse(&mut self, now: Instant, id: UsageId, status: u16) {
        let Some(key) = self.waiting_invite(id) else { return };
        let tag = self.usages[id].local_tag.clone();
        let to_tag = Some(tag.as_str());
        // RFC 3261 8.1.3.4: a redirection names where else, or here and there this phone again.
        let moved = self.usages[id].callee_plan().and_then(|plan| plan.moved_to.clone());
        let contact = moved.map_or_else(|| self.contact(), |uri| format!("<{uri}>"));
        let contact = (300..400).contains(&status).then_some(contact.as_str());
        let retry_after = self.usages[id].callee_plan().and_then(|plan| plan.retry_after);
        let retry_after = retry_after.map(|wait| rsip::headers::RetryAfter::new(wait.to_string()));
        let more = retry_after.map(Into::into).into_iter().collect();
        self.answer(now, &key, Reply { status, to_tag, contact, more, ..reply() });
        let usage = &mut self.usages[id];
        usage.report.final_status = Some(status);
        usage.close(now, Ending::Refused(status));
    }

    /// RFC 3261 9.2.
    pub(super) fn hear_cancel(&mut self, now: Instant, cancel: &str, heard: &Heard) {
        let invite = key(&heard.branch, rsip::Method::Invite);
        let Some(server) = self.servers.get(&invite) else {
            return self.answer(now, cancel, Reply { status: 481, ..reply() });
        };
        let (open, usage) = (server.is_open(), server.usage);
        let tag = usage.map(|id| self.usages[id].local_tag.clone());
        let to_tag = tag.as_deref();
        self.answer(now, cancel, Reply { status: 200, to_tag, ..reply() });
        if !open {
            return;
        }
        self.answer(now, &invite, Reply { status: 487, to_tag, ..reply() });
        if let Some(id) = usage {
            let usage = &mut self.usages[id];
            if usage.phase == Phase::Inviting {
                usage.report.final_status = Some(487);
                usage.close(now, Ending::Cancelled);
            } else {
                usage.invited = None;
            }
        }
    }

    /// RFC 3261 15.1.1: the callee waits for the ACK before it says BYE.
    pub(super) fn hang_up(&mut self, now: Instant, id: UsageId) {
        let usage = &mut self.usages[id];
        match usage.phase {
            Phase::Confirmed if !usage.unacknowledged.is_empty() => usage.wants_bye = true,
            Phase::Confirmed if usage.is_waiting_to_acknowledge() => {
                usage.wants_bye = true;
                self.at(now, Duration::from_millis(500), id, Deed::HangUp);
            }
            Phase::Confirmed => self.bye(now, id),
            Phase::Inviting | Phase::Closing | Phase::Over => {}
        }
    }
}
