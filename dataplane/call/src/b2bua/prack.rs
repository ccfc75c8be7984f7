//! Reliable provisional responses of the legs that we call, each acknowledged once (RFC 3262 4, 5).
//! Owns:  `Early`: the early dialogs of an INVITE of ours, each with numbers of its own.
//! Gives: `take_provisional`, the PRACKs, what a leg agreed on before its 2xx.
//! Never: passes a repeat on, or a response that came before the one in front of it.
//! Holds: a response that carries an offer gets its PRACK when the inviter has answered that, or a
//!        refusal of every line when nobody will.

use std::borrow::Cow;

use shared::cdr::HangupReason;
use shared::metrics::Counter;
use sip::wire::{HeaderName, Message, Method, scan};

use super::compose::{Carries, SDP, carries, write_body};
use super::media::{read, refusal};
use super::reliable::OwedPrack;
use super::setup::contact_way;
use super::{AfterOpen, Call, INVITER, terms};
use crate::desk::Desk;
use crate::relays::RelayOwners;
use crate::transactions::{Asks, ClientKey};

pub(super) const OPTION: &[u8] = b"100rel";
/// Early dialogs of one INVITE that are told apart; a fork further down may make more.
const EARLY_DIALOGS_MAX: usize = 8;

/// One early dialog that has sent a reliable response.
#[derive(Debug)]
pub(crate) struct Early {
    tag: Vec<u8>,
    /// The number of the last one.
    rseq: u32,
    /// Its description: what it says in later responses counts for nothing (RFC 3261 13.2.1).
    said: Vec<u8>,
}

/// What becomes of a provisional response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// A repeat, or not the next one.
    Dropped,
    /// It makes the inviter an offer: its PRACK waits for the answer.
    Offers,
    /// It is news, acknowledged where that is asked for.
    Plain,
}

/// It wants a PRACK.
pub(super) fn is_reliable(response: &Message<'_>) -> bool {
    response.names_option(HeaderName::Require, OPTION) && matches!(response.rseq(), Ok(Some(_)))
}

impl Call {
    /// A provisional response of leg `index`, before anything is made of it.
    pub(super) fn take_provisional(
        &mut self,
        desk: &mut Desk,
        index: u8,
        response: &Message<'_>,
    ) -> Taken {
        let tag = response.to().ok().and_then(|to| to.tag());
        let (Ok(Some(rseq)), Some(tag)) = (response.rseq(), tag) else { return Taken::Plain };
        if response.status() == Some(100) || !is_reliable(response) {
            return Taken::Plain;
        }
        let Some(leg) = self.leg(index) else { return Taken::Dropped };
        let place = leg.early.iter().position(|early| early.tag == tag);
        let known = place.map(|place| leg.early[place].rseq);
        let fits = match known {
            Some(last) => last.checked_add(1) == Some(rseq),
            None => leg.early.len() < EARLY_DIALOGS_MAX,
        };
        if !fits {
            let is_repeat = known == Some(rseq);
            let counter =
                if is_repeat { Counter::SipRetransmitsIn } else { Counter::ProvisionalsDropped };
            desk.count(counter);
            return Taken::Dropped;
        }
        let before = place.is_some_and(|place| !leg.early[place].said.is_empty());
        let describes = carries(response) == Carries::Sdp && !before;
        let offers = describes && self.was_offerless(desk, index);
        let is_heard = self.is_in_round(index) && self.ended.is_none();
        let is_first = self.after_open.is_none() && !self.will_have_told();
        let passes_offer = offers && is_heard && is_first && self.asks_reliability(false);
        if !passes_offer {
            let way = self.legs[usize::from(index)].way;
            let body = if offers { refusal(desk, &way, response.body()) } else { Vec::new() };
            if !self.prack(desk, index, response, &body) {
                return Taken::Dropped; // its repeat finds room, perhaps
            }
        }
        let agrees = describes && offers == passes_offer;
        self.note_early(index, place, tag, rseq, if agrees { response.body() } else { b"" });
        match (offers, passes_offer) {
            (true, true) => Taken::Offers,
            (true, false) => {
                // The inviter answers one offer alone: another fork that makes one has no session. Where
                // it can answer none at all, nobody has.
                if is_heard && is_first {
                    self.end(desk, HangupReason::Failed, 488, None);
                }
                Taken::Dropped
            }
            (false, _) => Taken::Plain,
        }
    }

    fn note_early(&mut self, index: u8, place: Option<usize>, tag: &[u8], rseq: u32, said: &[u8]) {
        let early = &mut self.legs[usize::from(index)].early;
        match place.and_then(|place| early.get_mut(place)) {
            Some(known) => {
                known.rseq = rseq;
                if !said.is_empty() {
                    known.said = said.to_vec();
                }
            }
            None => early.push(Early { tag: tag.to_vec(), rseq, said: said.to_vec() }),
        }
    }

    /// Our INVITE to this leg carried no offer.
    fn was_offerless(&self, desk: &Desk, index: u8) -> bool {
        let client = self.leg(index).and_then(|leg| leg.invite);
        client.is_some_and(|client| sent_no_offer(desk, client))
    }

