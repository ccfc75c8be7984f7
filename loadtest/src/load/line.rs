//! One connection of a phone to the gateway: SIP messages over TCP, TLS, or a WebSocket within TLS.
//! Owns:  the socket, the TLS and the WebSocket on it, the bytes of a message that is not whole.
//! Gives: messages in, messages out; `Ok(false)` where the kernel did not take everything yet.
//! Never: the gateway's own code for streams: framing here reads what the gateway writes.
//! Holds: bytes leave in the order in which they were given.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use socket2::{Domain, Socket, Type};
use tungstenite::protocol::{Role, WebSocketContext};
use tungstenite::{Error, Message};

use super::lines::{LinePlan, Transport};
use crate::certificate::NAME;

const READ_BYTES: usize = 16_384;
/// A gateway's answer to the request for a WebSocket is shorter.
const HEAD_BYTES_MAX: usize = 4_096;
/// For each step until the line is open.
const OPENING: Duration = Duration::from_secs(10);

pub(super) struct Line {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    web: Option<Box<WebSocketContext>>,
    pub(super) local: SocketAddr,
    /// Bytes of a message that is not whole yet.
    incoming: Vec<u8>,
    /// Bytes that the kernel did not take, where there is no TLS to keep them.
    outgoing: Vec<u8>,
    /// Messages that came while one was waited for.
    early: VecDeque<Vec<u8>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({})", self.local)
    }
}

impl AsRawFd for Line {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl Line {
    /// Connects from `own`, with every handshake that the transport needs.
    pub(super) fn open(plan: &LinePlan, own: IpAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(own, 0).into())?;
        socket.connect(&plan.gateway.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(OPENING))?;
        let mut line = Self {
            local: stream.local_addr()?,
            stream,
            tls: None,
            web: None,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            early: VecDeque::new(),
        };
        if matches!(plan.transport, Transport::Tls | Transport::Wss) {
            let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
            let tls =
                ClientConnection::new(Arc::clone(&plan.client), name).map_err(io::Error::other)?;
            let mut tls = Box::new(tls);
            while tls.is_handshaking() {
                tls.complete_io(&mut line.stream)?;
            }
            line.tls = Some(tls);
        }
        if plan.transport == Transport::Wss {
            line.upgrade(NAME)?;
        }
        Ok(line)
    }

