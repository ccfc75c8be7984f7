//! What we say ourselves towards a leg: sound, and keys; for acts of programs.
//! Owns:  what is being said towards each side, and which act waits for it.
//! Gives: `play`, `stop_playing`, `press`; the end of an act when its speech has begun or ended.
//! Never: a payload type that the leg did not name; a packet.
//! Holds: an act is finished by the news of its own speech only: each speech has a token.

use std::time::Duration;

use media::edit::{RelayEdit, Say};
use media::g711::Law;
use media::speakers::{NotSaid, SpeechNews, What};
use media::speech::{Speech, event_of};
use shared::act::{Play, Refusal};
use shared::ids::{RelayKey, Side};
use sip::sdp::{Description, MediaLine};

use super::acts::{Begun, PEER_WAIT, Waits};
use super::media::read;
use super::{Call, Leg};
use crate::desk::Desk;

/// From the wish to the first packet: less than one beat, or there is nobody to send it to.
const BEGIN_WAIT: Duration = Duration::from_secs(2);
/// One key with its pause, as `media::speech` says it.
const KEY_TIME: Duration = Duration::from_millis(160);

/// Something that is being said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voice {
    token: u64,
    relay: RelayKey,
    /// Who wants to know.
    act: Option<u64>,
    until: Until,
}

/// What the act of a speech waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Begin,
    /// It was said whole.
    End,
    /// It says no more.
    Stop,
}

/// A relay that leads to a leg, and what may be sent there.
struct Way {
    relay: RelayKey,
    side: Side,
    law: Option<Law>,
    keys: Option<u8>,
}

impl Call {
    pub(super) fn play(
        &mut self,
        desk: &mut Desk,
        act: u64,
        play: &Play,
    ) -> Result<Begun, Refusal> {
        let towards = Side::BOTH.into_iter().filter(|side| play.towards[side.index()]);
        let ways: Vec<Way> = towards.map(|side| self.way_to(side)).collect::<Result<_, _>>()?;
        let laws: Option<Vec<Law>> = ways.iter().map(|way| way.law).collect();
        let laws = laws.ok_or(Refusal::CodecUnknown)?;
        for (way, law) in ways.iter().zip(laws) {
            let samples = play.samples.clone();
            let speech = Speech::Sound { samples, law, repeat: play.repeat };
            self.say_to(desk, way, act, Until::Begin, speech);
        }
        Ok(Begun::Waits(Waits::News, BEGIN_WAIT))
    }

    pub(super) fn stop_playing(
        &mut self,
        desk: &mut Desk,
        act: u64,
        towards: [bool; 2],
    ) -> Result<Begun, Refusal> {
        let wanted = |side: &Side| towards[side.index()];
        let mut any = false;
        for side in Side::BOTH.into_iter().filter(wanted) {
            if let Some(voice) = &mut self.media.voices[side.index()] {
                any = true;
                // Whoever waited for it hears that it was cut short.
                let before = voice.act.replace(act);
                voice.until = Until::Stop;
                desk.out.relay(RelayEdit::Hush { relay: voice.relay, side });
                if let Some(before) = before {
                    self.finish_act(desk, before, Err(Refusal::NotConfirmed));
                }
            }
        }
        if any { Ok(Begun::Waits(Waits::News, BEGIN_WAIT)) } else { Err(Refusal::NotPlaying) }
    }

    /// The leg that heard us on this side is gone: its successor may speak something else.
    pub(super) fn hush(&mut self, desk: &mut Desk, side: Side) {
        let Some(voice) = &mut self.media.voices[side.index()] else { return };
        voice.until = Until::Stop;
        desk.out.relay(RelayEdit::Hush { relay: voice.relay, side });
        if let Some(act) = voice.act.take() {
            self.finish_act(desk, act, Err(Refusal::NotConfirmed));
        }
    }

    /// Keys as telephone events (RFC 4733), or, where the leg did not name them, as INFO.
    pub(super) fn press(
        &mut self,
        desk: &mut Desk,
        act: u64,
        side: Side,
        keys: &str,
    ) -> Result<Begun, Refusal> {
        let way = self.way_to(side);
        let Some(payload_type) = way.as_ref().ok().and_then(|way| way.keys) else {
            return self.press_in_dialog(desk, act, side, keys);
        };
        let way = way?;
        let events: Box<[u8]> = keys.bytes().filter_map(event_of).collect();
        let time = KEY_TIME * u32::try_from(events.len()).unwrap_or(u32::MAX);
        let speech = Speech::Keys { keys: events, payload_type };
        self.say_to(desk, &way, act, Until::End, speech);
        Ok(Begun::Waits(Waits::News, time + PEER_WAIT))
    }

