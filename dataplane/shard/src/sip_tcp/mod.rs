//! SIP over TCP, TLS and WebSocket: the flows of this shard, accepted and opened, by seat, by peer and by source.
//! Owns:  listeners, the flow table, its limits, keep-alive answers, connect on demand.
//! Gives: `Source` of what a flow delivers; `News` about flows that ended and messages that failed.
//! Never: looks inside a message; a second connection to a peer that has one.
//! Holds: a flow is told to be closed exactly once, and its seat is reused only after the ring let go.

mod connect;
pub(crate) mod cutter;
mod flow;
mod handshake;
mod known;
mod names;
mod sealed;
mod send_queue;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;
mod web;
pub(crate) mod web_flow;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use call::io::HandshakeFailure;
use rustc_hash::FxHashMap;
use rustls::pki_types::ServerName;
use shared::ids::{CertificateId, FlowKey, ShardId};
use shared::limits;
use shared::metrics::{Counter, Counters};
use shared::net::{Destination, Source, Transport};
use shared::time::Instant;
use socket2::SockRef;

use crate::keys::Keys;
use crate::listeners::{Listener, Listeners};
use crate::ring::token::{Seat, Token};
use crate::ring::{Full, Ring};
use flow::{DRAIN_WAIT, Flow, Overdue, State, Way};
use handshake::{Flaw, Why};
use known::{Known, source_of};
use sealed::Hellos;
use send_queue::Piece;
use tls::Tls;

/// What the core must hear about flows.
#[derive(Debug)]
pub(crate) enum News {
    Closed(FlowKey),
    Failed(Destination),
    HandshakeFailed(Box<HandshakeFailure>),
    /// Who opened a flow has shown a certificate that stands for these names.
    Proved {
        from: Source,
        names: Vec<Box<str>>,
    },
    /// Bytes that went out: their buffer may be used again.
    Sent(Rc<Vec<u8>>),
}

#[derive(Debug)]
pub(crate) struct SipTcp {
    shard: ShardId,
    listeners: Vec<Listener>,
    /// What TLS flows are made with; without it there are none.
    keys: Option<Arc<Keys>>,
    /// Listeners whose accept ended and must be asked for again.
    deaf: Vec<u8>,
    seats: Vec<FlowSeat>,
    free: Vec<u32>,
    open: usize,
    /// Whom the certificate of a server is for, by its address and by what it is shown.
    names: FxHashMap<(SocketAddr, Option<CertificateId>), ServerName<'static>>,
    /// A flow has proved a name, and the core is still to hear of it.
    has_proved: bool,
    by_peer: FxHashMap<Way, u32>,
    per_source: FxHashMap<IpAddr, usize>,
    known: Known,
    hellos: Hellos,
    /// Handshakes that each source has begun since the last sweep.
    hellos_of: FxHashMap<IpAddr, u32>,
    /// Flows for which the ring had no room: something of theirs must be asked for again.
    stalled: Vec<Seat>,
    news: VecDeque<News>,
    /// The path that WebSocket clients have to ask for.
    path: Rc<str>,
    /// CRLF, the answer to a keep-alive (RFC 5626 3.5.1).
    pong: Rc<Vec<u8>>,
}

#[derive(Debug, Default)]
struct FlowSeat {
    generation: u32,
    flow: Option<Box<Flow>>,
}

impl SipTcp {
    pub(crate) fn new(shard: ShardId, listeners: Listeners, keys: Option<Arc<Keys>>) -> Self {
        let Listeners { udp: _, tcp, tls, ws, wss } = listeners;
        let listeners: Vec<Listener> = [tcp, tls, ws, wss].into_iter().flatten().collect();
        Self {
            shard,
            deaf: (0..listeners.len()).map(|index| index as u8).collect(),
            listeners,
            keys,
            seats: Vec::new(),
            free: Vec::new(),
            open: 0,
            names: FxHashMap::default(),
            has_proved: false,
            by_peer: FxHashMap::default(),
            per_source: FxHashMap::default(),
            known: Known::default(),
            hellos: Hellos::new(Instant::ZERO),
            hellos_of: FxHashMap::default(),
            stalled: Vec::new(),
            news: VecDeque::new(),
            path: "/".into(),
            pong: Rc::new(b"\r\n".to_vec()),
        }
    }

