//! Decisions that programs take: asked of the control plane, waited for without holding anything up.
//! Owns:  the table of what waits, its deadlines, what happens when no decision comes.
//! Gives: `ask_router`, `ask_user`, `decided`.
//! Never: waits for room: a full table or a slow control plane is answered here at once.
//! Holds: whoever waits goes on exactly once: by the decision, by its deadline or by its own end.

use std::time::Duration;

use shared::ask::{
    Ask, Decision, Forward, RouteAsk, RouteDecision, RouteTarget, Strategy, UserAsk, UserDecision,
};
use shared::cdr::Direction;
use shared::event::{Event, Severity};
use shared::limits::{ASK_BACKLOG_MAX, TARGETS_PER_CALL_MAX};
use shared::metrics::Counter;
use shared::net::Source;
use shared::snapshot::{HttpRouterRules, RemoteUsers, User};
use sip::wire::{HeaderName, Message, NameAddr, Start, scan};

use crate::b2bua::{Call, Changes, Hop, Hunt, State, Target};
use crate::core::Core;
use crate::desk::{Reply, TimerKey};
use crate::gate::{self, Asked, Unsettled};
use crate::locate;
use crate::slots::Key;
use crate::transactions::ServerKey;

/// What the control plane may take beyond the program's budget before it is not waited for.
const SLACK: Duration = Duration::from_millis(500);

/// Who waits for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Another shard knows whether the called user takes guests.
    Guest {
        server: ServerKey,
    },
    Route {
        call: Key,
    },
    User {
        server: ServerKey,
        asked: Asked,
    },
}

impl Core {
    /// The router decides about a call; the caller has got its 100.
    pub(crate) fn ask_router(&mut self, slot: Key, rules: HttpRouterRules) {
        let Some(ask) = self.route_ask(slot) else {
            return self.with_call(Some(slot), |call, desk, _| call.refuse(desk, 500));
        };
        let pending = Pending::Route { call: slot };
        let Some(key) = self.put(pending, Ask::Route(ask), rules.budget) else {
            return self.undecided(slot);
        };
        self.desk.count(Counter::RouteAsks);
        if let Some(call) = self.calls.find_mut(slot) {
            call.state = State::Deciding;
            call.decision = Some(key);
        }
    }

    /// The user backends decide about credentials; the request waits in its transaction.
    pub(crate) fn ask_user(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
        asked: Asked,
        user: Unsettled,
    ) {
        self.answers(from);
        let Some(RemoteUsers { budget, .. }) = self.desk.snapshot.remote_users else {
            return self.user_decided(server, asked, UserDecision::Unavailable);
        };
        let Start::Request { uri, .. } = request.start() else { return };
        let ask = UserAsk {
            username: user.name.into(),
            realm: self.desk.settings.realm.clone(),
            request_uri: text(uri),
            method: asked.method(),
            call_id: text(request.call_id().unwrap_or_default()),
            source: from.peer,
            known_at: user.known_at,
            headers: headers(request),
        };
        let Some(key) = self.put(Pending::User { server, asked }, Ask::User(ask), budget) else {
            return self.user_decided(server, asked, UserDecision::Unavailable);
        };
        self.desk.count(Counter::UserAsks);
        if let Some(server) = self.desk.transactions.servers.find_mut(server) {
            server.decision = Some(key);
        }
        if asked == Asked::Call {
            self.desk.respond(server, Reply::new(100), |_, _, out| out.end());
        }
    }

    /// `None`: asking is no use now.
    fn put(&mut self, pending: Pending, ask: Ask, budget: Duration) -> Option<Key> {
        let behind = self.desk.out.counters.of(Counter::EventBacklog) > ASK_BACKLOG_MAX;
        let key = if behind { None } else { self.pending.insert(pending).ok() };
        let Some(key) = key else {
            self.desk.count(Counter::AsksRefused);
            return None;
        };
        self.desk.wheel.arm(self.desk.now.mono + budget + SLACK, TimerKey::Decision(key));
        let shard = self.desk.settings.shard;
        self.desk.out.event(Event::Asked { shard, id: key.to_bits(), ask: Box::new(ask) });
        Some(key)
    }

