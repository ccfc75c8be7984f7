//! Placing a call: what `router` decided is carried out.
//! Owns:  the turns that rules take, the answer to a trial.
//! Gives: `place_call` for an INVITE, `place_statically` for one that the HTTP router left alone,
//!        `decide_dial` and `carry_out` for a call that we make, `explain`.
//! Never: a decision of its own.
//! Holds: a call that is refused here hears why, and so does the operator where a rule is at fault.

use std::net::SocketAddr;

use shared::cdr::Direction;
use shared::event::Severity;
use shared::metrics::Counter;
use shared::net::{Source, Transport};
use shared::route::{Explanation, Trial};
use shared::snapshot::Trunk;
use sip::wire::{Message, NameAddr, Start, scan};

use crate::b2bua::answer::direction;
use crate::b2bua::secure::is_sips;
use crate::b2bua::{Aim, Failure, Hop, Hunt};
use crate::core::Core;
use crate::enrolment;
use crate::gate;
use crate::router::{self, Choice, Decision, Dialled, Outlook, Refusal, ToTrunks};
use crate::slots::Key;

/// Where a trial call comes from when it names nothing.
const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5_060);

impl Core {
    /// Decides where a call goes by what the snapshot says, and sends it there. `request`: the INVITE
    /// that asked for it.
    pub(crate) fn place_call(&mut self, slot: Key, request: &Message<'_>) {
        let decision = self.decide_invite(slot, request, false);
        self.carry_out(slot, decision);
    }

    /// The same when the INVITE is not at hand.
    pub(crate) fn place_statically(&mut self, slot: Key) {
        self.place_again(slot, false);
    }

    /// Nobody of the dialled name is registered: the rules may know the number.
    pub(crate) fn place_by_rules(&mut self, slot: Key) {
        if self.forward_by_rules(slot) {
            return;
        }
        if self.calls.find(slot).is_some_and(|call| call.is_guests && call.transfer.is_none()) {
            // A guest reaches who was dialled, and no rule or trunk.
            return self.with_call(Some(slot), |call, desk, _| call.refuse(desk, 480));
        }
        self.place_again(slot, true);
    }

    fn place_again(&mut self, slot: Key, unregistered: bool) {
        let Some(call) = self.calls.find(slot) else { return };
        if call.transfer.is_some() {
            return self.place_target(slot, unregistered);
        }
        let decision = match (&call.dial, call.invite_bytes(&self.desk)) {
            (Some(dial), _) => {
                let (caller, uri) = (dial.caller.clone(), dial.second_uri.clone());
                let source = call.source;
                self.decide_between(uri_of(&caller), &uri, &source, None, unregistered)
            }
            (None, Some(bytes)) => match scan(&bytes) {
                Ok(request) => self.decide_invite(slot, &request, unregistered),
                Err(_) => unreadable(),
            },
            (None, None) => return, // it has its final answer
        };
        self.carry_out(slot, decision);
    }

    fn decide_invite(&mut self, slot: Key, request: &Message<'_>, unregistered: bool) -> Decision {
        let random = self.desk.mint.random();
        let (Start::Request { uri, .. }, Some(call)) = (request.start(), self.calls.find(slot))
        else {
            return unreadable();
        };
        let (from, trunk) = (call.source, call.inbound_trunk.clone());
        let dialled = Dialled::of_request(request, uri, from.peer.ip(), trunk.as_deref())
            .and_then(|dialled| dialled.named(call.identity_uri()));
        let (desk, turns) = (&self.desk, &self.turns);
        let outlook = Outlook { desk, from: &from, turns, random, unregistered };
        dialled
            .map_or_else(|_| unreadable(), |dialled| router::decide(outlook, &dialled, &mut |_| {}))
    }

    /// Which way a call would go by the static rules: what the HTTP router is told of it.
    pub(crate) fn would_go_out(&self, slot: Key, request: &Message<'_>) -> bool {
        let call = self.calls.find(slot);
        let decision =
            call.and_then(|call| self.foresee(&call.source, request, call.identity_uri()));
        matches!(decision, Some(Decision::Trunks(_)))
    }

    /// Whether a user dials an emergency number that has its trunk: no program is asked about that.
    pub(crate) fn is_emergency(&self, slot: Key, request: &Message<'_>) -> bool {
        let from_user = self.calls.find(slot).filter(|call| call.inbound_trunk.is_none());
        from_user.is_some_and(|call| self.dials_emergency(&call.source, request))
    }

