//! `relay`: CPU per forwarded RTP packet at 50 000 packets a second over 1000 streams (must show 6).
//! Owns:  two namespaces joined by veth, the gateway in one, the generator in the other.
//! Gives: CPU of the shard thread and of its whole CPU, latency, loss, with command and host.
//! Never: a shortcut: the relays are set up by real calls, and both directions flow.
//! Holds: RPS puts the receive softirq of the gateway's interface on the shard's CPU, as a network
//!        card with its interrupt there would; the generator and its softirq have another CPU.
//!
//! How the CPU is counted, over a window of steady traffic: the thread's own time comes from
//! schedstat (with CONFIG_IRQ_TIME_ACCOUNTING off it includes softirqs that ran on top of it);
//! the whole CPU is the window less its idle time from /proc/stat, so softirqs that interrupted
//! the idle task are in it, and so is any other process that ran there: the line says how much
//! CPU all other processes used meanwhile. Only on a quiet host is it the shard's alone.
//!
//! The kernel's backlog (net.core.netdev_max_backlog) is raised for the run and set back, because
//! with the stock 1000 a CPU that is away for 20 ms loses packets before the gateway sees them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use loadtest::gateway::{Gateway, Plan as GatewayPlan};
use loadtest::load::{Ends, Load, Plan, Sdp, run};
use loadtest::netns::Namespace;
use loadtest::{host, wait};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const GENERATOR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// After the last call is up, before the window opens.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Debug, Parser)]
struct Arguments {
    /// Calls; each is two streams of 50 packets a second.
    #[arg(long, default_value_t = 500)]
    calls: u32,
    /// New calls per second while they are set up.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Length of the window.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// CPU of the one shard.
    #[arg(long, default_value_t = 1)]
    shard_cpu: usize,
    #[arg(long, default_value_t = 0)]
    generator_cpu: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("relay: {} on {}", host::command(), host::describe());
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One reading of everything that the window is the difference of.
struct Reading {
    at: Instant,
    shard_ns: u64,
    process_ns: u64,
    idle: Duration,
    others_ns: u64,
    forwarded: u64,
}

impl Reading {
    fn take(gateway: &Gateway, load: &Load, cpu: usize) -> Result<Self, String> {
        let usage = gateway.usage()?;
        Ok(Self {
            at: Instant::now(),
            shard_ns: usage.named_ns("shard"),
            process_ns: usage.threads_ns(),
            idle: host::idle_of(cpu)?,
            others_ns: others_ns(&[gateway.pid(), std::process::id()]),
            forwarded: load.progress.rtp_received.load(Ordering::Relaxed),
        })
    }
}

/// A sysctl that is set back when this goes.
struct Raised {
    path: &'static str,
    before: String,
}

impl Raised {
    fn to(path: &'static str, value: u32) -> Result<Self, String> {
        let before = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        fs::write(path, value.to_string()).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { path, before })
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path, self.before.trim()) {
            eprintln!("relay: {} was not set back to {}: {error}", self.path, self.before.trim());
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), String> {
    let _backlog = Raised::to("/proc/sys/net/core/netdev_max_backlog", 20_000)?;
    let (inside, outside) = (Namespace::new("relay")?, Namespace::new("load")?);
    outside.join(&inside, ["vg", "vr"], [GENERATOR, GATEWAY])?;
    steer(&inside, "vr", arguments.shard_cpu)?;
    steer(&outside, "vg", arguments.generator_cpu)?;
    let ends = outside.within(|| Ends::bind(GENERATOR))?.map_err(|error| error.to_string())?;
    let gateway = Gateway::start(GatewayPlan {
        ip: GATEWAY.into(),
        trunks: vec![("load".to_owned(), format!("sip:{}", ends.callee_address()))],
        call_auth: false,
        cores: arguments.shard_cpu.to_string(),
        rtp_ports: 30_000,
        namespace: Some(inside.name.clone()),
        ..GatewayPlan::default()
    })?;
    let SocketAddr::V4(target) = gateway.sip else { return Err("IPv4 only".to_owned()) };
    let plan = Plan { cpu: Some(arguments.generator_cpu), ..Plan::new(target) };
    let warm_up = Plan { calls: 20, rate: 20.0, sdp: Sdp::Audio, media: true, ..plan.clone() };
    let report =
        ends.try_clone().and_then(|ends| run(warm_up, ends)).map_err(|error| error.to_string())?;
    if report.completed != 20 {
        return Err(format!("the warm-up failed\n{report}"));
    }
    window(arguments, &gateway, plan, ends)
}

fn window(arguments: &Arguments, gateway: &Gateway, plan: Plan, ends: Ends) -> Result<(), String> {
    let ramp = Duration::from_secs_f64(f64::from(arguments.calls) / arguments.rate);
    let window = Duration::from_secs(arguments.seconds);
    let plan = Plan {
        calls: arguments.calls,
        rate: arguments.rate,
        media: true,
        hold_until: ramp + 2 * SETTLE + window,
        ..plan
    };
    let dropped_before = backlog_drops();
    let load = Load::start(plan, ends).map_err(|error| error.to_string())?;
    let up = wait::until("all calls up", ramp + SETTLE, || {
        let talking = load.progress.talking.load(Ordering::Relaxed);
        (talking == u64::from(arguments.calls)).then_some(())
    });
    wait::pass(SETTLE);
    load.progress.restart_latency.store(true, Ordering::Relaxed);
    let first = Reading::take(gateway, &load, arguments.shard_cpu)?;
    wait::pass(window);
    let last = Reading::take(gateway, &load, arguments.shard_cpu)?;
    let report = load.finish().map_err(|error| error.to_string())?;
    println!("{report}");
    up?;
    print(&first, &last, &report);
    let lost = report.media.as_ref().map_or(0, |media| media.lost);
    let dropped = backlog_drops() - dropped_before;
    println!("  packets lost {lost}, of them in the kernel's backlog at most {dropped}");
    let lost = lost.saturating_sub(dropped);
    if report.failures() > 0 || lost > 0 {
        return Err(format!("{} calls failed, {lost} packets were lost", report.failures()));
    }
    gateway.await_drained(Duration::from_secs(60))
}

fn print(first: &Reading, last: &Reading, report: &loadtest::load::Report) {
    let packets = (last.forwarded - first.forwarded).max(1) as f64;
    let seconds = (last.at - first.at).as_secs_f64();
    let per_packet = |ns: u64| ns as f64 / 1_000.0 / packets;
    let busy = (last.at - first.at).saturating_sub(last.idle.saturating_sub(first.idle));
    let core = busy.as_micros() as f64 / packets;
    let p99_ms = report.media.as_ref().map_or(0.0, |media| media.latency.p99_us as f64 / 1_000.0);
    let verdict = |figure: f64, target: f64| if figure <= target { "met" } else { "NOT met" };
    println!(
        "  {:.0} packets/s forwarded over {seconds:.1} s\n  CPU per packet: shard thread {:.2} us, \
         whole process {:.2} us, whole CPU of the shard with softirq {core:.2} us; target 9 us: {}\n  \
         p99 {p99_ms:.2} ms; target 2 ms: {}\n  other processes used {:.2} s of CPU meanwhile",
        packets / seconds,
        per_packet(last.shard_ns - first.shard_ns),
        per_packet(last.process_ns - first.process_ns),
        verdict(core, 9.0),
        verdict(p99_ms, 2.0),
        last.others_ns.saturating_sub(first.others_ns) as f64 / 1e9,
    );
}

/// Receive packet steering: what comes in by `interface` is worked on by `cpu`.
fn steer(space: &Namespace, interface: &str, cpu: usize) -> Result<(), String> {
    let mask = format!("{:x}", 1u64 << cpu);
    let path = format!("/sys/class/net/{interface}/queues/rx-0/rps_cpus");
    space.exec(&["sh", "-c", &format!("echo {mask} > {path}")])
}

/// Packets that the kernel dropped for a full backlog, on all CPUs (softnet_stat, column 2).
fn backlog_drops() -> u64 {
    let stat = fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let second = |line: &str| u64::from_str_radix(line.split(' ').nth(1)?, 16).ok();
    stat.lines().filter_map(second).sum()
}

/// CPU time of all processes but these.
fn others_ns(known: &[u32]) -> u64 {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| !known.contains(pid))
        .filter_map(|pid| loadtest::process::Usage::of(pid).ok())
        .map(|usage| usage.threads_ns())
        .sum()
}
