//! A long outage: nobody takes the webhooks of a gateway under load, then somebody does again.
//! Owns:  the load, the receiver with its bad time, the samples of backlog and memory.
//! Gives: `run`: what was seen, and books that the ledger has checked.
//! Never: a quiet gateway: calls go on while the backlog drains.
//! Holds: one look a second, so that growth and drain are rates per second.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::gateway::{Folder, Gateway, Plan as GatewayPlan};
use crate::kills::settle;
use crate::ledger::{Books, Summary};
use crate::load::{Ends, Load, Plan, Sdp};
use crate::receiver::{Delivery, Program};
use crate::wait;

const BACKLOG: &str = "webhook_backlog";
const LOOK: Duration = Duration::from_secs(1);
/// Memory is compared with what it was when caches and rings were full, or at half of a short outage.
const WARM: Duration = Duration::from_secs(300);
/// After the outage: for the endpoint to be tried again, and for the backlog.
const DRAINED: Duration = Duration::from_secs(900);

#[derive(Clone, Debug)]
pub struct OutagePlan {
    pub outage: Duration,
    /// `refuse`, `hang` or a status: what the receiver does meanwhile.
    pub fault: String,
    /// Calls per second, and how long each is held.
    pub rate: f64,
    pub hold: Duration,
    pub cores: String,
}

#[derive(Debug)]
pub struct Seen {
    pub summary: Summary,
    /// Events that waited when the receiver came back.
    pub backlog: f64,
    /// From the end of the outage until the receiver took the first of them.
    pub noticed: Duration,
    /// From there until it had taken as many.
    pub drained: Duration,
    /// Events per second.
    pub growth: f64,
    pub drain: f64,
    pub warm_bytes: u64,
    pub most_bytes: u64,
    pub failed_calls: u64,
}

impl fmt::Display for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(out, "  {} events waited at the end of the outage", self.backlog)?;
        writeln!(
            out,
            "  first delivery {:.1} s after it, drained {:.1} s later",
            self.noticed.as_secs_f64(),
            self.drained.as_secs_f64()
        )?;
        writeln!(
            out,
            "  grew by {:.1} events/s, drained {:.1} events/s while as many came: {:.1} times as fast",
            self.growth,
            self.drain,
            self.drain / self.growth
        )?;
        writeln!(
            out,
            "  memory {:.1} MB when warm, {:.1} MB at most",
            mb(self.warm_bytes),
            mb(self.most_bytes)
        )?;
        writeln!(out, "  calls failed: {}", self.failed_calls)?;
        write!(out, "  {}", self.summary)
    }
}

#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    backlog: f64,
    rss_bytes: u64,
}

pub fn run(plan: &OutagePlan) -> Result<Seen, String> {
    let ends = Ends::bind(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    let trunk = ("load".to_owned(), format!("sip:{}", ends.callee_address()));
    let folder = Folder::new("receiver")?;
    let (started, began_ms) = (Instant::now(), wall_ms());
    let fault = format!("0:{}:{}", plan.fault, plan.outage.as_secs());
    let receiver = Program::start(&folder.path, &[fault])?;
    let push =
        format!("\n[callrecord]\ntype = \"http\"\nurl = \"http://{}/cdr\"\n", receiver.address);
    let gateway = Gateway::start(GatewayPlan {
        trunks: vec![trunk],
        call_auth: false,
        cores: plan.cores.clone(),
        rtp_ports: 8_000,
        sections: vec![push],
        ..GatewayPlan::default()
    })?;
    let SocketAddr::V4(target) = gateway.sip else { return Err("IPv4 only".to_owned()) };
    let (log, lines) = channel();
    let load = Load::start(
        Plan {
            rate: plan.rate,
            calls: u32::MAX,
            hold: plan.hold,
            sdp: Sdp::Refused,
            log: Some(log),
            ..Plan::new(target)
        },
        ends,
    )
    .map_err(|error| error.to_string())?;
    let samples = watch(&gateway, started, plan);
    load.progress.enough.store(true, Ordering::Relaxed);
    let report = load.finish().map_err(|error| error.to_string())?;
    let mut books = Books { heard: lines.into_iter().collect(), ..Books::default() };
    let summary = settle(&gateway, &receiver, &mut books)
        .map_err(|broken| format!("{broken}\n{}", gateway.log_tail()))?;
    let mut taken: Vec<_> = receiver.heard()?.into_iter().filter(Delivery::is_accepted).collect();
    taken.sort_unstable_by_key(|delivery| delivery.at);
    let taken_ms: Vec<_> = taken.iter().map(|one| one.at.saturating_sub(began_ms)).collect();
    judge(plan, &samples?, &taken_ms, summary, report.failures())
}

/// Looks once a second until the backlog is gone.
fn watch(gateway: &Gateway, started: Instant, plan: &OutagePlan) -> Result<Vec<Sample>, String> {
    let mut samples = Vec::new();
    let gone = plan.rate.max(2.0);
    loop {
        wait::pause(LOOK);
        let at = started.elapsed();
        let sample =
            Sample { at, backlog: gateway.metric(BACKLOG)?, rss_bytes: gateway.usage()?.rss_bytes };
        samples.push(sample);
        if samples.len() % 30 == 0 || at >= plan.outage {
            println!(
                "  {:6.1} s: {} events wait, {:.1} MB",
                at.as_secs_f64(),
                sample.backlog,
                sample.rss_bytes as f64 / f64::from(1 << 20)
            );
        }
        if at > plan.outage && sample.backlog <= gone {
            return Ok(samples);
        }
        if at > plan.outage + DRAINED {
            return Err(format!("{} events still wait", sample.backlog));
        }
    }
}

fn judge(
    plan: &OutagePlan,
    samples: &[Sample],
    taken_ms: &[u64],
    summary: Summary,
    failed_calls: u64,
) -> Result<Seen, String> {
    let before = samples.iter().filter(|sample| sample.at <= plan.outage);
    let most = before.max_by(|a, b| a.backlog.total_cmp(&b.backlog));
    let most = *most.ok_or("an outage of less than a second")?;
    let first_ms = *taken_ms.first().ok_or("nothing was delivered")?;
    let waited = most.backlog as usize;
    let last_ms = *waited
        .checked_sub(1)
        .and_then(|last| taken_ms.get(last))
        .ok_or_else(|| format!("{waited} events waited, {} were taken", taken_ms.len()))?;
    let drained = Duration::from_millis((last_ms - first_ms).max(1));
    let warm = samples.iter().find(|sample| sample.at >= WARM.min(plan.outage / 2));
    Ok(Seen {
        summary,
        backlog: most.backlog,
        noticed: Duration::from_millis(first_ms).saturating_sub(plan.outage),
        drained,
        growth: most.backlog / most.at.as_secs_f64(),
        drain: most.backlog / drained.as_secs_f64(),
        warm_bytes: warm.unwrap_or(&most).rss_bytes,
        most_bytes: samples.iter().map(|sample| sample.rss_bytes).max().unwrap_or(0),
        failed_calls,
    })
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
