//! Registration of a phone: digest, refresh, `*`, Min-Expires, a new flow (RFC 3261 10.2).
//! Owns:  the REGISTER dialogue with the gateway and what it granted.
//! Gives: whether the phone believes that it can be called, and until when.
//! Never: a binding of another phone.
//! Holds: one Call-ID and a growing CSeq for all REGISTERs of one power-on (RFC 3261 10.2).

use std::time::Duration;

use rsip::Method;
use rsip::headers::UntypedHeader as _;
use shared::time::Instant;

use crate::phone::client::{Alarm, Purpose};
use crate::phone::usage::{self, Deed, Ending, Phase};
use crate::phone::{Phone, challenge_in, credentials_header};
use crate::random::Random;
use crate::speech::digest::Challenge;
use crate::speech::heard::Heard;
use crate::speech::{Ask, Party, request};

#[derive(Debug)]
pub(super) struct Registration {
    call_id: String,
    tag: String,
    cseq: u32,
    credentials: Option<(usage::Ask, Challenge)>,
    tries: u8,
    wants: Wants,
    min_expires: u64,
    pub(super) granted_until: Option<Instant>,
    pub(super) refused: Option<u16>,
    pending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    /// Bindings are left to run out.
    Nothing,
    Registered,
    /// `Contact: *` with Expires 0, then registered again.
    Wiped,
}

impl Registration {
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            call_id: random.word(16),
            tag: random.word(8),
            cseq: 0,
            credentials: None,
            tries: 0,
            wants: Wants::Registered,
            min_expires: 0,
            granted_until: None,
            refused: None,
            pending: false,
        }
    }

    pub(super) fn forget(&mut self) {
        // A restart: another Call-ID, nothing remembered (RFC 3261 10.2, one per boot cycle).
        self.call_id.push('r');
        self.credentials = None;
        self.granted_until = None;
        self.pending = false;
        self.wants = Wants::Registered;
    }
}

impl Phone {
    pub fn switch_on(&mut self, now: Instant) {
        self.register(now);
    }

    /// Bindings run out from here on.
    pub fn stop_registering(&mut self) {
        self.registration.wants = Wants::Nothing;
    }

    /// RFC 3261 10.2.2: all bindings of the AOR go, then this phone's own comes back.
    pub fn wipe_bindings(&mut self, now: Instant) {
        self.registration.wants = Wants::Wiped;
        self.register(now);
    }

    pub fn is_registered(&self, now: Instant) -> bool {
        self.registration.granted_until.is_some_and(|until| until > now)
    }

    pub fn registration_refused(&self) -> Option<u16> {
        self.registration.refused
    }

    /// The connection to the gateway is gone: what was under way is lost, the rest takes a new one.
    pub fn handle_flow_closed(&mut self, now: Instant) {
        if self.gone {
            return;
        }
        let lost: Vec<String> = self.clients.keys().cloned().collect();
        for key in lost {
            let client = self.clients.remove(&key).expect("listed just now");
            if client.is_open() && client.purpose != Purpose::Register {
                self.hear_final(now, client.purpose, None, &client.asked);
            }
        }
        self.servers.clear();
        self.lose_lamps();
        self.registration.pending = false;
        for id in 0..self.usages.len() {
            match self.usages[id].phase {
                Phase::Inviting => self.usages[id].close(now, Ending::Lost),
                Phase::Confirmed if self.usages[id].is_waiting_to_acknowledge() => {
                    self.usages[id].close(now, Ending::Lost);
                }
                // The peer may not know; a BYE over the new flow tells it.
                Phase::Confirmed => {
                    self.usages[id].unacknowledged.clear();
                    let wait = self.random.millis(3_000, 9_000);
                    self.at(now, wait, id, Deed::HangUp);
                }
                Phase::Closing | Phase::Over => {}
            }
        }
        if self.settings.registers.is_some() && self.registration.wants != Wants::Nothing {
            let wait = self.random.millis(500, 2_000);
            self.alarms.push(now + wait, Alarm::Register);
        }
    }

    pub(super) fn register(&mut self, now: Instant) {
        let Some(expires) = self.settings.registers else { return };
        if self.registration.wants == Wants::Nothing || self.registration.pending || self.gone {
            return;
        }
        self.registration.cseq += 1;
        self.registration.pending = true;
        let text = self.register_text(expires);
        self.ask(now, text, self.settings.gateway, Purpose::Register);
    }

