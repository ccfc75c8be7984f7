//! WebSocket of one flow: bytes in, messages out; messages in, frames out (RFC 6455, RFC 7118).
//! Owns:  the bytes of a handshake, the frames of a message whose end has not come, when to ping.
//! Gives: one thing after the other that the client said; whatever may go out, after every step.
//! Never: touches a socket or waits; takes more than a SIP message in one message or one frame.
//! Holds: nothing of a message leaves before the handshake is over, or after a Close.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use shared::limits::SIP_MESSAGE_BYTES_MAX;
use shared::time::Instant;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Error, Message};

use super::upgrade::{self, Upgrade};

/// Proxies and NATs on the way forget a connection that is quiet for longer.
pub(super) const PING_EVERY: Duration = Duration::from_secs(25);
/// Kept for every flow: a flow that waits needs little.
const READ_BYTES: usize = 1_024;

#[derive(Debug)]
pub(super) struct Web {
    stage: Stage,
    ping_at: Option<Instant>,
    /// A ping went out and nothing at all has come since.
    unanswered: bool,
}

#[derive(Debug)]
enum Stage {
    /// The start of the request for a WebSocket.
    Opening(Vec<u8>),
    Open(Box<WebSocketContext>),
    Over,
}

/// What the client said next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A ping or a pong.
    Alive,
    Message(Bytes),
    /// The rest has not come yet.
    More,
    /// The client closed, or broke the protocol. What is left to be sent tells it why.
    Over {
        broken: bool,
    },
    /// There is no WebSocket, and the answer says why.
    Refused,
    Upgraded,
}

/// What is due to be done by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// The ping before was not answered.
    Dead,
    Nothing,
    Ping(Vec<u8>),
}

impl Web {
    pub(super) fn new() -> Self {
        Self { stage: Stage::Opening(Vec::new()), ping_at: None, unanswered: false }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    pub(super) fn takes_messages(&self) -> bool {
        matches!(&self.stage, Stage::Open(open) if open.can_write())
    }

    /// Reads on in `piece`, from which it takes what it has read. What goes out is appended to `out`.
    pub(super) fn read(&mut self, path: &str, piece: &mut &[u8], out: &mut Vec<u8>) -> Heard {
        self.unanswered &= piece.is_empty();
        let heard = match &mut self.stage {
            Stage::Opening(head) => open(head, path, piece, out),
            Stage::Open(socket) => listen(socket, piece, out),
            Stage::Over => Heard::Over { broken: false },
        };
        match heard {
            Heard::Upgraded => self.stage = Stage::Open(Box::new(new_socket())),
            Heard::Over { .. } | Heard::Refused => self.stage = Stage::Over,
            Heard::Alive | Heard::Message(_) | Heard::More => {}
        }
        heard
    }

    /// One message as one frame: text wherever it is (RFC 7118 5), since scripts read that with ease.
    pub(super) fn frame(&self, message: &[u8]) -> Vec<u8> {
        debug_assert!(self.takes_messages(), "whoever sends has to ask first");
        let kind = if std::str::from_utf8(message).is_ok() { Data::Text } else { Data::Binary };
        let header = FrameHeader { opcode: OpCode::Data(kind), ..FrameHeader::default() };
        let length = message.len() as u64;
        let mut out = Vec::with_capacity(header.len(length) + message.len());
        header.format(length, &mut out).expect("it writes into memory");
        out.extend_from_slice(message);
        out
    }

    /// Says goodbye, when it is the first to do so (RFC 6455 5.5.1).
    pub(super) fn say_goodbye(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Stage::Open(socket) = &mut self.stage {
            close(socket, CloseCode::Away, &mut out);
        }
        self.stage = Stage::Over;
        out
    }

    /// To be called now and then.
    pub(super) fn beat(&mut self, now: Instant) -> Beat {
        let Stage::Open(socket) = &mut self.stage else { return Beat::Nothing };
        let due = *self.ping_at.get_or_insert(now + PING_EVERY);
        if now < due {
            return Beat::Nothing;
        }
        if self.unanswered {
            return Beat::Dead;
        }
        self.ping_at = Some(now + PING_EVERY);
        self.unanswered = true;
        let mut out = Vec::new();
        let mut pipe = Pipe { incoming: &mut &[][..], outgoing: &mut out };
        let sent = socket.write(&mut pipe, Message::Ping(Bytes::new()));
        match sent.and_then(|()| socket.flush(&mut pipe)) {
            Ok(()) => Beat::Ping(out),
            Err(_) => Beat::Dead, // nobody pings behind a Close
        }
    }
}

fn new_socket() -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(SIP_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(SIP_MESSAGE_BYTES_MAX));
    WebSocketContext::new(Role::Server, Some(config))
}

/// The client asks for a WebSocket.
fn open(head: &mut Vec<u8>, path: &str, piece: &mut &[u8], out: &mut Vec<u8>) -> Heard {
    let before = head.len();
    let room = (upgrade::HEAD_BYTES_MAX + 1).saturating_sub(before).min(piece.len());
    head.extend_from_slice(&piece[..room]);
    let is_full = head.len() > upgrade::HEAD_BYTES_MAX;
    if !is_full && !piece[..room].contains(&b'\n') {
        *piece = &[]; // a line that drips is read once it is whole
        return Heard::More;
    }
    match upgrade::read(head, path) {
        Upgrade::NeedMore => {
            *piece = &[];
            Heard::More
        }
        Upgrade::Accepted { answer, used } => {
            out.extend(answer);
            *piece = &piece[used - before..];
            Heard::Upgraded
        }
        Upgrade::Refused(answer) => {
            out.extend(answer);
            Heard::Refused
        }
    }
}

fn listen(socket: &mut WebSocketContext, piece: &mut &[u8], out: &mut Vec<u8>) -> Heard {
    let mut pipe = Pipe { incoming: piece, outgoing: out };
    match socket.read(&mut pipe) {
        Ok(Message::Text(text)) => Heard::Message(text.into()),
        Ok(Message::Binary(bytes)) => Heard::Message(bytes),
        Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Heard::Alive,
        Ok(Message::Close(_)) => {
            // The answer to it is written, and then it says that this is the end.
            let flushed = socket.flush(&mut pipe);
            debug_assert!(matches!(flushed, Err(Error::ConnectionClosed)), "{flushed:?}");
            Heard::Over { broken: false }
        }
        Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Heard::More,
        Err(Error::ConnectionClosed | Error::AlreadyClosed) => Heard::Over { broken: false },
        Err(error) => {
            let code = match error {
                Error::Capacity(_) => CloseCode::Size,
                Error::Utf8(_) => CloseCode::Invalid,
                _ => CloseCode::Protocol,
            };
            close(socket, code, out);
            Heard::Over { broken: true }
        }
    }
}

fn close(socket: &mut WebSocketContext, code: CloseCode, out: &mut Vec<u8>) {
    let mut pipe = Pipe { incoming: &mut &[][..], outgoing: out };
    let frame = CloseFrame { code, reason: String::new().into() };
    // An error says that the client closed before.
    socket.close(&mut pipe, Some(frame)).unwrap_or_default();
}

/// The two ends of the flow as a stream that never waits.
struct Pipe<'p, 'b> {
    incoming: &'p mut &'b [u8],
    outgoing: &'p mut Vec<u8>,
}

impl Read for Pipe<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.incoming.read(buffer)
    }
}

impl Write for Pipe<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests/web.rs"]
mod tests;
