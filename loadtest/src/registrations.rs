//! Registrations in quantity: what they keep of memory, and what a refresh costs (issue 4, must show 8).
//! Owns:  the gateway, its users, the phones of all of them.
//! Gives: a `Summary` with the growth of memory, the CPU per refresh, and what failed.
//! Never: a user backend that has to be asked: users of the configuration and of our own database, where carriers
//!        keep so many, are told to the shards beforehand, and are the same to them.
//! Holds: memory is compared within one process, which had read all users before it was looked at.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use serde_json::json;

use crate::gateway::{Gateway, Plan as GatewayPlan};
use crate::host::Busy;
use crate::load::registrants::{RegistrantPlan, RegistrantReport, Registrants, Round};
use crate::process::Usage;

const PASSWORD: &str = "secret-of-all-phones";
const EXPIRES_S: u32 = 3_600;
/// Connections that extensions are made over.
const WRITERS: u32 = 4;

#[derive(Clone, Debug)]
pub struct RegistrationPlan {
    pub users: u32,
    /// They are extensions in the database, each made over HTTP. Otherwise they stand in the
    /// configuration.
    pub in_database: bool,
    /// First registrations per second, each challenged.
    pub register_rate: f64,
    pub refresh_rate: f64,
    pub refreshes: u64,
    /// Every so many refreshes one has a stale nonce.
    pub stale_every: u64,
    /// Memory is read when the transactions are over, which takes half a minute each time.
    pub settle: bool,
    /// CPU of the one shard.
    pub shard_cpu: usize,
    /// Of the phones; `None`: wherever there is room.
    pub generator_cpu: Option<usize>,
}

