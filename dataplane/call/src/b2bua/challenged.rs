//! A leg's part in a challenge: whether it still wants the request, and what replaces it.
//! Owns:  which place in a call holds a client transaction.
//! Gives: `number_again`, `asked_again`, `is_locked_out`, the credentials of an INVITE for its ACK.
//! Never: asks for a leg that is being cancelled or that nobody waits for.
//! Holds: the request that is asked again has the next number of its dialog (RFC 3261 22.2).

use std::rc::Rc;

use sip::wire::{HeaderName, Message, Writer, scan};

use super::prack::note_number;
use super::{Call, INVITER, LegState};
use crate::desk::Desk;
use crate::transactions::{Asks, ClientKey};

impl Call {
    /// The trunk that a leg goes to, or came from.
    pub(crate) fn trunk_of(&self, leg: u8) -> Option<&str> {
        let called_us = leg == INVITER && self.caller_hash.is_some();
        let name = if called_us { &self.inbound_trunk } else { &self.leg(leg)?.trunk };
        name.as_deref()
    }

    /// Whether this is a challenge of a trunk that has our credentials, or that we have none for it
    /// that it takes. It is as good as out of service.
    pub(crate) fn is_locked_out(&self, desk: &Desk, leg: u8, status: u16) -> bool {
        let known = || {
            let name = self.leg(leg)?.trunk.as_ref()?;
            desk.snapshot.trunks.iter().find(|trunk| trunk.name == *name)
        };
        matches!(status, 401 | 407) && known().is_some_and(|trunk| trunk.account.is_some())
    }

    /// The number for `client`'s request when it is sent again. None: nobody wants that any more.
    pub(crate) fn number_again(&mut self, leg: u8, asks: Asks, client: ClientKey) -> Option<u32> {
        // Nobody keeps a PRACK: it is wanted as long as its call goes on.
        let is_kept = asks != Asks::Prack;
        if self.ended.is_some() || is_kept && *self.place_of(leg, asks)? != client {
            return None;
        }
        let leg = self.leg_mut(leg)?;
        let is_unwanted = leg.given_up || leg.cancelled || leg.cancel_wanted.is_some();
        if asks == Asks::Invite && (is_unwanted || leg.state != LegState::Inviting) {
            return None;
        }
        Some(leg.dialog.next_cseq())
    }

    /// `new` stands where the request was that was challenged.
    pub(crate) fn asked_again(&mut self, desk: &mut Desk, leg: u8, asks: Asks, new: ClientKey) {
        if let Some(place) = self.place_of(leg, asks) {
            *place = new;
        }
        let Some(leg) = self.leg_mut(leg) else { return };
        if asks == Asks::Prack {
            return note_number(desk, leg.invite, leg.dialog.local_cseq);
        }
        if asks != Asks::Invite {
            return;
        }
        // It has had no response yet, so it cannot be cancelled yet; the early dialogs of the one
        // before ended with the challenge, and what was numbered in them.
        leg.provisional = false;
        leg.dialog.remote_tag.clear();
        leg.early.clear();
        if let (Some(asked), Some(client)) = (&mut leg.asked, desk.transactions.clients.find(new)) {
            *asked = Rc::clone(&client.request);
        }
    }

    /// Where the client transaction of such a request is kept.
    fn place_of(&mut self, leg: u8, asks: Asks) -> Option<&mut ClientKey> {
        match asks {
            Asks::Align => self.aligning.as_mut()?.client_mut(),
            Asks::Invite => self.leg_mut(leg)?.invite.as_mut(),
            Asks::Key => self.pressing.as_mut()?.client_mut(),
            Asks::Refresh => self.leg_mut(leg)?.timer.out.as_mut().map(|out| &mut out.client),
            Asks::Relayed(number) => {
                self.exchanges.iter_mut().find(|one| one.number == number)?.client.as_mut()
            }
            Asks::Prack => None,
        }
    }
}

/// RFC 3261 22.1: the ACK of a 2xx carries the credentials that its INVITE was taken with.
pub(crate) fn write_credentials(out: &mut Writer<'_>, invite: &Message<'_>) {
    out.copy(invite, HeaderName::Authorization).copy(invite, HeaderName::ProxyAuthorization);
}

/// The same from the bytes of an INVITE that carries some.
pub(crate) fn copy_credentials(out: &mut Writer<'_>, invite: Option<&Vec<u8>>) {
    if let Some(Ok(invite)) = invite.map(|bytes| scan(bytes)) {
        write_credentials(out, &invite);
    }
}
