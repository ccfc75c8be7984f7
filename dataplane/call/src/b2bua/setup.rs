//! Setup: from the INVITE that asks for a call to our INVITEs (RFC 3261 13, 16.6).
//! Owns:  the birth of a call, the offer's way through, the INVITEs of a round.
//! Gives: `Call::begin`, `Call::invite_targets`, `Call::call_round`.
//! Never: answers the inviter with success; that is `answer`.
//! Holds: legs of one side share its ports; each has tags, Call-ID and Contact of its own.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use shared::ask::{Orders, Reject};
use shared::cdr::{Direction, HangupReason};
use shared::event::Severity;
use shared::headers::ExtraHeader;
use shared::ids::{CallId, Side};
use shared::limits::{BRANCHES_PER_CALL_MAX, LEGS_PER_CALL_MAX};
use shared::net::{Destination, Source, Transport};
use shared::time::Now;
use sip::dialog::{Dialog, State as DialogState};
use sip::sdp::{Description, Direction as MediaDirection};
use sip::wire::{HeaderName, Message, Method, NameAddr, Uri, scan};

use super::compose::{self, Carries, SDP, carries};
use super::identity;
use super::media::read;
use super::secure::is_sips;
use super::{
    AfterOpen, Aim, Call, Changes, Failure, Forwards, Hunt, INVITER, Leg, LegState, Made, Media,
    Privacy, Reliable, Round, SessionTimer, Shares, State, Target, small,
};
use crate::desk::{ALLOW, Desk};
use crate::gate::Sender;
use crate::notifier::dialogs::Unwatched;
use crate::place::uri_of;
use crate::relays::RelayOwners;
use crate::slots::Key;
use crate::transactions::{Asks, ServerKey};

/// What the core found out about an INVITE before it became a call.
#[derive(Debug)]
pub(crate) struct Invitation<'m> {
    pub key: Key,
    pub server: ServerKey,
    pub request: &'m Message<'m>,
    pub from: Source,
    pub direction: Direction,
    pub sender: Sender,
    pub caller_hash: u64,
}

/// What the INVITEs of one round have in common.
#[derive(Debug)]
pub(crate) struct Outgoing<'o> {
    pub side: Side,
    pub aim: Aim,
    pub ring: Duration,
    /// `From` and `To` without tags.
    pub from: Vec<u8>,
    pub to: Vec<u8>,
    /// The request whose headers may cross.
    pub crossing: Option<&'o Message<'o>>,
    /// `Orders::with_original_headers`.
    pub original_headers: Option<bool>,
    pub headers: &'o [ExtraHeader],
    /// Who handed the call over (RFC 3892).
    pub referred_by: Option<&'o [u8]>,
    /// Said instead of the offer's own directions.
    pub direction: Option<MediaDirection>,
    /// The address that leads there asks for TLS.
    pub is_sips: bool,
    pub offer: Option<&'o Description<'o>>,
}

impl Call {
    /// A call in its first state. `None`: the request lacks what a dialog needs (400).
    pub(crate) fn begin(desk: &mut Desk, invitation: Invitation<'_>) -> Option<Self> {
        let Invitation { key, server, request, from, direction, sender, .. } = invitation;
        let sip::wire::Start::Request { uri, .. } = request.start() else { return None };
        let caller = request.from().ok()?;
        let tag = desk.mint.tag(key, INVITER);
        let dialog = Dialog::from_request(request, tag)?;
        let id = desk.mint.call_id(desk.now.wall, key);
        let way = way_of_caller(request, &from);
        let max_forwards = request.max_forwards().ok()?.unwrap_or(shared::limits::MAX_FORWARDS);
        let user_agent = request.first(HeaderName::UserAgent).map(compose::readable);
        let mut inviter = new_leg(desk, Side::Caller, dialog, way);
        inviter.timer.learn(request);
        inviter.has_called = true;
        let named = compose::party_user(&caller);
        let user = identity::veiled(&sender, &named).map(str::to_owned);
        inviter.identity = identity::identity_behind(desk, &sender, &named);
        let caller_uri = inviter.identity.as_deref().map_or(caller.uri, uri_of);
        let caller_uri = compose::readable(caller_uri);
        let (is_guests, inbound_trunk) = (sender == Sender::Guest, sender.trunk());
        inviter.terms = desk.terms_of(inbound_trunk.as_deref());
        Some(Self {
            direction,
            caller: user.unwrap_or(named),
            callee: uri_user(uri),
            caller_uri,
            callee_uri: compose::readable(uri),
            user_agent,
            legs: vec![inviter],
            joined: [Some(INVITER), None],
            named_after: Some(INVITER),
            invite: Some(server),
            reliable: Reliable::wanted(desk, request),
            max_forwards: max_forwards.saturating_sub(1),
            inbound_trunk,
            is_sips: is_sips(uri),
            is_guests,
            caller_hash: Some(invitation.caller_hash),
            ..Self::blank(key, id, desk.now, from)
        })
    }

