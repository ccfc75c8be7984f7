//! Directed pickup: an INVITE with Replaces takes a call that still rings at somebody else (RFC 3891 3).
//! Owns:  what two offers that met have in common.
//! Gives: `pick_up`: the caller and whoever picks up are answered at once, the phones that ring are not
//!        rung any longer.
//! Never: the place of who called us: only legs that we called are taken.
//! Holds: both offers get an answer that says no format but those that both know.

use shared::limits::LEGS_PER_CALL_MAX;
use shared::metrics::Counter;
use sip::dialog::Dialog;
use sip::sdp::{Description, MediaLine, narrow};
use sip::wire::{Message, scan};

use super::answer::ELSEWHERE;
use super::media::read;
use super::replace::{Newcomer, offer_of_newcomer};
use super::secure::asks_tls;
use super::setup::new_leg;
use super::{Aim, Call, INVITER, Leg, LegState, small};
use crate::desk::Desk;
use crate::transactions::ServerKey;

impl Call {
    /// Whether this leg rings, for a caller whose INVITE has its offer and waits.
    pub(crate) fn may_pick_up(&self, goes: u8) -> bool {
        let rings = self.leg(goes).is_some_and(|leg| {
            leg.state == LegState::Inviting && !leg.given_up && !leg.dialog.remote_tag.is_empty()
        });
        let is_asked = self.round.is_some_and(|round| round.aim == Aim::Answer);
        let has_room = self.legs.len() < LEGS_PER_CALL_MAX;
        rings && is_asked && has_room && self.is_in_round(goes) && self.invite.is_some()
    }

    pub(crate) fn pick_up(
        &mut self,
        desk: &mut Desk,
        goes: u8,
        server: ServerKey,
        request: &Message<'_>,
        newcomer: Newcomer,
    ) -> Result<(), u16> {
        let Newcomer { way, user, identity } = newcomer;
        let bytes = self.invite_bytes(desk).ok_or(481_u16)?;
        let invite = scan(&bytes).map_err(|_| 481_u16)?;
        let offer = offer_of_newcomer(request)?;
        let asked = offer_of_newcomer(&invite).map_err(|_| 488_u16)?;
        let side = self.legs[usize::from(goes)].side;
        if !meet(&asked, &offer) || !self.faces(side, &way) {
            return Err(488);
        }
        let (to_newcomer, to_caller) = (narrow(&asked, &offer), narrow(&offer, &asked));
        let (Ok(to_newcomer), Ok(to_caller)) = (read(&to_newcomer), read(&to_caller)) else {
            return Err(488);
        };
        let index = small(self.legs.len());
        let tag = desk.mint.tag(self.key, index);
        let dialog = Dialog::from_request(request, tag).ok_or(400_u16)?;
        let leg = new_leg(desk, side, dialog, way);
        let trunk = self.legs[usize::from(goes)].trunk.clone();
        let user = user.filter(|_| trunk.is_none());
        let terms = desk.terms_of(trunk.as_deref());
        let (state, has_called) = (LegState::Up, true);
        self.legs.push(Leg { state, user, identity, trunk, terms, has_called, ..leg });
        self.legs[usize::from(index)].timer.learn(request);
        self.round = None;
        self.is_sips |= asks_tls(request);
        self.joined[side.index()] = Some(index);
        (self.ring_until, self.setup_until) = (None, None);
        self.hunt.stop();
        self.keep_share_of(index);
        self.bill_takes_over(goes, index);
        self.cancel_branches(desk, ELSEWHERE);
        self.went_to(index);
        self.heard(desk, index, &offer);
        // A caller who was told a description reliably gets none in its 200; a re-INVITE tells it then.
        let before = self.legs[usize::from(INVITER)].last_sdp.clone();
        let body = if self.has_told() { Vec::new() } else { self.say(desk, INVITER, &to_caller) };
        let keeps_to_first = self.media.past_us && !before.is_empty() && !body.is_empty();
        self.answer_caller(desk, request, &body, None);
        let body = self.say(desk, index, &to_newcomer);
        self.answer_newcomer(desk, index, server, &body);
        // Early media of the phone that rang was promised to it, and no relay of ours hides the change.
        if keeps_to_first && self.legs[usize::from(INVITER)].last_sdp != before {
            self.restate_peer(desk, INVITER);
        }
        desk.count(Counter::LegsReplaced);
        self.arm(desk);
        Ok(())
    }
}

/// Two offers that can stand as each other's answer: the same lines, and in each that is live a codec that
/// both name by the same number.
fn meet(one: &Description<'_>, other: &Description<'_>) -> bool {
    let mut live = 0;
    let fit = |(one, other): (&MediaLine<'_>, &MediaLine<'_>)| {
        if one.port == 0 && other.port == 0 {
            return true;
        }
        live += 1;
        let same = |payload: &u8| match (one.map_of(*payload), other.map_of(*payload)) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            _ => *payload < 96,
        };
        let shared: Vec<u8> =
            one.payloads().filter(|payload| other.has_payload(*payload)).collect();
        one.port != 0
            && other.port != 0
            && one.kind.eq_ignore_ascii_case(other.kind)
            && one.proto.eq_ignore_ascii_case(other.proto)
            && shared.iter().all(same)
            && shared.iter().any(|payload| is_codec(one, *payload))
    };
    one.media.len() == other.media.len() && one.media.iter().zip(&other.media).all(fit) && live > 0
}

/// Something to hear, not only keys.
fn is_codec(line: &MediaLine<'_>, payload: u8) -> bool {
    let map = line.map_of(payload).unwrap_or_default().to_ascii_lowercase();
    !map.starts_with(b"telephone-event") && !map.starts_with(b"cn/") && payload != 13
}
