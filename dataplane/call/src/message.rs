//! MESSAGE outside a dialog: one text from a user or a trunk to phones of a user, or to a trunk (RFC 3428).
//! Owns:  `Page`: a MESSAGE on its way, and which answer its sender gets.
//! Gives: `receive_message`; `page_bindings`, `page_told`, `page_due` for what comes back.
//! Never: keeps a text for later: who has no phone here is 480. A text of somebody without an account.
//! Holds: the sender hears one final answer, and a 2xx only after a receiver has said 2xx.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use shared::limits::{BRANCHES_PER_CALL_MAX, MESSAGE_BYTES_MAX, MESSAGE_DATAGRAM_BYTES_MAX};
use shared::metrics::Counter;
use shared::net::{Source, Transport};
use shared::time::Instant;
use shared::trunk_options::TrunkOptions;
use sip::dialog::{Dialog, State};
use sip::wire::{HeaderName, Message, Method, NameAddr, Start, scan};

use crate::b2bua::identity::{ANONYMOUS, Named, asserted, own_party, users_identity};
use crate::b2bua::secure::is_sips;
use crate::b2bua::{Changes, Privacy, Target, compose};
use crate::core::Core;
use crate::desk::{Reply, TimerKey, Told};
use crate::gate::{self, Asked, Gate, Sender};
use crate::hunting::target_of;
use crate::io::{BindingTarget, MeshMessage};
use crate::place::uri_of;
use crate::router::{self, Decision, Dialled, Outlook};
use crate::slots::Key;
use crate::steer;
use crate::toll::toll_reason;
use crate::transactions::{Owner, ServerKey};

/// How long receivers are waited for. The sender's own patience is 32 s, and after that nobody hears what
/// we say (RFC 4320 4.2).
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// How long another shard's registrar is waited for.
const ASK_WAIT: Duration = Duration::from_secs(2);
/// Tells questions about bindings for a text from those for a call: no slot has a number with this bit.
const ASK_MARK: u64 = 1 << 63;

#[derive(Debug)]
pub(crate) struct Page {
    server: ServerKey,
    sender: Sender,
    /// Who the sender is, name and address, where its From names nobody.
    identity: Option<Box<[u8]>>,
    /// The trunks on whose account it is; with one of them it is on its sender's, too.
    paid: Vec<Box<str>>,
    /// The bindings of a user are waited for.
    asked: Option<Without>,
    changes: Changes,
    /// Who is tried when those that have it now do not take it.
    next: VecDeque<(Target, Changes)>,
    /// Requests without an answer.
    out: usize,
    best: Option<u16>,
    /// The toll cap that kept it from some trunk.
    why: Option<&'static str>,
    /// Nobody is waited for longer, whoever is tried by then.
    until: Instant,
    /// The end of the present wait.
    give_up_at: Instant,
}

/// What becomes of a text to a user without a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Refuse,
    /// A number that looked like a user's.
    Rules,
}

impl Core {
    pub(crate) fn receive_message(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
    ) {
        if self.draining || gate::overloaded(&self.desk, 0) {
            return gate::refuse_overload(&mut self.desk, server);
        }
        if let Some(status) = self.looped(request) {
            self.desk.count(Counter::SipLoops);
            return self.desk.refuse(server, status);
        }
        if request.body().len() > MESSAGE_BYTES_MAX {
            return self.refuse_message(server, 413);
        }
        if let Some(trunk) = self.source_trunk(request, from) {
            return self.place_message(server, from, request, Sender::Trunk(trunk));
        }
        match gate::authenticate(&mut self.desk, request, Asked::Message) {
            Ok(gate) => self.message_identified(server, from, request, gate),
            Err(user) => self.ask_user(server, from, request, Asked::Message, user),
        }
    }

    /// The same when its sender is decided about.
    pub(crate) fn message_identified(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
        gate: Gate,
    ) {
        let proven = self.proven_sender(server, from, request, Asked::Message, gate);
        let Some(user) = proven else { return };
        self.place_message(server, from, request, Sender::User(user));
    }