    /// A call with nothing in it.
    pub(crate) fn blank(key: Key, id: CallId, started: Now, source: Source) -> Self {
        Self {
            key,
            id,
            state: State::Opening,
            direction: Direction::Internal,
            caller: String::new(),
            callee: String::new(),
            caller_uri: String::new(),
            callee_uri: String::new(),
            source,
            user_agent: None,
            is_sips: false,
            is_guests: false,
            privacy: Privacy::default(),
            started,
            ringing: None,
            answered: None,
            ended: None,
            hung_up: None,
            cause: None,
            parting: None,
            acts: Vec::new(),
            pressing: None,
            legs: Vec::new(),
            joined: [None; 2],
            named_after: None,
            round: None,
            dial: None,
            transfer: None,
            made: Made::default(),
            lent: None,
            unreturned: None,
            replacing: None,
            loans: Vec::new(),
            referral: None,
            leg_events: Vec::new(),
            aligning: None,
            invite: None,
            reliable: None,
            accepted: None,
            max_forwards: shared::limits::MAX_FORWARDS,
            offerless: false,
            media: Media::default(),
            exchanges: Vec::new(),
            after_open: None,
            targets: Vec::new(),
            changes: Changes::default(),
            best_failure: None,
            failures: Vec::new(),
            ring_until: None,
            setup_until: None,
            stand_ins: None,
            end_at: None,
            give_up_at: None,
            armed: None,
            inbound_trunk: None,
            outbound_trunk: None,
            shares: Shares::default(),
            caller_hash: None,
            abandoned: Vec::new(),
            hunt: Hunt::default(),
            forwards: Forwards::default(),
            orders: Orders::default(),
            decision: None,
            retry_after_s: None,
            cdr_sent: false,
            journaled: None,
            unwatched: Unwatched::default(),
        }
    }

    /// The targets of a group are known: open what the offer needs, then call them.
    pub(crate) fn go(&mut self, desk: &mut Desk, owners: &mut RelayOwners, targets: Vec<Target>) {
        if self.transfer.is_some() {
            return self.call_transfer_targets(desk, targets);
        }
        self.targets = targets;
        let room = LEGS_PER_CALL_MAX.saturating_sub(self.legs.len());
        self.targets.truncate(BRANCHES_PER_CALL_MAX.min(room));
        self.drop_in_the_clear(desk);
        self.drop_other_family(desk);
        let Some(first) = self.targets.first() else { return self.group_failed(desk) };
        let theirs = first.way.local.ip();
        if self.dial.is_some() {
            return self.open_dial(desk, owners, theirs);
        }
        let ips = [self.legs[usize::from(INVITER)].way.local.ip(), theirs];
        let Some(request) = self.invite_bytes(desk) else { return self.refuse(desk, 500) };
        let Ok(request) = scan(&request) else { return self.refuse(desk, 500) };
        self.learn_privacy(&request);
        self.choose_road(desk, theirs);
        match carries(&request) {
            Carries::Nothing if self.has_answered_early() => self.invite_targets(desk),
            Carries::Nothing => {
                self.offerless = true;
                self.invite_targets(desk);
            }
            Carries::Other => self.refuse(desk, 415),
            Carries::Sdp => self.open_offer(desk, owners, &request, ips),
        }
    }

    fn open_offer(
        &mut self,
        desk: &mut Desk,
        owners: &mut RelayOwners,
        request: &Message<'_>,
        ips: [IpAddr; 2],
    ) {
        let offer = match read(request.body()) {
            Ok(offer) => offer,
            Err(error) => return self.refuse(desk, error.status()),
        };
        self.state = State::Opening;
        match self.open_lines(desk, owners, &offer, ips) {
            Err(status) => self.refuse(desk, status),
            Ok(_) if !self.can_carry(&offer) => self.refuse(desk, 488),
            Ok(false) => self.invite_targets(desk),
            Ok(true) => self.after_open = Some(AfterOpen::Invite),
        }
    }

