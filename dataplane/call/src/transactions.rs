//! The transaction table of a shard: every client and server transaction with its bytes (RFC 3261 17).
//! Owns:  the machines, the stored request or response that they send again, who asked.
//! Gives: look-up by branch (ours: by slot; a peer's: by a keyed 128-bit hash).
//! Never: looks inside a body, decides about a call.
//! Holds: a finished transaction leaves the table at once; its timers then fire into nothing.

use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use shared::account::Account;
use shared::limits::TRANSACTIONS_PER_SHARD_MAX;
use shared::net::{Destination, Source};
use shared::time::Instant;
use sip::auth::Tries;
use sip::transaction::{
    ClientInput, ClientOutput, InviteClient, InviteServer, NonInviteClient, NonInviteServer,
    ServerInput, ServerOutput, Timers,
};
use sip::wire::{HeaderName, Message, Method};

use crate::io::Rung;
use crate::slots::{Key, Slots};

/// RFC 3261 8.1.1.7; a branch that is nothing but this names no transaction.
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

pub(crate) type ClientKey = Key;
pub(crate) type ServerKey = Key;

/// Who asked, and gets the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Leg {
        call: Key,
        leg: u8,
        asks: Asks,
        rung: Rung,
    },
    /// Our registration with a carrier (`enrolment`).
    Enrolment(Key),
    /// The call does not wait for the answer; it belongs there nevertheless.
    Nobody(Option<Rung>),
    /// A text on its way (`message`).
    Page(Key),
    /// The watch over a trunk (`health`).
    Ping(Key),
    /// Somebody is told what it subscribed to (`notifier`).
    Subscription(Key),
}

impl Owner {
    pub(crate) const fn rung(self) -> Option<Rung> {
        match self {
            Self::Leg { rung, .. } => Some(rung),
            Self::Nobody(rung) => rung,
            Self::Enrolment(_) | Self::Page(_) | Self::Ping(_) | Self::Subscription(_) => None,
        }
    }
}

/// What a leg asked with this transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// A re-INVITE of ours that tells the leg what its new peer said.
    Align,
    /// A key by INFO.
    Key,
    /// The INVITE that creates the leg.
    Invite,
    /// A provisional response to be acknowledged: nobody waits for what becomes of it.
    Prack,
    /// A session refresh of ours.
    Refresh,
    /// A request of the other leg, passed on: exchange number.
    Relayed(u32),
}

#[derive(Debug)]
pub(crate) struct Client {
    pub machine: ClientMachine,
    pub method: Method,
    pub to: Destination,
    pub request: Rc<Vec<u8>>,
    /// The random part of its branch.
    pub random: u64,
    /// The CANCEL of this INVITE: it has the same branch.
    pub cancel: Option<ClientKey>,
    /// ACK of the last final response, sent again when that is repeated.
    pub ack: Option<(Destination, Rc<Vec<u8>>)>,
    /// To tags of unwanted 2xx that were already hung up (one per fork).
    pub hung_up: Vec<Vec<u8>>,
    /// The highest number that a PRACK of this INVITE has taken; 0 without one.
    pub last_cseq: u32,
    pub owner: Owner,
    /// The earliest wheel entry that stands for this transaction.
    pub armed: Option<Instant>,
    pub sends: u32,
    /// What a challenge to it is answered with, where its owner does not tell.
    pub account: Option<Arc<Account>>,
    pub tries: Tries,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub machine: ServerMachine,
    pub from: Source,
    /// Where responses go (RFC 3261 18.2.2, RFC 3581).
    pub reply_to: Destination,
    /// The request, as long as a response may still be built from it.
    pub request: Rc<Vec<u8>>,
    pub response: Option<Rc<Vec<u8>>>,
    pub call: Option<Key>,
    /// The call that its messages belong to.
    pub rung: Option<Rung>,
    /// The question about its sender, while it waits for the answer.
    pub decision: Option<Key>,
    pub armed: Option<Instant>,
    pub hash: u128,
}

#[derive(Debug)]
pub(crate) enum ClientMachine {
    Invite(InviteClient),
    NonInvite(NonInviteClient),
}

