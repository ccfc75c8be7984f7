//! Long-lived connections of many phones: TCP, TLS or WSS, one line for each phone.
//! Owns:  the sockets, one epoll for all of them, who calls by which line and who is called.
//! Gives: whole SIP messages that came, with the number of their line; sends one by a line.
//! Never: opens a line again: one that breaks ends the load, since nothing may break it.
//! Holds: half of the lines call and half are called; every phone is registered by its own line.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use rustls::ClientConfig;

use super::line::Line;
use super::raw::Raw;
use super::register::{Names, Register};
use crate::digest::{self, Challenge, Credentials};

/// Phones behind one address: below what a gateway takes from one source.
const PHONES_PER_ADDRESS: u32 = 20;
/// Lines looked at in one turn.
const READY_MAX: usize = 256;
const EXPIRES_S: u32 = 3_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
    Wss,
}

impl Transport {
    pub const fn via(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Wss => "WSS",
        }
    }

    /// In a URI; secure WebSockets have no word of their own there (RFC 7118 8.1).
    const fn uri_word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Wss => "ws",
        }
    }
}

impl Names {
    pub(super) fn of_datagrams(user: &str, at: SocketAddr) -> Self {
        Self { via: format!("SIP/2.0/UDP {at}"), contact: format!("<sip:{user}@{at}>") }
    }

    /// A WebSocket client does not know its address and invents a name (RFC 7118 5.1, 5.2).
    fn of_line(transport: Transport, user: &str, at: SocketAddr) -> Self {
        let host = match transport {
            Transport::Wss => format!("{:016x}.invalid", rand::random::<u64>()),
            _ => at.to_string(),
        };
        Self {
            via: format!("SIP/2.0/{} {host}", transport.via()),
            contact: format!("<sip:{user}@{host};transport={}>", transport.uri_word()),
        }
    }
}

/// Which lines are to be opened.
#[derive(Clone, Debug)]
pub struct LinePlan {
    pub transport: Transport,
    /// Where the gateway listens for this transport.
    pub gateway: SocketAddr,
    /// Who believes the gateway's certificate.
    pub client: Arc<ClientConfig>,
    /// Phones that call; as many are called.
    pub phones: u32,
    /// Of every phone.
    pub password: String,
}

impl LinePlan {
    /// The users that have to be known to the gateway: callers, then those who are called.
    pub fn users(phones: u32) -> impl Iterator<Item = String> {
        (0..phones).map(|n| format!("a{n}")).chain((0..phones).map(|n| format!("c{n}")))
    }
}

/// Open lines, for one load after the other.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Mutex<Option<Bundle>>>);

impl Lines {
    /// Connects and registers every phone, one after the other.
    pub fn open(plan: &LinePlan) -> Result<Self, String> {
        let mut bundle = Bundle::new(plan.phones).map_err(|error| error.to_string())?;
        for (number, user) in (0..).zip(LinePlan::users(plan.phones)) {
            let fail =
                |error: io::Error| format!("the phone {user} over {:?}: {error}", plan.transport);
            // The addresses of a loopback network, so that no source has too many.
            let [high, low] =
                u16::try_from(1 + number / PHONES_PER_ADDRESS).unwrap_or(1).to_be_bytes();
            let own = IpAddr::V4(Ipv4Addr::new(127, 1, high, low));
            let mut line = Line::open(plan, own).map_err(fail)?;
            let names = Names::of_line(plan.transport, &user, line.local);
            register(&mut line, plan, &names, &user).map_err(fail)?;
            bundle.add(line, names).map_err(fail)?;
        }
        Ok(Self(Arc::new(Mutex::new(Some(bundle)))))
    }

    pub(super) fn take(&self) -> io::Result<Bundle> {
        let mut bundle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bundle.take().ok_or_else(|| io::Error::other("another load uses these lines"))
    }

    pub(super) fn give_back(&self, bundle: Bundle) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(bundle);
    }
}

