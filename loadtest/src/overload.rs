//! More calls than a gateway can carry: what becomes of those that it takes (issue 4, must show 7).
//! Owns:  one gateway, a ramp that finds its capacity and a minute that confirms it, calls beyond it,
//!        standing calls with RTP beside.
//! Gives: a `Phase` for each load that was offered, and the verdict on it.
//! Never: waits for an answer before it offers the next call; measures the limits per source: nothing
//!        of `dos_*` is on by default, and a source on this host is never banned.
//! Holds: standing calls and their RTP are there during the ramp, too, so that every load is compared
//!        with a capacity that was found beside the same work, and that was held for longer than the
//!        transactions of its first calls linger. A generator whose CPU was full is named.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::gateway::{Gateway, Plan as GatewayPlan};
use crate::host::{self, Busy};
use crate::load::{Ends, Load, MediaReport, Plan, Report, Sdp};
use crate::process::Usage;
use crate::quiet::DRAIN;
use crate::wait;

/// Until a load is steady: waits have to be long for 100 ms before anybody is refused.
const STEADY: Duration = Duration::from_secs(2);
/// Of a second: a load that is carried refuses no more.
const REFUSED_MOST: f64 = 0.005;
/// From one step of the ramp to the next.
const STEP_UP: f64 = 1.25;
/// Steps between the last rate that was carried and the first that was not.
const REFINEMENTS: u32 = 3;
const RATE_MAX: f64 = 50_000.0;
/// What the ramp found is held for a minute. A rate that is not carried for so long is lowered.
const STEP_DOWN: f64 = 0.96;
const CONFIRMATIONS: u32 = 6;
/// A generator that used more of its CPU may have been the limit itself.
const GENERATOR_FULL: f64 = 0.95;
/// So is one whose calls left so much later than they were due.
const LATE_MOST: Duration = Duration::from_millis(50);
const SET_UP_P99_MS: f64 = 500.0;
/// Beside the gateway's own metrics.
const DROPPED: &str = "udp_drops";
/// Shards tell their numbers once a second.
const TOLD: Duration = Duration::from_millis(1_500);
const STANDING_RATE: f64 = 50.0;
const STANDING_TRIES: u32 = 3;

#[derive(Clone, Debug)]
pub struct OverloadPlan {
    /// Calls per second where the ramp begins.
    pub first_rate: f64,
    /// Length of one step of the ramp.
    pub step: Duration,
    /// How long the rate that the ramp found has to be carried to be the capacity: longer than the 32 s
    /// for which a call's transactions linger.
    pub confirm: Duration,
    /// Known already: there is no ramp then.
    pub capacity: Option<f64>,
    /// Times the capacity, and the part of the capacity that has to be carried then.
    pub loads: Vec<(f64, f64)>,
    /// How long each is offered.
    pub hold: Duration,
    /// From the 200 to the BYE.
    pub talk: Duration,
    pub standing: u32,
    /// CPU of the one shard.
    pub shard_cpu: usize,
    /// `None`: wherever there is room, and whether it was full is not looked at.
    pub generator_cpu: Option<usize>,
}

impl Default for OverloadPlan {
    fn default() -> Self {
        Self {
            first_rate: 500.0,
            step: Duration::from_secs(6),
            confirm: Duration::from_secs(60),
            capacity: None,
            loads: vec![(1.0, 0.0), (2.0, 0.9), (5.0, 0.8)],
            hold: Duration::from_secs(30),
            talk: Duration::from_millis(200),
            standing: 100,
            shard_cpu: 0,
            generator_cpu: Some(1),
        }
    }
}

