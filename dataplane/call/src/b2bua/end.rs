//! The end of a call: both legs, every pending answer, the media, and the one CDR.
//! Owns:  `Call::end`, the only way out of a call's life.
//! Gives: BYE, CANCEL or a final response to each leg as its state asks for; the journal's entries.
//! Never: ends twice; waits for a peer longer than 64*T1.
//! Holds: the CDR follows when the last relay has reported.

use std::borrow::Cow;

use shared::cdr::{
    CallStatus, Cdr, HangupMessage, HangupReason, LastError, LegEventType, LegRole, LegTimeline,
    StreamQuality,
};
use shared::event::Severity;
use shared::ids::Side;
use shared::journal::Entry;
use shared::metrics::Counter;
use sip::dialog::State as DialogState;
use sip::wire::{Method, reason_phrase};

use super::compose::readable;
use super::recording::Recorded;
use super::{Call, Ended, INVITER, LegState, State, parting, small};
use crate::desk::{Desk, Reply};
use crate::transactions::Owner;

impl Call {
    /// Ends the call. `by` is the leg that is gone already: it gets nothing more.
    pub(crate) fn end(
        &mut self,
        desk: &mut Desk,
        reason: HangupReason,
        status: u16,
        by: Option<u8>,
    ) {
        if self.ended.is_some() {
            return;
        }
        let ended = Ended { at: desk.now, reason, status };
        self.ended = Some(ended);
        self.tell(desk, ended.stage());
        self.state = State::Ending;
        self.ring_until = None;
        self.setup_until = None;
        self.end_at = None;
        self.hunt.stop();
        self.stand_ins = None;
        self.round = None;
        self.dial = None;
        self.leave_join(desk);
        self.end_loan(desk, by);
        self.end_replacing(desk);
        if let Some(transfer) = self.transfer.take() {
            let (leaves, stays) = (transfer.leaves, transfer.stays);
            let details = "the call ended".to_owned();
            self.note_leg(desk, LegEventType::TransferFailed, leaves, stays, details);
        }
        let told = if self.answered.is_some() { 487 } else { status };
        self.report_referral(desk, told, b"");
        self.abandoned.retain(|&client| desk.transactions.clients.find(client).is_some());
        self.end_aligning();
        for index in 0..self.legs.len() {
            self.end_refreshing(small(index));
        }
        self.pressing = None;
        self.accepted = None;
        self.after_open = None;
        self.targets.clear();
        self.give_up_at = Some(desk.now.mono + 64 * desk.timers.t1);
        if self.answered.is_none() {
            desk.count(Counter::CallsFailed);
        }
        self.stop_telling(desk);
        self.cancel_branches(desk, Cow::Owned(self.release_cause()));
        self.answer_pending(desk, status);
        self.acknowledge_owed(desk);
        for index in 0..self.legs.len() {
            let index = small(index);
            if Some(index) != by && self.legs[usize::from(index)].state == LegState::Up {
                self.send_bye(desk, index);
            }
        }
        self.close_media(desk);
        self.tell_end(desk);
        self.finish(desk);
        self.arm(desk);
    }

    /// The INVITE that asked for the call and requests on their way get their final responses.
    fn answer_pending(&mut self, desk: &mut Desk, status: u16) {
        for exchange in std::mem::take(&mut self.exchanges) {
            desk.refuse(exchange.server, 487); // RFC 3261 15.1.2
            if exchange.method == Method::Invite {
                self.abandoned.extend(exchange.client);
            }
        }
        let Some(server) = self.invite.take() else { return };
        let leg = &mut self.legs[usize::from(INVITER)];
        leg.state = LegState::Ended;
        leg.dialog.state = DialogState::Terminated;
        let tag = leg.dialog.local_tag.clone();
        let cause = self.failure_cause(self.best_failure.as_ref(), status);
        let failure = self.best_failure.take().filter(|failure| failure.status == status);
        let reason = failure.as_ref().map(|failure| failure.reason.as_slice()).unwrap_or_default();
        let hung_up = self.hung_up.as_ref().and_then(|hang_up| hang_up.reason.clone());
        let reason = hung_up.as_deref().map_or(reason, str::as_bytes);
        let answer = Reply { status, reason, to_tag: Some(&tag) };
        let spread = 2 + desk.mint.random() % 9;
        let wait = self.retry_after_s.map_or(spread, u64::from);
        desk.respond(server, answer, |_, _, mut out| {
            for contact in failure.iter().flat_map(|failure| &failure.contacts) {
                out.header("Contact", contact);
            }
            if let Some(cause) = &cause {
                out.header("Reason", cause.as_bytes());
            }
            if status == 503 || self.retry_after_s.is_some() {
                out.header_fmt("Retry-After", format_args!("{wait}"));
            }
            out.end();
        });
        self.best_failure = failure;
    }

