//! A standing call: hold, moved media, UPDATE, INFO, glare and the BYE (RFC 3261 12.2, 14, 15).
//! Owns:  what a phone asks for inside a dialog and how it answers what it is asked.
//! Gives: the agreed media after each change; the end of the call.
//! Never: a second INVITE while one is under way (RFC 3261 14.1).
//! Holds: a refused change leaves the standing agreement as it was.

use std::time::Duration;

use rsip::Method;
use rsip::headers::UntypedHeader as _;
use shared::ids::Side;
use shared::time::Instant;

use crate::phone::client::Purpose;
use crate::phone::plan::Step;
use crate::phone::usage::{Deed, Ending, Phase};
use crate::phone::{Phone, UsageId, challenge_in, reply};
use crate::speech::heard::Heard;
use crate::speech::{Body, Reply};

/// How often a change that met glare or a busy dialog is tried again.
const RETRIES_MAX: u8 = 6;
/// The next try when the dialog is busy with another INVITE.
const BUSY_WAIT: Duration = Duration::from_millis(700);

impl Phone {
    // Asking ----------------------------------------------------------------------------------

    pub fn step_now(&mut self, now: Instant, id: UsageId, step: Step) {
        self.step(now, id, step);
    }

    pub fn hang_up_now(&mut self, now: Instant, id: UsageId) {
        self.hang_up(now, id);
    }

    pub(super) fn step(&mut self, now: Instant, id: UsageId, step: Step) {
        if self.usages[id].phase != Phase::Confirmed {
            return;
        }
        let silences = matches!(step, Step::Hold { .. } | Step::Mute | Step::MoveMedia);
        self.usages[id].report.silenced |= silences;
        match step {
            Step::Join => self.join(now, id),
            Step::Mute => self.usages[id].talking.apply(step),
            Step::Refer(user) => self.refer(now, id, user),
            Step::SendInfo => self.send_note(now, id),
            _ => {
                self.usages[id].retries = 0;
                self.change(now, id, step);
            }
        }
    }

    pub(super) fn retry_step(&mut self, now: Instant, id: UsageId) {
        if let Some(step) = self.usages[id].pending_step.take() {
            self.change(now, id, step);
        }
    }

    fn change(&mut self, now: Instant, id: UsageId, step: Step) {
        let usage = &mut self.usages[id];
        if usage.phase != Phase::Confirmed {
            return;
        }
        if usage.is_inviting() || usage.talking.is_offering() || usage.is_waiting_to_acknowledge() {
            return self.try_later(now, id, step, BUSY_WAIT);
        }
        usage.cseq += 1;
        usage.pending_step = Some(step);
        let cseq = usage.cseq;
        let updates = self.settings.timer.is_some_and(|plan| plan.updates);
        let is_silent = step == Step::Refresh && updates;
        let is_update = step == Step::Update || is_silent;
        let body = if is_silent {
            None // RFC 4028 7.4: an UPDATE that refreshes needs no offer
        } else {
            usage.talking.apply(step);
            let offers = step != Step::OfferlessReInvite;
            offers.then(|| Body::sdp(usage.talking.offer()))
        };
        let method = if is_update { Method::Update } else { Method::Invite };
        let text = self.dialog_request(id, method, cseq, body);
        let to = self.target_of(&self.usages[id]);
        let purpose = if is_update { Purpose::Update(id) } else { Purpose::ReInvite(id) };
        let key = self.ask(now, text, to, purpose);
        self.usages[id].inviting = Some(key);
    }

    fn try_later(&mut self, now: Instant, id: UsageId, step: Step, wait: Duration) {
        let usage = &mut self.usages[id];
        if usage.retries < RETRIES_MAX && usage.pending_step.is_none() {
            usage.retries += 1;
            usage.pending_step = Some(step);
            self.at(now, wait, id, Deed::RetryStep);
        }
    }

    /// RFC 3261 14.1: who owns the Call-ID waits 2.1 to 4 s, the other one up to 2 s.
    fn glare_wait(&mut self, id: UsageId) -> Duration {
        let (low, high) = if self.usages[id].role == Side::Caller { (210, 400) } else { (0, 200) };
        Duration::from_millis(10 * self.random.range(low, high))
    }

