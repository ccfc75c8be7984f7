//! What is different about a flow with TLS on it: its bytes are not the stream's.
//! Owns:  where messages wait for a handshake, what goes into the queue instead of them.
//! Gives: the stream of what came, and whether it is over.
//! Never: a message in the clear on a TLS flow.
//! Holds: the queue and what waits for the handshake each have the bound of a flow.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::flow::{Flow, HANDSHAKE_WAIT, State, Way};
use super::handshake::{Flaw, Why};
use super::known::source_of;
use super::send_queue::Piece;
use super::tls::Step;
use super::{Counter, Counters, Instant, Keys, News, Ring, Seat, SipTcp, names};

impl SipTcp {
    /// From now on handshakes are made with these keys. A shard without TLS stays without.
    pub(crate) fn renew(&mut self, keys: Arc<Keys>) {
        let Some(before) = self.keys.replace(Arc::clone(&keys)) else {
            self.keys = None;
            return;
        };
        // A trunk that gets another certificate from now on gets it with the next message; what stands
        // over the flow that it knows us by goes on there. A certificate that went is as good as before.
        let same =
            |way: &Way| match way.shows.and_then(|id| Some((before.shown(id)?, keys.shown(id)?))) {
                Some((old, new)) => old == new,
                None => true,
            };
        self.by_peer.retain(|way, _| same(way));
    }

    /// What comes over this flow is ciphertext.
    pub(crate) fn is_sealed(&self, seat: Seat) -> bool {
        self.flow(seat).is_some_and(|flow| flow.tls.is_some())
    }

    /// Appends what a piece of ciphertext says to `stream`. `true`: nothing more will come, and the
    /// flow is to be finished once the stream was worked on.
    pub(crate) fn unseal(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        seat: Seat,
        piece: &[u8],
        stream: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> bool {
        let open = self.flow_mut(seat).filter(|flow| flow.state == State::Open);
        let Some(flow) = open else { return false };
        if flow.says_hello() {
            let source = source_of(flow.peer.ip());
            let own = self.hellos_of.entry(source).or_default();
            *own += 1;
            if *own > Hellos::PER_SOURCE || !self.hellos.take(now) {
                counters.bump(Counter::FlowsRefused);
                self.end(ring, seat);
                return false;
            }
        }
        let Some(flow) = self.flow_mut(seat) else { return false };
        let Some(tls) = &mut flow.tls else { return false };
        let was_handshaking = tls.is_handshaking();
        let length = stream.len();
        let step = tls.read(piece, stream);
        flow.answered |= stream.len() > length;
        let out = tls.take_out();
        let is_handshaking = tls.is_handshaking();
        let is_unanswered = flow.asked && !flow.answered; // `tls` is a part of it
        if was_handshaking && !is_handshaking {
            counters.bump(Counter::TlsHandshakes);
            flow.handshake_by = None;
        }
        let closed = || Flaw::new(Why::Closed, "the peer ended it");
        match step {
            Step::Over { broken } if is_handshaking || broken && is_unanswered => {
                let flaw = tls.take_flaw().unwrap_or_else(closed);
                self.handshake_failed(seat, flaw, counters);
            }
            Step::Over { broken: true } => counters.bump(Counter::FlowsCut),
            Step::GoesOn | Step::Over { broken: false } | Step::Ready => {}
        }
        self.queue_sealed(ring, seat, out, counters);
        if was_handshaking && !is_handshaking {
            self.note_proved(seat);
        }
        if step == Step::Ready {
            self.send_waiting(ring, seat, counters);
        }
        matches!(step, Step::Over { .. })
    }

    /// A client that has shown a certificate: the names that it stands for.
    fn note_proved(&mut self, seat: Seat) {
        let client = self.flow(seat).filter(|flow| flow.counted && flow.web.is_none());
        let shown = client.and_then(|flow| flow.tls.as_ref()).and_then(|tls| tls.shown());
        if let Some(names) = shown.map(names::of)
            && let Some(from) = self.source(seat)
        {
            self.has_proved = true;
            self.news.push_back(News::Proved { from, names });
        }
    }

    /// Whether the core has to hear of a name before it hears the flow; asked once.
    pub(crate) fn take_proved(&mut self) -> bool {
        std::mem::take(&mut self.has_proved)
    }

    /// The handshake is over: what waited for it goes first.
    fn send_waiting(&mut self, ring: &mut Ring, seat: Seat, counters: &mut Counters) {
        let waiting = self.flow_mut(seat).and_then(|flow| flow.tls.as_mut());
        let Some(tls) = waiting else { return };
        let pieces: Vec<Piece> = tls.waiting.take_all().collect();
        for piece in pieces {
            self.queue(ring, seat, piece, counters);
        }
    }

    /// Queues bytes of TLS or WebSocket itself, in the form in which they leave.
    pub(super) fn queue_sealed(
        &mut self,
        ring: &mut Ring,
        seat: Seat,
        bytes: Vec<u8>,
        counters: &mut Counters,
    ) {
        let Some(flow) = self.flow_mut(seat).filter(|_| !bytes.is_empty()) else { return };
        match flow.queue.push(Piece { bytes: Rc::new(bytes), to: None }) {
            Ok(()) => self.pump(ring, seat),
            Err(_) => {
                counters.bump(Counter::FlowsCut);
                self.end(ring, seat);
            }
        }
    }
}

/// How many handshakes may begin: each costs a signature, and a burst of them would hold media up.
#[derive(Debug)]
pub(super) struct Hellos {
    left: u32,
    /// Up to when it was refilled.
    at: Instant,
}

impl Hellos {
    /// At once: some 30 ms of work with a key of RSA-2048.
    const BURST: u32 = 32;
    /// One more after so long: a fifth to half of a core at most.
    const EVERY: Duration = Duration::from_millis(2);

