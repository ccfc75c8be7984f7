//! The SIP side of a load: caller and callee in one thread, calls at a steady rate.
//! Owns:  the state of every call of both sides, resends, the pacing.
//! Gives: `Report`; starts and stops the RTP of a call by orders to the RTP thread.
//! Never: more than one call per slot at a time.
//! Holds: RTP stops 150 ms before the BYE, so that no packet is on its way when the relay closes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shared::time::WallMs;

use super::batch::{Inbox, Outbox, await_any, pin};
use super::lines::{Bundle, Lines};
use super::raw::{Raw, Refusal};
use super::register::Names;
use super::streams::{Order, Streams};
use super::wording::{NUMBER, SLOT, Wording};
use super::{Ends, Heard, HeardEvent, Plan, Quantiles, Report, Sdp, Times, times};
use crate::digest::{self, Challenge, Credentials};
use crate::sdp::{self, Direction};

/// RFC 3261 17.1.1.1.
const T1: Duration = Duration::from_millis(500);
const GIVE_UP: Duration = Duration::from_secs(32);
/// Between the last RTP packet and the BYE.
const SETTLE: Duration = Duration::from_millis(150);
/// The longest pause between two looks at what is due.
const PAUSE_MAX: Duration = Duration::from_millis(1);

/// Live numbers of a running load.
#[derive(Debug, Default)]
pub struct Progress {
    pub offered: AtomicU64,
    /// Answered and not yet hung up.
    pub talking: AtomicU64,
    /// Answered and failed together.
    pub decided: AtomicU64,
    /// Hung up with an answered BYE.
    pub completed: AtomicU64,
    pub over: AtomicU64,
    pub rtp_sent: AtomicU64,
    pub rtp_received: AtomicU64,
    /// Set it to offer no further calls, whatever the plan says.
    pub enough: AtomicBool,
    /// Set it to hang up every standing call now.
    pub hang_up: AtomicBool,
    /// Set it to start the latency figures afresh.
    pub restart_latency: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Inviting,
    Proceeding,
    Talking,
    /// RTP has stopped, the BYE follows.
    Settling,
    Leaving,
}

#[derive(Debug)]
struct Call {
    phase: Phase,
    number: u32,
    invited_at: Instant,
    bye_at: Instant,
    cseq: u32,
    authorized: bool,
    /// The message that is sent again until it is answered.
    pending: String,
    wait: Duration,
    to: String,
    target: String,
}

/// Where a message to the callee's side came from, and its answer goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Datagram(SocketAddrV4),
    Line(u32),
}

#[derive(Debug)]
struct Answered {
    slot: u32,
    ok: String,
    acknowledged: bool,
    wait: Duration,
    from: Way,
    media_to: Option<SocketAddrV4>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Resend { slot: u32, number: u32 },
    GiveUp { slot: u32, number: u32 },
    Settle { slot: u32, number: u32 },
    HangUp { slot: u32, number: u32 },
    Answer { number: u64 },
    ResendAnswer { number: u64 },
}

struct Agent {
    plan: Plan,
    ends: Ends,
    caller: SocketAddr,
    callee: SocketAddr,
    /// The caller's own, where there are no lines.
    names: Names,
    lines: Option<Bundle>,
    /// Datagrams of this turn, of the caller's side and of the callee's.
    outgoing: [Outbox; 2],
    wording: Option<Wording>,
    run: u64,
    started: Instant,
    calls: Vec<Call>,
    free: VecDeque<u32>,
    answered: HashMap<u64, Answered>,
    answers: HashMap<String, u64>,
    next_answer: u64,
    due: BinaryHeap<Reverse<(Instant, Due)>>,
    orders: Option<Sender<Order>>,
    report: Report,
    set_up: Times,
    tear_down: Times,
    late: Times,
    progress: Arc<Progress>,
}

