//! Trunks that stand in for the one by which a transfer, or a party of a call that we make, was to go.
//! Owns:  the choices that are left of a decision, and which party of which round they are for.
//! Gives: `pick_trunk` for the first try, `try_stand_in` when that one did not take the call.
//! Never: whether a failure lets another one try: `Call::note_try` says so, as for routed calls.
//! Holds: a trunk that has failed is given back before the next is counted; one that had no room is not
//!        asked again; a trunk counts once against its calls per second, however often it is tried.

use std::collections::VecDeque;

use shared::ids::Side;
use sip::sdp::Codec;

use crate::b2bua::secure::is_sips;
use crate::b2bua::{Aim, Call, Changes, Dial};
use crate::core::Core;
use crate::desk::Desk;
use crate::router::{Choice, ToTrunks};
use crate::slots::Key;

#[derive(Debug, Default)]
pub(crate) struct StandIns {
    left: VecDeque<StandIn>,
    /// A round of this has failed, and the next one is to be tried.
    due: Option<Aim>,
    /// What the second party of a call that we make is told, in case that it is called once more.
    second: Option<(Box<Dial>, Vec<Codec>)>,
}

#[derive(Debug)]
struct StandIn {
    aim: Aim,
    choice: Choice,
    /// Against the limits of its trunk: an emergency call does not.
    counts: bool,
    /// The call has begun at this trunk before.
    again: bool,
}

impl Core {
    /// The first trunk that has room, with the call counted against its limit; those behind it stand in.
    pub(crate) fn pick_trunk(&mut self, slot: Key, aim: Aim, to: ToTrunks) -> Option<Choice> {
        self.count_forwarded(&to);
        let ToTrunks { choices, emergency, rule, .. } = to;
        let asked = choices.len();
        let counts = !emergency;
        if let Some(call) = self.calls.find_mut(slot) {
            call.privacy.waived |= emergency; // help has to know who calls
            call.forget_refused_bill();
        }
        let stand_in = |choice| StandIn { aim, choice, counts, again: false };
        let mut left = choices.into_iter().map(stand_in).collect();
        let first = self.first_with_room(slot, &mut left);
        let is_full = |call: &Call| call.unplaced_status() == 503;
        if first.is_none() && self.calls.find(slot).is_some_and(is_full) {
            self.trunks_are_full(asked, rule.as_deref());
        }
        if let Some(call) = self.calls.find_mut(slot) {
            call.forget_stand_ins(aim);
            call.hunt.failed_over = true; // until somebody says otherwise
            if !left.is_empty() {
                call.stand_ins.get_or_insert_default().left.extend(left);
            }
        }
        first
    }

    fn first_with_room(&mut self, slot: Key, left: &mut VecDeque<StandIn>) -> Option<Choice> {
        while let Some(StandIn { choice, counts, again, .. }) = left.pop_front() {
            let may_go = !counts
                || self.has_trunk_room(&choice.trunk, again)
                    && self.pays(slot, &choice.trunk, &choice.target.uri)
                    && self.take_trunk_share(&choice.trunk, again);
            if !may_go && self.calls.find(slot).is_some_and(Call::is_broke) {
                left.clear();
                return None;
            }
            if !may_go {
                left.retain(|other| other.choice.trunk != choice.trunk);
                continue;
            }
            for other in left.iter_mut().filter(|other| other.choice.trunk == choice.trunk) {
                other.again = true;
            }
            if counts && let Some(call) = self.calls.find_mut(slot) {
                call.shares.held.push(choice.trunk.clone());
            }
            return Some(choice);
        }
        None
    }

    /// Tries the next one, if a call waits for that. `false`: it waits for something else.
    pub(crate) fn try_stand_in(&mut self, slot: Key) -> bool {
        let Some(call) = self.calls.find_mut(slot) else { return false };
        let Some(stand_ins) = &mut call.stand_ins else { return false };
        let Some(aim) = stand_ins.due.take() else { return false };
        let all = std::mem::take(&mut stand_ins.left).into_iter();
        let (mut left, others): (VecDeque<_>, VecDeque<_>) = all.partition(|one| one.aim == aim);
        stand_ins.left = others;
        let failed = call.left_trunk();
        let counts = left.iter().all(|one| one.counts);
        if let Some(failed) = failed.as_deref().filter(|_| counts) {
            call.return_share(failed);
        }
        let shares = std::mem::take(&mut call.shares.returned);
        self.give_back(shares);
        let choice = self.first_with_room(slot, &mut left);
        self.with_call(Some(slot), |call, desk, _| {
            call.stand_ins.get_or_insert_default().left.extend(left);
            call.hunt.failed_over = true;
            match choice {
                Some(choice) => call.call_stand_in(desk, aim, choice, failed.as_deref(), counts),
                None if aim == Aim::Transfer => call.no_target_left(desk),
                None => call.hunt_failed(desk),
            }
            call.arm(desk);
        });
        true
    }
}

