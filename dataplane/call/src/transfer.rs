//! Transfers: where their targets are, and who may send whom there.
//! Owns:  the way from the wish for a transfer to the call of its target.
//! Gives: `Core::transfer`, for a REFER and for a program's action alike.
//! Never: a road for a trunk's caller that its own INVITE would not have had.
//! Holds: a transfer that begins ends once: its outcome is told to whoever wanted it.

use std::time::Duration;

use shared::act::Refusal;
use shared::ids::Side;
use shared::limits::ACT_WAIT_MAX;
use shared::net::Transport;
use sip::wire::Replaces;

use crate::b2bua::acts::Waits;
use crate::b2bua::secure::{self, is_sips};
use crate::b2bua::transfer::Unmoved;
use crate::b2bua::{Aim, Call, Changes, Join, Transfer};
use crate::core::Core;
use crate::loan::{Ask, Borrower};
use crate::mint;
use crate::originate::source_of;
use crate::router::Decision;
use crate::slots::Key;

/// What is wanted, by leg numbers that `Call::may_transfer` gave.
#[derive(Debug)]
pub(crate) struct Move {
    pub leaves: u8,
    pub stays: u8,
    /// A SIP URI.
    pub target: Vec<u8>,
    pub ring: Duration,
    /// The action that waits for the outcome.
    pub act: Option<u64>,
    pub referred_by: Option<Vec<u8>>,
    /// The target is in a call with who sends the REFER: the two calls are to be joined.
    pub replaces: Option<Replaces>,
}

/// An action is answered within its time, so its target rings less long than that.
const RING_FOR_PROGRAM: Duration = ACT_WAIT_MAX.saturating_sub(Duration::from_secs(5));

impl Core {
    pub(crate) fn transfer_for_program(&mut self, act: u64, slot: Key, side: Side, target: &str) {
        let target = self.address(target);
        let mut wanted = None;
        let ring = self.desk.settings.timers.ring.min(RING_FOR_PROGRAM);
        self.with_call(Some(slot), |call, desk, _| {
            if !call.begin_act(desk, act, Waits::Transfer) {
                return;
            }
            let legs = call.may_transfer(side).map_err(|why| match why {
                Unmoved::NotNow => Refusal::NotNow,
                Unmoved::TooOften => Refusal::TooMany,
            });
            match (legs, target) {
                (Ok((leaves, stays)), Some(target)) => {
                    let (act, referred_by, replaces) = (Some(act), None, None);
                    wanted = Some(Move { leaves, stays, target, ring, act, referred_by, replaces });
                }
                (Err(why), _) => call.finish_act(desk, act, Err(why)),
                (_, None) => call.finish_act(desk, act, Err(Refusal::TargetUnreadable)),
            }
            call.arm(desk);
        });
        if let Some(wanted) = wanted {
            self.transfer(slot, wanted);
        }
    }

    /// The target is placed as if the leg that goes had called it: by the rules for its trunk, if it
    /// is one. A program's word counts as a user's.
    pub(crate) fn transfer(&mut self, slot: Key, wanted: Move) {
        let Move { leaves, stays, target, ring, act, referred_by, replaces } = wanted;
        let Some(call) = self.calls.find_mut(slot) else { return };
        // What an earlier hunt of this call still asked is no answer to this.
        for ask in std::mem::take(&mut call.hunt.asked) {
            self.asks.remove(ask);
        }
        call.hunt.found.clear();
        call.hunt.then_rules = false;
        let (trunk, join) = (None, None);
        let transfer = Transfer { leaves, stays, target, ring, act, trunk, referred_by, join };
        self.with_call(Some(slot), |call, desk, _| call.begin_transfer(desk, transfer));
        match replaces {
            None => self.place_target(slot, false),
            Some(replaces) => self.join(slot, replaces),
        }
    }

