//! What must be true of the machine before a shard starts, checked first and told in one line each.
//! Owns:  the checks of settings, CPUs, limits, the captures folder and io_uring.
//! Gives: `Surroundings`, so that a later failure of a ring can be read.
//! Never: a thread, an executor; glommio panics where this returns an error.
//! Holds: what passes here fails later only if the machine changes meanwhile.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use shared::ids::ShardId;
use shared::limits;
use shared::settings::ShardSettings;

use crate::executor::{MEMORY_TRIES, MEMORY_WAIT};
use crate::process_limits::{self, Limit};
use crate::ring::setup;
use crate::start_error::{self, StartError, Surroundings};

/// glommio refuses to start below this, whatever the user may lock.
const EXECUTOR_LOCKED_BYTES: u64 = 512 * 1_024;
/// What one shard's four rings, their buffers and buffer rings lock: 440 KiB on Linux 6.18.
const SHARD_LOCKED_BYTES: u64 = 512 * 1_024;
/// Descriptors of an idle process; each call with media takes four more.
const FILES_NEEDED: u64 = 1_024;
/// Bit of CAP_IPC_LOCK in `CapEff`: whoever has it may lock what he likes.
const CAP_IPC_LOCK: u64 = 1 << 14;

pub(crate) fn check(all: &[ShardSettings]) -> Result<Surroundings, StartError> {
    check_settings(all)?;
    let allowed = allowed_cpus();
    let online = read_trimmed("/sys/devices/system/cpu/online");
    for settings in all {
        check_cpu(settings.cpu, online.as_deref(), allowed.as_deref())?;
    }
    let files = process_limits::raise(Limit::OpenFiles);
    if files < FILES_NEEDED {
        return Err(StartError::FileLimit { limit: files, needed: FILES_NEEDED });
    }
    let around = surroundings(all.len());
    if around.locked_limit < around.locked_needed {
        return Err(StartError::LockedMemory {
            limit: around.locked_limit,
            needed: around.locked_needed,
        });
    }
    for settings in all {
        check_folder(&settings.recording.captures)?;
        check_folder(&settings.journal.folder)?;
    }
    try_ring(&around)?;
    Ok(around)
}

fn check_settings(all: &[ShardSettings]) -> Result<(), StartError> {
    let wrong = |what: String| Err(StartError::Settings(what));
    if all.is_empty() || all.len() > limits::SHARDS_MAX {
        return wrong(format!("{} shards, 1 to {} are possible", all.len(), limits::SHARDS_MAX));
    }
    for (index, settings) in all.iter().enumerate() {
        if usize::from(settings.shard.0) != index || usize::from(settings.shards) != all.len() {
            return wrong(format!(
                "shard {} of {} is at {index}",
                settings.shard.0, settings.shards
            ));
        }
        let theirs = &all[0];
        let of = |one: &ShardSettings| {
            (one.udp.clone(), one.tcp.clone(), one.tls.clone(), one.web.clone())
        };
        if of(settings) != of(theirs) {
            return wrong(format!("shard {index} has listeners of its own"));
        }
        let web = settings.web.ws.len() + settings.web.wss.len();
        let streams = settings.tcp.len() + settings.tls.len() + web;
        if settings.udp.len() > usize::from(u8::MAX) || streams > usize::from(u8::MAX) {
            return wrong("more than 255 listeners for datagrams or for streams".to_owned());
        }
        let is_secure = !settings.tls.is_empty() || !settings.web.wss.is_empty();
        if is_secure && settings.tls_files.is_none() {
            return wrong("TLS listeners without a certificate".to_owned());
        }
    }
    Ok(())
}

fn check_cpu(cpu: usize, online: Option<&str>, allowed: Option<&str>) -> Result<(), StartError> {
    if online.is_some_and(|online| !list_has(online, cpu)) {
        return Err(StartError::CpuMissing { cpu });
    }
    match allowed {
        Some(allowed) if !list_has(allowed, cpu) => {
            Err(StartError::CpuNotAllowed { cpu, allowed: allowed.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Whether a list such as `0-3,8,10-11` has this number in it.
fn list_has(list: &str, number: usize) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&number),
            _ => false,
        }
    })
}

