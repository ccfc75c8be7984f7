//! The shell around a line: database, transport, clock and timers of one endpoint.
//! Owns:  the calls under way, the page that is being read, the outcomes that are being written.
//! Gives: `run`, one task per endpoint, so that none waits for another.
//! Never: decides what is sent; the line does.
//! Holds: outcomes are written in order and until the database took them; what is not written when the
//!        process ends is sent again by the next one, with the same id.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use shared::time::WallMs;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::line::{Health, Input, Limits, Line, Output, Verdict};
use super::{Deliveries, Desk};
use crate::store::{Due, Next, Settlement, Store, StoreError, Tried, Waiting};

/// Brings one event to its endpoint.
pub trait Transport: std::fmt::Debug + Send + Sync + 'static {
    fn deliver(&self, endpoint: &'static str, row: Waiting) -> Delivering;
}

pub type Delivering = Pin<Box<dyn Future<Output = (Tried, Verdict)> + Send>>;

/// Between two tries to write outcomes: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// A wall clock may be set: no wait is longer than this.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// For calls under way when the process ends; what takes longer is sent again later.
const LAST_CALLS: Duration = Duration::from_secs(5);
/// For the last outcomes.
const LAST_WRITE: Duration = Duration::from_secs(5);

pub(super) fn wall_now() -> WallMs {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    WallMs(now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX)))
}

pub(super) struct Dispatcher {
    pub(super) desk: &'static str,
    pub(super) deliveries: Arc<Deliveries>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) stop: watch::Receiver<bool>,
}

/// What happened around the line.
enum Happened {
    Attempted(i64, Tried, Verdict),
    Changed,
    Fetched(Result<Due, StoreError>),
    Settled,
    Stop,
    TimeOut,
    Woken,
}

struct Shell {
    name: &'static str,
    deliveries: Arc<Deliveries>,
    transport: Arc<dyn Transport>,
    line: Line,
    sends: JoinSet<(i64, Tried, Verdict)>,
    /// Answers of the database.
    answers: mpsc::Sender<Happened>,
}

impl Dispatcher {
    pub(super) async fn run(mut self) {
        let (answers, mut answered) = mpsc::channel(2);
        let mut changes = self.deliveries.changes();
        let mut shell = Shell {
            name: self.desk,
            deliveries: Arc::clone(&self.deliveries),
            transport: self.transport,
            line: Line::new(Limits::DEFAULT),
            sends: JoinSet::new(),
            answers,
        };
        let desk = self.deliveries.desk(self.desk);
        shell.handle(Input::Enabled(desk.may_send()));
        loop {
            let wake_at = shell.wake_at();
            let happened = tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => Happened::Stop,
                _ = changes.changed() => Happened::Changed,
                Some(answer) = answered.recv() => answer,
                Some(Ok((id, tried, verdict))) = shell.sends.join_next() => {
                    Happened::Attempted(id, tried, verdict)
                }
                () = desk.woken() => Happened::Woken,
                () = sleep_until(wake_at) => Happened::TimeOut,
            };
            match happened {
                Happened::Attempted(id, tried, verdict) => shell.attempted(id, tried, verdict),
                Happened::Changed => shell.handle(Input::Enabled(desk.may_send())),
                Happened::Fetched(Ok(due)) => shell.handle(Input::Fetched(due)),
                Happened::Fetched(Err(error)) => {
                    tracing::error!(endpoint = shell.name, %error, "the outbox cannot be read");
                    shell.handle(Input::FetchFailed);
                }
                Happened::Settled => shell.handle(Input::Settled),
                Happened::Stop => break,
                Happened::TimeOut => shell.handle(Input::Timeout),
                Happened::Woken => shell.handle(Input::Woken),
            }
        }
        shell.wind_up(&mut answered).await;
    }
}

impl Shell {
    fn handle(&mut self, input: Input) {
        let before = self.line.health();
        self.line.handle_input(wall_now(), input);
        while let Some(output) = self.line.poll_output() {
            match output {
                Output::Fetch { limit } => self.fetch(limit),
                Output::Send(row) => self.send(row),
                Output::Settle(outcomes) => self.settle(outcomes),
            }
        }
        let is_up = |health| matches!(health, Health::Up);
        match (is_up(before), is_up(self.line.health())) {
            (true, false) => {
                tracing::warn!(
                    endpoint = self.name,
                    "a webhook endpoint is down; events wait for it"
                );
            }
            (false, true) => {
                tracing::info!(endpoint = self.name, "a webhook endpoint works again");
            }
            _ => {}
        }
        self.desk().up.store(is_up(self.line.health()), Ordering::Relaxed);
    }

