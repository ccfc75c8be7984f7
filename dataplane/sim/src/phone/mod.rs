//! A scripted phone: a user agent that follows RFC 3261 on its own and does what its plan says.
//! Owns:  its transactions, calls, registration, dice and alarms.
//! Gives: `handle_` in, `poll_output` out, `deadline()`; reports of its calls; breaches by its peer.
//! Never: the gateway's code; a clock; the network.
//! Holds: whatever it breaks it was told to break (a lost ACK, a sudden end); the rest is the RFC.

mod callee;
mod caller;
mod client;
mod midcall;
pub mod plan;
mod registration;
pub mod talk;
mod usage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rsip::headers::UntypedHeader as _;
use rsip::{Header, Method};
use shared::net::Transport;
use shared::time::Instant;

use crate::agenda::Agenda;
use crate::phone::client::{Alarm, Client, Purpose, Said, Server, T1, T2, T4, give_up_at, key};
use crate::phone::plan::{CalleePlan, PhoneSettings};
use crate::phone::registration::Registration;
use crate::phone::usage::{Deed, Usage};
use crate::random::Random;
use crate::speech::digest::Challenge;
use crate::speech::heard::{Heard, address_of};
use crate::speech::{Ask, Body, Party, Reply, in_dialect, request, response};

pub use crate::phone::usage::{Ending, Phase, Report};

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
    plans: VecDeque<CalleePlan>,
    /// Calls that it does not hear: Call-IDs of a silent plan.
    unheard: BTreeSet<String>,
    outputs: VecDeque<Output>,
    breaches: Vec<String>,
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
            plans: VecDeque::new(),
            unheard: BTreeSet::new(),
            outputs: VecDeque::new(),
            breaches: Vec::new(),
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
            Deed::HangUp => self.hang_up(now, id),
            Deed::Refuse(status) => self.refuse(now, id, status),
            Deed::Reply(key) => self.reply_to_change(now, id, &key),
            Deed::ResendOk(cseq) => self.resend_ok(now, id, cseq),
            Deed::RetryStep => self.retry_step(now, id),
            Deed::Ring(ring) => self.ring(now, id, ring),
            Deed::Speak => self.speak(now, id),
            Deed::Step(step) => self.step(now, id, step),
        }
    }

    // Client side -----------------------------------------------------------------------------

    /// Sends a request in a transaction of its own; gives the transaction's key.
    fn ask(&mut self, now: Instant, text: String, to: SocketAddr, purpose: Purpose) -> String {
        let asked = Heard::read(text.as_bytes()).expect("rsip reads what rsip wrote");
        let key = key(&asked.branch, asked.method);
        let bytes = self.send(to, text);
        let client = Client::new(asked, bytes, purpose, self.is_reliable());
        if let Some(after) = client.resend_after() {
            self.alarms.push(now + after, Alarm::ClientResend(key.clone()));
        }
        self.alarms.push(give_up_at(now), Alarm::ClientGiveUp(key.clone()));
        self.clients.insert(key.clone(), client);
        key
    }

    fn resend_request(&mut self, now: Instant, key: String) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        if client.resend_after().is_none() {
            return;
        }
        client.lengthen();
        let (bytes, wait, purpose) = (Rc::clone(&client.bytes), client.wait, client.purpose);
        let to = self.destination_of(purpose);
        self.outputs.push_back(Output::Sip { to, bytes });
        self.alarms.push(now + wait, Alarm::ClientResend(key));
    }

    fn give_up(&mut self, now: Instant, key: &str) {
        let waits = |client: &Client| match client.state {
            client::State::Trying => true,
            client::State::Proceeding => !client.is_invite(),
            client::State::Accepted | client::State::Completed => false,
        };
        if self.clients.get(key).is_some_and(waits) {
            let client = self.clients.remove(key).expect("it was just there");
            // RFC 3261 8.1.3.1: no answer counts as 408.
            self.hear_final(now, client.purpose, None, &client.asked);
        }
    }

    fn hear_response(&mut self, now: Instant, heard: &Heard) {
        let status = heard.status.expect("a response");
        let key = key(&heard.branch, heard.cseq_method);
        let Some(client) = self.clients.get_mut(&key) else {
            return self.hear_more_ok(heard);
        };
        let (said, purpose, is_invite) = (client.hear(status), client.purpose, client.is_invite());
        let linger = client.linger();
        if heard.vias != 1 {
            self.breach(format!("a response with {} Via headers (RFC 3261 8.1.3.3)", heard.vias));
        }
        match said {
            Said::Provisional => self.hear_provisional(now, purpose, heard),
            Said::Final => {
                self.alarms.push(now + linger, Alarm::ClientOver(key.clone()));
                if is_invite && status >= 300 {
                    self.acknowledge_failure(&key, heard);
                }
                let asked = self.clients[&key].asked.clone();
                self.hear_final(now, purpose, Some(heard), &asked);
            }
            Said::Repeat if is_invite && status >= 300 => {
                let client = &self.clients[&key];
                let bytes = client.ack.clone().expect("sent with the first one");
                let to = self.destination_of(purpose);
                self.outputs.push_back(Output::Sip { to, bytes });
            }
            Said::Repeat => self.hear_more_ok(heard),
            Said::Contradiction => {
                let first = self.clients[&key].final_status.unwrap_or_default();
                let call = &heard.call_id;
                self.breach(format!("{} of {call} got {first} and then {status}", heard.method));
            }
        }
    }

    fn hear_provisional(&mut self, now: Instant, purpose: Purpose, heard: &Heard) {
        if let Purpose::Invite(id) = purpose {
            self.hear_ringing(now, id, heard);
        }
    }

    /// The one place where a final answer, or its absence, reaches what the request was for.
    fn hear_final(&mut self, now: Instant, purpose: Purpose, heard: Option<&Heard>, asked: &Heard) {
        match purpose {
            Purpose::Bye(id) => self.usages[id].close(now, Ending::LocalBye),
            Purpose::Cancel(_) => {}
            Purpose::Invite(id) => self.hear_invite_answer(now, id, heard, asked),
            Purpose::Note(id) => self.hear_note_answer(now, id, heard),
            Purpose::ReInvite(id) => self.hear_change_answer(now, id, heard, asked),
            Purpose::Register => self.hear_registrar(now, heard, asked),
            Purpose::Update(id) => self.hear_update_answer(now, id, heard),
        }
    }

    fn acknowledge_failure(&mut self, key: &str, heard: &Heard) {
        let client = &self.clients[key];
        let (text, purpose) = (crate::speech::ack_of_failure(&client.asked, heard), client.purpose);
        let to = self.destination_of(purpose);
        let bytes = self.send(to, text);
        self.clients.get_mut(key).expect("it was just there").ack = Some(bytes);
    }

    /// RFC 3261 13.2.2.4: every repeat of a 2xx gets its ACK again.
    fn hear_more_ok(&mut self, heard: &Heard) {
        if heard.cseq_method != Method::Invite || !matches!(heard.status, Some(200..=299)) {
            return;
        }
        let mine =
            |usage: &&Usage| usage.call_id == heard.call_id && usage.local_tag == heard.from_tag;
        let Some(usage) = self.usages.iter().find(mine) else { return };
        if usage.remote_tag.is_some() && usage.remote_tag != heard.to_tag {
            let call = &heard.call_id;
            return self.breaches.push(format!("{call}: a second 2xx came with another To tag"));
        }
        if let Some(ack) = usage.acks.get(&heard.cseq) {
            let (to, bytes) = (self.target_of(usage), Rc::clone(ack));
            self.outputs.push_back(Output::Sip { to, bytes });
        }
    }

    // Server side -----------------------------------------------------------------------------

    fn hear_request(&mut self, now: Instant, from: SocketAddr, mut heard: Heard) {
        let key = key(&heard.branch, heard.method);
        if heard.method == Method::Ack {
            return self.hear_ack(now, &key, &heard);
        }
        if self.unheard.contains(&heard.call_id) {
            return;
        }
        if let Some(server) = self.servers.get(&key) {
            if let Some(bytes) = server.answer.clone().filter(|_| !server.quiet) {
                self.outputs.push_back(Output::Sip { to: from, bytes });
            }
            return;
        }
        fill_via(&mut heard, from);
        if !heard.headers.iter().any(|header| matches!(header, Header::MaxForwards(_))) {
            self.breach(format!("{} without Max-Forwards (RFC 3261 8.1.1)", heard.method));
        }
        let server = Server {
            asked: heard.clone(),
            from,
            answer: None,
            status: 0,
            usage: None,
            quiet: false,
            wait: T1,
        };
        self.servers.insert(key.clone(), server);
        match (heard.method, &heard.to_tag) {
            (Method::Cancel, _) => self.hear_cancel(now, &key, &heard),
            (_, Some(_)) => self.hear_in_dialog(now, &key, &heard),
            (Method::Invite, None) => self.hear_invite(now, &key, &heard),
            (Method::Options, None) => self.answer(now, &key, Reply { status: 200, ..reply() }),
            (_, None) => self.answer(now, &key, Reply { status: 481, ..reply() }),
        }
    }

    /// Gives an answer in a server transaction and keeps it for repeats (RFC 3261 17.2).
    fn answer(&mut self, now: Instant, key: &str, reply: Reply<'_>) {
        let reliable = self.is_reliable();
        let Some(server) = self.servers.get_mut(key) else { return };
        let (status, is_invite) = (reply.status, server.asked.method == Method::Invite);
        let drawn = self.random.word(8);
        let to_tag = reply.to_tag.or_else(|| (status > 100).then_some(drawn.as_str()));
        let text = response(&server.asked, Reply { to_tag, ..reply });
        let bytes: Rc<[u8]> = Rc::from(in_dialect(text, self.settings.dialect));
        server.answer = Some(Rc::clone(&bytes));
        server.status = status;
        server.quiet = is_invite && (200..300).contains(&status);
        self.outputs.push_back(Output::Sip { to: server.from, bytes });
        if status >= 200 {
            self.alarms.push(give_up_at(now), Alarm::ServerOver(key.to_owned()));
            if is_invite && status >= 300 && !reliable {
                self.alarms.push(now + T1, Alarm::ServerResend(key.to_owned()));
            }
        }
    }

    /// Timer G: a failure is sent again until its ACK comes (RFC 3261 17.2.1).
    fn resend_answer(&mut self, now: Instant, key: String) {
        let Some(server) = self.servers.get_mut(&key).filter(|server| !server.quiet) else {
            return;
        };
        let Some(bytes) = server.answer.clone() else { return };
        server.wait = (2 * server.wait).min(T2);
        self.outputs.push_back(Output::Sip { to: server.from, bytes });
        self.alarms.push(now + server.wait, Alarm::ServerResend(key));
    }

    fn hear_ack(&mut self, now: Instant, key: &str, heard: &Heard) {
        if let Some(server) = self.servers.get_mut(key).filter(|server| server.status >= 300) {
            if !server.quiet {
                server.quiet = true;
                self.alarms.push(now + T4, Alarm::ServerOver(key.to_owned()));
            }
            return;
        }
        self.hear_ack_of_ok(now, heard);
    }

    // Parts -----------------------------------------------------------------------------------

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
            Purpose::Bye(id) | Purpose::Note(id) | Purpose::ReInvite(id) | Purpose::Update(id) => {
                self.target_of(&self.usages[id])
            }
            Purpose::Cancel(_) | Purpose::Invite(_) | Purpose::Register => self.settings.gateway,
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
        let (branch, contact) = (self.branch(), self.contact());
        let (cnonce, transport) = (self.random.word(8), self.via_transport());
        let PhoneSettings { user, password, home, .. } = &self.settings;
        let usage = &mut self.usages[id];
        let mut more = Vec::new();
        if let Some((ask, challenge)) = usage.credentials.as_mut().filter(|_| method != Method::Ack)
        {
            let is_wrong = matches!(&usage.plan, usage::Plan::Caller(plan) if plan.wrong_password);
            let password = if is_wrong { "not the password" } else { password.as_str() };
            let who = (user.as_str(), password);
            let value = challenge.answer(who, &method.to_string(), &usage.target, &cnonce);
            more.push(credentials_header(*ask, value));
        }
        let takes_contact = matches!(method, Method::Invite | Method::Update);
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

/// RFC 3581 4: the server fills `rport` in and adds `received`.
fn fill_via(heard: &mut Heard, from: SocketAddr) {
    let top = heard.headers.iter_mut().find_map(|header| match header {
        Header::Via(via) => Some(via),
        _ => None,
    });
    if let Some(via) = top {
        let filled = via
            .value()
            .split(';')
            .map(|part| match part.trim() {
                "rport" => format!("rport={};received={}", from.port(), from.ip()),
                part => part.to_owned(),
            })
            .collect::<Vec<_>>()
            .join(";");
        via.replace(filled);
    }
}