    pub(super) fn hear_change_answer(
        &mut self,
        now: Instant,
        id: UsageId,
        heard: Option<&Heard>,
        asked: &Heard,
    ) {
        let usage = &mut self.usages[id];
        usage.inviting = None;
        let step = usage.pending_step.take();
        let Some(heard) = heard else {
            // RFC 3261 12.2.1.2: no answer ends the dialog.
            return self.bye(now, id);
        };
        let status = heard.status.expect("a response");
        if (200..300).contains(&status) {
            self.hear_session(now, id, heard);
            if let Err(why) = self.hear_media_of_change(id, heard, asked) {
                self.breaches.push(format!("{}: {why}", heard.call_id));
            }
            if let Some(contact) = &heard.contact {
                self.usages[id].target.clone_from(contact);
            }
            return self.acknowledge(id, asked.cseq);
        }
        self.change_refused(now, id, heard, step);
    }

    fn change_refused(&mut self, now: Instant, id: UsageId, heard: &Heard, step: Option<Step>) {
        let usage = &mut self.usages[id];
        usage.talking.withdraw();
        match (heard.status.expect("a response"), step) {
            (491, Some(step)) => {
                usage.report.glares += 1;
                let wait = self.glare_wait(id);
                self.try_later(now, id, step, wait);
            }
            (401 | 407, Some(step)) if usage.tries < RETRIES_MAX => {
                if let Some(credentials) = challenge_in(heard, &self.settings) {
                    let usage = &mut self.usages[id];
                    usage.tries += 1;
                    usage.credentials = Some(credentials);
                    self.change(now, id, step);
                }
            }
            (408 | 481, _) if usage.phase == Phase::Confirmed => self.bye(now, id),
            _ => {}
        }
    }

    fn hear_media_of_change(
        &mut self,
        id: UsageId,
        heard: &Heard,
        asked: &Heard,
    ) -> Result<(), String> {
        let usage = &mut self.usages[id];
        let sdp = heard.sdp().ok_or("2xx to a re-INVITE without SDP (RFC 3261 14.2)")?;
        if asked.sdp().is_some() {
            return usage.talking.take_answer(sdp);
        }
        usage.answer = Some(usage.talking.answer(sdp, false)?);
        Ok(())
    }

    pub(super) fn hear_update_answer(
        &mut self,
        now: Instant,
        id: UsageId,
        heard: Option<&Heard>,
        asked: &Heard,
    ) {
        let usage = &mut self.usages[id];
        usage.inviting = None;
        let step = usage.pending_step.take();
        let Some(heard) = heard else { return self.bye(now, id) };
        if !matches!(heard.status, Some(200..=299)) {
            return self.change_refused(now, id, heard, step);
        }
        self.hear_session(now, id, heard);
        if asked.sdp().is_none() {
            return;
        }
        let usage = &mut self.usages[id];
        let answered = heard
            .sdp()
            .ok_or_else(|| "2xx to an UPDATE without an answer (RFC 3311 5.2)".to_owned());
        if let Err(why) = answered.and_then(|sdp| usage.talking.take_answer(sdp)) {
            self.breaches.push(format!("{}: {why}", heard.call_id));
        }
    }

    fn send_note(&mut self, now: Instant, id: UsageId) {
        self.usages[id].cseq += 1;
        let cseq = self.usages[id].cseq;
        let text = "Signal=5\r\nDuration=160\r\n".to_owned();
        let body = Some(Body { content_type: "application/dtmf-relay", text });
        let text = self.dialog_request(id, Method::Info, cseq, body);
        let to = self.target_of(&self.usages[id]);
        self.ask(now, text, to, Purpose::Note(id));
    }

    /// The peer is asked to call somebody else; what comes of it is told by NOTIFY.
    fn refer(&mut self, now: Instant, id: UsageId, user: u16) {
        self.usages[id].cseq += 1;
        let cseq = self.usages[id].cseq;
        let target = format!("<sip:{user}@{}>", self.settings.domain);
        let refer_to = rsip::Header::Other("Refer-To".into(), target);
        let text = self.dialog_request_with(id, Method::Refer, cseq, None, vec![refer_to]);
        let to = self.target_of(&self.usages[id]);
        self.ask(now, text, to, Purpose::Note(id));
    }