    /// The same before there is a call: no limit of the operator stops such a one.
    pub(crate) fn dials_emergency(&self, from: &Source, request: &Message<'_>) -> bool {
        let Some(emergency) = &self.desk.snapshot.routes.emergency else { return false };
        let Start::Request { uri, .. } = request.start() else { return false };
        let dialled = Dialled::of_request(request, uri, from.peer.ip(), None);
        let is_number = |user: &[u8]| emergency.numbers.iter().any(|n| n.as_bytes() == user);
        dialled.is_ok_and(|dialled| is_number(&dialled.request.user))
            && matches!(
                self.foresee(from, request, None),
                Some(Decision::Trunks(ToTrunks { emergency: true, .. }))
            )
    }

    /// The decision about a user's call, without taking a turn of any rule.
    fn foresee(
        &self,
        from: &Source,
        request: &Message<'_>,
        caller: Option<&[u8]>,
    ) -> Option<Decision> {
        let Start::Request { uri, .. } = request.start() else { return None };
        let (desk, turns) = (&self.desk, &self.turns);
        let outlook = Outlook { desk, from, turns, random: 0, unregistered: true };
        let dialled = Dialled::of_request(request, uri, from.peer.ip(), None).ok()?;
        let dialled = dialled.named(caller).ok()?;
        Some(router::decide(outlook, &dialled, &mut |_| {}))
    }

    /// The same for a call that we make: `from` calls `to` from where `source` is.
    pub(crate) fn decide_dial(&mut self, from: &[u8], to: &[u8], source: &Source) -> Decision {
        if is_sips(to) {
            // Both ways of such a call begin with us, and only an INVITE says how it came.
            return refused(416, "only a call that came over TLS asks for it");
        }
        self.decide_between(from, to, source, None, false)
    }

    /// The same where the caller may have come by a `trunk`. `unregistered`: only the rules are left
    /// to know `to`.
    pub(crate) fn decide_between(
        &mut self,
        from: &[u8],
        to: &[u8],
        source: &Source,
        trunk: Option<&str>,
        unregistered: bool,
    ) -> Decision {
        if is_sips(to) && !source.transport.is_secure() {
            return refused(416, "only a call that came over TLS asks for it");
        }
        let random = self.desk.mint.random();
        let (desk, turns) = (&self.desk, &self.turns);
        let outlook = Outlook { desk, from: source, turns, random, unregistered };
        match Dialled::of_uris(from, to, source.peer.ip(), trunk) {
            Ok(dialled) => router::decide(outlook, &dialled, &mut |_| {}),
            Err(_) => unreadable(),
        }
    }

    pub(crate) fn carry_out(&mut self, slot: Key, decision: Decision) {
        match decision {
            Decision::Refuse(refusal) => self.refuse_place(slot, refusal),
            Decision::Trunks(to) => self.call_trunk(slot, to),
            Decision::User { user, changes } => {
                self.hunt(slot, Hunt::all_at_once(vec![Hop::User(user)], changes));
            }
            Decision::Unlisted { user } => self.hunt(slot, Hunt::registrar_first(user)),
        }
    }

    fn refuse_place(&mut self, slot: Key, refusal: Refusal) {
        self.note_refusal(&refusal);
        let Refusal { status, reason, .. } = refusal;
        self.with_call(Some(slot), |call, desk, _| {
            if let Some(reason) = &reason {
                let reason = reason.as_bytes().to_vec();
                let target = call.callee_uri.clone();
                call.note_failure(Failure { reason, ..Failure::ours(status, target) });
            }
            call.refuse(desk, status);
        });
    }

    pub(crate) fn note_refusal(&mut self, refusal: &Refusal) {
        let Refusal { status, because, rule, .. } = refusal;
        let Some(rule) = rule else { return };
        self.desk.count(Counter::RoutesRefused);
        // A rule that rejects does what it is for; the others want a look.
        if matches!(status, 500 | 501 | 503) {
            self.desk.notice(Severity::Warning, "route_refused", || {
                format!("the rule {rule:?} ended a call with {status}: {because}")
            });
        }
    }

