//! One shard: the core, the relays, the sockets and the ring that serves them all.
//! Owns:  everything of the shard, for as long as its executor runs.
//! Gives: `run`, which returns when the shard was told to stop, or cannot go on.
//! Never: work in here: turns, completions and outputs have a file each.
//! Holds: the ring is gone before the buffers it writes to.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use call::{Core, Input};
use media::relay::Relays;
use rustc_hash::FxHashMap;
use shared::cdr::StreamQuality;
use shared::event::Event;
use shared::ids::{RelayKey, ShardId};
use shared::limits;
use shared::metrics::Counter;
use shared::time::{Instant, Now};

use crate::backlog::Backlog;
use crate::capture::Captures;
use crate::clock::Clock;
use crate::executor::{MEMORY_TRIES, MEMORY_WAIT, Start};
use crate::journal::Journal;
use crate::link::Link;
use crate::mesh::Mesh;
use crate::pace::{Mode, Pace, TICK};
use crate::relay_sockets::RelaySockets;
use crate::ring::buffers::{Group, Shape};
use crate::ring::setup::SetupError;
use crate::ring::{Completion, GROUP_DATAGRAMS, GROUP_MEDIA, GROUP_STREAMS, Ring};
use crate::sip_tcp::SipTcp;
use crate::sip_udp::SipUdp;
use crate::sipflow::SipFlow;

/// Media packets between two looks at the ring: a turn handles 512, so 1 024 never run dry while
/// turns keep up, and 2 MiB stay in the cache.
const MEDIA_BUFFERS: u16 = 1_024;
/// The longest packet, what lies in front of it, and enough to tell that one was longer.
const MEDIA_BUFFER_BYTES: usize = 2_112;
/// SIP datagrams of any length. Untouched pages cost nothing: a usual message touches one. The
/// kernel takes at most 32 at a time from each listener.
const DATAGRAM_BUFFERS: u16 = 128;
const DATAGRAM_BUFFER_BYTES: usize = 65_536 + 128;
const STREAM_BUFFERS: u16 = 64;
const STREAM_BUFFER_BYTES: usize = 16 * 1_024;

/// How long a stopping shard waits for what is still on its way out.
const STOP_WAIT: Duration = Duration::from_secs(2);
/// Turns that closing every socket may take; each ends hundreds of requests.
const CLOSE_TURNS: usize = 256;
/// Between two ways through the executor, each of some ten system calls.
const PASS: Duration = Duration::from_millis(100);
/// Floor of a sleep: a deadline that stays in the past must not spin the CPU.
const SLEEP_MIN: Duration = Duration::from_micros(50);

/// Memory that received bytes lie in, apart from the shell so that both can be borrowed at once.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) datagrams: Group,
    pub(crate) media: Group,
    pub(crate) streams: Group,
}

#[derive(Debug)]
pub(crate) struct Shell {
    // First: it must be gone before anything that its requests point to.
    pub(crate) ring: Ring,
    pub(crate) backlog: Backlog,
    pub(crate) batch: Vec<Completion>,
    /// Whether the kernel rings for completions.
    bell_on: bool,
    pub(crate) captures: Captures,
    pub(crate) clock: Clock,
    pub(crate) core: Core,
    /// Inputs that follow from outputs; the core gets them once its outputs are drained.
    pub(crate) feedback: VecDeque<Input<'static>>,
    pub(crate) journal: Journal,
    /// How long ago the last turn began, when it left work behind: what comes now has waited so long.
    pub(crate) late: Duration,
    pub(crate) link: Arc<Link>,
    pub(crate) mesh: Mesh,
    pub(crate) pace: Pace,
    pub(crate) relays: Relays,
    /// What closed relays have seen, until their capture file is closed too.
    pub(crate) reports: FxHashMap<RelayKey, [StreamQuality; 2]>,
    pub(crate) schedule: Schedule,
    pub(crate) shard: ShardId,
    /// Where messages are kept, if anywhere.
    pub(crate) sipflow: Option<SipFlow>,
    pub(crate) sockets: RelaySockets,
    pub(crate) stop_by: Option<Instant>,
    pub(crate) tcp: SipTcp,
    pub(crate) udp: SipUdp,
    /// Room for what a piece of ciphertext says, empty in between.
    pub(crate) unsealed: Vec<u8>,
}

/// When the work that is not driven by events is next due.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) captures: Instant,
    pub(crate) second: Instant,
    /// The next way through the executor.
    pass: Instant,
    /// The next beat of our own speech, while there is any.
    pub(crate) speech: Instant,
    pub(crate) tick: Instant,
}

