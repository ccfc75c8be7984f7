//! One B2BUA call: the legs that called us or that we called, and the media between the two sides.
//! Owns:  `Call` and `Leg`: the state of a call from the wish for it to its CDR.
//! Gives: one file per part of a call's life: setup, dial, answer, align, exchange, media, end.
//! Never: a table of calls; `Calls` in `core` holds them, each call knows only itself and the desk.
//! Holds: one leg at most talks on each side; legs end together; an INVITE that asked for the call
//!        gets exactly one final answer; one CDR.

pub(crate) mod accept;
pub(crate) mod acts;
pub(crate) mod align;
pub(crate) mod answer;
pub(crate) mod cause;
pub(crate) mod challenged;
pub(crate) mod compose;
pub(crate) mod dial;
pub(crate) mod end;
pub(crate) mod exchange;
pub(crate) mod forward;
pub(crate) mod hunt;
pub(crate) mod identity;
pub(crate) mod join;
pub(crate) mod keys;
pub(crate) mod lend;
pub(crate) mod media;
pub(crate) mod news;
pub(crate) mod orphan;
pub(crate) mod parting;
pub(crate) mod pickup;
pub(crate) mod prack;
pub(crate) mod recording;
pub(crate) mod referral;
pub(crate) mod refresh;
pub(crate) mod reliable;
pub(crate) mod replace;
pub(crate) mod secure;
pub(crate) mod session_timer;
pub(crate) mod setup;
pub(crate) mod speech;
pub(crate) mod terms;
pub(crate) mod transfer;
pub(crate) mod view;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use shared::act::HangUp;
use shared::ask::Orders;
use shared::cdr::{Direction, HangupReason, LegEvent};
use shared::headers::ExtraHeader;
use shared::ids::{CallId, ShardId, Side};
use shared::net::{Destination, Source};
use shared::time::{Instant, Now};
use shared::trunk_options::TrunkOptions;
use sip::dialog::Dialog;
use sip::wire::Message;

use crate::desk::Desk;
use crate::io::{Phone, Rung};
use crate::loan::{Loan, OnLoan};
use crate::mint::LegName;
use crate::notifier::dialogs::{Mark, Unwatched};
use crate::slots::Key;
use crate::stand_ins::StandIns;
use crate::toll::Bill;
use crate::transactions::{Asks, ClientKey, Owner, ServerKey};

pub(crate) use acts::Act;
pub(crate) use align::Aligning;
pub(crate) use dial::Dial;
pub(crate) use exchange::Exchange;
pub(crate) use forward::Forwards;
pub(crate) use hunt::{Hop, Hunt};
pub(crate) use identity::Privacy;
pub(crate) use join::Join;
pub(crate) use keys::Pressing;
pub(crate) use lend::Lent;
pub(crate) use media::Media;
pub(crate) use parting::Parting;
pub(crate) use prack::Early;
pub(crate) use referral::Referral;
pub(crate) use reliable::Reliable;
pub(crate) use replace::Replacing;
pub(crate) use session_timer::SessionTimer;
pub(crate) use transfer::Transfer;

/// The leg of who sent the INVITE that asked for the call; a call that we make has none such.
pub(crate) const INVITER: u8 = 0;

/// The limits of trunks and users that a call counts against.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// Trunks, while it stands; those of the group that is called are with the hunt.
    pub held: Vec<Box<str>>,
    /// Those that it needs no more, for the core to give back.
    pub returned: Vec<Box<str>>,
    /// What it costs somebody (`toll`).
    pub bill: Option<Box<Bill>>,
}

