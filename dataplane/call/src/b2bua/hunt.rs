//! Whom a call tries, and in which order: one group after the other, the targets of a group at once.
//! Owns:  the groups that are still to come, the targets of the present one as they are found; whether
//!        a trunk's failure lets the next destination try.
//! Gives: `Call::hunt`, `Call::take_group`; `Hunt::is_due` tells the core to start the next group.
//! Never: looks up a binding; the core has the registrar and the other shards.
//! Holds: every target of a hunt is called at most once, and each that failed left its failure; who
//!        was heard by the caller, or said no for good, is not followed by a trunk that stands in.

use std::collections::VecDeque;
use std::time::Duration;

use shared::cdr::{HangupReason, LegEventType};
use shared::metrics::Counter;

use super::compose::readable;
use super::{Aim, Call, Changes, Failure, Leg, LegState, State, Target};
use crate::desk::Desk;
use crate::router::Choice;
use crate::slots::Key;

/// One place to try.
#[derive(Clone, Debug)]
pub(crate) enum Hop {
    /// At a trunk, whatever its limits say.
    Emergency(Target),
    /// It cannot be called: the status says why.
    Nowhere {
        uri: String,
        status: u16,
    },
    Target(Target),
    /// Every contact of this user of ours.
    User(Box<str>),
}

/// Targets that ring together, and what the INVITEs to them say.
#[derive(Debug)]
pub(crate) struct Group {
    pub hops: Vec<Hop>,
    pub changes: Changes,
    /// It stands in for the one before, and is tried only where that could not take the call.
    pub stands_in: bool,
}

/// The try at a trunk that the next one follows.
#[derive(Debug)]
pub(crate) struct Left {
    pub leg: u8,
    pub why: String,
}

#[derive(Debug, Default)]
pub(crate) struct Hunt {
    groups: VecDeque<Group>,
    /// Questions to other shards' registrars that the present group waits for.
    pub asked: Vec<Key>,
    /// Targets of the present group, and the trunks whose limits they count against.
    pub found: Vec<Target>,
    pub shares: Vec<Box<str>>,
    /// Trunks that this hunt has begun at: each counts once against its calls per second.
    pub begun: Vec<Box<str>>,
    /// When nobody of that name is registered, the static rules are asked.
    pub then_rules: bool,
    /// Nobody of the present group has said anything that ends the search.
    pub failed_over: bool,
    pub left: Option<Left>,
    due: bool,
}

impl Hunt {
    /// `others`: where else a target at a trunk is reached.
    pub(crate) fn one_after_the_other(
        hops: Vec<Hop>,
        changes: &Changes,
        others: impl Fn(&Target) -> Vec<Target>,
    ) -> Self {
        let mut groups = VecDeque::new();
        let group = |hop, stands_in| Group { hops: vec![hop], changes: changes.clone(), stands_in };
        for hop in hops {
            let others = if let Hop::Target(target) = &hop { others(target) } else { Vec::new() };
            groups.push_back(group(hop, false));
            groups.extend(others.into_iter().map(|target| group(Hop::Target(target), true)));
        }
        Self { groups, ..Self::default() }
    }

    /// Each choice stands in for the one before it.
    pub(crate) fn over_trunks(choices: Vec<Choice>, emergency: bool) -> Self {
        let group = |(place, choice): (usize, Choice)| {
            let hop = if emergency { Hop::Emergency } else { Hop::Target };
            let (hops, changes) = (vec![hop(choice.target)], choice.changes);
            Group { hops, changes, stands_in: place > 0 }
        };
        Self { groups: choices.into_iter().enumerate().map(group).collect(), ..Self::default() }
    }

    pub(crate) fn all_at_once(hops: Vec<Hop>, changes: Changes) -> Self {
        let group = Group { hops, changes, stands_in: false };
        Self { groups: VecDeque::from([group]), ..Self::default() }
    }

    /// A user that only the backends may know: its contacts, or what the rules say.
    pub(crate) fn registrar_first(user: Box<str>) -> Self {
        let hunt = Self::all_at_once(vec![Hop::User(user)], Changes::default());
        Self { then_rules: true, ..hunt }
    }

    pub(crate) fn into_groups(self) -> Vec<Group> {
        self.groups.into()
    }

    /// Who answered with a redirection has no need of anybody who stands in.
    pub(crate) fn drop_stand_ins(&mut self) {
        while self.groups.front().is_some_and(|group| group.stands_in) {
            self.groups.pop_front();
        }
    }

    /// These are tried before what is left.
    pub(crate) fn put_in_front(&mut self, groups: Vec<Group>) {
        for group in groups.into_iter().rev() {
            self.groups.push_front(group);
        }
    }

    /// Whether the core has to start the next group; asked once.
    pub(crate) fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }

    /// The core has something to start.
    pub(crate) fn set_due(&mut self) {
        self.due = true;
    }

    /// Whether a trunk that does not answer has somebody behind it.
    pub(crate) fn has_more(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Nothing more is tried. Questions that are out stay, to be forgotten with the call.
    pub(crate) fn stop(&mut self) {
        self.groups.clear();
        self.found.clear();
        self.left = None;
        self.due = false;
    }
}

impl Call {
    /// The next group, if there is one; the call waits for its targets from here on.
    pub(crate) fn take_group(&mut self, desk: &mut Desk) -> Option<Vec<Hop>> {
        let Group { hops, changes, .. } = loop {
            let group = self.hunt.groups.pop_front()?;
            if !group.stands_in || self.hunt.failed_over {
                break group;
            }
        };
        self.hunt.failed_over = true; // until somebody of it says otherwise
        self.changes = changes;
        self.state = State::Locating;
        self.ring_until = None;
        self.setup_until = None;
        self.forget_callee(desk);
        Some(hops)
    }

