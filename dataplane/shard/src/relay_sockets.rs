//! The sockets of media relays: four per relay, RTP and RTCP towards each side.
//! Owns:  which socket belongs to which relay, side and component, and its receive request.
//! Gives: the socket that a packet leaves through, in O(1), by the token of the one it came through.
//! Never: decides what becomes of a packet; reads its payload.
//! Holds: a completion of a closed relay finds no seat: the generation in its token is older.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use media::edit::LocalPair;
use media::relay::Component;
use shared::ids::{RelayKey, Side};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::ring::buffers::Shape;
use crate::ring::token::{Seat, Token};
use crate::ring::{Full, GROUP_MEDIA, Ring};

/// Sockets per relay: side times two plus component.
const LEGS: usize = 4;

type Legs = [OwnedFd; LEGS];

#[derive(Debug, Default)]
pub(crate) struct RelaySockets {
    seats: Vec<RelaySeat>,
    /// Legs whose receive ended and must be asked for again.
    silent: Vec<(Seat, u8)>,
    /// The same after an error, which would come back at once: these wait for the next second.
    failed: Vec<(Seat, u8)>,
    /// Receives that could not be cancelled yet, with the socket that waits for it.
    closing: Vec<(Token, OwnedFd)>,
}

#[derive(Debug, Default)]
struct RelaySeat {
    generation: u32,
    legs: Option<Legs>,
}

/// Side and component of a leg number.
pub(crate) const fn leg_of(side: Side, component: Component) -> u8 {
    let component = match component {
        Component::Rtp => 0,
        Component::Rtcp => 1,
    };
    2 * side.index() as u8 + component
}

/// The reverse of `leg_of`.
pub(crate) const fn side_and_component(leg: u8) -> (Side, Component) {
    let side = if leg & 2 == 0 { Side::Caller } else { Side::Callee };
    let component = if leg & 1 == 0 { Component::Rtp } else { Component::Rtcp };
    (side, component)
}

impl RelaySockets {
    /// Binds the four ports and asks for what arrives there. All or none.
    ///
    /// A pair that is bound to the wildcard answers from the address that the kernel's route to the
    /// peer has; on a machine with several addresses give each pair its own.
    pub(crate) fn open(
        &mut self,
        ring: &mut Ring,
        relay: RelayKey,
        local: &[LocalPair; 2],
    ) -> io::Result<()> {
        let seat = Seat { index: relay.slot, generation: relay.generation };
        assert!(seat.index <= Seat::INDEX_MAX, "relay slots are dense and fit a token");
        let [caller, callee] = local;
        let legs = [
            bind(SocketAddr::new(caller.ip, caller.rtp_port))?,
            bind(SocketAddr::new(caller.ip, caller.rtcp_port()))?,
            bind(SocketAddr::new(callee.ip, callee.rtp_port))?,
            bind(SocketAddr::new(callee.ip, callee.rtcp_port()))?,
        ];
        let index = seat.index as usize;
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, RelaySeat::default);
        }
        let place = &mut self.seats[index];
        assert!(place.legs.is_none(), "a relay is closed before its slot opens again");
        *place = RelaySeat { generation: seat.generation, legs: Some(legs) };
        self.silent.extend((0..LEGS as u8).map(|leg| (seat, leg)));
        self.arm(ring);
        Ok(())
    }

    /// Frees the four ports. The kernel may hold a port until the cancel was submitted.
    pub(crate) fn close(&mut self, ring: &mut Ring, relay: RelayKey) -> bool {
        let seat = Seat { index: relay.slot, generation: relay.generation };
        let Some(place) = self.seats.get_mut(seat.index as usize) else { return false };
        if place.generation != seat.generation {
            return false;
        }
        let Some(legs) = place.legs.take() else { return false };
        for (leg, socket) in legs.into_iter().enumerate() {
            self.closing.push((Token::Media { relay: seat, leg: leg as u8 }, socket));
        }
        self.arm(ring);
        true
    }

    /// Retries what the ring had no room for.
    pub(crate) fn arm(&mut self, ring: &mut Ring) {
        while let Some((token, socket)) = self.closing.pop() {
            if ring.cancel(token) == Err(Full) {
                self.closing.push((token, socket));
                return;
            }
            ring.retire(socket);
        }
        while let Some((relay, leg)) = self.silent.pop() {
            let Some(socket) = self.socket(relay, leg) else { continue };
            let token = Token::Media { relay, leg };
            if ring.receive_datagrams(socket, Shape::Plain, GROUP_MEDIA, token) == Err(Full) {
                self.silent.push((relay, leg));
                return;
            }
        }
    }

    /// The receive of this leg ended, and may be asked for `again` at once or after a while.
    pub(crate) fn disarmed(&mut self, relay: Seat, leg: u8, again: bool) {
        if self.socket(relay, leg).is_some() {
            let list = if again { &mut self.silent } else { &mut self.failed };
            list.push((relay, leg));
        }
    }

    /// Gives legs whose receive failed another chance. Called once a second.
    pub(crate) fn arm_failed(&mut self) {
        self.silent.append(&mut self.failed);
    }

    /// The socket of a leg; `None` when the relay is closed, whoever has its seat now.
    pub(crate) fn socket(&self, relay: Seat, leg: u8) -> Option<BorrowedFd<'_>> {
        let place = self.seats.get(relay.index as usize)?;
        if place.generation != relay.generation {
            return None;
        }
        Some(place.legs.as_ref()?[usize::from(leg)].as_fd())
    }
}

fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

const _: () = assert!(leg_of(Side::Callee, Component::Rtcp) as usize == LEGS - 1);

#[cfg(test)]
mod tests;