/// How many of each a call has had.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub transfers: u8,
    pub exchanges: u32,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub key: Key,
    pub id: CallId,
    pub state: State,
    pub direction: Direction,
    /// User parts, and the URIs they come from.
    pub caller: String,
    pub callee: String,
    pub caller_uri: String,
    pub callee_uri: String,
    pub source: Source,
    pub user_agent: Option<String>,
    /// The address that was called asks for TLS.
    pub is_sips: bool,
    /// Whoever asked for it has no account.
    pub is_guests: bool,
    pub privacy: Privacy,
    pub started: Now,
    pub ringing: Option<Now>,
    pub answered: Option<Now>,
    pub ended: Option<Ended>,
    /// A program ended it, and why.
    pub hung_up: Option<HangUp>,
    /// The Reason of the BYE or CANCEL that ended it.
    pub cause: Option<Box<str>>,
    /// The User-to-User of that BYE.
    pub parting: Parting,
    /// What programs want of this call and have no answer to yet.
    pub acts: Vec<Act>,
    /// Keys that are sent by INFO.
    pub pressing: Option<Box<Pressing>>,
    /// In the order in which they came to be; a leg keeps its number, which is in its tag.
    pub legs: Vec<Leg>,
    /// The leg that talks on each side, or is to talk once the other side has one.
    pub joined: [Option<u8>; 2],
    /// The leg of who called us, or of the first party that answered: it stays the name of the call
    /// when somebody else takes its place.
    pub named_after: Option<u8>,
    /// INVITEs of ours that are out.
    pub round: Option<Round>,
    /// What is left to do for a call that we make.
    pub dial: Option<Box<Dial>>,
    /// Somebody is called to take a leg's place.
    pub transfer: Option<Box<Transfer>>,
    pub made: Made,
    /// Another call has the leg of a side on loan.
    pub lent: Option<Box<Lent>>,
    /// The leg that was with another shard when this call ended: if it was on its way back by then, its
    /// BYE is left to us.
    pub unreturned: Option<Box<Lent>>,
    /// Somebody takes a leg's place by an INVITE of its own, which waits for its answer.
    pub replacing: Option<Box<Replacing>>,
    /// What other calls are to hear about legs, for the core to carry.
    pub(crate) loans: Vec<(ShardId, Loan)>,
    /// Who sent the REFER that the call, or the transfer, is made for.
    pub referral: Option<Box<Referral>>,
    pub leg_events: Vec<LegEvent>,
    pub aligning: Option<Box<Aligning>>,
    /// The INVITE that asked for the call, until it has its final response.
    pub invite: Option<ServerKey>,
    /// What its sender acknowledges of our provisional responses, if it can do that.
    pub reliable: Option<Box<Reliable>>,
    /// The INVITE, when a program has answered it before anybody picked up, until somebody does.
    pub accepted: Option<Rc<Vec<u8>>>,
    pub max_forwards: u8,
    /// That INVITE carried no offer: the answering leg's 2xx does, the inviter's ACK answers.
    pub offerless: bool,
    pub media: Media,
    pub exchanges: Vec<Exchange>,
    /// What goes on when the relays that were asked for are open.
    pub after_open: Option<AfterOpen>,
    /// Targets that wait for the relays, or for the first party.
    pub targets: Vec<Target>,
    pub changes: Changes,
    pub best_failure: Option<Failure>,
    pub failures: Vec<Failure>,
    pub ring_until: Option<Instant>,
    /// A trunk that has said nothing by then is left for who stands behind it.
    pub setup_until: Option<Instant>,
    /// An answered call ends at this time (`max_duration` of the router).
    pub end_at: Option<Instant>,
    /// An ending call is given up at this time, whatever its peers still owe.
    pub give_up_at: Option<Instant>,
    pub armed: Option<Instant>,
    pub inbound_trunk: Option<Box<str>>,
    pub outbound_trunk: Option<Box<str>>,
    pub(crate) shares: Shares,
    /// Its key among the calls that an INVITE asked for (`Core::by_caller`).
    pub(crate) caller_hash: Option<u64>,
    /// INVITEs of ours that were under way when the call ended: dropped when it is given up.
    pub(crate) abandoned: Vec<ClientKey>,
    /// Whom it tries next.
    pub hunt: Hunt,
    /// Trunks behind those that a transfer, or a party of a call that we make, is called by.
    pub stand_ins: Option<Box<StandIns>>,
    pub forwards: Forwards,
    /// What the router ordered.
    pub orders: Orders,
    /// The question to the router, while it waits for the answer.
    pub decision: Option<Key>,
    /// For a refusal that names its own time.
    pub retry_after_s: Option<u32>,
    pub cdr_sent: bool,
    /// When its start was last written into the journal.
    pub journaled: Option<Instant>,
    /// Nobody watches a user in it.
    pub(crate) unwatched: Unwatched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The router was asked.
    Deciding,
    /// Ended for the CDR; peers may still owe a response or an ACK.
    Ending,
    /// Targets are looked up, here or on another shard.
    Locating,
    /// Relays were asked for.
    Opening,
    /// INVITEs are out.
    Ringing,
    Talking,
}

/// INVITEs that are out for one side of the call: the first to answer takes the side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub side: Side,
    pub aim: Aim,
    /// Its legs are those from this one on.
    pub first_leg: u8,
    /// Who is called was named by an address that asks for TLS: who answers makes the call one.
    pub is_sips: bool,
}