impl Pools {
    fn new() -> io::Result<Self> {
        Ok(Self {
            datagrams: Group::new(GROUP_DATAGRAMS, DATAGRAM_BUFFERS, DATAGRAM_BUFFER_BYTES)?,
            media: Group::new(GROUP_MEDIA, MEDIA_BUFFERS, MEDIA_BUFFER_BYTES)?,
            streams: Group::new(GROUP_STREAMS, STREAM_BUFFERS, STREAM_BUFFER_BYTES)?,
        })
    }
}

impl Shell {
    /// To be called inside the executor of the shard.
    pub(crate) fn new(start: Start) -> Result<(Self, Pools), SetupError> {
        let Start { settings, snapshot, mut listeners, mesh, link, clock, .. } = start;
        let (journal, sipflow) = (start.journal, start.sipflow);
        let udp = SipUdp::new(std::mem::take(&mut listeners.udp));
        let mut tcp = SipTcp::new(settings.shard, listeners, start.keys);
        tcp.expect_names(&snapshot.trunks);
        tcp.expect_sources(&snapshot);
        tcp.serve(&settings.web.path);
        let pools = Pools::new().map_err(|error| SetupError::Register("memory", error))?;
        let groups = [&pools.datagrams, &pools.media, &pools.streams];
        let ring = make_ring(&link, &groups)?;
        let now = clock.now();
        let shell = Self {
            ring,
            backlog: Backlog::new(now.mono),
            batch: Vec::new(),
            bell_on: true,
            captures: Captures::new(Arc::clone(&link.bell)),
            clock,
            core: Core::new(now, Arc::clone(&settings), snapshot),
            feedback: VecDeque::new(),
            journal,
            late: Duration::ZERO,
            link,
            mesh,
            pace: Pace::new(now.mono),
            relays: Relays::new(settings.media),
            reports: FxHashMap::default(),
            schedule: Schedule {
                captures: now.mono,
                second: now.mono,
                pass: now.mono,
                speech: now.mono,
                tick: now.mono,
            },
            shard: settings.shard,
            sipflow,
            sockets: RelaySockets::default(),
            stop_by: None,
            tcp,
            udp,
            unsealed: Vec::new(),
        };
        Ok((shell, pools))
    }

    /// Turns until the shard was told to stop and has nothing left to do.
    pub(crate) async fn run(mut self, mut pools: Pools) -> Result<(), String> {
        self.backlog.push(Event::Started(self.shard));
        let mut unfinished: Option<Instant> = None;
        loop {
            let now = self.clock.now();
            self.late = unfinished.map_or(Duration::ZERO, |last| now.mono.since(last));
            let more = self.turn(now, &mut pools).map_err(of_enter)?;
            if self.is_done(now) {
                break;
            }
            unfinished = more.then_some(now.mono);
            if more {
                self.pass().await;
            } else {
                self.rest().await;
            }
        }
        self.leave(&mut pools).map_err(of_enter)?;
        match (self.backlog.len(), self.journal.waiting()) {
            (0, 0) => Ok(()),
            (left, 0) => Err(format!("stopped with {left} events that nobody took")),
            (_, left) => Err(format!("stopped with {left} bytes of the journal not written")),
        }
    }

    /// Sleeps until something is to be done.
    async fn rest(&mut self) {
        let ticking = self.pace.mode() == Mode::Tick;
        if self.bell_on == ticking {
            self.bell_on = !ticking;
            self.ring.set_bell(self.bell_on);
        }
        if ticking {
            // Queues, media and timers are looked at on every tick.
            if let Some(wait) = self.wait_for_tick() {
                std::thread::sleep(wait);
            }
        } else {
            self.link.bell.park();
            // Whoever pushed before `park` may not have rung, so look once more.
            let waiting =
                !self.link.commands.is_empty() || self.mesh.has_incoming() || self.ring.has_work();
            if !waiting {
                // The thread itself sleeps, not glommio's reactor.
                let wait = self.wait();
                self.link.bell.wait(wait);
            }
            self.link.bell.unpark();
        }
        self.pass().await;
    }

    /// Lets the executor go through its rings and its other tasks, which write files, now and then.
    /// Whoever only yields is run again at once: nothing but its interrupting timer, which is off, or
    /// the want of a task that is ready makes the executor look at its rings.
    async fn pass(&mut self) {
        let now = self.clock.now().mono;
        if now >= self.schedule.pass {
            self.schedule.pass = now + PASS;
            glommio::timer::sleep(SLEEP_MIN).await;
        }
    }

