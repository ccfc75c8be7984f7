//! A scripted phone: a user agent that follows RFC 3261 on its own and does what its plan says.
//! Owns:  its transactions, calls, registration, dice and alarms.
//! Gives: `handle_` in, `poll_output` out, `deadline()`; reports of its calls; its peer's breaches.
//! Never: the gateway's code; a clock; the network.
//! Holds: whatever it breaks it was told to break (a lost ACK, a sudden end); the rest is the RFC.

mod answering;
mod asking;
mod callee;
mod caller;
pub mod carrier;
mod client;
mod midcall;
pub mod plan;
mod registration;
pub mod reliable;
pub mod talk;
mod texting;
pub mod timers;
mod usage;
mod watching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rsip::headers::UntypedHeader as _;
use rsip::{Header, Method};
use shared::net::Transport;
use shared::time::Instant;

use crate::agenda::Agenda;
use crate::phone::client::{Alarm, Client, Purpose, Server};
use crate::phone::plan::{CalleePlan, PhoneSettings};
use crate::phone::registration::Registration;
use crate::phone::usage::{Deed, Usage};
use crate::random::Random;
use crate::speech::digest::Challenge;
use crate::speech::heard::{Heard, address_of};
use crate::speech::{Ask, Body, Party, Reply, in_dialect, request};

pub use crate::phone::texting::{Text, TextId};
pub use crate::phone::usage::{Ending, Phase, Report};
pub use crate::phone::watching::{Lamp, LampId};

/// Place of a call in its phone's list; calls are never taken out of it.
pub type UsageId = usize;

/// What a phone puts on the network.
#[derive(Clone, Debug)]
pub enum Output {
    Rtp { from: SocketAddr, to: SocketAddr, bytes: Rc<[u8]> },
    Sip { to: SocketAddr, bytes: Rc<[u8]> },
}

#[derive(Debug)]
pub struct Phone {
    settings: PhoneSettings,
    random: Random,
    alarms: Agenda<Alarm>,
    clients: BTreeMap<String, Client>,
    servers: BTreeMap<String, Server>,
    usages: Vec<Usage>,
    registration: Registration,
    lamps: Vec<Lamp>,
    texts: Vec<Text>,
    heard_texts: Vec<String>,
    plans: VecDeque<CalleePlan>,
    /// Calls that it does not hear: Call-IDs of a silent plan.
    unheard: BTreeSet<String>,
    outputs: VecDeque<Output>,
    breaches: Vec<String>,
    counter: carrier::Counter,
    next_port: u16,
    gone: bool,
}

impl Phone {
    pub fn new(settings: PhoneSettings, mut random: Random) -> Self {
        let registration = Registration::new(&mut random);
        Self {
            settings,
            random,
            alarms: Agenda::default(),
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            usages: Vec::new(),
            registration,
            lamps: Vec::new(),
            texts: Vec::new(),
            heard_texts: Vec::new(),
            plans: VecDeque::new(),
            unheard: BTreeSet::new(),
            outputs: VecDeque::new(),
            breaches: Vec::new(),
            counter: carrier::Counter::default(),
            next_port: 4_000,
            gone: false,
        }
    }

    pub fn settings(&self) -> &PhoneSettings {
        &self.settings
    }

