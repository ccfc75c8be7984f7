//! A new INVITE on its way to becoming a call: admission, identity, place (RFC 3261 8.2, 13.3).
//! Owns:  the order of the refusals; what is refused before a call exists leaves no CDR.
//! Gives: a call in its first state, or an answer; `place_call`, which sends it where `router` says.
//! Never: state for a request that failed admission or authentication.
//! Holds: from the moment that a call exists, its one CDR is certain.

use std::hash::Hasher as _;
use std::time::Duration;

use shared::cdr::Direction;
use shared::ids::ShardId;
use shared::metrics::Counter;
use shared::net::{Destination, Source};
use sip::wire::{HeaderName, Message, NameAddr, Start, Uri, Via};

use crate::b2bua::setup::Invitation;
use crate::b2bua::{Call, INVITER, State, Target};
use crate::core::Core;
use crate::desk::{Reply, TimerKey};
use crate::gate::{self, Asked, Gate};
use crate::io::{BindingTarget, MeshMessage};
use crate::locate::{self, Place};
use crate::mint;
use crate::slots::Key;
use crate::steer;
use crate::transactions::ServerKey;

/// How long another shard's registrar is waited for: it answers within its turn, or is in trouble.
const ASK_WAIT: Duration = Duration::from_secs(2);

impl Core {
    pub(crate) fn receive_invite(&mut self, key: ServerKey, from: Source, request: &Message<'_>) {
        if self.draining || gate::overloaded(&self.desk, self.calls.len()) {
            return gate::refuse_overload(&mut self.desk, key);
        }
        if let Some(status) = self.looped(request) {
            self.desk.count(Counter::SipLoops);
            return self.desk.refuse(key, status);
        }
        let Start::Request { uri, .. } = request.start() else { return };
        let trunk = self.source_trunk(request, &from);
        if trunk.is_none() && !self.identified(key, request, uri, &from) {
            return;
        }
        self.desk.respond(key, Reply::new(100), |_, _, out| out.end());
        // A call that goes to a trunk becomes outbound when that is decided.
        let direction = if trunk.is_some() { Direction::Inbound } else { Direction::Internal };
        let Some(slot) = self.calls.next_key() else {
            return gate::refuse_overload(&mut self.desk, key);
        };
        let caller_hash = self.caller_hash(request);
        let invitation = Invitation {
            key: slot,
            server: key,
            request,
            from,
            direction,
            inbound_trunk: trunk,
            outbound_trunk: None,
            caller_hash,
        };
        let Some(call) = Call::begin(&mut self.desk, invitation) else {
            return self.desk.refuse(key, 400);
        };
        self.by_caller.insert(caller_hash, slot);
        if let Some(server) = self.desk.transactions.servers.find_mut(key) {
            server.call = Some(slot);
        }
        self.add_call(slot, call);
        self.place_call(slot, request);
    }

