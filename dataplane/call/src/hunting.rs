//! A hunt on its way: each group's targets looked up, then called, until somebody answers.
//! Owns:  the questions between shards about bindings.
//! Gives: `hunt`, `next_group`, `ask_bindings`.
//! Never: a decision about where a call goes; `place` and `ask` bring it.
//! Holds: a call that waits for bindings is armed with a timer; each target at a trunk counts against
//!        its limit while it is called or talks.

use std::time::Duration;

use shared::ids::ShardId;
use shared::metrics::Counter;
use shared::net::Destination;
use sip::wire::{Host, NameAddr, Uri};

use crate::b2bua::answer::direction;
use crate::b2bua::{Call, Failure, Hop, Hunt, State, Target};
use crate::core::Core;
use crate::desk::{Desk, TimerKey};
use crate::io::{BindingTarget, MeshMessage, Phone};
use crate::notifier::dialogs::Mark;
use crate::slots::Key;
use crate::steer;

/// How long another shard's registrar is waited for: it answers within its turn, or is in trouble.
const ASK_WAIT: Duration = Duration::from_secs(2);

impl Core {
    /// Sets out to call the targets of `hunt`.
    pub(crate) fn hunt(&mut self, slot: Key, hunt: Hunt) {
        let Some(call) = self.calls.find_mut(slot) else { return };
        call.hunt = hunt;
        self.next_group(slot);
    }

    /// Looks up the targets of the next group, and calls them when all are found.
    pub(crate) fn next_group(&mut self, slot: Key) {
        if self.try_stand_in(slot) {
            return;
        }
        let Some(call) = self.calls.find_mut(slot).filter(|call| call.ended.is_none()) else {
            return;
        };
        let shares = std::mem::take(&mut call.hunt.shares);
        self.drop_uncalled(slot);
        self.follow_forward(slot);
        let Some(call) = self.calls.find_mut(slot) else { return };
        let group = call.take_group(&mut self.desk);
        self.give_back(shares);
        let Some(group) = group else {
            return self.with_call(Some(slot), |call, desk, _| call.hunt_failed(desk));
        };
        if self.meets_forwarding(slot, &group) {
            return self.with_call(Some(slot), |call, desk, _| call.group_failed(desk));
        }
        for hop in group {
            self.prepare(slot, hop);
        }
        self.call_found(slot);
    }

    fn prepare(&mut self, slot: Key, hop: Hop) {
        match hop {
            Hop::Emergency(target) => {
                if let Some(call) = self.calls.find_mut(slot) {
                    call.is_sips = false; // help is worth more than a secret
                    call.privacy.waived = true;
                }
                self.add_target(slot, target);
            }
            Hop::Nowhere { uri, status } => self.note(slot, Failure::ours(status, uri)),
            Hop::Target(target) => {
                if let Some(trunk) = &target.trunk {
                    let again = self.has_begun_at(slot, trunk);
                    if !self.has_trunk_room(trunk, again) {
                        let uri = String::from_utf8_lossy(&target.uri).into_owned();
                        return self.note(slot, Failure::ours(503, uri));
                    }
                    if !self.pays(slot, trunk, &target.uri) {
                        return;
                    }
                    self.begin_at(slot, trunk, again);
                }
                self.add_target(slot, target);
            }
            Hop::User(user) => self.find_user(slot, user),
        }
    }

    fn add_target(&mut self, slot: Key, target: Target) {
        let Some(call) = self.calls.find_mut(slot) else { return };
        call.outbound_trunk.clone_from(&target.trunk);
        call.direction = direction(call.inbound_trunk.is_some(), target.trunk.is_some());
        call.hunt.found.push(target);
    }

    fn note(&mut self, slot: Key, failure: Failure) {
        if let Some(call) = self.calls.find_mut(slot) {
            call.note_failure(failure);
        }
    }

    /// Whether another of the trunk's destinations was tried for this call before.
    fn has_begun_at(&self, slot: Key, trunk: &str) -> bool {
        let call = self.calls.find(slot);
        call.is_some_and(|call| call.hunt.begun.iter().any(|known| **known == *trunk))
    }

    /// Counts the call against the limits of a trunk that has room, while its group is called.
    /// `again`: `has_begun_at`.
    fn begin_at(&mut self, slot: Key, trunk: &str, again: bool) {
        if self.take_trunk_share(trunk, again)
            && let Some(call) = self.calls.find_mut(slot)
        {
            call.hunt.shares.push(trunk.into());
            if !again && call.hunt.has_more() {
                call.hunt.begun.push(trunk.into());
            }
        }
    }

    /// Counts a call against its trunk's limits, to be given back; `false` when the trunk is full.
    /// `again`: it has begun at this trunk before, and counts no second time against its calls per
    /// second.
    pub(crate) fn take_trunk_share(&mut self, name: &str, again: bool) -> bool {
        let Desk { trunks, snapshot, settings, now, .. } = &mut self.desk;
        let trunk = snapshot.trunks.iter().find(|trunk| *trunk.name == *name);
        trunks.take_call(now.mono, name, trunk, settings.shards, again)
    }

    /// Whether a call would be counted, without counting one.
    pub(crate) fn has_trunk_room(&self, name: &str, again: bool) -> bool {
        let Desk { trunks, snapshot, settings, now, .. } = &self.desk;
        let trunk = snapshot.trunks.iter().find(|trunk| *trunk.name == *name);
        trunks.has_room(now.mono, name, trunk, settings.shards, again)
    }

    pub(crate) fn give_back(&mut self, shares: Vec<Box<str>>) {
        for trunk in shares {
            self.desk.trunks.return_call(&trunk);
        }
    }

