//! How the shard sleeps: glommio waits for the bell and for one timer, whichever comes first.
//! Owns:  the read on the bell that is always under way.
//! Gives: `sleep`, which returns when the bell rang or the time came.
//! Never: more than one timer; a second read while one is under way.
//! Holds: the bell's descriptor stays with its owner: glommio reads a duplicate and closes that.

use std::future::Future;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::timer::Timer;

use crate::bell::Bell;

type Reading = Pin<Box<dyn Future<Output = ()>>>;

pub(crate) struct Park {
    file: Rc<BufferedFile>,
    reading: Reading,
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
        // SAFETY: the descriptor is open and its ownership moves into the file. glommio has no safe
        // way to take a descriptor, and no other way to wait for one that is not its own.
        let file = Rc::new(unsafe { BufferedFile::from_raw_fd(listener.into_raw_fd()) });
        let reading = read(&file);
        Ok(Self { file, reading })
    }

    /// Returns when the bell rang, or after `most`.
    pub(crate) async fn sleep(&mut self, most: Duration) {
        let mut timer = Timer::new(most);
        let rang = std::future::poll_fn(|cx| {
            if self.reading.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            Pin::new(&mut timer).poll(cx).map(|_| false)
        })
        .await;
        if rang {
            self.reading = read(&self.file);
        }
    }

    /// Ends the read that is under way, then closes glommio's duplicate.
    pub(crate) async fn close(self, bell: &Bell) -> io::Result<()> {
        bell.ring_always();
        let Self { file, reading } = self;
        reading.await;
        let file = Rc::into_inner(file).expect("the reading that shared it has ended");
        Ok(file.close().await?)
    }
}

/// A bell that cannot be read would leave the shard deaf, so that ends it.
fn read(file: &Rc<BufferedFile>) -> Reading {
    let file = Rc::clone(file);
    Box::pin(async move {
        let outcome = file.read_at(0, 8).await;
        outcome.map(drop).expect("the bell is an eventfd of ours and stays open");
    })
}
