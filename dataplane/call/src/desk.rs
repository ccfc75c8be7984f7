//! The desk that every decision works at: transactions, timers, names, outputs and the time of this turn.
//! Owns:  the transaction table, the wheel, the mint, the outbox, settings, the served snapshot, and
//!        what is known of its trunks.
//! Gives: `request` and `respond`, the only ways a message of ours leaves; timers by key.
//! Never: knows what a call or a binding is.
//! Holds: every message that leaves was counted; every transaction is armed while it has a deadline.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use media::ports::Ports;
use shared::command::Intake;
use shared::event::Severity;
use shared::limits::NONCES_MAX;
use shared::metrics::Counter;
use shared::net::{Destination, Transport};
use shared::settings::ShardSettings;
use shared::snapshot::Snapshot;
use shared::time::{Instant, Now};
use sip::auth::{NonceCounts, Nonces, Tries};
use sip::transaction::{ClientInput, ClientOutput, Outcome, ServerInput, ServerOutput, Timers};
use sip::wire::{HeaderName, Message, Method, Writer, reason_phrase, reply, scan};

use crate::b2bua::secure::is_sips;
use crate::edge::Edge;
use crate::faces::Faces;
use crate::gruu::Gruus;
use crate::io::Rung;
use crate::mint::{self, LegName, Mint};
use crate::outbox::Outbox;
use crate::overload::Load;
use crate::proved::Proved;
use crate::slots::Key;
use crate::stateless;
use crate::toll::Ledger;
use crate::transactions::{Client, ClientKey, ClientMachine, Owner, ServerKey, Transactions};
use crate::trunks::Trunks;
use crate::wheel::Wheel;

/// How long a digest nonce is good for; phones are told `stale=true` after that.
const NONCE_LIFETIME_S: u64 = 300;
/// What we say we can do (RFC 3261 20.5).
pub(crate) const ALLOW: &[u8] =
    b"INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, INFO, UPDATE, MESSAGE, NOTIFY, REFER, REGISTER, \
      SUBSCRIBE";
/// Whom we notify of what (RFC 6665 8.2.1); `refer` by a REFER only.
pub(crate) const ALLOW_EVENTS: &[u8] = b"dialog, message-summary, refer";

/// What a wheel entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerKey {
    Aor(Key),
    Call(Key),
    Client(ClientKey),
    Server(ServerKey),
    /// An `AskBindings` that another shard owes an answer to.
    Ask(Key),
    /// The next share of standing calls that go into a new segment of the journal.
    Restate,
    /// A decision that the control plane owes.
    Decision(Key),
    /// A registration with a carrier is to be sent, renewed or given up.
    Enrolment(Key),
    /// A leg that went to another shard and is no more: nothing of it is repeated any longer.
    Moved(LegName),
    /// The look for calls of watched users goes on.
    Look,
    /// Who was to take a text has not.
    Page(Key),
    /// A trunk is to be asked if it is there, or owes the answer.
    Ping(Key),
    /// Somebody is to be told, or its subscription is over.
    Subscription(Key),
    /// The next watchers of a user are told.
    Telling,
}

/// What a client transaction has to say to whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// No final response will come: 408 for silence, 503 for a transport that failed.
    Failed(u16),
    Response,
}

/// A response to build: the status, and what goes into it beyond what every response has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'r> {
    pub status: u16,
    /// Empty: the standard phrase.
    pub reason: &'r [u8],
    pub to_tag: Option<&'r str>,
}

impl Reply<'_> {
    pub(crate) const fn new(status: u16) -> Self {
        Self { status, reason: b"", to_tag: None }
    }
}

