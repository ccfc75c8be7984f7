//! Phones that register and refresh over UDP, at a steady rate, as phones do it: with one nonce and a
//! count that grows, until the nonce is refused.
//! Owns:  what each phone remembers (nonce, count, CSeq), resends, the pacing.
//! Gives: a `Round`'s report: done, challenged, stale, failed, and how long each took.
//! Never: waits for an answer before the next is due.
//! Holds: every REGISTER that was due is counted once, as done or failed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::batch::{self, Inbox, await_any, pin};
use super::raw::Raw;
use super::register::{Names, Register};
use super::{Quantiles, Times, times};
use crate::digest::{self, Challenge, Credentials};

/// RFC 3261 17.1.2.2: Timers E and F.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const GIVE_UP: Duration = Duration::from_secs(32);
const PAUSE_MAX: Duration = Duration::from_millis(1);
/// Addresses that the phones come from.
const SOCKETS: usize = 8;
/// What a phone has left over from a gateway that is no more.
const OLD_NONCE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddee";

/// Who registers where.
#[derive(Clone, Debug)]
pub struct RegistrantPlan {
    pub gateway: SocketAddrV4,
    pub users: Vec<String>,
    /// Of every user.
    pub password: String,
    pub expires_s: u32,
    pub cpu: Option<usize>,
}

/// REGISTERs one after the other, by every phone in turn.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub rate: f64,
    pub count: u64,
    /// Every so many REGISTERs one has a nonce that the gateway does not know. 0: never.
    pub stale_every: u64,
}

#[derive(Clone, Debug, Default)]
pub struct RegistrantReport {
    /// Answered 200.
    pub done: u64,
    /// Answered 401 first: by a phone that had no nonce, and for a stale one.
    pub challenged: u64,
    pub stale: u64,
    /// By status; 0 stands for no answer at all, or for a phone that still waited when it was due.
    pub failed: BTreeMap<u16, u64>,
    pub resent: u64,
    pub elapsed: Duration,
    /// From the time at which a REGISTER was due to its 200.
    pub answered: Quantiles,
}

impl RegistrantReport {
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

impl fmt::Display for RegistrantReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  REGISTER answered 200: {} in {:.1} s ({:.0}/s), challenged {}, with a stale nonce {}, \
             failed {:?}, resent {}\n  until the 200: {}",
            self.done,
            self.elapsed.as_secs_f64(),
            self.done as f64 / self.elapsed.as_secs_f64().max(0.001),
            self.challenged,
            self.stale,
            self.failed,
            self.resent,
            self.answered
        )
    }
}

#[derive(Debug)]
struct Phone {
    call_id: String,
    names: Names,
    cseq: u32,
    challenge: Option<Challenge>,
    nonce_count: u32,
    waits: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    due_at: Instant,
    sent_at: Instant,
    wait: Duration,
    text: String,
    challenges: u32,
}

/// The phones, from one round to the next.
pub struct Registrants {
    plan: RegistrantPlan,
    domain: String,
    run: u32,
    sockets: Vec<UdpSocket>,
    phones: Vec<Phone>,
    resends: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    report: RegistrantReport,
    times: Times,
}

impl fmt::Debug for Registrants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registrants({})", self.phones.len())
    }
}

impl Registrants {
    pub fn new(plan: RegistrantPlan) -> io::Result<Self> {
        let run = rand::random::<u32>();
        let mut sockets = Vec::new();
        for last in 1..=SOCKETS as u8 {
            sockets.push(batch::socket(SocketAddr::from((Ipv4Addr::new(127, 0, 1, last), 0)))?);
        }
        let mut phones = Vec::new();
        for (index, user) in plan.users.iter().enumerate() {
            let names = Names::of_datagrams(user, sockets[index % SOCKETS].local_addr()?);
            let call_id = format!("{run:x}.{index}");
            let (challenge, waits) = (None, None);
            phones.push(Phone { call_id, names, cseq: 0, challenge, nonce_count: 0, waits });
        }
        Ok(Self {
            domain: plan.gateway.ip().to_string(),
            plan,
            run,
            sockets,
            phones,
            resends: BinaryHeap::new(),
            report: RegistrantReport::default(),
            times: times(),
        })
    }