    /// The trunk that an INVITE comes from.
    fn source_trunk(&self, request: &Message<'_>, from: &Source) -> Option<Box<str>> {
        let user = |address: Option<NameAddr<'_>>| {
            let uri = address.and_then(|address| address.parsed_uri().ok());
            uri.map(|uri| uri.user_unescaped().into_owned()).unwrap_or_default()
        };
        let [from_user, to_user] = [request.from().ok(), request.to().ok()].map(user);
        gate::trunk_of(&self.desk, from.peer, &from_user, &to_user).map(|trunk| trunk.name.clone())
    }

    pub(crate) fn add_call(&mut self, slot: Key, call: Call) {
        self.desk.count(Counter::CallsStarted);
        if let Some(flow) = call.source.flow {
            self.flows.insert(flow);
        }
        let added = self.calls.insert(call);
        debug_assert!(added.is_ok_and(|key| key == slot), "next_key said there is room");
        self.current = Some(slot);
    }

    /// 483, or 482 for a request that went through us before or came by two ways (RFC 3261 8.2.2.2).
    fn looped(&self, request: &Message<'_>) -> Option<u16> {
        if request.max_forwards().ok().flatten() == Some(0) {
            return Some(483);
        }
        let ours = |value: &[u8]| {
            Via::parse(value).is_ok_and(|via| via.branch.and_then(mint::shard_of_branch).is_some())
        };
        if request.values(HeaderName::Via).any(ours) {
            return Some(482);
        }
        let known = self.by_caller.get(&self.caller_hash(request));
        let inviter = known.and_then(|&key| self.calls.find(key)?.leg(INVITER));
        let number = request.cseq().ok().map(|cseq| cseq.number);
        inviter.is_some_and(|leg| leg.dialog.remote_cseq == number).then_some(482)
    }

    /// Whether the caller may call; else it was answered. A trunk's address is its identity.
    fn identified(
        &mut self,
        key: ServerKey,
        request: &Message<'_>,
        uri: &[u8],
        from: &Source,
    ) -> bool {
        let settings = &self.desk.settings;
        let guest = match locate::locate(&self.desk, uri, from) {
            Place::User(name) => {
                self.desk.snapshot.users.get(&name).is_some_and(|user| user.allow_guest_calls)
            }
            _ => false,
        };
        let offered = request.first(HeaderName::ProxyAuthorization).is_some();
        if !settings.call_auth || (guest && !offered) {
            return true;
        }
        match gate::authenticate(&mut self.desk, request, b"INVITE", Asked::Call) {
            Gate::Challenge { stale } => {
                gate::challenge(&mut self.desk, key, Asked::Call, stale);
                false
            }
            Gate::Refused(status) => {
                self.desk.refuse(key, status);
                false
            }
            Gate::Passed(user) => {
                let caller = request.from().ok().and_then(|from| from.parsed_uri().ok());
                let own = caller.is_some_and(|uri| *uri.user_unescaped() == *user.as_bytes());
                if !own {
                    self.desk.count(Counter::AuthFailed);
                    self.desk.refuse(key, 403); // another one's identity
                }
                own
            }
        }
    }

    /// Counts the call against its trunk's limit; `false` when the trunk is full. Each shard keeps
    /// its share of the limit.
    pub(crate) fn take_trunk_share(&mut self, name: &str, slot: Key) -> bool {
        let trunk = self.desk.snapshot.trunks.iter().find(|trunk| *trunk.name == *name);
        let most = trunk.and_then(|trunk| trunk.max_calls).unwrap_or(u32::MAX);
        let share = most.div_ceil(u32::from(self.desk.settings.shards.max(1)));
        let standing = self.trunk_calls.entry(name.into()).or_default();
        if *standing >= share {
            return false;
        }
        *standing += 1;
        if let Some(call) = self.calls.find_mut(slot) {
            call.trunk_shares.push(name.into());
        }
        true
    }

    pub(crate) fn call_user(&mut self, slot: Key, user: Box<str>) {
        let settings = &self.desk.settings;
        let owner = steer::owner_of_aor(&user, settings.shards);
        if owner == settings.shard {
            let targets = self.registrar.targets(&user);
            return self.go(slot, targets);
        }
        self.ask(slot, owner, user);
    }

    pub(crate) fn ask(&mut self, slot: Key, owner: ShardId, aor: Box<str>) {
        let Ok(ask) = self.asks.insert(slot) else {
            return self.with_call(Some(slot), |call, desk, _| call.refuse(desk, 503));
        };
        if let Some(call) = self.calls.find_mut(slot) {
            call.asked = Some(ask);
            call.state = State::Locating;
        }
        let until = self.desk.now.mono + ASK_WAIT;
        self.desk.wheel.arm(until, TimerKey::Ask(ask));
        let ask = (u64::from(ask.slot) << 32) | u64::from(ask.generation);
        self.desk.out.mesh(owner, MeshMessage::AskBindings { ask, aor });
    }

    pub(crate) fn bindings_found(&mut self, ask: u64, targets: Vec<BindingTarget>) {
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).expect("masked to 32 bits");
        let ask = Key { slot: half(ask >> 32), generation: half(ask) };
        let Some(slot) = self.asks.remove(ask) else { return };
        if let Some(call) = self.calls.find_mut(slot) {
            call.asked = None;
        }
        self.go(slot, targets);
    }

    pub(crate) fn ask_timed_out(&mut self, ask: Key) {
        let Some(slot) = self.asks.remove(ask) else { return };
        self.with_call(Some(slot), |call, desk, _| {
            call.asked = None;
            call.refuse(desk, 503);
        });
    }

    fn go(&mut self, slot: Key, targets: Vec<BindingTarget>) {
        for flow in targets.iter().filter_map(|target| target.destination.flow) {
            self.flows.insert(flow);
        }
        let targets: Vec<_> = targets.into_iter().map(target_of).collect();
        if self.calls.find(slot).is_some_and(Call::awaits_first_party) {
            return self.first_party_found(slot, targets);
        }
        self.with_call(Some(slot), |call, desk, owners| {
            if call.ended.is_none() {
                call.go(desk, owners, targets);
            }
        });
    }

    /// What a repeat of the request over another path has in common with it.
    fn caller_hash(&self, request: &Message<'_>) -> u64 {
        let call_id = request.call_id().unwrap_or_default();
        let tag = request.from().ok().and_then(|from| from.tag()).unwrap_or_default();
        let mut hash = rustc_hash::FxHasher::default();
        hash.write(call_id);
        hash.write_u8(0);
        hash.write(tag);
        hash.finish()
    }
}

/// A binding with Path goes to its first hop (RFC 3327 5.1); one without goes where it came from.
pub(crate) fn target_of(binding: BindingTarget) -> Target {
    let BindingTarget { uri, destination, path, .. } = binding;
    let hop = path.first().filter(|_| destination.flow.is_none()).and_then(|first| {
        let address = NameAddr::parse(first).ok()?;
        let uri = Uri::parse(address.uri).ok()?;
        let ip = match uri.host {
            sip::wire::Host::V4(ip) => std::net::IpAddr::V4(ip),
            sip::wire::Host::V6(ip) => std::net::IpAddr::V6(ip),
            sip::wire::Host::Name(_) => return None,
        };
        Some(std::net::SocketAddr::new(ip, uri.port.unwrap_or(5060)))
    });
    let mut way = destination;
    if let Some(hop) = hop.filter(|hop| hop.is_ipv4() == way.peer.is_ipv4()) {
        way.peer = hop;
    }
    Target { uri, way, path, is_trunk: false }
}

pub(crate) fn trunk_target(uri: &[u8], way: Destination) -> Target {
    Target { uri: uri.to_vec(), way, path: Vec::new(), is_trunk: true }
}