#[derive(Debug)]
pub(crate) struct Desk {
    pub now: Now,
    pub settings: Arc<ShardSettings>,
    pub snapshot: Arc<Snapshot>,
    pub transactions: Transactions,
    pub wheel: Wheel<TimerKey>,
    pub mint: Mint,
    pub out: Outbox,
    pub ports: Ports,
    pub nonces: Nonces,
    /// Of the nonces of carriers that ask for our credentials.
    pub nonce_counts: NonceCounts,
    pub edge: Edge,
    pub load: Load,
    pub timers: Timers,
    pub trunks: Trunks,
    pub faces: Faces,
    pub gruus: Gruus,
    pub toll: Ledger,
    pub proved: Proved,
    pub intake: Intake,
    /// The call that the message of this input belongs to.
    pub heard: Option<Rung>,
    branch: String,
    /// The message that is being written is about a `sips` address.
    is_sips: bool,
}

impl Desk {
    pub(crate) fn new(now: Now, settings: Arc<ShardSettings>, snapshot: Arc<Snapshot>) -> Self {
        let mut mint = Mint::new(settings.shard, settings.random_seed);
        let secrets = [mint.random(), mint.random()];
        let lifetime = std::time::Duration::from_secs(NONCE_LIFETIME_S);
        const { assert!(NONCES_MAX > 0) };
        Self {
            now,
            transactions: Transactions::new(secrets),
            wheel: Wheel::new(now.mono),
            out: Outbox::new(settings.shard),
            ports: Ports::new(settings.rtp_ports, mint.random()),
            edge: Edge::new([mint.random(), mint.random()]),
            load: Load::default(),
            nonces: Nonces::new(settings.nonce_key, settings.shard, lifetime),
            nonce_counts: NonceCounts::default(),
            timers: Timers {
                t1: settings.timers.t1,
                t2: settings.timers.t2,
                t4: settings.timers.t4,
            },
            trunks: Trunks::default(),
            faces: Faces::of(&snapshot.trunks),
            gruus: Gruus::new(settings.nonce_key),
            toll: Ledger::default(),
            proved: Proved::default(),
            intake: Intake::ALL,
            heard: None,
            branch: String::new(),
            is_sips: false,
            mint,
            settings,
            snapshot,
        }
    }

    pub(crate) fn count(&mut self, counter: Counter) {
        self.out.counters.bump(counter);
    }

    pub(crate) fn notice(
        &mut self,
        severity: Severity,
        code: &'static str,
        detail: impl FnOnce() -> String,
    ) {
        self.out.notice(self.now.mono, severity, code, detail);
    }

    /// The host and port that we write into Via and Contact for messages over `way`.
    pub(crate) fn advertised(&self, way: &Destination) -> SocketAddr {
        let port = match way.transport {
            // To a WebSocket client only its own flow leads, which is one of the listener's.
            Transport::Udp | Transport::Ws | Transport::Wss => way.local.port(),
            // A flow's local port is the listener's; an outgoing flow has an ephemeral one, where
            // nobody could reach us (the listener's is the one to tell).
            Transport::Tls => {
                self.settings.tls.first().map_or_else(|| way.local.port(), SocketAddr::port)
            }
            Transport::Tcp => {
                self.settings.tcp.first().map_or_else(|| way.local.port(), SocketAddr::port)
            }
        };
        SocketAddr::new(self.advertised_ip(way.peer.ip(), way.local.ip()), port)
    }

    /// `external_ip` of the same family, where one is configured: of the trunk that `peer` is, else
    /// everybody's.
    pub(crate) fn advertised_ip(&self, peer: IpAddr, local: IpAddr) -> IpAddr {
        if let Some(own) = self.faces.towards(&self.snapshot.trunks, peer, local) {
            return own;
        }
        let external = self.settings.external_ip.iter().find(|ip| ip.is_ipv4() == local.is_ipv4());
        external.copied().unwrap_or(local)
    }

