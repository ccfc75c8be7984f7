//! A received message on its way to the transaction, dialog or call that it belongs to (RFC 3261 8.2, 18).
//! Owns:  the order of the checks: keep-alive, form, owner shard, transaction, dialog, method.
//! Gives: nothing; every answer leaves through the desk.
//! Never: an answer to an ACK, to a response, or to something that is not SIP.
//! Holds: a request is answered exactly once by its transaction, or refused without one when full.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use shared::event::Severity;
use shared::metrics::Counter;
use shared::net::{Destination, Source};
use sip::transaction::{ClientInput, ServerInput};
use sip::wire::{HeaderName, Host, Malformed, Message, Method, Start, scan};

use crate::b2bua::{INVITER, orphan};
use crate::challenged::Asking;
use crate::core::Core;
use crate::desk::{ALLOW, ALLOW_EVENTS, Reply, write_failure_ack};
use crate::edge::Stop;
use crate::gate::{self, Asked, Gate};
use crate::gruu;
use crate::io::{MeshMessage, Rung};
use crate::mint;
use crate::proved;
use crate::registrar::Registrant;
use crate::steer;
use crate::transactions::{ClientKey, NewServer, ServerKey, ServerMachine};

impl Core {
    /// `steer`: the message may belong to another shard; it moves at most once.
    pub(crate) fn receive(&mut self, from: Source, bytes: &[u8], steer: bool) {
        if steer && !self.lets_in(&from, bytes) {
            return;
        }
        let counters = &mut self.desk.out.counters;
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0 | b' ')) {
            return counters.bump(Counter::SipKeepAlives);
        }
        if steer {
            // One that came over the mesh was counted where it arrived.
            counters.bump(Counter::SipReceived);
            counters.add(Counter::SipBytesReceived, bytes.len() as u64);
        }
        let message = match scan(bytes) {
            Ok(message) => message,
            Err(_) if self.answer_stun(&from, bytes) => return,
            Err(why) => return self.unreadable(&from, why),
        };
        let settings = &self.desk.settings;
        if steer && settings.shards > 1 {
            let owner = steer::owner(&message, settings.shards).unwrap_or(settings.shard);
            if owner != settings.shard {
                let since = self.desk.load.present_since(self.desk.now.mono);
                let message = MeshMessage::Message { from, bytes: bytes.to_vec(), since };
                return self.desk.out.mesh(owner, message);
            }
        }
        if self.sent_onward(&from, &message) {
            return;
        }
        if message.is_request() {
            self.receive_request(from, &message);
        } else {
            self.receive_response(&message);
        }
    }

    /// A phone over UDP may keep its NAT open by STUN (RFC 5626 4.4.2).
    fn answer_stun(&mut self, from: &Source, bytes: &[u8]) -> bool {
        let is_heard = !from.transport.is_reliable()
            && self.desk.snapshot.acl.admits(from.peer.ip())
            && bytes.first() == Some(&0);
        if !is_heard {
            return false;
        }
        let mut answer = Vec::new();
        if !sip::stun::write_answer(bytes, from.peer, &mut answer) {
            return false;
        }
        self.desk.count(Counter::SipKeepAlives);
        self.desk.out.send(from.back(), Rc::new(answer), None);
        true
    }

    fn unreadable(&mut self, from: &Source, why: Malformed) {
        if why.status().is_none() {
            return self.desk.count(Counter::SipNotSip);
        }
        self.desk.count(Counter::SipMalformed);
        let peer = from.peer;
        self.desk.notice(Severity::Warning, "malformed", || format!("from {peer}: {why}"));
    }

    fn receive_request(&mut self, from: Source, request: &Message<'_>) {
        let method = request.method();
        if !self.admits(&from, request) {
            self.desk.security("not_admitted", &from, String::new);
            return self.desk.count(Counter::SipNotAdmitted);
        }
        if method == Method::Ack && self.ends_refusal(&from, request)
            || method == Method::Invite && self.refuses_at_sight(&from, request)
        {
            return;
        }
        if let Err(why) = request.check_request() {
            return self.malformed(&from, request, why);
        }
        let hash = self.desk.transactions.server_hash(request, method);
        let known = self.desk.transactions.server_by_hash(hash);
        if method == Method::Ack {
            return self.receive_ack(known, &from, request);
        }
        if let Some(key) = known {
            self.hear_in(key);
            self.desk.count(Counter::SipRetransmitsIn);
            self.desk.server_input(key, ServerInput::Request);
            return;
        }
        let tag = request.to().ok().and_then(|to| to.tag());
        let in_dialog = tag.is_some();
        // A tag that is not ours saves nobody from being asked who it is.
        if tag.and_then(mint::shard_of_tag).is_none() && method != Method::Cancel {
            if self.is_stopped(&from, request, hash) {
                return;
            }
            if self.sheds(request, hash) {
                return self.refuse_stateless(&from, request, Some(hash), 503);
            }
        }
        let Some(key) = self.new_transaction(&from, request, hash) else {
            return self.refuse_stateless(&from, request, Some(hash), 503);
        };
        if let Some(tag) = unsupported(request, self.desk.settings.timers.session.is_on()) {
            let tag = tag.to_vec();
            self.desk.respond(key, Reply::new(420), |_, _, mut out| {
                out.header("Unsupported", &tag);
                out.end();
            });
            return;
        }
        match method {
            Method::Cancel => self.receive_cancel(key, request),
            Method::Register => self.receive_register(key, &from, request),
            _ if in_dialog => self.receive_in_dialog(key, &from, request),
            Method::Invite => self.receive_invite(key, from, request),
            Method::Message => self.receive_message(key, &from, request),
            Method::Options => self.receive_options(key),
            Method::Refer => self.receive_refer_outside(key, &from, request),
            Method::Subscribe => self.receive_subscribe(key, &from, request),
            _ => self.receive_other(key, &from, request),
        }
    }

    /// Sources that the acl refuses hear nothing, so that a forged one brings nobody an answer. Who
    /// is in a dialog goes on, and so does who takes an INVITE back.
    fn admits(&self, from: &Source, request: &Message<'_>) -> bool {
        if self.desk.snapshot.acl.admits(from.peer.ip()) {
            return true;
        }
        let in_dialog = request.to().ok().and_then(|to| to.tag()).is_some();
        let takes_back = || {
            let hash = self.desk.transactions.server_hash(request, Method::Invite);
            self.desk.transactions.server_by_hash(hash).is_some()
        };
        in_dialog
            || gate::is_of_trunk(&self.desk, from.peer)
            || proved::is_of_trunk(&self.desk, from)
            || (request.method() == Method::Cancel && takes_back())
    }

    fn malformed(&mut self, from: &Source, request: &Message<'_>, why: Malformed) {
        self.desk.count(Counter::SipMalformed);
        let peer = from.peer;
        self.desk.notice(Severity::Warning, "malformed", || format!("from {peer}: {why}"));
        self.probed(from);
        if let Some(status) = why.status()
            && request.method() != Method::Ack
        {
            self.refuse_stateless(from, request, None, status);
        }
    }

    /// Whether a request outside of a dialog ends at the edge; it has got its answer, if any, then.
    pub(crate) fn is_stopped(&mut self, from: &Source, request: &Message<'_>, hash: u128) -> bool {
        let Some(stop) = self.stops(from, request) else { return false };
        if let Stop::Answer(status) = stop {
            self.refuse_stateless(from, request, Some(hash), status);
        }
        true
    }

    fn new_transaction(
        &mut self,
        from: &Source,
        request: &Message<'_>,
        hash: u128,
    ) -> Option<ServerKey> {
        let method = request.method();
        self.desk.count(match method {
            Method::Invite => Counter::RequestsInvite,
            Method::Register => Counter::RequestsRegister,
            _ => Counter::RequestsOther,
        });
        let reliable = from.transport.is_reliable();
        let machine = ServerMachine::new(self.desk.now.mono, self.desk.timers, reliable, method);
        let bytes = self.desk.out.write(|bytes| bytes.extend_from_slice(request.bytes()));
        let reply_to = reply_destination(request, from);
        let new = NewServer { machine, from: *from, reply_to, request: bytes, hash };
        self.desk.transactions.add_server(new)
    }

    fn receive_ack(&mut self, known: Option<ServerKey>, from: &Source, request: &Message<'_>) {
        if let Some(key) = known {
            self.hear_in(key);
            self.desk.server_input(key, ServerInput::Ack);
        }
        // The ACK of a 2xx has a branch of its own and belongs to the dialog (RFC 3261 13.2.2.4).
        let tag = request.to().ok().and_then(|to| to.tag()).and_then(|tag| self.leg_of(tag));
        let Some(parts) = tag else {
            if known.is_some() {
                self.keep_ack(from, request);
            } else {
                self.desk.count(Counter::SipStrays);
            }
            return;
        };
        if !self.in_dialog(parts, request) {
            return self.desk.count(Counter::SipStrays);
        }
        self.desk.heard = self.rung(parts);
        self.with_call(Some(parts.call), |call, desk, _| {
            call.handle_ack(desk, parts.leg, request);
            call.arm(desk);
        });
    }

    /// Whether the whole dialog id of `request` is the one that its To tag points at.
    fn in_dialog(&self, parts: mint::TagParts, request: &Message<'_>) -> bool {
        let Some(leg) = self.calls.find(parts.call).and_then(|call| call.leg(parts.leg)) else {
            return false;
        };
        let tag_of = |address: Result<sip::wire::NameAddr<'_>, Malformed>| {
            address.ok().and_then(|address| address.tag().map(<[u8]>::to_vec)).unwrap_or_default()
        };
        let (local, remote) = (tag_of(request.to()), tag_of(request.from()));
        leg.dialog.matches(request.call_id().unwrap_or_default(), &local, &remote)
    }

    fn rung(&self, parts: mint::TagParts) -> Option<Rung> {
        self.calls.find(parts.call).map(|call| call.rung(parts.leg))
    }

    /// The message is one more of this transaction.
    fn hear_in(&mut self, key: ServerKey) {
        self.desk.heard = self.desk.transactions.servers.find(key).and_then(|server| server.rung);
    }

    /// The message of this input, its repeats and its responses belong to a call.
    pub(crate) fn claim(&mut self, key: ServerKey, rung: Option<Rung>) {
        self.desk.heard = rung;
        if let Some(server) = self.desk.transactions.servers.find_mut(key) {
            server.rung = rung;
        }
    }

    fn receive_in_dialog(&mut self, key: ServerKey, from: &Source, request: &Message<'_>) {
        let tag = request.to().ok().and_then(|to| to.tag());
        match tag.and_then(|tag| self.leg_of(tag)) {
            Some(parts) if self.in_dialog(parts, request) => {
                self.claim(key, self.rung(parts));
                if request.method() == Method::Refer {
                    return self.receive_refer(key, parts, request);
                }
                if let Some(flow) = from.flow {
                    self.flows.insert(flow);
                }
                self.with_call(Some(parts.call), |call, desk, owners| {
                    call.handle_request(desk, owners, parts.leg, key, request, from);
                });
            }
            _ => {
                if tag.is_some_and(|tag| self.receive_in_subscription(key, tag, from, request)) {
                    return;
                }
                // After a restart phones come back with dialogs that were ours.
                if tag.and_then(mint::shard_of_tag).is_none() {
                    self.probed(from);
                }
                self.desk.refuse(key, 481);
            }
        }
    }

    /// RFC 3261 9.2.
    fn receive_cancel(&mut self, key: ServerKey, request: &Message<'_>) {
        let hash = self.desk.transactions.server_hash(request, Method::Invite);
        let invite_key = self.desk.transactions.server_by_hash(hash);
        let invite = invite_key.and_then(|key| self.desk.transactions.servers.find(key));
        let (Some(invite_key), Some(invite)) = (invite_key, invite) else {
            return self.desk.refuse(key, 481);
        };
        let (call, rung) = (invite.call, invite.rung);
        self.claim(key, rung);
        // Of its own leg: a newcomer must not learn the tag of the caller.
        let own = call.and_then(|key| self.calls.find(key)?.leg_of_request(request));
        let leg = own.and_then(|leg| self.calls.find(call?)?.leg(leg));
        let tag = leg.map(|leg| leg.dialog.local_tag.clone());
        let answer = Reply { status: 200, reason: b"", to_tag: tag.as_deref() };
        self.desk.respond(key, answer, |_, _, out| out.end());
        if !self.cancel_waiting(invite_key) {
            self.with_call(call, |call, desk, _| {
                if own == Some(INVITER) {
                    call.hear_cause(request);
                    call.cancelled_by_caller(desk);
                } else {
                    // One that was refused or has its place already: there is nothing to take back.
                    call.newcomer_cancelled(desk, invite_key);
                }
            });
        }
    }

    fn receive_register(&mut self, key: ServerKey, from: &Source, request: &Message<'_>) {
        match gate::authenticate(&mut self.desk, request, Asked::Registration) {
            Err(user) => self.ask_user(key, from, request, Asked::Registration, user),
            Ok(gate) => self.registration(key, from, request, gate, None),
        }
    }

    /// A REGISTER whose sender is decided about. `takes_guests`: what a backend said, if one knows it.
    pub(crate) fn registration(
        &mut self,
        key: ServerKey,
        from: &Source,
        request: &Message<'_>,
        gate: Gate,
        takes_guests: Option<bool>,
    ) {
        self.weigh(from, request, Asked::Registration, &gate);
        let user = match gate {
            Gate::Challenge { stale } => {
                gate::challenge(&mut self.desk, key, Asked::Registration, stale);
                return;
            }
            Gate::Refused(status) => return self.desk.refuse(key, status),
            Gate::Passed(user) => user,
        };
        let aor = request.to().ok().and_then(|to| to.parsed_uri().ok());
        let own = aor.is_some_and(|uri| *uri.user_unescaped() == *user.as_bytes());
        if !own {
            self.desk.count(Counter::RegistrationsRefused);
            self.other_identity(from, &user);
            return self.desk.refuse(key, 403); // another one's AOR (RFC 3261 10.3 step 4)
        }
        if let Some(flow) = from.flow {
            self.flows.insert(flow);
        }
        let listed =
            || self.desk.snapshot.users.get(&user).is_some_and(|user| user.allow_guest_calls);
        let takes_guests = takes_guests.unwrap_or_else(listed);
        let registrant = Registrant { name: &user, takes_guests };
        self.registrar.register(&mut self.desk, key, request, from, registrant);
    }

    fn receive_options(&mut self, key: ServerKey) {
        if self.draining {
            return gate::refuse_overload(&mut self.desk, key);
        }
        self.desk.respond(key, Reply::new(200), |desk, _, mut out| {
            out.header("Allow", ALLOW).header("Accept", b"application/sdp");
            let timers = desk.settings.timers.session.is_on();
            let supported = if timers {
                "100rel, path, outbound, gruu, replaces, timer"
            } else {
                "100rel, path, outbound, gruu, replaces"
            };
            out.header("Allow-Events", ALLOW_EVENTS);
            out.header("Accept-Encoding", b"identity").header("Supported", supported.as_bytes());
            out.end();
        });
    }

    fn receive_other(&mut self, key: ServerKey, from: &Source, request: &Message<'_>) {
        self.probed(from);
        match request.method() {
            Method::Other => self.desk.refuse(key, 501),
            // Only a dialog gives these a meaning (RFC 3261 12.2.2).
            Method::Bye | Method::Info | Method::Update | Method::Prack => {
                self.desk.refuse(key, 481);
            }
            _ => {
                self.desk.respond(key, Reply::new(405), |_, _, mut out| {
                    out.header("Allow", ALLOW);
                    out.end();
                });
            }
        }
    }

    fn receive_response(&mut self, response: &Message<'_>) {
        if let Err(_why) = response.check_response() {
            return self.desk.count(Counter::SipMalformed);
        }
        let branch = response.via().ok().and_then(|via| via.branch).and_then(mint::parse_branch);
        let Some((key, random)) = branch else { return self.desk.count(Counter::SipStrays) };
        let Some(client) = self.desk.transactions.clients.find(key) else {
            return self.desk.count(Counter::SipStrays);
        };
        if client.random != random {
            return self.desk.count(Counter::SipStrays);
        }
        let method = response.method();
        let key = if method == client.method {
            key
        } else if let (Method::Cancel, Some(cancel)) = (method, client.cancel) {
            cancel
        } else {
            return self.desk.count(Counter::SipStrays);
        };
        self.response_to(key, response);
    }

    fn response_to(&mut self, key: ClientKey, response: &Message<'_>) {
        let status = response.status().unwrap_or_default();
        let Some(client) = self.desk.transactions.clients.find_mut(key) else { return };
        self.desk.heard = client.owner.rung();
        let asked = matches!(status, 401 | 407).then(|| Asking::of(client));
        if client.method == Method::Invite && status >= 300 {
            let request = Rc::clone(&client.request);
            let to = client.to;
            let ack = self.desk.out.write(|bytes| write_failure_ack(bytes, &request, response));
            if let Some(client) = self.desk.transactions.clients.find_mut(key) {
                client.ack = Some((to, ack));
            }
        }
        let mut told = Vec::new();
        self.desk.client_input(key, ClientInput::Response(status), &mut told);
        if let Some(asked) = asked.filter(|_| !told.is_empty())
            && self.answer_challenge(key, &asked, response)
        {
            return; // whoever asked hears what the next answer says
        }
        self.tell(told, Some(response));
    }

    /// A 2xx to an INVITE whose call is gone: the ACK again, or ACK and BYE.
    pub(crate) fn late_answer(&mut self, client: ClientKey, response: &Message<'_>) {
        let success = response.status().is_some_and(|status| (200..300).contains(&status));
        if !success || response.method() != Method::Invite {
            return;
        }
        let Some(found) = self.desk.transactions.clients.find(client) else { return };
        let rung = found.owner.rung();
        let tag = response.to().ok().and_then(|to| to.tag()).unwrap_or_default();
        let acked = found.ack.clone().filter(|(_, ack)| {
            scan(ack).is_ok_and(|ack| ack.to().is_ok_and(|to| to.tag() == Some(tag)))
        });
        match acked {
            Some((to, ack)) => self.desk.out.send(to, ack, rung),
            None => orphan::hang_up(&mut self.desk, client, response),
        }
    }
}

