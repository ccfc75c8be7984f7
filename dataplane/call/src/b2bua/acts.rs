//! What a program does to this call, and the answer that it is owed.
//! Owns:  the acts that wait for a peer.
//! Gives: `Call::act`; `finish_act` for whoever learns that the wire has confirmed one.
//! Never: an answer before the wire has confirmed; an act that waits for ever.
//! Holds: every act is answered once: when it is done or refused, at its deadline, or by the call's
//!        end, whatever comes first.

use std::time::Duration;

use shared::act::{Acted, CallAction, HangUp, Refusal};
use shared::cdr::HangupReason;
use shared::ids::Side;
use shared::limits::{ACT_WAIT_MAX, ACTS_PER_CALL_MAX};
use shared::time::Instant;

use super::{Call, INVITER, LegState, State};
use crate::acts::answer;
use crate::desk::Desk;

/// A BYE may have to wait for the ACK of our 2xx (RFC 3261 15), and a re-INVITE for one of theirs;
/// one that met another is sent again after at most four seconds (RFC 3261 14.1).
pub(super) const PEER_WAIT: Duration = Duration::from_secs(10);
/// What a caller hears of a ringing call that a program ends, unless the program says.
const HUNG_UP_STATUS: u16 = 480;

/// An act without its answer.
#[derive(Debug)]
pub(crate) struct Act {
    id: u64,
    waits: Waits,
    give_up_at: Instant,
}

impl Act {
    pub(crate) const fn is(&self, id: u64) -> bool {
        self.id == id
    }
}

/// What an act waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// The ACK of our 2xx to the caller.
    Ack,
    /// BYE to every leg that is up, a final response to a caller who is not.
    End,
    /// News of what we say, or the answer to a request of ours: whoever gets it finishes the act.
    News,
    /// It has only begun.
    Start,
    /// The target of a transfer answers, or does not.
    Transfer,
    /// A re-INVITE of ours that puts the leg of this side on hold, or takes it back.
    Turn { side: Side, on: bool },
}

/// How far an act has come by itself.
pub(super) enum Begun {
    Done,
    Waits(Waits, Duration),
}

impl Call {
    pub(crate) fn act(&mut self, desk: &mut Desk, id: u64, action: CallAction) {
        if !self.begin_act(desk, id, Waits::Start) {
            return;
        }
        let begun = match action {
            CallAction::Accept { sdp } => self.accept(desk, sdp.as_deref()),
            CallAction::HangUp(hang_up) => {
                self.hang_up(desk, hang_up);
                Ok(Begun::Waits(Waits::End, PEER_WAIT))
            }
            CallAction::Hold { side, on } => self.hold(side, on),
            CallAction::Keys { side, keys } => self.press(desk, id, side, &keys),
            CallAction::Mute { side, on } => self.mute(desk, side, on),
            CallAction::Play(play) => self.play(desk, id, &play),
            CallAction::Record(wanted) => self.record(desk, wanted),
            CallAction::StopPlaying { towards } => self.stop_playing(desk, id, towards),
            CallAction::Transfer { .. } => unreachable!("the core places its target first"),
        };
        match begun {
            Ok(Begun::Done) => self.finish_act(desk, id, Ok(())),
            Ok(Begun::Waits(waits, wait)) => {
                if let Some(act) = self.acts.iter_mut().find(|act| act.id == id) {
                    (act.waits, act.give_up_at) = (waits, desk.now.mono + wait.min(ACT_WAIT_MAX));
                }
                self.arm(desk);
            }
            Err(why) => self.finish_act(desk, id, Err(why)),
        }
    }

    /// Takes an act on; `false` when it was refused, and answered so.
    pub(crate) fn begin_act(&mut self, desk: &mut Desk, id: u64, waits: Waits) -> bool {
        let why = match self.acts.len() {
            _ if self.ended.is_some() => Refusal::CallEnded,
            ACTS_PER_CALL_MAX.. => Refusal::TooMany,
            _ => {
                // Known before it begins: should it panic, the call ends and answers it.
                let give_up_at = desk.now.mono + ACT_WAIT_MAX;
                self.acts.push(Act { id, waits, give_up_at });
                return true;
            }
        };
        self.answer_act(desk, id, Err(why));
        false
    }

    fn hang_up(&mut self, desk: &mut Desk, hang_up: HangUp) {
        let status = match hang_up.code {
            _ if self.answered.is_some() => 200,
            Some(code @ 400..=699) => code,
            _ => HUNG_UP_STATUS,
        };
        self.hung_up = Some(hang_up);
        self.end(desk, HangupReason::BySystem, status, None);
    }

    fn hold(&self, side: Side, on: bool) -> Result<Begun, Refusal> {
        if self.state != State::Talking || self.standing_leg(side).is_none() {
            return Err(Refusal::NotAnswered);
        }
        Ok(Begun::Waits(Waits::Turn { side, on }, PEER_WAIT))
    }

