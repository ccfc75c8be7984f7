//! A trunk asks for credentials: the request goes out again with them, and its owner never hears of it.
//! Owns:  whose account answers, and the second writing of a request (RFC 3261 22.2, 22.3).
//! Gives: `answer_challenge`; `account_of` and `vouch` for requests whose call may be gone by then.
//! Never: credentials for anybody but the trunk that they belong to, at an address of that trunk; an
//!        answer without end (`sip::auth::Tries`).
//! Holds: all that differs is the branch, the number and the credentials.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use shared::account::Account;
use shared::event::Severity;
use shared::metrics::Counter;
use shared::net::Destination;
use sip::auth::{Challenge, Credentials, Tries, answer, header_names};
use sip::wire::{HeaderName, Message, Method, Start, scan};

use crate::b2bua::compose::write_line;
use crate::core::Core;
use crate::desk::Desk;
use crate::transactions::{Client, ClientKey, Owner};

/// A request that was challenged, from before its transaction takes the response.
#[derive(Debug)]
pub(crate) struct Asking {
    request: Rc<Vec<u8>>,
    owner: Owner,
    to: Destination,
    method: Method,
    account: Option<Arc<Account>>,
    tries: Tries,
}

impl Asking {
    pub(crate) fn of(client: &Client) -> Self {
        Self {
            request: Rc::clone(&client.request),
            owner: client.owner,
            to: client.to,
            method: client.method,
            account: client.account.clone(),
            tries: client.tries,
        }
    }
}

impl Desk {
    /// The account at a trunk, for requests to one of its addresses.
    pub(crate) fn account_of(&self, name: &str, peer: SocketAddr) -> Option<Arc<Account>> {
        let trunk = self.snapshot.trunks.iter().find(|trunk| *trunk.name == *name)?;
        trunk.account.clone().filter(|_| trunk.is_at(peer.ip()))
    }

    /// A challenge to this request is answered with that account.
    pub(crate) fn vouch(&mut self, client: Option<ClientKey>, account: Option<Arc<Account>>) {
        if let Some(client) = client.and_then(|key| self.transactions.clients.find_mut(key)) {
            client.account = account;
        }
    }

    /// The request of a transaction, if it carries credentials of ours.
    pub(crate) fn with_credentials(&self, client: ClientKey) -> Option<Rc<Vec<u8>>> {
        let client = self.transactions.clients.find(client)?;
        client.account.is_some().then(|| Rc::clone(&client.request))
    }

    /// Sends the request once more, with the credentials. `None`: the table is full.
    fn ask_again(
        &mut self,
        before: &Asking,
        account: &Arc<Account>,
        challenge: &Challenge<'_>,
        again: Again,
    ) -> Option<ClientKey> {
        let request = scan(&before.request).ok()?;
        let Start::Request { uri, .. } = request.start() else { return None };
        let method = before.method;
        let count = self.nonce_counts.next(challenge.nonce);
        let cnonce = format!("{:016x}", self.mint.random());
        let value = answer(
            challenge,
            &account.auth_username,
            account.password.expose(),
            method.as_str(),
            std::str::from_utf8(uri).ok()?,
            count,
            &cnonce,
        );
        let realm = challenge.realm_text();
        let max_forwards = request.max_forwards().ok().flatten().unwrap_or(70);
        let fill = |_: &Self, mut out: sip::wire::Writer<'_>| {
            for (name, written, value) in request.lines().filter(|line| !is_made_anew(line.0)) {
                // A proxy's credentials stay beside the server's; those that were stale do not.
                let is_replaced = name == again.header
                    && Credentials::parse(value).is_ok_and(|old| *old.realm_text() == *realm);
                if !is_replaced {
                    write_line(&mut out, name, written, value);
                }
            }
            out.header_fmt("CSeq", format_args!("{} {}", again.number, method.as_str()));
            out.header(again.header.as_str(), value.as_bytes());
            match request.first(HeaderName::ContentType) {
                Some(kind) => out.body(kind, request.body()),
                None => out.end(),
            }
        };
        let new = self.request(method, uri, before.to, max_forwards, before.owner, fill)?;
        self.vouch(Some(new), Some(Arc::clone(account)));
        if let Some(client) = self.transactions.clients.find_mut(new) {
            client.tries = again.tries;
        }
        self.count(Counter::TrunkChallenges);
        Some(new)
    }
}

