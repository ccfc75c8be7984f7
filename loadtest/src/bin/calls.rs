//! `calls`: what a call costs the gateway, in time, CPU and memory (issue 2, must show 6 and 7; issue 4, 8).
//! Owns:  the command line, one gateway per figure, the printed report.
//! Gives: exit code 0 when no call failed and, under media, no packet was lost in the gateway.
//! Never: a figure without the command and the host.
//! Holds: generator and shard are on different CPUs; the gateway's own numbers are read from /proc.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use loadtest::connected::{self, Connected};
use loadtest::gateway::{Gateway, Plan as GatewayPlan};
use loadtest::load::lines::Transport;
use loadtest::load::{self, Ends, Load, Plan, Report, Sdp};
use loadtest::process::Usage;
use loadtest::quiet::{DRAIN, LOOK};
use loadtest::{host, wait};

#[derive(Debug, Parser)]
struct Arguments {
    /// Without one: all.
    #[command(subcommand)]
    figure: Option<Figure>,
    /// CPUs of the gateway's shards.
    #[arg(long, default_value = "0", global = true)]
    cores: String,
    /// CPU of the generator.
    #[arg(long, default_value_t = 1, global = true)]
    generator_cpu: usize,
}

#[derive(Clone, Debug, Subcommand)]
enum Figure {
    /// Cost over every transport, then latency, memory, hold, one after the other.
    All,
    /// CPU of a whole call, INVITE to BYE, both legs, CDR stored, without RTP.
    Cost {
        #[arg(long, default_value_t = 500.0)]
        rate: f64,
        #[arg(long, default_value_t = 10_000)]
        calls: u32,
        /// UDP: to a trunk, as all the other figures. The others: from phone to phone over connections
        /// that stand, and the callee has registered.
        #[arg(long, value_enum, default_value_t = Transport::Udp)]
        transport: Transport,
        /// Phones that call over connections; as many are called.
        #[arg(long, default_value_t = 100)]
        phones: u32,
        /// Offer a real audio line, so that each call opens and closes a relay (needs the whole
        /// RTP port range: ports rest 30 s).
        #[arg(long)]
        relay: bool,
    },
    /// INVITE to 200 through the gateway with media.
    Latency {
        #[arg(long, default_value_t = 50.0)]
        rate: f64,
        #[arg(long, default_value_t = 1_000)]
        calls: u32,
    },
    /// Resident memory per established call with media.
    Memory {
        #[arg(long, default_value_t = 500)]
        calls: u32,
    },
    /// Concurrent calls with RTP both ways: none fails, no packet is lost, all is given back.
    Hold {
        #[arg(long, default_value_t = 500)]
        concurrent: u32,
        #[arg(long, default_value_t = 50.0)]
        rate: f64,
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// INVITE to 200 alone, and beside somebody who pages through a table of call records.
    Pages {
        #[arg(long, default_value_t = 200.0)]
        rate: f64,
        #[arg(long, default_value_t = 4_000)]
        calls: u32,
        /// The table: `records --keep` leaves one of a million in a SQLite file. Records are added to it.
        #[arg(long)]
        database_url: String,
    },
}

impl Figure {
    const fn cost(calls: u32, transport: Transport, relay: bool) -> Self {
        Self::Cost { rate: 500.0, calls, transport, phones: 100, relay }
    }
}

/// What somebody looks for: one question after the other, over and over.
const QUESTIONS: [&str; 5] = [
    "limit=50",
    "limit=50&status=failed",
    "limit=50&direction=outbound&status=completed",
    "limit=50&from=%2B49300000007",
    "limit=50&sort=-duration",
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("calls: {} on {}", host::command(), host::describe());
    let outcome = match arguments.figure.clone().unwrap_or(Figure::All) {
        Figure::All => [
            Figure::cost(10_000, Transport::Udp, false),
            Figure::cost(6_000, Transport::Udp, true),
            Figure::cost(10_000, Transport::Tcp, false),
            Figure::cost(10_000, Transport::Tls, false),
            Figure::cost(10_000, Transport::Wss, false),
            Figure::Latency { rate: 50.0, calls: 1_000 },
            Figure::Memory { calls: 500 },
            Figure::Hold { concurrent: 500, rate: 50.0, seconds: 60 },
        ]
        .into_iter()
        .map(|figure| measure(&arguments, figure))
        // Every figure is printed; the first failure is the verdict.
        .fold(Ok(()), Result::and),
        figure => measure(&arguments, figure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments, figure: Figure) -> Result<(), String> {
    let outcome = match figure {
        Figure::All => unreachable!("taken apart by main"),
        Figure::Cost { rate, calls, transport, phones, relay } => {
            let bench = Bench::start_over(arguments, transport, phones, relay)?;
            cost(&bench, &Plan { rate, calls, ..bench.plan.clone() }, transport, relay)
        }
        Figure::Latency { rate, calls } => latency(arguments, rate, calls),
        Figure::Memory { calls } => memory(arguments, calls),
        Figure::Hold { concurrent, rate, seconds } => hold(arguments, concurrent, rate, seconds),
        Figure::Pages { rate, calls, database_url } => pages(arguments, rate, calls, &database_url),
    };
    if let Err(error) = &outcome {
        println!("  FAILED: {error}");
    }
    outcome
}

/// A gateway whose only trunk is the callee of the load.
struct Bench {
    // Connections end before their gateway does.
    plan: Plan,
    gateway: Gateway,
    ends: Ends,
}

impl Bench {
    fn start(arguments: &Arguments, rtp_ports: u16) -> Result<Self, String> {
        Self::start_on(arguments, rtp_ports, None)
    }

    fn start_on(
        arguments: &Arguments,
        rtp_ports: u16,
        database_url: Option<String>,
    ) -> Result<Self, String> {
        let ends = Ends::bind(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
        let trunk = ("load".to_owned(), format!("sip:{}", ends.callee_address()));
        let gateway = Gateway::start(GatewayPlan {
            trunks: vec![trunk],
            call_auth: false,
            cores: arguments.cores.clone(),
            rtp_ports,
            database_url,
            ..GatewayPlan::default()
        })?;
        let SocketAddr::V4(target) = gateway.sip else { return Err("IPv4 only".to_owned()) };
        let plan = Plan { cpu: Some(arguments.generator_cpu), ..Plan::new(target) };
        Ok(Self { plan, gateway, ends })
    }

    /// A gateway that phones have connected to and registered at, unless they need no connection.
    fn start_over(
        arguments: &Arguments,
        transport: Transport,
        phones: u32,
        relay: bool,
    ) -> Result<Self, String> {
        let rtp_ports = if relay { 30_000 } else { 400 };
        if transport == Transport::Udp {
            return Self::start(arguments, rtp_ports);
        }
        let plan = GatewayPlan {
            call_auth: false,
            cores: arguments.cores.clone(),
            rtp_ports,
            ..GatewayPlan::default()
        };
        let Connected { lines, gateway, at } = connected::start(transport, phones, plan)?;
        let SocketAddr::V4(target) = at else { return Err("IPv4 only".to_owned()) };
        let plan = Plan {
            cpu: Some(arguments.generator_cpu),
            lines: Some(lines),
            dial: Some(at),
            ..Plan::new(target)
        };
        let ends = Ends::bind(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
        Ok(Self { plan, gateway, ends })
    }

    fn run(&self, plan: Plan) -> Result<Report, String> {
        self.ends
            .try_clone()
            .and_then(|ends| load::run(plan, ends))
            .map_err(|error| error.to_string())
    }

    /// Code paths, pools and the database have been touched before a figure is taken.
    fn warm_up(&self) -> Result<(), String> {
        let plan = Plan { rate: 50.0, calls: 50, ..self.plan.clone() };
        let report = self.run(Plan { sdp: Sdp::Refused, ..plan })?;
        no_failures(&report)?;
        self.await_records(50).map(|_| ())
    }

    fn await_records(&self, count: u64) -> Result<u64, String> {
        let mut last = 0;
        wait::until_every("all CDRs stored", DRAIN, LOOK, || {
            last = self.gateway.metric("cdr_stored_total").ok()? as u64;
            (last >= count).then_some(last)
        })
        .map_err(|error| format!("{error}: {last} of {count}"))
    }
}

fn no_failures(report: &Report) -> Result<(), String> {
    if report.failures() == 0 && report.completed == report.offered {
        return Ok(());
    }
    Err(format!(
        "{} of {} calls failed {:?}, {} completed",
        report.failures(),
        report.offered,
        report.failed,
        report.completed
    ))
}

fn verdict(figure: f64, target: f64) -> &'static str {
    if figure <= target { "met" } else { "NOT met" }
}

fn cost(bench: &Bench, plan: &Plan, transport: Transport, relay: bool) -> Result<(), String> {
    let kind = if relay { "relay opened and closed" } else { "no media" };
    let way = match &plan.lines {
        Some(_) => "from phone to phone over standing connections",
        None => "to a trunk",
    };
    println!(
        "\nCPU of a whole call over {} at {} calls/s, {} calls {way}, {kind}",
        transport.via(),
        plan.rate,
        plan.calls
    );
    bench.warm_up()?;
    bench.gateway.await_quiet()?;
    let idle = bench.gateway.idle_share()?;
    let (before, started) = (bench.gateway.usage()?, Instant::now());
    let sdp = if relay { Sdp::Audio } else { Sdp::Refused };
    let report = bench.run(Plan { sdp, ..plan.clone() })?;
    println!("{report}");
    no_failures(&report)?;
    let stored = bench.await_records(50 + u64::from(plan.calls))? - 50;
    let (after, busy_for) = (bench.gateway.usage()?, started.elapsed());
    bench.gateway.await_quiet()?;
    let (quiet, in_all) = (bench.gateway.usage()?, started.elapsed());
    let per_call = |usage: &Usage, time: Duration| {
        let used = (usage.process_ns - before.process_ns) as f64;
        (used - idle * time.as_nanos() as f64).max(0.0) / 1e6 / f64::from(plan.calls)
    };
    let (during, whole) = (per_call(&after, busy_for), per_call(&quiet, in_all));
    let shards = after.named_ns("shard") - before.named_ns("shard");
    // The promise is about UDP without media; what a transport or a relay adds stands beside it.
    let target = match (transport, relay) {
        (Transport::Udp, false) => format!("; target 0.5 ms: {}", verdict(during, 0.5)),
        _ => String::new(),
    };
    println!(
        "  CPU per call: {during:.3} ms from INVITE to BYE and until all {stored} CDRs were stored \
         (shard {:.3} ms){target}\n  with the timers of the 32 s after: {whole:.3} ms; \
         the share of a CPU that the idle gateway uses, {:.2} %, is subtracted",
        shards as f64 / 1e6 / f64::from(plan.calls),
        idle * 100.0
    );
    bench.gateway.await_drained(DRAIN)
}

fn latency(arguments: &Arguments, rate: f64, calls: u32) -> Result<(), String> {
    println!("\nINVITE to 200 at {rate} calls/s, {calls} calls of 2 s with RTP both ways");
    let bench = Bench::start(arguments, 30_000)?;
    bench.warm_up()?;
    let hold = Duration::from_secs(2);
    let report = bench.run(Plan { rate, calls, hold, media: true, ..bench.plan.clone() })?;
    println!("{report}");
    no_failures(&report)?;
    let p99_ms = report.set_up.p99_us as f64 / 1_000.0;
    println!("  p99 {p99_ms:.2} ms; target 10 ms: {}", verdict(p99_ms, 10.0));
    bench.gateway.await_drained(DRAIN)
}

fn memory(arguments: &Arguments, calls: u32) -> Result<(), String> {
    println!("\nMemory per established call, {calls} calls with RTP both ways");
    let bench = Bench::start(arguments, 30_000)?;
    bench.warm_up()?;
    bench.gateway.await_quiet()?;
    let before = bench.gateway.usage()?.rss_bytes;
    let ramp = Duration::from_secs_f64(f64::from(calls) / 50.0);
    let plan = Plan {
        calls,
        media: true,
        hold_until: ramp + Duration::from_secs(5),
        ..bench.plan.clone()
    };
    let load = bench
        .ends
        .try_clone()
        .and_then(|ends| Load::start(plan, ends))
        .map_err(|error| error.to_string())?;
    let up = wait::until("all calls up", ramp + Duration::from_secs(20), || {
        let talking = load.progress.talking.load(std::sync::atomic::Ordering::Relaxed);
        (talking == u64::from(calls)).then_some(())
    });
    let growth = bench.gateway.usage()?.rss_bytes.saturating_sub(before);
    let report = load.finish().map_err(|error| error.to_string())?;
    println!("{report}");
    up?;
    no_failures(&report)?;
    let per_call = growth as f64 / f64::from(calls) / 1_000.0;
    println!(
        "  memory: {:.1} MB before, {:.1} kB per call; target 48 kB: {}",
        before as f64 / 1e6,
        per_call,
        verdict(per_call, 48.0)
    );
    bench.gateway.await_drained(DRAIN)
}

fn hold(arguments: &Arguments, concurrent: u32, rate: f64, seconds: u32) -> Result<(), String> {
    println!("\n{concurrent} calls at once with RTP both ways, {rate} new calls/s for {seconds} s");
    let bench = Bench::start(arguments, 30_000)?;
    bench.warm_up()?;
    let before = bench.gateway.usage()?;
    let plan = Plan {
        rate,
        calls: (rate * f64::from(seconds)) as u32,
        hold: Duration::from_secs_f64(f64::from(concurrent) / rate),
        media: true,
        ..bench.plan.clone()
    };
    let report = bench.run(plan)?;
    let after = bench.gateway.usage()?;
    println!("{report}");
    let media = report.media.clone().unwrap_or_default();
    let shard_ns = after.named_ns("shard") - before.named_ns("shard");
    println!(
        "  CPU: shard {:.1} s, process {:.1} s; shard {:.1} us per RTP packet, calls included",
        shard_ns as f64 / 1e9,
        (after.process_ns - before.process_ns) as f64 / 1e9,
        shard_ns as f64 / 1e3 / media.received.max(1) as f64
    );
    no_failures(&report)?;
    bench.gateway.await_drained(DRAIN)?;
    bench.gateway.await_quiet()?;
    let metrics = bench.gateway.metrics()?;
    let of = |name: &str| metrics.get(name).copied().unwrap_or(0.0);
    println!(
        "  gateway: received {} RTP packets, forwarded {}, refused by the kernel {}, from other \
         sources {}, without a peer {}, on hold {}, receive ring empty {} times; all gauges back \
         to zero",
        of("rtp_received_total"),
        of("rtp_forwarded_total"),
        of("rtp_send_failed_total"),
        of("rtp_source_mismatch_total"),
        of("rtp_no_peer_total"),
        of("rtp_on_hold_total"),
        of("receive_overflows_total")
    );
    if media.lost > 0 {
        return Err(format!("{} RTP packets were lost", media.lost));
    }
    Ok(())
}

fn pages(arguments: &Arguments, rate: f64, calls: u32, database_url: &str) -> Result<(), String> {
    println!("\nINVITE to 200 at {rate} calls/s, {calls} calls, alone and beside pages of records");
    let bench = Bench::start_on(arguments, 400, Some(database_url.to_owned()))?;
    bench.warm_up()?;
    let plan = Plan { rate, calls, sdp: Sdp::Refused, ..bench.plan.clone() };
    let alone = bench.run(plan.clone())?;
    println!("alone\n{alone}");
    no_failures(&alone)?;
    let load = bench
        .ends
        .try_clone()
        .and_then(|ends| Load::start(plan, ends))
        .map_err(|error| error.to_string())?;
    let mut times = Vec::new();
    let started = Instant::now();
    for question in QUESTIONS.iter().cycle() {
        if started.elapsed().as_secs_f64() >= f64::from(calls) / rate {
            break;
        }
        let asked = Instant::now();
        let answer = bench.gateway.get(&format!("/api/v1/call-records?{question}"))?;
        if answer.status != 200 {
            return Err(format!("{question} was answered {}", answer.status));
        }
        times.push(asked.elapsed());
    }
    let beside = load.finish().map_err(|error| error.to_string())?;
    println!("beside pages\n{beside}");
    no_failures(&beside)?;
    bench.await_records(50 + 2 * u64::from(calls))?;
    times.sort_unstable();
    let page_ms = |share: f64| {
        let place = ((times.len() as f64 * share) as usize).min(times.len() - 1);
        times[place].as_secs_f64() * 1_000.0
    };
    let (before, after) = (alone.set_up.p99_us as f64 / 1e3, beside.set_up.p99_us as f64 / 1e3);
    println!(
        "  {} pages: p50 {:.1} ms, p95 {:.1} ms (target 150: {}); p99 of the set-up {before:.2} ms \
         alone and {after:.2} ms beside them (target 10: {})",
        times.len(),
        page_ms(0.50),
        page_ms(0.95),
        verdict(page_ms(0.95), 150.0),
        verdict(after, 10.0)
    );
    bench.gateway.await_drained(DRAIN)
}