    fn place_message(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
        sender: Sender,
    ) {
        let own = request.from().ok().and_then(|from| from.parsed_uri().ok());
        let is_own =
            |user: &&str| own.as_ref().is_some_and(|uri| *uri.user_unescaped() == *user.as_bytes());
        let veiled = sender.user().filter(|user| !is_own(user));
        let identity = veiled.map(|user| own_party(&self.desk, user).into());
        let until = self.desk.now.mono + ANSWER_WAIT;
        let page = Page {
            server,
            sender,
            identity,
            paid: Vec::new(),
            asked: None,
            changes: Changes::default(),
            next: VecDeque::new(),
            out: 0,
            best: None,
            why: None,
            until,
            give_up_at: until,
        };
        let Ok(key) = self.pages.insert(page) else {
            return gate::refuse_overload(&mut self.desk, server);
        };
        self.desk.wheel.arm(until, TimerKey::Page(key));
        self.decide_message(key, from, request, false);
    }

    /// The same rules as for a call, but no program is asked, and a trunk is reached by a rule only.
    fn decide_message(
        &mut self,
        key: Key,
        from: &Source,
        request: &Message<'_>,
        unregistered: bool,
    ) {
        let random = self.desk.mint.random();
        let Start::Request { uri, .. } = request.start() else { return };
        let Some(page) = self.pages.find(key) else { return };
        let dialled = Dialled::of_request(request, uri, from.peer.ip(), page.sender.trunk_name())
            .and_then(|dialled| dialled.named(page.identity.as_deref().map(uri_of)));
        let Ok(dialled) = dialled else { return self.page_failed(key, 400) };
        let (desk, turns) = (&self.desk, &self.turns);
        let outlook = Outlook { desk, from, turns, random, unregistered };
        let decision = router::decide(outlook, &dialled, &mut |_| {});
        match decision {
            Decision::Refuse(refusal) => {
                self.note_refusal(&refusal);
                self.page_failed(key, refusal.status);
            }
            Decision::Trunks(to) if to.rule.is_none() => self.page_failed(key, 403),
            Decision::Trunks(mut to) => {
                self.count_forwarded(&to);
                to.choices.retain(|choice| self.may_be_called(&choice.target.uri));
                if to.choices.is_empty() {
                    self.desk.count(Counter::TollNumbersRefused);
                    return self.page_failed(key, 403);
                }
                if let Some(page) = self.pages.find_mut(key) {
                    let choices = to.choices.into_iter();
                    page.next = choices.map(|choice| (choice.target, choice.changes)).collect();
                }
                self.page_next(key);
            }
            Decision::User { user, changes } => {
                if let Some(page) = self.pages.find_mut(key) {
                    page.changes = changes;
                }
                self.page_user(key, user, Without::Refuse);
            }
            Decision::Unlisted { user } => self.page_user(key, user, Without::Rules),
        }
    }

    /// Finds the phones of a user, here or on the shard that knows them.
    fn page_user(&mut self, key: Key, user: Box<str>, without: Without) {
        let settings = &self.desk.settings;
        let owner = steer::owner_of_aor(&user, settings.shards);
        let is_here = owner == settings.shard;
        let Some(page) = self.pages.find_mut(key) else { return };
        let phone = page.changes.phone.clone();
        let find = || self.registrar.targets(&user, phone.as_ref());
        let targets = if is_here { find() } else { Vec::new() };
        page.asked = Some(without);
        if is_here {
            return self.page_bindings(key, targets);
        }
        page.give_up_at = self.desk.now.mono + ASK_WAIT;
        self.desk.wheel.arm(page.give_up_at, TimerKey::Page(key));
        let ask = ASK_MARK | key.to_bits();
        self.desk.out.mesh(owner, MeshMessage::AskBindings { ask, aor: user, phone });
    }

    /// An answer about bindings that a text waits for, if it is one.
    pub(crate) fn takes_bindings(&mut self, ask: u64, targets: &mut Vec<BindingTarget>) -> bool {
        if ask & ASK_MARK == 0 {
            return false;
        }
        self.page_bindings(Key::of_bits(ask & !ASK_MARK), std::mem::take(targets));
        true
    }