/// What an answered round leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The INVITE that asked for the call is answered.
    Answer,
    /// The first party of a call that we make: now the second is called.
    FirstParty,
    /// The second party: the call stands.
    SecondParty,
    /// Who answers takes the place of a leg.
    Transfer,
}

#[derive(Debug)]
pub(crate) struct Leg {
    pub side: Side,
    pub dialog: Dialog,
    /// Where requests of this dialog go.
    pub way: Destination,
    /// Its party has called us; else we called it.
    pub has_called: bool,
    /// The user of ours whose phone it is.
    pub user: Option<Mark>,
    /// Who that is, name and address, where the From of its party names nobody.
    pub identity: Option<Box<[u8]>>,
    /// The trunk that it goes to.
    pub trunk: Option<Box<str>>,
    /// What that trunk asks for, or the one that it comes from, as it was when the leg was made.
    pub terms: Option<Arc<TrunkOptions>>,
    /// A host of its own, no registered phone: its Contact is where it is reached.
    pub is_host: bool,
    pub state: LegState,
    /// The client transaction of our INVITE to it, until that has its final response.
    pub invite: Option<ClientKey>,
    /// That INVITE, to be sent again where a peer wants a longer session interval.
    pub asked: Option<Rc<Vec<u8>>>,
    pub timer: SessionTimer,
    /// Its early dialogs that have sent reliable responses.
    pub early: Vec<Early>,
    /// A response, even 100, was seen: CANCEL is allowed (RFC 3261 9.1).
    pub provisional: bool,
    /// 18x was seen.
    pub rang: bool,
    /// CANCEL has to follow the first provisional response.
    pub cancel_wanted: Option<Cow<'static, str>>,
    pub cancelled: bool,
    /// Its time to ring is over and others are tried. It may still answer first.
    pub given_up: bool,
    /// Our 2xx that waits for its ACK (RFC 3261 13.3.1.4).
    pub unacked: Option<Unacked>,
    /// A BYE that has to wait for that ACK (RFC 3261 15).
    pub bye_wanted: bool,
    /// `o=` of the SDP that we send to this leg, and the last body, to see whether it changed.
    pub origin_id: u64,
    pub origin_version: u64,
    pub last_sdp: Vec<u8>,
    /// What this leg itself said last.
    pub said: Vec<u8>,
    /// REFERs of this dialog.
    pub refers: u8,
    /// A program has put it on hold: it is told to send nothing, and hears nothing of its peer.
    pub held: bool,
    /// Its party has no account, in whichever call it is.
    pub is_guest: bool,
    /// It is another call's, and here to try if its peer takes this call.
    pub on_loan: Option<Box<OnLoan>>,
    /// It came from another call: how its tag names it.
    pub name: Option<LegName>,
    /// It talks in another call now.
    pub has_moved: bool,
    /// It was here on loan, and never talked in this call.
    pub was_tried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LegState {
    /// BYE was sent or received, or the INVITE failed.
    Ended,
    Inviting,
    Up,
}

/// A 2xx of ours to an INVITE, repeated until it is acknowledged.
#[derive(Debug)]
pub(crate) struct Unacked {
    pub response: Rc<Vec<u8>>,
    pub to: Destination,
    pub cseq: u32,
    pub resend_at: Instant,
    pub wait: Duration,
    pub give_up_at: Instant,
    /// An ACK that the other leg waits for: it carries this ACK's answer.
    pub owes: Option<OwedAck>,
}

/// A 2xx of a leg that wants its ACK; the ACK may have to carry an answer that we do not have yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwedAck {
    pub leg: u8,
    pub client: ClientKey,
    /// The INVITE's own number (RFC 3261 13.2.2.4), which outlives its transaction here.
    pub cseq: u32,
}

impl OwedAck {
    pub(crate) fn new(leg: u8, client: ClientKey, response: &Message<'_>) -> Self {
        Self { leg, client, cseq: response.cseq().map_or(0, |cseq| cseq.number) }
    }
}

#[derive(Debug)]
pub(crate) enum AfterOpen {
    /// The B leg's 2xx to an offerless INVITE: its bytes, and the transaction.
    Answer {
        leg: u8,
        client: ClientKey,
        response: Vec<u8>,
    },
    Dial,
    /// The offer in a reliable provisional response of the B leg: its bytes.
    Early {
        leg: u8,
        response: Vec<u8>,
    },
    Exchange(u32),
    Invite,
}

