//! A call's forwards: whose they are, when one is due, what the forwarded INVITE says of them.
//! Owns:  `Forwards`: the users that a call was for, the steps that it took from one to the next.
//! Gives: `Call::meet_user`, `Call::note_forward`; Diversion and History-Info for the next group.
//! Never: decides where a destination is; `forwarding` of the core does.
//! Holds: a user is met once by forwarding, and the steps are bounded.

use std::time::Duration;

use shared::cdr::LegEventType;
use shared::forwarding::{ForwardCause, ForwardMode, Forwarding};
use shared::headers::ExtraHeader;
use shared::limits::FORWARDS_PER_CALL_MAX;
use sip::wire::{HeaderName, Message, NameAddr, Scheme, Uri};

use super::answer::rank;
use super::compose::readable;
use super::{Call, Failure, INVITER};
use crate::desk::Desk;

/// No leg of the record is the peer of a forward: the next one is not called yet.
const NO_LEG: u8 = u8::MAX;

#[derive(Debug, Default)]
pub(crate) struct Forwards {
    /// Users of ours that this call was for, in their order.
    tried: Vec<Box<str>>,
    /// Whom the present group calls alone, and what that user wants.
    present: Option<Present>,
    /// To be followed before anything else is tried.
    pub due: Option<DueForward>,
    /// Followed, and in nobody's registrar: the rules are asked if nobody is there.
    pub unlisted: Option<DueForward>,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Present {
    who: Forwarder,
    wish: Option<Forwarding>,
    /// Its 3xx is followed.
    redirects: bool,
    /// What the call had before this user was tried.
    failures: usize,
    legs: usize,
}

/// Who sends a call on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forwarder {
    /// A target at a trunk, by its URI: it has no right that the caller has not.
    Target(Vec<u8>),
    User(Box<str>),
}

#[derive(Clone, Debug)]
pub(crate) struct DueForward {
    pub by: Forwarder,
    /// As it was written.
    pub to: Box<str>,
    pub cause: ForwardCause,
}

/// A forward that was followed.
#[derive(Debug)]
pub(crate) struct Step {
    pub cause: ForwardCause,
    /// SIP URIs of the user and of the destination.
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

impl Forwards {
    pub(crate) fn remember(&mut self, user: &str) {
        if !self.has_tried(user) {
            self.tried.push(user.into());
        }
    }

    pub(crate) fn has_tried(&self, user: &str) -> bool {
        self.tried.iter().any(|known| **known == *user)
    }

    pub(crate) fn made(&self) -> usize {
        self.steps.len()
    }

    /// A program may name a user twice: its calls go on once.
    pub(crate) fn has_left(&self, from: &[u8]) -> bool {
        self.steps.iter().any(|step| step.from == from)
    }

    /// Nobody of the present group has its calls sent on.
    pub(crate) fn leave(&mut self) {
        self.present = None;
    }
}

impl Call {
    /// The group that begins calls this one alone. `true`: it has every call sent elsewhere.
    /// `ring`: everybody's limit.
    pub(crate) fn meet(
        &mut self,
        who: Forwarder,
        wish: Option<&Forwarding>,
        redirects: bool,
        ring: Duration,
    ) -> bool {
        if let Some(Forwarding { mode: ForwardMode::Always, to, .. }) = wish {
            let (to, cause) = (to.clone(), ForwardCause::Always);
            self.forwards.due = Some(DueForward { by: who, to, cause });
            return true;
        }
        if let Some(wish) = wish
            && wish.mode.covers(ForwardCause::NotAnswered)
            && self.dial.is_none()
        {
            self.changes.ring = Some(wish.ring.min(self.changes.ring.unwrap_or(ring)));
        }
        let (failures, legs) = (self.failures.len(), self.legs.len());
        let wish = wish.cloned();
        self.forwards.present = Some(Present { who, wish, redirects, failures, legs });
        false
    }

    /// The present group has failed: its user may want the call to go on elsewhere. Whoever was
    /// answered already by the first party of a call that we make stays with that.
    pub(crate) fn note_forward(&mut self) {
        let Some(present) = self.forwards.present.take() else { return };
        if self.invite.is_none() && self.accepted.is_none() && self.dial.is_none() {
            return;
        }
        let was_called = self.legs.len() > present.legs;
        let failures = self.failures.get(present.failures..).unwrap_or_default();
        let deflected = if present.redirects { deflection(failures) } else { None };
        let wished = present.wish.and_then(|wish| {
            let cause = cause_of(failures, was_called)?;
            wish.mode.covers(cause).then_some((wish.to, cause))
        });
        let next = deflected.map(|to| (to, ForwardCause::Deflected)).or(wished);
        let due = next.map(|(to, cause)| DueForward { by: present.who, to, cause });
        self.forwards.due = self.forwards.due.take().or(due);
    }