    fn page_bindings(&mut self, key: Key, targets: Vec<BindingTarget>) {
        let Some(page) = self.pages.find_mut(key) else { return };
        let Some(without) = page.asked.take() else { return };
        let server = page.server;
        if !targets.is_empty() {
            for flow in targets.iter().filter_map(|target| target.destination.flow) {
                self.flows.insert(flow);
            }
            let targets = targets.into_iter().take(BRANCHES_PER_CALL_MAX).map(target_of);
            let changes = std::mem::take(&mut page.changes);
            return self.page_round(key, targets.map(|target| (target, changes.clone())).collect());
        }
        if without == Without::Refuse {
            return self.page_failed(key, 480);
        }
        let Some(found) = self.desk.transactions.servers.find(server) else { return };
        let (from, bytes) = (found.from, Rc::clone(&found.request));
        match scan(&bytes) {
            Ok(request) => self.decide_message(key, &from, &request, true),
            Err(_) => self.page_failed(key, 400),
        }
    }

    /// The next of the trunks' destinations gets it.
    fn page_next(&mut self, key: Key) {
        while let Some(page) = self.pages.find_mut(key) {
            let Some(next) = page.next.pop_front() else {
                let status = page.best.unwrap_or(480);
                return self.page_failed(key, status);
            };
            // What cannot leave costs nobody anything.
            if let Err(status) = self.page_may_go(key, &next.0) {
                if let Some(page) = self.pages.find_mut(key) {
                    page.note(status);
                }
                continue;
            }
            if self.page_pays(key, &next.0) {
                return self.page_round(key, vec![next]);
            }
        }
    }

    /// Whether a request to this target can be made now.
    fn page_may_go(&mut self, key: Key, target: &Target) -> Result<(), u16> {
        let transactions = &self.desk.transactions;
        let page = self.pages.find(key).ok_or(500_u16)?;
        // Without it the sender has given up, which is seen when the text is to be sent.
        let Some(server) = transactions.servers.find(page.server) else { return Ok(()) };
        fits(&scan(&server.request).map_err(|_| 400_u16)?, target)?;
        if transactions.clients.next_key().is_some() {
            return Ok(());
        }
        self.desk.count(Counter::OverloadRefused);
        Err(503)
    }

    /// Whether the text may go there; its sender, and the trunk, have one more of today then.
    fn page_pays(&mut self, key: Key, target: &Target) -> bool {
        let Some(page) = self.pages.find(key) else { return false };
        let Some(trunk) = &target.trunk else { return true };
        let found = self.desk.transactions.servers.find(page.server);
        let Some(source) = found.map(|server| server.from) else { return true };
        if page.paid.contains(trunk) {
            return true;
        }
        let sender = page.sender.user().filter(|_| page.paid.is_empty());
        match self.desk.pays_text(&source, sender, trunk, &target.uri) {
            Ok(()) => {
                if let Some(page) = self.pages.find_mut(key) {
                    page.paid.push(trunk.clone());
                }
                true
            }
            Err(refused) => {
                if let Some(page) = self.pages.find_mut(key) {
                    page.note(403);
                    page.why = Some(refused.why);
                    if refused.is_trunks {
                        page.next.retain(|(other, _)| other.trunk != target.trunk);
                    } else {
                        page.next.clear(); // it is the same account with every other
                    }
                }
                false
            }
        }
    }

    /// All of these get it at the same time; the first that takes it is the answer.
    fn page_round(&mut self, key: Key, targets: Vec<(Target, Changes)>) {
        let Some(page) = self.pages.find_mut(key) else { return };
        page.give_up_at = page.until;
        let server = self.desk.transactions.servers.find(page.server);
        let Some(bytes) = server.map(|server| Rc::clone(&server.request)) else {
            self.pages.remove(key); // its sender has given up
            return;
        };
        let Ok(request) = scan(&bytes) else { return self.page_failed(key, 400) };
        let mut refused = None;
        let mut out = 0;
        for (target, changes) in targets {
            match self.send_page(key, &request, &target, &changes) {
                Ok(()) => out += 1,
                Err(status) => refused = Some(status),
            }
        }
        let Some(page) = self.pages.find_mut(key) else { return };
        page.out = out;
        if let Some(status) = refused {
            page.note(status);
        }
        if out == 0 {
            self.page_next(key);
        }
    }

