//! Alignment: a re-INVITE of ours tells a leg what its new peer said (RFC 3725 4, RFC 3261 14).
//! Owns:  `Aligning`: which leg, how often it was tried, when next.
//! Gives: `Call::align`, which does nothing where the two agree already.
//! Never: an INVITE while another one is under way in the dialog (RFC 3261 14.1).
//! Holds: it ends: agreed, refused, or given up after `WAIT_MAX`.

use std::time::Duration;

use shared::act::Refusal;
use shared::cdr::HangupReason;
use shared::event::Severity;
use shared::time::Instant;
use sip::sdp::{self, Description, Direction, formats_agree};
use sip::wire::{Message, Method};

use super::compose::{self, Carries, SDP, carries, write_body};
use super::media::read;
use super::{Call, Failure, INVITER, LegState, OwedAck, State};
use crate::desk::{ALLOW, Desk};
use crate::transactions::{Asks, ClientKey};

/// From the first wish for it; a person may have to agree to a re-INVITE.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Until the next look when the dialog is busy with an INVITE of the peer.
const BUSY_WAIT: Duration = Duration::from_millis(500);
/// Re-INVITEs of which each has another port for answer than the one before, from side to side.
const TURNS_MAX: u8 = 4;

#[derive(Debug)]
pub(crate) struct Aligning {
    leg: u8,
    wish: Wish,
    /// What the leg was told before, in case that it refuses the new one (RFC 3261 14.1).
    before: Vec<u8>,
    /// What it answered last.
    refused: Option<u16>,
    /// The re-INVITE that is out.
    client: Option<ClientKey>,
    /// A provisional response to it was seen.
    is_heard: bool,
    /// How many it follows, each because of the answer to the one before.
    turn: u8,
    /// The next try, while none is out.
    try_at: Instant,
    give_up_at: Instant,
}

/// What a re-INVITE of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// The leg is to speak what its peer speaks.
    Agree,
    /// An act puts the leg on hold, or takes it back.
    Hold { act: u64, on: bool },
    /// A leg on loan is to take the place of the one that goes.
    Join,
    /// The leg is to agree with one that takes the place of its peer.
    Newcomer,
}

impl Aligning {
    fn new(now: Instant, leg: u8, wish: Wish) -> Self {
        let give_up_at = now + WAIT_MAX;
        let (client, is_heard, refused, before) = (None, false, None, Vec::new());
        let (turn, try_at) = (0, now);
        Self { leg, wish, before, refused, client, is_heard, turn, try_at, give_up_at }
    }

    /// The re-INVITE that is out.
    pub(crate) fn client_mut(&mut self) -> Option<&mut ClientKey> {
        self.client.as_mut()
    }

    pub(crate) fn deadline(&self) -> Instant {
        if self.is_out() { self.give_up_at } else { self.try_at.min(self.give_up_at) }
    }

    /// Why this act is not done yet, as far as it is known.
    pub(crate) fn refusal_of(&self, id: u64) -> Option<u16> {
        let is_its = matches!(self.wish, Wish::Hold { act, .. } if act == id);
        self.refused.filter(|_| is_its && self.client.is_none())
    }

    pub(crate) const fn client(&self) -> Option<ClientKey> {
        self.client
    }

    pub(crate) const fn is_out(&self) -> bool {
        self.client.is_some()
    }
}

impl Call {
    /// Makes `leg` agree with what its peer said, if it does not already.
    pub(crate) fn align(&mut self, desk: &mut Desk, leg: u8) {
        if self.is_joining() || self.replacing.is_some() {
            return; // the one who comes hears the newest, and its answer aligns the one who stays
        }
        self.end_aligning();
        let suits = |mine: &Description<'_>, theirs: &Description<'_>| formats_agree(mine, theirs);
        // Without a relay between them the leg has to know the address of its new peer, too.
        let agrees = match self.media.past_us {
            true => self.knows_peer(leg),
            false => self.compare_with_peer(leg, suits),
        };
        if !agrees {
            self.begin_aligning(desk, leg, Wish::Agree);
        }
    }