impl Call {
    /// Whether somebody stands behind those who are called for `aim`.
    pub(crate) fn has_stand_in(&self, aim: Aim) -> bool {
        let stand_ins = self.stand_ins.as_ref();
        stand_ins.is_some_and(|stand_ins| stand_ins.left.iter().any(|one| one.aim == aim))
    }

    /// The round has failed. `true`: the core is to try who stands in.
    pub(crate) fn lets_stand_in(&mut self, desk: &Desk, aim: Aim) -> bool {
        if self.ended.is_some() || !self.hunt.failed_over || !self.has_stand_in(aim) {
            return false;
        }
        if aim == Aim::Transfer {
            // All tries together ring no longer than one target may.
            let rest = self.ring_until.map(|until| until.since(desk.now.mono));
            let (Some(rest), Some(transfer)) = (rest, &mut self.transfer) else { return false };
            transfer.ring = rest;
        }
        (self.round, self.ring_until, self.setup_until) = (None, None, None);
        if let Some(stand_ins) = &mut self.stand_ins {
            stand_ins.due = Some(aim);
        }
        self.hunt.set_due();
        true
    }

    /// Somebody took the call, or nobody will.
    pub(crate) fn forget_stand_ins(&mut self, aim: Aim) {
        let Some(stand_ins) = &mut self.stand_ins else { return };
        stand_ins.left.retain(|one| one.aim != aim);
        stand_ins.due.take_if(|due| *due == aim);
        if stand_ins.left.is_empty() {
            self.stand_ins = None;
        }
    }

    pub(crate) fn keep_second_party(&mut self, dial: Box<Dial>, codecs: &[Codec]) {
        if self.has_stand_in(Aim::SecondParty)
            && let Some(stand_ins) = &mut self.stand_ins
        {
            stand_ins.second = Some((dial, codecs.to_vec()));
        }
    }

    /// The trunk that the last try was at.
    fn left_trunk(&self) -> Option<Box<str>> {
        let left = self.hunt.left.as_ref()?;
        self.leg(left.leg)?.trunk.clone()
    }

    fn call_stand_in(
        &mut self,
        desk: &mut Desk,
        aim: Aim,
        choice: Choice,
        failed: Option<&str>,
        counts: bool,
    ) {
        let Choice { trunk, target, changes } = choice;
        let is_recorded = failed.is_some() && self.outbound_trunk.as_deref() == failed;
        let is_used = self.joined.iter().flatten().any(|leg| self.trunk_of(*leg) == failed);
        if is_recorded && !is_used {
            self.outbound_trunk = Some(trunk.clone());
        }
        match aim {
            Aim::Answer => {}
            Aim::Transfer => {
                let Some(transfer) = &mut self.transfer else { return };
                transfer.trunk = counts.then_some(trunk);
                let is_sips = is_sips(&transfer.target);
                self.changes = Changes { is_sips, ..changes };
                self.call_transfer_targets(desk, vec![target]);
            }
            Aim::FirstParty => {
                let targets = self.reachable(desk, Side::Caller, vec![target]);
                let Some(dial) = &mut self.dial else { return };
                (dial.first, dial.first_changes) = (Some(targets), changes);
                self.call_first_party(desk);
            }
            Aim::SecondParty => {
                let second = self.stand_ins.as_mut().and_then(|stand_ins| stand_ins.second.take());
                let Some((dial, codecs)) = second else { return };
                self.targets = self.reachable(desk, Side::Callee, vec![target]);
                (self.dial, self.changes) = (Some(dial), changes);
                self.call_second_party(desk, &codecs);
            }
        }
    }
}
