//! What a completion means: a packet to relay, a message for the core, a connection, a failure.
//! Owns:  the way of received bytes to `media` and `call`, and of buffers back to their group.
//! Gives: each completion to whom its token names; late ones of closed seats to nobody.
//! Never: allocates per media packet; keeps received bytes, except the start of a stream's message.
//! Holds: every loan of a buffer is given back or handed to the ring.

use call::Input;
use media::relay::Verdict;
use shared::ids::RelayKey;
use shared::limits;
use shared::metrics::Counter;
use shared::net::Source;
use shared::time::Now;
use sip::wire::{self, Malformed, Method};

use std::rc::Rc;

use crate::arrival;
use crate::capture::Heard;
use crate::relay_sockets::{leg_of, side_and_component};
use crate::ring::Completion;
use crate::ring::buffers::{Group, Loan, Shape};
use crate::ring::token::{Seat, Token};
use crate::shell::{Pools, Shell};
use crate::sip_tcp::cutter::{Cut, Cutter};
use crate::sip_udp::SHAPE;

impl Shell {
    pub(crate) fn complete(&mut self, now: Now, pools: &mut Pools, completion: Completion) {
        let Completion { token, result, more, loan, accepted } = completion;
        match token {
            Token::Media { relay, leg } => {
                if !more {
                    let again = self.goes_on(result);
                    self.sockets.disarmed(relay, leg, again);
                }
                let back = loan.and_then(|loan| self.packet(now, &pools.media, relay, leg, loan));
                if let Some(loan) = back {
                    pools.media.give_back(loan);
                }
            }
            Token::Datagram { listener } => {
                if !more {
                    let again = self.goes_on(result);
                    self.udp.disarmed(listener, again);
                }
                if let Some(loan) = loan {
                    self.datagram(now, &pools.datagrams, listener, &loan);
                    pools.datagrams.give_back(loan);
                }
            }
            Token::FlowReceive(seat) => {
                if let Some(loan) = loan {
                    self.piece(now, pools.streams.bytes(&loan), seat);
                    pools.streams.give_back(loan);
                }
                if !more {
                    let alive = result != 0 && self.goes_on(result);
                    let counters = self.core.plain_counters();
                    self.tcp.disarmed(&mut self.ring, seat, alive, counters);
                    self.settle(now);
                }
            }
            Token::FlowSend(seat) => {
                self.tcp.sent(&mut self.ring, seat, result);
                self.settle(now);
            }
            Token::Connect(seat) => {
                self.tcp.connected(&mut self.ring, now.mono, seat, result);
                self.settle(now);
            }
            Token::Accept { listener } => {
                if !more {
                    self.tcp.deafened(listener);
                }
                if let Some(socket) = accepted {
                    let counters = self.core.plain_counters();
                    let taken = (listener, socket);
                    self.tcp.accepted(&mut self.ring, now.mono, taken, counters);
                    self.settle(now);
                }
            }
            Token::DatagramSend(seat) => {
                if let Some(to) = self.udp.undelivered(seat) {
                    self.input(now, Input::SendFailed(to));
                }
            }
            Token::MediaSend => self.core.plain_counters().bump(Counter::RtpSendFailed),
            Token::Cancel => {}
        }
    }

    /// One packet on a relay's socket. Gives the loan back unless the ring sends from it.
    fn packet(
        &mut self,
        now: Now,
        group: &Group,
        relay: Seat,
        leg: u8,
        mut loan: Loan,
    ) -> Option<Loan> {
        // A closed relay's last packets come after its end, and whoever has its seat now is not
        // meant: the generation tells.
        if self.sockets.socket(relay, leg).is_none() {
            return Some(loan);
        }
        let Some(datagram) = group.datagram(&loan, Shape::Plain) else { return Some(loan) };
        let counters = self.core.plain_counters();
        if datagram.truncated || datagram.payload.len() > limits::RTP_PACKET_BYTES_MAX {
            counters.bump(Counter::RtpReceived);
            counters.bump(Counter::RtpTooLong);
            return Some(loan);
        }
        let key = RelayKey { slot: relay.index, generation: relay.generation };
        let (side, component) = side_and_component(leg);
        let verdict = self.relays.handle_packet(
            now.mono,
            key,
            side,
            component,
            datagram.from,
            datagram.payload,
            counters,
        );
        let Verdict::Forward { to, component: out, record, change } = verdict else {
            return Some(loan);
        };
        if let Some(change) = change
            && let Some(packet) = group.payload_mut(&mut loan, Shape::Plain)
        {
            change.apply(packet);
        }
        if record && let Some(sent) = group.datagram(&loan, Shape::Plain) {
            let heard = Heard { at: now.mono, side, component, packet: sent.payload };
            self.captures.append(key, &heard);
        }
        let Some(socket) = self.sockets.socket(relay, leg_of(side.other(), out)) else {
            return Some(loan);
        };
        match self.ring.forward(socket, to, group, loan) {
            Ok(()) => None,
            Err(loan) => {
                counters.bump(Counter::RtpSendFailed);
                Some(loan)
            }
        }
    }