    fn wait(&mut self) -> Duration {
        let now = self.clock.now().mono;
        self.wake_at(false, now).since(now).max(SLEEP_MIN)
    }

    /// `None` when the work took longer than a beat: even the shortest sleep would then be time that a
    /// full shard does not have.
    fn wait_for_tick(&mut self) -> Option<Duration> {
        let now = self.clock.now().mono;
        if self.schedule.tick + TICK <= now {
            self.schedule.tick = now;
            return None;
        }
        Some(self.wake_at(true, now).since(now).max(SLEEP_MIN))
    }

    fn wake_at(&mut self, ticking: bool, now: Instant) -> Instant {
        let mut wake_at = self.schedule.second;
        if self.captures.open_count() > 0 {
            // What becomes of files only the executor sees.
            wake_at = wake_at.min(self.schedule.captures).min(self.schedule.pass);
        }
        if !self.core.idle() {
            wake_at = wake_at.min(self.journal.beat_at());
        }
        if let Some(look) = self.journal.look_at(now) {
            wake_at = wake_at.min(look);
        }
        if let Some(due) = self.sipflow.as_ref().and_then(SipFlow::due) {
            wake_at = wake_at.min(due);
        }
        if self.relays.is_speaking() {
            wake_at = wake_at.min(self.schedule.speech);
        }
        if self.has_news() {
            wake_at = wake_at.min(self.backlog.due());
        }
        if let Some(deadline) = self.core.deadline() {
            wake_at = wake_at.min(deadline);
        }
        if ticking {
            // A steady beat: the next tick counts from the last one, not from the end of its work.
            self.schedule.tick = (self.schedule.tick + TICK).max(now);
            wake_at = wake_at.min(self.schedule.tick);
        }
        wake_at
    }

    /// A stopping shard is done when everything is out, or its time is up.
    fn is_done(&self, now: Now) -> bool {
        let Some(stop_by) = self.stop_by else { return false };
        let flushed = self.core.idle()
            && self.feedback.is_empty()
            && self.udp.is_empty()
            && self.tcp.is_flushed()
            && self.captures.open_count() == 0
            && self.journal.is_saved()
            && self.backlog.is_empty();
        flushed || now.mono >= stop_by
    }

    /// The last things that the control plane hears, and the ports free for whoever comes next.
    fn leave(&mut self, pools: &mut Pools) -> io::Result<()> {
        let now = self.clock.now();
        self.udp.close(&mut self.ring);
        self.tcp.close(&mut self.ring);
        for _ in 0..CLOSE_TURNS {
            if !self.turn(now, pools)? && !self.ring.has_work() {
                break;
            }
        }
        self.captures.abandon();
        self.flow(|flow, _| flow.hand_over_all());
        self.take_closed_captures(now);
        self.send_counters();
        self.write_journal(now);
        let last = self.journal.last_news();
        self.backlog.push(last);
        self.backlog.push(Event::Stopped(self.shard));
        self.deliver_now(now.mono);
        Ok(())
    }

    pub(crate) fn stop(&mut self, now: Instant) {
        self.stop_by.get_or_insert(now + STOP_WAIT);
    }

    /// The shard's numbers, as they are now.
    pub(crate) fn send_counters(&mut self) {
        let gauges = [
            (Counter::Flows, self.tcp.open_count()),
            (Counter::Captures, self.captures.open_count()),
            (Counter::EventBacklog, self.backlog.len()),
        ];
        let counters = self.core.counters();
        self.captures.count(counters);
        for (gauge, value) in gauges {
            counters.set(gauge, value as u64);
        }
        let counters = Box::new(counters.clone());
        self.backlog.push(Event::Counters { shard: self.shard, counters });
    }
}

fn of_enter(error: io::Error) -> String {
    format!("io_uring_enter: {error}")
}

/// Memory of a process that just ended is still counted for a moment, so its want is not the end.
fn make_ring(link: &Link, groups: &[&Group]) -> Result<Ring, SetupError> {
    let mut tries = MEMORY_TRIES;
    loop {
        match Ring::new(link.bell.as_fd(), groups) {
            Err(error) if error.is_want_of_memory() && tries > 1 => {
                tries -= 1;
                std::thread::sleep(MEMORY_WAIT);
            }
            outcome => return outcome,
        }
    }
}

const _: () = assert!(MEDIA_BUFFER_BYTES > limits::RTP_PACKET_BYTES_MAX + Shape::Plain.overhead());
const _: () =
    assert!(DATAGRAM_BUFFER_BYTES >= limits::SIP_MESSAGE_BYTES_MAX + Shape::WithControl.overhead());
