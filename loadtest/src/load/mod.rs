//! The load generator: calls from one side of the gateway to the other, with or without RTP.
//! Owns:  one SIP thread (caller and callee), one RTP thread with one socket per side.
//!        The SIP goes over one socket per side, or over the long-lived connections of many phones.
//! Gives: a `Report`: what was offered, answered, failed; set-up times; packets lost and late.
//! Never: the gateway's code; its messages are text, its packets carry their own number and time.
//! Holds: every INVITE that is sent is counted once as answered or failed. Calls come at their times,
//!        however slow the answers are, and a set-up time begins when the call was due.

pub mod batch;
pub mod lines;
pub mod raw;
pub mod registrants;

mod agent;
mod line;
mod register;
mod streams;
mod wording;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use shared::time::WallMs;

pub use agent::Progress;
use lines::Lines;

/// What SDP the calls carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdp {
    /// One audio line with our media port.
    Audio,
    /// One audio line with port 0: SDP is read and written, but no media is set up.
    Refused,
    /// No body at all.
    None,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub gateway: SocketAddrV4,
    /// INVITEs per second.
    pub rate: f64,
    pub calls: u32,
    /// From the 200 until the caller hangs up.
    pub hold: Duration,
    /// All calls are held at least until this long after the start.
    pub hold_until: Duration,
    pub sdp: Sdp,
    /// Send RTP both ways, 50 packets a second each.
    pub media: bool,
    /// The callee rings this long.
    pub ring: Duration,
    /// Whose numbers are dialled: the gateway's, for its rules to find the way. Without one the
    /// callee's own address is called.
    pub dial: Option<SocketAddr>,
    /// The connections that the calls go over; without them they go over UDP. RTP does not flow then.
    pub lines: Option<Lines>,
    /// The CPU for both threads.
    pub cpu: Option<usize>,
    /// User and password, where calls need credentials.
    pub credentials: Option<(String, String)>,
    /// Who is told what the caller hears, call by call.
    pub log: Option<std::sync::mpsc::Sender<Heard>>,
}

/// What the caller heard of one call, and when by the wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heard {
    pub call_id: String,
    pub at: WallMs,
    pub event: HeardEvent,
    /// Of the answer to our BYE; 0 when none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeardEvent {
    /// The 200 to the INVITE came.
    Answered,
    /// Our BYE left.
    HungUp,
    /// The BYE was answered, or given up.
    Over,
}

impl Plan {
    pub fn new(gateway: SocketAddrV4) -> Self {
        Self {
            gateway,
            rate: 50.0,
            calls: 500,
            hold: Duration::from_millis(200),
            hold_until: Duration::ZERO,
            sdp: Sdp::Audio,
            media: false,
            ring: Duration::ZERO,
            dial: None,
            lines: None,
            cpu: None,
            credentials: None,
            log: None,
        }
    }
}

/// The sockets of both sides. They exist before the gateway starts, because its configuration
/// names the callee's address as a trunk.
#[derive(Debug)]
pub struct Ends {
    pub caller: UdpSocket,
    pub callee: UdpSocket,
    pub caller_media: UdpSocket,
    pub callee_media: UdpSocket,
}

impl Ends {
    pub fn bind(ip: std::net::Ipv4Addr) -> io::Result<Self> {
        let bind = || batch::socket(SocketAddr::from((ip, 0)));
        Ok(Self { caller: bind()?, callee: bind()?, caller_media: bind()?, callee_media: bind()? })
    }

    /// The same sockets once more, for one load after the other.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            caller: self.caller.try_clone()?,
            callee: self.callee.try_clone()?,
            caller_media: self.caller_media.try_clone()?,
            callee_media: self.callee_media.try_clone()?,
        })
    }

    /// Where the callee listens: the trunk's destination.
    pub fn callee_address(&self) -> SocketAddr {
        self.callee.local_addr().expect("a bound socket has an address")
    }
}