pub(super) fn run(plan: Plan, ends: Ends, progress: &Arc<Progress>) -> io::Result<Report> {
    if let Some(cpu) = plan.cpu {
        pin(cpu)?;
    }
    if plan.media && plan.lines.is_some() {
        return Err(io::Error::other("RTP is for calls over UDP alone"));
    }
    let slots = plan.calls.min(20_000) as usize;
    let (mut orders, mut media) = (None, None);
    if plan.media {
        let (send, receive) = channel();
        let sockets = [ends.caller_media.try_clone()?, ends.callee_media.try_clone()?];
        let (progress, cpu) = (Arc::clone(progress), plan.cpu);
        let thread = std::thread::Builder::new()
            .name("load-rtp".to_owned())
            .spawn(move || Streams::new(sockets, slots).run(&receive, &progress, cpu))?;
        (orders, media) = (Some(send), Some(thread));
    }
    let shared_lines = plan.lines.clone();
    let mut agent = Agent::new(plan, ends, slots, orders, Arc::clone(progress))?;
    agent.wording = agent.lines.is_none().then(|| agent.model());
    agent.drive()?;
    agent.orders = None;
    if let (Some(shared), Some(lines)) = (shared_lines, agent.lines.take()) {
        shared.give_back(lines);
    }
    let mut report = agent.report;
    report.set_up = Quantiles::from(&agent.set_up);
    report.tear_down = Quantiles::from(&agent.tear_down);
    report.late = Quantiles::from(&agent.late);
    report.elapsed_ms = agent.started.elapsed().as_millis() as u64;
    if let Some(thread) = media {
        let joined = thread.join().map_err(|_| io::Error::other("the RTP thread panicked"))?;
        report.media = Some(joined);
    }
    Ok(report)
}

impl Agent {
    fn new(
        plan: Plan,
        ends: Ends,
        slots: usize,
        orders: Option<Sender<Order>>,
        progress: Arc<Progress>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let idle = || Call {
            phase: Phase::Idle,
            number: 0,
            invited_at: now,
            bye_at: now,
            cseq: 0,
            authorized: false,
            pending: String::new(),
            wait: T1,
            to: String::new(),
            target: String::new(),
        };
        let caller = ends.caller.local_addr()?;
        let user = plan.credentials.as_ref().map_or("load", |(user, _)| user.as_str());
        Ok(Self {
            caller,
            names: Names::of_datagrams(user, caller),
            lines: plan.lines.as_ref().map(Lines::take).transpose()?,
            callee: ends.callee.local_addr()?,
            outgoing: [Outbox::default(), Outbox::default()],
            plan,
            ends,
            wording: None,
            run: rand::random::<u64>() >> 32,
            started: now,
            calls: (0..slots).map(|_| idle()).collect(),
            free: (0..slots as u32).collect(),
            answered: HashMap::new(),
            answers: HashMap::new(),
            next_answer: 0,
            due: BinaryHeap::new(),
            orders,
            report: Report::default(),
            set_up: times(),
            tear_down: times(),
            late: times(),
            progress,
        })
    }

    fn drive(&mut self) -> io::Result<()> {
        let mut inbox = Inbox::default();
        let slack = self.plan.hold.max(self.plan.hold_until) + 2 * GIVE_UP;
        let mut give_up_at = self.started
            + Duration::from_secs_f64(f64::from(self.plan.calls) / self.plan.rate)
            + slack;
        let mut wanted = u64::from(self.plan.calls);
        while self.progress.over.load(Ordering::Relaxed) < wanted {
            let now = Instant::now();
            if self.progress.enough.load(Ordering::Relaxed) && wanted != self.report.offered {
                wanted = self.report.offered;
                give_up_at = give_up_at.min(now + slack);
            }
            if now > give_up_at {
                let open = self.calls.iter().filter(|call| call.phase != Phase::Idle).count();
                return Err(io::Error::other(format!("{open} calls never ended")));
            }
            self.offer(now, wanted);
            if self.progress.hang_up.swap(false, Ordering::Relaxed) {
                self.hang_up_all(now);
            }
            self.work_due(now);
            let worked = if self.lines.is_some() {
                self.receive_lines()?
            } else {
                // Both sides are looked at in every turn.
                self.receive(&mut inbox, true) | self.receive(&mut inbox, false)
            };
            self.flush();
            if !worked {
                self.pause(wanted);
            }
        }
        Ok(())
    }

    /// What the kernel refuses is a lost datagram: the resend makes up for it.
    fn flush(&mut self) {
        let [of_caller, of_callee] = &mut self.outgoing;
        of_caller.flush(&self.ends.caller);
        of_callee.flush(&self.ends.callee);
    }

