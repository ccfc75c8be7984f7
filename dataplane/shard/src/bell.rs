//! Wake-ups through an eventfd: the kernel's for completions, other threads' for commands and mesh.
//! Owns:  `Bell` (towards a shard) and `Buzzer` (towards the control plane).
//! Gives: one write per sleep of the listener, however many producers ring.
//! Never: a lock; a count that matters: what waits lies in queues.
//! Holds: whoever pushes before `ring` is seen, by the woken listener or by its check before sleep.

use std::fs::File;
use std::io::{ErrorKind, Read, Result, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

/// Wakes a parked shard.
#[derive(Debug)]
pub(crate) struct Bell {
    file: File,
    parked: AtomicBool,
}

impl Bell {
    pub(crate) fn new() -> Result<Self> {
        // Reads wait: glommio's ring arms a poll for them, and would fail on a non-blocking file.
        Ok(Self { file: open(libc::EFD_CLOEXEC)?, parked: AtomicBool::new(false) })
    }

    /// Something was pushed for the shard.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed) {
            self.ring_always();
        }
    }

    /// Wakes the shard whether it sleeps or not.
    pub(crate) fn ring_always(&self) {
        write_one(&self.file);
    }

    /// The shard is about to sleep. It must look into its queues once more after this.
    pub(crate) fn park(&self) {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn unpark(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// Sleeps until the bell rings, at most for `most`; takes the ring with it.
    #[allow(unsafe_code)]
    pub(crate) fn wait(&self, most: Duration) {
        let mut watched =
            libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let most = libc::timespec {
            tv_sec: libc::time_t::try_from(most.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(most.subsec_nanos()),
        };
        // SAFETY: one watched descriptor of ours, both structures outlive the call, no signal mask.
        // The standard library cannot wait for a descriptor with a time-out.
        let ready = unsafe { libc::ppoll(&mut watched, 1, &most, std::ptr::null()) };
        if ready > 0 {
            // It is readable and nobody else reads it, so this does not wait.
            let mut count = [0; 8];
            (&self.file).read_exact(&mut count).expect("an eventfd of ours that was rung");
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Tells the control plane that events wait: readable until it is cleared.
#[derive(Debug)]
pub(crate) struct Buzzer {
    file: File,
}

impl Buzzer {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { file: open(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)? })
    }

    pub(crate) fn buzz(&self) {
        write_one(&self.file);
    }

    pub(crate) fn clear(&self) {
        let mut count = [0; 8];
        match (&self.file).read(&mut count) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {} // it was clear
            Err(error) => panic!("an eventfd of ours cannot be read: {error}"),
        }
    }
}

impl AsFd for Buzzer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[allow(unsafe_code)]
fn open(flags: libc::c_int) -> Result<File> {
    // SAFETY: the call takes two integers and gives a new descriptor or -1; the descriptor belongs
    // to nobody else. The standard library has no eventfd.
    let descriptor = unsafe { libc::eventfd(0, flags) };
    if descriptor < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: see above: it is open and ours alone.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

fn write_one(mut file: &File) {
    match file.write(&1_u64.to_ne_bytes()) {
        Ok(_) => {}
        // The count is at its end, so the listener has long been told.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => panic!("an eventfd of ours cannot be written: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(file: &File) -> u64 {
        let mut bytes = [0; 8];
        (&mut &*file).read_exact(&mut bytes).expect("it was rung");
        u64::from_ne_bytes(bytes)
    }

    #[test]
    fn many_rings_of_one_sleep_write_once() {
        let bell = Bell::new().expect("an eventfd");
        bell.ring();
        bell.park();
        bell.ring();
        bell.ring();
        bell.ring_always();
        assert_eq!(count(&bell.file), 2, "one for the sleep, one unconditional");
    }

    #[test]
    fn a_shard_that_is_awake_is_not_rung() {
        let bell = Bell::new().expect("an eventfd");
        bell.park();
        bell.unpark();
        bell.ring();
        bell.ring_always();
        assert_eq!(count(&bell.file), 1);
    }

    #[test]
    fn a_buzzer_may_be_cleared_twice() {
        let buzzer = Buzzer::new().expect("an eventfd");
        buzzer.buzz();
        buzzer.clear();
        buzzer.clear();
        buzzer.buzz();
        assert_eq!(count(&buzzer.file), 1);
    }
}
