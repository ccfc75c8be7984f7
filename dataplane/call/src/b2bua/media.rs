//! The media of a call: which relay serves which media line, and what SDP says to each side.
//! Owns:  the lines with their ports; the rewriting of SDP between legs (RFC 3264, RFC 4566).
//! Gives: `choose_road`, `open_lines`, `heard` (an SDP from a leg), `say` (an SDP to a leg).
//! Never: a packet.
//! Holds: every port that was taken is given back exactly once, when its relay closes.

use std::net::{IpAddr, SocketAddr};

use media::edit::{LocalPair, Mute, RelayEdit, RelayReport, Remote};
use shared::ask::MediaProxy;
use shared::cdr::StreamQuality;
use shared::event::Severity;
use shared::ids::{RelayKey, Side};
use shared::limits::RELAYS_PER_CALL_MAX;
use shared::metrics::Counter;
use shared::net::Destination;
use sip::sdp::{self, Allowed, Description, Direction, LineChange, Rewrite, SdpError};

use super::recording::Recorded;
use super::speech::Voice;
use super::{Call, INVITER, small};
use crate::desk::Desk;
use crate::relays::RelayOwners;

/// Other ports that are tried when some of a relay's are taken by another program.
const OPEN_ATTEMPTS_MAX: u8 = 8;

#[derive(Debug, Default)]
pub(crate) struct Media {
    /// The legs send to each other: there are no lines, no ports and nothing to hear here.
    pub past_us: bool,
    /// By media line of the SDP; `None` is a line that we do not relay.
    pub lines: Vec<Option<Line>>,
    /// Relays that were asked for and have not answered.
    pub opening: usize,
    /// Relays whose report is still to come.
    pub open: usize,
    pub quality: Vec<StreamQuality>,
    /// Whether somebody asked for this call to be recorded, or not to be.
    pub wants_recording: Option<bool>,
    pub recorded: Recorded,
    /// What we say to the caller, to the callee.
    pub voices: [Option<Voice>; 2],
    /// Whose sound a program has muted.
    pub muted: [bool; 2],
    pub captured_packets: u64,
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub relay: RelayKey,
    /// Facing the caller, facing the callee.
    pub local: [LocalPair; 2],
    pub attempts: u8,
    pub opened: bool,
    pub audio: bool,
    /// The payload is not encrypted: we may put our own in its place.
    pub plain: bool,
    pub remote: [Option<Remote>; 2],
}

impl Call {
    /// Asks for a relay for every RTP line of `offer` that has none yet. `ips`: our address facing
    /// the caller and the callee. `Ok(true)`: something was asked for, wait for it.
    pub(crate) fn open_lines(
        &mut self,
        desk: &mut Desk,
        owners: &mut RelayOwners,
        offer: &Description<'_>,
        ips: [IpAddr; 2],
    ) -> Result<bool, u16> {
        if self.media.past_us {
            return Ok(false);
        }
        self.media.lines.resize_with(self.media.lines.len().max(offer.media.len()), || None);
        for (index, offered) in offer.media.iter().enumerate() {
            let allowed = sdp::keeps_codec(offered, &self.orders.allow_codecs);
            let wanted = offered.is_rtp() && offered.port != 0 && allowed;
            if !wanted || self.media.lines[index].is_some() {
                continue;
            }
            if self.media.lines.iter().flatten().count() >= RELAYS_PER_CALL_MAX {
                break;
            }
            let Some(relay) = owners.insert(self.key) else { return Err(503) };
            let Some(local) = take_ports(desk, ips) else {
                owners.remove(relay);
                desk.count(Counter::RelaysRefused);
                return Err(503);
            };
            self.media.lines[index] = Some(Line {
                relay,
                local,
                attempts: 1,
                opened: false,
                audio: offered.kind.eq_ignore_ascii_case(b"audio"),
                plain: is_plain(offered.proto),
                remote: [None; 2],
            });
            self.media.opening += 1;
            self.media.open += 1;
            desk.out.relay(RelayEdit::Open { relay, local });
        }
        Ok(self.media.opening > 0)
    }

