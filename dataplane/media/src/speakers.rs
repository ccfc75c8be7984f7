//! The gateway's own speech into relayed streams: prompts, tones, keys.
//! Owns:  who speaks towards which side of which relay, and the beat of 20 ms.
//! Gives: a packet per speaker and beat; news when a speech began and ended.
//! Never: sends; more than `SPEAKERS_MAX` at a time.
//! Holds: each speech that was taken ends in one `Ended`, unless its relay closes first.

use std::net::SocketAddr;

use shared::ids::{RelayKey, Side};
use shared::limits::SPEAKERS_MAX;
use shared::time::Instant;

use crate::edit::Say;
use crate::relay::Relays;
use crate::rtp::HEADER_BYTES;
use crate::speech::{FRAME_SAMPLES, Frame, Speaker};
use crate::splice::Splice;

/// Why a speech was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSaid {
    NoRelay,
    TooMany,
}

/// A packet of ours on its way to `side`.
#[derive(Clone, Copy, Debug)]
pub struct Spoken<'p> {
    pub relay: RelayKey,
    /// Who hears it.
    pub side: Side,
    pub to: SocketAddr,
    pub record: bool,
    pub packet: &'p [u8],
}

/// What became of a speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeechNews {
    pub relay: RelayKey,
    pub side: Side,
    pub token: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its first packet is out.
    Began,
    /// It is over after so many packets; `whole` when it was said to its end.
    Ended {
        packets: u32,
        whole: bool,
    },
    NotSaid(NotSaid),
}

#[derive(Debug)]
pub(crate) struct Speaking {
    relay: RelayKey,
    side: Side,
    token: u64,
    speaker: Speaker,
    packets: u32,
}

impl Speaking {
    const fn news(&self, what: What) -> SpeechNews {
        SpeechNews { relay: self.relay, side: self.side, token: self.token, what }
    }

    const fn ended(&self, whole: bool) -> SpeechNews {
        self.news(What::Ended { packets: self.packets, whole })
    }
}

impl Relays {
    /// From the next beat on `side` hears this instead of the other side. Gives the end of what it
    /// heard before, or why the new speech is not taken.
    pub fn say(
        &mut self,
        now: Instant,
        relay: RelayKey,
        side: Side,
        say: Say,
    ) -> Option<SpeechNews> {
        let Say { token, seed, speech } = say;
        let refused = |why| SpeechNews { relay, side, token, what: What::NotSaid(why) };
        let place = self.speaking_at(relay, side);
        if place.is_none() && self.speakers.len() >= SPEAKERS_MAX {
            return Some(refused(NotSaid::TooMany));
        }
        let Some(open) = self.relay_mut(relay) else { return Some(refused(NotSaid::NoRelay)) };
        let stream = open.newest_towards(side);
        let before = open.listener(side).splice.take().map(|splice| *splice);
        let splice = Splice::begin(now, before, stream, seed);
        open.listener(side).splice = Some(Box::new(splice));
        let speaker = Speaker::new(speech);
        let speaking = Speaking { relay, side, token, speaker, packets: 0 };
        match place {
            Some(place) => {
                let before = std::mem::replace(&mut self.speakers[place], speaking);
                Some(before.ended(false))
            }
            None => {
                self.speakers.push(speaking);
                None
            }
        }
    }

    /// Ends what `side` hears of us.
    pub fn hush(&mut self, relay: RelayKey, side: Side) -> Option<SpeechNews> {
        let place = self.speaking_at(relay, side)?;
        let speaking = self.speakers.swap_remove(place);
        self.fall_silent(relay, side);
        Some(speaking.ended(false))
    }

    /// One beat: every speaker's next 20 ms. Nothing is sent to a side that has no address or does
    /// not want to hear anything; its time passes all the same.
    pub fn beat(
        &mut self,
        now: Instant,
        mut send: impl FnMut(Spoken<'_>),
        mut tell: impl FnMut(SpeechNews),
    ) {
        let mut packet = [0; HEADER_BYTES + FRAME_SAMPLES];
        let mut payload = [0; FRAME_SAMPLES];
        let mut place = 0;
        while place < self.speakers.len() {
            let speaking = &mut self.speakers[place];
            let (relay, side) = (speaking.relay, speaking.side);
            let content = match speaking.speaker.say(&mut payload) {
                Frame::End => {
                    tell(self.speakers.swap_remove(place).ended(true));
                    self.fall_silent(relay, side);
                    continue;
                }
                Frame::Pause => None,
                Frame::Packet(content) => Some(content),
            };
            place += 1;
            let Some(content) = content else { continue };
            let Some(open) = self.relay_mut(relay) else { continue };
            let record = open.record;
            let listener = open.listener(side);
            let Some(to) = listener.rtp_to.filter(|_| listener.hears) else { continue };
            let Some(splice) = &mut listener.splice else { continue };
            let head = splice.head(now, content.payload_type, content.marker, content.back);
            packet[..HEADER_BYTES].copy_from_slice(&head.to_bytes());
            packet[HEADER_BYTES..].copy_from_slice(&payload);
            let packet = &packet[..HEADER_BYTES + content.length];
            send(Spoken { relay, side, to, record, packet });
            let speaking = &mut self.speakers[place - 1];
            speaking.packets += 1;
            if speaking.packets == 1 {
                tell(speaking.news(What::Began));
            }
        }
    }

    /// Somebody speaks, so `beat` is due every 20 ms.
    pub const fn is_speaking(&self) -> bool {
        !self.speakers.is_empty()
    }

    /// The relay closes: what is said there is over, and nobody asks for it any more.
    pub(crate) fn forget_speakers(&mut self, relay: RelayKey) {
        self.speakers.retain(|speaking| speaking.relay != relay);
    }

    fn speaking_at(&self, relay: RelayKey, side: Side) -> Option<usize> {
        let is_it = |one: &Speaking| one.relay == relay && one.side == side;
        self.speakers.iter().position(is_it)
    }

    fn fall_silent(&mut self, relay: RelayKey, side: Side) {
        let Some(open) = self.relay_mut(relay) else { return };
        let stream = open.newest_towards(side);
        if let Some(splice) = &mut open.listener(side).splice {
            splice.end(stream);
        }
    }
}