    /// The peer is asked to take the place of this phone in another call of it, if it has one.
    fn join(&mut self, now: Instant, id: UsageId) {
        let other = self.usages.iter().enumerate().find(|(other, usage)| {
            *other != id && usage.phase == Phase::Confirmed && usage.remote_tag.is_some()
        });
        let Some((_, other)) = other else { return };
        let user = other.remote_uri.trim_start_matches("sip:");
        let user = user.split(['@', ';']).next().unwrap_or_default();
        let remote = other.remote_tag.as_deref().unwrap_or_default();
        let dialog = format!("{};to-tag={remote};from-tag={}", other.call_id, other.local_tag);
        let escaped: String = dialog
            .bytes()
            .map(|byte| match byte {
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        let target = format!("<sip:{user}@{}?Replaces={escaped}>", self.settings.domain);
        self.usages[id].cseq += 1;
        let cseq = self.usages[id].cseq;
        let refer_to = rsip::Header::Other("Refer-To".into(), target);
        let text = self.dialog_request_with(id, Method::Refer, cseq, None, vec![refer_to]);
        let to = self.target_of(&self.usages[id]);
        self.ask(now, text, to, Purpose::Note(id));
    }

    /// RFC 3515 2.4.5: the status line of the call that our REFER asked for.
    fn hear_notify(&mut self, now: Instant, id: UsageId, key: &str, heard: &Heard) {
        let body = String::from_utf8_lossy(&heard.body).into_owned();
        let status = body.split(' ').nth(1).and_then(|word| word.parse().ok());
        match status.filter(|_| body.starts_with("SIP/2.0 ")) {
            Some(status) => self.usages[id].report.notified.push(status),
            None => self.breach(format!("NOTIFY of {} without a fragment: {body}", heard.call_id)),
        }
        self.answer(now, key, Reply { status: 200, ..reply() });
    }

    pub(super) fn hear_note_answer(&mut self, now: Instant, id: UsageId, heard: Option<&Heard>) {
        let status = heard.and_then(|heard| heard.status);
        let is_over = matches!(status, None | Some(408 | 481));
        if is_over && self.usages[id].phase == Phase::Confirmed {
            self.bye(now, id);
        }
    }

    /// RFC 3261 15.1.1: the call is over for this phone once the BYE is out.
    pub(super) fn bye(&mut self, now: Instant, id: UsageId) {
        let usage = &mut self.usages[id];
        if usage.phase >= Phase::Closing {
            return;
        }
        usage.end(now, Ending::LocalBye);
        usage.phase = Phase::Closing;
        usage.cseq += 1;
        let cseq = usage.cseq;
        self.end_waiting_change(now, id);
        let text = self.dialog_request(id, Method::Bye, cseq, None);
        let to = self.target_of(&self.usages[id]);
        self.ask(now, text, to, Purpose::Bye(id));
    }

    /// RFC 3261 15.1.2: requests that still wait are answered 487.
    fn end_waiting_change(&mut self, now: Instant, id: UsageId) {
        let Some(key) = self.usages[id].invited.take() else { return };
        if self.servers.get(&key).is_some_and(super::Server::is_open) {
            self.answer(now, &key, Reply { status: 487, ..reply() });
        }
    }

    // Being asked -----------------------------------------------------------------------------

    pub(super) fn hear_in_dialog(&mut self, now: Instant, key: &str, heard: &Heard) {
        let found = self.usages.iter().position(|usage| usage.is_dialog_of(heard));
        let Some(id) = found else {
            return self.answer(now, key, Reply { status: 481, ..reply() });
        };
        let usage = &mut self.usages[id];
        let ends = heard.method == Method::Bye && usage.phase == Phase::Closing;
        if usage.phase >= Phase::Closing && !ends {
            return self.answer(now, key, Reply { status: 481, ..reply() });
        }
        if usage.remote_cseq.is_some_and(|last| heard.cseq < last) {
            // RFC 3261 12.2.2: out of order.
            return self.answer(now, key, Reply { status: 500, ..reply() });
        }
        usage.remote_cseq = Some(heard.cseq);
        if let Some(server) = self.servers.get_mut(key) {
            server.usage = Some(id);
        }
        match heard.method {
            Method::Bye => self.hear_bye(now, id, key),
            Method::Invite => self.hear_reinvite(now, id, key, heard),
            Method::Update => self.hear_update(now, id, key, heard),
            Method::Info => {
                self.usages[id].report.infos_heard += 1;
                self.answer(now, key, Reply { status: 200, ..reply() });
            }
            Method::Notify => self.hear_notify(now, id, key, heard),
            Method::PRack => self.hear_prack(now, id, key, heard),
            Method::Options => self.answer(now, key, Reply { status: 200, ..reply() }),
            _ => self.answer(now, key, Reply { status: 405, ..reply() }),
        }
    }

    fn hear_bye(&mut self, now: Instant, id: UsageId, key: &str) {
        self.answer(now, key, Reply { status: 200, ..reply() });
        self.end_waiting_change(now, id);
        let usage = &mut self.usages[id];
        if usage.phase == Phase::Closing {
            // The BYEs crossed; ours still waits for its answer.
            return usage.end(now, Ending::LocalBye);
        }
        usage.close(now, Ending::RemoteBye);
    }

    fn hear_reinvite(&mut self, now: Instant, id: UsageId, key: &str, heard: &Heard) {
        let usage = &mut self.usages[id];
        if usage.inviting.is_some() || usage.talking.is_offering() {
            // RFC 3261 14.2: ours is under way.
            return self.answer(now, key, Reply { status: 491, ..reply() });
        }
        if usage.invited.is_some() {
            let retry_after = rsip::headers::RetryAfter::new("2").into();
            return self.answer(
                now,
                key,
                Reply { status: 500, more: vec![retry_after], ..reply() },
            );
        }
        if self.refuses_session(now, key, heard) {
            return;
        }
        let usage = &mut self.usages[id];
        if let Some(contact) = &heard.contact {
            usage.target.clone_from(contact);
        }
        usage.invited = Some(key.to_owned());
        let reply_after = usage.callee_plan().map_or(Duration::ZERO, |plan| plan.reply_after);
        if reply_after > Duration::from_millis(200) {
            self.answer(now, key, Reply { status: 100, ..reply() });
        }
        self.at(now, reply_after, id, Deed::Reply(key.to_owned()));
    }

    pub(super) fn reply_to_change(&mut self, now: Instant, id: UsageId, key: &str) {
        let usage = &mut self.usages[id];
        if usage.phase != Phase::Confirmed || usage.invited.as_deref() != Some(key) {
            return;
        }
        let Some(server) = self.servers.get(key).filter(|server| server.is_open()) else { return };
        if let Some(status) = usage.callee_plan().and_then(|plan| plan.refuse_changes) {
            usage.invited = None;
            return self.answer(now, key, Reply { status, ..reply() });
        }
        let accepts_video = usage.callee_plan().is_some_and(|plan| plan.accepts_video);
        let body = match server.asked.sdp() {
            Some(offer) => usage.talking.answer(offer, accepts_video),
            None => Ok(usage.talking.offer()),
        };
        match body {
            Ok(body) => self.answer_ok(now, id, key, Some(body)),
            Err(why) => {
                usage.invited = None;
                let call = usage.call_id.clone();
                self.breach(format!("{call}: {why}"));
                self.answer(now, key, Reply { status: 488, ..reply() });
            }
        }
    }

    /// RFC 3311 5.2.
    fn hear_update(&mut self, now: Instant, id: UsageId, key: &str, heard: &Heard) {
        let contact = self.contact();
        if self.refuses_session(now, key, heard) {
            return;
        }
        let Some(offer) = heard.sdp() else {
            let (contact, more) = (Some(contact.as_str()), self.session_answer(now, id, heard));
            return self.answer(now, key, Reply { status: 200, contact, more, ..reply() });
        };
        let usage = &mut self.usages[id];
        if usage.inviting.is_some() || usage.talking.is_offering() {
            return self.answer(now, key, Reply { status: 491, ..reply() });
        }
        if usage.invited.is_some() {
            let retry_after = rsip::headers::RetryAfter::new("2").into();
            return self.answer(
                now,
                key,
                Reply { status: 500, more: vec![retry_after], ..reply() },
            );
        }
        match usage.talking.answer(offer, false) {
            Ok(answer) => {
                let (contact, body) = (Some(contact.as_str()), Some(Body::sdp(answer)));
                let more = self.session_answer(now, id, heard);
                self.answer(now, key, Reply { status: 200, contact, body, more, ..reply() });
            }
            Err(why) => {
                self.breach(format!("{}: {why}", heard.call_id));
                self.answer(now, key, Reply { status: 488, ..reply() });
            }
        }
    }
}