    /// Of one source until the next sweep, a second at most: it cannot take the time of all others.
    const PER_SOURCE: u32 = 100;

    pub(super) const fn new(now: Instant) -> Self {
        Self { left: Self::BURST, at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let more = now.since(self.at).as_millis() / Self::EVERY.as_millis();
        let more = u32::try_from(more).unwrap_or(Self::BURST).min(Self::BURST);
        if more > 0 {
            let full = self.left + more >= Self::BURST;
            self.at = if full { now } else { self.at + Self::EVERY * more };
            self.left = (self.left + more).min(Self::BURST);
        }
        let has_one = self.left > 0;
        self.left -= u32::from(has_one);
        has_one
    }
}

impl Flow {
    /// The first bytes of a handshake that somebody begins with us; asked once.
    fn says_hello(&mut self) -> bool {
        let is_first = self.counted && self.tls.as_ref().is_some_and(|tls| tls.is_handshaking());
        let is_first = is_first && !self.greeted;
        self.greeted |= is_first;
        is_first
    }

    /// Something was said of a handshake, and it is not over.
    pub(super) fn is_amid_handshake(&self) -> bool {
        let is_handshaking = self.tls.as_ref().is_some_and(|tls| tls.is_handshaking());
        is_handshaking && (self.greeted || !self.counted)
    }

    /// Of a TLS or WebSocket flow that says goodbye, or broke, nobody would read another message.
    pub(super) fn takes_messages(&self) -> bool {
        if self.tls.as_ref().is_some_and(|tls| tls.is_broken()) {
            return false;
        }
        match (self.state, &self.web) {
            (State::Closed, _) => false,
            (State::Draining { .. }, web) => self.tls.is_none() && web.is_none(),
            (State::Open, Some(web)) => web.takes_messages(),
            (State::Connecting { .. } | State::Open, _) => true,
        }
    }

    /// Takes a message to be sent. Gives its buffer when that is not needed any more; gives the
    /// piece back when the reader is too slow for it.
    pub(super) fn push(&mut self, piece: Piece) -> Result<Option<Rc<Vec<u8>>>, Piece> {
        let framed = self.web.as_ref().map(|web| web.frame(&piece.bytes));
        let out = match (&mut self.tls, framed) {
            (None, None) => return self.queue.push(piece).map(|()| None),
            (Some(tls), _) if tls.is_handshaking() => {
                return tls.waiting.push(piece).map(|()| None);
            }
            (Some(tls), framed) => match tls.write(framed.as_deref().unwrap_or(&piece.bytes)) {
                Some(sealed) => sealed,
                None => return Err(piece),
            },
            (None, Some(framed)) => framed,
        };
        let Piece { bytes, to } = piece;
        self.asked |= self.tls.is_some() && !self.counted && to.is_some();
        self.queue.push(Piece { bytes: Rc::new(out), to })?;
        Ok(to.map(|_| bytes))
    }

    /// The connection of a TLS flow that we open is there: the handshake begins.
    pub(super) fn begin_handshake(&mut self, now: Instant) {
        let Some(tls) = &mut self.tls else { return };
        let hello = Piece { bytes: Rc::new(tls.take_out()), to: None };
        self.handshake_by = Some(now + HANDSHAKE_WAIT);
        self.queue.push(hello).expect("nothing is queued before the handshake");
    }

    /// The last bytes of a TLS or WebSocket flow, if there is room for them.
    pub(super) fn say_goodbye(&mut self) {
        let closing = self.web.as_mut().map(|web| web.say_goodbye()).unwrap_or_default();
        let mut bytes = self.sealed(closing);
        bytes.extend(self.tls.iter_mut().flat_map(|tls| tls.say_goodbye()));
        if !bytes.is_empty() {
            // Whoever reads too slowly for it sees the end of the connection.
            self.queue.push(Piece { bytes: Rc::new(bytes), to: None }).unwrap_or_default();
        }
    }

    /// What the peer's socket has to get for these bytes of the stream. A WebSocket has none to send
    /// before the handshake of TLS is over; behind a broken TLS nothing is left to say.
    pub(super) fn sealed(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        match &mut self.tls {
            Some(tls) if !bytes.is_empty() => tls.write(&bytes).unwrap_or_default(),
            _ => bytes,
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.queue.is_empty() || self.tls.as_ref().is_some_and(|tls| !tls.waiting.is_empty())
    }

    /// Everything that never went out, or not whole.
    pub(super) fn take_unsent(&mut self) -> Vec<Piece> {
        let waiting = self.tls.as_mut().map(|tls| tls.waiting.take_all());
        self.queue.take_all().chain(waiting.into_iter().flatten()).collect()
    }
}
