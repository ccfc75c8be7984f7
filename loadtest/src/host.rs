//! The host that a figure was measured on, in one line, and how busy its CPUs were meanwhile.
//! Owns:  reading CPU model, kernel, cores and idle times.
//! Gives: text for a report; `Busy`, the share of a CPU that was used since; datagrams that were dropped.
//! Never: a figure without it.
//! Holds: nothing is guessed: what cannot be read is named unknown.

use std::fs;
use std::time::{Duration, Instant};

/// `AMD EPYC, 2 cores, Linux 6.18.44, 24 GB`
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name))
        .unwrap_or("unknown CPU");
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes =
        memory.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown").to_owned();
    format!(
        "{model}, {cores} cores, Linux {}, {} GB memory, load average {load} before the run",
        kernel.trim(),
        kilobytes / 1_000_000
    )
}

/// The command line of this process, as a reader would repeat it.
pub fn command() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
}

/// How much one CPU works from a moment on, softirqs and all processes included.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    cpu: usize,
    since: Instant,
    idle: Duration,
}

impl Busy {
    pub fn since_now(cpu: usize) -> Result<Self, String> {
        Ok(Self { cpu, since: Instant::now(), idle: idle_of(cpu)? })
    }

    /// Seconds of the CPU that were used.
    pub fn used(&self) -> Result<Duration, String> {
        let idle = idle_of(self.cpu)?.saturating_sub(self.idle);
        Ok(self.since.elapsed().saturating_sub(idle))
    }

    /// Between 0 and 1.
    pub fn share(&self) -> Result<f64, String> {
        Ok(self.used()?.as_secs_f64() / self.since.elapsed().as_secs_f64().max(0.001))
    }
}

/// Datagrams that this host's kernel dropped because a socket's buffer was full, since boot.
pub fn udp_drops() -> Result<u64, String> {
    let snmp = fs::read_to_string("/proc/net/snmp").map_err(|error| error.to_string())?;
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return Err("/proc/net/snmp has no UDP".to_owned());
    };
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(name, _)| *name == "RcvbufErrors");
    found.and_then(|(_, value)| value.parse().ok()).ok_or_else(|| "no RcvbufErrors".to_owned())
}

/// Idle time of one CPU since boot, I/O wait included.
pub fn idle_of(cpu: usize) -> Result<Duration, String> {
    let stat = fs::read_to_string("/proc/stat").map_err(|error| error.to_string())?;
    let line = stat.lines().find(|line| line.starts_with(&format!("cpu{cpu} ")));
    let fields: Vec<u64> = line
        .ok_or_else(|| format!("no CPU {cpu}"))?
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let ticks = fields.get(3).unwrap_or(&0) + fields.get(4).unwrap_or(&0);
    // USER_HZ is 100 on every Linux that we know of.
    Ok(Duration::from_millis(ticks * 10))
}