    fn datagram(&mut self, now: Now, group: &Group, listener: u8, loan: &Loan) {
        let Some(datagram) = group.datagram(loan, SHAPE) else { return };
        let Some(from) = self.udp.source(listener, &datagram) else { return };
        let wait = arrival::wait(datagram.control, now.wall).max(self.late);
        self.core.waited(now.mono, wait);
        let bytes = datagram.payload;
        self.message(now, from, bytes, Input::Received { from, bytes });
    }

    /// What came over a flow: a piece of its stream, or ciphertext.
    fn piece(&mut self, now: Now, piece: &[u8], seat: Seat) {
        if !self.tcp.is_sealed(seat) {
            return self.stream(now, piece, seat);
        }
        let mut unsealed = std::mem::take(&mut self.unsealed);
        let counters = self.core.plain_counters();
        let over = self.tcp.unseal(&mut self.ring, now.mono, seat, piece, &mut unsealed, counters);
        if self.tcp.take_proved() {
            self.settle(now); // what comes over the flow may be the trunk's already
        }
        if !unsealed.is_empty() {
            self.stream(now, &unsealed, seat);
        }
        unsealed.clear();
        self.unsealed = unsealed;
        if over && let Some(Source { flow: Some(flow), .. }) = self.tcp.source(seat) {
            self.tcp.finish(&mut self.ring, now.mono, flow);
        }
        self.settle(now);
    }

    /// A piece of a stream: whole messages go to the core, the start of one is kept.
    fn stream(&mut self, now: Now, piece: &[u8], seat: Seat) {
        if self.tcp.is_web(seat) {
            return self.web(now, piece, seat);
        }
        let Some(from) = self.tcp.source(seat) else { return };
        let mut cutter = Cutter::new(self.tcp.take_partial(seat), piece);
        while let Some(cut) = cutter.next_cut() {
            self.tcp.heard(seat, now.mono);
            match cut {
                Cut::KeepAlive { ping } => {
                    let counters = self.core.plain_counters();
                    counters.bump(Counter::SipKeepAlives);
                    if self.tcp.is_pinged(seat, ping, now.mono) {
                        self.tcp.answer_ping(&mut self.ring, seat, counters);
                    }
                }
                Cut::Malformed(reason, left) => return self.refuse(now, &from, left, reason),
                Cut::Message(bytes) => {
                    self.core.waited(now.mono, self.late);
                    self.message(now, from, bytes, Input::Received { from, bytes });
                }
            }
            if self.tcp.source(seat).is_none() {
                return; // the core closed the flow
            }
        }
        let (rest, progress) = cutter.into_rest();
        self.tcp.keep_partial(seat, rest, progress, now.mono);
    }

    /// After this nobody knows where the next message starts: answer if one is due, then close.
    fn refuse(&mut self, now: Now, from: &Source, bytes: &[u8], reason: Malformed) {
        let counters = self.core.plain_counters();
        counters.bump(Counter::SipMalformed);
        counters.bump(Counter::FlowsCut);
        if let Some(answer) = answer_to(from, bytes, reason) {
            self.tcp.send(&mut self.ring, now.mono, from.back(), Rc::new(answer), counters);
        }
        if let Some(flow) = from.flow {
            self.tcp.finish(&mut self.ring, now.mono, flow);
        }
        self.settle(now);
    }

    /// A receive ended without an error of its socket: the kernel stopped it by itself, or the
    /// group ran out of buffers, which are back at the end of the turn.
    fn goes_on(&mut self, result: i32) -> bool {
        let overflow = result == -libc::ENOBUFS;
        if overflow {
            self.core.plain_counters().bump(Counter::ReceiveOverflows);
        }
        overflow || result >= 0
    }
}

/// The response to a request whose end cannot be found (RFC 3261 18.3), when it can be read so far.
fn answer_to(from: &Source, bytes: &[u8], reason: Malformed) -> Option<Vec<u8>> {
    let status = reason.status()?;
    let request = wire::scan(bytes).ok()?;
    if !request.is_request() || request.method() == Method::Ack {
        return None;
    }
    let mut answer = Vec::new();
    wire::reply(&mut answer, &request, status, None, from.peer).end();
    Some(answer)
}
