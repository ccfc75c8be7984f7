//! A leg takes the place of another one by an INVITE of its own (RFC 3891 3).
//! Owns:  `Replacing`: who comes, for whom, and the INVITE that waits for its answer.
//! Gives: the steps from that INVITE to its 2xx, once the leg that stays agrees to what it offers.
//! Never: a 2xx before that; a BYE to the leg that goes before the 2xx.
//! Holds: the INVITE gets exactly one final answer; one that fails leaves the call as it was.

use shared::cdr::{HangupReason, LegEventType};
use shared::ids::Side;
use shared::limits::TRANSFERS_PER_CALL_MAX;
use shared::metrics::Counter;
use shared::net::Destination;
use sip::dialog::{Dialog, State as DialogState};
use sip::sdp::Description;
use sip::wire::{HeaderName, Message};

use super::compose::{self, Carries, SDP, carries, readable};
use super::join::lines_for;
use super::media::read;
use super::secure::asks_tls;
use super::setup::new_leg;
use super::{Call, Leg, LegState, State, Unacked, small};
use crate::desk::{ALLOW, Desk, Reply};
use crate::notifier::dialogs::Mark;
use crate::transactions::ServerKey;

#[derive(Debug)]
pub(crate) struct Replacing {
    /// Who comes, who goes, who stays.
    comes: u8,
    goes: u8,
    stays: u8,
    server: ServerKey,
    /// Its Request-URI asks for TLS.
    is_sips: bool,
}

/// Who comes: where it is, and the user whose password was right.
#[derive(Clone, Debug)]
pub(crate) struct Newcomer {
    pub way: Destination,
    pub user: Option<Mark>,
    /// `Leg::identity`.
    pub identity: Option<Box<[u8]>>,
}

impl Replacing {
    pub(crate) const fn is_for(&self, leg: u8) -> bool {
        self.goes == leg
    }

    pub(crate) const fn comes(&self) -> u8 {
        self.comes
    }
}

impl Call {
    /// Whether this leg's place can be taken now.
    ///
    /// # Errors
    /// The answer to the INVITE (RFC 3891 3).
    pub(crate) fn may_replace(&self, goes: u8, early_only: bool) -> Result<u8, u16> {
        let leg = &self.legs[usize::from(goes)];
        if self.ended.is_some() || leg.state == LegState::Ended {
            return Err(603);
        }
        if leg.state == LegState::Inviting || leg.dialog.state != DialogState::Confirmed {
            return Err(481); // it still rings, and is not ours to answer
        }
        if early_only {
            return Err(486);
        }
        let is_moving = self.transfer.is_some() || self.round.is_some() || self.lent.is_some();
        let is_busy = self.aligning.is_some() || self.is_inviting() || self.replacing.is_some();
        let stays = self
            .peer_of(goes)
            .filter(|stays| self.leg(*stays).is_some_and(|leg| leg.state == LegState::Up));
        match stays {
            Some(stays) if self.state == State::Talking && !is_moving && !is_busy => Ok(stays),
            _ if self.made.transfers >= TRANSFERS_PER_CALL_MAX => Err(603),
            _ => Err(491),
        }
    }

    pub(crate) fn begin_replacing(
        &mut self,
        desk: &mut Desk,
        goes: u8,
        server: ServerKey,
        request: &Message<'_>,
        newcomer: Newcomer,
    ) -> Result<(), u16> {
        let Newcomer { way, user, identity } = newcomer;
        let stays = self.may_replace(goes, false)?;
        if self.made.transfers >= TRANSFERS_PER_CALL_MAX {
            return Err(603);
        }
        let offer = offer_of_newcomer(request)?;
        let side = self.legs[usize::from(goes)].side;
        let fits = lines_for(offer.text(), &self.legs[usize::from(stays)].last_sdp).is_some();
        if !fits || !self.can_carry(&offer) || !self.faces(side, &way) {
            return Err(488);
        }
        let comes = small(self.legs.len());
        let tag = desk.mint.tag(self.key, comes);
        let dialog = Dialog::from_request(request, tag).ok_or(400_u16)?;
        desk.respond(server, Reply::new(100), |_, _, out| out.end());
        self.made.transfers += 1;
        let leg = new_leg(desk, side, dialog, way);
        // Of an inbound trunk's caller, too: without its trunk it would have a user's rights.
        let trunk = self.trunk_of(goes).map(Into::into);
        let user = user.filter(|_| trunk.is_none());
        let terms = desk.terms_of(trunk.as_deref());
        let said = offer.text().to_vec();
        let mut leg = Leg { user, identity, trunk, terms, said, has_called: true, ..leg };
        leg.timer.learn(request);
        let who = readable(&leg.dialog.remote_party);
        self.legs.push(leg);
        self.note_leg(desk, LegEventType::Transferred, goes, stays, who);
        let is_sips = asks_tls(request);
        self.replacing = Some(Box::new(Replacing { comes, goes, stays, server, is_sips }));
        self.ask_for_newcomer(desk, stays);
        Ok(())
    }

