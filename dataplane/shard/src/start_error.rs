//! Why the data plane did not start: one clear line each, with what an operator can do about it.
//! Owns:  `StartError` and how failures of io_uring are read.
//! Gives: `Display` lines for a terminal and a log.
//! Never: an errno without the address, the limit or the file that it is about.
//! Holds: a kernel that is too old, forbids or lacks memory is told apart from each other.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use shared::ids::ShardId;
use shared::net::Transport;

use crate::ring::setup::{KERNEL_NEEDED, SetupError};

#[derive(Debug)]
pub enum StartError {
    /// The address is not one of this machine's, or not allowed.
    AddressRefused {
        transport: Transport,
        address: SocketAddr,
        error: io::Error,
    },
    /// There is no such CPU, or it is off-line.
    CpuMissing {
        cpu: usize,
    },
    /// The CPU exists, but this process may not run on it (taskset, cpuset, systemd AllowedCPUs).
    CpuNotAllowed {
        cpu: usize,
        allowed: String,
    },
    DirectoryNotWritable {
        path: PathBuf,
        error: io::Error,
    },
    /// A shard's executor did not come up.
    Executor {
        shard: ShardId,
        reason: String,
    },
    /// Not enough descriptors for even an idle process.
    FileLimit {
        limit: u64,
        needed: u64,
    },
    JournalRefused {
        path: PathBuf,
        error: io::Error,
    },
    KernelTooOld {
        found: String,
        missing: String,
    },
    LockedMemory {
        limit: u64,
        needed: u64,
    },
    PortTaken {
        transport: Transport,
        address: SocketAddr,
    },
    /// io_uring is switched off by sysctl or forbidden by seccomp.
    RingForbidden {
        reason: String,
    },
    Ring {
        shard: ShardId,
        reason: String,
    },
    /// Its folder cannot be had, or its thread.
    SipFlowRefused {
        path: PathBuf,
        error: io::Error,
    },
    /// A file for TLS cannot be read, or does not belong to the others.
    TlsFileRefused {
        path: PathBuf,
        reason: String,
    },
    /// The settings contradict each other; a checked configuration never does.
    Settings(String),
    /// A shard said nothing for too long.
    TimedOut {
        shard: ShardId,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressRefused { transport, address, error } => {
                write!(f, "cannot listen on {} {address}: {error}", transport.via_word())
            }
            Self::CpuMissing { cpu } => write!(f, "CPU {cpu} does not exist or is off-line"),
            Self::CpuNotAllowed { cpu, allowed } => {
                write!(f, "this process may not run on CPU {cpu}, only on {allowed}")
            }
            Self::DirectoryNotWritable { path, error } => {
                write!(f, "cannot write into the captures folder {}: {error}", path.display())
            }
            Self::Executor { shard, reason } => {
                write!(f, "the executor of shard {} did not start: {reason}", shard.0)
            }
            Self::FileLimit { limit, needed } => write!(
                f,
                "the limit of open files is {limit}, at least {needed} are needed: raise it \
                 (ulimit -n, LimitNOFILE=)"
            ),
            Self::JournalRefused { path, error } => {
                write!(f, "no journal can be kept in {}: {error}", path.display())
            }
            Self::SipFlowRefused { path, error } => {
                write!(f, "no SIP flow can be kept in {}: {error}", path.display())
            }
            Self::KernelTooOld { found, missing } => write!(
                f,
                "the kernel is too old: Linux {KERNEL_NEEDED} is needed, this is {found} \
                 (missing: {missing})"
            ),
            Self::LockedMemory { limit, needed } => write!(
                f,
                "not enough memory may be locked: the limit is {limit} bytes for all processes of \
                 this user, this one needs {needed}: raise it (ulimit -l, LimitMEMLOCK=)"
            ),
            Self::PortTaken { transport, address } => {
                write!(f, "{} {address} is taken by another process", transport.via_word())
            }
            Self::RingForbidden { reason } => write!(f, "io_uring is not allowed here: {reason}"),
            Self::Ring { shard, reason } => {
                write!(f, "the ring of shard {} did not start: {reason}", shard.0)
            }
            Self::TlsFileRefused { path, reason } => {
                write!(f, "TLS cannot use {}: {reason}", path.display())
            }
            Self::Settings(what) => write!(f, "the data plane's settings are wrong: {what}"),
            Self::TimedOut { shard } => {
                write!(f, "shard {} did not start in time", shard.0)
            }
        }
    }
}

impl Error for StartError {}

/// What a listener's `bind` or `listen` failed with.
pub(crate) fn of_bind(transport: Transport, address: SocketAddr, error: io::Error) -> StartError {
    if error.kind() == io::ErrorKind::AddrInUse {
        StartError::PortTaken { transport, address }
    } else {
        StartError::AddressRefused { transport, address, error }
    }
}

/// What the surroundings of a failed ring look like; read by `preflight`.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) kernel: String,
    /// Value of the sysctl `kernel.io_uring_disabled`, where there is one.
    pub(crate) disabled: Option<u8>,
    pub(crate) locked_limit: u64,
    pub(crate) locked_needed: u64,
}