    /// The forward is followed: from here on it counts, and the record tells it.
    pub(crate) fn take_step(&mut self, desk: &Desk, step: Step) {
        let (from, to) = (readable(&step.from), readable(&step.to));
        let why = step.cause.diversion_reason();
        self.max_forwards = self.max_forwards.saturating_sub(1);
        if step.cause == ForwardCause::Deflected {
            // What becomes of the place that it led to is what the caller is to hear.
            let others = self.failures.iter().filter(|failure| !is_redirection(failure.status));
            self.best_failure = others.min_by_key(|failure| rank(failure.status)).cloned();
        }
        self.forwards.steps.push(step);
        let details = format!("{from} forwards to {to} ({why})");
        self.note_leg(desk, LegEventType::Forwarded, INVITER, NO_LEG, details);
    }

    /// What the forwarded INVITE tells of how it came here. `before`: Diversion of the INVITE that
    /// asked for the call, where a trunk sent it: what phones claim is no word of ours.
    pub(crate) fn forward_headers(&self, before: &[String]) -> Vec<ExtraHeader> {
        let steps = &self.forwards.steps;
        let newest_first = steps.iter().rev().map(|step| {
            let (from, why) = (readable(&step.from), step.cause.diversion_reason());
            format!("<{from}>;reason={why};counter=1")
        });
        let diversions = newest_first.chain(before.iter().cloned());
        let diversions = diversions.filter_map(|value| ExtraHeader::new("Diversion", &value).ok());
        let history = history(steps).into_iter();
        let history = history.filter_map(|value| ExtraHeader::new("History-Info", &value).ok());
        diversions.chain(history).collect()
    }
}

/// RFC 7044 10.3: who the call was for, each with why it left there, and the index of who named it.
fn history(steps: &[Step]) -> Vec<String> {
    let mut entries = Vec::with_capacity(steps.len() + 1);
    let mut index = "1".to_owned();
    for place in 0..=steps.len() {
        let left = steps.get(place).map(|step| step.cause.code());
        let left = left.map(|code| format!("?Reason=SIP%3Bcause%3D{code}")).unwrap_or_default();
        entries.push(match place.checked_sub(1).and_then(|before| steps.get(before)) {
            None => {
                let first = steps.first().map(|step| readable(&step.from)).unwrap_or_default();
                format!("<{first}{left}>;index={index}")
            }
            Some(step) => {
                let (to, code, parent) = (readable(&step.to), step.cause.code(), index.clone());
                index.push_str(".1");
                format!("<{to};cause={code}{left}>;index={index};mp={parent}")
            }
        });
    }
    entries
}

/// How often the call was diverted before it came to us (RFC 5806 4), and by whom.
pub(crate) fn diverted_before(request: &Message<'_>) -> (usize, Vec<String>) {
    let mut times = 0_usize;
    let mut lines = Vec::new();
    for value in request.values(HeaderName::Diversion).take(usize::from(FORWARDS_PER_CALL_MAX)) {
        let counter = NameAddr::parse(value).ok().and_then(|one| one.param("counter").flatten());
        let counter = counter.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        times = times.saturating_add(counter.unwrap_or(1_usize).max(1));
        lines.push(String::from_utf8_lossy(value).into_owned());
    }
    (times, lines)
}

/// 305 and 380 want something else than another address (RFC 3261 21.3.4, 21.3.5).
const fn is_redirection(status: u16) -> bool {
    matches!(status, 300..=302)
}

/// Where a 3xx leads: the address that it likes best, if it can be called by SIP.
fn deflection(failures: &[Failure]) -> Option<Box<str>> {
    let moved = failures.iter().find(|failure| is_redirection(failure.status))?;
    let mut best: Option<(u32, &[u8])> = None;
    for contact in &moved.contacts {
        let Ok(address) = NameAddr::parse(contact) else { continue };
        let is_sip = address.parsed_uri().is_ok_and(|uri| uri.scheme == Scheme::Sip);
        let q = address.param("q").flatten().map_or(1_000, thousandths);
        if is_sip && best.is_none_or(|(most, _)| q > most) {
            best = Some((q, address.uri));
        }
    }
    std::str::from_utf8(best?.1).ok().map(Into::into)
}

/// A `qvalue` (RFC 3261 25.1), 1000 for what is none.
fn thousandths(text: &[u8]) -> u32 {
    let digits = match text {
        [b'0'] => &[][..],
        [b'0', b'.', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return 1_000,
    };
    let digits = digits.iter().chain(b"000").take(3);
    digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
}

/// What became of the user's phones. A phone that rang until its time was over outweighs one that was
/// busy: somebody could have answered. A refusal by hand (603) is the user's word, and stays.
fn cause_of(failures: &[Failure], was_called: bool) -> Option<ForwardCause> {
    let any = |wanted: &[u16]| failures.iter().any(|failure| wanted.contains(&failure.status));
    if !was_called {
        return any(&[480]).then_some(ForwardCause::NotRegistered);
    }
    if any(&[603, 604, 606]) {
        None
    } else if any(&[408, 480]) {
        Some(ForwardCause::NotAnswered)
    } else if any(&[486, 600]) {
        Some(ForwardCause::Busy)
    } else {
        // Neither the phone nor its flow is there any more (RFC 5626 5.3).
        any(&[430, 503]).then_some(ForwardCause::NotRegistered)
    }
}

/// The user part of a URI.
pub(crate) fn user_in(uri: &[u8]) -> Option<Vec<u8>> {
    let uri = Uri::parse(uri).ok()?;
    uri.user.map(|_| uri.user_unescaped().into_owned())
}
