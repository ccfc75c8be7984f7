//! Whom a call tries, and in which order: one group after the other, the targets of a group at once.
//! Owns:  the groups that are still to come, the targets of the present one as they are found.
//! Gives: `Call::hunt`, `Call::take_group`; `Hunt::is_due` tells the core to start the next group.
//! Never: looks up a binding; the core has the registrar and the other shards.
//! Holds: every target of a hunt is called at most once, and each that failed left its failure.

use std::collections::VecDeque;

use shared::cdr::HangupReason;

use super::{Call, Changes, Failure, State, Target};
use crate::desk::Desk;
use crate::slots::Key;

/// One place to try.
#[derive(Clone, Debug)]
pub(crate) enum Hop {
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
}

#[derive(Debug, Default)]
pub(crate) struct Hunt {
    groups: VecDeque<Group>,
    /// Questions to other shards' registrars that the present group waits for.
    pub asked: Vec<Key>,
    /// Targets of the present group, and the trunks whose limits they count against.
    pub found: Vec<Target>,
    pub shares: Vec<Box<str>>,
    /// When nobody of that name is registered, the static rules are asked.
    pub then_rules: bool,
    due: bool,
}

impl Hunt {
    pub(crate) fn one_after_the_other(hops: Vec<Hop>, changes: &Changes) -> Self {
        let group = |hop| Group { hops: vec![hop], changes: changes.clone() };
        Self { groups: hops.into_iter().map(group).collect(), ..Self::default() }
    }

    pub(crate) fn all_at_once(hops: Vec<Hop>, changes: Changes) -> Self {
        Self { groups: VecDeque::from([Group { hops, changes }]), ..Self::default() }
    }

    /// A user that only the backends may know: its contacts, or what the rules say.
    pub(crate) fn registrar_first(user: Box<str>) -> Self {
        let hunt = Self::all_at_once(vec![Hop::User(user)], Changes::default());
        Self { then_rules: true, ..hunt }
    }

    /// Whether the core has to start the next group; asked once.
    pub(crate) fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }

    /// Nothing more is tried. Questions that are out stay, to be forgotten with the call.
    pub(crate) fn stop(&mut self) {
        self.groups.clear();
        self.found.clear();
        self.due = false;
    }
}

impl Call {
    /// The next group, if there is one; the call waits for its targets from here on.
    pub(crate) fn take_group(&mut self, desk: &mut Desk) -> Option<Vec<Hop>> {
        let Group { hops, changes } = self.hunt.groups.pop_front()?;
        self.changes = changes;
        self.state = State::Locating;
        self.ring_until = None;
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
        if self.hunt.groups.is_empty() {
            self.hunt_failed(desk);
        } else {
            self.hunt.due = true;
        }
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