fn allowed_cpus() -> Option<String> {
    status_line("Cpus_allowed_list:")
}

fn status_line(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
}

fn surroundings(shards: usize) -> Surroundings {
    let capabilities = status_line("CapEff:")
        .and_then(|text| u64::from_str_radix(&text, 16).ok())
        .unwrap_or_default();
    let limit = process_limits::raise(Limit::LockedMemory);
    let needed = if capabilities & CAP_IPC_LOCK != 0 {
        EXECUTOR_LOCKED_BYTES
    } else {
        (SHARD_LOCKED_BYTES * shards as u64).max(EXECUTOR_LOCKED_BYTES)
    };
    Surroundings {
        kernel: read_trimmed("/proc/sys/kernel/osrelease")
            .unwrap_or_else(|| "a kernel without a name".to_owned()),
        disabled: read_trimmed("/proc/sys/kernel/io_uring_disabled")
            .and_then(|text| text.parse().ok()),
        locked_limit: limit,
        locked_needed: needed,
    }
}

fn read_trimmed(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Creates the folder where it is missing and writes a file into it once.
fn check_folder(path: &Path) -> Result<(), StartError> {
    let refused = |error| StartError::DirectoryNotWritable { path: path.to_owned(), error };
    fs::create_dir_all(path).map_err(refused)?;
    let probe = path.join(format!(".writable-{}", std::process::id()));
    fs::write(&probe, b"").map_err(refused)?;
    match fs::remove_file(&probe) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(refused(error)),
        _ => Ok(()),
    }
}

/// A small ring, tried for two seconds while memory is short: right after a restart the kernel still
/// counts the old process's rings. glommio makes the same probe, but panics, and only once.
fn try_ring(around: &Surroundings) -> Result<(), StartError> {
    let mut tries = MEMORY_TRIES;
    loop {
        // In a thread of its own: the kernel ends a ring by interrupting the thread that made it.
        let outcome = std::thread::spawn(setup::try_small_ring).join();
        match outcome.expect("making a ring does not panic") {
            Ok(()) => return Ok(()),
            Err(error) if error.is_want_of_memory() && tries > 1 => {
                tries -= 1;
                std::thread::sleep(MEMORY_WAIT);
            }
            Err(error) => return Err(start_error::of_ring(ShardId(0), error, around)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        for (list, cpu, there) in [
            ("0", 0, true),
            ("0", 1, false),
            ("0-3", 3, true),
            ("0-3,8,10-11", 9, false),
            ("0-3,8,10-11", 11, true),
            ("", 0, false),
        ] {
            assert_eq!(list_has(list, cpu), there, "{cpu} in {list:?}");
        }
    }

    #[test]
    fn a_missing_cpu_and_a_forbidden_one_are_told_apart() {
        let missing = check_cpu(9, Some("0-7"), Some("0-7"));
        assert!(matches!(missing, Err(StartError::CpuMissing { cpu: 9 })));
        let forbidden = check_cpu(7, Some("0-7"), Some("0-3"));
        assert!(matches!(forbidden, Err(StartError::CpuNotAllowed { cpu: 7, .. })));
        assert!(check_cpu(3, Some("0-7"), Some("0-3")).is_ok());
        assert!(check_cpu(3, None, None).is_ok());
    }

    #[test]
    fn a_file_in_place_of_the_captures_folder_is_named() {
        let path = std::env::temp_dir().join(format!("shard-preflight-{}", std::process::id()));
        fs::write(&path, b"").expect("a file");
        let error = check_folder(&path.join("captures")).expect_err("not a folder");
        fs::remove_file(&path).expect("it was written");
        assert!(error.to_string().contains("captures"), "{error}");
    }

    #[test]
    fn this_machine_has_a_ring() {
        try_ring(&surroundings(1)).expect("io_uring");
    }
}
