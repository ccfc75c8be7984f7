//! Transfer of a standing call: one leg goes, somebody else takes its place (RFC 5589 6, 7).
//! Owns:  `Transfer`: who goes, who stays, who is called instead.
//! Gives: the steps from the call of the target to its answer or failure.
//! Never: lets the transferee go before the target has answered.
//! Holds: a target that does not answer leaves the call as it was, as long as the leg that wanted to
//!        go is still there.

use std::time::Duration;

use shared::act::Refusal;
use shared::cdr::{HangupReason, LegEvent, LegEventType};
use shared::ids::Side;
use shared::limits::{BRANCHES_PER_CALL_MAX, TRANSFERS_PER_CALL_MAX};
use sip::sdp::{Description, Direction};
use sip::wire::{Message, reason_phrase};

use super::answer::NO_CAUSE;
use super::compose::{changed, readable};
use super::media::read;
use super::setup::Outgoing;
use super::{Aim, Call, Changes, Failure, Join, LegState, OwedAck, State, Target};
use crate::desk::Desk;
use crate::transactions::ClientKey;

/// A record has to fit into a frame of the journal.
const DETAIL_CHARS_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Transfer {
    /// The leg that goes, and the one that stays.
    pub leaves: u8,
    pub stays: u8,
    pub target: Vec<u8>,
    pub ring: Duration,
    /// The program's action that waits for the outcome; a REFER waits in `Call::referral`.
    pub act: Option<u64>,
    /// The trunk that the target is reached by.
    pub trunk: Option<Box<str>>,
    /// What the REFER said about who sends it (RFC 3892).
    pub referred_by: Option<Vec<u8>>,
    /// Nobody is called: the leg of another call comes.
    pub join: Option<Join>,
}

/// Why a transfer cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmoved {
    /// It is not answered, or another transfer or change is under way.
    NotNow,
    /// It was transferred too often.
    TooOften,
}

impl Call {
    /// Whether the leg on this side could go now, and who would stay.
    pub(crate) fn may_transfer(&self, leaves: Side) -> Result<(u8, u8), Unmoved> {
        let [Some(caller), Some(callee)] = self.joined else { return Err(Unmoved::NotNow) };
        let is_moving = self.transfer.is_some() || self.round.is_some() || self.lent.is_some();
        let is_busy = is_moving || self.aligning.is_some() || self.replacing.is_some();
        if self.state != State::Talking || is_busy {
            return Err(Unmoved::NotNow);
        }
        let transfers = self.made.transfers;
        if transfers >= TRANSFERS_PER_CALL_MAX {
            return Err(Unmoved::TooOften);
        }
        Ok(match leaves {
            Side::Caller => (caller, callee),
            Side::Callee => (callee, caller),
        })
    }

    pub(crate) fn begin_transfer(&mut self, desk: &Desk, transfer: Transfer) {
        let target = readable(&transfer.target);
        self.made.transfers += 1;
        self.best_failure = None; // of those who were called before
        self.changes = Changes::default();
        self.hunt.left = None;
        self.note_leg(desk, LegEventType::Transferred, transfer.leaves, transfer.stays, target);
        self.transfer = Some(Box::new(transfer));
    }

