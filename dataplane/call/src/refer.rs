//! REFER: a leg that wants its peer to talk with somebody else, or a user who wants to be called and
//! joined (RFC 3515, RFC 5589; the guide's scenario A).
//! Owns:  the reading of Refer-To, who may refer to where, the answer to the REFER.
//! Gives: a transfer of a standing call, or a call that we make.
//! Never: another method than INVITE; headers that somebody else would put into our INVITE.
//! Holds: outside a dialog the sender is authenticated, and refers nobody but itself.

use shared::metrics::Counter;
use shared::net::{Destination, Source};
use shared::originate::{Originate, Unstarted};
use sip::dialog::{Dialog, Order};
use sip::wire::{HeaderName, Message, NameAddr, Replaces, Uri};

use crate::b2bua::INVITER;
use crate::b2bua::referral::{Place as Told, Referral};
use crate::b2bua::setup::way_of_caller;
use crate::b2bua::transfer::Unmoved;
use crate::core::Core;
use crate::desk::{Desk, Reply};
use crate::gate::{self, Asked, Gate};
use crate::mint::TagParts;
use crate::transactions::ServerKey;
use crate::transfer::Move;

/// What a REFER asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    target: Vec<u8>,
    /// The dialog that the sender has with the target (RFC 5589 7).
    replaces: Option<Replaces>,
    referred_by: Option<Vec<u8>>,
    /// RFC 4488: no NOTIFY is wanted.
    is_silent: bool,
}

impl Wish {
    /// # Errors
    /// The status that says what is wrong with it.
    fn read(request: &Message<'_>) -> Result<Self, u16> {
        let mut values = request.all(HeaderName::ReferTo);
        let value = values.next().ok_or(400_u16)?;
        if values.next().is_some() {
            return Err(400); // RFC 3515 2.4.1
        }
        let address = NameAddr::parse(value).map_err(|_| 400_u16)?;
        let uri = address.parsed_uri().map_err(|_| 400_u16)?;
        if !uri.is_sip() {
            return Err(416);
        }
        let method = uri.param("method").flatten();
        if method.is_some_and(|method| !method.eq_ignore_ascii_case(b"INVITE")) {
            return Err(501);
        }
        let replaces = replaces_of(&uri)?;
        let silent = |(name, written, value): (HeaderName, &[u8], &[u8])| {
            name == HeaderName::Other
                && written.eq_ignore_ascii_case(b"Refer-Sub")
                && value.trim_ascii().eq_ignore_ascii_case(b"false")
        };
        let headers = uri.headers.len() + usize::from(!uri.headers.is_empty());
        let plain = &address.uri[..address.uri.len() - headers];
        let referred_by = request.first(HeaderName::ReferredBy);
        Ok(Self {
            target: without_method(plain, uri.params),
            replaces,
            referred_by: referred_by.filter(|by| NameAddr::parse(by).is_ok()).map(<[u8]>::to_vec),
            is_silent: request.lines().any(silent),
        })
    }
}

/// The headers that the sender wants in the INVITE: Replaces alone, others would write into ours.
fn replaces_of(uri: &Uri<'_>) -> Result<Option<Replaces>, u16> {
    let mut replaces = None;
    for (name, value) in uri.header_values() {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"Replaces") && replaces.is_none() {
            replaces = Some(Replaces::parse(&value).map_err(|_| 400_u16)?);
        } else if !is(b"Require") || !value.eq_ignore_ascii_case(b"replaces") {
            return Err(400);
        }
    }
    Ok(replaces)
}

/// The method is for whoever is referred (RFC 3261 19.1.1), not for whom it calls.
fn without_method(uri: &[u8], params: &[u8]) -> Vec<u8> {
    let mut text = uri[..uri.len() - params.len()].to_vec();
    for param in params.split(|&byte| byte == b';').filter(|param| !param.is_empty()) {
        let name = param.split(|&byte| byte == b'=').next().unwrap_or_default();
        if !name.eq_ignore_ascii_case(b"method") {
            text.push(b';');
            text.extend_from_slice(param);
        }
    }
    text
}