    /// Tells `leg` once more what its peer said: it may have kept to what it heard first (RFC 3261
    /// 13.2.1).
    pub(crate) fn restate_peer(&mut self, desk: &mut Desk, leg: u8) {
        self.end_aligning();
        self.begin_aligning(desk, leg, Wish::Agree);
    }

    /// Asks a leg on loan.
    pub(crate) fn begin_joining(&mut self, desk: &mut Desk, leg: u8) {
        self.begin_aligning(desk, leg, Wish::Join);
    }

    /// Asks the leg that stays about the one that comes.
    pub(crate) fn ask_for_newcomer(&mut self, desk: &mut Desk, leg: u8) {
        self.begin_aligning(desk, leg, Wish::Newcomer);
    }

    fn begin_aligning(&mut self, desk: &mut Desk, leg: u8, wish: Wish) {
        self.aligning = Some(Box::new(Aligning::new(desk.now.mono, leg, wish)));
        self.try_to_align(desk);
        self.arm(desk);
    }

    /// What `leg` was told last is what its peer says.
    fn knows_peer(&self, leg: u8) -> bool {
        let peer = self.peer_of(leg).and_then(|peer| self.leg(peer));
        let said = peer.and_then(|peer| read(&peer.said).ok());
        let told = self.leg(leg).map(|leg| leg.last_sdp.as_slice());
        said.is_some_and(|said| Some(self.passed(leg, &said, None).as_slice()) == told)
    }

    /// No INVITE is under way, so that one of ours may be sent for an act.
    pub(crate) fn may_turn(&self) -> bool {
        let is_moving = self.transfer.is_some() || self.round.is_some() || self.lent.is_some();
        let is_moving = is_moving || self.replacing.is_some();
        let is_free = self.aligning.is_none() && !self.is_inviting();
        self.state == State::Talking && is_free && !is_moving
    }

    /// Puts a leg on hold, or takes it back, for an act that waits for it.
    pub(crate) fn turn(&mut self, desk: &mut Desk, act: u64, leg: u8, on: bool) {
        self.turning(act);
        self.legs[usize::from(leg)].held = on;
        self.begin_aligning(desk, leg, Wish::Hold { act, on });
    }

    /// What `leg` said and what its peer said; `false` where one of them said nothing yet.
    fn compare_with_peer(
        &self,
        leg: u8,
        fits: impl Fn(&Description<'_>, &Description<'_>) -> bool,
    ) -> bool {
        let peer = self.peer_of(leg).and_then(|peer| self.leg(peer));
        let (Some(mine), Some(peer)) = (self.leg(leg), peer) else { return false };
        match (read(&mine.said), read(&peer.said)) {
            (Ok(mine), Ok(theirs)) => fits(&mine, &theirs),
            _ => false,
        }
    }

    fn try_to_align(&mut self, desk: &mut Desk) {
        let Some(aligning) = &self.aligning else { return };
        let (leg, wish) = (aligning.leg, aligning.wish);
        let peer = match wish {
            Wish::Join => self.transfer.as_ref().map(|transfer| transfer.stays),
            Wish::Newcomer => self.replacing.as_ref().map(|replacing| replacing.comes()),
            Wish::Agree | Wish::Hold { .. } => self.peer_of(leg),
        };
        let Some(peer) = peer else { return self.end_aligning() };
        if self.is_inviting() {
            if let Some(aligning) = &mut self.aligning {
                aligning.try_at = desk.now.mono + BUSY_WAIT;
            }
            return;
        }
        let mut offer = self.legs[usize::from(peer)].said.clone();
        if wish == Wish::Join {
            offer = self.joining_offer(leg).unwrap_or_default();
        } else if wish == Wish::Newcomer {
            offer = self.newcomers_offer().unwrap_or_default();
        } else if wish != Wish::Agree {
            // Only what both have agreed on: the peer is not asked again.
            let mine = &self.legs[usize::from(leg)].said;
            if let (Ok(theirs), Ok(mine)) = (read(&offer), read(mine)) {
                offer = sdp::narrow(&theirs, &mine);
            }
        }
        let before = self.legs[usize::from(leg)].last_sdp.clone();
        if let Some(aligning) = &mut self.aligning {
            aligning.before = before;
        }
        // What a held peer says of its direction is our own wish come back, not the peer's.
        // A leg that was put on hold to be transferred is to talk again.
        let is_open = wish == Wish::Join || self.legs[usize::from(peer)].held;
        let direction = is_open.then_some(Direction::SendRecv);
        let body = read(&offer).map(|offer| self.say_as(desk, leg, &offer, direction));
        let body = body.unwrap_or_default();
        if body.is_empty() {
            return self.alignment_failed(desk, 500); // its peer has said nothing that reads
        }
        let sent = self.send_reinvite(desk, leg, &body);
        match (&mut self.aligning, sent) {
            (Some(aligning), Some(_)) => aligning.client = sent,
            _ => self.alignment_failed(desk, 503),
        }
    }

