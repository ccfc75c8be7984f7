//! The book of registrations: what the gateway said that it keeps, and for how long.
//! Owns:  bindings by AOR as the 200 answers and the events tell them.
//! Gives: how many bindings must stand at a given time.
//! Never: the registrar's tables.
//! Holds: an event never takes away a binding before its time without a reason on the wire.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::event::{Registration, RegistrationChange};
use shared::time::Instant;

use crate::ledger::{Breach, Verdict};
use crate::speech::glance::{Glance, parameter, uri_of, user_of};

#[derive(Debug, Default)]
pub struct Registrations {
    /// By user part of the AOR and Contact URI: when it runs out.
    bindings: BTreeMap<(String, String), Instant>,
}

impl Registrations {
    /// RFC 3261 10.3 step 8: a 200 lists all bindings of the AOR. Not for repeats of an answer.
    pub(super) fn response_out(&mut self, now: Instant, message: &Glance<'_>) -> Verdict {
        if message.method != "REGISTER" || !matches!(message.status, Some(200..=299)) {
            return Ok(());
        }
        let user = user_of(uri_of(message.to)).to_owned();
        let mut listed = Vec::new();
        for value in message.values("Contact").flat_map(|value| value.split(',')) {
            let uri = uri_of(value).to_owned();
            let expires =
                parameter(value, "expires").and_then(|expires| expires.parse::<u64>().ok());
            let Some(expires) = expires.filter(|expires| *expires > 0) else {
                return Err(Breach::new("registration", format!("{uri} is listed without a time")));
            };
            listed.push(((user.clone(), uri), now + Duration::from_secs(expires)));
        }
        self.bindings.retain(|(owner, _), _| *owner != user);
        self.bindings.extend(listed);
        Ok(())
    }

    pub(super) fn event(&mut self, now: Instant, change: &Registration) -> Verdict {
        if change.change == RegistrationChange::Registered {
            return Ok(());
        }
        let key = (user_of(&change.aor).to_owned(), change.contact.clone());
        let Some(until) = self.bindings.get(&key).copied() else { return Ok(()) };
        let early = change.change == RegistrationChange::Offline
            && change.transport == shared::net::Transport::Udp
            && until > now + Duration::from_secs(2);
        if early {
            let facts = format!("{} {} went offline {:?} early", key.0, key.1, until - now);
            return Err(Breach::new("registration", facts));
        }
        self.bindings.remove(&key);
        Ok(())
    }

    /// Bindings that must stand now; `None` when one is about to run out and either is right.
    pub fn standing(&self, now: Instant) -> Option<usize> {
        let margin = Duration::from_secs(2);
        let doubtful = |until: &&Instant| **until + margin > now && **until < now + margin;
        if self.bindings.values().any(|until| doubtful(&until)) {
            return None;
        }
        Some(self.bindings.values().filter(|until| **until > now).count())
    }
}