    /// A relay is open. `true` when it was the last one that was waited for.
    pub(crate) fn relay_opened(&mut self, desk: &mut Desk, relay: RelayKey) -> bool {
        self.media.opening = self.media.opening.saturating_sub(1);
        let mut lines = self.media.lines.iter_mut().enumerate();
        let found = lines.find_map(|(index, line)| {
            line.as_mut().filter(|line| line.relay == relay).map(|line| (index, line))
        });
        let Some((index, line)) = found else { return false };
        line.opened = true;
        let muted = self.media.muted;
        for side in Side::BOTH.into_iter().filter(|side| line.audio && muted[side.index()]) {
            desk.out.relay(line.mute(side, true));
        }
        if self.media.closed {
            desk.out.relay(RelayEdit::Close(relay)); // the call ended while it opened
            return false;
        }
        if let Some(rtp_timeout) = self.orders.rtp_timeout {
            desk.out.relay(RelayEdit::Timeout { relay, rtp_timeout });
        }
        self.begin_recording(desk, index);
        self.media.opening == 0
    }

    /// The target that named the callee side's place has failed: nothing flows there any more, and
    /// who comes next is learnt anew.
    pub(crate) fn forget_callee(&mut self, desk: &mut Desk) {
        for line in self.media.lines.iter_mut().flatten() {
            let Some(before) = line.remote[Side::Callee.index()].take() else { continue };
            let remote = Remote { may_send: false, may_receive: false, relearn: true, ..before };
            desk.out.relay(RelayEdit::Remote { relay: line.relay, side: Side::Callee, remote });
        }
    }

    /// Some port of a relay was taken by another program: try others. `false`: no more tries.
    pub(crate) fn relay_refused(&mut self, desk: &mut Desk, relay: RelayKey) -> bool {
        let now = desk.now.mono;
        let Some(line) = self.media.lines.iter_mut().flatten().find(|line| line.relay == relay)
        else {
            return true;
        };
        for pair in line.local {
            desk.ports.give_back(now, pair.rtp_port);
        }
        line.attempts += 1;
        let ips = line.local.map(|pair| pair.ip);
        let hopeless = self.media.closed || line.attempts > OPEN_ATTEMPTS_MAX;
        let again = if hopeless { None } else { take_ports(desk, ips) };
        if let Some(local) = again {
            line.local = local;
            desk.out.relay(RelayEdit::Open { relay, local });
            return true;
        }
        desk.count(Counter::RelaysRefused);
        self.media.opening = self.media.opening.saturating_sub(1);
        self.media.open = self.media.open.saturating_sub(1);
        for slot in &mut self.media.lines {
            if slot.as_ref().is_some_and(|line| line.relay == relay) {
                *slot = None;
            }
        }
        false
    }

    /// An SDP of `leg` was accepted: the relays of its side send there, and expect packets from
    /// there.
    pub(crate) fn heard(&mut self, desk: &mut Desk, leg: u8, said: &Description<'_>) {
        let leg = &mut self.legs[usize::from(leg)];
        let (side, held) = (leg.side, leg.held);
        leg.said.clear();
        leg.said.extend_from_slice(said.text());
        self.point(desk, side, held, said);
    }

    /// The relays of `side` send where the description says, and expect packets from there.
    pub(crate) fn point(
        &mut self,
        desk: &mut Desk,
        side: Side,
        held: bool,
        said: &Description<'_>,
    ) {
        for (line, said) in self.media.lines.iter_mut().zip(&said.media) {
            let (Some(line), Some(ip)) = (line, said.connection) else { continue };
            if said.port == 0 {
                continue;
            }
            let rtp = SocketAddr::new(ip, said.port);
            let rtcp = match said.rtcp {
                _ if said.rtcp_mux => rtp,
                Some((port, other)) => SocketAddr::new(other.unwrap_or(ip), port),
                None => SocketAddr::new(ip, said.port.saturating_add(1)),
            };
            let deaf = ip.is_unspecified();
            let before = line.remote[side.index()];
            let remote = Remote {
                rtp,
                rtcp,
                may_send: deaf
                    || matches!(said.direction, Direction::SendRecv | Direction::SendOnly),
                may_receive: !deaf
                    && matches!(said.direction, Direction::SendRecv | Direction::RecvOnly),
                held,
                relearn: before.is_some_and(|before| before.rtp != rtp),
            };
            // Saying the same again costs nothing downstream: only changes go out.
            if before.is_none_or(|before| {
                Remote { relearn: false, ..before } != Remote { relearn: false, ..remote }
            }) {
                line.remote[side.index()] = Some(remote);
                desk.out.relay(RelayEdit::Remote { relay: line.relay, side, remote });
            }
        }
    }

    /// The SDP that `leg` gets for what the other side said; remembered, so that an unchanged
    /// description keeps its version (RFC 3264 8).
    pub(crate) fn say(&mut self, desk: &Desk, leg: u8, said: &Description<'_>) -> Vec<u8> {
        self.say_as(desk, leg, said, None)
    }

