//! All phones of a run in one thread: they call, answer, are put on hold, moved and hung up on.
//! Owns:  a socket for the callers and one for everybody who is called; what each leg has seen.
//! Gives: `place`, and `seen` by Call-ID.
//! Never: ends a call; an opinion about what a leg should have seen.
//! Holds: a message is in the books before its answer leaves.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lock;
use crate::load::batch::{Inbox, await_readable, socket};
use crate::load::raw::Raw;
use crate::sdp::{self, Direction};

/// RFC 3261 17.1.1.1: an INVITE without any answer is sent again.
const T1: Duration = Duration::from_millis(500);

/// Whose socket a leg uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Caller,
    Callee,
}

/// What a leg has seen so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) end: End,
    /// Where it was told to send its media, and in which direction.
    pub(super) relay: Option<SocketAddrV4>,
    pub(super) told: Direction,
    pub(super) answered: bool,
    pub(super) acknowledged: bool,
    pub(super) ended: bool,
}

impl Seen {
    pub(super) fn stands(&self) -> bool {
        self.answered && self.acknowledged && !self.ended
    }

    /// It was told so by the newest description.
    pub(super) fn may_send(&self) -> bool {
        self.told.receives()
    }

    fn new(end: End) -> Self {
        let told = Direction::SendRecv;
        Self { end, relay: None, told, answered: false, acknowledged: false, ended: false }
    }

    fn hear(&mut self, body: &str) {
        let Some(audio) = sdp::read_audio(body.as_bytes()) else { return };
        self.told = audio.direction;
        if let SocketAddr::V4(relay) = audio.address {
            self.relay = Some(relay);
        }
    }
}

#[derive(Default)]
struct Books {
    legs: HashMap<String, Seen>,
    /// Call-IDs by the user that was called.
    called: HashMap<String, String>,
    /// INVITEs of callers without an answer, and when they were sent.
    waiting: HashMap<String, (String, Instant)>,
}

struct Sockets {
    caller: UdpSocket,
    callee: UdpSocket,
    /// Where the legs of both sockets take media.
    media: [SocketAddr; 2],
    run: u64,
}

pub(super) struct Board {
    sockets: Arc<Sockets>,
    books: Arc<Mutex<Books>>,
    stop: Arc<AtomicBool>,
    server: Option<SocketAddrV4>,
    thread: Option<JoinHandle<()>>,
}

impl Board {
    pub(super) fn bind(ip: Ipv4Addr, media: [SocketAddr; 2]) -> io::Result<Self> {
        let bind = || socket(SocketAddr::from((ip, 0)));
        let run = rand::random::<u64>() >> 32;
        Ok(Self {
            sockets: Arc::new(Sockets { caller: bind()?, callee: bind()?, media, run }),
            books: Arc::default(),
            stop: Arc::default(),
            server: None,
            thread: None,
        })
    }

    pub(super) fn callee(&self) -> SocketAddr {
        self.sockets.address(End::Callee)
    }

    pub(super) fn start(&mut self, server: SocketAddrV4) -> io::Result<()> {
        self.server = Some(server);
        let (sockets, books) = (Arc::clone(&self.sockets), Arc::clone(&self.books));
        let stop = Arc::clone(&self.stop);
        let drive = move || {
            let mut inbox = Inbox::default();
            while !stop.load(Ordering::Relaxed) {
                let mut count = sockets.take(&mut inbox, End::Caller, &books);
                count += sockets.take(&mut inbox, End::Callee, &books);
                if count == 0 {
                    sockets.resend(server, &books);
                    await_readable([&sockets.caller, &sockets.callee], 20);
                }
            }
        };
        let thread = std::thread::Builder::new().name("phones".to_owned()).spawn(drive)?;
        self.thread = Some(thread);
        Ok(())
    }

    pub(super) fn call_id(&self, number: u32) -> String {
        format!("{:x}.{number}", self.sockets.run)
    }

    /// Calls `c<number>`; gives the Call-ID.
    pub(super) fn place(&self, number: u32) -> String {
        let (call_id, sockets) = (self.call_id(number), &self.sockets);
        let (me, callee) = (sockets.address(End::Caller), self.callee());
        let offer = sdp::write("load", sockets.media[0], 1, Direction::SendRecv);
        let invite = format!(
            "INVITE sip:c{number}@{callee} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {me};branch=z9hG4bK{call_id};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:load@{me}>;tag=f{number}\r\nTo: <sip:c{number}@{callee}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContact: <sip:load@{me}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{offer}",
            offer.len()
        );
        let mut books = lock(&self.books);
        books.legs.insert(call_id.clone(), Seen::new(End::Caller));
        if let Some(server) = self.server {
            sockets.send(End::Caller, &invite, server);
        }
        books.waiting.insert(call_id.clone(), (invite, Instant::now()));
        call_id
    }

