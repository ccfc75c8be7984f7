//! The registrar of one shard: bindings of the AORs that hash to it (RFC 3261 10.3, RFC 3327, RFC 5626).
//! Owns:  the location table, its expiry, the answer to REGISTER.
//! Gives: `targets` for a call, registration events for the control plane.
//! Never: a challenge or a password; the gate was passed before.
//! Holds: a REGISTER changes all of its contacts or none.

use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;
use shared::event::{BindingView, Event, Registration, RegistrationChange, Severity};
use shared::ids::{FlowKey, ShardId};
use shared::limits::{AORS_PER_SHARD_MAX, BINDINGS_PER_AOR_MAX};
use shared::metrics::Counter;
use shared::net::{Destination, Source};
use shared::time::Instant;
use sip::wire::{HeaderName, Message, NameAddr, Uri};

use crate::b2bua::compose::readable;
use crate::desk::{Desk, Reply, TimerKey};
use crate::gruu;
use crate::io::{BindingTarget, Phone};
use crate::slots::{Key, Slots};
use crate::transactions::ServerKey;

#[derive(Debug)]
pub(crate) struct Registrar {
    aors: Slots<Aor>,
    by_name: FxHashMap<Box<str>, Key>,
    bindings: usize,
    draining: bool,
}

#[derive(Debug)]
struct Aor {
    name: Box<str>,
    bindings: Vec<Binding>,
    /// Its user lets people call who have no account; as the backends said at the last REGISTER.
    takes_guests: bool,
    armed: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Binding {
    target: BindingTarget,
    /// `+sip.instance` and `reg-id`: a phone that comes back replaces itself (RFC 5626 6).
    instance: Option<Vec<u8>>,
    call_id: Vec<u8>,
    cseq: u32,
    registered_at: Instant,
    expires_at: Instant,
    user_agent: Option<String>,
    /// What its temporary GRUUs stand for, once it has asked for some.
    registration: Option<u64>,
}

impl Binding {
    fn is_of(&self, phone: &Phone) -> bool {
        match phone {
            Phone::Instance(wanted) => {
                let own = self.instance.as_deref().and_then(gruu::instance);
                own.is_some_and(|own| own.eq_ignore_ascii_case(wanted))
            }
            Phone::Temporary(wanted) => self.registration == Some(*wanted),
        }
    }
}

/// Who registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registrant<'r> {
    /// The user part of its AOR.
    pub name: &'r str,
    pub takes_guests: bool,
}

/// One Contact of a REGISTER, read and bounded.
struct Asked {
    uri: Vec<u8>,
    instance: Option<Vec<u8>>,
    q: u16,
    /// 0 removes.
    expires_s: u32,
}

impl Registrar {
    pub(crate) fn new() -> Self {
        Self {
            aors: Slots::new(AORS_PER_SHARD_MAX),
            by_name: FxHashMap::default(),
            bindings: 0,
            draining: false,
        }
    }