    fn mute(&mut self, desk: &mut Desk, side: Side, on: bool) -> Result<Begun, Refusal> {
        // Before the first description of a call nobody knows what it will carry.
        let described = self.media.past_us || !self.media.lines.is_empty();
        if described && !self.media.has_audio() {
            return Err(Refusal::NoMedia);
        }
        self.mute_side(desk, side, on);
        Ok(Begun::Done)
    }

    /// The leg of this side whose dialog stands.
    pub(super) fn standing_leg(&self, side: Side) -> Option<u8> {
        let leg = self.joined[side.index()]?;
        (self.leg(leg)?.state == LegState::Up).then_some(leg)
    }

    /// Answers what has become true, or can become true no more, and begins what had to wait. Costs
    /// nothing without acts.
    pub(crate) fn settle_acts(&mut self, desk: &mut Desk) {
        if self.ended.is_some() {
            return self.settle_acts_of_the_end(desk);
        }
        let acknowledged =
            self.leg(INVITER).is_some_and(|leg| leg.state == LegState::Up && leg.unacked.is_none());
        while let Some(act) = self.acts.iter().find(|act| act.waits == Waits::Ack && acknowledged) {
            self.finish_act(desk, act.id, Ok(()));
        }
        while self.may_turn()
            && let Some((id, side, on)) = self.next_turn()
        {
            match self.standing_leg(side) {
                None => self.finish_act(desk, id, Err(Refusal::NotAnswered)),
                Some(leg) if self.legs[usize::from(leg)].held == on => {
                    self.finish_act(desk, id, Ok(()));
                }
                Some(leg) => self.turn(desk, id, leg, on),
            }
        }
    }

    fn settle_acts_of_the_end(&mut self, desk: &mut Desk) {
        let said_bye = !self.legs.iter().any(|leg| leg.bye_wanted || leg.state == LegState::Up);
        while let Some(act) = self.acts.iter().find(|act| act.waits != Waits::End || said_bye) {
            let outcome = if act.waits == Waits::End { Ok(()) } else { Err(Refusal::CallEnded) };
            self.finish_act(desk, act.id, outcome);
        }
    }

    /// The oldest wish for a re-INVITE.
    fn next_turn(&self) -> Option<(u64, Side, bool)> {
        self.acts.iter().find_map(|act| match act.waits {
            Waits::Turn { side, on } => Some((act.id, side, on)),
            _ => None,
        })
    }

    /// Its re-INVITE is out: from now on only that can finish it.
    pub(super) fn turning(&mut self, id: u64) {
        if let Some(act) = self.acts.iter_mut().find(|act| act.id == id) {
            act.waits = Waits::News;
        }
    }

    /// Acts that nobody confirmed in time.
    pub(crate) fn expire_acts(&mut self, desk: &mut Desk) {
        let now = desk.now.mono;
        while let Some(index) = self.acts.iter().position(|act| act.give_up_at <= now) {
            let act = self.acts.remove(index);
            let sent = !matches!(act.waits, Waits::Turn { .. });
            let refused = self.aligning.as_ref().and_then(|one| one.refusal_of(act.id));
            let why = match (sent, refused) {
                (_, Some(status)) => Refusal::PeerRefused(status),
                (true, None) => Refusal::NotConfirmed,
                (false, None) => Refusal::Busy,
            };
            self.answer_act(desk, act.id, Err(why));
        }
    }

    /// The call goes, and with it whatever still waits.
    pub(crate) fn drop_acts(&mut self, desk: &mut Desk) {
        for act in std::mem::take(&mut self.acts) {
            self.answer_act(desk, act.id, Err(Refusal::CallEnded));
        }
    }

    pub(crate) fn acts_deadline(&self) -> Option<Instant> {
        self.acts.iter().map(|act| act.give_up_at).min()
    }

    /// The answer to an act, unless it was given.
    pub(crate) fn finish_act(&mut self, desk: &mut Desk, id: u64, outcome: Result<(), Refusal>) {
        if let Some(index) = self.acts.iter().position(|act| act.id == id) {
            self.acts.remove(index);
            self.answer_act(desk, id, outcome);
        }
    }

    fn answer_act(&self, desk: &mut Desk, id: u64, outcome: Result<(), Refusal>) {
        let acted = match outcome {
            Ok(()) => Acted::Done { call: self.id, at: desk.now.wall },
            Err(why) => Acted::Refused { call: self.id, why },
        };
        answer(desk, id, acted);
    }

    /// Why the call was hung up, for BYE and CANCEL (RFC 3326). Empty when no program did it.
    pub(crate) fn hang_up_cause(&self) -> String {
        let Some(hang_up) = &self.hung_up else { return String::new() };
        let mut cause = match hang_up.code {
            Some(code) => format!("SIP;cause={code}"),
            None => "Q.850;cause=16".to_owned(), // normal clearing
        };
        if let Some(reason) = &hang_up.reason {
            cause.push_str(";text=\"");
            for c in reason.chars().filter(|c| !c.is_control()) {
                if matches!(c, '"' | '\\') {
                    cause.push('\\');
                }
                cause.push(c);
            }
            cause.push('"');
        }
        cause
    }
}