    /// Lays out what it does with the next call that comes.
    pub fn expect_call(&mut self, plan: CalleePlan) {
        self.plans.push_back(plan);
    }

    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        self.usages.iter().map(|usage| &usage.report)
    }

    pub fn usage(&self, id: UsageId) -> &Usage {
        &self.usages[id]
    }

    pub fn usages(&self) -> &[Usage] {
        &self.usages
    }

    pub fn is_gone(&self) -> bool {
        self.gone
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn take_breaches(&mut self) -> Vec<String> {
        std::mem::take(&mut self.breaches)
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.alarms.next_at()
    }

    /// Power cut: it says and hears nothing, and remembers nothing when it comes back.
    pub fn vanish(&mut self, now: Instant) {
        self.gone = true;
        self.alarms.clear();
        self.clients.clear();
        self.servers.clear();
        self.counter.forget();
        self.lose_lamps();
        for usage in &mut self.usages {
            if usage.phase != Phase::Over {
                usage.close(now, Ending::Lost);
            }
        }
    }

    pub fn come_back(&mut self, now: Instant) {
        self.gone = false;
        self.registration.forget();
        self.register(now);
    }

    pub fn handle_sip(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if self.gone {
            return;
        }
        match Heard::read(bytes) {
            Ok(heard) if heard.status.is_some() => self.hear_response(now, &heard),
            Ok(heard) => self.hear_request(now, from, heard),
            Err(why) => {
                let text = String::from_utf8_lossy(bytes);
                self.breach(format!("a message that cannot be read ({why}): {text}"));
            }
        }
    }

    pub fn handle_rtp(&mut self, port: u16, from: SocketAddr, bytes: &[u8]) {
        if self.gone {
            return;
        }
        let mine = |usage: &&mut Usage| {
            let audio = usage.talking.audio().port();
            usage.phase != Phase::Over && (audio..audio + 2).contains(&port)
        };
        let Some(usage) = self.usages.iter_mut().find(mine) else { return };
        let above = port - usage.talking.audio().port();
        match talk::mark_in(bytes).filter(|_| above == 0) {
            Some(mark) => {
                usage.talking.packets_heard += 1;
                usage.talking.heard_from.insert(mark);
            }
            None => usage.talking.reports_heard += 1,
        }
        let base = SocketAddr::new(from.ip(), from.port().wrapping_sub(above));
        // RFC 3264 5.1: media may overtake the answer that names its source.
        let named = &usage.talking.remotes;
        if !named.is_empty() && !usage.talking.is_offering() && !named.contains(&base) {
            let call = usage.call_id.clone();
            self.breach(format!("media for {call} from {from}, which no SDP named"));
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(alarm) = self.alarms.pop_due(now) {
            match alarm {
                Alarm::ClientGiveUp(key) => self.give_up(now, &key),
                Alarm::ClientOver(key) => drop(self.clients.remove(&key)),
                Alarm::ClientResend(key) => self.resend_request(now, key),
                Alarm::Register => self.register(now),
                Alarm::ServerOver(key) => drop(self.servers.remove(&key)),
                Alarm::ServerResend(key) => self.resend_answer(now, key),
                Alarm::Usage(id, deed) => self.do_deed(now, id, deed),
            }
        }
    }

    fn do_deed(&mut self, now: Instant, id: UsageId, deed: Deed) {
        if self.usages[id].phase == Phase::Over {
            return;
        }
        match deed {
            Deed::Acknowledge(cseq) => self.acknowledge(id, cseq),
            Deed::Answer => self.accept(now, id),
            Deed::Cancel => self.cancel(now, id),
            Deed::ForkAnswer => self.accept_on_other_branch(now, id),
            Deed::GiveUpInvite => self.give_up_invite(now, id),
            Deed::GiveUpOk(cseq) => self.give_up_ok(now, id, cseq),
            Deed::GiveUpRing(rseq) => self.give_up_ring(now, id, rseq),
            Deed::HangUp => self.hang_up(now, id),
            Deed::Refresh(round) => self.refresh(now, id, round),
            Deed::Refuse(status) => self.refuse(now, id, status),
            Deed::Reply(key) => self.reply_to_change(now, id, &key),
            Deed::ResendOk(cseq) => self.resend_ok(now, id, cseq),
            Deed::ResendRing(rseq) => self.resend_ring(now, id, rseq),
            Deed::RetryStep => self.retry_step(now, id),
            Deed::Ring(ring) => self.ring(now, id, ring),
            Deed::SessionOver(round) => self.session_over(now, id, round),
            Deed::Speak => self.speak(now, id),
            Deed::Step(step) => self.step(now, id, step),
        }
    }

    fn is_reliable(&self) -> bool {
        self.settings.transport.is_reliable()
    }

    fn send(&mut self, to: SocketAddr, text: String) -> Rc<[u8]> {
        let bytes: Rc<[u8]> = Rc::from(in_dialect(text, self.settings.dialect));
        self.outputs.push_back(Output::Sip { to, bytes: Rc::clone(&bytes) });
        bytes
    }

    fn breach(&mut self, what: String) {
        self.breaches.push(what);
    }

    fn contact(&self) -> String {
        let PhoneSettings { user, home, transport, .. } = &self.settings;
        let parameter = if *transport == Transport::Udp { "" } else { ";transport=tcp" };
        format!("<sip:{user}@{home}{parameter}>")
    }

    fn via_transport(&self) -> rsip::Transport {
        if self.is_reliable() { rsip::Transport::Tcp } else { rsip::Transport::Udp }
    }

    fn branch(&mut self) -> String {
        format!("z9hG4bK{}", self.random.word(16))
    }

    /// A request outside a dialog goes to the gateway, one inside to the peer's Contact.
    fn destination_of(&self, purpose: Purpose) -> SocketAddr {
        match purpose {
            Purpose::Bye(id)
            | Purpose::Note(id)
            | Purpose::Prack(id)
            | Purpose::ReInvite(id)
            | Purpose::Update(id) => self.target_of(&self.usages[id]),
            Purpose::Cancel(_)
            | Purpose::Invite(_)
            | Purpose::Register
            | Purpose::Subscribe(_)
            | Purpose::Text(_) => self.settings.gateway,
        }
    }

    fn target_of(&self, usage: &Usage) -> SocketAddr {
        if self.is_reliable() {
            return self.settings.gateway;
        }
        let next = usage
            .routes
            .first()
            .map_or(usage.target.as_str(), |route| crate::speech::glance::uri_of(route));
        address_of(next).unwrap_or(self.settings.gateway)
    }

    /// A request inside the dialog of a call (RFC 3261 12.2.1.1).
    fn dialog_request(
        &mut self,
        id: UsageId,
        method: Method,
        cseq: u32,
        body: Option<Body>,
    ) -> String {
        self.dialog_request_with(id, method, cseq, body, Vec::new())
    }

    fn dialog_request_with(
        &mut self,
        id: UsageId,
        method: Method,
        cseq: u32,
        body: Option<Body>,
        mut more: Vec<Header>,
    ) -> String {
        let (branch, contact) = (self.branch(), self.contact());
        let (cnonce, transport) = (self.random.word(8), self.via_transport());
        more.extend(self.session_request(id, method));
        more.extend(self.reliability_request(id, method));
        let PhoneSettings { user, password, home, .. } = &self.settings;
        let usage = &mut self.usages[id];
        if let Some((ask, challenge)) = usage.credentials.as_mut().filter(|_| method != Method::Ack)
        {
            let is_wrong = matches!(&usage.plan, usage::Plan::Caller(plan) if plan.wrong_password);
            let password = if is_wrong { "not the password" } else { password.as_str() };
            let who = (user.as_str(), password);
            let value = challenge.answer(who, &method.to_string(), &usage.target, &cnonce);
            more.push(credentials_header(*ask, value));
        }
        let takes_contact = matches!(method, Method::Invite | Method::Refer | Method::Update);
        request(Ask {
            method,
            uri: &usage.target,
            transport,
            sent_by: *home,
            branch: &branch,
            from: Party { uri: &usage.local_uri, tag: Some(&usage.local_tag) },
            to: Party { uri: &usage.remote_uri, tag: usage.remote_tag.as_deref() },
            call_id: &usage.call_id,
            cseq,
            contact: takes_contact.then_some(contact.as_str()),
            routes: &usage.routes,
            more,
            body,
        })
    }

    fn take_port(&mut self) -> SocketAddr {
        let port = self.next_port;
        // Room for RTCP, a video line and a few moves.
        self.next_port = if port > 60_000 { 4_000 } else { port + 40 };
        SocketAddr::new(self.settings.home.ip(), port)
    }

    fn at(&mut self, now: Instant, after: Duration, id: UsageId, deed: Deed) {
        self.alarms.push(now + after, Alarm::Usage(id, deed));
    }
}

fn reply() -> Reply<'static> {
    Reply::default()
}

fn credentials_header(ask: usage::Ask, value: String) -> Header {
    match ask {
        usage::Ask::Proxy => rsip::headers::ProxyAuthorization::new(value).into(),
        usage::Ask::Registrar => rsip::headers::Authorization::new(value).into(),
    }
}

/// The challenge of a 401 or 407 that the phone can answer.
fn challenge_in(heard: &Heard, settings: &PhoneSettings) -> Option<(usage::Ask, Challenge)> {
    let (ask, name) = match heard.status? {
        401 => (usage::Ask::Registrar, "WWW-Authenticate"),
        407 => (usage::Ask::Proxy, "Proxy-Authenticate"),
        _ => return None,
    };
    Challenge::choose(heard.values(name), &settings.hashes).map(|challenge| (ask, challenge))
}
