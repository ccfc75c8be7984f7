//! A leg of this call on loan: another call tries whether it can have it (RFC 5589 7).
//! Owns:  `Lent`: which leg, who has it, who has left this call meanwhile.
//! Gives: the leg as it stands, and what follows when it comes back or stays away.
//! Never: a word in the dialog of a leg that is on loan; its own requests are still heard here.
//! Holds: the leg comes back, is taken, or the borrower hears that there is none any more.

use std::time::Duration;

use shared::cdr::{HangupReason, LegEventType};
use shared::event::Severity;
use shared::ids::Side;
use shared::time::Instant;
use sip::auth::NonceCounts;
use sip::dialog::State as DialogState;

use super::recording::Recorded;
use super::setup::new_leg;
use super::{Call, INVITER, Leg, LegState, State};
use crate::desk::Desk;
use crate::loan::{Ask, Back, Borrower, LentLeg, Loan, Returned, Word};
use crate::mint::{LegName, TagParts};
use crate::transfer::trunk_of_leg;

/// A borrower tries for a minute, and waits 32 s for an answer that its call outlived. Behind that
/// its shard is in trouble.
const LOAN_MAX: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(crate) struct Lent {
    leg: u8,
    name: LegName,
    to: Borrower,
    /// Its peer has hung up: who that was, in case that it comes back.
    left: Option<HangupReason>,
    give_up_at: Instant,
}

impl Leg {
    /// Whether it belongs to the call that keeps it: with the lender until it is taken, and with the
    /// borrower from then on.
    pub(crate) const fn is_at_home(&self) -> bool {
        !self.has_moved && !self.was_tried && self.on_loan.is_none()
    }
}

impl Call {
    /// The leg that talks with leg `of`, for another call to try.
    ///
    /// # Errors
    /// The status that the transfer fails with; 491 may pass.
    pub(crate) fn lend(&mut self, desk: &mut Desk, of: u8, ask: &Ask) -> Result<LentLeg, u16> {
        let leg = &self.legs[usize::from(of)];
        let is_up = leg.state == LegState::Up && leg.dialog.state == DialogState::Confirmed;
        if self.ended.is_some() || leg.has_moved || !is_up {
            return Err(481); // an early dialog of theirs is not ours to replace, either (RFC 3891 3)
        }
        if ask.replaces.early_only {
            return Err(486);
        }
        if self.is_guests && of == INVITER || leg.is_guest || ask.trunk != trunk_of_leg(self, of) {
            return Err(403);
        }
        let index = self.may_lend(of)?;
        let leg = &self.legs[usize::from(index)];
        if ask.is_ipv4.is_some_and(|is_ipv4| is_ipv4 != leg.way.local.is_ipv4()) {
            return Err(488);
        }
        let own =
            LegName { shard: desk.settings.shard, parts: TagParts { call: self.key, leg: index } };
        let name = leg.name.unwrap_or(own);
        if name.shard != own.shard && ask.borrower.shard != own.shard {
            let id = self.id;
            desk.notice(Severity::Warning, "leg_too_far", || {
                format!("call {id}: a leg that came from another shard cannot go to a third one")
            });
            return Err(500);
        }
        let lent = LentLeg {
            lender: own.parts,
            name,
            dialog: leg.dialog.clone(),
            way: leg.way,
            has_called: leg.has_called,
            user: self.user_of(index),
            identity: leg.identity.clone(),
            trunk: self.trunk_of(index).map(Into::into),
            is_host: leg.is_host,
            is_guest: leg.is_guest || self.is_guests && index == INVITER,
            timer: leg.timer,
            origin_id: leg.origin_id,
            origin_version: leg.origin_version,
            last_sdp: leg.last_sdp.clone(),
            said: leg.said.clone(),
            held: leg.held,
            refers: leg.refers,
            end_at: self.end_at,
            is_recorded: self.media.recorded == Recorded::Now,
            is_sips: self.is_sips,
            charges: self.charges(index),
            counts: NonceCounts::default(),
        };
        let (to, give_up_at) = (ask.borrower, desk.now.mono + LOAN_MAX);
        self.lent = Some(Box::new(Lent { leg: index, name, to, left: None, give_up_at }));
        self.legs[usize::from(index)].timer.stop();
        Ok(lent)
    }

    /// Nothing is under way in this call that the leg would be missed in.
    fn may_lend(&self, of: u8) -> Result<u8, u16> {
        let peer = self.peer_of(of).filter(|peer| {
            let leg = &self.legs[usize::from(*peer)];
            leg.state == LegState::Up && leg.dialog.state == DialogState::Confirmed
        });
        let is_moving = self.transfer.is_some() || self.round.is_some() || self.lent.is_some();
        let is_moving = is_moving || self.replacing.is_some();
        let is_busy = self.aligning.is_some() || self.is_inviting() || self.pressing.is_some();
        if self.state != State::Talking || is_moving || is_busy {
            return Err(491);
        }
        let peer = peer.ok_or(491_u16)?;
        let leg = &self.legs[usize::from(peer)];
        let is_asked = self.exchanges.iter().any(|one| one.to == peer || one.from == peer);
        if is_asked || leg.timer.out.is_some() || leg.bye_wanted { Err(491) } else { Ok(peer) }
    }

    /// Whether this leg is with another call, so that nothing can be said to it.
    pub(crate) fn is_lent(&self, leg: u8) -> bool {
        self.lent.as_ref().is_some_and(|lent| lent.leg == leg)
    }

