//! What becomes of one packet on a media port: forwarded to where, or dropped for which reason.
//! Owns:  the table of open relays, each with two sides: addresses, latches, statistics.
//! Gives: a `Verdict` per packet, the quality of both streams at the end, the silent relays.
//! Never: sends, copies or changes a packet, reads a clock; `handle_packet` never allocates.
//! Holds: for every packet `RtpReceived` or `RtcpReceived` grows by one, and so does exactly one of
//!        `RtpForwarded`, `RtcpForwarded` and the counter of the drop.

use std::net::SocketAddr;
use std::time::Duration;

use shared::cdr::StreamQuality;
use shared::ids::{RelayKey, Side};
use shared::limits;
use shared::metrics::{Counter, Counters};
use shared::settings::MediaSettings;
use shared::time::Instant;

use crate::edit::{Mute, Remote};
use crate::g711::Law;
use crate::latch::Rules;
use crate::peer::Peer;
use crate::rtcp;
use crate::rtp::{self, Header};
use crate::speakers::Speaking;
use crate::splice::Newest;

/// Relays per allocation, so that growing the table moves none of them.
const CHUNK: usize = 64;
const SLOTS_MAX: usize = limits::CALLS_PER_SHARD_MAX * limits::RELAYS_PER_CALL_MAX;
const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// Which of a side's two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Component {
    Rtcp,
    Rtp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Drop(Counter),
    /// Send it from the other side's socket of `component`, which differs from the one that it came
    /// in on when one side puts RTCP on its RTP port (RFC 5761) and the other does not.
    Forward {
        to: SocketAddr,
        component: Component,
        record: bool,
        /// To be made before it is sent or recorded.
        change: Option<Change>,
    },
}

/// What a forwarded packet has other than it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its side is muted: the payload becomes the silence of this law.
    pub silence: Option<Law>,
    /// We have spoken in its stream: it goes on under another number.
    pub sequence: Option<u16>,
}

impl Change {
    /// `packet` is the one that the verdict is about.
    pub fn apply(self, packet: &mut [u8]) {
        if let Some(law) = self.silence {
            rtp::fill_payload(packet, law.silence());
        }
        if let Some(sequence) = self.sequence {
            rtp::renumber(packet, sequence);
        }
    }
}

/// The relays of one shard, by slot.
#[derive(Debug)]
pub struct Relays {
    rules: Rules,
    rtp_timeout: Duration,
    hold_timeout: Duration,
    chunks: Vec<Box<[Slot]>>,
    /// By slot: when it is next worth a look whether a relay is silent. Dense, so that a sweep over
    /// many relays reads little memory.
    look_at: Vec<Instant>,
    open_count: usize,
    pub(crate) speakers: Vec<Speaking>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    relay: Option<Relay>,
}

#[derive(Debug)]
pub(crate) struct Relay {
    sides: [Peer; 2],
    /// When a packet of a trusted source last came from either side, or signalling changed it.
    alive_at: Instant,
    /// `alive_at` when the relay was last reported silent.
    reported: Option<Instant>,
    line: u8,
    pub(crate) record: bool,
    /// Instead of the setting.
    rtp_timeout: Option<Duration>,
}

/// What a datagram is, by its first bytes and the port that it came in on.
enum Kind {
    Rtcp,
    Rtp(Header),
    Unusable(Counter),
}

impl Relays {
    pub const fn new(settings: MediaSettings) -> Self {
        Self {
            rules: Rules::new(settings),
            rtp_timeout: settings.rtp_timeout,
            hold_timeout: settings.hold_timeout,
            chunks: Vec::new(),
            look_at: Vec::new(),
            open_count: 0,
            speakers: Vec::new(),
        }
    }

    /// # Panics
    /// When the slot is beyond what a shard's calls can need, or still open: the core that minted
    /// the key has lost count, and packets would cross calls.
    pub fn open(&mut self, now: Instant, relay: RelayKey) {
        let index = relay.slot as usize;
        assert!(index < SLOTS_MAX, "a shard has at most {SLOTS_MAX} relays");
        while index / CHUNK >= self.chunks.len() {
            self.chunks.push((0..CHUNK).map(|_| Slot { generation: 0, relay: None }).collect());
            self.look_at.resize(self.chunks.len() * CHUNK, NEVER);
        }
        let slot = &mut self.chunks[index / CHUNK][index % CHUNK];
        assert!(slot.relay.is_none(), "a relay is closed before its slot opens again");
        slot.generation = relay.generation;
        slot.relay = Some(Relay::new(now));
        self.look_at[index] = after(now, self.rtp_timeout);
        self.open_count += 1;
    }

