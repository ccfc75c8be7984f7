//! Registrations on their way into the outbox.
//! Owns:  the queue behind the pump, the batch that is being written.
//! Gives: one transaction per batch; what the database does not take goes to `unsaved`.
//! Never: drops an event, or makes the pump wait for a database. It waits only when the disk fails, too.
//! Holds: while the file has events every new one goes behind them, so that their order is kept.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::event::Registration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::Deliveries;
use super::unsaved::{Unsaved, store_each};
use crate::store::{NewEvent, StoreError};

const BATCH_MAX: usize = 500;
const QUEUE_LEN: usize = 16_384;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// Between two looks whether the database takes what is in the file.
const FILE_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct RegistrationWriter {
    task: JoinHandle<()>,
    hurry: watch::Sender<bool>,
}

impl RegistrationWriter {
    /// `folder`: where events wait that the database does not take.
    pub fn start(
        deliveries: Arc<Deliveries>,
        folder: PathBuf,
    ) -> (Self, mpsc::Sender<Box<Registration>>) {
        let (sender, queue) = mpsc::channel(QUEUE_LEN);
        let (hurry, hurried) = watch::channel(false);
        let unsaved = Unsaved::new(folder);
        let writer = Writer { behind: unsaved.is_there(), deliveries, unsaved, queue, hurried };
        (Self { task: tokio::spawn(writer.run()), hurry }, sender)
    }

    /// From now on nothing is tried twice: what neither database nor disk takes goes to the log.
    pub fn hurry(&self) {
        self.hurry.send_replace(true);
    }

    /// Waits for the end of the queue; after `patience` in a hurry.
    pub async fn finish(mut self, patience: Duration) {
        let ended = match timeout(patience, &mut self.task).await {
            Ok(ended) => ended,
            Err(_) => {
                self.hurry();
                self.task.await
            }
        };
        if let Err(error) = ended {
            tracing::error!(%error, "the writer of registrations ended badly");
        }
    }
}

struct Writer {
    deliveries: Arc<Deliveries>,
    unsaved: Unsaved,
    /// The file has events that the database does not have.
    behind: bool,
    queue: mpsc::Receiver<Box<Registration>>,
    hurried: watch::Receiver<bool>,
}

impl Writer {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let count = tokio::select! {
                count = self.queue.recv_many(&mut batch, BATCH_MAX) => count,
                () = sleep(FILE_RETRY), if self.behind => {
                    self.catch_up().await;
                    continue;
                }
            };
            if count == 0 {
                break;
            }
            let wanted = batch.drain(..).filter_map(|it| self.deliveries.of_registration(&it));
            let events: Vec<NewEvent> = wanted.collect();
            if !events.is_empty() {
                self.write(&events).await;
            }
        }
        if self.behind {
            self.catch_up().await;
        }
        if self.behind {
            tracing::warn!("registration events stay in their file; the next start stores them");
        }
    }

    /// Ends when the events are in the database or in the file.
    async fn write(&mut self, events: &[NewEvent]) {
        let mut wait = RETRY_FIRST;
        loop {
            if !self.behind {
                match self.deliveries.store.add_events(events).await {
                    Ok(()) => return self.deliveries.wake(events),
                    Err(StoreError::Refused(_)) => return self.write_each(events).await,
                    Err(error) => tracing::error!(
                        %error, events = events.len(),
                        "registration events could not be stored; they go to a file and are tried again"
                    ),
                }
            }
            let Err(error) = self.unsaved.append(events).await else {
                self.behind = true;
                return;
            };
            if *self.hurried.borrow() {
                return lost(events, &error);
            }
            tracing::error!(
                %error, events = events.len(), retry_in = ?wait,
                "registration events fit neither into the database nor into a file; they wait"
            );
            // A hurry ends the wait: the next try is the last one.
            drop(timeout(wait, self.hurried.wait_for(|hurry| *hurry)).await);
            wait = RETRY_LAST.min(2 * wait);
            self.catch_up().await;
        }
    }

    /// One of them breaks a rule of the database; the others must not suffer for it.
    async fn write_each(&mut self, events: &[NewEvent]) {
        match store_each(&*self.deliveries.store, events).await {
            Ok(()) => self.deliveries.wake(events),
            // Those that are stored already are left as they are when they come again.
            Err(_) => match self.unsaved.append(events).await {
                Ok(()) => self.behind = true,
                Err(error) => lost(events, &error),
            },
        }
    }

    /// What is in the file goes first.
    async fn catch_up(&mut self) {
        if !self.behind {
            return;
        }
        match self.unsaved.store(&*self.deliveries.store).await {
            Ok(stored) => {
                self.behind = false;
                self.deliveries.wake_one(super::LOCATOR);
                tracing::info!(stored, "registration events that waited in a file are stored now");
            }
            Err(error) => tracing::debug!(%error, "registration events stay in their file"),
        }
    }
}

/// The log is the last place that is left.
fn lost(events: &[NewEvent], error: &io::Error) {
    for event in events {
        let event = serde_json::to_string(event).unwrap_or_else(|error| error.to_string());
        tracing::error!(%error, event, "an event could not be stored");
    }
}
