//! How the shard sleeps: glommio waits for the bell and for a timerfd, whichever comes first.
//! Owns:  the two reads that are always under way, and the timer.
//! Gives: `sleep`, which returns when the bell rang or the time came.
//! Never: a timer of glommio's: under load one of them was lost now and then, and the shard slept on
//!        until the next datagram.
//! Holds: the bell's descriptor stays with its owner: glommio reads a duplicate and closes that.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use glommio::io::BufferedFile;

use crate::bell::Bell;

type Reading = Pin<Box<dyn Future<Output = ()>>>;

pub(crate) struct Park {
    file: Rc<BufferedFile>,
    reading: Reading,
    timer: File,
    timer_file: Rc<BufferedFile>,
    timer_reading: Reading,
}

impl std::fmt::Debug for Park {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Park").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Park {
    /// To be called inside the executor.
    #[allow(unsafe_code)]
    pub(crate) fn new(bell: &Bell) -> io::Result<Self> {
        let listener = bell.listener()?;
        let timer = open_timer()?;
        let timer_listener = timer.as_fd().try_clone_to_owned()?;
        // SAFETY: both descriptors are open and their ownership moves into the files. glommio has no
        // safe way to take a descriptor, and no other way to wait for one that is not its own.
        let file = Rc::new(unsafe { BufferedFile::from_raw_fd(listener.into_raw_fd()) });
        // SAFETY: as above.
        let timer_file =
            Rc::new(unsafe { BufferedFile::from_raw_fd(timer_listener.into_raw_fd()) });
        let (reading, timer_reading) = (read(&file), read(&timer_file));
        Ok(Self { file, reading, timer, timer_file, timer_reading })
    }

    /// Returns when the bell rang, or after `most`.
    pub(crate) async fn sleep(&mut self, most: Duration) {
        set_timer(&self.timer, most).expect("a timer of ours can be set");
        let (rang, came) = std::future::poll_fn(|cx| {
            let rang = self.reading.as_mut().poll(cx).is_ready();
            let came = self.timer_reading.as_mut().poll(cx).is_ready();
            if rang || came { Poll::Ready((rang, came)) } else { Poll::Pending }
        })
        .await;
        if rang {
            self.reading = read(&self.file);
        }
        if came {
            self.timer_reading = read(&self.timer_file);
        }
    }

    /// Ends the reads that are under way, then closes glommio's duplicates.
    pub(crate) async fn close(self, bell: &Bell) -> io::Result<()> {
        bell.ring_always();
        set_timer(&self.timer, Duration::from_nanos(1))?;
        let Self { file, reading, timer_file, timer_reading, .. } = self;
        reading.await;
        timer_reading.await;
        for file in [file, timer_file] {
            let file = Rc::into_inner(file).expect("the reading that shared it has ended");
            file.close().await?;
        }
        Ok(())
    }
}

#[allow(unsafe_code)]
fn open_timer() -> io::Result<File> {
    // SAFETY: the call takes two integers and gives a new descriptor or -1. The standard library
    // has no timerfd.
    let descriptor = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open and ours alone.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// One expiry after `wait`, at least a nanosecond: zero would switch the timer off.
#[allow(unsafe_code)]
fn set_timer(timer: &File, wait: Duration) -> io::Result<()> {
    let wait = wait.max(Duration::from_nanos(1));
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let value = libc::timespec {
        tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(wait.subsec_nanos()),
    };
    let setting = libc::itimerspec { it_interval: zero, it_value: value };
    // SAFETY: the descriptor is open, the setting outlives the call, no old value is asked for.
    let outcome =
        unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &setting, std::ptr::null_mut()) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A bell or timer that cannot be read would leave the shard deaf, so that ends it.
fn read(file: &Rc<BufferedFile>) -> Reading {
    let file = Rc::clone(file);
    Box::pin(async move {
        let outcome = file.read_at(0, 8).await;
        outcome.map(drop).expect("the descriptor is ours and stays open");
    })
}