    /// Passes the INVITE on to every target.
    pub(crate) fn invite_targets(&mut self, desk: &mut Desk) {
        let Some(bytes) = self.invite_bytes(desk) else { return self.refuse(desk, 500) };
        let Ok(request) = scan(&bytes) else { return self.refuse(desk, 500) };
        // What the inviter answered to somebody's offer is what the next one is offered.
        let early = carries(&request) == Carries::Nothing && self.has_answered_early();
        let said = if early { self.legs[usize::from(INVITER)].said.clone() } else { Vec::new() };
        let offer = if early { said.as_slice() } else { request.body() };
        let offer = if self.offerless { None } else { read(offer).ok() };
        if let Some(offer) = &offer {
            self.heard(desk, INVITER, offer);
        }
        self.let_offer_early(self.targets.len());
        let changes = std::mem::take(&mut self.changes);
        let of = |address: Result<NameAddr<'_>, _>, uri: &Option<Vec<u8>>| {
            address.map_or_else(|_| Vec::new(), |one| compose::renamed(one, uri.as_deref()))
        };
        let outgoing = Outgoing {
            side: Side::Callee,
            aim: Aim::Answer,
            ring: changes.ring.unwrap_or(desk.settings.timers.ring),
            from: of(self.sender_of(&request), &changes.from_uri),
            to: of(request.to(), &changes.to_uri),
            crossing: Some(&request),
            original_headers: self.orders.with_original_headers,
            headers: &changes.headers,
            referred_by: None,
            direction: None,
            is_sips: changes.is_sips,
            offer: offer.as_ref(),
        };
        let targets = std::mem::take(&mut self.targets);
        self.call_round(desk, &outgoing, &targets);
    }

    /// Sends an INVITE to every target at once (RFC 3261 16.6: a parallel fork).
    pub(crate) fn call_round(
        &mut self,
        desk: &mut Desk,
        outgoing: &Outgoing<'_>,
        targets: &[Target],
    ) {
        let (side, aim) = (outgoing.side, outgoing.aim);
        if aim != Aim::Transfer {
            self.state = State::Ringing;
        }
        if aim != Aim::Answer {
            self.best_failure = None; // of another party
        }
        let (first_leg, is_sips) = (small(self.legs.len()), outgoing.is_sips);
        self.round = Some(Round { side, aim, first_leg, is_sips });
        let mut mute = None;
        for target in targets {
            let leg = self.add_leg(desk, outgoing, target);
            self.note_next_try(desk, leg);
            if outgoing.offer.is_some_and(|offer| !self.can_speak(leg, offer)) {
                self.speechless(desk, leg);
                mute = Some(leg);
                continue;
            }
            let body = outgoing
                .offer
                .map(|offer| self.say_as(desk, leg, offer, outgoing.direction))
                .unwrap_or_default();
            self.send_invite(desk, leg, outgoing, &body);
        }
        if let Some(leg) = mute {
            self.note_mute(leg);
        }
        self.ring_until = Some(desk.now.mono + outgoing.ring);
        let setup = self.setup_limit(desk, aim, targets);
        self.setup_until = setup.map(|limit| desk.now.mono + limit);
        self.arm(desk);
        self.settle_round(desk);
    }

    fn add_leg(&mut self, desk: &mut Desk, outgoing: &Outgoing<'_>, target: &Target) -> u8 {
        let index = small(self.legs.len());
        let terms = desk.terms_of(target.trunk.as_deref());
        let proxy = terms.as_ref().and_then(|terms| terms.route.as_deref());
        let routes = proxy.map_or_else(|| target.path.clone(), |route| vec![route.into()]);
        let dialog = Dialog {
            state: DialogState::Early,
            call_id: self.leg_call_id(index).into_bytes(),
            local_tag: desk.mint.tag(self.key, index),
            remote_tag: Vec::new(),
            local_party: self.shown_as(desk, outgoing, terms.as_deref()),
            remote_party: outgoing.to.clone(),
            remote_target: target.uri.clone(),
            routes,
            local_cseq: 0,
            remote_cseq: None,
        };
        let leg = new_leg(desk, outgoing.side, dialog, target.way);
        let (trunk, is_host) = (target.trunk.clone(), target.is_host);
        self.legs.push(Leg { trunk, terms, is_host, user: target.user, ..leg });
        self.put_on_bill(desk, index, target);
        index
    }

    /// The Call-ID of a leg that we call.
    pub(crate) fn leg_call_id(&self, leg: u8) -> String {
        format!("{}.{leg}", self.id)
    }

    fn send_invite(&mut self, desk: &mut Desk, index: u8, outgoing: &Outgoing<'_>, body: &[u8]) {
        let (owner, max_forwards) = (self.owner(index, Asks::Invite), self.max_forwards);
        let asks_reliability = self.asks_reliability(outgoing.offer.is_some());
        let named = self.named_to(desk, outgoing, index);
        let terms = self.leg(index).and_then(|leg| leg.terms.as_deref());
        let hidden = self.is_hidden(outgoing.side, terms);
        let leg = &mut self.legs[usize::from(index)];
        let cseq = leg.dialog.next_cseq();
        let (dialog, way, timer) = (&leg.dialog, leg.way, &leg.timer);
        let rules = desk.settings.timers.session;
        let sent = desk.request(
            Method::Invite,
            dialog.request_uri(),
            way,
            max_forwards,
            owner,
            |desk, mut out| {
                dialog.write_request_headers(&mut out, cseq, "INVITE");
                desk.write_contact(&mut out, &way);
                out.header("Allow", ALLOW);
                out.header("User-Agent", desk.settings.product.as_bytes());
                timer.write_request(&mut out, &rules);
                let supported =
                    if asks_reliability { &b"100rel, replaces"[..] } else { &b"replaces"[..] };
                out.header("Supported", supported);
                if let Some(party) = outgoing.referred_by {
                    out.header("Referred-By", party);
                }
                if let Some(named) = &named {
                    named.write(&mut out, outgoing.crossing, outgoing.headers);
                }
                match outgoing.crossing {
                    Some(request) => {
                        let original = outgoing.original_headers;
                        let added = outgoing.headers;
                        compose::pass_and_add(&mut out, request, original, added, hidden);
                    }
                    None => compose::add(&mut out, outgoing.headers),
                }
                compose::write_body(out, SDP, body);
            },
        );
        leg.invite = sent;
        if let Some(client) = sent.and_then(|key| desk.transactions.clients.find(key))
            && rules.is_on()
        {
            leg.asked = Some(Rc::clone(&client.request));
        }
        if sent.is_none() {
            leg.state = LegState::Ended;
            let target = compose::readable(&leg.dialog.remote_target);
            self.note_failure(Failure::ours(503, target));
        }
    }

    /// The INVITE that asked for the call, as long as it has no answer of who was called.
    pub(crate) fn invite_bytes(&self, desk: &Desk) -> Option<Rc<Vec<u8>>> {
        if let Some(request) = &self.accepted {
            return Some(Rc::clone(request));
        }
        let server = desk.transactions.servers.find(self.invite?)?;
        Some(Rc::clone(&server.request))
    }

    /// Ports of a call are of one address family on each side: targets of the other one cannot be
    /// reached once they are open. Without ports of ours both sides are of one family.
    fn drop_other_family(&mut self, desk: &mut Desk) {
        let Some(bound) = self.bound_ip(Side::Callee) else { return };
        let is_ipv4 = bound.is_ipv4();
        let (kept, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.targets)
            .into_iter()
            .partition(|target| target.way.local.is_ipv4() == is_ipv4);
        self.targets = kept;
        self.note_other_family(desk, others);
    }

    /// An address of the family that the media of this side has for the rest of the call.
    pub(crate) fn bound_ip(&self, side: Side) -> Option<IpAddr> {
        let open = self.media.lines.iter().flatten().next();
        let past_us = || {
            let leg = self.joined_on(side.other()).filter(|_| self.media.past_us);
            leg.map(|leg| leg.way.local.ip())
        };
        open.map(|line| line.local[side.index()].ip).or_else(past_us)
    }

    pub(crate) fn note_other_family(&mut self, desk: &mut Desk, others: Vec<Target>) {
        for target in others {
            let (id, uri) = (self.id, compose::readable(&target.uri));
            desk.notice(Severity::Warning, "target_family", || {
                format!("call {id}: {uri} is of another address family than the call's ports")
            });
            self.note_failure(Failure::ours(500, uri));
        }
    }

    /// A program refuses the call.
    pub(crate) fn reject(&mut self, desk: &mut Desk, reject: Reject) {
        let Reject { status, reason, retry_after_s, .. } = reject;
        let target = "http_router".to_owned();
        let reason = reason.into_bytes();
        self.note_failure(Failure { reason, ..Failure::ours(status, target) });
        self.retry_after_s = retry_after_s;
        self.end(desk, HangupReason::Rejected, status, None);
    }

    /// The attempt fails before anybody was called: that of a call, or that of a transfer.
    pub(crate) fn refuse(&mut self, desk: &mut Desk, status: u16) {
        if self.transfer.is_some() {
            return self.transfer_failed(desk, status, b"");
        }
        let reason = match status {
            408 | 480 => HangupReason::NoAnswer,
            503 => HangupReason::ServerUnavailable,
            486 | 600 | 603 => HangupReason::Rejected,
            _ => HangupReason::Failed,
        };
        self.end(desk, reason, status, None);
    }
}