/// Where responses go: the connection, or for UDP what RFC 3261 18.2.2 and RFC 3581 4 say. A Via
/// that names another host than the packet came from sits behind a NAT, `rport` or not.
pub(crate) fn reply_destination(request: &Message<'_>, from: &Source) -> Destination {
    let back = from.back();
    if from.transport.is_reliable() {
        return back;
    }
    let Ok(via) = request.via() else { return back };
    let ip = match via.host {
        Host::V4(ip) => Some(IpAddr::V4(ip)),
        Host::V6(ip) => Some(IpAddr::V6(ip)),
        Host::Name(_) => None,
    };
    let port = via.port.unwrap_or(5060);
    if via.rport.is_some() || port == 0 || ip.is_none_or(|ip| ip != from.peer.ip()) {
        return back;
    }
    Destination { peer: SocketAddr::new(from.peer.ip(), port), ..back }
}

/// The first option tag that we would have to understand and do not (RFC 3261 8.2.2.3).
fn unsupported<'a>(request: &Message<'a>, timers: bool) -> Option<&'a [u8]> {
    if request.method() == Method::Cancel {
        return None;
    }
    let register = request.method() == Method::Register;
    let invites = request.method() == Method::Invite;
    let fine = |tag: &&[u8]| {
        let of_registrar = [&b"path"[..], b"outbound", gruu::OPTION]
            .iter()
            .any(|known| tag.eq_ignore_ascii_case(known));
        let of_call = tag.eq_ignore_ascii_case(b"replaces") || tag.eq_ignore_ascii_case(b"100rel");
        invites && of_call
            || register && of_registrar
            || timers && tag.eq_ignore_ascii_case(b"timer")
    };
    let required =
        request.values(HeaderName::Require).chain(request.values(HeaderName::ProxyRequire));
    debug_assert!(matches!(request.start(), Start::Request { .. }));
    required.into_iter().find(|tag| !tag.is_empty() && !fine(tag))
}