    /// A leg that waits for the answer in its ACK gets the ACK before the BYE.
    fn acknowledge_owed(&mut self, desk: &mut Desk) {
        for asked in 0..self.legs.len() {
            let owed = self.legs[asked].unacked.as_mut().and_then(|unacked| unacked.owes.take());
            if let Some(owed) = owed {
                self.acknowledge_refusing(desk, small(asked), owed);
            }
        }
    }

    /// BYE, once the leg has acknowledged our 2xx (RFC 3261 15).
    pub(crate) fn send_bye(&mut self, desk: &mut Desk, index: u8) {
        let leg = &mut self.legs[usize::from(index)];
        if leg.state != LegState::Up {
            return;
        }
        if let Some(unacked) = &leg.unacked
            && unacked.give_up_at > desk.now.mono
        {
            leg.bye_wanted = true;
            return;
        }
        leg.unacked = None;
        leg.bye_wanted = false;
        leg.state = LegState::Ended;
        leg.dialog.state = DialogState::Terminated;
        let cseq = leg.dialog.next_cseq();
        let (cause, owner) = (self.release_cause(), Owner::Nobody(Some(self.rung(index))));
        let leg = &self.legs[usize::from(index)];
        let (dialog, way, words) = (&leg.dialog, leg.way, &self.parting);
        let account = self.trunk_of(index).and_then(|name| desk.account_of(name, way.peer));
        let sent =
            desk.request(Method::Bye, dialog.request_uri(), way, 70, owner, |desk, mut out| {
                dialog.write_request_headers(&mut out, cseq, "BYE");
                out.header("User-Agent", desk.settings.product.as_bytes());
                if !cause.is_empty() {
                    out.header("Reason", cause.as_bytes());
                }
                parting::write_parting(words, &mut out);
                out.end();
            });
        // The call may be gone when the peer asks for credentials.
        desk.vouch(sent, account);
    }

    /// The time for peers to answer is over: whatever they owe, this call is done.
    pub(crate) fn give_up(&mut self, desk: &mut Desk) {
        self.give_up_at = None;
        for index in 0..self.legs.len() {
            let leg = &mut self.legs[index];
            if let Some(unacked) = &mut leg.unacked {
                unacked.give_up_at = desk.now.mono;
                leg.unacked = None;
                if leg.bye_wanted {
                    self.send_bye(desk, small(index));
                }
            }
            // RFC 3261 9.1: a cancelled INVITE without an answer is forgotten after 64*T1.
            if let Some(invite) = self.legs[index].invite.take() {
                desk.drop_client(invite);
            }
        }
        self.give_up_join(desk);
        self.unreturned = None;
        for client in std::mem::take(&mut self.abandoned) {
            desk.drop_client(client);
        }
        // A relay that has not reported by now will not: its numbers are lost, the call is not.
        if !self.cdr_sent {
            self.media.open = 0;
            self.finish(desk);
        }
    }

    /// Sends the CDR when every relay has reported.
    pub(crate) fn finish(&mut self, desk: &mut Desk) {
        let Some(ended) = self.ended else { return };
        if self.media.open > 0 || self.cdr_sent {
            return;
        }
        self.cdr_sent = true;
        let cdr = self.cdr(desk, ended);
        desk.out.journal(Entry::End(Box::new(cdr)));
    }

    /// Writes down that the call stands, with the CDR that it gets if the process is killed now.
    pub(crate) fn journal_start(&mut self, desk: &mut Desk) {
        self.journaled = Some(desk.now.mono);
        let cut = Ended { at: desk.now, reason: HangupReason::SystemCrash, status: 200 };
        let mut cdr = self.cdr(desk, cut);
        // Its capture is closed by the next start.
        cdr.recorded = self.media.recorded != Recorded::Never;
        desk.out.journal(Entry::Start(Box::new(cdr)));
    }

    fn tell_end(&self, desk: &mut Desk) {
        let Some(ended) = self.ended else { return };
        if self.answered.is_some() || ended.reason == HangupReason::Canceled {
            return;
        }
        let (id, caller, callee) = (self.id, &self.caller, &self.callee);
        desk.notice(Severity::Info, "call_failed", || {
            format!("call {id} from {caller:?} to {callee:?} ended with {}", ended.status)
        });
    }