    pub(super) fn seen(&self, call_id: &str) -> Option<Seen> {
        lock(&self.books).legs.get(call_id).cloned()
    }

    /// The leg that was called by this user name.
    pub(super) fn newest(&self, user: &str) -> Option<String> {
        lock(&self.books).called.get(user).cloned()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there was printed by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Sockets {
    fn of(&self, end: End) -> &UdpSocket {
        match end {
            End::Caller => &self.caller,
            End::Callee => &self.callee,
        }
    }

    fn address(&self, end: End) -> SocketAddr {
        self.of(end).local_addr().expect("a bound socket has an address")
    }

    /// What the kernel refuses is a lost datagram: the other side sends again.
    fn send(&self, end: End, text: &str, to: SocketAddrV4) {
        let _ = self.of(end).send_to(text.as_bytes(), to);
    }

    fn take(&self, inbox: &mut Inbox, end: End, books: &Mutex<Books>) -> usize {
        let count = inbox.fill(self.of(end));
        for index in 0..count {
            let arrival = inbox.arrival(index);
            let from = arrival.from;
            let Some(raw) = Raw::read(arrival.bytes) else { continue };
            let mut books = lock(books);
            let answer = match raw.status() {
                Some(status) => self.response(&mut books, &raw, status),
                None => self.request(&mut books, &raw, end),
            };
            if let Some(text) = answer {
                self.send(end, &text, from);
            }
        }
        count
    }

    fn resend(&self, server: SocketAddrV4, books: &Mutex<Books>) {
        for (invite, sent_at) in lock(books).waiting.values_mut() {
            if sent_at.elapsed() > T1 {
                *sent_at = Instant::now();
                self.send(End::Caller, invite, server);
            }
        }
    }

    /// A response to the INVITE of a caller: the only request that these phones send.
    fn response(&self, books: &mut Books, raw: &Raw<'_>, status: u16) -> Option<String> {
        books.waiting.remove(raw.call_id);
        let leg = books.legs.get_mut(raw.call_id)?;
        if !(200..300).contains(&status) {
            leg.ended |= status >= 300;
            return None;
        }
        if !leg.answered {
            leg.hear(raw.body);
            (leg.answered, leg.acknowledged) = (true, true);
        }
        let target = raw.contact.split(['<', '>']).nth(1).unwrap_or_default();
        let (me, call_id) = (self.address(End::Caller), raw.call_id);
        Some(format!(
            "ACK {target} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bKa{call_id};rport\r\n\
             Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {call_id}\r\nCSeq: 1 ACK\r\n\
             Content-Length: 0\r\n\r\n",
            raw.from, raw.to
        ))
    }

    fn request(&self, books: &mut Books, raw: &Raw<'_>, end: End) -> Option<String> {
        let contact = format!("<sip:load@{}>", self.address(end));
        let tag = format!("b{}", raw.call_id);
        match raw.method() {
            "INVITE" => {
                let user = raw.start.split(['@', ':']).nth(1).unwrap_or_default();
                if user.starts_with("busy") {
                    return Some(raw.reply("486 Busy Here", &tag, "", ""));
                }
                let leg =
                    books.legs.entry(raw.call_id.to_owned()).or_insert_with(|| Seen::new(end));
                leg.hear(raw.body);
                leg.answered = true;
                if end == End::Callee && !raw.to.contains(";tag=") {
                    books.called.insert(user.to_owned(), raw.call_id.to_owned());
                }
                let told = books.legs.get(raw.call_id)?.told;
                let media = self.media[end as usize];
                let answer = sdp::write("load", media, 1, told.answer());
                Some(raw.reply("200 OK", &tag, &contact, &answer))
            }
            "ACK" => {
                if let Some(leg) = books.legs.get_mut(raw.call_id) {
                    leg.acknowledged = true;
                }
                None
            }
            "BYE" => {
                if let Some(leg) = books.legs.get_mut(raw.call_id) {
                    leg.ended = true;
                }
                Some(raw.reply("200 OK", &tag, "", ""))
            }
            _ => Some(raw.reply("200 OK", &tag, "", "")),
        }
    }
}