/// What was offered for a while, and what became of it.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Calls per second: wanted, and offered from when it was steady to the end.
    pub rate: f64,
    pub offered: f64,
    /// Calls completed per second in the same time.
    pub goodput: f64,
    pub report: Report,
    /// Shares of a CPU: of the shard; of generator and control plane, which share the other.
    pub shard_busy: f64,
    pub generator_busy: f64,
    pub control_busy: f64,
    /// Of the generator's CPU, all processes included.
    pub generator_cpu_busy: Option<f64>,
    pub rss_bytes: u64,
    /// What the gateway counted from the beginning of the load to its end.
    pub counted: Counted,
}

/// Why the gateway refused, and what nobody heard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Refused because messages waited or the table of transactions filled.
    pub shed: f64,
    /// Refused because something was full.
    pub full: f64,
    /// Datagrams that the kernel dropped, of all sockets of this host.
    pub dropped: f64,
    /// Transactions when the load was over.
    pub transactions: f64,
}

impl Counted {
    fn between(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> Self {
        let at = |metrics: &BTreeMap<String, f64>, name| metrics.get(name).copied().unwrap_or(0.0);
        let since = |name| at(after, name) - at(before, name);
        let shed = since("overload_shed_total");
        Self {
            shed,
            full: since("overload_refused_total") - shed,
            dropped: since(DROPPED),
            transactions: at(after, "transactions"),
        }
    }
}

impl Phase {
    pub fn refused(&self) -> u64 {
        self.report.failed.get(&503).copied().unwrap_or(0)
    }

    pub fn unanswered(&self) -> u64 {
        self.report.failed.get(&0).copied().unwrap_or(0)
    }

    fn refused_otherwise(&self) -> u64 {
        self.report.failures() - self.refused() - self.unanswered()
    }

    /// Why these figures may be the generator's and not the gateway's.
    pub fn generator_was_the_limit(&self) -> Option<String> {
        let late = Duration::from_micros(self.report.late.p99_us);
        match self.generator_cpu_busy {
            Some(_) if self.generator_busy + self.control_busy > GENERATOR_FULL => {
                let percent = (self.generator_busy + self.control_busy) * 100.0;
                Some(format!("generator and control plane filled their CPU ({percent:.0} %)"))
            }
            _ if self.offered < 0.98 * self.rate => {
                Some(format!("only {:.0} of {:.0} calls/s were offered", self.offered, self.rate))
            }
            _ if late > LATE_MOST => Some(format!("INVITEs left late (p99 {late:.0?})")),
            _ => None,
        }
    }

    fn is_carried(&self) -> bool {
        let most = self.report.offered as f64 * REFUSED_MOST;
        self.report.failures() as f64 <= most && self.p99_ms() <= SET_UP_P99_MS
    }

