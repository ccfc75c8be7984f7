//! One flow of a stream transport: its socket, what it is doing, what of a message has come, what waits to go.
//! Owns:  the state of one connection and which requests of it the ring still has.
//! Gives: when it has been quiet, or unfinished, for too long.
//! Never: talks to the ring; the table does.
//! Holds: the socket stays open until the ring has no request on it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use shared::ids::CertificateId;
use shared::net::{Destination, Transport};
use shared::time::Instant;

use super::send_queue::SendQueue;
use super::tls::Tls;
use super::web::Web;

/// A message whose first byte came this long ago must be whole (slow-header attacks).
pub(super) const MESSAGE_WAIT: Duration = Duration::from_secs(10);
/// Without a message or a keep-alive for this long nobody is there (RFC 5626 4.4.1 pings each 95 to
/// 120 s).
pub(super) const IDLE_WAIT: Duration = Duration::from_secs(600);
/// A connection of ours must be up by then.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// From the connection to the end of its TLS handshake: some round trips and a signature.
pub(super) const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);
/// The halves of a ping that was cut in two come one right behind the other; CRLFs that a phone sends to
/// hold its NAT open are many seconds apart and want no answer.
const HALF_PING_WAIT: Duration = Duration::from_secs(2);
/// What is queued when a flow shall end may still go out for this long.
pub(super) const DRAIN_WAIT: Duration = Duration::from_secs(2);

/// What makes two messages go over the same flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Way {
    pub(super) transport: Transport,
    pub(super) peer: SocketAddr,
    /// Who shows another certificate is somebody else.
    pub(super) shows: Option<CertificateId>,
}

impl Way {
    pub(super) const fn of(to: &Destination) -> Self {
        Self { transport: to.transport, peer: to.peer, shows: to.shows }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting {
        give_up_at: Instant,
    },
    Open,
    /// Nothing is read any more; the queue may empty.
    Draining {
        give_up_at: Instant,
    },
    /// Waits only for the ring to be done with the socket.
    Closed,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) socket: OwnedFd,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) transport: Transport,
    /// The certificate of ours that the peer gets if it asks.
    pub(super) shows: Option<CertificateId>,
    /// Of a TLS flow; what its queue has is ciphertext.
    pub(super) tls: Option<Box<Tls>>,
    /// Of a WebSocket flow; what its queue has is frames, and those encrypted where there is TLS too.
    pub(super) web: Option<Box<Web>>,
    /// When a client that has not asked for a WebSocket is given up.
    pub(super) upgrade_by: Option<Instant>,
    /// When a TLS handshake that goes on is given up.
    pub(super) handshake_by: Option<Instant>,
    pub(super) state: State,
    pub(super) queue: SendQueue,
    /// The start of a message whose end has not come.
    pub(super) partial: Vec<u8>,
    pub(super) partial_since: Option<Instant>,
    /// A CRLF came, which may be the first half of a ping.
    half_ping: Option<Instant>,
    /// When a whole message or a keep-alive last came, or the flow began.
    pub(super) heard: Instant,
    /// Requests that the ring has.
    pub(super) connecting: bool,
    pub(super) receiving: bool,
    pub(super) sending: bool,
    /// Counted against the limit of its source address.
    pub(super) counted: bool,
    /// Its handshake has begun.
    pub(super) greeted: bool,
    /// Of a TLS flow that we opened: a message has gone over it.
    pub(super) asked: bool,
    /// And something has come back.
    pub(super) answered: bool,
}

/// Why a flow has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The connection never came up.
    Connect,
    /// The TLS handshake did not end.
    Handshake,
    /// Nobody asked for a WebSocket, or not to the end.
    Upgrade,
    /// The end of a message, or of a drain, did not come; or nothing came for long.
    Cut,
}

impl Flow {
    pub(super) fn new(
        socket: OwnedFd,
        local: SocketAddr,
        peer: SocketAddr,
        state: State,
        now: Instant,
    ) -> Self {
        Self {
            socket,
            local,
            peer,
            transport: Transport::Tcp,
            shows: None,
            tls: None,
            web: None,
            upgrade_by: None,
            handshake_by: None,
            state,
            queue: SendQueue::default(),
            partial: Vec::new(),
            partial_since: None,
            half_ping: None,
            heard: now,
            connecting: false,
            receiving: false,
            sending: false,
            counted: false,
            greeted: false,
            asked: false,
            answered: false,
        }
    }

    /// Makes a TLS flow of it; the handshake begins when the connection is there.
    pub(super) fn secure(&mut self, tls: Tls, now: Instant) {
        self.transport = Transport::Tls;
        self.tls = Some(Box::new(tls));
        self.handshake_by = Some(now + HANDSHAKE_WAIT);
    }

    pub(super) const fn way(&self) -> Way {
        Way { transport: self.transport, peer: self.peer, shows: self.shows }
    }

    /// With TLS 1.3 a server looks at our certificate when for us the handshake is over, so that its
    /// refusal comes behind messages that have left: nobody has read them.
    pub(super) const fn is_unanswered(&self) -> bool {
        self.asked && !self.answered
    }