    /// The first trunk that has room is called; those behind it take over when it does not answer.
    fn call_trunk(&mut self, slot: Key, to: ToTrunks) {
        if self.calls.find(slot).is_some_and(|call| call.dial.is_none()) {
            return self.hunt_trunks(slot, to);
        }
        let wanted = to.choices.first().map(|choice| choice.trunk.clone());
        let choice = self.pick_trunk(slot, Aim::SecondParty, to);
        self.with_call(Some(slot), |call, desk, owners| {
            if call.inbound_trunk.is_none() {
                call.direction = Direction::Outbound;
            }
            let Some(choice) = choice else {
                call.outbound_trunk = wanted;
                return call.refuse(desk, call.unplaced_status());
            };
            call.outbound_trunk = Some(choice.trunk);
            call.changes = choice.changes;
            call.go(desk, owners, vec![choice.target]);
        });
    }

    fn hunt_trunks(&mut self, slot: Key, to: ToTrunks) {
        self.count_forwarded(&to);
        let ToTrunks { mut choices, emergency, rule, .. } = to;
        let has_room = |choice: &Choice| emergency || self.has_trunk_room(&choice.trunk, false);
        let Some(first) = choices.iter().position(has_room) else {
            self.trunks_are_full(choices.len(), rule.as_deref());
            let wanted = choices.into_iter().next().map(|choice| choice.trunk);
            return self.with_call(Some(slot), |call, desk, _| {
                call.direction = direction(call.inbound_trunk.is_some(), true);
                call.outbound_trunk = wanted;
                call.refuse(desk, 503);
            });
        };
        choices.drain(..first);
        self.hunt(slot, Hunt::over_trunks(choices, emergency));
    }

    pub(crate) fn count_forwarded(&mut self, to: &ToTrunks) {
        let Some(rule) = &to.rule else { return };
        self.desk.count(Counter::RoutesForwarded);
        if to.takes_turn {
            let turn = self.turns.entry(rule.clone()).or_default();
            *turn = turn.wrapping_add(1);
        }
    }

    pub(crate) fn trunks_are_full(&mut self, asked: usize, rule: Option<&str>) {
        self.desk.count(Counter::TrunksFull);
        self.desk.notice(Severity::Warning, "trunks_full", || {
            format!("none of {asked} trunks has room for a call (rule {rule:?})")
        });
    }

    /// What would become of a call, without making one.
    pub(crate) fn explain(&self, trial: &Trial) -> Explanation {
        let (source, trunk) = self.trial_source(trial);
        let (desk, turns) = (&self.desk, &self.turns);
        // A user that only a backend knows is explained as one who is not registered.
        let outlook = Outlook { desk, from: &source, turns, random: 0, unregistered: true };
        router::explain(outlook, trial, &source, trunk)
    }

    /// The source that a trial names, and its trunk: by name, else by address.
    fn trial_source(&self, trial: &Trial) -> (Source, Option<&Trunk>) {
        let trunks = &self.desk.snapshot.trunks;
        let named = trial.source_trunk.as_deref();
        let named = named.and_then(|name| trunks.iter().find(|trunk| *trunk.name == *name));
        let peer = match (trial.source_ip, named) {
            (Some(ip), _) => SocketAddr::new(ip, 5_060),
            (None, Some(trunk)) => trunk.entrances.first().map_or(NOWHERE, |first| first.address),
            (None, None) => NOWHERE,
        };
        let user = |text: &str| {
            let uri = NameAddr::parse(text.as_bytes()).ok().and_then(|a| a.parsed_uri().ok());
            uri.map(|uri| uri.user_unescaped().into_owned()).unwrap_or_default()
        };
        let (from, to) = (user(&trial.from), user(&trial.to));
        let by_address = || {
            trial.source_ip?;
            let registered = enrolment::trunk_for(&self.desk, peer, &to);
            registered.or_else(|| gate::trunk_of(&self.desk, peer, &from, &to))
        };
        let trunk = named.or_else(by_address);
        let family = |local: &&SocketAddr| local.is_ipv4() == peer.is_ipv4();
        let settings = &self.desk.settings;
        let listeners = settings.udp.iter().chain(&settings.tcp).chain(&settings.tls);
        let local = listeners.clone().find(family).copied();
        let source =
            Source { transport: Transport::Udp, local: local.unwrap_or(peer), peer, flow: None };
        (source, trunk)
    }
}

/// The URI of a party that was written with its name.
pub(crate) fn uri_of(party: &[u8]) -> &[u8] {
    NameAddr::parse(party).map_or(party, |address| address.uri)
}

fn unreadable() -> Decision {
    refused(400, "an address cannot be read")
}

fn refused(status: u16, because: &'static str) -> Decision {
    Decision::Refuse(Refusal { status, reason: None, because: because.into(), rule: None })
}
