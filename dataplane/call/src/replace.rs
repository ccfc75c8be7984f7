//! INVITE with Replaces: whoever sends it takes the place of a leg of a call of ours (RFC 3891).
//! Owns:  which dialog is meant, who may take whose place.
//! Gives: the new leg in the call of the old one, or an answer.
//! Never: a guest, a caller without credentials, a trunk in the place of another one's leg.
//! Holds: an INVITE with Replaces never becomes a call of its own.

use shared::metrics::Counter;
use shared::net::Source;
use sip::wire::{HeaderName, Message, Replaces};

use crate::b2bua::INVITER;
use crate::b2bua::compose::party_user;
use crate::b2bua::identity::identity_behind;
use crate::b2bua::replace::Newcomer;
use crate::b2bua::secure::asks_tls;
use crate::b2bua::setup::way_of_caller;
use crate::core::Core;
use crate::gate::Sender;
use crate::loan::is_dialog;
use crate::notifier::dialogs::Mark;
use crate::transactions::ServerKey;
use crate::transfer::trunk_of_leg;

impl Core {
    /// The sender is decided about: a user of ours, or a trunk.
    pub(crate) fn take_place(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
        sender: Sender,
    ) {
        if let Err(status) = self.try_place(server, from, request, sender) {
            self.desk.count(Counter::ReplacesRefused);
            self.desk.refuse(server, status);
        }
    }

    fn try_place(
        &mut self,
        server: ServerKey,
        from: &Source,
        request: &Message<'_>,
        sender: Sender,
    ) -> Result<(), u16> {
        if sender == Sender::Guest {
            return Err(403);
        }
        let user = sender.user().map(|user| Mark::of(user.as_bytes()));
        let named = party_user(&request.from().map_err(|_| 400_u16)?);
        let identity = identity_behind(&self.desk, &sender, &named);
        let mut values = request.all(HeaderName::Replaces);
        let value = values.next().ok_or(400_u16)?;
        if values.next().is_some() {
            return Err(400); // RFC 3891 3
        }
        let replaces = Replaces::parse(value).map_err(|_| 400_u16)?;
        let parts = self.leg_of(&replaces.to_tag).ok_or(481_u16)?;
        let call = self.calls.find(parts.call).ok_or(481_u16)?;
        let leg = call.leg(parts.leg).filter(|leg| is_dialog(&leg.dialog, &replaces));
        if leg.is_none() {
            return Err(481);
        }
        if trunk_of_leg(call, parts.leg) != sender.trunk() {
            return Err(403);
        }
        let rings = call.may_pick_up(parts.leg);
        let stays = if rings { INVITER } else { call.may_replace(parts.leg, replaces.early_only)? };
        let way = way_of_caller(request, from);
        // RFC 5630: what was promised to one of them holds for whoever talks with it.
        if !call.admits_way(&way, stays, asks_tls(request)) {
            return Err(480);
        }
        if let Some(flow) = from.flow {
            self.flows.insert(flow);
        }
        if let Some(found) = self.desk.transactions.servers.find_mut(server) {
            found.call = Some(parts.call);
        }
        let rung = self.calls.find(parts.call).map(|call| call.rung(parts.leg));
        if let Some(rung) = rung {
            self.show_prelude(request, rung);
        }
        self.claim(server, rung);
        let comes = Newcomer { way, user, identity };
        let mut outcome = Ok(());
        self.with_call(Some(parts.call), |call, desk, _| {
            outcome = match rings {
                true => call.pick_up(desk, parts.leg, server, request, comes),
                false => call.begin_replacing(desk, parts.leg, server, request, comes),
            };
        });
        outcome
    }
}