    /// `<sip:1.2.3.4:5060;transport=tcp>`
    pub(crate) fn write_contact(&self, out: &mut Writer<'_>, way: &Destination) {
        let address = self.advertised(way);
        match way.transport {
            // Where the Request-URI is a `sips` one, Contact has to be one (RFC 3261 8.1.1.8, 12.1.1).
            Transport::Tls if self.is_sips => {
                out.header_fmt("Contact", format_args!("<sips:{address}>"))
            }
            Transport::Wss if self.is_sips => {
                out.header_fmt("Contact", format_args!("<sips:{address};transport=ws>"))
            }
            Transport::Udp => out.header_fmt("Contact", format_args!("<sip:{address}>")),
            // `wss` is a word of Via only: in a URI both are `ws` (RFC 7118 5.2).
            Transport::Ws | Transport::Wss => {
                out.header_fmt("Contact", format_args!("<sip:{address};transport=ws>"))
            }
            other => out.header_fmt(
                "Contact",
                format_args!("<sip:{address};transport={}>", other.uri_word()),
            ),
        };
    }

    /// Sends a request in a new client transaction. `fill` writes everything after Via and
    /// Max-Forwards, body included. `None`: the table is full, nothing was sent.
    pub(crate) fn request(
        &mut self,
        method: Method,
        uri: &[u8],
        to: Destination,
        max_forwards: u8,
        owner: Owner,
        fill: impl FnOnce(&Self, Writer<'_>),
    ) -> Option<ClientKey> {
        let Some(key) = self.transactions.clients.next_key() else {
            self.count(Counter::OverloadRefused);
            return None;
        };
        self.is_sips = is_sips(uri);
        self.branch.clear();
        let mut branch = std::mem::take(&mut self.branch);
        let random = self.mint.write_branch(&mut branch, key);
        let mut buffer = self.out.buffer();
        let bytes = Rc::get_mut(&mut buffer).expect("a fresh buffer has one owner");
        let mut out = Writer::request(bytes, method.as_str().as_bytes(), uri);
        self.write_via(&mut out, &to, &branch);
        out.header_fmt("Max-Forwards", format_args!("{max_forwards}"));
        fill(self, out);
        self.branch = branch;
        let machine =
            ClientMachine::new(self.now.mono, self.timers, to.transport.is_reliable(), method);
        let client = Client {
            machine,
            method,
            to,
            request: buffer,
            random,
            cancel: None,
            ack: None,
            hung_up: Vec::new(),
            last_cseq: 0,
            owner,
            armed: None,
            sends: 0,
            account: None,
            tries: Tries::default(),
        };
        let key = self.transactions.clients.insert(client).expect("next_key said there is room");
        let told = self.drain_client(key, &mut Vec::new());
        debug_assert!(told.is_none(), "a new transaction only sends");
        Some(key)
    }

    /// ACK of a 2xx: its own branch, no transaction (RFC 3261 13.2.2.4).
    pub(crate) fn send_ack(
        &mut self,
        uri: &[u8],
        to: Destination,
        rung: Option<Rung>,
        fill: impl FnOnce(Writer<'_>),
    ) -> Rc<Vec<u8>> {
        let mut branch = String::new();
        self.mint.write_branch(&mut branch, Key { slot: u32::MAX, generation: 0 });
        let mut buffer = self.out.buffer();
        let bytes = Rc::get_mut(&mut buffer).expect("a fresh buffer has one owner");
        let mut out = Writer::request(bytes, b"ACK", uri);
        self.write_via(&mut out, &to, &branch);
        out.header("Max-Forwards", b"70");
        fill(out);
        self.out.send(to, Rc::clone(&buffer), rung);
        buffer
    }

    fn write_via(&self, out: &mut Writer<'_>, to: &Destination, branch: &str) {
        let address = self.advertised(to);
        let word = to.transport.via_word();
        out.header_fmt("Via", format_args!("SIP/2.0/{word} {address};branch={branch};rport"));
    }

    /// CANCEL of an INVITE of ours: same Request-URI, Via, From, To, Call-ID (RFC 3261 9.1).
    pub(crate) fn cancel(&mut self, invite: ClientKey, reason: Option<&str>) {
        let Some(client) = self.transactions.clients.find(invite) else { return };
        let (to, request, rung) = (client.to, Rc::clone(&client.request), client.owner.rung());
        let Some(key) = self.transactions.clients.next_key() else {
            self.count(Counter::OverloadRefused);
            return;
        };
        let buffer = self.out.write(|bytes| write_cancel(bytes, &request, reason));
        let machine = ClientMachine::new(
            self.now.mono,
            self.timers,
            to.transport.is_reliable(),
            Method::Cancel,
        );
        let client = Client {
            machine,
            method: Method::Cancel,
            to,
            request: buffer,
            random: 0,
            cancel: None,
            ack: None,
            hung_up: Vec::new(),
            last_cseq: 0,
            owner: Owner::Nobody(rung),
            armed: None,
            sends: 0,
            account: None,
            tries: Tries::default(),
        };
        self.transactions.clients.insert(client).expect("next_key said there is room");
        if let Some(invite) = self.transactions.clients.find_mut(invite) {
            invite.cancel = Some(key);
        }
        self.drain_client(key, &mut Vec::new());
    }

    /// Answers in a server transaction; `fill` adds headers and the body. Silent when it is gone.
    pub(crate) fn respond(
        &mut self,
        key: ServerKey,
        answer: Reply<'_>,
        fill: impl FnOnce(&Self, &Message<'_>, Writer<'_>),
    ) -> Option<Rc<Vec<u8>>> {
        let server = self.transactions.servers.find(key)?;
        let (held, peer, hash) = (Rc::clone(&server.request), server.from.peer, server.hash);
        let request = scan(&held).ok()?;
        self.is_sips =
            matches!(request.start(), sip::wire::Start::Request { uri, .. } if is_sips(uri));
        let mut buffer = self.out.buffer();
        let bytes = Rc::get_mut(&mut buffer).expect("a fresh buffer has one owner");
        let mut stray = None;
        let tag = match answer.to_tag {
            Some(tag) => Some(tag.as_bytes()),
            None if answer.status > 100 => {
                Some(stray.insert(mint::refusal_tag(self.settings.shard, hash)).as_slice())
            }
            None => None,
        };
        let mut out = reply(bytes, &request, answer.status, tag, peer);
        out.header("Server", self.settings.product.as_bytes());
        fill(self, &request, out);
        if !answer.reason.is_empty() {
            replace_reason(bytes, answer.status, answer.reason);
        }
        let server = self.transactions.servers.find(key)?;
        if stateless::is_forgotten(server, &request, answer.status) {
            self.answer_once(key, answer.status, Rc::clone(&buffer));
            self.out.recycle(held);
        } else {
            self.respond_with(key, answer.status, Rc::clone(&buffer));
        }
        Some(buffer)
    }

    /// Answers with nothing but a status.
    pub(crate) fn refuse(&mut self, key: ServerKey, status: u16) {
        self.respond(key, Reply::new(status), |_, _, out| out.end());
    }

    fn respond_with(&mut self, key: ServerKey, status: u16, bytes: Rc<Vec<u8>>) {
        let Some(server) = self.transactions.servers.find_mut(key) else { return };
        server.response = Some(bytes);
        server.machine.handle_input(self.now.mono, ServerInput::Respond(status));
        // Nothing is built from the request after its final response: 32 s of lingering are for
        // the response alone.
        let request = if status >= 200 { Some(std::mem::take(&mut server.request)) } else { None };
        if let Some(request) = request {
            self.out.recycle(request);
        }
        self.count(response_class(status));
        self.drain_server(key, false);
    }

    /// Runs a client machine's outputs. What is to be told goes to `told` with the owner.
    pub(crate) fn client_input(
        &mut self,
        key: ClientKey,
        input: ClientInput,
        told: &mut Vec<(Owner, ClientKey, Told)>,
    ) {
        if let Some(client) = self.transactions.clients.find_mut(key) {
            client.machine.handle_input(self.now.mono, input);
            self.drain_client(key, told);
        }
    }

    fn drain_client(
        &mut self,
        key: ClientKey,
        told: &mut Vec<(Owner, ClientKey, Told)>,
    ) -> Option<Outcome> {
        let mut end = None;
        while let Some(client) = self.transactions.clients.find_mut(key) {
            let Some(output) = client.machine.poll_output() else { break };
            let owner = client.owner;
            match output {
                ClientOutput::Send => {
                    client.sends += 1;
                    let (to, bytes) = (client.to, Rc::clone(&client.request));
                    if client.sends > 1 {
                        self.out.counters.bump(Counter::SipRetransmitsOut);
                    }
                    self.out.send(to, bytes, owner.rung());
                }
                ClientOutput::SendAck => {
                    if let Some((to, ack)) = client.ack.clone() {
                        self.out.send(to, ack, owner.rung());
                    }
                }
                ClientOutput::Deliver(status) => {
                    told.push((owner, key, Told::Response));
                    if status >= 200 && client.method != Method::Invite {
                        let request = std::mem::take(&mut client.request);
                        self.out.recycle(request);
                    }
                }
                ClientOutput::Finished(outcome) => {
                    match outcome {
                        Outcome::Answered => {}
                        Outcome::TimedOut => told.push((owner, key, Told::Failed(408))),
                        Outcome::TransportFailed => told.push((owner, key, Told::Failed(503))),
                    }
                    self.drop_client(key);
                    end = Some(outcome);
                }
            }
        }
        self.arm_client(key);
        end
    }

    /// Forgets a client transaction whose answer nobody waits for any more.
    pub(crate) fn drop_client(&mut self, key: ClientKey) {
        if let Some(client) = self.transactions.clients.remove(key) {
            self.out.recycle(client.request);
            if let Some((_, ack)) = client.ack {
                self.out.recycle(ack);
            }
            // Responses to its CANCEL are found through it: without it they would be strays, and
            // the CANCEL would be repeated for nothing.
            if let Some(cancel) = client.cancel {
                self.drop_client(cancel);
            }
        }
    }

    /// Runs a server machine's outputs; returns the outcome when it finished.
    pub(crate) fn server_input(&mut self, key: ServerKey, input: ServerInput) -> Option<Outcome> {
        let server = self.transactions.servers.find_mut(key)?;
        server.machine.handle_input(self.now.mono, input);
        self.drain_server(key, true)
    }

    fn drain_server(&mut self, key: ServerKey, repeats: bool) -> Option<Outcome> {
        let mut end = None;
        while let Some(server) = self.transactions.servers.find_mut(key) {
            let Some(output) = server.machine.poll_output() else { break };
            match output {
                ServerOutput::Send => {
                    if let Some(bytes) = server.response.clone() {
                        let (to, rung) = (server.reply_to, server.rung);
                        if repeats {
                            self.out.counters.bump(Counter::SipRetransmitsOut);
                        }
                        self.out.send(to, bytes, rung);
                    }
                }
                ServerOutput::Finished(outcome) => {
                    if let Some(server) = self.transactions.remove_server(key) {
                        self.out.recycle(server.request);
                        if let Some(response) = server.response {
                            self.out.recycle(response);
                        }
                    }
                    end = Some(outcome);
                }
            }
        }
        self.arm_server(key);
        end
    }

    fn arm_client(&mut self, key: ClientKey) {
        let Some(client) = self.transactions.clients.find_mut(key) else { return };
        let Some(deadline) = client.machine.deadline() else { return };
        if client.armed.is_none_or(|armed| deadline < armed) {
            client.armed = Some(deadline);
            self.wheel.arm(deadline, TimerKey::Client(key));
        }
    }

    fn arm_server(&mut self, key: ServerKey) {
        let Some(server) = self.transactions.servers.find_mut(key) else { return };
        let Some(deadline) = server.machine.deadline() else { return };
        if server.armed.is_none_or(|armed| deadline < armed) {
            server.armed = Some(deadline);
            self.wheel.arm(deadline, TimerKey::Server(key));
        }
    }

    /// A wheel entry of a client transaction fired: it may be early, then it is armed again.
    pub(crate) fn client_timer(
        &mut self,
        key: ClientKey,
        told: &mut Vec<(Owner, ClientKey, Told)>,
    ) {
        let Some(client) = self.transactions.clients.find_mut(key) else { return };
        client.armed = None;
        if client.machine.deadline().is_some_and(|deadline| deadline <= self.now.mono) {
            self.client_input(key, ClientInput::Timeout, told);
        } else {
            self.arm_client(key);
        }
    }

    /// The same for a server transaction.
    pub(crate) fn server_timer(&mut self, key: ServerKey) -> Option<Outcome> {
        let server = self.transactions.servers.find_mut(key)?;
        server.armed = None;
        if server.machine.deadline().is_some_and(|deadline| deadline <= self.now.mono) {
            self.server_input(key, ServerInput::Timeout)
        } else {
            self.arm_server(key);
            None
        }
    }

    pub(crate) fn arm_call(&mut self, key: Key, at: Instant) {
        self.wheel.arm(at, TimerKey::Call(key));
    }
}

/// RFC 3261 9.1, from the bytes of the INVITE.
fn write_cancel(bytes: &mut Vec<u8>, invite: &[u8], reason: Option<&str>) {
    let invite = scan(invite).expect("we wrote this INVITE");
    let sip::wire::Start::Request { uri, .. } = invite.start() else {
        unreachable!("an INVITE is a request")
    };
    let mut out = Writer::request(bytes, b"CANCEL", uri);
    for name in [
        HeaderName::Via,
        HeaderName::MaxForwards,
        HeaderName::Route,
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
    ] {
        out.copy(&invite, name);
    }
    let number = invite.cseq().map_or(0, |cseq| cseq.number);
    out.header_fmt("CSeq", format_args!("{number} CANCEL"));
    if let Some(reason) = reason {
        out.header("Reason", reason.as_bytes());
    }
    out.end();
}

/// ACK of a 300-699: the INVITE's own branch, the To of the response (RFC 3261 17.1.1.3).
pub(crate) fn write_failure_ack(bytes: &mut Vec<u8>, invite: &[u8], response: &Message<'_>) {
    let invite = scan(invite).expect("we wrote this INVITE");
    let sip::wire::Start::Request { uri, .. } = invite.start() else {
        unreachable!("an INVITE is a request")
    };
    let mut out = Writer::request(bytes, b"ACK", uri);
    out.copy(&invite, HeaderName::Via);
    out.copy(&invite, HeaderName::MaxForwards);
    out.copy(&invite, HeaderName::Route);
    out.copy(&invite, HeaderName::From);
    out.copy(response, HeaderName::To);
    out.copy(&invite, HeaderName::CallId);
    let number = invite.cseq().map_or(0, |cseq| cseq.number);
    out.header_fmt("CSeq", format_args!("{number} ACK"));
    out.end();
}

/// Puts the peer's own reason phrase into the status line of a finished message.
fn replace_reason(bytes: &mut Vec<u8>, status: u16, reason: &[u8]) {
    let start = b"SIP/2.0 200 ".len();
    let end = start + reason_phrase(status).len();
    let clean = reason.iter().map(|&byte| if byte < b' ' || byte == 0x7f { b' ' } else { byte });
    bytes.splice(start..end, clean.take(120));
}

pub(crate) const fn response_class(status: u16) -> Counter {
    match status {
        0..=199 => Counter::Responses1xx,
        200..=299 => Counter::Responses2xx,
        300..=399 => Counter::Responses3xx,
        400..=499 => Counter::Responses4xx,
        500..=599 => Counter::Responses5xx,
        _ => Counter::Responses6xx,
    }
}