    fn p99_ms(&self) -> f64 {
        self.report.set_up.p99_us as f64 / 1e3
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        writeln!(
            f,
            "  offered {:.0} calls/s ({} calls), completed {:.0} calls/s\n  set-up of admitted calls: {}",
            self.offered, self.report.offered, self.goodput, self.report.set_up
        )?;
        writeln!(
            f,
            "  answered 503: {} ({} with Retry-After), otherwise {}, not answered {}, resent {}",
            self.refused(),
            self.report.retry_after,
            self.refused_otherwise(),
            self.unanswered(),
            self.report.resent
        )?;
        write!(
            f,
            "  gateway: shed {}, refused for want of room {}, {} transactions; dropped by the kernel {}\n  \
             CPU: shard {}; generator {} and control plane {} (with all other processes on that CPU: {}); \
             INVITEs left late by p99 {:.1} ms; gateway {:.0} MB",
            self.counted.shed,
            self.counted.full,
            self.counted.transactions,
            self.counted.dropped,
            percent(self.shard_busy),
            percent(self.generator_busy),
            percent(self.control_busy),
            self.generator_cpu_busy.map_or_else(|| "not looked at".to_owned(), percent),
            self.report.late.p99_us as f64 / 1e3,
            self.rss_bytes as f64 / 1e6
        )
    }
}

/// One load beyond the capacity, and what it is held against.
#[derive(Clone, Debug)]
pub struct Held {
    pub times: f64,
    pub least: f64,
    pub phase: Phase,
    pub media: MediaReport,
}

#[derive(Clone, Debug)]
pub struct Summary {
    pub capacity: f64,
    pub held: Vec<Held>,
}

impl Summary {
    /// What does not hold, in sentences.
    pub fn breaches(&self) -> Vec<String> {
        self.held.iter().flat_map(|held| held.breaches(self.capacity)).collect()
    }
}

impl Held {
    fn breaches(&self, capacity: f64) -> Vec<String> {
        let (phase, times) = (&self.phase, self.times);
        let mut breaches = Vec::new();
        let share = phase.goodput / capacity;
        if share < self.least {
            breaches.push(format!("at {times} C: {share:.2} C and not {:.1} C", self.least));
        }
        if phase.p99_ms() > SET_UP_P99_MS {
            breaches.push(format!("at {times} C: set-up p99 {:.0} ms", phase.p99_ms()));
        }
        if self.media.lost > 0 {
            breaches.push(format!("at {times} C: {} RTP packets lost", self.media.lost));
        }
        if phase.report.retry_after != phase.refused() {
            breaches.push(format!("at {times} C: 503 without Retry-After"));
        }
        if let Some(why) = phase.generator_was_the_limit() {
            breaches.push(format!("at {times} C nothing was measured: {why}"));
        }
        breaches
    }
}

/// One line, as a table would have it.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capacity C: {:.0} calls/s", self.capacity)?;
        for held in &self.held {
            let Held { times, least, phase, media } = held;
            let verdict = if held.breaches(self.capacity).is_empty() { "MET" } else { "NOT met" };
            write!(
                f,
                "\n  {times} C: goodput {:.2} C (target {least:.1}), set-up p50 {:.1} ms, p99 {:.1} ms \
                 (target {SET_UP_P99_MS}), RTP of standing calls: {} of {} lost (target 0): {verdict}",
                phase.goodput / self.capacity,
                phase.report.set_up.p50_us as f64 / 1e3,
                phase.p99_ms(),
                media.lost,
                media.sent
            )?;
        }
        Ok(())
    }
}

/// Runs the plan; each step is said to `say` when it is over.
pub fn run(plan: &OverloadPlan, mut say: impl FnMut(String)) -> Result<Summary, String> {
    let bench = Bench::start(plan)?;
    let capacity = match plan.capacity {
        Some(known) => known,
        None => bench.ramp(&mut say)?,
    };
    let mut held = Vec::new();
    for &(times, least) in &plan.loads {
        let standing = bench.stand()?;
        let phase = bench.offer(times * capacity, plan.hold);
        let media = bench.hang_up(standing);
        let (phase, media) = (phase?, media?);
        say(format!(
            "{times} C for {:.0} s\n{phase}\n  RTP of standing calls: {media}",
            plan.hold.as_secs_f64()
        ));
        if let Some(why) = phase.generator_was_the_limit() {
            say(format!("  THE GENERATOR MAY HAVE BEEN THE LIMIT: {why}"));
        }
        held.push(Held { times, least, phase, media });
        bench.gateway.await_drained(DRAIN)?;
    }
    Ok(Summary { capacity, held })
}

struct Bench<'p> {
    plan: &'p OverloadPlan,
    gateway: Gateway,
    target: SocketAddrV4,
    calls: Ends,
    standing: Ends,
}

impl<'p> Bench<'p> {
    fn start(plan: &'p OverloadPlan) -> Result<Self, String> {
        let bind = || Ends::bind(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string());
        let (calls, standing) = (bind()?, bind()?);
        let trunk =
            |name: &str, ends: &Ends| (name.to_owned(), format!("sip:{}", ends.callee_address()));
        let gateway = Gateway::start(GatewayPlan {
            trunks: vec![trunk("load", &calls), trunk("standing", &standing)],
            call_auth: false,
            cores: plan.shard_cpu.to_string(),
            rtp_ports: 2_000,
            ..GatewayPlan::default()
        })?;
        let SocketAddr::V4(target) = gateway.sip else { return Err("IPv4 only".to_owned()) };
        Ok(Self { plan, gateway, target, calls, standing })
    }