    /// `Command::Decided`.
    pub(crate) fn decided(&mut self, id: u64, decision: Decision) {
        let Some(pending) = self.pending.remove(Key::of_bits(id)) else {
            return self.desk.count(Counter::AsksLate);
        };
        match (pending, decision) {
            (Pending::Route { call }, Decision::Route(decision)) => {
                self.desk.count(Counter::RouteDecisions);
                self.routed(call, decision);
            }
            (Pending::User { server, asked }, Decision::User(decision)) => {
                self.desk.count(Counter::UserDecisions);
                self.user_decided(server, asked, decision);
            }
            (pending, _) => {
                let text = || format!("{pending:?} was answered with the other kind of decision");
                self.desk.notice(Severity::Error, "decision_mixed", text);
                self.give_up_waiting(pending);
            }
        }
    }

    /// The deadline of an ask: nobody answered, not even that there is no answer.
    pub(crate) fn decision_timed_out(&mut self, key: Key) {
        let Some(pending) = self.pending.remove(key) else { return };
        if let Pending::Guest { server } = pending {
            return self.guest_decided(server, false);
        }
        self.desk.count(Counter::AsksTimedOut);
        self.desk.notice(Severity::Warning, "decision_late", || {
            "the control plane did not answer within the budget of an ask".to_owned()
        });
        self.give_up_waiting(pending);
    }

    fn give_up_waiting(&mut self, pending: Pending) {
        match pending {
            Pending::Guest { server } => self.guest_decided(server, false),
            Pending::Route { call } => self.undecided(call),
            Pending::User { server, asked } => {
                self.user_decided(server, asked, UserDecision::Unavailable);
            }
        }
    }

    /// A waiting INVITE was cancelled before it became a call (RFC 3261 9.2): whether it waited.
    pub(crate) fn cancel_waiting(&mut self, server: ServerKey) -> bool {
        let found = self.desk.transactions.servers.find_mut(server);
        let Some(key) = found.and_then(|server| server.decision.take()) else { return false };
        let waited = self.pending.remove(key).is_some();
        if waited {
            self.desk.refuse(server, 487);
        }
        waited
    }

    /// The gateway stops: what waits without a call of its own is answered.
    pub(crate) fn stop_waiting(&mut self) {
        for key in self.pending.keys() {
            if let Some(Pending::Guest { server } | Pending::User { server, .. }) =
                self.pending.find(key).copied()
            {
                self.pending.remove(key);
                gate::refuse_overload(&mut self.desk, server);
            }
        }
    }

    fn routed(&mut self, slot: Key, decision: RouteDecision) {
        let Some(call) = self.calls.find_mut(slot) else { return };
        call.decision = None;
        match decision {
            RouteDecision::Forward(forward) => self.forward(slot, *forward),
            RouteDecision::NotHandled => self.place_statically(slot),
            RouteDecision::Reject(reject) => {
                if reject.spam {
                    self.desk.count(Counter::SpamRefused);
                }
                self.with_call(Some(slot), |call, desk, _| call.reject(desk, reject));
            }
            RouteDecision::Unavailable => self.undecided(slot),
        }
    }

    fn forward(&mut self, slot: Key, forward: Forward) {
        let Forward { mut targets, strategy, ring_timeout, orders } = forward;
        targets.truncate(TARGETS_PER_CALL_MAX);
        let random = self.desk.mint.random();
        let Some(call) = self.calls.find_mut(slot) else { return };
        let changes =
            Changes { headers: orders.headers.clone(), ring: ring_timeout, ..Changes::default() };
        call.orders = orders;
        let asked_uri = call.invited_uri(&self.desk);
        let (desk, source) = (&self.desk, &call.source);
        let hop = |target: &RouteTarget| locate::hop(desk, target, &asked_uri, source, random);
        let hops: Vec<Hop> = targets.iter().map(hop).collect();
        let hunt = match strategy {
            Strategy::Parallel => Hunt::all_at_once(hops, changes),
            Strategy::Sequential => {
                let others = |target: &Target| locate::others_of(desk, target, source, random);
                Hunt::one_after_the_other(hops, &changes, others)
            }
        };
        self.hunt(slot, hunt);
    }