    /// What the newest SDP of `side` says. The same address again keeps what was latched; another
    /// one, or `relearn`, forgets it.
    pub fn set_remote(&mut self, now: Instant, relay: RelayKey, side: Side, remote: Remote) {
        let Some(open) = self.relay_mut(relay) else { return };
        if !open.sides[side.index()].set_remote(now, remote) {
            return;
        }
        open.alive_at = open.alive_at.max(now);
        let due = open.alive_at;
        let (holds, own) = (open.holds(), open.rtp_timeout);
        let talking = own.unwrap_or(self.rtp_timeout);
        let timeout = if holds { self.hold_timeout } else { talking };
        self.look_at[relay.slot as usize] = after(due, timeout);
    }

    /// How long this relay may be without a packet, instead of the setting; zero: for ever.
    pub fn set_timeout(&mut self, now: Instant, relay: RelayKey, rtp_timeout: Duration) {
        let Some(open) = self.relay_mut(relay) else { return };
        open.rtp_timeout = Some(rtp_timeout);
        self.look_at[relay.slot as usize] = after(now, rtp_timeout);
    }

    /// From now on verdicts say whether to record; `line` is the media line, from 0.
    pub fn set_recording(&mut self, relay: RelayKey, line: u8, on: bool) {
        if let Some(open) = self.relay_mut(relay) {
            open.line = line;
            open.record = on;
        }
    }

    /// What becomes of what `side` says from now on.
    pub fn set_mute(&mut self, relay: RelayKey, side: Side, mute: Mute) {
        if let Some(open) = self.relay_mut(relay) {
            open.sides[side.index()].mute = mute;
        }
    }

    /// One datagram that came in from `from` on the port of `component` that faces `side`.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        relay: RelayKey,
        side: Side,
        component: Component,
        from: SocketAddr,
        packet: &[u8],
        counters: &mut Counters,
    ) -> Verdict {
        let kind = Kind::of(component, packet);
        let is_rtcp = matches!(kind, Kind::Rtcp) || component == Component::Rtcp;
        counters.bump(if is_rtcp { Counter::RtcpReceived } else { Counter::RtpReceived });
        let rules = self.rules;
        let verdict = match (self.relay_mut(relay), kind) {
            (Some(open), Kind::Rtp(header)) => {
                open.handle_rtp(now, side, from, &header, packet.len(), rules)
            }
            (Some(open), Kind::Rtcp) => open.handle_rtcp(now, side, component, from, rules),
            (Some(_), Kind::Unusable(reason)) => Verdict::Drop(reason),
            (None, _) => Verdict::Drop(Counter::RtpNoRelay),
        };
        counters.bump(match verdict {
            Verdict::Drop(reason) => reason,
            Verdict::Forward { .. } if is_rtcp => Counter::RtcpForwarded,
            Verdict::Forward { .. } => Counter::RtpForwarded,
        });
        verdict
    }

    /// What the caller sent, then what the callee sent; `None` when the relay was not open.
    pub fn close(&mut self, relay: RelayKey) -> Option<[StreamQuality; 2]> {
        let slot = self.slot_mut(relay)?;
        let closed = slot.relay.take()?;
        self.look_at[relay.slot as usize] = NEVER;
        self.open_count -= 1;
        self.forget_speakers(relay);
        Some(Side::BOTH.map(|side| closed.sides[side.index()].reception.quality(closed.line, side)))
    }

    /// Calls `silent` once for every relay that has had no packet of a trusted source from either
    /// side for the time-out, and again only when media came back and stopped once more.
    /// A relay is looked at once per time-out, whatever the number of packets.
    pub fn sweep(&mut self, now: Instant, mut silent: impl FnMut(RelayKey)) {
        let (rtp_timeout, hold_timeout) = (self.rtp_timeout, self.hold_timeout);
        for (index, look_at) in self.look_at.iter_mut().enumerate() {
            if *look_at > now {
                continue;
            }
            let slot = &mut self.chunks[index / CHUNK][index % CHUNK];
            let Some(open) = &mut slot.relay else {
                *look_at = NEVER;
                continue;
            };
            let talking = open.rtp_timeout.unwrap_or(rtp_timeout);
            let timeout = if open.holds() { hold_timeout } else { talking };
            let due = after(open.alive_at, timeout);
            if due > now {
                *look_at = due;
                continue;
            }
            if open.reported != Some(open.alive_at) {
                open.reported = Some(open.alive_at);
                let slot_number = u32::try_from(index).expect("slots are numbered in u32");
                silent(RelayKey { slot: slot_number, generation: slot.generation });
            }
            *look_at = after(now, timeout);
        }
    }

    pub const fn open_count(&self) -> usize {
        self.open_count
    }

    #[inline]
    fn slot_mut(&mut self, relay: RelayKey) -> Option<&mut Slot> {
        let index = relay.slot as usize;
        let slot = self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)?;
        (slot.generation == relay.generation).then_some(slot)
    }

    #[inline]
    pub(crate) fn relay_mut(&mut self, relay: RelayKey) -> Option<&mut Relay> {
        self.slot_mut(relay)?.relay.as_mut()
    }
}