    /// The highest rate that is carried, beside the standing calls.
    fn ramp(&self, say: &mut impl FnMut(String)) -> Result<f64, String> {
        let standing = self.stand()?;
        let found = self.climb(say);
        let media = self.hang_up(standing)?;
        say(format!("ramp: RTP of standing calls: {media}"));
        let rate = found?;
        say(format!("ramp: {rate:.0} calls/s were carried"));
        self.confirm(rate, say)
    }

    /// Steps of the ramp are shorter than transactions linger: only a rate that is carried for longer is
    /// one that the gateway can go on with.
    fn confirm(&self, found: f64, say: &mut impl FnMut(String)) -> Result<f64, String> {
        let mut rate = found;
        for _ in 0..CONFIRMATIONS {
            let standing = self.stand()?;
            let phase = self.offer(rate, self.plan.confirm);
            let media = self.hang_up(standing);
            let (phase, media) = (phase?, media?);
            let carried = phase.is_carried();
            say(format!(
                "capacity: {rate:.0} calls/s for {:.0} s: {}\n{phase}\n  RTP of standing calls: {media}",
                self.plan.confirm.as_secs_f64(),
                if carried { "carried" } else { "too much" }
            ));
            if let Some(why) = phase.generator_was_the_limit() {
                return Err(format!("at {rate:.0} calls/s: {why}"));
            }
            if carried {
                return Ok(phase.goodput);
            }
            if phase.goodput <= 0.0 {
                return Err(format!("at {rate:.0} calls/s nothing was carried"));
            }
            // What it did carry, where that is much less.
            rate = (rate * STEP_DOWN).min(phase.goodput);
        }
        Err(format!("{rate:.0} calls/s and more were not carried"))
    }

    fn climb(&self, say: &mut impl FnMut(String)) -> Result<f64, String> {
        let mut best: Option<f64> = None;
        let mut beyond = None;
        let (mut rate, mut refinements) = (self.plan.first_rate, 0);
        while rate < RATE_MAX && refinements <= REFINEMENTS {
            let phase = self.offer(rate, self.plan.step)?;
            let is_carried = phase.is_carried();
            say(format!(
                "ramp: {rate:.0} calls/s: {}\n{phase}",
                if is_carried { "carried" } else { "too much" }
            ));
            if let Some(why) = phase.generator_was_the_limit() {
                return Err(format!("at {rate:.0} calls/s of the ramp: {why}"));
            }
            self.gateway.await_metric("calls", |calls| calls <= f64::from(self.plan.standing))?;
            if is_carried {
                best = Some(rate);
            } else {
                beyond = Some(rate);
            }
            rate = match (best, beyond) {
                (Some(carried), Some(beyond)) => {
                    refinements += 1;
                    (carried + beyond) / 2.0
                }
                (_, None) => rate * STEP_UP,
                (None, Some(_)) => return Err(format!("{rate:.0} calls/s are too much already")),
            };
        }
        best.ok_or_else(|| "no rate was carried".to_owned())
    }

    /// Standing calls with RTP, all of them up. On a host that stalls one may be refused: then again.
    fn stand(&self) -> Result<Load, String> {
        let mut outcome = self.stand_once();
        for _ in 1..STANDING_TRIES {
            if outcome.is_ok() {
                break;
            }
            self.gateway.await_drained(DRAIN)?;
            outcome = self.stand_once();
        }
        outcome
    }