    /// RFC 6455 4.1; the answer's proof is for proxies that do not understand, of which there is none.
    fn upgrade(&mut self, host: &str) -> io::Result<()> {
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n"
        );
        self.send(request.as_bytes())?;
        let give_up_at = Instant::now() + OPENING;
        let mut head = Vec::new();
        let end = loop {
            if let Some(end) = head_end(&head) {
                break end;
            }
            if head.len() > HEAD_BYTES_MAX || Instant::now() > give_up_at {
                return Err(io::Error::other("the answer to the upgrade does not end"));
            }
            self.read_bytes(&mut head)?;
        };
        if !head.starts_with(b"HTTP/1.1 101 ") {
            let text = String::from_utf8_lossy(&head[..end]).into_owned();
            return Err(io::Error::other(format!("no WebSocket: {text}")));
        }
        let rest = head.split_off(end);
        self.web = Some(Box::new(WebSocketContext::from_partially_read(rest, Role::Client, None)));
        Ok(())
    }

    /// From now on nothing on this line waits.
    pub(super) fn wait_no_more(&self) -> io::Result<()> {
        self.stream.set_nonblocking(true)
    }

    /// Waits for one message.
    pub(super) fn next_message(&mut self) -> io::Result<Vec<u8>> {
        let give_up_at = Instant::now() + OPENING;
        loop {
            if Instant::now() > give_up_at {
                return Err(ErrorKind::TimedOut.into());
            }
            if let Some(message) = self.early.pop_front() {
                return Ok(message);
            }
            let mut came = Vec::new();
            self.read(|message| came.push(message))?;
            self.early.extend(came);
        }
    }

    /// Whether everything is with the kernel.
    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<bool> {
        match &mut self.web {
            None => self.give(message)?,
            Some(web) => {
                let text = std::str::from_utf8(message).map_err(io::Error::other)?;
                let mut framed = Vec::with_capacity(message.len() + 16);
                let mut pipe = Pipe { incoming: &mut &[][..], outgoing: &mut framed };
                web.write(&mut pipe, Message::text(text)).map_err(io::Error::other)?;
                web.flush(&mut pipe).map_err(io::Error::other)?;
                self.give(&framed)?;
            }
        }
        self.flush()
    }

    fn give(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(bytes),
            None => {
                self.outgoing.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Sends on what waits.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let mut waits = || match &mut self.tls {
            Some(tls) if tls.wants_write() => tls.write_tls(&mut self.stream).map(|_| true),
            None if !self.outgoing.is_empty() => {
                let count = self.stream.write(&self.outgoing)?;
                self.outgoing.drain(..count);
                Ok(true)
            }
            _ => Ok(false),
        };
        loop {
            match waits() {
                Ok(true) => {}
                Ok(false) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once; whole messages are told. What has to go out by itself (a pong) does.
    pub(super) fn read(&mut self, mut tell: impl FnMut(Vec<u8>)) -> io::Result<bool> {
        let mut bytes = Vec::new();
        self.read_bytes(&mut bytes)?;
        let Some(web) = &mut self.web else {
            self.incoming.extend_from_slice(&bytes);
            while let Some(message) = cut(&mut self.incoming) {
                tell(message);
            }
            return self.flush();
        };
        let (mut piece, mut answers) = (bytes.as_slice(), Vec::new());
        let mut pipe = Pipe { incoming: &mut piece, outgoing: &mut answers };
        loop {
            match web.read(&mut pipe) {
                Ok(Message::Text(text)) => tell(text.as_bytes().to_vec()),
                Ok(Message::Binary(bytes)) => tell(bytes.to_vec()),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        web.flush(&mut pipe).map_err(io::Error::other)?;
        self.give(&answers)?;
        self.flush()
    }

    /// Appends what one reading gives. The end of the stream is an error: these lines stay.
    fn read_bytes(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let closed = || io::Error::new(ErrorKind::ConnectionAborted, "the gateway closed it");
        let mut scratch = [0; READ_BYTES];
        let Some(tls) = &mut self.tls else {
            let count = match self.stream.read(&mut scratch) {
                Ok(0) => return Err(closed()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            into.extend_from_slice(&scratch[..count]);
            return Ok(());
        };
        match tls.read_tls(&mut self.stream) {
            Ok(0) => return Err(closed()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        tls.process_new_packets().map_err(io::Error::other)?;
        loop {
            match tls.reader().read(&mut scratch) {
                Ok(0) => return Err(closed()),
                Ok(count) => into.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Behind the empty line.
fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The first whole message (RFC 3261 18.3), without the line ends of keep-alives before it.
fn cut(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    bytes.drain(..blank);
    let end = head_end(bytes)?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    let body =
        head.lines().find_map(|line| line.strip_prefix("Content-Length:")?.trim().parse().ok());
    let length = end + body.unwrap_or(0);
    (bytes.len() >= length).then(|| bytes.drain(..length).collect())
}

/// The two ends of a stream that never waits.
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
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_their_bodies_end() {
        let one = b"SIP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        let two = b"BYE sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n";
        let mut bytes = [&b"\r\n\r\n"[..], one, two, b"SIP/2.0 1"].concat();
        assert_eq!(cut(&mut bytes).as_deref(), Some(&one[..]));
        assert_eq!(cut(&mut bytes).as_deref(), Some(&two[..]));
        assert_eq!(cut(&mut bytes), None);
        assert_eq!(bytes, b"SIP/2.0 1");
        bytes = one[..one.len() - 1].to_vec();
        assert_eq!(cut(&mut bytes), None, "the last byte has not come");
    }
}