    /// Until something comes, a call is due to be offered, or a little while is over.
    fn pause(&self, wanted: u64) {
        let offers = self.report.offered < wanted && !self.free.is_empty();
        let next = if offers { self.next_offer_at() - self.started } else { Duration::MAX };
        let wait = next.saturating_sub(self.started.elapsed()).min(PAUSE_MAX);
        match &self.lines {
            Some(lines) => await_any([lines.as_raw_fd()], wait),
            None => await_any([self.ends.caller.as_raw_fd(), self.ends.callee.as_raw_fd()], wait),
        }
    }

    /// When the next call is due, whatever became of the ones before.
    fn next_offer_at(&self) -> Instant {
        self.started + Duration::from_secs_f64(self.report.offered as f64 / self.plan.rate)
    }

    fn hang_up_all(&mut self, now: Instant) {
        let standing = (0..).zip(&self.calls).filter(|(_, call)| call.phase == Phase::Talking);
        let due = standing.map(|(slot, call)| Due::Settle { slot, number: call.number });
        self.due.extend(due.map(|due| Reverse((now, due))));
    }

    fn offer(&mut self, now: Instant, wanted: u64) {
        while self.report.offered < wanted && self.next_offer_at() <= now {
            let due_at = self.next_offer_at();
            let Some(slot) = self.free.pop_front() else { return };
            self.late.saturating_record(((now - due_at).as_micros() as u64).max(1));
            self.report.offered += 1;
            self.progress.offered.store(self.report.offered, Ordering::Relaxed);
            let standing = (self.calls.len() - self.free.len()) as u64;
            self.report.concurrent_max = self.report.concurrent_max.max(standing);
            let call = &mut self.calls[slot as usize];
            call.number += 1;
            call.phase = Phase::Inviting;
            call.cseq = 1;
            call.authorized = false;
            call.invited_at = due_at;
            call.wait = T1;
            let invite = self.first_invite(slot);
            self.send_pending(slot, invite, now);
        }
    }

    fn first_invite(&mut self, slot: u32) -> String {
        let Some(wording) = &self.wording else { return self.invite(slot, None) };
        let call = &mut self.calls[slot as usize];
        let mut text = std::mem::take(&mut call.pending);
        wording.write(&mut text, slot, call.number);
        debug_assert_eq!(text, self.invite(slot, None));
        text
    }

    /// The first INVITE of every call over UDP.
    fn model(&self) -> Wording {
        let (run, Names { via, contact }) = (self.run, &self.names);
        let host = self.plan.dial.unwrap_or(self.callee);
        let user = self.plan.credentials.as_ref().map_or("load", |(user, _)| user.as_str());
        let sdp = self.sdp(self.ends.caller_media.local_addr().unwrap_or(self.caller));
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        Wording::new(&format!(
            "INVITE sip:c{SLOT}@{host} SIP/2.0\r\n\
             Via: {via};branch=z9hG4bK{run:x}.{SLOT}.{NUMBER}.1I;rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@{}>;tag={SLOT}.{NUMBER}\r\nTo: <sip:c{SLOT}@{host}>\r\n\
             Call-ID: {run:x}.{SLOT}.{NUMBER}\r\nCSeq: 1 INVITE\r\nContact: {contact}\r\n\
             {kind}Content-Length: {}\r\n\r\n{sdp}",
            self.plan.gateway.ip(),
            sdp.len()
        ))
    }

    fn invite(&self, slot: u32, authorization: Option<&str>) -> String {
        let media = self.ends.caller_media.local_addr().unwrap_or(self.caller);
        self.request("INVITE", slot, authorization, &self.sdp(media))
    }

    fn sdp(&self, media: SocketAddr) -> String {
        match self.plan.sdp {
            Sdp::Audio => sdp::write("load", media, 1, Direction::SendRecv),
            Sdp::Refused => {
                sdp::write("load", SocketAddr::new(media.ip(), 0), 1, Direction::SendRecv)
            }
            Sdp::None => String::new(),
        }
    }

    /// Who is called: one of the registered phones where there are lines.
    fn dialled(&self, slot: u32) -> String {
        let number = self.lines.as_ref().map_or(slot, |lines| lines.number_of(slot));
        format!("sip:c{number}@{}", self.plan.dial.unwrap_or(self.callee))
    }

    fn names_of(&self, slot: u32) -> &Names {
        self.lines.as_ref().map_or(&self.names, |lines| lines.names(lines.caller(slot)))
    }