    /// # Errors
    /// The status that says why it cannot go there.
    fn send_page(
        &mut self,
        key: Key,
        request: &Message<'_>,
        target: &Target,
        changes: &Changes,
    ) -> Result<(), u16> {
        fits(request, target)?;
        let way = target.way;
        let page = self.pages.find(key).ok_or(500_u16)?;
        let own = page.identity.as_deref().map_or_else(|| request.from(), NameAddr::parse);
        let (from, to) = (own.map_err(|_| 400_u16)?, request.to().map_err(|_| 400_u16)?);
        let terms = self.desk.terms_of(target.trunk.as_deref());
        let from_party = compose::renamed(from, changes.from_uri.as_deref());
        let named = self.page_named(page, request, &from_party, terms.as_deref());
        let hides = self.page_hides(page, request);
        let is_told = named.as_ref().is_some_and(Named::tells);
        let is_trusted = terms.as_ref().is_some_and(|terms| terms.trusted);
        let hidden = hides && !is_trusted;
        let proxy = terms.as_ref().and_then(|terms| terms.route.as_deref());
        let tag = self.desk.mint.stray_tag();
        let call_id =
            format!("{:016x}@{}", self.desk.mint.random(), self.desk.advertised(&way).ip());
        let dialog = Dialog {
            state: State::Early,
            call_id: call_id.into_bytes(),
            local_tag: tag,
            remote_tag: Vec::new(),
            local_party: if hidden || hides && is_told { ANONYMOUS.to_vec() } else { from_party },
            remote_party: compose::renamed(to, changes.to_uri.as_deref()),
            remote_target: target.uri.clone(),
            routes: proxy.map_or_else(|| target.path.clone(), |route| vec![route.into()]),
            local_cseq: 1,
            remote_cseq: None,
        };
        let hops = request.max_forwards().ok().flatten();
        let hops = hops.unwrap_or(shared::limits::MAX_FORWARDS).saturating_sub(1);
        let (uri, owner) = (dialog.request_uri(), Owner::Page(key));
        let sent = self.desk.request(Method::Message, uri, way, hops, owner, |desk, mut out| {
            dialog.write_request_headers(&mut out, 1, "MESSAGE");
            out.header("User-Agent", desk.settings.product.as_bytes());
            out.copy(request, HeaderName::Expires);
            out.copy(request, HeaderName::ContentEncoding);
            if let Some(named) = &named {
                named.write(&mut out, Some(request), &changes.headers);
            }
            compose::pass_and_add(&mut out, request, None, &changes.headers, hidden);
            let kind = request.first(HeaderName::ContentType).unwrap_or(b"text/plain");
            compose::write_body(out, kind, request.body());
        });
        let sent = sent.ok_or(503_u16)?;
        let account = target.trunk.as_deref().and_then(|name| self.desk.account_of(name, way.peer));
        self.desk.vouch(Some(sent), account);
        Ok(())
    }

    /// What its sender wants to be kept to ourselves.
    fn page_hides(&self, page: &Page, request: &Message<'_>) -> bool {
        let terms = self.desk.terms_of(page.sender.trunk_name());
        let legacy = terms.is_some_and(|terms| terms.remote_party_id);
        page.identity.is_some() || Privacy::of(request, legacy).hides
    }