/// A REGISTER, its challenge, and the REGISTER that answers it, while the line still waits.
fn register(line: &mut Line, plan: &LinePlan, names: &Names, user: &str) -> io::Result<()> {
    let (domain, call_id) = (plan.gateway.ip().to_string(), format!("{:x}", rand::random::<u64>()));
    let mut authorization = None;
    for cseq in 1..=2 {
        let request = Register {
            names,
            user,
            domain: &domain,
            call_id: &call_id,
            cseq,
            expires_s: EXPIRES_S,
        };
        line.send(request.write(authorization.as_deref()).as_bytes())?;
        let answer = line.next_message()?;
        let raw = Raw::read(&answer).ok_or_else(|| io::Error::other("not a SIP message"))?;
        match (raw.status(), Challenge::parse(raw.challenge)) {
            (Some(200), _) => return line.wait_no_more(),
            (Some(401), Some(challenge)) if authorization.is_none() => {
                let password = &plan.password;
                let credentials =
                    Credentials { username: user, password, cnonce: "10ad", nonce_count: 1 };
                let uri = request.uri();
                authorization =
                    Some(digest::authorization(&challenge, credentials, "REGISTER", &uri));
            }
            _ => return Err(io::Error::other(format!("REGISTER was answered {}", raw.start))),
        }
    }
    Err(io::Error::other("REGISTER was challenged twice"))
}

/// The lines while a load uses them.
#[derive(Debug)]
pub(super) struct Bundle {
    /// Callers first, then as many who are called.
    lines: Vec<(Line, Names)>,
    phones: u32,
    epoll: OwnedFd,
    arrived: VecDeque<(u32, Vec<u8>)>,
    /// Lines that the kernel did not take everything from.
    blocked: Vec<u32>,
    failed: Option<io::Error>,
}

impl AsRawFd for Bundle {
    /// Readable when a line is.
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

impl Bundle {
    fn new(phones: u32) -> io::Result<Self> {
        // SAFETY: a plain system call that gives a new descriptor or -1.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            lines: Vec::new(),
            phones: phones.max(1),
            // SAFETY: the descriptor is new, open and nobody else's.
            epoll: unsafe { OwnedFd::from_raw_fd(epoll) },
            arrived: VecDeque::new(),
            blocked: Vec::new(),
            failed: None,
        })
    }

    fn add(&mut self, line: Line, names: Names) -> io::Result<()> {
        let mut event =
            libc::epoll_event { events: libc::EPOLLIN as u32, u64: self.lines.len() as u64 };
        // SAFETY: both descriptors are open, and the event outlives the call, which copies it.
        let result = unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                line.as_raw_fd(),
                &raw mut event,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.lines.push((line, names));
        Ok(())
    }

    /// The phone that a call of this slot goes to.
    pub(super) const fn number_of(&self, slot: u32) -> u32 {
        slot % self.phones
    }

    /// The line that a call of this slot comes by.
    pub(super) const fn caller(&self, slot: u32) -> u32 {
        slot % self.phones
    }

    pub(super) const fn is_caller(&self, line: u32) -> bool {
        line < self.phones
    }

    pub(super) fn names(&self, line: u32) -> &Names {
        &self.lines[line as usize].1
    }

    /// A failure is told by the next `read`.
    pub(super) fn send(&mut self, line: u32, text: &str) {
        match self.lines[line as usize].0.send(text.as_bytes()) {
            Ok(true) => {}
            Ok(false) => self.blocked.push(line),
            Err(error) => self.failed = Some(named(line, error)),
        }
    }

    pub(super) fn next_message(&mut self) -> Option<(u32, Vec<u8>)> {
        self.arrived.pop_front()
    }

    /// Takes what is there without waiting; sends what was left.
    pub(super) fn read(&mut self) -> io::Result<()> {
        for line in std::mem::take(&mut self.blocked) {
            if !self.lines[line as usize].0.flush().map_err(|error| named(line, error))? {
                self.blocked.push(line);
            }
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut ready = [libc::epoll_event { events: 0, u64: 0 }; READY_MAX];
        // SAFETY: the pointer and count describe the array above, which outlives the call.
        let count = unsafe {
            let most = READY_MAX as libc::c_int;
            libc::epoll_wait(self.epoll.as_raw_fd(), ready.as_mut_ptr(), most, 0)
        };
        for event in ready.iter().take(usize::try_from(count).unwrap_or(0)) {
            let number = event.u64 as u32;
            let line = &mut self.lines[number as usize].0;
            let arrived = &mut self.arrived;
            let outcome = line.read(|message| arrived.push_back((number, message)));
            if !outcome.map_err(|error| named(number, error))? {
                self.blocked.push(number);
            }
        }
        Ok(())
    }
}

fn named(line: u32, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("line {line}: {error}"))
}
