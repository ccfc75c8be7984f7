//! REGISTER with the carriers of our trunks (RFC 3261 10.2): kept up, taken back, never hammered.
//! Owns:  `Enrolments`: one for each trunk with an account that registers, on one shard.
//! Gives: `enrol_trunks` after each snapshot, `enrolment_due`, `enrolment_told`, `leave_carriers`.
//! Never: two shards that register the same trunk; a trunk's name decides which one does. A second
//!        REGISTER before the first has its answer (RFC 3261 10.2).
//! Holds: an enrolment has one timer that counts; its Call-ID and numbers outlive a change of its
//!        account; what is left is taken back with `Expires: 0`, and waited for `LEAVE_WAIT` at most.

mod pace;
mod wording;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::account::{Account, Registering};
use shared::event::{Event, Severity};
use shared::ids::ShardId;
use shared::limits::ENROLMENTS_MAX;
use shared::metrics::Counter;
use shared::net::{Destination, Transport};
use shared::snapshot::{Entrance, Trunk};
use shared::time::{Instant, WallMs};
use shared::trunk_view::{RegistrationState, RegistrationView};
use sip::wire::{Message, Method};

use crate::core::Core;
use crate::desk::{Desk, TimerKey, Told};
use crate::health::part;
use crate::locate;
use crate::slots::{Key, Slots};
use crate::transactions::{ClientKey, Owner};

use pace::Kind;
use wording::Wording;

pub(crate) type Enrolments = Slots<Enrolment>;

/// A start or a reload with many trunks does not ask everybody in the same millisecond.
const SPREAD: Duration = Duration::from_secs(2);
/// How long the answer to `Expires: 0` is waited for.
const LEAVE_WAIT: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(crate) struct Enrolment {
    trunk: Box<str>,
    account: Arc<Account>,
    place: Place,
    call_id: String,
    tag: String,
    cseq: u32,
    /// Where the last REGISTER went.
    way: Option<Destination>,
    /// The REGISTER that is out.
    asked: Option<ClientKey>,
    /// The account has changed while it was.
    again: bool,
    /// What is asked for; a 423 raises it, once for each registration.
    expires: Duration,
    raised: bool,
    bound_until: Option<Instant>,
    /// In a row.
    failures: u32,
    refused: Option<(u16, String)>,
    try_at: Instant,
    /// It is taken back, and given up at that time.
    leaving: Option<Instant>,
    changed_at: WallMs,
    /// Wheel entries before this one are leftovers.
    due_at: Instant,
}

/// The registrar: the first address of the trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: Box<str>,
    port: Option<u16>,
    at: SocketAddr,
    transport: Transport,
    /// The outbound proxy on the way there.
    route: Option<Box<str>>,
}

impl Place {
    /// `None` while its name is not resolved.
    fn of(trunk: &Trunk) -> Option<Self> {
        let first = trunk.entrances.first()?;
        let (host, port) = trunk.named(first);
        let Entrance { address: at, transport, .. } = *first;
        let route = trunk.options.route.clone();
        Some(Self { host: host.into(), port, at, transport, route })
    }
}

/// What a trunk registers with, if it does.
fn account_of(trunk: &Trunk) -> Option<&Arc<Account>> {
    trunk.account.as_ref().filter(|account| trunk.enabled && account.registers.is_some())
}

fn asked_expires(account: &Account) -> Duration {
    account.registers.as_ref().map_or(Duration::ZERO, |Registering { expires, .. }| *expires)
}

pub(crate) fn enrolments() -> Enrolments {
    Slots::new(ENROLMENTS_MAX)
}

/// The trunk whose registered Contact a call is for, at one of that trunk's addresses. Any shard may
/// be asked.
pub(crate) fn trunk_for<'s>(desk: &'s Desk, peer: SocketAddr, called: &[u8]) -> Option<&'s Trunk> {
    desk.snapshot.trunks.iter().find(|trunk| {
        trunk.direction.gives_calls()
            && trunk.options.tls_names.is_empty()
            && account_of(trunk).is_some_and(|account| *account.username.as_bytes() == *called)
            && trunk.is_at(peer.ip())
    })
}

impl Enrolment {
    fn state(&self) -> RegistrationState {
        match self {
            Self { leaving: Some(_), .. } => RegistrationState::Unregistering,
            Self { bound_until: Some(_), .. } => RegistrationState::Registered,
            Self { refused: Some(_), .. } => RegistrationState::Failed,
            _ => RegistrationState::Trying,
        }
    }

    fn next_look(&self) -> Option<Instant> {
        let next_try = self.asked.is_none().then_some(self.try_at);
        match self.leaving {
            Some(until) => Some(until),
            None => next_try.into_iter().chain(self.bound_until).min(),
        }
    }
}

