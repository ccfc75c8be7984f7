//! Attended transfer: the leg of another call takes the place of the one that goes (RFC 5589 7).
//! Owns:  `Join`: the wish for that leg until it is here, and the leg while it is only on loan.
//! Gives: the steps from the wish to the leg's own yes to what it hears here, or its way back.
//! Never: the leg that goes before the one that comes has agreed.
//! Holds: a join that fails leaves both calls as they were; a leg on loan goes back or stays for good.

use std::time::Duration;

use shared::cdr::HangupReason;
use shared::event::Severity;
use shared::ids::{ShardId, Side};
use shared::metrics::Counter;
use shared::time::Instant;
use sip::auth::NonceCounts;
use sip::dialog::State as DialogState;
use sip::sdp::{Description, MediaLine};
use sip::wire::Message;

use super::media::read;
use super::recording::Recorded;
use super::secure;
use super::{Call, Leg, LegState, OwedAck, small};
use crate::desk::Desk;
use crate::loan::{Ask, Back, Borrower, LentLeg, Loan, OnLoan, Returned, Word};
use crate::mint::{LegName, TagParts};
use crate::transactions::ClientKey;

/// How long the other call may be in the middle of something, and until it is asked again.
const BUSY_MAX: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Join {
    ask: Ask,
    lender: ShardId,
    ask_at: Option<Instant>,
    give_up_at: Instant,
    /// It is here, on loan.
    has_leg: bool,
}

impl Join {
    pub(crate) fn new(now: Instant, ask: Ask, lender: ShardId) -> Self {
        Self { ask, lender, ask_at: None, give_up_at: now + BUSY_MAX, has_leg: false }
    }

    fn waits_for(&self, borrower: &Borrower) -> bool {
        !self.has_leg && self.ask.borrower == *borrower
    }
}

impl Call {
    pub(crate) fn is_joining(&self) -> bool {
        self.transfer.as_ref().is_some_and(|transfer| transfer.join.is_some())
    }

    fn join_mut(&mut self) -> Option<&mut Join> {
        self.transfer.as_mut()?.join.as_mut()
    }

    pub(crate) fn ask_for_leg(&mut self) {
        let Some(join) = self.join_mut() else { return };
        join.ask_at = None;
        let (to, word) = (join.lender, Word::Ask(join.ask.clone()));
        self.loans.push((to, Loan(Box::new(word))));
    }

    pub(crate) fn join_deadline(&self) -> Option<Instant> {
        let join = self.transfer.as_ref()?.join.as_ref().filter(|join| !join.has_leg)?;
        Some(join.ask_at.map_or(join.give_up_at, |at| at.min(join.give_up_at)))
    }

    pub(crate) fn join_timeout(&mut self, desk: &mut Desk) {
        let now = desk.now.mono;
        let Some(join) = self.join_mut().filter(|join| !join.has_leg) else { return };
        if join.give_up_at <= now {
            let status = if join.ask_at.is_some() { 491 } else { 503 };
            self.transfer_failed(desk, status, b"");
        } else if join.ask_at.is_some_and(|at| at <= now) {
            self.ask_for_leg();
        }
    }

    pub(crate) fn loan_refused(&mut self, desk: &mut Desk, to: &Borrower, status: u16) {
        let now = desk.now.mono;
        let Some(join) = self.join_mut().filter(|join| join.waits_for(to)) else { return };
        if status == 491 {
            join.ask_at = Some(now + ASK_AGAIN);
            return self.arm(desk);
        }
        self.transfer_failed(desk, status, b"");
    }

    /// The leg is here: it is asked whether it agrees to what the leg that stays says. Gives it back
    /// where nobody waits for it, or its media lines are others.
    pub(crate) fn adopt(
        &mut self,
        desk: &mut Desk,
        lender: ShardId,
        to: &Borrower,
        lent: LentLeg,
    ) -> Option<LentLeg> {
        let is_wanted = self.ended.is_none();
        let waits = |join: &&mut Join| is_wanted && join.waits_for(to);
        let Some(join) = self.join_mut().filter(waits) else { return Some(lent) };
        join.has_leg = true;
        let Some((side, stays)) = self
            .transfer
            .as_ref()
            .map(|transfer| (self.legs[usize::from(transfer.leaves)].side, transfer.stays))
        else {
            return Some(lent);
        };
        let said = self.legs[usize::from(stays)].said.as_slice();
        if lines_for(said, &lent.last_sdp).is_none() {
            self.transfer_failed(desk, 488, b"");
            return Some(lent);
        }
        if !self.admits_way(&lent.way, stays, lent.is_sips) {
            self.transfer_failed(desk, 480, secure::REASON);
            return Some(lent);
        }
        let index = small(self.legs.len());
        let on_loan = OnLoan {
            shard: lender,
            lender: lent.lender,
            borrower: *to,
            name: lent.name,
            end_at: lent.end_at,
            is_recorded: lent.is_recorded,
            is_sips: lent.is_sips,
            charges: lent.charges.clone(),
        };
        let mut leg = Self::borrowed_leg(desk, side, lent);
        leg.on_loan = Some(Box::new(on_loan));
        self.legs.push(leg);
        self.begin_joining(desk, index);
        None
    }