    /// Asks again for what the ring had no room for, or what ended by itself.
    pub(crate) fn arm(&mut self, ring: &mut Ring) {
        for seat in std::mem::take(&mut self.stalled) {
            self.pump(ring, seat);
        }
    }

    /// Listens again where that ended: once a second, since it ends for want of descriptors.
    pub(crate) fn listen(&mut self, ring: &mut Ring) {
        self.deaf.retain(|listener| {
            let Some(Listener { socket, .. }) = self.listeners.get(usize::from(*listener)) else {
                return false; // it was closed
            };
            ring.accept(socket.as_fd(), Token::Accept { listener: *listener }) == Err(Full)
        });
    }

    /// The accept of this listener ended.
    pub(crate) fn deafened(&mut self, listener: u8) {
        if !self.deaf.contains(&listener) {
            self.deaf.push(listener);
        }
    }

    /// Takes a connection in, or closes it when one more is too many.
    pub(crate) fn accepted(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        (listener, socket): (u8, OwnedFd),
        counters: &mut Counters,
    ) {
        let Some(listener) = self.listeners.get(usize::from(listener)) else {
            return; // it was closed
        };
        let transport = listener.transport;
        let view = SockRef::from(&socket);
        let addresses = (view.local_addr().ok(), view.peer_addr().ok());
        let (Some(local), Some(peer)) =
            (addresses.0.and_then(|a| a.as_socket()), addresses.1.and_then(|a| a.as_socket()))
        else {
            return; // it was reset before we looked
        };
        let source = source_of(peer.ip());
        let of_source = self.per_source.get(&source).copied().unwrap_or(0);
        if self.open >= limits::FLOWS_PER_SHARD_MAX || self.holds_too_many(peer.ip(), of_source) {
            return counters.bump(Counter::FlowsRefused);
        }
        // A small message must not wait for the acknowledgement of the one before (RFC 9293 3.7.4).
        if view.set_tcp_nodelay(true).is_err() {
            return counters.bump(Counter::FlowsRefused); // the connection is already dead
        }
        let mut flow = Flow::new(socket, local, peer, State::Open, now);
        if matches!(transport, Transport::Tls | Transport::Wss) {
            let tls = self.keys.as_ref().map(|keys| {
                let is_web = transport == Transport::Wss;
                Tls::accept(Arc::clone(if is_web { &keys.web } else { &keys.server }))
            });
            let Some(Ok(tls)) = tls else { return counters.bump(Counter::FlowsRefused) };
            flow.secure(tls, now);
        }
        if matches!(transport, Transport::Ws | Transport::Wss) {
            flow.await_upgrade(now);
        }
        flow.counted = true;
        *self.per_source.entry(source).or_default() += 1;
        let seat = self.seat(flow);
        self.pump(ring, seat);
    }

    /// Where a flow's messages come from; `None` when the flow no longer listens.
    pub(crate) fn source(&self, seat: Seat) -> Option<Source> {
        let flow = self.flow(seat)?;
        (flow.state == State::Open).then(|| Source {
            transport: flow.transport,
            local: flow.local,
            peer: flow.peer,
            flow: Some(self.key(seat)),
        })
    }

    /// The start of the message that the next bytes go on with.
    pub(crate) fn take_partial(&mut self, seat: Seat) -> Vec<u8> {
        self.flow_mut(seat).map(|flow| std::mem::take(&mut flow.partial)).unwrap_or_default()
    }

    pub(crate) fn keep_partial(&mut self, seat: Seat, rest: Vec<u8>, progress: bool, now: Instant) {
        if let Some(flow) = self.flow_mut(seat) {
            flow.keep_partial(rest, progress, now);
        }
    }