    /// The targets are known: they are offered what the leg that stays said last.
    pub(crate) fn call_transfer_targets(&mut self, desk: &mut Desk, targets: Vec<Target>) {
        let changes = std::mem::take(&mut self.changes);
        let Some(transfer) = &self.transfer else { return };
        let Transfer { leaves, stays, ring, .. } = **transfer;
        let said_by = transfer.referred_by.clone();
        let party = [b"<", transfer.target.as_slice(), b">"].concat();
        let leaving = &self.legs[usize::from(leaves)];
        let side = leaving.side;
        let mut targets = self.reachable(desk, side, targets);
        if self.is_sips || changes.is_sips {
            targets = self.kept_secure(desk, targets);
        }
        if targets.is_empty() {
            return self.no_target_left(desk);
        }
        let leaving = &self.legs[usize::from(leaves)];
        let (from, referred_by) =
            (leaving.dialog.local_party.clone(), leaving.dialog.remote_party.clone());
        let referred_by = said_by.unwrap_or(referred_by);
        // A caller who asked not to be named is not named as who transfers, either.
        let is_secret = self.privacy.hides && side == Side::Caller;
        let said = std::mem::take(&mut self.legs[usize::from(stays)].said);
        let Ok(offer) = read(&said) else {
            return self.transfer_failed(desk, 488, b"");
        };
        let outgoing = Outgoing {
            side,
            aim: Aim::Transfer,
            ring: changes.ring.map_or(ring, |own| own.min(ring)),
            from: changed(from, changes.from_uri),
            to: changed(party, changes.to_uri),
            crossing: None,
            original_headers: None,
            headers: &changes.headers,
            referred_by: (!is_secret).then_some(referred_by.as_slice()),
            // A leg that was put on hold to be transferred is to talk again.
            direction: Some(Direction::SendRecv),
            is_sips: changes.is_sips,
            offer: Some(&offer),
        };
        self.call_round(desk, &outgoing, &targets);
        self.legs[usize::from(stays)].said = said;
    }

    /// Targets that the open relays can face: they are bound to one address on each side.
    pub(crate) fn reachable(
        &mut self,
        desk: &mut Desk,
        side: Side,
        targets: Vec<Target>,
    ) -> Vec<Target> {
        let bound = self.bound_ip(side);
        let fits =
            |target: &Target| bound.is_none_or(|ip| ip.is_ipv4() == target.way.local.is_ipv4());
        let (mut fitting, others): (Vec<_>, Vec<_>) = targets.into_iter().partition(fits);
        self.note_other_family(desk, others);
        fitting.truncate(BRANCHES_PER_CALL_MAX);
        fitting
    }

    /// The leg that wanted to go has hung up before the target answered: it is gone, the call is not.
    pub(crate) fn transferor_left(&mut self, desk: &mut Desk, leaves: u8) {
        let side = self.legs[usize::from(leaves)].side;
        let stays = self.joined[side.other().index()].unwrap_or(leaves);
        let details = "it hung up before somebody took its place".to_owned();
        self.note_leg(desk, LegEventType::Removed, leaves, stays, details);
        self.joined[side.index()] = None;
        self.drop_exchanges_of(desk, leaves);
        self.hush(desk, side);
        self.stop_pressing(desk, leaves);
        self.silence_side(desk, side);
        self.arm(desk);
    }

    pub(crate) fn target_answered(
        &mut self,
        desk: &mut Desk,
        index: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        self.acknowledge(desk, OwedAck::new(index, client, response), None);
        let sdp = self.agreed_sdp(index, response);
        let said = sdp.as_deref().and_then(|sdp| read(sdp).ok());
        let Some(said) = said.filter(|said| said.media.iter().any(|line| line.port != 0)) else {
            // Nothing to talk with: the target is let go, the call stays as it was.
            self.send_bye(desk, index);
            return self.transfer_failed(desk, 488, b"");
        };
        let Some(transfer) = self.transfer.take() else { return };
        self.seat(desk, index, &transfer, &said);
    }

    /// A leg takes the place of the one that goes.
    pub(crate) fn seat(
        &mut self,
        desk: &mut Desk,
        index: u8,
        transfer: &Transfer,
        said: &Description<'_>,
    ) {
        let (leaves, stays) = (transfer.leaves, transfer.stays);
        let side = self.legs[usize::from(leaves)].side;
        self.joined[side.index()] = Some(index);
        self.hush(desk, side);
        self.stop_pressing(desk, leaves);
        self.heard(desk, index, said);
        self.drop_exchanges_of(desk, leaves);
        let target = readable(&transfer.target);
        self.note_leg(desk, LegEventType::TransferAccepted, index, stays, target);
        self.journal_start(desk);
        self.report_referral(desk, 200, b"");
        if let Some(act) = transfer.act {
            self.finish_act(desk, act, Ok(()));
        }
        self.let_go(desk, leaves, transfer);
        self.align(desk, stays);
        self.arm(desk);
    }

