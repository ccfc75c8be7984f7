//! Forwards of users followed: where a destination is, and whether the call may go there.
//! Owns:  the order of the checks: how often, whereto, by whose right.
//! Gives: `meets_forwarding` when a group begins, `follow_forward` before the next one.
//! Never: a road for a caller without an account that leads further than to our users.
//! Holds: no user is met twice in a call, a chain is bounded, and what is not followed is counted, said
//!        in the log, and leaves the call with the failure that it had.

use std::borrow::Cow;
use std::fmt;

use shared::event::Severity;
use shared::forwarding::Redirects;
use shared::limits::FORWARDS_PER_CALL_MAX;
use shared::metrics::Counter;
use sip::wire::{Uri, scan};

use crate::b2bua::compose::readable;
use crate::b2bua::forward::{DueForward, Forwarder, Step, diverted_before, user_in};
use crate::b2bua::hunt::Group;
use crate::b2bua::secure::is_sips;
use crate::b2bua::{Call, Changes, Failure, Hop, Hunt};
use crate::core::Core;
use crate::place::uri_of;
use crate::router::{Decision, ToTrunks, write_uri};
use crate::slots::Key;

/// Why a forward is not followed: what the caller hears if nothing better is known, and the reason.
type Unfollowed = (u16, Cow<'static, str>);

impl Core {
    /// A group begins. `true`: the one user whom it calls has every call sent elsewhere. Where a program
    /// has several called at once, it knows whom it named: nobody's forwarding counts then.
    pub(crate) fn meets_forwarding(&mut self, slot: Key, group: &[Hop]) -> bool {
        let Some(call) = self.calls.find_mut(slot) else { return false };
        call.forwards.leave();
        if call.changes.phone.is_some() {
            return false; // who calls one phone wants that one
        }
        let (snapshot, ring) = (&self.desk.snapshot, self.desk.settings.timers.ring);
        let wish = |user: &str| snapshot.users.get(user)?.forwarding.as_deref();
        // An ordinary call goes on to nobody, and has nothing to remember.
        let goes_on = call.hunt.has_more()
            || call.forwards.made() > 0
            || snapshot.redirects != Redirects::PassedOn;
        for hop in group {
            if let Hop::User(user) = hop
                && (goes_on || wish(user).is_some())
            {
                call.forwards.remember(user);
            }
        }
        match group {
            [Hop::User(user)] => {
                let (wish, redirects) = (wish(user), snapshot.redirects != Redirects::PassedOn);
                (wish.is_some() || redirects)
                    && call.meet(Forwarder::User(user.clone()), wish, redirects, ring)
            }
            [Hop::Target(target)] if target.trunk.is_some() => {
                let redirects = snapshot.redirects == Redirects::OfAll;
                redirects && call.meet(Forwarder::Target(target.uri.clone()), None, true, ring)
            }
            _ => false,
        }
    }

    /// The forward that is due: where it leads stands in front of what the hunt has left.
    pub(crate) fn follow_forward(&mut self, slot: Key) {
        let Some(call) = self.calls.find_mut(slot) else { return };
        call.forwards.unlisted = None;
        let Some(due) = call.forwards.due.take() else { return };
        let outcome = self.begin_forward(slot, &due);
        self.end_forward(slot, &due, outcome);
    }

    /// Nobody of the forward's destination is registered: the rules may know it. `false`: the call
    /// follows no such forward.
    pub(crate) fn forward_by_rules(&mut self, slot: Key) -> bool {
        let Some(call) = self.calls.find_mut(slot) else { return false };
        let Some(due) = call.forwards.unlisted.take() else { return false };
        let uri = self.address(&due.to).unwrap_or_default();
        let outcome = self.place_forward(slot, &due, &uri, true);
        let outcome = outcome.map(|groups| self.with_history(slot, groups));
        self.end_forward(slot, &due, outcome);
        self.next_group(slot);
        true
    }

    fn end_forward(
        &mut self,
        slot: Key,
        due: &DueForward,
        outcome: Result<Vec<Group>, Unfollowed>,
    ) {
        let Some(call) = self.calls.find_mut(slot) else { return };
        match outcome {
            Ok(groups) => {
                call.hunt.drop_stand_ins();
                call.hunt.put_in_front(groups);
            }
            Err((status, because)) => {
                let failure = Failure::ours(status, due.to.to_string());
                // Why the user was not reached tells the caller more than why its forward failed.
                if call.best_failure.is_none() {
                    call.note_failure(failure);
                } else {
                    call.failures.push(failure);
                }
                let (id, DueForward { by, to, cause }) = (call.id, due);
                self.desk.count(Counter::ForwardsRefused);
                self.desk.notice(Severity::Warning, "forward_refused", || {
                    let why = cause.diversion_reason();
                    format!("call {id}: {by} forwards to {to} ({why}), not followed: {because}")
                });
            }
        }
    }

    fn begin_forward(&mut self, slot: Key, due: &DueForward) -> Result<Vec<Group>, Unfollowed> {
        let call = self.calls.find(slot).ok_or((500, Cow::Borrowed("the call is gone")))?;
        let (before, _) = self.diverted(call);
        if call.forwards.made() + before >= usize::from(FORWARDS_PER_CALL_MAX) {
            let because = format!("it was forwarded {FORWARDS_PER_CALL_MAX} times");
            return Err((482, because.into()));
        }
        if call.max_forwards == 0 {
            return Err((483, "no hop is left".into()));
        }
        let to = self.address(&due.to);
        let to = to.ok_or((480, Cow::Borrowed("the destination cannot be read")))?;
        let from = match &due.by {
            Forwarder::Target(uri) => uri.clone(),
            Forwarder::User(user) => self.address(user).unwrap_or_default(),
        };
        if from == to || call.forwards.has_left(&to) {
            return Err((482, "the call has been there".into()));
        }
        if call.forwards.has_left(&from) {
            return Err((482, format!("the call has left {} before", due.by).into()));
        }
        let groups = self.place_forward(slot, due, &to, false)?;
        if let Some(call) = self.calls.find_mut(slot) {
            if let Forwarder::User(user) = &due.by {
                call.forwarded_by(&self.desk, user);
            }
            call.take_step(&self.desk, Step { cause: due.cause, from, to });
        }
        self.desk.count(Counter::Forwards);
        Ok(self.with_history(slot, groups))
    }

    /// The destination is placed as if the user had called it: whoever called may not be allowed to,
    /// but the user is. Where a trunk points, it is placed as if the caller had called it.
    /// `unregistered`: the registrar has nobody of its name.
    fn place_forward(
        &mut self,
        slot: Key,
        due: &DueForward,
        to: &[u8],
        unregistered: bool,
    ) -> Result<Vec<Group>, Unfollowed> {
        let call = self.calls.find(slot).ok_or((500, Cow::Borrowed("the call is gone")))?;
        let (source, is_guests) = (call.source, call.is_guests);
        // In a call that we make the first party's leg is no call that came over TLS.
        let is_sips = is_sips(to);
        if is_sips && call.dial.is_some() {
            return Err((480, "a call of our own cannot promise TLS".into()));
        }
        let caller = match &call.dial {
            Some(dial) => uri_of(&dial.caller).to_vec(),
            None => call.caller_uri.clone().into_bytes(),
        };
        let (from, trunk) = match &due.by {
            Forwarder::Target(_) => (caller, call.inbound_trunk.clone()),
            Forwarder::User(user) => (self.address(user).unwrap_or_default(), None),
        };
        match self.decide_between(&from, to, &source, trunk.as_deref(), unregistered) {
            Decision::Refuse(refusal) => {
                self.note_refusal(&refusal);
                Err((told(refusal.status), refusal.because))
            }
            Decision::Trunks(_) if is_guests => {
                Err((480, "a caller without an account reaches our users only".into()))
            }
            Decision::Trunks(ToTrunks { emergency: true, .. }) => {
                Err((480, "no forward leads to an emergency number".into()))
            }
            Decision::Trunks(to) => {
                self.count_forwarded(&to);
                let is_dialled = self.calls.find(slot).is_some_and(|call| call.dial.is_some());
                let mut choices = to.choices;
                choices.iter_mut().for_each(|choice| choice.changes.is_sips = is_sips);
                if is_dialled {
                    // A call that we make tries one destination.
                    choices.truncate(1);
                }
                for choice in &mut choices {
                    self.keep_caller(slot, &due.by, &mut choice.changes);
                }
                Ok(Hunt::over_trunks(choices, false).into_groups())
            }
            Decision::User { user, mut changes } => {
                self.check_party(slot, &user)?;
                self.keep_caller(slot, &due.by, &mut changes);
                changes.is_sips = is_sips;
                Ok(Hunt::all_at_once(vec![Hop::User(user)], changes).into_groups())
            }
            Decision::Unlisted { user } => {
                self.check_party(slot, &user)?;
                if let Some(call) = self.calls.find_mut(slot) {
                    call.hunt.then_rules = true;
                    call.forwards.unlisted = Some(due.clone());
                }
                let changes = Changes { is_sips, ..Changes::default() };
                Ok(Hunt::all_at_once(vec![Hop::User(user)], changes).into_groups())
            }
        }
    }

    /// Nobody is called for one call twice, and not by a call of their own.
    fn check_party(&self, slot: Key, user: &str) -> Result<(), Unfollowed> {
        let is_party = |call: &Call| {
            let is_ours = call.inbound_trunk.is_none() && !call.is_guests;
            let first = call.dial.as_ref().and_then(|dial| user_in(uri_of(&dial.first_party)));
            call.forwards.has_tried(user)
                || (is_ours && call.caller == user)
                || first.is_some_and(|first| first == user.as_bytes())
        };
        if self.calls.find(slot).is_some_and(is_party) {
            return Err((
                482,
                format!("the call has been with {user}, or comes from there").into(),
            ));
        }
        Ok(())
    }

    /// The dial plan was asked for the user, but the caller stays the caller: only a rule that
    /// writes another number over the user's has the last word.
    fn keep_caller(&self, slot: Key, by: &Forwarder, changes: &mut Changes) {
        let (Forwarder::User(user), Some(from)) = (by, &changes.from_uri) else { return };
        let Some(call) = self.calls.find(slot) else { return };
        let caller = match &call.dial {
            Some(dial) => user_in(uri_of(&dial.caller)),
            None => user_in(call.caller_uri.as_bytes()),
        };
        let is_users = user_in(from).is_some_and(|name| name == user.as_bytes());
        let (Ok(uri), true) = (Uri::parse(from), is_users) else { return };
        let host = uri.host.to_string();
        changes.from_uri = Some(write_uri(&caller.unwrap_or_default(), host.as_bytes(), uri.port));
    }

    /// What a program ordered for the INVITEs of the call holds for these too.
    fn with_history(&self, slot: Key, mut groups: Vec<Group>) -> Vec<Group> {
        let Some(call) = self.calls.find(slot) else { return groups };
        let (_, before) = self.diverted(call);
        let history = call.forward_headers(&before);
        for group in &mut groups {
            let mut headers = group.changes.over(&call.orders.headers);
            headers.extend(history.iter().cloned());
            group.changes.headers = headers;
        }
        groups
    }

    /// How often the call was diverted before it came to us, and what a trunk says of that.
    fn diverted(&self, call: &Call) -> (usize, Vec<String>) {
        let Some(bytes) = call.invite_bytes(&self.desk) else { return (0, Vec::new()) };
        let Ok(request) = scan(&bytes) else { return (0, Vec::new()) };
        let (times, lines) = diverted_before(&request);
        (times, if call.inbound_trunk.is_some() { lines } else { Vec::new() })
    }
}

impl fmt::Display for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(uri) => f.write_str(&readable(uri)),
            Self::User(user) => f.write_str(user),
        }
    }
}

/// That the user named a place which is nowhere is no news for the caller, who named another.
const fn told(status: u16) -> u16 {
    match status {
        400 | 403 | 404 | 416 | 500 | 501 => 480,
        other => other,
    }
}