    /// A whole message or a keep-alive came.
    pub(crate) fn heard(&mut self, seat: Seat, now: Instant) {
        if let Some(flow) = self.flow_mut(seat) {
            flow.heard = now;
        }
    }

    /// Whether this keep-alive wants an answer: it is a ping, or the second half of one.
    pub(crate) fn is_pinged(&mut self, seat: Seat, ping: bool, now: Instant) -> bool {
        self.flow_mut(seat).is_some_and(|flow| flow.is_pinged(ping, now))
    }

    /// Answers CRLFCRLF with CRLF (RFC 5626 4.4.1).
    pub(crate) fn answer_ping(&mut self, ring: &mut Ring, seat: Seat, counters: &mut Counters) {
        let piece = Piece { bytes: Rc::clone(&self.pong), to: None };
        self.queue(ring, seat, piece, counters);
    }

    /// Sends one message over its flow, or over the flow to that peer, opening one if need be.
    pub(crate) fn send(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        to: Destination,
        bytes: Rc<Vec<u8>>,
        counters: &mut Counters,
    ) {
        let seat = match to.flow {
            Some(key) => self.seat_of(key),
            None => match self.by_peer.get(&Way::of(&to)) {
                Some(index) => Some(self.seat_at(*index)),
                None => self.connect(ring, now, &to),
            },
        };
        match seat {
            Some(seat) => self.queue(ring, seat, Piece { bytes, to: Some(to) }, counters),
            None => self.news.push_back(News::Failed(to)),
        }
    }

    /// Reads no more, sends what is queued, then closes.
    pub(crate) fn finish(&mut self, ring: &mut Ring, now: Instant, key: FlowKey) {
        let Some(seat) = self.seat_of(key) else { return };
        let Some(flow) = self.flow_mut(seat) else { return };
        if flow.state == State::Open {
            flow.say_goodbye();
        }
        match flow.state {
            State::Open if !flow.queue.is_empty() => {
                flow.state = State::Draining { give_up_at: now + DRAIN_WAIT };
                // Over TLS it takes no message any more: the next one opens another flow.
                let way = flow.tls.is_some().then(|| flow.way());
                if let Some(way) = way
                    && self.by_peer.get(&way) == Some(&seat.index)
                {
                    self.by_peer.remove(&way);
                }
                self.pump(ring, seat);
            }
            State::Open | State::Connecting { .. } => self.end(ring, seat),
            State::Draining { .. } | State::Closed => {}
        }
    }

    /// The connect request of a flow ended.
    pub(crate) fn connected(&mut self, ring: &mut Ring, now: Instant, seat: Seat, result: i32) {
        let Some(flow) = self.flow_mut(seat) else { return };
        flow.connecting = false;
        if flow.state == State::Closed {
            return self.leave(ring, seat);
        }
        if result < 0 {
            return self.end(ring, seat);
        }
        flow.state = State::Open;
        flow.heard = now;
        if let Some(local) =
            SockRef::from(&flow.socket).local_addr().ok().and_then(|a| a.as_socket())
        {
            flow.local = local;
        }
        flow.begin_handshake(now);
        self.pump(ring, seat);
    }

    /// The receive request of a flow ended: with the flow when `alive` is false.
    pub(crate) fn disarmed(
        &mut self,
        ring: &mut Ring,
        seat: Seat,
        alive: bool,
        counters: &mut Counters,
    ) {
        let Some(flow) = self.flow_mut(seat) else { return };
        flow.receiving = false;
        match flow.state {
            State::Closed => self.leave(ring, seat),
            State::Open if alive => self.stalled.push(seat),
            State::Draining { .. } if alive => {}
            // A peer that closed its side may still read, but in SIP it waits for nothing.
            state => {
                if state == State::Open && flow.is_amid_handshake() {
                    let flaw = Flaw::new(Why::Closed, "the connection ended");
                    self.handshake_failed(seat, flaw, counters);
                }
                self.end(ring, seat);
            }
        }
    }