/// Somebody to call.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub uri: Vec<u8>,
    pub way: Destination,
    pub path: Vec<Vec<u8>>,
    pub trunk: Option<Box<str>>,
    /// A host with an address of its own, no registered phone: it may answer for another host, and
    /// says so in Contact.
    pub is_host: bool,
    /// The user whose phone it is.
    pub user: Option<Mark>,
}

/// What our INVITEs say otherwise than the INVITE that asked for the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub from_uri: Option<Vec<u8>>,
    pub to_uri: Option<Vec<u8>>,
    /// Added, in place of what the INVITE that asked for the call has under these names.
    pub headers: Vec<ExtraHeader>,
    /// How long it may ring; `None` is everybody's limit.
    pub ring: Option<Duration>,
    /// It goes to an address that asks for TLS.
    pub is_sips: bool,
    /// Of the users that it goes to this phone alone.
    pub phone: Option<Phone>,
}

impl Changes {
    /// The headers of a program with those of the rules, which stand in place of its own.
    pub(crate) fn over(&self, headers: &[ExtraHeader]) -> Vec<ExtraHeader> {
        let kept = headers.iter().filter(|header| {
            let same = |other: &ExtraHeader| other.name().eq_ignore_ascii_case(header.name());
            !self.headers.iter().any(same)
        });
        kept.chain(&self.headers).cloned().collect()
    }
}

/// A final response other than 2xx, or the lack of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub status: u16,
    pub reason: Vec<u8>,
    pub target: String,
    /// Contact values of a 3xx.
    pub contacts: Vec<Vec<u8>>,
    /// The Reason that came along.
    pub cause: Option<Box<str>>,
    /// It is our own verdict, not a peer's.
    pub is_ours: bool,
    /// A trunk does not take the credentials that it is configured with.
    pub locked_out: bool,
}

impl Failure {
    pub(crate) fn ours(status: u16, target: String) -> Self {
        Self {
            status,
            reason: Vec::new(),
            target,
            contacts: Vec::new(),
            cause: None,
            is_ours: true,
            locked_out: false,
        }
    }

    pub(crate) fn theirs(status: u16, target: String) -> Self {
        Self { is_ours: false, ..Self::ours(status, target) }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub at: Now,
    pub reason: HangupReason,
    /// What the caller saw as the final status.
    pub status: u16,
}

impl Call {
    /// Whose INVITE this is, or is the CANCEL of.
    pub(crate) fn leg_of_request(&self, request: &Message<'_>) -> Option<u8> {
        let tag = request.from().ok()?.tag().unwrap_or_default();
        let call_id = request.call_id().ok()?;
        let is_it = |leg: &Leg| leg.dialog.call_id == call_id && leg.dialog.remote_tag == tag;
        self.legs.iter().position(is_it).map(small)
    }

    pub(crate) fn leg(&self, leg: u8) -> Option<&Leg> {
        self.legs.get(usize::from(leg))
    }

    pub(crate) fn leg_mut(&mut self, leg: u8) -> Option<&mut Leg> {
        self.legs.get_mut(usize::from(leg))
    }

    /// What a message of this leg is in the call's ladder.
    pub(crate) fn rung(&self, leg: u8) -> Rung {
        let side = self.leg(leg).map_or(Side::Caller, |leg| leg.side);
        Rung { call: self.id, generation: self.key.generation, side }
    }

    /// A request of ours to this leg.
    pub(crate) fn owner(&self, leg: u8, asks: Asks) -> Owner {
        Owner::Leg { call: self.key, leg, asks, rung: self.rung(leg) }
    }

    /// The leg that talks on this side, or is to.
    pub(crate) fn joined_on(&self, side: Side) -> Option<&Leg> {
        self.leg(self.joined[side.index()]?)
    }

    /// The leg that the call is named after: the caller's, or the first that was called for it.
    pub(crate) fn caller_leg(&self) -> Option<&Leg> {
        let first = || self.legs.iter().find(|leg| leg.side == Side::Caller);
        self.named_after.and_then(|leg| self.leg(leg)).or_else(first)
    }

    /// The leg that talks with `leg`; before the answer the only one of a round that has a dialog.
    pub(crate) fn peer_of(&self, leg: u8) -> Option<u8> {
        let side = self.leg(leg)?.side;
        let [own, other] = [side, side.other()].map(|side| self.joined[side.index()]);
        if own.is_some_and(|joined| joined != leg) {
            return None; // another took its side
        }
        if other.is_some() || own.is_none() {
            return other;
        }
        // Who wants a place by an INVITE of its own has none before its 200.
        let newcomer = self.replacing.as_ref().map(|replacing| usize::from(replacing.comes()));
        let mut early = self.legs.iter().enumerate().filter(|(index, one)| {
            let rings = one.state == LegState::Inviting && !one.given_up;
            let is_own = one.on_loan.is_none() && newcomer != Some(*index);
            one.side != side && rings && is_own && !one.dialog.remote_tag.is_empty()
        });
        let first = early.next().map(|(index, _)| small(index));
        if early.next().is_some() { None } else { first }
    }

