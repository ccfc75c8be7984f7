//! The tasks that upload: one per section, so that a target that hangs holds up no other.
//! Owns:  how many uploads go on at a time, and when a target that came back gets its backlog.
//! Gives: `Archive::start`.
//! Never: an upload without its lease: what it takes is nobody else's until then.
//! Holds: after a failure each upload waits by itself; the first success calls all of them back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Archive;
use super::schedule::LAST;
use super::upload::{LONGEST, Outcome};
use crate::store::{Section, StoreError};

/// Uploads of one section at a time; those in parts hold memory and have a bound of their own.
const AT_A_TIME: usize = 32;
/// A worker that died gives its uploads back after it. Longer than every upload and every wait.
const LEASE: Duration = Duration::from_hours(12);
const _: () = assert!(LEASE.as_secs() > LONGEST.as_secs() && LEASE.as_secs() > LAST.as_secs());
/// Between two looks without a sign: for new call records and retries that became due.
const LOOK: Duration = Duration::from_secs(5);
/// An upload that fails while others succeed is called back at most so often.
const HASTEN_EVERY: Duration = Duration::from_mins(1);
/// In looks.
const SWEEP_EVERY: u32 = 12;

impl Archive {
    /// Works until it is aborted: what is under way then is due again at the next start.
    pub fn start(self: &Arc<Self>) -> JoinHandle<()> {
        let archive = Arc::clone(self);
        tokio::spawn(async move {
            let served = archive.resume().await;
            let mut tasks = JoinSet::new();
            for section in served {
                tasks.spawn(Arc::clone(&archive).work(section));
            }
            tasks.spawn(archive.keep_house());
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a task of the archive ended badly");
                }
            }
        })
    }

    async fn resume(&self) -> Vec<Section> {
        let is_served = |section: &Section| self.targets.of_section(*section).is_some();
        let served: Vec<Section> = Section::ALL.into_iter().filter(is_served).collect();
        loop {
            match self.store.resume_uploads(&served).await {
                Ok(0) => return served,
                Ok(parked) => {
                    tracing::warn!(parked, "uploads wait for a target that is no longer named");
                    return served;
                }
                Err(error) => tracing::error!(%error, "uploads of before the start"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn work(self: Arc<Self>, section: Section) {
        let (mut work, mut backlog) = (JoinSet::new(), Backlog::new(section));
        loop {
            if let Err(error) = self.turn(section, &mut work).await {
                tracing::error!(%error, "uploads wait for the database");
            }
            if work.len() < AT_A_TIME {
                // A sign, a finished upload, or time.
                tokio::select! {
                    _ = timeout(LOOK, self.is_woken(section)) => {}
                    Some(done) = work.join_next(), if !work.is_empty() => {
                        backlog.hear(&self, done).await;
                    }
                }
            } else if let Some(done) = work.join_next().await {
                backlog.hear(&self, done).await;
            }
            while let Some(done) = work.try_join_next() {
                backlog.hear(&self, done).await;
            }
        }
    }

    /// Starts what is due, as far as there is room.
    async fn turn(
        self: &Arc<Self>,
        section: Section,
        work: &mut JoinSet<Outcome>,
    ) -> Result<(), StoreError> {
        let room = u32::try_from(AT_A_TIME - work.len()).unwrap_or(1);
        for upload in self.store.take_uploads(section, room, millis(LEASE)).await? {
            let archive = Arc::clone(self);
            work.spawn(async move { archive.attempt(&upload).await });
        }
        Ok(())
    }

    /// Counts what waits, and clears up.
    async fn keep_house(self: Arc<Self>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for _ in 0..SWEEP_EVERY {
                look.tick().await;
                match self.store.upload_backlog().await {
                    Ok(backlog) => {
                        let counts = &self.board.counts;
                        counts.uploads_backlog.store(backlog.waiting, Ordering::Relaxed);
                        counts.uploads_oldest.store(backlog.oldest_s(), Ordering::Relaxed);
                        counts.uploads_lost.store(backlog.lost, Ordering::Relaxed);
                    }
                    Err(error) => tracing::error!(%error, "the backlog of uploads"),
                }
            }
            self.sweep().await;
        }
    }
}

/// What a section's target did lately.
struct Backlog {
    section: Section,
    /// It failed, and nothing was called back since.
    failed: bool,
    hastened: Option<Instant>,
}

impl Backlog {
    const fn new(section: Section) -> Self {
        Self { section, failed: false, hastened: None }
    }

    async fn hear(&mut self, archive: &Archive, done: Result<Outcome, JoinError>) {
        match done {
            Ok(Outcome::Failed) => {}
            Ok(Outcome::TargetFailed) => self.failed = true,
            Ok(Outcome::Stored) => {
                let rested = self.hastened.is_none_or(|at| at.elapsed() >= HASTEN_EVERY);
                if self.failed && rested {
                    self.call_back(archive).await;
                }
            }
            Err(error) => {
                tracing::error!(%error, "an upload ended badly; it is tried again after its lease");
            }
        }
    }

    async fn call_back(&mut self, archive: &Archive) {
        match archive.store.hasten_uploads(self.section, millis(LAST)).await {
            Ok(()) => (self.failed, self.hastened) = (false, Some(Instant::now())),
            Err(error) => tracing::error!(%error, "uploads keep their waits"),
        }
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