impl Core {
    /// A REFER in the dialog of a leg: the call's other leg is to talk with somebody else.
    pub(crate) fn receive_refer(
        &mut self,
        server: ServerKey,
        parts: TagParts,
        request: &Message<'_>,
    ) {
        let number = request.cseq().map_or(0, |cseq| cseq.number);
        let Some(call) = self.calls.find_mut(parts.call).filter(|call| call.ended.is_none()) else {
            return self.desk.refuse(server, 481);
        };
        let is_guest = call.is_guests && parts.leg == INVITER;
        let Some(leg) = call.leg_mut(parts.leg) else { return self.desk.refuse(server, 481) };
        let is_guest = is_guest || leg.is_guest;
        if leg.dialog.accept_cseq(number) == Order::OutOfOrder {
            return self.desk.refuse(server, 500);
        }
        let wish = match Wish::read(request) {
            // It would send the user who let it call to wherever it likes, at our expense.
            Ok(_) if is_guest => return self.desk.refuse(server, 403),
            Ok(wish) => wish,
            Err(status) => return self.desk.refuse(server, status),
        };
        let (side, way, event_id) = (leg.side, leg.way, (leg.refers > 0).then_some(number));
        let (leaves, stays) = match call.may_transfer(side) {
            Ok(legs) if legs.0 == parts.leg => legs,
            Ok(_) | Err(Unmoved::NotNow) => return self.desk.refuse(server, 491),
            Err(Unmoved::TooOften) => return self.desk.refuse(server, 603),
        };
        if let Some(leg) = call.leg_mut(parts.leg) {
            leg.refers = leg.refers.saturating_add(1);
        }
        accept(&mut self.desk, server, None, &way, wish.is_silent);
        let told = Referral { place: Told::Leg(parts.leg), event_id, told: 0 };
        let told = (!wish.is_silent).then_some(told);
        self.with_call(Some(parts.call), |call, desk, _| call.begin_referral(desk, told));
        let ring = self.desk.settings.timers.ring;
        let Wish { target, replaces, referred_by, .. } = wish;
        let wanted = Move { leaves, stays, target, ring, act: None, referred_by, replaces };
        self.transfer(parts.call, wanted);
    }

    /// A REFER of a user who is in no call: call that user, then whom it names (the guide's scenario A).
    pub(crate) fn receive_refer_outside(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
    ) {
        if let Some(status) = self.looped(request) {
            self.desk.count(Counter::SipLoops);
            return self.desk.refuse(server, status);
        }
        match gate::authenticate(&mut self.desk, request, Asked::Referral) {
            Ok(gate) => self.refer_identified(server, from, request, gate),
            Err(user) => self.ask_user(server, from, request, Asked::Referral, user),
        }
    }

    /// The same when its sender is decided about.
    pub(crate) fn refer_identified(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
        gate: Gate,
    ) {
        let proven = self.proven_sender(server, from, request, Asked::Referral, gate);
        let Some(user) = proven else { return };
        let wish = match Wish::read(request) {
            // Who is in no call with us has no dialog of ours to name.
            Ok(wish) if wish.replaces.is_some() => return self.desk.refuse(server, 501),
            Ok(wish) => wish,
            Err(status) => return self.desk.refuse(server, status),
        };
        let Ok(target) = String::from_utf8(wish.target) else {
            return self.desk.refuse(server, 400);
        };
        let tag = self.desk.mint.stray_tag();
        let Some(dialog) = Dialog::from_request(request, tag.clone()) else {
            return self.desk.refuse(server, 400);
        };
        let wanted = Originate { from: user, to: target.into(), ..Originate::default() };
        let begun = match self.begin_originating(&wanted) {
            Ok(begun) => begun,
            Err(Unstarted::Overloaded) => return gate::refuse_overload(&mut self.desk, server),
            Err(why) => return self.desk.refuse(server, status_of(why)),
        };
        let way = way_of_caller(request, from);
        // Who refers is the first party of the call that we make.
        self.claim(server, self.calls.find(begun.slot).map(|call| call.rung(INVITER)));
        accept(&mut self.desk, server, Some(&tag), &way, wish.is_silent);
        let place = Told::Own(Box::new(dialog), way);
        let told = (!wish.is_silent).then_some(Referral { place, event_id: None, told: 0 });
        if let Some(flow) = from.flow {
            self.flows.insert(flow);
        }
        self.with_call(Some(begun.slot), |call, desk, _| call.begin_referral(desk, told));
        self.go_on_originating(begun);
    }
}

/// 202: what becomes of it is told by NOTIFY (RFC 3515 2.4.2).
fn accept(
    desk: &mut Desk,
    server: ServerKey,
    tag: Option<&str>,
    way: &Destination,
    is_silent: bool,
) {
    let answer = Reply { status: 202, reason: b"", to_tag: tag };
    desk.respond(server, answer, |desk, _, mut out| {
        desk.write_contact(&mut out, way);
        if is_silent {
            out.header("Refer-Sub", b"false");
        }
        out.end();
    });
}

const fn status_of(why: Unstarted) -> u16 {
    match why {
        Unstarted::NotRegistered(_) => 480,
        Unstarted::Overloaded => 503,
        Unstarted::Unreachable(_, status) => status,
        Unstarted::Unreadable(_) => 400,
    }
}