    /// The peer of the leg on loan has hung up: the leg may have found another one.
    pub(crate) fn lender_left(&mut self, desk: &mut Desk, index: u8, reason: HangupReason) {
        if let Some(lent) = &mut self.lent {
            lent.left = Some(reason);
        }
        self.transferor_left(desk, index);
    }

    /// The borrower has it for good: this call has nobody left to talk with. `true`: it had been ours
    /// to give. `share`: the limit that it counts against goes with it.
    pub(crate) fn leg_taken(
        &mut self,
        desk: &mut Desk,
        index: u8,
        borrower: &Borrower,
        share: &mut Option<Box<str>>,
    ) -> bool {
        if self.lent.take_if(|lent| lent.leg == index && lent.to == *borrower).is_none() {
            return false;
        }
        let leg = &mut self.legs[usize::from(index)];
        leg.state = LegState::Ended;
        leg.dialog.state = DialogState::Terminated;
        leg.has_moved = true;
        // One that came from elsewhere counts where it came to be.
        let is_native = leg.name.take().is_none();
        let (side, trunk) = (leg.side, leg.trunk.take());
        *share = trunk.filter(|_| is_native).and_then(|trunk| self.cede_share(&trunk));
        let peer = self.joined[side.other().index()].unwrap_or(index);
        let details = format!("it goes on in call {}", borrower.id);
        self.note_leg(desk, LegEventType::TransferAccepted, index, peer, details);
        self.end(desk, HangupReason::ByRefer, 200, None);
        true
    }

    pub(crate) fn leg_returned(
        &mut self,
        desk: &mut Desk,
        index: u8,
        borrower: &Borrower,
        returned: Returned,
    ) {
        let lent = self.lent.take_if(|lent| lent.leg == index && lent.to == *borrower);
        let Some(lent) = lent else { return self.returned_late(desk, index, borrower, returned) };
        let leg = &mut self.legs[usize::from(index)];
        let Returned { dialog, timer, origin_version, last_sdp, how, .. } = returned;
        // What either call sent or heard of it meanwhile counts: a lower number would be out of order.
        let (sent, seen) = (leg.dialog.local_cseq, leg.dialog.remote_cseq);
        (leg.dialog, leg.timer) = (dialog, timer);
        leg.dialog.local_cseq = leg.dialog.local_cseq.max(sent);
        leg.dialog.remote_cseq = leg.dialog.remote_cseq.max(seen);
        (leg.origin_version, leg.last_sdp) = (origin_version, last_sdp);
        match (how, lent.left) {
            (Back::Dead(status), _) => {
                let by = (status == 481).then_some(index);
                if by.is_some() {
                    leg.state = LegState::Ended;
                }
                self.end(desk, HangupReason::Failed, 200, by);
            }
            (_, Some(reason)) => self.end(desk, reason, 200, None),
            (Back::Astray, None) => self.restate_peer(desk, index),
            (Back::Untouched, None) => {}
        }
        self.arm(desk);
    }

    /// The words crossed: it was on its way back when this call ended and told the borrower, who has no
    /// such leg any more.
    fn returned_late(&mut self, desk: &mut Desk, index: u8, from: &Borrower, returned: Returned) {
        let is_it = |lent: &mut Box<Lent>| lent.leg == index && lent.to == *from;
        if self.unreturned.take_if(is_it).is_none() {
            return;
        }
        if !matches!(returned.how, Back::Dead(_)) {
            let leg = &mut self.legs[usize::from(index)];
            (leg.dialog, leg.state) = (returned.dialog, LegState::Up);
            self.send_bye(desk, index);
        }
        self.arm(desk);
    }

    /// This call ends while its leg is with another one. `by`: the leg that is gone already.
    pub(crate) fn end_loan(&mut self, desk: &Desk, by: Option<u8>) {
        let Some(lent) = self.lent.take() else { return };
        // The borrower speaks in its dialog, and has to say BYE as well.
        self.legs[usize::from(lent.leg)].state = LegState::Ended;
        let says_bye = by != Some(lent.leg);
        let word = Word::Gone { to: lent.to, name: lent.name, says_bye };
        self.loans.push((lent.to.shard, Loan(Box::new(word))));
        self.unreturned =
            Some(lent).filter(|lent| says_bye && lent.to.shard != desk.settings.shard);
    }

    pub(crate) fn loan_deadline(&self) -> Option<Instant> {
        self.lent.as_ref().map(|lent| lent.give_up_at)
    }

    pub(crate) fn loan_timeout(&mut self, desk: &mut Desk) {
        let is_late = |lent: &Lent| lent.give_up_at <= desk.now.mono;
        if self.lent.as_deref().is_some_and(is_late) {
            let id = self.id;
            desk.notice(Severity::Error, "leg_not_returned", || {
                format!("call {id}: another call had one of its legs on loan and told nothing")
            });
            self.end(desk, HangupReason::BySystem, 200, None);
        }
    }

    /// A leg of this call as another one lends it.
    pub(crate) fn borrowed_leg(desk: &mut Desk, side: Side, lent: LentLeg) -> Leg {
        let leg = new_leg(desk, side, lent.dialog, lent.way);
        Leg {
            has_called: lent.has_called,
            user: lent.user,
            identity: lent.identity,
            terms: desk.terms_of(lent.trunk.as_deref()),
            trunk: lent.trunk,
            is_host: lent.is_host,
            is_guest: lent.is_guest,
            timer: lent.timer,
            origin_id: lent.origin_id,
            origin_version: lent.origin_version,
            last_sdp: lent.last_sdp,
            said: lent.said,
            held: lent.held,
            refers: lent.refers,
            ..leg
        }
    }
}
