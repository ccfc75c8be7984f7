//! One subscription: its dialog, what its subscriber has still to be told, and when (RFC 6665 4.2).
//! Owns:  `Subscription`, the pace of its NOTIFY requests.
//! Gives: `Due::add` for a change, `is_ready`, `deadline`; `take_due` for the next NOTIFY.
//! Never: two NOTIFYs on the way at a time; more than one a second but for what the subscriber asked.
//! Holds: what is not told yet is bounded: many changes become the whole state.

use std::time::Duration;

use shared::net::Destination;
use shared::time::Instant;
use sip::dialog::Dialog;

use super::document::Standing;
use crate::transactions::ClientKey;

/// RFC 4235 3.10: no more than one a second.
const PACE: Duration = Duration::from_secs(1);
/// Changes of one NOTIFY; beyond it the whole state is told.
const CHANGES_MAX: usize = 16;

/// The event packages that we know (RFC 6665 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Package {
    Dialog,
    MessageSummary,
}

impl Package {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Dialog => "dialog",
            Self::MessageSummary => "message-summary",
        }
    }

    pub(crate) const fn content_type(self) -> &'static [u8] {
        match self {
            Self::Dialog => b"application/dialog-info+xml",
            Self::MessageSummary => b"application/simple-message-summary",
        }
    }

    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        [Self::Dialog, Self::MessageSummary].into_iter().find(|one| one.name().as_bytes() == name)
    }
}

/// What the next NOTIFY has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Due {
    #[default]
    Nothing,
    Changes(Vec<Standing>),
    Everything,
}

#[derive(Debug)]
pub(crate) struct Subscription {
    pub package: Package,
    /// The `id` of its Event header.
    pub id: Option<Box<[u8]>>,
    pub watcher: Box<str>,
    pub target: Box<str>,
    /// The URI that was subscribed to.
    pub entity: Box<str>,
    pub dialog: Dialog,
    pub way: Destination,
    /// The connection that it came over is gone. A refresh brings another one.
    pub is_lost: bool,
    pub expires_at: Instant,
    pub version: u32,
    pub due: Due,
    /// The NOTIFY that waits for its answer.
    pub out: Option<ClientKey>,
    /// The first NOTIFY says what all shards know: it waits for them, but not for long.
    pub waits_until: Option<Instant>,
    pub not_before: Instant,
    /// Its next NOTIFY is its last one: the state was fetched (RFC 6665 4.4.3).
    pub is_fetch: bool,
    pub armed: Option<Instant>,
}

impl Due {
    /// One dialog of the watched user has changed.
    pub(crate) fn add(&mut self, change: &Standing) {
        let changes = match self {
            Self::Everything => return,
            Self::Nothing => {
                *self = Self::Changes(vec![change.clone()]);
                return;
            }
            Self::Changes(changes) => changes,
        };
        let has_room = changes.len() < CHANGES_MAX;
        match changes.iter_mut().find(|one| one.is_same(change)) {
            Some(one) => one.clone_from(change),
            None if has_room => changes.push(change.clone()),
            // A dialog that ended meanwhile is not in the whole state: full says that it is gone.
            None => *self = Self::Everything,
        }
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        match other {
            Self::Nothing => {}
            Self::Changes(changes) => changes.iter().for_each(|change| self.add(change)),
            Self::Everything => *self = Self::Everything,
        }
    }

    /// What is there of this dialog becomes what holds now.
    pub(crate) fn replace(&mut self, change: &Standing) {
        let Self::Changes(changes) = self else { return };
        if let Some(one) = changes.iter_mut().find(|one| one.is_same(change)) {
            one.clone_from(change);
        }
    }
}

impl Subscription {
    /// The subscriber asked: it is told everything, and at once.
    pub(crate) fn want_everything(&mut self, now: Instant) {
        self.due = Due::Everything;
        self.not_before = now;
    }

    fn due_at(&self) -> Option<Instant> {
        let is_blocked = self.due == Due::Nothing || self.out.is_some() || self.is_lost;
        let at = self.waits_until.map_or(self.not_before, |until| until.max(self.not_before));
        (!is_blocked).then_some(at)
    }

    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.due_at().map_or(self.expires_at, |at| at.min(self.expires_at))
    }

    /// What the NOTIFY that is sent now says.
    pub(crate) fn take_due(&mut self, now: Instant) -> Due {
        self.waits_until = None;
        self.not_before = now + PACE;
        std::mem::replace(&mut self.due, Due::Nothing)
    }

    /// The Event header of its NOTIFYs.
    pub(crate) fn event(&self) -> Vec<u8> {
        let mut value = self.package.name().as_bytes().to_vec();
        if let Some(id) = &self.id {
            value.extend_from_slice(b";id=");
            value.extend_from_slice(id);
        }
        value
    }

    /// Seconds that it still lasts, rounded up: 0 would say that it is over.
    pub(crate) fn left_s(&self, now: Instant) -> u128 {
        self.expires_at.since(now).as_millis().div_ceil(1_000).max(1)
    }

    /// The subscriber's phone is where this came from now.
    pub(crate) fn come_over(&mut self, way: Destination) {
        self.way = way;
        self.is_lost = false;
    }
}

#[cfg(test)]
mod tests {
    use shared::net::Transport;
    use sip::dialog::State;

    use super::*;

    fn told(at: Instant) -> Subscription {
        let peer = "10.0.0.13:5060".parse().expect("an address");
        let name = || "1003".into();
        let mut one = Subscription {
            package: Package::Dialog,
            id: None,
            watcher: name(),
            target: name(),
            entity: name(),
            dialog: Dialog {
                state: State::Confirmed,
                call_id: Vec::new(),
                local_tag: String::new(),
                remote_tag: Vec::new(),
                local_party: Vec::new(),
                remote_party: Vec::new(),
                remote_target: Vec::new(),
                routes: Vec::new(),
                local_cseq: 1,
                remote_cseq: None,
            },
            way: Destination {
                transport: Transport::Udp,
                local: peer,
                peer,
                flow: None,
                shows: None,
            },
            is_lost: false,
            expires_at: at + Duration::from_secs(60),
            version: 0,
            due: Due::Everything,
            out: None,
            waits_until: None,
            not_before: at,
            is_fetch: false,
            armed: None,
        };
        assert!(one.is_ready(at));
        assert_eq!(one.take_due(at), Due::Everything);
        one
    }

    #[test]
    fn who_waits_for_shards_is_held_to_the_pace_as_well() {
        let start = Instant::from_millis(5_000);
        let mut one = told(start);
        one.due = Due::Everything;
        one.waits_until = Some(start + Duration::from_millis(1));
        assert_eq!(one.deadline(), start + PACE);
        one.waits_until = Some(start + 2 * PACE);
        assert_eq!(one.deadline(), start + 2 * PACE);
    }
}
