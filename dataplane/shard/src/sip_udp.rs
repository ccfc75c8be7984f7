//! SIP over UDP: datagrams in with the address they came to, datagrams out from the right socket.
//! Owns:  the UDP listeners of the shard and the queue of datagrams that wait for the ring.
//! Gives: `Source` of a received datagram; failures of sent ones as the `Destination` they were for.
//! Never: looks inside a message; sends from a socket whose family or port does not fit.
//! Holds: datagrams leave in the order they were given.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;

use shared::net::{Destination, Source, Transport};

use crate::listeners::Listener;
use crate::pktinfo;
use crate::ring::buffers::{Datagram, Shape};
use crate::ring::token::{Seat, Token};
use crate::ring::{Full, GROUP_DATAGRAMS, Ring};

/// Datagrams that wait for the ring: what ending every call of a full shard at once may produce.
const QUEUE_MAX: usize = 65_536;
/// Datagrams whose failure can still be told to somebody: more than one submission holds.
const RECENT: usize = 2_048;

#[derive(Debug)]
pub(crate) struct SipUdp {
    listeners: Vec<Listener>,
    /// Listeners whose receive ended and must be asked for again.
    silent: Vec<u8>,
    /// The same after an error, which would come back at once: these wait for the next second.
    failed: Vec<u8>,
    queue: VecDeque<(Destination, Rc<Vec<u8>>)>,
    /// By sequence number of the send, modulo `RECENT`.
    recent: Vec<Option<Destination>>,
    sent: u32,
}

impl SipUdp {
    pub(crate) fn new(listeners: Vec<Listener>) -> Self {
        let silent = (0..listeners.len()).map(|index| index as u8).collect();
        Self {
            listeners,
            silent,
            failed: Vec::new(),
            queue: VecDeque::new(),
            recent: vec![None; RECENT],
            sent: 0,
        }
    }

    /// Asks for datagrams on every listener that is silent.
    pub(crate) fn arm(&mut self, ring: &mut Ring) {
        while let Some(listener) = self.silent.pop() {
            let socket = &self.listeners[usize::from(listener)].socket;
            let shape = self.shape(listener);
            let token = Token::Datagram { listener };
            if ring.receive_datagrams(socket.as_fd(), shape, GROUP_DATAGRAMS, token) == Err(Full) {
                self.silent.push(listener);
                return;
            }
        }
    }

    /// The receive of this listener ended, and may be asked for `again` at once or after a while.
    pub(crate) fn disarmed(&mut self, listener: u8, again: bool) {
        let list = if again { &mut self.silent } else { &mut self.failed };
        list.push(listener);
    }

    /// Gives listeners whose receive failed another chance. Called once a second.
    pub(crate) fn arm_failed(&mut self) {
        self.silent.append(&mut self.failed);
    }

    /// A wildcard listener is told which address each datagram came to.
    pub(crate) fn shape(&self, listener: u8) -> Shape {
        match self.listeners.get(usize::from(listener)) {
            Some(listener) if listener.local.ip().is_unspecified() => Shape::WithControl,
            _ => Shape::Plain,
        }
    }

    pub(crate) fn source(&self, listener: u8, datagram: &Datagram<'_>) -> Source {
        let bound = self.listeners[usize::from(listener)].local;
        let local = match pktinfo::read_local(datagram.control) {
            Some(ip) => SocketAddr::new(ip, bound.port()),
            None => bound,
        };
        Source { transport: Transport::Udp, local, peer: datagram.from, flow: None }
    }

    /// Queues one datagram. It comes back when no listener can send it or the queue is full.
    pub(crate) fn send(
        &mut self,
        to: Destination,
        bytes: Rc<Vec<u8>>,
    ) -> Result<(), (Destination, Rc<Vec<u8>>)> {
        if self.queue.len() >= QUEUE_MAX || self.listener_for(&to).is_none() {
            return Err((to, bytes));
        }
        self.queue.push_back((to, bytes));
        Ok(())
    }

    /// Moves what waits into the ring, as far as there is room.
    pub(crate) fn submit(&mut self, ring: &mut Ring) {
        while let Some((to, bytes)) = self.queue.pop_front() {
            let at = self.listener_for(&to).expect("it was there when the datagram was queued");
            let listener = &self.listeners[at];
            let own = to.local.ip();
            let several = listener.local.ip().is_unspecified() && !own.is_unspecified();
            let seat = Seat { index: self.sent % RECENT as u32, generation: self.sent };
            let outcome = ring.send_datagram(
                listener.socket.as_fd(),
                to.peer,
                several.then_some(own),
                bytes,
                Token::DatagramSend(seat),
            );
            if let Err(bytes) = outcome {
                self.queue.push_front((to, bytes));
                return;
            }
            self.recent[seat.index as usize] = Some(to);
            self.sent = self.sent.wrapping_add(1);
        }
    }

    /// A send failed: whose it was, unless that is too long ago to be known.
    pub(crate) fn undelivered(&mut self, seat: Seat) -> Option<Destination> {
        let age = self.sent.wrapping_sub(seat.generation);
        if age == 0 || age > RECENT as u32 {
            return None;
        }
        self.recent[seat.index as usize].take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The listener bound to exactly that address, else the wildcard of the family and port, else
    /// any of the family: what leaves through it is at least answered to a port of ours (RFC 3581).
    fn listener_for(&self, to: &Destination) -> Option<usize> {
        let family = |l: &Listener| l.local.is_ipv4() == to.peer.is_ipv4();
        let exact = self.listeners.iter().position(|l| l.local == to.local && family(l));
        let wild = || {
            self.listeners.iter().position(|l| {
                family(l) && l.local.ip().is_unspecified() && l.local.port() == to.local.port()
            })
        };
        exact.or_else(wild).or_else(|| self.listeners.iter().position(family))
    }
}