    fn register_text(&mut self, expires: Duration) -> String {
        let (branch, cnonce) = (self.branch(), self.random.word(8));
        let wipes = self.registration.wants == Wants::Wiped;
        let contact = if wipes { "*".to_owned() } else { self.contact() };
        let seconds = if wipes { 0 } else { expires.as_secs().max(self.registration.min_expires) };
        let (aor, uri) = (self.aor(), format!("sip:{}", self.settings.domain));
        let transport = self.via_transport();
        let mut more = vec![rsip::headers::Expires::new(seconds.to_string()).into()];
        if let Some((ask, challenge)) = &mut self.registration.credentials {
            let who = (self.settings.user.as_str(), self.settings.password.as_str());
            let value = challenge.answer(who, "REGISTER", &uri, &cnonce);
            more.push(credentials_header(*ask, value));
        }
        request(Ask {
            method: Method::Register,
            uri: &uri,
            transport,
            sent_by: self.settings.home,
            branch: &branch,
            from: Party { uri: &aor, tag: Some(&self.registration.tag) },
            to: Party { uri: &aor, tag: None },
            call_id: &self.registration.call_id,
            cseq: self.registration.cseq,
            contact: Some(&contact),
            routes: &[],
            more,
            body: None,
        })
    }

    fn aor(&self) -> String {
        format!("sip:{}@{}", self.settings.user, self.settings.domain)
    }

    pub(super) fn hear_registrar(&mut self, now: Instant, heard: Option<&Heard>, asked: &Heard) {
        self.registration.pending = false;
        let status = heard.and_then(|heard| heard.status);
        match (status, heard) {
            (Some(401 | 407), Some(heard)) if self.registration.tries < 2 => {
                let Some(credentials) = challenge_in(heard, &self.settings) else { return };
                self.registration.tries += 1;
                self.registration.credentials = Some(credentials);
                self.register(now);
            }
            (Some(423), Some(heard)) if self.registration.tries < 4 => {
                // RFC 3261 10.3 step 6, 20.23.
                self.registration.tries += 1;
                let least = heard.value("Min-Expires").and_then(|value| value.trim().parse().ok());
                match least {
                    Some(least) => self.registration.min_expires = least,
                    None => self.breach("423 without Min-Expires (RFC 3261 20.23)".to_owned()),
                }
                self.register(now);
            }
            (Some(200..=299), Some(heard)) => self.registered(now, heard, asked),
            (status, _) => {
                self.registration.tries = 0;
                self.registration.refused = status;
                self.registration.credentials = None;
                let wait = self.random.millis(4_000, 12_000);
                self.alarms.push(now + wait, Alarm::Register);
            }
        }
    }

    fn registered(&mut self, now: Instant, heard: &Heard, asked: &Heard) {
        self.registration.tries = 0;
        self.registration.refused = None;
        if asked.contact.as_deref() == Some("*") {
            if heard.values("Contact").next().is_some() {
                self.breach("bindings stand after Contact: * (RFC 3261 10.2.2)".to_owned());
            }
            self.registration.granted_until = None;
            if self.registration.wants == Wants::Wiped {
                self.registration.wants = Wants::Registered;
            }
            let wait = self.random.millis(500, 3_000);
            return self.alarms.push(now + wait, Alarm::Register);
        }
        let Some(seconds) = self.granted_seconds(heard) else {
            let text = heard.values("Contact").collect::<Vec<_>>().join(" | ");
            return self.breach(format!("200 to REGISTER does not list this contact: {text}"));
        };
        self.registration.granted_until = Some(now + Duration::from_secs(seconds));
        let share = self.random.range(50, 85);
        let refresh = Duration::from_millis(seconds * 10 * share);
        self.alarms.push(now + refresh, Alarm::Register);
    }

    /// RFC 3261 10.3 step 8: the answer lists every binding with its `expires`.
    fn granted_seconds(&self, heard: &Heard) -> Option<u64> {
        let contact = self.contact();
        let uri = contact.trim_matches(['<', '>']);
        let mut values = heard.values("Contact").flat_map(|value| value.split(','));
        let mine = values.find(|value| crate::speech::glance::uri_of(value) == uri)?;
        let expires = crate::speech::glance::parameter(mine, "expires")?;
        expires.parse().ok()
    }
}