    fn request(&self, method: &str, slot: u32, authorization: Option<&str>, sdp: &str) -> String {
        let call = &self.calls[slot as usize];
        let run = self.run;
        let Names { via, contact } = self.names_of(slot);
        let first = self.dialled(slot);
        let target = if call.target.is_empty() { &first } else { &call.target };
        let to = if call.to.is_empty() { format!("<{first}>") } else { call.to.clone() };
        let user = self.plan.credentials.as_ref().map_or("load", |(user, _)| user.as_str());
        let (number, cseq) = (call.number, call.cseq);
        let branch = format!("z9hG4bK{run:x}.{slot}.{number}.{cseq}{}", &method[..1]);
        let mut text = format!(
            "{method} {target} SIP/2.0\r\nVia: {via};branch={branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{}>;tag={slot}.{number}\r\nTo: {to}\r\n\
             Call-ID: {run:x}.{slot}.{number}\r\nCSeq: {cseq} {method}\r\n",
            self.plan.gateway.ip()
        );
        if let Some(value) = authorization {
            text.push_str(&format!("Proxy-Authorization: {value}\r\n"));
        }
        if method == "INVITE" {
            text.push_str(&format!("Contact: {contact}\r\n"));
        }
        if !sdp.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{sdp}", sdp.len()));
        text
    }

    fn send_pending(&mut self, slot: u32, message: String, now: Instant) {
        self.send_caller(slot, &message);
        let call = &mut self.calls[slot as usize];
        call.pending = message;
        call.wait = T1;
        self.due.push(Reverse((now + T1, Due::Resend { slot, number: call.number })));
    }

    fn send_caller(&mut self, slot: u32, text: &str) {
        match &mut self.lines {
            Some(lines) => lines.send(lines.caller(slot), text),
            None => {
                self.outgoing[0].send(&self.ends.caller, self.plan.gateway, text.as_bytes());
            }
        }
    }

    fn work_due(&mut self, now: Instant) {
        while let Some(Reverse((at, due))) = self.due.peek().copied() {
            if at > now {
                return;
            }
            self.due.pop();
            match due {
                Due::Resend { slot, number } => self.resend(slot, number, now),
                Due::GiveUp { slot, number } => {
                    let phase = self.calls[slot as usize].phase;
                    let waiting = matches!(phase, Phase::Inviting | Phase::Proceeding);
                    if waiting && self.calls[slot as usize].number == number {
                        self.fail(slot, 0);
                    }
                }
                Due::Settle { slot, number } if self.is(slot, number, Phase::Talking) => {
                    self.calls[slot as usize].phase = Phase::Settling;
                    self.order(Order::Stop { stream: 2 * slot });
                    self.order(Order::Stop { stream: 2 * slot + 1 });
                    let wait = if self.plan.media { SETTLE } else { Duration::ZERO };
                    self.due.push(Reverse((now + wait, Due::HangUp { slot, number })));
                }
                Due::HangUp { slot, number } if self.is(slot, number, Phase::Settling) => {
                    self.hang_up(slot, now);
                }
                Due::Settle { .. } | Due::HangUp { .. } => {}
                Due::Answer { number } => self.answer(number, now),
                Due::ResendAnswer { number } => self.resend_answer(number, now),
            }
        }
    }

    fn is(&self, slot: u32, number: u32, phase: Phase) -> bool {
        let call = &self.calls[slot as usize];
        call.number == number && call.phase == phase
    }

    fn resend(&mut self, slot: u32, number: u32, now: Instant) {
        let call = &mut self.calls[slot as usize];
        let pending = matches!(call.phase, Phase::Inviting | Phase::Leaving);
        if call.number != number || !pending {
            return;
        }
        let since = if call.phase == Phase::Leaving { call.bye_at } else { call.invited_at };
        if now.saturating_duration_since(since) >= GIVE_UP {
            self.fail(slot, 0);
            return;
        }
        call.wait *= 2;
        let at = (now + call.wait).min(since + GIVE_UP);
        self.due.push(Reverse((at, Due::Resend { slot, number })));
        if self.lines.is_some() {
            return; // a connection loses nothing (RFC 3261 17.1.1.2)
        }
        self.report.resent += 1;
        let text = std::mem::take(&mut self.calls[slot as usize].pending);
        self.send_caller(slot, &text);
        self.calls[slot as usize].pending = text;
    }