pub(crate) fn new_leg(desk: &mut Desk, side: Side, dialog: Dialog, way: Destination) -> Leg {
    Leg {
        side,
        dialog,
        way,
        has_called: false,
        user: None,
        identity: None,
        trunk: None,
        terms: None,
        is_host: false,
        state: LegState::Inviting,
        invite: None,
        asked: None,
        timer: SessionTimer::default(),
        early: Vec::new(),
        provisional: false,
        rang: false,
        cancel_wanted: None,
        cancelled: false,
        given_up: false,
        unacked: None,
        bye_wanted: false,
        // o= ids are numbers that some phones keep in 32 bits signed.
        origin_id: desk.mint.random() & 0x7fff_ffff,
        origin_version: 1,
        last_sdp: Vec::new(),
        said: Vec::new(),
        refers: 0,
        held: false,
        is_guest: false,
        on_loan: None,
        name: None,
        has_moved: false,
        was_tried: false,
    }
}

/// Where requests to the inviter go: back over its flow or through its NAT; else to its Contact, which
/// may be another host than the proxy that the INVITE came through (RFC 3261 12.2.1.1).
pub(crate) fn way_of_caller(request: &Message<'_>, from: &Source) -> Destination {
    let back = from.back();
    if from.transport.is_reliable() || behind_nat(request, from) {
        return back;
    }
    contact_way(request, &back).unwrap_or(back)
}

