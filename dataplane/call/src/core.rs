//! All signalling state of one shard, and the way every input takes through it.
//! Owns:  the desk, the calls, the registrar, the relay owners.
//! Gives: `Core`: one input at a time, outputs in order, the next deadline.
//! Never: more than one shard's state; other shards are asked over the mesh.
//! Holds: after every input each call is armed, alive or gone; a panic costs one call.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use shared::command::{Command, Question};
use shared::event::{Answer, Event, Severity};
use shared::ids::{FlowKey, RelayKey, ShardId};
use shared::limits::{ASKS_PER_SHARD_MAX, CALLS_PER_SHARD_MAX, MESSAGES_PER_SHARD_MAX};
use shared::metrics::{Counter, Counters};
use shared::net::Destination;
use shared::settings::ShardSettings;
use shared::snapshot::Snapshot;
use shared::time::{Instant, Now};
use sip::transaction::ClientInput;

use crate::ask::Pending;
use crate::b2bua::{AfterOpen, Call};
use crate::desk::{Desk, TimerKey, Told};
use crate::enrolment::{self, Enrolments};
use crate::faces::Faces;
use crate::health::{self, Watches};
use crate::io::{Input, MeshMessage, Output, Rung};
use crate::loan::Moved;
use crate::message::Page;
use crate::notifier::Notifier;
use crate::prelude::Preludes;
use crate::registrar::Registrar;
use crate::relays::RelayOwners;
use crate::restate::Round;
use crate::router::Turns;
use crate::slots::{Key, Slots};
use crate::transactions::{Asks, Client, ClientKey, Owner};

#[derive(Debug)]
pub struct Core {
    pub(crate) desk: Desk,
    pub(crate) calls: Slots<Call>,
    /// Calls by Call-ID and From tag of their INVITE, to find merged requests (RFC 3261 8.2.2.2).
    pub(crate) by_caller: FxHashMap<u64, Key>,
    pub(crate) registrar: Registrar,
    pub(crate) owners: RelayOwners,
    /// Questions to other shards' registrars: the call, and whom it is about.
    pub(crate) asks: Slots<(Key, Box<str>)>,
    /// Who waits for the decision of a program.
    pub(crate) pending: Slots<Pending>,
    /// Flows that some binding or leg uses: others may close without a search.
    pub(crate) flows: FxHashSet<FlowKey>,
    pub(crate) turns: Turns,
    /// Trunks that this shard asks if they are there.
    pub(crate) watches: Watches,
    /// Trunks that this shard registers with their carriers.
    pub(crate) enrolments: Enrolments,
    /// Texts on their way (RFC 3428).
    pub(crate) pages: Slots<Page>,
    pub(crate) notifier: Notifier,
    pub(crate) draining: bool,
    /// Standing calls are being written into a new segment of the journal.
    pub(crate) restating: Option<Round>,
    /// Legs that came to be in other calls.
    pub(crate) moved: Moved,
    /// INVITEs that were asked for credentials, for the ladder.
    pub(crate) preludes: Preludes,
    /// The call that the present input belongs to, for the panic handler.
    pub(crate) current: Option<Key>,
    due: Vec<TimerKey>,
}

/// What stands in a core: for leak checks, and for `/ami/v1/health`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub calls: usize,
    pub legs: usize,
    pub dialogs: usize,
    pub client_transactions: usize,
    pub server_transactions: usize,
    pub timers: usize,
    pub ports_in_use: usize,
    pub relays: usize,
    pub aors: usize,
    pub bindings: usize,
    pub events_waiting: usize,
    /// Questions to other shards and to programs that are waited for.
    pub asks: usize,
    /// Calls that count against the limit of a trunk.
    pub trunk_calls: usize,
    /// Calls on the account of somebody who is held to caps, once for each account.
    pub toll_calls: usize,
    /// Legs whose tag names another call than the one that they are in.
    pub moved_legs: usize,
    pub subscriptions: usize,
    /// Users that are watched, on this shard or from it.
    pub watched: usize,
    /// Texts outside of dialogs that wait for an answer.
    pub messages: usize,
}