    /// What a trusted trunk is told beside From (RFC 3325): the user whose password was right, or whoever
    /// a trusted trunk says it is.
    fn page_named(
        &self,
        page: &Page,
        request: &Message<'_>,
        told: &[u8],
        terms: Option<&TrunkOptions>,
    ) -> Option<Named> {
        let legacy = terms.filter(|terms| terms.trusted)?.remote_party_id;
        let values = match &page.sender {
            Sender::User(user) => {
                let own = own_party(&self.desk, user);
                let from = page.identity.as_deref().map_or_else(|| request.from(), NameAddr::parse);
                let from = from.or_else(|_| NameAddr::parse(&own)).ok()?;
                users_identity(&self.desk, told, &from).into_iter().collect()
            }
            Sender::Trunk(trunk) => {
                let theirs = self.desk.terms_of(Some(trunk)).filter(|terms| terms.trusted);
                theirs.map(|terms| asserted(request, &terms)).unwrap_or_default()
            }
            Sender::Guest | Sender::Unasked => Vec::new(),
        };
        Some(Named::new(values, legacy, self.page_hides(page, request)))
    }

    /// Whether an answer to its request is still of use.
    pub(crate) fn waits_for_page(&self, key: Key) -> bool {
        self.pages.find(key).is_some()
    }

    pub(crate) fn page_told(&mut self, key: Key, told: Told, response: Option<&Message<'_>>) {
        let status = match told {
            Told::Failed(status) => status,
            Told::Response => response.and_then(|response| response.status()).unwrap_or_default(),
        };
        let Some(page) = self.pages.find_mut(key).filter(|_| status >= 200) else { return };
        if status < 300 {
            // 202 says that a gateway behind us has it (RFC 3428 7): whoever gets ours hears the same.
            let server = page.server;
            self.pages.remove(key);
            self.desk.count(Counter::MessagesRelayed);
            self.desk.respond(server, Reply::new(status.min(202)), |_, _, out| out.end());
            return;
        }
        page.note(match (told, status) {
            // Whoever it is for was not reached, or says nothing.
            (Told::Failed(_), _) | (_, 300..=399 | 408) => 480,
            (_, 401 | 407) => 403,
            (_, 503) => 500,
            (_, status) => status,
        });
        page.out = page.out.saturating_sub(1);
        if page.out == 0 {
            self.page_next(key);
        }
    }

    /// A wheel entry fired; it may be of an earlier wait.
    pub(crate) fn page_due(&mut self, key: Key) {
        let now = self.desk.now.mono;
        let Some(page) = self.pages.find(key).filter(|page| page.give_up_at <= now) else { return };
        let status = if page.asked.is_some() { 503 } else { page.best.unwrap_or(480) };
        self.page_failed(key, status);
    }

    fn page_failed(&mut self, key: Key, status: u16) {
        let Some(page) = self.pages.remove(key) else { return };
        let Some(why) = page.why.filter(|_| status == 403) else {
            return self.refuse_message(page.server, status);
        };
        self.desk.count(Counter::MessagesRefused);
        let reason = toll_reason(why);
        let answer = Reply { status, reason: &reason, to_tag: None };
        self.desk.respond(page.server, answer, |_, _, out| out.end());
    }

    fn refuse_message(&mut self, server: ServerKey, status: u16) {
        self.desk.count(Counter::MessagesRefused);
        match status {
            503 => gate::refuse_overload(&mut self.desk, server),
            status => self.desk.refuse(server, status),
        }
    }

    /// The gateway stops.
    pub(crate) fn stop_messages(&mut self) {
        for key in self.pages.keys() {
            self.page_failed(key, 503);
        }
    }
}

impl Page {
    /// The answer that says most: 6xx, then what a phone said itself, then that nobody was there.
    fn note(&mut self, status: u16) {
        let rank = |status: u16| match status {
            600.. => 0,
            480 => 3,
            500.. => 2,
            _ => 1,
        };
        if self.best.is_none_or(|best| rank(status) < rank(best)) {
            self.best = Some(status);
        }
    }
}

/// Whether a text may go over the way to this target.
fn fits(request: &Message<'_>, target: &Target) -> Result<(), u16> {
    let Start::Request { uri, .. } = request.start() else { return Err(400) };
    let transport = target.way.transport;
    if is_sips(uri) && !transport.is_secure() {
        return Err(480);
    }
    // RFC 3428 8: longer ones do not go where nothing holds back a sender.
    let is_long = request.body().len() > MESSAGE_DATAGRAM_BYTES_MAX;
    if is_long && transport == Transport::Udp { Err(513) } else { Ok(()) }
}