impl ClientMachine {
    pub(crate) fn new(now: Instant, timers: Timers, reliable: bool, method: Method) -> Self {
        if method == Method::Invite {
            Self::Invite(InviteClient::new(now, timers, reliable))
        } else {
            Self::NonInvite(NonInviteClient::new(now, timers, reliable))
        }
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: ClientInput) {
        match self {
            Self::Invite(machine) => machine.handle_input(now, input),
            Self::NonInvite(machine) => machine.handle_input(now, input),
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<ClientOutput> {
        match self {
            Self::Invite(machine) => machine.poll_output(),
            Self::NonInvite(machine) => machine.poll_output(),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.deadline(),
            Self::NonInvite(machine) => machine.deadline(),
        }
    }
}

#[derive(Debug)]
pub(crate) enum ServerMachine {
    Invite(InviteServer),
    NonInvite(NonInviteServer),
}

impl ServerMachine {
    pub(crate) fn new(now: Instant, timers: Timers, reliable: bool, method: Method) -> Self {
        if method == Method::Invite {
            Self::Invite(InviteServer::new(now, timers, reliable))
        } else {
            Self::NonInvite(NonInviteServer::new(now, timers, reliable))
        }
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: ServerInput) {
        match self {
            Self::Invite(machine) => machine.handle_input(now, input),
            Self::NonInvite(machine) => machine.handle_input(now, input),
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<ServerOutput> {
        match self {
            Self::Invite(machine) => machine.poll_output(),
            Self::NonInvite(machine) => machine.poll_output(),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.deadline(),
            Self::NonInvite(machine) => machine.deadline(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Transactions {
    pub clients: Slots<Client>,
    pub servers: Slots<Server>,
    by_hash: FxHashMap<u128, ServerKey>,
    secrets: [u64; 2],
}

/// A server transaction that does not exist yet.
#[derive(Debug)]
pub(crate) struct NewServer {
    pub machine: ServerMachine,
    pub from: Source,
    pub reply_to: Destination,
    pub request: Rc<Vec<u8>>,
    pub hash: u128,
}

impl Transactions {
    pub(crate) fn new(secrets: [u64; 2]) -> Self {
        Self {
            clients: Slots::new(TRANSACTIONS_PER_SHARD_MAX),
            servers: Slots::new(TRANSACTIONS_PER_SHARD_MAX),
            by_hash: FxHashMap::default(),
            secrets,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    /// The server transaction that `hash` (see `server_hash`) belongs to.
    pub(crate) fn server_by_hash(&self, hash: u128) -> Option<ServerKey> {
        self.by_hash.get(&hash).copied()
    }

    pub(crate) fn add_server(&mut self, new: NewServer) -> Option<ServerKey> {
        let NewServer { machine, from, reply_to, request, hash } = new;
        let server = Server {
            machine,
            from,
            reply_to,
            request,
            response: None,
            call: None,
            rung: None,
            decision: None,
            armed: None,
            hash,
        };
        let key = self.servers.insert(server).ok()?;
        self.by_hash.insert(hash, key);
        Some(key)
    }

    pub(crate) fn remove_server(&mut self, key: ServerKey) -> Option<Server> {
        let server = self.servers.remove(key)?;
        self.by_hash.remove(&server.hash);
        Some(server)
    }

    /// RFC 3261 17.2.3: branch, sent-by and method, where ACK matches its INVITE. Peers without the
    /// magic cookie are matched by the fields that RFC 2543 named. `method` lets a CANCEL ask for
    /// its INVITE. The hash is keyed, so nobody can aim two transactions at one slot.
    pub(crate) fn server_hash(&self, request: &Message<'_>, method: Method) -> u128 {
        let method = if method == Method::Ack { Method::Invite } else { method };
        let halves = self.secrets.map(|secret| {
            let mut hash =
                std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::new().build_hasher();
            hash.write_u64(secret);
            hash.write_u8(method as u8);
            if method == Method::Other {
                hash.write(request.cseq().map_or(b"", |_| b"other"));
            }
            write_identity(&mut hash, request);
            hash.finish()
        });
        (u128::from(halves[0]) << 64) | u128::from(halves[1])
    }
}

fn write_identity(hash: &mut impl Hasher, request: &Message<'_>) {
    let via = request.via();
    let branch = via.as_ref().ok().and_then(|via| via.branch);
    if let (Ok(via), Some(branch)) = (&via, branch)
        && branch.len() > MAGIC_COOKIE.len()
        && branch.starts_with(MAGIC_COOKIE)
    {
        hash.write(branch);
        hash.write_u8(0);
        match via.host {
            sip::wire::Host::Name(name) => hash.write(name),
            sip::wire::Host::V4(ip) => hash.write(&ip.octets()),
            sip::wire::Host::V6(ip) => hash.write(&ip.octets()),
        }
        hash.write_u16(via.port.unwrap_or(0));
        return;
    }
    // RFC 2543 peers: an ACK has another To tag than the INVITE, so that is left out.
    if let sip::wire::Start::Request { uri, .. } = request.start() {
        hash.write(uri);
    }
    hash.write(request.from().ok().and_then(|from| from.tag()).unwrap_or_default());
    hash.write(request.call_id().unwrap_or_default());
    hash.write_u32(request.cseq().map_or(0, |cseq| cseq.number));
    hash.write(request.first(HeaderName::Via).unwrap_or_default());
}
