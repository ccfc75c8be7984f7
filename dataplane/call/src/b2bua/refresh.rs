//! Session refreshes: ours at half the interval, the peer's answered here, a dead peer's end (RFC 4028).
//! Owns:  what is done about a leg's timer: send, try again, answer, give up.
//! Gives: `refresh_timeout`, the answers to our refreshes, `answer_refresh`, `ask_longer`.
//! Never: a refresh of one leg on the other; what changes something is relayed as ever.
//! Holds: a refresh repeats what the leg was told last, so nothing about media changes.

use std::rc::Rc;
use std::time::Duration;

use shared::cdr::HangupReason;
use shared::event::Severity;
use shared::metrics::Counter;
use shared::time::Instant;
use sip::sdp::Description;
use sip::wire::{HeaderName, Message, Method, Start, scan};

use super::compose::{self, Carries, SDP, carries, write_body};
use super::media::read;
use super::prack::OPTION;
use super::session_timer::Out;
use super::{Call, Failure, INVITER, LegState, OwedAck, Unacked, small};
use crate::challenged;
use crate::desk::{ALLOW, Desk, Reply};
use crate::transactions::{Asks, ClientKey, ServerKey};

/// Until the next look when the dialog is busy.
const BUSY_WAIT: Duration = Duration::from_millis(500);
/// Glares after which a peer is asked less often.
const GLARES_MAX: u8 = 5;

impl Call {
    /// What is due on the timers of the legs.
    pub(crate) fn refresh_timeout(&mut self, desk: &mut Desk) {
        let now = desk.now.mono;
        for index in 0..self.legs.len() {
            let leg = &self.legs[index];
            let Some(agreed) = leg.timer.agreed.filter(|_| leg.state == LegState::Up) else {
                continue;
            };
            if agreed.ends_at <= now {
                self.session_lost(desk, small(index), 408);
            } else if agreed.ours && leg.timer.out.is_none() && agreed.refresh_at <= now {
                self.send_refresh(desk, small(index));
            }
        }
    }

    /// When the timers of the legs want to be looked at.
    pub(crate) fn refresh_deadline(&self) -> Option<Instant> {
        let up = self.legs.iter().filter(|leg| leg.state == LegState::Up);
        up.filter_map(|leg| leg.timer.deadline()).min()
    }

    /// An UPDATE without a body where the peer takes one: nobody can mistake it for a change.
    fn send_refresh(&mut self, desk: &mut Desk, index: u8) {
        let rules = desk.settings.timers.session;
        let leg = &self.legs[usize::from(index)];
        let invites = !leg.timer.takes_update && !leg.last_sdp.is_empty();
        let updates =
            self.exchanges.iter().any(|one| one.to == index && one.method == Method::Update);
        if self.has_reinvite_out() || updates || invites && self.is_inviting() {
            return self.legs[usize::from(index)].timer.try_at(desk.now.mono + BUSY_WAIT);
        }
        let method = if invites { Method::Invite } else { Method::Update };
        let owner = self.owner(index, Asks::Refresh);
        let leg = &mut self.legs[usize::from(index)];
        let cseq = leg.dialog.next_cseq();
        let (dialog, way, timer) = (&leg.dialog, leg.way, &leg.timer);
        let body = if invites { leg.last_sdp.as_slice() } else { b"" };
        let sent = desk.request(method, dialog.request_uri(), way, 70, owner, |desk, mut out| {
            dialog.write_request_headers(&mut out, cseq, method.as_str());
            desk.write_contact(&mut out, &way);
            out.header("Allow", ALLOW);
            out.header("User-Agent", desk.settings.product.as_bytes());
            timer.write_request(&mut out, &rules);
            write_body(out, SDP, body);
        });
        match sent {
            Some(client) => {
                leg.timer.out = Some(Out { client, invites });
                desk.count(Counter::SessionRefreshes);
            }
            None => leg.timer.try_at(desk.now.mono + leg.timer.patience()),
        }
    }

    pub(crate) fn handle_refresh_response(
        &mut self,
        desk: &mut Desk,
        index: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let status = response.status().unwrap_or_default();
        if status < 200 {
            return;
        }
        let rules = desk.settings.timers.session;
        let now = desk.now.mono;
        let Some(invited) = self.take_refresh(index, client) else {
            if response.method() == Method::Invite && status < 300 {
                self.repeated_answer(desk, client, response);
            }
            return;
        };
        let leg = &mut self.legs[usize::from(index)];
        match status {
            200..=299 => {
                leg.dialog.refresh_target(response);
                leg.timer.agree_as_client(now, &rules, response);
                if invited {
                    self.refreshed_by_invite(desk, index, client, response);
                }
            }
            408 | 481 => self.session_lost(desk, index, status),
            422 if leg.timer.learn_longer(&rules, response) => leg.timer.try_at(now),
            405 | 501 if !invited => {
                // It does not do what its Allow says.
                leg.timer.takes_update = false;
                self.refresh_refused(desk, index, 491);
            }
            _ => self.refresh_refused(desk, index, status),
        }
        self.arm(desk);
    }