/// What a request that is sent again has of its own.
struct Again {
    header: HeaderName,
    number: u32,
    tries: Tries,
}

impl Core {
    /// Answers a 401 or 407, if it is a trunk's that we have an account at. `false`: it is a failure
    /// like any other.
    pub(crate) fn answer_challenge(
        &mut self,
        client: ClientKey,
        before: &Asking,
        response: &Message<'_>,
    ) -> bool {
        let Some(account) = self.account_for(before) else { return false };
        let Ok(request) = scan(&before.request) else { return false };
        let status = response.status().unwrap_or_default();
        let Some((_, header)) = header_names(status) else { return false };
        let picked = before.tries.challenge(&request, response, account.realm.as_deref());
        let (challenge, tries) = match picked {
            Ok(picked) => picked,
            Err(why) => {
                self.desk.count(Counter::TrunkCredentialsRefused);
                let (peer, method) = (before.to.peer, before.method.as_str());
                self.desk.notice(Severity::Warning, "trunk_credentials", || {
                    let name = &account.auth_username;
                    format!("{peer} {} of account {name} ({method}, {status})", why.as_str())
                });
                return false;
            }
        };
        let Some(number) = self.number_again(client, before, &request) else { return false };
        let again = Again { header, number, tries };
        let Some(new) = self.desk.ask_again(before, &account, &challenge, again) else {
            return false;
        };
        self.asked_again(before.owner, new);
        // It stays for repeats of the challenge alone.
        if let Some(old) = self.desk.transactions.clients.find_mut(client) {
            old.owner = Owner::Nobody(before.owner.rung());
        }
        true
    }

    fn account_for(&self, before: &Asking) -> Option<Arc<Account>> {
        if before.account.is_some() {
            return before.account.clone();
        }
        let name = match before.owner {
            Owner::Leg { call, leg, .. } => self.calls.find(call)?.trunk_of(leg)?,
            Owner::Ping(key) => self.watched_trunk(key)?,
            Owner::Enrolment(_) | Owner::Nobody(_) | Owner::Page(_) | Owner::Subscription(_) => {
                return None;
            }
        };
        self.desk.account_of(name, before.to.peer)
    }

    /// The number that the request gets, if it is still wanted.
    fn number_again(
        &mut self,
        client: ClientKey,
        before: &Asking,
        request: &Message<'_>,
    ) -> Option<u32> {
        let next = request.cseq().ok()?.number.checked_add(1)?;
        match before.owner {
            Owner::Leg { call, leg, asks, .. } => {
                self.calls.find_mut(call)?.number_again(leg, asks, client)
            }
            Owner::Enrolment(key) => self.register_number_again(key, client),
            Owner::Page(key) => self.waits_for_page(key).then_some(next),
            Owner::Ping(key) => self.waits_for_ping(key, client).then_some(next),
            Owner::Subscription(_) => None,
            // Nothing follows a BYE, so its number is nobody else's.
            Owner::Nobody(_) => (before.method == Method::Bye).then_some(next),
        }
    }

    fn asked_again(&mut self, owner: Owner, new: ClientKey) {
        match owner {
            Owner::Leg { call, leg, asks, .. } => {
                if let Some(call) = self.calls.find_mut(call) {
                    call.asked_again(&mut self.desk, leg, asks, new);
                }
            }
            Owner::Enrolment(key) => self.registered_again(key, new),
            Owner::Ping(key) => self.pinged_again(key, new),
            Owner::Nobody(_) | Owner::Page(_) | Owner::Subscription(_) => {}
        }
    }
}

/// What a request that is sent again does not have from the one before, whyever it is sent again.
pub(crate) const fn is_made_anew(name: HeaderName) -> bool {
    matches!(
        name,
        HeaderName::Via
            | HeaderName::MaxForwards
            | HeaderName::CSeq
            | HeaderName::ContentType
            | HeaderName::ContentLength
    )
}