    /// What the leg on loan is offered: what the leg that stays said last, in as many lines as it knows.
    pub(crate) fn joining_offer(&self, leg: u8) -> Option<Vec<u8>> {
        let stays = self.leg(self.transfer.as_ref()?.stays)?;
        lines_for(&stays.said, &self.leg(leg)?.last_sdp)
    }

    /// It has agreed, and is acknowledged.
    pub(crate) fn join_agreed(
        &mut self,
        desk: &mut Desk,
        index: u8,
        said: Option<&Description<'_>>,
    ) {
        let live = said.filter(|said| said.media.iter().any(|line| line.port != 0));
        let (Some(said), true) = (live, self.transfer.is_some()) else {
            self.give_leg_back(index, Back::Astray);
            return self.transfer_failed(desk, 488, b"");
        };
        let leg = &mut self.legs[usize::from(index)];
        let (Some(transfer), Some(loan)) = (self.transfer.take(), leg.on_loan.take()) else {
            return;
        };
        let OnLoan { shard, lender, borrower, name, end_at, is_recorded, is_sips, .. } = *loan;
        self.is_sips |= is_sips;
        self.take_charges(index, loan.charges);
        let leg = &mut self.legs[usize::from(index)];
        leg.state = LegState::Up;
        leg.name = Some(name);
        if self.outbound_trunk.is_none() {
            self.outbound_trunk.clone_from(&leg.trunk);
        }
        // Whichever of the two calls was allowed less.
        self.end_at = [self.end_at, end_at].into_iter().flatten().min();
        let at = TagParts { call: self.key, leg: index };
        let word = Word::Taken { to: lender, from: borrower, name, at };
        self.loans.push((shard, Loan(Box::new(word))));
        desk.count(Counter::JoinsDone);
        let is_new = is_recorded && self.media.recorded == Recorded::Never;
        let unrecorded = if is_new { self.record_joined(desk) } else { None };
        self.seat(desk, index, &transfer, said);
        if let Some(why) = unrecorded {
            self.note_unrecorded(why);
        }
    }

    /// It did not agree, or said nothing.
    pub(crate) fn join_failed(&mut self, desk: &mut Desk, index: u8, status: u16) {
        let how = if matches!(status, 408 | 481) { Back::Dead(status) } else { Back::Untouched };
        self.give_leg_back(index, how);
        self.transfer_failed(desk, status, b"");
    }

    fn give_leg_back(&mut self, index: u8, how: Back) {
        let leg = &mut self.legs[usize::from(index)];
        let Some(loan) = leg.on_loan.take() else { return };
        (leg.state, leg.was_tried) = (LegState::Ended, true);
        let dialog = leg.dialog.clone();
        leg.dialog.state = DialogState::Terminated;
        let (timer, origin_version) = (leg.timer, leg.origin_version);
        let last_sdp = leg.last_sdp.clone();
        let counts = NonceCounts::default();
        let leg = Returned { dialog, timer, origin_version, last_sdp, how, counts };
        let word = Word::Returned { to: loan.lender, from: loan.borrower, leg };
        self.loans.push((loan.shard, Loan(Box::new(word))));
    }

    fn leg_on_loan(&self) -> Option<u8> {
        self.legs.iter().position(|leg| leg.on_loan.is_some()).map(small)
    }

    /// This call ends under its join. What the leg was asked has to be answered before it can go back.
    pub(crate) fn leave_join(&mut self, desk: &mut Desk) {
        if self.is_joining() {
            desk.count(Counter::JoinsFailed);
        }
        let Some(index) = self.leg_on_loan() else { return };
        if self.has_reinvite_out() {
            self.cancel_reinvite(desk);
        } else {
            self.aligning = None;
            self.give_leg_back(index, Back::Untouched);
        }
    }

    /// The re-INVITE to a leg on loan is answered, but this call is over.
    pub(crate) fn join_outlived(
        &mut self,
        desk: &mut Desk,
        index: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let how = match response.status().unwrap_or_default() {
            0..=199 => {
                self.reinvite_is_heard();
                return self.cancel_reinvite(desk);
            }
            200..=299 => {
                self.legs[usize::from(index)].dialog.refresh_target(response);
                self.acknowledge(desk, OwedAck::new(index, client, response), None);
                Back::Astray
            }
            status @ (408 | 481) => Back::Dead(status),
            _ => Back::Untouched,
        };
        if how != Back::Astray {
            self.unsay_refused();
        }
        self.aligning = None;
        self.give_leg_back(index, how);
    }

