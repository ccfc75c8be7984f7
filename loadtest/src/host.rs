//! The host that a figure was measured on, in one line.
//! Owns:  reading CPU model, kernel and cores.
//! Gives: text for a report.
//! Never: a figure without it.
//! Holds: nothing is guessed: what cannot be read is named unknown.

use std::fs;

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
