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

/// Every datagram says when it arrived, and on a wildcard listener which address it came to.
pub(crate) const SHAPE: Shape = Shape::WithControl;

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
            let Some(Listener { socket, .. }) = self.listeners.get(usize::from(listener)) else {
                continue; // it was closed
            };
            let token = Token::Datagram { listener };
            if ring.receive_datagrams(socket.as_fd(), SHAPE, GROUP_DATAGRAMS, token) == Err(Full) {
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

    /// Where a datagram came from; `None` when its listener was closed meanwhile.
    pub(crate) fn source(&self, listener: u8, datagram: &Datagram<'_>) -> Option<Source> {
        let bound = self.listeners.get(usize::from(listener))?.local;
        let local = match pktinfo::read_local(datagram.control) {
            Some(ip) => SocketAddr::new(ip, bound.port()),
            None => bound,
        };
        Some(Source { transport: Transport::Udp, local, peer: datagram.from, flow: None })
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

    /// Lets go of every port.
    pub(crate) fn close(&mut self, ring: &mut Ring) {
        self.queue.clear();
        for (index, listener) in self.listeners.drain(..).enumerate() {
            // Without room for it the port stays taken until the ring is gone.
            ring.cancel(Token::Datagram { listener: index as u8 }).unwrap_or_default();
            ring.retire(listener.socket.into());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listeners;
    use shared::ids::{FlowKey, ShardId};

    fn udp(addresses: &[&str]) -> SipUdp {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|text| text.parse().expect("an address")).collect();
        let mut all =
            listeners::open(listeners::Addresses { udp: &addresses, ..Default::default() }, 1)
                .expect("free ports");
        SipUdp::new(all.remove(0).udp)
    }

    fn to(local: SocketAddr, peer: &str) -> Destination {
        let peer = peer.parse().expect("an address");
        Destination { transport: Transport::Udp, local, peer, flow: None, shows: None }
    }

    #[test]
    fn an_answer_leaves_through_the_listener_that_was_asked() {
        let udp = udp(&["127.0.0.1:0", "127.0.0.2:0"]);
        for (index, listener) in udp.listeners.iter().enumerate() {
            let found = udp.listener_for(&to(listener.local, "192.0.2.1:5060"));
            assert_eq!(found, Some(index));
        }
    }

    #[test]
    fn an_address_of_a_wildcard_listener_leads_to_it_by_its_port() {
        let udp = udp(&["127.0.0.1:0", "0.0.0.0:0"]);
        let port = udp.listeners[1].local.port();
        let local = SocketAddr::from(([127, 0, 0, 9], port));
        assert_eq!(udp.listener_for(&to(local, "192.0.2.1:5060")), Some(1));
    }

    #[test]
    fn a_peer_of_another_family_has_no_listener() {
        let mut udp = udp(&["127.0.0.1:0"]);
        let local = udp.listeners[0].local;
        let six = to(local, "[2001:db8::1]:5060");
        let bytes = Rc::new(b"OPTIONS".to_vec());
        assert_eq!(udp.send(six, Rc::clone(&bytes)), Err((six, bytes)));
        assert!(udp.is_empty());
    }

    #[test]
    fn a_failure_is_told_for_recent_sends_only_and_once() {
        let mut udp = udp(&["127.0.0.1:0"]);
        let local = udp.listeners[0].local;
        for number in 0..RECENT as u32 + 10 {
            let flow = FlowKey { shard: ShardId(0), slot: number, generation: 0 };
            let mut marked = to(local, "192.0.2.1:5060");
            marked.flow = Some(flow);
            udp.recent[number as usize % RECENT] = Some(marked);
            udp.sent += 1;
        }
        let seat = |number: u32| Seat { index: number % RECENT as u32, generation: number };
        assert_eq!(udp.undelivered(seat(9)), None, "its place has a newer tenant");
        let newest = udp.undelivered(seat(2_057)).expect("recent");
        assert_eq!(newest.flow.map(|flow| flow.slot), Some(2_057));
        assert_eq!(udp.undelivered(seat(2_057)), None);
        assert_eq!(udp.undelivered(seat(9_999)), None, "it was never sent");
    }
}