/// The Via names another address than the packet's: a NAT sits between (RFC 3581).
fn behind_nat(request: &Message<'_>, from: &Source) -> bool {
    let Ok(via) = request.via() else { return true };
    let ip = match via.host {
        sip::wire::Host::V4(ip) => IpAddr::V4(ip),
        sip::wire::Host::V6(ip) => IpAddr::V6(ip),
        sip::wire::Host::Name(_) => return true,
    };
    ip != from.peer.ip() || via.port.unwrap_or(5060) != from.peer.port()
}

/// The address in Contact (or in the top Route), when it is a number that we can send to.
pub(crate) fn contact_way(message: &Message<'_>, back: &Destination) -> Option<Destination> {
    if matches!(back.transport, Transport::Tls | Transport::Ws | Transport::Wss) {
        // A number proves nothing: who was reached by a flow, or by the name of its certificate,
        // is reached in the same way again. A WebSocket client listens nowhere (RFC 7118 5.1).
        return None;
    }
    // The next hop is the first that a request recorded, and the last that a response did.
    let mut recorded = message.values(HeaderName::RecordRoute);
    let route = if message.is_request() { recorded.next() } else { recorded.last() };
    let value = route.or_else(|| message.values(HeaderName::Contact).next())?;
    let contact = NameAddr::parse(value).ok()?;
    let uri = Uri::parse(contact.uri).ok()?;
    if uri.param("gr").is_some() {
        return None; // it names a phone, whose host is a domain (RFC 5627 3.3); the way there is known
    }
    let ip = match uri.host {
        sip::wire::Host::V4(ip) => IpAddr::V4(ip),
        sip::wire::Host::V6(ip) => IpAddr::V6(ip),
        sip::wire::Host::Name(_) => return None,
    };
    let other_transport = uri
        .param("transport")
        .flatten()
        .is_some_and(|word| !word.eq_ignore_ascii_case(back.transport.uri_word().as_bytes()));
    let usable = !ip.is_unspecified() && !ip.is_multicast() && ip.is_ipv4() == back.peer.is_ipv4();
    if other_transport || !usable || (is_private(ip) && !is_private(back.peer.ip())) {
        return None;
    }
    let peer = std::net::SocketAddr::new(ip, uri.port.unwrap_or(5060));
    if peer.port() == 0 { None } else { Some(Destination { peer, flow: None, ..*back }) }
}

/// RFC 1918, RFC 6598, RFC 4193, loopback, link-local: not reachable from the other side of a NAT.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared_space = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared_space
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The user part of a URI for people, or its host.
pub(crate) fn uri_user(uri: &[u8]) -> String {
    match Uri::parse(uri) {
        Ok(parsed) if parsed.user.is_some() => compose::readable(&parsed.user_unescaped()),
        Ok(parsed) => parsed.host.to_string(),
        Err(_) => compose::readable(uri),
    }
}