impl Core {
    /// Brings the registrations in line with the snapshot: what is gone or moved is taken back, what
    /// has changed is registered again at once.
    pub(crate) fn enrol_trunks(&mut self) {
        if self.draining {
            return;
        }
        let snapshot = Arc::clone(&self.desk.snapshot);
        for key in self.enrolments.keys() {
            let Some(enrolment) = self.enrolments.find(key) else { continue };
            if enrolment.leaving.is_some() {
                continue;
            }
            let trunk = snapshot.trunks.iter().find(|trunk| trunk.name == enrolment.trunk);
            let wanted = trunk.and_then(|trunk| Some((Place::of(trunk)?, account_of(trunk)?)));
            match wanted {
                Some((place, account))
                    if place == enrolment.place
                        && account.username == enrolment.account.username =>
                {
                    self.keep_enrolled(key, account);
                }
                _ => self.leave_carrier(key),
            }
        }
        let settings = &self.desk.settings;
        let (me, shards) = (settings.shard, settings.shards);
        let is_mine = |trunk: &&Trunk| ShardId::of_name(trunk.name.as_bytes(), shards) == me;
        for trunk in snapshot.trunks.iter().filter(is_mine) {
            let stands = |one: &Enrolment| one.trunk == trunk.name && one.leaving.is_none();
            if let (Some(account), Some(place)) = (account_of(trunk), Place::of(trunk))
                && !self.enrolments.iter().any(|(_, one)| stands(one))
            {
                self.enrol(trunk, account, place);
            }
        }
    }

    fn enrol(&mut self, trunk: &Trunk, account: &Arc<Account>, place: Place) {
        let now = self.desk.now;
        let mint = &mut self.desk.mint;
        let (random, tag, spread) = (mint.random(), mint.stray_tag(), mint.random());
        let enrolment = Enrolment {
            trunk: trunk.name.clone(),
            account: Arc::clone(account),
            place,
            call_id: format!("{random:016x}@ringgate"),
            tag,
            cseq: 0,
            way: None,
            asked: None,
            again: false,
            expires: asked_expires(account),
            raised: false,
            bound_until: None,
            failures: 0,
            refused: None,
            try_at: now.mono + part(SPREAD, spread),
            leaving: None,
            changed_at: now.wall,
            due_at: now.mono,
        };
        match self.enrolments.insert(enrolment) {
            Ok(key) => self.wake_enrolment(key),
            Err(enrolment) => self.desk.notice(Severity::Warning, "trunk_not_registered", || {
                format!("trunk {} is one too many to register", enrolment.trunk)
            }),
        }
    }

    /// It is still wanted at the same place. With another password, time or header it registers anew.
    fn keep_enrolled(&mut self, key: Key, account: &Arc<Account>) {
        let now = self.desk.now.mono;
        let Some(enrolment) = self.enrolments.find_mut(key) else { return };
        if enrolment.account == *account {
            return;
        }
        enrolment.account = Arc::clone(account);
        enrolment.expires = asked_expires(account);
        (enrolment.raised, enrolment.failures) = (false, 0);
        enrolment.try_at = now;
        enrolment.again = enrolment.asked.is_some();
        self.wake_enrolment(key);
    }

    fn wake_enrolment(&mut self, key: Key) {
        let Some(enrolment) = self.enrolments.find_mut(key) else { return };
        if let Some(due_at) = enrolment.next_look() {
            enrolment.due_at = due_at;
            self.desk.wheel.arm(due_at, TimerKey::Enrolment(key));
        }
    }

    /// A wheel entry of an enrolment fired: its time ran out, or the next REGISTER is due.
    pub(crate) fn enrolment_due(&mut self, key: Key) {
        let now = self.desk.now;
        let Some(enrolment) = self.enrolments.find_mut(key) else { return };
        if enrolment.due_at > now.mono {
            return;
        }
        if enrolment.leaving.is_some() {
            return self.forget_carrier(key);
        }
        if enrolment.bound_until.take_if(|until| *until <= now.mono).is_some() {
            enrolment.changed_at = now.wall;
            let trunk = enrolment.trunk.clone();
            self.desk.notice(Severity::Warning, "trunk_registration_expired", || {
                format!("trunk {trunk}: the registration ran out before it was renewed")
            });
        }
        let Some(enrolment) = self.enrolments.find(key) else { return };
        if enrolment.asked.is_none() && enrolment.try_at <= now.mono {
            let expires = enrolment.expires;
            self.send_register(key, expires);
        }
        self.wake_enrolment(key);
    }