    fn send_reinvite(&mut self, desk: &mut Desk, index: u8, body: &[u8]) -> Option<ClientKey> {
        let owner = self.owner(index, Asks::Align);
        let leg = &mut self.legs[usize::from(index)];
        let cseq = leg.dialog.next_cseq();
        let (dialog, way, timer) = (&leg.dialog, leg.way, &leg.timer);
        let rules = desk.settings.timers.session;
        desk.request(Method::Invite, dialog.request_uri(), way, 70, owner, |desk, mut out| {
            dialog.write_request_headers(&mut out, cseq, "INVITE");
            desk.write_contact(&mut out, &way);
            out.header("Allow", ALLOW);
            out.header("User-Agent", desk.settings.product.as_bytes());
            timer.write_request(&mut out, &rules);
            write_body(out, SDP, body);
        })
    }

    /// A re-INVITE of this is out.
    pub(crate) fn has_reinvite_out(&self) -> bool {
        self.aligning.as_ref().is_some_and(|aligning| aligning.is_out())
    }

    /// An INVITE or UPDATE of a peer is under way, or its ACK is still to come, or a refresh of ours.
    pub(crate) fn is_inviting(&self) -> bool {
        let offers = |method| matches!(method, Method::Invite | Method::Update);
        self.exchanges.iter().any(|exchange| offers(exchange.method))
            || self.legs.iter().any(|leg| leg.unacked.is_some() || leg.timer.is_inviting())
            || self.after_open.is_some()
    }

    pub(crate) fn handle_align_response(
        &mut self,
        desk: &mut Desk,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let status = response.status().unwrap_or_default();
        let Some(leg) = self.aligning_by(client) else {
            if (200..300).contains(&status) {
                self.repeated_answer(desk, client, response);
            }
            return;
        };
        if self.ended.is_some() {
            self.join_outlived(desk, leg, client, response);
            return self.arm(desk);
        }
        match status {
            0..=199 => self.reinvite_is_heard(),
            200..=299 => self.alignment_agreed(desk, leg, client, response),
            422 if self.learns_longer(desk, leg, response) => self.align_later(desk, leg, status),
            // Glare, or an INVITE of theirs that we do not know of yet (RFC 3261 14.1, 14.2).
            491 | 500 => self.align_later(desk, leg, status),
            _ => self.alignment_failed(desk, status),
        }
        self.arm(desk);
    }

    pub(crate) fn reinvite_is_heard(&mut self) {
        if let Some(aligning) = &mut self.aligning {
            aligning.is_heard = true;
        }
    }

    /// RFC 3261 9.1: not before its first provisional response.
    pub(crate) fn cancel_reinvite(&mut self, desk: &mut Desk) {
        let heard = self.aligning.as_ref().filter(|aligning| aligning.is_heard);
        let Some(client) = heard.and_then(|aligning| aligning.client) else { return };
        if desk.transactions.clients.find(client).is_some_and(|one| one.cancel.is_none()) {
            desk.cancel(client, None);
        }
    }