    /// No final response came: 408 for silence, 503 for a transport that failed.
    pub(crate) fn handle_refresh_failed(
        &mut self,
        desk: &mut Desk,
        index: u8,
        client: ClientKey,
        status: u16,
    ) {
        if self.take_refresh(index, client).is_none() {
            return;
        }
        match status {
            408 => self.session_lost(desk, index, status),
            _ => self.refresh_refused(desk, index, status),
        }
        self.arm(desk);
    }

    /// Whether this refresh was waited for, and was a re-INVITE.
    fn take_refresh(&mut self, index: u8, client: ClientKey) -> Option<bool> {
        let leg = self.leg_mut(index)?;
        leg.timer.out.take_if(|out| out.client == client).map(|out| out.invites)
    }

    fn refreshed_by_invite(
        &mut self,
        desk: &mut Desk,
        index: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        self.acknowledge(desk, OwedAck::new(index, client, response), None);
        if carries(response) != Carries::Sdp {
            return;
        }
        let Ok(said) = read(response.body()) else { return };
        let has_moved = self.legs[usize::from(index)].said != said.text();
        self.heard(desk, index, &said);
        // No relay of ours hides from its peer where it is now.
        if let Some(peer) = self.peer_of(index).filter(|_| has_moved && self.media.past_us) {
            self.align(desk, peer);
        }
    }

    /// It was heard, and not agreed to: the session stands until its time is over.
    fn refresh_refused(&mut self, desk: &mut Desk, index: u8, status: u16) {
        let now = desk.now.mono;
        let is_ours = self.caller_hash.is_none() || index != INVITER;
        let timer = &mut self.legs[usize::from(index)].timer;
        timer.refusals = timer.refusals.saturating_add(1);
        if status == 491 && timer.refusals <= GLARES_MAX {
            // RFC 3261 14.1: who made the Call-ID waits 2.1 to 4 s, the other one up to 2 s.
            let tens = desk.mint.random() % 191 + if is_ours { 210 } else { 10 };
            return timer.try_at(now + Duration::from_millis(10 * tens));
        }
        let answered = (400..500).contains(&status) || (600..700).contains(&status);
        if answered && timer.agreed.is_some_and(|agreed| !agreed.both) {
            return timer.agree_again(now);
        }
        let at = now + timer.patience();
        timer.try_at(at);
    }

    /// Its peer is gone (RFC 4028 10): one that has no such dialog any more gets no BYE.
    fn session_lost(&mut self, desk: &mut Desk, index: u8, status: u16) {
        if self.ended.is_some() {
            return;
        }
        desk.count(Counter::SessionsExpired);
        let id = self.id;
        desk.notice(Severity::Warning, "session_expired", || {
            format!("call {id}: leg {index} did not refresh its session ({status})")
        });
        let leg = &mut self.legs[usize::from(index)];
        let target = compose::readable(&leg.dialog.remote_target);
        let gone = (status == 481).then_some(index);
        if gone.is_some() {
            leg.state = LegState::Ended;
        }
        let reason = b"Session Not Refreshed".to_vec();
        self.note_failure(Failure { reason, ..Failure::theirs(status, target) });
        // The first party of a call that we make may wait for long before it is answered.
        let told = if self.answered.is_some() { 200 } else { 480 };
        self.end(desk, HangupReason::BySystem, told, gone);
    }

    /// The leg goes, or the call ends: nothing is due any more.
    pub(crate) fn end_refreshing(&mut self, index: u8) {
        let Some(leg) = self.leg_mut(index) else { return };
        leg.timer.stop();
        leg.asked = None;
        if let Some(out) = leg.timer.out.take_if(|out| out.invites) {
            self.abandoned.push(out.client);
        }
    }