    /// No decision about a call: the static routes, or 503.
    fn undecided(&mut self, slot: Key) {
        let rules = self.desk.snapshot.http_router;
        let Some(call) = self.calls.find_mut(slot) else { return };
        call.decision = None;
        if rules.is_none_or(|rules| rules.fallback_to_static) {
            self.desk.count(Counter::RouteFallbacks);
            return self.place_statically(slot);
        }
        self.desk.count(Counter::RouteUndecided);
        let id = call.id;
        self.desk.notice(Severity::Warning, "route_undecided", || {
            format!("call {id} is refused with 503: the router did not decide")
        });
        self.with_call(Some(slot), |call, desk, _| call.refuse(desk, 503));
    }

    fn user_decided(&mut self, server: ServerKey, asked: Asked, decision: UserDecision) {
        let Some(found) = self.desk.transactions.servers.find_mut(server) else { return };
        found.decision = None;
        let (from, bytes) = (found.from, std::rc::Rc::clone(&found.request));
        let Ok(request) = scan(&bytes) else { return self.desk.refuse(server, 500) };
        let mut user: Option<User> = None;
        match decision {
            UserDecision::Known(known) => user = Some(known),
            UserDecision::Refused { status, spam } => {
                self.desk.count(if spam { Counter::SpamRefused } else { Counter::AuthFailed });
                self.auth_failed(&from, &request, asked);
                return self.desk.refuse(server, status);
            }
            // What a snapshot knows can be decided without them (surface.md section 3).
            UserDecision::Unavailable if !gate::knows(&self.desk, &request, asked) => {
                self.desk.count(Counter::UserUndecided);
                return gate::refuse_unavailable(&mut self.desk, server);
            }
            UserDecision::Unavailable | UserDecision::Unknown => {}
        }
        let takes_guests = user.as_ref().map(|user| user.allow_guest_calls);
        let gate = gate::settle(&mut self.desk, &request, asked, user);
        match asked {
            // Much may have happened while the backends were asked.
            Asked::Call if self.turned_away(server, &from, &request) => {}
            Asked::Call => self.invite_identified(server, from, &request, gate),
            Asked::Message => self.message_identified(server, &from, &request, gate),
            Asked::Referral => self.refer_identified(server, &from, &request, gate),
            Asked::Registration => {
                self.registration(server, &from, &request, gate, takes_guests);
            }
            Asked::Subscription => self.subscriber_identified(server, &from, &request, gate),
        }
    }

    fn route_ask(&self, slot: Key) -> Option<RouteAsk> {
        let call = self.calls.find(slot)?;
        let bytes = call.invite_bytes(&self.desk)?;
        let request = scan(&bytes).ok()?;
        let Start::Request { uri, .. } = request.start() else { return None };
        let first = |name| text(request.first(name).unwrap_or_default());
        let direction = match call.direction {
            Direction::Internal if self.would_go_out(slot, &request) => Direction::Outbound,
            other => other,
        };
        Some(RouteAsk {
            call: call.id,
            call_id: first(HeaderName::CallId),
            from: bare(request.first(HeaderName::From)),
            to: bare(request.first(HeaderName::To)),
            caller: call.caller.clone(),
            callee: call.callee.clone(),
            uri: text(uri),
            source: call.source.peer,
            direction,
            headers: headers(&request),
            body: text(request.body()),
        })
    }
}

impl Call {
    /// The Request-URI of the caller's INVITE.
    pub(crate) fn invited_uri(&self, desk: &crate::desk::Desk) -> Vec<u8> {
        let Some(bytes) = self.invite_bytes(desk) else { return Vec::new() };
        match scan(&bytes).map(|request| request.start()) {
            Ok(Start::Request { uri, .. }) => uri.to_vec(),
            _ => Vec::new(),
        }
    }
}

/// The URI in angle brackets and nothing beside it: name and tag are in `headers`.
fn bare(value: Option<&[u8]>) -> String {
    let value = value.unwrap_or_default();
    NameAddr::parse(value).map_or_else(|_| text(value), |one| format!("<{}>", text(one.uri)))
}

/// What a program may see: everything but credentials.
fn headers(request: &Message<'_>) -> Vec<(String, String)> {
    let shown = |name: HeaderName| {
        !matches!(name, HeaderName::Authorization | HeaderName::ProxyAuthorization)
    };
    let lines = request.lines().filter(|(name, ..)| shown(*name));
    lines
        .map(|(name, written, value)| match name {
            HeaderName::Other => (text(written), text(value)),
            known => (known.as_str().to_owned(), text(value)),
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