impl Kind {
    #[inline]
    fn of(component: Component, packet: &[u8]) -> Self {
        if packet.len() > limits::RTP_PACKET_BYTES_MAX {
            return Self::Unusable(Counter::RtpTooLong);
        }
        let muxed = packet.len() >= 2 && rtcp::is_rtcp_byte(packet[1]);
        if muxed || component == Component::Rtcp {
            return match rtcp::looks_like_rtcp(packet) {
                true => Self::Rtcp,
                false => Self::Unusable(Counter::RtpNotRtp),
            };
        }
        match Header::parse(packet) {
            Ok(header) => Self::Rtp(header),
            Err(_) => Self::Unusable(Counter::RtpNotRtp),
        }
    }
}

impl Relay {
    const fn new(now: Instant) -> Self {
        Self {
            sides: [Peer::new(), Peer::new()],
            alive_at: now,
            reported: None,
            line: 0,
            record: false,
            rtp_timeout: None,
        }
    }

    pub(crate) const fn listener(&mut self, side: Side) -> &mut Peer {
        &mut self.sides[side.index()]
    }

    /// The newest packet of the stream that `side` hears.
    pub(crate) fn newest_towards(&self, side: Side) -> Option<Newest> {
        self.sides[side.other().index()].reception.newest()
    }

    /// Whether the SDP of a side stops media in one direction.
    fn holds(&self) -> bool {
        self.sides.iter().any(|side| !side.may_send || !side.may_receive)
    }

    #[inline]
    fn handle_rtp(
        &mut self,
        now: Instant,
        side: Side,
        from: SocketAddr,
        header: &Header,
        bytes: usize,
        rules: Rules,
    ) -> Verdict {
        let (source, target) = ends(&mut self.sides, side);
        if !source.latch.recognise(now, from) {
            let heard = target.is_described();
            if let Err(reason) = source.meet(now, from, header, bytes, rules, heard) {
                return Verdict::Drop(reason);
            }
        }
        self.alive_at = now;
        source.reception.count(now, header, bytes as u64);
        if !(source.may_send && target.may_receive) {
            return Verdict::Drop(Counter::RtpOnHold);
        }
        let Some(to) = target.rtp_to else {
            return Verdict::Drop(Counter::RtpNoPeer);
        };
        let mut change = None;
        if source.mute != Mute::Off || target.splice.is_some() {
            match changed(source.mute, target, header) {
                Ok(wanted) => change = Some(wanted),
                Err(reason) => return Verdict::Drop(reason),
            }
        }
        source.reception.count_forwarded();
        Verdict::Forward { to, component: Component::Rtp, record: self.record, change }
    }

    /// RTCP flows whatever the direction of the media (RFC 3264 5.1, RFC 3550 6.2).
    #[cold]
    fn handle_rtcp(
        &mut self,
        now: Instant,
        side: Side,
        component: Component,
        from: SocketAddr,
        rules: Rules,
    ) -> Verdict {
        let (source, target) = ends(&mut self.sides, side);
        let admitted = match component {
            Component::Rtcp => source.admit_rtcp(from, rules.lock),
            Component::Rtp => source.admit_muxed(from, rules.lock),
        };
        if let Err(reason) = admitted {
            return Verdict::Drop(reason);
        }
        self.alive_at = now;
        let (to, component) = if target.mux {
            (target.rtp_to, Component::Rtp)
        } else {
            (target.rtcp_to, Component::Rtcp)
        };
        match to {
            Some(to) => Verdict::Forward { to, component, record: self.record, change: None },
            None => Verdict::Drop(Counter::RtpNoPeer),
        }
    }
}

/// What mute and our own speech make of a packet towards `target`.
#[cold]
fn changed(mute: Mute, target: &mut Peer, header: &Header) -> Result<Change, Counter> {
    // Dynamic payload types have names in SDP only, and telephone events are something that the
    // side says.
    let silence = match mute {
        Mute::Off => None,
        Mute::Drop => return Err(Counter::RtpMuted),
        Mute::Silence => Some(Law::of_payload_type(header.payload_type).ok_or(Counter::RtpMuted)?),
    };
    let sequence = match &mut target.splice {
        None => None,
        Some(splice) => Some(splice.renumber(header).ok_or(Counter::RtpReplaced)?),
    };
    Ok(Change { silence, sequence })
}

/// The side that sent, then the one that is to receive.
#[inline]
const fn ends(sides: &mut [Peer; 2], side: Side) -> (&mut Peer, &mut Peer) {
    let [caller, callee] = sides;
    match side {
        Side::Caller => (caller, callee),
        Side::Callee => (callee, caller),
    }
}

/// Zero switches a time-out off.
fn after(start: Instant, timeout: Duration) -> Instant {
    if timeout.is_zero() { NEVER } else { start + timeout }
}