    /// BYE to the leg that went, and what it counted against.
    fn let_go(&mut self, desk: &mut Desk, leaves: u8, transfer: &Transfer) {
        // One that did not wait for this is noted since it hung up.
        if self.legs[usize::from(leaves)].state == LegState::Up {
            self.note_leg(desk, LegEventType::Removed, leaves, transfer.stays, String::new());
        }
        self.send_bye(desk, leaves);
        let leg = &mut self.legs[usize::from(leaves)];
        // One that came from another call counts where it came to be.
        let is_native = leg.name.is_none();
        if let Some(trunk) = leg.trunk.take().filter(|_| is_native) {
            self.return_share(&trunk);
        }
    }

    /// A trunk is used no more by a leg that counted against its limit.
    pub(crate) fn return_share(&mut self, trunk: &str) {
        let share = self.cede_share(trunk);
        self.shares.returned.extend(share);
    }

    /// What a leg counts against is no longer this call's.
    pub(crate) fn cede_share(&mut self, trunk: &str) -> Option<Box<str>> {
        [&mut self.shares.held, &mut self.hunt.shares].into_iter().find_map(|shares| {
            let index = shares.iter().position(|share| **share == *trunk)?;
            Some(shares.swap_remove(index))
        })
    }

    /// Whether its targets are looked up.
    pub(crate) fn awaits_target(&self) -> bool {
        self.round.is_none() && self.transfer.as_ref().is_some_and(|one| one.join.is_none())
    }

    /// No target was found, or none of them took the call: the best failure says why.
    pub(crate) fn no_target_left(&mut self, desk: &mut Desk) {
        let failure = self.best_failure.take();
        let status = failure.as_ref().map_or(480, Failure::told_caller);
        let reason = failure.map(|failure| failure.reason).unwrap_or_default();
        self.transfer_failed(desk, status, &reason);
    }

    /// The target cannot be reached, or did not take the call.
    pub(crate) fn transfer_failed(&mut self, desk: &mut Desk, status: u16, reason: &[u8]) {
        let Some(transfer) = self.transfer.take() else { return };
        self.round = None;
        (self.ring_until, self.setup_until) = (None, None);
        self.hunt.left = None;
        self.forget_stand_ins(Aim::Transfer);
        self.cancel_branches(desk, NO_CAUSE);
        let details = format!("{} answered {status} {}", readable(&transfer.target), {
            if reason.is_empty() { reason_phrase(status).to_owned() } else { readable(reason) }
        });
        self.note_leg(desk, LegEventType::TransferFailed, transfer.leaves, transfer.stays, details);
        if let Some(trunk) = &transfer.trunk {
            self.return_share(trunk);
        }
        self.report_referral(desk, status, reason);
        if transfer.join.is_some() {
            self.note_join_failed(desk, status);
        }
        if let Some(act) = transfer.act {
            self.finish_act(desk, act, Err(Refusal::TargetFailed(status)));
        }
        if self.legs[usize::from(transfer.leaves)].state != LegState::Up {
            // Who stays has nobody left to talk with.
            self.end(desk, HangupReason::ByRefer, 200, None);
        }
        self.arm(desk);
    }

    pub(crate) fn note_leg(
        &mut self,
        desk: &Desk,
        event_type: LegEventType,
        leg: u8,
        peer: u8,
        details: String,
    ) {
        let id = |leg: u8| self.leg(leg).map(|leg| readable(&leg.dialog.call_id));
        let details: String = details.chars().take(DETAIL_CHARS_MAX).collect();
        let event = LegEvent {
            timestamp: desk.now.wall,
            leg_id: id(leg).unwrap_or_default(),
            event_type,
            peer_leg_id: id(peer),
            details: Some(details).filter(|details| !details.is_empty()),
        };
        self.leg_events.push(event);
    }
}