    /// The present group has failed: the next one is tried, or the caller hears the best failure.
    pub(crate) fn group_failed(&mut self, desk: &mut Desk) {
        if self.ended.is_some() {
            return;
        }
        self.state = State::Locating;
        self.round = None;
        self.ring_until = None;
        self.setup_until = None;
        self.note_forward();
        if self.hunt.groups.is_empty() && self.forwards.due.is_none() {
            self.hunt_failed(desk);
        } else {
            self.hunt.due = true;
        }
    }

    /// Whether the leg is a trunk's that said nothing so far, and somebody else could be tried.
    pub(crate) fn may_fail_over(&self, leg: u8) -> bool {
        let is_silent =
            |leg: &Leg| leg.trunk.is_some() && leg.state == LegState::Inviting && !leg.provisional;
        let has_more = self.round.is_some_and(|round| self.has_more_for(round.aim));
        self.is_in_round(leg) && has_more && self.leg(leg).is_some_and(is_silent)
    }

    /// Whether somebody stands behind those who are called for `aim`.
    fn has_more_for(&self, aim: Aim) -> bool {
        if aim == Aim::Answer { self.hunt.has_more() } else { self.has_stand_in(aim) }
    }

    /// How long a trunk may say nothing when there is somebody behind it.
    pub(crate) fn setup_limit(
        &self,
        desk: &Desk,
        aim: Aim,
        targets: &[Target],
    ) -> Option<Duration> {
        let [Target { trunk: Some(name), .. }] = targets else { return None };
        let trunk = desk.snapshot.trunks.iter().find(|trunk| trunk.name == *name)?;
        self.has_more_for(aim).then_some(trunk.failover.setup)
    }

    /// Leg `index` did not take the call: whether who stands in for it is tried. `silence`: no answer
    /// came from there at all.
    pub(crate) fn note_try(&mut self, desk: &mut Desk, index: u8, status: u16, silence: bool) {
        let Some(leg) = self.leg(index) else { return };
        let Some(name) = &leg.trunk else { return };
        let known = desk.snapshot.trunks.iter().find(|trunk| trunk.name == *name);
        let codes = known.map(|trunk| trunk.failover.codes).unwrap_or_default();
        // Who heard an announcement heard the answer (RFC 3960): another try would talk over it.
        let was_heard = !leg.said.is_empty();
        let peer = leg.way.peer;
        let why = match (silence, status) {
            (false, status) => format!("trunk {name} at {peer} answered {status}"),
            (true, 408) => format!("trunk {name} at {peer} did not answer"),
            (true, _) => format!("trunk {name} at {peer} was not reached"),
        };
        let fails_over =
            silence || codes.contains(status) || self.is_locked_out(desk, index, status);
        self.hunt.failed_over = !was_heard && fails_over;
        self.hunt.left = Some(Left { leg: index, why });
    }

    /// Leg `index` would have had no codec: its trunk is left for whoever stands in, as if it had failed.
    pub(crate) fn note_mute(&mut self, index: u8) {
        let Some(Leg { trunk: Some(name), .. }) = self.leg(index) else { return };
        let why = format!("trunk {name} shares no codec with the other side");
        self.hunt.left = Some(Left { leg: index, why });
    }

    /// Leg `index` has answered: of the trunks that were called with it only its own counts the call.
    pub(crate) fn keep_share_of(&mut self, index: u8) {
        let shares = &mut self.hunt.shares;
        let trunk = self.legs[usize::from(index)].trunk.as_deref();
        let own = shares.iter().position(|share| Some(&**share) == trunk);
        if let Some(own) = own {
            shares.swap(0, own);
        }
        self.shares.returned.extend(shares.drain(usize::from(own.is_some())..));
    }

    /// Leg `index` has answered after its time was over, when its trunk's share had been given back: the
    /// trunk counts it anew, with room or without, since it talks.
    pub(crate) fn count_late(&mut self, desk: &mut Desk, index: u8) {
        let leg = &self.legs[usize::from(index)];
        // What goes for help counts nowhere.
        let counts = leg.given_up && !self.privacy.waived;
        let Some(trunk) = leg.trunk.as_ref().filter(|_| counts) else { return };
        if !self.hunt.shares.contains(trunk) {
            desk.trunks.take_late(trunk);
            self.hunt.shares.push(trunk.clone());
        }
    }

    /// Leg `index` is called after a try at a trunk: both go into the timeline.
    pub(crate) fn note_next_try(&mut self, desk: &mut Desk, index: u8) {
        let Some(Left { leg, why }) = self.hunt.left.take() else { return };
        self.note_leg(desk, LegEventType::Removed, leg, index, why);
        let next = &self.legs[usize::from(index)];
        let whom = match &next.trunk {
            Some(name) => format!("trunk {name} at {}", next.way.peer),
            None => readable(&next.dialog.remote_target),
        };
        self.note_leg(desk, LegEventType::Added, index, leg, whom);
        desk.count(Counter::TrunkFailovers);
    }

    /// Nobody is left to be tried.
    pub(crate) fn hunt_failed(&mut self, desk: &mut Desk) {
        let status = self.best_failure.as_ref().map_or(480, Failure::told_caller);
        let real = self.best_failure.as_ref().map_or(480, |failure| failure.status);
        let reason = match real {
            408 | 480 => HangupReason::NoAnswer,
            486 | 600 | 603 => HangupReason::Rejected,
            503 => HangupReason::ServerUnavailable,
            _ => HangupReason::Failed,
        };
        self.end(desk, reason, status, None);
    }
}