impl Core {
    pub fn new(now: Now, settings: Arc<ShardSettings>, snapshot: Arc<Snapshot>) -> Self {
        let mut core = Self {
            desk: Desk::new(now, settings, snapshot),
            calls: Slots::new(CALLS_PER_SHARD_MAX),
            by_caller: FxHashMap::default(),
            registrar: Registrar::new(),
            owners: RelayOwners::new(),
            asks: Slots::new(CALLS_PER_SHARD_MAX),
            pending: Slots::new(ASKS_PER_SHARD_MAX),
            flows: FxHashSet::default(),
            turns: Turns::default(),
            watches: health::watches(),
            enrolments: enrolment::enrolments(),
            pages: Slots::new(MESSAGES_PER_SHARD_MAX),
            notifier: Notifier::new(),
            draining: false,
            restating: None,
            moved: Moved::default(),
            preludes: Preludes::default(),
            current: None,
            due: Vec::new(),
        };
        core.watch_trunks();
        core.enrol_trunks();
        core
    }

    /// Takes one input. Drain `poll_output` before the next.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) {
        self.desk.now = now;
        self.desk.heard = None;
        self.current = None;
        // State that a panic leaves behind belongs to the one call that is ended below.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            self.take_input(input);
            self.judge();
        }));
        if let Err(panic) = outcome {
            self.contain(panic.as_ref());
        }
    }

    /// The call that the message of the last input belongs to. To be asked before `poll_output`, so
    /// that a ladder has the message in front of what follows from it.
    pub fn heard(&self) -> Option<Rung> {
        self.desk.heard
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.desk.out.poll()
    }

    /// When `Input::Timeout` is wanted.
    pub fn deadline(&self) -> Option<Instant> {
        self.desk.wheel.next()
    }

    /// The shard's counters; gauges are brought up to date.
    pub fn counters(&mut self) -> &mut Counters {
        let census = self.census();
        let resting = self.desk.ports.resting(self.desk.now.mono);
        let talking = self.calls.iter().filter(|(_, call)| call.answered.is_some()).count();
        let trunks_down = self.trunks_down();
        let trunks_resting = self.desk.trunks.resting(self.desk.now.mono);
        let [registered, unregistered] = self.enrolled_count();
        let wait = self.desk.load.take_longest().as_millis();
        let wait = usize::try_from(wait).unwrap_or(usize::MAX);
        let bans = self.desk.edge.bans(self.desk.now.mono);
        let counters = &mut self.desk.out.counters;
        for (counter, value) in [
            (Counter::Calls, census.calls),
            (Counter::CallsTalking, talking),
            (Counter::Dialogs, census.dialogs),
            (Counter::Transactions, census.client_transactions + census.server_transactions),
            (Counter::Timers, census.timers),
            (Counter::Bindings, census.bindings),
            (Counter::Relays, census.relays),
            (Counter::PortsInUse, census.ports_in_use),
            (Counter::PortsResting, resting),
            (Counter::AsksWaiting, self.pending.len()),
            (Counter::TrunksDown, trunks_down),
            (Counter::TrunksResting, trunks_resting),
            (Counter::TrunksRegistered, registered),
            (Counter::TrunksUnregistered, unregistered),
            (Counter::Bans, bans),
            (Counter::Subscriptions, census.subscriptions),
            (Counter::SipWait, wait),
        ] {
            counters.set(counter, value as u64);
        }
        counters
    }

    /// What was counted so far, the gauges as they were last set.
    pub fn counters_seen(&self) -> &Counters {
        &self.desk.out.counters
    }

    /// The counters without the gauges' update: for the shell's own counting, per packet.
    pub fn plain_counters(&mut self) -> &mut Counters {
        &mut self.desk.out.counters
    }

    /// Gives a sent buffer back to the pool.
    pub fn recycle(&mut self, bytes: Rc<Vec<u8>>) {
        self.desk.out.recycle(bytes);
    }

    /// No call is left.
    pub fn idle(&self) -> bool {
        self.calls.is_empty()
    }

    pub fn census(&self) -> Census {
        let legs = self.calls.iter().map(|(_, call)| call.legs.len()).sum();
        Census {
            calls: self.calls.len(),
            legs,
            dialogs: legs,
            client_transactions: self.desk.transactions.clients.len(),
            server_transactions: self.desk.transactions.servers.len(),
            timers: self.desk.wheel.armed(),
            ports_in_use: self.desk.ports.in_use(),
            relays: self.owners.len(),
            aors: self.registrar.aor_count(),
            bindings: self.registrar.binding_count(),
            events_waiting: 0,
            asks: self.pending.len() + self.asks.len(),
            trunk_calls: self.desk.trunks.standing(),
            toll_calls: self.desk.toll.standing(),
            moved_legs: self.moved.len(),
            subscriptions: self.notifier.len(),
            watched: self.notifier.traces(),
            messages: self.pages.len(),
        }
    }

    fn take_input(&mut self, input: Input<'_>) {
        match input {
            Input::Command(command) => self.obey(command),
            Input::FlowClosed(flow) => self.flow_closed(flow, true),
            Input::HandshakeFailed(failure) => self.handshake_failed(&failure),
            Input::FlowProved { from, names } => self.flow_proved(&from, names),
            Input::JournalTurned => self.journal_turned(),
            Input::Mesh { from, message } => self.mesh(from, message),
            Input::Moved { from, bytes } => self.receive(from, bytes, false),
            Input::Received { from, bytes } => self.receive(from, bytes, true),
            Input::RelayClosed(report) => {
                let call = self.owners.remove(report.relay);
                if let Some(capture) = report.capture.clone() {
                    self.desk.out.event(Event::CaptureClosed(capture));
                }
                self.with_call(call, |call, desk, _| {
                    call.relay_closed(desk, &report);
                    call.finish(desk);
                });
            }
            Input::RelayOpened(relay) => self.relay_opened(relay),
            Input::RelayRefused(relay) => self.relay_refused(relay),
            Input::RelaySilent(relay) => {
                let call = self.owners.call_of(relay);
                self.with_call(call, |call, desk, _| call.media_silent(desk));
            }
            Input::SendFailed(to) => self.send_failed(&to),
            Input::Speech(news) => {
                let call = self.owners.call_of(news.relay);
                self.with_call(call, |call, desk, _| call.handle_speech(desk, &news));
            }
            Input::Timeout => self.timeout(),
        }
    }

    /// Runs `work` on a call, then removes the call when nothing is owed any more.
    pub(crate) fn with_call(
        &mut self,
        key: Option<Key>,
        work: impl FnOnce(&mut Call, &mut Desk, &mut RelayOwners),
    ) {
        let Some(key) = key else { return };
        self.current = Some(key);
        let Some(call) = self.calls.find_mut(key) else { return };
        work(call, &mut self.desk, &mut self.owners);
        self.settle(key);
    }

    pub(crate) fn settle(&mut self, key: Key) {
        if !self.notifier.watched.is_empty() {
            self.tell_watchers(key);
        }
        let Some(call) = self.calls.find_mut(key) else { return };
        // A leg that it has taken is written down before the call goes and strikes it out again.
        for (shard, loan) in std::mem::take(&mut call.loans) {
            self.carry(shard, loan);
        }
        self.settle_call(key);
    }

    fn settle_call(&mut self, key: Key) {
        let Some(call) = self.calls.find_mut(key) else { return };
        if !call.acts.is_empty() {
            call.settle_acts(&mut self.desk);
        }
        if call.ended.is_none() && call.shares.bill.is_some() {
            self.balance_bill(key);
        }
        let Some(call) = self.calls.find_mut(key) else { return };
        let mut shares = std::mem::take(&mut call.shares.returned);
        if call.ended.is_none() {
            let is_due = call.hunt.take_due();
            self.give_back(shares);
            if is_due {
                self.next_group(key);
            }
            return;
        }
        let (is_over, decision) = (call.is_over(), call.decision.take());
        let bill = call.shares.bill.take();
        let asked = std::mem::take(&mut call.hunt.asked);
        shares.append(&mut call.shares.held);
        shares.append(&mut call.hunt.shares);
        self.give_back(shares);
        self.settle_bill(bill);
        decision.map(|key| self.pending.remove(key));
        for ask in asked {
            self.asks.remove(ask);
        }
        if !is_over {
            return;
        }
        let mut call = self.calls.remove(key).expect("just found");
        call.drop_acts(&mut self.desk);
        self.call_over(&call);
        self.forget_names(&call);
        if let Some(caller) = call.caller_hash
            && self.by_caller.get(&caller) == Some(&key)
        {
            self.by_caller.remove(&caller);
        }
        if self.draining && self.is_drained() {
            let shard = self.desk.settings.shard;
            self.desk.out.event(Event::Drained(shard));
        }
    }

    /// No call is left, and no carrier that is still to be told.
    pub(crate) fn is_drained(&self) -> bool {
        self.calls.is_empty() && self.enrolments.is_empty()
    }

    /// Tells what client transactions have to say, each to its owner.
    pub(crate) fn tell(
        &mut self,
        told: Vec<(Owner, ClientKey, Told)>,
        response: Option<&sip::wire::Message<'_>>,
    ) {
        for (owner, client, told) in told {
            if let Owner::Ping(watch) = owner {
                let status = response.and_then(|response| response.status()).unwrap_or_default();
                self.ping_told(watch, client, told, status);
            }
            if let Owner::Enrolment(key) = owner {
                self.enrolment_told(key, client, told, response);
            }
            if let Owner::Subscription(key) = owner {
                self.notify_told(key, client, told, response);
            }
            if let Owner::Page(key) = owner {
                self.page_told(key, told, response);
            }
            let Owner::Leg { call, leg, asks, .. } = owner else { continue };
            if self.calls.find(call).is_none() {
                // The call is over, but a late 2xx still has a phone off the hook behind it.
                if let (Some(response), true) = (response, told == Told::Response) {
                    self.late_answer(client, response);
                }
                continue;
            }
            self.with_call(Some(call), |call, desk, owners| match (told, asks, response) {
                (Told::Response, Asks::Invite, Some(response)) => {
                    call.handle_invite_response(desk, owners, leg, client, response);
                }
                (Told::Response, Asks::Align, Some(response)) => {
                    call.handle_align_response(desk, client, response);
                }
                (Told::Response, Asks::Key, Some(response)) => {
                    let status = response.status().unwrap_or_default();
                    call.handle_key_answer(desk, client, status);
                }
                (Told::Response, Asks::Refresh, Some(response)) => {
                    call.handle_refresh_response(desk, leg, client, response);
                }
                (Told::Response, Asks::Relayed(number), Some(response)) => {
                    call.handle_exchange_response(desk, number, client, response);
                }
                (Told::Failed(status), Asks::Align, _) => {
                    call.handle_align_failed(desk, client, status);
                }
                (Told::Failed(status), Asks::Key, _) => {
                    call.handle_key_answer(desk, client, status);
                }
                (Told::Failed(status), Asks::Invite, _) => {
                    call.handle_invite_failed(desk, leg, status);
                }
                (Told::Failed(status), Asks::Refresh, _) => {
                    call.handle_refresh_failed(desk, leg, client, status);
                }
                (Told::Failed(status), Asks::Relayed(number), _) => {
                    call.handle_exchange_failed(desk, number, status);
                }
                (_, Asks::Prack, _) => {}
                (Told::Response, _, None) => unreachable!("only a response makes one be told"),
            });
        }
    }

    fn obey(&mut self, command: Command) {
        let shard = self.desk.settings.shard;
        match command {
            Command::Act { id, call, action } => self.act(id, &call, action),
            Command::Ask { id, question } => {
                let answer = match question {
                    Question::Bindings(names) => {
                        let now = self.desk.now.mono;
                        Answer::Bindings(self.registrar.views(now, shard, &names))
                    }
                    Question::Calls => {
                        Answer::Calls(self.calls.iter().map(|(_, call)| call.view(shard)).collect())
                    }
                    Question::Explain(trial) => Answer::Explained(Box::new(self.explain(&trial))),
                    Question::Trunks(names) => Answer::Trunks(self.trunk_views(&names)),
                    Question::Dialogs => Answer::Dialogs(
                        self.calls.iter().flat_map(|(_, call)| call.dialog_views(shard)).collect(),
                    ),
                };
                self.desk.out.event(Event::Answer { id, shard, answer });
            }
            Command::Decided { id, decision } => self.decided(id, *decision),
            Command::Drain => {
                self.registrar.drain();
                if !self.draining {
                    self.leave_carriers();
                    self.draining = true;
                    if self.is_drained() {
                        self.desk.out.event(Event::Drained(shard));
                    }
                }
            }
            Command::Intake(intake) => self.desk.intake = intake,
            Command::Originate { id, wanted } => self.originate(id, &wanted),
            Command::Publish(snapshot) => {
                let generation = snapshot.generation;
                self.desk.snapshot = snapshot;
                if self.turns.len() > self.desk.snapshot.routes.routes.len() {
                    self.turns.clear(); // leftovers of rules that are gone; rotation starts anew
                }
                let Desk { trunks, faces, snapshot, .. } = &mut self.desk;
                trunks.forget_others(&snapshot.trunks);
                *faces = Faces::of(&snapshot.trunks);
                self.watch_trunks();
                self.enrol_trunks();
                self.pardon_trunks();
                self.desk.out.event(Event::SnapshotLive { shard, generation });
            }
            Command::Stop => {
                self.draining = true;
                self.stop_waiting();
                self.stop_watching();
                self.stop_enrolling();
                self.stop_messages();
                for key in self.calls.keys() {
                    self.with_call(Some(key), |call, desk, _| call.stop(desk));
                }
                self.stop_notifying();
            }
        }
    }

    fn mesh(&mut self, from: ShardId, message: MeshMessage) {
        match message {
            MeshMessage::AskBindings { ask, aor, phone } => {
                let targets = self.registrar.targets(&aor, phone.as_ref());
                self.desk.out.mesh(from, MeshMessage::Bindings { ask, targets });
            }
            MeshMessage::AskGuests { ask, aor } => {
                let welcome = self.registrar.takes_guests(&aor);
                self.desk.out.mesh(from, MeshMessage::Guests { ask, welcome });
            }
            told @ (MeshMessage::Banned { .. }
            | MeshMessage::Suspected { .. }
            | MeshMessage::Vouched { .. }) => self.edge_told(from, &told),
            MeshMessage::Guests { ask, welcome } => self.guests_told(ask, welcome),
            MeshMessage::Bindings { ask, mut targets } => {
                if !self.takes_bindings(ask, &mut targets) {
                    self.bindings_found(ask, targets);
                }
            }
            MeshMessage::Dialogs(news) => self.hear_dialogs(from, news),
            MeshMessage::FlowClosed(flow) => self.flow_closed(flow, false),
            MeshMessage::FlowProved { from, names } => self.desk.proved.add(&from, names),
            MeshMessage::Loan(loan) => self.hear_loan(from, loan),
            MeshMessage::Message { from, bytes, .. } | MeshMessage::Onward { from, bytes } => {
                self.receive(from, &bytes, false);
            }
            MeshMessage::Toll { counted, begun } => {
                let (account, tally) = *counted;
                self.desk.toll.hear(self.desk.now, from, &account, tally, begun);
            }
            MeshMessage::TrunkHealth { trunk, at, is_down } => {
                self.health_heard(&trunk, at, is_down);
            }
            MeshMessage::Send { to, bytes } => {
                // Whose it is was for the shard of its call to know.
                self.desk.out.push(Output::Send { to, bytes: Rc::new(bytes), rung: None });
            }
        }
    }

    fn relay_opened(&mut self, relay: RelayKey) {
        let call = self.owners.call_of(relay);
        self.with_call(call, |call, desk, _| {
            if !call.relay_opened(desk, relay) {
                return;
            }
            match call.after_open.take() {
                Some(AfterOpen::Answer { leg, client, response }) => {
                    if let Ok(response) = sip::wire::scan(&response) {
                        call.offer_caller(desk, leg, client, &response);
                    }
                }
                Some(AfterOpen::Dial) => call.call_first_party(desk),
                Some(AfterOpen::Early { leg, response }) => {
                    if let Ok(response) = sip::wire::scan(&response) {
                        call.offer_early(desk, leg, &response);
                    }
                }
                Some(AfterOpen::Exchange(number)) => call.send_exchange(desk, number),
                Some(AfterOpen::Invite) => call.invite_targets(desk),
                None => {}
            }
        });
    }

    fn relay_refused(&mut self, relay: RelayKey) {
        let call = self.owners.call_of(relay);
        let mut gone = false;
        self.with_call(call, |call, desk, _| {
            if call.relay_refused(desk, relay) {
                return;
            }
            gone = true;
            match call.after_open.take() {
                Some(AfterOpen::Exchange(number)) => call.fail_exchange(desk, number, 500),
                Some(AfterOpen::Answer { leg, client, response }) => {
                    if let Ok(response) = sip::wire::scan(&response) {
                        call.refuse_offer(desk, leg, client, &response);
                    }
                    call.refuse(desk, 503);
                }
                Some(AfterOpen::Early { leg, response }) => {
                    if let Ok(response) = sip::wire::scan(&response) {
                        call.refuse_early_offer(desk, leg, &response, 503);
                    }
                }
                Some(AfterOpen::Dial | AfterOpen::Invite) => call.refuse(desk, 503),
                None => {}
            }
            call.finish(desk);
        });
        if gone {
            self.owners.remove(relay);
        }
    }

    fn flow_closed(&mut self, flow: FlowKey, mine: bool) {
        if mine {
            let me = self.desk.settings.shard.0;
            for other in (0..self.desk.settings.shards).filter(|&other| other != me) {
                self.desk.out.mesh(ShardId(other), MeshMessage::FlowClosed(flow));
            }
        }
        self.desk.proved.remove(flow);
        if !self.flows.remove(&flow) {
            return;
        }
        self.registrar.flow_closed(&mut self.desk, flow);
        self.subscribers_lost(flow);
        for key in self.calls.keys() {
            let Some(call) = self.calls.find_mut(key) else { continue };
            call.flow_closed(&self.desk, flow);
        }
        self.fail_clients(|to| to.flow == Some(flow));
    }

    /// UDP has its timers; for a connection this is the transport error of RFC 3261 17.1.4.
    fn send_failed(&mut self, to: &Destination) {
        self.desk.count(Counter::SipSendFailed);
        if to.transport.is_reliable() {
            let way = |of: &Destination| (of.peer, of.transport, of.shows);
            self.fail_clients(|other| way(other) == way(to));
        } else if self.is_trunk_entrance(to) {
            self.leave_trunk(to);
        }
    }

    fn is_trunk_entrance(&self, to: &Destination) -> bool {
        let mut trunks = self.desk.snapshot.trunks.iter();
        trunks.any(|trunk| trunk.entrances.iter().any(|one| one.address == to.peer))
    }

    /// A trunk's host is unreachable: calls that have somebody else to try do so at once.
    fn leave_trunk(&mut self, to: &Destination) {
        let clients = self.desk.transactions.clients.iter();
        let may_leave = |client: &Client| {
            let may_fail = || match client.owner {
                Owner::Leg { call, leg, asks: Asks::Invite, .. } => {
                    self.calls.find(call).is_some_and(|call| call.may_fail_over(leg))
                }
                Owner::Leg { .. } | Owner::Nobody(_) => false,
                Owner::Subscription(_) => false,
                Owner::Enrolment(_) | Owner::Page(_) | Owner::Ping(_) => true,
            };
            client.to.peer == to.peer && !client.to.transport.is_reliable() && may_fail()
        };
        let keys: Vec<_> = clients.filter(|(_, one)| may_leave(one)).map(|(key, _)| key).collect();
        self.fail(keys);
    }

    fn fail_clients(&mut self, hit: impl Fn(&Destination) -> bool) {
        let clients = self.desk.transactions.clients.iter();
        let keys: Vec<_> = clients.filter(|(_, one)| hit(&one.to)).map(|(key, _)| key).collect();
        self.fail(keys);
    }

    fn fail(&mut self, keys: Vec<ClientKey>) {
        for key in keys {
            let mut told = Vec::new();
            self.desk.client_input(key, ClientInput::TransportFailed, &mut told);
            self.tell(told, None);
        }
    }

    fn timeout(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.desk.wheel.fire(self.desk.now.mono, &mut due);
        for key in due.drain(..) {
            match key {
                TimerKey::Aor(key) => self.registrar.expire(&mut self.desk, key),
                TimerKey::Ask(ask) => self.ask_timed_out(ask),
                TimerKey::Decision(key) => self.decision_timed_out(key),
                TimerKey::Call(key) => self.with_call(Some(key), |call, desk, _| {
                    call.timeout(desk);
                    call.arm(desk);
                }),
                TimerKey::Client(key) => {
                    let mut told = Vec::new();
                    self.desk.client_timer(key, &mut told);
                    self.tell(told, None);
                }
                TimerKey::Enrolment(key) => self.enrolment_due(key),
                TimerKey::Look => self.look_on(),
                TimerKey::Moved(name) => self.forget_moved(name),
                TimerKey::Page(key) => self.page_due(key),
                TimerKey::Ping(watch) => self.ping_due(watch),
                TimerKey::Restate => self.restate(),
                TimerKey::Server(key) => {
                    self.desk.server_timer(key);
                }
                TimerKey::Subscription(key) => self.subscription_due(key),
                TimerKey::Telling => self.tell_on(),
            }
        }
        self.due = due;
    }

    fn contain(&mut self, panic: &(dyn Any + Send)) {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        let call = self.current.take();
        self.desk.notice(Severity::Error, "panic", || format!("a call failed inside: {text}"));
        let Some(key) = call else {
            return self.desk.count(Counter::CallsPanicked);
        };
        let aborted = catch_unwind(AssertUnwindSafe(|| {
            self.with_call(Some(key), |call, desk, _| call.abort(desk));
        }));
        if aborted.is_err() {
            // Not even its end works: forget it. Its peers time out, its ports stay taken.
            if let Some(mut call) = self.calls.remove(key) {
                call.drop_acts(&mut self.desk);
                self.call_over(&call);
                self.forget_names(&call);
                let shares = [&mut call.shares.returned, &mut call.shares.held];
                let shares = shares.map(std::mem::take);
                self.give_back(shares.concat());
                self.give_back(std::mem::take(&mut call.hunt.shares));
                self.settle_bill(call.shares.bill.take());
            }
            self.notifier.watched.forget(key);
        }
    }
}
