//! `[dataplane] cores` and `control_cores`: which CPUs serve what.
//! Owns:  the CPU list form: `2-7`, `1,3,5`, `0-3,8`.
//! Gives: lists in the order written, without repeats.
//! Never: asks the machine which CPUs it has; the supervisor does.
//! Holds: a list has 1 to `SHARDS_MAX` CPUs.

use std::path::{Path, PathBuf};

use super::file::DataplaneFile;
use super::problem::Report;
use crate::limits::SHARDS_MAX;
use crate::settings::MediaLock;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardCpus {
    /// One shard per allowed CPU less one, at least one.
    Auto,
    List(Vec<usize>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlCpus {
    List(Vec<usize>),
    /// Every allowed CPU that no shard has.
    Rest,
}

#[derive(Clone, Debug)]
pub struct Dataplane {
    cores: ShardCpus,
    control_cores: ControlCpus,
    media_lock: MediaLock,
    journal_segment_mb: u16,
    journal_front: Option<PathBuf>,
}

impl Dataplane {
    pub const fn cores(&self) -> &ShardCpus {
        &self.cores
    }

    pub const fn control_cores(&self) -> &ControlCpus {
        &self.control_cores
    }

    pub const fn media_lock(&self) -> MediaLock {
        self.media_lock
    }

    /// Size of the files that a shard's calls are written into; two of them are always allocated.
    pub const fn journal_segment_mb(&self) -> u16 {
        self.journal_segment_mb
    }

    /// Where that is written first; `None` leaves it to the system.
    pub fn journal_front(&self) -> Option<&Path> {
        self.journal_front.as_deref()
    }

    pub(super) fn check(file: &DataplaneFile, report: &mut Report<'_>) -> Self {
        let cores = match file.cores.as_deref() {
            None | Some("auto") => ShardCpus::Auto,
            Some(text) => ShardCpus::List(list_or_report("dataplane.cores", text, "auto", report)),
        };
        let control_cores = match file.control_cores.as_deref() {
            None | Some("rest") => ControlCpus::Rest,
            Some(text) => {
                ControlCpus::List(list_or_report("dataplane.control_cores", text, "rest", report))
            }
        };
        if file.fast_path.as_deref() == Some("ebpf") {
            report.error_try(
                "dataplane.fast_path",
                "the eBPF road is not built yet",
                "use \"auto\": it takes the fastest road that is there",
            );
        }
        let media_lock = match file.media_lock.as_deref() {
            Some("off") => MediaLock::Off,
            Some("relearn") => MediaLock::Relearn,
            _ => MediaLock::Strict,
        };
        let journal_segment_mb = file.journal_segment_mb.unwrap_or(16);
        let journal_front = match file.journal_front.as_deref() {
            None | Some("auto") => None,
            Some("") => {
                let hint = "write \"auto\" or a folder in memory, such as \"/run/ringgate\"";
                report.error_try("dataplane.journal_front", "it is empty", hint);
                None
            }
            Some(path) => Some(PathBuf::from(path)),
        };
        Self { cores, control_cores, media_lock, journal_segment_mb, journal_front }
    }
}

fn list_or_report(key: &str, text: &str, word: &str, report: &mut Report<'_>) -> Vec<usize> {
    match parse_list(text) {
        Ok(list) => list,
        Err(reason) => {
            let hint = format!("write \"{word}\" or a CPU list such as \"2-7\" or \"1,3,5\"");
            report.error_try(key, reason, hint);
            Vec::new()
        }
    }
}

/// The kernel's own bound on CPU numbers (CPU_SETSIZE).
const CPU_MAX: usize = 1_023;

pub fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let mut list = Vec::new();
    for part in text.split(',').map(str::trim) {
        let number = |digits: &str| {
            let cpu = digits.trim().parse::<usize>();
            cpu.ok().filter(|cpu| *cpu <= CPU_MAX).ok_or_else(|| format!("\"{part}\" is no CPU"))
        };
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(format!("\"{part}\" runs backwards"));
        }
        for cpu in first..=last {
            if list.contains(&cpu) {
                return Err(format!("CPU {cpu} is there twice"));
            }
            list.push(cpu);
        }
    }
    if list.len() > SHARDS_MAX {
        return Err(format!("has {} CPUs; {SHARDS_MAX} is the most", list.len()));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_read() {
        assert_eq!(parse_list("2-4"), Ok(vec![2, 3, 4]));
        assert_eq!(parse_list("1, 3,5"), Ok(vec![1, 3, 5]));
        assert_eq!(parse_list("8,0-1"), Ok(vec![8, 0, 1]));
    }

    #[test]
    fn nonsense_says_what_is_wrong() {
        for (text, reason) in [
            ("", "\"\" is no CPU"),
            ("a", "\"a\" is no CPU"),
            ("3-1", "\"3-1\" runs backwards"),
            ("1,0-2", "CPU 1 is there twice"),
            ("9999", "\"9999\" is no CPU"),
            ("0-70", "has 71 CPUs; 64 is the most"),
        ] {
            assert_eq!(parse_list(text), Err(reason.to_owned()), "{text}");
        }
    }
}
