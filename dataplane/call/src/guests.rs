//! Guests: callers without an account, and the users of ours who let them call (`allow_guest_calls`).
//! Owns:  who counts as a guest, and the question to the shard that keeps the called user's bindings.
//! Gives: `receive_stranger` for an INVITE that is no trunk's; `guests_told`.
//! Never: a question to a user backend: strangers cannot make us ask anybody outside.
//! Holds: a guest reaches the user that was dialled, or where the HTTP router sends the call: no rule,
//!        no trunk, no REFER of its own.

use std::time::Duration;

use shared::ids::ShardId;
use shared::net::Source;
use sip::wire::{HeaderName, Message, Start, scan};

use crate::ask::Pending;
use crate::core::Core;
use crate::desk::TimerKey;
use crate::gate::{self, Asked, Sender};
use crate::io::MeshMessage;
use crate::locate::{self, Place};
use crate::steer;
use crate::transactions::ServerKey;

/// How long another shard's registrar is waited for before the caller has to prove who it is.
const ASK_WAIT: Duration = Duration::from_secs(2);

/// What the called user says to a guest.
enum Host {
    /// Only who registered it knows, on that shard.
    At(ShardId, Box<str>),
    Refuses,
    Welcomes,
}

impl Core {
    /// A caller that is no trunk: it may call as a guest, or has to prove who it is.
    pub(crate) fn receive_stranger(&mut self, key: ServerKey, from: Source, request: &Message<'_>) {
        match self.host(request, &from) {
            Host::Refuses => self.identify(key, from, request),
            Host::Welcomes => self.admit(key, from, request, Sender::Guest),
            Host::At(shard, user) => {
                let Ok(ask) = self.pending.insert(Pending::Guest { server: key }) else {
                    return self.identify(key, from, request);
                };
                self.desk.wheel.arm(self.desk.now.mono + ASK_WAIT, TimerKey::Decision(ask));
                if let Some(server) = self.desk.transactions.servers.find_mut(key) {
                    server.decision = Some(ask);
                }
                let question = MeshMessage::AskGuests { ask: ask.to_bits(), aor: user };
                self.desk.out.mesh(shard, question);
            }
        }
    }

    /// Who shows credentials is no guest, and neither is who calls under the name of a user of ours.
    fn host(&self, request: &Message<'_>, from: &Source) -> Host {
        let Start::Request { uri, .. } = request.start() else { return Host::Refuses };
        let users = &self.desk.snapshot.users;
        let caller = request.from().ok().and_then(|from| from.parsed_uri().ok());
        let claims = caller.is_none_or(|uri| {
            std::str::from_utf8(&uri.user_unescaped()).is_ok_and(|user| users.contains_key(user))
        });
        if claims || request.first(HeaderName::ProxyAuthorization).is_some() {
            return Host::Refuses;
        }
        let called = match locate::locate(&self.desk, uri, from, 0) {
            Place::User(name) | Place::Unlisted(name) => name,
            Place::Trunk { .. } | Place::Nowhere(_) => return Host::Refuses,
        };
        // Where a program stands before the snapshot, it decides about this user.
        let remote = self.desk.snapshot.remote_users.as_ref();
        let own =
            users.get(&called).filter(|user| remote.is_none_or(|one| user.backend <= one.first));
        let welcome = match own {
            Some(user) => user.allow_guest_calls,
            None => {
                let shard = steer::owner_of_aor(&called, self.desk.settings.shards);
                if shard != self.desk.settings.shard {
                    return Host::At(shard, called);
                }
                self.registrar.takes_guests(&called)
            }
        };
        if welcome { Host::Welcomes } else { Host::Refuses }
    }

    /// The other shard has answered.
    pub(crate) fn guests_told(&mut self, ask: u64, welcome: bool) {
        let key = crate::slots::Key::of_bits(ask);
        if let Some(Pending::Guest { server }) = self.pending.find(key).copied() {
            self.pending.remove(key);
            self.guest_decided(server, welcome);
        }
    }

    pub(crate) fn guest_decided(&mut self, key: ServerKey, welcome: bool) {
        let Some(server) = self.desk.transactions.servers.find_mut(key) else { return };
        server.decision = None;
        let (from, bytes) = (server.from, std::rc::Rc::clone(&server.request));
        let Ok(request) = scan(&bytes) else { return self.desk.refuse(key, 500) };
        if self.turned_away(key, &from, &request) {
            return; // much may have happened meanwhile
        }
        if welcome {
            self.admit(key, from, &request, Sender::Guest);
        } else {
            self.identify(key, from, &request);
        }
    }

    pub(crate) fn identify(&mut self, key: ServerKey, from: Source, request: &Message<'_>) {
        match gate::authenticate(&mut self.desk, request, Asked::Call) {
            Err(user) => self.ask_user(key, &from, request, Asked::Call, user),
            Ok(gate) => self.invite_identified(key, from, request, gate),
        }
    }
}
