//! SUBSCRIBE: who may watch whom, for how long, and what the subscriber reads (RFC 6665 4.2.1).
//! Owns:  the order of the refusals: event, identity, target, format, time, room.
//! Gives: a subscription, its refresh or its end; 489, 401, 403, 404, 406, 423, 481, 503.
//! Never: a subscription of a guest or a trunk, or to somebody else's mailbox.
//! Holds: a SUBSCRIBE that is answered 200 is followed by a NOTIFY.

use std::time::Duration;

use shared::limits::{
    SUBSCRIPTION_EXPIRES_DEFAULT_S, SUBSCRIPTION_EXPIRES_MAX_S, SUBSCRIPTION_EXPIRES_MIN_S,
};
use shared::metrics::Counter;
use shared::net::Source;
use sip::dialog::{Dialog, Order};
use sip::wire::{HeaderName, Message, Method, NameAddr, Start, Uri};

use super::dialogs::Mark;
use super::subscription::{Due, Package, Subscription};
use super::{SUBSCRIBER, key_of};
use crate::b2bua::compose::readable;
use crate::b2bua::setup::way_of_caller;
use crate::core::Core;
use crate::desk::{ALLOW, ALLOW_EVENTS, Reply};
use crate::gate::{self, Asked, Gate};
use crate::locate::{self, Place};
use crate::slots::Key;
use crate::transactions::ServerKey;

/// Of an `id` of an Event header; it comes back in every NOTIFY.
const ID_BYTES_MAX: usize = 64;

/// The Event header: a package of ours, and the name that the subscriber has for this one.
fn event(request: &Message<'_>) -> Option<(Package, Option<Box<[u8]>>)> {
    let value = request.first(HeaderName::Event)?;
    let mut parts = value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let package = Package::parse(parts.next()?)?;
    let id = parts.find_map(|part| {
        let (name, value) = part.split_at_checked(3)?;
        name.eq_ignore_ascii_case(b"id=").then_some(value)
    });
    let is_fine = |id: &&[u8]| id.len() <= ID_BYTES_MAX && id.iter().all(u8::is_ascii_graphic);
    match id {
        Some(id) => Some((package, Some(Some(id).filter(is_fine)?.into()))),
        None => Some((package, None)),
    }
}

/// Whether the subscriber reads the package's format; without Accept it does (RFC 4235 3.3).
fn reads(request: &Message<'_>, package: Package) -> bool {
    let mut accepted = request.values(HeaderName::Accept).peekable();
    if accepted.peek().is_none() {
        return true;
    }
    accepted.any(|value| {
        let media_type = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |one: &[u8]| media_type.eq_ignore_ascii_case(one);
        is(package.content_type()) || is(b"application/*") || is(b"*/*")
    })
}

/// Scheme, user and host of what was subscribed to.
fn entity(uri: &[u8]) -> Box<str> {
    let plain = Uri::parse(uri).map_or(uri.len(), |parsed| {
        let headers = parsed.headers.len() + usize::from(!parsed.headers.is_empty());
        uri.len() - headers - parsed.params.len()
    });
    readable(&uri[..plain]).into()
}

impl Core {
    pub(crate) fn receive_subscribe(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
    ) {
        if let Some(status) = self.looped(request) {
            self.desk.count(Counter::SipLoops);
            return self.desk.refuse(server, status);
        }
        if event(request).is_none() {
            self.probed(from);
            return self.bad_event(server);
        }
        match gate::authenticate(&mut self.desk, request, Asked::Subscription) {
            Ok(gate) => self.subscriber_identified(server, from, request, gate),
            Err(user) => self.ask_user(server, from, request, Asked::Subscription, user),
        }
    }

    /// The same when its sender is decided about.
    pub(crate) fn subscriber_identified(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
        gate: Gate,
    ) {
        let proven = self.proven_sender(server, from, request, Asked::Subscription, gate);
        let Some(user) = proven else { return };
        if let Err(status) = self.subscribe(server, from, request, user) {
            self.refuse_subscription(server, status);
        }
    }

    /// # Errors
    /// The status that says what is wrong with it.
    fn subscribe(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
        watcher: Box<str>,
    ) -> Result<(), u16> {
        let (package, id) = event(request).ok_or(489_u16)?;
        let Start::Request { uri, .. } = request.start() else { return Err(400) };
        let target = match locate::locate(&self.desk, uri, from, 0) {
            Place::User(user) | Place::Unlisted(user) => user,
            Place::Trunk { .. } => return Err(404),
            Place::Nowhere(status) => return Err(status),
        };
        if package == Package::MessageSummary && target != watcher {
            return Err(403);
        }
        if !reads(request, package) {
            return Err(406);
        }
        let expires_s = self.granted(request)?;
        let has_contact = request.values(HeaderName::Contact).next();
        if has_contact.is_none_or(|contact| NameAddr::parse(contact).is_err()) {
            return Err(400); // it makes a dialog (RFC 6665 4.1.2.1)
        }
        if !self.notifier.has_room(&watcher) {
            return Err(503);
        }
        let key = self.notifier.subscriptions.next_key().ok_or(503_u16)?;
        let tag = self.desk.mint.tag(key, SUBSCRIBER);
        let dialog = Dialog::from_request(request, tag).ok_or(400_u16)?;
        let now = self.desk.now.mono;
        let subscription = Subscription {
            package,
            id,
            watcher,
            target,
            entity: entity(uri),
            dialog,
            way: way_of_caller(request, from),
            is_lost: false,
            // A fetch is over with its NOTIFY, which may wait for other shards.
            expires_at: now + Duration::from_secs(u64::from(expires_s.max(1))),
            version: 0,
            due: Due::Everything,
            out: None,
            waits_until: None,
            not_before: now,
            is_fetch: expires_s == 0,
            armed: None,
        };
        if let Some(flow) = from.flow {
            self.flows.insert(flow);
        }
        self.answer_subscribe(server, &subscription, expires_s);
        self.begin(subscription);
        Ok(())
    }

