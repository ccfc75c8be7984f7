//! Phones of every transport with raw text: plain sockets, rustls, and a WebSocket client of others.
//! Owns:  the way of a phone to the gateway; what it says to register, call, answer and hang up.
//! Gives: `Phone`, which sounds the same over each transport, and `Talk`, a call with its media.
//! Never: sleeps: what is to come is waited for, with deadlines.
//! Holds: a WebSocket client is another program, so that no framing of ours meets itself.
#![allow(dead_code, missing_debug_implementations, unreachable_pub)] // each test uses its part

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use shared::net::Transport;

use crate::plane::{DEADLINE, rtp, value, vias};
use crate::tls_ends::{NAME, next_message, secure};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../loadtest/peers/web_client.py");

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

enum Wire {
    Datagrams(UdpSocket),
    Stream(BufReader<Box<dyn Stream>>),
    Web(WebClient),
}

pub struct Phone {
    pub user: String,
    pub transport: Transport,
    gateway: SocketAddr,
    /// What it writes into Via and Contact.
    host: String,
    wire: Wire,
    calls: u32,
}

impl Phone {
    /// Connects to `gateway`, whose certificate is believed.
    pub fn dial(user: &str, transport: Transport, gateway: SocketAddr, believed: &Path) -> Self {
        let mut host = format!("{user}.invalid");
        let wire = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind((gateway.ip(), 0)).expect("a port");
                socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
                host = socket.local_addr().expect("bound").to_string();
                Wire::Datagrams(socket)
            }
            Transport::Tcp | Transport::Tls => {
                let stream = TcpStream::connect(gateway).expect("connected");
                stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
                host = stream.local_addr().expect("connected").to_string();
                let stream: Box<dyn Stream> = match transport {
                    Transport::Tcp => Box::new(stream),
                    _ => Box::new(secure(stream, believed)),
                };
                Wire::Stream(BufReader::new(stream))
            }
            Transport::Ws => Wire::Web(WebClient::start(&format!("ws://{gateway}/ws"), &[])),
            Transport::Wss => {
                let believed = believed.to_str().expect("text");
                Wire::Web(WebClient::start(&format!("wss://{gateway}/ws"), &[believed, NAME]))
            }
        };
        Self { user: user.to_owned(), transport, gateway, host, wire, calls: 0 }
    }

    pub fn send(&mut self, text: &str) {
        match &mut self.wire {
            Wire::Datagrams(socket) => {
                socket.send_to(text.as_bytes(), self.gateway).expect("sent");
            }
            Wire::Stream(stream) => {
                let stream = stream.get_mut();
                stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).expect("sent");
            }
            Wire::Web(client) => client.send(text.as_bytes()),
        }
    }

    /// The next message that starts so; others are passed over.
    pub fn hear(&mut self, start: &str) -> String {
        loop {
            let text = self.next(start);
            if text.starts_with(start) {
                return text;
            }
        }
    }

    fn next(&mut self, wanted: &str) -> String {
        let who = &self.user;
        match &mut self.wire {
            Wire::Datagrams(socket) => {
                let mut bytes = vec![0; 65_536];
                let length = socket.recv(&mut bytes);
                bytes.truncate(length.unwrap_or_else(|e| panic!("{who}: no {wanted}: {e}")));
                String::from_utf8(bytes).expect("text")
            }
            Wire::Stream(stream) => next_message(stream, &format!("{who}: {wanted}")),
            Wire::Web(client) => client.next(wanted),
        }
    }

    /// How a request of this phone begins.
    fn head(&self, method: &str, uri: &str, cseq: u32) -> String {
        let (word, host) = (self.transport.via_word(), &self.host);
        let branch = format!("{}{method}{}x{cseq}", self.user, self.calls);
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{word} {host};rport;branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\n"
        )
    }

    pub fn contact(&self) -> String {
        let parameter = match self.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
            Transport::Ws | Transport::Wss => ";transport=ws",
        };
        format!("<sip:{}@{}{parameter}>", self.user, self.host)
    }

    pub fn register(&mut self) {
        let text = |phone: &Self, cseq: u32, extra: &str| {
            let (user, contact) = (&phone.user, phone.contact());
            format!(
                "{}From: <sip:{user}@smoke.test>;tag=r\r\nTo: <sip:{user}@smoke.test>\r\n\
                 Call-ID: register-{user}\r\nCSeq: {cseq} REGISTER\r\nContact: {contact}\r\n\
                 {extra}Content-Length: 0\r\n\r\n",
                phone.head("REGISTER", "sip:smoke.test", cseq)
            )
        };
        self.send(&text(self, 1, ""));
        let challenge = self.hear("SIP/2.0 401");
        let line = value(&challenge, "WWW-Authenticate");
        let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
        let (user, uri) = (self.user.clone(), "sip:smoke.test");
        let credentials = sip::auth::answer(&parsed, &user, "secret", "REGISTER", uri, 1, "abc");
        self.send(&text(self, 2, &format!("Authorization: {credentials}\r\n")));
        let answer = self.hear("SIP/2.0 200");
        assert!(value(&answer, "Contact").starts_with(&self.contact()), "{answer}");
    }

    /// A request in the call that this phone makes.
    pub fn request(&self, method: &str, uri: &str, cseq: u32, to: &str, body: &str) -> String {
        let (user, contact) = (&self.user, self.contact());
        format!(
            "{}From: <sip:{user}@smoke.test>;tag=caller\r\nTo: {to}\r\nCall-ID: {}\r\n\
             CSeq: {cseq} {method}\r\nContact: {contact}\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.head(method, uri, cseq),
            self.call_id(),
            body.len()
        )
    }

    fn call_id(&self) -> String {
        format!("call-{}-{}", self.user, self.calls)
    }

    /// The answer to a request.
    pub fn answer(&self, request: &str, status: &str, body: &str) -> String {
        let to = value(request, "To").split(";tag=").next().unwrap_or_default();
        format!(
            "SIP/2.0 {status}\r\n{}From: {}\r\nTo: {to};tag=callee\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: {}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            vias(request),
            value(request, "From"),
            value(request, "Call-ID"),
            value(request, "CSeq"),
            self.contact(),
            body.len()
        )
    }

    /// Closes a WebSocket and gives the close code.
    pub fn close(self) -> String {
        let Wire::Web(client) = self.wire else { panic!("there is no WebSocket") };
        client.close()
    }

    fn media(&self) -> UdpSocket {
        let socket = UdpSocket::bind((self.gateway.ip(), 0)).expect("a port");
        socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        socket
    }
}