/// What a ring failed with, in words.
pub(crate) fn of_ring(shard: ShardId, error: SetupError, around: &Surroundings) -> StartError {
    let too_old = |missing: &str| StartError::KernelTooOld {
        found: around.kernel.clone(),
        missing: missing.to_owned(),
    };
    match error {
        SetupError::Create(error) => match error.raw_os_error() {
            Some(libc::ENOSYS) => StartError::RingForbidden {
                reason: "the kernel has no io_uring, or seccomp hides it (container profile)"
                    .to_owned(),
            },
            Some(libc::EPERM) => StartError::RingForbidden { reason: forbidden(around.disabled) },
            Some(libc::EINVAL) => too_old("single issuer, deferred task work"),
            Some(libc::ENOMEM) => StartError::LockedMemory {
                limit: around.locked_limit,
                needed: around.locked_needed,
            },
            _ => StartError::Ring { shard, reason: error.to_string() },
        },
        SetupError::OperationMissing(name) => too_old(name),
        SetupError::Register(what, error) => match error.raw_os_error() {
            Some(libc::ENOMEM) => StartError::LockedMemory {
                limit: around.locked_limit,
                needed: around.locked_needed,
            },
            Some(libc::EINVAL) => too_old(what),
            _ => StartError::Ring { shard, reason: format!("{what}: {error}") },
        },
    }
}

fn forbidden(disabled: Option<u8>) -> String {
    match disabled {
        Some(2) => "sysctl kernel.io_uring_disabled is 2 (off for everybody)".to_owned(),
        Some(1) => "sysctl kernel.io_uring_disabled is 1 (only for CAP_SYS_ADMIN and the group \
                    kernel.io_uring_group)"
            .to_owned(),
        _ => "refused with EPERM, most likely by a seccomp profile (container)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(disabled: Option<u8>) -> Surroundings {
        Surroundings {
            kernel: "5.15.0".to_owned(),
            disabled,
            locked_limit: 65_536,
            locked_needed: 1_048_576,
        }
    }

    fn line(errno: i32, disabled: Option<u8>) -> String {
        let error = SetupError::Create(io::Error::from_raw_os_error(errno));
        of_ring(ShardId(1), error, &around(disabled)).to_string()
    }

    #[test]
    fn each_refusal_of_the_kernel_says_what_to_change() {
        assert!(line(libc::EPERM, Some(2)).contains("kernel.io_uring_disabled is 2"));
        assert!(line(libc::EPERM, Some(1)).contains("kernel.io_uring_group"));
        assert!(line(libc::EPERM, Some(0)).contains("seccomp"));
        assert!(line(libc::ENOSYS, None).contains("seccomp"));
        let old = line(libc::EINVAL, None);
        assert!(old.contains("Linux 6.1 is needed, this is 5.15.0"), "{old}");
        let memory = line(libc::ENOMEM, None);
        assert!(memory.contains("65536") && memory.contains("1048576"), "{memory}");
    }

    #[test]
    fn every_error_is_one_line() {
        let error = || io::Error::from_raw_os_error(libc::EACCES);
        let address: SocketAddr = "192.0.2.1:5060".parse().expect("an address");
        let errors = [
            StartError::AddressRefused { transport: Transport::Tcp, address, error: error() },
            StartError::CpuMissing { cpu: 99 },
            StartError::CpuNotAllowed { cpu: 1, allowed: "0".to_owned() },
            StartError::DirectoryNotWritable { path: PathBuf::from("captures"), error: error() },
            StartError::Executor { shard: ShardId(0), reason: "no".to_owned() },
            StartError::FileLimit { limit: 256, needed: 1_024 },
            StartError::JournalRefused { path: PathBuf::from("journal"), error: error() },
            StartError::KernelTooOld { found: "5.4".to_owned(), missing: "recvmsg".to_owned() },
            StartError::LockedMemory { limit: 1, needed: 2 },
            StartError::PortTaken { transport: Transport::Udp, address },
            StartError::RingForbidden { reason: "no".to_owned() },
            StartError::Ring { shard: ShardId(0), reason: "no".to_owned() },
            StartError::Settings("no shard".to_owned()),
            StartError::TimedOut { shard: ShardId(3) },
            StartError::TlsFileRefused { path: PathBuf::from("key.pem"), reason: "no".to_owned() },
        ];
        for error in errors {
            let line = error.to_string();
            assert!(!line.contains('\n') && line.len() < 200, "{line}");
        }
    }

    #[test]
    fn a_taken_port_is_named_with_its_transport() {
        let address: SocketAddr = "127.0.0.1:5060".parse().expect("an address");
        let error =
            of_bind(Transport::Udp, address, io::Error::from_raw_os_error(libc::EADDRINUSE));
        assert_eq!(error.to_string(), "UDP 127.0.0.1:5060 is taken by another process");
    }
}
