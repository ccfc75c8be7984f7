//! TLS of one flow: ciphertext in, the stream out; the stream in, ciphertext out (RFC 8446, RFC 5246).
//! Owns:  the rustls connection and what waits for its handshake.
//! Gives: whatever may go out, after every step; whether the peer has said goodbye.
//! Never: touches a socket, waits, or keeps bytes that could go out.
//! Holds: nothing of a message leaves before the handshake is over.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection};

use super::handshake::{Flaw, Why};
use super::send_queue::SendQueue;

#[derive(Debug)]
pub(super) struct Tls {
    connection: Connection,
    /// Nothing but an alert goes out any more.
    broken: bool,
    /// What went wrong, until it is told.
    flaw: Option<Flaw>,
    /// Messages from before the end of the handshake, as they are.
    pub(super) waiting: SendQueue,
}

/// What a piece of ciphertext led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The handshake has just ended: what waits may go.
    Ready,
    GoesOn,
    /// The peer ended the stream, or broke TLS. What is left to be sent tells it why.
    Over {
        broken: bool,
    },
}

impl Tls {
    pub(super) fn accept(config: Arc<ServerConfig>) -> Result<Self, Error> {
        ServerConnection::new(config).map(|connection| Self::of(Connection::Server(connection)))
    }

    pub(super) fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        ClientConnection::new(config, name)
            .map(|connection| Self::of(Connection::Client(connection)))
    }

    fn of(mut connection: Connection) -> Self {
        // What is written is taken out at once, and a message has its own bound.
        connection.set_buffer_limit(None);
        Self { connection, broken: false, flaw: None, waiting: SendQueue::default() }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Why the handshake failed, where that is known.
    pub(super) const fn take_flaw(&mut self) -> Option<Flaw> {
        self.flaw.take()
    }

    /// The certificate that the peer has shown. Once the handshake is over it is one that an authority of
    /// ours stands for, and the peer has its key.
    pub(super) fn shown(&self) -> Option<&CertificateDer<'static>> {
        self.connection.peer_certificates()?.first()
    }

    /// The peer broke TLS: it would read nothing more of us.
    pub(super) const fn is_broken(&self) -> bool {
        self.broken
    }

    /// Reads a piece that came; what it says is appended to `stream`.
    pub(super) fn read(&mut self, piece: &[u8], stream: &mut Vec<u8>) -> Step {
        let step = self.read_on(piece, stream);
        self.broken |= step == Step::Over { broken: true };
        step
    }

    fn read_on(&mut self, mut piece: &[u8], stream: &mut Vec<u8>) -> Step {
        let handshaking = self.is_handshaking();
        while !piece.is_empty() {
            match self.connection.read_tls(&mut piece) {
                Ok(0) => return Step::Over { broken: false }, // after its goodbye nothing counts
                Ok(_) => {}
                Err(_) => {
                    self.flaw = Some(Flaw::new(Why::NotTls, "more than any record may have"));
                    return Step::Over { broken: true };
                }
            }
            let state = match self.connection.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    self.flaw = Some(Flaw::of(&error));
                    return Step::Over { broken: true };
                }
            };
            let length = stream.len();
            stream.resize(length + state.plaintext_bytes_to_read(), 0);
            if self.connection.reader().read_exact(&mut stream[length..]).is_err() {
                return Step::Over { broken: true };
            }
            if state.peer_has_closed() {
                return Step::Over { broken: self.is_handshaking() };
            }
        }
        if handshaking && !self.is_handshaking() { Step::Ready } else { Step::GoesOn }
    }

    /// Encrypts a message; only after the handshake. `None` when TLS is broken.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        debug_assert!(!self.is_handshaking(), "it would be kept inside");
        self.connection.writer().write_all(bytes).ok()?;
        Some(self.take_out())
    }

    /// Says goodbye (RFC 8446 6.1).
    pub(super) fn say_goodbye(&mut self) -> Vec<u8> {
        self.connection.send_close_notify();
        self.take_out()
    }

    /// What TLS itself wants to send.
    pub(super) fn take_out(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut out).expect("it writes into memory");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Keys, tests as made};

    struct Pair {
        ours: Tls,
        theirs: Tls,
    }

    impl Pair {
        fn new(test: &str, certified: &str, called: &'static str) -> Self {
            let files = made::files(test, certified);
            let keys = Keys::read(&files).expect("keys");
            made::remove(&files);
            let name = ServerName::try_from(called).expect("a name");
            let ours = Tls::accept(keys.server).expect("a server");
            let theirs = Tls::connect(keys.client, name).expect("a client");
            Self { ours, theirs }
        }

        /// Exchanges pieces of `size` until both are quiet; gives the last steps.
        fn shake(&mut self, size: usize) -> (Step, Step) {
            let (mut here, mut there) = (Step::GoesOn, Step::GoesOn);
            let mut nothing = Vec::new();
            for _ in 0..8 {
                for piece in self.theirs.take_out().chunks(size) {
                    here = self.ours.read(piece, &mut nothing);
                }
                for piece in self.ours.take_out().chunks(size) {
                    there = self.theirs.read(piece, &mut nothing);
                }
            }
            assert!(nothing.is_empty());
            (here, there)
        }
    }

    #[test]
    fn a_handshake_ends_on_both_sides_however_it_is_segmented() {
        for size in [1, 7, 100_000] {
            let mut pair = Pair::new("segments", "pbx.test", "pbx.test");
            pair.shake(size);
            assert!(!pair.ours.is_handshaking() && !pair.theirs.is_handshaking(), "{size}");
        }
    }

    #[test]
    fn a_stream_comes_out_as_it_went_in_both_ways() {
        let mut pair = Pair::new("stream", "pbx.test", "pbx.test");
        pair.shake(16_384);
        // Longer than a record, and longer than what rustls keeps by default.
        let long: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let sealed = pair.theirs.write(&long).expect("it is whole");
        assert!(!sealed.windows(64).any(|part| part == &long[..64]), "it can be read");
        let mut stream = Vec::new();
        for piece in sealed.chunks(16_384) {
            assert_eq!(pair.ours.read(piece, &mut stream), Step::GoesOn);
        }
        assert_eq!(stream, long);
        let mut back = Vec::new();
        let sealed = pair.ours.write(b"SIP/2.0 200 OK\r\n").expect("it is whole");
        assert_eq!(pair.theirs.read(&sealed, &mut back), Step::GoesOn);
        assert_eq!(back, b"SIP/2.0 200 OK\r\n");
    }

    #[test]
    fn last_words_come_before_the_goodbye() {
        let mut pair = Pair::new("goodbye", "pbx.test", "pbx.test");
        pair.shake(16_384);
        let mut sealed = pair.theirs.write(b"BYE").expect("it is whole");
        sealed.extend(pair.theirs.say_goodbye());
        let mut stream = Vec::new();
        assert_eq!(pair.ours.read(&sealed, &mut stream), Step::Over { broken: false });
        assert_eq!(stream, b"BYE");
        assert_eq!(pair.ours.read(b"more", &mut stream), Step::Over { broken: false });
    }

    #[test]
    fn another_name_than_the_certificates_is_not_believed() {
        let mut pair = Pair::new("name", "pbx.test", "carrier.test");
        let (here, there) = pair.shake(16_384);
        assert_eq!(there, Step::Over { broken: true });
        assert_eq!(here, Step::Over { broken: true }, "the alert says so");
        assert!(pair.theirs.is_handshaking());
    }

    #[test]
    fn a_changed_byte_ends_the_flow() {
        let mut pair = Pair::new("changed", "pbx.test", "pbx.test");
        pair.shake(16_384);
        let mut sealed = pair.theirs.write(b"INVITE").expect("it is whole");
        let last = sealed.len() - 1;
        sealed[last] ^= 1;
        let mut stream = Vec::new();
        assert_eq!(pair.ours.read(&sealed, &mut stream), Step::Over { broken: true });
        assert!(stream.is_empty());
        assert!(!pair.ours.take_out().is_empty(), "an alert tells");
        assert!(pair.ours.is_broken() && pair.ours.write(b"SIP/2.0 200 OK").is_none());
    }

    #[test]
    fn what_is_no_tls_at_all_is_over_at_once() {
        let plain = b"OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nContent-Length: 0\r\n\r\n";
        for noise in [&plain[..], &[0xff; 40_000], &[22, 3, 1, 0xff, 0xff, 1]] {
            let mut pair = Pair::new("noise", "pbx.test", "pbx.test");
            let mut stream = Vec::new();
            let steps: Vec<Step> =
                noise.chunks(16_384).map(|piece| pair.ours.read(piece, &mut stream)).collect();
            assert!(steps.contains(&Step::Over { broken: true }), "{:?}", &noise[..6]);
            assert!(stream.is_empty());
        }
    }
}