    fn learns_longer(&mut self, desk: &Desk, leg: u8, response: &Message<'_>) -> bool {
        let rules = desk.settings.timers.session;
        self.legs[usize::from(leg)].timer.learn_longer(&rules, response)
    }

    /// The leg whose re-INVITE this is, while it is the one that is waited for.
    fn aligning_by(&self, client: ClientKey) -> Option<u8> {
        let aligning = self.aligning.as_ref().filter(|one| one.client == Some(client))?;
        Some(aligning.leg)
    }

    fn alignment_agreed(
        &mut self,
        desk: &mut Desk,
        leg: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let rules = desk.settings.timers.session;
        let own = &mut self.legs[usize::from(leg)];
        own.dialog.refresh_target(response);
        own.timer.agree_as_client(desk.now.mono, &rules, response);
        self.acknowledge(desk, OwedAck::new(leg, client, response), None);
        let said =
            if carries(response) == Carries::Sdp { read(response.body()).ok() } else { None };
        if self.aligning.take_if(|one| one.wish == Wish::Join).is_some() {
            return self.join_agreed(desk, leg, said.as_ref());
        }
        if self.aligning.take_if(|one| one.wish == Wish::Newcomer).is_some() {
            return self.newcomer_agreed(desk, leg, said.as_ref());
        }
        match said {
            Some(said) => {
                let done = self.aligning.take().map(|aligning| (aligning.wish, aligning.turn));
                let has_moved = self.media.past_us && self.has_moved_media(leg, &said);
                self.heard(desk, leg, &said);
                let (wish, turn) = done.unzip();
                if let Some(Wish::Hold { act, .. }) = wish {
                    self.finish_act(desk, act, Ok(()));
                }
                if has_moved {
                    self.pass_on_move(desk, leg, turn.unwrap_or_default());
                }
            }
            None => self.alignment_failed(desk, 502),
        }
    }

