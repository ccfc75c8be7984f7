//! Which CPU serves what: one shard per core, tokio on the rest.
//! Owns:  `Cores`, and the look at what this process may use.
//! Gives: the CPUs of the shards and of the control plane; `pin_here` for a thread of ours.
//! Never: pins a shard; `shard::spawn` does.
//! Holds: there is at least one shard and at least one CPU for the control plane.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use shared::config::{ControlCpus, ShardCpus};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    pub shards: Vec<usize>,
    pub control: Vec<usize>,
}

impl Cores {
    /// Whether a CPU serves both a shard and the control plane.
    pub fn overlap(&self) -> bool {
        self.control.iter().any(|cpu| self.shards.contains(cpu))
    }
}

/// The CPUs that this process may use, in order.
pub(super) fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// What the configuration means on this machine.
pub(super) fn choose(
    allowed: &[usize],
    cores: &ShardCpus,
    control: &ControlCpus,
) -> Result<Cores, String> {
    let shards = match cores {
        ShardCpus::List(list) => {
            check(allowed, list, "dataplane.cores")?;
            list.clone()
        }
        ShardCpus::Auto => match (allowed, control) {
            ([], _) => return Err("this process may use no CPU at all".to_owned()),
            ([only], _) => vec![*only],
            (_, ControlCpus::Rest) => allowed[1..].to_vec(),
            (_, ControlCpus::List(list)) => {
                let free: Vec<_> =
                    allowed.iter().copied().filter(|cpu| !list.contains(cpu)).collect();
                if free.is_empty() { allowed[1..].to_vec() } else { free }
            }
        },
    };
    let shards: Vec<usize> = shards.into_iter().take(shared::limits::SHARDS_MAX).collect();
    let control = match control {
        ControlCpus::List(list) => {
            check(allowed, list, "dataplane.control_cores")?;
            list.clone()
        }
        ControlCpus::Rest => {
            let rest: Vec<_> =
                allowed.iter().copied().filter(|cpu| !shards.contains(cpu)).collect();
            if rest.is_empty() { allowed.to_vec() } else { rest }
        }
    };
    Ok(Cores { shards, control })
}

fn check(allowed: &[usize], list: &[usize], key: &str) -> Result<(), String> {
    match list.iter().find(|cpu| !allowed.contains(cpu)) {
        None => Ok(()),
        Some(cpu) => Err(format!(
            "{key}: CPU {cpu} is not one that this process may use ({})",
            show(allowed)
        )),
    }
}

/// Pins the calling thread and what it starts later.
pub(super) fn pin_here(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// `0-3,8`
pub(super) fn show(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => parts.push((*cpu, *cpu)),
        }
    }
    let show = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.iter().map(show).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(allowed: &[usize]) -> Cores {
        choose(allowed, &ShardCpus::Auto, &ControlCpus::Rest).expect("it fits")
    }

    #[test]
    fn auto_is_one_shard_per_cpu_less_one_and_at_least_one() {
        assert_eq!(auto(&[0]), Cores { shards: vec![0], control: vec![0] });
        assert_eq!(auto(&[0, 1]), Cores { shards: vec![1], control: vec![0] });
        assert_eq!(auto(&[2, 3, 6]), Cores { shards: vec![3, 6], control: vec![2] });
    }

    #[test]
    fn a_list_is_taken_as_written_and_the_rest_is_for_control() {
        let list = |cpus: &[usize]| ShardCpus::List(cpus.to_vec());
        let cores = choose(&[0, 1, 2, 3], &list(&[3, 1]), &ControlCpus::Rest).expect("it fits");
        assert_eq!(cores, Cores { shards: vec![3, 1], control: vec![0, 2] });
        assert!(!cores.overlap());
        let all = choose(&[0, 1], &list(&[0, 1]), &ControlCpus::Rest).expect("it fits");
        assert!(all.overlap());
        let wrong = choose(&[0, 1], &list(&[5]), &ControlCpus::Rest);
        assert_eq!(
            wrong,
            Err("dataplane.cores: CPU 5 is not one that this process may use (0-1)".to_owned())
        );
    }

    #[test]
    fn auto_leaves_the_control_cpus_alone_when_it_can() {
        let control = ControlCpus::List(vec![2]);
        let cores = choose(&[0, 1, 2], &ShardCpus::Auto, &control).expect("it fits");
        assert_eq!(cores, Cores { shards: vec![0, 1], control: vec![2] });
    }

    #[test]
    fn cpu_lists_are_shown_as_ranges() {
        assert_eq!(show(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(show(&[]), "");
    }
}