    fn stand_once(&self) -> Result<Load, String> {
        let plan = Plan {
            rate: STANDING_RATE,
            calls: self.plan.standing,
            hold: Duration::from_secs(3_600),
            media: true,
            cpu: self.plan.generator_cpu,
            ..Plan::new(self.target)
        };
        let ends = self.standing.try_clone().map_err(|error| error.to_string())?;
        let load = Load::start(plan, ends).map_err(|error| error.to_string())?;
        let (count, progress) = (u64::from(self.plan.standing), &load.progress);
        let limit = Duration::from_secs_f64(count as f64 / STANDING_RATE) + DRAIN;
        wait::until("the standing calls", limit, || {
            (progress.decided.load(Ordering::Relaxed) == count).then_some(())
        })?;
        if progress.talking.load(Ordering::Relaxed) == count {
            return Ok(load);
        }
        progress.hang_up.store(true, Ordering::Relaxed);
        let report = load.finish().map_err(|error| error.to_string())?;
        Err(format!("standing calls were refused\n{report}"))
    }

    fn hang_up(&self, standing: Load) -> Result<MediaReport, String> {
        standing.progress.hang_up.store(true, Ordering::Relaxed);
        let report = standing.finish().map_err(|error| error.to_string())?;
        if report.completed != u64::from(self.plan.standing) {
            return Err(format!("a standing call was not hung up as it should\n{report}"));
        }
        report.media.ok_or_else(|| "no RTP was sent".to_owned())
    }

    /// CPU time of the shard, of this process, and of everything else of the gateway.
    fn used(&self) -> Result<[u64; 3], String> {
        let gateway = self.gateway.usage()?;
        let own = Usage::of(std::process::id()).map_err(|error| error.to_string())?;
        let shard_ns = gateway.named_ns("shard");
        Ok([shard_ns, own.threads_ns(), gateway.threads_ns() - shard_ns])
    }

    fn counted_at_end(&self) -> Result<BTreeMap<String, f64>, String> {
        wait::pass(TOLD);
        self.counted()
    }

    fn counted(&self) -> Result<BTreeMap<String, f64>, String> {
        let mut metrics = self.gateway.metrics()?;
        metrics.insert(DROPPED.to_owned(), host::udp_drops()? as f64);
        Ok(metrics)
    }

    /// Offers `rate` calls a second for `time`; counts from when it is steady.
    fn offer(&self, rate: f64, time: Duration) -> Result<Phase, String> {
        let counted = self.counted()?;
        let load = Load::start(
            Plan {
                rate,
                calls: u32::MAX,
                hold: self.plan.talk,
                sdp: Sdp::Refused,
                cpu: self.plan.generator_cpu,
                ..Plan::new(self.target)
            },
            self.calls.try_clone().map_err(|error| error.to_string())?,
        )
        .map_err(|error| error.to_string())?;
        let steady = STEADY.min(time / 3);
        let read = || {
            let count = |one: &AtomicU64| one.load(Ordering::Relaxed) as f64;
            (Instant::now(), count(&load.progress.offered), count(&load.progress.completed))
        };
        wait::pass(steady);
        let used = self.used()?;
        let generator = self.plan.generator_cpu.map(Busy::since_now).transpose()?;
        let before = read();
        wait::pass(time - steady);
        let after = read();
        let now_used = self.used()?;
        let generator_cpu_busy = generator.map(|busy| busy.share()).transpose()?;
        let rss_bytes = self.gateway.usage()?.rss_bytes;
        load.progress.enough.store(true, Ordering::Relaxed);
        let report = load.finish().map_err(|error| error.to_string())?;
        let seconds = (after.0 - before.0).as_secs_f64();
        let share = |of: usize| now_used[of].saturating_sub(used[of]) as f64 / 1e9 / seconds;
        let counted = Counted::between(&counted, &self.counted_at_end()?);
        Ok(Phase {
            rate,
            offered: (after.1 - before.1) / seconds,
            goodput: (after.2 - before.2) / seconds,
            report,
            shard_busy: share(0),
            generator_busy: share(1),
            control_busy: share(2),
            generator_cpu_busy,
            rss_bytes,
            counted,
        })
    }
}