    /// Seconds: none for who only wants to know, or to leave.
    fn granted(&self, request: &Message<'_>) -> Result<u32, u16> {
        let asked = request.expires().unwrap_or(SUBSCRIPTION_EXPIRES_DEFAULT_S);
        if (1..SUBSCRIPTION_EXPIRES_MIN_S).contains(&asked) {
            return Err(423);
        }
        // Whoever serves after us is to be found soon.
        let most =
            if self.draining { SUBSCRIPTION_EXPIRES_MIN_S } else { SUBSCRIPTION_EXPIRES_MAX_S };
        Ok(asked.min(most))
    }

    fn answer_subscribe(&mut self, server: ServerKey, one: &Subscription, expires_s: u32) {
        let answer = Reply { status: 200, reason: b"", to_tag: Some(&one.dialog.local_tag) };
        let way = one.way;
        self.desk.respond(server, answer, |desk, request, mut out| {
            out.copy(request, HeaderName::RecordRoute);
            desk.write_contact(&mut out, &way);
            out.header_fmt("Expires", format_args!("{expires_s}"));
            out.header("Allow-Events", ALLOW_EVENTS);
            out.end();
        });
    }

    /// A request with a tag of ours that is a subscription's, or nobody's. `true`: it was answered.
    pub(crate) fn receive_in_subscription(
        &mut self,
        server: ServerKey,
        tag: &[u8],
        from: &Source,
        request: &Message<'_>,
    ) -> bool {
        let Some(key) = key_of(tag) else { return false };
        let remote = request.from().ok().and_then(|from| from.tag()).unwrap_or_default();
        let call_id = request.call_id().unwrap_or_default();
        let found = self.notifier.subscriptions.find_mut(key);
        let Some(one) = found.filter(|one| one.dialog.matches(call_id, tag, remote)) else {
            return false;
        };
        let number = request.cseq().map_or(0, |cseq| cseq.number);
        if one.dialog.accept_cseq(number) == Order::OutOfOrder {
            self.desk.refuse(server, 500);
        } else if request.method() == Method::Subscribe {
            self.receive_refresh(server, key, from, request);
        } else {
            self.desk.respond(server, Reply::new(405), |_, _, mut out| {
                out.header("Allow", ALLOW);
                out.end();
            });
        }
        true
    }

    fn receive_refresh(
        &mut self,
        server: ServerKey,
        key: Key,
        from: &Source,
        request: &Message<'_>,
    ) {
        let Some(one) = self.notifier.subscriptions.find(key) else { return };
        if event(request).is_none_or(|(package, id)| package != one.package || id != one.id) {
            return self.bad_event(server);
        }
        let (user, package) = (Mark::of(one.target.as_bytes()), one.package);
        if !self.is_welcome(&one.watcher) {
            self.refuse_subscription(server, 403);
            return self.terminate(key, "rejected");
        }
        let expires_s = match self.granted(request) {
            Ok(expires_s) => expires_s,
            Err(status) => return self.refuse_subscription(server, status),
        };
        if let Some(flow) = from.flow {
            self.flows.insert(flow);
        }
        let now = self.desk.now.mono;
        let Some(one) = self.notifier.subscriptions.find_mut(key) else { return };
        one.come_over(way_of_caller(request, from));
        one.dialog.refresh_target(request);
        one.expires_at = now + Duration::from_secs(u64::from(expires_s));
        one.want_everything(now);
        let tag = one.dialog.local_tag.clone();
        let answer = Reply { status: 200, reason: b"", to_tag: Some(&tag) };
        let way = one.way;
        self.desk.respond(server, answer, |desk, _, mut out| {
            desk.write_contact(&mut out, &way);
            out.header_fmt("Expires", format_args!("{expires_s}"));
            out.header("Allow-Events", ALLOW_EVENTS);
            out.end();
        });
        if package == Package::Dialog && expires_s > 0 {
            self.follow(user, key);
        }
        self.go_on(key);
    }

    /// Whether a user may watch on: who was removed or blocked may not.
    fn is_welcome(&self, watcher: &str) -> bool {
        match self.desk.snapshot.users.get(watcher) {
            Some(user) => user.enabled,
            None => self.desk.snapshot.remote_users.is_some(),
        }
    }

    fn bad_event(&mut self, server: ServerKey) {
        self.desk.count(Counter::SubscriptionsRefused);
        self.desk.respond(server, Reply::new(489), |_, _, mut out| {
            out.header("Allow-Events", ALLOW_EVENTS);
            out.end();
        });
    }

    fn refuse_subscription(&mut self, server: ServerKey, status: u16) {
        self.desk.count(Counter::SubscriptionsRefused);
        match status {
            423 => {
                self.desk.respond(server, Reply::new(423), |_, _, mut out| {
                    out.header_fmt("Min-Expires", format_args!("{SUBSCRIPTION_EXPIRES_MIN_S}"));
                    out.end();
                });
            }
            503 => gate::refuse_overload(&mut self.desk, server),
            status => self.desk.refuse(server, status),
        }
    }
}