    fn send_register(&mut self, key: Key, expires: Duration) {
        let way = self.way_to_registrar(key);
        let Some(enrolment) = self.enrolments.find_mut(key) else { return };
        let Some(way) = way else { return self.not_enrolled(key, 503, "no way there", None) };
        enrolment.cseq += 1;
        enrolment.way = Some(way);
        let Enrolment { account, place, call_id, tag, cseq, .. } = &*enrolment;
        let wording = Wording { account, place, call_id, tag, cseq: *cseq, expires };
        let (uri, owner) = (wording.registrar(), Owner::Enrolment(key));
        let account = Arc::clone(account);
        let method = Method::Register;
        let sent = self.desk.request(method, uri.as_bytes(), way, 70, owner, |desk, out| {
            wording.write(desk, &way, out);
        });
        enrolment.asked = sent;
        if sent.is_none() {
            return self.not_enrolled(key, 503, "no room for one more request", None);
        }
        self.desk.vouch(sent, Some(account));
        self.desk.count(Counter::TrunkRegisters);
    }

    /// By the trunk as it is now; what it was last where that is gone.
    fn way_to_registrar(&self, key: Key) -> Option<Destination> {
        let enrolment = self.enrolments.find(key)?;
        let trunks = &self.desk.snapshot.trunks;
        let trunk = trunks.iter().find(|trunk| trunk.name == enrolment.trunk);
        let trunk = trunk.filter(|trunk| Place::of(trunk).as_ref() == Some(&enrolment.place));
        let way = trunk
            .and_then(|trunk| Some((trunk, trunk.entrances.first()?)))
            .and_then(|(trunk, at)| locate::way_to(&self.desk, trunk, at, &self.own_source()));
        // Our listener may be on all addresses, and then only a route tells which one it is.
        way.filter(|way| !way.local.ip().is_unspecified()).or(enrolment.way)
    }

    /// What became of a REGISTER.
    pub(crate) fn enrolment_told(
        &mut self,
        key: Key,
        client: ClientKey,
        told: Told,
        response: Option<&Message<'_>>,
    ) {
        let status = match (told, response.and_then(|response| response.status())) {
            (Told::Failed(status), _) => status,
            (Told::Response, Some(status)) => status,
            (Told::Response, None) => return,
        };
        let Some(enrolment) = self.enrolments.find_mut(key) else { return };
        if enrolment.asked != Some(client) || status < 200 {
            return;
        }
        enrolment.asked = None;
        if enrolment.leaving.is_some() {
            return self.forget_carrier(key);
        }
        match (status, response) {
            (200..=299, Some(response)) => self.enrolled(key, response),
            (423, Some(response)) if self.asks_longer(key, response) => {}
            (_, Some(response)) => {
                let reason = match response.start() {
                    sip::wire::Start::Response { reason, .. } => readable(reason),
                    sip::wire::Start::Request { .. } => String::new(),
                };
                self.not_enrolled(key, status, &reason, wording::retry_after(response));
            }
            (408, None) => self.not_enrolled(key, 408, "no answer", None),
            (_, None) => self.not_enrolled(key, status, "not reached", None),
        }
        let now = self.desk.now.mono;
        if let Some(enrolment) = self.enrolments.find_mut(key)
            && std::mem::take(&mut enrolment.again)
        {
            (enrolment.try_at, enrolment.failures) = (now, 0);
        }
        self.wake_enrolment(key);
    }

    fn enrolled(&mut self, key: Key, response: &Message<'_>) {
        let now = self.desk.now;
        let Some(enrolment) = self.enrolments.find(key) else { return };
        let Some(way) = enrolment.way else { return };
        let ours = self.desk.advertised(&way);
        let granted = wording::granted(response, &enrolment.account, ours, enrolment.expires);
        if granted.is_zero() {
            return self.not_enrolled(key, 200, "the answer grants no time", None);
        }
        let random = self.desk.mint.random();
        let Some(enrolment) = self.enrolments.find_mut(key) else { return };
        let was = enrolment.state();
        enrolment.bound_until = Some(now.mono + granted);
        enrolment.try_at = now.mono + pace::refresh_after(granted, random);
        (enrolment.failures, enrolment.refused, enrolment.raised) = (0, None, false);
        if was == RegistrationState::Registered {
            return;
        }
        enrolment.changed_at = now.wall;
        let trunk = enrolment.trunk.clone();
        self.desk.notice(Severity::Info, "trunk_registered", || {
            format!("trunk {trunk} is registered for {} s", granted.as_secs())
        });
    }

    /// RFC 3261 10.2.8: the carrier wants to be asked for more time; once, so that two that cannot
    /// agree do not go on for ever.
    fn asks_longer(&mut self, key: Key, response: &Message<'_>) -> bool {
        let now = self.desk.now.mono;
        let Some(enrolment) = self.enrolments.find_mut(key) else { return false };
        let least = wording::least(response).filter(|least| *least > enrolment.expires);
        let Some(least) = least.filter(|_| !enrolment.raised) else { return false };
        (enrolment.expires, enrolment.raised, enrolment.try_at) = (least, true, now);
        true
    }