    /// Where the messages went that nobody has read.
    pub(super) fn lost(&self) -> Option<Destination> {
        let Way { transport, peer, shows } = self.way();
        let to = Destination { transport, local: self.local, peer, flow: None, shows };
        self.is_unanswered().then_some(to)
    }

    /// Whether the ring still has a request on the socket.
    pub(super) const fn is_in_kernel(&self) -> bool {
        self.connecting || self.receiving || self.sending
    }

    pub(super) fn overdue(&self, now: Instant) -> Option<Overdue> {
        match self.state {
            State::Connecting { give_up_at } => (now >= give_up_at).then_some(Overdue::Connect),
            State::Draining { give_up_at } => (now >= give_up_at).then_some(Overdue::Cut),
            State::Closed => None,
            State::Open if self.handshake_by.is_some_and(|by| now >= by) => {
                Some(Overdue::Handshake)
            }
            State::Open if self.upgrade_by.is_some_and(|by| now >= by) => Some(Overdue::Upgrade),
            State::Open => {
                let unfinished =
                    self.partial_since.is_some_and(|since| now.since(since) >= MESSAGE_WAIT);
                let idle = now.since(self.heard) >= IDLE_WAIT;
                (unfinished || idle).then_some(Overdue::Cut)
            }
        }
    }

    /// Whether a keep-alive wants an answer; `ping` says that it is CRLFCRLF in one piece.
    pub(super) fn is_pinged(&mut self, ping: bool, now: Instant) -> bool {
        let first = self.half_ping.take().filter(|at| now.since(*at) < HALF_PING_WAIT);
        if !ping && first.is_none() {
            self.half_ping = Some(now);
        }
        ping || first.is_some()
    }

    /// Keeps what came of an unfinished message; `progress` says that a message ended before it.
    pub(super) fn keep_partial(&mut self, rest: Vec<u8>, progress: bool, now: Instant) {
        self.partial_since = match (rest.is_empty(), progress, self.partial_since) {
            (true, _, _) => None,
            (false, false, Some(since)) => Some(since),
            (false, _, _) => Some(now),
        };
        self.partial = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn flow(state: State) -> Flow {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let local = listener.local_addr().expect("bound");
        Flow::new(listener.into(), local, local, state, Instant::ZERO)
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_started_message_has_ten_seconds_however_slowly_it_drips() {
        let mut flow = flow(State::Open);
        flow.keep_partial(b"INV".to_vec(), false, at(1));
        flow.keep_partial(b"INVI".to_vec(), false, at(9));
        assert_eq!(flow.overdue(at(10)), None);
        assert_eq!(flow.overdue(at(11)), Some(Overdue::Cut));
    }

    #[test]
    fn the_next_message_has_its_own_ten_seconds() {
        let mut flow = flow(State::Open);
        flow.keep_partial(b"INV".to_vec(), false, at(1));
        flow.keep_partial(b"BY".to_vec(), true, at(9));
        assert_eq!(flow.overdue(at(18)), None);
        flow.keep_partial(Vec::new(), true, at(18));
        assert_eq!(flow.overdue(at(500)), None);
    }

    #[test]
    fn an_idle_flow_is_cut_after_ten_minutes_unless_it_was_heard() {
        let mut flow = flow(State::Open);
        assert_eq!(flow.overdue(at(599)), None);
        assert_eq!(flow.overdue(at(600)), Some(Overdue::Cut));
        flow.heard = at(599);
        assert_eq!(flow.overdue(at(1_198)), None);
    }

    #[test]
    fn a_handshake_has_five_seconds_and_then_does_not_count_any_more() {
        let mut flow = flow(State::Open);
        flow.handshake_by = Some(at(5));
        assert_eq!(flow.overdue(at(4)), None);
        assert_eq!(flow.overdue(at(5)), Some(Overdue::Handshake));
        flow.handshake_by = None;
        assert_eq!(flow.overdue(at(5)), None);
    }

    #[test]
    fn a_ping_may_come_in_two_halves_and_single_line_ends_are_none() {
        let mut flow = flow(State::Open);
        assert!(flow.is_pinged(true, at(1)));
        assert!(!flow.is_pinged(false, at(2)));
        assert!(flow.is_pinged(false, at(3)), "the second half");
        assert!(!flow.is_pinged(false, at(3)), "the first half of the next one");
        assert!(!flow.is_pinged(false, at(30)));
        assert!(!flow.is_pinged(false, at(60)));
    }

    #[test]
    fn connects_and_drains_have_their_own_ends() {
        let connecting = flow(State::Connecting { give_up_at: at(5) });
        assert_eq!(connecting.overdue(at(4)), None);
        assert_eq!(connecting.overdue(at(5)), Some(Overdue::Connect));
        let draining = flow(State::Draining { give_up_at: at(2) });
        assert_eq!(draining.overdue(at(2)), Some(Overdue::Cut));
        assert_eq!(flow(State::Closed).overdue(at(9_999)), None);
    }
}