    /// A send request of a flow ended.
    pub(crate) fn sent(&mut self, ring: &mut Ring, seat: Seat, result: i32) {
        let Some(flow) = self.flow_mut(seat) else { return };
        flow.sending = false;
        if flow.state == State::Closed {
            return self.leave(ring, seat);
        }
        let Ok(count) = usize::try_from(result) else { return self.end(ring, seat) };
        let done = flow.queue.advance(count);
        let over = matches!(flow.state, State::Draining { .. }) && flow.queue.is_empty();
        if let Some(piece) = done
            && piece.to.is_some()
        {
            self.news.push_back(News::Sent(piece.bytes));
        }
        if over { self.end(ring, seat) } else { self.pump(ring, seat) }
    }

    /// Cuts what is overdue. Called once a second.
    pub(crate) fn sweep(&mut self, ring: &mut Ring, now: Instant, counters: &mut Counters) {
        self.hellos_of.clear();
        for index in 0..self.seats.len() as u32 {
            let seat = self.seat_at(index);
            match self.flow(seat).and_then(|flow| flow.overdue(now)) {
                Some(Overdue::Handshake) => {
                    let flaw = Flaw::new(Why::TimedOut, "it did not end within its time");
                    self.handshake_failed(seat, flaw, counters);
                    counters.bump(Counter::FlowsCut);
                    self.end(ring, seat);
                }
                Some(Overdue::Upgrade) => {
                    counters.bump(Counter::WsHandshakesFailed);
                    counters.bump(Counter::FlowsCut);
                    self.end(ring, seat);
                }
                Some(Overdue::Cut) => {
                    counters.bump(Counter::FlowsCut);
                    self.end(ring, seat);
                }
                Some(Overdue::Connect) => self.end(ring, seat),
                None => self.ping(ring, seat, now, counters),
            }
        }
    }

    /// Lets go of every port and ends every flow.
    pub(crate) fn close(&mut self, ring: &mut Ring) {
        self.deaf.clear();
        for (index, listener) in self.listeners.drain(..).enumerate() {
            // Without room for it the port stays taken until the ring is gone.
            ring.cancel(Token::Accept { listener: index as u8 }).unwrap_or_default();
            ring.retire(listener.socket.into());
        }
        for index in 0..self.seats.len() as u32 {
            self.end(ring, self.seat_at(index));
        }
    }

    pub(crate) fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    pub(crate) const fn open_count(&self) -> usize {
        self.open
    }

    /// Nothing waits to be sent.
    pub(crate) fn is_flushed(&self) -> bool {
        let waits = |seat: &FlowSeat| seat.flow.as_ref().is_some_and(|flow| flow.has_waiting());
        !self.seats.iter().any(waits)
    }

    fn queue(&mut self, ring: &mut Ring, seat: Seat, piece: Piece, counters: &mut Counters) {
        let Some(flow) = self.flow_mut(seat).filter(|flow| flow.takes_messages()) else {
            return self.news.extend(piece.to.map(News::Failed));
        };
        match flow.push(piece) {
            Ok(done) => {
                self.news.extend(done.map(News::Sent));
                self.pump(ring, seat);
            }
            Err(piece) => {
                self.news.extend(piece.to.map(News::Failed));
                counters.bump(Counter::FlowsCut);
                self.end(ring, seat);
            }
        }
    }

    /// Asks the ring for whatever the flow should have there and has not.
    fn pump(&mut self, ring: &mut Ring, seat: Seat) {
        let Some(flow) = self.flow_mut(seat) else { return };
        let mut stalled = false;
        if flow.state == State::Open && !flow.receiving {
            let outcome = ring.receive_stream(flow.socket.as_fd(), Token::FlowReceive(seat));
            flow.receiving = outcome.is_ok();
            stalled |= outcome.is_err();
        }
        let may_send = matches!(flow.state, State::Open | State::Draining { .. });
        if let Some((bytes, start)) = flow.queue.front()
            && may_send
            && !flow.sending
        {
            let token = Token::FlowSend(seat);
            let outcome = ring.send_stream(flow.socket.as_fd(), bytes, start, token);
            flow.sending = outcome.is_ok();
            stalled |= outcome.is_err();
        }
        if stalled {
            self.stalled.push(seat);
        }
    }

