//! A new INVITE on its way to becoming a call: admission, identity, place (RFC 3261 8.2, 13.3).
//! Owns:  the order of the refusals; what is refused before a call exists leaves no CDR.
//! Gives: a call in its first state, or an answer; then `ask` or `place` takes it on.
//! Never: state for a request that failed admission or authentication.
//! Holds: from the moment that a call exists, its one CDR is certain.

use std::hash::Hasher as _;
use std::rc::Rc;

use shared::cdr::Direction;
use shared::event::CallStage;
use shared::metrics::Counter;
use shared::net::Source;
use sip::wire::{HeaderName, Message, NameAddr, Start, Uri, Via};

use crate::b2bua::setup::Invitation;
use crate::b2bua::{Call, INVITER, session_timer};
use crate::core::Core;
use crate::desk::Reply;
use crate::enrolment;
use crate::gate::{self, Asked, Gate, Sender};
use crate::io::Output;
use crate::mint;
use crate::proved;
use crate::slots::Key;
use crate::transactions::ServerKey;

impl Core {
    pub(crate) fn receive_invite(&mut self, key: ServerKey, from: Source, request: &Message<'_>) {
        if self.turned_away(key, &from, request)
            || session_timer::refused(&mut self.desk, key, request)
        {
            return;
        }
        let trunk = self.source_trunk(request, &from);
        if trunk.is_none() && request.first(HeaderName::Replaces).is_some() {
            // Whoever wants another one's place says who it is, whatever holds for calls.
            return self.identify(key, from, request);
        }
        if let Some(trunk) = trunk {
            return self.admit(key, from, request, Sender::Trunk(trunk));
        }
        if !self.desk.settings.call_auth {
            return self.admit(key, from, request, Sender::Unasked);
        }
        self.receive_stranger(key, from, request);
    }

    /// No room, a loop, a merged request: answered before anything is made of it.
    pub(crate) fn turned_away(
        &mut self,
        key: ServerKey,
        from: &Source,
        request: &Message<'_>,
    ) -> bool {
        let no_room = self.draining || gate::overloaded(&self.desk, self.calls.len());
        if no_room || self.is_full() && !self.dials_emergency(from, request) {
            gate::refuse_overload(&mut self.desk, key);
            return true;
        }
        let Some(status) = self.looped(request) else { return false };
        self.desk.count(Counter::SipLoops);
        self.desk.refuse(key, status);
        true
    }

    /// The call begins.
    pub(crate) fn admit(
        &mut self,
        key: ServerKey,
        from: Source,
        request: &Message<'_>,
        sender: Sender,
    ) {
        let is_trunks = matches!(sender, Sender::Trunk(_));
        if !is_trunks && self.holds_too_many(&from, request) {
            return gate::refuse_source(&mut self.desk, key);
        }
        if request.first(HeaderName::Replaces).is_some() {
            return self.take_place(key, &from, request, sender);
        }
        // A call that goes to a trunk becomes outbound when that is decided.
        let direction = if is_trunks { Direction::Inbound } else { Direction::Internal };
        let Some(slot) = self.calls.next_key() else {
            return gate::refuse_overload(&mut self.desk, key);
        };
        let caller_hash = self.caller_hash(request);
        let invitation =
            Invitation { key: slot, server: key, request, from, direction, sender, caller_hash };
        let Some(call) = Call::begin(&mut self.desk, invitation) else {
            return self.desk.refuse(key, 400);
        };
        self.by_caller.insert(caller_hash, slot);
        self.show_prelude(request, call.rung(INVITER));
        self.claim(key, Some(call.rung(INVITER)));
        self.take_over(key, slot);
        self.add_call(slot, call);
        match self.desk.snapshot.http_router {
            Some(rules) if !self.is_emergency(slot, request) => self.ask_router(slot, rules),
            _ => self.place_call(slot, request),
        }
    }