    pub(crate) fn find_user(&mut self, slot: Key, user: Box<str>) {
        let settings = &self.desk.settings;
        let owner = steer::owner_of_aor(&user, settings.shards);
        if owner == settings.shard {
            let call = self.calls.find(slot);
            let phone = call.and_then(|call| call.changes.phone.as_ref());
            let targets = self.registrar.targets(&user, phone);
            return self.found(slot, &user, targets);
        }
        if !self.ask_bindings(slot, owner, user.clone()) {
            self.note(slot, Failure::ours(503, user.into()));
        }
    }

    /// Asks another shard's registrar; `false` when too many questions are out.
    pub(crate) fn ask_bindings(&mut self, slot: Key, owner: ShardId, user: Box<str>) -> bool {
        let Ok(ask) = self.asks.insert((slot, user.clone())) else {
            self.desk.count(Counter::OverloadRefused);
            return false;
        };
        let mut phone = None;
        if let Some(call) = self.calls.find_mut(slot) {
            call.hunt.asked.push(ask);
            phone.clone_from(&call.changes.phone);
        }
        let until = self.desk.now.mono + ASK_WAIT;
        self.desk.wheel.arm(until, TimerKey::Ask(ask));
        let message = MeshMessage::AskBindings { ask: ask.to_bits(), aor: user, phone };
        self.desk.out.mesh(owner, message);
        true
    }

    fn found(&mut self, slot: Key, user: &str, targets: Vec<BindingTarget>) {
        if targets.is_empty() {
            if self.calls.find(slot).is_some_and(|call| call.hunt.then_rules) {
                return; // the rules are asked next
            }
            // A temporary address whose registration is over is nobody's any more (RFC 5627 5.4).
            let call = self.calls.find(slot);
            let is_temporary =
                call.is_some_and(|call| matches!(call.changes.phone, Some(Phone::Temporary(_))));
            let status = if is_temporary { 404 } else { 480 };
            return self.note(slot, Failure::ours(status, user.to_owned()));
        }
        for flow in targets.iter().filter_map(|target| target.destination.flow) {
            self.flows.insert(flow);
        }
        if let Some(call) = self.calls.find_mut(slot) {
            call.hunt.found.extend(targets_of(user, targets));
        }
    }

    pub(crate) fn bindings_found(&mut self, ask: u64, targets: Vec<BindingTarget>) {
        let Some((slot, user)) = self.answered(Key::of_bits(ask)) else { return };
        if self.calls.find(slot).is_some_and(Call::awaits_first_party) {
            let targets = targets_of(&user, targets).collect();
            return self.first_party_found(slot, targets);
        }
        self.found(slot, &user, targets);
        self.call_found(slot);
    }

    pub(crate) fn ask_timed_out(&mut self, ask: Key) {
        let Some((slot, user)) = self.answered(ask) else { return };
        if self.calls.find(slot).is_some_and(Call::awaits_first_party) {
            return self.with_call(Some(slot), |call, desk, _| call.refuse(desk, 503));
        }
        if let Some(call) = self.calls.find_mut(slot) {
            call.hunt.then_rules = false; // who knows who is there
        }
        self.note(slot, Failure::ours(503, user.into()));
        self.call_found(slot);
    }

    fn answered(&mut self, ask: Key) -> Option<(Key, Box<str>)> {
        let (slot, user) = self.asks.remove(ask)?;
        if let Some(call) = self.calls.find_mut(slot) {
            call.hunt.asked.retain(|other| *other != ask);
        }
        Some((slot, user))
    }

    /// Calls the targets of the group when no question about them is left.
    pub(crate) fn call_found(&mut self, slot: Key) {
        let Some(call) = self.calls.find_mut(slot) else { return };
        let waits = call.state == State::Locating || call.awaits_target();
        if !waits || !call.hunt.asked.is_empty() {
            return;
        }
        let targets = std::mem::take(&mut call.hunt.found);
        if std::mem::take(&mut call.hunt.then_rules) && targets.is_empty() {
            return self.place_by_rules(slot);
        }
        self.with_call(Some(slot), |call, desk, owners| call.go(desk, owners, targets));
    }
}

/// The phones of a user.
pub(crate) fn targets_of(
    user: &str,
    bindings: Vec<BindingTarget>,
) -> impl Iterator<Item = Target> + use<> {
    let user = Some(Mark::of(user.as_bytes()));
    bindings.into_iter().map(move |binding| Target { user, ..target_of(binding) })
}

/// A binding with Path goes to its first hop (RFC 3327 5.1); one without goes where it came from.
pub(crate) fn target_of(binding: BindingTarget) -> Target {
    let BindingTarget { uri, destination, path, .. } = binding;
    let hop = path.first().filter(|_| destination.flow.is_none()).and_then(|first| {
        let address = NameAddr::parse(first).ok()?;
        let uri = Uri::parse(address.uri).ok()?;
        let ip = match uri.host {
            Host::V4(ip) => std::net::IpAddr::V4(ip),
            Host::V6(ip) => std::net::IpAddr::V6(ip),
            Host::Name(_) => return None,
        };
        Some(std::net::SocketAddr::new(ip, uri.port.unwrap_or(5060)))
    });
    let mut way = destination;
    if let Some(hop) = hop.filter(|hop| hop.is_ipv4() == way.peer.is_ipv4()) {
        way.peer = hop;
    }
    Target { uri, way, path, trunk: None, is_host: false, user: None }
}

/// A host that is called by its address.
pub(crate) fn host_target(uri: &[u8], trunk: Option<&str>, way: Destination) -> Target {
    let trunk = trunk.map(Into::into);
    Target { uri: uri.to_vec(), way, path: Vec::new(), trunk, is_host: true, user: None }
}