    /// The time of an ended call is over.
    pub(crate) fn give_up_join(&mut self, desk: &mut Desk) {
        let Some(index) = self.leg_on_loan() else { return };
        if let Some(client) = self.aligning.take().and_then(|aligning| aligning.client()) {
            desk.drop_client(client);
        }
        self.give_leg_back(index, Back::Astray);
    }

    /// The lender's call is over, and the dialog of this leg with it.
    pub(crate) fn loan_gone(
        &mut self,
        desk: &mut Desk,
        to: &Borrower,
        name: LegName,
        says_bye: bool,
    ) {
        let is_it = |loan: &OnLoan| loan.borrower == *to;
        let tried = self.legs.iter().position(|leg| leg.on_loan.as_deref().is_some_and(is_it));
        let Some(index) = tried.map(small) else {
            return self.member_gone(desk, name, says_bye);
        };
        if let Some(client) = self.aligning.take().and_then(|aligning| aligning.client()) {
            self.abandoned.push(client);
        }
        self.lose_leg(desk, index, says_bye);
        self.transfer_failed(desk, 481, b"");
        self.arm(desk);
    }

    /// It had joined this call already when the other one heard its BYE.
    fn member_gone(&mut self, desk: &mut Desk, name: LegName, says_bye: bool) {
        let is_it = |leg: &Leg| leg.name == Some(name) && leg.state == LegState::Up;
        let Some(index) = self.legs.iter().position(is_it).map(small) else { return };
        self.lose_leg(desk, index, says_bye);
        if self.joined[self.legs[usize::from(index)].side.index()] == Some(index) {
            let reason = match self.legs[usize::from(index)].side {
                Side::Caller => HangupReason::ByCaller,
                Side::Callee => HangupReason::ByCallee,
            };
            self.end(desk, reason, 200, Some(index));
        }
    }

    fn lose_leg(&mut self, desk: &mut Desk, index: u8, says_bye: bool) {
        let leg = &mut self.legs[usize::from(index)];
        leg.was_tried = leg.on_loan.take().is_some();
        leg.state = LegState::Up;
        if says_bye {
            return self.send_bye(desk, index);
        }
        leg.state = LegState::Ended;
        leg.dialog.state = DialogState::Terminated;
    }

    /// For the operator: an attended transfer that did not come about.
    pub(crate) fn note_join_failed(&self, desk: &mut Desk, status: u16) {
        desk.count(Counter::JoinsFailed);
        let id = self.id;
        desk.notice(Severity::Info, "join_failed", || {
            format!("call {id}: an attended transfer failed with {status}, both calls go on")
        });
    }
}

/// `said` for somebody who was told `before`: its lines are never fewer (RFC 3264 8). `None` where a
/// line was of another kind.
pub(crate) fn lines_for(said: &[u8], before: &[u8]) -> Option<Vec<u8>> {
    let (new, old) = (read(said).ok()?, read(before).ok());
    let old = old.map(|old| old.media).unwrap_or_default();
    let differs = |(new, old): (&MediaLine<'_>, &MediaLine<'_>)| {
        old.port != 0 && new.port != 0 && !new.kind.eq_ignore_ascii_case(old.kind)
    };
    if new.media.is_empty() || new.media.iter().zip(&old).any(differs) {
        return None;
    }
    let mut text = said.to_vec();
    if !text.ends_with(b"\n") {
        text.extend_from_slice(b"\r\n");
    }
    for line in old.iter().skip(new.media.len()) {
        let off = [b"m=".as_slice(), line.kind, b" 0 ", line.proto, b" ", line.formats, b"\r\n"];
        text.extend_from_slice(&off.concat());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUDIO: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                         m=audio 4000 RTP/AVP 0\r\n";

    #[test]
    fn lines_that_were_there_stay_and_are_switched_off() {
        let both = format!("{AUDIO}m=video 5000 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n");
        let text = lines_for(AUDIO.as_bytes(), both.as_bytes()).expect("they fit");
        let text = String::from_utf8(text).expect("ASCII");
        assert_eq!(text, format!("{AUDIO}m=video 0 RTP/AVP 97\r\n"));
        assert_eq!(lines_for(both.as_bytes(), AUDIO.as_bytes()), Some(both.into_bytes()));
    }

    #[test]
    fn a_line_of_another_kind_does_not_fit() {
        let video = AUDIO.replace("audio", "video");
        assert_eq!(lines_for(AUDIO.as_bytes(), video.as_bytes()), None);
        let off = video.replace("4000", "0");
        assert!(lines_for(AUDIO.as_bytes(), off.as_bytes()).is_some());
        assert_eq!(lines_for(b"", AUDIO.as_bytes()), None);
    }
}