    fn say_to(&mut self, desk: &mut Desk, way: &Way, act: u64, until: Until, speech: Speech) {
        let (token, seed) = (desk.mint.random(), desk.mint.random());
        let voice = Voice { token, relay: way.relay, act: Some(act), until };
        if let Some(before) = self.media.voices[way.side.index()].replace(voice)
            && let Some(before) = before.act
        {
            self.finish_act(desk, before, Err(Refusal::NotConfirmed));
        }
        let say = Box::new(Say { token, seed, speech });
        desk.out.relay(RelayEdit::Say { relay: way.relay, side: way.side, say });
    }

    /// What became of a speech. News of one that another has replaced concerns nobody.
    pub(crate) fn handle_speech(&mut self, desk: &mut Desk, news: &SpeechNews) {
        let slot = &mut self.media.voices[news.side.index()];
        let Some(voice) = slot.as_mut().filter(|voice| voice.token == news.token) else { return };
        let (act, until) = (voice.act, voice.until);
        let outcome = match (news.what, until) {
            (What::NotSaid(NotSaid::NoRelay), _) => Err(Refusal::NoMedia),
            (What::NotSaid(NotSaid::TooMany), _) => Err(Refusal::SpeakersFull),
            (What::Began, Until::Begin) | (What::Ended { .. }, Until::Stop) => Ok(()),
            (What::Began, Until::End | Until::Stop) => return,
            // Nothing could be sent: the phone has no address, or wants to hear nothing.
            (What::Ended { packets: 0, .. }, Until::End) | (What::Ended { .. }, Until::Begin) => {
                Err(Refusal::NoMedia)
            }
            (What::Ended { whole: true, .. }, Until::End) => Ok(()),
            (What::Ended { whole: false, .. }, Until::End) => Err(Refusal::NotConfirmed),
        };
        voice.act = None;
        if news.what != What::Began {
            *slot = None;
        }
        let Some(act) = act else { return };
        // An act towards both sides is done when both are.
        let other = self.media.voices[news.side.other().index()];
        if outcome.is_err() || other.is_none_or(|other| other.act != Some(act)) {
            self.finish_act(desk, act, outcome);
        }
    }

    /// The first audio line that leads to the leg of `side`, as that leg and its peer described it.
    fn way_to(&self, side: Side) -> Result<Way, Refusal> {
        let leg = self.standing_leg(side).and_then(|leg| self.leg(leg));
        let leg = leg.ok_or(Refusal::NotAnswered)?;
        let mine = read(&leg.said).map_err(|_| Refusal::NoMedia)?;
        let peer = self.joined_on(side.other()).map_or(&[][..], |peer: &Leg| &peer.said);
        let theirs = read(peer).ok();
        let lines = self.media.lines.iter().zip(&mine.media).enumerate();
        let usable = lines.filter_map(|(index, (ours, mine))| {
            let ours = ours.as_ref()?;
            (ours.audio && ours.opened && mine.port != 0).then_some((index, ours, mine))
        });
        let (index, ours, mine) = usable.into_iter().next().ok_or(Refusal::NoMedia)?;
        let theirs = theirs.as_ref().and_then(|theirs: &Description<'_>| theirs.media.get(index));
        let relay = ours.relay;
        if !ours.plain {
            return Ok(Way { relay, side, law: None, keys: None });
        }
        Ok(Way { relay, side, law: law_of(mine, theirs), keys: keys_of(mine) })
    }
}

/// The law that both speak, or that the leg speaks while it has no peer.
fn law_of(mine: &MediaLine<'_>, theirs: Option<&MediaLine<'_>>) -> Option<Law> {
    let spoken = |format: &u8| theirs.is_none_or(|theirs| theirs.has_payload(*format));
    mine.payloads().filter(spoken).find_map(Law::of_payload_type)
}

/// The payload type of telephone events with the clock of G.711.
fn keys_of(mine: &MediaLine<'_>) -> Option<u8> {
    mine.payloads().find(|format| {
        mine.map_of(*format)
            .is_some_and(|map| map.trim_ascii().eq_ignore_ascii_case(b"telephone-event/8000"))
    })
}