    /// Whether somebody who is reached this way can have its media on this side.
    pub(super) fn faces(&self, side: Side, way: &Destination) -> bool {
        self.bound_ip(side).is_none_or(|ip| ip.is_ipv4() == way.local.is_ipv4())
    }

    /// What the leg that stays is offered: what the one that comes says, in as many lines as it knows.
    pub(crate) fn newcomers_offer(&self) -> Option<Vec<u8>> {
        let replacing = self.replacing.as_ref()?;
        let stays = self.leg(replacing.stays)?;
        lines_for(&self.leg(replacing.comes)?.said, &stays.last_sdp)
    }

    /// The leg that stays has agreed: the one that comes gets its answer, the one that goes its BYE.
    pub(crate) fn newcomer_agreed(
        &mut self,
        desk: &mut Desk,
        stays: u8,
        said: Option<&Description<'_>>,
    ) {
        let live = said.filter(|said| said.media.iter().any(|line| line.port != 0));
        let Some(replacing) = self.replacing.take() else {
            // Nobody waits for it any more: it hears again whom it talks with.
            return self.restate_peer(desk, stays);
        };
        let Replacing { comes, goes, server, .. } = *replacing;
        let Some(said) = live else {
            self.refuse_newcomer(desk, &replacing, 488);
            if self.legs[usize::from(goes)].state != LegState::Up {
                return self.end(desk, HangupReason::ByRefer, 200, None); // it has left meanwhile
            }
            return self.restate_peer(desk, stays);
        };
        let side = self.legs[usize::from(goes)].side;
        self.is_sips |= replacing.is_sips;
        self.heard(desk, stays, said);
        self.joined[side.index()] = Some(comes);
        self.hush(desk, side);
        self.stop_pressing(desk, goes);
        self.drop_exchanges_of(desk, goes);
        let offer = std::mem::take(&mut self.legs[usize::from(comes)].said);
        let lines = read(&offer).map_or(0, |offer| offer.media.len());
        if let Ok(offer) = read(&offer) {
            self.heard(desk, comes, &offer);
        }
        let answer = first_lines(said.text(), lines).to_vec();
        let body = read(&answer).map(|answer| self.say(desk, comes, &answer)).unwrap_or_default();
        let who = readable(&self.legs[usize::from(comes)].dialog.remote_party);
        self.note_leg(desk, LegEventType::TransferAccepted, comes, stays, who);
        // One that did not wait for this is noted since it hung up.
        if self.legs[usize::from(goes)].state == LegState::Up {
            self.note_leg(desk, LegEventType::Removed, goes, stays, String::new());
        }
        self.journal_start(desk);
        self.answer_newcomer(desk, comes, server, &body);
        desk.count(Counter::LegsReplaced);
        self.bill_takes_over(goes, comes);
        self.send_bye(desk, goes); // a challenge to it is answered with the trunk's account
        self.legs[usize::from(goes)].trunk = None; // its share is the newcomer's
        self.arm(desk);
    }

