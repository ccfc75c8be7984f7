//! One B2BUA call: an A leg that called us, B legs that we called, and the media between them.
//! Owns:  `Call` and `Leg`: the state of a call from its INVITE to its CDR.
//! Gives: one file per part of a call's life: setup, answer, exchange, media, end.
//! Never: a table of calls; `Calls` in `core` holds them, each call knows only itself and the desk.
//! Holds: legs end together; the INVITE of the A leg gets exactly one final answer; one CDR.

pub(crate) mod answer;
pub(crate) mod compose;
pub(crate) mod end;
pub(crate) mod exchange;
pub(crate) mod media;
pub(crate) mod orphan;
pub(crate) mod setup;
pub(crate) mod view;

use std::rc::Rc;

use shared::cdr::{Direction, HangupReason};
use shared::ids::{CallId, Side};
use shared::net::{Destination, Source};
use shared::time::{Instant, Now};
use sip::dialog::Dialog;
use sip::wire::Message;

use crate::desk::Desk;
use crate::slots::Key;
use crate::transactions::{ClientKey, ServerKey};

pub(crate) use exchange::Exchange;
pub(crate) use media::Media;

/// Leg 0 is the A leg.
pub(crate) const A_LEG: u8 = 0;

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
    pub started: Now,
    pub ringing: Option<Now>,
    pub answered: Option<Now>,
    pub ended: Option<Ended>,
    /// The A leg, then B legs in the order in which they were called.
    pub legs: Vec<Leg>,
    /// The B leg that answered first.
    pub winner: Option<u8>,
    /// The A leg's INVITE, until it has its final response.
    pub invite: Option<ServerKey>,
    pub max_forwards: u8,
    /// The INVITE of the A leg carried no offer: the B leg's 2xx does, the A leg's ACK answers.
    pub offerless: bool,
    pub media: Media,
    pub exchanges: Vec<Exchange>,
    pub exchanges_made: u32,
    /// What goes on when the relays that were asked for are open.
    pub after_open: Option<AfterOpen>,
    /// B targets that wait for the relays.
    pub targets: Vec<Target>,
    pub best_failure: Option<Failure>,
    pub failures: Vec<Failure>,
    pub ring_until: Option<Instant>,
    /// An ending call is given up at this time, whatever its peers still owe.
    pub give_up_at: Option<Instant>,
    pub armed: Option<Instant>,
    pub inbound_trunk: Option<Box<str>>,
    pub outbound_trunk: Option<Box<str>>,
    /// The trunk whose limit this call counts against, while it stands.
    pub(crate) trunk_share: Option<Box<str>>,
    /// INVITEs of ours that were under way when the call ended: dropped when it is given up.
    pub(crate) abandoned: Vec<ClientKey>,
    /// The question to another shard's registrar.
    pub asked: Option<Key>,
    pub cdr_sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Ended for the CDR; peers may still owe a response or an ACK.
    Ending,
    /// The registrar of another shard was asked.
    Locating,
    /// Relays were asked for.
    Opening,
    /// INVITEs are out.
    Ringing,
    Talking,
}

#[derive(Debug)]
pub(crate) struct Leg {
    pub side: Side,
    pub dialog: Dialog,
    /// Where requests of this dialog go.
    pub way: Destination,
    pub state: LegState,
    /// The INVITE client transaction of a B leg, until it has its final response.
    pub invite: Option<ClientKey>,
    /// A response, even 100, was seen: CANCEL is allowed (RFC 3261 9.1).
    pub provisional: bool,
    /// 18x was seen.
    pub rang: bool,
    /// CANCEL has to follow the first provisional response.
    pub cancel_wanted: Option<&'static str>,
    pub cancelled: bool,
    /// Our 2xx that waits for its ACK (RFC 3261 13.3.1.4).
    pub unacked: Option<Unacked>,
    /// A BYE that has to wait for that ACK (RFC 3261 15).
    pub bye_wanted: bool,
    /// `o=` of the SDP that we send to this leg, and the last body, to see whether it changed.
    pub origin_id: u64,
    pub origin_version: u64,
    pub last_sdp: Vec<u8>,
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
    pub wait: std::time::Duration,
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
    Exchange(u32),
    Invite,
}

/// Somebody to call.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub uri: Vec<u8>,
    pub way: Destination,
    pub path: Vec<Vec<u8>>,
}

/// A final response other than 2xx, or the lack of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub status: u16,
    pub reason: Vec<u8>,
    pub target: String,
    /// Contact values of a 3xx.
    pub contacts: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub at: Now,
    pub reason: HangupReason,
    /// What the caller saw as the final status.
    pub status: u16,
}

impl Call {
    pub(crate) fn a_leg(&self) -> &Leg {
        &self.legs[usize::from(A_LEG)]
    }

    pub(crate) fn a_leg_mut(&mut self) -> &mut Leg {
        &mut self.legs[usize::from(A_LEG)]
    }

    pub(crate) fn leg(&self, leg: u8) -> Option<&Leg> {
        self.legs.get(usize::from(leg))
    }

    pub(crate) fn leg_mut(&mut self, leg: u8) -> Option<&mut Leg> {
        self.legs.get_mut(usize::from(leg))
    }

    pub(crate) fn b_legs(&self) -> impl Iterator<Item = (u8, &Leg)> {
        self.legs.iter().enumerate().skip(1).map(|(index, leg)| (small(index), leg))
    }

    /// The leg that talks with `leg`: for the A leg the winner, or the only B leg with a dialog.
    pub(crate) fn peer_of(&self, leg: u8) -> Option<u8> {
        if leg != A_LEG {
            return (self.winner.is_none_or(|winner| winner == leg)).then_some(A_LEG);
        }
        if self.winner.is_some() {
            return self.winner;
        }
        let mut early = self.b_legs().filter(|(_, leg)| {
            leg.state == LegState::Inviting && !leg.dialog.remote_tag.is_empty()
        });
        let first = early.next().map(|(index, _)| index);
        if early.next().is_some() { None } else { first }
    }

    /// When this call wants to be woken.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let exchanges = self.exchanges.iter().map(|exchange| exchange.give_up_at);
        let resend = self.legs.iter().filter_map(|leg| {
            leg.unacked.as_ref().map(|unacked| unacked.resend_at.min(unacked.give_up_at))
        });
        resend.chain(exchanges).chain(self.ring_until).chain(self.give_up_at).min()
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
        self.expire_exchanges(desk);
        if self.ring_until.is_some_and(|at| at <= now) {
            self.ring_until = None;
            self.ring_timed_out(desk);
        }
        if self.give_up_at.is_some_and(|at| at <= now) {
            self.give_up(desk);
        }
    }

    /// Repeats our 2xx until its ACK comes; without one the call ends (RFC 3261 13.3.1.4).
    fn resend_answer(&mut self, desk: &mut Desk, index: u8) {
        let now = desk.now.mono;
        let t2 = desk.timers.t2;
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
            desk.out.send(to, response);
        }
    }

    /// Whether nothing is owed any more and the CDR is out.
    pub(crate) fn is_over(&self) -> bool {
        self.cdr_sent
            && self.invite.is_none()
            && self.abandoned.is_empty()
            && self.legs.iter().all(|leg| leg.invite.is_none() && leg.unacked.is_none())
    }
}

/// Legs are at most 1 + `BRANCHES_PER_CALL_MAX`.
pub(crate) fn small(index: usize) -> u8 {
    u8::try_from(index).expect("a call has at most 17 legs")
}