    /// Its answer names other places for its media than what it said before.
    fn has_moved_media(&self, leg: u8, said: &Description<'_>) -> bool {
        let Ok(before) = read(&self.legs[usize::from(leg)].said) else { return true };
        let places = |said: &Description<'_>| {
            let place = |line: &sdp::MediaLine<'_>| (line.connection, line.port, line.rtcp);
            said.media.iter().map(place).collect::<Vec<_>>()
        };
        places(&before) != places(said)
    }

    /// No relay of ours hides from its peer where a leg is now. Two that move with every answer would
    /// go on with that forever.
    fn pass_on_move(&mut self, desk: &mut Desk, leg: u8, turn: u8) {
        let Some(peer) = self.peer_of(leg).filter(|_| turn < TURNS_MAX) else { return };
        self.align(desk, peer);
        if let Some(aligning) = self.aligning.as_mut().filter(|aligning| aligning.leg == peer) {
            aligning.turn = turn + 1;
        }
    }

    /// RFC 3261 14.1: who made the Call-ID waits 2.1 to 4 s, the other one up to 2 s.
    fn align_later(&mut self, desk: &mut Desk, leg: u8, status: u16) {
        self.unsay_refused();
        let wish = self.aligning.as_ref().map(|aligning| aligning.wish);
        if let Some(Wish::Hold { act, .. }) = wish
            && !self.acts.iter().any(|waiting| waiting.is(act))
        {
            return self.alignment_failed(desk, status); // nobody waits for it any more
        }
        let is_ours = self.caller_hash.is_none() || leg != INVITER;
        let tens = desk.mint.random() % 191 + if is_ours { 210 } else { 10 };
        if let Some(aligning) = &mut self.aligning {
            (aligning.client, aligning.refused) = (None, Some(status));
            aligning.is_heard = false;
            aligning.try_at = desk.now.mono + Duration::from_millis(10 * tens);
        }
    }

    pub(crate) fn handle_align_failed(&mut self, desk: &mut Desk, client: ClientKey, status: u16) {
        if self.aligning_by(client).is_some() {
            self.alignment_failed(desk, status);
            self.arm(desk);
        }
    }

    pub(crate) fn align_timeout(&mut self, desk: &mut Desk) {
        let now = desk.now.mono;
        let Some(aligning) = &self.aligning else { return };
        if aligning.give_up_at <= now {
            // It may have been sent a moment ago: its answer still gets an ACK.
            self.abandoned.extend(aligning.client);
            // A leg that was never asked, or answered that it is busy, is no dead one.
            let may_be_alive = matches!(aligning.wish, Wish::Join | Wish::Newcomer);
            let is_dead = !may_be_alive || aligning.is_out();
            self.alignment_failed(desk, if is_dead { 408 } else { 491 });
        } else if !aligning.is_out() && aligning.try_at <= now {
            self.try_to_align(desk);
        }
    }

    /// The leg stays with what it said before. That is the end of a call whose ends have no codec in
    /// common, and of a leg that is gone (RFC 3261 12.2.1.2).
    fn alignment_failed(&mut self, desk: &mut Desk, status: u16) {
        self.unsay_refused();
        let Some(aligning) = self.aligning.take() else { return };
        let leg = aligning.leg;
        if aligning.wish == Wish::Join {
            return self.join_failed(desk, leg, status);
        }
        if aligning.wish == Wish::Newcomer {
            self.newcomer_failed(desk, status);
            return self.end_if_gone(desk, leg, status);
        }
        if let Wish::Hold { act, on } = aligning.wish {
            self.legs[usize::from(leg)].held = !on;
            self.finish_act(desk, act, Err(Refusal::PeerRefused(status)));
            return self.end_if_gone(desk, leg, status);
        }
        let target = compose::readable(&self.legs[usize::from(leg)].dialog.remote_target);
        self.note_failure(Failure::theirs(status, target));
        let id = self.id;
        desk.notice(Severity::Warning, "alignment_failed", || {
            format!("call {id}: leg {leg} answered {status} to what its new peer speaks")
        });
        if !self.compare_with_peer(leg, can_understand) && status != 481 {
            return self.end(desk, HangupReason::Failed, 200, None);
        }
        self.end_if_gone(desk, leg, status);
    }

    /// 481 and 408 end the dialog (RFC 3261 12.2.1.2).
    fn end_if_gone(&mut self, desk: &mut Desk, leg: u8, status: u16) {
        if status == 481 {
            self.legs[usize::from(leg)].state = LegState::Ended;
            self.end(desk, HangupReason::Failed, 200, Some(leg));
        } else if status == 408 {
            self.end(desk, HangupReason::Failed, 200, None);
        }
    }

    /// What was refused was never said: the description before it stands (RFC 3261 14.1).
    pub(crate) fn unsay_refused(&mut self) {
        if let Some(aligning) = &mut self.aligning
            && !aligning.before.is_empty()
        {
            let before = std::mem::take(&mut aligning.before);
            self.legs[usize::from(aligning.leg)].last_sdp = before;
        }
    }

    /// The call ends, or the leg gets another peer: nobody waits for the answer any more.
    pub(crate) fn end_aligning(&mut self) {
        // A leg on loan goes back when it has answered.
        if let Some(aligning) = self.aligning.take_if(|one| one.wish != Wish::Join) {
            self.abandoned.extend(aligning.client);
            if let Wish::Hold { on, .. } = aligning.wish {
                // Nobody knows whether the leg heard it: what it is told next says how it is.
                self.legs[usize::from(aligning.leg)].held = !on;
            }
        }
    }
}

/// Each first line's first format, which is the one that is sent, stands in the other line too.
fn can_understand(mine: &Description<'_>, theirs: &Description<'_>) -> bool {
    let (Some(mine), Some(theirs)) = (mine.media.first(), theirs.media.first()) else {
        return false;
    };
    let speaks = |line: &sdp::MediaLine<'_>| line.first_payload();
    let heard = |line: &sdp::MediaLine<'_>, payload: Option<u8>| {
        payload.is_some_and(|payload| line.port != 0 && line.has_payload(payload))
    };
    heard(theirs, speaks(mine)) && heard(mine, speaks(theirs))
}