    /// The INVITE is the call's. It gets its 100, unless it has waited for the user backends: what
    /// passed by then is told for the ladder.
    fn take_over(&mut self, key: ServerKey, slot: Key) {
        let Some(server) = self.desk.transactions.servers.find_mut(key) else { return };
        server.call = Some(slot);
        let (Some(response), Some(rung)) = (server.response.clone(), server.rung) else {
            self.desk.respond(key, Reply::new(100), |_, _, out| out.end());
            return;
        };
        let (request, from, to) = (Rc::clone(&server.request), server.from, server.reply_to);
        for (came, way, bytes) in [(true, from.back(), request), (false, to, response)] {
            self.desk.out.push(Output::Keep { rung, came, way, bytes });
        }
    }

    /// The trunk that an INVITE comes from.
    pub(crate) fn source_trunk(&self, request: &Message<'_>, from: &Source) -> Option<Box<str>> {
        let user = |address: Option<NameAddr<'_>>| {
            let uri = address.and_then(|address| address.parsed_uri().ok());
            uri.map(|uri| uri.user_unescaped().into_owned()).unwrap_or_default()
        };
        // Who is called by the Contact of a registration tells trunks at one address apart.
        if let Start::Request { uri, .. } = request.start()
            && let Ok(uri) = Uri::parse(uri)
            && let Some(trunk) = enrolment::trunk_for(&self.desk, from.peer, &uri.user_unescaped())
        {
            return Some(trunk.name.clone());
        }
        let [from_user, to_user] = [request.from().ok(), request.to().ok()].map(user);
        let proved = proved::trunk_of(&self.desk, from, &from_user, &to_user);
        // Who has proved a name is that trunk or a stranger, whatever trunk is at its address.
        let has_name = !self.desk.proved.names(from.flow).is_empty();
        let by_address = || {
            let trunk = || gate::trunk_of(&self.desk, from.peer, &from_user, &to_user);
            (!has_name).then(trunk).flatten()
        };
        proved.or_else(by_address).map(|trunk| trunk.name.clone())
    }

    pub(crate) fn add_call(&mut self, slot: Key, call: Call) {
        self.desk.count(Counter::CallsStarted);
        self.call_begun(&call);
        call.tell(&mut self.desk, CallStage::Created);
        if let Some(flow) = call.source.flow {
            self.flows.insert(flow);
        }
        let added = self.calls.insert(call);
        debug_assert!(added.is_ok_and(|key| key == slot), "next_key said there is room");
        self.current = Some(slot);
    }

    /// 483, or 482 for a request that went through us before or came by two ways (RFC 3261 8.2.2.2).
    pub(crate) fn looped(&self, request: &Message<'_>) -> Option<u16> {
        if request.max_forwards().ok().flatten() == Some(0) {
            return Some(483);
        }
        let ours = |value: &[u8]| {
            // The whole form: what a peer draws by chance may begin like one of ours.
            Via::parse(value).is_ok_and(|via| via.branch.and_then(mint::parse_branch).is_some())
        };
        if request.values(HeaderName::Via).any(ours) {
            return Some(482);
        }
        let known = self.by_caller.get(&self.caller_hash(request));
        let inviter = known.and_then(|&key| self.calls.find(key)?.leg(INVITER));
        let number = request.cseq().ok().map(|cseq| cseq.number);
        inviter.is_some_and(|leg| leg.dialog.remote_cseq == number).then_some(482)
    }

    /// An INVITE whose sender is decided about: it becomes a call or is answered.
    pub(crate) fn invite_identified(
        &mut self,
        key: ServerKey,
        from: Source,
        request: &Message<'_>,
        gate: Gate,
    ) {
        if let Gate::Challenge { stale } = gate {
            self.weigh(&from, request, Asked::Call, &gate);
            let answer = gate::challenge(&mut self.desk, key, Asked::Call, stale);
            return self.keep_challenged(&from, request, answer);
        }
        if let Some(user) = self.proven_sender(key, &from, request, Asked::Call, gate) {
            self.admit(key, from, request, Sender::User(user));
        }
    }

    /// What a repeat of the request over another path has in common with it.
    pub(crate) fn caller_hash(&self, request: &Message<'_>) -> u64 {
        let call_id = request.call_id().unwrap_or_default();
        let tag = request.from().ok().and_then(|from| from.tag()).unwrap_or_default();
        let mut hash = rustc_hash::FxHasher::default();
        hash.write(call_id);
        hash.write_u8(0);
        hash.write(tag);
        hash.finish()
    }
}