    fn hang_up(&mut self, slot: u32, now: Instant) {
        let call = &mut self.calls[slot as usize];
        call.phase = Phase::Leaving;
        call.cseq += 1;
        call.bye_at = now;
        self.tell(slot, HeardEvent::HungUp, None);
        self.progress.talking.fetch_sub(1, Ordering::Relaxed);
        let bye = self.request("BYE", slot, None, "");
        self.send_pending(slot, bye, now);
    }

    /// Who listens may have gone; the load goes on.
    fn tell(&self, slot: u32, event: HeardEvent, status: Option<u16>) {
        let Some(log) = &self.plan.log else { return };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = WallMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        let number = self.calls[slot as usize].number;
        let call_id = format!("{:x}.{slot}.{number}", self.run);
        let _ = log.send(Heard { call_id, at, event, status });
    }

    fn fail(&mut self, slot: u32, status: u16) {
        if self.calls[slot as usize].phase == Phase::Leaving {
            self.tell(slot, HeardEvent::Over, Some(status));
        }
        *self.report.failed.entry(status).or_default() += 1;
        if matches!(self.calls[slot as usize].phase, Phase::Inviting | Phase::Proceeding) {
            self.progress.decided.fetch_add(1, Ordering::Relaxed);
        }
        self.release(slot);
    }