    /// From now on registrations are as short as they may be: phones ask again soon, and find whoever
    /// serves then.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    pub(crate) fn aor_count(&self) -> usize {
        self.aors.len()
    }

    pub(crate) fn binding_count(&self) -> usize {
        self.bindings
    }

    /// Contacts of `aor`, highest q first, then the newest. Of one `phone` its newest contact alone: it may
    /// have several flows (RFC 5626 5.3).
    pub(crate) fn targets(&self, aor: &str, phone: Option<&Phone>) -> Vec<BindingTarget> {
        let Some(found) = self.by_name.get(aor).and_then(|&key| self.aors.find(key)) else {
            return Vec::new();
        };
        if let Some(phone) = phone {
            let newest = found.bindings.iter().rev().find(|binding| binding.is_of(phone));
            return newest.map(|binding| binding.target.clone()).into_iter().collect();
        }
        let mut targets: Vec<_> =
            found.bindings.iter().rev().map(|binding| binding.target.clone()).collect();
        targets.sort_by_key(|target| std::cmp::Reverse(target.q));
        targets
    }

    /// Where all phones are reached.
    pub(crate) fn sources(&self) -> impl Iterator<Item = IpAddr> {
        let bindings = self.aors.iter().flat_map(|(_, aor)| &aor.bindings);
        bindings.map(|binding| binding.target.destination.peer.ip())
    }

    /// Whether `aor` is registered, and lets people call who have no account.
    pub(crate) fn takes_guests(&self, aor: &str) -> bool {
        let found = self.by_name.get(aor).and_then(|&key| self.aors.find(key));
        found.is_some_and(|aor| aor.takes_guests)
    }

    /// The bindings of these users, for people.
    pub(crate) fn views(
        &self,
        now: Instant,
        shard: ShardId,
        names: &[Box<str>],
    ) -> Vec<BindingView> {
        let found = names.iter().filter_map(|name| self.aors.find(*self.by_name.get(name)?));
        let bindings = found.flat_map(|aor| aor.bindings.iter().map(move |one| (aor, one)));
        let view = |(aor, binding): (&Aor, &Binding)| BindingView {
            aor: aor.name.to_string(),
            contact: readable(&binding.target.uri),
            destination: binding.target.destination.peer,
            transport: binding.target.destination.transport,
            user_agent: binding.user_agent.clone(),
            instance: binding.instance.as_deref().map(readable),
            path: binding.target.path.iter().map(|path| readable(path)).collect(),
            expires_s: binding.expires_at.since(now).as_secs(),
            age_s: now.since(binding.registered_at).as_secs(),
            shard,
        };
        bindings.map(view).collect()
    }

    /// Answers a REGISTER whose sender is `aor`'s own user.
    pub(crate) fn register(
        &mut self,
        desk: &mut Desk,
        key: ServerKey,
        request: &Message<'_>,
        from: &Source,
        Registrant { name: aor, takes_guests }: Registrant<'_>,
    ) {
        match self.apply(desk, request, from, aor) {
            Ok(()) => {
                let found = self.by_name.get(aor).and_then(|&key| self.aors.find_mut(key));
                if let Some(found) = found {
                    found.takes_guests = takes_guests;
                }
                desk.count(Counter::RegistrationsAccepted);
                self.answer(desk, key, request, aor);
            }
            Err(Refusal::TooBrief) => {
                desk.count(Counter::RegistrationsRefused);
                let least = desk.settings.registrar.expires_min_s;
                desk.respond(key, Reply::new(423), |_, _, mut out| {
                    out.header_fmt("Min-Expires", format_args!("{least}"));
                    out.end();
                });
            }
            Err(Refusal::Status(status)) => {
                desk.count(Counter::RegistrationsRefused);
                desk.notice(Severity::Warning, "register_refused", || {
                    format!("REGISTER of {aor:?} from {} answered {status}", from.peer)
                });
                desk.refuse(key, status);
            }
        }
    }

    fn apply(
        &mut self,
        desk: &mut Desk,
        request: &Message<'_>,
        from: &Source,
        aor: &str,
    ) -> Result<(), Refusal> {
        let call_id = request.call_id().map_err(|_| Refusal::Status(400))?;
        let cseq = request.cseq().map_err(|_| Refusal::Status(400))?.number;
        let contacts: Vec<&[u8]> = request.values(HeaderName::Contact).collect();
        if contacts.is_empty() {
            return Ok(()); // a query
        }
        self.check_order(aor, call_id, cseq)?;
        if contacts.contains(&b"*".as_slice()) {
            if contacts.len() != 1 || request.expires() != Some(0) {
                return Err(Refusal::Status(400));
            }
            self.remove_where(desk, aor, RegistrationChange::Unregistered, |_| true);
            return Ok(());
        }
        let rules = desk.settings.registrar;
        let most = if self.draining { rules.expires_min_s } else { rules.expires_max_s };
        let asked = read_contacts(desk, request, &contacts, most)?;
        let path: Vec<Vec<u8>> = request.values(HeaderName::Path).map(<[u8]>::to_vec).collect();
        let user_agent = request
            .first(HeaderName::UserAgent)
            .map(|value| String::from_utf8_lossy(value).into_owned());
        let is_asked = gruu::is_asked(request);
        for contact in asked {
            let same = |binding: &Binding| {
                binding.target.uri == contact.uri
                    || (contact.instance.is_some() && binding.instance == contact.instance)
            };
            if contact.expires_s == 0 {
                self.remove_where(desk, aor, RegistrationChange::Unregistered, same);
                continue;
            }
            let wait = Duration::from_secs(u64::from(contact.expires_s));
            let binding = Binding {
                target: BindingTarget {
                    uri: contact.uri.clone(),
                    destination: from.back(),
                    path: path.clone(),
                    q: contact.q,
                },
                instance: contact.instance.clone(),
                call_id: call_id.to_vec(),
                cseq,
                registered_at: desk.now.mono,
                expires_at: desk.now.mono + wait,
                user_agent: user_agent.clone(),
                registration: contact
                    .instance
                    .as_deref()
                    .and_then(gruu::instance)
                    .filter(|_| is_asked)
                    .map(|instance| desk.gruus.registration(aor, instance, call_id)),
            };
            report(desk, RegistrationChange::Registered, aor, &binding, contact.expires_s);
            self.put(desk, aor, binding, same)?;
        }
        Ok(())
    }

    /// RFC 3261 10.3 step 7: the same Call-ID with an older CSeq is an old message.
    fn check_order(&self, aor: &str, call_id: &[u8], cseq: u32) -> Result<(), Refusal> {
        let Some(found) = self.by_name.get(aor).and_then(|&key| self.aors.find(key)) else {
            return Ok(());
        };
        let late = |binding: &Binding| binding.call_id == call_id && cseq <= binding.cseq;
        if found.bindings.iter().any(late) { Err(Refusal::Status(500)) } else { Ok(()) }
    }

    fn put(
        &mut self,
        desk: &mut Desk,
        aor: &str,
        binding: Binding,
        same: impl Fn(&Binding) -> bool,
    ) -> Result<(), Refusal> {
        let key = match self.by_name.get(aor) {
            Some(&key) => key,
            None => {
                let name: Box<str> = aor.into();
                let empty = Aor {
                    name: name.clone(),
                    bindings: Vec::with_capacity(1),
                    takes_guests: false,
                    armed: None,
                };
                let key = self.aors.insert(empty).map_err(|_| Refusal::Status(503))?;
                self.by_name.insert(name, key);
                key
            }
        };
        let found = self.aors.find_mut(key).expect("just found or made");
        let before = found.bindings.len();
        found.bindings.retain(|old| !same(old));
        if found.bindings.len() >= BINDINGS_PER_AOR_MAX {
            // The one that would run out first makes room: an authenticated phone is never shut
            // out by the leftovers of its own restarts.
            let oldest = found.bindings.iter().enumerate().min_by_key(|(_, old)| old.expires_at);
            if let Some((index, _)) = oldest {
                found.bindings.remove(index);
            }
        }
        found.bindings.push(binding);
        self.bindings = self.bindings + found.bindings.len() - before;
        self.arm(desk, key);
        Ok(())
    }

    fn arm(&mut self, desk: &mut Desk, key: Key) {
        let Some(found) = self.aors.find_mut(key) else { return };
        let Some(first) = found.bindings.iter().map(|binding| binding.expires_at).min() else {
            return;
        };
        if found.armed.is_none_or(|armed| first < armed) {
            found.armed = Some(first);
            desk.wheel.arm(first, TimerKey::Aor(key));
        }
    }

    /// A wheel entry of an AOR fired.
    pub(crate) fn expire(&mut self, desk: &mut Desk, key: Key) {
        let now = desk.now.mono;
        let Some(found) = self.aors.find_mut(key) else { return };
        found.armed = None;
        let name = found.name.clone();
        let gone = |binding: &Binding| binding.expires_at <= now;
        self.remove_where(desk, &name, RegistrationChange::Offline, gone);
        self.arm(desk, key);
    }

    /// The flow of a connection is gone, and with it every binding over it (RFC 5626 5.3).
    pub(crate) fn flow_closed(&mut self, desk: &mut Desk, flow: FlowKey) {
        let over = |binding: &Binding| binding.target.destination.flow == Some(flow);
        let names: Vec<Box<str>> = self
            .aors
            .iter()
            .filter(|(_, aor)| aor.bindings.iter().any(over))
            .map(|(_, aor)| aor.name.clone())
            .collect();
        for name in names {
            self.remove_where(desk, &name, RegistrationChange::Offline, over);
        }
    }

    fn remove_where(
        &mut self,
        desk: &mut Desk,
        aor: &str,
        change: RegistrationChange,
        gone: impl Fn(&Binding) -> bool,
    ) {
        let Some(&key) = self.by_name.get(aor) else { return };
        let Some(found) = self.aors.find_mut(key) else { return };
        let before = found.bindings.len();
        found.bindings.retain(|binding| {
            let goes = gone(binding);
            if goes {
                report(desk, change, aor, binding, 0);
            }
            !goes
        });
        let removed = before - found.bindings.len();
        self.bindings -= removed;
        if change == RegistrationChange::Offline {
            desk.out.counters.add(Counter::BindingsExpired, removed as u64);
        }
        if found.bindings.is_empty() {
            self.aors.remove(key);
            self.by_name.remove(aor);
        }
    }

    /// 200 with every standing contact and its remaining time (RFC 3261 10.3 step 8).
    fn answer(&self, desk: &mut Desk, key: ServerKey, request: &Message<'_>, aor: &str) {
        let found = self.by_name.get(aor).and_then(|&key| self.aors.find(key));
        let now = desk.now.mono;
        let bindings = found.map(|aor| aor.bindings.as_slice()).unwrap_or_default();
        let mut gruus = Vec::new();
        if let Some(answer) = gruu::Answer::of(request, aor) {
            let params =
                |one: &Binding| answer.params(desk, one.instance.as_deref(), one.registration);
            gruus.extend(bindings.iter().map(params));
        }
        desk.respond(key, Reply::new(200), |_, _, mut out| {
            for (place, binding) in bindings.iter().enumerate() {
                // Rounded up: 0 would say that it is gone.
                let left = binding.expires_at.since(now).as_millis().div_ceil(1_000);
                let mut value = Vec::with_capacity(binding.target.uri.len() + 64);
                value.push(b'<');
                value.extend_from_slice(&binding.target.uri);
                value.extend_from_slice(format!(">;expires={left}").as_bytes());
                if let Some(instance) = &binding.instance {
                    value.extend_from_slice(b";+sip.instance=");
                    value.extend_from_slice(instance);
                }
                if let Some(params) = gruus.get(place) {
                    value.extend_from_slice(params);
                }
                out.header("Contact", &value);
            }
            if request.first(HeaderName::Path).is_some() {
                out.copy(request, HeaderName::Path);
                out.header("Supported", b"path");
            }
            out.end();
        });
    }
}

