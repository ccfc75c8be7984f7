//! A call that we make: the first party is called, then the second, then they are joined (RFC 3725 4).
//! Owns:  `Dial`: both parties as they were named, and what the INVITEs to them say.
//! Gives: `open_dial`, and what follows when either party answers.
//! Never: the second party before the first has answered; media round us.
//! Holds: the first party's leg is the caller's, so all that comes after works as in any call. It
//!        hears nothing but the second party's early media until the second party answers.

use std::net::IpAddr;
use std::time::Duration;

use shared::cdr::HangupReason;
use shared::headers::ExtraHeader;
use shared::ids::Side;
use sip::sdp::{AUDIO, Codec, audio_after, offer_audio};
use sip::wire::Message;

use super::compose::{Carries, carries, changed};
use super::media::read;
use super::setup::Outgoing;
use super::{AfterOpen, Aim, Call, Changes, OwedAck, State, Target};
use crate::desk::Desk;
use crate::relays::RelayOwners;
use crate::transactions::ClientKey;

/// What makes a phone answer by itself is for who asked for the call, not for whom it calls.
const FOR_FIRST_PARTY: [&str; 4] = ["Alert-Info", "Answer-Mode", "Call-Info", "Priv-Answer-Mode"];

#[derive(Debug)]
pub(crate) struct Dial {
    /// Contacts of the first party, once its registrar has answered.
    pub first: Option<Vec<Target>>,
    /// What the rules changed on the way to it.
    pub first_changes: Changes,
    /// Names and addresses, without tags.
    pub first_party: Vec<u8>,
    pub second_party: Vec<u8>,
    /// Whom the second party sees as the caller.
    pub caller: Vec<u8>,
    /// The second party's address, which its place is found by.
    pub second_uri: Vec<u8>,
    pub ring: Duration,
    pub headers: Vec<ExtraHeader>,
}

impl Call {
    pub(crate) fn awaits_first_party(&self) -> bool {
        self.dial.as_ref().is_some_and(|dial| dial.first.is_none())
    }

    /// Both parties can be called: open a relay for the audio of our offer. `theirs`: our address
    /// facing the second party.
    pub(crate) fn open_dial(&mut self, desk: &mut Desk, owners: &mut RelayOwners, theirs: IpAddr) {
        let first = self.dial.as_ref().and_then(|dial| dial.first.as_ref()?.first());
        let Some(ours) = first.map(|target| target.way.local.ip()) else {
            return self.refuse(desk, 480);
        };
        self.state = State::Opening;
        let offer = offer_of(&AUDIO, ours);
        let Ok(offer) = read(&offer) else { return self.refuse(desk, 500) };
        match self.open_lines(desk, owners, &offer, [ours, theirs]) {
            Err(status) => self.refuse(desk, status),
            Ok(true) => self.after_open = Some(AfterOpen::Dial),
            Ok(false) => self.refuse(desk, 503), // a call in its first state has no relay yet
        }
    }

    pub(crate) fn call_first_party(&mut self, desk: &mut Desk) {
        let Some(mut dial) = self.dial.take() else { return };
        let targets = dial.first.take().unwrap_or_default();
        dial.first = Some(Vec::new());
        let Some(ours) = targets.first().map(|target| target.way.local.ip()) else {
            return self.refuse(desk, 480);
        };
        let offer = offer_of(&AUDIO, ours);
        let offer = read(&offer).ok();
        let changes = std::mem::take(&mut dial.first_changes);
        let headers = changes.over(&dial.headers);
        let outgoing = Outgoing {
            side: Side::Caller,
            aim: Aim::FirstParty,
            ring: changes.ring.map_or(dial.ring, |own| own.min(dial.ring)),
            from: changed(dial.second_party.clone(), changes.from_uri),
            to: changed(dial.first_party.clone(), changes.to_uri),
            crossing: None,
            original_headers: None,
            headers: &headers,
            referred_by: None,
            direction: None,
            is_sips: false,
            offer: offer.as_ref(),
        };
        self.call_round(desk, &outgoing, &targets);
        if self.ended.is_none() {
            self.dial = Some(dial);
        }
    }

    pub(crate) fn first_party_answered(
        &mut self,
        desk: &mut Desk,
        index: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        self.named_after = Some(index);
        self.acknowledge(desk, OwedAck::new(index, client, response), None);
        let sdp = self.agreed_sdp(index, response);
        let said = sdp.as_deref().and_then(|sdp| read(sdp).ok());
        let Some(said) = said else { return self.end(desk, HangupReason::Failed, 502, None) };
        let Some(codecs) = audio_after(&said) else {
            return self.end(desk, HangupReason::Failed, 488, None);
        };
        self.heard(desk, index, &said);
        self.call_second_party(desk, &codecs);
    }

    pub(crate) fn call_second_party(&mut self, desk: &mut Desk, codecs: &[Codec]) {
        let Some(dial) = self.dial.take() else { return };
        let targets = std::mem::take(&mut self.targets);
        let Some(ours) = targets.first().map(|target| target.way.local.ip()) else {
            return self.end(desk, HangupReason::NoAnswer, 480, None);
        };
        let offer = offer_of(codecs, ours);
        let offer = read(&offer).ok();
        let is_for_both = |header: &&ExtraHeader| {
            !FOR_FIRST_PARTY.iter().any(|name| header.name().eq_ignore_ascii_case(name))
        };
        let changes = std::mem::take(&mut self.changes);
        let headers: Vec<_> = dial.headers.iter().filter(is_for_both).cloned().collect();
        let headers = changes.over(&headers);
        let outgoing = Outgoing {
            side: Side::Callee,
            aim: Aim::SecondParty,
            ring: changes.ring.unwrap_or(dial.ring),
            from: changed(dial.caller.clone(), changes.from_uri),
            to: changed(dial.second_party.clone(), changes.to_uri),
            crossing: None,
            original_headers: None,
            headers: &headers,
            referred_by: None,
            direction: None,
            is_sips: false,
            offer: offer.as_ref(),
        };
        self.keep_second_party(dial, codecs);
        self.call_round(desk, &outgoing, &targets);
    }

    /// Early media of the second party: the first party hears it where it speaks the same codec.
    pub(crate) fn hear_early(&mut self, desk: &mut Desk, index: u8, response: &Message<'_>) {
        if carries(response) == Carries::Sdp
            && let Ok(said) = read(response.body())
        {
            self.heard(desk, index, &said);
        }
    }

    pub(crate) fn second_party_answered(
        &mut self,
        desk: &mut Desk,
        index: u8,
        client: ClientKey,
        response: &Message<'_>,
    ) {
        let sdp = self.agreed_sdp(index, response);
        let said = sdp.as_deref().and_then(|sdp| read(sdp).ok());
        if said.is_some() {
            self.talk(desk);
        }
        self.acknowledge(desk, OwedAck::new(index, client, response), None);
        let Some(said) = said else { return self.end(desk, HangupReason::Failed, 502, None) };
        self.heard(desk, index, &said);
        self.report_referral(desk, 200, b"");
        if let Some(first) = self.joined[Side::Caller.index()] {
            self.align(desk, first);
        }
    }
}

fn offer_of(codecs: &[Codec], ip: IpAddr) -> Vec<u8> {
    let mut offer = Vec::with_capacity(384);
    offer_audio(codecs, ip, &mut offer);
    offer
}
