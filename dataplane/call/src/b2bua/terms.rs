//! What a trunk's options mean for a leg: which codecs it may hear, how its requests travel.
//! Owns:  the list of codecs that two legs have in common; what becomes of a preloaded Route.
//! Gives: `Desk::terms_of`; `Call::trunk_codecs`, `can_speak`, `speechless`, `media_wish`; `keep_recorded`.
//! Never: a look at the snapshot after a leg was made: a reload changes the calls that come after it.
//! Holds: a leg without a trunk, or with one that asks for nothing, costs a branch.

use std::sync::Arc;

use shared::ask::MediaProxy;
use shared::event::Severity;
use shared::trunk_options::TrunkOptions;
use sip::dialog::Dialog;
use sip::sdp::{Description, keeps_codec};
use sip::wire::{HeaderName, Message};

use super::{Call, Failure, Leg, LegState, compose};
use crate::desk::Desk;

/// No encoding name has a blank: a list with this in it lets nothing through, where an empty one would
/// let through everything.
const NOTHING: &str = " ";

impl Desk {
    /// What holds with the trunk of this name; `None` also where it asks for nothing.
    pub(crate) fn terms_of(&self, trunk: Option<&str>) -> Option<Arc<TrunkOptions>> {
        let name = trunk?;
        let known = self.snapshot.trunks.iter().find(|trunk| *trunk.name == *name)?;
        let asks = *known.options != TrunkOptions::default();
        asks.then(|| Arc::clone(&known.options))
    }
}

impl Leg {
    /// The codecs of its trunk, if that has a list.
    fn codecs(&self) -> Option<&[Box<str>]> {
        let terms = self.terms.as_ref()?;
        (!terms.codecs.is_empty()).then_some(&*terms.codecs)
    }
}

impl Call {
    /// The codecs that a leg may hear of, by the lists of its trunk and of its peer's, the best one
    /// first; `None` where neither has one.
    pub(crate) fn trunk_codecs(&self, leg: u8) -> Option<Vec<Box<str>>> {
        let leg = self.leg(leg)?;
        let own = leg.codecs();
        let peer = self.joined_on(leg.side.other()).and_then(Leg::codecs);
        let first = own.or(peer)?;
        let has = |list: &[Box<str>], name: &str| {
            list.is_empty() || list.iter().any(|one| one.eq_ignore_ascii_case(name))
        };
        let ordered = &self.orders.allow_codecs;
        let in_all = |name: &str| has(peer.unwrap_or_default(), name) && has(ordered, name);
        let mut codecs: Vec<Box<str>> = first.iter().filter(|name| in_all(name)).cloned().collect();
        if codecs.is_empty() {
            codecs.push(NOTHING.into());
        }
        Some(codecs)
    }

    /// Whether the lists of the trunks leave this leg anything of `offer` to speak.
    pub(crate) fn can_speak(&self, leg: u8, offer: &Description<'_>) -> bool {
        let Some(codecs) = self.trunk_codecs(leg) else { return true };
        let mut live = offer.media.iter().filter(|line| line.port != 0).peekable();
        live.peek().is_none() || live.any(|line| keeps_codec(line, &codecs))
    }

    /// A leg that could not say a word is not called (RFC 3261 21.4.26).
    pub(crate) fn speechless(&mut self, desk: &mut Desk, leg: u8) {
        let id = self.id;
        let Some(leg) = self.leg_mut(leg) else { return };
        leg.state = LegState::Ended;
        let target = compose::readable(&leg.dialog.remote_target);
        desk.notice(Severity::Info, "no_codec_left", || {
            format!("call {id}: the codec lists of its trunks leave nothing for {target}")
        });
        self.note_failure(Failure::ours(488, target));
    }

    /// The trunks' word about the road of media: to stay here outweighs to go past.
    pub(crate) fn media_wish(&self, desk: &Desk) -> Option<MediaProxy> {
        let first = self.targets.first().and_then(|target| target.trunk.as_deref());
        let called = desk.terms_of(first);
        let caller = self.caller_leg().and_then(|leg| leg.terms.as_ref());
        let wishes = [caller, called.as_ref()].map(|terms| terms?.media.wish());
        let stays = wishes.into_iter().flatten().find(|wish| !wish.avoids_us());
        stays.or_else(|| wishes.into_iter().flatten().next())
    }
}

/// The proxy that an INVITE was sent through is in the route set only if it recorded itself
/// (RFC 3261 12.1.2). `dialog` has learnt from `response`.
pub(super) fn keep_recorded(
    terms: Option<&TrunkOptions>,
    dialog: &mut Dialog,
    response: &Message<'_>,
) {
    let was_preloaded = terms.is_some_and(|terms| terms.route.is_some());
    if was_preloaded && response.first(HeaderName::RecordRoute).is_none() {
        dialog.routes.clear();
    }
}