/// The other program, and a thread that reads what it says.
struct WebClient {
    program: Child,
    stdin: Option<ChildStdin>,
    heard: Receiver<String>,
}

impl WebClient {
    fn start(uri: &str, more: &[&str]) -> Self {
        // The distribution's Python, which has the distribution's packages.
        let mut program = Command::new("/usr/bin/python3")
            .args([CLIENT, uri])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut stdout = program.stdout.take().expect("piped");
        let (sender, heard) = channel();
        thread::spawn(move || {
            let mut length = [0; 4];
            while stdout.read_exact(&mut length).is_ok() {
                let mut message = vec![0; u32::from_be_bytes(length) as usize];
                stdout.read_exact(&mut message).expect("the message");
                if sender.send(String::from_utf8(message).expect("text")).is_err() {
                    return;
                }
            }
        });
        let stdin = program.stdin.take();
        Self { program, stdin, heard }
    }

    fn send(&mut self, message: &[u8]) {
        let stdin = self.stdin.as_mut().expect("open");
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        stdin.write_all(&length).expect("it runs");
        stdin.write_all(message).expect("it runs");
        stdin.flush().expect("it runs");
    }

    fn next(&mut self, wanted: &str) -> String {
        match self.heard.recv_timeout(DEADLINE) {
            Ok(text) => text,
            Err(RecvTimeoutError::Timeout) => panic!("no {wanted}"),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("no {wanted}, the client ended: {}", self.last_words())
            }
        }
    }

    fn close(mut self) -> String {
        drop(self.stdin.take());
        self.last_words()
    }

    fn last_words(&mut self) -> String {
        let mut text = String::new();
        let mut stderr = self.program.stderr.take().expect("piped");
        stderr.read_to_string(&mut text).expect("text");
        text.trim().to_owned()
    }
}

impl Drop for WebClient {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.program.kill().unwrap_or_default();
        self.program.wait().expect("it ended");
    }
}

/// A call that two phones have set up.
pub struct Talk<'p> {
    caller: &'p mut Phone,
    callee: &'p mut Phone,
    media: [UdpSocket; 2],
    /// Where the gateway wants the audio of the caller, and of the callee.
    ports: [SocketAddr; 2],
    /// The callee's side of the dialog, with the gateway's tag; the gateway's Contact.
    to: String,
    remote: String,
    /// What the callee was asked.
    pub invited: String,
    pub answered: String,
}

impl<'p> Talk<'p> {
    pub fn begin(caller: &'p mut Phone, callee: &'p mut Phone) -> Self {
        caller.calls += 1;
        let media = [caller.media(), callee.media()];
        let uri = format!("sip:{}@smoke.test", callee.user);
        let anyone = format!("<{uri}>");
        caller.send(&caller.request("INVITE", &uri, 1, &anyone, &audio(&media[0])));
        let invited = callee.hear("INVITE ");
        callee.send(&callee.answer(&invited, "200 OK", &audio(&media[1])));
        callee.hear("ACK ");
        let answered = caller.hear("SIP/2.0 200");
        let to = value(&answered, "To").to_owned();
        let remote = value(&answered, "Contact").trim_matches(['<', '>']).to_owned();
        caller.send(&caller.request("ACK", &remote, 1, &to, ""));
        let ports = [audio_at(&answered), audio_at(&invited)];
        Self { caller, callee, media, ports, to, remote, invited, answered }
    }

    /// Each side sends one packet at a time and hears the other's.
    pub fn speak(&self, packets: u16) {
        for number in 0..packets {
            for (side, source) in [(0, 1), (1, 2)] {
                let sent = self.media[side].send_to(&rtp(number, source), self.ports[side]);
                sent.expect("sent");
            }
            for (side, source) in [(0, 2), (1, 1)] {
                let mut packet = [0; 2_048];
                let (length, from) = self.media[side].recv_from(&mut packet).expect("relayed");
                assert_eq!(packet[..length], rtp(number, source));
                assert_eq!(from, self.ports[side], "from where the SDP says");
            }
        }
    }

    pub fn hang_up(self) {
        let Self { caller, callee, to, remote, .. } = self;
        caller.send(&caller.request("BYE", &remote, 2, &to, ""));
        let bye = callee.hear("BYE ");
        callee.send(&callee.answer(&bye, "200 OK", ""));
        caller.hear("SIP/2.0 200");
    }
}

fn audio(media: &UdpSocket) -> String {
    let at = media.local_addr().expect("bound");
    let (ip, port) = (at.ip(), at.port());
    let family = if at.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}

/// Where the SDP of a message wants its audio.
fn audio_at(text: &str) -> SocketAddr {
    let after = |start: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("{start}: {text}"))
    };
    let ip = after("c=").rsplit(' ').next().expect("an address").parse().expect("an address");
    let port = after("m=audio ").split(' ').next().expect("a port").parse().expect("a port");
    SocketAddr::new(ip, port)
}