    fn release(&mut self, slot: u32) {
        let call = &mut self.calls[slot as usize];
        call.phase = Phase::Idle;
        call.to.clear();
        call.target.clear();
        // The slot goes to the back of the line, so that late messages find nobody.
        self.free.push_back(slot);
        self.progress.over.fetch_add(1, Ordering::Relaxed);
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // The RTP thread only goes when this sender is dropped.
            let _ = orders.send(order);
        }
    }

    fn receive(&mut self, inbox: &mut Inbox, caller: bool) -> bool {
        let socket: &UdpSocket = if caller { &self.ends.caller } else { &self.ends.callee };
        let count = inbox.fill(socket);
        for index in 0..count {
            let arrival = inbox.arrival(index);
            let from = arrival.from;
            if caller && let Some(refusal) = Refusal::read(arrival.bytes) {
                self.turned_away(&refusal);
                continue;
            }
            let Some(raw) = Raw::read(arrival.bytes) else { continue };
            if caller { self.caller_got(&raw) } else { self.callee_got(&raw, Way::Datagram(from)) }
        }
        count > 0
    }

    fn receive_lines(&mut self) -> io::Result<bool> {
        let mut worked = false;
        if let Some(lines) = &mut self.lines {
            lines.read()?;
        }
        while let Some((line, bytes)) = self.lines.as_mut().and_then(Bundle::next_message) {
            worked = true;
            let Some(raw) = Raw::read(&bytes) else { continue };
            if self.lines.as_ref().is_some_and(|lines| lines.is_caller(line)) {
                self.caller_got(&raw);
            } else {
                self.callee_got(&raw, Way::Line(line));
            }
        }
        Ok(worked)
    }

    fn caller_got(&mut self, raw: &Raw<'_>) {
        let Some((slot, number)) = self.slot_of(raw.call_id) else { return };
        let Some(status) = raw.status() else { return };
        if self.calls[slot as usize].number != number {
            return;
        }
        match raw.method() {
            "INVITE" => self.invite_answered(slot, status, raw),
            "BYE" if self.calls[slot as usize].phase == Phase::Leaving && status >= 200 => {
                let since = self.calls[slot as usize].bye_at.elapsed();
                self.tear_down.saturating_record(since.as_micros() as u64);
                if status == 200 {
                    self.tell(slot, HeardEvent::Over, Some(status));
                    self.report.completed += 1;
                    self.progress.completed.fetch_add(1, Ordering::Relaxed);
                    self.release(slot);
                } else {
                    self.fail(slot, status);
                }
            }
            _ => {}
        }
    }

    fn slot_of(&self, call_id: &str) -> Option<(u32, u32)> {
        let mut words = call_id.split('.');
        let run = u64::from_str_radix(words.next()?, 16).ok()?;
        let slot: u32 = words.next()?.parse().ok()?;
        let number = words.next()?.parse().ok()?;
        (run == self.run && (slot as usize) < self.calls.len()).then_some((slot, number))
    }

    fn invite_answered(&mut self, slot: u32, status: u16, raw: &Raw<'_>) {
        let phase = self.calls[slot as usize].phase;
        let waiting = matches!(phase, Phase::Inviting | Phase::Proceeding);
        let current = raw.cseq.starts_with(&format!("{} ", self.calls[slot as usize].cseq));
        match status {
            100..=199 if phase == Phase::Inviting => self.proceeds(slot),
            200 => {
                self.acknowledge(slot, raw);
                if waiting {
                    self.established(slot, raw);
                }
            }
            300.. => {
                self.acknowledge_failure(slot, raw);
                if waiting && current {
                    self.refused(slot, status, raw);
                }
            }
            _ => {}
        }
    }

    /// Nothing is resent any more, so that something else has to end it.
    fn proceeds(&mut self, slot: u32) {
        let call = &mut self.calls[slot as usize];
        call.phase = Phase::Proceeding;
        let (at, number) = (call.invited_at + GIVE_UP, call.number);
        self.due.push(Reverse((at, Due::GiveUp { slot, number })));
    }

    fn established(&mut self, slot: u32, raw: &Raw<'_>) {
        let now = Instant::now();
        let call = &mut self.calls[slot as usize];
        self.set_up.saturating_record((now - call.invited_at).as_micros() as u64);
        call.phase = Phase::Talking;
        let number = call.number;
        self.tell(slot, HeardEvent::Answered, None);
        self.report.answered += 1;
        self.progress.decided.fetch_add(1, Ordering::Relaxed);
        self.progress.talking.fetch_add(1, Ordering::Relaxed);
        let until = (now + self.plan.hold).max(self.started + self.plan.hold_until);
        self.due.push(Reverse((until, Due::Settle { slot, number })));
        if let Some(to) = media_address(raw.body) {
            self.order(Order::Start { stream: 2 * slot, to });
        }
    }

    fn acknowledge(&mut self, slot: u32, raw: &Raw<'_>) {
        let call = &mut self.calls[slot as usize];
        if !matches!(call.phase, Phase::Leaving | Phase::Settling) {
            raw.to.clone_into(&mut call.to);
            crate::message::uri_of(raw.contact).clone_into(&mut call.target);
        }
        let ack = self.request("ACK", slot, None, "");
        self.send_caller(slot, &ack);
    }

    /// Same branch and CSeq as the INVITE (RFC 3261 17.1.1.3).
    fn acknowledge_failure(&mut self, slot: u32, raw: &Raw<'_>) {
        let via = raw.via.first().copied().unwrap_or_default();
        let number = raw.cseq.split(' ').next().unwrap_or("1");
        let ack = format!(
            "ACK {} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {}\r\n\
             To: {}\r\nCall-ID: {}\r\nCSeq: {number} ACK\r\nContent-Length: 0\r\n\r\n",
            self.dialled(slot),
            raw.from,
            raw.to,
            raw.call_id
        );
        self.send_caller(slot, &ack);
    }

    /// A 503 over UDP, of which there may be more than of everything else.
    fn turned_away(&mut self, refusal: &Refusal<'_>) {
        let Some((slot, number)) = self.slot_of(refusal.call_id) else { return };
        let call = &self.calls[slot as usize];
        let cseq = refusal.cseq.parse::<u32>();
        if call.number != number || cseq.is_err() {
            return;
        }
        if self.outgoing[0].is_full() {
            self.outgoing[0].flush(&self.ends.caller);
        }
        let uri = self.plan.dial.unwrap_or(self.callee);
        self.outgoing[0].push(self.plan.gateway, |buffer| refusal.write_ack(buffer, slot, uri));
        let waiting = matches!(call.phase, Phase::Inviting | Phase::Proceeding);
        if waiting && cseq == Ok(call.cseq) {
            self.report.retry_after += u64::from(refusal.retry_after.parse::<u32>().is_ok());
            self.fail(slot, 503);
        }
    }

    fn refused(&mut self, slot: u32, status: u16, raw: &Raw<'_>) {
        if status == 503 && raw.retry_after.parse::<u32>().is_ok() {
            self.report.retry_after += 1;
        }
        let asked = matches!(status, 401 | 407) && !self.calls[slot as usize].authorized;
        let challenge = if asked { Challenge::parse(raw.challenge) } else { None };
        let (Some(challenge), Some((username, password))) = (challenge, &self.plan.credentials)
        else {
            self.fail(slot, status);
            return;
        };
        let credentials = Credentials { username, password, cnonce: "10ad", nonce_count: 1 };
        let uri = self.dialled(slot);
        let value = digest::authorization(&challenge, credentials, "INVITE", &uri);
        let call = &mut self.calls[slot as usize];
        call.cseq += 1;
        call.authorized = true;
        call.phase = Phase::Inviting;
        let invite = self.invite(slot, Some(&value));
        self.send_pending(slot, invite, Instant::now());
    }

    fn callee_got(&mut self, raw: &Raw<'_>, from: Way) {
        let method = raw.start.split(' ').next().unwrap_or_default();
        match method {
            "INVITE" => self.invited(raw, from),
            "ACK" => self.acknowledged(raw),
            "BYE" => {
                let reply = raw.reply("200 OK", "", "", "");
                self.send_callee(&reply, from);
                if let Some(number) = self.answers.remove(raw.call_id) {
                    self.answered.remove(&number);
                }
            }
            "OPTIONS" | "CANCEL" => self.send_callee(&raw.reply("200 OK", "o", "", ""), from),
            _ => {}
        }
    }

    fn send_callee(&mut self, text: &str, to: Way) {
        match (to, &mut self.lines) {
            (Way::Line(line), Some(lines)) => lines.send(line, text),
            (Way::Datagram(to), _) => {
                self.outgoing[1].send(&self.ends.callee, to, text.as_bytes());
            }
            (Way::Line(_), None) => unreachable!("what came by a line came by one of ours"),
        }
    }

    fn invited(&mut self, raw: &Raw<'_>, from: Way) {
        if self.answers.contains_key(raw.call_id) {
            return; // a repeat: the 200 that is resent answers it
        }
        let user = raw.start.split(' ').nth(1).and_then(|uri| uri.strip_prefix("sip:c"));
        let slot = user.and_then(|rest| rest.split('@').next()?.parse().ok());
        let known = |slot: &u32| self.lines.is_some() || (*slot as usize) < self.calls.len();
        let Some(slot) = slot.filter(known) else {
            self.send_callee(&raw.reply("404 Not Found", "n", "", ""), from);
            return;
        };
        let number = self.next_answer;
        self.next_answer += 1;
        let tag = format!("{:x}.{number}", self.run);
        let contact = match (from, &self.lines) {
            (Way::Line(line), Some(lines)) => lines.names(line).contact.clone(),
            _ => format!("<sip:c{slot}@{}>", self.callee),
        };
        self.send_callee(&raw.reply("180 Ringing", &tag, &contact, ""), from);
        let media = self.ends.callee_media.local_addr().unwrap_or(self.callee);
        let ok = raw.reply("200 OK", &tag, &contact, &self.sdp(media));
        let media_to = media_address(raw.body);
        self.answers.insert(raw.call_id.to_owned(), number);
        let one = Answered { slot, ok, acknowledged: false, wait: T1, from, media_to };
        self.answered.insert(number, one);
        let now = Instant::now();
        if self.plan.ring.is_zero() {
            self.answer(number, now);
        } else {
            self.due.push(Reverse((now + self.plan.ring, Due::Answer { number })));
        }
    }

    fn answer(&mut self, number: u64, now: Instant) {
        if let Some((ok, from)) = self.answered.get(&number).map(|one| (one.ok.clone(), one.from)) {
            self.send_callee(&ok, from);
            self.due.push(Reverse((now + T1, Due::ResendAnswer { number })));
        }
    }

    fn resend_answer(&mut self, number: u64, now: Instant) {
        let Some(one) = self.answered.get_mut(&number).filter(|one| !one.acknowledged) else {
            return;
        };
        one.wait = (one.wait * 2).min(Duration::from_secs(4));
        self.report.resent += 1;
        let (at, ok, from) = (now + one.wait, one.ok.clone(), one.from);
        self.due.push(Reverse((at, Due::ResendAnswer { number })));
        self.send_callee(&ok, from);
    }

    fn acknowledged(&mut self, raw: &Raw<'_>) {
        let Some(number) = self.answers.get(raw.call_id) else { return };
        let Some(one) = self.answered.get_mut(number) else { return };
        if std::mem::replace(&mut one.acknowledged, true) {
            return;
        }
        if let Some(to) = one.media_to {
            let stream = 2 * one.slot + 1;
            self.order(Order::Start { stream, to });
        }
    }
}

fn media_address(body: &str) -> Option<SocketAddrV4> {
    match sdp::read_audio(body.as_bytes())?.address {
        SocketAddr::V4(address) if address.port() != 0 => Some(address),
        _ => None,
    }
}