    /// The same with another direction on every line than the other side gave.
    pub(crate) fn say_as(
        &mut self,
        desk: &Desk,
        leg: u8,
        said: &Description<'_>,
        direction: Option<Direction>,
    ) -> Vec<u8> {
        if self.media.past_us {
            let body = self.passed(leg, said, direction);
            self.legs[usize::from(leg)].last_sdp.clone_from(&body);
            return body;
        }
        let listed = self.trunk_codecs(leg);
        let codecs = allowed(listed.as_deref(), &self.orders.allow_codecs);
        let lines = &self.media.lines;
        let leg = &mut self.legs[usize::from(leg)];
        let peer = leg.way.peer.ip();
        let ip = desk.advertised_ip(peer, leg.way.local.ip());
        let change = |(index, line): (usize, &sdp::MediaLine<'_>)| match lines
            .get(index)
            .and_then(Option::as_ref)
        {
            Some(ours) if line.port != 0 => {
                let pair = ours.local[leg.side.index()];
                let rtcp_port = if line.rtcp_mux { pair.rtp_port } else { pair.rtcp_port() };
                // A leg that came later may have been reached from another address of ours than the
                // one that the relay is bound to.
                let bound = Some(pair.ip).filter(|bound| !bound.is_unspecified());
                let ip = bound.map_or(ip, |bound| desk.advertised_ip(peer, bound));
                LineChange::Relay { ip, rtp_port: pair.rtp_port, rtcp_port }
            }
            _ => LineChange::Refuse,
        };
        let lines: Vec<_> = said.media.iter().enumerate().map(change).collect();
        let mut body = Vec::with_capacity(512);
        let mut rewrite = Rewrite {
            origin_id: leg.origin_id,
            origin_version: leg.origin_version,
            ip,
            lines: &lines,
            codecs,
            direction,
            hold: leg.held,
        };
        sdp::rewrite(said, &rewrite, &mut body);
        if body != leg.last_sdp {
            if !leg.last_sdp.is_empty() {
                leg.origin_version += 1;
                rewrite.origin_version = leg.origin_version;
                body.clear();
                sdp::rewrite(said, &rewrite, &mut body);
            }
            leg.last_sdp.clone_from(&body);
        }
        body
    }

    /// The same without us in it.
    pub(super) fn passed(
        &self,
        leg: u8,
        said: &Description<'_>,
        direction: Option<Direction>,
    ) -> Vec<u8> {
        let listed = self.trunk_codecs(leg);
        let codecs = allowed(listed.as_deref(), &self.orders.allow_codecs);
        let leg = &self.legs[usize::from(leg)];
        let (before, hold) = (leg.last_sdp.as_slice(), leg.held);
        sdp::pass(said, &sdp::Pass { before, codecs, direction, hold })
    }

    /// Decides once for the whole call whether media goes past us. `theirs`: our address facing who is
    /// called first.
    pub(crate) fn choose_road(&mut self, desk: &mut Desk, theirs: IpAddr) {
        let is_new = self.media.lines.is_empty() && !self.media.past_us;
        let wanted = match self.orders.media_proxy {
            MediaProxy::Auto => self.media_wish(desk).unwrap_or(desk.settings.media.proxy),
            said => said,
        };
        if !is_new || !wanted.avoids_us() {
            return;
        }
        let own = self.leg(INVITER).map(|leg| leg.way.local);
        let why = if self.wants_recording(desk) {
            "it is to be recorded"
        } else if self.media.muted != [false; 2] {
            "one side is muted"
        } else if self.privacy.session {
            "its caller asks for privacy"
        } else if own.is_none_or(|own| own.is_ipv4() != theirs.is_ipv4()) {
            "its sides are of two address families"
        } else {
            self.media.past_us = true;
            return desk.count(Counter::CallsPastUs);
        };
        let id = self.id;
        desk.notice(Severity::Info, "media_anchored", || {
            format!("call {id}: media was to go past us, but {why}; it flows through")
        });
    }

    /// Nobody is on this side for now: nothing is sent there, and nothing that comes is passed on.
    pub(crate) fn silence_side(&mut self, desk: &mut Desk, side: Side) {
        for line in self.media.lines.iter_mut().flatten() {
            let Some(before) = line.remote[side.index()] else { continue };
            let remote = Remote { may_send: false, may_receive: false, relearn: false, ..before };
            line.remote[side.index()] = Some(remote);
            desk.out.relay(RelayEdit::Remote { relay: line.relay, side, remote });
        }
    }

    /// Whether any line of `offer` has a relay of ours, or needs none.
    pub(crate) fn can_carry(&self, offer: &Description<'_>) -> bool {
        if self.media.past_us {
            let mut live = offer.media.iter().filter(|line| line.port != 0).peekable();
            let allowed = &self.orders.allow_codecs;
            return live.peek().is_none() || live.any(|line| sdp::keeps_codec(line, allowed));
        }
        let relayed = self.media.lines.iter().zip(&offer.media);
        let mut asked = offer.media.iter().filter(|line| line.port != 0).peekable();
        asked.peek().is_none() || relayed.into_iter().any(|(line, _)| line.is_some())
    }

    /// From now on, for every audio line that there is and will be.
    pub(crate) fn mute_side(&mut self, desk: &mut Desk, side: Side, on: bool) {
        if std::mem::replace(&mut self.media.muted[side.index()], on) == on {
            return;
        }
        for line in self.media.lines.iter().flatten().filter(|line| line.audio && line.opened) {
            desk.out.relay(line.mute(side, on));
        }
    }

    /// Closes every relay; the reports come back through `relay_closed`.
    pub(crate) fn close_media(&mut self, desk: &mut Desk) {
        if std::mem::replace(&mut self.media.closed, true) {
            return;
        }
        // One that is still opening is closed when it says that it is open.
        for line in self.media.lines.iter().flatten().filter(|line| line.opened) {
            desk.out.relay(RelayEdit::Close(line.relay));
        }
    }

    /// A relay is gone: its ports rest now.
    pub(crate) fn relay_closed(&mut self, desk: &mut Desk, report: &RelayReport) {
        let now = desk.now.mono;
        for (index, slot) in self.media.lines.iter_mut().enumerate() {
            let Some(line) = slot.take_if(|line| line.relay == report.relay) else { continue };
            for pair in line.local {
                desk.ports.give_back(now, pair.rtp_port);
            }
            self.media.open = self.media.open.saturating_sub(1);
            let streams = report.streams.iter().cloned();
            let line = small(index);
            self.media.quality.extend(streams.map(|stream| StreamQuality { line, ..stream }));
        }
        if let Some(capture) = &report.capture {
            self.media.captured_packets = capture.packets;
        }
    }
}

impl Media {
    /// Audio that we could do something about.
    pub(crate) fn has_audio(&self) -> bool {
        self.lines.iter().flatten().any(|line| line.audio)
    }
}

impl Line {
    const fn mute(&self, side: Side, on: bool) -> RelayEdit {
        let mute = match (on, self.plain) {
            (false, _) => Mute::Off,
            (true, true) => Mute::Silence,
            (true, false) => Mute::Drop,
        };
        RelayEdit::Mute { relay: self.relay, side, mute }
    }
}

/// RTP without SRTP: `RTP/AVP`, `RTP/AVPF`.
fn is_plain(proto: &[u8]) -> bool {
    let profile = proto.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    !profile.get(..1).is_some_and(|first| first.eq_ignore_ascii_case(b"s"))
}

/// An answer to `offer` that refuses every line (RFC 3264 6). Empty when the offer does not read.
pub(crate) fn refusal(desk: &mut Desk, way: &Destination, offer: &[u8]) -> Vec<u8> {
    let Ok(offer) = read(offer) else { return Vec::new() };
    let lines: Vec<_> = offer.media.iter().map(|_| LineChange::Refuse).collect();
    let ip = desk.advertised_ip(way.peer.ip(), way.local.ip());
    let origin_id = desk.mint.random() & 0x7fff_ffff;
    let mut body = Vec::with_capacity(256);
    let change = Rewrite { origin_id, lines: &lines, ..Rewrite::plain(ip) };
    sdp::rewrite(&offer, &change, &mut body);
    body
}

/// What audio may speak: by the lists of the legs' trunks, in their order, else by a program's word.
fn allowed<'c>(listed: Option<&'c [Box<str>]>, ordered: &'c [Box<str>]) -> Allowed<'c> {
    match listed {
        Some(names) => Allowed { names, ranked: true },
        None => Allowed::any_order(ordered),
    }
}

/// Reads an SDP body within its bounds.
pub(crate) fn read(body: &[u8]) -> Result<Description<'_>, SdpError> {
    sdp::parse(body)
}

fn take_ports(desk: &mut Desk, ips: [IpAddr; 2]) -> Option<[LocalPair; 2]> {
    let now = desk.now.mono;
    let first = desk.ports.take(now)?;
    let Some(second) = desk.ports.take(now) else {
        desk.ports.give_back(now, first);
        return None;
    };
    Some([LocalPair { ip: ips[0], rtp_port: first }, LocalPair { ip: ips[1], rtp_port: second }])
}