    /// Runs a round to its end, on a thread of its own, so that only that one is pinned.
    pub fn round(&mut self, round: Round) -> io::Result<RegistrantReport> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("load-register".to_owned());
            let running = thread.spawn_scoped(scope, || self.drive(round))?;
            running.join().map_err(|_| io::Error::other("the registering thread panicked"))?
        })
    }

    fn drive(&mut self, round: Round) -> io::Result<RegistrantReport> {
        if let Some(cpu) = self.plan.cpu {
            pin(cpu)?;
        }
        self.report = RegistrantReport::default();
        self.times.reset();
        let (started, mut offered, mut inbox) = (Instant::now(), 0, Inbox::default());
        let due_at = |offered: u64| started + Duration::from_secs_f64(offered as f64 / round.rate);
        while self.report.done + self.report.failures() < round.count {
            let now = Instant::now();
            while offered < round.count && due_at(offered) <= now {
                self.offer(offered, due_at(offered), round.stale_every);
                offered += 1;
            }
            self.resend(now);
            let mut worked = false;
            for index in 0..SOCKETS {
                worked |= self.receive(index, &mut inbox);
            }
            if !worked {
                let next = if offered < round.count { due_at(offered) } else { now + PAUSE_MAX };
                let wait = next.saturating_duration_since(Instant::now()).min(PAUSE_MAX);
                let descriptors: [_; SOCKETS] =
                    std::array::from_fn(|index| self.sockets[index].as_raw_fd());
                await_any(descriptors, wait);
            }
        }
        self.report.elapsed = started.elapsed();
        self.report.answered = Quantiles::from(&self.times);
        Ok(self.report.clone())
    }

    fn offer(&mut self, number: u64, due_at: Instant, stale_every: u64) {
        let index = (number % self.phones.len() as u64) as u32;
        let phone = &mut self.phones[index as usize];
        if phone.waits.is_some() {
            // The phone still waits for the answer before: that refresh never happened.
            *self.report.failed.entry(0).or_default() += 1;
            return;
        }
        if stale_every > 0
            && number % stale_every == stale_every - 1
            && let Some(challenge) = &mut phone.challenge
        {
            OLD_NONCE.clone_into(&mut challenge.nonce);
            phone.nonce_count = 0;
        }
        self.send_register(index, due_at, 0);
    }

    fn send_register(&mut self, index: u32, due_at: Instant, challenges: u32) {
        let user = &self.plan.users[index as usize];
        let phone = &mut self.phones[index as usize];
        phone.cseq += 1;
        phone.nonce_count += 1;
        let request = Register {
            names: &phone.names,
            user,
            domain: &self.domain,
            call_id: &phone.call_id,
            cseq: phone.cseq,
            expires_s: self.plan.expires_s,
        };
        let authorization = phone.challenge.as_ref().map(|challenge| {
            let credentials = Credentials {
                username: user,
                password: &self.plan.password,
                cnonce: "10ad",
                nonce_count: phone.nonce_count,
            };
            digest::authorization(challenge, credentials, "REGISTER", &request.uri())
        });
        let text = request.write(authorization.as_deref());
        let now = Instant::now();
        send(&self.sockets[index as usize % SOCKETS], &text, self.plan.gateway);
        self.resends.push(Reverse((now + T1, index, phone.cseq)));
        phone.waits = Some(Waiting { due_at, sent_at: now, wait: T1, text, challenges });
    }

    fn resend(&mut self, now: Instant) {
        while let Some(&Reverse((at, index, cseq))) = self.resends.peek() {
            if at > now {
                return;
            }
            self.resends.pop();
            let phone = &mut self.phones[index as usize];
            let Some(waits) = phone.waits.as_mut().filter(|_| phone.cseq == cseq) else { continue };
            if now - waits.sent_at >= GIVE_UP {
                phone.waits = None;
                *self.report.failed.entry(0).or_default() += 1;
                continue;
            }
            waits.wait = (2 * waits.wait).min(T2);
            self.resends.push(Reverse((now + waits.wait, index, cseq)));
            self.report.resent += 1;
            send(&self.sockets[index as usize % SOCKETS], &waits.text, self.plan.gateway);
        }
    }

    fn receive(&mut self, socket: usize, inbox: &mut Inbox) -> bool {
        let count = inbox.fill(&self.sockets[socket]);
        for at in 0..count {
            let arrival = inbox.arrival(at);
            if let Some(raw) = Raw::read(arrival.bytes) {
                self.got(&raw);
            }
        }
        count > 0
    }

    fn got(&mut self, raw: &Raw<'_>) {
        let Some((run, index)) = raw.call_id.split_once('.') else { return };
        let (run, index) = (u32::from_str_radix(run, 16), index.parse::<u32>());
        let (Ok(run), Ok(index), Some(status)) = (run, index, raw.status()) else { return };
        let Some(phone) = self.phones.get_mut(index as usize) else { return };
        let current = raw.cseq.strip_suffix(" REGISTER").and_then(|cseq| cseq.parse().ok());
        if run != self.run || current != Some(phone.cseq) || status < 200 {
            return;
        }
        let Some(waits) = phone.waits.take() else { return };
        match (status, Challenge::parse(raw.challenge)) {
            (200, _) => {
                self.report.done += 1;
                self.times.saturating_record((waits.due_at.elapsed().as_micros() as u64).max(1));
            }
            (401, Some(challenge)) if waits.challenges == 0 => {
                self.report.challenged += 1;
                self.report.stale += u64::from(challenge.stale);
                phone.challenge = Some(challenge);
                phone.nonce_count = 0;
                self.send_register(index, waits.due_at, 1);
            }
            _ => *self.report.failed.entry(status).or_default() += 1,
        }
    }
}

/// What the kernel refuses is a lost datagram: the resend makes up for it.
fn send(socket: &UdpSocket, text: &str, to: SocketAddrV4) {
    let _ = socket.send_to(text.as_bytes(), to);
}