    /// The flow is over for everybody but the ring.
    fn end(&mut self, ring: &mut Ring, seat: Seat) {
        let Some(flow) = self.flow_mut(seat) else { return };
        if flow.state == State::Closed {
            return;
        }
        flow.state = State::Closed;
        flow.partial = Vec::new();
        let (way, counted, lost) = (flow.way(), flow.counted, flow.lost());
        let unsent = flow.take_unsent();
        // An error means that the peer was first.
        SockRef::from(&flow.socket).shutdown(std::net::Shutdown::Both).unwrap_or_default();
        if self.by_peer.get(&way) == Some(&seat.index) {
            self.by_peer.remove(&way);
        }
        let source = source_of(way.peer.ip());
        if counted && let Some(count) = self.per_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
        self.open -= 1;
        let unsent = unsent.into_iter().filter_map(|piece| piece.to);
        self.news.extend(unsent.chain(lost).map(News::Failed));
        self.news.push_back(News::Closed(self.key(seat)));
        self.leave(ring, seat);
    }

    /// Frees the seat of a closed flow once the ring has nothing of it; until then asks the ring to
    /// let go. A cancel for which there is no room is made up for by the shutdown.
    fn leave(&mut self, ring: &mut Ring, seat: Seat) {
        let Some(flow) = self.flow_mut(seat) else { return };
        let under_way = [
            (flow.connecting, Token::Connect(seat)),
            (flow.receiving, Token::FlowReceive(seat)),
            (flow.sending, Token::FlowSend(seat)),
        ];
        if flow.is_in_kernel() {
            for (_, token) in under_way.iter().filter(|(under_way, _)| *under_way) {
                ring.cancel(*token).unwrap_or_default();
            }
            return;
        }
        let place = &mut self.seats[seat.index as usize];
        let flow = place.flow.take().expect("looked at above");
        place.generation = place.generation.wrapping_add(1);
        self.free.push(seat.index);
        ring.retire(flow.socket);
    }

    fn seat(&mut self, flow: Flow) -> Seat {
        let way = flow.way();
        let index = self.free.pop().unwrap_or_else(|| {
            self.seats.push(FlowSeat::default());
            self.seats.len() as u32 - 1
        });
        // Who connected to us over TLS has proved nothing, and a WebSocket client listens nowhere: only
        // its own flow leads there.
        if !(flow.counted && flow.tls.is_some()) && flow.web.is_none() {
            self.by_peer.insert(way, index);
        }
        self.seats[index as usize].flow = Some(Box::new(flow));
        self.open += 1;
        self.seat_at(index)
    }

    fn seat_at(&self, index: u32) -> Seat {
        Seat { index, generation: self.seats[index as usize].generation }
    }

    fn seat_of(&self, key: FlowKey) -> Option<Seat> {
        let seat = Seat { index: key.slot, generation: key.generation };
        (key.shard == self.shard && self.flow(seat).is_some()).then_some(seat)
    }

    const fn key(&self, seat: Seat) -> FlowKey {
        FlowKey { shard: self.shard, slot: seat.index, generation: seat.generation }
    }

    fn flow(&self, seat: Seat) -> Option<&Flow> {
        let place = self.seats.get(seat.index as usize)?;
        if place.generation == seat.generation { place.flow.as_deref() } else { None }
    }

    fn flow_mut(&mut self, seat: Seat) -> Option<&mut Flow> {
        let place = self.seats.get_mut(seat.index as usize)?;
        if place.generation == seat.generation { place.flow.as_deref_mut() } else { None }
    }
}

const _: () = assert!(limits::FLOWS_PER_SHARD_MAX < Seat::INDEX_MAX as usize);