    /// Whether a leg belongs to the round that is out.
    pub(crate) fn is_in_round(&self, leg: u8) -> bool {
        self.round.is_some_and(|round| leg >= round.first_leg)
    }

    /// When this call wants to be woken.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let exchanges = self.exchanges.iter().map(|exchange| exchange.give_up_at);
        let resend = self.legs.iter().filter_map(|leg| {
            leg.unacked.as_ref().map(|unacked| unacked.resend_at.min(unacked.give_up_at))
        });
        let aligning = self.aligning.as_ref().map(|aligning| aligning.deadline());
        let reliable = self.reliable.as_ref().and_then(|reliable| reliable.deadline());
        let rings = [self.ring_until, self.setup_until, reliable];
        let own = [self.end_at, self.give_up_at, aligning, self.acts_deadline()];
        let loans = [self.loan_deadline(), self.join_deadline(), self.toll_deadline()];
        let own =
            rings.into_iter().chain(own).chain([self.refresh_deadline()]).chain(loans).flatten();
        resend.chain(exchanges).chain(own).min()
    }

    /// Arms the wheel for the deadline, unless an earlier entry stands.
    pub(crate) fn arm(&mut self, desk: &mut Desk) {
        if let Some(deadline) = self.deadline()
            && self.armed.is_none_or(|armed| deadline < armed)
        {
            self.armed = Some(deadline);
            desk.arm_call(self.key, deadline);
        }
    }

    /// A wheel entry of this call fired; it may be early.
    pub(crate) fn timeout(&mut self, desk: &mut Desk) {
        self.armed = None;
        let now = desk.now.mono;
        for index in 0..self.legs.len() {
            self.resend_answer(desk, small(index));
        }
        self.reliable_timeout(desk);
        self.expire_exchanges(desk);
        self.align_timeout(desk);
        self.expire_acts(desk);
        self.refresh_timeout(desk);
        self.loan_timeout(desk);
        self.join_timeout(desk);
        let until = [&mut self.ring_until, &mut self.setup_until];
        let over = until.map(|until| until.take_if(|at| *at <= now).is_some());
        if over.contains(&true) {
            self.ring_timed_out(desk);
        }
        if self.end_at.take_if(|at| *at <= now).is_some() {
            self.end(desk, HangupReason::Autohangup, 200, None);
        }
        self.toll_timeout(desk);
        if self.give_up_at.is_some_and(|at| at <= now) {
            self.give_up(desk);
        }
    }

    /// Repeats our 2xx until its ACK comes; without one the call ends (RFC 3261 13.3.1.4).
    fn resend_answer(&mut self, desk: &mut Desk, index: u8) {
        let now = desk.now.mono;
        let (t2, rung) = (desk.timers.t2, self.rung(index));
        let Some(leg) = self.leg_mut(index) else { return };
        let Some(unacked) = &mut leg.unacked else { return };
        if unacked.give_up_at <= now {
            if let Some(unacked) = leg.unacked.take() {
                self.ack_missing(desk, index, &unacked);
            }
        } else if unacked.resend_at <= now {
            unacked.wait = t2.min(unacked.wait * 2);
            unacked.resend_at = now + unacked.wait;
            let (to, response) = (unacked.to, Rc::clone(&unacked.response));
            desk.count(shared::metrics::Counter::SipRetransmitsOut);
            desk.out.send(to, response, Some(rung));
        }
    }

    /// Whether nothing is owed any more and the CDR is out.
    pub(crate) fn is_over(&self) -> bool {
        self.cdr_sent
            && self.invite.is_none()
            && self.abandoned.is_empty()
            && self.unreturned.is_none()
            && self.legs.iter().all(|leg| leg.invite.is_none() && leg.unacked.is_none())
            && self.legs.iter().all(|leg| leg.on_loan.is_none())
    }
}

/// Legs are bounded by `LEGS_PER_CALL_MAX`, and `TRANSFERS_PER_CALL_MAX` times a fork.
pub(crate) fn small(index: usize) -> u8 {
    u8::try_from(index).expect("a call has far fewer than 256 legs")
}