impl Default for RegistrationPlan {
    fn default() -> Self {
        Self {
            users: 20_000,
            in_database: false,
            register_rate: 500.0,
            refresh_rate: 2_000.0,
            refreshes: 60_000,
            stale_every: 50,
            settle: true,
            shard_cpu: 0,
            generator_cpu: Some(1),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Summary {
    pub registered: RegistrantReport,
    pub refreshed: RegistrantReport,
    pub bindings: u64,
    /// When nobody was registered.
    pub empty_bytes: u64,
    /// When all were, and their transactions were over.
    pub full_bytes: u64,
    /// After the refreshes and their transactions.
    pub refreshed_bytes: u64,
    /// Per refresh: of the whole process, of its shard, and of the shard's CPU whoever used it.
    pub process_ms: f64,
    pub shard_ms: f64,
    pub core_ms: f64,
    /// Share of a CPU that the gateway used with all phones registered and silent; subtracted.
    pub idle: f64,
}

impl Summary {
    pub fn growth_bytes(&self) -> u64 {
        self.full_bytes.saturating_sub(self.empty_bytes)
    }

    pub fn failures(&self) -> u64 {
        self.registered.failures() + self.refreshed.failures()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = |figure: f64, most: f64| if figure <= most { "met" } else { "NOT met" };
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let growth = mb(self.growth_bytes());
        writeln!(f, "{} phones register with digest\n{}", self.bindings, self.registered)?;
        writeln!(
            f,
            "  memory: {:.1} MB with no phone, {growth:.1} MB more with {} and their transactions \
             over, {:.2} kB each; target 40 MB: {}",
            mb(self.empty_bytes),
            self.bindings,
            growth * 1e3 / self.bindings.max(1) as f64,
            verdict(growth, 40.0)
        )?;
        writeln!(f, "they refresh with digest\n{}", self.refreshed)?;
        writeln!(
            f,
            "  CPU per refresh: {:.4} ms of the whole process (shard {:.4} ms); target 0.1 ms: {}\n  \
             the shard's CPU, softirqs and whatever else ran there included: {:.4} ms; the share \
             of a CPU that the gateway uses by itself, {:.2} %, is subtracted from the first",
            self.process_ms,
            self.shard_ms,
            verdict(self.process_ms, 0.1),
            self.core_ms,
            self.idle * 100.0
        )?;
        write!(
            f,
            "  memory after the refreshes and their transactions: {:.1} MB more than with no phone\n  \
             failed: {}: {}",
            mb(self.refreshed_bytes.saturating_sub(self.empty_bytes)),
            self.failures(),
            verdict(self.failures() as f64, 0.0)
        )
    }
}

/// Runs the plan; what it does meanwhile is said to `say`.
pub fn run(plan: &RegistrationPlan, mut say: impl FnMut(String)) -> Result<Summary, String> {
    let users: Vec<String> = (0..plan.users).map(|number| (500_000 + number).to_string()).collect();
    let gateway = start(plan, &users, &mut say)?;
    let SocketAddr::V4(target) = gateway.sip else { return Err("IPv4 only".to_owned()) };
    let mut registrants = Registrants::new(RegistrantPlan {
        gateway: target,
        users,
        password: PASSWORD.to_owned(),
        expires_s: EXPIRES_S,
        cpu: plan.generator_cpu,
    })
    .map_err(|error| error.to_string())?;
    let idle = gateway.idle_share()?;
    let empty_bytes = gateway.usage()?.rss_bytes;
    let registered = registrants
        .round(Round { rate: plan.register_rate, count: u64::from(plan.users), stale_every: 0 })
        .map_err(|error| error.to_string())?;
    say(format!("registered\n{registered}"));
    if plan.settle {
        gateway.await_quiet()?;
    }
    let bindings = gateway.await_metric("bindings", |count| count >= f64::from(plan.users));
    let bindings = bindings.map_err(|error| format!("{error}\n{registered}"))? as u64;
    let full_bytes = gateway.usage()?.rss_bytes;
    let (before, core, started) =
        (gateway.usage()?, Busy::since_now(plan.shard_cpu)?, Instant::now());
    let refreshed = registrants
        .round(Round {
            rate: plan.refresh_rate,
            count: plan.refreshes,
            stale_every: plan.stale_every,
        })
        .map_err(|error| error.to_string())?;
    let (after, core_used, lasted) = (gateway.usage()?, core.used()?, started.elapsed());
    say(format!("refreshed\n{refreshed}"));
    if plan.settle {
        gateway.await_quiet()?;
    }
    let each_ms = |ns: f64| ns.max(0.0) / 1e6 / refreshed.done.max(1) as f64;
    let used = |of: fn(&Usage) -> u64| of(&after).saturating_sub(of(&before)) as f64;
    Ok(Summary {
        bindings,
        empty_bytes,
        full_bytes,
        refreshed_bytes: gateway.usage()?.rss_bytes,
        process_ms: each_ms(used(|usage| usage.process_ns) - idle * lasted.as_nanos() as f64),
        shard_ms: each_ms(used(|usage| usage.named_ns("shard"))),
        core_ms: each_ms(core_used.as_nanos() as f64),
        idle,
        registered,
        refreshed,
    })
}

/// A gateway that knows all users and nobody else.
fn start(
    plan: &RegistrationPlan,
    users: &[String],
    say: &mut impl FnMut(String),
) -> Result<Gateway, String> {
    let listed = if plan.in_database { &users[..0] } else { users };
    let mut gateway = Gateway::start(GatewayPlan {
        users: listed.iter().map(|user| (user.clone(), PASSWORD.to_owned())).collect(),
        cores: plan.shard_cpu.to_string(),
        ..GatewayPlan::default()
    })?;
    if plan.in_database {
        let started = Instant::now();
        fill(&gateway, users)?;
        let seconds = started.elapsed().as_secs_f64();
        say(format!("{} extensions made one by one over HTTP in {seconds:.1} s", users.len()));
        // What making them left in the allocator must not serve the registrations.
        gateway.kill()?;
        gateway.restart()?;
    }
    Ok(gateway)
}

/// Extensions as an operator's program makes them.
fn fill(gateway: &Gateway, users: &[String]) -> Result<(), String> {
    let next = AtomicU32::new(0);
    let write = || -> Result<(), String> {
        while let Some(user) = users.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let document = json!({ "extension": user, "sip_password": PASSWORD });
            let (status, body) = gateway.send("POST", "/api/v1/extensions", &document)?;
            if status != 201 {
                return Err(format!("extension {user}: {status} {body}"));
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
        let mut outcomes = writers.into_iter().map(std::thread::ScopedJoinHandle::join);
        outcomes.try_for_each(|outcome| outcome.map_err(|_| "a writer panicked".to_owned())?)
    })
}
