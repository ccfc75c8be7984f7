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

use super::{Call, LegState};
use crate::acts::answer;
use crate::desk::Desk;
use crate::relays::RelayOwners;

/// A BYE may have to wait for the ACK of our 2xx (RFC 3261 15).
const HANG_UP_WAIT: Duration = Duration::from_secs(10);
/// What a caller hears of a ringing call that a program ends, unless the program says.
const HUNG_UP_STATUS: u16 = 480;

/// An act without its answer.
#[derive(Debug)]
pub(crate) struct Act {
    id: u64,
    waits: Waits,
    give_up_at: Instant,
}

/// What an act waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// BYE to every leg that is up, a final response to a caller who is not.
    End,
    /// It has only begun.
    Start,
    /// The target of a transfer answers, or does not.
    Transfer,
}

/// How far an act has come by itself.
enum Begun {
    Done,
    Waits(Waits, Duration),
}

impl Call {
    pub(crate) fn act(
        &mut self,
        desk: &mut Desk,
        _owners: &mut RelayOwners,
        id: u64,
        action: CallAction,
    ) {
        if !self.begin_act(desk, id, Waits::Start) {
            return;
        }
        let begun = match action {
            CallAction::HangUp(hang_up) => {
                self.hang_up(desk, hang_up);
                Ok(Begun::Waits(Waits::End, HANG_UP_WAIT))
            }
            CallAction::Mute { side, on } => self.mute(desk, side, on),
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

    fn mute(&mut self, desk: &mut Desk, side: Side, on: bool) -> Result<Begun, Refusal> {
        // Before the first description of a call nobody knows what it will carry.
        let described = !self.media.lines.is_empty();
        if described && !self.media.has_audio() {
            return Err(Refusal::NoMedia);
        }
        self.mute_side(desk, side, on);
        Ok(Begun::Done)
    }

    /// Answers what has become true, or can become true no more. Costs nothing without acts.
    pub(crate) fn settle_acts(&mut self, desk: &mut Desk) {
        if self.ended.is_none() {
            return;
        }
        let said_bye = !self.legs.iter().any(|leg| leg.bye_wanted || leg.state == LegState::Up);
        while let Some(index) = self.acts.iter().position(|act| act.waits != Waits::End || said_bye)
        {
            let act = self.acts.swap_remove(index);
            let outcome = match act.waits {
                Waits::End => Ok(()),
                Waits::Start | Waits::Transfer => Err(Refusal::CallEnded),
            };
            self.answer_act(desk, act.id, outcome);
        }
    }

    /// Acts that nobody confirmed in time.
    pub(crate) fn expire_acts(&mut self, desk: &mut Desk) {
        let now = desk.now.mono;
        while let Some(index) = self.acts.iter().position(|act| act.give_up_at <= now) {
            let act = self.acts.swap_remove(index);
            self.answer_act(desk, act.id, Err(Refusal::NotConfirmed));
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
            self.acts.swap_remove(index);
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