    fn desk(&self) -> &Desk {
        self.deliveries.desk(self.name)
    }

    fn attempted(&mut self, id: i64, tried: Tried, verdict: Verdict) {
        let desk = self.deliveries.desk(self.name);
        match &verdict {
            Verdict::Delivered => {
                desk.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Verdict::Failed { .. } | Verdict::Gone => {
                desk.failed.fetch_add(1, Ordering::Relaxed);
                let error = tried.error.as_deref().unwrap_or_default();
                tracing::debug!(endpoint = self.name, id, error, "a delivery failed");
            }
            Verdict::NotYet { .. } => {}
        }
        let jitter = rand::random_range(-1.0..=1.0);
        self.handle(Input::Attempted { id, tried, verdict, jitter });
    }

    fn fetch(&mut self, limit: usize) {
        let (name, answers) = (self.name, self.answers.clone());
        let store = Arc::clone(&self.deliveries.store);
        tokio::spawn(async move {
            let due = store.due(name, wall_now(), limit).await;
            // Nobody listens any more when the process ends.
            let _gone = answers.send(Happened::Fetched(due)).await;
        });
    }

    fn send(&mut self, row: Waiting) {
        let id = row.id;
        let delivering = AssertUnwindSafe(self.transport.deliver(self.name, row));
        self.sends.spawn(async move {
            let (tried, verdict) = delivering.catch_unwind().await.unwrap_or_else(|_| {
                // The panic is in the log. The row goes on like one that was refused.
                let error = Some("our fault: the delivery panicked".to_owned());
                let tried = Tried { at: wall_now(), error, ..Tried::default() };
                (tried, Verdict::Failed { outage: false, retry_after: None })
            });
            (id, tried, verdict)
        });
    }

    fn settle(&mut self, outcomes: Vec<Settlement>) {
        let dead =
            |outcome: &&Settlement| matches!(outcome, Settlement::Attempt { next: Next::Dead, .. });
        let dead = outcomes.iter().filter(dead).count();
        if dead > 0 {
            self.desk().dead.fetch_add(dead as u64, Ordering::Relaxed);
            tracing::error!(
                endpoint = self.name,
                events = dead,
                "events are given up; replay them"
            );
        }
        let disabled = outcomes.iter().any(|one| matches!(one, Settlement::Disable { .. }));
        if disabled {
            self.desk().disable("it answered 410 Gone");
            tracing::error!(endpoint = self.name, "a webhook endpoint is disabled: 410 Gone");
        }
        let (name, answers) = (self.name, self.answers.clone());
        let deliveries = Arc::clone(&self.deliveries);
        tokio::spawn(async move {
            let target = deliveries.fingerprint(name);
            write(&*deliveries.store, name, &outcomes, &target).await;
            let _gone = answers.send(Happened::Settled).await;
        });
    }

    fn wake_at(&self) -> Instant {
        let wait = self.line.deadline().map_or(WAIT_MAX, |at| {
            let ms = at.0.saturating_sub(wall_now().0);
            Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(WAIT_MAX)
        });
        Instant::now() + wait
    }

    /// Lets calls under way end and writes what became of them.
    async fn wind_up(mut self, answered: &mut mpsc::Receiver<Happened>) {
        self.handle(Input::Enabled(false));
        let give_up_at = Instant::now() + LAST_CALLS;
        while !self.sends.is_empty() {
            tokio::select! {
                Some(done) = self.sends.join_next() => {
                    if let Ok((id, tried, verdict)) = done {
                        self.attempted(id, tried, verdict);
                    }
                }
                Some(Happened::Settled) = answered.recv() => self.handle(Input::Settled),
                () = sleep_until(give_up_at) => break,
            }
        }
        self.sends.abort_all();
        let written = timeout(LAST_WRITE, async {
            while self.line.is_unwritten() {
                match answered.recv().await {
                    Some(Happened::Settled) => self.handle(Input::Settled),
                    Some(_) => {}
                    None => break,
                }
            }
        });
        if written.await.is_err() {
            tracing::warn!(
                endpoint = self.name,
                "outcomes are not written: these events come again"
            );
        }
    }
}

/// Until the database took them.
async fn write(store: &dyn Store, name: &'static str, outcomes: &[Settlement], target: &str) {
    let mut wait = RETRY_FIRST;
    loop {
        let Err(error) = store.settle(name, outcomes, target).await else { return };
        tracing::error!(
            endpoint = name, %error, outcomes = outcomes.len(), retry_in = ?wait,
            "outcomes of deliveries could not be written; they are kept and tried again"
        );
        sleep(wait).await;
        wait = RETRY_LAST.min(2 * wait);
    }
}
