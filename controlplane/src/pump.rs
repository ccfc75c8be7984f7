//! The event pump: takes events off the shards' queues and hands each to whom it concerns.
//! Owns:  the wait on the event descriptor.
//! Gives: news of the journals to `journal`, of calls and registrations to `news`, captures to
//!        `recordings`, answers to `questions`, asks to `webhooks`, registrations to the outbox, states to
//!        `board`, notices to the log.
//! Never: drops an event. When a receiver is full the pump waits, the shards' queues fill, and the
//!        shards refuse new calls before anything is lost.
//! Holds: it ends when every shard has stopped and its queue is empty.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use shared::event::{CaptureClosed, Event, Notice, Registration, Severity};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::board::{Board, ShardState, Stage};
use crate::journal::Taps;
use crate::news::News;
use crate::plane::Plane;
use crate::questions::Questions;
use crate::webhooks::Decider;

/// Events that are taken at a time.
const BATCH: usize = 1_024;
/// A look without a wake-up, so that a lost one costs a moment and not a call record.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Pump {
    pub plane: Arc<dyn Plane>,
    pub board: Arc<Board>,
    pub questions: Arc<Questions>,
    pub journal: Taps,
    pub news: Arc<News>,
    pub captures: mpsc::Sender<CaptureClosed>,
    pub decider: Arc<Decider>,
    pub registrations: mpsc::Sender<Box<Registration>>,
}

impl Pump {
    /// Needs a tokio runtime. Ends when every shard has stopped.
    pub async fn run(self) -> io::Result<()> {
        let fd = watch(self.plane.event_fd().try_clone_to_owned()?)?;
        let mut events = Vec::with_capacity(BATCH);
        let (mut silent, mut looked_at) = (Vec::new(), Instant::now());
        loop {
            if let Ok(ready) = timeout(LOOK, fd.readable()).await {
                // Cleared before the queues are read: what comes later makes it readable again.
                self.plane.clear_event_fd();
                ready?.clear_ready();
            }
            while self.plane.take_events(BATCH, &mut events) > 0 {
                for event in events.drain(..) {
                    self.hand_on(event).await?;
                }
            }
            if self.board.every(|shard| shard.stage == Stage::Stopped) {
                return Ok(());
            }
            if looked_at.elapsed() >= LOOK {
                looked_at = Instant::now();
                log_silence(&self.board.shards(), &mut silent);
            }
        }
    }

    async fn hand_on(&self, event: Event) -> io::Result<()> {
        let gone = |what: &str| io::Error::other(format!("the {what} has ended"));
        match event {
            Event::Answer { id, shard, answer } => self.questions.answer(id, shard, answer),
            Event::Asked { shard, id, ask } => self.decider.decide(shard, id, *ask),
            Event::Call(news) => self.news.call(&news),
            Event::CaptureClosed(closed) => {
                self.captures.send(closed).await.map_err(|_| gone("finalizer of recordings"))?;
            }
            Event::Counters { shard, counters } => self.board.counted(shard, *counters),
            Event::Drained(shard) => self.board.reached(shard, Stage::Drained),
            Event::Journaled { shard, position, ends, last } => {
                self.journal.reached(shard, position, ends);
                if last {
                    self.journal.completed(shard);
                }
            }
            Event::Notice(notice) => log(&notice),
            Event::Registration(change) => {
                tracing::debug!(
                    aor = change.aor,
                    change = ?change.change,
                    from = %change.destination,
                    expires_s = change.expires_s,
                    "registration"
                );
                self.news.registration(&change);
                let sent = self.registrations.send(change).await;
                sent.map_err(|_| gone("writer of registrations"))?;
            }
            Event::SnapshotLive { shard, generation } => self.board.live(shard, generation),
            Event::Started(shard) => self.board.started(shard),
            Event::Stopped(shard) => self.board.reached(shard, Stage::Stopped),
        }
        Ok(())
    }
}

#[expect(deprecated, reason = "an OwnedFd keeps what the unsafe constructor asks the caller for")]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// Says once when a shard goes silent, and once when it is heard again.
fn log_silence(shards: &[ShardState], silent: &mut Vec<bool>) {
    silent.resize(shards.len(), false);
    for (shard, (state, was_silent)) in shards.iter().zip(silent).enumerate() {
        match (state.is_silent(), *was_silent) {
            (true, false) => tracing::error!(shard, cpu = state.cpu, "a shard has gone silent"),
            (false, true) => tracing::info!(shard, "a shard is heard again"),
            _ => {}
        }
        *was_silent = state.is_silent();
    }
}

fn log(notice: &Notice) {
    let Notice { shard, severity, code, detail, suppressed } = notice;
    let shard = shard.0;
    match severity {
        Severity::Error => tracing::error!(shard, code, suppressed, "{detail}"),
        Severity::Info => tracing::info!(shard, code, suppressed, "{detail}"),
        Severity::Warning => tracing::warn!(shard, code, suppressed, "{detail}"),
    }
}