/// Times in microseconds, three significant digits.
pub type Times = Histogram<u64>;

pub fn times() -> Times {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds in order, precision up to 5")
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

impl From<&Times> for Quantiles {
    fn from(times: &Times) -> Self {
        let at = |quantile| times.value_at_quantile(quantile);
        Self {
            count: times.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            max_us: times.max(),
        }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1_000.0;
        write!(
            f,
            "p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms (n={})",
            ms(self.p50_us),
            ms(self.p90_us),
            ms(self.p99_us),
            ms(self.max_us),
            self.count
        )
    }
}

/// RTP as the generator sees it: what it sent against what came back out of the gateway.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MediaReport {
    pub sent: u64,
    pub received: u64,
    /// Sent and never received, less what our own sockets lost.
    pub lost: u64,
    /// Of `lost`: before the first packet of a stream came through.
    pub lost_before_first: u64,
    pub repeated: u64,
    pub reordered: u64,
    /// Packets lost in our own receive buffers, by the kernel's count: not the gateway's fault.
    pub own_overflow: u64,
    /// Packets that the kernel did not take from us.
    pub own_refused: u64,
    pub latency: Quantiles,
}

impl fmt::Display for MediaReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sent {}, received {}, lost {} ({} before the first of a stream), repeated {}, \
             reordered {}, lost by the generator itself {}; latency {}",
            self.sent,
            self.received,
            self.lost,
            self.lost_before_first,
            self.repeated,
            self.reordered,
            self.own_overflow + self.own_refused,
            self.latency
        )
    }
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub offered: u64,
    pub answered: u64,
    /// Calls that were answered and ended by an answered BYE.
    pub completed: u64,
    /// By status; 0 stands for no answer at all.
    pub failed: BTreeMap<u16, u64>,
    /// Of those with 503: how many were told when to come back.
    pub retry_after: u64,
    pub resent: u64,
    pub concurrent_max: u64,
    pub elapsed_ms: u64,
    /// From the time at which the first INVITE was due to the 200.
    pub set_up: Quantiles,
    /// By how much INVITEs left later than they were due: the generator's own delay.
    pub late: Quantiles,
    /// From the BYE to its 200.
    pub tear_down: Quantiles,
    pub media: Option<MediaReport>,
}

impl Report {
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  calls offered {}, answered {}, completed {}, failed {:?}, at once at most {}, \
             messages resent {}, {:.1} s",
            self.offered,
            self.answered,
            self.completed,
            self.failed,
            self.concurrent_max,
            self.resent,
            self.elapsed_ms as f64 / 1_000.0
        )?;
        writeln!(f, "  INVITE to 200: {}", self.set_up)?;
        write!(f, "  BYE to 200: {}", self.tear_down)?;
        if let Some(media) = &self.media {
            write!(f, "\n  RTP: {media}")?;
        }
        Ok(())
    }
}

/// A running load. `Progress` can be watched while it runs.
#[derive(Debug)]
pub struct Load {
    pub progress: std::sync::Arc<Progress>,
    thread: std::thread::JoinHandle<io::Result<Report>>,
}

impl Load {
    pub fn start(plan: Plan, ends: Ends) -> io::Result<Self> {
        let progress = std::sync::Arc::new(Progress::default());
        let watched = std::sync::Arc::clone(&progress);
        let thread = std::thread::Builder::new()
            .name("load-sip".to_owned())
            .spawn(move || agent::run(plan, ends, &watched))?;
        Ok(Self { progress, thread })
    }

    /// Waits for the last call and gives the report.
    pub fn finish(self) -> io::Result<Report> {
        self.thread.join().map_err(|_| io::Error::other("the load generator panicked"))?
    }
}

/// Runs a plan to its end.
pub fn run(plan: Plan, ends: Ends) -> io::Result<Report> {
    Load::start(plan, ends)?.finish()
}
