//! A carrier that wants credentials from whoever calls through it, and may be a registrar (RFC 3261 22).
//! Owns:  `CarrierPlan`; the nonces that it gave out and how often each was used.
//! Gives: whether a request may pass; what it counted, for the tests.
//! Never: `sip::auth`: the arithmetic is the phones' own.
//! Holds: a count of a nonce passes once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rsip::headers::UntypedHeader as _;
use rsip::{Header, Method};
use shared::time::Instant;

use crate::phone::{Phone, reply};
use crate::speech::Reply;
use crate::speech::digest::{Hash, parameters};
use crate::speech::heard::Heard;

/// Whom it knows, and how it asks.
#[derive(Clone, Debug)]
pub struct CarrierPlan {
    pub realm: String,
    pub username: String,
    pub password: String,
    pub hash: Hash,
    /// By 407; else by 401. A REGISTER is always asked by 401.
    pub is_proxy: bool,
    /// Of 100 nonces, how many have run out when they come back. Without any a dialog has one
    /// from its first request to its last.
    pub worn_percent: u32,
    /// How long a registration is granted for.
    pub grants: Duration,
}

impl CarrierPlan {
    pub fn of(name: &str) -> Self {
        Self {
            realm: format!("realm of {name}"),
            username: format!("account-{name}"),
            password: format!("secret of {name}"),
            hash: Hash::Sha256,
            is_proxy: true,
            worn_percent: 0,
            grants: Duration::from_secs(60),
        }
    }
}

#[derive(Debug, Default)]
pub struct Counter {
    nonces: BTreeMap<String, Nonce>,
    /// By Call-ID.
    newest: BTreeMap<String, String>,
    pub challenged: u32,
    pub passed: u32,
    pub refused: u32,
    /// Contact and end of the registration.
    pub registered: Option<(String, Instant)>,
}

#[derive(Debug, Default)]
struct Nonce {
    counts: BTreeSet<u32>,
    is_worn: bool,
}

impl Counter {
    /// After a power cut no nonce is known: whoever comes with one is asked anew.
    pub(super) fn forget(&mut self) {
        self.nonces.clear();
        self.newest.clear();
    }
}

/// What a carrier makes of credentials.
enum Verdict {
    Missing,
    Right,
    Stale,
    Wrong,
}

impl Phone {
    /// What it counted as a carrier.
    pub fn counter(&self) -> &Counter {
        &self.counter
    }

    /// Whether the request has to bring credentials first; it was asked for them then.
    pub(super) fn wants_credentials(&mut self, now: Instant, key: &str, heard: &Heard) -> bool {
        let Some(plan) = self.settings.carrier.clone() else { return false };
        if heard.method == Method::Cancel {
            return false; // RFC 3261 22.1: it could not be sent again
        }
        let is_proxy = plan.is_proxy && heard.method != Method::Register;
        match self.judge(&plan, is_proxy, heard) {
            Verdict::Right => {
                self.counter.passed += 1;
                return false;
            }
            Verdict::Missing => self.challenge(now, key, (&plan, is_proxy, &heard.call_id), false),
            Verdict::Stale => self.challenge(now, key, (&plan, is_proxy, &heard.call_id), true),
            Verdict::Wrong => {
                self.counter.refused += 1;
                self.challenge(now, key, (&plan, is_proxy, &heard.call_id), false);
            }
        }
        true
    }

    fn judge(&mut self, plan: &CarrierPlan, is_proxy: bool, heard: &Heard) -> Verdict {
        let sent = heard.headers.iter().find_map(|header| match header {
            Header::Authorization(value) if !is_proxy => Some(value.value().to_owned()),
            Header::ProxyAuthorization(value) if is_proxy => Some(value.value().to_owned()),
            _ => None,
        });
        let Some(sent) = sent else { return Verdict::Missing };
        let parameters = parameters(sent.trim().trim_start_matches("Digest "));
        let find = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let (nonce, count) = (find("nonce"), find("nc"));
        let Some(given) = self.counter.nonces.get_mut(&nonce) else { return Verdict::Stale };
        let hash = plan.hash;
        let ha1 = hash.hex(&format!("{}:{}:{}", plan.username, plan.realm, plan.password));
        let ha2 = hash.hex(&format!("{}:{}", heard.method, find("uri")));
        let cnonce = find("cnonce");
        let right = hash.hex(&format!("{ha1}:{nonce}:{count}:{cnonce}:auth:{ha2}"));
        if right != find("response") || cnonce.is_empty() {
            return Verdict::Wrong;
        }
        let count = u32::from_str_radix(&count, 16).unwrap_or_default();
        let is_worn = given.is_worn;
        if !given.counts.insert(count) {
            self.breach(format!("{}: count {count} of a nonce came again", heard.call_id));
        }
        if is_worn { Verdict::Stale } else { Verdict::Right }
    }

    fn challenge(&mut self, now: Instant, key: &str, by: (&CarrierPlan, bool, &str), stale: bool) {
        let (plan, is_proxy, call) = by;
        self.counter.challenged += 1;
        let shared = self.counter.newest.get(call).cloned();
        let shared = shared.filter(|_| plan.worn_percent == 0 && !stale);
        let nonce = shared.unwrap_or_else(|| self.random.word(16));
        // One that stands for a stale one is good, so that nobody is asked for ever.
        let is_worn = !stale && self.random.percent(plan.worn_percent);
        self.counter.newest.insert(call.to_owned(), nonce.clone());
        self.counter.nonces.entry(nonce.clone()).or_default().is_worn |= is_worn;
        let stale = if stale { ", stale=true" } else { "" };
        let value = format!(
            "Digest realm=\"{}\", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{stale}",
            plan.realm,
            plan.hash.word()
        );
        let (status, header) = if is_proxy {
            (407, rsip::headers::ProxyAuthenticate::new(value).into())
        } else {
            (401, rsip::headers::WwwAuthenticate::new(value).into())
        };
        self.answer(now, key, Reply { status, more: vec![header], ..reply() });
    }

    /// A REGISTER that brought its credentials.
    pub(super) fn take_registration(&mut self, now: Instant, key: &str, heard: &Heard) {
        let Some(plan) = self.settings.carrier.clone() else {
            return self.answer(now, key, Reply { status: 481, ..reply() });
        };
        let asked = heard.headers.iter().find_map(|header| match header {
            Header::Expires(value) => value.value().trim().parse::<u64>().ok(),
            _ => None,
        });
        let granted = plan.grants.min(Duration::from_secs(asked.unwrap_or(3_600)));
        let contact = heard.contact.clone().unwrap_or_default();
        let stands = !granted.is_zero();
        self.counter.registered = stands.then(|| (contact.clone(), now + granted));
        let expires = rsip::headers::Expires::new(granted.as_secs().to_string());
        let (contact, more) = (stands.then_some(contact.as_str()), vec![expires.into()]);
        self.answer(now, key, Reply { status: 200, contact, more, ..reply() });
    }
}