    /// A re-INVITE or UPDATE that repeats what its sender said before, or says nothing: it gets its
    /// answer here. `false`: it changes something, or comes at a bad moment.
    pub(crate) fn answer_refresh(
        &mut self,
        desk: &mut Desk,
        index: u8,
        server: ServerKey,
        request: &Message<'_>,
    ) -> bool {
        let rules = desk.settings.timers.session;
        let method = request.method();
        let leg = &self.legs[usize::from(index)];
        let is_refresh = request.first(HeaderName::SessionExpires).is_some();
        // While it is on loan its session is the borrower's to keep: 491, and it asks again.
        let is_here = leg.state == LegState::Up && !self.is_lent(index);
        if !rules.is_on() || !is_refresh || !is_here {
            return false;
        }
        let body = match carries(request) {
            Carries::Nothing if method == Method::Update => Vec::new(),
            Carries::Sdp if request.body() == leg.said && fits(&leg.last_sdp, request.body()) => {
                if self.may_offer(index, method).is_err() {
                    return false;
                }
                leg.last_sdp.clone()
            }
            _ => return false,
        };
        let (way, cseq) = (leg.way, leg.dialog.remote_cseq.unwrap_or_default());
        let reply_to = desk.transactions.servers.find(server).map(|one| one.reply_to);
        let timer = &mut self.legs[usize::from(index)].timer;
        timer.agree_as_server(desk.now.mono, &rules, request);
        let timer = *timer;
        let sent = desk.respond(server, Reply::new(200), |desk, request, mut out| {
            desk.write_contact(&mut out, &way);
            out.header("Allow", ALLOW);
            timer.write_answer(&mut out, &rules, request);
            write_body(out, SDP, &body);
        });
        if let (Some(response), Some(to), Method::Invite) = (sent, reply_to, method) {
            let unacked = Unacked::new(desk, response, to, cseq, None);
            self.legs[usize::from(index)].unacked = Some(unacked);
        }
        true
    }

    /// The 2xx to this request of a leg is about to leave.
    pub(crate) fn agree_on_session(&mut self, desk: &Desk, index: u8, server: ServerKey) {
        let rules = desk.settings.timers.session;
        let found = desk.transactions.servers.find(server).filter(|_| rules.is_on());
        let Some(bytes) = found.map(|server| Rc::clone(&server.request)) else { return };
        if let (Ok(request), Some(leg)) = (scan(&bytes), self.leg_mut(index)) {
            leg.timer.agree_as_server(desk.now.mono, &rules, &request);
        }
    }

    /// The INVITE that creates a leg once more, with the interval that the peer's 422 asks for; once.
    pub(crate) fn ask_longer(
        &mut self,
        desk: &mut Desk,
        index: u8,
        response: &Message<'_>,
    ) -> bool {
        let rules = desk.settings.timers.session;
        let owner = self.owner(index, Asks::Invite);
        let Some(leg) = self.leg_mut(index) else { return false };
        let is_wanted = !leg.given_up && !leg.cancelled && leg.cancel_wanted.is_none();
        let Some(bytes) = leg.asked.take().filter(|_| is_wanted) else { return false };
        if leg.state != LegState::Inviting || !leg.timer.learn_longer(&rules, response) {
            return false;
        }
        let Ok(before) = scan(&bytes) else { return false };
        let Start::Request { uri, .. } = before.start() else { return false };
        let max_forwards = before.max_forwards().ok().flatten().unwrap_or(70);
        // A provisional response may have named a dialog that the 422 has ended.
        leg.dialog.remote_tag.clear();
        leg.early.clear();
        let reliably = before.names_option(HeaderName::Supported, OPTION);
        let cseq = leg.dialog.next_cseq();
        let timer = &leg.timer;
        let sent = desk.request(Method::Invite, uri, leg.way, max_forwards, owner, |_, mut out| {
            for (name, written, value) in before.lines().filter(|line| !is_made_anew(line.0)) {
                compose::write_line(&mut out, name, written, value);
            }
            out.header_fmt("CSeq", format_args!("{cseq} INVITE"));
            timer.write_request(&mut out, &rules);
            if reliably {
                out.header("Supported", OPTION);
            }
            write_body(out, SDP, before.body());
        });
        leg.invite = sent;
        leg.provisional = false;
        sent.is_some()
    }
}

/// What an INVITE for a longer interval does not have from the one before.
const fn is_made_anew(name: HeaderName) -> bool {
    let asks_anew = matches!(
        name,
        HeaderName::Authorization
            | HeaderName::ProxyAuthorization
            | HeaderName::Supported
            | HeaderName::SessionExpires
            | HeaderName::MinSe
    );
    asks_anew || challenged::is_made_anew(name)
}

/// Whether what a leg was told last is an answer to what it says: the same lines, no format that it does
/// not offer.
pub(super) fn fits(told: &[u8], said: &[u8]) -> bool {
    let (Ok(told), Ok(said)) = (read(told), read(said)) else { return false };
    told.media.len() == said.media.len() && lines_fit(&told, &said)
}

fn lines_fit(told: &Description<'_>, said: &Description<'_>) -> bool {
    let words = |formats: &[u8]| {
        let words = formats.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    told.media.iter().zip(&said.media).all(|(told, said)| {
        let offered = words(said.formats);
        let all = || words(told.formats).iter().all(|word| offered.contains(word));
        told.port == 0 || (said.port != 0 && all())
    })
}
