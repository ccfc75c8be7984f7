//! The caller of a ringing call is answered before anybody has picked up.
//! Owns:  the 2xx that a program asks for, and what it answers to the caller's offer.
//! Gives: `accept`; the callee's own answer later finds the caller connected already.
//! Never: a stop to the ringing; a second 2xx to the caller.
//! Holds: when the callee answers, a re-INVITE tells the caller what it speaks, unless both say the
//!        same; media has gone through our relay from the start, or past us to where the program said.

use std::rc::Rc;

use shared::act::Refusal;
use shared::ids::Side;
use sip::sdp::{self, Description};
use sip::wire::{HeaderName, scan};

use super::acts::{Begun, PEER_WAIT, Waits};
use super::compose::{self, SDP};
use super::media::read;
use super::reliable::cseq_of;
use super::{Aim, Call, INVITER, LegState, Unacked};
use crate::desk::{ALLOW, Desk, Reply};

impl Call {
    /// `sdp`: where the caller's media goes until the callee answers.
    pub(super) fn accept(&mut self, desk: &mut Desk, sdp: Option<&str>) -> Result<Begun, Refusal> {
        let rings = self.round.is_some_and(|round| round.aim == Aim::Answer);
        let bytes = self.invite_bytes(desk).filter(|_| rings && self.invite.is_some());
        let Some(bytes) = bytes else { return Err(Refusal::NotRinging) };
        let request = scan(&bytes).map_err(|_| Refusal::NotRinging)?;
        if self.offerless {
            return Err(Refusal::NoOffer);
        }
        let offer = read(request.body()).map_err(|_| Refusal::NoOffer)?;
        let body = match sdp {
            // Nobody would hear the caller: there is no relay of ours, and no address was given.
            None if self.media.past_us => return Err(Refusal::NoMedia),
            // It has its answer from the callee's network.
            None if self.has_told() => Vec::new(),
            None => {
                let answer = sdp::answer_plain(&offer).ok_or(Refusal::CodecUnknown)?;
                let answer = read(&answer).map_err(|_| Refusal::CodecUnknown)?;
                self.say(desk, INVITER, &answer)
            }
            Some(text) => {
                let answer = read(text.as_bytes()).map_err(|_| Refusal::SdpUnusable)?;
                if !answers(&answer, &offer) {
                    return Err(Refusal::SdpUnusable);
                }
                if self.has_told() && !self.was_told_as_much(desk, &answer) {
                    return Err(Refusal::SdpUnusable);
                }
                self.point(desk, Side::Callee, false, &answer);
                if self.has_told() { Vec::new() } else { self.say(desk, INVITER, &answer) }
            }
        };
        self.accepted = Some(Rc::clone(&bytes));
        self.answer_early(desk, &body);
        Ok(Begun::Waits(Waits::Ack, PEER_WAIT))
    }

    pub(super) fn answer_early(&mut self, desk: &mut Desk, body: &[u8]) {
        if self.hold_answer(desk, None) {
            return;
        }
        let Some(server) = self.invite.take() else { return };
        self.stop_telling(desk);
        let cseq = cseq_of(desk, server);
        self.agree_on_session(desk, INVITER, server);
        let rules = desk.settings.timers.session;
        let inviter = &self.legs[usize::from(INVITER)];
        let (way, tag, timer) = (inviter.way, inviter.dialog.local_tag.clone(), inviter.timer);
        let answer = Reply { status: 200, reason: b"", to_tag: Some(&tag) };
        let reply_to = desk.transactions.servers.find(server).map(|server| server.reply_to);
        self.count_answered(desk);
        let sent = desk.respond(server, answer, |desk, request, mut out| {
            out.copy(request, HeaderName::RecordRoute);
            desk.write_contact(&mut out, &way);
            out.header("Allow", ALLOW);
            timer.write_answer(&mut out, &rules, request);
            compose::write_body(out, SDP, body);
        });
        let leg = &mut self.legs[usize::from(INVITER)];
        leg.state = LegState::Up;
        leg.dialog.state = sip::dialog::State::Confirmed;
        if let (Some(response), Some(to)) = (sent, reply_to) {
            leg.unacked = Some(Unacked::new(desk, response, to, cseq, None));
        }
        self.arm(desk);
    }
}

/// One answer line for each line of the offer, and none switched on that the offer has off
/// (RFC 3264 6).
fn answers(answer: &Description<'_>, offer: &Description<'_>) -> bool {
    let fits = |(answer, offer): (&sdp::MediaLine<'_>, &sdp::MediaLine<'_>)| {
        answer.kind.eq_ignore_ascii_case(offer.kind)
            && (answer.port == 0 || (offer.port != 0 && answer.connection.is_some()))
    };
    answer.media.len() == offer.media.len()
        && answer.media.iter().zip(&offer.media).all(fits)
        && answer.media.iter().any(|line| line.port != 0)
}