    fn cdr(&self, desk: &Desk, ended: Ended) -> Cdr {
        let duration = self.answered.map(|answered| ended.at.mono.since(answered.mono));
        let after = |at: shared::time::Now| {
            // Wall times are counted from the start by the monotonic clock, so that a step of the
            // wall clock never turns a call round.
            let ms = at.mono.since(self.started.mono).as_millis();
            self.started.wall.add_ms(u64::try_from(ms).unwrap_or(u64::MAX))
        };
        let first = self.caller_leg().map(|leg| leg.dialog.call_id.as_slice());
        let mut roles: Vec<LegRole> = self
            .legs
            .iter()
            .filter(|leg| !leg.was_tried && leg.on_loan.is_none())
            .map(|leg| LegRole { call_id: readable(&leg.dialog.call_id), role: leg.side })
            .collect();
        // A call that ended before it had a leg has the name that its first would have had.
        let call_id = first.map_or_else(|| self.leg_call_id(0), readable);
        roles.sort_by_key(|role| role.call_id != call_id);
        let failures = self.failures.iter().map(|failure| HangupMessage {
            code: failure.status,
            reason: phrase(failure.status, &failure.reason),
            target: failure.target.clone(),
        });
        let hung_up = self.hung_up.iter().map(|hang_up| HangupMessage {
            code: hang_up.code.unwrap_or(ended.status),
            reason: hang_up.reason.as_deref().unwrap_or("hung up by a command").to_owned(),
            target: hang_up.by.to_string(),
        });
        let last = self.failures.last().filter(|_| self.answered.is_none());
        Cdr {
            call_id,
            session_id: self.id,
            caller: self.caller.clone(),
            callee: self.callee.clone(),
            caller_uri: self.caller_uri.clone(),
            callee_uri: self.callee_uri.clone(),
            direction: self.direction,
            status: call_status(self.answered.is_some(), ended.reason),
            start_time: self.started.wall,
            ring_time: self.ringing.map(after),
            answer_time: self.answered.map(after),
            end_time: after(ended.at),
            duration_ms: duration
                .map_or(0, |duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
            status_code: if self.answered.is_some() { 200 } else { ended.status },
            hangup_reason: ended.reason,
            hangup_messages: failures.chain(hung_up).collect(),
            sip_leg_roles: roles,
            leg_timeline: LegTimeline { events: self.leg_events.clone() },
            source_addr: self.source.peer.to_string(),
            sip_trunk: self.inbound_trunk.as_deref().map(str::to_owned),
            outbound_trunk: self.outbound_trunk.as_deref().map(str::to_owned),
            user_agent: self.user_agent.clone(),
            recorded: self.media.recorded != Recorded::Never && self.media.captured_packets > 0,
            media_quality: self.quality(),
            last_error: last.map(|failure| LastError {
                code: failure.status,
                reason: phrase(failure.status, &failure.reason),
            }),
            shard: desk.settings.shard.0,
            sip_flow: None,
            metadata: self.orders.extensions.iter().cloned().collect(),
        }
    }

    fn quality(&self) -> Vec<StreamQuality> {
        let mut quality = self.media.quality.clone();
        quality.sort_by_key(|stream| (stream.line, stream.side.map_or(0, Side::index)));
        quality
    }

    /// CANCEL of the INVITE that asked for the call (RFC 3261 9.2); the 200 to the CANCEL was sent.
    pub(crate) fn cancelled_by_caller(&mut self, desk: &mut Desk) {
        if self.answered.is_none() {
            self.end(desk, HangupReason::Canceled, 487, None);
        }
    }

    /// Nobody sends media any more.
    pub(crate) fn media_silent(&mut self, desk: &mut Desk) {
        if self.answered.is_some() && self.ended.is_none() {
            desk.count(Counter::RtpTimeouts);
            let id = self.id;
            desk.notice(Severity::Warning, "rtp_timeout", || format!("call {id} lost its media"));
            self.end(desk, HangupReason::RtpTimeout, 200, None);
        }
    }

    /// The gateway stops: a standing call gets BYE, a ringing one 503.
    pub(crate) fn stop(&mut self, desk: &mut Desk) {
        let status = if self.answered.is_some() { 200 } else { 503 };
        self.end(desk, HangupReason::BySystem, status, None);
    }

    /// Our code failed in this call: everything that was sent stays true, the call ends.
    pub(crate) fn abort(&mut self, desk: &mut Desk) {
        desk.count(Counter::CallsPanicked);
        let status = if self.answered.is_some() { 200 } else { 500 };
        self.end(desk, HangupReason::BySystem, status, None);
    }
}

fn phrase(status: u16, reason: &[u8]) -> String {
    if reason.is_empty() { reason_phrase(status).to_owned() } else { readable(reason) }
}

fn call_status(answered: bool, reason: HangupReason) -> CallStatus {
    match reason {
        _ if answered => CallStatus::Completed,
        HangupReason::Canceled | HangupReason::NoAnswer | HangupReason::Rejected => {
            CallStatus::Missed
        }
        _ => CallStatus::Failed,
    }
}
