//! How the shard's io_uring is made: flags, what the kernel must know, what it must refuse.
//! Owns:  the list of operations that we use, ring sizes, the oldest kernel.
//! Gives: a ring that is enabled, knows the bell and refuses every other operation.
//! Never: a ring with fewer features: a kernel that lacks one is named in the error.
//! Holds: registrations happen while the ring is disabled, so no request precedes the restrictions.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{IoUring, Probe, opcode};

use super::buffers::Group;

/// DEFER_TASKRUN came with 6.1; multishot `recvmsg` and provided buffer rings are older.
pub(crate) const KERNEL_NEEDED: &str = "6.1";

/// Requests that wait for one `io_uring_enter`.
pub(super) const ENTRIES: u32 = 1_024;
/// Completions that wait for us: a turn takes 512, sends and cancels come on top.
const COMPLETIONS: u32 = 4 * ENTRIES;

/// Every operation that the shell submits, by number and name.
const OPERATIONS: [(u8, &str); 7] = [
    (opcode::AcceptMulti::CODE, "accept"),
    (opcode::AsyncCancel2::CODE, "async cancel"),
    (opcode::Connect::CODE, "connect"),
    (opcode::RecvMsgMulti::CODE, "recvmsg"),
    (opcode::RecvMulti::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::SendMsg::CODE, "sendmsg"),
];

/// Why a ring could not be made, before anybody knows what that means for the shard.
#[derive(Debug)]
pub(crate) enum SetupError {
    /// `io_uring_setup` itself failed.
    Create(io::Error),
    /// The kernel has io_uring but not this operation.
    OperationMissing(&'static str),
    /// A registration failed: restrictions, buffers, the bell.
    Register(&'static str, io::Error),
}

impl SetupError {
    pub(crate) fn is_want_of_memory(&self) -> bool {
        match self {
            Self::Create(error) | Self::Register(_, error) => {
                error.raw_os_error() == Some(libc::ENOMEM)
            }
            Self::OperationMissing(_) => false,
        }
    }
}

/// The kernel has io_uring, lets us use it, and has memory for a small ring of ours.
pub(crate) fn try_small_ring() -> Result<(), SetupError> {
    let ring = IoUring::new(2).map_err(SetupError::Create)?;
    check_operations(&ring)
}

fn check_operations(ring: &IoUring) -> Result<(), SetupError> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|e| SetupError::Register("probe", e))?;
    for (code, name) in OPERATIONS {
        if !probe.is_supported(code) {
            return Err(SetupError::OperationMissing(name));
        }
    }
    Ok(())
}

/// Makes the ring of the calling thread, which alone may submit to it.
pub(super) fn make(bell: BorrowedFd<'_>, groups: &[&Group]) -> Result<IoUring, SetupError> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        // Packets are taken off the sockets when we ask, in batches, not one interrupt each.
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .setup_r_disabled()
        .dontfork()
        .build(ENTRIES)
        .map_err(SetupError::Create)?;
    check_operations(&ring)?;
    let submitter = ring.submitter();
    for group in groups {
        provide(&ring, group)?;
    }
    submitter
        .register_eventfd(bell.as_raw_fd())
        .map_err(|error| SetupError::Register("wake-up", error))?;
    let mut restrictions: Vec<Restriction> =
        OPERATIONS.iter().map(|(code, _)| Restriction::sqe_op(*code)).collect();
    let flags = Flags::BUFFER_SELECT | Flags::SKIP_SUCCESS;
    restrictions.push(Restriction::sqe_flags_allowed(flags.bits()));
    submitter
        .register_restrictions(&mut restrictions)
        .map_err(|error| SetupError::Register("restrictions", error))?;
    submitter.register_enable_rings().map_err(|error| SetupError::Register("enable", error))?;
    Ok(ring)
}

#[allow(unsafe_code)]
fn provide(ring: &IoUring, group: &Group) -> Result<(), SetupError> {
    // SAFETY: the address is page aligned, holds `entries` initialised entries, and `Ring` keeps the
    // mapping alive for as long as the ring. The interface takes an address; there is no safe form.
    unsafe {
        ring.submitter().register_buf_ring_with_flags(
            group.ring_address(),
            group.entries(),
            group.id(),
            0,
        )
    }
    .map_err(|error| SetupError::Register("buffers", error))
}