    pub(super) fn answer_newcomer(
        &mut self,
        desk: &mut Desk,
        comes: u8,
        server: ServerKey,
        body: &[u8],
    ) {
        self.agree_on_session(desk, comes, server);
        let rules = desk.settings.timers.session;
        let leg = &self.legs[usize::from(comes)];
        let (way, tag, timer) = (leg.way, leg.dialog.local_tag.clone(), leg.timer);
        let answer = Reply { status: 200, reason: b"", to_tag: Some(&tag) };
        let reply_to = desk.transactions.servers.find(server).map(|server| server.reply_to);
        let sent = desk.respond(server, answer, |desk, request, mut out| {
            out.copy(request, HeaderName::RecordRoute);
            desk.write_contact(&mut out, &way);
            out.header("Allow", ALLOW);
            timer.write_answer(&mut out, &rules, request);
            out.header("Supported", b"replaces");
            compose::write_body(out, SDP, body);
        });
        let leg = &mut self.legs[usize::from(comes)];
        let cseq = leg.dialog.remote_cseq.unwrap_or_default();
        leg.state = LegState::Up;
        leg.dialog.state = DialogState::Confirmed;
        if let (Some(response), Some(to)) = (sent, reply_to) {
            leg.unacked = Some(Unacked::new(desk, response, to, cseq, None));
        }
    }

    /// The leg that stays did not agree.
    pub(crate) fn newcomer_failed(&mut self, desk: &mut Desk, status: u16) {
        let Some(replacing) = self.replacing.take() else { return };
        let told = match status {
            401 | 407 => 403,
            408 | 481 => 481,
            422 | 503 => 500,
            other => other,
        };
        self.refuse_newcomer(desk, &replacing, told);
        let gone = self.legs[usize::from(replacing.goes)].state != LegState::Up;
        if gone {
            // Who stays has nobody left to talk with.
            self.end(desk, HangupReason::ByRefer, 200, None);
        }
    }

    fn refuse_newcomer(&mut self, desk: &mut Desk, replacing: &Replacing, status: u16) {
        let leg = &mut self.legs[usize::from(replacing.comes)];
        leg.state = LegState::Ended;
        leg.dialog.state = DialogState::Terminated;
        let tag = leg.dialog.local_tag.clone();
        let answer = Reply { status, reason: b"", to_tag: Some(&tag) };
        desk.respond(replacing.server, answer, |_, _, out| out.end());
        desk.count(Counter::ReplacesRefused);
        let details = format!("answered {status}");
        let (goes, stays) = (replacing.goes, replacing.stays);
        self.note_leg(desk, LegEventType::TransferFailed, goes, stays, details);
    }

    /// The call ends under it: there is no such dialog any more.
    pub(crate) fn end_replacing(&mut self, desk: &mut Desk) {
        if let Some(replacing) = self.replacing.take() {
            self.refuse_newcomer(desk, &replacing, 481);
        }
    }

    /// CANCEL of this INVITE, if it is the newcomer's. The leg that stays hears again whom it
    /// talks with when it has answered.
    pub(crate) fn newcomer_cancelled(&mut self, desk: &mut Desk, invite: ServerKey) {
        let Some(replacing) = self.replacing.take_if(|one| one.server == invite) else { return };
        self.refuse_newcomer(desk, &replacing, 487);
        if self.legs[usize::from(replacing.goes)].state != LegState::Up {
            self.end(desk, HangupReason::ByRefer, 200, None);
        } else if !self.has_reinvite_out() {
            self.end_aligning();
        }
        self.arm(desk);
    }
}

/// What a newcomer's INVITE offers. Without an offer nobody could say what its peer has to agree to.
pub(super) fn offer_of_newcomer<'m>(request: &Message<'m>) -> Result<Description<'m>, u16> {
    match carries(request) {
        Carries::Sdp => read(request.body()).map_err(|error| error.status()),
        Carries::Other => Err(415),
        Carries::Nothing => Err(488),
    }
}

/// An answer has the lines that its offer had (RFC 3264 6).
fn first_lines(said: &[u8], count: usize) -> &[u8] {
    let mut starts = said
        .windows(3)
        .enumerate()
        .filter(|(_, bytes)| matches!(bytes, [b'\n', b'm', b'=']))
        .map(|(at, _)| at + 1);
    starts.nth(count).map_or(said, |end| &said[..end])
}