    /// The leg that talks with the dialog of `replaces` is asked for, on whichever shard it is.
    fn join(&mut self, slot: Key, replaces: Replaces) {
        let (now, shard, shards) =
            (self.desk.now.mono, self.desk.settings.shard, self.desk.settings.shards);
        let named = mint::leg_name(&replaces.to_tag).map(|name| name.shard);
        self.with_call(Some(slot), |call, desk, _| {
            let Some(lender) = named.filter(|shard| shard.0 < shards) else {
                call.note_join_failed(desk, 481); // not a dialog of ours
                return call.transfer_failed(desk, 481, b"");
            };
            let Some(leaves) = call.transfer.as_ref().map(|transfer| transfer.leaves) else {
                return;
            };
            let side = call.legs[usize::from(leaves)].side;
            let (id, transfer) = (call.id, call.made.transfers);
            let ask = Ask {
                borrower: Borrower { shard, call: call.key, id, transfer },
                replaces,
                trunk: trunk_of_leg(call, leaves),
                is_ipv4: call.bound_ip(side).map(|ip| ip.is_ipv4()),
            };
            if let Some(transfer) = &mut call.transfer {
                transfer.join = Some(Join::new(now, ask, lender));
            }
            call.ask_for_leg();
            call.arm(desk);
        });
    }

    /// Decides where the target of the transfer is, and calls it. `unregistered`: the registrar has
    /// nobody of its name.
    pub(crate) fn place_target(&mut self, slot: Key, unregistered: bool) {
        let Some(call) = self.calls.find(slot) else { return };
        let Some(transfer) = &call.transfer else { return };
        let Some(leaving) = call.leg(transfer.leaves) else { return };
        let (source, target) = (source_of(&leaving.way), transfer.target.clone());
        let from = call.calls_as(transfer.leaves).unwrap_or_default().to_vec();
        let trunk = trunk_of_leg(call, transfer.leaves).filter(|_| transfer.act.is_none());
        let trunk = trunk.as_deref();
        let is_sips = is_sips(&target);
        let stays = call.leg(transfer.stays).map(|leg| leg.way.transport);
        if is_sips && !stays.is_some_and(Transport::is_secure) {
            return self.with_call(Some(slot), |call, desk, _| {
                call.transfer_failed(desk, 416, secure::REASON);
            });
        }
        match self.decide_between(&from, &target, &source, trunk, unregistered) {
            Decision::Refuse(refusal) => {
                self.note_refusal(&refusal);
                let reason = refusal.reason.unwrap_or_default();
                self.with_call(Some(slot), |call, desk, _| {
                    call.transfer_failed(desk, refusal.status, reason.as_bytes());
                });
            }
            Decision::Trunks(to) => {
                let counts = !to.emergency;
                let choice = self.pick_trunk(slot, Aim::Transfer, to);
                self.with_call(Some(slot), |call, desk, owners| {
                    let Some(choice) = choice else {
                        return call.transfer_failed(desk, call.unplaced_status(), b"");
                    };
                    if let Some(transfer) = &mut call.transfer {
                        transfer.trunk = counts.then(|| choice.trunk.clone());
                    }
                    call.outbound_trunk.get_or_insert(choice.trunk);
                    call.is_sips &= counts; // help is worth more than a secret
                    call.changes = Changes { is_sips: is_sips && counts, ..choice.changes };
                    call.go(desk, owners, vec![choice.target]);
                });
            }
            Decision::User { user, changes } => {
                self.look_up_target(slot, user, Changes { is_sips, ..changes }, false);
            }
            Decision::Unlisted { user } => {
                self.look_up_target(slot, user, Changes { is_sips, ..Changes::default() }, true);
            }
        }
    }

    fn look_up_target(&mut self, slot: Key, user: Box<str>, changes: Changes, then_rules: bool) {
        let Some(call) = self.calls.find_mut(slot) else { return };
        call.changes = changes;
        call.hunt.then_rules = then_rules;
        self.find_user(slot, user);
        self.call_found(slot);
    }
}

/// The trunk that a leg belongs to.
pub(crate) fn trunk_of_leg(call: &Call, leg: u8) -> Option<Box<str>> {
    call.trunk_of(leg).map(Into::into)
}