    /// The description that a 2xx of this leg stands for: what its dialog said in a reliable response,
    /// else what it carries.
    pub(super) fn agreed_sdp<'m>(
        &mut self,
        index: u8,
        response: &Message<'m>,
    ) -> Option<Cow<'m, [u8]>> {
        let tag = response.to().ok().and_then(|to| to.tag()).unwrap_or_default();
        let early = self.leg_mut(index).map(|leg| std::mem::take(&mut leg.early));
        let said = early.unwrap_or_default().into_iter().find(|early| early.tag == tag);
        match said.filter(|early| !early.said.is_empty()) {
            Some(early) => Some(Cow::Owned(early.said)),
            None if carries(response) == Carries::Sdp => Some(Cow::Borrowed(response.body())),
            None => None,
        }
    }

    /// The offer in a reliable response: it needs relays before the inviter can be told.
    pub(super) fn pass_early_offer(
        &mut self,
        desk: &mut Desk,
        owners: &mut RelayOwners,
        index: u8,
        response: &Message<'_>,
    ) {
        let Ok(offer) = read(response.body()) else {
            return self.refuse_early_offer(desk, index, response, 488);
        };
        let ips = [INVITER, index].map(|leg| self.legs[usize::from(leg)].way.local.ip());
        match self.open_lines(desk, owners, &offer, ips) {
            Ok(true) => {
                let response = response.bytes().to_vec();
                self.after_open = Some(AfterOpen::Early { leg: index, response });
            }
            Ok(false) if self.can_carry(&offer) => self.offer_early(desk, index, response),
            Ok(false) => self.refuse_early_offer(desk, index, response, 488),
            Err(status) => self.refuse_early_offer(desk, index, response, status),
        }
    }

    /// The relays are open.
    pub(crate) fn offer_early(&mut self, desk: &mut Desk, index: u8, response: &Message<'_>) {
        let Ok(offer) = read(response.body()) else { return };
        if self.invite.is_none() || !self.can_carry(&offer) {
            return self.refuse_early_offer(desk, index, response, 488);
        }
        self.heard(desk, index, &offer);
        let body = self.say(desk, INVITER, &offer);
        let status = response.status().unwrap_or(183);
        let owed = OwedPrack { leg: index, response: response.bytes().to_vec() };
        self.tell_in_turn(desk, status, response, body, Some(owed));
    }

    /// It cannot be carried: every line is refused, and with it the call.
    pub(crate) fn refuse_early_offer(
        &mut self,
        desk: &mut Desk,
        index: u8,
        response: &Message<'_>,
        status: u16,
    ) {
        let owed = OwedPrack { leg: index, response: response.bytes().to_vec() };
        self.prack_refusing(desk, &owed);
        self.refuse(desk, status);
    }

    pub(super) fn prack_refusing(&mut self, desk: &mut Desk, owed: &OwedPrack) {
        let Some(way) = self.leg(owed.leg).map(|leg| leg.way) else { return };
        let Ok(response) = scan(&owed.response) else { return };
        let answer = refusal(desk, &way, response.body());
        self.prack(desk, owed.leg, &response, &answer);
    }

    pub(super) fn prack_owed(&mut self, desk: &mut Desk, owed: &OwedPrack, answer: &[u8]) {
        if let Ok(response) = scan(&owed.response) {
            self.prack(desk, owed.leg, &response, answer);
        }
    }

    /// Acknowledges `response` in its own early dialog; `false` when there is no room for the
    /// transaction. What becomes of it is the peer's to judge: nobody here waits for the answer, but a
    /// trunk may ask for credentials.
    fn prack(&mut self, desk: &mut Desk, index: u8, response: &Message<'_>, body: &[u8]) -> bool {
        let owner = self.owner(index, Asks::Prack);
        let (Ok(Some(rseq)), Ok(invite)) = (response.rseq(), response.cseq()) else { return false };
        let Some(leg) = self.leg_mut(index) else { return false };
        let number = leg.dialog.next_cseq();
        let mut dialog = leg.dialog.clone();
        dialog.learn(response);
        terms::keep_recorded(leg.terms.as_deref(), &mut dialog, response);
        let elsewhere = || contact_way(response, &leg.way);
        let moves = leg.is_host && leg.way.flow.is_none();
        let way = Some(()).filter(|()| moves).and_then(|()| elsewhere()).unwrap_or(leg.way);
        let invited = leg.invite;
        let sent =
            desk.request(Method::Prack, dialog.request_uri(), way, 70, owner, |desk, mut out| {
                dialog.write_request_headers(&mut out, number, "PRACK");
                out.header_fmt("RAck", format_args!("{rseq} {} INVITE", invite.number));
                out.header("User-Agent", desk.settings.product.as_bytes());
                write_body(out, SDP, body);
            });
        note_number(desk, invited, number);
        sent.is_some()
    }
}

/// A BYE to a fork that nobody wants has to come behind the PRACKs of this INVITE.
pub(super) fn note_number(desk: &mut Desk, invite: Option<ClientKey>, number: u32) {
    if let Some(client) = invite.and_then(|key| desk.transactions.clients.find_mut(key)) {
        client.last_cseq = number;
    }
}

/// The INVITE of this transaction carried no offer.
pub(super) fn sent_no_offer(desk: &Desk, client: ClientKey) -> bool {
    let found = desk.transactions.clients.find(client);
    found.is_some_and(|client| scan(&client.request).is_ok_and(|sent| sent.body().is_empty()))
}
