//! What is different about a WebSocket flow: it begins with HTTP, and each message is one of SIP.
//! Owns:  how long a client may take to ask, when it is pinged, what its frames mean to the table.
//! Gives: one thing after the other that a client said.
//! Never: a message in front of the handshake; a frame in the clear on a flow with TLS.
//! Holds: a client that does not answer a ping by the next one is cut.

use std::rc::Rc;

use shared::net::Transport;

use super::flow::{Flow, HANDSHAKE_WAIT, State};
pub(crate) use super::web::Heard;
use super::web::{Beat, Web};
use super::{Counter, Counters, Instant, Ring, Seat, SipTcp};

impl SipTcp {
    /// Clients have to ask for this path.
    pub(crate) fn serve(&mut self, path: &str) {
        self.path = path.into();
    }

    pub(crate) fn is_web(&self, seat: Seat) -> bool {
        self.flow(seat).is_some_and(|flow| flow.web.is_some())
    }

    /// What the client says next in `piece`, which gets shorter. After `Over` and `Refused` the flow is
    /// to be finished.
    pub(crate) fn hear(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        seat: Seat,
        piece: &mut &[u8],
        counters: &mut Counters,
    ) -> Heard {
        let path = Rc::clone(&self.path);
        let open = self.flow_mut(seat).filter(|flow| flow.state == State::Open);
        let Some(flow) = open else { return Heard::More };
        let Some(web) = &mut flow.web else { return Heard::More };
        let mut out = Vec::new();
        let heard = web.read(&path, piece, &mut out);
        match heard {
            Heard::Upgraded => {
                counters.bump(Counter::WsHandshakes);
                flow.upgrade_by = None;
            }
            Heard::Refused => counters.bump(Counter::WsHandshakesFailed),
            Heard::Over { broken: true } => counters.bump(Counter::FlowsCut),
            Heard::Alive | Heard::Message(_) => flow.heard = now,
            Heard::More | Heard::Over { broken: false } => {}
        }
        let out = flow.sealed(out);
        self.queue_sealed(ring, seat, out, counters);
        heard
    }

    /// A piece was read to its end: `whole` says that something in it was whole. Only then may the end be
    /// the start of something that the next piece goes on with.
    pub(crate) fn read_out(&mut self, seat: Seat, whole: bool, now: Instant) {
        let Some(flow) = self.flow_mut(seat) else { return };
        if flow.web.as_ref().is_some_and(|web| web.is_open()) {
            flow.partial_since = if whole { None } else { flow.partial_since.or(Some(now)) };
        }
    }

    /// Pings a client when it is time; cuts one that did not answer.
    pub(super) fn ping(
        &mut self,
        ring: &mut Ring,
        seat: Seat,
        now: Instant,
        counters: &mut Counters,
    ) {
        let open = self.flow_mut(seat).filter(|flow| flow.state == State::Open);
        let Some(flow) = open else { return };
        match flow.web.as_mut().map_or(Beat::Nothing, |web| web.beat(now)) {
            Beat::Nothing => {}
            Beat::Ping(bytes) => {
                counters.bump(Counter::WsPings);
                let bytes = flow.sealed(bytes);
                self.queue_sealed(ring, seat, bytes, counters);
            }
            Beat::Dead => {
                counters.bump(Counter::FlowsCut);
                self.end(ring, seat);
            }
        }
    }
}

impl Flow {
    /// Makes a WebSocket flow of one that has just come: its client has to ask for that.
    pub(super) fn await_upgrade(&mut self, now: Instant) {
        // Behind TLS the time begins before there is TLS.
        let (transport, wait) = match self.tls {
            Some(_) => (Transport::Wss, 2 * HANDSHAKE_WAIT),
            None => (Transport::Ws, HANDSHAKE_WAIT),
        };
        self.transport = transport;
        self.web = Some(Box::new(Web::new()));
        self.upgrade_by = Some(now + wait);
    }
}