enum Refusal {
    Status(u16),
    TooBrief,
}

fn read_contacts(
    desk: &Desk,
    request: &Message<'_>,
    contacts: &[&[u8]],
    most_s: u32,
) -> Result<Vec<Asked>, Refusal> {
    if contacts.len() > BINDINGS_PER_AOR_MAX {
        return Err(Refusal::Status(403));
    }
    let rules = desk.settings.registrar;
    let read = |value: &&[u8]| {
        let contact = NameAddr::parse(value).map_err(|_| Refusal::Status(400))?;
        Uri::parse(contact.uri).map_err(|_| Refusal::Status(400))?;
        let own = contact.param("expires").flatten().and_then(parse_seconds);
        let expires_s = own.or_else(|| request.expires()).unwrap_or(rules.expires_default_s);
        if expires_s > 0 && expires_s < rules.expires_min_s {
            return Err(Refusal::TooBrief);
        }
        let instance = contact.param("+sip.instance").flatten().map(|instance| {
            // A phone with several flows keeps them apart by reg-id (RFC 5626 4.2).
            let flow = contact.param("reg-id").flatten().unwrap_or_default();
            if flow.is_empty() { instance.to_vec() } else { [instance, b";reg-id=", flow].concat() }
        });
        Ok(Asked {
            uri: contact.uri.to_vec(),
            instance,
            q: contact.param("q").flatten().map_or(1_000, parse_q),
            expires_s: expires_s.min(most_s),
        })
    };
    contacts.iter().map(read).collect()
}

/// Digits only; more than a u32 is as long as it gets (RFC 3261 20.19).
fn parse_seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0_u32, |value, digit| {
        value.saturating_mul(10).saturating_add(u32::from(digit - b'0'))
    }))
}

/// `0.7` to 700; nonsense counts as 1.
fn parse_q(text: &[u8]) -> u16 {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let q: f32 = text.parse().unwrap_or(1.0);
    if q.is_nan() {
        return 1_000;
    }
    // The clamp keeps the product inside 0..=1000.
    (q.clamp(0.0, 1.0) * 1_000.0).round() as u16
}

fn report(desk: &mut Desk, change: RegistrationChange, aor: &str, binding: &Binding, left: u32) {
    let Destination { transport, peer, .. } = binding.target.destination;
    let registration = Registration {
        change,
        at: desk.now.wall,
        aor: format!("sip:{aor}@{}", desk.settings.realm),
        contact: String::from_utf8_lossy(&binding.target.uri).into_owned(),
        destination: peer,
        transport,
        user_agent: binding.user_agent.clone(),
        expires_s: left,
    };
    desk.out.event(Event::Registration(Box::new(registration)));
}
