//! RTP of a load: many streams over two sockets, each packet numbered and stamped.
//! Owns:  the pacing (every stream every 20 ms, spread over 20 slots of 1 ms) and the counts.
//! Gives: `MediaReport`; live totals through `Progress`.
//! Never: waits for the gateway; a late tick is made up for at once, but not what a stalled host slept.
//! Holds: a stream is known by the number in its payload, so the gateway's ports do not matter.

use std::net::{SocketAddrV4, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use media::rtp::Header;

use super::agent::Progress;
use super::batch::{BATCH, Inbox, Outbox, pin};
use super::{MediaReport, Quantiles, Times, times};
use crate::wait;

/// Slots of 1 ms in a packet time of 20 ms.
const SLOTS: usize = 20;
const TICK: Duration = Duration::from_millis(1);
/// G.711: 12 bytes of header, 160 of payload.
const PACKET_BYTES: usize = 172;
const MAGIC: [u8; 4] = *b"RGLT";
/// What is behind by more than this is left out, or a host that stalls ends in one burst.
const CATCH_UP_MAX: Duration = Duration::from_millis(200);
/// Packets between two readings of the clock while sending.
const STAMP_EVERY: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Stream `2 * slot` is the caller's, the next one the callee's.
    Start {
        stream: u32,
        to: SocketAddrV4,
    },
    Stop {
        stream: u32,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    to: Option<SocketAddrV4>,
    /// Grows with every start, so that late packets of an old call are told apart.
    run: u32,
    ssrc: u32,
    next: u32,
    /// Receiving side: one above the highest number seen, of this run.
    expected: u32,
    heard: bool,
}

pub(super) struct Streams {
    sockets: [UdpSocket; 2],
    streams: Vec<Stream>,
    /// Streams by slot, so that a tick touches only its own.
    slots: Vec<Vec<u32>>,
    outbox: Outbox,
    inboxes: [Inbox; 2],
    report: MediaReport,
    latency: Times,
}

impl Streams {
    pub(super) fn new(sockets: [UdpSocket; 2], calls_max: usize) -> Self {
        Self {
            sockets,
            streams: vec![Stream::default(); calls_max * 2],
            slots: vec![Vec::new(); SLOTS],
            outbox: Outbox::default(),
            inboxes: [Inbox::default(), Inbox::default()],
            report: MediaReport::default(),
            latency: times(),
        }
    }

    /// Runs until the orders end, then waits for packets on their way.
    pub(super) fn run(
        mut self,
        orders: &Receiver<Order>,
        progress: &Progress,
        cpu: Option<usize>,
    ) -> MediaReport {
        if let Some(cpu) = cpu {
            // Unpinned is only less steady, and `calls` prints what it could not do.
            let _ = pin(cpu);
        }
        let started = Instant::now();
        let mut tick: u32 = 0;
        loop {
            loop {
                match orders.try_recv() {
                    Ok(order) => self.obey(order),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.finish(progress),
                }
            }
            let late = started.elapsed().saturating_sub(TICK * tick);
            if late > CATCH_UP_MAX {
                // A phone that slept does not send what it would have said: it goes on.
                tick += u32::try_from(late.as_millis()).unwrap_or(u32::MAX);
            }
            while started.elapsed() >= TICK * tick {
                self.send_slot(tick as usize % SLOTS);
                tick += 1;
            }
            self.receive(progress);
            if progress.restart_latency.swap(false, Ordering::Relaxed) {
                self.latency.reset();
            }
            wait::pause((TICK * tick).saturating_sub(started.elapsed()));
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Start { stream, to } => {
                let one = &mut self.streams[stream as usize];
                *one = Stream {
                    to: Some(to),
                    run: one.run + 1,
                    ssrc: rand::random(),
                    ..Stream::default()
                };
                // Both directions of a call, and neighbours, fall into different slots.
                self.slots[(stream as usize * 7) % SLOTS].push(stream);
            }
            Order::Stop { stream } => {
                self.streams[stream as usize].to = None;
                self.slots[(stream as usize * 7) % SLOTS].retain(|one| *one != stream);
            }
        }
    }

    fn send_slot(&mut self, slot: usize) {
        let mut stamp = [0; 8];
        // Caller streams leave by one socket, callee streams by the other.
        for side in 0..2u32 {
            let mut until_stamp = 0;
            for at in 0..self.slots[slot].len() {
                let index = self.slots[slot][at];
                if index % 2 != side {
                    continue;
                }
                if until_stamp == 0 {
                    self.outbox.flush(&self.sockets[side as usize]);
                    stamp = wall_ns().to_be_bytes();
                    until_stamp = STAMP_EVERY.min(BATCH);
                }
                until_stamp -= 1;
                self.send_one(index, stamp);
            }
            self.outbox.flush(&self.sockets[side as usize]);
        }
    }

    fn send_one(&mut self, index: u32, stamp: [u8; 8]) {
        let stream = &mut self.streams[index as usize];
        let Some(to) = stream.to else { return };
        let number = stream.next;
        stream.next += 1;
        let header = Header {
            marker: number == 0,
            payload_type: 0,
            sequence: number as u16,
            timestamp: number.wrapping_mul(160),
            ssrc: stream.ssrc,
        };
        let run = stream.run;
        self.outbox.push(to, |buffer| {
            buffer[..12].copy_from_slice(&header.to_bytes());
            buffer[12..16].copy_from_slice(&MAGIC);
            buffer[16..20].copy_from_slice(&index.to_be_bytes());
            buffer[20..24].copy_from_slice(&run.to_be_bytes());
            buffer[24..28].copy_from_slice(&number.to_be_bytes());
            buffer[28..36].copy_from_slice(&stamp);
            buffer[36..PACKET_BYTES].fill(0xff);
            PACKET_BYTES
        });
        self.report.sent += 1;
    }

    fn receive(&mut self, progress: &Progress) {
        for side in 0..2 {
            loop {
                let count = self.inboxes[side].fill(&self.sockets[side]);
                for index in 0..count {
                    let arrival = self.inboxes[side].arrival(index);
                    let (bytes, at_ns) = (arrival.bytes, arrival.at_ns);
                    let Some(mark) = Mark::read(bytes) else { continue };
                    self.report.received += 1;
                    // A wall clock that steps back would give a negative time: not recorded.
                    if let Some(late) = at_ns.checked_sub(mark.sent_ns) {
                        self.latency.saturating_record((late / 1_000).max(1));
                    }
                    note(&mut self.streams, &mut self.report, mark);
                }
                if count < BATCH {
                    break;
                }
            }
        }
        progress.rtp_sent.store(self.report.sent, Ordering::Relaxed);
        progress.rtp_received.store(self.report.received, Ordering::Relaxed);
    }

    fn finish(mut self, progress: &Progress) -> MediaReport {
        let quiet_after = Duration::from_millis(300);
        let mut last = (self.report.received, Instant::now());
        while last.1.elapsed() < quiet_after {
            self.receive(progress);
            if self.report.received != last.0 {
                last = (self.report.received, Instant::now());
            }
            wait::pause(TICK);
        }
        let mut report = self.report;
        report.own_overflow = self.inboxes.iter().map(|inbox| u64::from(inbox.overflowed)).sum();
        report.own_refused = self.outbox.refused;
        let arrived = report.received - report.repeated;
        let missing = report.sent.saturating_sub(arrived);
        report.lost = missing.saturating_sub(report.own_overflow + report.own_refused);
        report.latency = Quantiles::from(&self.latency);
        report
    }
}

/// What a packet of ours says about itself.
#[derive(Clone, Copy)]
struct Mark {
    stream: u32,
    run: u32,
    number: u32,
    sent_ns: u64,
}

impl Mark {
    fn read(bytes: &[u8]) -> Option<Self> {
        let fields = bytes.get(12..36)?.strip_prefix(&MAGIC)?;
        let word = |at: usize| {
            fields[at..at + 4].iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte))
        };
        let sent_ns = u64::from(word(12)) << 32 | u64::from(word(16));
        Some(Self { stream: word(0), run: word(4), number: word(8), sent_ns })
    }
}

/// Counts one arrival. Packets of an earlier run of the stream count as received, no more.
fn note(streams: &mut [Stream], report: &mut MediaReport, mark: Mark) {
    let Some(stream) = streams.get_mut(mark.stream as usize).filter(|one| one.run == mark.run)
    else {
        return;
    };
    if !stream.heard {
        stream.heard = true;
        report.lost_before_first += u64::from(mark.number);
        stream.expected = mark.number + 1;
    } else if mark.number >= stream.expected {
        stream.expected = mark.number + 1;
    } else if mark.number + 1 == stream.expected {
        report.repeated += 1;
    } else {
        report.reordered += 1;
    }
}

fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}