    fn not_enrolled(&mut self, key: Key, status: u16, reason: &str, asked: Option<Duration>) {
        let (now, random) = (self.desk.now, self.desk.mint.random());
        let Some(enrolment) = self.enrolments.find_mut(key) else { return };
        let was = enrolment.state();
        enrolment.failures = enrolment.failures.saturating_add(1);
        enrolment.refused = Some((status, reason.to_owned()));
        let wait = Kind::of(status, asked).wait(enrolment.failures, random);
        enrolment.try_at = now.mono + wait;
        if was != enrolment.state() {
            enrolment.changed_at = now.wall;
        }
        let trunk = enrolment.trunk.clone();
        self.desk.count(Counter::TrunkRegistersFailed);
        self.desk.notice(Severity::Warning, "trunk_registration_failed", || {
            format!("trunk {trunk}: {status} {reason}; next try in {} s", wait.as_secs())
        });
    }

    /// Takes a registration back, where there is or may be one.
    fn leave_carrier(&mut self, key: Key) {
        let now = self.desk.now;
        let Some(enrolment) = self.enrolments.find_mut(key) else { return };
        if enrolment.leaving.is_some() {
            return;
        }
        let out = enrolment.asked.take();
        let is_known_there = enrolment.bound_until.is_some() || out.is_some();
        (enrolment.leaving, enrolment.changed_at) = (Some(now.mono + LEAVE_WAIT), now.wall);
        if let Some(client) = out {
            self.desk.drop_client(client);
        }
        if is_known_there {
            self.send_register(key, Duration::ZERO);
        }
        match self.enrolments.find(key) {
            Some(enrolment) if enrolment.asked.is_some() => self.wake_enrolment(key),
            _ => self.forget_carrier(key),
        }
    }

    /// The gateway drains: calls that come in now go to whoever else the carrier knows.
    pub(crate) fn leave_carriers(&mut self) {
        for key in self.enrolments.keys() {
            self.leave_carrier(key);
        }
    }

    /// The gateway stops: nobody is asked any more.
    pub(crate) fn stop_enrolling(&mut self) {
        for key in self.enrolments.keys() {
            self.forget_carrier(key);
        }
    }

    fn forget_carrier(&mut self, key: Key) {
        let Some(enrolment) = self.enrolments.remove(key) else { return };
        if let Some(client) = enrolment.asked {
            self.desk.drop_client(client);
        }
        if self.draining && self.is_drained() {
            let shard = self.desk.settings.shard;
            self.desk.out.event(Event::Drained(shard));
        }
    }

    /// The number that a REGISTER gets when it is sent again with credentials, if it still is the one.
    pub(crate) fn register_number_again(&mut self, key: Key, client: ClientKey) -> Option<u32> {
        let enrolment = self.enrolments.find_mut(key)?;
        if enrolment.asked != Some(client) {
            return None;
        }
        enrolment.cseq += 1;
        Some(enrolment.cseq)
    }

    pub(crate) fn registered_again(&mut self, key: Key, client: ClientKey) {
        if let Some(enrolment) = self.enrolments.find_mut(key) {
            enrolment.asked = Some(client);
        }
    }

    /// Of this shard's trunks: those that are registered, those that should be and are not.
    pub(crate) fn enrolled_count(&self) -> [usize; 2] {
        let registered = |one: &Enrolment| one.state() == RegistrationState::Registered;
        let count = self.enrolments.iter().filter(|(_, one)| registered(one)).count();
        [count, self.enrolments.len() - count]
    }

    pub(crate) fn registration_of(&self, trunk: &str) -> Option<RegistrationView> {
        let own = self.enrolments.iter().filter(|(_, one)| *one.trunk == *trunk);
        let (_, enrolment) = own.min_by_key(|(_, one)| one.leaving.is_some())?;
        let now = self.desk.now;
        let until = enrolment.bound_until.map(|until| {
            let left = until.since(now.mono).as_millis();
            now.wall.add_ms(u64::try_from(left).unwrap_or(u64::MAX))
        });
        let (status, reason) = enrolment.refused.clone().unzip();
        let (state, changed_at) = (enrolment.state(), enrolment.changed_at);
        Some(RegistrationView { state, until, status, reason, changed_at })
    }
}

/// A reason phrase for people, and no longer than that.
fn readable(reason: &[u8]) -> String {
    String::from_utf8_lossy(reason).chars().filter(|c| !c.is_control()).take(120).collect()
}
